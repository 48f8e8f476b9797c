//! How a call that has failed is made again.
//!
//! ```text
//! it fails -> may it go again?  no: it ends as it failed
//!                v yes
//!             Failed (asked of the mesh: the budget, and another instance)
//!                |-> Spent: it ends as it failed
//!                |-> Routed: at once, to another instance
//!                `-> Later: after a back-off, to whoever is there then, or to the peer that was asked for
//! ```

use std::time::Duration;

use crate::base::{CallKey, Effects, MonoTime, PeerKey};
use crate::machine::{Context, TimerHandle};
use crate::rpc::caller::{Caller, CallerEffect, CallerTimer, Stage};
use crate::rpc::outcome::{CallError, Executed, Failure};
use crate::rpc::retry;

/// What is remembered of the attempts of a call that came to nothing.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) error: CallError,
    /// Who failed; none for this node itself.
    pub(super) peer: Option<PeerKey>,
    /// What an overloaded callee said.
    pub(super) hint: Option<Duration>,
    /// The hint, as a time.
    pub(super) not_before: Option<MonoTime>,
    /// The end of the back-off, while there is one.
    pub(super) timer: Option<TimerHandle>,
}

impl Failed {
    pub(super) fn failure(&self) -> Failure {
        self.error.failure().expect("what a handler answers is no failed attempt")
    }
}

impl Caller {
    /// This attempt of a call has failed: it ends, or is made again.
    pub(super) fn attempt_failed(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        key: CallKey,
        error: CallError,
        hint: Option<Duration>,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let again = call.retry
            && call.attempt < retry::ATTEMPTS_MAX
            && call.payload.is_some()
            && retry::may_go_again(&error, hint, call.idempotent);
        let (true, CallError::Failed { failure, executed, .. }) = (again, &error) else {
            return self.end(cx, key, Err(error), out);
        };
        let (failure, executed) = (*failure, *executed);
        let peer = match call.stage {
            Stage::Numbered { peer, .. } | Stage::Waiting(peer) => Some(peer),
            _ => None,
        };
        call.in_doubt |= executed == Executed::Maybe;
        call.sent = false;
        call.stage = Stage::Routing;
        let not_before = hint.map(|hint| cx.now.mono + hint.min(retry::HINT_MAX));
        call.failed = Some(Box::new(Failed { error, peer, hint, not_before, timer: None }));
        out.push(CallerEffect::Failed {
            call: key,
            path: call.path.clone(),
            pinned: call.pinned,
            attempt: call.attempt,
            failure,
            executed,
        });
    }

    /// It may be made again, though nobody else is there.
    pub(super) fn later(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        key: CallKey,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(failed) = &mut call.failed else { return };
        let random = cx.draw(crate::base::Label::Retry);
        let wait = retry::wait_before(call.attempt + 1, failed.hint, random);
        let at = cx.now.mono + wait;
        if at >= call.deadline {
            // It would only end later, and say less.
            return self.spent(cx, key, out);
        }
        failed.timer = Some(cx.arm(at, CallerTimer::Again(key)));
        call.stage = Stage::BackingOff;
    }

    /// It is not made again: it ends as it failed.
    pub(super) fn spent(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        key: CallKey,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        let Some(failed) = self.calls.get_mut(key).and_then(|call| call.failed.take()) else {
            return;
        };
        self.end(cx, key, Err(failed.error), out);
    }

    /// Its back-off is over.
    pub(super) fn back_off_ends(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        key: CallKey,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(failed) = &mut call.failed else { return };
        failed.timer = None;
        call.stage = Stage::Routing;
        match failed.peer {
            Some(peer) if call.pinned => self.go_to(cx, key, peer, out),
            _ => out.push(CallerEffect::Reroute { call: key, path: call.path.clone() }),
        }
    }

    /// Whether a call waits to be made again.
    #[cfg(test)]
    pub(in crate::rpc) fn backs_off(&self) -> bool {
        self.calls.iter().any(|(_, call)| call.stage == Stage::BackingOff)
    }

    /// A call that has failed before goes this way: says so, once.
    pub(super) fn goes_again(
        &mut self,
        key: CallKey,
        to: Option<PeerKey>,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(failed) = call.failed.take() else { return };
        call.attempt += 1;
        out.push(CallerEffect::Again {
            call: key,
            attempt: call.attempt,
            failure: failed.failure(),
            peer: to,
            not_before: failed.peer.zip(failed.not_before),
        });
    }
}

/// Says in an error how often a call was attempted.
pub(super) fn say_attempts(error: &mut CallError, attempts: u32) {
    if let (2.., CallError::Failed { detail, .. }) = (attempts, error) {
        let before = if detail.is_empty() { "" } else { "; " };
        *detail = format!("{detail}{before}{attempts} attempts were made");
    }
}
