//! The control socket: how short-lived programs use a node that runs on the same machine.
//!
//! A node of the `dunlin` program listens on a Unix domain socket, and `dunlin call`, `dunlin peer ls` and
//! their like talk to it instead of joining the mesh by themselves: no handshake, no key, no token of their
//! own.
//!
//! **Whoever may open the socket acts with the node's own rights**: it calls as the node, whatever the
//! node's tokens permit. So the socket is readable and writable by its owner alone (mode 0600), and the
//! folder that it is in by default is closed to others (mode 0700). Nothing else is asked of a client.
//!
//! # The protocol
//!
//! Version 1, over any ordered stream of bytes. Each side writes frames:
//!
//! ```text
//! header length (4 bytes, big-endian) | body length (4 bytes, big-endian) | header (JSON) | body
//! ```
//!
//! A header is at most [`REQUEST_HEADER_BYTES_MAX`] or [`RESPONSE_HEADER_BYTES_MAX`] long, a body, which is
//! what a call or its answer carries, [`BODY_BYTES_MAX`].
//!
//! 1. The client says [`Request::Hello`] with the versions that it speaks. It is answered by
//!    [`Response::Welcome`] with one of them, or by [`Response::Failed`] and the end of the stream.
//! 2. From then on the client asks one thing at a time. Each request is answered by any number of items and
//!    then by exactly one last response: see [`Response::is_last`].
//! 3. While it waits for that, a client may say [`Request::Stop`], and nothing else. What is under way is
//!    cancelled, and the last response says so if it was not on its way already. Without anything under way
//!    `Stop` means nothing and is not answered. A subscription ends in order: what has come for it follows first.
//! 4. A client that goes away, or ends its half of the stream, cancels what it has asked for: a call that
//!    runs is cancelled at its callee, too.
//!
//! A request that the node does not know is answered by `Failed` with the code `BAD_REQUEST`; unknown fields
//! are ignored. So a newer client can try.
//!
//! # One more request
//!
//! Add a variant to [`Request`], a method to [`Operator`] that does it on a node, an arm to `answer` in
//! `server.rs` that joins the two, and a method to [`Client`]. One that goes on for long, such as a
//! subscription, sends its items into the `Replies` that it is given, for as long as it
//! likes: a client that reads slowly makes it wait, and when the client says `Stop` or goes away, its future is
//! dropped where it waits.

mod client;
mod clients;
mod error;
mod event;
mod frame;
mod leader;
mod message;
mod operator;
mod server;
#[cfg(unix)]
mod socket;
#[cfg(not(unix))]
#[path = "no_socket.rs"]
mod socket;
#[cfg(all(test, unix))]
mod tests;

pub use client::{Client, ControlError, EventFlow, LeaderFlow, Responses};
pub use error::SocketError;
pub use event::{
    EventEntry, Item, MissedEntry, OutcomeEntry, PublishQuestion, PublishedEntry, SubscribeQuestion,
};
pub use frame::FrameError;
pub use leader::{LeaderEntry, LeaderWatch};
pub use message::{
    AcceptorsEntry, ActionEntry, CallAnswer, CallQuestion, LimitEntry, PeerEntry, Problem, Request,
    Response, ServiceEntry, StatsEntry, VitalsEntry,
};
pub use operator::{Operator, Subscriber};
pub use server::{ControlServer, converse};
pub use socket::{Listener, connect, find, folder, socket_in};

/// The protocol's version.
pub const VERSION: u32 = 1;

/// The longest header of a request, in bytes: paths and names.
pub const REQUEST_HEADER_BYTES_MAX: usize = 64 << 10;

/// The longest header of a response, in bytes: all that is known of a service with 256 actions, each fully
/// described, with every character escaped.
pub const RESPONSE_HEADER_BYTES_MAX: usize = 4 << 20;

/// The longest body, in bytes. How large a message may be is for the node to say; this is far above what it
/// allows by default.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Clients at one time. For one more the longest silent one makes room: one that has not greeted, otherwise one that asks
/// nothing. If all of them wait for answers, it is told that the node is busy.
pub const CLIENTS_MAX: usize = 64;
