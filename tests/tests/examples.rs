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
