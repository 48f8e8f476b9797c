//! A schedule: everything that a run is told beforehand, as plain data.
//!
//! A seed is turned into a schedule by [`crate::draw`]; the schedule, not the seed, is what runs. It can be
//! printed, saved as JSON, edited and replayed. What is random *while* a schedule runs (the fate of one
//! message, the boot number of one life) follows from [`Schedule::seed`] by a keyed hash.
//!
//! How a schedule looks as a file is in `file`, what it may say in `check`.

mod check;
mod file;
mod names;

use serde::{Deserialize, Serialize};

/// The format of schedules that this program reads and writes.
pub const VERSION: u32 = 2;

/// The program that writes schedules, and its version.
pub const PROGRAM: &str = concat!("dunlin-sim ", env!("CARGO_PKG_VERSION"));

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How much of a node is real.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Fidelity {
    /// The mesh over ideal links: whole frames travel.
    #[default]
    Frames,
    /// The whole node: QUIC datagrams travel.
    Packets,
}

/// What QUIC's packets are protected with. Without meaning at frames fidelity.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Crypto {
    /// Nothing but a checksum.
    #[default]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// [`VERSION`].
    pub version: u32,
    /// The program that made it: [`PROGRAM`] of its time. One of another version may take other steps.
    #[serde(default, skip_serializing_if = "is_default")]
    pub program: String,
    /// What it is for, or what it once found.
    #[serde(default, skip_serializing_if = "is_default")]
    pub comment: String,
    /// From which the randomness of the run follows.
    pub seed: u64,
    /// How much of a node is real.
    pub fidelity: Fidelity,
    /// What protects packets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub crypto: Crypto,
    /// How long operations and faults go on, in microseconds. Healing comes after it.
    pub duration_us: u64,
    /// The nodes.
    pub nodes: Vec<NodePlan>,
    /// The network between them when no fault is on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: NetworkPlan,
    /// How long a sync of a node's disk takes. Without it, no time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disk_sync: Option<Latency>,
    /// The nodes' network and tokens; without them all are in the development network.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rights: Option<RightsPlan>,
    /// The acceptors of leases: one, three or five nodes. Without them nobody can offer service
    /// [`SINGLE_ACTIVE`]. In the development network they stay; in a network with tokens, which must be the only one,
    /// [`Trouble::Acceptors`] names others.
    #[serde(default, skip_serializing_if = "is_default")]
    pub acceptors: Vec<u16>,
    /// What users do, by time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub operations: Vec<Operation>,
    /// What goes wrong, by time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub faults: Vec<Fault>,
}

/// The number of a service of which one instance is active at a time.
pub const SINGLE_ACTIVE: u16 = 100;

/// What nodes may do in a network with tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RightsPlan {
    /// For each node the services that it may not call. All else is allowed.
    #[serde(skip_serializing_if = "is_default")]
    pub withheld: Vec<Vec<u16>>,
    /// For each node how far its wall clock is ahead, in milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub clock_ahead_ms: Vec<i64>,
    /// For each node the networks that it is in, its default one first. Without it all are in network 0 alone.
    /// Faults are about rights in network 0; those in the others last.
    #[serde(skip_serializing_if = "is_default")]
    pub networks: Vec<Vec<u16>>,
}

/// The most by which a clock may be too fast or too slow, in millionths: what leases allow for by default. A daemon
/// that slews a clock reaches 8.3 %.
pub const CLOCK_PPM_MAX: i32 = 100_000;

/// The most networks of a schedule.
pub const NETWORKS_MAX: u16 = 4;

/// So often a schedule may name other acceptors: a descriptor names no more former ones.
pub const ACCEPTOR_CHANGES_MAX: usize = dunlin_core::auth::descriptor::FORMER_REGISTRIES_MAX;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// What a node does that has turned against the others. It keeps its key and its token, and its transport is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attack {
    /// It tells others of later lives of theirs, and closes links with every code.
    Lives,
    /// It says that endless frames come before what it sends, and sends large calls.
    Cuts,
    /// Links come from its address with keys of their own. Some say nothing, some send before they greet.
    Strangers,
    /// It subscribes to everything, and acknowledges no event.
    Unacknowledged,
    /// It sends whole documents without pause.
    Documents,
    /// It asks acceptors for more and more leases, and for seals of their epochs.
    Leases,
    /// It calls without pause, with a day for each call, and says of no answer that it came.
    Calls,
    /// It claims versions and descriptors of times to come.
    Claims,
    /// It sends what is no message.
    Noise,
    /// It sends well-formed messages that are not true.
    Lies,
}

impl Attack {
    /// All attacks.
    pub const ALL: [Attack; 10] = [
        Attack::Lives,
        Attack::Cuts,
        Attack::Strangers,
        Attack::Unacknowledged,
        Attack::Documents,
        Attack::Leases,
        Attack::Calls,
        Attack::Claims,
        Attack::Noise,
        Attack::Lies,
    ];
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodePlan {
    /// The nodes that it stays connected to.
    #[serde(skip_serializing_if = "is_default")]
    pub keeps: Vec<u16>,
    /// The services that it has from the start of each life, by number.
    #[serde(skip_serializing_if = "is_default")]
    pub services: Vec<u16>,
    /// Who subscribes there from the start of each life.
    #[serde(skip_serializing_if = "is_default")]
    pub subscribers: Vec<Subscriber>,
    /// By how many millionths its monotonic clock is too fast; negative if it is too slow. At most
    /// [`CLOCK_PPM_MAX`] either way.
    #[serde(skip_serializing_if = "is_default")]
    pub clock_ppm: i32,
    /// Its bounds, where they are not the defaults.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: LimitsPlan,
}

/// Bounds of a node that a schedule may set. Zero means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct LimitsPlan {
    #[serde(skip_serializing_if = "is_default")]
    pub own_lane_from_bytes: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub calls_served_per_peer_max: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub kept_answers_per_peer_max: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub kept_answer_bytes_per_peer_max: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub calls_waiting_per_peer_max: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub steps_per_input_max: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub protocol_version_max: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub events_unacknowledged_max: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub publications_open_max: u32,
    /// Calls of each of its services that run at one time.
    #[serde(skip_serializing_if = "is_default")]
    pub service_running_max: u32,
    /// Calls of each of its services that wait for that. Without it none does.
    #[serde(skip_serializing_if = "is_default")]
    pub service_waiting_max: u32,
}

/// How long a message is under way, or something else takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkPlan {
    /// How long a message is under way.
    pub latency: Latency,
    /// How many bytes a path carries in a microsecond.
    pub bytes_per_us: u64,
    /// At frames fidelity: how many frames a link takes that have not arrived.
    pub window_frames: u32,
}

impl Default for NetworkPlan {
    /// A quick network without surprises.
    fn default() -> Self {
        let latency = Latency::Constant { us: 200 };
        NetworkPlan { latency, bytes_per_us: 125, window_frames: 1_024 }
    }
}

/// Something that a user does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Operation {
    /// When, in microseconds.
    pub at_us: u64,
    /// At which node.
    pub node: u16,
    /// What.
    #[serde(flatten)]
    pub what: Deed,
}

/// What a user does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Deed {
    /// Calls something.
    Call(Call),
    /// A client opens a stream.
    Stream(StreamPlan),
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
    /// Has an active service give its lease up, for others to take.
    StepDown { service: u16 },
    /// Gives up the connection to a peer.
    Disconnect { peer: u16 },
    /// Wants it again.
    Connect { peer: u16 },
}

/// One call of the built-in workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Which service; one that no node has stands for a path that nobody serves.
    pub service: u16,
    /// What its handler does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub action: Action,
    /// Which node is to serve it; none leaves it to the caller's node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target: Option<u16>,
    /// How long the caller waits, in milliseconds.
    pub timeout_ms: u32,
    /// Without a target: only services of version 1.N and later will do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub minor_least: Option<u16>,
    /// Without a target: by which rule an instance is chosen, if several will do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rule: Rule,
    /// Whether it may run more than once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub idempotent: bool,
    /// Whether it is made once, whatever comes of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub once: bool,
    /// After this time another instance is asked too, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hedge_ms: Option<u32>,
    /// Filler in the argument, in bytes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub argument_bytes: u32,
    /// Filler in the answer, in bytes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub answer_bytes: u32,
    /// The caller drops the call after this time, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cancel_after_ms: Option<u32>,
}

impl Call {
    /// A call that is answered at once, and nothing else about it.
    pub fn plain(service: u16, timeout_ms: u32) -> Call {
        Call {
            service,
            action: Action::Echo,
            target: None,
            timeout_ms,
            minor_least: None,
            rule: Rule::Default,
            idempotent: false,
            once: false,
            argument_bytes: 0,
            answer_bytes: 0,
            cancel_after_ms: None,
            hedge_ms: None,
        }
    }
}

/// One subscriber of the built-in workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subscriber {
    /// In which network.
    #[serde(skip_serializing_if = "is_default")]
    pub network: u16,
    /// The topics that it wants.
    #[serde(skip_serializing_if = "is_default")]
    pub pattern: String,
    /// The group that it joins, by number.
    #[serde(skip_serializing_if = "is_default")]
    pub group: Option<u16>,
    /// Whether another member may get what came to an unknown end.
    #[serde(skip_serializing_if = "is_default")]
    pub at_least_one: bool,
    /// The service that it belongs to, by number.
    #[serde(skip_serializing_if = "is_default")]
    pub service: Option<u16>,
    /// How many events may wait for it; zero means the default.
    #[serde(skip_serializing_if = "is_default")]
    pub queue: u32,
    /// Whether it misses what has waited longest, and not what is newest.
    #[serde(skip_serializing_if = "is_default")]
    pub drops_oldest: bool,
    /// It reads nothing at first, for so long.
    #[serde(skip_serializing_if = "is_default")]
    pub stalls_ms: u32,
    /// Then, for so long, it is slow:
    #[serde(skip_serializing_if = "is_default")]
    pub slow_ms: u32,
    /// so long for each event.
    #[serde(skip_serializing_if = "is_default")]
    pub each_ms: u32,
    /// It leaves after this time; without it, it stays.
    #[serde(skip_serializing_if = "is_default")]
    pub lasts_ms: Option<u32>,
}

/// One stream of the built-in workload, whose handler sends back what comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamPlan {
    /// To which service.
    pub service: u16,
    /// Which node is to serve it; none leaves it to the opener's node.
    #[serde(skip_serializing_if = "is_default")]
    pub target: Option<u16>,
    /// How many items are sent.
    pub items: u32,
    /// The most filler in one, in bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub bytes: u32,
    /// How long the handler waits before each item, in milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub handler_ms: u32,
    /// How long the opener's reader waits before each item, in milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub reader_ms: u32,
    /// The opener drops the stream when it has sent so many.
    #[serde(skip_serializing_if = "is_default")]
    pub cut_after: Option<u32>,
    /// The handler fails when it has taken so many.
    #[serde(skip_serializing_if = "is_default")]
    pub fail_after: Option<u32>,
}

/// One event of the built-in workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Publish {
    /// In which network.
    #[serde(skip_serializing_if = "is_default")]
    pub network: u16,
    /// Its topic. Topics below `eN` are for those that may call service N.
    #[serde(skip_serializing_if = "is_default")]
    pub topic: String,
    /// Whether it stays on its node.
    #[serde(skip_serializing_if = "is_default")]
    pub local: bool,
    /// The one node that it is for.
    #[serde(skip_serializing_if = "is_default")]
    pub target: Option<u16>,
    /// Whether one subscriber of each service is enough.
    #[serde(skip_serializing_if = "is_default")]
    pub one_per_service: bool,
    /// Within what time its publisher wants to know what became of it, in milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub confirm_ms: Option<u32>,
    /// How long its publisher waits for those who are slow, in milliseconds; without it, not at all.
    #[serde(skip_serializing_if = "is_default")]
    pub patience_ms: Option<u32>,
    /// Filler, in bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub bytes: u32,
}

/// By which rule a call goes to one of several instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Action {
    /// Answers at once.
    #[default]
    Echo,
    /// Answers at once, in raw bytes.
    Bulk,
    /// Answers after a while.
    Sleep { ms: u32 },
    /// Calls another service, and answers with what that said.
    Relay {
        service: u16,
        #[serde(default, skip_serializing_if = "is_default")]
        target: Option<u16>,
    },
    /// Answers with an error of its own.
    Refuse,
    /// Panics.
    Panic,
    /// Reads or writes one of the registers behind the single-active service, which takes so long.
    Register {
        key: u8,
        what: Touch,
        #[serde(default, skip_serializing_if = "is_default")]
        ms: u32,
    },
}

/// What is done to a register. What is written is a number that nothing else writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Touch {
    /// Read what the active instance knows of it.
    Read,
    /// Read it where it is stored.
    ReadStored,
    /// Write it.
    Write,
    /// Write it if it holds what the client was last told.
    CompareAndSet,
}

/// Something that goes wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Fault {
    /// From when, in microseconds.
    pub at_us: u64,
    /// Until when, in microseconds.
    pub until_us: u64,
    /// What.
    #[serde(flatten)]
    pub what: Trouble,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Trouble {
    /// Messages are lost: on one directed path, or on all.
    Loss {
        per_mille: u32,
        #[serde(default, skip_serializing_if = "is_default")]
        path: Option<(u16, u16)>,
    },
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
    /// The node takes so long for each thing that happens to it; what comes meanwhile waits.
    SlowNode { node: u16, each_us: u64 },
    /// The node starts anew on a disk whose syncs take so much longer until the end.
    SlowDisk { node: u16, extra_us: u64 },
    /// The node starts anew on a disk that takes nothing more. It stops, and starts again at the end.
    FullDisk { node: u16 },
    /// The node starts anew on a disk that cannot sync. It stops, and starts again at the end.
    FailSync { node: u16 },
    /// The node starts anew and dies while its disk syncs, so that nobody knows what it holds. It starts again at the
    /// end.
    TornWrite { node: u16 },
    /// The node dies, and a record on its disk becomes unreadable. It starts again at the end, without that record.
    Rot { node: u16 },
    /// The node's wall clock steps by so much, and back at the end.
    Clock { node: u16, by_ms: i64 },
    /// The node's token expires, by the true time; it gets a new one at the end.
    Lapse { node: u16 },
    /// The node's token is revoked, and these are told. At the end all are, and the node gets a new one.
    Revoke { node: u16, told: Vec<u16> },
    /// The root of the network names these as its acceptors of leases, and those `told` hear of it. At the end all do.
    /// In worlds that change them a node that starts goes by the descriptor that it had.
    Acceptors { members: Vec<u16>, told: Vec<u16> },
    /// The node dies, and until the end somebody who holds its key pretends to a right. `victim` is whose
    /// token a thief shows.
    Impostor { node: u16, forgery: Forgery, victim: u16 },
    /// What is sent to the node, and what it sends, is held until the end, and then goes on.
    Clog { node: u16 },
    /// The path between these two, each way, carries so many bytes in a millisecond. What would wait for that longer
    /// than said is lost.
    Narrow { a: u16, b: u16, bytes_per_ms: u32, queue_ms: u32 },
    /// Larger datagrams are lost between these two. Never drawn at frames fidelity: frames know no datagrams.
    Mtu { a: u16, b: u16, bytes: u32 },
    /// The node dies, and until the end what runs there in its name attacks the others, this often. One that ends after
    /// the schedule's duration goes on when the other faults are over: the honest nodes must find each other, and be served, beside
    /// it. At frames fidelity only.
    Hostile { node: u16, attack: Attack, every_us: u64 },
}
