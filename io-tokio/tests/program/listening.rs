//! Where a node listens if nothing is said.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

use crate::server::{Server, text};
use crate::{dunlin, run};

fn socket_of(address: &str) -> SocketAddr {
    address.split_once('@').unwrap().1.parse().unwrap()
}

/// Whether the port is bound on more than 127.0.0.1 and ::1.
fn is_taken_elsewhere(port: u16) -> bool {
    // Loopback of another number: everything that is bound on all addresses has it too.
    UdpSocket::bind(("127.0.0.2", port)).is_err()
}

#[test]
fn a_development_node_listens_on_loopback_unless_it_is_asked() {
    let home = tempfile::tempdir().unwrap();
    for command in [&["echo"][..], &["exec", "--path", "echo/say", "--", "cat"]] {
        let (command, rest) = command.split_at(command.len().min(3));
        let private = [command, &["--control", "none"], rest].concat();
        let server = Server::start(home.path(), &private);
        assert!(!is_taken_elsewhere(socket_of(&server.address).port()), "{command:?}");
        for address in &server.addresses {
            assert!(socket_of(address).ip().is_loopback(), "{address}");
            let called = run(home.path(), &["call", "--peer", address, "echo/say", "1"]);
            assert!(called.status.success(), "{address}: {}", text(&called.stderr));
        }
    }
    let other = home.path().join("other.key");
    let id = text(&run(home.path(), &["id", "new", "--out", other.to_str().unwrap()]).stdout);
    let elsewhere = format!("{}@192.0.2.1:4400", id.trim());
    let asked = [
        &["echo", "--control", "none", "--listen", "[::]:0"][..],
        &["echo", "--control", "none", "--peer", &elsewhere],
    ];
    for command in asked {
        let server = Server::start(home.path(), command);
        assert!(is_taken_elsewhere(socket_of(&server.address).port()), "{command:?}");
    }
}

#[test]
fn a_node_on_loopback_dials_peers_on_both_loopback_addresses() {
    let home = tempfile::tempdir().unwrap();
    let mut server = Server::start(home.path(), &["echo", "--control", "none"]);
    let has_v6 = UdpSocket::bind("[::1]:0").is_ok();
    assert_eq!(server.addresses.len(), 1 + usize::from(has_v6), "{:?}", server.addresses);
    for address in server.addresses.clone() {
        let caller = ["echo", "--path", "other", "--control", "none", "--peer", &address];
        let mut caller = Server::start(home.path(), &caller);
        assert_eq!(caller.until("peer_up")["peer"], server.id());
        let remote = server.until("peer_up")["remote"].clone();
        let remote: SocketAddr = remote.as_str().unwrap().parse().unwrap();
        let dialled: IpAddr = socket_of(&address).ip();
        assert_eq!(remote.ip(), dialled);
    }
}

/// Serves in a network of its own, and calls each address that is written to it.
const SERVE_AND_CALL: &str = "set -e; ip link set lo up; eval \"$SETUP\"; \
    \"$DUNLIN\" --json serve echo --control none $LISTEN </dev/null & server=$!; \
    while read address; do \
        \"$DUNLIN\" call --timeout 5s --peer \"$address\" echo/say 1 >/dev/null && echo answered || true; \
    done; kill $server; wait $server";

/// Where the system allows network namespaces: the addresses that are printed are such as work there.
#[test]
fn addresses_that_are_printed_work_on_machines_of_all_kinds() {
    let allowed = Command::new("unshare").args(["-rn", "ip", "link", "set", "lo", "up"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    for setup in [
        "",
        "echo 1 >/proc/sys/net/ipv6/bindv6only",
        "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6",
        "ip addr del 127.0.0.1/8 dev lo",
    ] {
        for listen in ["", "--listen [::]:0"] {
            let mut command = Command::new("unshare");
            let plain = dunlin(home.path());
            let environment = plain.get_envs().filter_map(|(name, value)| Some((name, value?)));
            command.args(["-rn", "sh", "-c", SERVE_AND_CALL]).envs(environment);
            command.env("DUNLIN", env!("CARGO_BIN_EXE_dunlin")).env("SETUP", setup);
            command.env("LISTEN", listen).stdin(Stdio::piped()).stderr(Stdio::null());
            let mut server = Server::of(&mut command);
            let mut addresses = server.child.stdin.take().unwrap();
            for address in &server.addresses {
                writeln!(addresses, "{address}").unwrap();
            }
            drop(addresses);
            let mut answers = String::new();
            server.lines.read_to_string(&mut answers).unwrap();
            let answered = answers.lines().filter(|line| *line == "answered").count();
            assert_eq!(answered, server.addresses.len(), "{setup:?} {listen:?}: {answers}");
        }
    }
}
