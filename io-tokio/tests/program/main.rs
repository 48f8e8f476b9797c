//! The `dunlin` program, used as a user uses it. One program of tests, as building each takes longer than running it.

#![cfg(feature = "cli")]

mod commands;
mod control;
mod events;
#[cfg(unix)]
mod exec;
#[cfg(unix)]
mod goodbyes;
#[cfg(target_os = "linux")]
mod listening;
mod output;
mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The folder for what goes with the login, as the system makes it.
fn runtime(home: &Path) -> PathBuf {
    let folder = home.join("run");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The program. Keys, stores and control sockets are the test's own.
fn dunlin(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
    command.env("XDG_CONFIG_HOME", home).env("XDG_DATA_HOME", home);
    command.env("XDG_RUNTIME_DIR", runtime(home)).env_remove("DUNLIN_LOG").stdin(Stdio::null());
    command
}

fn run(home: &Path, args: &[&str]) -> Output {
    dunlin(home).args(args).output().expect("the program runs")
}
