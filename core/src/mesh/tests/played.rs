//! Peers that are played by the test: what they say out of turn, and what they leave unread.

use super::*;
use crate::auth::{BlindedNetworks, Greeter, LifeRecord, NetworkClaim, NetworkId};
use crate::base::Bound;
use crate::directory::Document;
use crate::link::{End, LinkId};

/// A peer that is played by hand. It has the higher id, so that it decides which link stays, and says nothing of that.
const PLAYED: PeerId = PeerId::from_bytes([0xff; 32]);

fn say(world: &mut World, link: u64, lane: Lane, message: Message) {
    let now = world.time();
    let frame = message.into_frame().unwrap().to_body();
    let input = LinkInput::Frame { link: LinkHandle(link), lane, frame };
    world.stations[0].mesh.handle_link(now, input);
    world.settle();
}

/// Brings up a link of the played peer, with this credit.
fn greet(world: &mut World, link: u64, call_credit: u32) {
    let now = world.time();
    let direction = Direction::Accepted;
    let up = LinkInput::Up { link: LinkHandle(link), peer: PLAYED, direction, remote: None };
    world.stations[0].mesh.handle_link(now, up);
    let greeter = Greeter { sender: PLAYED, receiver: id(0), has_dialled: true };
    let networks = [NetworkId::DEVELOPMENT].into_iter();
    let hello = wire::Hello {
        networks: BlindedNetworks::new(networks, &greeter, &mut Draws::new([3; 32])),
        version_min: wire::VERSION_MIN,
        version_max: wire::VERSION_MAX,
        life: LifeRecord { incarnation: Incarnation { counter: 1, boot: 1 }, signature: [0; 64] },
        call_credit,
        message_bytes_max: 1_000,
        critical_capabilities: Vec::new(),
        link: id_of(link),
        abandons: Vec::new(),
        observed_address: None,
    };
    say(world, link, Lane::CONTROL, Message::Hello(Box::new(hello)));
    let receiver_boot = world.stations[0].mesh.incarnation().boot;
    let claim = NetworkClaim {
        network: NetworkId::DEVELOPMENT,
        token: Bytes::new(),
        descriptor_sequence: 0,
        is_default: true,
    };
    let (name, networks) = (id_of(link), vec![claim]);
    say(world, link, Lane::CONTROL, Message::Claims { link: name, receiver_boot, networks });
    let (version, directory) = (wire::VERSION_MAX, Document::default());
    let confirm = Message::Confirm { version, directory, link: name, receiver_boot };
    say(world, link, Lane::CONTROL, confirm);
}

/// What the played peer calls its link.
fn id_of(link: u64) -> LinkId {
    LinkId { dialler: End::Here, counter: 1, number: link }
}

fn played_call(world: &World, sequence: u64) -> Message {
    Message::Call(wire::CallMessage {
        sequence,
        floor: 1,
        attempt: 1,
        callee_boot: world.stations[0].mesh.incarnation().boot,
        time_left: Duration::from_secs(60),
        path: TopicPath::parse("slow/wait").unwrap(),
        content: crate::service::ContentType::JSON,
        payload: Bytes::from_static(b"50000"),
    })
}

#[test]
fn the_last_of_all_numbers_runs_nothing() {
    let mut world = World::new(1);
    let runs = Arc::default();
    world.serve(0, slow(Arc::clone(&runs)));
    greet(&mut world, 1, 10);
    // There would be no next number to remember it by, and it would run each time it came.
    let call = played_call(&world, u64::MAX);
    say(&mut world, 1, Lane(1), call);
    assert_eq!(*runs.lock().unwrap(), 0);
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerMisbehaved { .. })), 1);
}

#[test]
fn a_second_link_takes_back_no_credit() {
    let mut world = World::new(1);
    greet(&mut world, 1, 3);
    let handle = world.handle(0);
    for _ in 0..3 {
        let handle = handle.clone();
        world.run(0, async move { handle.request("any/thing").to(PLAYED).send().await });
    }
    // The invariants say that what is unanswered is within the credit.
    greet(&mut world, 2, 1);
    assert_eq!(world.stations[0].mesh.load().calls_open, 3);
}

#[test]
fn a_peer_that_reads_nothing_holds_no_more_than_its_credit() {
    let mut world = World::new(1);
    world.stations[0].mesh.limits.calls_served_per_peer_max = 4;
    world.serve(0, math());
    greet(&mut world, 1, 10);
    let mesh = &mut world.stations[0].mesh;
    while mesh.next_lane(LinkHandle(1), Lane::CONTROL).is_some() {
        mesh.pull_frame(LinkHandle(1), Lane::CONTROL);
    }
    // `World` knows no such link, so nothing is pulled. One call comes again and again; its answer
    // waits once.
    for _ in 0..100 {
        let call = played_call(&world, 1);
        say(&mut world, 1, Lane(1), call);
    }
    assert_eq!(world.stations[0].mesh.load().frames_queued, 1);
    // Ever new calls are against the rules.
    for sequence in 2..100 {
        let call = played_call(&world, sequence);
        say(&mut world, 1, Lane(1), call);
    }
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerMisbehaved { .. })), 1);
    assert_eq!(world.stations[0].mesh.load().frames_queued, 0);
}

#[test]
fn a_link_that_does_not_drain_holds_nothing_twice() {
    let mut world = World::new(1);
    greet(&mut world, 1, 10);
    let mesh = &mut world.stations[0].mesh;
    while mesh.next_lane(LinkHandle(1), Lane::CONTROL).is_some() {
        mesh.pull_frame(LinkHandle(1), Lane::CONTROL);
    }
    world.serve(0, math());
    let now = world.time();
    let service = world.stations[0].mesh.services().iter().next().unwrap().0;
    for _ in 0..50 {
        world.stations[0].mesh.pause_service(now, service).unwrap();
        world.stations[0].mesh.resume_service(now, service).unwrap();
        world.settle();
    }
    assert_eq!(world.stations[0].mesh.load().frames_queued, 1, "one directory, the latest");
    // Calls that give up before they were pulled leave nothing behind.
    let handle = world.handle(0);
    for _ in 0..50 {
        let handle = handle.clone();
        world.run(0, async move {
            handle.request("any/thing").to(PLAYED).timeout(50 * MS).send().await
        });
        world.pass(60 * MS);
    }
    assert_eq!(world.stations[0].mesh.load().frames_queued, 1);
    // A second link that comes and goes makes us send again what waits on the first.
    world.run(0, async move { handle.request("any/thing").to(PLAYED).send().await });
    for link in 2..50 {
        greet(&mut world, link, 10);
        let (now, link) = (world.time(), LinkHandle(link));
        let down = LinkInput::Down { link, reason: DownReason::TimedOut };
        world.stations[0].mesh.handle_link(now, down);
        world.settle();
    }
    assert_eq!(world.stations[0].mesh.load().frames_queued, 2);
}

#[test]
fn an_answer_goes_where_the_question_came() {
    // The peer may have moved there, and its word on that may come later than its question.
    let mut world = World::new(1);
    world.serve(0, math());
    greet(&mut world, 1, 10);
    greet(&mut world, 2, 10);
    let Message::Call(call) = played_call(&world, 1) else { unreachable!() };
    let path = TopicPath::parse("math/add").unwrap();
    let call = wire::CallMessage { path, payload: Bytes::from_static(b"[2,3]"), ..call };
    say(&mut world, 2, Lane(1), Message::Call(call));
    let mesh = &mut world.stations[0].mesh;
    assert_eq!(mesh.peers.iter().next().unwrap().1.machine.sending_link(), Some(LinkHandle(1)));
    let answers = |link: u64| {
        let is_shared = |lane: &Lane| *lane != Lane::CONTROL;
        mesh.next_lane(LinkHandle(link), Lane(1)).filter(is_shared).is_some()
    };
    assert_eq!([answers(1), answers(2)], [false, true]);
}

#[test]
fn an_event_that_a_peer_does_not_accept_passes_it_over_and_it_is_told() {
    use crate::directory::{Entry, EntryKey, SubscriptionOffer};
    use crate::events::PublishRequest;
    use crate::payload::Payload;
    use crate::topic::Pattern;

    let mut world = World::new(1);
    greet(&mut world, 1, 10);
    let offer = SubscriptionOffer::new(Pattern::parse("a/b").unwrap());
    let entries = [(EntryKey::Subscription(1), Entry::Subscription(Arc::new(offer)))];
    let wishes = Document { version: 2, entries: entries.into(), incremental: true };
    say(&mut world, 1, Lane::CONTROL, Message::Directory(wishes));
    let now = world.time();
    let mesh = &mut world.stations[0].mesh;
    // It accepts 1,000 bytes.
    let topic = TopicPath::parse("a/b").unwrap();
    for (bytes, peers) in [(1_000, 1), (1_001, 0), (3_000, 0), (10, 1)] {
        let request = PublishRequest::new(topic.clone(), Payload::raw(vec![0; bytes]));
        let published = mesh.publish(now, &request).unwrap();
        assert_eq!((published.peers, published.passed_over), (peers, 1 - peers), "{bytes}");
    }
    let link = LinkHandle(1);
    let mut said = Vec::new();
    let mut from = Lane(1);
    while let Some(lane) = mesh.next_lane(link, from) {
        while let Some(frame) = mesh.pull_frame(link, lane) {
            said.push(wire::parse(frame.to_body(), &Limits::default()).unwrap());
        }
        from = Lane(lane.0 + 1);
    }
    let sizes: Vec<usize> = said
        .iter()
        .map(|message| match message {
            Message::EventsFrom(_) => 0,
            Message::Event(event) => event.payload.len(),
            Message::EventsSkipped { count } => *count as usize,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [0, 1_000, 2, 10]);
}

#[test]
fn a_later_life_that_this_node_has_not_signed_ends_a_link_and_nothing_else() {
    let mut world = World::new(2);
    world.connect(1, 0);
    let life = world.stations[0].mesh.incarnation();
    let late = Incarnation { counter: 1 << 40, boot: 1 };
    let forged = LifeRecord::sign(&identity(1), late);
    for (n, life) in [None, Some(forged)].into_iter().enumerate() {
        let link = LinkHandle(50 + n as u64);
        let direction = Direction::Accepted;
        let up = LinkInput::Up { link, peer: PLAYED, direction, remote: None };
        let now = world.time();
        world.stations[0].mesh.handle_link(now, up);
        say(&mut world, link.0, Lane::CONTROL, Message::Refuse { code: 3, life });
        assert!(world.stations[0].mesh.links_up(PLAYED).is_empty());
    }
    world.pass(1_000 * MS);
    let mesh = &world.stations[0].mesh;
    assert_eq!(mesh.incarnation(), life);
    assert_eq!(mesh.peers_up().count(), 1, "the other peer is still there");
    assert_eq!(world.saw(0, |e| matches!(e, Event::NewerSelf { .. } | Event::LifeBegan { .. })), 0);

    // Its own signature is another thing: it has lost its counter.
    let proved = LifeRecord::sign(&identity(0), Incarnation { counter: 8, boot: 1 });
    let up = LinkInput::Up {
        link: LinkHandle(60),
        peer: PLAYED,
        direction: Direction::Accepted,
        remote: None,
    };
    let now = world.time();
    world.stations[0].mesh.handle_link(now, up);
    say(&mut world, 60, Lane::CONTROL, Message::Refuse { code: 3, life: Some(proved) });
    assert_eq!(world.stations[0].mesh.incarnation().counter, 9);
}

#[test]
fn a_cut_that_cannot_be_true_closes_its_link_and_holds_nothing() {
    let mut world = World::new(1);
    world.serve(0, math());
    greet(&mut world, 1, 10);
    greet(&mut world, 2, 10);
    say(&mut world, 2, Lane(1), Message::Cut { from: id_of(1), frames: 1 << 60 });
    let call = played_call(&world, 1);
    say(&mut world, 2, Lane(1), call);
    assert_eq!(world.stations[0].mesh.frames_held(), 0);
}

#[test]
fn a_large_call_on_a_shared_lane_ends_its_link() {
    let mut world = World::new(1);
    greet(&mut world, 1, 10);
    let large = |bytes: usize, world: &World| {
        let Message::Call(mut call) = played_call(world, 1) else { unreachable!() };
        call.payload = Bytes::from(vec![b'1'; bytes]);
        Message::Call(call)
    };
    let legal = large(wire::SHARED_CALL_BYTES_MAX, &world);
    say(&mut world, 1, Lane(1), legal);
    assert_eq!(world.stations[0].mesh.links_up(PLAYED).len(), 1);
    let call = large(wire::SHARED_CALL_BYTES_MAX + 1, &world);
    say(&mut world, 1, Lane(1), call);
    assert!(world.stations[0].mesh.links_up(PLAYED).is_empty());
}

/// A link of a stranger, of whom there are any number.
fn stranger_comes(world: &mut World, number: u64, address: &str) {
    let mut key = [9; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    let up = LinkInput::Up {
        link: LinkHandle(1_000 + number),
        peer: PeerId::from_bytes(key),
        direction: Direction::Accepted,
        remote: Some(address.parse().unwrap()),
    };
    let now = world.time();
    world.stations[0].mesh.handle_link(now, up);
    world.settle();
}

#[test]
fn strangers_that_say_nothing_make_room_for_those_that_come_later() {
    let mut world = World::new(2);
    let limits = &mut world.stations[0].mesh.limits;
    (limits.unverified_links_per_address_max, limits.unverified_links_max) = (4, 6);
    (limits.links_max, limits.peers_max) = (16, 16);
    stranger_comes(&mut world, 0, "192.0.2.77:1");
    for number in 1..1_000 {
        stranger_comes(&mut world, number, "192.0.2.1:1");
        let mesh = &world.stations[0].mesh;
        assert!(mesh.load().links <= 6 && mesh.load().peers <= 16);
    }
    let mesh = &world.stations[0].mesh;
    assert!(mesh.links.contains_key(&LinkHandle(1_000)), "another address has its own account");
    assert_eq!(mesh.refusals().of(Bound::UnverifiedLinksPerAddress), 995);
    // A member comes while they go on.
    world.connect(1, 0);
    assert_eq!(world.stations[0].mesh.peers_up().count(), 1);
    // From many addresses there is another bound.
    for number in 1_000..1_100 {
        stranger_comes(&mut world, number, &format!("198.51.100.{}:1", number - 1_000));
    }
    assert!(world.stations[0].mesh.load().links <= 7);
    assert!(world.stations[0].mesh.refusals().of(Bound::UnverifiedLinks) > 90);
    assert_eq!(world.stations[0].mesh.peers_up().count(), 1);
}
