//! The receiving side: what each peer has sent, so that nothing counts twice and nothing out of order.
//!
//! A frame carries no number. A lane of a link begins with a word from which number on what follows counts
//! ([`Receiver::begins`]), and each frame is one more. The same number may come on several links, when the
//! sender does not know what became of the first. Only the number that is awaited counts:
//!
//! | what comes | what is done |
//! | --- | --- |
//! | the number that is awaited | it counts |
//! | an earlier one, or one of an earlier stream | nothing: it has come before |
//! | a later one | nothing: what was before it went down with a link. It is asked for again |
//!
//! Acknowledged is what is below the number that is awaited, for each lane.

use std::collections::VecDeque;

use crate::base::{KeyMap, PeerKey, PeerTag};
use crate::events::ack::{DECLINED_MAX, DECLINED_PLACES_MAX, Declined, EventAck, LANES};
use crate::link::{Lane, LinkHandle};
use crate::planted::is_planted;
use crate::wire::EventsFrom;

/// What a frame of an event is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was awaited.
    New {
        /// Its number in its lane, or that of the first of several.
        number: u64,
        /// So many of them, from the first, have come before.
        old: u64,
    },
    /// It has come before.
    Old,
    /// Something before it is missing.
    Early,
}

/// A lane of a link: the number of the next frame on it.
#[derive(Clone, Copy, Debug)]
struct Position {
    stream: u64,
    number: u64,
}

#[derive(Clone, Debug)]
struct Incoming {
    /// The boot number of the peer's life.
    boot: u64,
    stream: u64,
    next: [u64; LANES],
    again: u32,
    declined: VecDeque<Declined>,
    /// The places that they name.
    declined_places: u32,
    /// How many of them, from the oldest, were said on a link that still stands.
    declined_said: u32,
    positions: Vec<(LinkHandle, [Option<Position>; LANES])>,
    /// An acknowledgement is queued.
    ack_queued: bool,
    /// Something that it may not publish was seen, and said.
    complained: bool,
}

/// What all peers have sent.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    peers: KeyMap<PeerTag, Incoming>,
    /// Something of some peer was forgotten.
    forgetful: bool,
}

/// The place of a shared lane; none for other lanes.
pub fn place_of(lane: Lane) -> Option<usize> {
    (1..=Lane::SHARED).contains(&lane.0).then(|| lane.0 as usize - 1)
}

impl Receiver {
    /// What follows on a lane has these numbers. Gives the events that the sender lost sight of before, if this
    /// is news and there was a stream before.
    ///
    /// # Errors
    ///
    /// When the lane carries no events.
    ///
    /// `boot` is the boot number of the life that the peer is in.
    pub fn begins(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        boot: u64,
        from: EventsFrom,
    ) -> Result<u64, &'static str> {
        let place = place_of(lane).ok_or("events on a lane of another kind")?;
        let EventsFrom { stream, number, lost, acknowledged } = from;
        let mut interrupted = 0;
        if self.peers.get(peer).is_none_or(|incoming| incoming.boot != boot) {
            self.peers.insert(
                peer,
                Incoming {
                    boot,
                    stream,
                    next: [1; LANES],
                    again: 0,
                    declined: VecDeque::new(),
                    declined_places: 0,
                    declined_said: 0,
                    positions: Vec::new(),
                    ack_queued: false,
                    complained: false,
                },
            );
        }
        let incoming = self.peers.get_mut(peer).expect("just inserted");
        if stream > incoming.stream {
            interrupted = lost;
            incoming.stream = stream;
            incoming.next = [1; LANES];
            incoming.again = 0;
            incoming.declined.clear();
            incoming.declined_places = 0;
            incoming.declined_said = 0;
        }
        if stream == incoming.stream {
            // It was acknowledged, and forgotten when the peer was.
            let next = &mut incoming.next[place];
            *next = acknowledged.max(*next);
        }
        let at = match incoming.positions.iter().position(|(known, _)| *known == link) {
            Some(at) => at,
            None => {
                incoming.positions.push((link, [None; LANES]));
                incoming.positions.len() - 1
            }
        };
        incoming.positions[at].1[place] = Some(Position { stream, number });
        Ok(interrupted)
    }

    /// A frame that has so many numbers came on a lane.
    ///
    /// # Errors
    ///
    /// When it was not said from where on the lane counts.
    pub fn arrived(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        count: u64,
    ) -> Result<Arrival, &'static str> {
        const UNNUMBERED: &str = "an event on a lane that has not begun to count";
        let place = place_of(lane).ok_or(UNNUMBERED)?;
        let incoming = self.peers.get_mut(peer).ok_or(UNNUMBERED)?;
        let of_link = incoming.positions.iter_mut().find(|(known, _)| *known == link);
        let position = of_link.and_then(|(_, lanes)| lanes[place].as_mut()).ok_or(UNNUMBERED)?;
        let Position { stream, number } = *position;
        position.number += if is_planted(78) { 1 } else { count };
        let end = position.number;
        if stream != incoming.stream {
            return Ok(Arrival::Old);
        }
        let next = &mut incoming.next[place];
        if end <= *next && !is_planted(70) {
            return Ok(Arrival::Old);
        }
        if number > *next {
            incoming.again |= 1 << place;
            return Ok(Arrival::Early);
        }
        // A sender that sends in other frames what it sent before is not ours, but legal.
        let old = if is_planted(70) { 0 } else { *next - number };
        *next = end;
        incoming.again &= !(1 << place);
        Ok(Arrival::New { number, old })
    }

    /// Nobody took an event for these of its groups.
    pub fn declined(&mut self, peer: PeerKey, lane: Lane, number: u64, places: Vec<u32>) {
        if is_planted(79) {
            return;
        }
        let (Some(incoming), Some(lane)) = (self.peers.get_mut(peer), place_of(lane)) else {
            return;
        };
        incoming.declined_places += places.len() as u32;
        while (incoming.declined.len() >= DECLINED_MAX
            || incoming.declined_places as usize > DECLINED_PLACES_MAX)
            && let Some(oldest) = incoming.declined.pop_front()
        {
            incoming.declined_places -= oldest.places.len() as u32;
            incoming.declined_said = incoming.declined_said.saturating_sub(1);
        }
        incoming.declined.push_back(Declined { lane, number, places });
    }

    /// Whether an acknowledgement is to be queued for the peer; it counts as queued then.
    pub fn wants_ack(&mut self, peer: PeerKey) -> bool {
        self.peers
            .get_mut(peer)
            .is_some_and(|incoming| !std::mem::replace(&mut incoming.ack_queued, true))
    }

    /// The acknowledgement that a peer is due. Of stream zero, if nothing of it is remembered.
    pub fn take_ack(&mut self, peer: PeerKey) -> EventAck {
        let Some(incoming) = self.peers.get_mut(peer) else {
            return EventAck {
                stream: 0,
                next: [1; LANES],
                again: 0,
                declined: Vec::new(),
                nothing_came: !self.forgetful,
                returned: Vec::new(),
                returned_from: 0,
                returned_next: 0,
                is_last: false,
            };
        };
        incoming.ack_queued = false;
        let all = incoming.declined.len() as u32;
        let said = std::mem::replace(&mut incoming.declined_said, all) as usize;
        EventAck {
            stream: incoming.stream,
            next: incoming.next,
            again: std::mem::take(&mut incoming.again),
            declined: incoming.declined.range(said..).cloned().collect(),
            nothing_came: false,
            returned: Vec::new(),
            returned_from: 0,
            returned_next: 0,
            is_last: false,
        }
    }

    /// Whether a peer has sent anything.
    pub fn knows(&self, peer: PeerKey) -> bool {
        self.peers.get(peer).is_some()
    }

    /// Asserts what must hold between inputs.
    pub fn check_invariants(&self) {
        for (_, incoming) in self.peers.iter() {
            let places: usize =
                incoming.declined.iter().map(|declined| declined.places.len()).sum();
            assert_eq!(incoming.declined_places as usize, places, "what is declined is counted");
            assert!(incoming.declined.len() <= DECLINED_MAX, "what is declined is bounded");
            let one = incoming.declined.back().map_or(0, |last| last.places.len());
            assert!(places <= DECLINED_PLACES_MAX.max(one), "and so is what it names");
            assert!(
                incoming.declined_said as usize <= incoming.declined.len(),
                "what is said is there"
            );
        }
    }

    /// A link to the peer, in the life with this boot number, is up, or another one is lost, and what was said on
    /// it is in doubt: everything is said again. An acknowledgement counts as queued.
    pub fn link_ready(&mut self, peer: PeerKey, boot: u64) {
        if self.peers.get(peer).is_some_and(|incoming| incoming.boot != boot) {
            self.peers.remove(peer);
        }
        if let Some(incoming) = self.peers.get_mut(peer) {
            incoming.ack_queued = true;
            incoming.declined_said = 0;
        }
    }

    /// Whether this is the first time that the peer is complained of.
    pub fn complain(&mut self, peer: PeerKey) -> bool {
        self.peers
            .get_mut(peer)
            .is_some_and(|incoming| !std::mem::replace(&mut incoming.complained, true))
    }

    /// A link is gone.
    pub fn link_gone(&mut self, peer: PeerKey, link: LinkHandle) {
        if let Some(incoming) = self.peers.get_mut(peer) {
            incoming.positions.retain(|(known, _)| *known != link);
        }
    }

    /// The peer was let go, or its life is over. What it has sent is remembered: a peer that comes back in the
    /// same life goes on where it was.
    pub fn session_ended(&mut self, peer: PeerKey) {
        if let Some(incoming) = self.peers.get_mut(peer) {
            incoming.positions.clear();
            incoming.ack_queued = false;
            incoming.complained = false;
        }
    }

    /// Nobody speaks of the peer any more.
    pub fn forget(&mut self, peer: PeerKey) {
        self.forgetful |= self.peers.remove(peer).is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: LinkHandle = LinkHandle(1);
    const NEW: LinkHandle = LinkHandle(2);
    const LANE: Lane = Lane(2);

    fn peer() -> PeerKey {
        PeerKey::from_u64(0)
    }

    fn from(stream: u64, number: u64, lost: u64) -> EventsFrom {
        EventsFrom { stream, number, lost, acknowledged: 1 }
    }

    fn begins(receiver: &mut Receiver, link: LinkHandle, stream: u64, number: u64) {
        assert_eq!(receiver.begins(peer(), link, LANE, 1, from(stream, number, 0)), Ok(0));
    }

    fn arrived(receiver: &mut Receiver, link: LinkHandle) -> Arrival {
        receiver.arrived(peer(), link, LANE, 1).unwrap()
    }

    #[test]
    fn what_comes_on_two_links_counts_once_and_in_order() {
        let mut receiver = Receiver::default();
        begins(&mut receiver, OLD, 5, 1);
        assert_eq!(arrived(&mut receiver, OLD), Arrival::New { number: 1, old: 0 });
        // The sender has given the old link up; its frames still come.
        begins(&mut receiver, NEW, 5, 1);
        assert_eq!(arrived(&mut receiver, NEW), Arrival::Old);
        assert_eq!(arrived(&mut receiver, NEW), Arrival::New { number: 2, old: 0 });
        assert_eq!(arrived(&mut receiver, OLD), Arrival::Old);
        assert_eq!(arrived(&mut receiver, OLD), Arrival::New { number: 3, old: 0 });
        assert_eq!(arrived(&mut receiver, NEW), Arrival::Old);
        assert_eq!(receiver.take_ack(peer()).next, [1, 4, 1, 1]);
    }

    #[test]
    fn several_numbers_in_one_frame_count_as_far_as_they_are_new() {
        let mut receiver = Receiver::default();
        let several = |receiver: &mut Receiver, link, count| {
            receiver.arrived(peer(), link, LANE, count).unwrap()
        };
        begins(&mut receiver, OLD, 5, 1);
        assert_eq!(several(&mut receiver, OLD, 3), Arrival::New { number: 1, old: 0 });
        // The same ones, cut otherwise.
        begins(&mut receiver, NEW, 5, 2);
        assert_eq!(several(&mut receiver, NEW, 2), Arrival::Old);
        assert_eq!(several(&mut receiver, NEW, 2), Arrival::New { number: 4, old: 0 });
        begins(&mut receiver, OLD, 5, 3);
        assert_eq!(several(&mut receiver, OLD, 4), Arrival::New { number: 3, old: 3 });
        assert_eq!(receiver.take_ack(peer()).next, [1, 7, 1, 1]);
        begins(&mut receiver, NEW, 5, 8);
        assert_eq!(several(&mut receiver, NEW, 2), Arrival::Early);
    }

    #[test]
    fn what_comes_too_early_is_asked_for_again() {
        let mut receiver = Receiver::default();
        begins(&mut receiver, OLD, 5, 1);
        begins(&mut receiver, NEW, 5, 3);
        assert_eq!(arrived(&mut receiver, NEW), Arrival::Early);
        let ack = receiver.take_ack(peer());
        assert_eq!((ack.again, ack.next[1]), (0b10, 1));
        begins(&mut receiver, NEW, 5, 1);
        assert_eq!(arrived(&mut receiver, NEW), Arrival::New { number: 1, old: 0 });
        assert_eq!(receiver.take_ack(peer()).again, 0);
    }

    #[test]
    fn a_new_stream_begins_anew_and_the_old_one_counts_no_more() {
        let mut receiver = Receiver::default();
        begins(&mut receiver, OLD, 5, 1);
        assert_eq!(arrived(&mut receiver, OLD), Arrival::New { number: 1, old: 0 });
        assert_eq!(receiver.begins(peer(), NEW, LANE, 1, from(6, 1, 7)), Ok(7));
        assert_eq!(receiver.begins(peer(), NEW, Lane(1), 1, from(6, 1, 7)), Ok(0), "said once");
        assert_eq!(arrived(&mut receiver, OLD), Arrival::Old);
        assert_eq!(arrived(&mut receiver, NEW), Arrival::New { number: 1, old: 0 });
    }

    #[test]
    fn a_peer_that_comes_back_in_the_same_life_goes_on_and_a_new_life_begins_anew() {
        let mut receiver = Receiver::default();
        begins(&mut receiver, OLD, 5, 1);
        assert_eq!(arrived(&mut receiver, OLD), Arrival::New { number: 1, old: 0 });
        receiver.session_ended(peer());
        begins(&mut receiver, NEW, 5, 1);
        assert_eq!(arrived(&mut receiver, NEW), Arrival::Old);
        assert_eq!(arrived(&mut receiver, NEW), Arrival::New { number: 2, old: 0 });
        receiver.session_ended(peer());
        assert_eq!(receiver.begins(peer(), OLD, LANE, 2, from(5, 1, 0)), Ok(0));
        assert_eq!(arrived(&mut receiver, OLD), Arrival::New { number: 1, old: 0 });
    }

    #[test]
    fn who_has_forgotten_what_it_acknowledged_goes_on_behind_it() {
        let mut receiver = Receiver::default();
        let from = EventsFrom { stream: 5, number: 4, lost: 0, acknowledged: 3 };
        assert_eq!(receiver.begins(peer(), OLD, LANE, 1, from), Ok(0));
        assert_eq!(arrived(&mut receiver, OLD), Arrival::Early, "number 3 is under way elsewhere");
        begins(&mut receiver, NEW, 5, 3);
        assert_eq!(arrived(&mut receiver, NEW), Arrival::New { number: 3, old: 0 });
        assert_eq!(receiver.take_ack(peer()).next, [1, 4, 1, 1]);
    }

    #[test]
    fn a_lane_must_begin_to_count() {
        let mut receiver = Receiver::default();
        assert!(receiver.arrived(peer(), OLD, LANE, 1).is_err());
        begins(&mut receiver, OLD, 1, 1);
        assert!(receiver.arrived(peer(), NEW, LANE, 1).is_err());
        assert!(receiver.arrived(peer(), OLD, Lane(1), 1).is_err());
        assert!(receiver.begins(peer(), OLD, Lane::CONTROL, 1, from(1, 1, 0)).is_err());
        receiver.link_gone(peer(), OLD);
        assert!(receiver.arrived(peer(), OLD, LANE, 1).is_err());
    }

    #[test]
    fn what_nobody_took_is_said_once_on_a_link_and_again_when_that_is_lost() {
        let mut receiver = Receiver::default();
        begins(&mut receiver, OLD, 1, 1);
        assert_eq!(arrived(&mut receiver, OLD), Arrival::New { number: 1, old: 0 });
        receiver.declined(peer(), LANE, 1, vec![0]);
        assert!(receiver.wants_ack(peer()) && !receiver.wants_ack(peer()));
        for _ in 0..2 {
            let declined = receiver.take_ack(peer()).declined;
            assert_eq!(declined, [Declined { lane: 1, number: 1, places: vec![0] }]);
            assert!(receiver.take_ack(peer()).declined.is_empty());
            receiver.link_ready(peer(), 1);
        }
    }
}
