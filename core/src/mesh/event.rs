//! What the mesh tells the application.

use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::NetworkId;
use crate::base::{CallKey, Incarnation, InvocationKey, MonoTime, PeerId, ServiceKey};
use crate::directory::{Hook, ServiceState};
use crate::events::{PublicationKey, PublishOutcome};
use crate::lease::Token;
use crate::link::{DialError, DownReason, LinkHandle};
use crate::peer::RefuseCode;
use crate::rpc::callee::Asked;
use crate::rpc::{CallResult, Failure};
use crate::topic::SubscriptionKey;

/// A handler that is to run. Answer with [`crate::Mesh::respond`].
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Names the run.
    pub invocation: InvocationKey,
    /// Who calls; none for this node itself.
    pub caller: Option<PeerId>,
    /// What is asked, and of which handler.
    pub asked: Box<Asked>,
}

/// What the mesh tells the application.
#[derive(Clone, Debug)]
pub enum Event {
    /// A call has ended. Said exactly once for each call that was started.
    CallEnded {
        /// The call. Its key may be used again from now on.
        call: CallKey,
        /// How.
        result: CallResult,
    },
    /// An attempt of a call has failed, and another one is made now. See [`crate::rpc::retry`].
    CallRetried {
        /// The call.
        call: CallKey,
        /// Which attempt it is, from 2.
        attempt: u32,
        /// Why the one before failed.
        failure: Failure,
        /// Whom it goes to; none for this node itself.
        peer: Option<PeerId>,
        /// When this same peer, which was overloaded, expected to take calls again.
        not_before: Option<MonoTime>,
    },
    /// A call has waited, and another instance is asked too. See [`crate::rpc::hedge`].
    CallHedged {
        /// The call.
        call: CallKey,
        /// Whom it goes to as well.
        peer: PeerId,
    },
    /// Run a handler.
    Invoke(Invocation),
    /// Nobody wants the answer of this run any more; it may be stopped.
    InvocationCancelled(InvocationKey),
    /// Run a part of a service's life. Report with [`crate::Mesh::hook_done`].
    RunHook {
        /// The service.
        service: ServiceKey,
        /// The part.
        hook: Hook,
    },
    /// A service has moved on in its life.
    ServiceState {
        /// The service.
        service: ServiceKey,
        /// Its state now.
        state: ServiceState,
        /// What went wrong, if something did.
        error: Option<String>,
    },
    /// The first link to a peer is up: it can be called.
    PeerUp {
        /// The peer.
        peer: PeerId,
        /// Its life.
        incarnation: Incarnation,
        /// Where it is, if the transport has addresses.
        remote: Option<SocketAddr>,
    },
    /// What a peer serves has changed, or is known for the first time.
    PeerServices {
        /// The peer.
        peer: PeerId,
    },
    /// A peer has this version of what this node makes known: whatever was announced before is known there.
    /// See [`crate::Mesh::acknowledged`].
    DirectoryAcknowledged {
        /// The peer.
        peer: PeerId,
        /// The version.
        version: u64,
    },
    /// Something waits for a subscriber. Said once, until [`crate::Mesh::take_delivery`] has given everything.
    SubscriptionReady(SubscriptionKey),
    /// There is room again for events that were refused with [`crate::events::PublishError::WouldBlock`].
    PublishRoom,
    /// What became of an event, for whoever asked for it with
    /// [`crate::events::PublishRequest::confirm_within`].
    PublishEnded {
        /// The publication. Its key may be used again from now on.
        publication: PublicationKey,
        /// What became of it.
        outcome: PublishOutcome,
    },
    /// A life is over, the peer's or ours, and with it events that the peer had not acknowledged: it may have
    /// got them or not. The peer is told how many when it meets this life again.
    EventsLost {
        /// The peer.
        peer: PeerId,
        /// How many.
        count: u64,
    },
    /// Events that a member of a group had not handled when it left, and that no other member takes; or that it has had
    /// for too long to give them back.
    GroupEventsLost {
        /// The node whose member has left; it may be this one.
        given_back_by: PeerId,
        /// How many, at most.
        count: u64,
    },
    /// The node stops, and a subscriber has had its time to read what waits for it:
    /// [`Mesh::unsubscribe`](crate::mesh::Mesh::unsubscribe) is to follow.
    SubscriptionOver(SubscriptionKey),
    /// The last link to a peer is gone.
    PeerDown {
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: DownReason,
    },
    /// Two links to a peer were up, and one of them stays. Nothing is lost, and the peer is still there.
    LinkSuperseded {
        /// The peer.
        peer: PeerId,
        /// The link that is drained and closed.
        loser: LinkHandle,
        /// The link that stays.
        stays: LinkHandle,
    },
    /// A peer knew a later life of this node, which had lost its counter. This node has begun its next
    /// life: everything of the old one has ended, its services go on. An embedder that stores nothing keeps the
    /// counter for its next start.
    LifeBegan {
        /// The new life.
        incarnation: Incarnation,
        /// The peer that knew.
        told_by: PeerId,
    },
    /// A peer that met this life of ours knows a later one: another process lives under this node's key. This
    /// node stops.
    NewerSelf {
        /// The peer that knows.
        told_by: PeerId,
    },
    /// A peer refuses to talk to us.
    PeerRefused {
        /// The peer.
        peer: PeerId,
        /// Why.
        why: RefuseCode,
    },
    /// A dial led nowhere.
    DialFailed {
        /// The peer.
        peer: PeerId,
        /// Why.
        error: DialError,
        /// How long until the next one; none if there will be none.
        retry_in: Option<Duration>,
    },
    /// A peer broke a rule. For the log.
    PeerMisbehaved {
        /// The peer.
        peer: PeerId,
        /// What it did.
        what: String,
    },
    /// A peer claims or offers something that it has no right to. That is ignored; the rest counts.
    ClaimIgnored {
        /// The peer.
        peer: PeerId,
        /// What, and which rule it breaks.
        what: String,
    },
    /// A peer is no longer in a network of ours: its token has expired or was revoked. When it is in none
    /// any more, [`Event::PeerDown`] follows.
    NetworkLeft {
        /// The peer.
        peer: PeerId,
        /// The network's name.
        network: String,
        /// Which rule.
        why: String,
    },
    /// This node can do nothing in a network any more: its own token or the descriptor has expired. Give
    /// it a newer one with [`crate::Mesh::take_token`] or [`crate::Mesh::take_descriptor`].
    NetworkEnded {
        /// The network's name.
        network: String,
        /// Which of both, and when.
        why: String,
    },
    /// A peer claims to go by a newer descriptor of a network than this node. Its token counts; that the descriptor
    /// exists is not proved.
    NetworkOutdated {
        /// The peer.
        peer: PeerId,
        /// The network's name.
        network: String,
        /// The sequence that the peer claims.
        sequence: u64,
    },
    /// Who is active of a single-active service of this node, as far as this node knows, is somebody else than
    /// before.
    Leader {
        /// The service.
        service: ServiceKey,
        /// Who is active; none if the lease was lost here, and nobody else is known to have it.
        leader: Option<PeerId>,
        /// The fencing token, if it is this node.
        token: Option<Token>,
    },
    /// A network's descriptor names other acceptors of leases than before. They take part once those before them
    /// are sealed.
    AcceptorsNamed {
        /// The network.
        network: NetworkId,
        /// Their epoch.
        epoch: u64,
        /// The epochs of former acceptors that an operator has given up. If some of these still run, two nodes may hold
        /// one lease.
        abandoned: Vec<u64>,
    },
    /// Acceptors of a network are of a later epoch than this node's descriptor knows. Until it is given that descriptor
    /// it gets no leases.
    AcceptorsOutdated {
        /// The network.
        network: NetworkId,
        /// The later epoch.
        epoch: u64,
    },
    /// As an acceptor of leases this node takes part from now on. See [`crate::Mesh::is_ready`].
    AcceptorReady {
        /// In this network.
        network: NetworkId,
    },
    /// Something could not be stored. What the store holds is not known any more, so this node stops.
    StoreFailed {
        /// Why, for people.
        why: String,
    },
    /// The node has stopped: every call has ended and every link is closed. The last event.
    Stopped,
}
