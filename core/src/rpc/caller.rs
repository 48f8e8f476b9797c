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

use std::collections::VecDeque;

use crate::base::{
    CallKey, CallTag, Effects, FewMap, KeyMap, Limits, MonoTime, PeerId, PeerKey, PeerTag, Slab,
};
use crate::directory::local::LocalRoute;
use crate::machine::{Context, Machine, TimerHandle};
use crate::payload::Payload;
use crate::planted::is_planted;
use crate::rpc::outcome::{AppError, CallError, CallResult, Executed, Failure, Status};
use crate::topic::TopicPath;
use crate::wire::{CallMessage, ReplyMessage};

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a service of this node that is running.
    Local(LocalRoute),
    /// To this peer.
    Peer(PeerKey),
}

/// A call that starts.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// The action.
    pub path: TopicPath,
    /// The argument.
    pub payload: Payload,
    /// When its caller gives up.
    pub deadline: MonoTime,
    /// Whether it may run more than once.
    pub idempotent: bool,
    /// Whether only the peer of its first route will do.
    pub pinned: bool,
}

/// What can happen to the calls made here.
#[derive(Clone, Debug)]
pub enum CallerInput {
    /// A call that was registered with [`Caller::add`] goes this way.
    Routed {
        /// The call.
        call: CallKey,
        /// The way, or why there is none.
        route: Result<Route, CallError>,
    },
    /// There is no way yet: the call waits for one, until its deadline.
    Held(CallKey),
    /// Its caller gives up.
    Cancel(CallKey),
    /// A local call has ended.
    LocalDone {
        /// The call.
        call: CallKey,
        /// How.
        result: CallResult,
    },
    /// A peer answers.
    Reply {
        /// The peer.
        peer: PeerKey,
        /// Its answer.
        reply: ReplyMessage,
    },
    /// A link to the peer is up; it may be one of several.
    PeerReady {
        /// The peer.
        peer: PeerKey,
        /// Its incarnation's boot number.
        boot: u64,
        /// Unanswered calls that it lets us have.
        credit: u32,
        /// The largest argument it accepts, in bytes.
        message_bytes_max: usize,
    },
    /// A link to the peer is gone, and what was on its way is in doubt.
    LinkLost {
        /// The peer.
        peer: PeerKey,
        /// Whether another link to it is up.
        connected: bool,
    },
    /// The peer's incarnation is over.
    SessionEnded(PeerKey),
    /// The user does not want the peer any more; nothing will come of calls to it.
    PeerReleased(PeerKey),
    /// This node stops: every call ends.
    Shutdown,
    /// A timer of ours.
    Timer(CallerTimer),
}

/// What the caller's machine waits for: the deadline of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerTimer(pub CallKey);

/// What the caller's machine wants done.
#[derive(Clone, Debug)]
pub enum CallerEffect {
    /// Run the call here.
    RunLocally {
        /// The call.
        call: CallKey,
        /// The way.
        route: LocalRoute,
        /// The action.
        path: TopicPath,
        /// The argument.
        payload: Payload,
        /// When its caller gives up.
        deadline: MonoTime,
    },
    /// The local call is not wanted any more.
    CancelLocally(CallKey),
    /// Queue the call for the peer; when its turn comes, [`Caller::take_message`] gives the message.
    Send {
        /// The peer.
        peer: PeerKey,
        /// The number under which it travels.
        sequence: u64,
        /// The size of its argument, in bytes.
        payload_bytes: usize,
    },
    /// Take the call back out of the queue: no transport has taken it.
    Withdraw {
        /// The peer.
        peer: PeerKey,
        /// The call's number.
        sequence: u64,
    },
    /// Tell the peer that the call is not wanted any more.
    SendCancel {
        /// The peer.
        peer: PeerKey,
        /// The call's number.
        sequence: u64,
    },
    /// Find another way for the call: it has not run and may go elsewhere.
    Reroute {
        /// The call.
        call: CallKey,
        /// The action.
        path: TopicPath,
    },
    /// The peer that was asked is not active, and has not run the call. It is to go elsewhere.
    NotActive {
        /// The call.
        call: CallKey,
        /// The action.
        path: TopicPath,
        /// How often it was sent somewhere.
        attempt: u32,
        /// Who is active, as the peer knows.
        leader: Option<PeerId>,
    },
    /// Tell the user how the call ended.
    Ended {
        /// The call, whose key is free from now on.
        call: CallKey,
        /// How.
        result: CallResult,
    },
}

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
}

#[derive(Clone, Debug)]
struct Call {
    path: TopicPath,
    /// Gone once the call was handed to a local service.
    payload: Option<Payload>,
    deadline: MonoTime,
    idempotent: bool,
    pinned: bool,
    attempt: u32,
    stage: Stage,
    /// Whether a transport has taken it, on any link, in this attempt.
    sent: bool,
    /// An earlier attempt was sent to a life of a callee that is over; it may have run.
    in_doubt: bool,
    timer: Option<TimerHandle>,
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
    in_flight: FewMap<u64, InFlight>,
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
            attempt: 1,
            stage: Stage::Routing,
            sent: false,
            in_doubt: false,
            timer: None,
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
        let InFlight::Call(key) = *calls.in_flight.get(&sequence)? else { return None };
        let call = self.calls.get_mut(key).expect("numbers in flight name calls");
        let Some(Payload::Encoded { content, bytes }) = &call.payload else {
            unreachable!("arguments are encoded before a number is given");
        };
        call.sent = true;
        Some(CallMessage {
            sequence,
            floor,
            attempt: call.attempt,
            callee_boot: session.boot,
            time_left: call.deadline.since(now),
            path: call.path.clone(),
            content: *content,
            payload: bytes.clone(),
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
        let Some(call) = self.calls.remove(key) else { return };
        // That this attempt has not run says nothing about those before it.
        if call.in_doubt
            && let Err(CallError::Failed { executed, .. }) = &mut result
            && *executed == Executed::No
        {
            *executed = Executed::Maybe;
        }
        if let Some(payload) = &call.payload {
            self.payload_bytes -= encoded_bytes(payload);
        }
        if let Some(timer) = call.timer {
            cx.disarm(timer);
        }
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
        let stage = call.stage.clone();
        let executed = match stage {
            Stage::Local => {
                out.push(CallerEffect::CancelLocally(key));
                Executed::Maybe
            }
            Stage::Numbered { peer, sequence } => {
                let sent = call.sent;
                let connected = self.peers.get(peer).is_some_and(|p| p.connected);
                let calls = self.peers.get_mut(peer).expect("numbered with this peer");
                if sent {
                    calls.in_flight.insert(sequence, InFlight::Abandoned { sent });
                    if connected {
                        out.push(CallerEffect::SendCancel { peer, sequence });
                    }
                    if is_planted(8) { Executed::No } else { Executed::Maybe }
                } else {
                    calls.in_flight.remove(&sequence);
                    out.push(CallerEffect::Withdraw { peer, sequence });
                    Executed::No
                }
            }
            Stage::Waiting(peer) => {
                self.stop_waiting(peer, key);
                Executed::No
            }
            Stage::Routing => Executed::No,
        };
        self.end(cx, key, Err(CallError::failed(failure, executed)), out);
        if let Stage::Numbered { peer, .. } = stage {
            self.send_waiting(cx, peer, out);
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
            call.timer = Some(cx.arm(call.deadline, CallerTimer(key)));
        }
        match route {
            Err(error) => self.end(cx, key, Err(error), out),
            Ok(Route::Local(route)) => {
                call.stage = Stage::Local;
                let payload = call.payload.take().expect("only a local service takes it");
                self.payload_bytes -= encoded_bytes(&payload);
                out.push(CallerEffect::RunLocally {
                    call: key,
                    route,
                    path: call.path.clone(),
                    payload,
                    deadline: call.deadline,
                });
            }
            Ok(Route::Peer(peer)) => {
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
                self.send_waiting(cx, peer, out);
            }
        }
    }

    fn remember(&mut self, peer: PeerKey) {
        if self.peers.get(peer).is_none() {
            let last_sequence = self.forgotten_sequence;
            self.peers.insert(peer, PeerCalls { last_sequence, ..PeerCalls::default() });
        }
    }

    /// Takes a call that waits out of the queue, so that the queue holds none that has ended.
    fn stop_waiting(&mut self, peer: PeerKey, key: CallKey) {
        let Some(calls) = self.peers.get_mut(peer) else { return };
        // Calls that give up are mostly the oldest.
        if let Some(index) = calls.waiting.iter().position(|waiting| *waiting == key) {
            calls.waiting.remove(index);
        }
    }

    /// Numbers and sends what waits for the peer, as far as its credit goes.
    fn send_waiting(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        peer: PeerKey,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        loop {
            let Some(calls) = self.peers.get_mut(peer) else { return };
            let Some(session) = calls.session else { return };
            if !calls.connected || calls.in_flight.len() >= session.credit {
                return;
            }
            let Some(key) = calls.waiting.pop_front() else { return };
            let call = self.calls.get_mut(key).expect("calls that end leave the queue");
            let payload_bytes = encoded_bytes(call.payload.as_ref().expect("not local"));
            if payload_bytes > session.message_bytes_max {
                let detail = format!(
                    "the argument has {payload_bytes} bytes, the peer accepts {}",
                    session.message_bytes_max
                );
                let error = CallError::unrun(Failure::TooLarge, detail);
                self.end(cx, key, Err(error), out);
                continue;
            }
            calls.last_sequence += 1;
            let sequence = calls.last_sequence;
            calls.in_flight.insert(sequence, InFlight::Call(key));
            call.stage = Stage::Numbered { peer, sequence };
            call.sent = false;
            out.push(CallerEffect::Send { peer, sequence, payload_bytes });
        }
    }

    /// Sends everything in flight to the peer again, oldest first, under the same numbers.
    fn resend(&mut self, peer: PeerKey, out: &mut Effects<'_, CallerEffect>) {
        let Some(calls) = self.peers.get_mut(peer) else { return };
        // What nobody has sent and nobody wants needs no answer.
        calls.in_flight.retain(|_, entry| !matches!(entry, InFlight::Abandoned { sent: false }));
        if is_planted(2) {
            for entry in std::mem::take(&mut calls.in_flight).into_values() {
                calls.last_sequence += 1;
                let sequence = calls.last_sequence;
                if let InFlight::Call(key) = entry {
                    let call = self.calls.get_mut(key).expect("numbers in flight name calls");
                    call.stage = Stage::Numbered { peer, sequence };
                }
                calls.in_flight.insert(sequence, entry);
            }
        }
        for (&sequence, entry) in calls.in_flight.iter() {
            match entry {
                InFlight::Call(key) => {
                    let call = self.calls.get(*key).expect("numbers in flight name calls");
                    let payload = call.payload.as_ref().expect("not local");
                    let payload_bytes = encoded_bytes(payload);
                    out.push(CallerEffect::Send { peer, sequence, payload_bytes });
                }
                InFlight::Abandoned { .. } => out.push(CallerEffect::SendCancel { peer, sequence }),
            }
        }
    }

    /// The peer's life is over: nothing that it was sent will be answered.
    fn session_ended(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        peer: PeerKey,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        let Some(calls) = self.peers.get_mut(peer) else { return };
        calls.session = None;
        calls.connected = false;
        for entry in std::mem::take(&mut calls.in_flight).into_values() {
            let InFlight::Call(key) = entry else { continue };
            let call = self.calls.get_mut(key).expect("numbers in flight name calls");
            if call.sent && !call.idempotent {
                let executed = if is_planted(3) { Executed::No } else { Executed::Maybe };
                let error = CallError::failed(Failure::PeerRestarted, executed);
                self.end(cx, key, Err(error), out);
                continue;
            }
            if call.sent {
                call.attempt += 1;
                call.sent = false;
                call.in_doubt = true;
            }
            if call.pinned {
                // It waits for the peer's next life.
                call.stage = Stage::Waiting(peer);
                self.peers.get_mut(peer).expect("still there").waiting.push_back(key);
            } else {
                call.stage = Stage::Routing;
                out.push(CallerEffect::Reroute { call: key, path: call.path.clone() });
            }
        }
        // Calls to whoever serves the path need not wait for this peer to come back.
        let calls = self.peers.get_mut(peer).expect("still there");
        let (mut stay, mut go) = (VecDeque::new(), Vec::new());
        for key in std::mem::take(&mut calls.waiting) {
            let call = self.calls.get(key).expect("calls that end leave the queue");
            if call.pinned { stay.push_back(key) } else { go.push(key) }
        }
        calls.waiting = stay;
        for key in go {
            let call = self.calls.get_mut(key).expect("just looked up");
            call.stage = Stage::Routing;
            out.push(CallerEffect::Reroute { call: key, path: call.path.clone() });
        }
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
        let Some(entry) = calls.in_flight.get(&reply.sequence) else { return };
        if let InFlight::Call(key) = entry {
            let key = *key;
            if !self.calls.get(key).is_some_and(|call| call.sent) {
                // An answer to a question that was not put: a lie, which ends nothing.
                return;
            }
            calls.in_flight.remove(&reply.sequence);
            let call = self.calls.get_mut(key).expect("just looked up");
            if reply.status == Status::NotActive && !call.pinned {
                let (path, attempt) = (call.path.clone(), call.attempt);
                (call.stage, call.attempt, call.sent) = (Stage::Routing, attempt + 1, false);
                let leader = reply.error_message.parse().ok();
                out.push(CallerEffect::NotActive { call: key, path, attempt, leader });
            } else {
                let path = Some(call.path.clone());
                self.end(cx, key, result_of(reply, path), out);
            }
        } else {
            calls.in_flight.remove(&reply.sequence);
        }
        self.send_waiting(cx, peer, out);
    }
}

impl PeerCalls {
    fn floor(&self) -> u64 {
        self.in_flight.keys().next().copied().unwrap_or(self.last_sequence + 1)
    }
}

fn encoded_bytes(payload: &Payload) -> usize {
    match payload {
        Payload::Encoded { bytes, .. } => bytes.len(),
        Payload::Value(_) => 0,
    }
}

fn result_of(reply: ReplyMessage, path: Option<TopicPath>) -> CallResult {
    match reply.status {
        Status::Ok => Ok(Payload::Encoded { content: reply.content, bytes: reply.payload }),
        Status::Application => {
            Err(CallError::Application(AppError::new(reply.error_code, reply.error_message)))
        }
        // The peer need not say what we asked for.
        Status::PermissionDenied => {
            let path = path.map_or(String::new(), |path| path.to_string());
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
            CallerInput::Held(key) => {
                if let Some(call) = self.calls.get_mut(key)
                    && call.timer.is_none()
                {
                    call.timer = Some(cx.arm(call.deadline, CallerTimer(key)));
                }
            }
            CallerInput::Cancel(call) => self.abandon(cx, call, Failure::Cancelled, out),
            CallerInput::LocalDone { call, result } => self.end(cx, call, result, out),
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
                let keys: Vec<CallKey> = self
                    .calls
                    .iter()
                    .filter(|(_, call)| match call.stage {
                        Stage::Waiting(p) | Stage::Numbered { peer: p, .. } => p == peer,
                        _ => false,
                    })
                    .map(|(key, _)| key)
                    .collect();
                for key in keys {
                    self.abandon(cx, key, Failure::Unreachable, out);
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
            CallerInput::Timer(CallerTimer(call)) => {
                if let Some(open) = self.calls.get_mut(call) {
                    open.timer = None;
                }
                // One that has no way when its time is over has waited for somebody to be active.
                let waits = self.calls.get(call).is_some_and(|c| c.stage == Stage::Routing);
                let failure = if waits { Failure::NotActive } else { Failure::DeadlineExceeded };
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
            for (&sequence, entry) in calls.in_flight.iter() {
                assert!(sequence <= calls.last_sequence);
                if let InFlight::Call(key) = entry {
                    let call = self.calls.get(*key).expect("numbers in flight name calls");
                    assert_eq!(call.stage, Stage::Numbered { peer, sequence });
                    numbered += 1;
                }
            }
        }
        let queued: usize = self.peers.iter().map(|(_, calls)| calls.waiting.len()).sum();
        let (mut waiting, mut with_number, mut bytes) = (0, 0, 0);
        for (_, call) in self.calls.iter() {
            waiting += usize::from(matches!(call.stage, Stage::Waiting(_)));
            with_number += usize::from(matches!(call.stage, Stage::Numbered { .. }));
            bytes += call.payload.as_ref().map_or(0, encoded_bytes);
        }
        assert_eq!(waiting, queued, "every waiting call is queued once");
        assert_eq!(with_number, numbered, "every numbered call is in flight once");
        assert_eq!(bytes, self.payload_bytes, "the account of argument bytes is right");
    }
}
