//! Streams: items in order between a caller and a handler, both ways, each as fast as the other one takes them.
//!
//! ```text
//! StreamBuilder::open ── call: opening ──▶ StreamAction: makes a session, starts the handler
//! Writer, Reader      ── call: frame ────▶ session of the handler's Writer, Reader
//!   (opener.rs)       ◀── answer: frame ──   (called.rs)
//!                            flow.rs: order and windows, the same at both ends
//! ```
//!
//! A stream is carried by calls: each *exchange* brings what one end has to say, and its answer what the other one has.
//! The end that was called keeps the newest exchange until it has something to say, so that it can speak at any time.
//! All that calls promise holds: they run once, go on when a link is replaced or lost, need the permission to call the
//! path each time, and go to the node that the stream began with, and no other.
//!
//! What an application has not taken counts against the window of its end, which is told to the other one. So a slow
//! consumer slows its producer, and nobody else: no lane is held up, and what waits is bounded.
//!
//! An interruption that outlasts [`EXCHANGE_TIMEOUT`] ends the stream, as does the end of either node's life.

mod called;
mod flow;
pub mod frame;
mod opener;
mod session;

pub(super) use called::Streams;
pub use opener::StreamBuilder;
pub use session::{Reader, Writer};

use std::time::Duration;

use crate::payload::PayloadError;
use crate::rpc::{AppError, CallError};

/// The largest item of a stream, in bytes.
pub const ITEM_BYTES_MAX: u64 = 1 << 20;

/// How many bytes an end takes that its application has not, unless it says otherwise. A guess: 200 Mbit/s over a link
/// of 10 ms.
pub const WINDOW: u64 = 256 << 10;

/// The smallest and the largest window in bytes.
pub const WINDOWS: std::ops::RangeInclusive<u64> = (4 << 10)..=(16 << 20);

/// How long an exchange may take. A stream outlives interruptions that are shorter by [`HOLD_MAX`].
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the end that was called keeps an exchange while it has nothing to say.
pub const HOLD_MAX: Duration = Duration::from_secs(10);

/// After so long without an exchange the opener is gone, and its handler is dropped.
pub const IDLE_MAX: Duration = Duration::from_secs(45);

/// Streams of one action at one time.
pub const STREAMS_MAX: usize = 4_096;

/// Of them, those of one caller.
pub const STREAMS_PER_CALLER_MAX: usize = 256;

/// Why a stream does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It was not opened, or the other end cannot be reached any more.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The handler returned this error.
    #[error(transparent)]
    Failed(AppError),
    /// The handler has returned and takes nothing more.
    #[error("the handler has returned; nothing more can be sent")]
    Ended,
    /// A half was dropped before its end, here or there.
    #[error(
        "the stream was cut: a writer was dropped without `finish`, or a reader before the end, or an end is gone"
    )]
    Cut,
    /// Nothing was sent; the stream goes on.
    #[error("the item has {bytes} bytes; at most {ITEM_BYTES_MAX} may be sent")]
    ItemTooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Nothing was sent; the stream goes on.
    #[error(transparent)]
    Unwritable(PayloadError),
    /// The other end says what no end of a stream says.
    #[error("the other end does not keep to the rules of streams: {0}")]
    Broken(String),
}
