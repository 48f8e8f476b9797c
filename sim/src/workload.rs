//! What runs on the nodes: the door for embedders who want their own services under chaos.

use std::sync::Arc;

use dunlin_core::PeerId;
use dunlin_core::service::{BoxFuture, Handle, Service};

use crate::history::{Ledger, Life};
use crate::schedule::{Call, Publish, StreamPlan, Subscriber};

/// Where a service or a client runs.
#[derive(Clone)]
pub struct NodeInfo {
    /// The node, and which of its lives.
    pub life: Life,
    /// What is the same at all of them, shared by all that runs there.
    pub world: Arc<WorldInfo>,
}

impl std::ops::Deref for NodeInfo {
    type Target = WorldInfo;

    fn deref(&self) -> &WorldInfo {
        &self.world
    }
}

/// What is the same at all nodes of a world.
pub struct WorldInfo {
    /// The ids of all nodes, by number.
    pub peers: Arc<[PeerId]>,
    /// The networks that each node is in, its default one first; nothing where all are in the same one.
    pub networks: Arc<[Vec<u16>]>,
    /// The world's record of calls. Whoever makes calls through it has them judged.
    pub ledger: Arc<Ledger>,
}

impl NodeInfo {
    /// How this node writes a path in a network.
    pub fn path_in(&self, network: u16, path: &str) -> String {
        match self.is_default(network) {
            true => path.to_string(),
            false => format!("{}:{path}", network_name(network)),
        }
    }

    /// Whether this node writes paths of a network without its name.
    pub(crate) fn is_default(&self, network: u16) -> bool {
        let networks = self.networks.get(usize::from(self.life.node));
        networks.is_none_or(|networks| networks[0] == network)
    }

    /// Whether a path in which this node writes this name of a network, or none, is in a network.
    pub(crate) fn is_in(&self, network: u16, name: Option<&str>) -> bool {
        match self.is_default(network) {
            true => name.is_none(),
            false => name.and_then(network_named) == Some(network),
        }
    }
}

/// What a network is called in front of a path.
pub(crate) fn network_name(network: u16) -> String {
    format!("net{network}")
}

/// The network with such a name.
pub(crate) fn network_named(name: &str) -> Option<u16> {
    name.strip_prefix("net")?.parse().ok()
}

/// Services, the clients that use them, and what must hold.
///
/// Every method is called on the thread of the run, in an order that follows from the schedule. What a
/// workload keeps to itself is outside of the nodes: it survives their crashes, and sees the truth.
pub trait Workload: Send + Sync {
    /// The services that a node registers at the start of a life.
    fn services(&self, node: &NodeInfo) -> Vec<Arc<dyn Service>>;

    /// The service with this number, when the schedule starts one while the node runs.
    fn service(&self, node: &NodeInfo, number: u16) -> Option<Arc<dyn Service>> {
        let _ = (node, number);
        None
    }

    /// Application code that runs beside the services from the start of a life. It ends with the life.
    fn start(&self, node: &NodeInfo, handle: Handle) -> Option<BoxFuture<()>> {
        let _ = (node, handle);
        None
    }

    /// Carries out a call of the schedule.
    fn perform(&self, node: &NodeInfo, call: &Call, handle: Handle) -> Option<BoxFuture<()>> {
        let _ = (node, call, handle);
        None
    }

    /// Carries out a stream of the schedule.
    fn stream(
        &self,
        node: &NodeInfo,
        stream: &StreamPlan,
        handle: Handle,
    ) -> Option<BoxFuture<()>> {
        let _ = (node, stream, handle);
        None
    }

    /// Subscribes, and reads for as long as the life or the subscriber lasts.
    fn subscribe(
        &self,
        node: &NodeInfo,
        subscriber: &Subscriber,
        handle: Handle,
    ) -> Option<BoxFuture<()>> {
        let _ = (node, subscriber, handle);
        None
    }

    /// Carries out a publication of the schedule.
    fn publish(&self, node: &NodeInfo, event: &Publish, handle: Handle) -> Option<BoxFuture<()>> {
        let _ = (node, event, handle);
        None
    }

    /// After healing, and while nobody else publishes: events that must reach everybody who wants them.
    fn probe_events(&self, node: &NodeInfo, handle: Handle) -> Option<BoxFuture<()>> {
        let _ = (node, handle);
        None
    }

    /// After healing: a call to this peer that must succeed.
    fn probe(&self, node: &NodeInfo, peer: u16, handle: Handle) -> Option<BoxFuture<()>> {
        let _ = (node, peer, handle);
        None
    }

    /// After healing, and while nobody else calls: calls to a service that these nodes serve, and the caller
    /// does not. They must go to all of them in turn.
    fn turns(
        &self,
        node: &NodeInfo,
        service: u16,
        instances: Vec<u16>,
        handle: Handle,
    ) -> Option<BoxFuture<()>> {
        let _ = (node, service, instances, handle);
        None
    }

    /// Rare states that the workload marks with [`Ledger::sometimes`], so that a campaign can name those that were
    /// never reached.
    fn sometimes(&self) -> &[&'static str] {
        &[]
    }

    /// Whether an error in the log is meant to be there. Any other one breaks the run: an event of `tracing` at level
    /// ERROR, whoever emits it, as its target, message and fields. Panics of handlers are among them.
    fn expects_error(&self, error: &str) -> bool {
        let _ = error;
        false
    }

    /// What must hold after every event.
    ///
    /// # Errors
    ///
    /// Says what does not hold.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// What must hold once everything is healed and quiet.
    ///
    /// # Errors
    ///
    /// Says what does not hold.
    fn check_healed(&self) -> Result<(), String> {
        Ok(())
    }
}
