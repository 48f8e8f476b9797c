//! What can happen to the calls served here, and what they want done.

use std::time::Duration;

use crate::base::{CallKey, InvocationKey, MonoTime, PeerId, PeerKey, ServiceKey};
use crate::directory::local::LocalRoute;
use crate::payload::Payload;
use crate::rpc::admission::Capacity;
use crate::rpc::outcome::{AppError, CallResult, Status};
use crate::topic::TopicPath;
use crate::wire::CallMessage;

/// What a handler is asked to do. Boxed wherever it goes: through many hands, and it is large.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which handler.
    pub route: LocalRoute,
    /// The path that was called.
    pub path: TopicPath,
    /// The argument.
    pub payload: Payload,
    /// When the caller gives up. The run is cancelled then.
    pub deadline: MonoTime,
}

/// What ran in answer to a call.
#[derive(Clone, Debug)]
pub enum HandlerError {
    /// The handler means its caller to read this.
    Application(AppError),
    /// It could not read the argument, and has not run.
    BadRequest(String),
    /// It failed: it panicked or was stopped.
    Failed(String),
    /// Its service is single-active, and not active here any more: it has not run.
    NotActive,
}

/// What can happen to the calls served here.
#[derive(Clone, Debug)]
pub enum CalleeInput {
    /// A service begins its life, and does not want to be asked more than that at one time.
    Limited {
        /// The service.
        service: ServiceKey,
        /// What it wants.
        capacity: Capacity,
    },
    /// A service's life is over.
    ServiceGone(ServiceKey),
    /// An invocation does not run: its caller may not call that any more.
    Denied(InvocationKey),
    /// A peer calls.
    Call {
        /// Who.
        peer: PeerKey,
        /// What.
        call: CallMessage,
        /// Who handles it, or why nobody does.
        route: Result<LocalRoute, Status>,
    },
    /// A peer calls a single-active service that is not active here.
    NotActive {
        /// Who.
        peer: PeerKey,
        /// What.
        call: CallMessage,
        /// Where it is active, if that is known.
        leader: Option<PeerId>,
    },
    /// A peer no longer wants an answer.
    Cancel {
        /// Who.
        peer: PeerKey,
        /// The number.
        sequence: u64,
        /// Its floor.
        floor: u64,
    },
    /// This node calls itself.
    LocalCall {
        /// The call.
        call: CallKey,
        /// What is asked.
        asked: Box<Asked>,
    },
    /// This node no longer wants an answer from itself.
    LocalCancel(CallKey),
    /// A handler has ended. For calls of peers the payload is encoded.
    Done {
        /// The run.
        invocation: InvocationKey,
        /// Its end.
        result: Result<Payload, HandlerError>,
    },
    /// The caller's earlier life is over.
    SessionEnded(PeerKey),
    /// A link to the peer is verified: its calls may come.
    PeerVerified {
        /// Who.
        peer: PeerKey,
        /// Its incarnation's boot number.
        boot: u64,
    },
    /// No new call runs any more.
    Refuse,
    /// This node has stopped: runs that have not ended are stopped, and all is forgotten.
    Shutdown,
    /// A timer of ours.
    Timer(CalleeTimer),
}

/// What the callee's machine waits for: the deadline of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalleeTimer(pub InvocationKey);

/// What the callee's machine wants done.
#[derive(Clone, Debug)]
pub enum CalleeEffect {
    /// Run a handler.
    Invoke {
        /// The run.
        invocation: InvocationKey,
        /// What it is asked.
        asked: Box<Asked>,
        /// Who calls; none for this node itself.
        peer: Option<PeerKey>,
        /// It has waited for its turn: what the caller was allowed when it came it may not be allowed now.
        waited: bool,
    },
    /// Stop a handler: nobody wants its answer.
    CancelInvocation(InvocationKey),
    /// Queue the answer for the peer; when its turn comes, [`Callee::take_message`](crate::rpc::Callee::take_message) gives the message.
    Answer {
        /// Who asked.
        peer: PeerKey,
        /// Its number.
        sequence: u64,
        /// The size of the answer, in bytes.
        payload_bytes: usize,
    },
    /// A local call has ended.
    LocalDone {
        /// The call.
        call: CallKey,
        /// How.
        result: CallResult,
    },
    /// A local call does not run: there is too much to do.
    LocalRefused {
        /// The call.
        call: CallKey,
        /// Its argument, as it was.
        payload: Payload,
        /// When it may be tried again.
        retry_after: Option<Duration>,
    },
}
