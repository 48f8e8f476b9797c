//! Nodes that leave: nobody's call is lost for it.

use super::*;

fn worker(index: usize) -> crate::service::ServiceBuilder {
    service("work").action("do", move |cx, ()| async move {
        cx.sleep(MS * 20).await;
        Ok(index as u64)
    })
}

#[test]
fn a_rolling_restart_under_load_loses_no_call() {
    let mut world = World::new(4);
    for index in 1..4 {
        world.serve(index, worker(index));
        world.connect(0, index);
    }
    let mut calls = Vec::new();
    let mut load = |world: &mut World, rounds: usize| {
        for _ in 0..rounds {
            let request = world.handle(0).request("work/do").value(());
            calls.push(world.run(0, async move { request.send_as::<u64>().await }));
            world.pass(MS * 2);
        }
    };
    load(&mut world, 100);
    for index in 1..4 {
        let now = world.time();
        world.stations[index].mesh.shutdown(now);
        load(&mut world, 50);
        assert!(world.stations[index].mesh.is_stopped(), "it waits for nobody who has an answer");
        world.restart(index, 2);
        world.serve(index, worker(index));
        load(&mut world, 50);
        world.connect(0, index);
        load(&mut world, 100);
    }
    world.pass(MS * 100);
    let answers: Vec<u64> = calls
        .into_iter()
        .map(|call| call.lock().unwrap().take().expect("it has ended").expect("an answer"))
        .collect();
    assert_eq!(answers.len(), 700);
    assert!((1..4).all(|index| answers[600..].contains(&index)), "all take part again");
}

#[test]
fn calls_that_come_before_their_caller_knows_go_elsewhere() {
    let mut world = World::new(3);
    for index in 1..3 {
        world.serve(index, worker(index));
        world.connect(0, index);
    }
    // What it says does not arrive, and calls do: as if they were faster.
    let now = world.time();
    world.cut.push((0, 1));
    world.stations[1].mesh.shutdown(now);
    world.settle();
    world.heal();
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let request = world.handle(0).request("work/do").value(());
            world.run(0, async move { request.send_as::<u64>().await })
        })
        .collect();
    world.pass(MS * 100);
    for call in calls {
        assert_eq!(call.lock().unwrap().take().expect("it has ended").expect("an answer"), 2);
    }
    let again = world.saw(0, |event| matches!(event, Event::CallRetried { .. }));
    assert!(again >= 20, "{again}");
    // It waits until it is known, or for as long as it may.
    assert!(!world.stations[1].mesh.is_stopped());
    world.pass(SHUTDOWN_GRACE);
    assert!(world.stations[1].mesh.is_stopped());
}

#[test]
fn a_node_that_stops_finishes_its_own_calls_and_those_of_its_handlers() {
    let mut world = World::new(3);
    world.serve(2, worker(2));
    let relay = service("relay").action("on", |cx, ()| async move {
        cx.sleep(MS * 50).await;
        Ok(cx.request("work/do").value(()).send_as::<u64>().await?)
    });
    world.serve(1, relay);
    world.connect(0, 1);
    world.connect(1, 2);
    let ask =
        |handle: Handle, path: &'static str| async move { handle.call::<_, u64>(path, ()).await };
    let relayed = world.run(0, ask(world.handle(0), "relay/on"));
    let own = world.run(1, ask(world.handle(1), "work/do"));
    let now = world.time();
    world.stations[1].mesh.shutdown(now);
    world.pass(MS * 100);
    assert_eq!(own.lock().unwrap().take().unwrap().unwrap(), 2);
    assert_eq!(relayed.lock().unwrap().take().unwrap().unwrap(), 2);
    assert!(world.stations[1].mesh.is_stopped());
    let late = world.run(1, ask(world.handle(1), "work/do"));
    let error = late.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!((error.failure(), error.executed()), (Some(Failure::ShuttingDown), Executed::No));
}
