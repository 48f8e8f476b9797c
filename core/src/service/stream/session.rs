//! One end of a stream as both of its halves and whoever speaks for it share it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::flow::Flow;
use super::frame::Item;
use super::{ITEM_BYTES_MAX, StreamError};
use crate::base::MonoTime;
use crate::payload::Payload;

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It opened the stream.
    Opener,
    /// Its handler was called.
    Called,
}

pub(super) struct State {
    pub(super) side: Side,
    pub(super) flow: Flow,
    /// Why nothing goes on any more.
    pub(super) over: Option<StreamError>,
    /// Our own halves want no more: the other end is to hear of it.
    pub(super) cut: bool,
    /// What comes is not wanted, and is taken as it comes.
    discards: bool,
    /// The reader was told how the stream ended.
    told: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Who speaks for this end.
    pub(super) speaker: Option<Waker>,
    /// At the called end: the newest exchange.
    pub(super) newest: u64,
    /// At the called end: the handler's task.
    pub(super) keeper: Option<Waker>,
    /// At the called end: when the opener was last heard of.
    pub(super) heard: MonoTime,
}

pub(super) struct Session(Mutex<State>);

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

pub(super) fn wait(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(known) => known.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

impl Session {
    /// An end and its halves.
    pub(super) fn open(side: Side, flow: Flow, now: MonoTime) -> (Arc<Session>, Writer, Reader) {
        let session = Arc::new(Session(Mutex::new(State {
            side,
            flow,
            over: None,
            cut: false,
            discards: false,
            told: false,
            reader: None,
            writer: None,
            speaker: None,
            newest: 0,
            keeper: None,
            heard: now,
        })));
        let writer = Writer { session: Arc::clone(&session), finished: false };
        let reader = Reader { session: Arc::clone(&session) };
        (session, writer, reader)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

impl State {
    /// Nothing goes on any more, for this reason. The first one counts.
    pub(super) fn fail(&mut self, error: StreamError) {
        if self.over.is_none() {
            self.over = Some(error);
        }
        self.wake_all();
    }

    pub(super) fn wake_all(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
        wake(&mut self.speaker);
        wake(&mut self.keeper);
    }

    /// Something came, or there is room: both halves look again.
    pub(super) fn wake_halves(&mut self) {
        if self.discards {
            while self.flow.pop().is_some() {}
        }
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    pub(super) fn wake_speaker(&mut self) {
        wake(&mut self.speaker);
    }

    /// What became of the whole, if it has an end: all that came before it was taken.
    fn end(&self) -> Option<Result<(), StreamError>> {
        if !self.flow.is_at_end() {
            return self.over.clone().map(Err);
        }
        match (self.side, self.flow.closed()) {
            (_, Some(Err(error))) => Some(Err(StreamError::Failed(error.clone()))),
            (_, Some(Ok(()))) | (Side::Called, None) => Some(Ok(())),
            (Side::Opener, None) => self.over.clone().map(Err),
        }
    }
}

/// The half that sends. At the end that opened the stream, [`Writer::finish`] says that all was sent; a writer that is
/// dropped before cuts the stream. At the end that was called, all was sent when the handler returns.
pub struct Writer {
    session: Arc<Session>,
    finished: bool,
}

impl Writer {
    /// Sends a value, written as JSON. Waits while the other end is slow.
    ///
    /// # Errors
    ///
    /// When the value cannot be written or is larger than [`ITEM_BYTES_MAX`], and when the stream does not go on.
    pub async fn send<T: Serialize + Send + Sync + 'static>(
        &mut self,
        value: T,
    ) -> Result<(), StreamError> {
        self.send_payload(Payload::value(value)).await
    }

    /// Sends a payload as it is. Waits while the other end is slow.
    ///
    /// # Errors
    ///
    /// As [`Writer::send`].
    pub async fn send_payload(&mut self, payload: Payload) -> Result<(), StreamError> {
        let item = Item::new(&payload).map_err(StreamError::Unwritable)?;
        let bytes = item.bytes.len() as u64;
        if bytes > ITEM_BYTES_MAX {
            return Err(StreamError::ItemTooLarge { bytes });
        }
        let mut item = Some(item);
        poll_fn(|cx| {
            let mut state = self.session.lock();
            if let Some(error) = &state.over {
                return Poll::Ready(Err(error.clone()));
            }
            match state.flow.closed() {
                Some(Err(error)) => return Poll::Ready(Err(StreamError::Failed(error.clone()))),
                Some(Ok(())) => return Poll::Ready(Err(StreamError::Ended)),
                None => {}
            }
            if state.flow.is_ending() {
                // The handler gave it to somebody who goes on after it has returned.
                return Poll::Ready(Err(StreamError::Ended));
            }
            if !state.flow.has_room() {
                wait(&mut state.writer, cx);
                return Poll::Pending;
            }
            state.flow.put(item.take().expect("this ends once"));
            state.wake_speaker();
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// All was sent: the other end's reader ends behind it. What the handler makes of it, the reader of this end tells
    /// when it ends.
    pub fn finish(mut self) {
        self.finished = true;
        let mut state = self.session.lock();
        if state.side == Side::Opener {
            state.flow.finish();
            state.wake_speaker();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        if !self.finished && state.side == Side::Opener && state.flow.closed().is_none() {
            state.cut = true;
            state.fail(StreamError::Cut);
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

/// The half that receives, a [`Stream`] of payloads.
///
/// At the end that opened the stream it ends when the handler has returned: without an error, if the handler did. A
/// reader that is dropped before cuts the stream. At the end that was called it ends when the opener has finished; if it
/// is dropped before, what still comes is not looked at.
pub struct Reader {
    session: Arc<Session>,
}

impl Reader {
    /// The next item; none behind the last one.
    ///
    /// # Errors
    ///
    /// Once, behind the items that came: how the stream was broken, or what the handler failed with.
    pub async fn next(&mut self) -> Option<Result<Payload, StreamError>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// The next item as a `T`; none behind the last one.
    ///
    /// # Errors
    ///
    /// As [`Reader::next`]; and [`StreamError::Unwritable`] for an item that is no `T`: the stream goes on.
    pub async fn next_as<T: DeserializeOwned + Send + Sync + 'static>(
        &mut self,
    ) -> Option<Result<T, StreamError>> {
        let item = self.next().await?;
        Some(item.and_then(|payload| payload.decode().map_err(StreamError::Unwritable)))
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Payload, StreamError>>> {
        let mut state = self.session.lock();
        if let Some(item) = state.flow.pop() {
            if state.flow.has_news() {
                state.wake_speaker();
            }
            return Poll::Ready(Some(Ok(item.into())));
        }
        match state.end() {
            Some(Err(error)) if !state.told => {
                state.told = true;
                Poll::Ready(Some(Err(error)))
            }
            Some(_) => Poll::Ready(None),
            None => {
                wait(&mut state.reader, cx);
                Poll::Pending
            }
        }
    }
}

impl Stream for Reader {
    type Item = Result<Payload, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        match state.side {
            Side::Opener if state.end().is_none() && state.flow.closed().is_none() => {
                state.cut = true;
                state.fail(StreamError::Cut);
            }
            Side::Opener => {}
            Side::Called => {
                state.discards = true;
                state.wake_halves();
                state.wake_speaker();
            }
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}
