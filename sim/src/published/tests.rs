//! Each rule bites: what breaks it is seen, and what does not is let through.

use std::sync::Arc;

use dunlin_core::events::{Marks, Missed, MissedWhy};
use dunlin_core::payload::Payload;

use super::*;
use crate::workload::WorldInfo;

const TOPIC: &str = "e0/a";

struct Bench {
    ledger: Arc<Ledger>,
    peers: Arc<[PeerId]>,
}

impl Bench {
    fn new() -> Bench {
        let peers = (1..=3).map(|n| PeerId::from_bytes([n; 32])).collect();
        Bench { ledger: Arc::default(), peers }
    }

    fn node(&self, node: u16) -> NodeInfo {
        NodeInfo {
            life: Life { node, life: 1 },
            world: Arc::new(WorldInfo {
                peers: Arc::clone(&self.peers),
                networks: Arc::default(),
                ledger: Arc::clone(&self.ledger),
            }),
        }
    }

    fn id(&self, sequence: u64) -> EventId {
        EventId { publisher: self.peers[0], boot: 7, sequence }
    }

    /// Node 0 publishes, as its number says.
    fn publish(&self, sequence: u64) -> (OpenPublication<'_>, Said) {
        let plan = Publish { topic: TOPIC.into(), confirm_ms: Some(1_000), ..Publish::default() };
        let (open, said) = self.ledger.publish(Life { node: 0, life: 1 }, &plan, false);
        let published = Published {
            id: self.id(sequence),
            local: 0,
            peers: 1,
            groups: 0,
            passed_over: 0,
            publication: None,
        };
        open.accepted(published);
        (open, said)
    }

    fn delivery(&self, sequence: u64, said: &Said) -> Delivery {
        self.delivery_of(sequence, TOPIC, said)
    }

    fn delivery_of(&self, sequence: u64, topic: &str, said: &Said) -> Delivery {
        let (topic, payload) = (TopicPath::parse(topic).unwrap(), Payload::value(said.clone()));
        Delivery::Event(EventMessage::new(self.id(sequence), topic, payload, 0, Marks::default()))
    }

    /// An event is owed to the first reader, as if its publisher had known of it.
    fn owe(&self, sequence: u64, said: &Said) {
        let mut events = self.ledger.events();
        let line = events.readers[0].lines.entry((self.peers[0], 7, 0)).or_default();
        line.owed.push_back((sequence, said.token));
    }

    fn broken(&self) -> Vec<&'static str> {
        self.ledger.take_violations().into_iter().map(|violation| violation.rule).collect()
    }
}

fn reader(pattern: &str) -> Subscriber {
    Subscriber { pattern: pattern.into(), ..Subscriber::default() }
}

#[test]
fn what_comes_once_and_in_order_breaks_nothing() {
    let bench = Bench::new();
    let node = bench.node(1);
    let open = bench.ledger.subscribe(&node, &reader("e0/*"));
    for sequence in 1..4 {
        let (_, said) = bench.publish(sequence);
        bench.owe(sequence, &said);
        open.found(&bench.delivery(sequence, &said));
    }
    assert_eq!(bench.broken(), [""; 0]);
    assert_eq!(bench.ledger.event_counts(), (3, 3));
}

#[test]
fn what_comes_twice_or_too_late_is_seen() {
    let bench = Bench::new();
    let node = bench.node(1);
    let open = bench.ledger.subscribe(&node, &reader("e0/*"));
    let ((_, first), (_, second)) = (bench.publish(1), bench.publish(2));
    open.found(&bench.delivery(2, &second));
    open.found(&bench.delivery(2, &second));
    open.found(&bench.delivery(1, &first));
    assert_eq!(bench.broken(), [ONCE, ORDER]);
}

#[test]
fn what_is_missing_is_seen_unless_it_was_said() {
    for told in [false, true] {
        let bench = Bench::new();
        let node = bench.node(1);
        let open = bench.ledger.subscribe(&node, &reader("e0/*"));
        let ((_, first), (_, second)) = (bench.publish(1), bench.publish(2));
        bench.owe(1, &first);
        bench.owe(2, &second);
        if told {
            let (publisher, why) = (bench.peers[0], MissedWhy::PassedOver);
            open.found(&Delivery::Missed(Missed { publisher, count: 1, why }));
        }
        open.found(&bench.delivery(2, &second));
        assert_eq!(bench.broken(), if told { vec![] } else { vec![NOT_LOST] });
    }
}

#[test]
fn what_is_for_others_or_damaged_or_of_nobody_is_seen() {
    let bench = Bench::new();
    let node = bench.node(1);
    let open = bench.ledger.subscribe(&node, &reader("e0/b"));
    let (_, said) = bench.publish(1);
    open.found(&bench.delivery(1, &said));
    assert_eq!(bench.broken(), [WANTED]);
    open.found(&bench.delivery(1, &Said { filler: "more".into(), ..said.clone() }));
    open.found(&bench.delivery_of(1, "e0/b", &said));
    open.found(&bench.delivery(9, &said));
    open.found(&bench.delivery(2, &Said { token: 99, ..said }));
    assert_eq!(bench.broken(), [WHOLE; 4]);
}

#[test]
fn a_second_member_of_a_group_is_seen() {
    let bench = Bench::new();
    let nodes = [bench.node(1), bench.node(2)];
    let plan = Subscriber { group: Some(0), ..reader("e0/a") };
    let members: Vec<_> = nodes.iter().map(|node| bench.ledger.subscribe(node, &plan)).collect();
    let (_, said) = bench.publish(1);
    members[0].found(&bench.delivery(1, &said));
    assert_eq!(bench.broken(), [""; 0]);
    members[1].found(&bench.delivery(1, &said));
    assert_eq!(bench.broken(), [ONE_OF_GROUP]);
}

#[test]
fn what_was_refused_and_came_is_seen_in_either_order() {
    let bench = Bench::new();
    let node = bench.node(1);
    let open = bench.ledger.subscribe(&node, &reader(">"));
    let (first, said) = bench.publish(1);
    open.found(&bench.delivery(1, &said));
    first.refused();
    let (second, said) = bench.publish(2);
    second.refused();
    open.found(&bench.delivery(2, &said));
    assert_eq!(bench.broken(), [REFUSED; 2]);
}

#[test]
fn an_outcome_that_comes_late_is_seen() {
    let bench = Bench::new();
    let (first, _) = bench.publish(1);
    let (second, _) = bench.publish(2);
    bench.ledger.set_now(1_000_000_000);
    first.ended(PublishOutcome::default());
    assert_eq!(bench.broken(), [""; 0]);
    bench.ledger.set_now(1_200_000_000);
    second.ended(PublishOutcome::default());
    assert_eq!(bench.broken(), [TOLD_ONCE]);
}

#[test]
fn an_event_of_who_may_not_publish_it_is_seen() {
    let bench = Bench::new();
    bench.ledger.withhold(vec![vec![0]]);
    let node = bench.node(1);
    let open = bench.ledger.subscribe(&node, &reader(">"));
    let (_, said) = bench.publish(1);
    open.found(&bench.delivery(1, &said));
    assert_eq!(bench.broken(), [PERMITTED]);
}
