//! A caller and a callee over links that are lost at any moment, with every order of events.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::{CallKey, InvocationKey, Key, Limits, PeerKey};
use crate::directory::local::LocalRoute;
use crate::machine::tests::Bench;
use crate::payload::Payload;
use crate::rpc::caller::{NewCall, Route};
use crate::topic::TopicPath;
use crate::wire::{CallMessage, ReplyMessage};

const PEER: u64 = 5;

fn peer() -> PeerKey {
    Key::from_u64(PEER << 32)
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Call {
        millis: u64,
        idempotent: bool,
    },
    Cancel(usize),
    /// The caller's transport takes the next thing off a lane.
    PullThere(usize),
    /// The callee's transport takes the next answer.
    PullBack,
    /// The oldest call on its way on a lane arrives.
    ArriveThere(usize),
    /// The oldest answer on its way arrives.
    ArriveBack,
    /// A handler ends.
    Finish(usize),
    /// The link is lost with all that is on it.
    Lose,
    /// There is a link again.
    Connect,
    /// The callee begins a new life.
    Restart,
    /// The next timer of the caller's, or of the callee's, expires.
    CallerTimer,
    CalleeTimer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u64..500, any::<bool>()).prop_map(|(millis, idempotent)| Step::Call { millis, idempotent }),
        1 => (0usize..8).prop_map(Step::Cancel),
        6 => (0usize..2).prop_map(Step::PullThere),
        6 => Just(Step::PullBack),
        6 => (0usize..2).prop_map(Step::ArriveThere),
        6 => Just(Step::ArriveBack),
        4 => (0usize..8).prop_map(Step::Finish),
        1 => Just(Step::Lose),
        3 => Just(Step::Connect),
        1 => Just(Step::Restart),
        1 => Just(Step::CallerTimer),
        1 => Just(Step::CalleeTimer),
    ]
}

/// What the caller wants sent, as the mesh queues it.
#[derive(Clone, Debug)]
enum Item {
    Call(u64),
    Cancel(u64),
}

enum Travelling {
    Call(CallMessage),
    Cancel { sequence: u64, floor: u64 },
}

struct Record {
    idempotent: bool,
    runs: u32,
    result: Option<CallResult>,
}

struct World {
    caller: Bench<Caller>,
    callee: Bench<Callee>,
    callee_boot: u64,
    connected: bool,
    /// Two lanes, by the parity of the number: large and small calls overtake each other.
    queued: [VecDeque<Item>; 2],
    there: [VecDeque<Travelling>; 2],
    answers: VecDeque<u64>,
    back: VecDeque<ReplyMessage>,
    calls: BTreeMap<CallKey, usize>,
    records: Vec<Record>,
    running: Vec<(InvocationKey, usize)>,
}

impl World {
    fn new() -> World {
        let limits = Limits {
            calls_served_per_peer_max: 4,
            calls_waiting_per_peer_max: 6,
            ..Limits::default()
        };
        World {
            caller: Bench::new(Caller::new(1, &limits)),
            callee: Bench::new(Callee::new(100, &limits)),
            callee_boot: 100,
            connected: false,
            queued: Default::default(),
            there: Default::default(),
            answers: VecDeque::new(),
            back: VecDeque::new(),
            calls: BTreeMap::new(),
            records: Vec::new(),
            running: Vec::new(),
        }
    }

    fn caller_did(&mut self, effects: Vec<CallerEffect>) {
        for effect in effects {
            match effect {
                CallerEffect::Send { sequence, .. } => {
                    if self.connected {
                        self.queued[sequence as usize % 2].push_back(Item::Call(sequence));
                    }
                }
                CallerEffect::Withdraw { sequence, .. } => {
                    let lane = &mut self.queued[sequence as usize % 2];
                    lane.retain(|item| !matches!(item, Item::Call(s) if *s == sequence));
                }
                CallerEffect::SendCancel { sequence, .. } => {
                    assert!(self.connected, "a cancel needs a link");
                    self.queued[(sequence / 2) as usize % 2].push_back(Item::Cancel(sequence));
                }
                CallerEffect::Ended { call, result } => {
                    let record = self.calls.remove(&call).expect("a call ends once");
                    assert!(self.records[record].result.is_none(), "a call ends once");
                    self.records[record].result = Some(result);
                }
                CallerEffect::Reroute { call, .. } | CallerEffect::NotActive { call, .. } => {
                    let route = Ok(Route::Peer(peer()));
                    let effects = self.caller.feed((), CallerInput::Routed { call, route });
                    self.caller_did(effects);
                }
                CallerEffect::Failed { call, attempt, .. } => {
                    // Every other one finds another instance, which is the same here.
                    let next = match attempt {
                        1 => CallerInput::Routed { call, route: Ok(Route::Peer(peer())) },
                        _ => CallerInput::Later(call),
                    };
                    let effects = self.caller.feed((), next);
                    self.caller_did(effects);
                }
                CallerEffect::Again { attempt, .. } => assert!(attempt <= retry::ATTEMPTS_MAX),
                CallerEffect::RunLocally { .. }
                | CallerEffect::CancelLocally(_)
                | CallerEffect::Hedge { .. }
                | CallerEffect::LegOver { .. } => unreachable!(),
            }
        }
    }

    fn callee_did(&mut self, effects: Vec<CalleeEffect>) {
        for effect in effects {
            match effect {
                CalleeEffect::Invoke { invocation, payload, .. } => {
                    let record: usize = payload.decode().expect("our own argument");
                    self.records[record].runs += 1;
                    self.running.push((invocation, record));
                }
                CalleeEffect::CancelInvocation(invocation) => {
                    self.running.retain(|(running, _)| *running != invocation);
                }
                CalleeEffect::Answer { sequence, .. } => {
                    if self.connected {
                        self.answers.push_back(sequence);
                    }
                }
                CalleeEffect::LocalDone { .. } | CalleeEffect::LocalRefused { .. } => {
                    unreachable!()
                }
            }
        }
    }

    fn lose(&mut self) {
        if !std::mem::take(&mut self.connected) {
            return;
        }
        self.queued = Default::default();
        self.there = Default::default();
        self.answers.clear();
        self.back.clear();
        let lost = CallerInput::LinkLost { peer: peer(), connected: false };
        let effects = self.caller.feed((), lost);
        self.caller_did(effects);
    }

    fn connect(&mut self) {
        if std::mem::replace(&mut self.connected, true) {
            return;
        }
        self.callee.feed((), CalleeInput::PeerVerified { peer: peer(), boot: 1 });
        let ready = CallerInput::PeerReady {
            peer: peer(),
            boot: self.callee_boot,
            credit: 4,
            message_bytes_max: 1_000,
        };
        let effects = self.caller.feed((), ready);
        self.caller_did(effects);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Call { millis, idempotent } => {
                let record = self.records.len();
                let call = self.caller.machine.add(NewCall {
                    path: TopicPath::parse("a/b").unwrap(),
                    payload: Payload::value(record),
                    deadline: self.caller.now + Duration::from_millis(millis),
                    idempotent,
                    pinned: record.is_multiple_of(2),
                    retry: !record.is_multiple_of(3),
                    hedge: None,
                });
                self.records.push(Record { idempotent, runs: 0, result: None });
                self.calls.insert(call, record);
                let route = Ok(Route::Peer(peer()));
                let effects = self.caller.feed((), CallerInput::Routed { call, route });
                self.caller_did(effects);
            }
            Step::Cancel(pick) => {
                let Some(call) = self.calls.keys().nth(pick).copied() else { return };
                let effects = self.caller.feed((), CallerInput::Cancel(call));
                self.caller_did(effects);
            }
            Step::PullThere(lane) => match self.queued[lane].pop_front() {
                Some(Item::Call(sequence)) => {
                    let now = self.caller.now;
                    let message = self.caller.machine.take_message(now, peer(), sequence);
                    self.there[lane].extend(message.map(Travelling::Call));
                }
                Some(Item::Cancel(sequence)) => {
                    let floor = self.caller.machine.floor(peer()).min(sequence);
                    self.there[lane].push_back(Travelling::Cancel { sequence, floor });
                }
                None => {}
            },
            Step::ArriveThere(lane) => match self.there[lane].pop_front() {
                Some(Travelling::Call(call)) => {
                    let route =
                        Ok(LocalRoute { service: Key::from_u64(1), action: 0, is_stream: false });
                    let input = CalleeInput::Call { peer: peer(), call, route };
                    let effects = self.callee.feed((), input);
                    self.callee_did(effects);
                }
                Some(Travelling::Cancel { sequence, floor }) => {
                    let input = CalleeInput::Cancel { peer: peer(), sequence, floor };
                    let effects = self.callee.feed((), input);
                    self.callee_did(effects);
                }
                None => {}
            },
            Step::PullBack => {
                if let Some(sequence) = self.answers.pop_front() {
                    self.back.extend(self.callee.machine.take_message(peer(), sequence));
                }
            }
            Step::ArriveBack => {
                if let Some(reply) = self.back.pop_front() {
                    let effects = self.caller.feed((), CallerInput::Reply { peer: peer(), reply });
                    self.caller_did(effects);
                }
            }
            Step::Finish(pick) => {
                if pick < self.running.len() {
                    let (invocation, record) = self.running.remove(pick);
                    let result = Ok(Payload::value(record).encode().map(to_payload).unwrap());
                    let effects = self.callee.feed((), CalleeInput::Done { invocation, result });
                    self.callee_did(effects);
                }
            }
            Step::Lose => self.lose(),
            Step::Connect => self.connect(),
            Step::Restart => {
                self.lose();
                self.callee_boot += 1;
                let limits = Limits { calls_served_per_peer_max: 4, ..Limits::default() };
                let now = self.callee.now;
                self.callee = Bench::new(Callee::new(self.callee_boot, &limits));
                self.callee.now = now;
                self.running.clear();
                let effects = self.caller.feed((), CallerInput::SessionEnded(peer()));
                self.caller_did(effects);
            }
            Step::CallerTimer => {
                if let Some(timer) = self.caller.next_timer() {
                    self.callee.now = self.callee.now.max(self.caller.now);
                    let effects = self.caller.feed((), CallerInput::Timer(timer));
                    self.caller_did(effects);
                }
            }
            Step::CalleeTimer => {
                if let Some(timer) = self.callee.next_timer() {
                    self.caller.now = self.caller.now.max(self.callee.now);
                    let effects = self.callee.feed((), CalleeInput::Timer(timer));
                    self.callee_did(effects);
                }
            }
        }
    }

    /// Lets everything that is under way come to its end.
    fn heal(&mut self) {
        self.connect();
        for _ in 0..10_000 {
            for lane in 0..2 {
                self.take(Step::PullThere(lane));
                self.take(Step::ArriveThere(lane));
            }
            self.take(Step::Finish(0));
            self.take(Step::PullBack);
            self.take(Step::ArriveBack);
            let quiet = self.queued.iter().all(VecDeque::is_empty)
                && self.there.iter().all(VecDeque::is_empty)
                && self.answers.is_empty()
                && self.back.is_empty()
                && self.running.is_empty();
            if quiet {
                if !self.caller.machine.backs_off() {
                    return;
                }
                self.take(Step::CallerTimer);
            }
        }
        panic!("it never comes to rest");
    }
}

fn to_payload((content, bytes): (crate::payload::ContentType, bytes::Bytes)) -> Payload {
    Payload::Encoded { content, bytes }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_call_ends_once_and_runs_at_most_once(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.heal();
        prop_assert!(world.calls.is_empty(), "with a link, every call ends");
        prop_assert!(!world.caller.machine.is_using(peer()), "no number is left open");
        prop_assert_eq!(world.caller.timers_armed(), 0);
        prop_assert_eq!(world.callee.timers_armed(), 0);
        for (index, record) in world.records.iter().enumerate() {
            prop_assert!(record.runs <= 1 || record.idempotent, "call {} ran twice", index);
            match record.result.as_ref().expect("it ended") {
                Ok(payload) => {
                    let answer: usize = payload.clone().decode().unwrap();
                    prop_assert_eq!(answer, index, "the answer of another call");
                    prop_assert!(record.runs >= 1);
                }
                Err(error) => match error.executed() {
                    Executed::No => prop_assert_eq!(record.runs, 0, "{} ran: {}", index, error),
                    Executed::Yes => prop_assert!(record.runs >= 1),
                    Executed::Maybe => {}
                },
            }
        }
    }
}
