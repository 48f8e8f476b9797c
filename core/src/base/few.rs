//! A sorted map that takes little while it holds little.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use super::slab::make_room;

/// Up to so many entries lie in a list. About as many as fit a node of a B-tree, so that neither is slower.
const FEW_MAX: usize = 12;

/// A map like [`BTreeMap`], for the many tables of a node that mostly have one or two entries and may have thousands.
///
/// A `BTreeMap` has room for eleven entries as soon as it has one, and keeps it when it is empty. Here a few entries lie
/// in a list that grows one by one; more than that are in a `BTreeMap`, until all are gone.
#[derive(Clone, Debug)]
pub struct FewMap<K, V> {
    /// Ascending; empty if there are many.
    few: Vec<(K, V)>,
    /// Boxed, for mostly there is nothing, and that is one word then.
    #[allow(clippy::box_collection)]
    many: Option<Box<BTreeMap<K, V>>>,
}

impl<K, V> Default for FewMap<K, V> {
    fn default() -> Self {
        FewMap { few: Vec::new(), many: None }
    }
}

impl<K: Ord, V> FewMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.many.as_ref().map_or(self.few.len(), |many| many.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.few.binary_search_by(|(other, _)| other.borrow().cmp(key))
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match &self.many {
            Some(many) => many.get(key),
            None => self.place(key).ok().map(|at| &self.few[at].1),
        }
    }

    /// The value of a key.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key);
        match &mut self.many {
            Some(many) => many.get_mut(key),
            None => place.ok().map(|at| &mut self.few[at].1),
        }
    }

    /// Whether there is such a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Sets the value of a key, and gives back the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(many) = &mut self.many {
            return many.insert(key, value);
        }
        match self.place(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.few[at].1, value)),
            Err(at) if self.few.len() < FEW_MAX => {
                make_room(&mut self.few);
                self.few.insert(at, (key, value));
                None
            }
            Err(_) => {
                let mut many: BTreeMap<K, V> = std::mem::take(&mut self.few).into_iter().collect();
                many.insert(key, value);
                self.many = Some(Box::new(many));
                None
            }
        }
    }

    /// Takes a key out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match &mut self.many {
            Some(many) => {
                let value = many.remove(key);
                self.settle();
                value
            }
            None => self.place(key).ok().map(|at| self.few.remove(at).1),
        }
    }

    /// Keeps the entries of which this holds.
    pub fn retain(&mut self, mut keeps: impl FnMut(&K, &mut V) -> bool) {
        self.few.retain_mut(|(key, value)| keeps(key, value));
        if let Some(many) = &mut self.many {
            many.retain(keeps);
            self.settle();
        }
    }

    /// When many are all gone, it begins anew.
    fn settle(&mut self) {
        self.many.take_if(|many| many.is_empty());
    }

    /// All entries, in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        let few = self.few.iter().map(|(key, value)| (key, value));
        few.chain(self.many.iter().flat_map(|many| many.iter()))
    }

    /// The entries from this key on.
    pub fn range_from(&self, from: K) -> impl Iterator<Item = (&K, &V)> + Clone
    where
        K: Clone,
    {
        let at = self.few.partition_point(|(key, _)| *key < from);
        let few = self.few[at..].iter().map(|(key, value)| (key, value));
        few.chain(self.many.iter().flat_map(move |many| many.range(from.clone()..)))
    }

    /// All keys, in their order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// All values, in the order of their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let few = self.few.iter_mut().map(|(_, value)| value);
        few.chain(self.many.iter_mut().flat_map(|many| many.values_mut()))
    }

    /// All keys, in their order.
    pub fn into_keys(self) -> impl Iterator<Item = K> {
        let few = self.few.into_iter().map(|(key, _)| key);
        few.chain(self.many.into_iter().flat_map(|many| many.into_keys()))
    }

    /// All values, in the order of their keys.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        let few = self.few.into_iter().map(|(_, value)| value);
        few.chain(self.many.into_iter().flat_map(|many| many.into_values()))
    }
}

impl<K: Ord, V: PartialEq> PartialEq for FewMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Ord, V: Eq> Eq for FewMap<K, V> {}

impl<K: Ord, V> FromIterator<(K, V)> for FewMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = FewMap::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for FewMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K, V> IntoIterator for FewMap<K, V> {
    type Item = (K, V);
    type IntoIter =
        std::iter::Chain<std::vec::IntoIter<(K, V)>, std::collections::btree_map::IntoIter<K, V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.few.into_iter().chain(*self.many.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_map(steps in proptest::collection::vec((0u8..5, 0u8..40), 1..300)) {
            let (mut map, mut model) = (FewMap::default(), BTreeMap::new());
            for (time, (what, key)) in steps.into_iter().enumerate() {
                match what {
                    0..3 => prop_assert_eq!(map.insert(key, time), model.insert(key, time)),
                    3 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    _ => {
                        map.retain(|other, _| other % 3 != key % 3);
                        model.retain(|other, _| other % 3 != key % 3);
                    }
                }
                if let Some(value) = map.get_mut(&key) {
                    *value += 1;
                    *model.get_mut(&key).unwrap() += 1;
                }
                prop_assert!(map.iter().eq(&model) && map.iter().rev().eq(model.iter().rev()));
                prop_assert!(map.range_from(key).eq(model.range(key..)));
                prop_assert!(map.values_mut().eq(model.values_mut()));
                prop_assert_eq!(&map, &model.clone().into_iter().collect());
                prop_assert!(map.clone().into_iter().eq(model.clone()));
                prop_assert_eq!((map.len(), map.get(&key)), (model.len(), model.get(&key)));
            }
            prop_assert!(map.into_values().eq(model.into_values()));
        }
    }

    #[test]
    fn a_few_entries_take_no_more_room_than_they_need() {
        let mut map = FewMap::default();
        map.insert(1, [0u64; 8]);
        assert_eq!((map.few.capacity(), map.len()), (1, 1));
        for key in 0..1_000 {
            map.insert(key, [0; 8]);
        }
        assert_eq!((map.few.capacity(), map.len()), (0, 1_000));
        map.retain(|_, _| false);
        assert!(map.is_empty() && map.many.is_none());
    }
}
