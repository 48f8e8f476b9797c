//! Subscribers that go, and the events of groups that they have not handled.
//!
//! ```text
//! leave        the subscriber gets nothing more; what still comes for its group is declined (receive)
//! it reads on  what waits for it is its own
//! unsubscribe  what it has not read goes to another member: one of this node, or the publisher chooses one
//! ```
//!
//! A node that stops does that for all its members, and its last word on each peer's events tells which of them have
//! come: groups get the others back, as no subscriber here has them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::{Now, PeerId, PeerKey};
use crate::events::ack::{EventAck, Returned};
use crate::events::group::GroupName;
use crate::events::lent::LentEvent;
use crate::events::publications::{Content, PartGroup, PublicationInput, PublicationKey};
use crate::events::queue::Queued;
use crate::events::run::Run;
use crate::events::subscriptions::Backlog;
use crate::events::{EventId, EventMessage};
use crate::mesh::event::Event;
use crate::mesh::outbound::OutItem;
use crate::mesh::{Mesh, NodeTimer, Phase};
use crate::planted::is_planted;
use crate::topic::SubscriptionKey;

/// How long members of groups may read what waits for them once the node stops. Then it is given back. A guess: the less
/// of [`SHUTDOWN_GRACE`](crate::mesh::SHUTDOWN_GRACE), so that what is given back gets away.
const LEAVE_GRACE: Duration = Duration::from_secs(2);

impl Mesh {
    // What the application asks.

    /// A subscriber gets nothing more, and can read what waits for it; [`Mesh::unsubscribe`] is to follow. Does nothing
    /// if it has gone.
    pub fn leave(&mut self, now: Now, subscription: SubscriptionKey) {
        self.tick(now);
        self.leave_one(subscription);
        self.run();
    }

    /// Takes a subscriber away. What waits for a member of a group goes to another one; if there is none,
    /// [`Event::GroupEventsLost`] follows at the publisher. Does nothing if it has gone.
    pub fn unsubscribe(&mut self, now: Now, subscription: SubscriptionKey) {
        self.unsubscribe_with(now, subscription, []);
    }

    /// The same, with what was handed to the subscriber before, and was not handled either.
    pub(crate) fn unsubscribe_with(
        &mut self,
        now: Now,
        subscription: SubscriptionKey,
        handed: impl IntoIterator<Item = Queued>,
    ) {
        self.tick(now);
        self.leave_one(subscription);
        if let Some(backlog) = self.subscriptions.remove(subscription, handed) {
            self.give_back(backlog);
        }
        self.run();
    }

    fn leave_one(&mut self, subscription: SubscriptionKey) {
        if let Some(announcement) = self.subscriptions.leave(subscription) {
            self.plans.forget();
            self.announce(announcement);
        }
    }

    // As a member.

    fn give_back(&mut self, backlog: Backlog) {
        if is_planted(171) {
            return;
        }
        let Backlog { group, at_least_one, events } = backlog;
        let mut publishers = BTreeSet::new();
        let mut lost = 0;
        for event in events {
            let (id, run) = (event.id(), Run::from(event.clone()));
            let (_, plan, _) = self.plan(event.topic());
            let here = plan.members(&group);
            let here = here.and_then(|members| self.choose_here(&id, members, run.bytes()));
            if let Some(key) = here {
                self.deliver_to(key, &run);
            } else if id.publisher == self.local.id {
                match self.own_event(&event) {
                    Some(content) => {
                        let how = (at_least_one, event.is_redelivered());
                        self.place(id.publisher, group.clone(), content, how);
                    }
                    None => lost += 1,
                }
            } else {
                let peer = self.by_id.get(&id.publisher).copied();
                let session = |key| self.peers.get(key).and_then(|entry| entry.machine.session());
                // What another life has published, no one can give to others.
                let peer = peer.filter(|peer| session(*peer).is_some_and(|s| s.boot == id.boot));
                let returned = Returned { group: group.clone(), sequence: id.sequence };
                match peer {
                    Some(peer) if self.rare_events().returns.give(peer, id.boot, returned) => {
                        publishers.insert(peer);
                    }
                    _ => lost += 1,
                }
            }
        }
        for peer in publishers {
            self.send_on_control(peer, OutItem::EventAck);
        }
        self.group_events_lost(self.local.id, lost);
    }

    /// An event that was published here, as another member can be sent it. None if it cannot leave this node, or is of
    /// an earlier life.
    fn own_event(&self, event: &EventMessage) -> Option<Content> {
        let id = event.id();
        if id.boot != self.local.incarnation.boot {
            return None;
        }
        let (content_type, bytes) = self.encoded(&event.payload()).ok()?;
        let target = event.marks().local.then_some(self.local.id);
        Some(Content { id, topic: event.topic().clone(), content: content_type, bytes, target })
    }

    // As a publisher.

    /// No peer can give back what was published before.
    pub(in crate::mesh) fn forget_lent(&mut self) {
        if let Some(rare) = &mut self.rare_events {
            rare.lent.clear();
        }
    }

    /// A peer is in the life with this boot number, or is forgotten.
    pub(in crate::mesh) fn returns_go_on(&mut self, peer: PeerKey, boot: Option<u64>) {
        let Some(rare) = &mut self.rare_events else { return };
        let lost = match boot {
            Some(boot) => rare.returns.link_ready(peer, boot),
            None => rare.returns.forget(peer),
        };
        self.group_events_lost(self.local.id, lost as u64);
    }

    /// A member of a group at a peer has an event.
    pub(super) fn lend(&mut self, peer: PeerKey, publication: PublicationKey, to: &PartGroup) {
        let lent = self.publications.content_for(publication, to.place);
        let Some((content, group, redelivered)) = lent else { return };
        if content.target.is_some() {
            // No other peer may have it.
            return;
        }
        let (sequence, group) = (content.id.sequence, group.clone());
        let event = LentEvent {
            topic: content.topic.clone(),
            content: content.content,
            bytes: content.bytes.clone(),
            at_least_one: to.at_least_one,
            redelivered,
        };
        let now = self.now.mono;
        let rare = self.rare_events();
        rare.lent.lend(now, peer, group, sequence, event);
        if !std::mem::replace(&mut rare.lent_timed, true)
            && let Some(at) = rare.lent.next_at()
        {
            self.timers.arm(at, NodeTimer::Lent);
        }
    }

    pub(in crate::mesh) fn lent_expires(&mut self) {
        let now = self.now.mono;
        let rare = self.rare_events();
        rare.lent.expire(now);
        let next_at = rare.lent.next_at();
        rare.lent_timed = next_at.is_some();
        if let Some(at) = next_at {
            self.timers.arm(at, NodeTimer::Lent);
        }
    }

    /// What a peer gives back goes to other members.
    pub(super) fn take_back(&mut self, peer: PeerKey, ack: &EventAck) {
        let Some(entry) = self.peers.get(peer) else { return };
        let Some(session) = entry.machine.session() else { return };
        let (id, boot) = (entry.id, session.boot);
        let mut lost = 0;
        if self.rare_events.is_none() && ack.returned.is_empty() {
            return;
        }
        for Returned { group, sequence } in self.rare_events().returns.take(peer, boot, ack) {
            let group = match group {
                GroupName::Group(_) => Some(group),
                GroupName::Service(path) => {
                    self.access.localise(peer, path).map(GroupName::Service)
                }
            };
            let given_back = group.and_then(|group| {
                let event = self.rare_events().lent.take_back(peer, &group, sequence)?;
                Some((group, event))
            });
            let Some((group, event)) = given_back else {
                lost += 1;
                continue;
            };
            let LentEvent { topic, content, bytes, at_least_one, redelivered } = event;
            let (publisher, boot) = (self.local.id, self.local.incarnation.boot);
            let event = EventId { publisher, boot, sequence };
            let content = Content { id: event, topic, content, bytes, target: None };
            self.place(id, group, content, (at_least_one, redelivered));
        }
        self.group_events_lost(id, lost);
        if !ack.returned.is_empty() {
            // It waits for the confirmation.
            self.send_on_control(peer, OutItem::EventAck);
        }
    }

    /// Finds another member for an event that a node, maybe this one, has given back. An event of which it is not known
    /// whether it was handled goes to the next member, or not; and comes as what was sent before, or not.
    fn place(
        &mut self,
        given_back_by: PeerId,
        group: GroupName,
        content: Content,
        how: (bool, bool),
    ) {
        if self.publications.len() >= self.limits.publications_open_max {
            return self.group_events_lost(given_back_by, 1);
        }
        let publication = self.publications.give_back(content, group, how, given_back_by);
        self.feed_publications(PublicationInput::Begin { publication, wait: None });
        let (group, unknown) = (0, false);
        self.feed_publications(PublicationInput::Returned { publication, group, unknown });
    }

    pub(in crate::mesh) fn group_events_lost(&mut self, given_back_by: PeerId, more: u64) {
        if more == 0 {
            return;
        }
        // They come in great numbers.
        if let Some(Event::GroupEventsLost { given_back_by: by, count }) = self.events.back_mut()
            && *by == given_back_by
        {
            *count += more;
            return;
        }
        self.events.push_back(Event::GroupEventsLost { given_back_by, count: more });
    }

    // As a node that stops.

    /// Members of groups get nothing more.
    pub(in crate::mesh) fn leave_groups(&mut self) {
        for key in self.subscriptions.competing() {
            self.leave_one(key);
        }
        let leaving: Vec<SubscriptionKey> = self.subscriptions.leaving().collect();
        if leaving.is_empty() {
            return;
        }
        // Those for which something waits were told so.
        let read = leaving.into_iter().filter(|key| self.subscriptions.is_read(*key));
        self.events.extend(read.map(Event::SubscriptionReady));
        self.timers.arm(self.now.mono + LEAVE_GRACE, NodeTimer::LeaveGroups);
    }

    /// They have had their time.
    pub(in crate::mesh) fn groups_are_left(&mut self) {
        self.events.extend(self.subscriptions.leaving().map(Event::SubscriptionOver));
    }

    /// Whether a node that stops has nothing left to give back, and every peer that is connected knows that it has no
    /// members any more.
    pub(in crate::mesh) fn is_ready_for_last_ack(&self) -> bool {
        self.phase == Phase::Stopping
            && !self.last_ack_said
            && self.subscriptions.leaving().next().is_none()
            && self.is_known_to_stop()
            && self
                .peers
                .iter()
                .all(|(peer, entry)| !entry.machine.is_up() || self.returns_waiting(peer) == 0)
    }

    /// From here on no event counts that comes: peers are told which ones have come.
    pub(in crate::mesh) fn say_last_ack(&mut self) {
        self.last_ack_said = true;
        let up = self
            .peers
            .iter()
            .filter(|(peer, entry)| entry.machine.is_up() && self.receiver.knows(*peer));
        let up: Vec<PeerKey> = up.map(|(peer, _)| peer).collect();
        for peer in up {
            self.send_on_control(peer, OutItem::EventAck);
        }
    }

    /// What a peer is told of its events, and of those that it gets back.
    pub(in crate::mesh) fn event_ack(&mut self, peer: PeerKey) -> EventAck {
        let mut ack = self.receiver.take_ack(peer);
        ack.is_last = self.last_ack_said;
        if let Some(rare) = &mut self.rare_events
            && rare.returns.say(peer, &mut ack)
        {
            self.send_on_control(peer, OutItem::EventAck);
        }
        ack
    }
}
