//! The deterministic simulator: whole networks of real nodes, from one seed, under faults, with checks.
//!
//! ```text
//! seed -> draw -> Schedule -> run -> Outcome
//!                    |         |
//!                  JSON    a World of nodes: frames or packets between them
//! ```
//!
//! * A [`Schedule`] is plain data: nodes, network, operations and faults, each with its time. [`draw::draw`]
//!   makes one from a seed; a person may write one.
//! * [`run`](run::run) plays it on the real nodes of `dunlin-core`, one event after the other, with checks behind
//!   each. The same schedule takes the same steps in every process and build; [`run::Outcome::hash`]
//!   says so.
//! * What truly happened is written down outside of all nodes, and judged: of calls in `history` and `checks`, of
//!   events in `published`, of what nodes make known in `copies`, of rights in `rights`.
//! * What happened in a run is recorded on request, as data that every picture and export reads: [`recording`].
//! * Whether clients could believe that a service did one thing after the other says [`linear`].
//! * A schedule that fails is made small enough to read by [`shrink`], and explained by [`locate`]. A [`campaign`]
//!   runs many, on one machine or on several, and counts faults and rare states ([`sometimes`]).
//! * How long a service is without its leader is measured over many small worlds by [`failover`].
//! * Embedders bring their own services as a [`Workload`]; `examples/own_service.rs` is one.
//!
//! At *frames* fidelity a node is its mesh, and a model of QUIC carries whole frames. At *packets*
//! fidelity it is the whole node, and real datagrams are lost, doubled, damaged and late.

mod again;
mod builtin;
pub mod campaign;
mod checks;
mod copies;
mod cpu;
mod disk;
pub mod draw;
mod errors;
pub mod explore;
pub mod export;
pub mod failover;
pub mod faults;
mod frames;
mod history;
mod hostile;
pub mod junit;
mod leases;
pub mod linear;
pub mod load;
pub mod locate;
mod log;
mod network;
mod packets;
mod planted;
mod published;
pub mod queue;
mod random;
pub mod recording;
pub mod report;
mod rights;
mod roster;
pub mod run;
pub mod schedule;
pub mod shrink;
pub mod sometimes;
mod station;
mod trace;
pub mod view;
mod workload;
mod world;

pub use builtin::BuiltIn;
pub use cpu::thread_cpu_nanos;
pub use history::{CallRecord, End, Expect, Ledger, Life, OpenCall, Violation};
pub use recording::{Extent, Recording};
pub use run::{Outcome, Verdict, run_recorded, run_with};
pub use schedule::Schedule;
pub use workload::{NodeInfo, Workload};
