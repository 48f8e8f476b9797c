//! Second attempts of calls, and the places that they have. The rules: [`crate::rpc::hedge`].

use std::time::Duration;

use crate::auth::Permission;
use crate::base::{CallKey, PeerKey};
use crate::directory::load::Word;
use crate::directory::remote::{Chosen, Purpose, Seat};
use crate::mesh::Mesh;
use crate::mesh::event::Event;
use crate::planted::is_planted;
use crate::rpc::CallerInput;
use crate::rpc::caller::LegEnd;
use crate::rpc::hedge::Hedge;
use crate::topic::TopicPath;

impl Mesh {
    /// After how long the call that has this place is to have a second attempt.
    pub(super) fn hedge_after(&self, hedge: Hedge, seat: Option<&Seat>) -> Option<Duration> {
        match hedge {
            Hedge::After(after) => Some(after),
            Hedge::Percentile(percent) => {
                self.remote.usual(self.now.mono, seat?, u64::from(percent) * 10)
            }
        }
    }

    /// A call has waited for so long: asks another instance, if there is one that is well and the budget allows it.
    pub(super) fn hedge(&mut self, call: CallKey, path: &TopicPath, waited: Duration) {
        // Who is asked for by name, or as the one that is active, has nobody beside it.
        let Some(routed) = self.routed.get(call) else { return };
        let Some(first) = routed.seat else { return };
        let wish = routed.wish.clone();
        let (peers, access, now) = (&self.peers, &self.access, self.now);
        let usable = |key| {
            (key != first.peer() || is_planted(144))
                && peers.get(key).is_some_and(|p| p.machine.is_up())
                && access.may(now, key, Permission::Serve, path).is_ok()
        };
        let purpose = Purpose::Hedge(waited);
        let chosen =
            self.remote.choose(now.mono, &mut self.draws, path, (&wish, purpose), None, usable);
        let Ok(Chosen::Peer(peer, seat)) = chosen else { return };
        // Planted: the budget is not asked.
        if !is_planted(140) && !self.remote.may_retry(now.mono, &first) {
            return self.leave_seat(seat, Word::Nothing);
        }
        if let Some(routed) = self.routed.get_mut(call) {
            routed.hedge = Some(Box::new(seat));
        }
        self.hedges += 1;
        if let Some(peer) = self.peers.get(peer).map(|entry| entry.id) {
            self.events.push_back(Event::CallHedged { call, peer });
        }
        self.feed_caller(CallerInput::Hedged { call, peer });
    }

    /// One of two attempts of a call is over: its place is free, and the other is the call's.
    pub(super) fn leg_over(&mut self, call: CallKey, peer: PeerKey, end: LegEnd) {
        let Some(routed) = self.routed.get_mut(call) else { return };
        let is_there = |seat: &Seat| seat.peer() == peer;
        let over = if routed.hedge.as_deref().is_some_and(is_there) {
            routed.hedge.take().map(|seat| *seat)
        } else {
            let second = routed.hedge.take().map(|seat| *seat);
            std::mem::replace(&mut routed.seat, second)
        };
        if let Some(seat) = over {
            self.leave_seat(
                seat,
                match end {
                    LegEnd::Failed(failure, executed) => Word::of_failure(failure, executed),
                    LegEnd::Outrun => Word::Outrun,
                    LegEnd::Unsent => Word::Nothing,
                },
            );
        }
    }

    /// How many second attempts of calls were made that waited for another instance, in this node's life.
    pub fn hedges(&self) -> u64 {
        self.hedges
    }
}
