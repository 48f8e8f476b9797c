//! A table whose keys tell a reused place from the one they were given for.

use std::collections::VecDeque;
use std::marker::PhantomData;

/// Names one entry of a [`Slab`] for as long as it lives. A key of an entry that is gone names
/// nothing, even after its place was used again.
pub struct Key<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The key as one number, for an embedder's own tables.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The key with this number. If no entry has it, the key names nothing.
    pub fn from_u64(number: u64) -> Self {
        Key { index: number as u32, generation: (number >> 32) as u32, of: PhantomData }
    }

    /// The place in the table. Two keys alive at one time never share it.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

// Derives would ask the same of T.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}
impl<T> Eq for Key<T> {}
impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}
impl<T> std::hash::Hash for Key<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.to_u64().hash(state);
    }
}
impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

/// Room for one more. A vector begins with four places and doubles them; most tables of a node have one or two entries,
/// and there are many such tables: up to eight places are made one by one.
pub(crate) fn make_room<T>(places: &mut Vec<T>) {
    if places.len() < 8 {
        places.reserve_exact(1);
    }
}

/// The same for a queue: one place at first, then twice as many each time.
pub(crate) fn make_first_room<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() == 0 {
        queue.reserve_exact(1);
    }
}

#[derive(Clone, Debug)]
enum Place<T> {
    Taken { generation: u32, value: T },
    Free { generation: u32, next: Option<u32> },
}

/// A table with constant-time insertion, look-up and removal. The same operations give the same keys.
///
/// `K` is what its keys are called by: tables that describe the same things share it.
#[derive(Clone, Debug)]
pub struct Slab<T, K = T> {
    places: Vec<Place<T>>,
    free: Option<u32>,
    len: usize,
    keys: PhantomData<fn() -> K>,
}

impl<T, K> Default for Slab<T, K> {
    fn default() -> Self {
        Slab { places: Vec::new(), free: None, len: 0, keys: PhantomData }
    }
}

impl<T, K> Slab<T, K> {
    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry.
    ///
    /// # Panics
    ///
    /// At 2^32 entries; callers keep their own, far lower bound.
    pub fn insert(&mut self, value: T) -> Key<K> {
        self.len += 1;
        let (index, generation) = match self.free {
            Some(index) => {
                let Place::Free { generation, next } = self.places[index as usize] else {
                    unreachable!("the free list names free places");
                };
                self.free = next;
                self.places[index as usize] = Place::Taken { generation, value };
                (index, generation)
            }
            None => {
                let index = u32::try_from(self.places.len()).expect("fewer than 2^32 entries");
                make_room(&mut self.places);
                self.places.push(Place::Taken { generation: 1, value });
                (index, 1)
            }
        };
        Key { index, generation, of: PhantomData }
    }

    /// The entry, if it still lives.
    pub fn get(&self, key: Key<K>) -> Option<&T> {
        match self.places.get(key.index()) {
            Some(Place::Taken { generation, value }) if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    /// The entry, if it still lives.
    pub fn get_mut(&mut self, key: Key<K>) -> Option<&mut T> {
        match self.places.get_mut(key.index()) {
            Some(Place::Taken { generation, value }) if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    /// Takes the entry out, if it still lives.
    pub fn remove(&mut self, key: Key<K>) -> Option<T> {
        self.get(key)?;
        let free = Place::Free { generation: key.generation.wrapping_add(1), next: self.free };
        let Place::Taken { value, .. } = std::mem::replace(&mut self.places[key.index()], free)
        else {
            unreachable!("just looked up");
        };
        self.free = Some(key.index);
        self.len -= 1;
        Some(value)
    }

    /// Drops the entry where it is, if it still lives. Says whether it did.
    pub fn discard(&mut self, key: Key<K>) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        let free = Place::Free { generation: key.generation.wrapping_add(1), next: self.free };
        self.places[key.index()] = free;
        self.free = Some(key.index);
        self.len -= 1;
        true
    }

    /// All entries in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (Key<K>, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| match place {
            Place::Taken { generation, value } => {
                Some((Key { index: index as u32, generation: *generation, of: PhantomData }, value))
            }
            Place::Free { .. } => None,
        })
    }
}

/// What else is known of the entries of some [`Slab`]: values by its keys.
#[derive(Clone, Debug)]
pub struct KeyMap<K, V> {
    places: Vec<Option<(u32, V)>>,
    keys: PhantomData<fn() -> K>,
}

impl<K, V> Default for KeyMap<K, V> {
    fn default() -> Self {
        KeyMap { places: Vec::new(), keys: PhantomData }
    }
}

impl<K, V> KeyMap<K, V> {
    /// The value of this key.
    pub fn get(&self, key: Key<K>) -> Option<&V> {
        match self.places.get(key.index()) {
            Some(Some((generation, value))) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The value of this key.
    pub fn get_mut(&mut self, key: Key<K>) -> Option<&mut V> {
        match self.places.get_mut(key.index()) {
            Some(Some((generation, value))) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Sets the value of a key. Gives back what an earlier key had at this place: that key's own end may
    /// not have been told yet.
    pub fn insert(&mut self, key: Key<K>, value: V) -> Option<(Key<K>, V)> {
        while self.places.len() <= key.index() {
            make_room(&mut self.places);
            self.places.push(None);
        }
        let earlier = self.places[key.index()].replace((key.generation, value));
        earlier.map(|(generation, value)| {
            (Key { index: key.index, generation, of: PhantomData }, value)
        })
    }

    /// Takes the value of this key out.
    pub fn remove(&mut self, key: Key<K>) -> Option<V> {
        self.get(key)?;
        self.places[key.index()].take().map(|(_, value)| value)
    }

    /// All values in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (Key<K>, &V)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let (generation, value) = place.as_ref()?;
            Some((Key { index: index as u32, generation: *generation, of: PhantomData }, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_its_entry_without_naming_the_next_one() {
        let mut slab: Slab<&str> = Slab::default();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(first.index(), second.index());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(Key::from_u64(second.to_u64())), Some(&"b"));
        assert_eq!(slab.len(), 1);
        assert!(slab.discard(second) && !slab.discard(second));
        assert_eq!((slab.get(second), slab.len()), (None, 0));
        assert_eq!(slab.insert("c").index(), second.index());
    }
}
