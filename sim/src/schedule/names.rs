//! Which nodes the parts of a schedule name.

use super::{Action, Deed, Trouble};

impl Trouble {
    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<u16> {
        self.clone().nodes_mut().into_iter().map(|node| *node).collect()
    }

    /// The nodes that it names, to give them other numbers.
    pub(crate) fn nodes_mut(&mut self) -> Vec<&mut u16> {
        match self {
            Trouble::Loss { path, .. } => path.iter_mut().flat_map(|(a, b)| [a, b]).collect(),
            Trouble::Slow { a, b, .. }
            | Trouble::Narrow { a, b, .. }
            | Trouble::Mtu { a, b, .. }
            | Trouble::Partial { a, b }
            | Trouble::Dials { a, b }
            | Trouble::Replay { from: a, to: b } => vec![a, b],
            Trouble::Partition { side } => side.iter_mut().collect(),
            Trouble::OneWay { from, to } => from.iter_mut().chain(to).collect(),
            Trouble::Crash { node }
            | Trouble::Stop { node }
            | Trouble::Pause { node }
            | Trouble::LoseDisk { node }
            | Trouble::Readdress { node }
            | Trouble::SlowNode { node, .. }
            | Trouble::SlowDisk { node, .. }
            | Trouble::FullDisk { node }
            | Trouble::FailSync { node }
            | Trouble::TornWrite { node }
            | Trouble::Rot { node }
            | Trouble::Clock { node, .. }
            | Trouble::Lapse { node }
            | Trouble::Clog { node }
            | Trouble::Hostile { node, .. } => vec![node],
            Trouble::Revoke { node, told } => told.iter_mut().chain([node]).collect(),
            Trouble::Acceptors { members, told } => members.iter_mut().chain(told).collect(),
            Trouble::Impostor { node, victim, .. } => vec![node, victim],
            Trouble::Duplicate { .. } | Trouble::Corrupt { .. } | Trouble::Reorder { .. } => {
                Vec::new()
            }
        }
    }

    /// The nodes that it strikes: not those that only hear of it. None means all.
    pub(crate) fn struck(&self) -> Vec<u16> {
        match self {
            Trouble::OneWay { from: nodes, .. } | Trouble::Acceptors { members: nodes, .. } => {
                nodes.clone()
            }
            Trouble::Revoke { node, .. } | Trouble::Impostor { node, .. } => vec![*node],
            _ => self.nodes(),
        }
    }
}

impl Deed {
    /// The other nodes that it names.
    pub fn nodes(&self) -> Vec<u16> {
        self.clone().nodes_mut().into_iter().map(|node| *node).collect()
    }

    /// The other nodes that it names, to give them other numbers.
    pub(crate) fn nodes_mut(&mut self) -> Vec<&mut u16> {
        match self {
            Deed::Call(call) => {
                let onward = match &mut call.action {
                    Action::Relay { target, .. } => target.as_mut(),
                    _ => None,
                };
                call.target.iter_mut().chain(onward).collect()
            }
            Deed::Stream(stream) => stream.target.iter_mut().collect(),
            Deed::Publish(publish) => publish.target.iter_mut().collect(),
            Deed::Disconnect { peer } | Deed::Connect { peer } => vec![peer],
            Deed::Subscribe(_)
            | Deed::PauseService { .. }
            | Deed::ResumeService { .. }
            | Deed::StopService { .. }
            | Deed::StartService { .. }
            | Deed::StepDown { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_fault_strikes_it_names() {
        let revoke = Trouble::Revoke { node: 3, told: vec![1, 2] };
        assert_eq!((revoke.nodes(), revoke.struck()), (vec![1, 2, 3], vec![3]));
        let one_way = Trouble::OneWay { from: vec![1], to: vec![2, 0] };
        assert_eq!((one_way.nodes(), one_way.struck()), (vec![1, 2, 0], vec![1]));
        let mut partial = Trouble::Partial { a: 4, b: 5 };
        partial.nodes_mut().into_iter().for_each(|node| *node -= 1);
        assert_eq!(partial, Trouble::Partial { a: 3, b: 4 });
        assert_eq!(partial.struck(), [3, 4]);
    }
}
