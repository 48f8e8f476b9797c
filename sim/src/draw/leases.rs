//! Single-active services: who decides, who offers them, and what is done to them.
//!
//! On in a third of the worlds without tokens, with draws of its own.

use crate::draw::{MS, SECOND, moments};
use crate::random::Stream;
use crate::schedule::{Action, Call, Deed, NodePlan, Operation, SINGLE_ACTIVE, Touch};

/// Adds acceptors, instances, calls and what befalls instances to a schedule. The acceptors; none if leases are off.
pub(super) fn add(seed: u64, nodes: &mut [NodePlan], operations: &mut Vec<Operation>) -> Vec<u16> {
    let mut draw = Stream::new(seed, 40);
    let count = nodes.len() as u64;
    if count < 3 || !draw.chance(333) {
        return Vec::new();
    }
    let mut acceptors: Vec<u16> = Vec::new();
    while acceptors.len() < 3 {
        let node = draw.below(count) as u16;
        if !acceptors.contains(&node) {
            acceptors.push(node);
        }
    }
    let share = draw.pick(&[300, 600, 1_000]);
    for node in nodes.iter_mut() {
        if draw.chance(share) {
            node.services.push(SINGLE_ACTIVE);
        }
    }
    // Whoever takes part has links to the acceptors.
    for (index, is_candidate) in nodes
        .iter()
        .map(|node| node.services.contains(&SINGLE_ACTIVE))
        .enumerate()
        .collect::<Vec<_>>()
    {
        let index = index as u16;
        for acceptor in &acceptors {
            let joins =
                |a: u16, b: u16, nodes: &[NodePlan]| nodes[usize::from(a)].keeps.contains(&b);
            let joined = joins(index, *acceptor, nodes) || joins(*acceptor, index, nodes);
            if (is_candidate || acceptors.contains(&index)) && *acceptor != index && !joined {
                nodes[usize::from(index)].keeps.push(*acceptor);
            }
        }
    }
    // Some of the calls are for them.
    let called = draw.pick(&[50, 200, 600]);
    for operation in operations.iter_mut() {
        let Deed::Call(call) = &mut operation.what else { continue };
        let is_quick = matches!(call.action, Action::Echo | Action::Sleep { .. });
        if is_quick && draw.chance(called) {
            call.service = SINGLE_ACTIVE;
            call.minor_least = None;
        }
    }
    if draw.chance(600) {
        let mean_us = draw.pick(&[500 * MS, 4 * SECOND, 15 * SECOND]);
        for at_us in moments(&mut draw, mean_us) {
            let node = draw.below(count) as u16;
            let service = SINGLE_ACTIVE;
            let what = match draw.below(5) {
                0 => Deed::PauseService { service },
                1 | 2 => Deed::ResumeService { service },
                3 => Deed::StopService { service },
                _ => Deed::StartService { service },
            };
            operations.push(Operation { at_us, node, what });
        }
        operations.sort_by_key(|operation| operation.at_us);
    }
    registers(seed, count, operations);
    acceptors
}

/// In some of those worlds clients read and write registers behind the single-active service, with draws of their own.
fn registers(seed: u64, count: u64, operations: &mut Vec<Operation>) {
    let mut draw = Stream::new(seed, 41);
    if !draw.chance(600) {
        return;
    }
    let mean_us = draw.pick(&[40 * MS, 150 * MS, 600 * MS]);
    let keys = draw.range(1, 3);
    let reads = draw.pick(&[300, 700]);
    let ms_max = draw.pick(&[0, 20, 400, 3_000]);
    let timeout_ms = draw.pick(&[200, 2_000, 10_000]);
    for at_us in moments(&mut draw, mean_us) {
        let node = draw.below(count) as u16;
        let what = match (draw.chance(reads), draw.chance(700)) {
            (true, true) => Touch::Read,
            (true, false) => Touch::ReadStored,
            (false, true) => Touch::CompareAndSet,
            (false, false) => Touch::Write,
        };
        let (key, ms) = (draw.below(keys) as u8, draw.below(ms_max + 1) as u32);
        let action = Action::Register { key, what, ms };
        let call = Call { action, ..Call::plain(SINGLE_ACTIVE, timeout_ms) };
        operations.push(Operation { at_us, node, what: Deed::Call(call) });
    }
    operations.sort_by_key(|operation| operation.at_us);
}
