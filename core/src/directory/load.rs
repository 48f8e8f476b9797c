//! What this node knows of how busy an instance is: its own calls under way, and what they took lately.

use std::time::Duration;

use crate::base::MonoTime;
use crate::directory::breaker::{Breaker, BreakerState};
use crate::rpc::health::Health;
use crate::rpc::{CallError, CallResult, Executed, Failure};

/// A new measurement counts for so much less than the average: one in eight, as TCP's round-trip time
/// (RFC 6298).
const SMOOTHING: u64 = 8;

/// The average of an instance that has not answered for so long is forgotten, so that one that was slow once is
/// tried again, and has its share within 5 s when it is quick again. A guess.
const REMEMBERED: Duration = Duration::from_secs(3);

/// For so long an instance that has refused a call is not asked a second time for another one. A guess.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// What the end of a call says of the instance that it went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing: it was given up, or never got there.
    Nothing,
    /// Another instance was quicker: it takes at least so long.
    Outrun,
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

    /// Whether it says that the instance fails what it is asked; none if it says nothing of that.
    pub fn failed(self) -> Option<bool> {
        match self {
            Word::Nothing | Word::Refuses | Word::Outrun => None,
            Word::Answers => Some(false),
            Word::Fails => Some(true),
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

/// A call that waits for its answer: see [`super::usual`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unanswered {
    since: MonoTime,
    /// From then on it says that the instance is silent.
    due: MonoTime,
}

/// What is known of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    number: u32,
    /// How often what was under way has stopped to count: whenever the instance is left alone.
    epoch: u32,
    in_flight: u32,
    /// How many of them began in earlier epochs.
    bygone: u32,
    /// Average time to an answer, in nanoseconds, and when it was measured last.
    latency: Option<(u64, MonoTime)>,
    /// The first call behind which none was answered in time, as far as it is known, while any is under way.
    unanswered: Option<Unanswered>,
    /// When it refused a call, if it has answered none since.
    refused: Option<MonoTime>,
    /// There is one while its silence is held against the instance.
    breaker: Option<Box<Breaker>>,
    /// From the first call on.
    health: Option<Box<Health>>,
    /// A refusal or a failure has raised the average since the last answer.
    penalised: bool,
    /// It was asked though it was silent.
    wronged: bool,
}

/// A call that is over, or an attempt of one.
#[derive(Clone, Copy, Debug)]
pub struct Over {
    /// When it began.
    pub began: MonoTime,
    /// In which [`Load::epoch`].
    pub epoch: u32,
    /// How long it may take, if anybody knows.
    pub patience: Option<Duration>,
    /// Whether it was a probe.
    pub is_probe: bool,
    /// What its end says.
    pub word: Word,
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

    /// A call that began in another one says nothing any more.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Calls of ours under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Those of them that count: what hung when the instance was left alone does not.
    pub fn busy(&self) -> u32 {
        self.in_flight - self.bygone
    }

    /// What calls took lately, in nanoseconds; none if none was answered lately.
    pub fn latency(&self, now: MonoTime) -> Option<u64> {
        let (average, at) = self.latency?;
        (now.since(at) < REMEMBERED).then_some(average)
    }

    /// What its silence was held against it for; none if it was not silent lately.
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

    /// Whether it is silent, or its probe is: see [`super::usual`]. `timely` is when the last call to any instance
    /// began that was answered in time, and `patience` how long a call may take.
    pub fn is_silent(
        &self,
        now: MonoTime,
        timely: Option<MonoTime>,
        patience: Option<Duration>,
    ) -> bool {
        match self.breaker.as_ref().and_then(|breaker| breaker.probed()) {
            Some(probed) => patience.is_some_and(|patience| now.since(probed) >= patience),
            None => self.unanswered.is_some_and(|Unanswered { since, due }| {
                // By what was usual when it began, and by what is now: where all have become slow, others are in time
                // again before this one is asked about.
                let due = patience.map_or(due, |patience| due.max(since + patience));
                now >= due && timely.is_some_and(|timely| timely > since)
            }),
        }
    }

    /// It is left alone for its silence. `jitter` is as [`Breaker::end`] has it.
    pub fn silent(&mut self, now: MonoTime, jitter: u64) {
        self.breaker.get_or_insert_default().silent(now, jitter);
        self.begin_epoch();
    }

    /// Whether it is worth to be asked for a call that waits for another instance longer than this: it is well, has
    /// not refused one lately, and lets nobody wait for as long itself.
    pub fn would_help(&self, now: MonoTime, longer_than: Duration) -> bool {
        let is_well = self.breaker.as_ref().is_none_or(|b| b.state() == BreakerState::Closed);
        let is_busy = self.refused.is_some_and(|at| now.since(at) < REFUSED_FOR);
        let waits = |unanswered: Unanswered| now.since(unanswered.since) >= longer_than;
        is_well && !is_busy && !self.unanswered.is_some_and(waits)
    }

    /// A call goes there, and may take so long. Says whether it is a probe.
    pub fn begin(&mut self, now: MonoTime, patience: Option<Duration>) -> bool {
        self.in_flight += 1;
        let unanswered = |patience| Unanswered { since: now, due: now + patience };
        self.unanswered = self.unanswered.or(patience.map(unanswered));
        self.breaker.as_mut().is_some_and(|breaker| breaker.begin(now))
    }

    /// It was asked though it was silent, which must not be.
    pub fn wrong(&mut self) {
        self.wronged = true;
    }

    /// It is over now. Failures count as slow, or who fails fast would get all calls. `jitter` is as [`Breaker::end`]
    /// has it. Says whether it was answered in time, and whether what it took is usual.
    pub fn end(&mut self, now: MonoTime, over: Over, jitter: impl FnOnce() -> u64) -> (bool, bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let took = now.since(over.began);
        let word = over.word;
        if let Some(failed) = word.failed() {
            let health = self.health.get_or_insert_with(|| Box::new(Health::new(now)));
            health.note(now, took, !failed);
        }
        if over.epoch != self.epoch {
            self.bygone = self.bygone.saturating_sub(1);
            return (false, false);
        }
        let in_time = over.patience.is_none_or(|patience| took < patience);
        let reacts = matches!(word, Word::Answers | Word::Refuses);
        if in_time
            && let Some(Unanswered { since, .. }) = self.unanswered
            // What was given up early says nothing, and what failed is the breaker's.
            && if reacts { since <= over.began } else { since == over.began }
        {
            self.unanswered = None;
        }
        if self.busy() == 0 {
            // What nobody waits for any more says nothing of how it will be next time.
            self.unanswered = None;
        }
        match word {
            Word::Refuses => self.refused = Some(now),
            Word::Answers => self.refused = None,
            _ => {}
        }
        let is_closed = self.breaker.as_ref().is_none_or(|b| b.state() == BreakerState::Closed);
        self.measure(now, took, word);
        if let Some(breaker) = &mut self.breaker {
            let opened = breaker.opened();
            // A failure in time is no silence: what fails is held against the action.
            let counts = over.is_probe || word == Word::Fails;
            let silent = word.failed().map(|_| counts && !in_time);
            if breaker.end(now, over.is_probe, silent, jitter) {
                self.breaker = None;
            } else if breaker.opened() != opened {
                self.begin_epoch();
            }
        }
        let answers = word == Word::Answers;
        (answers && in_time, answers && is_closed)
    }

    /// What was under way counts no more, nor what it took before.
    fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.bygone = self.in_flight;
        (self.latency, self.unanswered) = (None, None);
    }

    fn measure(&mut self, now: MonoTime, took: Duration, word: Word) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX / 4);
        let average = self.latency(now);
        // Penalties multiply, and under overload there are hundreds of them. Without this bound as many answers must
        // follow, and meanwhile the calls go to the other instances, which may not bear them.
        let bound = match self.penalised && word == Word::Answers {
            true => took.saturating_mul(SMOOTHING),
            false => u64::MAX,
        };
        let average = average.map(|average| average.min(bound));
        let sample = match (word, average) {
            (Word::Nothing, _) => return,
            (Word::Refuses, Some(average)) => took.max(average.saturating_mul(2)),
            // Each failure doubles it, nearly.
            (Word::Fails, Some(average)) => took.max(average.saturating_mul(SMOOTHING)),
            (Word::Outrun, Some(average)) => took.max(average),
            _ => took,
        };
        let sample = sample.min(u64::MAX / 4);
        let new = match average {
            None => sample,
            Some(average) => average - average / SMOOTHING + sample / SMOOTHING,
        };
        self.latency = Some((new, now));
        self.penalised = match word {
            Word::Refuses | Word::Fails => true,
            Word::Answers => false,
            Word::Nothing | Word::Outrun => self.penalised,
        };
    }

    /// Asserts what must hold between inputs.
    pub fn check_invariants(&self) {
        assert!(self.bygone <= self.in_flight, "what is bygone is under way");
        assert!(!self.wronged, "who says nothing is left alone while others answer");
        if let Some(breaker) = &self.breaker {
            breaker.check_invariants();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn over(load: &Load, began: MonoTime, word: Word) -> Over {
        Over { began, epoch: load.epoch(), patience: Some(100 * MS), is_probe: false, word }
    }

    /// A call that takes so long and ends now.
    fn call(load: &mut Load, now: MonoTime, took: Duration, word: Word) {
        let began = MonoTime::from_nanos(now.as_nanos() - took.as_nanos() as u64);
        let is_probe = load.begin(began, Some(100 * MS));
        let over = Over { is_probe, ..over(load, began, word) };
        load.end(now, over, || 0);
        load.check_invariants();
    }

    #[test]
    fn the_average_follows_and_what_is_old_is_forgotten() {
        let mut load = Load::default();
        let now = MonoTime::ZERO + 100 * MS;
        assert_eq!(load.latency(now), None);
        call(&mut load, now, 8 * MS, Word::Answers);
        assert_eq!(load.latency(now), Some(8_000_000));
        call(&mut load, now, 16 * MS, Word::Answers);
        assert_eq!(load.latency(now), Some(9_000_000));
        assert_eq!(load.latency(now + REMEMBERED), None);
        call(&mut load, now + REMEMBERED, 4 * MS, Word::Answers);
        assert_eq!(load.latency(now + REMEMBERED), Some(4_000_000));
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn who_fails_fast_does_not_look_quick_who_is_outrun_is_slow_and_who_is_given_up_says_nothing() {
        let mut load = Load::default();
        let now = MonoTime::ZERO + 100 * MS;
        call(&mut load, now, 8 * MS, Word::Answers);
        call(&mut load, now, MS / 100, Word::Fails);
        let before = load.latency(now).unwrap();
        assert!(before > 8_000_000);
        call(&mut load, now, MS, Word::Nothing);
        assert_eq!(load.latency(now), Some(before));
        call(&mut load, now, MS, Word::Outrun);
        assert_eq!(load.latency(now).unwrap().abs_diff(before), 0);
        call(&mut load, now, 50 * MS, Word::Outrun);
        assert!(load.latency(now).unwrap() > before + 4_000_000);
    }

    #[test]
    fn penalties_of_an_overload_are_over_after_a_few_answers() {
        for word in [Word::Refuses, Word::Fails] {
            let mut load = Load::default();
            let now = MonoTime::ZERO + 100 * MS;
            call(&mut load, now, 8 * MS, Word::Answers);
            // So few failures open no breaker.
            let penalties = if word == Word::Refuses { 50 } else { 1 };
            for _ in 0..500 {
                (0..3).for_each(|_| call(&mut load, now, 8 * MS, Word::Answers));
                (0..penalties).for_each(|_| call(&mut load, now, MS, word));
            }
            assert!(load.latency(now).unwrap() > 12_000_000, "it is avoided meanwhile");
            (0..20).for_each(|_| call(&mut load, now, 8 * MS, Word::Answers));
            assert!(load.latency(now).unwrap() < 16_000_000, "{word:?}: {:?}", load.latency(now));
        }
    }

    #[test]
    fn a_failure_in_time_is_no_silence_and_silence_is_held_against_an_instance_until_it_answers() {
        let mut load = Load::default();
        let now = MonoTime::ZERO + 1_000 * MS;
        (0..9).for_each(|_| call(&mut load, now, MS, Word::Fails));
        assert_eq!(load.breaker(), None);
        load.silent(now, 0);
        assert!(!load.admits(now));
        let later = now + 600 * MS;
        for _ in 0..25 {
            assert!(load.breaker().is_some() && load.admits(later));
            // A failure in time is a reaction too.
            call(&mut load, later, MS, Word::Fails);
        }
        assert_eq!(load.breaker(), None);
    }

    #[test]
    fn who_does_not_answer_is_silent_once_others_have_answered_what_began_later() {
        let mut load = Load::default();
        let now = MonoTime::ZERO;
        load.begin(now, Some(100 * MS));
        let is_silent = |load: &Load, after: Duration, timely: Duration| {
            load.is_silent(now + after, Some(now + timely), Some(100 * MS))
        };
        assert!(!is_silent(&load, 99 * MS, 50 * MS));
        assert!(is_silent(&load, 100 * MS, 50 * MS));
        assert!(!is_silent(&load, 100 * MS, Duration::ZERO), "what began before says nothing");
        assert!(!load.is_silent(now + 100 * MS, None, Some(100 * MS)));
        // A call that began later is answered: that one takes long, and the instance is well.
        call(&mut load, now + 100 * MS, 10 * MS, Word::Answers);
        assert!(!is_silent(&load, 200 * MS, 150 * MS));
    }

    #[test]
    fn what_is_answered_late_or_given_up_early_is_no_answer() {
        let now = MonoTime::ZERO + 1_000 * MS;
        let timely = Some(now);
        for (took, word, silent) in [
            (150 * MS, Word::Answers, true),
            (150 * MS, Word::Nothing, true),
            (50 * MS, Word::Nothing, false),
            (50 * MS, Word::Fails, false),
            (50 * MS, Word::Refuses, false),
        ] {
            let mut load = Load::default();
            let began = MonoTime::from_nanos(now.as_nanos() - took.as_nanos() as u64);
            load.begin(began, Some(100 * MS));
            // Another one is under way behind it.
            load.begin(began + MS, Some(100 * MS));
            let first = over(&load, began, word);
            load.end(now, first, || 0);
            assert_eq!(load.is_silent(now + 100 * MS, timely, None), silent, "{word:?}");
        }
    }

    #[test]
    fn what_hung_when_it_was_left_alone_counts_no_more() {
        let mut load = Load::default();
        let now = MonoTime::ZERO;
        load.begin(now, Some(100 * MS));
        let hung = over(&load, now, Word::Fails);
        load.silent(now + 100 * MS, 0);
        assert_eq!((load.in_flight(), load.busy()), (1, 0));
        let later = now + 700 * MS;
        let is_probe = load.begin(later, Some(100 * MS));
        assert!(is_probe && load.busy() == 1);
        assert!(!load.is_silent(later + 99 * MS, None, Some(100 * MS)));
        assert!(load.is_silent(later + 100 * MS, None, Some(100 * MS)), "nor does the probe");
        load.end(later, hung, || 0);
        load.check_invariants();
        assert_eq!((load.in_flight(), load.busy()), (1, 1));
        assert_eq!(load.breaker().unwrap().state(), BreakerState::HalfOpen);
        // It is said in its health all the same.
        assert_eq!(load.health().unwrap().report(later).failed, 1);
    }
}
