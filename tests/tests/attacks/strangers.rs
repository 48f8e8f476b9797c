//! Attackers with any number of keys and no token.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dunlin_core::link::{Lane, LinkHandle};
use dunlin_core::transport::TransportConfig;
use dunlin_proto::{Frame, Header, v1};
use dunlin_tokio::key;

use crate::attacker::Attacker;
use crate::scene::Scene;

/// A Retry packet of QUIC version 1 (RFC 9000, section 17.2.5).
fn is_retry(first: u8) -> bool {
    first & 0xf0 == 0xf0
}

/// Something that happens at a rate.
struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    fn per_second(rate: f64) -> Pace {
        Pace { interval: Duration::from_secs_f64(1.0 / rate), next: Instant::now() }
    }

    fn is_due(&mut self) -> bool {
        let due = Instant::now() >= self.next;
        if due {
            self.next += self.interval;
        }
        due
    }
}

#[test]
fn handshakes_that_are_never_finished_keep_no_one_out() {
    let mut scene = Scene::echo();
    let (id, address) = (scene.victim.id, scene.victim.address);
    let config =
        TransportConfig { connections_max: 1 << 20, ..TransportConfig::for_datagrams_of(1_200) };
    let attacker = || Attacker::with(key::generate(), config.clone());
    let mut stranger = attacker();
    let mut pace = Pace::per_second(1_466.0);
    let mut renewed = Instant::now();
    scene.attacked("half-open handshakes", || {
        if pace.is_due() {
            stranger.begin_dial(id, address);
        }
        // It proves its address, which is what a Retry asks for, and goes no further.
        stranger.turn_hearing(is_retry);
        stranger.inbox.clear();
        if renewed.elapsed() > Duration::from_secs(6) {
            // The attacker's own state is bounded.
            (stranger, renewed) = (attacker(), Instant::now());
        }
    });
}

#[test]
fn fresh_keys_that_say_nothing_keep_no_one_out() {
    let mut scene = Scene::echo();
    let (id, address) = (scene.victim.id, scene.victim.address);
    let mut strangers: VecDeque<(Instant, Attacker)> = VecDeque::new();
    let mut pace = Pace::per_second(335.0);
    scene.attacked("fresh keys", || {
        if pace.is_due() {
            let mut stranger = Attacker::new(key::generate());
            stranger.begin_dial(id, address);
            strangers.push_back((Instant::now(), stranger));
        }
        for (born, stranger) in strangers.iter_mut().rev() {
            if born.elapsed() > Duration::from_secs(1) {
                break;
            }
            stranger.turn();
        }
        while strangers.front().is_some_and(|(born, _)| born.elapsed() > Duration::from_secs(12)) {
            strangers.pop_front();
        }
    });
}

/// As much as a link takes.
fn fill(stranger: &mut Attacker, link: LinkHandle) {
    let payload = Bytes::from(vec![0; (8 << 20) - 64]);
    let lanes = (1..=Lane::SHARED).chain((0..64).map(|own| Lane::OWN_FROM + own));
    for lane in lanes {
        let call = v1::Call {
            sequence: 1,
            floor: 1,
            attempt: 1,
            callee_boot: 1,
            time_left_ms: 1,
            path: Bytes::from_static(b"echo/say"),
            ..Default::default()
        };
        let frame = Frame::with_payload(Header::Call(call), payload.clone());
        stranger.send(link, Lane(lane), frame);
    }
}

#[test]
fn a_link_without_a_greeting_holds_little_memory() {
    let mut scene = Scene::echo();
    let (id, address) = (scene.victim.id, scene.victim.address);
    let config = TransportConfig {
        own_unwritten_bytes_max: 1 << 30,
        ..TransportConfig::for_datagrams_of(1_452)
    };
    let mut strangers: Vec<(Attacker, LinkHandle)> = Vec::new();
    scene.attacked("links that fill their lanes", || {
        strangers.retain(|(stranger, link)| stranger.end_of(*link).is_none());
        if strangers.len() < 8 {
            let mut stranger = Attacker::with(key::generate(), config.clone());
            if let Ok(link) = stranger.dial(id, address) {
                fill(&mut stranger, link);
                strangers.push((stranger, link));
            }
        }
        for (stranger, _) in &mut strangers {
            stranger.turn();
        }
    });
}

#[test]
fn a_refusal_without_proof_closes_its_link_and_nothing_else() {
    const STALE: u32 = 3;
    let mut scene = Scene::echo();
    let (id, address) = (scene.victim.id, scene.victim.address);
    let refuse = |attacker: &mut Attacker, link| {
        for counter in [u64::MAX >> 2, 1 << 40, u64::MAX] {
            let signature = Bytes::from_static(&[0; 64]);
            let life = Some(v1::Incarnation { counter, boot: 1, signature });
            let refuse = v1::Refuse { code: STALE, life };
            attacker.send(link, Lane::CONTROL, Frame::new(Header::Refuse(refuse)));
        }
        while attacker.end_of(link).is_none() {
            attacker.turn_or_rest();
        }
    };
    let mut stranger = Attacker::new(key::generate());
    let identity = key::generate();
    let claim = scene.network.claim(identity.id(), "call:echo/say");
    let mut member = Attacker::new(identity);
    let entered = member.enter(id, address, &claim, v1::Directory::default());
    entered.expect("a member is let in");
    scene.attacked("refusals", || {
        for attacker in [&mut stranger, &mut member] {
            if let Ok(link) = attacker.dial(id, address) {
                refuse(attacker, link);
                attacker.inbox.clear();
            }
        }
    });
    assert!(scene.victim.runs(), "one link is closed, and no more");
}
