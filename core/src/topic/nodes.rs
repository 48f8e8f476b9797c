//! What the index of patterns is made of: nodes of the trie, literals, and tables of them whose places are used again.

use std::num::NonZeroU32;

use super::table::NONE;

/// Which list a value is in.
#[derive(Clone, Copy, Debug)]
pub(super) enum List {
    /// That of a literal.
    Literal(u32),
    /// That of a node: patterns that end there.
    Here(u32),
    /// That of a node: patterns that end with `>` below it.
    Rest(u32),
}

/// A [`List`] in four bytes, never zero: each value carries one, and the places of values use the
/// zero for those that are free.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedList(NonZeroU32);

/// What is left of 32 bits when two tell the kinds of lists apart.
const PLACES_MAX: usize = 1 << 30;

impl From<List> for PackedList {
    fn from(list: List) -> Self {
        let (kind, place) = match list {
            List::Literal(place) => (1, place),
            List::Here(place) => (2, place),
            List::Rest(place) => (3, place),
        };
        PackedList(NonZeroU32::new(place << 2 | kind).expect("no kind is zero"))
    }
}

impl From<PackedList> for List {
    fn from(packed: PackedList) -> Self {
        let place = packed.0.get() >> 2;
        match packed.0.get() & 3 {
            1 => List::Literal(place),
            2 => List::Here(place),
            _ => List::Rest(place),
        }
    }
}

/// A pattern without wildcards.
#[derive(Clone, Default)]
pub(super) struct Literal {
    pub(super) text: Box<[u8]>,
    pub(super) head: Head,
}

/// The first of a list of values.
#[derive(Clone, Copy)]
pub(super) struct Head(pub(super) u32);

impl Default for Head {
    fn default() -> Self {
        Head(NONE)
    }
}

pub(super) const ROOT: u32 = 0;

/// One node of the trie: what patterns have in common at their beginning.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Node {
    /// The literal segment that leads here; for the child of the root that stands for a network, the
    /// network with its colon, which no segment contains. Empty below a wildcard.
    pub(super) segment: SegmentText,
    /// Which bits the hashes of the literal children's segments fall on: an absent child is mostly
    /// seen here. Children that went leave their bit until all have gone.
    pub(super) literal_filter: u64,
    pub(super) literal_children: u32,
    pub(super) parent: u32,
    /// The child by `{name}`, or [`NONE`].
    pub(super) capture: u32,
    /// The child by `*`, or [`NONE`].
    pub(super) any: u32,
    pub(super) here: Head,
    pub(super) rest: Head,
}

impl Default for Node {
    fn default() -> Self {
        Node {
            segment: SegmentText::default(),
            literal_filter: 0,
            literal_children: 0,
            parent: NONE,
            capture: NONE,
            any: NONE,
            here: Head::default(),
            rest: Head::default(),
        }
    }
}

impl Node {
    pub(super) fn is_idle(&self) -> bool {
        self.literal_children == 0
            && [self.capture, self.any, self.here.0, self.rest.0] == [NONE; 4]
    }
}

/// Makes a node as large as a cache line.
pub(super) const SHORT_BYTES_MAX: usize = 30;

/// A segment's text, in place if it is as short as most are: it is compared at every step.
#[derive(Clone)]
pub(super) enum SegmentText {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Box<[u8]>),
}

impl Default for SegmentText {
    fn default() -> Self {
        SegmentText::Short { len: 0, bytes: [0; SHORT_BYTES_MAX] }
    }
}

impl SegmentText {
    pub(super) fn new(text: &[u8]) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                SegmentText::Short { len: text.len() as u8, bytes }
            }
            None => SegmentText::Long(text.into()),
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            SegmentText::Short { len, bytes } => &bytes[..usize::from(*len)],
            SegmentText::Long(text) => text,
        }
    }
}

/// A table whose places are used again.
#[derive(Clone)]
pub(super) struct Pool<I> {
    pub(super) items: Vec<I>,
    pub(super) free: Vec<u32>,
}

impl<I> Default for Pool<I> {
    fn default() -> Self {
        Pool { items: Vec::new(), free: Vec::new() }
    }
}

impl<I: Default> Pool<I> {
    pub(super) fn add(&mut self, item: I) -> u32 {
        if let Some(place) = self.free.pop() {
            self.items[place as usize] = item;
            return place;
        }
        let place = self.items.len();
        assert!(place < PLACES_MAX, "at most 2^30 nodes and as many literals");
        if place == self.items.capacity() {
            // By a quarter instead of double: at a million items the unused half would cost more than
            // the copying. And one by one at first: a node has several indexes, mostly of a few patterns.
            self.items.reserve_exact((place / 4).max(1));
        }
        self.items.push(item);
        place as u32
    }

    pub(super) fn take(&mut self, place: u32) -> I {
        self.free.push(place);
        std::mem::take(&mut self.items[place as usize])
    }
}

impl<I> std::ops::Index<u32> for Pool<I> {
    type Output = I;

    #[inline]
    fn index(&self, place: u32) -> &I {
        &self.items[place as usize]
    }
}

impl<I> std::ops::IndexMut<u32> for Pool<I> {
    fn index_mut(&mut self, place: u32) -> &mut I {
        &mut self.items[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_one_cache_line() {
        assert_eq!(size_of::<Node>(), 64);
        assert_eq!(size_of::<Literal>(), 24);
    }

    #[test]
    fn a_packed_list_is_read_as_it_was() {
        let last = PLACES_MAX as u32 - 1;
        for list in [List::Literal(last), List::Here(0), List::Here(last), List::Rest(last)] {
            assert_eq!(format!("{:?}", List::from(PackedList::from(list))), format!("{list:?}"));
        }
    }
}
