//! Failures of planted bugs become schedules that a person can read. In a build of its own, as `planted.rs`.
#![cfg(dunlin_planted)]

use dunlin_core::planted;
use dunlin_sim::draw::draw;
use dunlin_sim::schedule::{Crypto, Fidelity, Schedule};
use dunlin_sim::shrink::{Options, Size, shrink};
use dunlin_sim::{BuiltIn, Verdict, run::run};

/// Of each part of the core one, and the seed to look from: calls, dialling, tokens, directories, groups of events.
const BUGS: [(u32, u64); 5] = [(2, 0), (6, 0), (44, 0), (60, 280), (72, 50)];

/// Of so many seeds that fail the one that shrinks furthest is looked at. What is 1-minimal is a local minimum: from some
/// seeds, in which everything is overloaded, it is three times as long.
const FAILING: usize = 3;

fn failing(from: u64) -> impl Iterator<Item = Schedule> {
    let drawn = (from..from + 300).map(|seed| draw(seed, Fidelity::Frames, Crypto::Null));
    drawn.filter(|drawn| run(drawn).verdict != Verdict::Clean).take(FAILING)
}

/// The schedules of the corpus that were shrunk with a planted bug, and its number.
fn corpus() -> Vec<(u32, String, Schedule)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let Some((_, bug)) = name.split_once("-planted-") else { continue };
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let schedule = Schedule::from_json(&text).expect("the corpus is well-formed");
        found.push((bug.parse().expect("a number"), name, schedule));
    }
    found
}

#[test]
fn a_failing_mutant_shrinks_to_three_nodes_and_ten_lines() {
    println!("bug  seed  runs  left");
    for (bug, from) in BUGS {
        planted::set(bug);
        let options = Options { jobs: 2, ..Options::default() };
        let workload = |schedule: &Schedule| Box::new(BuiltIn::new(schedule)) as _;
        let mut best = None;
        for schedule in failing(from) {
            let shrunk = shrink(&schedule, &options, &workload, &|_| {}).expect("it fails");
            println!("{bug:>3}  {:>4}  {:>4}  {}", schedule.seed, shrunk.runs, shrunk.after);
            let Size { nodes, operations, faults, .. } = shrunk.after;
            let is_readable = shrunk.is_minimal && nodes <= 3 && operations + faults <= 10;
            best = Some(shrunk);
            if is_readable {
                break;
            }
        }
        let shrunk = best.expect("it is found");
        let Size { nodes, operations, faults, .. } = shrunk.after;
        assert!(shrunk.is_minimal && nodes <= 3 && operations + faults <= 10, "bug {bug}");
        let read = Schedule::from_json(&shrunk.schedule.to_json()).expect("it is well-formed");
        assert_eq!(run(&read).hash, shrunk.outcome.hash, "bug {bug}");
        planted::set(0);
        assert_eq!(run(&read).verdict, Verdict::Clean, "what is left of bug {bug}, without it");
    }
    // The corpus has teeth: most of what was shrunk with a bug still finds it. What no longer does may be shrunk anew.
    let corpus = corpus();
    let is_blunt = |bug: u32, schedule: &Schedule| {
        planted::set(bug);
        run(schedule).verdict == Verdict::Clean
    };
    let blunt = corpus.iter().filter(|(bug, _, schedule)| is_blunt(*bug, schedule));
    let blunt: Vec<_> = blunt.map(|(_, name, _)| name).collect();
    println!("{} of {} schedules of the corpus find nothing: {blunt:?}", blunt.len(), corpus.len());
    assert!(blunt.len() * 4 < corpus.len(), "{blunt:?}");
}
