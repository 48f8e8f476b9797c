//! Files of networks and tokens: the options that name them, reading and writing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use dunlin_core::WallTime;
use dunlin_tokio::auth::{DescriptorChain, Token};
use dunlin_tokio::clock::{Clock, SystemClock};
use dunlin_tokio::{NetworkFiles, NodeBuilder, key};

use crate::call::parse_duration;
use crate::output::{Fail, Output};

/// In which networks a node is.
#[derive(Clone, Debug, Args)]
pub(crate) struct NetworkArgs {
    /// A network to be in: the file that `dunlin network new` made. Needs --token, too. May be given
    /// several times; paths that name no network belong to the first. A newer file takes effect without
    /// a restart. Without it, the development network: no tokens, everybody may do everything
    #[arg(long = "network", value_name = "FILE")]
    networks: Vec<PathBuf>,
    /// This node's token for the network, issued to the key in --key. One for each --network, in their
    /// order
    #[arg(long = "token", value_name = "FILE")]
    tokens: Vec<PathBuf>,
}

impl NetworkArgs {
    /// Whether no network is named.
    pub(crate) fn is_development(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether nothing was said about networks.
    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.tokens.is_empty()
    }

    /// Puts the node into its networks, and gives the files to watch.
    pub(crate) fn apply(&self, builder: NodeBuilder) -> Result<(NodeBuilder, NetworkFiles), Fail> {
        if self.networks.len() != self.tokens.len() {
            return Err(Fail::usage(format!(
                "{} --network and {} --token: each network needs one token, in the same order",
                self.networks.len(),
                self.tokens.len()
            )));
        }
        let pairs: Vec<_> =
            self.networks.iter().cloned().zip(self.tokens.iter().cloned()).collect();
        let files = NetworkFiles::read(&pairs)?;
        if files.is_empty() {
            return Ok((builder.development_network(), files));
        }
        let builder = files
            .contents()
            .fold(builder, |builder, (descriptor, token)| builder.network(descriptor, token));
        Ok((builder, files))
    }

    /// Says loudly what the development network means.
    pub(crate) fn warn(&self, output: Output) {
        if self.is_development() {
            output.note(
                "WARNING",
                "DEVELOPMENT NETWORK: no tokens and no permissions. Whoever reaches this port may call \
                 whatever is served here; `dunlin help network new` shows how to change that",
            );
        }
    }
}

impl From<dunlin_tokio::NetworkError> for Fail {
    fn from(error: dunlin_tokio::NetworkError) -> Self {
        Fail::new("NETWORK", error.to_string())
    }
}

/// The machine's wall clock.
pub(crate) fn now() -> WallTime {
    SystemClock.now().wall
}

/// Reads `90s`, `12h`, `30d`.
pub(crate) fn parse_validity(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) if days > 0 => Ok(Duration::from_secs(u64::from(days) * 24 * 3_600)),
        Some(_) => Err("days are a whole number, as in 30d".into()),
        None => parse_duration(text).map_err(|_| "a time needs a unit: 90s, 15m, 12h, 30d".into()),
    }
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, Fail> {
    std::fs::read(path).map_err(|error| {
        Fail::new("FILE", format!("cannot read the {what} {}: {error}", path.display()))
    })
}

/// Reads a network's file.
pub(crate) fn read_network(path: &Path) -> Result<DescriptorChain, Fail> {
    let chain = DescriptorChain::from_text(&read("network", path)?);
    chain.map_err(|error| Fail::new("NETWORK", format!("{}: {error}", path.display())))
}

/// Reads a token's file.
pub(crate) fn read_token(path: &Path) -> Result<Token, Fail> {
    let token = Token::from_text(&read("token", path)?);
    token.map_err(|error| Fail::new("TOKEN", format!("{}: {error}", path.display())))
}

/// Writes a line to a file that is there whole or not at all. What is secret is not in it: tokens count
/// for their subject alone, and descriptors are for everybody.
pub(crate) fn write(path: &Path, line: &str, overwrite: bool) -> Result<(), Fail> {
    let failed =
        |error: io::Error| Fail::new("FILE", format!("cannot write {}: {error}", path.display()));
    if !overwrite && path.symlink_metadata().is_ok() {
        return Err(Fail::new(
            "FILE",
            format!("{} exists already; choose another file", path.display()),
        ));
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let suffix: String = key::random()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = folder.join(format!(".dunlin-draft-{suffix}"));
    let written = (|| {
        let mut file = std::fs::File::create_new(&draft)?;
        writeln!(file, "{line}")?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validities_may_be_days() {
        assert_eq!(parse_validity("30d"), Ok(Duration::from_secs(30 * 24 * 3_600)));
        assert_eq!(parse_validity("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["d", "1.5d", "0d", "-1d", "30", "99999999999d"] {
            assert!(parse_validity(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_only_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/file");
        write(&path, "one", false).unwrap();
        assert!(write(&path, "two", false).is_err());
        write(&path, "two", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
