//! Objects that are often needed: a register, one with compare-and-set, a key-value store, a counter.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;

use super::Model;

/// A register that is read and written.
#[derive(Clone, Debug)]
pub struct Register<V> {
    initial: V,
}

/// What is asked of a [`Register`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RegisterOp<V> {
    Read,
    Write(V),
}

/// What a [`Register`] answers: a value to who reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RegisterReturn<V> {
    Value(V),
    Done,
}

impl<V> Register<V> {
    /// A register that holds this at first.
    pub fn new(initial: V) -> Self {
        Register { initial }
    }
}

impl<V: Clone + Eq + Hash + Debug> Model for Register<V> {
    type State = V;
    type Op = RegisterOp<V>;
    type Return = RegisterReturn<V>;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn apply(
        &self,
        state: &V,
        op: &RegisterOp<V>,
        answer: Option<&RegisterReturn<V>>,
    ) -> Option<V> {
        let (next, right) = match op {
            RegisterOp::Read => (state, RegisterReturn::Value(state.clone())),
            RegisterOp::Write(value) => (value, RegisterReturn::Done),
        };
        answer.is_none_or(|answer| *answer == right).then(|| next.clone())
    }

    fn only_reads(&self, op: &RegisterOp<V>) -> bool {
        matches!(op, RegisterOp::Read)
    }
}

/// A register that is also written only if it holds what is expected.
#[derive(Clone, Debug)]
pub struct CasRegister<V> {
    initial: V,
}

/// What is asked of a [`CasRegister`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CasOp<V> {
    Read,
    Write(V),
    /// Write `to` if it holds `from`.
    CompareAndSet {
        from: V,
        to: V,
    },
}

/// What a [`CasRegister`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CasReturn<V> {
    Value(V),
    Done,
    /// Whether it held what was expected.
    Set(bool),
}

impl<V> CasRegister<V> {
    /// A register that holds this at first.
    pub fn new(initial: V) -> Self {
        CasRegister { initial }
    }
}

impl<V: Clone + Eq + Hash + Debug> Model for CasRegister<V> {
    type State = V;
    type Op = CasOp<V>;
    type Return = CasReturn<V>;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn apply(&self, state: &V, op: &CasOp<V>, answer: Option<&CasReturn<V>>) -> Option<V> {
        let (next, right) = match op {
            CasOp::Read => (state, CasReturn::Value(state.clone())),
            CasOp::Write(value) => (value, CasReturn::Done),
            CasOp::CompareAndSet { from, to } if from == state => (to, CasReturn::Set(true)),
            CasOp::CompareAndSet { .. } => (state, CasReturn::Set(false)),
        };
        answer.is_none_or(|answer| *answer == right).then(|| next.clone())
    }

    fn only_reads(&self, op: &CasOp<V>) -> bool {
        matches!(op, CasOp::Read)
    }
}

/// A store of texts by key, empty at first. Check it with [`super::check_by_key`] and [`KeyValueOp::key`].
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyValue;

/// What is asked of a [`KeyValue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValueOp {
    /// Of which key.
    pub key: String,
    /// What.
    pub what: ValueOp,
}

/// What is asked of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ValueOp {
    Get,
    Put(String),
    /// Write behind what is there; what is not there is empty.
    Append(String),
    Delete,
}

impl KeyValueOp {
    /// Its key.
    pub fn key(&self) -> String {
        self.key.clone()
    }
}

/// What a [`KeyValue`] answers: to who gets, the value, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KeyValueReturn {
    Value(Option<String>),
    Done,
}

impl Model for KeyValue {
    type State = BTreeMap<String, String>;
    type Op = KeyValueOp;
    type Return = KeyValueReturn;

    fn initial(&self) -> Self::State {
        BTreeMap::new()
    }

    fn apply(
        &self,
        state: &Self::State,
        op: &KeyValueOp,
        answer: Option<&KeyValueReturn>,
    ) -> Option<Self::State> {
        let before = state.get(&op.key);
        let right = match op.what {
            ValueOp::Get => KeyValueReturn::Value(before.cloned()),
            _ => KeyValueReturn::Done,
        };
        if answer.is_some_and(|answer| *answer != right) {
            return None;
        }
        let mut next = state.clone();
        match &op.what {
            ValueOp::Get => {}
            ValueOp::Put(value) => {
                next.insert(op.key.clone(), value.clone());
            }
            ValueOp::Append(value) => next.entry(op.key.clone()).or_default().push_str(value),
            ValueOp::Delete => {
                next.remove(&op.key);
            }
        }
        Some(next)
    }

    fn only_reads(&self, op: &KeyValueOp) -> bool {
        op.what == ValueOp::Get
    }
}

/// A counter, zero at first. It wraps around.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter;

/// What is asked of a [`Counter`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CounterOp {
    Read,
    Add(i64),
    /// Add, and tell the sum.
    AddAndRead(i64),
}

/// What a [`Counter`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CounterReturn {
    Value(i64),
    Done,
}

impl Model for Counter {
    type State = i64;
    type Op = CounterOp;
    type Return = CounterReturn;

    fn initial(&self) -> i64 {
        0
    }

    fn apply(&self, state: &i64, op: &CounterOp, answer: Option<&CounterReturn>) -> Option<i64> {
        let (next, right) = match op {
            CounterOp::Read => (*state, CounterReturn::Value(*state)),
            CounterOp::Add(n) => (state.wrapping_add(*n), CounterReturn::Done),
            CounterOp::AddAndRead(n) => {
                let sum = state.wrapping_add(*n);
                (sum, CounterReturn::Value(sum))
            }
        };
        answer.is_none_or(|answer| *answer == right).then_some(next)
    }

    fn only_reads(&self, op: &CounterOp) -> bool {
        matches!(op, CounterOp::Read)
    }
}
