//! The proposer alone, word by word.

use std::time::Duration;

use super::*;
use crate::base::MonoTime;
use crate::machine::tests::Bench;

const FREE: Peeked = Peeked { round: 0, holder: None, runs_for: Duration::ZERO };

fn hear(bench: &mut Bench<Proposer>, from: usize, answered: Answered) -> Vec<ProposerEffect> {
    let answer = Answer { epoch: 7, name: name(), answered };
    bench.feed((), ProposerInput::Answer { from: acceptor_id(from), answer })
}

/// What is asked, and of how many.
fn asked(effects: &[ProposerEffect]) -> Vec<(Ask, usize)> {
    let mut asked: Vec<(Ask, usize)> = Vec::new();
    for effect in effects {
        let ProposerEffect::Ask { request, .. } = effect else { continue };
        match asked.iter_mut().find(|(ask, _)| *ask == request.ask) {
            Some((_, count)) => *count += 1,
            None => asked.push((request.ask, 1)),
        }
    }
    asked
}

fn wanting() -> Bench<Proposer> {
    let mut bench = Bench::new(Proposer::new(ballot(1, 1).proposer, config(3)));
    let effects = bench.feed((), ProposerInput::Want(name()));
    assert_eq!(asked(&effects), [(Ask::Peek, 3)], "it looks first");
    bench
}

/// One that proposes round 1.
fn proposing() -> Bench<Proposer> {
    let mut bench = wanting();
    assert_eq!(hear(&mut bench, 0, Answered::Peeked(FREE)), [], "one is no majority");
    let effects = hear(&mut bench, 1, Answered::Peeked(FREE));
    assert_eq!(asked(&effects), [(Ask::Prepare(ballot(1, 1)), 3)]);
    for _ in 0..3 {
        assert_eq!(hear(&mut bench, 0, Answered::Promise(ballot(1, 1))), [], "it counts once");
    }
    let effects = hear(&mut bench, 2, Answered::Promise(ballot(1, 1)));
    assert_eq!(asked(&effects), [(Ask::Propose(ballot(1, 1), 0), 3)]);
    bench
}

/// One that holds with token 1.
fn holding() -> Bench<Proposer> {
    let mut bench = proposing();
    hear(&mut bench, 0, Answered::Accepted(ballot(1, 1), 0));
    let until = bench.now + LeaseTimes::default().hold();
    let token = Token { epoch: 7, round: 1 };
    let granted = ProposerEffect::Granted { name: name(), token, until };
    assert_eq!(hear(&mut bench, 1, Answered::Accepted(ballot(1, 1), 0)), [granted]);
    bench
}

/// Goes to a time, and lets all timers come until then.
fn go(bench: &mut Bench<Proposer>, until: MonoTime) -> Vec<ProposerEffect> {
    let mut effects = Vec::new();
    while let Some(timer) = bench.next_timer_until(until) {
        effects.extend(bench.feed((), ProposerInput::Timer(timer)));
    }
    bench.now = until;
    effects
}

fn token(bench: &Bench<Proposer>) -> Option<u64> {
    bench.machine.token(&name(), bench.now).map(|token| token.round)
}

#[test]
fn it_holds_from_before_it_proposed_however_late_it_is_accepted() {
    let mut bench = proposing();
    let proposed = bench.now;
    let late = proposed + Duration::from_millis(900);
    let again = go(&mut bench, late);
    assert_eq!(asked(&again)[0].0, Ask::Propose(ballot(1, 1), 0), "it asks again");
    hear(&mut bench, 0, Answered::Accepted(ballot(1, 1), 0));
    hear(&mut bench, 0, Answered::Accepted(ballot(1, 1), 0));
    assert_eq!(token(&bench), None, "an acceptor counts once");
    hear(&mut bench, 1, Answered::Accepted(ballot(1, 1), 0));
    assert_eq!(token(&bench), Some(1));
    let hold = LeaseTimes::default().hold();
    let just = Duration::from_nanos(1);
    assert!(bench.machine.token(&name(), proposed + (hold - just)).is_some());
    assert_eq!(bench.machine.token(&name(), proposed + hold), None);
}

#[test]
fn a_renewal_counts_its_own_answers_from_when_it_was_first_sent() {
    let mut bench = holding();
    let begun = bench.now;
    let third = LeaseTimes::default().renew_interval();
    let effects = go(&mut bench, begun + third);
    assert_eq!(*asked(&effects).last().unwrap(), (Ask::Propose(ballot(1, 1), 1), 3));
    hear(&mut bench, 0, Answered::Accepted(ballot(1, 1), 1));
    // Another begins, and the answers to the one before come late.
    go(&mut bench, begun + third * 2);
    hear(&mut bench, 0, Answered::Accepted(ballot(1, 1), 2));
    hear(&mut bench, 1, Answered::Accepted(ballot(1, 1), 1));
    hear(&mut bench, 2, Answered::Accepted(ballot(1, 1), 1));
    let hold = LeaseTimes::default().hold();
    assert_eq!(bench.machine.token(&name(), begun + hold), None, "nothing has renewed it");
    // It is sent again, and answered: that extends it from when it was sent first.
    let effects = go(&mut bench, begun + third * 2 + third / 3);
    assert_eq!(
        asked(&effects),
        [(Ask::Propose(ballot(1, 1), 2), 2)],
        "who has answered is not asked"
    );
    hear(&mut bench, 2, Answered::Accepted(ballot(1, 1), 2));
    let end = begun + third * 2 + hold;
    assert!(bench.machine.token(&name(), begun + third * 2 + (hold - third / 3)).is_some());
    assert_eq!(bench.machine.token(&name(), end), None);
}

#[test]
fn whoever_wakes_too_late_holds_nothing_whatever_comes_first() {
    let mut bench = holding();
    bench.now = bench.now + Duration::from_secs(60);
    assert_eq!(token(&bench), None);
    let effects = hear(&mut bench, 2, Answered::Accepted(ballot(1, 1), 0));
    let lost = ProposerEffect::Lost { name: name(), token: Token { epoch: 7, round: 1 } };
    assert_eq!(effects[0], lost);
    assert_eq!(asked(&effects), [(Ask::Release(ballot(1, 1)), 3)]);
}

#[test]
fn no_ballot_is_used_twice_in_a_life() {
    let mut bench = holding();
    let effects = bench.feed((), ProposerInput::Leave(name()));
    assert_eq!(asked(&effects), [(Ask::Release(ballot(1, 1)), 3)]);
    assert_eq!((token(&bench), bench.timers_armed()), (None, 0));
    bench.feed((), ProposerInput::Want(name()));
    hear(&mut bench, 0, Answered::Peeked(FREE));
    let effects = hear(&mut bench, 1, Answered::Peeked(FREE));
    assert_eq!(asked(&effects), [(Ask::Prepare(ballot(2, 1)), 3)]);
}

#[test]
fn while_another_holds_it_looks_again_shortly_before_the_end_and_prepares_when_that_is_near() {
    let mut bench = wanting();
    let holder = ballot(4, 2).proposer;
    let held = |runs_for| {
        let (round, holder) = (4, Some(holder));
        Answered::Peeked(Peeked { round, holder, runs_for: Duration::from_millis(runs_for) })
    };
    let effects = hear(&mut bench, 0, held(1_900));
    assert_eq!(effects, [ProposerEffect::HeldBy { name: name(), holder }]);
    assert_eq!(hear(&mut bench, 1, held(1_900)), []);
    let wait = bench.next_timer_in().unwrap();
    assert!((1_150..=1_400).contains(&wait.as_millis()), "{wait:?}");
    let timer = bench.next_timer().unwrap();
    let effects = bench.feed((), ProposerInput::Timer(timer));
    assert_eq!(asked(&effects), [(Ask::Peek, 3)], "to look has no consequences");
    // One acceptor is free, but that is no majority.
    hear(&mut bench, 0, Answered::Peeked(FREE));
    let effects = hear(&mut bench, 1, held(1_300));
    assert_eq!(asked(&effects), []);
    let timer = bench.next_timer().unwrap();
    bench.feed((), ProposerInput::Timer(timer));
    hear(&mut bench, 0, held(300));
    let effects = hear(&mut bench, 1, held(300));
    assert_eq!(asked(&effects), [(Ask::Prepare(ballot(5, 1)), 3)], "the holder has not renewed");
    // The round's time counts anew, once, when it is answered for which the lease had to end.
    let begun = bench.now;
    let parked = |bench: &mut Bench<Proposer>, from| {
        let runs_for = Duration::from_millis(300);
        let stands = Peeked { round: 4, holder: Some(holder), runs_for };
        hear(bench, from, Answered::Refused { ballot: ballot(5, 1), parked: true, stands })
    };
    parked(&mut bench, 0);
    parked(&mut bench, 1);
    go(&mut bench, begun + Duration::from_millis(900));
    hear(&mut bench, 0, Answered::Promise(ballot(5, 1)));
    go(&mut bench, begun + Duration::from_millis(1_890));
    assert_eq!(bench.machine.prepared(&name()), Some(ballot(5, 1)));
    go(&mut bench, begun + Duration::from_millis(1_910));
    assert_eq!(bench.machine.prepared(&name()), None);
}

#[test]
fn who_is_told_that_others_come_first_looks_when_its_turn_has_come() {
    let mut bench = wanting();
    let held =
        Peeked { round: 1, holder: Some(ballot(1, 2).proposer), runs_for: Duration::from_secs(2) };
    for place in 0..2 {
        hear(&mut bench, place, Answered::Peeked(held));
    }
    let (turn, from) = (Duration::from_millis(25), bench.now);
    let soon = Peeked { round: 1, holder: None, runs_for: turn };
    for place in 0..3 {
        assert_eq!(hear(&mut bench, place, Answered::Released(soon)), []);
    }
    assert_eq!(go(&mut bench, from + turn / 2), []);
    assert_eq!(asked(&go(&mut bench, from + turn)), [(Ask::Peek, 3)]);
    // Whoever came first has it.
    for place in 0..2 {
        hear(&mut bench, place, Answered::Peeked(Peeked { round: 2, ..held }));
    }
    assert_eq!(go(&mut bench, from + turn * 4), []);
}

#[test]
fn who_sees_that_another_is_at_it_looks_again_before_it_prepares() {
    let mut bench = wanting();
    let (turn, from) = (LeaseTimes::default().turn(), bench.now);
    let promised = Peeked { round: 8, ..FREE };
    hear(&mut bench, 0, Answered::Peeked(FREE));
    assert_eq!(hear(&mut bench, 1, Answered::Peeked(promised)), [], "it is not in the way");
    assert_eq!(asked(&go(&mut bench, from + turn)), [(Ask::Peek, 3)]);
    // It has come to nothing.
    hear(&mut bench, 0, Answered::Peeked(promised));
    let effects = hear(&mut bench, 1, Answered::Peeked(promised));
    assert_eq!(asked(&effects), [(Ask::Prepare(ballot(9, 1)), 3)]);
}

#[test]
fn a_round_that_a_majority_refuses_is_given_up_at_once_and_the_next_exceeds_what_was_told() {
    let mut bench = wanting();
    hear(&mut bench, 0, Answered::Peeked(FREE));
    hear(&mut bench, 1, Answered::Peeked(FREE));
    let stands = Peeked { round: 8, ..FREE };
    let refused = Answered::Refused { ballot: ballot(1, 1), parked: false, stands };
    hear(&mut bench, 0, refused);
    hear(&mut bench, 0, refused);
    assert!(bench.machine.prepared(&name()).is_some(), "an acceptor counts once");
    hear(&mut bench, 1, refused);
    assert_eq!(bench.machine.prepared(&name()), None);
    let wait = bench.next_timer_in().unwrap();
    assert!((100..=200).contains(&wait.as_millis()), "{wait:?}");
    let timer = bench.next_timer().unwrap();
    bench.feed((), ProposerInput::Timer(timer));
    hear(&mut bench, 0, Answered::Peeked(FREE));
    let effects = hear(&mut bench, 1, Answered::Peeked(FREE));
    assert_eq!(asked(&effects), [(Ask::Prepare(ballot(9, 1)), 3)]);
}

#[test]
fn what_comes_from_others_than_acceptors_or_for_another_configuration_is_not_heard() {
    let mut bench = wanting();
    for (from, epoch) in [(acceptor_id(0), 8), (acceptor_id(5), 7), (proposer_id(2), 7)] {
        for _ in 0..2 {
            let answered = Answered::Peeked(FREE);
            let answer = Answer { epoch, name: name(), answered };
            assert_eq!(bench.feed((), ProposerInput::Answer { from, answer }), []);
        }
    }
    let stands = Peeked { round: u64::MAX, ..FREE };
    hear(&mut bench, 0, Answered::Peeked(stands));
    let effects = hear(&mut bench, 1, Answered::Peeked(stands));
    assert_eq!(asked(&effects), [], "rounds have an end, and there is nothing beyond it");
}

#[test]
fn there_is_a_bound_on_what_is_wanted() {
    let set = config(3).acceptors.clone();
    let limits = Limits { leases_max: 1, ..Limits::default() };
    let config = Arc::new(LeaseConfig::new(set, LeaseTimes::default(), &limits));
    let mut bench = Bench::new(Proposer::new(ballot(1, 1).proposer, config));
    bench.feed((), ProposerInput::Want(name()));
    assert_eq!(bench.feed((), ProposerInput::Want(name())), [], "it is wanted already");
    let other = LeaseName::new("shop:stock".into()).unwrap();
    let effects = bench.feed((), ProposerInput::Want(other.clone()));
    assert_eq!(effects, [ProposerEffect::NoRoom(other)]);
    assert_eq!(bench.machine.len(), 1);
}
