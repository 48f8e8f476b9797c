//! The proposer: wants leases, waits for them, holds them.
//!
//! For each lease that this node wants it is in one of these phases:
//!
//! | phase | until | then |
//! | --- | --- | --- |
//! | waits | the told end of another's lease is near, or a while after a round that failed | looks |
//! | looks | a majority has said how the lease stands | prepares, or waits |
//! | prepares | a majority has promised the round | proposes |
//! | proposes | a majority has accepted | holds |
//! | holds | the lease ends, or it is left | waits |
//!
//! `round.rs` has the first four, `renewal.rs` the last. Whatever is not over within a round's time is abandoned, and
//! what was accepted in it is released.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::words::{Answered, Ask, Peeked, ProposerEffect, ProposerInput, ProposerTimer};
use super::{Ballot, LeaseConfig, LeaseName, ProposerId, Request, Token};
use crate::base::{Effects, MonoTime};
use crate::machine::{Context, Machine, TimerHandle};
use crate::planted::is_planted;

/// Acceptors that have answered, by their places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Heard(u8);

impl Heard {
    /// Counts an acceptor, once.
    pub(super) fn add(&mut self, place: usize) {
        if is_planted(84) && self.has(place) {
            // Planted: it counts as often as it answers.
            self.0 |= self.0 + 1;
        }
        self.0 |= 1 << place;
    }

    pub(super) fn has(self, place: usize) -> bool {
        self.0 & 1 << place != 0
    }

    pub(super) fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// A proposal, new or renewed, and who has accepted it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vote {
    /// 0 for a new lease.
    pub(super) number: u64,
    /// When it was first sent, or before: sending it again does not change that.
    pub(super) start: MonoTime,
    pub(super) heard: Heard,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    Waits,
    /// What each acceptor has said, by its place: how long nobody else can have the lease there.
    Looks([Option<Duration>; super::AcceptorSet::PEERS_MAX]),
    Prepares {
        ballot: Ballot,
        promised: Heard,
        /// Who will not promise it.
        refused: Heard,
        /// Who will promise it when a lease has ended.
        parked: Heard,
        /// Whether the round's time was counted anew.
        extended: bool,
    },
    Proposes {
        ballot: Ballot,
        vote: Vote,
        /// Who will not accept it.
        refused: Heard,
    },
    Holds {
        ballot: Ballot,
        until: MonoTime,
        vote: Vote,
    },
}

/// One lease that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The acceptors of whom it is had: the latest, or those before them while it is held of these.
    pub(super) config: Arc<LeaseConfig>,
    pub(super) phase: Phase,
    /// Which of these acceptors are sealed.
    pub(super) sealed: Heard,
    /// The highest round that is known to be promised to anybody, or was tried.
    pub(super) round: u64,
    /// The highest round that acceptors have told of, and what that was when it last began to look.
    pub(super) told: u64,
    pub(super) told_before: u64,
    /// Who has it, as an acceptor said last.
    pub(super) holder: Option<ProposerId>,
    pub(super) step: Option<TimerHandle>,
    pub(super) resend: Option<TimerHandle>,
    pub(super) end: Option<TimerHandle>,
}

/// That this node holds a lease: by which token, and until when unless it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The fencing token of the grant.
    pub token: Token,
    /// By the clock of this node.
    pub until: MonoTime,
}

/// The machine of a proposer, for all leases of one network.
#[derive(Clone, Debug)]
pub struct Proposer {
    pub(super) id: ProposerId,
    pub(super) config: Arc<LeaseConfig>,
    wanted: BTreeMap<LeaseName, Wanted>,
    /// The highest round that was tried for a lease that is not wanted any more: no ballot is used twice.
    tried: u64,
    /// The latest epoch that an acceptor has spoken of.
    superseded: u64,
}

/// What every handler gets: time, timers and randomness; and where effects go.
pub(super) struct Turn<'a, 'c, 'e> {
    pub(super) cx: &'a mut Context<'c, ProposerTimer>,
    pub(super) out: &'a mut Effects<'e, ProposerEffect>,
}

impl Wanted {
    pub(super) fn token(&self, ballot: Ballot) -> Token {
        // Planted: rounds begin anew with other acceptors, and tokens do not say so.
        let epoch = if is_planted(137) { 0 } else { self.config.acceptors.epoch() };
        Token { epoch, round: ballot.round }
    }

    fn is_sealed(&self) -> bool {
        self.sealed.count() >= self.config.acceptors.majority()
    }
}

impl Turn<'_, '_, '_> {
    pub(super) fn now(&self) -> MonoTime {
        self.cx.now.mono
    }

    /// Has [`ProposerTimer::Step`] come after this time, and not before.
    pub(super) fn step_in(&mut self, name: &LeaseName, wanted: &mut Wanted, wait: Duration) {
        self.disarm(wanted.step.take());
        let at = self.now() + wait;
        wanted.step = Some(self.cx.arm(at, ProposerTimer::Step(name.clone())));
    }

    pub(super) fn resend_in(&mut self, name: &LeaseName, wanted: &mut Wanted, wait: Duration) {
        self.disarm(wanted.resend.take());
        let at = self.now() + wait;
        wanted.resend = Some(self.cx.arm(at, ProposerTimer::Resend(name.clone())));
    }

    pub(super) fn disarm(&mut self, timer: Option<TimerHandle>) {
        if let Some(timer) = timer {
            self.cx.disarm(timer);
        }
    }
}

impl Proposer {
    /// A life of a peer that may want leases.
    pub fn new(id: ProposerId, config: Arc<LeaseConfig>) -> Proposer {
        Proposer { id, config, wanted: BTreeMap::new(), tried: 0, superseded: 0 }
    }

    /// The fencing token of a lease, if this node holds it at this moment. To be asked at the moment of acting, with the
    /// time of that moment, and never to be remembered.
    pub fn token(&self, name: &LeaseName, now: MonoTime) -> Option<Token> {
        self.hold(name, now).map(|hold| hold.token)
    }

    /// As [`Proposer::token`], with the time until which the lease is held unless it is renewed.
    pub fn hold(&self, name: &LeaseName, now: MonoTime) -> Option<Hold> {
        let wanted = self.wanted.get(name)?;
        match wanted.phase {
            Phase::Holds { ballot, until, .. } if now < until => {
                Some(Hold { token: wanted.token(ballot), until })
            }
            _ => None,
        }
    }

    /// How long everything takes.
    pub fn times(&self) -> super::LeaseTimes {
        self.config.times
    }

    /// The epoch of the latest acceptors.
    pub fn epoch(&self) -> u64 {
        self.config.acceptors.epoch()
    }

    /// The epoch of the acceptors of whom a wanted lease is had.
    pub fn epoch_of(&self, name: &LeaseName) -> Option<u64> {
        self.wanted.get(name).map(|wanted| wanted.config.acceptors.epoch())
    }

    /// The latest epoch that an acceptor has spoken of, if it is later than ours.
    pub fn superseded(&self) -> Option<u64> {
        Some(self.superseded).filter(|epoch| *epoch > self.epoch())
    }

    /// Who holds a lease, as an acceptor said last; it may be over by now.
    pub fn holder(&self, name: &LeaseName) -> Option<ProposerId> {
        self.wanted.get(name)?.holder
    }

    /// The highest round of a wanted lease that was tried, or is known to be promised.
    pub fn round(&self, name: &LeaseName) -> Option<u64> {
        self.wanted.get(name).map(|wanted| wanted.round)
    }

    /// How many leases are wanted.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether none is wanted.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// What decides what it does next, with times as they are from now and apart from what it has heard of whom: two
    /// proposers with one hash, and one of [`Proposer::hash_heard`] for each acceptor, go on alike.
    ///
    /// When it looks again and whom it believes to be the holder is left out: it may look at any time.
    pub fn hash_at<H: Hasher>(&self, now: MonoTime, state: &mut H) {
        (self.id, self.tried).hash(state);
        // A proposal is worth nothing once its time is over.
        let hold = self.config.times.hold();
        let vote = |vote: &Vote| (vote.number, now.since(vote.start).min(hold));
        for (name, wanted) in &self.wanted {
            (name, wanted.round, wanted.config.acceptors.epoch()).hash(state);
            match &wanted.phase {
                Phase::Waits => state.write_u8(0),
                Phase::Looks(_) => state.write_u8(1),
                Phase::Prepares { ballot, extended, .. } => (2u8, ballot, extended).hash(state),
                Phase::Proposes { ballot, vote: of, .. } => (3u8, ballot, vote(of)).hash(state),
                Phase::Holds { ballot, until, vote: of } => {
                    (4u8, ballot, until.since(now), vote(of)).hash(state);
                }
            }
        }
    }

    /// What it has heard of the acceptor at this place; see [`Proposer::hash_at`].
    pub fn hash_heard<H: Hasher>(&self, place: usize, state: &mut H) {
        for wanted in self.wanted.values() {
            if place >= wanted.config.acceptors.peers().len() {
                continue;
            }
            wanted.sealed.has(place).hash(state);
            match &wanted.phase {
                Phase::Waits => state.write_u8(0),
                Phase::Looks(said) => said[place].hash(state),
                Phase::Prepares { promised, refused, parked, .. } => {
                    (promised.has(place), refused.has(place), parked.has(place)).hash(state);
                }
                Phase::Proposes { vote, refused, .. } => {
                    (vote.heard.has(place), refused.has(place)).hash(state);
                }
                Phase::Holds { vote, .. } => vote.heard.has(place).hash(state),
            }
        }
    }

    /// The proposal whose answers count at this moment.
    pub fn proposal(&self, name: &LeaseName) -> Option<(Ballot, u64)> {
        match &self.wanted.get(name)?.phase {
            Phase::Proposes { ballot, vote, .. } | Phase::Holds { ballot, vote, .. } => {
                Some((*ballot, vote.number))
            }
            _ => None,
        }
    }

    /// The ballot whose promises count at this moment.
    pub fn prepared(&self, name: &LeaseName) -> Option<Ballot> {
        match self.wanted.get(name)?.phase {
            Phase::Prepares { ballot, .. } => Some(ballot),
            _ => None,
        }
    }

    /// Asks every acceptor of the lease but those that have answered.
    pub(super) fn ask(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &Wanted,
        ask: Ask,
        but: Heard,
    ) {
        let acceptors = &wanted.config.acceptors;
        for (place, to) in acceptors.peers().iter().enumerate() {
            if !but.has(place) {
                let request = Request { epoch: acceptors.epoch(), name: name.clone(), ask };
                turn.out.push(ProposerEffect::Ask { to: *to, request });
            }
        }
    }

    fn want(&mut self, turn: &mut Turn<'_, '_, '_>, name: LeaseName) {
        if self.wanted.contains_key(&name) {
            return;
        }
        if self.wanted.len() >= self.config.leases_max {
            return turn.out.push(ProposerEffect::NoRoom(name));
        }
        let mut wanted = Wanted {
            config: Arc::clone(&self.config),
            phase: Phase::Waits,
            sealed: Heard::default(),
            round: self.tried,
            told: 0,
            told_before: 0,
            holder: None,
            step: None,
            resend: None,
            end: None,
        };
        self.look(turn, &name, &mut wanted);
        self.wanted.insert(name, wanted);
    }

    fn leave(&mut self, turn: &mut Turn<'_, '_, '_>, name: &LeaseName) {
        let Some(mut wanted) = self.wanted.remove(name) else { return };
        self.give_up(turn, name, &mut wanted);
        turn.disarm(wanted.step.take());
        self.tried = self.tried.max(wanted.round);
    }

    /// Ends whatever is under way. What was promised or accepted is released: its ballot is never counted again.
    pub(super) fn give_up(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
    ) {
        turn.disarm(wanted.resend.take());
        turn.disarm(wanted.end.take());
        match std::mem::replace(&mut wanted.phase, Phase::Waits) {
            Phase::Waits | Phase::Looks(_) => {}
            // Whoever has promised it is free for the one who comes to the lease.
            Phase::Prepares { ballot, .. } | Phase::Proposes { ballot, .. } => {
                self.ask(turn, name, wanted, Ask::Release(ballot), Heard::default());
            }
            Phase::Holds { ballot, .. } => {
                let token = wanted.token(ballot);
                turn.out.push(ProposerEffect::Lost { name: name.clone(), token });
                self.ask(turn, name, wanted, Ask::Release(ballot), Heard::default());
            }
        }
    }

    /// There are other acceptors.
    fn configure(&mut self, turn: &mut Turn<'_, '_, '_>, config: Arc<LeaseConfig>) {
        if config.acceptors.epoch() <= self.epoch() {
            return;
        }
        self.config = config;
        // Their rounds are others.
        self.tried = 0;
        let names: Vec<LeaseName> = self.wanted.keys().cloned().collect();
        for name in names {
            let Some(mut wanted) = self.wanted.remove(&name) else { continue };
            // Whoever holds goes on for as long as those before let it: the new ones wait for them.
            if !matches!(wanted.phase, Phase::Holds { .. }) {
                self.give_up(turn, &name, &mut wanted);
                self.move_on(turn, &name, &mut wanted);
            }
            self.wanted.insert(name, wanted);
        }
    }

    /// What to do about a lease that was given up: it is had from the latest acceptors, if these were others.
    pub(super) fn move_on(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
    ) {
        if wanted.config.acceptors.epoch() < self.epoch() {
            wanted.config = Arc::clone(&self.config);
            (wanted.round, wanted.sealed) = (self.tried, Heard::default());
            self.look(turn, name, wanted);
        } else if wanted.is_sealed() {
            // Until we are told of other acceptors there is nothing to be had.
            self.wait_long(turn, name, wanted);
        } else {
            self.wait_a_little(turn, name, wanted);
        }
    }

    /// An acceptor is sealed. Once a majority is, they let nobody have or keep a lease.
    fn sealed(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
        place: usize,
    ) {
        wanted.sealed.add(place);
        if wanted.is_sealed() && !matches!(wanted.phase, Phase::Waits) {
            self.give_up(turn, name, wanted);
            self.move_on(turn, name, wanted);
        }
    }

    fn answer(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
        (place, answered): (usize, Answered),
    ) {
        match answered {
            Answered::Sealed(_) => self.sealed(turn, name, wanted, place),
            Answered::Peeked(stands) => {
                self.stands(turn, name, wanted, stands);
                self.looked(turn, name, wanted, (place, stands));
            }
            Answered::Released(stands) => {
                self.stands(turn, name, wanted, stands);
                if !stands.runs_for.is_zero() {
                    // Others come first.
                    if matches!(wanted.phase, Phase::Waits) {
                        turn.step_in(name, wanted, stands.runs_for);
                    }
                    return;
                }
                // Now is the time, if others say so too.
                if matches!(wanted.phase, Phase::Waits) {
                    self.look(turn, name, wanted);
                }
                self.looked(turn, name, wanted, (place, stands));
            }
            Answered::Promise(ballot) => self.promised(turn, name, wanted, (place, ballot)),
            Answered::Accepted(ballot, number) => {
                self.accepted(turn, name, wanted, (place, ballot, number));
            }
            Answered::Refused { ballot, parked, stands } => {
                self.stands(turn, name, wanted, stands);
                self.refused(turn, name, wanted, (place, ballot, parked, stands));
            }
        }
    }

    /// What an acceptor says about a lease in passing.
    fn stands(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
        stands: Peeked,
    ) {
        wanted.round = wanted.round.max(stands.round.min(Ballot::ROUND_MAX));
        wanted.told = wanted.told.max(stands.round);
        if stands.holder.is_some() && stands.holder != wanted.holder {
            wanted.holder = stands.holder;
            if let Some(holder) = stands.holder.filter(|holder| *holder != self.id) {
                turn.out.push(ProposerEffect::HeldBy { name: name.clone(), holder });
            }
        }
    }
}

impl Machine for Proposer {
    type Input = ProposerInput;
    type Effect = ProposerEffect;
    type Timer = ProposerTimer;
    type View<'a> = ();

    fn handle(
        &mut self,
        cx: &mut Context<'_, ProposerTimer>,
        _: (),
        input: ProposerInput,
        out: &mut Effects<'_, ProposerEffect>,
    ) {
        let turn = &mut Turn { cx, out };
        let name = match &input {
            ProposerInput::Want(name) => return self.want(turn, name.clone()),
            ProposerInput::Leave(name) => return self.leave(turn, &name.clone()),
            ProposerInput::Configure(config) => return self.configure(turn, Arc::clone(config)),
            ProposerInput::Answer { answer, .. } => answer.name.clone(),
            ProposerInput::Timer(
                ProposerTimer::Step(name) | ProposerTimer::Resend(name) | ProposerTimer::End(name),
            ) => name.clone(),
        };
        let Some(mut wanted) = self.wanted.remove(&name) else { return };
        match &input {
            ProposerInput::Timer(ProposerTimer::Step(_)) => wanted.step = None,
            ProposerInput::Timer(ProposerTimer::Resend(_)) => wanted.resend = None,
            ProposerInput::Timer(ProposerTimer::End(_)) => wanted.end = None,
            _ => {}
        }
        // A lease may have ended before its timer says so: after a pause, for one.
        if matches!(wanted.phase, Phase::Holds { until, .. } if until <= turn.now()) {
            self.give_up(turn, &name, &mut wanted);
            self.move_on(turn, &name, &mut wanted);
        }
        match input {
            ProposerInput::Answer { from, answer } => {
                let acceptors = &wanted.config.acceptors;
                if let Some(place) = acceptors.place(from)
                    && answer.epoch == acceptors.epoch()
                {
                    if let Answered::Sealed(by) = answer.answered
                        && by > self.superseded.max(self.epoch())
                    {
                        self.superseded = by;
                        turn.out.push(ProposerEffect::Superseded(by));
                    }
                    self.answer(turn, &name, &mut wanted, (place, answer.answered));
                }
            }
            ProposerInput::Timer(ProposerTimer::Step(_)) => self.step(turn, &name, &mut wanted),
            ProposerInput::Timer(ProposerTimer::Resend(_)) => self.resend(turn, &name, &mut wanted),
            ProposerInput::Timer(ProposerTimer::End(_)) => self.arm_end(turn, &name, &mut wanted),
            ProposerInput::Want(_) | ProposerInput::Leave(_) | ProposerInput::Configure(_) => {
                unreachable!("handled above")
            }
        }
        self.wanted.insert(name, wanted);
    }

    fn check_invariants(&self) {
        for (name, wanted) in &self.wanted {
            assert!(wanted.step.is_some(), "{name:?} has something to come next");
            let holds = matches!(wanted.phase, Phase::Holds { .. });
            assert!(holds == wanted.end.is_some(), "{name:?}: what is held has an end");
            if let Phase::Prepares { ballot, .. }
            | Phase::Proposes { ballot, .. }
            | Phase::Holds { ballot, .. } = wanted.phase
            {
                assert!(ballot.proposer == self.id && ballot.round <= wanted.round);
            }
            let is_former = wanted.config.acceptors.epoch() < self.epoch();
            assert!(holds || !is_former, "{name:?}: what is not held is had from the latest");
        }
    }
}
