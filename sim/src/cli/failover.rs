//! `dunlin-sim failover`: how long a single-active service has no leader, and that it keeps the one it has.

use std::process::ExitCode;

use clap::Args;
use dunlin_sim::failover::{Failure, Plan, Run};
use dunlin_sim::schedule::PROGRAM;

use crate::cli::measured::{Measured, check_range};
use crate::cli::output::{note, say};
use crate::cli::{Progress, json_line};

/// What to measure.
#[derive(Args)]
#[command(after_help = "\
The bars, for round trips of up to 5 ms and clocks that are right: from a crash to the next leader's first answer at worst \
2,100 ms and on average 1,750 ms; from its giving the lease up 50 ms. And the lease never changes hands without a reason. `merge` adds up what the parts of \
--shard print with --json.

Exit codes:
  0  within all bars
  1  two holders, a token that did not grow, or a failover without a reason
  2  the command line could not be read
  3  a bar was missed, or nobody took over
  4  the code under test panicked")]
pub(crate) struct Failover {
    /// Run so many small worlds whose leader crashes, or gives its lease up.
    #[arg(long, required_unless_present = "hours", default_value_t = 0)]
    seeds: u64,
    /// Run so many hours, each in a world of its own, in which nobody gives the lease up and frames are lost.
    #[arg(long, default_value_t = 0)]
    hours: u64,
    /// So many of a hundred frames are lost in those hours: up to 50, with one digit behind the point.
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = per_mille)]
    loss: u32,
    #[command(flatten)]
    which: Measured,
}

/// Per cent as thousandths.
fn per_mille(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let parsed = whole.parse::<u32>().ok().zip(tenth.parse::<u32>().ok());
    let allowed = parsed
        .filter(|_| tenth.len() == 1)
        .map(|(whole, tenth)| whole.saturating_mul(10).saturating_add(tenth));
    allowed.filter(|per_mille| *per_mille <= 500).ok_or_else(|| {
        "a loss is from 0% to 50%, with at most one digit behind the point: 2.5%".into()
    })
}

impl Failover {
    /// Measures and reports.
    pub(crate) fn run(self) -> ExitCode {
        let which = &self.which;
        let plan = Plan {
            program: PROGRAM.into(),
            from: which.from,
            seeds: self.seeds,
            hours: self.hours,
            loss_per_mille: self.loss,
        };
        if plan.seeds == 0 && plan.hours == 0 {
            note("there is nothing to run: --seeds or --hours must be 1 or more");
            return ExitCode::from(2);
        }
        if let Err(code) = check_range(which.from, self.seeds.max(self.hours)) {
            return code;
        }
        if which.schedule {
            say(plan.first().to_json().trim_end());
            return ExitCode::SUCCESS;
        }
        let mut progress = Progress::new(plan.count(which.shard));
        let summary = plan.run(which.shard, which.jobs(), |run| {
            if which.json {
                say(&json_line("failover", run));
            } else {
                for failure in &run.failures {
                    progress.clear();
                    say(&describe(&plan, run, failure));
                }
            }
            progress.step();
        });
        progress.clear();
        which.say_summary("failover_summary", &summary, &summary.text());
        ExitCode::from(summary.exit_code())
    }
}

/// What a run broke, and the line that runs it again.
fn describe(plan: &Plan, run: &Run, failure: &Failure) -> String {
    let (kind, what) = match failure {
        Failure::Safety(what) => ("SAFETY", what),
        Failure::Liveness(what) => ("LIVENESS", what),
        Failure::Crash(what) => ("CRASH", what),
    };
    let tenths = plan.loss_per_mille;
    let which = match run.how {
        Some(_) => "--seeds 1".to_string(),
        None => format!("--hours 1 --loss {}.{}%", tenths / 10, tenths % 10),
    };
    format!(
        "{kind} in seed {}: {what}\n  reproduce: cargo sim failover {which} --from {}",
        run.seed, run.seed
    )
}
