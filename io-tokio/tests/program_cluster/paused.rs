//! An operator pauses what a process serves, and resumes it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dunlin_tokio::{CallError, Executed, Payload};
use serde_json::{Value, json};

use crate::calls::{Calls, TELL_TOKEN, text};
use crate::cluster::Cluster;
use crate::watching::Watching;

/// A pause takes no longer than a hand-over, and nobody waits until a lease is over.
const HANDED_OVER_WITHIN: Duration = Duration::from_millis(500);

async fn who(cluster: &Cluster) -> Result<String, CallError> {
    let request = cluster.client.request("who/am").payload(Payload::raw(Vec::new()));
    let answer = request.timeout(Duration::from_secs(1)).send().await?;
    Ok(text(&answer).trim().to_string())
}

/// Who answers of many calls.
async fn all_who(cluster: &Cluster) -> BTreeSet<String> {
    let mut answered = BTreeSet::new();
    for _ in 0..12 {
        answered.insert(who(cluster).await.expect("somebody is there"));
    }
    answered
}

fn ids(cluster: &Cluster, servers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    servers.into_iter().map(|server| cluster.servers[server].id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_service_is_called_elsewhere_and_nothing_runs_if_all_are_paused() {
    let cluster = Cluster::start(&["--path", "who/am"], "echo $ID").await;
    let servers = &cluster.servers;
    cluster.until_states(["running"; 3]).await;
    assert_eq!(all_who(&cluster).await, ids(&cluster, 0..3));

    let paused = servers[0].ok(&["service", "pause", "who"]);
    assert_eq!(paused, [json!({ "event": "paused", "service": "who" })]);
    cluster.until_states(["paused", "running", "running"]).await;
    assert_eq!(all_who(&cluster).await, ids(&cluster, 1..3));
    // Its own node's calls go elsewhere, too.
    let own = servers[0].ask(&["call", "--raw", "who/am"]);
    assert!(own.status.success(), "{own:?}");

    let error = servers[0].error(&["service", "pause", "who"]);
    assert_eq!(error["code"], "WRONG_STATE");
    assert_eq!(error["message"], "'who' cannot be paused: it is paused");
    let error = servers[1].error(&["service", "resume", "who"]);
    assert_eq!(error["message"], "'who' cannot be resumed: it is running");
    let error = servers[1].error(&["service", "resume", "whom"]);
    assert_eq!(error["code"], "NO_SUCH_SERVICE");
    assert_eq!(error["message"], "this node does not offer 'whom'; it offers who");
    assert_eq!(servers[1].error(&["service", "resume", "/"])["code"], "INVALID_PATH");

    servers[1].ok(&["service", "pause", "who"]);
    servers[2].ok(&["service", "pause", "who"]);
    cluster.until_states(["paused"; 3]).await;
    let error = who(&cluster).await.expect_err("nobody takes it");
    assert_eq!((error.code(), error.executed()), ("NO_RESPONDERS", Executed::No));

    servers[2].ok(&["service", "resume", "who"]);
    cluster.until_states(["paused", "paused", "running"]).await;
    assert_eq!(all_who(&cluster).await, ids(&cluster, [2]));
    let resumed = servers[0].ok(&["service", "resume", "who"]);
    assert_eq!(resumed, [json!({ "event": "resumed", "service": "who" })]);
    cluster.until_states(["running", "paused", "running"]).await;
    assert_eq!(all_who(&cluster).await, ids(&cluster, [0, 2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_paused_gives_way_at_once_and_stands_by_when_it_is_resumed() {
    let serve = ["--single-active", "--path", "counter/token"];
    let cluster = Cluster::start(&serve, TELL_TOKEN).await;
    cluster.leader().await;
    let mut watching = Watching::start(&cluster);
    let calls = Calls::start(&cluster.client, Duration::from_millis(10));
    let states = |state: [(usize, &'static str); 3]| {
        let mut states = [""; 3];
        state.into_iter().for_each(|(server, state)| states[server] = state);
        states
    };
    let (at, token) = calls.leader(&cluster).await;
    watching.until((at, token)).await;
    let first = cluster.place(at);
    let begun = Instant::now();
    cluster.servers[first].ok(&["service", "pause", "counter"]);
    let (answered, second_token) = calls.after(token).await;
    let took = answered - begun;
    println!("handed over within {took:?} of the command");
    assert!(took <= HANDED_OVER_WITHIN, "{took:?}");
    let (second_at, by) = cluster.leader().await;
    assert_eq!(by, second_token, "it stays there");
    watching.until((second_at, by)).await;
    let second = cluster.place(second_at);
    let third = 3 - first - second;
    let running = [(first, "paused"), (second, "running"), (third, "standby")];
    cluster.until_states(states(running)).await;
    let shown = &cluster.servers[first].ok(&["leader", "show", "counter"])[0];
    assert_eq!(shown["leader"], second_at.to_string());
    assert_eq!(shown["paused"], json!([at.to_string()]));
    assert_eq!(shown["standbys"], json!([cluster.servers[third].id.to_string()]));

    // With nobody left, calls wait within their time, and are not run.
    cluster.servers[third].ok(&["service", "pause", "counter"]);
    cluster.servers[second].ok(&["service", "pause", "counter"]);
    cluster.until_states(["paused"; 3]).await;
    let request = cluster.client.request("counter/token").payload(Payload::raw(Vec::new()));
    let error = request.timeout(Duration::from_millis(200)).send().await.expect_err("nobody leads");
    assert_eq!(error.executed(), Executed::No, "{error}");
    let shown = &cluster.servers[first].ok(&["leader", "show", "counter"])[0];
    assert_eq!((&shown["leader"], &shown["standbys"]), (&Value::Null, &json!([])));

    // The only one that stands by leads; the next one stands by.
    cluster.servers[first].ok(&["service", "resume", "counter"]);
    calls.after(second_token).await;
    cluster.servers[second].ok(&["service", "resume", "counter"]);
    let resumed = [(first, "running"), (second, "standby"), (third, "paused")];
    cluster.until_states(states(resumed)).await;
    let (last_at, last) = cluster.leader().await;
    assert_eq!(last_at, at);
    watching.until((last_at, last)).await;
    assert_eq!(watching.end().await, [token, second_token, last]);
}
