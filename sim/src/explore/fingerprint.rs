//! What a state is known by, and parts that many states share.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use crate::random::fold;

/// A hash of 128 bits with fixed keys: the same state has the same one in every process.
#[derive(Clone)]
pub(super) struct Fingerprint {
    a: u64,
    b: u64,
}

impl Fingerprint {
    pub(super) fn of(state: &impl Hash) -> u128 {
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

/// 96 bits of a fingerprint: among a hundred million states two share one with a probability of about 10^-13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key([u32; 3]);

impl Key {
    pub(super) fn of(state: &impl Hash) -> Key {
        let print = Fingerprint::of(state);
        Key([print as u32, (print >> 32) as u32, (print >> 64) as u32])
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[0]) << 32 | u64::from(self.0[1]));
    }
}

/// For keys that are fingerprints and need no further hashing.
#[derive(Clone, Copy, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are fingerprints");
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }

    fn write_u128(&mut self, n: u128) {
        self.0 = n as u64;
    }
}

/// A part of a state, which is copied when it is changed and not before, and whose fingerprint is computed
/// once: a step changes few parts of a state.
#[derive(Debug)]
pub(super) struct Shared<T>(Arc<Part<T>>);

#[derive(Debug)]
struct Part<T> {
    value: T,
    print: OnceLock<u128>,
}

impl<T> Shared<T> {
    pub(super) fn new(value: T) -> Self {
        Shared(Arc::new(Part { value, print: OnceLock::new() }))
    }

    /// Whether this is the only copy.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T: Hash> Shared<T> {
    pub(super) fn print(&self) -> u128 {
        *self.0.print.get_or_init(|| Fingerprint::of(&self.0.value))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let print = self.print();
        state.write_u64(print as u64);
        state.write_u64((print >> 64) as u64);
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Shared::new(self.0.value.clone());
        }
        let part = Arc::get_mut(&mut self.0).expect("just made the only copy");
        part.print.take();
        &mut part.value
    }
}

/// The parts of the states that wait, each once.
#[derive(Debug)]
pub(super) struct Pool<T>(
    std::collections::HashMap<u128, Shared<T>, std::hash::BuildHasherDefault<AsItIs>>,
);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(Default::default())
    }
}

impl<T: Hash> Pool<T> {
    /// Replaces a part by an equal one that is there already.
    pub(super) fn share(&mut self, part: &mut Shared<T>) {
        let known = self.0.entry(part.print()).or_insert_with(|| part.clone());
        *part = known.clone();
    }

    /// Forgets what nobody has any more.
    pub(super) fn sweep(&mut self) {
        self.0.retain(|_, part| !part.is_alone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_part_is_copied_when_it_is_changed_and_its_fingerprint_follows() {
        let before = Shared::new(vec![1u8]);
        let (print, mut after) = (before.print(), before.clone());
        after.push(2);
        assert_eq!((before.len(), before.print()), (1, print));
        assert_ne!(after.print(), print);
        after.pop();
        assert_eq!(after.print(), print, "it was not remembered from before the change");
    }

    #[test]
    fn equal_parts_are_kept_once_and_forgotten_with_the_last_state() {
        let mut pool = Pool::default();
        let (mut a, mut b) = (Shared::new(7u8), Shared::new(7u8));
        pool.share(&mut a);
        pool.share(&mut b);
        assert!(Arc::ptr_eq(&a.0, &b.0));
        drop((a, b));
        pool.sweep();
        assert!(pool.0.is_empty());
    }
}
