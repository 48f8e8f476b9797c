//! How a call has two attempts at a time, and how it comes to have one again. The rules: [`crate::rpc::hedge`].

use crate::base::{CallKey, Effects, PeerKey};
use crate::machine::{Context, TimerHandle};
use crate::planted::is_planted;
use crate::rpc::caller::{Call, Caller, CallerEffect, CallerTimer, InFlight, LegEnd, Stage};
use crate::rpc::outcome::{Executed, Failure};
use crate::rpc::retry::ATTEMPTS_MAX;

/// The second attempt of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Second {
    /// It is made when this timer expires, if there is one.
    Due(Option<TimerHandle>),
    /// Under way.
    Leg(Leg),
    /// There was one, or there will be none.
    Over,
}

/// An attempt that is under way to a peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Leg {
    pub(super) peer: PeerKey,
    /// Its number; none while it waits for the peer's link or credit.
    pub(super) sequence: Option<u64>,
    /// Whether a transport has taken it.
    pub(super) sent: bool,
}

impl Call {
    /// The first attempt, if it is under way to a peer.
    pub(super) fn first(&self) -> Option<Leg> {
        match self.stage {
            Stage::Waiting(peer) => Some(Leg { peer, sequence: None, sent: false }),
            Stage::Numbered { peer, sequence } => {
                Some(Leg { peer, sequence: Some(sequence), sent: self.sent })
            }
            _ => None,
        }
    }

    fn set_first(&mut self, leg: Leg) {
        let peer = leg.peer;
        self.stage = match leg.sequence {
            Some(sequence) => Stage::Numbered { peer, sequence },
            None => Stage::Waiting(peer),
        };
        self.sent = leg.sent;
    }

    /// The second attempt, if it is under way.
    pub(super) fn second(&self) -> Option<Leg> {
        match self.hedge.as_deref()?.1 {
            Second::Leg(leg) => Some(leg),
            _ => None,
        }
    }

    fn set_second(&mut self, second: Second) {
        if let Some(hedge) = &mut self.hedge {
            hedge.1 = second;
        }
    }

    /// The attempt that is under way to this peer.
    pub(super) fn leg_at(&self, peer: PeerKey) -> Option<Leg> {
        let is_it = |leg: &Leg| leg.peer == peer;
        self.first().filter(is_it).or_else(|| self.second().filter(is_it))
    }

    /// Changes the attempt that is under way to this peer.
    pub(super) fn set_leg(&mut self, leg: Leg) {
        if self.first().is_some_and(|first| first.peer == leg.peer) {
            self.set_first(leg);
        } else {
            self.set_second(Second::Leg(leg));
        }
    }

    /// The timer of an attempt that is not made yet.
    pub(super) fn hedge_timer(&self) -> Option<TimerHandle> {
        match self.hedge.as_deref()?.1 {
            Second::Due(timer) => timer,
            _ => None,
        }
    }
}

/// Whether a call was not attempted as often as may be.
fn may_have_another(call: &Call) -> bool {
    call.attempt < ATTEMPTS_MAX || is_planted(146)
}

impl Caller {
    /// The first attempt goes to a peer: from now on its time counts.
    pub(super) fn arm_hedge(&mut self, cx: &mut Context<'_, CallerTimer>, key: CallKey) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let deadline = call.deadline;
        let Some(hedge) = call.hedge.as_deref_mut() else { return };
        let Second::Due(armed) = &mut hedge.1 else { return };
        if let Some(timer) = armed.take() {
            cx.disarm(timer);
        }
        let at = cx.now.mono + hedge.0;
        if at < deadline {
            *armed = Some(cx.arm(at, CallerTimer::Hedge(key)));
        }
    }

    /// The time has come for a second attempt.
    pub(super) fn hedge_is_due(&mut self, key: CallKey, out: &mut Effects<'_, CallerEffect>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.set_second(Second::Due(None));
        let Some(hedge) = call.hedge.as_deref() else { return };
        // What is not under way is about to be made again, and begins to wait then.
        if call.first().is_some() && may_have_another(call) {
            let (path, waited) = (call.path.clone(), hedge.0);
            call.set_second(Second::Over);
            out.push(CallerEffect::Hedge { call: key, path, waited });
        }
    }

    /// Another instance was found.
    pub(super) fn hedged(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        key: CallKey,
        peer: PeerKey,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        self.remember(peer);
        let Some(call) = self.calls.get_mut(key) else { return };
        let calls = self.peers.get_mut(peer).expect("just remembered");
        // Meanwhile it may have failed, been made again as often as may be, or gone there anyway.
        let is_elsewhere = |first: Leg| first.peer != peer || is_planted(144);
        let goes = may_have_another(call) && call.first().is_some_and(is_elsewhere);
        if !goes || calls.waiting.len() >= self.waiting_per_peer_max {
            return out.push(CallerEffect::LegOver { call: key, peer, end: LegEnd::Unsent });
        }
        call.attempt += 1;
        let leg = Leg { peer, sequence: None, sent: false };
        call.hedge.as_mut().expect("it was asked for").1 = Second::Leg(leg);
        calls.waiting.push_back(key);
        self.send_waiting(cx, peer, out);
    }

    /// One of two attempts has come to nothing, and nothing is left of it: the call waits for the other. False if there
    /// is no other.
    pub(super) fn lose_leg(
        &mut self,
        key: CallKey,
        peer: PeerKey,
        (failure, executed): (Failure, Executed),
        out: &mut Effects<'_, CallerEffect>,
    ) -> bool {
        let Some(call) = self.calls.get_mut(key) else { return false };
        let Some(second) = call.second() else { return false };
        call.in_doubt |= executed != Executed::No;
        if second.peer != peer {
            call.set_first(second);
        }
        call.set_second(Second::Over);
        let end = LegEnd::Failed(failure, executed);
        out.push(CallerEffect::LegOver { call: key, peer, end });
        true
    }

    /// The attempt at this peer is answered: the other one, if there is one, is cancelled. The call ends behind this.
    pub(super) fn outrun(
        &mut self,
        key: CallKey,
        winner: PeerKey,
        out: &mut Effects<'_, CallerEffect>,
    ) -> Option<PeerKey> {
        let call = self.calls.get_mut(key)?;
        let (first, second) = (call.first()?, call.second()?);
        call.set_second(Second::Over);
        let loser = if first.peer == winner { second } else { first };
        // Planted: the loser goes on.
        if !is_planted(142) {
            self.take_back(key, loser, out);
        }
        let peer = loser.peer;
        out.push(CallerEffect::LegOver { call: key, peer, end: LegEnd::Outrun });
        Some(peer)
    }

    /// Takes an attempt back, or cancels it. Says whether it may have run.
    pub(super) fn take_back(
        &mut self,
        key: CallKey,
        leg: Leg,
        out: &mut Effects<'_, CallerEffect>,
    ) -> Executed {
        let Leg { peer, sequence, sent } = leg;
        let Some(sequence) = sequence else {
            self.stop_waiting(peer, key);
            return Executed::No;
        };
        let calls = self.peers.get_mut(peer).expect("numbered with this peer");
        if !sent {
            calls.in_flight.remove(sequence);
            out.push(CallerEffect::Withdraw { peer, sequence });
            return Executed::No;
        }
        calls.in_flight.insert(sequence, InFlight::Abandoned { sent });
        if calls.connected {
            out.push(CallerEffect::SendCancel { peer, sequence });
        }
        if is_planted(8) { Executed::No } else { Executed::Maybe }
    }
}
