//! Randomness from numbers alone: integers in, integers out, the same on every machine.
//!
//! Nothing here uses floating point, whose library functions differ between platforms.

const K: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03, 0x8cb9_2ba7_2f3d_8dd7, 0xaef1_7502_108e_f2d9];

/// Both halves of the 128-bit product, folded: every bit of the arguments reaches every bit.
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A number that follows from four others and looks like none of them.
pub(crate) fn mix(a: u64, b: u64, c: u64, d: u64) -> u64 {
    let left = fold(a ^ K[0], b.wrapping_add(K[1]));
    let right = fold(c ^ K[2], d.wrapping_add(K[3]));
    let mut x = left ^ right.rotate_left(29) ^ a.wrapping_mul(K[3]) ^ d.wrapping_mul(K[2]);
    // A product is zero when a factor is, so a finaliser follows that loses nothing.
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number below `bound`, from a random one.
pub(crate) fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// An exponentially distributed number with this mean, from a random one. The logarithm is taken bit by
/// bit with a straight line in between: within 9 % of the true one, and exact everywhere.
pub(crate) fn exponential(random: u64, mean: u64) -> u64 {
    let random = random | 1;
    let zeros = random.leading_zeros();
    // What follows the leading one, as 32 bits of a fraction.
    let rest = ((u128::from(random) << (zeros + 1)) as u64) >> 32;
    // -log2 of (random / 2^64), in 2^-32.
    let log2 = (u64::from(zeros) << 32) + ((1 << 32) - rest);
    // The natural logarithm of two, in 2^-32.
    let ln = (u128::from(log2) * 2_977_044_472) >> 32;
    ((u128::from(mean) * ln) >> 32) as u64
}

/// Thirty-two bytes that follow from three numbers.
pub(crate) fn bytes32(seed: u64, a: u64, b: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&mix(seed, a, b, index as u64).to_le_bytes());
    }
    bytes
}

/// A stream of numbers from a seed and a label. Streams of different labels do not shift each other.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    seed: u64,
    label: u64,
    counter: u64,
}

impl Stream {
    /// The stream of this label.
    pub(crate) fn new(seed: u64, label: u64) -> Self {
        Stream { seed, label, counter: 0 }
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> u64 {
        self.counter += 1;
        mix(self.seed, self.label, self.counter, 0x5eed)
    }

    /// The next number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        below(self.number(), bound)
    }

    /// The next number from `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_and_exponentials_have_their_mean() {
        let mut stream = Stream::new(1, 2);
        let mut counts = [0u32; 10];
        let mut sum = 0;
        for _ in 0..20_000 {
            counts[stream.below(10) as usize] += 1;
            sum += exponential(stream.number(), 1_000);
        }
        assert!(counts.iter().all(|n| (1_800..2_200).contains(n)), "{counts:?}");
        assert!((900..1_150).contains(&(sum / 20_000)), "{}", sum / 20_000);
    }

    #[test]
    fn streams_of_other_labels_and_seeds_differ() {
        let first = |seed, label| Stream::new(seed, label).number();
        assert_ne!(first(0, 0), first(0, 1));
        assert_ne!(first(0, 0), first(1, 0));
        assert_ne!(mix(0, 0, 0, 0), 0);
    }
}
