//! The glare rule: which of several links between two peers stays.
//!
//! Two peers that dial each other at one time get two links, and must not keep different ones. The rule
//! (protocols.md, section 2; seed 004: the lower id is polite and yields; RFC 4271, section 6.8):
//!
//! 1. Only links that are *confirmed* at both ends are compared. An attempt is never given up early, so
//!    a dial that comes to nothing displaces nothing.
//! 2. A link of a newer incarnation wins over those of an older one, which are closed at once. That is
//!    the handshake's business: past it all links of a peer are of one life.
//! 3. Otherwise only the peer with the *higher id* decides: across directions its own dial stays,
//!    within a direction the dial with the highest number. It says SUPERSEDE on the link that stays.
//!    The lower id never closes a link for glare.
//! 4. The link that loses is drained before it is closed: see `drain.rs`.
//! 5. None of this is a peer's death.
//! 6. Ids do not gate dialling: whoever can dial does, for the other may be unable to.
//!
//! A link that its dialler abandons in the handshake of another one is beyond these rules: it is over.
//!
//! That both ends agree, for all interleavings of two dials a side with a lost frame, a restart and a change
//! of address, is explored in `sim/src/explore/glare.rs`; the wrong rules below are refuted there.

use crate::base::PeerId;
use crate::link::{End, LinkId};
use crate::planted::is_planted;

/// Which of the two we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rank {
    /// Our id is the higher one: we decide.
    Higher,
    /// The peer's is: we follow.
    Lower,
}

impl Rank {
    /// Our rank in a pair.
    pub fn of(us: PeerId, peer: PeerId) -> Rank {
        if us > peer { Rank::Higher } else { Rank::Lower }
    }

    /// Whether we decide which link stays.
    pub fn decides(self) -> bool {
        match self {
            // Planted: the lower id wins.
            Rank::Higher => !is_planted(20),
            // Planted: the lower id wins; each flips a coin; each keeps what came first.
            Rank::Lower => is_planted(20) || is_planted(21) || is_planted(24),
        }
    }

    /// Whether the peer's word is taken for which link stays.
    pub fn follows(self) -> bool {
        // Planted: each flips a coin, or keeps what came first, and the other believes it.
        self == Rank::Lower || is_planted(21) || is_planted(24)
    }

    /// Whether we dial a peer that we miss.
    pub fn may_dial(self) -> bool {
        // Planted: ids gate dialling.
        self == Rank::Higher || !is_planted(23)
    }

    /// Whether link `a` stays, rather than `b`. A strict order of distinct links.
    pub fn prefers(self, a: LinkId, b: LinkId) -> bool {
        if a.dialler != b.dialler {
            let ours = a.dialler == End::Here;
            return ours == (self == Rank::Higher || is_planted(20));
        }
        (a.counter, a.number) > (b.counter, b.number)
    }

    /// Which of these links stays. They are confirmed, all of one life of the peer, in the order in which
    /// they came up.
    pub fn winner(self, confirmed: &[LinkId]) -> Option<usize> {
        if is_planted(24) {
            // Planted: what came first stays.
            return (!confirmed.is_empty()).then_some(0);
        }
        if is_planted(21) {
            // Planted: each end flips its own coin.
            let coin = confirmed.iter().map(|id| id.number).sum::<u64>() + (self as u64);
            return (coin as usize).checked_rem(confirmed.len());
        }
        let mut best: Option<usize> = None;
        for (index, id) in confirmed.iter().enumerate() {
            let better = best.is_none_or(|best| {
                // Planted: the dial number is ignored.
                let ignored = is_planted(25) && id.dialler == confirmed[best].dialler;
                !ignored && self.prefers(*id, confirmed[best])
            });
            if better {
                best = Some(index);
            }
        }
        best
    }
}

/// Whether a link is compared: once both ends have confirmed it.
pub fn is_compared(confirmed: bool) -> bool {
    // Planted: the other link is closed before this one is confirmed.
    confirmed || is_planted(22)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A link as the other end names it.
    fn mirrored(id: LinkId) -> LinkId {
        let dialler = if id.dialler == End::Here { End::There } else { End::Here };
        LinkId { dialler, ..id }
    }

    fn link() -> impl Strategy<Value = LinkId> {
        (any::<bool>(), 1u64..4, 1u64..6).prop_map(|(here, counter, number)| LinkId {
            dialler: if here { End::Here } else { End::There },
            counter,
            number,
        })
    }

    #[test]
    fn the_higher_ids_own_dial_stays_and_within_a_direction_the_latest() {
        let id = |dialler, number| LinkId { dialler, counter: 1, number };
        let links = [id(End::There, 9), id(End::Here, 1), id(End::Here, 2)];
        assert_eq!(Rank::Higher.winner(&links), Some(2));
        assert_eq!(Rank::Lower.winner(&links), Some(0));
        assert_eq!(Rank::Higher.winner(&[]), None);
        assert!(Rank::Higher.decides() && !Rank::Lower.decides());
    }

    proptest! {
        /// Both ends rank the same links alike, whatever the order in which they learn of them.
        #[test]
        fn both_ends_rank_links_alike(
            mut links in proptest::collection::vec(link(), 1..6),
            turn in 0usize..6,
        ) {
            links.sort();
            links.dedup();
            let mut there: Vec<LinkId> = links.iter().map(|id| mirrored(*id)).collect();
            let count = there.len();
            there.rotate_left(turn % count);
            let ours = Rank::Higher.winner(&links).map(|index| links[index]);
            let theirs = Rank::Lower.winner(&there).map(|index| mirrored(there[index]));
            prop_assert_eq!(ours, theirs);
        }
    }
}
