//! Explorations: the rule holds in every state, and every wrong rule is refuted by a shortest counterexample.
//! The wrong rules exist only in a build with `--cfg dunlin_planted`.

#[cfg(not(dunlin_planted))]
use dunlin_sim::explore::glare::configurations;
use dunlin_sim::explore::{explore, lease};

/// Configurations that take longer are explored by `cargo sim explore`, which CI runs too.
#[cfg(not(dunlin_planted))]
const STATES_MAX: usize = 40_000;

/// The same for leases.
#[cfg(not(dunlin_planted))]
const LEASE_STATES_MAX: usize = 30_000;

#[cfg(not(dunlin_planted))]
#[test]
fn two_nodes_that_dial_each_other_agree_in_every_interleaving() {
    let mut to_the_end = 0;
    for (name, model) in configurations() {
        let found = explore(&model, STATES_MAX, 2, &mut |_, _, _| {});
        assert_eq!(found.counterexample, None, "{name}");
        if found.complete {
            assert!(found.ends && found.at_rest > 0, "{name}");
            to_the_end += 1;
        }
    }
    assert_eq!(to_the_end, 13, "the others have more states");
}

#[cfg(not(dunlin_planted))]
#[test]
fn a_lease_has_one_holder_and_its_tokens_grow_in_every_interleaving() {
    // To the end it takes a minute, in a release build: `dunlin-sim explore lease`.
    for (name, model) in lease::configurations() {
        let found = explore(&model, LEASE_STATES_MAX, 2, &mut |_, _, _| {});
        assert_eq!(found.counterexample, None, "{name}");
        assert!(found.complete || found.states >= LEASE_STATES_MAX as u64, "{name}");
    }
}

#[cfg(not(dunlin_planted))]
#[test]
fn other_acceptors_take_over_and_still_a_lease_has_one_holder() {
    for (name, model) in lease::change::configurations() {
        let found = explore(&model, LEASE_STATES_MAX, 2, &mut |_, _, _| {});
        println!("{name}: {} states, to the end: {}", found.states, found.complete);
        assert_eq!(found.counterexample, None, "{name}");
        assert!(found.complete || found.states >= LEASE_STATES_MAX as u64, "{name}");
    }
}

/// Where a rule is refuted that takes more than a moment elsewhere.
#[cfg(dunlin_planted)]
const REFUTED_IN: &[(&str, &str)] = &[
    ("no-abstention", "an acceptor restarts"),
    ("answered-before-durable", "an acceptor restarts, one round"),
    ("any-renewal-counts", "two renewals"),
    ("lost-disk-unlearned", "an acceptor loses its disk"),
    ("learned-round-again", "an acceptor loses its disk"),
    ("what-lives-is-not-waited-for", "a change, one to one, one restarts"),
    ("one-seal-is-enough", "a change, three to one"),
    ("goes-on-after-its-seal", "a change, one to one, one restarts"),
    ("only-the-last-set-is-sealed", "two changes in a row"),
    ("tokens-without-an-epoch", "a change, one to one, one restarts"),
];

/// As they are explored, and one of them without its second round: some rules break in the first.
#[cfg(dunlin_planted)]
fn configurations_of_leases() -> Vec<(String, lease::Lease)> {
    let mut all = lease::configurations();
    let restarts = all.iter().find(|(name, _)| name == "an acceptor restarts");
    let (name, model) = restarts.cloned().expect("it is one of them");
    all.push((format!("{name}, one round"), lease::Lease { rounds_max: 1, ..model }));
    all
}

#[cfg(dunlin_planted)]
fn refute<M: dunlin_sim::explore::Model>(
    rules: &[(&str, u32)],
    configurations: fn() -> Vec<(String, M)>,
) {
    println!("rule                         states  steps  broken");
    for (rule, number) in rules {
        dunlin_core::planted::set(*number);
        // In most configurations most rules are as good as the right one.
        let first = |name: &str| !REFUTED_IN.contains(&(rule, name));
        let mut models = configurations();
        models.sort_by_key(|(name, _)| first(name));
        let found = models.into_iter().find_map(|(name, model)| {
            let found = explore(&model, 1_000_000, 2, &mut |_, _, _| {});
            Some((name, found.states, found.counterexample?))
        });
        let (name, states, way) = found.unwrap_or_else(|| panic!("{rule} is not refuted"));
        println!("{rule:<27} {states:>7}  {:>5}  {}, in {name:?}", way.steps.len(), way.broken);
        assert!(!way.steps.is_empty());
    }
}

#[cfg(dunlin_planted)]
#[test]
fn every_wrong_rule_is_refuted() {
    use dunlin_sim::explore::glare;
    std::panic::set_hook(Box::new(|info| {
        // Broken promises of the machine are counterexamples; failures of this test are not.
        if info.location().is_some_and(|at| at.file().contains("tests")) {
            eprintln!("{info}");
        }
    }));
    // One after the other: the bug that is planted is the process's.
    refute(&glare::RULES, glare::configurations);
    refute(&lease::RULES, configurations_of_leases);
    refute(&lease::change::RULES, lease::change::configurations);
}
