//! What can be taken out of a schedule, so that what is left is a schedule.

use std::collections::BTreeSet;

use crate::schedule::{Schedule, Trouble};

/// One thing that can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// An operation, by its place.
    Operation(usize),
    /// A fault, by its place.
    Fault(usize),
    /// Whom a node keeps: node, place.
    Keeps(usize, usize),
    /// A service of a node: node, place.
    Service(usize, usize),
    /// A subscriber of a node: node, place.
    Subscriber(usize, usize),
    /// The bounds of a node.
    Limits(usize),
    /// A service that a node may not call: node, place.
    Withheld(usize, usize),
    /// How far the clock of a node is ahead.
    ClockAhead(usize),
    /// In which networks the nodes are.
    Networks,
    /// The network with tokens.
    Rights,
    /// What the network is like.
    Network,
}

impl Item {
    /// All parts of a schedule beside its nodes, operations and faults.
    pub(super) fn parts(schedule: &Schedule) -> Vec<Item> {
        let mut parts = vec![Item::Rights, Item::Networks, Item::Network];
        for (node, plan) in schedule.nodes.iter().enumerate() {
            parts.push(Item::Limits(node));
            parts.extend((0..plan.subscribers.len()).map(|place| Item::Subscriber(node, place)));
            parts.extend((0..plan.services.len()).map(|place| Item::Service(node, place)));
            parts.extend((0..plan.keeps.len()).map(|place| Item::Keeps(node, place)));
        }
        if let Some(rights) = &schedule.rights {
            for (node, services) in rights.withheld.iter().enumerate() {
                parts.extend((0..services.len()).map(|place| Item::Withheld(node, place)));
            }
            parts.extend((0..rights.clock_ahead_ms.len()).map(Item::ClockAhead));
        }
        parts
    }
}

fn drop_places<T>(list: &mut Vec<T>, is_away: impl Fn(usize) -> bool) {
    let mut place = 0;
    list.retain(|_| {
        place += 1;
        !is_away(place - 1)
    });
}

/// The schedule without these.
pub(super) fn without(schedule: &Schedule, away: &BTreeSet<Item>) -> Schedule {
    let has = |item: Item| away.contains(&item);
    // Operations are many: those that go are not copied first.
    let stays = |place: &usize| !has(Item::Operation(*place));
    let operations = (0..schedule.operations.len()).filter(stays);
    let mut left = Schedule {
        operations: operations.map(|place| schedule.operations[place].clone()).collect(),
        faults: schedule.faults.clone(),
        nodes: schedule.nodes.clone(),
        rights: schedule.rights.clone().filter(|_| !has(Item::Rights)),
        ..head(schedule)
    };
    drop_places(&mut left.faults, |place| has(Item::Fault(place)));
    for (node, plan) in left.nodes.iter_mut().enumerate() {
        drop_places(&mut plan.keeps, |place| has(Item::Keeps(node, place)));
        drop_places(&mut plan.services, |place| has(Item::Service(node, place)));
        drop_places(&mut plan.subscribers, |place| has(Item::Subscriber(node, place)));
        if has(Item::Limits(node)) {
            plan.limits = Default::default();
        }
    }
    match &mut left.rights {
        Some(rights) => {
            for (node, services) in rights.withheld.iter_mut().enumerate() {
                drop_places(services, |place| has(Item::Withheld(node, place)));
            }
            for (node, ahead) in rights.clock_ahead_ms.iter_mut().enumerate() {
                *ahead = if has(Item::ClockAhead(node)) { 0 } else { *ahead };
            }
            if has(Item::Networks) {
                rights.networks.clear();
            }
            if rights.withheld.iter().all(Vec::is_empty) {
                rights.withheld.clear();
            }
            if rights.clock_ahead_ms.iter().all(|ahead| *ahead == 0) {
                rights.clock_ahead_ms.clear();
            }
        }
        None => {
            left.faults
                .retain(|fault| !crate::faults::FaultKind::of(&fault.what).is_about_rights());
        }
    }
    if has(Item::Network) {
        left.network = Default::default();
    }
    left
}

/// What is not a list.
fn head(schedule: &Schedule) -> Schedule {
    Schedule {
        version: schedule.version,
        program: schedule.program.clone(),
        comment: schedule.comment.clone(),
        seed: schedule.seed,
        fidelity: schedule.fidelity,
        crypto: schedule.crypto,
        duration_us: schedule.duration_us,
        nodes: Vec::new(),
        network: schedule.network.clone(),
        disk_sync: schedule.disk_sync,
        rights: None,
        acceptors: schedule.acceptors.clone(),
        operations: Vec::new(),
        faults: Vec::new(),
    }
}

/// When the last operation or fault is over.
pub(super) fn last_us(schedule: &Schedule) -> u64 {
    let operations = schedule.operations.iter().map(|operation| operation.at_us);
    operations.chain(schedule.faults.iter().map(|fault| fault.until_us)).max().unwrap_or(0)
}

/// The schedule without what begins at this time or later, which is its end.
pub(super) fn behind(schedule: &Schedule, until_us: u64) -> Schedule {
    let operations = schedule.operations.iter().filter(|operation| operation.at_us < until_us);
    let mut faults = schedule.faults.clone();
    faults.retain(|fault| fault.at_us < until_us);
    for fault in &mut faults {
        fault.until_us = fault.until_us.min(until_us);
    }
    Schedule {
        operations: operations.cloned().collect(),
        faults,
        nodes: schedule.nodes.clone(),
        rights: schedule.rights.clone(),
        duration_us: until_us,
        ..head(schedule)
    }
}

/// The schedule without a node and without all that is about it. The nodes behind it get other numbers. Nothing,
/// if it is the only one.
pub(super) fn without_node(schedule: &Schedule, gone: usize) -> Option<Schedule> {
    if schedule.nodes.len() < 2 {
        return None;
    }
    let gone_number = gone as u16;
    let is_gone = |node: &u16| *node == gone_number;
    let renumber = |node: &mut u16| *node -= u16::from(*node > gone_number);
    let renumber_all = |nodes: &mut Vec<u16>| {
        nodes.retain(|node| !is_gone(node));
        nodes.iter_mut().for_each(renumber);
    };
    let mut left = Schedule {
        nodes: schedule.nodes.clone(),
        rights: schedule.rights.clone(),
        ..head(schedule)
    };
    left.nodes.remove(gone);
    left.nodes.iter_mut().for_each(|node| renumber_all(&mut node.keeps));
    renumber_all(&mut left.acceptors);
    if left.acceptors.len().is_multiple_of(2) {
        // There are an odd number of them, or none.
        left.acceptors.pop();
    }
    if let Some(rights) = &mut left.rights {
        drop_places(&mut rights.withheld, |node| node == gone);
        drop_places(&mut rights.clock_ahead_ms, |node| node == gone);
        drop_places(&mut rights.networks, |node| node == gone);
    }
    for operation in &schedule.operations {
        if is_gone(&operation.node) || operation.what.nodes().iter().any(is_gone) {
            continue;
        }
        let mut operation = operation.clone();
        renumber(&mut operation.node);
        operation.what.nodes_mut().into_iter().for_each(renumber);
        left.operations.push(operation);
    }
    for fault in &schedule.faults {
        let mut fault = fault.clone();
        match &mut fault.what {
            Trouble::Partition { side } => renumber_all(side),
            Trouble::OneWay { from, to } => {
                renumber_all(from);
                renumber_all(to);
            }
            Trouble::Revoke { node, told } if !is_gone(node) => {
                renumber(node);
                renumber_all(told);
            }
            Trouble::Acceptors { members, told } => {
                renumber_all(members);
                renumber_all(told);
                if members.len().is_multiple_of(2) {
                    members.pop();
                }
                if members.is_empty() || left.acceptors.is_empty() {
                    continue;
                }
            }
            what if what.nodes().iter().any(is_gone) => continue,
            what => what.nodes_mut().into_iter().for_each(renumber),
        }
        left.faults.push(fault);
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::draw;
    use crate::faults::FaultKind;
    use crate::schedule::{Crypto, Fidelity};

    #[test]
    fn what_is_left_without_any_node_is_a_schedule_that_no_longer_names_it() {
        for seed in 0..10 {
            let schedule = draw(seed, Fidelity::Frames, Crypto::Null);
            for gone in 0..schedule.nodes.len() {
                let left = without_node(&schedule, gone).expect("there are others");
                assert_eq!(left.nodes.len(), schedule.nodes.len() - 1);
                assert_eq!(Schedule::from_json(&left.to_json()).as_ref(), Ok(&left));
                // What is about others alone stays.
                let about = |what: &Trouble| what.nodes().contains(&(gone as u16));
                let stays = schedule.faults.iter().filter(|fault| !about(&fault.what)).count();
                assert!(left.faults.len() >= stays);
            }
        }
    }

    #[test]
    fn without_everything_nothing_is_left() {
        let schedule = draw(3, Fidelity::Frames, Crypto::Null);
        let mut away: BTreeSet<Item> = Item::parts(&schedule).into_iter().collect();
        away.extend((0..schedule.faults.len()).map(Item::Fault));
        away.extend((0..schedule.operations.len()).map(Item::Operation));
        let left = without(&schedule, &away);
        assert_eq!((left.operations.len(), left.faults.len(), left.rights), (0, 0, None));
        assert!(left.nodes.iter().all(|node| *node == Default::default()));
        let drawn: Vec<_> =
            (0..40).map(|seed| draw(seed, Fidelity::Frames, Crypto::Null)).collect();
        let with_rights = drawn.iter().find(|schedule| schedule.rights.is_some()).expect("many");
        let left = without(with_rights, &BTreeSet::from([Item::Rights]));
        assert!(left.faults.iter().all(|fault| !FaultKind::of(&fault.what).is_about_rights()));
        assert_eq!(Schedule::from_json(&left.to_json()), Ok(left));
    }
}
