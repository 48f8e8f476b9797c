//! What members of groups give back unhandled as they leave, in both directions.
//!
//! An event is acknowledged when it is in a member's queue. A member that leaves before it has handled the event gives it
//! back: its node names it in an acknowledgement, again on each new link, until the publisher has confirmed it. What is
//! given back is numbered from 1 for each pair of lives, so that it counts once.

use std::collections::VecDeque;

use crate::base::{KeyMap, PeerKey, PeerTag};
use crate::events::ack::{EventAck, RETURNED_MAX, Returned};
use crate::events::group::GroupName;

/// Events that wait to be given back to one peer. More are lost. A guess: what waits at two
/// subscribers that read nothing.
pub const RETURNS_WAITING_MAX: usize = 65_536;

/// Bytes of the names of groups in one acknowledgement. A guess, far below what a frame takes.
const NAMES_BYTES_MAX: usize = 64 << 10;

/// What is given back to a peer.
#[derive(Clone, Debug)]
struct To {
    /// The boot number of the peer's life.
    boot: u64,
    /// The number of the first that waits.
    first: u64,
    waiting: VecDeque<Returned>,
    /// How many of them were said on a link that still stands.
    said: usize,
}

/// What a peer gives back.
#[derive(Clone, Copy, Debug)]
struct From {
    /// The boot number of the peer's life.
    boot: u64,
    /// The number that is awaited.
    next: u64,
}

/// What is given back to peers, and by peers.
#[derive(Clone, Debug, Default)]
pub struct Returns {
    /// Boxed: few peers are given anything back.
    to: KeyMap<PeerTag, Box<To>>,
    from: KeyMap<PeerTag, From>,
}

impl Returns {
    /// Gives an event back to the life of a peer that has published it. Says whether there is room for it.
    pub fn give(&mut self, peer: PeerKey, boot: u64, returned: Returned) -> bool {
        if self.to.get(peer).is_none_or(|to| to.boot != boot) {
            let to = To { boot, first: 1, waiting: VecDeque::new(), said: 0 };
            self.to.insert(peer, Box::new(to));
        }
        let to = self.to.get_mut(peer).expect("just inserted");
        let has_room = to.waiting.len() < RETURNS_WAITING_MAX;
        if has_room {
            to.waiting.push_back(returned);
        }
        has_room
    }

    /// How many events a peer has not confirmed.
    pub fn waiting(&self, peer: PeerKey) -> usize {
        self.to.get(peer).map_or(0, |to| to.waiting.len())
    }

    /// Whether each peer has confirmed all.
    pub fn is_empty(&self) -> bool {
        self.to.iter().all(|(_, to)| to.waiting.is_empty())
    }

    /// Adds to an acknowledgement what the peer is to be told. Says whether there is more.
    pub fn say(&mut self, peer: PeerKey, ack: &mut EventAck) -> bool {
        ack.returned_next = self.from.get(peer).map_or(0, |from| from.next);
        let Some(to) = self.to.get_mut(peer) else { return false };
        ack.returned_from = to.first + to.said as u64;
        let mut names_bytes = 0;
        for returned in to.waiting.range(to.said..).take(RETURNED_MAX) {
            if ack.returned.last().is_none_or(|last| last.group != returned.group) {
                names_bytes += match &returned.group {
                    GroupName::Group(name) => name.len(),
                    GroupName::Service(path) => path.as_bytes().len(),
                };
                if names_bytes > NAMES_BYTES_MAX {
                    break;
                }
            }
            ack.returned.push(returned.clone());
        }
        to.said += ack.returned.len();
        to.said < to.waiting.len()
    }

    /// What a peer, in the life with this boot number, gives back that it has not given back before.
    pub fn take(&mut self, peer: PeerKey, boot: u64, ack: &EventAck) -> Vec<Returned> {
        if let Some(to) = self.to.get_mut(peer)
            && to.boot == boot
        {
            let confirmed = ack.returned_next.saturating_sub(to.first);
            let confirmed = usize::try_from(confirmed).unwrap_or(usize::MAX).min(to.said);
            to.waiting.drain(..confirmed);
            to.first += confirmed as u64;
            to.said -= confirmed;
        }
        if ack.returned.is_empty() {
            return Vec::new();
        }
        let known = self.from.get(peer).filter(|from| from.boot == boot).copied();
        let next = known.map_or(ack.returned_from, |from| from.next);
        // What is behind a gap comes again.
        if ack.returned_from > next {
            return Vec::new();
        }
        let end = ack.returned_from + ack.returned.len() as u64;
        self.from.insert(peer, From { boot, next: next.max(end) });
        let old = usize::try_from(next - ack.returned_from).unwrap_or(usize::MAX);
        ack.returned.iter().skip(old).cloned().collect()
    }

    /// A link to the peer, in the life with this boot number, is up, or another one is lost: what is not confirmed is
    /// said again. Returns how many events cannot be given back, for that life is not the one that published them.
    pub fn link_ready(&mut self, peer: PeerKey, boot: u64) -> usize {
        if self.from.get(peer).is_some_and(|from| from.boot != boot) {
            self.from.remove(peer);
        }
        if self.to.get(peer).is_some_and(|to| to.boot != boot) {
            return self.to.remove(peer).map_or(0, |to| to.waiting.len());
        }
        if let Some(to) = self.to.get_mut(peer) {
            to.said = 0;
        }
        0
    }

    /// The peer is forgotten. Returns how many events it was not given back.
    pub fn forget(&mut self, peer: PeerKey) -> usize {
        self.from.remove(peer);
        self.to.remove(peer).map_or(0, |to| to.waiting.len())
    }

    /// Asserts what must hold between inputs.
    pub fn check_invariants(&self) {
        for (_, to) in self.to.iter() {
            assert!(to.waiting.len() <= RETURNS_WAITING_MAX, "what is given back is bounded");
            assert!(to.said <= to.waiting.len(), "what is said is there");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::receiver::Receiver;

    fn peer() -> PeerKey {
        PeerKey::from_u64(0)
    }

    fn returned(sequence: u64) -> Returned {
        Returned { group: GroupName::Group("g".into()), sequence }
    }

    fn say(returns: &mut Returns) -> EventAck {
        let mut ack = Receiver::default().take_ack(peer());
        returns.say(peer(), &mut ack);
        ack
    }

    fn sequences(returned: &[Returned]) -> Vec<u64> {
        returned.iter().map(|returned| returned.sequence).collect()
    }

    #[test]
    fn what_is_given_back_counts_once_whatever_becomes_of_links() {
        let (mut giver, mut publisher) = (Returns::default(), Returns::default());
        for sequence in 5..8 {
            assert!(giver.give(peer(), 1, returned(sequence)));
        }
        let lost = say(&mut giver);
        assert_eq!(sequences(&lost.returned), [5, 6, 7]);
        assert!(say(&mut giver).returned.is_empty(), "said once on a link");
        giver.link_ready(peer(), 1);
        let first = say(&mut giver);
        assert_eq!(sequences(&publisher.take(peer(), 2, &first)), [5, 6, 7]);
        // The confirmation is lost with the link, and more is given back.
        giver.link_ready(peer(), 1);
        giver.give(peer(), 1, returned(8));
        let second = say(&mut giver);
        assert_eq!(sequences(&publisher.take(peer(), 2, &second)), [8]);
        let confirmed = say(&mut publisher);
        giver.take(peer(), 1, &confirmed);
        assert_eq!(giver.waiting(peer()), 0);
        giver.link_ready(peer(), 1);
        giver.give(peer(), 1, returned(9));
        let third = say(&mut giver);
        assert_eq!(sequences(&publisher.take(peer(), 2, &third)), [9]);
        giver.check_invariants();
        // Neither life goes on.
        assert_eq!(giver.link_ready(peer(), 3), 1);
        let mut anew = say(&mut giver);
        (anew.returned, anew.returned_from) = (vec![returned(1)], 1);
        publisher.link_ready(peer(), 4);
        assert_eq!(sequences(&publisher.take(peer(), 4, &anew)), [1]);
    }

    #[test]
    fn many_go_in_several_acknowledgements() {
        let (mut giver, mut publisher) = (Returns::default(), Returns::default());
        let count = 2 * RETURNED_MAX as u64 + 1;
        for sequence in 1..=count {
            giver.give(peer(), 1, returned(sequence));
        }
        let mut got = Vec::new();
        loop {
            let mut ack = Receiver::default().take_ack(peer());
            let more = giver.say(peer(), &mut ack);
            got.extend(sequences(&publisher.take(peer(), 2, &ack)));
            if !more {
                break;
            }
        }
        assert!(got.into_iter().eq(1..=count));
        let long = |n: usize| GroupName::Group(format!("{n:0>100}").into());
        for n in 0..RETURNED_MAX {
            giver.give(peer(), 1, Returned { group: long(n), sequence: 1 });
        }
        let names = say(&mut giver).returned.len();
        assert_eq!(names, NAMES_BYTES_MAX / 100, "long names take room");
    }
}
