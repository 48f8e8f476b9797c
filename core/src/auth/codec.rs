//! What tokens and descriptors have in common on their way to bytes and back.

use bytes::Bytes;
use dunlin_proto::v1;
use prost::Message;
use ring::digest::{SHA256, digest};

use crate::auth::signature::{PublicKey, SIGNATURE_BYTES};
use crate::base::{Identity, PeerId, WallTime};

const NANOS_PER_MILLI: u64 = 1_000_000;

/// A body with its signature, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedBytes {
    pub(super) body: Bytes,
    pub(super) signature: [u8; SIGNATURE_BYTES],
}

impl SignedBytes {
    pub(super) fn sign(key: &Identity, prefix: &[&[u8]], body: Vec<u8>) -> Self {
        let signature = key.sign(&message(prefix, &body));
        SignedBytes { body: body.into(), signature }
    }

    pub(super) fn verifies(&self, key: &PublicKey, prefix: &[&[u8]]) -> bool {
        key.verify(&message(prefix, &self.body), &self.signature)
    }

    pub(super) fn from_wire(wire: v1::Signed) -> Result<Self, String> {
        let signature = exactly("signature", &wire.signature)?;
        Ok(SignedBytes { body: wire.body, signature })
    }

    pub(super) fn to_wire(&self) -> v1::Signed {
        let signature = Bytes::copy_from_slice(&self.signature);
        v1::Signed { body: self.body.clone(), signature }
    }

    /// The SHA-256 of body and signature.
    pub(super) fn hash(&self) -> [u8; 32] {
        sha256(&[&self.body[..], &self.signature[..]].concat())
    }
}

fn message(prefix: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut message = prefix.concat();
    message.extend_from_slice(body);
    message
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("a SHA-256 is 32 bytes")
}

/// Reads a message that is written canonically: see `schema/auth.proto`.
pub(super) fn decode<M: Message + Default>(bytes: &Bytes) -> Result<M, String> {
    let message = M::decode(bytes.clone()).map_err(|error| error.to_string())?;
    // Of the same length, because what is left out or unknown changes it; then compared.
    if message.encoded_len() != bytes.len() || message.encode_to_vec() != bytes[..] {
        return Err("it is not written canonically, or has fields that are not known here".into());
    }
    Ok(message)
}

/// Reads a field of a fixed length.
pub(super) fn exactly<const N: usize>(field: &str, bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("{field} has {} bytes, not {N}", bytes.len()))
}

pub(super) fn key(field: &str, bytes: &[u8]) -> Result<PeerId, String> {
    exactly(field, bytes).map(PeerId::from_bytes)
}

pub(super) fn key_bytes(key: &PeerId) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

/// Milliseconds as they travel, to a time.
pub(super) fn time(field: &str, millis: u64) -> Result<WallTime, String> {
    let nanos = millis.checked_mul(NANOS_PER_MILLI);
    let nanos = nanos.ok_or_else(|| format!("{field} is later than the year 2554"))?;
    Ok(WallTime::from_unix_nanos(nanos))
}

/// A time as it travels: in milliseconds, cut.
pub(super) fn millis(time: WallTime) -> u64 {
    time.as_unix_nanos() / NANOS_PER_MILLI
}

/// What is wrong with a text that should hold a token or a chain of descriptors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not {what}: it is one line that begins with '{prefix}'{why}")]
pub struct ArmorError {
    what: &'static str,
    prefix: &'static str,
    why: &'static str,
}

/// Bytes as one line of text, to be kept in files and pasted into configurations.
pub(super) fn armor(prefix: &str, bytes: &[u8]) -> String {
    format!("{prefix}{}", data_encoding::BASE64URL_NOPAD.encode(bytes))
}

/// Reads what [`armor`] wrote. Spaces and line ends around it do not matter.
pub(super) fn unarmor(
    what: &'static str,
    prefix: &'static str,
    text: &[u8],
    text_bytes_max: usize,
) -> Result<Bytes, ArmorError> {
    let refuse = |why| ArmorError { what, prefix, why };
    if text.len() > text_bytes_max {
        return Err(refuse(", and is much shorter than this"));
    }
    let line = text.trim_ascii().strip_prefix(prefix.as_bytes()).ok_or_else(|| refuse(""))?;
    let bytes = data_encoding::BASE64URL_NOPAD.decode(line);
    bytes.map(Bytes::from).map_err(|_| refuse(", and goes on in base64url without padding"))
}
