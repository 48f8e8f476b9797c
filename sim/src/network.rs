//! What becomes of a message between two nodes: lost, late, doubled, damaged, held back.
//!
//! The fate of each message follows from (seed, path, how many went that way before), so it does not
//! depend on what happens elsewhere.

use crate::faults::{FaultKind, Tally};
use crate::random::{below, exponential, mix};
use crate::schedule::{Fault, Latency, NetworkPlan, Trouble};

const US: u64 = 1_000;

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does not arrive.
    Lost(FaultKind),
    /// It arrives so many nanoseconds later, and a second time if `again` says so.
    Arrives { after: u64, again: Option<u64>, damaged: bool },
}

/// What the faults that are on mean for one directed path.
#[derive(Clone, Debug, Default)]
struct Path {
    cut: Option<FaultKind>,
    loss_per_mille: u32,
    duplicate_per_mille: u32,
    corrupt_per_mille: u32,
    reorder_per_mille: u32,
    reorder_extra: u64,
    slow_extra: u64,
    sent: u64,
    /// When the last message that was held back to be overtaken arrives.
    held_until: u64,
}

/// The network between all nodes.
pub(crate) struct Network {
    seed: u64,
    /// From when on messages meet the fates of another seed, and which.
    pub(crate) reseed: Option<(u64, u64)>,
    count: usize,
    plan: NetworkPlan,
    paths: Vec<Path>,
    on: Vec<usize>,
    pub(crate) tally: Tally,
}

impl Network {
    pub(crate) fn new(seed: u64, count: usize, plan: NetworkPlan) -> Self {
        let paths = vec![Path::default(); count * count];
        let (reseed, on, tally) = (None, Vec::new(), Tally::default());
        Network { seed, reseed, count, plan, paths, on, tally }
    }

    pub(crate) fn window_frames(&self) -> u32 {
        self.plan.window_frames
    }

    /// A fault of the network begins or ends; the index is its place in `faults`.
    pub(crate) fn switch(&mut self, faults: &[Fault], index: usize, on: bool) {
        self.on.retain(|other| *other != index);
        if on {
            self.on.push(index);
        }
        for path in &mut self.paths {
            let (sent, held_until) = (path.sent, path.held_until);
            *path = Path { sent, held_until, ..Path::default() };
        }
        for index in &self.on {
            for from in 0..self.count {
                for to in 0..self.count {
                    let path = &mut self.paths[from * self.count + to];
                    apply(&faults[*index].what, from as u16, to as u16, path);
                }
            }
        }
    }

    /// Decides what becomes of a message that leaves now.
    pub(crate) fn fate(&mut self, now: u64, from: usize, to: usize, bytes: usize) -> Fate {
        let path = &mut self.paths[from * self.count + to];
        path.sent += 1;
        let seed = self.reseed.filter(|(from, _)| now >= *from).map_or(self.seed, |(_, seed)| seed);
        let random = |what: u64| {
            let place = (from as u64) << 32 | to as u64;
            mix(seed, place, path.sent, what)
        };
        let happens = |what: u64, per_mille: u32| {
            per_mille > 0 && below(random(what), 1_000) < u64::from(per_mille)
        };
        if let Some(kind) = path.cut {
            self.tally.bite(kind);
            return Fate::Lost(kind);
        }
        if happens(1, path.loss_per_mille) {
            self.tally.bite(FaultKind::Loss);
            return Fate::Lost(FaultKind::Loss);
        }
        let on_the_way = |random: u64| match self.plan.latency {
            Latency::Constant { us } => us * US,
            Latency::Exponential { least_us, mean_us } => {
                least_us * US + exponential(random, mean_us * US)
            }
            Latency::Bimodal { fast_us, slow_us, slow_per_mille } => {
                let slow = below(random, 1_000) < u64::from(slow_per_mille);
                US * if slow { slow_us } else { fast_us }
            }
        };
        let mut after = on_the_way(random(2)) + bytes as u64 * US / self.plan.bytes_per_us;
        if path.slow_extra > 0 {
            after += path.slow_extra;
            self.tally.bite(FaultKind::Slow);
        }
        if happens(3, path.reorder_per_mille) {
            after += below(random(4), path.reorder_extra) + 1;
            path.held_until = path.held_until.max(now + after);
        } else if now + after < path.held_until {
            path.held_until = 0;
            self.tally.bite(FaultKind::Reorder);
        }
        let mut again = None;
        if happens(5, path.duplicate_per_mille) {
            again = Some(after + below(random(6), 5_000 * US));
            self.tally.bite(FaultKind::Duplicate);
        }
        let damaged = happens(7, path.corrupt_per_mille);
        if damaged {
            self.tally.bite(FaultKind::Corrupt);
        }
        Fate::Arrives { after, again, damaged }
    }
}

fn apply(trouble: &Trouble, from: u16, to: u16, path: &mut Path) {
    let pair = |a: u16, b: u16| (from, to) == (a, b) || (from, to) == (b, a);
    match trouble {
        Trouble::Loss { per_mille, path: only } => {
            if only.is_none_or(|only| only == (from, to)) {
                path.loss_per_mille = path.loss_per_mille.max(*per_mille);
            }
        }
        Trouble::Duplicate { per_mille } => path.duplicate_per_mille = *per_mille,
        Trouble::Corrupt { per_mille } => path.corrupt_per_mille = *per_mille,
        Trouble::Reorder { per_mille, extra_us } => {
            path.reorder_per_mille = *per_mille;
            path.reorder_extra = extra_us * US;
        }
        Trouble::Slow { a, b, extra_us } => {
            if pair(*a, *b) {
                path.slow_extra += extra_us * US;
            }
        }
        Trouble::Partition { side } => {
            if side.contains(&from) != side.contains(&to) {
                path.cut = Some(FaultKind::Partition);
            }
        }
        Trouble::OneWay { from: senders, to: receivers } => {
            if senders.contains(&from) && receivers.contains(&to) {
                path.cut = Some(FaultKind::OneWay);
            }
        }
        Trouble::Partial { a, b } => {
            if pair(*a, *b) {
                path.cut = Some(FaultKind::Partial);
            }
        }
        Trouble::Crash { .. }
        | Trouble::Stop { .. }
        | Trouble::Pause { .. }
        | Trouble::Dials { .. }
        | Trouble::LoseDisk { .. }
        | Trouble::Readdress { .. }
        | Trouble::Replay { .. }
        | Trouble::Clock { .. }
        | Trouble::Lapse { .. }
        | Trouble::Revoke { .. }
        | Trouble::Impostor { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let latency = Latency::Constant { us: 100 };
        Network::new(1, 3, NetworkPlan { latency, bytes_per_us: 10, window_frames: 8 })
    }

    fn fault(what: Trouble) -> Vec<Fault> {
        vec![Fault { at_us: 0, until_us: 1, what }]
    }

    #[test]
    fn a_partial_partition_cuts_one_pair_and_ends() {
        let mut network = network();
        let faults = fault(Trouble::Partial { a: 0, b: 1 });
        network.switch(&faults, 0, true);
        assert_eq!(network.fate(0, 1, 0, 10), Fate::Lost(FaultKind::Partial));
        assert!(matches!(network.fate(0, 0, 2, 10), Fate::Arrives { after: 101_000, .. }));
        network.switch(&faults, 0, false);
        assert!(matches!(network.fate(0, 1, 0, 10), Fate::Arrives { .. }));
    }

    #[test]
    fn a_one_way_partition_lets_the_other_way_through() {
        let mut network = network();
        let faults = fault(Trouble::OneWay { from: vec![0], to: vec![1, 2] });
        network.switch(&faults, 0, true);
        assert_eq!(network.fate(0, 0, 1, 0), Fate::Lost(FaultKind::OneWay));
        assert!(matches!(network.fate(0, 1, 0, 0), Fate::Arrives { .. }));
    }

    #[test]
    fn a_messages_fate_follows_from_its_number_alone() {
        let faults = fault(Trouble::Loss { per_mille: 500, path: None });
        let fates = |between: bool| {
            let mut network = network();
            network.switch(&faults, 0, true);
            let mut fates = Vec::new();
            for _ in 0..50 {
                fates.push(network.fate(0, 0, 1, 0));
                if between {
                    network.fate(0, 1, 2, 0);
                }
            }
            fates
        };
        assert_eq!(fates(false), fates(true));
    }
}
