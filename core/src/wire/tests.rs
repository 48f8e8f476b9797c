//! Messages there and back, and what is not legal.

use std::sync::Arc;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::base::{FewMap, Limits, MonoTime};
use crate::directory::{
    ActionInfo, Entry, EntryKey, OfferState, ServiceInfo, ServiceOffer, Spread,
};
use crate::topic::Pattern;

fn roundtrip(message: Message) -> Message {
    let body = message.into_frame().expect("it says something").to_body();
    parse(body, &Limits::default()).expect("our own messages are legal")
}

fn path(text: &str) -> TopicPath {
    TopicPath::parse(text).unwrap()
}

fn call() -> CallMessage {
    CallMessage {
        sequence: 9,
        floor: 4,
        attempt: 1,
        callee_boot: 77,
        time_left: Duration::from_millis(1_500),
        path: path("main:math/add"),
        content: ContentType::JSON,
        payload: Bytes::from_static(b"[1,2]"),
    }
}

const SENT: Sent = Sent { lanes: [1, 2, 3, 4, 5], own: 6 };

fn link(dialler: End) -> LinkId {
    LinkId { dialler, counter: 7, number: 3 }
}

/// Who dialled from here is there, seen from the other end.
fn at_the_other_end(mut message: Message) -> Message {
    let turn = |id: &mut LinkId| {
        id.dialler = if id.dialler == End::Here { End::There } else { End::Here };
    };
    match &mut message {
        Message::Hello(hello) => hello.abandons.iter_mut().chain([&mut hello.link]).for_each(turn),
        Message::Claims { link, .. } | Message::Confirm { link, .. } => turn(link),
        Message::Supersede { loser, .. } | Message::Drained { loser, .. } => turn(loser),
        Message::Cut { from, .. } => turn(from),
        _ => {}
    }
    message
}

#[test]
fn what_names_no_link_is_no_message_about_one() {
    let refused = |header| {
        let body = Frame::new(header).to_body();
        matches!(parse(body, &Limits::default()), Err(WireFault::Field { .. }))
    };
    let id = v1::LinkId { dialled_by_sender: true, counter: 1, number: 1 };
    let sent = v1::Sent { lanes: vec![0; 5], own: 0 };
    let zero = v1::LinkId { number: 0, ..id };
    let late = v1::LinkId { counter: COUNTER_MAX + 1, ..id };
    for loser in [None, Some(zero), Some(late)] {
        let sent = Some(sent.clone());
        assert!(refused(Header::Supersede(v1::Supersede { loser, sent: sent.clone() })));
        assert!(refused(Header::Drained(v1::Drained { loser, sent })));
        assert!(refused(Header::Cut(v1::Cut { from: loser, frames: 1 })));
    }
    for lanes in [0, 4, 6] {
        let sent = Some(v1::Sent { lanes: vec![0; lanes], own: 0 });
        assert!(refused(Header::Supersede(v1::Supersede { loser: Some(id), sent })));
    }
    let hello = hello_on_the_wire();
    assert!(!refused(Header::Hello(Box::new(hello.clone()))));
    let many = v1::Hello { abandons: vec![id; ABANDONS_MAX + 1], ..hello.clone() };
    assert!(refused(Header::Hello(Box::new(many))));
    let nowhere = v1::Hello { observed_address: "nowhere".into(), ..hello };
    assert!(refused(Header::Hello(Box::new(nowhere))));
}

fn hello_on_the_wire() -> v1::Hello {
    v1::Hello {
        version_min: 3,
        version_max: 4,
        incarnation: Some(v1::Incarnation { counter: 1, boot: 1, signature: vec![0; 64].into() }),
        call_credit: 1,
        link: Some(v1::LinkId { dialled_by_sender: true, counter: 1, number: 1 }),
        nonce: vec![0; 16].into(),
        networks: (0..128).collect::<Vec<u8>>().into(),
        ..v1::Hello::default()
    }
}

#[test]
fn every_message_reads_back_as_it_was_written() {
    let offer = ServiceOffer {
        path: path("files"),
        state: OfferState::Paused,
        actions: vec![Pattern::parse("files/{name}/read").unwrap()],
        info: ServiceInfo {
            version: semver::Version::parse("1.2.3-rc.1+build").unwrap(),
            description: "Reads files".into(),
            spread: Spread::LeastLoaded,
            actions: vec![ActionInfo {
                description: "Reads one".into(),
                argument: "()".into(),
                result: "Vec<u8>".into(),
                argument_content: ContentType::JSON,
                result_content: ContentType::RAW,
            }],
            vitals: Some(crate::directory::vitals::Vitals {
                rate: 8,
                failed_percent: 5,
                p50_us: 1_024,
                p99_us: 65_536,
                running: 2,
                waiting: 1,
                running_max: 2,
                waiting_max: 100,
            }),
            ..ServiceInfo::default()
        },
    };
    let (key, entry) = (EntryKey::Service(5), Entry::Service(Arc::new(offer)));
    let entries = FewMap::from([(key, entry.clone())]);
    let document = Document { version: 3, entries, incremental: true };
    let delta = Delta {
        base: 3,
        version: 7,
        put: vec![(key, entry)],
        removed: vec![EntryKey::Service(2), EntryKey::Service(9)],
    };
    let messages = [
        Message::Hello(Box::new(Hello {
            version_min: 3,
            version_max: 4,
            life: LifeRecord {
                incarnation: Incarnation { counter: 5, boot: 6 },
                signature: [7; 64],
            },
            call_credit: 100,
            message_bytes_max: 1 << 20,
            critical_capabilities: vec![3],
            networks: BlindedNetworks {
                nonce: [9; 16],
                marks: std::array::from_fn(|place| [place as u8; 16]),
            },
            link: link(End::Here),
            abandons: vec![link(End::There), link(End::Here)],
            observed_address: Some("[2001:db8::1]:4433".parse().unwrap()),
        })),
        Message::Claims {
            link: link(End::Here),
            receiver_boot: 9,
            networks: vec![NetworkClaim {
                network: NetworkId::from_bytes([7; 32]),
                token: Bytes::from_static(b"token"),
                descriptor_sequence: 4,
                is_default: true,
            }],
        },
        Message::Confirm {
            version: 3,
            directory: document.clone(),
            link: link(End::There),
            receiver_boot: 9,
        },
        Message::Refuse { code: 3, life: None },
        Message::Refuse {
            code: 3,
            life: Some(LifeRecord {
                incarnation: Incarnation { counter: 8, boot: 1 },
                signature: [9; 64],
            }),
        },
        Message::Supersede { loser: link(End::Here), sent: SENT },
        Message::Drained { loser: link(End::There), sent: SENT },
        Message::Cut { from: link(End::Here), frames: 9 },
        Message::Directory(document),
        Message::Delta(delta),
        Message::Heard(Heard { version: 7, wants_whole: true }),
        Message::Heartbeat(Heartbeat { version: 7, digest: u64::MAX }),
        Message::Call(call()),
        Message::Reply(ReplyMessage {
            sequence: 9,
            caller_boot: 1,
            status: Status::Application,
            content: ContentType::RAW,
            error_code: "NOPE".into(),
            error_message: "no".into(),
            retry_after: Some(Duration::from_millis(70)),
            payload: Bytes::from_static(b"details"),
        }),
        Message::Cancel { sequence: 9, floor: 9 },
    ];
    for message in messages {
        assert_eq!(roundtrip(message.clone()), at_the_other_end(message));
    }
}

#[test]
fn the_time_left_is_rounded_up_so_that_a_deadline_is_not_past_too_early() {
    let message = Message::Call(CallMessage { time_left: Duration::from_nanos(1), ..call() });
    let Message::Call(read) = roundtrip(message) else { panic!("a call is a call") };
    assert_eq!(read.time_left, Duration::from_millis(1));
}

#[test]
fn what_is_not_legal_is_refused_by_name() {
    let wrong = |change: fn(&mut v1::Call)| {
        let Header::Call(mut header) = Message::Call(call()).into_frame().unwrap().header else {
            panic!("a call is a call")
        };
        change(&mut header);
        let frame = Frame::new(Header::Call(header)).to_body();
        parse(frame, &Limits::default()).unwrap_err().to_string()
    };
    assert_eq!(wrong(|c| c.sequence = 0), "Call.sequence is not legal: 0 with floor 4");
    assert_eq!(wrong(|c| c.floor = 10), "Call.sequence is not legal: 9 with floor 10");
    assert_eq!(wrong(|c| c.attempt = 0), "Call.attempt is not legal: zero");
    assert!(wrong(|c| c.path = Bytes::from_static(b"a//b")).starts_with("Call.path is not legal"));
    assert!(wrong(|c| c.path = Bytes::from_static(b"a/*")).starts_with("Call.path is not legal"));

    let hello = |change: fn(&mut v1::Hello)| {
        let mut hello = hello_on_the_wire();
        change(&mut hello);
        parse(Frame::new(Header::Hello(Box::new(hello))).to_body(), &Limits::default())
    };
    assert!(hello(|_| {}).is_ok());
    assert!(hello(|h| h.incarnation = None).is_err());
    assert!(hello(|h| h.version_min = 0).is_err());
    assert!(hello(|h| h.version_min = 5).is_err());
    assert!(hello(|h| h.call_credit = 0).is_err());
    assert!(hello(|h| h.link = None).is_err());
    assert!(hello(|h| h.nonce = vec![0; 15].into()).is_err());
    // Eight marks, in growing order.
    for bytes in [0, 112, 127, 129, 144] {
        let mut frame = hello_on_the_wire();
        frame.networks = (0..bytes).collect::<Vec<u8>>().into();
        let frame = Frame::new(Header::Hello(Box::new(frame))).to_body();
        assert!(parse(frame, &Limits::default()).is_err(), "{bytes} bytes");
    }
    assert!(hello(|h| h.networks = vec![0; 128].into()).is_err());
}

#[test]
fn bounds_hold_before_anything_is_kept() {
    let limits = Limits { message_bytes_max: 4, services_per_peer_max: 1, ..Limits::default() };
    let frame = Message::Call(call()).into_frame().unwrap().to_body();
    assert!(parse(frame, &limits).is_err(), "a payload beyond the bound");
    let service = v1::Service { path: "a".into(), state: 1, ..Default::default() };
    let services = vec![service.clone(), service];
    let directory =
        v1::Directory { version: 1, services, incremental: false, ..Default::default() };
    let frame = Frame::new(Header::Directory(directory)).to_body();
    assert!(parse(frame, &limits).is_err(), "more services than a peer may have");
}

#[test]
fn documents_and_deltas_that_contradict_themselves_are_refused() {
    let service = |key| v1::Service { path: "a".into(), state: 1, key, ..Default::default() };
    let whole = |version, services, incremental| {
        let directory = v1::Directory { version, services, incremental, ..Default::default() };
        parse(Frame::new(Header::Directory(directory)).to_body(), &Limits::default())
    };
    assert!(whole(1, vec![service(1), service(2)], true).is_ok());
    assert!(whole(0, vec![], true).is_err());
    assert!(whole(1, vec![service(1), service(1)], true).is_err());
    assert!(whole(1, vec![service(0)], true).is_err());
    // Of a version that knows no keys.
    let Ok(Message::Directory(old)) = whole(0, vec![service(0), service(0)], false) else {
        panic!("it is legal")
    };
    assert_eq!(old.entries.len(), 2);
    let delta = |base, version, put: &[u64], removed: &[u64]| {
        let services = put.iter().map(|key| service(*key)).collect();
        let delta = v1::Delta {
            base,
            version,
            services,
            removed_services: removed.to_vec(),
            ..Default::default()
        };
        parse(Frame::new(Header::Delta(delta)).to_body(), &Limits::default())
    };
    assert!(delta(2, 2, &[], &[]).is_ok());
    assert!(delta(0, 2, &[], &[]).is_err());
    assert!(delta(3, 2, &[], &[]).is_err());
    assert!(delta(2, 3, &[1], &[1]).is_err());
    assert!(delta(2, 3, &[], &[1, 1]).is_err());
    let with = |change: fn(&mut v1::Service)| {
        let mut service = service(1);
        change(&mut service);
        whole(1, vec![service], true)
    };
    assert!(with(|s| s.version = "1.2".into()).is_err());
    assert!(with(|s| s.description = "x".repeat(1_025)).is_err());
    assert!(with(|s| s.about = vec![v1::ActionInfo::default()]).is_err());
}

#[test]
fn a_path_is_read_in_place() {
    let mut stream = BytesMut::new();
    let frame = Message::Call(call()).into_frame().unwrap();
    stream.extend_from_slice(&frame.to_body());
    let body = stream.freeze();
    let within = body.as_ptr_range();
    let Message::Call(read) = parse(body.clone(), &Limits::default()).unwrap() else {
        panic!("a call is a call")
    };
    assert!(within.contains(&read.path.as_bytes().as_ptr()));
    assert!(within.contains(&read.payload.as_ptr()));
}

proptest! {
    #[test]
    fn parsing_any_bytes_ends_without_a_panic(
        kind in prop_oneof![Just(1u8), Just(2), Just(3), Just(4), Just(5), Just(6), Just(16), Just(17), Just(18), any::<u8>()],
        rest in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut bytes = vec![kind, rest.len() as u8];
        bytes.extend(rest);
        if let Ok(message) = parse(Bytes::from(bytes), &Limits::default())
            && let Some(frame) = message.clone().into_frame()
        {
            prop_assert_eq!(parse(frame.to_body(), &Limits::default()).unwrap(), message);
        }
    }
}

#[test]
fn events_that_go_together_survive_the_trip() {
    let bytes = Bytes::from_static(b"onetwothree");
    let run =
        |topic: &str, events| RunFrame { topic: path(topic), content: ContentType::JSON, events };
    let events = EventsFrame {
        count: 3,
        runs: vec![run("main:a/b", vec![(7, 0..3), (9, 3..6)]), run("a/c", vec![(8, 6..11)])],
        bytes: bytes.clone(),
    };
    let Message::Events(back) = roundtrip(Message::Events(events.clone())) else { panic!() };
    assert_eq!(back.count, 3);
    for (run, other) in back.runs.iter().zip(&events.runs) {
        assert_eq!((&run.topic, run.content), (&other.topic, other.content));
        for ((sequence, at), (wanted, from)) in run.events.iter().zip(&other.events) {
            assert_eq!(sequence, wanted);
            let carried = |bytes: &Bytes, at: &std::ops::Range<u32>| {
                bytes.slice(at.start as usize..at.end as usize)
            };
            assert_eq!(carried(&back.bytes, at), carried(&bytes, from));
        }
    }
}

#[test]
fn events_that_do_not_go_together_are_refused() {
    use dunlin_proto::events::{EVENTS_BYTES_MAX, Place, write_event};
    let refused = |count, write: &dyn Fn(&mut BytesMut)| {
        let mut payload = BytesMut::new();
        write(&mut payload);
        let header = Header::Events(v1::Events { count });
        let body = Frame::with_payload(header, payload.freeze()).to_body();
        match parse(body, &Limits::default()) {
            Err(WireFault::Field { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        }
    };
    let run = |sequence, topic: &'static str| {
        Place::First(v1::EventRun { sequence, topic: Bytes::from(topic), content_type: 0 })
    };
    let two = |out: &mut BytesMut| {
        write_event(&run(1, "a"), b"x", out);
        write_event(&Place::Next(1), b"y", out);
    };
    assert_eq!(refused(2, &two), None);
    for count in [0, 1, 3, u32::MAX] {
        assert_eq!(refused(count, &two), Some("count"));
    }
    assert_eq!(refused(0, &|_| {}), Some("count"));
    assert_eq!(refused(1, &|out| write_event(&run(0, "a"), b"", out)), Some("sequence"));
    assert_eq!(refused(1, &|out| write_event(&run(1, "a//b"), b"", out)), Some("topic"));
    assert_eq!(refused(1, &|out| write_event(&Place::Next(1), b"", out)), Some("payload"));
    let far = |out: &mut BytesMut| {
        two(out);
        write_event(&Place::Next(SEQUENCE_MAX), b"", out);
    };
    assert_eq!(refused(3, &far), Some("sequence"));
    let mut payload = BytesMut::new();
    write_event(&run(1, "a"), &[0; 50], &mut payload);
    write_event(&Place::Next(1), &[0; 50], &mut payload);
    let frame = Frame::with_payload(Header::Events(v1::Events { count: 2 }), payload.freeze());
    let small = |message_bytes_max| Limits { message_bytes_max, ..Limits::default() };
    assert!(parse(frame.to_body(), &small(50)).is_ok(), "the bound is for each");
    assert!(parse(frame.to_body(), &small(49)).is_err());
    let large = |out: &mut BytesMut| write_event(&run(1, "a"), &[0; EVENTS_BYTES_MAX], out);
    assert_eq!(refused(1, &large), Some("payload"));
}

#[test]
fn what_is_said_of_leases_reads_back_as_it_was_written() {
    use crate::lease::{Answer, Answered, Ask, Ballot, Learn, Learned, LeaseName, Peeked};
    let name = || LeaseName::new(Bytes::from([&[7; 32][..], b"counter"].concat())).unwrap();
    let proposer =
        crate::lease::ProposerId { peer: crate::PeerId::from_bytes([3; 32]), boot: 1 << 63 };
    let ballot = Ballot { round: 9, proposer };
    for ask in [Ask::Peek, Ask::Prepare(ballot), Ask::Propose(ballot, 4), Ask::Release(ballot)] {
        let message = Message::LeaseRequest(Request { epoch: 2, name: name(), ask });
        assert_eq!(roundtrip(message.clone()), message);
    }
    let runs_for = Duration::from_nanos(1_999_999_999);
    let stands = Peeked { round: 8, holder: Some(proposer), runs_for };
    let nobody = Peeked { round: 0, holder: None, runs_for: Duration::ZERO };
    for answered in [
        Answered::Peeked(stands),
        Answered::Peeked(nobody),
        Answered::Released(stands),
        Answered::Promise(ballot),
        Answered::Accepted(ballot, 3),
        Answered::Refused { ballot, parked: true, stands },
        Answered::Refused { ballot, parked: false, stands: nobody },
        Answered::Sealed(1 << 40),
    ] {
        let message = Message::LeaseAnswer(Answer { epoch: 2, name: name(), answered });
        assert_eq!(roundtrip(message.clone()), message);
    }
    let network = NetworkId::from_bytes([7; 32]);
    let message = Message::LeaseLearn(network, Learn { epoch: 2, boot: 5 });
    assert_eq!(roundtrip(message.clone()), message);
    let rounds = vec![(name(), 5); LEARNED_PART_MAX];
    let learned = Learned { epoch: 2, boot: 5, complete: true, sealed: Some(3), rounds };
    let part = LearnedPart { network, told: 512, learned, more: true };
    let message = Message::LeaseLearned(part.clone());
    assert_eq!(roundtrip(message.clone()), message);
    let seal = Seal { of: 2, by: 3, boot: 5, asked: MonoTime::from_nanos(7) };
    let asks = Message::LeaseSeal(network, seal);
    assert_eq!(roundtrip(asks.clone()), asks);
    for runs_for in [None, Some(Duration::ZERO), Some(runs_for)] {
        let sealed =
            Message::LeaseSealed(network, Sealed { seal, began: runs_for.is_some(), runs_for });
        assert_eq!(roundtrip(sealed.clone()), sealed);
    }
    let refused = |header| parse(Frame::new(header).to_body(), &Limits::default()).is_err();
    assert!(refused(Header::LeaseSealed(v1::LeaseSealed::default())), "it says of nothing");
    assert!(refused(Header::LeaseSeal(v1::LeaseSeal::default())), "it is of no network");
    let ask = |ask, ballot, name: Bytes| {
        Header::LeaseRequest(v1::LeaseRequest { ask, ballot, name, ..Default::default() })
    };
    let long = Bytes::from(vec![b'a'; LeaseName::BYTES_MAX + 1]);
    assert!(!refused(ask(1, None, Bytes::new())));
    assert!(refused(ask(1, None, long)) && refused(ask(0, None, Bytes::new())));
    assert!(refused(ask(2, None, Bytes::new())), "there is no ballot");
    let short = v1::Ballot { round: 1, peer: Bytes::from_static(b"short"), boot: 1 };
    assert!(refused(ask(2, Some(short), Bytes::new())));
    let Header::LeaseLearned(mut much) = message.into_frame().unwrap().header else { panic!() };
    much.rounds.push(Default::default());
    assert!(refused(Header::LeaseLearned(much)));
}

#[test]
fn who_does_not_know_leases_takes_a_standby_for_a_paused_service() {
    let offer = |state, token| ServiceOffer {
        path: path("counter"),
        state,
        actions: Vec::new(),
        info: ServiceInfo { single_active: true, token, ..ServiceInfo::default() },
    };
    let document = |offer: ServiceOffer| {
        let entries = FewMap::from([(EntryKey::Service(1), Entry::Service(Arc::new(offer)))]);
        Document { version: 1, entries, incremental: true }
    };
    let token = Some(crate::lease::Token { epoch: 3, round: 7 });
    for (offer, state) in [
        (offer(OfferState::Running, token), 1),
        (offer(OfferState::Standby, None), 2),
        (offer(OfferState::Paused, None), 2),
    ] {
        let message = Message::Directory(document(offer.clone()));
        assert_eq!(roundtrip(message.clone()), message);
        let Header::Directory(wire) = message.into_frame().unwrap().header else { panic!() };
        assert_eq!(wire.services[0].state, state);
        // Its digest is that of what such a node reads.
        let mut old = wire;
        let service = &mut old.services[0];
        (service.single_active, service.standby) = (false, false);
        let old = parse(Frame::new(Header::Directory(old)).to_body(), &Limits::default()).unwrap();
        let Message::Directory(old) = old else { panic!() };
        let key = EntryKey::Service(1);
        assert_eq!(
            old.entries.get(&key).unwrap().digest(key),
            Entry::Service(Arc::new(offer)).digest(key)
        );
    }
}
