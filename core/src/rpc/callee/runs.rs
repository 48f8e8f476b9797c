//! Runs: how they begin, wait for their turn, run out of time and are stopped.

use std::time::Duration;

use super::answer::Answer;
use super::{Asked, Callee, CalleeEffect, CalleeTimer, Invocation, Origin, is_expired};
use crate::base::{Effects, InvocationKey, MonoTime, ServiceKey};
use crate::machine::{Context, TimerHandle};
use crate::payload::{Payload, detached};
use crate::planted::is_planted;
use crate::rpc::admission::Admitted;
use crate::rpc::outcome::{CallError, Executed, Failure, Status};

impl Callee {
    /// A call comes to a service: it runs, or waits, or is turned away with a hint.
    pub(super) fn admit(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        origin: Origin,
        asked: Box<Asked>,
        ends: MonoTime,
        out: &mut Effects<'_, CalleeEffect>,
    ) -> Result<InvocationKey, (Box<Asked>, Duration)> {
        let service = asked.route.service;
        let (since, timer) = (cx.now.mono, TimerHandle(0));
        let is_stream = asked.route.is_stream;
        let argument_bytes = match &asked.payload {
            Payload::Encoded { bytes, .. } => bytes.len(),
            Payload::Value(_) => 0,
        };
        let key = self.invocations.insert(Invocation {
            origin,
            timer,
            service,
            is_stream,
            argument_bytes,
            since,
            waiting: None,
        });
        let admitted = match self.doors.get_mut(service) {
            Some(door) if !is_stream => door.enter(key, asked.deadline.since(since)),
            _ => Admitted::Runs,
        };
        if let Admitted::Refused { retry_after } = admitted {
            self.invocations.remove(key);
            return Err((asked, retry_after));
        }
        let timer = cx.arm(ends, CalleeTimer(key));
        let invocation = self.invocations.get_mut(key).expect("just inserted");
        invocation.timer = timer;
        if admitted == Admitted::Runs {
            invoke(key, invocation, asked, false, out);
        } else {
            let mut asked = asked;
            if let Payload::Encoded { bytes, .. } = &mut asked.payload {
                *bytes = detached(std::mem::take(bytes), 0);
            }
            invocation.waiting = Some(asked);
        }
        Ok(key)
    }

    /// Takes an invocation out of the table; none if it has ended. Others may have their turn then: follow with
    /// [`Callee::serve_next`].
    pub(super) fn remove(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        key: InvocationKey,
    ) -> Option<Invocation> {
        let invocation = self.invocations.remove(key)?;
        cx.disarm(invocation.timer);
        if !invocation.is_stream
            && let Some(door) = self.doors.get_mut(invocation.service)
        {
            match invocation.waiting {
                Some(_) => door.give_up(key),
                None => door.leave(cx.now.mono.since(invocation.since)),
            }
        }
        Some(invocation)
    }

    /// Runs who waits for a service, as far as it has room.
    pub(super) fn serve_next(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        service: ServiceKey,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        while let Some(door) = self.doors.get_mut(service)
            && let Some(key) = door.take_turn()
        {
            let invocation = self.invocations.get_mut(key).expect("who waits has not ended");
            let asked = invocation.waiting.take().expect("it waits");
            if is_expired(cx.now.mono, asked.deadline) {
                // Its timer has yet to say so.
                door.skip();
                invocation.waiting = Some(asked);
                self.expire(cx, key, out);
                continue;
            }
            invocation.since = cx.now.mono;
            invoke(key, invocation, asked, true, out);
        }
    }

    /// The deadline of an invocation has passed.
    pub(super) fn expire(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        key: InvocationKey,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        let Some(invocation) = self.invocations.get(key) else { return };
        let waits = invocation.waiting.is_some();
        if waits && (is_planted(116) || is_planted(153)) {
            return;
        }
        if !waits {
            out.push(CalleeEffect::CancelInvocation(key));
        }
        match invocation.origin {
            Origin::Peer { .. } => {
                let status = if waits { Status::ExpiredUnrun } else { Status::Expired };
                self.finish(cx, key, Answer::bare(status), out);
            }
            Origin::Local(_) => {
                let executed = if waits { Executed::No } else { Executed::Maybe };
                let error = CallError::failed(Failure::DeadlineExceeded, executed);
                self.finish_local(cx, key, Err(error), out);
            }
        }
    }

    /// A call that waits does not run: its service is gone.
    pub(super) fn turn_away(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        key: InvocationKey,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        match self.invocations.get(key).map(|invocation| &invocation.origin) {
            Some(Origin::Peer { .. }) => {
                self.finish(cx, key, Answer::bare(Status::Unavailable), out);
            }
            Some(Origin::Local(_)) => {
                let error = CallError::failed(Failure::Unavailable, Executed::No);
                self.finish_local(cx, key, Err(error), out);
            }
            None => {}
        }
    }

    /// Stops an invocation whose answer nobody waits for.
    pub(super) fn stop(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        key: InvocationKey,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        let Some(invocation) = self.remove(cx, key) else { return };
        if invocation.waiting.is_none() {
            out.push(CalleeEffect::CancelInvocation(key));
        }
        self.serve_next(cx, invocation.service, out);
    }
}

/// Runs the handler of an invocation.
fn invoke(
    key: InvocationKey,
    invocation: &Invocation,
    asked: Box<Asked>,
    waited: bool,
    out: &mut Effects<'_, CalleeEffect>,
) {
    let peer = match invocation.origin {
        Origin::Peer { peer, .. } => Some(peer),
        Origin::Local(_) => None,
    };
    let invocation = key;
    out.push(CalleeEffect::Invoke { invocation, asked, peer, waited });
}
