//! How services do, here and at peers, as this node sees it.

use std::collections::BTreeSet;

use crate::base::{PeerId, PeerKey};
use crate::directory::Document;
use crate::directory::breaker::BreakerState;
use crate::directory::vitals::Vitals;
use crate::mesh::Mesh;
use crate::rpc::health::Report;
use crate::topic::{Pattern, TopicPath};

/// How one instance of a service does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceStats {
    /// The service.
    pub service: TopicPath,
    /// Who serves it. For a service of this node, what its callers saw is counted; for one of a peer, what the
    /// calls of this node saw that chose it.
    pub peer: PeerId,
    /// Calls under way: those that run here, or ours that are not answered.
    pub in_flight: usize,
    /// Calls that wait for their turn here; see [`crate::rpc::admission`].
    pub waiting: usize,
    /// How it did lately.
    pub report: Report,
    /// Whether it is left alone for its silence.
    pub breaker: BreakerState,
    /// Actions that calls of this node do not go to there, as they failed too often, in the order of their patterns.
    pub left_alone: Vec<Pattern>,
    /// What a peer says of it itself: of calls of others, too.
    pub said: Option<Vitals>,
}

impl InstanceStats {
    /// How well the instance is, in per cent: nothing while it is left alone.
    pub fn score(&self) -> u8 {
        match self.breaker {
            BreakerState::Closed => self.report.score(),
            BreakerState::Open { .. } | BreakerState::HalfOpen => 0,
        }
    }
}

impl Mesh {
    /// How the services of this node do, and the instances at peers that its calls went to, or that say something of
    /// themselves. Costs time in the number of services, here and at peers, and of calls under way.
    pub fn stats(&self) -> Vec<InstanceStats> {
        let now = self.now.mono;
        let mut stats = Vec::new();
        for (key, path, _) in self.services.iter() {
            let (running, waiting) = self.callee.busy(key);
            stats.push(InstanceStats {
                service: path.clone(),
                peer: self.local.id,
                in_flight: running,
                waiting,
                report: self.callee.health(key).map_or(Report::default(), |h| h.report(now)),
                breaker: BreakerState::Closed,
                left_alone: Vec::new(),
                said: None,
            });
        }
        let mut asked = BTreeSet::new();
        for (service, peer, load) in self.remote.loads() {
            let Some(entry) = self.peers.get(peer) else { continue };
            stats.push(InstanceStats {
                service: service.clone(),
                peer: entry.id,
                in_flight: load.in_flight() as usize,
                waiting: 0,
                report: load.health().map_or(Report::default(), |h| h.report(now)),
                breaker: load.breaker().map_or(BreakerState::Closed, |breaker| breaker.state()),
                left_alone: self.remote.left_alone(service, peer),
                said: self.said_of(peer, service),
            });
            asked.insert((service, peer));
        }
        // Instances that nobody here has called are known by their own word alone.
        for (_, peer) in self.by_id.iter() {
            let Some(entry) = self.peers.get(*peer).filter(|entry| entry.machine.is_up()) else {
                continue;
            };
            let services = self.remote.document(*peer).into_iter().flat_map(Document::services);
            for service in services.filter(|service| !asked.contains(&(&service.path, *peer))) {
                let Some(said) = service.info.vitals else { continue };
                stats.push(InstanceStats {
                    service: service.path.clone(),
                    peer: entry.id,
                    in_flight: 0,
                    waiting: 0,
                    report: Report::default(),
                    breaker: BreakerState::Closed,
                    left_alone: Vec::new(),
                    said: Some(said),
                });
            }
        }
        stats
    }

    fn said_of(&self, peer: PeerKey, path: &TopicPath) -> Option<Vitals> {
        let mut services = self.remote.document(peer)?.services();
        services.find(|service| service.path == *path)?.info.vitals
    }
}
