//! The acceptor: promises rounds, accepts leases, keeps to both.
//!
//! For each lease it has a *promise*, durable, the highest round that it has promised and to whom; and while a lease
//! *lives* here, whose it is and until when, which it does not store: `recovery.rs` says why it need not.
//!
//! | asked | while another's lease lives here | otherwise |
//! | --- | --- | --- |
//! | to look | it says how things stand | it says how things stand |
//! | to promise a round | no; the best round is *parked*, and asked for when the lease ends | yes, if the round exceeds the promised one; yes again to the same ballot |
//! | to accept a lease | no | yes, if the ballot is the promised one or its round exceeds that |
//!
//! What changes a promise is answered once it is on the disk. A lease lives from when it was accepted, not from when
//! that is answered.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::recovery::Recovery;
use super::seals::Seals;
use super::words::{
    AcceptorEffect, AcceptorInput, AcceptorTimer, Answer, Answered, Ask, Learned, Peeked, Record,
    Request,
};
use super::{Ballot, LeaseConfig, LeaseName, ProposerId};
use crate::base::{Bound, Effects, MonoTime, PeerId};
use crate::machine::{Context, Machine, TimerHandle};
use crate::planted::is_planted;

/// A lease that is accepted here.
#[derive(Clone, Debug)]
struct Live {
    ballot: Ballot,
    until: MonoTime,
}

/// A change of the promise that is not on the disk yet.
#[derive(Clone, Debug)]
struct Pending {
    seq: u64,
    /// What is answered, and to whom, once it is.
    answer: Option<(PeerId, Answered)>,
}

/// One lease, as this acceptor has it.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// The highest round that was promised; 0 for none.
    round: u64,
    /// To whom. None if this disk is new, and it was learned that somebody may have been promised it.
    proposer: Option<ProposerId>,
    /// What was promised before that. It counts again if the ballot is given up before it is accepted here.
    before: Option<(u64, Option<ProposerId>)>,
    pending: Option<Pending>,
    live: Option<Live>,
    /// Whoever had it has released it: what it proposed before may still be under way.
    released: Option<Ballot>,
    /// The best prepare of those that the lease which lives is in the way of.
    parked: Option<Ballot>,
    /// Who has looked while it lived.
    standbys: Vec<PeerId>,
    /// Armed while a lease lives, for its end or earlier.
    expiry: Option<TimerHandle>,
}

impl Entry {
    fn live(&self, now: MonoTime) -> Option<&Live> {
        self.live.as_ref().filter(|live| now < live.until)
    }

    /// How it stands.
    fn stands(&self, now: MonoTime) -> Peeked {
        let live = self.live(now);
        Peeked {
            round: self.round,
            holder: live.map(|live| live.ballot.proposer),
            runs_for: live.map_or(Duration::ZERO, |live| live.until.since(now)),
        }
    }

    fn is_promised(&self, ballot: Ballot) -> bool {
        (self.round, self.proposer) == (ballot.round, Some(ballot.proposer))
    }

    /// The promised ballot is given up, and nobody will ever use it. If it was not accepted here, what was promised
    /// before counts again: else the holder of a lease that has come to it against this ballot, by a majority of others,
    /// would never have this acceptor too, and could lose none of those. On the disk the higher round stays, which
    /// promises no less.
    fn give_back(&mut self) {
        let Some((round, proposer)) = self.before.take() else { return };
        let is_over =
            |whose: &ProposerId| self.released == Some(Ballot { round, proposer: *whose });
        (self.round, self.proposer) = (round, proposer.filter(|whose| !is_over(whose)));
    }

    /// Whether a ballot exceeds what is promised.
    fn exceeds(&self, ballot: Ballot) -> bool {
        if is_planted(82) {
            // Planted: ballots are compared as pairs, so that a round may be promised to several.
            return (ballot.round, Some(ballot.proposer)) > (self.round, self.proposer);
        }
        // Planted: what was only learned is promised again.
        let free = self.proposer.is_none() && self.round == ballot.round && is_planted(89);
        ballot.round > self.round || free
    }
}

/// The machine of an acceptor, for all leases of one network.
#[derive(Clone, Debug)]
pub struct Acceptor {
    pub(super) id: PeerId,
    pub(super) boot: u64,
    pub(super) config: Arc<LeaseConfig>,
    entries: BTreeMap<LeaseName, Entry>,
    /// For how many of them each account is charged. Of an earlier life it is the proposer that was promised last.
    names: BTreeMap<PeerId, usize>,
    /// What is not durable yet, oldest first. Some of it may have been replaced since.
    undurable: VecDeque<(u64, LeaseName)>,
    persisted: u64,
    pub(super) recovery: Recovery,
    pub(super) seals: Seals,
}

/// What every handler gets: time, timers and randomness; and where effects go.
pub(super) type Turn<'a, 'c, 'e> =
    (&'a mut Context<'c, AcceptorTimer>, &'a mut Effects<'e, AcceptorEffect>);

impl Acceptor {
    /// One of the acceptors of a configuration. `boot` is the boot number of this life of the peer.
    ///
    /// # Panics
    ///
    /// If the peer is none of them.
    pub fn new(id: PeerId, boot: u64, config: Arc<LeaseConfig>) -> Acceptor {
        assert!(config.acceptors.place(id).is_some(), "{id:?} is one of the acceptors");
        Acceptor {
            id,
            boot,
            config,
            entries: BTreeMap::new(),
            names: BTreeMap::new(),
            undurable: VecDeque::new(),
            persisted: 0,
            recovery: Recovery::default(),
            seals: Seals::default(),
        }
    }

    /// Whether it takes part: it has started, abstained for long enough, knows what it has promised, those before it
    /// are out of it, and none come after it.
    pub fn is_ready(&self, now: MonoTime) -> bool {
        self.recovery.is_over(now) && self.has_begun() && !self.is_superseded()
    }

    /// The epoch of its configuration.
    pub fn epoch(&self) -> u64 {
        self.config.acceptors.epoch()
    }

    /// Who has a lease here at this moment, as far as this life of the acceptor knows.
    pub fn live(&self, name: &LeaseName, now: MonoTime) -> Option<Ballot> {
        Some(self.entries.get(name)?.live(now)?.ballot)
    }

    /// Whether a lease has ended here, and that was not noticed yet.
    pub fn is_due(&self, name: &LeaseName, now: MonoTime) -> bool {
        let entry = self.entries.get(name);
        entry.is_some_and(|entry| entry.live.is_some() && entry.live(now).is_none())
    }

    /// The highest round of a lease that is promised, and to whom if it is not only learned.
    pub fn promised(&self, name: &LeaseName) -> Option<(u64, Option<ProposerId>)> {
        self.entries.get(name).map(|entry| (entry.round, entry.proposer)).filter(|p| p.0 > 0)
    }

    /// How many leases it keeps promises for.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has promised nothing yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What decides what it does next, with times as they are from now: two acceptors with one hash go on alike.
    pub fn hash_at<H: Hasher>(&self, now: MonoTime, state: &mut H) {
        self.recovery.hash_at(now, state);
        self.seals.hash_at(now, self.config.times.term(), state);
        for (name, entry) in &self.entries {
            name.hash(state);
            (entry.round, entry.proposer, entry.parked, entry.released).hash(state);
            entry.before.hash(state);
            entry.pending.as_ref().map(|pending| pending.answer).hash(state);
            entry.live(now).map(|live| (live.ballot, live.until.since(now))).hash(state);
            entry.standbys.hash(state);
        }
    }

    /// Whether it waits for this acceptor to say what is promised.
    pub fn expects(&self, from: PeerId) -> bool {
        self.is_learning() && self.config.acceptors.place(from).is_some()
    }

    /// Whether it has lost its disk, or never had one, and does not know yet what it has promised.
    pub fn is_learning(&self) -> bool {
        !self.recovery.is_complete() && !self.is_superseded()
    }

    /// Whether it is known, and on the disk, what it has promised.
    pub fn is_complete(&self) -> bool {
        self.recovery.is_complete()
    }

    /// Who has leases here at this moment, and which.
    pub(super) fn holders(&self, now: MonoTime) -> Vec<(LeaseName, PeerId)> {
        let live = |(name, entry): (&LeaseName, &Entry)| {
            Some((name.clone(), entry.live(now)?.ballot.proposer.peer))
        };
        self.entries.iter().filter_map(live).collect()
    }

    /// Until when some lease lives here.
    pub(super) fn lives_until(&self) -> Option<MonoTime> {
        self.entries.values().filter_map(|entry| Some(entry.live.as_ref()?.until)).max()
    }

    /// Nothing is promised any more: what waits for that waits in vain.
    pub(super) fn unpark(&mut self) {
        for entry in self.entries.values_mut() {
            entry.parked = None;
        }
    }

    fn request(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        (from, account): (PeerId, PeerId),
        request: Request,
    ) {
        let Request { epoch, name, ask } = request;
        if epoch != self.config.acceptors.epoch() {
            return;
        }
        let now = turn.0.now.mono;
        // A lease may have ended before its timer says so.
        if self.is_due(&name, now) {
            self.ended(turn, &name, false);
        }
        // Planted: it goes on after its seal.
        if self.is_superseded() && !matches!(ask, Ask::Release(_)) && !is_planted(133) {
            // Before that is durable there is nothing to say.
            if let Some(by) = self.sealed() {
                self.answer(turn, from, name, Answered::Sealed(by));
            }
            return;
        }
        if !matches!(ask, Ask::Release(_)) {
            self.note_early(from, &name);
        }
        let ballot = match ask {
            Ask::Peek => {
                let answered = Answered::Peeked(self.peek(now, from, &name));
                return self.answer(turn, from, name, answered);
            }
            Ask::Prepare(ballot) | Ask::Propose(ballot, _) | Ask::Release(ballot) => ballot,
        };
        // Somebody else's ballot, or one that uses the rounds up: whoever sends it does not keep to the rules.
        let promised = self.entries.get(&name).map_or(0, |entry| entry.round);
        let most = Ballot::ROUND_MAX.min(promised.saturating_add(Ballot::ROUNDS_AHEAD_MAX));
        if ballot.proposer.peer != from || !(1..=most).contains(&ballot.round) {
            return;
        }
        if let Ask::Release(ballot) = ask {
            return self.release(turn, &name, ballot);
        }
        let has_room = self.has_room(turn, &name, account);
        let takes_part = self.is_ready(now) || (is_planted(133) && self.is_superseded());
        if !takes_part || !has_room {
            let answered = self.refusal(now, &name, ballot, false);
            return self.answer(turn, from, name, answered);
        }
        match ask {
            Ask::Prepare(ballot) => {
                self.entry(&name, account);
                self.prepare(turn, name, ballot);
            }
            Ask::Propose(ballot, number) => {
                self.entry(&name, account);
                self.propose(turn, name, ballot, number);
            }
            Ask::Peek | Ask::Release(_) => unreachable!("handled above"),
        }
    }

    /// Whether it keeps promises for this lease, or may begin to. They are kept for ever, so that one account has a part of
    /// all room and no more.
    fn has_room(&self, turn: &mut Turn<'_, '_, '_>, name: &LeaseName, account: PeerId) -> bool {
        if self.entries.contains_key(name) {
            return true;
        }
        if self.entries.len() >= self.config.leases_max {
            turn.0.refused(Bound::Leases);
            return false;
        }
        let of_account = self.names.get(&account).copied().unwrap_or(0);
        if of_account >= self.config.leases_per_issuer_max {
            turn.0.refused(Bound::LeasesPerIssuer);
            return false;
        }
        true
    }

    /// The entry of a lease for which it may keep promises. A new one is charged to this account.
    fn entry(&mut self, name: &LeaseName, account: PeerId) -> &mut Entry {
        let names = &mut self.names;
        self.entries.entry(name.clone()).or_insert_with(|| {
            *names.entry(account).or_default() += 1;
            Entry::default()
        })
    }

    /// How a lease stands. Whoever looks while it lives is told when it is released.
    fn peek(&mut self, now: MonoTime, from: PeerId, name: &LeaseName) -> Peeked {
        let standbys_max = self.config.standbys_max;
        if let Some(entry) = self.entries.get_mut(name)
            && entry.live(now).is_some()
            && !entry.standbys.contains(&from)
            && entry.standbys.len() < standbys_max
        {
            entry.standbys.push(from);
        }
        self.stands(now, name)
    }

    pub(super) fn stands(&self, now: MonoTime, name: &LeaseName) -> Peeked {
        let unknown = Peeked { round: 0, holder: None, runs_for: Duration::ZERO };
        let mut stands = self.entries.get(name).map_or(unknown, |entry| entry.stands(now));
        // What it has accepted in an earlier life it does not know: as if a lease lived.
        stands.runs_for =
            stands.runs_for.max(self.abstains_for(now)).max(self.waits_for_others(now));
        stands
    }

    fn refusal(&self, now: MonoTime, name: &LeaseName, ballot: Ballot, parked: bool) -> Answered {
        Answered::Refused { ballot, parked, stands: self.stands(now, name) }
    }

    pub(super) fn answer(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        to: PeerId,
        name: LeaseName,
        answered: Answered,
    ) {
        let epoch = self.config.acceptors.epoch();
        turn.1.push(AcceptorEffect::Answer { to, answer: Answer { epoch, name, answered } });
    }

    fn refuse(&self, turn: &mut Turn<'_, '_, '_>, name: &LeaseName, ballot: Ballot, parked: bool) {
        let answered = self.refusal(turn.0.now.mono, name, ballot, parked);
        self.answer(turn, ballot.proposer.peer, name.clone(), answered);
    }

    fn prepare(&mut self, turn: &mut Turn<'_, '_, '_>, name: LeaseName, ballot: Ballot) {
        let now = turn.0.now.mono;
        let Some(entry) = self.entries.get_mut(&name) else { return };
        if entry.is_promised(ballot) {
            // The same again: its answer may have been lost. If it is not durable yet it is still to come.
            if entry.pending.is_none() {
                self.answer(turn, ballot.proposer.peer, name, Answered::Promise(ballot));
            }
            return;
        }
        if !entry.exceeds(ballot) {
            return self.refuse(turn, &name, ballot, false);
        }
        let others = entry.live(now).is_some_and(|live| live.ballot.proposer != ballot.proposer);
        // Planted: a standby raises the promise while a lease lives.
        if others && !is_planted(87) {
            let best = entry.parked.is_none_or(|parked| parked <= ballot);
            let worse = if best { entry.parked.replace(ballot) } else { None };
            if let Some(worse) = worse.filter(|worse| *worse != ballot) {
                self.refuse(turn, &name, worse, false);
            }
            return self.refuse(turn, &name, ballot, best);
        }
        self.promise(turn, &name, ballot, Answered::Promise(ballot));
    }

    /// Promises a round, and answers once that is durable.
    fn promise(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        ballot: Ballot,
        answered: Answered,
    ) {
        let seq = self.next_seq();
        let entry = self.entries.get_mut(name).expect("it has just been looked at");
        let is_accepted = matches!(answered, Answered::Accepted(..));
        entry.before = if is_accepted { None } else { Some((entry.round, entry.proposer)) };
        entry.round = ballot.round;
        entry.proposer = Some(ballot.proposer);
        let to = ballot.proposer.peer;
        let pending = Pending { seq, answer: Some((to, answered)) };
        // Planted: nothing waits until it is durable.
        let pending = if is_planted(81) { None } else { Some(pending) };
        let waits = pending.is_some();
        let earlier = std::mem::replace(&mut entry.pending, pending);
        self.undurable.push_back((seq, name.clone()));
        let (round, proposer) = (ballot.round, Some(ballot.proposer));
        let record = Record::Promise { name: name.clone(), round, proposer };
        turn.1.push(AcceptorEffect::Persist { seq, record });
        if !waits {
            self.answer(turn, to, name.clone(), answered);
        }
        // What was to be answered before is worth nothing any more.
        let earlier = earlier.and_then(|earlier| earlier.answer);
        if let Some((_, Answered::Promise(of) | Answered::Accepted(of, _))) = earlier {
            self.refuse(turn, name, of, false);
        }
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        self.persisted += 1;
        self.persisted
    }

    fn propose(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        name: LeaseName,
        ballot: Ballot,
        number: u64,
    ) {
        let now = turn.0.now.mono;
        let until = now + self.config.times.term();
        let Some(entry) = self.entries.get_mut(&name) else { return };
        let others = entry.live(now).is_some_and(|live| live.ballot.proposer != ballot.proposer);
        let is_promised = entry.is_promised(ballot);
        let may = is_promised || entry.exceeds(ballot);
        if others || !may || entry.released == Some(ballot) {
            return self.refuse(turn, &name, ballot, false);
        }
        entry.live = Some(Live { ballot, until });
        entry.before = None;
        if entry.expiry.is_none() {
            entry.expiry = Some(turn.0.arm(until, AcceptorTimer::Expiry(name.clone())));
        }
        let accepted = Answered::Accepted(ballot, number);
        if !is_promised {
            // It did not hear the prepare, or was away. It has promised nothing that this contradicts.
            self.promise(turn, &name, ballot, accepted);
        } else if let Some(pending) = &mut entry.pending {
            pending.answer = Some((ballot.proposer.peer, accepted));
        } else {
            self.answer(turn, ballot.proposer.peer, name, accepted);
        }
    }

    fn release(&mut self, turn: &mut Turn<'_, '_, '_>, name: &LeaseName, ballot: Ballot) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let is_it = |round: u64, whose: Option<ProposerId>| {
            (round, whose) == (ballot.round, Some(ballot.proposer))
        };
        if let Some((round, whose)) = &mut entry.before
            && is_it(*round, *whose)
        {
            *whose = None;
        }
        entry.parked.take_if(|parked| *parked == ballot);
        if entry.is_promised(ballot) {
            entry.give_back();
            entry.released = Some(ballot);
        }
        if entry.live.as_ref().is_some_and(|live| live.ballot == ballot) {
            self.ended(turn, name, true);
        }
    }

    /// No lease lives here any more: the prepare that waited for it is asked for, and if that was not to be
    /// foreseen, who has looked is told.
    fn ended(&mut self, turn: &mut Turn<'_, '_, '_>, name: &LeaseName, released: bool) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.live = None;
        let standbys = std::mem::take(&mut entry.standbys);
        let parked = entry.parked.take();
        if let Some(expiry) = entry.expiry.take() {
            turn.0.disarm(expiry);
        }
        if let Some(ballot) = parked {
            self.prepare(turn, name.clone(), ballot);
        }
        if released && !is_planted(156) {
            let stands = self.stands(turn.0.now.mono, name);
            let told = |to: &PeerId| parked.is_some_and(|parked| parked.proposer.peer == *to);
            let mut standbys: Vec<PeerId> = standbys.into_iter().filter(|to| !told(to)).collect();
            // In the same order at every acceptor: all at once would split the votes, and nobody would lead.
            standbys.sort_unstable();
            let before = u32::from(parked.is_some());
            for (turns, to) in (before..).zip(standbys) {
                let runs_for = stands.runs_for.max(self.config.times.turn() * turns);
                let stands = Peeked { runs_for, ..stands };
                self.answer(turn, to, name.clone(), Answered::Released(stands));
            }
        }
        self.lives_less(turn);
    }

    fn durable(&mut self, turn: &mut Turn<'_, '_, '_>, seq: u64) {
        while let Some((of, name)) = self.undurable.pop_front_if(|(of, _)| *of <= seq) {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            let Some(pending) = entry.pending.take_if(|pending| pending.seq == of) else {
                continue;
            };
            if let Some((to, answered)) = pending.answer {
                self.answer(turn, to, name, answered);
            }
        }
        self.learned_durable(turn, seq);
        self.seals_durable(turn, seq);
    }

    /// Takes in that a round may have been promised, by the disk or by others. Says whether that is new.
    pub(super) fn learn_round(
        &mut self,
        name: LeaseName,
        round: u64,
        proposer: Option<ProposerId>,
    ) -> bool {
        let names = &mut self.names;
        let entry = self.entries.entry(name).or_insert_with(|| {
            if let Some(proposer) = proposer {
                *names.entry(proposer.peer).or_default() += 1;
            }
            Entry::default()
        });
        let is_new = round > entry.round;
        if is_new {
            (entry.round, entry.proposer, entry.before) = (round, proposer, None);
        }
        is_new
    }

    /// All rounds that are promised, by lease.
    pub(super) fn rounds(&self) -> Vec<(LeaseName, u64)> {
        let known = self.entries.iter().filter(|(_, entry)| entry.round > 0);
        known.map(|(name, entry)| (name.clone(), entry.round)).collect()
    }
}

impl Machine for Acceptor {
    type Input = AcceptorInput;
    type Effect = AcceptorEffect;
    type Timer = AcceptorTimer;
    type View<'a> = ();

    fn handle(
        &mut self,
        cx: &mut Context<'_, AcceptorTimer>,
        _: (),
        input: AcceptorInput,
        out: &mut Effects<'_, AcceptorEffect>,
    ) {
        let turn = &mut (cx, out);
        match input {
            AcceptorInput::Start { records, kept } => self.start(turn, records, kept),
            AcceptorInput::Supersede(by) => self.supersede(turn, by),
            AcceptorInput::Seal { from, seal } => self.seal_asked(turn, from, seal),
            AcceptorInput::Sealed { from, sealed } => self.seal_told(turn, from, sealed),
            AcceptorInput::Request { from, account, request } => {
                self.request(turn, (from, account), request);
            }
            AcceptorInput::Learn { from, learn } => {
                let epoch = self.config.acceptors.epoch();
                if learn.epoch == epoch && self.config.acceptors.place(from).is_some() {
                    let learned = Learned {
                        epoch,
                        boot: learn.boot,
                        complete: self.recovery.is_complete(),
                        sealed: self.sealed(),
                        rounds: self.rounds(),
                    };
                    turn.1.push(AcceptorEffect::Learned { to: from, learned });
                }
            }
            AcceptorInput::Learned { from, learned } => self.learned(turn, from, learned),
            AcceptorInput::Durable { seq } => self.durable(turn, seq),
            AcceptorInput::Timer(AcceptorTimer::Expiry(name)) => {
                let now = turn.0.now.mono;
                let Some(entry) = self.entries.get_mut(&name) else { return };
                entry.expiry = None;
                match entry.live(now).map(|live| live.until) {
                    // It was renewed.
                    Some(until) => {
                        entry.expiry = Some(turn.0.arm(until, AcceptorTimer::Expiry(name)));
                    }
                    None => self.ended(turn, &name, false),
                }
            }
            AcceptorInput::Timer(AcceptorTimer::AskAgain) => self.ask_again(turn),
            AcceptorInput::Timer(AcceptorTimer::Abstained) => self.abstained(turn),
            AcceptorInput::Timer(AcceptorTimer::AskSeals) => self.ask_seals(turn),
            AcceptorInput::Timer(AcceptorTimer::Outlived) => self.outlived(turn),
        }
    }

    fn check_invariants(&self) {
        assert!(self.undurable.iter().is_sorted(), "what is not durable yet is in order");
        let charged = self.names.values().sum::<usize>();
        assert!(charged <= self.entries.len(), "an entry is charged once");
        for (name, entry) in &self.entries {
            assert!(entry.live.is_some() == entry.expiry.is_some(), "{name:?} has its timer");
            assert!(entry.standbys.len() <= self.config.standbys_max);
            let Some(live) = &entry.live else {
                assert!(entry.parked.is_none(), "{name:?}: nothing is in the way of a prepare");
                continue;
            };
            assert!(entry.round >= live.ballot.round, "{name:?} is promised");
            // Planted: a standby raises the promise.
            let theirs = entry.proposer == Some(live.ballot.proposer) || is_planted(87);
            assert!(theirs, "{name:?}: nobody else is promised anything while a lease lives");
        }
    }
}
