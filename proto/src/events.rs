//! The payload of [`crate::v1::Events`]: several events, one after the other.

use std::ops::Range;

use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::v1::EventRun;

/// The most bytes of such a payload. What is read may keep as much alive.
pub const EVENTS_BYTES_MAX: usize = 64 << 10;

/// How the place of an event within its run is said.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A run begins with it.
    First(EventRun),
    /// By so much its sequence is more than that of the one before. At least 1.
    Next(u64),
}

/// Writes an event behind others.
pub fn write_event(place: &Place, carries: &[u8], out: &mut BytesMut) {
    let length = (carries.len() as u64) << 1;
    match place {
        Place::First(run) => {
            encode_varint(length | 1, out);
            encode_varint(run.encoded_len() as u64, out);
            run.encode_raw(out);
        }
        Place::Next(more) => {
            encode_varint(length, out);
            encode_varint(*more, out);
        }
    }
    out.put_slice(carries);
}

/// The most bytes that an event takes, with its run if one begins.
pub fn event_bytes_max(run: Option<&EventRun>, carries: usize) -> usize {
    let run =
        run.map_or(10, |run| encoded_len_varint(run.encoded_len() as u64) + run.encoded_len());
    encoded_len_varint((carries as u64) << 1 | 1) + run + carries
}

/// What is not well-formed in such a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(
    /// What.
    pub &'static str,
);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// Reads the events of a payload, one after the other. It ends behind the first fault.
#[derive(Clone, Debug)]
pub struct Events {
    bytes: Bytes,
    at: usize,
    begun: bool,
}

impl Events {
    /// The events of this payload.
    pub fn new(bytes: Bytes) -> Self {
        Events { bytes, at: 0, begun: false }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in 0..9 {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The place of so many bytes.
    fn skip(&mut self, length: u64) -> Option<Range<usize>> {
        let length = usize::try_from(length).ok()?;
        let range = self.at..self.at.checked_add(length)?;
        (range.end <= self.bytes.len()).then(|| {
            self.at = range.end;
            range
        })
    }

    fn read(&mut self) -> Result<(Place, Range<usize>), Malformed> {
        const SHORT: Malformed = Malformed("an event is shorter than it says");
        let length = self.varint().ok_or(SHORT)?;
        let place = match length & 1 {
            1 => {
                let run = self.varint().and_then(|length| self.skip(length)).ok_or(SHORT)?;
                let run = EventRun::decode(self.bytes.slice(run));
                Place::First(run.map_err(|_| Malformed("a run is not well-formed"))?)
            }
            _ if !self.begun => return Err(Malformed("no run begins with the first event")),
            _ => match self.varint().ok_or(SHORT)? {
                0 => return Err(Malformed("a sequence does not grow")),
                more => Place::Next(more),
            },
        };
        self.begun = true;
        Ok((place, self.skip(length >> 1).ok_or(SHORT)?))
    }
}

impl Iterator for Events {
    /// The place of an event, and where in the payload what it carries is.
    type Item = Result<(Place, Range<usize>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() {
            return None;
        }
        let item = self.read();
        if item.is_err() {
            self.at = self.bytes.len();
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places() -> impl Strategy<Value = Place> {
        let run = (any::<u64>(), "[a-z/]{0,9}", any::<u32>());
        prop_oneof![
            run.prop_map(|(sequence, topic, content_type)| {
                Place::First(EventRun { sequence, topic: topic.into(), content_type })
            }),
            (1..u64::MAX >> 1).prop_map(Place::Next),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            first in (any::<u64>(), any::<u32>()),
            events in proptest::collection::vec((places(), proptest::collection::vec(any::<u8>(), 0..200)), 0..20),
        ) {
            let run = EventRun { sequence: first.0, topic: Bytes::new(), content_type: first.1 };
            let events = std::iter::once((Place::First(run), vec![7])).chain(events);
            let events: Vec<_> = events.collect();
            let mut out = BytesMut::new();
            for (place, carries) in &events {
                let before = out.len();
                write_event(place, carries, &mut out);
                let run = match place {
                    Place::First(run) => Some(run),
                    Place::Next(_) => None,
                };
                prop_assert!(out.len() - before <= event_bytes_max(run, carries.len()));
            }
            let bytes = out.freeze();
            let read: Result<Vec<_>, _> = Events::new(bytes.clone()).collect();
            let read: Vec<_> = read.unwrap().into_iter().map(|(p, r)| (p, bytes[r].to_vec())).collect();
            prop_assert_eq!(read, events);
        }

        #[test]
        fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let count = Events::new(bytes.into()).count();
            prop_assert!(count <= 100);
        }
    }

    #[test]
    fn what_is_cut_off_or_has_no_beginning_is_refused() {
        let mut out = BytesMut::new();
        write_event(&Place::First(EventRun::default()), b"abc", &mut out);
        let one = out.clone().freeze();
        write_event(&Place::Next(1), b"def", &mut out);
        let whole = out.freeze();
        assert_eq!(Events::new(whole.clone()).filter(Result::is_ok).count(), 2);
        for cut in 1..whole.len() {
            let is_whole = cut == one.len();
            let last = Events::new(whole.slice(..cut)).last().unwrap();
            assert_eq!(last.is_ok(), is_whole, "cut at {cut}");
        }
        assert!(Events::new(whole.slice(one.len()..)).next().unwrap().is_err());
        assert!(Events::new(Bytes::from_static(&[0, 0])).next().unwrap().is_err());
    }
}
