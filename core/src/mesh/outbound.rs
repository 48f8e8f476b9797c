//! What waits to be sent on one link.
//!
//! Items are small: a call or an answer is looked up, and its message made, when the transport pulls
//! it. So what was given up in the meantime is never sent, and the floor it carries is fresh.

use std::collections::{BTreeMap, VecDeque};

use crate::link::Lane;
use crate::wire::Message;

/// One thing to send.
#[derive(Clone, Debug)]
pub(super) enum OutItem {
    /// A message of the control lane, ready to go.
    Message(Box<Message>),
    /// Our call with this number.
    Call { sequence: u64 },
    /// The cancelling of our call with this number.
    Cancel { sequence: u64 },
    /// Our answer to the peer's call with this number.
    Answer { sequence: u64 },
}

/// The lanes of one link, each first in, first out.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbound {
    control: VecDeque<OutItem>,
    shared: [VecDeque<OutItem>; Lane::SHARED as usize],
    own: BTreeMap<u64, OutItem>,
    own_opened: u64,
    /// Our calls that went out on lanes of their own and are not answered, by their numbers.
    own_calls: BTreeMap<u64, Lane>,
    len: usize,
}

impl Outbound {
    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Queues for the control lane. Says whether nothing waited before.
    pub(super) fn push_control(&mut self, item: OutItem) -> bool {
        self.control.push_back(item);
        self.count()
    }

    /// Queues for the shared lane of this hash. Says whether nothing waited before.
    pub(super) fn push_shared(&mut self, hash: u64, item: OutItem) -> bool {
        self.shared[(Lane::shared(hash).0 - 1) as usize].push_back(item);
        self.count()
    }

    /// Queues for a lane of its own. Says whether nothing waited before.
    pub(super) fn push_own(&mut self, item: OutItem) -> bool {
        self.own.insert(Lane::OWN_FROM + self.own_opened, item);
        self.own_opened += 1;
        self.count()
    }

    fn count(&mut self) -> bool {
        self.len += 1;
        self.len == 1
    }

    /// The first lane at or after `from` on which something waits.
    pub(super) fn next_lane(&self, from: Lane) -> Option<Lane> {
        if self.len == 0 {
            return None;
        }
        if from <= Lane::CONTROL && !self.control.is_empty() {
            return Some(Lane::CONTROL);
        }
        for lane in from.0.max(1)..=Lane::SHARED {
            if !self.shared[(lane - 1) as usize].is_empty() {
                return Some(Lane(lane));
            }
        }
        self.own.range(from.0..).next().map(|(lane, _)| Lane(*lane))
    }

    /// Takes what is first on a lane.
    pub(super) fn pop(&mut self, lane: Lane) -> Option<OutItem> {
        let item = match lane.0 {
            0 => self.control.pop_front(),
            n if n <= Lane::SHARED => self.shared[(n - 1) as usize].pop_front(),
            n => self.own.remove(&n),
        }?;
        self.len -= 1;
        if let OutItem::Call { sequence } = item
            && lane.is_own()
        {
            self.own_calls.insert(sequence, lane);
        }
        Some(item)
    }

    /// Our call with this number is answered or given up. The lane of its own that it went out on.
    pub(super) fn end_call(&mut self, sequence: u64) -> Option<Lane> {
        if self.own_calls.is_empty() { None } else { self.own_calls.remove(&sequence) }
    }
}
