//! What proposers and acceptors say to each other, what they are told, wait for, and want done.

use std::time::Duration;

use super::{Ballot, LeaseName, ProposerId, Token};
use crate::base::{MonoTime, PeerId};

/// From a proposer to an acceptor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// The epoch of the acceptors. Those of another one do not listen.
    pub epoch: u64,
    /// Which lease.
    pub name: LeaseName,
    /// What it asks.
    pub ask: Ask,
}

/// What a proposer asks an acceptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    /// How does the lease stand? It changes nothing, but that a peer is told when a lease is released that it
    /// has asked for.
    Peek,
    /// Promise this round to me.
    Prepare(Ballot),
    /// Accept my lease. With number 0 it is new; with others it is renewed.
    Propose(Ballot, u64),
    /// I do not hold this lease any more, nor ever again.
    Release(Ballot),
}

/// From an acceptor to a proposer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer {
    /// The epoch of the acceptors.
    pub epoch: u64,
    /// Which lease.
    pub name: LeaseName,
    /// What it answers.
    pub answered: Answered,
}

/// What an acceptor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answered {
    /// How the lease stands here.
    Peeked(Peeked),
    /// Unasked, to whoever has looked: the lease was released, and stands so.
    Released(Peeked),
    /// This round is yours.
    Promise(Ballot),
    /// Your lease, of this number, is accepted.
    Accepted(Ballot, u64),
    /// No. It is the answer to a prepare or a proposal of this ballot.
    Refused {
        /// Of what was refused.
        ballot: Ballot,
        /// The prepare is kept, and answered when the lease has ended that is in its way.
        parked: bool,
        /// Why, and what may be tried next.
        stands: Peeked,
    },
}

/// How a lease stands at an acceptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peeked {
    /// The highest round that is promised. A prepare must exceed it.
    pub round: u64,
    /// Who has the lease here.
    pub holder: Option<ProposerId>,
    /// How long nobody else can have it here: what its term has left, or what this acceptor still abstains. By the
    /// acceptor's clock.
    pub runs_for: Duration,
}

/// From an acceptor that has lost its disk to the others: what is promised?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Learn {
    /// The epoch of the acceptors.
    pub epoch: u64,
    /// The boot number of whoever asks: what an earlier life was told does not count.
    pub boot: u64,
}

/// The answer to [`Learn`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Learned {
    /// The epoch of the acceptors.
    pub epoch: u64,
    /// The boot number of whoever asked.
    pub boot: u64,
    /// Whether whoever answers knows all that it has ever promised.
    pub complete: bool,
    /// The highest round that it has promised, by lease.
    pub rounds: Vec<(LeaseName, u64)>,
}

/// What an acceptor must not forget.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    /// The latest promise for a lease; it replaces earlier ones.
    Promise {
        /// Which lease.
        name: LeaseName,
        /// The round.
        round: u64,
        /// To whom. None if it was only learned that somebody may have been promised it.
        proposer: Option<ProposerId>,
    },
    /// What was promised before this disk was new has been learned.
    Complete,
}

/// What can happen to an acceptor.
#[derive(Clone, Debug)]
pub enum AcceptorInput {
    /// It begins a life, with what its disk has. Comes first, and once.
    Start {
        /// The latest promise of each lease, as it was stored.
        records: Vec<Record>,
    },
    /// A proposer asks something.
    Request {
        /// Who.
        from: PeerId,
        /// What.
        request: Request,
    },
    /// Another acceptor has lost its disk.
    Learn {
        /// Which.
        from: PeerId,
        /// What it asks.
        learn: Learn,
    },
    /// Another acceptor says what is promised.
    Learned {
        /// Which.
        from: PeerId,
        /// What it says.
        learned: Learned,
    },
    /// All records up to this one are on the disk.
    Durable {
        /// The number of the last.
        seq: u64,
    },
    /// A timer of ours.
    Timer(AcceptorTimer),
}

/// What an acceptor waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AcceptorTimer {
    /// The end of a lease.
    Expiry(LeaseName),
    /// The others are asked again what is promised.
    AskAgain,
    /// It has abstained for long enough.
    Abstained,
}

/// What an acceptor wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptorEffect {
    /// Answer a proposer.
    Answer {
        /// Which.
        to: PeerId,
        /// What.
        answer: Answer,
    },
    /// Ask another acceptor.
    Learn {
        /// Which.
        to: PeerId,
        /// What.
        learn: Learn,
    },
    /// Tell another acceptor.
    Learned {
        /// Which.
        to: PeerId,
        /// What.
        learned: Learned,
    },
    /// Store this, and say [`AcceptorInput::Durable`] once it is on the disk. In order.
    Persist {
        /// From 1, without gaps.
        seq: u64,
        /// What.
        record: Record,
    },
    /// It takes part from now on. Until then its node is not ready: a rolling restart waits for it.
    Ready,
}

/// What can happen to a proposer.
#[derive(Clone, Debug)]
pub enum ProposerInput {
    /// This node wants to hold a lease, and waits until it does.
    Want(LeaseName),
    /// It does not want it any more: it gives it up at once, if it holds it.
    Leave(LeaseName),
    /// An acceptor answers, or says something unasked.
    Answer {
        /// Which.
        from: PeerId,
        /// What.
        answer: Answer,
    },
    /// A timer of ours.
    Timer(ProposerTimer),
}

/// What a proposer waits for. At most one of each for a lease.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProposerTimer {
    /// The next thing to do: look again, give a round up, or renew.
    Step(LeaseName),
    /// What is not answered is sent again.
    Resend(LeaseName),
    /// The lease ends here.
    End(LeaseName),
}

/// What a proposer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposerEffect {
    /// Ask an acceptor.
    Ask {
        /// Which.
        to: PeerId,
        /// What.
        request: Request,
    },
    /// This node holds the lease: it may act, with this token, for as long as [`super::Proposer::token`] says so.
    Granted {
        /// Which lease.
        name: LeaseName,
        /// Its fencing token.
        token: Token,
        /// When it ends unless it is renewed.
        until: MonoTime,
    },
    /// This node does not hold the lease any more.
    Lost {
        /// Which lease.
        name: LeaseName,
        /// The token that it had.
        token: Token,
    },
    /// An acceptor says that another has the lease.
    HeldBy {
        /// Which lease.
        name: LeaseName,
        /// Who has it.
        holder: ProposerId,
    },
    /// So many leases are wanted already ([`crate::Limits::leases_max`]): this one is not.
    NoRoom(LeaseName),
}
