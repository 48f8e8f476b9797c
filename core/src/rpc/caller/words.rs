//! What can happen to the calls made here, and what they want done.

use std::time::Duration;

use crate::base::{CallKey, MonoTime, PeerId, PeerKey};
use crate::directory::local::LocalRoute;
use crate::payload::Payload;
use crate::rpc::callee::Asked;
use crate::rpc::outcome::{CallError, CallResult, Executed, Failure};
use crate::topic::TopicPath;
use crate::wire::ReplyMessage;

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a service of this node that is running.
    Local(LocalRoute),
    /// To this peer.
    Peer(PeerKey),
}

/// A call that starts.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// The action.
    pub path: TopicPath,
    /// The argument.
    pub payload: Payload,
    /// When its caller gives up.
    pub deadline: MonoTime,
    /// Whether it may run more than once.
    pub idempotent: bool,
    /// Whether only the peer of its first route will do.
    pub pinned: bool,
    /// Whether it is made again, by the rules of [`crate::rpc::retry`].
    pub retry: bool,
    /// After how long another instance is asked too, by the rules of [`crate::rpc::hedge`].
    pub hedge: Option<Duration>,
}

/// What can happen to the calls made here.
#[derive(Clone, Debug)]
pub enum CallerInput {
    /// A call that was registered with [`Caller::add`](crate::rpc::Caller::add) goes this way.
    Routed {
        /// The call.
        call: CallKey,
        /// The way, or why there is none.
        route: Result<Route, CallError>,
    },
    /// A call that has failed ([`CallerEffect::Failed`]) may be made again, though nobody else is there to be
    /// asked: after a while.
    Later(CallKey),
    /// A call that has failed may not be made again: there were too many that were.
    Spent(CallKey),
    /// There is no way yet: the call waits for one, until its deadline, and ends in this failure then.
    Held {
        /// The call.
        call: CallKey,
        /// What it ends in.
        failure: Failure,
    },
    /// A call that waits ([`CallerEffect::Hedge`]) is asked of this peer too.
    Hedged {
        /// The call.
        call: CallKey,
        /// Not the peer that was asked first.
        peer: PeerKey,
    },
    /// Its caller gives up.
    Cancel(CallKey),
    /// This node's own service has too much to do, and the call did not run.
    LocalRefused {
        /// The call.
        call: CallKey,
        /// Its argument.
        payload: Payload,
        /// When the service expects to take calls again.
        retry_after: Option<Duration>,
    },
    /// A local call has ended.
    LocalDone {
        /// The call.
        call: CallKey,
        /// How.
        result: CallResult,
    },
    /// A peer answers.
    Reply {
        /// The peer.
        peer: PeerKey,
        /// Its answer.
        reply: ReplyMessage,
    },
    /// A link to the peer is up; it may be one of several.
    PeerReady {
        /// The peer.
        peer: PeerKey,
        /// Its incarnation's boot number.
        boot: u64,
        /// Unanswered calls that it lets us have.
        credit: u32,
        /// The largest argument it accepts, in bytes.
        message_bytes_max: usize,
    },
    /// A link to the peer is gone, and what was on its way is in doubt.
    LinkLost {
        /// The peer.
        peer: PeerKey,
        /// Whether another link to it is up.
        connected: bool,
    },
    /// The peer's incarnation is over.
    SessionEnded(PeerKey),
    /// The user does not want the peer any more; nothing will come of calls to it.
    PeerReleased(PeerKey),
    /// This node stops: every call ends.
    Shutdown,
    /// A timer of ours.
    Timer(CallerTimer),
}

/// What the caller's machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerTimer {
    /// The deadline of a call.
    Deadline(CallKey),
    /// The time at which it is made again.
    Again(CallKey),
    /// The time at which another instance is asked too.
    Hedge(CallKey),
}

/// How one of two attempts has ended, while the call goes on, or ends by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegEnd {
    /// It failed.
    Failed(Failure, Executed),
    /// The other was quicker.
    Outrun,
    /// It was not made after all.
    Unsent,
}

/// What the caller's machine wants done.
#[derive(Clone, Debug)]
pub enum CallerEffect {
    /// Run the call here.
    RunLocally {
        /// The call.
        call: CallKey,
        /// What is asked.
        asked: Box<Asked>,
    },
    /// The local call is not wanted any more.
    CancelLocally(CallKey),
    /// Queue the call for the peer; when its turn comes, [`Caller::take_message`](crate::rpc::Caller::take_message) gives the message.
    Send {
        /// The peer.
        peer: PeerKey,
        /// The number under which it travels.
        sequence: u64,
        /// The size of its argument, in bytes.
        payload_bytes: usize,
    },
    /// Take the call back out of the queue: no transport has taken it.
    Withdraw {
        /// The peer.
        peer: PeerKey,
        /// The call's number.
        sequence: u64,
    },
    /// Tell the peer that the call is not wanted any more.
    SendCancel {
        /// The peer.
        peer: PeerKey,
        /// The call's number.
        sequence: u64,
    },
    /// This attempt of a call has failed, and another one may be made: find another instance if there is one,
    /// and answer with [`CallerInput::Routed`], [`CallerInput::Later`] or [`CallerInput::Spent`].
    Failed {
        /// The call.
        call: CallKey,
        /// The action.
        path: TopicPath,
        /// Whether nobody else will do.
        pinned: bool,
        /// Which attempt it was, from 1.
        attempt: u32,
        /// Why it failed.
        failure: Failure,
        /// Whether the handler has run.
        executed: Executed,
    },
    /// A call is made again.
    Again {
        /// The call.
        call: CallKey,
        /// Which attempt it is, from 2.
        attempt: u32,
        /// Why the one before failed.
        failure: Failure,
        /// Whom it goes to; none for this node itself.
        peer: Option<PeerKey>,
        /// When the peer that was asked before, if it was overloaded, expected to take calls again.
        not_before: Option<(PeerKey, MonoTime)>,
    },
    /// A call has waited for so long: find another instance, and answer with [`CallerInput::Hedged`], or not at all.
    Hedge {
        /// The call.
        call: CallKey,
        /// The action.
        path: TopicPath,
        /// How long.
        waited: Duration,
    },
    /// One of the two attempts of a call is over, and the other one is not, or ends the call.
    LegOver {
        /// The call.
        call: CallKey,
        /// Where it was.
        peer: PeerKey,
        /// How it ended.
        end: LegEnd,
    },
    /// Find another way for the call: it has not run and may go elsewhere.
    Reroute {
        /// The call.
        call: CallKey,
        /// The action.
        path: TopicPath,
    },
    /// The peer that was asked is not active, and has not run the call. It is to go elsewhere.
    NotActive {
        /// The call.
        call: CallKey,
        /// The action.
        path: TopicPath,
        /// How often somebody has said so, this time included.
        hints: u8,
        /// Who is active, as the peer knows.
        leader: Option<PeerId>,
    },
    /// Tell the user how the call ended.
    Ended {
        /// The call, whose key is free from now on.
        call: CallKey,
        /// How.
        result: CallResult,
    },
}
