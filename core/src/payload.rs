//! Payloads: values that stay as they are until they leave the node.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How the bytes of a payload are to be read. The numbers are part of the wire format; a number that
/// this version does not know is carried as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentType(pub u32);

impl ContentType {
    /// Bytes without a declared meaning.
    pub const RAW: ContentType = ContentType(0);
    /// JSON (RFC 8259).
    pub const JSON: ContentType = ContentType(1);
    /// What the two ends of a stream say to each other: see [`crate::service::stream`].
    pub const STREAM: ContentType = ContentType(2);
}

impl std::fmt::Display for ContentType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            ContentType::RAW => f.write_str("raw"),
            ContentType::JSON => f.write_str("json"),
            ContentType::STREAM => f.write_str("stream"),
            ContentType(other) => write!(f, "content type {other}"),
        }
    }
}

/// A value that can cross a link if it must.
pub trait Value: Send + Sync + 'static {
    /// The value as bytes. Called at most once, and only when the value leaves the node or meets a
    /// handler of another type. It must not depend on anything but the value.
    ///
    /// # Errors
    ///
    /// When the value has no such form.
    fn encode(&self) -> Result<(ContentType, Bytes), PayloadError>;

    /// The value itself, to see of which type it is.
    fn as_any(&self) -> &(dyn Any + Send + Sync);

    /// The value itself, for a handler of its own type.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// Why a payload cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The value has no encoded form.
    #[error("the value cannot be written as {content}: {why}")]
    Encode {
        /// The form that was tried.
        content: ContentType,
        /// What the encoder said.
        why: String,
    },
    /// The bytes are not a value of the type that was asked for.
    #[error("the payload is not a {wanted}: {why}")]
    Decode {
        /// The type that was asked for.
        wanted: &'static str,
        /// What the decoder said.
        why: String,
    },
    /// The content type is not one that can be read as a value.
    #[error(
        "a payload of type {content} cannot be read as a {wanted}; send JSON, or use a raw handler"
    )]
    ContentType {
        /// What came.
        content: ContentType,
        /// The type that was asked for.
        wanted: &'static str,
    },
}

/// What a call or an answer carries.
#[derive(Clone)]
pub enum Payload {
    /// Bytes, as they came or as they will go.
    Encoded {
        /// How to read them.
        content: ContentType,
        /// The bytes, shared.
        bytes: Bytes,
    },
    /// A value that has not left the node.
    Value(Arc<dyn Value>),
}

/// Up to this size a payload that came over a link lies in the buffer of a datagram, which may be many times as large: a
/// batch of datagrams has 64 KiB. Larger ones were put together in buffers of their own.
pub const IN_DATAGRAM_BYTES_MAX: usize = 16 << 10;

/// Bytes that are to be kept for long, so that they keep no large buffer alive with them: copied if they may be a part of
/// a datagram, or of something that is four times as large.
pub fn detached(bytes: Bytes, part_of_bytes: usize) -> Bytes {
    let is_small = bytes.len() < IN_DATAGRAM_BYTES_MAX || bytes.len() < part_of_bytes / 4;
    if is_small && !bytes.is_empty() { Bytes::copy_from_slice(&bytes) } else { bytes }
}

struct Typed<T>(T);

impl<T: Serialize + Send + Sync + 'static> Value for Typed<T> {
    fn encode(&self) -> Result<(ContentType, Bytes), PayloadError> {
        let bytes = serde_json::to_vec(&self.0).map_err(|error| PayloadError::Encode {
            content: ContentType::JSON,
            why: error.to_string(),
        })?;
        Ok((ContentType::JSON, bytes.into()))
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Payload {
    /// The value, if it is a `T` that has not left the node.
    pub fn get<T: Serialize + Send + Sync + 'static>(&self) -> Option<&T> {
        let Payload::Value(value) = self else { return None };
        value.as_any().downcast_ref::<Typed<T>>().map(|typed| &typed.0)
    }

    /// A payload that a local handler of the same type receives as it is, and that is written as JSON
    /// when it crosses a link.
    pub fn value<T: Serialize + Send + Sync + 'static>(value: T) -> Payload {
        Payload::Value(Arc::new(Typed(value)))
    }

    /// Bytes without a declared meaning.
    pub fn raw(bytes: impl Into<Bytes>) -> Payload {
        Payload::Encoded { content: ContentType::RAW, bytes: bytes.into() }
    }

    /// Bytes that are JSON.
    pub fn json(bytes: impl Into<Bytes>) -> Payload {
        Payload::Encoded { content: ContentType::JSON, bytes: bytes.into() }
    }

    /// The payload as bytes.
    ///
    /// # Errors
    ///
    /// When a value cannot be encoded.
    pub fn encode(&self) -> Result<(ContentType, Bytes), PayloadError> {
        match self {
            Payload::Encoded { content, bytes } => Ok((*content, bytes.clone())),
            Payload::Value(value) => value.encode(),
        }
    }

    /// The payload as a value of type `T`: moved out if it is one and nobody shares it, otherwise
    /// read from its bytes. Locally and remotely the same types go together.
    ///
    /// # Errors
    ///
    /// When the bytes are not a `T`.
    pub fn decode<T: DeserializeOwned + Send + Sync + 'static>(self) -> Result<T, PayloadError> {
        let wanted = std::any::type_name::<T>();
        let (content, bytes) = match self {
            Payload::Encoded { content, bytes } => (content, bytes),
            Payload::Value(value)
                if value.as_any().is::<Typed<T>>() && Arc::strong_count(&value) == 1 =>
            {
                let typed = value.into_any().downcast::<Typed<T>>().expect("just looked");
                let Typed(value) = Arc::into_inner(typed).expect("nobody shares it");
                return Ok(value);
            }
            // Of another type, or shared: it is read from its bytes.
            Payload::Value(value) => value.encode()?,
        };
        if content != ContentType::JSON {
            return Err(PayloadError::ContentType { content, wanted });
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| PayloadError::Decode { wanted, why: error.to_string() })
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Payload::Encoded { content, bytes } => write!(f, "{} bytes of {content}", bytes.len()),
            Payload::Value(_) => f.write_str("a value"),
        }
    }
}
