//! What will happen, ordered by (time, order of asking).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Bits of an entry that name the place of its value; the bits above them are the order of asking.
const PLACE_BITS: u32 = 24;

/// A queue of future happenings. Equal times come in the order in which they were asked for.
///
/// The heap holds sixteen bytes an entry and never moves the values themselves.
#[derive(Debug)]
pub struct Queue<T> {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    values: Vec<Option<T>>,
    free: Vec<u32>,
    asked: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { heap: BinaryHeap::new(), values: Vec::new(), free: Vec::new(), asked: 0 }
    }
}

impl<T> Queue<T> {
    /// How much waits.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Asks for `value` at this time.
    ///
    /// # Panics
    ///
    /// When more than sixteen million values wait.
    pub fn push(&mut self, at: u64, value: T) {
        let place = match self.free.pop() {
            Some(place) => {
                self.values[place as usize] = Some(value);
                place
            }
            None => {
                assert!(self.values.len() < 1 << PLACE_BITS, "the event queue is full");
                self.values.push(Some(value));
                (self.values.len() - 1) as u32
            }
        };
        let order = self.asked << PLACE_BITS | u64::from(place);
        self.asked += 1;
        self.heap.push(Reverse((at, order)));
    }

    /// When the next value is due.
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the next value, with its time.
    pub fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse((at, order)) = self.heap.pop()?;
        let place = (order & ((1 << PLACE_BITS) - 1)) as usize;
        self.free.push(place as u32);
        let value = self.values[place].take().expect("the heap names values that wait");
        Some((at, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_by_time_and_then_in_the_order_of_asking() {
        let mut queue = Queue::default();
        for (at, value) in [(5, "c"), (1, "a"), (5, "d"), (3, "b")] {
            queue.push(at, value);
        }
        assert_eq!(queue.pop(), Some((1, "a")));
        queue.push(5, "e");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(3, "b"), (5, "c"), (5, "d"), (5, "e")]);
        assert!(queue.is_empty());
    }
}
