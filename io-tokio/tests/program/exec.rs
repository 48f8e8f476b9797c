//! `dunlin serve exec`: what becomes of the commands it runs.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::server::{LOCAL, Server, error_of, objects, text};
use crate::{dunlin, run};

/// Longer than anything here takes, and less than the commands that are run want to go on for.
const SOON: Duration = Duration::from_secs(20);

/// A named pipe. Its reader sees the end when the last process that has it open is gone.
fn pipe(home: &Path) -> String {
    let path = home.join("alive").to_str().unwrap().to_string();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

fn serve(home: &Path, options: &[&str], script: &str) -> Server {
    let args = [&["exec", "--path", "tools/sh", "--control", "none"][..], &LOCAL, options].concat();
    Server::start(home, &[&args[..], &["--", "sh", "-c", script]].concat())
}

#[test]
fn what_a_command_has_started_is_gone_after_a_time_out() {
    let home = tempfile::tempdir().unwrap();
    let alive = pipe(home.path());
    // A child of the child holds the pipe.
    let script = format!("(exec 3>'{alive}'; echo begun >&3; sh -c 'sleep 61; true'; true) & wait");
    let server = serve(home.path(), &[], &script);
    let mut call = dunlin(home.path());
    let call =
        call.args(["--json", "call", "--peer", &server.address, "--timeout", "2s", "tools/sh"]);
    let call = call.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(std::fs::File::open(alive).unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    let begun = Instant::now();
    lines.read_to_string(&mut line).unwrap();
    assert!(begun.elapsed() < SOON, "it lived on for {:?}", begun.elapsed());
    let error = error_of(&call.wait_with_output().unwrap());
    assert_eq!(
        (&error["code"], &error["executed"]),
        (&"DEADLINE_EXCEEDED".into(), &"maybe".into())
    );
}

#[test]
fn a_child_in_the_background_that_keeps_the_pipes_open_holds_no_call_up() {
    let home = tempfile::tempdir().unwrap();
    let server = serve(home.path(), &[], "sleep 61 & echo $!");
    let begun = Instant::now();
    let call = ["--json", "call", "--peer", &server.address, "--timeout", "60s", "tools/sh"];
    let called = run(home.path(), &call);
    assert!(called.status.success(), "{}", text(&called.stderr));
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    let answer = objects(&called.stdout)[0]["answer"].clone();
    let background = match &answer {
        Value::String(text) => text.trim().to_string(),
        other => other.to_string(),
    };
    // It is meant to go on, and does.
    assert!(Command::new("kill").arg(&background).status().unwrap().success(), "{answer}");
}

#[test]
fn a_call_that_is_refused_as_there_are_too_many_was_not_executed() {
    let home = tempfile::tempdir().unwrap();
    let alive = pipe(home.path());
    let runs = home.path().join("runs");
    let script = format!("echo run >>'{}'; exec 3>'{alive}'; sleep 61", runs.display());
    let server = serve(home.path(), &["--running-max", "1"], &script);
    let call = ["--json", "call", "--peer", &server.address, "tools/sh", "--timeout"];
    let mut first = dunlin(home.path());
    let first = first.args(call).arg("60s").stdout(Stdio::null()).stderr(Stdio::null());
    let mut first = first.spawn().unwrap();
    // It runs once it opens the pipe.
    let _running = std::fs::File::open(alive).unwrap();
    let error = error_of(&run(home.path(), &[&call[..], &["1s"]].concat()));
    assert_eq!((&error["code"], &error["executed"]), (&"OVERLOADED".into(), &"no".into()));
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_command_is_served_to_other_machines_only_if_that_is_said() {
    let home = tempfile::tempdir().unwrap();
    let open = ["exec", "--path", "tools/true", "--control", "none", "--listen", "0.0.0.0:0"];
    let command = ["--", "true"];
    let refused = run(home.path(), &[&["--json", "serve"], &open[..], &command].concat());
    assert_eq!(refused.status.code(), Some(2));
    let error = error_of(&refused);
    assert!(error["message"].as_str().unwrap().contains("--anyone"), "{error}");
    // A peer elsewhere is a reason to listen everywhere.
    let id = text(&run(home.path(), &["id", "new"]).stdout);
    let elsewhere = format!("{}@192.0.2.1:4400", id.trim());
    let dials = ["exec", "--path", "tools/true", "--control", "none", "--peer", &elsewhere];
    let refused = run(home.path(), &[&["--json", "serve"], &dials[..], &command].concat());
    assert_eq!(refused.status.code(), Some(2));
    // With a word more, or for this machine alone, it is served.
    for options in [&[&open[..], &["--anyone"]].concat()[..], &open[..5]] {
        let server = Server::start(home.path(), &[options, &command].concat());
        let called = run(home.path(), &["call", "--peer", &server.address, "tools/true"]);
        assert!(called.status.success(), "{}", text(&called.stderr));
    }
}
