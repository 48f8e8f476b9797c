//! How other acceptors take over: the old ones are sealed first.
//!
//! A network's acceptors change with its descriptor, which has an epoch of its own for them. Nodes get it at different times;
//! and yet never do acceptors of two epochs let two proposers hold.
//!
//! *An old acceptor* that knows of a later configuration seals itself: on its disk, then in its answers. From when it knows it
//! promises and accepts nothing; a lease that it has accepted ends by itself, or is released.
//!
//! *A new acceptor* takes part once a majority of the old ones is sealed at one time, and whatever lease these had
//! accepted before has ended. Each says with its seal for how long one may live yet: at most for a term. This is counted
//! by the new acceptor's clock as it is: a proposer holds for T (1 - rho) / (1 + rho) by its clock from before it
//! proposed, which is at most T / (1 + rho) in truth from when the old acceptor accepted; of this, what that one does not
//! count any more has passed, and what it still does takes any clock as long.
//!
//! *At one time* means that a seal counts for one term from when it was asked for, and then is asked for again. An acceptor
//! that loses its disk loses its seal with it. It abstains for longer than that, and asks the others *after* it: if a
//! majority was sealed by then, one of those that it hears is, by the same count as for promises (`recovery.rs`), and so it is
//! sealed again. Were they to count for ever, one that is lost between two others' would let the old acceptors go on.
//!
//! *Several changes in a row*: a descriptor names all former sets that may still take part, and each must be sealed. If an
//! acceptor of one of them says that its set began, those before it are out of it for good and need not be asked; and
//! if one of our own set says that it began, nobody need be asked. *Began* is on the disk, so that a new acceptor which
//! restarts need not find old ones, which may be gone.
//!
//! *Given up*: when a majority of an old set is lost for good, an operator may say so in the descriptor. Its seals are not
//! waited for, only [`super::LeaseTimes::abstention`]. If some of it still run and do not know, two may hold at
//! once.
//!
//! Tokens go on growing, for the epoch comes first in them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::acceptor::{Acceptor, Turn};
use super::words::{AcceptorEffect, AcceptorTimer, Answered, Record, Seal, Sealed};
use super::{AcceptorSet, LeaseName};
use crate::base::{MonoTime, PeerId};
use crate::machine::TimerHandle;
use crate::planted::is_planted;

/// So many that asked are told when there is news: the acceptors of two configurations. Others ask again.
const ASKERS_MAX: usize = 2 * AcceptorSet::PEERS_MAX;

/// Whether acceptors take part as far as former ones are concerned.
#[derive(Clone, Copy, Debug, Default)]
enum Began {
    #[default]
    No,
    /// All is as it must be, up to this record that is not durable yet.
    Stores(u64),
    Yes,
}

/// A seal, as an old acceptor has told of it.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// When it was asked for.
    asked: MonoTime,
    /// Until when a lease may live there.
    until: MonoTime,
}

/// What a new acceptor knows of those before it, and what an old one has done with itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Seals {
    began: Began,
    /// By the epoch of the set, and the acceptor.
    heard: BTreeMap<(u64, PeerId), Heard>,
    /// Former sets that nobody holds a lease of any more, from a time on.
    outlived: BTreeMap<u64, MonoTime>,
    /// The latest former set that has begun, as one of it says.
    latest_begun: Option<u64>,
    outlived_timer: Option<TimerHandle>,
    /// The epoch that this acceptor is sealed by. Durable.
    sealed: Option<u64>,
    /// As it will be, once this record is durable.
    sealing: Option<(u64, u64)>,
    /// Until when leases may live that an earlier life has accepted.
    pub(super) earlier_until: MonoTime,
    /// Who has asked, and what.
    askers: BTreeMap<PeerId, Seal>,
    /// Proposers that asked before it has begun, and for which lease.
    early: BTreeSet<(LeaseName, PeerId)>,
}

impl Seals {
    pub(super) fn hash_at<H: Hasher>(&self, now: MonoTime, term: Duration, state: &mut H) {
        // Of a seal that does not count any more the age does not matter, and who has asked asks again.
        let age = |asked: MonoTime| now.since(asked).min(term);
        std::mem::discriminant(&self.began).hash(state);
        for (of, heard) in &self.heard {
            (of, age(heard.asked), heard.until.since(now)).hash(state);
        }
        for (epoch, until) in &self.outlived {
            (epoch, until.since(now)).hash(state);
        }
        (self.latest_begun, self.sealed, self.sealing.map(|(_, by)| by)).hash(state);
        self.earlier_until.since(now).hash(state);
    }
}

impl Acceptor {
    /// The epoch of the configuration that has sealed this acceptor, once that is durable.
    pub fn sealed(&self) -> Option<u64> {
        self.seals.sealed
    }

    /// Whether it takes no part any more, or will not in a moment.
    pub fn is_superseded(&self) -> bool {
        self.seals.sealed.is_some() || self.seals.sealing.is_some()
    }

    /// Whether it is known that acceptors of former configurations are out of it for good. True if there are none.
    pub fn has_begun(&self) -> bool {
        matches!(self.seals.began, Began::Yes)
    }

    /// The epochs of former configurations of which no majority is known to be sealed.
    pub fn waits_for(&self) -> Vec<u64> {
        if !matches!(self.seals.began, Began::No) {
            return Vec::new();
        }
        let epochs = self.config.formers.iter().map(|former| former.acceptors.epoch());
        epochs.filter(|epoch| self.needs(*epoch)).collect()
    }

    /// Whether a former set is still to be sealed.
    fn needs(&self, epoch: u64) -> bool {
        let is_outlived = self.seals.outlived.contains_key(&epoch);
        !is_outlived && self.seals.latest_begun.is_none_or(|begun| begun <= epoch)
    }

    /// How long it waits for those before it yet, at least.
    pub(super) fn waits_for_others(&self, now: MonoTime) -> Duration {
        if self.has_begun() {
            return Duration::ZERO;
        }
        let known = self.seals.outlived.values().map(|until| until.since(now)).max();
        known.unwrap_or_default().max(self.config.times.resend_interval())
    }

    /// A proposer asks before it has begun: it is told when it takes part.
    pub(super) fn note_early(&mut self, from: PeerId, name: &LeaseName) {
        if !self.has_begun() && self.seals.early.len() < self.config.leases_max {
            self.seals.early.insert((name.clone(), from));
        }
    }

    /// It takes part. Who has asked before may ask again.
    pub(super) fn tell_early(&mut self, turn: &mut Turn<'_, '_, '_>) {
        for (name, to) in std::mem::take(&mut self.seals.early) {
            let stands = self.stands(turn.0.now.mono, &name);
            self.answer(turn, to, name, Answered::Released(stands));
        }
    }

    /// The beginning of a life.
    pub(super) fn start_seals(&mut self, turn: &mut Turn<'_, '_, '_>, began: bool) {
        let now = turn.0.now.mono;
        if began || self.config.formers.is_empty() {
            self.seals.began = Began::Yes;
            return;
        }
        for former in self.config.formers.iter().filter(|former| former.abandoned) {
            let until = now + self.config.times.abstention();
            self.seals.outlived.insert(former.acceptors.epoch(), until);
        }
        self.ask_seals(turn);
        self.look_whether_sealed(turn);
    }

    /// What the disk says.
    pub(super) fn was_sealed(&mut self, by: u64) {
        self.seals.sealed = self.seals.sealed.max(Some(by));
    }

    // A new acceptor.

    /// Asks those of former configurations that are not out of it yet, and our own.
    pub(super) fn ask_seals(&mut self, turn: &mut Turn<'_, '_, '_>) {
        if !matches!(self.seals.began, Began::No) || self.is_superseded() {
            return;
        }
        let now = turn.0.now.mono;
        let by = self.config.acceptors.epoch();
        let seal = |of| Seal { of, by, boot: self.boot, asked: now };
        for former in self.config.formers.iter().filter(|former| !former.abandoned) {
            let set = &former.acceptors;
            // Until all that lives there has ended it may hear that it was released.
            let outlived = self.seals.outlived.get(&set.epoch()).is_some_and(|until| *until <= now);
            if !outlived && self.seals.latest_begun.is_none_or(|begun| begun <= set.epoch()) {
                for to in set.peers() {
                    turn.1.push(AcceptorEffect::Seal { to: *to, seal: seal(set.epoch()) });
                }
            }
        }
        for to in self.config.acceptors.peers().iter().filter(|to| **to != self.id) {
            turn.1.push(AcceptorEffect::Seal { to: *to, seal: seal(by) });
        }
        turn.0.arm(now + self.config.times.resend_interval(), AcceptorTimer::AskSeals);
    }

    /// Another acceptor says whether it is sealed, or has begun.
    pub(super) fn seal_told(&mut self, turn: &mut Turn<'_, '_, '_>, from: PeerId, told: Sealed) {
        let (now, epoch) = (turn.0.now.mono, self.config.acceptors.epoch());
        let Sealed { seal, began, runs_for } = told;
        let is_ours = (seal.by, seal.boot) == (epoch, self.boot) && seal.asked <= now;
        if !is_ours || !matches!(self.seals.began, Began::No) {
            return;
        }
        if seal.of == epoch {
            if began && self.config.acceptors.place(from).is_some() {
                self.begin(turn);
            }
            return;
        }
        let former = self.config.formers.iter().find(|f| f.acceptors.epoch() == seal.of);
        if former.is_none_or(|former| former.acceptors.place(from).is_none()) {
            return;
        }
        // Nothing lives for longer.
        let runs_for = runs_for.map(|runs_for| runs_for.min(self.config.times.term()));
        if began {
            self.seals.latest_begun = self.seals.latest_begun.max(Some(seal.of));
        }
        let key = (seal.of, from);
        let known = self.seals.heard.get(&key).copied();
        let Some(known) = known.filter(|known| known.asked >= seal.asked) else {
            match runs_for {
                // What was said before counts no more: there may have been a lost disk since.
                Some(runs_for) => {
                    let heard = Heard { asked: seal.asked, until: now + runs_for };
                    self.seals.heard.insert(key, heard);
                }
                None => {
                    self.seals.heard.remove(&key);
                }
            }
            return self.look_whether_sealed(turn);
        };
        if let Some(runs_for) = runs_for.filter(|_| known.asked == seal.asked) {
            let until = known.until.min(now + runs_for);
            self.seals.heard.insert(key, Heard { until, ..known });
            self.look_whether_sealed(turn);
        }
    }

    fn look_whether_sealed(&mut self, turn: &mut Turn<'_, '_, '_>) {
        if !matches!(self.seals.began, Began::No) || self.is_superseded() {
            return;
        }
        let (now, term) = (turn.0.now.mono, self.config.times.term());
        for former in self.config.formers.iter().filter(|former| !former.abandoned) {
            let set = &former.acceptors;
            let of_set = self.seals.heard.range((set.epoch(), PeerId::from_bytes([0; 32]))..);
            let of_set = of_set.take_while(|((epoch, _), _)| *epoch == set.epoch());
            let counts = |heard: &Heard| now < heard.asked + term;
            let counted = of_set.filter(|(_, heard)| counts(heard));
            let mut untils: Vec<MonoTime> = counted.map(|(_, heard)| heard.until).collect();
            untils.sort();
            // Planted: one seal is enough.
            let needed = if is_planted(131) { 1 } else { set.majority() };
            let Some(until) = untils.get(needed - 1) else { continue };
            // Planted: it does not wait for what lives there.
            let until = if is_planted(130) { now } else { *until };
            let known = self.seals.outlived.entry(set.epoch()).or_insert(until);
            *known = until.min(*known);
        }
        // Planted: those before the last need not be sealed.
        let earlier = self.config.formers.len().saturating_sub(1);
        let skipped = if is_planted(136) { earlier } else { 0 };
        let formers = self.config.formers.iter().skip(skipped).map(|f| f.acceptors.epoch());
        let mut at = now;
        for epoch in formers {
            if self.needs(epoch) {
                return;
            }
            if self.seals.latest_begun.is_none_or(|begun| begun <= epoch) {
                at = at.max(self.seals.outlived[&epoch]);
            }
        }
        if at <= now {
            return self.begin(turn);
        }
        if let Some(timer) = self.seals.outlived_timer.take() {
            turn.0.disarm(timer);
        }
        self.seals.outlived_timer = Some(turn.0.arm(at, AcceptorTimer::Outlived));
    }

    /// What lived at former acceptors may have ended.
    pub(super) fn outlived(&mut self, turn: &mut Turn<'_, '_, '_>) {
        self.seals.outlived_timer = None;
        self.look_whether_sealed(turn);
    }

    fn begin(&mut self, turn: &mut Turn<'_, '_, '_>) {
        let seq = self.next_seq();
        self.seals.began = Began::Stores(seq);
        (self.seals.heard, self.seals.outlived) = Default::default();
        if let Some(timer) = self.seals.outlived_timer.take() {
            turn.0.disarm(timer);
        }
        turn.1.push(AcceptorEffect::Persist { seq, record: Record::Began });
    }

    // An old acceptor.

    /// There is a configuration of a later epoch.
    pub(super) fn supersede(&mut self, turn: &mut Turn<'_, '_, '_>, by: u64) {
        let known = self.seals.sealed.max(self.seals.sealing.map(|(_, by)| by));
        if by <= self.config.acceptors.epoch() || known.is_some_and(|known| known >= by) {
            return;
        }
        let seq = self.next_seq();
        self.seals.sealing = Some((seq, by));
        turn.1.push(AcceptorEffect::Persist { seq, record: Record::Sealed(by) });
        self.unpark();
    }

    /// Another acceptor asks. Whoever it is, it hears only what there is.
    pub(super) fn seal_asked(&mut self, turn: &mut Turn<'_, '_, '_>, from: PeerId, seal: Seal) {
        let epoch = self.config.acceptors.epoch();
        if seal.of != epoch || seal.by < epoch {
            return;
        }
        if self.seals.askers.len() < ASKERS_MAX || self.seals.askers.contains_key(&from) {
            self.seals.askers.insert(from, seal);
        }
        self.tell_seal(turn, from, seal);
    }

    fn tell_seal(&self, turn: &mut Turn<'_, '_, '_>, to: PeerId, seal: Seal) {
        let now = turn.0.now.mono;
        let runs_for = self.seals.sealed.map(|_| {
            let live = self.lives_until().unwrap_or_default();
            live.max(self.seals.earlier_until).since(now)
        });
        let sealed = Sealed { seal, began: self.has_begun(), runs_for };
        turn.1.push(AcceptorEffect::Sealed { to, sealed });
    }

    fn tell_askers(&self, turn: &mut Turn<'_, '_, '_>) {
        for (to, seal) in &self.seals.askers {
            self.tell_seal(turn, *to, *seal);
        }
    }

    /// A lease that lived here does not any more.
    pub(super) fn lives_less(&self, turn: &mut Turn<'_, '_, '_>) {
        if self.seals.sealed.is_some() {
            self.tell_askers(turn);
        }
    }

    /// What is durable may be a seal, or that it has begun.
    pub(super) fn seals_durable(&mut self, turn: &mut Turn<'_, '_, '_>, seq: u64) {
        if let Some((_, by)) = self.seals.sealing.take_if(|(of, _)| *of <= seq) {
            self.seals.sealed = Some(by);
            // Who holds a lease of ours cannot keep it: the sooner it is given up, the sooner the next one begins.
            let live: Vec<(LeaseName, PeerId)> = self.holders(turn.0.now.mono);
            for (name, holder) in live {
                self.answer(turn, holder, name, Answered::Sealed(by));
            }
            self.tell_askers(turn);
        }
        if matches!(self.seals.began, Began::Stores(of) if of <= seq) {
            self.seals.began = Began::Yes;
            self.tell_askers(turn);
            self.say_ready(turn);
        }
    }
}
