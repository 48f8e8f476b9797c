//! Calls: where they go, how they end, and what becomes of them when links and peers fail.

use super::*;

#[test]
fn a_call_crosses_a_link_and_comes_back() {
    let mut world = World::new(2);
    world.serve(1, math());
    world.connect(0, 1);
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
}

#[test]
fn a_local_service_is_preferred_and_gets_the_value_itself() {
    #[derive(Debug)]
    struct Unwritable(i64);
    impl serde::Serialize for Unwritable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("must not be written"))
        }
    }
    impl<'de> serde::Deserialize<'de> for Unwritable {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("must not be read"))
        }
    }
    let mut world = World::new(2);
    let twice =
        || service("math").action("twice", |_, Unwritable(n)| async move { Ok(Unwritable(2 * n)) });
    world.serve(1, twice());
    world.connect(0, 1);
    let handle = world.handle(0);
    let call = |handle: Handle| async move {
        handle.call::<_, Unwritable>("math/twice", Unwritable(21)).await
    };
    let remote = world.run(0, call(handle.clone()));
    let error = remote.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.failure(), Some(Failure::Unencodable));
    assert_eq!(error.executed(), Executed::No);
    world.serve(0, twice());
    let local = world.run(0, call(handle));
    assert_eq!(local.lock().unwrap().take().unwrap().unwrap().0, 42);
}

#[test]
fn failures_say_what_went_wrong_and_whether_the_handler_ran() {
    let mut world = World::new(2);
    world.serve(1, math());
    let handle = world.handle(0);
    let outcome = |world: &mut World, path: &'static str, argument: serde_json::Value| {
        let handle = handle.clone();
        let cell = world.run(0, async move {
            handle.call::<_, serde_json::Value>(path, argument).await.unwrap_err()
        });
        let error = cell.lock().unwrap().take().expect("the call has ended");
        (error.code().to_string(), error.executed())
    };
    let null = serde_json::Value::Null;
    let got = outcome(&mut world, "math/add", null.clone());
    assert_eq!(got, ("NO_RESPONDERS".into(), Executed::No));
    world.connect(0, 1);
    let got = outcome(&mut world, "math/add", null.clone());
    assert_eq!(got, ("BAD_REQUEST".into(), Executed::No));
    let got = outcome(&mut world, "math/fail", null.clone());
    assert_eq!(got, ("NOPE".into(), Executed::Yes));
    let got = outcome(&mut world, "math/panic", null.clone());
    assert_eq!(got, ("HANDLER_FAILED".into(), Executed::Maybe));
    let got = outcome(&mut world, "math/sub", null.clone());
    assert_eq!(got, ("NO_RESPONDERS".into(), Executed::No));
    let got = outcome(&mut world, "no such path!", null);
    assert_eq!(got, ("INVALID_PATH".into(), Executed::No));
}

#[test]
fn a_deadline_ends_the_call_and_stops_the_handler() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    let handle = world.handle(0);
    let cell = world.run(0, async move {
        let request = handle.request("slow/wait").value(60_000u64).timeout(50 * MS);
        request.send_as::<u32>().await
    });
    world.pass(49 * MS);
    assert!(cell.lock().unwrap().is_none());
    world.pass(2 * MS);
    let error = cell.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.failure(), Some(Failure::DeadlineExceeded));
    assert_eq!(error.executed(), Executed::Maybe);
    assert_eq!(world.stations[1].host.tasks(), 0, "the handler was stopped");
    assert_eq!(world.stations[0].mesh.load().calls_open, 0);
}

#[test]
fn a_dropped_call_is_cancelled_there() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    let handle = world.handle(0);
    world.run(0, async move {
        let call = handle.request("slow/wait").value(60_000u64).send();
        let mut call = Box::pin(call);
        std::future::poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        handle.sleep(5 * MS).await;
        drop(call);
    });
    assert_eq!(world.stations[1].host.tasks(), 1);
    world.pass(10 * MS);
    assert_eq!(world.stations[1].host.tasks(), 0);
    assert_eq!(world.stations[0].mesh.load().calls_open, 0);
}

#[test]
fn a_call_outlives_a_partition_and_runs_once() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    let handle = world.handle(0);
    let cell = world.run(0, async move {
        let request = handle.request("slow/wait").value(1_000u64).timeout(60_000 * MS);
        request.send_as::<u32>().await
    });
    world.pass(100 * MS);
    world.part(0, 1);
    world.pass(5_000 * MS);
    assert!(cell.lock().unwrap().is_none());
    world.heal();
    world.pass(20_000 * MS);
    assert_eq!(cell.lock().unwrap().take().unwrap().unwrap(), 1);
    assert_eq!(*runs.lock().unwrap(), 1);
}

#[test]
fn a_call_to_a_peer_that_restarts_may_have_run_unless_it_may_run_again() {
    let mut world = World::new(2);
    let runs: Arc<Mutex<u32>> = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    let call = |handle: Handle, idempotent| async move {
        let request = handle.request("slow/wait").value(1_000u64).timeout(60_000 * MS).to(id(1));
        let request = if idempotent { request.idempotent() } else { request };
        request.send_as::<u32>().await
    };
    let once = world.run(0, call(world.handle(0), false));
    let again = world.run(0, call(world.handle(0), true));
    world.pass(100 * MS);
    world.restart(1, 2);
    world.serve(1, slow(Arc::clone(&runs)));
    world.pass(10_000 * MS);
    let error = once.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.failure(), Some(Failure::PeerRestarted));
    assert_eq!(error.executed(), Executed::Maybe);
    assert_eq!(again.lock().unwrap().take().unwrap().unwrap(), 3);
}

#[test]
fn a_call_to_a_peer_that_is_on_its_way_waits_for_it() {
    let mut world = World::new(2);
    world.serve(1, math());
    world.part(0, 1);
    world.connect(0, 1);
    let handle = world.handle(0);
    let cell = world.run(0, async move {
        let request = handle.request("math/add").value((1i64, 1i64)).to(id(1));
        request.timeout(60_000 * MS).send_as::<i64>().await
    });
    world.pass(3_000 * MS);
    assert!(cell.lock().unwrap().is_none());
    world.heal();
    world.pass(10_000 * MS);
    assert_eq!(cell.lock().unwrap().take().unwrap().unwrap(), 2);
}

#[test]
fn calls_go_round_among_those_who_serve() {
    let mut world = World::new(3);
    for index in [1, 2] {
        world.serve(index, service("who").action("am", move |_, (): ()| async move { Ok(index) }));
        world.connect(0, index);
    }
    let handle = world.handle(0);
    let cell = world.run(0, async move {
        let mut served = Vec::new();
        for _ in 0..4 {
            served.push(handle.call::<_, usize>("who/am", ()).await.unwrap());
        }
        served
    });
    assert_eq!(cell.lock().unwrap().take().unwrap(), [1, 2, 1, 2]);
}

#[test]
fn a_peer_that_is_let_go_and_taken_back_answers_the_new_call_and_not_the_old() {
    let mut world = World::new(2);
    world.serve(1, math());
    world.connect(0, 1);
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
    let now = world.time();
    world.stations[0].mesh.disconnect(now, id(1));
    world.settle();
    world.connect(0, 1);
    let handle = world.handle(0);
    let sum = world.run(0, async move { handle.call::<_, i64>("math/add", (20i64, 30i64)).await });
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 50);
}

#[test]
fn a_caller_that_is_let_go_and_comes_back_is_not_served_twice() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    let handle = world.handle(0);
    let call = async move { handle.call::<_, u32>("slow/wait", 3_000u64).await };
    let cell = world.run(0, call);
    world.pass(1_000 * MS);
    let now = world.time();
    world.stations[1].mesh.disconnect(now, id(0));
    world.pass(8_000 * MS);
    assert_eq!(cell.lock().unwrap().take().unwrap().unwrap(), 1);
    assert_eq!(*runs.lock().unwrap(), 1);
}

#[test]
fn a_call_that_outlasts_thousands_of_others_still_gets_its_answer() {
    let mut world = World::new(2);
    let work = service("work")
        .action("slow", |cx, (): ()| async move {
            cx.handle().sleep(5_000 * MS).await;
            Ok("done")
        })
        .action("quick", |_, n: u32| async move { Ok(n) });
    world.serve(1, work);
    world.connect(0, 1);
    let handle = world.handle(0);
    let slow = world.run(0, async move { handle.call::<_, String>("work/slow", ()).await });
    let handle = world.handle(0);
    let count = u32::try_from(Limits::default().kept_answers_per_peer_max).unwrap() + 100;
    let quick = world.run(0, async move {
        for n in 0..count {
            assert_eq!(handle.call::<_, u32>("work/quick", n).await, Ok(n));
        }
    });
    assert!(quick.lock().unwrap().is_some() && slow.lock().unwrap().is_none());
    world.pass(6_000 * MS);
    assert_eq!(slow.lock().unwrap().take().unwrap(), Ok("done".to_string()));
}
