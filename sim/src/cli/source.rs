//! Where a command takes its schedule from: a seed, or a file.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::RangedI64ValueParser;
use dunlin_sim::Schedule;
use dunlin_sim::campaign::choose;
use dunlin_sim::draw::{LARGE, draw_sized};
use dunlin_sim::schedule::{Crypto, Fidelity, PROGRAM};

use crate::cli::output::note;

/// Which of a seed's worlds.
#[derive(Args)]
pub(crate) struct Kind {
    /// How much of a node is real; drawn from the seed if not given.
    #[arg(long, value_enum)]
    pub(crate) fidelity: Option<Fidelity>,
    /// What protects packets; drawn from the seed if not given. Implies `--fidelity packets`.
    #[arg(long, value_enum)]
    pub(crate) crypto: Option<Crypto>,
    /// A large and calm world of so many nodes, each linked to a few, instead of the small one that the seed draws by
    /// itself: from 13 to 60,000.
    #[arg(long, value_name = "COUNT", value_parser = within(LARGE))]
    pub(crate) nodes: Option<u16>,
}

fn within(range: RangeInclusive<u16>) -> RangedI64ValueParser<u16> {
    RangedI64ValueParser::new().range(i64::from(*range.start())..=i64::from(*range.end()))
}

impl Kind {
    /// The schedule of a seed.
    pub(crate) fn schedule(&self, seed: u64) -> Schedule {
        let (fidelity, crypto) = choose(seed, self.fidelity, self.crypto, self.nodes);
        draw_sized(seed, fidelity, crypto, self.nodes)
    }
}

/// A file, or a seed.
#[derive(Args)]
pub(crate) struct Source {
    /// A file as `schedule` prints it.
    #[arg(required_unless_present = "seed", conflicts_with_all = ["seed", "fidelity", "crypto", "nodes"])]
    pub(crate) file: Option<PathBuf>,
    /// The schedule of this seed.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    pub(crate) kind: Kind,
}

impl Source {
    /// The schedule, or what the program ends with.
    pub(crate) fn schedule(&self) -> Result<Schedule, ExitCode> {
        match (&self.file, self.seed) {
            (Some(file), _) => read(file),
            (None, seed) => Ok(self.kind.schedule(seed.expect("clap asks for one of them"))),
        }
    }

    /// What a file that is made from it is called.
    pub(crate) fn stem(&self) -> String {
        let stem = self.file.as_ref().and_then(|file| file.file_stem());
        match (stem, self.seed) {
            (Some(stem), _) => stem.to_string_lossy().into_owned(),
            (None, seed) => format!("seed-{}", seed.unwrap_or_default()),
        }
    }
}

/// Reads a schedule; says what is wrong with it, and ends with the exit code of bad usage.
pub(crate) fn read(file: &Path) -> Result<Schedule, ExitCode> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
    match text.and_then(|text| Schedule::from_json(&text)) {
        Ok(schedule) => {
            if !schedule.program.is_empty() && schedule.program != PROGRAM {
                note(&format!(
                    "note: {} was made by {}; {PROGRAM} may take other steps",
                    file.display(),
                    schedule.program
                ));
            }
            Ok(schedule)
        }
        Err(error) => {
            note(&format!("{}: {error}", file.display()));
            Err(ExitCode::from(2))
        }
    }
}

/// The line that replays a file, in this build.
pub(crate) fn replay_line(file: &Path) -> String {
    #[cfg(dunlin_planted)]
    let planted = format!(" --planted {}", dunlin_core::planted::chosen());
    #[cfg(not(dunlin_planted))]
    let planted = "";
    format!("cargo sim replay {}{planted}", file.display())
}
