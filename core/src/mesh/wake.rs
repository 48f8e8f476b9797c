//! When a mesh wants to be woken, and what for.

use crate::auth::AccessTimer;
use crate::base::{CallKey, MonoTime, PeerKey, ServiceKey};
use crate::directory::PublisherTimer;
use crate::events::publications::PublicationTimer;
use crate::lease::{AcceptorTimer, ProposerTimer};
use crate::mesh::Mesh;
use crate::peer::PeerTimer;
use crate::rpc::{CalleeTimer, CallerTimer};

/// Why the mesh wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// Work was left over from the last input.
    Unfinished,
    /// A dial, or the end of a handshake.
    Peer,
    /// The deadline of a call made here, or the time at which it is made again.
    CallDeadline,
    /// The deadline of a call served here.
    HandlerDeadline,
    /// A heartbeat.
    Heartbeat,
    /// The time within which somebody wants to know what became of an event.
    Publication,
    /// The end of a token or a descriptor, or a look at the wall clock for it.
    Access,
    /// A lease: its renewal, its end, or what is to be said again.
    Lease,
    /// Housekeeping of the mesh.
    Housekeeping,
    /// The transport's own timers; only at the [`crate::Node`] door.
    Transport,
}

/// When the mesh wants to be woken, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// At this time, or when something happens.
    pub at: MonoTime,
    /// For this.
    pub reason: WakeReason,
}

/// A timer of any machine of the node: one queue serves all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeTimer {
    Peer(PeerKey, PeerTimer),
    Caller(CallerTimer),
    Callee(CalleeTimer),
    Publisher(PublisherTimer),
    Publication(PublicationTimer),
    Access(AccessTimer),
    /// By the place of its registry.
    Proposer(usize, ProposerTimer),
    /// By the place of its registry, and its epoch.
    Acceptor(usize, u64, AcceptorTimer),
    WantLease(ServiceKey),
    LookForWay(CallKey),
    LookAtServices,
    /// Members of groups of a node that stops have had their time to read.
    LeaveGroups,
    /// Events that members of groups have had for long are not given back any more.
    Lent,
    /// A node that stops has stayed for long enough.
    Linger,
    Sweep,
    ShutdownGrace,
}

impl Mesh {
    /// When to call [`Mesh::handle_timeout`] if nothing happens before.
    pub fn next_wake(&self) -> Option<Wake> {
        // Events may have come after the last poll: commands that the transport refuses at once.
        if !self.work.is_empty() || !self.events.is_empty() || self.is_ready_to_stop() {
            return Some(Wake { at: self.now.mono, reason: WakeReason::Unfinished });
        }
        let (at, timer) = self.timers.peek()?;
        let reason = match timer {
            NodeTimer::Peer(..) => WakeReason::Peer,
            NodeTimer::Caller(_) => WakeReason::CallDeadline,
            NodeTimer::Callee(_) => WakeReason::HandlerDeadline,
            NodeTimer::Publisher(_) => WakeReason::Heartbeat,
            NodeTimer::Publication(_) => WakeReason::Publication,
            NodeTimer::Access(_) => WakeReason::Access,
            NodeTimer::Proposer(..) | NodeTimer::Acceptor(..) | NodeTimer::WantLease(_) => {
                WakeReason::Lease
            }
            NodeTimer::LookForWay(_) => WakeReason::CallDeadline,
            NodeTimer::Linger
            | NodeTimer::LeaveGroups
            | NodeTimer::Lent
            | NodeTimer::Sweep
            | NodeTimer::LookAtServices
            | NodeTimer::ShutdownGrace => WakeReason::Housekeeping,
        };
        Some(Wake { at, reason })
    }
}
