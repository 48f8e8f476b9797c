//! Finding the moment that decided a failure, with a workload that fails by chance and says so late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dunlin_core::service::{BoxFuture, Handle, Service, service};
use dunlin_sim::locate::{Chance, decisive, lines_between};
use dunlin_sim::schedule::{Latency, NodePlan, Schedule};
use dunlin_sim::{NodeInfo, Verdict, Workload, run_with};

const CALL_AT: Duration = Duration::from_secs(10);
const SAID_AT: u64 = 15_000_000_000;
/// About half of the round trips take longer.
const SLOW: u64 = 17_000_000;

/// Node 1 calls node 0 once. A slow answer is against the rules, and is complained of much later.
#[derive(Default)]
struct Impatient {
    took: Arc<AtomicU64>,
    now: Arc<AtomicU64>,
}

impl Workload for Impatient {
    fn services(&self, node: &NodeInfo) -> Vec<Arc<dyn Service>> {
        let echo = service("echo").action("echo", |_, number: u64| async move { Ok(number) });
        if node.life.node == 0 { vec![Arc::new(echo)] } else { Vec::new() }
    }

    fn start(&self, node: &NodeInfo, handle: Handle) -> Option<BoxFuture<()>> {
        let (took, now, peer) = (Arc::clone(&self.took), Arc::clone(&self.now), node.peers[0]);
        (node.life.node == 1).then(|| {
            Box::pin(async move {
                handle.sleep(CALL_AT).await;
                let begun = handle.now().mono.as_nanos();
                let answer =
                    handle.request("echo/echo").value(1u64).to(peer).send_as::<u64>().await;
                assert!(answer.is_ok(), "{answer:?}");
                took.store(handle.now().mono.as_nanos() - begun, Ordering::Relaxed);
                // For longer than the run.
                for _ in 0..10_000 {
                    handle.sleep(Duration::from_millis(100)).await;
                    now.store(handle.now().mono.as_nanos(), Ordering::Relaxed);
                }
            }) as BoxFuture<()>
        })
    }

    fn check(&self) -> Result<(), String> {
        let took = self.took.load(Ordering::Relaxed);
        match took > SLOW && self.now.load(Ordering::Relaxed) >= SAID_AT {
            true => Err(format!("the answer took {took} ns")),
            false => Ok(()),
        }
    }
}

fn schedule(seed: u64) -> Schedule {
    let text = format!(
        r#"{{"version": 2, "seed": {seed}, "fidelity": "frames", "duration_us": 20000000, "nodes": []}}"#
    );
    let mut schedule: Schedule = serde_json::from_str(&text).expect("well-formed");
    schedule.nodes = vec![NodePlan::default(), NodePlan { keeps: vec![0], ..NodePlan::default() }];
    schedule.network.latency = Latency::Exponential { least_us: 100, mean_us: 10_000 };
    schedule
}

fn made(_: &Schedule) -> Box<dyn Workload> {
    Box::new(Impatient::default())
}

#[test]
fn the_moment_that_decided_lies_where_the_dice_fell() {
    let failing = |schedule: &Schedule| {
        let outcome = run_with(schedule, &Impatient::default(), None);
        matches!(outcome.verdict, Verdict::Safety { .. })
    };
    let schedule = (0..20).map(schedule).find(failing).expect("half of them fail");
    let found = decisive(&schedule, &made, 16, 2).expect("it fails");
    assert_eq!(found.failure.rule, "the workload's own rules");
    assert!(found.fails_at >= SAID_AT);
    // The call is made at ten seconds; its answer is under way a little later, and then all is decided.
    let call_at = CALL_AT.as_nanos() as u64;
    assert!((call_at..call_at + 200_000_000).contains(&found.at), "{found:?}");
    let is_sure = |chance: &Chance| chance.failing == chance.tries;
    for chance in &found.chances {
        assert_eq!(is_sure(chance), chance.at >= found.at, "{chance:?}");
        assert!(is_sure(chance) || (1..16).contains(&chance.failing), "{chance:?}");
    }
    // The same whatever the number of threads.
    assert_eq!(decisive(&schedule, &made, 16, 1), Some(found.clone()));
    let lines = lines_between(&schedule, &made, found.at - 200_000_000, found.at + 200_000_000);
    assert!(lines.iter().any(|line| line.contains("echo/echo")), "{lines:?}");
}
