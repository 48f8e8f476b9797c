//! What is said over the control socket.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::PeerId;
use dunlin_core::base::BoundReport;
use dunlin_core::directory::breaker::BreakerState;
use dunlin_core::directory::vitals::Vitals;
use dunlin_core::directory::{OfferState, ServiceOffer, Spread};
use dunlin_core::mesh::InstanceStats;
use dunlin_core::rpc::{CallError, Executed};
use dunlin_core::service::ContentType;
use serde::{Deserialize, Serialize};

use super::event::{EventEntry, MissedEntry, PublishQuestion, PublishedEntry, SubscribeQuestion};
use super::leader::LeaderEntry;
use crate::node::PeerInfo;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// The first word: the versions of the protocol that the client speaks.
    Hello {
        /// The lowest.
        version_min: u32,
        /// The highest.
        version_max: u32,
    },
    /// Cancel what is under way.
    Stop,
    /// Call an action; the body is the argument. Answered by [`Response::Answer`].
    Call(CallQuestion),
    /// Everything that is served, here and by connected peers: [`Response::Service`], each, and
    /// [`Response::Done`].
    Services,
    /// How services do, here and at peers, as the node's own calls saw them: [`Response::Stats`], each, and
    /// [`Response::Done`].
    Stats,
    /// Everybody who is connected: [`Response::Peer`], each, and [`Response::Done`].
    Peers,
    /// Every bound of the node, what is in use of it and what it has refused: [`Response::Limit`], each, and
    /// [`Response::Done`].
    Limits,
    /// How it stands with those who decide which instance of a single-active service is active:
    /// [`Response::Acceptors`], one for each network that has some, and [`Response::Done`].
    Acceptors,
    /// How long a peer takes to answer: [`Response::Pong`].
    Ping {
        /// The peer.
        #[serde(with = "text")]
        peer: PeerId,
        /// How long to wait, in milliseconds.
        timeout_ms: u64,
    },
    /// Have the active instance of a single-active service, on this node, let another one be active: answered by
    /// [`Response::Done`].
    StepDown {
        /// The service's path.
        service: String,
    },
    /// Have a service of this node take no calls for now: answered by [`Response::Done`] once it is paused.
    Pause {
        /// The service's path.
        service: String,
    },
    /// Have a paused service of this node take calls again: answered by [`Response::Done`].
    Resume {
        /// The service's path.
        service: String,
    },
    /// Who is active of single-active services, until [`Request::Stop`]: [`Response::Leader`] for each that is
    /// known, and again whenever that changes, and [`Response::Done`] when the node stops.
    WatchLeaders {
        /// Only the service with this path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// Publish an event; the body is its payload. Answered by [`Response::Published`].
    Publish(PublishQuestion),
    /// Subscribe, until [`Request::Stop`]: [`Response::Subscribed`], then [`Response::Event`] and
    /// [`Response::Missed`] as they come, and [`Response::Done`] when the node stops. After `Stop` what has come follows,
    /// and `Done`; a second `Stop` cancels that.
    Subscribe(SubscribeQuestion),
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Response {
    /// The first word, to a client that can be talked to.
    Welcome {
        /// The version that is spoken from now on.
        version: u32,
        /// The node's id.
        #[serde(with = "text")]
        node: PeerId,
    },
    /// One service of many.
    Service(ServiceEntry),
    /// Who is active of one service.
    Leader(LeaderEntry),
    /// How one instance of many does.
    Stats(StatsEntry),
    /// One peer of many.
    Peer(PeerEntry),
    /// One bound of many.
    Limit(LimitEntry),
    /// The acceptors of one network of many.
    Acceptors(AcceptorsEntry),
    /// A call's answer; the body is what it carries.
    Answer {
        /// How to read the body: [`ContentType`].
        content: u32,
        /// How long it took, in microseconds.
        elapsed_us: u64,
    },
    /// A peer has answered.
    Pong {
        /// How long it took, in microseconds.
        elapsed_us: u64,
    },
    /// An event was accepted.
    Published(PublishedEntry),
    /// What is published from now on comes. The first item of a subscription.
    Subscribed {
        /// Whether every peer of the node knows of the subscription. If not, one was slow, and what it
        /// publishes comes a little later.
        known: bool,
    },
    /// An event; the body is its payload.
    Event(EventEntry),
    /// Events that did not come.
    Missed(MissedEntry),
    /// There is no more.
    Done,
    /// It did not work.
    Failed(Problem),
}

impl Response {
    /// Whether nothing follows it but the answer to another request.
    pub fn is_last(&self) -> bool {
        match self {
            Response::Service(_)
            | Response::Leader(_)
            | Response::Stats(_)
            | Response::Peer(_)
            | Response::Limit(_)
            | Response::Acceptors(_)
            | Response::Subscribed { .. }
            | Response::Event(_)
            | Response::Missed(_) => false,
            Response::Welcome { .. }
            | Response::Answer { .. }
            | Response::Published(_)
            | Response::Pong { .. }
            | Response::Done
            | Response::Failed(_) => true,
        }
    }
}

/// A call to be made, but for its argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallQuestion {
    /// What to call: `[network:]service/action`.
    pub path: String,
    /// Only this peer is to serve it.
    #[serde(default, with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub to: Option<PeerId>,
    /// How long to wait, in milliseconds.
    pub timeout_ms: u64,
    /// The call may run twice: if no answer has come after so many milliseconds, another instance is asked too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge_ms: Option<u64>,
    /// It fails where no instance can serve it at the moment, instead of waiting.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_once: bool,
    /// How to read the argument: [`ContentType`].
    pub content: u32,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallAnswer {
    /// How to read the bytes.
    pub content: ContentType,
    /// What the handler answered.
    pub bytes: Bytes,
    /// How long it took, as the node that called saw it.
    pub elapsed: Duration,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// Names the kind, for programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether a handler has run: `no`, `maybe` or `yes`; none if there was no call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed: Option<String>,
}

impl Problem {
    /// One without a call.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { code: code.into(), message: message.into(), executed: None }
    }

    /// A call that did not run.
    pub(super) fn unrun(code: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { executed: Some("no".into()), ..Problem::new(code, message) }
    }
}

impl From<&CallError> for Problem {
    fn from(error: &CallError) -> Self {
        let executed = match error.executed() {
            Executed::No => "no",
            Executed::Maybe => "maybe",
            Executed::Yes => "yes",
        };
        let message = match error {
            CallError::Application(error) => {
                format!("{}: {} (executed)", error.code, error.message)
            }
            failed => format!("{}: {failed}", failed.code()),
        };
        Problem { executed: Some(executed.into()), ..Problem::new(error.code(), message) }
    }
}

/// One service as one node serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// Who serves it.
    #[serde(with = "text")]
    pub peer: PeerId,
    /// Its path.
    pub service: String,
    /// `running`, `paused` or `standby`.
    pub state: String,
    /// At most one instance of all is active at a time: of those that run, the one with the highest token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_active: bool,
    /// Of an active instance of such a service: the epoch and the round of its fencing token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<(u64, u64)>,
    /// Its version.
    pub version: String,
    /// What it does.
    pub description: String,
    /// How calls are spread if the caller does not say: `round-robin`, `random` or `least-loaded`.
    pub selection: String,
    /// What can be called.
    pub actions: Vec<ActionEntry>,
    /// How it does, as its node says; none of one that is not called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<VitalsEntry>,
}

/// How an instance does, as its own node says it: rough numbers, that change rarely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VitalsEntry {
    /// Calls a second.
    pub rate: u32,
    /// How well it is, in per cent: the calls that were answered.
    pub score: u8,
    /// The time that half of the calls did not exceed, in microseconds.
    pub p50_us: u32,
    /// The time that 99 % of the calls did not exceed, in microseconds.
    pub p99_us: u32,
    /// Calls that run.
    pub running: u32,
    /// Calls that wait for their turn.
    pub waiting: u32,
    /// How many may run and wait; none if nothing bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<(u32, u32)>,
}

impl VitalsEntry {
    fn new(vitals: &Vitals) -> VitalsEntry {
        VitalsEntry {
            rate: vitals.rate,
            score: vitals.score(),
            p50_us: vitals.p50_us,
            p99_us: vitals.p99_us,
            running: vitals.running,
            waiting: vitals.waiting,
            capacity: (vitals.running_max > 0).then_some((vitals.running_max, vitals.waiting_max)),
        }
    }
}

/// One action of a service. What is not known of it is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActionEntry {
    /// The paths that it serves.
    pub pattern: String,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The type of its argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// How its argument is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argument_content: Option<String>,
    /// The type of its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// How its result is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_content: Option<String>,
}

impl ServiceEntry {
    pub(super) fn new(peer: PeerId, offer: &ServiceOffer) -> ServiceEntry {
        let action = |(index, pattern): (usize, &dunlin_core::topic::Pattern)| {
            let pattern = pattern.as_str().to_string();
            match offer.info.actions.get(index) {
                None => ActionEntry { pattern, ..ActionEntry::default() },
                Some(info) => ActionEntry {
                    pattern,
                    description: Some(info.description.clone()),
                    argument: Some(info.argument.clone()),
                    argument_content: Some(info.argument_content.to_string()),
                    result: Some(info.result.clone()),
                    result_content: Some(info.result_content.to_string()),
                },
            }
        };
        let state = match offer.state {
            OfferState::Running => "running",
            OfferState::Paused => "paused",
            OfferState::Standby => "standby",
        };
        let selection = match offer.info.spread {
            Spread::RoundRobin => "round-robin",
            Spread::Random => "random",
            Spread::LeastLoaded => "least-loaded",
        };
        ServiceEntry {
            peer,
            service: offer.path.as_str().to_string(),
            state: state.into(),
            single_active: offer.info.single_active,
            token: offer.info.token.map(|token| (token.epoch, token.round)),
            version: offer.info.version.to_string(),
            description: offer.info.description.clone(),
            selection: selection.into(),
            actions: offer.actions.iter().enumerate().map(action).collect(),
            says: offer.info.vitals.as_ref().map(VitalsEntry::new),
        }
    }
}

/// How one instance of a service did lately. For a service of the node itself that is what its callers saw; for one
/// at a peer, what the node's own calls saw that chose it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatsEntry {
    /// The service's path.
    pub service: String,
    /// Who serves it.
    #[serde(with = "text")]
    pub peer: PeerId,
    /// Whether that is the node itself.
    pub is_own: bool,
    /// Calls under way.
    pub in_flight: usize,
    /// Calls that wait for their turn, at the node itself.
    pub waiting: usize,
    /// Calls that ended lately.
    pub calls: u32,
    /// Those of them to which no answer of the handler came.
    pub failed: u32,
    /// Calls a second, on average.
    pub rate: f64,
    /// The time that half of the calls did not exceed, in microseconds.
    pub p50_us: Option<u64>,
    /// The time that 99 % of the calls did not exceed, in microseconds.
    pub p99_us: Option<u64>,
    /// How well it is, in per cent: the calls that were answered, or 0 while it is left alone.
    pub score: u8,
    /// `closed`, or `open` while it says nothing and is not called, or `half-open` while one call tries it.
    pub breaker: String,
    /// Actions that are not called there, as they failed too often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_alone: Vec<String>,
    /// What its own node says of it, of a peer: of others' calls, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<VitalsEntry>,
}

/// How it stands with the acceptors of a network, as a node knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptorsEntry {
    /// The network's id.
    pub network: String,
    /// The epoch of the acceptors that the node's descriptor names.
    pub epoch: u64,
    /// `none` if the node is none of them; `ready` if it takes part, `waits` if former ones are not sealed yet, and
    /// otherwise `abstains`.
    pub state: String,
    /// If it waits: the epochs of former acceptors of which no majority is known to be sealed.
    pub waits_for: Vec<u64>,
    /// The epochs of former acceptors that an operator has given up.
    pub abandoned: Vec<u64>,
    /// The epoch of later acceptors, which the node's descriptor does not know.
    pub later: Option<u64>,
}

impl AcceptorsEntry {
    pub(super) fn new(info: dunlin_core::mesh::AcceptorsInfo) -> AcceptorsEntry {
        let state = match info {
            dunlin_core::mesh::AcceptorsInfo { is_ours: false, .. } => "none",
            dunlin_core::mesh::AcceptorsInfo { is_ready: true, .. } => "ready",
            _ if !info.waits_for.is_empty() => "waits",
            _ => "abstains",
        };
        AcceptorsEntry {
            network: info.network.to_string(),
            epoch: info.epoch,
            state: state.into(),
            waits_for: info.waits_for,
            abandoned: info.abandoned,
            later: info.later,
        }
    }
}

impl StatsEntry {
    pub(super) fn new(own: PeerId, stats: &InstanceStats) -> StatsEntry {
        let report = &stats.report;
        let micros = |time: Option<Duration>| time.map(|time| time.as_micros() as u64);
        // Of a moment no rate is known.
        let over = report.over.as_secs_f64().max(1.0);
        StatsEntry {
            service: stats.service.as_str().to_string(),
            peer: stats.peer,
            is_own: stats.peer == own,
            in_flight: stats.in_flight,
            waiting: stats.waiting,
            calls: report.calls,
            failed: report.failed,
            rate: f64::from(report.calls) / over,
            p50_us: micros(report.p50),
            p99_us: micros(report.p99),
            score: stats.score(),
            breaker: match stats.breaker {
                BreakerState::Closed => "closed",
                BreakerState::Open { .. } => "open",
                BreakerState::HalfOpen => "half-open",
            }
            .into(),
            left_alone: stats.left_alone.iter().map(|p| p.as_str().to_string()).collect(),
            says: stats.said.as_ref().map(VitalsEntry::new),
        }
    }
}

/// One peer that is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerEntry {
    /// Its id.
    #[serde(with = "text")]
    pub peer: PeerId,
    /// Where it is.
    pub remote: Option<SocketAddr>,
    /// The round-trip time of its oldest link, in microseconds.
    pub rtt_us: Option<u64>,
    /// How many links to it are up.
    pub links: usize,
    /// The paths of what it serves.
    pub services: Vec<String>,
}

impl PeerEntry {
    pub(super) fn new(peer: &PeerInfo) -> PeerEntry {
        let link = peer.links.first();
        let rtt = link.and_then(|link| link.stats.as_ref()).map(|stats| stats.rtt);
        PeerEntry {
            peer: peer.peer,
            remote: link.and_then(|link| link.remote),
            rtt_us: rtt.map(|rtt| rtt.as_micros() as u64),
            links: peer.links.len(),
            services: peer.services.iter().map(|s| s.path.as_str().to_string()).collect(),
        }
    }
}

/// One bound of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitEntry {
    /// Its name.
    pub limit: String,
    /// What it is charged to: address, link, peer, issuer, network or node.
    pub scope: String,
    /// Of what its numbers are: empty for a count, bytes, per second, ms.
    pub unit: String,
    /// Its value.
    pub max: u64,
    /// How much is in use, of the account that uses most. None where that is not counted.
    pub used: Option<u64>,
    /// How often it has refused something since the node started.
    pub refused: u64,
}

impl LimitEntry {
    pub(super) fn new(report: &BoundReport) -> LimitEntry {
        LimitEntry {
            limit: report.bound.name().to_string(),
            scope: report.bound.scope().name().to_string(),
            unit: report.bound.unit().name().to_string(),
            max: report.limit,
            used: report.used,
            refused: report.refused,
        }
    }
}

/// What is written as its own text.
pub(super) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(in crate::control) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(in crate::control) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// What is written as its own text if there is one.
pub(super) mod optional_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(in crate::control) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(in crate::control) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// Things that are written as their own texts.
pub(super) mod texts {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(in crate::control) fn serialize<T: Display, S: Serializer>(
        values: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(in crate::control) fn deserialize<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
