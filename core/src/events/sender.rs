//! The sending side: what each peer is sent, and what of it the peer has.
//!
//! A *stream* is all that this life of ours sends to one life of a peer. Its four lanes are those of links: a topic
//! always has the same, so that its events keep their order. Each lane counts its frames from 1, and a frame is
//! kept here until the peer has said that it has it, whatever becomes of links:
//!
//! | what happens | what is done |
//! | --- | --- |
//! | the transport has room | the next frame; before the first on a link, from which number on it counts |
//! | a link is lost | what is not acknowledged is sent again, on another one |
//! | the last link is lost | nothing is sent before the peer has said, on the next one, what it remembers. If it has forgotten the stream, what was sent of it is lost: sent again it might come twice |
//! | the peer misses something | likewise |
//! | the peer's life, or ours, is over | what is not acknowledged is lost; the next stream says how much |
//!
//! Small events in a row for the same peers are written once, behind one another, and go out in one frame with as
//! many numbers (batch.rs). Such a frame grows until the first of its peers' links pulls it.
//!
//! A peer may have so much unacknowledged and no more. What does not fit is not taken
//! ([`Sender::has_room`]), or the peer is passed over: a word in its place says so, and takes no room.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use dunlin_proto::{Frame, Header, Written, v1};

use crate::base::slab::make_first_room;
use crate::base::{KeyMap, Limits, PeerKey, PeerTag};
use crate::events::ack::{EventAck, LANES};
use crate::events::batch::{Batch, Closed, JOINED_BYTES_MAX, OpenBatch, Together};
use crate::events::publications::{Part, PartEnd, PartGroup, PublicationKey};
use crate::link::LinkHandle;
use crate::planted::is_planted;

/// What an event that takes no payload counts for, in bytes: what is kept beside it.
const EVENT_BYTES: usize = 128;

/// Events are written into buffers of so many bytes, each twice as large as the one before: who publishes little takes
/// little. Each lives as long as an event in it is not acknowledged. Guesses.
const BUFFER_BYTES_FIRST: usize = 256;
const BUFFER_BYTES_MAX: usize = 16 << 10;

/// An event as it goes to peers.
#[derive(Clone, Debug)]
pub struct Outgoing {
    written: Written,
    /// What is not written behind the header.
    rest: Bytes,
    payload_bytes: usize,
}

impl Outgoing {
    fn write(header: v1::Event, payload: Bytes, buffer: &mut BytesMut, bytes: usize) -> Self {
        let payload_bytes = payload.len();
        let (joined, rest) = match payload_bytes <= JOINED_BYTES_MAX {
            true => (payload, Bytes::new()),
            false => (Bytes::new(), payload),
        };
        let written = Written::new(Header::Event(header), joined, buffer, bytes);
        Outgoing { written, rest, payload_bytes }
    }
}

#[derive(Clone, Debug)]
enum Item {
    Event {
        event: Outgoing,
        part: Option<Box<Part>>,
    },
    /// Several events, each with a number.
    Batch(Batch),
    /// The batch of the lane that is being written: see [`Sender::open`]. Always the last.
    Open,
    /// So many events were not for this peer in the end, or not taken: nothing is sent in their place.
    Skipped(u64),
}

impl Item {
    /// How many numbers it has. None while it is open.
    fn numbers(&self) -> u64 {
        match self {
            Item::Event { .. } | Item::Skipped(_) => 1,
            Item::Batch(batch) => u64::from(batch.count),
            Item::Open => 0,
        }
    }

    /// How many events it is, and how many bytes they count for, unless it is open.
    fn size(&self) -> (usize, usize) {
        match self {
            Item::Event { event, .. } => (1, EVENT_BYTES + event.payload_bytes),
            Item::Batch(batch) => {
                let count = batch.count as usize;
                (count, count * EVENT_BYTES + batch.carried_bytes)
            }
            Item::Open | Item::Skipped(_) => (0, 0),
        }
    }

    /// Gives groups back what they need not wait for: what was not sent at all, and what may be handled twice.
    /// Says whether nothing is left that the peer should get.
    fn return_groups(&mut self, unsent: bool, ended: &mut Vec<Report>) -> bool {
        let Item::Event { event, part: Some(part) } = self else { return false };
        if part.groups.is_empty() {
            return false;
        }
        let (returned, left): (Vec<_>, Vec<_>) =
            part.groups.iter().partition(|group| unsent || group.at_least_one);
        if returned.is_empty() {
            return false;
        }
        let publication = part.publication;
        for PartGroup { place: group, .. } in &returned {
            let (group, unknown) = (*group, !unsent);
            ended.push(Report::Returned { publication, group, unknown });
        }
        if left.is_empty() && !part.everyone {
            let groups = Vec::new();
            let part = Part { publication, everyone: false, groups, handed_on: part.handed_on };
            ended.push(Report::Ended(part, PartEnd::Unsent));
            return true;
        }
        // What is sent again is not for them. The places of the others stay.
        if let Some((mut header, joined)) = event.written.event() {
            let groups = header.groups.len();
            for group in &returned {
                match (group.in_frame as usize).checked_sub(groups) {
                    None => header.groups[group.in_frame as usize].clear(),
                    Some(service) => header.services[service].clear(),
                }
            }
            let header = Header::Event(header);
            event.written = Written::new(header, joined, &mut BytesMut::new(), 0);
        }
        part.groups = left;
        false
    }
}

#[derive(Clone, Debug, Default)]
struct Lane {
    /// The number of the first item. Those before it are acknowledged.
    first: u64,
    /// The number behind the last item that is not open.
    next: u64,
    items: VecDeque<Item>,
    /// How many of the items the link that counts now has pulled.
    pulled: usize,
    /// The number behind them.
    pulled_to: u64,
    /// Numbers below this one were pulled at some time.
    sent_to: u64,
    /// The link on which the lane counts.
    on: Option<LinkHandle>,
    /// Events that the peer was passed over with behind the last item, which says so of those before them.
    skipped: u64,
}

#[derive(Clone, Debug)]
struct Stream {
    number: u64,
    /// Events of earlier streams to this peer that are lost.
    lost_before: u64,
    lanes: [Lane; LANES],
    events: usize,
    bytes: usize,
    /// Somebody was told that there is no room.
    awaited: bool,
    /// The last link was lost: nothing is sent before the peer has said what it remembers.
    unsure: bool,
}

/// What a peer's word on events means for its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing is sent to it.
    OfNothing,
    /// It need not be waited for.
    AsExpected,
    /// It was waited for: the stream goes on.
    Awaited,
    /// The peer has forgotten the stream.
    Forgotten,
}

/// What became of an event for several peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It goes with the one before it.
    Joined,
    /// It may be the first that waits to be pulled.
    Begun,
    /// Somebody has no room for it. Nobody gets it.
    NoRoom,
}

/// What the word of a peer on its events has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Somebody waits for room, and there is some now.
    pub room: bool,
    /// Something waits to be pulled that did not before.
    pub waits: bool,
}

/// What a publication is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A part has ended.
    Ended(Part, PartEnd),
    /// A group gets an event back from a peer that cannot be reached.
    Returned {
        /// The publication.
        publication: PublicationKey,
        /// The place of the group.
        group: u32,
        /// Whether the peer may have it.
        unknown: bool,
    },
}

/// What all peers are sent.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Apart, for most peers are sent no events.
    streams: KeyMap<PeerTag, Box<Stream>>,
    /// Events that a peer had not acknowledged when its last stream ended.
    lost: KeyMap<PeerTag, u64>,
    next_stream: u64,
    events_max: usize,
    bytes_max: usize,
    publications_max: usize,
    /// Where events that go alone are written.
    buffer: BytesMut,
    /// How large the next such buffer is.
    buffer_bytes: usize,
    /// For each lane on which there ever were some the events that are being written together. Those to whom they go have [`Item::Open`] as the
    /// last item of the lane.
    open: [Option<Box<OpenBatch>>; LANES],
}

impl Sender {
    /// Nothing is sent.
    pub fn new(limits: &Limits) -> Self {
        Sender {
            streams: KeyMap::default(),
            lost: KeyMap::default(),
            next_stream: 1,
            events_max: limits.events_unacknowledged_max.max(1),
            bytes_max: limits.events_unacknowledged_bytes_max,
            publications_max: limits.publications_open_max,
            buffer: BytesMut::new(),
            buffer_bytes: BUFFER_BYTES_FIRST,
            open: Default::default(),
        }
    }

    /// How many events the peer has not acknowledged.
    pub fn unacknowledged(&self, peer: PeerKey) -> usize {
        self.streams.get(peer).map_or(0, |stream| stream.events)
    }

    /// How many events no peer has acknowledged, in all.
    pub fn len(&self) -> usize {
        self.streams.iter().map(|(_, stream)| stream.events).sum()
    }

    /// Whether every peer has acknowledged everything.
    pub fn is_empty(&self) -> bool {
        self.streams.iter().all(|(_, stream)| stream.events == 0)
    }

    /// Whether one more event with a payload of this size may be sent to the peer. One fits always.
    pub fn has_room(&self, peer: PeerKey, payload_bytes: usize) -> bool {
        let Some(stream) = self.streams.get(peer) else { return true };
        stream.events == 0
            || stream.events < self.events_max
                && stream.bytes + EVENT_BYTES + payload_bytes <= self.bytes_max
    }

    /// Somebody waits for room at a peer: [`Sender::acknowledged`], or [`Sender::forget`], will say when there is
    /// some.
    pub fn await_room(&mut self, peer: PeerKey) {
        if let Some(stream) = self.streams.get_mut(peer) {
            stream.awaited = true;
        }
    }

    fn stream(&mut self, peer: PeerKey) -> &mut Stream {
        if self.streams.get(peer).is_none() {
            let number = self.next_stream;
            self.next_stream += 1;
            let lost_before = self.lost.remove(peer).unwrap_or(0);
            let lane = Lane { first: 1, next: 1, pulled_to: 1, sent_to: 1, ..Lane::default() };
            let lanes = std::array::from_fn(|_| lane.clone());
            let stream = Box::new(Stream {
                number,
                lost_before,
                lanes,
                events: 0,
                bytes: 0,
                awaited: false,
                unsure: false,
            });
            self.streams.insert(peer, stream);
        }
        self.streams.get_mut(peer).expect("just inserted")
    }

    /// Writes an event, to be queued for peers.
    pub fn write(&mut self, header: v1::Event, payload: Bytes) -> Outgoing {
        let room = self.buffer.capacity();
        let event = Outgoing::write(header, payload, &mut self.buffer, self.buffer_bytes);
        if event.written.bytes() > room {
            self.buffer_bytes = (2 * self.buffer_bytes).min(BUFFER_BYTES_MAX);
        }
        event
    }

    /// Queues an event for a peer. Says whether nothing waited to be pulled on its lane before.
    pub fn push(
        &mut self,
        peer: PeerKey,
        lane: usize,
        event: Outgoing,
        part: Option<Box<Part>>,
    ) -> bool {
        self.close_for(peer, lane);
        let stream = self.stream(peer);
        let item = Item::Event { event, part };
        let (events, bytes) = item.size();
        stream.events += events;
        stream.bytes += bytes;
        stream.lanes[lane].push(item)
    }

    /// Queues an event for several peers, together with the one before if it goes to the same ones. Nothing is
    /// done if one of them has no room: see [`Sender::has_room`].
    pub fn push_to_all(&mut self, peers: &[PeerKey], lane: usize, event: &Together<'_>) -> Pushed {
        let bytes = event.payload.len();
        if peers.iter().any(|peer| !self.has_room(*peer, bytes)) {
            return Pushed::NoRoom;
        }
        let begins = !self.open[lane].as_ref().is_some_and(|open| open.takes(peers, event));
        if begins {
            self.close(lane);
        }
        let open = self.open[lane].get_or_insert_default();
        if begins {
            open.begin(peers);
        }
        open.add(event);
        for peer in peers {
            if begins {
                self.stream(*peer).lanes[lane].push(Item::Open);
            }
            let stream = self.streams.get_mut(*peer).expect("it has what is open");
            stream.events += 1;
            stream.bytes += EVENT_BYTES + bytes;
        }
        if begins { Pushed::Begun } else { Pushed::Joined }
    }

    /// No more joins the events that are being written on a lane, if they are for this peer.
    fn close_for(&mut self, peer: PeerKey, lane: usize) {
        if self.open[lane].as_ref().is_some_and(|open| open.peers().contains(&peer)) {
            self.close(lane);
        }
    }

    fn close(&mut self, lane: usize) {
        let Some(open) = self.open[lane].as_mut().filter(|open| !open.peers().is_empty()) else {
            return;
        };
        let (peers, closed) = open.close();
        let item = match closed {
            Closed::One(header, payload) => {
                Item::Event { event: self.write(header, payload), part: None }
            }
            Closed::Several(batch) => Item::Batch(batch),
        };
        for peer in &peers {
            let stream = self.streams.get_mut(*peer).expect("it is closed before they go");
            let lane = &mut stream.lanes[lane];
            lane.next += item.numbers();
            *lane.items.back_mut().expect("what is open is there") = item.clone();
        }
        self.open[lane].get_or_insert_default().reuse(peers);
    }

    /// Tells a peer that it was passed over with an event. Says whether nothing waited to be pulled before.
    pub fn pass_over(&mut self, peer: PeerKey, lane: usize) -> bool {
        self.close_for(peer, lane);
        let lane = &mut self.stream(peer).lanes[lane];
        if lane.pulled < lane.items.len()
            && lane.next > lane.sent_to
            && let Some(Item::Skipped(count)) = lane.items.back_mut()
        {
            *count += 1;
            return false;
        }
        if matches!(lane.items.back(), Some(Item::Skipped(_))) {
            // It goes out once the peer has said that it has the one before: whatever is published, one is kept.
            lane.skipped += 1;
            return false;
        }
        lane.push(Item::Skipped(1))
    }

    /// Lanes on which something waits to be pulled.
    pub fn waiting(&self, peer: PeerKey) -> impl Iterator<Item = usize> + '_ {
        let stream = self.streams.get(peer).filter(|stream| !stream.unsure);
        let lanes = stream.map(|stream| stream.lanes.iter().enumerate());
        let waits =
            |(place, lane): (usize, &Lane)| (lane.pulled < lane.items.len()).then_some(place);
        lanes.into_iter().flatten().filter_map(waits)
    }

    /// The next frame of a lane for a link, and whether more waits behind it.
    pub fn take_frame(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: usize,
    ) -> Option<(Frame, bool)> {
        let stream = self.streams.get(peer).filter(|stream| !stream.unsure)?;
        let next = stream.lanes[lane].items.get(stream.lanes[lane].pulled)?;
        if matches!(next, Item::Open) {
            self.close(lane);
        }
        let stream = self.streams.get_mut(peer)?;
        let (number, lost) = (stream.number, stream.lost_before);
        let lane = &mut stream.lanes[lane];
        let item = lane.items.get(lane.pulled)?;
        if lane.on != Some(link) {
            lane.on = Some(link);
            let header = v1::EventsFrom {
                stream: number,
                number: lane.pulled_to,
                lost,
                acknowledged: lane.first,
            };
            return Some((Frame::new(Header::EventsFrom(header)), true));
        }
        let frame = match item {
            Item::Event { event: Outgoing { written, rest, .. }, .. } => {
                Frame::with_payload(Header::Written(written.clone()), rest.clone())
            }
            Item::Batch(batch) => {
                let header = Header::Events(v1::Events { count: batch.count });
                Frame::with_payload(header, batch.bytes.clone())
            }
            Item::Skipped(count) => {
                let count = if is_planted(75) { 0 } else { *count };
                Frame::new(Header::EventsSkipped(v1::EventsSkipped { count }))
            }
            Item::Open => unreachable!("it was closed"),
        };
        lane.pulled += 1;
        lane.pulled_to += item.numbers();
        lane.sent_to = lane.sent_to.max(lane.pulled_to);
        Some((frame, lane.pulled < lane.items.len()))
    }

    /// What a peer says that it has, ended the wait for its word.
    pub fn heard(&mut self, peer: PeerKey, ack: &EventAck) -> Word {
        let Some(stream) = self.streams.get_mut(peer) else { return Word::OfNothing };
        if !stream.unsure {
            return Word::AsExpected;
        }
        let sent = stream.lanes.iter().any(|lane| lane.sent_to > 1);
        let acknowledged = stream.lanes.iter().any(|lane| lane.first > 1);
        // Who remembers an earlier stream has got nothing of this one; who remembers none may have forgotten it.
        let remembers = ack.stream == stream.number
            || !sent
            || ack.stream == 0 && ack.nothing_came
            || (1..stream.number).contains(&ack.stream) && !acknowledged;
        if !remembers {
            return Word::Forgotten;
        }
        stream.unsure = false;
        Word::Awaited
    }

    /// The peer says what it has. The ends of parts go to `ended`.
    pub fn acknowledged(
        &mut self,
        peer: PeerKey,
        ack: &EventAck,
        ended: &mut Vec<Report>,
    ) -> Acknowledged {
        let Some(stream) = self.streams.get_mut(peer) else { return Acknowledged::default() };
        if stream.number != ack.stream {
            return Acknowledged::default();
        }
        for (place, lane) in stream.lanes.iter_mut().enumerate() {
            // Nobody has what was not sent, or has a part of what came in one frame.
            let next = ack.next[place].min(lane.sent_to);
            while lane.first < next
                && let Some(item) = lane.items.front()
                && lane.first + item.numbers() <= next
                && let Some(item) = lane.items.pop_front()
            {
                let number = lane.first;
                lane.first += item.numbers();
                match lane.pulled.checked_sub(1) {
                    Some(pulled) => lane.pulled = pulled,
                    // It was to be sent again on this link, and is not: the link counts from elsewhere.
                    None => (lane.on, lane.pulled_to) = (None, lane.first),
                }
                let (events, bytes) = item.size();
                stream.events -= events;
                stream.bytes -= bytes;
                if let Item::Event { part: Some(part), .. } = item {
                    let declined = ack
                        .declined
                        .iter()
                        .filter(|declined| declined.lane == place && declined.number == number)
                        .flat_map(|declined| &declined.places)
                        .filter_map(|at| part.groups.iter().find(|g| g.in_frame == *at))
                        .map(|group| group.place)
                        .collect();
                    ended.push(Report::Ended(*part, PartEnd::Acknowledged { declined }));
                }
            }
            if ack.again & 1 << place != 0 && lane.on.is_some() {
                lane.rewind();
            }
        }
        let mut waits = false;
        for lane in &mut stream.lanes {
            waits |= lane.tell_skipped();
        }
        let room = stream.is_half_empty(self.events_max, self.bytes_max)
            && std::mem::take(&mut stream.awaited);
        Acknowledged { room, waits }
    }

    /// Whether a peer has so much room that it is worth to wake those who wait for it.
    pub fn is_half_empty(&self, peer: PeerKey) -> bool {
        let stream = self.streams.get(peer);
        stream.is_none_or(|stream| stream.is_half_empty(self.events_max, self.bytes_max))
    }

    /// A link to the peer is lost: what it carried is in doubt. If it was the last one, groups get their events
    /// back, as far as the peer has not said that it has them.
    pub fn link_lost(&mut self, peer: PeerKey, connected: bool, ended: &mut Vec<Report>) {
        let Some(stream) = self.streams.get_mut(peer) else { return };
        stream.unsure |= !connected;
        for lane in &mut stream.lanes {
            if is_planted(71) {
                lane.on = None;
                continue;
            }
            lane.rewind();
            if connected {
                continue;
            }
            let mut number = lane.first;
            for item in &mut lane.items {
                let unsent = number >= lane.sent_to;
                number += item.numbers();
                let (events, bytes) = item.size();
                if item.return_groups(unsent, ended) {
                    stream.events -= events;
                    stream.bytes -= bytes;
                    *item = Item::Skipped(0);
                }
            }
        }
    }

    /// The peer's life, or ours, is over; or the peer takes no events any more, so that none is `in_doubt`. Gives how
    /// many events the peer had not acknowledged, and whether somebody waits for room.
    pub fn forget(
        &mut self,
        peer: PeerKey,
        in_doubt: bool,
        ended: &mut Vec<Report>,
    ) -> (u64, bool) {
        for lane in 0..LANES {
            self.close_for(peer, lane);
        }
        let Some(stream) = self.streams.remove(peer) else { return (0, false) };
        let mut lost = 0;
        for lane in stream.lanes {
            let mut number = lane.first;
            lost += lane.skipped;
            for item in lane.items {
                let unsent = !in_doubt || number >= lane.sent_to;
                number += item.numbers();
                lost += item.size().0 as u64;
                match item {
                    Item::Skipped(count) => lost += count,
                    Item::Event { part: Some(part), .. } => {
                        let end = if unsent { PartEnd::Unsent } else { PartEnd::Unknown };
                        ended.push(Report::Ended(*part, end));
                    }
                    Item::Event { part: None, .. } | Item::Batch(_) | Item::Open => {}
                }
            }
        }
        if lost > 0 {
            self.lost.insert(peer, lost);
        }
        (lost, stream.awaited)
    }

    /// Asserts what must hold between inputs.
    pub fn check_invariants(&self) {
        for (peer, stream) in self.streams.iter() {
            let mut kept = (0, 0);
            for (lane, open) in stream.lanes.iter().zip(&self.open) {
                assert!(lane.pulled <= lane.items.len(), "what was pulled is kept");
                let numbers = |items: usize| {
                    lane.items.iter().take(items).map(Item::numbers).sum::<u64>() + lane.first
                };
                assert_eq!(numbers(lane.pulled), lane.pulled_to, "what was pulled is counted");
                assert_eq!(numbers(usize::MAX), lane.next, "what is to be sent is counted");
                let is_open = matches!(lane.items.back(), Some(Item::Open));
                let open = open.as_ref().filter(|open| open.peers().contains(&peer));
                assert_eq!(is_open, open.is_some(), "what is open is the last");
                let (count, carried) = open.map_or((0, 0), |open| open.size());
                let opened = (count, count * EVENT_BYTES + carried);
                for (events, bytes) in lane.items.iter().map(Item::size).chain([opened]) {
                    kept = (kept.0 + events, kept.1 + bytes);
                }
            }
            assert_eq!(kept, (stream.events, stream.bytes), "what is kept is counted");
            // What goes to the next member of a group is not refused: it was accepted already.
            let max = self.events_max + self.publications_max;
            assert!(stream.events <= max, "what is unacknowledged is bounded");
            // Between two of what says that a peer was passed over there is an event, or was one.
            let items = stream.lanes.iter().map(|lane| lane.items.len()).sum::<usize>();
            assert!(items <= 3 * max + 4 * LANES, "what says so is bounded too");
        }
    }
}

impl Stream {
    fn is_half_empty(&self, events_max: usize, bytes_max: usize) -> bool {
        self.events <= events_max / 2 && self.bytes <= bytes_max / 2
    }
}

impl Lane {
    /// Says what the peer was passed over with, unless what was said of that before is still under way.
    fn tell_skipped(&mut self) -> bool {
        let tells = self.skipped > 0 && !matches!(self.items.back(), Some(Item::Skipped(_)));
        if tells {
            let count = std::mem::take(&mut self.skipped);
            self.push(Item::Skipped(count));
        }
        tells
    }

    fn push(&mut self, item: Item) -> bool {
        // What was passed over before this is said before it.
        if self.skipped > 0 {
            let count = std::mem::take(&mut self.skipped);
            let first = self.push(Item::Skipped(count));
            self.push(item);
            return first;
        }
        self.next += item.numbers();
        make_first_room(&mut self.items);
        self.items.push_back(item);
        self.pulled + 1 == self.items.len()
    }

    fn rewind(&mut self) {
        self.pulled = 0;
        self.pulled_to = self.first;
        self.on = None;
    }
}
