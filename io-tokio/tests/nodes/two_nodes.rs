//! Two real nodes over loopback.

use std::sync::Arc;
use std::time::Duration;

use dunlin_tokio::{
    CallError, ConnectError, Executed, Failure, HandlerError, Node, NodeError, NodeEvent,
    PeerAddress, RefuseCode, ServiceError, StartError, key, service,
};
use tokio::sync::Notify;

/// Everything here ends far sooner, or something is broken.
const BOUND: Duration = Duration::from_secs(20);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it ends in time")
}

fn local() -> dunlin_tokio::NodeBuilder {
    Node::builder().development_network().listen("127.0.0.1:0".parse().unwrap())
}

fn address(node: &Node) -> PeerAddress {
    PeerAddress::new(node.id(), node.local_addr())
}

fn math() -> dunlin_tokio::ServiceBuilder {
    service("math")
        .action("add", |_cx, (a, b): (i64, i64)| async move { Ok(a + b) })
        .action("divide", |_cx, (a, b): (i64, i64)| async move {
            a.checked_div(b).ok_or_else(|| HandlerError::application("DIVISION", "by zero"))
        })
        .action("panic", |_cx, ()| async move {
            if true {
                panic!("on purpose");
            }
            Ok(())
        })
}

/// One that serves `math`, and one that is connected to it.
async fn pair() -> (Node, Node) {
    let server = local().service(math()).start().await.unwrap();
    let client = local().start().await.unwrap();
    let peer = within(client.connect(address(&server))).await.unwrap();
    assert_eq!(peer.peer, server.id());
    assert_eq!(peer.services.len(), 1);
    (server, client)
}

#[tokio::test]
async fn a_call_reaches_the_peer_that_serves_it_and_its_answer_comes_back() {
    let (server, client) = pair().await;
    let sum: i64 = within(client.call("math/add", (1, 2))).await.unwrap();
    assert_eq!(sum, 3);
    let request = client.request("math/add").to(server.id()).value((40, 2));
    let sum: i64 = within(request.timeout(BOUND).send_as()).await.unwrap();
    assert_eq!(sum, 42);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_at_once_are_answered_each_with_its_own() {
    let (_server, client) = pair().await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..1_000i64 {
        let handle = client.handle();
        calls.spawn(async move { (n, handle.call::<_, i64>("math/add", (n, n)).await) });
    }
    while let Some(ended) = within(calls.join_next()).await {
        let (n, answer) = ended.unwrap();
        assert_eq!(answer.unwrap(), 2 * n);
    }
}

#[tokio::test]
async fn the_own_service_is_asked_before_a_peer() {
    let (_server, client) = pair().await;
    let mine = service("math").action("add", |_cx, _: (i64, i64)| async move { Ok(-1) });
    let handle = client.add_service(mine).await.unwrap();
    let sum: i64 = within(client.call("math/add", (1, 2))).await.unwrap();
    assert_eq!(sum, -1);
    within(handle.stop()).await.unwrap();
    let sum: i64 = within(client.call("math/add", (1, 2))).await.unwrap();
    assert_eq!(sum, 3, "the peer's, once the own one is gone");
}

#[tokio::test]
async fn errors_say_what_happened_and_whether_the_call_ran() {
    let (_server, client) = pair().await;
    let error = within(client.call::<_, i64>("math/divide", (1, 0))).await.unwrap_err();
    assert!(matches!(&error, CallError::Application(e) if e.code == "DIVISION"), "{error}");
    let error = within(client.call::<_, i64>("math/add", "text")).await.unwrap_err();
    assert_eq!((error.failure(), error.executed()), (Some(Failure::BadRequest), Executed::No));
    let error = within(client.call::<_, ()>("math/panic", ())).await.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::HandlerFailed));
    let error = within(client.call::<_, ()>("nobody/here", ())).await.unwrap_err();
    assert_eq!((error.failure(), error.executed()), (Some(Failure::NoResponders), Executed::No));
    let error = within(client.call::<_, ()>("not a path", ())).await.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::InvalidPath));
}

#[tokio::test]
async fn a_shutdown_lets_a_slow_call_end_and_its_answer_arrive() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (begun, go_on) = (begun.clone(), go_on.clone());
        service("slow").action("wait", move |_cx, ()| {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            async move {
                begun.notify_one();
                go_on.notified().await;
                Ok("done".to_string())
            }
        })
    };
    let server = local().service(slow).start().await.unwrap();
    let client = local().start().await.unwrap();
    within(client.connect(address(&server))).await.unwrap();
    let handle = client.handle();
    let call = tokio::spawn(async move { handle.call::<_, String>("slow/wait", ()).await });
    within(begun.notified()).await;

    let mut events = client.events();
    let shutdown = tokio::spawn(server.shutdown());
    // New calls are refused while the old one still runs.
    within(async {
        loop {
            match events.next().await.expect("the client runs") {
                NodeEvent::PeerServices { .. } => return,
                _ => continue,
            }
        }
    })
    .await;
    assert!(!shutdown.is_finished());
    go_on.notify_one();
    assert_eq!(within(call).await.unwrap().unwrap(), "done");
    within(shutdown).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_node_that_is_dropped_leaves_nobody_waiting() {
    let (begun, handle) = {
        let begun = Arc::new(Notify::new());
        let started = begun.clone();
        let never = service("never").action("ends", move |_cx, ()| {
            started.notify_one();
            std::future::pending::<Result<(), HandlerError>>()
        });
        let node = local().service(never).start().await.unwrap();
        let handle = node.handle();
        let caller = handle.clone();
        let call = tokio::spawn(async move { caller.call::<_, ()>("never/ends", ()).await });
        within(begun.notified()).await;
        let mut events = node.events();
        drop(node);
        let error = within(call).await.unwrap().unwrap_err();
        assert_eq!(error.failure(), Some(Failure::ShuttingDown));
        assert_eq!(within(events.next()).await, None);
        (begun, handle)
    };
    drop(begun);
    let error = within(handle.call::<_, ()>("never/ends", ())).await.unwrap_err();
    assert_eq!((error.failure(), error.executed()), (Some(Failure::ShuttingDown), Executed::No));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = local().start().await.unwrap();
    let error = local().listen(first.local_addr()).start().await.unwrap_err();
    assert!(matches!(error, StartError::AddressInUse(address) if address == first.local_addr()));
    assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");
    let error = local().listen("192.0.2.1:0".parse().unwrap()).start().await.unwrap_err();
    assert!(matches!(error, StartError::Bind { .. }), "{error}");
}

#[tokio::test]
async fn a_peer_with_another_key_is_not_talked_to() {
    let server = local().start().await.unwrap();
    let client = local().start().await.unwrap();
    let wrong = PeerAddress::new(key::generate().id(), server.local_addr());
    let error = within(client.connect(wrong)).await.unwrap_err();
    assert!(matches!(error, ConnectError::WrongPeer(_)), "{error}");
    assert!(server.peers().await.is_empty() && client.peers().await.is_empty());
}

#[tokio::test]
async fn whoever_is_not_allowed_is_told_so() {
    let friend = key::generate();
    let server = local().allow([friend.id()]).start().await.unwrap();
    let stranger = local().start().await.unwrap();
    let error = within(stranger.connect(address(&server))).await.unwrap_err();
    let refused = matches!(error, ConnectError::Refused { why: RefuseCode::NotAllowed, .. });
    assert!(refused, "{error}");
    let friend = local().identity(friend).start().await.unwrap();
    within(friend.connect(address(&server))).await.unwrap();
}

#[tokio::test]
async fn the_older_of_two_processes_with_one_key_ends_with_an_error() {
    let twin = key::generate();
    let peer = local().start().await.unwrap();
    let older = local().identity(twin.clone()).incarnation_counter(5).start();
    let mut older = older.await.unwrap();
    within(older.connect(address(&peer))).await.unwrap();
    let newer = local().identity(twin).incarnation_counter(6).start().await.unwrap();
    within(newer.connect(address(&peer))).await.unwrap();
    let error = within(older.ended()).await.unwrap_err();
    assert!(matches!(error, NodeError::NewerSelf { told_by } if told_by == peer.id()), "{error}");
    assert_eq!(newer.peers().await.len(), 1, "the newer one goes on");
}

#[tokio::test]
async fn a_connection_that_cannot_be_says_why() {
    let node = local().start().await.unwrap();
    let error = within(node.connect(address(&node))).await.unwrap_err();
    assert!(matches!(error, ConnectError::OwnId(_)), "{error}");
    let six = PeerAddress::new(key::generate().id(), "[::1]:9".parse().unwrap());
    let error = within(node.connect(six)).await.unwrap_err();
    assert!(matches!(error, ConnectError::WrongFamily { .. }), "{error}");
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = PeerAddress::new(key::generate().id(), silent.local_addr().unwrap());
    let short = Duration::from_millis(50);
    let error = within(node.connect_within(nobody.clone(), short)).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    // It was given up with the attempt.
    let peer = nobody.peer;
    assert_eq!(node.inspect(move |core, _, _| core.mesh().is_kept(peer)).await, Some(false));
}

#[tokio::test]
async fn services_are_paused_resumed_and_stopped() {
    let (server, client) = pair().await;
    let math = server.service("math").await.expect("it is registered");
    let mut events = client.events();
    within(math.pause()).await.unwrap();
    assert!(matches!(math.resume().await, Ok(())));
    assert!(matches!(math.resume().await, Err(ServiceError::Refused(_))));
    within(math.stop()).await.unwrap();
    assert!(server.service("math").await.is_none());
    within(async {
        while !client.peers().await[0].services.is_empty() {
            events.next().await.expect("the client runs");
        }
    })
    .await;
    let error = within(client.call::<_, i64>("math/add", (1, 2))).await.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::NoResponders));
}

#[tokio::test]
async fn a_service_that_does_not_start_ends_the_start_of_the_node() {
    let broken = service("broken").on_init(|_cx| async { Err("no disk".to_string()) });
    let error = local().service(broken).start().await.unwrap_err();
    assert!(error.to_string().contains("'broken' did not start: no disk"), "{error}");
    let node = local().service(math()).start().await.unwrap();
    let error = node.add_service(math()).await.unwrap_err();
    assert!(error.to_string().contains("'math' is registered already"), "{error}");
}

#[tokio::test]
async fn a_peer_that_goes_is_told_of_and_one_that_is_let_go_stays_away() {
    let (server, client) = pair().await;
    let mut events = client.events();
    let id = server.id();
    within(server.shutdown()).await.unwrap();
    within(async {
        loop {
            let event = events.next().await.expect("the client runs");
            if matches!(&event, NodeEvent::PeerDown { peer, .. } if *peer == id) {
                return;
            }
        }
    })
    .await;
    client.disconnect(id).await;
    assert!(client.peers().await.is_empty());
}

#[tokio::test]
async fn a_node_starts_whichever_of_its_services_runs_first() {
    // The first begins on the runtime, and so later than the second, which begins on the spot.
    let first = service("first").action("name", |_cx, ()| async { Ok("first") });
    let second = service("second").action("name", |_cx, ()| async { Ok("second") }).in_place();
    let node = within(local().service(first).service(second).start()).await.unwrap();
    for name in ["first", "second"] {
        let said: String = within(node.call(&format!("{name}/name"), ())).await.unwrap();
        assert_eq!(said, name);
    }
}
