//! Several real processes over loopback: what happens to the others when one of them goes.
//!
//! Nothing here waits by the clock: a process says when it is ready, and every wait has a bound.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use serde_json::Value;

/// However slow the machine is, nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

static PROGRAM: LazyLock<PathBuf> =
    LazyLock::new(|| dunlin_tests::build::program("--bin", "dunlin"));

/// Runs `wait` on a thread of its own, within the bound.
fn within<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, waited) = mpsc::channel();
    std::thread::spawn(move || done.send(wait()));
    waited.recv_timeout(PATIENCE).expect("it does not take so long")
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        let mut child = Command::new(&*PROGRAM)
            .args(["--json", "serve"])
            .args(arguments)
            // What this machine's user runs is left alone.
            .env("XDG_RUNTIME_DIR", env!("CARGO_TARGET_TMPDIR"))
            .env("XDG_DATA_HOME", env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let (line, lines) = within(move || {
            let mut line = String::new();
            lines.read_line(&mut line).expect("it says where it is");
            (line, lines)
        });
        // Its later lines are read, so that it never waits for somebody to read them.
        std::thread::spawn(move || lines.lines().count());
        let object: Value = serde_json::from_str(&line).expect("an object");
        let address = object["addresses"][0].as_str().expect("an address").to_string();
        Server { child, address }
    }

    fn echo() -> Server {
        Server::start(&["echo", "--listen", "127.0.0.1:0"])
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn calling(peers: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(&*PROGRAM);
    command.args(["--json", "call"]).stdin(Stdio::null());
    for peer in peers {
        command.args(["--peer", peer]);
    }
    command.args(arguments);
    command
}

fn call(peers: &[&str], arguments: &[&str]) -> Output {
    let mut command = calling(peers, arguments);
    within(move || command.output().expect("the program runs"))
}

fn error_of(output: &Output) -> Value {
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    let line: Value =
        serde_json::from_str(said.lines().last().expect("it says why")).expect("JSON");
    line["error"].clone()
}

fn answer_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    line["answer"].clone()
}

#[test]
fn one_server_among_several_is_enough() {
    let (here, mut gone) = (Server::echo(), Server::echo());
    gone.child.kill().unwrap();
    gone.child.wait().unwrap();
    let output = call(&[&gone.address, &here.address], &["echo/say", "\"hi\""]);
    assert_eq!(answer_of(&output), "hi");
}

#[test]
fn a_caller_whose_server_is_killed_hears_that_the_call_may_have_run() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("running");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let script = format!("echo running > '{}'; exec sleep 20", pipe.display());
    let mut arguments = vec!["exec", "--path", "tools/slow", "--listen", "127.0.0.1:0"];
    arguments.extend(["--", "sh", "-c", &script]);
    let mut server = Server::start(&arguments);
    let peer = server.address.clone();
    let mut command = calling(&[&peer], &["--timeout", "5s", "tools/slow"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let client = command.spawn().unwrap();
    // The command says that it runs; then its server dies without a word.
    assert_eq!(within(move || std::fs::read_to_string(pipe).unwrap()), "running\n");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let error = error_of(&within(move || client.wait_with_output().unwrap()));
    assert_eq!(error["code"], "DEADLINE_EXCEEDED", "{error}");
    assert_eq!(error["executed"], "maybe", "{error}");
}

#[test]
fn a_server_that_is_terminated_takes_leave() {
    let mut server = Server::echo();
    assert_eq!(answer_of(&call(&[&server.address], &["echo/say", "1"])), 1);
    server.signal("-TERM");
    let mut child = std::mem::replace(&mut server.child, Command::new("true").spawn().unwrap());
    assert_eq!(within(move || child.wait().unwrap()).code(), Some(0));
    let error = error_of(&call(&[&server.address], &["--timeout", "1s", "echo/say", "1"]));
    assert_eq!(error["code"], "CONNECT", "{error}");
}

#[test]
fn a_server_that_comes_back_at_its_address_with_another_key_is_not_talked_to() {
    let first = Server::echo();
    let (_, place) = first.address.split_once('@').unwrap();
    let place = place.to_string();
    let wanted = first.address.clone();
    drop(first);
    let other = Server::start(&["echo", "--listen", &place]);
    assert!(other.address.ends_with(&place) && other.address != wanted);
    let error = error_of(&call(&[&wanted], &["--timeout", "5s", "echo/say", "1"]));
    assert_eq!(error["code"], "CONNECT", "{error}");
    assert!(error["message"].as_str().unwrap().contains("another key"), "{error}");
}
