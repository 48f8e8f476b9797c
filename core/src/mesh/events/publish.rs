//! From a publisher of this node to the queues of subscribers here and the streams of peers.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::auth::Permission;
use crate::base::{Now, PeerKey};
use crate::events::batch::{JOINED_BYTES_MAX, Together};
use crate::events::plan::Plan;
use crate::events::publications::{Assigned, Content, Part, PartGroup, PublicationInput};
use crate::events::run::Run;
use crate::events::{
    EventId, EventMessage, Marks, Mode, PublishError, PublishRequest, Published, Scope, WhenFull,
};
use crate::mesh::events::groups::{Choice, Eligible};
use crate::mesh::{Mesh, Phase};
use crate::payload::{ContentType, Payload};
use crate::planted::is_planted;
use crate::topic::TopicPath;
use crate::wire::EventFrame;

/// Who gets events of a request.
struct Decided {
    topic: TopicPath,
    plan: Arc<Plan>,
    lane: usize,
    /// They just go to every subscriber.
    is_plain: bool,
    /// Larger ones are not small, or not accepted by everybody.
    plain_bytes_max: usize,
}

impl Mesh {
    /// Publishes an event. It is in the queues of the subscribers of this node when this returns, and on its way
    /// to those of peers. For what "on its way" promises see [`crate::events`].
    ///
    /// # Errors
    ///
    /// When nobody gets it: see [`PublishError`].
    pub fn publish(
        &mut self,
        now: Now,
        request: &PublishRequest,
    ) -> Result<Published, PublishError> {
        let decided = self.decide_to_publish(now, request)?;
        let published = self.publish_decided(&decided, request, &request.payload);
        self.run();
        published
    }

    /// As [`Mesh::publish`], with each of these payloads instead of the request's, which takes less time than one by
    /// one. Those that were published are taken from the queue, and told of.
    ///
    /// # Errors
    ///
    /// Why the first one that is left was not published.
    pub fn publish_each(
        &mut self,
        now: Now,
        request: &PublishRequest,
        payloads: &mut VecDeque<Payload>,
        mut tell: impl FnMut(&Published),
    ) -> Result<(), PublishError> {
        let decided = self.decide_to_publish(now, request)?;
        let mut result = Ok(());
        while let Some(payload) = payloads.front() {
            match self.publish_decided(&decided, request, payload) {
                Ok(published) => tell(&published),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            payloads.pop_front();
        }
        self.run();
        result
    }

    /// Who gets events like this one. It holds until anything else is done.
    fn decide_to_publish(
        &mut self,
        now: Now,
        request: &PublishRequest,
    ) -> Result<Decided, PublishError> {
        self.tick(now);
        if self.phase != Phase::Running {
            return Err(PublishError::Stopping);
        }
        let topic = self.access.normalise(request.topic.clone())?;
        if let Err(denied) = self.access.may_we(self.now, Permission::Publish, &topic)
            && !is_planted(77)
        {
            return Err(denied.into());
        }
        let (topic, plan, lane) = self.plan(&topic);
        let accepts_bytes = plan.all_peers.iter().map(|peer| self.accepts_bytes(*peer)).min();
        let is_plain = request.mode == Mode::All
            && request.scope == Scope::Network
            && request.target.is_none()
            && request.confirm_within.is_none()
            && plan.groups.is_empty();
        let plain_bytes_max = accepts_bytes.unwrap_or(usize::MAX).min(JOINED_BYTES_MAX);
        Ok(Decided { topic, plan, lane, is_plain, plain_bytes_max })
    }

    fn publish_decided(
        &mut self,
        decided: &Decided,
        request: &PublishRequest,
        payload: &Payload,
    ) -> Result<Published, PublishError> {
        if decided.is_plain
            && let Some(published) = self.publish_plainly(decided, payload)?
        {
            return Ok(published);
        }
        self.publish_with_care(decided, request, payload)
    }

    /// What an event carries, as bytes.
    pub(super) fn encoded(&self, payload: &Payload) -> Result<(ContentType, Bytes), PublishError> {
        let (content, bytes) = payload.encode()?;
        let max = self.limits.message_bytes_max;
        match bytes.len() {
            size if size > max => Err(PublishError::TooLarge { bytes: size, max }),
            _ => Ok((content, bytes)),
        }
    }

    fn next_event(&mut self, topic: &TopicPath) -> EventId {
        EventId {
            publisher: self.local.id,
            boot: self.local.incarnation.boot,
            sequence: self.event_numbers.next(topic.network(), &mut self.draws),
        }
    }

    /// A small event that goes to every subscriber, as most do. None, and nobody has it, if it is not small, or
    /// somebody has no room for it.
    fn publish_plainly(
        &mut self,
        decided: &Decided,
        payload: &Payload,
    ) -> Result<Option<Published>, PublishError> {
        let Decided { topic, plan, lane, plain_bytes_max, .. } = decided;
        let mut published = None;
        let mut size = 0;
        if !plan.all_peers.is_empty() {
            let written;
            let (content, bytes) = match payload {
                Payload::Encoded { content, bytes } => (*content, bytes),
                value => {
                    written = self.encoded(value)?;
                    (written.0, &written.1)
                }
            };
            size = bytes.len();
            let max = self.limits.message_bytes_max;
            if size > max {
                return Err(PublishError::TooLarge { bytes: size, max });
            }
            if size > *plain_bytes_max || is_planted(73) {
                return Ok(None);
            }
            let id = self.next_event(topic);
            let event = Together { sequence: id.sequence, topic, content, payload: bytes };
            if !self.push_event_to_all(&plan.all_peers, *lane, &event) {
                return Ok(None);
            }
            published = Some(id);
        } else if let Payload::Encoded { .. } = payload {
            size = self.encoded(payload)?.1.len();
        }
        let id = published.unwrap_or_else(|| self.next_event(topic));
        if !plan.all_here.is_empty() {
            let run = run_of(id, topic, payload, size, Marks::default());
            for key in &plan.all_here {
                self.deliver_to(*key, &run);
            }
        }
        let (local, peers) = (plan.all_here.len(), plan.all_peers.len());
        Ok(Some(Published { id, local, peers, groups: 0, passed_over: 0, publication: None }))
    }

    /// Any event.
    fn publish_with_care(
        &mut self,
        decided: &Decided,
        request: &PublishRequest,
        payload: &Payload,
    ) -> Result<Published, PublishError> {
        let (topic, plan, lane) = (decided.topic.clone(), &*decided.plan, decided.lane);
        let (all_here, all_peers, services) = match request.mode {
            Mode::All => (&plan.all_here, &plan.all_peers, &[][..]),
            Mode::OnePerService => (&plan.plain_here, &plan.plain_peers, &plan.services[..]),
        };
        let own_id = self.local.id;
        let target = request.target;
        let local = target.is_none_or(|target| target == own_id);
        let remote = request.scope == Scope::Network && target != Some(own_id);
        let here = if local { &all_here[..] } else { &[] };
        let only = target.filter(|_| remote);
        let mut peers = match (remote, only) {
            (false, _) => Vec::new(),
            (true, None) => all_peers.clone(),
            (true, Some(id)) => {
                let key = self.by_id.get(&id).filter(|key| all_peers.contains(key));
                key.into_iter().copied().collect()
            }
        };

        // The bytes, if they may have to leave the node.
        let competing = || plan.groups.iter().chain(services);
        let leaves = remote && (!peers.is_empty() || competing().any(|g| !g.peers.is_empty()));
        let encoded = match payload {
            payload @ Payload::Encoded { .. } => Some(self.encoded(payload)?),
            value if leaves => Some(self.encoded(value)?),
            _ => None,
        };
        let (content, bytes) = encoded.unwrap_or((ContentType::RAW, Bytes::new()));
        let size = bytes.len();

        // Who has room.
        let refuse = request.when_full != WhenFull::PassOver;
        let spares_lagging = request.when_full == WhenFull::RefuseFirst && !is_planted(170);
        let spares_all = spares_lagging && !self.may_wait_for_room();
        let waits_for = |mesh: &Mesh, peer: PeerKey| {
            let lags = || mesh.peers.get(peer).is_some_and(|entry| entry.lags_since.is_some());
            refuse && !(spares_lagging && (spares_all || lags()))
        };
        let mut passed_over = Vec::new();
        let mesh = &*self;
        let machines = &mesh.peers;
        let is_up = |peer: PeerKey| machines.get(peer).is_some_and(|p| p.machine.is_up());
        let mut full = None;
        peers.retain(|peer| {
            let accepts = machines.get(*peer).is_none_or(|entry| size <= entry.accepts_bytes);
            let room = accepts && mesh.sender.has_room(*peer, size);
            if !room && accepts && waits_for(mesh, *peer) && is_up(*peer) {
                full.get_or_insert(*peer);
            } else if !room {
                passed_over.push(*peer);
            }
            room
        });
        let id = self.next_event(&topic);
        let eligible =
            Eligible { local, peers: remote, only, tried: &[], size, may_overflow: false };
        let mut chosen = Vec::new();
        for group in competing() {
            let choice = self.choose(&id, group, &eligible);
            match choice {
                Choice::Full(peer) if waits_for(self, peer) => {
                    full.get_or_insert(peer);
                }
                // A group that the event is not for.
                Choice::Nobody if !eligible.includes(group) => {}
                // Also one of which nobody can take it: that is part of the outcome.
                choice => chosen.push((group, choice)),
            }
        }
        if let Some(peer) = full {
            self.sender.await_room(peer);
            let (events, peer) = (self.sender.unacknowledged(peer), self.peers.get(peer));
            let peer = peer.expect("it is subscribed").id;
            return Err(PublishError::WouldBlock { peer, events });
        }
        let competes_elsewhere =
            chosen.iter().any(|(_, choice)| matches!(choice, Choice::Peer(..)));
        let tracked = competes_elsewhere || request.confirm_within.is_some();
        if tracked && self.publications.len() >= self.limits.publications_open_max {
            return Err(PublishError::TooManyOpen(self.publications.len()));
        }

        // It is accepted.
        let publication = tracked.then(|| {
            let (topic, bytes) = (topic.clone(), bytes.clone());
            let wanted = request.confirm_within.is_some();
            self.publications.add(Content { id, topic, content, bytes, target }, wanted)
        });
        let mut published = Published {
            id,
            local: 0,
            peers: 0,
            groups: 0,
            passed_over: passed_over.len(),
            publication: publication.filter(|_| request.confirm_within.is_some()),
        };
        let lane = if is_planted(73) { id.sequence as usize % 4 } else { lane };
        let one_per_service = request.mode == Mode::OnePerService;
        let frame = |everyone| EventFrame {
            sequence: id.sequence,
            topic: topic.clone(),
            content,
            everyone,
            groups: Vec::new(),
            services: Vec::new(),
            one_per_service,
            redelivered: false,
            payload: Bytes::new(),
        };
        let marks = Marks { one_per_service, local: !remote, ..Marks::default() };
        let run = run_of(id, &topic, payload, size, marks);
        for key in here {
            self.deliver_to(*key, &run);
            published.local += 1;
        }
        let mut for_groups: Vec<(PeerKey, EventFrame, Vec<PartGroup>)> = Vec::new();
        let mut without_room = Vec::new();
        // Groups first: places in a frame count services behind all groups.
        for (group, choice) in chosen {
            let to = match &choice {
                Choice::Here(key) => {
                    self.deliver_to(*key, &run);
                    Assigned::Here
                }
                Choice::Peer(_, id) => Assigned::Peer(*id),
                Choice::Full(peer) => {
                    without_room.push(*peer);
                    Assigned::Nobody
                }
                Choice::Nobody => Assigned::Nobody,
            };
            published.groups += usize::from(to != Assigned::Nobody);
            let Some(publication) = publication else { continue };
            let (name, at_least_one) = (group.name.clone(), group.at_least_one);
            let place = self.publications.add_group(publication, name, at_least_one, to);
            let Choice::Peer(peer, _) = choice else { continue };
            let at = match for_groups.iter().position(|(known, ..)| *known == peer) {
                Some(at) => at,
                None => {
                    for_groups.push((peer, frame(peers.contains(&peer)), Vec::new()));
                    for_groups.len() - 1
                }
            };
            let (_, frame, places) = &mut for_groups[at];
            frame.name(&group.name);
            let in_frame = places.len() as u32;
            places.push(PartGroup { in_frame, place, at_least_one });
        }
        // Nobody looks after it: it goes with others.
        let together = publication.is_none()
            && !one_per_service
            && size <= JOINED_BYTES_MAX
            && !is_planted(73);
        let event = Together { sequence: id.sequence, topic: &topic, content, payload: &bytes };
        if together && !peers.is_empty() && self.push_event_to_all(&peers, lane, &event) {
            published.peers += peers.len();
            peers.clear();
        }
        let mut shared = None;
        for peer in peers {
            if for_groups.iter().any(|(other, ..)| *other == peer) {
                continue;
            }
            let sender = &mut self.sender;
            let event =
                shared.get_or_insert_with(|| sender.write(frame(true).header(), bytes.clone()));
            let event = event.clone();
            let part = publication.map(|publication| Part {
                publication,
                everyone: true,
                groups: Vec::new(),
                handed_on: false,
            });
            published.peers += 1;
            self.push_event(peer, lane, event, part);
        }
        for (peer, frame, groups) in for_groups {
            let event = self.sender.write(frame.header(), bytes.clone());
            let publication = publication.expect("what is for groups is looked after");
            published.peers += 1;
            let part = Part { publication, everyone: frame.everyone, groups, handed_on: false };
            self.push_event(peer, lane, event, Some(part));
        }
        without_room.retain(|peer| !passed_over.contains(peer));
        for peer in without_room {
            self.lags(peer);
        }
        for peer in passed_over {
            if let Some(publication) = publication {
                self.publications.passed_over(publication);
            }
            if self.lags(peer) {
                continue;
            }
            if self.sender.pass_over(peer, lane) {
                self.mark_events(peer, lane);
            }
        }
        if let Some(publication) = publication {
            let wait = request.confirm_within;
            self.feed_publications(PublicationInput::Begin { publication, wait });
        }
        Ok(published)
    }
}

fn run_of(id: EventId, topic: &TopicPath, payload: &Payload, size: usize, marks: Marks) -> Run {
    let (topic, payload) = (topic.clone(), payload.clone());
    EventMessage::new(id, topic, payload, size, marks).into()
}
