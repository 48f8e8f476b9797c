//! The faults of the schedule, from their beginning to their end, and the end of them all.

use crate::disk::Ailment;
use crate::faults::FaultKind;
use crate::hostile::Hostile;
use crate::log::{Column, log};
use crate::schedule::Trouble;
use crate::sometimes;
use crate::station::{Station, address};
use crate::trace::Step;
use crate::world::{Fidelity, Happening, World};

/// A stop lasts at most the grace of the handlers, the flush of the links, and a little.
const STOP_MAX_NANOS: u64 = 8_000_000_000;

impl<F: Fidelity> World<'_, F> {
    pub(super) fn fault_begins(&mut self, index: usize) {
        let fault = &self.schedule.faults[index];
        let kind = FaultKind::of(&fault.what);
        self.trace.note_given(Step::Fault, self.now, 0, index as u64, 1);
        self.network.tally.apply(kind);
        self.queue.push(fault.until_us * 1_000, Happening::FaultEnds(index));
        log!(self, None, "fault begins: {:?}", fault.what);
        self.tape.fault_begins(self.now, index, fault);
        match fault.what {
            Trouble::Crash { node } | Trouble::LoseDisk { node } | Trouble::Readdress { node } => {
                let node = usize::from(node);
                if self.stations[node].live.is_some() {
                    if kind != FaultKind::LoseDisk {
                        self.network.tally.bite(kind);
                    }
                    log!(self, Some(node), "dies");
                    self.note_death(node);
                    self.take_down(node, kind.name());
                    if kind == FaultKind::LoseDisk {
                        self.stations[node].disk.wipe();
                        self.note_promises_lost(node);
                    }
                }
            }
            Trouble::Rot { node } => {
                let node = usize::from(node);
                if self.stations[node].live.is_some() {
                    log!(self, Some(node), "dies");
                    self.note_death(node);
                    self.take_down(node, kind.name());
                    self.rot(node);
                }
            }
            Trouble::SlowNode { node, each_us } => {
                let each = each_us * 1_000;
                self.stations[usize::from(node)].slow = Some((index, each));
                // What it is at, and what it comes to first. Where an input may take few steps only, it comes to
                // each in many turns.
                let limits = &self.schedule.nodes[usize::from(node)].limits;
                let turns = if limits.steps_per_input_max > 0 { 600 } else { 4 };
                self.ledger.set_late(usize::from(node), turns * each);
            }
            Trouble::SlowDisk { node, extra_us } => {
                self.ail(usize::from(node), index, Ailment::Slow(extra_us * 1_000));
            }
            Trouble::FullDisk { node } => self.ail(usize::from(node), index, Ailment::Full),
            Trouble::FailSync { node } => self.ail(usize::from(node), index, Ailment::FailsToSync),
            Trouble::TornWrite { node } => self.ail(usize::from(node), index, Ailment::Tears),
            Trouble::Dials { a, b } => self.dial_each_other(usize::from(a), usize::from(b)),
            Trouble::Replay { from, to } => {
                let (from, to) = (usize::from(from), usize::from(to));
                let runs =
                    |n: usize| self.stations[n].live.is_some() && self.stations[n].paused.is_none();
                if runs(to) && F::replay(self, from, to) {
                    self.network.tally.bite(kind);
                }
            }
            Trouble::Stop { node } => {
                let node = usize::from(node);
                let now = self.time_at(node);
                let station = &mut self.stations[node];
                if let (Some(live), None, None) =
                    (&mut station.live, station.paused, station.stopping)
                {
                    self.network.tally.bite(kind);
                    if F::mesh(&live.door).load().invocations > 0 {
                        self.ledger.sometimes(sometimes::STOPPED_IN_RUN);
                    }
                    station.stopping = Some(self.now);
                    F::mesh_mut(&mut live.door).shutdown(now);
                    log!(self, Some(node), "is told to stop");
                    self.touch(node);
                }
            }
            Trouble::Clock { node, by_ms } => {
                self.switch_right(kind, node, true);
                self.stations[usize::from(node)].clock_wrong_ms += by_ms;
            }
            // Its token was made so.
            Trouble::Lapse { node } => self.switch_right(kind, node, true),
            Trouble::Revoke { node, ref told } => {
                self.switch_right(kind, node, true);
                if let Some(rights) = &mut self.rights {
                    rights.revoke(usize::from(node));
                }
                for node in told {
                    self.inform(usize::from(*node));
                }
            }
            Trouble::Acceptors { ref members, ref told } => {
                self.name_acceptors(members);
                for node in told {
                    self.inform(usize::from(*node));
                }
            }
            Trouble::Impostor { node, forgery, victim } => {
                let node = usize::from(node);
                if self.stations[node].live.is_some() && self.stations[node].impostor.is_none() {
                    self.switch_right(kind, node as u16, true);
                    log!(self, Some(node), "dies, and an impostor takes its place");
                    self.take_down(node, kind.name());
                    self.stations[node].impostor = Some((forgery, victim));
                    self.start(node);
                }
            }
            Trouble::Hostile { node, .. } => self.turn_hostile(usize::from(node), index),
            Trouble::Pause { node } => {
                let station = &mut self.stations[usize::from(node)];
                if station.live.is_some() && station.paused.is_none() {
                    station.paused = Some(self.now);
                    self.tape.paused(self.now, usize::from(node));
                    self.log.becomes(usize::from(node), Column::Paused);
                }
            }
            _ => self.network.switch(index, true),
        }
    }

    /// Something arrives at a node that is slow: it comes to it when it has time.
    pub(super) fn wait_its_turn(&mut self, index: usize, parcel: F::Parcel) {
        let now = self.now;
        let station = &mut self.stations[index];
        let is_first = station.backlog.is_empty();
        station.backlog.push_back(parcel);
        if is_first {
            let (at, life) = (station.busy_until.max(now), station.life);
            self.queue.push(at, Happening::Turn { node: index, life });
        }
    }

    /// A slow node has time for what has waited longest.
    pub(super) fn next_turn(&mut self, index: usize, life: u32) {
        let now = self.now;
        let station = &mut self.stations[index];
        let Some((_, each)) = station.slow else { return };
        if station.life != life || station.paused.is_some() || station.live.is_none() {
            return;
        }
        if now < station.busy_until {
            // It was woken meanwhile.
            self.queue.push(station.busy_until, Happening::Turn { node: index, life });
            return;
        }
        let Some(parcel) = station.backlog.pop_front() else { return };
        station.busy_until = now + each;
        if !station.backlog.is_empty() {
            self.network.tally.bite(FaultKind::SlowNode);
            self.queue.push(now + each, Happening::Turn { node: index, life });
        }
        self.events += 1;
        // It looks at its clock before it takes anything in, as a shell does.
        let now = self.time_at(index);
        if let Some(live) = &mut self.stations[index].live {
            F::handle_timeout(&mut live.door, now);
        }
        F::arrive(self, index, parcel);
        self.touch(index);
        self.check();
    }

    /// A node is as quick as others again, if this fault made it slow.
    fn hurry(&mut self, node: usize, fault: usize) {
        if self.stations[node].slow.is_some_and(|(by, _)| by == fault) {
            self.hurry_up(node);
        }
    }

    /// A node is as quick as others: it takes at once what has waited.
    fn hurry_up(&mut self, node: usize) {
        let station = &mut self.stations[node];
        if station.slow.take().is_none() || station.paused.is_some() {
            return;
        }
        for parcel in std::mem::take(&mut station.backlog) {
            if self.stations[node].live.is_some() {
                F::arrive(self, node, parcel);
            }
        }
        if self.stations[node].live.is_some() {
            self.touch(node);
        }
        self.check();
    }

    /// What a node leaves undone that dies now.
    pub(super) fn note_death(&self, node: usize) {
        let Some(mesh) = self.mesh(node) else { return };
        let load = mesh.load();
        let others_down = self.stations.iter().any(|station| station.live.is_none());
        let states = [
            (load.invocations > 0, sometimes::CRASHED_IN_RUN),
            (load.calls_open > 0, sometimes::CRASHED_IN_CALL),
            (load.events_unacknowledged > 0, sometimes::CRASHED_IN_EVENT),
            (others_down, sometimes::SEVERAL_DOWN),
        ];
        for (_, rare) in states.into_iter().filter(|(is_reached, _)| *is_reached) {
            self.ledger.sometimes(rare);
        }
    }

    fn switch_right(&mut self, kind: FaultKind, node: u16, on: bool) {
        if let Some(rights) = &mut self.rights {
            rights.switch(kind, usize::from(node), on);
        }
    }

    /// An impostor gives way to the node whose key it had.
    fn unmask(&mut self, node: usize) {
        if self.stations[node].impostor.take().is_some() && self.stations[node].live.is_some() {
            self.take_down(node, "unmasked");
            self.start(node);
        }
    }

    /// A node dies, and what runs there from now on is hostile.
    fn turn_hostile(&mut self, node: usize, fault: usize) {
        let station = &self.stations[node];
        if station.live.is_none() || station.impostor.is_some() || station.hostile.is_some() {
            return;
        }
        log!(self, Some(node), "turns against the others");
        self.note_death(node);
        self.take_down(node, FaultKind::Hostile.name());
        self.stations[node].hostile = Hostile::of(self.schedule, fault);
        self.start(node);
    }

    /// A node is honest again if this fault made it hostile; without a fault, in any case.
    pub(crate) fn turn_back(&mut self, node: usize, fault: Option<usize>) {
        let hostile = &self.stations[node].hostile;
        let by = hostile.as_ref().map(|hostile| hostile.fault);
        if by.is_none() || fault.is_some() && fault != by {
            return;
        }
        self.stations[node].hostile = None;
        if self.stations[node].live.is_some() {
            self.take_down(node, "hostile no more");
            self.start(node);
        }
    }

    /// A node dies, and starts again at once.
    pub(crate) fn begin_anew(&mut self, node: usize) {
        log!(self, Some(node), "dies, and starts again");
        self.note_death(node);
        self.take_down(node, "dies, and starts again");
        self.start(node);
    }

    /// A hostile node acts, and does so again.
    pub(super) fn attack(&mut self, node: usize, life: u32) {
        let station = &mut self.stations[node];
        if station.life != life || station.live.is_none() {
            return;
        }
        let is_kept_from_it = station.paused.is_some() || station.stopping.is_some();
        let Some(mut hostile) = station.hostile.clone() else { return };
        self.queue.push(self.now + hostile.every, Happening::Attack { node, life });
        let acted = !is_kept_from_it && F::attack(self, node, &mut hostile);
        self.stations[node].hostile = Some(hostile);
        if acted {
            self.events += 1;
            self.network.tally.bite(FaultKind::Hostile);
            self.check();
        }
    }

    /// Two nodes let go of each other and dial each other at one instant.
    fn dial_each_other(&mut self, a: usize, b: usize) {
        let nows = [self.time_at(a), self.time_at(b)];
        let ready = |station: &Station<F>| {
            station.live.is_some() && station.paused.is_none() && station.stopping.is_none()
        };
        if !ready(&self.stations[a]) || !ready(&self.stations[b]) {
            return;
        }
        for ((here, there), now) in [(a, b), (b, a)].into_iter().zip(nows) {
            let (peer, address) = (self.peers[there], self.stations[there].address);
            let station = &mut self.stations[here];
            station.keeps.insert(there as u16);
            if let Some(live) = &mut station.live {
                let mesh = F::mesh_mut(&mut live.door);
                mesh.disconnect(now, peer);
                mesh.connect(now, peer, vec![address]).expect("it is not stopping");
            }
        }
        self.touch(a);
        self.touch(b);
    }

    /// Those who keep a node hear where it is now.
    fn tell_address(&mut self, node: usize) {
        let (peer, address) = (self.peers[node], self.stations[node].address);
        for index in 0..self.stations.len() {
            let now = self.time_at(index);
            let station = &mut self.stations[index];
            if !station.keeps.contains(&(node as u16)) || station.paused.is_some() {
                continue;
            }
            if let Some(live) = &mut station.live {
                // Who stops does not care.
                let _ = F::mesh_mut(&mut live.door).connect(now, peer, vec![address]);
                self.touch(index);
            }
        }
    }

    pub(super) fn fault_ends(&mut self, index: usize) {
        let fault = &self.schedule.faults[index];
        let kind = FaultKind::of(&fault.what);
        self.trace.note_given(Step::Fault, self.now, 0, index as u64, 0);
        log!(self, None, "fault ends: {:?}", fault.what);
        self.tape.fault_ends(self.now, index);
        match fault.what {
            Trouble::Crash { node }
            | Trouble::Stop { node }
            | Trouble::LoseDisk { node }
            | Trouble::Rot { node } => {
                self.bring_back(usize::from(node));
            }
            Trouble::SlowNode { node, .. } => self.hurry(usize::from(node), index),
            Trouble::SlowDisk { node, .. }
            | Trouble::FullDisk { node }
            | Trouble::FailSync { node }
            | Trouble::TornWrite { node } => {
                self.stations[usize::from(node)].disk.recover(index);
                self.bring_back(usize::from(node));
            }
            Trouble::Readdress { node } => {
                let node = usize::from(node);
                if self.stations[node].live.is_none() {
                    let address = &mut self.stations[node].address;
                    address.set_port(address.port() + 1);
                    self.bring_back(node);
                    self.tell_address(node);
                }
            }
            Trouble::Dials { .. } | Trouble::Replay { .. } => {}
            Trouble::Pause { node } => self.resume(usize::from(node)),
            Trouble::Clock { node, by_ms } => {
                self.switch_right(kind, node, false);
                if !self.healing {
                    self.stations[usize::from(node)].clock_wrong_ms -= by_ms;
                }
            }
            Trouble::Lapse { node } => {
                self.switch_right(kind, node, false);
                self.renew(usize::from(node));
            }
            Trouble::Revoke { node, .. } => {
                self.switch_right(kind, node, false);
                for index in 0..self.stations.len() {
                    self.inform(index);
                }
                self.renew(usize::from(node));
            }
            Trouble::Acceptors { .. } => {
                for index in 0..self.stations.len() {
                    self.inform(index);
                }
            }
            Trouble::Impostor { node, .. } => {
                self.switch_right(kind, node, false);
                self.unmask(usize::from(node));
            }
            Trouble::Hostile { node, .. } => self.turn_back(usize::from(node), Some(index)),
            _ => self.network.switch(index, false),
        }
    }

    /// Starts a node that is down. One that has taken too long to stop is killed first.
    fn bring_back(&mut self, node: usize) {
        let station = &self.stations[node];
        if let (Some(since), Some(_)) = (station.stopping, &station.live) {
            // It takes several steps, to each of which a slow node comes late.
            let max = STOP_MAX_NANOS + 10 * self.ledger.late(node as u16);
            if station.paused.is_some() || self.now < since + max {
                return;
            }
            let what = format!("told to stop {} ago", crate::checks::seconds(self.now - since));
            self.ledger.violate(Some(node as u16), "a stop ends in time", what);
            self.take_down(node, "killed: it took too long to stop");
        }
        if self.stations[node].live.is_none() {
            self.start(node);
        }
    }

    /// Ends all faults: everybody runs, everybody can reach everybody, everybody wants what the schedule
    /// says. Whoever wants a peer already is not asked to dial it: it finds it by itself.
    pub(crate) fn heal(&mut self) {
        self.healing = true;
        log!(self, None, "faults are over");
        self.tape.healed(self.now);
        for index in 0..self.schedule.faults.len() {
            self.network.switch(index, false);
        }
        for station in &mut self.stations {
            station.clock_wrong_ms = 0;
            station.disk.heal();
        }
        for node in 0..self.stations.len() {
            self.hurry_up(node);
            self.resume(node);
            self.unmask(node);
            if self.stations[node].hostile.as_ref().is_some_and(|hostile| !hostile.lasts) {
                self.turn_back(node, None);
            }
        }
        for node in 0..self.stations.len() {
            if self.stations[node].live.is_some() && self.stations[node].stopping.is_some() {
                self.take_down(node, "killed while it stopped: faults are over");
            }
            if self.stations[node].live.is_none() {
                self.start(node);
            }
            let now = self.time_at(node);
            self.stations[node].keeps.extend(&self.schedule.nodes[node].keeps);
            let addresses = self.addresses(&self.stations[node].keeps);
            if let Some(live) = &mut self.stations[node].live {
                for (to, now_at) in addresses {
                    let mesh = F::mesh_mut(&mut live.door);
                    // It may not have heard of another address: nothing finds a peer that has moved.
                    let has_moved = now_at != address(to);
                    if has_moved || !mesh.is_kept(self.peers[to]) {
                        mesh.connect(now, self.peers[to], vec![now_at])
                            .expect("it is not stopping, and knows few");
                    }
                }
            }
            self.touch(node);
            // Everybody has a token that counts, and knows which do not.
            self.inform(node);
            self.renew(node);
        }
    }
}
