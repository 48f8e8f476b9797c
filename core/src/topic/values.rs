//! The values of an index: in lists, the oldest first, named by keys that are never reused.

use super::table::NONE;
use crate::base::slab::make_room;

/// Names one value of a [`PatternIndex`](super::PatternIndex) for as long as it is there. A key of a
/// value that was removed names nothing, even after its place was used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey {
    place: u32,
    generation: u32,
}

impl SubscriptionKey {
    /// The key as one number, for tables and messages.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }

    /// The key with this number. If no value has it, the key names nothing.
    pub fn from_u64(number: u64) -> Self {
        SubscriptionKey { place: number as u32, generation: (number >> 32) as u32 }
    }
}

impl std::fmt::Debug for SubscriptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}.{}", self.place, self.generation)
    }
}

#[derive(Clone, Debug)]
struct Entry<T, L> {
    generation: u32,
    /// The next of the list; [`NONE`] for the last.
    next: u32,
    /// The one before; for the first, the last of the list, so that a list needs no more than a head.
    before: u32,
    list: L,
    value: T,
}

#[derive(Clone, Debug)]
enum Place<T, L> {
    Taken(Entry<T, L>),
    Free { generation: u32, next: u32 },
}

/// Many lists of values in one table. A list is the place of its first value, or [`NONE`]; the caller
/// keeps it, and finds it again by the `L` that each value carries.
#[derive(Clone, Debug)]
pub(super) struct Values<T, L> {
    places: Vec<Place<T, L>>,
    free: u32,
    len: usize,
}

impl<T, L> Default for Values<T, L> {
    fn default() -> Self {
        Values { places: Vec::new(), free: NONE, len: 0 }
    }
}

impl<T, L: Copy> Values<T, L> {
    /// What one value takes.
    #[cfg(test)]
    pub(super) const PLACE_BYTES: usize = size_of::<Place<T, L>>();

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a value at the end of the list with this head, which is the list `list`.
    ///
    /// # Panics
    ///
    /// At 2^32 - 1 values.
    pub(super) fn push(&mut self, head: &mut u32, list: L, value: T) -> SubscriptionKey {
        let (place, generation) = match self.places.get(self.free as usize) {
            Some(Place::Free { generation, next }) => {
                (std::mem::replace(&mut self.free, *next), *generation)
            }
            Some(Place::Taken(_)) => unreachable!("the free list names free places"),
            None => {
                let place = self.places.len() as u32;
                assert!(self.places.len() < NONE as usize, "fewer than 2^32 - 1 values");
                make_room(&mut self.places);
                self.places.push(Place::Free { generation: 1, next: NONE });
                (place, 1)
            }
        };
        let before = match *head {
            NONE => std::mem::replace(head, place),
            first => {
                let last = std::mem::replace(&mut self.entry_mut(first).before, place);
                self.entry_mut(last).next = place;
                last
            }
        };
        let before = if before == NONE { place } else { before };
        let entry = Entry { generation, next: NONE, before, list, value };
        self.places[place as usize] = Place::Taken(entry);
        self.len += 1;
        SubscriptionKey { place, generation }
    }

    /// The value and the list that it is in.
    pub(super) fn get(&self, key: SubscriptionKey) -> Option<(L, &T)> {
        match self.places.get(key.place as usize) {
            Some(Place::Taken(entry)) if entry.generation == key.generation => {
                Some((entry.list, &entry.value))
            }
            _ => None,
        }
    }

    /// The value.
    pub(super) fn get_mut(&mut self, key: SubscriptionKey) -> Option<&mut T> {
        match self.places.get_mut(key.place as usize) {
            Some(Place::Taken(entry)) if entry.generation == key.generation => {
                Some(&mut entry.value)
            }
            _ => None,
        }
    }

    /// Takes out a value that is there, from the list with this head.
    pub(super) fn remove(&mut self, head: &mut u32, key: SubscriptionKey) -> T {
        let free = Place::Free { generation: key.generation.wrapping_add(1), next: self.free };
        let place = std::mem::replace(&mut self.places[key.place as usize], free);
        let Place::Taken(entry) = place else { unreachable!("only what is there is taken out") };
        self.free = key.place;
        self.len -= 1;
        if *head == key.place {
            *head = entry.next;
        } else {
            self.entry_mut(entry.before).next = entry.next;
        }
        // The next one takes over what was before; if this was the last, then the first does.
        let after = if entry.next == NONE { *head } else { entry.next };
        if after != NONE {
            self.entry_mut(after).before = entry.before;
        }
        entry.value
    }

    /// The values of the list with this head, the oldest first.
    #[inline]
    pub(super) fn list(&self, head: u32) -> impl Iterator<Item = (SubscriptionKey, &T)> {
        let mut at = head;
        std::iter::from_fn(move || {
            let Some(Place::Taken(entry)) = self.places.get(at as usize) else { return None };
            let key = SubscriptionKey { place: at, generation: entry.generation };
            at = entry.next;
            Some((key, &entry.value))
        })
    }

    fn entry_mut(&mut self, place: u32) -> &mut Entry<T, L> {
        match &mut self.places[place as usize] {
            Place::Taken(entry) => entry,
            Place::Free { .. } => unreachable!("lists name taken places"),
        }
    }
}
