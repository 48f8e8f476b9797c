//! Names for what a node makes known, that tell nothing of its other networks.

use crate::base::{Draws, FewMap, Label};

/// The bits with which entries of a document are counted.
pub const ENTRY_BITS: u32 = 32;
/// The bits with which events are counted.
pub const EVENT_BITS: u32 = 40;

/// How many numbers there are to begin with.
const TAGS: u64 = 1 << 22;

/// Numbers for things in networks, none given twice. Within a network they count up; what they begin with is
/// drawn, so that nobody learns from the numbers of one network how much there is in another.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// Of each network what its numbers begin with, and the last one.
    networks: FewMap<Option<Box<str>>, (u64, u64)>,
    counter_bits: u32,
    /// There is one network, and nothing to hide.
    single: bool,
}

impl Numbers {
    /// Numbers that count with so many bits, at most 40. In a `single` network they begin with nothing.
    pub fn new(counter_bits: u32, single: bool) -> Self {
        assert!(counter_bits <= 40, "a number has 62 bits");
        Numbers { networks: FewMap::default(), counter_bits, single }
    }

    /// The next number in a network.
    pub fn next(&mut self, network: Option<&str>, draws: &mut Draws) -> u64 {
        let network = network.map(Box::from);
        if !self.networks.contains_key(&network) {
            let taken = |tag: &u64| self.networks.values().any(|(other, _)| other == tag);
            let tag = if self.single && self.networks.is_empty() {
                0
            } else {
                let mut drawn = std::iter::repeat_with(|| draws.below(Label::Directory, TAGS));
                drawn.find(|tag| !taken(tag)).expect("there are more than networks")
            };
            self.networks.insert(network.clone(), (tag, 0));
        }
        let (tag, last) = self.networks.get_mut(&network).expect("just inserted");
        *last = (*last + 1) & ((1 << self.counter_bits) - 1);
        // Zero names nothing.
        *last = (*last).max(1);
        *tag << self.counter_bits | *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_network_tell_nothing_of_another() {
        let mut draws = Draws::new([1; 32]);
        let mut numbers = Numbers::new(32, false);
        let first = numbers.next(Some("a"), &mut draws);
        for _ in 0..9 {
            numbers.next(Some("b"), &mut draws);
        }
        assert_eq!(numbers.next(Some("a"), &mut draws), first + 1);
        assert_ne!(numbers.next(Some("b"), &mut draws) >> 32, first >> 32);
        assert_eq!(Numbers::new(40, true).next(None, &mut draws), 1);
    }
}
