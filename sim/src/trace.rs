//! The hash of a run: everything that was delivered, expired, happened and ended, with time and place.
//!
//! Two runs with one hash took the same steps. The hash is of fixed keys and fixed-width integers, so
//! it is the same in every process and build.

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
}

/// A hash that grows with the run.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    a: u64,
    b: u64,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        Trace { a: seed ^ 0x2d35_8dcc_aa6c_78a5, b: 0x8bb8_4b93_962e_acc9 }
    }

    /// A step at this time and node, and two numbers that say more.
    pub(crate) fn note(&mut self, step: Step, at: u64, node: usize, x: u64, y: u64) {
        self.words(at, (step as u64) << 56 | node as u64);
        self.words(x, y);
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
