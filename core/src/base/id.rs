//! Who somebody is: peer ids, the keys behind them, and incarnations.

use std::str::FromStr;
use std::sync::Arc;

use data_encoding::BASE32_NOPAD;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// A peer: its Ed25519 public key.
///
/// Shown in lower-case base32 without padding, 52 characters. The transport proves that the other
/// end of a link holds the key; a message's claim never does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

impl PeerId {
    /// The peer with this public key. Whether the bytes are a point of the curve shows when somebody
    /// proves to hold the key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        PeerId(bytes)
    }

    /// The public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether somebody can prove to hold this key, and only whoever has its secret: it is the canonical encoding of a
    /// point whose order is not small. Keys of small order have signatures that fit every message.
    pub fn is_key(&self) -> bool {
        let point = ed25519_dalek::VerifyingKey::from_bytes(&self.0);
        is_canonical(&self.0) && point.is_ok_and(|point| !point.is_weak())
    }

    /// Whether anybody can show to hold this key: it is a point of small order.
    pub fn is_weak(&self) -> bool {
        let point = ed25519_dalek::VerifyingKey::from_bytes(&self.0);
        point.is_ok_and(|point| point.is_weak())
    }

    /// The first ten characters, for logs. Not unique under an adversary.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = BASE32_NOPAD.encode(&self.0);
        text.make_ascii_lowercase();
        f.write_str(&text)
    }
}

impl std::fmt::Debug for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.short())
    }
}

/// Why a text is not a peer id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a peer id: a peer id is the 52 characters of a-z and 2-7 of a public key, as `dunlin id show` prints them"
)]
pub struct ParsePeerIdError {
    text: String,
}

impl FromStr for PeerId {
    type Err = ParsePeerIdError;

    fn from_str(text: &str) -> Result<Self, ParsePeerIdError> {
        let refuse = || ParsePeerIdError { text: text.chars().take(80).collect() };
        if text.len() != 52 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refuse());
        }
        let bytes =
            BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| refuse())?;
        let id = PeerId(bytes.try_into().map_err(|_| refuse())?);
        if id.is_key() { Ok(id) } else { Err(refuse()) }
    }
}

/// 2^255 - 19 in little-endian order: coordinates are below it.
pub(crate) const FIELD_PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    prime[0] = 0xed;
    prime[31] = 0x7f;
    prime
};

/// Whether the coordinate is written in its only canonical way. A sign without a value shows in points
/// of small order alone.
pub(crate) fn is_canonical(key: &[u8; 32]) -> bool {
    let mut coordinate = *key;
    coordinate[31] &= 0x7f;
    coordinate.iter().rev().lt(FIELD_PRIME.iter().rev())
}

/// A node's own key pair. The secret never leaves it but through [`Identity::secret`].
#[derive(Clone)]
pub struct Identity {
    secret: [u8; 32],
    /// The secret, expanded: that takes as long as a signature.
    pair: Arc<Ed25519KeyPair>,
    id: PeerId,
}

impl Identity {
    /// The identity with this Ed25519 secret key (the 32-byte seed of RFC 8032).
    pub fn from_secret(secret: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&secret)
            .expect("any 32 bytes are an Ed25519 secret key");
        let id = pair.public_key().as_ref().try_into().expect("Ed25519 keys are 32 bytes");
        Identity { secret, pair: Arc::new(pair), id: PeerId(id) }
    }

    /// The public key, which is the peer id.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// This key's Ed25519 signature of `message`. Always the same for the same message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair.sign(message).as_ref().try_into().expect("Ed25519 signatures are 64 bytes")
    }

    /// The secret key. Whoever has it is this node.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:?}, secret withheld)", self.id)
    }
}

/// One life of a node: a counter that grows at every start, and a random number.
///
/// Ordered by the counter. A peer that knows a later life of a node does not talk to an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// Grows at every start of the node.
    pub counter: u64,
    /// Random, so that two processes started with one counter are told apart.
    pub boot: u64,
}

impl Incarnation {
    /// The highest counter, on the wire and in a store.
    pub const COUNTER_MAX: u64 = (1 << 62) - 1;
}

impl std::fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:08x}", self.counter, self.boot >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_reads_back_as_it_is_shown() {
        let id = Identity::from_secret([7; 32]).id();
        let text = id.to_string();
        assert_eq!(text.len(), 52);
        assert_eq!(text.parse(), Ok(id));
    }

    #[test]
    fn texts_that_are_no_peer_id_are_refused() {
        let text = Identity::from_secret([7; 32]).id().to_string();
        for wrong in [
            String::new(),
            text[1..].to_string(),
            text.to_ascii_uppercase(),
            format!("{}1", &text[1..]),
            // The last character carries four bits that must be zero.
            format!("{}7", &text[..51]),
            format!("ä{}", &text[2..]),
            // Keys of small order, of which anybody can show that it holds them: the neutral point, and one of order 8.
            "aeaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".into(),
            "y4lwu4b5jxme7ofmhqgxmeghcan54aqkl7zxzfwpzb3gxyjl5qbh5ia"[..52].into(),
            // The prime itself, which is zero.
            PeerId(FIELD_PRIME).to_string(),
        ] {
            assert!(wrong.parse::<PeerId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", Identity::from_secret([0xab; 32]));
        assert!(shown.contains("withheld"), "{shown}");
    }
}
