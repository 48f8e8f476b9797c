//! Which member of a group gets an event, and what becomes of it.

use bytes::Bytes;

use crate::base::{Effects, PeerId, PeerKey};
use crate::events::group::{GroupName, Lots};
use crate::events::plan::Members;
use crate::events::publications::{
    Assigned, Part, PartEnd, PartGroup, PublicationEffect, PublicationInput, PublicationKey,
};
use crate::events::sender::Report;
use crate::events::{EventId, EventMessage, Marks};
use crate::machine::{Context, Machine};
use crate::mesh::event::Event;
use crate::mesh::wiring::Work;
use crate::mesh::{Mesh, NodeTimer, Own, feed};
use crate::payload::Payload;
use crate::topic::SubscriptionKey;
use crate::wire::EventFrame;

/// Who of a group gets an event.
pub(super) enum Choice {
    Here(SubscriptionKey),
    Peer(PeerKey, PeerId),
    /// Who could get it has no room.
    Full(PeerKey),
    Nobody,
}

/// Which members of groups are eligible.
pub(super) struct Eligible<'a> {
    pub(super) local: bool,
    pub(super) peers: bool,
    pub(super) only: Option<PeerId>,
    pub(super) tried: &'a [PeerId],
    /// The size of its payload, in bytes.
    pub(super) size: usize,
    /// Whether it may be more than fits a queue.
    pub(super) may_overflow: bool,
}

impl Eligible<'_> {
    /// The room that it needs in a queue here.
    fn room_here(&self) -> usize {
        if self.may_overflow { 0 } else { self.size }
    }

    /// Whether some member of a group may get the event, if it can.
    pub(super) fn includes(&self, group: &Members) -> bool {
        let may = |id: &PeerId| self.only.is_none_or(|only| only == *id);
        self.local && !group.here.is_empty()
            || self.peers && group.peers.iter().any(|(_, id, _)| may(id))
    }
}

impl Mesh {
    pub(super) fn choose(&self, id: &EventId, group: &Members, eligible: &Eligible<'_>) -> Choice {
        let lots = Lots::new(id, &group.name);
        let mut best: Option<(u64, PeerId, Choice)> = None;
        let mut full = None;
        let mut offer = |lot: u64, id: PeerId, choice: Choice| {
            if best.as_ref().is_none_or(|(known, other, _)| (lot, id) > (*known, *other)) {
                best = Some((lot, id, choice));
            }
        };
        let own_id = self.local.id;
        if eligible.local
            && !eligible.tried.contains(&own_id)
            && let Some(key) = self.choose_here(id, group, eligible.room_here())
        {
            let members = u32::try_from(group.here.len()).unwrap_or(u32::MAX);
            let members = members.min(crate::directory::document::MEMBERS_MAX);
            offer(lots.of_node(&own_id, members), own_id, Choice::Here(key));
        }
        for (peer, id, members) in &group.peers {
            let excluded = !eligible.peers
                || eligible.only.is_some_and(|only| only != *id)
                || eligible.tried.contains(id)
                || !self.peers.get(*peer).is_some_and(|entry| entry.machine.is_up())
                || self.accepts_bytes(*peer) < eligible.size;
            if excluded {
                continue;
            }
            if !eligible.may_overflow && !self.sender.has_room(*peer, eligible.size) {
                full = Some(*peer);
                continue;
            }
            offer(lots.of_node(id, *members), *id, Choice::Peer(*peer, *id));
        }
        match (best, full) {
            (Some((_, _, choice)), _) => choice,
            (None, Some(peer)) => Choice::Full(peer),
            (None, None) => Choice::Nobody,
        }
    }

    /// The member on this node that gets an event, of those whose queues have room.
    pub(super) fn choose_here(
        &self,
        id: &EventId,
        group: &Members,
        size: usize,
    ) -> Option<SubscriptionKey> {
        let lots = Lots::new(id, &group.name);
        let with_room = group.here.iter().filter(|key| self.subscriptions.has_room(**key, size));
        with_room.max_by_key(|key| lots.of_member(key.to_u64())).copied()
    }

    pub(super) fn report(&mut self, peer: PeerKey, reports: Vec<Report>) {
        for report in reports {
            if let Report::Ended(part, PartEnd::Acknowledged { declined }) = &report {
                let taken = part.groups.iter().filter(|group| !declined.contains(&group.place));
                for group in taken {
                    self.lend(peer, part.publication, group);
                }
            }
            self.feed_publications(match report {
                Report::Ended(part, end) => PublicationInput::Ended { part, end },
                Report::Returned { publication, group, unknown } => {
                    PublicationInput::Returned { publication, group, unknown }
                }
            });
        }
    }

    pub(in crate::mesh) fn publication_effect(&mut self, effect: PublicationEffect) {
        match effect {
            PublicationEffect::Reassign { publication, group } => {
                let to = self.reassign(publication, group);
                self.feed_publications(PublicationInput::Reassigned { publication, group, to });
            }
            PublicationEffect::Ended { publication, outcome } => {
                self.events.push_back(Event::PublishEnded { publication, outcome });
            }
            PublicationEffect::Unplaced { given_back_by } => {
                self.group_events_lost(given_back_by, 1);
            }
        }
    }

    /// Finds another member of a group for an event.
    fn reassign(&mut self, publication: PublicationKey, group: u32) -> Assigned {
        let Some(redelivery) = self.publications.redelivery(publication, group) else {
            return Assigned::Nobody;
        };
        let content = &redelivery.content;
        let (topic, plan, lane) = self.plan(&content.topic);
        let Some(members) = plan.members(&redelivery.group) else { return Assigned::Nobody };
        let only = content.target;
        let own_id = self.local.id;
        let eligible = Eligible {
            local: only.is_none_or(|only| only == own_id),
            peers: only != Some(own_id),
            only,
            tried: &redelivery.tried,
            size: content.bytes.len(),
            may_overflow: true,
        };
        let size = content.bytes.len();
        let (content_type, bytes) = (content.content, content.bytes.clone());
        match self.choose(&content.id, members, &eligible) {
            Choice::Here(key) => {
                let payload = Payload::Encoded { content: content_type, bytes };
                let one_per_service = matches!(redelivery.group, GroupName::Service(_));
                let marks = Marks {
                    redelivered: redelivery.redelivered,
                    one_per_service,
                    local: only == Some(own_id),
                };
                let event = EventMessage::new(content.id, topic, payload, size, marks);
                self.deliver_to(key, &event.into());
                Assigned::Here
            }
            Choice::Peer(peer, id) => {
                let mut frame = EventFrame {
                    sequence: content.id.sequence,
                    topic,
                    content: content_type,
                    everyone: false,
                    groups: Vec::new(),
                    services: Vec::new(),
                    one_per_service: false,
                    redelivered: redelivery.redelivered,
                    payload: Bytes::new(),
                };
                frame.name(&redelivery.group);
                let event = self.sender.write(frame.header(), bytes);
                let at_least_one = members.at_least_one;
                let groups = vec![PartGroup { in_frame: 0, place: group, at_least_one }];
                let part = Part { publication, everyone: false, groups, handed_on: true };
                if self.sender.push(peer, lane, event, Some(Box::new(part))) {
                    self.mark_events(peer, lane);
                }
                Assigned::Peer(id)
            }
            Choice::Full(_) | Choice::Nobody => Assigned::Nobody,
        }
    }

    pub(in crate::mesh) fn feed_publications(&mut self, input: PublicationInput) {
        feed!(self, self.publications, (), input, NodeTimer::Publication, Work::Publication);
    }
}
