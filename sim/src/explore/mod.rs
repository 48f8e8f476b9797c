//! Exhaustive exploration: every state that a small configuration can get into, in whatever order things
//! happen.
//!
//! A [`Model`] says which actions are possible in a state and what each leads to. [`explore`] goes through
//! all states, breadth first, so that the first broken rule comes with a shortest way to it. A state is
//! known by a fingerprint of 128 bits: among ten million states two share one with a probability of about
//! 10^-25. The fingerprint uses no random keys: the same model has the same states everywhere.

pub mod glare;
mod network;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::random::fold;

/// A small world.
pub trait Model {
    /// All that may differ between two moments.
    type State: Clone + Hash;
    /// Something that can happen.
    type Action: Copy + Debug;

    /// Where it begins.
    fn initial(&self) -> Self::State;

    /// The same, for people.
    fn beginning(&self) -> String;

    /// What can happen in a state, always in the same order.
    fn actions(&self, state: &Self::State, out: &mut Vec<Self::Action>);

    /// Lets it happen. What is said for people goes to `told`, if anybody wants to hear it.
    ///
    /// # Errors
    ///
    /// The rule that this breaks, for people.
    fn apply(
        &self,
        state: &mut Self::State,
        action: Self::Action,
        told: Option<&mut Vec<String>>,
    ) -> Result<(), String>;

    /// What must hold where nothing is left to do but faults and what waits for long.
    ///
    /// # Errors
    ///
    /// The rule that is broken, for people.
    fn at_rest(&self, state: &Self::State) -> Result<(), String>;

    /// Whether an action is a fault: a state in which only faults are possible is at rest.
    fn is_fault(&self, action: Self::Action) -> bool;

    /// An action, for people.
    fn describe(&self, action: Self::Action) -> String;
}

/// A way from the beginning to a broken rule. None is shorter.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Counterexample {
    /// What happened, step by step.
    pub steps: Vec<String>,
    /// The rule that is broken.
    pub broken: String,
}

/// What an exploration came to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Explored {
    /// Distinct states.
    pub states: u64,
    /// Transitions between them.
    pub transitions: u64,
    /// States in which only faults are possible.
    pub at_rest: u64,
    /// Steps to the farthest state.
    pub depth: u32,
    /// Whether every state was seen; otherwise a rule was broken, or the bound was reached.
    pub complete: bool,
    /// Whether what happens without further faults comes to an end, from every state: there is no circle.
    pub ends: bool,
    /// The first broken rule.
    pub counterexample: Option<Counterexample>,
}

/// Fixed keys: the same state has the same fingerprint in every process.
#[derive(Clone)]
struct Fingerprint {
    a: u64,
    b: u64,
}

impl Fingerprint {
    fn of(state: &impl Hash) -> u128 {
        let mut hasher = Fingerprint { a: 0x2d35_8dcc_aa6c_78a5, b: 0x8bb8_4b93_962e_acc9 };
        state.hash(&mut hasher);
        hasher.word(0x9e37_79b9_7f4a_7c15);
        u128::from(hasher.a) << 64 | u128::from(hasher.b)
    }

    fn word(&mut self, word: u64) {
        let a = fold(self.a ^ word, 0x4b33_a62e_d433_d4a3).wrapping_add(self.b);
        self.b = fold(self.b ^ word, 0x4d5a_2da5_1de1_aa47).wrapping_add(self.a.rotate_left(23));
        self.a = a;
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.a ^ self.b
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.word(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.word(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.word(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.word(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.word(n as u64);
    }
}

/// A fingerprint needs no further hashing.
#[derive(Clone, Copy, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are fingerprints");
    }

    fn write_u128(&mut self, n: u128) {
        self.0 = n as u64;
    }
}

/// How a state was reached first.
struct Origin<A> {
    from: u32,
    by: Option<A>,
}

/// Explores a model to the end, to the first broken rule, or to `states_max` states. `progress` hears of every
/// layer: its depth, the states so far, and how many wait.
pub fn explore<M: Model>(
    model: &M,
    states_max: usize,
    progress: &mut dyn FnMut(u32, usize, usize),
) -> Explored {
    let mut known: HashMap<u128, u32, BuildHasherDefault<AsItIs>> = HashMap::default();
    let mut origins: Vec<Origin<M::Action>> = vec![Origin { from: 0, by: None }];
    // Edges that are no faults, to see whether they go in a circle.
    let mut onward: Vec<(u32, u32)> = Vec::new();
    let mut explored = Explored {
        states: 0,
        transitions: 0,
        at_rest: 0,
        depth: 0,
        complete: false,
        ends: false,
        counterexample: None,
    };
    let first = model.initial();
    known.insert(Fingerprint::of(&first), 0);
    let mut layer = vec![(0u32, first)];
    let mut actions = Vec::new();
    while !layer.is_empty() {
        progress(explored.depth, origins.len(), layer.len());
        let mut next = Vec::new();
        for (at, state) in layer {
            actions.clear();
            model.actions(&state, &mut actions);
            if actions.iter().all(|action| model.is_fault(*action)) {
                explored.at_rest += 1;
                if let Err(broken) = model.at_rest(&state) {
                    explored.counterexample = Some(trace(model, &origins, at, None, broken));
                    explored.states = origins.len() as u64;
                    return explored;
                }
            }
            for action in &actions {
                explored.transitions += 1;
                let mut after = state.clone();
                if let Err(broken) = model.apply(&mut after, *action, None) {
                    let by = Some(*action);
                    explored.counterexample = Some(trace(model, &origins, at, by, broken));
                    explored.states = origins.len() as u64;
                    return explored;
                }
                let fresh = origins.len() as u32;
                let to = *known.entry(Fingerprint::of(&after)).or_insert(fresh);
                if to == fresh {
                    origins.push(Origin { from: at, by: Some(*action) });
                    next.push((to, after));
                }
                if !model.is_fault(*action) {
                    onward.push((at, to));
                }
                if origins.len() >= states_max {
                    explored.states = origins.len() as u64;
                    return explored;
                }
            }
        }
        if !next.is_empty() {
            explored.depth += 1;
        }
        layer = next;
    }
    explored.states = origins.len() as u64;
    explored.complete = true;
    drop(known);
    explored.ends = ends(origins.len(), onward);
    explored
}

/// Whether edges go in no circle (Kahn, 1962).
fn ends(nodes: usize, mut edges: Vec<(u32, u32)>) -> bool {
    edges.sort_unstable();
    let mut incoming = vec![0u32; nodes];
    for (_, to) in &edges {
        incoming[*to as usize] += 1;
    }
    let mut ready: Vec<u32> = (0..nodes as u32).filter(|n| incoming[*n as usize] == 0).collect();
    let mut done = 0;
    while let Some(node) = ready.pop() {
        done += 1;
        let from = edges.partition_point(|(at, _)| *at < node);
        for (_, to) in edges[from..].iter().take_while(|(at, _)| *at == node) {
            incoming[*to as usize] -= 1;
            if incoming[*to as usize] == 0 {
                ready.push(*to);
            }
        }
    }
    done == nodes
}

/// Goes the way to a state again, and writes down what is said on it.
fn trace<M: Model>(
    model: &M,
    origins: &[Origin<M::Action>],
    mut at: u32,
    last: Option<M::Action>,
    broken: String,
) -> Counterexample {
    let mut way: Vec<M::Action> = last.into_iter().collect();
    while let Some(action) = origins[at as usize].by {
        way.push(action);
        at = origins[at as usize].from;
    }
    let mut state = model.initial();
    let mut steps = vec![model.beginning()];
    for action in way.into_iter().rev() {
        let mut told = Vec::new();
        // The last one breaks the rule, or the state that it leads to does.
        let _ = model.apply(&mut state, action, Some(&mut told));
        steps.push(model.describe(action));
        steps.extend(told.into_iter().map(|line| format!("    {line}")));
    }
    Counterexample { steps, broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A jug of three and a jug of five; the rule says that there are never four in one.
    struct Jugs {
        allowed: bool,
    }

    impl Model for Jugs {
        type State = (u8, u8);
        type Action = u8;

        fn initial(&self) -> (u8, u8) {
            (0, 0)
        }

        fn beginning(&self) -> String {
            "both are empty".into()
        }

        fn actions(&self, _: &(u8, u8), out: &mut Vec<u8>) {
            out.extend(0..6);
        }

        fn apply(
            &self,
            (a, b): &mut (u8, u8),
            action: u8,
            told: Option<&mut Vec<String>>,
        ) -> Result<(), String> {
            match action {
                0 => *a = 3,
                1 => *b = 5,
                2 => *a = 0,
                3 => *b = 0,
                4 => {
                    let poured = (*a).min(5 - *b);
                    (*a, *b) = (*a - poured, *b + poured);
                }
                _ => {
                    let poured = (*b).min(3 - *a);
                    (*a, *b) = (*a + poured, *b - poured);
                }
            }
            if let Some(told) = told {
                told.push(format!("{a} and {b}"));
            }
            if *b == 4 && !self.allowed { Err("four".into()) } else { Ok(()) }
        }

        fn at_rest(&self, _: &(u8, u8)) -> Result<(), String> {
            Ok(())
        }

        fn is_fault(&self, _: u8) -> bool {
            false
        }

        fn describe(&self, action: u8) -> String {
            format!("{action}")
        }
    }

    #[test]
    fn a_counterexample_is_a_shortest_one() {
        let found = explore(&Jugs { allowed: false }, 1_000, &mut |_, _, _| {});
        let way = found.counterexample.expect("four can be measured");
        assert_eq!(way.steps.len(), 1 + 2 * 6, "in six steps and not in fewer: {way:?}");
        assert_eq!(way.broken, "four");
        assert!(!found.complete);
    }

    #[test]
    fn all_states_are_seen_and_circles_noticed() {
        let found = explore(&Jugs { allowed: true }, 1_000, &mut |_, _, _| {});
        assert_eq!((found.states, found.complete, found.ends), (16, true, false));
        let cut = explore(&Jugs { allowed: true }, 10, &mut |_, _, _| {});
        assert_eq!((cut.states, cut.complete), (10, false));
    }

    #[test]
    fn edges_without_a_circle_end() {
        assert!(ends(4, vec![(0, 1), (0, 2), (1, 3), (2, 3)]));
        assert!(!ends(3, vec![(0, 1), (1, 2), (2, 1)]));
    }
}
