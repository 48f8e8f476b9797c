//! A running node, as its owner sees it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use dunlin_core::directory::ServiceOffer;
use dunlin_core::service::{Handle, Host};
use dunlin_core::transport::LinkStats;
use dunlin_core::{Node as Core, Now, PeerId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::builder::NodeBuilder;
use crate::driver::Desk;
use crate::events::Events;

/// How a node ended if it did not stop as it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The socket failed.
    #[error("the node's socket failed: {0}")]
    Socket(#[from] io::Error),
    /// Something could not be stored: what the store holds is not known.
    #[error("the node's store failed: {0}")]
    Store(String),
    /// Another process lives under this node's key: it has started later, as it has proved.
    #[error(
        "a later start of this node is alive elsewhere, known to {told_by}: this one has stopped"
    )]
    NewerSelf {
        /// The peer that showed the later start.
        told_by: PeerId,
    },
    /// The task that runs the node was stopped with its runtime, or panicked.
    #[error("the node's task ended early: {0}")]
    Task(String),
}

/// One peer that is connected.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its id.
    pub peer: PeerId,
    /// The links to it that are up, oldest first.
    pub links: Vec<LinkInfo>,
    /// What it serves.
    pub services: Vec<ServiceOffer>,
}

/// One link that is up.
#[derive(Clone, Debug)]
pub struct LinkInfo {
    /// Where the peer is.
    pub remote: Option<SocketAddr>,
    /// Round-trip time, losses and sizes of the path.
    pub stats: Option<LinkStats>,
}

/// A node of the mesh, running.
///
/// It dereferences to [`Handle`], so [`Handle::call`], [`Handle::request`], [`Handle::publish`],
/// [`Handle::subscribe`] and the rest are methods of it; [`Node::handle`] gives a copy for other tasks.
/// ([`Node::events`] is not that: it tells what happens to the node itself.)
///
/// [`Node::shutdown`] takes leave: what runs may end. Dropping the node ends it at once; calls that run are lost, and peers
/// are told by one CONNECTION_CLOSE each, also when it is dropped in a panic. On a runtime with several threads the drop
/// waits until they are told, for at most 250 ms, as the process may end right after it. On a runtime with one thread they are
/// told when that runs its tasks the next time, or is dropped itself: [`std::process::exit`] leaves no time for either.
pub struct Node {
    id: PeerId,
    handle: Handle,
    desk: Arc<Desk>,
    task: JoinHandle<Result<(), NodeError>>,
    /// The thread of its own, if it has one.
    thread: Option<ThreadId>,
}

/// Maximum time for which dropping a node waits for its thread: more than that needs to send its last packets. A guess.
const DROP_MAX: Duration = Duration::from_millis(250);

/// Asks the driver something and waits for the answer; none if the node has ended.
pub(crate) async fn ask<T: Send + 'static>(
    desk: &Desk,
    question: impl FnOnce(&mut Core, &mut Host, Now) -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    desk.ask(move |core, host, now| {
        // Whoever asked may be gone.
        let _ = answer.send(question(core, host, now));
    });
    answered.await.ok()
}

impl Node {
    /// Puts a node together.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    pub(crate) fn new(
        id: PeerId,
        handle: Handle,
        desk: Arc<Desk>,
        task: JoinHandle<Result<(), NodeError>>,
        thread: Option<ThreadId>,
    ) -> Node {
        Node { id, handle, desk, task, thread }
    }

    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Its id, which is its public key.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Where it listens, with the port that the system chose. `0.0.0.0` means all IPv4 addresses of the machine, `[::]`
    /// those of IPv6 too. The first, if there are several: see [`Node::local_addrs`].
    pub fn local_addr(&self) -> SocketAddr {
        self.desk.reach.bound()[0]
    }

    /// All addresses that it listens on: two if it listens on both loopback addresses, otherwise one. Both have the same
    /// port.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.desk.reach.bound()
    }

    /// For application code: calls and timers, from any task.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What happens to the node from now on. For events that applications publish see [`Handle::subscribe`].
    pub fn events(&self) -> Events {
        self.desk.feed.subscribe()
    }

    /// Everyone who is connected, by id. Empty once the node has ended.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        ask(&self.desk, |core, _, _| peers_up(core)).await.unwrap_or_default()
    }

    /// Runs `f` with the whole node on its task, and gives what it gives; none if the node has ended.
    /// For what this crate offers no method for. While `f` runs, the node does nothing else.
    pub async fn inspect<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Core, &mut Host, Now) -> T + Send + 'static,
    ) -> Option<T> {
        ask(&self.desk, f).await
    }

    /// Closes the links to a peer, does not dial it any more, and ends calls to it.
    pub async fn disconnect(&self, peer: PeerId) {
        self.desk.names.forget(peer);
        ask(&self.desk, move |core, _, now| core.mesh_mut().disconnect(now, peer)).await;
    }

    /// Takes leave: no new calls either way; services stop; handlers that run may end within
    /// [`dunlin_core::mesh::SHUTDOWN_GRACE`] and their answers are sent; then links are closed. Dropping
    /// the future ends the node at once.
    ///
    /// # Errors
    ///
    /// When the node had ended already, by itself.
    pub async fn shutdown(mut self) -> Result<(), NodeError> {
        self.desk.ask(|core, _, now| core.mesh_mut().shutdown(now));
        self.ended().await
    }

    /// Waits until the node ends by itself, which it does when its socket or its store fails, or when another process
    /// lives under its key. Must not be called again once it has returned.
    ///
    /// # Errors
    ///
    /// Why it ended.
    pub async fn ended(&mut self) -> Result<(), NodeError> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) => Err(NodeError::Task(error.to_string())),
        }
    }
}

pub(crate) fn peers_up(core: &Core) -> Vec<PeerInfo> {
    let ids: Vec<PeerId> = core.mesh().peers_up().map(|(peer, _)| peer).collect();
    ids.into_iter().map(|peer| peer_info(core, peer)).collect()
}

pub(crate) fn peer_info(core: &Core, peer: PeerId) -> PeerInfo {
    let links = core.mesh().links_up(peer);
    let links = links
        .into_iter()
        .map(|(link, remote)| LinkInfo { remote, stats: core.transport().link_stats(link) });
    let links = links.collect();
    let document = core.mesh().peers_up().find(|(id, _)| *id == peer).and_then(|(_, d)| d);
    let services = document.map(|d| d.services().cloned().collect()).unwrap_or_default();
    PeerInfo { peer, links, services }
}

impl std::ops::Deref for Node {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
        // A handler that runs on the node's thread may drop the node too.
        if self.thread.is_some_and(|thread| thread != std::thread::current().id()) {
            self.desk.wait_for_end(DROP_MAX);
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({:?} at {})", self.id, self.local_addr())
    }
}
