//! Events of groups that members have taken: what is needed to give them to another member.
//!
//! A member that leaves gives back what it has not handled ([`crate::events::returns`]). Its word names the event alone,
//! so that no peer can have this node publish what it did not publish. An event can be given back once for each group,
//! by the peer that has it, for as long as it is kept here.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::base::slab::make_first_room;
use crate::base::{Limits, MonoTime, PeerKey};
use crate::events::group::GroupName;
use crate::payload::ContentType;
use crate::topic::TopicPath;

/// How long an event can be given back. A guess: longer than a member that keeps up has it in its queue, and than a node
/// takes to stop.
pub const LENT_FOR: Duration = Duration::from_secs(60);

/// What an event counts for beside its payload, in bytes.
const LOAN_BYTES: usize = 256;

/// An event that a member of a group has.
#[derive(Clone, Debug)]
struct Loan {
    peer: PeerKey,
    group: GroupName,
    event: LentEvent,
}

impl Loan {
    fn bytes(&self) -> usize {
        LOAN_BYTES + self.event.bytes.len()
    }
}

/// An event as another member can be sent it.
#[derive(Clone, Debug)]
pub struct LentEvent {
    /// Its topic.
    pub topic: TopicPath,
    /// How its payload is to be read.
    pub content: ContentType,
    /// Its payload.
    pub bytes: Bytes,
    /// Whether it goes to another member when its outcome is not known.
    pub at_least_one: bool,
    /// Whether its outcome at an earlier member is not known.
    pub redelivered: bool,
}

/// The number of an event, and which of the loans of it.
type LoanKey = (u64, u32);

/// The events that members of groups at peers have.
#[derive(Clone, Debug)]
pub struct Lent {
    /// Boxed: most publishers have a few, and a tree has room for eleven at once.
    loans: BTreeMap<LoanKey, Box<Loan>>,
    /// Until when each is kept, the oldest first. Those that were given back are not taken out.
    order: VecDeque<(MonoTime, LoanKey)>,
    bytes: usize,
    loans_max: usize,
    bytes_max: usize,
}

impl Lent {
    /// No member has anything.
    pub fn new(limits: &Limits) -> Self {
        Lent {
            loans: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            loans_max: limits.events_lent_max as usize,
            bytes_max: limits.events_lent_bytes_max as usize,
        }
    }

    /// How many can be given back. An event that several groups have counts for each.
    pub fn len(&self) -> usize {
        self.loans.len()
    }

    /// Whether none can.
    pub fn is_empty(&self) -> bool {
        self.loans.is_empty()
    }

    /// A member of a group has an event. Beyond the bounds the oldest are forgotten, and cannot be given back.
    pub fn lend(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        group: GroupName,
        sequence: u64,
        event: LentEvent,
    ) {
        let loan = Box::new(Loan { peer, group, event });
        let last = self.loans.range((sequence, 0)..=(sequence, u32::MAX)).next_back();
        let key = (sequence, last.map_or(0, |((_, last), _)| last + 1));
        self.bytes += loan.bytes();
        self.loans.insert(key, loan);
        make_first_room(&mut self.order);
        self.order.push_back((now + LENT_FOR, key));
        while (self.order.len() > self.loans_max || self.bytes > self.bytes_max)
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, key: LoanKey) -> Option<Box<Loan>> {
        let loan = self.loans.remove(&key)?;
        self.bytes -= loan.bytes();
        Some(loan)
    }

    /// A peer gives an event of a group back. None if it does not have it, or it is kept no more.
    pub fn take_back(
        &mut self,
        peer: PeerKey,
        group: &GroupName,
        sequence: u64,
    ) -> Option<LentEvent> {
        let mut loans = self.loans.range((sequence, 0)..=(sequence, u32::MAX));
        let (key, _) = loans.find(|(_, loan)| loan.peer == peer && loan.group == *group)?;
        self.forget(*key).map(|loan| loan.event)
    }

    /// Nothing can be given back any more.
    pub fn clear(&mut self) {
        self.loans.clear();
        self.order.clear();
        self.bytes = 0;
    }

    /// When the oldest is kept no more.
    pub fn next_at(&self) -> Option<MonoTime> {
        self.order.front().map(|(until, _)| *until)
    }

    /// Forgets those that were kept for long enough.
    pub fn expire(&mut self, now: MonoTime) {
        while let Some((until, key)) = self.order.front().copied()
            && until <= now
        {
            self.order.pop_front();
            self.forget(key);
        }
    }

    /// Asserts what must hold between inputs.
    pub fn check_invariants(&self) {
        assert!(self.loans.len() <= self.order.len(), "each is forgotten in time");
        assert!(self.order.len() <= self.loans_max, "events of groups are bounded");
        let bytes = self.loans.values().map(|loan| loan.bytes()).sum::<usize>();
        assert_eq!(self.bytes, bytes, "their bytes are counted");
        assert!(bytes <= self.bytes_max, "and bounded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupName {
        GroupName::Group("g".into())
    }

    fn peer(n: u64) -> PeerKey {
        PeerKey::from_u64(n)
    }

    fn event(bytes: usize) -> LentEvent {
        LentEvent {
            topic: TopicPath::parse("a/b").unwrap(),
            content: ContentType::RAW,
            bytes: Bytes::from(vec![0; bytes]),
            at_least_one: false,
            redelivered: false,
        }
    }

    #[test]
    fn an_event_is_given_back_once_and_by_the_peer_that_has_it() {
        let mut lent = Lent::new(&Limits::default());
        lent.lend(MonoTime::ZERO, peer(1), group(), 5, event(1));
        let other = GroupName::Group("h".into());
        lent.lend(MonoTime::ZERO, peer(2), other.clone(), 5, event(1));
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
            events_lent_bytes_max: 10 * LOAN_BYTES as u32,
            ..Limits::default()
        };
        let mut lent = Lent::new(&limits);
        for sequence in 1..=9 {
            lent.lend(MonoTime::ZERO, peer(1), group(), sequence, event(0));
            lent.check_invariants();
        }
        assert!(lent.take_back(peer(1), &group(), 5).is_none());
        assert!(lent.take_back(peer(1), &group(), 6).is_some());
        lent.lend(MonoTime::ZERO, peer(1), group(), 10, event(9 * LOAN_BYTES));
        lent.check_invariants();
        assert_eq!(lent.len(), 1, "the largest fits alone");
        lent.expire(lent.next_at().unwrap());
        assert!(lent.is_empty() && lent.next_at().is_none());
        lent.check_invariants();
    }
}
