//! Many seeds on several threads, reported in the order of their seeds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use serde::Serialize;

use crate::draw::{draw, fidelity_of};
use crate::faults::{Tally, TallyLine};
use crate::run::{Outcome, Verdict, run};
use crate::schedule::{Crypto, Fidelity};
use crate::sometimes::{self, Reached};

/// Which seeds to run, and how.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// One fidelity for all; without it each seed draws its own.
    pub fidelity: Option<Fidelity>,
    /// One crypto for all packets; without it each seed draws its own.
    pub crypto: Option<Crypto>,
    /// How many threads; 0 is one too.
    pub jobs: usize,
    /// Stop at the first seed that fails.
    pub fail_fast: bool,
}

/// Which fidelity a seed has, told or drawn. Asking for a crypto asks for packets.
pub fn choose(seed: u64, fidelity: Option<Fidelity>, crypto: Option<Crypto>) -> (Fidelity, Crypto) {
    let (drawn_fidelity, drawn_crypto) = fidelity_of(seed);
    let fidelity = match (fidelity, crypto) {
        (Some(fidelity), _) => fidelity,
        (None, Some(_)) => Fidelity::Packets,
        (None, None) => drawn_fidelity,
    };
    (fidelity, crypto.unwrap_or(drawn_crypto))
}

/// Scenarios of one kind, and how fast they were.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Share {
    pub scenarios: u64,
    pub events: u64,
    pub calls: u64,
    pub answered: u64,
    pub published: u64,
    pub delivered: u64,
    pub simulated_seconds: u64,
    pub cpu_seconds: f64,
    pub scenarios_per_cpu_second: f64,
    pub events_per_cpu_second: f64,
}

/// What a campaign came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// By fidelity and crypto.
    pub shares: BTreeMap<String, Share>,
    /// All faults together.
    pub faults: Vec<TallyLine>,
    /// Rare states, and how often they were reached: 0 says that a campaign never got there.
    pub sometimes: Reached,
    /// How calls ended.
    pub ends: BTreeMap<String, u64>,
    /// Seeds that broke a safety rule.
    pub safety: Vec<u64>,
    /// Seeds that did not come to rest.
    pub liveness: Vec<u64>,
    /// Seeds in which the code under test panicked.
    pub crashes: Vec<u64>,
    /// Seeds in which no fault changed anything: they do not count.
    pub faultless: Vec<u64>,
    /// Kinds of fault that were applied and never changed anything.
    pub toothless: Vec<&'static str>,
    #[serde(skip)]
    tally: Tally,
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        let name = match outcome.fidelity {
            Fidelity::Frames => "frames".to_string(),
            Fidelity::Packets => format!("packets, {}", outcome.crypto),
        };
        let share = self.shares.entry(name).or_default();
        share.scenarios += 1;
        share.events += outcome.events;
        share.calls += outcome.calls;
        share.answered += outcome.answered;
        share.published += outcome.published;
        share.delivered += outcome.delivered;
        share.simulated_seconds += outcome.simulated_nanos / 1_000_000_000;
        share.cpu_seconds += outcome.cpu_nanos as f64 / 1e9;
        self.tally.add(&outcome.faults);
        sometimes::add(&mut self.sometimes, &outcome.sometimes);
        for (end, count) in &outcome.ends {
            *self.ends.entry(end.clone()).or_default() += count;
        }
        match outcome.verdict {
            Verdict::Clean if !outcome.faults.any_effective() => self.faultless.push(outcome.seed),
            Verdict::Clean => {}
            Verdict::Safety { .. } => self.safety.push(outcome.seed),
            Verdict::Liveness { .. } => self.liveness.push(outcome.seed),
            Verdict::Crash { .. } => self.crashes.push(outcome.seed),
        }
    }

    fn finish(&mut self) {
        for share in self.shares.values_mut() {
            share.scenarios_per_cpu_second = share.scenarios as f64 / share.cpu_seconds;
            share.events_per_cpu_second = share.events as f64 / share.cpu_seconds;
        }
        self.faults = self.tally.lines();
        self.toothless = self.tally.toothless().into_iter().map(|kind| kind.name()).collect();
    }

    /// What the program's exit code says, the worst first.
    pub fn exit_code(&self) -> u8 {
        if !self.crashes.is_empty() {
            4
        } else if !self.safety.is_empty() {
            1
        } else if !self.liveness.is_empty() {
            3
        } else if !self.faultless.is_empty() || !self.toothless.is_empty() {
            5
        } else {
            0
        }
    }
}

/// Runs a campaign. `report` sees every outcome, in the order of the seeds.
pub fn run_campaign(campaign: &Campaign, mut report: impl FnMut(&Outcome)) -> Summary {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel::<Outcome>();
    let mut summary = Summary::default();
    std::thread::scope(|scope| {
        for _ in 0..campaign.jobs.max(1) {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= campaign.seeds {
                        return;
                    }
                    let seed = campaign.from + index;
                    let (fidelity, crypto) = choose(seed, campaign.fidelity, campaign.crypto);
                    let outcome = run(&draw(seed, fidelity, crypto));
                    if sender.send(outcome).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = campaign.from;
        for outcome in receiver {
            early.insert(outcome.seed, outcome);
            while let Some(outcome) = early.remove(&due) {
                due += 1;
                if stop.load(Ordering::Relaxed) {
                    // Seeds behind the first that failed are not reported.
                    continue;
                }
                summary.add(&outcome);
                report(&outcome);
                if campaign.fail_fast && outcome.verdict != Verdict::Clean {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    });
    summary.finish();
    summary
}
