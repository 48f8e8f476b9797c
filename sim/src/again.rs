//! Calls that are made again, judged from outside of the node that makes them: not too often, and not too early.

use dunlin_core::rpc::{budget, retry};
use dunlin_core::{Event, MonoTime};
use std::time::Duration;

use crate::checks::Verdict;
use crate::draw::SERVICES;

/// What is made again stays within its budget.
pub(crate) const WITHIN_BUDGET: &str = "retries stay within their budget";
/// Who was told when to come back does not come before.
pub(crate) const NOT_BEFORE: &str = "nobody comes back before an overloaded service said so";
/// A call is attempted only so often.
pub(crate) const FEW_ATTEMPTS: &str = "a call is attempted a few times at most";

/// What one life of a node did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempts {
    life: u32,
    began: MonoTime,
    ended: u64,
    again: u64,
}

impl Attempts {
    /// A node says something, by its own clock. `open` are its calls under way, and `networks` the networks of the
    /// world: each has services of its own.
    pub(crate) fn observe(
        &mut self,
        (life, began): (u32, MonoTime),
        now: MonoTime,
        event: &Event,
        (open, networks): (usize, usize),
    ) -> Verdict {
        if self.life != life {
            *self = Attempts { life, began, ..Attempts::default() };
        }
        let (attempt, failure, not_before) = match event {
            Event::CallEnded { .. } => {
                self.ended += 1;
                return Ok(());
            }
            Event::CallHedged { .. } => return self.again(now, (open, networks)),
            Event::CallRetried { attempt, failure, not_before, .. } => {
                (*attempt, *failure, *not_before)
            }
            _ => return Ok(()),
        };
        if attempt > retry::ATTEMPTS_MAX {
            return Err((FEW_ATTEMPTS, format!("attempt {attempt} of a call")));
        }
        if let Some(at) = not_before
            && now < at
        {
            let early = at.since(now);
            let what =
                format!("attempt {attempt} after {} comes {early:?} too early", failure.code());
            return Err((NOT_BEFORE, what));
        }
        if retry::is_free(attempt, failure) {
            return Ok(());
        }
        self.again(now, (open, networks))
    }

    /// A call has one attempt more, which is paid for.
    fn again(&mut self, now: MonoTime, (open, networks): (usize, usize)) -> Verdict {
        self.again += 1;
        // One bucket for each service, the one for probes, and one for calls that choose nobody.
        let buckets = (SERVICES + 1) * networks.max(1) as u64 + 1;
        let calls = self.ended + open as u64;
        let alone = budget::most(0, now.since(self.began) + Duration::from_secs(5));
        let most = calls / 10 + buckets * alone;
        if self.again > most {
            let what = format!("{} retries of {calls} calls; at most {most}", self.again);
            return Err((WITHIN_BUDGET, what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dunlin_core::Identity;
    use dunlin_core::base::{CallKey, Key};
    use dunlin_core::rpc::{CallError, Executed, Failure};

    use super::*;

    const LIFE: (u32, MonoTime) = (1, MonoTime::ZERO);

    fn again(attempt: u32, failure: Failure, not_before: Option<MonoTime>) -> Event {
        let call: CallKey = Key::from_u64(1 << 32);
        Event::CallRetried { call, attempt, failure, peer: None, not_before }
    }

    fn rule(verdict: Verdict) -> Option<&'static str> {
        verdict.err().map(|(rule, _)| rule)
    }

    #[test]
    fn too_many_too_early_and_too_often_are_each_noticed() {
        let now = MonoTime::ZERO;
        let mut attempts = Attempts::default();
        let retry = again(2, Failure::Overloaded, None);
        let mut observe = |event: &Event, now| rule(attempts.observe(LIFE, now, event, (0, 1)));
        let allowed = (0..1_000).take_while(|_| observe(&retry, now).is_none()).count();
        assert_eq!(allowed, 36);
        for _ in 0..40 {
            let result = Err(CallError::failed(Failure::Overloaded, Executed::No));
            assert_eq!(
                observe(&Event::CallEnded { call: Key::from_u64(1 << 32), result }, now),
                None
            );
        }
        assert_eq!(observe(&retry, now), None, "a tenth of the calls");
        // A second attempt is paid for too.
        let hedged = Event::CallHedged {
            call: Key::from_u64(1 << 32),
            peer: Identity::from_secret([1; 32]).id(),
        };
        assert_eq!([observe(&hedged, now), observe(&hedged, now)], [None, None]);
        assert_eq!(observe(&hedged, now), Some(WITHIN_BUDGET));
        // What nobody worked for is not counted.
        assert_eq!(observe(&again(2, Failure::ShuttingDown, None), now), None);
        let later = now + Duration::from_millis(1);
        assert_eq!(observe(&again(2, Failure::Overloaded, Some(later)), now), Some(NOT_BEFORE));
        assert_eq!(observe(&again(6, Failure::Overloaded, None), later), Some(FEW_ATTEMPTS));
        // Another life begins anew.
        assert_eq!(rule(attempts.observe((2, now), now, &retry, (0, 1))), None);
    }
}
