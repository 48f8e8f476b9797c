//! Peers that are given by name: the name is looked up before each round of dials.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunlin_core::PeerId;
use dunlin_core::peer::BACKOFF;
use tokio::task::AbortHandle;

use crate::address::HostPort;
use crate::driver::Desk;
use crate::events::{Events, NodeEvent};
use crate::node::ask;

/// Between two look-ups of a name that leads nowhere, once those of the back-off are over.
const INTERVAL: Duration = Duration::from_secs(60);

/// Maximum number of addresses of one peer that are remembered and dialled. A guess.
const ADDRESSES_MAX: usize = 16;

/// The peers whose names are looked up, each by a task. At most one task a peer.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<BTreeMap<PeerId, AbortHandle>>);

impl Names {
    /// Looks a peer's names up no more.
    pub(crate) fn forget(&self, peer: PeerId) {
        self.replace(peer, None);
    }

    /// Looks nothing up any more.
    pub(crate) fn clear(&self) {
        let tasks = std::mem::take(&mut *self.0.lock().expect("nothing panics under this lock"));
        for task in tasks.into_values() {
            task.abort();
        }
    }

    fn replace(&self, peer: PeerId, task: Option<AbortHandle>) {
        let mut tasks = self.0.lock().expect("nothing panics under this lock");
        let old = match task {
            Some(task) => tasks.insert(peer, task),
            None => tasks.remove(&peer),
        };
        drop(tasks);
        if let Some(old) = old {
            old.abort();
        }
    }
}

/// Follows a peer, which is kept already, wherever the names among its hosts lead: until it is kept no more, or other
/// hosts are given for it, or the node ends. `known` are the addresses that are dialled already; without any the names are
/// looked up at once.
pub(crate) fn keep_looking_up(
    desk: &Arc<Desk>,
    peer: PeerId,
    hosts: Vec<HostPort>,
    known: Vec<SocketAddr>,
    at_once: bool,
) {
    if !hosts.iter().any(|host| matches!(host, HostPort::Name(..))) {
        return desk.names.forget(peer);
    }
    let hosts = hosts.into_iter().map(|at| Host { at, is_lost: false }).collect();
    let events = desk.feed.subscribe();
    let follower =
        Follower { desk: Arc::clone(desk), peer, hosts, events, found: known.clone(), known };
    let task = desk.runtime.spawn(follower.run(at_once)).abort_handle();
    desk.names.replace(peer, Some(task));
}

/// One place where a peer may be found.
struct Host {
    at: HostPort,
    /// The log says already that it leads nowhere.
    is_lost: bool,
}

struct Follower {
    desk: Arc<Desk>,
    peer: PeerId,
    hosts: Vec<Host>,
    events: Events,
    /// The result of the last look-up.
    found: Vec<SocketAddr>,
    /// The addresses that are dialled: those found, and before them, since the peer was connected, others. Resolvers that
    /// give the addresses of one name in turn do not make each a new one.
    known: Vec<SocketAddr>,
}

/// The node has ended, or the peer is kept no more.
struct Over;

impl Follower {
    async fn run(mut self, at_once: bool) {
        let mut is_due = at_once;
        loop {
            if !is_due && self.until_needed().await.is_err() {
                return;
            }
            is_due = false;
            if self.look_up_until_found().await.is_err() || self.dial_unknown().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the peer is lost, or is about to be dialled once more.
    async fn until_needed(&mut self) -> Result<(), Over> {
        loop {
            match self.events.next().await.ok_or(Over)? {
                NodeEvent::DialFailed { peer, retry_in, .. } if peer == self.peer => {
                    // Shortly before the next dial, which then goes to the right place.
                    return self.pause(retry_in.unwrap_or(BACKOFF[0]) * 3 / 4).await;
                }
                NodeEvent::PeerDown { peer, .. } if peer == self.peer => return Ok(()),
                NodeEvent::PeerUp { peer, .. } if peer == self.peer => {
                    self.known.clone_from(&self.found);
                }
                // What was missed may have been one of these.
                NodeEvent::Lagged { .. } => return Ok(()),
                _ => {}
            }
        }
    }

    /// Looks all names up, again and again while they lead nowhere.
    async fn look_up_until_found(&mut self) -> Result<(), Over> {
        let mut failures = 0;
        loop {
            self.found = self.look_up().await;
            if !self.found.is_empty() {
                return Ok(());
            }
            self.pause(BACKOFF.get(failures).copied().unwrap_or(INTERVAL)).await?;
            failures += 1;
        }
    }

    /// The addresses behind all hosts that this node can dial.
    async fn look_up(&mut self) -> Vec<SocketAddr> {
        let (desk, peer) = (&self.desk, self.peer);
        let mut found = Vec::new();
        for host in &mut self.hosts {
            let (name, port) = match &host.at {
                HostPort::Address(address) => {
                    found.push(*address);
                    continue;
                }
                HostPort::Name(name, port) => (name, *port),
            };
            let why = match desk.resolver.resolve(name.clone(), port).await {
                Ok(addresses) => match desk.reach.split(addresses) {
                    (reached, others) if reached.is_empty() => match others.is_empty() {
                        true => "it has no address".to_string(),
                        false => format!("this node cannot dial from where it listens: {others:?}"),
                    },
                    (reached, others) => {
                        if !others.is_empty() {
                            tracing::debug!(%peer, name, ?others, "addresses are not dialled: this node listens elsewhere");
                        }
                        if std::mem::take(&mut host.is_lost) {
                            tracing::info!(%peer, name, ?reached, "the name leads somewhere again");
                        }
                        found.extend(reached);
                        continue;
                    }
                },
                Err(error) => error.to_string(),
            };
            if !std::mem::replace(&mut host.is_lost, true) {
                tracing::warn!(%peer, name, port, why, "the name leads nowhere; it is looked up again and again");
            }
        }
        let (mut found, _) = desk.reach.split(found);
        found.truncate(ADDRESSES_MAX);
        found
    }

    /// Has the peer dialled if it was found at an address that is new.
    async fn dial_unknown(&mut self) -> Result<(), Over> {
        let peer = self.peer;
        // Given the same again, a peer would be dialled at once, against its back-off.
        if self.found.iter().all(|address| self.known.contains(address)) {
            let is_kept = ask(&self.desk, move |core, _, _| core.mesh().is_kept(peer)).await;
            return is_kept.filter(|is_kept| *is_kept).map(drop).ok_or(Over);
        }
        let mut addresses = self.found.clone();
        addresses.extend(self.known.iter().filter(|known| !self.found.contains(known)));
        addresses.truncate(ADDRESSES_MAX);
        self.known.clone_from(&addresses);
        let kept = ask(&self.desk, move |core, _, now| {
            let mesh = core.mesh_mut();
            mesh.is_kept(peer).then(|| mesh.connect(now, peer, addresses))
        });
        match kept.await.flatten() {
            None => Err(Over),
            Some(Err(error)) => {
                tracing::warn!(%peer, %error, "the peer cannot be dialled");
                Ok(())
            }
            Some(Ok(())) => Ok(()),
        }
    }

    async fn pause(&mut self, time: Duration) -> Result<(), Over> {
        let events = &mut self.events;
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = async { while events.next().await.is_some() {} } => Err(Over),
        }
    }
}
