//! What waits for one subscriber. Bounded; what does not fit is missed, and the subscriber is told where.

use std::collections::VecDeque;

use crate::base::PeerId;
use crate::events::run::Run;
use crate::events::{Delivery, Missed, MissedWhy};
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

/// What waits in one place of a queue.
#[derive(Clone, Debug)]
pub enum Queued {
    /// Events.
    Events(Run),
    /// Word of events that did not come.
    Missed(Missed),
}

/// The queue of one subscriber.
#[derive(Clone, Debug)]
pub struct Queue {
    limits: QueueLimits,
    /// What was missed before everything that waits.
    missed: Vec<Missed>,
    items: VecDeque<Queued>,
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

    /// Events that came. Says how many of them wait now; the others were missed.
    pub fn push(&mut self, run: &Run) -> usize {
        let fit = self.events + run.len() <= self.limits.events_max
            && self.bytes + run.bytes() <= self.limits.bytes_max;
        if fit {
            self.add(run.clone());
            return run.len();
        }
        // One by one, as if each had come alone.
        let mut rest = run.clone();
        let mut taken = 0;
        while !rest.is_empty() {
            let bytes = rest.bytes_of(1);
            if self.limits.overflow == Overflow::DropOldest {
                while !self.has_room(bytes) {
                    self.drop_oldest();
                }
            }
            if self.has_room(bytes) {
                let others = rest.split_off(1);
                self.add(std::mem::replace(&mut rest, others));
                taken += 1;
            } else {
                let publisher = rest.publisher();
                self.miss(Missed { publisher, count: 1, why: MissedWhy::QueueFull });
                rest.skip(1);
            }
        }
        taken
    }

    fn add(&mut self, run: Run) {
        self.events += run.len();
        self.bytes += run.bytes();
        self.items.push_back(Queued::Events(run));
    }

    /// Events that will not come, behind what waits.
    pub fn miss(&mut self, missed: Missed) {
        if is_planted(74) {
            return;
        }
        // Behind the last event there is at most one word for each publisher and reason.
        for item in self.items.iter_mut().rev() {
            match item {
                Queued::Events(_) => break,
                Queued::Missed(earlier) if is_same(earlier, &missed) => {
                    earlier.count += missed.count;
                    return;
                }
                Queued::Missed(_) => {}
            }
        }
        self.items.push_back(Queued::Missed(missed));
    }

    fn drop_oldest(&mut self) {
        let missed = match self.pop_item() {
            None => return,
            Some(Delivery::Missed(missed)) => missed,
            Some(Delivery::Event(event)) => {
                Missed { publisher: event.id().publisher, count: 1, why: MissedWhy::QueueFull }
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
        self.pop_item()
    }

    fn pop_item(&mut self) -> Option<Delivery> {
        let run = match self.items.front_mut()? {
            Queued::Events(run) => run,
            Queued::Missed(missed) => {
                let missed = *missed;
                self.items.pop_front();
                return Some(Delivery::Missed(missed));
            }
        };
        self.events -= 1;
        self.bytes -= run.bytes_of(1);
        let event = run.pop().expect("a run that waits is not empty");
        if run.is_empty() {
            self.items.pop_front();
        }
        Some(Delivery::Event(event))
    }

    /// What is next, of events as many in a row as came together, but not more than so many, at least 1.
    pub fn take(&mut self, events_max: usize) -> Option<Queued> {
        if !self.missed.is_empty() {
            return Some(Queued::Missed(self.missed.remove(0)));
        }
        let taken = match self.items.front_mut()? {
            Queued::Events(run) if run.len() > events_max => {
                let rest = run.split_off(events_max.max(1));
                Queued::Events(std::mem::replace(run, rest))
            }
            _ => self.items.pop_front().expect("there is one"),
        };
        if let Queued::Events(run) = &taken {
            self.events -= run.len();
            self.bytes -= run.bytes();
        }
        Some(taken)
    }

    /// Asserts that the accounts are right and the bounds are kept.
    pub fn check_invariants(&self) {
        let runs = self.items.iter().filter_map(|item| match item {
            Queued::Events(run) => Some(run),
            Queued::Missed(_) => None,
        });
        let (mut count, mut bytes) = (0, 0);
        for run in runs {
            assert!(!run.is_empty(), "what waits is something");
            (count, bytes) = (count + run.len(), bytes + run.bytes());
        }
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
    use proptest::prelude::*;

    use super::*;
    use crate::payload::ContentType;
    use crate::topic::TopicPath;

    /// Events with these sequences, each of this size.
    fn events(publisher: u8, sequences: std::ops::Range<u64>, bytes: usize) -> Run {
        let carries = vec![0; bytes];
        let events: Vec<_> = sequences.map(|sequence| (sequence, &carries[..])).collect();
        let publisher = PeerId::from_bytes([publisher; 32]);
        let topic = TopicPath::parse("a/b").unwrap();
        Run::copied(publisher, 1, topic, ContentType::RAW, events.into_iter())
    }

    fn push(queue: &mut Queue, publisher: u8, sequence: u64, bytes: usize) -> bool {
        queue.push(&events(publisher, sequence..sequence + 1, bytes)) == 1
    }

    fn all(queue: &mut Queue) -> Vec<String> {
        let item = |item| match item {
            Delivery::Event(event) => event.id().sequence.to_string(),
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
            assert_eq!(push(&mut queue, 1, n, 1), n <= 2);
        }
        queue.check_invariants();
        assert!(matches!(queue.pop(), Some(Delivery::Event(_))));
        assert!(push(&mut queue, 1, 5, 1));
        assert_eq!(all(&mut queue), ["2", "2 missed", "5"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn or_what_has_waited_longest_is() {
        let mut queue = queue(2, Overflow::DropOldest);
        for n in 1..=5 {
            assert!(push(&mut queue, 1, n, 1));
        }
        queue.check_invariants();
        assert_eq!(all(&mut queue), ["3 missed", "4", "5"]);
    }

    #[test]
    fn bytes_are_bounded_too_but_one_event_fits_always() {
        let mut queue = queue(9, Overflow::DropNewest);
        assert!(push(&mut queue, 1, 1, 1_000));
        assert!(!push(&mut queue, 1, 2, 1));
        queue.check_invariants();
        assert_eq!(all(&mut queue), ["1", "1 missed"]);
        assert!(push(&mut queue, 1, 3, 60) && !push(&mut queue, 1, 4, 60));
    }

    #[test]
    fn a_flood_that_is_missed_leaves_one_word_for_each_publisher() {
        let mut queue = queue(1, Overflow::DropNewest);
        for n in 0..1_000 {
            push(&mut queue, (n % 3) as u8, n, 1);
        }
        assert_eq!(all(&mut queue), ["0", "333 missed", "333 missed", "333 missed"]);
    }

    #[test]
    fn what_is_taken_together_is_no_more_than_was_asked_for() {
        let mut queue = queue(10, Overflow::DropNewest);
        assert_eq!(queue.push(&events(1, 1..9, 1)), 8);
        let taken = |queue: &mut Queue, most| match queue.take(most) {
            Some(Queued::Events(run)) => run.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(taken(&mut queue, 3), 3);
        queue.check_invariants();
        assert!(matches!(queue.pop(), Some(Delivery::Event(event)) if event.id().sequence == 4));
        assert_eq!(taken(&mut queue, 100), 4);
        queue.check_invariants();
        assert!(queue.take(1).is_none());
    }

    proptest! {
        #[test]
        fn events_that_come_together_are_like_events_that_come_alone(
            overflow in prop_oneof![Just(Overflow::DropNewest), Just(Overflow::DropOldest)],
            events_max in 1..6usize,
            steps in proptest::collection::vec((0..3u8, 0..5usize, 0..60usize, 0..3usize), 1..30),
        ) {
            let (mut together, mut alone) = (queue(events_max, overflow), queue(events_max, overflow));
            let mut next = 1;
            for (publisher, count, bytes, pops) in steps {
                if count > 0 {
                    let to = next + count as u64;
                    together.push(&events(publisher, next..to, bytes));
                    for sequence in next..to {
                        push(&mut alone, publisher, sequence, bytes);
                    }
                    next = to;
                }
                together.check_invariants();
                for _ in 0..pops {
                    prop_assert_eq!(format!("{:?}", together.pop()), format!("{:?}", alone.pop()));
                }
                prop_assert_eq!((together.len(), together.bytes), (alone.len(), alone.bytes));
            }
            prop_assert_eq!(all(&mut together), all(&mut alone));
        }
    }
}
