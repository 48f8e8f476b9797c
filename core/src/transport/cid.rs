//! Connection ids: a seeded nonce and a keyed tag over it.
//!
//! Both generators that come with quinn-proto draw from the operating system. The tag lets a node
//! recognise ids that it, or an earlier life of it, issued: it answers only those with a stateless
//! reset. A generator that accepts every id would let two nodes answer each other's resets for ever.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::HmacKey;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

const NONCE_BYTES: usize = 4;
const TAG_BYTES: usize = 4;

/// Issues the ids by which peers address this node's connections.
pub(super) struct KeyedCids {
    nonces: ChaCha8Rng,
    key: Arc<dyn HmacKey>,
}

impl KeyedCids {
    /// Nonces follow from `seed`, which differs from life to life; tags from `key`, which does not.
    pub(super) fn new(seed: [u8; 32], key: Arc<dyn HmacKey>) -> Self {
        KeyedCids { nonces: ChaCha8Rng::from_seed(seed), key }
    }

    fn tag(&self, nonce: &[u8]) -> [u8; TAG_BYTES] {
        let mut signature = vec![0; self.key.signature_len()];
        self.key.sign(nonce, &mut signature);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&signature[..TAG_BYTES]);
        tag
    }
}

impl ConnectionIdGenerator for KeyedCids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; NONCE_BYTES + TAG_BYTES];
        self.nonces.fill_bytes(&mut id[..NONCE_BYTES]);
        let tag = self.tag(&id[..NONCE_BYTES]);
        id[NONCE_BYTES..].copy_from_slice(&tag);
        ConnectionId::new(&id)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        if cid.len() != self.cid_len() {
            return Err(InvalidCid);
        }
        let (nonce, tag) = cid.split_at(NONCE_BYTES);
        if self.tag(nonce) == tag { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        NONCE_BYTES + TAG_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Arc<dyn HmacKey> {
        Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[byte; 32]))
    }

    #[test]
    fn ids_of_an_earlier_life_are_recognised_and_those_of_others_are_not() {
        let id = KeyedCids::new([1; 32], key(1)).generate_cid();
        assert!(KeyedCids::new([2; 32], key(1)).validate(&id).is_ok());
        assert!(KeyedCids::new([1; 32], key(2)).validate(&id).is_err());
        assert!(KeyedCids::new([1; 32], key(1)).validate(&ConnectionId::new(&[0; 3])).is_err());
    }
}
