//! Events of groups that members have taken: what is needed to give them to another member.
//!
//! A member that leaves gives back what it has not handled ([`crate::events::returns`]). Its word names the event alone,
//! so that no peer can have this node publish what it did not publish. An event can be given back once for each group,
//! by the peer that has it, for as long as it is kept here.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::{Limits, MonoTime, PeerKey};
use crate::events::group::GroupName;
use crate::events::publications::Content;

/// How long an event can be given back. A guess: longer than a member that keeps up has it in its queue, and than a node
/// takes to stop.
pub const LENT_FOR: Duration = Duration::from_secs(60);

/// What an event counts for beside its payload, in bytes.
const EVENT_BYTES: usize = 256;

/// A member of a group, and the event that it has.
#[derive(Clone, Debug)]
struct Borrower {
    peer: PeerKey,
    group: GroupName,
    at_least_one: bool,
    redelivered: bool,
}

#[derive(Clone, Debug)]
struct Event {
    content: Content,
    borrowers: Vec<Borrower>,
}

impl Event {
    fn bytes(&self) -> usize {
        EVENT_BYTES + self.content.bytes.len()
    }
}

/// An event that is given back.
#[derive(Clone, Debug)]
pub struct GivenBack {
    /// The event.
    pub content: Content,
    /// Whether it goes to another member when its outcome is not known.
    pub at_least_one: bool,
    /// Whether its outcome at an earlier member is not known.
    pub redelivered: bool,
}

/// The events that members of groups at peers have.
#[derive(Clone, Debug)]
pub struct Lent {
    /// By their numbers.
    events: BTreeMap<u64, Event>,
    /// Until when each is kept, the oldest first. Those that were given back are not taken out.
    order: VecDeque<(MonoTime, u64)>,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

impl Lent {
    /// No member has anything.
    pub fn new(limits: &Limits) -> Self {
        Lent {
            events: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            events_max: limits.events_lent_max,
            bytes_max: limits.events_lent_bytes_max,
        }
    }

    /// How many events can be given back.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether none can.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// A member of a group has an event. Beyond the bounds the oldest are forgotten, and cannot be given back.
    pub fn lend(&mut self, now: MonoTime, peer: PeerKey, group: GroupName, event: GivenBack) {
        let GivenBack { content, at_least_one, redelivered } = event;
        let sequence = content.id.sequence;
        let borrower = Borrower { peer, group, at_least_one, redelivered };
        if let Some(known) = self.events.get_mut(&sequence) {
            known.borrowers.push(borrower);
            return;
        }
        let event = Event { content, borrowers: vec![borrower] };
        self.bytes += event.bytes();
        self.events.insert(sequence, event);
        self.order.push_back((now + LENT_FOR, sequence));
        while (self.order.len() > self.events_max || self.bytes > self.bytes_max)
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, sequence: u64) {
        if let Some(event) = self.events.remove(&sequence) {
            self.bytes -= event.bytes();
        }
    }

    /// A peer gives an event of a group back. None if it does not have it, or it is kept no more.
    pub fn take_back(
        &mut self,
        peer: PeerKey,
        group: &GroupName,
        sequence: u64,
    ) -> Option<GivenBack> {
        let event = self.events.get_mut(&sequence)?;
        let has_it = |borrower: &Borrower| borrower.peer == peer && borrower.group == *group;
        let at = event.borrowers.iter().position(has_it)?;
        let Borrower { at_least_one, redelivered, .. } = event.borrowers.swap_remove(at);
        let content = event.content.clone();
        if event.borrowers.is_empty() {
            self.forget(sequence);
        }
        Some(GivenBack { content, at_least_one, redelivered })
    }

    /// Nothing can be given back any more.
    pub fn clear(&mut self) {
        self.events.clear();
        self.order.clear();
        self.bytes = 0;
    }

    /// When the oldest is kept no more.
    pub fn next_at(&self) -> Option<MonoTime> {
        self.order.front().map(|(until, _)| *until)
    }

    /// Forgets those that were kept for long enough.
    pub fn expire(&mut self, now: MonoTime) {
        while let Some((until, sequence)) = self.order.front().copied()
            && until <= now
        {
            self.order.pop_front();
            self.forget(sequence);
        }
    }

    /// Asserts what must hold between inputs.
    pub fn check_invariants(&self) {
        assert!(self.events.len() <= self.order.len(), "each event is forgotten in time");
        assert!(self.order.len() <= self.events_max, "events of groups are bounded");
        let bytes = self.events.values().map(Event::bytes).sum::<usize>();
        assert_eq!(self.bytes, bytes, "their bytes are counted");
        assert!(bytes <= self.bytes_max, "and bounded");
        assert!(self.events.values().all(|event| !event.borrowers.is_empty()), "a member has it");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::PeerId;
    use crate::events::EventId;
    use crate::payload::ContentType;
    use crate::topic::TopicPath;

    fn group() -> GroupName {
        GroupName::Group("g".into())
    }

    fn peer(n: u64) -> PeerKey {
        PeerKey::from_u64(n)
    }

    fn event(sequence: u64, bytes: usize) -> GivenBack {
        let id = EventId { publisher: PeerId::from_bytes([1; 32]), boot: 1, sequence };
        let content = Content {
            id,
            topic: TopicPath::parse("a/b").unwrap(),
            content: ContentType::RAW,
            bytes: Bytes::from(vec![0; bytes]),
            target: None,
        };
        GivenBack { content, at_least_one: false, redelivered: false }
    }

    #[test]
    fn an_event_is_given_back_once_and_by_the_peer_that_has_it() {
        let mut lent = Lent::new(&Limits::default());
        lent.lend(MonoTime::ZERO, peer(1), group(), event(5, 1));
        let other = GroupName::Group("h".into());
        lent.lend(MonoTime::ZERO, peer(2), other.clone(), event(5, 1));
        assert!(lent.take_back(peer(2), &group(), 5).is_none());
        assert!(lent.take_back(peer(1), &group(), 6).is_none());
        assert!(lent.take_back(peer(1), &group(), 5).is_some());
        assert!(lent.take_back(peer(1), &group(), 5).is_none());
        lent.check_invariants();
        assert!(lent.take_back(peer(2), &other, 5).is_some());
        assert!(lent.is_empty());
        lent.check_invariants();
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_bytes_and_time() {
        let limits = Limits {
            events_lent_max: 4,
            events_lent_bytes_max: 10 * EVENT_BYTES,
            ..Limits::default()
        };
        let mut lent = Lent::new(&limits);
        for sequence in 1..=9 {
            lent.lend(MonoTime::ZERO, peer(1), group(), event(sequence, 0));
            lent.check_invariants();
        }
        assert!(lent.take_back(peer(1), &group(), 5).is_none());
        assert!(lent.take_back(peer(1), &group(), 6).is_some());
        lent.lend(MonoTime::ZERO, peer(1), group(), event(10, 9 * EVENT_BYTES));
        lent.check_invariants();
        assert_eq!(lent.len(), 1, "the largest fits alone");
        lent.expire(lent.next_at().unwrap());
        assert!(lent.is_empty() && lent.next_at().is_none());
        lent.check_invariants();
    }
}
