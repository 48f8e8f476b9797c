//! Events in a row of one publisher and topic, as they wait in queues: what they have in common is kept once.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::PeerId;
use crate::events::{EventId, EventMessage};
use crate::payload::{ContentType, Payload};
use crate::topic::TopicPath;

/// An event of several.
#[derive(Clone, Copy, Debug)]
struct Place {
    sequence: u64,
    /// Where in the bytes of all what it carries ends. The next one's begins there.
    end: usize,
}

#[derive(Debug)]
enum Events {
    One {
        event: EventMessage,
        bytes: usize,
    },
    Several {
        publisher: PeerId,
        boot: u64,
        topic: TopicPath,
        content: ContentType,
        bytes: Bytes,
        places: Box<[Place]>,
    },
}

/// Some events in a row. Copies share them.
#[derive(Clone, Debug)]
pub struct Run {
    events: Arc<Events>,
    from: usize,
    to: usize,
}

impl Run {
    /// One event, with the size of what it carries.
    pub fn one(event: EventMessage, bytes: usize) -> Self {
        Run { events: Arc::new(Events::One { event, bytes }), from: 0, to: 1 }
    }

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
        let bytes = Bytes::from(bytes);
        let events = Events::Several { publisher, boot, topic, content, bytes, places };
        Run { events: Arc::new(events), from: 0, to }
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
        match &*self.events {
            Events::One { event, .. } => event.id.publisher,
            Events::Several { publisher, .. } => *publisher,
        }
    }

    /// How much all of them carry, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes_of(self.len())
    }

    /// How much the first of them carry, in bytes.
    pub fn bytes_of(&self, first: usize) -> usize {
        debug_assert!(first <= self.len());
        match &*self.events {
            Events::One { bytes, .. } => bytes * first,
            Events::Several { places, .. } => {
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

    /// Takes the first one, with the size of what it carries.
    pub fn pop(&mut self) -> Option<(EventMessage, usize)> {
        if self.is_empty() {
            return None;
        }
        let at = self.from;
        self.from += 1;
        Some(match &*self.events {
            Events::One { event, bytes } => (event.clone(), *bytes),
            Events::Several { publisher, boot, topic, content, bytes, places } => {
                let (from, to) = (end_of(places, at), places[at].end);
                let event = EventMessage {
                    id: EventId {
                        publisher: *publisher,
                        boot: *boot,
                        sequence: places[at].sequence,
                    },
                    topic: topic.clone(),
                    payload: Payload::Encoded { content: *content, bytes: bytes.slice(from..to) },
                    redelivered: false,
                };
                (event, to - from)
            }
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
        run.pop().map(|(event, bytes)| {
            let (_, carries) = event.payload.encode().unwrap();
            assert_eq!(carries.len(), bytes);
            (event.id.sequence, carries)
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
        let (event, _) = run(&[b"abc"]).pop().unwrap();
        let mut one = Run::one(event, 3);
        assert_eq!((one.len(), one.bytes(), one.bytes_of(0)), (1, 3, 0));
        assert_eq!(popped(&mut one), Some((5, Bytes::from_static(b"abc"))));
        assert_eq!((one.bytes(), one.pop().is_none()), (0, true));
    }
}
