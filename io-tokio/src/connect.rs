//! Connecting to a peer, and waiting until it is connected.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::PeerId;
use dunlin_core::link::DialError;
use dunlin_core::mesh::CommandError;
use dunlin_core::peer::RefuseCode;

use crate::address::{HostPort, PeerAddress};
use crate::driver::Desk;
use crate::events::{Events, NodeEvent};
use crate::names::keep_looking_up;
use crate::node::{Node, PeerInfo, ask, peer_info};

/// How long [`Node::connect`] waits. More than a handshake may take, so that its own end is told.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection to a peer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The id is this node's own.
    #[error("{0} is this node itself")]
    OwnId(PeerId),
    /// The name of its host leads nowhere.
    #[error("cannot find the host of {address}: {source}")]
    Lookup {
        /// The peer's address.
        address: PeerAddress,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The address is of a kind that this node's sockets cannot reach: of the other family, or on another machine while
    /// the node listens on loopback.
    #[error(
        "{address} cannot be reached from {local}, where this node listens. Listen on [::]:0 to reach IPv4 and IPv6 on \
         all machines"
    )]
    WrongFamily {
        /// The peer's address.
        address: PeerAddress,
        /// Where this node listens.
        local: SocketAddr,
    },
    /// Nobody answered.
    #[error("nobody answered at {0}. Is the peer running there, and may UDP pass (firewall, NAT)?")]
    Unreachable(PeerAddress),
    /// Somebody else answered.
    #[error(
        "whoever answered at {0} holds another key: is the id right, or the address out of date?"
    )]
    WrongPeer(PeerAddress),
    /// The peer refuses this node.
    #[error("the peer {peer} refuses: {why}")]
    Refused {
        /// The peer.
        peer: PeerId,
        /// Why.
        why: RefuseCode,
    },
    /// The connection was refused before the peer was known.
    #[error("whoever answered at {address} refused the connection: {why}")]
    Rejected {
        /// The peer's address.
        address: PeerAddress,
        /// What it said.
        why: String,
    },
    /// This node refuses the peer.
    #[error("the peer {peer} is refused here: {why}")]
    RefusedHere {
        /// The peer.
        peer: PeerId,
        /// Why.
        why: String,
    },
    /// No dial could be made.
    #[error("{address} cannot be dialled: {why}")]
    Unusable {
        /// The peer's address.
        address: PeerAddress,
        /// Why.
        why: String,
    },
    /// It took too long.
    #[error("no connection to {address} within {after:?}")]
    TimedOut {
        /// The peer's address.
        address: PeerAddress,
        /// How long was waited.
        after: Duration,
    },
    /// The node does not take the command.
    #[error(transparent)]
    Command(CommandError),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// Gives a peer up if connecting is given up, unless it was to be kept anyway.
struct Attempt {
    desk: Arc<Desk>,
    peer: PeerId,
    forget: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.forget {
            let peer = self.peer;
            self.desk.ask(move |core, _, now| core.mesh_mut().disconnect(now, peer));
        }
    }
}

impl Node {
    /// Connects to a peer and waits until it can be called, for at most [`CONNECT_TIMEOUT`]. From then
    /// on the node stays connected: it dials again whenever the link is lost, and looks a name up before each round of
    /// dials, until [`Node::disconnect`]. When it fails, or the future is dropped, the peer is given up, unless it
    /// was connected or asked for before.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says why the first attempt failed.
    pub async fn connect(&self, address: PeerAddress) -> Result<PeerInfo, ConnectError> {
        self.connect_within(address, CONNECT_TIMEOUT).await
    }

    /// The same with another time to wait.
    ///
    /// # Errors
    ///
    /// As [`Node::connect`].
    pub async fn connect_within(
        &self,
        address: PeerAddress,
        timeout: Duration,
    ) -> Result<PeerInfo, ConnectError> {
        match tokio::time::timeout(timeout, self.try_connect(&address)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::TimedOut { address, after: timeout }),
        }
    }

    /// Stays connected to a peer from now on, without waiting for it: see [`Node::connect`]. Without
    /// addresses it is waited for.
    ///
    /// # Errors
    ///
    /// When the id is our own, too many peers are known, or the node has stopped.
    pub async fn keep(
        &self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<(), ConnectError> {
        let addresses = self.desk().reach.dialled(peer, addresses);
        self.desk().names.forget(peer);
        ask(self.desk(), move |core, _, now| core.mesh_mut().connect(now, peer, addresses))
            .await
            .ok_or(ConnectError::Stopped)?
            .map_err(refused)
    }

    async fn try_connect(&self, address: &PeerAddress) -> Result<PeerInfo, ConnectError> {
        let peer = address.peer;
        let found = match &address.host {
            HostPort::Address(at) => vec![*at],
            HostPort::Name(name, port) => {
                let none = || io::Error::new(io::ErrorKind::NotFound, "it has no address");
                let found = self.desk().resolver.resolve(name.clone(), *port).await;
                found
                    .and_then(|found| if found.is_empty() { Err(none()) } else { Ok(found) })
                    .map_err(|source| ConnectError::Lookup { address: address.clone(), source })?
            }
        };
        let (found, _) = self.desk().reach.split(found);
        if found.is_empty() {
            let local = self.local_addr();
            return Err(ConnectError::WrongFamily { address: address.clone(), local });
        }
        let mut events = self.events();
        let dialled = found.clone();
        let asked = ask(self.desk(), move |core, _, now| {
            let kept = core.mesh().is_kept(peer);
            let result = core.mesh_mut().connect(now, peer, dialled);
            let up = !core.mesh().links_up(peer).is_empty();
            result.map(|()| (kept, up.then(|| peer_info(core, peer))))
        });
        let (kept, up) = asked.await.ok_or(ConnectError::Stopped)?.map_err(refused)?;
        let desk = Arc::clone(self.desk());
        let mut attempt = Attempt { desk, peer, forget: !kept && up.is_none() };
        let follow = || {
            keep_looking_up(self.desk(), peer, vec![address.host.clone()], found.clone(), false);
        };
        // It stays kept however this attempt ends, and its addresses are those given here.
        if !attempt.forget {
            follow();
        }
        let info = match up {
            Some(info) => info,
            None => self.until_up(&mut events, address).await?,
        };
        if std::mem::take(&mut attempt.forget) {
            follow();
        }
        Ok(info)
    }

    async fn until_up(
        &self,
        events: &mut Events,
        address: &PeerAddress,
    ) -> Result<PeerInfo, ConnectError> {
        let wanted = address.peer;
        let address = || address.clone();
        loop {
            let error = match events.next().await.ok_or(ConnectError::Stopped)? {
                NodeEvent::PeerUp { peer, .. } if peer == wanted => None,
                NodeEvent::Lagged { .. } => None,
                // This node begins its next life and dials again.
                NodeEvent::PeerRefused { peer, why: RefuseCode::StaleIncarnation }
                    if peer == wanted =>
                {
                    continue;
                }
                NodeEvent::PeerRefused { peer, why } if peer == wanted => {
                    Some(ConnectError::Refused { peer, why })
                }
                NodeEvent::PeerMisbehaved { peer, what } if peer == wanted => {
                    Some(ConnectError::RefusedHere { peer, why: what })
                }
                NodeEvent::DialFailed { peer, error, .. } if peer == wanted => Some(match error {
                    DialError::TimedOut => ConnectError::Unreachable(address()),
                    DialError::WrongPeer => ConnectError::WrongPeer(address()),
                    DialError::Refused(why) => ConnectError::Rejected { address: address(), why },
                    DialError::Unusable(why) => ConnectError::Unusable { address: address(), why },
                }),
                NodeEvent::Stopped => Some(ConnectError::Stopped),
                _ => continue,
            };
            if let Some(error) = error {
                return Err(error);
            }
            let info = ask(self.desk(), move |core, _, _| peer_info(core, wanted)).await;
            let info = info.ok_or(ConnectError::Stopped)?;
            if !info.links.is_empty() {
                return Ok(info);
            }
        }
    }
}

fn refused(error: CommandError) -> ConnectError {
    match error {
        CommandError::OwnId(peer) => ConnectError::OwnId(peer),
        CommandError::Stopping => ConnectError::Stopped,
        other => ConnectError::Command(other),
    }
}
