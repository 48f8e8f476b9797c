//! How the callee answers, run by run.

use bytes::Bytes;

use super::*;
use crate::base::PeerId;
use crate::machine::tests::Bench;
use crate::payload::ContentType;
use crate::topic::TopicPath;

const BOOT: u64 = 9;

fn key<T>(number: u64) -> crate::base::Key<T> {
    crate::base::Key::from_u64(number << 32)
}

fn callee(limits: &Limits) -> Bench<Callee> {
    let mut bench = Bench::new(Callee::new(BOOT, limits));
    bench.feed((), CalleeInput::PeerVerified { peer: key(1), boot: 1 });
    bench
}

fn call(sequence: u64, floor: u64) -> CalleeInput {
    CalleeInput::Call {
        peer: key(1),
        call: CallMessage {
            sequence,
            floor,
            attempt: 1,
            callee_boot: BOOT,
            time_left: Duration::from_secs(10),
            path: TopicPath::parse("a/b").unwrap(),
            content: ContentType::RAW,
            payload: Bytes::new(),
        },
        route: Ok(LocalRoute { service: key(1), action: 0, is_stream: false }),
    }
}

fn invoked(effects: &[CalleeEffect]) -> Option<InvocationKey> {
    effects.iter().find_map(|effect| match effect {
        CalleeEffect::Invoke { invocation, .. } => Some(*invocation),
        _ => None,
    })
}

fn done(invocation: InvocationKey, answer: &'static [u8]) -> CalleeInput {
    CalleeInput::Done { invocation, result: Ok(Payload::raw(answer)) }
}

fn status(bench: &mut Bench<Callee>, sequence: u64) -> Option<Status> {
    bench.machine.take_message(key(1), sequence).map(|message| message.status)
}

#[test]
fn a_call_that_comes_again_joins_the_run_or_gets_the_kept_answer() {
    let mut bench = callee(&Limits::default());
    let run = invoked(&bench.feed((), call(1, 1))).expect("it runs");
    assert!(bench.feed((), call(1, 1)).is_empty(), "joined");
    let effects = bench.feed((), done(run, b"yes"));
    assert!(matches!(effects[..], [CalleeEffect::Answer { sequence: 1, payload_bytes: 3, .. }]));
    let effects = bench.feed((), call(1, 1));
    assert!(matches!(effects[..], [CalleeEffect::Answer { sequence: 1, .. }]), "kept");
    assert_eq!(bench.machine.take_message(key(1), 1).unwrap().payload, "yes");
}

#[test]
fn a_call_below_the_floor_is_over_and_is_not_answered() {
    let mut bench = callee(&Limits::default());
    let run = invoked(&bench.feed((), call(1, 1))).unwrap();
    bench.feed((), done(run, b"yes"));
    bench.feed((), call(2, 2));
    assert!(bench.feed((), call(1, 1)).is_empty());
    assert_eq!(status(&mut bench, 1), None);
}

#[test]
fn a_cancel_that_overtakes_its_call_keeps_it_from_running() {
    let mut bench = callee(&Limits::default());
    bench.feed((), CalleeInput::Cancel { peer: key(1), sequence: 1, floor: 1 });
    assert_eq!(invoked(&bench.feed((), call(1, 1))), None);
    assert_eq!(status(&mut bench, 1), Some(Status::CancelledUnrun));
}

#[test]
fn a_cancel_stops_the_run() {
    let mut bench = callee(&Limits::default());
    let run = invoked(&bench.feed((), call(1, 1))).unwrap();
    let effects = bench.feed((), CalleeInput::Cancel { peer: key(1), sequence: 1, floor: 1 });
    assert!(matches!(effects[0], CalleeEffect::CancelInvocation(stopped) if stopped == run));
    assert_eq!(status(&mut bench, 1), Some(Status::Cancelled));
    assert!(bench.feed((), done(run, b"late")).is_empty());
    assert_eq!(bench.timers_armed(), 0);
}

#[test]
fn a_call_for_another_life_does_not_run() {
    let mut bench = callee(&Limits::default());
    let CalleeInput::Call { peer, mut call, route } = call(1, 1) else { unreachable!() };
    call.callee_boot = BOOT + 1;
    assert_eq!(invoked(&bench.feed((), CalleeInput::Call { peer, call, route })), None);
    assert_eq!(status(&mut bench, 1), Some(Status::WrongIncarnation));
}

#[test]
fn beyond_its_bounds_it_is_overloaded_and_says_so() {
    let limits = Limits { calls_served_per_peer_max: 2, ..Limits::default() };
    let mut bench = callee(&limits);
    for sequence in 1..=2 {
        assert!(invoked(&bench.feed((), call(sequence, 1))).is_some());
    }
    assert_eq!(invoked(&bench.feed((), call(3, 1))), None);
    assert_eq!(status(&mut bench, 3), Some(Status::Overloaded));
}

#[test]
fn answers_that_take_too_much_room_lose_their_bodies_and_never_run_again() {
    let limits = Limits {
        kept_answer_bytes_per_peer_max: 8,
        kept_answers_per_peer_max: 3,
        ..Limits::default()
    };
    let mut bench = callee(&limits);
    let runs: Vec<_> =
        (1..=6).map(|sequence| invoked(&bench.feed((), call(sequence, 1))).unwrap()).collect();
    for run in runs {
        bench.feed((), done(run, b"12345"));
    }
    // Of six answers three are kept, and of these one body fits.
    for sequence in 1..=6 {
        assert_eq!(invoked(&bench.feed((), call(sequence, 1))), None, "{sequence} runs again");
    }
    let statuses: Vec<_> = (1..=6).map(|sequence| status(&mut bench, sequence).unwrap()).collect();
    use Status::{AnswerDropped, Forgotten, Ok};
    assert_eq!(statuses, [Forgotten, Forgotten, Forgotten, AnswerDropped, AnswerDropped, Ok]);
}

#[test]
fn behind_a_run_that_goes_on_and_on_the_newest_answers_are_kept() {
    let limits = Limits { kept_answers_per_peer_max: 3, ..Limits::default() };
    let mut bench = callee(&limits);
    let long = invoked(&bench.feed((), call(1, 1))).unwrap();
    for sequence in 2..=10 {
        let run = invoked(&bench.feed((), call(sequence, 1))).unwrap();
        bench.feed((), done(run, b"yes"));
    }
    let statuses: Vec<_> = (2..=10).map(|sequence| status(&mut bench, sequence).unwrap()).collect();
    assert_eq!(statuses[..6], [Status::Forgotten; 6]);
    assert_eq!(statuses[6..], [Status::Ok; 3]);
    assert!(bench.feed((), call(1, 1)).is_empty(), "the long one is joined");
    bench.feed((), done(long, b"at last"));
    assert_eq!(status(&mut bench, 1), Some(Status::Ok), "its answer is the newest");
    assert_eq!(
        [8, 9, 10].map(|s| status(&mut bench, s).unwrap()),
        [Status::Forgotten, Status::Ok, Status::Ok]
    );
}

#[test]
fn answers_that_fill_their_room_to_the_byte_keep_nobody_out() {
    let limits = Limits { kept_answer_bytes_per_peer_max: 6, ..Limits::default() };
    let mut bench = callee(&limits);
    bench.feed((), call(1, 1));
    for sequence in 2..=5 {
        // Two answers of three bytes are all that there is room for, and the oldest call goes on.
        let run = invoked(&bench.feed((), call(sequence, 1))).expect("it runs");
        bench.feed((), done(run, b"yes"));
    }
    let statuses = [2, 3, 4, 5].map(|sequence| status(&mut bench, sequence).unwrap());
    use Status::{AnswerDropped, Ok};
    assert_eq!(statuses, [AnswerDropped, AnswerDropped, Ok, Ok]);
}

#[test]
fn a_run_that_takes_too_long_is_stopped() {
    let mut bench = callee(&Limits::default());
    bench.feed((), call(1, 1));
    assert_eq!(bench.next_timer_in(), Some(Duration::from_secs(10)));
    let timer = bench.next_timer().unwrap();
    let effects = bench.feed((), CalleeInput::Timer(timer));
    assert!(matches!(effects[0], CalleeEffect::CancelInvocation(_)));
    assert_eq!(status(&mut bench, 1), Some(Status::Expired));
}

#[test]
fn a_new_life_of_the_caller_begins_with_nothing() {
    let mut bench = callee(&Limits::default());
    let run = invoked(&bench.feed((), call(1, 1))).unwrap();
    let effects = bench.feed((), CalleeInput::SessionEnded(key(1)));
    assert!(matches!(effects[..], [CalleeEffect::CancelInvocation(stopped)] if stopped == run));
    bench.feed((), CalleeInput::PeerVerified { peer: key(1), boot: 2 });
    assert!(invoked(&bench.feed((), call(1, 1))).is_some(), "its numbers begin anew");
}

#[test]
fn a_caller_is_remembered_for_as_long_as_it_may_ask_again() {
    let mut bench = callee(&Limits::default());
    bench.feed((), call(1, 1));
    let until = bench.machine.keep_until(key(1)).unwrap();
    assert_eq!(until.since(bench.now), Duration::from_secs(11) + MEMORY_SLACK);
}

#[test]
fn a_refusal_whose_text_is_not_kept_still_says_that_nothing_has_run() {
    let limits = Limits { kept_answer_bytes_per_peer_max: 8, ..Limits::default() };
    let mut bench = callee(&limits);
    let CalleeInput::Call { peer, call, .. } = call(1, 1) else { unreachable!() };
    // The id of a peer is longer than what is kept.
    let leader = Some(PeerId::from_bytes([7; 32]));
    let effects = bench.feed((), CalleeInput::NotActive { peer, call, leader });
    assert!(matches!(effects[..], [CalleeEffect::Answer { sequence: 1, .. }]));
    assert_eq!(status(&mut bench, 1), Some(Status::NotActive));
    bench.machine.check_invariants();
}

#[test]
fn a_kept_answer_keeps_no_larger_buffer_alive() {
    let mut bench = callee(&Limits::default());
    let datagram = Bytes::from(vec![b'x'; 60_000]);
    for sequence in 1..=3 {
        let run = invoked(&bench.feed((), call(sequence, 1))).expect("it runs");
        let answer = Payload::Encoded { content: ContentType::RAW, bytes: datagram.slice(7..11) };
        bench.feed((), CalleeInput::Done { invocation: run, result: Ok(answer) });
    }
    assert!(datagram.is_unique(), "nothing that is kept is a part of it");
    assert_eq!(status(&mut bench, 2), Some(Status::Ok));
}

#[test]
fn an_answer_that_a_late_cancel_asks_for_again_is_as_large_as_before() {
    let mut bench = callee(&Limits::default());
    let run = invoked(&bench.feed((), call(1, 1))).expect("it runs");
    bench.feed((), done(run, b"a large answer"));
    let effects = bench.feed((), CalleeInput::Cancel { peer: key(1), sequence: 1, floor: 1 });
    let [CalleeEffect::Answer { payload_bytes, .. }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(payload_bytes, 14, "it chooses the lane");
}
