//! The paths that were read last: what comes over links is mostly about a few.

use bytes::Bytes;

use super::TopicError;
use super::path::TopicPath;

/// How many paths are remembered. A power of two. A guess: a publisher has a few topics at a time.
pub(crate) const PLACES: usize = 8;

/// Paths that were found to be well-formed, each in one place, which it may lose to another.
#[derive(Clone, Debug, Default)]
pub struct TopicMemory {
    places: [Option<TopicPath>; PLACES],
}

/// The place of a path, below [`PLACES`], by a few of its bytes: what comes next to each other mostly differs at the end.
pub(crate) fn place_of(path: &[u8]) -> usize {
    let last = path.last().copied().unwrap_or(0);
    let middle = path.get(path.len() / 2).copied().unwrap_or(0);
    (path.len() ^ usize::from(last) ^ usize::from(middle) << 1) % PLACES
}

impl TopicMemory {
    /// Reads a path that arrived. One that was read lately is not looked at again, and shares its bytes with the
    /// first that came, so that it keeps nothing else alive.
    ///
    /// # Errors
    ///
    /// As [`TopicPath::from_bytes`].
    pub fn read(&mut self, bytes: Bytes) -> Result<TopicPath, TopicError> {
        let place = &mut self.places[place_of(&bytes)];
        if let Some(known) = place
            && *known.as_bytes() == bytes
        {
            return Ok(known.clone());
        }
        let path = TopicPath::from_bytes(bytes)?;
        // A copy: what is remembered must not keep alive what came with it.
        *place = Some(TopicPath::parse(path.as_str()).expect("it is one"));
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
        let first = memory.read(datagram.slice(..3)).unwrap();
        assert_eq!(first.as_bytes().as_ptr(), datagram.as_ptr());
        let again = memory.read(datagram.slice(3..6)).unwrap();
        assert_eq!(again, first);
        drop(first);
        assert!(datagram.is_unique(), "only what came first shared its bytes");
    }
}
