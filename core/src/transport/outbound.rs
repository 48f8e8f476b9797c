//! Our own lanes: from frames that the mesh holds to QUIC streams.
//!
//! Frames are pulled only as far as streams take them, in batches: small ones are copied together,
//! large payloads are passed on as they are. The control lane goes first; the others take turns.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use dunlin_proto::Frame;
use quinn_proto::{Connection, Dir, FinishError, StreamId, VarInt, WriteError};

use super::inbound::LaneFault;
use crate::link::{FrameSource, Lane, LinkHandle};

/// How many bytes of frames one lane pulls before the next has its turn: enough to fill a batch of
/// datagrams.
const TURN_BYTES: usize = 64 << 10;
/// Up to this length copying a payload is cheaper than a chunk of its own. A guess.
const COPIED_PAYLOAD_BYTES_MAX: usize = 2 << 10;
/// The size of the buffers that small frames are copied into.
const COPY_BUFFER_BYTES: usize = 16 << 10;
/// The code of the streams that are reset. It says nothing: a lane's message is no longer wanted.
const RESET_CODE: VarInt = VarInt::from_u32(0);

/// Where frames become chunks of bytes. One serves all links of a transport.
#[derive(Debug)]
pub(super) struct Batch {
    copied: BytesMut,
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Batch { copied: BytesMut::with_capacity(COPY_BUFFER_BYTES), chunks: Vec::new(), bytes: 0 }
    }

    fn push_number(&mut self, lane: Lane) {
        let mut number = lane.0;
        while number >= 0x80 {
            self.copied.put_u8(number as u8 | 0x80);
            number >>= 7;
        }
        self.copied.put_u8(number as u8);
    }

    fn push_frame(&mut self, frame: &Frame) {
        self.bytes += frame.encode_head(&mut self.copied);
        if frame.payload.len() <= COPIED_PAYLOAD_BYTES_MAX {
            self.copied.extend_from_slice(&frame.payload);
        } else {
            self.seal();
            self.chunks.push(frame.payload.clone());
        }
    }

    fn seal(&mut self) {
        if !self.copied.is_empty() {
            self.chunks.push(self.copied.split().freeze());
        }
    }
}

#[derive(Debug)]
struct Outgoing {
    stream: StreamId,
    /// Pulled, but not taken by the stream.
    unwritten: VecDeque<Bytes>,
    unwritten_bytes: usize,
    /// Whether its number was written.
    numbered: bool,
    /// Whether its one frame was pulled (own lanes only).
    complete: bool,
    /// Whether the stream was ended behind its frame.
    finished: bool,
}

impl Outgoing {
    fn new(stream: StreamId) -> Self {
        Outgoing {
            stream,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            numbered: false,
            complete: false,
            finished: false,
        }
    }
}

/// What the bounds of one link's own lanes and windows are.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboundLimits {
    pub(super) send_window_bytes: u64,
    pub(super) send_reserve_bytes: u64,
    pub(super) own_unwritten_bytes_max: usize,
}

/// All our lanes on one link.
#[derive(Debug)]
pub(super) struct Outbound {
    limits: OutboundLimits,
    lanes: BTreeMap<Lane, Outgoing>,
    /// By stream index.
    lane_of: BTreeMap<u64, Lane>,
    /// Lanes whose stream takes bytes again.
    writable: VecDeque<Lane>,
    /// Where the next turn begins.
    next_turn: Lane,
    /// Pulled for own lanes, but not taken by their streams.
    own_unwritten_bytes: usize,
    /// The peer allows no further stream for now.
    streams_exhausted: bool,
    /// The mesh has said that there are frames, and not all were pulled.
    frames_ready: bool,
}

impl Outbound {
    /// Opens the control lane and the shared lanes; `None` if the peer does not allow for them.
    ///
    /// They come first, so that own lanes cannot use up the streams that the peer allows.
    pub(super) fn open(quic: &mut Connection, limits: OutboundLimits) -> Option<Self> {
        let mut outbound = Outbound {
            limits,
            lanes: BTreeMap::new(),
            lane_of: BTreeMap::new(),
            writable: VecDeque::new(),
            next_turn: Lane(1),
            own_unwritten_bytes: 0,
            streams_exhausted: false,
            frames_ready: false,
        };
        for number in 0..=Lane::SHARED {
            let lane = Lane(number);
            let priority = if lane == Lane::CONTROL { 2 } else { 1 };
            outbound.open_lane(quic, lane, priority)?;
        }
        Some(outbound)
    }

    fn open_lane(&mut self, quic: &mut Connection, lane: Lane, priority: i32) -> Option<()> {
        let stream = quic.streams().open(Dir::Uni)?;
        if priority != 0 {
            // Fails only for streams that are closed, and this one was just opened.
            let _ = quic.send_stream(stream).set_priority(priority);
        }
        self.lanes.insert(lane, Outgoing::new(stream));
        self.lane_of.insert(stream.index(), lane);
        Some(())
    }

    /// There are frames to pull.
    pub(super) fn mark_frames_ready(&mut self) {
        self.frames_ready = true;
    }

    /// A stream takes bytes again.
    pub(super) fn mark_writable(&mut self, stream: StreamId) {
        if let Some(&lane) = self.lane_of.get(&stream.index()) {
            self.writable.push_back(lane);
        }
    }

    /// The peer allows more streams.
    pub(super) fn mark_streams_available(&mut self) {
        self.streams_exhausted = false;
    }

    /// A stream was delivered whole, its end included.
    pub(super) fn mark_delivered(&mut self, stream: StreamId) {
        if let Some(lane) = self.lane_of.remove(&stream.index()) {
            self.lanes.remove(&lane);
        }
    }

    /// The peer no longer listens to a stream.
    pub(super) fn mark_stopped(
        &mut self,
        quic: &mut Connection,
        stream: StreamId,
    ) -> Result<(), LaneFault> {
        match self.lane_of.get(&stream.index()) {
            Some(&lane) if lane.is_own() => self.reset(quic, lane),
            Some(&lane) => return Err(LaneFault::Ended(lane)),
            None => {}
        }
        Ok(())
    }

    /// Gives up an own lane.
    pub(super) fn reset(&mut self, quic: &mut Connection, lane: Lane) {
        if !lane.is_own() {
            return;
        }
        if let Some(outgoing) = self.lanes.remove(&lane) {
            self.lane_of.remove(&outgoing.stream.index());
            self.own_unwritten_bytes -= outgoing.unwritten_bytes;
            // Fails only for a stream that is closed already, which is what is wanted.
            let _ = quic.send_stream(outgoing.stream).reset(RESET_CODE);
        }
    }

    /// Ends every lane behind what was pulled for it. Nothing more is pulled.
    pub(super) fn end_lanes(&mut self, quic: &mut Connection) {
        self.frames_ready = false;
        // A lane that was never used has nothing to deliver.
        let unused: Vec<Lane> =
            self.lanes.iter().filter(|(_, l)| !l.numbered).map(|(lane, _)| *lane).collect();
        for lane in unused {
            let outgoing = self.lanes.remove(&lane).expect("just listed");
            self.lane_of.remove(&outgoing.stream.index());
        }
        for outgoing in self.lanes.values_mut() {
            outgoing.complete = true;
            if outgoing.unwritten.is_empty() && !outgoing.finished {
                outgoing.finished = true;
                // Fails only if the peer no longer listens; then nothing can be delivered.
                let _ = quic.send_stream(outgoing.stream).finish();
            }
        }
    }

    /// Whether the peer has everything on every lane that was ended.
    pub(super) fn is_delivered(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether a flush may find something to do.
    pub(super) fn wants_flush(&self) -> bool {
        self.frames_ready || !self.writable.is_empty()
    }

    /// Writes what waits and pulls what fits. What remains waits for the peer.
    pub(super) fn flush(
        &mut self,
        quic: &mut Connection,
        link: LinkHandle,
        frames: &mut impl FrameSource,
        batch: &mut Batch,
    ) -> Result<(), LaneFault> {
        while let Some(lane) = self.writable.pop_front() {
            self.write_unwritten(quic, lane)?;
        }
        if !self.frames_ready {
            return Ok(());
        }
        loop {
            let control = frames.next_lane(link, Lane::CONTROL) == Some(Lane::CONTROL)
                && self.can_pull(Lane::CONTROL);
            if control {
                self.take_turn(quic, link, Lane::CONTROL, frames, batch)?;
            }
            if let Some(lane) = self.next_lane(link, frames) {
                // Behind the own lane with the lowest number the shared lanes have their turns again, so
                // own lanes are opened in the order of their numbers.
                self.next_turn = Lane(if lane.is_own() { 1 } else { lane.0 + 1 });
                self.take_turn(quic, link, lane, frames, batch)?;
            } else if !control {
                break;
            }
        }
        self.frames_ready = frames.next_lane(link, Lane::CONTROL).is_some();
        Ok(())
    }

    /// The lane behind the control lane whose turn it is.
    fn next_lane(&self, link: LinkHandle, frames: &impl FrameSource) -> Option<Lane> {
        let mut from = self.next_turn;
        let mut wrapped = false;
        loop {
            match frames.next_lane(link, from) {
                Some(lane) if self.can_pull(lane) => return Some(lane),
                // No own lane can begin, and nothing lies behind the own lanes.
                Some(lane) if !lane.is_own() => from = Lane(lane.0 + 1),
                _ if wrapped => return None,
                _ => {
                    wrapped = true;
                    from = Lane(1);
                }
            }
        }
    }

    fn can_pull(&self, lane: Lane) -> bool {
        if lane.is_own() {
            !self.streams_exhausted
                && self.own_unwritten_bytes < self.limits.own_unwritten_bytes_max
        } else {
            self.lanes.get(&lane).is_some_and(|outgoing| outgoing.unwritten.is_empty())
        }
    }

    /// Pulls one batch of a lane and writes it.
    fn take_turn(
        &mut self,
        quic: &mut Connection,
        link: LinkHandle,
        lane: Lane,
        frames: &mut impl FrameSource,
        batch: &mut Batch,
    ) -> Result<(), LaneFault> {
        if lane.is_own() {
            assert!(!self.lanes.contains_key(&lane), "an own lane carries one frame");
            if self.open_lane(quic, lane, 0).is_none() {
                self.streams_exhausted = true;
                return Ok(());
            }
        }
        let outgoing = self.lanes.get_mut(&lane).expect("shared lanes are open while the link is");
        batch.bytes = 0;
        if !outgoing.numbered {
            batch.push_number(lane);
            outgoing.numbered = true;
        }
        while batch.bytes < TURN_BYTES
            && !outgoing.complete
            && let Some(frame) = frames.pull_frame(link, lane)
        {
            batch.push_frame(&frame);
            outgoing.complete = lane.is_own();
        }
        batch.seal();
        if lane.is_own() && !outgoing.complete {
            // Its message was given up in the meantime.
            batch.chunks.clear();
            self.reset(quic, lane);
            return Ok(());
        }
        outgoing.unwritten_bytes += batch.chunks.iter().map(Bytes::len).sum::<usize>();
        if lane.is_own() {
            self.own_unwritten_bytes += outgoing.unwritten_bytes;
        }
        outgoing.unwritten.extend(batch.chunks.drain(..));
        self.write_unwritten(quic, lane)
    }

    /// Writes what was pulled for a lane until it is through or the stream takes no more.
    fn write_unwritten(&mut self, quic: &mut Connection, lane: Lane) -> Result<(), LaneFault> {
        let Some(outgoing) = self.lanes.get_mut(&lane) else { return Ok(()) };
        let reserve_bytes = if lane.is_own() { 0 } else { self.limits.send_reserve_bytes };
        quic.set_send_window(self.limits.send_window_bytes + reserve_bytes);
        let mut stream = quic.send_stream(outgoing.stream);
        let mut written_bytes = 0;
        // A stream says that it is writable again only once a write to it has failed.
        let stopped = loop {
            if outgoing.unwritten.is_empty() {
                break false;
            }
            match stream.write_chunks(outgoing.unwritten.make_contiguous()) {
                Ok(written) => {
                    written_bytes += written.bytes;
                    outgoing.unwritten.drain(..written.chunks);
                }
                Err(WriteError::Blocked) => break false,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => break true,
            }
        };
        outgoing.unwritten_bytes -= written_bytes;
        let through = outgoing.unwritten.is_empty();
        if lane.is_own() {
            self.own_unwritten_bytes -= written_bytes;
        }
        let mut stopped = stopped;
        if through && outgoing.complete && !outgoing.finished {
            outgoing.finished = true;
            stopped |= matches!(stream.finish(), Err(FinishError::Stopped(_)));
        }
        quic.set_send_window(self.limits.send_window_bytes);
        if stopped {
            if !lane.is_own() {
                return Err(LaneFault::Ended(lane));
            }
            self.reset(quic, lane);
        }
        Ok(())
    }

    /// Bytes that were pulled but that no stream has taken.
    #[cfg(test)]
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.lanes.values().map(|lane| lane.unwritten_bytes).sum()
    }
}
