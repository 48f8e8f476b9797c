//! Streams between hosts on meshes: order, ends, slow consumers, what is lost; and calls to all, and commands.

use super::*;
use crate::service::stream::{
    IDLE_MAX, ITEM_BYTES_MAX, Reader, STREAMS_PER_CALLER_MAX, WINDOW, Writer,
};
use crate::service::{ServiceBuilder, StreamError};

type Cell<T> = Arc<Mutex<T>>;

/// What the handlers of a test did.
#[derive(Default)]
struct Seen {
    begun: u32,
    dropped: u32,
    taken: Vec<u64>,
    last: Option<Result<(), StreamError>>,
}

/// Counts a handler that is gone, however it went.
struct Going(Cell<Seen>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.lock().unwrap().dropped += 1;
    }
}

/// `numbers/double` answers each number; `numbers/count` counts without an end; `numbers/sink` takes one each
/// `pause`; `numbers/fail` takes one and fails, `numbers/panic` panics.
fn numbers(seen: &Cell<Seen>) -> ServiceBuilder {
    let (doubling, sinking, counting) = (Arc::clone(seen), Arc::clone(seen), Arc::clone(seen));
    service("numbers")
        .stream("double", move |_, times: u64, mut reader, mut writer| {
            let seen = Arc::clone(&doubling);
            async move {
                seen.lock().unwrap().begun += 1;
                let _going = Going(seen);
                while let Some(number) = reader.next_as::<u64>().await {
                    writer.send(number? * times).await?;
                }
                Ok(())
            }
        })
        .stream("sink", move |cx, pause_ms: u64, mut reader, _writer| {
            let seen = Arc::clone(&sinking);
            async move {
                let _going = Going(Arc::clone(&seen));
                let last = loop {
                    match reader.next_as::<Vec<u8>>().await {
                        Some(Ok(item)) => seen.lock().unwrap().taken.push(item.len() as u64),
                        Some(Err(error)) => break Err(error),
                        None => break Ok(()),
                    }
                    cx.sleep(Duration::from_millis(pause_ms)).await;
                };
                seen.lock().unwrap().last = Some(last);
                Ok(())
            }
        })
        .stream("count", move |_, (): (), _reader, mut writer| {
            let seen = Arc::clone(&counting);
            async move {
                let _going = Going(Arc::clone(&seen));
                for number in 0u64.. {
                    writer.send(number).await?;
                    seen.lock().unwrap().taken.push(number);
                }
                Ok(())
            }
        })
        .stream("fail", |_, (): (), mut reader, _| async move {
            reader.next().await;
            Err(HandlerError::application("FULL", "no more of that"))
        })
        .stream("panic", |_, (): (), mut reader, _| async move {
            reader.next().await;
            panic!("ouch")
        })
        .action("plain", |_, (): ()| async { Ok(1) })
}

fn pair() -> (World, Cell<Seen>) {
    let mut world = World::new(2);
    let seen = Cell::default();
    world.serve(1, numbers(&seen));
    world.connect(0, 1);
    (world, seen)
}

async fn all<T: serde::de::DeserializeOwned + Send + Sync + 'static>(
    reader: &mut Reader,
) -> (Vec<T>, Option<StreamError>) {
    let mut came = Vec::new();
    while let Some(item) = reader.next_as().await {
        match item {
            Ok(item) => came.push(item),
            Err(error) => return (came, Some(error)),
        }
    }
    (came, None)
}

async fn double(handle: Handle, count: u64) -> (Vec<u64>, Option<StreamError>) {
    let (mut writer, mut reader) =
        handle.stream("numbers/double").value(2u64).open().await.unwrap();
    for number in 0..count {
        writer.send(number).await.unwrap();
    }
    writer.finish();
    all(&mut reader).await
}

#[test]
fn a_stream_brings_all_in_order_both_ways_and_ends_with_its_handler() {
    let (mut world, seen) = pair();
    for node in [0, 1] {
        let handle = world.handle(node);
        // Also to oneself. Fewer than fill what the other way waits for, as nobody reads meanwhile.
        let done = world.run(node, double(handle, 5_000));
        let (came, error) = done.lock().unwrap().take().expect("it has ended");
        assert_eq!(error, None);
        assert_eq!(came, (0..5_000).map(|n| 2 * n).collect::<Vec<u64>>());
    }
    world.pass(IDLE_MAX);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.begun, seen.dropped), (2, 2));
    // Nothing is kept of them: no exchange, no task.
    for station in &world.stations {
        assert_eq!(station.mesh.load().calls_open, 0);
        assert_eq!(station.mesh.load().invocations, 0);
        assert_eq!(station.host.tasks(), 0);
    }
}

#[test]
fn a_slow_consumer_slows_its_producer_and_nobody_else() {
    let (mut world, seen) = pair();
    let sent: Cell<u64> = Cell::default();
    let (handle, count) = (world.handle(0), Arc::clone(&sent));
    let done = world.run(0, async move {
        let (mut writer, mut reader) =
            handle.stream("numbers/sink").value(1_000u64).open().await.unwrap();
        for _ in 0..1_000 {
            writer.send(vec![7u8; 1_000]).await.unwrap();
            *count.lock().unwrap() += 1;
        }
        writer.finish();
        all::<()>(&mut reader).await
    });
    world.pass(Duration::from_secs(100));
    // As JSON each has 2 kB and some: what was taken, a window of them, and the queue.
    let (put, taken) = (*sent.lock().unwrap(), seen.lock().unwrap().taken.len() as u64);
    assert!((98..=101).contains(&taken), "{taken}");
    assert!(put <= taken + (WINDOW + (64 << 10)) / 2_000 + 2, "{put} were sent, {taken} taken");
    // Calls of others go on, and so do other streams.
    let handle = world.handle(0);
    let plain = world.run(0, async move { handle.call::<(), u64>("numbers/plain", ()).await });
    assert_eq!(plain.lock().unwrap().take().unwrap(), Ok(1));
    let handle = world.handle(0);
    let other = world.run(0, double(handle, 10));
    assert_eq!(other.lock().unwrap().take().unwrap().0.len(), 10);
    world.pass(Duration::from_secs(1_000));
    assert_eq!(done.lock().unwrap().take(), Some((vec![], None)));
    assert_eq!(seen.lock().unwrap().last, Some(Ok(())));
    assert_eq!(seen.lock().unwrap().taken.len(), 1_000);
}

#[test]
fn a_reader_that_takes_nothing_stops_a_handler_that_sends() {
    let (mut world, seen) = pair();
    let handle = world.handle(0);
    let halves: Cell<Option<Reader>> = Cell::default();
    let keep = Arc::clone(&halves);
    world.run(0, async move {
        let reader = handle.stream("numbers/count").window(1).open_reading().await.unwrap();
        *keep.lock().unwrap() = Some(reader);
    });
    world.pass(Duration::from_secs(100));
    let sent = seen.lock().unwrap().taken.len();
    world.pass(Duration::from_secs(100));
    assert_eq!(seen.lock().unwrap().taken.len(), sent, "it waits");
    assert_eq!(seen.lock().unwrap().dropped, 0, "a slow reader is not gone");
    let mut reader = halves.lock().unwrap().take().unwrap();
    let some = world.run(0, async move {
        let mut came = Vec::new();
        for _ in 0..20_000 {
            came.push(reader.next_as::<u64>().await.unwrap().unwrap());
        }
        (came, reader)
    });
    let (came, reader) = some.lock().unwrap().take().expect("all have come");
    assert!(came.iter().copied().eq(0..20_000));
    // Nobody wants more: the handler is told.
    drop(reader);
    world.pass(MS);
    assert_eq!(seen.lock().unwrap().dropped, 1);
}

#[test]
fn a_handler_that_fails_or_panics_says_so_behind_nothing() {
    let (mut world, _) = pair();
    for (path, code) in [("numbers/fail", "FULL"), ("numbers/panic", "HANDLER_FAILED")] {
        let handle = world.handle(0);
        let done = world.run(0, async move {
            let (mut writer, mut reader) = handle.stream(path).open().await.unwrap();
            writer.send(1).await.unwrap();
            let (came, error) = all::<()>(&mut reader).await;
            (came.len(), error, writer.send(2).await)
        });
        let (came, error, sent) = done.lock().unwrap().take().expect("it has ended");
        assert_eq!(came, 0);
        let Some(StreamError::Failed(error)) = error else { panic!("it failed: {error:?}") };
        assert_eq!(error.code, code);
        assert_eq!(sent, Err(StreamError::Failed(error)));
    }
}

#[test]
fn a_half_that_is_dropped_cuts_the_stream_at_both_ends() {
    let (mut world, seen) = pair();
    let handle = world.handle(0);
    let done = world.run(0, async move {
        let (mut writer, mut reader) =
            handle.stream("numbers/sink").value(0u64).open().await.unwrap();
        writer.send(vec![1u8]).await.unwrap();
        drop(writer);
        all::<()>(&mut reader).await.1
    });
    world.pass(MS);
    assert_eq!(done.lock().unwrap().take(), Some(Some(StreamError::Cut)));
    // The handler is dropped, and has not taken the cut for an end.
    assert_eq!(seen.lock().unwrap().dropped, 1);
    assert_eq!(seen.lock().unwrap().last, None);
}

#[test]
fn a_stream_goes_on_over_a_link_that_is_lost_and_comes_back() {
    let (mut world, _) = pair();
    let handle = world.handle(0);
    let (sent, came): (Cell<Option<Writer>>, Cell<Vec<u64>>) = Default::default();
    let (keep, put) = (Arc::clone(&sent), Arc::clone(&came));
    let done = world.run(0, async move {
        let (mut writer, mut reader) =
            handle.stream("numbers/double").value(3u64).open().await.unwrap();
        writer.send(1u64).await.unwrap();
        *keep.lock().unwrap() = Some(writer);
        while let Some(item) = reader.next_as::<u64>().await {
            put.lock().unwrap().push(item?);
        }
        Ok::<(), StreamError>(())
    });
    world.part(0, 1);
    let mut writer = sent.lock().unwrap().take().unwrap();
    world.run(0, async move {
        for number in 2..100u64 {
            writer.send(number).await.unwrap();
        }
        writer.finish();
    });
    world.pass(Duration::from_secs(5));
    assert_eq!(*came.lock().unwrap(), [3]);
    world.heal();
    world.pass(Duration::from_secs(10));
    assert_eq!(done.lock().unwrap().take(), Some(Ok(())));
    assert!(came.lock().unwrap().iter().copied().eq((1..100).map(|n| 3 * n)));
}

#[test]
fn both_ends_notice_that_the_other_one_is_gone() {
    let (mut world, seen) = pair();
    let handle = world.handle(0);
    let done = world.run(0, async move {
        let mut reader = handle.stream("numbers/sink").value(0u64).open().await.unwrap();
        (reader.1.next().await, reader)
    });
    world.part(0, 1);
    world.pass(IDLE_MAX * 2);
    let ended = done.lock().unwrap().take().expect("it has ended");
    assert!(matches!(ended.0, Some(Err(StreamError::Call(_)))), "{:?}", ended.0);
    assert_eq!(seen.lock().unwrap().dropped, 1);
    assert_eq!(world.stations[1].host.tasks(), 0);

    // Another life of the node knows nothing of the stream.
    let (mut world, _) = pair();
    let handle = world.handle(0);
    let done = world.run(0, async move {
        let mut halves = handle.stream("numbers/sink").value(0u64).open().await.unwrap();
        halves.1.next().await
    });
    world.restart(1, 2);
    world.pass(IDLE_MAX);
    let ended = done.lock().unwrap().take().expect("it has ended");
    assert!(matches!(ended, Some(Err(StreamError::Call(_)))), "{ended:?}");
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let (mut world, _) = pair();
    let open = |world: &mut World, path: &'static str| {
        let handle = world.handle(0);
        let done = world.run(0, async move { handle.stream(path).open().await.map(|_| ()) });
        match done.lock().unwrap().take().expect("it has ended") {
            Err(StreamError::Call(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(open(&mut world, "numbers/none").failure(), Some(Failure::NoResponders));
    assert_eq!(open(&mut world, "a//b").failure(), Some(Failure::InvalidPath));
    // A plain action takes no stream, and a stream no plain call.
    assert!(open(&mut world, "numbers/plain").to_string().contains("type stream"));
    let handle = world.handle(0);
    let plain = world.run(0, async move { handle.call::<u64, u64>("numbers/double", 1).await });
    let error = plain.lock().unwrap().take().unwrap().unwrap_err().to_string();
    assert!(error.contains("open a stream"), "{error}");

    let handle = world.handle(0);
    let done = world.run(0, async move {
        let (mut writer, mut reader) =
            handle.stream("numbers/double").value(1u64).open().await.unwrap();
        let large = Payload::raw(vec![0; ITEM_BYTES_MAX as usize + 1]);
        let refused = writer.send_payload(large).await;
        writer.send(1u64).await.unwrap();
        writer.finish();
        (refused, all::<u64>(&mut reader).await)
    });
    let (refused, came) = done.lock().unwrap().take().unwrap();
    assert_eq!(refused, Err(StreamError::ItemTooLarge { bytes: ITEM_BYTES_MAX + 1 }));
    assert_eq!(came, (vec![1], None));

    // So many, and no more.
    let handle = world.handle(0);
    let done = world.run(0, async move {
        let mut open = Vec::new();
        loop {
            match handle.stream("numbers/double").value(1u64).open().await {
                Ok(halves) => open.push(halves),
                Err(error) => return (open.len(), error.to_string()),
            }
        }
    });
    let (open, error) = done.lock().unwrap().take().unwrap();
    assert_eq!(open, STREAMS_PER_CALLER_MAX - 1, "the one before is still remembered");
    assert!(error.contains("TOO_MANY_STREAMS") && error.contains("256"), "{error}");
}

#[test]
fn streams_take_no_place_from_calls() {
    let mut world = World::new(2);
    let seen = Cell::default();
    world.serve(1, numbers(&seen).capacity(1, 0));
    world.connect(0, 1);
    let handle = world.handle(0);
    let halves: Cell<Vec<(Writer, Reader)>> = Cell::default();
    let keep = Arc::clone(&halves);
    world.run(0, async move {
        for _ in 0..3 {
            let open = handle.stream("numbers/double").value(2u64).open().await.unwrap();
            keep.lock().unwrap().push(open);
        }
    });
    assert_eq!(halves.lock().unwrap().len(), 3);
    let handle = world.handle(0);
    let plain = world.run(0, async move { handle.call::<(), u64>("numbers/plain", ()).await });
    assert_eq!(plain.lock().unwrap().take().unwrap(), Ok(1));
    world.pass(Duration::from_secs(100));
    // What was kept for ten seconds at a time says nothing of how fast the service is.
    let stats = world.stations[1].mesh.stats();
    assert!(stats.iter().all(|stats| stats.report.calls <= 1), "{stats:?}");
}

#[test]
fn a_service_that_stops_ends_its_streams() {
    let (mut world, seen) = pair();
    let handle = world.handle(0);
    let done = world.run(0, async move {
        let mut halves = handle.stream("numbers/double").value(1u64).open().await.unwrap();
        halves.1.next().await
    });
    let now = world.time();
    world.stations[1].mesh.shutdown(now);
    world.pass(MS);
    let Some(Some(Err(StreamError::Call(CallError::Application(error))))) =
        done.lock().unwrap().take()
    else {
        panic!("it ends at once")
    };
    assert_eq!(error.code, "STREAM_CUT");
    assert_eq!(seen.lock().unwrap().dropped, 1);
}

#[test]
fn all_who_serve_are_asked_and_nobody_else() {
    let mut world = World::new(4);
    for index in [0, 1, 3] {
        let answer = move |_, (): ()| async move {
            if index == 3 {
                return Err(HandlerError::application("NO", "never"));
            }
            Ok(index)
        };
        world.serve(index, service("who").action("are", answer));
    }
    for peer in 1..4 {
        world.connect(0, peer);
    }
    let handle = world.handle(0);
    let done = world.run(0, async move {
        let mut answers = handle.request_many("who/are", |request| request.value(())).await;
        let (mut came, left) = (Vec::new(), answers.left());
        while let Some((peer, answer)) = answers.next().await {
            came.push((peer, answer.map(|a| a.decode::<usize>().unwrap())));
        }
        (left, came, handle.instances("who/none").await, handle.instances("a//").await)
    });
    let (left, mut came, none, wrong) = done.lock().unwrap().take().unwrap();
    came.sort_by_key(|(peer, _)| *peer);
    let mut expected = [(id(0), Some(0)), (id(1), Some(1)), (id(3), None)];
    expected.sort_by_key(|(peer, _)| *peer);
    assert_eq!(left, 3);
    assert_eq!(came.iter().map(|(p, a)| (*p, a.clone().ok())).collect::<Vec<_>>(), expected);
    assert!(none.is_empty() && wrong.is_empty());
}

#[test]
fn a_command_is_answered_when_it_is_taken_and_runs_on() {
    let mut world = World::new(2);
    let done: Cell<u32> = Cell::default();
    let count = Arc::clone(&done);
    let commands = service("door").command("open", move |cx, seconds: u64| {
        let done = Arc::clone(&count);
        async move {
            cx.sleep(Duration::from_secs(seconds)).await;
            *done.lock().unwrap() += 1;
            Err(HandlerError::failed("it is stuck"))
        }
    });
    world.serve(1, commands);
    world.connect(0, 1);
    let handle = world.handle(0);
    let taken = world.run(0, async move { handle.call::<u64, ()>("door/open", 60).await });
    assert_eq!(taken.lock().unwrap().take().unwrap(), Ok(()));
    assert_eq!(*done.lock().unwrap(), 0);
    world.pass(Duration::from_secs(61));
    assert_eq!(*done.lock().unwrap(), 1);
    assert_eq!(world.stations[1].host.tasks(), 0);
}
