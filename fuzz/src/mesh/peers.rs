//! What peers say of themselves, their services and calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::auth::{BlindedNetworks, Greeter, NetworkClaim};
use dunlin_core::base::{Draws, Incarnation};
use dunlin_core::directory::{
    Delta, Document, Entry, EntryKey, Heard, Heartbeat, OfferState, ServiceInfo, ServiceOffer,
};
use dunlin_core::link::{End, Lane, LinkId, LinkInput};
use dunlin_core::rpc::Status;
use dunlin_core::service::ContentType;
use dunlin_core::topic::{Pattern, TopicPath};
use dunlin_core::wire::{CallMessage, Hello, Message, ReplyMessage, VERSION_MAX, VERSION_MIN};

use super::{PATHS, PEERS, SERVICES, World, op, peer_id};
use crate::life::unsigned;
use crate::rights;
use crate::tape::Tape;

impl World {
    /// Whether it is a step of this kind.
    pub(super) fn peer_says(&mut self, which: u8, tape: &mut Tape<'_>) -> bool {
        match which {
            op::RAW => {
                let link = tape.byte();
                let lane = Lane(u64::from(tape.byte()) % 10);
                let frame = Bytes::copy_from_slice(tape.bytes());
                self.say(link, lane, frame);
            }
            op::HELLO => {
                let link = tape.byte();
                let hello = Hello {
                    version_min: version(tape.byte() % 3),
                    version_max: version(tape.byte() % 4),
                    life: unsigned(Incarnation {
                        counter: tape.number(),
                        boot: u64::from(tape.byte()),
                    }),
                    call_credit: tape.number() as u32,
                    message_bytes_max: tape.number() as usize & 0xffff_ffff,
                    critical_capabilities: vec![1; tape.pick(8) / 7],
                    link: self.name(link),
                    abandons: Vec::new(),
                    observed_address: None,
                    networks: self.blinded(link),
                };
                self.say_hello(link, hello);
            }
            op::CONFIRM => {
                let link = tape.byte();
                let version = version(tape.byte() % 3);
                let directory = document(tape);
                self.say_confirm(link, version, directory);
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
                    status: Status::from_number(u32::from(tape.byte() % 19)),
                    content: ContentType::RAW,
                    error_code: "CODE".into(),
                    error_message: String::new(),
                    retry_after: match tape.byte() {
                        0 => None,
                        tens => Some(Duration::from_millis(10 * u64::from(tens))),
                    },
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
            op::GREET => {
                // A whole handshake, so that the rest of a program reaches further.
                let peer = 1 + tape.pick(PEERS - 1);
                let offers = tape.byte();
                self.accept(peer);
                self.settle();
                let link = self.links.len().saturating_sub(1) as u8;
                let hello = Hello {
                    version_min: VERSION_MIN,
                    version_max: VERSION_MAX,
                    life: unsigned(Incarnation { counter: 1, boot: 1 }),
                    call_credit: 3,
                    message_bytes_max: 1_000,
                    critical_capabilities: Vec::new(),
                    link: self.name(link),
                    abandons: Vec::new(),
                    observed_address: None,
                    networks: self.blinded(link),
                };
                self.say_hello(link, hello);
                self.settle();
                self.say_confirm(link, VERSION_MAX, offered(1, offers, 0));
            }
            _ => return false,
        }
        true
    }

    fn say(&mut self, link: u8, lane: Lane, frame: Bytes) {
        let count = self.links.len();
        if let Some(index) = usize::from(link).checked_rem(count) {
            let link = self.links[index].handle;
            self.mesh.handle_link(self.now(), LinkInput::Frame { link, lane, frame });
        }
    }

    pub(super) fn say_message(&mut self, link: u8, lane: Lane, message: Message) {
        let frame = message.into_frame().expect("it says something");
        self.say(link, lane, frame.to_body());
    }

    /// What whoever is at the other end of a link claims.
    fn claims(&self, link: u8) -> Vec<NetworkClaim> {
        match usize::from(link).checked_rem(self.links.len()) {
            Some(index) if !self.mesh.access().is_development() => {
                rights::claims(self.links[index].peer)
            }
            _ => vec![rights::development()],
        }
    }

    /// What the peer calls a link. Anything where there is none: nothing is said there.
    fn name(&self, link: u8) -> LinkId {
        let index = usize::from(link).checked_rem(self.links.len());
        let none = LinkId { dialler: End::Here, counter: 0, number: 1 };
        index.map_or(none, |index| self.links[index].name)
    }

    /// Its networks as a Hello on this link shows them.
    fn blinded(&self, link: u8) -> BlindedNetworks {
        let index = usize::from(link).checked_rem(self.links.len());
        let peer = index.map_or(1, |index| self.links[index].peer);
        let has_dialled = self.name(link).dialler == End::Here;
        let greeter = Greeter { sender: peer_id(peer), receiver: peer_id(0), has_dialled };
        let networks = self.claims(link).into_iter().map(|claim| claim.network);
        BlindedNetworks::new(networks, &greeter, &mut Draws::new([link; 32]))
    }

    /// A Hello, and the Claims that belong to it.
    fn say_hello(&mut self, link: u8, mut hello: Hello) {
        let Some(index) = usize::from(link).checked_rem(self.links.len()) else { return };
        let handle = self.links[index].handle;
        self.links[index].boot = Some(hello.life.incarnation.boot);
        if hello.link.dialler == End::Here {
            hello.link.counter = hello.life.incarnation.counter;
            self.links[index].name = hello.link;
        }
        let networks = self.claims(link);
        self.say_message(link, Lane::CONTROL, Message::Hello(Box::new(hello)));
        self.settle();
        // It may have been closed for that.
        if self.links.get(index).is_some_and(|link| link.handle == handle) {
            let (name, receiver_boot) = (self.name(link), self.mesh.incarnation().boot);
            let claims = Message::Claims { link: name, receiver_boot, networks };
            self.say_message(link, Lane::CONTROL, claims);
        }
    }

    fn say_confirm(&mut self, link: u8, version: u32, directory: Document) {
        let (name, receiver_boot) = (self.name(link), self.mesh.incarnation().boot);
        let confirm = Message::Confirm { version, directory, link: name, receiver_boot };
        self.say_message(link, Lane::CONTROL, confirm);
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
}

/// A number of a tape as a version: those that are spoken come first.
fn version(number: u8) -> u32 {
    match number {
        0 => 0,
        number => u32::from(number) + VERSION_MIN - 1,
    }
}

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
