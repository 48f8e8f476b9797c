//! A mesh among peers that the fuzzer plays: links come and go, peers say anything legal and anything
//! else, time passes or goes back, and the application asks for whatever it likes.
//!
//! After every step all is drained, every invariant is checked, and what the mesh says must fit what
//! it said before: a call ends once, a run is cancelled once, nothing follows the end of the node. At
//! the end every link is gone and much time passes, and nothing may be left.

mod application;
mod checks;
mod events;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dunlin_core::auth::Access;
use dunlin_core::base::{CallKey, InvocationKey, ServiceKey};
use dunlin_core::directory::Hook;
use dunlin_core::link::{
    CloseCode, DialError, DialHandle, Direction, DownReason, End, FrameSource, Lane, LinkHandle,
    LinkId, LinkInput,
};
use dunlin_core::peer::Admission;
use dunlin_core::wire::{self, VERSION_NEXT};
use dunlin_core::{Limits, Mesh, MeshConfig, MonoTime, Now, PeerId, WallTime};

use crate::life::IDENTITY;
use crate::rights;
use crate::tape::Tape;
use events::Events;

/// The steps of a program.
#[allow(missing_docs)]
pub mod op {
    pub const LINK_UP: u8 = 0;
    pub const LINK_DOWN: u8 = 1;
    pub const DIAL_FAILED: u8 = 2;
    pub const RAW: u8 = 3;
    pub const HELLO: u8 = 4;
    pub const CONFIRM: u8 = 5;
    pub const DIRECTORY: u8 = 6;
    pub const CALL: u8 = 7;
    pub const REPLY: u8 = 8;
    pub const CANCEL: u8 = 9;
    pub const PULL: u8 = 10;
    pub const TIME: u8 = 11;
    pub const BACK: u8 = 12;
    pub const WAKE: u8 = 13;
    pub const CONNECT: u8 = 14;
    pub const DISCONNECT: u8 = 15;
    pub const START_CALL: u8 = 16;
    pub const CANCEL_CALL: u8 = 17;
    pub const RESPOND: u8 = 18;
    pub const ADD_SERVICE: u8 = 19;
    pub const HOOK_DONE: u8 = 20;
    pub const PAUSE: u8 = 21;
    pub const RESUME: u8 = 22;
    pub const STOP_SERVICE: u8 = 23;
    pub const SHUTDOWN: u8 = 24;
    pub const GREET: u8 = 25;
    pub const DELTA: u8 = 26;
    pub const HEARD: u8 = 27;
    pub const HEARTBEAT: u8 = 28;
    pub const SUBSCRIBE: u8 = 29;
    pub const UNSUBSCRIBE: u8 = 30;
    pub const TAKE: u8 = 31;
    pub const PUBLISH: u8 = 32;
    pub const PUBLISH_MANY: u8 = 33;
    pub const INTEREST: u8 = 34;
    pub const EVENT: u8 = 35;
    pub const EVENTS: u8 = 36;
    pub const EVENTS_FROM: u8 = 37;
    pub const EVENTS_SKIPPED: u8 = 38;
    pub const EVENT_ACK: u8 = 39;
    pub const COUNT: usize = 40;
}

const STEPS_MAX: usize = 300;
const PEERS: usize = 4;
const SECOND: u64 = 1_000_000_000;
/// Longer than anything that a step can ask to be kept: 2^32 ms, and a tenth more.
const LONG: u64 = 60 * 24 * 3_600 * SECOND;
const PATHS: [&str; 5] = ["math/add", "math/sub", "echo/x/say", "n:math/add", "nobody/there"];
const SERVICES: [(&str, &[&str]); 3] = [
    ("math", &["math/add", "math/*"]),
    ("echo", &["echo/{who}/say", "echo/>"]),
    ("n:math", &["n:math/add"]),
];

/// Runs a program; its first byte chooses the limits and who may connect.
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

/// This node's for 0.
pub(crate) fn peer_id(peer: usize) -> PeerId {
    if peer == 0 { IDENTITY.id() } else { PeerId::from_bytes([peer as u8 + 1; 32]) }
}

fn limits(choice: u8) -> Limits {
    if choice & 1 == 0 {
        return Limits::default();
    }
    Limits {
        message_bytes_max: 64,
        own_lane_from_bytes: 24,
        peers_max: 3,
        links_max: 4,
        half_open_per_address_max: 2,
        half_open_max: 2,
        unverified_links_per_address_max: 2,
        unverified_links_max: 3,
        peers_per_issuer_max: 2,
        links_per_peer_max: 2,
        protocol_version_max: VERSION_NEXT,
        leases_per_issuer_max: 2,
        document_bytes_per_second_max: 1_000,
        document_bytes_burst_max: 2_000,
        events_ack_patience: Duration::from_secs(30),
        frames_held_per_peer_max: 4,
        held_bytes_per_peer_max: 2_000,
        held_bytes_max: 3_000,
        drain_max: Limits::DRAIN_MAX_LEAST,
        calls_open_max: 5,
        calls_waiting_per_peer_max: 2,
        calls_served_per_peer_max: 2,
        invocations_max: 3,
        argument_bytes_max: 150,
        kept_answer_bytes_per_peer_max: 60,
        kept_answers_per_peer_max: 3,
        services_max: 2,
        services_per_peer_max: 2,
        actions_per_service_max: 2,
        subscriptions_max: 4,
        subscriptions_per_peer_max: 3,
        subscriber_events_max: 2,
        subscriber_bytes_max: 60,
        events_unacknowledged_max: 3,
        events_unacknowledged_bytes_max: 600,
        publications_open_max: 3,
        publish_waits_in_vain_max: 1,
        publish_wait_interval_ms: 10_000,
        events_lent_max: 3,
        events_lent_bytes_max: 2_000,
        removals_kept_max: 1,
        updates_unacknowledged_max: 2,
        verified_tokens_max: 1,
        leases_max: 2,
        lease_standbys_max: 1,
        heartbeat_interval: Duration::from_secs(3),
        call_timeout_max: Duration::from_secs(50),
        steps_per_input_max: if choice & 2 == 0 { 10_000 } else { 3 },
    }
}

struct Link {
    handle: LinkHandle,
    peer: usize,
    /// Whether the mesh has said that there are frames to pull.
    announced: bool,
    boot: Option<u64>,
    /// What the peer calls it. The counter of a link that the peer dialled is that of its Hello.
    name: LinkId,
}

struct World {
    mesh: Mesh,
    limits: Limits,
    mono: u64,
    /// How far the clock that the mesh is shown lies behind.
    behind: u64,
    links: Vec<Link>,
    links_made: u64,
    dials: Vec<(DialHandle, PeerId)>,
    calls: BTreeSet<CallKey>,
    runs: BTreeSet<InvocationKey>,
    hooks: Vec<(ServiceKey, Hook)>,
    services: BTreeSet<ServiceKey>,
    up: BTreeSet<PeerId>,
    /// Whom the application wants to stay connected to.
    kept: BTreeSet<usize>,
    /// Until when each call of a peer's life must not run again.
    ran: BTreeMap<(u8, u64, u64), u64>,
    stopped: bool,
    events: Events,
}

impl World {
    fn new(choice: u8) -> World {
        let limits = limits(choice);
        let admission = match choice & 4 {
            0 => Admission::Anyone,
            _ => Admission::Listed([peer_id(1), peer_id(2)].into()),
        };
        let config = MeshConfig {
            identity: IDENTITY.clone(),
            incarnation_counter: 1,
            stored: None,
            seed: [choice; 32],
            admission,
            access: match choice & 8 {
                0 => Access::development(&peer_id(0)),
                _ => rights::access(),
            },
            leases: Default::default(),
            limits: limits.clone(),
        };
        World {
            mesh: Mesh::new(Now::default(), config),
            limits,
            mono: 0,
            behind: 0,
            links: Vec::new(),
            links_made: 0,
            dials: Vec::new(),
            calls: BTreeSet::new(),
            runs: BTreeSet::new(),
            hooks: Vec::new(),
            services: BTreeSet::new(),
            up: BTreeSet::new(),
            kept: BTreeSet::new(),
            ran: BTreeMap::new(),
            stopped: false,
            events: Events::default(),
        }
    }

    fn now(&self) -> Now {
        let mono = self.mono.saturating_sub(self.behind);
        Now::new(MonoTime::from_nanos(mono), WallTime::from_unix_nanos(mono / 3))
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        let now = self.now();
        match tape.pick(op::COUNT) as u8 {
            op::LINK_UP => self.link_up(tape),
            op::LINK_DOWN => {
                if self.links.is_empty() {
                    return;
                }
                let link = self.links.remove(tape.pick(self.links.len()));
                let reason = match tape.byte() {
                    0 => DownReason::TimedOut,
                    1 => DownReason::Reset,
                    2 => DownReason::Failed("fuzzed".into()),
                    code => DownReason::ClosedByPeer(CloseCode(u32::from(code) + 250)),
                };
                self.mesh.handle_link(now, LinkInput::Down { link: link.handle, reason });
            }
            op::DIAL_FAILED => {
                if self.dials.is_empty() {
                    return;
                }
                let (dial, _) = self.dials.remove(tape.pick(self.dials.len()));
                let error = match tape.pick(2) {
                    0 => DialError::TimedOut,
                    _ => DialError::WrongPeer,
                };
                self.mesh.handle_link(now, LinkInput::DialFailed { dial, error });
            }
            op::PULL => self.pull(tape),
            op::TIME => {
                let step = match tape.byte() {
                    n @ 0..100 => u64::from(n) * SECOND / 100,
                    n @ 100..250 => u64::from(n - 99) * SECOND,
                    n => LONG >> (n - 250),
                };
                self.mono += step;
                let now = self.now();
                self.mesh.handle_timeout(now);
            }
            op::BACK => self.behind = u64::from(tape.byte()) * SECOND,
            op::WAKE => {
                if let Some(wake) = self.mesh.next_wake() {
                    self.mono = self.mono.max(wake.at.as_nanos());
                    let now = self.now();
                    self.mesh.handle_timeout(now);
                }
            }
            which if self.peer_says(which, tape) => {}
            which if self.peer_says_of_events(which, tape) => {}
            which if self.application_asks(which, tape) => {}
            which => assert!(self.application_asks_of_events(which, tape), "no step {which}"),
        }
    }

    fn link_up(&mut self, tape: &mut Tape<'_>) {
        let choice = tape.byte();
        if choice & 0x80 == 0 || self.dials.is_empty() {
            return self.accept(usize::from(choice) % PEERS);
        }
        let (dial, peer) = self.dials.remove(usize::from(choice) % self.dials.len());
        let peer = usize::from(peer.as_bytes()[0] - 1);
        self.bring_up(peer, Direction::Dialled(dial));
    }

    fn accept(&mut self, peer: usize) {
        self.bring_up(peer, Direction::Accepted);
    }

    fn bring_up(&mut self, peer: usize, direction: Direction) {
        self.links_made += 1;
        let handle = LinkHandle(self.links_made);
        let name = match direction {
            Direction::Accepted => LinkId { dialler: End::Here, counter: 0, number: handle.0 },
            Direction::Dialled(dial) => {
                let counter = self.mesh.incarnation().counter;
                LinkId { dialler: End::There, counter, number: dial.0 }
            }
        };
        self.links.push(Link { handle, peer, announced: false, boot: None, name });
        let up = LinkInput::Up { link: handle, peer: peer_id(peer), direction, remote: None };
        self.mesh.handle_link(self.now(), up);
    }

    fn pull(&mut self, tape: &mut Tape<'_>) {
        let pick = usize::from(tape.byte());
        let mut count = tape.byte();
        let Some(index) = pick.checked_rem(self.links.len()) else { return };
        let link = self.links[index].handle;
        let mut from = Lane::CONTROL;
        while count > 0
            && let Some(lane) = self.mesh.next_lane(link, from)
        {
            assert!(lane >= from && lane.is_legal());
            while count > 0
                && let Some(frame) = self.mesh.pull_frame(link, lane)
            {
                count -= 1;
                let sent = wire::parse(frame.to_body(), &Limits::default());
                sent.expect("what the mesh sends is legal");
            }
            from = Lane(lane.0 + 1);
        }
        if self.mesh.next_lane(link, Lane::CONTROL).is_none() {
            self.links[index].announced = false;
        }
    }
}
