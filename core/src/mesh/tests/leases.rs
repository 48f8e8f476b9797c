//! Single-active services: one instance serves, another takes over, and callers find it.

use super::*;
use crate::auth::NetworkId;
use crate::base::ServiceKey;
use crate::directory::ServiceState;
use crate::lease::{AcceptorSet, LeaseTimes, Token};
use crate::mesh::CommandError;
use crate::store::{Record, StoreInput, Stored};

/// What became of runs of the service: where, by which token, and whether that was held.
type Runs = Arc<Mutex<Vec<(usize, Option<Token>, bool)>>>;

/// Stations that are all connected; the first three are acceptors.
fn cluster(count: usize) -> World {
    let mut world = World::new(count);
    let acceptors = AcceptorSet::new(4, (0..3).map(id).collect()).unwrap();
    world.leases.development_acceptors = Some(acceptors);
    for index in 0..count {
        world.stations[index] = world.station(index, 1);
    }
    for a in 0..count {
        for b in a + 1..count {
            world.connect(a, b);
        }
    }
    // Acceptors abstain when they start.
    world.pass(3_000 * MS);
    assert!((0..count).all(|index| world.stations[index].mesh.is_ready()));
    world
}

fn leader_service(index: usize, runs: &Runs) -> crate::service::ServiceBuilder {
    let runs = Arc::clone(runs);
    service("leader").single_active().action("who", move |cx, (): ()| {
        runs.lock().unwrap().push((index, cx.fence(), cx.is_active()));
        async move { Ok(index) }
    })
}

fn serve_at(world: &mut World, indices: &[usize]) -> Runs {
    let runs = Runs::default();
    for index in indices {
        world.serve(*index, leader_service(*index, &runs));
    }
    runs
}

fn key(world: &World, index: usize) -> ServiceKey {
    let mut services = world.stations[index].mesh.services().iter();
    services.find(|(_, path, _)| path.as_str() == "leader").unwrap().0
}

fn state(world: &World, index: usize) -> ServiceState {
    let service = key(world, index);
    world.stations[index].mesh.services().state(service).unwrap()
}

fn holders(world: &World) -> Vec<usize> {
    let holds = |index: &usize| {
        let mesh = &world.stations[*index].mesh;
        let mut services = mesh.services().iter();
        services.any(|(key, _, _)| mesh.hold(world.now, key).is_some())
    };
    (0..world.stations.len()).filter(holds).collect()
}

fn ask(
    world: &mut World,
    index: usize,
    millis: u32,
) -> Arc<Mutex<Option<Result<usize, CallError>>>> {
    let handle = world.handle(index);
    let request = handle.request("leader/who").value(()).timeout(millis * MS);
    world.run(index, async move { request.send_as::<usize>().await })
}

fn answer(cell: &Arc<Mutex<Option<Result<usize, CallError>>>>) -> Result<usize, CallError> {
    cell.lock().unwrap().take().expect("it has ended")
}

#[test]
fn one_of_several_is_active_and_callers_find_it_whatever_they_ask() {
    let mut world = cluster(4);
    let runs = serve_at(&mut world, &[0, 1, 2]);
    world.pass(500 * MS);
    let [leader] = holders(&world)[..] else { panic!("one holds: {:?}", holders(&world)) };
    for index in 0..3 {
        let expected = if index == leader { ServiceState::Running } else { ServiceState::Standby };
        assert_eq!(state(&world, index), expected);
        let service = key(&world, index);
        assert_eq!(world.stations[index].mesh.leader_of(service), Some(id(leader)));
    }
    // Those that stand by ask the leader too, though they offer the service themselves.
    for index in 0..4 {
        for _ in 0..3 {
            let cell = ask(&mut world, index, 1_000);
            assert_eq!(answer(&cell).unwrap(), leader);
        }
    }
    let runs = runs.lock().unwrap();
    assert_eq!(runs.len(), 12);
    let first = runs[0].1.expect("it has a token");
    assert_eq!(first.epoch, 4);
    assert!(runs.iter().all(|run| *run == (leader, Some(first), true)), "{runs:?}");
}

#[test]
fn who_asks_a_standby_by_name_hears_who_is_active_and_that_it_has_not_run() {
    let mut world = cluster(3);
    let runs = serve_at(&mut world, &[0, 1]);
    world.pass(500 * MS);
    let leader = holders(&world)[0];
    let request = world.handle(2).request("leader/who").value(()).to(id(1 - leader));
    let cell = world.run(2, async move { request.send_as::<usize>().await });
    let error = answer(&cell).unwrap_err();
    assert_eq!((error.failure(), error.executed()), (Some(Failure::NotActive), Executed::No));
    assert!(error.to_string().contains(&id(leader).to_string()), "{error}");
    assert!(runs.lock().unwrap().is_empty(), "a standby never serves");
}

#[test]
fn another_takes_over_within_the_bound_when_the_active_one_dies() {
    let mut world = cluster(4);
    let runs = serve_at(&mut world, &[0, 1, 2]);
    world.pass(1_700 * MS);
    let leader = holders(&world)[0];
    let cell = ask(&mut world, 3, 1_000);
    assert_eq!(answer(&cell).unwrap(), leader);
    let died = world.now;
    world.restart(leader, 2);
    // The call waits for somebody to be active, and is answered by the next one.
    let cell = ask(&mut world, 3, 5_000);
    while cell.lock().unwrap().is_none() {
        world.pass(5 * MS);
        assert!(holders(&world).len() <= 1);
    }
    let next = answer(&cell).unwrap();
    assert_ne!(next, leader);
    let took = world.now.since(died);
    assert!(took <= 2_100 * MS, "it took {took:?}");
    let runs = runs.lock().unwrap();
    assert!(runs[0].1 < runs[1].1, "tokens grow: {runs:?}");
    assert!(runs.iter().all(|run| run.2));
}

#[test]
fn whoever_gives_way_is_followed_at_once() {
    for how in ["step down", "pause", "stop", "shutdown"] {
        let mut world = cluster(4);
        let runs = serve_at(&mut world, &[0, 1, 2]);
        world.pass(1_000 * MS);
        let leader = holders(&world)[0];
        let (now, service) = (world.time(), key(&world, leader));
        let mesh = &mut world.stations[leader].mesh;
        match how {
            "step down" => mesh.step_down(now, service).unwrap(),
            "pause" => mesh.pause_service(now, service).unwrap(),
            "stop" => mesh.stop_service(now, service).unwrap(),
            _ => mesh.shutdown(now),
        }
        let began = world.now;
        let cell = ask(&mut world, 3, 5_000);
        while cell.lock().unwrap().is_none() {
            world.pass(1 * MS);
            assert!(holders(&world).len() <= 1);
        }
        let next = answer(&cell).unwrap();
        assert_ne!(next, leader, "{how}");
        let took = world.now.since(began);
        assert!(took <= 50 * MS, "{how} took {took:?}");
        // It comes back in time, as a standby.
        world.pass(4_000 * MS);
        assert_eq!(holders(&world), [next], "{how}");
        if how == "pause" {
            assert_eq!(state(&world, leader), ServiceState::Paused);
            let now = world.time();
            world.stations[leader].mesh.resume_service(now, service).unwrap();
            world.settle();
        }
        if how == "pause" || how == "step down" {
            assert_eq!(state(&world, leader), ServiceState::Standby);
        }
        assert!(runs.lock().unwrap().iter().all(|run| run.2));
    }
}

#[test]
fn a_holder_that_is_cut_off_stops_before_another_begins() {
    let mut world = cluster(4);
    let runs = serve_at(&mut world, &[0, 1, 2]);
    world.pass(1_000 * MS);
    let leader = holders(&world)[0];
    for other in (0..3).filter(|other| *other != leader) {
        world.part(leader, other);
    }
    let mut seen = vec![leader];
    for _ in 0..800 {
        world.pass(5 * MS);
        let now = holders(&world);
        assert!(now.len() <= 1, "{now:?} hold");
        let last = *seen.last().unwrap();
        seen.extend(now.into_iter().filter(|index| *index != last));
        // It is still asked by who is not cut off from it, and says what is true.
        let cell = ask(&mut world, leader, 1);
        world.pass(2 * MS);
        if let Ok(by) = answer(&cell) {
            assert_eq!(by, leader);
        }
    }
    assert_eq!(seen.len(), 2, "one took over: {seen:?}");
    assert_eq!(state(&world, leader), ServiceState::Standby);
    let runs = runs.lock().unwrap();
    assert!(runs.iter().all(|run| run.2) && runs.len() > 1);
    assert!(runs.windows(2).all(|pair| pair[0].1 <= pair[1].1), "tokens never go back");
}

#[test]
fn hooks_run_around_being_active_and_one_that_fails_leaves_it_to_others() {
    let mut world = cluster(3);
    let said = Arc::new(Mutex::new(Vec::new()));
    let hook = |what: &'static str, fails: bool| {
        let said = Arc::clone(&said);
        move |cx: crate::service::Context| {
            said.lock().unwrap().push((what, cx.fence().is_some(), cx.is_active()));
            async move { if fails { Err("it breaks".to_string()) } else { Ok(()) } }
        }
    };
    let runs = Runs::default();
    world.serve(
        0,
        leader_service(0, &runs)
            .on_start(hook("start", false))
            .on_activate(hook("activate", false))
            .on_deactivate(hook("deactivate", false)),
    );
    world.pass(500 * MS);
    assert_eq!(*said.lock().unwrap(), [("start", false, false), ("activate", true, true)]);
    world.serve(
        1,
        leader_service(1, &runs)
            .on_activate(hook("breaks", true))
            .on_clean_up(hook("clean up", false)),
    );
    let (now, service) = (world.time(), key(&world, 0));
    said.lock().unwrap().clear();
    world.stations[0].mesh.step_down(now, service).unwrap();
    assert!(world.stations[0].mesh.step_down(now, service).is_err(), "once is enough");
    world.pass(3_000 * MS);
    // It has the lease while it deactivates by its own will.
    assert_eq!(
        *said.lock().unwrap(),
        [
            ("deactivate", true, true),
            ("breaks", true, true),
            ("clean up", true, true),
            ("activate", true, true),
        ]
        .map(|(what, _, _)| (what, what != "clean up", what != "clean up"))
    );
    assert_eq!(holders(&world), [0]);
    let failed =
        |event: &Event| matches!(event, Event::ServiceState { state: ServiceState::Failed, .. });
    assert_eq!(world.saw(1, failed), 1);
}

#[test]
fn without_acceptors_nobody_can_be_active_and_registering_says_so() {
    let mut world = World::new(1);
    let now = world.time();
    let Station { mesh, host, .. } = &mut world.stations[0];
    let service = leader_service(0, &Runs::default());
    let error = host.add_service(now, mesh, Arc::new(service)).unwrap_err();
    assert!(error.to_string().contains("acceptors"), "{error}");
    assert!(mesh.services().is_empty());
}

#[test]
fn a_node_that_is_alone_is_its_own_majority() {
    let mut world = World::new(1);
    world.leases.development_acceptors = Some(AcceptorSet::new(1, vec![id(0)]).unwrap());
    world.stations[0] = world.station(0, 1);
    let runs = serve_at(&mut world, &[0]);
    assert!(!world.stations[0].mesh.is_ready(), "it has just started");
    world.pass(2_000 * MS);
    assert_eq!(holders(&world), [] as [usize; 0], "it abstains");
    world.pass(1_000 * MS);
    let cell = ask(&mut world, 0, 100);
    assert_eq!(answer(&cell).unwrap(), 0);
    assert!(runs.lock().unwrap()[0].2);
    world.pass(60_000 * MS);
    assert_eq!(holders(&world), [0], "it renews");
}

#[test]
fn nobody_is_active_without_a_majority_and_calls_say_so_in_their_time() {
    let mut world = cluster(3);
    let runs = serve_at(&mut world, &[0]);
    world.pass(500 * MS);
    world.part(0, 1);
    world.part(0, 2);
    world.pass(3_000 * MS);
    assert_eq!(holders(&world), [] as [usize; 0]);
    let cell = ask(&mut world, 0, 300);
    world.pass(299 * MS);
    assert!(cell.lock().unwrap().is_none(), "it waits");
    world.pass(2 * MS);
    let error = answer(&cell).unwrap_err();
    assert_eq!((error.failure(), error.executed()), (Some(Failure::NotActive), Executed::No));
    assert!(runs.lock().unwrap().is_empty());
    // A call that is given up while it waits leaves nothing behind, and no timer that looks for its leader.
    let before = world.stations[0].mesh.load();
    let path = TopicPath::parse("leader/who").unwrap();
    let call = world.handle(0).start(CallRequest::new(path, Payload::value(())));
    world.settle();
    let waits = world.stations[0].mesh.load();
    assert_eq!((waits.calls_open, waits.timers), (1, before.timers + 2));
    drop(call);
    world.settle();
    assert_eq!(world.stations[0].mesh.load(), before);
}

#[test]
fn a_call_that_waited_is_over_though_its_end_is_yet_to_be_said() {
    let mut world = cluster(3);
    serve_at(&mut world, &[0]);
    world.pass(500 * MS);
    world.part(0, 1);
    world.part(0, 2);
    world.pass(3_000 * MS);
    let calls: Vec<_> = (0..3).map(|_| ask(&mut world, 0, 300)).collect();
    world.pass(299 * MS);
    world.stations[0].mesh.limits.steps_per_input_max = 1;
    world.now = world.now + MS;
    let now = world.time();
    let mesh = &mut world.stations[0].mesh;
    while mesh.next_wake().is_some_and(|wake| wake.at <= now.mono) && !mesh.has_events() {
        mesh.handle_timeout(now);
        mesh.check_invariants();
    }
    world.pass(2 * MS);
    assert!(calls.iter().all(|call| answer(call).is_err()));
}

#[test]
fn an_acceptor_that_restarts_abstains() {
    let mut world = cluster(3);
    serve_at(&mut world, &[0]);
    world.pass(500 * MS);
    world.restart(1, 2);
    world.restart(2, 2);
    world.connect(0, 1);
    world.connect(0, 2);
    world.connect(1, 2);
    assert!(!world.stations[1].mesh.is_ready());
    // The holder cannot renew, and nobody else is let in before its lease is over everywhere.
    world.pass(2_000 * MS);
    assert_eq!(holders(&world), [] as [usize; 0]);
    assert!(!world.stations[1].mesh.is_ready());
    world.pass(2_500 * MS);
    assert!(world.stations[1].mesh.is_ready());
    let ready = |event: &Event| matches!(event, Event::AcceptorReady { network } if *network == NetworkId::DEVELOPMENT);
    assert_eq!(world.saw(1, ready), 1);
    assert_eq!(holders(&world), [0]);
}

/// What a station asked to be stored becomes durable; what it was goes to the disk.
fn sync(world: &mut World, index: usize, disk: &mut Vec<Record>) {
    let now = world.time();
    while let Some(request) = world.stations[index].mesh.poll_store() {
        for write in request.writes {
            disk.retain(|r| (r.table, &r.key) != (write.table.number(), &write.key));
            disk.extend(write.value.map(|value| Record {
                table: write.table.number(),
                key: write.key,
                value,
            }));
        }
        let durable = StoreInput::Durable { seq: request.seq };
        world.stations[index].mesh.handle_store(now, durable).unwrap();
        world.settle();
    }
}

fn storing(world: &mut World, index: usize, disk: &[Record]) -> Station {
    let mut stored = Stored::default();
    for record in disk {
        stored.read(record).unwrap();
    }
    let mut station = world.station(index, 1);
    let config = MeshConfig {
        identity: identity(index),
        incarnation_counter: 1,
        stored: Some(stored),
        seed: [world.seed; 32],
        admission: Admission::Anyone,
        access: Access::development(&id(index)),
        leases: world.leases.clone(),
        limits: Limits::default(),
    };
    station.mesh = Mesh::new(world.time(), config);
    station
}

#[test]
fn a_promise_is_durable_before_it_is_answered_and_tokens_grow_over_restarts() {
    let mut world = World::new(1);
    world.leases.development_acceptors = Some(AcceptorSet::new(1, vec![id(0)]).unwrap());
    let mut disk = Vec::new();
    let mut last = None;
    for _ in 0..3 {
        world.stations[0] = storing(&mut world, 0, &disk);
        sync(&mut world, 0, &mut disk);
        let runs = serve_at(&mut world, &[0]);
        for _ in 0..30 {
            world.pass(100 * MS);
            assert_eq!(holders(&world), [] as [usize; 0], "the disk has said nothing yet");
            if world.now.since(MonoTime::ZERO) > 2_900 * MS && disk.len() < 2 {
                break;
            }
        }
        for _ in 0..10 {
            sync(&mut world, 0, &mut disk);
            world.pass(100 * MS);
        }
        assert_eq!(holders(&world), [0]);
        let cell = ask(&mut world, 0, 100);
        assert_eq!(answer(&cell).unwrap(), 0);
        let token = runs.lock().unwrap()[0].1;
        assert!(token > last, "{token:?} follows {last:?}");
        last = token;
    }
}

#[test]
fn who_does_not_know_leases_is_served_by_the_active_one() {
    let mut world = World::speaking(vec![2, 2, 2, 1]);
    let acceptors = AcceptorSet::new(1, (0..3).map(id).collect()).unwrap();
    world.leases =
        LeaseSettings { development_acceptors: Some(acceptors), times: LeaseTimes::default() };
    for index in 0..4 {
        world.stations[index] = world.station(index, 1);
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2), (3, 0), (3, 1), (3, 2)] {
        world.connect(a, b);
    }
    serve_at(&mut world, &[0, 1, 2]);
    world.pass(4_000 * MS);
    let leader = holders(&world)[0];
    let cell = ask(&mut world, 3, 100);
    assert_eq!(answer(&cell).unwrap(), leader);
}

#[test]
fn two_services_of_one_node_have_leases_of_their_own() {
    let mut world = cluster(3);
    serve_at(&mut world, &[0]);
    world.serve(0, service("other").single_active().action("a", |_, (): ()| async { Ok(1u32) }));
    world.pass(500 * MS);
    let other = TopicPath::parse("other").unwrap();
    let now = world.time();
    let Station { mesh, host, .. } = &mut world.stations[0];
    let again = service("other").single_active();
    let error = host.add_service(now, mesh, Arc::new(again)).unwrap_err();
    assert!(error.to_string().contains(&CommandError::PathTaken(other).to_string()));
    let cell = world.run(2, {
        let handle = world.handle(2);
        async move { handle.call::<_, u32>("other/a", ()).await }
    });
    assert_eq!(cell.lock().unwrap().take().unwrap().unwrap(), 1);
}

#[test]
fn in_a_network_with_tokens_the_descriptor_names_acceptors_and_who_may_not_serve_gets_no_lease() {
    use crate::auth::tests::{NOON, changed};
    use crate::auth::{Membership, NetworkMembership, Permission};
    let descriptors = changed(|claims| {
        claims.registry_members = (0..3).map(id).collect();
        claims.registry_members.sort();
        claims.registry_epoch = 9;
    });
    let mut world = World::new(0);
    world.began = NOON;
    for index in 0..4 {
        let serve = if index == 3 { "serve:other/*" } else { "serve:leader/*" };
        let token = super::access::token(index, &format!("call:> {serve}"));
        let network = NetworkMembership { descriptors: descriptors.clone(), token };
        let membership = Membership::Networks(vec![network]);
        let access = crate::auth::Access::new(&id(index), world.time(), membership).unwrap();
        let station = world.station_in(index, 1, access);
        world.stations.push(station);
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2), (3, 0), (3, 1), (3, 2)] {
        world.connect(a, b);
    }
    world.pass(3_000 * MS);
    // Its own node says so at once, and acceptors have nothing to say to it.
    let now = world.time();
    let Station { mesh, host, .. } = &mut world.stations[3];
    let service = leader_service(3, &Runs::default());
    let error = host.add_service(now, mesh, Arc::new(service)).unwrap_err();
    assert!(error.to_string().contains("'serve'"), "{error}");
    let network = descriptors.id();
    let name = [&network.as_bytes()[..], b"leader"].concat();
    let name = crate::lease::LeaseName::new(name.into()).unwrap();
    let boot = mesh.incarnation().boot;
    let proposer = crate::lease::ProposerId { peer: id(3), boot };
    let ballot = crate::lease::Ballot { round: 50, proposer };
    for ask in [crate::lease::Ask::Peek, crate::lease::Ask::Prepare(ballot)] {
        let request = crate::lease::Request { epoch: 9, name: name.clone(), ask };
        world.overheard = Some((0, 3, Vec::new()));
        let frame = Message::LeaseRequest(request).into_frame().unwrap().to_body();
        let link = world.links.iter().find(|link| joins(link, 0, 3)).unwrap().0;
        let now = world.time();
        let input = LinkInput::Frame { link, lane: Lane::CONTROL, frame };
        world.stations[0].mesh.handle_link(now, input);
        world.settle();
        let (.., said) = world.overheard.take().unwrap();
        assert_eq!(said.len(), 0, "it is not answered");
    }
    let path = TopicPath::parse("leader/who").unwrap();
    assert!(!world.stations[0].mesh.permits(id(3), Permission::Serve, &path));
    // Those that may get it, with the descriptor's epoch, in a round that knows nothing of that one's.
    let runs = serve_at(&mut world, &[0, 1]);
    world.pass(500 * MS);
    let leader = holders(&world)[0];
    let cell = ask(&mut world, 3, 500);
    assert_eq!(answer(&cell).unwrap(), leader);
    let token = runs.lock().unwrap()[0].1.unwrap();
    assert_eq!(token.epoch, 9);
    assert!(token.round < 50, "{token}");
}

#[test]
fn what_an_acceptor_without_its_disk_learns_comes_in_parts() {
    let mut world = cluster(3);
    let many = crate::wire::LEARNED_PART_MAX + 5;
    for number in 0..many {
        let path = format!("leader-{number}");
        world.serve(0, service(&path).single_active().action("a", |_, (): ()| async { Ok(()) }));
    }
    world.pass(4_000 * MS);
    world.restart(1, 2);
    world.connect(1, 0);
    world.connect(1, 2);
    world.overheard = Some((0, 1, Vec::new()));
    world.pass(3_000 * MS);
    assert!(world.stations[1].mesh.is_ready());
    let (.., said) = world.overheard.take().unwrap();
    let parts = said.into_iter().filter_map(|frame| match wire::parse(frame, &Limits::default()) {
        Ok(Message::LeaseLearned(part)) => Some((part.told, part.learned.rounds.len())),
        _ => None,
    });
    let parts: Vec<_> = parts.collect();
    assert!(parts.ends_with(&[(0, crate::wire::LEARNED_PART_MAX), (many - 5, 5)]), "{parts:?}");
}

#[test]
fn a_descriptor_that_names_other_acceptors_takes_effect_without_a_restart() {
    use crate::auth::tests::{NOON, changed, root};
    use crate::auth::{Membership, NetworkMembership};
    let first = changed(|claims| {
        claims.registry_members = (0..3).map(id).collect();
        claims.registry_epoch = 9;
    });
    let claims = first.current().claims().with_acceptors((1..4).map(id).collect(), false);
    let second = first.succeed(&root(), claims).unwrap();
    let mut world = World::new(0);
    world.began = NOON;
    for index in 0..4 {
        let token = super::access::token(index, "call:> serve:leader/*");
        let network = NetworkMembership { descriptors: first.clone(), token };
        let membership = Membership::Networks(vec![network]);
        let access = crate::auth::Access::new(&id(index), world.time(), membership).unwrap();
        let station = world.station_in(index, 1, access);
        world.stations.push(station);
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2), (3, 0), (3, 1), (3, 2)] {
        world.connect(a, b);
    }
    world.pass(3_000 * MS);
    let runs = serve_at(&mut world, &[0, 1]);
    world.pass(500 * MS);
    let token = |world: &mut World, from| {
        let cell = ask(world, from, 900);
        answer(&cell).unwrap();
        runs.lock().unwrap().last().unwrap().1.unwrap()
    };
    let before = token(&mut world, 3);
    assert_eq!(before.epoch, 9);
    let take = |world: &mut World, index: usize| {
        let now = world.time();
        world.stations[index].mesh.take_descriptor(now, second.clone()).unwrap();
        world.settle();
    };
    // The new acceptor and one old one know: the lease stays where it is, and the others are behind.
    take(&mut world, 3);
    take(&mut world, 0);
    world.pass(5_000 * MS);
    assert_eq!(token(&mut world, 3), before);
    let info = |world: &World, index: usize| world.stations[index].mesh.acceptors()[0].clone();
    assert_eq!((info(&world, 3).epoch, info(&world, 3).waits_for), (10, vec![9]));
    assert_eq!((info(&world, 2).epoch, info(&world, 2).later), (9, Some(10)));
    // Another old one: the lease changes over.
    take(&mut world, 1);
    take(&mut world, 2);
    world.pass(3_000 * MS);
    let after = token(&mut world, 3);
    assert_eq!(after.epoch, 10);
    assert!(after > before);
    assert!((1..4).all(|index| info(&world, index).is_ready), "they take part");
    assert!(!info(&world, 0).is_ours);
    // What was replaced is needed no more, and cannot decide anything.
    for other in 1..4 {
        world.part(0, other);
    }
    world.pass(5_000 * MS);
    assert_eq!(token(&mut world, 3).epoch, 10);
}
