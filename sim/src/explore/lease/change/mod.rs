//! Other acceptors take over: every order in which that can go.
//!
//! As in [`super`], with the same clocks, network and disks; and here are nodes that are acceptors in one or several epochs,
//! and do not know of the later ones until they are told. One proposer stays behind and asks the first acceptors for ever;
//! the other asks the last ones (or goes over to them, when it is told). The rules: at most one holds, and tokens
//! grow, over all epochs.
//!
//! - *Who knows what*: each node is told of an epoch at any time, or never. After a restart it knows of the first
//!   again, and what its disk has: a descriptor's file may be an old one.
//! - *Asking for a seal* is one step: question, answer, and what comes of it. An answer that comes later says that a lease
//!   may live for longer, and counts for less long. To be asked has no consequences.
//! - *Acceptors are told apart* here: what one has heard of another is part of what it is.

mod world;

use std::sync::Arc;
use std::time::Duration;

use dunlin_core::Limits;
use dunlin_core::lease::{AcceptorSet, FormerSet, LeaseConfig, LeaseTimes};

use super::super::Model;
use super::words::{NAME, acceptor_id};
use super::{Faults, NONE};
pub use world::State;
use world::Work;

/// One configuration.
#[derive(Clone, Debug)]
pub struct Change {
    /// The term in milliseconds.
    pub term_ms: u64,
    /// The acceptors of each epoch, from 1 on.
    pub sets: &'static [&'static [usize]],
    /// Whether the clocks of acceptors are fast.
    pub fast_acceptors: bool,
    /// Whether the proposer that begins with the first acceptors goes over to the last ones when it is told.
    pub goes_over: bool,
    /// The highest round that is tried in an epoch.
    pub rounds_max: u64,
    /// The highest number of a renewal.
    pub renewals_max: u64,
    /// What may go wrong, each at most so often.
    pub faults: Faults,
}

/// Something that can happen.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Action {
    /// A step of true time passes.
    Pass,
    /// A node learns of an epoch.
    Tell { acceptor: u8, epoch: u8 },
    /// The proposer that was left behind learns of the last epoch.
    GoOver,
    /// An acceptor asks another one whether its set is sealed, or its own has begun.
    AskSeal { acceptor: u8, by: u8, other: u8, of: u8 },
    /// An acceptor notices that nothing lives at those before it.
    Outlived { acceptor: u8, by: u8 },
    /// A proposer tries this round.
    Try { proposer: u8, round: u64 },
    /// A proposer gives its round up.
    Abandon(u8),
    /// A proposer renews its lease.
    Renew(u8),
    /// A proposer notices that its lease has ended.
    End(u8),
    /// A proposer leaves the lease, and wants it again.
    Leave(u8),
    /// A message arrives at an acceptor, by its place.
    Deliver(u8),
    /// Two answers arrive at a proposer, by their places.
    Hear([u8; 2]),
    /// An acceptor notices that a lease has ended.
    Expire { acceptor: u8, epoch: u8 },
    /// An acceptor without its disk has abstained, and learns from the others.
    Learn { acceptor: u8, epoch: u8 },
    /// What a node has written is on its disk.
    Sync(u8),
    /// Fault: a node restarts.
    Restart(u8),
    /// Fault: a node restarts without its disk.
    Lose(u8),
}

const BASE: Change = Change {
    term_ms: 3,
    sets: &[&[0, 1, 2], &[3]],
    fast_acceptors: true,
    goes_over: false,
    rounds_max: 1,
    renewals_max: 0,
    faults: NONE,
};

const LOSSES: Faults = Faults { losses: 1, ..NONE };
const RESTARTS: Faults = Faults { restarts: 1, ..NONE };

/// Every configuration that is explored, by its name. Sole acceptors keep it small: what majorities are for is in the
/// last one, and in [`deep`].
pub fn configurations() -> Vec<(String, Change)> {
    let one = Change { sets: &[&[0], &[1]], ..BASE };
    vec![
        ("a change, one to one, one restarts".into(), Change { faults: RESTARTS, ..one }),
        ("two changes in a row".into(), Change { sets: &[&[0], &[1], &[2]], ..BASE }),
        ("a change, one acceptor stays".into(), Change { sets: &[&[0], &[0, 1, 2]], ..BASE }),
        ("a change, three to one".into(), BASE),
    ]
}

/// Renewals, one of three acceptors replaced, lost disks, and what goes wrong meanwhile. These take long.
pub fn deep() -> Vec<(String, Change)> {
    let replaced = Change { sets: &[&[0, 1, 2], &[1, 2, 3]], ..BASE };
    let both = Faults { restarts: 1, losses: 1, ..NONE };
    let slow = Change { fast_acceptors: false, ..BASE };
    let rows: &[&[usize]] = &[&[0, 1, 2], &[3], &[0]];
    vec![
        ("a change, a renewal".into(), Change { renewals_max: 1, ..BASE }),
        ("a change, a lost disk".into(), Change { faults: LOSSES, ..BASE }),
        ("a change, a lost disk, slow clocks".into(), Change { faults: LOSSES, ..slow.clone() }),
        ("a change, slow clocks, the holder goes over".into(), Change { goes_over: true, ..slow }),
        ("a change, one restarts".into(), Change { faults: RESTARTS, ..BASE }),
        ("a change, one of three replaced".into(), replaced.clone()),
        (
            "a change, one of three replaced, one restarts".into(),
            Change { faults: RESTARTS, ..replaced },
        ),
        ("a change, a restart and a lost disk".into(), Change { faults: both, ..BASE }),
        (
            "a change, a lost disk, two rounds".into(),
            Change { faults: LOSSES, rounds_max: 2, ..BASE },
        ),
        ("two changes in a row, a restart".into(), Change { sets: rows, faults: RESTARTS, ..BASE }),
        ("two changes in a row, a lost disk".into(), Change { sets: rows, faults: LOSSES, ..BASE }),
    ]
}

/// Wrong rules by their names, and the planted bug that each is.
#[cfg(dunlin_planted)]
pub const RULES: [(&str, u32); 5] = [
    ("what-lives-is-not-waited-for", 130),
    ("one-seal-is-enough", 131),
    ("goes-on-after-its-seal", 133),
    ("only-the-last-set-is-sealed", 136),
    ("tokens-without-an-epoch", 137),
];

impl Change {
    fn last(&self) -> u64 {
        self.sets.len() as u64
    }

    /// The acceptors of an epoch, and those before them.
    fn config(&self, epoch: u64) -> Arc<LeaseConfig> {
        let term = Duration::from_millis(self.term_ms);
        let times = LeaseTimes::new(term, 200, term / 2).expect("the times fit");
        let set = |epoch: u64| {
            let peers = self.sets[epoch as usize - 1].iter().map(|a| acceptor_id(*a)).collect();
            AcceptorSet::new(epoch, peers).expect("one, three or five")
        };
        let former = |epoch| FormerSet { acceptors: set(epoch), abandoned: false };
        let config = LeaseConfig::new(set(epoch), times, &Limits::default());
        Arc::new(config.after((1..epoch).map(former).collect()))
    }

    fn nodes(&self) -> usize {
        self.sets.iter().flat_map(|set| set.iter()).max().expect("there are some") + 1
    }
}

impl Model for Change {
    type State = State;
    type Action = Action;
    type Pool = ();

    fn initial(&self) -> State {
        State::new(self)
    }

    fn beginning(&self) -> String {
        let clocks = if self.fast_acceptors { "fast" } else { "slow" };
        format!(
            "acceptors by epoch: {:?}; proposer 0 asks the first ones, proposer 1 the last; the term is {} ms; \
             clocks of acceptors are {clocks}, those of proposers slow; a step of true time takes a slow clock 2 ms \
             on, a fast one 3 ms",
            self.sets, self.term_ms
        )
    }

    fn actions(&self, state: &State, out: &mut Vec<Action>) {
        for (a, node) in (0u8..).zip(&state.nodes) {
            if !node.unsynced.is_empty() {
                out.push(Action::Sync(a));
                if !node.told {
                    return state.restarts(a, out);
                }
            }
        }
        for (m, message) in (0u8..).zip(&state.messages) {
            if !message.is_answer() {
                out.push(Action::Deliver(m));
                continue;
            }
            for (n, other) in (0u8..).zip(&state.messages).skip(usize::from(m)) {
                if other.is_answer() && other.proposer == message.proposer {
                    out.push(Action::Hear([m, n]));
                }
            }
        }
        for (p, proposer) in (0u8..).zip(&state.proposers) {
            if proposer.holds().is_some() {
                let number = proposer.machine.proposal(&NAME).map_or(0, |(_, number)| number);
                if number < self.renewals_max {
                    out.push(Action::Renew(p));
                }
            } else if proposer.is_holding() {
                out.push(Action::End(p));
            } else if proposer.is_in_round() {
                out.push(Action::Abandon(p));
            } else {
                let from = proposer.machine.round(&NAME).unwrap_or(0) + 1;
                let rounds = from..=self.rounds_max;
                out.extend(rounds.map(|round| Action::Try { proposer: p, round }));
            }
            if state.left.leaves > 0 && (proposer.is_in_round() || proposer.is_holding()) {
                out.push(Action::Leave(p));
            }
        }
        if self.goes_over && state.proposers[0].machine.epoch() < self.last() {
            out.push(Action::GoOver);
        }
        for (a, node) in (0u8..).zip(&state.nodes) {
            let later = (node.knows + 1)..=self.last();
            out.extend(later.map(|epoch| Action::Tell { acceptor: a, epoch: epoch as u8 }));
            for (epoch, machine) in &node.machines {
                let by = *epoch as u8;
                if machine.is_due(&NAME, node.now) {
                    out.push(Action::Expire { acceptor: a, epoch: by });
                }
                if machine.is_learning() && node.now >= node.abstains_until[epoch] {
                    out.push(Action::Learn { acceptor: a, epoch: by });
                }
                if machine.has_begun() || machine.is_superseded() {
                    continue;
                }
                out.push(Action::Outlived { acceptor: a, by });
                for (other, node) in (0u8..).zip(&state.nodes) {
                    for (of, machine) in node.machines.range(..=*epoch) {
                        // Whoever has nothing to say need not be asked.
                        let says = machine.sealed().is_some()
                            || (machine.has_begun() && *of > 1)
                            || node.boot > 1;
                        if (*of < *epoch || (other != a && machine.has_begun())) && says {
                            let of = *of as u8;
                            out.push(Action::AskSeal { acceptor: a, by, other, of });
                        }
                    }
                }
            }
            state.restarts(a, out);
        }
        out.push(Action::Pass);
    }

    fn apply(
        &self,
        state: &mut State,
        action: Action,
        told: Option<&mut Vec<String>>,
    ) -> Result<(), String> {
        let mut work = Work { model: self, state, told };
        work.act(action)?;
        work.finish()
    }

    fn share(&self, _: &mut State, _: &mut ()) {}

    fn sweep(&self, _: &mut ()) {}

    fn at_rest(&self, _: &State) -> Result<(), String> {
        Ok(())
    }

    // As in the explorations without a change: time passes for ever.
    fn is_fault(&self, _: Action) -> bool {
        true
    }

    fn describe(&self, action: Action) -> String {
        match action {
            Action::Pass => "a step of true time passes".into(),
            Action::Tell { acceptor, epoch } => {
                format!("node {acceptor} learns of the acceptors of epoch {epoch}")
            }
            Action::GoOver => "proposer 0 learns of the last acceptors".into(),
            Action::AskSeal { acceptor, by, other, of } => format!(
                "acceptor {acceptor} of epoch {by} asks acceptor {other} whether epoch {of} is sealed, or has begun"
            ),
            Action::Outlived { acceptor, by } => {
                format!(
                    "acceptor {acceptor} of epoch {by} looks whether those before it are out of it"
                )
            }
            Action::Try { proposer, round } => format!("proposer {proposer} tries round {round}"),
            Action::Abandon(p) => format!("proposer {p} gives its round up"),
            Action::Renew(p) => format!("proposer {p} renews its lease"),
            Action::End(p) => format!("proposer {p} notices that its lease has ended"),
            Action::Leave(p) => format!("proposer {p} leaves the lease, and wants it again"),
            Action::Deliver(_) | Action::Hear(_) => "the network delivers".into(),
            Action::Expire { acceptor, .. } => {
                format!("acceptor {acceptor} notices that a lease has ended")
            }
            Action::Learn { acceptor, .. } => {
                format!("acceptor {acceptor} has abstained, and learns from the others")
            }
            Action::Sync(a) => format!("what node {a} has written is on its disk"),
            Action::Restart(a) => format!("FAULT: node {a} restarts, with the first descriptor"),
            Action::Lose(a) => {
                format!("FAULT: node {a} restarts without its disk, with the first descriptor")
            }
        }
    }
}
