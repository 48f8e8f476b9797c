//! What an instance of a service says of itself in its node's document: how it does, and how much it has to do.
//!
//! So a peer knows it without having called. What is said is rough, and changes only when something has changed for
//! good: each number stands for twice its neighbour below, and stays until what it stands for has left its range by a
//! quarter. So a steady service says nothing new, whatever its calls are; a node looks at most every
//! [`LOOK_EVERY`], and whoever is not called says nothing at all.
//!
//! What a peer says is a claim. No call depends on it.

use std::time::Duration;

/// A node looks at its services at most this often. A guess.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How an instance did lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Calls a second.
    pub rate: u32,
    /// Of a hundred calls, those to which no answer of the handler came. At most 100.
    pub failed_percent: u8,
    /// The time that half of the calls did not exceed, in microseconds.
    pub p50_us: u32,
    /// The time that 99 % of the calls did not exceed, in microseconds.
    pub p99_us: u32,
    /// Calls that run.
    pub running: u32,
    /// Calls that wait for their turn.
    pub waiting: u32,
    /// How many may run; zero if nothing bounds it.
    pub running_max: u32,
    /// How many may wait.
    pub waiting_max: u32,
}

/// A power of two that is not less; what was said before, if that is near enough.
fn rough(before: u32, exact: u32) -> u32 {
    let (said, is) = (u64::from(before), u64::from(exact));
    // Its range is above half of it. A quarter beyond either end, it stays.
    if said > 0 && is * 5 > said * 2 && is * 4 <= said * 5 {
        return before;
    }
    match exact {
        0 => 0,
        exact => exact.checked_next_power_of_two().unwrap_or(u32::MAX),
    }
}

/// A twentieth of the calls, rounded up; what was said before, if that is near enough.
fn rough_percent(before: u8, exact: u8) -> u8 {
    match exact.min(100) {
        0 => 0,
        exact if before > 0 && exact.abs_diff(before) <= 6 => before,
        exact => exact.div_ceil(5) * 5,
    }
}

impl Vitals {
    /// How well it is, in per cent: the calls that were answered.
    pub fn score(&self) -> u8 {
        100 - self.failed_percent.min(100)
    }

    /// As it is said, after this was said before.
    pub fn roughly(&self, before: Option<Vitals>) -> Vitals {
        let before = before.unwrap_or_default();
        Vitals {
            rate: rough(before.rate, self.rate),
            failed_percent: rough_percent(before.failed_percent, self.failed_percent),
            p50_us: rough(before.p50_us, self.p50_us),
            p99_us: rough(before.p99_us, self.p99_us),
            running: rough(before.running, self.running),
            waiting: rough(before.waiting, self.waiting),
            ..*self
        }
    }
}

/// A time in microseconds, as far as it goes: 71 minutes.
pub fn micros(time: Option<Duration>) -> u32 {
    time.map_or(0, |time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_said_is_near_and_does_not_flap(before in any::<u32>(), exact in any::<u32>()) {
            let said = rough(0, before);
            let now = rough(said, exact);
            prop_assert_eq!(now == 0, exact == 0);
            let (is, word) = (u64::from(exact), u64::from(now));
            prop_assert!(word * 5 >= is * 4 && (exact == 0 || word <= is * 5 / 2 + 1), "{} for {}", word, is);
            // Whatever is said first, a tenth more or less changes nothing of it.
            let first = rough(0, exact);
            for near in [exact - exact / 10, exact.saturating_add(exact / 10)] {
                prop_assert_eq!(rough(first, near), first);
            }
        }

        #[test]
        fn shares_are_within_a_twentieth(before in 0u8..=100, exact in 0u8..=255) {
            let said = rough_percent(rough_percent(0, before), exact);
            prop_assert!(said <= 100 && said.abs_diff(exact.min(100)) <= 6);
            prop_assert_eq!(said == 0, exact == 0);
        }
    }
}
