//! Tries candidates in order and takes the first that still fails. Threads try ahead; which candidate is taken, and
//! how many runs are counted, follows from the order alone.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Failure, MakeWorkload, Options, Progress, Size};
use crate::run::{Outcome, run_with};
use crate::schedule::Schedule;

/// The search for the smallest schedule that fails alike.
pub(super) struct Search<'a> {
    /// What still fails.
    pub(super) best: Schedule,
    /// Its run.
    pub(super) outcome: Outcome,
    pub(super) failure: Failure,
    /// Runs that count: those that would have been made on one thread.
    pub(super) runs: u64,
    /// How often something smaller was found.
    pub(super) changes: u64,
    runs_max: u64,
    jobs: usize,
    /// Some candidates could not be tried.
    exhausted: bool,
    /// What was tried: nothing is tried twice.
    tried: BTreeSet<u64>,
    workload: &'a MakeWorkload<'a>,
    progress: &'a (dyn Fn(Progress) + Sync),
    /// All runs.
    made: AtomicU64,
}

fn fingerprint(schedule: &Schedule) -> u64 {
    // Fixed keys: the same in every process.
    let mut hasher = DefaultHasher::new();
    schedule.hash(&mut hasher);
    hasher.finish()
}

impl<'a> Search<'a> {
    /// Nothing, if the schedule does not fail.
    pub(super) fn new(
        schedule: &Schedule,
        options: &Options,
        workload: &'a MakeWorkload<'a>,
        progress: &'a (dyn Fn(Progress) + Sync),
    ) -> Option<Search<'a>> {
        let outcome = run_with(schedule, &*workload(schedule), None);
        Some(Search {
            failure: Failure::of(&outcome.verdict)?,
            outcome,
            best: schedule.clone(),
            runs: 1,
            changes: 0,
            runs_max: options.runs_max,
            jobs: options.jobs.max(1),
            exhausted: false,
            tried: BTreeSet::from([fingerprint(schedule)]),
            workload,
            progress,
            made: AtomicU64::new(1),
        })
    }

    /// Whether something was left untried for want of runs.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Tries `count` candidates in order. The first that fails alike is the new best one, and its index is returned.
    /// A candidate that is none, or was tried before, costs nothing.
    pub(super) fn first(
        &mut self,
        count: usize,
        candidate: &(dyn Fn(&Schedule, usize) -> Option<Schedule> + Sync),
    ) -> Option<usize> {
        let left = self.runs_max.saturating_sub(self.runs).min(count as u64) as usize;
        let next = AtomicUsize::new(0);
        let found = AtomicUsize::new(usize::MAX);
        // What was looked at, by index; and the run of what failed alike.
        let looked = Mutex::new(vec![None; count]);
        let failing = Mutex::new(Vec::<(usize, Schedule, Outcome)>::new());
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= left || index > found.load(Ordering::Relaxed) {
                    return;
                }
                let Some(schedule) = candidate(&self.best, index) else { continue };
                let mark = fingerprint(&schedule);
                if self.tried.contains(&mark) {
                    continue;
                }
                looked.lock().expect("no run panics")[index] = Some(mark);
                let outcome = run_with(&schedule, &*(self.workload)(&schedule), None);
                let runs = self.made.fetch_add(1, Ordering::Relaxed) + 1;
                (self.progress)(Progress { runs, size: Size::of(&self.best) });
                if Failure::of(&outcome.verdict).as_ref() == Some(&self.failure) {
                    found.fetch_min(index, Ordering::Relaxed);
                    failing.lock().expect("no run panics").push((index, schedule, outcome));
                }
            }
        };
        match self.jobs.min(left) {
            0 | 1 => work(),
            jobs => std::thread::scope(|scope| {
                for _ in 0..jobs {
                    scope.spawn(work);
                }
            }),
        }
        let found = found.into_inner();
        for (index, mark) in looked.into_inner().expect("no run panics").iter().enumerate() {
            let Some(mark) = mark.filter(|_| index <= found) else { continue };
            self.runs += u64::from(self.tried.insert(mark));
        }
        self.exhausted |= found == usize::MAX && left < count;
        let failing = failing.into_inner().expect("no run panics");
        let (index, schedule, outcome) = failing.into_iter().find(|(index, ..)| *index == found)?;
        (self.best, self.outcome) = (schedule, outcome);
        self.changes += 1;
        Some(index)
    }
}
