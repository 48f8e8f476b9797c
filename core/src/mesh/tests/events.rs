//! Events between meshes: who gets them, once and in order, and what becomes of those that are lost.

use super::*;
use crate::events::sender::Sender;
use crate::events::{
    Delivery, Group, Missed, Mode, PublishError, PublishOutcome, PublishRequest, Published,
    QueueLimits, Scope, SubscribeRequest, WhenFull,
};
use crate::topic::{Pattern, SubscriptionKey};

fn path(text: &str) -> TopicPath {
    TopicPath::parse(text).unwrap()
}

pub(super) fn wish(pattern: &str) -> SubscribeRequest {
    SubscribeRequest::new(Pattern::parse(pattern).unwrap())
}

fn in_group(pattern: &str, name: &str, at_least_one: bool) -> SubscribeRequest {
    SubscribeRequest { group: Some(Group { name: name.into(), at_least_one }), ..wish(pattern) }
}

fn event(topic: &str, text: &str) -> PublishRequest {
    PublishRequest::new(path(topic), Payload::raw(text.to_string()))
}

impl World {
    pub(super) fn subscribe(&mut self, index: usize, request: SubscribeRequest) -> SubscriptionKey {
        let now = self.time();
        let subscribed = self.stations[index].mesh.subscribe(now, request).unwrap();
        self.settle();
        assert!(self.stations[index].mesh.is_known_by_all(subscribed.version));
        subscribed.key
    }

    /// While a link is cut without its ends knowing.
    fn subscribe_far(&mut self, index: usize, request: SubscribeRequest) -> SubscriptionKey {
        let now = self.time();
        let subscribed = self.stations[index].mesh.subscribe(now, request).unwrap();
        self.settle();
        subscribed.key
    }

    fn publish(&mut self, index: usize, request: PublishRequest) -> Published {
        let now = self.time();
        let published = self.stations[index].mesh.publish(now, &request).unwrap();
        self.settle();
        published
    }

    fn take(&mut self, index: usize, key: SubscriptionKey) -> Vec<String> {
        let mesh = &mut self.stations[index].mesh;
        let text = |delivery| match delivery {
            Delivery::Event(event) => {
                let (_, bytes) = event.payload().encode().unwrap();
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                if event.is_redelivered() { format!("{text} again") } else { text }
            }
            Delivery::Missed(Missed { count, why, .. }) => format!("{count} {why:?}"),
        };
        std::iter::from_fn(|| mesh.take_delivery(key)).map(text).collect()
    }

    fn ended(&self, index: usize) -> Vec<PublishOutcome> {
        let log = self.stations[index].log.iter();
        log.filter_map(|event| match event {
            Event::PublishEnded { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .collect()
    }
}

/// Everybody is connected to everybody.
pub(super) fn all_linked(count: usize) -> World {
    let mut world = World::new(count);
    for a in 0..count {
        for b in a + 1..count {
            world.connect(a, b);
        }
    }
    world
}

#[test]
fn an_event_reaches_every_subscriber_once_here_and_elsewhere() {
    let mut world = all_linked(3);
    let own = world.subscribe(0, wish("a/*"));
    let there = world.subscribe(1, wish("a/b"));
    let also = world.subscribe(1, wish(">"));
    let other = world.subscribe(2, wish("a/c"));
    let published = world.publish(0, event("a/b", "one"));
    assert_eq!((published.local, published.peers), (1, 1), "once to each peer that wants it");
    world.publish(0, event("a/c", "two"));
    assert_eq!(world.take(0, own), ["one", "two"]);
    assert_eq!(world.take(1, there), ["one"]);
    assert_eq!(world.take(1, also), ["one", "two"]);
    assert_eq!(world.take(2, other), ["two"]);
    for station in &world.stations {
        assert_eq!(station.mesh.load().events_unacknowledged, 0);
    }
}

#[test]
fn a_local_event_makes_no_packet_and_a_target_is_the_only_one() {
    let mut world = all_linked(3);
    let keys: Vec<_> = (0..3).map(|index| world.subscribe(index, wish("a/b"))).collect();
    let local = PublishRequest { scope: Scope::Local, ..event("a/b", "here") };
    assert_eq!(world.publish(0, local).peers, 0);
    let targeted = PublishRequest { target: Some(id(2)), ..event("a/b", "there") };
    let published = world.publish(0, targeted);
    assert_eq!((published.local, published.peers), (0, 1));
    let own = PublishRequest { target: Some(id(0)), ..event("a/b", "own") };
    let published = world.publish(0, own);
    assert_eq!((published.local, published.peers), (1, 0));
    assert_eq!(world.take(0, keys[0]), ["here", "own"]);
    assert!(world.take(1, keys[1]).is_empty());
    assert_eq!(world.take(2, keys[2]), ["there"]);
}

#[test]
fn of_a_group_one_member_gets_each_event_in_proportion() {
    let mut world = all_linked(4);
    let members: Vec<_> = [(0, 1), (1, 1), (2, 2)]
        .into_iter()
        .flat_map(|(index, count)| std::iter::repeat_n(index, count))
        .map(|index| (index, world.subscribe(index, in_group("job/>", "workers", false))))
        .collect();
    let everybody = world.subscribe(2, wish("job/*"));
    let mut wanted = Vec::new();
    for n in 0..400 {
        let from = [0, 3][n % 2];
        assert_eq!(world.publish(from, event("job/x", &format!("{n}"))).groups, 1);
        wanted.push(format!("{n}"));
    }
    let mut got: Vec<String> = Vec::new();
    for (index, key) in members {
        let of_member = world.take(index, key);
        assert!((60..150).contains(&of_member.len()), "{}", of_member.len());
        got.extend(of_member);
    }
    got.sort_by_key(|text| text.parse::<u64>().unwrap());
    assert_eq!(got, wanted, "each event once");
    assert_eq!(world.take(2, everybody).len(), 400, "who is in no group gets all");
}

#[test]
fn of_each_service_one_subscriber_gets_an_event_if_the_publisher_wants_it() {
    let mut world = all_linked(3);
    let of_service = |path: &str| SubscribeRequest {
        service: Some(TopicPath::parse(path).unwrap()),
        ..wish("a/b")
    };
    let keys: Vec<_> = (0..3)
        .flat_map(|index| [(index, "billing"), (index, "mail")])
        .map(|(index, path)| (index, world.subscribe(index, of_service(path))))
        .collect();
    let plain = world.subscribe(1, wish("a/b"));
    let one = PublishRequest { mode: Mode::OnePerService, ..event("a/b", "one") };
    for _ in 0..10 {
        assert_eq!(world.publish(0, one.clone()).groups, 2);
    }
    let got: usize = keys.iter().map(|(index, key)| world.take(*index, *key).len()).sum();
    assert_eq!((got, world.take(1, plain).len()), (20, 10));
    world.publish(0, event("a/b", "all"));
    let got: usize = keys.iter().map(|(index, key)| world.take(*index, *key).len()).sum();
    assert_eq!((got, world.take(1, plain).len()), (6, 1));
}

#[test]
fn an_event_that_nobody_in_a_group_takes_goes_to_the_next_member() {
    let mut world = all_linked(3);
    let small = QueueLimits { events_max: 1, ..QueueLimits::default() };
    let full: Vec<_> = (1..3)
        .map(|index| {
            let member = SubscribeRequest { queue: small, ..in_group("a/b", "g", false) };
            (index, world.subscribe(index, member))
        })
        .collect();
    for n in 0..2 {
        let asked = PublishRequest {
            confirm_within: Some(Duration::from_secs(1)),
            ..event("a/b", &n.to_string())
        };
        world.publish(0, asked);
    }
    let got: Vec<usize> = full.iter().map(|(index, key)| world.take(*index, *key).len()).collect();
    assert_eq!(got, [1, 1], "the first was full when the second came");
    let groups = |outcome: &PublishOutcome| (outcome.groups_served, outcome.groups_lost);
    assert_eq!(world.ended(0).iter().map(groups).collect::<Vec<_>>(), [(1, 0), (1, 0)]);
    // Nobody has room.
    for n in 0..3 {
        let asked = PublishRequest {
            confirm_within: Some(Duration::from_secs(1)),
            ..event("a/b", &n.to_string())
        };
        world.publish(0, asked);
    }
    assert_eq!(groups(world.ended(0).last().unwrap()), (0, 1));
    assert_eq!(world.ended(0).last().unwrap().acknowledged, 0, "no peer has it");
}

#[test]
fn what_was_decided_of_a_topic_follows_who_subscribes() {
    let mut world = all_linked(3);
    let first = world.subscribe(1, wish("a/*"));
    let mut taken = Vec::new();
    let say = |world: &mut World, from: usize, text: &str| {
        world.publish(from, event("a/b", text));
    };
    say(&mut world, 0, "one");
    say(&mut world, 0, "two");
    // Another publisher of the topic, and another subscriber, between events that are alike.
    say(&mut world, 2, "three");
    let second = world.subscribe(1, wish("a/b"));
    say(&mut world, 0, "four");
    taken.push(world.take(1, first));
    taken.push(world.take(1, second));
    let now = world.time();
    world.stations[1].mesh.unsubscribe(now, first);
    world.settle();
    say(&mut world, 0, "five");
    taken.push(world.take(1, second));
    assert_eq!(taken, [vec!["one", "two", "three", "four"], vec!["four"], vec!["five"]]);
}

#[test]
fn a_peer_that_is_asked_again_for_a_group_is_counted_once() {
    let mut world = all_linked(3);
    let small = QueueLimits { events_max: 1, ..QueueLimits::default() };
    for index in 1..3 {
        world.subscribe(index, wish("a/*"));
        world.subscribe(index, SubscribeRequest { queue: small, ..in_group("a/b", "g", false) });
    }
    // One member has room for the first, the other for the second, and none for the third.
    for (n, taken) in [1, 1, 0].into_iter().enumerate() {
        let asked = PublishRequest {
            confirm_within: Some(Duration::from_secs(1)),
            ..event("a/b", &n.to_string())
        };
        assert_eq!(world.publish(0, asked).peers, 2);
        let outcome = world.ended(0)[n];
        assert_eq!((outcome.acknowledged, outcome.groups_served), (2, taken));
    }
}

#[test]
fn events_under_way_when_a_link_dies_come_once_and_in_order_on_the_next() {
    let mut world = all_linked(2);
    let key = world.subscribe(1, wish("a/*"));
    world.publish(0, event("a/b", "0"));
    // Nothing arrives, and nobody knows it yet.
    world.cut.push((0, 1));
    for n in 1..5 {
        world.publish(0, event("a/b", &n.to_string()));
        world.publish(0, event("a/c", &format!("c{n}")));
    }
    world.part(0, 1);
    world.publish(0, event("a/b", "5"));
    world.heal();
    world.pass(Duration::from_secs(3));
    world.publish(0, event("a/b", "6"));
    let got = world.take(1, key);
    let of = |c: bool| got.iter().filter(|t| t.starts_with('c') == c).cloned().collect::<Vec<_>>();
    assert_eq!(of(false), ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(of(true), ["c1", "c2", "c3", "c4"]);
    assert_eq!(world.stations[0].mesh.load().events_unacknowledged, 0);
}

#[test]
fn a_peer_that_let_go_and_comes_back_in_the_same_life_goes_on_where_it_was() {
    let mut world = all_linked(2);
    let key = world.subscribe(1, wish("a/*"));
    world.publish(0, event("a/b", "1"));
    let now = world.time();
    world.stations[1].mesh.disconnect(now, id(0));
    world.settle();
    world.pass(Duration::from_secs(10));
    world.publish(0, event("a/b", "2"));
    assert_eq!(world.take(1, key), ["1", "2"]);
    assert_eq!(world.stations[0].mesh.load().events_unacknowledged, 0);
}

#[test]
fn a_peer_that_has_forgotten_us_meanwhile_goes_on_behind_what_it_acknowledged() {
    let mut world = World::new(2);
    world.connect(0, 1);
    let key = world.subscribe(1, wish("a/*"));
    world.publish(0, event("a/b", "1"));
    // Nobody keeps the connection; the one that ends it forgets the other.
    world.cut.push((0, 1));
    let now = world.time();
    world.stations[1].mesh.disconnect(now, id(0));
    world.settle();
    world.pass(Duration::from_secs(400));
    assert_eq!(world.stations[1].mesh.load().peers, 0);
    world.heal();
    world.pass(Duration::from_secs(200));
    world.publish(0, event("a/b", "2"));
    assert_eq!(world.take(1, key), ["1", "2"]);
    assert_eq!(world.stations[0].mesh.load().events_unacknowledged, 0);
}

#[test]
fn a_peer_that_takes_nothing_keeps_a_publisher_waiting_or_is_passed_over_and_told() {
    let mut world = all_linked(3);
    let key = world.subscribe(1, wish("a/b"));
    let other = world.subscribe(2, wish("a/b"));
    world.cut.push((0, 1));
    let max = world.stations[0].mesh.limits().events_unacknowledged_max;
    for _ in 0..max {
        world.publish(0, event("a/b", "x"));
    }
    assert_eq!(world.take(2, other).len(), max);
    let now = world.time();
    let mesh = &mut world.stations[0].mesh;
    let refused = mesh.publish(now, &event("a/b", "refused")).unwrap_err();
    assert_eq!(refused, PublishError::WouldBlock { peer: id(1), events: max });
    let patient = PublishRequest { when_full: WhenFull::PassOver, ..event("a/b", "y") };
    assert_eq!(world.publish(0, patient.clone()).passed_over, 1);
    assert_eq!(world.publish(0, patient).passed_over, 1);
    assert_eq!(world.take(2, other).len(), 2, "nobody else waits for it");
    assert_eq!(world.saw(0, |event| matches!(event, Event::PublishRoom)), 0);
    world.part(0, 1);
    world.heal();
    world.pass(Duration::from_secs(3));
    assert_eq!(world.saw(0, |event| matches!(event, Event::PublishRoom)), 1);
    let got = world.take(1, key);
    assert_eq!((got.len(), got.last().unwrap().as_str()), (max + 1, "2 PassedOver"));
}

/// The bound of events that a peer of station 0 has not acknowledged.
fn allow_few_unacknowledged(world: &mut World) -> usize {
    let limits = Limits { events_unacknowledged_max: 64, ..Limits::default() };
    world.stations[0].mesh.sender = Sender::new(&limits);
    limits.events_unacknowledged_max
}

#[test]
fn a_peer_that_was_waited_for_in_vain_is_waited_for_no_more_until_it_has_room() {
    let mut world = all_linked(3);
    let key = world.subscribe(1, wish("a/b"));
    let other = world.subscribe(2, wish("a/b"));
    let waiting = PublishRequest { when_full: WhenFull::RefuseFirst, ..event("a/b", "x") };
    let patient = PublishRequest { when_full: WhenFull::PassOver, ..event("a/b", "x") };
    // It gets everything and acknowledges nothing.
    world.mute.push((1, 0));
    let max = allow_few_unacknowledged(&mut world);
    for _ in 0..max {
        world.publish(0, waiting.clone());
    }
    let now = world.time();
    let refused = world.stations[0].mesh.publish(now, &waiting).unwrap_err();
    assert!(matches!(refused, PublishError::WouldBlock { .. }), "{refused}");
    assert_eq!(world.publish(0, patient).passed_over, 1, "its publisher's patience has ended");
    for _ in 0..2 * max {
        let published = world.publish(0, waiting.clone());
        assert_eq!((published.peers, published.passed_over), (1, 1), "nobody waits again");
    }
    assert_eq!(world.take(2, other).len(), 3 * max + 1);
    // It has room again: it is told what it missed, and waited for as before.
    world.mute.clear();
    world.part(0, 1);
    world.heal();
    world.pass(Duration::from_secs(3));
    assert_eq!(world.publish(0, waiting).passed_over, 0);
    world.pass(Duration::from_secs(1));
    let got = world.take(1, key);
    assert_eq!(got.len(), max + 2, "two words of what it missed at most: {:?}", got.last());
    assert_eq!(got.iter().filter(|got| *got == "x").count(), max + 1);
}

#[test]
fn the_only_member_of_a_group_is_waited_for_in_vain_once_too() {
    let mut world = all_linked(2);
    world.subscribe(1, in_group("a/b", "g", false));
    world.mute.push((1, 0));
    let max = allow_few_unacknowledged(&mut world);
    let waiting = PublishRequest { when_full: WhenFull::RefuseFirst, ..event("a/b", "x") };
    for _ in 0..max {
        world.publish(0, waiting.clone());
    }
    let now = world.time();
    assert!(world.stations[0].mesh.publish(now, &waiting).is_err());
    let patient = PublishRequest { when_full: WhenFull::PassOver, ..waiting.clone() };
    world.publish(0, patient);
    for _ in 0..10 {
        assert_eq!(world.publish(0, waiting.clone()).groups, 0, "nobody waits again");
    }
    world.pass(Duration::from_secs(31));
    world.publish(0, waiting);
    assert!(world.stations[0].mesh.links_up(id(1)).is_empty(), "and it is closed as any other");
}

#[test]
fn many_peers_that_take_nothing_keep_publishers_waiting_for_a_few_of_them() {
    const PEERS: usize = 12;
    let mut world = World::new(PEERS + 2);
    for peer in 1..PEERS + 2 {
        world.connect(0, peer);
        // Each is full at another time.
        let topics = if peer <= PEERS { format!("t{peer}/>") } else { "last/>".into() };
        world.subscribe(peer, wish(&topics));
        world.mute.push((peer, 0));
    }
    let max = allow_few_unacknowledged(&mut world);
    let mut waits = 0;
    for peer in 1..=PEERS {
        let topic = format!("t{peer}/a");
        let waiting = PublishRequest { when_full: WhenFull::RefuseFirst, ..event(&topic, "x") };
        for _ in 0..2 * max {
            let now = world.time();
            if world.stations[0].mesh.publish(now, &waiting).is_err() {
                waits += 1;
                let patient = PublishRequest { when_full: WhenFull::PassOver, ..waiting.clone() };
                world.publish(0, patient);
            }
        }
    }
    let limits = Limits::default();
    assert_eq!(waits, limits.publish_waits_in_vain_max);
    // Later one more is waited for.
    world.pass(Duration::from_millis(limits.publish_wait_interval_ms.into()));
    let waiting = PublishRequest { when_full: WhenFull::RefuseFirst, ..event("last/a", "x") };
    for _ in 0..max {
        world.publish(0, waiting.clone());
    }
    let now = world.time();
    let refused = world.stations[0].mesh.publish(now, &waiting).unwrap_err();
    assert!(matches!(refused, PublishError::WouldBlock { .. }), "{refused:?}");
}

#[test]
fn a_peer_that_lost_its_stream_while_it_lagged_is_judged_anew() {
    let mut world = all_linked(2);
    world.subscribe(1, wish("a/b"));
    world.mute.push((1, 0));
    let max = allow_few_unacknowledged(&mut world);
    let patient = PublishRequest { when_full: WhenFull::PassOver, ..event("a/b", "x") };
    for _ in 0..max + 1 {
        world.publish(0, patient.clone());
    }
    world.mute.clear();
    world.restart(1, 2);
    world.pass(Duration::from_secs(40));
    world.subscribe(1, wish("a/b"));
    world.mute.push((1, 0));
    for _ in 0..max + 1 {
        world.publish(0, patient.clone());
    }
    assert_eq!(world.stations[0].mesh.links_up(id(1)).len(), 1, "it has had no time yet");
}

#[test]
fn a_peer_that_acknowledges_nothing_for_long_is_closed() {
    let mut world = all_linked(2);
    world.subscribe(1, wish("a/b"));
    world.mute.push((1, 0));
    let patient = PublishRequest { when_full: WhenFull::PassOver, ..event("a/b", "x") };
    let max = allow_few_unacknowledged(&mut world);
    for _ in 0..max + 1 {
        world.publish(0, patient.clone());
    }
    world.pass(Duration::from_secs(29));
    world.publish(0, patient.clone());
    assert_eq!(world.stations[0].mesh.links_up(id(1)).len(), 1);
    world.pass(Duration::from_secs(2));
    world.publish(0, patient);
    assert!(world.stations[0].mesh.links_up(id(1)).is_empty());
    assert_eq!(world.stations[0].mesh.load().events_unacknowledged, 0);
    assert_eq!(world.stations[0].mesh.refusals().of(crate::base::Bound::EventsAckPatience), 1);
}

#[test]
fn a_subscriber_that_reads_nothing_misses_events_and_nobody_else_does() {
    let mut world = all_linked(2);
    let queue = QueueLimits { events_max: 2, ..QueueLimits::default() };
    let slow = world.subscribe(1, SubscribeRequest { queue, ..wish("a/b") });
    let quick = world.subscribe(1, wish("a/b"));
    for n in 0..5 {
        world.publish(0, event("a/b", &n.to_string()));
    }
    assert_eq!(world.take(1, quick), ["0", "1", "2", "3", "4"]);
    assert_eq!(world.take(1, slow), ["0", "1", "3 QueueFull"]);
}

#[test]
fn what_became_of_an_event_is_said_once() {
    let mut world = all_linked(3);
    world.subscribe(1, wish("a/b"));
    world.subscribe(2, wish("a/b"));
    let asked = |text| PublishRequest {
        confirm_within: Some(Duration::from_secs(2)),
        ..event("a/b", text)
    };
    world.publish(0, asked("all"));
    world.cut.push((0, 1));
    world.publish(0, asked("one"));
    assert_eq!(world.ended(0).len(), 1);
    world.pass(Duration::from_secs(3));
    let ended = world.ended(0);
    assert_eq!(ended.len(), 2);
    assert_eq!((ended[0].acknowledged, ended[0].undecided), (2, 0));
    assert_eq!((ended[1].acknowledged, ended[1].undecided), (1, 1));
    assert!(ended[0].is_complete() && !ended[1].is_complete());
    assert_eq!(world.stations[0].mesh.load().publications, 0);
}

#[test]
fn a_peer_that_restarts_has_lost_what_it_had_not_acknowledged_and_a_group_hands_it_on() {
    for at_least_one in [false, true] {
        let mut world = all_linked(3);
        let first = world.subscribe(1, in_group("a/b", "g", at_least_one));
        world.cut.push((0, 1));
        let asked =
            PublishRequest { confirm_within: Some(Duration::from_secs(50)), ..event("a/b", "job") };
        world.publish(0, asked);
        let second = world.subscribe_far(2, in_group("a/b", "g", at_least_one));
        world.heal();
        world.restart(1, 2);
        world.pass(Duration::from_secs(3));
        assert!(world.take(1, first).is_empty());
        let got = world.take(2, second);
        let [outcome] = world.ended(0)[..] else { panic!("it ends once") };
        if at_least_one {
            assert_eq!(got, ["job again"]);
            assert_eq!((outcome.groups_served, outcome.groups_lost), (1, 0));
        } else {
            assert!(got.is_empty(), "it may have been handled");
            assert_eq!((outcome.groups_served, outcome.groups_lost), (0, 1));
        }
    }
}

#[test]
fn who_unsubscribes_gets_nothing_more() {
    let mut world = all_linked(2);
    let key = world.subscribe(1, wish("a/b"));
    let stays = world.subscribe(1, wish("a/b"));
    world.publish(0, event("a/b", "1"));
    let now = world.time();
    world.stations[1].mesh.unsubscribe(now, key);
    world.settle();
    assert_eq!(world.publish(0, event("a/b", "2")).peers, 1);
    assert_eq!(world.take(1, stays), ["1", "2"]);
    assert!(world.take(1, key).is_empty());
    let now = world.time();
    world.stations[1].mesh.unsubscribe(now, stays);
    world.settle();
    assert_eq!(world.publish(0, event("a/b", "3")).peers, 0);
}

#[test]
fn an_own_value_reaches_own_subscribers_as_it_is() {
    #[derive(serde::Serialize)]
    struct Unreadable(u32);
    let mut world = World::new(1);
    let key = world.subscribe(0, wish("a/b"));
    world.publish(0, PublishRequest::new(path("a/b"), Payload::value(Unreadable(7))));
    let Some(Delivery::Event(event)) = world.stations[0].mesh.take_delivery(key) else {
        panic!("it is there")
    };
    assert_eq!(event.get::<Unreadable>().unwrap().0, 7);
}

#[test]
fn application_code_publishes_and_reads() {
    let mut world = all_linked(2);
    let handle = world.handle(1);
    let sum = world.run(1, async move {
        let mut subscription = handle.subscribe("numbers/*").await.unwrap();
        subscription.known_by_all().await;
        let mut sum = 0;
        for _ in 0..600 {
            sum += subscription.event().await.unwrap().decode::<u64>().unwrap();
        }
        sum
    });
    let handle = world.handle(0);
    let receipts = world.run(0, async move {
        for n in 1..=599u64 {
            handle.publish("numbers/odd", n).await.unwrap();
        }
        let last = handle.event("numbers/even").value(600u64);
        let receipt = last.send_confirmed(Duration::from_secs(5)).await.unwrap();
        assert!(handle.publish("not a topic", 1).await.is_err());
        assert!(handle.subscribe("not//it").await.is_err());
        receipt
    });
    assert_eq!(*sum.lock().unwrap(), Some(600 * 601 / 2));
    let receipt = receipts.lock().unwrap().take().unwrap();
    assert_eq!((receipt.published.peers, receipt.outcome.acknowledged), (1, 1));
    // Its reader was dropped.
    assert!(world.stations[1].mesh.subscriptions().is_empty());
}

#[test]
fn a_patient_publisher_waits_for_room_and_then_goes_on_without_the_slow_one() {
    let mut world = all_linked(2);
    let key = world.subscribe(1, wish("a/b"));
    let max = world.stations[0].mesh.limits().events_unacknowledged_max as u64;
    world.cut.push((0, 1));
    let handle = world.handle(0);
    let done = world.run(0, async move {
        for n in 0..max {
            handle.publish("a/b", n).await.unwrap();
        }
        let refused = handle.try_publish("a/b", 0).await.unwrap_err();
        assert!(matches!(refused, PublishError::WouldBlock { .. }));
        handle.publish("a/b", max).await.unwrap().passed_over
    });
    assert_eq!(*done.lock().unwrap(), None);
    world.pass(Duration::from_millis(1_100));
    assert_eq!(*done.lock().unwrap(), Some(1));
    world.part(0, 1);
    world.heal();
    world.pass(Duration::from_secs(3));
    assert_eq!(world.take(1, key).len() as u64, max + 1);
}

#[test]
fn a_node_that_stops_first_brings_its_events_home() {
    let mut world = all_linked(2);
    let key = world.subscribe(1, wish("a/b"));
    let now = world.time();
    let mesh = &mut world.stations[0].mesh;
    for n in 0..100 {
        mesh.publish(now, &event("a/b", &n.to_string())).unwrap();
    }
    mesh.shutdown(now);
    let refused = mesh.publish(now, &event("a/b", "late"));
    assert_eq!(refused, Err(PublishError::Stopping));
    world.settle();
    assert!(world.stations[0].mesh.is_stopped());
    assert_eq!(world.take(1, key).len(), 100);
}

#[test]
fn bounds_and_misuse_are_answered() {
    let mut world = World::new(1);
    let now = world.time();
    let mesh = &mut world.stations[0].mesh;
    assert!(mesh.subscribe(now, wish("nowhere:a/b")).is_err());
    assert!(mesh.subscribe(now, in_group("a/b", "", false)).is_err());
    assert!(mesh.subscribe(now, in_group("a/b", &"g".repeat(200), false)).is_err());
    assert!(matches!(mesh.publish(now, &event("nowhere:a", "")), Err(PublishError::Denied(_))));
    let large = Payload::raw(vec![0; mesh.limits().message_bytes_max + 1]);
    let refused = mesh.publish(now, &PublishRequest::new(path("a"), large));
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })));
    assert!(mesh.subscriptions().is_empty());
    let published = mesh.publish(now, &event("a/b", "nobody")).unwrap();
    assert_eq!((published.local, published.peers, published.groups), (0, 0, 0));
}

#[test]
fn a_group_of_which_nobody_has_room_is_part_of_the_outcome() {
    let mut world = World::new(1);
    let queue = QueueLimits { events_max: 1, ..QueueLimits::default() };
    world.subscribe(0, SubscribeRequest { queue, ..in_group("a/b", "g", false) });
    let asked =
        PublishRequest { confirm_within: Some(Duration::from_secs(1)), ..event("a/b", "x") };
    assert_eq!(world.publish(0, asked.clone()).groups, 1);
    assert_eq!(world.publish(0, asked).groups, 0);
    let ended: Vec<_> =
        world.ended(0).iter().map(|e| (e.groups_served, e.groups_lost, e.is_complete())).collect();
    assert_eq!(ended, [(1, 0, true), (0, 1, false)]);
}
