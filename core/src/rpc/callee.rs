//! The side that answers: no call runs twice.
//!
//! A caller numbers its calls to us from 1. We register a number *before* the handler runs; a number
//! that comes again joins the running handler or gets the kept answer, and one whose answer is no
//! longer kept gets FORGOTTEN, never a second run. What we remember of a caller's life is a floor (all
//! numbers below it are over, as the caller told us), the next number not yet seen, and the few
//! between that have not come: [`Seen`].

use std::time::Duration;

use bytes::Bytes;

use crate::base::{
    CallKey, CallTag, Effects, FewMap, InvocationKey, InvocationTag, KeyMap, Limits, MonoTime,
    PeerId, PeerKey, PeerTag, Slab,
};
use crate::directory::local::LocalRoute;
use crate::machine::{Context, Machine, TimerHandle};
use crate::payload::{ContentType, Payload};
use crate::planted::is_planted;
use crate::rpc::outcome::{AppError, CallError, CallResult, Executed, Failure, Status};
use crate::rpc::seen::{GAPS_MAX, Seen};
use crate::topic::TopicPath;
use crate::wire::{CallMessage, ReplyMessage};

/// A caller that may send a call again does so before its deadline by its own clock; its memory here
/// is kept for a tenth longer (clock rates differ) and this much.
pub const MEMORY_SLACK: Duration = Duration::from_secs(5);

/// What ran in answer to a call.
#[derive(Clone, Debug)]
pub enum HandlerError {
    /// The handler means its caller to read this.
    Application(AppError),
    /// It could not read the argument, and has not run.
    BadRequest(String),
    /// It failed: it panicked or was stopped.
    Failed(String),
    /// Its service is single-active, and not active here any more: it has not run.
    NotActive,
}

/// What can happen to the calls served here.
#[derive(Clone, Debug)]
pub enum CalleeInput {
    /// A peer calls.
    Call {
        /// Who.
        peer: PeerKey,
        /// What.
        call: CallMessage,
        /// Who handles it, or why nobody does.
        route: Result<LocalRoute, Status>,
    },
    /// A peer calls a single-active service that is not active here.
    NotActive {
        /// Who.
        peer: PeerKey,
        /// What.
        call: CallMessage,
        /// Where it is active, if that is known.
        leader: Option<PeerId>,
    },
    /// A peer no longer wants an answer.
    Cancel {
        /// Who.
        peer: PeerKey,
        /// The number.
        sequence: u64,
        /// Its floor.
        floor: u64,
    },
    /// This node calls itself.
    LocalCall {
        /// The call.
        call: CallKey,
        /// Who handles it.
        route: LocalRoute,
        /// The action.
        path: TopicPath,
        /// The argument.
        payload: Payload,
        /// When its caller gives up.
        deadline: MonoTime,
    },
    /// This node no longer wants an answer from itself.
    LocalCancel(CallKey),
    /// A handler has ended. For calls of peers the payload is encoded.
    Done {
        /// The run.
        invocation: InvocationKey,
        /// Its end.
        result: Result<Payload, HandlerError>,
    },
    /// The caller's earlier life is over.
    SessionEnded(PeerKey),
    /// A link to the peer is verified: its calls may come.
    PeerVerified {
        /// Who.
        peer: PeerKey,
        /// Its incarnation's boot number.
        boot: u64,
    },
    /// No new call runs any more.
    Refuse,
    /// This node has stopped: runs that have not ended are stopped, and all is forgotten.
    Shutdown,
    /// A timer of ours.
    Timer(CalleeTimer),
}

/// What the callee's machine waits for: the deadline of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalleeTimer(pub InvocationKey);

/// What the callee's machine wants done.
#[derive(Clone, Debug)]
pub enum CalleeEffect {
    /// Run a handler.
    Invoke {
        /// The run.
        invocation: InvocationKey,
        /// Which handler.
        route: LocalRoute,
        /// The action.
        path: TopicPath,
        /// The argument.
        payload: Payload,
        /// Who calls; none for this node itself.
        peer: Option<PeerKey>,
        /// When the caller gives up.
        deadline: MonoTime,
    },
    /// Stop a handler: nobody wants its answer.
    CancelInvocation(InvocationKey),
    /// Queue the answer for the peer; when its turn comes, [`Callee::take_message`] gives the message.
    Answer {
        /// Who asked.
        peer: PeerKey,
        /// Its number.
        sequence: u64,
        /// The size of the answer, in bytes.
        payload_bytes: usize,
    },
    /// A local call has ended.
    LocalDone {
        /// The call.
        call: CallKey,
        /// How.
        result: CallResult,
    },
}

#[derive(Clone, Debug)]
enum Origin {
    Peer { peer: PeerKey, sequence: u64 },
    Local(CallKey),
}

#[derive(Clone, Debug)]
struct Invocation {
    origin: Origin,
    timer: TimerHandle,
}

#[derive(Clone, Debug)]
struct Answer {
    status: Status,
    content: ContentType,
    payload: Bytes,
    error: Option<Box<AppError>>,
}

impl Answer {
    fn bare(status: Status) -> Self {
        Answer { status, content: ContentType::RAW, payload: Bytes::new(), error: None }
    }

    fn with_text(status: Status, text: String) -> Self {
        Answer { error: Some(Box::new(AppError::new("", text))), ..Answer::bare(status) }
    }

    fn bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, |e| e.code.len() + e.message.len());
        self.payload.len() + error
    }
}

#[derive(Clone, Debug)]
enum Entry {
    Running(InvocationKey),
    Answered(Answer),
}

#[derive(Clone, Debug, Default)]
struct CallerMemory {
    boot: u64,
    floor: u64,
    seen: Seen,
    entries: FewMap<u64, Entry>,
    running: usize,
    kept_bytes: usize,
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
        }
    }

    /// This node has begun another life. The sessions of the old one have ended before.
    pub fn set_boot(&mut self, boot: u64) {
        self.boot = boot;
    }

    /// How many handlers run.
    pub fn running(&self) -> usize {
        self.invocations.len()
    }

    /// Whether a run is for a peer; none if it has ended.
    pub fn is_remote(&self, invocation: InvocationKey) -> Option<bool> {
        let invocation = self.invocations.get(invocation)?;
        Some(matches!(invocation.origin, Origin::Peer { .. }))
    }

    /// Until when what is known of this caller must be kept; none if nothing is.
    pub fn keep_until(&self, peer: PeerKey) -> Option<MonoTime> {
        self.callers.get(peer).map(|memory| memory.keep_until)
    }

    /// The message of an answer whose turn has come; none if the caller does not want it any more.
    pub fn take_message(&mut self, peer: PeerKey, sequence: u64) -> Option<ReplyMessage> {
        let memory = self.callers.get(peer)?;
        let oldest = memory.entries.values().find(|e| matches!(e, Entry::Answered(_)));
        let entry = memory.entries.get(&sequence);
        let answer = match if is_planted(5) { oldest } else { entry } {
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
        if memory.seen.contains(sequence) && !is_planted(1) {
            match memory.entries.get(&sequence) {
                // Joined: the answer goes out when it is there.
                Some(Entry::Running(_)) => {}
                Some(Entry::Answered(kept)) => answer(out, kept.bytes()),
                // It ran, or might have; it does not run again.
                None if sequence >= memory.floor => answer(out, 0),
                None => {}
            }
            return;
        }
        memory.seen.insert(sequence);
        let time_left = call.time_left;
        memory.keep_until =
            memory.keep_until.max(cx.now.mono + time_left + time_left / 10 + MEMORY_SLACK);
        let refusal = if call.callee_boot != self.boot {
            Some(Answer::bare(Status::WrongIncarnation))
        } else if self.refusing {
            Some(Answer::bare(Status::ShuttingDown))
        } else if time_left.is_zero() {
            Some(Answer::bare(Status::ExpiredUnrun))
        } else if memory.running >= self.running_per_peer_max
            || self.invocations.len() >= self.invocations_max
            || memory.kept_bytes >= self.kept_bytes_max
        {
            Some(Answer::bare(Status::Overloaded))
        } else {
            route.as_ref().err().cloned()
        };
        if let Some(refusal) = refusal {
            let bytes = refusal.bytes();
            memory.kept_bytes += bytes;
            memory.entries.insert(sequence, Entry::Answered(refusal));
            answer(out, bytes);
            self.trim(peer);
            return;
        }
        let deadline = cx.now.mono + time_left;
        let invocation = self
            .invocations
            .insert(Invocation { origin: Origin::Peer { peer, sequence }, timer: TimerHandle(0) });
        let timer = cx.arm(deadline, CalleeTimer(invocation));
        self.invocations.get_mut(invocation).expect("just inserted").timer = timer;
        memory.entries.insert(sequence, Entry::Running(invocation));
        memory.running += 1;
        out.push(CalleeEffect::Invoke {
            invocation,
            route: route.unwrap_or_else(|_| unreachable!("refusals are handled above")),
            path: call.path,
            payload: Payload::Encoded { content: call.content, bytes: call.payload },
            peer: Some(peer),
            deadline,
        });
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
        match memory.entries.get(&sequence) {
            Some(Entry::Running(invocation)) => {
                let invocation = *invocation;
                out.push(CalleeEffect::CancelInvocation(invocation));
                self.finish(cx, invocation, Answer::bare(Status::Cancelled), out);
            }
            Some(Entry::Answered(_)) => {
                out.push(CalleeEffect::Answer { peer, sequence, payload_bytes: 0 });
            }
            None => {
                // The cancel has overtaken its call, which must not run when it comes.
                let status = if memory.seen.contains(sequence) {
                    Status::Forgotten
                } else {
                    Status::CancelledUnrun
                };
                memory.seen.insert(sequence);
                memory.entries.insert(sequence, Entry::Answered(Answer::bare(status)));
                out.push(CalleeEffect::Answer { peer, sequence, payload_bytes: 0 });
                self.trim(peer);
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
        let Some(invocation) = self.invocations.remove(key) else { return };
        cx.disarm(invocation.timer);
        let Origin::Peer { peer, sequence } = invocation.origin else {
            unreachable!("local runs end in finish_local");
        };
        let Some(memory) = self.callers.get_mut(peer) else { return };
        // The caller may have begun a new life in the meantime.
        match memory.entries.get(&sequence) {
            Some(Entry::Running(running)) if *running == key => {}
            _ => return,
        }
        memory.running -= 1;
        if sequence < memory.floor {
            memory.entries.remove(&sequence);
            return;
        }
        let payload_bytes = answer.bytes();
        memory.kept_bytes += payload_bytes;
        memory.entries.insert(sequence, Entry::Answered(answer));
        out.push(CalleeEffect::Answer { peer, sequence, payload_bytes });
        self.trim(peer);
    }

    fn finish_local(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        key: InvocationKey,
        result: CallResult,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        let Some(invocation) = self.invocations.remove(key) else { return };
        cx.disarm(invocation.timer);
        let Origin::Local(call) = invocation.origin else {
            unreachable!("runs for peers end in finish");
        };
        self.local.remove(call);
        out.push(CalleeEffect::LocalDone { call, result });
    }

    /// Holds the answers kept for a caller within their bounds: bodies go first, then whole entries,
    /// oldest first.
    fn trim(&mut self, peer: PeerKey) {
        let Some(memory) = self.callers.get_mut(peer) else { return };
        if memory.kept_bytes > self.kept_bytes_max {
            for entry in memory.entries.values_mut() {
                if memory.kept_bytes <= self.kept_bytes_max {
                    break;
                }
                if let Entry::Answered(answer) = entry
                    && answer.bytes() > 0
                {
                    memory.kept_bytes -= answer.bytes();
                    // Of what has not run, or failed, the text goes and the word stays.
                    *answer = Answer::bare(match answer.status {
                        Status::Ok | Status::Application => Status::AnswerDropped,
                        status => status,
                    });
                }
            }
        }
        if memory.entries.len() > self.kept_max + memory.running {
            let mut surplus = memory.entries.len() - self.kept_max - memory.running;
            let kept_bytes = &mut memory.kept_bytes;
            memory.entries.retain(|_, entry| match entry {
                Entry::Answered(answer) if surplus > 0 => {
                    surplus -= 1;
                    *kept_bytes -= answer.bytes();
                    false
                }
                _ => true,
            });
        }
    }

    /// A caller's life is over: its runs are stopped, its answers dropped.
    fn drop_caller(
        &mut self,
        cx: &mut Context<'_, CalleeTimer>,
        peer: PeerKey,
        out: &mut Effects<'_, CalleeEffect>,
    ) {
        let Some(memory) = self.callers.remove(peer) else { return };
        for entry in memory.entries.into_values() {
            if let Entry::Running(key) = entry
                && let Some(invocation) = self.invocations.remove(key)
            {
                cx.disarm(invocation.timer);
                out.push(CalleeEffect::CancelInvocation(key));
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
        // Nobody waits for what runs, but it runs; it goes when it has ended.
        let is_over = |sequence: &u64, entry: &Entry| {
            *sequence < floor && matches!(entry, Entry::Answered(_))
        };
        while let Some((_, Entry::Answered(answer))) = self.entries.pop_first_if(is_over) {
            self.kept_bytes -= answer.bytes();
        }
    }
}

/// What a handler's end means for the peer that called.
fn answer_of(result: Result<Payload, HandlerError>, message_bytes_max: usize) -> Answer {
    match result {
        Ok(Payload::Encoded { content, bytes }) => {
            if bytes.len() > message_bytes_max {
                let text = format!(
                    "the answer has {} bytes, at most {message_bytes_max} can be sent",
                    bytes.len()
                );
                return Answer::with_text(Status::AnswerTooLarge, text);
            }
            Answer { status: Status::Ok, content, payload: bytes, error: None }
        }
        Ok(Payload::Value(value)) => match value.encode() {
            Ok((content, bytes)) => {
                answer_of(Ok(Payload::Encoded { content, bytes }), message_bytes_max)
            }
            Err(error) => Answer::with_text(Status::AnswerUnencodable, error.to_string()),
        },
        Err(HandlerError::Application(error)) => {
            Answer { error: Some(Box::new(error)), ..Answer::bare(Status::Application) }
        }
        Err(HandlerError::BadRequest(why)) => Answer::with_text(Status::BadRequest, why),
        Err(HandlerError::Failed(why)) => Answer::with_text(Status::HandlerFailed, why),
        Err(HandlerError::NotActive) => Answer::bare(Status::NotActive),
    }
}

/// What a handler's end means for this node itself.
fn local_result_of(result: Result<Payload, HandlerError>) -> CallResult {
    result.map_err(|error| match error {
        HandlerError::Application(error) => CallError::Application(error),
        HandlerError::BadRequest(why) => CallError::unrun(Failure::BadRequest, why),
        HandlerError::Failed(detail) => {
            CallError::Failed { failure: Failure::HandlerFailed, executed: Executed::Maybe, detail }
        }
        HandlerError::NotActive => CallError::failed(Failure::NotActive, Executed::No),
    })
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
            CalleeInput::LocalCall { call, route, path, payload, deadline } => {
                if self.refusing || self.invocations.len() >= self.invocations_max {
                    let failure =
                        if self.refusing { Failure::ShuttingDown } else { Failure::Overloaded };
                    let result = Err(CallError::failed(failure, Executed::No));
                    out.push(CalleeEffect::LocalDone { call, result });
                    return;
                }
                let invocation = self
                    .invocations
                    .insert(Invocation { origin: Origin::Local(call), timer: TimerHandle(0) });
                // The caller's own timer ends the call; this one only stops a forgotten handler.
                let timer = cx.arm(deadline + MEMORY_SLACK, CalleeTimer(invocation));
                self.invocations.get_mut(invocation).expect("just inserted").timer = timer;
                self.local.insert(call, invocation);
                out.push(CalleeEffect::Invoke {
                    invocation,
                    route,
                    path,
                    payload,
                    peer: None,
                    deadline,
                });
            }
            CalleeInput::LocalCancel(call) => {
                if let Some(key) = self.local.remove(call)
                    && let Some(invocation) = self.invocations.remove(key)
                {
                    cx.disarm(invocation.timer);
                    out.push(CalleeEffect::CancelInvocation(key));
                }
            }
            CalleeInput::Done { invocation, result } => {
                match self.invocations.get(invocation).map(|i| &i.origin) {
                    Some(Origin::Peer { .. }) => {
                        let answer = answer_of(result, self.message_bytes_max);
                        self.finish(cx, invocation, answer, out);
                    }
                    Some(Origin::Local(_)) => {
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
                    out.push(CalleeEffect::CancelInvocation(key));
                }
                self.callers = KeyMap::default();
                self.local = KeyMap::default();
            }
            CalleeInput::Timer(CalleeTimer(key)) => {
                let Some(invocation) = self.invocations.get(key) else { return };
                out.push(CalleeEffect::CancelInvocation(key));
                match invocation.origin {
                    Origin::Peer { .. } => {
                        self.finish(cx, key, Answer::bare(Status::Expired), out);
                    }
                    Origin::Local(_) => {
                        let error = CallError::failed(Failure::DeadlineExceeded, Executed::Maybe);
                        self.finish_local(cx, key, Err(error), out);
                    }
                }
            }
        }
    }

    fn check_invariants(&self) {
        let mut remote = 0;
        for (_, memory) in self.callers.iter() {
            let (mut running, mut bytes) = (0, 0);
            for (sequence, entry) in memory.entries.iter() {
                assert!(memory.seen.contains(*sequence), "registered before it runs");
                match entry {
                    Entry::Running(key) => {
                        assert!(self.invocations.get(*key).is_some());
                        running += 1;
                    }
                    Entry::Answered(answer) => bytes += answer.bytes(),
                }
            }
            assert_eq!(running, memory.running, "runs are counted");
            assert!(running <= self.running_per_peer_max, "credit was exceeded");
            assert_eq!(bytes, memory.kept_bytes, "the account of kept bytes is right");
            assert!(memory.entries.len() <= self.kept_max + running, "answers are bounded");
            assert!(memory.seen.gaps() <= GAPS_MAX);
            remote += running;
        }
        let runs = self.invocations.iter();
        let of_peers = runs.filter(|(_, i)| matches!(i.origin, Origin::Peer { .. })).count();
        assert_eq!(of_peers, remote, "every run for a peer is registered with its caller");
        assert!(self.invocations.len() <= self.invocations_max);
    }
}

#[cfg(test)]
#[path = "callee_tests.rs"]
mod tests;
