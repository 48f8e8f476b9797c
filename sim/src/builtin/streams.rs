//! Streams of the built-in workload, and what must hold of them.
//!
//! The opener numbers its items and the handler sends each back. What both truly did is written down outside of the
//! nodes, so that either end is judged by what the other one knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dunlin_core::service::stream::frame::ITEM_OVERHEAD;
use dunlin_core::service::stream::{Reader, StreamError, WINDOW, Writer};
use dunlin_core::service::{Context, Handle, HandlerError, Payload};
use serde::{Deserialize, Serialize};

use super::unless;
use crate::schedule::StreamPlan;
use crate::workload::NodeInfo;

/// How long an opener goes on at most: longer than a stream takes to notice that its other end is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a handler fails with that is meant to.
const FULL: &str = "FULL";

/// Bytes that are under way at most beside a full window: a frame in the sender's queue, and what may go while half of
/// the window is free.
const BESIDE: u64 = 64 << 10;

/// What truly became of a stream.
#[derive(Default)]
struct Record {
    /// Numbers and bytes of items that the opener has sent.
    put: (u32, u64),
    /// What the handler took.
    taken: (u32, u64),
    /// What came back.
    back: u32,
    /// All was sent.
    finished: bool,
    /// How the handler returned.
    returned: Option<Result<(), ()>>,
    /// The handler has returned, or was dropped: what still comes is not looked at.
    gone: bool,
}

/// A handler, for as long as it is there.
struct Running(Streams, u64);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.of(self.1, |record| record.gone = true);
    }
}

/// All streams of a world.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<BTreeMap<u64, Record>>>);

/// What a handler is told to begin with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Wanted {
    stream: u64,
    handler_ms: u32,
    fail_after: Option<u32>,
}

fn item(number: u32, bytes: u32) -> Bytes {
    let mut item = BytesMut::with_capacity(4 + bytes as usize);
    item.put_u32(number);
    item.put_bytes(number as u8, bytes as usize);
    item.freeze()
}

/// The number of an item, if it is whole.
fn number(item: &Payload) -> Option<(u32, u64)> {
    let Payload::Encoded { bytes, .. } = item else { return None };
    let (mut rest, weight) = (bytes.clone(), bytes.len() as u64 + ITEM_OVERHEAD);
    let number = rest.try_get_u32().ok()?;
    rest.iter().all(|byte| *byte == number as u8).then_some((number, weight))
}

impl Streams {
    fn of<T>(&self, stream: u64, f: impl FnOnce(&mut Record) -> T) -> T {
        let mut all = self.0.lock().expect("nothing panics under this lock");
        f(all.entry(stream).or_default())
    }

    fn begin(&self) -> u64 {
        let mut all = self.0.lock().expect("nothing panics under this lock");
        let stream = all.last_key_value().map_or(1, |(last, _)| last + 1);
        all.insert(stream, Record::default());
        stream
    }

    /// The handler: it sends back what comes.
    pub(super) async fn handle(
        self,
        node: NodeInfo,
        cx: Context,
        wanted: Wanted,
        mut reader: Reader,
        mut writer: Writer,
    ) -> Result<(), HandlerError> {
        let stream = wanted.stream;
        let _running = Running(self.clone(), stream);
        let result = loop {
            let item = match reader.next().await {
                None => break Ok(()),
                Some(Err(error)) => return Err(broken(&node, stream, error)),
                Some(Ok(item)) => item,
            };
            let came = number(&item);
            let (expected, put) = self.of(stream, |record| {
                let expected = record.taken.0;
                record.taken.0 += 1;
                record.taken.1 += came.map_or(0, |(_, weight)| weight);
                (expected, record.put.0)
            });
            if came.map(|(number, _)| number) != Some(expected) || expected >= put {
                let what =
                    format!("stream {stream}: {came:?} came, and {expected} of {put} is next");
                node.ledger.violate(
                    Some(node.life.node),
                    "a stream brings its items in order, each once",
                    what,
                );
            }
            if wanted.fail_after.is_some_and(|after| expected + 1 >= after) {
                break Err(HandlerError::application(FULL, "it is meant to"));
            }
            if wanted.handler_ms > 0 {
                cx.sleep(Duration::from_millis(wanted.handler_ms.into())).await;
            }
            if let Err(error) = writer.send_payload(item).await {
                return Err(broken(&node, stream, error));
            }
        };
        self.of(stream, |record| record.returned = Some(result.as_ref().map_err(|_| ()).copied()));
        result
    }

    /// The opener.
    pub(super) async fn open(self, node: NodeInfo, path: String, plan: StreamPlan, handle: Handle) {
        let stream = self.begin();
        let wanted = Wanted { stream, handler_ms: plan.handler_ms, fail_after: plan.fail_after };
        let mut builder = handle.stream(&*path).value(wanted);
        if let Some(target) = plan.target {
            let peer = node.peers[usize::from(target)];
            builder = builder.with(|request| request.to(peer));
        }
        // Whoever cannot be reached opens nothing.
        let Ok((writer, reader)) = builder.open().await else { return };
        let send = self.clone().send(node.clone(), stream, plan.clone(), writer);
        // Both at once: who only sent would wait for room that nobody makes.
        let receive = self.clone().receive(node.clone(), stream, &plan, &handle, reader);
        let both = both(send, receive);
        if unless(both, Some(handle.sleep(PATIENCE))).await.is_none() {
            node.ledger.sometimes(GIVEN_UP);
        }
    }

    async fn send(self, node: NodeInfo, stream: u64, plan: StreamPlan, mut writer: Writer) {
        for sent in 0..plan.items {
            if plan.cut_after.is_some_and(|after| sent >= after) {
                node.ledger.sometimes(CUT);
                return;
            }
            let item = item(sent, if sent % 3 == 0 { plan.bytes } else { plan.bytes / 10 });
            let weight = item.len() as u64 + ITEM_OVERHEAD;
            // The handler may have it before this hears that it was taken.
            self.of(stream, |record| record.put.0 += 1);
            if let Err(error) = writer.send_payload(Payload::raw(item)).await {
                broken(&node, stream, error);
                return;
            }
            let under_way = self.of(stream, |record| {
                record.put.1 += weight;
                if record.gone { 0 } else { record.put.1.saturating_sub(record.taken.1) }
            });
            if under_way > WINDOW + BESIDE + u64::from(plan.bytes) {
                let what = format!("stream {stream}: {under_way} bytes were sent and not taken");
                node.ledger.violate(
                    Some(node.life.node),
                    "a slow consumer slows its producer",
                    what,
                );
            }
        }
        self.of(stream, |record| record.finished = true);
        writer.finish();
    }

    async fn receive(
        self,
        node: NodeInfo,
        stream: u64,
        plan: &StreamPlan,
        handle: &Handle,
        mut reader: Reader,
    ) {
        while let Some(item) = reader.next().await {
            let item = match item {
                Ok(item) => item,
                Err(StreamError::Failed(error)) if error.code == FULL => {
                    let returned = self.of(stream, |record| record.returned);
                    if returned != Some(Err(())) {
                        let what = format!("stream {stream}: its handler returned {returned:?}");
                        node.ledger.violate(Some(node.life.node), END, what);
                    }
                    return;
                }
                Err(error) => {
                    broken(&node, stream, error);
                    return;
                }
            };
            let came = number(&item);
            let (expected, taken) = self.of(stream, |record| {
                record.back += 1;
                (record.back - 1, record.taken.0)
            });
            if came.map(|(number, _)| number) != Some(expected) || expected >= taken {
                let what = format!("stream {stream}: {came:?} came back, and {expected} is next");
                node.ledger.violate(
                    Some(node.life.node),
                    "a stream brings its items in order, each once",
                    what,
                );
            }
            if plan.reader_ms > 0 {
                handle.sleep(Duration::from_millis(plan.reader_ms.into())).await;
            }
        }
        node.ledger.sometimes(WHOLE);
        let (all, what) = self.of(stream, |record| {
            let all = record.finished
                && record.returned == Some(Ok(()))
                && record.back == plan.items
                && record.taken.0 == plan.items;
            let what = format!(
                "stream {stream}: of {} items {} were taken and {} came back; its handler returned {:?}",
                plan.items, record.taken.0, record.back, record.returned
            );
            (all, what)
        });
        if !all {
            node.ledger.violate(Some(node.life.node), END, what);
        }
    }
}

const END: &str = "a stream ends as its handler did, behind all items";

/// A stream broke: that happens. But both ends keep to the rules.
fn broken(node: &NodeInfo, stream: u64, error: StreamError) -> HandlerError {
    if error.to_string().contains("rules of streams") {
        let what = format!("stream {stream}: {error}");
        node.ledger.violate(Some(node.life.node), "the ends of a stream keep to its rules", what);
    }
    node.ledger.sometimes(BROKEN);
    error.into()
}

pub(super) const WHOLE: &str = "a stream brought all that was sent";
pub(super) const BROKEN: &str = "a stream broke";
pub(super) const CUT: &str = "an opener cut its stream";
pub(super) const GIVEN_UP: &str = "an opener gave up a stream that went on";

/// Runs both until both have ended.
async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (Box::pin(one), Box::pin(other));
    let mut ended = (false, false);
    std::future::poll_fn(|cx| {
        ended.0 = ended.0 || one.as_mut().poll(cx).is_ready();
        ended.1 = ended.1 || other.as_mut().poll(cx).is_ready();
        if ended.0 && ended.1 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
