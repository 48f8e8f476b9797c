//! The checker against histories with known verdicts, and against one that tries every order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

type RegisterOperation = Operation<RegisterOp<i64>, RegisterReturn<i64>>;

fn write(value: i64, called: u64, returned: u64) -> RegisterOperation {
    let returned = Some((returned, RegisterReturn::Done));
    Operation { op: RegisterOp::Write(value), called, returned }
}

fn read(value: i64, called: u64, returned: u64) -> RegisterOperation {
    let returned = Some((returned, RegisterReturn::Value(value)));
    Operation { op: RegisterOp::Read, called, returned }
}

fn register(history: &[RegisterOperation]) -> Verdict<i64> {
    check(&Register::new(0), history, Budget::default())
}

fn is_linearizable<S: std::fmt::Debug>(verdict: &Verdict<S>) -> bool {
    match verdict {
        Verdict::Linearizable { .. } => true,
        Verdict::Broken(_) => false,
        Verdict::Undecided { .. } => panic!("{verdict:?}"),
    }
}

/// Those of porcupine (MIT), of which the first two are from a quiz of MIT's course 6.824.
#[test]
fn small_histories_have_their_known_verdicts() {
    let ok = [write(100, 0, 100), read(100, 25, 75), read(0, 30, 60)];
    assert!(is_linearizable(&register(&ok)));
    let bad = [write(200, 0, 100), read(200, 10, 30), read(0, 40, 90)];
    let Verdict::Broken(broken) = register(&bad) else { panic!("it was read before") };
    assert_eq!((broken.operation, broken.state), (2, 200));
    assert_eq!(broken.prefix, [0, 1]);
    assert!(broken.explain(&bad).contains("#2 Read -> Value(0) [40, 90]"));
    // Those that take no time, and share their instant.
    let ok = [write(100, 0, 100), read(100, 25, 75), read(0, 30, 30), read(0, 30, 30)];
    assert!(is_linearizable(&register(&ok)));
    let bad = [write(200, 0, 100), read(200, 10, 10), read(200, 10, 10), read(0, 40, 90)];
    assert!(!is_linearizable(&register(&bad)));
    assert_eq!(register(&[]), Verdict::Linearizable { order: vec![] });
}

#[test]
fn what_never_returned_may_have_happened_late_or_never() {
    let open = Operation { op: RegisterOp::Write(5), called: 10, returned: None };
    assert!(is_linearizable(&register(&[open.clone(), read(0, 20, 30), read(5, 90, 99)])));
    assert!(is_linearizable(&register(&[open.clone(), read(0, 90, 99)])));
    assert!(!is_linearizable(&register(&[open.clone(), read(5, 20, 30), read(0, 40, 50)])));
    // Not before it was called.
    assert!(!is_linearizable(&register(&[open, read(5, 1, 9)])));
}

#[test]
fn compare_and_set_happens_once() {
    let cas = |from, to, called, returned, set| Operation {
        op: CasOp::CompareAndSet { from, to },
        called,
        returned: Some((returned, CasReturn::Set(set))),
    };
    let model = CasRegister::new(0);
    let budget = Budget::default();
    let one = [cas(0, 1, 0, 10, true), cas(0, 2, 0, 10, false)];
    assert!(is_linearizable(&check(&model, &one, budget)));
    let both = [cas(0, 1, 0, 10, true), cas(0, 2, 0, 10, true)];
    assert!(!is_linearizable(&check(&model, &both, budget)));
}

#[test]
fn a_counter_counts_what_was_added_and_perhaps_what_is_open() {
    let add = |n, called, returned: Option<u64>| Operation {
        op: CounterOp::Add(n),
        called,
        returned: returned.map(|at| (at, CounterReturn::Done)),
    };
    let read = |sum, called, returned| Operation {
        op: CounterOp::Read,
        called,
        returned: Some((returned, CounterReturn::Value(sum))),
    };
    for (sum, right) in [(2, true), (3, false), (12, true), (10, false), (0, false)] {
        let history = [add(2, 0, Some(5)), add(10, 0, None), read(sum, 6, 7)];
        let verdict = check(&Counter, &history, Budget::default());
        assert_eq!(is_linearizable(&verdict), right, "{sum}");
    }
}

#[test]
fn too_much_work_is_no_verdict() {
    // Forty writes at once of which none was seen, and then a read of what nobody wrote.
    let mut history: Vec<_> = (1..=40).map(|value| write(value, 0, 100)).collect();
    history.push(read(-1, 0, 100));
    let budget = Budget { steps_max: 50_000 };
    let verdict = check(&Register::new(0), &history, budget);
    assert_eq!(verdict, Verdict::Undecided { steps: 50_000 });
    // Beside a broken key, an undecided one does not matter.
    let of = |key: &str, what, called, returned, answer| Operation {
        op: KeyValueOp { key: key.into(), what },
        called,
        returned: Some((returned, answer)),
    };
    let mut history: Vec<_> = (0..40)
        .map(|n| of("a", ValueOp::Put(format!("{n}")), 0, 100, KeyValueReturn::Done))
        .collect();
    let nobody = KeyValueReturn::Value(Some("nobody's".into()));
    history.push(of("a", ValueOp::Get, 0, 100, nobody.clone()));
    let verdict = check_by_key(&KeyValue, &history, KeyValueOp::key, budget);
    assert!(matches!(verdict, Verdict::Undecided { .. }), "{verdict:?}");
    history.push(of("0", ValueOp::Get, 0, 100, nobody));
    let verdict = check_by_key(&KeyValue, &history, KeyValueOp::key, budget);
    assert!(matches!(verdict, Verdict::Broken(Broken { operation: 41, .. })), "{verdict:?}");
}

/// A file of histories with known verdicts that lies beside the project, if it does.
fn vectors(name: &str) -> Option<Value> {
    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/");
    let file = std::path::Path::new(FOLDER).join(name);
    if !file.is_file() {
        println!("not checked: {} is not there", file.display());
        return None;
    }
    let text = std::fs::read_to_string(file).expect("it can be read");
    Some(serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn long_histories_of_a_key_value_store_have_their_known_verdicts() {
    let Some(file) = vectors("f_lin_kv.json") else { return };
    let mut checked = 0;
    for named in file["histories"].as_array().expect("a list") {
        let mut history = Vec::<Operation<KeyValueOp, KeyValueReturn>>::new();
        let mut open = BTreeMap::new();
        for (at, event) in named["events"].as_array().expect("a list").iter().enumerate() {
            let part = |i: usize| event[i].as_str().unwrap_or_default().to_string();
            let (process, at) = (event[0].as_u64(), at as u64);
            if part(1) == "invoke" {
                let what = match part(2).as_str() {
                    "get" => ValueOp::Get,
                    "put" => ValueOp::Put(part(4)),
                    "append" => ValueOp::Append(part(4)),
                    other => panic!("{other}"),
                };
                open.insert(process, history.len());
                let op = KeyValueOp { key: part(3), what };
                history.push(Operation { op, called: at, returned: None });
            } else {
                let operation = &mut history[open.remove(&process).expect("it was called")];
                let answer = match operation.op.what {
                    ValueOp::Get => {
                        KeyValueReturn::Value(Some(part(4)).filter(|value| !value.is_empty()))
                    }
                    _ => KeyValueReturn::Done,
                };
                operation.returned = Some((at, answer));
            }
        }
        let verdict = check_by_key(&KeyValue, &history, KeyValueOp::key, Budget::default());
        let expected = named["linearizable"].as_bool().expect("a verdict");
        assert_eq!(is_linearizable(&verdict), expected, "{}", named["name"]);
        if let Verdict::Linearizable { order } = verdict {
            assert_eq!(order.len(), history.len());
        }
        checked += 1;
    }
    assert_eq!(checked, 6);
}

#[test]
fn small_histories_agree_with_their_file() {
    let Some(file) = vectors("f_lin_small.json") else { return };
    for named in file["histories"].as_array().expect("a list") {
        let operation = |op: &Value| {
            let number = |i: usize| op[i].as_i64().expect("a number");
            let (called, returned) = (number(3) as u64, number(5) as u64);
            match op[1].as_str() {
                Some("write") => write(number(2), called, returned),
                _ => read(number(4), called, returned),
            }
        };
        let history: Vec<_> =
            named["ops"].as_array().expect("a list").iter().map(operation).collect();
        let expected = named["linearizable"].as_bool().expect("a verdict");
        assert_eq!(is_linearizable(&register(&history)), expected, "{}", named["name"]);
    }
}

/// Tries every order of every choice of what took effect.
fn by_force(history: &[RegisterOperation], placed: &mut Vec<usize>, state: i64) -> bool {
    let is_left = |place: &usize| !placed.contains(place);
    let left: Vec<usize> = (0..history.len()).filter(is_left).collect();
    if left.iter().all(|place| history[*place].returned.is_none()) {
        return true;
    }
    for place in &left {
        let operation = &history[*place];
        // Nothing that is left has returned before this was called.
        let is_free = left.iter().all(|other| {
            history[*other].returned.as_ref().is_none_or(|(at, _)| *at >= operation.called)
        });
        let answer = operation.returned.as_ref().map(|(_, answer)| answer);
        let next = Register::new(0).apply(&state, &operation.op, answer);
        if let (true, Some(next)) = (is_free, next) {
            placed.push(*place);
            let works = by_force(history, placed, next);
            placed.pop();
            if works {
                return true;
            }
        }
    }
    false
}

fn histories() -> impl Strategy<Value = Vec<RegisterOperation>> {
    let operation = (any::<bool>(), 0..3i64, 0..12u64, 0..6u64, 0..8u8);
    let operation = operation.prop_map(|(is_write, value, called, took, end)| {
        let made = if is_write { write } else { read };
        let operation = made(value, called, called + took);
        match end {
            0 => Operation { returned: None, ..operation },
            _ => operation,
        }
    });
    proptest::collection::vec(operation, 0..7)
}

/// What of a history had happened before a return.
fn until_before(history: &[RegisterOperation], at: u64) -> Vec<RegisterOperation> {
    let known = history.iter().filter(|operation| operation.called <= at);
    let cut = known.map(|operation| Operation {
        returned: operation.returned.clone().filter(|(returned, _)| *returned < at),
        ..operation.clone()
    });
    cut.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_who_tries_every_order(history in histories()) {
        let verdict = register(&history);
        prop_assert_eq!(is_linearizable(&verdict), by_force(&history, &mut Vec::new(), 0));
        match verdict {
            Verdict::Linearizable { order } => {
                // The order is a witness: it respects real time, answers, and nobody is there twice.
                let mut state = 0;
                for (i, place) in order.iter().enumerate() {
                    let Operation { op, called, returned } = &history[*place];
                    let answer = returned.as_ref().map(|(_, answer)| answer);
                    state = Register::new(0).apply(&state, op, answer).expect("it answers so");
                    for later in &order[i + 1..] {
                        prop_assert!(later != place);
                        let before = history[*later].returned.as_ref();
                        prop_assert!(before.is_none_or(|(at, _)| at >= called));
                    }
                }
                let returned = history.iter().enumerate().filter(|(_, o)| o.returned.is_some());
                prop_assert!(returned.map(|(place, _)| place).all(|place| order.contains(&place)));
            }
            Verdict::Broken(broken) => {
                // All before the return of the culprit can be explained, and it cannot.
                let (at, _) = history[broken.operation].returned.clone().expect("it returned");
                prop_assert!(by_force(&until_before(&history, at), &mut Vec::new(), 0));
                prop_assert!(!by_force(&until_before(&history, at + 1), &mut Vec::new(), 0));
            }
            Verdict::Undecided { .. } => prop_assert!(false),
        }
    }

    #[test]
    fn what_a_real_register_answers_is_linearizable(
        plan in proptest::collection::vec((any::<bool>(), 0..4i64, 1..9u64, 1..9u64), 1..150),
    ) {
        // Each takes effect at a moment of its own, in the order of the plan.
        let mut state = 0;
        let history: Vec<_> = (0u64..).zip(&plan).map(|(n, (is_write, value, before, after))| {
            let at = 10 + 2 * n;
            let (called, returned) = (at.saturating_sub(*before), at + after);
            if *is_write {
                state = *value;
                write(*value, called, returned)
            } else {
                read(state, called, returned)
            }
        }).collect();
        prop_assert!(is_linearizable(&register(&history)));
    }
}
