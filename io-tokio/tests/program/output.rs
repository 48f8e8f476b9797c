//! What the program writes to standard error, and to readers that are gone.

#![cfg(unix)]

use std::fs::File;
use std::process::Stdio;

use crate::server::{LOCAL, Server, error_of, objects, text};
use crate::{dunlin, run};

const ECHO: [&str; 6] = ["serve", "echo", "--control", "none", LOCAL[0], LOCAL[1]];

#[test]
fn standard_error_has_colours_on_terminals_alone_and_with_json_objects_alone() {
    let home = tempfile::tempdir().unwrap();
    for format in [&[][..], &["--json"]] {
        let path = home.path().join("stderr");
        let file = File::create(&path).unwrap();
        let mut command = dunlin(home.path());
        let server = Server::of(command.args(["--json", "-vv"]).args(ECHO).stderr(file));
        let call = [format, &["-vv", "call", "--peer", &server.address, "no/body"]].concat();
        let called = run(home.path(), &call);
        assert_eq!(called.status.code(), Some(1));
        drop(server);
        let logged = std::fs::read(&path).unwrap();
        assert!(logged.len() > 1_000, "much is logged");
        objects(&logged);
        let told = text(&called.stderr);
        assert!(told.lines().count() > 10 && !told.contains('\u{1b}'), "{told}");
        if !format.is_empty() {
            objects(&called.stderr);
            assert_eq!(error_of(&called)["code"], "NO_RESPONDERS");
        }
    }
}

#[test]
fn a_reader_of_standard_error_that_dies_hurts_no_node() {
    let home = tempfile::tempdir().unwrap();
    for format in [&["-vv"][..], &["-vv", "--json"]] {
        let mut command = dunlin(home.path());
        // Where it listens is read from standard output.
        command.args(format).args(ECHO).arg("--json").stderr(Stdio::piped());
        let mut server = Server::of(&mut command);
        drop(server.child.stderr.take());
        for _ in 0..2 {
            let called = run(home.path(), &["call", "--peer", &server.address, "echo/say", "1"]);
            assert!(called.status.success(), "{}", text(&called.stderr));
        }
        server.interrupt();
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "it takes leave");
    }
}

#[test]
fn the_bounds_of_a_node_are_shown() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("a.sock");
    let control = ["--control", socket.to_str().unwrap()];
    let mut server = Server::start(home.path(), &[&["echo"], &control[..], &LOCAL].concat());
    let peer = ["echo", "--control", "none", "--peer", &server.address, LOCAL[0], LOCAL[1]];
    let _peer = Server::start(home.path(), &peer);
    server.until("peer_up");
    let limits = ["node", "limits", control[0], control[1]];

    let shown = run(home.path(), &[&limits[..], &["--all"]].concat());
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let shown = text(&shown.stdout);
    let mut lines = shown.lines();
    let columns: Vec<&str> = lines.next().unwrap().split("  ").filter(|c| !c.is_empty()).collect();
    let columns: Vec<&str> = columns.iter().map(|column| column.trim()).collect();
    assert_eq!(columns, ["LIMIT", "OF ONE", "IN USE", "AT MOST", "REFUSED"]);
    let all = lines.count();

    let shown = run(home.path(), &[&["--json"], &limits[..]].concat());
    let shown = objects(&shown.stdout);
    assert_eq!(shown.len(), all, "programs get them all");
    for limit in &shown {
        assert!(limit["limit"].is_string() && limit["scope"].is_string(), "{limit}");
        assert!(limit["max"].is_u64() && limit["refused"].is_u64(), "{limit}");
    }
    for counted in ["peers", "links"] {
        let limit = shown.iter().find(|limit| limit["limit"] == counted).expect(counted);
        assert_eq!(limit["used"], 1, "{limit}");
    }

    // Without --all those alone that matter.
    let some = run(home.path(), &limits);
    let some = text(&some.stdout);
    assert!(some.contains("\nlinks ") && some.lines().count() < all, "{some}");

    let nobody = run(home.path(), &["--json", "node", "limits", "--control", "/nowhere"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert_eq!(error_of(&nobody)["code"], "CONTROL");
}

#[test]
fn a_node_that_finds_a_later_start_of_itself_ends_with_an_error() {
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("twin.key");
    let key = key.to_str().unwrap();
    run(home.path(), &["id", "new", "--out", key]);
    let peer = Server::start(home.path(), &[&["echo", "--control", "none"], &LOCAL[..]].concat());
    let twin = ["node", "run", "--key", key, "--data", "none", "--control", "none"];
    let twin = [&["--json"], &twin[..], &LOCAL, &["--peer", &peer.address]].concat();
    let start = || Server::of(dunlin(home.path()).args(&twin).stderr(Stdio::piped()));
    let mut older = start();
    older.until("peer_up");
    let mut newer = start();
    newer.until("peer_up");
    assert_eq!(older.until("newer_self")["told_by"], peer.id());
    let mut told = Vec::new();
    std::io::Read::read_to_end(&mut older.child.stderr.take().unwrap(), &mut told).unwrap();
    assert_eq!(older.child.wait().unwrap().code(), Some(1));
    let error = objects(&told).pop().unwrap()["error"].clone();
    assert_eq!(error["code"], "NODE");
    assert!(error["message"].as_str().unwrap().contains("a later start of this node"), "{error}");
    newer.interrupt();
    assert_eq!(newer.child.wait().unwrap().code(), Some(0), "the later one goes on");
}
