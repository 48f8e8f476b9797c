//! Many seeds on several threads, reported in the order of their seeds; and the same on several machines.
//!
//! A campaign may be split into shards, each of which runs every n-th seed. Shards know nothing of each other; what
//! they come to is added up by [`merge`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use serde::{Deserialize, Serialize};

use crate::draw::{draw_sized, fidelity_of};
use crate::faults::{FaultKind, Tally, TallyLine};
use crate::run::{Outcome, Verdict, run};
use crate::schedule::{Crypto, Fidelity, PROGRAM};
use crate::sometimes::{self, Reached};

/// Which seeds to run, and how.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many, in all shards together.
    pub seeds: u64,
    /// Which of them: a part of all, or all.
    pub shard: Shard,
    /// One fidelity for all; without it each seed draws its own.
    pub fidelity: Option<Fidelity>,
    /// One crypto for all packets; without it each seed draws its own.
    pub crypto: Option<Crypto>,
    /// Large worlds of so many nodes, instead of those that the seeds draw by themselves.
    pub nodes: Option<u16>,
    /// How many threads; 0 is one too.
    pub jobs: usize,
    /// Stop at the first seed that fails.
    pub fail_fast: bool,
}

/// Every n-th seed of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// Which shard, from 0.
    pub index: u64,
    /// Of how many.
    pub of: u64,
}

impl Default for Shard {
    /// All seeds.
    fn default() -> Self {
        Shard { index: 0, of: 1 }
    }
}

impl Shard {
    /// How many of so many seeds it has.
    pub fn count(self, seeds: u64) -> u64 {
        (seeds + self.of - 1 - self.index) / self.of
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/');
        let parsed = numbers.and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((index, of)) if index < of => Ok(Shard { index, of }),
            _ => Err("a shard is INDEX/COUNT, and the first index is 0: 0/4, 1/4, 2/4, 3/4".into()),
        }
    }
}

/// What makes shards parts of one campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The program and its version.
    pub program: String,
    /// The first seed.
    pub from: u64,
    /// How many, in all shards.
    pub seeds: u64,
    /// One fidelity for all, or drawn.
    pub fidelity: Option<Fidelity>,
    /// One crypto for all, or drawn.
    pub crypto: Option<Crypto>,
    /// Large worlds of so many nodes, or what is drawn.
    #[serde(default)]
    pub nodes: Option<u16>,
}

/// Which fidelity a seed has, told or drawn. Asking for a crypto asks for packets, and for a large world else for
/// frames.
pub fn choose(
    seed: u64,
    fidelity: Option<Fidelity>,
    crypto: Option<Crypto>,
    nodes: Option<u16>,
) -> (Fidelity, Crypto) {
    let (drawn_fidelity, drawn_crypto) = fidelity_of(seed);
    let fidelity = match (fidelity, crypto, nodes) {
        (Some(fidelity), ..) => fidelity,
        (None, Some(_), _) => Fidelity::Packets,
        (None, None, Some(_)) => Fidelity::Frames,
        (None, None, None) => drawn_fidelity,
    };
    (fidelity, crypto.unwrap_or(drawn_crypto))
}

/// Scenarios of one kind, and how fast they were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The campaign.
    pub plan: Plan,
    /// Which part of it this is.
    pub shard: Shard,
    /// It stopped at a seed that failed, before its end.
    pub stopped: bool,
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
    /// Kinds of fault that were applied often enough to be judged, and never changed anything: the campaign is invalid.
    pub toothless: Vec<String>,
    /// Kinds of fault that never changed anything, in too few applications to judge them.
    #[serde(default)]
    pub not_shown: Vec<String>,
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

    /// Adds another shard.
    fn absorb(&mut self, part: &Summary) -> Result<(), String> {
        for (name, other) in &part.shares {
            let share = self.shares.entry(name.clone()).or_default();
            share.scenarios += other.scenarios;
            share.events += other.events;
            share.calls += other.calls;
            share.answered += other.answered;
            share.published += other.published;
            share.delivered += other.delivered;
            share.simulated_seconds += other.simulated_seconds;
            share.cpu_seconds += other.cpu_seconds;
        }
        self.tally.add_lines(&part.faults)?;
        sometimes::add(&mut self.sometimes, &part.sometimes);
        sometimes::add(&mut self.ends, &part.ends);
        let lists = [
            (&mut self.safety, &part.safety),
            (&mut self.liveness, &part.liveness),
            (&mut self.crashes, &part.crashes),
            (&mut self.faultless, &part.faultless),
        ];
        for (seeds, others) in lists {
            seeds.extend(others);
            seeds.sort_unstable();
        }
        self.stopped |= part.stopped;
        Ok(())
    }

    fn finish(&mut self) {
        for share in self.shares.values_mut() {
            share.scenarios_per_cpu_second = share.scenarios as f64 / share.cpu_seconds;
            share.events_per_cpu_second = share.events as f64 / share.cpu_seconds;
        }
        self.faults = self.tally.lines();
        let names = |kinds: Vec<FaultKind>| kinds.iter().map(|kind| kind.name().into()).collect();
        let (toothless, not_shown) = self.tally.toothless();
        (self.toothless, self.not_shown) = (names(toothless), names(not_shown));
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

/// Does `work` for every seed of a shard, on several threads. `report` sees what comes of it in the order of the seeds,
/// until it has seen enough.
pub(crate) fn in_order<T: Send>(
    (from, seeds, shard): (u64, u64, Shard),
    jobs: usize,
    work: impl Fn(u64) -> T + Sync,
    mut report: impl FnMut(T) -> ControlFlow<()>,
) {
    let seeds = shard.count(seeds);
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel::<(u64, T)>();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (sender, next, stop, work) = (sender.clone(), &next, &stop, &work);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= seeds {
                        return;
                    }
                    let done = work(from + shard.index + index * shard.of);
                    if sender.send((index, done)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (index, done) in receiver {
            early.insert(index, done);
            while let Some(done) = early.remove(&due) {
                due += 1;
                // Seeds behind the last that is reported are not.
                if !stop.load(Ordering::Relaxed) && report(done).is_break() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    });
}

/// Runs a campaign. `report` sees every outcome, in the order of the seeds.
pub fn run_campaign(campaign: &Campaign, mut report: impl FnMut(&Outcome)) -> Summary {
    let plan = Plan {
        program: PROGRAM.into(),
        from: campaign.from,
        seeds: campaign.seeds,
        fidelity: campaign.fidelity,
        crypto: campaign.crypto,
        nodes: campaign.nodes,
    };
    let mut summary = Summary { plan, shard: campaign.shard, ..Summary::default() };
    let work = |seed| {
        let Campaign { fidelity, crypto, nodes, .. } = *campaign;
        let (fidelity, crypto) = choose(seed, fidelity, crypto, nodes);
        run(&draw_sized(seed, fidelity, crypto, nodes))
    };
    let seeds = (campaign.from, campaign.seeds, campaign.shard);
    in_order(seeds, campaign.jobs, work, |outcome| {
        summary.add(&outcome);
        report(&outcome);
        summary.stopped = campaign.fail_fast && outcome.verdict != Verdict::Clean;
        if summary.stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    summary.finish();
    summary
}

/// Adds up the shards of a campaign. Each comes with the name of where it is from.
///
/// # Errors
///
/// When they are parts of different campaigns, or one of them is missing, unfinished or there twice.
pub fn merge(parts: &[(String, Summary)]) -> Result<Summary, String> {
    let Some((first_name, first)) = parts.first() else {
        return Err("there is nothing to add up".into());
    };
    let of = first.shard.of;
    let mut sum = Summary { plan: first.plan.clone(), ..Summary::default() };
    let mut seen = BTreeMap::new();
    for (name, part) in parts {
        if part.plan != first.plan || part.shard.of != of {
            return Err(format!(
                "{name} and {first_name} are of different campaigns:\n  {:?}, shard {}\n  {:?}, shard {}",
                part.plan, part.shard, first.plan, first.shard
            ));
        }
        if let Some(other) = seen.insert(part.shard, name) {
            return Err(format!("shard {} is there twice: {other} and {name}", part.shard));
        }
        let scenarios: u64 = part.shares.values().map(|share| share.scenarios).sum();
        let due = part.shard.count(part.plan.seeds);
        if scenarios != due && !part.stopped {
            return Err(format!(
                "shard {} in {name} has {scenarios} scenarios; it should have {due}",
                part.shard
            ));
        }
        sum.absorb(part).map_err(|error| format!("{name}: {error}"))?;
    }
    let all = (0..of).map(|index| Shard { index, of });
    let missing: Vec<_> =
        all.filter(|shard| !seen.contains_key(shard)).map(|shard| shard.to_string()).collect();
    if !missing.is_empty() {
        return Err(format!("missing: shard {}", missing.join(", ")));
    }
    sum.finish();
    Ok(sum)
}
