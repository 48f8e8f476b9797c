//! How a proposer comes to a lease: it waits, looks, prepares and proposes.
//!
//! It *looks* first, which has no consequences: a prepare that some acceptor promises would end, there, the lease of
//! a holder whose renewals it has missed. It prepares once a majority is free, or will be within a part of a
//! round, so that its prepare is parked when the lease ends and the answers come at that moment. Until then it
//! looks again shortly before each end that it is told: as long as the holder lives, the lease is renewed by then.
//!
//! Each round has a number of its own, above all that are known. A round that takes longer than
//! [`super::LeaseTimes::round_max`] is abandoned. That time counts anew, once, with the first promise for which a lease had
//! to end; so a promise counts for at most twice that long, which is less than an acceptor abstains: what it has
//! forgotten is not counted any more.

use std::time::Duration;

use super::proposer::{Heard, Phase, Proposer, Turn, Vote, Wanted};
use super::words::{Ask, Peeked};
use super::{Ballot, LeaseName};
use crate::base::Label;

impl Proposer {
    /// So much, or up to as much again. Others that wait for the same do not choose the same.
    fn jittered(turn: &mut Turn<'_, '_, '_>, wait: Duration) -> Duration {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        wait + Duration::from_nanos(turn.cx.draw_below(Label::Lease, nanos.max(1)))
    }

    /// Waits between a tenth and a fifth of a round's time: a failed round's rivals are done by then, or gone.
    pub(super) fn wait_a_little(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
    ) {
        wanted.phase = Phase::Waits;
        let wait = Self::jittered(turn, self.config.times.round_max() / 10);
        turn.step_in(name, wanted, wait);
    }

    /// Waits for a renewal's interval or two: nothing is to be had before others come.
    pub(super) fn wait_long(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
    ) {
        wanted.phase = Phase::Waits;
        let wait = Self::jittered(turn, self.config.times.renew_interval());
        turn.step_in(name, wanted, wait);
    }

    /// Asks how the lease stands, without consequences.
    pub(super) fn look(&self, turn: &mut Turn<'_, '_, '_>, name: &LeaseName, wanted: &mut Wanted) {
        wanted.phase = Phase::Looks(Default::default());
        wanted.told_before = wanted.told;
        self.ask(turn, name, wanted, Ask::Peek, Heard::default());
        let wait = Self::jittered(turn, self.config.times.round_max() / 2);
        turn.step_in(name, wanted, wait);
    }

    /// An acceptor says how the lease stands.
    pub(super) fn looked(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
        (place, stands): (usize, Peeked),
    ) {
        let round_max = self.config.times.round_max();
        let Phase::Looks(said) = &mut wanted.phase else { return };
        // Our own lease is in nobody's way but that of others.
        let ours = stands.holder == Some(self.id);
        said[place] = Some(if ours { Duration::ZERO } else { stands.runs_for });
        let mut told: Vec<Duration> = said.iter().flatten().copied().collect();
        let majority = wanted.config.acceptors.majority();
        if told.len() < majority {
            return;
        }
        told.sort();
        let free_in = told[majority - 1];
        // Somebody has been promised a round just now, or will be if it is parked, and has not come to an end: a prepare
        // that comes in the midst of that would be in its way, and then neither might get a majority where one acceptor is
        // dead.
        let its_turn = self.config.times.turn();
        let is_begun = told[0].is_zero() && wanted.told > wanted.told_before;
        if free_in <= its_turn && (is_begun || !free_in.is_zero()) {
            wanted.phase = Phase::Waits;
            return turn.step_in(name, wanted, free_in + its_turn);
        }
        if free_in <= round_max * 3 / 4 {
            return self.prepare(turn, name, wanted);
        }
        // Shortly before it ends, and not all at once: a half to three quarters of a round's time.
        let before = Self::jittered(turn, round_max / 4) + round_max / 4;
        wanted.phase = Phase::Waits;
        turn.step_in(name, wanted, free_in.saturating_sub(before));
    }

    fn prepare(&self, turn: &mut Turn<'_, '_, '_>, name: &LeaseName, wanted: &mut Wanted) {
        if wanted.round >= Ballot::ROUND_MAX {
            // Somebody has used the rounds up. Nobody leads until there is another configuration.
            return self.wait_a_little(turn, name, wanted);
        }
        wanted.round += 1;
        let ballot = Ballot { round: wanted.round, proposer: self.id };
        wanted.phase = Phase::Prepares {
            ballot,
            promised: Heard::default(),
            refused: Heard::default(),
            parked: Heard::default(),
            extended: false,
        };
        turn.step_in(name, wanted, self.config.times.round_max());
        turn.resend_in(name, wanted, self.config.times.resend_interval());
        self.ask(turn, name, wanted, Ask::Prepare(ballot), Heard::default());
    }

    /// An acceptor has promised a round.
    pub(super) fn promised(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
        (place, of): (usize, Ballot),
    ) {
        let Phase::Prepares { ballot, promised, parked, extended, .. } = &mut wanted.phase else {
            return;
        };
        if *ballot != of {
            return;
        }
        promised.add(place);
        let (ballot, promised) = (*ballot, *promised);
        if parked.has(place) && !std::mem::replace(extended, true) {
            turn.step_in(name, wanted, self.config.times.round_max());
        }
        if promised.count() < wanted.config.acceptors.majority() {
            return;
        }
        // The time counts from before anything is sent.
        let vote = Vote { number: 0, start: turn.now(), heard: Heard::default() };
        wanted.phase = Phase::Proposes { ballot, vote, refused: Heard::default() };
        turn.resend_in(name, wanted, self.config.times.resend_interval());
        self.ask(turn, name, wanted, Ask::Propose(ballot, 0), Heard::default());
    }

    /// An acceptor has refused a round.
    pub(super) fn refused(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
        (place, of, is_parked, stands): (usize, Ballot, bool, Peeked),
    ) {
        let refusals = match &mut wanted.phase {
            Phase::Prepares { ballot, refused, parked, .. } if *ballot == of => {
                // It is worth waiting for, if that ends soon enough.
                if is_parked && stands.runs_for <= self.config.times.round_max() {
                    parked.add(place);
                    return;
                }
                refused
            }
            Phase::Proposes { ballot, refused, .. } if *ballot == of => refused,
            // A holder that is refused goes on for as long as it holds: others may accept.
            _ => return,
        };
        refusals.add(place);
        let acceptors = &wanted.config.acceptors;
        if refusals.count() > acceptors.peers().len() - acceptors.majority() {
            // It cannot come to a majority any more.
            self.give_up(turn, name, wanted);
            self.move_on(turn, name, wanted);
        }
    }

    /// What was to come next comes now.
    pub(super) fn step(&self, turn: &mut Turn<'_, '_, '_>, name: &LeaseName, wanted: &mut Wanted) {
        match wanted.phase {
            // If nobody answers it looks again, as often as it takes.
            Phase::Waits | Phase::Looks(_) => self.look(turn, name, wanted),
            Phase::Prepares { .. } | Phase::Proposes { .. } => {
                self.give_up(turn, name, wanted);
                self.move_on(turn, name, wanted);
            }
            Phase::Holds { .. } => self.renew(turn, name, wanted),
        }
    }

    /// Sends again what is not answered. The time of a proposal still counts from when it was sent first.
    pub(super) fn resend(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
    ) {
        let majority = wanted.config.acceptors.majority();
        let (ask, heard) = match &wanted.phase {
            Phase::Waits | Phase::Looks(_) => return,
            Phase::Prepares { ballot, promised, .. } => (Ask::Prepare(*ballot), *promised),
            Phase::Proposes { ballot, vote, .. } => (Ask::Propose(*ballot, 0), vote.heard),
            Phase::Holds { ballot, vote, .. } => (Ask::Propose(*ballot, vote.number), vote.heard),
        };
        if heard.count() < wanted.config.acceptors.peers().len() {
            self.ask(turn, name, wanted, ask, heard);
        }
        // Once a majority has answered it is for the others' sake, and once is enough.
        if heard.count() < majority {
            turn.resend_in(name, wanted, self.config.times.resend_interval());
        }
    }
}
