//! A hash that is the same on every machine and in every version: it goes over the wire, and nodes must
//! agree on it.
//!
//! Words of eight bytes go through the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), one
//! after the other. It spreads well and is not made to withstand an adversary: use it where whoever
//! chooses the input can harm only himself.

/// The golden ratio in 64 bits, SplitMix64's increment.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Takes in values and gives a number that depends on all of them and on their order.
#[derive(Clone, Debug)]
pub struct StableHash(u64);

impl StableHash {
    /// A hash of one kind of thing: kinds with different numbers do not collide by being alike.
    pub fn new(kind: u64) -> Self {
        StableHash(mix(kind.wrapping_add(GOLDEN)))
    }

    /// Takes in a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.0 = mix(self.0.wrapping_add(GOLDEN) ^ number);
        self
    }

    /// Takes in bytes, and how many they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
        self
    }

    /// The hash of what was taken in.
    pub fn finish(&self) -> u64 {
        self.0
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[u8]]) -> u64 {
        let mut hash = StableHash::new(1);
        for part in parts {
            hash.bytes(part);
        }
        hash.finish()
    }

    #[test]
    fn the_hash_is_part_of_the_wire_format_and_stays_as_it_is() {
        assert_eq!(StableHash::new(0).finish(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(of(&[b"math/add"]), 0x4ba2_f98b_b383_b04c);
    }

    #[test]
    fn where_one_part_ends_matters() {
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"a"]), of(&[b"a\0"]));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"b", b"a"]));
    }

    #[test]
    fn every_bit_of_the_input_changes_about_half_of_the_hash() {
        for bit in 0..128 {
            let mut bytes = *b"0123456789abcdef";
            let before = of(&[&bytes]);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = (before ^ of(&[&bytes])).count_ones();
            assert!((12..=52).contains(&changed), "bit {bit} changes {changed} bits");
        }
    }
}
