//! What others serve: how it becomes known, and who is asked.

use super::*;
use crate::directory::Selection;
use crate::service::RequestBuilder;

/// A service that answers with the number of its station.
fn who(index: usize, version: &str) -> crate::service::ServiceBuilder {
    service("who").version(version).action("are", move |_, ()| async move { Ok(index as u64) })
}

/// The stations that answer so many calls, one after the other.
fn answers(
    world: &mut World,
    from: usize,
    calls: usize,
    ask: fn(Handle) -> RequestBuilder,
) -> Vec<u64> {
    let handle = world.handle(from);
    let told = world.run(from, async move {
        let mut answers = Vec::new();
        for _ in 0..calls {
            answers.push(ask(handle.clone()).value(()).send_as::<u64>().await.unwrap());
        }
        answers
    });
    let answers = told.lock().unwrap().take();
    answers.expect("all have ended")
}

fn star(count: usize) -> World {
    let mut world = World::new(count);
    for index in 1..count {
        world.serve(index, who(index, &format!("1.{index}.0")));
        world.connect(0, index);
    }
    world
}

fn acknowledged(world: &World, index: usize) -> usize {
    world.saw(index, |event| matches!(event, Event::DirectoryAcknowledged { .. }))
}

#[test]
fn a_service_that_comes_and_goes_is_known_at_once_and_its_owner_knows_that() {
    let mut world = World::new(2);
    world.connect(0, 1);
    let before = acknowledged(&world, 1);
    world.serve(1, math());
    assert_eq!(acknowledged(&world, 1), before + 1);
    let (me, you) = (id(0), id(1));
    let known = |world: &World| {
        let copy = world.stations[0].mesh.replica(you).unwrap();
        assert_eq!(Some(&copy), world.stations[1].mesh.document_for(me).as_ref());
        copy.services().count()
    };
    assert_eq!(known(&world), 1);
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
    let now = world.time();
    let mesh = &mut world.stations[1].mesh;
    let key = mesh.services().iter().next().unwrap().0;
    mesh.stop_service(now, key).unwrap();
    world.settle();
    assert_eq!(known(&world), 0);
    let mesh = &world.stations[1].mesh;
    assert_eq!(mesh.acknowledged(me), mesh.document_for(me).unwrap().version);
    let sum = world.run(0, add(world.handle(0)));
    let error = sum.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.failure(), Some(Failure::NoResponders));
}

#[test]
fn what_got_lost_is_noticed_with_the_next_heartbeat() {
    let mut world = World::new(2);
    world.connect(0, 1);
    // Nothing arrives, and no link breaks: no transport does this, so that only a heartbeat can help.
    world.cut.push((0, 1));
    world.serve(1, math());
    world.heal();
    world.pass(MS * 100);
    assert_eq!(world.stations[0].mesh.replica(id(1)).unwrap().entries.len(), 0);
    world.pass(Limits::default().heartbeat_interval);
    assert_eq!(world.stations[0].mesh.replica(id(1)).unwrap().entries.len(), 1);
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
}

#[test]
fn calls_go_to_the_instances_in_turn() {
    let mut world = star(4);
    let in_turn = answers(&mut world, 0, 6, |handle| handle.request("who/are"));
    assert_eq!(in_turn[..3], in_turn[3..]);
    let mut all = in_turn[..3].to_vec();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3]);
}

#[test]
fn a_key_means_the_same_instance_to_everybody_and_an_own_service_is_one_among_others() {
    let mut world = star(4);
    for (a, b) in [(1, 2), (1, 3), (2, 3)] {
        world.connect(a, b);
    }
    world.serve(0, who(0, "1.0.0"));
    let mut owners = Vec::new();
    for ask in [
        |handle: Handle| handle.request("who/are").by_key("one"),
        |handle: Handle| handle.request("who/are").by_key("two"),
        |handle: Handle| handle.request("who/are").by_key("three"),
        |handle: Handle| handle.request("who/are").by_key("four"),
    ] {
        let told: Vec<u64> = (0..4).map(|from| answers(&mut world, from, 1, ask)[0]).collect();
        assert!(told.iter().all(|owner| *owner == told[0]), "{told:?}");
        owners.push(told[0]);
    }
    owners.dedup();
    assert!(owners.len() > 1, "not all keys belong to one");
    // By every other rule the own service is preferred.
    let own =
        answers(&mut world, 0, 4, |handle| handle.request("who/are").select(Selection::Random));
    assert_eq!(own, [0; 4]);
}

#[test]
fn a_call_may_ask_for_a_version() {
    let mut world = star(4);
    world.serve(0, who(0, "1.0.0"));
    let newer = |handle: Handle| handle.request("who/are").version("1.3");
    assert_eq!(answers(&mut world, 0, 3, newer), [3; 3]);
    let handle = world.handle(0);
    let told = world.run(0, async move {
        let none = handle.request("who/are").version(">=2").value(()).send().await;
        let wrong = handle.request("who/are").version("new").value(()).send().await;
        (none.unwrap_err(), wrong.unwrap_err())
    });
    let (none, wrong) = told.lock().unwrap().take().unwrap();
    assert_eq!(none.executed(), Executed::No);
    assert!(none.to_string().contains(">=2"), "{none}");
    assert_eq!(wrong.failure(), Some(Failure::BadRequest));
    assert!(wrong.to_string().contains("'new'"), "{wrong}");
}

#[test]
fn what_a_service_tells_of_itself_is_known_elsewhere() {
    let mut world = World::new(2);
    world.serve(1, math().version("1.2.3").describe("Sums"));
    world.connect(0, 1);
    let copy = world.stations[0].mesh.replica(id(1)).unwrap();
    let offer = copy.services().next().unwrap();
    assert_eq!(
        (offer.info.version.to_string().as_str(), offer.info.description.as_str()),
        ("1.2.3", "Sums")
    );
    assert_eq!(offer.info.actions[0].argument, "(i64, i64)");
    let now = world.time();
    let Station { mesh, host, .. } = &mut world.stations[1];
    let long = service("long").describe("x".repeat(2_000));
    let error = host.add_service(now, mesh, Arc::new(long)).unwrap_err().to_string();
    assert!(error.contains("2000") && error.contains("1024"), "{error}");
}

#[test]
fn changes_that_come_too_fast_are_dropped_and_known_once_there_is_room_again() {
    let mut world = World::new(2);
    world.connect(0, 1);
    // Small changes count for more than their bytes.
    let (burst, per_second) = (20 << 10, 1 << 10);
    let changes = burst / 512;
    let mesh = &mut world.stations[0].mesh;
    mesh.limits.document_bytes_burst_max = burst;
    mesh.limits.document_bytes_per_second_max = per_second;
    let peer = *mesh.by_id.get(&id(1)).unwrap();
    mesh.peers.get_mut(peer).unwrap().documents =
        crate::base::Allowance::new(MonoTime::ZERO, burst);
    let wish = |n: u64| super::events::wish(&format!("t{n}/a"));
    for n in 0..2 * changes {
        let now = world.time();
        world.stations[1].mesh.subscribe(now, wish(n)).unwrap();
        world.settle();
    }
    let known = |world: &World| world.stations[0].mesh.interest() as u64;
    let at_once = known(&world);
    assert!((changes - 2..=changes).contains(&at_once), "{at_once} of {changes}");
    assert!(world.stations[0].mesh.refusals().of(crate::base::Bound::DocumentBytes) > 0);
    assert_eq!(world.stations[0].mesh.links_up(id(1)).len(), 1, "it is no fault");
    world.pass(Duration::from_secs(30));
    assert_eq!(known(&world), 2 * changes);
}
