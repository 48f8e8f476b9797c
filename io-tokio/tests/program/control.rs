//! The control socket of the `dunlin` program, used as a user uses it.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::runtime;

fn dunlin(home: &Path) -> Command {
    let mut command = crate::dunlin(home);
    command.arg("--json");
    command
}

fn run(home: &Path, args: &[&str]) -> Output {
    dunlin(home).args(args).output().expect("the program runs")
}

/// What a command that works says, an object a line.
fn ok(home: &Path, args: &[&str]) -> Vec<Value> {
    let output = run(home, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// How a command fails.
fn error(home: &Path, args: &[&str]) -> Value {
    let output = run(home, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let last = text.lines().last().expect("an error is told");
    serde_json::from_str::<Value>(last).expect(last)["error"].clone()
}

fn said(error: &Value) -> (&str, &str) {
    (error["code"].as_str().unwrap(), error["message"].as_str().unwrap())
}

/// A node that ends with the test.
struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    id: String,
    address: String,
    socket: Option<PathBuf>,
}

impl Running {
    fn start(home: &Path, args: &[&str]) -> Running {
        let mut child = dunlin(home)
            .args(args)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("it says where it is");
        let object: Value = serde_json::from_str(&line).expect("an object");
        Running {
            child,
            lines,
            id: object["id"].as_str().unwrap().to_string(),
            address: object["addresses"][0].as_str().unwrap().to_string(),
            socket: object["control"].as_str().map(PathBuf::from),
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for a line with this event.
    fn until(&mut self, event: &str) {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it says {event}");
            if serde_json::from_str::<Value>(&line).expect("an object")["event"] == event {
                return;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn commands_without_a_peer_use_the_node_that_runs() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    // The one that they are to find is a node of another machine, so to speak.
    let away = tempfile::tempdir().unwrap();
    let server = Running::start(away.path(), &["serve", "echo"]);
    let mut local = Running::start(home, &["node", "run", "--peer", &server.address]);
    local.until("peer_services");

    let answer = &ok(home, &["call", "echo/say", "\"hi\""])[0];
    assert_eq!((&answer["answer"], &answer["content"]), (&"hi".into(), &"json".into()));
    assert!(answer["elapsed_us"].is_u64());
    let to = ok(home, &["call", "--to", &server.id, "--raw", "echo/say", "text"]);
    assert_eq!(to[0]["answer"], "text");
    let listed = ok(home, &["service", "ls"]);
    assert_eq!(
        (&listed[0]["service"], &listed[0]["peer"]),
        (&"echo".into(), &server.id.as_str().into())
    );
    let info = ok(home, &["service", "info", "echo"]);
    assert_eq!(info[0]["actions"][0]["pattern"], "echo/say");
    let stats = ok(home, &["service", "stats", "echo"]);
    assert_eq!((stats.len(), &stats[0]["peer"]), (1, &server.id.as_str().into()));
    assert_eq!((&stats[0]["calls"], &stats[0]["score"]), (&1.into(), &100.into()));
    assert!(stats[0]["p99_us"].is_u64() && stats[0]["breaker"] == "closed", "{}", stats[0]);
    let pings = ok(home, &["service", "ping", "echo"]);
    assert_eq!((pings.len(), &pings[0]["peer"]), (1, &server.id.as_str().into()));
    assert!(pings[0]["elapsed_us"].is_u64());
    let peers = ok(home, &["peer", "ls"]);
    assert_eq!((&peers[0]["peer"], &peers[0]["links"]), (&server.id.as_str().into(), &1.into()));
    assert!(peers[0]["rtt_us"].is_u64() && peers[0]["remote"].is_string(), "{}", peers[0]);
    let pings = ok(home, &["peer", "ping", "--count", "2", "--interval", "1ms"]);
    assert_eq!(pings.len(), 2);
    assert!(pings.iter().all(|ping| ping["elapsed_us"].is_u64() && ping["peer"] == *server.id));
    // It asks the other node's own socket as well.
    let path = server.socket.as_ref().unwrap().to_str().unwrap();
    let own = ok(home, &["service", "ls", "--control", path]);
    assert_eq!(own[0]["peer"], *server.id);

    let failed = error(home, &["call", "no/body"]);
    assert_eq!((&failed["code"], &failed["executed"]), (&"NO_RESPONDERS".into(), &"no".into()));
    let unknown = error(home, &["service", "info", "nothing"]);
    assert_eq!(said(&unknown).0, "NO_SUCH_SERVICE");
    assert_eq!(said(&error(home, &["service", "ping", "nothing"])).0, "NO_SUCH_SERVICE");
    let stranger = ok(away.path(), &["id", "new"])[0]["id"].as_str().unwrap().to_string();
    assert_eq!(said(&error(home, &["peer", "ping", &stranger])).0, "NO_ANSWER");
}

#[test]
fn the_socket_is_private_and_goes_with_the_node() {
    let home = tempfile::tempdir().unwrap();
    let mut node = Running::start(home.path(), &["node", "run"]);
    let socket = node.socket.clone().unwrap();
    assert_eq!(socket, runtime(home.path()).join("dunlin").join(format!("{}.sock", node.id)));
    assert!(socket.symlink_metadata().unwrap().file_type().is_socket());
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    node.signal("-INT");
    assert!(node.child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(socket.parent().unwrap()).unwrap().count(), 0);
    let error = error(home.path(), &["call", "echo/say"]);
    let (code, message) = said(&error);
    assert_eq!(code, "NO_LOCAL_NODE");
    assert!(message.contains("dunlin node run") && message.contains("--peer"), "{message}");
}

#[test]
fn of_several_nodes_one_must_be_chosen() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let one = Running::start(home, &["serve", "echo"]);
    let two = Running::start(home, &["serve", "echo", "--control", "none"]);
    assert_eq!(two.socket, None);
    // The other cannot be found.
    assert_eq!(ok(home, &["call", "echo/say", "1"])[0]["answer"], 1);
    let chosen = home.join("mine/control");
    let chosen = chosen.to_str().unwrap();
    let three = Running::start(home, &["serve", "echo", "--control", chosen]);
    assert_eq!(mode(Path::new(chosen)), 0o600);
    assert_eq!(mode(&home.join("mine")), 0o700, "made for it");
    let listed = ok(home, &["service", "ls", "--control", chosen]);
    assert_eq!(listed[0]["peer"], *three.id);
    let four = Running::start(home, &["serve", "echo"]);
    let error = error(home, &["call", "echo/say"]);
    let (code, message) = said(&error);
    assert_eq!(code, "SEVERAL_LOCAL_NODES");
    assert!(message.contains("--control"), "{message}");
    for node in [&one, &four] {
        assert!(message.contains(node.socket.as_ref().unwrap().to_str().unwrap()), "{message}");
    }
    let path = four.socket.as_ref().unwrap().to_str().unwrap();
    assert_eq!(ok(home, &["call", "--control", path, "echo/say", "2"])[0]["answer"], 2);
}

#[test]
fn a_node_that_runs_is_not_started_twice_and_one_that_was_killed_is_started_again() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    ok(home, &["id", "new"]);
    let mut first = Running::start(home, &["serve", "echo"]);
    let again = error(home, &["serve", "echo", "--listen", "127.0.0.1:0"]);
    let (code, message) = said(&again);
    assert_eq!(code, "CONTROL");
    assert!(message.contains(&first.id) && message.contains("running already"), "{message}");
    assert_eq!(ok(home, &["call", "echo/say", "1"])[0]["answer"], 1, "the first is not disturbed");

    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let socket = first.socket.clone().unwrap();
    assert!(socket.symlink_metadata().is_ok(), "it could not clean up");
    assert_eq!(said(&error(home, &["call", "echo/say"])).0, "NO_LOCAL_NODE");
    let at = error(home, &["call", "--control", socket.to_str().unwrap(), "echo/say"]);
    assert!(said(&at).1.contains("no node listens at"), "{at}");
    let second = Running::start(home, &["serve", "echo"]);
    assert_eq!(second.socket, Some(socket));
    assert_eq!(ok(home, &["call", "echo/say", "2"])[0]["answer"], 2);
}

#[test]
fn a_node_that_hangs_holds_nobody_up() {
    let home = tempfile::tempdir().unwrap();
    let node = Running::start(home.path(), &["serve", "echo"]);
    node.signal("-STOP");
    let call = ["call", "--timeout", "200ms", "echo/say"];
    let hangs = error(home.path(), &call);
    assert!(said(&hangs).1.contains("does not answer"), "{hangs}");
    node.signal("-CONT");
    ok(home.path(), &["call", "echo/say"]);
}

#[test]
fn a_caller_that_is_killed_cancels_its_call() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    // The handler says that it runs by opening a fifo, and its end by the other's.
    let fifo = home.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let script = format!("exec 3>{}; exec sleep 1000", fifo.display());
    let serve = ["serve", "exec", "--path", "tools/wait"];
    let mut node = dunlin(home)
        .args(serve)
        .args(["--listen", "127.0.0.1:0", "--", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let call = ["call", "--timeout", "10m", "--raw", "tools/wait"];
    let mut caller = dunlin(home).args(call).stderr(Stdio::null()).spawn().unwrap();
    let mut reader = std::fs::File::open(&fifo).expect("the handler runs");
    caller.kill().unwrap();
    caller.wait().unwrap();
    // The end of the file comes when nobody has it open for writing any more.
    reader.read_to_end(&mut Vec::new()).expect("the handler was killed");
    node.kill().unwrap();
    node.wait().unwrap();
}
