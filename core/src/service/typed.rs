//! Services from closures with typed arguments and results.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::payload::Payload;
use crate::rpc::callee::HandlerError;
use crate::service::handler::{BoxFuture, Context, Description, Placement, Service};
use crate::topic::{Pattern, TopicError, TopicPath};

type Handler =
    Box<dyn Fn(Context, Payload) -> BoxFuture<Result<Payload, HandlerError>> + Send + Sync>;
type HookFn = Box<dyn Fn(Context) -> BoxFuture<Result<(), String>> + Send + Sync>;

/// Begins a service with this path.
///
/// ```
/// use dunlin_core::service::{HandlerError, service};
///
/// let math = service("math").action("add", |_cx, (a, b): (i64, i64)| async move {
///     a.checked_add(b).ok_or_else(|| HandlerError::application("OVERFLOW", "the sum is too large"))
/// });
/// ```
///
/// A path or an action that is not well-formed is reported when the service is registered.
pub fn service(path: &str) -> ServiceBuilder {
    ServiceBuilder {
        path: TopicPath::parse(path),
        actions: Vec::new(),
        handlers: Vec::new(),
        hooks: Default::default(),
        placement: Placement::default(),
    }
}

/// A service put together from closures. It is a [`Service`] as it stands.
#[must_use = "a service does nothing until it is registered"]
pub struct ServiceBuilder {
    path: Result<TopicPath, TopicError>,
    actions: Vec<Result<Pattern, TopicError>>,
    handlers: Vec<Handler>,
    /// Init, start, stop, clean-up.
    hooks: [Option<HookFn>; 4],
    placement: Placement,
}

impl ServiceBuilder {
    /// An action with a typed argument and a typed result. The pattern is below the service's path:
    /// `add`, `{name}/read`.
    pub fn action<A, T, F, R>(self, pattern: &str, handler: F) -> Self
    where
        A: DeserializeOwned + Send + Sync + 'static,
        T: Serialize + Send + Sync + 'static,
        F: Fn(Context, A) -> R + Send + Sync + Clone + 'static,
        R: Future<Output = Result<T, HandlerError>> + Send + 'static,
    {
        self.raw_action(pattern, move |cx, request| {
            let handler = handler.clone();
            async move { Ok(Payload::value(handler(cx, request.decode()?).await?)) }
        })
    }

    /// An action that takes and gives payloads as they are.
    pub fn raw_action<F, R>(mut self, pattern: &str, handler: F) -> Self
    where
        F: Fn(Context, Payload) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Payload, HandlerError>> + Send + 'static,
    {
        self.actions.push(Pattern::parse(pattern));
        self.handlers.push(Box::new(move |cx, request| Box::pin(handler(cx, request))));
        self
    }

    /// Runs before anything else; see [`Service::init`].
    pub fn on_init<F, R>(self, hook: F) -> Self
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hook(0, hook)
    }

    /// Runs before the first call; see [`Service::start`].
    pub fn on_start<F, R>(self, hook: F) -> Self
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hook(1, hook)
    }

    /// Runs after the last call; see [`Service::stop`].
    pub fn on_stop<F, R>(self, hook: F) -> Self
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hook(2, hook)
    }

    /// Runs when init or start failed; see [`Service::clean_up`].
    pub fn on_clean_up<F, R>(self, hook: F) -> Self
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hook(3, hook)
    }

    fn hook<F, R>(mut self, which: usize, hook: F) -> Self
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hooks[which] = Some(Box::new(move |cx| Box::pin(hook(cx))));
        self
    }

    /// Runs the handlers in the node's own task: see [`Placement::InPlace`].
    pub fn in_place(mut self) -> Self {
        self.placement = Placement::InPlace;
        self
    }

    fn run_hook(&self, which: usize, cx: Context) -> BoxFuture<Result<(), String>> {
        match &self.hooks[which] {
            Some(hook) => hook(cx),
            None => Box::pin(async { Ok(()) }),
        }
    }
}

impl Service for ServiceBuilder {
    fn describe(&self) -> Result<Description, TopicError> {
        Ok(Description {
            path: self.path.clone()?,
            actions: self.actions.iter().cloned().collect::<Result<_, _>>()?,
            placement: self.placement,
        })
    }

    fn init(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        self.run_hook(0, cx)
    }

    fn start(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        self.run_hook(1, cx)
    }

    fn stop(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        self.run_hook(2, cx)
    }

    fn clean_up(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        self.run_hook(3, cx)
    }

    fn call(
        self: Arc<Self>,
        cx: Context,
        request: Payload,
    ) -> BoxFuture<Result<Payload, HandlerError>> {
        self.handlers[cx.action()](cx, request)
    }
}
