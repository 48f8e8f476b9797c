//! What TLS computes with: ring throughout, or ring with randomness and key exchange from a seed.

use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{NamedGroup, PeerMisbehaved};

/// ring with the operating system's randomness.
pub(super) fn system() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    })
}

/// ring, but all randomness from the slot, and with it a key exchange that ring could not seed.
pub(super) fn seeded(lease: &SlotLease) -> Arc<CryptoProvider> {
    let slot: &'static Slot = lease.0;
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![slot],
        secure_random: slot,
        ..default_provider()
    })
}

/// Slots that no node uses. rustls asks for `&'static`, so a slot is never freed; but it is used again,
/// so that a process which runs a million simulations needs no more than ran at one time.
static UNUSED: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());

/// The randomness of one simulated node.
pub(super) struct Slot(Mutex<ChaCha20Rng>);

impl Slot {
    fn fill_bytes(&self, bytes: &mut [u8]) {
        // A generator has no state that a panic elsewhere could leave half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("seeded randomness")
    }
}

/// A slot for as long as a node lives.
pub(in super::super) struct SlotLease(&'static Slot);

impl SlotLease {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let rng = ChaCha20Rng::from_seed(seed);
        let unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner).pop();
        SlotLease(match unused {
            Some(slot) => {
                *slot.0.lock().unwrap_or_else(PoisonError::into_inner) = rng;
                slot
            }
            None => Box::leak(Box::new(Slot(Mutex::new(rng)))),
        })
    }
}

impl Drop for SlotLease {
    fn drop(&mut self) {
        UNUSED.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
    }
}

impl SecureRandom for Slot {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.fill_bytes(buf);
        Ok(())
    }
}

impl SupportedKxGroup for Slot {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        let mut secret = [0; 32];
        self.fill_bytes(&mut secret);
        let secret = x25519_dalek::StaticSecret::from(secret);
        let public = x25519_dalek::PublicKey::from(&secret);
        Ok(Box::new(SeededExchange { secret, public }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct SeededExchange {
    secret: x25519_dalek::StaticSecret,
    public: x25519_dalek::PublicKey,
}

impl ActiveKeyExchange for SeededExchange {
    fn complete(self: Box<Self>, peer_pub_key: &[u8]) -> Result<SharedSecret, rustls::Error> {
        let refuse = || rustls::Error::from(PeerMisbehaved::InvalidKeyShare);
        let peer: [u8; 32] = peer_pub_key.try_into().map_err(|_| refuse())?;
        let shared = self.secret.diffie_hellman(&x25519_dalek::PublicKey::from(peer));
        // RFC 8446, section 7.4.2: an all-zero shared secret is refused.
        if !shared.was_contributory() {
            return Err(refuse());
        }
        Ok(SharedSecret::from(&shared.as_bytes()[..]))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
