//! The regression corpus: shrunk schedules, each with a comment of what it once found. All must be clean.
//!
//! Add one with `cargo sim shrink --seed S -o sim/corpus/NAME.json`, and say in its `comment` what it found.

use std::path::Path;

use dunlin_sim::schedule::Schedule;
use dunlin_sim::{Verdict, report, run::run};

#[test]
fn what_the_corpus_once_found_is_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    files.sort();
    assert!(files.len() >= 50, "{} files", files.len());
    for file in files {
        let name = file.display();
        let text = std::fs::read_to_string(&file).expect("it can be read");
        let schedule = Schedule::from_json(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(schedule.comment.len() > 10, "{name} says what it found");
        // A person is to read it.
        assert!(schedule.operations.len() + schedule.faults.len() <= 12, "{name} is long");
        let outcome = run(&schedule);
        let again = format!("cargo sim replay {name}");
        let failure = report::failure_by(&outcome, &again);
        assert_eq!(outcome.verdict, Verdict::Clean, "{}\n{failure}", schedule.comment);
    }
}
