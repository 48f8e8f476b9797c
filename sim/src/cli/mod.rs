//! The command line.

#[cfg(dunlin_planted)]
mod drill;
mod explore;
mod failover;
mod load;
mod locate;
mod measured;
mod merge;
mod output;
mod see;
mod shrink;
mod source;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use dunlin_sim::campaign::{Campaign, Shard, Summary, run_campaign};
use dunlin_sim::junit::Case;
use dunlin_sim::queue::Queue;
use dunlin_sim::{BuiltIn, Outcome, Schedule, Verdict, report, run_with, thread_cpu_nanos};

#[cfg(dunlin_planted)]
use drill::Drill;
use explore::Explore;
use failover::Failover;
use load::Load;
use locate::Locate;
use merge::{Merge, write_junit};
use output::{note, redraw, say};
use see::{Export, View};
use shrink::Shrink;
use source::Kind;

const EXAMPLES: &str = "\
Examples:
  cargo sim run --seeds 2000               a campaign; fidelities are mixed
  cargo sim run --seeds 2000 --shard 0/4 --json > 0.jsonl    a quarter of them, on this machine
  cargo sim merge 0.jsonl 1.jsonl 2.jsonl 3.jsonl            what the quarters come to
  cargo sim run --seed 7                   one run, and the hash of its trace
  cargo sim run --seed 7 --log             the same, with a line an event
  cargo sim run --seed 7 --nodes 10000     a large world: each node is linked to a few others
  cargo sim schedule --seed 7 > seven.json what seed 7 does, as data
  cargo sim replay seven.json              runs it, edited or not
  cargo sim view --seed 7 -o seven.html    the same as a picture, in a page
  cargo sim export --seed 7 --format pcapng --crypto tls -o seven.pcapng    for Wireshark
  cargo sim shrink --seed 7                makes what fails small enough to read
  cargo sim locate seed-7-shrunk.json      from when on the failure is certain
  cargo sim explore glare                  two nodes that dial each other, every interleaving
  cargo sim failover --seeds 1000          how soon another leads when a leader crashes or stops
  cargo sim load --seeds 300               that overload ends with its cause, and restarts lose no call

Exit codes:
  0  every run was clean
  1  a safety rule was broken
  2  the command line or a file could not be read
  3  a run did not come to rest after its faults
  4  the code under test panicked
  5  the campaign is not valid: a run had no effective fault, or a kind of fault that was on 100 times (mtu, replay,
     dials: 300 times) never changed anything

A reader of the output that goes away, as `head` does, changes neither the run nor its exit code.";

/// Runs whole networks of Dunlin nodes under faults, deterministically, and checks them.
#[derive(Parser)]
#[command(name = "dunlin-sim", version, after_help = EXAMPLES)]
struct Cli {
    /// Run with a planted bug: see `dunlin_core::planted`.
    #[cfg(dunlin_planted)]
    #[arg(long, global = true, default_value_t = 0)]
    planted: u32,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed, or many.
    #[command(after_help = EXAMPLES)]
    Run(Run),
    /// Prints the schedule of a seed as JSON.
    Schedule {
        /// The seed.
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        kind: Kind,
    },
    /// Runs a schedule from a file.
    Replay {
        /// A file as `schedule` prints it.
        file: PathBuf,
        /// Print a line an event: its time, its node, a column for each node, and what happened.
        #[arg(long)]
        log: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Runs a seed or a schedule, and writes a page that shows what happened: it opens in any browser.
    View(View),
    /// Runs a seed or a schedule, and writes what happened for another program.
    Export(Export),
    /// Makes a failing schedule small enough to read.
    Shrink(Shrink),
    /// Finds where two runs part, or from when on a failure is certain.
    Locate(Locate),
    /// Adds up the shards of a campaign.
    Merge(Merge),
    /// Goes through all states of a small world, whatever the order of events.
    #[command(subcommand)]
    Explore(Explore),
    /// Measures how long a single-active service has no leader, and holds it to the bars.
    Failover(Failover),
    /// Strains services under load, and looks whether the trouble ends with its cause.
    Load(Load),
    /// Measures how many seeds find each planted bug, and writes the table.
    #[cfg(dunlin_planted)]
    Drill(Drill),
    /// Measures the bare event loop.
    Bench,
}

#[derive(Args)]
struct Run {
    /// Run so many seeds.
    #[arg(long, conflicts_with = "seed", required_unless_present = "seed")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, requires = "seeds", default_value_t = 0)]
    from: u64,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    kind: Kind,
    /// Run a part of the seeds: every N-th, the first index is 0. `merge` adds up what the parts print with --json.
    #[arg(long, requires = "seeds", value_name = "INDEX/COUNT", default_value_t)]
    shard: Shard,
    /// Write JUnit XML, with a test case for each seed, into this file.
    #[arg(long, requires = "seeds", value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Threads; by default as many as there are CPUs.
    #[arg(long, requires = "seeds", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Print a JSON line a run, and one at the end.
    #[arg(long)]
    json: bool,
    /// Stop at the first seed that fails.
    #[arg(long, requires = "seeds")]
    fail_fast: bool,
    /// Print a line an event: its time, its node, a column for each node, and what happened.
    #[arg(long, visible_alias = "verbose", requires = "seed", conflicts_with = "json")]
    log: bool,
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(dunlin_planted)]
    dunlin_core::planted::set(cli.planted);
    match cli.command {
        Command::Run(run) => match run.seed {
            Some(seed) => one(&run.kind.schedule(seed), run.log, run.json, &report::failure),
            None => many(&run),
        },
        Command::Schedule { seed, kind } => {
            say(kind.schedule(seed).to_json().trim_end());
            ExitCode::SUCCESS
        }
        Command::Replay { file, log, json } => match source::read(&file) {
            Ok(schedule) => {
                let again = source::replay_line(&file);
                one(&schedule, log, json, &|outcome| report::failure_by(outcome, &again))
            }
            Err(code) => code,
        },
        Command::View(view) => view.run(),
        Command::Export(export) => export.run(),
        Command::Shrink(shrink) => shrink.run(),
        Command::Locate(locate) => locate.run(),
        Command::Merge(merge) => merge.run(),
        #[cfg(dunlin_planted)]
        Command::Drill(drill) => drill.run(),
        Command::Explore(explore) => explore.run(),
        Command::Failover(failover) => failover.run(),
        Command::Load(load) => load.run(),
        Command::Bench => bench(),
    }
}

pub(crate) fn json_line(kind: &str, value: &impl serde::Serialize) -> String {
    let mut value = serde_json::to_value(value).expect("plain data");
    value["type"] = kind.into();
    value.to_string()
}

fn one(
    schedule: &Schedule,
    log: bool,
    json: bool,
    failure: &dyn Fn(&Outcome) -> String,
) -> ExitCode {
    let log: Option<Box<dyn Write + Send>> =
        log.then(|| Box::new(std::io::BufWriter::new(std::io::stdout())) as _);
    let outcome = run_with(schedule, &BuiltIn::new(schedule), log);
    if json {
        say(&json_line("scenario", &outcome));
    } else {
        say(&report::line(&outcome));
        for line in outcome.faults.lines() {
            say(&format!(
                "  {}: {} applied, {} effective",
                line.kind, line.applied, line.effective
            ));
        }
        if outcome.verdict != Verdict::Clean {
            say(&failure(&outcome));
        }
    }
    let code = match outcome.verdict {
        Verdict::Clean if !outcome.faults.any_effective() => 5,
        Verdict::Clean => 0,
        Verdict::Safety { .. } => 1,
        Verdict::Liveness { .. } => 3,
        Verdict::Crash { .. } => 4,
    };
    ExitCode::from(code)
}

fn many(run: &Run) -> ExitCode {
    let seeds = run.seeds.expect("clap asks for it");
    if let Err(code) = measured::check_range(run.from, seeds) {
        return code;
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let campaign = Campaign {
        from: run.from,
        seeds,
        shard: run.shard,
        fidelity: run.kind.fidelity,
        crypto: run.kind.crypto,
        nodes: run.kind.nodes,
        jobs: run.jobs.map_or(cpus, usize::from),
        fail_fast: run.fail_fast,
    };
    let mut progress = Progress::new(campaign.shard.count(campaign.seeds));
    let mut cases = Vec::new();
    let summary: Summary = run_campaign(&campaign, |outcome: &Outcome| {
        if run.junit.is_some() {
            let line = serde_json::to_value(outcome).expect("plain data");
            cases.extend(Case::of_line(&line));
        }
        if run.json {
            say(&json_line("scenario", outcome));
        } else if outcome.verdict != Verdict::Clean {
            progress.clear();
            say(&report::failure(outcome));
        }
        progress.step();
    });
    progress.clear();
    if run.json {
        say(&json_line("summary", &summary));
    } else {
        say(report::summary(&summary).trim_end());
    }
    if let Some(Err(error)) = run.junit.as_ref().map(|file| write_junit(file, &cases)) {
        note(&error.to_string());
        return ExitCode::from(2);
    }
    ExitCode::from(summary.exit_code())
}

/// How far a campaign is: one line that changes on a terminal, a plain line now and then elsewhere.
struct Progress {
    total: u64,
    done: u64,
    begun: Instant,
    shown: Instant,
    terminal: bool,
}

impl Progress {
    fn new(total: u64) -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Progress { total, done: 0, begun: now, shown: now, terminal }
    }

    fn step(&mut self) {
        self.done += 1;
        let every = Duration::from_millis(if self.terminal { 200 } else { 10_000 });
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let rate = self.done as f64 / self.begun.elapsed().as_secs_f64();
        let left = (self.total - self.done) as f64 / rate;
        let text =
            format!("{}/{} seeds, {rate:.1} a second, {left:.0} s left", self.done, self.total);
        if self.terminal {
            redraw(&text);
        } else {
            note(&text);
        }
    }

    fn clear(&self) {
        if self.terminal {
            redraw("");
        }
    }
}

/// Empty events through the loop's queue, a thousand under way at a time.
fn bench() -> ExitCode {
    const EVENTS: u64 = 20_000_000;
    let mut queue = Queue::default();
    for event in 0..1_000u64 {
        queue.push(event * 37 % 1_009, event);
    }
    let begun = thread_cpu_nanos();
    let mut sum = 0u64;
    for _ in 0..EVENTS {
        let (at, event) = queue.pop().expect("each event asks for the next");
        sum = sum.wrapping_mul(31).wrapping_add(at ^ event);
        queue.push(at + 1 + event * 7_919 % 1_000, event);
    }
    let cpu_seconds = (thread_cpu_nanos() - begun) as f64 / 1e9;
    let rate = EVENTS as f64 / cpu_seconds;
    say(&format!("empty events: {:.1} M per CPU-second (check {sum:016x})", rate / 1e6));
    ExitCode::SUCCESS
}
