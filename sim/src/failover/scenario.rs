//! The worlds in which leaders leave, and those in which nobody does.

use serde::{Deserialize, Serialize};

use crate::random::Stream;
use crate::schedule::{
    Call, Crypto, Deed, Fault, Fidelity, Latency, NetworkPlan, NodePlan, Operation, PROGRAM,
    SINGLE_ACTIVE, Schedule, Trouble, VERSION,
};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// The leader has its lease before others want it: acceptors abstain for 2.4 s after their start, and a failed round
/// takes one more.
const OTHERS_FROM: u64 = 5 * SECOND;
/// Others stand by from then on.
const SETTLED: u64 = 8 * SECOND;
/// So often the client calls.
const EVERY: u64 = 5 * MS;
/// So long it goes on behind the departure: longer than any bar.
const PATIENCE: u64 = 4 * SECOND;
/// In an hour it calls so often.
const SELDOM: u64 = 10 * SECOND;
const HOUR: u64 = 3_600 * SECOND;

/// How a leader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Its node dies without a word.
    Crash,
    /// Its node is shut down.
    StopNode,
    /// Its service is stopped.
    StopService,
    /// Its service is paused.
    Pause,
    /// It is told to step down.
    StepDown,
}

impl How {
    /// All of them.
    pub const ALL: [How; 5] =
        [How::Crash, How::StopNode, How::StopService, How::Pause, How::StepDown];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            How::Crash => "crash",
            How::StopNode => "stop of the node",
            How::StopService => "stop of the service",
            How::Pause => "pause",
            How::StepDown => "step-down",
        }
    }
}

/// That a leader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// How.
    pub how: How,
    /// When, in microseconds.
    pub at_us: u64,
}

/// A world, and what is known of it beforehand.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What runs.
    pub schedule: Schedule,
    /// The node that leads first.
    pub leader: u16,
    /// How it goes, if it does.
    pub departure: Option<Departure>,
}

impl Scenario {
    /// Whether it is about a fault of the schedule, and not about an operation.
    pub(super) fn needs_fault(&self) -> bool {
        !self.schedule.faults.is_empty()
    }
}

/// A leader that goes: half of them crash.
pub fn departure(seed: u64) -> Scenario {
    let mut draw = Stream::new(seed, 51);
    let at_us = draw.range(SETTLED, SETTLED + 4 * SECOND);
    let how = match draw.chance(500) {
        true => How::Crash,
        false => draw.pick(&How::ALL[1..]),
    };
    let mut world = World::draw(seed);
    let (node, service) = (world.leader, SINGLE_ACTIVE);
    let until_us = at_us + PATIENCE;
    let mut fault = |what| world.faults.push(Fault { at_us, until_us, what });
    match how {
        How::Crash => fault(Trouble::Crash { node }),
        How::StopNode => fault(Trouble::Stop { node }),
        How::StopService => world.operate(at_us, node, Deed::StopService { service }),
        How::Pause => world.operate(at_us, node, Deed::PauseService { service }),
        How::StepDown => world.operate(at_us, node, Deed::StepDown { service }),
    }
    // From before, so that calls are under way; until somebody has answered, and a little longer.
    let until = if how == How::Crash { 3 * SECOND } else { 500 * MS };
    world.call(at_us - 200 * MS, at_us + until, EVERY);
    let departure = Some(Departure { how, at_us });
    world.finish(departure, until_us)
}

/// An hour in which so many frames of a thousand are lost, and nobody goes.
pub fn calm_hour(seed: u64, loss_per_mille: u32) -> Scenario {
    let mut world = World::draw(seed);
    let (at_us, until_us) = (SETTLED, SETTLED + HOUR);
    if loss_per_mille > 0 {
        let what = Trouble::Loss { per_mille: loss_per_mille, path: None };
        world.faults.push(Fault { at_us, until_us, what });
    }
    world.call(at_us, until_us, SELDOM);
    world.finish(None, until_us)
}

/// A world in the making.
struct World {
    seed: u64,
    network: NetworkPlan,
    disk_sync: Latency,
    nodes: Vec<NodePlan>,
    acceptors: Vec<u16>,
    leader: u16,
    operations: Vec<Operation>,
    faults: Vec<Fault>,
}

impl World {
    /// Acceptors, a leader, one to three others that stand by, and a client; all are connected. Whoever offers the
    /// service is an acceptor in most worlds, and in some is none. A round trip takes 5 ms at most, and clocks are right.
    fn draw(seed: u64) -> World {
        let mut draw = Stream::new(seed, 50);
        let acceptors = draw.pick(&[3u16, 3, 5]);
        let are_apart = draw.chance(300);
        let others = match are_apart {
            true => draw.range(1, 3) as u16,
            false => draw.range(1, u64::from(acceptors.min(4)) - 1) as u16,
        };
        let leader = if are_apart { acceptors } else { draw.below(acceptors.into()) as u16 };
        let count = acceptors + if are_apart { 1 + others } else { 0 } + 1;
        let mut nodes: Vec<NodePlan> = (0..count)
            .map(|node| NodePlan { keeps: (node + 1..count).collect(), ..NodePlan::default() })
            .collect();
        nodes[usize::from(leader)].services.push(SINGLE_ACTIVE);
        let mut operations = Vec::new();
        for other in 1..=others {
            let node = if are_apart { leader + other } else { (leader + other) % acceptors };
            let at_us = draw.range(OTHERS_FROM, OTHERS_FROM + 2 * SECOND);
            let what = Deed::StartService { service: SINGLE_ACTIVE };
            operations.push(Operation { at_us, node, what });
        }
        let latency = match draw.chance(700) {
            true => Latency::Constant { us: draw.pick(&[50, 200, 1_000, 2_450]) },
            false => Latency::Bimodal {
                fast_us: draw.pick(&[50, 500]),
                slow_us: 2_450,
                slow_per_mille: draw.pick(&[20, 300]),
            },
        };
        let disk_sync = Latency::Constant { us: draw.pick(&[20, 200, 2_000]) };
        World {
            seed,
            network: NetworkPlan { latency, ..NetworkPlan::default() },
            disk_sync,
            nodes,
            acceptors: (0..acceptors).collect(),
            leader,
            operations,
            faults: Vec::new(),
        }
    }

    fn operate(&mut self, at_us: u64, node: u16, what: Deed) {
        self.operations.push(Operation { at_us, node, what });
    }

    /// The client calls again and again, whatever becomes of the calls before.
    fn call(&mut self, from_us: u64, until_us: u64, every_us: u64) {
        let client = self.nodes.len() as u16 - 1;
        let call = Call::plain(SINGLE_ACTIVE, 1_000);
        for at_us in (from_us..until_us).step_by(every_us as usize) {
            self.operate(at_us, client, Deed::Call(call.clone()));
        }
    }

    fn finish(mut self, departure: Option<Departure>, duration_us: u64) -> Scenario {
        self.operations.sort_by_key(|operation| operation.at_us);
        let schedule = Schedule {
            version: VERSION,
            program: PROGRAM.into(),
            comment: String::new(),
            seed: self.seed,
            fidelity: Fidelity::Frames,
            crypto: Crypto::default(),
            duration_us,
            nodes: self.nodes,
            network: self.network,
            disk_sync: Some(self.disk_sync),
            rights: None,
            acceptors: self.acceptors,
            operations: self.operations,
            faults: self.faults,
        };
        Scenario { schedule, leader: self.leader, departure }
    }
}
