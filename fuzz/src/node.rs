//! Two whole nodes, QUIC included, over a network that the fuzzer controls.
//!
//! The fuzzer delivers, drops, repeats, damages and invents datagrams, lets time pass or go back, moves
//! and restarts nodes, and commands both. Packets whose tag is [`FORGED_TAG`] are accepted by the null
//! session in builds of the fuzzer, so damage reaches QUIC's frames and the lanes.
//!
//! For long, run it with `cargo fuzz run -O node`: without debug assertions, one of which in quinn-proto 0.11.19 is wrong
//! about paths that are given up (quinn-rs/quinn#2658).
//!
//! After every step both nodes are drained and all invariants are checked. At the end the network
//! heals: every call must end within its deadline, and both nodes must stop when told to.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::BytesMut;
use dunlin_core::auth::Access;
use dunlin_core::base::{CallKey, InvocationKey, ServiceKey};
use dunlin_core::directory::Hook;
use dunlin_core::directory::local::NewService;
use dunlin_core::peer::Admission;
use dunlin_core::rpc::callee::HandlerError;
use dunlin_core::service::Payload;
use dunlin_core::topic::{Pattern, TopicPath};
use dunlin_core::transport::{AddressValidation, Crypto, Datagram, Ecn, TransportConfig};
use dunlin_core::{
    CallRequest, Event, Identity, Limits, MonoTime, Node, NodeConfig, Now, Target, WakeReason,
    WallTime,
};

use crate::tape::Tape;

/// The steps of a program.
#[allow(missing_docs)]
pub mod op {
    pub const DELIVER: u8 = 0;
    pub const DELIVER_ALL: u8 = 1;
    pub const DROP: u8 = 2;
    pub const REPEAT: u8 = 3;
    pub const DAMAGE: u8 = 4;
    pub const FORGE: u8 = 5;
    pub const CUT: u8 = 6;
    pub const INJECT: u8 = 7;
    pub const TIME: u8 = 8;
    pub const BACK: u8 = 9;
    pub const WAKE: u8 = 10;
    pub const CONNECT: u8 = 11;
    pub const DISCONNECT: u8 = 12;
    pub const CALL: u8 = 13;
    pub const CANCEL: u8 = 14;
    pub const RESPOND: u8 = 15;
    pub const ADD_SERVICE: u8 = 16;
    pub const HOOK_DONE: u8 = 17;
    pub const SHUTDOWN: u8 = 18;
    pub const RUN: u8 = 19;
    pub const MOVE: u8 = 20;
    pub const RESTART: u8 = 21;
    pub const COUNT: usize = 22;
}

/// Stands for a right tag, wherever a packet was changed. `dunlin-core` accepts it under
/// `--cfg fuzzing` alone.
const FORGED_TAG: [u8; 16] = [0xf5; 16];

const STEPS_MAX: usize = 120;
const FLIGHTS_MAX: usize = 256;
const MS: u64 = 1_000_000;
/// No call waits longer.
const TIMEOUT_MAX_MS: u64 = 60_000;

static IDENTITIES: LazyLock<[Identity; 2]> =
    LazyLock::new(|| [Identity::from_secret([1; 32]), Identity::from_secret([2; 32])]);

/// Runs a program; its first byte chooses the settings.
pub fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    let mut world = World::new(tape.byte());
    for _ in 0..STEPS_MAX {
        if tape.is_empty() {
            break;
        }
        world.step(&mut tape);
        world.settle();
    }
    world.finish();
}

struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    data: Vec<u8>,
}

/// A node, and all that it has said and that is not answered yet.
struct Side {
    node: Node,
    address: SocketAddr,
    lives: u64,
    calls: BTreeSet<CallKey>,
    runs: BTreeSet<InvocationKey>,
    hooks: Vec<(ServiceKey, Hook)>,
    stopped: bool,
}

impl Side {
    fn new(which: usize, now: Now, choice: u8, lives: u64) -> Side {
        let mut limits = Limits::default();
        if choice & 1 != 0 {
            limits.message_bytes_max = 3_000;
            limits.own_lane_from_bytes = 200;
            limits.calls_served_per_peer_max = 2;
            limits.links_max = 3;
        }
        let mut transport = TransportConfig::for_simulation();
        if choice & 2 != 0 {
            transport.address_validation = AddressValidation::Always;
        }
        if choice & 4 != 0 {
            transport.lane_window_bytes = 1_500;
            transport.own_lanes_max = 1;
            transport.send_window_bytes = 4_000;
            transport.own_unwritten_bytes_max = 1_000;
            transport.reassembly_bytes_max = 1_000;
        }
        if choice & 8 != 0 {
            transport.udp_payload_initial_bytes = 1_200;
            transport.udp_payload_discovered_bytes_max = Some(1_452);
        }
        let seed = [which as u8 * 100 + lives as u8; 32];
        let config = NodeConfig {
            identity: IDENTITIES[which].clone(),
            incarnation_counter: lives,
            stored: None,
            seed,
            crypto: Crypto::null_for_simulation(seed),
            admission: Admission::Anyone,
            access: Access::development(&IDENTITIES[which].id()),
            leases: Default::default(),
            limits,
            transport,
        };
        Side {
            node: Node::new(now, config),
            address: SocketAddr::from(([10, 0, 0, 1 + which as u8], 1)),
            lives,
            calls: BTreeSet::new(),
            runs: BTreeSet::new(),
            hooks: Vec::new(),
            stopped: false,
        }
    }

    fn event(&mut self, event: Event) {
        assert!(!self.stopped, "{event:?} after the last event");
        match event {
            Event::CallEnded { call, .. } => {
                assert!(self.calls.remove(&call), "a call ends once");
            }
            Event::Invoke(run) => assert!(self.runs.insert(run.invocation), "keys of runs differ"),
            Event::InvocationCancelled(run) => {
                assert!(self.runs.remove(&run), "a run that goes on is cancelled, once");
            }
            Event::RunHook { service, hook } => self.hooks.push((service, hook)),
            Event::Stopped => {
                self.stopped = true;
                assert!(self.calls.is_empty(), "every call has ended");
            }
            Event::ServiceState { .. }
            | Event::SubscriptionReady(_)
            | Event::CallRetried { .. }
            | Event::CallHedged { .. }
            | Event::PublishRoom
            | Event::PublishEnded { .. }
            | Event::EventsLost { .. }
            | Event::GroupEventsLost { .. }
            | Event::SubscriptionOver(_)
            | Event::PeerUp { .. }
            | Event::PeerDown { .. }
            | Event::PeerServices { .. }
            | Event::DirectoryAcknowledged { .. }
            | Event::LinkSuperseded { .. }
            | Event::LifeBegan { .. }
            | Event::NewerSelf { .. }
            | Event::PeerRefused { .. }
            | Event::DialFailed { .. }
            | Event::PeerMisbehaved { .. }
            | Event::ClaimIgnored { .. }
            | Event::NetworkLeft { .. }
            | Event::NetworkEnded { .. }
            | Event::NetworkOutdated { .. }
            | Event::Leader { .. }
            | Event::AcceptorReady { .. }
            | Event::AcceptorsNamed { .. }
            | Event::AcceptorsOutdated { .. }
            | Event::StoreFailed { .. } => {}
        }
    }
}

struct World {
    sides: [Side; 2],
    choice: u8,
    mono: u64,
    /// How far the clock that the nodes are shown lies behind.
    behind: u64,
    flights: VecDeque<Flight>,
    buf: Vec<u8>,
}

impl World {
    fn new(choice: u8) -> World {
        let now = Now::default();
        World {
            sides: [Side::new(0, now, choice, 1), Side::new(1, now, choice, 1)],
            choice,
            mono: 0,
            behind: 0,
            flights: VecDeque::new(),
            buf: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        let mono = self.mono.saturating_sub(self.behind);
        Now::new(MonoTime::from_nanos(mono), WallTime::from_unix_nanos(mono))
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        let now = self.now();
        let op = tape.pick(op::COUNT) as u8;
        match op {
            op::DELIVER..=op::CUT => return self.network(op, tape),
            op::INJECT => {
                let which = tape.byte();
                let to = self.sides[usize::from(which & 1)].address;
                let from = match which & 2 {
                    0 => self.sides[usize::from(!which & 1)].address,
                    _ => SocketAddr::from(([10, 0, 9, 9], 9)),
                };
                let mut data = tape.bytes().to_vec();
                // QUIC ignores a first packet that is not padded.
                data.resize(data.len().max(usize::from(which >> 2) * 40), 0);
                self.deliver(Flight { from, to, data });
            }
            op::TIME => {
                self.mono += match tape.byte() {
                    n @ 0..200 => u64::from(n) * MS,
                    n => u64::from(n - 199) * 1_000 * MS,
                };
                self.wake_both();
            }
            op::BACK => self.behind = u64::from(tape.byte()) * 100 * MS,
            op::WAKE => {
                if let Some(at) = self.next_wake() {
                    self.mono = self.mono.max(at);
                    self.wake_both();
                }
            }
            op::RUN => {
                for _ in 0..=tape.byte() % 64 {
                    self.run_a_little();
                }
            }
            _ => {}
        }
        let which = usize::from(tape.byte() & 1);
        let other_id = IDENTITIES[1 - which].id();
        let other_address = self.sides[1 - which].address;
        let side = &mut self.sides[which];
        match op {
            op::CONNECT => {
                // The node may be stopping.
                let _ = side.node.mesh_mut().connect(now, other_id, vec![other_address]);
            }
            op::DISCONNECT => side.node.mesh_mut().disconnect(now, other_id),
            op::CALL => {
                let path = TopicPath::parse("echo/say").expect("a path");
                let bytes = usize::from(tape.byte()) * 40;
                let mut request = CallRequest::new(path, Payload::raw(vec![5; bytes]));
                let flags = tape.byte();
                request.idempotent = flags & 1 != 0;
                if flags & 2 != 0 {
                    request.target = Target::Peer(other_id);
                }
                let millis = (u64::from(flags >> 2) * 1_000).min(TIMEOUT_MAX_MS);
                request.timeout = Duration::from_millis(millis);
                if let Ok(call) = side.node.mesh_mut().call(now, request) {
                    assert!(side.calls.insert(call), "keys of open calls differ");
                }
            }
            op::CANCEL => {
                let calls: Vec<_> = side.calls.iter().copied().collect();
                if let Some(call) = tape.pick_in(&calls) {
                    side.node.mesh_mut().cancel(now, *call);
                }
            }
            op::RESPOND => {
                let runs: Vec<_> = side.runs.iter().copied().collect();
                if let Some(run) = tape.pick_in(&runs) {
                    let result = match tape.byte() {
                        255 => Err(HandlerError::Failed("it panicked".into())),
                        254 => Err(HandlerError::application("CODE", "text")),
                        bytes => Ok(Payload::raw(vec![9; usize::from(bytes) * 40])),
                    };
                    side.runs.remove(run);
                    side.node.mesh_mut().respond(now, *run, result);
                }
            }
            op::ADD_SERVICE => {
                let service = NewService::new(
                    TopicPath::parse("echo").expect("a path"),
                    vec![Pattern::parse("echo/*").expect("a pattern")],
                );
                // It may be there already.
                let _ = side.node.mesh_mut().add_service(now, service);
            }
            op::HOOK_DONE => {
                for (service, hook) in std::mem::take(&mut side.hooks) {
                    side.node.mesh_mut().hook_done(now, service, hook, Ok(()));
                }
            }
            op::SHUTDOWN => side.node.mesh_mut().shutdown(now),
            op::MOVE => {
                let port = 2 + u16::from(tape.byte());
                side.address.set_port(port);
            }
            op::RESTART => {
                let lives = side.lives + 1;
                *side = Side::new(which, now, self.choice, lives);
            }
            _ => {}
        }
    }

    fn network(&mut self, op: u8, tape: &mut Tape<'_>) {
        if op == op::DELIVER_ALL {
            for _ in 0..self.flights.len() {
                self.deliver_next();
            }
            return;
        }
        if self.flights.is_empty() {
            return;
        }
        let index = tape.pick(self.flights.len());
        match op {
            op::DELIVER => {
                let flight = self.flights.remove(index).expect("below its length");
                self.deliver(flight);
            }
            op::DROP => {
                self.flights.remove(index);
            }
            op::REPEAT => {
                let Flight { from, to, data } = &self.flights[index];
                let copy = Flight { from: *from, to: *to, data: data.clone() };
                self.flights.push_back(copy);
            }
            op::DAMAGE | op::FORGE => {
                let at = usize::from(tape.u16());
                let bytes = tape.bytes();
                let data = &mut self.flights[index].data;
                let payload = data.len().saturating_sub(FORGED_TAG.len());
                if payload == 0 {
                    return;
                }
                let at = at % payload;
                let end = payload.min(at + bytes.len());
                for (place, byte) in data[at..end].iter_mut().zip(bytes) {
                    *place = *byte;
                }
                if op == op::FORGE {
                    data[payload..].copy_from_slice(&FORGED_TAG);
                }
            }
            op::CUT => {
                let at = usize::from(tape.u16());
                let data = &mut self.flights[index].data;
                data.truncate(at % (data.len() + 1));
            }
            _ => unreachable!("only what the network does"),
        }
    }

    fn deliver_next(&mut self) {
        if let Some(flight) = self.flights.pop_front() {
            self.deliver(flight);
            self.drain();
        }
    }

    fn deliver(&mut self, flight: Flight) {
        let now = self.now();
        let Some(side) = self.sides.iter_mut().find(|s| s.address == flight.to) else { return };
        let data = BytesMut::from(&flight.data[..]);
        let ecn = (data.len() % 3 == 0).then_some(Ecn::Ect0);
        side.node.handle_datagram(now, Datagram { from: flight.from, local_ip: None, ecn, data });
    }

    fn wake_both(&mut self) {
        let now = self.now();
        for side in &mut self.sides {
            side.node.handle_timeout(now);
        }
        self.drain();
    }

    fn next_wake(&self) -> Option<u64> {
        let wakes = self.sides.iter().filter_map(|side| side.node.next_wake());
        wakes.map(|wake| wake.at.as_nanos()).min()
    }

    /// Delivers what is on its way, and lets time pass if nothing is.
    fn run_a_little(&mut self) {
        if !self.flights.is_empty() {
            for _ in 0..self.flights.len() {
                self.deliver_next();
            }
            self.mono += 5 * MS;
        } else if let Some(at) = self.next_wake() {
            self.mono = self.mono.max(at);
        }
        self.wake_both();
    }

    /// Takes everything that both nodes want said and sent.
    fn drain(&mut self) {
        let now = self.now();
        for side in &mut self.sides {
            while let Some(event) = side.node.poll_event(now) {
                side.event(event);
            }
            while let Some(transmit) = side.node.poll_transmit(now, 8, &mut self.buf) {
                let bytes = &self.buf[..transmit.size];
                let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
                for data in bytes.chunks(segment) {
                    if self.flights.len() < FLIGHTS_MAX {
                        let (from, to) = (side.address, transmit.destination);
                        self.flights.push_back(Flight { from, to, data: data.to_vec() });
                    }
                }
                while let Some(event) = side.node.poll_event(now) {
                    side.event(event);
                }
            }
        }
    }

    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 1_000, "work never ends");
            self.drain();
            let unfinished = self.sides.iter().any(|side| {
                side.node.next_wake().is_some_and(|wake| wake.reason == WakeReason::Unfinished)
            });
            if !unfinished {
                break;
            }
            self.wake_both();
        }
        for side in &self.sides {
            side.node.mesh().check_invariants();
            let load = side.node.mesh().load();
            assert_eq!(load.calls_open, side.calls.len(), "open calls are those not ended");
            if !side.stopped {
                assert_eq!(load.invocations, side.runs.len(), "runs are those not ended");
            }
            assert_eq!(load.links, side.node.transport().open_links(), "both know the same links");
        }
    }

    /// The network heals, and everybody does what he is asked.
    fn finish(&mut self) {
        self.mono = self.mono.max(self.behind) + MS;
        self.behind = 0;
        let until = self.mono + (TIMEOUT_MAX_MS + 1_000) * MS;
        self.run_until(until, |side| side.calls.is_empty());
        for side in &self.sides {
            assert!(side.calls.is_empty(), "every call has a deadline");
        }
        let now = self.now();
        for side in &mut self.sides {
            side.node.mesh_mut().shutdown(now);
        }
        // The grace of handlers, then three probe time-outs for those who close.
        self.run_until(self.mono + 30_000 * MS, |side| side.stopped && side.node.is_drained());
        for side in &self.sides {
            assert!(side.stopped, "a node that is to stop stops");
            assert!(side.node.is_drained(), "what stops lets its socket go");
        }
    }

    /// Lets time pass until both sides are done, or until the bound.
    fn run_until(&mut self, until: u64, done: impl Fn(&Side) -> bool) {
        let (mut stuck, mut last) = (0, self.mono);
        while self.mono < until && !self.sides.iter().all(&done) {
            let next = match self.flights.is_empty() {
                true => self.next_wake().unwrap_or(until),
                false => self.mono + MS,
            };
            let here = self.flights.len();
            for _ in 0..here {
                self.deliver_next();
            }
            let now = self.now();
            for side in &mut self.sides {
                for (service, hook) in std::mem::take(&mut side.hooks) {
                    side.node.mesh_mut().hook_done(now, service, hook, Ok(()));
                }
                for run in std::mem::take(&mut side.runs) {
                    side.node.mesh_mut().respond(now, run, Ok(Payload::raw("answer")));
                }
            }
            self.drain();
            self.mono = self.mono.max(next.min(until));
            stuck = if self.mono == last { stuck + 1 } else { 0 };
            last = self.mono;
            assert!(stuck < 1_000, "time stands still: {:?}", self.sides[0].node.next_wake());
            self.wake_both();
        }
        self.settle();
    }
}
