//! `dunlin-sim view` and `dunlin-sim export`: what a run looked like, for people and for other programs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use dunlin_sim::export::{pcapng, shiviz};
use dunlin_sim::schedule::Fidelity;
use dunlin_sim::{BuiltIn, Extent, Recording, report, run_recorded, view};

use crate::cli::output::{note, say};
use crate::cli::source::{Source, replay_line};

/// Which run is recorded, and how much of it.
#[derive(Args)]
pub(crate) struct Recorded {
    #[command(flatten)]
    source: Source,
    /// Messages from this time on, in simulated seconds.
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS", value_parser = time)]
    from: f64,
    /// Messages before this time, in simulated seconds; without it, to the end.
    #[arg(long, value_name = "SECONDS", value_parser = time)]
    until: Option<f64>,
    /// At most so many messages; of more, the newest stay.
    #[arg(long, default_value_t = Extent::default().entries_max, value_name = "COUNT")]
    messages_max: usize,
}

fn time(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    match seconds.is_finite() && seconds >= 0.0 {
        true => Ok(seconds),
        false => Err("a time is not below zero".into()),
    }
}

/// A run as a page.
#[derive(Args)]
pub(crate) struct View {
    #[command(flatten)]
    recorded: Recorded,
    /// Where the page goes.
    #[arg(long, short, default_value = "run.html")]
    output: PathBuf,
}

impl Recorded {
    /// Runs, and says what it came to; or what the program ends with.
    fn run(&self, datagrams: bool) -> Result<Recording, ExitCode> {
        if let Some(until) = self.until.filter(|until| *until <= self.from) {
            return Err(refuse(&format!(
                "nothing is from {} s on and before {until} s",
                self.from
            )));
        }
        let schedule = self.source.schedule()?;
        let nanos = |seconds: f64| (seconds * 1e9) as u64;
        let extent = Extent {
            from: nanos(self.from),
            until: self.until.map_or(u64::MAX, nanos),
            entries_max: self.messages_max,
            datagrams,
        };
        let (outcome, mut recording) = run_recorded(&schedule, &BuiltIn::new(&schedule), extent);
        say(&report::line(&outcome));
        if let Some(file) = &self.source.file {
            recording.summary.reproduce = replay_line(file);
        }
        let left_out = recording.left_out;
        if left_out.messages + left_out.marks > 0 {
            note(&format!(
                "note: {} messages and {} marks before {:.3} s were left out: the newest {} stay. To see others, give \
                 --from and --until; for more, --messages-max",
                left_out.messages,
                left_out.marks,
                left_out.before as f64 / 1e9,
                self.messages_max
            ));
        }
        Ok(recording)
    }
}

/// Writes a file, or says why not.
fn write(file: &Path, content: &[u8]) -> Result<(), ExitCode> {
    std::fs::write(file, content).map_err(|error| refuse(&format!("{}: {error}", file.display())))
}

/// What the program ends with when it cannot do what it was told.
fn refuse(why: &str) -> ExitCode {
    note(why);
    ExitCode::from(2)
}

fn done(result: Result<(), ExitCode>) -> ExitCode {
    result.err().unwrap_or(ExitCode::SUCCESS)
}

impl View {
    /// Runs, and writes the page.
    pub(crate) fn run(&self) -> ExitCode {
        done(self.try_run())
    }

    fn try_run(&self) -> Result<(), ExitCode> {
        let recording = self.recorded.run(false)?;
        let page = view::page(&recording);
        write(&self.output, page.as_bytes())?;
        let megabytes = page.len() as f64 / 1e6;
        say(&format!(
            "{} messages, {megabytes:.1} MB: {}",
            recording.messages.len(),
            self.output.display()
        ));
        Ok(())
    }
}

/// The format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A log with vector clocks, for ShiViz.
    Shiviz,
    /// The datagrams, for Wireshark; the secrets of TLS go into a file beside it, and inside. Implies `--fidelity packets`.
    Pcapng,
    /// Everything that was recorded, as data.
    Json,
}

/// A run for another program.
#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    recorded: Recorded,
    /// What it is to be read by.
    #[arg(long, value_enum)]
    format: Format,
    /// Where it goes; by default `run` with the format's ending.
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// ShiViz: also keep-alives, heartbeats, and the packets that frames travel in.
    #[arg(long)]
    upkeep: bool,
}

impl Export {
    /// Runs, and writes the files.
    pub(crate) fn run(self) -> ExitCode {
        done(self.try_run())
    }

    fn try_run(mut self) -> Result<(), ExitCode> {
        let ending = match self.format {
            Format::Shiviz => "log",
            Format::Pcapng => "pcapng",
            Format::Json => "json",
        };
        let output = self.output.take().unwrap_or_else(|| Path::new("run").with_extension(ending));
        let is_capture = self.format == Format::Pcapng;
        let source = &mut self.recorded.source;
        if is_capture && source.file.is_none() {
            if source.kind.fidelity == Some(Fidelity::Frames) {
                return Err(refuse("at frames fidelity there are no datagrams to capture"));
            }
            source.kind.fidelity = Some(Fidelity::Packets);
        }
        let recording = self.recorded.run(is_capture)?;
        let content = match self.format {
            Format::Shiviz => shiviz::log(&recording, self.upkeep).into_bytes(),
            Format::Json => {
                let json = serde_json::to_vec(&recording);
                json.map_err(|error| refuse(&error.to_string()))?
            }
            Format::Pcapng if recording.summary.fidelity == Fidelity::Frames.to_string() => {
                let why = "the schedule is of frames fidelity: there are no datagrams to capture";
                return Err(refuse(why));
            }
            Format::Pcapng => pcapng::capture(&recording),
        };
        write(&output, &content)?;
        if is_capture {
            let keys = pcapng::keys(&recording);
            let datagrams = recording.datagrams.len();
            say(&format!("{datagrams} datagrams: {}", output.display()));
            if !keys.is_empty() {
                let beside = output.with_extension("keys");
                write(&beside, keys.as_bytes())?;
                say(&format!("{} secrets: {}", recording.secrets.len(), beside.display()));
            }
        } else {
            say(&format!("{} bytes: {}", content.len(), output.display()));
        }
        Ok(())
    }
}
