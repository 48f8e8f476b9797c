//! Calls that fail: which are made again and how often, who is left alone, and how overload ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::rpc::budget;
use crate::service::{RequestBuilder, ServiceBuilder};

type Cell<T> = Arc<Mutex<Option<T>>>;
type Answer = Result<u64, CallError>;

/// Whether a station's service is well, and how often it was asked.
#[derive(Clone, Default)]
struct Health {
    is_sick: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl Health {
    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A service that answers with the number of its station; while it is sick it fails, or says nothing.
fn who(index: usize, health: &Health, fails: bool) -> ServiceBuilder {
    let health = health.clone();
    service("who").action("are", move |cx, ()| {
        health.asked.fetch_add(1, Ordering::Relaxed);
        let is_sick = health.is_sick.load(Ordering::Relaxed);
        async move {
            if is_sick {
                if fails {
                    return Err(HandlerError::failed("it is sick"));
                }
                cx.sleep(Duration::from_secs(3_600)).await;
            }
            Ok(index as u64)
        }
    })
}

/// A service that works on one call at a time, each for so long, and lets so many wait.
fn busy(index: usize, takes: Duration, waiting_max: usize) -> ServiceBuilder {
    service("busy").capacity(1, waiting_max).action("work", move |cx, ()| async move {
        cx.sleep(takes).await;
        Ok(index as u64)
    })
}

fn ask(world: &mut World, from: usize, request: RequestBuilder) -> Cell<Answer> {
    world.run(from, async move { request.value(()).send_as::<u64>().await })
}

/// So many calls at a time: how they ended, as far as they have.
fn ask_many(
    world: &mut World,
    count: usize,
    request: impl Fn(Handle) -> RequestBuilder,
) -> Vec<Cell<Answer>> {
    (0..count)
        .map(|_| {
            let request = request(world.handle(0));
            ask(world, 0, request)
        })
        .collect()
}

fn ended(cell: &Cell<Answer>) -> Answer {
    cell.lock().unwrap().take().expect("the call has ended")
}

fn failures(cells: &[Cell<Answer>], failure: Failure) -> usize {
    let is_it = |answer: &Answer| matches!(answer, Err(e) if e.failure() == Some(failure));
    cells.iter().filter(|cell| cell.lock().unwrap().as_ref().is_some_and(is_it)).count()
}

fn retried(world: &World) -> usize {
    world.saw(0, |event| matches!(event, Event::CallRetried { .. }))
}

#[test]
fn who_is_turned_away_goes_to_another_instance_at_once() {
    let mut world = World::new(3);
    for index in 1..3 {
        world.serve(index, busy(index, MS * 100, 0));
        world.connect(0, index);
    }
    let occupied = ask_many(&mut world, 1, |handle| handle.request("busy/work").to(id(1)));
    let calls = ask_many(&mut world, 1, |handle| handle.request("busy/work").by_key("x"));
    world.pass(MS * 100);
    assert_eq!(ended(&occupied[0]).unwrap(), 1);
    assert_eq!(ended(&calls[0]).unwrap(), 2);
    // By key it is always the same one of them, so that one of the two keys was turned away.
    let occupied = ask_many(&mut world, 1, |handle| handle.request("busy/work").to(id(2)));
    let calls = ask_many(&mut world, 1, |handle| handle.request("busy/work").by_key("x"));
    world.pass(MS * 100);
    assert_eq!((ended(&occupied[0]).unwrap(), ended(&calls[0]).unwrap()), (2, 1));
    assert_eq!(retried(&world), 1);
}

#[test]
fn where_nobody_else_is_the_hint_says_when_to_try_again() {
    let mut world = World::new(2);
    world.serve(1, busy(1, MS * 100, 0));
    world.connect(0, 1);
    let first = ask_many(&mut world, 1, |handle| handle.request("busy/work"));
    world.pass(MS * 100);
    ended(&first[0]).unwrap();
    // From here on the service knows that a call takes 100 ms.
    let calls = ask_many(&mut world, 2, |handle| handle.request("busy/work"));
    world.pass(MS * 100);
    assert_eq!(ended(&calls[0]).unwrap(), 1);
    assert_eq!(retried(&world), 0, "not before the hint");
    world.pass(MS * 160);
    assert_eq!(ended(&calls[1]).unwrap(), 1);
    assert_eq!(retried(&world), 1);
    let hinted = world.saw(0, |event| match event {
        Event::CallRetried { not_before: Some(at), failure, attempt: 2, .. } => {
            *at == MonoTime::ZERO + MS * 200 && *failure == Failure::Overloaded
        }
        _ => false,
    });
    assert_eq!(hinted, 1);
}

#[test]
fn retries_end_with_their_budget_and_say_how_many_attempts_were_made() {
    let mut world = World::new(2);
    world.serve(1, busy(1, Duration::from_secs(1_000), 0));
    world.connect(0, 1);
    let calls = ask_many(&mut world, 200, |handle| handle.request("busy/work"));
    world.pass(Duration::from_secs(5));
    let most = budget::most(200, Duration::from_secs(5)) as usize;
    assert!(retried(&world) > 20 && retried(&world) <= most, "{} of {most}", retried(&world));
    assert_eq!(world.stations[0].mesh.retries() as usize, retried(&world));
    assert_eq!(failures(&calls, Failure::Overloaded), 199);
    let texts = calls[1..].iter().map(|call| ended(call).unwrap_err().to_string());
    let again = texts.filter(|text| text.contains("attempts were made")).count();
    assert!(again > 0 && again < 100, "{again} were made again");
    assert_eq!(failures(&calls, Failure::DeadlineExceeded), 0);
}

#[test]
fn a_call_without_retries_is_made_once() {
    let mut world = World::new(2);
    world.serve(1, busy(1, MS * 100, 0));
    world.connect(0, 1);
    let calls = ask_many(&mut world, 2, |handle| handle.request("busy/work").without_retries());
    assert_eq!(ended(&calls[1]).unwrap_err().failure(), Some(Failure::Overloaded));
    assert_eq!(retried(&world), 0);
}

#[test]
fn a_busy_service_here_sends_its_calls_elsewhere() {
    let mut world = World::new(2);
    world.serve(0, busy(0, MS * 100, 0));
    world.serve(1, busy(1, MS * 100, 0));
    world.connect(0, 1);
    let calls = ask_many(&mut world, 2, |handle| handle.request("busy/work"));
    world.pass(MS * 100);
    assert_eq!((ended(&calls[0]).unwrap(), ended(&calls[1]).unwrap()), (0, 1));
}

#[test]
fn overload_ends_in_overloaded_at_once_and_not_in_time_outs() {
    let mut world = World::new(2);
    let takes = MS * 50;
    world.serve(1, busy(1, takes, 10));
    world.connect(0, 1);
    let request = |handle: Handle| handle.request("busy/work").without_retries().timeout(MS * 400);
    let first = ask_many(&mut world, 1, request);
    world.pass(takes);
    ended(&first[0]).unwrap();
    let calls = ask_many(&mut world, 500, request);
    // Seven can end within their time, and nobody waits in vain, though there was room for more.
    assert_eq!(failures(&calls, Failure::Overloaded), 500 - 7);
    world.pass(MS * 400);
    let answered =
        calls.iter().filter(|cell| matches!(&*cell.lock().unwrap(), Some(Ok(1)))).count();
    assert_eq!(answered, 7);
    assert_eq!(failures(&calls, Failure::DeadlineExceeded), 0);
}

#[test]
fn a_call_whose_time_is_up_before_its_turn_does_not_run() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)).capacity(1, 10));
    world.connect(0, 1);
    let wait = |millis: u64, timeout| {
        move |handle: Handle| async move {
            handle.request("slow/wait").value(millis).timeout(timeout).send_as::<u32>().await
        }
    };
    let handle = world.handle(0);
    let long = world.run(0, wait(1_000, MS * 5_000)(handle.clone()));
    // Nothing is known yet of how long it takes.
    let short = world.run(0, wait(1_000, MS * 100)(handle));
    world.pass(MS * 150);
    let error = short.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.failure(), Some(Failure::DeadlineExceeded));
    world.pass(MS * 5_000);
    assert_eq!(long.lock().unwrap().take().unwrap().unwrap(), 1);
    assert_eq!(*runs.lock().unwrap(), 1);
    assert_eq!(world.stations[1].mesh.load().invocations, 0);
}

#[test]
fn a_service_that_stops_sends_who_waits_elsewhere() {
    let mut world = World::new(3);
    world.serve(1, busy(1, MS * 100, 10));
    world.connect(0, 1);
    let calls = ask_many(&mut world, 3, |handle| handle.request("busy/work"));
    world.serve(2, busy(2, MS * 10, 10));
    world.connect(0, 2);
    let now = world.time();
    let mesh = &mut world.stations[1].mesh;
    let key = mesh.services().iter().next().unwrap().0;
    mesh.stop_service(now, key).unwrap();
    world.pass(MS * 200);
    let answers: Vec<u64> = calls.iter().map(|call| ended(call).unwrap()).collect();
    assert_eq!(answers, [1, 2, 2]);
}

/// Calls at a steady rate from station 0 for so long: how many went to each of two others.
fn share(
    world: &mut World,
    [one, two]: [&Health; 2],
    time: Duration,
    timeout: Duration,
) -> (u64, u64) {
    let before = (one.asked(), two.asked());
    let gap = MS * 5;
    for _ in 0..time.as_millis() / gap.as_millis() {
        let handle = world.handle(0);
        drop(ask(world, 0, handle.request("who/are").timeout(timeout)));
        world.pass(gap);
    }
    (one.asked() - before.0, two.asked() - before.1)
}

fn sick_and_well(fails: bool) {
    let mut world = World::new(3);
    let healths: [Health; 3] = Default::default();
    for (index, health) in healths.iter().enumerate().skip(1) {
        world.serve(index, who(index, health, fails));
        world.connect(0, index);
    }
    let [_, well, sick] = &healths;
    let (second, timeout) = (Duration::from_secs(1), MS * 300);
    let (a, b) = share(&mut world, [well, sick], second, timeout);
    assert!(a.abs_diff(b) <= 1, "{a} and {b}");
    sick.is_sick.store(true, Ordering::Relaxed);
    share(&mut world, [well, sick], second * 2, timeout);
    let (a, b) = share(&mut world, [well, sick], second * 20, timeout);
    assert!(b > 0 && b * 100 <= a + b, "the sick one is probed, and no more: {b} of {a}");
    sick.is_sick.store(false, Ordering::Relaxed);
    share(&mut world, [well, sick], second * 5, timeout);
    let (a, b) = share(&mut world, [well, sick], second, timeout);
    assert!(a.abs_diff(b) <= 1, "it has its share again: {b} of {a}");
}

#[test]
fn a_sick_instance_is_left_alone_and_comes_back() {
    sick_and_well(true);
}

#[test]
fn an_instance_that_says_nothing_is_left_alone_and_comes_back() {
    sick_and_well(false);
}

#[test]
fn when_all_are_left_alone_calls_go_to_them_all_the_same() {
    let mut world = World::new(2);
    let health = Health::default();
    health.is_sick.store(true, Ordering::Relaxed);
    world.serve(1, who(1, &health, true));
    world.connect(0, 1);
    let calls = ask_many(&mut world, 6, |handle| handle.request("who/are"));
    assert_eq!(failures(&calls, Failure::HandlerFailed), 6);
    assert_eq!(health.asked(), 6);
    let stats = world.stations[0].mesh.stats();
    assert_eq!(stats[0].left_alone.iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["who/are"]);
    health.is_sick.store(false, Ordering::Relaxed);
    let calls = ask_many(&mut world, 6, |handle| handle.request("who/are"));
    assert!(calls.iter().all(|call| ended(call).is_ok()), "the first one is a probe, and all go");
    assert!(world.stations[0].mesh.stats()[0].left_alone.is_empty());
}

#[test]
fn an_action_that_fails_takes_nothing_from_others_of_the_same_instances() {
    let mut world = World::new(3);
    for index in 1..3 {
        let mixed = service("mixed")
            .action("well", move |_, (): ()| async move { Ok(index as u64) })
            .action("sick", move |_, (): ()| async move {
                // Of one instance alone.
                if index == 1 {
                    Err(HandlerError::failed("it always does"))
                } else {
                    Ok(index as u64)
                }
            });
        world.serve(index, mixed);
        world.connect(0, index);
    }
    for _ in 0..10 {
        ask_many(&mut world, 10, |handle| handle.request("mixed/sick"));
    }
    let stats = world.stations[0].mesh.stats();
    let of = |peer| stats.iter().find(|stats| stats.peer == id(peer)).unwrap();
    assert_eq!(of(1).left_alone.len(), 1);
    assert!(of(2).left_alone.is_empty());
    let answers: Vec<u64> = (0..10)
        .flat_map(|_| ask_many(&mut world, 10, |handle| handle.request("mixed/well")))
        .map(|call| ended(&call).unwrap())
        .collect();
    let by = |index| answers.iter().filter(|answer| **answer == index).count();
    assert_eq!((by(1), by(2)), (50, 50), "all are answered, and both have their turn");
    let calls = ask_many(&mut world, 100, |handle| handle.request("mixed/sick"));
    assert!(failures(&calls, Failure::HandlerFailed) <= 1, "one that fails is left alone");
}

#[test]
fn a_call_that_may_run_twice_survives_a_handler_that_fails_and_any_other_does_not() {
    let mut world = World::new(3);
    let healths: [Health; 3] = Default::default();
    for (index, health) in healths.iter().enumerate().skip(1) {
        world.serve(index, who(index, health, true));
        world.connect(0, index);
    }
    healths[2].is_sick.store(true, Ordering::Relaxed);
    let calls = ask_many(&mut world, 4, |handle| handle.request("who/are").idempotent());
    assert!(calls.iter().all(|call| ended(call).unwrap() == 1));
    let before = retried(&world);
    assert!(before >= 2);
    let calls = ask_many(&mut world, 4, |handle| handle.request("who/are"));
    assert!(failures(&calls, Failure::HandlerFailed) >= 1);
    assert_eq!(retried(&world), before);
}

#[test]
fn a_refusal_of_who_pauses_costs_no_budget() {
    let mut world = World::new(3);
    let healths: [Health; 3] = Default::default();
    for (index, health) in healths.iter().enumerate().skip(1) {
        world.serve(index, who(index, health, true));
        world.connect(0, index);
    }
    // What it says of itself does not arrive, and calls do: as if they were faster.
    let now = world.time();
    let mesh = &mut world.stations[2].mesh;
    let key = mesh.services().iter().next().unwrap().0;
    world.cut.push((0, 2));
    mesh.pause_service(now, key).unwrap();
    world.settle();
    world.heal();
    let calls = ask_many(&mut world, 100, |handle| handle.request("who/are"));
    assert!(calls.iter().all(|call| ended(call).unwrap() == 1));
    assert!(retried(&world) >= 33, "{}", retried(&world));
    let pinned = ask_many(&mut world, 1, |handle| handle.request("who/are").to(id(2)));
    assert_eq!(ended(&pinned[0]).unwrap_err().failure(), Some(Failure::Unavailable));
}

#[test]
fn when_a_storm_is_over_so_are_its_retries() {
    let mut world = World::new(3);
    for index in 1..3 {
        world.serve(index, busy(index, MS * 10, 4));
        world.connect(0, index);
    }
    // Three times as much as both can do, then half of it.
    let mut storm = Vec::new();
    for _ in 0..1_000 {
        storm.extend(ask_many(&mut world, 3, |handle| handle.request("busy/work")));
        world.pass(MS * 5);
    }
    let during = retried(&world);
    assert!(during <= budget::most(3_000, Duration::from_secs(5)) as usize, "{during}");
    let done = storm.iter().filter(|c| matches!(&*c.lock().unwrap(), Some(Ok(_)))).count();
    assert!(done >= 900, "what can be done is done: {done}");
    assert_eq!(failures(&storm, Failure::DeadlineExceeded), 0);
    world.pass(Duration::from_secs(1));
    let before = retried(&world);
    let mut calm = Vec::new();
    for _ in 0..200 {
        calm.extend(ask_many(&mut world, 1, |handle| handle.request("busy/work")));
        world.pass(MS * 10);
    }
    world.pass(MS * 100);
    assert!(calm.iter().all(|call| ended(call).is_ok()));
    assert_eq!(retried(&world), before);
}

#[test]
fn how_services_do_is_known_where_they_are_and_where_they_are_called() {
    use crate::directory::breaker::BreakerState;
    let mut world = World::new(3);
    world.serve(1, busy(1, MS * 40, 3));
    let sick = Health::default();
    world.serve(2, who(2, &sick, true));
    world.connect(0, 1);
    world.connect(0, 2);
    sick.is_sick.store(true, Ordering::Relaxed);
    let calls = ask_many(&mut world, 3, |handle| handle.request("busy/work"));
    let stats = world.stations[1].mesh.stats();
    assert_eq!((stats[0].in_flight, stats[0].waiting, stats[0].report.calls), (1, 2, 0));
    world.pass(MS * 200);
    assert!(calls.iter().all(|call| ended(call).is_ok()));
    drop(ask_many(&mut world, 5, |handle| handle.request("who/are")));
    let stats = world.stations[0].mesh.stats();
    let of = |peer| stats.iter().find(|stats| stats.peer == id(peer)).unwrap();
    assert_eq!((of(1).service.as_str(), of(1).report.calls, of(1).score()), ("busy", 3, 100));
    // Each waited for the one before.
    let (p50, p99) = (of(1).report.p50.unwrap(), of(1).report.p99.unwrap());
    assert!(p50.abs_diff(MS * 80) < MS * 6 && p99.abs_diff(MS * 120) < MS * 8, "{p50:?} {p99:?}");
    assert_eq!((of(2).report.failed, of(2).score(), of(2).in_flight), (5, 0, 0));
    assert_eq!((of(2).breaker, of(2).left_alone.len()), (BreakerState::Closed, 1));
    let served = &world.stations[1].mesh.stats()[0];
    assert_eq!((served.peer, served.report.calls), (id(1), 3));
    assert!(served.report.p99.unwrap().abs_diff(MS * 40) < MS * 3, "how long it ran itself");
}
