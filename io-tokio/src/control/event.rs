//! What is said over the control socket about events.

use bytes::Bytes;
use dunlin_core::PeerId;
use dunlin_core::auth::Denied;
use dunlin_core::events::{
    EventMessage, Missed, MissedWhy, PublishError, PublishOutcome, Published,
};
use dunlin_core::mesh::CommandError;
use dunlin_core::rpc::Failure;
use dunlin_core::service::SubscribeError;
use serde::{Deserialize, Serialize};

use super::message::{Problem, optional_text, text};

/// An event to be published, but for its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishQuestion {
    /// Its topic: `[network:]segment/segment…`.
    pub topic: String,
    /// How to read the payload: [`dunlin_core::service::ContentType`].
    pub content: u32,
    /// Only this peer's subscribers.
    #[serde(default, with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub to: Option<PeerId>,
    /// Only subscribers of the node itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// Of subscribers that belong to a service, one for each service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_per_service: bool,
    /// Answer when it is known what became of it, at the latest after so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within_ms: Option<u64>,
}

/// An event that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedEntry {
    /// Who published it: the node.
    #[serde(with = "text")]
    pub publisher: PeerId,
    /// The boot number of the node's incarnation.
    pub boot: u64,
    /// Which of its events it is.
    pub sequence: u64,
    /// How many subscribers of the node itself have it in their queues.
    pub local: usize,
    /// How many peers it is sent to.
    pub peers: usize,
    /// How many groups, and services, have a member that it goes to.
    pub groups: usize,
    /// How many peers were passed over because they are too slow.
    pub passed_over: usize,
    /// What became of it, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeEntry>,
}

/// What became of an event: see [`PublishOutcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeEntry {
    /// How many of the peers that it was sent to have it.
    pub acknowledged: u32,
    /// Of how many peers it is not known.
    pub lost: u32,
    /// How many groups, and services, have a member that has it.
    pub groups_served: u32,
    /// How many have none, or it is not known.
    pub groups_lost: u32,
    /// How many peers and groups had not decided in time.
    pub undecided: u32,
    /// Whether everybody has it who was to get it.
    pub complete: bool,
}

/// What to subscribe to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubscribeQuestion {
    /// The pattern of the topics.
    pub pattern: String,
    /// The group to join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// If what became of an event is not known, another member of the group gets it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_least_one: bool,
    /// End after so many events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// An event that came, but for its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventEntry {
    /// Its topic, as it is written on the node.
    pub topic: String,
    /// Who published it.
    #[serde(with = "text")]
    pub publisher: PeerId,
    /// The boot number of the publisher's incarnation.
    pub boot: u64,
    /// Which of the publisher's events it is.
    pub sequence: u64,
    /// How to read the payload: [`dunlin_core::service::ContentType`].
    pub content: u32,
    /// Another member of the group was sent it before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redelivered: bool,
}

/// Events that did not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedEntry {
    /// Who published them.
    #[serde(with = "text")]
    pub publisher: PeerId,
    /// How many there were at most.
    pub count: u64,
    /// Why: `queue-full`, `passed-over` or `interrupted`, as in [`MissedWhy`].
    pub why: String,
}

/// What a subscriber gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event, and what it carries.
    Event(EventEntry, Bytes),
    /// In this place there were events that did not come.
    Missed(MissedEntry),
}

impl PublishedEntry {
    pub(super) fn new(published: &Published, outcome: Option<PublishOutcome>) -> Self {
        let outcome = outcome.map(|outcome| OutcomeEntry {
            acknowledged: outcome.acknowledged,
            lost: outcome.lost,
            groups_served: outcome.groups_served,
            groups_lost: outcome.groups_lost,
            undecided: outcome.undecided,
            complete: outcome.is_complete(),
        });
        PublishedEntry {
            publisher: published.id.publisher,
            boot: published.id.boot,
            sequence: published.id.sequence,
            local: published.local,
            peers: published.peers,
            groups: published.groups,
            passed_over: published.passed_over,
            outcome,
        }
    }
}

impl EventEntry {
    pub(super) fn new(event: &EventMessage, content: u32) -> Self {
        EventEntry {
            topic: event.topic().as_str().to_string(),
            publisher: event.id().publisher,
            boot: event.id().boot,
            sequence: event.id().sequence,
            content,
            redelivered: event.is_redelivered(),
        }
    }
}

impl MissedEntry {
    pub(super) fn new(missed: &Missed) -> Self {
        let why = match missed.why {
            MissedWhy::QueueFull => "queue-full",
            MissedWhy::PassedOver => "passed-over",
            MissedWhy::Interrupted => "interrupted",
        };
        MissedEntry { publisher: missed.publisher, count: missed.count, why: why.into() }
    }
}

fn denied(denied: &Denied) -> Problem {
    let message = match denied {
        Denied::Missing { permission, topic, .. } => {
            format!("{denied}. Its token must allow '{permission}:{topic}', or more")
        }
        other => other.to_string(),
    };
    Problem::new(Failure::PermissionDenied.code(), message)
}

impl From<&PublishError> for Problem {
    fn from(error: &PublishError) -> Self {
        let code = match error {
            PublishError::Denied(why) => return denied(why),
            PublishError::WouldBlock { .. } => "WOULD_BLOCK",
            PublishError::TooManyOpen(_) => "TOO_MANY_OPEN",
            PublishError::TooLarge { .. } => "TOO_LARGE",
            PublishError::Payload(_) => "PAYLOAD",
            PublishError::Topic(_) => "INVALID_TOPIC",
            PublishError::Stopping => Failure::ShuttingDown.code(),
        };
        Problem::new(code, error.to_string())
    }
}

impl From<&SubscribeError> for Problem {
    fn from(error: &SubscribeError) -> Self {
        let code = match error {
            SubscribeError::Topic(_) => "INVALID_TOPIC",
            SubscribeError::Command(CommandError::Denied(why)) => return denied(why),
            SubscribeError::Command(CommandError::Stopping) => Failure::ShuttingDown.code(),
            SubscribeError::Command(_) => "SUBSCRIBE",
        };
        Problem::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Request, Response};
    use serde_json::json;

    /// Other programs read and write these, so what they look like is part of the protocol.
    #[test]
    fn messages_look_as_the_protocol_says() {
        let id = dunlin_core::Identity::from_secret([7; 32]).id();
        let plain = PublishQuestion {
            topic: "a/b".into(),
            content: 1,
            to: None,
            local: false,
            one_per_service: false,
            confirm_within_ms: None,
        };
        let full = PublishQuestion {
            to: Some(id),
            local: true,
            one_per_service: true,
            confirm_within_ms: Some(5),
            ..plain.clone()
        };
        let alone = SubscribeQuestion {
            pattern: "a/>".into(),
            group: None,
            at_least_one: false,
            count: None,
        };
        let group =
            SubscribeQuestion { group: Some("g".into()), at_least_one: true, ..alone.clone() };
        let to = id.to_string();
        let asks = [
            (Request::Publish(plain), json!({"ask": "publish", "topic": "a/b", "content": 1})),
            (
                Request::Publish(full),
                json!({"ask": "publish", "topic": "a/b", "content": 1, "to": to, "local": true,
                       "one_per_service": true, "confirm_within_ms": 5}),
            ),
            (Request::Subscribe(alone), json!({"ask": "subscribe", "pattern": "a/>"})),
            (
                Request::Subscribe(group),
                json!({"ask": "subscribe", "pattern": "a/>", "group": "g", "at_least_one": true}),
            ),
        ];
        for (request, written) in asks {
            assert_eq!(serde_json::to_value(&request).unwrap(), written);
            assert_eq!(serde_json::from_value::<Request>(written).unwrap(), request);
        }
        let published = PublishedEntry {
            publisher: id,
            boot: 1,
            sequence: 2,
            local: 3,
            peers: 4,
            groups: 5,
            passed_over: 6,
            outcome: None,
        };
        let event = EventEntry {
            topic: "a/b".into(),
            publisher: id,
            boot: 1,
            sequence: 2,
            content: 0,
            redelivered: true,
        };
        let missed = MissedEntry { publisher: id, count: 9, why: "queue-full".into() };
        let says = [
            (
                Response::Published(published),
                json!({"say": "published", "publisher": to, "boot": 1, "sequence": 2, "local": 3,
                       "peers": 4, "groups": 5, "passed_over": 6}),
                true,
            ),
            (
                Response::Subscribed { known: true },
                json!({"say": "subscribed", "known": true}),
                false,
            ),
            (
                Response::Event(event),
                json!({"say": "event", "topic": "a/b", "publisher": to, "boot": 1, "sequence": 2,
                       "content": 0, "redelivered": true}),
                false,
            ),
            (
                Response::Missed(missed),
                json!({"say": "missed", "publisher": to, "count": 9, "why": "queue-full"}),
                false,
            ),
        ];
        for (response, written, is_last) in says {
            assert_eq!(serde_json::to_value(&response).unwrap(), written);
            assert_eq!(serde_json::from_value::<Response>(written).unwrap(), response);
            assert_eq!(response.is_last(), is_last);
        }
    }
}
