//! Which of a caller's numbers have come, in little memory.

use std::collections::BTreeSet;

/// Numbers between the floor and the highest one seen that have not come: at most so many are
/// remembered, the older ones count as seen. A guess; a caller's lanes reorder far fewer.
pub const MISSING_MAX: usize = 4_096;

/// Which numbers of a caller have come: everything below `next` but what is `missing`.
#[derive(Clone, Debug)]
pub struct Seen {
    next: u64,
    missing: BTreeSet<u64>,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { next: 1, missing: BTreeSet::new() }
    }
}

impl Seen {
    /// Whether the number has come, or is so old that it counts as come.
    pub fn contains(&self, sequence: u64) -> bool {
        sequence < self.next && !self.missing.contains(&sequence)
    }

    /// The number has come.
    pub fn insert(&mut self, sequence: u64) {
        if sequence >= self.next {
            let first = self.next.max(sequence.saturating_sub(MISSING_MAX as u64));
            self.missing.extend(first..sequence);
            self.next = sequence.saturating_add(1);
            while self.missing.len() > MISSING_MAX {
                self.missing.pop_first();
            }
        } else {
            self.missing.remove(&sequence);
        }
    }

    /// Everything below `floor` is over: it will not come, and need not be told apart.
    pub fn raise_floor(&mut self, floor: u64) {
        while self.missing.first().is_some_and(|first| *first < floor) {
            self.missing.pop_first();
        }
        self.next = self.next.max(floor);
    }

    /// How many numbers below the highest have not come.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Numbers in any order, with a floor that rises: what was seen is seen, and memory is bounded.
        #[test]
        fn seen_agrees_with_a_set(
            steps in proptest::collection::vec((1u64..300, 0u64..8), 1..300),
        ) {
            let mut seen = Seen::default();
            let mut model = BTreeSet::new();
            let mut floor = 1;
            for (sequence, rise) in steps {
                if sequence >= floor {
                    prop_assert_eq!(seen.contains(sequence), model.contains(&sequence));
                    seen.insert(sequence);
                    model.insert(sequence);
                }
                prop_assert!(seen.contains(sequence));
                if rise == 0 {
                    floor = floor.max(sequence);
                    seen.raise_floor(floor);
                }
                for below in 1..floor {
                    prop_assert!(seen.contains(below), "what is below the floor is over");
                }
            }
        }

        #[test]
        fn a_jump_in_the_numbers_costs_bounded_memory(jump in 1u64..u64::MAX) {
            let mut seen = Seen::default();
            seen.insert(jump);
            prop_assert!(seen.missing.len() <= MISSING_MAX);
            prop_assert!(seen.contains(jump));
            prop_assert!(jump == 1 || !seen.contains(jump - 1));
        }
    }
}
