//! Randomness as an argument.
//!
//! Every draw is ChaCha8 keyed by (seed, label, counter): a new draw in one machine does not shift
//! those of another, and a thousand machines keep no generator each.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a draw is for. Each label has a stream of its own; the numbers are part of a seed's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Label {
    /// The boot number of the node's incarnation.
    Boot = 0,
    /// Jitter of the back-off before a peer is dialled again.
    Backoff = 1,
    /// Seeds of the QUIC endpoint and its TLS provider.
    Transport = 2,
    /// Numbers for applications (`Context::random`).
    Application = 3,
    /// Which of several instances of a service is called.
    Selection = 4,
    /// Numbers by which entries of the directory are named.
    Directory = 5,
    /// Jitter of whoever waits for a lease.
    Lease = 6,
    /// Jitter of the back-off before a call is made again.
    Retry = 7,
    /// Jitter of the time for which a sick instance is left alone.
    Breaker = 8,
    /// Keys of hash tables that peers fill.
    Hash = 9,
    /// Nonces of greetings, and what fills the rest of their marks.
    Greeting = 10,
}

const LABELS: usize = 11;

/// The source of all randomness of one node.
#[derive(Clone)]
pub struct Draws {
    seed: [u8; 32],
    counters: [u64; LABELS],
}

impl Draws {
    /// All draws follow from this seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Draws { seed, counters: [0; LABELS] }
    }

    /// 32 fresh bytes.
    pub fn bytes(&mut self, label: Label) -> [u8; 32] {
        let counter = &mut self.counters[label as usize];
        let mut rng = ChaCha8Rng::from_seed(self.seed);
        rng.set_stream(label as u64);
        // One ChaCha block of 16 words a draw.
        rng.set_word_pos(u128::from(*counter) * 16);
        *counter += 1;
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        bytes
    }

    /// A fresh 64-bit number.
    pub fn number(&mut self, label: Label) -> u64 {
        let bytes = self.bytes(label);
        u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
    }

    /// A fresh number below `bound`. The bias is below `bound` / 2^64.
    pub fn below(&mut self, label: Label, bound: u64) -> u64 {
        ((u128::from(self.number(label)) * u128::from(bound)) >> 64) as u64
    }
}

impl std::fmt::Debug for Draws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Draws({:?} drawn, seed withheld)", self.counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_of_one_label_do_not_shift_those_of_another() {
        let mut alone = Draws::new([1; 32]);
        let expected = [alone.number(Label::Backoff), alone.number(Label::Backoff)];
        let mut mixed = Draws::new([1; 32]);
        let first = mixed.number(Label::Backoff);
        mixed.number(Label::Boot);
        mixed.bytes(Label::Transport);
        assert_eq!([first, mixed.number(Label::Backoff)], expected);
        assert_ne!(expected[0], expected[1]);
    }

    #[test]
    fn a_bounded_draw_stays_below_its_bound() {
        let mut draws = Draws::new([2; 32]);
        let drawn: Vec<u64> = (0..200).map(|_| draws.below(Label::Backoff, 7)).collect();
        assert!(drawn.iter().all(|n| *n < 7));
        assert!((0..7).all(|n| drawn.contains(&n)));
    }
}
