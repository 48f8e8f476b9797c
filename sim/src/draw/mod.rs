//! A seed becomes a schedule.
//!
//! By swarm drawing: each seed first draws which kinds of fault and of operation are on, how often they
//! happen and how large everything is, and then the schedule from that. So some seeds do a great deal of
//! one thing, which finds bugs that a little of everything hides.

mod events;
mod hostile;
mod large;
mod leases;
mod streams;

use dunlin_core::wire::VERSION_NEXT;

use crate::faults::FaultKind;
use crate::random::{Stream, exponential};
use crate::schedule::{
    Action, CLOCK_PPM_MAX, Call, Crypto, Deed, Fault, Fidelity, Forgery, Latency, LimitsPlan,
    NetworkPlan, NodePlan, Operation, PROGRAM, RightsPlan, Rule, Schedule, Trouble, VERSION,
    shared_network,
};
use events::Share;

pub use large::{LARGE, draw_large};

/// How long operations and faults go on, in microseconds.
pub(crate) const DURATION_US: u64 = 60_000_000;
pub(crate) const MS: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

/// The fidelity of a seed that is not told one: of a hundred, 80 run at frames, 15 at packets with null
/// crypto, 5 with TLS.
pub fn fidelity_of(seed: u64) -> (Fidelity, Crypto) {
    match Stream::new(seed, 1).below(100) {
        0..80 => (Fidelity::Frames, Crypto::Null),
        80..95 => (Fidelity::Packets, Crypto::Null),
        _ => (Fidelity::Packets, Crypto::Tls),
    }
}

/// The schedule of a seed, or of a large world of that seed if somebody asks for so many nodes.
///
/// # Panics
///
/// When they are not within [`LARGE`].
pub fn draw_sized(seed: u64, fidelity: Fidelity, crypto: Crypto, nodes: Option<u16>) -> Schedule {
    match nodes {
        Some(count) => draw_large(seed, fidelity, crypto, count),
        None => draw(seed, fidelity, crypto),
    }
}

/// The schedule of a seed.
pub fn draw(seed: u64, fidelity: Fidelity, crypto: Crypto) -> Schedule {
    let count = node_count(seed);
    let rights = rights(seed, count);
    let mut nodes = nodes(seed, count);
    for (index, node) in (0..).zip(&mut nodes) {
        // Whom it can never meet it meets by other operations and faults.
        let networks = rights.iter().flat_map(|rights| &rights.networks).cloned();
        let networks: Vec<Vec<u16>> = networks.collect();
        node.keeps.retain(|peer| shared_network(&networks, index, *peer).is_some());
    }
    let networks: Vec<Vec<u16>> = rights.iter().flat_map(|r| &r.networks).cloned().collect();
    let share = Share::draw(seed);
    let mut operations = operations(seed, &nodes, fidelity, share);
    calls_made_once(seed, &mut operations);
    calls_hedged(seed, &mut operations);
    let mut faults = faults(seed, count, fidelity, rights.is_some());
    hostile::add(seed, count, fidelity, &mut faults);
    events::add(seed, share, &mut nodes, &networks, &faults, fidelity, &mut operations);
    streams::add(seed, &nodes, fidelity, &mut operations);
    let acceptors = match &rights {
        None => leases::add(seed, &mut nodes, &mut operations),
        Some(rights) if rights.networks.is_empty() => {
            leases::add_changing(seed, &mut nodes, &mut operations, &mut faults)
        }
        Some(_) => Vec::new(),
    };
    Schedule {
        version: VERSION,
        program: PROGRAM.into(),
        comment: String::new(),
        seed,
        fidelity,
        crypto,
        duration_us: DURATION_US,
        network: network(seed),
        disk_sync: Some(disk_sync(seed)),
        acceptors,
        operations,
        faults,
        rights,
        nodes,
    }
}

/// Most studied failures need few nodes: most seeds are small, some are larger.
fn node_count(seed: u64) -> u16 {
    let mut draw = Stream::new(seed, 2);
    match draw.below(100) {
        0..30 => 3,
        30..55 => 4,
        55..85 => 5,
        85..95 => draw.range(6, 8) as u16,
        _ => draw.range(9, 12) as u16,
    }
}

pub(crate) const SERVICES: u64 = 4;
/// A number that no service has.
pub(crate) const GHOST: u16 = 999;

fn nodes(seed: u64, count: u16) -> Vec<NodePlan> {
    let mut draw = Stream::new(seed, 3);
    let mut nodes: Vec<NodePlan> = (0..count)
        .map(|_| {
            let services = (0..SERVICES as u16).filter(|_| draw.chance(400)).collect();
            NodePlan {
                keeps: Vec::new(),
                services,
                subscribers: Vec::new(),
                clock_ppm: 0,
                limits: LimitsPlan::default(),
            }
        })
        .collect();
    // Who is connected: everybody, a ring, or a star; and of each pair one side keeps it, or both.
    let shape = draw.below(10);
    let both = draw.pick(&[0, 300, 1_000]);
    for a in 0..count {
        for b in a + 1..count {
            let joined = match shape {
                0 => b == a + 1 || (a == 0 && b == count - 1),
                1 => a == 0,
                _ => true,
            };
            if !joined {
                continue;
            }
            let (first, second) = if draw.chance(500) { (a, b) } else { (b, a) };
            nodes[usize::from(first)].keeps.push(second);
            if draw.chance(both) {
                nodes[usize::from(second)].keeps.push(first);
            }
        }
    }
    // Tight bounds, for some seeds at all nodes and for some at a few.
    if draw.chance(350) {
        let share = draw.pick(&[300, 1_000]);
        let on = draw.number();
        for node in &mut nodes {
            if !draw.chance(share) {
                continue;
            }
            let mut set = |bit: u64, low: u64, high: u64| {
                let value = draw.range(low, high) as u32;
                if on >> bit & 1 == 1 { value } else { 0 }
            };
            node.limits = LimitsPlan {
                own_lane_from_bytes: set(0, 16, 2_000),
                calls_served_per_peer_max: set(1, 1, 8),
                kept_answers_per_peer_max: set(2, 1, 8),
                kept_answer_bytes_per_peer_max: set(3, 100, 5_000),
                calls_waiting_per_peer_max: set(4, 1, 8),
                steps_per_input_max: set(5, 1, 6),
                ..node.limits
            };
        }
    }
    // Clocks that go wrong, mostly by what quartz does, sometimes by as much as leases allow for.
    let mut draw = Stream::new(seed, 17);
    if draw.chance(400) {
        let most = draw.pick(&[200, 20_000, u64::from(CLOCK_PPM_MAX.unsigned_abs())]);
        for node in &mut nodes {
            node.clock_ppm = draw.below(2 * most + 1) as i32 - most as i32;
        }
    }
    // Services that bound what they are asked.
    let mut draw = Stream::new(seed, 18);
    if draw.chance(400) {
        let (share, running) = (draw.pick(&[300, 1_000]), draw.range(1, 4));
        let waiting = draw.pick(&[0, 1, 8, 100]);
        for node in &mut nodes {
            if draw.chance(share) {
                node.limits.service_running_max = running as u32;
                node.limits.service_waiting_max = waiting as u32;
            }
        }
    }
    // Two adjacent protocol versions side by side.
    let mut draw = Stream::new(seed, 10);
    if draw.chance(200) {
        let share = draw.pick(&[300, 700]);
        for node in &mut nodes {
            if draw.chance(share) {
                node.limits.protocol_version_max = VERSION_NEXT;
            }
        }
    }
    nodes
}

fn network(seed: u64) -> NetworkPlan {
    let mut draw = Stream::new(seed, 4);
    let latency = match draw.below(3) {
        0 => Latency::Constant { us: draw.pick(&[50, 200, 1_000, 20_000]) },
        1 => Latency::Exponential {
            least_us: draw.pick(&[20, 200, 5_000]),
            mean_us: draw.pick(&[50, 1_000, 10_000]),
        },
        _ => Latency::Bimodal {
            fast_us: draw.pick(&[50, 500]),
            slow_us: draw.pick(&[5_000, 50_000, 300_000]),
            slow_per_mille: draw.pick(&[5, 50]),
        },
    };
    NetworkPlan {
        latency,
        bytes_per_us: draw.pick(&[1, 12, 125]),
        window_frames: draw.pick(&[2, 8, 64, 1_024]),
    }
}

fn disk_sync(seed: u64) -> Latency {
    let mut draw = Stream::new(seed, 16);
    match draw.below(3) {
        0 => Latency::Constant { us: draw.pick(&[20, 100, 5_000]) },
        1 => Latency::Exponential { least_us: 20, mean_us: draw.pick(&[200, 10_000]) },
        _ => Latency::Bimodal { fast_us: 100, slow_us: 400_000, slow_per_mille: 50 },
    }
}

/// Moments on average so far apart, in order.
pub(crate) fn moments(draw: &mut Stream, mean_us: u64) -> Vec<u64> {
    let mut moments = Vec::new();
    let mut at = exponential(draw.number(), mean_us);
    while at < DURATION_US {
        moments.push(at);
        at += exponential(draw.number(), mean_us) + 1;
    }
    moments
}

fn operations(seed: u64, nodes: &[NodePlan], fidelity: Fidelity, share: Share) -> Vec<Operation> {
    let mut draw = Stream::new(seed, 5);
    let count = nodes.len() as u16;
    // A frame costs about a fifth of a datagram's work and there are fewer of them.
    let calls = share.of_calls(match fidelity {
        Fidelity::Frames => draw.range(3_000, 16_000),
        Fidelity::Packets => draw.range(500, 2_500),
    });
    let shapes = CallShapes::draw(&mut draw, neighbours(nodes));
    // Bursts put many calls on one moment.
    let burst = draw.pick(&[1, 1, 1, 5, 40]);
    let busiest = draw.chance(300).then(|| draw.below(u64::from(count)) as u16);
    let mut operations = Vec::with_capacity((calls * 9 / 8) as usize);
    for at_us in moments(&mut draw, DURATION_US * burst / calls) {
        let any = draw.below(u64::from(count)) as u16;
        let node = busiest.filter(|_| draw.chance(700)).unwrap_or(any);
        for _ in 0..burst {
            let call = shapes.call(&mut draw, nodes, node);
            operations.push(Operation { at_us, node, what: Deed::Call(call) });
        }
    }
    let mut draw = Stream::new(seed, 6);
    if draw.chance(700) {
        let mean_us = draw.pick(&[50 * MS, 500 * MS, 3 * SECOND]);
        for at_us in moments(&mut draw, mean_us) {
            let node = draw.below(u64::from(count)) as u16;
            let service = draw.below(SERVICES) as u16;
            let what = match draw.below(4) {
                0 => Deed::PauseService { service },
                1 => Deed::ResumeService { service },
                2 => Deed::StopService { service },
                _ => Deed::StartService { service },
            };
            operations.push(Operation { at_us, node, what });
        }
    }
    let mut draw = Stream::new(seed, 7);
    if draw.chance(250) {
        let mean_us = draw.pick(&[2 * SECOND, 10 * SECOND]);
        for at_us in moments(&mut draw, mean_us) {
            let node = draw.below(u64::from(count)) as u16;
            let peer = (node + 1 + draw.below(u64::from(count) - 1) as u16) % count;
            operations.push(Operation { at_us, node, what: Deed::Disconnect { peer } });
            let at_us = at_us + draw.pick(&[0, 100 * MS, 2 * SECOND, 20 * SECOND]);
            if at_us < DURATION_US {
                operations.push(Operation { at_us, node, what: Deed::Connect { peer } });
            }
        }
    }
    operations.sort_by_key(|operation| operation.at_us);
    operations
}

/// Some users want no call to be made again.
fn calls_made_once(seed: u64, operations: &mut [Operation]) {
    let mut draw = Stream::new(seed, 19);
    let share = draw.pick(&[0, 0, 200, 1_000]);
    for operation in operations {
        if let Deed::Call(call) = &mut operation.what {
            call.once = draw.chance(share);
        }
    }
}

/// In some seeds calls are asked of a second instance, mostly those of which that makes sense.
fn calls_hedged(seed: u64, operations: &mut [Operation]) {
    let mut draw = Stream::new(seed, 24);
    let share = draw.pick(&[0, 0, 300, 1_000]);
    let after = draw.pick(&[0, 5, 50, 500]);
    for operation in operations.iter_mut().filter(|_| share > 0) {
        if let Deed::Call(call) = &mut operation.what {
            let will_do = call.idempotent && call.target.is_none();
            let is_hedged = draw.chance(if will_do { share } else { 3 });
            call.hedge_ms = is_hedged.then(|| exponential(draw.number(), after) as u32);
        }
    }
}

/// For each node, whom it is connected to, in order.
fn neighbours(nodes: &[NodePlan]) -> Vec<Vec<u16>> {
    let mut near = vec![Vec::new(); nodes.len()];
    for (a, node) in (0..).zip(nodes) {
        for b in &node.keeps {
            near[usize::from(a)].push(*b);
            near[usize::from(*b)].push(a);
        }
    }
    for near in &mut near {
        near.sort_unstable();
        near.dedup();
    }
    near
}

/// What the calls of one seed are like.
struct CallShapes {
    /// For each node, whom it is connected to.
    neighbours: Vec<Vec<u16>>,
    /// Weights of echo, bulk, sleep, relay, refuse, panic.
    weights: [u64; 6],
    pinned: u64,
    versioned: u64,
    ruled: u64,
    idempotent: u64,
    cancelled: u64,
    ghosts: u64,
    large: u64,
    timeout_ms: u64,
    sleep_ms: u64,
}

impl CallShapes {
    fn draw(draw: &mut Stream, neighbours: Vec<Vec<u16>>) -> Self {
        let mut weight = |usual: u64| if draw.chance(300) { 0 } else { draw.range(1, usual) };
        CallShapes {
            neighbours,
            weights: [40, weight(20), weight(30), weight(20), weight(6), weight(2)],
            pinned: draw.pick(&[0, 300, 800, 1_000]),
            versioned: draw.pick(&[0, 300]),
            ruled: draw.pick(&[0, 800]),
            idempotent: draw.pick(&[0, 200, 1_000]),
            cancelled: draw.pick(&[0, 50, 400]),
            ghosts: draw.pick(&[0, 20]),
            large: draw.pick(&[0, 5, 50]),
            timeout_ms: draw.pick(&[200, 2_000, 10_000, 30_000]),
            sleep_ms: draw.pick(&[10, 200, 3_000]),
        }
    }

    fn call(&self, draw: &mut Stream, nodes: &[NodePlan], node: u16) -> Call {
        let count = nodes.len() as u16;
        let total = self.weights.iter().sum();
        let mut left = draw.below(total);
        let mut kind = 0;
        while left >= self.weights[kind] {
            left -= self.weights[kind];
            kind += 1;
        }
        let target = |draw: &mut Stream, but: u16| {
            let other = (but + 1 + draw.below(u64::from(count) - 1) as u16) % count;
            let near = &self.neighbours[usize::from(but)];
            match draw.below(100) {
                0..3 => but,
                3..6 => other,
                _ if near.is_empty() => other,
                _ => draw.pick(near),
            }
        };
        // What is asked for is mostly there: at the target, or at somebody.
        let service = |draw: &mut Stream, target: Option<u16>| {
            let at = target.unwrap_or_else(|| target_of_any(draw, count));
            let there = &nodes[usize::from(at)].services;
            if there.is_empty() || draw.chance(30) {
                draw.below(SERVICES) as u16
            } else {
                draw.pick(there)
            }
        };
        let pinned = draw.chance(self.pinned).then(|| target(draw, node));
        let action = match kind {
            0 => Action::Echo,
            1 => Action::Bulk,
            2 => Action::Sleep { ms: exponential(draw.number(), self.sleep_ms) as u32 },
            3 => {
                let onward =
                    draw.chance(self.pinned / 2).then(|| target(draw, pinned.unwrap_or(node)));
                Action::Relay { service: service(draw, onward), target: onward }
            }
            4 => Action::Refuse,
            _ => Action::Panic,
        };
        // Only raw bytes are large: writing and reading them as JSON would be most of the work.
        let bytes = |draw: &mut Stream| match draw.below(1_000) {
            n if action != Action::Bulk => (n % 200) as u32 * u32::from(n < 500),
            n if n < self.large => draw.below(200_000) as u32,
            n if n < self.large * 4 => draw.below(20_000) as u32,
            n if n < 500 => draw.below(200) as u32,
            _ => 0,
        };
        let timeout_ms = 5 + exponential(draw.number(), self.timeout_ms).min(30_000) as u32;
        Call {
            service: if draw.chance(self.ghosts) { GHOST } else { service(draw, pinned) },
            action,
            target: pinned,
            timeout_ms,
            minor_least: draw.chance(self.versioned).then(|| draw.below(4) as u16),
            rule: if draw.chance(self.ruled) { draw.pick(&Rule::ALL) } else { Rule::Default },
            idempotent: draw.chance(self.idempotent),
            once: false,
            hedge_ms: None,
            argument_bytes: bytes(draw),
            answer_bytes: bytes(draw),
            cancel_after_ms: draw
                .chance(self.cancelled)
                .then(|| exponential(draw.number(), u64::from(timeout_ms) / 4) as u32),
        }
    }
}

fn target_of_any(draw: &mut Stream, count: u16) -> u16 {
    draw.below(u64::from(count)) as u16
}

/// Kinds that a fidelity knows.
fn kinds(fidelity: Fidelity) -> Vec<FaultKind> {
    let mut kinds = FaultKind::ALL.to_vec();
    if fidelity == Fidelity::Frames {
        kinds.retain(|kind| {
            !matches!(kind, FaultKind::Duplicate | FaultKind::Corrupt | FaultKind::Mtu)
        });
    } else {
        kinds.retain(|kind| *kind != FaultKind::Replay);
    }
    // Drawn by themselves.
    kinds.retain(|kind| *kind != FaultKind::Hostile);
    kinds
}

/// Some worlds have a network with tokens, clocks that differ, and calls that are not allowed.
fn rights(seed: u64, count: u16) -> Option<RightsPlan> {
    let mut draw = Stream::new(seed, 10);
    if !draw.chance(400) {
        return None;
    }
    let withheld_share = draw.pick(&[0, 0, 100, 500]);
    let withheld =
        |_| (0..SERVICES as u16).filter(|_| draw.chance(withheld_share)).collect::<Vec<_>>();
    let withheld = (0..count).map(withheld).collect();
    // Two clocks are never further apart than tokens allow for.
    let ahead_most = draw.pick(&[0, 2_000, 25_000]);
    let ahead = |_| draw.below(2 * ahead_most + 1) as i64 - ahead_most as i64;
    let clock_ahead_ms = (0..count).map(ahead).collect();
    Some(RightsPlan { withheld, clock_ahead_ms, networks: networks(seed, count) })
}

/// In some worlds nodes are in different networks, and some in several.
fn networks(seed: u64, count: u16) -> Vec<Vec<u16>> {
    let mut draw = Stream::new(seed, 11);
    if !draw.chance(500) {
        return Vec::new();
    }
    let of_node = |node: u16| match node {
        // A common one is missing nowhere, and there is somebody in both.
        0 => vec![0, 1],
        1 => vec![draw.below(2) as u16],
        _ => draw.pick(&[&[0u16][..], &[1], &[0, 1], &[1, 0]]).to_vec(),
    };
    (0..count).map(of_node).collect()
}

fn faults(seed: u64, count: u16, fidelity: Fidelity, has_rights: bool) -> Vec<Fault> {
    let mut draw = Stream::new(seed, 8);
    let mut kinds = kinds(fidelity);
    // Drawn where there are acceptors that may change.
    kinds.retain(|kind| *kind != FaultKind::Acceptors);
    kinds.retain(|kind| has_rights || !kind.is_about_rights());
    let share = draw.pick(&[60, 150, 400]);
    let mut on: Vec<FaultKind> = kinds.iter().copied().filter(|_| draw.chance(share)).collect();
    if on.is_empty() {
        on.push(draw.pick(&kinds));
    }
    let mut faults = Vec::new();
    for kind in on {
        let mut draw = Stream::new(seed, 100 + kind as u64);
        if kind == FaultKind::Clog {
            swizzle(&mut draw, count, &mut faults);
            continue;
        }
        if matches!(kind, FaultKind::Partition | FaultKind::OneWay | FaultKind::Partial) {
            flap(&mut Stream::new(seed, 200 + kind as u64), kind, count, &mut faults);
        }
        // Between the first and the last seconds, so that each meets the workload.
        let times = match kind {
            FaultKind::Dials | FaultKind::Replay => draw.range(4, 24),
            _ => draw.range(1, 6),
        };
        let long = draw.pick(&[SECOND, 8 * SECOND, 25 * SECOND]);
        for _ in 0..times {
            let at_us = draw.range(2 * SECOND, DURATION_US - 8 * SECOND);
            let lasts = 200 * MS + exponential(draw.number(), long);
            let until_us = (at_us + lasts).min(DURATION_US - SECOND);
            let several = draw.chance(200);
            faults.push(Fault { at_us, until_us, what: trouble(&mut draw, kind, count) });
            if several && matches!(kind, FaultKind::Crash | FaultKind::Pause) {
                faults.push(Fault { at_us, until_us, what: trouble(&mut draw, kind, count) });
            }
        }
    }
    // Loss of one message in a hundred may meet none. A fault that is sure to bite makes the seed count.
    if !faults.iter().any(is_sure) {
        let mut draw = Stream::new(seed, 9);
        let at_us = draw.range(5 * SECOND, 40 * SECOND);
        let kind = draw.pick(&[FaultKind::Crash, FaultKind::Pause]);
        let what = trouble(&mut draw, kind, count);
        faults.push(Fault { at_us, until_us: at_us + 7 * SECOND, what });
    }
    faults.sort_by_key(|fault| fault.at_us);
    faults
}

/// Whether a fault changes something whatever else happens: links say something every five seconds.
fn is_sure(fault: &Fault) -> bool {
    match fault.what {
        Trouble::Crash { .. }
        | Trouble::Stop { .. }
        | Trouble::Impostor { .. }
        | Trouble::LoseDisk { .. }
        | Trouble::Rot { .. }
        | Trouble::Readdress { .. } => true,
        Trouble::Pause { .. } | Trouble::Partition { .. } => {
            fault.until_us > fault.at_us + 6 * SECOND
        }
        _ => false,
    }
}

/// Sometimes a cut comes and goes again and again.
fn flap(draw: &mut Stream, kind: FaultKind, count: u16, faults: &mut Vec<Fault>) {
    if !draw.chance(200) {
        return;
    }
    let what = trouble(draw, kind, count);
    let begin = draw.range(2 * SECOND, DURATION_US - 10 * SECOND);
    let (cut, whole) =
        (draw.pick(&[100 * MS, SECOND, 5 * SECOND]), draw.pick(&[100 * MS, 3 * SECOND]));
    for n in 0..draw.range(3, 20) {
        let at_us = begin + n * (cut + whole);
        let until_us = at_us + cut;
        if until_us < DURATION_US - SECOND {
            faults.push(Fault { at_us, until_us, what: what.clone() });
        }
    }
}

/// Some nodes are clogged one after the other, and unclogged in another order: each moment has other ones that reach
/// each other. As FoundationDB's simulator does it.
fn swizzle(draw: &mut Stream, count: u16, faults: &mut Vec<Fault>) {
    for _ in 0..draw.range(1, 3) {
        let share = draw.pick(&[300, 700, 1_000]);
        let clogged = |node| {
            let orders = (draw.number(), draw.number());
            draw.chance(share).then_some((orders.0, orders.1, node))
        };
        let mut nodes: Vec<(u64, u64, u16)> = (0..count).filter_map(clogged).collect();
        if nodes.is_empty() {
            nodes.push((0, 0, draw.below(u64::from(count)) as u16));
        }
        let step = draw.pick(&[20 * MS, 300 * MS, 2 * SECOND]);
        let hold = 200 * MS + exponential(draw.number(), draw.pick(&[SECOND, 8 * SECOND]));
        let begin = draw.range(2 * SECOND, DURATION_US - 8 * SECOND);
        nodes.sort_unstable();
        let begins: Vec<u64> = (0..nodes.len() as u64).map(|n| begin + n * step).collect();
        let clogged = begin + nodes.len() as u64 * step + hold;
        let mut ends: Vec<(u64, usize)> =
            nodes.iter().enumerate().map(|(at, (_, order, _))| (*order, at)).collect();
        ends.sort_unstable();
        for (n, (_, at)) in (0..).zip(ends) {
            let last = DURATION_US - SECOND;
            let at_us = begins[at].min(last);
            let until_us = (clogged + n * step).min(last);
            faults.push(Fault { at_us, until_us, what: Trouble::Clog { node: nodes[at].2 } });
        }
    }
}

fn trouble(draw: &mut Stream, kind: FaultKind, count: u16) -> Trouble {
    let node = draw.below(u64::from(count)) as u16;
    let other = (node + 1 + draw.below(u64::from(count) - 1) as u16) % count;
    // One node alone, or as many as it happens.
    let side = |draw: &mut Stream| -> Vec<u16> {
        let alone = draw.chance(500);
        (0..count).filter(|n| *n == node || (!alone && *n != other && draw.chance(400))).collect()
    };
    match kind {
        FaultKind::Loss => Trouble::Loss {
            per_mille: draw.pick(&[10, 100, 400]),
            path: draw.chance(300).then_some((node, other)),
        },
        FaultKind::Duplicate => Trouble::Duplicate { per_mille: draw.pick(&[10, 100, 500]) },
        FaultKind::Corrupt => Trouble::Corrupt { per_mille: draw.pick(&[10, 100, 300]) },
        FaultKind::Reorder => Trouble::Reorder {
            per_mille: draw.pick(&[10, 100, 500]),
            extra_us: draw.pick(&[2 * MS, 20 * MS, 500 * MS]),
        },
        FaultKind::Slow => Trouble::Slow {
            a: node,
            b: other,
            extra_us: draw.pick(&[50 * MS, 500 * MS, 3 * SECOND]),
        },
        FaultKind::Narrow => Trouble::Narrow {
            a: node,
            b: other,
            bytes_per_ms: draw.pick(&[4, 40, 400]),
            queue_ms: draw.pick(&[20, 200, 2_000]),
        },
        // QUIC needs 1,200 bytes.
        FaultKind::Mtu => {
            Trouble::Mtu { a: node, b: other, bytes: draw.pick(&[1_200, 1_280, 1_452]) }
        }
        FaultKind::Partition => Trouble::Partition { side: side(draw) },
        FaultKind::OneWay => {
            let from = side(draw);
            let to = (0..count).filter(|n| !from.contains(n)).collect();
            if draw.chance(500) {
                Trouble::OneWay { from, to }
            } else {
                Trouble::OneWay { from: to, to: from }
            }
        }
        FaultKind::Partial => Trouble::Partial { a: node, b: other },
        FaultKind::Crash => Trouble::Crash { node },
        FaultKind::Stop => Trouble::Stop { node },
        FaultKind::Pause => Trouble::Pause { node },
        FaultKind::Clock => {
            let far = draw.pick(&[30_000, 90_000, 600_000, 50_000_000]);
            Trouble::Clock { node, by_ms: if draw.chance(500) { far } else { -far } }
        }
        FaultKind::Lapse => Trouble::Lapse { node },
        FaultKind::Revoke => {
            let share = draw.pick(&[300, 1_000]);
            Trouble::Revoke { node, told: (0..count).filter(|_| draw.chance(share)).collect() }
        }
        FaultKind::Impostor => {
            let forgery = draw.pick(&[
                Forgery::Stolen,
                Forgery::Untrusted,
                Forgery::OtherNetwork,
                Forgery::Widened,
                Forgery::BadSignature,
            ]);
            Trouble::Impostor { node, forgery, victim: other }
        }
        FaultKind::Dials => Trouble::Dials { a: node, b: other },
        FaultKind::LoseDisk => Trouble::LoseDisk { node },
        FaultKind::Readdress => Trouble::Readdress { node },
        FaultKind::Replay => Trouble::Replay { from: node, to: other },
        FaultKind::Clog => Trouble::Clog { node },
        FaultKind::SlowNode => {
            Trouble::SlowNode { node, each_us: draw.pick(&[200, 5 * MS, 100 * MS]) }
        }
        FaultKind::SlowDisk => {
            Trouble::SlowDisk { node, extra_us: draw.pick(&[50 * MS, 500 * MS, 12 * SECOND]) }
        }
        FaultKind::FullDisk => Trouble::FullDisk { node },
        FaultKind::FailSync => Trouble::FailSync { node },
        FaultKind::TornWrite => Trouble::TornWrite { node },
        FaultKind::Rot => Trouble::Rot { node },
        FaultKind::Acceptors => Trouble::Acceptors { members: vec![node], told: vec![node, other] },
        FaultKind::Hostile => hostile::trouble(draw, node),
    }
}
