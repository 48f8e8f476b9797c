//! Simultaneous dials, several lives and several protocol versions: what users of two and three meshes
//! notice of them, or do not.

use super::*;
use crate::link::{DialHandle, LinkId};

impl World {
    /// Everybody dials everybody before anybody has heard of it.
    fn connect_all_at_once(&mut self) {
        let now = self.time();
        for from in 0..self.stations.len() {
            for to in (0..self.stations.len()).filter(|to| *to != from) {
                let address = "10.0.0.1:1".parse().unwrap();
                self.stations[from].mesh.connect(now, id(to), vec![address]).unwrap();
            }
        }
        self.settle();
    }

    /// The one link of a pair, as both ends name it.
    fn only_link(&self, a: usize, b: usize) -> (LinkHandle, LinkId) {
        let of = |here: usize, there: usize| {
            let mesh = &self.stations[here].mesh;
            let links = mesh.links_up(id(there));
            let [(link, _)] = links[..] else { panic!("{here} has {links:?} to {there}") };
            (link, mesh.link_id(link).expect("a link that is up has a name"))
        };
        let (ours, theirs) = (of(a, b), of(b, a));
        assert_eq!(ours.0, theirs.0, "both ends keep the same link");
        assert_ne!(ours.1.dialler, theirs.1.dialler, "one end dialled");
        assert_eq!(ours.1.number, theirs.1.number);
        ours
    }

    fn peer_downs(&self) -> usize {
        (0..self.stations.len())
            .map(|index| self.saw(index, |event| matches!(event, Event::PeerDown { .. })))
            .sum()
    }
}

#[test]
fn two_that_dial_each_other_at_once_end_with_one_link_and_nobody_was_down() {
    let mut world = World::new(2);
    world.connect_all_at_once();
    let (_, link) = world.only_link(0, 1);
    let higher_dialled = (id(0) > id(1)) == (link.dialler == crate::link::End::Here);
    assert!(higher_dialled, "the higher id's own dial stays");
    assert_eq!(world.peer_downs(), 0);
    for index in 0..2 {
        assert_eq!(world.saw(index, |e| matches!(e, Event::PeerUp { .. })), 1);
        assert_eq!(world.saw(index, |e| matches!(e, Event::LinkSuperseded { .. })), 1);
    }
    world.pass(100_000 * MS);
    world.only_link(0, 1);
    assert_eq!(world.peer_downs(), 0);
    for station in &world.stations {
        // One heartbeat, and nothing that the drained link has left behind.
        assert_eq!((station.mesh.load().links, station.mesh.load().timers), (1, 1));
    }
}

#[test]
fn three_that_dial_each_other_at_once_end_with_one_link_a_pair() {
    let mut world = World::new(3);
    world.connect_all_at_once();
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        world.only_link(a, b);
    }
    assert_eq!(world.peer_downs(), 0);
}

#[test]
fn calls_under_way_on_the_link_that_loses_are_answered_once() {
    let mut world = World::new(2);
    let runs: [Arc<Mutex<u32>>; 2] = Default::default();
    for (index, runs) in runs.iter().enumerate() {
        world.serve(index, slow(Arc::clone(runs)));
    }
    let lower = usize::from(id(0) > id(1));
    // Its dial loses once the other one dials too.
    world.connect(lower, 1 - lower);
    let cells: Vec<_> = (0..2)
        .map(|from| {
            let handle = world.handle(from);
            let to = id(1 - from);
            world.run(from, async move {
                handle.request("slow/wait").to(to).value(5_000u64).send().await.is_ok()
            })
        })
        .collect();
    let now = world.time();
    let dial = DialHandle(77);
    let newer = LinkHandle(99);
    world.links.push((newer, 1 - lower, lower));
    for (here, direction) in [(1 - lower, Direction::Dialled(dial)), (lower, Direction::Accepted)] {
        let up = LinkInput::Up { link: newer, peer: id(1 - here), direction, remote: None };
        world.stations[here].mesh.handle_link(now, up);
    }
    world.settle();
    let (stays, _) = world.only_link(0, 1);
    assert_eq!(stays, newer);
    world.pass(10_000 * MS);
    for (cell, runs) in cells.iter().zip(&runs) {
        assert_eq!(cell.lock().unwrap().take(), Some(true));
        assert_eq!(*runs.lock().unwrap(), 1, "no call runs twice");
    }
    assert_eq!(world.peer_downs(), 0);
}

#[test]
fn nodes_of_adjacent_versions_have_one_link_and_call_each_other() {
    let (current, next) = (wire::VERSION_MAX, wire::VERSION_NEXT);
    for versions in [[current, next], [next, current], [next, next]] {
        let mut world = World::speaking(versions.to_vec());
        world.serve(1, math());
        world.connect_all_at_once();
        world.only_link(0, 1);
        let sum = world.run(0, add(world.handle(0)));
        assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
        world.pass(60_000 * MS);
        assert_eq!(world.peer_downs(), 0);
    }
}

#[test]
fn a_node_that_lost_its_counter_begins_the_next_life_and_keeps_its_services() {
    let mut world = World::new(2);
    world.connect(0, 1);
    world.restart(1, 7);
    world.pass(3_000 * MS);
    assert_eq!(world.stations[0].mesh.peers_up().count(), 1);
    world.restart(1, 1);
    world.serve(1, math());
    world.pass(20_000 * MS);
    assert_eq!(world.stations[1].mesh.incarnation().counter, 8);
    assert_eq!(
        world.saw(1, |e| matches!(e, Event::LifeBegan { incarnation, told_by }
            if incarnation.counter == 8 && *told_by == id(0))),
        1
    );
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
}

#[test]
fn calls_of_a_life_that_turns_out_stale_end_and_new_ones_work() {
    let mut world = World::new(3);
    world.serve(0, math());
    world.serve(2, slow(Arc::default()));
    world.connect(1, 0);
    world.restart(1, 7);
    world.connect(1, 0);
    world.restart(1, 1);
    // Who has never met it lets it in; who has, tells it to begin anew.
    world.connect(1, 2);
    let handle = world.handle(1);
    let waiting = world.run(1, async move { handle.call::<_, u32>("slow/wait", 60_000u64).await });
    world.connect(1, 0);
    world.pass(5_000 * MS);
    let error = waiting.lock().unwrap().take().expect("it has ended").unwrap_err();
    assert_eq!(error.executed(), Executed::Maybe);
    assert_eq!(world.stations[1].mesh.incarnation().counter, 8);
    let sum = world.run(1, add(world.handle(1)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
    assert_eq!(world.stations[1].mesh.peers_up().count(), 2);
}

#[test]
fn a_node_told_of_a_newer_self_stops_and_says_so() {
    let mut world = World::new(3);
    world.connect(1, 0);
    // The same key again, elsewhere: station 2 stands for the copy.
    let now = world.time();
    let link = LinkHandle(88);
    let copy = MeshConfig {
        identity: identity(1),
        incarnation_counter: 9,
        stored: None,
        seed: [99; 32],
        admission: Admission::Anyone,
        access: Access::development(&id(1)),
        leases: Default::default(),
        limits: Limits::default(),
    };
    world.stations[2].mesh = Mesh::new(now, copy);
    world.links.push((link, 2, 0));
    for (here, there, direction) in
        [(2, 0, Direction::Dialled(DialHandle(1))), (0, 1, Direction::Accepted)]
    {
        let up = LinkInput::Up { link, peer: id(there), direction, remote: None };
        world.stations[here].mesh.handle_link(now, up);
    }
    world.settle();
    world.pass(6_000 * MS);
    assert_eq!(world.saw(1, |e| matches!(e, Event::NewerSelf { told_by } if *told_by == id(0))), 1);
    assert!(world.stations[1].mesh.is_stopped());
    assert!(!world.stations[2].mesh.is_stopped());
    assert_eq!(world.stations[0].mesh.links_up(id(1)).len(), 1);
}

#[test]
fn the_address_at_which_a_peer_sees_this_node_can_be_asked_for() {
    let mut world = World::new(2);
    let now = world.time();
    let seen = "192.0.2.9:4433".parse().unwrap();
    let link = LinkHandle(5);
    world.links.push((link, 0, 1));
    for (here, direction, remote) in
        [(0, Direction::Dialled(DialHandle(1)), None), (1, Direction::Accepted, Some(seen))]
    {
        let up = LinkInput::Up { link, peer: id(1 - here), direction, remote };
        world.stations[here].mesh.handle_link(now, up);
    }
    world.settle();
    assert_eq!(world.stations[0].mesh.observed_address(id(1)), Some(seen));
    assert_eq!(world.stations[1].mesh.observed_address(id(0)), None, "its transport has none");
}
