//! What is said of leases, to and from the wire.

use std::time::Duration;

use bytes::Bytes;
use dunlin_proto::v1;

use super::{WireFault, fault};
use crate::auth::NetworkId;
use crate::base::{Limits, MonoTime, PeerId};
use crate::lease::{
    Answer, Answered, Ask, Ballot, Learn, Learned, LeaseName, Peeked, ProposerId, Request, Seal,
    Sealed,
};

/// How many leases one [`LearnedPart`] tells of: what they are called and their rounds take less than half of a frame's
/// header.
pub const LEARNED_PART_MAX: usize = 512;

/// A part of what an acceptor has promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedPart {
    /// In which network.
    pub network: NetworkId,
    /// How many leases were told in the parts before this one.
    pub told: usize,
    /// The part. At most [`LEARNED_PART_MAX`] rounds.
    pub learned: Learned,
    /// There is another part.
    pub more: bool,
}

fn name(message: &'static str, bytes: Bytes) -> Result<LeaseName, WireFault> {
    LeaseName::new(bytes).map_err(|error| fault(message, "name", error.to_string()))
}

fn network(message: &'static str, id: &Bytes) -> Result<NetworkId, WireFault> {
    let bytes = <[u8; 32]>::try_from(&id[..]);
    let wrong = |_| fault(message, "network_id", format!("{} bytes", id.len()));
    bytes.map(NetworkId::from_bytes).map_err(wrong)
}

fn ballot(message: &'static str, wire: Option<v1::Ballot>) -> Result<Ballot, WireFault> {
    let wire = wire.ok_or_else(|| fault(message, "ballot", "missing"))?;
    let peer = <[u8; 32]>::try_from(&wire.peer[..])
        .map_err(|_| fault(message, "ballot.peer", format!("{} bytes", wire.peer.len())))?;
    let proposer = ProposerId { peer: PeerId::from_bytes(peer), boot: wire.boot };
    Ok(Ballot { round: wire.round, proposer })
}

fn ballot_to_wire(ballot: Ballot) -> Option<v1::Ballot> {
    let ProposerId { peer, boot } = ballot.proposer;
    Some(v1::Ballot { round: ballot.round, peer: Bytes::copy_from_slice(peer.as_bytes()), boot })
}

pub(super) fn parse_request(wire: v1::LeaseRequest) -> Result<Request, WireFault> {
    const MESSAGE: &str = "LeaseRequest";
    let ask = match wire.ask {
        1 => Ask::Peek,
        2 => Ask::Prepare(ballot(MESSAGE, wire.ballot)?),
        3 => Ask::Propose(ballot(MESSAGE, wire.ballot)?, wire.number),
        4 => Ask::Release(ballot(MESSAGE, wire.ballot)?),
        other => return Err(fault(MESSAGE, "ask", format!("{other}"))),
    };
    Ok(Request { epoch: wire.epoch, name: name(MESSAGE, wire.name)?, ask })
}

pub(super) fn request_to_wire(request: Request) -> v1::LeaseRequest {
    let (ask, of, number) = match request.ask {
        Ask::Peek => (1, None, 0),
        Ask::Prepare(ballot) => (2, Some(ballot), 0),
        Ask::Propose(ballot, number) => (3, Some(ballot), number),
        Ask::Release(ballot) => (4, Some(ballot), 0),
    };
    v1::LeaseRequest {
        name: request.name.as_bytes().clone(),
        epoch: request.epoch,
        ask,
        ballot: of.and_then(ballot_to_wire),
        number,
    }
}

pub(super) fn parse_answer(wire: v1::LeaseAnswer) -> Result<Answer, WireFault> {
    const MESSAGE: &str = "LeaseAnswer";
    let stands = |holder: Option<v1::Ballot>| -> Result<Peeked, WireFault> {
        let holder = holder.map(|holder| ballot(MESSAGE, Some(holder))).transpose()?;
        Ok(Peeked {
            round: wire.round,
            holder: holder.map(|holder| holder.proposer),
            runs_for: Duration::from_nanos(wire.runs_for_ns),
        })
    };
    let answered = match wire.answered {
        1 => Answered::Peeked(stands(wire.holder)?),
        2 => Answered::Released(stands(wire.holder)?),
        3 => Answered::Promise(ballot(MESSAGE, wire.ballot)?),
        4 => Answered::Accepted(ballot(MESSAGE, wire.ballot)?, wire.number),
        5 => Answered::Refused {
            ballot: ballot(MESSAGE, wire.ballot)?,
            parked: wire.parked,
            stands: stands(wire.holder)?,
        },
        6 => Answered::Sealed(wire.sealed_by),
        other => return Err(fault(MESSAGE, "answered", format!("{other}"))),
    };
    Ok(Answer { epoch: wire.epoch, name: name(MESSAGE, wire.name)?, answered })
}

pub(super) fn answer_to_wire(answer: Answer) -> v1::LeaseAnswer {
    let mut wire = v1::LeaseAnswer {
        name: answer.name.as_bytes().clone(),
        epoch: answer.epoch,
        ..Default::default()
    };
    let stands = match answer.answered {
        Answered::Peeked(stands) => {
            wire.answered = 1;
            Some(stands)
        }
        Answered::Released(stands) => {
            wire.answered = 2;
            Some(stands)
        }
        Answered::Promise(ballot) => {
            (wire.answered, wire.ballot) = (3, ballot_to_wire(ballot));
            None
        }
        Answered::Accepted(ballot, number) => {
            (wire.answered, wire.ballot, wire.number) = (4, ballot_to_wire(ballot), number);
            None
        }
        Answered::Refused { ballot, parked, stands } => {
            (wire.answered, wire.ballot, wire.parked) = (5, ballot_to_wire(ballot), parked);
            Some(stands)
        }
        Answered::Sealed(by) => {
            (wire.answered, wire.sealed_by) = (6, by);
            None
        }
    };
    if let Some(Peeked { round, holder, runs_for }) = stands {
        wire.round = round;
        wire.holder = holder.and_then(|proposer| ballot_to_wire(Ballot { round: 0, proposer }));
        wire.runs_for_ns = nanos(runs_for);
    }
    wire
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn parse_learn(wire: &v1::LeaseLearn) -> Result<(NetworkId, Learn), WireFault> {
    let network = network("LeaseLearn", &wire.network_id)?;
    Ok((network, Learn { epoch: wire.epoch, boot: wire.boot }))
}

pub(super) fn learn_to_wire(network: NetworkId, learn: Learn) -> v1::LeaseLearn {
    let network_id = Bytes::copy_from_slice(network.as_bytes());
    v1::LeaseLearn { network_id, epoch: learn.epoch, boot: learn.boot }
}

pub(super) fn parse_learned(
    wire: v1::LeaseLearned,
    limits: &Limits,
) -> Result<LearnedPart, WireFault> {
    const MESSAGE: &str = "LeaseLearned";
    let (told, count) = (wire.told as usize, wire.rounds.len());
    if count > LEARNED_PART_MAX || told > limits.leases_max {
        return Err(fault(MESSAGE, "rounds", format!("{count} of them behind {told}")));
    }
    let rounds = wire.rounds.into_iter().map(|of| Ok((name(MESSAGE, of.name)?, of.round)));
    let learned = Learned {
        epoch: wire.epoch,
        boot: wire.boot,
        complete: wire.complete,
        sealed: wire.sealed_by,
        rounds: rounds.collect::<Result<_, WireFault>>()?,
    };
    let network = network(MESSAGE, &wire.network_id)?;
    Ok(LearnedPart { network, told, learned, more: wire.more })
}

pub(super) fn learned_to_wire(part: LearnedPart) -> v1::LeaseLearned {
    let round =
        |(name, round): (LeaseName, u64)| v1::LeaseRound { name: name.as_bytes().clone(), round };
    v1::LeaseLearned {
        network_id: Bytes::copy_from_slice(part.network.as_bytes()),
        epoch: part.learned.epoch,
        boot: part.learned.boot,
        complete: part.learned.complete,
        told: u32::try_from(part.told).unwrap_or(u32::MAX),
        rounds: part.learned.rounds.into_iter().map(round).collect(),
        more: part.more,
        sealed_by: part.learned.sealed,
    }
}

pub(super) fn parse_seal(wire: &v1::LeaseSeal) -> Result<(NetworkId, Seal), WireFault> {
    let v1::LeaseSeal { of, by, boot, asked_ns, .. } = *wire;
    let asked = MonoTime::from_nanos(asked_ns);
    Ok((network("LeaseSeal", &wire.network_id)?, Seal { of, by, boot, asked }))
}

pub(super) fn seal_to_wire(network: NetworkId, seal: Seal) -> v1::LeaseSeal {
    let network_id = Bytes::copy_from_slice(network.as_bytes());
    let Seal { of, by, boot, asked } = seal;
    v1::LeaseSeal { network_id, of, by, boot, asked_ns: asked.as_nanos() }
}

pub(super) fn parse_sealed(wire: &v1::LeaseSealed) -> Result<(NetworkId, Sealed), WireFault> {
    let seal = wire.seal.as_ref().ok_or_else(|| fault("LeaseSealed", "seal", "missing"))?;
    let (network, seal) = parse_seal(seal)?;
    let runs_for = wire.runs_for_ns.map(Duration::from_nanos);
    Ok((network, Sealed { seal, began: wire.began, runs_for }))
}

pub(super) fn sealed_to_wire(network: NetworkId, sealed: Sealed) -> v1::LeaseSealed {
    let Sealed { seal, began, runs_for } = sealed;
    let seal = Some(seal_to_wire(network, seal));
    v1::LeaseSealed { seal, began, runs_for_ns: runs_for.map(nanos) }
}
