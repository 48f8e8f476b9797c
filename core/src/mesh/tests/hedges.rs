//! Second attempts: who is asked too, who is not, what comes of both, and what it is good for.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::directory::Selection;
use crate::rpc::budget;
use crate::service::{RequestBuilder, ServiceBuilder};

type Cell<T> = Arc<Mutex<Option<T>>>;
type Answer = Result<u64, CallError>;

/// How long an instance takes, in milliseconds; 0 for one that fails after 20 ms.
#[derive(Clone, Default)]
struct Takes(Arc<AtomicU64>);

fn who(index: usize, takes: &Takes) -> ServiceBuilder {
    let takes = takes.clone();
    service("who").action("are", move |cx, ()| {
        let millis = takes.0.load(Ordering::Relaxed);
        async move {
            if millis == 0 {
                cx.sleep(MS * 20).await;
                return Err(HandlerError::failed("it never works"));
            }
            cx.sleep(Duration::from_millis(millis)).await;
            Ok(index as u64)
        }
    })
}

/// A caller and instances that take so long.
fn instances(takes: &[u64]) -> (World, Vec<Takes>) {
    let mut world = World::new(takes.len() + 1);
    let mut each = Vec::new();
    for (index, millis) in (1..).zip(takes) {
        let takes = Takes::default();
        takes.0.store(*millis, Ordering::Relaxed);
        world.serve(index, who(index, &takes));
        world.connect(0, index);
        each.push(takes);
    }
    (world, each)
}

fn request(world: &World) -> RequestBuilder {
    world.handle(0).request("who/are").value(())
}

fn start(world: &mut World, request: RequestBuilder) -> Cell<Answer> {
    world.run(0, async move { request.send_as::<u64>().await })
}

fn ask(world: &mut World, with: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Cell<Answer> {
    let request = with(request(world));
    start(world, request)
}

fn ended(cell: &Cell<Answer>) -> Answer {
    cell.lock().unwrap().take().expect("the call has ended")
}

fn hedged(world: &World) -> usize {
    world.saw(0, |event| matches!(event, Event::CallHedged { .. }))
}

fn running(world: &World) -> usize {
    world.stations.iter().map(|station| station.mesh.load().invocations).sum()
}

#[test]
fn the_first_answer_counts_and_the_other_attempt_is_cancelled() {
    let (mut world, _) = instances(&[500, 30]);
    let call = ask(&mut world, |r| r.idempotent().hedged(MS * 50));
    world.pass(MS * 49);
    assert_eq!((hedged(&world), running(&world)), (0, 1));
    world.pass(MS);
    assert_eq!((hedged(&world), running(&world)), (1, 2));
    world.pass(MS * 30);
    assert_eq!(ended(&call).unwrap(), 2);
    assert_eq!(running(&world), 0, "nobody works for nothing");
    let load = world.stations[0].mesh.load();
    assert_eq!((load.calls_open, world.stations[0].mesh.hedges()), (0, 1));
    // One that answers in time has no second attempt, and leaves no timer behind.
    let timers = load.timers;
    let call = ask(&mut world, |r| r.to(id(2)).idempotent());
    world.pass(MS * 40);
    assert_eq!(ended(&call).unwrap(), 2);
    let call = ask(&mut world, |r| r.idempotent().hedged(MS * 600));
    world.pass(MS * 500);
    ended(&call).unwrap();
    assert_eq!((hedged(&world), world.stations[0].mesh.load().timers), (1, timers));
}

#[test]
fn the_first_attempt_may_still_win() {
    let (mut world, _) = instances(&[60, 500]);
    let call = ask(&mut world, |r| r.idempotent().hedged(MS * 50));
    world.pass(MS * 60);
    assert_eq!((ended(&call).unwrap(), hedged(&world), running(&world)), (1, 1, 0));
}

#[test]
fn what_may_not_run_twice_or_not_elsewhere_is_refused() {
    let (mut world, _) = instances(&[500, 30]);
    let calls = [
        request(&world).hedged(MS),
        request(&world).idempotent().hedged(MS).to(id(1)),
        request(&world).idempotent().hedged_at_percentile(100),
        request(&world).idempotent().hedged_at_percentile(0),
    ];
    for call in calls {
        let error = ended(&start(&mut world, call)).unwrap_err();
        assert_eq!((error.code(), error.executed()), ("BAD_REQUEST", Executed::No), "{error}");
    }
    assert_eq!(running(&world), 0);
}

#[test]
fn there_is_no_second_attempt_without_budget_or_where_everybody_is_slow() {
    let (mut world, takes) = instances(&[500, 30]);
    let mut calls = Vec::new();
    let in_turn = |world: &World| request(world).select(Selection::RoundRobin);
    for _ in 0..200 {
        let request = in_turn(&world).idempotent().hedged(MS * 50);
        calls.push(start(&mut world, request));
        world.pass(MS * 100);
    }
    world.pass(MS * 1_000);
    assert!(calls.iter().all(|call| ended(call).is_ok()));
    let made = hedged(&world);
    let most = budget::most(200, MS * 21_000) as usize;
    assert!(made >= 20 && made <= most, "{made} of {most}");
    // From here on the budget comes back by itself, and there is somebody to ask.
    world.pass(MS * 60_000);
    takes[1].0.store(500, Ordering::Relaxed);
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let request = in_turn(&world).idempotent().hedged(MS * 50);
            let call = start(&mut world, request);
            world.pass(MS * 20);
            call
        })
        .collect();
    world.pass(MS * 1_000);
    assert!(calls.iter().all(|call| ended(call).is_ok()));
    // The first of them cannot know.
    assert!(hedged(&world) <= made + 1, "nobody would answer sooner");
}

#[test]
fn an_attempt_that_fails_leaves_the_call_to_the_other() {
    // The second fails, and the first answers.
    let (mut world, takes) = instances(&[200, 0]);
    let call = ask(&mut world, |r| r.idempotent().hedged(MS * 50));
    world.pass(MS * 199);
    assert!(call.lock().unwrap().is_none() && hedged(&world) == 1);
    world.pass(MS);
    assert_eq!(ended(&call).unwrap(), 1);
    // The first fails when the second is under way, which answers.
    takes[0].0.store(0, Ordering::Relaxed);
    takes[1].0.store(200, Ordering::Relaxed);
    // It is the turn of the second.
    drop(ask(&mut world, |r| r));
    world.pass(MS * 200);
    let by_turn = request(&world).idempotent().hedged(MS * 10);
    let call = start(&mut world, by_turn);
    world.pass(MS * 210);
    assert_eq!(ended(&call).unwrap(), 2);
    // Both fail: what the other one was is said.
    takes[1].0.store(0, Ordering::Relaxed);
    let call = ask(&mut world, |r| r.idempotent().hedged(MS * 10).without_retries());
    world.pass(MS * 100);
    let error = ended(&call).unwrap_err();
    assert_eq!((error.code(), error.executed()), ("HANDLER_FAILED", Executed::Maybe));
    assert!(error.to_string().contains("2 attempts"), "{error}");
}

#[test]
fn an_attempt_whose_peer_is_lost_leaves_the_call_to_the_other() {
    for lost in 1..3 {
        let (mut world, _) = instances(&[500, 500]);
        let call = ask(&mut world, |r| r.idempotent().hedged(MS * 50));
        world.pass(MS * 100);
        assert_eq!((hedged(&world), running(&world)), (1, 2));
        world.restart(lost, 2);
        world.pass(MS * 500);
        assert_eq!(ended(&call).unwrap(), 3 - lost as u64);
        let peer = id(lost);
        let now = world.time();
        world.stations[0].mesh.disconnect(now, peer);
        world.settle();
    }
    // The user lets go of one of them.
    for lost in 1..3 {
        let (mut world, _) = instances(&[500, 500]);
        let call = ask(&mut world, |r| r.idempotent().hedged(MS * 50));
        world.pass(MS * 100);
        let now = world.time();
        world.stations[0].mesh.disconnect(now, id(lost));
        world.settle();
        world.pass(MS * 500);
        assert_eq!(ended(&call).unwrap(), 3 - lost as u64);
    }
}

#[test]
fn a_call_that_is_given_up_or_too_late_ends_once_and_both_attempts_with_it() {
    let (mut world, _) = instances(&[5_000, 5_000]);
    let call = ask(&mut world, |r| r.idempotent().hedged(MS * 50).timeout(MS * 300));
    world.pass(MS * 299);
    assert_eq!(running(&world), 2);
    world.pass(MS);
    let error = ended(&call).unwrap_err();
    assert_eq!((error.code(), error.executed()), ("DEADLINE_EXCEEDED", Executed::Maybe));
    assert_eq!(running(&world), 0);
    let handle = world.handle(0);
    let call = request(&world).idempotent().hedged(MS * 50);
    world.run(0, async move {
        let mut call = Box::pin(call.send());
        std::future::poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        handle.sleep(MS * 100).await;
        drop(call);
    });
    world.pass(MS * 99);
    assert_eq!(running(&world), 2);
    world.pass(MS);
    assert_eq!((running(&world), world.stations[0].mesh.load().calls_open), (0, 0));
}

#[test]
fn what_this_node_serves_itself_is_not_hedged() {
    let (mut world, _) = instances(&[30]);
    let takes = Takes::default();
    takes.0.store(500, Ordering::Relaxed);
    world.serve(0, who(0, &takes));
    let call = ask(&mut world, |r| r.idempotent().hedged(MS * 50));
    world.pass(MS * 500);
    assert_eq!((ended(&call).unwrap(), hedged(&world)), (0, 0));
}

#[test]
fn who_refuses_or_is_left_alone_is_not_asked_too() {
    let (mut world, takes) = instances(&[30, 0]);
    let in_turn = |world: &World| request(world).select(Selection::RoundRobin);
    for _ in 0..20 {
        let call = in_turn(&world);
        drop(start(&mut world, call));
        world.pass(MS * 40);
    }
    takes[0].0.store(500, Ordering::Relaxed);
    let call = in_turn(&world).idempotent().hedged(MS * 50);
    let call = start(&mut world, call);
    world.pass(MS * 600);
    assert!(ended(&call).is_ok_and(|by| by == 1) && hedged(&world) == 0);
}

/// So many calls at a steady rate: how long the slowest of a hundred took, and how many second attempts there were.
fn p99(
    world: &mut World,
    count: usize,
    with: impl Fn(RequestBuilder) -> RequestBuilder,
) -> (Duration, usize) {
    let before = hedged(world);
    let mut calls = Vec::new();
    for _ in 0..count {
        let (handle, request) = (world.handle(0), with(request(world).idempotent()));
        calls.push(world.run(0, async move {
            let began = handle.now().mono;
            request.send_as::<u64>().await.map(|_| handle.now().mono.since(began))
        }));
        world.pass(MS * 10);
    }
    world.pass(MS * 2_000);
    let took = calls.iter().map(|call| call.lock().unwrap().take().unwrap().unwrap());
    let mut took: Vec<Duration> = took.collect();
    took.sort_unstable();
    (took[count * 99 / 100], hedged(world) - before)
}

/// Three instances, each of which is slow by chance for one call in thirty.
fn now_and_then(world: &mut World) {
    for index in 1..4 {
        let service = service("who").action("are", move |cx, ()| async move {
            let is_slow = cx.random().is_multiple_of(30);
            cx.sleep(if is_slow { MS * 500 } else { MS * 5 }).await;
            Ok(index as u64)
        });
        world.serve(index, service);
        world.connect(0, index);
    }
}

#[test]
fn the_slowest_hundredth_of_calls_is_as_quick_as_the_second_attempt() {
    let rules = [Selection::RoundRobin, Selection::Random, Selection::LeastLoaded];
    for rule in rules {
        let mut world = World::new(4);
        now_and_then(&mut world);
        let (without, _) = p99(&mut world, 1_000, |r| r.select(rule));
        let (with, hedges) = p99(&mut world, 1_000, |r| r.select(rule).hedged(MS * 50));
        let (adaptive, more) = p99(&mut world, 1_000, |r| r.select(rule).hedged_at_percentile(95));
        println!(
            "1 call in 30 slow by 500 ms, {rule:?}: p99 {without:?}; hedged after 50 ms {with:?} ({hedges} of \
             1,000); at the 95th percentile {adaptive:?} ({more})"
        );
        assert!(without >= MS * 500, "{without:?}");
        assert!(with <= MS * 60 && adaptive <= MS * 60, "{with:?} {adaptive:?}");
        assert!(hedges <= 105 && more <= 105);
    }
}

#[test]
fn one_slow_instance_of_three_costs_the_slowest_hundredth_nothing_with_hedges() {
    for rule in [Selection::RoundRobin, Selection::Random, Selection::LeastLoaded] {
        let measure = |hedge: bool| {
            let (mut world, takes) = instances(&[5, 5, 5]);
            p99(&mut world, 500, |r| r.select(rule));
            takes[0].0.store(505, Ordering::Relaxed);
            p99(&mut world, 2_000, |r| {
                let request = r.select(rule);
                if hedge { request.hedged(MS * 50) } else { request }
            })
        };
        let ((without, _), (with, hedges)) = (measure(false), measure(true));
        println!(
            "1 of 3 slow by 500 ms, {rule:?}: p99 {without:?}; hedged {with:?} ({hedges} of 2,000)"
        );
        assert!(with <= MS * 60, "{rule:?}: {with:?}");
    }
}
