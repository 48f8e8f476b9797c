//! How a proposer keeps a lease: it renews it each third of the term, by majorities of their own.
//!
//! A renewal has a number, and its answers count for no other: an acceptor that has accepted the last one is bound
//! for a time that began with the last one. Of each acceptor one answer counts. Once a majority has
//! accepted, the lease is held for [`super::LeaseTimes::hold`] from when that renewal was *first* sent, whichever of its
//! sendings was answered.

use super::proposer::{Heard, Phase, Proposer, Turn, Vote, Wanted};
use super::words::{Ask, ProposerEffect, ProposerTimer};
use super::{Ballot, LeaseName};
use crate::planted::is_planted;

impl Proposer {
    /// An acceptor has accepted a proposal.
    pub(super) fn accepted(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
        (place, of, number): (usize, Ballot, u64),
    ) {
        let (Phase::Proposes { ballot, vote, .. } | Phase::Holds { ballot, vote, .. }) =
            &mut wanted.phase
        else {
            return;
        };
        // Planted: answers count for whatever was proposed last.
        if *ballot != of || (vote.number != number && !is_planted(83)) {
            return;
        }
        vote.heard.add(place);
        let (ballot, vote) = (*ballot, *vote);
        // Planted: the time counts from when it is accepted.
        let start = if is_planted(85) { turn.now() } else { vote.start };
        let until = start + self.config.times.hold();
        if vote.heard.count() < wanted.config.acceptors.majority() || until <= turn.now() {
            return;
        }
        match &mut wanted.phase {
            Phase::Holds { until: end, .. } => *end = until.max(*end),
            _ => {
                wanted.phase = Phase::Holds { ballot, until, vote };
                wanted.holder = Some(self.id);
                self.arm_end(turn, name, wanted);
                let next = vote.start + self.config.times.renew_interval();
                turn.step_in(name, wanted, next.since(turn.now()));
                let token = wanted.token(ballot);
                turn.out.push(ProposerEffect::Granted { name: name.clone(), token, until });
            }
        }
    }

    /// Begins the next renewal. What the last one has not come to it does not come to any more.
    pub(super) fn renew(&self, turn: &mut Turn<'_, '_, '_>, name: &LeaseName, wanted: &mut Wanted) {
        let start = turn.now();
        let Phase::Holds { ballot, vote, .. } = &mut wanted.phase else { return };
        let number = vote.number + 1;
        *vote = Vote { number, start, heard: Heard::default() };
        let ballot = *ballot;
        turn.step_in(name, wanted, self.config.times.renew_interval());
        turn.resend_in(name, wanted, self.config.times.resend_interval());
        self.ask(turn, name, wanted, Ask::Propose(ballot, number), Heard::default());
    }

    /// Waits for the end of the lease as it is known now. Renewals do not touch the timer: it comes early, and is
    /// armed again.
    pub(super) fn arm_end(
        &self,
        turn: &mut Turn<'_, '_, '_>,
        name: &LeaseName,
        wanted: &mut Wanted,
    ) {
        if let Phase::Holds { until, .. } = wanted.phase {
            turn.disarm(wanted.end.take());
            wanted.end = Some(turn.cx.arm(until, ProposerTimer::End(name.clone())));
        }
    }
}
