//! A large world of a seed: many nodes, each linked to a few, a calm workload, and faults here and there.
//!
//! Where a small world is drawn to be extreme in something, a large one asks whether what holds among five nodes holds
//! among thousands, and what a node costs. Work and faults grow with the nodes, and each stays near its node.

use crate::draw::events::Shapes;
use crate::draw::{CallShapes, DURATION_US, MS, SECOND, SERVICES, moments, neighbours};
use crate::random::{Stream, exponential};
use crate::schedule::{
    Crypto, Deed, Fault, Fidelity, Latency, NetworkPlan, NodePlan, Operation, PROGRAM, Schedule,
    Trouble, VERSION,
};

/// How many nodes a large world may have: more than any seed draws by itself, so that the number tells them apart,
/// and as many as a schedule may have.
pub const LARGE: std::ops::RangeInclusive<u16> = 13..=60_000;

/// Calls and events that each node makes on average.
const CALLS_PER_NODE: u64 = 2;
const EVENTS_PER_NODE: u64 = 1;
/// A fault for so many nodes, and a few in any case.
const NODES_PER_FAULT: u64 = 100;
const FAULTS_LEAST: u64 = 12;

/// The schedule of a seed in a world of so many nodes.
///
/// # Panics
///
/// When they are not within [`LARGE`].
pub fn draw_large(seed: u64, fidelity: Fidelity, crypto: Crypto, count: u16) -> Schedule {
    assert!(LARGE.contains(&count), "{count} nodes; a large world has {LARGE:?}");
    let mut nodes = nodes(seed, count);
    let near = neighbours(&nodes);
    let mut operations = calls(seed, &nodes, near.clone());
    events(seed, &mut nodes, &mut operations);
    operations.sort_by_key(|operation| operation.at_us);
    Schedule {
        version: VERSION,
        program: PROGRAM.into(),
        comment: String::new(),
        seed,
        fidelity,
        crypto,
        duration_us: DURATION_US,
        network: network(seed),
        disk_sync: Some(Latency::Exponential { least_us: 20, mean_us: 200 }),
        acceptors: Vec::new(),
        operations,
        faults: faults(seed, &near),
        rights: None,
        nodes,
    }
}

/// A ring, so that all are connected, and chords across it, so that nobody is far away: on average each node is
/// linked to three. After Newman and Watts, 1999.
fn nodes(seed: u64, count: u16) -> Vec<NodePlan> {
    let mut draw = Stream::new(seed, 30);
    let node = |index: u16| {
        let mut keeps = vec![(index + 1) % count];
        let other = draw.below(u64::from(count)) as u16;
        if draw.chance(400) && other != index && !keeps.contains(&other) {
            keeps.push(other);
        }
        let service = draw.below(SERVICES) as u16;
        let services = draw.chance(250).then_some(service).into_iter().collect();
        NodePlan { keeps, services, ..NodePlan::default() }
    };
    (0..count).map(node).collect()
}

fn network(seed: u64) -> NetworkPlan {
    let mut draw = Stream::new(seed, 31);
    let latency = match draw.below(2) {
        0 => Latency::Constant { us: draw.pick(&[200, 1_000, 20_000]) },
        _ => Latency::Exponential {
            least_us: draw.pick(&[200, 5_000]),
            mean_us: draw.pick(&[1_000, 10_000]),
        },
    };
    NetworkPlan { latency, bytes_per_us: 125, window_frames: draw.pick(&[8, 64, 1_024]) }
}

fn calls(seed: u64, nodes: &[NodePlan], near: Vec<Vec<u16>>) -> Vec<Operation> {
    let mut draw = Stream::new(seed, 32);
    let count = nodes.len() as u64;
    let shapes = CallShapes::draw(&mut draw, near);
    let of_moment = |at_us| {
        let node = draw.below(count) as u16;
        Operation { at_us, node, what: Deed::Call(shapes.call(&mut draw, nodes, node)) }
    };
    let mean_us = DURATION_US / (CALLS_PER_NODE * count);
    moments(&mut Stream::new(seed, 33), mean_us).into_iter().map(of_moment).collect()
}

/// Some nodes subscribe to something, and everybody publishes now and then.
fn events(seed: u64, nodes: &mut [NodePlan], operations: &mut Vec<Operation>) {
    let mut draw = Stream::new(seed, 34);
    let shapes = Shapes::draw(&mut draw, &[]);
    let count = nodes.len() as u16;
    for (index, node) in (0..).zip(nodes.iter_mut()) {
        if draw.chance(300) {
            node.subscribers.push(shapes.subscriber(&mut draw, index, None));
        }
    }
    let mean_us = DURATION_US / (EVENTS_PER_NODE * u64::from(count));
    for at_us in moments(&mut Stream::new(seed, 35), mean_us) {
        let node = draw.below(u64::from(count)) as u16;
        let what = Deed::Publish(shapes.publish(&mut draw, node, count));
        operations.push(Operation { at_us, node, what });
    }
}

/// Faults at single nodes and links, and two cuts: of some neighbours, and of up to a quarter of all.
fn faults(seed: u64, near: &[Vec<u16>]) -> Vec<Fault> {
    let mut draw = Stream::new(seed, 36);
    let count = near.len() as u64;
    let mut faults = Vec::new();
    for number in 0..FAULTS_LEAST + count / NODES_PER_FAULT {
        let at_us = draw.range(2 * SECOND, DURATION_US - 20 * SECOND);
        let long = draw.pick(&[SECOND, 8 * SECOND]);
        // The first one lasts, and so changes something whatever else happens.
        let least = if number == 0 { 7 * SECOND } else { 200 * MS };
        let until_us = (at_us + least + exponential(draw.number(), long)).min(DURATION_US - SECOND);
        let node = draw.below(count) as u16;
        let other = draw.pick(&near[usize::from(node)]);
        let kind = if number == 0 { 0 } else { draw.below(11) };
        let what = match kind {
            0 => Trouble::Crash { node },
            1 => Trouble::Stop { node },
            2 => Trouble::Pause { node },
            3 => Trouble::LoseDisk { node },
            4 => Trouble::Readdress { node },
            5 => Trouble::Dials { a: node, b: other },
            6 => Trouble::Partial { a: node, b: other },
            7 => Trouble::OneWay { from: vec![node], to: vec![other] },
            8 => Trouble::Slow { a: node, b: other, extra_us: draw.pick(&[50 * MS, 500 * MS]) },
            9 => Trouble::Loss { per_mille: draw.pick(&[100, 400]), path: Some((node, other)) },
            _ => Trouble::Clog { node },
        };
        faults.push(Fault { at_us, until_us, what });
    }
    for most in [(count / 50).max(2), count / 4] {
        let (from, nodes) = (draw.below(count), draw.range(1, most));
        let side = (from..from + nodes).map(|node| (node % count) as u16).collect();
        let at_us = draw.range(5 * SECOND, DURATION_US - 30 * SECOND);
        let until_us = at_us + draw.pick(&[SECOND, 6 * SECOND, 20 * SECOND]);
        faults.push(Fault { at_us, until_us, what: Trouble::Partition { side } });
    }
    faults.sort_by_key(|fault| fault.at_us);
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_world_is_connected_and_each_node_is_linked_to_few() {
        for (seed, count) in [(1, 13), (2, 500), (3, 10_000)] {
            let schedule = draw_large(seed, Fidelity::Frames, Crypto::Null, count);
            let near = neighbours(&schedule.nodes);
            let most = near.iter().map(Vec::len).max().expect("there are nodes");
            let links: usize = near.iter().map(Vec::len).sum();
            assert!(most < 16 && links <= 4 * usize::from(count), "{most}, {links}");
            let mut seen = vec![false; usize::from(count)];
            let mut found = vec![0u16];
            while let Some(node) = found.pop() {
                if !std::mem::replace(&mut seen[usize::from(node)], true) {
                    found.extend(&near[usize::from(node)]);
                }
            }
            assert!(seen.iter().all(|seen| *seen));
            let again = Schedule::from_json(&schedule.to_json()).expect("it makes sense");
            assert_eq!(again, schedule);
        }
    }
}
