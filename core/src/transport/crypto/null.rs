//! A session without encryption, for large simulations.
//!
//! Packets travel in the clear with a 16-byte keyed checksum where TLS has its tag, and the keys change
//! where those of TLS change. So corruption, packets of other connections, key updates, resets and
//! Retry behave as they do with TLS; secrecy and proof of identity are what is missing.
//!
//! The handshake, each message a type byte, a 16-bit length and a body:
//!
//! | message | space | body |
//! | --- | --- | --- |
//! | 1 client hello | Initial | 8 random bytes, transport parameters |
//! | 2 server hello | Initial | 8 random bytes |
//! | 3 server flight | Handshake | 32 bytes of key, transport parameters |
//! | 4 client finish | Handshake | 32 bytes of key |

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn_proto::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
    UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::pki_types::CertificateDer;

use super::identity::{SPKI_PREFIX, peer_of_name};
use super::null_keys::{SPREAD, check_tag, checksum, keys, mix, tag};
use crate::base::PeerId;

const HEADER_BYTES: usize = 3;
/// TLS alert 10, unexpected message.
const UNEXPECTED_MESSAGE_ALERT: u8 = 10;
/// What both roles of one node share.
pub(super) struct NullConfig {
    id: PeerId,
    seed: u64,
    drawn: AtomicU64,
}

impl NullConfig {
    pub(super) fn new(id: PeerId, seed: [u8; 32]) -> Arc<Self> {
        Arc::new(NullConfig { id, seed: checksum(0, &seed), drawn: AtomicU64::new(0) })
    }

    fn draw(&self) -> u64 {
        mix(self.seed, self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}

impl crypto::ClientConfig for NullConfig {
    fn start_session(
        self: Arc<Self>,
        _version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let expected = peer_of_name(server_name)
            .ok_or_else(|| ConnectError::InvalidServerName(server_name.into()))?;
        Ok(Box::new(NullSession::new(self, Side::Client, Some(expected), params)))
    }
}

impl crypto::ServerConfig for NullConfig {
    fn initial_keys(
        &self,
        _version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        Ok(keys(checksum(0, dst_cid), Side::Server))
    }

    fn retry_tag(&self, _version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        tag(retry_key(orig_dst_cid), packet)
    }

    fn start_session(
        self: Arc<Self>,
        _version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        Box::new(NullSession::new(self, Side::Server, None, params))
    }
}

fn retry_key(orig_dst_cid: &ConnectionId) -> u64 {
    checksum(1, orig_dst_cid)
}

/// Where a handshake stands: what is to be written, or what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    ClientHello,
    AwaitServerHello,
    ClientHandshakeKeys,
    AwaitServerFlight,
    ClientFinish,
    AwaitClientHello,
    ServerHello,
    ServerFlight,
    AwaitClientFinish,
    Done,
}

struct NullSession {
    config: Arc<NullConfig>,
    side: Side,
    stage: Stage,
    expected: Option<PeerId>,
    peer: Option<PeerId>,
    own_params: Vec<u8>,
    peer_params: Option<TransportParameters>,
    random: u64,
    secret: u64,
    key_updates: u64,
    unread: Vec<u8>,
    announced: bool,
}

impl NullSession {
    fn new(
        config: Arc<NullConfig>,
        side: Side,
        expected: Option<PeerId>,
        params: &TransportParameters,
    ) -> Self {
        let mut own_params = Vec::with_capacity(128);
        params.write(&mut own_params);
        let random = config.draw();
        NullSession {
            config,
            side,
            stage: if side.is_client() { Stage::ClientHello } else { Stage::AwaitClientHello },
            expected,
            peer: None,
            own_params,
            peer_params: None,
            random,
            secret: 0,
            key_updates: 0,
            unread: Vec::new(),
            announced: false,
        }
    }

    fn read_message(&mut self, kind: u8, body: &[u8]) -> Result<(), TransportError> {
        match (self.stage, kind) {
            (Stage::AwaitClientHello, 1) => {
                let (random, params) = split_word(body)?;
                self.peer_params = Some(self.read_params(params)?);
                self.secret = mix(random, self.random);
                self.stage = Stage::ServerHello;
            }
            (Stage::AwaitServerHello, 2) => {
                let (random, _) = split_word(body)?;
                self.secret = mix(self.random, random);
                self.stage = Stage::ClientHandshakeKeys;
            }
            (Stage::AwaitServerFlight, 3) => {
                let (peer, params) = split_peer(body)?;
                if self.expected != Some(peer) {
                    return Err(alert(super::WRONG_PEER_ALERT, "another peer answered"));
                }
                self.peer_params = Some(self.read_params(params)?);
                self.peer = Some(peer);
                self.stage = Stage::ClientFinish;
            }
            (Stage::AwaitClientFinish, 4) => {
                self.peer = Some(split_peer(body)?.0);
                self.stage = Stage::Done;
            }
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    fn read_params(&self, params: &[u8]) -> Result<TransportParameters, TransportError> {
        Ok(TransportParameters::read(self.side, &mut Cursor::new(params))?)
    }

    fn handshake_keys(&self) -> Keys {
        keys(mix(self.secret, 100), self.side)
    }

    fn data_keys(&self) -> Keys {
        keys(mix(self.secret, 200 + self.key_updates), self.side)
    }
}

fn alert(code: u8, reason: &str) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(code), frame: None, reason: reason.into() }
}

fn unexpected() -> TransportError {
    alert(UNEXPECTED_MESSAGE_ALERT, "unexpected handshake message")
}

fn split_word(body: &[u8]) -> Result<(u64, &[u8]), TransportError> {
    let (word, rest) = body.split_first_chunk().ok_or_else(unexpected)?;
    Ok((u64::from_le_bytes(*word), rest))
}

fn split_peer(body: &[u8]) -> Result<(PeerId, &[u8]), TransportError> {
    let (peer, rest) = body.split_first_chunk().ok_or_else(unexpected)?;
    Ok((PeerId::from_bytes(*peer), rest))
}

fn write_message(out: &mut Vec<u8>, kind: u8, parts: [&[u8]; 2]) {
    let body_bytes = parts[0].len() + parts[1].len();
    let length = u16::try_from(body_bytes).expect("keys and transport parameters are short");
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(parts[0]);
    out.extend_from_slice(parts[1]);
}

impl Session for NullSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        keys(checksum(0, dst_cid), side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.announced.then(|| {
            Box::new(crypto::rustls::HandshakeData {
                protocol: Some(super::ALPN.to_vec()),
                server_name: None,
            }) as Box<dyn Any>
        })
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let mut spki = SPKI_PREFIX.to_vec();
        spki.extend_from_slice(self.peer?.as_bytes());
        Some(Box::new(vec![CertificateDer::from(spki)]))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.side.is_client().then_some(false)
    }

    fn is_handshaking(&self) -> bool {
        match self.side {
            Side::Client => self.peer.is_none(),
            Side::Server => self.stage != Stage::Done,
        }
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(buf);
        let mut rest = &unread[..];
        while let Some((&[kind, high, low], after)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let Some((body, after)) =
                after.split_at_checked(usize::from(u16::from_be_bytes([high, low])))
            else {
                break;
            };
            self.read_message(kind, body)?;
            rest = after;
        }
        self.unread = rest.to_vec();
        let newly = self.peer_params.is_some() && !self.announced;
        self.announced |= newly;
        Ok(newly)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        Ok(self.peer_params)
    }

    // Keys are handed over twice: first those of the Handshake space, then those of data.
    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        match self.stage {
            Stage::ClientHello => {
                write_message(buf, 1, [&self.random.to_le_bytes(), &self.own_params]);
                self.stage = Stage::AwaitServerHello;
                None
            }
            Stage::ClientHandshakeKeys => {
                self.stage = Stage::AwaitServerFlight;
                Some(self.handshake_keys())
            }
            Stage::ClientFinish => {
                write_message(buf, 4, [self.config.id.as_bytes(), &[]]);
                self.own_params = Vec::new();
                self.stage = Stage::Done;
                Some(self.data_keys())
            }
            Stage::ServerHello => {
                write_message(buf, 2, [&self.random.to_le_bytes(), &[]]);
                self.stage = Stage::ServerFlight;
                Some(self.handshake_keys())
            }
            Stage::ServerFlight => {
                write_message(buf, 3, [self.config.id.as_bytes(), &self.own_params]);
                self.own_params = Vec::new();
                self.stage = Stage::AwaitClientFinish;
                Some(self.data_keys())
            }
            Stage::AwaitServerHello
            | Stage::AwaitServerFlight
            | Stage::AwaitClientHello
            | Stage::AwaitClientFinish
            | Stage::Done => None,
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.key_updates += 1;
        Some(self.data_keys().packet)
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        check_tag(retry_key(orig_dst_cid), &[header, payload].concat()).is_ok()
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let mut state = checksum(checksum(self.secret, label), context);
        for chunk in output.chunks_mut(8) {
            state = mix(state, SPREAD);
            chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}
