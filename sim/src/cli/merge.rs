//! `dunlin-sim merge`: what the shards of a campaign come to together.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use dunlin_sim::campaign::{Summary, merge};
use dunlin_sim::junit::{Case, xml};
use dunlin_sim::report;
use serde_json::Value;

use crate::cli::{json_line, say};

/// Which files to add up.
#[derive(Args)]
pub(crate) struct Merge {
    /// Files with what `run --seeds N --shard I/N --json` prints; `-` is standard input. One may hold several shards.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write JUnit XML, with a test case for each seed, into this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print a JSON line.
    #[arg(long)]
    json: bool,
}

impl Merge {
    /// Adds up and reports. The exit code is that of the whole campaign.
    pub(crate) fn run(self) -> ExitCode {
        match self.try_run() {
            Ok(summary) => ExitCode::from(summary.exit_code()),
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
        }
    }

    fn try_run(&self) -> Result<Summary, String> {
        let (mut parts, mut cases) = (Vec::new(), Vec::new());
        for file in &self.files {
            let (summaries, found) =
                read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            parts.extend(summaries.into_iter().map(|part| (file.display().to_string(), part)));
            cases.extend(found);
        }
        let summary = merge(&parts)?;
        if let Some(file) = &self.junit {
            write_junit(file, &cases)?;
        }
        say(&match self.json {
            true => json_line("summary", &summary),
            false => report::summary(&summary).trim_end().to_string(),
        });
        Ok(summary)
    }
}

/// Writes the cases of a campaign.
pub(crate) fn write_junit(file: &Path, cases: &[Case]) -> Result<(), String> {
    std::fs::write(file, xml(cases))
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

fn read(file: &Path) -> Result<(Vec<Summary>, Vec<Case>), String> {
    let mut text = String::new();
    match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        false => std::fs::read_to_string(file).map(|read| text = read),
    }
    .map_err(|error| error.to_string())?;
    let (mut summaries, mut cases) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |error: serde_json::Error| format!("line {number}: {error}");
        let value: Value = serde_json::from_str(line).map_err(wrong)?;
        if value["type"] == "summary" {
            summaries.push(serde_json::from_value(value).map_err(wrong)?);
        } else {
            cases.extend(Case::of_line(&value));
        }
    }
    match summaries.is_empty() {
        true => Err("there is no summary in it: the shard has not come to its end".into()),
        false => Ok((summaries, cases)),
    }
}
