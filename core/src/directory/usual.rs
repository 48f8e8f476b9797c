//! How long an action usually takes, whoever serves it, and so what it means that nobody answers.
//!
//! A call that hangs is no failure before its deadline, which may be far away, and until then the
//! instance gets its share of calls. So silence counts too. An instance is *silent* when
//!
//! 1. a call has waited there for eight times as long as half of the action's calls take, and half a second at least, and
//!    somebody waits there still;
//! 2. no call that began there later was answered in time: else that one call is long, and the instance is well;
//! 3. meanwhile another instance has answered in time a call that began later: else the service
//!    is slow, or what it needs, and it would help nobody to leave its instances alone one by one.
//!
//! Of times that are exponentially distributed, one in 250 is longer than eight medians; the second rule makes
//! it rarer by so much for each call behind it. The median, for it takes half of the calls to move it: one slow
//! instance does not become usual. Who compares instances with each other to find the odd one: Envoy (outlier detection) and
//! gRPC (A50). The numbers are guesses.
//!
//! What is seen here is seen when the next call looks for an instance, so that no call arms a timer for it.

use std::time::Duration;

use crate::base::MonoTime;
use crate::rpc::health::Health;

/// Nobody is silent earlier.
pub const PATIENCE_LEAST: Duration = Duration::from_millis(500);
/// So many times the median.
pub const PATIENCE_MEDIANS: u32 = 8;
/// Fewer calls say nothing of what is usual.
const CALLS_LEAST: u32 = 20;
/// After so many calls it is looked again.
const LOOK_EVERY: u32 = 16;
/// The first calls are not noted: of an action that is called now and then nothing is usual, and what is noted takes a
/// kilobyte.
const SELDOM: u32 = 4;

/// What the calls of one action took lately.
#[derive(Clone, Debug, Default)]
pub struct Usual {
    took: Option<Box<Health>>,
    calls: u32,
    patience: Option<Duration>,
}

impl Usual {
    /// A call was answered.
    pub fn note(&mut self, now: MonoTime, took: Duration) {
        self.calls = self.calls.wrapping_add(1);
        if self.calls <= SELDOM && self.took.is_none() {
            return;
        }
        self.took.get_or_insert_with(|| Box::new(Health::new(now))).note(now, took, true);
        if self.calls.is_multiple_of(LOOK_EVERY) {
            let median = self.quantile(now, 500);
            let patience = |median: Duration| (median * PATIENCE_MEDIANS).max(PATIENCE_LEAST);
            self.patience = median.map(patience);
        }
    }

    /// After how long an instance that does not answer is silent; none as long as too little is known.
    pub fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// What so many of a thousand calls did not exceed; none as long as too little is known.
    pub fn quantile(&self, now: MonoTime, per_mille: u64) -> Option<Duration> {
        self.took.as_ref()?.quantile(now, per_mille, CALLS_LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn patience_follows_the_median_and_not_the_few_that_are_slow() {
        let now = MonoTime::ZERO;
        let mut usual = Usual::default();
        let note = |usual: &mut Usual, count: u32, took| {
            (0..count).for_each(|_| usual.note(now, took));
        };
        note(&mut usual, 16, MS);
        assert_eq!(usual.patience(), None);
        note(&mut usual, 16, MS);
        assert_eq!(usual.patience(), Some(PATIENCE_LEAST));
        note(&mut usual, 16, MS * 10_000);
        assert_eq!(usual.patience(), Some(PATIENCE_LEAST));
        note(&mut usual, 32, MS * 200);
        let patience = usual.patience().unwrap();
        assert!(patience.abs_diff(MS * 1_600) < MS * 100, "{patience:?}");
        assert!(usual.quantile(now, 950).unwrap() > MS * 9_000);
    }
}
