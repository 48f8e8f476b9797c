//! What an acceptor does before it takes part again.
//!
//! *After a restart* it knows its promises, from its disk, but not the leases that it had accepted: those it
//! does not store, for they end by themselves. It abstains until they have. Its own term would do for that, and
//! the longer [`super::LeaseTimes::abstention`] also outlasts, by any two clocks, the rounds that were under way.
//!
//! *Without its disk* it does not know what it has promised. A round that was granted was promised by a majority, f of
//! them others, so it asks the others until f + 1 of them which know all that they promised have
//! answered, or all of them: one of these knows. At most f acceptors may be in this state at one time. A new
//! network's acceptors all are, and all answer each other.
//!
//! It asks *after* it has abstained, and not before: a promise that it has forgotten may be counted for as long as
//! that, together with others' that come later than its question. (Found by exploration: two disks that are lost one
//! after the other, the second once the first had asked, let two majorities accept one round.)
//!
//! If one of those says that it is sealed, so is whoever asks (`seals.rs`), and there is nothing more to learn.
//!
//! What it learns are rounds, and not whose they are: two others may have promised one round to
//! two proposers, neither of which got it. So what is learned counts as promised to nobody. It accepts no lease of
//! that round and none below it, and joins in with the next grant.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::acceptor::{Acceptor, Turn};
use super::words::{AcceptorEffect, AcceptorTimer, Learn, Learned, Record};
use crate::base::{MonoTime, PeerId};
use crate::planted::is_planted;

/// How far it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Recovery {
    knows: Knows,
    /// Until when it abstains.
    until: MonoTime,
    /// Whether it was said that it takes part.
    said: bool,
}

/// What it knows of what it has promised.
#[derive(Clone, Debug, Default)]
enum Knows {
    /// It has not started.
    #[default]
    Nothing,
    /// The others are asked. Who has answered, and whether they know all that they have promised.
    Asks(BTreeMap<PeerId, bool>),
    /// It has learned all; up to this record that is not durable yet.
    Stores(u64),
    /// All.
    All,
}

impl Recovery {
    pub(super) fn is_over(&self, now: MonoTime) -> bool {
        self.is_complete() && now >= self.until
    }

    /// Whether it knows all that it has promised.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.knows, Knows::All)
    }

    pub(super) fn hash_at<H: Hasher>(&self, now: MonoTime, state: &mut H) {
        self.until.since(now).hash(state);
        match &self.knows {
            Knows::Nothing => state.write_u8(0),
            Knows::Asks(heard) => (1u8, heard).hash(state),
            Knows::Stores(_) => state.write_u8(2),
            Knows::All => state.write_u8(3),
        }
    }
}

impl Acceptor {
    /// How long it takes no part yet, at least.
    pub(super) fn abstains_for(&self, now: MonoTime) -> Duration {
        let learns = match self.recovery.is_complete() {
            true => Duration::ZERO,
            false => self.config.times.resend_interval(),
        };
        self.recovery.until.since(now).max(learns)
    }

    pub(super) fn start(&mut self, turn: &mut Turn<'_, '_, '_>, records: Vec<Record>, kept: bool) {
        assert!(matches!(self.recovery.knows, Knows::Nothing), "it starts once");
        let now = turn.0.now.mono;
        let kept = kept && records.is_empty();
        let (mut complete, mut began) = (false, false);
        for record in records {
            match record {
                Record::Promise { name, round, proposer } => {
                    self.learn_round(name, round, proposer);
                }
                Record::Complete => complete = true,
                Record::Began => began = true,
                Record::Sealed(by) => self.was_sealed(by),
            }
        }
        if kept {
            // There is nothing that it could have forgotten.
            let seq = self.next_seq();
            self.recovery.knows = Knows::Stores(seq);
            turn.1.push(AcceptorEffect::Persist { seq, record: Record::Complete });
            return self.start_seals(turn, began);
        }
        self.seals.earlier_until = now + self.config.times.term();
        let abstains = self.config.times.abstention();
        // Planted: it takes part at once.
        let abstains = if is_planted(80) { Duration::ZERO } else { abstains };
        self.recovery.until = now + abstains;
        turn.0.arm(self.recovery.until, AcceptorTimer::Abstained);
        // Planted: what a new disk does not have was never promised.
        if complete || is_planted(88) {
            self.recovery.knows = Knows::All;
        } else {
            self.recovery.knows = Knows::Asks(BTreeMap::new());
        }
        self.start_seals(turn, began);
    }

    /// Asks the others that have not answered.
    pub(super) fn ask_again(&mut self, turn: &mut Turn<'_, '_, '_>) {
        let Knows::Asks(heard) = &self.recovery.knows else { return };
        if self.is_superseded() {
            return;
        }
        let learn = Learn { epoch: self.config.acceptors.epoch(), boot: self.boot };
        for peer in self.config.acceptors.peers() {
            if *peer != self.id && !heard.contains_key(peer) {
                turn.1.push(AcceptorEffect::Learn { to: *peer, learn });
            }
        }
        let again = turn.0.now.mono + self.config.times.resend_interval();
        turn.0.arm(again, AcceptorTimer::AskAgain);
    }

    pub(super) fn learned(&mut self, turn: &mut Turn<'_, '_, '_>, from: PeerId, learned: Learned) {
        let is_ours = (learned.epoch, learned.boot) == (self.config.acceptors.epoch(), self.boot);
        let is_acceptor = from != self.id && self.config.acceptors.place(from).is_some();
        let Knows::Asks(heard) = &mut self.recovery.knows else { return };
        if !is_ours || !is_acceptor || turn.0.now.mono < self.recovery.until {
            return;
        }
        if let Some(by) = learned.sealed {
            // It may have been one of a majority: it is one again.
            return self.supersede(turn, by);
        }
        heard.insert(from, learned.complete);
        // Acceptors are trusted; and yet what comes in one message is no more than we have room for.
        for (name, round) in learned.rounds.into_iter().take(self.config.leases_max) {
            if !self.learn_round(name.clone(), round, None) {
                continue;
            }
            let seq = self.next_seq();
            let record = Record::Promise { name, round, proposer: None };
            turn.1.push(AcceptorEffect::Persist { seq, record });
        }
        self.look_whether_learned(turn);
    }

    fn look_whether_learned(&mut self, turn: &mut Turn<'_, '_, '_>) {
        let Knows::Asks(heard) = &self.recovery.knows else { return };
        if self.is_superseded() {
            return;
        }
        let knowing = heard.values().filter(|complete| **complete).count();
        let acceptors = &self.config.acceptors;
        if knowing < acceptors.majority() && heard.len() + 1 < acceptors.peers().len() {
            return;
        }
        let seq = self.next_seq();
        self.recovery.knows = Knows::Stores(seq);
        turn.1.push(AcceptorEffect::Persist { seq, record: Record::Complete });
    }

    /// What is durable may be what was learned.
    pub(super) fn learned_durable(&mut self, turn: &mut Turn<'_, '_, '_>, seq: u64) {
        if matches!(self.recovery.knows, Knows::Stores(all) if all <= seq) {
            self.recovery.knows = Knows::All;
            self.say_ready(turn);
        }
    }

    /// It has abstained for long enough: it asks what it has to learn, or takes part.
    pub(super) fn abstained(&mut self, turn: &mut Turn<'_, '_, '_>) {
        self.ask_again(turn);
        self.look_whether_learned(turn);
        self.say_ready(turn);
    }

    pub(super) fn say_ready(&mut self, turn: &mut Turn<'_, '_, '_>) {
        if self.is_ready(turn.0.now.mono) && !self.recovery.said {
            self.recovery.said = true;
            turn.1.push(AcceptorEffect::Ready);
            self.tell_early(turn);
        }
    }
}
