//! The cryptography of a transport: TLS with the operating system's randomness, TLS with seeded
//! randomness, or none at all.

mod identity;
mod null;
mod null_keys;
mod provider;

use std::sync::Arc;

use quinn_proto::crypto::{ClientConfig, HandshakeTokenKey, HmacKey, ServerConfig, Session};
use ring::{hkdf, hmac};
use rustls::pki_types::CertificateDer;

use super::clock::Wall;
use crate::base::{Identity, PeerId};

pub(super) use identity::server_name;

/// A dialler that proves no key.
#[cfg(test)]
pub(super) fn client_without_key() -> quinn_proto::ClientConfig {
    identity::client_without_key()
}

/// TLS alert 49, access denied: what both TLS and the null session fail with when the other end holds
/// another key than the one that was dialled.
pub(super) const WRONG_PEER_ALERT: u8 = 0x31;

/// The application protocol that both ends must speak.
const ALPN: &[u8] = b"dunlin/1";

/// Which cryptography a transport uses.
///
/// Production code writes [`Crypto::system`]. The other two have no name in any configuration file and
/// cannot be parsed from text: whoever wants them must write so in code.
#[derive(Clone)]
pub struct Crypto(Kind);

/// Who is told the secrets of TLS sessions: the label that NSS's key log format gives a secret, the client's random
/// bytes, and the secret. Both ends of a session tell the same.
pub type ToldSecrets = Arc<dyn Fn(&str, &[u8], &[u8]) + Send + Sync>;

#[derive(Clone)]
enum Kind {
    System,
    Seeded([u8; 32], Option<ToldSecrets>),
    Null([u8; 32]),
}

impl Crypto {
    /// TLS 1.3 with the operating system's randomness.
    pub fn system() -> Self {
        Crypto(Kind::System)
    }

    /// TLS 1.3 whose randomness follows from `seed`, so that equal inputs give equal datagrams. Whoever
    /// knows the seed can read the traffic. For simulators and fuzzers.
    pub fn seeded_for_simulation(seed: [u8; 32]) -> Self {
        Crypto(Kind::Seeded(seed, None))
    }

    /// As [`Crypto::seeded_for_simulation`], and tells the secrets of every session as they are made, so that a
    /// capture of the datagrams can be read.
    pub fn seeded_and_told_for_simulation(seed: [u8; 32], told: ToldSecrets) -> Self {
        Crypto(Kind::Seeded(seed, Some(told)))
    }

    /// No encryption and no proof of identity: packets carry a checksum, peers state their key. For
    /// simulations of thousands of nodes, where TLS would be most of the work.
    pub fn null_for_simulation(seed: [u8; 32]) -> Self {
        Crypto(Kind::Null(seed))
    }

    /// The keys and sessions of one node.
    pub(super) fn suite(&self, identity: &Identity, wall: Arc<Wall>) -> Suite {
        let keys = NodeKeys::derive(identity);
        let tls = |provider, told| {
            let (client, server) = identity::tls_configs(identity, provider, wall, told);
            (client as Arc<dyn ClientConfig>, server as Arc<dyn ServerConfig>)
        };
        match &self.0 {
            Kind::System => keys.suite(tls(provider::system(), None), None),
            Kind::Seeded(seed, told) => {
                let lease = provider::SlotLease::new(*seed);
                keys.suite(tls(provider::seeded(&lease), told.clone()), Some(lease))
            }
            Kind::Null(seed) => {
                let config = null::NullConfig::new(identity.id(), *seed);
                let [reset, token, cid] = keys.secrets;
                Suite {
                    client: config.clone(),
                    server: config,
                    reset_key: Arc::new(null_keys::NullHmac::new(&reset)),
                    token_key: Arc::new(null_keys::NullTokenKey::new(&token)),
                    cid_key: Arc::new(null_keys::NullHmac::new(&cid)),
                    lease: None,
                }
            }
        }
    }
}

impl std::fmt::Debug for Crypto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::System => "Crypto::system",
            Kind::Seeded(..) => "Crypto::seeded_for_simulation",
            Kind::Null(_) => "Crypto::null_for_simulation",
        })
    }
}

/// Everything cryptographic that a QUIC endpoint is built from.
pub(super) struct Suite {
    pub(super) client: Arc<dyn ClientConfig>,
    pub(super) server: Arc<dyn ServerConfig>,
    /// Signs stateless resets.
    pub(super) reset_key: Arc<dyn HmacKey>,
    /// Seals the tokens of Retry packets.
    pub(super) token_key: Arc<dyn HandshakeTokenKey>,
    /// Tags connection ids.
    pub(super) cid_key: Arc<dyn HmacKey>,
    /// Must live as long as the sessions do.
    pub(super) lease: Option<provider::SlotLease>,
}

pub(super) use provider::SlotLease;

/// The secrets that outlive a process: a node started again with its key can reset the connections of
/// its earlier life.
struct NodeKeys {
    secrets: [[u8; 32]; 3],
}

impl NodeKeys {
    fn derive(identity: &Identity) -> Self {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"dunlin/1 transport keys")
            .extract(identity.secret());
        let expand = |label: &[u8]| {
            let mut key = [0; 32];
            root.expand(&[label], hkdf::HKDF_SHA256)
                .and_then(|material| material.fill(&mut key))
                .expect("32 bytes are within what HKDF can expand");
            key
        };
        NodeKeys {
            secrets: [
                expand(b"stateless reset"),
                expand(b"handshake token"),
                expand(b"connection id"),
            ],
        }
    }

    fn suite(
        self,
        (client, server): (Arc<dyn ClientConfig>, Arc<dyn ServerConfig>),
        lease: Option<SlotLease>,
    ) -> Suite {
        let [reset, token, cid] = self.secrets;
        Suite {
            client,
            server,
            reset_key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset)),
            token_key: Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&token)),
            cid_key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &cid)),
            lease,
        }
    }
}

/// Who the handshake proved the other end to be.
pub(super) fn proven_peer(session: &dyn Session) -> Option<PeerId> {
    let certificates = session.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    identity::peer_of_raw_key(certificates.first()?)
}
