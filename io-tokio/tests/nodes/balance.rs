//! Several real nodes over loopback that serve the same.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_tokio::{Failure, Node, NodeEvent, PeerAddress, Selection, Spread, action, service};

/// Everything here ends far sooner, or something is broken.
const BOUND: Duration = Duration::from_secs(20);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it ends in time")
}

/// A node that answers with its number.
fn who(number: u64, version: &str) -> dunlin_tokio::ServiceBuilder {
    service("who")
        .version(version)
        .describe("Says who answers")
        .spread(Spread::RoundRobin)
        .action(action("are").describe("The number of the node"), move |_cx, ()| async move {
            Ok(number)
        })
}

fn local() -> dunlin_tokio::NodeBuilder {
    Node::builder().development_network().listen("127.0.0.1:0".parse().unwrap())
}

async fn server(number: u64) -> Node {
    local().service(who(number, &format!("1.{number}.0"))).start().await.unwrap()
}

async fn counts(client: &Node, calls: usize) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..calls {
        *counts.entry(within(client.call("who/are", ())).await.unwrap()).or_default() += 1;
    }
    counts
}

/// Waits until the client knows of a change at a peer.
async fn change_of(events: &mut dunlin_tokio::Events, peer: dunlin_tokio::PeerId) {
    let change = async { while events.next().await != Some(NodeEvent::PeerServices { peer }) {} };
    within(change).await;
}

#[tokio::test]
async fn calls_balance_over_three_instances_and_follow_services_that_come_and_go() {
    let servers = [server(0).await, server(1).await, server(2).await];
    let client = local().start().await.unwrap();
    for server in &servers {
        let peer = PeerAddress::new(server.id(), server.local_addr());
        within(client.connect(peer)).await.unwrap();
    }
    assert_eq!(counts(&client, 30).await, BTreeMap::from([(0, 10), (1, 10), (2, 10)]));

    let mut events = client.events();
    let service = servers[1].service("who").await.unwrap();
    within(service.pause()).await.unwrap();
    change_of(&mut events, servers[1].id()).await;
    assert_eq!(counts(&client, 10).await, BTreeMap::from([(0, 5), (2, 5)]));
    within(service.resume()).await.unwrap();
    change_of(&mut events, servers[1].id()).await;
    assert_eq!(counts(&client, 9).await, BTreeMap::from([(0, 3), (1, 3), (2, 3)]));
    within(service.stop()).await.unwrap();
    change_of(&mut events, servers[1].id()).await;
    assert_eq!(counts(&client, 4).await, BTreeMap::from([(0, 2), (2, 2)]));
    let again = within(servers[1].add_service(who(7, "2.0.0"))).await.unwrap();
    change_of(&mut events, servers[1].id()).await;
    assert_eq!(again.path().as_str(), "who");

    let ask = || client.request("who/are").value(());
    let newest: u64 = within(ask().version("2").send_as()).await.unwrap();
    assert_eq!(newest, 7);
    let error = within(ask().version("3").send()).await.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::NoResponders));
    let one: u64 = within(ask().by_key("a user").send_as()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(within(ask().by_key("a user").send_as::<u64>()).await.unwrap(), one);
    }
    for selection in [Selection::Random, Selection::LeastLoaded] {
        let mut asked = BTreeMap::<u64, usize>::new();
        for _ in 0..60 {
            let answer = within(ask().select(selection).send_as()).await.unwrap();
            *asked.entry(answer).or_default() += 1;
        }
        assert!(asked.len() > 1, "{selection:?}: {asked:?}");
    }
}
