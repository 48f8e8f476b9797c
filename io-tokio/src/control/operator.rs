//! What short-lived programs ask of a node, done on the node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dunlin_core::directory::ServiceOffer;
use dunlin_core::rpc::Failure;
use dunlin_core::service::{ContentType, Handle, Payload};
use dunlin_core::{PeerId, topic::TopicPath};

use super::message::{CallAnswer, CallQuestion, PeerEntry, Problem, ServiceEntry};
use crate::driver::Desk;
use crate::node::{Node, ask, peers_up};

/// An action that nobody serves: who answers that it has none is there.
const NOBODY: &str = "ping/nobody-serves-this";

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

    /// Everybody who is connected, by id. Nobody once the node has ended.
    pub async fn peers(&self) -> Vec<PeerEntry> {
        let peers = ask(&self.desk, |core, _, _| peers_up(core)).await.unwrap_or_default();
        peers.iter().map(PeerEntry::new).collect()
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
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operator({:?})", self.id)
    }
}
