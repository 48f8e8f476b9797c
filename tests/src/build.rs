//! Finds programs of other packages, by asking cargo for them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Builds a program of the workspace and says where it is. `kind` is `--bin` or `--example`.
///
/// The whole workspace's features are used, as `cargo test --workspace` does, so that nothing is built
/// twice.
///
/// # Panics
///
/// When it does not build.
pub fn program(kind: &str, name: &str) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", kind, name, "--message-format=json"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    let messages = String::from_utf8(built.stdout).expect("cargo speaks UTF-8");
    let mut programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).expect("a message of cargo");
        let is_it = message["target"]["name"] == name;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    programs.next_back().unwrap_or_else(|| panic!("{name} was not built"))
}
