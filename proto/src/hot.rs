//! Reads the two headers that every call needs, and that of events, in one pass over their bytes.
//!
//! Prost reads any message; this reads a [`v1::Call`], a [`v1::Reply`] and a [`v1::Event`] as they mostly are, in a third
//! of the time, and leaves everything else (unknown fields, error texts, malformed bytes) to prost. What
//! it reads, prost reads alike: a property test compares the two.

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
        fn any_bytes_are_read_alike_or_left_to_prost(
            bytes in proptest::collection::vec(prop_oneof![0u8..64, any::<u8>()], 0..60),
        ) {
            agrees(&bytes)?;
        }
    }
}
