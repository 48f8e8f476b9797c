//! Events: what the application publishes and reads, and what peers say of theirs and of ours.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::directory::{Document, Entry, EntryKey, SubscriptionOffer};
use dunlin_core::events::ack::{Declined, EventAck, LANES, Returned};
use dunlin_core::events::group::GroupName;
use dunlin_core::events::{
    Delivery, EventMessage, Group, Mode, Overflow, PublicationKey, PublishError, PublishRequest,
    QueueLimits, Scope, SubscribeRequest, WhenFull,
};
use dunlin_core::link::Lane;
use dunlin_core::mesh::CommandError;
use dunlin_core::service::{ContentType, Payload};
use dunlin_core::topic::{Pattern, SubscriptionKey, TopicPath};
use dunlin_core::wire::{EventFrame, EventsFrame, EventsFrom, Message, RunFrame};

use super::application::Unwritable;
use super::{PATHS, PEERS, World, op, peer_id};
use crate::rights;
use crate::tape::Tape;

const PATTERNS: [&str; 5] = ["math/add", "math/*", ">", "n:>", "echo/{who}/say"];
const GROUPS: [&str; 2] = ["g", "h"];

/// What is remembered of events.
#[derive(Default)]
pub(super) struct Events {
    subscriptions: BTreeMap<SubscriptionKey, Pattern>,
    /// Of which it was said that something waits, since they were last read to the end.
    ready: BTreeSet<SubscriptionKey>,
    /// Of those, the ones that nobody has read from since.
    unread: BTreeSet<SubscriptionKey>,
    /// Whose outcome was asked for.
    publications: BTreeSet<PublicationKey>,
}

impl Events {
    /// Something waits for a subscriber.
    pub(super) fn subscription_ready(&mut self, key: SubscriptionKey) {
        assert!(self.subscriptions.contains_key(&key), "only subscribers are told");
        self.ready.insert(key);
        assert!(self.unread.insert(key), "told once, until somebody reads");
    }

    /// It is known what became of an event.
    pub(super) fn publish_ended(&mut self, publication: PublicationKey) {
        assert!(self.publications.remove(&publication), "what was asked for is told once");
    }

    /// Nobody waits for anything any more.
    pub(super) fn check_ended(&self) {
        assert!(self.publications.is_empty(), "every outcome is told");
    }
}

fn pattern(which: usize) -> Pattern {
    Pattern::parse(PATTERNS[which]).expect("a pattern")
}

fn topic(tape: &mut Tape<'_>) -> TopicPath {
    TopicPath::parse(PATHS[tape.pick(PATHS.len())]).expect("a path")
}

/// What an event of this peer carries: its number, so often.
fn carried(peer: usize, bytes: u8) -> Bytes {
    vec![peer as u8; usize::from(bytes)].into()
}

impl World {
    /// Whether it is a step of this kind.
    pub(super) fn application_asks_of_events(&mut self, which: u8, tape: &mut Tape<'_>) -> bool {
        let now = self.now();
        match which {
            op::SUBSCRIBE => self.subscribe(tape),
            op::UNSUBSCRIBE => {
                let known: Vec<_> = self.events.subscriptions.keys().copied().collect();
                if let Some(key) = tape.pick_in(&known) {
                    self.events.subscriptions.remove(key);
                    self.events.ready.remove(key);
                    self.events.unread.remove(key);
                    self.mesh.unsubscribe(now, *key);
                }
            }
            op::TAKE => {
                let known: Vec<_> = self.events.subscriptions.keys().copied().collect();
                if let Some(key) = tape.pick_in(&known) {
                    for _ in 0..tape.byte() {
                        self.take(*key);
                    }
                }
            }
            op::PUBLISH => {
                let request = request(tape);
                let result = self.mesh.publish(now, &request);
                match &result {
                    Ok(published) => {
                        let wanted = request.confirm_within.is_some();
                        assert_eq!(published.publication.is_some(), wanted);
                        self.events.publications.extend(published.publication);
                    }
                    Err(error) => self.refused(error),
                }
            }
            op::PUBLISH_MANY => {
                let request = request(tape);
                let sizes = tape.bytes();
                let payloads = sizes.iter().map(|size| Payload::raw(carried(0, *size)));
                let mut payloads: VecDeque<Payload> = payloads.collect();
                let (mut told, mut open) = (0, Vec::new());
                let result = self.mesh.publish_each(now, &request, &mut payloads, |published| {
                    told += 1;
                    open.extend(published.publication);
                });
                assert_eq!(told + payloads.len(), sizes.len(), "what is published is told of");
                // With nothing to publish there may be an error nevertheless.
                assert!(sizes.is_empty() || result.is_ok() == payloads.is_empty());
                self.events.publications.extend(open);
                if let Err(error) = result {
                    self.refused(&error);
                }
            }
            _ => return false,
        }
        true
    }

    fn subscribe(&mut self, tape: &mut Tape<'_>) {
        let pattern = pattern(tape.pick(PATTERNS.len()));
        let mut request = SubscribeRequest::new(pattern.clone());
        let flags = tape.byte();
        if flags & 1 != 0 {
            let name = GROUPS[usize::from(flags >> 1 & 1)].into();
            request.group = Some(Group { name, at_least_one: flags & 4 != 0 });
        }
        if flags & 8 != 0 {
            request.service = Some(TopicPath::parse("math").expect("a path"));
        }
        request.queue = QueueLimits {
            events_max: usize::from(tape.byte()),
            overflow: match flags & 16 {
                0 => Overflow::DropNewest,
                _ => Overflow::DropOldest,
            },
            ..QueueLimits::default()
        };
        match self.mesh.subscribe(self.now(), request) {
            Ok(subscribed) => {
                let known = self.events.subscriptions.insert(subscribed.key, pattern);
                assert!(known.is_none(), "keys of subscribers differ");
            }
            Err(
                CommandError::TooMany { .. } | CommandError::Denied(_) | CommandError::Stopping,
            ) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn take(&mut self, key: SubscriptionKey) {
        self.events.unread.remove(&key);
        let Some(delivery) = self.mesh.take_delivery(key) else {
            self.events.ready.remove(&key);
            return;
        };
        assert!(self.events.ready.contains(&key), "what waits was told of");
        match delivery {
            Delivery::Event(event) => self.check_event(key, &event),
            Delivery::Missed(missed) => assert!(missed.count > 0),
        }
    }

    fn check_event(&self, key: SubscriptionKey, event: &EventMessage) {
        let pattern = &self.events.subscriptions[&key];
        let (topic, publisher) = (event.topic(), event.id().publisher);
        let named = |network: Option<&str>| network.unwrap_or("fuzz").to_string();
        assert_eq!(named(topic.network()), named(pattern.network()), "networks are apart");
        assert!(pattern.without_network().matches(&bare(topic)), "{pattern} and {topic}");
        let of = (0..PEERS).find(|peer| peer_id(*peer) == publisher);
        let peer = of.expect("only these publish") as u8;
        if peer != 0 && !self.mesh.access().is_development() {
            assert!(rights::may_publish(publisher, topic), "{publisher} may not publish {topic}");
        }
        if let Some((_, bytes)) = event.bytes() {
            assert!(bytes.iter().all(|byte| *byte == peer), "what it carries is its publisher's");
        }
    }

    fn refused(&self, error: &PublishError) {
        match error {
            PublishError::WouldBlock { events, .. } => assert!(*events > 0),
            PublishError::TooManyOpen(_)
            | PublishError::TooLarge { .. }
            | PublishError::Payload(_)
            | PublishError::Denied(_)
            | PublishError::Stopping => {}
            PublishError::Topic(_) => panic!("{error}"),
        }
    }

    /// Whether it is a step of this kind.
    pub(super) fn peer_says_of_events(&mut self, which: u8, tape: &mut Tape<'_>) -> bool {
        let link = match which {
            op::INTEREST..=op::EVENT_ACK => tape.byte(),
            _ => return false,
        };
        let peer = match usize::from(link).checked_rem(self.links.len()) {
            Some(index) => self.links[index].peer,
            None => 0,
        };
        let (lane, message) = match which {
            op::INTEREST => (Lane::CONTROL, Message::Directory(interest(tape))),
            op::EVENT => (shared(tape), Message::Event(event(peer, tape))),
            op::EVENTS => (shared(tape), Message::Events(events(peer, tape))),
            op::EVENTS_FROM => {
                let lane = shared(tape);
                let number = tape.number();
                let from = EventsFrom {
                    stream: tape.number(),
                    number,
                    lost: u64::from(tape.byte()),
                    acknowledged: number.saturating_sub(u64::from(tape.byte())),
                };
                (lane, Message::EventsFrom(from))
            }
            op::EVENTS_SKIPPED => {
                let lane = shared(tape);
                (lane, Message::EventsSkipped { count: tape.number() })
            }
            _ => (Lane::CONTROL, Message::EventAck(ack(tape))),
        };
        self.say_message(link, lane, message);
        true
    }
}

fn bare(topic: &TopicPath) -> TopicPath {
    TopicPath::parse(topic.path()).expect("a path")
}

fn shared(tape: &mut Tape<'_>) -> Lane {
    Lane(1 + tape.pick(LANES) as u64)
}

fn request(tape: &mut Tape<'_>) -> PublishRequest {
    let topic = topic(tape);
    let payload = match tape.byte() {
        255 => Payload::Value(Arc::new(Unwritable)),
        254 => Payload::value("a value"),
        253 => Payload::raw(carried(0, 255).repeat(20)),
        bytes => Payload::raw(carried(0, bytes)),
    };
    let (flags, times) = (tape.byte(), tape.byte());
    let set = |bit: u8| flags & bit != 0;
    PublishRequest {
        scope: if set(1) { Scope::Local } else { Scope::Network },
        mode: if set(2) { Mode::OnePerService } else { Mode::All },
        target: set(4).then(|| peer_id(usize::from(flags >> 6) % PEERS)),
        when_full: if set(8) { WhenFull::PassOver } else { WhenFull::Refuse },
        confirm_within: set(16).then(|| Duration::from_millis(250 * u64::from(times))),
        ..PublishRequest::new(topic, payload)
    }
}

/// The subscriptions of a peer, that knows deltas.
fn interest(tape: &mut Tape<'_>) -> Document {
    let version = tape.number();
    let entries = (0..tape.pick(5)).map(|at| {
        let which = tape.byte();
        let mut offer = SubscriptionOffer::new(pattern(usize::from(which) % PATTERNS.len()));
        let flags = tape.byte();
        if flags & 1 != 0 {
            offer.group = Some(GROUPS[usize::from(flags >> 1 & 1)].into());
            offer.at_least_one = flags & 4 != 0;
            offer.members = 1 + u32::from(flags >> 4);
        } else if flags & 8 != 0 {
            offer.service = Some(TopicPath::parse("echo").expect("a path"));
            offer.members = 1 + u32::from(flags >> 4);
        }
        (EntryKey::Subscription(1 + at as u64), Entry::Subscription(Arc::new(offer)))
    });
    Document { version, entries: entries.collect(), incremental: true }
}

fn event(peer: usize, tape: &mut Tape<'_>) -> EventFrame {
    let (topic, sequence) = (topic(tape), tape.number());
    let (flags, bytes) = (tape.byte(), tape.byte());
    let named = |bit: u8, name: &str| (flags & bit != 0).then(|| name.to_string());
    EventFrame {
        sequence,
        topic,
        content: ContentType::RAW,
        everyone: flags & 1 == 0,
        groups: [named(2, GROUPS[0]), named(4, GROUPS[1])]
            .into_iter()
            .map(|name| name.map(Into::into))
            .collect(),
        services: named(8, "math")
            .into_iter()
            .map(|path| Some(TopicPath::parse(&path).expect("a path")))
            .collect(),
        one_per_service: flags & 16 != 0,
        redelivered: flags & 32 != 0,
        payload: carried(peer, bytes),
    }
}

/// Events of one or two topics, in one frame.
fn events(peer: usize, tape: &mut Tape<'_>) -> EventsFrame {
    let mut bytes = Vec::new();
    let mut runs = Vec::new();
    for _ in 0..1 + tape.pick(2) {
        let (topic, mut sequence) = (topic(tape), tape.number());
        let mut events = Vec::new();
        for size in tape.bytes() {
            let from = bytes.len() as u32;
            bytes.extend_from_slice(&carried(peer, *size));
            events.push((sequence, from..bytes.len() as u32));
            sequence = sequence.saturating_add(1 + u64::from(size % 3));
        }
        // At the end of all numbers there is no next one.
        events.dedup_by_key(|(sequence, _)| *sequence);
        runs.push(RunFrame { topic, content: ContentType::RAW, events });
    }
    let count = runs.iter().map(|run| run.events.len() as u64).sum();
    EventsFrame { count, runs, bytes: bytes.into() }
}

fn ack(tape: &mut Tape<'_>) -> EventAck {
    let stream = tape.number();
    let next = std::array::from_fn(|_| tape.number());
    let flags = tape.byte();
    let declined = (0..usize::from(flags >> 6)).map(|_| Declined {
        lane: tape.pick(LANES),
        number: tape.number(),
        places: vec![u32::from(tape.byte()); usize::from(flags >> 5 & 1) + 1],
    });
    let declined = declined.collect();
    let gives_back = tape.byte();
    let returned = (0..gives_back >> 5).map(|_| Returned {
        group: GroupName::Group(if gives_back & 1 == 0 { "g" } else { "h" }.into()),
        sequence: tape.number(),
    });
    EventAck {
        stream,
        next,
        again: u32::from(flags & 15),
        declined,
        nothing_came: flags & 16 != 0,
        returned: returned.collect(),
        returned_from: u64::from(gives_back >> 2 & 7) + 1,
        returned_next: u64::from(gives_back >> 1 & 1),
        is_last: gives_back == 255,
    }
}
