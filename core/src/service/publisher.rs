//! Many events of one topic, one after the other: what is handed over is published by the node as it goes, and whoever
//! hands over waits only while too much is waiting.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Serialize;

use crate::events::{PublishError, PublishRequest, Published, WhenFull};
use crate::service::Payload;
use crate::service::events::when_full;
use crate::service::handle::{Op, Shared};

/// How many events of one [`Publisher`] may wait for the node. A guess: what a node publishes in one turn, so that
/// it goes out in full datagrams.
pub const WAITING_MAX: usize = 1_024;

/// How many bytes of them may wait; one event more than fits. Values that have no bytes yet count for nothing.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// What became of the events of a [`Publisher`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events that were published.
    pub events: u64,
    /// Into how many queues of subscribers of this node they were put, in all.
    pub local: u64,
    /// To how many peers they were sent, in all.
    pub peers: u64,
    /// How many groups, and services, got one, in all.
    pub groups: u64,
    /// How often a peer was passed over because it is too slow.
    pub passed_over: u64,
    /// Events that were not published. The first error since the last one that was told says why.
    pub refused: u64,
}

impl Totals {
    pub(super) fn add(&mut self, published: &Published) {
        self.events += 1;
        self.local += published.local as u64;
        self.peers += published.peers as u64;
        self.groups += published.groups as u64;
        self.passed_over += published.passed_over as u64;
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Payload>,
    bytes: usize,
    /// The host knows that something waits.
    announced: bool,
    /// Handed over, since the beginning.
    handed_over: u64,
    totals: Totals,
    /// Peers are too slow, and passed over without waiting, until all have room again.
    passes_over: bool,
    /// Why an event was not published, until somebody was told.
    refused: Option<PublishError>,
    /// Who waits for room, or until nothing is open.
    wakers: Vec<Waker>,
    /// The node is gone.
    closed: bool,
}

/// What a publisher and the host share.
pub(super) struct Outbox {
    /// What all its events have in common.
    request: PublishRequest,
    /// How long to wait for peers that are slow.
    pub(super) patience: Option<Duration>,
    state: Mutex<State>,
}

/// Publishes many events of one topic. Made by [`crate::service::Handle::publisher`], or by
/// [`crate::service::EventBuilder::publisher`], which says more about the events.
///
/// What was handed over is published also when this is dropped.
pub struct Publisher {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
}

impl Publisher {
    pub(super) fn new(
        shared: Arc<Shared>,
        request: PublishRequest,
        patience: Option<Duration>,
    ) -> Self {
        let outbox = Outbox { request, patience, state: Mutex::default() };
        Publisher { shared, outbox: Arc::new(outbox) }
    }

    /// Hands an event over: its value as it is for subscribers of this node, written as JSON for others. Waits while
    /// more than [`WAITING_MAX`] events, or [`WAITING_BYTES_MAX`] bytes, are waiting for the node, which waits for
    /// peers that are slow.
    ///
    /// # Errors
    ///
    /// When an event that was handed over before was not published: why. This one is not handed over then, and may
    /// be tried again.
    pub async fn send<T>(&self, value: T) -> Result<(), PublishError>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.send_payload(Payload::value(value)).await
    }

    /// As [`Publisher::send`], with what the event carries as it is.
    ///
    /// # Errors
    ///
    /// As [`Publisher::send`].
    pub async fn send_payload(&self, payload: Payload) -> Result<(), PublishError> {
        let mut payload = Some(payload);
        std::future::poll_fn(|cx| self.poll_send(cx, &mut payload)).await
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        payload: &mut Option<Payload>,
    ) -> Poll<Result<(), PublishError>> {
        let mut state = self.outbox.state.lock().expect("nothing panics under this lock");
        if let Some(error) = state.take_error() {
            return Poll::Ready(Err(error));
        }
        if state.waiting.len() >= WAITING_MAX || state.bytes >= WAITING_BYTES_MAX {
            state.await_change(cx.waker());
            return Poll::Pending;
        }
        let payload = payload.take().expect("it is handed over once");
        state.bytes += size(&payload);
        state.handed_over += 1;
        state.waiting.push_back(payload);
        if !std::mem::replace(&mut state.announced, true) {
            drop(state);
            self.shared.push(Op::PublishMany(Arc::clone(&self.outbox)));
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until everything that was handed over is published, and says what was published so far.
    ///
    /// # Errors
    ///
    /// When an event was not published: why.
    pub async fn flush(&self) -> Result<Totals, PublishError> {
        std::future::poll_fn(|cx| {
            let mut state = self.outbox.state.lock().expect("nothing panics under this lock");
            if let Some(error) = state.take_error() {
                return Poll::Ready(Err(error));
            }
            if state.is_open() {
                state.await_change(cx.waker());
                return Poll::Pending;
            }
            Poll::Ready(Ok(state.totals))
        })
        .await
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("topic", &self.outbox.request.topic)
            .finish_non_exhaustive()
    }
}

fn size(payload: &Payload) -> usize {
    match payload {
        Payload::Encoded { bytes, .. } => bytes.len(),
        Payload::Value(_) => 0,
    }
}

impl State {
    fn is_open(&self) -> bool {
        self.totals.events + self.totals.refused < self.handed_over
    }

    fn take_error(&mut self) -> Option<PublishError> {
        self.refused.take().or(self.closed.then_some(PublishError::Stopping))
    }

    fn await_change(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|known| known.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }
}

impl Outbox {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> (T, bool)) -> T {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        let (result, news) = change(&mut state);
        let wakers = if news { std::mem::take(&mut state.wakers) } else { Vec::new() };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// What its events have in common. The payload means nothing.
    pub(super) fn request(&self) -> PublishRequest {
        let passes_over = self.change(|state| (state.passes_over, false));
        let when_full = if passes_over { WhenFull::PassOver } else { when_full(self.patience) };
        PublishRequest { when_full, ..self.request.clone() }
    }

    /// Takes all that waits, leaving `spare`'s memory in its place. There is room again.
    pub(super) fn take(&self, spare: &mut VecDeque<Payload>) {
        debug_assert!(spare.is_empty());
        self.change(|state| {
            state.announced = false;
            state.bytes = 0;
            std::mem::swap(&mut state.waiting, spare);
            ((), true)
        });
    }

    /// What became of some events, and whether those who are slow are passed over from now on.
    pub(super) fn note(&self, totals: &Totals, refused: Option<PublishError>, passes_over: bool) {
        self.change(|state| {
            let all = &mut state.totals;
            all.events += totals.events;
            all.local += totals.local;
            all.peers += totals.peers;
            all.groups += totals.groups;
            all.passed_over += totals.passed_over;
            all.refused += totals.refused;
            state.passes_over = passes_over;
            if state.refused.is_none() {
                state.refused = refused;
            }
            ((), state.refused.is_some() || !state.is_open())
        });
    }

    /// The node is gone.
    pub(super) fn close(&self) {
        self.change(|state| {
            state.closed = true;
            state.waiting.clear();
            state.bytes = 0;
            ((), true)
        });
    }
}
