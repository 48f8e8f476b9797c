//! What a node tells its user as it happens.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dunlin_core::PeerId;
use dunlin_core::auth::NetworkId;
use dunlin_core::base::{Incarnation, ServiceKey};
use dunlin_core::directory::ServiceState;
use dunlin_core::lease::Token;
use dunlin_core::link::{DialError, DownReason};
use dunlin_core::mesh::Event;
use dunlin_core::peer::RefuseCode;
use dunlin_core::topic::TopicPath;
use futures_core::Stream;

/// Events that wait for one reader. The oldest are dropped beyond it, and the reader is told.
pub const EVENTS_WAITING_MAX: usize = 1_024;

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The first link to a peer is up: it can be called.
    PeerUp {
        /// The peer.
        peer: PeerId,
        /// Its life.
        incarnation: Incarnation,
        /// Where it is.
        remote: Option<SocketAddr>,
    },
    /// What a peer serves has changed, or is known for the first time.
    PeerServices {
        /// The peer.
        peer: PeerId,
    },
    /// A peer knows whatever this node had announced as of this version.
    DirectoryAcknowledged {
        /// The peer.
        peer: PeerId,
        /// The version.
        version: u64,
    },
    /// A life is over, the peer's or ours, and with it published events that the peer had not acknowledged.
    EventsLost {
        /// The peer.
        peer: PeerId,
        /// How many.
        count: u64,
    },
    /// Events that a member of a group had not handled when it left, and that no other member takes; or that it has had
    /// for too long to give them back.
    GroupEventsLost {
        /// The node whose member has left; it may be this one.
        given_back_by: PeerId,
        /// How many, at most.
        count: u64,
    },
    /// The last link to a peer is gone.
    PeerDown {
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: DownReason,
    },
    /// Two links to a peer were up, and one of them stays. Nothing is lost.
    LinkSuperseded {
        /// The peer.
        peer: PeerId,
    },
    /// A peer knew a later life of this node, which had lost its counter: the next life has begun.
    LifeBegan {
        /// The new life.
        incarnation: Incarnation,
        /// The peer that knew.
        told_by: PeerId,
    },
    /// Another process lives under this node's key, and began later. This node stops.
    NewerSelf {
        /// The peer that knows.
        told_by: PeerId,
    },
    /// Who is active of a single-active service of this node, as far as it knows, is somebody else than before.
    Leader {
        /// The service's path.
        path: TopicPath,
        /// The service.
        service: ServiceKey,
        /// Who is active; none if the lease was lost here, and nobody else is known to have it.
        leader: Option<PeerId>,
        /// The fencing token, if it is this node.
        token: Option<Token>,
    },
    /// A network's descriptor names other acceptors of leases than before. They take part once those before them
    /// are sealed.
    AcceptorsNamed {
        /// The network.
        network: NetworkId,
        /// Their epoch.
        epoch: u64,
        /// The epochs of former acceptors that an operator has given up. If some of these still run, two nodes may hold
        /// one lease.
        abandoned: Vec<u64>,
    },
    /// Acceptors of a network are of a later epoch than this node's descriptor knows: until it is given that descriptor it
    /// gets no leases.
    AcceptorsOutdated {
        /// The network.
        network: NetworkId,
        /// The later epoch.
        epoch: u64,
    },
    /// As an acceptor of leases this node takes part from now on: a rolling restart may go on.
    AcceptorReady {
        /// In this network.
        network: NetworkId,
    },
    /// Something could not be stored, so this node stops.
    StoreFailed {
        /// Why.
        why: String,
    },
    /// A peer refuses to talk to this node.
    PeerRefused {
        /// The peer.
        peer: PeerId,
        /// Why.
        why: RefuseCode,
    },
    /// A dial led nowhere.
    DialFailed {
        /// The peer.
        peer: PeerId,
        /// Why.
        error: DialError,
        /// How long until the next one; none if there will be none.
        retry_in: Option<Duration>,
    },
    /// A peer broke a rule, or was refused here.
    PeerMisbehaved {
        /// The peer.
        peer: PeerId,
        /// What it did.
        what: String,
    },
    /// A peer claims or offers something that it has no right to. That is ignored; the rest counts.
    ClaimIgnored {
        /// The peer.
        peer: PeerId,
        /// What, and which rule it breaks.
        what: String,
    },
    /// A peer is no longer in a network of ours: its token has expired or was revoked.
    NetworkLeft {
        /// The peer.
        peer: PeerId,
        /// The network's name.
        network: String,
        /// Which rule.
        why: String,
    },
    /// This node can do nothing in a network any more: its own token or the descriptor has expired.
    NetworkEnded {
        /// The network's name.
        network: String,
        /// Which of both, and when.
        why: String,
    },
    /// A peer claims to go by a newer descriptor of a network than this node. Its token counts; that the descriptor
    /// exists is not proved.
    NetworkOutdated {
        /// The peer.
        peer: PeerId,
        /// The network's name.
        network: String,
        /// The sequence that the peer claims.
        sequence: u64,
    },
    /// A service of this node has moved on in its life.
    ServiceState {
        /// Its path.
        path: TopicPath,
        /// Names it.
        service: ServiceKey,
        /// Its state now.
        state: ServiceState,
        /// What went wrong, if something did.
        error: Option<String>,
    },
    /// The reader was too slow: so many events before the next one are lost.
    Lagged {
        /// How many.
        missed: u64,
    },
    /// The node has stopped. The last event.
    Stopped,
}

/// Events of a node, from when this was asked for. A [`Stream`], or read with [`Events::next`].
#[derive(Debug)]
pub struct Events {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<NodeEvent>,
    missed: u64,
    closed: bool,
    reader: Option<Waker>,
}

impl Queue {
    fn push(&mut self, event: NodeEvent) {
        if self.events.len() >= EVENTS_WAITING_MAX {
            self.events.pop_front();
            self.missed += 1;
        }
        self.events.push_back(event);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn close(&mut self) {
        self.closed = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Events {
    /// The next event; none once the node has stopped and all were read. Cancel safe.
    pub async fn next(&mut self) -> Option<NodeEvent> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        let mut queue = self.queue.lock().expect("nothing panics under this lock");
        let missed = std::mem::take(&mut queue.missed);
        if missed > 0 {
            return Poll::Ready(Some(NodeEvent::Lagged { missed }));
        }
        if let Some(event) = queue.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if queue.closed {
            return Poll::Ready(None);
        }
        queue.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Stream for Events {
    type Item = NodeEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        self.get_mut().poll(cx)
    }
}

type Reader = Weak<Mutex<Queue>>;

/// A service that lives.
#[derive(Debug)]
struct Named {
    path: TopicPath,
    /// Readers of its states alone.
    readers: Vec<Reader>,
}

/// Hands events to all readers.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// Spares the driver the lock while there is no reader of all events.
    read: AtomicBool,
    readers: Mutex<Vec<Reader>>,
    closed: AtomicBool,
    services: Mutex<BTreeMap<ServiceKey, Named>>,
}

impl Feed {
    pub(crate) fn subscribe(&self) -> Events {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let mut readers = self.readers.lock().expect("nothing panics under this lock");
        readers.push(Arc::downgrade(&queue));
        self.read.store(true, Ordering::Release);
        // Closing takes the same lock, so a reader is either told or sees it here.
        if self.closed.load(Ordering::Acquire) {
            queue.lock().expect("nothing panics under this lock").closed = true;
        }
        Events { queue }
    }

    /// A service was registered under this path. Returns a reader of its states.
    pub(crate) fn name_service(&self, service: ServiceKey, path: TopicPath) -> Events {
        let named = Named { path, readers: Vec::new() };
        self.services.lock().expect("nothing panics under this lock").insert(service, named);
        self.subscribe_to(service)
    }

    /// Reads the states of one service. A thousand services that begin cost each of their readers a few events, and not
    /// those of all others. Ends at once if the service's life is over.
    pub(crate) fn subscribe_to(&self, service: ServiceKey) -> Events {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let mut services = self.services.lock().expect("nothing panics under this lock");
        let named = services.get_mut(&service).filter(|_| !self.closed.load(Ordering::Acquire));
        match named {
            Some(named) => {
                named.readers.retain(|reader| reader.strong_count() > 0);
                named.readers.push(Arc::downgrade(&queue));
            }
            None => queue.lock().expect("nothing panics under this lock").closed = true,
        }
        Events { queue }
    }

    pub(crate) fn observe(&self, event: &Event) {
        match event {
            // On the way of every call.
            Event::CallEnded { .. }
            | Event::CallRetried { .. }
            | Event::CallHedged { .. }
            | Event::Invoke(_)
            | Event::InvocationCancelled(_)
            | Event::RunHook { .. }
            | Event::SubscriptionReady(_)
            | Event::SubscriptionOver(_)
            | Event::PublishRoom
            | Event::PublishEnded { .. } => return,
            _ => tracing::debug!(?event, "event"),
        }
        let event = match event.clone() {
            Event::PeerUp { peer, incarnation, remote } => {
                NodeEvent::PeerUp { peer, incarnation, remote }
            }
            Event::PeerServices { peer } => NodeEvent::PeerServices { peer },
            Event::DirectoryAcknowledged { peer, version } => {
                NodeEvent::DirectoryAcknowledged { peer, version }
            }
            Event::EventsLost { peer, count } => NodeEvent::EventsLost { peer, count },
            Event::GroupEventsLost { given_back_by, count } => {
                NodeEvent::GroupEventsLost { given_back_by, count }
            }
            Event::PeerDown { peer, reason } => NodeEvent::PeerDown { peer, reason },
            Event::LinkSuperseded { peer, .. } => NodeEvent::LinkSuperseded { peer },
            Event::LifeBegan { incarnation, told_by } => {
                NodeEvent::LifeBegan { incarnation, told_by }
            }
            Event::StoreFailed { why } => NodeEvent::StoreFailed { why: why.clone() },
            Event::NewerSelf { told_by } => NodeEvent::NewerSelf { told_by },
            Event::PeerRefused { peer, why } => NodeEvent::PeerRefused { peer, why },
            Event::DialFailed { peer, error, retry_in } => {
                NodeEvent::DialFailed { peer, error, retry_in }
            }
            Event::PeerMisbehaved { peer, what } => NodeEvent::PeerMisbehaved { peer, what },
            Event::ClaimIgnored { peer, what } => NodeEvent::ClaimIgnored { peer, what },
            Event::NetworkLeft { peer, network, why } => {
                NodeEvent::NetworkLeft { peer, network, why }
            }
            Event::NetworkEnded { network, why } => NodeEvent::NetworkEnded { network, why },
            Event::NetworkOutdated { peer, network, sequence } => {
                NodeEvent::NetworkOutdated { peer, network, sequence }
            }
            Event::ServiceState { service, state, error } => {
                let mut services = self.services.lock().expect("nothing panics under this lock");
                let Some(named) = services.get(&service) else { return };
                let path = named.path.clone();
                let event = NodeEvent::ServiceState { path, service, state, error };
                for reader in named.readers.iter().filter_map(Weak::upgrade) {
                    reader.lock().expect("nothing panics under this lock").push(event.clone());
                }
                if matches!(state, ServiceState::Stopped | ServiceState::Failed)
                    && let Some(named) = services.remove(&service)
                {
                    for reader in named.readers.iter().filter_map(Weak::upgrade) {
                        reader.lock().expect("nothing panics under this lock").close();
                    }
                }
                event
            }
            Event::Leader { service, leader, token } => {
                let services = self.services.lock().expect("nothing panics under this lock");
                let Some(path) = services.get(&service).map(|named| named.path.clone()) else {
                    return;
                };
                drop(services);
                NodeEvent::Leader { path, service, leader, token }
            }
            Event::AcceptorsNamed { network, epoch, abandoned } => {
                NodeEvent::AcceptorsNamed { network, epoch, abandoned }
            }
            Event::AcceptorsOutdated { network, epoch } => {
                NodeEvent::AcceptorsOutdated { network, epoch }
            }
            Event::AcceptorReady { network } => NodeEvent::AcceptorReady { network },
            Event::Stopped => NodeEvent::Stopped,
            Event::CallEnded { .. }
            | Event::CallRetried { .. }
            | Event::CallHedged { .. }
            | Event::Invoke(_)
            | Event::InvocationCancelled(_)
            | Event::RunHook { .. }
            | Event::SubscriptionReady(_)
            | Event::SubscriptionOver(_)
            | Event::PublishRoom
            | Event::PublishEnded { .. } => return,
        };
        if self.read.load(Ordering::Acquire) {
            self.publish(event);
        }
    }

    fn publish(&self, event: NodeEvent) {
        let mut readers = self.readers.lock().expect("nothing panics under this lock");
        readers.retain(|reader| {
            let Some(queue) = reader.upgrade() else { return false };
            queue.lock().expect("nothing panics under this lock").push(event.clone());
            true
        });
        if readers.is_empty() {
            self.read.store(false, Ordering::Release);
        }
    }

    /// The node is gone: readers get what waits, and then the end.
    pub(crate) fn close(&self) {
        let readers = self.readers.lock().expect("nothing panics under this lock");
        let services = self.services.lock().expect("nothing panics under this lock");
        self.closed.store(true, Ordering::Release);
        let of_services = services.values().flat_map(|named| &named.readers);
        for queue in readers.iter().chain(of_services).filter_map(Weak::upgrade) {
            queue.lock().expect("nothing panics under this lock").close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services_of(n: u8) -> Event {
        Event::PeerServices { peer: PeerId::from_bytes([n; 32]) }
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_much_it_missed() {
        let feed = Feed::default();
        let mut events = feed.subscribe();
        for _ in 0..EVENTS_WAITING_MAX + 3 {
            feed.observe(&services_of(1));
        }
        assert_eq!(events.next().await, Some(NodeEvent::Lagged { missed: 3 }));
        feed.close();
        for _ in 0..EVENTS_WAITING_MAX {
            assert!(matches!(events.next().await, Some(NodeEvent::PeerServices { .. })));
        }
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn whoever_asks_too_late_hears_the_end_at_once() {
        let feed = Feed::default();
        feed.close();
        assert_eq!(feed.subscribe().next().await, None);
    }

    #[tokio::test]
    async fn a_thousand_services_that_begin_cost_each_reader_its_own_events_alone() {
        const SERVICES: u64 = 1_000;
        let feed = Feed::default();
        let key = |n| ServiceKey::from_u64(n);
        let mut readers: Vec<Events> = (0..SERVICES)
            .map(|n| feed.name_service(key(n), TopicPath::parse(&format!("s/{n}")).unwrap()))
            .collect();
        let states = [ServiceState::Initialized, ServiceState::Running];
        for (state, n) in states.into_iter().flat_map(|s| (0..SERVICES).map(move |n| (s, n))) {
            feed.observe(&Event::ServiceState { service: key(n), state, error: None });
        }
        let waiting = |events: &Events| events.queue.lock().unwrap().events.len();
        assert_eq!(readers.iter().map(waiting).sum::<usize>(), 2 * SERVICES as usize);
        for events in &mut readers {
            for wanted in states {
                let event = events.next().await;
                assert!(
                    matches!(event, Some(NodeEvent::ServiceState { state, .. }) if state == wanted)
                );
            }
        }
        // A reader of a life that is over ends, and so does each when the node does.
        let over =
            Event::ServiceState { service: key(0), state: ServiceState::Stopped, error: None };
        feed.observe(&over);
        assert!(readers[0].next().await.is_some());
        assert_eq!(readers[0].next().await, None);
        assert_eq!(feed.subscribe_to(key(0)).next().await, None);
        feed.close();
        assert_eq!(readers[1].next().await, None);
        assert_eq!(feed.subscribe_to(key(1)).next().await, None);
    }

    #[test]
    fn readers_that_are_gone_cost_nothing() {
        let feed = Feed::default();
        drop(feed.subscribe());
        feed.observe(&services_of(1));
        assert!(!feed.read.load(Ordering::Relaxed));
    }
}
