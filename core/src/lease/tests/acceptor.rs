//! The acceptor alone, word by word.

use std::time::Duration;

use super::*;
use crate::base::MonoTime;
use crate::machine::tests::Bench;

/// An acceptor of three that has a disk and has abstained.
fn ready() -> Bench<Acceptor> {
    let mut bench = Bench::new(Acceptor::new(acceptor_id(0), 1, config(3)));
    bench.feed((), AcceptorInput::Start { records: vec![Record::Complete], kept: false });
    assert!(!bench.machine.is_ready(bench.now));
    let timer = bench.next_timer().unwrap();
    assert_eq!(bench.feed((), AcceptorInput::Timer(timer)), [AcceptorEffect::Ready]);
    bench
}

fn ask(bench: &mut Bench<Acceptor>, proposer: usize, ask: Ask) -> Vec<AcceptorEffect> {
    let request = Request { epoch: 7, name: name(), ask };
    bench.feed(
        (),
        AcceptorInput::Request {
            from: proposer_id(proposer),
            account: proposer_id(proposer),
            request,
        },
    )
}

fn answer(proposer: usize, answered: Answered) -> AcceptorEffect {
    let answer = Answer { epoch: 7, name: name(), answered };
    AcceptorEffect::Answer { to: proposer_id(proposer), answer }
}

fn stands(round: u64, holder: Option<usize>, runs_for: Duration) -> Peeked {
    Peeked { round, holder: holder.map(|p| ballot(1, p).proposer), runs_for }
}

fn refused(of: Ballot, parked: bool, stands: Peeked) -> Answered {
    Answered::Refused { ballot: of, parked, stands }
}

fn promise(round: u64, proposer: usize) -> Record {
    Record::Promise { name: name(), round, proposer: Some(ballot(1, proposer).proposer) }
}

fn durable(bench: &mut Bench<Acceptor>, seq: u64) -> Vec<AcceptorEffect> {
    bench.feed((), AcceptorInput::Durable { seq })
}

const T: Duration = Duration::from_secs(2);
const FREE: Duration = Duration::ZERO;

/// One at which proposer 1 has a lease of round 1.
fn leased() -> Bench<Acceptor> {
    let mut bench = ready();
    ask(&mut bench, 1, Ask::Prepare(ballot(1, 1)));
    assert_eq!(durable(&mut bench, 1), [answer(1, Answered::Promise(ballot(1, 1)))]);
    let accepted = ask(&mut bench, 1, Ask::Propose(ballot(1, 1), 0));
    assert_eq!(accepted, [answer(1, Answered::Accepted(ballot(1, 1), 0))]);
    bench
}

#[test]
fn a_promise_is_answered_once_it_is_durable() {
    let mut bench = ready();
    let wanted = ask(&mut bench, 1, Ask::Prepare(ballot(3, 1)));
    assert_eq!(wanted, [AcceptorEffect::Persist { seq: 1, record: promise(3, 1) }]);
    assert_eq!(ask(&mut bench, 1, Ask::Prepare(ballot(3, 1))), [], "it is still to come");
    // A better one comes before that: the first is worth nothing any more.
    let better = ask(&mut bench, 2, Ask::Prepare(ballot(4, 2)));
    let over = refused(ballot(3, 1), false, stands(4, None, FREE));
    let persist = AcceptorEffect::Persist { seq: 2, record: promise(4, 2) };
    assert_eq!(better, [persist, answer(1, over)]);
    assert_eq!(durable(&mut bench, 1), []);
    assert_eq!(durable(&mut bench, 2), [answer(2, Answered::Promise(ballot(4, 2)))]);
    let again = ask(&mut bench, 2, Ask::Prepare(ballot(4, 2)));
    assert_eq!(
        again,
        [answer(2, Answered::Promise(ballot(4, 2)))],
        "its answer may have been lost"
    );
}

#[test]
fn a_round_is_promised_to_one_proposer_and_to_one_life_of_it() {
    let mut bench = ready();
    ask(&mut bench, 1, Ask::Prepare(ballot(3, 1)));
    durable(&mut bench, 1);
    for round in 1..=3 {
        let answered = ask(&mut bench, 2, Ask::Prepare(ballot(round, 2)));
        let no = refused(ballot(round, 2), false, stands(3, None, FREE));
        assert_eq!(answered, [answer(2, no)]);
    }
    let next_life = Ballot { round: 3, proposer: ProposerId { boot: 2, ..ballot(3, 1).proposer } };
    let answered = ask(&mut bench, 1, Ask::Prepare(next_life));
    assert_eq!(answered, [answer(1, refused(next_life, false, stands(3, None, FREE)))]);
}

#[test]
fn while_a_lease_lives_the_prepare_of_another_changes_nothing_and_is_answered_at_its_end() {
    let mut bench = leased();
    let later = Duration::from_millis(500);
    bench.now = bench.now + later;
    let wait = stands(1, Some(1), T - later);
    let parked = ask(&mut bench, 2, Ask::Prepare(ballot(2, 2)));
    assert_eq!(parked, [answer(2, refused(ballot(2, 2), true, wait))]);
    assert_eq!(bench.machine.promised(&name()), Some((1, Some(ballot(1, 1).proposer))));
    // The best one is kept.
    let better = ask(&mut bench, 3, Ask::Prepare(ballot(2, 3)));
    let worse = answer(2, refused(ballot(2, 2), false, wait));
    assert_eq!(better, [worse, answer(3, refused(ballot(2, 3), true, wait))]);
    assert_eq!(
        ask(&mut bench, 2, Ask::Prepare(ballot(2, 2))),
        [answer(2, refused(ballot(2, 2), false, wait))]
    );
    // Renewed: the end moves, and the prepare still waits.
    ask(&mut bench, 1, Ask::Propose(ballot(1, 1), 1));
    let renewed = bench.now;
    let timer = bench.next_timer().unwrap();
    assert_eq!(bench.feed((), AcceptorInput::Timer(timer)), []);
    let timer = bench.next_timer().unwrap();
    assert_eq!(bench.now, renewed + T);
    let wanted = bench.feed((), AcceptorInput::Timer(timer));
    assert_eq!(wanted, [AcceptorEffect::Persist { seq: 2, record: promise(2, 3) }]);
    assert_eq!(durable(&mut bench, 2), [answer(3, Answered::Promise(ballot(2, 3)))]);
    let late = ask(&mut bench, 1, Ask::Propose(ballot(1, 1), 2));
    assert_eq!(late, [answer(1, refused(ballot(1, 1), false, stands(2, None, FREE)))]);
}

#[test]
fn those_who_stand_by_are_told_to_try_in_turn_in_the_same_order_whoever_looked_first() {
    let told = |first: usize, second: usize| {
        let mut bench = leased();
        ask(&mut bench, first, Ask::Peek);
        ask(&mut bench, second, Ask::Peek);
        ask(&mut bench, 1, Ask::Release(ballot(1, 1)))
    };
    let turn = Duration::from_millis(25);
    let in_order = |first, second| {
        let released = |to, wait| answer(to, Answered::Released(stands(1, None, wait)));
        [released(first, FREE), released(second, turn)]
    };
    let effects = told(2, 3);
    assert!(effects == in_order(2, 3) || effects == in_order(3, 2), "{effects:?}");
    assert_eq!(told(3, 2), effects);
}

#[test]
fn a_lease_that_was_released_is_over_and_who_has_looked_is_told() {
    let mut bench = leased();
    let looked = ask(&mut bench, 2, Ask::Peek);
    assert_eq!(looked, [answer(2, Answered::Peeked(stands(1, Some(1), T)))]);
    let released = ask(&mut bench, 1, Ask::Release(ballot(1, 1)));
    assert_eq!(released, [answer(2, Answered::Released(stands(1, None, FREE)))]);
    let late = ask(&mut bench, 1, Ask::Propose(ballot(1, 1), 1));
    let no = refused(ballot(1, 1), false, stands(1, None, FREE));
    assert_eq!(late, [answer(1, no)], "what was under way does not bring it back");
    assert_eq!(ask(&mut bench, 1, Ask::Release(ballot(1, 1))), []);
}

#[test]
fn a_proposal_that_exceeds_the_promise_is_accepted_once_that_is_durable() {
    let mut bench = ready();
    let wanted = ask(&mut bench, 1, Ask::Propose(ballot(5, 1), 0));
    assert_eq!(wanted, [AcceptorEffect::Persist { seq: 1, record: promise(5, 1) }]);
    // It lives from now on, and not from then.
    assert_eq!(bench.machine.live(&name(), bench.now), Some(ballot(5, 1)));
    assert_eq!(durable(&mut bench, 1), [answer(1, Answered::Accepted(ballot(5, 1), 0))]);
    assert_eq!(bench.machine.live(&name(), bench.now + T), None);
}

#[test]
fn what_does_not_keep_to_the_rules_is_not_listened_to() {
    let mut bench = ready();
    let far = Ballot::ROUNDS_AHEAD_MAX + 1;
    for wrong in [ballot(0, 1), ballot(far, 1), ballot(u64::MAX, 1), ballot(1, 2)] {
        assert_eq!(ask(&mut bench, 1, Ask::Prepare(wrong)), [], "{wrong:?}");
        assert_eq!(ask(&mut bench, 1, Ask::Propose(wrong, 0)), [], "{wrong:?}");
    }
    let request = Request { epoch: 8, name: name(), ask: Ask::Prepare(ballot(1, 1)) };
    let input = AcceptorInput::Request { from: proposer_id(1), account: proposer_id(1), request };
    assert_eq!(bench.feed((), input), [], "another configuration's");
    assert!(bench.machine.is_empty());
}

#[test]
fn there_is_a_bound_on_leases() {
    let set = config(3).acceptors.clone();
    let limits = Limits { leases_max: 1, ..Limits::default() };
    let config = Arc::new(LeaseConfig::new(set, LeaseTimes::default(), &limits));
    let mut bench = Bench::new(Acceptor::new(acceptor_id(0), 1, config));
    bench.feed(
        (),
        AcceptorInput::Start { records: vec![Record::Complete, promise(4, 1)], kept: false },
    );
    let timer = bench.next_timer().unwrap();
    bench.feed((), AcceptorInput::Timer(timer));
    let other = LeaseName::new("shop:stock".into()).unwrap();
    let ask = Ask::Prepare(ballot(1, 1));
    let request = Request { epoch: 7, name: other.clone(), ask };
    let input = AcceptorInput::Request { from: proposer_id(1), account: proposer_id(1), request };
    let answered = refused(ballot(1, 1), false, stands(0, None, FREE));
    let answer = Answer { epoch: 7, name: other, answered };
    let to = proposer_id(1);
    assert_eq!(bench.feed((), input), [AcceptorEffect::Answer { to, answer }]);
    assert_eq!(bench.machine.len(), 1);
}

#[test]
fn after_a_restart_it_abstains_and_says_for_how_long() {
    let mut bench = Bench::new(Acceptor::new(acceptor_id(0), 2, config(3)));
    let records = vec![promise(6, 1), Record::Complete];
    assert_eq!(bench.feed((), AcceptorInput::Start { records, kept: false }), []);
    let m = LeaseTimes::default().abstention();
    for what in [Ask::Prepare(ballot(7, 2)), Ask::Propose(ballot(7, 2), 0)] {
        let no = refused(ballot(7, 2), false, stands(6, None, m));
        assert_eq!(ask(&mut bench, 2, what), [answer(2, no)]);
    }
    bench.now = bench.now + m;
    let own = ask(&mut bench, 1, Ask::Prepare(ballot(6, 1)));
    assert_eq!(own, [answer(1, Answered::Promise(ballot(6, 1)))], "it knows what it has promised");
    assert_eq!(
        ask(&mut bench, 2, Ask::Prepare(ballot(6, 2))),
        [answer(2, refused(ballot(6, 2), false, stands(6, None, FREE)))]
    );
}

fn learned(boot: u64, complete: bool, rounds: &[u64]) -> Learned {
    let rounds = rounds.iter().map(|round| (name(), *round)).collect();
    Learned { epoch: 7, boot, complete, sealed: None, rounds }
}

fn tell(bench: &mut Bench<Acceptor>, from: usize, learned: Learned) -> Vec<AcceptorEffect> {
    bench.feed((), AcceptorInput::Learned { from: acceptor_id(from), learned })
}

#[test]
fn without_its_disk_it_learns_which_rounds_it_may_have_promised() {
    let mut bench = Bench::new(Acceptor::new(acceptor_id(0), 2, config(3)));
    assert_eq!(
        bench.feed((), AcceptorInput::Start { records: Vec::new(), kept: false }),
        [],
        "it abstains first"
    );
    let timer = bench.next_timer().unwrap();
    let asked = bench.feed((), AcceptorInput::Timer(timer));
    let learn = Learn { epoch: 7, boot: 2 };
    let to = |a| AcceptorEffect::Learn { to: acceptor_id(a), learn };
    assert_eq!(asked, [to(1), to(2)]);
    assert_eq!(tell(&mut bench, 1, learned(1, true, &[9])), [], "it was for an earlier life");
    assert_eq!(tell(&mut bench, 0, learned(2, true, &[9])), [], "it is none of the others");
    let record = |round| Record::Promise { name: name(), round, proposer: None };
    let first = tell(&mut bench, 1, learned(2, true, &[4]));
    assert_eq!(first, [AcceptorEffect::Persist { seq: 1, record: record(4) }]);
    assert_eq!(tell(&mut bench, 1, learned(2, true, &[4])), [], "the same one counts once");
    // Long past its abstention it still takes no part, and asks who has not answered.
    let mut asked = Vec::new();
    while bench.now < MonoTime::ZERO + Duration::from_secs(5) {
        let timer = bench.next_timer().unwrap();
        asked.extend(bench.feed((), AcceptorInput::Timer(timer)));
    }
    assert!(asked.len() > 10 && asked.iter().all(|effect| *effect == to(2)), "{asked:?}");
    assert!(!bench.machine.is_ready(bench.now));
    let second = tell(&mut bench, 2, learned(2, true, &[6]));
    let complete = AcceptorEffect::Persist { seq: 3, record: Record::Complete };
    assert_eq!(second, [AcceptorEffect::Persist { seq: 2, record: record(6) }, complete]);
    assert_eq!(durable(&mut bench, 2), []);
    assert_eq!(durable(&mut bench, 3), [AcceptorEffect::Ready]);
    // Whose round 6 was it does not know: it is nobody's.
    for proposer in [1, 2] {
        let of = ballot(6, proposer);
        let no = answer(proposer, refused(of, false, stands(6, None, FREE)));
        let no = std::slice::from_ref(&no);
        assert_eq!(ask(&mut bench, proposer, Ask::Prepare(of)), no);
        assert_eq!(ask(&mut bench, proposer, Ask::Propose(of, 3)), no);
    }
    assert_eq!(ask(&mut bench, 1, Ask::Prepare(ballot(7, 1))).len(), 1);
}

#[test]
fn of_five_three_that_know_are_enough_or_all() {
    let start = || {
        let mut bench = Bench::new(Acceptor::new(acceptor_id(0), 2, config(5)));
        bench.feed((), AcceptorInput::Start { records: Vec::new(), kept: false });
        let timer = bench.next_timer().unwrap();
        bench.feed((), AcceptorInput::Timer(timer));
        bench
    };
    let complete = |effects: &[AcceptorEffect]| {
        let is = |e: &AcceptorEffect| {
            matches!(e, AcceptorEffect::Persist { record: Record::Complete, .. })
        };
        effects.iter().any(is)
    };
    let mut bench = start();
    assert!(!complete(&tell(&mut bench, 1, learned(2, true, &[]))));
    assert!(!complete(&tell(&mut bench, 2, learned(2, true, &[]))));
    assert!(!complete(&tell(&mut bench, 3, learned(2, false, &[]))), "it has lost its own disk");
    assert!(complete(&tell(&mut bench, 4, learned(2, true, &[]))));
    // A new network: nobody knows of anything, for there was nothing.
    let mut bench = start();
    for other in 1..4 {
        assert!(!complete(&tell(&mut bench, other, learned(2, false, &[]))));
    }
    assert!(complete(&tell(&mut bench, 4, learned(2, false, &[]))));
}

#[test]
fn names_that_one_account_asks_for_leave_room_for_others() {
    let mut bench = ready();
    let limits = Limits { leases_max: 100, leases_per_issuer_max: 5, ..Limits::default() };
    let set = AcceptorSet::new(7, (0..3).map(acceptor_id).collect()).unwrap();
    bench.machine.config = Arc::new(LeaseConfig::new(set, LeaseTimes::default(), &limits));
    let mut ask = |proposer: usize, account: usize, number: u8| {
        let name = LeaseName::new([&[7; 32][..], &[number]].concat().into()).unwrap();
        let request = Request { epoch: 7, name, ask: Ask::Prepare(ballot(1, proposer)) };
        let (from, account) = (proposer_id(proposer), proposer_id(account));
        let effects = bench.feed((), AcceptorInput::Request { from, account, request });
        effects.iter().any(|effect| matches!(effect, AcceptorEffect::Persist { .. }))
    };
    let promised = (0..50).filter(|n| ask(1, 1, *n)).count();
    assert_eq!(promised, 5);
    // Another key with rights of the same token is the same account.
    assert!(!ask(2, 1, 60));
    assert!(ask(2, 2, 61), "others have room");
    assert_eq!(bench.machine.len(), 6);
    assert_eq!(bench.refusals.of(crate::base::Bound::LeasesPerIssuer), 46);
}
