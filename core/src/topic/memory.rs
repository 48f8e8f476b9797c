//! The paths that were read last: what comes over links is mostly about a few.

use bytes::Bytes;

use super::TopicError;
use super::path::TopicPath;
use crate::base::StableHash;

/// How many paths are remembered. A power of two. A guess: a publisher has a few topics at a time.
pub(crate) const PLACES: usize = 8;

/// Paths that were found to be well-formed, each in one place, which it may lose to another.
#[derive(Clone, Debug, Default)]
pub struct TopicMemory {
    places: [Place; PLACES],
}

#[derive(Clone, Debug, Default)]
struct Place {
    known: Option<TopicPath>,
    /// The hash of the last path that was not the known one: what comes twice is worth a copy.
    missed: u64,
}

/// The place of a path, below [`PLACES`], by a few of its bytes: what comes next to each other mostly differs at the end.
pub(crate) fn place_of(path: &[u8]) -> usize {
    let last = path.last().copied().unwrap_or(0);
    let middle = path.get(path.len() / 2).copied().unwrap_or(0);
    (path.len() ^ usize::from(last) ^ usize::from(middle) << 1) % PLACES
}

impl TopicMemory {
    /// Reads a path that arrived. One that was read twice lately is not looked at again, and keeps nothing alive that
    /// came with it.
    ///
    /// # Errors
    ///
    /// As [`TopicPath::from_bytes`].
    pub fn read(&mut self, bytes: Bytes) -> Result<TopicPath, TopicError> {
        let place = &mut self.places[place_of(&bytes)];
        if let Some(known) = &place.known
            && *known.as_bytes() == bytes
        {
            return Ok(known.clone());
        }
        let path = TopicPath::from_bytes(bytes)?;
        let hash = StableHash::new(7).bytes(path.as_bytes()).finish();
        if std::mem::replace(&mut place.missed, hash) == hash {
            // A copy: what is remembered must not keep alive what came with it.
            place.known = Some(TopicPath::parse(path.as_str()).expect("it is one"));
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_reads_as_if_it_remembered_nothing(
            paths in proptest::collection::vec("[ab/:*]{0,3}", 1..60),
        ) {
            let mut memory = TopicMemory::default();
            for path in paths {
                let bytes = Bytes::from(path);
                prop_assert_eq!(memory.read(bytes.clone()), TopicPath::from_bytes(bytes));
            }
        }
    }

    #[test]
    fn what_comes_again_is_the_same_and_keeps_nothing_else_alive() {
        let mut memory = TopicMemory::default();
        let datagram = Bytes::from(vec![b'a'; 1_000]);
        let twice = [0..3, 3..6].map(|range| memory.read(datagram.slice(range)).unwrap());
        assert_eq!(twice[0].as_bytes().as_ptr(), datagram.as_ptr());
        let again = memory.read(datagram.slice(6..9)).unwrap();
        assert_eq!(again, twice[0]);
        drop(twice);
        assert!(datagram.is_unique(), "only what came first shared its bytes");
    }
}
