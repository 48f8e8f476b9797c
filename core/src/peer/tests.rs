//! One peer, handshake by handshake. Which of several links stays is in `glare_tests.rs`.

use proptest::prelude::*;

use super::*;
use crate::auth::BlindedNetworks;
use crate::base::Identity;
use crate::directory::Document;
use crate::link::{DialError, Direction, End};
use crate::machine::tests::Bench;
use crate::wire::{VERSION_MAX, VERSION_MIN, VERSION_NEXT};

/// A node in its first life.
pub(super) fn local() -> LocalNode {
    LocalNode {
        id: Identity::from_secret([1; 32]).id(),
        incarnation: Incarnation { counter: 1, boot: 11 },
        admission: Admission::Anyone,
        call_credit: 10,
        message_bytes_max: 1 << 20,
        links_per_peer_max: 3,
        drain_max: crate::base::Limits::DRAIN_MAX_LEAST,
        version_max: VERSION_MAX,
        stopping: false,
    }
}

pub(super) fn peer() -> Bench<Peer> {
    Bench::new(Peer::new(Identity::from_secret([2; 32]).id()))
}

/// No machine of a peer verifies a record: the mesh does.
pub(super) fn life(incarnation: Incarnation) -> LifeRecord {
    LifeRecord { incarnation, signature: [0; 64] }
}

/// What the peer calls a link that it dialled in this life, as it is read here.
fn its(link: u64, counter: u64) -> LinkId {
    LinkId { dialler: End::There, counter, number: link }
}

/// The first one of a life of the peer.
pub(super) fn hello(counter: u64) -> Hello {
    Hello {
        // The mesh looks at them.
        networks: BlindedNetworks { nonce: [0; 16], marks: Default::default() },
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        life: life(Incarnation { counter, boot: counter * 100 }),
        call_credit: 7,
        message_bytes_max: 1 << 20,
        critical_capabilities: vec![],
        link: its(1, counter),
        abandons: vec![],
        observed_address: None,
    }
}

pub(super) fn keep() -> PeerInput {
    PeerInput::Keep { addresses: vec!["10.0.0.2:1".parse().unwrap()] }
}

pub(super) fn accepted(link: u64) -> PeerInput {
    PeerInput::LinkUp { link: LinkHandle(link), direction: Direction::Accepted }
}

fn dialled(link: u64, dial: u64) -> PeerInput {
    let direction = Direction::Dialled(DialHandle(dial));
    PeerInput::LinkUp { link: LinkHandle(link), direction }
}

fn says_hello(link: u64, id: LinkId) -> PeerInput {
    let hello = Box::new(Hello { link: id, ..hello(5) });
    PeerInput::Hello { link: LinkHandle(link), hello }
}

/// It says Hello on a link that it dialled in this life.
fn greets(link: u64, counter: u64) -> PeerInput {
    let hello = Box::new(Hello { link: its(link, counter), ..hello(counter) });
    PeerInput::Hello { link: LinkHandle(link), hello }
}

pub(super) fn claims(link: u64, id: LinkId) -> PeerInput {
    PeerInput::Claims { link: LinkHandle(link), id, receiver_boot: 11 }
}

pub(super) fn confirms(link: u64, id: LinkId) -> PeerInput {
    PeerInput::Confirm {
        link: LinkHandle(link),
        version: VERSION_MAX,
        directory: Document::default(),
        id,
        receiver_boot: 11,
    }
}

pub(super) fn down(link: u64) -> PeerInput {
    PeerInput::LinkDown { link: LinkHandle(link), reason: DownReason::TimedOut }
}

/// Brings a link up and gives what the last step caused.
fn bring_up(bench: &mut Bench<Peer>, link: u64, counter: u64) -> Vec<PeerEffect> {
    bench.feed(&local(), accepted(link));
    bench.feed(&local(), greets(link, counter));
    bench.feed(&local(), claims(link, its(link, counter)));
    bench.feed(&local(), confirms(link, its(link, counter)))
}

pub(super) fn closed_with(effects: &[PeerEffect]) -> Vec<(u64, CloseCode)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            PeerEffect::Close { link, code } => Some((link.0, *code)),
            _ => None,
        })
        .collect()
}

#[test]
fn waits_double_up_to_sixteen_seconds_and_then_the_peer_is_probed_now_and_then() {
    let mut bench = peer();
    bench.feed(&local(), keep());
    for attempt in 0..9 {
        let dial = DialHandle(attempt);
        bench.machine.dial_started(dial);
        bench.feed(&local(), PeerInput::DialFailed { dial, error: DialError::TimedOut });
        let wait = bench.next_timer_in().expect("there is a next time").as_secs_f64();
        let (base, spread) = match attempt {
            0..=4 => (f64::from(1 << attempt), 0.2),
            _ => (60.0, 0.5),
        };
        assert!((wait / base - 1.0).abs() <= spread + 1e-9, "attempt {attempt} waits {wait} s");
        let timer = bench.next_timer().unwrap();
        let effects = bench.feed(&local(), PeerInput::Timer(timer));
        assert!(matches!(effects[..], [PeerEffect::Dial { .. }]));
    }
    let effects = bench.feed(&local(), keep());
    assert!(effects.is_empty(), "it is being dialled already");
}

#[test]
fn being_asked_dials_at_once_and_starts_the_waits_anew() {
    let mut bench = peer();
    bench.feed(&local(), keep());
    for attempt in 0..4 {
        let dial = DialHandle(attempt);
        bench.machine.dial_started(dial);
        bench.feed(&local(), PeerInput::DialFailed { dial, error: DialError::TimedOut });
        if attempt < 3 {
            let timer = bench.next_timer().unwrap();
            bench.feed(&local(), PeerInput::Timer(timer));
        }
    }
    let effects = bench.feed(&local(), keep());
    assert!(matches!(effects[..], [PeerEffect::Dial { .. }]));
    assert_eq!(bench.timers_armed(), 0);
    let dial = DialHandle(9);
    bench.machine.dial_started(dial);
    bench.feed(&local(), PeerInput::DialFailed { dial, error: DialError::TimedOut });
    assert!(bench.next_timer_in().unwrap() <= Duration::from_millis(1_200));
}

#[test]
fn a_link_is_up_once_both_have_confirmed() {
    let id = its(1, 5);
    let mut bench = peer();
    assert!(bench.feed(&local(), accepted(1)).is_empty(), "the dialler speaks first");
    let effects = bench.feed(&local(), greets(1, 5));
    assert!(matches!(effects[..], [PeerEffect::SendHello { id: said, .. }] if said == id));
    assert!(bench.machine.is_met(LinkHandle(1)) && !bench.machine.is_verified(LinkHandle(1)));
    let effects = bench.feed(&local(), claims(1, id));
    let [PeerEffect::SendClaims { id: claimed, .. }, PeerEffect::SendConfirm { id: confirmed, .. }] =
        effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!([claimed, confirmed], [id; 2]);
    assert!(bench.machine.is_verified(LinkHandle(1)) && !bench.machine.is_up());
    let effects = bench.feed(&local(), confirms(1, id));
    assert!(matches!(effects[..], [PeerEffect::LinkReady { call_credit: 7, first: true, .. }]));
    assert!(bench.machine.is_up());
    assert_eq!(bench.timers_armed(), 0);
}

#[test]
fn a_dialler_claims_first_and_confirms_once_the_callee_has_claimed() {
    let id = LinkId { dialler: End::Here, counter: 1, number: 3 };
    let mut bench = peer();
    let effects = bench.feed(&local(), dialled(1, 3));
    assert!(matches!(effects[..], [PeerEffect::SendHello { id: said, .. }] if said == id));
    let effects = bench.feed(&local(), says_hello(1, id));
    assert!(matches!(effects[..], [PeerEffect::SendClaims { id: said, .. }] if said == id));
    let effects = bench.feed(&local(), claims(1, id));
    assert!(matches!(effects[..], [PeerEffect::SendConfirm { id: said, .. }] if said == id));
    let effects = bench.feed(&local(), confirms(1, id));
    assert!(matches!(effects[..], [PeerEffect::LinkReady { first: true, .. }]));
}

#[test]
fn nodes_of_adjacent_versions_speak_the_highest_that_both_know() {
    for (ours, theirs) in [(3, 3), (3, 4), (4, 3), (4, 4)] {
        let local = LocalNode { version_max: ours, ..local() };
        let mut bench = peer();
        bench.feed(&local, accepted(1));
        let hello = Box::new(Hello { version_max: theirs, ..hello(5) });
        bench.feed(&local, PeerInput::Hello { link: LinkHandle(1), hello });
        let effects = bench.feed(&local, claims(1, its(1, 5)));
        let chosen = effects.iter().find_map(|effect| match effect {
            PeerEffect::SendConfirm { version, .. } => Some(*version),
            _ => None,
        });
        assert_eq!(chosen, Some(ours.min(theirs)));
    }
    assert_eq!((VERSION_MAX, VERSION_NEXT), (3, 4));
}

#[test]
fn a_handshake_that_takes_too_long_is_ended() {
    for steps in 0..3 {
        let mut bench = peer();
        bench.feed(&local(), accepted(1));
        let said = [greets(1, 5), claims(1, its(1, 5))];
        for input in said.into_iter().take(steps) {
            bench.feed(&local(), input);
        }
        assert_eq!(bench.next_timer_in(), Some(HANDSHAKE_MAX));
        let timer = bench.next_timer().unwrap();
        let effects = bench.feed(&local(), PeerInput::Timer(timer));
        assert_eq!(closed_with(&effects), [(1, CloseCode::HANDSHAKE_TIMEOUT)]);
        assert!(bench.machine.is_idle());
    }
}

#[test]
fn steps_out_of_turn_end_the_link() {
    let id = its(1, 5);
    let fault = [(1, CloseCode::PROTOCOL_FAULT)];
    // What came before, and what does not belong behind it.
    let (hello, claim, confirm) = (greets(1, 5), claims(1, id), confirms(1, id));
    let all = [hello.clone(), claim.clone(), confirm.clone()];
    for (before, wrong) in [
        (0, &claim),
        (0, &confirm),
        (1, &hello),
        (1, &confirm),
        (2, &hello),
        (2, &claim),
        (3, &hello),
        (3, &claim),
        (3, &confirm),
    ] {
        let mut bench = peer();
        bench.feed(&local(), accepted(1));
        for input in &all[..before] {
            bench.feed(&local(), input.clone());
        }
        let effects = bench.feed(&local(), wrong.clone());
        assert_eq!(closed_with(&effects), fault, "{wrong:?} behind {before} steps");
    }

    let mut bench = peer();
    bench.feed(&local(), accepted(1));
    bench.feed(&local(), hello);
    bench.feed(&local(), claim);
    let directory = Document::default();
    let link = LinkHandle(1);
    let wrong = PeerInput::Confirm { link, version: 9, directory, id, receiver_boot: 11 };
    assert_eq!(closed_with(&bench.feed(&local(), wrong)), fault, "a version nobody offered");
}

#[test]
fn a_handshake_is_refused_with_the_reason_in_the_close() {
    let refused = |local: &LocalNode, hello: Hello| {
        let mut bench = peer();
        bench.feed(local, accepted(1));
        let effects =
            bench.feed(local, PeerInput::Hello { link: LinkHandle(1), hello: Box::new(hello) });
        let [(1, code)] = closed_with(&effects)[..] else { panic!("{effects:?}") };
        RefuseCode::from_close(code).expect("a refusal")
    };
    let later = Hello { version_min: VERSION_NEXT, version_max: VERSION_NEXT + 1, ..hello(1) };
    assert_eq!(refused(&local(), later), RefuseCode::Version);
    let former = Hello { version_min: 1, version_max: VERSION_MIN - 1, ..hello(1) };
    assert_eq!(refused(&local(), former), RefuseCode::Version);
    let demanding = Hello { critical_capabilities: vec![4], ..hello(1) };
    assert_eq!(refused(&local(), demanding), RefuseCode::Capability);
    let closed = LocalNode { admission: Admission::Listed(Default::default()), ..local() };
    assert_eq!(refused(&closed, hello(1)), RefuseCode::NotAllowed);
    let stopping = LocalNode { stopping: true, ..local() };
    assert_eq!(refused(&stopping, hello(1)), RefuseCode::ShuttingDown);
}

#[test]
fn a_peer_that_we_were_told_to_connect_to_is_let_in() {
    let closed = LocalNode { admission: Admission::Listed(Default::default()), ..local() };
    let mut bench = peer();
    bench.feed(&closed, keep());
    bench.feed(&closed, accepted(1));
    bench.feed(&closed, greets(1, 1));
    let effects = bench.feed(&closed, claims(1, its(1, 1)));
    assert!(effects.iter().any(|effect| matches!(effect, PeerEffect::SendConfirm { .. })));
}

#[test]
fn a_newer_life_ends_the_older_one_and_an_older_is_refused() {
    let mut bench = peer();
    bring_up(&mut bench, 1, 5);
    bench.feed(&local(), accepted(2));
    let effects = bench.feed(&local(), greets(2, 6));
    assert!(matches!(effects[..], [PeerEffect::SendHello { .. }]), "a Hello may be an old one");
    let effects = bench.feed(&local(), claims(2, its(2, 6)));
    let shown = effects.iter().find_map(|effect| match effect {
        PeerEffect::SendRefuse { link, life, .. } => Some((*link, life.incarnation.counter)),
        _ => None,
    });
    assert_eq!(shown, Some((LinkHandle(1), 6)), "the old life is shown the new one");
    assert!(bench.machine.is_refused(LinkHandle(1)));
    let ended = effects.iter().position(|e| matches!(e, PeerEffect::SessionEnded)).unwrap();
    let confirmed =
        effects.iter().position(|e| matches!(e, PeerEffect::SendConfirm { .. })).unwrap();
    assert!(ended < confirmed, "the old life is over before the new one begins");
    bench.feed(&local(), confirms(2, its(2, 6)));

    bench.feed(&local(), accepted(3));
    let effects = bench.feed(&local(), greets(3, 5));
    assert!(effects.iter().any(|effect| matches!(effect, PeerEffect::SendRefuse { .. })));
    assert!(bench.machine.is_refused(LinkHandle(3)));

    bench.feed(&local(), accepted(4));
    let life = life(Incarnation { counter: 6, boot: 1 });
    let double = Box::new(Hello { life, link: its(4, 6), ..hello(6) });
    let effects = bench.feed(&local(), PeerInput::Hello { link: LinkHandle(4), hello: double });
    assert_eq!(closed_with(&effects), [(4, RefuseCode::IdentityInUse.as_close())]);
}

#[test]
fn of_two_lives_that_greet_at_one_time_the_later_is_let_in() {
    for later_claims_first in [true, false] {
        let mut bench = peer();
        for (link, counter) in [(1, 5), (2, 6)] {
            bench.feed(&local(), accepted(link));
            bench.feed(&local(), greets(link, counter));
        }
        let order = if later_claims_first { [(2, 6), (1, 5)] } else { [(1, 5), (2, 6)] };
        for (link, counter) in order {
            bench.feed(&local(), claims(link, its(link, counter)));
        }
        assert_eq!(bench.machine.session().map(|life| life.counter), Some(6));
        assert!(!bench.machine.is_verified(LinkHandle(1)));
        assert!(bench.machine.is_verified(LinkHandle(2)));
    }
}

#[test]
fn a_second_link_keeps_the_peer_up_when_the_first_is_lost() {
    let mut bench = peer();
    bring_up(&mut bench, 1, 5);
    let effects = bring_up(&mut bench, 2, 5);
    assert!(matches!(effects[0], PeerEffect::LinkReady { first: false, .. }));
    let lost = |effects: &[PeerEffect], is_last: bool| {
        let lost =
            |e: &PeerEffect| matches!(e, PeerEffect::LinkLost { last, .. } if *last == is_last);
        effects.iter().any(lost)
    };
    let effects = bench.feed(&local(), down(1));
    assert!(lost(&effects, false));
    let effects = bench.feed(&local(), down(2));
    assert!(lost(&effects, true));
    assert!(bench.machine.session().is_some(), "its life may go on elsewhere");
}

#[test]
fn more_handshakes_than_allowed_are_closed_at_once() {
    let mut bench = peer();
    for link in 1..=3 {
        bench.feed(&local(), accepted(link));
    }
    let effects = bench.feed(&local(), accepted(4));
    assert_eq!(closed_with(&effects), [(4, CloseCode::TOO_MANY_LINKS)]);
}

#[test]
fn a_right_that_cannot_be_shown_on_a_further_link_is_shown_on_a_new_one() {
    let dials = |effects: &[PeerEffect]| {
        effects.iter().filter(|effect| matches!(effect, PeerEffect::Dial { .. })).count()
    };
    let dial = |number| LinkId { dialler: End::Here, counter: 1, number };
    // The dial leads nowhere, or the peer has too many links already.
    for refused in [false, true] {
        let mut bench = peer();
        bench.feed(&local(), keep());
        bench.machine.dial_started(DialHandle(1));
        bench.feed(&local(), dialled(1, 1));
        bench.feed(&local(), says_hello(1, dial(1)));
        bench.feed(&local(), claims(1, dial(1)));
        bench.feed(&local(), confirms(1, dial(1)));
        let effects = bench.feed(&local(), PeerInput::GreetAnew);
        assert_eq!((dials(&effects), closed_with(&effects)), (1, vec![]));
        bench.machine.dial_started(DialHandle(2));
        let effects = if refused {
            bench.feed(&local(), dialled(2, 2));
            let reason = DownReason::ClosedByPeer(CloseCode::TOO_MANY_LINKS);
            bench.feed(&local(), PeerInput::LinkDown { link: LinkHandle(2), reason })
        } else {
            let error = DialError::TimedOut;
            bench.feed(&local(), PeerInput::DialFailed { dial: DialHandle(2), error })
        };
        assert_eq!(closed_with(&effects), [(1, CloseCode::GREET_ANEW)]);
        assert_eq!(dials(&effects), 1);
        bench.machine.dial_started(DialHandle(3));
        bench.feed(&local(), dialled(3, 3));
        bench.feed(&local(), says_hello(3, dial(3)));
        bench.feed(&local(), claims(3, dial(3)));
        bench.feed(&local(), confirms(3, dial(3)));
        let effects = bench.feed(&local(), keep());
        assert_eq!((dials(&effects), closed_with(&effects)), (0, vec![]), "it knows");
    }
}

#[test]
fn a_right_that_changes_during_a_handshake_is_shown_too() {
    let mut bench = peer();
    bench.feed(&local(), keep());
    bench.machine.dial_started(DialHandle(1));
    bench.feed(&local(), dialled(1, 1));
    let effects = bench.feed(&local(), PeerInput::GreetAnew);
    assert!(effects.is_empty(), "what is claimed later is so then");
    let dial = LinkId { dialler: End::Here, counter: 1, number: 1 };
    bench.feed(&local(), says_hello(1, dial));
    let effects = bench.feed(&local(), PeerInput::GreetAnew);
    let dials = |effect: &PeerEffect| matches!(effect, PeerEffect::Dial { .. });
    assert!(effects.iter().any(dials), "what was claimed is no longer so");
}

#[test]
fn a_released_peer_is_let_go_of() {
    let mut bench = peer();
    bench.feed(&local(), keep());
    bench.machine.dial_started(DialHandle(1));
    bring_up(&mut bench, 1, 5);
    let effects = bench.feed(&local(), PeerInput::Release);
    assert!(matches!(effects[0], PeerEffect::CancelDial { dial: DialHandle(1) }));
    assert_eq!(closed_with(&effects), [(1, CloseCode::DISCONNECTED)]);
    assert!(matches!(effects.last(), Some(PeerEffect::SessionEnded)));
    assert!(bench.machine.is_idle());
    assert_eq!(bench.timers_armed(), 0, "it is not dialled again");
}

fn any_id() -> impl Strategy<Value = LinkId> {
    (any::<bool>(), 1u64..4, 1u64..5).prop_map(|(here, counter, number)| LinkId {
        dialler: if here { End::Here } else { End::There },
        counter,
        number,
    })
}

fn any_input() -> impl Strategy<Value = PeerInput> {
    let link = || (1u64..5).prop_map(LinkHandle);
    prop_oneof![
        Just(keep()),
        Just(PeerInput::Release),
        Just(PeerInput::GreetAnew),
        (link(), any::<bool>(), 1u64..4).prop_map(|(link, dialled, dial)| PeerInput::LinkUp {
            link,
            direction: if dialled {
                Direction::Dialled(DialHandle(dial))
            } else {
                Direction::Accepted
            },
        }),
        (1u64..5, 1u64..4).prop_map(|(link, counter)| greets(link, counter)),
        (1u64..5, any_id()).prop_map(|(link, id)| says_hello(link, id)),
        (1u64..5, any_id()).prop_map(|(link, id)| claims(link, id)),
        (1u64..5, any_id()).prop_map(|(link, id)| confirms(link, id)),
        (1u64..5).prop_map(down),
        link().prop_map(|link| PeerInput::Fault { link, what: "noise".into() }),
        (1u64..4).prop_map(|dial| PeerInput::DialFailed {
            dial: DialHandle(dial),
            error: DialError::TimedOut
        }),
    ]
}

proptest! {
    /// Whatever happens in whatever order: the invariants hold, links do not appear from nowhere, and
    /// a peer that is kept and missed is being dialled or will be.
    #[test]
    fn no_order_of_events_loses_a_peer(
        steps in proptest::collection::vec(prop_oneof![
            6 => any_input().prop_map(Some),
            1 => Just(None),
        ], 1..60),
    ) {
        let mut bench = peer();
        let mut next_dial = 0;
        let mut used = Vec::new();
        for step in steps {
            let input = match step {
                Some(PeerInput::LinkUp { link, .. }) if used.contains(&link) => continue,
                Some(input) => input,
                None => match bench.next_timer() {
                    Some(timer) => PeerInput::Timer(timer),
                    None => continue,
                },
            };
            if let PeerInput::LinkUp { link, .. } = &input {
                used.push(*link);
            }
            for effect in bench.feed(&local(), input) {
                if let PeerEffect::Dial { .. } = effect {
                    next_dial += 1;
                    bench.machine.dial_started(DialHandle(next_dial));
                }
            }
            if bench.machine.is_kept() && bench.machine.is_idle() {
                prop_assert!(bench.timers_armed() > 0, "it would never be dialled again");
            }
        }
    }
}
