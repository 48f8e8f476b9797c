//! Events: who subscribes, who is sent what, and that it comes once and in order.
//!
//! ```text
//! subscriptions  the subscribers of this node, each with a queue (queue.rs) of its own
//!   v              what they want, into the document of this node (directory)
//! interest       what peers want, out of their documents
//!   v
//! plan           who gets an event of this topic: subscribers here, peers, members of groups (group.rs)
//!   v
//! sender         what each peer is sent, until it has acknowledged it
//!   ^ v            over the wire
//! receiver       what each peer has sent: nothing twice, nothing out of order; ack is what it says of that
//! publications   what became of an event for which somebody waits, or that is for groups
//! returns        events of groups that members give back as they leave
//! lent           events of groups that members have, so that another one can get what is given back
//! ```
//!
//! An event crosses a link once for each peer, whatever the number of its subscribers there. Its frame is written
//! once for all peers. To keep it the same for all it carries no number of its own: each shared lane counts its
//! events, and a peer is told from which number on when a lane begins (see [`sender`]).
//!
//! Nothing is lost in silence. What a peer has not acknowledged is sent again when a link was lost, as long as
//! both lives go on. A peer that takes nothing any more keeps a publisher waiting
//! ([`PublishError::WouldBlock`]) for as long as the publisher wants, then it is passed over and told so. A
//! subscriber whose own queue is full misses events, and finds in its queue how many; nobody else is affected.
//!
//! A member of a group that leaves gives back what it has not handled, and another member gets it: see [`returns`].
//!
//! Source: protocols.md, section 5.

use std::time::Duration;

use crate::base::PeerId;
use crate::payload::Payload;
use crate::topic::TopicPath;

pub mod ack;
pub mod batch;
pub mod decisions;
pub mod group;
pub mod interest;
pub mod lent;
pub mod plan;
pub mod publications;
pub mod queue;
pub mod receiver;
pub mod returns;
pub mod run;
pub mod sender;
pub mod subscriptions;

pub use group::{Group, GroupName};
pub use publications::{PublicationKey, PublicationTimer, PublishOutcome};
pub use queue::{Overflow, QueueLimits};
pub use run::{EventMessage, Marks};
pub use subscriptions::{SubscribeRequest, Subscriptions};

#[cfg(test)]
mod tests;

/// Names an event: nobody else's event ever has the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Who published it.
    pub publisher: PeerId,
    /// The boot number of the publisher's incarnation.
    pub boot: u64,
    /// Counts the events of that incarnation, from 1.
    pub sequence: u64,
}

/// What a subscriber finds in its queue.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An event.
    Event(EventMessage),
    /// In this place there were events that did not come.
    Missed(Missed),
}

/// Events that a subscriber did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Who published them.
    pub publisher: PeerId,
    /// How many there were at most. Those that were passed over because the whole node was too slow may have
    /// been of other topics.
    pub count: u64,
    /// Why.
    pub why: MissedWhy,
}

/// Why events were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MissedWhy {
    /// The subscriber's own queue was full.
    QueueFull,
    /// This node did not take what the publisher sent, for longer than the publisher was ready to wait.
    PassedOver,
    /// The publisher lost sight of this node, and does not know whether they came.
    Interrupted,
}

/// How far an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// To the subscribers on all nodes of the topic's network.
    #[default]
    Network,
    /// To those of this node. It makes no packet.
    Local,
}

/// Who of an event's subscribers gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Every subscriber, and of each group one member.
    #[default]
    All,
    /// The same, but of the subscribers that belong to a service one for each service.
    OnePerService,
}

/// What is done for a peer that has too much unacknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The event is published to nobody: [`PublishError::WouldBlock`].
    #[default]
    Refuse,
    /// The same, unless an event has passed it over before and it has had no room since, or other peers were waited for
    /// in vain too often: then as `PassOver`. For publishers that wait for room, so that they wait for a slow peer once
    /// and not for each event.
    RefuseFirst,
    /// The event goes to the others. The peer is told that it missed one.
    PassOver,
}

/// An event to publish.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// Its topic.
    pub topic: TopicPath,
    /// What it carries.
    pub payload: Payload,
    /// How far it goes.
    pub scope: Scope,
    /// Who gets it.
    pub mode: Mode,
    /// Only this peer's subscribers, if it has any; it may be this node.
    pub target: Option<PeerId>,
    /// What is done for peers that are too slow.
    pub when_full: WhenFull,
    /// Say what became of it, at the latest after this time: [`crate::mesh::Event::PublishEnded`] follows.
    pub confirm_within: Option<Duration>,
}

impl PublishRequest {
    /// An event for all subscribers of the topic in its network.
    pub fn new(topic: TopicPath, payload: Payload) -> Self {
        PublishRequest {
            topic,
            payload,
            scope: Scope::Network,
            mode: Mode::All,
            target: None,
            when_full: WhenFull::Refuse,
            confirm_within: None,
        }
    }
}

/// An event that was accepted. From now on it is on its way, and what does not come is not lost in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its name.
    pub id: EventId,
    /// How many subscribers of this node have it in their queues.
    pub local: usize,
    /// How many peers it is sent to.
    pub peers: usize,
    /// How many groups, and services, have a member that it goes to, here or elsewhere.
    pub groups: usize,
    /// How many peers were passed over because they are too slow, or accept no payload of this size.
    pub passed_over: usize,
    /// Names it in [`crate::mesh::Event::PublishEnded`], if that was asked for.
    pub publication: Option<PublicationKey>,
}

/// Why an event was not published. Nobody gets it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A peer that subscribes has too much unacknowledged.
    /// [`crate::mesh::Event::PublishRoom`] follows when there is room again.
    #[error(
        "peer {peer} has not acknowledged {events} events; that many may be under way (Limits::events_unacknowledged_max, …_bytes_max)"
    )]
    WouldBlock {
        /// The first such peer.
        peer: PeerId,
        /// How many it has not acknowledged.
        events: usize,
    },
    /// Too many publications have no outcome yet.
    #[error(
        "{0} publications have no outcome yet, and no more may (Limits::publications_open_max)"
    )]
    TooManyOpen(usize),
    /// The payload is too large.
    #[error("the payload has {bytes} bytes; at most {max} may be sent (Limits::message_bytes_max)")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The value cannot be written for others.
    #[error("{0}")]
    Payload(#[from] crate::payload::PayloadError),
    /// The topic is not well-formed.
    #[error(transparent)]
    Topic(#[from] crate::topic::TopicError),
    /// This node may not publish there.
    #[error("{0}")]
    Denied(#[from] crate::auth::Denied),
    /// The node stops or has stopped.
    #[error("the node stops")]
    Stopping,
}
