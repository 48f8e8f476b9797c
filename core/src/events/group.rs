//! Groups: of subscribers that compete for events, one member gets each.
//!
//! The publisher chooses the member by rendezvous hashing of the event's name, so that events spread evenly
//! and a member that comes or goes changes nothing for events that go to others. A node with several members
//! counts as many times. Source: Thaler and Ravishankar, IEEE/ACM ToN 1998.

use std::sync::Arc;

use crate::base::{PeerId, StableHash};
use crate::events::EventId;
use crate::topic::TopicPath;

/// A group that a subscriber joins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Its name. At most [`crate::directory::document::GROUP_BYTES_MAX`], and not empty.
    pub name: Arc<str>,
    /// An event whose outcome is not known goes to another member, so that it may be handled twice. Without it,
    /// it may not be handled at all. One member that wants it is enough.
    pub at_least_one: bool,
}

/// What subscribers have in common of which one is chosen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupName {
    /// A group by its name.
    Group(Arc<str>),
    /// A service, for events that go to one subscriber of each service.
    Service(TopicPath),
}

/// Draws lots among the members of a group, for one event.
#[derive(Clone, Debug)]
pub struct Lots(StableHash);

impl Lots {
    /// For this event in this group.
    pub fn new(event: &EventId, group: &GroupName) -> Self {
        let mut hash = StableHash::new(5);
        hash.bytes(event.publisher.as_bytes()).number(event.boot).number(event.sequence);
        match group {
            GroupName::Group(name) => hash.number(1).bytes(name.as_bytes()),
            GroupName::Service(path) => hash.number(2).bytes(path.path().as_bytes()),
        };
        Lots(hash)
    }

    /// The best lot of a node with so many members. The highest wins.
    pub fn of_node(&self, node: &PeerId, members: u32) -> u64 {
        let mut hash = self.0.clone();
        hash.bytes(node.as_bytes());
        (0..members.max(1))
            .map(|member| hash.clone().number(u64::from(member)).finish())
            .max()
            .expect("there is one member at least")
    }

    /// The lot of one of the members within a node.
    pub fn of_member(&self, member: u64) -> u64 {
        self.0.clone().number(member).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64) -> EventId {
        EventId { publisher: PeerId::from_bytes([1; 32]), boot: 7, sequence }
    }

    #[test]
    fn events_are_shared_out_by_members_and_who_leaves_changes_nothing_for_the_others() {
        let group = GroupName::Group("workers".into());
        let nodes: Vec<PeerId> = (2..6).map(|n| PeerId::from_bytes([n; 32])).collect();
        let members = [1, 1, 1, 3];
        let winner = |sequence: u64, among: &[usize]| {
            let lots = Lots::new(&event(sequence), &group);
            among.iter().copied().max_by_key(|n| lots.of_node(&nodes[*n], members[*n])).unwrap()
        };
        let mut counts = [0; 4];
        for sequence in 0..6_000 {
            let chosen = winner(sequence, &[0, 1, 2, 3]);
            counts[chosen] += 1;
            let without = winner(sequence, &[0, 2, 3]);
            assert!(chosen == 1 || without == chosen);
        }
        for (count, members) in counts.into_iter().zip(members) {
            assert!(u32::abs_diff(count, 1_000 * members) < 150, "{counts:?}");
        }
    }
}
