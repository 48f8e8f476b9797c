//! Where it went wrong: the step at which two runs part, and the moment from which a failure is certain.
//!
//! * Two runs took the same steps for as long as the hashes of their traces agree. A hash holds all steps before
//!   it, so the first difference is found by bisection: first among a few hashes, then among those in between.
//! * A run that is reseeded at some moment has the same past and another future: its messages meet other fates.
//!   The first moment from which it fails in every such future is the one that decided. FoundationDB draws the
//!   probability over time; a bisection finds the moment.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::history::Ledger;
use crate::random::mix;
use crate::run::{Outcome, Verdict, run_under};
use crate::schedule::Schedule;
use crate::shrink::{Failure, MakeWorkload};
use crate::trace::Watch;

pub use crate::trace::Mark;

/// What is done to a run beside running it.
#[derive(Default)]
pub(crate) struct Under {
    /// Hashes that are kept.
    pub(crate) watch: Option<Watch>,
    /// From when messages meet other fates, and which.
    pub(crate) reseed: Option<(u64, u64)>,
    /// The lines of the log between two moments.
    pub(crate) lines: Option<Lines>,
}

/// Lines of the log between two moments.
#[derive(Clone)]
pub(crate) struct Lines {
    from: u64,
    to: u64,
    text: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    fn between(from: u64, to: u64) -> Self {
        Lines { from, to, text: Arc::default() }
    }

    fn take(&self) -> Vec<String> {
        let text = self.text.lock().expect("writing does not panic");
        String::from_utf8_lossy(&text).lines().map(ToString::to_string).collect()
    }

    /// Where the log of a run goes.
    pub(crate) fn sink(self, ledger: Arc<Ledger>) -> Box<dyn Write + Send> {
        Box::new(Sink { lines: self, ledger })
    }
}

struct Sink {
    lines: Lines,
    ledger: Arc<Ledger>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if (self.lines.from..=self.lines.to).contains(&self.ledger.now()) {
            self.lines.text.lock().expect("writing does not panic").extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines of a run's log between two moments, in nanoseconds, both included.
pub fn lines_between(
    schedule: &Schedule,
    workload: &MakeWorkload<'_>,
    from: u64,
    to: u64,
) -> Vec<String> {
    let lines = Lines::between(from, to);
    let under = Under { lines: Some(lines.clone()), ..Under::default() };
    run_under(schedule, &*workload(schedule), under);
    lines.take()
}

/// Which hashes to keep of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Which {
    /// One in so many steps; at least 1.
    pub every: u64,
    /// From this step on.
    pub from: u64,
    /// Up to this step.
    pub to: u64,
    /// Only what nodes do, not what the schedule does to them: for schedules that differ.
    pub only_nodes: bool,
}

/// The hashes of a run, by step, and the last one at its end.
pub fn hashes(
    schedule: &Schedule,
    workload: &MakeWorkload<'_>,
    which: Which,
) -> (Outcome, Vec<Mark>) {
    let (watch, marks) = Watch::new(which);
    let under = Under { watch: Some(watch), ..Under::default() };
    let outcome = run_under(schedule, &*workload(schedule), under);
    let marks = std::mem::take(&mut *marks.lock().expect("noting does not panic"));
    (outcome, marks)
}

/// Where two runs part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parting {
    /// How many steps they have in common.
    pub step: u64,
    /// What each does then; nothing, if it is over.
    pub next: [Option<Mark>; 2],
}

/// The first of two lists of hashes that differs, by bisection: how many agree.
pub fn agreeing(a: &[Mark], b: &[Mark]) -> usize {
    let both = a.len().min(b.len());
    let (mut same, mut differs) = (0, both);
    while same < differs {
        let middle = same + (differs - same) / 2;
        match (a[middle].step, &a[middle].hash) == (b[middle].step, &b[middle].hash) {
            true => same = middle + 1,
            false => differs = middle,
        }
    }
    same
}

/// One in so many steps is looked at first.
const COARSE: u64 = 1_024;

/// The first step at which the nodes of two runs do something else. Nothing, if they never do.
pub fn parting(a: &Schedule, b: &Schedule, workload: &MakeWorkload<'_>) -> Option<Parting> {
    // Both begin with the same nodes and the same fates, or they part at once.
    let all = Which { every: COARSE, from: 0, to: u64::MAX, only_nodes: true };
    let [coarse_a, coarse_b] = [a, b].map(|schedule| hashes(schedule, workload, all).1);
    let agreed = agreeing(&coarse_a, &coarse_b);
    if agreed == coarse_a.len() && agreed == coarse_b.len() {
        return None;
    }
    let from = agreed.checked_sub(1).map_or(0, |last| coarse_a[last].step);
    let fine = Which { every: 1, from, to: from + COARSE, only_nodes: true };
    let [fine_a, fine_b] = [a, b].map(|schedule| hashes(schedule, workload, fine).1);
    // The hash before a step tells of the steps before it.
    let agreed = agreeing(&fine_a, &fine_b).saturating_sub(1);
    let next = [&fine_a, &fine_b].map(|marks| marks.get(agreed).filter(|m| !m.is_end()).cloned());
    Some(Parting { step: from + agreed as u64, next })
}

/// In how many futures from some moment on a run still fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Chance {
    /// The moment, in nanoseconds.
    pub at: u64,
    /// In so many of them.
    pub failing: u32,
    /// Of so many.
    pub tries: u32,
}

/// When a failure was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decisive {
    /// The failure.
    pub failure: Failure,
    /// When it happens, in nanoseconds.
    pub fails_at: u64,
    /// The first moment from which it happens in every future that was tried; within a millisecond.
    pub at: u64,
    /// Its chance over time, with what the bisection looked at.
    pub chances: Vec<Chance>,
}

/// How exactly the moment is found, in nanoseconds.
const EXACT: u64 = 1_000_000;
/// How many moments are looked at before the bisection.
const SAMPLES: u64 = 8;

/// Finds the moment that decided a failure, with so many futures for each that is looked at. Nothing, if the run
/// does not fail.
pub fn decisive(
    schedule: &Schedule,
    workload: &MakeWorkload<'_>,
    tries: u32,
    jobs: usize,
) -> Option<Decisive> {
    let outcome = run_under(schedule, &*workload(schedule), Under::default());
    let failure = Failure::of(&outcome.verdict)?;
    let fails_at = match &outcome.verdict {
        Verdict::Clean => return None,
        Verdict::Safety { violations } | Verdict::Liveness { violations } => violations[0].at,
        Verdict::Crash { at, .. } => *at,
    };
    let mut chances = Vec::new();
    let mut fails_from = |at: u64| {
        let chance = chance_at(schedule, workload, &failure, at, tries, jobs);
        chances.push(chance);
        chance.failing == tries
    };
    // Evenly spread ones first: they are the picture, and narrow the search.
    let (mut open, mut decided) = (None, fails_at);
    for sample in (0..SAMPLES).rev() {
        let at = fails_at * sample / SAMPLES;
        match fails_from(at) {
            true if open.is_none() => decided = at,
            true => {}
            false => open = open.max(Some(at)),
        }
    }
    if let Some(mut open) = open {
        while decided > open + EXACT {
            let middle = open + (decided - open) / 2;
            match fails_from(middle) {
                true => decided = middle,
                false => open = middle,
            }
        }
    }
    chances.sort_by_key(|chance| chance.at);
    Some(Decisive { failure, fails_at, at: decided, chances })
}

fn chance_at(
    schedule: &Schedule,
    workload: &MakeWorkload<'_>,
    failure: &Failure,
    at: u64,
    tries: u32,
    jobs: usize,
) -> Chance {
    let (next, failing) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= tries as usize {
                return;
            }
            let seed = mix(schedule.seed, index as u64, 0, 0x0ff5);
            let under = Under { reseed: Some((at, seed)), ..Under::default() };
            let outcome = run_under(schedule, &*workload(schedule), under);
            if Failure::of(&outcome.verdict).as_ref() == Some(failure) {
                failing.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(work);
        }
    });
    Chance { at, failing: failing.into_inner() as u32, tries }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::BuiltIn;
    use crate::draw::draw;
    use crate::schedule::{Crypto, Deed, Fidelity};

    fn built_in(schedule: &Schedule) -> Box<dyn crate::Workload> {
        Box::new(BuiltIn::new(schedule))
    }

    fn schedule() -> Schedule {
        draw(0, Fidelity::Frames, Crypto::Null)
    }

    #[test]
    fn equal_schedules_do_not_part_and_their_hashes_are_those_of_the_run() {
        let schedule = schedule();
        assert_eq!(parting(&schedule, &schedule, &built_in), None);
        let which = Which { every: 5_000, from: 0, to: u64::MAX, only_nodes: false };
        let (outcome, marks) = hashes(&schedule, &built_in, which);
        let last = marks.last().expect("at least the end");
        assert!(marks.len() > 3 && last.is_end());
        assert_eq!(outcome.hash.as_ref(), Some(&last.hash));
        assert_eq!(outcome.hash, crate::run::run(&schedule).hash);
    }

    #[test]
    fn runs_part_at_the_first_thing_that_a_node_does_otherwise() {
        let a = schedule();
        // An operation that is missing changes nothing before it.
        let place = a.operations.len() / 2;
        assert!(matches!(a.operations[place].what, Deed::Call(_) | Deed::Publish(_)));
        let mut b = a.clone();
        let gone = b.operations.remove(place);
        let parting = parting(&a, &b, &built_in).expect("they part");
        let first = parting.next.iter().flatten().map(|mark| mark.at).min().expect("one goes on");
        assert!(first >= gone.at_us * 1_000, "{parting:?}");
        assert!(first < gone.at_us * 1_000 + 30_000_000_000, "{parting:?}");
        // All steps before are the same, and the next is not.
        let one = Which { every: 1, from: 0, to: parting.step + 1, only_nodes: true };
        let [a, b] = [a, b].map(|schedule| hashes(&schedule, &built_in, one).1);
        let step = parting.step as usize;
        assert_eq!(a[step].hash, b[step].hash);
        assert_ne!(a[step + 1].hash, b[step + 1].hash);
    }

    #[test]
    fn a_run_that_is_reseeded_has_the_same_past_and_another_future() {
        let schedule = schedule();
        let at = 20_000_000_000;
        let which = Which { every: 1, from: 0, to: u64::MAX, only_nodes: false };
        let (_, plain) = hashes(&schedule, &built_in, which);
        let (watch, marks) = Watch::new(which);
        let under = Under { watch: Some(watch), reseed: Some((at, 77)), ..Under::default() };
        run_under(&schedule, &*built_in(&schedule), under);
        let reseeded = std::mem::take(&mut *marks.lock().expect("no panic"));
        let agreed = agreeing(&plain, &reseeded);
        assert!(plain[agreed - 1].at >= at && agreed < plain.len(), "{agreed}");
    }
}
