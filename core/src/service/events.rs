//! Events for application code: publish them, and read those that come, on any runtime.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use serde::Serialize;

use crate::base::PeerId;
use crate::events::queue::Queued;
use crate::events::{
    Delivery, EventMessage, Group, Mode, PublishError, PublishOutcome, PublishRequest, Published,
    QueueLimits, Scope, SubscribeRequest, WhenFull,
};
use crate::mesh::{CommandError, Subscribed};
use crate::service::Payload;
use crate::service::handle::{Handle, Op, Shared};
use crate::service::publisher::Publisher;
use crate::service::slot::Slot;
use crate::topic::{Pattern, TopicError, TopicPath};

/// How long a publisher waits for peers that are slow, unless it says otherwise. A guess.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Events that are in the hands of one [`Subscription`], beside those that wait in its queue: as many as may wait
/// there, but no more than this. A guess: more than come in one turn of a node, so that who reads as fast as they come
/// finds room for what comes next.
pub const IN_HAND_MAX: usize = 16_384;

/// Bytes that they carry, likewise. One batch more than fits.
pub const IN_HAND_BYTES_MAX: usize = 8 << 20;

/// Why nobody subscribes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The pattern, or the service's path, is not well-formed.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The node does not take the subscriber.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// An event that was accepted, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What was accepted.
    pub published: Published,
    /// What became of it at peers and in groups.
    pub outcome: PublishOutcome,
}

impl Handle {
    /// Publishes an event: all subscribers of the topic in its network get it, and of each group one member. When
    /// this ends, the event is in the queues of the subscribers of this node, and on its way to peers.
    ///
    /// Subscribers of this node get the value itself; it is written as JSON for others. If a peer is slow, this
    /// waits up to [`PATIENCE`]; then the peer is passed over and told so.
    ///
    /// Once this was polled it goes on, also if it is dropped.
    ///
    /// # Errors
    ///
    /// When nobody gets the event: see [`PublishError`].
    pub async fn publish<T>(&self, topic: &str, value: T) -> Result<Published, PublishError>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.event(topic).value(value).send().await
    }

    /// Publishes an event if all peers that subscribe have room for it.
    ///
    /// # Errors
    ///
    /// [`PublishError::WouldBlock`] if one has not, and what else [`PublishError`] knows. Nobody gets the event.
    pub async fn try_publish<T>(&self, topic: &str, value: T) -> Result<Published, PublishError>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.event(topic).value(value).no_waiting().send().await
    }

    /// An event with more to say about it. The topic is a text, or a [`TopicPath`]: whoever publishes much to one
    /// topic reads it once.
    pub fn event<P>(&self, topic: P) -> EventBuilder
    where
        P: TryInto<TopicPath>,
        TopicError: From<P::Error>,
    {
        EventBuilder {
            handle: self.clone(),
            topic: topic.try_into().map_err(TopicError::from),
            payload: Payload::raw(Vec::new()),
            scope: Scope::Network,
            mode: Mode::All,
            target: None,
            patience: Some(PATIENCE),
        }
    }

    /// A publisher of many events of one topic: [`Publisher::send`] waits only while too much is waiting, so that
    /// they go out together. The topic is a text, or a [`TopicPath`].
    ///
    /// # Errors
    ///
    /// When the topic is not well-formed. What else may be wrong is told by [`Publisher::send`].
    pub fn publisher<P>(&self, topic: P) -> Result<Publisher, TopicError>
    where
        P: TryInto<TopicPath>,
        TopicError: From<P::Error>,
    {
        self.event(topic).publisher()
    }

    /// Subscribes to events of the topics that match a pattern.
    ///
    /// # Errors
    ///
    /// When the pattern is not well-formed, this node may not subscribe to it, or a bound is reached.
    pub async fn subscribe(&self, pattern: &str) -> Result<Subscription, SubscribeError> {
        self.subscription(pattern).open().await
    }

    /// A subscription with more to say about it.
    pub fn subscription(&self, pattern: &str) -> SubscriptionBuilder {
        SubscriptionBuilder {
            handle: self.clone(),
            pattern: Pattern::parse(pattern),
            group: None,
            at_least_one: false,
            service: None,
            queue: QueueLimits::default(),
        }
    }
}

/// An event that is being put together.
#[derive(Clone, Debug)]
#[must_use = "nothing is published before `send`"]
pub struct EventBuilder {
    handle: Handle,
    topic: Result<TopicPath, TopicError>,
    payload: Payload,
    scope: Scope,
    mode: Mode,
    target: Option<PeerId>,
    patience: Option<Duration>,
}

impl EventBuilder {
    /// What it carries: as it is for subscribers of this node, written as JSON for others.
    pub fn value<T: Serialize + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.payload = Payload::value(value);
        self
    }

    /// What it carries, as it is.
    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// Only subscribers of this node get it.
    pub fn local(mut self) -> Self {
        self.scope = Scope::Local;
        self
    }

    /// Of subscribers that belong to a service, one for each service gets it.
    pub fn one_per_service(mut self) -> Self {
        self.mode = Mode::OnePerService;
        self
    }

    /// Only subscribers of this peer get it.
    pub fn to(mut self, peer: PeerId) -> Self {
        self.target = Some(peer);
        self
    }

    /// How long to wait for peers that are slow; then they are passed over, and told so.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// If a peer is slow, nobody gets it: [`PublishError::WouldBlock`].
    pub fn no_waiting(mut self) -> Self {
        self.patience = None;
        self
    }

    /// Publishes it.
    ///
    /// # Errors
    ///
    /// When nobody gets the event: see [`PublishError`].
    pub async fn send(self) -> Result<Published, PublishError> {
        let slot = self.start(None)?.0;
        Waiting(slot).await
    }

    /// A publisher of many such events, each with its own payload; that of this one means nothing.
    ///
    /// With patience, the publisher waits for peers that are slow; when it is over, they are passed over without
    /// waiting until all have room again.
    ///
    /// # Errors
    ///
    /// When the topic is not well-formed.
    pub fn publisher(self) -> Result<Publisher, TopicError> {
        let request = PublishRequest {
            scope: self.scope,
            mode: self.mode,
            target: self.target,
            ..PublishRequest::new(self.topic?, self.payload)
        };
        Ok(Publisher::new(self.handle.shared, request, self.patience))
    }

    /// Publishes it, and waits until it is known what became of it, for so long at most.
    ///
    /// # Errors
    ///
    /// When nobody gets the event: see [`PublishError`].
    pub async fn send_confirmed(self, within: Duration) -> Result<Receipt, PublishError> {
        let (published, outcome) = self.send_for_outcome(within).await?;
        Ok(Receipt { published, outcome: outcome.await })
    }

    /// Publishes it, and gives what tells later what became of it, after so long at most. The other way to
    /// [`EventBuilder::send_confirmed`], for whoever has something to do in between.
    ///
    /// # Errors
    ///
    /// When nobody gets the event: see [`PublishError`].
    pub async fn send_for_outcome(
        self,
        within: Duration,
    ) -> Result<(Published, Outcome), PublishError> {
        let (slot, outcome) = self.start(Some(within))?;
        let published = Waiting(slot).await?;
        Ok((published, Outcome(Waiting(outcome.expect("it was asked for")))))
    }

    #[allow(clippy::type_complexity)]
    fn start(
        self,
        confirm_within: Option<Duration>,
    ) -> Result<
        (Arc<Slot<Result<Published, PublishError>>>, Option<Arc<Slot<PublishOutcome>>>),
        PublishError,
    > {
        let request = PublishRequest {
            topic: self.topic?,
            payload: self.payload,
            scope: self.scope,
            mode: self.mode,
            target: self.target,
            when_full: when_full(self.patience),
            confirm_within,
        };
        let slot = Arc::new(Slot::new());
        let outcome = confirm_within.map(|_| Arc::new(Slot::new()));
        let (patience, asked) = (self.patience, outcome.clone());
        self.handle.shared.push(Op::Publish(Box::new(Publishing {
            request,
            patience,
            slot: Arc::clone(&slot),
            outcome: asked,
        })));
        Ok((slot, outcome))
    }
}

/// What is done at first for peers that are slow, by a publisher that waits so long for them.
pub(super) fn when_full(patience: Option<Duration>) -> WhenFull {
    if patience.is_some() { WhenFull::RefuseFirst } else { WhenFull::Refuse }
}

/// An event on its way to the node.
pub(super) struct Publishing {
    pub(super) request: PublishRequest,
    pub(super) patience: Option<Duration>,
    pub(super) slot: Arc<Slot<Result<Published, PublishError>>>,
    pub(super) outcome: Option<Arc<Slot<PublishOutcome>>>,
}

/// Ends when it is known what became of an event.
#[must_use = "it says what became of the event"]
pub struct Outcome(Waiting<PublishOutcome>);

impl Future for Outcome {
    type Output = PublishOutcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PublishOutcome> {
        Pin::new(&mut self.0).poll(cx)
    }
}

struct Waiting<T>(Arc<Slot<T>>);

impl<T> Future for Waiting<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.poll(cx.waker())
    }
}

/// A subscription that is being put together.
#[derive(Clone, Debug)]
#[must_use = "nobody subscribes before `open`"]
pub struct SubscriptionBuilder {
    handle: Handle,
    pattern: Result<Pattern, TopicError>,
    group: Option<String>,
    at_least_one: bool,
    service: Option<Result<TopicPath, TopicError>>,
    queue: QueueLimits,
}

impl SubscriptionBuilder {
    /// The subscriber joins a group: one member of it gets each event. If what became of an event is not known,
    /// no other member gets it.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = Some(name.into());
        self
    }

    /// If what became of an event is not known, another member of the group gets it too. One member that wants
    /// it is enough.
    pub fn at_least_one(mut self) -> Self {
        self.at_least_one = true;
        self
    }

    /// The service that the subscriber belongs to, for events that go to one subscriber of each service.
    pub fn service(mut self, path: &str) -> Self {
        self.service = Some(TopicPath::parse(path));
        self
    }

    /// How much may wait for the subscriber, and what it misses beyond it.
    pub fn queue(mut self, limits: QueueLimits) -> Self {
        self.queue = limits;
        self
    }

    /// Subscribes.
    ///
    /// # Errors
    ///
    /// When the pattern is not well-formed, this node may not subscribe to it, or a bound is reached.
    pub async fn open(self) -> Result<Subscription, SubscribeError> {
        let at_least_one = self.at_least_one;
        let competes = self.group.is_some() || self.service.is_some();
        let request = SubscribeRequest {
            pattern: self.pattern?,
            group: self.group.map(|name| Group { name: name.into(), at_least_one }),
            service: self.service.transpose()?,
            queue: self.queue,
        };
        let slot = Arc::new(Slot::new());
        let inbox = Arc::new(Inbox::new(&self.queue));
        // Whoever drops this while it waits leaves no subscriber behind.
        let mut subscription = Subscription {
            shared: Arc::clone(&self.handle.shared),
            inbox: Arc::clone(&inbox),
            subscribed: None,
            in_hand: VecDeque::new(),
            competes,
            missed: 0,
            ended: false,
        };
        let request = Box::new(request);
        let op = Op::Subscribe { request, inbox, slot: Arc::clone(&slot) };
        self.handle.shared.push(op);
        subscription.subscribed = Some(Waiting(slot).await?);
        Ok(subscription)
    }
}

/// What fits an inbox.
pub(super) enum Filled {
    /// All that waited.
    All,
    /// A part of it: more waits.
    Part,
    /// Nothing: its reader is gone.
    Abandoned,
}

/// Where the host puts what came, and the subscription takes it.
pub(super) struct Inbox {
    events_max: usize,
    bytes_max: usize,
    state: Mutex<InboxState>,
}

#[derive(Default)]
struct InboxState {
    items: VecDeque<Queued>,
    /// How many events they are.
    events: usize,
    /// How many bytes they carry.
    bytes: usize,
    waker: Option<Waker>,
    /// More waits in the mesh.
    more: bool,
    /// Nothing comes any more.
    closed: bool,
    /// Nobody reads any more.
    abandoned: bool,
}

impl InboxState {
    fn take_one(&mut self) -> (Delivery, usize) {
        let (delivery, bytes) = take_one(&mut self.items);
        self.events -= 1;
        self.bytes -= bytes;
        (delivery, bytes)
    }
}

/// The first thing that waits, of some, and how many bytes it carries.
fn take_one(items: &mut VecDeque<Queued>) -> (Delivery, usize) {
    let (delivery, bytes, is_all) = match items.front_mut().expect("something waits") {
        Queued::Events(run) => {
            let bytes = run.bytes_of(1);
            let event = run.pop().expect("what waits is something");
            (Delivery::Event(event), bytes, run.is_empty())
        }
        Queued::Missed(missed) => (Delivery::Missed(*missed), 0, true),
    };
    if is_all {
        items.pop_front();
    }
    (delivery, bytes)
}

impl Inbox {
    /// An empty one, for a queue with these limits.
    fn new(queue: &QueueLimits) -> Self {
        Inbox {
            events_max: queue.events_max.clamp(1, IN_HAND_MAX),
            bytes_max: queue.bytes_max.clamp(1, IN_HAND_BYTES_MAX),
            state: Mutex::default(),
        }
    }

    /// Moves over what fits.
    pub(super) fn fill(&self, mut take: impl FnMut(usize) -> Option<Queued>) -> Filled {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        if state.abandoned {
            return Filled::Abandoned;
        }
        state.more = true;
        while state.events < self.events_max && state.bytes < self.bytes_max {
            match take(self.events_max - state.events) {
                Some(item) => {
                    let (events, bytes) = match &item {
                        Queued::Events(run) => (run.len(), run.bytes()),
                        // It takes room too.
                        Queued::Missed(_) => (1, 0),
                    };
                    state.events += events;
                    state.bytes += bytes;
                    state.items.push_back(item);
                }
                None => {
                    state.more = false;
                    break;
                }
            }
        }
        let filled = if state.more { Filled::Part } else { Filled::All };
        let waker = if state.items.is_empty() { None } else { state.waker.take() };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        filled
    }

    /// Nothing comes any more. Returns what was not read.
    pub(super) fn empty(&self) -> VecDeque<Queued> {
        self.close();
        let mut state = self.state.lock().expect("nothing panics under this lock");
        (state.events, state.bytes) = (0, 0);
        std::mem::take(&mut state.items)
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state.lock().expect("nothing panics under this lock").abandoned
    }
}

/// Events as they come, a [`Stream`]. It ends when the node does.
///
/// Dropping it ends the subscription. What a member of a group has not read then goes to other members; so does what it
/// has not read two seconds after the node began to stop. To handle what has come first: [`Subscription::leave`].
pub struct Subscription {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    /// None until the node has taken it.
    subscribed: Option<Subscribed>,
    /// Events that no other subscriber could get are taken all at once.
    in_hand: VecDeque<Queued>,
    competes: bool,
    missed: u64,
    /// The end was seen, and said.
    ended: bool,
}

impl Subscription {
    /// Takes no more events. Those that wait can still be read; then there are none. Events of a group that come
    /// nevertheless go to other members.
    pub fn leave(&mut self) {
        if let Some(subscribed) = self.subscribed {
            self.shared.push(Op::LeaveGroup(subscribed.key));
        }
    }

    /// The next event, or word of events that did not come; none once the node has gone.
    pub async fn next(&mut self) -> Option<Delivery> {
        std::future::poll_fn(|cx| self.poll_delivery(cx)).await
    }

    /// The next event; none once the node has gone. What did not come is counted: [`Subscription::missed`].
    pub async fn event(&mut self) -> Option<EventMessage> {
        loop {
            match self.next().await? {
                Delivery::Event(event) => return Some(event),
                Delivery::Missed(_) => {}
            }
        }
    }

    /// How many events it was told of that did not come.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Ends when every peer that is connected knows of the subscription: what one of them publishes after that
    /// comes here. Peers that connect later are told with the first word.
    pub async fn known_by_all(&self) {
        let slot = Arc::new(Slot::new());
        let version = self.subscribed.map_or(0, |subscribed| subscribed.version);
        self.shared.push(Op::AwaitKnown { version, slot: Arc::clone(&slot) });
        Waiting(slot).await;
    }

    /// The node need not wait for this reader any more.
    fn end(&mut self) {
        let ended = std::mem::replace(&mut self.ended, true);
        if let (false, Some(subscribed)) = (ended, self.subscribed) {
            self.shared.push(Op::Unsubscribe(subscribed.key));
        }
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if self.in_hand.is_empty() {
            let mut state = self.inbox.state.lock().expect("nothing panics under this lock");
            if state.items.is_empty() {
                if state.closed {
                    drop(state);
                    self.end();
                    return Poll::Ready(None);
                }
                match &mut state.waker {
                    Some(known) => known.clone_from(cx.waker()),
                    None => state.waker = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            let (one, refill) = if self.competes {
                // One by one: the others go to other members if this one is gone before it comes to them.
                let one = state.take_one();
                let low = state.events <= self.inbox.events_max / 2;
                (Some(one), low && std::mem::take(&mut state.more))
            } else {
                std::mem::swap(&mut state.items, &mut self.in_hand);
                (state.events, state.bytes) = (0, 0);
                (None, std::mem::take(&mut state.more))
            };
            drop(state);
            if refill && let Some(subscribed) = self.subscribed {
                self.shared.push(Op::Refill(subscribed.key));
            }
            if let Some((delivery, _)) = one {
                return Poll::Ready(Some(self.count(delivery)));
            }
        }
        let (delivery, _) = take_one(&mut self.in_hand);
        Poll::Ready(Some(self.count(delivery)))
    }

    fn count(&mut self, delivery: Delivery) -> Delivery {
        if let Delivery::Missed(missed) = &delivery {
            self.missed += missed.count;
        }
        delivery
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll_delivery(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inbox.state.lock().expect("nothing panics under this lock").abandoned = true;
        match self.subscribed {
            Some(_) => self.end(),
            None => self.shared.push(Op::Leave(Arc::clone(&self.inbox))),
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("missed", &self.missed).finish_non_exhaustive()
    }
}
