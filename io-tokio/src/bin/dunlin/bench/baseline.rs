//! QUIC alone: the quinn crate, tuned, with as little around it as a workload needs.
//!
//! One bidirectional stream carries frames: a length and bytes. The client gives each call a number and
//! a place where its answer is awaited, the server answers each by its number, as any protocol of calls
//! must; each writes all that it has at once. So both ends batch as well as they can. Both ends prove raw
//! public keys, as nodes do.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn_udp::UdpSocketState;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{cipher_suite, default_provider, kx_group, sign};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime, alg_id,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};

use tokio::sync::{Notify, oneshot};

use super::measure::{self, Tally};
use super::processes::Place;
use super::workload::{Setting, Workload};
use super::{Failure, events_baseline};

/// Before the bytes of a frame: how many they are.
pub(super) const LENGTH_BYTES: usize = 4;
/// Before the bytes of a call: its number.
const NUMBER_BYTES: usize = 8;
/// What answers a frame of bulk.
const RECEIPT_BYTES: usize = LENGTH_BYTES;
/// The name that TLS insists on.
pub(super) const NAME: &str = "baseline.invalid";
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    })
}

/// A fresh key, as TLS wants it.
fn fresh_key() -> Result<Arc<CertifiedKey>, Failure> {
    let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())
        .map_err(|_| "no randomness")?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|e| e.to_string())?;
    let spki = rustls::sign::public_key_to_spki(&alg_id::ED25519, pair.public_key().as_ref());
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(document.as_ref().to_vec()));
    let signer = sign::any_supported_type(&secret)?;
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki.to_vec())], signer)))
}

/// Takes whoever proves an Ed25519 key: both ends are ours.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl AnyKey {
    fn check(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }
}

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _key: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _key: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Presents one key to everybody.
#[derive(Debug)]
struct OwnKey(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for OwnKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for OwnKey {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

/// What makes quinn "tuned": large datagrams, wide windows, few acknowledgements.
fn transport(datagram: u16) -> Arc<TransportConfig> {
    let mut cubic = CubicConfig::default();
    cubic.initial_window(10 * u64::from(datagram));
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(VarInt::from_u32(3));
    let mut transport = TransportConfig::default();
    transport
        .initial_mtu(datagram)
        .mtu_discovery_config(None)
        .send_window(32 << 20)
        .stream_receive_window(VarInt::from_u32(16 << 20))
        .congestion_controller_factory(Arc::new(cubic))
        .ack_frequency_config(Some(acknowledgements));
    Arc::new(transport)
}

fn server_config(datagram: u16) -> Result<ServerConfig, Failure> {
    let provider = provider();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyKey(provider)))
        .with_cert_resolver(Arc::new(OwnKey(fresh_key()?)));
    tls.send_tls13_tickets = 0;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport(datagram));
    Ok(config)
}

pub(super) fn client_config(datagram: u16) -> Result<ClientConfig, Failure> {
    let provider = provider();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey(provider)))
        .with_client_cert_resolver(Arc::new(OwnKey(fresh_key()?)));
    tls.resumption = rustls::client::Resumption::disabled();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport(datagram));
    Ok(config)
}

pub(super) fn endpoint(datagram: u16, server: Option<ServerConfig>) -> Result<Endpoint, Failure> {
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let state = UdpSocketState::new((&socket).into())?;
    state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)?;
    state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(datagram.max(1_472))?;
    Ok(Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?)
}

/// The server's end.
pub(super) async fn serve(
    setting: &Setting,
    announce: impl FnOnce(&Place) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let endpoint = endpoint(setting.datagram, Some(server_config(setting.datagram)?))?;
    announce(&Place { address: endpoint.local_addr()?, key: String::new() })?;
    let workload = setting.workload;
    while let Some(stranger) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = stranger.await else { return };
            while let Ok((send, receive)) = connection.accept_bi().await {
                // Clients go when they are done.
                let _ = match workload {
                    Workload::Bulk => acknowledge(send, receive).await,
                    Workload::Events => events_baseline::count(send, receive).await,
                    _ => echo(send, receive).await,
                };
            }
        });
    }
    Ok(())
}

/// Cuts a stream into frames as its bytes arrive.
#[derive(Default)]
pub(super) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Takes what arrived; gives the bytes of all whole frames, lengths included.
    pub(super) fn take(&mut self, chunk: Bytes) -> Bytes {
        if self.buffer.is_empty() {
            let whole = whole_frames(&chunk);
            self.buffer.extend_from_slice(&chunk[whole..]);
            return chunk.slice(..whole);
        }
        self.buffer.extend_from_slice(&chunk);
        let whole = whole_frames(&self.buffer);
        self.buffer.split_to(whole).freeze()
    }
}

/// How many bytes are of whole frames.
fn whole_frames(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(frame) = frame_bytes(&bytes[whole..])
        && bytes.len() - whole >= frame
    {
        whole += frame;
    }
    whole
}

/// The length of the first frame, its length field included.
fn frame_bytes(mut bytes: &[u8]) -> Option<usize> {
    Some(LENGTH_BYTES + bytes.try_get_u32().ok()? as usize)
}

/// Answers every call with its argument.
async fn echo(mut send: SendStream, mut receive: RecvStream) -> Result<(), Failure> {
    let mut frames = Frames::default();
    let mut answers = BytesMut::new();
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        let mut whole = frames.take(chunk.bytes);
        while let Some(mut frame) = next_frame(&mut whole) {
            let number = frame.try_get_u64()?;
            put_call(&mut answers, number, &frame);
        }
        if !answers.is_empty() {
            send.write_chunk(answers.split().freeze()).await?;
        }
    }
    Ok(())
}

/// Takes the first of whole frames, without its length.
pub(super) fn next_frame(whole: &mut Bytes) -> Option<Bytes> {
    let frame_bytes = frame_bytes(whole)?;
    let mut frame = whole.split_to(frame_bytes);
    frame.advance(LENGTH_BYTES);
    Some(frame)
}

/// Writes a call, or its answer.
fn put_call(out: &mut BytesMut, number: u64, bytes: &[u8]) {
    out.reserve(LENGTH_BYTES + NUMBER_BYTES + bytes.len());
    out.put_u32((NUMBER_BYTES + bytes.len()) as u32);
    out.put_u64(number);
    out.put_slice(bytes);
}

/// Answers every frame with an empty one. Its bytes are looked at nowhere but in the length.
async fn acknowledge(mut send: SendStream, mut receive: RecvStream) -> Result<(), Failure> {
    let mut length = BytesMut::with_capacity(LENGTH_BYTES);
    let mut missing = 0;
    let mut chunks: [Bytes; 32] = std::array::from_fn(|_| Bytes::new());
    while let Some(count) = receive.read_chunks(&mut chunks).await? {
        let mut ended = 0;
        for mut chunk in chunks[..count].iter_mut().map(std::mem::take) {
            while !chunk.is_empty() {
                if missing == 0 {
                    let take = chunk.len().min(LENGTH_BYTES - length.len());
                    length.put(chunk.split_to(take));
                    if length.len() == LENGTH_BYTES {
                        missing = length.get_u32() as usize;
                        length.clear();
                    }
                }
                let take = chunk.len().min(missing);
                chunk.advance(take);
                missing -= take;
                ended += usize::from(take > 0 && missing == 0);
            }
        }
        if ended > 0 {
            send.write_chunk(Bytes::from(vec![0; ended * RECEIPT_BYTES])).await?;
        }
    }
    Ok(())
}

/// The client's end.
pub(super) async fn measure(setting: &Setting, place: &Place) -> Result<(), Failure> {
    if setting.workload == Workload::Connect {
        // A socket and keys of its own would cost a client of quinn more than the connection.
        let endpoint = endpoint(setting.datagram, None)?;
        let config = client_config(setting.datagram)?;
        return measure::measure(setting.seconds, async |tally| {
            while Instant::now() < tally.until {
                connect_once(&endpoint, &config, setting.size, place.address, tally).await?;
            }
            Ok(())
        })
        .await;
    }
    let endpoint = endpoint(setting.datagram, None)?;
    let config = client_config(setting.datagram)?;
    let connection: Connection = endpoint.connect_with(config, place.address, NAME)?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    if setting.workload == Workload::Bulk {
        return measure::measure(setting.seconds, async |tally| {
            bulk(setting, &mut send, &mut receive, tally).await
        })
        .await;
    }
    let open = Arc::new(Calls::default());
    let (writer, reader) = (Arc::clone(&open), Arc::clone(&open));
    tokio::spawn(async move { writer.write(&mut send).await });
    tokio::spawn(async move { reader.read(&mut receive).await });
    measure::measure(setting.seconds, async |tally| calls(setting, &open, tally).await).await
}

/// From nothing but a socket and keys to the answer of a first request.
async fn connect_once(
    endpoint: &Endpoint,
    config: &ClientConfig,
    size: usize,
    server: SocketAddr,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let connection = endpoint.connect_with(config.clone(), server, NAME)?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let mut request = BytesMut::new();
    put_call(&mut request, 1, &vec![7; size]);
    send.write_chunk(request.freeze()).await?;
    let mut frames = Frames::default();
    while frames.take(answer(&mut receive).await?).is_empty() {}
    tally.record(begun, Instant::now());
    connection.close(VarInt::from_u32(0), b"");
    Ok(())
}

async fn answer(receive: &mut RecvStream) -> Result<Bytes, Failure> {
    let chunk = receive.read_chunk(usize::MAX, true).await?;
    Ok(chunk.ok_or("the server ended the stream")?.bytes)
}

/// Calls of many tasks over one stream: what any protocol of calls must at least do. A call has a
/// number and a place where its answer is awaited; whatever is asked until the writer has its turn
/// leaves in one write.
#[derive(Default)]
struct Calls {
    open: Mutex<Open>,
    asked: Notify,
}

#[derive(Default)]
struct Open {
    unsent: BytesMut,
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Bytes>>,
}

impl Calls {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("nothing panics under this lock")
    }

    /// Asks, and waits for the answer.
    async fn call(&self, argument: &[u8]) -> Result<Bytes, Failure> {
        let (answer, answered) = oneshot::channel();
        {
            let mut open = self.open();
            open.last += 1;
            let number = open.last;
            put_call(&mut open.unsent, number, argument);
            open.waiting.insert(number, answer);
        }
        self.asked.notify_one();
        Ok(answered.await?)
    }

    async fn write(&self, send: &mut SendStream) -> Result<(), Failure> {
        loop {
            self.asked.notified().await;
            let unsent = self.open().unsent.split().freeze();
            if !unsent.is_empty() {
                send.write_chunk(unsent).await?;
            }
        }
    }

    async fn read(&self, receive: &mut RecvStream) -> Result<(), Failure> {
        let mut frames = Frames::default();
        loop {
            let mut whole = frames.take(answer(receive).await?);
            let mut open = self.open();
            while let Some(mut frame) = next_frame(&mut whole) {
                let number = frame.try_get_u64()?;
                if let Some(waiting) = open.waiting.remove(&number) {
                    // Whoever asked may be gone.
                    let _ = waiting.send(frame);
                }
            }
        }
    }
}

/// Keeps so many tasks calling.
async fn calls(setting: &Setting, calls: &Arc<Calls>, tally: &mut Tally) -> Result<(), Failure> {
    let tasks: Vec<_> = (0..setting.outstanding)
        .map(|_| {
            let (calls, mut tally) = (Arc::clone(calls), tally.share());
            let argument = vec![7; setting.size];
            tokio::spawn(async move {
                let mut begun = Instant::now();
                while begun < tally.until {
                    let answer = calls.call(&argument).await?;
                    debug_assert_eq!(answer, argument);
                    let now = Instant::now();
                    tally.record(begun, now);
                    begun = now;
                }
                Ok::<Tally, Failure>(tally)
            })
        })
        .collect();
    for task in tasks {
        tally.add(task.await??);
    }
    Ok(())
}

/// The same with large messages, shared and not copied, and empty answers.
async fn bulk(
    setting: &Setting,
    send: &mut SendStream,
    receive: &mut RecvStream,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let message = Bytes::from(vec![7; setting.size]);
    let length = Bytes::copy_from_slice(&(setting.size as u32).to_be_bytes());
    let mut begun = VecDeque::with_capacity(setting.outstanding);
    let mut now = Instant::now();
    let mut ended = setting.outstanding;
    let mut receipt_bytes = 0;
    loop {
        if now < tally.until && ended > 0 {
            begun.extend(std::iter::repeat_n(now, ended));
            let mut chunks = Vec::with_capacity(2 * ended);
            for _ in 0..ended {
                chunks.extend([length.clone(), message.clone()]);
            }
            send.write_all_chunks(&mut chunks).await?;
        }
        if begun.is_empty() {
            return Ok(());
        }
        receipt_bytes += answer(receive).await?.len();
        ended = receipt_bytes / RECEIPT_BYTES;
        receipt_bytes %= RECEIPT_BYTES;
        now = Instant::now();
        for begun in begun.drain(..ended) {
            tally.record(begun, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_wherever_chunks_end() {
        let sent: Vec<u8> = [5, 0, 2]
            .iter()
            .flat_map(|n| [0, 0, 0, *n, 1, 2, 3, 4, 5][..4 + *n as usize].to_vec())
            .collect();
        for chunk_bytes in 1..sent.len() {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for chunk in sent.chunks(chunk_bytes) {
                let whole = frames.take(Bytes::copy_from_slice(chunk));
                assert_eq!(whole_frames(&whole), whole.len());
                got.extend_from_slice(&whole);
            }
            assert_eq!(got, sent);
        }
    }
}
