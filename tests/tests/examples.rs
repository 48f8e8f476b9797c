//! The examples run, and print what their readers are told.

use std::process::Command;

#[test]
fn two_nodes_on_plain_threads_call_each_other() {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "dunlin-core", "--example", "plain_threads"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}{errors}");
    assert_eq!(shown, "2 + 3 = 5\n");
}
