//! What of events a seed becomes: who subscribes to what, how they read, and what is published.

use crate::draw::{DURATION_US, MS, SECOND, SERVICES, moments};
use crate::random::{Stream, exponential};
use crate::schedule::{
    Deed, Fault, Fidelity, NodePlan, Operation, Publish, Subscriber, networks_of,
};

/// What lies below `eN`.
const TAILS: [&str; 4] = ["a", "b", "a/x", "b/x"];
/// Patterns, with `N` for a number.
const PATTERNS: [&str; 10] =
    ["eN/a", "eN/b", "eN/a/x", "eN/*", "eN/>", "eN/{x}", "eN/*/x", "*/a", "{root}/{x}/x", ">"];
/// Topics that are in use: few, so that much of what happens is about the same.
const ROOTS: u64 = SERVICES;

/// How much of what happens is events. They share their links with calls, so a seed has both, or one of them
/// alone with enough time for it: an event costs about as much as three calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Nobody publishes.
    Nothing,
    /// A few among many calls.
    Some,
    /// Most of it, with a few calls.
    Most,
}

impl Share {
    pub(crate) fn draw(seed: u64) -> Share {
        match Stream::new(seed, 22).below(100) {
            0..35 => Share::Nothing,
            35..60 => Share::Some,
            _ => Share::Most,
        }
    }

    /// How many of so many calls there are.
    pub(crate) fn of_calls(self, calls: u64) -> u64 {
        match self {
            Share::Nothing => calls,
            Share::Some => calls * 3 / 4,
            Share::Most => calls / 3,
        }
    }

    fn events(self, draw: &mut Stream, fidelity: Fidelity) -> u64 {
        match (self, fidelity) {
            (Share::Most, Fidelity::Frames) => draw.range(500, 4_000),
            (_, Fidelity::Frames) => draw.range(200, 1_200),
            (Share::Most, Fidelity::Packets) => draw.range(100, 700),
            (_, Fidelity::Packets) => draw.range(50, 200),
        }
    }
}

/// What the events of one seed are like.
pub(crate) struct Shapes<'a> {
    networks: &'a [Vec<u16>],
    roots: u64,
    grouped: u64,
    at_least_one: u64,
    of_services: u64,
    small: u64,
    stalls: u64,
    slow: u64,
    local: u64,
    pinned: u64,
    one_per_service: u64,
    confirmed: u64,
    patience_ms: Option<u32>,
    confirm_ms: u64,
    large: u64,
}

impl<'a> Shapes<'a> {
    pub(crate) fn draw(draw: &mut Stream, networks: &'a [Vec<u16>]) -> Self {
        Shapes {
            networks,
            roots: draw.pick(&[1, 2, ROOTS]),
            grouped: draw.pick(&[0, 300, 800]),
            at_least_one: draw.pick(&[0, 0, 500, 1_000]),
            of_services: draw.pick(&[0, 300]),
            small: draw.pick(&[0, 200, 800]),
            stalls: draw.pick(&[0, 200, 800]),
            slow: draw.pick(&[0, 200, 800]),
            local: draw.pick(&[0, 50]),
            pinned: draw.pick(&[0, 100, 400]),
            one_per_service: draw.pick(&[0, 300]),
            confirmed: draw.pick(&[0, 300, 1_000]),
            patience_ms: draw.pick(&[None, Some(0), Some(100), Some(2_000)]),
            confirm_ms: draw.pick(&[500, 5_000, 30_000]),
            large: draw.pick(&[0, 0, 5, 50]),
        }
    }

    /// Mostly the network that a node writes without its name.
    fn network(&self, draw: &mut Stream, node: u16) -> u16 {
        let own = networks_of(self.networks, node);
        let elsewhere = !self.networks.is_empty() && draw.chance(20);
        if elsewhere { draw.below(2) as u16 } else { draw.pick(own) }
    }

    pub(crate) fn subscriber(
        &self,
        draw: &mut Stream,
        node: u16,
        lasts_ms: Option<u32>,
    ) -> Subscriber {
        let root = draw.below(self.roots).to_string();
        let grouped = draw.chance(self.grouped);
        let of_service = !grouped && draw.chance(self.of_services);
        let slow = draw.chance(self.slow);
        // Those of group 0 never want to get anything twice.
        let group = draw.below(2) as u16;
        Subscriber {
            network: self.network(draw, node),
            pattern: draw.pick(&PATTERNS).replace('N', &root),
            group: grouped.then_some(group),
            at_least_one: grouped && group > 0 && draw.chance(self.at_least_one),
            service: of_service.then(|| draw.below(2) as u16),
            queue: if draw.chance(self.small) { draw.range(1, 8) as u32 } else { 0 },
            drops_oldest: draw.chance(500),
            stalls_ms: match draw.chance(self.stalls) {
                true => draw.range(100, 20_000) as u32,
                false => 0,
            },
            slow_ms: if slow { draw.range(1_000, 40_000) as u32 } else { 0 },
            each_ms: if slow { draw.range(1, 300) as u32 } else { 0 },
            lasts_ms,
        }
    }

    pub(crate) fn publish(&self, draw: &mut Stream, node: u16, count: u16) -> Publish {
        let confirmed = draw.chance(self.confirmed);
        Publish {
            network: self.network(draw, node),
            topic: format!("e{}/{}", draw.below(self.roots), draw.pick(&TAILS)),
            local: draw.chance(self.local),
            target: draw.chance(self.pinned).then(|| draw.below(u64::from(count)) as u16),
            one_per_service: draw.chance(self.one_per_service),
            confirm_ms: confirmed
                .then(|| 1 + exponential(draw.number(), self.confirm_ms).min(60_000) as u32),
            patience_ms: if draw.chance(100) { None } else { self.patience_ms },
            bytes: match draw.below(1_000) {
                n if n < self.large => draw.below(20_000) as u32,
                n if n < 500 => draw.below(100) as u32,
                _ => 0,
            },
        }
    }
}

/// Adds subscribers and events to what else happens.
pub(crate) fn add(
    seed: u64,
    share: Share,
    nodes: &mut [NodePlan],
    networks: &[Vec<u16>],
    faults: &[Fault],
    fidelity: Fidelity,
    operations: &mut Vec<Operation>,
) {
    if share == Share::Nothing {
        return;
    }
    let mut draw = Stream::new(seed, 20);
    let shapes = Shapes::draw(&mut draw, networks);
    let count = nodes.len() as u16;
    let most = draw.pick(&[1, 3, 6]);
    for (node, plan) in (0..).zip(nodes.iter_mut()) {
        let subscribers = draw.below(most + 1);
        plan.subscribers =
            (0..subscribers).map(|_| shapes.subscriber(&mut draw, node, None)).collect();
    }
    if draw.chance(400) {
        let share = draw.pick(&[300, 1_000]);
        for plan in nodes.iter_mut() {
            if draw.chance(share) {
                plan.limits.events_unacknowledged_max = draw.range(1, 16) as u32;
            }
            if draw.chance(share / 3) {
                plan.limits.publications_open_max = draw.range(1, 16) as u32;
            }
        }
    }
    let events = share.events(&mut draw, fidelity);
    let burst = draw.pick(&[1, 1, 1, 8, 40]);
    let busiest = draw.chance(300).then(|| draw.below(u64::from(count)) as u16);
    for at_us in moments(&mut draw, DURATION_US * burst / events) {
        let any = draw.below(u64::from(count)) as u16;
        let node = busiest.filter(|_| draw.chance(700)).unwrap_or(any);
        for _ in 0..burst {
            let what = Deed::Publish(shapes.publish(&mut draw, node, count));
            operations.push(Operation { at_us, node, what });
        }
    }
    let mut draw = Stream::new(seed, 23);
    if draw.chance(600) {
        let at_once = draw.pick(&[10, 40]);
        for at_us in around(&mut draw, faults) {
            for _ in 0..draw.range(1, at_once) {
                let node = draw.below(u64::from(count)) as u16;
                let what = Deed::Publish(shapes.publish(&mut draw, node, count));
                operations.push(Operation { at_us, node, what });
            }
        }
    }
    let mut draw = Stream::new(seed, 21);
    if draw.chance(600) {
        let mean_us = draw.pick(&[200 * MS, SECOND, 5 * SECOND]);
        let lasts_ms = draw.pick(&[200, 5_000, 30_000]);
        for at_us in moments(&mut draw, mean_us) {
            let node = draw.below(u64::from(count)) as u16;
            let lasts_ms = exponential(draw.number(), lasts_ms).min(60_000) as u32;
            let what = Deed::Subscribe(shapes.subscriber(&mut draw, node, Some(lasts_ms)));
            operations.push(Operation { at_us, node, what });
        }
    }
    operations.sort_by_key(|operation| operation.at_us);
}

/// Moments at which something is under way when a fault begins, and when links come back after it: what comes twice,
/// or too early, does so then.
fn around(draw: &mut Stream, faults: &[Fault]) -> Vec<u64> {
    let window_us = draw.pick(&[MS, 20 * MS, 500 * MS]);
    let mut moments = Vec::new();
    for fault in faults {
        moments.push(fault.at_us.saturating_sub(draw.below(window_us)));
        moments.push(fault.until_us + draw.below(window_us));
    }
    moments.retain(|at_us| *at_us < DURATION_US);
    moments
}
