//! `dunlin bench`: what a user of Dunlin sees, next to what QUIC alone can do on the same machine.
//!
//! Every figure comes from processes of their own at each end, pinned to the same CPU unless told
//! otherwise, so that a rate is the inverse of what an operation costs at both ends together. Machines
//! differ; what counts is the ratio to the baseline *of the same run*, so rounds of the two alternate
//! and are compared in pairs.

mod baseline;
mod events;
mod events_baseline;
mod measure;
mod mesh;
mod network;
mod processes;
mod report;
mod workload;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use network::RunNetwork;
use processes::{Contender, Task};
use report::Report;
use workload::{Setting, Workload};

use crate::output::{Fail, Output};

/// Measure this machine: calls, connections, bulk, events, next to QUIC alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunlin bench latency                     one call at a time: median and 99th percentile
  dunlin bench calls --size 64             calls a second with 64 outstanding
  dunlin bench calls --datagram 1452       with datagrams as the internet carries them
  dunlin bench events                      deliveries a second from one node to eight
  dunlin bench bulk --json | jq .ratio     one object a setting, for a script

Dunlin's nodes are in a network with tokens, which is made for the run: every call needs a permission.
In `connect` both ends verify the other's token anew at every connection: the cache of verified tokens
is off. The baseline proves keys at both ends, too, and knows no tokens.

A ratio compares Dunlin with the quinn crate alone, tuned, in rounds that alternate. Other work on the
machine disturbs both, and the median of the pairs least.")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One call at a time: how long until its answer is back.
    Latency(Options),
    /// Many calls at a time: calls a second, and what one costs.
    Calls(Options),
    /// A new connection and its first call, with tokens that are verified anew: how long they take.
    Connect(Options),
    /// Large messages one way, each acknowledged by an empty answer: bytes a second.
    Bulk(Options),
    /// Events of one publisher to eight subscribers, each a process: deliveries a second, and whether any was lost.
    Events(Options),
    /// One end of a measurement. Started by the others.
    #[command(hide = true)]
    End {
        /// What to do, as JSON.
        task: String,
    },
}

#[derive(Clone, Debug, Args)]
struct Options {
    /// How long one round measures, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// How many rounds; medians are shown.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Bytes of a message; several, separated by commas, are measured one after the other
    /// [default: 64; calls: 64,1024; bulk: 65536].
    #[arg(long, value_delimiter = ',')]
    size: Vec<usize>,
    /// Calls under way, or events published, at one time [default: calls: 64; bulk: 16; events: 256].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    outstanding: Option<u32>,
    /// UDP payload of a full datagram, in bytes: 6500 suits loopback and jumbo networks, 1452 the
    /// internet. Several, separated by commas, are measured one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [6_500],
          value_parser = clap::value_parser!(u16).range(1_200..))]
    datagram: Vec<u16>,
    /// CPUs that both ends may use, separated by commas. One makes rates comparable; two show what a
    /// pair of machines would do.
    #[arg(long, value_delimiter = ',', default_values_t = [0])]
    cpus: Vec<usize>,
    /// Measure Dunlin alone.
    #[arg(long)]
    no_baseline: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.01 to 3600 is needed".into()),
    }
}

/// What can go wrong; it is shown as it is.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command.
pub(crate) fn run(args: BenchArgs, output: Output) -> ExitCode {
    match try_run(args, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.fail(&Fail::new("BENCH", error.to_string())),
    }
}

fn try_run(args: BenchArgs, output: Output) -> Result<(), Failure> {
    let (workload, options) = match args.command {
        Command::Latency(options) => (Workload::Latency, options),
        Command::Calls(options) => (Workload::Calls, options),
        Command::Connect(options) => (Workload::Connect, options),
        Command::Bulk(options) => (Workload::Bulk, options),
        Command::Events(options) => (Workload::Events, options),
        Command::End { task } => return processes::serve_as_end(&task),
    };
    let sizes = if options.size.is_empty() { workload.default_sizes() } else { &options.size[..] };
    for &datagram in &options.datagram {
        for &size in sizes {
            let outstanding =
                options.outstanding.filter(|_| workload.is_parallel()).map(|n| n as usize);
            let setting = Setting {
                workload,
                size,
                outstanding: outstanding.unwrap_or(workload.default_outstanding()),
                datagram,
                seconds: options.seconds,
            };
            let report = compare(setting, &options)?;
            output.say(report.to_string(), || report.to_json());
        }
    }
    Ok(())
}

/// Alternates rounds of Dunlin and of the baseline.
fn compare(setting: Setting, options: &Options) -> Result<Report, Failure> {
    let contenders: &[Contender] = if options.no_baseline {
        &[Contender::Dunlin]
    } else {
        &[Contender::Quinn, Contender::Dunlin]
    };
    let network = RunNetwork::found()?;
    let mut report = Report::new(setting);
    for _ in 0..options.rounds {
        for &contender in contenders {
            let (cpus, network) = (options.cpus.clone(), network.clone());
            let task = Task { contender, setting, cpus, network, servers: Vec::new() };
            report.add(contender, processes::measure(&task)?);
        }
    }
    Ok(report)
}
