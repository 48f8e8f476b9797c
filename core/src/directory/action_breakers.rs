//! The breakers of single actions: an action that fails at an instance gets no calls there, and the other actions do.
//!
//! There is one while something is held against the action at the instance, so that there are few; see
//! [`super::breaker`] for the states.

use std::collections::BTreeMap;

use crate::base::{MonoTime, PeerKey};
use crate::directory::breaker::{Breaker, BreakerState};
use crate::directory::load::Word;
use crate::topic::SubscriptionKey;

/// An action, by the key of its offer, at an instance.
pub(super) type Place = (SubscriptionKey, PeerKey);

#[derive(Clone, Debug)]
struct ActionBreaker {
    /// Tells it from an earlier one of the same place.
    since: MonoTime,
    breaker: Breaker,
}

/// The breaker that a call met when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    since: MonoTime,
    /// How often it had been opened: calls of before do not count.
    opened: u32,
    pub(super) is_probe: bool,
}

/// The end of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The breaker that it met; none if there was none.
    pub(super) met: Option<Met>,
    /// What it says of the action.
    pub(super) word: Word,
    /// Whether it came in the time that is usual for the action.
    pub(super) in_time: bool,
    /// Whether the instance is still the one that was asked.
    pub(super) is_same_instance: bool,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct ActionBreakers(BTreeMap<Place, ActionBreaker>);

impl ActionBreakers {
    /// The breaker of a place, if anything is held against it.
    pub(super) fn get(&self, place: Place) -> Option<&Breaker> {
        self.0.get(&place).map(|of| &of.breaker)
    }

    /// A call goes there.
    pub(super) fn begin(&mut self, place: Place, now: MonoTime) -> Option<Met> {
        let ActionBreaker { since, breaker } = self.0.get_mut(&place)?;
        let is_probe = breaker.begin(now);
        Some(Met { since: *since, opened: breaker.opened(), is_probe })
    }

    /// The instance was found to be silent. If a probe of this action is under way there, it hangs.
    pub(super) fn silent(&mut self, place: Place, now: MonoTime, jitter: impl FnOnce() -> u64) {
        if let Some(ActionBreaker { breaker, .. }) = self.0.get_mut(&place)
            && breaker.probed().is_some()
        {
            breaker.silent(now, jitter());
        }
    }

    /// A call is over. `jitter` is as [`Breaker::end`] has it. Says whether calls of the action went there.
    pub(super) fn end(
        &mut self,
        place: Place,
        now: MonoTime,
        end: End,
        jitter: impl FnOnce() -> u64,
    ) -> bool {
        let failed = end.word.failed();
        let Some(ActionBreaker { since, breaker }) = self.0.get_mut(&place) else {
            if failed == Some(true) && end.is_same_instance && end.met.is_none() {
                let mut breaker = Breaker::default();
                breaker.end(now, false, failed, jitter);
                self.0.insert(place, ActionBreaker { since: now, breaker });
            }
            return true;
        };
        let is_closed = breaker.state() == BreakerState::Closed;
        let counts = match end.met {
            Some(met) => (met.since, met.opened) == (*since, breaker.opened()),
            // It began before there was a breaker.
            None => end.is_same_instance && breaker.opened() == 0,
        };
        if counts {
            let is_probe = end.met.is_some_and(|met| met.is_probe);
            // A probe that is too late shows that the action does not do well.
            let failed = if is_probe && !end.in_time { failed.map(|_| true) } else { failed };
            if breaker.end(now, is_probe, failed, jitter) {
                self.0.remove(&place);
            }
        }
        is_closed
    }

    /// The instance does not offer the action any more.
    pub(super) fn remove(&mut self, place: Place) {
        self.0.remove(&place);
    }

    /// The actions to which no call goes at this peer.
    pub(super) fn open_at(&self, peer: PeerKey) -> impl Iterator<Item = SubscriptionKey> + '_ {
        let is_open = |of: &ActionBreaker| of.breaker.state() != BreakerState::Closed;
        let at_peer = self.0.iter().filter(move |((_, at), of)| *at == peer && is_open(of));
        at_peer.map(|((action, _), _)| *action)
    }

    /// Asserts what must hold between inputs. `probes` are the places of calls under way that are probes of actions, with
    /// the breakers that they met. Returns the places that have a breaker.
    pub(super) fn check_invariants(
        &self,
        probes: &[(Place, Met)],
    ) -> impl Iterator<Item = Place> + '_ {
        for (place, ActionBreaker { since, breaker }) in &self.0 {
            breaker.check_invariants();
            let now_its = (*place, *since, breaker.opened());
            let probes =
                probes.iter().filter(|(at, met)| (*at, met.since, met.opened) == now_its).count();
            let is_half_open = breaker.state() == BreakerState::HalfOpen;
            assert_eq!(probes, usize::from(is_half_open), "one probe of an action at a time");
        }
        self.0.keys().copied()
    }
}
