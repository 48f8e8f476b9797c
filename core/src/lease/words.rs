//! What proposers and acceptors say to each other, what they are told, wait for, and want done.

use std::sync::Arc;
use std::time::Duration;

use super::{Ballot, LeaseConfig, LeaseName, ProposerId, Token};
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
    /// No, and never again: these acceptors are sealed, since there is a configuration of this later epoch. The answer to
    /// everything; and unasked to whoever has a lease here.
    Sealed(u64),
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
    /// Whoever answers is sealed, by the configuration of this epoch: so is whoever asked.
    pub sealed: Option<u64>,
    /// The highest round that it has promised, by lease.
    pub rounds: Vec<(LeaseName, u64)>,
}

/// From an acceptor of a later configuration to those of former ones, and to those of its own: are you sealed, or has
/// it begun?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seal {
    /// As an acceptor of which epoch the other one is asked.
    pub of: u64,
    /// The epoch of whoever asks.
    pub by: u64,
    /// The boot number of whoever asks.
    pub boot: u64,
    /// When it asks, by its own clock: the answer says so again.
    pub asked: MonoTime,
}

/// The answer to [`Seal`], once more when there is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sealed {
    /// What was asked.
    pub seal: Seal,
    /// Whether it is known that these acceptors took part: those of all epochs before them are out of it for good.
    pub began: bool,
    /// If it is sealed, and that is durable: for how long a lease that it has accepted before may live, by its own
    /// clock. Zero if there is none.
    pub runs_for: Option<Duration>,
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
    /// Those of former configurations are out of it for good: these acceptors may take part.
    Began,
    /// It takes no part any more: there is a configuration of this later epoch.
    Sealed(u64),
}

/// What can happen to an acceptor.
#[derive(Clone, Debug)]
pub enum AcceptorInput {
    /// It begins a life, with what its disk has. Comes first, and once.
    Start {
        /// The latest promise of each lease, as it was stored.
        records: Vec<Record>,
        /// This disk was complete ([`Record::Complete`]) in a former configuration, and has nothing of this one: so
        /// this acceptor has promised nothing and accepted nothing in it.
        kept: bool,
    },
    /// There is a configuration of this later epoch: it seals itself.
    Supersede(u64),
    /// A proposer asks something.
    Request {
        /// Who.
        from: PeerId,
        /// Who is charged for what it makes the acceptor keep: the proposer, or the key that handed on its rights.
        account: PeerId,
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
    /// An acceptor of a later configuration, or of this one, asks whether this one is sealed, or has begun.
    Seal {
        /// Which.
        from: PeerId,
        /// What it asks.
        seal: Seal,
    },
    /// An acceptor of a former configuration, or of this one, answers that.
    Sealed {
        /// Which.
        from: PeerId,
        /// What it says.
        sealed: Sealed,
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
    /// Those of former configurations are asked again whether they are sealed.
    AskSeals,
    /// What lived at those of former configurations may have ended.
    Outlived,
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
    /// Ask an acceptor of a former configuration, or of this one.
    Seal {
        /// Which.
        to: PeerId,
        /// What.
        seal: Seal,
    },
    /// Answer an acceptor of a later configuration, or of this one.
    Sealed {
        /// Which.
        to: PeerId,
        /// What.
        sealed: Sealed,
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
    /// There are other acceptors, of a later epoch. A lease that it holds it keeps from the former ones, while they let
    /// it; all else is had from these.
    Configure(Arc<LeaseConfig>),
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
    /// An acceptor says that there is a configuration of this epoch, which is later than ours. Once for each.
    Superseded(u64),
    /// So many leases are wanted already ([`crate::Limits::leases_max`]): this one is not.
    NoRoom(LeaseName),
}
