//! The virtual network: latency, jitter (which reorders), loss and duplication, all from one seed; and a
//! mesh that only records what it is told and holds frames to be pulled.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dunlin_proto::{Frame, Header, v1};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::{Crypto, Datagram, Transport, TransportConfig};
use crate::base::{Identity, MonoTime, Now, PeerId, WallTime};
use crate::link::{CloseCode, DialHandle, FrameSource, Lane, LinkCommand, LinkHandle, LinkInput};

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MS;

/// How rough the network is.
#[derive(Clone, Copy)]
pub(super) struct Path {
    pub(super) latency: u64,
    pub(super) jitter: u64,
    pub(super) loss_per_mille: u64,
    pub(super) duplicate_per_mille: u64,
    /// One bit of the datagram is flipped.
    pub(super) damage_per_mille: u64,
    /// Larger datagrams do not get through.
    pub(super) udp_payload_bytes_max: usize,
}

impl Path {
    pub(super) const CLEAN: Path = Path {
        latency: 10 * MS,
        jitter: 0,
        loss_per_mille: 0,
        duplicate_per_mille: 0,
        damage_per_mille: 0,
        udp_payload_bytes_max: 65_507,
    };
    pub(super) const ROUGH: Path = Path {
        latency: 15 * MS,
        jitter: 30 * MS,
        loss_per_mille: 50,
        duplicate_per_mille: 20,
        damage_per_mille: 5,
        ..Path::CLEAN
    };
}

/// Frames to be pulled, and everything that was heard.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) queues: BTreeMap<LinkHandle, BTreeMap<Lane, VecDeque<Frame>>>,
    pub(super) heard: Vec<LinkInput>,
    pub(super) up: Vec<(LinkHandle, PeerId)>,
    pub(super) frames: BTreeMap<(LinkHandle, Lane), Vec<Bytes>>,
    pub(super) pulled: usize,
}

impl FrameSource for Recorder {
    fn next_lane(&self, link: LinkHandle, from: Lane) -> Option<Lane> {
        self.queues.get(&link)?.range(from..).next().map(|(lane, _)| *lane)
    }

    fn pull_frame(&mut self, link: LinkHandle, lane: Lane) -> Option<Frame> {
        let lanes = self.queues.get_mut(&link)?;
        let frame = lanes.get_mut(&lane)?.pop_front();
        if lanes[&lane].is_empty() {
            lanes.remove(&lane);
        }
        self.pulled += usize::from(frame.is_some());
        frame
    }
}

impl Recorder {
    fn hear(&mut self, input: LinkInput) {
        match &input {
            LinkInput::Up { link, peer, .. } => self.up.push((*link, *peer)),
            LinkInput::Frame { link, lane, frame } => {
                self.frames.entry((*link, *lane)).or_default().push(frame.clone());
            }
            LinkInput::Down { link, .. } => self.up.retain(|(up, _)| up != link),
            LinkInput::DialFailed { .. } => {}
        }
        if !matches!(input, LinkInput::Frame { .. }) {
            self.heard.push(input);
        }
    }

    pub(super) fn queued(&self, link: LinkHandle) -> usize {
        self.queues.get(&link).map_or(0, |lanes| lanes.values().map(VecDeque::len).sum())
    }
}

pub(super) struct Node {
    pub(super) transport: Transport,
    pub(super) mesh: Recorder,
    pub(super) identity: Identity,
    pub(super) alive: bool,
    /// Where the network sees it.
    pub(super) address: SocketAddr,
}

/// Which cryptography a test runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Seeded,
    Null,
}

impl Kind {
    pub(super) fn crypto(self, seed: [u8; 32]) -> Crypto {
        match self {
            Kind::Seeded => Crypto::seeded_for_simulation(seed),
            Kind::Null => Crypto::null_for_simulation(seed),
        }
    }
}

struct Flight {
    to: SocketAddr,
    from: SocketAddr,
    data: BytesMut,
}

pub(super) struct Net {
    pub(super) nodes: Vec<Node>,
    pub(super) path: Path,
    pub(super) now: u64,
    pub(super) config: TransportConfig,
    /// Whether every link is trusted once it is up.
    pub(super) trusting: bool,
    /// What came for this node waits to be handled together.
    pub(super) held: Option<(usize, Vec<Datagram>)>,
    kind: Kind,
    seed: u8,
    flights: BTreeMap<(u64, u64), Flight>,
    sent: u64,
    pub(super) batches: u64,
    pub(super) largest: usize,
    rng: ChaCha8Rng,
    digest: ring::digest::Context,
    buf: Vec<u8>,
}

pub(super) fn address(node: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, node as u8 + 1)), 4433)
}

/// A call whose argument is `payload`; `sequence` tells it from others.
pub(super) fn call(sequence: u64, payload: impl Into<Bytes>) -> Frame {
    let header = v1::Call { sequence, path: Bytes::from_static(b"a/b"), ..v1::Call::default() };
    Frame::with_payload(Header::Call(header), payload.into())
}

impl Net {
    pub(super) fn new(nodes: usize, seed: u8, kind: Kind, config: TransportConfig) -> Self {
        let mut net = Net {
            nodes: Vec::new(),
            path: Path::CLEAN,
            now: SECOND,
            config,
            trusting: true,
            held: None,
            kind,
            seed,
            flights: BTreeMap::new(),
            sent: 0,
            batches: 0,
            largest: 0,
            rng: ChaCha8Rng::from_seed([seed; 32]),
            digest: ring::digest::Context::new(&ring::digest::SHA256),
            buf: Vec::new(),
        };
        for node in 0..nodes {
            let identity = Identity::from_secret([node as u8 + 1; 32]);
            let transport = net.transport(&identity, 0);
            net.nodes.push(Node {
                transport,
                mesh: Recorder::default(),
                identity,
                alive: true,
                address: address(node),
            });
        }
        net
    }

    fn transport(&self, identity: &Identity, life: u8) -> Transport {
        let mut seed = *identity.id().as_bytes();
        seed[0] = self.seed;
        seed[1] = life;
        let crypto = self.kind.crypto(seed);
        Transport::new(self.now(), identity, crypto, self.config.clone(), seed)
    }

    /// The node forgets everything, as a process that is killed and started again.
    pub(super) fn restart(&mut self, node: usize) {
        let identity = self.nodes[node].identity.clone();
        self.nodes[node].transport = self.transport(&identity, 1);
        self.nodes[node].mesh = Recorder::default();
    }

    pub(super) fn now(&self) -> Now {
        Now::new(
            MonoTime::from_nanos(self.now),
            WallTime::from_unix_nanos(1_700_000_000 * SECOND + self.now),
        )
    }

    pub(super) fn peer(&self, node: usize) -> PeerId {
        self.nodes[node].identity.id()
    }

    pub(super) fn command(&mut self, node: usize, command: LinkCommand) {
        let now = self.now();
        self.nodes[node].transport.handle_command(now, command);
        self.drain(node);
    }

    pub(super) fn dial(&mut self, node: usize, dial: u64, peer: usize, addresses: &[SocketAddr]) {
        let peer = self.peer(peer);
        let addresses = addresses.to_vec();
        self.command(node, LinkCommand::Dial { dial: DialHandle(dial), peer, addresses });
    }

    /// Connects the first two nodes and returns the link as each of them sees it.
    pub(super) fn connect(&mut self) -> (LinkHandle, LinkHandle) {
        self.dial(0, 1, 1, &[address(1)]);
        let up = self.run_until(10 * SECOND, |net| {
            !net.nodes[0].mesh.up.is_empty() && !net.nodes[1].mesh.up.is_empty()
        });
        assert!(up, "{:?} {:?}", self.nodes[0].mesh.heard, self.nodes[1].mesh.heard);
        (self.nodes[0].mesh.up[0].0, self.nodes[1].mesh.up[0].0)
    }

    /// Queues frames and says so, as the mesh does: once, until all were pulled.
    pub(super) fn send(
        &mut self,
        node: usize,
        link: LinkHandle,
        frames: impl IntoIterator<Item = (Lane, Frame)>,
    ) {
        let mesh = &mut self.nodes[node].mesh;
        let first = mesh.queued(link) == 0;
        for (lane, frame) in frames {
            mesh.queues.entry(link).or_default().entry(lane).or_default().push_back(frame);
        }
        if first {
            self.command(node, LinkCommand::FramesReady { link });
        }
    }

    /// Closes a link as the mesh does: forgetting it at once.
    pub(super) fn close(&mut self, node: usize, link: LinkHandle) {
        self.nodes[node].mesh.up.retain(|(up, _)| *up != link);
        self.command(
            node,
            LinkCommand::Close { link, code: CloseCode::DISCONNECTED, flush: false },
        );
    }

    /// Drains a node as the contract says.
    pub(super) fn drain(&mut self, node: usize) {
        let now = self.now();
        let Node { transport, mesh, alive, .. } = &mut self.nodes[node];
        if !*alive {
            return;
        }
        while let Some(event) = transport.poll_event() {
            let up = match event {
                LinkInput::Up { link, .. } => Some(link),
                _ => None,
            };
            mesh.hear(event);
            if let Some(link) = up.filter(|_| self.trusting) {
                transport.handle_command(now, LinkCommand::Trust { link });
            }
        }
        transport.flush(now, mesh);
        let mut buf = std::mem::take(&mut self.buf);
        while let Some(transmit) = self.nodes[node].transport.poll_transmit(now, 10, &mut buf) {
            assert!(transmit.size <= super::super::BATCH_BYTES_MAX);
            self.batches += 1;
            let segment = transmit.segment_size.unwrap_or(transmit.size);
            for data in buf[..transmit.size].chunks(segment) {
                self.launch(self.nodes[node].address, transmit.destination, data);
            }
        }
        self.buf = buf;
    }

    /// Sends a datagram on its way.
    pub(super) fn launch(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        self.largest = self.largest.max(data.len());
        self.digest.update(&self.now.to_le_bytes());
        self.digest.update(to.to_string().as_bytes());
        self.digest.update(data);
        if self.chance(self.path.loss_per_mille) || data.len() > self.path.udp_payload_bytes_max {
            return;
        }
        let copies = 1 + u64::from(self.chance(self.path.duplicate_per_mille));
        for _ in 0..copies {
            let jitter = match self.path.jitter {
                0 => 0,
                jitter => self.rng.next_u64() % jitter,
            };
            let at = self.now + self.path.latency + jitter;
            self.sent += 1;
            let mut data = BytesMut::from(data);
            if self.chance(self.path.damage_per_mille) {
                let bit = self.rng.next_u64() as usize % (8 * data.len());
                data[bit / 8] ^= 1 << (bit % 8);
            }
            self.flights.insert((at, self.sent), Flight { to, from, data });
        }
    }

    /// What is on its way.
    pub(super) fn in_flight(&self) -> Vec<Vec<u8>> {
        self.flights.values().map(|flight| flight.data.to_vec()).collect()
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.rng.next_u64() % 1_000 < per_mille
    }

    /// Lets the next thing happen. Returns false when nothing is left before `until`.
    fn step(&mut self, until: u64) -> bool {
        let arrival = self.flights.keys().next().map(|(at, _)| *at);
        let waking = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.alive)
            .filter_map(|(index, node)| Some((node.transport.poll_timeout()?.as_nanos(), index)))
            .min();
        let next = arrival.into_iter().chain(waking.map(|(at, _)| at)).min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now();
        if arrival == Some(next) {
            let (_, flight) = self.flights.pop_first().expect("an arrival");
            let node = self.nodes.iter().position(|node| node.address == flight.to);
            if let Some(node) = node.filter(|node| self.nodes[*node].alive) {
                let datagram =
                    Datagram { from: flight.from, local_ip: None, ecn: None, data: flight.data };
                match &mut self.held {
                    Some((held, datagrams)) if *held == node => datagrams.push(datagram),
                    _ => {
                        self.nodes[node].transport.handle_datagram(now, datagram);
                        self.drain(node);
                    }
                }
            }
        } else if let Some((_, node)) = waking {
            self.nodes[node].transport.handle_timeout(now);
            self.drain(node);
        }
        true
    }

    /// Runs until `done` or for so many nanoseconds. Returns whether it was done.
    pub(super) fn run_until(&mut self, nanos: u64, mut done: impl FnMut(&Net) -> bool) -> bool {
        let until = self.now + nanos;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(until) {
                return done(self);
            }
        }
    }

    pub(super) fn run(&mut self, duration: Duration) {
        self.run_until(duration.as_nanos() as u64, |_| false);
    }

    /// A hash over every datagram that was sent, its time and its destination.
    pub(super) fn digest(&self) -> String {
        let digest = self.digest.clone().finish();
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
