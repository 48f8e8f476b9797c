//! The side that answers: no call runs twice.
//!
//! A caller numbers its calls to us from 1. We register a number *before* the handler runs; a number
//! that comes again joins the running handler or gets the kept answer, and one whose answer is no
//! longer kept gets FORGOTTEN, never a second run. What we remember of a caller's life is a floor (all
//! numbers below it are over, as the caller told us), the next number not yet seen, and the few
//! between that have not come: [`Seen`].

mod answer;
mod kept;
mod runs;
mod words;

use std::time::Duration;

use crate::base::{
    Bound, CallKey, CallTag, Effects, InvocationKey, InvocationTag, KeyMap, Limits, MonoTime,
    PeerKey, PeerTag, ServiceKey, ServiceTag, Slab,
};
use crate::directory::local::LocalRoute;
use crate::machine::{Context, Machine, TimerHandle};
use crate::payload::Payload;
use crate::planted::is_planted;
use crate::rpc::admission::{Door, is_expired};
use crate::rpc::health::Health;
use crate::rpc::outcome::{CallError, CallResult, Executed, Failure, Status};
use crate::rpc::seen::{GAPS_MAX, Seen};
use crate::wire::{CallMessage, ReplyMessage};

use answer::{Answer, answer_of, local_result_of};
use kept::{Entry, Kept};
pub use words::{Asked, CalleeEffect, CalleeInput, CalleeTimer, HandlerError};

/// A caller that may send a call again does so before its deadline by its own clock; its memory here
/// is kept for a tenth longer (clock rates differ) and this much.
pub const MEMORY_SLACK: Duration = Duration::from_secs(5);

/// What a caller is told when all handlers together are too many: nobody knows when that ends. A guess.
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
enum Origin {
    Peer { peer: PeerKey, sequence: u64 },
    Local(CallKey),
}

#[derive(Clone, Debug)]
struct Invocation {
    origin: Origin,
    timer: TimerHandle,
    service: ServiceKey,
    is_stream: bool,
    /// How large its argument is. Nothing for one that was never encoded.
    argument_bytes: usize,
    /// When it came, or began to run.
    since: MonoTime,
    /// What is run, while it waits for its turn.
    waiting: Option<Box<Asked>>,
}

#[derive(Clone, Debug, Default)]
struct CallerMemory {
    boot: u64,
    floor: u64,
    seen: Seen,
    kept: Kept,
    /// Until then, by our clock, the caller may send something again.
    keep_until: MonoTime,
}

/// The machine of all calls served here.
#[derive(Clone, Debug)]
pub struct Callee {
    boot: u64,
    running_per_peer_max: usize,
    invocations_max: usize,
    kept_bytes_max: usize,
    kept_max: usize,
    message_bytes_max: usize,
    refusing: bool,
    callers: KeyMap<PeerTag, CallerMemory>,
    local: KeyMap<CallTag, InvocationKey>,
    invocations: Slab<Invocation, InvocationTag>,
    /// Of services that have a capacity.
    doors: KeyMap<ServiceTag, Door>,
    /// Of services that were called.
    healths: KeyMap<ServiceTag, Box<Health>>,
}

impl Callee {
    /// A callee of this incarnation.
    pub fn new(boot: u64, limits: &Limits) -> Self {
        Callee {
            boot,
            running_per_peer_max: limits.calls_served_per_peer_max,
            invocations_max: limits.invocations_max,
            kept_bytes_max: limits.kept_answer_bytes_per_peer_max,
            kept_max: limits.kept_answers_per_peer_max,
            message_bytes_max: limits.message_bytes_max,
            refusing: false,
            callers: KeyMap::default(),
            local: KeyMap::default(),
            invocations: Slab::default(),
            doors: KeyMap::default(),
            healths: KeyMap::default(),
        }
    }

    /// This node has begun another life. The sessions of the old one have ended before.
    pub fn set_boot(&mut self, boot: u64) {
        self.boot = boot;
    }

    /// How many handlers run, or wait for their turn.
    pub fn running(&self) -> usize {
        self.invocations.len()
    }

    /// Whether a run is for a peer; none if it has ended.
    pub fn is_remote(&self, invocation: InvocationKey) -> Option<bool> {
        let invocation = self.invocations.get(invocation)?;
        Some(matches!(invocation.origin, Origin::Peer { .. }))
    }

    /// How a service did; none before its first call.
    pub fn health(&self, service: ServiceKey) -> Option<&Health> {
        self.healths.get(service).map(|health| &**health)
    }

    /// How many calls of a service run, and how many wait. Costs time in the number of all that do.
    pub fn busy(&self, service: ServiceKey) -> (usize, usize) {
        let its = self.invocations.iter().filter(|(_, i)| i.service == service);
        its.fold((0, 0), |(running, waiting), (_, i)| match i.waiting {
            None => (running + 1, waiting),
            Some(_) => (running, waiting + 1),
        })
    }

    /// How many calls of a service may run and wait; none if nothing bounds it.
    pub fn capacity(&self, service: ServiceKey) -> Option<(usize, usize)> {
        self.doors.get(service).map(Door::capacity)
    }

    /// A run of a service has ended with an answer, or without one.
    fn note(&mut self, now: MonoTime, invocation: &Invocation, answered: bool) {
        if invocation.waiting.is_some() || invocation.is_stream {
            return;
        }
        if self.healths.get(invocation.service).is_none() {
            self.healths.insert(invocation.service, Box::new(Health::new(now)));
        }
        let health = self.healths.get_mut(invocation.service).expect("just inserted");
        health.note(now, now.since(invocation.since), answered);
    }

    /// Until when what is known of this caller must be kept; none if nothing is.
    pub fn keep_until(&self, peer: PeerKey) -> Option<MonoTime> {
        self.callers.get(peer).map(|memory| memory.keep_until)
    }

    /// The message of an answer whose turn has come; none if the caller does not want it any more.
    pub fn take_message(&mut self, peer: PeerKey, sequence: u64) -> Option<ReplyMessage> {
        let memory = self.callers.get(peer)?;
        let entry = if is_planted(5) {
            memory.kept.iter().map(|(_, e)| e).find(|e| matches!(e, Entry::Answered(_)))
        } else {
            memory.kept.get(sequence)
        };
        let answer = match entry {
            Some(Entry::Answered(answer)) => answer.clone(),
            Some(Entry::Running(_)) => return None,
            // Over, or pushed out by others: the caller hears that, if it still asks.
            None if sequence >= memory.floor => Answer::bare(Status::Forgotten),
            None => return None,
        };
        let (error_code, error_message) =
            answer.error.map_or_else(Default::default, |error| (error.code, error.message));
        Some(ReplyMessage {
            sequence,
            caller_boot: memory.boot,
            status: answer.status,
            content: answer.content,
            error_code,
            error_message,
            retry_after: answer.retry_after,
            payload: answer.payload,
        })
    }

    fn on_call(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        peer: PeerKey,
        call: CallMessage,
        route: Result<LocalRoute, Answer>,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        let Some(memory) = self.callers.get_mut(peer) else { return };
        memory.raise_floor(call.floor);
        let sequence = call.sequence;
        let answer = |out: &mut Effects<'_, CalleeEffect>, payload_bytes| {
            out.push(CalleeEffect::Answer { peer, sequence, payload_bytes });
        };
        let is_new = memory.seen.insert(sequence);
        if !is_new && !is_planted(1) {
            match memory.kept.get(sequence) {
                // Joined: the answer goes out when it is there.
                Some(Entry::Running(_)) => {}
                Some(Entry::Answered(kept)) => answer(out, kept.bytes()),
                // It ran, or might have; it does not run again.
                None if sequence >= memory.floor => answer(out, 0),
                None => {}
            }
            return;
        }
        let time_left = call.time_left;
        memory.keep_until =
            memory.keep_until.max(cx.now.mono + time_left + time_left / 10 + MEMORY_SLACK);
        let deadline = cx.now.mono + time_left;
        let refused = |status| Err(Answer::bare(status));
        let admitted = if call.callee_boot != self.boot {
            refused(Status::WrongIncarnation)
        } else if self.refusing {
            refused(Status::ShuttingDown)
        } else if time_left.is_zero() {
            refused(Status::ExpiredUnrun)
        } else if memory.kept.running() >= self.running_per_peer_max {
            cx.refused(Bound::CallsPerPeer);
            refused(Status::Overloaded)
        } else if self.invocations.len() >= self.invocations_max {
            cx.refused(Bound::Invocations);
            Err(Answer::overloaded(RETRY_AFTER))
        } else {
            match route {
                Err(answer) => Err(answer),
                Ok(route) => {
                    let origin = Origin::Peer { peer, sequence };
                    let payload = Payload::Encoded { content: call.content, bytes: call.payload };
                    let asked = Box::new(Asked { route, path: call.path, payload, deadline });
                    let admitted = self.admit(cx, origin, asked, deadline, out);
                    admitted.map_err(|(_, retry_after)| Answer::overloaded(retry_after))
                }
            }
        };
        let memory = self.callers.get_mut(peer).expect("looked up above");
        match admitted {
            Ok(invocation) => memory.kept.run(sequence, invocation),
            Err(refusal) => {
                let bytes = refusal.bytes();
                memory.kept.answer(sequence, refusal, self.kept_bytes_max, self.kept_max);
                answer(out, bytes);
            }
        }
    }

    fn on_cancel(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        peer: PeerKey,
        sequence: u64,
        floor: u64,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        let Some(memory) = self.callers.get_mut(peer) else { return };
        memory.raise_floor(floor);
        if sequence < memory.floor {
            return;
        }
        match memory.kept.get(sequence) {
            Some(Entry::Running(invocation)) => {
                let invocation = *invocation;
                let entry = self.invocations.get(invocation);
                let status = if entry.is_some_and(|entry| entry.waiting.is_some()) {
                    Status::CancelledUnrun
                } else {
                    out.push(CalleeEffect::CancelInvocation(invocation));
                    Status::Cancelled
                };
                self.finish(cx, invocation, Answer::bare(status), out);
            }
            Some(Entry::Answered(kept)) => {
                let payload_bytes = kept.bytes();
                out.push(CalleeEffect::Answer { peer, sequence, payload_bytes });
            }
            None => {
                // The cancel has overtaken its call, which must not run when it comes.
                let is_new = memory.seen.insert(sequence);
                let status = if is_new { Status::CancelledUnrun } else { Status::Forgotten };
                let answer = Answer::bare(status);
                memory.kept.answer(sequence, answer, self.kept_bytes_max, self.kept_max);
                out.push(CalleeEffect::Answer { peer, sequence, payload_bytes: 0 });
            }
        }
    }

    /// A run has ended with this answer.
    fn finish(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        key: InvocationKey,
        answer: Answer,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        let Some(invocation) = self.remove(cx, key) else { return };
        let Origin::Peer { peer, sequence } = invocation.origin else {
            unreachable!("local runs end in finish_local");
        };
        match answer.status {
            Status::Cancelled | Status::PermissionDenied | Status::Unavailable => {}
            Status::HandlerFailed | Status::Expired => self.note(cx.now.mono, &invocation, false),
            _ => self.note(cx.now.mono, &invocation, true),
        }
        self.answer(peer, sequence, key, answer, out);
        self.serve_next(cx, invocation.service, out);
    }

    /// A run for a peer has ended with this answer, which is kept and sent.
    fn answer(
        &mut self,
        peer: PeerKey,
        sequence: u64,
        key: InvocationKey,
        answer: Answer,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        let Some(memory) = self.callers.get_mut(peer) else { return };
        // The caller may have begun a new life in the meantime.
        match memory.kept.get(sequence) {
            Some(Entry::Running(running)) if *running == key => {}
            _ => return,
        }
        if sequence < memory.floor {
            return memory.kept.drop_run(sequence);
        }
        let payload_bytes = answer.bytes();
        memory.kept.answer(sequence, answer, self.kept_bytes_max, self.kept_max);
        out.push(CalleeEffect::Answer { peer, sequence, payload_bytes });
    }

    fn finish_local(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        key: InvocationKey,
        result: CallResult,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        let Some(invocation) = self.remove(cx, key) else { return };
        let Origin::Local(call) = invocation.origin else {
            unreachable!("runs for peers end in finish");
        };
        self.local.remove(call);
        let failed = matches!(result, Err(CallError::Failed { executed: Executed::Maybe, .. }));
        self.note(cx.now.mono, &invocation, !failed);
        out.push(CalleeEffect::LocalDone { call, result });
        self.serve_next(cx, invocation.service, out);
    }

    /// A caller's life is over: its runs are stopped, its answers dropped.
    fn drop_caller(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        peer: PeerKey,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        let Some(memory) = self.callers.remove(peer) else { return };
        for (_, entry) in memory.kept.iter() {
            if let Entry::Running(key) = entry {
                self.stop(cx, *key, out);
            }
        }
    }
}

impl CallerMemory {
    fn raise_floor(&mut self, floor: u64) {
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        self.seen.raise_floor(floor);
        self.kept.raise_floor(floor);
    }
}

impl Machine for Callee {
    type Input = CalleeInput;
    type Effect = CalleeEffect;
    type Timer = CalleeTimer;
    type View<'a> = ();

    fn handle(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        (): (),
        input: CalleeInput,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        match input {
            CalleeInput::Call { peer, call, route } => {
                self.on_call(cx, peer, call, route.map_err(Answer::bare), out);
            }
            CalleeInput::NotActive { peer, call, leader } => {
                let leader = leader.map_or_else(String::new, |leader| leader.to_string());
                let answer = Answer::with_text(Status::NotActive, leader);
                self.on_call(cx, peer, call, Err(answer), out);
            }
            CalleeInput::Cancel { peer, sequence, floor } => {
                self.on_cancel(cx, peer, sequence, floor, out);
            }
            CalleeInput::LocalCall { call, asked } => {
                if self.refusing {
                    let result = Err(CallError::failed(Failure::ShuttingDown, Executed::No));
                    out.push(CalleeEffect::LocalDone { call, result });
                    return;
                }
                // Its caller may have waited, and slept through its deadline.
                let deadline = asked.deadline;
                if deadline <= cx.now.mono {
                    let error = CallError::failed(Failure::DeadlineExceeded, Executed::No);
                    out.push(CalleeEffect::LocalDone { call, result: Err(error) });
                    return;
                }
                let admitted = if self.invocations.len() >= self.invocations_max {
                    Err((asked, RETRY_AFTER))
                } else {
                    // The caller's own timer ends the call; this one only stops a forgotten handler.
                    self.admit(cx, Origin::Local(call), asked, deadline + MEMORY_SLACK, out)
                };
                match admitted {
                    Ok(invocation) => {
                        self.local.insert(call, invocation);
                    }
                    Err((asked, retry_after)) => {
                        let (payload, retry_after) = (asked.payload, Some(retry_after));
                        out.push(CalleeEffect::LocalRefused { call, payload, retry_after });
                    }
                }
            }
            CalleeInput::LocalCancel(call) => {
                if let Some(key) = self.local.remove(call) {
                    self.stop(cx, key, out);
                }
            }
            CalleeInput::Done { invocation, result } => {
                let run = self.invocations.get(invocation);
                match run.map(|run| (&run.origin, run.argument_bytes)) {
                    Some((Origin::Peer { .. }, argument_bytes)) => {
                        let is_as_it_came = matches!(result, Ok(Payload::Encoded { .. }));
                        let mut answer = answer_of(result, self.message_bytes_max);
                        if is_as_it_came {
                            answer.detach(argument_bytes);
                        }
                        self.finish(cx, invocation, answer, out);
                    }
                    Some((Origin::Local(_), _)) => {
                        self.finish_local(cx, invocation, local_result_of(result), out);
                    }
                    // Cancelled or expired while it ended.
                    None => {}
                }
            }
            CalleeInput::SessionEnded(peer) => self.drop_caller(cx, peer, out),
            CalleeInput::PeerVerified { peer, boot } => {
                if self.callers.get(peer).is_some_and(|memory| memory.boot != boot) {
                    self.drop_caller(cx, peer, out);
                }
                if self.callers.get(peer).is_none() {
                    let memory = CallerMemory { boot, floor: 1, ..CallerMemory::default() };
                    self.callers.insert(peer, memory);
                }
            }
            CalleeInput::Refuse => self.refusing = true,
            CalleeInput::Shutdown => {
                for (key, invocation) in std::mem::take(&mut self.invocations).iter() {
                    cx.disarm(invocation.timer);
                    if invocation.waiting.is_none() {
                        out.push(CalleeEffect::CancelInvocation(key));
                    }
                }
                self.callers = KeyMap::default();
                self.local = KeyMap::default();
                self.doors = KeyMap::default();
            }
            CalleeInput::Timer(CalleeTimer(key)) => self.expire(cx, key, out),
            CalleeInput::Limited { service, capacity } => {
                self.doors.insert(service, Door::new(capacity));
            }
            CalleeInput::Denied(key) => {
                self.finish(cx, key, Answer::bare(Status::PermissionDenied), out);
            }
            CalleeInput::ServiceGone(service) => {
                let waiting: Vec<_> =
                    self.doors.get(service).into_iter().flat_map(Door::waiting).collect();
                // First, so that nobody else has a turn.
                self.doors.remove(service);
                self.healths.remove(service);
                for key in waiting {
                    self.turn_away(cx, key, out);
                }
            }
        }
    }

    fn check_invariants(&self) {
        let mut remote = 0;
        for (_, memory) in self.callers.iter() {
            memory.kept.check_invariants(self.kept_bytes_max, self.kept_max);
            for (sequence, entry) in memory.kept.iter() {
                assert!(memory.seen.contains(sequence), "registered before it runs");
                if let Entry::Running(key) = entry {
                    assert!(self.invocations.get(*key).is_some());
                }
            }
            let running = memory.kept.running();
            assert!(running <= self.running_per_peer_max, "credit was exceeded");
            assert!(memory.seen.gaps() <= GAPS_MAX);
            remote += running;
        }
        let runs = self.invocations.iter();
        let of_peers = runs.filter(|(_, i)| matches!(i.origin, Origin::Peer { .. })).count();
        assert_eq!(of_peers, remote, "every run for a peer is registered with its caller");
        assert!(self.invocations.len() <= self.invocations_max);
        let mut waiting = 0;
        for (service, door) in self.doors.iter() {
            door.check_invariants();
            for key in door.waiting() {
                let invocation = self.invocations.get(key).expect("who waits has not ended");
                assert!(invocation.waiting.is_some() && invocation.service == service);
                waiting += 1;
            }
            let runs =
                |i: &&Invocation| i.service == service && i.waiting.is_none() && !i.is_stream;
            let running = self.invocations.iter().map(|(_, i)| i).filter(runs).count();
            assert_eq!(running, door.running(), "whoever runs came by the door");
        }
        let waits = self.invocations.iter().filter(|(_, i)| i.waiting.is_some()).count();
        assert_eq!(waits, waiting, "whoever waits is in a queue");
    }
}

#[cfg(test)]
#[path = "callee_tests.rs"]
mod tests;
