//! A hash table of 32-bit places, keyed from outside, and the keyed hash that goes with it.

/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// Hashes topics with a key that follows from a seed.
///
/// A multiply-and-fold hash, like wyhash: fast on short texts, and hard to aim at for somebody who
/// does not know the seed. It is not cryptographic.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicHash {
    start: u64,
    factor: u64,
}

impl TopicHash {
    pub(super) fn new(seed: u64) -> Self {
        // Constants of splitmix64, which spreads a seed over all bits.
        let spread = |seed: u64| {
            let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            seed ^ (seed >> 31)
        };
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        TopicHash {
            start: spread(seed.wrapping_add(STEP)),
            // Odd, so that no bit of the input is lost.
            factor: spread(seed.wrapping_add(STEP.wrapping_mul(2))) | 1,
        }
    }

    /// The hash of a text.
    #[inline]
    pub(super) fn text(self, text: &[u8]) -> u64 {
        let long =
            |at: usize| u64::from_le_bytes(text[at..at + 8].try_into().expect("eight bytes"));
        let short = |at: usize| {
            u64::from(u32::from_le_bytes(text[at..at + 4].try_into().expect("four bytes")))
        };
        let len = text.len();
        // The last word may overlap the one before it; the length tells such texts apart.
        let last = match len {
            0 => 0,
            1..4 => {
                u64::from(text[0]) | u64::from(text[len / 2]) << 8 | u64::from(text[len - 1]) << 16
            }
            4..8 => short(0) | short(len - 4) << 32,
            _ => long(len - 8),
        };
        let mut hash = self.start ^ len as u64;
        let mut at = 0;
        while at + 8 < len {
            hash = self.fold(hash ^ long(at));
            at += 8;
        }
        self.fold(self.fold(hash ^ last) ^ self.start)
    }

    /// The hash of an edge: from the node in place `from`, by a segment with this hash.
    #[inline]
    pub(super) fn edge(self, from: u32, segment: u64) -> u32 {
        (self.fold(segment ^ u64::from(from).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 32) as u32
    }

    #[inline]
    fn fold(self, word: u64) -> u64 {
        let product = u128::from(word) * u128::from(self.factor);
        product as u64 ^ (product >> 64) as u64
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    place: u32,
}

const EMPTY: Slot = Slot { hash: 0, place: NONE };

/// Finds places by the hash of what lies there. What lies there, the caller knows.
///
/// Open addressing with linear probing; removal closes the gap, so that nothing is left behind. It
/// is at most three quarters full. Slots keep their hash, so growing does not visit the places.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    // Empty, or a power of two.
    slots: Vec<Slot>,
    len: usize,
}

impl Table {
    /// The place with this hash of which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.place == NONE {
                return None;
            }
            if slot.hash == hash && is_it(slot.place) {
                return Some(slot.place);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a place, which must not be there.
    pub(super) fn insert(&mut self, hash: u32, place: u32) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.resize((self.slots.len() * 2).max(8));
        }
        self.put(Slot { hash, place });
        self.len += 1;
    }

    /// Takes out a place, which must be there under this hash.
    pub(super) fn remove(&mut self, hash: u32, place: u32) {
        let mask = self.slots.len() - 1;
        let mut gap = hash as usize & mask;
        while self.slots[gap].place != place {
            assert_ne!(self.slots[gap].place, NONE, "only what is in the table is taken out");
            gap = (gap + 1) & mask;
        }
        // Moves up every later slot of the run that would no longer be found across the gap.
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot.place == NONE {
                break;
            }
            let home = slot.hash as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.slots[gap] = slot;
                gap = at;
            }
        }
        self.slots[gap] = EMPTY;
        self.len -= 1;
        // Far below the bound of growth, so that no sequence resizes at every step.
        if self.slots.len() > 8 && self.len * 8 < self.slots.len() {
            self.resize(self.slots.len() / 2);
        }
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        for slot in old {
            if slot.place != NONE {
                self.put(slot);
            }
        }
    }

    fn put(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = slot.hash as usize & mask;
        while self.slots[at].place != NONE {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_differ_in_one_byte_or_in_length_differ_in_their_hash() {
        let hash = TopicHash::new(1);
        let text = b"abcdefghijklmnopqrstuvwxyz";
        let mut seen: Vec<u64> = (0..=text.len()).map(|len| hash.text(&text[..len])).collect();
        for len in 1..=text.len() {
            for at in 0..len {
                let mut other = text[..len].to_vec();
                other[at] = b'-';
                seen.push(hash.text(&other));
            }
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
        assert_ne!(hash.text(text), TopicHash::new(2).text(text));
    }

    #[test]
    fn texts_and_edges_that_resemble_each_other_spread_over_the_table() {
        for seed in [0, 1, u64::MAX] {
            let hash = TopicHash::new(seed);
            let (mut texts, mut edges) = (Table::default(), Table::default());
            for n in 0..90_000 {
                let text = hash.text(format!("fleet/device-{n}/on").as_bytes());
                texts.insert((text >> 32) as u32, n);
                edges.insert(hash.edge(n, hash.text(b"on")), n);
            }
            for table in [texts, edges] {
                let runs = table.slots.split(|slot| slot.place == NONE);
                let longest = runs.map(<[Slot]>::len).max().unwrap();
                // Slots are 0.69 full, where chance gives runs of about a hundred.
                assert!(longest < 300, "{longest}");
            }
        }
    }

    proptest! {
        // Few hash values, so that runs are long, wrap around and interleave.
        #[test]
        fn it_agrees_with_a_list(
            steps in proptest::collection::vec((any::<bool>(), 0u32..12, any::<u8>()), 1..300),
        ) {
            let mut table = Table::default();
            let mut model: Vec<(u32, u32)> = Vec::new();
            for (place, (remove, hash, pick)) in steps.into_iter().enumerate() {
                if remove && !model.is_empty() {
                    let (hash, place) = model.swap_remove(pick as usize % model.len());
                    table.remove(hash, place);
                } else {
                    let hash = hash.wrapping_mul(0x3fff_ffff);
                    table.insert(hash, place as u32);
                    model.push((hash, place as u32));
                }
                for (hash, place) in &model {
                    prop_assert_eq!(table.find(*hash, |found| found == *place), Some(*place));
                }
                prop_assert_eq!(table.len, model.len());
            }
            for (hash, place) in model {
                table.remove(hash, place);
                prop_assert_eq!(table.find(hash, |found| found == place), None);
            }
            prop_assert!(table.slots.len() <= 8);
        }
    }
}
