//! A node that ends without taking leave tells its peers, whichever way its process goes. Each way is taken by a process of
//! its own: this program, which runs one test that does nothing unless it is told where the peer is.

use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dunlin_tokio::{Node, NodeEvent, PeerAddress};

const PEER: &str = "DUNLIN_TEST_PEER";
const WAY: &str = "DUNLIN_TEST_WAY";

/// Within this a peer is told. Without a word it would wait for its idle time-out of 15 s.
const TOLD: Duration = Duration::from_secs(1);

fn local() -> dunlin_tokio::NodeBuilder {
    Node::builder().development_network().listen("127.0.0.1:0".parse().unwrap())
}

/// The way that the process is told to take.
#[test]
fn a_process_that_goes() {
    let (Ok(peer), Ok(way)) = (std::env::var(PEER), std::env::var(WAY)) else { return };
    let peer: PeerAddress = peer.parse().unwrap();
    let connected = async {
        let node = local().start().await.unwrap();
        node.connect(peer).await.unwrap();
        node
    };
    let one = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let several = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match way.as_str() {
        "drop on one thread" => one().block_on(async { drop(connected.await) }),
        "drop on several threads" => several().block_on(async {
            drop(connected.await);
            // As a process does whose `main` ends, but before any other thread can do something.
            std::process::exit(0);
        }),
        "drop in the middle of a leave" => one().block_on(async {
            let node = connected.await;
            let mut leave = Box::pin(node.shutdown());
            // The driver begins it, and peers have not acknowledged that yet.
            let _ = tokio::time::timeout(Duration::ZERO, &mut leave).await;
            tokio::task::yield_now().await;
            drop(leave);
        }),
        "panic on one thread" => one().block_on(async {
            let _node = connected.await;
            panic!("on purpose");
        }),
        "panic on several threads" => several().block_on(async {
            let _node = connected.await;
            panic!("on purpose");
        }),
        "panic in a task that has the node" => several().block_on(async {
            let node = connected.await;
            let task = tokio::spawn(async move {
                let _node = node;
                panic!("on purpose");
            });
            let _ = task.await;
            std::process::exit(0);
        }),
        other => panic!("'{other}' is no way"),
    }
}

/// Has a process connect to a node and go; how it went, and how long after that the node knew.
async fn told_after(way: &str) -> (ExitStatus, Duration) {
    let node = local().start().await.unwrap();
    let mut events = node.events();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "goodbyes::a_process_that_goes"])
        .env(PEER, PeerAddress::new(node.id(), node.local_addr()).to_string())
        .env(WAY, way)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let down = tokio::spawn(async move {
        loop {
            if let NodeEvent::PeerDown { .. } = events.next().await.expect("the node runs") {
                return Instant::now();
            }
        }
    });
    let gone = tokio::task::spawn_blocking(move || (process.wait().unwrap(), Instant::now()));
    let (status, ended) = gone.await.unwrap();
    let down = tokio::time::timeout(Duration::from_secs(20), down).await;
    let down = down.unwrap_or_else(|_| panic!("{way}: its end is noticed")).unwrap();
    (status, down.saturating_duration_since(ended))
}

#[tokio::test]
async fn peers_are_told_whichever_way_a_process_goes() {
    for (way, succeeds) in [
        ("drop on one thread", true),
        ("drop on several threads", true),
        ("drop in the middle of a leave", true),
        ("panic on one thread", false),
        ("panic on several threads", false),
        ("panic in a task that has the node", true),
    ] {
        let (status, after) = told_after(way).await;
        assert_eq!(status.success(), succeeds, "{way}: {status}");
        assert!(after < TOLD, "{way}: told {after:?} after it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drop_on_several_threads_returns_when_peers_are_told() {
    let (peer, node) = (local().start().await.unwrap(), local().start().await.unwrap());
    node.connect(PeerAddress::new(peer.id(), peer.local_addr())).await.unwrap();
    let handle = node.handle();
    let mut events = node.events();
    // The node's own thread is at work when it is dropped.
    let (busy, is_busy) = std::sync::mpsc::channel();
    let (dropping, is_dropping) = std::sync::mpsc::channel();
    let work = node.inspect(move |_, _, _| {
        busy.send(()).unwrap();
        is_dropping.recv().unwrap();
    });
    let _ = tokio::time::timeout(Duration::ZERO, work).await;
    is_busy.recv().unwrap();
    dropping.send(()).unwrap();
    drop(node);
    // Nothing is awaited in between.
    let ended = async {
        while let Some(event) = events.next().await {
            drop(event);
        }
    };
    tokio::time::timeout(Duration::ZERO, ended).await.expect("it has ended");
    assert!(handle.call::<_, ()>("no/body", ()).await.is_err());
}
