//! The end that opens a stream: it keeps an exchange at the other end at all times.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::Serialize;

use super::flow::Flow;
use super::frame::{Frame, Item, Opening};
use super::session::{Reader, Session, Side, State, Writer, wait};
use super::{EXCHANGE_TIMEOUT, StreamError, WINDOW, WINDOWS};
use crate::base::PeerId;
use crate::payload::Payload;
use crate::rpc::{CallError, Executed, Failure};
use crate::service::{CallFuture, Handle, RequestBuilder};
use crate::topic::TopicPath;

/// Exchanges of one stream that are under way: one that the other end keeps, and two that bring something. A guess.
const EXCHANGES_MAX: usize = 3;

impl Handle {
    /// A stream to whoever serves the path. The path is a text, or a [`TopicPath`].
    ///
    /// ```
    /// # use dunlin_core::service::{Handle, stream::StreamError};
    /// # async fn sum(handle: &Handle) -> Result<i64, StreamError> {
    /// let (mut numbers, mut sums) = handle.stream("math/running").open().await?;
    /// for number in [1, 2, 3] {
    ///     numbers.send(number).await?;
    /// }
    /// numbers.finish();
    /// let mut last = 0;
    /// while let Some(sum) = sums.next_as::<i64>().await {
    ///     last = sum?;
    /// }
    /// # Ok(last)
    /// # }
    /// ```
    pub fn stream<P>(&self, path: P) -> StreamBuilder
    where
        P: TryInto<TopicPath>,
        P::Error: std::fmt::Display,
    {
        let path = path
            .try_into()
            .map_err(|error| CallError::unrun(Failure::InvalidPath, error.to_string()));
        StreamBuilder {
            request: path.clone().map(|path| self.request(path)),
            path,
            handle: self.clone(),
            argument: Payload::value(()),
            window: WINDOW,
        }
    }
}

/// A stream that is being put together.
#[derive(Debug)]
#[must_use = "nothing happens before `open`"]
pub struct StreamBuilder {
    handle: Handle,
    path: Result<TopicPath, CallError>,
    request: Result<RequestBuilder, CallError>,
    argument: Payload,
    window: u64,
}

impl StreamBuilder {
    /// What the handler is given to begin with, written as JSON. Without it, `()`.
    pub fn value<T: Serialize + Send + Sync + 'static>(self, argument: T) -> Self {
        self.payload(Payload::value(argument))
    }

    /// What the handler is given to begin with, as it is.
    pub fn payload(mut self, argument: Payload) -> Self {
        self.argument = argument;
        self
    }

    /// How many bytes may come that the reader has not taken, within [`WINDOWS`]. Without it, [`WINDOW`].
    pub fn window(mut self, bytes: u64) -> Self {
        self.window = bytes.clamp(*WINDOWS.start(), *WINDOWS.end());
        self
    }

    /// Chooses who is to be called, as for a call: `.with(|request| request.to(peer))`.
    pub fn with(mut self, choose: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Self {
        self.request = self.request.map(choose);
        self
    }

    /// Opens it. The handler has begun when this ends.
    ///
    /// # Errors
    ///
    /// As for a call: [`StreamError::Call`].
    pub async fn open(self) -> Result<(Writer, Reader), StreamError> {
        let path = self.path?;
        let argument = Item::new(&self.argument).map_err(StreamError::Unwritable)?;
        let stream = self.handle.random();
        let opening = Opening { window: self.window, argument: Some(argument), node: None };
        let frame = Frame { stream, opening: Some(opening), ..Frame::default() };
        let answer = self.request?.payload(frame.encode()).send().await?;
        let frame = Frame::decode(&answer).map_err(unreadable)?;
        let opening =
            frame.opening.as_ref().ok_or_else(|| unreadable("it does not open the stream"))?;
        let node = opening.node.ok_or_else(|| unreadable("it does not say where the stream is"))?;
        let mut flow = Flow::new(self.window, opening.window);
        flow.take(frame).map_err(|wrong| StreamError::Broken(wrong.to_string()))?;
        let now = self.handle.now().mono;
        let (session, writer, reader) = Session::open(Side::Opener, flow, now);
        let handle = self.handle.clone();
        let speaker =
            Speaker { handle, path, node, stream, session, under_way: Vec::new(), cutting: false };
        // If the node is gone it is dropped, and says so to both halves.
        self.handle.with(move |host, now, mesh| host.spawn(now, mesh, speaker));
        Ok((writer, reader))
    }

    /// Opens a stream that is only read.
    ///
    /// # Errors
    ///
    /// As [`StreamBuilder::open`].
    pub async fn open_reading(self) -> Result<Reader, StreamError> {
        let (writer, reader) = self.open().await?;
        writer.finish();
        Ok(reader)
    }
}

fn unreadable(why: impl std::fmt::Display) -> StreamError {
    StreamError::Call(CallError::Failed {
        failure: Failure::UnreadableAnswer,
        executed: Executed::Yes,
        detail: why.to_string(),
    })
}

/// Speaks for the opener, until the stream is over.
struct Speaker {
    handle: Handle,
    path: TopicPath,
    /// Who was called.
    node: PeerId,
    stream: u64,
    session: Arc<Session>,
    under_way: Vec<CallFuture>,
    /// The last exchange is under way: that the stream is cut.
    cutting: bool,
}

impl Speaker {
    fn say(&mut self, frame: Frame) {
        let request = self.handle.request(self.path.clone()).to(self.node);
        let exchange = request.payload(frame.encode()).timeout(EXCHANGE_TIMEOUT);
        // The path was good for the opening.
        self.under_way.extend(exchange.start());
    }

    /// Takes what has come. Says whether anything has.
    fn hear(&mut self, cx: &mut Context<'_>, session: &Session) -> bool {
        let mut heard = Vec::new();
        self.under_way.retain_mut(|exchange| match Pin::new(exchange).poll(cx) {
            Poll::Ready(answer) => {
                heard.push(answer);
                false
            }
            Poll::Pending => true,
        });
        let any = !heard.is_empty();
        let mut state = session.lock();
        for answer in heard {
            let taken = match answer {
                Err(error) => Err(StreamError::Call(error)),
                Ok(payload) => {
                    Frame::decode(&payload).map_err(StreamError::Broken).and_then(|frame| {
                        state
                            .flow
                            .take(frame)
                            .map_err(|wrong| StreamError::Broken(wrong.to_string()))
                    })
                }
            };
            if let Err(error) = taken
                && state.flow.closed().is_none()
            {
                state.fail(error);
            }
        }
        if any {
            state.wake_halves();
        }
        any
    }

    fn is_over(&self, state: &State) -> bool {
        match &state.over {
            // The handler is not told by the end of a call, and has 45 s to go. So it is told.
            Some(_) => self.cutting && self.under_way.is_empty(),
            None => state.flow.closed().is_some(),
        }
    }
}

impl Future for Speaker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let session = Arc::clone(&this.session);
        loop {
            let heard = this.hear(cx, &session);
            let mut state = session.lock();
            if this.is_over(&state) {
                this.under_way.clear();
                return Poll::Ready(());
            }
            wait(&mut state.speaker, cx);
            if state.over.is_some() {
                if !this.cutting {
                    this.cutting = true;
                    drop(state);
                    this.under_way.clear();
                    let stream = this.stream;
                    this.say(Frame { stream, reset: true, ..Frame::default() });
                    continue;
                }
                return Poll::Pending;
            }
            let keeps = !this.under_way.is_empty();
            if this.under_way.len() < EXCHANGES_MAX && (state.flow.has_news() || !keeps) {
                let frame = state.flow.frame(this.stream);
                // There may be room in the queue now.
                state.wake_halves();
                drop(state);
                this.say(frame);
            } else if !heard {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Speaker {
    /// The node goes, or the stream is over already.
    fn drop(&mut self) {
        let mut state = self.session.lock();
        if state.over.is_none() && state.flow.closed().is_none() {
            state.fail(StreamError::Call(CallError::Failed {
                failure: Failure::ShuttingDown,
                executed: Executed::Maybe,
                detail: "the node is gone".into(),
            }));
        }
    }
}
