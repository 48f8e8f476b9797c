//! What the ends of a stream say, as bytes.

use bytes::Bytes;
use dunlin_proto::v1;
use prost::Message;

use crate::base::PeerId;
use crate::payload::{ContentType, Payload, PayloadError};
use crate::rpc::AppError;

/// Bytes that each item counts for beside those of its payload: who sends empty ones is slowed down too.
pub const ITEM_OVERHEAD: u64 = 16;

/// One thing that goes through a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// How its bytes are to be read.
    pub content: ContentType,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Item {
    /// What a payload is when it leaves the node.
    pub fn new(payload: &Payload) -> Result<Item, PayloadError> {
        let (content, bytes) = payload.encode()?;
        Ok(Item { content, bytes })
    }

    /// What it takes of the window.
    pub fn weight(&self) -> u64 {
        self.bytes.len() as u64 + ITEM_OVERHEAD
    }

    fn from_wire(item: v1::StreamItem) -> Item {
        Item { content: ContentType(item.content_type), bytes: item.payload }
    }

    fn into_wire(self) -> v1::StreamItem {
        v1::StreamItem { content_type: self.content.0, payload: self.bytes }
    }
}

impl From<Item> for Payload {
    fn from(item: Item) -> Payload {
        Payload::Encoded { content: item.content, bytes: item.bytes }
    }
}

/// The first word of an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// How many bytes it takes without having consumed them.
    pub window: u64,
    /// From the opener: what the handler is given.
    pub argument: Option<Item>,
    /// From the end that was called: where it is.
    pub node: Option<PeerId>,
}

/// What one end says at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The stream.
    pub stream: u64,
    /// From 1, for frames that carry something; 0 for others.
    pub number: u64,
    /// How much its application has taken, in bytes.
    pub consumed: u64,
    /// All frames of the other end up to this number have come.
    pub heard: u64,
    /// What comes next.
    pub items: Vec<Item>,
    /// Nothing comes behind.
    pub end: bool,
    /// The first word.
    pub opening: Option<Opening>,
    /// The handler has returned.
    pub closing: Option<Result<(), AppError>>,
    /// The opener wants no more.
    pub reset: bool,
}

impl Frame {
    /// As the argument, or the answer, of a call.
    pub fn encode(self) -> Payload {
        let opening = self.opening.map(|opening| v1::StreamOpening {
            window: opening.window,
            argument: opening.argument.map(Item::into_wire),
            node: opening.node.map(|id| Bytes::copy_from_slice(id.as_bytes())).unwrap_or_default(),
        });
        let closing = self.closing.map(|result| match result {
            Ok(()) => v1::StreamClosing::default(),
            Err(error) => v1::StreamClosing {
                failed: true,
                error_code: error.code,
                error_message: error.message,
            },
        });
        let frame = v1::StreamFrame {
            stream: self.stream,
            number: self.number,
            consumed: self.consumed,
            heard: self.heard,
            items: self.items.into_iter().map(Item::into_wire).collect(),
            end: self.end,
            opening,
            closing,
            reset: self.reset,
        };
        Payload::Encoded { content: ContentType::STREAM, bytes: frame.encode_to_vec().into() }
    }

    /// Reads what a peer says.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub fn decode(payload: &Payload) -> Result<Frame, String> {
        let (content, bytes) = match payload {
            Payload::Encoded { content, bytes } => (*content, bytes.clone()),
            Payload::Value(_) => return Err("it is a value, and no word of a stream".into()),
        };
        if content != ContentType::STREAM {
            return Err(format!(
                "this action is a stream, and what came is {content}: open a stream"
            ));
        }
        let frame = v1::StreamFrame::decode(bytes).map_err(|error| error.to_string())?;
        let opening = match frame.opening {
            None => None,
            Some(opening) => Some(Opening {
                window: opening.window,
                argument: opening.argument.map(Item::from_wire),
                node: match opening.node.len() {
                    0 => None,
                    _ => {
                        let id = <[u8; 32]>::try_from(&opening.node[..]);
                        Some(PeerId::from_bytes(id.map_err(|_| "its node is no key")?))
                    }
                },
            }),
        };
        let closing = frame.closing.map(|closing| match closing.failed {
            false => Ok(()),
            true => Err(AppError::new(closing.error_code, closing.error_message)),
        });
        let frame = Frame {
            stream: frame.stream,
            number: frame.number,
            consumed: frame.consumed,
            heard: frame.heard,
            items: frame.items.into_iter().map(Item::from_wire).collect(),
            end: frame.end,
            opening,
            closing,
            reset: frame.reset,
        };
        if (frame.number == 0) != (frame.items.is_empty() && !frame.end) {
            return Err("a frame has a number if it carries something, and only then".into());
        }
        if frame.closing.is_some() && !frame.end {
            return Err("who closes a stream has sent all".into());
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item() -> impl Strategy<Value = Item> {
        (any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(content, bytes)| {
            Item { content: ContentType(content), bytes: bytes.into() }
        })
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let opening = (any::<u64>(), prop::option::of(item()), prop::option::of(any::<[u8; 32]>()));
        let opening = opening.prop_map(|(window, argument, node)| Opening {
            window,
            argument,
            node: node.map(PeerId::from_bytes),
        });
        let closing = prop_oneof![
            Just(Ok(())),
            ("[A-Z]{0,9}", ".{0,20}").prop_map(|(code, message)| Err(AppError::new(code, message)))
        ];
        (
            (any::<u64>(), 1..u64::MAX, any::<[u64; 2]>(), prop::collection::vec(item(), 0..4)),
            (any::<bool>(), prop::option::of(opening), prop::option::of(closing), any::<bool>()),
        )
            .prop_map(
                |((stream, number, [consumed, heard], items), (end, opening, closing, reset))| {
                    let end = end || closing.is_some();
                    let number = if items.is_empty() && !end { 0 } else { number };
                    Frame { stream, number, consumed, heard, items, end, opening, closing, reset }
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frame in frame()) {
            prop_assert_eq!(Frame::decode(&frame.clone().encode()), Ok(frame));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let content = ContentType::STREAM;
            let _ = Frame::decode(&Payload::Encoded { content, bytes: bytes.into() });
        }
    }

    #[test]
    fn what_is_no_word_of_a_stream_is_refused_with_what_to_do() {
        let refused = |payload: Payload| Frame::decode(&payload).unwrap_err();
        assert!(refused(Payload::raw("hello")).contains("open a stream"));
        assert!(refused(Payload::value(1)).contains("a value"));
        let nothing = Frame { number: 1, ..Frame::default() };
        assert!(refused(nothing.encode()).contains("number"));
        let unnumbered = Frame { end: true, ..Frame::default() };
        assert!(refused(unnumbered.encode()).contains("number"));
        let early = Frame { closing: Some(Ok(())), ..Frame::default() };
        assert!(refused(early.encode()).contains("has sent all"));
    }
}
