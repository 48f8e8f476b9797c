//! Shrinking, with a workload that fails by itself: no planted bug is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use dunlin_core::service::{BoxFuture, Handle, Service};
use dunlin_sim::draw::draw;
use dunlin_sim::schedule::{Call, Crypto, Deed, Fidelity, Schedule, Trouble};
use dunlin_sim::shrink::{Options, Shrunk, Size, shrink};
use dunlin_sim::{NodeInfo, Verdict, Workload, run_with};

/// Breaks its own rule when two nodes have made large calls, one of them in a second or later life.
#[derive(Default)]
struct Brittle {
    large: AtomicU16,
    reborn: AtomicU16,
}

const LARGE_BYTES: u32 = 100;

impl Workload for Brittle {
    fn services(&self, _: &NodeInfo) -> Vec<Arc<dyn Service>> {
        Vec::new()
    }

    fn perform(&self, node: &NodeInfo, call: &Call, _: Handle) -> Option<BoxFuture<()>> {
        if call.argument_bytes >= LARGE_BYTES {
            let place = 1 << node.life.node;
            self.large.fetch_or(place, Ordering::Relaxed);
            if node.life.life > 1 {
                self.reborn.fetch_or(place, Ordering::Relaxed);
            }
        }
        None
    }

    fn check(&self) -> Result<(), String> {
        let large = self.large.load(Ordering::Relaxed).count_ones();
        match large > 1 && self.reborn.load(Ordering::Relaxed) > 0 {
            true => Err(format!("{large} nodes have made large calls")),
            false => Ok(()),
        }
    }
}

fn is_failing(schedule: &Schedule) -> bool {
    matches!(
        run_with(schedule, &Brittle::default(), None).verdict,
        Verdict::Safety { violations } if violations[0].rule == "the workload's own rules"
    )
}

fn failing() -> Schedule {
    let drawn = (0..50).map(|seed| draw(seed, Fidelity::Frames, Crypto::Null));
    let mut large = drawn.filter(|schedule| schedule.nodes.len() > 4 && is_failing(schedule));
    large.next().expect("many seeds have crashes and large calls")
}

fn shrunk(schedule: &Schedule, options: &Options) -> Shrunk {
    shrink(schedule, options, &|_| Box::new(Brittle::default()), &|_| {}).expect("it fails")
}

#[test]
fn what_is_left_is_minimal_readable_and_fails_alike() {
    let schedule = failing();
    let shrunk = shrunk(&schedule, &Options { jobs: 2, ..Options::default() });
    let left = &shrunk.schedule;
    assert!(shrunk.is_minimal && is_failing(left));
    assert_eq!(
        (shrunk.failure.kind, &*shrunk.failure.rule),
        ("safety", "the workload's own rules")
    );
    let Size { nodes, operations, faults, .. } = shrunk.after;
    assert_eq!((nodes, operations, faults), (2, 2, 1), "{}", left.to_json());
    assert!(shrunk.before.operations > 1_000);
    // Sizes are as small as halving makes them, and what does not matter is gone.
    for operation in &left.operations {
        let Deed::Call(call) = &operation.what else { panic!("{operation:?}") };
        assert!((LARGE_BYTES..2 * LARGE_BYTES).contains(&call.argument_bytes), "{call:?}");
        assert_eq!((call.target, call.answer_bytes, call.cancel_after_ms), (None, 0, None));
    }
    assert!(left.nodes.iter().all(|node| *node == Default::default()));
    // No single thing can be taken out, and the fault cannot be shorter by half.
    for index in 0..2 {
        let mut fewer = left.clone();
        fewer.operations.remove(index);
        assert!(!is_failing(&fewer));
    }
    let fault = &left.faults[0];
    assert!(!matches!(fault.what, Trouble::Loss { .. }), "{fault:?}");
    let mut fewer = left.clone();
    fewer.faults.clear();
    assert!(!is_failing(&fewer));
    // It reads back from its file, which is short.
    assert_eq!(Schedule::from_json(&left.to_json()).as_ref(), Ok(left));
    assert!(left.to_json().lines().count() < 22, "{}", left.to_json());
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let schedule = failing();
    let [one, four] = [1, 4].map(|jobs| shrunk(&schedule, &Options { jobs, ..Options::default() }));
    assert_eq!((one.schedule, one.runs), (four.schedule, four.runs));
    assert_eq!(one.outcome.hash, four.outcome.hash);
}

#[test]
fn with_few_runs_it_stops_early_and_says_so() {
    let schedule = failing();
    let shrunk = shrunk(&schedule, &Options { runs_max: 6, ..Options::default() });
    assert!(!shrunk.is_minimal && shrunk.runs <= 6 && is_failing(&shrunk.schedule));
}

#[test]
fn what_is_clean_is_not_shrunk() {
    let mut schedule = failing();
    schedule.operations.clear();
    let none = shrink(&schedule, &Options::default(), &|_| Box::new(Brittle::default()), &|_| {});
    assert!(none.is_none());
}
