//! What a call costs, next to QUIC alone under the same keys and settings, without sockets.
//!
//! Ignored by default, as it measures and asserts nothing:
//! `cargo test --release -p dunlin-core transport::tests::cost -- --ignored --nocapture`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use dunlin_proto::{Frame, FrameView};
use quinn_proto::{Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, Event, StreamId};

use super::super::clock::Clock;
use super::super::crypto::server_name;
use super::super::{Crypto, Datagram, Transport, TransportConfig, endpoint};
use super::net::{address, call};
use crate::base::{Identity, MonoTime, Now, WallTime};
use crate::link::{DialHandle, FrameSource, Lane, LinkCommand, LinkHandle, LinkInput};

const OUTSTANDING: u64 = 64;
const SEGMENTS_MAX: usize = 44;

/// A benchmark measures time; nothing of it reaches the node but through `Now`.
#[allow(clippy::disallowed_methods)]
fn reading() -> Instant {
    Instant::now()
}

/// A mesh with one lane that echoes, or counts and asks again.
#[derive(Default)]
struct Caller {
    queue: VecDeque<(Lane, Frame)>,
    link: Option<LinkHandle>,
    done: u64,
    next_own: u64,
}

impl FrameSource for Caller {
    fn next_lane(&self, _link: LinkHandle, from: Lane) -> Option<Lane> {
        self.queue.front().map(|(lane, _)| *lane).filter(|lane| *lane >= from)
    }

    fn pull_frame(&mut self, _link: LinkHandle, lane: Lane) -> Option<Frame> {
        let (_, frame) = self.queue.pop_front_if(|(next, _)| *next == lane)?;
        Some(frame)
    }
}

struct Side {
    transport: Transport,
    caller: Caller,
}

impl Side {
    fn push(&mut self, now: Now, frame: Frame) {
        let Some(link) = self.caller.link else { return };
        let lane = if frame.payload.len() >= 16 << 10 {
            self.caller.next_own += 1;
            Lane(Lane::OWN_FROM + self.caller.next_own)
        } else {
            Lane(1)
        };
        if self.caller.queue.is_empty() {
            self.transport.handle_command(now, LinkCommand::FramesReady { link });
        }
        self.caller.queue.push_back((lane, frame));
    }

    fn pump(&mut self, now: Now, to: &mut Side, from: usize, buf: &mut Vec<u8>, answer: &Bytes) {
        while let Some(event) = self.transport.poll_event() {
            match event {
                LinkInput::Up { link, .. } => self.caller.link = Some(link),
                LinkInput::Frame { frame, .. } => {
                    let FrameView::Known(..) = FrameView::decode(frame).unwrap() else { panic!() };
                    self.caller.done += 1;
                    let payload = answer.clone();
                    self.push(now, call(1, payload));
                }
                other => panic!("{other:?}"),
            }
        }
        self.transport.flush(now, &mut self.caller);
        while let Some(transmit) = self.transport.poll_transmit(now, SEGMENTS_MAX, buf) {
            let segment = transmit.segment_size.unwrap_or(transmit.size);
            let mut all = BytesMut::from(&buf[..transmit.size]);
            while !all.is_empty() {
                let data = all.split_to(segment.min(all.len()));
                let datagram = Datagram { from: address(from), local_ip: None, ecn: None, data };
                to.transport.handle_datagram(now, datagram);
            }
        }
    }
}

fn dunlin(config: &TransportConfig, question: usize, answer: usize, calls: u64) -> Duration {
    let start = reading();
    let now = || {
        let mono = MonoTime::from_nanos(start.elapsed().as_nanos() as u64);
        Now::new(mono, WallTime::from_unix_nanos(1))
    };
    let side = |byte: u8| Side {
        transport: Transport::new(
            now(),
            &Identity::from_secret([byte; 32]),
            Crypto::system(),
            config.clone(),
            [byte; 32],
        ),
        caller: Caller::default(),
    };
    let (mut a, mut b) = (side(1), side(2));
    let (question, answer) = (Bytes::from(vec![1; question]), Bytes::from(vec![2; answer]));
    a.transport.handle_command(
        now(),
        LinkCommand::Dial {
            dial: DialHandle(1),
            peer: Identity::from_secret([2; 32]).id(),
            addresses: vec![address(1)],
        },
    );
    let mut buf = Vec::new();
    let mut began = None;
    while a.caller.done < calls {
        a.pump(now(), &mut b, 0, &mut buf, &question);
        b.pump(now(), &mut a, 1, &mut buf, &answer);
        a.transport.handle_timeout(now());
        b.transport.handle_timeout(now());
        if began.is_none() && a.caller.link.is_some() && b.caller.link.is_some() {
            began = Some(reading());
            for _ in 0..OUTSTANDING {
                a.push(now(), call(1, question.clone()));
            }
        }
    }
    began.expect("linked").elapsed() / calls as u32
}

/// QUIC alone: one stream each way, frames of a length and a body.
struct Raw {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    sending: Option<StreamId>,
    unread: BytesMut,
    unwritten: BytesMut,
    done: u64,
}

impl Raw {
    fn receive(&mut self, now: Instant, from: usize, data: BytesMut, buf: &mut Vec<u8>) {
        buf.clear();
        match self.endpoint.handle(now, address(from), None, None, data, buf) {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, buf, None);
                self.connection = Some(accepted.unwrap_or_else(|_| panic!("accepted")));
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                self.connection.as_mut().unwrap().1.handle_event(event);
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
    }

    fn pump(&mut self, now: Instant, to: &mut Raw, from: usize, buf: &mut Vec<u8>, answer: &[u8]) {
        let Some((handle, quic)) = &mut self.connection else { return };
        while let Some(event) = quic.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                quic.handle_event(event);
            }
        }
        let mut readable = false;
        while let Some(event) = quic.poll() {
            match event {
                Event::Connected => self.sending = quic.streams().open(Dir::Uni),
                Event::Stream(_) => readable = true,
                Event::ConnectionLost { reason } => panic!("{reason}"),
                _ => {}
            }
        }
        let _ = quic.streams().accept(Dir::Uni);
        if readable {
            let id = StreamId::new(!quic.side(), Dir::Uni, 0);
            let mut stream = quic.recv_stream(id);
            if let Ok(mut chunks) = stream.read(true) {
                while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                    self.unread.extend_from_slice(&chunk.bytes);
                }
            }
            while self.unread.len() >= 4 {
                let length = u32::from_be_bytes(self.unread[..4].try_into().unwrap()) as usize;
                if self.unread.len() < 4 + length {
                    break;
                }
                self.unread.advance(4 + length);
                self.done += 1;
                self.unwritten.extend_from_slice(&(answer.len() as u32).to_be_bytes());
                self.unwritten.extend_from_slice(answer);
            }
        }
        if let Some(id) = self.sending {
            while !self.unwritten.is_empty() {
                let Ok(written) = quic.send_stream(id).write(&self.unwritten) else { break };
                self.unwritten.advance(written);
            }
        }
        loop {
            buf.clear();
            let segments = SEGMENTS_MAX.min(65_507 / usize::from(quic.current_mtu()));
            let Some(transmit) = quic.poll_transmit(now, segments, buf) else { break };
            let segment = transmit.segment_size.unwrap_or(transmit.size);
            let mut all = BytesMut::from(&buf[..transmit.size]);
            let mut scratch = Vec::new();
            while !all.is_empty() {
                let data = all.split_to(segment.min(all.len()));
                to.receive(now, from, data, &mut scratch);
            }
        }
        if quic.poll_timeout().is_some_and(|at| at <= now) {
            quic.handle_timeout(now);
        }
    }
}

fn quic(config: &TransportConfig, question: usize, answer: usize, calls: u64) -> Duration {
    let clock = Clock::new(Now::default());
    let build = |byte: u8| {
        let identity = Identity::from_secret([byte; 32]);
        let suite = Crypto::system().suite(&identity, clock.wall());
        let (endpoint, client) = endpoint::build(config, &suite, clock.wall(), [byte; 32]);
        let raw = Raw {
            endpoint,
            connection: None,
            sending: None,
            unread: BytesMut::new(),
            unwritten: BytesMut::new(),
            done: 0,
        };
        (raw, client)
    };
    let ((mut a, client), (mut b, _)) = (build(1), build(2));
    let name = server_name(&Identity::from_secret([2; 32]).id());
    a.connection =
        Some(a.endpoint.connect(reading(), client, address(1), &name).expect("connects"));
    let (question, answer) = (Arc::new(vec![1; question]), Arc::new(vec![2; answer]));
    let mut buf = Vec::new();
    let mut began = None;
    while a.done < calls {
        a.pump(reading(), &mut b, 0, &mut buf, &question);
        b.pump(reading(), &mut a, 1, &mut buf, &answer);
        if began.is_none() && a.sending.is_some() && b.sending.is_some() {
            began = Some(reading());
            for _ in 0..OUTSTANDING {
                a.unwritten.extend_from_slice(&(question.len() as u32).to_be_bytes());
                a.unwritten.extend_from_slice(&question);
            }
        }
    }
    began.expect("connected").elapsed() / calls as u32
}

#[test]
#[ignore = "measures; run it in release mode, alone"]
fn calls_next_to_quic_alone() {
    for (name, config) in [
        ("discovered", TransportConfig::default()),
        ("6500", TransportConfig::for_datagrams_of(6_500)),
    ] {
        for (question, answer, calls) in
            [(64, 64, 400_000), (1_024, 1_024, 100_000), (64 << 10, 64, 20_000)]
        {
            let mut dunlins: Vec<_> =
                (0..3).map(|_| dunlin(&config, question, answer, calls)).collect();
            let mut quics: Vec<_> =
                (0..3).map(|_| quic(&config, question, answer, calls)).collect();
            dunlins.sort();
            quics.sort();
            let ratio = quics[1].as_secs_f64() / dunlins[1].as_secs_f64();
            println!(
                "{name} {question} B / {answer} B: {:?} a call, QUIC alone {:?}, {ratio:.2} of its rate",
                dunlins[1], quics[1]
            );
        }
    }
}
