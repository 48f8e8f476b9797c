//! Calls wait while a peer is being dialled that may serve them, and no longer.

use super::*;
use crate::peer::BACKOFF;

const SECOND: Duration = Duration::from_secs(1);

type Cell = Arc<Mutex<Option<Result<u64, CallError>>>>;

fn who(index: usize) -> crate::service::ServiceBuilder {
    service("who").action("are", move |_, ()| async move { Ok(index as u64) })
}

fn ask(world: &mut World, path: &'static str, at_once: bool) -> Cell {
    let handle = world.handle(0);
    world.run(0, async move {
        let request = handle.request(path).value(()).timeout(SECOND * 5);
        let request = if at_once { request.without_waiting() } else { request };
        request.send_as().await
    })
}

fn end(cell: &Cell) -> Option<Result<u64, (Option<Failure>, Executed)>> {
    let ended = cell.lock().unwrap().take()?;
    Some(ended.map_err(|error| (error.failure(), error.executed())))
}

const NO_RESPONDERS: Option<Result<u64, (Option<Failure>, Executed)>> =
    Some(Err((Some(Failure::NoResponders), Executed::No)));

#[test]
fn a_call_waits_for_a_provider_that_restarts() {
    let mut world = World::new(2);
    world.serve(1, who(1));
    world.connect(0, 1);
    world.part(0, 1);
    let calls: Vec<_> = (0..50).map(|_| ask(&mut world, "who/are", false)).collect();
    let at_once = ask(&mut world, "who/are", true);
    assert!(calls.iter().all(|call| call.lock().unwrap().is_none()));
    assert_eq!(end(&at_once), NO_RESPONDERS);
    world.restart(1, 2);
    world.serve(1, who(1));
    world.heal();
    world.pass(SECOND * 4);
    for call in calls {
        assert_eq!(end(&call), Some(Ok(1)));
    }
    world.stations[0].mesh.check_invariants();
}

#[test]
fn a_call_waits_for_a_peer_that_was_not_met_yet_until_its_time_is_over() {
    let mut world = World::new(2);
    world.serve(1, who(1));
    world.cut.push((0, 1));
    world.connect(0, 1);
    let early = ask(&mut world, "who/are", false);
    world.pass(SECOND * 5);
    assert_eq!(end(&early), NO_RESPONDERS);
}

#[test]
fn where_dials_fail_for_long_no_call_waits() {
    let mut world = World::new(2);
    world.serve(1, who(1));
    world.connect(0, 1);
    world.part(0, 1);
    world.pass(BACKOFF[0] * 2 + BACKOFF[1] * 2 + SECOND * 20);
    let call = ask(&mut world, "who/are", false);
    assert_eq!(end(&call), NO_RESPONDERS);
}

#[test]
fn what_no_peer_that_is_away_has_offered_is_not_waited_for() {
    let mut world = World::new(3);
    world.serve(1, who(1));
    world.connect(0, 1);
    world.connect(0, 2);
    // The session goes on, so that it is known what it offers.
    world.part(0, 2);
    assert_eq!(end(&ask(&mut world, "no/such", false)), NO_RESPONDERS);
    // Another instance takes the call.
    assert_eq!(end(&ask(&mut world, "who/are", false)), Some(Ok(1)));
    world.stations[0].mesh.check_invariants();
}
