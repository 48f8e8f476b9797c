//! How long a single-active service has no leader, and whether it changes hands without a reason: small and calm worlds,
//! many of them, measured and held to the bars of the protocol (section 6).
//!
//! ```text
//! a seed -> Scenario: three or five acceptors, a leader, who stands by, a client that keeps calling
//!        -> Departure: the leader crashes at a drawn moment, or gives its lease up: stop, pause, step-down
//!        -> Run: from that moment to the next leader's first answer
//!
//! a seed -> Scenario: the same for an hour in which frames are lost, and nobody leaves
//!        -> Run: how often the lease changed hands all the same
//! ```
//!
//! The worlds are ordinary schedules with the real mesh at frames fidelity, so all checks of a run are on: never two
//! holders, tokens that grow. What a run needs more is in `workload.rs`.

mod scenario;
mod summary;
mod workload;

use dunlin_core::lease::Token;
use serde::{Deserialize, Serialize};

use crate::campaign::{Shard, in_order};
use crate::checks::seconds;
use crate::history::Violation;
use crate::run::{Verdict, run_with};
use crate::schedule::Schedule;
use workload::{Caller, Seen};

pub use scenario::{Departure, How, Scenario, calm_hour, departure};
pub use summary::{Bars, Summary, Times, merge};

/// What one run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// How the leader went; nothing in an hour in which nobody leaves.
    pub how: Option<How>,
    /// How many acceptors there were.
    pub acceptors: usize,
    /// How many nodes.
    pub nodes: usize,
    /// From the leader's departure to the next leader's first answer at the client, in nanoseconds.
    pub took_nanos: Option<u64>,
    /// How often the lease was granted anew although its holder neither crashed nor gave it up.
    pub false_failovers: u64,
    /// Calls made, and calls answered.
    pub calls: (u64, u64),
    /// For how long the lease was watched, in simulated seconds.
    pub watched_seconds: u64,
    /// Of which the trace had this hash.
    pub hash: Option<String>,
    /// Deliveries, timers, operations and faults.
    pub events: u64,
    /// CPU time, in nanoseconds. Not the same in every run.
    pub cpu_nanos: u64,
    /// What was broken.
    pub failures: Vec<Failure>,
}

/// Something that a run broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "what", rename_all = "snake_case")]
pub enum Failure {
    /// What must never happen: two holders, a token that does not grow, a failover without a reason.
    Safety(String),
    /// What must happen in time.
    Liveness(String),
    /// The code under test panicked.
    Crash(String),
}

/// Runs a scenario and measures.
pub fn run(scenario: &Scenario) -> Run {
    let caller = Caller::new(scenario.leader);
    let outcome = run_with(&scenario.schedule, &caller, None);
    let seen = caller.seen();
    let mut failures = Vec::new();
    let said = |broken: &Violation| format!("{}: {}", broken.rule, broken.what);
    match &outcome.verdict {
        Verdict::Clean => {}
        Verdict::Safety { violations } => {
            failures.extend(violations.iter().map(|broken| Failure::Safety(said(broken))));
        }
        Verdict::Liveness { violations } => {
            failures.extend(violations.iter().map(|broken| Failure::Liveness(said(broken))));
        }
        Verdict::Crash { message, .. } => failures.push(Failure::Crash(message.clone())),
    }
    let mut run = Run {
        seed: scenario.schedule.seed,
        how: scenario.departure.map(|departure| departure.how),
        acceptors: scenario.schedule.acceptors.len(),
        nodes: scenario.schedule.nodes.len(),
        took_nanos: None,
        false_failovers: 0,
        calls: (outcome.calls, outcome.answered),
        watched_seconds: 0,
        hash: outcome.hash,
        events: outcome.events,
        cpu_nanos: outcome.cpu_nanos,
        failures,
    };
    run.judge(scenario, &seen);
    if run.failures.is_empty() && !outcome.faults.any_effective() && scenario.needs_fault() {
        // A run that proves nothing must not pass.
        run.failures.push(Failure::Liveness("its fault changed nothing".into()));
    }
    run
}

impl Run {
    fn judge(&mut self, scenario: &Scenario, seen: &Seen) {
        let end = scenario.schedule.duration_us * 1_000;
        let Some(first) = seen.grants.first() else {
            return self.failures.push(Failure::Liveness("nobody ever led".into()));
        };
        if first.life.node != scenario.leader {
            let what = format!("n{} led first, not n{}", first.life.node, scenario.leader);
            return self.failures.push(Failure::Liveness(what));
        }
        self.watched_seconds = end.saturating_sub(first.at) / 1_000_000_000;
        let left_at = scenario.departure.map(|departure| departure.at_us * 1_000);
        // One change has a reason.
        let mut owed = left_at;
        for grant in seen.grants.iter().skip(1).take_while(|grant| grant.at < end) {
            if owed.take_if(|left_at| grant.at >= *left_at).is_some() {
                continue;
            }
            self.false_failovers += 1;
            let what = format!(
                "{} got the lease at {} by token {}, and nobody had given it up",
                grant.life,
                seconds(grant.at),
                grant.token
            );
            self.failures.push(Failure::Safety(what));
        }
        let Some(left_at) = left_at else { return };
        let is_next = |token: &Token, at: u64| *token > first.token && at >= left_at;
        let next = seen.answers.iter().find(|(token, at)| is_next(token, **at));
        self.took_nanos = next.map(|(_, at)| at - left_at);
        if self.took_nanos.is_none() && self.failures.is_empty() {
            let what = format!("no next leader has answered within {}", seconds(end - left_at));
            self.failures.push(Failure::Liveness(what));
        }
    }
}

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The program and its version.
    pub program: String,
    /// The first seed, of departures and of hours.
    pub from: u64,
    /// So many departures.
    pub seeds: u64,
    /// So many hours in which nobody leaves.
    pub hours: u64,
    /// Of a thousand frames so many are lost in those hours.
    pub loss_per_mille: u32,
}

impl Plan {
    /// How many runs a shard has.
    pub fn count(&self, shard: Shard) -> u64 {
        shard.count(self.seeds) + shard.count(self.hours)
    }

    /// Runs the plan, or a shard of it. `report` sees every run, the departures first, in the order of their seeds.
    pub fn run(&self, shard: Shard, jobs: usize, mut report: impl FnMut(&Run)) -> Summary {
        let mut runs = Vec::new();
        let mut take = |run: Run| {
            report(&run);
            runs.push(run);
            std::ops::ControlFlow::Continue(())
        };
        let hour = |seed| run(&calm_hour(seed, self.loss_per_mille));
        in_order((self.from, self.seeds, shard), jobs, |seed| run(&departure(seed)), &mut take);
        in_order((self.from, self.hours, shard), jobs, hour, &mut take);
        Summary::new(self.clone(), shard, &runs)
    }

    /// The schedule of its first run.
    pub fn first(&self) -> Schedule {
        let scenario = match self.seeds {
            0 => calm_hour(self.from, self.loss_per_mille),
            _ => departure(self.from),
        };
        scenario.schedule
    }
}
