//! `dunlin-sim load`: whether trouble under load ends with its cause, and whether a rolling restart loses calls.

use std::process::ExitCode;

use clap::Args;
use dunlin_sim::campaign::Shard;
use dunlin_sim::load::{Plan, Strain, draw};
use dunlin_sim::schedule::PROGRAM;

use crate::cli::{Progress, json_line, say};

/// What to run.
#[derive(Args)]
#[command(after_help = "\
Behind a strain at least 98 % of the calls, or as many as before it, are answered from 7 s on, with at most 2 retries for \
100 calls; attempts stay within 110 % of the calls and a few; what runs under a spike is answered in time; and a rolling \
restart loses no call.

Exit codes:
  0  all of that held
  1  a safety rule was broken
  2  the command line could not be read
  3  some of it did not hold
  4  the code under test panicked")]
pub(crate) struct Load {
    /// Run so many seeds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// What strains the service; drawn from the seed if not given.
    #[arg(long, value_enum)]
    strain: Option<Strain>,
    /// Run a part of the seeds: every N-th, the first index is 0.
    #[arg(long, value_name = "INDEX/COUNT", default_value_t)]
    shard: Shard,
    /// Threads; by default as many as there are CPUs.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Print a JSON line a run, and one at the end.
    #[arg(long, conflicts_with = "schedule")]
    json: bool,
    /// Run nothing: print the schedule of the first seed as JSON, for `replay` and `view`.
    #[arg(long)]
    schedule: bool,
}

impl Load {
    /// Runs and reports.
    pub(crate) fn run(self) -> ExitCode {
        if self.schedule {
            say(draw(self.from, self.strain).schedule.to_json().trim_end());
            return ExitCode::SUCCESS;
        }
        let (from, seeds, strain) = (self.from, self.seeds, self.strain);
        let plan = Plan { program: PROGRAM.into(), from, seeds, strain };
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let mut progress = Progress::new(self.shard.count(seeds));
        let summary = plan.run(self.shard, self.jobs.map_or(cpus, usize::from), |run| {
            if self.json {
                say(&json_line("load", run));
            } else if let Some(what) = run.failures.first() {
                progress.clear();
                let again = match strain {
                    Some(_) => format!(" --strain {}", run.strain.option()),
                    None => String::new(),
                };
                say(&format!(
                    "FAILED in seed {} ({}): {what}\n  reproduce: cargo sim load --seeds 1 --from {}{again}",
                    run.seed,
                    run.strain.name(),
                    run.seed
                ));
            }
            progress.step();
        });
        progress.clear();
        say(&match self.json {
            true => json_line("load_summary", &summary),
            false => summary.text().trim_end().to_string(),
        });
        ExitCode::from(summary.exit_code())
    }
}
