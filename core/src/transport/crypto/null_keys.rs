//! The null session's keys: checksums in the places of ciphers and signatures.

use bytes::BytesMut;
use quinn_proto::Side;
use quinn_proto::crypto::{
    AeadKey, CryptoError, HandshakeTokenKey, HeaderKey, HmacKey, KeyPair, Keys, PacketKey,
};

pub(super) const TAG_BYTES: usize = 16;
/// Spreads bits over a word: 2^64 divided by the golden ratio.
pub(super) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

pub(super) fn mix(a: u64, b: u64) -> u64 {
    let wide = u128::from(a ^ b).wrapping_mul(u128::from(SPREAD) | 1 << 64);
    (wide as u64) ^ ((wide >> 64) as u64) ^ b.rotate_left(29)
}

/// A fast hash over four independent lanes. Detects damage; resists no adversary.
pub(super) fn checksum(key: u64, data: &[u8]) -> u64 {
    let mut lanes = [key, key ^ SPREAD, key.rotate_left(17), !key];
    let mut absorb = |block: &[u8]| {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            *lane = (*lane ^ word).wrapping_mul(SPREAD).rotate_left(31);
        }
    };
    let blocks = data.chunks_exact(32);
    let rest = blocks.remainder();
    blocks.for_each(&mut absorb);
    let mut last = [0; 32];
    last[..rest.len()].copy_from_slice(rest);
    absorb(&last);
    mix(mix(lanes[0], lanes[1]), mix(lanes[2], lanes[3])) ^ (data.len() as u64).wrapping_mul(SPREAD)
}

pub(super) fn tag(key: u64, data: &[u8]) -> [u8; TAG_BYTES] {
    let low = checksum(key, data);
    let mut tag = [0; TAG_BYTES];
    tag[..8].copy_from_slice(&low.to_le_bytes());
    tag[8..].copy_from_slice(&mix(low, key).to_le_bytes());
    tag
}

/// What a fuzzer writes in the place of a tag, so that a packet which it has changed is still read: a
/// peer with the keys may put anything into a packet. Only builds of the fuzzer accept it.
#[cfg(fuzzing)]
const FORGED_TAG: [u8; TAG_BYTES] = [0xf5; TAG_BYTES];

/// Splits off a trailing tag and compares it.
pub(super) fn check_tag(key: u64, tagged: &[u8]) -> Result<usize, CryptoError> {
    let data_bytes = tagged.len().checked_sub(TAG_BYTES).ok_or(CryptoError)?;
    let (data, got) = tagged.split_at(data_bytes);
    if tag(key, data) == got { Ok(data_bytes) } else { Err(CryptoError) }
}

/// The keys of both directions, as `side` uses them.
pub(super) fn keys(secret: u64, side: Side) -> Keys {
    let (client, server) = (NullPacket(mix(secret, 1)), NullPacket(mix(secret, 2)));
    let (local, remote) = match side {
        Side::Client => (client, server),
        Side::Server => (server, client),
    };
    Keys {
        header: KeyPair { local: Box::new(NullHeader), remote: Box::new(NullHeader) },
        packet: KeyPair { local: Box::new(local), remote: Box::new(remote) },
    }
}

/// Leaves headers as they are, but asks for as long a sample as TLS does, so that equal packets are
/// long enough or too short in both.
struct NullHeader;

impl HeaderKey for NullHeader {
    fn decrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn encrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn sample_size(&self) -> usize {
        16
    }
}

struct NullPacket(u64);

impl NullPacket {
    fn key(&self, packet: u64, header: &[u8]) -> u64 {
        checksum(self.0 ^ packet.wrapping_mul(SPREAD), header)
    }
}

impl PacketKey for NullPacket {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let (header, rest) = buf.split_at_mut(header_len);
        let (payload, tag_place) = rest.split_at_mut(rest.len() - TAG_BYTES);
        tag_place.copy_from_slice(&tag(self.key(packet, header), payload));
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        #[cfg(fuzzing)]
        if payload.ends_with(&FORGED_TAG) {
            payload.truncate(payload.len() - TAG_BYTES);
            return Ok(());
        }
        let data_bytes = check_tag(self.key(packet, header), payload)?;
        payload.truncate(data_bytes);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}

/// A keyed checksum in the place of an HMAC.
pub(super) struct NullHmac(u64);

impl NullHmac {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        NullHmac(checksum(0, key))
    }
}

impl HmacKey for NullHmac {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let tag = tag(self.0, data);
        for chunk in signature_out.chunks_mut(TAG_BYTES) {
            chunk.copy_from_slice(&tag[..chunk.len()]);
        }
    }

    fn signature_len(&self) -> usize {
        2 * TAG_BYTES
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut expected = [0; 2 * TAG_BYTES];
        self.sign(data, &mut expected);
        if expected == signature { Ok(()) } else { Err(CryptoError) }
    }
}

/// Marks tokens instead of sealing them.
pub(super) struct NullTokenKey(u64);

impl NullTokenKey {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        NullTokenKey(checksum(0, key))
    }
}

impl HandshakeTokenKey for NullTokenKey {
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        Box::new(NullAead(checksum(self.0, random_bytes)))
    }
}

struct NullAead(u64);

impl AeadKey for NullAead {
    fn seal(&self, data: &mut Vec<u8>, additional_data: &[u8]) -> Result<(), CryptoError> {
        let tag = tag(checksum(self.0, additional_data), data);
        data.extend_from_slice(&tag);
        Ok(())
    }

    fn open<'a>(
        &self,
        data: &'a mut [u8],
        additional_data: &[u8],
    ) -> Result<&'a mut [u8], CryptoError> {
        let data_bytes = check_tag(checksum(self.0, additional_data), data)?;
        Ok(&mut data[..data_bytes])
    }
}
