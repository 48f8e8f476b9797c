//! What a run came to, and whether that is good enough.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use dunlin_core::service::{BoxFuture, Handle, Service};
use serde::{Deserialize, Serialize};

use super::scenario::{Scenario, Strain};
use crate::builtin::BuiltIn;
use crate::history::{CallRecord, End, Ledger};
use crate::run::{Verdict, run_with};
use crate::schedule::Call;
use crate::workload::{NodeInfo, Workload};

/// So often clients tell how many attempts they have made again.
const LOOK: Duration = Duration::from_millis(100);

/// The least share of calls that is answered when nothing is wrong, in thousandths. Below capacity a call is turned away
/// only where many come at once.
const WELL: u32 = 980;
/// The most attempts of all calls: the retry budget's tenth. What it allows beside comes on top.
const ATTEMPTS_MOST: u32 = 1_100;
/// The most retries behind the strain, beside half as many again as before it.
const FADED: u32 = 20;
/// What one burst may turn away beside, in calls: a full queue turns away `1 / (1 - load)` more on average before it has
/// room again, and the load is at most 80 %. Windows of 200 calls have bursts that their 2 % do not cover.
const BURST: u64 = 5;
/// Of the calls that ran under a spike, the least share whose callers still waited: what is let in is answered.
const USEFUL: u32 = 950;
/// What is answered under a spike, of what the instances can bear.
const BORNE: u32 = 800;

/// What one run came to. Shares are in thousandths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// What strained it.
    pub strain: Strain,
    /// What share of the calls was answered: before, during, and behind the strain.
    pub answered: [u32; 3],
    /// Of the calls that ran under the strain, how many were answered.
    pub useful: u32,
    /// Attempts for each call.
    pub attempts: u32,
    /// Retries before the strain for each call there: of calls that come many at once.
    pub early_retries: u32,
    /// Retries behind the strain for each call there.
    pub late_retries: u32,
    /// Calls made, and calls answered.
    pub calls: (u64, u64),
    /// The hash of its trace.
    pub hash: Option<String>,
    /// Deliveries, timers, operations and faults.
    pub events: u64,
    /// CPU time, in nanoseconds. Not the same in every run.
    pub cpu_nanos: u64,
    /// What was broken.
    pub failures: Vec<String>,
    /// It panicked.
    pub crashed: bool,
    /// A rule was broken that holds in every run.
    pub broke_safety: bool,
}

/// The built-in workload, with an ear at how often clients try again.
struct Watched {
    inner: BuiltIn,
    ledger: OnceLock<Arc<Ledger>>,
    clients: u16,
    /// When, at which node, and how many retries there were until then.
    retries: Arc<Mutex<Vec<(u64, u16, u64)>>>,
}

impl Workload for Watched {
    fn services(&self, node: &NodeInfo) -> Vec<Arc<dyn Service>> {
        self.ledger.get_or_init(|| Arc::clone(&node.ledger));
        self.inner.services(node)
    }

    fn service(&self, node: &NodeInfo, number: u16) -> Option<Arc<dyn Service>> {
        self.inner.service(node, number)
    }

    fn start(&self, node: &NodeInfo, handle: Handle) -> Option<BoxFuture<()>> {
        let (node, retries) = (node.clone(), Arc::clone(&self.retries));
        (node.life.node >= self.clients).then(|| {
            Box::pin(async move {
                while !node.ledger.is_broken() {
                    let (at, of, retries) =
                        (node.ledger.now(), node.life.node, Arc::clone(&retries));
                    handle.with(move |_, _, mesh| {
                        let mut retries = retries.lock().expect("nothing panics under this lock");
                        retries.push((at, of, mesh.retries()));
                    });
                    handle.sleep(LOOK).await;
                }
            }) as BoxFuture<()>
        })
    }

    fn perform(&self, node: &NodeInfo, call: &Call, handle: Handle) -> Option<BoxFuture<()>> {
        self.inner.perform(node, call, handle)
    }

    fn sometimes(&self) -> &[&'static str] {
        self.inner.sometimes()
    }

    fn expects_error(&self, error: &str) -> bool {
        self.inner.expects_error(error)
    }
}

impl Watched {
    /// How many retries clients had made by then.
    fn retries_until(&self, at: u64) -> u64 {
        let retries = self.retries.lock().expect("nothing panics under this lock");
        let nodes: std::collections::BTreeSet<u16> = retries.iter().map(|(_, of, _)| *of).collect();
        let last = |node: u16| {
            let until = retries.iter().rev().find(|(when, of, _)| *of == node && *when <= at);
            until.map_or(0, |(_, _, count)| *count)
        };
        nodes.into_iter().map(last).sum()
    }
}

fn share(part: u64, of: u64) -> u32 {
    (part * 1_000).checked_div(of).map_or(1_000, |share| share as u32)
}

/// Runs a scenario and judges it.
pub fn run(scenario: &Scenario) -> Run {
    let watched = Watched {
        inner: BuiltIn::new(&scenario.schedule),
        ledger: OnceLock::new(),
        clients: scenario.servers,
        retries: Arc::default(),
    };
    let outcome = run_with(&scenario.schedule, &watched, None);
    let mut run = Run {
        seed: scenario.schedule.seed,
        strain: scenario.strain,
        answered: [0; 3],
        useful: 1_000,
        attempts: 0,
        early_retries: 0,
        late_retries: 0,
        calls: (outcome.calls, outcome.answered),
        hash: outcome.hash.clone(),
        events: outcome.events,
        cpu_nanos: outcome.cpu_nanos,
        failures: Vec::new(),
        crashed: matches!(outcome.verdict, Verdict::Crash { .. }),
        broke_safety: matches!(outcome.verdict, Verdict::Safety { .. }),
    };
    match &outcome.verdict {
        Verdict::Clean => {}
        Verdict::Crash { message, .. } => run.failures.push(message.clone()),
        Verdict::Safety { violations } | Verdict::Liveness { violations } => {
            let said = violations.iter().map(|broken| format!("{}: {}", broken.rule, broken.what));
            run.failures.extend(said);
        }
    }
    if run.failures.is_empty()
        && let Some(ledger) = watched.ledger.get()
    {
        ledger.with_calls(|calls| run.judge(scenario, &watched, calls));
    }
    run
}

impl Run {
    fn judge(&mut self, scenario: &Scenario, watched: &Watched, calls: &[CallRecord]) {
        let nanos = scenario.windows.map(|(from, until)| (from * 1_000, until * 1_000));
        let is_answered = |call: &&CallRecord| matches!(call.end, Some((_, End::Answered { .. })));
        let within = |(from, until): (u64, u64)| {
            calls.iter().filter(move |call| (from..until).contains(&call.begun))
        };
        // A call that begins just before a window's end may end in the next.
        self.answered = nanos.map(|window| {
            share(within(window).filter(is_answered).count() as u64, within(window).count() as u64)
        });
        let [before, during, behind] = nanos;
        let ran = within(during).filter(|call| call.runs.first().is_some());
        let (all, answered) =
            ran.fold((0, 0), |(all, some), call| (all + 1, some + u64::from(is_answered(&call))));
        self.useful = share(answered, all);
        let (made, retries) = (calls.len() as u64, watched.retries_until(behind.1));
        self.attempts = share(made + retries, made);
        let early = watched.retries_until(before.1) - watched.retries_until(before.0);
        self.early_retries = share(early, within(before).count() as u64);
        let late = retries - watched.retries_until(behind.0);
        self.late_retries = share(late, within(behind).count() as u64);

        let mut fail = |is_bad: bool, what: String| {
            if is_bad {
                self.failures.push(what);
            }
        };
        let [well, strained, again] = self.answered;
        let burst = |window| {
            let calls = (within(window).count() as u64).max(1);
            (BURST * 1_000).div_ceil(calls) as u32
        };
        fail(
            well + burst(before) < WELL,
            format!("{well} of 1,000 calls were answered before anything was wrong"),
        );
        fail(
            again + burst(behind) < WELL.min(well),
            format!(
                "{again} of 1,000 calls were answered when the strain was long over, {well} before it"
            ),
        );
        fail(
            self.late_retries > self.early_retries * 3 / 2 + FADED + burst(behind),
            format!(
                "{} retries for 1,000 calls when the strain was long over, {} before it",
                self.late_retries, self.early_retries
            ),
        );
        // A few come back by themselves, for each client and what it calls.
        let clients = u64::from(scenario.schedule.nodes.len() as u16 - scenario.servers);
        let few = clients * (5 + (behind.1 - before.0) / 5_000_000_000 + 1);
        let most = made * u64::from(ATTEMPTS_MOST) / 1_000 + few;
        fail(
            scenario.strain != Strain::Restarts && made + retries > most,
            format!(
                "{} attempts of {made} calls, and the budget allows for {most}",
                made + retries
            ),
        );
        match scenario.strain {
            Strain::Spike => {
                let lasted = during.1 - during.0;
                let can = scenario.capacity_per_second * lasted / 1_000_000_000;
                let borne = share(within(during).filter(is_answered).count() as u64, can);
                fail(
                    borne < BORNE,
                    format!(
                        "{borne} of 1,000 calls that can be borne were answered under the spike"
                    ),
                );
                fail(
                    self.useful < USEFUL,
                    format!(
                        "{} of 1,000 calls that ran under the spike were answered",
                        self.useful
                    ),
                );
            }
            Strain::Restarts => {
                let lost = calls.iter().filter(|call| !is_answered(call)).count();
                let first = calls.iter().find(|call| !is_answered(call)).map(|call| &call.end);
                fail(
                    lost > 0 || strained < 1_000,
                    format!("{lost} calls were lost in a restart in order, the first: {first:?}"),
                );
            }
            _ => {}
        }
    }
}
