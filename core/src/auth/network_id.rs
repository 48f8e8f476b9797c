//! Names of networks that nobody can take from them.

use std::str::FromStr;

use data_encoding::BASE32_NOPAD;

/// A network: the SHA-256 of its genesis descriptor.
///
/// Shown as peer ids are, with an `n-` in front so that nobody takes one for the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId([u8; 32]);

impl NetworkId {
    /// The development network, which has no descriptor, no tokens and no protection. It is the SHA-256
    /// of `dunlin/development-network/v1`, so no genesis has this id.
    pub const DEVELOPMENT: NetworkId = NetworkId([
        0xbd, 0x7a, 0x34, 0x5f, 0x25, 0x9c, 0xe5, 0x23, 0x07, 0x2d, 0xa1, 0x2f, 0x70, 0x60, 0x76,
        0x25, 0xe5, 0xe7, 0xb2, 0xd6, 0xb1, 0xe2, 0xb4, 0x76, 0x84, 0x9b, 0x25, 0x96, 0x0d, 0x52,
        0x72, 0xd9,
    ]);

    /// The network with this hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        NetworkId(bytes)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for NetworkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = BASE32_NOPAD.encode(&self.0);
        text.make_ascii_lowercase();
        write!(f, "n-{text}")
    }
}

impl std::fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_string()[..12])
    }
}

/// Why a text is not a network id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a network id: a network id is 'n-' and 52 characters of a-z and 2-7, as \
     `dunlin network show` prints it"
)]
pub struct ParseNetworkIdError {
    text: String,
}

impl FromStr for NetworkId {
    type Err = ParseNetworkIdError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkIdError> {
        let refuse = || ParseNetworkIdError { text: text.chars().take(80).collect() };
        let letters = text.strip_prefix("n-").ok_or_else(refuse)?;
        if letters.len() != 52 || letters.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refuse());
        }
        let bytes =
            BASE32_NOPAD.decode(letters.to_ascii_uppercase().as_bytes()).map_err(|_| refuse())?;
        Ok(NetworkId(bytes.try_into().map_err(|_| refuse())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_id_reads_back_as_it_is_shown() {
        let text = NetworkId::DEVELOPMENT.to_string();
        assert_eq!(text.parse(), Ok(NetworkId::DEVELOPMENT));
        for wrong in [&text[2..], &text[..53], "n-", &text.to_ascii_uppercase()] {
            assert!(wrong.parse::<NetworkId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_development_network_is_nobodys_genesis() {
        let hash = ring::digest::digest(&ring::digest::SHA256, b"dunlin/development-network/v1");
        assert_eq!(NetworkId::DEVELOPMENT.as_bytes(), hash.as_ref());
    }
}
