//! What this node knows of how busy an instance is: its own calls under way, and what they took lately.

use std::time::Duration;

use crate::base::MonoTime;

/// A new measurement counts for so much less than the average: one in eight, as TCP's round-trip time
/// (RFC 6298).
const SMOOTHING: u64 = 8;

/// The average of an instance that is not called is forgotten by half in this time, so that one that was
/// slow once is tried again. A guess.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// What is known of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    in_flight: u32,
    /// Average time to an answer, in nanoseconds, and when it was measured last.
    latency: Option<(u64, MonoTime)>,
}

impl Load {
    /// Calls of ours under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// What calls took lately, in nanoseconds; none if none was answered yet.
    pub fn latency(&self, now: MonoTime) -> Option<u64> {
        let (average, at) = self.latency?;
        let half_lives = now.since(at).as_nanos() / HALF_LIFE.as_nanos();
        Some(average >> half_lives.min(63))
    }

    /// A call goes there.
    pub fn begin(&mut self) {
        self.in_flight += 1;
    }

    /// It is over, and it took so long. `answered` is none if it says nothing of the instance; failures
    /// count as slow, or who fails fast would get all calls.
    pub fn end(&mut self, now: MonoTime, took: Duration, answered: Option<bool>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(answered) = answered else { return };
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX / 4);
        let average = self.latency(now);
        let sample = match (answered, average) {
            (false, Some(average)) => took.max(average.saturating_mul(2)),
            _ => took,
        };
        let sample = sample.min(u64::MAX / 4);
        let new = match average {
            None => sample,
            Some(average) => average - average / SMOOTHING + sample / SMOOTHING,
        };
        self.latency = Some((new, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_average_follows_and_what_is_old_fades() {
        let mut load = Load::default();
        let now = MonoTime::ZERO;
        assert_eq!(load.latency(now), None);
        load.begin();
        load.begin();
        assert_eq!(load.in_flight(), 2);
        load.end(now, 8 * MS, Some(true));
        assert_eq!(load.latency(now), Some(8_000_000));
        load.end(now, 16 * MS, Some(true));
        assert_eq!(load.latency(now), Some(9_000_000));
        assert_eq!(load.latency(now + HALF_LIFE), Some(4_500_000));
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn who_fails_fast_does_not_look_quick_and_a_call_that_was_given_up_says_nothing() {
        let mut load = Load::default();
        let now = MonoTime::ZERO;
        load.end(now, 8 * MS, Some(true));
        load.end(now, MS / 100, Some(false));
        assert!(load.latency(now).unwrap() > 8_000_000);
        let before = load;
        load.end(now, MS, None);
        assert_eq!(load, before);
    }
}
