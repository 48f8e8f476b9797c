//! Explorations: the rule holds in every state, and every wrong rule is refuted by a shortest counterexample.
//! The wrong rules exist only in a build with `--cfg dunlin_planted`.

use dunlin_sim::explore::explore;
use dunlin_sim::explore::glare::configurations;

/// Configurations that take longer are explored by `cargo sim explore glare`, which CI runs too.
#[cfg(not(dunlin_planted))]
const STATES_MAX: usize = 40_000;

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

#[cfg(dunlin_planted)]
#[test]
fn every_wrong_rule_is_refuted() {
    use dunlin_sim::explore::glare::RULES;
    std::panic::set_hook(Box::new(|info| {
        // Broken promises of the machine are counterexamples; failures of this test are not.
        if info.location().is_some_and(|at| at.file().contains("tests")) {
            eprintln!("{info}");
        }
    }));
    println!("rule                  states  steps  broken");
    for (name, number) in RULES {
        dunlin_core::planted::set(number);
        let found = configurations().into_iter().find_map(|(_, model)| {
            let found = explore(&model, 1_000_000, 2, &mut |_, _, _| {});
            Some((found.states, found.counterexample?))
        });
        let (states, way) = found.unwrap_or_else(|| panic!("{name} is not refuted"));
        println!("{name:<20} {states:>7}  {:>5}  {}", way.steps.len(), way.broken);
        assert!(!way.steps.is_empty());
    }
}
