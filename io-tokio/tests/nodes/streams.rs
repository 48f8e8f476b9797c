//! Streams between real nodes over loopback: all comes in order, a slow reader slows its writer, and ends are noticed.

use std::sync::Arc;
use std::time::Duration;

use dunlin_tokio::stream::WINDOW;
use dunlin_tokio::{HandlerError, Node, NodeBuilder, Payload, PeerAddress, StreamError, service};
use tokio::sync::{Semaphore, watch};

/// Everything here ends far sooner, or something is broken.
const BOUND: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it ends in time")
}

fn local() -> NodeBuilder {
    Node::builder().listen("127.0.0.1:0".parse().unwrap()).development_network()
}

/// A node that serves `numbers`, and one that knows it. What the handlers of `sink` took, how many of them are gone, and
/// what lets them take something.
struct Pair {
    server: Node,
    client: Node,
    taken: watch::Receiver<u64>,
    gone: watch::Receiver<u64>,
    may_take: Arc<Semaphore>,
}

async fn pair() -> Pair {
    let (took, taken) = watch::channel(0);
    let (went, gone) = watch::channel(0);
    let (took, went, may_take) = (Arc::new(took), Arc::new(went), Arc::new(Semaphore::new(0)));
    struct Going(Arc<watch::Sender<u64>>);
    impl Drop for Going {
        fn drop(&mut self) {
            self.0.send_modify(|gone| *gone += 1);
        }
    }
    let gate = Arc::clone(&may_take);
    let numbers = service("numbers")
        .stream("double", |_, (): (), mut reader, mut writer| async move {
            while let Some(number) = reader.next_as::<u64>().await {
                writer.send(number? * 2).await?;
            }
            Ok(())
        })
        .stream("sink", move |_, (): (), mut reader, _writer| {
            let (took, gate, going) =
                (Arc::clone(&took), Arc::clone(&gate), Going(Arc::clone(&went)));
            async move {
                let _going = going;
                loop {
                    gate.acquire().await.map_err(HandlerError::failed)?.forget();
                    let Some(item) = reader.next().await else { break };
                    item?;
                    took.send_modify(|taken| *taken += 1);
                }
                Err(HandlerError::application("DONE", "all was thrown away"))
            }
        });
    let server = local().service(numbers).start().await.unwrap();
    let client = local().start().await.unwrap();
    within(client.connect(PeerAddress::new(server.id(), server.local_addr()))).await.unwrap();
    Pair { server, client, taken, gone, may_take }
}

async fn reaches(count: &mut watch::Receiver<u64>, least: u64) {
    within(count.wait_for(|count| *count >= least)).await.expect("the handlers are there");
}

#[tokio::test]
async fn many_items_come_in_order_both_ways() {
    const ITEMS: u64 = 20_000;
    let pair = pair().await;
    let client = &pair.client;
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
    const ITEMS: u64 = 200;
    let Pair { server: _server, client, mut taken, mut gone, may_take } = pair().await;
    let (mut writer, mut reader) = client.stream("numbers/sink").open().await.unwrap();
    let (sending, sent) = watch::channel(0);
    let sender = tokio::spawn(async move {
        for _ in 0..ITEMS {
            writer.send_payload(Payload::raw(vec![7; BYTES])).await.unwrap();
            sending.send_modify(|sent| *sent += 1);
        }
        writer.finish();
    });
    // The sender goes as fast as it is let, the handler one by one.
    for count in 1..=ITEMS {
        may_take.add_permits(1);
        reaches(&mut taken, count).await;
        let under_way = (*sent.borrow() - count.min(*sent.borrow())) * BYTES as u64;
        assert!(under_way < WINDOW + (128 << 10), "{under_way} bytes are under way");
    }
    may_take.add_permits(1);
    let Some(Err(StreamError::Failed(error))) = within(reader.next()).await else {
        panic!("the handler has failed")
    };
    assert_eq!((error.code.as_str(), *taken.borrow()), ("DONE", ITEMS));
    reaches(&mut gone, 1).await;
    within(sender).await.unwrap();
}

#[tokio::test]
async fn a_handler_is_dropped_when_its_stream_is_cut() {
    let mut first = pair().await;
    let halves = first.client.stream("numbers/sink").open().await.unwrap();
    drop(halves);
    reaches(&mut first.gone, 1).await;
    // And so is one whose node goes.
    let Pair { server, client, mut taken, mut gone, may_take } = pair().await;
    let (mut writer, mut reader) = client.stream("numbers/sink").open().await.unwrap();
    writer.send(1).await.unwrap();
    may_take.add_permits(1);
    reaches(&mut taken, 1).await;
    within(server.shutdown()).await.unwrap();
    assert!(matches!(within(reader.next()).await, Some(Err(_))));
    reaches(&mut gone, 1).await;
}
