//! The end whose handler was called: sessions, the exchanges that come for them, and the tasks of their handlers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use super::flow::Flow;
use super::frame::{Frame, Opening};
use super::session::{Reader, Session, Side, Writer, wait};
use super::{HOLD_MAX, IDLE_MAX, STREAMS_MAX, STREAMS_PER_CALLER_MAX, StreamError, WINDOW};
use crate::base::PeerId;
use crate::payload::Payload;
use crate::planted::is_planted;
use crate::rpc::AppError;
use crate::rpc::callee::HandlerError;
use crate::service::host::CatchPanic;
use crate::service::{BoxFuture, Context, Handle, Sleep};

/// How long a stream whose end was said is remembered: exchanges that were under way are still answered.
const LINGER: Duration = Duration::from_secs(10);

/// Who opened a stream, none if this node did, and what they call it.
type StreamId = (Option<PeerId>, u64);

type Made = BoxFuture<Result<(), HandlerError>>;
type Handler = Box<dyn Fn(Context, Payload, Reader, Writer) -> Made + Send + Sync>;

/// The streams of one action.
pub(in crate::service) struct Streams {
    handler: Handler,
    open: Mutex<BTreeMap<StreamId, Arc<Session>>>,
}

impl Streams {
    pub(in crate::service) fn new(
        handler: impl Fn(Context, Payload, Reader, Writer) -> Made + Send + Sync + 'static,
    ) -> Streams {
        Streams { handler: Box::new(handler), open: Mutex::default() }
    }

    /// The service stops: all of them end here.
    pub(in crate::service) fn cut(&self) {
        let sessions = std::mem::take(&mut *self.lock());
        for session in sessions.into_values() {
            session.lock().fail(StreamError::Cut);
        }
    }

    /// One word of an opener.
    pub(in crate::service) async fn exchange(
        self: Arc<Self>,
        cx: Context,
        request: Payload,
    ) -> Result<Payload, HandlerError> {
        let frame = Frame::decode(&request).map_err(HandlerError::BadRequest)?;
        let (stream, now) = (frame.stream, cx.handle().now().mono);
        let id = (cx.caller(), stream);
        if let Some(opening) = frame.opening {
            return self.begin(cx, id, opening);
        }
        let session = self.lock().get(&id).cloned().ok_or_else(|| {
            let why =
                "there is no such stream here: it is over, or this is another life of the node";
            HandlerError::application("NO_SUCH_STREAM", why)
        })?;
        let ticket = {
            let mut state = session.lock();
            state.heard = now;
            if frame.reset {
                state.fail(StreamError::Cut);
                return Ok(Frame { stream, ..Frame::default() }.encode());
            }
            if let Err(wrong) = state.flow.take(frame) {
                state.fail(StreamError::Broken(wrong.to_string()));
            }
            state.newest += 1;
            state.wake_all();
            state.wake_halves();
            state.newest
        };
        let sleep = cx.handle().sleep(HOLD_MAX);
        let answer = Kept { session, stream, ticket, sleep }.await;
        answer.map(Frame::encode)
    }

    fn begin(
        self: &Arc<Self>,
        cx: Context,
        id: StreamId,
        opening: Opening,
    ) -> Result<Payload, HandlerError> {
        let (caller, stream) = id;
        let flow = Flow::new(WINDOW, opening.window);
        let (session, writer, reader) = Session::open(Side::Called, flow, cx.handle().now().mono);
        {
            let mut open = self.lock();
            let of_caller = open.range((caller, 0)..=(caller, u64::MAX)).count();
            if open.len() >= STREAMS_MAX || of_caller >= STREAMS_PER_CALLER_MAX {
                let why = format!(
                    "{} streams are open here, {of_caller} of them yours; at most {STREAMS_MAX} and \
                     {STREAMS_PER_CALLER_MAX} may be",
                    open.len()
                );
                return Err(HandlerError::application("TOO_MANY_STREAMS", why));
            }
            if open.contains_key(&id) {
                return Err(HandlerError::BadRequest("this stream is open already".into()));
            }
            open.insert(id, Arc::clone(&session));
        }
        let node = cx.node();
        let cx = cx.without_deadline();
        let (handle, placement) = (cx.handle().clone(), cx.placement);
        let argument = opening.argument.map_or_else(|| Payload::raw(Vec::new()), Payload::from);
        let streams = Arc::clone(self);
        // The handler may panic while it is made.
        let making = Arc::clone(self);
        let made = async move { (making.handler)(cx, argument, reader, writer).await };
        let keeper = Keeper {
            streams,
            id,
            session,
            handler: Some(CatchPanic(Box::pin(made))),
            sleep: handle.sleep(IDLE_MAX),
            handle: handle.clone(),
        };
        handle.with(move |host, now, mesh| host.spawn_for(now, mesh, placement, Box::pin(keeper)));
        let opening = Opening { window: WINDOW, argument: None, node: Some(node) };
        Ok(Frame { stream, opening: Some(opening), ..Frame::default() }.encode())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<StreamId, Arc<Session>>> {
        self.open.lock().expect("nothing panics under this lock")
    }
}

/// An exchange, until there is something to say, a newer one has come, or it has waited long enough.
struct Kept {
    session: Arc<Session>,
    stream: u64,
    ticket: u64,
    sleep: Sleep,
}

impl Future for Kept {
    type Output = Result<Frame, HandlerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Self::Output> {
        let has_waited = Pin::new(&mut self.sleep).poll(cx).is_ready();
        let mut state = self.session.lock();
        if let Some(error) = &state.over {
            let error = HandlerError::application("STREAM_CUT", error.to_string());
            return Poll::Ready(Err(error));
        }
        if self.ticket == state.newest && !has_waited && !state.flow.has_news() {
            wait(&mut state.speaker, cx);
            return Poll::Pending;
        }
        let frame = state.flow.frame(self.stream);
        // There may be room in the queue now, and the last word may have been said.
        state.wake_halves();
        Poll::Ready(Ok(frame))
    }
}

/// Runs the handler of one stream, and forgets the stream when its time is over.
struct Keeper {
    streams: Arc<Streams>,
    id: StreamId,
    session: Arc<Session>,
    /// None once it has returned.
    handler: Option<CatchPanic<Result<(), HandlerError>>>,
    handle: Handle,
    sleep: Sleep,
}

impl Keeper {
    fn handler_ended(&mut self, result: Result<Result<(), HandlerError>, String>) {
        self.handler = None;
        let result = match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(HandlerError::Application(error))) => Err(error),
            Ok(Err(HandlerError::BadRequest(why))) => Err(AppError::new("BAD_REQUEST", why)),
            Ok(Err(HandlerError::Failed(why))) => Err(AppError::new("HANDLER_FAILED", why)),
            Ok(Err(HandlerError::NotActive)) => {
                Err(AppError::new("NOT_ACTIVE", "its service is not active here any more"))
            }
            Err(panic) => {
                tracing::error!(panic, "application code panicked");
                Err(AppError::new("HANDLER_FAILED", format!("the handler panicked: {panic}")))
            }
        };
        let mut state = self.session.lock();
        if result.is_err() && is_planted(122) {
            state.flow.close(Ok(()));
        } else {
            state.flow.close(result);
        }
        state.wake_speaker();
        drop(state);
        self.sleep = self.handle.sleep(LINGER);
    }

    /// Its time may be over.
    fn look(&mut self) {
        if is_planted(123) {
            self.sleep = self.handle.sleep(IDLE_MAX);
            return;
        }
        let now = self.handle.now().mono;
        let mut state = self.session.lock();
        let idle = now.since(state.heard);
        let said = self.handler.is_none() && state.flow.is_finished();
        let bound = if said { LINGER } else { IDLE_MAX };
        if idle >= bound {
            state.fail(StreamError::Cut);
            return;
        }
        self.sleep = self.handle.sleep(bound - idle);
    }
}

impl Future for Keeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            {
                let mut state = this.session.lock();
                wait(&mut state.keeper, cx);
                if state.over.is_some() {
                    drop(state);
                    this.handler = None;
                    return Poll::Ready(());
                }
            }
            if let Some(handler) = &mut this.handler
                && let Poll::Ready(result) = Pin::new(handler).poll(cx)
            {
                this.handler_ended(result);
                continue;
            }
            if Pin::new(&mut this.sleep).poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.look();
        }
    }
}

impl Drop for Keeper {
    /// Its time is over, or the node goes.
    fn drop(&mut self) {
        self.session.lock().fail(StreamError::Cut);
        let mut open = self.streams.lock();
        if open.get(&self.id).is_some_and(|known| Arc::ptr_eq(known, &self.session)) {
            open.remove(&self.id);
        }
    }
}
