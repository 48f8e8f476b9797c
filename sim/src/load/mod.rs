//! Services under steady load, while something goes wrong for a while or one instance after the other is restarted: that
//! the trouble ends when its cause does, and that a restart in order costs nobody a call.
//!
//! ```text
//! a seed -> Scenario: instances with bounded capacity, clients that call at a rate near what all instances bear,
//!           whatever becomes of earlier calls; a Strain in the middle
//!        -> Run: what part of the calls was answered before it, during it and behind it
//! ```
//!
//! A system is *metastable* if it stays in its trouble when the cause is gone, because of what it does about it: retries,
//! and work for callers who have given up (Bronson et al., Metastable Failures in Distributed Systems, HotOS 2021). So
//! behind the strain there is a time within which all must be as before.
//!
//! The worlds are ordinary schedules of the built-in workload, so all checks of a run are on, and each can be replayed
//! and looked at. Judged is what the world itself wrote down of every call.

mod judge;
mod scenario;

use serde::{Deserialize, Serialize};

use crate::campaign::{Shard, in_order};

pub use judge::{Run, run};
pub use scenario::{Scenario, Strain, draw};

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The program and its version.
    pub program: String,
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// One strain for all; without it each seed draws its own.
    pub strain: Option<Strain>,
}

/// What the runs under one strain came to: shares are in thousandths of the calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The strain.
    pub strain: Strain,
    /// How many runs.
    pub runs: u64,
    /// The least share of calls that was answered in any run: before, during, and behind the strain.
    pub least_answered: [u32; 3],
    /// The most attempts of any run, in thousandths of its calls.
    pub attempts_most: u32,
    /// The most retries behind the strain, in thousandths of the calls there.
    pub late_retries_most: u32,
    /// The least share of the calls that ran under the strain whose callers were still there.
    pub least_useful: u32,
}

/// What a plan, or a shard of it, came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The plan.
    pub plan: Plan,
    /// Which part of it this is.
    pub shard: Shard,
    /// By strain.
    pub lines: Vec<Line>,
    /// Calls made, and calls answered.
    pub calls: (u64, u64),
    /// CPU time, in seconds. Not the same each time.
    pub cpu_seconds: f64,
    /// What was broken, by seed.
    pub failures: Vec<(u64, String)>,
    /// Some of it was a panic.
    pub crashed: bool,
    /// Some of it was a rule that holds in every run.
    pub broke_safety: bool,
}

impl Plan {
    /// Runs the plan, or a shard of it. `report` sees every run, in the order of the seeds.
    pub fn run(&self, shard: Shard, jobs: usize, mut report: impl FnMut(&Run)) -> Summary {
        let mut summary = Summary { plan: self.clone(), shard, ..Summary::default() };
        let work = |seed| run(&draw(seed, self.strain));
        in_order((self.from, self.seeds, shard), jobs, work, |run| {
            report(&run);
            summary.add(&run);
            std::ops::ControlFlow::Continue(())
        });
        summary
    }
}

impl Summary {
    fn add(&mut self, run: &Run) {
        let place = self.lines.iter().position(|line| line.strain == run.strain);
        let place = place.unwrap_or_else(|| {
            self.lines.push(Line {
                strain: run.strain,
                runs: 0,
                least_answered: [1_000; 3],
                attempts_most: 0,
                late_retries_most: 0,
                least_useful: 1_000,
            });
            self.lines.len() - 1
        });
        let line = &mut self.lines[place];
        line.runs += 1;
        for (least, share) in line.least_answered.iter_mut().zip(run.answered) {
            *least = share.min(*least);
        }
        line.attempts_most = line.attempts_most.max(run.attempts);
        line.late_retries_most = line.late_retries_most.max(run.late_retries);
        line.least_useful = line.least_useful.min(run.useful);
        self.lines.sort_by_key(|line| line.strain);
        self.calls.0 += run.calls.0;
        self.calls.1 += run.calls.1;
        self.cpu_seconds += run.cpu_nanos as f64 / 1e9;
        self.failures.extend(run.failures.iter().map(|what| (run.seed, what.clone())));
        self.crashed |= run.crashed;
        self.broke_safety |= run.broke_safety;
    }

    /// What the program's exit code says, the worst first.
    pub fn exit_code(&self) -> u8 {
        match self.failures.is_empty() {
            true => 0,
            false if self.crashed => 4,
            false if self.broke_safety => 1,
            false => 3,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<18} {:>5}   {:>8} {:>8} {:>8}   {:>8} {:>8} {:>8}",
            "at worst, in %", "runs", "before", "during", "behind", "useful", "attempts", "retries"
        );
        let percent = |thousandths: u32| format!("{}.{}", thousandths / 10, thousandths % 10);
        for line in &self.lines {
            let [before, during, behind] = line.least_answered.map(percent);
            let _ = writeln!(
                text,
                "{:<18} {:>5}   {before:>8} {during:>8} {behind:>8}   {:>8} {:>8} {:>8}",
                line.strain.name(),
                line.runs,
                percent(line.least_useful),
                percent(line.attempts_most),
                percent(line.late_retries_most),
            );
        }
        let (calls, answered) = self.calls;
        let _ =
            writeln!(text, "{calls} calls ({answered} answered), {:.1} s CPU", self.cpu_seconds);
        let seeds: std::collections::BTreeSet<u64> =
            self.failures.iter().map(|(seed, _)| *seed).collect();
        if seeds.is_empty() {
            let _ = writeln!(text, "nothing outlasts its cause");
        } else {
            let shown: Vec<String> = seeds.iter().take(20).map(u64::to_string).collect();
            let more = if seeds.len() > 20 { ", …" } else { "" };
            let _ = writeln!(text, "{} seeds failed: {}{more}", seeds.len(), shown.join(", "));
        }
        text
    }
}
