//! Streams between real nodes over loopback: all comes in order, a slow reader slows its writer, and ends are noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dunlin_tokio::stream::WINDOW;
use dunlin_tokio::{HandlerError, Node, NodeBuilder, Payload, PeerAddress, StreamError, service};

/// Everything here ends far sooner, or something is broken.
const BOUND: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it ends in time")
}

fn local() -> NodeBuilder {
    Node::builder().listen("127.0.0.1:0".parse().unwrap()).development_network()
}

/// A node that serves `numbers`, and one that knows it. The handlers count what they took, and how many are gone.
async fn pair() -> (Node, Node, Arc<AtomicU64>, Arc<AtomicU64>) {
    let (taken, gone) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    struct Going(Arc<AtomicU64>);
    impl Drop for Going {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (took, went) = (Arc::clone(&taken), Arc::clone(&gone));
    let numbers = service("numbers")
        .stream("double", |_, (): (), mut reader, mut writer| async move {
            while let Some(number) = reader.next_as::<u64>().await {
                writer.send(number? * 2).await?;
            }
            Ok(())
        })
        .stream("sink", move |_, pause: Duration, mut reader, _writer| {
            let (taken, going) = (Arc::clone(&took), Going(Arc::clone(&went)));
            async move {
                let _going = going;
                while let Some(item) = reader.next().await {
                    item?;
                    taken.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(pause).await;
                }
                Err(HandlerError::application("DONE", "all was thrown away"))
            }
        });
    let server = local().service(numbers).start().await.unwrap();
    let client = local().start().await.unwrap();
    within(client.connect(PeerAddress::new(server.id(), server.local_addr()))).await.unwrap();
    (server, client, taken, gone)
}

#[tokio::test]
async fn many_items_come_in_order_both_ways() {
    const ITEMS: u64 = 20_000;
    let (_server, client, ..) = pair().await;
    let (mut writer, mut reader) = client.stream("numbers/double").open().await.unwrap();
    let sending = tokio::spawn(async move {
        for number in 0..ITEMS {
            writer.send(number).await.unwrap();
        }
        writer.finish();
    });
    let receiving = async {
        for number in 0..ITEMS {
            assert_eq!(reader.next_as::<u64>().await, Some(Ok(2 * number)));
        }
        assert_eq!(reader.next_as::<u64>().await, None);
    };
    within(receiving).await;
    sending.await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_slows_its_writer_and_the_handlers_end_is_told() {
    const BYTES: usize = 10_000;
    let (_server, client, taken, gone) = pair().await;
    let builder = client.stream("numbers/sink").value(Duration::from_millis(5));
    let (mut writer, mut reader) = builder.open().await.unwrap();
    for sent in 0..200 {
        within(writer.send_payload(Payload::raw(vec![7; BYTES]))).await.unwrap();
        let under_way = (sent - taken.load(Ordering::Relaxed)) * BYTES as u64;
        assert!(under_way < WINDOW + (128 << 10), "{under_way} bytes are under way");
    }
    writer.finish();
    let Some(Err(StreamError::Failed(error))) = within(reader.next()).await else {
        panic!("the handler has failed")
    };
    assert_eq!((error.code.as_str(), taken.load(Ordering::Relaxed)), ("DONE", 200));
    assert_eq!(gone.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_handler_is_dropped_when_its_stream_is_cut() {
    let (_server, client, _, gone) = pair().await;
    let halves = client.stream("numbers/sink").value(Duration::ZERO).open().await.unwrap();
    drop(halves);
    let is_gone = async {
        while gone.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    within(is_gone).await;
    // And so is one whose node goes.
    let (server, client, taken, gone) = pair().await;
    let builder = client.stream("numbers/sink").value(Duration::ZERO);
    let (mut writer, mut reader) = builder.open().await.unwrap();
    writer.send(1).await.unwrap();
    let is_taken = async {
        while taken.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    within(is_taken).await;
    within(server.shutdown()).await.unwrap();
    assert!(matches!(within(reader.next()).await, Some(Err(_))));
    assert_eq!(gone.load(Ordering::Relaxed), 1);
}
