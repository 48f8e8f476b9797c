//! A mesh among peers that the fuzzer plays: links come and go, peers say anything legal and anything
//! else, time passes or goes back, and the application asks for whatever it likes.
//!
//! After every step all is drained, every invariant is checked, and what the mesh says must fit what
//! it said before: a call ends once, a run is cancelled once, nothing follows the end of the node. At
//! the end every link is gone and much time passes, and nothing may be left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::auth::{Access, NetworkClaim};
use dunlin_core::base::{CallKey, Incarnation, InvocationKey, ServiceKey};
use dunlin_core::directory::local::NewService;
use dunlin_core::directory::{
    Delta, Document, Entry, EntryKey, Heard, Heartbeat, Hook, OfferState, ServiceInfo, ServiceOffer,
};
use dunlin_core::link::{
    CloseCode, DialError, DialHandle, Direction, DownReason, FrameSource, Lane, LinkCommand,
    LinkHandle, LinkInput,
};
use dunlin_core::mesh::CommandError;
use dunlin_core::peer::Admission;
use dunlin_core::rpc::callee::HandlerError;
use dunlin_core::rpc::{AppError, Status};

use dunlin_core::service::{ContentType, Payload, PayloadError, Value};
use dunlin_core::topic::{Pattern, TopicPath};
use dunlin_core::wire::{self, CallMessage, Hello, Message, ReplyMessage};
use dunlin_core::{
    CallRequest, Event, Limits, Mesh, MeshConfig, MonoTime, Now, PeerId, Target, WakeReason,
    WallTime,
};

use crate::rights;
use crate::tape::Tape;

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
    pub const COUNT: usize = 29;
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

pub(crate) fn peer_id(peer: usize) -> PeerId {
    PeerId::from_bytes([peer as u8 + 1; 32])
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
        links_per_peer_max: 2,
        protocol_version_max: 2,
        frames_held_per_peer_max: 4,
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
        removals_kept_max: 1,
        updates_unacknowledged_max: 2,
        verified_tokens_max: 1,
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
}

/// A value that has no encoded form.
struct Unwritable;

impl Value for Unwritable {
    fn encode(&self) -> Result<(ContentType, Bytes), PayloadError> {
        Err(PayloadError::Encode { content: ContentType::JSON, why: "never".into() })
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
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
}

impl World {
    fn new(choice: u8) -> World {
        let limits = limits(choice);
        let admission = match choice & 4 {
            0 => Admission::Anyone,
            _ => Admission::Listed([peer_id(1), peer_id(2)].into()),
        };
        let config = MeshConfig {
            id: peer_id(0),
            incarnation_counter: 1,
            seed: [choice; 32],
            admission,
            access: match choice & 8 {
                0 => Access::development(&peer_id(0)),
                _ => rights::access(),
            },
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
            op::RAW => {
                let link = tape.byte();
                let lane = Lane(u64::from(tape.byte()) % 10);
                let frame = Bytes::copy_from_slice(tape.bytes());
                self.say(link, lane, frame);
            }
            op::HELLO => {
                let link = tape.byte();
                let hello = Hello {
                    version_min: u32::from(tape.byte() % 3),
                    version_max: u32::from(tape.byte() % 4),
                    incarnation: Incarnation {
                        counter: tape.number(),
                        boot: u64::from(tape.byte()),
                    },
                    call_credit: tape.number() as u32,
                    message_bytes_max: tape.number() as usize & 0xffff_ffff,
                    critical_capabilities: vec![1; tape.pick(8) / 7],
                    link: None,
                    abandons: Vec::new(),
                    observed_address: None,
                    networks: self.claims(link),
                };
                self.say_hello(link, hello);
            }
            op::CONFIRM => {
                let link = tape.byte();
                let version = u32::from(tape.byte() % 3);
                let directory = document(tape);
                self.say_message(
                    link,
                    Lane::CONTROL,
                    Message::Confirm { version, directory, link: None, receiver_boot: 0 },
                );
            }
            op::DIRECTORY => {
                let link = tape.byte();
                let document = document(tape);
                self.say_message(link, Lane::CONTROL, Message::Directory(document));
            }
            op::DELTA => {
                let link = tape.byte();
                let (base, ahead) = (tape.number().max(1), tape.byte());
                let (put, removed) = (tape.byte(), tape.byte());
                let put = offered(0, put, tape.byte());
                let delta = Delta {
                    base,
                    version: base.saturating_add(u64::from(ahead)),
                    removed: (1..=8u64)
                        .filter(|key| removed >> (key - 1) & 1 != 0)
                        .map(EntryKey::Service)
                        .filter(|key| !put.entries.contains_key(key))
                        .collect(),
                    put: put.entries.into_iter().collect(),
                };
                self.say_message(link, Lane::CONTROL, Message::Delta(delta));
            }
            op::HEARD => {
                let link = tape.byte();
                let heard = Heard { version: tape.number(), wants_whole: tape.byte() & 1 != 0 };
                self.say_message(link, Lane::CONTROL, Message::Heard(heard));
            }
            op::HEARTBEAT => {
                let link = tape.byte();
                let heartbeat = Heartbeat { version: tape.number(), digest: tape.number() };
                self.say_message(link, Lane::CONTROL, Message::Heartbeat(heartbeat));
            }
            op::CALL => self.peer_calls(tape),
            op::REPLY => {
                let link = tape.byte();
                let reply = ReplyMessage {
                    sequence: tape.number(),
                    caller_boot: match tape.pick(8) {
                        7 => 1,
                        _ => self.mesh.incarnation().boot,
                    },
                    status: Status::from_number(u32::from(tape.byte() % 18)),
                    content: ContentType::RAW,
                    error_code: "CODE".into(),
                    error_message: String::new(),
                    payload: Bytes::copy_from_slice(tape.bytes()),
                };
                let lane = Lane::shared(u64::from(tape.byte()));
                self.say_message(link, lane, Message::Reply(reply));
            }
            op::CANCEL => {
                let link = tape.byte();
                let (sequence, floor) = (tape.number(), tape.number());
                let lane = Lane::shared(u64::from(tape.byte()));
                self.say_message(link, lane, Message::Cancel { sequence, floor });
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
            op::CONNECT => {
                let peer = tape.pick(PEERS);
                let address = "10.0.0.1:1".parse().expect("an address");
                let addresses = vec![address; tape.pick(3)];
                let result = self.mesh.connect(now, peer_id(peer), addresses);
                match result {
                    Ok(()) => {
                        assert!(peer != 0);
                        self.kept.insert(peer);
                    }
                    Err(CommandError::OwnId(_)) => assert_eq!(peer, 0),
                    Err(CommandError::Stopping | CommandError::TooManyPeers(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            op::DISCONNECT => {
                let peer = tape.pick(PEERS);
                self.kept.remove(&peer);
                self.mesh.disconnect(now, peer_id(peer));
            }
            op::START_CALL => self.start_call(tape),
            op::CANCEL_CALL => {
                let calls: Vec<_> = self.calls.iter().copied().collect();
                if let Some(call) = tape.pick_in(&calls) {
                    self.mesh.cancel(now, *call);
                }
            }
            op::RESPOND => {
                let runs: Vec<_> = self.runs.iter().copied().collect();
                if let Some(run) = tape.pick_in(&runs) {
                    let result = handler_result(tape);
                    self.runs.remove(run);
                    self.mesh.respond(now, *run, result);
                }
            }
            op::ADD_SERVICE => {
                let (path, actions) = SERVICES[tape.pick(SERVICES.len())];
                let service = NewService {
                    path: TopicPath::parse(path).expect("a path"),
                    actions: actions
                        .iter()
                        .map(|action| Pattern::parse(action).expect("a pattern"))
                        .collect(),
                    info: ServiceInfo::default(),
                };
                if let Ok(key) = self.mesh.add_service(now, service) {
                    self.services.insert(key);
                }
            }
            op::HOOK_DONE => {
                if !self.hooks.is_empty() {
                    let (service, hook) = self.hooks.remove(tape.pick(self.hooks.len()));
                    let result = if tape.pick(5) == 4 { Err("fuzzed".into()) } else { Ok(()) };
                    self.mesh.hook_done(now, service, hook, result);
                }
            }
            which @ (op::PAUSE | op::RESUME | op::STOP_SERVICE) => {
                let services: Vec<_> = self.services.iter().copied().collect();
                if let Some(service) = tape.pick_in(&services) {
                    // Whether its state allows it is the mesh's to say.
                    let _ = match which {
                        op::PAUSE => self.mesh.pause_service(now, *service),
                        op::RESUME => self.mesh.resume_service(now, *service),
                        _ => self.mesh.stop_service(now, *service),
                    };
                }
            }
            op::SHUTDOWN => self.mesh.shutdown(now),
            op::GREET => {
                // A whole handshake, so that the rest of a program reaches further.
                let peer = 1 + tape.pick(PEERS - 1);
                let offers = tape.byte();
                self.accept(peer);
                self.settle();
                let link = self.links.len().saturating_sub(1) as u8;
                let hello = Hello {
                    version_min: 1,
                    version_max: 1,
                    incarnation: Incarnation { counter: 1, boot: 1 },
                    call_credit: 3,
                    message_bytes_max: 1_000,
                    critical_capabilities: Vec::new(),
                    link: None,
                    abandons: Vec::new(),
                    observed_address: None,
                    networks: self.claims(link),
                };
                self.say_hello(link, hello);
                self.settle();
                let directory = offered(1, offers, 0);
                let confirm =
                    Message::Confirm { version: 1, directory, link: None, receiver_boot: 0 };
                self.say_message(link, Lane::CONTROL, confirm);
            }
            _ => unreachable!("a pick is below its bound"),
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
        self.links.push(Link { handle, peer, announced: false, boot: None });
        let up = LinkInput::Up { link: handle, peer: peer_id(peer), direction, remote: None };
        self.mesh.handle_link(self.now(), up);
    }

    fn say(&mut self, link: u8, lane: Lane, frame: Bytes) {
        let count = self.links.len();
        if let Some(index) = usize::from(link).checked_rem(count) {
            let link = self.links[index].handle;
            self.mesh.handle_link(self.now(), LinkInput::Frame { link, lane, frame });
        }
    }

    fn say_message(&mut self, link: u8, lane: Lane, message: Message) {
        let frame = message.into_frame().expect("it says something");
        self.say(link, lane, frame.to_body());
    }

    /// What whoever is at the other end of a link claims.
    fn claims(&self, link: u8) -> Vec<NetworkClaim> {
        match usize::from(link).checked_rem(self.links.len()) {
            Some(index) if !self.mesh.access().is_development() => {
                rights::claims(self.links[index].peer)
            }
            _ => self.mesh.access().claims(self.now()),
        }
    }

    fn say_hello(&mut self, link: u8, hello: Hello) {
        if let Some(index) = usize::from(link).checked_rem(self.links.len()) {
            self.links[index].boot = Some(hello.incarnation.boot);
        }
        self.say_message(link, Lane::CONTROL, Message::Hello(hello));
    }

    fn peer_calls(&mut self, tape: &mut Tape<'_>) {
        let link = tape.byte();
        let sequence = tape.number();
        let floor = sequence.saturating_sub(u64::from(tape.byte())).max(1);
        let time_left = Duration::from_millis(tape.number() & 0xffff_ffff);
        let path = PATHS[tape.pick(PATHS.len())];
        let flags = tape.byte();
        let Some(index) = usize::from(link).checked_rem(self.links.len()) else { return };
        let link_state = &self.links[index];
        let mut payload = vec![link_state.peer as u8];
        payload.extend(link_state.boot.unwrap_or_default().to_le_bytes());
        payload.extend(sequence.to_le_bytes());
        payload.extend(self.mono.saturating_add(time_left.as_nanos() as u64).to_le_bytes());
        payload.resize(payload.len() + usize::from(flags & 15), 0);
        let call = CallMessage {
            sequence,
            floor,
            attempt: 1 + u32::from(flags >> 7),
            callee_boot: match flags & 0x70 {
                0x70 => 7,
                _ => self.mesh.incarnation().boot,
            },
            time_left,
            path: TopicPath::parse(path).expect("a path"),
            content: ContentType::RAW,
            payload: payload.into(),
        };
        self.say_message(link, Lane::shared(sequence), Message::Call(call));
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

    fn start_call(&mut self, tape: &mut Tape<'_>) {
        let path = PATHS[tape.pick(PATHS.len())];
        let mut request = CallRequest::new(
            TopicPath::parse(path).expect("a path"),
            match tape.byte() {
                255 => Payload::Value(Arc::new(Unwritable)),
                254 => Payload::value("a value"),
                bytes => Payload::raw(vec![7; usize::from(bytes)]),
            },
        );
        let flags = tape.byte();
        request.idempotent = flags & 1 != 0;
        if flags & 2 != 0 {
            request.target = Target::Peer(peer_id(usize::from(flags >> 2) % PEERS));
        }
        request.timeout = Duration::from_millis(250 * u64::from(tape.byte()));
        match self.mesh.call(self.now(), request) {
            Ok(call) => assert!(self.calls.insert(call), "keys of open calls differ"),
            Err(error) => assert!(
                matches!(
                    error,
                    CommandError::TooManyCalls { .. }
                        | CommandError::TooManyBytes { .. }
                        | CommandError::TooLarge { .. }
                        | CommandError::Stopping
                ),
                "{error}"
            ),
        }
    }

    /// Drains the mesh to the end and checks what it says.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "work never ends");
            self.drain();
            match self.mesh.next_wake() {
                Some(wake) if wake.reason == WakeReason::Unfinished => {
                    let now = self.now();
                    self.mesh.handle_timeout(now);
                }
                _ => break,
            }
        }
        self.mesh.check_invariants();
        let load = self.mesh.load();
        assert_eq!(load.calls_open, self.calls.len(), "open calls are those not ended");
        assert_eq!(load.links, self.links.len(), "links are those that are up");
        assert_eq!(load.dials, self.dials.len(), "dials are those asked for and not ended");
        assert_eq!(load.events_queued, 0);
        if !self.stopped {
            assert_eq!(load.invocations, self.runs.len(), "runs are those not ended");
        }
        for link in &self.links {
            if self.mesh.next_lane(link.handle, Lane::CONTROL).is_some() {
                assert!(link.announced, "frames that nobody was told of are never pulled");
            }
        }
        if self.limits.calls_open_max < 100 {
            // Control messages, calls and their cancelling, and answers, each once for each link.
            let bound = load.links * FRAMES_QUEUED_MAX;
            assert!(load.frames_queued <= bound, "{} frames wait", load.frames_queued);
        }
        // For each link its handshake, or two of its drain. For each peer a redial, a heartbeat and the end of
        // its rights; our own rights, the sweep and the grace of a stop.
        let timers =
            load.calls_open + load.invocations + load.publications + 2 * load.links + 3 * PEERS + 3;
        assert!(load.timers <= timers, "{} timers for {load:?}", load.timers);
    }

    fn drain(&mut self) {
        while let Some(command) = self.mesh.poll_link_command() {
            match command {
                LinkCommand::Dial { dial, peer, addresses } => {
                    assert!(!addresses.is_empty() && peer != peer_id(0));
                    assert!(self.dials.iter().all(|(d, _)| *d < dial), "dials count up");
                    self.dials.push((dial, peer));
                }
                LinkCommand::CancelDial { dial } => self.dials.retain(|(d, _)| *d != dial),
                LinkCommand::Close { link, .. } => {
                    let known = self.links.iter().position(|l| l.handle == link);
                    self.links.remove(known.expect("only links that are up are closed"));
                }
                LinkCommand::FramesReady { link } => {
                    if let Some(link) = self.links.iter_mut().find(|l| l.handle == link) {
                        link.announced = true;
                    }
                }
                LinkCommand::ResetLane { .. } => {}
            }
        }
        while let Some(event) = self.mesh.poll_event() {
            assert!(!self.stopped, "{event:?} after the last event");
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::CallEnded { call, .. } => {
                assert!(self.calls.remove(&call), "a call ends once");
            }
            Event::Invoke(run) => {
                assert!(self.runs.insert(run.invocation), "keys of runs differ");
                assert!(self.services.contains(&run.service));
                if let Some(caller) = run.caller
                    && !self.mesh.access().is_development()
                {
                    let wall = self.now().wall;
                    assert!(rights::may_call(caller, &run.path, wall), "a call without a right");
                }
                if run.caller.is_some()
                    && let Payload::Encoded { bytes, .. } = &run.payload
                    && bytes.len() >= 25
                {
                    let word = |at: usize| {
                        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
                    };
                    let until = self.ran.insert((bytes[0], word(1), word(9)), word(17));
                    // Who asks in good faith does not ask again after it has given up.
                    assert!(until.is_none_or(|until| until <= self.mono), "a call runs once");
                }
            }
            Event::InvocationCancelled(run) => {
                assert!(self.runs.remove(&run), "a run that goes on is cancelled, once");
            }
            Event::RunHook { service, hook } => self.hooks.push((service, hook)),
            Event::ServiceState { service, state, .. } => {
                use dunlin_core::directory::ServiceState::{Failed, Stopped};
                if matches!(state, Stopped | Failed) {
                    assert!(self.services.remove(&service), "a life ends once");
                }
            }
            Event::PeerUp { peer, .. } => assert!(self.up.insert(peer), "up once"),
            Event::PeerDown { peer, .. } => assert!(self.up.remove(&peer), "down once"),
            Event::SubscriptionReady(_)
            | Event::PublishRoom
            | Event::PublishEnded { .. }
            | Event::EventsLost { .. }
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
            | Event::NetworkOutdated { .. } => {}
            Event::Stopped => {
                self.stopped = true;
                assert!(self.calls.is_empty(), "every call has ended");
                assert!(self.up.is_empty(), "every link is closed");
            }
        }
    }

    /// Everybody goes, time passes, and nothing is left; then the node stops.
    fn finish(&mut self) {
        self.behind = 0;
        while let Some(link) = self.links.pop() {
            let reason = DownReason::TimedOut;
            self.mesh.handle_link(self.now(), LinkInput::Down { link: link.handle, reason });
            self.settle();
        }
        for peer in std::mem::take(&mut self.kept) {
            self.mesh.disconnect(self.now(), peer_id(peer));
            self.settle();
        }
        for _ in 0..3 {
            self.mono += LONG;
            self.mesh.handle_timeout(self.now());
            self.settle();
        }
        let load = self.mesh.load();
        assert!(self.calls.is_empty(), "every call has a deadline");
        assert_eq!((load.links, load.dials, load.frames_queued), (0, 0, 0));
        assert_eq!(load.peers, 0, "nobody is remembered for ever");
        assert!(self.up.is_empty());
        if !self.stopped {
            assert_eq!(load.invocations, 0, "every run has a deadline");
            assert_eq!(load.timers, usize::from(self.mesh.next_wake().is_some()));
        }
        self.mesh.shutdown(self.now());
        self.settle();
        self.mono += LONG;
        self.mesh.handle_timeout(self.now());
        self.settle();
        assert!(self.stopped, "a node that is to stop stops");
        // What comes late is not heard.
        for run in std::mem::take(&mut self.runs) {
            self.mesh.respond(self.now(), run, Ok(Payload::raw("late")));
        }
        for (service, hook) in std::mem::take(&mut self.hooks) {
            self.mesh.hook_done(self.now(), service, hook, Ok(()));
        }
        self.settle();
        assert_eq!(self.mesh.next_wake(), None);
    }
}

/// With the small limits: two services announced, a Hello and a Confirm; five calls and what is
/// abandoned of the peer's credit; twice the answers to the credit of two.
const FRAMES_QUEUED_MAX: usize = 64;

fn document(tape: &mut Tape<'_>) -> Document {
    let version = tape.number();
    offered(version, tape.byte(), 0)
}

/// The services that `offers` says, under keys from `first_key` on. Its highest bit says whether the peer knows
/// deltas.
fn offered(version: u64, offers: u8, first_key: u8) -> Document {
    let services = SERVICES.iter().enumerate().filter(|(at, _)| offers >> at & 1 != 0);
    let entries = services.map(|(at, (path, actions))| {
        let service = ServiceOffer {
            path: TopicPath::parse(path).expect("a path"),
            state: match offers >> 4 >> at & 1 {
                0 => OfferState::Running,
                _ => OfferState::Paused,
            },
            actions: actions.iter().map(|a| Pattern::parse(a).expect("a pattern")).collect(),
            info: ServiceInfo::default(),
        };
        let key = EntryKey::Service(1 + at as u64 + u64::from(first_key % 4));
        (key, Entry::Service(Arc::new(service)))
    });
    Document { version, entries: entries.collect(), incremental: offers >> 7 != 0 }
}

fn handler_result(tape: &mut Tape<'_>) -> Result<Payload, HandlerError> {
    match tape.byte() {
        255 => Err(HandlerError::Application(AppError::new("CODE", "text"))),
        254 => Err(HandlerError::BadRequest("no number".into())),
        253 => Err(HandlerError::Failed("it panicked".into())),
        252 => Ok(Payload::Value(Arc::new(Unwritable))),
        251 => Ok(Payload::value("a value")),
        bytes => Ok(Payload::raw(vec![9; usize::from(bytes)])),
    }
}
