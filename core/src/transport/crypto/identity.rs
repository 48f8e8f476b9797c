//! Peers in TLS: raw Ed25519 public keys (RFC 7250), proved by both ends.
//!
//! The key that a dial expects travels in the server name, which stays inside this process: SNI is
//! off, so nobody on the path learns who is dialled.

use std::sync::Arc;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, alg_id,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    PeerMisbehaved, SignatureScheme,
};

use super::super::clock::Wall;
use super::ToldSecrets;
use crate::base::{Identity, PeerId};

/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
pub(super) const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the 32 bytes of an Ed25519 secret key in PKCS #8 (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// `.invalid` never resolves (RFC 2606).
const NAME_SUFFIX: &str = ".dunlin.invalid";

/// The name under which TLS is told whom a dial expects.
pub(in super::super) fn server_name(peer: &PeerId) -> String {
    format!("{peer}{NAME_SUFFIX}")
}

/// The peer in such a name.
pub(super) fn peer_of_name(name: &str) -> Option<PeerId> {
    name.strip_suffix(NAME_SUFFIX)?.parse().ok()
}

/// The peer with this raw public key, if it is one of Ed25519 and proves anything: see [`PeerId::is_key`].
pub(super) fn peer_of_raw_key(spki: &CertificateDer<'_>) -> Option<PeerId> {
    let key = spki.as_ref().strip_prefix(&SPKI_PREFIX)?;
    Some(PeerId::from_bytes(key.try_into().ok()?)).filter(PeerId::is_key)
}

/// TLS for both roles: version 1.3 alone, Ed25519 alone, no SNI, nothing resumed.
pub(super) fn tls_configs(
    identity: &Identity,
    provider: Arc<CryptoProvider>,
    wall: Arc<Wall>,
    told: Option<ToldSecrets>,
) -> (Arc<QuicClientConfig>, Arc<QuicServerConfig>) {
    let verifier = Arc::new(Verifier { algorithms: provider.signature_verification_algorithms });
    let own_key = Arc::new(OwnKey(certified_key(identity)));
    let versions = &[&rustls::version::TLS13];
    let mut client = rustls::ClientConfig::builder_with_details(provider.clone(), wall.clone())
        .with_protocol_versions(versions)
        .expect("the provider's suites are of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_client_cert_resolver(own_key.clone());
    client.alpn_protocols = vec![super::ALPN.to_vec()];
    client.enable_sni = false;
    client.enable_early_data = false;
    client.resumption = rustls::client::Resumption::disabled();
    let mut server = rustls::ServerConfig::builder_with_details(provider, wall)
        .with_protocol_versions(versions)
        .expect("the provider's suites are of TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own_key);
    server.alpn_protocols = vec![super::ALPN.to_vec()];
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;
    if let Some(told) = told {
        let log = Arc::new(SecretLog(told));
        client.key_log = log.clone();
        server.key_log = log;
    }
    let suite = "the provider has the suite of QUIC's initial packets";
    (
        Arc::new(QuicClientConfig::try_from(client).expect(suite)),
        Arc::new(QuicServerConfig::try_from(server).expect(suite)),
    )
}

/// Hands the secrets of sessions on, to whoever a simulation names.
struct SecretLog(ToldSecrets);

impl std::fmt::Debug for SecretLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretLog")
    }
}

impl rustls::KeyLog for SecretLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        (self.0)(label, client_random, secret);
    }
}

#[cfg(test)]
pub(super) fn client_without_key() -> quinn_proto::ClientConfig {
    let provider = super::provider::system();
    let verifier = Verifier { algorithms: provider.signature_verification_algorithms };
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider's suites are of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    client.alpn_protocols = vec![super::ALPN.to_vec()];
    let client = QuicClientConfig::try_from(client).expect("an initial suite");
    quinn_proto::ClientConfig::new(Arc::new(client))
}

fn certified_key(identity: &Identity) -> Arc<CertifiedKey> {
    let mut pkcs8 = PKCS8_PREFIX.to_vec();
    pkcs8.extend_from_slice(identity.secret());
    let signer = rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8))
        .expect("any 32 bytes are an Ed25519 secret key");
    let spki = rustls::sign::public_key_to_spki(&alg_id::ED25519, identity.id().as_bytes());
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki.to_vec())], signer))
}

/// Judges the other end's key, in both roles. Whether a proven peer is welcome is for the mesh to say;
/// here a listener takes any Ed25519 key, and a dialler only the one that it dialled.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
}

const REFUSED: Error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

impl Verifier {
    fn peer(key: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<PeerId, Error> {
        if !others.is_empty() {
            return Err(REFUSED);
        }
        peer_of_raw_key(key).ok_or(REFUSED)
    }

    fn signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ServerName::DnsName(name) = server_name else { return Err(REFUSED) };
        let expected = peer_of_name(name.as_ref()).ok_or(REFUSED)?;
        if Self::peer(end_entity, intermediates)? != expected {
            return Err(REFUSED);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::peer(end_entity, intermediates).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Shows our own key, in both roles.
#[derive(Debug)]
struct OwnKey(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for OwnKey {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        schemes.contains(&SignatureScheme::ED25519).then(|| self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for OwnKey {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello.signature_schemes().contains(&SignatureScheme::ED25519).then(|| self.0.clone())
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_peer() {
        let identity = Identity::from_secret([7; 32]);
        assert_eq!(peer_of_name(&server_name(&identity.id())), Some(identity.id()));
        let key = certified_key(&identity);
        assert_eq!(peer_of_raw_key(&key.cert[0]), Some(identity.id()));
        let spki = key.key.public_key().expect("the signer knows its public key");
        assert_eq!(spki.as_ref(), key.cert[0].as_ref());
    }

    #[test]
    fn what_is_no_ed25519_key_names_nobody() {
        let identity = Identity::from_secret([7; 32]);
        let spki = certified_key(&identity).cert[0].to_vec();
        let mut other_algorithm = spki.clone();
        other_algorithm[8] ^= 1;
        for wrong in [vec![], spki[..43].to_vec(), other_algorithm, [&spki[..], &[0]].concat()] {
            assert_eq!(peer_of_raw_key(&CertificateDer::from(wrong)), None);
        }
        assert_eq!(peer_of_name("example.org"), None);
    }
}
