//! What application code holds of a node: calls, timers, randomness, on any runtime and thread.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::{
    CallKey, Draws, InvocationKey, Key, Label, MonoTime, Now, PeerId, ServiceKey, TimerId, WallTime,
};
use crate::directory::selection::key_hash;
use crate::directory::{Hook, Selection};
use crate::events::{PublishError, SubscribeRequest};
use crate::mesh::{CallRequest, CommandError, Mesh, Subscribed, Target};
use crate::rpc::callee::HandlerError;
use crate::rpc::hedge::Hedge;
use crate::rpc::{CallError, CallResult, Executed, Failure};
use crate::service::Payload;
use crate::service::events::{Inbox, Publishing};
use crate::service::host::Host;
use crate::service::publisher::Outbox;
use crate::service::slot::Slot;
use crate::topic::{SubscriptionKey, TopicPath};

/// Something that application code asks of the host.
pub(super) enum Op {
    /// Boxed, as it goes through many hands, and is by far the largest.
    Call {
        request: Box<CallRequest>,
        slot: Arc<Slot<CallResult>>,
    },
    CancelCall(CallKey),
    Sleep {
        until: MonoTime,
        slot: Arc<Slot<()>>,
    },
    CancelSleep(TimerId<Arc<Slot<()>>>),
    HandlerDone {
        invocation: InvocationKey,
        result: Result<Payload, HandlerError>,
    },
    HookDone {
        service: ServiceKey,
        hook: Hook,
        result: Result<(), String>,
    },
    Publish(Box<Publishing>),
    /// Something waits there.
    PublishMany(Arc<Outbox>),
    Subscribe {
        request: Box<SubscribeRequest>,
        inbox: Arc<Inbox>,
        slot: Arc<Slot<Result<Subscribed, CommandError>>>,
    },
    /// A subscriber gets nothing more, and reads what waits for it.
    LeaveGroup(SubscriptionKey),
    Unsubscribe(SubscriptionKey),
    /// A subscriber was given up before it knew its key.
    Leave(Arc<Inbox>),
    Refill(SubscriptionKey),
    AwaitKnown {
        version: u64,
        slot: Arc<Slot<()>>,
    },
    Run(OnHost),
}

/// A closure for the node's own thread.
type OnHost = Box<dyn FnOnce(&mut Host, Now, &mut Mesh) + Send>;

/// What was asked of the host, until it takes it.
#[derive(Default)]
struct Queue {
    ops: VecDeque<Op>,
    /// The host is gone: nobody will take anything any more.
    closed: bool,
}

/// What handles and their host share.
pub(super) struct Shared {
    asked: Mutex<Queue>,
    /// Whether anything was asked that the host has not taken: its turns are many, and most find nothing.
    has_asked: AtomicBool,
    notify: Box<dyn Fn() + Send + Sync>,
    mono: AtomicU64,
    wall: AtomicU64,
    /// The clock itself, where there is one that handlers may look at.
    clock: OnceLock<Clock>,
    draws: Mutex<Draws>,
}

/// Looks at a monotonic clock.
type Clock = Box<dyn Fn() -> MonoTime + Send + Sync>;

impl Shared {
    pub(super) fn new(seed: [u8; 32], notify: Box<dyn Fn() + Send + Sync>) -> Self {
        Shared {
            asked: Mutex::default(),
            has_asked: AtomicBool::new(false),
            notify,
            mono: AtomicU64::new(0),
            wall: AtomicU64::new(0),
            clock: OnceLock::new(),
            draws: Mutex::new(Draws::new(seed)),
        }
    }

    pub(super) fn push(&self, op: Op) {
        let mut asked = self.asked.lock().expect("nothing panics under this lock");
        if asked.closed {
            drop(asked);
            return refuse(op);
        }
        asked.ops.push_back(op);
        let first = asked.ops.len() == 1;
        self.has_asked.store(true, Ordering::Release);
        drop(asked);
        // The host takes all at once, so only the first of them needs to be told.
        if first {
            (self.notify)();
        }
    }

    /// Takes all that was asked, leaving `spare`'s memory in its place.
    pub(super) fn take(&self, spare: &mut VecDeque<Op>) {
        debug_assert!(spare.is_empty());
        let mut asked = self.asked.lock().expect("nothing panics under this lock");
        self.has_asked.store(false, Ordering::Release);
        std::mem::swap(&mut asked.ops, spare);
    }

    /// Whether there is nothing to take. What is asked at the same time is notified of.
    pub(super) fn is_idle(&self) -> bool {
        !self.has_asked.load(Ordering::Acquire)
    }

    /// The host goes: whatever was asked and will be asked is refused.
    pub(super) fn close(&self) {
        let mut asked = self.asked.lock().expect("nothing panics under this lock");
        asked.closed = true;
        let ops = std::mem::take(&mut asked.ops);
        drop(asked);
        ops.into_iter().for_each(refuse);
    }

    pub(super) fn set_clock(&self, clock: Clock) {
        // The first one counts: there is one clock.
        let _ = self.clock.set(clock);
    }

    /// The time at this moment; without a clock, as of when the node last looked.
    pub(super) fn present(&self) -> MonoTime {
        let looked = MonoTime::from_nanos(self.mono.load(Ordering::Relaxed));
        self.clock.get().map_or(looked, |clock| clock().max(looked))
    }

    pub(super) fn set_now(&self, now: Now) {
        self.mono.store(now.mono.as_nanos(), Ordering::Relaxed);
        self.wall.store(now.wall.as_unix_nanos(), Ordering::Relaxed);
    }
}

/// Answers what nobody will do any more. A sleep is left to wait: a loop around one that ended at once
/// would spin.
fn refuse(op: Op) {
    match op {
        Op::Call { slot, .. } => {
            slot.fill(Err(CallError::unrun(Failure::ShuttingDown, "the node is gone")));
        }
        Op::Publish(publishing) => publishing.slot.fill(Err(PublishError::Stopping)),
        Op::PublishMany(outbox) => outbox.close(),
        Op::Subscribe { slot, .. } => slot.fill(Err(CommandError::Stopping)),
        Op::AwaitKnown { slot, .. } | Op::Sleep { slot, .. } => slot.fill(()),
        _ => {}
    }
}

/// A node, for application code. Cheap to clone; works from any thread.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Calls `path` with `argument` and reads the answer as a `T`. Waits ten seconds; runs at most once.
    ///
    /// A service on this node of the same types receives the value itself; nothing is serialised.
    ///
    /// # Errors
    ///
    /// [`CallError`] says what went wrong and whether the handler has run.
    pub async fn call<A, T>(&self, path: &str, argument: A) -> Result<T, CallError>
    where
        A: Serialize + Send + Sync + 'static,
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.request(path).value(argument).send_as().await
    }

    /// A call with more to say about it. The path is a text, or a [`TopicPath`]: whoever makes many calls of one
    /// path reads it once.
    pub fn request<P>(&self, path: P) -> RequestBuilder
    where
        P: TryInto<TopicPath>,
        P::Error: std::fmt::Display,
    {
        let request = path
            .try_into()
            .map(|path| Box::new(CallRequest::new(path, Payload::raw(Vec::new()))))
            .map_err(|error| CallError::unrun(Failure::InvalidPath, error.to_string()));
        RequestBuilder { handle: self.clone(), request }
    }

    /// Starts a call that is put together already. Dropping the future cancels it.
    pub fn start(&self, request: CallRequest) -> CallFuture {
        self.clone().start_boxed(Box::new(request))
    }

    fn start_boxed(self, request: Box<CallRequest>) -> CallFuture {
        let slot = Arc::new(Slot::new());
        self.shared.push(Op::Call { request, slot: Arc::clone(&slot) });
        CallFuture { shared: self.shared, slot, ended: false }
    }

    /// The time, as of when the node last looked.
    pub fn now(&self) -> Now {
        Now {
            mono: MonoTime::from_nanos(self.shared.mono.load(Ordering::Relaxed)),
            wall: WallTime::from_unix_nanos(self.shared.wall.load(Ordering::Relaxed)),
        }
    }

    /// Waits on the node's clock: virtual in the simulator, real elsewhere. Ends early when the node is gone, as
    /// everything does that waits for it.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let slot = Arc::new(Slot::new());
        let until = self.now().mono + duration;
        self.shared.push(Op::Sleep { until, slot: Arc::clone(&slot) });
        Sleep { shared: Arc::clone(&self.shared), slot }
    }

    /// A random number from the node's seed: the same in every run of one seed.
    pub fn random(&self) -> u64 {
        let mut draws = self.shared.draws.lock().expect("nothing panics under this lock");
        draws.number(Label::Application)
    }

    /// Runs `f` with the host and the mesh when the node next has its turn, on its thread; drops it
    /// unrun if the node is gone. For shells that offer more than is offered here.
    pub fn with(&self, f: impl FnOnce(&mut Host, Now, &mut Mesh) + Send + 'static) {
        self.shared.push(Op::Run(Box::new(f)));
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

/// A call that is being put together.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct RequestBuilder {
    handle: Handle,
    /// Or what was asked for that cannot be.
    request: Result<Box<CallRequest>, CallError>,
}

impl RequestBuilder {
    fn with(mut self, set: impl FnOnce(&mut CallRequest)) -> Self {
        if let Ok(request) = &mut self.request {
            set(request);
        }
        self
    }

    /// The argument: moved to a local service, written as JSON for a remote one.
    pub fn value<A: Serialize + Send + Sync + 'static>(self, argument: A) -> Self {
        self.with(|request| request.payload = Payload::value(argument))
    }

    /// The argument as it is.
    pub fn payload(self, payload: Payload) -> Self {
        self.with(|request| request.payload = payload)
    }

    /// Only this peer is to serve the call. If it is on its way, the call waits for it.
    pub fn to(self, peer: PeerId) -> Self {
        self.with(|request| request.target = Target::Peer(peer))
    }

    /// By which rule an instance is chosen, if several serve the path. Without it, as the service says. A
    /// service on this node is preferred, unless the call goes by key.
    pub fn select(self, selection: Selection) -> Self {
        self.with(|request| request.wish.selection = selection)
    }

    /// The instance that serves this key: the same for the same key, whoever calls, as long as it is there.
    pub fn by_key(self, key: impl AsRef<[u8]>) -> Self {
        self.select(Selection::ByKey(key_hash(key.as_ref())))
    }

    /// Only an instance whose version is in this range is to serve the call, written as in a Cargo manifest:
    /// `1.2` for 1.2.0 up to 2.0.0, `>=1.2, <1.5`, `=1.4.2`. Without it, any version will do. With
    /// [`RequestBuilder::to`] nothing is chosen, and it means nothing.
    pub fn version(mut self, range: &str) -> Self {
        match semver::VersionReq::parse(range) {
            Ok(range) => self.with(|request| request.wish.version = Some(range)),
            Err(error) => {
                let what = format!("'{range}' is not a range of versions: {error}");
                self.request =
                    self.request.and_then(|_| Err(CallError::unrun(Failure::BadRequest, what)));
                self
            }
        }
    }

    /// How long to wait.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|request| request.timeout = timeout)
    }

    /// The call may run more than once, if its first run may have been lost.
    pub fn idempotent(self) -> Self {
        self.with(|request| request.idempotent = true)
    }

    /// The call is made once, whatever comes of it. Without this it is made again within its deadline, if it is
    /// known not to have run, or is [idempotent](RequestBuilder::idempotent), and if the service's retry budget
    /// allows it: see [`crate::rpc::retry`].
    pub fn without_retries(self) -> Self {
        self.with(|request| request.retry = false)
    }

    /// The call fails where no instance can serve it at the moment, as `NO_RESPONDERS` or `NOT_ACTIVE`, and has not run. Without
    /// this it waits within its deadline: for an active instance of a single-active service, and while a peer is being
    /// dialled that offered the path, or was not met yet, until two dials in a row have failed.
    pub fn without_waiting(self) -> Self {
        self.with(|request| request.wish.at_once = true)
    }

    /// If no answer has come after this time, another instance is asked too, and the first answer counts. Only for
    /// [idempotent](RequestBuilder::idempotent) calls, which may go to anybody: any other is refused, unrun, as
    /// `BAD_REQUEST`. It is paid from the service's retry budget: see [`crate::rpc::hedge`].
    pub fn hedged(self, after: Duration) -> Self {
        self.with(|request| request.hedge = Some(Hedge::After(after)))
    }

    /// As [`RequestBuilder::hedged`], after the time that so many of a hundred calls of this action did not exceed
    /// lately: 95 asks again for the slowest twentieth. None before this node has seen twenty of them.
    pub fn hedged_at_percentile(self, percent: u8) -> Self {
        self.with(|request| request.hedge = Some(Hedge::Percentile(percent)))
    }

    /// Sends it and waits for the answer. Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// [`CallError`] says what went wrong and whether the handler has run.
    pub async fn send(self) -> CallResult {
        self.start()?.await
    }

    /// Sends it now, and gives what waits for the answer.
    pub(super) fn start(self) -> Result<CallFuture, CallError> {
        Ok(self.handle.start_boxed(self.request?))
    }

    /// Sends it and reads the answer as a `T`.
    ///
    /// # Errors
    ///
    /// [`CallError`] says what went wrong and whether the handler has run.
    pub async fn send_as<T: DeserializeOwned + Send + Sync + 'static>(
        self,
    ) -> Result<T, CallError> {
        self.send().await?.decode().map_err(|error| CallError::Failed {
            failure: Failure::UnreadableAnswer,
            executed: Executed::Yes,
            detail: error.to_string(),
        })
    }
}

/// A call under way. Dropping it cancels the call.
pub struct CallFuture {
    shared: Arc<Shared>,
    slot: Arc<Slot<CallResult>>,
    ended: bool,
}

impl Future for CallFuture {
    type Output = CallResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<CallResult> {
        let polled = self.slot.poll(cx.waker());
        self.ended = polled.is_ready();
        polled
    }
}

impl Drop for CallFuture {
    fn drop(&mut self) {
        if !self.ended
            && let Some(key) = self.slot.abandon()
        {
            self.shared.push(Op::CancelCall(Key::from_u64(key)));
        }
    }
}

/// A wait on the node's clock.
pub struct Sleep {
    shared: Arc<Shared>,
    slot: Arc<Slot<()>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        self.slot.poll(cx.waker())
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.slot.abandon() {
            self.shared.push(Op::CancelSleep(Key::from_u64(key)));
        }
    }
}
