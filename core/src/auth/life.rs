//! Lives that are proved: an incarnation, signed by its node's own key.
//!
//! A node that is told of a later life of its own begins anew, or stops. So a peer that tells it has to show the record
//! of that life, and the node believes its own signature alone. A record that a peer keeps is not verified before that:
//! a node that sends a wrong one harms itself only, because it cannot be told of that life later.

use crate::auth::signature::{SIGNATURE_BYTES, verify};
use crate::base::{Identity, Incarnation, PeerId};

const DOMAIN: &[u8] = b"dunlin/incarnation/v1";

/// An incarnation with the signature of its node. Travels in each Hello.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LifeRecord {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// The signature of the node's key over it.
    pub signature: [u8; SIGNATURE_BYTES],
}

impl LifeRecord {
    /// Signs a life of this identity.
    pub fn sign(identity: &Identity, incarnation: Incarnation) -> LifeRecord {
        LifeRecord { incarnation, signature: identity.sign(&message(incarnation)) }
    }

    /// Whether this node has signed it.
    pub fn is_signed_by(&self, id: &PeerId) -> bool {
        verify(id, &message(self.incarnation), &self.signature)
    }
}

impl std::fmt::Debug for LifeRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, signed", self.incarnation)
    }
}

fn message(incarnation: Incarnation) -> [u8; DOMAIN.len() + 16] {
    let mut message = [0; DOMAIN.len() + 16];
    let (domain, numbers) = message.split_at_mut(DOMAIN.len());
    domain.copy_from_slice(DOMAIN);
    let (counter, boot) = numbers.split_at_mut(8);
    counter.copy_from_slice(&incarnation.counter.to_be_bytes());
    boot.copy_from_slice(&incarnation.boot.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_that_of_its_key_its_counter_and_its_boot() {
        let identity = Identity::from_secret([3; 32]);
        let life = Incarnation { counter: 7, boot: 9 };
        let record = LifeRecord::sign(&identity, life);
        assert!(record.is_signed_by(&identity.id()));
        assert!(!record.is_signed_by(&Identity::from_secret([4; 32]).id()));
        for other in [Incarnation { counter: 8, ..life }, Incarnation { boot: 8, ..life }] {
            let forged = LifeRecord { incarnation: other, ..record };
            assert!(!forged.is_signed_by(&identity.id()), "{other:?}");
        }
    }
}
