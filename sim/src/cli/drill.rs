//! `dunlin-sim drill`: how many seeds it takes to find each planted bug, with which faults. In planted builds only.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use dunlin_core::planted;
use dunlin_sim::draw::draw;
use dunlin_sim::faults::FaultKind;
use dunlin_sim::run::run;
use dunlin_sim::schedule::{Crypto, Fidelity, PROGRAM};
use dunlin_sim::shrink::Failure;

use crate::cli::output::{note, say};

/// What to measure.
#[derive(Args)]
pub(crate) struct Drill {
    /// Only these bugs.
    #[arg(long, value_delimiter = ',')]
    bugs: Vec<u32>,
    /// Only these subsets of faults.
    #[arg(long, value_enum, value_delimiter = ',')]
    subsets: Vec<Subset>,
    /// Over so many ranges of seeds that have none in common.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(6..))]
    ranges: u64,
    /// A range gives up after so many seeds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=RANGE))]
    seeds_max: u64,
    /// Threads; by default as many as there are CPUs.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Where to write the table, as Markdown.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Which faults are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Subset {
    /// As the seed draws them.
    Swarm,
    /// Those of the network alone.
    Network,
    /// Those of nodes and their disks alone.
    Nodes,
    /// Those of rights and clocks alone.
    Rights,
    /// None.
    None,
}

impl Subset {
    const ALL: [Subset; 5] =
        [Subset::Swarm, Subset::Network, Subset::Nodes, Subset::Rights, Subset::None];

    fn name(self) -> &'static str {
        match self {
            Subset::Swarm => "swarm",
            Subset::Network => "network",
            Subset::Nodes => "nodes",
            Subset::Rights => "rights",
            Subset::None => "no faults",
        }
    }

    fn has(self, kind: FaultKind) -> bool {
        let is_of_network = matches!(
            kind,
            FaultKind::Loss
                | FaultKind::Duplicate
                | FaultKind::Corrupt
                | FaultKind::Reorder
                | FaultKind::Slow
                | FaultKind::Partition
                | FaultKind::OneWay
                | FaultKind::Partial
                | FaultKind::Replay
                | FaultKind::Clog
                | FaultKind::Narrow
                | FaultKind::Mtu
        );
        match self {
            Subset::Swarm => true,
            Subset::Network => is_of_network,
            Subset::Nodes => !is_of_network && !kind.is_about_rights(),
            Subset::Rights => kind.is_about_rights(),
            Subset::None => false,
        }
    }
}

/// A range begins at a multiple of this.
const RANGE: u64 = 1_000;
/// A bug that so many ranges do not find is not looked for in the others.
const HOPELESS: usize = 4;

/// How many seeds each range took, in order; one more than allowed stands for not found.
struct Found {
    seeds: Vec<u64>,
    rules: BTreeMap<String, u32>,
}

/// The numbers and sentences of the catalogue.
fn catalogue() -> BTreeMap<u32, &'static str> {
    let rows = include_str!("../../../core/src/planted.rs").lines();
    let cells =
        rows.filter_map(|row| row.strip_prefix("//! | ")?.strip_suffix(" |")?.split_once(" | "));
    cells.filter_map(|(number, what)| Some((number.parse().ok()?, what))).collect()
}

impl Drill {
    /// Measures and reports.
    pub(crate) fn run(self) -> ExitCode {
        let catalogue = catalogue();
        let bugs: Vec<u32> = match self.bugs.is_empty() {
            true => planted::PLANTED.into_iter().flatten().collect(),
            false => self.bugs.clone(),
        };
        let subsets = if self.subsets.is_empty() { &Subset::ALL[..] } else { &self.subsets };
        let mut table = self.head(subsets);
        let mut missed = 0;
        for bug in bugs {
            planted::set(bug);
            let what = catalogue.get(&bug).copied().unwrap_or("");
            let mut row = format!("| {bug} | {what} |");
            let mut rules = BTreeMap::<String, u32>::new();
            let mut is_found = false;
            for subset in subsets {
                let found = self.measure(*subset);
                let cell = self.cell(&found.seeds);
                note(&format!("bug {bug}, {}: {cell}", subset.name()));
                row += &format!(" {cell} |");
                is_found |= found.seeds.iter().any(|seeds| *seeds <= self.seeds_max);
                for (rule, count) in found.rules {
                    *rules.entry(rule).or_default() += count;
                }
            }
            missed += u32::from(!is_found);
            let rule = rules.into_iter().max_by_key(|(_, count)| *count);
            row += &format!(" {} |", rule.map_or_else(String::new, |(rule, _)| rule));
            table += &(row + "\n");
            // It takes long: what is known is written at once.
            if let Err(code) = self.write(&table) {
                return code;
            }
        }
        say(table.trim_end());
        // A bug that no subset finds is a hole in the simulator.
        ExitCode::from(if missed > 0 { 1 } else { 0 })
    }

    fn write(&self, table: &str) -> Result<(), ExitCode> {
        let Some(file) = &self.output else { return Ok(()) };
        std::fs::write(file, table).map_err(|error| {
            note(&format!("{} cannot be written: {error}", file.display()));
            ExitCode::from(2)
        })
    }

    fn head(&self, subsets: &[Subset]) -> String {
        let Drill { ranges, seeds_max, .. } = self;
        let names: Vec<_> = subsets.iter().map(|subset| subset.name()).collect();
        let lines = names.iter().map(|_| "--- | ").collect::<String>();
        format!(
            "# Planted bugs, and how fast the simulator finds them\n\n\
             Each number is how many seeds it takes until a run fails: the median over {ranges} ranges of seeds that have \
             none in common, and in brackets the 95 % interval of the median (by order statistics). A range gives up after \
             {seeds_max} seeds; a subset of faults in which the first {HOPELESS} ranges all gave up counts as not found (–). The last \
             column is the rule that was broken most often. Frames fidelity, {PROGRAM}.\n\n\
             Made by `cargo sim drill` in a planted build.\n\n\
             | bug | what is wrong | {} | rule |\n| --- | --- | {lines}--- |\n",
            names.join(" | ")
        )
    }

    fn measure(&self, subset: Subset) -> Found {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.map_or(cpus, usize::from);
        let next = AtomicU64::new(0);
        let found = Mutex::new(Vec::<(u64, u64, Option<String>)>::new());
        let is_hopeless = |found: &[(u64, u64, Option<String>)]| {
            let mut first: Vec<_> = found.iter().filter(|f| f.0 < HOPELESS as u64).collect();
            first.retain(|(_, _, rule)| rule.is_none());
            first.len() == HOPELESS
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let range = next.fetch_add(1, Ordering::Relaxed);
                        let hopeless = is_hopeless(&found.lock().expect("no run panics"));
                        if range >= self.ranges || hopeless {
                            return;
                        }
                        let (seeds, rule) = self.search(range, subset);
                        found.lock().expect("no run panics").push((range, seeds, rule));
                    }
                });
            }
        });
        let mut found = found.into_inner().expect("no run panics");
        if is_hopeless(&found) {
            // Those that were tried ahead do not count: the result is the same on any number of threads.
            found.retain(|(range, ..)| *range < HOPELESS as u64);
        }
        let mut rules = BTreeMap::new();
        for rule in found.iter().filter_map(|(_, _, rule)| rule.as_ref()) {
            *rules.entry(rule.clone()).or_default() += 1;
        }
        let mut seeds: Vec<_> = found.into_iter().map(|(_, seeds, _)| seeds).collect();
        seeds.sort_unstable();
        Found { seeds, rules }
    }

    /// How many seeds of a range it takes, and what is broken then.
    fn search(&self, range: u64, subset: Subset) -> (u64, Option<String>) {
        for index in 0..self.seeds_max {
            let mut schedule = draw(range * RANGE + index, Fidelity::Frames, Crypto::Null);
            schedule.faults.retain(|fault| subset.has(FaultKind::of(&fault.what)));
            if let Some(failure) = Failure::of(&run(&schedule).verdict) {
                return (index + 1, Some(failure.to_string()));
            }
        }
        (self.seeds_max + 1, None)
    }

    fn cell(&self, seeds: &[u64]) -> String {
        if seeds.len() < self.ranges as usize {
            return "–".into();
        }
        let shown = |seeds: u64| match seeds > self.seeds_max {
            true => format!("> {}", self.seeds_max),
            false => seeds.to_string(),
        };
        let (low, high) = interval(seeds.len());
        let median = seeds[(seeds.len() - 1) / 2];
        format!("{} ({} to {})", shown(median), shown(seeds[low]), shown(seeds[high]))
    }
}

/// The places of the order statistics between which the median lies with at least 95 %: the k-th smallest and the
/// k-th largest, with the largest k for which a fair coin shows fewer than k heads at most 2.5 % of the time.
fn interval(count: usize) -> (usize, usize) {
    let mut tail = 0.0;
    let mut chance = 0.5f64.powi(count as i32);
    let mut k = 0;
    while k < count / 2 && tail + chance <= 0.025 {
        tail += chance;
        chance *= (count - k) as f64 / (k + 1) as f64;
        k += 1;
    }
    let low = k.saturating_sub(1);
    (low, count - 1 - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_tables() {
        // The sixth of twenty, the second of ten and the first of six, as in tables of the sign test.
        assert_eq!((interval(20), interval(10), interval(6)), ((5, 14), (1, 8), (0, 5)));
    }

    #[test]
    fn every_bug_of_the_catalogue_has_its_sentence() {
        let catalogue = catalogue();
        for bug in planted::PLANTED.into_iter().flatten() {
            assert!(catalogue.get(&bug).is_some_and(|what| what.len() > 10), "bug {bug}");
        }
    }
}
