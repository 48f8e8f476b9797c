//! What is stored of a node, and what waits for it.

use super::*;
use crate::store::{Record, StoreInput, StoreRequest, Stored};

/// A station that stores things, with what is on its disk.
fn storing(world: &mut World, index: usize, disk: &[StoreRequest]) -> Station {
    let mut stored = Stored::default();
    // Later writes to one place win.
    if let Some(write) = disk.iter().flat_map(|request| &request.writes).last() {
        let record = Record {
            table: write.table.number(),
            key: write.key.clone(),
            value: write.value.clone().unwrap(),
        };
        stored.read(&record).unwrap();
    }
    world.seed += 1;
    let config = MeshConfig {
        identity: identity(index),
        incarnation_counter: 0,
        stored: Some(stored),
        seed: [world.seed; 32],
        admission: Admission::Anyone,
        access: Access::development(&id(index)),
        leases: Default::default(),
        limits: Limits::default(),
    };
    let seed = [world.seed; 32];
    Station { mesh: Mesh::new(world.time(), config), host: Host::new(seed, || {}), log: Vec::new() }
}

fn ups(world: &World, index: usize) -> usize {
    world.saw(index, |event| matches!(event, Event::PeerUp { .. }))
}

#[test]
fn nothing_leaves_a_node_before_its_life_is_stored() {
    let mut world = World::new(2);
    world.stations[0] = storing(&mut world, 0, &[]);
    world.connect(0, 1);
    world.pass(1_000 * MS);
    assert_eq!((ups(&world, 0), ups(&world, 1)), (0, 0));
    let asked = world.stations[0].mesh.poll_store().expect("its life is to be stored");
    assert!(world.stations[0].mesh.poll_store().is_none());
    let now = world.time();
    let mesh = &mut world.stations[0].mesh;
    assert!(mesh.handle_store(now, StoreInput::Durable { seq: asked.seq + 1 }).is_err());
    world.settle();
    assert_eq!(ups(&world, 1), 0, "what was never given out is not durable");
    let durable = StoreInput::Durable { seq: asked.seq };
    world.stations[0].mesh.handle_store(now, durable).unwrap();
    world.settle();
    assert_eq!((ups(&world, 0), ups(&world, 1)), (1, 1));
}

#[test]
fn the_next_life_is_later_than_the_one_that_was_stored() {
    let mut world = World::new(1);
    let mut disk = Vec::new();
    for life in 0..3 {
        world.stations[0] = storing(&mut world, 0, &disk);
        let mesh = &mut world.stations[0].mesh;
        assert_eq!(mesh.incarnation().counter, life);
        disk.push(mesh.poll_store().unwrap());
    }
    // What was asked for and never stored happens again: nobody has heard of it.
    disk.pop();
    world.stations[0] = storing(&mut world, 0, &disk);
    assert_eq!(world.stations[0].mesh.incarnation().counter, 2);
}

#[test]
fn a_node_that_is_told_of_a_later_life_stores_the_next_one_before_it_speaks() {
    let mut world = World::new(2);
    world.connect(1, 0);
    world.restart(0, 9);
    world.connect(1, 0);
    world.pass(3_000 * MS);
    let met = ups(&world, 1);
    world.part(0, 1);
    world.heal();
    world.stations[0] = storing(&mut world, 0, &[]);
    let now = world.time();
    let asked = world.stations[0].mesh.poll_store().unwrap();
    let durable = StoreInput::Durable { seq: asked.seq };
    world.stations[0].mesh.handle_store(now, durable).unwrap();
    world.pass(30_000 * MS);
    assert_eq!(world.saw(0, |event| matches!(event, Event::LifeBegan { .. })), 1);
    assert_eq!(world.stations[0].mesh.incarnation().counter, 10);
    assert_eq!(ups(&world, 1), met, "its new life is not stored");
    let asked = world.stations[0].mesh.poll_store().unwrap();
    assert_eq!(asked.writes[0].value.as_deref(), Some(&10u64.to_be_bytes()[..]));
    let (now, durable) = (world.time(), StoreInput::Durable { seq: asked.seq });
    world.stations[0].mesh.handle_store(now, durable).unwrap();
    world.pass(30_000 * MS);
    assert_eq!(ups(&world, 1), met + 1);
}

#[test]
fn a_node_whose_store_fails_stops_and_says_why() {
    for was_durable in [false, true] {
        let mut world = World::new(2);
        world.stations[0] = storing(&mut world, 0, &[]);
        world.connect(0, 1);
        let now = world.time();
        let mesh = &mut world.stations[0].mesh;
        let seq = mesh.poll_store().unwrap().seq;
        if was_durable {
            mesh.handle_store(now, StoreInput::Durable { seq }).unwrap();
        }
        world.settle();
        let failed = StoreInput::Failed { why: "no space left on the device".into() };
        world.stations[0].mesh.handle_store(now, failed).unwrap();
        world.settle();
        let says =
            |event: &Event| matches!(event, Event::StoreFailed { why } if why.contains("space"));
        assert_eq!(world.saw(0, says), 1);
        assert_eq!(world.saw(0, |event| matches!(event, Event::Stopped)), 1);
        assert!(world.stations[0].mesh.poll_store().is_none());
        assert_eq!(ups(&world, 1), usize::from(was_durable));
    }
}
