//! How many calls may be made again: retries must not turn a trouble into a storm.
//!
//! One bucket for each service that this node calls, and one for all calls that choose no instance (to a
//! named peer, or to this node itself). A call puts a tenth of a retry in, a retry takes a whole one. So
//! whatever goes wrong, a node sends at most a tenth more than it was asked for, and a few. Source: the retry budgets
//! of Finagle (20 % and 10 a second) and of gRPC (A6: `tokenRatio` 0.1); the numbers: protocols.md,
//! section 4, except where noted.

use std::time::Duration;

use crate::base::MonoTime;
use crate::planted::is_planted;

/// What a call puts in, in thousandths of a retry.
pub const PER_CALL: u32 = 100;
/// What a retry takes out.
pub const RETRY: u32 = 1_000;
/// So many retries a bucket has at first, and comes back to by itself, so that rare calls may be made again
/// too. A guess.
pub const FEW: u32 = 5;
/// In this time one of the few comes back. A guess.
pub const COMES_BACK_IN: Duration = Duration::from_secs(5);
/// It never holds more retries, or a long calm would pay for a storm. A guess.
pub const RETRIES_MAX: u32 = 100;

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    thousandths: u32,
    /// Up to when what comes back by itself is counted.
    counted: MonoTime,
}

impl Budget {
    /// One that nothing was taken from.
    pub fn new(now: MonoTime) -> Self {
        Budget { thousandths: FEW * RETRY, counted: now }
    }

    /// A call is made.
    pub fn call(&mut self) {
        self.thousandths = (self.thousandths + PER_CALL).min(RETRIES_MAX * RETRY);
    }

    /// Takes a retry; false if there is none.
    pub fn retry(&mut self, now: MonoTime) -> bool {
        let passed = now.since(self.counted).as_nanos();
        let regained = passed * u128::from(RETRY) / COMES_BACK_IN.as_nanos();
        let few = FEW * RETRY;
        if self.thousandths < few {
            let regained = u32::try_from(regained).unwrap_or(few);
            self.thousandths = self.thousandths.saturating_add(regained).min(few);
        }
        self.counted = now;
        // Planted: the budget is not looked at.
        if is_planted(110) {
            return true;
        }
        match self.thousandths.checked_sub(RETRY) {
            Some(left) => self.thousandths = left,
            None => return false,
        }
        true
    }
}

/// The most retries that one bucket can have given for so many calls in this time.
pub fn most(calls: u64, time: Duration) -> u64 {
    let regained = time.as_nanos() / COMES_BACK_IN.as_nanos();
    u64::from(FEW) + calls / 10 + u64::try_from(regained).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_few_at_first_then_a_tenth_of_the_calls() {
        let now = MonoTime::ZERO;
        let mut budget = Budget::new(now);
        let taken = |budget: &mut Budget| (0..1_000).take_while(|_| budget.retry(now)).count();
        assert_eq!(taken(&mut budget), 5);
        (0..99).for_each(|_| budget.call());
        assert_eq!(taken(&mut budget), 9);
        (0..1_000_000).for_each(|_| budget.call());
        assert_eq!(taken(&mut budget), 100);
    }

    proptest! {
        #[test]
        fn it_never_gives_more_than_it_may(
            steps in proptest::collection::vec((any::<bool>(), 0u64..2_000), 1..500),
        ) {
            let mut now = MonoTime::ZERO;
            let mut budget = Budget::new(now);
            let (mut calls, mut retries) = (0, 0);
            for (is_call, millis) in steps {
                now = now + Duration::from_millis(millis);
                if is_call {
                    calls += 1;
                    budget.call();
                } else {
                    retries += u64::from(budget.retry(now));
                }
                prop_assert!(retries <= most(calls, now.since(MonoTime::ZERO)) + 1);
            }
        }
    }
}
