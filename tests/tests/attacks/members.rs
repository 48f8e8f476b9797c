//! Attackers with a token that allows for little.

use std::time::Duration;

use bytes::Bytes;
use dunlin_core::Identity;
use dunlin_core::link::{Lane, LinkHandle, LinkInput};
use dunlin_proto::{Frame, Header, v1};
use dunlin_tokio::key;

use crate::attacker::Attacker;
use crate::scene::{Claim, Scene};

/// Frames that wait in the attacker, so that the victim is never idle.
const QUEUED: usize = 32;

/// A member of the scene's network that attacks.
struct Member {
    attacker: Attacker,
    claim: Claim,
    link: Option<LinkHandle>,
    boot: u64,
    sequence: u64,
}

impl Member {
    fn new(scene: &Scene, permissions: &str) -> Member {
        let identity = key::generate();
        let claim = scene.network.claim(identity.id(), permissions);
        Member::with(identity, claim)
    }

    fn with(identity: Identity, claim: Claim) -> Member {
        Member { attacker: Attacker::new(identity), claim, link: None, boot: 0, sequence: 0 }
    }

    /// A link to the victim: a new one when the last was closed, if it lets one in.
    fn link(
        &mut self,
        scene: (dunlin_core::PeerId, std::net::SocketAddr),
        directory: v1::Directory,
    ) -> Option<LinkHandle> {
        if let Some(link) = self.link
            && self.attacker.end_of(link).is_none()
        {
            return self.link;
        }
        self.attacker.inbox.clear();
        let (peer, address) = scene;
        let entered = self.attacker.enter(peer, address, &self.claim, directory);
        (self.link, self.sequence) = (None, 0);
        if let Ok((link, boot)) = entered {
            (self.link, self.boot) = (Some(link), boot);
        }
        self.link
    }

    fn call(&mut self, time_left: Duration, payload: Bytes) -> Frame {
        self.sequence += 1;
        let call = v1::Call {
            sequence: self.sequence,
            floor: self.sequence.saturating_sub(1_000).max(1),
            attempt: 1,
            callee_boot: self.boot,
            time_left_ms: u32::try_from(time_left.as_millis()).expect("a day at most"),
            path: Bytes::from_static(b"echo/say"),
            content_type: 1,
        };
        Frame::with_payload(Header::Call(call), payload)
    }

    /// Keeps what says that a link is gone, and forgets the rest.
    fn forget_frames(&mut self) -> usize {
        let before = self.attacker.inbox.len();
        self.attacker.inbox.retain(|input| matches!(input, LinkInput::Down { .. }));
        before - self.attacker.inbox.len()
    }
}

fn document(subscriptions: Vec<v1::Subscription>) -> v1::Directory {
    v1::Directory { version: 1, incremental: true, subscriptions, ..Default::default() }
}

#[test]
fn frames_behind_a_cut_that_never_ends_hold_little_memory() {
    let mut scene = Scene::echo();
    let place = (scene.victim.id, scene.victim.address);
    let mut member = Member::new(&scene, "call:echo/say");
    let large = Bytes::from(vec![b'x'; (8 << 20) - 100]);
    scene.attacked("cuts", || {
        let Some(first) = member.link(place, document(Vec::new())) else { return };
        let from = member.attacker.link_id(first);
        let claim = member.claim.clone();
        let entered = member.attacker.enter(place.0, place.1, &claim, document(Vec::new()));
        let Ok((second, boot)) = entered else { return };
        member.boot = boot;
        for lane in 1..=Lane::SHARED {
            let cut = v1::Cut { from: Some(from), frames: 1 << 60 };
            member.attacker.send(second, Lane(lane), Frame::new(Header::Cut(cut)));
        }
        for n in 0..200 {
            let call = member.call(Duration::from_secs(1), large.clone());
            member.attacker.send(second, Lane(1 + n % Lane::SHARED), call);
        }
        let began = std::time::Instant::now();
        while member.attacker.end_of(second).is_none()
            && began.elapsed() < Duration::from_millis(500)
        {
            member.attacker.turn_or_rest();
        }
        member.attacker.close(second);
    });
}

#[test]
fn delegated_keys_with_long_calls_keep_no_one_out() {
    const DAY: Duration = Duration::from_secs(86_400);
    let mut scene = Scene::echo();
    let place = (scene.victim.id, scene.victim.address);
    let holder = key::generate();
    let claim = scene.network.claim(holder.id(), "call:echo/say delegate:echo/say");
    let network = std::sync::Arc::clone(&scene.network);
    scene.attacked("delegated keys", || {
        let identity = key::generate();
        let delegated = network.delegated(&holder, &claim, identity.id());
        let mut member = Member::with(identity, delegated);
        if let Some(link) = member.link(place, document(Vec::new())) {
            let call = member.call(DAY, Bytes::from_static(b"\"x\""));
            member.attacker.send(link, Lane(1), call);
            let answered = |header| matches!(header, Header::Reply(_)).then_some(());
            let _ = member.attacker.frame(link, answered);
            member.attacker.close(link);
        }
    });
}

#[test]
fn documents_without_pause_delay_no_one() {
    const PATTERNS: u64 = 8_192;
    let mut scene = Scene::echo();
    let place = (scene.victim.id, scene.victim.address);
    let mut member = Member::new(&scene, "call:echo/say subscribe:a/>");
    let mut version = 1;
    scene.attacked("documents", || {
        let Some(link) = member.link(place, document(Vec::new())) else { return };
        if member.attacker.queued(link) < 2 {
            version += 1;
            let subscriptions = (0..PATTERNS).map(|n| v1::Subscription {
                pattern: format!("a/{version}/{n}/{{x}}/>"),
                key: version * 100_000 + n,
                ..Default::default()
            });
            let directory = v1::Directory { version, ..document(subscriptions.collect()) };
            member.attacker.send(link, Lane::CONTROL, Frame::new(Header::Directory(directory)));
        }
        member.attacker.turn_or_rest();
        member.forget_frames();
    });
}

#[test]
fn small_answers_from_large_datagrams_hold_little_memory() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let mut scene = Scene::echo();
    let place = (scene.victim.id, scene.victim.address);
    let mut member = Member::new(&scene, "call:echo/say");
    let mut answered = 0;
    scene.attacked("padded datagrams", || {
        let Some(link) = member.link(place, document(Vec::new())) else { return };
        member.attacker.padded_to = 60_000;
        if member.sequence == 0 {
            answered = 0;
        }
        while member.sequence < answered + 20 {
            let lane = Lane(1 + member.sequence % Lane::SHARED);
            let mut call = member.call(HOUR, Bytes::from_static(b"\"hi\""));
            if let Header::Call(call) = &mut call.header {
                // Every answer is to be kept.
                call.floor = 1;
            }
            member.attacker.send(link, lane, call);
        }
        member.attacker.turn_or_rest();
        answered = (answered + member.forget_frames() as u64).min(member.sequence);
    });
}

#[test]
fn calls_without_pause_delay_no_one() {
    let mut scene = Scene::echo();
    let place = (scene.victim.id, scene.victim.address);
    let mut member = Member::new(&scene, "call:echo/say");
    scene.attacked("large calls", || {
        let large = Bytes::from(format!("\"{}\"", "x".repeat(1 << 20)));
        let Some(link) = member.link(place, document(Vec::new())) else { return };
        while member.attacker.queued(link) < QUEUED {
            let call = member.call(Duration::from_secs(5), large.clone());
            let lane = Lane(Lane::OWN_FROM + member.sequence);
            member.attacker.send(link, lane, call);
        }
        member.attacker.turn_or_rest();
        member.forget_frames();
    });
}

#[test]
fn a_subscriber_that_acknowledges_nothing_delays_no_publisher() {
    let mut scene = Scene::publishing();
    let place = (scene.victim.id, scene.victim.address);
    let mut member = Member::new(&scene, "subscribe:news/>");
    let wanted = v1::Subscription { pattern: "news/>".into(), key: 1, ..Default::default() };
    scene.attacked("a subscriber that acknowledges nothing", || {
        // It reads all that comes.
        let _ = member.link(place, document(vec![wanted.clone()]));
        member.attacker.turn_or_rest();
        member.forget_frames();
    });
}
