//! The side that asks: every call made here, from its start to its one end.
//!
//! A call to a peer takes the next sequence number *of that callee*, so that the callee's memory of
//! what it has seen is a floor and a few gaps. It keeps its number for as long as the callee lives:
//! when a link is lost the call is sent again under the same number, and the callee, which registers a
//! number before it runs the handler, joins the two. Only when the callee's incarnation is over does a
//! call that was sent end in *maybe executed*, or, if its caller marked it idempotent, begin anew.
//!
//! Credit is granted ahead, in the handshake: at most so many calls are unanswered at a callee; the
//! rest wait here, where they can still be taken back. A call that its caller has given up keeps its
//! number until the callee has answered, so that the callee never sees more calls than it granted.

mod again;
mod hedge;
mod sending;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{
    CallKey, CallTag, Effects, KeyMap, Limits, MonoTime, PeerKey, PeerTag, SequenceMap, Slab,
};
use crate::machine::{Context, Machine, TimerHandle};
use crate::payload::Payload;
use crate::planted::is_planted;
use crate::rpc::callee::Asked;
use crate::rpc::outcome::{AppError, CallError, CallResult, Executed, Failure, Status};
use crate::rpc::retry;
use crate::topic::TopicPath;
use crate::wire::{CallMessage, ReplyMessage};

use again::{Failed, say_attempts};
use hedge::{Leg, Second};
pub use words::{CallerEffect, CallerInput, CallerTimer, LegEnd, NewCall, Route};

/// Where a call is.
#[derive(Clone, Debug, PartialEq)]
enum Stage {
    /// Registered; its way is being found.
    Routing,
    /// Runs here.
    Local,
    /// Waits for the peer's link or credit.
    Waiting(PeerKey),
    /// Has a number with the peer.
    Numbered { peer: PeerKey, sequence: u64 },
    /// Has failed, and is made again after a while.
    BackingOff,
}

#[derive(Clone, Debug)]
struct Call {
    path: TopicPath,
    /// Gone once the call was handed to a local service.
    payload: Option<Payload>,
    deadline: MonoTime,
    idempotent: bool,
    pinned: bool,
    retry: bool,
    /// What it ends in if its time is over while there is no way.
    waits_for: Failure,
    /// How often it was sent elsewhere by who is not active, which is no attempt: nobody ran it.
    hints: u8,
    attempt: u32,
    /// How the attempt before failed, until another one is made.
    failed: Option<Box<Failed>>,
    stage: Stage,
    /// Whether a transport has taken it, on any link, in this attempt.
    sent: bool,
    /// An earlier attempt was sent to a life of a callee that is over; it may have run.
    in_doubt: bool,
    timer: Option<TimerHandle>,
    /// After how long there is a second attempt, and where that is. Few calls have one.
    hedge: Option<Box<(Duration, Second)>>,
}

fn is_call(entry: &InFlight) -> bool {
    matches!(entry, InFlight::Call(_))
}

/// A number that the callee has not answered.
#[derive(Clone, Debug)]
enum InFlight {
    Call(CallKey),
    /// Its caller knows the end already; the callee may still be at it.
    Abandoned {
        /// Whether a transport has taken the call.
        sent: bool,
    },
}

#[derive(Clone, Debug, Default)]
struct PeerCalls {
    /// Boot number, credit, largest argument: known while a session lasts.
    session: Option<Session>,
    connected: bool,
    last_sequence: u64,
    in_flight: SequenceMap<InFlight>,
    waiting: VecDeque<CallKey>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    boot: u64,
    credit: usize,
    message_bytes_max: usize,
}

/// The machine of all calls made here.
#[derive(Clone, Debug)]
pub struct Caller {
    boot: u64,
    waiting_per_peer_max: usize,
    argument_bytes_max: usize,
    calls: Slab<Call, CallTag>,
    peers: KeyMap<PeerTag, PeerCalls>,
    /// The highest number given to a peer that was forgotten. Such a peer may come back and remember
    /// its numbers, so it is never given one of them again.
    forgotten_sequence: u64,
    payload_bytes: usize,
}

impl Caller {
    /// A caller of this incarnation.
    pub fn new(boot: u64, limits: &Limits) -> Self {
        Caller {
            boot,
            waiting_per_peer_max: limits.calls_waiting_per_peer_max,
            argument_bytes_max: limits.argument_bytes_max,
            calls: Slab::default(),
            peers: KeyMap::default(),
            forgotten_sequence: 0,
            payload_bytes: 0,
        }
    }

    /// This node has begun another life. The sessions of the old one have ended before.
    pub fn set_boot(&mut self, boot: u64) {
        self.boot = boot;
    }

    /// How many calls have not ended.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether a call has not ended.
    pub fn is_open(&self, call: CallKey) -> bool {
        self.calls.get(call).is_some()
    }

    /// Whether all calls have ended.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Bytes of encoded arguments of calls that have not ended.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Whether calls to this peer wait or run, so that it must not be forgotten.
    pub fn is_using(&self, peer: PeerKey) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|peer| !peer.waiting.is_empty() || peer.in_flight.values().any(is_call))
    }

    /// Registers a call. Follow with [`CallerInput::Routed`].
    pub fn add(&mut self, call: NewCall) -> CallKey {
        self.payload_bytes += encoded_bytes(&call.payload);
        self.calls.insert(Call {
            path: call.path,
            payload: Some(call.payload),
            deadline: call.deadline,
            idempotent: call.idempotent,
            pinned: call.pinned,
            retry: call.retry,
            hints: 0,
            attempt: 1,
            failed: None,
            stage: Stage::Routing,
            waits_for: Failure::NotActive,
            sent: false,
            in_doubt: false,
            timer: None,
            hedge: call.hedge.map(|after| Box::new((after, Second::Due(None)))),
        })
    }

    /// The message of a call whose turn has come; none if it is not wanted any more. From now on it
    /// counts as sent.
    pub fn take_message(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        sequence: u64,
    ) -> Option<CallMessage> {
        let calls = self.peers.get_mut(peer)?;
        let floor = calls.floor();
        let session = calls.session?;
        let InFlight::Call(key) = *calls.in_flight.get(sequence)? else { return None };
        let call = self.calls.get_mut(key).expect("numbers in flight name calls");
        let Some(Payload::Encoded { content, bytes }) = &call.payload else {
            unreachable!("arguments are encoded before a number is given");
        };
        let (content, payload) = (*content, bytes.clone());
        let leg = call.leg_at(peer).expect("it has a number with this peer");
        call.set_leg(Leg { sent: true, ..leg });
        Some(CallMessage {
            sequence,
            floor,
            attempt: call.attempt,
            callee_boot: session.boot,
            time_left: call.deadline.since(now),
            path: call.path.clone(),
            content,
            payload,
        })
    }

    /// The floor that every message to this peer carries: the oldest number not yet answered.
    pub fn floor(&self, peer: PeerKey) -> u64 {
        self.peers.get(peer).map_or(1, PeerCalls::floor)
    }

    fn end(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        key: CallKey,
        mut result: CallResult,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        let Some(call) = self.calls.get(key) else { return };
        debug_assert!(call.second().is_none(), "a call ends with its last attempt");
        if let Some(timer) = call.hedge_timer() {
            cx.disarm(timer);
        }
        // That this attempt has not run says nothing about those before it.
        if call.in_doubt
            && let Err(CallError::Failed { executed, .. }) = &mut result
            && *executed == Executed::No
        {
            *executed = Executed::Maybe;
        }
        if let Err(error) = &mut result {
            say_attempts(error, call.attempt);
        }
        if let Some(timer) = call.failed.as_ref().and_then(|failed| failed.timer) {
            cx.disarm(timer);
        }
        if let Some(payload) = &call.payload {
            self.payload_bytes -= encoded_bytes(payload);
        }
        if let Some(timer) = call.timer {
            cx.disarm(timer);
        }
        self.calls.discard(key);
        out.push(CallerEffect::Ended { call: key, result });
    }

    /// Ends a call for its caller, and takes back or cancels what is under way for it.
    fn abandon(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        key: CallKey,
        failure: Failure,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        let Some(call) = self.calls.get(key) else { return };
        let is_local = call.stage == Stage::Local;
        let legs = [call.first(), call.second()];
        let failed = call.failed.as_ref().map(|failed| failed.failure());
        let mut executed = Executed::No;
        if is_local {
            out.push(CallerEffect::CancelLocally(key));
            executed = Executed::Maybe;
        }
        for leg in legs.into_iter().flatten() {
            executed = executed.max(self.take_back(key, leg, out));
        }
        if let Some(hedge) = self.calls.get_mut(key).and_then(|call| call.hedge.as_deref_mut())
            && let Second::Leg(_) = hedge.1
        {
            hedge.1 = Second::Over;
        }
        let mut error = CallError::failed(failure, executed);
        if let CallError::Failed { detail, .. } = &mut error
            && let Some(failed) = failed
        {
            *detail = format!("it waited to be made again after {}", failed.code());
        }
        self.end(cx, key, Err(error), out);
        for leg in legs.into_iter().flatten().filter(|leg| leg.sequence.is_some()) {
            self.send_waiting(cx, leg.peer, out);
        }
    }

    fn route(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        key: CallKey,
        route: Result<Route, CallError>,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.timer.is_none() && !is_planted(4) {
            call.timer = Some(cx.arm(call.deadline, CallerTimer::Deadline(key)));
        }
        match route {
            // That nobody is left to be asked says less than why the call failed before.
            Err(error) => {
                let error = call.failed.take().map_or(error, |failed| failed.error);
                self.end(cx, key, Err(error), out);
            }
            Ok(Route::Local(route)) => {
                self.goes_again(key, None, out);
                let call = self.calls.get_mut(key).expect("just looked up");
                call.stage = Stage::Local;
                let payload = call.payload.take().expect("only a local service takes it");
                self.payload_bytes -= encoded_bytes(&payload);
                let (path, deadline) = (call.path.clone(), call.deadline);
                let asked = Box::new(Asked { route, path, payload, deadline });
                out.push(CallerEffect::RunLocally { call: key, asked });
            }
            Ok(Route::Peer(peer)) => self.go_to(cx, key, peer, out),
        }
    }

    fn go_to(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        key: CallKey,
        peer: PeerKey,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        self.goes_again(key, Some(peer), out);
        let Some(call) = self.calls.get_mut(key) else { return };
        // A link will be crossed: now is the time to leave the value behind.
        let payload = call.payload.as_mut().expect("only a local service takes it");
        if let Payload::Value(value) = payload {
            match value.encode() {
                Ok((content, bytes)) => {
                    let total = self.payload_bytes + bytes.len();
                    if total > self.argument_bytes_max {
                        let detail = format!("open calls hold {total} bytes of arguments");
                        let error = CallError::unrun(Failure::Overloaded, detail);
                        return self.end(cx, key, Err(error), out);
                    }
                    self.payload_bytes = total;
                    *payload = Payload::Encoded { content, bytes };
                }
                Err(error) => {
                    let error = CallError::unrun(Failure::Unencodable, error.to_string());
                    return self.end(cx, key, Err(error), out);
                }
            }
        }
        self.remember(peer);
        let call = self.calls.get_mut(key).expect("just looked up");
        let calls = self.peers.get_mut(peer).expect("just remembered");
        if calls.waiting.len() >= self.waiting_per_peer_max {
            let detail = format!("{} calls wait for this peer", calls.waiting.len());
            let error = CallError::unrun(Failure::Overloaded, detail);
            return self.end(cx, key, Err(error), out);
        }
        call.stage = Stage::Waiting(peer);
        calls.waiting.push_back(key);
        self.arm_hedge(cx, key);
        self.send_waiting(cx, peer, out);
    }

    fn reply(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        peer: PeerKey,
        reply: ReplyMessage,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        if reply.caller_boot != self.boot {
            return;
        }
        let Some(calls) = self.peers.get_mut(peer) else { return };
        // A number that is not in flight was answered before: the call was sent on two links.
        let Some(entry) = calls.in_flight.get(reply.sequence) else { return };
        if let InFlight::Call(key) = entry {
            let key = *key;
            let leg = self.calls.get(key).and_then(|call| call.leg_at(peer));
            if !leg.is_some_and(|leg| leg.sent) {
                // An answer to a question that was not put: a lie, which ends nothing.
                return;
            }
            calls.in_flight.remove(reply.sequence);
            let call = self.calls.get_mut(key).expect("just looked up");
            if reply.status == Status::NotActive && !call.pinned && call.payload.is_some() {
                if !self.lose_leg(key, peer, (Failure::NotActive, Executed::No), out) {
                    let call = self.calls.get_mut(key).expect("just looked up");
                    call.hints = call.hints.saturating_add(1);
                    (call.stage, call.sent) = (Stage::Routing, false);
                    let (path, hints) = (call.path.clone(), call.hints);
                    let leader = reply.error_message.parse().ok();
                    out.push(CallerEffect::NotActive { call: key, path, hints, leader });
                }
                return self.send_waiting(cx, peer, out);
            }
            let retry_after = reply.retry_after;
            match result_of(reply, &call.path) {
                Err(error @ CallError::Failed { .. }) => {
                    let CallError::Failed { failure, executed, .. } = &error else { return };
                    if !self.lose_leg(key, peer, (*failure, *executed), out) {
                        self.attempt_failed(cx, key, error, retry_after, out);
                    }
                }
                result => {
                    let loser = self.outrun(key, peer, out);
                    self.end(cx, key, result, out);
                    if let Some(loser) = loser {
                        self.send_waiting(cx, loser, out);
                    }
                }
            }
        } else {
            calls.in_flight.remove(reply.sequence);
        }
        self.send_waiting(cx, peer, out);
    }
}

impl PeerCalls {
    fn floor(&self) -> u64 {
        self.in_flight.first().map_or(self.last_sequence + 1, |(oldest, _)| oldest)
    }
}

fn encoded_bytes(payload: &Payload) -> usize {
    match payload {
        Payload::Encoded { bytes, .. } => bytes.len(),
        Payload::Value(_) => 0,
    }
}

fn result_of(reply: ReplyMessage, path: &TopicPath) -> CallResult {
    match reply.status {
        Status::Ok => Ok(Payload::Encoded { content: reply.content, bytes: reply.payload }),
        Status::Application => {
            Err(CallError::Application(AppError::new(reply.error_code, reply.error_message)))
        }
        // The peer need not say what we asked for.
        Status::PermissionDenied => {
            let detail = format!("the peer does not permit this node to 'call' '{path}'");
            Err(CallError::unrun(Failure::PermissionDenied, detail))
        }
        status => {
            let (failure, executed) = status.as_failure();
            Err(CallError::Failed { failure, executed, detail: reply.error_message })
        }
    }
}

impl Machine for Caller {
    type Input = CallerInput;
    type Effect = CallerEffect;
    type Timer = CallerTimer;
    type View<'a> = ();

    fn handle(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        (): (),
        input: CallerInput,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        match input {
            CallerInput::Routed { call, route } => self.route(cx, call, route, out),
            CallerInput::Held { call: key, failure } => {
                let Some(call) = self.calls.get_mut(key) else { return };
                call.waits_for = failure;
                if call.timer.is_none() {
                    call.timer = Some(cx.arm(call.deadline, CallerTimer::Deadline(key)));
                }
            }
            CallerInput::Hedged { call, peer } => self.hedged(cx, call, peer, out),
            CallerInput::Cancel(call) => self.abandon(cx, call, Failure::Cancelled, out),
            CallerInput::Later(call) => self.later(cx, call, out),
            CallerInput::Spent(call) => self.spent(cx, call, out),
            CallerInput::LocalDone { call, result } => self.end(cx, call, result, out),
            CallerInput::LocalRefused { call: key, payload, retry_after } => {
                let Some(call) = self.calls.get_mut(key) else { return };
                // What is asked of this node itself has nowhere else to go.
                if !call.pinned {
                    self.payload_bytes += encoded_bytes(&payload);
                    call.payload = Some(payload);
                }
                let error = CallError::failed(Failure::Overloaded, Executed::No);
                self.attempt_failed(cx, key, error, retry_after, out);
            }
            CallerInput::Reply { peer, reply } => self.reply(cx, peer, reply, out),
            CallerInput::PeerReady { peer, boot, credit, message_bytes_max } => {
                self.remember(peer);
                let calls = self.peers.get_mut(peer).expect("just remembered");
                // What was granted is not taken back by a later link; and a peer cannot make us keep
                // more than we let wait for it.
                let credit = (credit as usize).min(self.waiting_per_peer_max);
                let credit = calls.session.map_or(credit, |session| session.credit.max(credit));
                let session = Session { boot, credit, message_bytes_max };
                let again = !calls.connected;
                debug_assert!(
                    calls.session.is_none_or(|old| old.boot == boot),
                    "a session ends before the next begins"
                );
                calls.session = Some(session);
                calls.connected = true;
                if again {
                    self.resend(peer, out);
                }
                self.send_waiting(cx, peer, out);
            }
            CallerInput::LinkLost { peer, connected } => {
                if let Some(calls) = self.peers.get_mut(peer) {
                    calls.connected = connected;
                    if connected {
                        self.resend(peer, out);
                    }
                }
            }
            CallerInput::SessionEnded(peer) => self.session_ended(cx, peer, out),
            CallerInput::PeerReleased(peer) => {
                let is_its = |call: &Call| match &call.failed {
                    Some(failed) => call.pinned && failed.peer == Some(peer),
                    None => call.leg_at(peer).is_some(),
                };
                let keys: Vec<CallKey> =
                    self.calls.iter().filter(|(_, c)| is_its(c)).map(|(key, _)| key).collect();
                for key in keys {
                    let call = self.calls.get(key).expect("just listed");
                    match (call.leg_at(peer), call.second()) {
                        (Some(leg), Some(_)) => {
                            let executed = self.take_back(key, leg, out);
                            self.lose_leg(key, peer, (Failure::Unreachable, executed), out);
                        }
                        _ => self.abandon(cx, key, Failure::Unreachable, out),
                    }
                }
                if let Some(calls) = self.peers.remove(peer) {
                    self.forgotten_sequence = self.forgotten_sequence.max(calls.last_sequence);
                }
            }
            CallerInput::Shutdown => {
                let keys: Vec<CallKey> = self.calls.iter().map(|(key, _)| key).collect();
                for key in keys {
                    self.abandon(cx, key, Failure::ShuttingDown, out);
                }
            }
            CallerInput::Timer(CallerTimer::Again(call)) => self.back_off_ends(cx, call, out),
            CallerInput::Timer(CallerTimer::Hedge(call)) => self.hedge_is_due(call, out),
            CallerInput::Timer(CallerTimer::Deadline(call)) => {
                if let Some(open) = self.calls.get_mut(call) {
                    open.timer = None;
                }
                // One that has no way when its time is over has waited for one.
                let waited = self.calls.get(call);
                let waited = waited.filter(|c| c.stage == Stage::Routing && !c.in_doubt);
                let failure = waited.map_or(Failure::DeadlineExceeded, |c| c.waits_for);
                self.abandon(cx, call, failure, out);
            }
        }
    }

    fn check_invariants(&self) {
        let mut numbered = 0;
        for (peer, calls) in self.peers.iter() {
            if let Some(session) = calls.session {
                assert!(calls.in_flight.len() <= session.credit, "credit was exceeded");
            } else {
                assert!(calls.in_flight.is_empty(), "numbers belong to a session");
            }
            for (sequence, entry) in calls.in_flight.iter() {
                assert!(sequence <= calls.last_sequence);
                if let InFlight::Call(key) = entry {
                    let call = self.calls.get(*key).expect("numbers in flight name calls");
                    let leg = call.leg_at(peer);
                    assert_eq!(leg.and_then(|leg| leg.sequence), Some(sequence));
                    numbered += 1;
                }
            }
        }
        let queued: usize = self.peers.iter().map(|(_, calls)| calls.waiting.len()).sum();
        let (mut waiting, mut with_number, mut bytes) = (0, 0, 0);
        for (_, call) in self.calls.iter() {
            assert!(call.attempt <= retry::ATTEMPTS_MAX, "attempts are bounded");
            for leg in [call.first(), call.second()].into_iter().flatten() {
                waiting += usize::from(leg.sequence.is_none());
                with_number += usize::from(leg.sequence.is_some());
            }
            if let Some(second) = call.second() {
                let first = call.first().expect("a second attempt is beside a first one");
                assert_ne!(first.peer, second.peer, "no instance has a call twice at a time");
                assert!(call.idempotent, "only what may run twice has two attempts");
            }
            if let Some(failed) = &call.failed {
                let waits = call.stage == Stage::BackingOff;
                assert!(
                    waits || call.stage == Stage::Routing,
                    "what has failed is under way no more"
                );
                assert_eq!(failed.timer.is_some(), waits, "who backs off has an end of it");
            }
            bytes += call.payload.as_ref().map_or(0, encoded_bytes);
        }
        assert_eq!(waiting, queued, "every waiting call is queued once");
        assert_eq!(with_number, numbered, "every numbered call is in flight once");
        assert_eq!(bytes, self.payload_bytes, "the account of argument bytes is right");
    }
}
