//! Whichever way the program ends that runs code, peers are told at once.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::dunlin;
use crate::server::{LOCAL, Server, error_of};

/// Within this a peer is told. Without a word it would wait for its idle time-out of 15 s.
const TOLD: Duration = Duration::from_secs(1);

/// A node that prints what happens to its peers.
fn watcher(home: &std::path::Path) -> Server {
    let mut command = dunlin(home);
    Server::of(
        command
            .args(["--json", "node", "run", "--control", "none"])
            .args(LOCAL)
            .stderr(Stdio::null()),
    )
}

#[test]
fn a_hang_up_and_a_second_signal_are_told_at_once() {
    let home = tempfile::tempdir().unwrap();
    for signals in [&["-HUP"][..], &["-TERM", "-TERM"], &["-HUP", "-INT"]] {
        let mut watcher = watcher(home.path());
        let command =
            ["exec", "--path", "slow/run", "--control", "none", "--peer", &watcher.address];
        let command = [&command[..], &LOCAL, &["--", "sh", "-c", "echo x >&2; sleep 30"]].concat();
        let mut program = dunlin(home.path());
        program.args(["--json", "serve"]).args(&command).stderr(Stdio::piped());
        let mut server = Server::of(&mut program);
        let mut notes = BufReader::new(server.child.stderr.take().unwrap()).lines();
        watcher.until("peer_up");
        // With a call under way, a leave takes its time.
        let mut call = dunlin(home.path());
        let call = call.args(["call", "--peer", &server.address, "slow/run"]).stderr(Stdio::null());
        let mut call = (signals.len() > 1).then(|| call.spawn().unwrap());
        if call.is_some() {
            server.until("peer_up");
            server.until("peer_up");
        }
        for (n, signal) in signals.iter().enumerate() {
            if n > 0 {
                // Signals that come together are one.
                let mut notes = notes.by_ref().map(Result::unwrap);
                assert!(notes.any(|note| note.contains("again to stop at once")));
            }
            server.signal(signal);
        }
        let begun = Instant::now();
        let down = watcher.until("peer_down");
        assert_eq!(down["peer"], server.id());
        assert!(begun.elapsed() < TOLD, "{signals:?}: told after {:?}", begun.elapsed());
        server.child.wait().unwrap();
        if let Some(call) = &mut call {
            call.kill().unwrap();
            call.wait().unwrap();
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_that_is_started_to_survive_its_terminal_does() {
    let home = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_dunlin");
    let script = format!("trap '' HUP; exec '{program}' --json serve echo --control none");
    let mut command = dunlin(home.path());
    let mut shell = std::process::Command::new("sh");
    let environment = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    shell.args(["-c", &script]).envs(environment).stdin(Stdio::null()).stderr(Stdio::null());
    let mut server = Server::of(&mut shell);
    server.signal("-HUP");
    command.args(["call", "--peer", &server.address, "echo/say", "1"]);
    assert!(command.output().unwrap().status.success(), "it goes on");
    server.signal("-TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_node_in_order() {
    let home = tempfile::tempdir().unwrap();
    let mut watcher = watcher(home.path());
    let command = ["echo", "--control", "none", "--peer", &watcher.address, LOCAL[0], LOCAL[1]];
    let mut server = Server::start(home.path(), &command);
    watcher.until("peer_up");
    server.until("peer_up");
    drop(std::mem::replace(&mut server.lines, std::io::BufReader::new(closed_output())));
    // It prints that a caller is there.
    let begun = Instant::now();
    let mut call = dunlin(home.path());
    let call = call.args(["call", "--peer", &server.address, "echo/say", "1"]);
    let mut call = call.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(watcher.until("peer_down")["peer"], server.id());
    // The caller has to start first.
    assert!(begun.elapsed() < TOLD * 5, "told after {:?}", begun.elapsed());
    call.kill().unwrap();
    call.wait().unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0), "it has seen enough, as `head` does");
}

/// The output of a process that has ended.
fn closed_output() -> std::process::ChildStdout {
    let mut child = std::process::Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    child.wait().unwrap();
    out.read_to_end(&mut Vec::new()).unwrap();
    out
}

#[test]
fn an_interrupted_caller_is_known_to_be_gone() {
    let home = tempfile::tempdir().unwrap();
    let command = ["exec", "--path", "slow/run", "--control", "none", LOCAL[0], LOCAL[1]];
    let mut server = Server::start(home.path(), &[&command[..], &["--", "sleep", "30"]].concat());
    let mut call = dunlin(home.path());
    let call = call.args(["--json", "call", "--peer", &server.address, "slow/run"]);
    let call = call.stderr(Stdio::piped()).spawn().unwrap();
    server.until("peer_up");
    let pid = call.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let begun = Instant::now();
    server.until("peer_down");
    assert!(begun.elapsed() < TOLD, "told after {:?}", begun.elapsed());
    let called = call.wait_with_output().unwrap();
    assert_eq!(called.status.code(), Some(1));
    let error = error_of(&called);
    assert_eq!((&error["code"], &error["executed"]), (&"INTERRUPTED".into(), &"maybe".into()));
}
