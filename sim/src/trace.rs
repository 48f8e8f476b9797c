//! The hash of a run: everything that was delivered, expired, happened and ended, with time and place.
//!
//! Two runs with one hash took the same steps. The hash is of fixed keys and fixed-width integers, so
//! it is the same in every process and build.

use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::locate::Which;
use crate::random::fold;

/// What a step was. The numbers are part of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Frame = 1,
    Datagram = 2,
    LinkUp = 3,
    LinkDown = 4,
    DialFailed = 5,
    Timer = 6,
    Event = 7,
    CallEnded = 8,
    Fault = 10,
    Operation = 11,
    Lost = 12,
    Life = 13,
    Stored = 14,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Frame => "a frame arrives",
            Step::Datagram => "a datagram arrives",
            Step::LinkUp => "a link is up",
            Step::LinkDown => "a link is down",
            Step::DialFailed => "a dial has failed",
            Step::Timer => "a timer expires",
            Step::Event => "the node tells its user something",
            Step::CallEnded => "a call ends",
            Step::Fault => "a fault begins or ends",
            Step::Operation => "an operation of the schedule",
            Step::Lost => "a frame is lost",
            Step::Life => "the node begins a life",
            Step::Stored => "the node stores something, or is told that it is stored",
        }
    }
}

/// The hash of a run before one of its steps, and that step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// How many steps were before it.
    pub step: u64,
    /// When it was, in nanoseconds.
    pub at: u64,
    /// At which node; without meaning for a fault.
    pub node: u16,
    /// What it was; empty at the end of the run.
    pub what: &'static str,
    /// The hash of all steps before it.
    pub hash: String,
}

impl Mark {
    /// Whether the run was over then.
    pub fn is_end(&self) -> bool {
        self.what.is_empty()
    }
}

/// Keeps hashes of a run.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    which: Which,
    marks: Arc<Mutex<Vec<Mark>>>,
}

impl Watch {
    /// And where they will be.
    pub(crate) fn new(which: Which) -> (Watch, Arc<Mutex<Vec<Mark>>>) {
        let marks = Arc::default();
        (Watch { which, marks: Arc::clone(&marks) }, marks)
    }
}

/// A hash that grows with the run.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    a: u64,
    b: u64,
    steps: u64,
    /// The next step whose hash is kept.
    keep_at: u64,
    watch: Option<Watch>,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        let (a, b) = (seed ^ 0x2d35_8dcc_aa6c_78a5, 0x8bb8_4b93_962e_acc9);
        Trace { a, b, steps: 0, keep_at: u64::MAX, watch: None }
    }

    /// Keeps hashes, from its first step on.
    pub(crate) fn watch(&mut self, watch: Watch) {
        self.keep_at = watch.which.from;
        self.watch = Some(watch);
    }

    /// A step at this time and node, and two numbers that say more.
    pub(crate) fn note(&mut self, step: Step, at: u64, node: usize, x: u64, y: u64) {
        if self.steps == self.keep_at {
            self.keep(at, node, step.name());
        }
        self.steps += 1;
        self.words(at, (step as u64) << 56 | node as u64);
        self.words(x, y);
    }

    /// The same for what the schedule does. It has no part where only nodes are watched.
    pub(crate) fn note_given(&mut self, step: Step, at: u64, node: usize, x: u64, y: u64) {
        if !self.watch.as_ref().is_some_and(|watch| watch.which.only_nodes) {
            self.note(step, at, node, x, y);
        }
    }

    #[cold]
    fn keep(&mut self, at: u64, node: usize, what: &'static str) {
        let (step, hash) = (self.steps, self.digest());
        let Some(Watch { which, marks }) = &self.watch else { return };
        let next = step + which.every.max(1);
        self.keep_at = if next <= which.to { next } else { u64::MAX };
        let mark = Mark { step, at, node: node as u16, what, hash };
        marks.lock().expect("noting does not panic").push(mark);
    }

    /// The run is over. Its last hash is kept, unless what is wanted ended before.
    pub(crate) fn end(&mut self, at: u64) {
        if self.watch.as_ref().is_some_and(|watch| self.steps <= watch.which.to) {
            self.keep(at, 0, "");
        }
    }

    fn words(&mut self, x: u64, y: u64) {
        // Both halves see both words, each in its own way; a zero product cannot stick.
        let a = fold(self.a ^ x, y ^ 0x4b33_a62e_d433_d4a3).wrapping_add(self.b);
        self.b = fold(self.b ^ y, x ^ 0x4d5a_2da5_1de1_aa47).wrapping_add(self.a.rotate_left(23));
        self.a = a;
    }

    /// Bytes that were part of the step.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<16>();
        for chunk in chunks {
            let (x, y) = chunk.split_at(8);
            let word = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("eight bytes"));
            self.words(word(x), word(y));
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let last = u128::from_le_bytes(last);
        self.words(last as u64, (last >> 64) as u64 ^ bytes.len() as u64);
    }

    /// The hash so far, as 32 hexadecimal digits.
    pub(crate) fn digest(&self) -> String {
        let mut end = self.clone();
        end.words(0, 0);
        end.words(1, 1);
        format!("{:016x}{:016x}", end.a, end.b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_step_counts() {
        let digest = |step, at, node, x, bytes: &[u8]| {
            let mut trace = Trace::new(1);
            trace.note(step, at, node, x, 0);
            trace.bytes(bytes);
            trace.digest()
        };
        let all = [
            digest(Step::Frame, 1, 1, 1, b"a"),
            digest(Step::Timer, 1, 1, 1, b"a"),
            digest(Step::Frame, 2, 1, 1, b"a"),
            digest(Step::Frame, 1, 2, 1, b"a"),
            digest(Step::Frame, 1, 1, 2, b"a"),
            digest(Step::Frame, 1, 1, 1, b"b"),
            digest(Step::Frame, 1, 1, 1, b"a\0"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
