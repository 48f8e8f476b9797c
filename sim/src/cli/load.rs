//! `dunlin-sim load`: whether trouble under load ends with its cause, and whether a rolling restart loses calls.

use std::process::ExitCode;

use clap::Args;
use dunlin_sim::load::{Plan, Strain, draw};
use dunlin_sim::schedule::PROGRAM;

use crate::cli::measured::{Measured, check_range};
use crate::cli::output::say;
use crate::cli::{Progress, json_line};

/// What to run.
#[derive(Args)]
#[command(after_help = "\
Behind a strain at least 98 % of the calls, or as many as before it, are answered from 7 s on, with at most 2 retries for \
100 calls, but for one burst of 5 calls; attempts stay within 110 % of the calls and a few; what runs under a spike is answered in time; and a rolling \
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
    /// What strains the service; drawn from the seed if not given.
    #[arg(long, value_enum)]
    strain: Option<Strain>,
    #[command(flatten)]
    which: Measured,
}

impl Load {
    /// Runs and reports.
    pub(crate) fn run(self) -> ExitCode {
        let which = &self.which;
        if let Err(code) = check_range(which.from, self.seeds) {
            return code;
        }
        if which.schedule {
            say(draw(which.from, self.strain).schedule.to_json().trim_end());
            return ExitCode::SUCCESS;
        }
        let (from, seeds, strain) = (which.from, self.seeds, self.strain);
        let plan = Plan { program: PROGRAM.into(), from, seeds, strain };
        let mut progress = Progress::new(which.shard.count(seeds));
        let summary = plan.run(which.shard, which.jobs(), |run| {
            if which.json {
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
        which.say_summary("load_summary", &summary, &summary.text());
        ExitCode::from(summary.exit_code())
    }
}
