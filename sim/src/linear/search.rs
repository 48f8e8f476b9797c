//! The search for an order, depth first.
//!
//! Returns are gone through in their order. Each needs its operation placed; if it is not yet, one operation after the
//! other of those that are open is placed, until it is. What was placed when is a stack. A configuration is which
//! operations are placed, and what the object is then: from one that was seen before nothing new is found. Open reads
//! whose answer is right are placed at once: in any order that puts them later they can as well stand here.

use std::collections::HashSet;

use super::{Model, Operation};

/// What the search came to; places are those in the slice that was searched.
pub(super) enum Found<S> {
    Order(Vec<usize>),
    None { operation: usize, prefix: Vec<usize>, state: S },
    TooMuch,
}

/// Which operations are placed, by the order of their calls, and what the object is then. Leading words that are full
/// and trailing ones that are empty are left out: what is long past costs nothing.
#[derive(PartialEq, Eq, Hash)]
struct Configuration<S> {
    full: usize,
    rest: Box<[u64]>,
    state: S,
}

struct Frame<S> {
    /// What the object is here.
    state: S,
    /// The place, in the order of returns, of the first whose operation is not placed.
    due: usize,
    /// What is tried next.
    next: Next,
    /// What was placed to come here.
    placed: Option<usize>,
}

#[derive(Clone, Copy)]
enum Next {
    /// What only reads, from this one of those that are open on.
    Idle(usize),
    /// The operation that is due.
    Due,
    /// This one of those that are open, in the order of their calls.
    Open(usize),
    /// The configuration was seen before, or all was tried.
    Nothing,
}

/// The operations that are not placed, by their calls, as a list from which one is taken and to which it is given back
/// in constant time (Knuth's dancing links).
struct Open {
    next: Vec<usize>,
    before: Vec<usize>,
}

impl Open {
    /// The place behind the last operation, and before the first.
    fn new(count: usize) -> Self {
        let next = (0..=count).map(|i| if i == count { 0 } else { i + 1 }).collect();
        let before = (0..=count).map(|i| if i == 0 { count } else { i - 1 }).collect();
        Open { next, before }
    }

    fn end(&self) -> usize {
        self.next.len() - 1
    }

    fn first(&self) -> usize {
        match self.end() {
            0 => 0,
            end => self.next[end],
        }
    }

    fn take(&mut self, at: usize) {
        let (before, next) = (self.before[at], self.next[at]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn give_back(&mut self, at: usize) {
        let (before, next) = (self.before[at], self.next[at]);
        self.next[before] = at;
        self.before[next] = at;
    }
}

/// Which operations are placed, by their calls.
struct Placed {
    words: Vec<u64>,
    /// So many words at the beginning are full.
    full: usize,
    /// Behind so many words all are empty.
    used: usize,
}

impl Placed {
    fn new(count: usize) -> Self {
        Placed { words: vec![0; count.div_ceil(64)], full: 0, used: 0 }
    }

    fn has(&self, own: usize) -> bool {
        self.words[own / 64] >> (own % 64) & 1 == 1
    }

    fn put(&mut self, own: usize) {
        self.words[own / 64] |= 1 << (own % 64);
        self.used = self.used.max(own / 64 + 1);
        while self.words.get(self.full) == Some(&u64::MAX) {
            self.full += 1;
        }
    }

    fn take_back(&mut self, own: usize) {
        self.words[own / 64] &= !(1 << (own % 64));
        self.full = self.full.min(own / 64);
        while self.used > 0 && self.words[self.used - 1] == 0 {
            self.used -= 1;
        }
    }

    fn with<S>(&self, state: S) -> Configuration<S> {
        let rest = self.words[self.full..self.used.max(self.full)].into();
        Configuration { full: self.full, rest, state }
    }
}

/// Operations in the order of their calls, and when which must be placed.
struct Plan {
    /// The operations by their calls.
    by_call: Vec<usize>,
    /// Those that returned, by their returns, as places in `by_call`.
    by_return: Vec<usize>,
    /// For each of those, how many operations are called before it returns.
    called_before: Vec<usize>,
}

impl Plan {
    fn new<O, R>(operations: &[&Operation<O, R>]) -> Self {
        let mut by_call: Vec<usize> = (0..operations.len()).collect();
        by_call.sort_by_key(|place| operations[*place].called);
        let returned = |own: &usize| operations[by_call[*own]].returned.as_ref().map(|(at, _)| *at);
        let mut by_return: Vec<usize> =
            (0..by_call.len()).filter(|own| returned(own).is_some()).collect();
        by_return.sort_by_key(returned);
        let called = |at: u64| by_call.partition_point(|place| operations[*place].called <= at);
        let called_before = by_return
            .iter()
            .map(|own| {
                let at = returned(own).expect("only what returned is in this list");
                assert!(operations[by_call[*own]].called <= at, "it returns before it is called");
                called(at)
            })
            .collect();
        Plan { by_call, by_return, called_before }
    }
}

pub(super) fn search<M: Model>(
    model: &M,
    operations: &[&Operation<M::Op, M::Return>],
    steps_left: &mut u64,
) -> Found<M::State> {
    let plan = Plan::new(operations);
    let mut open = Open::new(operations.len());
    let mut placed = Placed::new(operations.len());
    let mut seen = HashSet::new();
    let next = Next::Idle(open.first());
    let first = Frame { state: model.initial(), due: 0, next, placed: None };
    let mut stack = vec![first];
    // How far it came: the return that nothing explained, and what was placed before it.
    let mut best: (usize, Vec<usize>, M::State) = (0, Vec::new(), model.initial());
    while !stack.is_empty() {
        let depth = stack.len() - 1;
        let top = &mut stack[depth];
        if top.due == plan.by_return.len() {
            return Found::Order(order(&plan, &stack));
        }
        let due = plan.by_return[top.due];
        // The operation that is tried now, and what comes behind it.
        let candidate = match top.next {
            Next::Idle(own) if own < plan.called_before[top.due] => {
                top.next = Next::Idle(open.next[own]);
                own
            }
            Next::Idle(_) => {
                top.next = Next::Due;
                continue;
            }
            Next::Due => {
                top.next = Next::Open(open.first());
                due
            }
            Next::Open(own) if own < plan.called_before[top.due] => {
                top.next = Next::Open(open.next[own]);
                if own == due {
                    continue;
                }
                own
            }
            Next::Open(_) | Next::Nothing => {
                if top.due > best.0 || top.due == best.0 && depth > best.1.len() {
                    best = (top.due, order(&plan, &stack), stack[depth].state.clone());
                }
                let left = stack.pop().expect("it is there");
                if let Some(own) = left.placed {
                    open.give_back(own);
                    placed.take_back(own);
                }
                continue;
            }
        };
        let operation = operations[plan.by_call[candidate]];
        let is_idle = matches!(top.next, Next::Idle(_));
        if is_idle && !(model.only_reads(&operation.op) && operation.returned.is_some()) {
            continue;
        }
        if *steps_left == 0 {
            return Found::TooMuch;
        }
        *steps_left -= 1;
        let answer = operation.returned.as_ref().map(|(_, answer)| answer);
        let Some(state) = model.apply(&top.state, &operation.op, answer) else { continue };
        let mut next = None;
        if let Next::Idle(behind) = top.next {
            debug_assert!(state == top.state, "what only reads changes nothing");
            // Where this stands later, it can as well stand here: nothing else needs to be tried.
            top.next = Next::Nothing;
            next = Some(behind);
        }
        let mut now_due = top.due;
        open.take(candidate);
        placed.put(candidate);
        while plan.by_return.get(now_due).is_some_and(|own| placed.has(*own)) {
            now_due += 1;
        }
        // What was passed over in this state is passed over again.
        let mut next = Next::Idle(next.unwrap_or_else(|| open.first()));
        if !seen.insert(placed.with(state.clone())) {
            next = Next::Nothing;
        }
        stack.push(Frame { state, due: now_due, next, placed: Some(candidate) });
    }
    let (due, prefix, state) = best;
    Found::None { operation: plan.by_call[plan.by_return[due]], prefix, state }
}

/// What was placed, in its order.
fn order<S>(plan: &Plan, stack: &[Frame<S>]) -> Vec<usize> {
    stack.iter().filter_map(|frame| frame.placed).map(|own| plan.by_call[own]).collect()
}
