//! Three acceptors, two proposers and one lease, in every order in which that can go.
//!
//! All five are the real machines of [`dunlin_core::lease`], each with a clock of its own; the model adds the
//! network, the disks, and true time. The rules (protocols.md, section 6), checked after every step: at most one
//! proposer holds, if asked at this instant; each grant has a higher token than all before it, and than those of
//! all lives; and no acceptor refuses the proposals of whoever has a lease there that lives.
//!
//! # Time
//!
//! Time is true time in steps. A step is as long as two milliseconds of a slow clock and three of a fast one: with 20 % of
//! drift these are the bounds. Anything may happen between two steps, in any order, and nothing must:
//! timers may come late, so that every pause of every node is among what is explored. What waits only so that things go
//! faster (a round's end, the next renewal, the next try) may also come early.
//!
//! Which clocks are fast and which are slow is part of a configuration. *Slow proposers and fast acceptors* are the
//! worst case, and what happens with other clocks happens with these: clocks decide how long a proposer holds,
//! and how long an acceptor is bound by a lease or abstains. If the first is longer and the others are shorter,
//! whatever was possible is possible still, for nothing must happen at its time.
//!
//! # The network
//!
//! What is sent can be delivered from then on, at any time, or never: that is delay, loss and any order. Nothing is taken
//! out of the network until it cannot matter any more:
//!
//! - *An answer*: when the proposer has gone on to another ballot. While it counts, it can be delivered any number of times.
//! - *A request*: when its answer has been given, or does not count any more. To hear it again, or that late, an acceptor
//!   can only be bound to more than otherwise; and to be bound to more, or for longer, is to do less than it
//!   might: it is as if what others send it were lost.
//! - *What an acceptor that has lost its disk learns*: in one step. Answers that come later tell of more, and so bind it
//!   to more.
//! - *Looking, and refusals*, have no other consequence than that a proposer tries another round, at another time,
//!   or gives one up. Here it tries every round that it has not tried or passed by, at every time, and may give one up at
//!   every time; so these need not travel.
//! - *Sending again* adds nothing to what can be delivered already.
//!
//! This is an over-approximation: more can happen here than in a network.
//!
//! # Disks
//!
//! What an acceptor has written is on its disk, or lost in a restart, before anything else happens. It might be
//! later, but until then nobody has been told of it: as if the request that it comes from had arrived later. Should
//! somebody be told, against the rules, then it may be later.
//!
//! # What is the same
//!
//! Acceptors are interchangeable: nothing depends on which is which. So a state is known by what each acceptor
//! is and has to do with others, in no order (symmetry reduction; Ip and Dill, 1996).
//!
//! # What ends it
//!
//! Rounds, renewals and faults are bounded by the configuration. Time is not: states are told apart by the times that are
//! left.
//!
//! That other acceptors take over is explored in [`change`].

pub mod change;
mod words;
mod world;

use std::time::Duration;

use super::Model;
pub use world::State;
use world::Work;

/// What may go wrong, each at most so often, besides all that a network may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// An acceptor restarts; what is not on its disk yet is lost.
    pub restarts: u8,
    /// An acceptor restarts without its disk. Not while another one is learning: one of three may be lost at a time.
    pub losses: u8,
    /// A proposer restarts, and begins another life.
    pub deaths: u8,
    /// A proposer leaves the lease, and wants it again.
    pub leaves: u8,
}

/// One configuration.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// The term in milliseconds.
    pub term_ms: u64,
    /// Which proposers' clocks are fast.
    pub fast_proposers: [bool; 2],
    /// Which acceptors' clocks are fast.
    pub fast_acceptors: [bool; 3],
    /// The highest round that is tried.
    pub rounds_max: u64,
    /// The highest number of a renewal.
    pub renewals_max: u64,
    /// Whether prepares are parked, which otherwise are as if they were still under way.
    pub parks: bool,
    /// What may go wrong.
    pub faults: Faults,
}

/// Something that can happen.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Action {
    /// A step of true time passes.
    Pass,
    /// A proposer, told of the round before it, prepares this round.
    Try { proposer: u8, round: u64 },
    /// A proposer gives its round up.
    Abandon(u8),
    /// A proposer renews its lease.
    Renew(u8),
    /// A proposer sends again what is not answered.
    Resend(u8),
    /// A proposer notices that its lease has ended.
    End(u8),
    /// A message arrives at an acceptor, by its place.
    Deliver(u8),
    /// Two answers arrive at a proposer, by their places.
    Hear([u8; 2]),
    /// An acceptor notices that a lease has ended.
    Expire(u8),
    /// An acceptor without its disk has abstained, and learns from the others.
    Learn(u8),
    /// What an acceptor has written is on its disk.
    Sync(u8),
    /// Fault: an acceptor restarts.
    Restart(u8),
    /// Fault: an acceptor restarts without its disk.
    Lose(u8),
    /// Fault: a proposer restarts.
    Die(u8),
    /// A proposer leaves the lease, and wants it again.
    Leave(u8),
}

/// Slow proposers and fast acceptors.
const WORST: Lease = Lease {
    term_ms: 6,
    fast_proposers: [false; 2],
    fast_acceptors: [true; 3],
    rounds_max: 2,
    renewals_max: 1,
    parks: false,
    faults: Faults { restarts: 0, losses: 0, deaths: 0, leaves: 0 },
};

const NONE: Faults = Faults { restarts: 0, losses: 0, deaths: 0, leaves: 0 };

/// Every kind of fault, once.
const EACH: [(&str, Faults); 4] = [
    ("an acceptor restarts", Faults { restarts: 1, ..NONE }),
    ("an acceptor loses its disk", Faults { losses: 1, ..NONE }),
    ("a proposer restarts", Faults { deaths: 1, ..NONE }),
    ("a proposer leaves", Faults { leaves: 1, ..NONE }),
];

/// Every configuration that is explored, by its name. With faults, a lease lasts a step of true time, and an acceptor
/// that restarts abstains for two. Without, a lease lasts two, and is renewed.
pub fn configurations() -> Vec<(String, Lease)> {
    let mut all: Vec<(String, Lease)> = Vec::new();
    let mut add = |name: &str, lease| all.push((name.into(), lease));
    let short = Lease { term_ms: 3, renewals_max: 0, ..WORST };
    add("prepares are parked", Lease { parks: true, ..short });
    for (name, faults) in EACH {
        add(name, Lease { faults, ..short });
    }
    add("two renewals", Lease { renewals_max: 2, ..WORST });
    let (fast_proposers, fast_acceptors) = ([false, true], [true, false, true]);
    add("clocks of both kinds", Lease { fast_proposers, fast_acceptors, ..WORST });
    all
}

/// Each fault together with a renewal, two faults at once, three rounds, a term in smaller steps, and every choice of
/// clocks. These take long.
pub fn deep() -> Vec<(String, Lease)> {
    let mut all: Vec<(String, Lease)> = Vec::new();
    let mut add = |name: String, lease| all.push((name, lease));
    for (name, faults) in EACH {
        add(format!("a renewal, {name}"), Lease { faults, ..WORST });
    }
    add("a renewal, prepares are parked".into(), Lease { parks: true, ..WORST });
    let pairs = [
        ("an acceptor restarts, and one loses its disk", Faults { restarts: 1, losses: 1, ..NONE }),
        ("acceptors restart twice", Faults { restarts: 2, ..NONE }),
        ("acceptors lose their disks twice", Faults { losses: 2, ..NONE }),
        ("an acceptor restarts, and a proposer", Faults { restarts: 1, deaths: 1, ..NONE }),
    ];
    for (name, faults) in pairs {
        add(name.into(), Lease { faults, term_ms: 3, renewals_max: 0, ..WORST });
    }
    add("three rounds".into(), Lease { rounds_max: 3, term_ms: 3, renewals_max: 0, ..WORST });
    add("smaller steps".into(), Lease { term_ms: 12, ..WORST });
    // Acceptors are interchangeable, and so are proposers.
    for fast_acceptors in [[false; 3], [true, false, false], [true, true, false], [true; 3]] {
        for fast_proposers in [[false, false], [false, true], [true, true]] {
            let count = |fast: &[bool]| fast.iter().filter(|fast| **fast).count();
            let (a, p) = (count(&fast_acceptors), count(&fast_proposers));
            let name = format!("a renewal, fast clocks: {a} acceptors, {p} proposers");
            add(name, Lease { fast_acceptors, fast_proposers, ..WORST });
        }
    }
    all
}

/// Wrong rules by their names, and the planted bug that each is.
#[cfg(dunlin_planted)]
pub const RULES: [(&str, u32); 10] = [
    ("no-abstention", 80),
    ("answered-before-durable", 81),
    ("equal-rounds", 82),
    ("any-renewal-counts", 83),
    ("any-answer-counts", 84),
    ("timer-starts-late", 85),
    ("no-drift-margin", 86),
    ("standby-raises-promise", 87),
    ("lost-disk-unlearned", 88),
    ("learned-round-again", 89),
];

impl Lease {
    /// How far a step of true time takes a clock.
    fn step(is_fast: bool) -> Duration {
        Duration::from_millis(if is_fast { 3 } else { 2 })
    }
}

impl Model for Lease {
    type State = State;
    type Action = Action;
    type Pool = ();

    fn initial(&self) -> State {
        State::new(self)
    }

    fn beginning(&self) -> String {
        let clocks = |fast: &[bool]| {
            let names: Vec<_> = fast.iter().map(|f| if *f { "fast" } else { "slow" }).collect();
            names.join(", ")
        };
        format!(
            "two proposers want a lease; its term is {} ms; clocks of proposers: {}; of acceptors: {}; a step of \
             true time takes a slow clock 2 ms on, a fast one 3 ms",
            self.term_ms,
            clocks(&self.fast_proposers),
            clocks(&self.fast_acceptors)
        )
    }

    fn actions(&self, state: &State, out: &mut Vec<Action>) {
        for (a, acceptor) in (0u8..).zip(&state.acceptors) {
            if !acceptor.unsynced.is_empty() {
                out.push(Action::Sync(a));
                if !acceptor.told {
                    return state.restarts(a, out);
                }
            }
        }
        for (m, message) in (0u8..).zip(&state.messages) {
            if !message.is_answer() {
                out.push(Action::Deliver(m));
                continue;
            }
            // Also one answer twice.
            for (n, other) in (0u8..).zip(&state.messages).skip(usize::from(m)) {
                if other.is_answer() && other.proposer == message.proposer {
                    out.push(Action::Hear([m, n]));
                }
            }
        }
        for (p, proposer) in (0u8..).zip(&state.proposers) {
            if state.holds(usize::from(p)).is_some() {
                if proposer.number() < self.renewals_max {
                    out.push(Action::Renew(p));
                }
            } else if proposer.is_holding() {
                out.push(Action::End(p));
            } else if proposer.is_in_round() {
                out.push(Action::Abandon(p));
            } else {
                let from = proposer.round() + 1;
                out.extend(
                    (from..=self.rounds_max).map(|round| Action::Try { proposer: p, round }),
                );
            }
            if proposer.is_in_round() || proposer.is_holding() {
                out.push(Action::Resend(p));
            }
            if state.left.deaths > 0 && !proposer.is_new() {
                out.push(Action::Die(p));
            }
            if state.left.leaves > 0 && (proposer.is_in_round() || proposer.is_holding()) {
                out.push(Action::Leave(p));
            }
        }
        for (a, acceptor) in (0u8..).zip(&state.acceptors) {
            if acceptor.is_due() {
                out.push(Action::Expire(a));
            }
            if acceptor.may_learn() {
                out.push(Action::Learn(a));
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

    // Time passes for ever, and anything may come again: there is no rest to come to, and none is looked for.
    fn is_fault(&self, _: Action) -> bool {
        true
    }

    fn describe(&self, action: Action) -> String {
        match action {
            Action::Pass => "a step of true time passes".into(),
            Action::Try { proposer, round } => format!("proposer {proposer} tries round {round}"),
            Action::Abandon(p) => format!("proposer {p} gives its round up"),
            Action::Renew(p) => format!("proposer {p} renews its lease"),
            Action::Resend(p) => format!("proposer {p} sends again"),
            Action::End(p) => format!("proposer {p} notices that its lease has ended"),
            Action::Deliver(_) | Action::Hear(_) => "the network delivers".into(),
            Action::Expire(a) => format!("acceptor {a} notices that a lease has ended"),
            Action::Learn(a) => format!("acceptor {a} has abstained, and learns from the others"),
            Action::Sync(a) => format!("what acceptor {a} has written is on its disk"),
            Action::Restart(a) => format!("FAULT: acceptor {a} restarts"),
            Action::Lose(a) => format!("FAULT: acceptor {a} restarts without its disk"),
            Action::Die(p) => format!("FAULT: proposer {p} restarts"),
            Action::Leave(p) => format!("proposer {p} leaves the lease, and wants it again"),
        }
    }
}
