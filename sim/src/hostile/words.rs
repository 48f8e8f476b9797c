//! What each attack says next. Frames are made by hand, so that they can say what no node says.

use bytes::Bytes;
use dunlin_core::auth::{BlindedNetworks, Greeter, LifeRecord, NetworkId};
use dunlin_core::base::{Draws, Incarnation};
use dunlin_core::link::{CloseCode, Lane};
use dunlin_core::wire::{VERSION_MAX, VERSION_MIN};
use dunlin_core::{Identity, PeerId};
use dunlin_proto::{Frame, Header, v1};

use crate::random::Stream;
use crate::schedule::Attack;

/// Bytes of a large call. More than a shared lane may carry, and less than a message may have.
const LARGE_BYTES: u64 = 200_000;
/// Links of strangers in one act.
const STRANGERS: u64 = 4;
/// Subscriptions of a whole document, and leases or calls of one act.
const PATTERNS: u64 = 100;
const SEVERAL: u64 = 20;
/// A day, in milliseconds: how long a call may take at most.
const DAY_MS: u32 = 86_400_000;
/// Codes of refusals and of closes go up to here, with some that mean nothing.
const CODES: u64 = 14;
/// Where close codes begin that carry the code of a refusal.
const REFUSED_FROM: u32 = 256;

/// Where something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// On the link of the hostile node's mesh, behind its handshake.
    Session,
    /// On a link of the node's key on which nothing was said before.
    Alone,
    /// On a link of a key that nothing knows, on which nothing was said before. Each has a number of its own.
    Stranger(u64),
}

/// What a hostile node does.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// It says these on one link.
    Say(On, Vec<(Lane, Bytes)>),
    /// It closes a link with a code.
    Close(On, CloseCode),
}

/// What a hostile node knows when it acts against another.
pub(crate) struct Seen<'a> {
    /// How often it has acted before.
    pub(crate) acts: u64,
    /// Its own key.
    pub(crate) own: &'a Identity,
    /// The key of the node that it acts against. It has records that this key has signed.
    pub(crate) victim: &'a Identity,
    /// The present life of that.
    pub(crate) life: Incarnation,
    /// The network that both are in.
    pub(crate) network: NetworkId,
    /// The keys of strangers.
    pub(crate) stranger: &'a dyn Fn(u64) -> PeerId,
}

fn control(header: Header) -> (Lane, Bytes) {
    (Lane::CONTROL, Frame::new(header).to_body())
}

/// A number at one of the ends of what can be said, or any.
fn number(draws: &mut Stream) -> u64 {
    match draws.below(8) {
        0 => 0,
        1 => 1,
        2 => draws.below(1_000),
        3 => 1 << 31,
        4 => Incarnation::COUNTER_MAX,
        5 => u64::MAX,
        6 => 1 << 60,
        _ => draws.number(),
    }
}

fn bytes(draws: &mut Stream, count: u64) -> Bytes {
    let count = usize::try_from(count).expect("a few kilobytes");
    let words = (0..count.div_ceil(8)).flat_map(|_| draws.number().to_le_bytes());
    words.take(count).collect::<Vec<_>>().into()
}

fn any_link(draws: &mut Stream) -> Option<v1::LinkId> {
    let dialled_by_sender = draws.chance(500);
    let counter = draws.pick(&[1, 2, 3]);
    let number = draws.range(1, 6);
    Some(v1::LinkId { dialled_by_sender, counter, number })
}

fn any_lane(draws: &mut Stream) -> Lane {
    Lane(draws.below(Lane::SHARED + 1))
}

fn any_link_kind(draws: &mut Stream) -> On {
    let stranger = On::Stranger(draws.number());
    draws.pick(&[On::Session, On::Session, On::Alone, stranger])
}

/// What a hostile node does next against another.
pub(crate) fn deeds(attack: Attack, draws: &mut Stream, seen: &Seen<'_>) -> Vec<Deed> {
    match attack {
        Attack::Lives => vec![lives(draws, seen)],
        Attack::Cuts => vec![cuts(draws, seen)],
        Attack::Strangers => (0..STRANGERS).map(|_| stranger(draws, seen)).collect(),
        // It is silent.
        Attack::Unacknowledged => Vec::new(),
        Attack::Documents => vec![document(draws, seen)],
        Attack::Leases => vec![leases(draws, seen)],
        Attack::Calls => vec![calls(draws, seen)],
        Attack::Claims => vec![claims(draws, seen)],
        Attack::Noise => vec![noise(draws)],
        Attack::Lies => vec![lie(draws, seen)],
    }
}

/// A word of a life that the victim has not begun, or has, or had.
fn lives(draws: &mut Stream, seen: &Seen<'_>) -> Deed {
    let on = any_link_kind(draws);
    let code = draws.below(CODES) as u32;
    if draws.chance(250) {
        let offset = if draws.chance(500) { REFUSED_FROM } else { 0 };
        return Deed::Close(on, CloseCode(offset + code));
    }
    let counter = match draws.below(4) {
        0 => Incarnation::COUNTER_MAX,
        1 => seen.life.counter + 1,
        2 => number(draws),
        _ => seen.life.counter,
    };
    let made_up = Incarnation { counter, boot: draws.number() };
    let record = |by: &Identity, life| LifeRecord::sign(by, life).signature.to_vec().into();
    let life = match draws.below(4) {
        0 => None,
        1 => Some((made_up, bytes(draws, 64))),
        2 => Some((made_up, record(seen.own, made_up))),
        // What the victim has sent itself. It says nothing new.
        _ => Some((seen.life, record(seen.victim, seen.life))),
    };
    let life = life.map(|(life, signature)| v1::Incarnation {
        counter: life.counter,
        boot: life.boot,
        signature,
    });
    Deed::Say(on, vec![control(Header::Refuse(v1::Refuse { code, life }))])
}

fn cuts(draws: &mut Stream, seen: &Seen<'_>) -> Deed {
    let mut frames = Vec::new();
    for lane in 1..=Lane::SHARED {
        let cut = v1::Cut { from: any_link(draws), frames: number(draws) };
        if draws.chance(300) {
            frames.push((Lane(lane), Frame::new(Header::Cut(cut)).to_body()));
        }
    }
    let lane = draws.range(1, Lane::SHARED);
    let size = draws.range(1, LARGE_BYTES);
    let payload = Bytes::from(vec![b'x'; usize::try_from(size).expect("small")]);
    frames.push((Lane(lane), call(seen, seen.acts + 1, 1, payload)));
    Deed::Say(On::Session, frames)
}

/// A stranger says nothing, or much, or something like a greeting.
fn stranger(draws: &mut Stream, seen: &Seen<'_>) -> Deed {
    let number = draws.number();
    let frames = match draws.below(3) {
        0 => Vec::new(),
        1 => {
            let lane = any_lane(draws);
            (0..4).map(|_| (lane, bytes(draws, 20_000))).collect()
        }
        _ => vec![hello(draws, seen, number)],
    };
    Deed::Say(On::Stranger(number), frames)
}

/// What a stranger calls its link.
const STRANGERS_LINK: v1::LinkId = v1::LinkId { dialled_by_sender: true, counter: 1, number: 1 };

/// A stranger that knows the network, or does not.
fn hello(draws: &mut Stream, seen: &Seen<'_>, number: u64) -> (Lane, Bytes) {
    let incarnation =
        v1::Incarnation { boot: draws.number(), signature: bytes(draws, 64), ..Default::default() };
    let greeter =
        Greeter { sender: (seen.stranger)(number), receiver: seen.victim.id(), has_dialled: true };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&draws.number().to_le_bytes());
    let known = [seen.network].into_iter();
    let blinded = BlindedNetworks::new(known, &greeter, &mut Draws::new(seed));
    let (marks, count) = (Bytes::copy_from_slice(blinded.marks.as_flattened()), draws.below(9));
    control(Header::Hello(Box::new(v1::Hello {
        version_min: draws.pick(&[VERSION_MIN, VERSION_MIN, 1, 9]),
        version_max: draws.pick(&[VERSION_MAX, VERSION_MAX, 2, 9]),
        incarnation: Some(v1::Incarnation { counter: 1, ..incarnation }),
        call_credit: 1_024,
        message_bytes_max: 8 << 20,
        link: Some(STRANGERS_LINK),
        nonce: Bytes::copy_from_slice(&blinded.nonce),
        networks: if draws.chance(700) { marks } else { bytes(draws, 16 * count) },
        ..Default::default()
    })))
}

fn document(draws: &mut Stream, seen: &Seen<'_>) -> Deed {
    let version = 1_000 + seen.acts;
    let subscription = |n: u64| v1::Subscription {
        pattern: format!("h/{version}/{n}/>"),
        key: version * PATTERNS + n,
        ..Default::default()
    };
    let service = |n: u64| v1::Service {
        path: format!("h{n}"),
        key: version * PATTERNS + n,
        state: 1,
        actions: vec!["do".into()],
        description: "\u{1b}[2Jx".repeat(20),
        version: "1.0.0".into(),
        ..Default::default()
    };
    let header = match draws.below(4) {
        0 => Header::Delta(v1::Delta {
            base: draws.pick(&[version - 1, 0, u64::MAX]),
            version,
            subscriptions: (0..PATTERNS).map(subscription).collect(),
            ..Default::default()
        }),
        1 => Header::Directory(v1::Directory {
            version,
            services: (0..SEVERAL).map(service).collect(),
            incremental: true,
            ..Default::default()
        }),
        _ => Header::Directory(v1::Directory {
            version,
            subscriptions: (0..PATTERNS).map(subscription).collect(),
            incremental: true,
            ..Default::default()
        }),
    };
    Deed::Say(On::Session, vec![control(header)])
}

fn leases(draws: &mut Stream, seen: &Seen<'_>) -> Deed {
    let seal = draws.chance(50).then(|| {
        control(Header::LeaseSeal(v1::LeaseSeal {
            network_id: Bytes::copy_from_slice(seen.network.as_bytes()),
            of: draws.pick(&[0, 1, u64::MAX]),
            by: number(draws),
            boot: draws.number(),
            asked_ns: number(draws),
        }))
    });
    let mut frames: Vec<_> = seal.into_iter().collect();
    for n in 0..SEVERAL {
        let path = format!("x{}", seen.acts * SEVERAL + n);
        let name = [&seen.network.as_bytes()[..], path.as_bytes()].concat();
        let ballot = v1::Ballot {
            round: draws.pick(&[1, 2, 1 << 40, u64::MAX]),
            peer: Bytes::copy_from_slice(seen.own.id().as_bytes()),
            boot: draws.number(),
        };
        frames.push(control(Header::LeaseRequest(v1::LeaseRequest {
            name: name.into(),
            epoch: draws.pick(&[0, 0, 0, 1, u64::MAX]),
            ask: draws.range(1, 4) as u32,
            ballot: Some(ballot),
            number: number(draws),
        })));
    }
    Deed::Say(On::Session, frames)
}

/// A call that no handler can read.
fn call(seen: &Seen<'_>, sequence: u64, floor: u64, payload: Bytes) -> Bytes {
    let call = v1::Call {
        sequence,
        floor,
        attempt: 1,
        callee_boot: seen.life.boot,
        time_left_ms: DAY_MS,
        path: Bytes::from_static(b"probe/echo"),
        content_type: 1,
    };
    Frame::with_payload(Header::Call(call), payload).to_body()
}

fn calls(draws: &mut Stream, seen: &Seen<'_>) -> Deed {
    let first = seen.acts * SEVERAL + 1;
    let floor = if draws.chance(900) { first.saturating_sub(900).max(1) } else { 1 };
    let lane = Lane(draws.range(1, Lane::SHARED));
    let payload = Bytes::from_static(b"no JSON");
    let all = (first..first + SEVERAL).map(|n| (lane, call(seen, n, floor, payload.clone())));
    Deed::Say(On::Session, all.collect())
}

fn claims(draws: &mut Stream, seen: &Seen<'_>) -> Deed {
    let on = any_link_kind(draws);
    let header = match draws.below(4) {
        0 => Header::Heard(v1::Heard { version: number(draws), wants_whole: draws.chance(500) }),
        1 => Header::Heartbeat(v1::Heartbeat { version: number(draws), digest: draws.number() }),
        _ => Header::Claims(v1::Claims {
            link: if let On::Stranger(_) = on { Some(STRANGERS_LINK) } else { any_link(draws) },
            receiver_boot: seen.life.boot,
            networks: vec![v1::NetworkClaim {
                network_id: Bytes::copy_from_slice(seen.network.as_bytes()),
                token: bytes(draws, 200),
                descriptor_sequence: draws.pick(&[1, 2, 1_000, u64::MAX]),
                is_default: true,
            }],
        }),
    };
    // What its own key says of itself stays true: a lie there harms nothing but the node itself, for good.
    let hello = match on {
        On::Stranger(number) => Some(hello(draws, seen, number)),
        On::Session | On::Alone => None,
    };
    Deed::Say(on, hello.into_iter().chain([control(header)]).collect())
}

fn noise(draws: &mut Stream) -> Deed {
    /// Kinds of frames end here, with some that there are not.
    const KINDS: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23, 128];
    let size = draws.pick(&[0, 1, 5, 40, 2_000]);
    let mut frame = bytes(draws, size).to_vec();
    if let (Some(first), true) = (frame.first_mut(), draws.chance(800)) {
        *first = draws.pick(KINDS) + draws.below(6) as u8;
    }
    let on = any_link_kind(draws);
    Deed::Say(on, vec![(any_lane(draws), frame.into())])
}

fn lie(draws: &mut Stream, seen: &Seen<'_>) -> Deed {
    let lanes = (0..Lane::SHARED).map(|_| number(draws)).collect::<Vec<_>>();
    let sent = Some(v1::Sent { lanes: lanes.clone(), own: number(draws) });
    let header = match draws.below(10) {
        0 => Header::Supersede(v1::Supersede { loser: any_link(draws), sent }),
        1 => Header::Drained(v1::Drained { loser: any_link(draws), sent }),
        2 => Header::Cancel(v1::Cancel { sequence: number(draws), floor: number(draws) }),
        3 => Header::EventAck(v1::EventAck {
            stream: number(draws),
            next: lanes,
            again: draws.below(9) as u32,
            ..Default::default()
        }),
        4 => Header::EventsFrom(v1::EventsFrom {
            stream: number(draws),
            number: number(draws),
            lost: number(draws),
            acknowledged: number(draws),
        }),
        5 => Header::EventsSkipped(v1::EventsSkipped { count: number(draws) }),
        6 => Header::Reply(v1::Reply {
            // Of a life that never asked.
            caller_boot: !seen.life.boot,
            sequence: number(draws),
            status: draws.below(20) as u32,
            ..Default::default()
        }),
        7 => Header::Heartbeat(v1::Heartbeat { version: number(draws), digest: number(draws) }),
        8 => Header::LeaseSealed(v1::LeaseSealed {
            seal: Some(v1::LeaseSeal {
                network_id: Bytes::copy_from_slice(seen.network.as_bytes()),
                of: draws.below(3),
                by: number(draws),
                boot: draws.number(),
                asked_ns: number(draws),
            }),
            began: draws.chance(500),
            runs_for_ns: Some(number(draws)),
        }),
        _ => Header::Heard(v1::Heard { version: number(draws), wants_whole: draws.chance(500) }),
    };
    Deed::Say(On::Session, vec![(any_lane(draws), Frame::new(header).to_body())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(attack: Attack, seed: u64) -> Vec<Deed> {
        let (own, victim) = (Identity::from_secret([1; 32]), Identity::from_secret([2; 32]));
        let life = Incarnation { counter: 3, boot: 7 };
        let network = NetworkId::DEVELOPMENT;
        let mut draws = Stream::new(seed, 0);
        let one = |acts| {
            let stranger = |number: u64| Identity::from_secret([number as u8; 32]).id();
            let (own, victim) = (&own, &victim);
            let seen = Seen { acts, own, victim, life, network, stranger: &stranger };
            deeds(attack, &mut draws, &seen)
        };
        (0..300).flat_map(one).collect()
    }

    #[test]
    fn an_attack_says_the_same_each_time_and_each_another_thing() {
        for attack in Attack::ALL {
            let text = |seed| format!("{:?}", said(attack, seed));
            assert_eq!(text(1), text(1), "{attack:?}");
            let is_silent = attack == Attack::Unacknowledged;
            assert_eq!(text(1) == text(2), is_silent, "{attack:?}");
        }
    }

    #[test]
    fn no_word_of_a_life_is_one_that_its_node_has_yet_to_begin() {
        let victim = Identity::from_secret([2; 32]).id();
        let mut own = 0;
        for deed in said(Attack::Lives, 5) {
            let Deed::Say(_, frames) = deed else { continue };
            let view = dunlin_proto::FrameView::decode(frames[0].1.clone()).unwrap();
            let dunlin_proto::FrameView::Known(Header::Refuse(refuse), _) = view else {
                panic!("{view:?}")
            };
            let Some(life) = refuse.life else { continue };
            let incarnation = Incarnation { counter: life.counter, boot: life.boot };
            let Ok(signature) = life.signature[..].try_into() else { continue };
            if (LifeRecord { incarnation, signature }).is_signed_by(&victim) {
                assert_eq!((life.counter, life.boot), (3, 7));
                own += 1;
            }
        }
        assert!(own > 10, "{own}");
    }
}
