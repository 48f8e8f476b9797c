//! Handshakes that were said before, kept as an eavesdropper with the keys would, to come again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use dunlin_core::link::{Direction, Lane};

use crate::frames::Frameworld;
use crate::frames::link::{End, Link, State};
use crate::frames::{lanes, lifetime};
use crate::log::log;

/// Frames of one handshake that are kept.
const FRAMES_MAX: usize = 6;
/// Handshakes of one station with another that are kept: what is older may be of an earlier life.
const LINKS_MAX: usize = 3;

/// What each station said to another on the control lanes of the last links that it dialled, from its Hello on.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    said: BTreeMap<(usize, usize), VecDeque<Vec<Bytes>>>,
    is_kept: bool,
}

impl Handshakes {
    /// Nothing was said yet. What never comes again is not kept.
    pub(super) fn new(is_kept: bool) -> Self {
        Handshakes { said: BTreeMap::new(), is_kept }
    }

    /// A dialler has said this to another station, as the frame of that number on the control lane of their link.
    pub(super) fn note(&mut self, (from, to): (usize, usize), order: u64, frame: &Bytes) {
        if !self.is_kept {
            return;
        }
        let links = self.said.entry((from, to)).or_default();
        if order == 0 {
            links.truncate(LINKS_MAX - 1);
            links.push_front(Vec::new());
        }
        if let Some(last) = links.front_mut()
            && last.len() == order as usize
            && last.len() < FRAMES_MAX
        {
            last.push(frame.clone());
        }
    }

    /// One of the handshakes of a station with another, as this number has it.
    fn any(&self, from: usize, to: usize, number: usize) -> Option<Vec<Bytes>> {
        let links = self.said.get(&(from, to))?;
        links.get(number.checked_rem(links.len())?).cloned()
    }
}

/// Lets an old handshake of one station come to another once more, over a link of its own. Says whether there was one.
pub(super) fn replay(world: &mut Frameworld<'_>, from: usize, to: usize) -> bool {
    let link = world.fidelity.links.len() as u32;
    let Some(said) = world.fidelity.handshakes.any(from, to, link as usize) else { return false };
    // Whoever replays it is not there to answer; the node itself knows of no such link.
    let dialler = End::new(from, State::Gone, world.now);
    let other = End::new(to, State::Answered, world.now);
    world.fidelity.links.push(Link { ends: [dialler, other] });
    world.fidelity.note(from, link);
    world.fidelity.note(to, link);
    log!(world, Some(to), "an old handshake of n{from} comes again, as link {link}");
    lifetime::up(world, link, 1, Direction::Accepted);
    // It is known already.
    let is_kept = std::mem::take(&mut world.fidelity.handshakes.is_kept);
    for (order, frame) in (0..).zip(said) {
        lanes::receive(world, (link, 1), (Lane::CONTROL, order), frame);
    }
    world.fidelity.handshakes.is_kept = is_kept;
    world.touch(to);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8) -> Bytes {
        Bytes::copy_from_slice(&[byte])
    }

    #[test]
    fn the_last_links_are_kept_from_their_first_frame_on() {
        let mut handshakes = Handshakes::new(true);
        assert_eq!(handshakes.any(1, 2, 0), None);
        // What begins in the middle is no handshake.
        handshakes.note((1, 2), 3, &frame(9));
        assert_eq!(handshakes.any(1, 2, 0), None);
        for link in 0..5 {
            for order in 0..10 {
                handshakes.note((1, 2), order, &frame(link));
                // Said twice, kept once.
                handshakes.note((1, 2), order.max(1), &frame(link));
            }
        }
        let all: Vec<_> = (0..3).filter_map(|number| handshakes.any(1, 2, number)).collect();
        assert_eq!(all, [4, 3, 2].map(|link| vec![frame(link); FRAMES_MAX]));
        assert_eq!(handshakes.any(1, 2, 3), Some(all[0].clone()));
        assert_eq!(handshakes.any(2, 1, 0), None);
    }

    #[test]
    fn where_nothing_comes_again_nothing_is_kept() {
        let mut handshakes = Handshakes::new(false);
        handshakes.note((1, 2), 0, &frame(1));
        assert_eq!(handshakes.any(1, 2, 0), None);
    }
}
