//! A Dunlin node on tokio.
//!
//! ```no_run
//! # async fn example(peer: dunlin_tokio::PeerAddress) -> Result<(), Box<dyn std::error::Error>> {
//! use dunlin_tokio::{Node, service};
//!
//! let node = Node::builder()
//!     .development_network() // everybody may do everything; see NodeBuilder::network
//!     .service(service("math").action("add", |_cx, (a, b): (i64, i64)| async move { Ok(a + b) }))
//!     .start()
//!     .await?;
//! let sum: i64 = node.call("math/add", (1, 2)).await?; // served here: nothing is serialised
//!
//! node.connect(peer).await?;
//! let greeting: String = node.call("greeter/hello", "you").await?; // served there
//!
//! let mut orders = node.subscribe("orders/*").await?;
//! node.publish("orders/created", 17).await?; // to all subscribers, here and there
//! let event = orders.event().await.expect("the node runs");
//! assert_eq!(event.decode::<i32>()?, 17);
//!
//! node.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! The whole protocol, QUIC included, is [`dunlin_core`]: a state machine without sockets and clocks.
//! This crate gives it both, and turns what it says into an async API. It makes no decision of its own.
//!
//! One task owns a node. Calls are fastest on a single-threaded runtime
//! (`#[tokio::main(flavor = "current_thread")]`): each hop between threads costs more than the node's
//! own work. Services with handlers that compute long belong on a multi-threaded one; they are spawned
//! on the runtime unless they ask to run in place.

mod address;
mod bell;
mod builder;
mod connect;
mod driver;
mod events;
mod names;
mod networks;
mod node;
mod own_thread;
mod reach;
mod resolver;
mod services;
mod sockets;
mod watch;

pub mod clock;
pub mod control;
pub mod key;
pub mod socket;
pub mod store;
pub mod udp;

pub use address::{HostPort, ParsePeerAddressError, PeerAddress};
pub use builder::{NodeBuilder, StartError};
pub use connect::{CONNECT_TIMEOUT, ConnectError};
pub use events::{EVENTS_WAITING_MAX, Events, NodeEvent};
pub use networks::{FileKind, NetworkError, NetworkFiles, WATCH_INTERVAL};
pub use node::{LinkInfo, Node, NodeError, PeerInfo};
pub use resolver::{Resolver, SystemResolver};
pub use services::{ServiceError, ServiceHandle};
pub use store::{Store, StoreError};

pub use dunlin_core::auth;
pub use dunlin_core::events::{
    Delivery, EventId, EventMessage, Missed, MissedWhy, Overflow, PublishError, PublishOutcome,
    Published, QueueLimits,
};
pub use dunlin_core::lease::{
    AcceptorSet, FenceGuard, Fenced, Hold, LeaseTimes, Token as FencingToken,
};
pub use dunlin_core::mesh::CommandError;
pub use dunlin_core::peer::{Admission, RefuseCode};
pub use dunlin_core::rpc::{AppError, CallError, Executed, Failure};
pub use dunlin_core::service::{
    ActionBuilder, Answers, Context, EventBuilder, Handle, HandlerError, Payload, Publisher,
    Receipt, RequestBuilder, Selection, Service, ServiceBuilder, Spread, StreamBuilder,
    StreamError, SubscribeError, Subscription, SubscriptionBuilder, Totals, action, service,
    stream,
};
pub use dunlin_core::topic;
pub use dunlin_core::transport::TransportConfig;
pub use dunlin_core::{Identity, Limits, PeerId};

/// The example of the project's first page compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
