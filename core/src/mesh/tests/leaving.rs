//! Members of groups that leave: no event of a group is lost by that, and none is handled twice.

use std::collections::BTreeMap;

use super::events::{all_linked, wish};
use super::*;
use crate::events::{Group, Mode, PublishRequest, Scope, SubscribeRequest};

/// Which member handled which event, in the order in which they did.
type Handled = Arc<Mutex<Vec<(usize, u64)>>>;

fn job(n: u64) -> PublishRequest {
    let topic = TopicPath::parse("jobs/a").unwrap();
    PublishRequest::new(topic, Payload::raw(n.to_string()))
}

fn number(event: &crate::events::EventMessage) -> u64 {
    let (_, bytes) = event.payload().encode().unwrap();
    String::from_utf8(bytes.to_vec()).unwrap().parse().unwrap()
}

/// How a member of the group ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It drops its subscription.
    Drop,
    /// It takes no more, and handles what it has.
    Leave,
    /// Its node stops, and it reads on until there is no more.
    Stop,
    /// It stays.
    Never,
}

/// A member that handles an event in so long.
fn member(world: &mut World, index: usize, end: (End, Duration), each: Duration, to: &Handled) {
    let (handle, handled) = (world.handle(index), Arc::clone(to));
    world.run(index, async move {
        let mut subscription = handle.subscription("jobs/>").group("g").open().await.unwrap();
        let until = handle.now().mono + end.1;
        let mut left = false;
        while let Some(event) = subscription.event().await {
            handled.lock().unwrap().push((index, number(&event)));
            handle.sleep(each).await;
            if handle.now().mono >= until && !left {
                left = true;
                match end.0 {
                    End::Drop => return,
                    End::Leave => subscription.leave(),
                    End::Stop | End::Never => {}
                }
            }
        }
    });
}

fn assert_each_once(handled: &Handled, events: u64) {
    let mut counts: BTreeMap<u64, usize> = (0..events).map(|n| (n, 0)).collect();
    for (_, n) in handled.lock().unwrap().iter() {
        *counts.get_mut(n).unwrap() += 1;
    }
    let lost: Vec<_> = counts.iter().filter(|(_, times)| **times == 0).collect();
    let twice: Vec<_> = counts.iter().filter(|(_, times)| **times > 1).collect();
    assert!(
        lost.is_empty(),
        "{} of {events} are lost: {:?}",
        lost.len(),
        &lost[..lost.len().min(5)]
    );
    assert!(twice.is_empty(), "{} were handled twice", twice.len());
}

#[test]
fn members_that_leave_one_by_one_under_load_lose_no_event() {
    const EVENTS: u64 = 4_000;
    let mut world = all_linked(5);
    let handled = Handled::default();
    let mut gone = false;
    let secs = Duration::from_secs;
    let ends =
        [(End::Drop, secs(1)), (End::Leave, secs(2)), (End::Stop, secs(3)), (End::Never, secs(99))];
    for (index, end) in (1..).zip(ends) {
        member(&mut world, index, end, Duration::from_millis(10), &handled);
    }
    for n in 0..EVENTS {
        let now = world.time();
        world.stations[0].mesh.publish(now, &job(n)).unwrap();
        if n % 40 == 39 {
            world.pass(Duration::from_millis(40));
        }
        if n == 1_500 {
            let now = world.time();
            world.stations[3].mesh.shutdown(now);
        }
        if !gone && world.stations[3].mesh.is_stopped() {
            assert!(world.stations[3].mesh.has_left_groups());
            world.restart(3, 2);
            gone = true;
        }
    }
    // Its program is gone with it, and handles nothing after that.
    assert!(gone, "a node waits two seconds at most for what its members have to read");
    world.pass(secs(60));
    assert_each_once(&handled, EVENTS);
    assert_eq!(world.saw(0, |event| matches!(event, Event::GroupEventsLost { .. })), 0);
    let by = |index| handled.lock().unwrap().iter().filter(|(by, _)| *by == index).count();
    assert!((1..=4).all(|index| by(index) > 50), "each had a part");
    assert!(world.stations[0].mesh.load().events_unacknowledged == 0);
}

#[test]
fn events_under_way_to_a_node_that_stops_go_to_another_member() {
    let mut world = all_linked(3);
    let handled = Handled::default();
    for index in 1..3 {
        let end = (End::Stop, Duration::from_secs(99));
        member(&mut world, index, end, Duration::ZERO, &handled);
    }
    // Its publisher does not know yet that it stops.
    let now = world.time();
    world.stations[1].mesh.shutdown(now);
    for n in 0..100 {
        world.stations[0].mesh.publish(now, &job(n)).unwrap();
    }
    world.pass(Duration::ZERO);
    assert!(world.stations[1].mesh.is_stopped(), "at once, as its member has read all");
    assert_each_once(&handled, 100);
    assert!(handled.lock().unwrap().iter().all(|(by, _)| *by == 2));
}

#[test]
fn a_member_that_reads_nothing_gives_its_events_back_when_its_node_stops() {
    let mut world = all_linked(3);
    let handle = world.handle(1);
    let kept =
        world.run(1, async move { handle.subscription("jobs/>").group("g").open().await.unwrap() });
    let handled = Handled::default();
    member(&mut world, 2, (End::Never, Duration::ZERO), Duration::ZERO, &handled);
    for n in 0..100 {
        let now = world.time();
        world.stations[0].mesh.publish(now, &job(n)).unwrap();
    }
    world.settle();
    assert!(handled.lock().unwrap().len() < 80);
    let now = world.time();
    world.stations[1].mesh.shutdown(now);
    world.pass(Duration::from_millis(1_900));
    assert!(!world.stations[1].mesh.is_stopped(), "it may read what it has");
    world.pass(Duration::from_millis(200));
    assert!(world.stations[1].mesh.is_stopped());
    assert_each_once(&handled, 100);
    drop(kept);
}

#[test]
fn what_a_member_has_not_read_goes_to_another_one_of_its_node_first() {
    let mut world = all_linked(2);
    let handle = world.handle(1);
    let open = async move {
        let first = handle.subscription("jobs/>").group("g").open().await.unwrap();
        let second = handle.subscription("jobs/>").group("g").open().await.unwrap();
        second.known_by_all().await;
        (first, second)
    };
    let cell = world.run(1, open);
    let (first, mut second) = cell.lock().unwrap().take().unwrap();
    for n in 0..100 {
        let now = world.time();
        world.stations[0].mesh.publish(now, &job(n)).unwrap();
    }
    world.settle();
    drop(first);
    world.settle();
    let handled = Handled::default();
    let to = Arc::clone(&handled);
    world.run(1, async move {
        while let Some(event) = second.event().await {
            to.lock().unwrap().push((1, number(&event)));
        }
    });
    assert_each_once(&handled, 100);
}

#[test]
fn own_events_go_to_peers_when_the_own_member_leaves_unless_they_are_local() {
    let mut world = all_linked(2);
    let handled = Handled::default();
    let group = Group { name: "g".into(), at_least_one: false };
    let own = world.subscribe(0, SubscribeRequest { group: Some(group), ..wish("jobs/>") });
    let now = world.time();
    for n in 0..10 {
        let local = if n < 5 { Scope::Network } else { Scope::Local };
        world.stations[0].mesh.publish(now, &PublishRequest { scope: local, ..job(n) }).unwrap();
    }
    member(&mut world, 1, (End::Never, Duration::ZERO), Duration::ZERO, &handled);
    world.stations[0].mesh.unsubscribe(now, own);
    world.settle();
    assert_each_once(&handled, 5);
    let lost = |event: &Event| matches!(event, Event::GroupEventsLost { given_back_by, count: 5 } if *given_back_by == id(0));
    assert_eq!(world.saw(0, lost), 1, "said once, and how many");
}

#[test]
fn the_publisher_is_told_when_no_member_is_left() {
    let mut world = all_linked(2);
    let group = Group { name: "g".into(), at_least_one: false };
    let only = world.subscribe(1, SubscribeRequest { group: Some(group), ..wish("jobs/>") });
    let now = world.time();
    for n in 0..7 {
        world.stations[0].mesh.publish(now, &job(n)).unwrap();
    }
    world.settle();
    world.stations[1].mesh.unsubscribe(now, only);
    world.settle();
    let lost = |event: &Event| matches!(event, Event::GroupEventsLost { given_back_by, count: 7 } if *given_back_by == id(1));
    assert_eq!(world.saw(0, lost), 1);
    assert!(world.stations[0].mesh.publications.is_empty());
}

#[test]
fn what_is_given_back_survives_the_loss_of_the_link() {
    let mut world = all_linked(3);
    let handled = Handled::default();
    let group = Group { name: "g".into(), at_least_one: false };
    let leaver = world.subscribe(1, SubscribeRequest { group: Some(group), ..wish("jobs/>") });
    let now = world.time();
    for n in 0..50 {
        world.stations[0].mesh.publish(now, &job(n)).unwrap();
    }
    world.settle();
    member(&mut world, 2, (End::Never, Duration::ZERO), Duration::ZERO, &handled);
    world.cut.push((0, 1));
    let now = world.time();
    world.stations[1].mesh.unsubscribe(now, leaver);
    world.settle();
    assert!(handled.lock().unwrap().is_empty());
    world.part(0, 1);
    world.heal();
    world.pass(Duration::from_secs(3));
    assert_each_once(&handled, 50);
    let mesh = &world.stations[1].mesh;
    assert_eq!(mesh.returns_waiting(*mesh.by_id.get(&id(0)).unwrap()), 0, "it is confirmed");
}

#[test]
fn a_subscriber_of_a_service_gives_back_what_was_for_one_of_them_alone() {
    let mut world = all_linked(3);
    let of_service =
        SubscribeRequest { service: Some(TopicPath::parse("billing").unwrap()), ..wish("jobs/>") };
    let leaver = world.subscribe(1, of_service.clone());
    let now = world.time();
    for n in 0..20 {
        let mode = if n < 10 { Mode::OnePerService } else { Mode::All };
        world.stations[0].mesh.publish(now, &PublishRequest { mode, ..job(n) }).unwrap();
    }
    world.settle();
    let stays = world.subscribe(2, of_service);
    let now = world.time();
    world.stations[1].mesh.unsubscribe(now, leaver);
    world.settle();
    let got: Vec<u64> = std::iter::from_fn(|| world.stations[2].mesh.take_delivery(stays))
        .map(|delivery| match delivery {
            crate::events::Delivery::Event(event) => number(&event),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(got, (0..10).collect::<Vec<_>>());
}

#[test]
fn an_event_that_no_peer_was_lent_is_not_taken_back() {
    use crate::events::ack::{EventAck, Returned};
    use crate::events::group::GroupName;
    let mut world = all_linked(3);
    let handled = Handled::default();
    member(&mut world, 2, (End::Never, Duration::ZERO), Duration::ZERO, &handled);
    let now = world.time();
    for n in 0..5 {
        world.stations[0].mesh.publish(now, &job(n)).unwrap();
    }
    world.settle();
    // Station 1 gives back what station 2 has, and what nobody has published.
    let peer = *world.stations[0].mesh.by_id.get(&id(1)).unwrap();
    let group = GroupName::Group("g".into());
    let returned =
        (1..100).map(|sequence| Returned { group: group.clone(), sequence }).collect::<Vec<_>>();
    let ack = EventAck {
        stream: 0,
        next: [1; 4],
        again: 0,
        declined: Vec::new(),
        nothing_came: true,
        returned,
        returned_from: 1,
        returned_next: 0,
        is_last: true,
    };
    world.stations[0].mesh.events_acknowledged(peer, &ack);
    world.settle();
    assert_each_once(&handled, 5);
    assert!(world.stations[0].mesh.publications.is_empty());
}
