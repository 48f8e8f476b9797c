//! What this node knows of how busy an instance is: its own calls under way, and what they took lately.

use std::time::Duration;

use crate::base::MonoTime;
use crate::directory::breaker::Breaker;
use crate::rpc::health::Health;
use crate::rpc::{CallError, CallResult, Executed, Failure};

/// A new measurement counts for so much less than the average: one in eight, as TCP's round-trip time
/// (RFC 6298).
const SMOOTHING: u64 = 8;

/// The average of an instance that is not called is forgotten by half in this time, so that one that was
/// slow once is tried again. A guess.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// What the end of a call says of the instance that it went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing: it was given up, or never got there.
    Nothing,
    /// It answers.
    Answers,
    /// It is well enough to refuse.
    Refuses,
    /// It does not answer.
    Fails,
}

impl Word {
    /// What this end says.
    pub fn of(result: &CallResult) -> Word {
        match result {
            Ok(_) | Err(CallError::Application(_)) => Word::Answers,
            Err(CallError::Failed { failure, executed, .. }) => {
                Word::of_failure(*failure, *executed)
            }
        }
    }

    /// What this failure says.
    pub fn of_failure(failure: Failure, executed: Executed) -> Word {
        match failure {
            Failure::Cancelled
            | Failure::ShuttingDown
            | Failure::PermissionDenied
            | Failure::Unreachable
            | Failure::InvalidPath
            | Failure::BreakerOpen
            | Failure::NotActive => Word::Nothing,
            // The argument of one call, or its answer.
            Failure::TooLarge | Failure::Unencodable | Failure::UnreadableAnswer => {
                match executed {
                    Executed::Yes => Word::Answers,
                    _ => Word::Nothing,
                }
            }
            Failure::BadRequest => Word::Answers,
            Failure::Overloaded
            | Failure::Unavailable
            | Failure::NoSuchAction
            | Failure::NoResponders => Word::Refuses,
            Failure::DeadlineExceeded
            | Failure::HandlerFailed
            | Failure::PeerRestarted
            | Failure::Forgotten => Word::Fails,
        }
    }
}

/// What is known of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    number: u32,
    in_flight: u32,
    /// Average time to an answer, in nanoseconds, and when it was measured last.
    latency: Option<(u64, MonoTime)>,
    /// There is one while something is held against the instance.
    breaker: Option<Box<Breaker>>,
    /// From the first call on.
    health: Option<Box<Health>>,
}

impl Load {
    /// Of an instance that nothing is known of, under a number that tells it from those before.
    pub fn numbered(number: u32) -> Self {
        Load { number, ..Load::default() }
    }

    /// The number that it was given.
    pub fn number(&self) -> u32 {
        self.number
    }

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

    /// What is held against the instance; none if nothing is.
    pub fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_deref()
    }

    /// How calls of ours did; none before the first.
    pub fn health(&self) -> Option<&Health> {
        self.health.as_deref()
    }

    /// Whether a call may go there now.
    pub fn admits(&self, now: MonoTime) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.admits(now))
    }

    /// A call goes there. Says whether it is a probe.
    pub fn begin(&mut self) -> bool {
        self.in_flight += 1;
        self.breaker.as_mut().is_some_and(|breaker| breaker.begin())
    }

    /// It is over, and it took so long. Failures count as slow, or who fails fast would get all calls. `jitter`
    /// is as [`Breaker::end`] has it.
    pub fn end(
        &mut self,
        now: MonoTime,
        took: Duration,
        (word, is_probe): (Word, bool),
        jitter: impl FnOnce() -> u64,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let failed = match word {
            Word::Nothing | Word::Refuses => None,
            Word::Answers => Some(false),
            Word::Fails => Some(true),
        };
        if let Some(failed) = failed {
            let health = self.health.get_or_insert_with(|| Box::new(Health::new(now)));
            health.note(now, took, !failed);
        }
        if word == Word::Fails && self.breaker.is_none() {
            self.breaker = Some(Box::default());
        }
        if let Some(breaker) = &mut self.breaker
            && breaker.end(now, is_probe, failed, jitter)
        {
            self.breaker = None;
        }
        let answered = match word {
            Word::Nothing => return,
            Word::Answers => true,
            Word::Refuses | Word::Fails => false,
        };
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
        let answers = (Word::Answers, false);
        assert_eq!(load.latency(now), None);
        load.begin();
        load.begin();
        assert_eq!(load.in_flight(), 2);
        load.end(now, 8 * MS, answers, || 0);
        assert_eq!(load.latency(now), Some(8_000_000));
        load.end(now, 16 * MS, answers, || 0);
        assert_eq!(load.latency(now), Some(9_000_000));
        assert_eq!(load.latency(now + HALF_LIFE), Some(4_500_000));
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn who_fails_fast_does_not_look_quick_and_a_call_that_was_given_up_says_nothing() {
        let mut load = Load::default();
        let now = MonoTime::ZERO;
        load.end(now, 8 * MS, (Word::Answers, false), || 0);
        load.end(now, MS / 100, (Word::Fails, false), || 0);
        assert!(load.latency(now).unwrap() > 8_000_000);
        let before = load.clone();
        load.end(now, MS, (Word::Nothing, false), || 0);
        assert_eq!(load, before);
    }

    #[test]
    fn a_failure_is_held_against_an_instance_until_it_has_answered_for_long_enough() {
        let mut load = Load::default();
        let now = MonoTime::ZERO;
        load.end(now, MS, (Word::Refuses, false), || 0);
        assert_eq!(load.breaker(), None);
        load.end(now, MS, (Word::Fails, false), || 0);
        for _ in 0..20 {
            assert!(load.breaker().is_some() && load.admits(now));
            load.end(now, MS, (Word::Answers, false), || 0);
        }
        assert_eq!(load.breaker(), None);
    }
}
