//! Calls and the instances that they go to: what is remembered of each while it is open, and who is asked next.

use crate::base::{CallKey, PeerKey};
use crate::directory::Wish;
use crate::directory::load::Word;
use crate::directory::remote::Seat;
use crate::mesh::directory::{Routed, Tried};
use crate::mesh::event::Event;
use crate::mesh::{Mesh, Target};
use crate::rpc::caller::{CallerEffect, Route};
use crate::rpc::{CallError, CallResult, CallerInput, Executed, Failure, retry};
use crate::topic::TopicPath;

impl Mesh {
    /// Remembers how a call was routed, for when it ends or is routed again.
    pub(super) fn note_route(&mut self, call: CallKey, wish: Wish, seat: Option<Seat>) {
        if let Some(seat) = &seat {
            self.remote.count_call(self.now.mono, seat);
        } else {
            self.budget.call();
        }
        self.remember_route(call, Routed { wish, seat, hedge: None, tried: Tried::Nobody });
    }

    fn remember_route(&mut self, call: CallKey, routed: Routed) {
        let Routed { wish, seat, tried, .. } = &routed;
        if seat.is_some() || *wish != Wish::default() || *tried != Tried::Nobody {
            // The end of the call that had this place may still be on its way.
            let earlier = self.routed.insert(call, routed);
            if let Some((_, Routed { seat: Some(seat), .. })) = earlier {
                self.leave_seat(seat, Word::Nothing);
            }
        }
    }

    /// A call goes elsewhere than to the instance that was chosen for it.
    pub(super) fn end_seat(&mut self, call: CallKey) {
        if let Some(seat) = self.routed.get_mut(call).and_then(|routed| routed.seat.take()) {
            self.leave_seat(seat, Word::Nothing);
        }
    }

    pub(super) fn leave_seat(&mut self, seat: Seat, word: Word) {
        self.remote.end(self.now.mono, &mut self.draws, seat, word);
    }

    /// Finds another way for a call that has not run, or is made again.
    pub(super) fn reroute(&mut self, call: CallKey, path: &TopicPath) -> Result<Route, CallError> {
        let routed = self.routed.remove(call).unwrap_or_default();
        if let Some(seat) = routed.seat {
            self.leave_seat(seat, Word::Nothing);
        }
        let (mut route, mut seat) = match routed.tried {
            Tried::Nobody => self.route(path, Target::Any, &routed.wish),
            tried => self.route_to_any(path, &routed.wish, tried),
        };
        if route.is_err() && routed.tried != Tried::Nobody {
            (route, seat) = self.route(path, Target::Any, &routed.wish);
        }
        let routed = Routed { wish: routed.wish, seat, hedge: None, tried: Tried::Nobody };
        self.remember_route(call, routed);
        route
    }

    /// An attempt of a call has failed: asks the budget whether there may be another one, and looks for another
    /// instance.
    pub(super) fn attempt_failed(
        &mut self,
        call: CallKey,
        path: &TopicPath,
        pinned: bool,
        attempt: u32,
        (failure, executed): (Failure, Executed),
    ) {
        let now = self.now.mono;
        let routed = self.routed.remove(call).unwrap_or_default();
        let for_others = retry::is_for_others(failure);
        let may_retry = match &routed.seat {
            _ if for_others && pinned => false,
            _ if retry::is_free(attempt + 1, failure) => true,
            Some(seat) => self.remote.may_retry(now, seat),
            None => self.budget.retry(now),
        };
        let tried = match &routed.seat {
            Some(seat) => Tried::Peer(seat.peer()),
            // A call that has no place at a peer was for a service here.
            None => Tried::Here,
        };
        if let Some(seat) = routed.seat {
            self.leave_seat(seat, Word::of_failure(failure, executed));
        }
        if !may_retry {
            return self.feed_caller(CallerInput::Spent(call));
        }
        // Where everybody fails, whoever goes round at once makes it worse: so only once.
        let (mut found, mut waits) = (None, None);
        if (attempt == 1 || for_others) && !pinned {
            let (route, seat) = self.route_to_any(path, &routed.wish, tried);
            waits = self.waits_for(path, &route).filter(|_| !routed.wish.at_once);
            found = route.ok().map(|route| (route, seat));
        }
        let seat = found.as_ref().and_then(|(_, seat)| *seat);
        self.remember_route(call, Routed { wish: routed.wish, seat, hedge: None, tried });
        if let (Some(failure), true) = (waits, for_others) {
            // An instance that takes over, or is back, will do. An overloaded one is not asked before the time that it gave.
            return self.hold_call(call, path.clone(), failure);
        }
        self.feed_caller(match found {
            Some((route, _)) => CallerInput::Routed { call, route: Ok(route) },
            None if for_others => CallerInput::Spent(call),
            None => CallerInput::Later(call),
        });
    }

    /// A call is made again: the application may want to know.
    pub(super) fn say_again(&mut self, effect: CallerEffect) {
        let CallerEffect::Again { call, attempt, failure, peer, not_before } = effect else {
            return;
        };
        let id = |key: PeerKey| self.peers.get(key).map(|entry| entry.id);
        // What one instance said binds nobody else.
        let not_before = not_before.filter(|(said_by, _)| peer == Some(*said_by));
        self.retries += 1;
        self.events.push_back(Event::CallRetried {
            call,
            attempt,
            failure,
            peer: peer.and_then(id),
            not_before: not_before.map(|(_, at)| at),
        });
    }

    /// A call has ended: what it took says how busy its instance is.
    pub(super) fn call_ended(&mut self, call: CallKey, result: &CallResult) {
        let Some(Routed { seat, hedge, .. }) = self.routed.remove(call) else { return };
        for seat in [seat, hedge.map(|seat| *seat)].into_iter().flatten() {
            self.leave_seat(seat, Word::of(result));
        }
    }

    /// How many calls made here have not ended: a part of [`Mesh::load`] that costs nothing to look at.
    pub fn calls_open(&self) -> usize {
        self.caller.len()
    }

    /// How many attempts were made of calls that had failed before, in this node's life.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// The places of calls under way that show whether an instance is well again.
    pub(super) fn probes(&self) -> Vec<Seat> {
        let seats = self.routed.iter().filter_map(|(_, routed)| routed.seat);
        seats.filter(Seat::is_probe).collect()
    }
}
