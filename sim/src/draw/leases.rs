//! Single-active services: who decides, who offers them, and what is done to them.
//!
//! On in a third of the worlds without tokens, and in many that have one network with tokens, where other acceptors are
//! named while the world goes on; with draws of its own.

use crate::draw::{DURATION_US, MS, SECOND, moments};
use crate::random::{Stream, exponential};
use crate::schedule::{
    Action, Call, Deed, Fault, NodePlan, Operation, SINGLE_ACTIVE, Touch, Trouble,
};

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
    equip(&mut draw, &acceptors, nodes, operations);
    registers(seed, count, operations);
    acceptors
}

/// Adds acceptors of a network with tokens, and other ones that follow them. The first ones; none if leases are off.
pub(super) fn add_changing(
    seed: u64,
    nodes: &mut [NodePlan],
    operations: &mut Vec<Operation>,
    faults: &mut Vec<Fault>,
) -> Vec<u16> {
    let mut draw = Stream::new(seed, 42);
    let count = nodes.len() as u64;
    if count < 4 || !draw.chance(850) {
        return Vec::new();
    }
    let first = some_of(&mut draw, count, 3);
    let mut ever = first.clone();
    let mut present = first.clone();
    // Some of one world's changes come so fast that those before are not over.
    let pause = draw.pick(&[300 * MS, 3 * SECOND, 12 * SECOND]);
    let late = draw.pick(&[SECOND, 5 * SECOND, 20 * SECOND]);
    let share = draw.pick(&[200, 500, 900]);
    let troubled = draw.pick(&[0, 500, 1_000]);
    let mut at_us = 3 * SECOND + exponential(draw.number(), 6 * SECOND);
    for _ in 0..draw.range(1, 6) {
        if at_us >= DURATION_US - 5 * SECOND {
            break;
        }
        let before = std::mem::take(&mut present);
        present = others(&mut draw, count, &before);
        if draw.chance(troubled) {
            let at_us = (at_us + exponential(draw.number(), SECOND)).min(DURATION_US - 2 * SECOND);
            let until_us = at_us + 100 * MS + exponential(draw.number(), 3 * SECOND);
            let what = meanwhile(&mut draw, count, &before, &present);
            faults.push(Fault { at_us, until_us: until_us.min(DURATION_US - SECOND), what });
        }
        for member in &present {
            if !ever.contains(member) {
                ever.push(*member);
            }
        }
        let told = (0..count as u16).filter(|_| draw.chance(share)).collect();
        let until_us = at_us + 100 * MS + exponential(draw.number(), late);
        let what = Trouble::Acceptors { members: present.clone(), told };
        faults.push(Fault { at_us, until_us: until_us.min(DURATION_US - SECOND), what });
        at_us += 50 * MS + exponential(draw.number(), pause);
    }
    faults.sort_by_key(|fault| fault.at_us);
    equip(&mut draw, &ever, nodes, operations);
    registers(seed, count, operations);
    first
}

/// What goes wrong just while these acceptors follow those.
fn meanwhile(draw: &mut Stream, count: u64, before: &[u16], present: &[u16]) -> Trouble {
    let of = draw.pick(&[before, present]);
    let node = draw.pick(of);
    match draw.below(6) {
        0 => Trouble::Pause { node },
        1 => Trouble::LoseDisk { node },
        2 => Trouble::Crash { node },
        3 => Trouble::Partition { side: vec![node] },
        // Old acceptors among themselves, with those of the others that happen to be there.
        _ => {
            let mut side: Vec<u16> = (0..count as u16).filter(|_| draw.chance(250)).collect();
            side.extend(before.iter().copied().filter(|_| draw.chance(700)));
            side.push(node);
            side.sort_unstable();
            side.dedup();
            Trouble::Partition { side }
        }
    }
}

/// So many distinct nodes.
fn some_of(draw: &mut Stream, count: u64, wanted: usize) -> Vec<u16> {
    let mut found: Vec<u16> = Vec::new();
    while found.len() < wanted {
        let node = draw.below(count) as u16;
        if !found.contains(&node) {
            found.push(node);
        }
    }
    found
}

/// Acceptors that are not all those before: mostly one of them is replaced.
fn others(draw: &mut Stream, count: u64, before: &[u16]) -> Vec<u16> {
    loop {
        let mut found = match draw.below(20) {
            0 => some_of(draw, count, 1),
            1..4 if count > 5 => some_of(draw, count, 5),
            4..9 => some_of(draw, count, 3),
            _ if before.len() == 3 => {
                let mut found = before.to_vec();
                let place = draw.below(3) as usize;
                found[place] = draw.below(count) as u16;
                found
            }
            _ => some_of(draw, count, 3),
        };
        let is_new = found.iter().any(|node| !before.contains(node)) || found.len() != before.len();
        found.sort_unstable();
        if is_new && found.windows(2).all(|pair| pair[0] != pair[1]) {
            return found;
        }
    }
}

/// Has nodes offer the service, connects them with all who will ever be acceptors, and adds what is done to it.
fn equip(
    draw: &mut Stream,
    acceptors: &[u16],
    nodes: &mut [NodePlan],
    operations: &mut Vec<Operation>,
) {
    let count = nodes.len() as u64;
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
        for acceptor in acceptors {
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
        for at_us in moments(draw, mean_us) {
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
