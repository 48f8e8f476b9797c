//! Who offers what.
//!
//! [`local`] keeps the services of this node and their life cycles, [`remote`] what peers announce.
//! A node owns one [`Document`] that lists what it serves; peers get it whole whenever it changes.

pub mod local;
pub mod remote;

use crate::topic::{Pattern, TopicPath};

pub use local::{Hook, LocalServices, ServiceEffect, ServiceInput, ServiceState};
pub use remote::RemoteServices;

/// Whether an announced service takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferState {
    /// It does.
    Running,
    /// It will again; until then calls are answered UNAVAILABLE.
    Paused,
}

/// One announced service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOffer {
    /// Where it is.
    pub path: TopicPath,
    /// Whether it takes calls.
    pub state: OfferState,
    /// What can be called, each a whole pattern that begins with the service's path.
    pub actions: Vec<Pattern>,
}

/// What one node serves.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Document {
    /// Grows with every change within an incarnation.
    pub version: u64,
    /// Its services, in the order in which they were registered.
    pub services: Vec<ServiceOffer>,
}
