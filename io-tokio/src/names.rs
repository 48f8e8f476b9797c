//! Peers that are given by name: the name is looked up before each round of dials.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::peer::BACKOFF;

use crate::address::PeerAddress;
use crate::connect::reachable;
use crate::driver::Desk;
use crate::events::NodeEvent;
use crate::node::ask;

/// Between two look-ups of a name that leads nowhere, once those of the back-off are over.
const INTERVAL: Duration = Duration::from_secs(60);

/// Stays connected to a peer wherever its name leads, until the node ends.
pub(crate) async fn keep_looking_up(desk: Arc<Desk>, local: SocketAddr, address: PeerAddress) {
    let peer = address.peer;
    let mut events = desk.feed.subscribe();
    let mut known = Vec::new();
    let mut failures = 0;
    loop {
        match address.resolve().await {
            Ok(found) => {
                failures = 0;
                let found = reachable(local, peer, found);
                // Told again, a peer would be dialled at once, whatever its back-off.
                if found != known {
                    known.clone_from(&found);
                    let kept =
                        ask(&desk, move |core, _, now| core.mesh_mut().connect(now, peer, found));
                    match kept.await {
                        None => return,
                        Some(Err(error)) => {
                            tracing::warn!(%address, %error, "the peer cannot be kept");
                        }
                        Some(Ok(())) => {}
                    }
                }
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%address, %error, "the name leads nowhere; it is looked up again and again");
                }
                let wait = BACKOFF.get(failures).copied().unwrap_or(INTERVAL);
                failures += 1;
                tokio::select! {
                    () = tokio::time::sleep(wait) => continue,
                    () = async { while events.next().await.is_some() {} } => return,
                }
            }
        }
        loop {
            match events.next().await {
                Some(NodeEvent::DialFailed { peer: failed, .. }) if failed == peer => break,
                // What was missed may have been that.
                Some(NodeEvent::Lagged { .. }) => break,
                Some(_) => {}
                None => return,
            }
        }
    }
}
