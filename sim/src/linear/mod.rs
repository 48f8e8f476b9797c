//! A linearizability checker: whether what clients saw of an object is explained by operations that took effect one
//! after the other, each at a moment between its call and its return.
//!
//! ```text
//! History  collects what clients did and saw, while it happens
//! Model    says what the object may answer, operation by operation
//! check    looks for an order that explains a history; check_by_key does so key by key
//! ```
//!
//! ```
//! use dunlin_sim::linear::{Budget, History, Register, RegisterOp, RegisterReturn, Verdict, check};
//!
//! let history = History::new();
//! let write = history.begin(RegisterOp::Write(7));
//! let read = history.begin(RegisterOp::Read);
//! history.end(read, RegisterReturn::Value(7));
//! history.end(write, RegisterReturn::Done);
//! let late = history.begin(RegisterOp::Read);
//! history.end(late, RegisterReturn::Value(0));
//!
//! let verdict = check(&Register::new(0), &history.operations(), Budget::default());
//! let Verdict::Broken(broken) = verdict else { panic!("the register forgot what was read from it") };
//! assert_eq!(broken.operation, 2);
//! ```
//!
//! The search is that of Wing and Gong (Testing and Verifying Concurrent Objects, 1993) with what Lowe added (Testing
//! for Linearizability, 2017): configurations that were seen before are not searched again, an operation is placed only
//! when another's return, or its own, asks for it, and histories are parted by key (Herlihy and Wing's locality). The
//! problem is NP-complete (Gibbons and Korach, 1997), so the work has a bound, and a verdict may be that there is none.

mod history;
mod models;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;

pub use history::{History, Ticket};
pub use models::{
    CasOp, CasRegister, CasReturn, Counter, CounterOp, CounterReturn, KeyValue, KeyValueOp,
    KeyValueReturn, Register, RegisterOp, RegisterReturn, ValueOp,
};

/// What an object may answer, if its operations take effect one after the other.
pub trait Model {
    /// What the object is.
    type State: Clone + Eq + Hash + Debug;
    /// What is asked of it.
    type Op;
    /// What it answers.
    type Return;

    /// What it is at first.
    fn initial(&self) -> Self::State;

    /// What it is after an operation; nothing if it does not answer so. Without an answer, whatever it would have
    /// answered is right. For each state, operation and answer there is one next state.
    fn apply(
        &self,
        state: &Self::State,
        op: &Self::Op,
        answer: Option<&Self::Return>,
    ) -> Option<Self::State>;

    /// Whether an operation changes nothing, whatever the object is. To know of reads saves work.
    fn only_reads(&self, op: &Self::Op) -> bool {
        let _ = op;
        false
    }
}

/// An operation of a history. Times are of any clock that never goes back; what ends at the instant at which another
/// begins overlaps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// What was asked.
    pub op: O,
    /// When.
    pub called: u64,
    /// When it was answered, and what. One that never returned may have taken effect at any time after its call, or not
    /// at all.
    pub returned: Option<(u64, R)>,
}

/// How much work a check may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most applications of the model. A configuration that is remembered takes some hundred bytes.
    pub steps_max: u64,
}

impl Default for Budget {
    /// Ten million steps: seconds, and at most some gigabytes. A guess.
    fn default() -> Self {
        Budget { steps_max: 10_000_000 }
    }
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<S> {
    /// There is an order that explains the history.
    Linearizable {
        /// The places of the operations in the history, in that order; key by key, if it was parted by key. Of those
        /// that never returned, the ones that took effect.
        order: Vec<usize>,
    },
    /// There is none.
    Broken(Broken<S>),
    /// None was found, and not all were tried.
    Undecided {
        /// How often the model was applied.
        steps: u64,
    },
}

/// Why no order explains a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken<S> {
    /// The operation that cannot be placed, by its place in the history: all that happened before its return can be
    /// explained, and nothing explains its answer as well.
    pub operation: usize,
    /// The longest order that was found of what happened before that return.
    pub prefix: Vec<usize>,
    /// What the object would be behind that order.
    pub state: S,
}

impl<S> Broken<S> {
    /// The failure in words: the operations around it, by their calls.
    pub fn explain<O: Debug, R: Debug>(&self, history: &[Operation<O, R>]) -> String
    where
        S: Debug,
    {
        let line = |place: usize| {
            let Operation { op, called, returned } = &history[place];
            match returned {
                Some((at, answer)) => format!("#{place} {op:?} -> {answer:?} [{called}, {at}]"),
                None => format!("#{place} {op:?} -> no answer [{called}, ...]"),
            }
        };
        let tail = self.prefix.len().saturating_sub(2);
        let last: Vec<String> = self.prefix[tail..].iter().map(|place| line(*place)).collect();
        format!(
            "no order explains {}; {} operations before it can be placed, at the end {}, and leave {:?}",
            line(self.operation),
            self.prefix.len(),
            if last.is_empty() { "none".to_string() } else { last.join(", then ") },
            self.state
        )
    }
}

/// Looks for an order that explains a history.
///
/// # Panics
///
/// When an operation returns before it is called.
pub fn check<M: Model>(
    model: &M,
    history: &[Operation<M::Op, M::Return>],
    budget: Budget,
) -> Verdict<M::State> {
    let places: Vec<usize> = (0..history.len()).collect();
    let mut steps_left = budget.steps_max;
    of_places(model, history, &places, &mut steps_left)
}

/// As [`check`], for objects of which each operation concerns one key and nothing else: parts by key are checked by
/// themselves, which is much less work. The budget is for all of them. A broken part counts more than an undecided one.
///
/// # Panics
///
/// As [`check`].
pub fn check_by_key<M: Model, K: Ord>(
    model: &M,
    history: &[Operation<M::Op, M::Return>],
    key: impl Fn(&M::Op) -> K,
    budget: Budget,
) -> Verdict<M::State> {
    let mut parts = BTreeMap::<K, Vec<usize>>::new();
    for (place, operation) in history.iter().enumerate() {
        parts.entry(key(&operation.op)).or_default().push(place);
    }
    let mut waiting: Vec<Vec<usize>> = parts.into_values().collect();
    let (mut steps_left, mut all) = (budget.steps_max, Vec::new());
    // A broken part may be easy where another is hard: all get a little work before any gets much.
    let mut share = FIRST_SHARE;
    while !waiting.is_empty() {
        let mut hard = Vec::new();
        for places in waiting {
            let granted = share.min(steps_left);
            let mut granted_left = granted;
            let verdict = of_places(model, history, &places, &mut granted_left);
            steps_left -= granted - granted_left;
            match verdict {
                Verdict::Linearizable { order } => all.extend(order),
                Verdict::Undecided { .. } => hard.push(places),
                broken @ Verdict::Broken(_) => return broken,
            }
        }
        if steps_left == 0 && !hard.is_empty() {
            return Verdict::Undecided { steps: budget.steps_max };
        }
        waiting = hard;
        share = share.saturating_mul(8);
    }
    Verdict::Linearizable { order: all }
}

/// The steps that each part gets at first; a guess. Then it is eight times as many, and so on.
const FIRST_SHARE: u64 = 10_000;

/// Checks some operations of a history.
fn of_places<M: Model>(
    model: &M,
    history: &[Operation<M::Op, M::Return>],
    places: &[usize],
    steps_left: &mut u64,
) -> Verdict<M::State> {
    let before = *steps_left;
    let operations: Vec<_> = places.iter().map(|place| &history[*place]).collect();
    let in_history = |own: Vec<usize>| own.into_iter().map(|own| places[own]).collect();
    match search::search(model, &operations, steps_left) {
        search::Found::Order(order) => Verdict::Linearizable { order: in_history(order) },
        search::Found::None { operation, prefix, state } => Verdict::Broken(Broken {
            operation: places[operation],
            prefix: in_history(prefix),
            state,
        }),
        search::Found::TooMuch => Verdict::Undecided { steps: before - *steps_left },
    }
}
