//! A node's disk: what is durable on it, what was written and may be lost, and what goes wrong with it.
//!
//! It keeps the promises of a sound store and no others. Requests reach it in their order, and one sync makes durable
//! whatever was written when it began. In a crash each of the requests behind that has reached the disk whole,
//! or in part, or not at all; one that is torn is known by its checksum and taken for none, with all behind it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use dunlin_core::store::{Record, StoreInput, StoreRequest, Stored, Table};

use crate::faults::FaultKind;
use crate::random::{below, mix};

/// What is wrong with a disk, until the fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ailment {
    /// A sync takes so many nanoseconds more.
    Slow(u64),
    /// Nothing more fits.
    Full,
    /// No sync succeeds.
    FailsToSync,
    /// The node dies in its next sync.
    Tears,
}

impl Ailment {
    fn kind(self) -> FaultKind {
        match self {
            Ailment::Slow(_) => FaultKind::SlowDisk,
            Ailment::Full => FaultKind::FullDisk,
            Ailment::FailsToSync => FaultKind::FailSync,
            Ailment::Tears => FaultKind::TornWrite,
        }
    }
}

/// What a sync that begins will come to.
pub(crate) struct Sync {
    /// How many nanoseconds it takes more than others.
    pub(crate) longer: u64,
    /// It does not end: the node dies in it.
    pub(crate) tears: bool,
    /// The fault that is to blame for either.
    pub(crate) bites: Option<FaultKind>,
}

/// The key of the record by which an acceptor says that it knows all its promises: a network and an epoch.
const LEASE_KEY_LEAST: usize = 40;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Disk {
    durable: BTreeMap<(u8, Bytes), Bytes>,
    /// What was written since the last sync that has ended, oldest first.
    written: VecDeque<StoreRequest>,
    /// The last request that the sync under way makes durable.
    syncing: Option<u64>,
    /// What ails it, and which fault of the schedule brought it.
    ailment: Option<(usize, Ailment)>,
    /// It has lost something that was durable.
    pub(crate) has_forgotten: bool,
    /// A record was lost, and its node is told so when it starts.
    is_damaged: bool,
    /// The answer of a sync that ended while the node was paused.
    pub(crate) held: Option<StoreInput>,
}

impl Disk {
    /// A fault of the schedule begins to ail it.
    pub(crate) fn ail(&mut self, fault: usize, ailment: Ailment) {
        self.ailment = Some((fault, ailment));
    }

    /// A fault of the schedule is over.
    pub(crate) fn recover(&mut self, fault: usize) {
        self.ailment = self.ailment.filter(|(by, _)| *by != fault);
    }

    /// All faults are over.
    pub(crate) fn heal(&mut self) {
        self.ailment = None;
    }

    /// Takes a request. A disk that is full takes none.
    pub(crate) fn write(&mut self, request: StoreRequest) -> Result<(), StoreInput> {
        if matches!(self.ailment, Some((_, Ailment::Full))) {
            return Err(StoreInput::Failed { why: "no space is left on the disk".into() });
        }
        self.written.push_back(request);
        Ok(())
    }

    /// Begins to sync, if there is something to and no other sync is under way.
    pub(crate) fn begin_sync(&mut self) -> Option<Sync> {
        if self.syncing.is_some() {
            return None;
        }
        self.syncing = Some(self.written.back()?.seq);
        let ailment = self.ailment.map(|(_, ailment)| ailment);
        let longer = if let Some(Ailment::Slow(longer)) = ailment { longer } else { 0 };
        let tears = ailment == Some(Ailment::Tears);
        let bites = ailment.filter(|_| longer > 0 || tears).map(Ailment::kind);
        Some(Sync { longer, tears, bites })
    }

    /// The sync under way ends. What the node is told, and the fault that is to blame for it.
    pub(crate) fn end_sync(&mut self) -> Option<(StoreInput, Option<FaultKind>)> {
        let seq = self.syncing?;
        if let Some((_, ailment @ Ailment::FailsToSync)) = self.ailment {
            // It counts as under way for as long as the node lives: nothing is synced behind it.
            let why = "the disk could not sync".into();
            return Some((StoreInput::Failed { why }, Some(ailment.kind())));
        }
        self.syncing = None;
        while self.written.front().is_some_and(|request| request.seq <= seq) {
            let request = self.written.pop_front().expect("just looked");
            self.apply(request);
        }
        Some((StoreInput::Durable { seq }, None))
    }

    fn apply(&mut self, request: StoreRequest) {
        for write in request.writes {
            // An acceptor knows again what it has promised.
            let is_whole = write.table == Table::Lease && write.key.len() == LEASE_KEY_LEAST;
            self.is_damaged &= !is_whole;
            let place = (write.table.number(), write.key);
            match write.value {
                Some(value) => self.durable.insert(place, value),
                None => self.durable.remove(&place),
            };
        }
    }

    /// How many requests would be in doubt if the node died now.
    pub(crate) fn in_doubt(&self) -> usize {
        self.written.len()
    }

    /// The node is gone. What it wrote and did not sync is there up to some request; `random` says to which.
    pub(crate) fn crash(&mut self, random: u64) {
        let survive = below(random, self.written.len() as u64 + 1);
        for _ in 0..survive {
            let request = self.written.pop_front().expect("no more survive than there are");
            self.apply(request);
        }
        self.written.clear();
        self.syncing = None;
        self.held = None;
    }

    /// Loses everything.
    pub(crate) fn wipe(&mut self) {
        self.has_forgotten |= !self.durable.is_empty();
        self.durable.clear();
        self.is_damaged = false;
    }

    /// One record becomes unreadable; which one, `random` says. What it was; none if there is no record. The node
    /// does without it when it starts, as its store says that its checksum is wrong.
    pub(crate) fn rot(&mut self, random: u64) -> Option<Record> {
        let place = below(random, self.durable.len() as u64) as usize;
        let place = self.durable.keys().nth(place)?.clone();
        let value = self.durable.remove(&place)?;
        self.has_forgotten = true;
        self.is_damaged = true;
        Some(Record { table: place.0, key: place.1, value })
    }

    /// What a node that starts now is given.
    pub(crate) fn read(&self) -> Stored {
        let mut stored = Stored::default();
        if self.is_damaged {
            stored.note_damage();
        }
        for ((table, key), value) in &self.durable {
            let record = Record { table: *table, key: key.clone(), value: value.clone() };
            stored.read(&record).expect("the node reads what it has written");
        }
        stored
    }

    /// The counter of the last life that is stored.
    pub(crate) fn life(&self) -> u64 {
        let life = self.durable.get(&(Table::Life.number(), Bytes::new()));
        life.map_or(0, |life| u64::from_be_bytes(life[..].try_into().expect("eight bytes")))
    }
}

/// Randomness for the fate of a disk at this moment.
pub(crate) fn fate(seed: u64, node: usize, now: u64) -> u64 {
    mix(seed, node as u64, now, 0xd15c)
}

#[cfg(test)]
mod tests {
    use dunlin_core::store::Write;

    use super::*;

    fn life(seq: u64, counter: u64) -> StoreRequest {
        let value = Some(Bytes::copy_from_slice(&counter.to_be_bytes()));
        StoreRequest { seq, writes: vec![Write { table: Table::Life, key: Bytes::new(), value }] }
    }

    #[test]
    fn a_sync_makes_durable_what_was_written_when_it_began() {
        let mut disk = Disk::default();
        disk.write(life(1, 7)).unwrap();
        assert!(disk.begin_sync().is_some_and(|sync| sync.bites.is_none()));
        disk.write(life(2, 8)).unwrap();
        assert!(disk.begin_sync().is_none(), "one is under way");
        assert_eq!(disk.end_sync(), Some((StoreInput::Durable { seq: 1 }, None)));
        assert_eq!((disk.life(), disk.in_doubt()), (7, 1));
        // Neither has to survive what nobody was told of.
        disk.crash(0);
        assert_eq!((disk.life(), disk.in_doubt()), (7, 0));
        assert!(!disk.has_forgotten);
    }

    #[test]
    fn what_was_not_synced_may_survive() {
        let survivors = [0, u64::MAX / 2, u64::MAX].map(|random| {
            let mut disk = Disk::default();
            disk.write(life(1, 1)).unwrap();
            disk.write(life(2, 2)).unwrap();
            disk.crash(random);
            disk.life()
        });
        assert_eq!(survivors, [0, 1, 2]);
    }

    #[test]
    fn a_disk_that_ails_says_so() {
        let mut disk = Disk::default();
        disk.ail(3, Ailment::Full);
        assert!(matches!(disk.write(life(1, 1)), Err(StoreInput::Failed { .. })));
        disk.recover(4);
        assert!(disk.write(life(1, 1)).is_err(), "that was another fault");
        disk.ail(5, Ailment::FailsToSync);
        disk.write(life(1, 1)).unwrap();
        disk.begin_sync();
        let (told, by) = disk.end_sync().unwrap();
        assert!(matches!(told, StoreInput::Failed { .. }) && by == Some(FaultKind::FailSync));
        assert!(disk.begin_sync().is_none(), "nobody tries again");
        disk.crash(0);
        disk.write(life(1, 1)).unwrap();
        disk.ail(6, Ailment::Slow(9));
        assert_eq!(disk.begin_sync().map(|sync| (sync.longer, sync.tears)), Some((9, false)));
    }

    #[test]
    fn what_is_lost_is_known_to_be() {
        let mut disk = Disk::default();
        assert!(disk.rot(1).is_none());
        disk.write(life(1, 4)).unwrap();
        disk.begin_sync();
        disk.end_sync();
        assert!(disk.rot(1).is_some() && disk.has_forgotten);
        assert_eq!(disk.life(), 0);
    }
}
