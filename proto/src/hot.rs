//! Reads the two headers that every call needs, and that of events, in one pass over their bytes, and writes those of
//! calls.
//!
//! Prost reads and writes any message; this reads a [`v1::Call`], a [`v1::Reply`] and a [`v1::Event`] as they mostly are,
//! in a third of the time, and writes the first two. It leaves everything else (unknown fields, error texts, long paths,
//! malformed bytes) to prost. What it reads prost reads alike, and writes alike: property tests compare the two.

use bytes::Bytes;

use crate::v1;

/// Wire types, in the low three bits of a field's key.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;

/// The key of a field with a number below 16.
const fn key(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

/// The bytes that are left of a header.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A number of at most nine bytes. Longer ones are left to prost.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in 0..9 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn fixed64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    /// The place of a field of bytes in `whole`, of which these are the last.
    fn slice_of(&mut self, whole: &Bytes) -> Option<Bytes> {
        let length = usize::try_from(self.varint()?).ok()?;
        let from = whole.len() - self.0.len();
        let (_, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(whole.slice(from..from + length))
    }
}

/// Reads a call's header; none if it is one for prost.
pub(crate) fn read_call(bytes: &Bytes) -> Option<v1::Call> {
    let mut call = v1::Call::default();
    let mut rest = Rest(bytes);
    while let Some(key_byte) = rest.byte() {
        const SEQUENCE: u8 = key(1, VARINT);
        const FLOOR: u8 = key(2, VARINT);
        const ATTEMPT: u8 = key(3, VARINT);
        const CALLEE_BOOT: u8 = key(4, FIXED64);
        const TIME_LEFT: u8 = key(5, VARINT);
        const PATH: u8 = key(6, LENGTH);
        const CONTENT_TYPE: u8 = key(7, VARINT);
        match key_byte {
            SEQUENCE => call.sequence = rest.varint()?,
            FLOOR => call.floor = rest.varint()?,
            ATTEMPT => call.attempt = rest.varint()? as u32,
            CALLEE_BOOT => call.callee_boot = rest.fixed64()?,
            TIME_LEFT => call.time_left_ms = rest.varint()? as u32,
            PATH => call.path = rest.slice_of(bytes)?,
            CONTENT_TYPE => call.content_type = rest.varint()? as u32,
            _ => return None,
        }
    }
    Some(call)
}

/// Reads a reply's header; none if it is one for prost, as that of any error is.
pub(crate) fn read_reply(bytes: &Bytes) -> Option<v1::Reply> {
    let mut reply = v1::Reply::default();
    let mut rest = Rest(bytes);
    while let Some(key_byte) = rest.byte() {
        const SEQUENCE: u8 = key(1, VARINT);
        const CALLER_BOOT: u8 = key(2, FIXED64);
        const STATUS: u8 = key(3, VARINT);
        const CONTENT_TYPE: u8 = key(4, VARINT);
        match key_byte {
            SEQUENCE => reply.sequence = rest.varint()?,
            CALLER_BOOT => reply.caller_boot = rest.fixed64()?,
            STATUS => reply.status = rest.varint()? as u32,
            CONTENT_TYPE => reply.content_type = rest.varint()? as u32,
            _ => return None,
        }
    }
    Some(reply)
}

/// Reads an event's header; none if it is one for prost, as that of an event for a group is.
pub(crate) fn read_event(bytes: &Bytes) -> Option<v1::Event> {
    let mut event = v1::Event::default();
    let mut rest = Rest(bytes);
    while let Some(key_byte) = rest.byte() {
        const SEQUENCE: u8 = key(1, VARINT);
        const TOPIC: u8 = key(2, LENGTH);
        const CONTENT_TYPE: u8 = key(3, VARINT);
        const EVERYONE: u8 = key(4, VARINT);
        match key_byte {
            SEQUENCE => event.sequence = rest.varint()?,
            TOPIC => event.topic = rest.slice_of(bytes)?,
            CONTENT_TYPE => event.content_type = rest.varint()? as u32,
            EVERYONE => event.everyone = rest.varint()? != 0,
            _ => return None,
        }
    }
    Some(event)
}

/// The longest header that is written here: one whose length takes a byte.
const HEADER_BYTES_MAX: usize = 0x7f;

/// Kind and header of a frame, its length between them, as they are written.
pub(crate) struct Front {
    bytes: [u8; 2 + HEADER_BYTES_MAX],
    len: usize,
}

impl Front {
    fn new(kind: u8) -> Self {
        let mut bytes = [0; _];
        bytes[0] = kind;
        Front { bytes, len: 2 }
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        self.bytes.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.len)? = byte;
        self.len += 1;
        Some(())
    }

    /// A number. Zero is what a field that is not there means.
    fn varint(&mut self, field: u8, mut value: u64) -> Option<()> {
        if value == 0 {
            return Some(());
        }
        self.byte(key(field, VARINT))?;
        while value >= 0x80 {
            self.byte(value as u8 | 0x80)?;
            value >>= 7;
        }
        self.byte(value as u8)
    }

    fn fixed64(&mut self, field: u8, value: u64) -> Option<()> {
        if value == 0 {
            return Some(());
        }
        self.byte(key(field, FIXED64))?;
        self.put(&value.to_le_bytes())
    }

    /// Bytes whose length takes one.
    fn slice(&mut self, field: u8, bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 0x80)?;
        self.byte(key(field, LENGTH))?;
        self.byte(length)?;
        self.put(bytes)
    }

    fn end(mut self) -> Self {
        self.bytes[1] = (self.len - 2) as u8;
        self
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Writes the front of a call's frame; none if its header is one for prost, as one with a long path is.
pub(crate) fn write_call(kind: u8, call: &v1::Call) -> Option<Front> {
    let mut front = Front::new(kind);
    front.varint(1, call.sequence)?;
    front.varint(2, call.floor)?;
    front.varint(3, call.attempt.into())?;
    front.fixed64(4, call.callee_boot)?;
    front.varint(5, call.time_left_ms.into())?;
    front.slice(6, &call.path)?;
    front.varint(7, call.content_type.into())?;
    Some(front.end())
}

/// Writes the front of a reply's frame; none if its header is one for prost, as that of any error is.
pub(crate) fn write_reply(kind: u8, reply: &v1::Reply) -> Option<Front> {
    let v1::Reply {
        sequence,
        caller_boot,
        status,
        content_type,
        error_code,
        error_message,
        retry_after_ms,
    } = reply;
    if !error_code.is_empty() || !error_message.is_empty() || *retry_after_ms != 0 {
        return None;
    }
    let mut front = Front::new(kind);
    front.varint(1, *sequence)?;
    front.fixed64(2, *caller_boot)?;
    front.varint(3, (*status).into())?;
    front.varint(4, (*content_type).into())?;
    Some(front.end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
        let bytes = Bytes::copy_from_slice(bytes);
        if let Some(call) = read_call(&bytes) {
            prop_assert_eq!(v1::Call::decode(bytes.clone()).ok(), Some(call));
        }
        if let Some(reply) = read_reply(&bytes) {
            prop_assert_eq!(v1::Reply::decode(bytes.clone()).ok(), Some(reply));
        }
        if let Some(event) = read_event(&bytes) {
            prop_assert_eq!(v1::Event::decode(bytes).ok(), Some(event));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn what_it_reads_prost_reads_alike(
            sequence in any::<u64>(),
            floor in any::<u64>(),
            attempt in any::<u32>(),
            boot in any::<u64>(),
            time_left_ms in any::<u32>(),
            path in proptest::collection::vec(any::<u8>(), 0..200),
            content_type in any::<u32>(),
            error in prop_oneof![Just(String::new()), any::<String>()],
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let event = v1::Event {
                sequence, topic: path.clone().into(), content_type, everyone: attempt % 2 == 0,
                groups: (!error.is_empty()).then(|| error.clone()).into_iter().collect(),
                ..v1::Event::default()
            };
            let event_bytes = event.encode_to_vec();
            prop_assert_eq!(
                read_event(&event_bytes.clone().into()),
                (sequence < 1 << 63 && event.groups.is_empty()).then_some(event)
            );
            let call = v1::Call {
                sequence, floor, attempt, callee_boot: boot, time_left_ms, path: path.into(), content_type,
            };
            // Numbers of ten bytes are prost's.
            let short = 1 << 63;
            let mut bytes = call.encode_to_vec();
            prop_assert_eq!(
                read_call(&bytes.clone().into()),
                (sequence < short && floor < short).then_some(call)
            );
            let reply = v1::Reply {
                sequence, caller_boot: boot, status: attempt, content_type, error_code: error,
                error_message: String::new(), retry_after_ms: 0,
            };
            let reply_bytes = reply.encode_to_vec();
            prop_assert_eq!(
                read_reply(&reply_bytes.clone().into()),
                (sequence < short && reply.error_code.is_empty()).then_some(reply)
            );
            bytes.extend(reply_bytes);
            bytes.extend(event_bytes);
            for (index, byte) in damage {
                if !bytes.is_empty() {
                    let index = index.index(bytes.len());
                    bytes[index] = byte;
                }
            }
            agrees(&bytes)?;
        }

        #[test]
        fn what_it_writes_prost_writes_alike(
            numbers in proptest::array::uniform3(prop_oneof![Just(0u64), 0u64..300, any::<u64>()]),
            small in proptest::array::uniform3(prop_oneof![Just(0u32), 0u32..300, any::<u32>()]),
            path in proptest::collection::vec(any::<u8>(), 0..160),
            error in prop_oneof![3 => Just(String::new()), 1 => "[a-z]{1,9}"],
        ) {
            let [sequence, floor, boot] = numbers;
            let [attempt, time_left_ms, content_type] = small;
            let call = v1::Call {
                sequence, floor, attempt, callee_boot: boot, time_left_ms, path: path.into(),
                content_type,
            };
            let framed = |kind: u8, message: Vec<u8>| [&[kind, message.len() as u8], &message[..]].concat();
            let header = call.encode_to_vec();
            prop_assert_eq!(
                write_call(9, &call).map(|front| front.as_bytes().to_vec()),
                (header.len() <= HEADER_BYTES_MAX).then(|| framed(9, header))
            );
            let reply = v1::Reply {
                sequence, caller_boot: boot, status: attempt, content_type, error_code: error,
                error_message: String::new(), retry_after_ms: 0,
            };
            let header = reply.encode_to_vec();
            prop_assert_eq!(
                write_reply(9, &reply).map(|front| front.as_bytes().to_vec()),
                reply.error_code.is_empty().then(|| framed(9, header))
            );
        }

        #[test]
        fn any_bytes_are_read_alike_or_left_to_prost(
            bytes in proptest::collection::vec(prop_oneof![0u8..64, any::<u8>()], 0..60),
        ) {
            agrees(&bytes)?;
        }
    }
}
