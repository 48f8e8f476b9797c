//! Services from closures with typed arguments and results.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use semver::Version;

use crate::base::slab::make_room;
use crate::directory::document::TYPE_NAME_BYTES_MAX;
use crate::directory::{ActionInfo, ServiceInfo, Spread};
use crate::payload::{ContentType, Payload};
use crate::rpc::admission::Capacity;
use crate::rpc::callee::HandlerError;
use crate::rpc::outcome::cut;
use crate::service::handler::{
    BoxFuture, Context, Description, DescriptionError, Placement, Service,
};
use crate::service::stream::{Reader, Streams, Writer};
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
        info: ServiceInfo::default(),
        capacity: None,
        wrong: None,
        streams: Vec::new(),
    }
}

/// Begins an action with this pattern, to say more of it than that. A pattern alone will do where an
/// action is asked for.
pub fn action(pattern: &str) -> ActionBuilder {
    ActionBuilder { pattern: pattern.to_string(), info: ActionInfo::default() }
}

/// An action that is being described.
#[derive(Clone, Debug)]
#[must_use = "an action does nothing until it is given to a service"]
pub struct ActionBuilder {
    pattern: String,
    info: ActionInfo,
}

impl ActionBuilder {
    /// What it does, for people. At most [`crate::directory::document::DESCRIPTION_BYTES_MAX`].
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.info.description = description.into();
        self
    }

    /// What its argument is, for people. Actions with typed arguments know by themselves.
    pub fn argument(mut self, type_name: impl Into<String>, content: ContentType) -> Self {
        (self.info.argument, self.info.argument_content) = (type_name.into(), content);
        self
    }

    /// What its result is, for people. Actions with typed results know by themselves.
    pub fn result(mut self, type_name: impl Into<String>, content: ContentType) -> Self {
        (self.info.result, self.info.result_content) = (type_name.into(), content);
        self
    }
}

impl From<&str> for ActionBuilder {
    fn from(pattern: &str) -> Self {
        action(pattern)
    }
}

impl From<&String> for ActionBuilder {
    fn from(pattern: &String) -> Self {
        action(pattern)
    }
}

/// A type's name without the paths of its parts: `Vec<Point>` for `alloc::vec::Vec<geometry::Point>`.
fn short_type_name<T>() -> String {
    let (mut short, mut part) = (String::new(), String::new());
    for char in std::any::type_name::<T>().chars() {
        match char {
            ':' => part.clear(),
            char if char.is_alphanumeric() || char == '_' => part.push(char),
            char => {
                short.push_str(&part);
                part.clear();
                short.push(char);
            }
        }
    }
    short.push_str(&part);
    cut(&mut short, TYPE_NAME_BYTES_MAX);
    short
}

/// A service put together from closures. It is a [`Service`] as it stands.
#[must_use = "a service does nothing until it is registered"]
pub struct ServiceBuilder {
    path: Result<TopicPath, TopicError>,
    actions: Vec<Result<Pattern, TopicError>>,
    handlers: Vec<Handler>,
    /// Init, start, stop, clean-up, activate, deactivate.
    hooks: [Option<HookFn>; 6],
    placement: Placement,
    info: ServiceInfo,
    capacity: Option<Capacity>,
    wrong: Option<DescriptionError>,
    streams: Vec<Arc<Streams>>,
}

impl ServiceBuilder {
    /// Its version, as `1.2.0`: callers may ask for a range. Without it, 0.0.0.
    pub fn version(mut self, version: &str) -> Self {
        match Version::parse(version) {
            Ok(version) => self.info.version = version,
            Err(error) => {
                let (text, why) = (version.to_string(), error.to_string());
                self.wrong = Some(DescriptionError::Version { text, why });
            }
        }
        self
    }

    /// What it does, for people. At most [`crate::directory::document::DESCRIPTION_BYTES_MAX`].
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.info.description = description.into();
        self
    }

    /// At most so many of its calls run at one time, and so many wait; further ones end at once in OVERLOADED,
    /// with the time after which they may be tried again. Without it, as many run as the node takes.
    pub fn capacity(mut self, running_max: usize, waiting_max: usize) -> Self {
        self.capacity = Some(Capacity::new(running_max, waiting_max));
        self
    }

    /// At most one instance of the service is active at a time, wherever it is offered: who holds the lease of its path.
    /// The others stand by, answer NOT_ACTIVE, and one of them takes over. Needs acceptors of leases: see
    /// [`crate::mesh::LeaseSettings`].
    pub fn single_active(mut self) -> Self {
        self.info.single_active = true;
        self
    }

    /// How callers choose among its instances, if they do not say.
    pub fn spread(mut self, spread: Spread) -> Self {
        self.info.spread = spread;
        self
    }

    /// An action with a typed argument and a typed result. The pattern is below the service's path:
    /// `add`, `{name}/read`. Use [`action`] to describe it.
    ///
    /// ```
    /// use dunlin_core::service::{action, service};
    ///
    /// let math = service("math")
    ///     .version("1.2.0")
    ///     .describe("Sums and more")
    ///     .action(action("add").describe("Adds two numbers"), |_cx, (a, b): (i64, i64)| async move {
    ///         Ok(a + b)
    ///     });
    /// ```
    pub fn action<A, T, F, R>(self, action: impl Into<ActionBuilder>, handler: F) -> Self
    where
        A: DeserializeOwned + Send + Sync + 'static,
        T: Serialize + Send + Sync + 'static,
        F: Fn(Context, A) -> R + Send + Sync + Clone + 'static,
        R: Future<Output = Result<T, HandlerError>> + Send + 'static,
    {
        let mut action: ActionBuilder = action.into();
        if action.info.argument.is_empty() {
            action = action.argument(short_type_name::<A>(), ContentType::JSON);
        }
        if action.info.result.is_empty() {
            action = action.result(short_type_name::<T>(), ContentType::JSON);
        }
        self.raw_action(action, move |cx, request| {
            let handler = handler.clone();
            async move { Ok(Payload::value(handler(cx, request.decode()?).await?)) }
        })
    }

    /// An action that takes and gives payloads as they are.
    pub fn raw_action<F, R>(mut self, action: impl Into<ActionBuilder>, handler: F) -> Self
    where
        F: Fn(Context, Payload) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Payload, HandlerError>> + Send + 'static,
    {
        let action: ActionBuilder = action.into();
        make_room(&mut self.actions);
        self.actions.push(Pattern::parse(&action.pattern));
        make_room(&mut self.info.actions);
        self.info.actions.push(action.info);
        make_room(&mut self.handlers);
        self.handlers.push(Box::new(move |cx, request| Box::pin(handler(cx, request))));
        self
    }

    /// An action that is a stream: see [`crate::service::stream`]. The handler is given what the opener begins with,
    /// what comes, and what goes. When it returns, the stream has ended, behind what was sent; with an error, the opener
    /// is told so at once. It is dropped when the opener has cut the stream or is gone. Its context has no deadline.
    ///
    /// ```
    /// use dunlin_core::service::service;
    ///
    /// let math = service("math").stream("running", |_cx, (), mut numbers, mut sums| async move {
    ///     let mut sum = 0;
    ///     while let Some(number) = numbers.next_as::<i64>().await {
    ///         sum += number?;
    ///         sums.send(sum).await?;
    ///     }
    ///     Ok(())
    /// });
    /// ```
    pub fn stream<A, F, R>(mut self, action: impl Into<ActionBuilder>, handler: F) -> Self
    where
        A: DeserializeOwned + Send + Sync + 'static,
        F: Fn(Context, A, Reader, Writer) -> R + Send + Sync + Clone + 'static,
        R: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let mut action: ActionBuilder = action.into();
        if action.info.argument.is_empty() {
            action = action.argument(short_type_name::<A>(), ContentType::STREAM);
        }
        if action.info.result.is_empty() {
            action = action.result("stream", ContentType::STREAM);
        }
        let streams = Arc::new(Streams::new(move |cx, argument, reader, writer| {
            let handler = handler.clone();
            Box::pin(async move { handler(cx, argument.decode()?, reader, writer).await })
        }));
        self.streams.push(Arc::clone(&streams));
        self.raw_action(action, move |cx, request| Arc::clone(&streams).exchange(cx, request))
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

    /// Runs when this instance has become the active one, before its first call; see [`Service::activate`].
    pub fn on_activate<F, R>(self, hook: F) -> Self
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hook(4, hook)
    }

    /// Runs when this instance is not the active one any more; see [`Service::deactivate`].
    pub fn on_deactivate<F, R>(self, hook: F) -> Self
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hook(5, hook)
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
    fn describe(&self) -> Result<Description, DescriptionError> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        Ok(Description {
            path: self.path.clone()?,
            // By way of a box, which has no room to spare.
            actions: self.actions.iter().cloned().collect::<Result<Box<[_]>, _>>()?.into_vec(),
            placement: self.placement,
            info: self.info.clone(),
            capacity: self.capacity,
        })
    }

    fn init(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        self.run_hook(0, cx)
    }

    fn start(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        self.run_hook(1, cx)
    }

    fn stop(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        self.streams.iter().for_each(|streams| streams.cut());
        self.run_hook(2, cx)
    }

    fn clean_up(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        self.run_hook(3, cx)
    }

    fn activate(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        self.run_hook(4, cx)
    }

    fn deactivate(self: Arc<Self>, cx: Context) -> BoxFuture<Result<(), String>> {
        self.run_hook(5, cx)
    }

    fn call(
        self: Arc<Self>,
        cx: Context,
        request: Payload,
    ) -> BoxFuture<Result<Payload, HandlerError>> {
        self.handlers[cx.action()](cx, request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_are_short() {
        assert_eq!(short_type_name::<(i64, Vec<Option<String>>)>(), "(i64, Vec<Option<String>>)");
        assert_eq!(short_type_name::<&'static str>(), "&str");
        assert_eq!(short_type_name::<()>(), "()");
        type Long =
            [std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>; 9];
        type Longer = (Long, Long, Long, Long);
        assert_eq!(short_type_name::<Longer>().len(), TYPE_NAME_BYTES_MAX);
    }

    #[test]
    fn a_service_says_what_it_is_and_a_wrong_version_is_told_with_how_to_write_one() {
        let math =
            service("math")
                .version("1.2.0")
                .describe("Sums")
                .spread(Spread::Random)
                .action(action("add").describe("Adds"), |_, (a, b): (i64, i64)| async move {
                    Ok(a + b)
                });
        let info = Service::describe(&math).unwrap().info;
        assert_eq!((info.version, info.description.as_str()), (Version::new(1, 2, 0), "Sums"));
        let add = &info.actions[0];
        assert_eq!((add.argument.as_str(), add.result.as_str()), ("(i64, i64)", "i64"));
        assert_eq!((add.description.as_str(), add.argument_content), ("Adds", ContentType::JSON));
        let error = Service::describe(&service("math").version("one")).unwrap_err().to_string();
        assert!(error.contains("'one'") && error.contains("1.2.0"), "{error}");
    }
}
