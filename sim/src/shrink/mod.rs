//! A failing schedule becomes one that a person can read: delta debugging over its nodes, operations, faults,
//! durations, sizes and limits.
//!
//! What is left is *1-minimal*: no single node, operation, fault or part of a node can be taken out and no
//! duration or size halved without the failure going away. Lists are cut by ddmin (Zeller and Hildebrandt,
//! "Simplifying and Isolating Failure-Inducing Input", 2002): whole, halves, quarters, down to single things.
//!
//! ```text
//! mod       the rounds, and what a user asks and gets
//! search    tries candidates in order, on several threads, with one result
//! remove    what can be taken out of a schedule
//! values    what can be made shorter, smaller or plainer in it
//! ```
//!
//! Taking something out changes what chance makes of the rest: messages get other fates. So once nothing can be
//! taken out as it is, single things are taken out under a few other seeds too.

mod remove;
mod search;
mod values;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::run::{Outcome, Verdict};
use crate::schedule::{PROGRAM, Schedule, VERSION};
use crate::workload::Workload;
use remove::Item;
use search::Search;

/// Makes the workload for one run of a schedule: each run has one of its own.
pub type MakeWorkload<'a> = dyn Fn(&Schedule) -> Box<dyn Workload> + Sync + 'a;

/// How to shrink.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many runs it may take. What is left then may not be minimal.
    pub runs_max: u64,
    /// On how many threads. The result does not depend on it.
    pub jobs: usize,
    /// Under how many other seeds a thing is taken out that cannot be taken out as it is.
    pub other_seeds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { runs_max: 20_000, jobs: 1, other_seeds: 4 }
    }
}

/// What makes two failures the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// `safety`, `liveness` or `crash`.
    pub kind: &'static str,
    /// The rule that was broken first, or where the code panicked.
    pub rule: String,
}

impl Failure {
    /// The failure of a run, if it failed.
    pub fn of(verdict: &Verdict) -> Option<Failure> {
        let (kind, rule) = match verdict {
            Verdict::Clean => return None,
            Verdict::Safety { violations } => ("safety", violations[0].rule.to_string()),
            Verdict::Liveness { violations } => ("liveness", violations[0].rule.to_string()),
            Verdict::Crash { message, .. } => {
                // "panicked at file:line:column: what it said": what it said may differ.
                let place = message.strip_prefix("panicked at ").unwrap_or(message);
                ("crash", place.split_once(": ").map_or(place, |(place, _)| place).to_string())
            }
        };
        Some(Failure { kind, rule })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.rule)
    }
}

/// How large a schedule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Size {
    pub nodes: usize,
    pub operations: usize,
    pub faults: usize,
    pub duration_us: u64,
}

impl Size {
    /// The size of a schedule.
    pub fn of(schedule: &Schedule) -> Size {
        Size {
            nodes: schedule.nodes.len(),
            operations: schedule.operations.len(),
            faults: schedule.faults.len(),
            duration_us: schedule.duration_us,
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Size { nodes, operations, faults, duration_us } = self;
        let seconds = duration_us.div_ceil(1_000) as f64 / 1e3;
        let of =
            |count: &usize, what| format!("{count} {what}{}", if *count == 1 { "" } else { "s" });
        let (nodes, operations) = (of(nodes, "node"), of(operations, "operation"));
        write!(f, "{nodes}, {operations}, {}, {seconds} s", of(faults, "fault"))
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Runs so far, with those that were tried ahead.
    pub runs: u64,
    /// What is left so far.
    pub size: Size,
}

/// What is left of a schedule.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The schedule that still fails.
    pub schedule: Schedule,
    /// The failure that it had and has.
    pub failure: Failure,
    /// The run of what is left.
    pub outcome: Outcome,
    /// How large it was.
    pub before: Size,
    /// How large it is.
    pub after: Size,
    /// How many runs it took.
    pub runs: u64,
    /// Whether nothing more can be taken out; otherwise there were not enough runs.
    pub is_minimal: bool,
}

/// Shrinks a schedule that fails. Nothing if it does not. `progress` is called from all threads, behind each run.
pub fn shrink(
    schedule: &Schedule,
    options: &Options,
    workload: &MakeWorkload<'_>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Option<Shrunk> {
    let mut search = Search::new(schedule, options, workload, progress)?;
    let before = Size::of(schedule);
    loop {
        let changes = search.changes;
        search.cut_behind();
        search.shorten();
        search.remove_nodes();
        search.ddmin(|schedule| items(schedule.faults.len(), Item::Fault));
        search.ddmin(|schedule| items(schedule.operations.len(), Item::Operation));
        search.remove_nodes();
        search.ddmin(Item::parts);
        search.simplify();
        search.squeeze();
        if search.changes == changes && !search.other_seeds(options.other_seeds) {
            break;
        }
        if search.is_exhausted() {
            break;
        }
    }
    let is_minimal = !search.is_exhausted();
    let Search { best: mut schedule, outcome, failure, runs, .. } = search;
    (schedule.version, schedule.program) = (VERSION, PROGRAM.into());
    let after = Size::of(&schedule);
    Some(Shrunk { schedule, failure, outcome, before, after, runs, is_minimal })
}

fn items(count: usize, item: fn(usize) -> Item) -> Vec<Item> {
    (0..count).map(item).collect()
}

impl Search<'_> {
    /// What begins behind the failure has no part in it.
    fn cut_behind(&mut self) {
        let at = match &self.outcome.verdict {
            Verdict::Safety { violations } => violations[0].at,
            Verdict::Crash { at, .. } => *at,
            _ => return,
        };
        let until_us = at / 1_000 + 1;
        if until_us < self.best.duration_us {
            self.first(1, &|best, _| Some(remove::behind(best, until_us)));
        }
    }

    /// The run ends with its last operation and fault, or earlier.
    fn shorten(&mut self) {
        loop {
            let last = remove::last_us(&self.best) + 1;
            let half = self.best.duration_us / 2;
            let ends = [last.min(half), half.max(last.min(self.best.duration_us))];
            let shorter = |best: &Schedule, index: usize| {
                (ends[index] < best.duration_us).then(|| remove::behind(best, ends[index]))
            };
            if self.first(2, &shorter).is_none() {
                return;
            }
        }
    }

    /// Takes out nodes, one after the other, with all that is about them.
    fn remove_nodes(&mut self) {
        let mut from = 0;
        while from < self.best.nodes.len() {
            let count = self.best.nodes.len() - from;
            let without = |best: &Schedule, index| remove::without_node(best, from + index);
            match self.first(count, &without) {
                Some(index) => from += index,
                None => return,
            }
        }
    }

    /// Delta debugging of one kind of things: in ever smaller pieces, what is not needed goes.
    fn ddmin(&mut self, list: impl Fn(&Schedule) -> Vec<Item>) {
        let mut piece = list(&self.best).len();
        while piece > 0 {
            let mut from = 0;
            loop {
                let things = list(&self.best);
                if from >= things.len() {
                    break;
                }
                let pieces: Vec<&[Item]> = things[from..].chunks(piece).collect();
                let without = |best: &Schedule, index: usize| {
                    let away: BTreeSet<Item> = pieces[index].iter().copied().collect();
                    Some(remove::without(best, &away))
                };
                match self.first(pieces.len(), &without) {
                    Some(index) => from += index * piece,
                    None => break,
                }
            }
            piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
        }
    }

    /// Makes everything shorter, smaller and plainer, thing by thing.
    fn simplify(&mut self) {
        let mut from = 0;
        loop {
            let count = values::count(&self.best).saturating_sub(from);
            let simpler = |best: &Schedule, index| values::simpler(best, from + index);
            match self.first(count, &simpler) {
                Some(index) => from += index,
                None => return,
            }
        }
    }

    /// Waits less between what happens.
    fn squeeze(&mut self) {
        let mut from = 0;
        loop {
            let count = values::gaps(&self.best).saturating_sub(from);
            let sooner = |best: &Schedule, index| values::sooner(best, from + index);
            match self.first(count, &sooner) {
                Some(index) => from += index,
                None => return,
            }
        }
    }

    /// Takes out single things under other seeds. Says whether something went.
    fn other_seeds(&mut self, seeds: u64) -> bool {
        let nodes = self.best.nodes.len();
        let mut things = items(self.best.faults.len(), Item::Fault);
        things.extend(items(self.best.operations.len(), Item::Operation));
        let without = |best: &Schedule, index: usize| {
            let (index, other) = (index / seeds as usize, index as u64 % seeds + 1);
            let mut schedule = match index.checked_sub(nodes) {
                None => remove::without_node(best, index)?,
                Some(thing) => remove::without(best, &BTreeSet::from([things[thing]])),
            };
            schedule.seed = schedule.seed.wrapping_add(other);
            Some(schedule)
        };
        self.first((nodes + things.len()) * seeds as usize, &without).is_some()
    }
}
