//! Events in a row of one publisher and topic, as they wait in queues: what they have in common is kept once.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::PeerId;
use crate::events::EventId;
use crate::payload::{ContentType, Payload, PayloadError};
use crate::topic::TopicPath;

/// An event of several.
#[derive(Clone, Copy, Debug)]
struct Place {
    sequence: u64,
    /// Where in the bytes of all what it carries ends. The next one's begins there.
    end: usize,
}

#[derive(Debug)]
struct Events {
    publisher: PeerId,
    boot: u64,
    topic: TopicPath,
    carried: Carried,
}

#[derive(Debug)]
enum Carried {
    /// One event alone.
    One { sequence: u64, payload: Payload, size: usize, marks: Marks },
    /// Several that came together.
    Several { content: ContentType, bytes: Bytes, places: Box<[Place]> },
}

/// How an event came to a subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Another member of the group was sent it before, and its outcome there is not known.
    pub redelivered: bool,
    /// It goes to one subscriber of each service.
    pub one_per_service: bool,
    /// It goes to subscribers of its publisher's node alone.
    pub local: bool,
}

/// An event as a subscriber gets it. Cheap to clone.
///
/// It may share a buffer with events that came with it, of [`EVENTS_BYTES_MAX`] bytes at most: whoever keeps a few
/// of many for long keeps copies of what they carry.
///
/// [`EVENTS_BYTES_MAX`]: dunlin_proto::events::EVENTS_BYTES_MAX
#[derive(Clone)]
pub struct EventMessage {
    events: Arc<Events>,
    at: usize,
}

impl std::fmt::Debug for EventMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventMessage")
            .field("id", &self.id())
            .field("topic", self.topic())
            .field("payload", &self.payload())
            .field("is_redelivered", &self.is_redelivered())
            .finish()
    }
}

impl EventMessage {
    /// An event alone, with the size of its payload in bytes.
    pub fn new(id: EventId, topic: TopicPath, payload: Payload, size: usize, marks: Marks) -> Self {
        let EventId { publisher, boot, sequence } = id;
        let carried = Carried::One { sequence, payload, size, marks };
        EventMessage { events: Arc::new(Events { publisher, boot, topic, carried }), at: 0 }
    }

    /// Its name.
    pub fn id(&self) -> EventId {
        let Events { publisher, boot, ref carried, .. } = *self.events;
        let sequence = match carried {
            Carried::One { sequence, .. } => *sequence,
            Carried::Several { places, .. } => places[self.at].sequence,
        };
        EventId { publisher, boot, sequence }
    }

    /// Its topic, as it is written on this node.
    pub fn topic(&self) -> &TopicPath {
        &self.events.topic
    }

    /// What it carries.
    pub fn payload(&self) -> Payload {
        match &self.events.carried {
            Carried::One { payload, .. } => payload.clone(),
            Carried::Several { content, bytes, places } => {
                let bytes = bytes.slice(end_of(places, self.at)..places[self.at].end);
                Payload::Encoded { content: *content, bytes }
            }
        }
    }

    /// What it carries, to look at, with how to read it; none if that is a value that has not left the node.
    pub fn bytes(&self) -> Option<(ContentType, &[u8])> {
        match &self.events.carried {
            Carried::One { payload: Payload::Encoded { content, bytes }, .. } => {
                Some((*content, bytes))
            }
            Carried::One { .. } => None,
            Carried::Several { content, bytes, places } => {
                Some((*content, &bytes[end_of(places, self.at)..places[self.at].end]))
            }
        }
    }

    /// The value that it carries, if it is a `T` that has not left the node.
    pub fn get<T: Serialize + Send + Sync + 'static>(&self) -> Option<&T> {
        match &self.events.carried {
            Carried::One { payload, .. } => payload.get(),
            Carried::Several { .. } => None,
        }
    }

    /// What it carries, read as a `T`: from JSON, or the value itself as JSON if it has not left the node. To look at
    /// the value without writing and reading it: [`EventMessage::get`].
    ///
    /// # Errors
    ///
    /// When it is not a `T`.
    pub fn decode<T>(&self) -> Result<T, PayloadError>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.payload().decode()
    }

    /// Another member of the group was sent it before, and what became of it there is not known.
    pub fn is_redelivered(&self) -> bool {
        self.marks().redelivered
    }

    /// How it came.
    pub fn marks(&self) -> Marks {
        match self.events.carried {
            Carried::One { marks, .. } => marks,
            Carried::Several { .. } => Marks::default(),
        }
    }
}

/// Some events in a row. Copies share them.
#[derive(Clone, Debug)]
pub struct Run {
    events: Arc<Events>,
    from: usize,
    to: usize,
}

impl From<EventMessage> for Run {
    fn from(event: EventMessage) -> Run {
        Run { from: event.at, to: event.at + 1, events: event.events }
    }
}

impl Run {
    /// Several: of each the sequence and what it carries, copied into a buffer of their own. At least one.
    pub fn copied<'a>(
        publisher: PeerId,
        boot: u64,
        topic: TopicPath,
        content: ContentType,
        events: impl ExactSizeIterator<Item = (u64, &'a [u8])> + Clone,
    ) -> Self {
        let size = events.clone().map(|(_, carries)| carries.len()).sum();
        let mut bytes = Vec::with_capacity(size);
        let places = events.map(|(sequence, carries)| {
            bytes.extend_from_slice(carries);
            Place { sequence, end: bytes.len() }
        });
        let places: Box<[Place]> = places.collect();
        let to = places.len();
        assert!(to > 0, "a run has an event");
        let carried = Carried::Several { content, bytes: Bytes::from(bytes), places };
        Run { events: Arc::new(Events { publisher, boot, topic, carried }), from: 0, to }
    }

    /// How many events there are. At least one, unless all were taken.
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// Whether all were taken.
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Who published them.
    pub fn publisher(&self) -> PeerId {
        self.events.publisher
    }

    /// How much all of them carry, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes_of(self.len())
    }

    /// How much the first of them carry, in bytes.
    pub fn bytes_of(&self, first: usize) -> usize {
        debug_assert!(first <= self.len());
        match &self.events.carried {
            Carried::One { size, .. } => size * first,
            Carried::Several { places, .. } => {
                end_of(places, self.from + first) - end_of(places, self.from)
            }
        }
    }

    /// Takes the first ones away.
    pub fn skip(&mut self, first: usize) {
        debug_assert!(first <= self.len());
        self.from += first;
    }

    /// Keeps the first ones only, and gives the others.
    pub fn split_off(&mut self, first: usize) -> Run {
        debug_assert!(first <= self.len());
        let rest = Run { events: Arc::clone(&self.events), from: self.from + first, to: self.to };
        self.to = rest.from;
        rest
    }

    /// Takes the first one.
    pub fn pop(&mut self) -> Option<EventMessage> {
        (!self.is_empty()).then(|| {
            self.from += 1;
            EventMessage { events: Arc::clone(&self.events), at: self.from - 1 }
        })
    }
}

/// Where what so many events carry ends.
fn end_of(places: &[Place], events: usize) -> usize {
    events.checked_sub(1).map_or(0, |last| places[last].end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(carries: &[&[u8]]) -> Run {
        let events = carries.iter().enumerate().map(|(at, bytes)| (at as u64 + 5, *bytes));
        let publisher = PeerId::from_bytes([1; 32]);
        Run::copied(publisher, 7, TopicPath::parse("a/b").unwrap(), ContentType::RAW, events)
    }

    fn popped(run: &mut Run) -> Option<(u64, Bytes)> {
        run.pop().map(|event| {
            let (content, carries) = event.payload().encode().unwrap();
            assert_eq!(event.bytes(), Some((content, &carries[..])));
            (event.id().sequence, carries)
        })
    }

    #[test]
    fn events_come_out_as_they_went_in() {
        let mut run = run(&[b"one", b"", b"three"]);
        assert_eq!((run.len(), run.bytes(), run.bytes_of(2)), (3, 8, 3));
        let mut copy = run.clone();
        assert_eq!(popped(&mut run), Some((5, Bytes::from_static(b"one"))));
        assert_eq!((run.len(), run.bytes(), run.bytes_of(1)), (2, 5, 0));
        assert_eq!(popped(&mut run), Some((6, Bytes::new())));
        assert_eq!(popped(&mut run), Some((7, Bytes::from_static(b"three"))));
        assert_eq!(popped(&mut run), None);
        assert!(run.is_empty());
        copy.skip(1);
        let mut rest = copy.split_off(1);
        assert_eq!((copy.len(), copy.bytes()), (1, 0));
        assert_eq!((rest.len(), rest.bytes()), (1, 5));
        assert_eq!(popped(&mut rest), Some((7, Bytes::from_static(b"three"))));
    }

    #[test]
    fn one_alone_is_a_run_too() {
        let event = run(&[b"abc"]).pop().unwrap();
        let (topic, payload) = (event.topic().clone(), event.payload());
        let marks = Marks { redelivered: true, ..Marks::default() };
        let one = EventMessage::new(event.id(), topic, payload, 3, marks);
        assert!(one.is_redelivered() && !event.is_redelivered());
        let mut one = Run::from(one);
        assert_eq!((one.len(), one.bytes(), one.bytes_of(0)), (1, 3, 0));
        assert_eq!(popped(&mut one), Some((5, Bytes::from_static(b"abc"))));
        assert_eq!((one.bytes(), one.pop().is_none()), (0, true));
        let mut again = Run::from(event);
        assert_eq!((again.len(), again.bytes()), (1, 3));
        assert_eq!(popped(&mut again), Some((5, Bytes::from_static(b"abc"))));
    }
}
