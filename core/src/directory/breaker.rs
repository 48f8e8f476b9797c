//! When an instance of a service is left alone, and how it comes back.
//!
//! ```text
//!            5 failures in a row, or 10 of the last 20, or silence
//!   closed ------------------------------------------> open <----.
//!     ^                                                  |       | it fails, or says nothing: twice as long
//!     |  5 are answered in a row          its time is up |       |
//!     `---------------------- half open <----------------'       |
//!                             (one call is under way) -----------'
//! ```
//!
//! Each node judges by its own calls alone, each (instance, action) by itself, and a new life of a peer is
//! a new instance. Silence is counted for the instance, over all its actions. A failure is a call that got no answer: the
//! deadline passed, the peer restarted under it,
//! or the handler failed. An error that the handler means its caller to read is an answer, and so is "bad
//! request". A refusal says that the instance is well enough to refuse, and nothing of whether it would have
//! answered: OVERLOADED opens no breaker, or a busy service would become one that nobody may call. What the
//! caller itself gave up says nothing at all.
//!
//! Several probes must be answered in a row, or an instance that fails every other time would be back after every
//! other probe. Who was let back in is on probation until a whole window went well: three failures are enough, and its
//! back-off grows on.
//! What silence is, [`super::usual`] says.
//!
//! Where every instance that could be asked is left alone, calls go to them all the same, as if nothing were held
//! against any: then it is more likely that the calls are at fault, or something behind all instances, and a call that is
//! refused here is as lost as one that fails there. Source: the panic threshold of Envoy's load balancer, at its lowest.
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
/// Who was let back in is left alone after so many of the first calls of a window, and not half of it. A guess.
pub const FAILURES_ON_PROBATION: u32 = 3;
/// How long it stays open at first. A guess.
pub const OPEN_FIRST: Duration = Duration::from_millis(500);
/// How long it stays open at most; each probe that fails doubles the time, which counts from when the probe began. So
/// an instance that is well again has its full share within 5 s; and at 50 calls a second and more, what is tried in
/// this time is less than 1 % of them.
pub const OPEN_MAX: Duration = Duration::from_secs(4);
/// Callers must not probe in step: times are shorter by up to so many per cent. A guess.
pub const JITTER_PERCENT: u64 = 20;
/// So many probes in a row must be answered. Of instances that fail half of the time, one in 32 gets by.
pub const WELL_IN_A_ROW: u8 = 5;

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

/// The breaker of one (instance, action), or of an instance's silence. It begins with the first failure: a healthy instance
/// has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    state: BreakerState,
    /// The last calls, the newest in the lowest bit: set for a failure.
    window: u32,
    /// How many of them there were, at most [`WINDOW`].
    seen: u32,
    in_a_row: u8,
    /// How often it was opened without a whole window that went well.
    opened: u32,
    /// When the probe began that is under way.
    probed: MonoTime,
    /// Probes that were answered in a row.
    well: u8,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            state: BreakerState::Closed,
            window: 0,
            seen: 0,
            in_a_row: 0,
            opened: 0,
            probed: MonoTime::ZERO,
            well: 0,
        }
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

    /// How often it was opened: a number that changes says that what was under way counts no more.
    pub fn opened(&self) -> u32 {
        self.opened
    }

    /// When the probe began that is under way; none if there is none.
    pub fn probed(&self) -> Option<MonoTime> {
        (self.state == BreakerState::HalfOpen).then_some(self.probed)
    }

    /// A call goes there. Says whether it is a probe.
    pub fn begin(&mut self, now: MonoTime) -> bool {
        let is_probe = matches!(self.state, BreakerState::Open { .. });
        if is_probe {
            (self.state, self.probed) = (BreakerState::HalfOpen, now);
        }
        is_probe
    }

    /// The instance says nothing, or its probe does. `jitter` as for [`Breaker::end`].
    pub fn silent(&mut self, now: MonoTime, jitter: u64) {
        match self.probed() {
            Some(probed) => self.open(probed, jitter),
            None => self.open(now, jitter),
        }
    }

    /// A call has ended, that began since it was opened last. `failed` is none if that says nothing of the instance.
    /// `jitter` is a number up to [`JITTER_PERCENT`]. Says whether nothing is held against the instance any more.
    pub fn end(
        &mut self,
        now: MonoTime,
        is_probe: bool,
        failed: Option<bool>,
        jitter: impl FnOnce() -> u64,
    ) -> bool {
        match (self.state, failed) {
            (BreakerState::HalfOpen, failed) if is_probe => match failed {
                Some(true) => self.open(self.probed, jitter()),
                Some(false) if self.well + 1 >= WELL_IN_A_ROW => self.state = BreakerState::Closed,
                // The next call is the next probe.
                answered => {
                    self.well += u8::from(answered.is_some());
                    self.state = BreakerState::Open { until: now };
                }
            },
            (BreakerState::Closed, Some(failed)) => {
                self.window = (self.window << 1 | u32::from(failed)) & ((1 << WINDOW) - 1);
                self.seen = (self.seen + 1).min(WINDOW);
                self.in_a_row = if failed { self.in_a_row.saturating_add(1) } else { 0 };
                if self.should_be_open() && !is_planted(113) {
                    self.open(now, jitter());
                }
                let is_over = self.opened == 0 || self.seen == WINDOW;
                return self.state == BreakerState::Closed && self.window == 0 && is_over;
            }
            // What was under way when it opened is no probe.
            _ => {}
        }
        false
    }

    fn should_be_open(&self) -> bool {
        self.in_a_row >= FAILURES_IN_A_ROW
            || self.opened > 0 && self.window.count_ones() >= FAILURES_ON_PROBATION
            || self.seen == WINDOW
                && self.has_just_failed()
                && self.window.count_ones() >= WINDOW / 2
    }

    /// An answer is no reason to leave somebody alone, though it may complete a window that was bad before.
    fn has_just_failed(&self) -> bool {
        self.window & 1 != 0
    }

    fn open(&mut self, from: MonoTime, jitter: u64) {
        let times = 1_u32 << self.opened.min(16);
        let wait = OPEN_FIRST.saturating_mul(times).min(OPEN_MAX);
        let percent = 100 - jitter.min(JITTER_PERCENT);
        let until = from + wait * percent as u32 / 100;
        self.opened = self.opened.saturating_add(1);
        (self.window, self.seen, self.in_a_row, self.well) = (0, 0, 0, 0);
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
        let is_probe = breaker.begin(now);
        breaker.end(now, is_probe, Some(true), || 0);
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

    /// So many probes are answered.
    fn probe(breaker: &mut Breaker, now: MonoTime, count: u8) {
        for _ in 0..count {
            assert!(breaker.admits(now) && breaker.begin(now) && !breaker.admits(now));
            breaker.end(now, true, Some(false), || 0);
            breaker.check_invariants();
        }
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
    fn an_answer_opens_nothing_though_half_of_the_window_had_failed_before() {
        let mut breaker = Breaker::default();
        let mut end = |failed| {
            breaker.end(MonoTime::ZERO, false, Some(failed), || 0);
            breaker.check_invariants();
            breaker.state()
        };
        for _ in 0..3 {
            assert!((0..3).all(|_| end(true) == BreakerState::Closed));
            end(false);
        }
        end(true);
        for _ in 0..7 {
            assert_eq!(end(false), BreakerState::Closed);
        }
        assert_ne!(end(true), BreakerState::Closed, "ten of the last twenty have failed");
    }

    #[test]
    fn one_probe_at_a_time_and_five_that_are_answered_close_it() {
        let now = MonoTime::ZERO + AFTER;
        let mut breaker = opened();
        assert!(breaker.begin(now));
        assert!(!breaker.admits(now), "one is under way");
        // An answer to a call of before is none to the probe.
        breaker.end(now, false, Some(false), || 0);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.end(now, true, Some(false), || 0);
        probe(&mut breaker, now, 3);
        assert_ne!(breaker.state(), BreakerState::Closed);
        probe(&mut breaker, now, 1);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_was_given_up_says_nothing_and_another_one_goes() {
        let now = MonoTime::ZERO + AFTER;
        let mut breaker = opened();
        assert!(breaker.begin(now));
        assert!(!breaker.end(now, true, None, || 0));
        assert!(breaker.admits(now) && breaker.begin(now));
    }

    #[test]
    fn probes_that_fail_are_ever_rarer_but_never_rarer_than_every_four_seconds() {
        let mut breaker = opened();
        let mut now = MonoTime::ZERO;
        let mut waits = Vec::new();
        for jitter in [0, 0, 0, 0, 20, 10] {
            let BreakerState::Open { until } = breaker.state() else { panic!("it is open") };
            waits.push(until.since(now).as_millis());
            now = until;
            assert!(breaker.begin(now));
            // However long it takes to fail: the time counts from its beginning.
            breaker.end(now + AFTER / 10, true, Some(true), || jitter);
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 4_000, 3_200]);
    }

    #[test]
    fn who_fails_again_after_it_was_let_in_is_left_alone_for_longer_until_a_whole_window_went_well()
    {
        let now = MonoTime::ZERO + AFTER;
        for (well, wait) in [(19, OPEN_FIRST * 2), (20, OPEN_FIRST)] {
            let mut breaker = opened();
            probe(&mut breaker, now, 5);
            let mut is_over = false;
            for _ in 0..well {
                assert!(!is_over);
                is_over = breaker.end(now, false, Some(false), || 0);
            }
            assert_eq!(is_over, well == 20);
            if is_over {
                breaker = Breaker::default();
            }
            let mut failures = 0;
            while breaker.admits(now) {
                fail(&mut breaker, now);
                failures += 1;
            }
            assert_eq!(failures, if is_over { 5 } else { 3 });
            assert_eq!(breaker.state(), BreakerState::Open { until: now + wait });
        }
    }

    #[test]
    fn who_says_nothing_is_left_alone_for_ever_longer() {
        let mut breaker = Breaker::default();
        breaker.silent(MonoTime::ZERO, 0);
        assert!(!breaker.admits(MonoTime::ZERO));
        let now = MonoTime::ZERO + AFTER;
        assert!(breaker.begin(now));
        // The probe says nothing either.
        breaker.silent(now + AFTER / 2, 0);
        assert_eq!(breaker.state(), BreakerState::Open { until: now + AFTER });
        assert!(breaker.begin(now + AFTER));
        breaker.end(now + AFTER, true, Some(true), || 0);
        assert_eq!(breaker.state(), BreakerState::Open { until: now + AFTER + OPEN_FIRST * 4 });
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
