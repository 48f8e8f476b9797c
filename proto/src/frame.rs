//! One frame: a kind, a header message, and a payload that is never copied into the header.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

use crate::{hot, v1};

/// Kinds from here on may be skipped by a node that does not know them.
pub const KIND_SKIPPABLE_FROM: u8 = 128;

/// What a frame's header is. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`v1::Hello`].
    Hello = 1,
    /// [`v1::Confirm`].
    Confirm = 2,
    /// [`v1::Directory`].
    Directory = 3,
    /// [`v1::Delta`].
    Delta = 4,
    /// [`v1::Heard`].
    Heard = 5,
    /// [`v1::Heartbeat`].
    Heartbeat = 6,
    /// [`v1::Claims`].
    Claims = 7,
    /// [`v1::Refuse`].
    Refuse = 8,
    /// [`v1::Supersede`].
    Supersede = 9,
    /// [`v1::Drained`].
    Drained = 10,
    /// [`v1::Cut`].
    Cut = 11,
    /// [`v1::Call`]; the payload is the argument.
    Call = 16,
    /// [`v1::Reply`]; the payload is the result.
    Reply = 17,
    /// [`v1::Cancel`].
    Cancel = 18,
    /// [`v1::Event`]; the payload is the event's.
    Event = 19,
    /// [`v1::EventsFrom`].
    EventsFrom = 20,
    /// [`v1::EventsSkipped`].
    EventsSkipped = 21,
    /// [`v1::EventAck`].
    EventAck = 22,
    /// [`v1::Events`]; the payload is theirs.
    Events = 23,
    /// [`v1::LeaseRequest`]. Who does not know leases skips it.
    LeaseRequest = 128,
    /// [`v1::LeaseAnswer`]. Who does not know leases skips it.
    LeaseAnswer = 129,
    /// [`v1::LeaseLearn`]. Who does not know leases skips it.
    LeaseLearn = 130,
    /// [`v1::LeaseLearned`]. Who does not know leases skips it.
    LeaseLearned = 131,
    /// [`v1::LeaseSeal`]. Who does not know leases skips it.
    LeaseSeal = 132,
    /// [`v1::LeaseSealed`]. Who does not know leases skips it.
    LeaseSealed = 133,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Hello,
            2 => Kind::Confirm,
            3 => Kind::Directory,
            4 => Kind::Delta,
            5 => Kind::Heard,
            6 => Kind::Heartbeat,
            7 => Kind::Claims,
            8 => Kind::Refuse,
            9 => Kind::Supersede,
            10 => Kind::Drained,
            11 => Kind::Cut,
            16 => Kind::Call,
            17 => Kind::Reply,
            18 => Kind::Cancel,
            19 => Kind::Event,
            20 => Kind::EventsFrom,
            21 => Kind::EventsSkipped,
            22 => Kind::EventAck,
            23 => Kind::Events,
            128 => Kind::LeaseRequest,
            129 => Kind::LeaseAnswer,
            130 => Kind::LeaseLearn,
            131 => Kind::LeaseLearned,
            132 => Kind::LeaseSeal,
            133 => Kind::LeaseSealed,
            _ => return None,
        })
    }
}

/// The header of a frame.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Header {
    /// Boxed: it is by far the largest, and the rarest.
    Hello(Box<v1::Hello>),
    Confirm(v1::Confirm),
    Directory(v1::Directory),
    Delta(v1::Delta),
    Heard(v1::Heard),
    Heartbeat(v1::Heartbeat),
    Claims(v1::Claims),
    Refuse(v1::Refuse),
    Supersede(v1::Supersede),
    Drained(v1::Drained),
    Cut(v1::Cut),
    Call(v1::Call),
    Reply(v1::Reply),
    Cancel(v1::Cancel),
    Event(v1::Event),
    EventsFrom(v1::EventsFrom),
    EventsSkipped(v1::EventsSkipped),
    EventAck(v1::EventAck),
    Events(v1::Events),
    LeaseRequest(v1::LeaseRequest),
    LeaseAnswer(Box<v1::LeaseAnswer>),
    LeaseLearn(v1::LeaseLearn),
    LeaseLearned(v1::LeaseLearned),
    LeaseSeal(v1::LeaseSeal),
    LeaseSealed(v1::LeaseSealed),
    /// Written already, for frames that go to many. Never read.
    Written(Written),
}

/// A frame as it goes over the wire behind its length, shared by all that say the same: kind and header, and the
/// payload unless that is large and shared by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    bytes: Bytes,
}

impl Written {
    /// Writes a header, and a payload behind it, in a buffer that many share; see [`Frame::to_body_in`].
    pub fn new(header: Header, payload: Bytes, buffer: &mut BytesMut, bytes: usize) -> Self {
        Written { bytes: Frame::with_payload(header, payload).to_body_in(buffer, bytes) }
    }

    /// What it says, if it is an event's, with what it holds of the payload.
    pub fn event(&self) -> Option<(v1::Event, Bytes)> {
        match FrameView::decode(self.bytes.clone()) {
            Ok(FrameView::Known(Header::Event(event), payload)) => Some((event, payload)),
            _ => None,
        }
    }

    /// How large it is, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn kind(&self) -> Kind {
        Kind::from_byte(self.bytes[0]).expect("written by this version")
    }
}

/// Applies one expression to whichever message the header holds.
macro_rules! with_message {
    ($header:expr, $message:ident => $body:expr, $written:ident => $otherwise:expr) => {
        match $header {
            Header::Hello($message) => $body,
            Header::Confirm($message) => $body,
            Header::Directory($message) => $body,
            Header::Delta($message) => $body,
            Header::Heard($message) => $body,
            Header::Heartbeat($message) => $body,
            Header::Claims($message) => $body,
            Header::Refuse($message) => $body,
            Header::Supersede($message) => $body,
            Header::Drained($message) => $body,
            Header::Cut($message) => $body,
            Header::Call($message) => $body,
            Header::Reply($message) => $body,
            Header::Cancel($message) => $body,
            Header::Event($message) => $body,
            Header::EventsFrom($message) => $body,
            Header::EventsSkipped($message) => $body,
            Header::EventAck($message) => $body,
            Header::Events($message) => $body,
            Header::LeaseRequest($message) => $body,
            Header::LeaseAnswer($message) => $body,
            Header::LeaseLearn($message) => $body,
            Header::LeaseLearned($message) => $body,
            Header::LeaseSeal($message) => $body,
            Header::LeaseSealed($message) => $body,
            Header::Written($written) => $otherwise,
        }
    };
}

impl Header {
    /// The kind that announces this header on the wire.
    pub fn kind(&self) -> Kind {
        match self {
            Header::Hello(_) => Kind::Hello,
            Header::Confirm(_) => Kind::Confirm,
            Header::Directory(_) => Kind::Directory,
            Header::Delta(_) => Kind::Delta,
            Header::Heard(_) => Kind::Heard,
            Header::Heartbeat(_) => Kind::Heartbeat,
            Header::Claims(_) => Kind::Claims,
            Header::Refuse(_) => Kind::Refuse,
            Header::Supersede(_) => Kind::Supersede,
            Header::Drained(_) => Kind::Drained,
            Header::Cut(_) => Kind::Cut,
            Header::Call(_) => Kind::Call,
            Header::Reply(_) => Kind::Reply,
            Header::Cancel(_) => Kind::Cancel,
            Header::Event(_) => Kind::Event,
            Header::EventsFrom(_) => Kind::EventsFrom,
            Header::EventsSkipped(_) => Kind::EventsSkipped,
            Header::EventAck(_) => Kind::EventAck,
            Header::Events(_) => Kind::Events,
            Header::LeaseRequest(_) => Kind::LeaseRequest,
            Header::LeaseAnswer(_) => Kind::LeaseAnswer,
            Header::LeaseLearn(_) => Kind::LeaseLearn,
            Header::LeaseLearned(_) => Kind::LeaseLearned,
            Header::LeaseSeal(_) => Kind::LeaseSeal,
            Header::LeaseSealed(_) => Kind::LeaseSealed,
            Header::Written(written) => written.kind(),
        }
    }

    /// Kind and header in one pass, for those that are written often.
    fn hot_front(&self) -> Option<hot::Front> {
        match self {
            Header::Call(call) => hot::write_call(Kind::Call as u8, call),
            Header::Reply(reply) => hot::write_reply(Kind::Reply as u8, reply),
            _ => None,
        }
    }

    /// How many bytes kind and header take in a frame, the length of the header included.
    fn front_len(&self) -> usize {
        let bytes = with_message!(self, m => m.encoded_len(), w => return w.bytes.len());
        1 + encoded_len_varint(bytes as u64) + bytes
    }

    /// Writes kind and header.
    fn encode_front(&self, out: &mut BytesMut) {
        let bytes = with_message!(self, m => m.encoded_len(), w => return out.put_slice(&w.bytes));
        out.put_u8(self.kind() as u8);
        encode_varint(bytes as u64, out);
        with_message!(self, m => m.encode_raw(out), _written => unreachable!("it was put as it is"));
    }
}

/// A frame on its way out: the header still a value, the payload shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// What the frame says.
    pub header: Header,
    /// What it carries. Empty for all but calls, replies and events.
    pub payload: Bytes,
}

impl Frame {
    /// A frame without a payload.
    pub fn new(header: Header) -> Self {
        Frame { header, payload: Bytes::new() }
    }

    /// A frame with a payload, which is shared and not copied.
    pub fn with_payload(header: Header, payload: Bytes) -> Self {
        Frame { header, payload }
    }

    /// Writes length, kind and header, everything but the payload, behind what `out` holds. The
    /// frame on a byte stream is this followed by [`Frame::payload`]. Returns the frame's whole
    /// length on the stream, in bytes.
    pub fn encode_head(&self, out: &mut BytesMut) -> usize {
        let hot = self.header.hot_front();
        let front_bytes =
            hot.as_ref().map_or_else(|| self.header.front_len(), |f| f.as_bytes().len());
        let body_bytes = front_bytes + self.payload.len();
        let prefix_bytes = encoded_len_varint(body_bytes as u64);
        out.reserve(prefix_bytes + front_bytes);
        encode_varint(body_bytes as u64, out);
        match hot {
            Some(front) => out.put_slice(front.as_bytes()),
            None => self.header.encode_front(out),
        }
        prefix_bytes + body_bytes
    }

    /// The frame without its length prefix, in one piece, for transports that keep message
    /// boundaries. Copies the payload.
    pub fn to_body(&self) -> Bytes {
        self.to_body_in(&mut BytesMut::new(), 0)
    }

    /// As [`Frame::to_body`], in a buffer that many frames share: a new one of `bytes` bytes is begun when the
    /// last has no room. The buffer lives as long as any frame in it.
    pub fn to_body_in(&self, buffer: &mut BytesMut, bytes: usize) -> Bytes {
        if let (Header::Written(written), true) = (&self.header, self.payload.is_empty()) {
            return written.bytes.clone();
        }
        let hot = self.header.hot_front();
        let front_bytes =
            hot.as_ref().map_or_else(|| self.header.front_len(), |f| f.as_bytes().len());
        let needed = front_bytes + self.payload.len();
        if buffer.capacity() < needed {
            *buffer = BytesMut::with_capacity(needed.max(bytes));
        }
        match hot {
            Some(front) => buffer.put_slice(front.as_bytes()),
            None => self.header.encode_front(buffer),
        }
        buffer.put_slice(&self.payload);
        buffer.split().freeze()
    }
}

/// A frame that came in: the header decoded, the payload a slice of what arrived.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameView {
    /// A frame this version knows.
    Known(Header, Bytes),
    /// A kind this version does not know and may skip.
    Skippable(u8),
}

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The frame is empty, or shorter than its header's length says.
    Truncated,
    /// A kind that may not be skipped and that this version does not know.
    UnknownKind(u8),
    /// The header is not a message of its kind.
    Header(Kind, String),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::Truncated => write!(f, "the frame is shorter than it says"),
            FrameError::UnknownKind(kind) => {
                write!(f, "frame kind {kind} is unknown and may not be skipped")
            }
            FrameError::Header(kind, error) => {
                write!(f, "the header is not a {kind:?} message: {error}")
            }
        }
    }
}

impl std::error::Error for FrameError {}

impl FrameView {
    /// Reads one frame without its length prefix. The payload, and fields of type bytes, are slices
    /// of `body`.
    ///
    /// # Errors
    ///
    /// [`FrameError`] when the bytes are not a frame of a protocol version that this code speaks.
    pub fn decode(body: Bytes) -> Result<FrameView, FrameError> {
        let mut rest = body;
        let Some(&kind_byte) = rest.first() else { return Err(FrameError::Truncated) };
        // Not split off: a slice of its own would be counted in and out.
        rest.advance(1);
        let kind = match Kind::from_byte(kind_byte) {
            Some(kind) => kind,
            None if kind_byte >= KIND_SKIPPABLE_FROM => {
                return Ok(FrameView::Skippable(kind_byte));
            }
            None => return Err(FrameError::UnknownKind(kind_byte)),
        };
        let header_bytes = decode_varint(&mut rest).map_err(|_| FrameError::Truncated)?;
        if header_bytes > rest.len() as u64 {
            return Err(FrameError::Truncated);
        }
        let header = rest.split_to(header_bytes as usize);
        fn read<M: Message + Default>(kind: Kind, bytes: Bytes) -> Result<M, FrameError> {
            M::decode(bytes).map_err(|e| FrameError::Header(kind, e.to_string()))
        }
        let header = match kind {
            Kind::Hello => Header::Hello(Box::new(read(kind, header)?)),
            Kind::Confirm => Header::Confirm(read(kind, header)?),
            Kind::Directory => Header::Directory(read(kind, header)?),
            Kind::Delta => Header::Delta(read(kind, header)?),
            Kind::Heard => Header::Heard(read(kind, header)?),
            Kind::Heartbeat => Header::Heartbeat(read(kind, header)?),
            Kind::Claims => Header::Claims(read(kind, header)?),
            Kind::Refuse => Header::Refuse(read(kind, header)?),
            Kind::Supersede => Header::Supersede(read(kind, header)?),
            Kind::Drained => Header::Drained(read(kind, header)?),
            Kind::Cut => Header::Cut(read(kind, header)?),
            Kind::Call => Header::Call(match hot::read_call(&header) {
                Some(call) => call,
                None => read(kind, header)?,
            }),
            Kind::Reply => Header::Reply(match hot::read_reply(&header) {
                Some(reply) => reply,
                None => read(kind, header)?,
            }),
            Kind::Cancel => Header::Cancel(read(kind, header)?),
            Kind::Event => Header::Event(match hot::read_event(&header) {
                Some(event) => event,
                None => read(kind, header)?,
            }),
            Kind::EventsFrom => Header::EventsFrom(read(kind, header)?),
            Kind::EventsSkipped => Header::EventsSkipped(read(kind, header)?),
            Kind::EventAck => Header::EventAck(read(kind, header)?),
            Kind::Events => Header::Events(read(kind, header)?),
            Kind::LeaseRequest => Header::LeaseRequest(read(kind, header)?),
            Kind::LeaseAnswer => Header::LeaseAnswer(Box::new(read(kind, header)?)),
            Kind::LeaseLearn => Header::LeaseLearn(read(kind, header)?),
            Kind::LeaseLearned => Header::LeaseLearned(read(kind, header)?),
            Kind::LeaseSeal => Header::LeaseSeal(read(kind, header)?),
            Kind::LeaseSealed => Header::LeaseSealed(read(kind, header)?),
        };
        Ok(FrameView::Known(header, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(payload: &'static [u8]) -> Frame {
        Frame::with_payload(
            Header::Call(v1::Call {
                sequence: 7,
                floor: 5,
                attempt: 1,
                callee_boot: 0x0102_0304_0506_0708,
                time_left_ms: 5_000,
                path: Bytes::from_static(b"math/add"),
                content_type: 1,
            }),
            Bytes::from_static(payload),
        )
    }

    #[test]
    fn a_frame_survives_the_trip_and_its_payload_is_not_copied() {
        let frame = call(b"[1,2]");
        let body = frame.to_body();
        let start = body.as_ptr() as usize;
        let FrameView::Known(header, payload) = FrameView::decode(body.clone()).unwrap() else {
            panic!("a call is a known kind");
        };
        assert_eq!(header, frame.header);
        assert_eq!(payload, frame.payload);
        assert_eq!(payload.as_ptr() as usize - start, body.len() - payload.len());
    }

    #[test]
    fn head_and_payload_make_the_body_behind_its_length() {
        let frame = call(b"0123456789");
        let mut out = BytesMut::new();
        let total = frame.encode_head(&mut out);
        out.extend_from_slice(&frame.payload);
        assert_eq!(out.len(), total);
        let mut stream = out.freeze();
        let length = decode_varint(&mut stream).unwrap();
        assert_eq!(length as usize, stream.len());
        assert_eq!(stream, frame.to_body());
    }

    #[test]
    fn what_was_written_before_makes_the_same_frame() {
        let frame = call(b"0123456789");
        let mut buffer = BytesMut::new();
        for joined in [0, 4, 10] {
            let (front, rest) = (frame.payload.slice(..joined), frame.payload.slice(joined..));
            let written = Written::new(frame.header.clone(), front, &mut buffer, 100);
            let written = Frame::with_payload(Header::Written(written), rest);
            assert_eq!(written.to_body(), frame.to_body());
            let (mut stream, mut other) = (BytesMut::new(), BytesMut::new());
            assert_eq!(written.encode_head(&mut stream), frame.encode_head(&mut other));
            stream.extend_from_slice(&written.payload);
            other.extend_from_slice(&frame.payload);
            assert_eq!(stream, other);
        }
    }

    #[test]
    fn unknown_kinds_are_skipped_or_refused_by_their_number() {
        assert_eq!(
            FrameView::decode(Bytes::from_static(&[200, 9, 9])),
            Ok(FrameView::Skippable(200))
        );
        assert_eq!(FrameView::decode(Bytes::from_static(&[99])), Err(FrameError::UnknownKind(99)));
    }

    #[test]
    fn a_header_length_beyond_the_frame_is_refused() {
        assert_eq!(FrameView::decode(Bytes::from_static(&[16, 5, 1])), Err(FrameError::Truncated));
        assert_eq!(FrameView::decode(Bytes::new()), Err(FrameError::Truncated));
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_ends_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = FrameView::decode(Bytes::from(bytes));
        }
    }
}
