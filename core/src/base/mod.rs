//! Values without policy: time, ids, randomness, timers, bounds.

pub mod address;
pub mod allowance;
pub mod bounds;
pub mod effects;
pub mod few;
pub mod id;
pub mod limits;
pub mod pool;
pub mod random;
pub mod sequence_map;
pub mod slab;
pub mod stable_hash;
pub mod time;
pub mod timers;

pub use address::AddressAccount;
pub use allowance::Allowance;
pub use bounds::{Bound, BoundReport, Refusals, Scope, Unit};
pub use effects::Effects;
pub use few::FewMap;
pub use id::{Identity, Incarnation, ParsePeerIdError, PeerId};
pub use limits::Limits;
pub use pool::BufferPool;
pub use random::{Draws, Label};
pub use sequence_map::SequenceMap;
pub use slab::{Key, KeyMap, Slab};
pub use stable_hash::StableHash;
pub use time::{MonoTime, Now, WallTime};
pub use timers::{TimerId, TimerQueue};

/// What keys of peers are called by.
#[derive(Clone, Copy, Debug)]
pub enum PeerTag {}
/// Names one peer within a node, for as long as the node knows it.
pub type PeerKey = Key<PeerTag>;

/// What keys of our own calls are called by.
#[derive(Clone, Copy, Debug)]
pub enum CallTag {}
/// Names one call that was made here and has not ended.
pub type CallKey = Key<CallTag>;

/// What keys of invocations are called by.
#[derive(Clone, Copy, Debug)]
pub enum InvocationTag {}
/// Names one run of a handler here.
pub type InvocationKey = Key<InvocationTag>;

/// What keys of services are called by.
#[derive(Clone, Copy, Debug)]
pub enum ServiceTag {}
/// Names one service that was registered here.
pub type ServiceKey = Key<ServiceTag>;
