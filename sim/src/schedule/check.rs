//! What a schedule may say: every node that it names is there, times are in order, bounds are possible.

use std::collections::BTreeSet;

use dunlin_core::topic::{Pattern, TopicPath};

use super::{
    ACCEPTOR_CHANGES_MAX, CLOCK_PPM_MAX, Deed, Fault, NETWORKS_MAX, Operation, RightsPlan,
    Schedule, Trouble,
};
use crate::faults::FaultKind;

/// Where it is wrong, as a way into the file with dots between its steps; and what is wrong.
type Wrong = (String, String);

const NODES_MAX: usize = 60_000;

impl Schedule {
    /// Whether it makes sense.
    ///
    /// # Errors
    ///
    /// Where it does not, and what is wrong there.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let count = self.nodes.len();
        let wrong = |place: String, what: String| Err((place, what));
        let unknown = |nodes: &[u16]| nodes.iter().copied().find(|n| usize::from(*n) >= count);
        let there = format!("the nodes are 0 to {}", count.saturating_sub(1));
        if count == 0 || count > NODES_MAX {
            let what = format!("{count} nodes; from 1 to {NODES_MAX} are possible");
            return wrong("nodes".into(), what);
        }
        if self.network.bytes_per_us == 0 || self.network.window_frames == 0 {
            let what = "network.bytes_per_us and network.window_frames must not be 0";
            return wrong("network".into(), what.into());
        }
        if let Some(node) = unknown(&self.acceptors) {
            return wrong("acceptors".into(), format!("`acceptors` names node {node}; {there}"));
        }
        if !self.acceptors.is_empty() {
            check_acceptors(&self.acceptors).or_else(|what| wrong("acceptors".into(), what))?;
        }
        let several = self.rights.iter().any(|rights| !rights.networks.is_empty());
        if !self.acceptors.is_empty() && several {
            let what = "acceptors are for a world with one network: leave out `rights.networks`";
            return wrong("acceptors".into(), what.into());
        }
        let changes = self.faults.iter().enumerate();
        let mut changes =
            changes.filter(|(_, fault)| FaultKind::of(&fault.what) == FaultKind::Acceptors);
        if let Some((index, _)) = changes.nth(ACCEPTOR_CHANGES_MAX) {
            let what = format!(
                "acceptors change at most {ACCEPTOR_CHANGES_MAX} times: a descriptor names no more former ones"
            );
            return wrong(format!("faults.{index}"), what);
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(node) = unknown(&node.keeps) {
                let what = format!("`keeps` names node {node}; {there}");
                return wrong(format!("nodes.{index}"), what);
            }
            if node.clock_ppm.abs() > CLOCK_PPM_MAX {
                let what = format!("clock_ppm is {}, and at most {CLOCK_PPM_MAX}", node.clock_ppm);
                return wrong(format!("nodes.{index}"), what);
            }
            if node.keeps.contains(&(index as u16)) {
                return wrong(format!("nodes.{index}"), format!("node {index} keeps itself"));
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            for subscriber in &node.subscribers {
                check_pattern(&subscriber.pattern)
                    .or_else(|what| wrong(format!("nodes.{index}"), what))?;
            }
        }
        for (index, Operation { node, what, .. }) in self.operations.iter().enumerate() {
            let place = || format!("operations.{index}");
            if let Some(node) = unknown(&[*node]).or_else(|| unknown(&what.nodes())) {
                return wrong(place(), format!("the operation names node {node}; {there}"));
            }
            let text = match what {
                Deed::Publish(publish) => TopicPath::parse(&publish.topic)
                    .map(|_| ())
                    .map_err(|error| format!("topic '{}': {error}", publish.topic)),
                Deed::Subscribe(subscriber) => check_pattern(&subscriber.pattern),
                _ => Ok(()),
            };
            text.or_else(|what| wrong(place(), what))?;
            if let Deed::Connect { peer } | Deed::Disconnect { peer } = what
                && peer == node
            {
                return wrong(place(), format!("node {node} cannot be its own peer"));
            }
        }
        for (index, fault) in self.faults.iter().enumerate() {
            self.check_fault(fault, &unknown, &there)
                .or_else(|what| wrong(format!("faults.{index}"), what))?;
        }
        self.rights.as_ref().map_or(Ok(()), |rights| check_rights(rights, count))
    }

    fn check_fault(
        &self,
        fault: &Fault,
        unknown: &dyn Fn(&[u16]) -> Option<u16>,
        there: &str,
    ) -> Result<(), String> {
        if let Some(node) = unknown(&fault.what.nodes()) {
            return Err(format!("the fault names node {node}; {there}"));
        }
        if let Trouble::Slow { a, b, .. }
        | Trouble::Narrow { a, b, .. }
        | Trouble::Mtu { a, b, .. }
        | Trouble::Partial { a, b }
        | Trouble::Dials { a, b }
        | Trouble::Replay { from: a, to: b } = fault.what
            && a == b
        {
            return Err(format!("the fault is between node {a} and itself"));
        }
        if matches!(fault.what, Trouble::Narrow { bytes_per_ms: 0, .. }) {
            return Err(
                "a path that carries nothing is a partition: bytes_per_ms must be 1 or more".into(),
            );
        }
        if matches!(fault.what, Trouble::Hostile { every_us: 0, .. }) {
            return Err("an attack goes on every so often: every_us must be 1 or more".into());
        }
        if fault.until_us < fault.at_us {
            return Err(format!(
                "the fault ends before it begins: at_us is {}, until_us {}",
                fault.at_us, fault.until_us
            ));
        }
        if self.rights.is_none() && FaultKind::of(&fault.what).is_about_rights() {
            return Err("the fault is about rights, and the schedule has no `rights`".into());
        }
        if let Trouble::Acceptors { members, .. } = &fault.what {
            check_acceptors(members)?;
            if self.acceptors.is_empty() {
                return Err("other acceptors are named, and the schedule has no `acceptors`".into());
            }
        }
        Ok(())
    }
}

fn check_acceptors(acceptors: &[u16]) -> Result<(), String> {
    let distinct: BTreeSet<u16> = acceptors.iter().copied().collect();
    match matches!(acceptors.len(), 1 | 3 | 5) && distinct.len() == acceptors.len() {
        true => Ok(()),
        false => Err(format!("acceptors are 1, 3 or 5 distinct nodes, not {acceptors:?}")),
    }
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    Pattern::parse(pattern).map(|_| ()).map_err(|error| format!("pattern '{pattern}': {error}"))
}

fn check_rights(rights: &RightsPlan, count: usize) -> Result<(), Wrong> {
    let wrong = |what: String| Err(("rights".to_string(), what));
    let lists = [rights.withheld.len(), rights.clock_ahead_ms.len(), rights.networks.len()];
    if lists.iter().any(|len| *len > count) {
        return wrong(format!("rights are given to more nodes than there are: {count}"));
    }
    for (index, networks) in rights.networks.iter().enumerate() {
        let mut sorted = networks.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let is_once = sorted.len() == networks.len() && !networks.is_empty();
        if !is_once || networks.iter().any(|network| *network >= NETWORKS_MAX) {
            return wrong(format!(
                "networks[{index}] must name at least one network, each once and below {NETWORKS_MAX}"
            ));
        }
    }
    Ok(())
}
