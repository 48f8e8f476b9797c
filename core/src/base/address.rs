//! The account of an address: what one host or one site is bounded by together.

use std::net::{IpAddr, SocketAddr};

/// One IPv4 address, or one IPv6 /64: a site is given at least that many, so that single addresses bound nothing.
/// An IPv4 address that is mapped into IPv6 is that IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressAccount {
    /// An IPv4 address.
    V4(u32),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl AddressAccount {
    /// The account of an address.
    pub fn of(address: SocketAddr) -> AddressAccount {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => AddressAccount::V4(ip.to_bits()),
            IpAddr::V6(ip) => AddressAccount::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(ip: &str) -> AddressAccount {
        AddressAccount::of(SocketAddr::new(ip.parse().unwrap(), 1))
    }

    #[test]
    fn a_site_has_one_account_whatever_its_last_bits_and_its_form() {
        assert_eq!(account("2001:db8:0:1::1"), account("2001:db8:0:1:ffff::2"));
        assert_ne!(account("2001:db8:0:1::1"), account("2001:db8:0:2::1"));
        assert_eq!(account("192.0.2.1"), account("::ffff:192.0.2.1"));
        assert_ne!(account("192.0.2.1"), account("192.0.2.2"));
    }
}
