//! `dunlin id`: make and show identities.

use std::path::PathBuf;

use clap::Subcommand;
use dunlin_tokio::key;
use serde_json::json;

use crate::output::{Fail, Output};
use crate::setup::default_key;

/// Subcommands of `dunlin id`.
#[derive(Debug, Subcommand)]
pub(crate) enum IdCommand {
    /// Make a new identity and keep it in a file
    ///
    /// The file holds the secret key: whoever reads it can be this node. It is readable by you alone.
    #[command(after_help = "Examples:\n  dunlin id new\n  dunlin id new --out server.key")]
    New {
        /// The file [default: dunlin/id.key in $XDG_CONFIG_HOME or ~/.config]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Overwrite the file if there is one. The identity in it is lost for good
        #[arg(long)]
        force: bool,
    },
    /// Show the id of an identity, for others to know it by
    #[command(after_help = "Examples:\n  dunlin id show\n  dunlin id show --key server.key --json")]
    Show {
        /// The key file [default: dunlin/id.key in $XDG_CONFIG_HOME or ~/.config]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
}

/// Runs `dunlin id`.
pub(crate) fn run(command: IdCommand, output: Output) -> Result<(), Fail> {
    let place = |given: Option<PathBuf>, option: &str| {
        given.or_else(default_key).ok_or_else(|| {
            Fail::usage(format!("neither HOME nor XDG_CONFIG_HOME is set: say where with {option}"))
        })
    };
    match command {
        IdCommand::New { out, force } => {
            let path = place(out, "--out FILE")?;
            let identity = key::create(&path, force).map_err(|error| match error {
                key::KeyError::Exists(_) => Fail::new(
                    "KEY",
                    format!("{error}. Choose another file with --out, or overwrite with --force"),
                ),
                other => other.into(),
            })?;
            let id = identity.id().to_string();
            output.say(&id, || json!({ "id": id, "file": path }));
            if !output.is_json() {
                output.note("note", format!("the secret key is in {}", path.display()));
            }
        }
        IdCommand::Show { key: file } => {
            let path = place(file, "--key FILE")?;
            let id = key::load(&path)?.id().to_string();
            output.say(&id, || json!({ "id": id, "file": path }));
        }
    }
    Ok(())
}
