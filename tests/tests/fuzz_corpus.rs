//! The fuzz corpus: its seeds are what is written here, and every input in it runs without a finding.
//!
//! `DUNLIN_WRITE_SEEDS=1 cargo test -p dunlin-tests --test fuzz_corpus` writes the seeds anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dunlin_core::auth::{BlindedNetworks, LifeRecord, NetworkClaim, NetworkId};
use dunlin_core::base::{Incarnation, MonoTime};
use dunlin_core::directory::{
    Delta, Document, Entry, EntryKey, Heard, Heartbeat, OfferState, ServiceInfo, ServiceOffer,
};
use dunlin_core::events::ack::{Declined, EventAck, Returned};
use dunlin_core::events::group::GroupName;
use dunlin_core::lease::{
    Answer, Answered, Ask, Ballot, Learn, Learned, LeaseName, Peeked, ProposerId, Request, Seal,
    Sealed,
};
use dunlin_core::link::{End, LinkId, Sent};
use dunlin_core::rpc::Status;
use dunlin_core::service::ContentType;
use dunlin_core::topic::{Pattern, TopicPath};
use dunlin_core::wire::{
    CallMessage, EventFrame, EventsFrame, EventsFrom, Hello, LearnedPart, Message, ReplyMessage,
    RunFrame, parse,
};
use dunlin_core::{Limits, PeerId};
use dunlin_fuzz::hello::op as hello;
use dunlin_fuzz::mesh::op as mesh;
use dunlin_fuzz::node::op as node;
use dunlin_fuzz::tape::Program;
use dunlin_fuzz::{TARGETS, descriptor, token, topic};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn messages() -> Vec<(&'static str, Message)> {
    let service = ServiceOffer {
        path: TopicPath::parse("math").unwrap(),
        state: OfferState::Running,
        actions: vec![Pattern::parse("math/add").unwrap(), Pattern::parse("math/>").unwrap()],
        info: ServiceInfo { description: "Sums".into(), ..ServiceInfo::default() },
    };
    let entry = (EntryKey::Service(7), Entry::Service(Arc::new(service)));
    let document = Document { version: 3, entries: [entry.clone()].into(), incremental: true };
    let removed = vec![EntryKey::Service(2)];
    let delta = Delta { base: 3, version: 5, put: vec![entry], removed };
    let id = |number| LinkId { dialler: End::Here, counter: 4, number };
    let hello = Hello {
        version_min: 3,
        version_max: 3,
        life: LifeRecord { incarnation: Incarnation { counter: 4, boot: 5 }, signature: [6; 64] },
        call_credit: 1_024,
        message_bytes_max: 8 << 20,
        critical_capabilities: vec![],
        networks: BlindedNetworks {
            nonce: [7; 16],
            marks: std::array::from_fn(|place| [1 + place as u8; 16]),
        },
        link: id(1),
        abandons: vec![],
        observed_address: None,
    };
    let claim = NetworkClaim {
        network: NetworkId::DEVELOPMENT,
        token: Bytes::new(),
        descriptor_sequence: 0,
        is_default: true,
    };
    let redial = Hello {
        version_max: 4,
        link: id(3),
        abandons: vec![id(1), id(2)],
        observed_address: Some("192.0.2.1:4433".parse().unwrap()),
        ..hello.clone()
    };
    let sent = Sent { lanes: [3, 0, 1, 0, 2], own: 1 };
    let call = CallMessage {
        sequence: 7,
        floor: 5,
        attempt: 1,
        callee_boot: 5,
        time_left: Duration::from_secs(10),
        path: TopicPath::parse("math/add").unwrap(),
        content: ContentType::JSON,
        payload: Bytes::from_static(b"[1,2]"),
    };
    let reply = ReplyMessage {
        sequence: 7,
        caller_boot: 5,
        status: Status::Application,
        content: ContentType::JSON,
        error_code: "OVERFLOW".into(),
        error_message: "too large".into(),
        retry_after: None,
        payload: Bytes::from_static(b"3"),
    };
    let event = EventFrame {
        sequence: 7,
        topic: TopicPath::parse("orders/1/created").unwrap(),
        content: ContentType::JSON,
        everyone: true,
        groups: Vec::new(),
        services: Vec::new(),
        one_per_service: false,
        redelivered: false,
        payload: Bytes::from_static(b"17"),
    };
    let event_for_groups = EventFrame {
        groups: vec![Some("workers".into()), None],
        services: vec![Some(TopicPath::parse("audit").unwrap())],
        one_per_service: true,
        redelivered: true,
        ..event.clone()
    };
    let run = |topic, events| RunFrame {
        topic: TopicPath::parse(topic).unwrap(),
        content: ContentType::JSON,
        events,
    };
    let events = EventsFrame {
        count: 3,
        runs: vec![
            run("orders/1/created", vec![(7, 0..2), (9, 2..3)]),
            run("stock/1", vec![(8, 3..3)]),
        ],
        bytes: Bytes::from_static(b"171"),
    };
    let declined = Declined { lane: 1, number: 4, places: vec![0, 2] };
    let ack = EventAck {
        stream: 2,
        next: [9, 1, 4, 5],
        again: 2,
        declined: vec![declined],
        nothing_came: false,
        returned: vec![Returned { group: GroupName::Group("packers".into()), sequence: 6 }],
        returned_from: 3,
        returned_next: 2,
        is_last: false,
    };
    let name = [&NetworkId::DEVELOPMENT.as_bytes()[..], b"counter"].concat();
    let name = LeaseName::new(name.into()).unwrap();
    let proposer = ProposerId { peer: PeerId::from_bytes([3; 32]), boot: 5 };
    let ballot = Ballot { round: 4, proposer };
    let lease_request = Request { epoch: 1, name: name.clone(), ask: Ask::Propose(ballot, 2) };
    let runs_for = Duration::from_millis(1_500);
    let stands = Peeked { round: 4, holder: Some(proposer), runs_for };
    let answered = Answered::Refused { ballot, parked: true, stands };
    let lease_answer = Answer { epoch: 1, name: name.clone(), answered };
    let learn = Learn { epoch: 1, boot: 5 };
    let learned = LearnedPart {
        network: NetworkId::DEVELOPMENT,
        told: 1,
        learned: Learned {
            epoch: 1,
            boot: 5,
            complete: true,
            sealed: None,
            rounds: vec![(name, 4)],
        },
        more: false,
    };
    let seal = Seal { of: 1, by: 2, boot: 5, asked: MonoTime::from_nanos(7_000) };
    let sealed = Sealed { seal, began: false, runs_for: Some(runs_for) };
    vec![
        ("hello", Message::Hello(Box::new(hello))),
        ("hello-redial", Message::Hello(Box::new(redial))),
        ("claims", Message::Claims { link: id(3), receiver_boot: 5, networks: vec![claim] }),
        (
            "confirm",
            Message::Confirm {
                version: 3,
                directory: document.clone(),
                link: id(3),
                receiver_boot: 5,
            },
        ),
        ("refuse", Message::Refuse { code: 3, life: None }),
        ("supersede", Message::Supersede { loser: id(2), sent }),
        ("drained", Message::Drained { loser: id(2), sent }),
        ("cut", Message::Cut { from: id(2), frames: 7 }),
        ("directory", Message::Directory(document)),
        ("delta", Message::Delta(delta)),
        ("heard", Message::Heard(Heard { version: 5, wants_whole: true })),
        ("heartbeat", Message::Heartbeat(Heartbeat { version: 5, digest: 77 })),
        ("call", Message::Call(call)),
        ("reply", Message::Reply(reply)),
        ("cancel", Message::Cancel { sequence: 9, floor: 2 }),
        ("event", Message::Event(event.clone())),
        ("event-for-groups", Message::Event(event_for_groups)),
        ("events", as_it_arrives(Message::Events(events))),
        (
            "events-from",
            Message::EventsFrom(EventsFrom { stream: 2, number: 9, lost: 3, acknowledged: 7 }),
        ),
        ("events-skipped", Message::EventsSkipped { count: 5 }),
        ("event-ack", Message::EventAck(ack)),
        ("lease-request", Message::LeaseRequest(lease_request)),
        ("lease-answer", Message::LeaseAnswer(lease_answer)),
        ("lease-learn", Message::LeaseLearn(NetworkId::DEVELOPMENT, learn)),
        ("lease-learned", Message::LeaseLearned(learned)),
        ("lease-seal", Message::LeaseSeal(NetworkId::DEVELOPMENT, seal)),
        ("lease-sealed", Message::LeaseSealed(NetworkId::DEVELOPMENT, sealed)),
    ]
}

/// The same, cut out of the frame that carries it.
fn as_it_arrives(message: Message) -> Message {
    parse(message.into_frame().unwrap().to_body(), &Limits::default()).unwrap()
}

/// Every seed: its target, its name and its bytes.
fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut lane = BytesMut::new();
    for (name, message) in messages() {
        let frame = message.into_frame().unwrap();
        frame.encode_head(&mut lane);
        lane.extend_from_slice(&frame.payload);
        let body = frame.to_body();
        seeds.push(("frame", name.into(), [&[0], &body[..]].concat()));
        seeds.push(("message", name.into(), [&[0], &body[..]].concat()));
    }
    seeds.push(("message", "skippable".into(), vec![0, 200, 1, 2]));
    let cut = Program::new().bytes(&[1, 2, 3, 50]).into_bytes();
    seeds.push(("frame", "lane".into(), [&cut[..], &lane[..]].concat()));
    for (name, program) in topics() {
        seeds.push(("topic", name.into(), program.into_bytes()));
    }
    for (name, program) in tokens() {
        seeds.push(("token", name.into(), program));
    }
    for (name, program) in descriptors() {
        seeds.push(("descriptor", name.into(), program));
    }
    for (name, limits, program) in meshes() {
        seeds.push(("mesh", name.into(), [&[limits], &program.into_bytes()[..]].concat()));
    }
    for (name, settings, program) in nodes() {
        seeds.push(("node", name.into(), [&[settings], &program.into_bytes()[..]].concat()));
    }
    for (name, settings, program) in handshakes() {
        seeds.push(("hello", name.into(), [&[settings], &program.into_bytes()[..]].concat()));
    }
    seeds
}

/// Links of a peer's first life are named by a byte: 2 and eight times the number less one; with a 1 for
/// the node's own dials.
fn handshakes() -> Vec<(&'static str, u8, Program)> {
    let two = Program::new().step(hello::GREET, &[0, 2]).step(hello::GREET, &[0, 10]);
    let superseded = two
        .clone()
        .step(hello::CALL, &[0, 1])
        .step(hello::SUPERSEDE, &[1, 2, 0, 0, 0, 2, 0, 0])
        .step(hello::CUT, &[1, 2, 2, 2])
        .step(hello::CALL, &[1, 1])
        .step(hello::CALL, &[0, 5])
        .step(hello::DRAINED, &[1, 2, 0, 0, 0, 2, 0, 0])
        .step(hello::PULL, &[1])
        .step(hello::DOWN, &[0, 7]);
    let undone = two
        .clone()
        .step(hello::SUPERSEDE, &[1, 2, 0, 0, 0, 0, 0, 0])
        .step(hello::DOWN, &[1, 0])
        .step(hello::CALL, &[0, 1])
        .step(hello::TIME, &[120]);
    let abandoned = two
        .step(hello::ACCEPT, &[0])
        .step(hello::HELLO, &[2, 3, 1, 18, 2, 2, 10])
        .step(hello::CLAIMS, &[2, 0, 18])
        .step(hello::CONFIRM, &[2, 1, 18]);
    let dialled = Program::new()
        .step(hello::CONNECT, &[0, 0])
        .step(hello::DIALLED, &[0])
        .step(hello::CONNECT, &[0, 1])
        .step(hello::HELLO, &[0, 3, 1, 3, 0])
        .step(hello::CLAIMS, &[0, 0, 3])
        .step(hello::CONFIRM, &[0, 1, 3])
        .step(hello::DOWN, &[0, 5]);
    let stale = Program::new()
        .step(hello::CONNECT, &[0, 0])
        .step(hello::DIALLED, &[0])
        .step(hello::REFUSE, &[0, 3, 5])
        .step(hello::DIALLED, &[0])
        .step(hello::REFUSE, &[0, 3, 7])
        .step(hello::TIME, &[150])
        .step(hello::GREET, &[1, 4])
        .step(hello::GREET, &[1, 2]);
    let circle = Program::new()
        .step(hello::GREET, &[0, 2])
        .step(hello::GREET, &[0, 10])
        .step(hello::CUT, &[0, 10, 1, 7])
        .step(hello::CUT, &[1, 2, 1, 7])
        .step(hello::CALL, &[0, 0])
        .step(hello::CALL, &[0, 4])
        .step(hello::CALL, &[1, 0])
        .step(hello::CALL, &[1, 4]);
    vec![
        ("superseded", 1, superseded.clone()),
        ("superseded_by_the_lower_id", 0, superseded.clone()),
        ("superseded_with_the_next_version", 5, superseded),
        ("undone", 1, undone),
        ("abandoned", 0, abandoned),
        ("dialled", 0, dialled.clone()),
        ("dialled_in_small_steps", 9, dialled),
        ("stale", 0, stale),
        ("lanes_in_a_circle", 3, circle),
    ]
}

fn topics() -> Vec<(&'static str, Program)> {
    let index = Program::new()
        .step(0, &[topic::INSERT])
        .bytes(b"orders/*/paid")
        .step(topic::INSERT, &[])
        .bytes(b"orders/{id}/>")
        .step(topic::INSERT, &[])
        .bytes(b"n:orders/1/paid")
        .step(topic::MATCH, &[])
        .bytes(b"orders/1/paid")
        .step(topic::REMOVE, &[0])
        .step(topic::MATCH, &[])
        .bytes(b"orders/1/paid");
    let deep = vec!["a"; 32].join("/");
    let edges = Program::new()
        .step(7, &[topic::INSERT])
        .bytes(deep.as_bytes())
        .step(topic::MATCH, &[])
        .bytes(format!("{deep}/a").as_bytes())
        .step(topic::JOIN, &[])
        .bytes(b"shop:orders")
        .bytes(b"{id}/cancel")
        .step(topic::INSERT, &[])
        .bytes("a/{é}/>".as_bytes());
    vec![("index", index), ("edges", edges)]
}

fn tokens() -> Vec<(&'static str, Vec<u8>)> {
    let honest = token::honest_bytes();
    // Epoch, issuer, holder; a grant is how many permissions, each of them, from when, for how long, its
    // date, its depth, its id; then how many links, each with its subject and grant; then the time.
    let grant = |program: Program, permissions: &[u8], depth: u8| {
        program.step(permissions.len() as u8 / 2, permissions).step(10, &[100, 5, depth, 1])
    };
    let chain = Program::new().step(token::CHAIN, &[1, 1, 0]);
    let chain = grant(chain, &[0, 4, 6, 4, 1, 3], 3).step(2, &[1]);
    let chain = grant(chain, &[0, 3, 6, 3], 2).step(2, &[]);
    let chain = grant(chain, &[0, 2], 1).step(20, &[]).into_bytes();
    vec![
        ("honest", [&[token::READ], &honest[..]].concat()),
        ("short", vec![token::READ, 0x0a, 0x02, 0x0a, 0x00]),
        ("unchanged", vec![token::CHANGE, 0]),
        ("changed", vec![token::CHANGE, 2, 40, 0, 9, 200, 0, 7]),
        ("chain", chain),
    ]
}

fn descriptors() -> Vec<(&'static str, Vec<u8>)> {
    let honest = descriptor::honest_bytes();
    // Which it follows, who signs, who is next, how many are revoked, each of them.
    let grown = Program::new()
        .step(descriptor::GROW, &[])
        .step(0, &[0, 1, 1, 7])
        .step(1, &[1, 2, 0])
        .step(0, &[1, 3, 0])
        .step(2, &[2, 3, 2, 8, 9])
        .into_bytes();
    vec![
        ("honest", [&[descriptor::READ], &honest[..]].concat()),
        ("changed", vec![descriptor::CHANGE, 1, 90, 0, 1]),
        ("grown", grown),
    ]
}

fn meshes() -> Vec<(&'static str, u8, Program)> {
    // A service that runs: two hooks end well.
    let serve = |p: Program| {
        p.step(mesh::ADD_SERVICE, &[0])
            .step(mesh::HOOK_DONE, &[0, 0])
            .step(mesh::HOOK_DONE, &[0, 0])
    };
    // Link, sequence, floor below it, time left, path, flags.
    let called = |p: Program, sequence: u8| p.step(mesh::CALL, &[0, sequence, 0, 250, 0, 16, 0, 3]);
    let served = serve(Program::new()).step(mesh::GREET, &[0, 0]);
    let served = called(called(served, 1), 2)
        .step(mesh::RESPOND, &[0, 5])
        .step(mesh::PULL, &[0, 200])
        .step(mesh::CANCEL, &[0, 2, 1, 0])
        .step(mesh::PULL, &[0, 200]);
    // Each of three peers, with a token of its own, calls what it may and what it may not.
    let mut by_tokens = serve(Program::new());
    for peer in 0..3 {
        by_tokens = by_tokens.step(mesh::GREET, &[peer, 7]);
        for path in 0..4 {
            by_tokens = by_tokens.step(mesh::CALL, &[peer, path + 1, 0, 250, 0, 16, path, 3]);
        }
        by_tokens = by_tokens.step(mesh::WAKE, &[]).step(mesh::PULL, &[peer, 200]);
    }
    let calling = Program::new()
        .step(mesh::GREET, &[0, 7])
        .step(mesh::START_CALL, &[0, 10, 0, 40])
        .step(mesh::PULL, &[0, 200])
        .step(mesh::REPLY, &[0, 1, 0, 0])
        .bytes(b"3")
        .step(0, &[]);
    let local = serve(Program::new())
        .step(mesh::START_CALL, &[0, 254, 0, 40])
        .step(mesh::START_CALL, &[0, 10, 0, 40])
        .step(mesh::RESPOND, &[0, 251])
        .step(mesh::CANCEL_CALL, &[0])
        .step(mesh::PAUSE, &[0])
        .step(mesh::RESUME, &[0])
        .step(mesh::STOP_SERVICE, &[0])
        .step(mesh::SHUTDOWN, &[]);
    let dialled = Program::new()
        .step(mesh::CONNECT, &[1, 1])
        .step(mesh::START_CALL, &[0, 10, 6, 200])
        .step(mesh::DIAL_FAILED, &[0, 0])
        .step(mesh::WAKE, &[])
        .step(mesh::LINK_UP, &[0x80])
        .step(mesh::HELLO, &[0, 1, 1, 1, 1, 3, 255, 0])
        .step(mesh::CONFIRM, &[0, 1, 1, 1])
        .step(mesh::PULL, &[0, 200])
        .step(mesh::LINK_DOWN, &[0, 0])
        .step(mesh::WAKE, &[])
        .step(mesh::LINK_UP, &[0x80])
        .step(mesh::HELLO, &[0, 1, 1, 2, 2, 3, 255, 0])
        .step(mesh::CONFIRM, &[0, 1, 1, 1])
        .step(mesh::DISCONNECT, &[1]);
    // One call again and again, from a peer that reads no answers.
    let mut unread = serve(Program::new()).step(mesh::GREET, &[0, 0]);
    for _ in 0..200 {
        unread = called(unread, 1);
    }
    let mut flapping = serve(Program::new()).step(mesh::GREET, &[0, 0]);
    for _ in 0..100 {
        flapping = flapping.step(mesh::PAUSE, &[0]).step(mesh::RESUME, &[0]);
    }
    // A peer that reads nothing on one link and drops another again and again.
    let mut resent = Program::new()
        .step(mesh::GREET, &[0, 7])
        .step(mesh::START_CALL, &[0, 10, 0, 200])
        .step(mesh::START_CALL, &[0, 10, 0, 200]);
    for _ in 0..100 {
        resent = resent.step(mesh::GREET, &[0, 7]).step(mesh::LINK_DOWN, &[1, 0]);
    }
    // Deltas in turn, twice, early and of too much; heartbeats that agree and that do not; answers.
    let told = serve(Program::new())
        .step(mesh::GREET, &[0, 0x83])
        .step(mesh::DELTA, &[0, 1, 1, 4, 1, 0])
        .step(mesh::DELTA, &[0, 1, 1, 4, 1, 0])
        .step(mesh::DELTA, &[0, 9, 1, 1, 0, 1])
        .step(mesh::PULL, &[0, 200])
        .step(mesh::HEARTBEAT, &[0, 2, 5])
        .step(mesh::DIRECTORY, &[0, 2, 0x85])
        .step(mesh::HEARTBEAT, &[0, 2, 5])
        .step(mesh::HEARD, &[0, 1, 0])
        .step(mesh::PAUSE, &[0])
        .step(mesh::PULL, &[0, 200])
        .step(mesh::RESUME, &[0])
        .step(mesh::HEARD, &[0, 3, 1])
        .step(mesh::STOP_SERVICE, &[0])
        .step(mesh::HOOK_DONE, &[0, 0])
        .step(mesh::PULL, &[0, 200])
        .step(mesh::WAKE, &[])
        .step(mesh::WAKE, &[])
        .step(mesh::PULL, &[0, 200])
        .step(mesh::DELTA, &[0, 2, 9, 7, 0, 3]);
    // Events to a peer that acknowledges some, is passed over with others, and goes; outcomes that are asked for.
    let mut published = Program::new()
        .step(mesh::GREET, &[0, 0x80])
        .step(mesh::INTEREST, &[0, 2, 3, 1, 0, 0, 1, 4, 5])
        .step(mesh::EVENT_ACK, &[0, 0, 1, 1, 1, 1, 16])
        .step(mesh::SUBSCRIBE, &[2, 0, 9]);
    for n in 0..4 {
        published = published
            .step(mesh::PUBLISH, &[0, n, 0, 0])
            .step(mesh::PUBLISH, &[1, n, 24, 8])
            .step(mesh::PUBLISH_MANY, &[0, 0, 8, 0])
            .bytes(&[n, 7, 200])
            .step(mesh::PULL, &[0, 200])
            .step(mesh::EVENT_ACK, &[0, 1, 1 + n, 2, n, 1, 1])
            .step(mesh::TAKE, &[0, 3]);
    }
    let published = published
        .step(mesh::LINK_DOWN, &[0, 0])
        .step(mesh::PUBLISH, &[0, 9, 20, 200])
        .step(mesh::GREET, &[0, 0x80])
        .step(mesh::EVENT_ACK, &[0, 1, 2, 2, 2, 2, 15])
        .step(mesh::PULL, &[0, 200])
        .step(mesh::WAKE, &[])
        .step(mesh::UNSUBSCRIBE, &[0]);
    // Events of a peer: alone, for groups, several together, twice, too early, of another stream.
    let mut heard = Program::new()
        .step(mesh::SUBSCRIBE, &[1, 0, 3])
        .step(mesh::SUBSCRIBE, &[2, 16, 2])
        .step(mesh::SUBSCRIBE, &[0, 1, 9])
        .step(mesh::SUBSCRIBE, &[3, 8, 9])
        .step(mesh::GREET, &[0, 0x80])
        .step(mesh::PULL, &[0, 200]);
    for lane in 0..2 {
        heard = heard
            .step(mesh::EVENTS_FROM, &[0, lane, 1, 1, 0, 0])
            .step(mesh::EVENT, &[0, lane, 0, 1, 0, 5])
            .step(mesh::EVENT, &[0, lane, 0, 2, 6, 5])
            .step(mesh::EVENT, &[0, lane, 3, 3, 24, 5])
            .step(mesh::EVENTS, &[0, lane, 1, 0, 4])
            .bytes(&[1, 2, 3])
            .step(1, &[9])
            .bytes(&[30, 0])
            .step(mesh::EVENTS_SKIPPED, &[0, lane, 4])
            .step(mesh::EVENTS_FROM, &[0, lane, 3, 1, 0, 1])
            .step(mesh::EVENTS, &[0, lane, 0, 0, 7])
            .bytes(&[1; 9])
            .step(mesh::EVENTS_FROM, &[0, lane, 99, 1, 0, 9])
            .step(mesh::EVENT, &[0, lane, 0, 20, 0, 5])
            .step(mesh::EVENTS_FROM, &[0, lane, 1, 2, 7, 0])
            .step(mesh::EVENT, &[0, lane, 1, 21, 0, 5])
            .step(mesh::TAKE, &[0, 9])
            .step(mesh::TAKE, &[1, 9])
            .step(mesh::TAKE, &[2, 9])
            .step(mesh::PULL, &[0, 200]);
    }
    let mut heard_by_tokens = Program::new();
    for which in 0..5 {
        heard_by_tokens = heard_by_tokens.step(mesh::SUBSCRIBE, &[which, 0, 200]);
    }
    for peer in 0..3 {
        heard_by_tokens = heard_by_tokens
            .step(mesh::GREET, &[peer, 0x80])
            .step(mesh::EVENTS_FROM, &[peer, 0, 1, 1, 0, 0]);
        for topic in 0..4 {
            heard_by_tokens = heard_by_tokens.step(mesh::EVENT, &[peer, 0, topic, topic + 1, 0, 5]);
        }
        for reader in 0..5 {
            heard_by_tokens = heard_by_tokens.step(mesh::TAKE, &[reader, 9]);
        }
    }
    vec![
        ("published", 0, published.clone()),
        ("published_within_small_limits", 1, published),
        ("heard", 0, heard.clone()),
        ("heard_within_small_limits", 1, heard),
        ("heard_by_tokens", 8, heard_by_tokens),
        ("told", 0, told.clone()),
        ("told_within_small_limits", 1, told.clone()),
        ("told_in_small_steps", 3, told),
        ("served", 0, served.clone()),
        ("served_by_tokens", 8, by_tokens.clone()),
        ("served_by_tokens_in_small_steps", 11, by_tokens),
        ("served_within_small_limits", 1, served.clone()),
        ("served_in_small_steps", 3, served),
        ("calling", 0, calling),
        ("local", 1, local.clone()),
        ("local_in_small_steps", 3, local),
        ("dialled", 0, dialled.clone()),
        ("dialled_by_the_list", 5, dialled),
        ("answers_unread", 1, unread),
        ("directory_flapping", 1, flapping),
        ("calls_unread", 1, resent),
    ]
}

fn nodes() -> Vec<(&'static str, u8, Program)> {
    let up = Program::new()
        .step(node::ADD_SERVICE, &[1])
        .step(node::HOOK_DONE, &[1])
        .step(node::HOOK_DONE, &[1])
        .step(node::CONNECT, &[0])
        .step(node::RUN, &[20, 0]);
    let called = up
        .clone()
        .step(node::CALL, &[0, 3, 200])
        .step(node::RUN, &[4, 0])
        .step(node::RESPOND, &[1, 0, 100])
        .step(node::RUN, &[4, 0]);
    let rough = called
        .clone()
        .step(node::CALL, &[0, 100, 200])
        .step(node::REPEAT, &[0])
        .step(node::DROP, &[1])
        .step(node::DAMAGE, &[0, 30, 0, 1, 9])
        .step(node::DELIVER_ALL, &[])
        .step(node::MOVE, &[0, 7])
        .step(node::TIME, &[100, 0])
        .step(node::DELIVER_ALL, &[])
        .step(node::BACK, &[3, 0])
        .step(node::WAKE, &[0])
        .step(node::RUN, &[40, 0]);
    // A stream frame that the peer did not write, with a tag that the null session lets pass.
    let forged = called
        .clone()
        .step(node::CALL, &[0, 1, 200])
        .step(node::FORGE, &[0, 12, 0, 8, 0x0a, 0, 4, 1, 2, 3, 4, 0])
        .step(node::DELIVER_ALL, &[])
        .step(node::RUN, &[10, 0]);
    let restarted = called
        .clone()
        .step(node::CALL, &[0, 3, 200])
        .step(node::RESTART, &[1])
        .step(node::RUN, &[63, 0])
        .step(node::ADD_SERVICE, &[1])
        .step(node::SHUTDOWN, &[0])
        .step(node::RUN, &[10, 0]);
    let crossed = Program::new()
        .step(node::CONNECT, &[0])
        .step(node::CONNECT, &[1])
        .step(node::RUN, &[20, 0])
        .step(node::DISCONNECT, &[0])
        .step(node::RUN, &[20, 0]);
    let stranger = Program::new()
        .step(node::INJECT, &[0b1111_1111])
        .bytes(&[0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44])
        .step(0, &[])
        .step(node::INJECT, &[3])
        .bytes(&[0x40; 60]);
    vec![
        ("called", 0, called.clone()),
        ("called_with_address_validation", 2, called.clone()),
        ("called_over_narrow_lanes", 7, called.clone()),
        ("called_with_path_discovery", 8, called),
        ("rough", 0, rough.clone()),
        ("rough_over_narrow_lanes", 7, rough),
        ("forged", 0, forged),
        ("restarted", 1, restarted),
        ("dialled_from_both_sides", 0, crossed),
        ("stranger", 0, stranger),
    ]
}

#[test]
fn the_seeds_in_the_corpus_are_those_written_here() {
    let write = std::env::var_os("DUNLIN_WRITE_SEEDS").is_some();
    for (target, name, bytes) in seeds() {
        let path = corpus(target).join(format!("seed-{name}"));
        if write {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let found = fs::read(&path).unwrap_or_default();
        assert_eq!(found, bytes, "{} is not current", path.display());
    }
    let mut known = seeds().len();
    for (target, _) in TARGETS {
        for file in fs::read_dir(corpus(target)).unwrap() {
            let name = file.unwrap().file_name();
            if name.to_string_lossy().starts_with("seed-") {
                known -= 1;
            }
        }
    }
    assert_eq!(known, 0, "a seed lies there that is not written here");
}

#[test]
fn messages_among_the_seeds_are_legal() {
    for (name, message) in messages() {
        let frame = message.clone().into_frame().unwrap().to_body();
        let parsed = dunlin_core::wire::parse(frame, &dunlin_core::Limits::default());
        let there = parsed.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        // Who dialled from here is there, at the other end.
        let frame = there.into_frame().unwrap().to_body();
        let back = dunlin_core::wire::parse(frame, &dunlin_core::Limits::default());
        assert_eq!(back, Ok(message), "{name}");
    }
}

#[test]
fn every_input_of_the_corpus_runs_without_a_finding() {
    for (target, run) in TARGETS {
        let mut files: Vec<_> =
            fs::read_dir(corpus(target)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 2, "{target} has seeds");
        for file in files {
            let input = fs::read(&file).unwrap();
            let result = std::panic::catch_unwind(|| run(&input));
            assert!(result.is_ok(), "{} is a finding", file.display());
        }
    }
}
