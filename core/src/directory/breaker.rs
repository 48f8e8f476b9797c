//! When an instance of a service is left alone, and how it comes back.
//!
//! ```text
//!            5 failures in a row, or 10 of the last 20
//!   closed ------------------------------------------> open <----.
//!     ^                                                  |       | it fails: twice as long
//!     |  it is answered                   its time is up |       |
//!     `---------------------- half open <----------------'       |
//!                             (one call is under way) -----------'
//! ```
//!
//! Each node judges by its own calls alone, each (instance, service) by itself, and a new life of a peer is
//! a new instance. A failure is a call that got no answer: the deadline passed, the peer restarted under it,
//! or the handler failed. An error that the handler means its caller to read is an answer, and so is "bad
//! request". A refusal says that the instance is well enough to refuse, and nothing of whether it would have
//! answered: OVERLOADED opens no breaker, or a busy service would become one that nobody may call. What the
//! caller itself gave up says nothing at all.
//!
//! Source of the states: Nygard, "Release It!" (2007), Circuit Breaker; of the numbers: protocols.md,
//! section 4, except where noted.

use std::time::Duration;

use crate::base::MonoTime;
use crate::planted::is_planted;

/// So many failures in a row open it.
pub const FAILURES_IN_A_ROW: u8 = 5;
/// Of so many last calls half open it.
pub const WINDOW: u32 = 20;
/// How long it stays open at first. A guess.
pub const OPEN_FIRST: Duration = Duration::from_millis(500);
/// How long it stays open at most; each probe that fails doubles the time. With its jitter less than 5 s, so
/// that an instance that is well again has its full share within that. At 25 calls a second and more, a probe
/// in this time is less than 1 % of them.
pub const OPEN_MAX: Duration = Duration::from_secs(4);
/// Callers must not probe in step: times differ by up to so many per cent. A guess.
pub const JITTER_PERCENT: u64 = 10;

/// Where a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go there.
    Closed,
    /// No call goes there until then; the first one after it is a probe.
    Open {
        /// When it may be probed.
        until: MonoTime,
    },
    /// One call is under way to see whether it is well.
    HalfOpen,
}

/// The breaker of one (instance, service). It begins with the first failure: who is well needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    state: BreakerState,
    /// The last calls, the newest in the lowest bit: set for a failure.
    window: u32,
    /// How many of them there were, at most [`WINDOW`].
    seen: u32,
    in_a_row: u8,
    /// How often it was opened without having been closed.
    opened: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker { state: BreakerState::Closed, window: 0, seen: 0, in_a_row: 0, opened: 0 }
    }
}

impl Breaker {
    /// Where it is.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether a call may go there now.
    pub fn admits(&self, now: MonoTime) -> bool {
        match self.state {
            BreakerState::Closed => true,
            BreakerState::Open { until } => now >= until && !is_planted(112),
            BreakerState::HalfOpen => false,
        }
    }

    /// A call goes there. Says whether it is a probe.
    pub fn begin(&mut self) -> bool {
        let is_probe = matches!(self.state, BreakerState::Open { .. });
        if is_probe {
            self.state = BreakerState::HalfOpen;
        }
        is_probe
    }

    /// A call has ended. `failed` is none if that says nothing of the instance. `jitter` is a number below
    /// 2 x [`JITTER_PERCENT`] + 1. Says whether nothing is held against the instance any more.
    pub fn end(
        &mut self,
        now: MonoTime,
        is_probe: bool,
        failed: Option<bool>,
        jitter: impl FnOnce() -> u64,
    ) -> bool {
        match (self.state, failed) {
            (BreakerState::HalfOpen, failed) if is_probe => match failed {
                Some(false) => return true,
                Some(true) => self.open(now, jitter()),
                // The next call is the probe.
                None => self.state = BreakerState::Open { until: now },
            },
            (BreakerState::Closed, Some(failed)) => {
                self.window = (self.window << 1 | u32::from(failed)) & ((1 << WINDOW) - 1);
                self.seen = (self.seen + 1).min(WINDOW);
                self.in_a_row = if failed { self.in_a_row.saturating_add(1) } else { 0 };
                if self.should_be_open() && !is_planted(113) {
                    self.open(now, jitter());
                }
                return self.state == BreakerState::Closed && self.window == 0;
            }
            // What was under way when it opened is no probe.
            _ => {}
        }
        false
    }

    fn should_be_open(&self) -> bool {
        self.in_a_row >= FAILURES_IN_A_ROW
            || self.seen == WINDOW && self.window.count_ones() >= WINDOW / 2
    }

    fn open(&mut self, now: MonoTime, jitter: u64) {
        let times = 1_u32 << self.opened.min(16);
        let wait = OPEN_FIRST.saturating_mul(times).min(OPEN_MAX);
        let percent = 100 - JITTER_PERCENT + jitter;
        let until = now + wait * percent as u32 / 100;
        self.opened = self.opened.saturating_add(1);
        (self.window, self.seen, self.in_a_row) = (0, 0, 0);
        self.state = BreakerState::Open { until };
    }

    /// Asserts what must hold between inputs.
    pub fn check_invariants(&self) {
        let is_closed = self.state == BreakerState::Closed;
        assert!(!is_closed || !self.should_be_open(), "who keeps failing is left alone");
        assert!(is_closed || self.window == 0, "only calls while it is closed are counted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(1);

    fn fail(breaker: &mut Breaker, now: MonoTime) {
        let is_probe = breaker.begin();
        breaker.end(now, is_probe, Some(true), || JITTER_PERCENT);
        breaker.check_invariants();
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            assert!(breaker.admits(MonoTime::ZERO));
            fail(&mut breaker, MonoTime::ZERO);
        }
        assert!(!breaker.admits(MonoTime::ZERO));
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_for_half_a_second() {
        let breaker = opened();
        assert!(!breaker.admits(MonoTime::ZERO + (OPEN_FIRST - Duration::from_nanos(1))));
        assert!(breaker.admits(MonoTime::ZERO + OPEN_FIRST));
    }

    #[test]
    fn half_of_twenty_open_it_and_less_does_not() {
        for (every, opens) in [(2, true), (3, false)] {
            let mut breaker = Breaker::default();
            for number in 0..40 {
                if breaker.admits(MonoTime::ZERO) {
                    let failed = number % every == 0;
                    breaker.end(MonoTime::ZERO, false, Some(failed), || 0);
                    breaker.check_invariants();
                }
            }
            assert_eq!(!breaker.admits(MonoTime::ZERO), opens, "one in {every}");
        }
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let now = MonoTime::ZERO + AFTER;
        let mut breaker = opened();
        assert!(breaker.begin());
        assert!(!breaker.admits(now), "one is under way");
        // An answer to a call of before is none to the probe.
        assert!(!breaker.end(now, false, Some(false), || 0));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.end(now, true, Some(false), || 0), "it is well");
    }

    #[test]
    fn a_probe_that_was_given_up_says_nothing_and_another_one_goes() {
        let now = MonoTime::ZERO + AFTER;
        let mut breaker = opened();
        assert!(breaker.begin());
        assert!(!breaker.end(now, true, None, || 0));
        assert!(breaker.admits(now) && breaker.begin());
    }

    #[test]
    fn probes_that_fail_are_ever_rarer_but_never_rarer_than_every_five_seconds() {
        let mut breaker = opened();
        let mut now = MonoTime::ZERO;
        let mut waits = Vec::new();
        for jitter in [10, 10, 10, 10, 20, 0] {
            let BreakerState::Open { until } = breaker.state() else { panic!("it is open") };
            waits.push(until.since(now).as_millis());
            now = until;
            assert!(breaker.begin());
            breaker.end(now, true, Some(true), || jitter);
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 4_000, 4_400]);
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.end(MonoTime::ZERO, false, None, || 0);
        }
        assert_eq!(breaker, Breaker::default());
    }
}
