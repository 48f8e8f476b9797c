//! What waits for one subscriber. Bounded; what does not fit is missed, and the subscriber is told where.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::PeerId;
use crate::events::{Delivery, EventMessage, Missed, MissedWhy};
use crate::planted::is_planted;

/// What a full queue does with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The event is missed. For subscribers that want what came first.
    #[default]
    DropNewest,
    /// The events that have waited longest are missed. For subscribers that want to know how things are now.
    DropOldest,
}

/// How much may wait for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Events. Cut to [`crate::Limits::subscriber_events_max`], and at least 1.
    pub events_max: usize,
    /// Bytes of payloads. Cut to [`crate::Limits::subscriber_bytes_max`]. One event fits always.
    pub bytes_max: usize,
    /// What is missed beyond them.
    pub overflow: Overflow,
}

impl Default for QueueLimits {
    fn default() -> Self {
        QueueLimits {
            events_max: usize::MAX,
            bytes_max: usize::MAX,
            overflow: Overflow::DropNewest,
        }
    }
}

/// The queue of one subscriber.
#[derive(Clone, Debug)]
pub struct Queue {
    limits: QueueLimits,
    /// What was missed before everything that waits.
    missed: Vec<Missed>,
    items: VecDeque<(Delivery, usize)>,
    events: usize,
    bytes: usize,
}

impl Queue {
    /// An empty queue.
    pub fn new(limits: QueueLimits) -> Self {
        Queue { limits, missed: Vec::new(), items: VecDeque::new(), events: 0, bytes: 0 }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.missed.is_empty()
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.events
    }

    /// Whether an event of this size fits.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.events == 0
            || self.events < self.limits.events_max && self.bytes + bytes <= self.limits.bytes_max
    }

    /// An event, with the size of its payload. Says whether it waits now; otherwise it was missed.
    pub fn push(&mut self, event: Arc<EventMessage>, bytes: usize) -> bool {
        if !self.has_room(bytes) {
            match self.limits.overflow {
                Overflow::DropNewest => {
                    self.miss(Missed {
                        publisher: event.id.publisher,
                        count: 1,
                        why: MissedWhy::QueueFull,
                    });
                    return false;
                }
                Overflow::DropOldest => {
                    while !self.has_room(bytes) {
                        self.drop_oldest();
                    }
                }
            }
        }
        self.events += 1;
        self.bytes += bytes;
        self.items.push_back((Delivery::Event(event), bytes));
        true
    }

    /// Events that will not come, behind what waits.
    pub fn miss(&mut self, missed: Missed) {
        if is_planted(74) {
            return;
        }
        // Behind the last event there is at most one word for each publisher and reason.
        for (item, _) in self.items.iter_mut().rev() {
            match item {
                Delivery::Event(_) => break,
                Delivery::Missed(earlier) if is_same(earlier, &missed) => {
                    earlier.count += missed.count;
                    return;
                }
                Delivery::Missed(_) => {}
            }
        }
        self.items.push_back((Delivery::Missed(missed), 0));
    }

    fn drop_oldest(&mut self) {
        let Some((oldest, bytes)) = self.items.pop_front() else { return };
        let missed = match oldest {
            Delivery::Missed(missed) => missed,
            Delivery::Event(event) => {
                self.events -= 1;
                self.bytes -= bytes;
                Missed { publisher: event.id.publisher, count: 1, why: MissedWhy::QueueFull }
            }
        };
        match self.missed.iter_mut().find(|earlier| is_same(earlier, &missed)) {
            Some(earlier) => earlier.count += missed.count,
            None => self.missed.push(missed),
        }
    }

    /// What is next.
    pub fn pop(&mut self) -> Option<Delivery> {
        if !self.missed.is_empty() {
            return Some(Delivery::Missed(self.missed.remove(0)));
        }
        let (item, bytes) = self.items.pop_front()?;
        if matches!(item, Delivery::Event(_)) {
            self.events -= 1;
            self.bytes -= bytes;
        }
        Some(item)
    }

    /// Asserts that the accounts are right and the bounds are kept.
    pub fn check_invariants(&self) {
        let events = self.items.iter().filter(|(item, _)| matches!(item, Delivery::Event(_)));
        let (count, bytes) = events.fold((0, 0), |(n, sum), (_, bytes)| (n + 1, sum + bytes));
        assert_eq!((count, bytes), (self.events, self.bytes), "what waits is counted");
        assert!(count <= self.limits.events_max.max(1), "what waits is bounded");
        assert!(count <= 1 || bytes <= self.limits.bytes_max, "what waits is bounded");
    }
}

fn is_same(a: &Missed, b: &Missed) -> bool {
    let of = |missed: &Missed| -> (PeerId, MissedWhy) { (missed.publisher, missed.why) };
    of(a) == of(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventId;
    use crate::payload::Payload;
    use crate::topic::TopicPath;

    fn event(publisher: u8, sequence: u64) -> Arc<EventMessage> {
        let publisher = PeerId::from_bytes([publisher; 32]);
        Arc::new(EventMessage {
            id: EventId { publisher, boot: 1, sequence },
            topic: TopicPath::parse("a/b").unwrap(),
            payload: Payload::raw(""),
            redelivered: false,
        })
    }

    fn all(queue: &mut Queue) -> Vec<String> {
        let item = |item| match item {
            Delivery::Event(event) => event.id.sequence.to_string(),
            Delivery::Missed(missed) => format!("{} missed", missed.count),
        };
        std::iter::from_fn(|| queue.pop()).map(item).collect()
    }

    fn queue(events_max: usize, overflow: Overflow) -> Queue {
        Queue::new(QueueLimits { events_max, bytes_max: 100, overflow })
    }

    #[test]
    fn what_does_not_fit_is_missed_where_it_was() {
        let mut queue = queue(2, Overflow::DropNewest);
        for n in 1..=4 {
            assert_eq!(queue.push(event(1, n), 1), n <= 2);
        }
        queue.check_invariants();
        assert!(matches!(queue.pop(), Some(Delivery::Event(_))));
        assert!(queue.push(event(1, 5), 1));
        assert_eq!(all(&mut queue), ["2", "2 missed", "5"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn or_what_has_waited_longest_is() {
        let mut queue = queue(2, Overflow::DropOldest);
        for n in 1..=5 {
            assert!(queue.push(event(1, n), 1));
        }
        queue.check_invariants();
        assert_eq!(all(&mut queue), ["3 missed", "4", "5"]);
    }

    #[test]
    fn bytes_are_bounded_too_but_one_event_fits_always() {
        let mut queue = queue(9, Overflow::DropNewest);
        assert!(queue.push(event(1, 1), 1_000));
        assert!(!queue.push(event(1, 2), 1));
        queue.check_invariants();
        assert_eq!(all(&mut queue), ["1", "1 missed"]);
        assert!(queue.push(event(1, 3), 60) && !queue.push(event(1, 4), 60));
    }

    #[test]
    fn a_flood_that_is_missed_leaves_one_word_for_each_publisher() {
        let mut queue = queue(1, Overflow::DropNewest);
        for n in 0..1_000 {
            queue.push(event((n % 3) as u8, n), 1);
        }
        assert_eq!(all(&mut queue), ["0", "333 missed", "333 missed", "333 missed"]);
    }
}
