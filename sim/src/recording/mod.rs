//! What happened in a run, as data: messages, lives, links, faults, operations, and what was broken.
//!
//! ```text
//! run -> Tape -> Recording -> the page of `view`, ShiViz, pcapng, JSON
//! ```
//!
//! A run is recorded only when that is asked for ([`crate::run::run_recorded`]); a run that is not costs nothing for
//! it, and takes the same steps. A recording is bounded by its [`Extent`]: of messages and marks the newest stay,
//! because what went wrong is near the end.

mod label;
mod tape;

use serde::{Deserialize, Serialize};

pub(crate) use label::{datagram, end_of_call, frame};
pub(crate) use tape::{Sent, Tape};

/// The format of recordings that this program writes.
pub const VERSION: u32 = 1;

/// How much of a run is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Messages and marks from this time on, in nanoseconds.
    pub from: u64,
    /// Messages and marks before this time, in nanoseconds.
    pub until: u64,
    /// At most so many messages, and as many marks. Of more, the newest stay.
    pub entries_max: usize,
    /// Also the bytes of datagrams, and the secrets of TLS: for a capture file.
    pub datagrams: bool,
}

impl Default for Extent {
    /// All of a run, up to 200,000 messages, without the bytes. The number is a guess: a page of about 10 MB.
    fn default() -> Self {
        Extent { from: 0, until: u64::MAX, entries_max: 200_000, datagrams: false }
    }
}

/// What happened in a run. Times are in nanoseconds from its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// [`VERSION`].
    pub version: u32,
    /// What the run came to.
    pub summary: Summary,
    /// When its faults were over.
    pub healed_at: Option<u64>,
    /// When it ended.
    pub end: u64,
    /// How many nodes there were.
    pub nodes: u16,
    /// The lives of nodes, by node and time.
    pub lives: Vec<Life>,
    /// When nodes were paused.
    pub pauses: Vec<Pause>,
    /// What went wrong on purpose, by its beginning.
    pub faults: Vec<FaultSpan>,
    /// The links that meshes had, each at each of its two ends.
    pub links: Vec<LinkSpan>,
    /// Who held the lease of the single-active service, by the beginning.
    #[serde(default)]
    pub leases: Vec<LeaseSpan>,
    /// Calls and publications.
    pub operations: Vec<Operation>,
    /// Frames and, at packets fidelity, the datagrams that they travelled in, by the time they were sent.
    pub messages: Vec<Message>,
    /// What nodes did and noticed, by time.
    pub marks: Vec<Mark>,
    /// What was broken.
    pub breaches: Vec<Breach>,
    /// What was left out because there was too much.
    pub left_out: LeftOut,
    /// Datagrams as they were sent, if they were asked for.
    #[serde(skip)]
    pub datagrams: Vec<Datagram>,
    /// The secrets of TLS sessions, as lines of an SSLKEYLOGFILE.
    #[serde(skip)]
    pub secrets: Vec<String>,
}

/// What a run came to, as [`crate::Outcome`] says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Summary {
    pub seed: u64,
    pub fidelity: String,
    pub crypto: String,
    /// `clean`, `safety`, `liveness` or `crash`.
    pub verdict: String,
    /// The line that runs it again.
    pub reproduce: String,
    pub hash: Option<String>,
    pub events: u64,
    pub calls: u64,
    pub answered: u64,
    pub published: u64,
    pub delivered: u64,
}

/// One life of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Which node.
    pub node: u16,
    /// Which of its lives, from 1.
    pub life: u32,
    /// When it began.
    pub from: u64,
    /// When it ended; it may last to the end.
    pub until: Option<u64>,
    /// How it ended.
    pub end: String,
}

/// A pause of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Pause {
    pub node: u16,
    pub from: u64,
    pub until: Option<u64>,
}

/// A fault, as it was on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSpan {
    /// Its place in the schedule.
    pub index: usize,
    /// Its kind's name in reports.
    pub kind: String,
    /// The nodes that it concerns; none means all.
    pub nodes: Vec<u16>,
    /// When it began.
    pub from: u64,
    /// When it ended, by itself or by healing.
    pub until: Option<u64>,
    /// What the schedule says.
    pub what: String,
}

/// A link as one of its ends had it: greeted, and not yet gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSpan {
    /// At which node.
    pub node: u16,
    /// To which other.
    pub peer: u16,
    /// The number of the link at that end.
    pub link: u64,
    /// Since when.
    pub from: u64,
    /// Until when.
    pub until: Option<u64>,
}

/// That a node held the lease of the single-active service, by one grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSpan {
    /// Which node.
    pub node: u16,
    /// In which of its lives.
    pub life: u32,
    /// The fencing token of the grant: epoch and round.
    pub token: String,
    /// Since when.
    pub from: u64,
    /// Until when: given up, run out, or the node died.
    pub until: Option<u64>,
}

/// What an operation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Doing {
    Call,
    Publish,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Nobody was told of an end.
    Open,
    /// With a result; a publication: accepted.
    Done,
    /// With an error of the handler; a publication: refused.
    Refused,
    /// Without an answer of the handler.
    Failed,
    /// Its caller gave it up, or died.
    Dropped,
}

/// A call or a publication, as who made it saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Which of both.
    pub doing: Doing,
    /// Its number among its like, from 1.
    pub token: u64,
    /// At which node.
    pub node: u16,
    /// When it began.
    pub from: u64,
    /// When it ended.
    pub until: Option<u64>,
    /// How.
    pub ending: Ending,
    /// What it was.
    pub what: String,
    /// What came of it.
    pub result: String,
    /// Where and when its handler ran, or a subscriber found the event.
    pub seen: Vec<(u16, u64)>,
}

/// What a message is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Kind {
    Dial,
    DialAnswer,
    DialDone,
    KeepAlive,
    Close,
    Reset,
    Hello,
    Claims,
    Confirm,
    Refuse,
    Supersede,
    Drained,
    Cut,
    Directory,
    Heard,
    Heartbeat,
    Call,
    Reply,
    Cancel,
    Event,
    EventsFrom,
    EventsSkipped,
    EventAck,
    Lease,
    /// A frame that the recorder could not read.
    Unreadable,
    QuicInitial,
    QuicHandshake,
    QuicRetry,
    QuicData,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Kind; 29] = [
        Kind::Dial,
        Kind::DialAnswer,
        Kind::DialDone,
        Kind::KeepAlive,
        Kind::Close,
        Kind::Reset,
        Kind::Hello,
        Kind::Claims,
        Kind::Confirm,
        Kind::Refuse,
        Kind::Supersede,
        Kind::Drained,
        Kind::Cut,
        Kind::Directory,
        Kind::Heard,
        Kind::Heartbeat,
        Kind::Call,
        Kind::Reply,
        Kind::Cancel,
        Kind::Event,
        Kind::EventsFrom,
        Kind::EventsSkipped,
        Kind::EventAck,
        Kind::Lease,
        Kind::Unreadable,
        Kind::QuicInitial,
        Kind::QuicHandshake,
        Kind::QuicRetry,
        Kind::QuicData,
    ];
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It arrived.
    Arrived,
    /// It was lost on its way.
    Lost,
    /// It arrived where nobody was.
    Unheard,
    /// It arrived at a node that was paused, and waited.
    Waited,
    /// It arrived damaged.
    Damaged,
}

/// A frame or a datagram. At packets fidelity a frame is under way from when QUIC took it to when the other end has it
/// whole, however often its packets are lost on the way; it is lost if its link is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// When it was sent.
    pub at: u64,
    /// By whom.
    pub from: u16,
    /// To whom.
    pub to: u16,
    /// How long it was under way; of one that was lost, zero.
    pub took: u64,
    /// What it is.
    pub kind: Kind,
    /// What became of it.
    pub fate: Fate,
    /// How long it is, in bytes.
    pub bytes: u32,
    /// On which link, at frames fidelity.
    pub link: Option<u32>,
    /// What it says, in a few words; and what it was lost to.
    pub what: String,
}

/// What a mark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum About {
    Life,
    Peer,
    Service,
    Call,
    Event,
    Rights,
    /// What a workload says: [`crate::Ledger::note`].
    Note,
}

impl About {
    /// All of them, in the order of their numbers.
    pub const ALL: [About; 7] = [
        About::Life,
        About::Peer,
        About::Service,
        About::Call,
        About::Event,
        About::Rights,
        About::Note,
    ];
}

/// Something that a node did or noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Mark {
    pub at: u64,
    pub node: u16,
    pub about: About,
    pub what: String,
}

/// A rule that was broken, or what did not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Breach {
    pub at: u64,
    pub node: Option<u16>,
    pub rule: String,
    pub what: String,
}

/// What was left out because there was too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// So many messages.
    pub messages: u64,
    /// So many marks.
    pub marks: u64,
    /// Before this time messages or marks are missing.
    pub before: u64,
}

/// A datagram as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// When.
    pub at: u64,
    /// At which node.
    pub node: u16,
    /// From which address.
    pub from: std::net::SocketAddrV4,
    /// To which address.
    pub to: std::net::SocketAddrV4,
    /// Its bytes, as they left.
    pub data: bytes::Bytes,
    /// What became of it.
    pub fate: String,
}
