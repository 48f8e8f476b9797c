//! The examples run, and print what their readers are told.

use std::process::Command;

#[test]
fn two_nodes_on_plain_threads_call_each_other() {
    let program = dunlin_tests::build::program("--example", "plain_threads");
    let output = Command::new(program).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}{errors}");
    assert_eq!(shown, "2 + 3 = 5\n");
}

#[test]
fn a_stale_read_is_found_and_a_right_store_is_clean() {
    let program = dunlin_tests::build::program("--example", "stale_reads");
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("stale.html");
    let output = Command::new(&program).arg("--picture").arg(&picture).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("no order explains"), "{shown}");
    let page = std::fs::read_to_string(picture).unwrap();
    assert!(page.contains("no order explains"), "the picture says what was broken");
    let output = Command::new(program).arg("--right").output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert_eq!(shown.matches(": clean;").count(), 20, "{shown}");
}

#[test]
fn a_service_with_a_mistake_is_found_and_shrunk() {
    let program = dunlin_tests::build::program("--example", "wrong_service");
    let output = Command::new(program).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}{errors}");
    // Which of several smallest schedules it ends at is the protocol's matter: a slow link may stand for a short wait.
    let after = shown.lines().find(|line| line.starts_with("after:")).expect(&shown);
    assert!(after.contains("2 nodes, 1 operation, "), "{shown}");
    assert!(after.contains(", 0 faults,") || after.contains(", 1 fault,"), "{shown}");
    assert!(shown.contains("was booked 2 times"), "{shown}");
}
