//! What a service is, and what its handlers are given.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::{MonoTime, PeerId};
use crate::directory::ServiceInfo;
use crate::lease::{Hold, Token};
use crate::rpc::admission::Capacity;
use crate::rpc::callee::HandlerError;
use crate::rpc::{AppError, CallError};
use crate::service::{Handle, Payload, PayloadError, StreamError};
use crate::topic::{Pattern, TopicError, TopicPath};

/// A future that can be moved to another thread.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Where handlers of a service run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Placement {
    /// On the runtime, beside the node. For handlers that may take long or block a little.
    #[default]
    Spawned,
    /// In the node's own task, with no hop between threads. For light handlers: while one computes,
    /// the node does nothing else. Where there is no runtime, as in the simulator, all run like this.
    InPlace,
}

/// What a service is called and what can be called on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Where it is: `math`, or `main:user/auth`.
    pub path: TopicPath,
    /// What can be called, below the path: `add`, `{name}/read`. A handler is told the index.
    pub actions: Vec<Pattern>,
    /// Where its handlers run.
    pub placement: Placement,
    /// Its version, and what people want to know of it.
    pub info: ServiceInfo,
    /// How many of its calls run and wait at one time; none for as many as the node takes.
    pub capacity: Option<Capacity>,
}

/// Why a service cannot be described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// Its path or an action is not well-formed.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Its version is not a semantic version.
    #[error("'{text}' is not a version: {why}. A version has three numbers, as 1.2.0")]
    Version {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A service, in any runtime.
///
/// Handlers must not block, and must use [`Context`] for time, randomness and calls if they are to run
/// in the simulator. A handler whose caller has gone is dropped at its next `await`.
pub trait Service: Send + Sync + 'static {
    /// What it is. Called once, when it is registered.
    ///
    /// # Errors
    ///
    /// When its path, an action or its version is not well-formed.
    fn describe(&self) -> Result<Description, DescriptionError>;

    /// Prepares it. When this fails, [`Service::clean_up`] runs and the service has failed.
    fn init(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        let _ = cx;
        Box::pin(async { Ok(()) })
    }

    /// Begins its work; from here on it is called.
    fn start(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        let _ = cx;
        Box::pin(async { Ok(()) })
    }

    /// Ends its work. No new calls come.
    fn stop(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        let _ = cx;
        Box::pin(async { Ok(()) })
    }

    /// Takes back what a failed [`Service::init`] or [`Service::start`] left behind.
    fn clean_up(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        let _ = cx;
        Box::pin(async { Ok(()) })
    }

    /// A single-active service has become the active one. It is called once this has ended: the time to raise the
    /// fence at what it guards, with [`Context::fence`]. When this fails, [`Service::clean_up`] runs, the service
    /// has failed, and another instance takes over.
    fn activate(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        let _ = cx;
        Box::pin(async { Ok(()) })
    }

    /// A single-active service is not the active one any more. No new calls come. If it gives way by its own will, it has
    /// the lease until this has ended, which should be soon: nobody serves in the meantime. Otherwise it has lost it.
    fn deactivate(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        let _ = cx;
        Box::pin(async { Ok(()) })
    }

    /// Answers one call.
    fn call(
        self: Arc<Self>,
        cx: Context,
        request: Payload,
    ) -> BoxFuture<Result<Payload, HandlerError>>;
}

/// Who asks what, until when, and a [`Handle`] to ask others.
#[derive(Clone)]
pub struct Context {
    pub(super) handle: Handle,
    pub(super) node: PeerId,
    pub(super) placement: Placement,
    pub(super) caller: Option<PeerId>,
    pub(super) path: TopicPath,
    pub(super) action: usize,
    pub(super) pattern: Option<Pattern>,
    pub(super) deadline: MonoTime,
    pub(super) fence: Option<Fence>,
}

/// How a single-active service of this node holds its lease, as it is now.
pub(super) type HoldCell = Arc<Mutex<Option<Hold>>>;

/// The grant under which a handler or a hook began.
#[derive(Clone)]
pub(super) struct Fence {
    pub(super) token: Token,
    pub(super) hold: HoldCell,
}

impl Fence {
    /// The present grant; none if there is none.
    pub(super) fn of(hold: &HoldCell) -> Option<Fence> {
        let token = hold.lock().expect("nothing panics under this lock").map(|hold| hold.token);
        token.map(|token| Fence { token, hold: Arc::clone(hold) })
    }
}

impl Context {
    /// Calls, timers and randomness of the node that it runs on.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// This node.
    pub fn node(&self) -> PeerId {
        self.node
    }

    /// Who calls; none when it is this node itself. The transport has proved it.
    pub fn caller(&self) -> Option<PeerId> {
        self.caller
    }

    /// The path that was called; for a hook, the service's path.
    pub fn path(&self) -> &TopicPath {
        &self.path
    }

    /// Which action was called, by its place in [`Description::actions`].
    pub fn action(&self) -> usize {
        self.action
    }

    /// What `{name}` in the action's pattern stands for in this call.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.pattern.as_ref()?.captures(&self.path)?.get(name)
    }

    /// When the caller gives up.
    pub fn deadline(&self) -> MonoTime {
        self.deadline
    }

    /// For what goes on after the caller was answered.
    pub(super) fn without_deadline(mut self) -> Context {
        self.deadline = MonoTime::MAX;
        self
    }

    /// Of a single-active service: the fencing token of the grant under which this handler or hook began. It goes with
    /// everything that the active instance alone may do: whatever guards that rejects lower ones than it has
    /// seen; see [`crate::lease::FenceGuard`]. None for other services, and where there was no grant.
    pub fn fence(&self) -> Option<Token> {
        self.fence.as_ref().map(|fence| fence.token)
    }

    /// Whether this node still holds the lease under which this handler or hook began. To be asked at the moment of
    /// acting, and never to be remembered: it may be over with the next instruction, which is what
    /// [`Context::fence`] is for. False for services that are not single-active.
    pub fn is_active(&self) -> bool {
        let Some(fence) = &self.fence else { return false };
        let hold = *fence.hold.lock().expect("nothing panics under this lock");
        hold.is_some_and(|hold| {
            hold.token == fence.token && self.handle.shared.present() < hold.until
        })
    }

    /// How long the caller still waits.
    pub fn time_left(&self) -> Duration {
        self.deadline.since(self.handle.now().mono)
    }
}

impl std::ops::Deref for Context {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl HandlerError {
    /// An error that the caller is meant to read.
    pub fn application(code: impl Into<String>, message: impl Into<String>) -> Self {
        HandlerError::Application(AppError::new(code, message))
    }

    /// A failure without an answer.
    pub fn failed(why: impl std::fmt::Display) -> Self {
        HandlerError::Failed(why.to_string())
    }
}

impl From<AppError> for HandlerError {
    fn from(error: AppError) -> Self {
        HandlerError::Application(error)
    }
}

impl From<PayloadError> for HandlerError {
    fn from(error: PayloadError) -> Self {
        HandlerError::BadRequest(error.to_string())
    }
}

impl From<StreamError> for HandlerError {
    /// A stream of a handler broke: its opener, if there is one still, hears of it.
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Call(error) => error.into(),
            StreamError::Failed(error) => HandlerError::Application(error),
            StreamError::Unwritable(error) => error.into(),
            broken => HandlerError::failed(broken),
        }
    }
}

impl From<CallError> for HandlerError {
    /// A handler's own call failed: its caller hears of it as an error of the application, since
    /// *this* handler has run.
    fn from(error: CallError) -> Self {
        match error {
            CallError::Application(error) => HandlerError::Application(error),
            failed => HandlerError::application(failed.code(), failed.to_string()),
        }
    }
}
