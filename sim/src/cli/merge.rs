//! `dunlin-sim merge`: what the shards of a campaign, or of `failover`, come to together.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use dunlin_sim::campaign::{Summary, merge};
use dunlin_sim::junit::{Case, xml};
use dunlin_sim::{failover, report};
use serde_json::Value;

use crate::cli::json_line;
use crate::cli::output::{note, say};

/// Which files to add up.
#[derive(Args)]
pub(crate) struct Merge {
    /// Files with what `run --seeds N --shard I/N --json` prints, or `failover` likewise; `-` is standard input. One may
    /// hold several shards.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write JUnit XML, with a test case for each seed, into this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print a JSON line.
    #[arg(long)]
    json: bool,
}

/// What is found in files.
#[derive(Default)]
struct Found {
    campaigns: Vec<(String, Summary)>,
    cases: Vec<Case>,
    failovers: Vec<(String, failover::Summary)>,
    runs: Vec<failover::Run>,
}

impl Merge {
    /// Adds up and reports. The exit code is that of the whole campaign.
    pub(crate) fn run(self) -> ExitCode {
        match self.try_run() {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                note(&error.to_string());
                ExitCode::from(2)
            }
        }
    }

    fn try_run(&self) -> Result<u8, String> {
        let mut found = Found::default();
        for file in &self.files {
            found.read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        let (line, code) = match (&found.campaigns[..], &found.failovers[..]) {
            (parts, []) => {
                let summary = merge(parts)?;
                let text = report::summary(&summary);
                (if self.json { json_line("summary", &summary) } else { text }, summary.exit_code())
            }
            ([], parts) => {
                let summary = failover::merge(parts, &found.runs)?;
                let json = || json_line("failover_summary", &summary);
                (if self.json { json() } else { summary.text() }, summary.exit_code())
            }
            _ => return Err("a campaign and failovers do not add up".into()),
        };
        if let Some(file) = &self.junit {
            write_junit(file, &found.cases)?;
        }
        say(line.trim_end());
        Ok(code)
    }
}

/// Writes the cases of a campaign.
pub(crate) fn write_junit(file: &Path, cases: &[Case]) -> Result<(), String> {
    std::fs::write(file, xml(cases))
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

impl Found {
    fn read(&mut self, file: &Path) -> Result<(), String> {
        let mut text = String::new();
        match file.as_os_str() == "-" {
            true => std::io::stdin().read_to_string(&mut text).map(|_| ()),
            false => std::fs::read_to_string(file).map(|read| text = read),
        }
        .map_err(|error| error.to_string())?;
        let before = self.campaigns.len() + self.failovers.len();
        let name = || file.display().to_string();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |error: serde_json::Error| format!("line {number}: {error}");
            let value: Value = serde_json::from_str(line).map_err(wrong)?;
            match value["type"].as_str() {
                Some("summary") => {
                    self.campaigns.push((name(), serde_json::from_value(value).map_err(wrong)?));
                }
                Some("failover_summary") => {
                    self.failovers.push((name(), serde_json::from_value(value).map_err(wrong)?));
                }
                Some("failover") => self.runs.push(serde_json::from_value(value).map_err(wrong)?),
                _ => self.cases.extend(Case::of_line(&value)),
            }
        }
        match self.campaigns.len() + self.failovers.len() == before {
            true => Err("there is no summary in it: the shard has not come to its end".into()),
            false => Ok(()),
        }
    }
}
