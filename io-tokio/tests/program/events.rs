//! Events with the `dunlin` program, used as a user uses it.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::{dunlin, run};

fn ok(home: &Path, args: &[&str]) -> String {
    let output = run(home, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the program speaks UTF-8")
}

/// The exit code of a command that fails, and how it does.
fn error(home: &Path, args: &[&str]) -> (i32, Value) {
    let output = run(home, &[&["--json"], args].concat());
    let text = String::from_utf8(output.stderr).expect("the program speaks UTF-8");
    let last = text.lines().last().expect("an error is told");
    let object: Value = serde_json::from_str(last).expect(last);
    (output.status.code().expect("it ends by itself"), object["error"].clone())
}

/// A program that goes on until it is told to end, or the test does.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Running {
    fn start(home: &Path, args: &[&str]) -> Running {
        let mut child = dunlin(home)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let err = BufReader::new(child.stderr.take().expect("piped"));
        Running { child, out, err }
    }

    /// A node, with its address.
    fn node(home: &Path) -> (Running, String) {
        let mut node = Running::start(home, &["--json", "node", "run", "--listen", "127.0.0.1:0"]);
        let object: Value = serde_json::from_str(&node.line()).expect("an object");
        (node, object["addresses"][0].as_str().expect("an address").to_string())
    }

    /// A subscriber whom everybody knows.
    fn subscriber(home: &Path, args: &[&str]) -> Running {
        let mut subscriber = Running::start(home, &[&["sub"], args].concat());
        let mut said = String::new();
        while !said.contains("subscribed to") {
            said.clear();
            assert!(subscriber.err.read_line(&mut said).unwrap() > 0, "it subscribes");
        }
        subscriber
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.out.read_line(&mut line).expect("UTF-8") > 0, "it says something");
        line.trim_end().to_string()
    }

    /// What it still says, and its exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("UTF-8");
        (rest, self.child.wait().expect("it ends").code())
    }

    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_member_that_is_interrupted_prints_what_it_has_and_leaves_the_rest_to_others() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (_node, _) = Running::node(home);
    let group = ["jobs/*", "--group", "g", "--raw"];
    let first = Running::subscriber(home, &group);
    let counted = Running::subscriber(home, &[&group[..], &["--count", "3"]].concat());
    let last = Running::subscriber(home, &group);
    let lines = |out: &str| out.chars().filter(|c| *c == 'x').count();
    for _ in 0..30 {
        ok(home, &["pub", "--raw", "jobs/a", "x"]);
    }
    // What came is its own, read or not, and it says so as it ends.
    first.interrupt();
    let (of_first, code) = first.end();
    assert_eq!(code, Some(0));
    let (of_counted, code) = counted.end();
    assert_eq!((lines(&of_counted), code), (3, Some(0)));
    last.interrupt();
    let (of_last, code) = last.end();
    assert_eq!(code, Some(0));
    assert_eq!(lines(&of_first) + 3 + lines(&of_last), 30);
}

#[test]
fn events_go_through_the_node_on_this_machine() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (_node, _) = Running::node(home);
    assert_eq!(ok(home, &["pub", "orders/new", "1"]), "orders/new #1: nobody subscribes\n");

    let mut people = Running::subscriber(home, &["orders/*"]);
    let mut program = Running::subscriber(home, &["--json", "orders/{what}", "--count", "2"]);
    let bytes = Running::subscriber(home, &["--raw", "--count", "2", "orders/new"]);
    let receipt = ok(home, &["pub", "orders/new", "{\"id\": 17}", "--wait", "10s"]);
    assert_eq!(receipt, "orders/new #2: 3 subscribers of the node itself\n");
    assert_eq!(people.line(), "orders/new  {\"id\": 17}");
    let object: Value = serde_json::from_str(&program.line()).unwrap();
    assert_eq!((&object["topic"], &object["sequence"]), (&json!("orders/new"), &json!(2)));
    assert_eq!((&object["payload"], &object["redelivered"]), (&json!({"id": 17}), &json!(false)));
    assert_eq!(object["content"], "json");

    ok(home, &["pub", "--raw", "orders/new", "as it is"]);
    assert_eq!(program.end().1, Some(0), "it ends by itself");
    assert_eq!(bytes.end(), ("{\"id\": 17}as it is".into(), Some(0)));
    assert_eq!(people.line(), "orders/new  as it is");
    people.interrupt();
    assert_eq!(people.end(), (String::new(), Some(0)));
}

#[test]
fn events_cross_to_subscribers_that_join_by_themselves() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (_node, address) = Running::node(home);
    // A publisher reaches those to whom it is connected: this node is in the middle.
    let mut outside = Running::subscriber(home, &["--peer", &address, "log/>"]);
    let receipts = ok(home, &["--json", "pub", "log/a", "7", "--count", "50", "--wait", "10s"]);
    let receipts: Vec<Value> =
        receipts.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(receipts.len(), 50);
    for receipt in &receipts {
        assert_eq!(receipt["outcome"]["acknowledged"], 1, "{receipt}");
        assert_eq!(receipt["outcome"]["complete"], true, "{receipt}");
        assert_eq!(outside.line(), "log/a  7");
    }
    outside.interrupt();
    assert_eq!(outside.end(), (String::new(), Some(0)));

    // And the other way round: what is published on leaving arrives.
    let mut here = Running::subscriber(home, &["log/>"]);
    ok(home, &["pub", "--peer", &address, "log/b", "\"x\"", "--count", "20"]);
    for _ in 0..20 {
        assert_eq!(here.line(), "log/b  \"x\"");
    }
}

#[test]
fn a_group_shares_what_it_gets() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (_node, _) = Running::node(home);
    let group = ["--json", "jobs/>", "--group", "workers"];
    let members = [0, 1].map(|_| Running::subscriber(home, &group));
    let mut auditor = Running::subscriber(home, &["jobs/>"]);
    for n in 0..60 {
        ok(home, &["pub", "jobs/new", &n.to_string(), "--wait", "10s"]);
        assert_eq!(auditor.line(), format!("jobs/new  {n}"));
    }
    let mut got: Vec<u64> = Vec::new();
    for member in members {
        member.interrupt();
        let (lines, code) = member.end();
        assert_eq!(code, Some(0));
        assert!(!lines.is_empty(), "each gets its share");
        for line in lines.lines() {
            let object: Value = serde_json::from_str(line).expect(line);
            got.push(object["payload"].as_u64().unwrap());
        }
    }
    got.sort_unstable();
    assert_eq!(got, (0..60).collect::<Vec<u64>>(), "each job went to one of them");
}

#[test]
fn what_is_wrong_is_said() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    for args in [
        vec!["pub", "a//b"],
        vec!["pub", "orders/*", "1"],
        vec!["pub", "a", "no json"],
        vec!["pub", "a", "1", "--wait", "5"],
        vec!["sub", "a/>/b"],
        vec!["sub", "a", "--at-least-one"],
        vec!["sub", "a", "--raw"],
        vec!["topic", "match", "a/{}", "a/b"],
        vec!["topic", "match", "a/*"],
    ] {
        let (code, error) = error(home, &args);
        assert_eq!((code, &error["code"]), (2, &json!("USAGE")), "{args:?}: {error}");
    }
    let (code, nobody) = error(home, &["pub", "a", "1"]);
    assert_eq!((code, &nobody["code"]), (1, &json!("NO_LOCAL_NODE")));
    assert!(nobody["message"].as_str().unwrap().contains("dunlin node run"), "{nobody}");

    let (node, _) = Running::node(home);
    let (code, nameless) = error(home, &["sub", "a", "--group", ""]);
    assert_eq!((code, &nameless["code"]), (1, &json!("SUBSCRIBE")), "{nameless}");
    let (code, network) = error(home, &["pub", "bank:a", "1"]);
    assert_eq!((code, &network["code"]), (1, &json!("PERMISSION_DENIED")), "{network}");
    // Who subscribes is told that the node is gone.
    let subscriber = Running::subscriber(home, &["a"]);
    node.interrupt();
    assert_eq!(node.end().1, Some(0));
    assert_eq!(subscriber.end(), (String::new(), Some(1)));
    for command in ["pub", "sub"] {
        assert!(ok(home, &["help", command]).contains("Examples:"));
    }
}

#[test]
fn patterns_are_tried_without_a_node() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let matched = ok(home, &["topic", "match", "orders/{id}/*", "orders/17/paid", "stock/1"]);
    assert_eq!(matched, "orders/17/paid  orders/{id}/*  id=17\nstock/1  no match\n");
    let args = ["topic", "match", "orders/>", "orders/17", "--or", "*/17", "--or", "orders/{id}"];
    let expected = "orders/17  orders/{id}  id=17\norders/17  orders/>\norders/17  */17\n";
    assert_eq!(ok(home, &args), expected, "the most specific first");
    let object: Value =
        serde_json::from_str(&ok(home, &["--json", "topic", "match", "a/{b}", "a/x"])).unwrap();
    assert_eq!(object, json!({"path": "a/x", "pattern": "a/{b}", "captures": {"b": "x"}}));
    let (code, none) = error(home, &["topic", "match", "shop:a/*", "a/b", "bank:a/b"]);
    assert_eq!((code, &none["code"]), (1, &json!("NO_MATCH")));
}

#[test]
fn a_benchmark_counts_every_delivery() {
    let home = tempfile::tempdir().unwrap();
    let args = ["--json", "bench", "events", "--seconds", "0.05", "--rounds", "1"];
    let said = ok(home.path(), &[&args[..], &["--outstanding", "16"]].concat());
    let report: Value = serde_json::from_str(&said).expect(&said);
    for contender in ["dunlin_rounds", "quinn_rounds"] {
        let round = &report[contender][0];
        let came = round["operations"].as_u64().unwrap();
        assert_eq!(round["lost"], 0, "{round}");
        assert!(came > 0 && came.is_multiple_of(8), "each of eight got each event: {round}");
    }
}
