//! One peer: links with names, one of several stays, lives that are told of another.

use proptest::prelude::*;

use super::drain::DRAIN_MOST;
use super::tests::{
    accepted, claims, closed_with, confirms, down, hello as hello_of, keep, life,
    local as node_of_any_rank,
};
use super::*;
use crate::base::Identity;
use crate::directory::Document;
use crate::link::Direction;
use crate::link::{End, LinkId};
use crate::machine::tests::Bench;

/// Two ids, the lower one first.
fn ids() -> [PeerId; 2] {
    let mut ids = [1, 2].map(|n| Identity::from_secret([n; 32]).id());
    ids.sort();
    ids
}

fn local(rank: Rank) -> LocalNode {
    let [lower, higher] = ids();
    let id = if rank == Rank::Higher { higher } else { lower };
    LocalNode { id, ..node_of_any_rank() }
}

fn peer(rank: Rank) -> Bench<Peer> {
    let [lower, higher] = ids();
    Bench::new(Peer::new(if rank == Rank::Higher { lower } else { higher }))
}

fn its(number: u64) -> LinkId {
    LinkId { dialler: End::There, counter: 5, number }
}

fn our(number: u64) -> LinkId {
    LinkId { dialler: End::Here, counter: 1, number }
}

fn hello(link: LinkId) -> Hello {
    Hello { link, ..hello_of(5) }
}

fn says(link: u64, hello: Hello) -> PeerInput {
    PeerInput::Hello { link: LinkHandle(link), hello: Box::new(hello) }
}

/// Its Hello and its Claims come.
fn shake(bench: &mut Bench<Peer>, local: &LocalNode, link: u64, hello: Hello) -> Vec<PeerEffect> {
    let id = hello.link;
    let mut effects = bench.feed(local, says(link, hello));
    effects.extend(bench.feed(local, claims(link, id)));
    effects
}

/// A link by this dial of somebody's, numbered as the dial or, if the peer's, as 100 and that.
fn bring_up(bench: &mut Bench<Peer>, local: &LocalNode, id: LinkId) -> Vec<PeerEffect> {
    let link = handle(id).0;
    let up = match id.dialler {
        End::Here => PeerInput::LinkUp {
            link: LinkHandle(link),
            direction: Direction::Dialled(DialHandle(id.number)),
        },
        End::There => accepted(link),
    };
    bench.feed(local, up);
    shake(bench, local, link, hello(id));
    bench.feed(local, confirms(link, id))
}

fn handle(id: LinkId) -> LinkHandle {
    LinkHandle(if id.dialler == End::Here { id.number } else { 100 + id.number })
}

fn superseded(effects: &[PeerEffect]) -> Vec<(LinkHandle, LinkId)> {
    let said = |effect: &PeerEffect| match effect {
        PeerEffect::SendSupersede { on, loser_id, .. } => Some((*on, *loser_id)),
        _ => None,
    };
    effects.iter().filter_map(said).collect()
}

fn lost(effects: &[PeerEffect]) -> Vec<(bool, bool)> {
    let lost = |effect: &PeerEffect| match effect {
        PeerEffect::LinkLost { last, drained, .. } => Some((*last, *drained)),
        _ => None,
    };
    effects.iter().filter_map(lost).collect()
}

#[test]
fn what_was_said_on_another_link_says_nothing_on_this_one() {
    let local = local(Rank::Lower);
    let fault = [(1, CloseCode::PROTOCOL_FAULT)];
    let dialled =
        || PeerInput::LinkUp { link: LinkHandle(1), direction: Direction::Dialled(DialHandle(1)) };
    let mut bench = peer(Rank::Lower);
    bench.feed(&local, dialled());
    let effects = shake(&mut bench, &local, 1, hello(our(7)));
    assert_eq!(closed_with(&effects), fault, "a Hello of another dial");

    let mut bench = peer(Rank::Lower);
    bench.feed(&local, dialled());
    shake(&mut bench, &local, 1, hello(our(1)));
    assert_eq!(closed_with(&bench.feed(&local, confirms(1, our(7)))), fault);

    let mut bench = peer(Rank::Lower);
    bench.feed(&local, dialled());
    bench.feed(&local, says(1, hello(our(1))));
    assert_eq!(closed_with(&bench.feed(&local, claims(1, our(7)))), fault);

    let mut bench = peer(Rank::Lower);
    bench.feed(&local, accepted(1));
    assert_eq!(closed_with(&shake(&mut bench, &local, 1, hello(our(1)))), fault, "its own dial");
}

#[test]
fn what_was_said_to_an_earlier_life_says_nothing_to_this_one() {
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    bench.feed(&local, accepted(101));
    shake(&mut bench, &local, 101, hello(its(1)));
    let (link, id, receiver_boot) = (LinkHandle(101), its(1), local.incarnation.boot + 1);
    let (version, directory) = (crate::wire::VERSION_MAX, Document::default());
    let old = PeerInput::Confirm { link, version, directory, id, receiver_boot };
    assert_eq!(closed_with(&bench.feed(&local, old)), [(101, CloseCode::PROTOCOL_FAULT)]);

    let mut bench = peer(Rank::Lower);
    bench.feed(&local, accepted(101));
    bench.feed(&local, says(101, hello(its(1))));
    let old = PeerInput::Claims { link, id, receiver_boot };
    assert_eq!(closed_with(&bench.feed(&local, old)), [(101, CloseCode::PROTOCOL_FAULT)]);
}

#[test]
fn a_handshake_of_a_link_that_is_over_is_refused() {
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    bring_up(&mut bench, &local, its(1));
    let spent = RefuseCode::SpentLink.as_close();
    bench.feed(&local, accepted(7));
    assert_eq!(closed_with(&shake(&mut bench, &local, 7, hello(its(1)))), [(7, spent)]);
    assert!(bench.machine.is_up(), "the link of that name is not touched");
    bench.feed(&local, down(101));
    bench.feed(&local, accepted(8));
    assert_eq!(closed_with(&shake(&mut bench, &local, 8, hello(its(1)))), [(8, spent)]);
}

#[test]
fn the_higher_id_keeps_its_own_dial_and_says_so_on_it() {
    let local = local(Rank::Higher);
    let mut bench = peer(Rank::Higher);
    assert!(superseded(&bring_up(&mut bench, &local, its(1))).is_empty());
    let effects = bring_up(&mut bench, &local, our(1));
    assert_eq!(superseded(&effects), [(handle(our(1)), its(1))]);
    assert!(closed_with(&effects).is_empty(), "it is drained first");
    assert_eq!(bench.machine.sending_link(), Some(handle(our(1))));
    let effects = bench.feed(&local, PeerInput::AllReceived(handle(its(1))));
    assert_eq!(closed_with(&effects), [(101, CloseCode::SUPERSEDED)]);
    assert_eq!(lost(&effects), [(false, true)], "no peer's death, and nothing in doubt");
    assert_eq!(bench.timers_armed(), 0, "no back-off");
}

#[test]
fn the_lower_id_waits_for_the_word_and_never_closes() {
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    bring_up(&mut bench, &local, our(1));
    assert!(superseded(&bring_up(&mut bench, &local, its(1))).is_empty());
    assert_eq!(bench.machine.sending_link(), Some(handle(our(1))), "until it is told");
    let word = PeerInput::Supersede { link: handle(its(1)), loser: our(1) };
    let effects = bench.feed(&local, word);
    assert!(matches!(effects[0], PeerEffect::Move { .. }), "{effects:?}");
    assert_eq!(bench.machine.sending_link(), Some(handle(its(1))));
    let effects = bench.feed(&local, PeerInput::AllReceived(handle(our(1))));
    assert!(matches!(effects[..], [PeerEffect::SendDrained { .. }]), "{effects:?}");
    let reason = DownReason::ClosedByPeer(CloseCode::SUPERSEDED);
    let effects = bench.feed(&local, PeerInput::LinkDown { link: handle(our(1)), reason });
    assert_eq!(lost(&effects), [(false, true)]);
}

#[test]
fn the_lower_ids_word_is_a_fault() {
    let local = local(Rank::Higher);
    let mut bench = peer(Rank::Higher);
    bring_up(&mut bench, &local, our(1));
    let word = PeerInput::Supersede { link: handle(our(1)), loser: its(1) };
    assert_eq!(closed_with(&bench.feed(&local, word)), [(1, CloseCode::PROTOCOL_FAULT)]);
}

#[test]
fn within_a_direction_the_latest_dial_stays() {
    let local = local(Rank::Higher);
    let mut bench = peer(Rank::Higher);
    bring_up(&mut bench, &local, its(2));
    let effects = bring_up(&mut bench, &local, its(1));
    assert_eq!(superseded(&effects), [(handle(its(2)), its(1))]);
    let effects = bring_up(&mut bench, &local, its(3));
    assert_eq!(
        superseded(&effects),
        [(handle(its(3)), its(2))],
        "the first one is drained already"
    );
}

#[test]
fn a_link_that_is_not_confirmed_displaces_nothing() {
    let local = local(Rank::Higher);
    let mut bench = peer(Rank::Higher);
    bring_up(&mut bench, &local, its(1));
    let direction = Direction::Dialled(DialHandle(1));
    bench.feed(&local, PeerInput::LinkUp { link: LinkHandle(1), direction });
    let effects = shake(&mut bench, &local, 1, hello(our(1)));
    assert!(superseded(&effects).is_empty() && closed_with(&effects).is_empty());
    assert_eq!(bench.machine.sending_link(), Some(handle(its(1))));
}

#[test]
fn when_the_link_that_stays_dies_first_the_other_is_used_again() {
    for rank in [Rank::Higher, Rank::Lower] {
        let local = local(rank);
        let mut bench = peer(rank);
        let (stays, loser) = if rank == Rank::Higher { (our(1), its(1)) } else { (its(1), our(1)) };
        bring_up(&mut bench, &local, loser);
        bring_up(&mut bench, &local, stays);
        if rank == Rank::Lower {
            bench.feed(&local, PeerInput::Supersede { link: handle(stays), loser });
        }
        assert!(bench.machine.is_draining(handle(loser)));
        let effects = bench.feed(&local, down(handle(stays).0));
        assert!(matches!(effects[0], PeerEffect::Undrained(link) if link == handle(loser)));
        assert_eq!(lost(&effects), [(false, false)], "what was on it is in doubt");
        assert_eq!(bench.machine.sending_link(), Some(handle(loser)));
        assert_eq!(bench.timers_armed(), 0);
    }
}

#[test]
fn what_takes_long_on_a_drained_link_is_sent_again_and_the_link_stays() {
    let local = local(Rank::Higher);
    let mut bench = peer(Rank::Higher);
    bring_up(&mut bench, &local, its(1));
    bring_up(&mut bench, &local, our(1));
    let timer = bench.next_timer().expect("draining is watched");
    let effects = bench.feed(&local, PeerInput::Timer(timer));
    assert!(matches!(effects[..], [PeerEffect::SendAgain]));
    assert!(bench.machine.is_draining(handle(its(1))));
}

#[test]
fn a_drain_that_never_ends_is_ended_by_whoever_decides_and_else_by_the_other() {
    for (rank, stays, loser, ends_after) in
        [(Rank::Higher, our(1), its(1), 30), (Rank::Lower, its(1), our(1), 60)]
    {
        let local = local(rank);
        let mut bench = peer(rank);
        bring_up(&mut bench, &local, loser);
        bring_up(&mut bench, &local, stays);
        if rank == Rank::Lower {
            let supersede = PeerInput::Supersede { link: handle(stays), loser };
            bench.feed(&local, supersede);
        }
        assert!(bench.machine.is_draining(handle(loser)));
        assert_eq!(bench.next_timer(), Some(PeerTimer::Drain(handle(loser))));
        let so_far = DRAIN_MOST.as_secs_f64();
        let left = bench.next_timer_in().expect("it ends").as_secs_f64();
        let ends_after = f64::from(ends_after);
        assert!(ends_after - left <= so_far && left <= ends_after, "{left}");
        let timer = bench.next_timer().unwrap();
        let effects = bench.feed(&local, PeerInput::Timer(timer));
        assert_eq!(closed_with(&effects), [(handle(loser).0, CloseCode::DRAIN_FAILED)]);
        assert_eq!(lost(&effects), [(false, false)], "no death, and what was on it is in doubt");
        assert_eq!(bench.machine.sending_link(), Some(handle(stays)));
        assert_eq!(bench.timers_armed(), 0);
    }
}

#[test]
fn what_was_superseded_by_a_link_that_is_gone_is_so_no_more() {
    // Found by exploration. Before the Confirm of our second dial comes the word that the peer's dial supersedes
    // it, and before that Confirm too the peer has given up its own dial.
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    bring_up(&mut bench, &local, its(1));
    for number in [1, 2] {
        let direction = Direction::Dialled(DialHandle(number));
        bench.feed(&local, PeerInput::LinkUp { link: LinkHandle(number), direction });
    }
    shake(&mut bench, &local, 2, hello(our(2)));
    bench.feed(&local, PeerInput::Supersede { link: handle(its(1)), loser: our(2) });
    shake(&mut bench, &local, 1, Hello { abandons: vec![its(1)], ..hello(our(1)) });
    bench.feed(&local, confirms(1, our(1)));
    assert_eq!(bench.machine.sending_link(), Some(handle(our(1))));
    bench.feed(&local, confirms(2, our(2)));
    assert!(!bench.machine.is_draining(handle(our(2))));
    bench.feed(&local, PeerInput::Supersede { link: handle(our(2)), loser: our(1) });
    assert_eq!(bench.machine.sending_link(), Some(handle(our(2))));
    assert!(bench.machine.is_draining(handle(our(1))));
}

#[test]
fn the_word_that_a_link_is_superseded_outlives_the_one_that_is_used() {
    // Found by exploration. Our second dial is drained for the peer's, and supersedes our first. That one's Confirm
    // says that the peer's own dial is over.
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    bring_up(&mut bench, &local, our(2));
    bring_up(&mut bench, &local, its(1));
    bench.feed(&local, PeerInput::Supersede { link: handle(its(1)), loser: our(2) });
    let direction = Direction::Dialled(DialHandle(1));
    bench.feed(&local, PeerInput::LinkUp { link: LinkHandle(1), direction });
    shake(&mut bench, &local, 1, Hello { abandons: vec![its(1)], ..hello(our(1)) });
    bench.feed(&local, PeerInput::Supersede { link: handle(our(2)), loser: our(1) });
    bench.feed(&local, confirms(1, our(1)));
    assert_eq!(bench.machine.sending_link(), Some(handle(our(2))));
    assert!(bench.machine.is_draining(handle(our(1))));
}

#[test]
fn an_old_word_that_comes_late_on_a_dying_link_does_not_undo_the_new_one() {
    // Found by exploration. The peer has superseded our first dial by its own dial, lost that, and said it again on
    // our second. The old word comes last, and then the link on which it came dies here too.
    let local = local(Rank::Lower);
    for confirmed_before in [false, true] {
        let mut bench = peer(Rank::Lower);
        bring_up(&mut bench, &local, its(1));
        bring_up(&mut bench, &local, our(2));
        let direction = Direction::Dialled(DialHandle(1));
        bench.feed(&local, PeerInput::LinkUp { link: LinkHandle(1), direction });
        shake(&mut bench, &local, 1, hello(our(1)));
        if confirmed_before {
            bench.feed(&local, confirms(1, our(1)));
        }
        for stays in [our(2), its(1)] {
            bench.feed(&local, PeerInput::Supersede { link: handle(stays), loser: our(1) });
        }
        if confirmed_before {
            let effects = bench.feed(&local, PeerInput::AllReceived(handle(our(1))));
            let said_on = |effect: &PeerEffect| match effect {
                PeerEffect::SendDrained { on, .. } => Some(*on),
                _ => None,
            };
            let said: Vec<_> = effects.iter().filter_map(said_on).collect();
            assert_eq!(said, [handle(our(2)), handle(its(1))], "which is the last is not known");
        }
        bench.feed(&local, down(101));
        if !confirmed_before {
            bench.feed(&local, confirms(1, our(1)));
        }
        assert!(bench.machine.is_draining(handle(our(1))), "{confirmed_before}");
        assert_eq!(bench.machine.sending_link(), Some(handle(our(2))));
    }
}

#[test]
fn a_link_that_is_abandoned_goes_once_the_new_one_is_confirmed() {
    let local = local(Rank::Higher);
    let mut bench = peer(Rank::Higher);
    // By the rule this one would stay.
    bring_up(&mut bench, &local, our(1));
    bench.feed(&local, accepted(101));
    let redial = Hello { abandons: vec![our(1), its(9)], ..hello(its(1)) };
    let effects = shake(&mut bench, &local, 101, redial);
    assert!(closed_with(&effects).is_empty(), "not before it is confirmed");
    let effects = bench.feed(&local, confirms(101, its(1)));
    assert_eq!(closed_with(&effects), [(1, CloseCode::ABANDONED)]);
    assert_eq!(lost(&effects), [(false, false)]);
    assert_eq!(bench.machine.sending_link(), Some(handle(its(1))));
    bench.feed(&local, accepted(109));
    let late = shake(&mut bench, &local, 109, hello(its(9)));
    assert_eq!(closed_with(&late), [(109, RefuseCode::SpentLink.as_close())]);
}

#[test]
fn a_redial_is_not_shut_out_by_the_links_that_it_replaces() {
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    for number in 1..=3 {
        bring_up(&mut bench, &local, its(number));
    }
    bench.feed(&local, accepted(104));
    let redial = Hello { abandons: vec![its(1), its(2), its(3)], ..hello(its(4)) };
    shake(&mut bench, &local, 104, redial);
    let effects = bench.feed(&local, confirms(104, its(4)));
    assert_eq!(closed_with(&effects).len(), 3);
    assert_eq!(bench.machine.links().collect::<Vec<_>>(), [LinkHandle(104)]);
}

#[test]
fn lost_links_are_abandoned_in_the_next_hello() {
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    bring_up(&mut bench, &local, our(1));
    bench.feed(&local, down(1));
    let direction = Direction::Dialled(DialHandle(2));
    let effects = bench.feed(&local, PeerInput::LinkUp { link: LinkHandle(2), direction });
    let [PeerEffect::SendHello { abandons, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(abandons, &[our(1)]);
}

#[test]
fn a_stale_life_is_told_how_far_it_is_behind() {
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    bring_up(&mut bench, &local, its(1));
    let old = |counter, boot| Hello {
        life: life(Incarnation { counter, boot }),
        link: LinkId { counter, ..its(2) },
        ..hello(its(2))
    };
    bench.feed(&local, accepted(102));
    let effects = shake(&mut bench, &local, 102, old(4, 1));
    assert!(
        effects.iter().any(
            |e| matches!(e, PeerEffect::SendRefuse { life, .. } if life.incarnation.counter == 5)
        ),
        "{effects:?}"
    );
    bench.feed(&local, accepted(103));
    let doubled = shake(&mut bench, &local, 103, old(5, 1));
    assert_eq!(closed_with(&doubled), [(103, RefuseCode::IdentityInUse.as_close())]);
    bench.feed(&local, down(101));
    bench.feed(&local, accepted(104));
    let effects = shake(&mut bench, &local, 104, old(5, 1));
    assert!(
        effects.iter().any(
            |e| matches!(e, PeerEffect::SendRefuse { life, .. } if life.incarnation.counter == 5)
        ),
        "nobody of that life is here: it lost its disk"
    );
}

#[test]
fn who_is_told_of_a_later_life_begins_the_next_or_stops() {
    let local = local(Rank::Lower);
    let refuse = |link| PeerInput::Refuse {
        link: LinkHandle(link),
        code: RefuseCode::StaleIncarnation as u32,
        proved: Some(Incarnation { counter: 9, boot: 9 }),
    };
    let mut bench = peer(Rank::Lower);
    let direction = Direction::Dialled(DialHandle(1));
    bench.feed(&local, PeerInput::LinkUp { link: LinkHandle(1), direction });
    let effects = bench.feed(&local, refuse(1));
    assert!(matches!(effects.last(), Some(PeerEffect::LifeIsStale { known_counter: 9 })));

    let mut bench = peer(Rank::Lower);
    bring_up(&mut bench, &local, our(1));
    bench.feed(&local, down(1));
    let direction = Direction::Dialled(DialHandle(2));
    bench.feed(&local, PeerInput::LinkUp { link: LinkHandle(2), direction });
    let effects = bench.feed(&local, refuse(2));
    assert!(matches!(effects.last(), Some(PeerEffect::NewerSelf)), "it met this life");
    bring_up(&mut bench, &local, our(3));
    let effects = bench.feed(&local, refuse(3));
    assert!(matches!(effects.last(), Some(PeerEffect::NewerSelf)), "a link that is up may end so");
}

#[test]
fn a_later_life_that_is_not_proved_ends_a_link_and_nothing_else() {
    let local = local(Rank::Lower);
    let is_believed = |effects: &[PeerEffect]| {
        let ends =
            |e: &PeerEffect| matches!(e, PeerEffect::NewerSelf | PeerEffect::LifeIsStale { .. });
        effects.iter().any(ends)
    };
    let own = local.incarnation;
    let earlier = Incarnation { counter: own.counter - 1, boot: 3 };
    for (n, proved) in [None, Some(own), Some(earlier)].into_iter().enumerate() {
        for met in [false, true] {
            let mut bench = peer(Rank::Lower);
            if met {
                bring_up(&mut bench, &local, our(1));
            }
            let link = 2 + n as u64;
            let direction = Direction::Dialled(DialHandle(link));
            bench.feed(&local, PeerInput::LinkUp { link: LinkHandle(link), direction });
            let code = RefuseCode::StaleIncarnation as u32;
            let refuse = PeerInput::Refuse { link: LinkHandle(link), code, proved };
            let effects = bench.feed(&local, refuse);
            assert!(!is_believed(&effects), "{proved:?} {effects:?}");
            assert_eq!(closed_with(&effects).len(), 1);
            if met {
                let refuse = PeerInput::Refuse { link: LinkHandle(1), code, proved };
                let effects = bench.feed(&local, refuse);
                assert_eq!(closed_with(&effects), [(1, CloseCode::PROTOCOL_FAULT)]);
                assert!(!is_believed(&effects));
            }
        }
    }
    let mut bench = peer(Rank::Lower);
    bring_up(&mut bench, &local, our(1));
    let reason = DownReason::ClosedByPeer(CloseCode::OLD_INCARNATION);
    let effects = bench.feed(&local, PeerInput::LinkDown { link: LinkHandle(1), reason });
    assert!(!is_believed(&effects), "a code proves nothing");
}

/// The peer's Hello on its first dial of another life of its.
fn hello_of_life(counter: u64) -> Hello {
    let link = LinkId { counter, ..its(1) };
    Hello { link, ..hello_of(counter) }
}

fn is_told_stale(effects: &[PeerEffect]) -> bool {
    effects.iter().any(|e| matches!(e, PeerEffect::SendRefuse { .. }))
}

fn is_confirmed(effects: &[PeerEffect]) -> bool {
    effects.iter().any(|e| matches!(e, PeerEffect::SendConfirm { .. }))
}

#[test]
fn a_replayed_hello_of_a_later_life_makes_no_node_stop() {
    // The peer's real life is 5, and it has met us. An old Hello of its life 9, of before it lost its disk, comes
    // while no link is up, and nothing follows it.
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    bring_up(&mut bench, &local, its(1));
    bench.feed(&local, down(101));
    bench.feed(&local, accepted(109));
    bench.feed(&local, says(109, hello_of_life(9)));
    bench.feed(&local, accepted(103));
    let effects = shake(&mut bench, &local, 103, hello(its(3)));
    assert!(!is_told_stale(&effects), "a Hello alone proves no life: {effects:?}");
    assert!(is_confirmed(&effects), "{effects:?}");
    bench.feed(&local, confirms(103, its(3)));
    assert_eq!(bench.machine.session().map(|life| life.counter), Some(5));
}

#[test]
fn a_link_that_awaits_its_confirm_outlives_a_replayed_hello() {
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    bench.feed(&local, accepted(101));
    shake(&mut bench, &local, 101, hello(its(1)));
    bench.feed(&local, accepted(109));
    let effects = bench.feed(&local, says(109, hello_of_life(9)));
    assert_eq!(closed_with(&effects), [], "at its end it may be up");
    let effects = bench.feed(&local, confirms(101, its(1)));
    assert!(matches!(effects[..], [PeerEffect::LinkReady { .. }]), "{effects:?}");
}

#[test]
fn of_two_newer_lives_the_later_one_stays_in_whatever_order_they_claim() {
    let local = local(Rank::Lower);
    for later_first in [false, true] {
        let mut bench = peer(Rank::Lower);
        bring_up(&mut bench, &local, its(1));
        for life in [6, 7] {
            bench.feed(&local, accepted(100 + life));
            bench.feed(&local, says(100 + life, hello_of_life(life)));
        }
        let order = if later_first { [7, 6] } else { [6, 7] };
        for life in order {
            let id = LinkId { counter: life, ..its(1) };
            bench.feed(&local, claims(100 + life, id));
            bench.feed(&local, confirms(100 + life, id));
        }
        assert_eq!(bench.machine.session().map(|life| life.counter), Some(7), "{order:?}");
        assert_eq!(bench.machine.sending_link(), Some(LinkHandle(107)));
    }
}

#[test]
fn where_the_peer_is_said_to_be_elsewhere_it_is_dialled_there_too() {
    let local = local(Rank::Lower);
    let mut bench = peer(Rank::Lower);
    bench.feed(&local, keep());
    bench.machine.dial_started(DialHandle(1));
    let there = || PeerInput::Keep { addresses: vec!["10.0.0.9:1".parse().unwrap()] };
    let effects = bench.feed(&local, there());
    assert!(matches!(effects[..], [PeerEffect::Dial { .. }]), "the first goes on: {effects:?}");
    bench.machine.dial_started(DialHandle(2));
    assert!(bench.feed(&local, there()).is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Feed(PeerInput),
    /// A whole handshake.
    BringUp(LinkId),
    NextTimer,
}

fn any_id() -> impl Strategy<Value = LinkId> {
    (any::<bool>(), 1u64..6).prop_map(|(here, number)| if here { our(number) } else { its(number) })
}

fn any_step() -> impl Strategy<Value = Step> {
    let link = || any_id().prop_map(handle);
    let codes = prop_oneof![
        Just(DownReason::TimedOut),
        Just(DownReason::ClosedByPeer(CloseCode::SUPERSEDED)),
        Just(DownReason::ClosedByPeer(CloseCode::ABANDONED)),
    ];
    prop_oneof![
        8 => any_id().prop_map(Step::BringUp),
        4 => (link(), codes)
            .prop_map(|(link, reason)| Step::Feed(PeerInput::LinkDown { link, reason })),
        4 => (link(), any_id())
            .prop_map(|(link, loser)| Step::Feed(PeerInput::Supersede { link, loser })),
        4 => link().prop_map(|link| Step::Feed(PeerInput::AllReceived(link))),
        1 => link().prop_map(|link| Step::Feed(PeerInput::DrainFailed(link))),
        2 => (any_id(), proptest::collection::vec(any_id(), 0..3)).prop_map(|(id, abandons)| {
            Step::Feed(says(handle(id).0, Hello { abandons, ..hello(id) }))
        }),
        2 => any_id().prop_map(|id| Step::Feed(claims(handle(id).0, id))),
        2 => any_id().prop_map(|id| Step::Feed(confirms(handle(id).0, id))),
        2 => link().prop_map(|link| Step::Feed(accepted(link.0))),
        1 => Just(Step::Feed(keep())),
        1 => Just(Step::Feed(PeerInput::Release)),
        1 => Just(Step::Feed(PeerInput::NewLife)),
        2 => Just(Step::NextTimer),
    ]
}

proptest! {
    /// Whatever a peer does: the invariants hold after each step, one link is used while any is up, and the
    /// lower id closes nothing as superseded.
    #[test]
    fn no_order_of_events_leaves_a_peer_without_the_link_that_is_up(
        higher in any::<bool>(),
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let rank = if higher { Rank::Higher } else { Rank::Lower };
        let local = local(rank);
        let mut bench = peer(rank);
        let mut used: Vec<LinkHandle> = Vec::new();
        for step in steps {
            let effects = match step {
                Step::Feed(PeerInput::LinkUp { link, .. }) if used.contains(&link) => continue,
                Step::BringUp(id) if used.contains(&handle(id)) => continue,
                Step::Feed(input) => {
                    if let PeerInput::LinkUp { link, .. } = &input {
                        used.push(*link);
                    }
                    bench.feed(&local, input)
                }
                Step::BringUp(id) => {
                    used.push(handle(id));
                    bring_up(&mut bench, &local, id)
                }
                Step::NextTimer => match bench.next_timer() {
                    Some(timer) => bench.feed(&local, PeerInput::Timer(timer)),
                    None => continue,
                },
            };
            for effect in &effects {
                if let PeerEffect::Dial { .. } = effect {
                    bench.machine.dial_started(DialHandle(1_000));
                }
            }
            let closed = closed_with(&effects);
            prop_assert!(higher || closed.iter().all(|(_, code)| *code != CloseCode::SUPERSEDED));
            prop_assert_eq!(bench.machine.is_up(), bench.machine.sending_link().is_some());
        }
    }
}
