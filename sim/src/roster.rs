//! Which node of the world has an id: asked at most events, and in worlds of many nodes.

use std::sync::Arc;

use dunlin_core::PeerId;

/// The ids of all nodes, and the way back from an id to its node.
#[derive(Clone)]
pub(crate) struct Roster {
    ids: Arc<[PeerId]>,
    /// The first bytes of each id, in order, and whose it is.
    by_head: Arc<[(u64, u16)]>,
}

fn head(id: &PeerId) -> u64 {
    u64::from_le_bytes(id.as_bytes()[..8].try_into().expect("eight bytes"))
}

impl Roster {
    pub(crate) fn new(ids: Arc<[PeerId]>) -> Self {
        let mut by_head: Vec<_> =
            (0..).zip(ids.iter()).map(|(node, id)| (head(id), node)).collect();
        by_head.sort_unstable();
        Roster { ids, by_head: by_head.into() }
    }

    /// The node with this id.
    pub(crate) fn find(&self, id: &PeerId) -> Option<usize> {
        let head = head(id);
        let from = self.by_head.partition_point(|(other, _)| *other < head);
        let same = self.by_head[from..].iter().take_while(|(other, _)| *other == head);
        let mut nodes = same.map(|(_, node)| usize::from(*node));
        nodes.find(|node| self.ids[*node] == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_core::Identity;

    #[test]
    fn every_id_is_found_and_no_other() {
        let id = |n: u8| Identity::from_secret([n; 32]).id();
        let ids: Arc<[PeerId]> = (0..50).map(id).collect();
        let roster = Roster::new(Arc::clone(&ids));
        for (node, id) in ids.iter().enumerate() {
            assert_eq!(roster.find(id), Some(node));
        }
        assert_eq!(roster.find(&id(50)), None);
    }
}
