//! Exhaustive exploration: every state that a small configuration can get into, in whatever order things
//! happen.
//!
//! A [`Model`] says which actions are possible in a state and what each leads to. [`explore`] goes through
//! all states, breadth first, so that the first broken rule comes with a shortest way to it. A state is
//! known by a fingerprint of 96 bits, without random keys: the same model has the same states everywhere.
//!
//! A state takes about 60 bytes once it is done with: its fingerprint, how it was reached, and where it leads.
//! While it waits it takes about 100 more, for its parts are shared with others (as collapse compression
//! does; Holzmann, 1997).

mod fingerprint;
pub mod glare;
pub mod lease;
mod network;
mod nodes;

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash};

use fingerprint::{AsItIs, Key};

/// A small world.
pub trait Model: Sync {
    /// All that may differ between two moments.
    type State: Clone + Hash + Send + Sync;
    /// Something that can happen.
    type Action: Copy + Debug + Send;
    /// Parts that states have in common.
    type Pool: Default;

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

    /// Has a state use the parts that others have. It may do nothing.
    fn share(&self, state: &mut Self::State, pool: &mut Self::Pool);

    /// Forgets the parts that no state has any more.
    fn sweep(&self, pool: &mut Self::Pool);

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

/// How a state was reached first.
struct Origin<A> {
    from: u32,
    by: Option<A>,
}

/// Explores a model to the end, to the first broken rule, or to `states_max` states, with so many threads.
/// What comes out does not depend on how many. `progress` hears of every layer: its depth, the states so far, and
/// how many wait.
pub fn explore<M: Model>(
    model: &M,
    states_max: usize,
    threads: usize,
    progress: &mut dyn FnMut(u32, usize, usize),
) -> Explored {
    let mut known = Known::default();
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
    let mut pool = M::Pool::default();
    known.insert(Key::of(&first), 0);
    let mut layer = VecDeque::from([(0u32, first)]);
    while !layer.is_empty() {
        progress(explored.depth, origins.len(), layer.len());
        let mut next = VecDeque::new();
        while !layer.is_empty() {
            // States go as they are expanded, so that two layers are never whole at one time.
            let block: Vec<_> = layer.drain(..layer.len().min(BLOCK)).collect();
            for expanded in expand_all(model, &block, &known, threads) {
                explored.at_rest += u64::from(expanded.at_rest);
                let mut broken = expanded.broken.map(|broken| (None, broken));
                for step in expanded.steps {
                    explored.transitions += 1;
                    let (key, after) = match step.led_to {
                        Ok(led_to) => led_to,
                        Err(what) => {
                            broken = Some((Some(step.by), what));
                            break;
                        }
                    };
                    let fresh = origins.len() as u32;
                    let to = *known.entry(key).or_insert(fresh);
                    if to == fresh {
                        origins.push(Origin { from: expanded.at, by: Some(step.by) });
                        let mut after = after.expect("what is not known yet is kept");
                        model.share(&mut after, &mut pool);
                        next.push_back((to, after));
                    }
                    if !model.is_fault(step.by) {
                        onward.push((expanded.at, to));
                    }
                    if origins.len() >= states_max {
                        explored.states = origins.len() as u64;
                        return explored;
                    }
                }
                explored.states = origins.len() as u64;
                if let Some((by, broken)) = broken {
                    let way = trace(model, &origins, expanded.at, by, broken);
                    explored.counterexample = Some(way);
                    return explored;
                }
            }
        }
        model.sweep(&mut pool);
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

/// States by what they are known by.
type Known = HashMap<Key, u32, BuildHasherDefault<AsItIs>>;

/// States that are expanded before what they lead to is put in order.
const BLOCK: usize = 1 << 14;

/// What one state leads to.
struct Expanded<M: Model> {
    at: u32,
    at_rest: bool,
    /// The rule that the state itself breaks.
    broken: Option<String>,
    steps: Vec<Step<M>>,
}

struct Step<M: Model> {
    by: M::Action,
    /// What the state after it is known by, and that state unless it was known before; or the broken rule.
    led_to: Result<(Key, Option<M::State>), String>,
}

fn expand_all<M: Model>(
    model: &M,
    block: &[(u32, M::State)],
    known: &Known,
    threads: usize,
) -> Vec<Expanded<M>> {
    let part = block.len().div_ceil(threads.max(1)).max(64);
    std::thread::scope(|scope| {
        let parts: Vec<_> = block
            .chunks(part)
            .map(|part| {
                scope.spawn(move || {
                    let one = |(at, state): &(u32, M::State)| expand(model, *at, state, known);
                    part.iter().map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("models do not panic")).collect()
    })
}

fn expand<M: Model>(model: &M, at: u32, state: &M::State, known: &Known) -> Expanded<M> {
    let mut actions = Vec::new();
    model.actions(state, &mut actions);
    let at_rest = actions.iter().all(|action| model.is_fault(*action));
    let broken = if at_rest { model.at_rest(state).err() } else { None };
    let mut steps = Vec::with_capacity(actions.len());
    if broken.is_none() {
        for by in actions {
            let mut after = state.clone();
            let led_to = model.apply(&mut after, by, None).map(|()| {
                let key = Key::of(&after);
                (key, (!known.contains_key(&key)).then_some(after))
            });
            steps.push(Step { by, led_to });
        }
    }
    Expanded { at, at_rest, broken, steps }
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
        type Pool = ();

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

        fn share(&self, _: &mut (u8, u8), _: &mut ()) {}

        fn sweep(&self, _: &mut ()) {}

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
        let found = explore(&Jugs { allowed: false }, 1_000, 1, &mut |_, _, _| {});
        let way = found.counterexample.expect("four can be measured");
        assert_eq!(way.steps.len(), 1 + 2 * 6, "in six steps and not in fewer: {way:?}");
        assert_eq!(way.broken, "four");
        assert!(!found.complete);
    }

    #[test]
    fn all_states_are_seen_and_circles_noticed() {
        let found = explore(&Jugs { allowed: true }, 1_000, 1, &mut |_, _, _| {});
        assert_eq!((found.states, found.complete, found.ends), (16, true, false));
        let cut = explore(&Jugs { allowed: true }, 10, 2, &mut |_, _, _| {});
        assert_eq!((cut.states, cut.complete), (10, false));
    }

    #[test]
    fn edges_without_a_circle_end() {
        assert!(ends(4, vec![(0, 1), (0, 2), (1, 3), (2, 3)]));
        assert!(!ends(3, vec![(0, 1), (1, 2), (2, 1)]));
    }
}
