//! A map from numbers that are counted up.

use std::collections::VecDeque;

use super::slab::make_first_room;

/// A sorted map whose keys are handed out in ascending order, and mostly leave in much the same.
///
/// The entries lie in a queue. What comes with the highest key yet, and what goes from the front, costs no more for
/// many entries than for few; a key without gaps before it is found at once, any other by bisection. An entry that
/// comes or goes in between moves those on its shorter side: whoever has keys in any order, and many, is better off
/// with a [`BTreeMap`](std::collections::BTreeMap).
#[derive(Clone, Debug)]
pub struct SequenceMap<V> {
    /// Ascending.
    entries: VecDeque<(u64, V)>,
}

impl<V> Default for SequenceMap<V> {
    fn default() -> Self {
        SequenceMap { entries: VecDeque::new() }
    }
}

impl<V> SequenceMap<V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where a key is, or would be.
    fn place(&self, key: u64) -> Result<usize, usize> {
        let len = self.entries.len();
        let Some(&(last, _)) = self.entries.back() else { return Err(0) };
        if key > last {
            return Err(len);
        }
        let first = self.entries[0].0;
        let Some(ahead) = key.checked_sub(first) else { return Err(0) };
        // Every entry is at least one above the one before: it is nowhere behind this place, and at it without gaps.
        let mut to = usize::try_from(ahead).unwrap_or(usize::MAX).min(len - 1);
        if self.entries[to].0 == key {
            return Ok(to);
        }
        let mut from = 0;
        while from < to {
            let middle = from + (to - from) / 2;
            if self.entries[middle].0 < key { from = middle + 1 } else { to = middle }
        }
        if self.entries[from].0 == key { Ok(from) } else { Err(from) }
    }

    /// The value of a key.
    pub fn get(&self, key: u64) -> Option<&V> {
        self.place(key).ok().map(|at| &self.entries[at].1)
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.place(key).ok().map(|at| &mut self.entries[at].1)
    }

    /// Sets the value of a key, and gives back the one before.
    pub fn insert(&mut self, key: u64, value: V) -> Option<V> {
        if self.entries.back().is_none_or(|(last, _)| *last < key) {
            // Most maps of a node have one entry, if any.
            make_first_room(&mut self.entries);
            self.entries.push_back((key, value));
            return None;
        }
        match self.place(key) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            Err(at) => {
                self.entries.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: u64) -> Option<V> {
        match self.place(key).ok()? {
            0 => self.entries.pop_front(),
            at => self.entries.remove(at),
        }
        .map(|(_, value)| value)
    }

    /// The first entry.
    pub fn first(&self) -> Option<(u64, &V)> {
        self.entries.front().map(|(key, value)| (*key, value))
    }

    /// Takes the first entry out.
    pub fn pop_first(&mut self) -> Option<(u64, V)> {
        self.entries.pop_front()
    }

    /// Keeps the entries of which this holds.
    pub fn retain(&mut self, mut keeps: impl FnMut(u64, &mut V) -> bool) {
        self.entries.retain_mut(|(key, value)| keeps(*key, value));
    }

    /// All entries, in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &V)> + Clone {
        self.entries.iter().map(|(key, value)| (*key, value))
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// All values, in the order of their keys.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.entries.into_iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Keys that are counted up with gaps, and taken and set anew in any order.
        #[test]
        fn it_agrees_with_a_sorted_map(
            steps in proptest::collection::vec((0u8..8, 0u64..40), 1..200),
        ) {
            let mut map = SequenceMap::default();
            let mut model = BTreeMap::new();
            let mut next = 1;
            for (value, (step, pick)) in steps.into_iter().enumerate() {
                match step {
                    0..=2 => {
                        next += pick / 20;
                        prop_assert_eq!(map.insert(next, value), model.insert(next, value));
                        next += 1;
                    }
                    3 => prop_assert_eq!(map.insert(pick, value), model.insert(pick, value)),
                    4 => prop_assert_eq!(map.pop_first(), model.pop_first()),
                    _ => prop_assert_eq!(map.remove(pick), model.remove(&pick)),
                }
                prop_assert_eq!(map.get(pick), model.get(&pick));
                prop_assert_eq!(map.first(), model.first_key_value().map(|(k, v)| (*k, v)));
                prop_assert!(map.iter().eq(model.iter().map(|(k, v)| (*k, v))));
            }
            map.retain(|key, value| !(key + *value as u64).is_multiple_of(2));
            model.retain(|key, value| !(key + *value as u64).is_multiple_of(2));
            prop_assert!(map.values().eq(model.values()));
            prop_assert!(map.into_values().eq(model.into_values()));
        }
    }

    #[test]
    fn the_highest_number_is_a_key_too() {
        let mut map = SequenceMap::default();
        for key in [u64::MAX, 0, 1] {
            map.insert(key, key);
        }
        assert_eq!(
            [0, 1, 2, u64::MAX].map(|key| map.get(key).copied()),
            [Some(0), Some(1), None, Some(u64::MAX)]
        );
    }
}
