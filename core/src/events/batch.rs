//! Events that are written behind one another, to go out together to the same peers.

use bytes::{Bytes, BytesMut};
use dunlin_proto::events::{EVENTS_BYTES_MAX, Place, event_bytes_max, write_event};
use dunlin_proto::v1;

use crate::base::PeerKey;
use crate::payload::ContentType;
use crate::topic::TopicPath;

/// What is written together has at most so many bytes: a few datagrams, so that the rest of a lane waits no longer
/// for it than for a large event. A guess.
const BATCH_BYTES_MAX: usize = 8 << 10;

/// Payloads up to this size are written behind their header, once for all peers; larger ones are shared as they
/// are. What copying 64 B a hundred times costs is less than counting references to them. A guess.
pub const JOINED_BYTES_MAX: usize = 2_048;

const _: () = assert!(BATCH_BYTES_MAX + JOINED_BYTES_MAX < EVENTS_BYTES_MAX);

/// An event that goes together with others, to all subscribers that get every event.
#[derive(Clone, Copy, Debug)]
pub struct Together<'a> {
    /// Its number among those of this life.
    pub sequence: u64,
    /// Its topic.
    pub topic: &'a TopicPath,
    /// How to read what it carries.
    pub content: ContentType,
    /// What it carries: at most [`JOINED_BYTES_MAX`] bytes.
    pub payload: &'a Bytes,
}

/// Events that were written together, as several peers are sent them. At least two.
#[derive(Clone, Debug)]
pub struct Batch {
    /// How many.
    pub count: u32,
    /// How many bytes they carry.
    pub carried_bytes: usize,
    /// As [`v1::Events`] has them.
    pub bytes: Bytes,
}

/// What became of an open batch.
#[derive(Clone, Debug)]
pub enum Closed {
    /// Nothing joined the first event: its header, and what it carries.
    One(v1::Event, Bytes),
    /// Several go together.
    Several(Batch),
}

#[derive(Clone, Debug)]
struct Last {
    sequence: u64,
    topic: TopicPath,
    content: ContentType,
}

/// Events that are being written.
#[derive(Clone, Debug, Default)]
pub struct OpenBatch {
    /// To whom they go. Nobody, if nothing is being written.
    peers: Vec<PeerKey>,
    /// The first one, as long as it is alone: then it goes as any other.
    alone: Option<(Last, Bytes)>,
    last: Option<Last>,
    count: u32,
    carried_bytes: usize,
    /// What is written lies in here, behind batches that were closed: it is used until it is full.
    buffer: BytesMut,
}

impl OpenBatch {
    /// To whom the events go.
    pub fn peers(&self) -> &[PeerKey] {
        &self.peers
    }

    /// Whether there is room for one more event for these peers.
    pub fn takes(&self, peers: &[PeerKey], event: &Together<'_>) -> bool {
        let needed = event_bytes_max(None, event.payload.len()) + event.topic.as_bytes().len() + 32;
        self.peers == peers && self.carried_bytes.max(self.buffer.len()) + needed <= BATCH_BYTES_MAX
    }

    /// Begins with events for these peers.
    pub fn begin(&mut self, peers: &[PeerKey]) {
        debug_assert!(self.peers.is_empty() && self.count == 0);
        self.peers.extend_from_slice(peers);
    }

    /// Adds an event.
    pub fn add(&mut self, event: &Together<'_>) {
        self.count += 1;
        self.carried_bytes += event.payload.len();
        if self.count == 1 {
            let Together { sequence, topic, content, payload } = *event;
            let first = Last { sequence, topic: topic.clone(), content };
            self.alone = Some((first, payload.clone()));
            return;
        }
        if let Some((Last { sequence, topic, content }, payload)) = self.alone.take() {
            self.write(&Together { sequence, topic: &topic, content, payload: &payload });
        }
        self.write(event);
    }

    fn write(&mut self, event: &Together<'_>) {
        let follows = self.last.as_ref().is_some_and(|last| {
            last.sequence < event.sequence
                && last.content == event.content
                && last.topic == *event.topic
        });
        let place = match &mut self.last {
            Some(last) if follows => {
                let more = event.sequence - last.sequence;
                last.sequence = event.sequence;
                Place::Next(more)
            }
            last => {
                let Together { sequence, topic, content, .. } = *event;
                *last = Some(Last { sequence, topic: topic.clone(), content });
                let topic = topic.as_bytes().clone();
                Place::First(v1::EventRun { sequence, topic, content_type: content.0 })
            }
        };
        let run = match &place {
            Place::First(run) => Some(run),
            Place::Next(_) => None,
        };
        let needed = event_bytes_max(run, event.payload.len());
        if self.buffer.capacity() - self.buffer.len() < needed {
            // What is written moves along.
            self.buffer.reserve(needed.max(BATCH_BYTES_MAX));
        }
        write_event(&place, event.payload, &mut self.buffer);
    }

    /// Ends what was written, and says to whom it goes.
    pub fn close(&mut self) -> (Vec<PeerKey>, Closed) {
        self.last = None;
        let count = std::mem::take(&mut self.count);
        let carried_bytes = std::mem::take(&mut self.carried_bytes);
        let closed = match self.alone.take() {
            Some((Last { sequence, topic, content }, payload)) => {
                let topic = topic.as_bytes().clone();
                let content_type = content.0;
                let everyone = true;
                let header =
                    v1::Event { sequence, topic, content_type, everyone, ..v1::Event::default() };
                Closed::One(header, payload)
            }
            None => {
                let bytes = self.buffer.split().freeze();
                Closed::Several(Batch { count, carried_bytes, bytes })
            }
        };
        (std::mem::take(&mut self.peers), closed)
    }

    /// Gives back the list that [`OpenBatch::close`] gave, to be filled again.
    pub fn reuse(&mut self, mut peers: Vec<PeerKey>) {
        peers.clear();
        self.peers = peers;
    }

    /// How many events there are, and how many bytes they carry.
    pub fn size(&self) -> (usize, usize) {
        (self.count as usize, self.carried_bytes)
    }
}
