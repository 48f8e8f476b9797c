//! The active process is killed, and another takes over.

use std::time::{Duration, Instant};

use dunlin_tokio::FencingToken;

use crate::calls::{Calls, TELL_TOKEN};
use crate::cluster::{Cluster, REPLACED_WITHIN};

/// So often the active process is killed, unless this says otherwise.
const KILLS: &str = "DUNLIN_LEADER_KILLS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_is_replaced_while_a_client_goes_on_calling() {
    let kills: usize = std::env::var(KILLS).map_or(3, |text| text.parse().expect("a number"));
    let serve = ["--single-active", "--path", "counter/token"];
    let mut cluster = Cluster::start(&serve, TELL_TOKEN).await;
    cluster.leader().await;
    let calls = Calls::start(&cluster.client, Duration::from_millis(25));
    let mut took = Vec::new();
    for _ in 0..kills {
        let (at, token) = cluster.leader().await;
        calls.after(FencingToken { round: token.round - 1, ..token }).await;
        let server = cluster.place(at);
        let killed = Instant::now();
        cluster.servers[server].kill();
        let (answered, by) = calls.after(token).await;
        assert!(by > token, "tokens grow");
        took.push(answered - killed);
        cluster.restart(server);
        // After a start it abstains, as an acceptor.
        cluster.servers[server].until("acceptor_ready").await;
    }
    println!("replaced within {took:?}");
    assert!(took.iter().all(|took| *took <= REPLACED_WITHIN), "{took:?}");
    // Tokens of answers never go back for long: an answer of an earlier leader may be on its way.
    let (at, token) = cluster.leader().await;
    // The program sees the same, and can move it.
    let there = &cluster.servers[cluster.place(at)];
    let shown = &there.ok(&["leader", "show", "counter"])[0];
    assert_eq!(shown["leader"], at.to_string());
    assert_eq!(shown["token"], token.to_string());
    assert_eq!(shown["standbys"].as_array().map(Vec::len), Some(2));
    let elsewhere = cluster.servers.iter().find(|server| server.id != at).unwrap();
    let error = elsewhere.error(&["leader", "stepdown", "counter"]);
    let (code, message) = (&error["code"], error["message"].as_str().expect("words"));
    assert!(*code == "NOT_ACTIVE" && message.contains(&at.to_string()), "{error}");
    there.ok(&["leader", "stepdown", "counter"]);
    calls.after(token).await;
    assert_ne!(cluster.leader().await.0, at);
    // Whoever comes as a caller need not know who is active, and whoever it meets first.
    for first in (0..3).chain(0..3) {
        let output = cluster.calling("counter/token", first).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    calls.seen();
}
