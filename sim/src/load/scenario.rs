//! The worlds: who serves, who calls how often, and what strains them.

use serde::{Deserialize, Serialize};

use crate::random::{Stream, exponential};
use crate::schedule::{
    Action, Call, Crypto, Deed, Fault, Fidelity, Latency, LimitsPlan, NetworkPlan, NodePlan,
    Operation, PROGRAM, Rule, Schedule, Trouble, VERSION,
};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;

/// From when calls are counted: all know each other, and averages have settled.
const WARM: u64 = 2 * SECOND;
/// How long calls are counted before the strain, and behind it.
const WINDOW: u64 = 4 * SECOND;
/// Within this time behind the strain all must be as before: what was under way ends within a call's time-out of at most
/// 2 s, and a breaker probes within 4.4 s.
pub(super) const RECOVERED_WITHIN: u64 = 7 * SECOND;

/// What strains a service.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Strain {
    /// Clients call two to four times as often.
    Spike,
    /// Each call takes four to ten times as long.
    Costly,
    /// An instance is dead, and is started again.
    Dead,
    /// An instance does nothing, and goes on.
    Hung,
    /// An instance is slow in all that it does.
    Slow,
    /// One instance after the other is stopped and started again, in order.
    Restarts,
}

impl Strain {
    /// All of them.
    pub const ALL: [Strain; 6] =
        [Strain::Spike, Strain::Costly, Strain::Dead, Strain::Hung, Strain::Slow, Strain::Restarts];

    /// Its name on the command line.
    pub fn option(self) -> String {
        let value = <Strain as clap::ValueEnum>::to_possible_value(&self);
        value.expect("none is hidden").get_name().to_string()
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Strain::Spike => "spike",
            Strain::Costly => "costly calls",
            Strain::Dead => "dead instance",
            Strain::Hung => "hung instance",
            Strain::Slow => "slow instance",
            Strain::Restarts => "rolling restart",
        }
    }
}

/// A world, and what is known of it beforehand. Times are in microseconds.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What runs.
    pub schedule: Schedule,
    /// What strains it.
    pub strain: Strain,
    /// How many nodes serve: the first ones. The others call.
    pub servers: u16,
    /// Calls that all instances can end in a second, as long as nothing is wrong.
    pub capacity_per_second: u64,
    /// How long a caller waits at most.
    pub timeout_us: u64,
    /// Before the strain, under it, and when it must be over: from, until.
    pub windows: [(u64, u64); 3],
}

/// The scenario of a seed.
pub fn draw(seed: u64, strain: Option<Strain>) -> Scenario {
    let mut draw = Stream::new(seed, 60);
    let drawn = draw.pick(&Strain::ALL);
    let strain = strain.unwrap_or(drawn);
    let servers = draw.range(2, 4) as u16;
    let clients = draw.range(1, 3) as u16;
    let running = draw.range(1, 4);
    let takes_ms = draw.pick(&[10, 20, 40]);
    let capacity_per_second = u64::from(servers) * running * 1_000 / takes_ms;
    // Where one of a few is missing the others cannot bear all: that is the strain.
    let load_per_mille = match strain {
        Strain::Restarts => {
            900 * u64::from(servers - 1) / u64::from(servers) * draw.range(3, 8) / 10
        }
        _ => draw.range(500, 800),
    };
    let timeout_ms = draw.pick(&[500, 1_000, 2_000]);
    let waiting = draw.pick(&[4, 16, 64]);
    let rule = draw.pick(&[Rule::Default, Rule::LeastLoaded, Rule::RoundRobin]);

    let begins = WARM + WINDOW;
    let lasts = draw.range(2 * SECOND, 6 * SECOND);
    let each = 7 * SECOND;
    let ends = match strain {
        Strain::Restarts => begins + each * u64::from(servers),
        _ => begins + lasts,
    };
    let after = match strain {
        Strain::Restarts => ends,
        _ => ends + RECOVERED_WITHIN,
    };
    let duration_us = after + WINDOW;
    let windows = [(WARM, begins), (begins, ends), (after, duration_us)];

    let limits = LimitsPlan {
        service_running_max: running as u32,
        service_waiting_max: waiting,
        ..LimitsPlan::default()
    };
    // Who serves dials who calls, and so is there again as soon as it runs.
    let count = servers + clients;
    let nodes = (0..count).map(|node| match node < servers {
        true => NodePlan {
            keeps: (servers..count).collect(),
            services: vec![0],
            limits: limits.clone(),
            ..NodePlan::default()
        },
        false => NodePlan::default(),
    });
    let nodes: Vec<NodePlan> = nodes.collect();

    let strained = |at_us: u64| (begins..ends).contains(&at_us);
    let times = draw.range(20, 40);
    let costs = draw.range(4, 10);
    let rate = capacity_per_second * load_per_mille / 1_000;
    let mut operations = Vec::new();
    let mut at_us = WARM / 2;
    while at_us < duration_us {
        let is_strained = strained(at_us);
        let ms = match strain {
            Strain::Costly if is_strained => takes_ms * costs,
            _ => takes_ms,
        };
        let call = Call {
            action: Action::Sleep { ms: ms as u32 },
            rule,
            ..Call::plain(0, timeout_ms as u32)
        };
        let node = servers + draw.below(clients.into()) as u16;
        operations.push(Operation { at_us, node, what: Deed::Call(call) });
        let rate = if strain == Strain::Spike && is_strained { rate * times / 10 } else { rate };
        at_us += 1 + exponential(draw.number(), SECOND / rate.max(1));
    }

    let node = draw.below(servers.into()) as u16;
    let fault = |what| vec![Fault { at_us: begins, until_us: ends, what }];
    let faults = match strain {
        Strain::Spike | Strain::Costly => Vec::new(),
        Strain::Dead => fault(Trouble::Crash { node }),
        Strain::Hung => fault(Trouble::Pause { node }),
        Strain::Slow => {
            fault(Trouble::SlowNode { node, each_us: draw.pick(&[5 * MS, 20 * MS, 100 * MS]) })
        }
        Strain::Restarts => (0..servers)
            .map(|n| {
                let (at_us, node) = (begins + u64::from(n) * each, (node + n) % servers);
                Fault { at_us, until_us: at_us + 3 * SECOND, what: Trouble::Stop { node } }
            })
            .collect(),
    };
    let latency = Latency::Constant { us: draw.pick(&[100, 500, 2_000]) };
    let schedule = Schedule {
        version: VERSION,
        program: PROGRAM.into(),
        comment: String::new(),
        seed,
        fidelity: Fidelity::Frames,
        crypto: Crypto::default(),
        duration_us,
        nodes,
        network: NetworkPlan { latency, ..NetworkPlan::default() },
        disk_sync: None,
        rights: None,
        acceptors: Vec::new(),
        operations,
        faults,
    };
    let timeout_us = timeout_ms * MS;
    Scenario { schedule, strain, servers, capacity_per_second, timeout_us, windows }
}
