//! What waits to be sent on one link.
//!
//! Items are small: a call or an answer is looked up, and its message made, when the transport pulls
//! it. So what was given up in the meantime is never sent, and the floor it carries is fresh.
//!
//! Nothing waits twice: a peer that reads nothing can ask for one answer again and again, and a link
//! that does not drain can outlive any number of reasons to send a call or the directory anew.

use std::collections::{BTreeMap, VecDeque};

use crate::base::SequenceMap;
use crate::base::slab::make_first_room;
use crate::link::{Lane, LinkId, Sent};
use crate::planted::is_planted;
use crate::wire::Message;

/// One thing to send.
#[derive(Clone, Debug)]
pub(super) enum OutItem {
    /// A message of the handshake, or about a lease, ready to go.
    Message(Box<Message>),
    /// What the peer does not have yet of what this node makes known, as of when it is pulled.
    Directory,
    /// What we have of the peer's document.
    Heard,
    /// What the peer should have of ours.
    Heartbeat,
    /// Our call with this number.
    Call { sequence: u64 },
    /// The cancelling of our call with this number.
    Cancel { sequence: u64 },
    /// Our answer to the peer's call with this number.
    Answer { sequence: u64 },
    /// What follows on this lane is behind so many frames on the same lane of another link.
    Cut { from: LinkId, frames: u64 },
    /// What we have of the peer's events.
    EventAck,
    /// The next event for the peer on this lane. Not queued: see [`Outbound::mark_events`].
    Event,
}

/// After so many events in a row something else that waits on their lane has its turn. A guess.
const EVENTS_IN_A_ROW: u32 = 32;

/// What waits and may not wait twice: of these kinds one each, or one under each number.
#[derive(Clone, Debug, Default)]
struct Waiting {
    directory: bool,
    heard: bool,
    heartbeat: bool,
    event_ack: bool,
    calls: SequenceMap<()>,
    cancels: SequenceMap<()>,
    answers: SequenceMap<()>,
}

impl Waiting {
    /// Whether this does not wait already. From now on it does.
    fn insert(&mut self, item: &OutItem) -> bool {
        let set = |waits: &mut bool| !std::mem::replace(waits, true);
        match *item {
            OutItem::Message(_) | OutItem::Cut { .. } | OutItem::Event => true,
            OutItem::Directory => set(&mut self.directory),
            OutItem::Heard => set(&mut self.heard),
            OutItem::Heartbeat => set(&mut self.heartbeat),
            OutItem::EventAck => set(&mut self.event_ack),
            OutItem::Call { sequence } => self.calls.insert(sequence, ()).is_none(),
            OutItem::Cancel { sequence } => self.cancels.insert(sequence, ()).is_none(),
            OutItem::Answer { sequence } => self.answers.insert(sequence, ()).is_none(),
        }
    }

    /// It does not wait any more.
    fn remove(&mut self, item: &OutItem) {
        match *item {
            OutItem::Message(_) | OutItem::Cut { .. } | OutItem::Event => {}
            OutItem::Directory => self.directory = false,
            OutItem::Heard => self.heard = false,
            OutItem::Heartbeat => self.heartbeat = false,
            OutItem::EventAck => self.event_ack = false,
            OutItem::Call { sequence } => {
                self.calls.remove(sequence);
            }
            OutItem::Cancel { sequence } => {
                self.cancels.remove(sequence);
            }
            OutItem::Answer { sequence } => {
                self.answers.remove(sequence);
            }
        }
    }

    /// What is about calls waits elsewhere.
    fn clear_numbered(&mut self) {
        self.calls = SequenceMap::default();
        self.cancels = SequenceMap::default();
        self.answers = SequenceMap::default();
    }
}

/// The lanes of one link, each first in, first out.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbound {
    control: VecDeque<OutItem>,
    shared: [VecDeque<OutItem>; Lane::SHARED as usize],
    own: BTreeMap<u64, OutItem>,
    own_opened: u64,
    /// Our calls that went out on lanes of their own and are not answered, by their numbers.
    own_calls: BTreeMap<u64, Lane>,
    /// Shared lanes for which events wait, elsewhere.
    events: [bool; Lane::SHARED as usize],
    /// Events that went out in a row on each.
    in_a_row: [u32; Lane::SHARED as usize],
    /// Everything that waits and may not wait twice.
    waiting: Waiting,
    len: usize,
    answers: usize,
}

/// Neighbouring numbers go to one lane, so that a burst makes few packets.
fn shared_index(sequence: u64) -> usize {
    (Lane::shared(sequence >> 4).0 - 1) as usize
}

impl Outbound {
    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many answers wait.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// How many items wait on the control lane.
    pub(super) fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Queues for the control lane. Says whether nothing waited before.
    pub(super) fn push_control(&mut self, item: OutItem) -> bool {
        let fresh = self.note(&item);
        if fresh {
            make_first_room(&mut self.control);
            self.control.push_back(item);
        }
        fresh && self.len == 1
    }

    /// Queues for the shared lane of this call's number. Says whether nothing waited before.
    pub(super) fn push_shared(&mut self, sequence: u64, item: OutItem) -> bool {
        let fresh = self.note(&item);
        if fresh {
            let lane = &mut self.shared[shared_index(sequence)];
            make_first_room(lane);
            lane.push_back(item);
        }
        fresh && self.len == 1
    }

    /// Queues for a lane of its own. Says whether nothing waited before.
    pub(super) fn push_own(&mut self, item: OutItem) -> bool {
        let fresh = self.note(&item);
        if fresh {
            self.own.insert(Lane::OWN_FROM + self.own_opened, item);
            self.own_opened += 1;
        }
        fresh && self.len == 1
    }

    /// Events wait for a shared lane, by its place. Says whether nothing waited before.
    pub(super) fn mark_events(&mut self, lane: usize) -> bool {
        if std::mem::replace(&mut self.events[lane], true) {
            return false;
        }
        self.len += 1;
        self.len == 1
    }

    /// No events wait for a shared lane any more.
    pub(super) fn clear_events(&mut self, lane: usize) {
        if std::mem::replace(&mut self.events[lane], false) {
            self.len -= 1;
        }
    }

    /// Whether it is the turn of a lane's events.
    fn is_event_next(&mut self, lane: usize) -> bool {
        if !self.events[lane] {
            return false;
        }
        let turn = match self.shared[lane].front() {
            None => true,
            // What follows a cut is behind it.
            Some(OutItem::Cut { .. }) => false,
            Some(_) => self.in_a_row[lane] < EVENTS_IN_A_ROW,
        };
        self.in_a_row[lane] = if turn { self.in_a_row[lane] + 1 } else { 0 };
        turn
    }

    /// Counts an item in, unless it waits already.
    fn note(&mut self, item: &OutItem) -> bool {
        let fresh = self.waiting.insert(item);
        if fresh {
            self.len += 1;
            self.answers += usize::from(matches!(item, OutItem::Answer { .. }));
        }
        fresh
    }

    /// Takes back a call of ours that nobody has pulled.
    pub(super) fn withdraw_call(&mut self, sequence: u64) {
        if self.waiting.calls.remove(sequence).is_none() {
            return;
        }
        self.len -= 1;
        let is_it =
            |item: &OutItem| matches!(item, OutItem::Call { sequence: s } if *s == sequence);
        // What is taken back has mostly waited longest.
        let lane = &mut self.shared[shared_index(sequence)];
        if let Some(index) = lane.iter().position(is_it) {
            lane.remove(index);
        } else {
            self.own.retain(|_, item| !is_it(item));
        }
    }

    /// Takes over what waits on another link but for its control lane, behind a cut on each shared lane on which that link has sent
    /// something. Says whether nothing waited before.
    pub(super) fn take_over(&mut self, other: &mut Outbound, from: LinkId, sent: Sent) -> bool {
        let nothing = self.len == 0;
        for (lane, frames) in sent.lanes.into_iter().enumerate().skip(1) {
            if frames > 0 && !is_planted(33) {
                self.len += 1;
                self.shared[lane - 1].push_back(OutItem::Cut { from, frames });
            }
        }
        for (lane, waiting) in std::mem::take(&mut other.shared).into_iter().enumerate() {
            for item in waiting {
                if self.note(&item) {
                    self.shared[lane].push_back(item);
                }
            }
        }
        for item in std::mem::take(&mut other.own).into_values() {
            self.push_own(item);
        }
        for lane in 0..other.events.len() {
            if other.events[lane] {
                self.mark_events(lane);
            }
        }
        other.events = Default::default();
        // What keeps the old link itself going stays there.
        other.waiting.clear_numbered();
        other.len = other.control.len();
        other.answers = 0;
        nothing && self.len > 0
    }

    /// The first lane at or after `from` on which something waits.
    pub(super) fn next_lane(&self, from: Lane) -> Option<Lane> {
        if self.len == 0 {
            return None;
        }
        if from <= Lane::CONTROL && !self.control.is_empty() {
            return Some(Lane::CONTROL);
        }
        for lane in from.0.max(1)..=Lane::SHARED {
            let place = (lane - 1) as usize;
            if self.events[place] || !self.shared[place].is_empty() {
                return Some(Lane(lane));
            }
        }
        self.own.range(from.0..).next().map(|(lane, _)| Lane(*lane))
    }

    /// Takes what is first on a lane.
    pub(super) fn pop(&mut self, lane: Lane) -> Option<OutItem> {
        if (1..=Lane::SHARED).contains(&lane.0) && self.is_event_next(lane.0 as usize - 1) {
            return Some(OutItem::Event);
        }
        let item = match lane.0 {
            0 => self.control.pop_front(),
            n if n <= Lane::SHARED => self.shared[(n - 1) as usize].pop_front(),
            n => self.own.remove(&n),
        }?;
        self.len -= 1;
        self.answers -= usize::from(matches!(item, OutItem::Answer { .. }));
        self.waiting.remove(&item);
        if let OutItem::Call { sequence } = item
            && lane.is_own()
        {
            self.own_calls.insert(sequence, lane);
        }
        Some(item)
    }

    /// Our call with this number is answered or given up. The lane of its own that it went out on.
    pub(super) fn end_call(&mut self, sequence: u64) -> Option<Lane> {
        if self.own_calls.is_empty() { None } else { self.own_calls.remove(&sequence) }
    }
}
