//! `dunlin-sim locate`: where two runs part, and from when on a failure is certain.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use dunlin_sim::locate::{Mark, Which, agreeing, decisive, hashes, lines_between, parting};
use dunlin_sim::schedule::PROGRAM;
use dunlin_sim::{BuiltIn, Schedule, Workload};
use serde_json::json;

use crate::cli::output::{note, say};
use crate::cli::source::{Source, read};

const HELP: &str = "\
Without an option: from when on does a failing run fail, whatever happens to its messages then?
  cargo sim locate fails.json              reseeds the fate of messages from a moment on, and bisects

Where do two runs part?
  cargo sim locate a.json --with b.json
  cargo sim locate a.json --without-fault 2
and two builds? One prints its hashes, the other compares:
  cargo sim locate a.json --hashes > hashes.txt
  cargo sim locate a.json --against hashes.txt

Exit codes: 0 found, or nothing to find; 1 two builds part; 2 bad usage.";

/// What to look for.
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Locate {
    #[command(flatten)]
    source: Source,
    /// Find where it parts from this schedule.
    #[arg(long, value_name = "FILE", group = "what")]
    with: Option<PathBuf>,
    /// Find where it parts from itself without this fault; 1 is the first.
    #[arg(long, value_name = "NUMBER", group = "what")]
    without_fault: Option<usize>,
    /// Print the hash of the trace before one in so many steps, for another build.
    #[arg(long, group = "what")]
    hashes: bool,
    /// Compare with hashes that another build has printed.
    #[arg(long, value_name = "FILE", group = "what")]
    against: Option<PathBuf>,
    /// With --hashes: one in so many steps.
    #[arg(long, default_value_t = 1_000, requires = "hashes", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// With --hashes: from this step on.
    #[arg(long, default_value_t = 0, requires = "hashes")]
    from: u64,
    /// With --hashes: up to this step.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true, requires = "hashes")]
    to: u64,
    /// How many futures are tried for each moment.
    #[arg(long, default_value_t = 20, conflicts_with = "what", value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// Threads; by default as many as there are CPUs.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Print a JSON line.
    #[arg(long, conflicts_with = "hashes")]
    json: bool,
}

fn built_in(schedule: &Schedule) -> Box<dyn Workload> {
    Box::new(BuiltIn::new(schedule))
}

fn seconds(nanos: u64) -> String {
    format!("{}.{:06}s", nanos / 1_000_000_000, nanos / 1_000 % 1_000_000)
}

/// Lines of the log that are shown of a moment.
const LINES_MAX: usize = 12;
/// How much of the log is looked at before and behind a moment, in nanoseconds.
const AROUND: u64 = 200_000_000;

impl Locate {
    /// Looks and reports.
    pub(crate) fn run(self) -> ExitCode {
        self.try_run().unwrap_or_else(|code| code)
    }

    fn try_run(&self) -> Result<ExitCode, ExitCode> {
        let schedule = self.source.schedule()?;
        if let Some(other) = &self.with {
            return Ok(self.part(&schedule, &read(other)?));
        }
        if let Some(number) = self.without_fault {
            let mut other = schedule.clone();
            if number == 0 || number > other.faults.len() {
                note(&format!("there is no fault {number}; there are 1 to {}", other.faults.len()));
                return Err(ExitCode::from(2));
            }
            let gone = other.faults.remove(number - 1);
            note(&format!("without {:?}, from {}", gone.what, seconds(gone.at_us * 1_000)));
            return Ok(self.part(&schedule, &other));
        }
        if self.hashes {
            let Locate { every, from, to, .. } = *self;
            let (_, marks) =
                hashes(&schedule, &built_in, Which { every, from, to, only_nodes: false });
            say(&format!("# {PROGRAM}, seed {}: step, nanoseconds, hash", schedule.seed));
            for mark in marks {
                say(&format!("{} {} {}", mark.step, mark.at, mark.hash));
            }
            return Ok(ExitCode::SUCCESS);
        }
        match &self.against {
            Some(file) => self.compare(&schedule, file),
            None => Ok(self.decide(&schedule)),
        }
    }

    fn part(&self, a: &Schedule, b: &Schedule) -> ExitCode {
        let Some(parting) = parting(a, b, &built_in) else {
            say(&match self.json {
                true => json!({"type": "parting", "step": null}).to_string(),
                false => "the nodes take the same steps in both runs".to_string(),
            });
            return ExitCode::SUCCESS;
        };
        if self.json {
            let line = json!({"type": "parting", "step": parting.step, "next": parting.next});
            say(&line.to_string());
            return ExitCode::SUCCESS;
        }
        say(&format!("{} steps of the nodes are the same; then", parting.step));
        for ((name, schedule), mark) in [("one", a), ("other", b)].into_iter().zip(&parting.next) {
            say(&match mark {
                Some(Mark { at, node, what, .. }) => {
                    format!("  in the {name}, {}: n{node}: {what}", seconds(*at))
                }
                None => format!("  the {name} is over"),
            });
            if let Some(mark) = mark {
                show_lines(&lines_between(schedule, &built_in, mark.at, mark.at), LINES_MAX);
            }
        }
        ExitCode::SUCCESS
    }

    fn compare(&self, schedule: &Schedule, file: &Path) -> Result<ExitCode, ExitCode> {
        let theirs = read_hashes(file).map_err(|error| {
            note(&format!("{}: {error}", file.display()));
            ExitCode::from(2)
        })?;
        let first = theirs.first().map_or(0, |mark| mark.step);
        let every = theirs.get(1).map_or(1, |second| (second.step - first).max(1));
        let which = Which { every, from: first, to: u64::MAX, only_nodes: false };
        let (_, ours) = hashes(schedule, &built_in, which);
        let agreed = agreeing(&ours, &theirs);
        if agreed == theirs.len() {
            say(&match self.json {
                true => json!({"type": "builds", "agree": true, "hashes": agreed}).to_string(),
                false => format!("all {agreed} hashes agree"),
            });
            return Ok(ExitCode::SUCCESS);
        }
        let from = agreed.checked_sub(1).map_or(0, |last| ours[last].step);
        let to = theirs[agreed].step;
        if self.json {
            say(&json!({"type": "builds", "agree": false, "from": from, "to": to}).to_string());
            return Ok(ExitCode::from(1));
        }
        if to > from + 1 {
            say(&format!("the builds part between step {from} and step {to}. In the other build:"));
            say(&format!("  cargo sim locate … --hashes --every 1 --from {from} --to {to}"));
        } else {
            say(&format!("the builds part at step {from}. In this one it is"));
            let one = Which { every: 1, from, to, only_nodes: false };
            let (_, marks) = hashes(schedule, &built_in, one);
            if let Some(Mark { at, node, what, .. }) = marks.first() {
                say(&format!("  {}: n{node}: {what}", seconds(*at)));
                show_lines(&lines_between(schedule, &built_in, *at, *at), LINES_MAX);
            }
        }
        Ok(ExitCode::from(1))
    }

    fn decide(&self, schedule: &Schedule) -> ExitCode {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.map_or(cpus, usize::from);
        let Some(found) = decisive(schedule, &built_in, self.tries, jobs) else {
            note("the run is clean: nothing was decided");
            return ExitCode::from(2);
        };
        if self.json {
            let mut line = serde_json::to_value(&found).expect("plain data");
            line["type"] = "decisive".into();
            say(&line.to_string());
            return ExitCode::SUCCESS;
        }
        say(&format!("{}, at {}", found.failure, seconds(found.fails_at)));
        for chance in &found.chances {
            let bar = "#".repeat((chance.failing * 40 / chance.tries) as usize);
            let share = f64::from(chance.failing) / f64::from(chance.tries) * 100.0;
            say(&format!("{:>14}  {share:>4.0} %  {bar}", seconds(chance.at)));
        }
        if found.at == 0 {
            say("it fails from the start, whatever becomes of its messages");
            return ExitCode::SUCCESS;
        }
        say(&format!(
            "from {} on it fails in each of {} futures; a little before not in all. Around it:",
            seconds(found.at),
            self.tries
        ));
        let before = lines_between(schedule, &built_in, found.at.saturating_sub(AROUND), found.at);
        show_lines(&before[before.len().saturating_sub(LINES_MAX)..], LINES_MAX);
        say("  ---");
        show_lines(&lines_between(schedule, &built_in, found.at + 1, found.at + AROUND), LINES_MAX);
        ExitCode::SUCCESS
    }
}

fn show_lines(lines: &[String], most: usize) {
    for line in lines.iter().take(most) {
        say(&format!("  {line}"));
    }
    if lines.len() > most {
        say(&format!("  … and {} lines more", lines.len() - most));
    }
}

/// Reads what `--hashes` prints.
fn read_hashes(file: &Path) -> Result<Vec<Mark>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let mut marks = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('#') {
            continue;
        }
        let wrong =
            || format!("line {number}: expected a step, its nanoseconds and a hash: {line}");
        let fields: Vec<&str> = line.split(' ').collect();
        let [step, at, hash] = fields[..] else { return Err(wrong()) };
        let step = step.parse().map_err(|_| wrong())?;
        let at = at.parse().map_err(|_| wrong())?;
        marks.push(Mark { step, at, node: 0, what: "", hash: hash.to_string() });
    }
    match marks.is_empty() {
        true => Err("there are no hashes in it".into()),
        false => Ok(marks),
    }
}
