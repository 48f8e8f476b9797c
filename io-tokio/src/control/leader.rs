//! Which instance of each single-active service is the active one.

use std::collections::{BTreeMap, VecDeque};

use dunlin_core::PeerId;
use serde::{Deserialize, Serialize};

use super::message::{ServiceEntry, optional_text, texts};
use super::operator::Operator;
use crate::events::{Events, NodeEvent};

/// Who is active of a single-active service, and who else offers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderEntry {
    /// The service's path.
    pub service: String,
    /// The active instance: of those that say that they are, the one with the highest token.
    #[serde(default, with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub leader: Option<PeerId>,
    /// The epoch and the round of its fencing token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<(u64, u64)>,
    /// Who stands by.
    #[serde(default, with = "texts")]
    pub standbys: Vec<PeerId>,
    /// Who is paused.
    #[serde(default, with = "texts")]
    pub paused: Vec<PeerId>,
}

impl LeaderEntry {
    fn nobody(service: &str) -> LeaderEntry {
        LeaderEntry {
            service: service.into(),
            leader: None,
            token: None,
            standbys: Vec::new(),
            paused: Vec::new(),
        }
    }

    /// Of each single-active service among these, or of one, by path.
    pub fn of(services: &[ServiceEntry], only: Option<&str>) -> Vec<LeaderEntry> {
        let mut leaders = BTreeMap::<&str, LeaderEntry>::new();
        let asked = |entry: &&ServiceEntry| {
            entry.single_active && only.is_none_or(|only| only == entry.service)
        };
        for entry in services.iter().filter(asked) {
            let path = entry.service.as_str();
            let found = leaders.entry(path).or_insert_with(|| LeaderEntry::nobody(path));
            match entry.state.as_str() {
                "running" if entry.token.is_some() && entry.token > found.token => {
                    (found.leader, found.token) = (Some(entry.peer), entry.token);
                }
                "standby" => found.standbys.push(entry.peer),
                "paused" => found.paused.push(entry.peer),
                _ => {}
            }
        }
        leaders.into_values().collect()
    }
}

/// Who is active, and whoever is so from then on. Dropping it ends it.
#[derive(Debug)]
pub struct LeaderWatch {
    operator: Operator,
    only: Option<String>,
    events: Events,
    /// As it was told last.
    known: BTreeMap<String, LeaderEntry>,
    /// What is to be told.
    changed: VecDeque<LeaderEntry>,
    /// Whether something has happened since it was looked at.
    is_stale: bool,
}

impl LeaderWatch {
    pub(super) fn new(operator: Operator, events: Events, only: Option<String>) -> LeaderWatch {
        let (known, changed) = (BTreeMap::new(), VecDeque::new());
        LeaderWatch { operator, only, events, known, changed, is_stale: true }
    }

    /// What is known of each service, and then each change of it as it happens; changes that follow each other
    /// faster than they are asked for are told as one. None once the node has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<LeaderEntry> {
        loop {
            if let Some(changed) = self.changed.pop_front() {
                return Some(changed);
            }
            while !self.is_stale {
                self.is_stale = may_change_leaders(&self.events.next().await?);
            }
            let services = self.operator.services().await;
            self.is_stale = false;
            self.compare(LeaderEntry::of(&services, self.only.as_deref()));
        }
    }

    fn compare(&mut self, found: Vec<LeaderEntry>) {
        let gone = self.known.keys().filter(|path| found.iter().all(|f| f.service != **path));
        let gone: Vec<LeaderEntry> = gone.map(|path| LeaderEntry::nobody(path)).collect();
        let is_new = |entry: &&LeaderEntry| self.known.get(&entry.service) != Some(entry);
        self.changed.extend(found.iter().filter(is_new).cloned());
        self.changed.extend(gone);
        self.known = found.into_iter().map(|entry| (entry.service.clone(), entry)).collect();
    }
}

fn may_change_leaders(event: &NodeEvent) -> bool {
    matches!(
        event,
        NodeEvent::PeerServices { .. }
            | NodeEvent::PeerDown { .. }
            | NodeEvent::NetworkLeft { .. }
            | NodeEvent::ServiceState { .. }
            | NodeEvent::Leader { .. }
            | NodeEvent::Lagged { .. }
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::Response;

    fn entry(number: u8, state: &str, token: Option<(u64, u64)>) -> ServiceEntry {
        ServiceEntry {
            peer: PeerId::from_bytes([number; 32]),
            service: "counter".into(),
            state: state.into(),
            single_active: true,
            token,
            version: String::new(),
            description: String::new(),
            selection: String::new(),
            actions: Vec::new(),
            says: None,
        }
    }

    #[test]
    fn of_two_that_say_that_they_are_active_the_later_one_is() {
        let services = [
            entry(1, "running", Some((1, 9))),
            entry(2, "standby", None),
            entry(3, "running", Some((2, 1))),
            entry(4, "paused", None),
        ];
        let found = LeaderEntry::of(&services, Some("counter"));
        let [leader] = &found[..] else { panic!("{found:?}") };
        assert_eq!(leader.leader, Some(PeerId::from_bytes([3; 32])));
        assert_eq!(leader.token, Some((2, 1)));
        assert_eq!(leader.standbys, [PeerId::from_bytes([2; 32])]);
        assert_eq!(leader.paused, [PeerId::from_bytes([4; 32])]);
        assert!(LeaderEntry::of(&services, Some("other")).is_empty());
        let plain = ServiceEntry { single_active: false, ..entry(1, "running", None) };
        assert!(LeaderEntry::of(&[plain], None).is_empty());
    }

    /// Other programs read and write these, so what they look like is part of the protocol.
    #[test]
    fn messages_look_as_the_protocol_says() {
        let id = crate::key::generate().id();
        let nobody = LeaderEntry::nobody("a");
        let led = LeaderEntry {
            leader: Some(id),
            token: Some((1, 2)),
            standbys: vec![id],
            ..nobody.clone()
        };
        let id = id.to_string();
        let says = [
            (
                led,
                json!({"say": "leader", "service": "a", "leader": id, "token": [1, 2], "standbys": [id],
                    "paused": []}),
            ),
            (nobody, json!({"say": "leader", "service": "a", "standbys": [], "paused": []})),
        ];
        for (entry, written) in says {
            let response = Response::Leader(entry);
            assert_eq!(serde_json::to_value(&response).unwrap(), written);
            assert_eq!(serde_json::from_value::<Response>(written).unwrap(), response);
            assert!(!response.is_last());
        }
    }
}
