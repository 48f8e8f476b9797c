//! The Dunlin node as a pure, deterministic state machine: bytes and time go in; bytes, events and a
//! deadline come out.
//!
//! ```text
//!   application: services, calls           service::Host (async, any runtime)
//!        |        ^                                |        ^
//!     commands  events                             v        |
//!   +----------------------------- Mesh -------------------------------+
//!   | peer: dial, handshake   rpc: caller, callee   directory: who     |
//!   | and back-off of each    at most once, with    offers what, here  |
//!   | peer                    deadlines             and elsewhere      |
//!   | auth: networks, tokens, and who may do what                      |
//!   | events: who subscribes, and what each is sent                    |
//!   | lease: which instance of a single-active service is active       |
//!   | store: what must survive, and what waits until it does           |
//!   +-------------------------------------------------------------------+
//!        |        ^                  the seam: link::{LinkCommand, LinkInput, FrameSource}
//!        v        |
//!   +--------------------------- Transport -----------------------------+
//!   | QUIC: links, lanes, keys                                          |
//!   +-------------------------------------------------------------------+
//!        |        ^
//!    datagrams  datagrams, time            a UDP socket, a simulator, a fuzzer
//! ```
//!
//! # Two doors
//!
//! [`Node`] is the whole of it, for a runtime with a UDP socket. [`Mesh`] is what lies above the seam,
//! for an embedder with authenticated links of its own: TCP with TLS, a serial line, shared memory.
//!
//! # The drain contract
//!
//! At both doors: *feed* what happened (datagrams or link inputs, expired time, commands), then *drain*
//! what is wanted (events, link commands, frames, datagrams) until nothing is left, then *sleep* until
//! `next_wake` or until something happens. Polling never fails. The more is fed before it is drained,
//! the larger the batches.
//!
//! # The time contract
//!
//! Time is an argument, [`Now`]: a monotonic clock that must not go back and should count suspension,
//! and a wall clock that serves validity periods alone. Nothing here reads a clock.
//!
//! # Determinism
//!
//! The same inputs at the same times give the same outputs, byte for byte, on every machine, in debug
//! and release: randomness comes from one seed ([`base::random`]), no order depends on a random hash,
//! and [`transport::Crypto`] makes TLS repeatable in simulations.
//!
//! # What panics
//!
//! Nothing that a peer sends. A broken promise of this crate is an assertion; [`Mesh::check_invariants`]
//! runs the costly ones.
//!
//! Where to read on: a call's life is `service/handle.rs` → `mesh/command.rs` → `rpc/caller.rs` →
//! `mesh/wiring.rs` → `transport/outbound.rs`, and on the other side `transport/inbound.rs` → `wire` →
//! `rpc/callee.rs` → `service/host.rs`, and back.

pub mod auth;
pub mod base;
pub mod directory;
pub mod events;
pub mod lease;
pub mod link;
pub mod machine;
pub mod mesh;
pub mod node;
pub mod payload;
pub mod peer;
pub mod planted;
pub mod rpc;
pub mod service;
pub mod store;
pub mod topic;
pub mod transport;
pub mod wire;

pub use base::{Identity, Limits, MonoTime, Now, PeerId, WallTime};
pub use mesh::{CallRequest, Event, LeaseSettings, Mesh, MeshConfig, Target, Wake, WakeReason};
pub use node::{Node, NodeConfig};
