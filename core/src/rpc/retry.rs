//! Which failures are worth another attempt, and when.
//!
//! | what happened | again |
//! | --- | --- |
//! | it was never sent, or meant for a life of the peer that is over | yes |
//! | an instance refused it unrun: it stops, has paused, or does not have the action any more | yes, at another instance; once without asking the budget, as nobody did any work for it |
//! | OVERLOADED with a hint | yes, at the same instance not before the hint says so |
//! | OVERLOADED without one, NO_RESPONDERS, a permission or an argument that will not do | no: it would end the same |
//! | maybe executed | only if the caller says that it may run more than once |
//! | executed, or given up, or too late | no |
//!
//! The first attempt after a failure goes to another instance at once, if there is one; every further one, and one to the same
//! instance, after a back-off. Whether there may be one at all is for [`crate::rpc::budget`] to say. Sources:
//! protocols.md, section 4; Brooker, "Exponential Backoff And Jitter" (AWS, 2015).

use std::time::Duration;

use crate::planted::is_planted;
use crate::rpc::outcome::{CallError, Executed, Failure};

/// A call is attempted at most so often. Source: the cap of gRPC's A6.
pub const ATTEMPTS_MAX: u32 = 5;
/// How long the first back-off is at most; each further one twice as long. A guess.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// No back-off is longer, but for a hint. A guess.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A hint of more than that counts as that.
pub const HINT_MAX: Duration = Duration::from_secs(60);

/// Whether a call that ended like this may be made again.
pub fn may_go_again(error: &CallError, hint: Option<Duration>, idempotent: bool) -> bool {
    let CallError::Failed { failure, executed, .. } = error else { return false };
    match executed {
        Executed::Yes => false,
        Executed::Maybe => {
            // Planted: a call that may have run is made again, whatever its caller said.
            let allowed = idempotent || is_planted(111);
            let is_over = matches!(
                failure,
                Failure::DeadlineExceeded
                    | Failure::Cancelled
                    | Failure::ShuttingDown
                    | Failure::Unreachable
            );
            allowed && !is_over
        }
        Executed::No => match failure {
            Failure::Overloaded => hint.is_some(),
            Failure::NoSuchAction
            | Failure::Unavailable
            | Failure::PeerRestarted
            | Failure::ShuttingDown => true,
            Failure::NoResponders
            // The mesh has its own way with these: it waits until somebody is active.
            | Failure::NotActive
            | Failure::Unreachable
            | Failure::DeadlineExceeded
            | Failure::Cancelled
            | Failure::TooLarge
            | Failure::Unencodable
            | Failure::BadRequest
            | Failure::HandlerFailed
            | Failure::Forgotten
            | Failure::InvalidPath
            | Failure::UnreadableAnswer
            | Failure::PermissionDenied => false,
        },
    }
}

/// Whether a failure says that its instance does not serve the path any more: only others are worth asking. gRPC
/// calls such a retry transparent (A6).
pub fn is_for_others(failure: Failure) -> bool {
    matches!(failure, Failure::NoSuchAction | Failure::Unavailable | Failure::ShuttingDown)
}

/// Whether this attempt, behind one that failed like that, costs nothing of the budget.
pub fn is_free(attempt: u32, failure_before: Failure) -> bool {
    attempt == 2 && is_for_others(failure_before)
}

/// How long to wait before this attempt (the first has number 1). `random` is uniform. Never before the hint;
/// behind it callers spread out, so that they do not come back together.
pub fn wait_before(attempt: u32, hint: Option<Duration>, random: u64) -> Duration {
    let times = 1_u32 << attempt.saturating_sub(2).min(10);
    let most = BACKOFF_FIRST.saturating_mul(times).min(BACKOFF_MAX);
    let share = |of: Duration| {
        let nanos = of.as_nanos().min(u128::from(u64::MAX));
        Duration::from_nanos(((u128::from(random) * nanos) >> 64) as u64)
    };
    match hint {
        // Planted: the hint is not looked at.
        Some(hint) if !is_planted(114) => {
            let hint = hint.min(HINT_MAX);
            hint + share(most.max(hint / 2))
        }
        // Half of it for certain, or many would come back at once.
        _ => most / 2 + share(most / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_back_off_grows_is_bounded_and_never_ends_before_the_hint() {
        let second = Duration::from_secs(1);
        for random in [0, u64::MAX / 3, u64::MAX] {
            let waits: Vec<_> = (2..9).map(|n| wait_before(n, None, random)).collect();
            assert!(waits.is_sorted() && waits[6] <= BACKOFF_MAX, "{waits:?}");
            assert!(waits[0] >= BACKOFF_FIRST / 2 && waits[0] <= BACKOFF_FIRST);
            let hinted = wait_before(2, Some(second), random);
            assert!(hinted >= second && hinted <= second * 3 / 2, "{hinted:?}");
            assert!(wait_before(2, Some(second * 1_000), random) <= HINT_MAX * 3 / 2);
        }
    }

    #[test]
    fn what_may_have_run_goes_again_only_by_its_callers_word() {
        use Failure::*;
        let maybe = |failure, idempotent| {
            may_go_again(&CallError::failed(failure, Executed::Maybe), None, idempotent)
        };
        for failure in [PeerRestarted, HandlerFailed, Forgotten] {
            assert!(maybe(failure, true) && !maybe(failure, false), "{failure:?}");
        }
        assert!(!maybe(DeadlineExceeded, true) && !maybe(Cancelled, true));
        let unrun = |failure, hint| may_go_again(&CallError::unrun(failure, ""), hint, false);
        assert!(unrun(Overloaded, Some(Duration::from_millis(1))) && !unrun(Overloaded, None));
        assert!(unrun(Unavailable, None) && !unrun(NoResponders, None) && !unrun(BadRequest, None));
        assert!(!may_go_again(&CallError::failed(Forgotten, Executed::Yes), None, true));
    }
}
