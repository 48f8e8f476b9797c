//! Which kinds of fault there are, how often each was applied, and how often it changed something.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::schedule::Trouble;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum FaultKind {
    Loss,
    Duplicate,
    Corrupt,
    Reorder,
    Slow,
    Partition,
    OneWay,
    Partial,
    Crash,
    Stop,
    Pause,
    Dials,
    LoseDisk,
    Readdress,
    Replay,
    Clock,
    Lapse,
    Revoke,
    Impostor,
    Clog,
    Narrow,
    Mtu,
    SlowNode,
    SlowDisk,
    FullDisk,
    FailSync,
    TornWrite,
    Rot,
    Acceptors,
    Hostile,
}

impl FaultKind {
    /// Whether it is about rights: without a network of tokens it changes nothing.
    pub fn is_about_rights(self) -> bool {
        matches!(
            self,
            FaultKind::Clock
                | FaultKind::Lapse
                | FaultKind::Revoke
                | FaultKind::Impostor
                | FaultKind::Acceptors
        )
    }

    /// All of them.
    pub const ALL: [FaultKind; 30] = [
        FaultKind::Loss,
        FaultKind::Duplicate,
        FaultKind::Corrupt,
        FaultKind::Reorder,
        FaultKind::Slow,
        FaultKind::Partition,
        FaultKind::OneWay,
        FaultKind::Partial,
        FaultKind::Crash,
        FaultKind::Stop,
        FaultKind::Pause,
        FaultKind::Dials,
        FaultKind::LoseDisk,
        FaultKind::Readdress,
        FaultKind::Replay,
        FaultKind::Clock,
        FaultKind::Lapse,
        FaultKind::Revoke,
        FaultKind::Impostor,
        FaultKind::Clog,
        FaultKind::Narrow,
        FaultKind::Mtu,
        FaultKind::SlowNode,
        FaultKind::SlowDisk,
        FaultKind::FullDisk,
        FaultKind::FailSync,
        FaultKind::TornWrite,
        FaultKind::Rot,
        FaultKind::Acceptors,
        FaultKind::Hostile,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Loss => "loss",
            FaultKind::Duplicate => "duplicate",
            FaultKind::Corrupt => "corrupt",
            FaultKind::Reorder => "reorder",
            FaultKind::Slow => "slow",
            FaultKind::Partition => "partition",
            FaultKind::OneWay => "one-way",
            FaultKind::Partial => "partial",
            FaultKind::Crash => "crash",
            FaultKind::Stop => "stop",
            FaultKind::Pause => "pause",
            FaultKind::Dials => "dials",
            FaultKind::LoseDisk => "lose-disk",
            FaultKind::Readdress => "readdress",
            FaultKind::Replay => "replay",
            FaultKind::Clock => "clock",
            FaultKind::Lapse => "lapse",
            FaultKind::Revoke => "revoke",
            FaultKind::Impostor => "impostor",
            FaultKind::Clog => "clog",
            FaultKind::Narrow => "narrow",
            FaultKind::Mtu => "mtu",
            FaultKind::SlowNode => "slow-node",
            FaultKind::SlowDisk => "slow-disk",
            FaultKind::FullDisk => "full-disk",
            FaultKind::FailSync => "fail-sync",
            FaultKind::TornWrite => "torn-write",
            FaultKind::Rot => "rot",
            FaultKind::Acceptors => "acceptors",
            FaultKind::Hostile => "hostile",
        }
    }

    /// From how many applications on a campaign without an effect of this kind is invalid.
    ///
    /// A working fault has then changed something, but for one campaign in a million: `ln(1e-6) / ln(1 - rate)`,
    /// rounded up, where `rate` is the least share of applications with an effect. It is measured over 2,000 seeds, by
    /// fidelity, with at most one effect counted a run, because applications within a run resemble each other. The
    /// least rates are 0.058 (`mtu`), 0.066 (`replay`), 0.073 (`dials`) and, of all others, 0.15 (`clog`).
    pub fn applications_judged_min(self) -> u64 {
        match self {
            FaultKind::Mtu | FaultKind::Replay | FaultKind::Dials => 300,
            _ => 100,
        }
    }

    /// The kind of a scheduled fault.
    pub fn of(trouble: &Trouble) -> FaultKind {
        match trouble {
            Trouble::Loss { .. } => FaultKind::Loss,
            Trouble::Duplicate { .. } => FaultKind::Duplicate,
            Trouble::Corrupt { .. } => FaultKind::Corrupt,
            Trouble::Reorder { .. } => FaultKind::Reorder,
            Trouble::Slow { .. } => FaultKind::Slow,
            Trouble::Partition { .. } => FaultKind::Partition,
            Trouble::OneWay { .. } => FaultKind::OneWay,
            Trouble::Partial { .. } => FaultKind::Partial,
            Trouble::Crash { .. } => FaultKind::Crash,
            Trouble::Stop { .. } => FaultKind::Stop,
            Trouble::Pause { .. } => FaultKind::Pause,
            Trouble::Dials { .. } => FaultKind::Dials,
            Trouble::LoseDisk { .. } => FaultKind::LoseDisk,
            Trouble::Readdress { .. } => FaultKind::Readdress,
            Trouble::Replay { .. } => FaultKind::Replay,
            Trouble::Clock { .. } => FaultKind::Clock,
            Trouble::Lapse { .. } => FaultKind::Lapse,
            Trouble::Revoke { .. } => FaultKind::Revoke,
            Trouble::Impostor { .. } => FaultKind::Impostor,
            Trouble::Clog { .. } => FaultKind::Clog,
            Trouble::Narrow { .. } => FaultKind::Narrow,
            Trouble::Mtu { .. } => FaultKind::Mtu,
            Trouble::SlowNode { .. } => FaultKind::SlowNode,
            Trouble::SlowDisk { .. } => FaultKind::SlowDisk,
            Trouble::FullDisk { .. } => FaultKind::FullDisk,
            Trouble::FailSync { .. } => FaultKind::FailSync,
            Trouble::TornWrite { .. } => FaultKind::TornWrite,
            Trouble::Rot { .. } => FaultKind::Rot,
            Trouble::Acceptors { .. } => FaultKind::Acceptors,
            Trouble::Hostile { .. } => FaultKind::Hostile,
        }
    }
}

/// How often each kind was applied, and how often it changed something: a message lost or held, a node
/// that was running taken down, a timer late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    applied: [u64; FaultKind::ALL.len()],
    effective: [u64; FaultKind::ALL.len()],
}

/// One kind's line of a tally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyLine {
    /// The kind's name.
    pub kind: Cow<'static, str>,
    /// How often it was applied.
    pub applied: u64,
    /// How often it changed something.
    pub effective: u64,
}

impl Tally {
    /// A fault of this kind begins.
    pub fn apply(&mut self, kind: FaultKind) {
        self.applied[kind as usize] += 1;
    }

    /// Whether a fault of this kind was applied.
    pub fn is_applied(&self, kind: FaultKind) -> bool {
        self.applied[kind as usize] > 0
    }

    /// A fault of this kind has changed something.
    pub fn bite(&mut self, kind: FaultKind) {
        self.effective[kind as usize] += 1;
    }

    /// Adds lines that were written. Says which kind there is not.
    pub(crate) fn add_lines(&mut self, lines: &[TallyLine]) -> Result<(), String> {
        for line in lines {
            let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == line.kind);
            let kind = kind.ok_or_else(|| format!("there is no fault '{}'", line.kind))?;
            self.applied[kind as usize] += line.applied;
            self.effective[kind as usize] += line.effective;
        }
        Ok(())
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Tally) {
        for kind in 0..FaultKind::ALL.len() {
            self.applied[kind] += other.applied[kind];
            self.effective[kind] += other.effective[kind];
        }
    }

    /// Whether any fault has changed something.
    pub fn any_effective(&self) -> bool {
        self.effective.iter().any(|count| *count > 0)
    }

    /// Kinds that were applied and never changed anything: those applied often enough to be judged
    /// ([`FaultKind::applications_judged_min`]), and the others.
    pub fn toothless(&self) -> (Vec<FaultKind>, Vec<FaultKind>) {
        let toothless = |kind: &FaultKind| {
            self.applied[*kind as usize] > 0 && self.effective[*kind as usize] == 0
        };
        let is_judged =
            |kind: &FaultKind| self.applied[*kind as usize] >= kind.applications_judged_min();
        FaultKind::ALL.into_iter().filter(toothless).partition(is_judged)
    }

    /// The kinds that were applied.
    pub fn lines(&self) -> Vec<TallyLine> {
        FaultKind::ALL
            .into_iter()
            .map(|kind| TallyLine {
                kind: kind.name().into(),
                applied: self.applied[kind as usize],
                effective: self.effective[kind as usize],
            })
            .filter(|line| line.applied > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_without_an_effect_is_judged_once_it_was_applied_often_enough() {
        let mut tally = Tally::default();
        for kind in [FaultKind::Mtu, FaultKind::Loss, FaultKind::Crash] {
            (1..kind.applications_judged_min()).for_each(|_| tally.apply(kind));
        }
        tally.bite(FaultKind::Crash);
        assert_eq!(tally.toothless(), (vec![], vec![FaultKind::Loss, FaultKind::Mtu]));
        tally.apply(FaultKind::Loss);
        assert_eq!(tally.toothless(), (vec![FaultKind::Loss], vec![FaultKind::Mtu]));
        tally.bite(FaultKind::Loss);
        assert_eq!(tally.toothless(), (vec![], vec![FaultKind::Mtu]));
    }

    #[test]
    fn a_fault_of_the_least_measured_rate_is_missed_once_in_a_million_campaigns() {
        for (kind, rate) in [(FaultKind::Mtu, 0.058_f64), (FaultKind::Clog, 0.151)] {
            let least = (1e-6_f64.ln() / (1.0 - rate).ln()).ceil() as u64;
            assert!(kind.applications_judged_min() >= least, "{kind:?}: {least}");
        }
    }
}
