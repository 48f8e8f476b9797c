//! Single-active services: at most one holder of a lease, at every true instant.
//!
//! ```text
//! proposer   wants leases, waits for them, holds them          (one a node)
//!    | ^       round.rs: how it comes to one     renewal.rs: how it keeps it
//!    v |     Request, Answer
//! acceptor   promises rounds and accepts leases                (the network's three or five)
//!    | ^       recovery.rs: after a restart it abstains; without its disk it learns first
//!    v |     Learn, Learned
//! acceptor
//!    | ^       seals.rs: other acceptors take over
//!    v |     Seal, Sealed
//! acceptor of another epoch
//! ```
//!
//! This is PaxosLease (Trencseni, Gazso and Reinhardt, arXiv 1209.4187), repaired; the rules are in protocols.md,
//! section 6. What it rests on:
//!
//! 1. **One at a time.** An acceptor never has leases of two proposers. Who holds a lease has it at a majority of the
//!    acceptors, and gives it up before the first of these does: it counts from *before* it asked, and
//!    [`LeaseTimes::hold`], which is less than the term by what two clocks may drift apart.
//! 2. **Tokens grow.** An acceptor promises a round once, to one proposer, and none below it; the promise is
//!    durable before it is answered. So no two majorities accept one round, and later grants have higher ones. A
//!    [`Token`] is the round together with the epoch of the acceptors.
//! 3. **What an acceptor forgets it cannot contradict.** After a restart it takes no part for
//!    [`LeaseTimes::abstention`]: by then every lease that it had accepted has ended. Without its disk it also learns,
//!    from more of the others than may fail, which rounds it may have promised.
//! 4. **One configuration after the other.** New acceptors begin when a majority of the old ones is sealed, and the leases
//!    that these have accepted are over.
//! 5. **A standby harms nobody.** It asks without consequence first, and while a lease lives at an acceptor a
//!    prepare of another changes nothing there.
//!
//! Acceptors may crash, and f of 2f + 1 may have lost their disks at one time. They do not lie: they are named in the
//! network's descriptor and trusted. Networks may lose, delay, repeat and reorder. Clocks may run at
//! rates that differ from true time by [`LeaseTimes::drift_permille`], and must count suspension.
//!
//! `mesh/leases.rs` wires proposers and acceptors to peers and services; `fence.rs` is for what a holder changes.
//!
//! That there is one holder, and that tokens grow, is explored in `sim/src/explore/lease`; the wrong rules below, behind
//! `is_planted`, are refuted there.
//!
//! A machine is of one configuration of acceptors, and stays it: a node that is an acceptor in two epochs has two. A
//! proposer goes over to later ones lease by lease ([`ProposerInput::Configure`]).

mod acceptor;
mod config;
mod fence;
mod proposer;
mod recovery;
mod renewal;
mod round;
mod seals;
mod words;

pub use acceptor::Acceptor;
pub use config::{AcceptorSet, FormerSet, LeaseConfig, LeaseTimes, WrongAcceptors, WrongTimes};
pub use fence::{FenceGuard, Fenced};
pub use proposer::{Hold, Proposer};
pub use words::{
    AcceptorEffect, AcceptorInput, AcceptorTimer, Answer, Answered, Ask, Learn, Learned, Peeked,
    ProposerEffect, ProposerInput, ProposerTimer, Record, Request, Seal, Sealed,
};

use bytes::Bytes;

use crate::base::PeerId;

#[cfg(test)]
mod tests;

/// The name of a lease: bytes that mean something to whoever uses it, as a network and a service's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseName(Bytes);

impl LeaseName {
    /// The longest name in bytes: a network's id, and the longest topic path.
    pub const BYTES_MAX: usize = 32 + crate::topic::TOPIC_BYTES_MAX;

    /// A name.
    ///
    /// # Errors
    ///
    /// If it is longer than [`LeaseName::BYTES_MAX`].
    pub fn new(bytes: Bytes) -> Result<LeaseName, LeaseNameTooLong> {
        match bytes.len() <= Self::BYTES_MAX {
            true => Ok(LeaseName(bytes)),
            false => Err(LeaseNameTooLong { bytes: bytes.len() }),
        }
    }

    /// What was named.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// A lease cannot be called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a lease has {bytes} bytes; at most {max} are allowed", max = LeaseName::BYTES_MAX)]
pub struct LeaseNameTooLong {
    /// How long it is.
    pub bytes: usize,
}

/// Who proposes: one life of a peer. The next life of the same peer is somebody else, for it knows nothing of what this
/// one was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposerId {
    /// The peer.
    pub peer: PeerId,
    /// The boot number of its incarnation.
    pub boot: u64,
}

/// What is promised and accepted: a round of a proposer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// From 1. Proposers may choose the same one; acceptors promise it to one of them.
    pub round: u64,
    /// Whose it is.
    pub proposer: ProposerId,
}

impl Ballot {
    /// The highest round. At a round each nanosecond it is reached after 146 years.
    pub const ROUND_MAX: u64 = 1 << 62;

    /// How far a round may be above what an acceptor has promised. A standby tries a round a second at most, so that an
    /// acceptor which was away for a century is not that far behind; and nobody uses the rounds up.
    pub const ROUNDS_AHEAD_MAX: u64 = 1 << 32;
}

/// The fencing token of a grant: whoever guards something rejects lower ones than it has seen.
///
/// Each grant of a lease has a higher one than all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The epoch of the acceptors.
    pub epoch: u64,
    /// The round that was granted.
    pub round: u64,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.round)
    }
}
