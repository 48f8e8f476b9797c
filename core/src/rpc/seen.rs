//! Which of a caller's numbers have come, in little memory.

use std::collections::VecDeque;

use crate::base::slab::make_first_room;

/// Gaps between the floor and the highest number seen: at most so many are remembered, what lies in older
/// ones counts as seen. A guess; a caller's lanes leave far fewer.
pub const GAPS_MAX: usize = 4_096;

/// Which numbers of a caller have come: everything below `next` but what lies in a gap.
///
/// A gap costs the same however wide it is, so a caller that jumps gains nothing.
#[derive(Clone, Debug)]
pub struct Seen {
    next: u64,
    /// The first number that has not come, and the first behind it that has. Ascending, and not touching.
    gaps: VecDeque<(u64, u64)>,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { next: 1, gaps: VecDeque::new() }
    }
}

impl Seen {
    /// Whether the number has come, or is so old that it counts as come.
    pub fn contains(&self, sequence: u64) -> bool {
        sequence < self.next && self.gap_around(sequence).is_none()
    }

    /// The number has come. Says whether it has not before.
    pub fn insert(&mut self, sequence: u64) -> bool {
        if sequence >= self.next {
            if sequence > self.next {
                make_first_room(&mut self.gaps);
                self.gaps.push_back((self.next, sequence));
                if self.gaps.len() > GAPS_MAX {
                    self.gaps.pop_front();
                }
            }
            self.next = sequence.saturating_add(1);
            return true;
        }
        let Some(at) = self.gap_around(sequence) else { return false };
        let (start, end) = self.gaps[at];
        match (start == sequence, sequence + 1 == end) {
            (true, true) => {
                self.gaps.remove(at);
            }
            // What was sent on one lane fills a gap from its front.
            (true, false) => self.gaps[at].0 = sequence + 1,
            (false, true) => self.gaps[at].1 = sequence,
            (false, false) => {
                self.gaps[at].0 = sequence + 1;
                self.gaps.insert(at, (start, sequence));
                if self.gaps.len() > GAPS_MAX {
                    self.gaps.pop_front();
                }
            }
        }
        true
    }

    /// Everything below `floor` is over: it will not come, and need not be told apart.
    pub fn raise_floor(&mut self, floor: u64) {
        while let Some((start, end)) = self.gaps.front_mut()
            && *start < floor
        {
            if *end > floor {
                *start = floor;
                break;
            }
            self.gaps.pop_front();
        }
        self.next = self.next.max(floor);
    }

    /// How many gaps are remembered.
    pub fn gaps(&self) -> usize {
        self.gaps.len()
    }

    /// The place of the gap in which a number lies.
    fn gap_around(&self, sequence: u64) -> Option<usize> {
        // Callers mostly count without a gap.
        if self.gaps.is_empty() {
            return None;
        }
        let at = self.gaps.partition_point(|(_, end)| *end <= sequence);
        let (start, _) = self.gaps.get(at)?;
        (*start <= sequence).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        fn a_jump_in_the_numbers_costs_one_gap(jump in 2u64..u64::MAX, back in 1u64..u64::MAX) {
            let mut seen = Seen::default();
            seen.insert(jump);
            prop_assert_eq!(seen.gaps(), 1);
            prop_assert!(seen.contains(jump) && !seen.contains(jump - 1));
            let back = 1 + back % (jump - 1);
            seen.insert(back);
            prop_assert!(seen.contains(back) && seen.gaps() <= 2);
        }
    }

    #[test]
    fn of_too_many_gaps_the_oldest_count_as_seen() {
        let mut seen = Seen::default();
        let last = 2 * (GAPS_MAX as u64 + 10);
        for sequence in (2..=last).step_by(2) {
            seen.insert(sequence);
        }
        assert_eq!(seen.gaps(), GAPS_MAX);
        assert!(seen.contains(1) && seen.contains(19) && !seen.contains(21));
        seen.raise_floor(last - 1);
        assert_eq!(seen.gaps(), 1);
        assert!(seen.contains(last - 3) && !seen.contains(last - 1));
    }
}
