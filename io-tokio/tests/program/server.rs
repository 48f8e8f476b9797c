//! The program while it runs a node, and how its output is read.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::dunlin;

/// Where most of these nodes listen.
pub(crate) const LOCAL: [&str; 2] = ["--listen", "127.0.0.1:0"];

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program speaks UTF-8")
}

/// Standard output as one JSON object per line.
pub(crate) fn objects(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

pub(crate) fn error_of(output: &Output) -> Value {
    let lines = objects(&output.stderr);
    lines.last().expect("an error is told")["error"].clone()
}

/// A server that ends with the test.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
    /// All of them.
    pub(crate) addresses: Vec<String>,
    pub(crate) lines: BufReader<std::process::ChildStdout>,
}

impl Server {
    /// `dunlin serve`.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Server {
        Server::of(dunlin(home).args(["--json", "serve"]).args(args).stderr(Stdio::null()))
    }

    /// Any command that runs a node, with `--json`.
    pub(crate) fn of(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("it says where it is");
        let object: Value = serde_json::from_str(&line).expect("an object");
        let addresses: Vec<String> =
            serde_json::from_value(object["addresses"].clone()).expect("addresses");
        Server { child, address: addresses[0].clone(), addresses, lines }
    }

    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(done.success());
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        self.address.split_once('@').expect("an address").0
    }

    /// Reads on to its next event of this kind.
    pub(crate) fn until(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it says '{event}'");
            let object: Value = serde_json::from_str(&line).expect(&line);
            if object["event"] == event {
                return object;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
