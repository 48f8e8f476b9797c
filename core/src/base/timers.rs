//! The one timer queue of a node.
//!
//! An indexed binary heap ordered by (time, arming order): arming, disarming and taking cost
//! O(log n), disarming needs no search and leaves nothing behind, and equal inputs expire in equal
//! order everywhere.

use super::slab::{Key, Slab};
use super::time::MonoTime;

/// Names one armed timer. Once it has expired or was disarmed, it names nothing.
pub type TimerId<T> = Key<Armed<T>>;

/// A timer in the queue.
#[derive(Clone, Debug)]
pub struct Armed<T> {
    heap_index: usize,
    what: T,
}

/// When a timer expires, and the order of arming: what the heap compares, kept where it is compared.
type Due = (MonoTime, u64);

/// Timers ordered by (time, arming order), each carrying a value that comes back when it expires.
#[derive(Clone, Debug)]
pub struct TimerQueue<T> {
    armed: Slab<Armed<T>>,
    heap: Vec<(Due, TimerId<T>)>,
    next_order: u64,
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        TimerQueue { armed: Slab::default(), heap: Vec::new(), next_order: 0 }
    }
}

impl<T> TimerQueue<T> {
    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none is armed.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Asks for `what` at `at`.
    pub fn arm(&mut self, at: MonoTime, what: T) -> TimerId<T> {
        let order = self.next_order;
        self.next_order += 1;
        let heap_index = self.heap.len();
        let id = self.armed.insert(Armed { heap_index, what });
        self.heap.push(((at, order), id));
        self.rise(heap_index);
        id
    }

    /// Takes back a timer. Returns its value if it was still armed.
    pub fn disarm(&mut self, id: TimerId<T>) -> Option<T> {
        let index = self.armed.get(id)?.heap_index;
        Some(self.take(index))
    }

    /// When the next timer expires.
    pub fn next_at(&self) -> Option<MonoTime> {
        self.heap.first().map(|((at, _), _)| *at)
    }

    /// The next timer to expire.
    pub fn peek(&self) -> Option<(MonoTime, &T)> {
        let &((at, _), id) = self.heap.first()?;
        let armed = self.armed.get(id).expect("the heap names armed timers");
        Some((at, &armed.what))
    }

    /// Takes the next timer that has expired by `now`.
    pub fn expire(&mut self, now: MonoTime) -> Option<T> {
        (self.next_at()? <= now).then(|| self.take(0))
    }

    fn take(&mut self, index: usize) -> T {
        let (_, id) = self.heap.swap_remove(index);
        if index < self.heap.len() {
            self.place(index);
            self.sink(index);
            self.rise(index);
        }
        self.armed.remove(id).expect("the heap names armed timers").what
    }

    fn due(&self, index: usize) -> Due {
        self.heap[index].0
    }

    fn place(&mut self, index: usize) {
        let (_, id) = self.heap[index];
        self.armed.get_mut(id).expect("the heap names armed timers").heap_index = index;
    }

    fn rise(&mut self, mut index: usize) {
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.due(parent) <= self.due(index) {
                break;
            }
            self.heap.swap(parent, index);
            self.place(parent);
            self.place(index);
            index = parent;
        }
    }

    fn sink(&mut self, mut index: usize) {
        loop {
            let left = 2 * index + 1;
            if left >= self.heap.len() {
                break;
            }
            let right = left + 1;
            let child = if right < self.heap.len() && self.due(right) < self.due(left) {
                right
            } else {
                left
            };
            if self.due(index) <= self.due(child) {
                break;
            }
            self.heap.swap(child, index);
            self.place(child);
            self.place(index);
            index = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(nanos: u64) -> MonoTime {
        MonoTime::from_nanos(nanos)
    }

    #[test]
    fn equal_times_expire_in_the_order_of_arming() {
        let mut timers = TimerQueue::default();
        for name in ["a", "b", "c", "d"] {
            timers.arm(at(5), name);
        }
        timers.arm(at(4), "first");
        let order: Vec<_> = std::iter::from_fn(|| timers.expire(at(5))).collect();
        assert_eq!(order, ["first", "a", "b", "c", "d"]);
    }

    #[test]
    fn a_timer_does_not_expire_early_or_after_it_was_disarmed() {
        let mut timers = TimerQueue::default();
        let id = timers.arm(at(5), ());
        assert_eq!(timers.expire(at(4)), None);
        assert_eq!(timers.disarm(id), Some(()));
        assert_eq!(timers.disarm(id), None);
        assert_eq!(timers.expire(at(9)), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_list(
            steps in proptest::collection::vec((0u64..50, any::<bool>(), any::<u8>()), 1..200),
        ) {
            let mut timers = TimerQueue::default();
            let mut model: Vec<(u64, usize, TimerId<usize>)> = Vec::new();
            for (order, (time, disarm, pick)) in steps.into_iter().enumerate() {
                if disarm && !model.is_empty() {
                    let (_, value, id) = model.remove(pick as usize % model.len());
                    prop_assert_eq!(timers.disarm(id), Some(value));
                } else {
                    let id = timers.arm(at(time), order);
                    model.push((time, order, id));
                }
                model.sort();
                prop_assert_eq!(timers.next_at(), model.first().map(|m| at(m.0)));
                prop_assert_eq!(timers.len(), model.len());
            }
            let expected: Vec<usize> = model.iter().map(|m| m.1).collect();
            let got: Vec<usize> = std::iter::from_fn(|| timers.expire(at(50))).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
