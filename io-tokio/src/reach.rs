//! Which addresses a node's sockets can send to.

use std::net::SocketAddr;

use dunlin_core::PeerId;

/// The addresses that a node is bound to.
#[derive(Clone, Debug)]
pub(crate) struct Reach(Vec<SocketAddr>);

impl Reach {
    pub(crate) fn of(bound: Vec<SocketAddr>) -> Reach {
        Reach(bound.into_iter().map(canonical).collect())
    }

    /// The addresses that it is bound to.
    pub(crate) fn bound(&self) -> &[SocketAddr] {
        &self.0
    }

    /// Whether one of the sockets can send to an address in its canonical form.
    fn covers(&self, address: &SocketAddr) -> bool {
        self.0.iter().any(|bound| {
            // `[::]` is bound for IPv4 too. From a loopback address there is no way to another machine.
            let of_family = bound.is_ipv4() == address.is_ipv4()
                || (bound.is_ipv6() && bound.ip().is_unspecified());
            of_family && (!bound.ip().is_loopback() || address.ip().is_loopback())
        })
    }

    /// Splits addresses into those that can be dialled, each once and in its canonical form, and the others.
    pub(crate) fn split(
        &self,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let (mut reached, mut others) = (Vec::new(), Vec::new());
        for address in addresses.into_iter().map(canonical) {
            let list = if self.covers(&address) { &mut reached } else { &mut others };
            if !list.contains(&address) {
                list.push(address);
            }
        }
        (reached, others)
    }

    /// The addresses of a peer that can be dialled. The log names the others.
    pub(crate) fn dialled(
        &self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Vec<SocketAddr> {
        let (reached, others) = self.split(addresses);
        for address in others {
            let local = &self.0;
            tracing::warn!(%peer, %address, ?local, "the address is not dialled: this node listens elsewhere");
        }
        reached
    }
}

/// An IPv4 address that is written as one of IPv6 (`::ffff:192.0.2.1`) in its own form. Others as they are, with their
/// scope.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_a_socket_reaches_are_dialled() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (four, six) = (at("192.0.2.1:1"), at("[2001:db8::1]:1"));
        let (near_four, near_six) = (at("127.0.0.1:1"), at("[::1]:1"));
        let all = [four, six, near_four, near_six];
        let from = |local: &[&str]| Reach::of(local.iter().map(|l| at(l)).collect()).split(all).0;
        assert_eq!(from(&["0.0.0.0:5"]), [four, near_four]);
        assert_eq!(from(&["[::1]:5"]), [near_six]);
        assert_eq!(from(&["127.0.0.1:5", "[::1]:5"]), [near_four, near_six]);
        assert_eq!(from(&["[2001:db8::2]:5"]), [six, near_six]);
        assert_eq!(from(&["[::]:5"]), all);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_notation_is_one_of_ipv4() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let all = [at("[::ffff:192.0.2.1]:1"), at("192.0.2.1:1"), at("[::ffff:127.0.0.1]:1")];
        let from = |local: &str| Reach::of(vec![at(local)]).split(all).0;
        assert_eq!(from("0.0.0.0:5"), [at("192.0.2.1:1"), at("127.0.0.1:1")]);
        assert_eq!(from("127.0.0.1:5"), [at("127.0.0.1:1")]);
        assert_eq!(from("[::ffff:127.0.0.1]:5"), [at("127.0.0.1:1")]);
        assert_eq!(from("[2001:db8::2]:5"), [] as [SocketAddr; 0]);
        assert_eq!(canonical(at("[fe80::1%3]:1")), at("[fe80::1%3]:1"), "the scope stays");
    }
}
