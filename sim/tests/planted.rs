//! Every planted bug is found, and how fast. Run by itself, in a target directory of its own:
//!
//! ```text
//! RUSTFLAGS="--cfg dunlin_planted" CARGO_TARGET_DIR=target/planted \
//!     cargo test --release -p dunlin-sim --test planted -- --nocapture
//! ```
#![cfg(dunlin_planted)]

use dunlin_core::planted;
use dunlin_sim::draw::draw;
use dunlin_sim::schedule::{Crypto, Fidelity};
use dunlin_sim::{Outcome, Verdict, run::run};

/// A bug that so many seeds do not show counts as missed.
const SEEDS_MAX: u64 = 300;

fn seed(seed: u64) -> Outcome {
    run(&draw(seed, Fidelity::Frames, Crypto::Null))
}

fn what(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Clean => "clean".into(),
        Verdict::Safety { violations } | Verdict::Liveness { violations } => {
            violations[0].rule.to_string()
        }
        Verdict::Crash { message, .. } => message.chars().take(90).collect(),
    }
}

#[test]
fn every_planted_bug_is_found() {
    planted::set(0);
    for number in 0..30 {
        assert_eq!(seed(number).verdict, Verdict::Clean, "seed {number} without a bug");
    }
    println!("bug  first seed  seeds of 50  rule");
    let mut missed = Vec::new();
    for bug in planted::PLANTED.into_iter().flatten() {
        planted::set(bug);
        let mut first = None;
        let mut of_50 = 0;
        for number in 0..SEEDS_MAX {
            let found = seed(number);
            if found.verdict != Verdict::Clean {
                of_50 += 1;
                first.get_or_insert((number, what(&found.verdict)));
            }
            if number >= 49 && first.is_some() {
                break;
            }
        }
        match first {
            Some((number, rule)) => println!("{bug:>3}  {number:>10}  {of_50:>11}  {rule}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} seeds: {missed:?}");
}
