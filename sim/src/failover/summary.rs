//! What many runs come to, and whether that is good enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{Failure, How, Plan, Run};
use crate::campaign::Shard;

/// How long it may take until the next leader answers. Source: protocols.md, section 6, for round trips of up to 5 ms and
/// clocks that are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bars {
    /// From a crash, at worst, in nanoseconds.
    pub crash_worst_nanos: u64,
    /// From a crash, on average.
    pub crash_mean_nanos: u64,
    /// From a leader's giving it up, at worst.
    pub graceful_worst_nanos: u64,
}

impl Default for Bars {
    fn default() -> Self {
        Bars {
            crash_worst_nanos: 2_100_000_000,
            crash_mean_nanos: 1_750_000_000,
            graceful_worst_nanos: 50_000_000,
        }
    }
}

/// How long it took, over some runs. In nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Times {
    pub runs: u64,
    pub mean_nanos: u64,
    pub p50_nanos: u64,
    pub p99_nanos: u64,
    pub worst_nanos: u64,
    /// The seed of the worst.
    pub worst_seed: u64,
}

impl Times {
    /// Of times and their seeds.
    fn of(times: impl Iterator<Item = (u64, u64)>) -> Times {
        let mut times: Vec<(u64, u64)> = times.collect();
        times.sort_unstable();
        let Some((worst, worst_seed)) = times.last().copied() else { return Times::default() };
        let count = times.len();
        // The least that so many per cent do not exceed.
        let rank = |percent: usize| times[(count * percent).div_ceil(100).max(1) - 1].0;
        let sum: u128 = times.iter().map(|(nanos, _)| u128::from(*nanos)).sum();
        Times {
            runs: count as u64,
            mean_nanos: (sum / count as u128) as u64,
            p50_nanos: rank(50),
            p99_nanos: rank(99),
            worst_nanos: worst,
            worst_seed,
        }
    }
}

/// A mean of fewer crashes says nothing: half of them are above it.
const MEAN_OF: u64 = 30;

/// What a plan, or a shard of it, came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The plan.
    pub plan: Plan,
    /// Which part of it this is.
    pub shard: Shard,
    /// How long the next leader's first answer took, by how the last one went.
    pub times: BTreeMap<How, Times>,
    /// The same for all that gave their lease up.
    pub graceful: Times,
    /// For how long leases were watched that nobody gave up, in simulated seconds.
    pub watched_seconds: u64,
    /// How often a lease was granted anew although its holder neither crashed nor gave it up, in all runs.
    pub false_failovers: u64,
    /// Calls made, and calls answered.
    pub calls: (u64, u64),
    /// Deliveries, timers, operations and faults.
    pub events: u64,
    /// CPU time, in seconds. Not the same each time.
    pub cpu_seconds: f64,
    /// What was broken, by seed: of departures and of hours.
    pub failures: Vec<(u64, Failure)>,
    /// Bars that were missed.
    pub missed: Vec<String>,
}

impl Summary {
    pub(super) fn new(plan: Plan, shard: Shard, runs: &[Run]) -> Summary {
        let took = |which: &dyn Fn(How) -> bool| {
            let of = |run: &Run| run.took_nanos.map(|took| (took, run.seed));
            let wanted = |run: &&Run| run.how.is_some_and(which);
            Times::of(runs.iter().filter(wanted).filter_map(of))
        };
        let times: BTreeMap<How, Times> = How::ALL
            .into_iter()
            .map(|how| (how, took(&|other| other == how)))
            .filter(|(_, times)| times.runs > 0)
            .collect();
        let hours = runs.iter().filter(|run| run.how.is_none());
        let failures = |run: &Run| {
            let seed = run.seed;
            run.failures.clone().into_iter().map(move |failure| (seed, failure))
        };
        let mut summary = Summary {
            plan,
            shard,
            times,
            graceful: took(&|how| how != How::Crash),
            watched_seconds: hours.map(|run| run.watched_seconds).sum(),
            false_failovers: runs.iter().map(|run| run.false_failovers).sum(),
            calls: runs.iter().fold((0, 0), |(calls, answered), run| {
                (calls + run.calls.0, answered + run.calls.1)
            }),
            events: runs.iter().map(|run| run.events).sum(),
            cpu_seconds: runs.iter().map(|run| run.cpu_nanos).sum::<u64>() as f64 / 1e9,
            failures: runs.iter().flat_map(failures).collect(),
            missed: Vec::new(),
        };
        summary.missed = summary.missed(Bars::default());
        summary
    }

    /// The bars that these times miss.
    pub fn missed(&self, bars: Bars) -> Vec<String> {
        let crash = self.times.get(&How::Crash).cloned().unwrap_or_default();
        let mean_nanos = if crash.runs < MEAN_OF { 0 } else { crash.mean_nanos };
        let checks = [
            ("crash, worst", crash.worst_nanos, bars.crash_worst_nanos),
            ("crash, mean", mean_nanos, bars.crash_mean_nanos),
            ("graceful, worst", self.graceful.worst_nanos, bars.graceful_worst_nanos),
        ];
        let over = checks.into_iter().filter(|(_, took, bar)| took > bar);
        over.map(|(what, took, bar)| format!("{what}: {}, and the bar is {}", ms(took), ms(bar)))
            .collect()
    }

    /// What the program's exit code says, the worst first.
    pub fn exit_code(&self) -> u8 {
        let has = |is: fn(&Failure) -> bool| self.failures.iter().any(|(_, failure)| is(failure));
        if has(|failure| matches!(failure, Failure::Crash(_))) {
            4
        } else if has(|failure| matches!(failure, Failure::Safety(_))) {
            1
        } else if !self.failures.is_empty() || !self.missed.is_empty() {
            3
        } else {
            0
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.times.is_empty() {
            let _ = writeln!(
                text,
                "{:<20} {:>7} {:>11} {:>11} {:>11} {:>11}  of seed",
                "the leader's", "runs", "mean", "p50", "p99", "worst"
            );
            let rows = self.times.iter().map(|(how, times)| (how.name(), times));
            let all = ("all but crashes", &self.graceful);
            for (name, times) in rows.chain((self.graceful.runs > 0).then_some(all)) {
                let _ = writeln!(
                    text,
                    "{name:<20} {:>7} {:>11} {:>11} {:>11} {:>11}  {}",
                    times.runs,
                    ms(times.mean_nanos),
                    ms(times.p50_nanos),
                    ms(times.p99_nanos),
                    ms(times.worst_nanos),
                    times.worst_seed
                );
            }
        }
        if self.plan.hours > 0 {
            let _ = writeln!(
                text,
                "{:.1} hours watched with {} % of frames lost",
                self.watched_seconds as f64 / 3_600.0,
                f64::from(self.plan.loss_per_mille) / 10.0
            );
        }
        let _ = writeln!(
            text,
            "{} false failovers; {} calls ({} answered), {} events, {:.1} s CPU",
            self.false_failovers, self.calls.0, self.calls.1, self.events, self.cpu_seconds
        );
        for missed in &self.missed {
            let _ = writeln!(text, "MISSED  {missed}");
        }
        let seeds: BTreeSet<u64> = self.failures.iter().map(|(seed, _)| *seed).collect();
        if !seeds.is_empty() {
            let shown: Vec<String> = seeds.iter().take(20).map(u64::to_string).collect();
            let more = if seeds.len() > 20 { ", …" } else { "" };
            let _ = writeln!(text, "{} seeds failed: {}{more}", seeds.len(), shown.join(", "));
        }
        if self.exit_code() == 0 {
            let _ = writeln!(text, "within all bars");
        }
        text
    }
}

fn ms(nanos: u64) -> String {
    format!("{}.{} ms", nanos / 1_000_000, nanos / 100_000 % 10)
}

/// Adds up the shards of a plan: their summaries, each with the name of where it is from, and all their runs.
///
/// # Errors
///
/// When they are parts of different plans, or one of them is missing, unfinished or there twice.
pub fn merge(parts: &[(String, Summary)], runs: &[Run]) -> Result<Summary, String> {
    let Some((first_name, first)) = parts.first() else {
        return Err("there is nothing to add up".into());
    };
    let of = first.shard.of;
    let mut seen = BTreeMap::new();
    for (name, part) in parts {
        if part.plan != first.plan || part.shard.of != of {
            return Err(format!(
                "{name} and {first_name} are of different plans:\n  {:?}, shard {}\n  {:?}, shard {}",
                part.plan, part.shard, first.plan, first.shard
            ));
        }
        if let Some(other) = seen.insert(part.shard, name) {
            return Err(format!("shard {} is there twice: {other} and {name}", part.shard));
        }
    }
    let all = (0..of).map(|index| Shard { index, of });
    let missing: Vec<_> =
        all.filter(|shard| !seen.contains_key(shard)).map(|shard| shard.to_string()).collect();
    if !missing.is_empty() {
        return Err(format!("missing: shard {}", missing.join(", ")));
    }
    let distinct: BTreeSet<_> = runs.iter().map(|run| (run.how.is_none(), run.seed)).collect();
    let due = first.plan.count(Shard::default());
    if distinct.len() as u64 != due || runs.len() as u64 != due {
        return Err(format!("there are {} runs, and there should be {due}", runs.len()));
    }
    Ok(Summary::new(first.plan.clone(), Shard::default(), runs))
}
