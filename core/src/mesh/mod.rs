//! Wires the machines together over abstract links. Wiring only, no policy.
//!
//! [`Mesh`] is the door for embedders that bring their own authenticated transport; [`crate::Node`]
//! adds QUIC. The contract is the same at both:
//!
//! 1. Tell it what happened: [`Mesh::handle_link`], [`Mesh::handle_timeout`], or a command such as
//!    [`Mesh::call`]. Each takes the time; time never goes back.
//! 2. Drain what it wants: [`Mesh::poll_link_command`] and [`Mesh::poll_event`] until both are empty,
//!    and pull frames through [`FrameSource`](crate::link::FrameSource) as the transport has room. Who stores anything drains
//!    [`Mesh::poll_store`] too, and answers with [`Mesh::handle_store`].
//! 3. Come back at [`Mesh::next_wake`], or earlier with the next thing that happened.
//!
//! Polling takes from a queue and changes nothing else. Nothing here blocks, allocates threads, reads
//! a clock or panics on what a peer sent.
//!
//! Inside, every effect of every machine goes through one first-in-first-out queue and is matched to
//! the next machine's input here, breadth first; that order is part of the behaviour. One input causes
//! at most [`Limits::steps_per_input_max`] steps; what is left stays queued, and [`Mesh::next_wake`]
//! says "now".

mod acceptors;
mod access;
mod command;
mod directory;
mod drain;
mod event;
mod events;
mod health;
mod hedges;
mod leases;
mod links;
mod look;
mod outbound;
mod pull;
mod retries;
mod store;
mod unverified;
mod vitals;
mod waiting;
mod wake;
mod watch;
mod wiring;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use crate::auth::{Access, AccessInput, AccessTimer, LifeRecord};
use crate::base::{
    Allowance, Bound, CallKey, CallTag, Draws, FewMap, Identity, Incarnation, KeyMap, Label,
    Limits, MonoTime, Now, PeerId, PeerKey, PeerTag, Refusals, Slab, TimerQueue,
};
use crate::directory::numbers::{EVENT_BITS, Numbers};
use crate::directory::{LocalServices, Publisher, RemoteServices, Replicas};
use crate::events::Subscriptions;
use crate::events::decisions::Decisions;
use crate::events::interest::Interest;
use crate::events::plan::Plans;
use crate::events::publications::Publications;
use crate::events::receiver::Receiver;
use crate::events::sender::Sender;
use crate::link::{DialHandle, Lane, LinkCommand, LinkHandle, LinkInput};
use crate::machine::{TimerHandle, Timers};
use crate::payload::detached;
use crate::peer::lanes::Lanes;
use crate::peer::{Admission, LocalNode, Peer, PeerInput};
use crate::planted::is_planted;
use crate::rpc::budget::Budget;
use crate::rpc::{Callee, Caller};
use crate::store::journal::Journal;
use crate::store::{StoreRequest, Stored};
use crate::topic::TopicMemory;
use crate::wire::{self, DocumentKind, Message, VERSION_MIN, VERSION_NEXT};

pub use acceptors::AcceptorsInfo;
pub use command::{CallRequest, CommandError, Target};
pub use event::{Event, Invocation};
pub use events::Subscribed;
pub use health::InstanceStats;
pub use leases::LeaseSettings;
use leases::Leases;
pub use look::Load;
use outbound::Outbound;
use unverified::Unverified;
use wake::NodeTimer;
pub use wake::{Wake, WakeReason};
pub use watch::{FrameWatch, PassingFrame, Way};
use wiring::Work;

/// What makes a node the node it is.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// The key pair of this node, with which it signs its lives. The transport proves to peers that it holds the key.
    pub identity: Identity,
    /// The least counter of this life; at most [`Incarnation::COUNTER_MAX`]. Peers refuse a life older than one
    /// they know, so without a store it must grow at every start of this node.
    pub incarnation_counter: u64,
    /// What earlier lives have stored, from an embedder that stores what [`Mesh::poll_store`] gives: the counter
    /// of this life is then more than that of the last one, whatever clocks say. None from one that does not.
    pub stored: Option<Stored>,
    /// All randomness follows from it. A production node draws it from the operating system.
    pub seed: [u8; 32],
    /// Who may connect.
    pub admission: Admission,
    /// The networks that the node is in, and what their tokens allow. Made for this id.
    pub access: Access,
    /// Who accepts leases of single-active services, and how long they last.
    pub leases: LeaseSettings,
    /// Every bound.
    pub limits: Limits,
}

/// What a change of a document counts for at least, in bytes: a small one costs about as much to apply. A guess.
const DOCUMENT_BYTES_MIN: usize = 512;

/// How long handlers that run and calls that are open may go on once the node stops. A guess.
pub const SHUTDOWN_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// A wall clock that is off by more than this, and by more than an eighth of the time that has passed, was
/// set. Slewing changes its rate by less than a tenth.
const CLOCK_STEP_MIN: std::time::Duration = std::time::Duration::from_secs(1);

/// How often peers that nothing holds any more are looked for.
const SWEEP_INTERVAL: std::time::Duration = std::time::Duration::from_secs(30);

/// A node that is shown a later life of its own begins its next one at most this often. A guess.
const LIFE_LEAST: std::time::Duration = std::time::Duration::from_secs(10);

/// One machine's view of the node's timer queue.
struct Own<'a, T, W: Fn(T) -> NodeTimer> {
    queue: &'a mut TimerQueue<NodeTimer>,
    wrap: W,
    of: std::marker::PhantomData<fn(T)>,
}

impl<T, W: Fn(T) -> NodeTimer> Timers<T> for Own<'_, T, W> {
    fn arm(&mut self, at: MonoTime, what: T) -> TimerHandle {
        TimerHandle(self.queue.arm(at, (self.wrap)(what)).to_u64())
    }

    fn disarm(&mut self, timer: TimerHandle) {
        self.queue.disarm(crate::base::Key::from_u64(timer.0));
    }
}

/// Feeds one input to one machine, with its own context, and its effects to the work queue.
macro_rules! feed {
    ($mesh:ident, $machine:expr, $view:expr, $input:expr, $timer:expr, $effect:expr) => {{
        let mut timers =
            Own { queue: &mut $mesh.timers, wrap: $timer, of: std::marker::PhantomData };
        let mut cx = Context::new($mesh.now, &mut $mesh.draws, &mut timers, &mut $mesh.refusals);
        let work = &mut $mesh.work;
        let mut sink = |effect| work.push_back($effect(effect));
        $machine.handle(&mut cx, $view, $input, &mut Effects::new(&mut sink));
    }};
}
use feed;

#[derive(Clone)]
struct PeerEntry {
    id: PeerId,
    machine: Peer,
    /// What is sent and received on its links, in their order.
    lanes: Lanes<Message>,
    /// Links that have just gone, with own lanes of which nobody knows whether they came.
    uncertain: Vec<LinkHandle>,
    /// Where it asked last. Answers go there: a link that is newer here may be dead at its end.
    asked_on: Option<LinkHandle>,
    /// The largest payload that it accepts, in bytes, as it said last.
    accepts_bytes: usize,
    /// How much of its documents may come.
    documents: Allowance,
    /// Since when events pass it over for want of room, or since it acknowledged something after that.
    lags_since: Option<MonoTime>,
    /// Which key has handed on the rights that it came with, if one has: it is counted under that.
    delegator: Option<Box<PeerId>>,
}

#[derive(Clone)]
struct LinkEntry {
    peer: PeerKey,
    remote: Option<SocketAddr>,
    /// Apart, for tables hold room for several links.
    out: Box<Outbound>,
}

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// No new work; what runs may end.
    Stopping,
    Stopped,
}

/// The node without a transport: machines over abstract links. See the module's documentation.
#[derive(Clone)]
pub struct Mesh {
    limits: Limits,
    local: LocalNode,
    identity: Identity,
    /// The present life, signed.
    life: LifeRecord,
    now: Now,
    draws: Draws,
    timers: TimerQueue<NodeTimer>,
    /// What bounds have refused.
    refusals: Refusals,
    work: VecDeque<Work>,
    phase: Phase,
    sweeping: bool,
    /// When this life began, if that a peer knew a later one was why.
    life_told_at: Option<MonoTime>,
    /// A peer knows this counter of ours: the next life begins beyond it. Boxed, as it is rare.
    life_asked: Option<Box<(u64, PeerId)>>,

    peers: Slab<PeerEntry, PeerTag>,
    by_id: FewMap<PeerId, PeerKey>,
    links: FewMap<LinkHandle, LinkEntry>,
    dials: FewMap<DialHandle, PeerKey>,
    next_dial: u64,
    /// Accepted links that were not greeted, oldest first.
    unverified: Unverified,
    /// Calls that wait for a way.
    held: BTreeMap<CallKey, waiting::Held>,
    /// Peers whose rights one key has handed on.
    delegated: BTreeMap<PeerId, usize>,
    /// Bytes of frames that wait behind a cut, of all peers.
    held_bytes: usize,

    services: LocalServices,
    publisher: Publisher,
    replicas: Replicas,
    remote: RemoteServices,
    routed: KeyMap<CallTag, directory::Routed>,
    /// For calls that choose no instance.
    budget: Budget,
    retries: u64,
    hedges: u64,
    looks: vitals::Looks,
    caller: Caller,
    callee: Callee,
    access: Access,

    subscriptions: Subscriptions,
    interest: Interest,
    plans: Plans,
    /// What was decided of the events that came last.
    decisions: Decisions,
    /// Where the payloads of events are copied to.
    payloads: events::Payloads,
    /// The paths that came last.
    paths: TopicMemory,
    sender: Sender,
    receiver: Receiver,
    publications: Publications,
    /// None before a group, or a peer without room, has needed it: most nodes have neither.
    rare_events: Option<Box<events::RareEvents>>,
    /// The node stops, and has said which events have come.
    last_ack_said: bool,
    /// Sequences of the events that are published here.
    event_numbers: Numbers,

    leases: Leases,
    journal: Journal,
    /// The request by which the present life is stored.
    life_request: u64,

    link_commands: VecDeque<LinkCommand>,
    events: VecDeque<Event>,
    /// Who sees the frames.
    watch: Option<FrameWatch>,
}

impl Mesh {
    /// A mesh that knows nobody. Give its own time; it never looks at a clock.
    ///
    /// # Panics
    ///
    /// When `access` was made for another id.
    pub fn new(now: Now, config: MeshConfig) -> Mesh {
        let id = config.identity.id();
        assert_eq!(config.access.id(), id, "the rights are this node's own");
        let mut draws = Draws::new(config.seed);
        let more = if is_planted(91) { 0 } else { 1 };
        let after = config.stored.as_ref().and_then(Stored::life).map_or(0, |life| life + more);
        let counter = config.incarnation_counter.max(after).min(Incarnation::COUNTER_MAX);
        let incarnation = Incarnation { counter, boot: draws.number(Label::Boot) };
        let hash_seed = draws.number(Label::Hash);
        let mut limits = config.limits;
        if let Some(bytes) = config.access.message_bytes_max() {
            limits.message_bytes_max = limits.message_bytes_max.min(bytes);
        }
        let mut access = config.access;
        let single_network = access.is_single();
        access.remember_at_most(limits.verified_tokens_max);
        let mut mesh = Mesh {
            local: LocalNode {
                id,
                incarnation,
                admission: config.admission,
                call_credit: u32::try_from(limits.calls_served_per_peer_max).unwrap_or(u32::MAX),
                message_bytes_max: limits.message_bytes_max,
                links_per_peer_max: limits.links_per_peer_max,
                drain_max: limits.drain_max.max(Limits::DRAIN_MAX_LEAST),
                version_max: limits.protocol_version_max.clamp(VERSION_MIN, VERSION_NEXT),
                stopping: false,
            },
            life: LifeRecord::sign(&config.identity, incarnation),
            identity: config.identity,
            now,
            draws,
            timers: TimerQueue::default(),
            refusals: Refusals::default(),
            work: VecDeque::new(),
            phase: Phase::Running,
            sweeping: false,
            life_told_at: None,
            life_asked: None,
            peers: Slab::default(),
            by_id: FewMap::default(),
            links: FewMap::default(),
            dials: FewMap::default(),
            next_dial: 0,
            unverified: Unverified::default(),
            held: BTreeMap::new(),
            delegated: BTreeMap::new(),
            held_bytes: 0,
            services: LocalServices::new(),
            publisher: Publisher::new(&limits),
            replicas: Replicas::new(&limits),
            remote: RemoteServices::keyed(hash_seed),
            routed: KeyMap::default(),
            budget: Budget::new(now.mono),
            retries: 0,
            hedges: 0,
            looks: vitals::Looks::new(now.mono),
            caller: Caller::new(incarnation.boot, &limits),
            callee: Callee::new(incarnation.boot, &limits),
            access,
            subscriptions: Subscriptions::new(&limits),
            interest: Interest::keyed(hash_seed),
            plans: Plans::default(),
            decisions: Decisions::default(),
            payloads: events::Payloads::default(),
            paths: TopicMemory::default(),
            sender: Sender::new(&limits),
            receiver: Receiver::default(),
            publications: Publications::default(),
            rare_events: None,
            last_ack_said: false,
            event_numbers: Numbers::new(EVENT_BITS, single_network),
            leases: Leases::default(),
            journal: Journal::new(config.stored.is_some()),
            life_request: 0,
            link_commands: VecDeque::new(),
            events: VecDeque::new(),
            watch: None,
            limits,
        };
        mesh.store_life();
        // Begins to wait for the end of its own tokens.
        mesh.feed_access(AccessInput::Timer(AccessTimer::Own));
        mesh.open_registries(config.leases, config.stored.as_ref());
        mesh
    }

    // What happened.

    /// The time has come that [`Mesh::next_wake`] named, or any other.
    pub fn handle_timeout(&mut self, now: Now) {
        self.tick(now);
        // A clock that was set has effects of its own; housekeeping waits while there are any.
        self.run();
        while let Some(timer) = self.timers.expire(self.now.mono) {
            self.on_timer(timer);
        }
        self.run();
    }

    /// The transport reports.
    pub fn handle_link(&mut self, now: Now, input: LinkInput) {
        self.tick(now);
        match input {
            LinkInput::Up { link, peer, direction, remote } => {
                self.link_up(link, peer, direction, remote);
            }
            LinkInput::Frame { link, lane, frame } => self.frame(link, lane, frame),
            LinkInput::Down { link, reason } => {
                if let Some((peer, released)) = self.forget_link(link) {
                    self.feed_access(AccessInput::LinkGone(link));
                    self.feed_peer(peer, PeerInput::LinkDown { link, reason });
                    self.deliver(peer, released);
                    self.start_sweeping();
                }
            }
            LinkInput::DialFailed { dial, error } => {
                if let Some(peer) = self.dials.remove(&dial) {
                    self.feed_peer(peer, PeerInput::DialFailed { dial, error });
                    self.start_sweeping();
                }
            }
        }
        self.run();
    }

    fn frame(&mut self, link: LinkHandle, lane: Lane, frame: Bytes) {
        // A link that we have closed may still deliver what was on its way.
        let Some(entry) = self.links.get(&link) else { return };
        let peer = entry.peer;
        self.watched(Way::Received, peer, (link, lane), || frame.clone());
        let frame_bytes = frame.len();
        if let Some(kind) = wire::document_kind(&frame)
            && !self.takes_document(peer, link, kind, frame_bytes)
        {
            return;
        }
        let held = self.peers.get(peer).is_some_and(|entry| entry.lanes.holds_back(link, lane));
        // What is held back keeps no datagram alive with it.
        let frame = if held { detached(frame, 0) } else { frame };
        match wire::parse_with(frame, &self.limits, &mut self.paths) {
            Ok(message) => self.arrived(peer, link, lane, (message, frame_bytes)),
            Err(fault) => {
                self.feed_peer(peer, PeerInput::Fault { link, what: fault.to_string() });
            }
        }
    }

    /// Whether a document, or a part of one, may come now. To apply one costs far more than to send it: what is too much
    /// is dropped unread, and made up for once a heartbeat shows that it is missed.
    fn takes_document(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        kind: DocumentKind,
        bytes: usize,
    ) -> bool {
        let (rate, burst) =
            (self.limits.document_bytes_per_second_max, self.limits.document_bytes_burst_max);
        let Some(entry) = self.peers.get_mut(peer) else { return false };
        let costs = bytes.max(DOCUMENT_BYTES_MIN) as u64;
        if entry.documents.take(self.now.mono, costs, rate, burst) {
            return true;
        }
        self.refusals.count(Bound::DocumentBytes);
        if kind == DocumentKind::Confirm {
            // A link cannot do without it.
            self.turn_away(link, Bound::DocumentBytes);
        }
        false
    }

    // What it wants.

    /// The next thing for the transport to do.
    pub fn poll_link_command(&mut self) -> Option<LinkCommand> {
        self.link_commands.pop_front()
    }

    /// What the embedder is to store next, in this order. Nothing for one that stores nothing.
    pub fn poll_store(&mut self) -> Option<StoreRequest> {
        self.journal.poll()
    }

    /// The next thing for the application to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether [`Mesh::poll_event`] has something to give.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    fn tick(&mut self, now: Now) {
        // Mostly one of many inputs of a turn.
        if now == self.now {
            return;
        }
        // An embedder's clock that goes back must not upset the order of timers.
        let mono = now.mono.max(self.now.mono);
        let passed = mono.since(self.now.mono);
        let expected = self.now.wall + passed;
        let step = expected.as_unix_nanos().abs_diff(now.wall.as_unix_nanos());
        self.now = Now { mono, wall: now.wall };
        // A clock that is slewed drifts; one that is set jumps.
        let bound = CLOCK_STEP_MIN.as_nanos().max(passed.as_nanos() / 8);
        let is_stopped = self.phase == Phase::Stopped;
        if u128::from(step) > bound && !is_stopped && !is_planted(48) {
            self.feed_access(AccessInput::ClockSet);
        }
    }
}

#[cfg(test)]
mod tests;
