//! What nodes store, and what their disks make of it.

use dunlin_core::store::StoreInput;

use crate::disk::{Ailment, fate};
use crate::faults::FaultKind;
use crate::log::log;
use crate::network::on_the_way;
use crate::random::mix;
use crate::sometimes;
use crate::trace::Step;
use crate::world::{Fidelity, Happening, World};

impl<F: Fidelity> World<'_, F> {
    /// Has a node's disk take what the node wants stored. Says whether the node was answered at once.
    pub(super) fn store(&mut self, index: usize) -> bool {
        let mut refused = None;
        let station = &mut self.stations[index];
        if let Some(live) = &mut station.live {
            let mesh = F::mesh_mut(&mut live.door);
            while let Some(request) = mesh.poll_store() {
                self.trace.note(Step::Stored, self.now, index, request.seq, 0);
                refused = refused.or(station.disk.write(request).err());
            }
        }
        if let Some(refusal) = refused {
            self.network.tally.bite(FaultKind::FullDisk);
            self.answer_store(index, refusal);
            return true;
        }
        self.sync(index)
    }

    /// Begins a sync, if there is something to. Says whether the node was answered at once.
    fn sync(&mut self, index: usize) -> bool {
        let station = &mut self.stations[index];
        let Some(sync) = station.disk.begin_sync() else { return false };
        if let Some(kind) = sync.bites {
            self.network.tally.bite(kind);
        }
        let random = mix(self.schedule.seed, index as u64, self.now, 0x5f9c);
        let takes = self.schedule.disk_sync.map_or(0, |usual| on_the_way(usual, random));
        let (life, now) = (station.life, self.now);
        if sync.tears {
            // Somewhere in its midst.
            let at = now + fate(self.schedule.seed, index, now) % (takes + 1);
            self.queue.push(at, Happening::Torn { node: index, life });
            return false;
        }
        match takes + sync.longer {
            0 => self.end_sync(index),
            takes => {
                self.queue.push(now + takes, Happening::Synced { node: index, life });
                false
            }
        }
    }

    /// A sync ends. Says whether the node was answered.
    fn end_sync(&mut self, index: usize) -> bool {
        let station = &mut self.stations[index];
        let Some((told, by)) = station.disk.end_sync() else { return false };
        if let Some(kind) = by {
            self.network.tally.bite(kind);
        }
        if station.paused.is_some() {
            // It hears of it when it goes on.
            station.disk.held = Some(told);
            return false;
        }
        self.answer_store(index, told);
        true
    }

    fn answer_store(&mut self, index: usize, told: StoreInput) {
        let now = self.time_at(index);
        let seq = if let StoreInput::Durable { seq } = told { seq } else { 0 };
        self.trace.note(Step::Stored, self.now, index, seq, 1);
        if let StoreInput::Failed { why } = &told {
            log!(self, Some(index), "its store fails: {why}");
        }
        if let Some(live) = &mut self.stations[index].live {
            let mesh = F::mesh_mut(&mut live.door);
            mesh.handle_store(now, told).expect("a disk tells the truth");
        }
    }

    /// A sync of this life is due to end.
    pub(super) fn synced(&mut self, index: usize, life: u32) {
        if self.stations[index].live.is_none() || self.stations[index].life != life {
            return;
        }
        self.events += 1;
        if self.end_sync(index) {
            self.touch(index);
            self.check();
        }
    }

    /// A node dies in the midst of a sync of this life.
    pub(super) fn torn(&mut self, index: usize, life: u32) {
        if self.stations[index].live.is_none() || self.stations[index].life != life {
            return;
        }
        self.events += 1;
        log!(self, Some(index), "dies while its disk syncs");
        self.take_down(index, FaultKind::TornWrite.name());
    }

    /// What was held for a node while it was paused.
    pub(super) fn answer_held(&mut self, index: usize) {
        if let Some(told) = self.stations[index].disk.held.take() {
            self.answer_store(index, told);
        }
    }

    /// A disk begins to ail. Its node starts anew: that is when it has something to store.
    pub(super) fn ail(&mut self, index: usize, fault: usize, ailment: Ailment) {
        let station = &mut self.stations[index];
        if station.live.is_none() || station.impostor.is_some() {
            return;
        }
        station.disk.ail(fault, ailment);
        log!(self, Some(index), "dies, and begins anew on a disk that ails: {ailment:?}");
        self.note_death(index);
        self.take_down(index, "restarted");
        self.start(index);
    }

    /// The node is gone: what it had not synced is in doubt.
    pub(super) fn doubt(&mut self, index: usize) {
        let (seed, now) = (self.schedule.seed, self.now);
        let disk = &mut self.stations[index].disk;
        if disk.in_doubt() > 0 {
            self.ledger.sometimes(sometimes::CRASHED_IN_SYNC);
        }
        disk.crash(fate(seed, index, now));
    }

    /// A record on a node's disk cannot be read any more.
    pub(super) fn rot(&mut self, index: usize) {
        let random = fate(self.schedule.seed, index, self.now);
        if let Some(record) = self.stations[index].disk.rot(random) {
            self.network.tally.bite(FaultKind::Rot);
            self.note_promises_lost(index);
            log!(self, Some(index), "a record of table {} is unreadable from now on", record.table);
        }
    }
}
