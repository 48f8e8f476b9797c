//! Finds programs of other packages, by asking cargo for them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Builds a program of the workspace and says where it is. `kind` is `--bin` or `--example`.
///
/// It is the one that `cargo test --workspace` builds, with the features of the tests: a build without these would be
/// another one of everything.
///
/// # Panics
///
/// When it does not build.
pub fn program(kind: &str, name: &str) -> PathBuf {
    let arguments = ["test", "--quiet", "--workspace", "--no-run", "--message-format=json"];
    find(&arguments, kind, name)
}

/// The same of a release build, for programs whose packages are in it for themselves.
///
/// # Panics
///
/// When it does not build.
pub fn release_program(kind: &str, name: &str) -> PathBuf {
    let arguments = ["build", "--quiet", "--release", "--workspace", "--message-format=json"];
    find(&[&arguments[..], &[kind, name]].concat(), kind, name)
}

fn find(arguments: &[&str], kind: &str, name: &str) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    // What cargo says to the test that runs here. Build scripts that look at it would run again, and most would be built
    // anew after them, here and by the next cargo that runs elsewhere.
    let is_of_test =
        |key: &str| key.starts_with("CARGO_PKG_") || key.starts_with("CARGO_MANIFEST_");
    for (key, _) in std::env::vars_os() {
        if key.to_str().is_some_and(is_of_test) {
            command.env_remove(key);
        }
    }
    let built = command
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    let messages = String::from_utf8(built.stdout).expect("cargo speaks UTF-8");
    let mut programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).expect("a message of cargo");
        let target = &message["target"];
        let is_kind = target["kind"][0].as_str() == kind.strip_prefix("--");
        let is_it = target["name"] == name && is_kind && message["profile"]["test"] == false;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    programs.next_back().unwrap_or_else(|| panic!("{name} was not built"))
}
