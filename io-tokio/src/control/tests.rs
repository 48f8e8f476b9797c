//! Conversations over real sockets, with real nodes behind them.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::service::{ContentType, HandlerError, Payload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::frame::{FrameReader, FrameWriter};
use super::*;
use crate::{Node, PeerAddress, ServiceBuilder, service};

fn echo() -> ServiceBuilder {
    service("echo").describe("An echo").raw_action("say", |_, argument| async { Ok(argument) })
}

/// What a handler that never ends tells: that it has begun, and that it was dropped.
struct Hanging {
    begun: oneshot::Receiver<()>,
    ended: oneshot::Receiver<()>,
}

/// A service with an action that never ends by itself. It can be called once.
fn hanging() -> (ServiceBuilder, Hanging) {
    let (begin, begun) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let once = Arc::new(Mutex::new(Some((begin, end))));
    let hang = service("hanging").raw_action("on", move |_, _| {
        let once = once.lock().unwrap().take();
        async move {
            let (begin, end) = once.ok_or_else(|| HandlerError::application("AGAIN", "again"))?;
            // Dropped with the handler, which drops the other end of the channel.
            let _end = end;
            let _ = begin.send(());
            std::future::pending().await
        }
    });
    (hang, Hanging { begun, ended })
}

async fn node(services: impl IntoIterator<Item = ServiceBuilder>) -> Node {
    let builder = Node::builder().development_network().listen("127.0.0.1:0".parse().unwrap());
    services.into_iter().fold(builder, |builder, s| builder.service(s)).start().await.unwrap()
}

/// A stream to a node, and the conversation at its end.
fn talk_to(node: &Node) -> (UnixStream, JoinHandle<Result<(), FrameError>>) {
    let (near, far) = UnixStream::pair().unwrap();
    let operator = node.operator();
    let conversation = tokio::spawn(async move {
        // Nothing is closing as long as this lives.
        let (_open, closing) = watch::channel(false);
        converse(far, &operator, closing).await
    });
    (near, conversation)
}

async fn client_of(node: &Node) -> Client {
    Client::over(talk_to(node).0).await.unwrap()
}

fn call(path: &str) -> CallQuestion {
    CallQuestion {
        path: path.into(),
        to: None,
        timeout_ms: 60_000,
        hedge_ms: None,
        at_once: false,
        content: 1,
    }
}

fn problem(error: ControlError) -> Problem {
    match error {
        ControlError::Failed(problem) => problem,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_node_is_used_through_its_socket() {
    let server = node([echo()]).await;
    let local = node([service("own").raw_action("do", |_, _| async { Ok(Payload::raw("done")) })]);
    let local = local.await;
    local.connect(PeerAddress::new(server.id(), server.local_addr())).await.unwrap();
    let mut client = client_of(&local).await;
    assert_eq!(client.node(), local.id());

    let answer = client.call(call("echo/say"), Bytes::from("[1]")).await.unwrap();
    assert_eq!((answer.content, &answer.bytes[..]), (ContentType::JSON, &b"[1]"[..]));
    let answer = client.call(call("own/do"), Bytes::new()).await.unwrap();
    assert_eq!((answer.content, &answer.bytes[..]), (ContentType::RAW, &b"done"[..]));
    // Larger than any buffer on the way.
    let large = Bytes::from(vec![7; 1 << 20]);
    let to = Some(server.id());
    let question = CallQuestion { to, content: 0, ..call("echo/say") };
    assert_eq!(client.call(question, large.clone()).await.unwrap().bytes, large);

    let services = client.services().await.unwrap();
    let known: Vec<_> = services.iter().map(|s| (s.service.as_str(), s.peer)).collect();
    assert_eq!(known, [("echo", server.id()), ("own", local.id())], "its own too");
    assert_eq!((&services[0].description[..], &services[0].state[..]), ("An echo", "running"));
    assert_eq!(services[0].actions[0].pattern, "echo/say");
    let stats = client.stats().await.unwrap();
    let told: Vec<_> = stats.iter().map(|s| (s.service.as_str(), s.peer, s.is_own)).collect();
    assert_eq!(told, [("echo", server.id(), false), ("own", local.id(), true)]);
    // One call chose its instance; the other named its peer.
    for entry in &stats {
        assert_eq!(
            (entry.calls, entry.failed, entry.score, &entry.breaker[..]),
            (1, 0, 100, "closed")
        );
        assert!(entry.p50_us.is_some() && entry.rate > 0.0 && entry.in_flight == 0);
    }
    let peers = client.peers().await.unwrap();
    assert_eq!((peers.len(), peers[0].peer), (1, server.id()));
    assert_eq!(peers[0].remote, Some(server.local_addr()));
    assert_eq!(peers[0].services, ["echo"]);
    client.ping(server.id(), Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn what_fails_says_how_and_the_client_goes_on() {
    let local = node([echo()]).await;
    let mut client = client_of(&local).await;
    let nobody = problem(client.call(call("no/body"), Bytes::new()).await.unwrap_err());
    assert_eq!((&nobody.code[..], nobody.executed.as_deref()), ("NO_RESPONDERS", Some("no")));
    let path = problem(client.call(call("no//path"), Bytes::new()).await.unwrap_err());
    assert_eq!((&path.code[..], path.executed.as_deref()), ("INVALID_PATH", Some("no")));
    let stranger = dunlin_core::Identity::from_secret([7; 32]).id();
    let silent = problem(client.ping(stranger, Duration::from_secs(1)).await.unwrap_err());
    assert_eq!(silent.code, "NO_ANSWER");
    let huge = Bytes::from(vec![0; BODY_BYTES_MAX + 1]);
    let huge = problem(client.call(call("echo/say"), huge).await.unwrap_err());
    assert_eq!((&huge.code[..], huge.executed.as_deref()), ("TOO_LARGE", Some("no")));
    assert!(client.call(call("echo/say"), Bytes::from("1")).await.is_ok());

    local.shutdown().await.unwrap();
    let gone = problem(client.call(call("echo/say"), Bytes::from("1")).await.unwrap_err());
    assert_eq!((&gone.code[..], gone.executed.as_deref()), ("SHUTTING_DOWN", Some("no")));
    assert!(client.services().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_call() {
    let (service, hanging) = hanging();
    let server = node([service]).await;
    let local = node([]).await;
    local.connect(PeerAddress::new(server.id(), server.local_addr())).await.unwrap();
    let (stream, conversation) = talk_to(&local);
    let mut client = Client::over(stream).await.unwrap();
    tokio::select! {
        result = client.call(call("hanging/on"), Bytes::from("1")) => panic!("{result:?}"),
        begun = hanging.begun => begun.unwrap(),
    }
    drop(client);
    conversation.await.unwrap().unwrap();
    assert!(hanging.ended.await.is_err(), "the handler of the other node was dropped");
}

#[tokio::test]
async fn a_request_that_is_stopped_is_answered_once_and_the_client_goes_on() {
    let (service, hanging) = hanging();
    let local = node([service, echo()]).await;
    let mut client = client_of(&local).await;
    let question = Request::Call(call("hanging/on"));
    let mut responses = client.ask(&question, &Bytes::from("1")).await.unwrap();
    tokio::select! {
        result = responses.next() => panic!("{result:?}"),
        begun = hanging.begun => begun.unwrap(),
    }
    responses.stop().await.unwrap();
    assert!(hanging.ended.await.is_err(), "the handler was dropped");
    // Whatever was left over of it would be taken for the answer to this.
    let answer = client.call(call("echo/say"), Bytes::from("2")).await.unwrap();
    assert_eq!(&answer.bytes[..], b"2");
}

#[tokio::test]
async fn a_client_that_gave_a_request_up_is_of_no_more_use() {
    let (service, hanging) = hanging();
    let local = node([service]).await;
    let mut client = client_of(&local).await;
    tokio::select! {
        result = client.call(call("hanging/on"), Bytes::from("1")) => panic!("{result:?}"),
        begun = hanging.begun => begun.unwrap(),
    }
    assert!(matches!(client.peers().await, Err(ControlError::Unfinished)));
}

/// A client that writes its frames by hand, greeted already.
async fn by_hand(
    stream: UnixStream,
) -> (FrameReader<tokio::net::unix::OwnedReadHalf>, FrameWriter<tokio::net::unix::OwnedWriteHalf>) {
    let (read, write) = stream.into_split();
    let mut reader = FrameReader::new(read, RESPONSE_HEADER_BYTES_MAX);
    let mut writer = FrameWriter::new(write, REQUEST_HEADER_BYTES_MAX);
    let hello = Request::Hello { version_min: 1, version_max: 7 };
    writer.write(&hello, &Bytes::new()).await.unwrap();
    let welcome = reader.next().await.unwrap().unwrap().read().unwrap();
    assert!(matches!(welcome, Response::Welcome { version: 1, .. }), "{welcome:?}");
    (reader, writer)
}

#[tokio::test]
async fn what_the_node_does_not_know_is_refused_and_nothing_else_is_lost() {
    let local = node([]).await;
    let (mut reader, mut writer) = by_hand(talk_to(&local).0).await;
    let body = Bytes::from("with a body");
    // A stop that comes too late is not answered.
    writer.write(&Request::Stop, &Bytes::new()).await.unwrap();
    for strange in [serde_json::json!({"ask": "dance"}), serde_json::json!([1])] {
        writer.write(&strange, &body).await.unwrap();
        let response = reader.next().await.unwrap().unwrap().read().unwrap();
        let Response::Failed(problem) = response else { panic!("{response:?}") };
        assert_eq!(problem.code, "BAD_REQUEST");
    }
    writer.write(&Request::Peers, &Bytes::new()).await.unwrap();
    let response: Response = reader.next().await.unwrap().unwrap().read().unwrap();
    assert_eq!(response, Response::Done);
}

#[tokio::test]
async fn a_client_that_does_not_keep_to_the_protocol_is_dropped() {
    let (service, hanging) = hanging();
    let local = node([service]).await;
    // Two things at once: the first is cancelled, as the client is gone.
    let (stream, conversation) = talk_to(&local);
    let (_reader, mut writer) = by_hand(stream).await;
    writer.write(&Request::Call(call("hanging/on")), &Bytes::from("1")).await.unwrap();
    hanging.begun.await.unwrap();
    writer.write(&Request::Peers, &Bytes::new()).await.unwrap();
    let error = conversation.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("two things at once"), "{error}");
    assert!(hanging.ended.await.is_err());

    for first in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x04\0\0\0\0null", b"\0\0\0\x02"] {
        let (mut stream, conversation) = talk_to(&local);
        stream.write_all(first).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(conversation.await.unwrap().is_err());
        let mut rest = Vec::new();
        // What it did not read makes the end of the stream an error on some systems.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "nothing is said to whoever does not greet");
    }
}

#[tokio::test]
async fn a_client_of_another_version_is_told() {
    let local = node([]).await;
    let (stream, conversation) = talk_to(&local);
    let (read, write) = stream.into_split();
    let mut reader = FrameReader::new(read, RESPONSE_HEADER_BYTES_MAX);
    let mut writer = FrameWriter::new(write, REQUEST_HEADER_BYTES_MAX);
    let hello = Request::Hello { version_min: 2, version_max: 3 };
    writer.write(&hello, &Bytes::new()).await.unwrap();
    let response = reader.next().await.unwrap().unwrap().read().unwrap();
    let Response::Failed(problem) = response else { panic!("{response:?}") };
    assert_eq!(problem.code, "VERSION");
    assert!(problem.message.contains("2 to 3"), "{problem}");
    conversation.await.unwrap().unwrap();
    assert_eq!(reader.next().await.unwrap(), None);
}

async fn serve(node: &Node, folder: &Path) -> ControlServer {
    let folder = folder.join("dunlin");
    let listener = Listener::in_folder(&folder, node.id()).await.unwrap();
    ControlServer::start(listener, node.operator())
}

#[tokio::test]
async fn what_is_under_way_ends_with_the_node_and_is_told() {
    let home = tempfile::tempdir().unwrap();
    let (service, hanging) = hanging();
    let local = node([service]).await;
    let server = serve(&local, home.path()).await;
    let path = server.path().to_path_buf();
    let mut idle = connect(&path).await.unwrap();
    let mut busy = find(&home.path().join("dunlin")).await.unwrap();
    let calling = tokio::spawn(async move {
        let question = CallQuestion { timeout_ms: 500, ..call("hanging/on") };
        busy.call(question, Bytes::from("1")).await
    });
    hanging.begun.await.unwrap();

    server.close();
    assert!(matches!(idle.peers().await, Err(ControlError::Ended | ControlError::Frame(_))));
    assert!(matches!(connect(&path).await, Err(SocketError::Nobody(_))), "the socket is gone");
    local.shutdown().await.unwrap();
    server.finish().await;
    let ended = problem(calling.await.unwrap().unwrap_err());
    assert!(ended.executed.is_some(), "{ended:?}");
    assert!(std::fs::read_dir(path.parent().unwrap()).unwrap().next().is_none());
}

fn all_of_a() -> SubscribeQuestion {
    SubscribeQuestion { pattern: "a/*".into(), group: None, at_least_one: false, count: None }
}

#[tokio::test]
async fn one_client_too_many_is_told() {
    let home = tempfile::tempdir().unwrap();
    let local = node([]).await;
    let server = serve(&local, home.path()).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS_MAX {
        clients.push(connect(server.path()).await.unwrap());
    }
    let mut flows = Vec::new();
    for client in &mut clients {
        flows.push(client.subscribe(all_of_a()).await.unwrap());
    }
    let error = connect(server.path()).await.unwrap_err();
    let SocketError::Control(ControlError::Failed(problem)) = error else { panic!("{error}") };
    assert_eq!(problem.code, "BUSY");
    flows.pop().unwrap().stop().await.unwrap();
    assert!(connect(server.path()).await.is_ok(), "there is room again");
    local.publish("a/b", 1).await.unwrap();
    assert!(flows[0].next().await.unwrap().is_some(), "the others are served");
}

#[tokio::test]
async fn silent_clients_make_room_and_those_that_wait_for_answers_stay() {
    let home = tempfile::tempdir().unwrap();
    let local = node([]).await;
    let server = serve(&local, home.path()).await;
    let mut waiting = connect(server.path()).await.unwrap();
    let mut flow = waiting.subscribe(all_of_a()).await.unwrap();
    let mut idle = connect(server.path()).await.unwrap();
    // Those that do not even greet go before one that did.
    let mut silent = Vec::new();
    for _ in 0..2 * CLIENTS_MAX {
        silent.push(UnixStream::connect(server.path()).await.unwrap());
    }
    let at_once = async {
        let mut client = connect(server.path()).await.unwrap();
        client.peers().await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(1), at_once).await.expect("it is not kept waiting");
    idle.peers().await.expect("it was not silent for longest");
    // The first of the silent ones was the first to go.
    assert_eq!(silent[0].read(&mut [0]).await.unwrap(), 0);
    // And those that greet and then ask nothing.
    let mut greeted = Vec::new();
    for _ in 0..2 * CLIENTS_MAX {
        greeted.push(connect(server.path()).await.unwrap());
    }
    assert!(idle.peers().await.is_err(), "it has asked nothing for longest");
    connect(server.path()).await.unwrap().peers().await.unwrap();
    local.publish("a/b", 1).await.unwrap();
    assert!(flow.next().await.unwrap().is_some(), "its request was under way all the time");
}

#[tokio::test]
async fn events_pass_through_the_socket_until_they_are_stopped() {
    let local = node([]).await;
    let remote = node([]).await;
    local.connect(PeerAddress::new(remote.id(), remote.local_addr())).await.unwrap();
    let (mut reader, mut writer) = (client_of(&local).await, client_of(&local).await);
    let question =
        SubscribeQuestion { pattern: "a/*".into(), group: None, at_least_one: false, count: None };
    let mut flow = reader.subscribe(question.clone()).await.unwrap();
    assert!(flow.is_known());
    for n in 0..500_u32 {
        remote.publish("a/b", n).await.unwrap();
    }
    for n in 0..500 {
        let item = flow.next().await.unwrap().unwrap();
        let Item::Event(event, payload) = item else { panic!("{item:?}") };
        assert_eq!((&event.topic[..], event.publisher), ("a/b", remote.id()));
        assert_eq!((event.sequence, &payload[..]), (n + 1, n.to_string().as_bytes()));
    }
    let event = PublishQuestion {
        topic: "a/c".into(),
        content: 0,
        to: None,
        local: false,
        one_per_service: false,
        confirm_within_ms: Some(20_000),
    };
    let published = writer.publish(event.clone(), Bytes::from("raw")).await.unwrap();
    assert_eq!((published.local, published.peers, published.publisher), (1, 0, local.id()));
    assert!(published.outcome.unwrap().complete);
    let Some(Item::Event(got, payload)) = flow.next().await.unwrap() else { panic!("it came") };
    assert_eq!((got.sequence, &payload[..]), (published.sequence, &b"raw"[..]));

    // Once it is stopped nobody subscribes, and the client goes on.
    flow.stop().await.unwrap();
    let published = reader.publish(event.clone(), Bytes::new()).await.unwrap();
    assert_eq!(published.local, 0);
    let wrong = SubscribeQuestion { pattern: "a/>/b".into(), ..question.clone() };
    assert_eq!(problem(reader.subscribe(wrong).await.unwrap_err()).code, "INVALID_TOPIC");
    let wrong = PublishQuestion { topic: "bank:a".into(), ..event };
    let denied = problem(reader.publish(wrong, Bytes::new()).await.unwrap_err());
    assert_eq!(denied.code, "PERMISSION_DENIED");

    let mut flow = reader.subscribe(question).await.unwrap();
    local.shutdown().await.unwrap();
    assert_eq!(flow.next().await.unwrap(), None, "the node has stopped");
}
