//! Publishers of many events: they wait for room and not for each event, lose nothing in silence, and say what was
//! refused.

use super::*;
use crate::events::{Delivery, PublishError, QueueLimits, SubscribeRequest};
use crate::mesh::tests::events::{all_linked, wish};
use crate::payload::Payload;
use crate::service::Totals;
use crate::service::publisher::WAITING_MAX;
use crate::topic::SubscriptionKey;

/// The numbers that wait for a subscriber, and how many events it missed.
fn numbers(world: &mut World, node: usize, key: SubscriptionKey) -> (Vec<u64>, u64) {
    let (mut came, mut missed) = (Vec::new(), 0);
    while let Some(delivery) = world.stations[node].mesh.take_delivery(key) {
        match delivery {
            Delivery::Event(event) => came.push(event.decode().unwrap()),
            Delivery::Missed(word) => missed += word.count,
        }
    }
    (came, missed)
}

#[test]
fn many_events_come_in_order_here_and_there() {
    const EVENTS: u64 = 3 * WAITING_MAX as u64;
    let mut world = all_linked(3);
    let keys = [0, 1, 2].map(|node| (node, world.subscribe(node, wish("a/*"))));
    let handle = world.handle(0);
    let done = world.run(0, async move {
        let publisher = handle.publisher("a/b").unwrap();
        for n in 0..EVENTS {
            publisher.send(n).await.unwrap();
        }
        publisher.flush().await.unwrap()
    });
    world.settle();
    let totals = Totals { events: EVENTS, local: EVENTS, peers: 2 * EVENTS, ..Totals::default() };
    assert_eq!(*done.lock().unwrap(), Some(totals));
    for (node, key) in keys {
        let (came, missed) = numbers(&mut world, node, key);
        assert_eq!((came.len() as u64, missed), (EVENTS, 0));
        assert!(came.is_sorted());
    }
}

#[test]
fn what_was_handed_over_is_published_also_when_the_publisher_is_dropped() {
    let mut world = all_linked(2);
    let key = world.subscribe(1, wish("a/b"));
    let handle = world.handle(0);
    let done = world.run(0, async move {
        let publisher = handle.publisher("a/b").unwrap();
        publisher.send(1u64).await.unwrap();
        publisher.send(2u64).await.unwrap();
    });
    world.settle();
    assert!(done.lock().unwrap().is_some());
    assert_eq!(numbers(&mut world, 1, key), (vec![1, 2], 0));
}

#[test]
fn a_peer_that_is_slow_is_waited_for_once_and_then_passed_over() {
    let mut world = all_linked(3);
    let quick = world.subscribe(2, wish("a/b"));
    let slow = world.subscribe(1, wish("a/b"));
    let max = world.stations[0].mesh.limits().events_unacknowledged_max as u64;
    // More than may wait for the slow peer, in the hands of the host, and for the host.
    let many = max + 2 * WAITING_MAX as u64 + 10;
    world.cut.push((0, 1));
    let handle = world.handle(0);
    let publisher = Arc::new(handle.publisher("a/b").unwrap());
    let sender = Arc::clone(&publisher);
    let handed_over = world.run(0, async move {
        for n in 0..many {
            sender.send(n).await.unwrap();
        }
    });
    world.pass(Duration::from_millis(900));
    assert!(handed_over.lock().unwrap().is_none(), "it waits");
    let (before, _) = numbers(&mut world, 2, quick);
    assert_eq!(before.len() as u64, max, "as do the others: nobody gets what one has no room for");
    // Once: not again for each event.
    world.pass(Duration::from_millis(200));
    assert!(handed_over.lock().unwrap().is_some());
    let flushed = Arc::clone(&publisher);
    let totals = world.run(0, async move { flushed.flush().await.unwrap() });
    world.settle();
    let passed_over = many - max;
    let expected =
        Totals { events: many, peers: 2 * many - passed_over, passed_over, ..Totals::default() };
    assert_eq!(*totals.lock().unwrap(), Some(expected));
    world.part(0, 1);
    world.heal();
    world.pass(Duration::from_secs(3));
    let (came, missed) = numbers(&mut world, 1, slow);
    assert_eq!((came.len() as u64, missed), (max, passed_over));
    // There is room: nobody is passed over any more.
    let again = Arc::clone(&publisher);
    let totals = world.run(0, async move {
        for n in many..many + 100 {
            again.send(n).await.unwrap();
        }
        again.flush().await.unwrap()
    });
    world.pass(Duration::from_secs(1));
    assert_eq!(totals.lock().unwrap().unwrap().passed_over, passed_over);
    let (came, missed) = numbers(&mut world, 1, slow);
    assert_eq!((came.first(), came.len(), missed), (Some(&many), 100, 0));
}

#[test]
fn what_is_refused_is_told_and_the_rest_goes_on() {
    let mut world = all_linked(2);
    let key = world.subscribe(1, wish("a/b"));
    let max = world.stations[0].mesh.limits().message_bytes_max;
    let handle = world.handle(0);
    assert!(handle.publisher("a//b").is_err());
    let done = world.run(0, async move {
        let publisher = handle.publisher("a/b").unwrap();
        publisher.send(1u64).await.unwrap();
        publisher.send_payload(Payload::raw(vec![0; max + 1])).await.unwrap();
        // So much at a time has to wait, and hears of it.
        let refused = publisher.send(2u64).await;
        assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");
        publisher.send(3u64).await.unwrap();
        publisher.flush().await.unwrap()
    });
    world.settle();
    let totals = Totals { events: 2, peers: 2, refused: 1, ..Totals::default() };
    assert_eq!(*done.lock().unwrap(), Some(totals));
    assert_eq!(numbers(&mut world, 1, key), (vec![1, 3], 0));
}

#[test]
fn who_does_not_wait_is_told_that_there_is_no_room() {
    let mut world = all_linked(2);
    world.subscribe(1, wish("a/b"));
    let max = world.stations[0].mesh.limits().events_unacknowledged_max as u64;
    world.cut.push((0, 1));
    let handle = world.handle(0);
    let done = world.run(0, async move {
        let publisher = handle.event("a/b").no_waiting().publisher().unwrap();
        let mut refused = 0;
        for n in 0..max + 5 {
            while let Err(error) = publisher.send(n).await {
                assert!(matches!(error, PublishError::WouldBlock { .. }), "{error}");
                refused += 1;
            }
        }
        let last = publisher.flush().await;
        (refused + u64::from(last.is_err()), publisher.flush().await.unwrap())
    });
    world.settle();
    let (told, totals) = done.lock().unwrap().take().unwrap();
    assert!(told > 0);
    assert_eq!((totals.events, totals.refused, totals.passed_over), (max, 5, 0));
}

#[test]
fn a_publisher_of_a_node_that_has_stopped_says_so() {
    let mut world = all_linked(2);
    let handle = world.handle(0);
    let publisher = Arc::new(handle.publisher("a/b").unwrap());
    let now = world.time();
    world.stations[0].mesh.shutdown(now);
    let done = world.run(0, async move {
        publisher.send(1u64).await.unwrap();
        let refused = publisher.flush().await;
        assert!(matches!(refused, Err(PublishError::Stopping)), "{refused:?}");
    });
    world.settle();
    assert!(done.lock().unwrap().is_some());
}

#[test]
fn a_subscriber_whose_queue_is_small_misses_part_of_what_comes_together() {
    let mut world = all_linked(2);
    let queue = QueueLimits { events_max: 3, ..QueueLimits::default() };
    let key = world.subscribe(1, SubscribeRequest { queue, ..wish("a/b") });
    let handle = world.handle(0);
    let done = world.run(0, async move {
        let publisher = handle.publisher("a/b").unwrap();
        for n in 0..10u64 {
            publisher.send(n).await.unwrap();
        }
        publisher.flush().await.unwrap()
    });
    world.settle();
    assert_eq!(done.lock().unwrap().unwrap().peers, 10);
    assert_eq!(numbers(&mut world, 1, key), (vec![0, 1, 2], 7));
}
