//! Each attack of a hostile node, by itself: the others find each other and are served beside it.

use dunlin_sim::Verdict;
use dunlin_sim::draw::draw;
use dunlin_sim::report;
use dunlin_sim::run::run;
use dunlin_sim::schedule::{Attack, Crypto, Fault, Fidelity, Schedule, Trouble};

const SECOND: u64 = 1_000_000;

/// A drawn world without faults, in which a node turns against the others and stays so.
fn besieged(attack: Attack, seed: u64) -> Schedule {
    let mut schedule = draw(seed, Fidelity::Frames, Crypto::Null);
    let node = schedule.nodes.len() as u16 - 1;
    schedule.operations.truncate(400);
    let until_us = schedule.duration_us + 3_600 * SECOND;
    let what = Trouble::Hostile { node, attack, every_us: 20_000 };
    schedule.faults = vec![Fault { at_us: 2 * SECOND, until_us, what }];
    schedule
}

#[test]
fn beside_each_attack_the_others_are_served() {
    for attack in Attack::ALL {
        // One in the development network, and one with tokens.
        let seeds = [true, false].map(|has_rights| {
            let is_it = |seed: &u64| {
                draw(*seed, Fidelity::Frames, Crypto::Null).rights.is_some() == has_rights
            };
            (0..).find(is_it).expect("some are")
        });
        for seed in seeds {
            let outcome = run(&besieged(attack, seed));
            let shown = format!("{attack:?}, {seed}: {}", report::failure(&outcome));
            assert_eq!(outcome.verdict, Verdict::Clean, "{shown}");
            assert_eq!(outcome.sometimes["nodes were served beside hostile ones"], 1, "{shown}");
            let lines = outcome.faults.lines();
            assert!(lines[0].kind == "hostile" && lines[0].applied == 1, "{lines:?}");
            // Where a link is closed for what was said, it takes a while until there is another one; and an attack that is
            // silence has effects only where there are events.
            let is_silence = attack == Attack::Unacknowledged;
            assert!(lines[0].effective > 100 || is_silence, "{attack:?}: {lines:?}");
        }
    }
}
