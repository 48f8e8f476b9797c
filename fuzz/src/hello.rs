//! Handshakes: two peers that say Hello, Claims, Confirm, Refuse, Supersede, Drained and Cut in any order, on any
//! number of links, under any names. The node keeps its promises and forgets what is over.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::auth::{Access, BlindedNetworks, Greeter, LifeRecord, NetworkId};
use dunlin_core::base::{Draws, Incarnation};
use dunlin_core::directory::Document;
use dunlin_core::link::{
    CloseCode, DialHandle, Direction, DownReason, End, FrameSource, Lane, LinkCommand, LinkHandle,
    LinkId, LinkInput, Sent,
};
use dunlin_core::peer::Admission;
use dunlin_core::service::ContentType;
use dunlin_core::topic::TopicPath;
use dunlin_core::wire::{
    self, CallMessage, Hello, Message, VERSION_MAX, VERSION_MIN, VERSION_NEXT,
};
use dunlin_core::{Event, Limits, Mesh, MeshConfig, MonoTime, Now, PeerId, WallTime};

use crate::life::{IDENTITY, unsigned};
use crate::rights;
use crate::tape::Tape;

/// What a step's byte means.
#[allow(missing_docs)]
pub mod op {
    pub const ACCEPT: u8 = 0;
    pub const DIALLED: u8 = 1;
    pub const DOWN: u8 = 2;
    pub const HELLO: u8 = 3;
    pub const CONFIRM: u8 = 4;
    pub const REFUSE: u8 = 5;
    pub const SUPERSEDE: u8 = 6;
    pub const DRAINED: u8 = 7;
    pub const CUT: u8 = 8;
    pub const CALL: u8 = 9;
    pub const PULL: u8 = 10;
    pub const TIME: u8 = 11;
    pub const CONNECT: u8 = 12;
    pub const DISCONNECT: u8 = 13;
    /// A whole handshake, so that programs get further.
    pub const GREET: u8 = 14;
    pub const CLAIMS: u8 = 15;
    pub const COUNT: usize = 16;
}

const STEPS_MAX: usize = 300;
const SECOND: u64 = 1_000_000_000;

/// Runs a program. Its first byte chooses whether the peers' ids are higher than the node's, the limits,
/// and the node's protocol version.
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

struct Link {
    handle: LinkHandle,
    peer: usize,
}

struct World {
    mesh: Mesh,
    peers: [PeerId; 2],
    held_max: usize,
    mono: u64,
    links: Vec<Link>,
    links_made: u64,
    dials: Vec<(DialHandle, PeerId)>,
    up: BTreeSet<PeerId>,
    life: u64,
    stopped: bool,
}

fn id_of(tape: &mut Tape<'_>) -> LinkId {
    let byte = tape.byte();
    LinkId {
        // As the peer says it: its own dials are `Here`.
        dialler: if byte & 1 == 0 { End::Here } else { End::There },
        counter: u64::from(byte >> 1 & 3),
        number: 1 + u64::from(byte >> 3 & 7),
    }
}

fn sent_of(tape: &mut Tape<'_>) -> Sent {
    let mut sent = Sent { own: u64::from(tape.byte() & 1), ..Sent::default() };
    for lane in &mut sent.lanes {
        *lane = u64::from(tape.byte() % 8);
    }
    sent
}

impl World {
    fn new(choice: u8) -> World {
        let id = IDENTITY.id();
        let base = if choice & 1 == 0 { 1 } else { 200 };
        let held_max = if choice & 2 == 0 { 4_096 } else { 3 };
        let limits = Limits {
            links_per_peer_max: if choice & 2 == 0 { 4 } else { 2 },
            frames_held_per_peer_max: held_max,
            protocol_version_max: if choice & 4 == 0 { VERSION_MAX } else { VERSION_NEXT },
            steps_per_input_max: if choice & 8 == 0 { 10_000 } else { 2 },
            ..Limits::default()
        };
        let config = MeshConfig {
            identity: IDENTITY.clone(),
            incarnation_counter: 1,
            stored: None,
            seed: [choice; 32],
            admission: Admission::Anyone,
            access: Access::development(&id),
            leases: Default::default(),
            limits,
        };
        World {
            mesh: Mesh::new(Now::default(), config),
            peers: [base, base + 1].map(|n| PeerId::from_bytes([n; 32])),
            held_max,
            mono: 0,
            links: Vec::new(),
            links_made: 0,
            dials: Vec::new(),
            up: BTreeSet::new(),
            life: 1,
            stopped: false,
        }
    }

    fn now(&self) -> Now {
        Now::new(MonoTime::from_nanos(self.mono), WallTime::from_unix_nanos(self.mono))
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        let now = self.now();
        match tape.pick(op::COUNT) as u8 {
            op::ACCEPT => {
                let peer = tape.pick(2);
                self.bring_up(peer, Direction::Accepted);
            }
            op::DIALLED => {
                if !self.dials.is_empty() {
                    let (dial, to) = self.dials.remove(tape.pick(self.dials.len()));
                    let peer = usize::from(to == self.peers[1]);
                    self.bring_up(peer, Direction::Dialled(dial));
                }
            }
            op::DOWN => {
                if !self.links.is_empty() {
                    let link = self.links.remove(tape.pick(self.links.len())).handle;
                    let reason = match tape.byte() {
                        code @ 1..=20 => DownReason::ClosedByPeer(CloseCode(u32::from(code))),
                        _ => DownReason::TimedOut,
                    };
                    self.mesh.handle_link(now, LinkInput::Down { link, reason });
                }
            }
            op::HELLO => {
                let link = tape.byte();
                let versions = tape.byte();
                let counter = u64::from(tape.byte() & 3);
                let id = id_of(tape);
                let hello = Hello {
                    version_min: VERSION_MIN,
                    version_max: VERSION_MIN + u32::from(versions & 1),
                    life: unsigned(Incarnation { counter, boot: u64::from(versions >> 1 & 1) }),
                    call_credit: 4,
                    message_bytes_max: 1_000,
                    critical_capabilities: Vec::new(),
                    link: id,
                    abandons: (0..tape.pick(4)).map(|_| id_of(tape)).collect(),
                    observed_address: (versions & 8 != 0)
                        .then(|| "192.0.2.1:1".parse().expect("an address")),
                    networks: self.blinded(link, id, versions & 4 == 0),
                };
                self.say(link, Lane::CONTROL, Message::Hello(Box::new(hello)));
            }
            op::CLAIMS => {
                let (link, choice) = (tape.byte(), tape.byte());
                let id = id_of(tape);
                self.claim(link, id, choice);
            }
            op::CONFIRM => {
                let link = tape.byte();
                let version = VERSION_MIN + u32::from(tape.byte() & 1);
                let id = id_of(tape);
                let directory = Document::default();
                let receiver_boot = self.mesh.incarnation().boot;
                self.say(
                    link,
                    Lane::CONTROL,
                    Message::Confirm { version, directory, link: id, receiver_boot },
                );
            }
            op::REFUSE => {
                let link = tape.byte();
                let code = u32::from(tape.byte() % 10);
                let known = tape.byte();
                let incarnation = Incarnation { counter: u64::from(known & 7), boot: 0 };
                let life = match known & 8 {
                    0 => LifeRecord::sign(&IDENTITY, incarnation),
                    _ => unsigned(incarnation),
                };
                self.say(link, Lane::CONTROL, Message::Refuse { code, life: Some(life) });
            }
            op::SUPERSEDE => {
                let (link, loser, sent) = (tape.byte(), id_of(tape), sent_of(tape));
                self.say(link, Lane::CONTROL, Message::Supersede { loser, sent });
            }
            op::DRAINED => {
                let (link, loser, sent) = (tape.byte(), id_of(tape), sent_of(tape));
                self.say(link, Lane::CONTROL, Message::Drained { loser, sent });
            }
            op::CUT => {
                let (link, from) = (tape.byte(), id_of(tape));
                let (lane, frames) = (tape.byte(), u64::from(tape.byte() & 7));
                self.say(link, Lane(u64::from(lane % 6)), Message::Cut { from, frames });
            }
            op::CALL => {
                let link = tape.byte();
                let sequence = 1 + u64::from(tape.byte() & 15);
                let call = CallMessage {
                    sequence,
                    floor: 1,
                    attempt: 1,
                    callee_boot: self.mesh.incarnation().boot,
                    time_left: Duration::from_secs(5),
                    path: TopicPath::parse("nobody/there").expect("a path"),
                    content: ContentType::RAW,
                    payload: Bytes::new(),
                };
                self.say(link, Lane::shared(sequence), Message::Call(call));
            }
            op::PULL => self.pull(tape),
            op::TIME => {
                self.mono += match tape.byte() {
                    n @ 0..100 => u64::from(n) * SECOND / 50,
                    n => u64::from(n - 99) * SECOND,
                };
                let now = self.now();
                self.mesh.handle_timeout(now);
            }
            op::CONNECT => {
                let peer = self.peers[tape.pick(2)];
                let port = 1 + u16::from(tape.byte() & 3);
                let address = ([192, 0, 2, 7], port).into();
                // The node may have been stopped by a peer that knows a newer one.
                let _ = self.mesh.connect(now, peer, vec![address]);
            }
            op::DISCONNECT => {
                let peer = self.peers[tape.pick(2)];
                self.mesh.disconnect(now, peer);
            }
            op::GREET => {
                let peer = tape.pick(2);
                let id = id_of(tape);
                self.bring_up(peer, Direction::Accepted);
                self.settle();
                let link = self.links.len().saturating_sub(1) as u8;
                let hello = Hello {
                    version_min: VERSION_MIN,
                    version_max: VERSION_MAX,
                    life: unsigned(Incarnation { counter: id.counter, boot: 1 }),
                    call_credit: 4,
                    message_bytes_max: 1_000,
                    critical_capabilities: Vec::new(),
                    link: id,
                    abandons: Vec::new(),
                    observed_address: None,
                    networks: self.blinded(link, id, true),
                };
                self.say(link, Lane::CONTROL, Message::Hello(Box::new(hello)));
                self.settle();
                self.claim(link, id, 0);
                self.settle();
                let (version, directory) = (VERSION_MAX, Document::default());
                let receiver_boot = self.mesh.incarnation().boot;
                let confirm = Message::Confirm { version, directory, link: id, receiver_boot };
                self.say(link, Lane::CONTROL, confirm);
            }
            _ => unreachable!("a pick is below its bound"),
        }
    }

    /// The networks of whoever is at the other end of a link, or of a stranger.
    fn blinded(&self, link: u8, id: LinkId, is_member: bool) -> BlindedNetworks {
        let index = usize::from(link).checked_rem(self.links.len());
        let sender = self.peers[index.map_or(0, |index| self.links[index].peer)];
        let has_dialled = id.dialler == End::Here;
        let greeter = Greeter { sender, receiver: self.mesh.id(), has_dialled };
        let networks = is_member.then_some(NetworkId::DEVELOPMENT);
        BlindedNetworks::new(networks.into_iter(), &greeter, &mut Draws::new([link; 32]))
    }

    fn claim(&mut self, link: u8, id: LinkId, choice: u8) {
        let networks = if choice & 1 == 0 { vec![rights::development()] } else { Vec::new() };
        let receiver_boot = self.mesh.incarnation().boot ^ u64::from(choice >> 1 & 1);
        self.say(link, Lane::CONTROL, Message::Claims { link: id, receiver_boot, networks });
    }

    fn bring_up(&mut self, peer: usize, direction: Direction) {
        self.links_made += 1;
        let handle = LinkHandle(self.links_made);
        self.links.push(Link { handle, peer });
        let remote = Some("192.0.2.7:1".parse().expect("an address"));
        let up = LinkInput::Up { link: handle, peer: self.peers[peer], direction, remote };
        self.mesh.handle_link(self.now(), up);
    }

    fn say(&mut self, link: u8, lane: Lane, message: Message) {
        if let Some(index) = usize::from(link).checked_rem(self.links.len()) {
            let link = self.links[index].handle;
            let frame = message.into_frame().expect("it says something").to_body();
            self.mesh.handle_link(self.now(), LinkInput::Frame { link, lane, frame });
        }
    }

    fn pull(&mut self, tape: &mut Tape<'_>) {
        let Some(index) = usize::from(tape.byte()).checked_rem(self.links.len()) else { return };
        let link = self.links[index].handle;
        let mut from = Lane::CONTROL;
        while let Some(lane) = self.mesh.next_lane(link, from) {
            while let Some(frame) = self.mesh.pull_frame(link, lane) {
                wire::parse(frame.to_body(), &Limits::default()).expect("what it sends is legal");
            }
            from = Lane(lane.0 + 1);
        }
    }

    fn settle(&mut self) {
        for _ in 0..1_000 {
            while let Some(command) = self.mesh.poll_link_command() {
                match command {
                    LinkCommand::Dial { dial, peer, .. } => self.dials.push((dial, peer)),
                    LinkCommand::CancelDial { dial } => self.dials.retain(|(d, _)| *d != dial),
                    LinkCommand::Close { link, .. } => self.links.retain(|l| l.handle != link),
                    LinkCommand::FramesReady { .. }
                    | LinkCommand::Trust { .. }
                    | LinkCommand::ResetLane { .. } => {}
                }
            }
            while let Some(event) = self.mesh.poll_event() {
                self.event(event);
            }
            if self.mesh.next_wake().is_none_or(|wake| wake.at > self.now().mono) {
                break;
            }
            self.mesh.handle_timeout(self.now());
        }
        self.mesh.check_invariants();
        assert!(self.mesh.frames_held() <= 2 * (self.held_max + 1), "what waits is bounded");
        for peer in self.peers {
            let links = self.mesh.links_up(peer);
            assert_eq!(self.up.contains(&peer), !links.is_empty(), "who is up has a link");
            let of_peer = |link: &LinkHandle| {
                self.links.iter().any(|l| l.handle == *link && self.peers[l.peer] == peer)
            };
            assert!(links.iter().all(|(link, _)| of_peer(link)));
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::PeerUp { peer, .. } => assert!(self.up.insert(peer), "up once"),
            Event::PeerDown { peer, .. } => assert!(self.up.remove(&peer), "down once"),
            Event::LifeBegan { incarnation, .. } => {
                assert!(incarnation.counter > self.life, "lives follow each other");
                self.life = incarnation.counter;
            }
            Event::LinkSuperseded { loser, stays, .. } => assert_ne!(loser, stays),
            Event::Stopped => self.stopped = true,
            _ => {}
        }
    }

    /// Everybody goes, and nothing is left.
    fn finish(&mut self) {
        for peer in self.peers {
            self.mesh.disconnect(self.now(), peer);
        }
        for link in std::mem::take(&mut self.links) {
            let (link, reason) = (link.handle, DownReason::TimedOut);
            self.mesh.handle_link(self.now(), LinkInput::Down { link, reason });
        }
        self.settle();
        for _ in 0..5 {
            self.mono += 3_600 * SECOND;
            self.mesh.handle_timeout(self.now());
            self.settle();
        }
        let load = self.mesh.load();
        let left = (load.links, load.dials, load.timers, self.mesh.frames_held());
        assert_eq!(left, (0, 0, 0, 0), "nothing is left behind");
        assert!(self.stopped || load.peers == 0, "peers that are gone are forgotten");
    }
}
