//! Services in any runtime.
//!
//! An application implements [`Service`], or builds one from closures with [`service`], against
//! [`Context`] and [`Handle`] alone. A [`Host`] runs it: on tokio in the shell, on a plain thread, and
//! in the simulator, where the same code meets chaos.

mod event_desk;
pub mod events;
pub mod executor;
pub mod handle;
pub mod handler;
pub mod host;
mod many;
pub mod publisher;
pub mod slot;
pub mod stream;
pub mod typed;

pub use events::{
    EventBuilder, Outcome, Receipt, SubscribeError, Subscription, SubscriptionBuilder,
};
pub use handle::{CallFuture, Handle, RequestBuilder, Sleep};
pub use handler::{BoxFuture, Context, Description, DescriptionError, Placement, Service};
pub use host::{Host, Spawner};
pub use many::Answers;
pub use publisher::{Publisher, Totals};
pub use stream::{StreamBuilder, StreamError};
pub use typed::{ActionBuilder, ServiceBuilder, action, service};

pub use crate::directory::{Selection, Spread};

pub use crate::payload::{ContentType, Payload, PayloadError, Value};
pub use crate::rpc::callee::HandlerError;
