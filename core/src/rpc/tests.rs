//! A caller and two callees over links that are lost at any moment, with every order of events.

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

/// The keys of the two are 0 and 1.
fn peer(at: usize) -> PeerKey {
    Key::from_u64(5 << 32 | at as u64)
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Call {
        to: usize,
        millis: u64,
        idempotent: bool,
        hedge: Option<u64>,
    },
    Cancel(usize),
    /// The caller's transport takes the next thing off a lane.
    PullThere(usize, usize),
    /// The callee's transport takes the next answer.
    PullBack(usize),
    /// The oldest call on its way on a lane arrives.
    ArriveThere(usize, usize),
    /// The oldest answer on its way arrives.
    ArriveBack(usize),
    /// A handler ends: with an answer, or without one.
    Finish(usize, usize, bool),
    /// The link is lost with all that is on it.
    Lose(usize),
    /// There is a link again.
    Connect(usize),
    /// The callee begins a new life.
    Restart(usize),
    /// The next timer of the caller's, or of the callee's, expires.
    CallerTimer,
    CalleeTimer(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0usize..2;
    let call = (at(), 1u64..500, any::<bool>(), proptest::option::of(0u64..100)).prop_map(
        |(to, millis, idempotent, hedge)| {
            let hedge = hedge.filter(|_| idempotent);
            Step::Call { to, millis, idempotent, hedge }
        },
    );
    prop_oneof![
        5 => call,
        1 => (0usize..8).prop_map(Step::Cancel),
        6 => (at(), at()).prop_map(|(at, lane)| Step::PullThere(at, lane)),
        6 => at().prop_map(Step::PullBack),
        6 => (at(), at()).prop_map(|(at, lane)| Step::ArriveThere(at, lane)),
        6 => at().prop_map(Step::ArriveBack),
        4 => (at(), 0usize..8, prop::bool::weighted(0.8)).prop_map(|(at, n, ok)| Step::Finish(at, n, ok)),
        1 => at().prop_map(Step::Lose),
        3 => at().prop_map(Step::Connect),
        1 => at().prop_map(Step::Restart),
        3 => Just(Step::CallerTimer),
        1 => at().prop_map(Step::CalleeTimer),
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

/// A callee, and the link to it.
struct Side {
    callee: Bench<Callee>,
    boot: u64,
    connected: bool,
    /// Two lanes, by the parity of the number: large and small calls overtake each other.
    queued: [VecDeque<Item>; 2],
    there: [VecDeque<Travelling>; 2],
    answers: VecDeque<u64>,
    back: VecDeque<ReplyMessage>,
    running: Vec<(InvocationKey, usize)>,
}

struct World {
    caller: Bench<Caller>,
    sides: [Side; 2],
    calls: BTreeMap<CallKey, usize>,
    /// Where the two attempts of a call are.
    places: BTreeMap<CallKey, Vec<usize>>,
    records: Vec<Record>,
}

fn place_of(peer: PeerKey) -> usize {
    peer.index()
}

impl World {
    fn new() -> World {
        let limits = Limits {
            calls_served_per_peer_max: 4,
            calls_waiting_per_peer_max: 6,
            ..Limits::default()
        };
        let side = |boot| Side {
            callee: Bench::new(Callee::new(boot, &limits)),
            boot,
            connected: false,
            queued: Default::default(),
            there: Default::default(),
            answers: VecDeque::new(),
            back: VecDeque::new(),
            running: Vec::new(),
        };
        World {
            caller: Bench::new(Caller::new(1, &limits)),
            sides: [side(100), side(200)],
            calls: BTreeMap::new(),
            places: BTreeMap::new(),
            records: Vec::new(),
        }
    }

    fn go(&mut self, call: CallKey, to: usize) {
        self.places.insert(call, vec![to]);
        let route = Ok(Route::Peer(peer(to)));
        let effects = self.caller.feed((), CallerInput::Routed { call, route });
        self.caller_did(effects);
    }

    fn caller_did(&mut self, effects: Vec<CallerEffect>) {
        for effect in effects {
            match effect {
                CallerEffect::Send { peer, sequence, .. } => {
                    let side = &mut self.sides[place_of(peer)];
                    if side.connected {
                        side.queued[sequence as usize % 2].push_back(Item::Call(sequence));
                    }
                }
                CallerEffect::Withdraw { peer, sequence } => {
                    let lane = &mut self.sides[place_of(peer)].queued[sequence as usize % 2];
                    lane.retain(|item| !matches!(item, Item::Call(s) if *s == sequence));
                }
                CallerEffect::SendCancel { peer, sequence } => {
                    let side = &mut self.sides[place_of(peer)];
                    assert!(side.connected, "a cancel needs a link");
                    side.queued[(sequence / 2) as usize % 2].push_back(Item::Cancel(sequence));
                }
                CallerEffect::Ended { call, result } => {
                    self.places.remove(&call);
                    let record = self.calls.remove(&call).expect("a call ends once");
                    assert!(self.records[record].result.is_none(), "a call ends once");
                    self.records[record].result = Some(result);
                }
                CallerEffect::Reroute { call, .. } | CallerEffect::NotActive { call, .. } => {
                    self.go(call, 0);
                }
                CallerEffect::Failed { call, attempt, pinned, .. } => {
                    // Every other one finds another instance, which may be the same here.
                    if attempt == 1 && !pinned {
                        self.go(call, attempt as usize % 2);
                    } else {
                        let effects = self.caller.feed((), CallerInput::Later(call));
                        self.caller_did(effects);
                    }
                }
                CallerEffect::Hedge { call, .. } => {
                    let Some(places) = self.places.get_mut(&call) else { continue };
                    let other = 1 - places[0];
                    places.push(other);
                    let hedged = CallerInput::Hedged { call, peer: peer(other) };
                    let effects = self.caller.feed((), hedged);
                    self.caller_did(effects);
                }
                CallerEffect::LegOver { call, peer, .. } => {
                    let places = self.places.get_mut(&call).expect("it has two");
                    assert_eq!(places.len(), 2, "one of two is over");
                    places.retain(|place| *place != place_of(peer));
                    assert_eq!(places.len(), 1, "it was there");
                }
                CallerEffect::Again { attempt, .. } => assert!(attempt <= retry::ATTEMPTS_MAX),
                CallerEffect::RunLocally { .. } | CallerEffect::CancelLocally(_) => unreachable!(),
            }
        }
    }

    fn callee_did(&mut self, at: usize, effects: Vec<CalleeEffect>) {
        let side = &mut self.sides[at];
        for effect in effects {
            match effect {
                CalleeEffect::Invoke { invocation, asked, .. } => {
                    let record: usize = asked.payload.decode().expect("our own argument");
                    self.records[record].runs += 1;
                    side.running.push((invocation, record));
                }
                CalleeEffect::CancelInvocation(invocation) => {
                    side.running.retain(|(running, _)| *running != invocation);
                }
                CalleeEffect::Answer { sequence, .. } => {
                    if side.connected {
                        side.answers.push_back(sequence);
                    }
                }
                CalleeEffect::LocalDone { .. } | CalleeEffect::LocalRefused { .. } => {
                    unreachable!()
                }
            }
        }
    }

    fn lose(&mut self, at: usize) {
        let side = &mut self.sides[at];
        if !std::mem::take(&mut side.connected) {
            return;
        }
        side.queued = Default::default();
        side.there = Default::default();
        side.answers.clear();
        side.back.clear();
        let lost = CallerInput::LinkLost { peer: peer(at), connected: false };
        let effects = self.caller.feed((), lost);
        self.caller_did(effects);
    }

    fn connect(&mut self, at: usize) {
        let side = &mut self.sides[at];
        if std::mem::replace(&mut side.connected, true) {
            return;
        }
        side.callee.feed((), CalleeInput::PeerVerified { peer: peer(at), boot: 1 });
        let ready = CallerInput::PeerReady {
            peer: peer(at),
            boot: side.boot,
            credit: 4,
            message_bytes_max: 1_000,
        };
        let effects = self.caller.feed((), ready);
        self.caller_did(effects);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Call { to, millis, idempotent, hedge } => {
                let record = self.records.len();
                let call = self.caller.machine.add(NewCall {
                    path: TopicPath::parse("a/b").unwrap(),
                    payload: Payload::value(record),
                    deadline: self.caller.now + Duration::from_millis(millis),
                    idempotent,
                    pinned: hedge.is_none() && record.is_multiple_of(2),
                    retry: !record.is_multiple_of(3),
                    hedge: hedge.map(Duration::from_millis),
                });
                self.records.push(Record { idempotent, runs: 0, result: None });
                self.calls.insert(call, record);
                self.go(call, to);
            }
            Step::Cancel(pick) => {
                let Some(call) = self.calls.keys().nth(pick).copied() else { return };
                let effects = self.caller.feed((), CallerInput::Cancel(call));
                self.caller_did(effects);
            }
            Step::PullThere(at, lane) => match self.sides[at].queued[lane].pop_front() {
                Some(Item::Call(sequence)) => {
                    let now = self.caller.now;
                    let message = self.caller.machine.take_message(now, peer(at), sequence);
                    self.sides[at].there[lane].extend(message.map(Travelling::Call));
                }
                Some(Item::Cancel(sequence)) => {
                    let floor = self.caller.machine.floor(peer(at)).min(sequence);
                    self.sides[at].there[lane].push_back(Travelling::Cancel { sequence, floor });
                }
                None => {}
            },
            Step::ArriveThere(at, lane) => {
                let side = &mut self.sides[at];
                let input = match side.there[lane].pop_front() {
                    Some(Travelling::Call(call)) => {
                        let service = Key::from_u64(1);
                        let route = Ok(LocalRoute { service, action: 0, is_stream: false });
                        CalleeInput::Call { peer: peer(at), call, route }
                    }
                    Some(Travelling::Cancel { sequence, floor }) => {
                        CalleeInput::Cancel { peer: peer(at), sequence, floor }
                    }
                    None => return,
                };
                let effects = side.callee.feed((), input);
                self.callee_did(at, effects);
            }
            Step::PullBack(at) => {
                let side = &mut self.sides[at];
                if let Some(sequence) = side.answers.pop_front() {
                    side.back.extend(side.callee.machine.take_message(peer(at), sequence));
                }
            }
            Step::ArriveBack(at) => {
                if let Some(reply) = self.sides[at].back.pop_front() {
                    let reply = CallerInput::Reply { peer: peer(at), reply };
                    let effects = self.caller.feed((), reply);
                    self.caller_did(effects);
                }
            }
            Step::Finish(at, pick, ok) => {
                let side = &mut self.sides[at];
                if pick < side.running.len() {
                    let (invocation, record) = side.running.remove(pick);
                    let answer = Payload::value(record).encode().map(to_payload).unwrap();
                    let result =
                        if ok { Ok(answer) } else { Err(callee::HandlerError::failed("no")) };
                    let effects = side.callee.feed((), CalleeInput::Done { invocation, result });
                    self.callee_did(at, effects);
                }
            }
            Step::Lose(at) => self.lose(at),
            Step::Connect(at) => self.connect(at),
            Step::Restart(at) => {
                self.lose(at);
                let side = &mut self.sides[at];
                side.boot += 1;
                let limits = Limits { calls_served_per_peer_max: 4, ..Limits::default() };
                let now = side.callee.now;
                side.callee = Bench::new(Callee::new(side.boot, &limits));
                side.callee.now = now;
                side.running.clear();
                let effects = self.caller.feed((), CallerInput::SessionEnded(peer(at)));
                self.caller_did(effects);
            }
            Step::CallerTimer => {
                if let Some(timer) = self.caller.next_timer() {
                    for side in &mut self.sides {
                        side.callee.now = side.callee.now.max(self.caller.now);
                    }
                    let effects = self.caller.feed((), CallerInput::Timer(timer));
                    self.caller_did(effects);
                }
            }
            Step::CalleeTimer(at) => {
                let side = &mut self.sides[at];
                if let Some(timer) = side.callee.next_timer() {
                    self.caller.now = self.caller.now.max(side.callee.now);
                    let effects = side.callee.feed((), CalleeInput::Timer(timer));
                    self.callee_did(at, effects);
                }
            }
        }
    }

    /// Lets everything that is under way come to its end.
    fn heal(&mut self) {
        (0..2).for_each(|at| self.connect(at));
        for _ in 0..10_000 {
            for at in 0..2 {
                for lane in 0..2 {
                    self.take(Step::PullThere(at, lane));
                    self.take(Step::ArriveThere(at, lane));
                }
                self.take(Step::Finish(at, 0, true));
                self.take(Step::PullBack(at));
                self.take(Step::ArriveBack(at));
            }
            let quiet = self.sides.iter().all(|side| {
                side.queued.iter().all(VecDeque::is_empty)
                    && side.there.iter().all(VecDeque::is_empty)
                    && side.answers.is_empty()
                    && side.back.is_empty()
                    && side.running.is_empty()
            });
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
        prop_assert_eq!(world.caller.timers_armed(), 0);
        for (at, side) in world.sides.iter().enumerate() {
            prop_assert!(!world.caller.machine.is_using(peer(at)), "no number is left open");
            prop_assert_eq!(side.callee.timers_armed(), 0);
        }
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

/// A call that may run twice, and is on its way to the first callee.
fn one_call(hedge: Option<u64>) -> World {
    let mut world = World::new();
    (0..2).for_each(|at| world.connect(at));
    // The first would not be made again, and one of two is for one peer.
    for (millis, hedge) in [(1, None), (60_000, hedge)] {
        world.take(Step::Call { to: 0, millis, idempotent: true, hedge });
    }
    world.take(Step::Cancel(0));
    world
}

impl World {
    /// Lets what is under way arrive at the callees.
    fn arrive(&mut self) {
        for (at, lane) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            while !self.sides[at].queued[lane].is_empty() || !self.sides[at].there[lane].is_empty()
            {
                self.take(Step::PullThere(at, lane));
                self.take(Step::ArriveThere(at, lane));
            }
        }
    }

    /// Every handler that runs fails, and the caller hears of it.
    fn fail(&mut self) {
        for at in 0..2 {
            while !self.sides[at].running.is_empty() {
                self.take(Step::Finish(at, 0, false));
                self.take(Step::PullBack(at));
                self.take(Step::ArriveBack(at));
            }
        }
    }

    fn attempts(&self) -> u32 {
        self.records[1].runs
    }
}

#[test]
fn a_call_that_was_made_as_often_as_may_be_is_not_hedged() {
    for fails in 0..retry::ATTEMPTS_MAX {
        let mut world = one_call(Some(10_000));
        world.arrive();
        for made in 1..=fails {
            assert_eq!(world.attempts(), made);
            world.fail();
            while world.caller.machine.backs_off() {
                world.take(Step::CallerTimer);
            }
            world.arrive();
        }
        let call = *world.calls.keys().next().expect("it goes on");
        while world.caller.next_timer_in().is_some_and(|wait| wait <= Duration::from_secs(10)) {
            world.take(Step::CallerTimer);
        }
        world.arrive();
        let attempts = (fails + 2).min(retry::ATTEMPTS_MAX);
        assert_eq!(world.attempts(), attempts, "after {fails} that failed");
        assert_eq!(world.places[&call].len() as u32, attempts - fails);
    }
}

#[test]
fn who_is_not_active_has_not_attempted_it() {
    let mut world = one_call(None);
    for _ in 0..2 * retry::ATTEMPTS_MAX {
        (0..2).for_each(|lane| world.take(Step::PullThere(0, lane)));
        let side = &mut world.sides[0];
        let call = side.there.iter_mut().flatten().find_map(|travelling| match travelling {
            Travelling::Call(call) => Some(call.clone()),
            Travelling::Cancel { .. } => None,
        });
        let call = call.expect("it is on its way again");
        side.there = Default::default();
        let not_active = CalleeInput::NotActive { peer: peer(0), call, leader: None };
        let effects = side.callee.feed((), not_active);
        world.callee_did(0, effects);
        world.take(Step::PullBack(0));
        world.take(Step::ArriveBack(0));
    }
    world.arrive();
    world.fail();
    while world.caller.machine.backs_off() {
        world.take(Step::CallerTimer);
    }
    world.arrive();
    assert_eq!(world.attempts(), 2, "what failed once is made again");
}
