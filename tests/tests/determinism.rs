//! The same seeds give the same datagrams, events and wake-ups, byte for byte: in two processes, and
//! in debug and release builds.

use std::process::Command;

use dunlin_tests::build::release_program;
use dunlin_tests::world::{Kind, run};

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn two_processes_say_the_same() {
    let program = env!("CARGO_BIN_EXE_determinism");
    let first = printed(&mut Command::new(program));
    // Another environment, another directory, other addresses in memory.
    let mut command = Command::new(program);
    command.current_dir("/").env("TZ", "Asia/Kathmandu").env("LANG", "tr_TR.UTF-8");
    command.env("FILLER", "x".repeat(5_000));
    let second = printed(&mut command);
    assert_eq!(first, second);
    assert_eq!(first.lines().count(), 6);
}

/// Needs another build of everything, so only `.ci/run` asks for it.
#[test]
fn debug_and_release_say_the_same() {
    if std::env::var_os("DUNLIN_TEST_PROFILES").is_none() {
        eprintln!("skipped: DUNLIN_TEST_PROFILES is not set");
        return;
    }
    let mut release = Command::new(release_program("--bin", "determinism"));
    let own = printed(&mut Command::new(env!("CARGO_BIN_EXE_determinism")));
    assert_eq!(own, printed(&mut release));
}

#[test]
fn the_runs_that_are_compared_do_something_and_differ_by_seed() {
    for kind in [Kind::Tls, Kind::Null] {
        let (one, two) = (run(kind, 1), run(kind, 2));
        assert!(one.answered > 100, "{one:?}");
        assert!(one.datagrams > 500 && one.events > 300, "{one:?}");
        assert_ne!(one.hash, two.hash);
        assert_eq!(one, run(kind, 1));
    }
}
