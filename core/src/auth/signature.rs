//! Strict Ed25519: one message and one key have no second signature that anybody else could make.
//!
//! RFC 8032 leaves open what verifiers do with points of small order and with encodings that are not
//! the shortest; implementations differ (Chalkias et al., "Taming the many EdDSAs", eprint 2020/1244).
//! Here all of them are refused: keys and `R` of small order, keys, `R` and `S` that are not canonical.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::base::PeerId;
use crate::base::id::is_canonical;

/// The length of a signature, in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// Whether `signature` is that of `key` over `message`, by the strictest reading.
pub fn verify(key: &PeerId, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    PublicKey::new(key).verify(message, signature)
}

/// A key that many signatures are verified with. Finding its point on the curve is a tenth of verifying one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// None if the bytes are not the canonical ones of a point.
    point: Option<VerifyingKey>,
}

impl PublicKey {
    /// Finds the point of a key. No signature is that of a key without one.
    pub fn new(key: &PeerId) -> Self {
        let canonical = is_canonical(key.as_bytes());
        let point = canonical.then(|| VerifyingKey::from_bytes(key.as_bytes()).ok()).flatten();
        PublicKey { point }
    }

    /// As [`verify`].
    pub fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        // `verify_strict` refuses small orders and an `S` that is not reduced, and compares `R` as bytes.
        let signature = Signature::from_bytes(signature);
        self.point.is_some_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use serde_json::Value;

    use super::*;
    use crate::base::Identity;
    use crate::base::id::FIELD_PRIME;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/");

    fn hex(value: &str) -> Vec<u8> {
        HEXLOWER.decode(value.as_bytes()).unwrap()
    }

    fn verifies(key: &str, message: &str, signature: &str) -> bool {
        let (Ok(key), Ok(signature)) = (hex(key).try_into(), hex(signature).try_into()) else {
            return false;
        };
        verify(&PeerId::from_bytes(key), &hex(message), &signature)
    }

    #[test]
    fn what_was_signed_verifies_and_nothing_else() {
        let identity = Identity::from_secret([5; 32]);
        let signature = identity.sign(b"message");
        assert!(verify(&identity.id(), b"message", &signature));
        assert!(!verify(&identity.id(), b"massage", &signature));
        assert!(!verify(&Identity::from_secret([6; 32]).id(), b"message", &signature));
        for bit in 0..8 * SIGNATURE_BYTES {
            let mut damaged = signature;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(&identity.id(), b"message", &damaged), "bit {bit}");
        }
    }

    /// RFC 8032, 7.1, test 1.
    #[test]
    fn the_first_vector_of_the_rfc_verifies() {
        assert!(verifies(
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ));
    }

    /// The same signature with the group's order added to `S` would verify without the check.
    #[test]
    fn a_signature_with_the_order_added_to_s_is_refused() {
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let identity = Identity::from_secret([5; 32]);
        let mut signature = identity.sign(b"message");
        let mut carry = 0;
        for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert_eq!(carry, 0, "it fits");
        assert!(!verify(&identity.id(), b"message", &signature));
    }

    /// A key of small order has signatures that fit every message: the identity point as key and as
    /// `R`, with zero as `S`.
    #[test]
    fn keys_and_points_of_small_order_are_refused() {
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        let mut signature = [0; SIGNATURE_BYTES];
        signature[0] = 1;
        assert!(!verify(&PeerId::from_bytes(identity_point), b"anything", &signature));
        // The order of 8, from "Taming the many EdDSAs", case 0.
        assert!(!verifies(
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a\
             0000000000000000000000000000000000000000000000000000000000000000",
        ));
    }

    #[test]
    fn a_key_above_the_prime_is_not_canonical() {
        assert!(!is_canonical(&FIELD_PRIME));
        let mut below = FIELD_PRIME;
        below[0] -= 1;
        assert!(is_canonical(&below));
        assert!(!is_canonical(&[0xff; 32]));
    }

    /// Vectors of Wycheproof (Apache-2.0) and of ed25519-speccheck (Apache-2.0). They are not part of
    /// this repository; where the files are missing, the facts restated above stand alone.
    #[test]
    fn the_vectors_of_others_hold() {
        let Some(file) = read("b_ed25519_wycheproof.json") else { return };
        let mut seen = 0;
        for vector in file["vectors"].as_array().unwrap() {
            let text = |name: &str| vector[name].as_str().unwrap();
            let valid = vector["valid"].as_bool().unwrap();
            assert_eq!(verifies(text("pk"), text("msg"), text("sig")), valid, "{vector}");
            seen += 1;
        }
        assert_eq!(seen, file["counts"]["total"].as_u64().unwrap());

        let Some(file) = read("b_ed25519_speccheck.json") else { return };
        for vector in file["vectors"].as_array().unwrap() {
            let text = |name: &str| vector[name].as_str().unwrap();
            let strict = vector["accepted_by"]["DalekStrict"].as_bool().unwrap();
            assert_eq!(verifies(text("pk"), text("msg"), text("sig")), strict, "{vector}");
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test reads its vectors")]
    fn read(name: &str) -> Option<Value> {
        let Ok(text) = std::fs::read_to_string(format!("{FOLDER}{name}")) else {
            println!("skipped: there is no {FOLDER}{name}");
            return None;
        };
        Some(serde_json::from_str(&text).expect("the vectors are JSON"))
    }
}
