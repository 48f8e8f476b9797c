//! What short-lived programs ask of a node, done on the node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dunlin_core::base::ServiceKey;
use dunlin_core::directory::{ServiceOffer, ServiceState};
use dunlin_core::events::Delivery;
use dunlin_core::mesh::{CommandError, Mesh};
use dunlin_core::rpc::Failure;
use dunlin_core::service::{ContentType, Handle, Payload, Subscription};
use dunlin_core::{Now, PeerId, topic::TopicPath};

use super::event::{
    EventEntry, Item, MissedEntry, PublishQuestion, PublishedEntry, SubscribeQuestion,
};
use super::leader::LeaderWatch;
use super::message::{
    AcceptorsEntry, CallAnswer, CallQuestion, LimitEntry, PeerEntry, Problem, ServiceEntry,
    StatsEntry,
};
use crate::driver::Desk;
use crate::node::{Node, ask, peers_up};
use crate::services::{Added, until};

/// An action that nobody serves: who answers that it has none is there.
const NOBODY: &str = "ping/nobody-serves-this";

/// How long a new subscriber waits until all peers know of it. A guess: one round trip is enough unless a peer
/// hangs, and that one must not hold up what others publish.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

fn service_path(text: &str) -> Result<TopicPath, Problem> {
    TopicPath::parse(text)
        .map_err(|error| Problem::new(Failure::InvalidPath.code(), format!("the path: {error}")))
}

/// The service of a node with this path.
fn find(mesh: &Mesh, path: &TopicPath) -> Result<ServiceKey, Problem> {
    let found = mesh.services().iter().find(|(_, known, _)| *known == path);
    found.map(|(key, ..)| key).ok_or_else(|| {
        let mut offered: Vec<&str> = mesh.services().iter().map(|s| s.1.as_str()).collect();
        offered.sort_unstable();
        let offered = match offered.is_empty() {
            true => "it offers nothing".into(),
            false => format!("it offers {}", offered.join(", ")),
        };
        let what = format!("this node does not offer '{path}'; {offered}");
        Problem::new("NO_SUCH_SERVICE", what)
    })
}

fn has_ended() -> Problem {
    Problem::new(Failure::ShuttingDown.code(), "the node has ended")
}

/// A running node, for those who use it for a moment: on its own machine over the control socket, or in the
/// program that runs it. Cheap to clone; it does not keep the node running.
#[derive(Clone)]
pub struct Operator {
    id: PeerId,
    handle: Handle,
    desk: Arc<Desk>,
}

impl Node {
    /// The node, for those who use it for a moment.
    pub fn operator(&self) -> Operator {
        Operator { id: self.id(), handle: self.handle(), desk: Arc::clone(self.desk()) }
    }
}

impl Operator {
    /// The node's id.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Calls once. Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// What went wrong, and whether the handler has run.
    pub async fn call(
        &self,
        question: CallQuestion,
        argument: Bytes,
    ) -> Result<CallAnswer, Problem> {
        let path = TopicPath::parse(&question.path).map_err(|error| {
            Problem::unrun(Failure::InvalidPath.code(), format!("the path: {error}"))
        })?;
        let payload = Payload::Encoded { content: ContentType(question.content), bytes: argument };
        let timeout = Duration::from_millis(question.timeout_ms);
        let mut request = self.handle.request(path.as_str()).payload(payload).timeout(timeout);
        if let Some(peer) = question.to {
            request = request.to(peer);
        }
        if let Some(after) = question.hedge_ms {
            request = request.idempotent().hedged(Duration::from_millis(after));
        }
        if question.at_once {
            request = request.without_waiting();
        }
        let begun = Instant::now();
        let answer = request.send().await.map_err(|error| Problem::from(&error))?;
        let elapsed = begun.elapsed();
        let (content, bytes) = answer.encode().map_err(|error| Problem {
            executed: Some("yes".into()),
            ..Problem::new("ANSWER", error.to_string())
        })?;
        Ok(CallAnswer { content, bytes, elapsed })
    }

    /// Everything that is served here and by connected peers, by path and then by peer. Nothing once the
    /// node has ended.
    pub async fn services(&self) -> Vec<ServiceEntry> {
        let id = self.id;
        let found = ask(&self.desk, move |core, _, _| {
            let own: Vec<ServiceOffer> = core.mesh().services().offers().collect();
            (own, peers_up(core))
        });
        let (own, peers) = found.await.unwrap_or_default();
        let own = own.iter().map(|offer| ServiceEntry::new(id, offer));
        let others = peers
            .iter()
            .flat_map(|peer| peer.services.iter().map(|offer| ServiceEntry::new(peer.peer, offer)));
        let mut entries: Vec<ServiceEntry> = own.chain(others).collect();
        entries.sort_by(|a, b| (&a.service, a.peer).cmp(&(&b.service, b.peer)));
        entries
    }

    /// How services do here and at peers, by path and then by peer. Nothing once the node has ended.
    pub async fn stats(&self) -> Vec<StatsEntry> {
        let stats = ask(&self.desk, |core, _, _| core.mesh().stats()).await.unwrap_or_default();
        let mut entries: Vec<_> =
            stats.iter().map(|stats| StatsEntry::new(self.id, stats)).collect();
        entries.sort_by(|a, b| (&a.service, a.peer).cmp(&(&b.service, b.peer)));
        entries
    }

    /// Every bound of the node, with what is in use of it and what it has refused. Nothing once the node has ended.
    pub async fn limits(&self) -> Vec<LimitEntry> {
        let bounds = ask(&self.desk, |core, _, _| core.bounds()).await.unwrap_or_default();
        bounds.iter().map(LimitEntry::new).collect()
    }

    /// Everybody who is connected, by id. Nobody once the node has ended.
    pub async fn peers(&self) -> Vec<PeerEntry> {
        let peers = ask(&self.desk, |core, _, _| peers_up(core)).await.unwrap_or_default();
        peers.iter().map(PeerEntry::new).collect()
    }

    /// How it stands with the acceptors of this node's networks. Nothing once the node has ended.
    pub async fn acceptors(&self) -> Vec<AcceptorsEntry> {
        let acceptors = ask(&self.desk, |core, _, _| core.mesh().acceptors()).await;
        acceptors.unwrap_or_default().into_iter().map(AcceptorsEntry::new).collect()
    }

    /// Has the active instance of a single-active service here let another one be active.
    ///
    /// # Errors
    ///
    /// When there is no such service here, or it is not active here; it says where it is, if that is known.
    pub async fn step_down(&self, service: &str) -> Result<(), Problem> {
        let path = service_path(service)?;
        let done = ask(&self.desk, move |core, _, now| {
            let mesh = core.mesh_mut();
            let key = find(mesh, &path)?;
            let leader = mesh.leader_of(key);
            mesh.step_down(now, key).map_err(|_| {
                let at = leader.map_or("nowhere that is known".into(), |leader| {
                    format!("at {leader}: ask that node")
                });
                Problem::new(Failure::NotActive.code(), format!("'{path}' is active {at}"))
            })
        });
        done.await.unwrap_or_else(|| Err(has_ended()))
    }

    /// Has a service here take no calls for now. Returns when it is paused: an active instance is deactivated and
    /// gives its lease up before. What runs may end.
    ///
    /// # Errors
    ///
    /// When there is no such service here, or it does not run or stand by.
    pub async fn pause(&self, service: &str) -> Result<(), Problem> {
        self.change(service, "paused", Mesh::pause_service, |state| state == ServiceState::Paused)
            .await
    }

    /// Has a paused service here take calls again, or stand by if it is single-active.
    ///
    /// # Errors
    ///
    /// When there is no such service here, or it is not paused.
    pub async fn resume(&self, service: &str) -> Result<(), Problem> {
        let goes_on = |state| matches!(state, ServiceState::Running | ServiceState::Standby);
        self.change(service, "resumed", Mesh::resume_service, goes_on).await
    }

    /// Changes the state of a service, and waits until it is there.
    async fn change(
        &self,
        service: &str,
        what: &'static str,
        how: impl FnOnce(&mut Mesh, Now, ServiceKey) -> Result<(), CommandError> + Send + 'static,
        is_there: impl Fn(ServiceState) -> bool,
    ) -> Result<(), Problem> {
        let path = service_path(service)?;
        let desk = Arc::clone(&self.desk);
        let done = ask(&self.desk, move |core, _, now| {
            let mesh = core.mesh_mut();
            let key = find(mesh, &path)?;
            let events = desk.feed.subscribe_to(key);
            let state = mesh.services().state(key);
            how(mesh, now, key).map_err(|_| {
                let state =
                    state.map_or("gone".into(), |state| format!("{state:?}").to_lowercase());
                Problem::new("WRONG_STATE", format!("'{path}' cannot be {what}: it is {state}"))
            })?;
            Ok((Added { key, path }, events))
        });
        let (added, mut events) = done.await.unwrap_or_else(|| Err(has_ended()))?;
        match until(&self.desk, &mut events, &added, is_there).await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => {
                let what = format!("'{}' is not {what}: {why}", added.path);
                Err(Problem::new("WRONG_STATE", what))
            }
            Err(_) => Err(has_ended()),
        }
    }

    /// Who is active of single-active services, here and at connected peers, or of one of them, and each change of
    /// that.
    pub fn watch_leaders(&self, service: Option<String>) -> LeaderWatch {
        LeaderWatch::new(self.clone(), self.desk.feed.subscribe(), service)
    }

    /// How long a peer takes to answer: the time of a call which no handler runs. In a network with tokens
    /// it needs the permission `call:ping/*`.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn ping(&self, peer: PeerId, timeout: Duration) -> Result<Duration, Problem> {
        let begun = Instant::now();
        let request = self.handle.request(NOBODY).to(peer).timeout(timeout);
        let result = request.send().await;
        let elapsed = begun.elapsed();
        match result {
            Err(error) if error.failure().is_some_and(|why| why != Failure::NoSuchAction) => {
                Err(Problem::new("NO_ANSWER", format!("{peer}: {error}")))
            }
            _ => Ok(elapsed),
        }
    }

    /// Publishes an event.
    ///
    /// # Errors
    ///
    /// Why nobody gets it.
    pub async fn publish(
        &self,
        question: PublishQuestion,
        payload: Bytes,
    ) -> Result<PublishedEntry, Problem> {
        let content = ContentType(question.content);
        let payload = Payload::Encoded { content, bytes: payload };
        let mut event = self.handle.event(&question.topic).payload(payload);
        if let Some(peer) = question.to {
            event = event.to(peer);
        }
        if question.local {
            event = event.local();
        }
        if question.one_per_service {
            event = event.one_per_service();
        }
        let published = match question.confirm_within_ms {
            None => event.send().await.map(|published| PublishedEntry::new(&published, None)),
            Some(within) => event
                .send_confirmed(Duration::from_millis(within))
                .await
                .map(|r| PublishedEntry::new(&r.published, Some(r.outcome))),
        };
        published.map_err(|error| Problem::from(&error))
    }

    /// Subscribes. Returns when every peer of the node knows of it, as a rule.
    ///
    /// # Errors
    ///
    /// Why nobody subscribes.
    pub async fn subscribe(&self, question: SubscribeQuestion) -> Result<Subscriber, Problem> {
        let mut builder = self.handle.subscription(&question.pattern);
        if let Some(group) = question.group {
            builder = builder.group(group);
        }
        if question.at_least_one {
            builder = builder.at_least_one();
        }
        let subscription = builder.open().await.map_err(|error| Problem::from(&error))?;
        let known = tokio::time::timeout(KNOWN_WITHIN, subscription.known_by_all()).await.is_ok();
        Ok(Subscriber { subscription, known, left: question.count })
    }
}

/// A subscription as those who use a node for a moment see it. Dropping it ends it.
#[derive(Debug)]
pub struct Subscriber {
    subscription: Subscription,
    known: bool,
    /// Events until it ends.
    left: Option<u64>,
}

impl Subscriber {
    /// Whether every peer of the node knew of it when it began.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Takes no more events: what has come follows, and then nothing.
    pub fn leave(&mut self) {
        self.subscription.leave();
    }

    /// What comes next; none once the node has ended, or as many events have come as were asked for. Dropping the future
    /// loses nothing.
    pub async fn next(&mut self) -> Option<Item> {
        if self.left == Some(0) {
            return None;
        }
        loop {
            match self.subscription.next().await? {
                Delivery::Missed(missed) => return Some(Item::Missed(MissedEntry::new(&missed))),
                Delivery::Event(event) => match event.payload().encode() {
                    Ok((content, bytes)) => {
                        self.left = self.left.map(|left| left - 1);
                        return Some(Item::Event(EventEntry::new(&event, content.0), bytes));
                    }
                    // Published on this very node, as a value that nobody else could read either.
                    Err(error) => {
                        tracing::warn!(topic = %event.topic(), %error, "an event is not shown");
                    }
                },
            }
        }
    }
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operator({:?})", self.id)
    }
}
