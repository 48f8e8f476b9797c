//! What a user of the simulator relies on.

use std::process::Command;
use std::sync::Arc;

use dunlin_core::service::{BoxFuture, Handle, Service};
use dunlin_sim::campaign::{Campaign, run_campaign};
use dunlin_sim::draw::{draw, fidelity_of};
use dunlin_sim::run::run;
use dunlin_sim::schedule::{Crypto, Fault, Fidelity, Schedule, Trouble};
use dunlin_sim::{NodeInfo, Verdict, Workload, report, run_with};

/// How many events were published, and how often one of them came.
fn clean(seed: u64, fidelity: Fidelity, crypto: Crypto) -> (u64, u64) {
    let outcome = run(&draw(seed, fidelity, crypto));
    assert_eq!(outcome.verdict, Verdict::Clean, "{}", report::failure(&outcome));
    assert!(outcome.nodes >= 3 && outcome.simulated_nanos >= 60_000_000_000);
    assert!(outcome.faults.any_effective(), "seed {seed} has no effective fault");
    (outcome.published, outcome.delivered)
}

#[test]
fn seeds_at_frames_fidelity_are_clean() {
    let counts = (0..30).map(|seed| clean(seed, Fidelity::Frames, Crypto::Null));
    let counts: Vec<_> = counts.collect();
    // Some have events and some have none.
    let share = counts.iter().filter(|(published, _)| *published > 0).count();
    assert!((12..27).contains(&share), "{counts:?}");
    assert!(counts.iter().map(|(_, delivered)| delivered).sum::<u64>() > 10_000, "{counts:?}");
}

#[test]
fn seeds_at_packets_fidelity_are_clean() {
    let null = (0..8).map(|seed| clean(seed, Fidelity::Packets, Crypto::Null));
    let tls = (100..102).map(|seed| clean(seed, Fidelity::Packets, Crypto::Tls));
    let delivered: u64 = null.chain(tls).map(|(_, delivered)| delivered).sum();
    assert!(delivered > 1_000, "{delivered}");
}

#[test]
fn a_campaign_says_which_rare_states_it_reached_and_which_never() {
    let campaign = Campaign { seeds: 12, jobs: 2, ..Campaign::default() };
    let mut by_run = 0;
    let summary = run_campaign(&campaign, |outcome| {
        by_run += outcome.sometimes["a link was superseded"];
    });
    let count = |what: &str| summary.sometimes[what];
    assert_eq!(count("a link was superseded"), by_run);
    assert!(by_run > 0 && count("a node died while handlers ran") > 0, "{:?}", summary.sometimes);
    let text = report::summary(&summary);
    assert!(text.contains("published") && text.contains("  a link was superseded\n"), "{text}");
    // With so few seeds some state is left out, and is named.
    let never = summary.sometimes.iter().filter(|(_, count)| **count == 0);
    let named = never.filter(|(what, _)| text.contains(&format!("never  {what}\n")));
    assert!(named.count() > 0, "{text}");
}

/// Looks for two rare states of its own, and reaches one.
struct Looking;

impl Workload for Looking {
    fn services(&self, _: &NodeInfo) -> Vec<Arc<dyn Service>> {
        Vec::new()
    }

    fn start(&self, node: &NodeInfo, _: Handle) -> Option<BoxFuture<()>> {
        if node.life.life > 1 {
            node.ledger.sometimes("a node began a second life");
        }
        None
    }

    fn sometimes(&self) -> &[&'static str] {
        &["a node began a second life", "the moon was full"]
    }
}

#[test]
fn a_workload_has_rare_states_of_its_own() {
    let mut schedule = draw(1, Fidelity::Frames, Crypto::Null);
    schedule.operations.clear();
    let fault = |node, at_us| Fault { at_us, until_us: at_us + 1, what: Trouble::Crash { node } };
    schedule.faults = vec![fault(0, 1_000), fault(1, 2_000)];
    let outcome = run_with(&schedule, &Looking, None);
    assert_eq!(outcome.sometimes["a node began a second life"], 2);
    assert_eq!(outcome.sometimes["the moon was full"], 0);
}

/// A node that says after a second that something is wrong, or panics.
struct Worried {
    panics: bool,
}

impl Workload for Worried {
    fn services(&self, _: &NodeInfo) -> Vec<Arc<dyn Service>> {
        Vec::new()
    }

    fn start(&self, node: &NodeInfo, handle: Handle) -> Option<BoxFuture<()>> {
        let panics = self.panics;
        (node.life.node == 1).then(|| {
            let task: BoxFuture<()> = Box::pin(async move {
                handle.sleep(std::time::Duration::from_secs(1)).await;
                assert!(!panics, "I give up");
                tracing::error!(left = 3, "the ledger does not add up");
            });
            task
        })
    }
}

#[test]
fn an_error_in_the_log_breaks_the_run_and_so_does_a_panic() {
    let schedule = Schedule { faults: Vec::new(), ..draw(1, Fidelity::Frames, Crypto::Null) };
    for (panics, says) in [(false, "the ledger does not add up left=3"), (true, "I give up")] {
        let verdict = run_with(&schedule, &Worried { panics }, None).verdict;
        let Verdict::Safety { violations } = verdict else { panic!("{verdict:?}") };
        assert_eq!(
            (violations[0].rule, violations[0].at / 1_000_000_000),
            ("nothing in the log is an error", 1)
        );
        assert!(violations[0].what.contains(says), "{}", violations[0].what);
    }
}

#[test]
fn a_schedule_takes_the_same_steps_every_time() {
    let kinds = [
        (Fidelity::Frames, Crypto::Null),
        (Fidelity::Packets, Crypto::Null),
        (Fidelity::Packets, Crypto::Tls),
    ];
    for (fidelity, crypto) in kinds {
        let schedule = draw(5, fidelity, crypto);
        let (first, second) = (run(&schedule), run(&schedule));
        assert_eq!(first.hash, second.hash);
        assert_ne!(first.hash, run(&draw(6, fidelity, crypto)).hash);
    }
}

#[test]
fn another_process_takes_the_same_steps() {
    let program = || {
        let output = Command::new(env!("CARGO_BIN_EXE_dunlin-sim"))
            .args(["run", "--seed", "5", "--fidelity", "frames", "--json"])
            .output()
            .expect("the program runs");
        assert!(output.status.success());
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        line["hash"].as_str().map(ToString::to_string)
    };
    assert_eq!(program(), run(&draw(5, Fidelity::Frames, Crypto::Null)).hash);
}

#[test]
fn a_schedule_reads_back_as_it_is_written() {
    let schedule = draw(7, Fidelity::Packets, Crypto::Tls);
    assert_eq!(Schedule::from_json(&schedule.to_json()), Ok(schedule.clone()));
    let wrong = Schedule { version: 99, ..schedule };
    let error = Schedule::from_json(&wrong.to_json()).unwrap_err();
    assert!(error.contains("version 99") && error.contains("written by dunlin-sim"), "{error}");
}

#[test]
fn a_schedule_that_names_an_unknown_node_is_refused() {
    let mut schedule = draw(7, Fidelity::Frames, Crypto::Null);
    schedule.operations[2].node = 99;
    let text = schedule.to_json();
    let line = 1 + text.lines().position(|line| line.contains("\"node\": 99,")).expect("written");
    let error = Schedule::from_json(&text).unwrap_err();
    assert!(error.starts_with(&format!("line {line}: ")) && error.contains("node 99"), "{error}");
}

#[test]
fn fidelities_are_drawn_in_their_shares() {
    let (mut frames, mut null, mut tls) = (0, 0, 0);
    for seed in 0..2_000 {
        match fidelity_of(seed) {
            (Fidelity::Frames, _) => frames += 1,
            (Fidelity::Packets, Crypto::Null) => null += 1,
            (Fidelity::Packets, Crypto::Tls) => tls += 1,
        }
    }
    assert!((1_550..1_650).contains(&frames), "{frames}");
    assert!((250..350).contains(&null) && (60..140).contains(&tls), "{null} {tls}");
}
