//! What is measured over many seeds, over a few: how soon another leads, that nobody else leads without a reason, and
//! that trouble under load ends with its cause. The full figures are in docs/leases.md.

use dunlin_sim::campaign::Shard;
use dunlin_sim::failover;
use dunlin_sim::load::{self, Strain};
use dunlin_sim::schedule::PROGRAM;

/// So many seeds, unless this says otherwise.
const SEEDS: &str = "DUNLIN_MEASURED_SEEDS";

fn seeds(few: u64) -> u64 {
    std::env::var(SEEDS).map_or(few, |text| text.parse().expect("a number"))
}

fn failovers(seeds: u64, hours: u64) -> failover::Plan {
    failover::Plan { program: PROGRAM.into(), from: 0, seeds, hours, loss_per_mille: 50 }
}

#[cfg(not(dunlin_planted))]
mod unplanted {
    use dunlin_sim::failover::{How, merge};

    use super::*;

    #[test]
    fn another_leads_within_the_bars_and_nobody_does_without_a_reason() {
        let summary = failovers(seeds(60), 1).run(Shard::default(), 2, |_| {});
        assert_eq!(summary.exit_code(), 0, "{:?}\n{}", summary.failures, summary.text());
        assert_eq!(summary.times.len(), How::ALL.len(), "every way to go was tried");
        assert!(summary.watched_seconds >= 3_600);
    }

    #[test]
    fn what_was_found_once_stays_mended() {
        let found = [
            (0, "a rival's vote was missing when an acceptor had stopped, and the lease ran out"),
            (40, "three that stood by split the votes of five acceptors"),
            (899, "who looked in the midst of a round was in its way for a second"),
            (
                7_035,
                "a prepare that came just when a lease ended was in the way of the one that was parked",
            ),
        ];
        for (seed, what) in found {
            let plan = failover::Plan { from: seed, ..failovers(1, 0) };
            let summary = plan.run(Shard::default(), 1, |_| {});
            assert_eq!(summary.exit_code(), 0, "seed {seed}: {what}\n{}", summary.text());
        }
    }

    #[test]
    fn shards_of_failovers_add_up_to_the_whole() {
        let plan = failovers(6, 0);
        let whole = plan.run(Shard::default(), 1, |_| {});
        let (mut parts, mut runs) = (Vec::new(), Vec::new());
        for index in 0..2 {
            let shard = Shard { index, of: 2 };
            let part = plan.run(shard, 2, |run| runs.push(run.clone()));
            parts.push((format!("part {index}"), part));
        }
        let sum = merge(&parts, &runs).expect("they are parts of one plan");
        assert_eq!((&sum.times, sum.events), (&whole.times, whole.events));
        assert!(merge(&parts[..1], &runs).unwrap_err().contains("missing: shard 1/2"));
        assert!(merge(&parts, &runs[1..]).unwrap_err().contains("5 runs"));
    }

    #[test]
    fn worlds_under_load_that_failed_once_pass() {
        let found = [
            (230, "refusals of a spike kept an instance out for 7 s"),
            (272, "refusals of costly calls kept an instance out for 8 s"),
            (553, "the same, with enough room at the other instances"),
            (592, "the same at one of three clients"),
            (849, "the same with calls that time out"),
            (244, "one burst turned calls away before the strain"),
            (422, "one burst had calls made again behind the strain"),
        ];
        for (seed, what) in found {
            let plan = load::Plan { program: PROGRAM.into(), from: seed, seeds: 1, strain: None };
            let summary = plan.run(Shard::default(), 1, |_| {});
            assert_eq!(summary.exit_code(), 0, "seed {seed}: {what}\n{:?}", summary.failures);
        }
    }

    #[test]
    fn trouble_under_load_ends_with_its_cause_and_restarts_lose_no_call() {
        for strain in Strain::ALL {
            let strain = Some(strain);
            let plan = load::Plan { program: PROGRAM.into(), from: 0, seeds: seeds(2), strain };
            let summary = plan.run(Shard::default(), 2, |_| {});
            assert_eq!(summary.exit_code(), 0, "{:?}\n{}", summary.failures, summary.text());
        }
    }
}

/// What the measurements alone find.
#[cfg(dunlin_planted)]
#[test]
fn what_takes_too_long_or_lasts_too_long_is_found() {
    use dunlin_core::planted;

    let load = |strain| {
        let strain = Some(strain);
        let plan = load::Plan { program: PROGRAM.into(), from: 0, seeds: seeds(10), strain };
        let summary = plan.run(Shard::default(), 2, |_| {});
        summary.failures.first().cloned().map(|(_, what)| what)
    };
    let failover = |departures, hours| {
        let summary = failovers(departures, hours).run(Shard::default(), 2, |_| {});
        let failure = summary.failures.first().map(|(_, failure)| format!("{failure:?}"));
        summary.missed.first().cloned().or(failure)
    };
    let mut missed = Vec::new();
    for bug in 153..=156 {
        planted::set(bug);
        let found = match bug {
            153 => load(Strain::Spike),
            154 => load(Strain::Restarts),
            155 => failover(0, 2),
            _ => failover(seeds(20), 0),
        };
        println!("{bug}  {found:?}");
        missed.extend(found.is_none().then_some(bug));
    }
    planted::set(0);
    assert_eq!((load(Strain::Spike), failover(seeds(20), 1)), (None, None), "without a bug");
    assert!(missed.is_empty(), "not found: {missed:?}");
}
