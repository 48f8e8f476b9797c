//! Who offers what.
//!
//! ```text
//! local      the services of this node and their lives
//!   v          entries, as they come and go
//! publisher  the document, and what each peer has of it
//!   v          updates and heartbeats, over the wire
//! replica    what each peer's document is here
//!   v          entries, as they come and go
//! remote     who is asked for a path   <- selection (by which rule), load (who has how much to do),
//!                                       breaker, action_breakers (who is left alone), usual (how long is too long)
//! ```
//!
//! A node owns one [`Document`]; [`publisher`] says how it is kept equal elsewhere.

mod action_breakers;
pub mod breaker;
pub mod document;
pub mod load;
pub mod local;
pub mod numbers;
pub mod publisher;
pub mod remote;
pub mod replica;
pub mod selection;
pub mod usual;
pub mod vitals;

pub use document::{
    ActionInfo, Delta, Document, Entry, EntryKey, Heard, Heartbeat, OfferState, ServiceInfo,
    ServiceOffer, Spread, SubscriptionOffer,
};
pub use local::{Hook, LeaseWish, LocalServices, ServiceEffect, ServiceInput, ServiceState};
pub use numbers::Numbers;
pub use publisher::{Publisher, PublisherEffect, PublisherInput, PublisherTimer, Update};
pub use remote::RemoteServices;
pub use replica::{ReplicaEffect, ReplicaInput, Replicas};
pub use selection::{Selection, Wish};

#[cfg(test)]
mod tests;
