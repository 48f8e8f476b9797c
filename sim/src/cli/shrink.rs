//! `dunlin-sim shrink`: a failing schedule, made small enough to read.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use dunlin_sim::shrink::{Options, Progress, Shrunk, shrink};
use dunlin_sim::{BuiltIn, report};
use serde_json::json;

use crate::cli::output::{note, redraw, say};
use crate::cli::source::{Source, replay_line};

/// What to shrink, and how long to try.
#[derive(Args)]
pub(crate) struct Shrink {
    #[command(flatten)]
    source: Source,
    /// Where to save what is left; by default beside you, under the name of the seed or the file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Give up after so many runs. What is left then still fails, and may not be minimal.
    #[arg(long, default_value_t = Options::default().runs_max)]
    runs: u64,
    /// Threads; by default as many as there are CPUs. What comes out does not depend on it.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Print a JSON line.
    #[arg(long)]
    json: bool,
}

impl Shrink {
    /// Shrinks and reports.
    pub(crate) fn run(self) -> ExitCode {
        self.try_run().unwrap_or_else(|code| code)
    }

    fn try_run(self) -> Result<ExitCode, ExitCode> {
        let schedule = self.source.schedule()?;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let options = Options {
            runs_max: self.runs,
            jobs: self.jobs.map_or(cpus, usize::from),
            ..Options::default()
        };
        let shown = Shown::new();
        let shrunk = shrink(
            &schedule,
            &options,
            &|schedule| Box::new(BuiltIn::new(schedule)),
            &|progress| {
                shown.step(progress, self.runs);
            },
        );
        shown.clear();
        let Some(mut shrunk) = shrunk else {
            note("there is nothing to shrink: the run is clean");
            return Err(ExitCode::from(2));
        };
        if shrunk.schedule.comment.is_empty() {
            shrunk.schedule.comment =
                format!("{}; shrunk from {}", shrunk.failure, self.source.stem());
        }
        let stem = self.source.stem();
        let file = self.output.unwrap_or_else(|| format!("{stem}-shrunk.json").into());
        if let Err(error) = std::fs::write(&file, shrunk.schedule.to_json()) {
            note(&format!("{} cannot be written: {error}", file.display()));
            return Err(ExitCode::from(2));
        }
        let again = replay_line(&file);
        if self.json {
            let Shrunk { failure, before, after, runs, is_minimal, outcome, .. } = &shrunk;
            say(&json!({
                "type": "shrunk", "failure": failure, "before": before, "after": after,
                "runs": runs, "minimal": is_minimal, "hash": outcome.hash, "file": file,
            })
            .to_string());
        } else {
            say(&format!("before: {}", shrunk.before));
            say(&format!("after:  {}", shrunk.after));
            say(&match shrunk.is_minimal {
                true => format!(
                    "1-minimal after {} runs: nothing can be taken out or halved without losing the failure",
                    shrunk.runs
                ),
                false => format!(
                    "stopped after {} runs: more of them may shrink it further",
                    shrunk.runs
                ),
            });
            say(&format!("saved:  {}", file.display()));
            say(&report::failure_by(&shrunk.outcome, &again));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How far it is: a line that changes on a terminal, a plain line now and then elsewhere.
struct Shown {
    terminal: bool,
    last: Mutex<Instant>,
}

impl Shown {
    fn new() -> Self {
        Shown { terminal: std::io::stderr().is_terminal(), last: Mutex::new(Instant::now()) }
    }

    fn step(&self, progress: Progress, runs_max: u64) {
        let every = Duration::from_millis(if self.terminal { 200 } else { 10_000 });
        // Whoever else is at it shows it.
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() < every {
            return;
        }
        *last = Instant::now();
        let text = format!("{} of at most {runs_max} runs: {}", progress.runs, progress.size);
        match self.terminal {
            true => redraw(&text),
            false => note(&text),
        }
    }

    fn clear(&self) {
        if self.terminal {
            redraw("");
        }
    }
}
