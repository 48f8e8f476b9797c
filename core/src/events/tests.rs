//! A sender and a receiver over links that lose, keep and reorder: everything comes once and in order.

use std::collections::VecDeque;

use bytes::Bytes;
use dunlin_proto::events::{Events, Place};
use dunlin_proto::{Frame, FrameView, Header, v1};
use proptest::prelude::*;

use crate::base::{Limits, PeerKey};
use crate::events::ack::{EventAck, LANES};
use crate::events::batch::Together;
use crate::events::receiver::{Arrival, Receiver};
use crate::events::sender::{Pushed, Report, Sender, Word};
use crate::link::{Lane, LinkHandle};
use crate::payload::ContentType;
use crate::topic::TopicPath;
use crate::wire::EventsFrom;

fn peer() -> PeerKey {
    PeerKey::from_u64(0)
}

/// One lane of one link, with what is under way.
struct Wire {
    link: LinkHandle,
    lanes: [VecDeque<Frame>; LANES],
    /// The sender still uses it.
    up: bool,
}

struct Bench {
    sender: Sender,
    receiver: Receiver,
    wires: Vec<Wire>,
    next_link: u64,
    topics: [TopicPath; 2],
    /// Acknowledgements on their way.
    acks: VecDeque<EventAck>,
    published: [u64; LANES],
    /// The events that counted, and how many were said to be skipped.
    came: [Vec<u64>; LANES],
    skipped: [u64; LANES],
}

fn header(sequence: u64) -> v1::Event {
    v1::Event { sequence, ..v1::Event::default() }
}

impl Bench {
    fn new() -> Bench {
        let limits = Limits { events_unacknowledged_max: 20, ..Limits::default() };
        let mut bench = Bench {
            sender: Sender::new(&limits),
            receiver: Receiver::default(),
            wires: Vec::new(),
            next_link: 0,
            topics: ["a/b", "a/c"].map(|topic| TopicPath::parse(topic).unwrap()),
            acks: VecDeque::new(),
            published: [0; LANES],
            came: Default::default(),
            skipped: [0; LANES],
        };
        bench.open();
        bench
    }

    fn open(&mut self) {
        self.next_link += 1;
        let link = LinkHandle(self.next_link);
        self.wires.push(Wire { link, lanes: Default::default(), up: true });
    }

    /// The sender gives its link up. What is under way may still come.
    fn give_up(&mut self) {
        if let Some(wire) = self.wires.iter_mut().find(|wire| wire.up) {
            wire.up = false;
            self.sender.link_lost(peer(), true, &mut Vec::new());
            self.open();
        }
    }

    /// The oldest link that the sender has given up dies at the other end too.
    fn die(&mut self) {
        if let Some(at) = self.wires.iter().position(|wire| !wire.up) {
            let wire = self.wires.remove(at);
            self.receiver.link_gone(peer(), wire.link);
        }
    }

    fn publish(&mut self, lane: usize) {
        if self.sender.has_room(peer(), 0) {
            self.published[lane] += 1;
            let sequence = self.published[lane];
            if sequence.is_multiple_of(5) {
                let event = self.sender.write(header(sequence), Bytes::new());
                self.sender.push(peer(), lane, event, None);
                return;
            }
            let topic = &self.topics[(sequence % 7 / 4) as usize];
            let (content, payload) = (ContentType::RAW, &Bytes::from_static(b"carried"));
            let event = Together { sequence, topic, content, payload };
            assert_ne!(self.sender.push_to_all(&[peer()], lane, &event), Pushed::NoRoom);
        } else {
            self.sender.pass_over(peer(), lane);
            self.skipped[lane] += 1;
        }
    }

    fn pull(&mut self, lane: usize) {
        let wire = self.wires.iter_mut().find(|wire| wire.up).expect("one is always up");
        if let Some((frame, _)) = self.sender.take_frame(peer(), wire.link, lane) {
            wire.lanes[lane].push_back(frame);
        }
    }

    fn arrive(&mut self, wire: usize, lane: usize) {
        let count = self.wires.len();
        let wire = &mut self.wires[wire % count];
        let Some(frame) = wire.lanes[lane].pop_front() else { return };
        let Ok(FrameView::Known(header, payload)) = FrameView::decode(frame.to_body()) else {
            panic!("our own frames are legal");
        };
        let on = Lane(lane as u64 + 1);
        match header {
            Header::EventsFrom(from) => {
                let v1::EventsFrom { stream, number, lost, acknowledged } = from;
                let from = EventsFrom { stream, number, lost, acknowledged };
                assert_eq!(self.receiver.begins(peer(), wire.link, on, 1, from), Ok(0));
            }
            Header::Event(event) => {
                let arrival = self.receiver.arrived(peer(), wire.link, on, 1).unwrap();
                if let Arrival::New { .. } = arrival {
                    self.came[lane].push(event.sequence);
                }
            }
            Header::Events(events) => {
                let count = u64::from(events.count);
                let arrival = self.receiver.arrived(peer(), wire.link, on, count).unwrap();
                if let Arrival::New { old, .. } = arrival {
                    assert_eq!(old, 0, "what went together goes together again");
                    let places = Events::new(payload).map(|event| event.unwrap().0);
                    for place in places {
                        let last = self.came[lane].last().copied();
                        self.came[lane].push(match place {
                            Place::First(run) => run.sequence,
                            Place::Next(more) => last.expect("it follows another") + more,
                        });
                    }
                }
            }
            Header::EventsSkipped(skipped) => {
                let arrival = self.receiver.arrived(peer(), wire.link, on, 1).unwrap();
                if let Arrival::New { .. } = arrival {
                    self.skipped[lane] -= skipped.count;
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn ack(&mut self) {
        self.acks.push_back(self.receiver.take_ack(peer()));
    }

    fn acknowledged(&mut self) {
        if let Some(ack) = self.acks.pop_front() {
            let mut reports = Vec::<Report>::new();
            self.sender.acknowledged(peer(), &ack, &mut reports);
        }
    }

    fn check(&self) {
        self.sender.check_invariants();
        for (lane, came) in self.came.iter().enumerate() {
            assert!(came.iter().copied().eq(1..=came.len() as u64), "lane {lane}: {came:?}");
        }
    }

    /// Everything comes once nothing goes wrong any more.
    fn settle(&mut self) {
        while self.wires.iter().any(|wire| !wire.up) {
            self.die();
        }
        for _ in 0..50 {
            for lane in 0..LANES {
                for _ in 0..50 {
                    self.pull(lane);
                    self.arrive(0, lane);
                }
            }
            self.ack();
            while !self.acks.is_empty() {
                self.acknowledged();
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Pull(usize),
    Arrive(usize, usize),
    Ack,
    Acknowledged,
    LoseAck,
    GiveUp,
    Die,
}

fn steps() -> impl Strategy<Value = Step> {
    let lane = 0..LANES;
    prop_oneof![
        8 => lane.clone().prop_map(Step::Publish),
        8 => lane.clone().prop_map(Step::Pull),
        12 => (0..4usize, lane).prop_map(|(wire, lane)| Step::Arrive(wire, lane)),
        2 => Just(Step::Ack),
        2 => Just(Step::Acknowledged),
        1 => Just(Step::LoseAck),
        1 => Just(Step::GiveUp),
        1 => Just(Step::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn events_come_once_and_in_order_whatever_becomes_of_links(
        steps in proptest::collection::vec(steps(), 1..400),
    ) {
        let mut bench = Bench::new();
        for step in steps {
            match step {
                Step::Publish(lane) => bench.publish(lane),
                Step::Pull(lane) => bench.pull(lane),
                Step::Arrive(wire, lane) => bench.arrive(wire, lane),
                Step::Ack => bench.ack(),
                Step::Acknowledged => bench.acknowledged(),
                Step::LoseAck => drop(bench.acks.pop_front()),
                Step::GiveUp => bench.give_up(),
                Step::Die => bench.die(),
            }
            bench.check();
        }
        bench.settle();
        bench.check();
        for lane in 0..LANES {
            prop_assert_eq!(bench.came[lane].len() as u64, bench.published[lane], "lane {}", lane);
            prop_assert_eq!(bench.skipped[lane], 0, "lane {}", lane);
        }
        prop_assert!(bench.sender.is_empty());
    }
}

#[test]
fn what_a_peer_has_not_acknowledged_is_lost_with_its_life_and_the_next_stream_says_so() {
    let mut bench = Bench::new();
    bench.publish(0);
    bench.pull(0);
    bench.pull(0);
    bench.publish(0);
    bench.publish(0);
    bench.arrive(0, 0);
    bench.arrive(0, 0);
    bench.ack();
    bench.acknowledged();
    assert_eq!(bench.sender.unacknowledged(peer()), 2);
    assert_eq!(bench.sender.forget(peer(), true, &mut Vec::new()), (2, false));
    bench.publish(0);
    bench.pull(0);
    let frame = bench.wires[0].lanes[0].pop_front().unwrap();
    let Header::EventsFrom(from) = frame.header else { panic!("{frame:?}") };
    assert_eq!((from.stream, from.number, from.lost), (2, 1, 2));
}

#[test]
fn events_in_a_row_for_the_same_peers_are_written_once_and_go_out_together() {
    let limits = Limits { events_unacknowledged_max: 8, ..Limits::default() };
    let mut sender = Sender::new(&limits);
    let peers = [PeerKey::from_u64(0), PeerKey::from_u64(1)];
    let (link, topic) = (LinkHandle(1), TopicPath::parse("a/b").unwrap());
    let mut sequence = 0;
    let mut push = |sender: &mut Sender, peers: &[PeerKey], payload: &'static [u8]| {
        sequence += 1;
        let payload = &Bytes::from_static(payload);
        let event = Together { sequence, topic: &topic, content: ContentType::RAW, payload };
        let pushed = sender.push_to_all(peers, 0, &event);
        sender.check_invariants();
        pushed
    };
    let pull = |sender: &mut Sender, peer| {
        let frame = sender.take_frame(peer, link, 0).map(|(frame, _)| frame);
        sender.check_invariants();
        match frame {
            Some(Frame { header: Header::Events(events), payload }) => {
                Some((events.count, payload))
            }
            Some(Frame { header: Header::EventsFrom(_), .. }) => Some((0, Bytes::new())),
            // One alone goes as any other.
            Some(Frame { header: Header::Written(written), payload }) => {
                assert!(written.event().is_some_and(|(event, _)| event.everyone));
                Some((1, payload))
            }
            None => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(push(&mut sender, &peers, b"one"), Pushed::Begun);
    assert_eq!(push(&mut sender, &peers, b"two"), Pushed::Joined);
    assert_eq!(pull(&mut sender, peers[0]).map(|pulled| pulled.0), Some(0));
    let (count, bytes) = pull(&mut sender, peers[0]).unwrap();
    assert_eq!(count, 2);
    // The other one has not pulled, and gets the same bytes nevertheless.
    assert_eq!(push(&mut sender, &peers, b"three"), Pushed::Begun);
    assert_eq!(pull(&mut sender, peers[1]).map(|pulled| pulled.0), Some(0));
    let (count, same) = pull(&mut sender, peers[1]).unwrap();
    assert_eq!((count, same.as_ptr()), (2, bytes.as_ptr()));
    // Other peers, other bytes: what is open for both of them ends.
    assert_eq!(push(&mut sender, &peers[..1], b"four"), Pushed::Begun);
    assert_eq!(pull(&mut sender, peers[0]).map(|pulled| pulled.0), Some(1));
    assert_eq!(pull(&mut sender, peers[0]).map(|pulled| pulled.0), Some(1));
    assert_eq!(pull(&mut sender, peers[0]), None);
    // A word in between stays in between.
    assert_eq!(push(&mut sender, &peers, b"five"), Pushed::Begun);
    sender.pass_over(peers[1], 0);
    assert_eq!(push(&mut sender, &peers, b"six"), Pushed::Begun);
    let three = Some(1);
    assert_eq!(pull(&mut sender, peers[1]).map(|pulled| pulled.0), three);
    assert_eq!(pull(&mut sender, peers[1]).map(|pulled| pulled.0), Some(1), "five");
    // Nobody gets what one of them has no room for.
    for _ in 0..2 {
        assert_eq!(push(&mut sender, &peers, b"more"), Pushed::Joined);
    }
    assert_eq!((sender.unacknowledged(peers[0]), sender.unacknowledged(peers[1])), (8, 7));
    assert_eq!(push(&mut sender, &peers, b"too much"), Pushed::NoRoom);
    assert_eq!(sender.forget(peers[0], true, &mut Vec::new()), (8, false));
    assert_eq!(sender.unacknowledged(peers[1]), 7);
    sender.check_invariants();
}

#[test]
fn a_peer_that_comes_back_is_sent_nothing_before_it_has_said_what_it_remembers() {
    let said = |stream| EventAck {
        stream,
        next: [1; LANES],
        again: 0,
        declined: Vec::new(),
        nothing_came: false,
        returned: Vec::new(),
        returned_from: 0,
        returned_next: 0,
        is_last: false,
    };
    let parted = |pulled: bool| {
        let mut bench = Bench::new();
        bench.publish(0);
        if pulled {
            bench.pull(0);
            bench.pull(0);
        }
        bench.sender.link_lost(peer(), false, &mut Vec::new());
        assert_eq!(bench.sender.waiting(peer()).count(), 0);
        assert!(bench.sender.take_frame(peer(), LinkHandle(9), 0).is_none());
        bench
    };
    // It remembers, or there is nothing that it could have got.
    for (pulled, stream) in [(true, 1), (false, 0)] {
        let mut bench = parted(pulled);
        assert_eq!(bench.sender.heard(peer(), &said(stream)), Word::Awaited);
        assert_eq!(bench.sender.heard(peer(), &said(stream)), Word::AsExpected);
        assert_eq!(bench.sender.waiting(peer()).count(), 1);
    }
    let nothing = EventAck { nothing_came: true, ..said(0) };
    assert_eq!(parted(true).sender.heard(peer(), &nothing), Word::Awaited);
    // It may have got the event, and forgotten that.
    assert_eq!(parted(true).sender.heard(peer(), &said(0)), Word::Forgotten);
}
