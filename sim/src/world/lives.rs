//! The lives of nodes: how they begin, what they may do, how they end, and how they go on after a pause.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use dunlin_core::Now;
use dunlin_core::auth::Access;
use dunlin_core::base::Incarnation;
use dunlin_core::service::Host;

use crate::faults::FaultKind;
use crate::log::{Column, log};
use crate::random::bytes32;
use crate::schedule::Trouble;
use crate::sometimes;
use crate::station::{Live, Station, limits};
use crate::trace::Step;
use crate::world::{Birth, Fidelity, Happening, World};

/// A link of which nothing is heard for so long is dead.
const LINKS_LAST: u64 = 15_000_000_000;

impl<F: Fidelity> World<'_, F> {
    /// A node begins its next life.
    pub(crate) fn start(&mut self, index: usize) {
        let now = self.time_at(index);
        let access = self.access_of(index, now);
        let plan = &self.schedule.nodes[index];
        let keeps: BTreeSet<u16> = plan.keeps.iter().copied().collect();
        let addresses = self.addresses(&keeps);
        let station = &mut self.stations[index];
        debug_assert!(station.live.is_none());
        station.life += 1;
        station.began = now.mono;
        station.keeps = keeps;
        let life = u64::from(station.life);
        let birth = Birth {
            identity: &station.identity,
            stored: station.disk.read(),
            access,
            seed: bytes32(self.schedule.seed, 2 + life, index as u64),
            leases: self.leases.settings(),
            limits: limits(&plan.limits),
        };
        let mut live = Live {
            door: self.fidelity.open(now, birth),
            host: Host::new(bytes32(self.schedule.seed, 1 << 40 | life, index as u64), || {}),
        };
        let peers = Arc::clone(&self.peers);
        let mesh = F::mesh_mut(&mut live.door);
        let Incarnation { boot, .. } = mesh.incarnation();
        self.trace.note(Step::Life, self.now, index, life, boot);
        for (peer, address) in addresses {
            mesh.connect(now, peers[peer], vec![address]).expect("schedules are checked");
        }
        self.log.becomes(index, Column::Running);
        log!(self, Some(index), "begins life {life}");
        self.tape.born(self.now, index, station.life);
        let station = &self.stations[index];
        if let Some(hostile) = &station.hostile {
            self.hostile_lives.insert(boot);
            let (at, life) = (self.now + hostile.every, station.life);
            self.queue.push(at, Happening::Attack { node: index, life });
            if let Some(task) = hostile.task(live.host.handle()) {
                live.host.spawn(now, F::mesh_mut(&mut live.door), task);
            }
            self.stations[index].live = Some(live);
            return self.touch(index);
        }
        let info = self.info(index);
        for service in self.workload.services(&info) {
            let mesh = F::mesh_mut(&mut live.door);
            live.host.add_service(now, mesh, service).expect("services are well-formed");
        }
        let handle = live.host.handle();
        if let Some(task) = self.workload.start(&info, handle) {
            live.host.spawn(now, F::mesh_mut(&mut live.door), task);
            self.stations[index].background = 1;
        }
        let handle = live.host.handle();
        self.stations[index].live = Some(live);
        self.touch(index);
        for subscriber in &plan.subscribers {
            if let Some(task) = self.workload.subscribe(&info, subscriber, handle.clone()) {
                self.spawn(index, task);
            }
        }
    }

    /// Where these nodes are now.
    pub(super) fn addresses(&self, nodes: &BTreeSet<u16>) -> Vec<(usize, SocketAddr)> {
        let nodes = nodes.iter().map(|node| usize::from(*node));
        nodes.map(|node| (node, self.stations[node].address)).collect()
    }

    /// What a node that starts now may do, or pretends that it may.
    fn access_of(&mut self, index: usize, now: Now) -> Access {
        let (true_now, lapse_at) = (self.true_time(), self.next_lapse(index));
        let Station { id, impostor, .. } = self.stations[index];
        let counter = self.stations[index].disk.life();
        let Some(rights) = &mut self.rights else { return Access::development(&id) };
        match impostor {
            Some((forgery, victim)) => {
                rights.pretends(index, Some(counter + 1));
                let victim = usize::from(victim);
                rights.forged(index, id, (victim, self.peers[victim]), true_now, forgery)
            }
            None => {
                rights.pretends(index, None);
                rights.access(index, id, now, true_now, lapse_at)
            }
        }
    }

    /// When the token expires that a node gets now.
    fn next_lapse(&self, index: usize) -> Option<u64> {
        let of_node =
            |what: &Trouble| matches!(what, Trouble::Lapse { node } if usize::from(*node) == index);
        let lapses = self.schedule.faults.iter().filter(|fault| of_node(&fault.what));
        let to_come = lapses.map(|fault| fault.at_us * 1_000).filter(|at| *at > self.now);
        to_come.min().filter(|_| !self.healing)
    }

    /// A node gets a new token.
    pub(super) fn renew(&mut self, index: usize) {
        let (now, true_now, lapse_at) =
            (self.time_at(index), self.true_time(), self.next_lapse(index));
        let station = &mut self.stations[index];
        if station.paused.is_some() {
            // It gets it when it goes on.
            return;
        }
        let Some(rights) = &mut self.rights else { return };
        let token = rights.renew(index, station.id, true_now, lapse_at);
        if let (Some(live), None) = (&mut station.live, station.impostor) {
            // By a clock that is wrong it does not count; the node gets it again when it starts.
            let _ = F::mesh_mut(&mut live.door).take_token(now, token);
            self.touch(index);
        }
    }

    /// A node hears of the newest descriptor.
    pub(super) fn inform(&mut self, index: usize) {
        let now = self.time_at(index);
        let station = &mut self.stations[index];
        let (Some(rights), Some(live)) = (&mut self.rights, &mut station.live) else { return };
        if station.paused.is_none()
            && let Some(chain) = rights.news_for(index)
            && F::mesh_mut(&mut live.door).take_descriptor(now, chain).is_ok()
        {
            if rights.told(index) {
                self.network.tally.bite(FaultKind::Acceptors);
            }
            self.touch(index);
        }
    }

    /// A node is gone, now.
    pub(super) fn take_down(&mut self, index: usize, how: &str) {
        F::vanished(self, index);
        self.doubt(index);
        self.hide_hold(index);
        self.tape.died(self.now, index, &self.peers, how);
        self.tape.resumed(self.now, index);
        self.log.becomes(index, Column::Down);
        let station = &mut self.stations[index];
        station.live = None;
        station.armed = None;
        station.stopped = false;
        station.stopping = None;
        station.paused = None;
        station.held.clear();
        station.backlog.clear();
        station.busy_until = 0;
        self.look_at_lease(index);
    }

    pub(super) fn resume(&mut self, index: usize) {
        let Some(since) = self.stations[index].paused.take() else { return };
        self.ledger.paused(index, since, self.now);
        if self.now - since > LINKS_LAST {
            self.ledger.sometimes(sometimes::LONG_PAUSE);
        }
        if self.stations[index].stopping.is_some() {
            self.ledger.sometimes(sometimes::PAUSED_IN_STOP);
        }
        if let Some(told) = &mut self.stations[index].stopping {
            // A node that stops has all its time when it goes on.
            *told += self.now - since;
        }
        self.log.becomes(index, Column::Running);
        log!(self, Some(index), "goes on after a pause");
        self.tape.resumed(self.now, index);
        self.answer_held(index);
        let mut held = std::mem::take(&mut self.stations[index].backlog);
        held.append(&mut self.stations[index].held);
        for parcel in held {
            // It may stop, or its transport may give up, on the way.
            if self.stations[index].live.is_some() {
                F::arrive(self, index, parcel);
            }
        }
        F::resumed(self, index);
        self.inform(index);
        if self.rights.as_ref().is_some_and(|rights| rights.is_in_need(index, self.true_time())) {
            self.renew(index);
        }
        let now = self.time_at(index);
        if let Some(live) = &mut self.stations[index].live {
            F::handle_timeout(&mut live.door, now);
            self.touch(index);
        }
        self.check();
    }
}
