//! Connecting to a peer, and waiting until it is connected.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::PeerId;
use dunlin_core::link::DialError;
use dunlin_core::mesh::CommandError;
use dunlin_core::peer::RefuseCode;

use crate::address::PeerAddress;
use crate::driver::Desk;
use crate::events::{Events, NodeEvent};
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
    /// The address is of a kind that this node's socket cannot reach.
    #[error(
        "{address} cannot be reached from {local}: one is IPv4 and the other IPv6. Listen on [::]:0 for both"
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

/// Those of a peer's addresses that a socket bound here can send to. Of the others it is said that they are left out.
pub(crate) fn reachable(
    local: SocketAddr,
    peer: PeerId,
    mut addresses: Vec<SocketAddr>,
) -> Vec<SocketAddr> {
    // An IPv6 socket reaches IPv4, too, unless it is bound to one IPv6 address. From a loopback address there is no way
    // to another machine.
    let both = local.is_ipv6() && local.ip().is_unspecified();
    let here = local.ip().is_loopback();
    addresses.retain(|address| {
        let of_family = both || address.is_ipv4() == local.is_ipv4();
        let reaches = of_family && (!here || address.ip().to_canonical().is_loopback());
        if !reaches {
            tracing::warn!(%peer, %address, %local, "the address is not dialled: this node listens elsewhere");
        }
        reaches
    });
    addresses
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
    /// on the node stays connected: it dials again whenever the link is lost, until
    /// [`Node::disconnect`]. When it fails, or the future is dropped, the peer is given up, unless it
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
        let addresses = reachable(self.local_addr(), peer, addresses.into_iter().collect());
        ask(self.desk(), move |core, _, now| core.mesh_mut().connect(now, peer, addresses))
            .await
            .ok_or(ConnectError::Stopped)?
            .map_err(refused)
    }

    async fn try_connect(&self, address: &PeerAddress) -> Result<PeerInfo, ConnectError> {
        let peer = address.peer;
        let found = address.resolve().await;
        let found =
            found.map_err(|source| ConnectError::Lookup { address: address.clone(), source })?;
        let found = reachable(self.local_addr(), peer, found);
        if found.is_empty() {
            let local = self.local_addr();
            return Err(ConnectError::WrongFamily { address: address.clone(), local });
        }
        let mut events = self.events();
        let asked = ask(self.desk(), move |core, _, now| {
            let kept = core.mesh().is_kept(peer);
            let result = core.mesh_mut().connect(now, peer, found);
            let up = !core.mesh().links_up(peer).is_empty();
            result.map(|()| (kept, up.then(|| peer_info(core, peer))))
        });
        let (kept, up) = asked.await.ok_or(ConnectError::Stopped)?.map_err(refused)?;
        let desk = Arc::clone(self.desk());
        let mut attempt = Attempt { desk, peer, forget: !kept && up.is_none() };
        let info = match up {
            Some(info) => info,
            None => self.until_up(&mut events, address).await?,
        };
        attempt.forget = false;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_the_socket_reaches_are_dialled() {
        let four: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let six: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let near: SocketAddr = "[::1]:1".parse().unwrap();
        let peer = crate::key::generate().id();
        let from = |local: &str| reachable(local.parse().unwrap(), peer, vec![four, six, near]);
        assert_eq!(from("0.0.0.0:5"), [four]);
        assert_eq!(from("[::1]:5"), [near]);
        assert_eq!(from("[2001:db8::2]:5"), [six, near]);
        assert_eq!(from("[::]:5"), [four, six, near]);
    }
}
