//! A handler that blocks its thread holds up handlers that wait for the same thread, and never the node.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunlin_core::service::Payload;
use dunlin_tokio::{Node, NodeBuilder, NodeEvent, PeerAddress, TransportConfig, service};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// Everything here ends far sooner, or something is broken.
const BOUND: Duration = Duration::from_secs(20);

/// After this silence a link is down here.
const IDLE: Duration = Duration::from_millis(1_500);

fn local() -> NodeBuilder {
    let transport =
        TransportConfig { idle_timeout: IDLE, keep_alive: IDLE / 4, ..TransportConfig::default() };
    let builder = Node::builder().development_network().transport(transport);
    builder.listen("127.0.0.1:0".parse().unwrap())
}

/// Ends the handler that blocks when it is dropped.
struct Blocked {
    begun: Option<oneshot::Receiver<()>>,
    _end: mpsc::Sender<()>,
}

/// A service whose one action blocks its thread until it is let go, one that others answer beside it, and one that the node
/// answers in place.
fn services(builder: NodeBuilder) -> (NodeBuilder, Blocked) {
    let (begin, begun) = oneshot::channel();
    let (end, ended) = mpsc::channel::<()>();
    let once = Arc::new(Mutex::new(Some((begin, ended))));
    let stuck = service("stuck")
        .action("block", move |_cx, ()| {
            let once = once.lock().unwrap().take();
            async move {
                let (begin, ended) = once.expect("it is called once");
                begin.send(()).unwrap();
                // Blocks the thread, which a handler should not do.
                let _ = ended.recv();
                Ok(())
            }
        })
        .action("beside", |_cx, ()| async { Ok("beside") });
    let echo = service("echo").raw_action("say", |_cx, said: Payload| async { Ok(said) });
    let builder = builder.service(stuck).service(echo.in_place());
    (builder, Blocked { begun: Some(begun), _end: end })
}

/// A node on a runtime with so many workers, which goes with this.
fn serve(workers: usize) -> (tokio::runtime::Runtime, Node, Blocked) {
    let runtime = Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
    let (builder, blocked) = services(local());
    let node = runtime.block_on(builder.start()).unwrap();
    (runtime, node, blocked)
}

#[tokio::test]
async fn a_handler_that_blocks_its_thread_starves_no_node() {
    for workers in [1, 2, 4] {
        let (runtime, server, mut blocked) =
            tokio::task::spawn_blocking(move || serve(workers)).await.unwrap();
        let client = local().start().await.unwrap();
        client.connect(PeerAddress::new(server.id(), server.local_addr())).await.unwrap();
        let mut events = client.events();
        let blocking = client.handle();
        let blocking = tokio::spawn(async move { blocking.call::<_, ()>("stuck/block", ()).await });
        blocked.begun.take().unwrap().await.unwrap();

        // The node itself, its other services in place, and what the other workers run.
        let operator = client.operator();
        operator.ping(server.id(), BOUND).await.unwrap_or_else(|why| panic!("{workers}: {why:?}"));
        let said: u32 = client.call("echo/say", 7).await.unwrap();
        assert_eq!(said, 7, "{workers} workers");
        let beside = client.request("stuck/beside").value(()).timeout(BOUND);
        if workers > 1 {
            let said: String = beside.send_as().await.unwrap();
            assert_eq!(said, "beside", "{workers} workers");
        } else {
            // It waits for the only worker.
            let waiting = tokio::time::timeout(IDLE / 2, beside.send_as::<String>()).await;
            assert!(waiting.is_err(), "{waiting:?}");
        }
        // Keep-alives are answered all the time: the link stays up for longer than it may be silent.
        let down = async {
            loop {
                if let NodeEvent::PeerDown { reason, .. } = events.next().await.unwrap() {
                    return reason;
                }
            }
        };
        let down = tokio::time::timeout(IDLE * 2, down).await;
        assert!(down.is_err(), "{workers} workers: {down:?}");

        assert!(!blocking.is_finished());
        drop(blocked);
        tokio::time::timeout(BOUND, blocking).await.unwrap().unwrap().unwrap();
        let stop = move || {
            runtime.block_on(server.shutdown()).unwrap();
            drop(runtime);
        };
        tokio::task::spawn_blocking(stop).await.unwrap();
    }
}
