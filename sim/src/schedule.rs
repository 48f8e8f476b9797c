//! A schedule: everything that a run is told beforehand, as plain data.
//!
//! A seed is turned into a schedule by [`crate::draw`]; the schedule, not the seed, is what runs. It can be
//! printed, saved as JSON, edited and replayed. What is random *while* a schedule runs (the fate of one
//! message, the boot number of one life) follows from [`Schedule::seed`] by a keyed hash.

use serde::{Deserialize, Serialize};

use crate::faults::FaultKind;

/// The format of schedules that this program reads and writes.
pub const VERSION: u32 = 1;

/// How much of a node is real.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Fidelity {
    /// The mesh over ideal links: whole frames travel.
    Frames,
    /// The whole node: QUIC datagrams travel.
    Packets,
}

/// What QUIC's packets are protected with. Without meaning at frames fidelity.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Crypto {
    /// Nothing but a checksum.
    Null,
    /// TLS 1.3 with seeded randomness.
    Tls,
}

impl std::fmt::Display for Fidelity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fidelity::Frames => "frames",
            Fidelity::Packets => "packets",
        })
    }
}

impl std::fmt::Display for Crypto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Crypto::Null => "null",
            Crypto::Tls => "tls",
        })
    }
}

/// Everything that a run is told beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// [`VERSION`].
    pub version: u32,
    /// From which the randomness of the run follows.
    pub seed: u64,
    /// How much of a node is real.
    pub fidelity: Fidelity,
    /// What protects packets.
    pub crypto: Crypto,
    /// How long operations and faults go on, in microseconds. Healing comes after it.
    pub duration_us: u64,
    /// The nodes.
    pub nodes: Vec<NodePlan>,
    /// The network between them when no fault is on.
    pub network: NetworkPlan,
    /// The nodes' network and tokens; without them all are in the development network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<RightsPlan>,
    /// What users do, by time.
    pub operations: Vec<Operation>,
    /// What goes wrong, by time.
    pub faults: Vec<Fault>,
}

/// What nodes may do in a network with tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RightsPlan {
    /// For each node the services that it may not call. All else is allowed.
    pub withheld: Vec<Vec<u16>>,
    /// For each node how far its wall clock is ahead, in milliseconds.
    pub clock_ahead_ms: Vec<i64>,
    /// For each node the networks that it is in, its default one first. Without it all are in network 0 alone.
    /// Faults are about rights in network 0; those in the others last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Vec<u16>>,
}

/// The most networks of a schedule.
pub const NETWORKS_MAX: u16 = 4;

/// The networks that a node is in, its default one first.
pub fn networks_of(networks: &[Vec<u16>], node: u16) -> &[u16] {
    networks.get(usize::from(node)).map_or(&[0], |networks| networks)
}

/// The first of a node's networks that another one is in too.
pub fn shared_network(networks: &[Vec<u16>], node: u16, other: u16) -> Option<u16> {
    let others = networks_of(networks, other);
    networks_of(networks, node).iter().copied().find(|network| others.contains(network))
}

/// The network in which a service is, by its number.
pub fn network_of_service(networks: &[Vec<u16>], service: u16) -> u16 {
    service % networks.iter().flatten().max().map_or(1, |last| last + 1)
}

/// How somebody pretends to have a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forgery {
    /// Another node's token.
    Stolen,
    /// A token of an issuer whom the network does not trust.
    Untrusted,
    /// A token for another network.
    OtherNetwork,
    /// A token that gives more than the one that it was made from.
    Widened,
    /// A token whose last signature is wrong.
    BadSignature,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The nodes that it stays connected to.
    pub keeps: Vec<u16>,
    /// The services that it has from the start of each life, by number.
    pub services: Vec<u16>,
    /// Who subscribes there from the start of each life.
    #[serde(default)]
    pub subscribers: Vec<Subscriber>,
    /// Its bounds, where they are not the defaults.
    pub limits: LimitsPlan,
}

/// Bounds of a node that a schedule may set. Zero means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct LimitsPlan {
    pub own_lane_from_bytes: u32,
    pub calls_served_per_peer_max: u32,
    pub kept_answers_per_peer_max: u32,
    pub kept_answer_bytes_per_peer_max: u32,
    pub calls_waiting_per_peer_max: u32,
    pub steps_per_input_max: u32,
    pub protocol_version_max: u32,
    pub events_unacknowledged_max: u32,
    pub publications_open_max: u32,
}

/// How long a message is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Latency {
    /// Always so long.
    Constant { us: u64 },
    /// At least so long, and on average so much longer.
    Exponential { least_us: u64, mean_us: u64 },
    /// Mostly fast, sometimes slow.
    Bimodal { fast_us: u64, slow_us: u64, slow_per_mille: u32 },
}

/// The network when no fault is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// How long a message is under way.
    pub latency: Latency,
    /// How many bytes a path carries in a microsecond.
    pub bytes_per_us: u64,
    /// At frames fidelity: how many frames a link takes that have not arrived.
    pub window_frames: u32,
}

/// Something that a user does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// When, in microseconds.
    pub at_us: u64,
    /// At which node.
    pub node: u16,
    /// What.
    pub what: Deed,
}

/// What a user does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Deed {
    /// Calls something.
    Call(Call),
    /// Publishes an event.
    Publish(Publish),
    /// Subscribes for a while.
    Subscribe(Subscriber),
    /// Lets a service take no calls for now.
    PauseService { service: u16 },
    /// Lets it take calls again.
    ResumeService { service: u16 },
    /// Ends a service.
    StopService { service: u16 },
    /// Registers a service.
    StartService { service: u16 },
    /// Gives up the connection to a peer.
    Disconnect { peer: u16 },
    /// Wants it again.
    Connect { peer: u16 },
}

/// One call of the built-in workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Which service; one that no node has stands for a path that nobody serves.
    pub service: u16,
    /// What its handler does.
    pub action: Action,
    /// Which node is to serve it; none leaves it to the caller's node.
    pub target: Option<u16>,
    /// How long the caller waits, in milliseconds.
    pub timeout_ms: u32,
    /// Without a target: only services of version 1.N and later will do.
    #[serde(default)]
    pub minor_least: Option<u16>,
    /// Without a target: by which rule an instance is chosen, if several will do.
    #[serde(default)]
    pub rule: Rule,
    /// Whether it may run more than once.
    pub idempotent: bool,
    /// Filler in the argument, in bytes.
    pub argument_bytes: u32,
    /// Filler in the answer, in bytes.
    pub answer_bytes: u32,
    /// The caller drops the call after this time, in milliseconds.
    pub cancel_after_ms: Option<u32>,
}

/// One subscriber of the built-in workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    /// In which network.
    pub network: u16,
    /// The topics that it wants.
    pub pattern: String,
    /// The group that it joins, by number.
    pub group: Option<u16>,
    /// Whether another member may get what came to an unknown end.
    pub at_least_one: bool,
    /// The service that it belongs to, by number.
    pub service: Option<u16>,
    /// How many events may wait for it; zero means the default.
    pub queue: u32,
    /// Whether it misses what has waited longest, and not what is newest.
    pub drops_oldest: bool,
    /// It reads nothing at first, for so long.
    pub stalls_ms: u32,
    /// Then, for so long, it is slow:
    pub slow_ms: u32,
    /// so long for each event.
    pub each_ms: u32,
    /// It leaves after this time; without it, it stays.
    pub lasts_ms: Option<u32>,
}

/// One event of the built-in workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// In which network.
    pub network: u16,
    /// Its topic. Topics below `eN` are for those that may call service N.
    pub topic: String,
    /// Whether it stays on its node.
    pub local: bool,
    /// The one node that it is for.
    pub target: Option<u16>,
    /// Whether one subscriber of each service is enough.
    pub one_per_service: bool,
    /// Within what time its publisher wants to know what became of it, in milliseconds.
    pub confirm_ms: Option<u32>,
    /// How long its publisher waits for those who are slow, in milliseconds; without it, not at all.
    pub patience_ms: Option<u32>,
    /// Filler, in bytes.
    pub bytes: u32,
}

/// By which rule a call goes to one of several instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Rule {
    /// As the service says.
    #[default]
    Default,
    RoundRobin,
    Random,
    LeastLoaded,
    /// By the number of the service as a key.
    ByKey,
}

impl Rule {
    /// All rules.
    pub const ALL: [Rule; 5] =
        [Rule::Default, Rule::RoundRobin, Rule::Random, Rule::LeastLoaded, Rule::ByKey];
}

/// What a handler of the built-in workload does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Action {
    /// Answers at once.
    Echo,
    /// Answers at once, in raw bytes.
    Bulk,
    /// Answers after a while.
    Sleep { ms: u32 },
    /// Calls another service, and answers with what that said.
    Relay { service: u16, target: Option<u16> },
    /// Answers with an error of its own.
    Refuse,
    /// Panics.
    Panic,
}

/// Something that goes wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// From when, in microseconds.
    pub at_us: u64,
    /// Until when, in microseconds.
    pub until_us: u64,
    /// What.
    pub what: Trouble,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Trouble {
    /// Messages are lost: on one directed path, or on all.
    Loss { per_mille: u32, path: Option<(u16, u16)> },
    /// Datagrams arrive twice. At frames fidelity links are reliable, and it is never drawn.
    Duplicate { per_mille: u32 },
    /// Datagrams arrive with a flipped bit. Never drawn at frames fidelity.
    Corrupt { per_mille: u32 },
    /// Some messages take longer, so that others overtake them.
    Reorder { per_mille: u32, extra_us: u64 },
    /// One pair is slow, both ways.
    Slow { a: u16, b: u16, extra_us: u64 },
    /// These nodes cannot reach the others, nor the others them.
    Partition { side: Vec<u16> },
    /// What these send does not reach those.
    OneWay { from: Vec<u16>, to: Vec<u16> },
    /// These two cannot reach each other; everybody else can reach both.
    Partial { a: u16, b: u16 },
    /// The node dies without a word, and starts again at the end.
    Crash { node: u16 },
    /// The node is shut down, and starts again at the end.
    Stop { node: u16 },
    /// The node does nothing for a while, and then goes on as if no time had passed.
    Pause { node: u16 },
    /// Both nodes drop their connection and dial each other at one instant.
    Dials { a: u16, b: u16 },
    /// The node dies without a word and with its disk: it starts again at the end, and has forgotten how
    /// often it has started.
    LoseDisk { node: u16 },
    /// The node dies without a word, and starts again at the end at another address, which those who keep it
    /// are told.
    Readdress { node: u16 },
    /// An old handshake of `from` reaches `to` once more, on a link of its own; and what `from` said there behind
    /// it. At frames fidelity only: QUIC lets no old packet in.
    Replay { from: u16, to: u16 },
    /// The node's wall clock steps by so much, and back at the end.
    Clock { node: u16, by_ms: i64 },
    /// The node's token expires, by the true time; it gets a new one at the end.
    Lapse { node: u16 },
    /// The node's token is revoked, and these are told. At the end all are, and the node gets a new one.
    Revoke { node: u16, told: Vec<u16> },
    /// The node dies, and until the end somebody who holds its key pretends to a right. `victim` is whose
    /// token a thief shows.
    Impostor { node: u16, forgery: Forgery, victim: u16 },
}

impl Schedule {
    /// Reads a schedule from JSON and checks that it makes sense.
    ///
    /// # Errors
    ///
    /// When it is not well-formed, of another version, or names a node that it does not have.
    pub fn from_json(text: &str) -> Result<Schedule, String> {
        let schedule: Schedule = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if schedule.version != VERSION {
            return Err(format!(
                "the schedule has version {}, this program reads version {VERSION}",
                schedule.version
            ));
        }
        schedule.check()?;
        Ok(schedule)
    }

    /// The schedule as JSON, for people.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a schedule is plain data")
    }

    fn check(&self) -> Result<(), String> {
        let count = self.nodes.len();
        let known = |node: &u16| usize::from(*node) < count;
        let all_known = |nodes: &[u16]| nodes.iter().all(known);
        if count == 0 || count > 60_000 {
            return Err(format!("{count} nodes; from 1 to 60,000 are possible"));
        }
        if self.network.bytes_per_us == 0 || self.network.window_frames == 0 {
            return Err("network.bytes_per_us and network.window_frames must not be 0".into());
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if !all_known(&node.keeps) || node.keeps.contains(&(index as u16)) {
                return Err(format!("nodes[{index}].keeps names itself or an unknown node"));
            }
        }
        for (index, operation) in self.operations.iter().enumerate() {
            let fine = match &operation.what {
                Deed::Call(call) => call.target.iter().all(known),
                Deed::Publish(publish) => publish.target.iter().all(known),
                Deed::Disconnect { peer } | Deed::Connect { peer } => {
                    known(peer) && *peer != operation.node
                }
                _ => true,
            };
            if !fine || !known(&operation.node) {
                return Err(format!("operations[{index}] names a node that is not there"));
            }
        }
        for (index, fault) in self.faults.iter().enumerate() {
            let fine = match &fault.what {
                Trouble::Loss { path, .. } => path.iter().all(|(a, b)| known(a) && known(b)),
                Trouble::Slow { a, b, .. }
                | Trouble::Partial { a, b }
                | Trouble::Dials { a, b }
                | Trouble::Replay { from: a, to: b } => known(a) && known(b) && a != b,
                Trouble::Partition { side } => all_known(side),
                Trouble::OneWay { from, to } => all_known(from) && all_known(to),
                Trouble::Crash { node }
                | Trouble::Stop { node }
                | Trouble::Pause { node }
                | Trouble::LoseDisk { node }
                | Trouble::Readdress { node }
                | Trouble::Clock { node, .. }
                | Trouble::Lapse { node } => known(node),
                Trouble::Revoke { node, told } => known(node) && all_known(told),
                Trouble::Impostor { node, victim, .. } => known(node) && known(victim),
                Trouble::Duplicate { .. } | Trouble::Corrupt { .. } | Trouble::Reorder { .. } => {
                    true
                }
            };
            if !fine || fault.until_us < fault.at_us {
                return Err(format!(
                    "faults[{index}] names a node that is not there, or ends before it begins"
                ));
            }
            if self.rights.is_none() && FaultKind::of(&fault.what).is_about_rights() {
                return Err(format!("faults[{index}] is about rights, and the schedule has none"));
            }
        }
        let lists = self.rights.iter().map(|r| r.withheld.len().max(r.clock_ahead_ms.len()));
        if lists.into_iter().any(|len| len > count) {
            return Err("rights are given to more nodes than there are".into());
        }
        for (index, networks) in self.rights.iter().flat_map(|r| &r.networks).enumerate() {
            let mut sorted = networks.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let fine = sorted.len() == networks.len() && !networks.is_empty();
            if !fine || networks.iter().any(|network| *network >= NETWORKS_MAX) || index >= count {
                return Err(format!(
                    "rights.networks[{index}] must name at least one network, each once and below \
                     {NETWORKS_MAX}, of a node that is there"
                ));
            }
        }
        Ok(())
    }
}
