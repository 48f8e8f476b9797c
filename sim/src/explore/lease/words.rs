//! What acceptors and proposers say to each other, as small values, and how their machines are fed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use dunlin_core::base::{Draws, Effects, MonoTime, Refusals};
use dunlin_core::lease::{Answered, Ask, Ballot, LeaseName, ProposerId};
use dunlin_core::machine::{Context, Machine, TimerHandle, Timers};
use dunlin_core::{Now, PeerId};

pub(super) static NAME: LazyLock<LeaseName> =
    LazyLock::new(|| LeaseName::new("x".into()).expect("a short name"));

/// A ballot, of a proposer that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Round {
    pub(super) round: u8,
    boot: u8,
}

/// What is under way and matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    Prepare(Round),
    Propose(Round, u8),
    Release(Round),
    Promise(Round),
    Accepted(Round, u8),
}

impl Word {
    /// Together with the proposer, as one number.
    pub(super) fn packed(self, proposer: u8) -> u64 {
        let of = |kind, Round { round, boot }: Round, last| [kind, proposer, round, boot, last];
        let [a, b, c, d, e] = match self {
            Word::Prepare(round) => of(1, round, 0),
            Word::Propose(round, number) => of(2, round, number),
            Word::Release(round) => of(3, round, 0),
            Word::Promise(round) => of(4, round, 0),
            Word::Accepted(round, number) => of(5, round, number),
        };
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }

    /// What a proposer asks. To look binds nobody.
    pub(super) fn of_ask(ask: Ask) -> Option<Word> {
        match ask {
            Ask::Prepare(of) => Some(Word::Prepare(round_of(of))),
            Ask::Propose(of, number) => Some(Word::Propose(round_of(of), short(number))),
            Ask::Release(of) => Some(Word::Release(round_of(of))),
            Ask::Peek => None,
        }
    }

    /// What an acceptor answers. All else is a hint.
    pub(super) fn of_answer(answered: &Answered) -> Option<Word> {
        match answered {
            Answered::Promise(of) => Some(Word::Promise(round_of(*of))),
            Answered::Accepted(of, number) => Some(Word::Accepted(round_of(*of), short(*number))),
            Answered::Refused { .. }
            | Answered::Peeked(_)
            | Answered::Released(_)
            | Answered::Sealed(_) => None,
        }
    }

    pub(super) fn is_answer(self) -> bool {
        matches!(self, Word::Promise(_) | Word::Accepted(..))
    }

    /// As an acceptor hears it of this proposer.
    pub(super) fn to_ask(self, proposer: u8) -> Ask {
        let ballot = |of| ballot_of(proposer, of);
        match self {
            Word::Prepare(of) => Ask::Prepare(ballot(of)),
            Word::Propose(of, number) => Ask::Propose(ballot(of), number.into()),
            Word::Release(of) => Ask::Release(ballot(of)),
            Word::Promise(_) | Word::Accepted(..) => unreachable!("answers are heard"),
        }
    }

    /// As this proposer hears it.
    pub(super) fn to_answer(self, proposer: u8) -> Answered {
        let ballot = |of| ballot_of(proposer, of);
        match self {
            Word::Promise(of) => Answered::Promise(ballot(of)),
            Word::Accepted(of, number) => Answered::Accepted(ballot(of), number.into()),
            _ => unreachable!("requests are delivered"),
        }
    }
}

pub(super) fn short(number: u64) -> u8 {
    u8::try_from(number).expect("rounds, lives and renewals are few")
}

pub(super) fn round_of(ballot: Ballot) -> Round {
    Round { round: short(ballot.round), boot: short(ballot.proposer.boot) }
}

pub(super) fn ballot_of(proposer: u8, Round { round, boot }: Round) -> Ballot {
    let peer = proposer_id(usize::from(proposer));
    Ballot { round: round.into(), proposer: ProposerId { peer, boot: boot.into() } }
}

pub(super) fn acceptor_id(acceptor: usize) -> PeerId {
    PeerId::from_bytes([acceptor as u8; 32])
}

pub(super) fn acceptor_of(peer: PeerId) -> usize {
    usize::from(peer.as_bytes()[0])
}

pub(super) fn proposer_id(proposer: usize) -> PeerId {
    PeerId::from_bytes([16 + proposer as u8; 32])
}

pub(super) fn proposer_of(peer: PeerId) -> u8 {
    peer.as_bytes()[0] - 16
}

/// Timers come whenever the model says so.
struct AnyTime;

impl<T> Timers<T> for AnyTime {
    fn arm(&mut self, _: MonoTime, _: T) -> TimerHandle {
        TimerHandle(0)
    }

    fn disarm(&mut self, _: TimerHandle) {}
}

pub(super) fn feed<M: Machine<View<'static> = ()>>(
    machine: &mut M,
    now: MonoTime,
    input: M::Input,
) -> Result<Vec<M::Effect>, String> {
    let mut effects = Vec::new();
    let handled = catch_unwind(AssertUnwindSafe(|| {
        let mut sink = |effect| effects.push(effect);
        let (mut draws, mut timers) = (Draws::new([0; 32]), AnyTime);
        let mut refusals = Refusals::default();
        let now = Now::new(now, Default::default());
        let mut cx = Context::new(now, &mut draws, &mut timers, &mut refusals);
        machine.handle(&mut cx, (), input, &mut Effects::new(&mut sink));
        machine.check_invariants();
    }));
    handled.map_err(|_| "a promise of a machine is broken".to_string())?;
    Ok(effects)
}

/// What a proposer asks, for people.
pub(super) fn asked(ask: Ask) -> String {
    match ask {
        Ask::Prepare(ballot) => format!("promise round {}", ballot.round),
        Ask::Propose(ballot, 0) => format!("accept round {}", ballot.round),
        Ask::Propose(ballot, number) => {
            format!("accept renewal {number} of round {}", ballot.round)
        }
        Ask::Release(ballot) => format!("forget round {}", ballot.round),
        Ask::Peek => "how does it stand?".into(),
    }
}

/// What an acceptor answers, for people.
pub(super) fn shown(answered: &Answered) -> String {
    match answered {
        Answered::Promise(ballot) => format!("round {} is promised", ballot.round),
        Answered::Accepted(ballot, 0) => format!("round {} is accepted", ballot.round),
        Answered::Accepted(ballot, number) => {
            format!("renewal {number} of round {} is accepted", ballot.round)
        }
        Answered::Refused { ballot, parked, stands } => {
            let after = if *parked { " for now, and parked" } else { "" };
            format!("round {} is refused{after}; {} is promised", ballot.round, stands.round)
        }
        Answered::Sealed(by) => format!("sealed, by epoch {by}"),
        Answered::Peeked(stands) | Answered::Released(stands) => {
            format!("round {} is promised", stands.round)
        }
    }
}
