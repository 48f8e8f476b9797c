//! Publishers and subscribers of the built-in workload, written as any user would write them.

use std::time::Duration;

use dunlin_core::events::{Overflow, QueueLimits};
use dunlin_core::service::Handle;

use crate::builtin::unless;
use crate::schedule::{Publish, Subscriber, networks_of};
use crate::workload::NodeInfo;

fn ms(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

/// Subscribes, and reads as the plan says.
pub(crate) async fn read(node: NodeInfo, plan: Subscriber, handle: Handle) {
    let reader = node.ledger.subscribe(&node, &plan);
    let mut builder = handle.subscription(&node.path_in(plan.network, &plan.pattern));
    if let Some(group) = plan.group {
        builder = builder.group(format!("g{group}"));
    }
    if plan.at_least_one {
        builder = builder.at_least_one();
    }
    if let Some(service) = plan.service {
        builder = builder.service(&node.path_in(plan.network, &format!("s{service}")));
    }
    if plan.queue > 0 {
        let overflow = if plan.drops_oldest { Overflow::DropOldest } else { Overflow::DropNewest };
        let events_max = plan.queue as usize;
        builder = builder.queue(QueueLimits { events_max, overflow, ..QueueLimits::default() });
    }
    // It may be in no network of this node's, and the node may stop.
    let Ok(mut subscription) = builder.open().await else { return };
    reader.opened();
    let slow_until = node.ledger.now() + 1_000_000 * u64::from(plan.stalls_ms + plan.slow_ms);
    let mut leaves = plan.lasts_ms.map(|lasts| handle.sleep(ms(lasts)));
    // One half of those that leave read what they have.
    let reads_on = plan.lasts_ms.is_some_and(|lasts| lasts % 2 == 1);
    let mut waits_ms = plan.stalls_ms;
    loop {
        let reading = async {
            if waits_ms > 0 {
                handle.sleep(ms(waits_ms)).await;
            }
            subscription.next().await
        };
        match unless(reading, leaves.as_mut()).await {
            Some(Some(delivery)) => {
                reader.found(&delivery);
                let is_slow = plan.each_ms > 0 && node.ledger.now() < slow_until;
                waits_ms = if is_slow { plan.each_ms } else { 0 };
            }
            None if reads_on => {
                (leaves, waits_ms) = (None, 0);
                reader.leaves();
                subscription.leave();
            }
            Some(None) | None => return,
        }
    }
}

/// Publishes one event.
pub(crate) async fn publish(node: NodeInfo, plan: Publish, is_probe: bool, handle: Handle) {
    let (open, said) = node.ledger.publish(node.life, &plan, is_probe);
    let mut event = handle.event(&node.path_in(plan.network, &plan.topic)).value(said);
    if plan.local {
        event = event.local();
    }
    if plan.one_per_service {
        event = event.one_per_service();
    }
    if let Some(target) = plan.target {
        event = event.to(node.peers[usize::from(target)]);
    }
    event = match plan.patience_ms {
        Some(patience) => event.patience(ms(patience)),
        None => event.no_waiting(),
    };
    match plan.confirm_ms {
        None => match event.send().await {
            Ok(published) => open.accepted(published),
            Err(_) => open.refused(),
        },
        Some(within) => match event.send_for_outcome(ms(within)).await {
            Ok((published, outcome)) => {
                open.accepted(published);
                open.ended(outcome.await);
            }
            Err(_) => open.refused(),
        },
    }
}

/// After healing: events for everybody, one after the other.
pub(crate) async fn publish_probes(
    node: NodeInfo,
    roots: std::ops::Range<u16>,
    withheld: Vec<u16>,
    handle: Handle,
) {
    for network in networks_of(&node.networks, node.life.node).to_vec() {
        for root in roots.clone() {
            if network == 0 && withheld.contains(&root) {
                continue;
            }
            for tail in ["a", "b/x"] {
                let plan = Publish {
                    network,
                    topic: format!("e{root}/{tail}"),
                    one_per_service: root == 1,
                    confirm_ms: Some(10_000),
                    patience_ms: Some(10_000),
                    ..Publish::default()
                };
                publish(node.clone(), plan, true, handle.clone()).await;
                // Who has room for one event reads it.
                handle.sleep(ms(1)).await;
            }
        }
    }
}
