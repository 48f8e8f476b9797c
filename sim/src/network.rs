//! What becomes of a message between two nodes: lost, late, doubled, damaged, held back.
//!
//! The fate of each message follows from (seed, path, how many went that way before), so it does not
//! depend on what happens elsewhere.

use crate::faults::{FaultKind, Tally};
use crate::random::{below, exponential, mix};
use crate::schedule::{Fault, Latency, NetworkPlan, Trouble};

const US: u64 = 1_000;

/// So long one message takes at most on a narrow path.
const FRAME_TAKES_MAX: u64 = 2_000_000 * US;

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does not arrive.
    Lost(FaultKind),
    /// It arrives so many nanoseconds later, and a second time if `again` says so.
    Arrives { after: u64, again: Option<u64>, damaged: bool },
}

/// What the faults that are on mean for one directed path.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Trials {
    cut: Option<FaultKind>,
    loss_per_mille: u32,
    duplicate_per_mille: u32,
    corrupt_per_mille: u32,
    reorder_per_mille: u32,
    reorder_extra: u64,
    slow_extra: u64,
    /// What is sent before is held until then.
    clogged_until: u64,
    /// How many bytes it carries in a millisecond, and how long they may wait for that; none if that is the plan's.
    narrow: Option<(u64, u64)>,
    /// Larger datagrams are lost.
    mtu: Option<u32>,
}

/// One directed path that was used.
#[derive(Clone, Debug, Default)]
struct Path {
    /// None if there are none, as mostly.
    trials: Option<Box<Trials>>,
    /// After so many changes of the faults that are on the trials were looked up.
    looked_up: u64,
    sent: u64,
    /// When what was sent while it was narrow will have left.
    busy_until: u64,
    /// When the last message that was held back to be overtaken arrives.
    held_until: u64,
}

/// The network between all nodes.
pub(crate) struct Network<'s> {
    seed: u64,
    /// From when on messages meet the fates of another seed, and which.
    pub(crate) reseed: Option<(u64, u64)>,
    plan: NetworkPlan,
    faults: &'s [Fault],
    /// For each node the paths from it, by where they lead. Most nodes of a large world talk to few.
    paths: Vec<Vec<(u32, Path)>>,
    on: Vec<usize>,
    /// Counts the changes of the faults that are on, from 1.
    changes: u64,
    pub(crate) tally: Tally,
}

impl<'s> Network<'s> {
    pub(crate) fn new(seed: u64, count: usize, plan: NetworkPlan, faults: &'s [Fault]) -> Self {
        let paths = vec![Vec::new(); count];
        let (reseed, on, tally) = (None, Vec::new(), Tally::default());
        Network { seed, reseed, plan, faults, paths, on, changes: 1, tally }
    }

    pub(crate) fn window_frames(&self) -> u32 {
        self.plan.window_frames
    }

    /// A fault of the network begins or ends; the index is its place among the schedule's.
    pub(crate) fn switch(&mut self, index: usize, on: bool) {
        self.on.retain(|other| *other != index);
        if on {
            self.on.push(index);
        }
        self.changes += 1;
    }

    /// Decides what becomes of a message that leaves now.
    pub(crate) fn fate(&mut self, now: u64, from: usize, to: usize, bytes: usize) -> Fate {
        let seed = self.reseed.filter(|(from, _)| now >= *from).map_or(self.seed, |(_, seed)| seed);
        let Network { plan, paths, tally, .. } = self;
        let path = path_to(&mut paths[from], to);
        if path.looked_up != self.changes {
            path.looked_up = self.changes;
            let mut trials = Trials::default();
            for index in &self.on {
                apply(&self.faults[*index], from as u16, to as u16, &mut trials);
            }
            path.trials = (trials != Trials::default()).then(|| Box::new(trials));
        }
        let trials = path.trials.as_deref().copied().unwrap_or_default();
        path.sent += 1;
        let sent = path.sent;
        let random = |what: u64| {
            let place = (from as u64) << 32 | to as u64;
            mix(seed, place, sent, what)
        };
        let happens = |what: u64, per_mille: u32| {
            per_mille > 0 && below(random(what), 1_000) < u64::from(per_mille)
        };
        if let Some(kind) = trials.cut {
            tally.bite(kind);
            return Fate::Lost(kind);
        }
        if trials.mtu.is_some_and(|mtu| bytes > mtu as usize) {
            tally.bite(FaultKind::Mtu);
            return Fate::Lost(FaultKind::Mtu);
        }
        if happens(1, trials.loss_per_mille) {
            tally.bite(FaultKind::Loss);
            return Fate::Lost(FaultKind::Loss);
        }
        let on_the_way = |random: u64| on_the_way(plan.latency, random);
        let mut after = on_the_way(random(2)) + bytes as u64 * US / plan.bytes_per_us;
        if let Some((bytes_per_ms, queue)) = trials.narrow {
            let waits = path.busy_until.saturating_sub(now);
            if waits > queue {
                tally.bite(FaultKind::Narrow);
                return Fate::Lost(FaultKind::Narrow);
            }
            // A frame of the model stands for many datagrams, and must not outlast the fault by much.
            let takes = (bytes as u64 * 1_000 * US / bytes_per_ms).min(FRAME_TAKES_MAX);
            path.busy_until = now + waits + takes;
            after += waits + takes;
            if waits > 0 {
                tally.bite(FaultKind::Narrow);
            }
        }
        if trials.clogged_until > now {
            after += trials.clogged_until - now;
            tally.bite(FaultKind::Clog);
        }
        if trials.slow_extra > 0 {
            after += trials.slow_extra;
            tally.bite(FaultKind::Slow);
        }
        if happens(3, trials.reorder_per_mille) {
            after += below(random(4), trials.reorder_extra) + 1;
            path.held_until = path.held_until.max(now + after);
        } else if now + after < path.held_until {
            path.held_until = 0;
            tally.bite(FaultKind::Reorder);
        }
        let mut again = None;
        if happens(5, trials.duplicate_per_mille) {
            again = Some(after + below(random(6), 5_000 * US));
            tally.bite(FaultKind::Duplicate);
        }
        let damaged = happens(7, trials.corrupt_per_mille);
        if damaged {
            tally.bite(FaultKind::Corrupt);
        }
        Fate::Arrives { after, again, damaged }
    }
}

/// The path to a node, among those that were used.
fn path_to(paths: &mut Vec<(u32, Path)>, to: usize) -> &mut Path {
    let to = to as u32;
    let at = match paths.binary_search_by_key(&to, |(to, _)| *to) {
        Ok(at) => at,
        Err(at) => {
            paths.insert(at, (to, Path::default()));
            at
        }
    };
    &mut paths[at].1
}

fn apply(fault: &Fault, from: u16, to: u16, trials: &mut Trials) {
    let pair = |a: u16, b: u16| (from, to) == (a, b) || (from, to) == (b, a);
    match &fault.what {
        Trouble::Loss { per_mille, path: only } => {
            if only.is_none_or(|only| only == (from, to)) {
                trials.loss_per_mille = trials.loss_per_mille.max(*per_mille);
            }
        }
        Trouble::Duplicate { per_mille } => trials.duplicate_per_mille = *per_mille,
        Trouble::Corrupt { per_mille } => trials.corrupt_per_mille = *per_mille,
        Trouble::Reorder { per_mille, extra_us } => {
            trials.reorder_per_mille = *per_mille;
            trials.reorder_extra = extra_us * US;
        }
        Trouble::Slow { a, b, extra_us } => {
            if pair(*a, *b) {
                trials.slow_extra += extra_us * US;
            }
        }
        Trouble::Clog { node } => {
            if *node == from || *node == to {
                trials.clogged_until = trials.clogged_until.max(fault.until_us * US);
            }
        }
        Trouble::Narrow { a, b, bytes_per_ms, queue_ms } => {
            if pair(*a, *b) {
                let (rate, queue) = (u64::from(*bytes_per_ms), u64::from(*queue_ms) * 1_000 * US);
                let narrower = trials.narrow.is_none_or(|(other, _)| rate < other);
                trials.narrow = if narrower { Some((rate, queue)) } else { trials.narrow };
            }
        }
        Trouble::Mtu { a, b, bytes } => {
            if pair(*a, *b) {
                trials.mtu = Some(trials.mtu.map_or(*bytes, |other| other.min(*bytes)));
            }
        }
        Trouble::Partition { side } => {
            if side.contains(&from) != side.contains(&to) {
                trials.cut = Some(FaultKind::Partition);
            }
        }
        Trouble::OneWay { from: senders, to: receivers } => {
            if senders.contains(&from) && receivers.contains(&to) {
                trials.cut = Some(FaultKind::OneWay);
            }
        }
        Trouble::Partial { a, b } => {
            if pair(*a, *b) {
                trials.cut = Some(FaultKind::Partial);
            }
        }
        Trouble::Crash { .. }
        | Trouble::Stop { .. }
        | Trouble::Pause { .. }
        | Trouble::Dials { .. }
        | Trouble::LoseDisk { .. }
        | Trouble::Readdress { .. }
        | Trouble::SlowNode { .. }
        | Trouble::SlowDisk { .. }
        | Trouble::FullDisk { .. }
        | Trouble::FailSync { .. }
        | Trouble::TornWrite { .. }
        | Trouble::Rot { .. }
        | Trouble::Replay { .. }
        | Trouble::Clock { .. }
        | Trouble::Lapse { .. }
        | Trouble::Revoke { .. }
        | Trouble::Acceptors { .. }
        | Trouble::Impostor { .. }
        | Trouble::Hostile { .. } => {}
    }
}

/// How many nanoseconds something takes, from a random number.
pub(crate) fn on_the_way(latency: Latency, random: u64) -> u64 {
    match latency {
        Latency::Constant { us } => us * US,
        Latency::Exponential { least_us, mean_us } => {
            least_us * US + exponential(random, mean_us * US)
        }
        Latency::Bimodal { fast_us, slow_us, slow_per_mille } => {
            let slow = below(random, 1_000) < u64::from(slow_per_mille);
            US * if slow { slow_us } else { fast_us }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(faults: &[Fault]) -> Network<'_> {
        let latency = Latency::Constant { us: 100 };
        let plan = NetworkPlan { latency, bytes_per_us: 10, window_frames: 8 };
        let mut network = Network::new(1, 3, plan, faults);
        network.switch(0, true);
        network
    }

    fn fault(what: Trouble) -> Vec<Fault> {
        vec![Fault { at_us: 0, until_us: 1, what }]
    }

    #[test]
    fn a_partial_partition_cuts_one_pair_and_ends() {
        let faults = fault(Trouble::Partial { a: 0, b: 1 });
        let mut network = network(&faults);
        assert_eq!(network.fate(0, 1, 0, 10), Fate::Lost(FaultKind::Partial));
        assert!(matches!(network.fate(0, 0, 2, 10), Fate::Arrives { after: 101_000, .. }));
        network.switch(0, false);
        assert!(matches!(network.fate(0, 1, 0, 10), Fate::Arrives { .. }));
    }

    #[test]
    fn a_one_way_partition_lets_the_other_way_through() {
        let faults = fault(Trouble::OneWay { from: vec![0], to: vec![1, 2] });
        let mut network = network(&faults);
        assert_eq!(network.fate(0, 0, 1, 0), Fate::Lost(FaultKind::OneWay));
        assert!(matches!(network.fate(0, 1, 0, 0), Fate::Arrives { .. }));
    }

    #[test]
    fn what_is_clogged_comes_once_that_is_over_and_in_its_order() {
        let faults = vec![Fault { at_us: 0, until_us: 5_000, what: Trouble::Clog { node: 1 } }];
        let mut network = network(&faults);
        let arrives =
            |network: &mut Network<'_>, now, from, to| match network.fate(now, from, to, 0) {
                Fate::Arrives { after, .. } => now + after,
                lost => panic!("{lost:?}"),
            };
        assert_eq!(arrives(&mut network, 0, 0, 1), 5_100_000);
        assert_eq!(arrives(&mut network, 1_000, 1, 2), 5_100_000);
        assert_eq!(arrives(&mut network, 0, 0, 2), 100_000, "the others are not held");
        network.switch(0, false);
        assert_eq!(arrives(&mut network, 6_000_000, 0, 1), 6_100_000);
    }

    #[test]
    fn a_narrow_path_makes_wait_and_drops_what_would_wait_too_long() {
        // 1,000 bytes take 10 ms, and nothing waits longer than 15.
        let what = Trouble::Narrow { a: 0, b: 1, bytes_per_ms: 100, queue_ms: 15 };
        let faults = fault(what);
        let mut network = network(&faults);
        let mut fates = || network.fate(0, 0, 1, 1_000);
        let ms = |ms: u64| ms * 1_000_000 + 200_000;
        assert!(matches!(fates(), Fate::Arrives { after, .. } if after == ms(10)));
        assert!(matches!(fates(), Fate::Arrives { after, .. } if after == ms(20)));
        assert_eq!(fates(), Fate::Lost(FaultKind::Narrow));
        assert!(
            matches!(network.fate(0, 1, 0, 1_000), Fate::Arrives { after, .. } if after == ms(10))
        );
        let later = network.fate(20_000_000, 0, 1, 1_000);
        assert!(matches!(later, Fate::Arrives { after, .. } if after == ms(10)));
    }

    #[test]
    fn what_is_larger_than_a_path_carries_is_lost() {
        let faults = fault(Trouble::Mtu { a: 0, b: 1, bytes: 1_280 });
        let mut network = network(&faults);
        assert_eq!(network.fate(0, 0, 1, 1_281), Fate::Lost(FaultKind::Mtu));
        assert!(matches!(network.fate(0, 0, 1, 1_280), Fate::Arrives { .. }));
        assert!(matches!(network.fate(0, 0, 2, 9_000), Fate::Arrives { .. }));
    }

    #[test]
    fn a_messages_fate_follows_from_its_number_alone() {
        let faults = fault(Trouble::Loss { per_mille: 500, path: None });
        let fates = |between: bool| {
            let mut network = network(&faults);
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
