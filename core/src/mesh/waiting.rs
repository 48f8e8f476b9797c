//! Calls that wait for a way: until an instance is active, or a peer is back that may serve them.
//!
//! A call without a target does not fail because no instance is there at the moment: its service has no active one, or a
//! peer is being dialled that offered the path, or of which nothing is known yet. The call waits within its
//! deadline, and has not run when that passes. What waits is bounded with all that is open: `Limits::calls_open_max` and
//! `Limits::argument_bytes_max`. [`Wish::at_once`](crate::directory::Wish::at_once) turns it off.
//!
//! Source: wait-for-ready of gRPC, here the default.

use std::time::Duration;

use crate::auth::Permission;
use crate::base::{CallKey, MonoTime, PeerId, PeerKey, TimerId};
use crate::mesh::{Mesh, NodeTimer};
use crate::rpc::caller::Route;
use crate::rpc::{CallError, CallerInput, Failure};
use crate::topic::TopicPath;

/// The wait before a call looks again for an active instance, unless it hears of one before. A guess.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The interval at which a call checks that a peer is still being dialled. It is told when the peer is back. A guess.
const LOOK_FOR_PEERS: Duration = Duration::from_millis(500);

/// How often a call follows a standby's word for the leader at once. After that it waits for a moment before it is sent
/// again.
const HINTS_MAX: u8 = 3;

/// A call that waits for a way.
#[derive(Clone, Debug)]
pub(super) struct Held {
    path: TopicPath,
    since: MonoTime,
    /// When it looks again.
    timer: TimerId<NodeTimer>,
}

impl Mesh {
    /// Whether a call may wait, as a way was looked for and this was found: for an active instance, or for a
    /// peer that is back. The failure is what it ends in when its time is over.
    pub(super) fn waits_for<T>(
        &self,
        path: &TopicPath,
        route: &Result<T, CallError>,
    ) -> Option<Failure> {
        let failure = route.as_ref().err()?.failure()?;
        let waits = match failure {
            Failure::NotActive => true,
            Failure::NoResponders => self.is_served_by_expected(path),
            _ => false,
        };
        waits.then_some(failure)
    }

    /// Whether a peer that is being dialled offered this path, or may. Costs time in the number of peers: it is
    /// not asked where a call has an instance to go to.
    fn is_served_by_expected(&self, path: &TopicPath) -> bool {
        let expected =
            |key: PeerKey| self.peers.get(key).is_some_and(|entry| entry.machine.is_expected());
        let unknown = |key: PeerKey| expected(key) && self.remote.document(key).is_none();
        self.peers.iter().any(|(key, _)| unknown(key))
            || !self.remote.instances(path, expected).is_empty()
    }

    /// A way for a call was looked for. Where there is none at the moment the call waits, or its deadline passes.
    pub(super) fn routed(
        &mut self,
        call: CallKey,
        path: &TopicPath,
        route: Result<Route, CallError>,
    ) {
        if let Some(failure) = self.waits_for(path, &route)
            && !self.is_at_once(call)
        {
            return self.hold_call(call, path.clone(), failure);
        }
        self.forget_held(call);
        self.feed_caller(CallerInput::Routed { call, route });
    }

    fn is_at_once(&self, call: CallKey) -> bool {
        self.routed.get(call).is_some_and(|routed| routed.wish.at_once)
    }

    /// A call waits, and ends in this failure if its time is over before there is a way.
    pub(super) fn hold_call(&mut self, call: CallKey, path: TopicPath, failure: Failure) {
        let again = if failure == Failure::NotActive { LOOK_AGAIN } else { LOOK_FOR_PEERS };
        let timer = self.timers.arm(self.now.mono + again, NodeTimer::LookForWay(call));
        let since = self.held.get(&call).map_or(self.now.mono, |before| before.since);
        if let Some(before) = self.held.insert(call, Held { path, since, timer }) {
            self.timers.disarm(before.timer);
        }
        self.feed_caller(CallerInput::Held { call, failure });
    }

    /// A peer was asked that is not active, and has not run the call. It may name the active one.
    pub(super) fn call_not_active(
        &mut self,
        call: CallKey,
        path: TopicPath,
        hints: u8,
        leader: Option<PeerId>,
    ) {
        let known = leader.and_then(|leader| self.by_id.get(&leader).copied());
        let is_up = |key: &PeerKey| self.peers.get(*key).is_some_and(|p| p.machine.is_up());
        let may = |key: &PeerKey| self.access.may(self.now, *key, Permission::Serve, &path).is_ok();
        match known.filter(|key| hints <= HINTS_MAX && is_up(key) && may(key)) {
            Some(peer) => {
                self.end_seat(call);
                self.feed_caller(CallerInput::Routed { call, route: Ok(Route::Peer(peer)) });
            }
            None if self.is_at_once(call) => {
                let error = CallError::unrun(Failure::NotActive, format!("'{path}'"));
                self.feed_caller(CallerInput::Routed { call, route: Err(error) });
            }
            None => self.hold_call(call, path, Failure::NotActive),
        }
    }

    /// Looks for a way for a call that waits.
    pub(super) fn look_for_way(&mut self, call: CallKey) {
        let Some(held) = self.held.get(&call) else { return };
        let path = held.path.clone();
        let route = self.reroute(call, &path);
        self.routed(call, &path, route);
    }

    /// An instance may have become active, or a peer may be back.
    pub(super) fn look_for_ways(&mut self) {
        let mut waiting: Vec<(MonoTime, CallKey)> =
            self.held.iter().map(|(call, held)| (held.since, *call)).collect();
        // What has waited longest goes first.
        waiting.sort_unstable();
        for (_, call) in waiting {
            let Some(held) = self.held.get(&call) else { continue };
            let path = held.path.clone();
            let route = self.reroute(call, &path);
            if self.waits_for(&path, &route).is_none() {
                self.routed(call, &path, route);
            }
        }
    }

    pub(super) fn forget_held(&mut self, call: CallKey) {
        if let Some(held) = self.held.remove(&call) {
            self.timers.disarm(held.timer);
        }
    }
}
