//! Who is let in, how services and nodes end, and who is forgotten.

use super::*;

#[test]
fn an_earlier_life_is_refused_and_says_so() {
    let mut world = World::new(2);
    world.connect(0, 1);
    world.restart(1, 5);
    world.pass(3_000 * MS);
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerUp { .. })), 2);
    world.restart(1, 3);
    world.pass(3_000 * MS);
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerUp { .. })), 2);
    assert!(world.saw(1, |e| matches!(e, Event::PeerRefused { .. })) > 0);
}

#[test]
fn only_listed_peers_are_let_in() {
    let mut world = World::new(2);
    world.stations[1].mesh.local.admission = Admission::Listed(Default::default());
    world.connect(0, 1);
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerUp { .. })), 0);
    let not_allowed = crate::peer::RefuseCode::NotAllowed;
    assert_eq!(
        world.saw(0, |e| matches!(e, Event::PeerRefused { why, .. } if *why == not_allowed)),
        1
    );
}

#[test]
fn a_service_that_cannot_begin_is_cleaned_up() {
    let cleaned: Arc<Mutex<bool>> = Arc::default();
    let flag = Arc::clone(&cleaned);
    let mut world = World::new(1);
    let broken = math().on_init(|_| async { Err("no database".into()) }).on_clean_up(move |_| {
        *flag.lock().unwrap() = true;
        async { Ok(()) }
    });
    world.serve(0, broken);
    assert!(*cleaned.lock().unwrap());
    assert!(world.stations[0].mesh.services().is_empty());
    let failed = crate::directory::ServiceState::Failed;
    assert_eq!(
        world.saw(0, |e| matches!(e, Event::ServiceState { state, .. } if *state == failed)),
        1
    );
}

#[test]
fn a_paused_service_is_not_called_until_it_goes_on() {
    let mut world = World::new(2);
    world.serve(1, math());
    world.connect(0, 1);
    let now = world.time();
    let key = world.stations[1].mesh.services().iter().next().unwrap().0;
    world.stations[1].mesh.pause_service(now, key).unwrap();
    assert!(world.stations[1].mesh.pause_service(now, key).is_err(), "it is paused already");
    world.settle();
    let refused = world.run(0, add(world.handle(0)));
    let error = refused.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    world.stations[1].mesh.resume_service(now, key).unwrap();
    world.settle();
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
}

#[test]
fn a_stopping_node_answers_what_it_has_begun() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(runs));
    world.connect(0, 1);
    let handle = world.handle(0);
    let cell = world.run(0, async move { handle.call::<_, u32>("slow/wait", 1_000u64).await });
    world.pass(10 * MS);
    let now = world.time();
    world.stations[1].mesh.shutdown(now);
    world.pass(2_000 * MS);
    assert_eq!(cell.lock().unwrap().take().unwrap().unwrap(), 1);
    assert_eq!(world.saw(1, |e| matches!(e, Event::Stopped)), 1);
    let reason = |e: &Event| {
        matches!(e, Event::PeerDown { reason: DownReason::ClosedByPeer(code), .. }
            if *code == crate::link::CloseCode::SHUTDOWN)
    };
    assert_eq!(world.saw(0, reason), 1);
    assert_eq!(world.stations[1].mesh.load().timers, 0, "nothing is left behind");
}

#[test]
fn a_peer_that_speaks_garbage_is_cut_off_and_nothing_else_happens() {
    let mut world = World::new(2);
    world.serve(1, math());
    world.connect(0, 1);
    let now = world.time();
    let (link, ..) = world.links[0];
    let garbage = Bytes::from_static(&[16, 200, 1, 2, 3]);
    let input = LinkInput::Frame { link, lane: Lane(1), frame: garbage };
    world.stations[1].mesh.handle_link(now, input);
    world.settle();
    assert_eq!(world.saw(1, |e| matches!(e, Event::PeerMisbehaved { .. })), 1);
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerDown { .. })), 1);
    world.pass(3_000 * MS);
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5, "it came back, sober");
}

#[test]
fn strangers_that_left_are_forgotten() {
    let mut world = World::new(2);
    world.connect(0, 1);
    world.part(0, 1);
    assert_eq!(world.stations[1].mesh.load().peers, 1);
    world.pass(120_000 * MS);
    assert_eq!(world.stations[1].mesh.load().peers, 0);
    assert_eq!(world.stations[0].mesh.load().peers, 1, "it is kept where it was asked for");
}

#[test]
fn a_key_of_a_run_that_has_ended_answers_nothing() {
    let mut world = World::new(1);
    let now = world.time();
    let stale = InvocationKey::from_u64(77);
    world.stations[0].mesh.respond(now, stale, Ok(Payload::raw("late")));
    world.settle();
    assert_eq!(world.stations[0].mesh.load().calls_open, 0);
}

#[test]
fn what_outlasts_the_grace_of_a_stop_is_cut_off_and_nothing_is_said_after_the_end() {
    let mut world = World::new(1);
    world.serve(0, slow(Arc::default()));
    let stubborn = service("stubborn").on_stop(|cx| async move {
        cx.sleep(60_000 * MS).await;
        Ok(())
    });
    world.serve(0, stubborn);
    let handle = world.handle(0);
    let call = async move { handle.call::<_, u32>("slow/wait", 60_000u64).await };
    let cell = world.run(0, call);
    let now = world.time();
    world.stations[0].mesh.shutdown(now);
    world.pass(SHUTDOWN_GRACE + MS);
    assert!(cell.lock().unwrap().take().unwrap().is_err());
    assert_eq!(world.stations[0].mesh.load().invocations, 0);
    assert_eq!(world.stations[0].host.tasks(), 1, "only the hook, which nobody may interrupt");
    world.pass(120_000 * MS);
    assert!(matches!(world.stations[0].log.last(), Some(Event::Stopped)));
}

#[test]
fn whoever_left_no_trace_is_forgotten() {
    let mut world = World::new(1);
    let now = world.time();
    let mesh = &mut world.stations[0].mesh;
    // A stranger that never greets, and a peer that was asked for and then was not.
    let (link, direction) = (LinkHandle(1), Direction::Accepted);
    let up = LinkInput::Up { link, peer: PeerId::from_bytes([7; 32]), direction, remote: None };
    mesh.handle_link(now, up);
    mesh.handle_link(now, LinkInput::Down { link, reason: DownReason::TimedOut });
    mesh.connect(now, PeerId::from_bytes([8; 32]), Vec::new()).unwrap();
    mesh.disconnect(now, PeerId::from_bytes([8; 32]));
    assert_eq!(mesh.load().peers, 2);
    world.pass(60_000 * MS);
    assert_eq!(world.stations[0].mesh.load().peers, 0);
    assert_eq!(world.stations[0].mesh.load().timers, 0);
}
