//! Events, wired to links.
//!
//! ```text
//! publish  from a publisher here to subscribers here and the streams of peers (peers)
//! receive  from what peers send to subscribers here
//! groups   which member gets an event, and what becomes of it
//! leave    subscribers that go, and events of groups that they give back
//! ```

mod groups;
mod leave;
mod peers;
mod publish;
mod receive;

pub(super) use receive::Payloads;

use std::sync::Arc;

use crate::auth::{Denied, Permission};
use crate::base::{Allowance, Now, PeerId, PeerKey};
use crate::directory::document::GROUP_BYTES_MAX;
use crate::directory::{Document, EntryKey, PublisherInput};
use crate::events::lent::Lent;
use crate::events::plan::Plan;
use crate::events::queue::Queued;
use crate::events::returns::Returns;
use crate::events::run::Run;
use crate::events::{Delivery, Missed, MissedWhy, SubscribeRequest, Subscriptions};
use crate::mesh::event::Event;
use crate::mesh::{CommandError, Mesh, Phase};
use crate::topic::{Pattern, SubscriptionKey, TopicPath};
use crate::wire::HEADER_BYTES_MAX;

/// What few nodes need.
#[derive(Clone)]
pub(in crate::mesh) struct RareEvents {
    /// Events that members of groups at peers have.
    lent: Lent,
    /// They are looked at when the oldest of them is kept no more.
    lent_timed: bool,
    returns: Returns,
    /// For how many peers publishers may wait in vain, in thousandths.
    vain_waits: Allowance,
}

impl RareEvents {
    pub(in crate::mesh) fn check_invariants(&self) {
        self.lent.check_invariants();
        self.returns.check_invariants();
    }
}

/// A subscriber that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Names it.
    pub key: SubscriptionKey,
    /// The version of this node's document from which on it is announced. What a peer publishes after it has
    /// acknowledged that version reaches the subscriber: see [`Mesh::is_known_by_all`].
    pub version: u64,
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

    /// The next thing that waits for a subscriber; none if nothing does.
    pub fn take_delivery(&mut self, subscription: SubscriptionKey) -> Option<Delivery> {
        self.subscriptions.take(subscription)
    }

    /// The next things that wait for a subscriber: events in a row that came together, or one word of missed ones.
    pub(crate) fn take_deliveries(
        &mut self,
        subscription: SubscriptionKey,
        events_max: usize,
    ) -> Option<Queued> {
        self.subscriptions.take_together(subscription, events_max)
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

    pub(super) fn rare_events(&mut self) -> &mut RareEvents {
        let (limits, now) = (&self.limits, self.now.mono);
        self.rare_events.get_or_insert_with(|| {
            Box::new(RareEvents {
                lent: Lent::new(limits),
                lent_timed: false,
                returns: Returns::default(),
                vain_waits: Allowance::new(
                    now,
                    1_000 * u64::from(limits.publish_waits_in_vain_max),
                ),
            })
        })
    }

    /// How many events a peer has not confirmed that it was given back.
    pub(in crate::mesh) fn returns_waiting(&self, peer: PeerKey) -> usize {
        self.rare_events.as_ref().map_or(0, |rare| rare.returns.waiting(peer))
    }

    /// Whether each peer has confirmed all that it was given back.
    pub(in crate::mesh) fn has_given_all_back(&self) -> bool {
        self.rare_events.as_ref().is_none_or(|rare| rare.returns.is_empty())
    }

    // To subscribers here.

    fn deliver_to(&mut self, key: SubscriptionKey, run: &Run) {
        if self.subscriptions.deliver(key, run) {
            self.events.push_back(Event::SubscriptionReady(key));
        }
    }

    fn missed(&mut self, peer: PeerKey, count: u64, why: MissedWhy) {
        let Some(publisher) = self.peers.get(peer).map(|entry| entry.id) else { return };
        for key in self.subscriptions.miss(Missed { publisher, count, why }) {
            self.events.push_back(Event::SubscriptionReady(key));
        }
    }

    fn plan(&mut self, topic: &TopicPath) -> (TopicPath, Arc<Plan>, usize) {
        let (subscriptions, interest) = (&self.subscriptions, &self.interest);
        self.plans
            .plan(topic, |topic| Plan::new(subscriptions.here(topic), interest.elsewhere(topic)))
    }

    pub(in crate::mesh) fn learn_interest(
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
    pub(in crate::mesh) fn learn_interest_again(
        &mut self,
        peer: PeerKey,
        id: PeerId,
        document: &Document,
    ) {
        let gone = self.interest.of_peer(peer).into_iter().map(EntryKey::Subscription);
        let gone = gone.filter(|key| !document.entries.contains_key(key)).map(|key| (key, None));
        let put = document.entries.iter().map(|(key, entry)| (*key, Some(entry.clone())));
        let changes: Vec<_> = gone.chain(put).collect();
        self.learn_interest(peer, id, &changes);
    }

    pub(super) fn announce(
        &mut self,
        announcement: Option<crate::events::subscriptions::Announcement>,
    ) {
        match announcement {
            Some((key, Some(entry))) => self.feed_publisher(PublisherInput::Put(key, entry)),
            Some((key, None)) => self.feed_publisher(PublisherInput::Remove(key)),
            None => {}
        }
    }
}
