//! What nodes say of their services' health: to whom, how often, and what it is good for.

use super::*;
use crate::directory::vitals::{LOOK_EVERY, Vitals};

/// Three stations that are connected in a row: the middle one serves, and the first one calls.
fn world() -> World {
    let mut world = World::new(3);
    world.serve(1, slow(Default::default()).capacity(8, 100));
    world.connect(0, 1);
    world.connect(2, 1);
    world
}

fn call(world: &mut World, millis: u64) {
    let handle = world.handle(0);
    drop(world.run(0, async move { handle.call::<_, u32>("slow/wait", millis).await }));
}

fn said(world: &World, at: usize) -> Option<Vitals> {
    let stats = world.stations[at].mesh.stats();
    stats.iter().find(|stats| stats.service.as_str() == "slow")?.said
}

fn version(world: &World) -> u64 {
    world.stations[1].mesh.document_version()
}

/// A call every so often, for so long.
fn load(world: &mut World, millis: u64, gap: Duration, time: Duration) {
    for _ in 0..time.as_millis() / gap.as_millis() {
        call(world, millis);
        world.pass(gap);
    }
}

#[test]
fn who_has_never_called_knows_how_an_instance_does() {
    let mut world = world();
    assert_eq!(said(&world, 2), None);
    load(&mut world, 40, MS * 20, LOOK_EVERY * 2);
    let said = said(&world, 2).unwrap();
    assert_eq!((said.rate, said.failed_percent, said.score()), (64, 0, 100));
    assert_eq!((said.p50_us, said.p99_us), (65_536, 65_536));
    assert!(said.running >= 1 && said.running <= 4, "{said:?}");
    assert_eq!((said.waiting, said.running_max, said.waiting_max), (0, 8, 100));
    // Who calls has measurements of its own beside it.
    let stats = world.stations[0].mesh.stats();
    assert!(stats[0].said == Some(said) && stats[0].report.calls > 100, "{stats:?}");
    assert_eq!(world.stations[2].mesh.stats()[0].report.calls, 0);
}

#[test]
fn a_steady_service_says_nothing_new_and_one_that_is_not_called_nothing_at_all() {
    let mut world = world();
    load(&mut world, 40, MS * 20, LOOK_EVERY * 14);
    let before = version(&world);
    load(&mut world, 40, MS * 20, LOOK_EVERY * 4);
    assert_eq!(version(&world), before, "the same load says the same");
    // It is slower and busier for good: that is told once.
    load(&mut world, 400, MS * 100, LOOK_EVERY * 14);
    assert!(version(&world) > before && said(&world, 2).unwrap().p50_us >= 400_000);
    world.pass(LOOK_EVERY * 3);
    assert_eq!((said(&world, 0), said(&world, 2)), (None, None));
    let idle = version(&world);
    let timers: Vec<usize> = world.stations.iter().map(|s| s.mesh.load().timers).collect();
    world.pass(Duration::from_secs(600));
    assert_eq!(version(&world), idle);
    let later: Vec<usize> = world.stations.iter().map(|s| s.mesh.load().timers).collect();
    assert!(later.iter().zip(&timers).all(|(later, before)| later <= before));
}

#[test]
fn however_much_changes_it_is_told_every_few_seconds_at_most() {
    let mut world = world();
    let mut told = 0;
    let mut last = version(&world);
    for number in 0..3_000_u64 {
        call(&mut world, 1 << (number % 9));
        world.pass(MS * (1 << (number / 100 % 5)));
        told += usize::from(version(&world) != last);
        last = version(&world);
    }
    let time = world.now.since(MonoTime::ZERO);
    let most = (time.as_nanos() / LOOK_EVERY.as_nanos()) as usize;
    assert!(told >= 1 && told <= most, "{told} times in {time:?}");
}

#[test]
fn a_service_that_pauses_says_nothing() {
    let mut world = world();
    load(&mut world, 40, MS * 20, LOOK_EVERY * 2);
    assert!(said(&world, 2).is_some());
    let now = world.time();
    let key = world.stations[1].mesh.services().iter().next().unwrap().0;
    world.stations[1].mesh.pause_service(now, key).unwrap();
    world.settle();
    assert_eq!(said(&world, 2), None);
}
