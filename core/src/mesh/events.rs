//! Events, wired to links: from a publisher to the queues of subscribers, here and on peers.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::auth::{Denied, Permission};
use crate::base::{Effects, Now, PeerId, PeerKey};
use crate::directory::document::GROUP_BYTES_MAX;
use crate::directory::{Document, EntryKey, PublisherInput};
use crate::events::decisions::Decision;
use crate::events::group::{GroupName, Lots};
use crate::events::plan::{Members, Plan};
use crate::events::publications::{
    Assigned, Content, Part, PartGroup, PublicationEffect, PublicationInput, PublicationKey,
};
use crate::events::receiver::{Arrival, EventAck};
use crate::events::sender::{Outgoing, Report, Word};
use crate::events::{
    Delivery, EventId, EventMessage, Missed, MissedWhy, Mode, PublishError, PublishRequest,
    Published, Scope, SubscribeRequest, Subscriptions, WhenFull,
};
use crate::link::{Lane, LinkCommand, LinkHandle};
use crate::machine::{Context, Machine};
use crate::mesh::event::Event;
use crate::mesh::outbound::OutItem;
use crate::mesh::wiring::Work;
use crate::mesh::{CommandError, Mesh, NodeTimer, Own, Phase, feed};
use crate::payload::{ContentType, Payload};
use crate::peer::PeerInput;
use crate::planted::is_planted;
use crate::topic::{Pattern, SubscriptionKey, TopicPath};
use crate::wire::{EventFrame, EventsFrom, HEADER_BYTES_MAX};

/// Payloads up to this size are copied out of what came, so that one small event does not keep a whole datagram.
const COPIED_BYTES_MAX: usize = 1_024;

/// Copies share buffers of this size, in bytes: so much a subscriber may keep alive with one small event.
const PAYLOADS_BYTES: usize = 4_096;

/// A subscriber that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Names it.
    pub key: SubscriptionKey,
    /// The version of this node's document from which on it is announced. What a peer publishes after it has
    /// acknowledged that version reaches the subscriber: see [`Mesh::is_known_by_all`].
    pub version: u64,
}

/// Who of a group gets an event.
enum Choice {
    Here(SubscriptionKey),
    Peer(PeerKey, PeerId),
    /// Who could get it has no room.
    Full(PeerKey),
    Nobody,
}

/// Which members of groups are eligible.
struct Eligible<'a> {
    local: bool,
    peers: bool,
    only: Option<PeerId>,
    tried: &'a [PeerId],
    /// The size that must fit; none if it may be more than fits.
    room_for: Option<usize>,
}

impl Eligible<'_> {
    /// Whether some member of a group may get the event, if it can.
    fn includes(&self, group: &Members) -> bool {
        let may = |id: &PeerId| self.only.is_none_or(|only| only == *id);
        self.local && !group.here.is_empty()
            || self.peers && group.peers.iter().any(|(_, id, _)| may(id))
    }
}

impl Mesh {
    // What the application asks.

    /// Adds a subscriber. What it gets waits for it in a queue of its own; [`Event::SubscriptionReady`] says
    /// when, and [`Mesh::take_delivery`] takes it.
    ///
    /// # Errors
    ///
    /// When a bound is reached, our own token does not permit it, the pattern is in no network of ours, or the
    /// node stops.
    pub fn subscribe(
        &mut self,
        now: Now,
        mut request: SubscribeRequest,
    ) -> Result<Subscribed, CommandError> {
        self.tick(now);
        if self.phase != Phase::Running {
            return Err(CommandError::Stopping);
        }
        request.pattern = self.normalise_pattern(&request.pattern)?;
        if let Some(service) = request.service.take() {
            request.service = Some(self.access.normalise(service)?);
        }
        let place = crate::directory::SubscriptionOffer::new(request.pattern.clone());
        let pattern = &request.pattern;
        self.access.may_we_all(self.now, Permission::Subscribe, place.place(), pattern)?;
        let group_bytes = request.group.as_ref().map_or(1, |group| group.name.len());
        if group_bytes == 0 {
            return Err(CommandError::NamelessGroup);
        }
        let (entries, entry_bytes) = self.subscriptions.entries_with(&request);
        let limits = &self.limits;
        let bounds = [
            ("bytes of a group's name", group_bytes, GROUP_BYTES_MAX, "document::GROUP_BYTES_MAX"),
            (
                "subscriptions",
                self.subscriptions.len() + 1,
                limits.subscriptions_max,
                "Limits::subscriptions_max",
            ),
            (
                "different subscriptions",
                entries,
                limits.subscriptions_per_peer_max,
                "Limits::subscriptions_per_peer_max",
            ),
            (
                "bytes of different subscriptions",
                entry_bytes,
                HEADER_BYTES_MAX / 2,
                "half of wire::HEADER_BYTES_MAX",
            ),
        ];
        for (what, count, max, limit) in bounds {
            if count > max {
                return Err(CommandError::TooMany { what, count, max, limit });
            }
        }
        let (key, announcement) = self.subscriptions.subscribe(request, &mut self.draws);
        self.plans.forget();
        self.announce(announcement);
        let version = self.publisher.version();
        self.run();
        Ok(Subscribed { key, version })
    }

    /// Takes a subscriber away, with what waits for it. Does nothing if it has gone.
    pub fn unsubscribe(&mut self, now: Now, subscription: SubscriptionKey) {
        self.tick(now);
        if let Some(announcement) = self.subscriptions.unsubscribe(subscription) {
            self.plans.forget();
            self.announce(announcement);
            self.run();
        }
    }

    /// The next thing that waits for a subscriber; none if nothing does.
    pub fn take_delivery(&mut self, subscription: SubscriptionKey) -> Option<Delivery> {
        self.subscriptions.take(subscription)
    }

    /// The subscribers of this node.
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// How many subscriptions of peers count here.
    pub fn interest(&self) -> usize {
        self.interest.len()
    }

    /// Whether every peer that is up has this version of our document, or a later one.
    pub fn is_known_by_all(&self, version: u64) -> bool {
        let up = self.peers.iter().filter(|(_, entry)| entry.machine.is_up());
        up.into_iter().all(|(key, _)| {
            let shown = |path: &TopicPath| self.access.shares(self.now, key, path);
            !self.publisher.is_incremental(key) || self.publisher.is_known(key, version, &shown)
        })
    }

    /// How many events a peer has not acknowledged.
    pub fn events_unacknowledged(&self, peer: PeerId) -> usize {
        self.by_id.get(&peer).map_or(0, |key| self.sender.unacknowledged(*key))
    }

    /// Publishes an event. It is in the queues of the subscribers of this node when this returns, and on its way
    /// to those of peers. For what "on its way" promises see [`crate::events`].
    ///
    /// # Errors
    ///
    /// When nobody gets it: see [`PublishError`].
    pub fn publish(
        &mut self,
        now: Now,
        request: PublishRequest,
    ) -> Result<Published, PublishError> {
        self.tick(now);
        if self.phase != Phase::Running {
            return Err(PublishError::Stopping);
        }
        let topic = self.access.normalise(request.topic)?;
        if let Err(denied) = self.access.may_we(self.now, Permission::Publish, &topic)
            && !is_planted(77)
        {
            return Err(denied.into());
        }
        let (topic, plan, lane) = self.plan(&topic);
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
        let encoded = match &request.payload {
            Payload::Encoded { content, bytes } => Some((*content, bytes.clone())),
            value if leaves => Some(value.encode()?),
            _ => None,
        };
        let (content, bytes) = encoded.unwrap_or((ContentType::RAW, Bytes::new()));
        let size = bytes.len();
        if size > self.limits.message_bytes_max {
            let max = self.limits.message_bytes_max;
            return Err(PublishError::TooLarge { bytes: size, max });
        }

        // Who has room.
        let refuse = request.when_full == WhenFull::Refuse;
        let mut passed_over = Vec::new();
        let (sender, machines) = (&self.sender, &self.peers);
        let is_up = |peer: PeerKey| machines.get(peer).is_some_and(|p| p.machine.is_up());
        let mut full = None;
        peers.retain(|peer| {
            let room = sender.has_room(*peer, size);
            if !room && refuse && is_up(*peer) {
                full.get_or_insert(*peer);
            } else if !room {
                passed_over.push(*peer);
            }
            room
        });
        let id = EventId {
            publisher: own_id,
            boot: self.local.incarnation.boot,
            sequence: self.event_numbers.next(topic.network(), &mut self.draws),
        };
        let eligible = Eligible { local, peers: remote, only, tried: &[], room_for: Some(size) };
        let mut chosen = Vec::new();
        for group in competing() {
            let choice = self.choose(&id, group, &eligible);
            match choice {
                Choice::Full(peer) if refuse => {
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
        let message = Arc::new(EventMessage {
            id,
            topic: topic.clone(),
            payload: request.payload,
            redelivered: false,
        });
        for key in here {
            self.deliver_to(*key, &message, size);
            published.local += 1;
        }
        let mut for_groups: Vec<(PeerKey, EventFrame, Vec<PartGroup>)> = Vec::new();
        // Groups first: places in a frame count services behind all groups.
        for (group, choice) in chosen {
            let to = match &choice {
                Choice::Here(key) => {
                    self.deliver_to(*key, &message, size);
                    Assigned::Here
                }
                Choice::Peer(_, id) => Assigned::Peer(*id),
                Choice::Full(_) | Choice::Nobody => Assigned::Nobody,
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
        for peer in passed_over {
            if let Some(publication) = publication {
                self.publications.passed_over(publication);
            }
            if self.sender.pass_over(peer, lane) {
                self.mark_events(peer, lane);
            }
        }
        if let Some(publication) = publication {
            let wait = request.confirm_within;
            self.feed_publications(PublicationInput::Begin { publication, wait });
        }
        self.run();
        Ok(published)
    }

    /// A pattern as this node writes it: without a network if that is its default one.
    ///
    /// # Errors
    ///
    /// When it names a network that this node is not in.
    pub fn normalise_pattern(&self, pattern: &Pattern) -> Result<Pattern, Denied> {
        let offer = crate::directory::SubscriptionOffer::new(pattern.clone());
        let place = self.access.normalise(offer.place().clone())?;
        Ok(if place.network().is_none() { pattern.without_network() } else { pattern.clone() })
    }

    // From the transport.

    pub(super) fn events_begin(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        from: EventsFrom,
    ) {
        let session = self.peers.get(peer).and_then(|entry| entry.machine.session());
        let Some(boot) = session.map(|session| session.boot) else { return };
        match self.receiver.begins(peer, link, lane, boot, from) {
            Ok(0) => {}
            Ok(lost) => self.missed(peer, lost, MissedWhy::Interrupted),
            Err(what) => self.events_fault(peer, link, what),
        }
    }

    pub(super) fn event_arrived(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        event: EventFrame,
    ) {
        let Some(number) = self.event_counts(peer, link, lane) else { return };
        let Some(entry) = self.peers.get(peer) else { return };
        let Some(session) = entry.machine.session() else { return };
        let id = EventId { publisher: entry.id, boot: session.boot, sequence: event.sequence };
        let (topic, plan) = match self.decide(peer, event.topic) {
            Ok(decided) => decided,
            Err(what) => return self.complain(peer, what),
        };
        let size = event.payload.len();
        let bytes = match size <= COPIED_BYTES_MAX {
            true => self.copy_payload(&event.payload),
            false => event.payload,
        };
        let message = Arc::new(EventMessage {
            id,
            topic,
            payload: Payload::Encoded { content: event.content, bytes },
            redelivered: event.redelivered,
        });
        if event.everyone {
            let here = if event.one_per_service { &plan.plain_here } else { &plan.all_here };
            for key in here {
                self.deliver_to(*key, &message, size);
            }
        }
        let groups = event.groups.into_iter().map(|g| g.map(|g| GroupName::Group(g.into())));
        let services = event.services.into_iter().map(|service| {
            service.map(|path| self.access.localise(peer, path).map(GroupName::Service))
        });
        let mut declined = Vec::new();
        let names: Vec<_> = groups.map(|name| name.map(Some)).chain(services).collect();
        for (place, name) in names.into_iter().enumerate() {
            let Some(name) = name else { continue };
            let members = name.as_ref().and_then(|name| plan.members(name));
            match members.and_then(|members| self.choose_here(&id, members, size)) {
                Some(key) => self.deliver_to(key, &message, size),
                None => declined.push(place as u32),
            }
        }
        if !declined.is_empty() {
            self.receiver.declined(peer, lane, number, declined);
        }
    }

    /// Who gets an event of a peer, and its topic as it is written here; or why nobody does.
    fn decide(
        &mut self,
        peer: PeerKey,
        written: TopicPath,
    ) -> Result<(TopicPath, Arc<Plan>), String> {
        if let Some(decision) = self.decisions.of(peer, &written, self.plans.generation())
            && self.access.stands(self.now, peer, &decision.permit)
        {
            return Ok((decision.topic.clone(), Arc::clone(&decision.plan)));
        }
        let mut topic = written.clone();
        if !self.access.localise_in_place(peer, &mut topic) {
            return Err("it publishes in no network that we share".to_string());
        }
        let permit = self.access.permit(self.now, peer, Permission::Publish, &topic);
        let permit = match permit {
            Err(denied) if !is_planted(77) => {
                return Err(format!("it publishes to '{topic}': {denied}"));
            }
            permit => permit.ok(),
        };
        let (topic, plan, _) = self.plan(&topic);
        if let Some(permit) = permit {
            let (topic, plan) = (topic.clone(), Arc::clone(&plan));
            let generation = self.plans.generation();
            // As what was read is remembered, and not as it came: that would keep alive what came with it.
            let written = TopicPath::parse(written.as_str()).expect("it is one");
            self.decisions.remember(Decision { peer, written, permit, topic, plan, generation });
        }
        Ok((topic, plan))
    }

    /// A small payload, apart from what came with it. Several share a buffer.
    fn copy_payload(&mut self, payload: &[u8]) -> Bytes {
        if self.payloads.capacity() < payload.len() {
            self.payloads = BytesMut::with_capacity(PAYLOADS_BYTES);
        }
        self.payloads.extend_from_slice(payload);
        self.payloads.split().freeze()
    }

    pub(super) fn events_skipped(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        count: u64,
    ) {
        if self.event_counts(peer, link, lane).is_some() && count > 0 {
            self.missed(peer, count, MissedWhy::PassedOver);
        }
    }

    /// Counts a frame in. Its number, if it is to be looked at.
    fn event_counts(&mut self, peer: PeerKey, link: LinkHandle, lane: Lane) -> Option<u64> {
        match self.receiver.arrived(peer, link, lane) {
            Ok(arrival) => {
                if self.receiver.wants_ack(peer) {
                    self.send_on_control(peer, OutItem::EventAck);
                }
                match arrival {
                    Arrival::New(number) => Some(number),
                    Arrival::Old | Arrival::Early => None,
                }
            }
            Err(what) => {
                self.events_fault(peer, link, what);
                None
            }
        }
    }

    fn events_fault(&mut self, peer: PeerKey, link: LinkHandle, what: &str) {
        self.feed_peer(peer, PeerInput::Fault { link, what: what.to_string() });
    }

    pub(super) fn events_acknowledged(&mut self, peer: PeerKey, ack: &EventAck) {
        let word = self.sender.heard(peer, ack);
        if word == Word::Forgotten {
            return self.end_event_stream(peer);
        }
        let mut reports = Vec::new();
        let room = self.sender.acknowledged(peer, ack, &mut reports);
        self.report(reports);
        if ack.again != 0 || word == Word::Awaited {
            self.mark_waiting_events(peer);
        }
        if room {
            self.events.push_back(Event::PublishRoom);
        }
    }

    /// What a peer does without the right to it is ignored, and said once.
    fn complain(&mut self, peer: PeerKey, what: String) {
        if self.receiver.complain(peer)
            && let Some(peer) = self.peers.get(peer).map(|entry| entry.id)
        {
            let what = format!("{what}; that is ignored");
            self.events.push_back(Event::ClaimIgnored { peer, what });
        }
    }

    // To subscribers here.

    fn deliver_to(&mut self, key: SubscriptionKey, message: &Arc<EventMessage>, size: usize) {
        if self.subscriptions.deliver(key, message, size) {
            self.events.push_back(Event::SubscriptionReady(key));
        }
    }

    fn missed(&mut self, peer: PeerKey, count: u64, why: MissedWhy) {
        let Some(publisher) = self.peers.get(peer).map(|entry| entry.id) else { return };
        for key in self.subscriptions.miss(Missed { publisher, count, why }) {
            self.events.push_back(Event::SubscriptionReady(key));
        }
    }

    // To peers.

    fn plan(&mut self, topic: &TopicPath) -> (TopicPath, Arc<Plan>, usize) {
        let (subscriptions, interest) = (&self.subscriptions, &self.interest);
        self.plans
            .plan(topic, |topic| Plan::new(subscriptions.here(topic), interest.elsewhere(topic)))
    }

    fn push_event(&mut self, peer: PeerKey, lane: usize, event: Outgoing, part: Option<Part>) {
        if let Some(part) = &part {
            self.publications.sent(part.publication);
        }
        if self.sender.push(peer, lane, event, part.map(Box::new)) {
            self.mark_events(peer, lane);
        }
    }

    /// Tells the link that is sent on that events wait.
    fn mark_events(&mut self, peer: PeerKey, lane: usize) {
        let link = self.peers.get(peer).and_then(|entry| entry.machine.sending_link());
        let Some(link) = link else { return };
        if self.links.get_mut(&link).is_some_and(|entry| entry.out.mark_events(lane)) {
            self.link_commands.push_back(LinkCommand::FramesReady { link });
        }
    }

    pub(super) fn mark_waiting_events(&mut self, peer: PeerKey) {
        let waiting: Vec<usize> = self.sender.waiting(peer).collect();
        for lane in waiting {
            self.mark_events(peer, lane);
        }
    }

    /// A link to a peer is up, and may be the first for a while.
    pub(super) fn events_ready(&mut self, peer: PeerKey) {
        self.mark_waiting_events(peer);
        let session = self.peers.get(peer).and_then(|entry| entry.machine.session());
        if let Some(session) = session
            && self.publisher.is_incremental(peer)
        {
            self.receiver.link_ready(peer, session.boot);
            self.send_on_control(peer, OutItem::EventAck);
        }
    }

    /// What was under way to a peer on a link is in doubt.
    pub(super) fn events_in_doubt(&mut self, peer: PeerKey, connected: bool) {
        let mut reports = Vec::new();
        self.sender.link_lost(peer, connected, &mut reports);
        self.report(reports);
        if connected {
            self.events_ready(peer);
        }
    }

    /// What was under way to a peer's life, or from ours, is lost.
    pub(super) fn end_event_stream(&mut self, peer: PeerKey) {
        let mut reports = Vec::new();
        let (count, room) = self.sender.forget(peer, &mut reports);
        self.report(reports);
        if room {
            self.events.push_back(Event::PublishRoom);
        }
        if count > 0
            && let Some(peer) = self.peers.get(peer).map(|entry| entry.id)
        {
            self.events.push_back(Event::EventsLost { peer, count });
        }
    }

    /// The peer's life is over.
    pub(super) fn forget_events(&mut self, peer: PeerKey) {
        self.end_event_stream(peer);
        self.receiver.session_ended(peer);
        if self.interest.forget(peer) {
            self.plans.forget();
        }
    }

    pub(super) fn learn_interest(
        &mut self,
        peer: PeerKey,
        id: PeerId,
        changes: &[(EntryKey, Option<crate::directory::Entry>)],
    ) {
        let mut changed = false;
        for (key, entry) in changes {
            changed |= self.interest.change(peer, id, *key, entry.as_ref());
        }
        if changed {
            self.plans.forget();
        }
    }

    /// What counts of a peer's subscriptions may be something else than it was.
    pub(super) fn learn_interest_again(&mut self, peer: PeerKey, id: PeerId, document: &Document) {
        let gone = self.interest.of_peer(peer).into_iter().map(EntryKey::Subscription);
        let gone = gone.filter(|key| !document.entries.contains_key(key)).map(|key| (key, None));
        let put = document.entries.iter().map(|(key, entry)| (*key, Some(entry.clone())));
        let changes: Vec<_> = gone.chain(put).collect();
        self.learn_interest(peer, id, &changes);
    }

    fn announce(&mut self, announcement: Option<crate::events::subscriptions::Announcement>) {
        match announcement {
            Some((key, Some(entry))) => self.feed_publisher(PublisherInput::Put(key, entry)),
            Some((key, None)) => self.feed_publisher(PublisherInput::Remove(key)),
            None => {}
        }
    }

    // Groups.

    fn choose(&self, id: &EventId, group: &Members, eligible: &Eligible<'_>) -> Choice {
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
            && let Some(key) = self.choose_here(id, group, eligible.room_for.unwrap_or(0))
        {
            let members = u32::try_from(group.here.len()).unwrap_or(u32::MAX);
            let members = members.min(crate::directory::document::MEMBERS_MAX);
            offer(lots.of_node(&own_id, members), own_id, Choice::Here(key));
        }
        for (peer, id, members) in &group.peers {
            let excluded = !eligible.peers
                || eligible.only.is_some_and(|only| only != *id)
                || eligible.tried.contains(id)
                || !self.peers.get(*peer).is_some_and(|entry| entry.machine.is_up());
            if excluded {
                continue;
            }
            if eligible.room_for.is_some_and(|size| !self.sender.has_room(*peer, size)) {
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
    fn choose_here(&self, id: &EventId, group: &Members, size: usize) -> Option<SubscriptionKey> {
        let lots = Lots::new(id, &group.name);
        let with_room = group.here.iter().filter(|key| self.subscriptions.has_room(**key, size));
        with_room.max_by_key(|key| lots.of_member(key.to_u64())).copied()
    }

    fn report(&mut self, reports: Vec<Report>) {
        for report in reports {
            self.feed_publications(match report {
                Report::Ended(part, end) => PublicationInput::Ended { part, end },
                Report::Returned { publication, group, unknown } => {
                    PublicationInput::Returned { publication, group, unknown }
                }
            });
        }
    }

    pub(super) fn publication_effect(&mut self, effect: PublicationEffect) {
        match effect {
            PublicationEffect::Reassign { publication, group } => {
                let to = self.reassign(publication, group);
                self.feed_publications(PublicationInput::Reassigned { publication, group, to });
            }
            PublicationEffect::Ended { publication, outcome } => {
                self.events.push_back(Event::PublishEnded { publication, outcome });
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
        let eligible = Eligible {
            local: only.is_none(),
            peers: true,
            only,
            tried: &redelivery.tried,
            room_for: None,
        };
        let size = content.bytes.len();
        let (content_type, bytes) = (content.content, content.bytes.clone());
        match self.choose(&content.id, members, &eligible) {
            Choice::Here(key) => {
                let message = Arc::new(EventMessage {
                    id: content.id,
                    topic,
                    payload: Payload::Encoded { content: content_type, bytes },
                    redelivered: redelivery.redelivered,
                });
                self.deliver_to(key, &message, size);
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

    /// Whether every peer that can be reached has acknowledged every event.
    pub(super) fn events_are_through(&self) -> bool {
        let up = self.peers.iter().filter(|(_, entry)| entry.machine.is_up());
        up.into_iter().all(|(key, _)| self.sender.unacknowledged(key) == 0)
    }

    pub(super) fn feed_publications(&mut self, input: PublicationInput) {
        feed!(self, self.publications, (), input, NodeTimer::Publication, Work::Publication);
    }
}
