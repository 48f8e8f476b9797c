//! A token bucket: how much of something may come in a while.

use std::time::Duration;

use crate::base::MonoTime;

/// Refills by a rate up to a burst; full at first.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    left: u64,
    at: MonoTime,
}

impl Allowance {
    /// A full one.
    pub fn new(now: MonoTime, burst: u64) -> Allowance {
        Allowance { left: burst, at: now }
    }

    /// Takes so much, if there is so much. Refills first: so much a second, up to the burst.
    pub fn take(&mut self, now: MonoTime, amount: u64, per_second: u64, burst: u64) -> bool {
        let takes = self.has(now, amount, per_second, burst);
        if takes {
            self.left -= amount;
        }
        takes
    }

    /// Whether there is so much. Refills first.
    pub fn has(&mut self, now: MonoTime, amount: u64, per_second: u64, burst: u64) -> bool {
        let nanos = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(u64::MAX);
        let gained = u128::from(nanos) * u128::from(per_second) / 1_000_000_000;
        // What is less than one is gained later, and not lost.
        if gained > 0 {
            let spent = gained * 1_000_000_000 / u128::from(per_second.max(1));
            self.at = self.at + Duration::from_nanos(u64::try_from(spent).unwrap_or(u64::MAX));
            self.left = burst.min(self.left.saturating_add(u64::try_from(gained).unwrap_or(burst)));
        }
        amount <= self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = MonoTime::ZERO;
        let mut allowance = Allowance::new(start, 10);
        assert!((0..10).all(|_| allowance.take(start, 1, 4, 10)));
        assert!(!allowance.take(start, 1, 4, 10));
        let mut taken = 0;
        for millis in 1..=10_000 {
            let now = start + Duration::from_millis(millis);
            taken += u32::from(allowance.take(now, 1, 4, 10));
        }
        assert_eq!(taken, 40);
        let late = start + Duration::from_secs(1_000);
        assert!(!allowance.take(late, 11, 4, 10), "never more than the burst");
        assert!(allowance.take(late, 10, 4, 10));
    }
}
