//! What can be asked of a mesh, and what must hold in it.

use std::net::SocketAddr;

use crate::auth::Access;
use crate::base::{Bound, BoundReport, Incarnation, Limits, PeerId, PeerKey, Refusals};
use crate::directory::{Document, LocalServices};
use crate::link::{LinkHandle, LinkId};
use crate::machine::Machine;
use crate::mesh::{Mesh, PeerEntry, Phase};

/// How much of what is bounded is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Load {
    pub peers: usize,
    pub links: usize,
    pub dials: usize,
    pub timers: usize,
    pub calls_open: usize,
    pub invocations: usize,
    pub frames_queued: usize,
    pub events_queued: usize,
    pub publications: usize,
    pub events_unacknowledged: usize,
}

impl Mesh {
    /// Our id.
    pub fn id(&self) -> PeerId {
        self.local.id
    }

    /// Our present life.
    pub fn incarnation(&self) -> Incarnation {
        self.local.incarnation
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How often each bound has refused something.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// How it stands with every bound. Costs time in the size of the state.
    pub fn bounds(&self) -> Vec<BoundReport> {
        let report = |bound: &Bound| BoundReport {
            bound: *bound,
            limit: bound.limit(&self.limits),
            used: self.used(*bound).map(|used| used as u64),
            refused: self.refusals.of(*bound),
        };
        Bound::ALL.iter().map(report).collect()
    }

    fn used(&self, bound: Bound) -> Option<usize> {
        let most = |of: &dyn Fn(PeerKey, &PeerEntry) -> usize| {
            self.peers.iter().map(|(key, entry)| of(key, entry)).max().unwrap_or(0)
        };
        Some(match bound {
            Bound::Links | Bound::Connections => self.links.len(),
            Bound::Peers => self.peers.len(),
            Bound::LinksPerPeer => most(&|_, entry| entry.machine.links().count()),
            Bound::UnverifiedLinks => self.unverified.len(),
            Bound::UnverifiedLinksPerAddress => self.unverified.most_of_one_address(),
            Bound::PeersPerIssuer => self.delegated.values().max().copied().unwrap_or(0),
            Bound::FramesHeldPerPeer => most(&|_, entry| entry.lanes.held()),
            Bound::HeldBytesPerPeer => most(&|_, entry| entry.lanes.held_bytes()),
            Bound::HeldBytes => self.held_bytes,
            Bound::Invocations => self.callee.running(),
            Bound::EventsUnacknowledged => most(&|key, _| self.sender.unacknowledged(key)),
            Bound::ServicesPerPeer => most(&|key, _| {
                self.remote.document(key).map_or(0, |document| document.services().count())
            }),
            Bound::Leases => self.leases.promised_len(),
            _ => return None,
        })
    }

    /// Everyone a link to is up, with what they serve.
    pub fn peers_up(&self) -> impl Iterator<Item = (PeerId, Option<&Document>)> {
        self.by_id.iter().filter_map(|(id, key)| {
            let entry = self.peers.get(*key)?;
            entry.machine.is_up().then(|| (*id, self.remote.document(*key)))
        })
    }

    /// Whether we were told to stay connected to a peer.
    pub fn is_kept(&self, peer: PeerId) -> bool {
        let entry = self.by_id.get(&peer).and_then(|key| self.peers.get(*key));
        entry.is_some_and(|entry| entry.machine.is_kept())
    }

    /// The links to a peer that are up, with where it is.
    pub fn links_up(&self, peer: PeerId) -> Vec<(LinkHandle, Option<SocketAddr>)> {
        let Some(entry) = self.by_id.get(&peer).and_then(|key| self.peers.get(*key)) else {
            return Vec::new();
        };
        let remote = |link: LinkHandle| self.links.get(&link).and_then(|l| l.remote);
        entry.machine.links_up().map(|link| (link, remote(link))).collect()
    }

    /// The networks of this node, and who may do what in them.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Where a peer sees this node, by its last word: an address to offer to others. None if it has not
    /// said.
    pub fn observed_address(&self, peer: PeerId) -> Option<SocketAddr> {
        self.peers.get(*self.by_id.get(&peer)?)?.machine.observed_address()
    }

    /// What both ends call a link; none if it is gone or not yet greeted.
    pub fn link_id(&self, link: LinkHandle) -> Option<LinkId> {
        self.peers.get(self.links.get(&link)?.peer)?.machine.id_of(link)
    }

    /// Whether a link is being drained: another one stays.
    pub fn is_draining(&self, link: LinkHandle) -> bool {
        let peer = self.links.get(&link).and_then(|entry| self.peers.get(entry.peer));
        peer.is_some_and(|peer| peer.machine.is_draining(link))
    }

    /// The services of this node.
    pub fn services(&self) -> &LocalServices {
        &self.services
    }

    /// How much of what is bounded is in use. For metrics, tests and leak checks.
    pub fn load(&self) -> Load {
        Load {
            peers: self.peers.len(),
            links: self.links.len(),
            dials: self.dials.len(),
            timers: self.timers.len(),
            calls_open: self.caller.len(),
            invocations: self.callee.running(),
            frames_queued: self.links.values().map(|link| link.out.len()).sum(),
            events_queued: self.events.len(),
            publications: self.publications.len(),
            events_unacknowledged: self.sender.len(),
        }
    }

    /// Frames that wait for earlier ones on links that are drained.
    pub fn frames_held(&self) -> usize {
        self.peers.iter().map(|(_, peer)| peer.lanes.held()).sum()
    }

    /// Whether this node has stopped in order as a member of groups: what its members had not handled was given back, and
    /// publishers know which events have come.
    pub fn has_left_groups(&self) -> bool {
        self.phase == Phase::Stopped && self.last_ack_said && self.has_given_all_back()
    }

    /// Whether [`Event::Stopped`](crate::Event::Stopped) was given out.
    pub fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    /// Asserts what must hold between inputs, in every machine. Costs time in the size of the state;
    /// the simulator calls it at one in forty events of a node, and at the end.
    ///
    /// # Panics
    ///
    /// When a promise of this crate is broken.
    pub fn check_invariants(&self) {
        self.caller.check_invariants();
        self.callee.check_invariants();
        self.access.check_invariants();
        self.services.check_invariants();
        self.publisher.check_invariants();
        self.replicas.check_invariants();
        self.remote.check_invariants(self.now.mono, &self.probes());
        self.subscriptions.check_invariants();
        self.interest.check_invariants();
        self.sender.check_invariants();
        self.receiver.check_invariants();
        if let Some(rare) = &self.rare_events {
            rare.check_invariants();
        }
        self.journal.check_invariants();
        self.leases.check_invariants();
        self.looks.check_invariants(self.now.mono);
        assert!(self.links.len() <= self.limits.links_max, "links are bounded");
        assert!(self.peers.len() <= self.limits.peers_max, "peers are bounded");
        assert!(self.caller.len() <= self.limits.calls_open_max, "open calls are bounded");
        if !self.work.is_empty() {
            // What one machine has done, another has yet to hear of.
            return;
        }
        assert!(
            self.held.keys().all(|call| self.caller.is_open(*call)),
            "calls that wait are open"
        );
        if self.timers.peek().is_none_or(|(at, _)| at > self.now.mono) {
            self.access.check_ends(self.now);
        }
        assert!(self.unverified.len() <= self.limits.unverified_links_max.max(1));
        let delegated = self.peers.iter().filter(|(_, peer)| peer.delegator.is_some()).count();
        assert_eq!(
            delegated,
            self.delegated.values().sum::<usize>(),
            "each is counted under its key"
        );
        if let Some(most) = self.delegated.values().max() {
            assert!(*most <= self.limits.peers_per_issuer_max, "one token fills no table");
        }
        let held = self.peers.iter().map(|(_, peer)| peer.lanes.held_bytes()).sum::<usize>();
        assert_eq!(held, self.held_bytes, "what is held is counted");
        for (key, entry) in self.peers.iter() {
            entry.machine.check_invariants();
            entry.lanes.check_invariants();
            assert_eq!(self.by_id.get(&entry.id), Some(&key), "every peer is found by its id");
            for link in entry.machine.links() {
                assert_eq!(
                    self.links.get(&link).map(|l| l.peer),
                    Some(key),
                    "every link of a peer is known"
                );
            }
        }
        let of_peers: usize = self.peers.iter().map(|(_, p)| p.machine.links().count()).sum();
        assert_eq!(of_peers, self.links.len(), "every link belongs to a peer");
    }
}
