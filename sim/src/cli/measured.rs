//! What `failover`, `load` and campaigns have in common: which seeds are run, by how many threads, and how they are told of.

use std::process::ExitCode;

use clap::Args;
use dunlin_sim::campaign::Shard;
use serde::Serialize;

use crate::cli::json_line;
use crate::cli::output::{note, say};

/// Which part of the seeds is run, and how.
#[derive(Args)]
pub(crate) struct Measured {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u64,
    /// Run a part of them: every N-th, the first index is 0.
    #[arg(long, value_name = "INDEX/COUNT", default_value_t)]
    pub(crate) shard: Shard,
    /// Threads; by default as many as there are CPUs.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Print a JSON line a run, and one at the end.
    #[arg(long, conflicts_with = "schedule")]
    pub(crate) json: bool,
    /// Run nothing: print the schedule of the first run as JSON, for `replay` and `view`.
    #[arg(long)]
    pub(crate) schedule: bool,
}

/// So many seeds from this one on are numbers of 64 bits; or what the program ends with.
pub(crate) fn check_range(from: u64, seeds: u64) -> Result<(), ExitCode> {
    if seeds > 0 && from.checked_add(seeds - 1).is_none() {
        note(&format!("there are no {seeds} seeds from {from} on: the last one is {}", u64::MAX));
        return Err(ExitCode::from(2));
    }
    Ok(())
}

impl Measured {
    pub(crate) fn jobs(&self) -> usize {
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(cpus, usize::from)
    }

    /// Prints what all runs come to.
    pub(crate) fn say_summary(&self, kind: &str, summary: &impl Serialize, text: &str) {
        say(&if self.json { json_line(kind, summary) } else { text.trim_end().to_string() });
    }
}
