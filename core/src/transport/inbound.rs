//! The lanes on which a peer sends: from QUIC streams to whole frames.
//!
//! Every stream begins with its lane's number. The control lane and the shared lanes are read as soon
//! as something arrives. An own lane is read only while its message has room in the link's reassembly
//! budget; until then its bytes stay in QUIC, where the window of the stream holds the sender back.
//! Until the peer's greeting was accepted, the control lane alone is read, and of it no more than a small window.
//! Room is given in the order of asking, and a largest message always has room once those before it are
//! done, so nothing waits for ever.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use dunlin_proto::FrameSplitter;
use quinn_proto::{Connection, Dir, ReadError, ReadableError, StreamId};

use crate::base::BufferPool;
use crate::link::Lane;

/// Above this, a chunk is kept in the datagram's buffer; below, it is copied out while it waits for the
/// rest of its frame, or a frame sent in tiny packets would keep all their buffers.
const KEPT_CHUNK_BYTES_MIN: usize = 1_024;
/// The sizes of buffers for frames are multiples of this. A guess.
const FRAME_BUFFER_STEP_BYTES: usize = 16 << 10;
/// The longest length prefix of a frame: 2^35 bytes.
const PREFIX_BITS_MAX: u32 = 35;
/// The longest lane number: what QUIC stream ids can count.
const NUMBER_BITS_MAX: u32 = 63;

/// How a peer broke the rules of lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LaneFault {
    /// The number means no lane.
    IllegalNumber(u64),
    /// A control or shared lane that is open already.
    OpenedTwice(Lane),
    /// An own lane whose number is not above that of the one opened before it.
    OutOfOrder(Lane),
    /// A control or shared lane was reset, or is no longer listened to.
    Ended(Lane),
    /// A lane ended within its number or its frame.
    Truncated,
    /// An own lane goes on behind its frame.
    Trailing(Lane),
    /// A frame beyond the bound.
    TooLong(u64),
}

impl std::fmt::Display for LaneFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LaneFault::IllegalNumber(number) => write!(f, "lane number {number} has no meaning"),
            LaneFault::OpenedTwice(lane) => write!(f, "lane {lane:?} was opened twice"),
            LaneFault::OutOfOrder(lane) => {
                write!(f, "lane {lane:?} was opened after one with a higher number")
            }
            LaneFault::Ended(lane) => write!(f, "lane {lane:?} ended before its link"),
            LaneFault::Truncated => write!(f, "a lane ended within a frame"),
            LaneFault::Trailing(lane) => write!(f, "lane {lane:?} goes on behind its frame"),
            LaneFault::TooLong(bytes) => write!(f, "a frame of {bytes} bytes is beyond the bound"),
        }
    }
}

/// A LEB128 number that arrives byte by byte.
#[derive(Clone, Copy, Debug, Default)]
struct Leb128 {
    value: u64,
    bits: u32,
}

impl Leb128 {
    /// Takes the next byte. Returns the number once it is whole, and an error when it is longer than
    /// `bits_max`.
    fn push(&mut self, byte: u8, bits_max: u32) -> Result<Option<u64>, ()> {
        if self.bits + 7 > bits_max {
            return Err(());
        }
        self.value |= u64::from(byte & 0x7f) << self.bits;
        self.bits += 7;
        Ok((byte & 0x80 == 0).then_some(self.value))
    }
}

#[derive(Debug)]
enum State {
    /// The lane's number has not arrived.
    Number(Leb128),
    /// Control or shared: frames, one after the other.
    Shared(Lane, FrameSplitter),
    /// Own: the length of its frame has not arrived.
    Length(Lane, Leb128),
    /// Own: its frame has no room yet.
    Waiting(Lane, usize),
    /// Own: its frame is arriving.
    Filling(Lane, usize, BytesMut),
    /// Own: its frame was handed over; only the end may follow.
    Ending(Lane),
}

#[derive(Debug)]
struct Incoming {
    state: State,
    /// Whether it is in the list of lanes to read.
    queued: bool,
}

/// What reading a lane came to.
enum Outcome {
    /// There is no more for now.
    Blocked,
    /// There may be more, for another turn.
    OutOfTurn,
    /// Its frame must wait for room.
    NoRoom,
    /// It is over.
    Over,
}

/// All lanes of one peer's on one link.
#[derive(Debug)]
pub(super) struct Inbound {
    /// By stream index.
    lanes: BTreeMap<u64, Incoming>,
    /// Lanes to read: the first streams, which are the control lane and the shared ones, go first.
    readable_first: VecDeque<u64>,
    readable: VecDeque<u64>,
    waiting: VecDeque<u64>,
    reserved_bytes: usize,
    budget_bytes: usize,
    frame_bytes_max: usize,
    /// One bit for each control or shared lane that was opened.
    opened: u64,
    /// The own lane on the highest stream so far.
    highest_own: Option<(u64, Lane)>,
    /// Until the peer is trusted: how much of an unfinished frame of its control lane is read, in bytes.
    untrusted_bytes_max: Option<usize>,
}

impl Inbound {
    /// No lanes yet. `budget_bytes` must be at least `frame_bytes_max`.
    pub(super) fn new(
        frame_bytes_max: usize,
        budget_bytes: usize,
        untrusted_bytes_max: usize,
    ) -> Self {
        assert!(budget_bytes >= frame_bytes_max, "a largest frame must fit the budget");
        Inbound {
            lanes: BTreeMap::new(),
            readable_first: VecDeque::new(),
            readable: VecDeque::new(),
            waiting: VecDeque::new(),
            reserved_bytes: 0,
            budget_bytes,
            frame_bytes_max,
            opened: 0,
            highest_own: None,
            untrusted_bytes_max: Some(untrusted_bytes_max),
        }
    }

    /// The peer's greeting was accepted: all of its lanes are read from now on.
    pub(super) fn trust(&mut self) {
        if self.untrusted_bytes_max.take().is_some() {
            let lanes: Vec<u64> = self.lanes.keys().copied().collect();
            for index in lanes {
                self.mark_readable(index);
            }
        }
    }

    /// Takes over the streams that the peer has opened.
    pub(super) fn accept(&mut self, quic: &mut Connection) {
        while let Some(stream) = quic.streams().accept(Dir::Uni) {
            let state = State::Number(Leb128::default());
            self.lanes.insert(stream.index(), Incoming { state, queued: false });
            self.mark_readable(stream.index());
        }
    }

    /// Something arrived on a stream.
    pub(super) fn mark_readable(&mut self, index: u64) {
        if let Some(lane) = self.lanes.get_mut(&index)
            && !lane.queued
        {
            lane.queued = true;
            if index <= Lane::SHARED {
                self.readable_first.push_back(index);
            } else {
                self.readable.push_back(index);
            }
        }
    }

    /// Whether there are lanes to read: the last turn ended before they were empty.
    pub(super) fn is_readable(&self) -> bool {
        !self.readable_first.is_empty() || !self.readable.is_empty()
    }

    /// Reads what arrived, in the order of arrival, and hands whole frames over: about so many bytes, which are taken off
    /// the budget. Large frames are put together in buffers of the pool.
    pub(super) fn read(
        &mut self,
        quic: &mut Connection,
        pool: &mut BufferPool,
        budget: &mut usize,
        deliver: &mut impl FnMut(Lane, Bytes),
    ) -> Result<(), LaneFault> {
        while *budget > 0
            && let Some(index) =
                self.readable_first.pop_front().or_else(|| self.readable.pop_front())
        {
            let Some(mut lane) = self.lanes.remove(&index) else { continue };
            lane.queued = false;
            match self.read_lane(quic, index, &mut lane.state, (pool, budget), deliver)? {
                Outcome::Blocked => {}
                Outcome::OutOfTurn => {
                    self.lanes.insert(index, lane);
                    self.mark_readable(index);
                    break;
                }
                Outcome::NoRoom => self.waiting.push_back(index),
                Outcome::Over => {
                    self.forget(index, &lane.state, pool);
                    continue;
                }
            }
            self.lanes.insert(index, lane);
            self.give_room(pool);
        }
        Ok(())
    }

    /// Bytes of the budget that are taken.
    #[cfg(test)]
    pub(super) fn reserved_bytes(&self) -> usize {
        self.reserved_bytes
    }

    fn read_lane(
        &mut self,
        quic: &mut Connection,
        index: u64,
        state: &mut State,
        (pool, budget): (&mut BufferPool, &mut usize),
        deliver: &mut impl FnMut(Lane, Bytes),
    ) -> Result<Outcome, LaneFault> {
        // Only streams that `accept` yielded get here: unidirectional and of the peer's.
        let stream = StreamId::new(!quic.side(), Dir::Uni, index);
        if let State::Waiting(..) = state {
            // A lane without room is left alone, but for its reset.
            return Ok(match quic.recv_stream(stream).received_reset() {
                Ok(None) => Outcome::Blocked,
                Ok(Some(_)) | Err(_) => Outcome::Over,
            });
        }
        let mut quic_stream = quic.recv_stream(stream);
        let mut chunks = match quic_stream.read(true) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                return Ok(Outcome::Over);
            }
        };
        loop {
            let bytes_max = match (&*state, self.untrusted_bytes_max) {
                (State::Number(_), _) | (_, None) => usize::MAX,
                (State::Shared(Lane::CONTROL, frames), Some(max)) => {
                    max.saturating_sub(frames.buffered_bytes())
                }
                _ => 0,
            };
            if bytes_max == 0 {
                return Ok(Outcome::Blocked);
            }
            let wanted = match state {
                State::Number(_) | State::Length(..) | State::Ending(_) => 1,
                State::Shared(..) => usize::MAX,
                State::Filling(_, frame_bytes, frame) => *frame_bytes - frame.len(),
                State::Waiting(..) => return Ok(Outcome::NoRoom),
            };
            match chunks.next(wanted.min(bytes_max)) {
                Ok(Some(chunk)) => {
                    *budget = budget.saturating_sub(chunk.bytes.len());
                    self.take(index, state, chunk.bytes, pool, deliver)?;
                    if *budget == 0 {
                        return Ok(Outcome::OutOfTurn);
                    }
                }
                Ok(None) => {
                    return match state {
                        State::Ending(_) => Ok(Outcome::Over),
                        // The peer is about to close the link and ends its lanes first.
                        State::Shared(_, frames) if frames.buffered_bytes() == 0 => {
                            Ok(Outcome::Over)
                        }
                        _ => Err(LaneFault::Truncated),
                    };
                }
                Err(ReadError::Blocked) => return Ok(Outcome::Blocked),
                Err(ReadError::Reset(_)) => {
                    return match state {
                        State::Shared(lane, _) => Err(LaneFault::Ended(*lane)),
                        _ => Ok(Outcome::Over),
                    };
                }
            }
        }
    }

    /// Takes the next bytes of a lane. They are never empty, and no more than its state asked for.
    fn take(
        &mut self,
        index: u64,
        state: &mut State,
        bytes: Bytes,
        pool: &mut BufferPool,
        deliver: &mut impl FnMut(Lane, Bytes),
    ) -> Result<(), LaneFault> {
        match state {
            State::Number(number) => {
                let whole = number
                    .push(bytes[0], NUMBER_BITS_MAX)
                    .map_err(|()| LaneFault::IllegalNumber(u64::MAX))?;
                if let Some(number) = whole {
                    *state = self.open(index, Lane(number))?;
                }
            }
            State::Shared(lane, splitter) => {
                let alone = splitter.buffered_bytes() == 0;
                if alone || bytes.len() >= KEPT_CHUNK_BYTES_MIN {
                    splitter.push(bytes);
                } else {
                    splitter.push(Bytes::copy_from_slice(&bytes));
                }
                while let Some(frame) =
                    splitter.next_frame().map_err(|e| LaneFault::TooLong(e.frame_bytes))?
                {
                    deliver(*lane, frame);
                }
            }
            State::Length(lane, length) => {
                let whole = length
                    .push(bytes[0], PREFIX_BITS_MAX)
                    .map_err(|()| LaneFault::TooLong(u64::MAX))?;
                if let Some(frame_bytes) = whole {
                    *state = self.begin_frame(*lane, frame_bytes, pool, deliver)?;
                }
            }
            State::Filling(lane, frame_bytes, frame) => {
                frame.extend_from_slice(&bytes);
                if frame.len() == *frame_bytes {
                    self.reserved_bytes -= *frame_bytes;
                    deliver(*lane, frame.split().freeze());
                    pool.put_back(std::mem::take(frame));
                    *state = State::Ending(*lane);
                }
            }
            State::Ending(lane) => return Err(LaneFault::Trailing(*lane)),
            State::Waiting(..) => unreachable!("a lane without room is not read"),
        }
        Ok(())
    }

    fn open(&mut self, index: u64, lane: Lane) -> Result<State, LaneFault> {
        if !lane.is_legal() {
            return Err(LaneFault::IllegalNumber(lane.0));
        }
        if lane.is_own() {
            self.check_order(index, lane)?;
            return Ok(State::Length(lane, Leb128::default()));
        }
        let bit = 1 << lane.0;
        if self.opened & bit != 0 {
            return Err(LaneFault::OpenedTwice(lane));
        }
        self.opened |= bit;
        Ok(State::Shared(lane, FrameSplitter::new(self.frame_bytes_max)))
    }

    /// Own lanes are numbered in the order of their streams. The numbers may arrive in another order,
    /// so this compares with the highest stream alone: enough to tell a confused sender.
    fn check_order(&mut self, index: u64, lane: Lane) -> Result<(), LaneFault> {
        if let Some((highest_index, highest)) = self.highest_own {
            if (index > highest_index) != (lane > highest) {
                return Err(LaneFault::OutOfOrder(lane));
            }
            if index < highest_index {
                return Ok(());
            }
        }
        self.highest_own = Some((index, lane));
        Ok(())
    }

    fn begin_frame(
        &mut self,
        lane: Lane,
        frame_bytes: u64,
        pool: &mut BufferPool,
        deliver: &mut impl FnMut(Lane, Bytes),
    ) -> Result<State, LaneFault> {
        let bytes = usize::try_from(frame_bytes).unwrap_or(usize::MAX);
        if bytes > self.frame_bytes_max {
            return Err(LaneFault::TooLong(frame_bytes));
        }
        if bytes == 0 {
            deliver(lane, Bytes::new());
            return Ok(State::Ending(lane));
        }
        // Whoever came first gets room first, or a large message could be overtaken for ever.
        if !self.waiting.is_empty() || !self.reserve(bytes) {
            return Ok(State::Waiting(lane, bytes));
        }
        Ok(State::Filling(lane, bytes, frame_buffer(pool, bytes)))
    }

    fn reserve(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.budget_bytes - self.reserved_bytes;
        if fits {
            self.reserved_bytes += bytes;
        }
        fits
    }

    /// Lets waiting lanes go on, in their order, as far as there is room.
    fn give_room(&mut self, pool: &mut BufferPool) {
        while let Some(&index) = self.waiting.front() {
            let wanted = match self.lanes.get(&index).map(|lane| &lane.state) {
                Some(&State::Waiting(lane, bytes)) => Some((lane, bytes)),
                _ => None,
            };
            if let Some((lane, bytes)) = wanted {
                if !self.reserve(bytes) {
                    return;
                }
                if let Some(incoming) = self.lanes.get_mut(&index) {
                    incoming.state = State::Filling(lane, bytes, frame_buffer(pool, bytes));
                }
                self.mark_readable(index);
            }
            self.waiting.pop_front();
        }
    }

    /// Gives back what a lane that is over had reserved, and its place in the queue.
    fn forget(&mut self, index: u64, state: &State, pool: &mut BufferPool) {
        match state {
            State::Filling(_, frame_bytes, _) => self.reserved_bytes -= frame_bytes,
            State::Waiting(..) => self.waiting.retain(|waiting| *waiting != index),
            _ => {}
        }
        self.give_room(pool);
    }
}

/// A buffer for a frame of so many bytes. Rounded up, so that frames of much the same size can follow
/// each other in it.
fn frame_buffer(pool: &mut BufferPool, bytes: usize) -> BytesMut {
    pool.take(bytes.next_multiple_of(FRAME_BUFFER_STEP_BYTES))
}
