//! The subscribers of this node. Each has a queue of its own, so that none waits for another.

use std::sync::Arc;

use crate::base::{Draws, FewMap, Limits};
use crate::directory::document::MEMBERS_MAX;
use crate::directory::numbers::{ENTRY_BITS, Numbers};
use crate::directory::{Entry, EntryKey, SubscriptionOffer};
use crate::events::group::{Group, GroupName};
use crate::events::plan::Here;
use crate::events::queue::{Queue, QueueLimits, Queued};
use crate::events::run::Run;
use crate::events::{Delivery, EventMessage, Missed};
use crate::topic::{Pattern, PatternIndex, SubscriptionKey, TopicPath};

/// A subscriber to be.
#[derive(Clone, Debug)]
pub struct SubscribeRequest {
    /// It gets events of these topics.
    pub pattern: Pattern,
    /// The group that it joins, if it does.
    pub group: Option<Group>,
    /// The service that it belongs to, if it does. See [`crate::events::Mode::OnePerService`].
    pub service: Option<TopicPath>,
    /// How much may wait for it.
    pub queue: QueueLimits,
}

impl SubscribeRequest {
    /// A subscriber that gets every event.
    pub fn new(pattern: Pattern) -> Self {
        SubscribeRequest { pattern, group: None, service: None, queue: QueueLimits::default() }
    }
}

/// What several subscribers have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    pattern: Pattern,
    group: Option<Group>,
    service: Option<TopicPath>,
}

impl Wanted {
    /// What its subscribers have in common of which one is chosen, if one is.
    fn group(&self) -> Option<GroupName> {
        let service = || self.service.clone().map(GroupName::Service);
        self.group.as_ref().map(|group| GroupName::Group(Arc::clone(&group.name))).or_else(service)
    }

    /// About how large the entry is on the wire.
    fn bytes(&self) -> usize {
        offer(self, 1).bytes()
    }
}

#[derive(Clone, Debug)]
struct Announced {
    number: u64,
    subscribers: usize,
    /// About how large the entry is on the wire.
    bytes: usize,
}

/// What a subscriber that is gone has not read of what one member of a group gets.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// The group.
    pub group: GroupName,
    /// Whether an event goes to another member when its outcome is not known.
    pub at_least_one: bool,
    /// The events, the oldest first.
    pub events: Vec<EventMessage>,
}

#[derive(Clone, Debug)]
struct Subscriber {
    wanted: Wanted,
    queue: Queue,
    /// It gets nothing more, and may still read.
    leaves: bool,
}

/// A change of what this node makes known.
pub type Announcement = (EntryKey, Option<Entry>);

/// The subscribers of this node.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    index: PatternIndex<Subscriber>,
    keys: std::collections::BTreeSet<SubscriptionKey>,
    announced: FewMap<Wanted, Announced>,
    /// Of the entries.
    entry_bytes: usize,
    numbers: Numbers,
    events_max: usize,
    bytes_max: usize,
}

impl Subscriptions {
    /// Nobody subscribes.
    pub fn new(limits: &Limits) -> Self {
        Subscriptions {
            index: PatternIndex::new(),
            keys: Default::default(),
            announced: FewMap::default(),
            entry_bytes: 0,
            numbers: Numbers::new(ENTRY_BITS, false),
            events_max: limits.subscriber_events_max.max(1),
            bytes_max: limits.subscriber_bytes_max,
        }
    }

    /// How many subscribers there are, with those that only read what waits for them.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Subscribers that compete for events: members of groups, and those of services.
    pub fn competing(&self) -> Vec<SubscriptionKey> {
        let competes = |key: &SubscriptionKey| {
            let subscriber = self.index.get(*key);
            subscriber.is_some_and(|subscriber| subscriber.wanted.group().is_some())
        };
        self.keys.iter().copied().filter(competes).collect()
    }

    /// Subscribers that get nothing more, and have not gone.
    pub fn leaving(&self) -> impl Iterator<Item = SubscriptionKey> + '_ {
        self.keys.iter().copied().filter(|key| self.is_leaving(*key))
    }

    /// Whether a subscriber gets nothing more.
    pub fn is_leaving(&self, key: SubscriptionKey) -> bool {
        self.index.get(key).is_some_and(|subscriber| subscriber.leaves)
    }

    /// Whether nothing waits for a subscriber.
    pub fn is_read(&self, key: SubscriptionKey) -> bool {
        self.index.get(key).is_some_and(|subscriber| subscriber.queue.is_empty())
    }

    /// How many entries there would be, and of how many bytes in all, with a subscriber with these wishes.
    pub fn entries_with(&self, request: &SubscribeRequest) -> (usize, usize) {
        let wanted = wanted(request);
        match self.announced.contains_key(&wanted) {
            true => (self.announced.len(), self.entry_bytes),
            false => (self.announced.len() + 1, self.entry_bytes + wanted.bytes()),
        }
    }

    /// Adds a subscriber. Its wishes are checked. What this node makes known may change.
    pub fn subscribe(
        &mut self,
        request: SubscribeRequest,
        draws: &mut Draws,
    ) -> (SubscriptionKey, Option<Announcement>) {
        let wanted = wanted(&request);
        let queue = QueueLimits {
            events_max: request.queue.events_max.clamp(1, self.events_max),
            bytes_max: request.queue.bytes_max.min(self.bytes_max),
            overflow: request.queue.overflow,
        };
        let subscriber =
            Subscriber { wanted: wanted.clone(), queue: Queue::new(queue), leaves: false };
        let key = self.index.insert(&request.pattern, subscriber);
        self.keys.insert(key);
        let before = self.announced.get(&wanted).map(|announced| announced.subscribers);
        let (numbers, network) = (&mut self.numbers, wanted.pattern.network());
        if before.is_none() {
            let (number, bytes) = (numbers.next(network, draws), wanted.bytes());
            self.announced.insert(wanted.clone(), Announced { number, subscribers: 0, bytes });
        }
        let announced = self.announced.get_mut(&wanted).expect("it is listed");
        announced.subscribers += 1;
        if before.is_none() {
            self.entry_bytes += announced.bytes;
        }
        let now = announced.clone();
        (key, announce(&wanted, before, &now))
    }

    /// A subscriber gets nothing more. What waits for it can still be read, until it is removed.
    pub fn leave(&mut self, key: SubscriptionKey) -> Option<Option<Announcement>> {
        let subscriber = self.index.get_mut(key).filter(|subscriber| !subscriber.leaves)?;
        subscriber.leaves = true;
        let wanted = subscriber.wanted.clone();
        let announced = self.announced.get_mut(&wanted).expect("every subscriber is announced");
        announced.subscribers -= 1;
        let (before, now) = (announced.subscribers + 1, announced.clone());
        if now.subscribers == 0 {
            self.announced.remove(&wanted);
            self.entry_bytes -= now.bytes;
            return Some(Some((EntryKey::Subscription(now.number), None)));
        }
        Some(announce(&wanted, Some(before), &now))
    }

    /// Takes a subscriber away that leaves. Returns what it has not read of what one member of a group gets: of what
    /// was handed to it, and of what waits.
    pub(crate) fn remove(
        &mut self,
        key: SubscriptionKey,
        handed: impl IntoIterator<Item = Queued>,
    ) -> Option<Backlog> {
        debug_assert!(self.index.get(key).is_none_or(|subscriber| subscriber.leaves));
        let Subscriber { wanted, mut queue, .. } = self.index.remove(key)?;
        self.keys.remove(&key);
        let group = wanted.group()?;
        let waiting = std::iter::from_fn(|| queue.take(usize::MAX));
        let runs = handed.into_iter().chain(waiting).filter_map(|queued| match queued {
            Queued::Events(run) => Some(run),
            Queued::Missed(_) => None,
        });
        let events = runs.flat_map(|mut run| std::iter::from_fn(move || run.pop()));
        // A subscriber of a service gets events of all, too.
        let competes =
            |event: &EventMessage| wanted.group.is_some() || event.marks().one_per_service;
        let at_least_one = wanted.group.as_ref().is_some_and(|group| group.at_least_one);
        Some(Backlog { group, at_least_one, events: events.filter(competes).collect() })
    }

    /// The subscribers of a topic.
    pub fn here(&self, topic: &TopicPath) -> Here {
        let mut here = Here::default();
        self.index.for_each_match(topic, |key, subscriber| {
            if subscriber.leaves {
                return;
            }
            let Wanted { group, service, .. } = &subscriber.wanted;
            match (group, service) {
                (Some(group), _) => {
                    let name = GroupName::Group(Arc::clone(&group.name));
                    here.groups.push((name, group.at_least_one, key));
                }
                (None, Some(service)) => here.of_services.push((service.clone(), key)),
                (None, None) => here.plain.push(key),
            }
        });
        here
    }

    /// Whether an event of this size fits a subscriber's queue.
    pub fn has_room(&self, key: SubscriptionKey, bytes: usize) -> bool {
        self.index.get(key).is_some_and(|subscriber| subscriber.queue.has_room(bytes))
    }

    /// Puts events into a subscriber's queue. Says whether nothing waited there before.
    pub fn deliver(&mut self, key: SubscriptionKey, run: &Run) -> bool {
        let Some(subscriber) = self.index.get_mut(key) else { return false };
        let was_empty = subscriber.queue.is_empty();
        subscriber.queue.push(run);
        was_empty
    }

    /// Tells all subscribers that events will not come. Gives those for whom nothing waited before.
    pub fn miss(&mut self, missed: Missed) -> Vec<SubscriptionKey> {
        let mut ready = Vec::new();
        for key in &self.keys {
            let subscriber = self.index.get_mut(*key).expect("listed");
            if subscriber.leaves {
                continue;
            }
            if subscriber.queue.is_empty() {
                ready.push(*key);
            }
            subscriber.queue.miss(missed);
        }
        ready
    }

    /// The next things that wait for a subscriber: see [`Queue::take`].
    pub(crate) fn take_together(
        &mut self,
        key: SubscriptionKey,
        events_max: usize,
    ) -> Option<Queued> {
        self.index.get_mut(key)?.queue.take(events_max)
    }

    /// The next thing that waits for a subscriber.
    pub fn take(&mut self, key: SubscriptionKey) -> Option<Delivery> {
        self.index.get_mut(key)?.queue.pop()
    }

    /// Asserts what must hold between inputs.
    pub fn check_invariants(&self) {
        assert_eq!(self.index.len(), self.keys.len(), "every subscriber is listed");
        let subscribers: usize = self.announced.values().map(|a| a.subscribers).sum();
        let taking = self.keys.len() - self.leaving().count();
        assert_eq!(subscribers, taking, "every subscriber that takes events is announced");
        let bytes: usize = self.announced.values().map(|a| a.bytes).sum();
        assert_eq!(bytes, self.entry_bytes, "the bytes of entries are counted");
        for key in &self.keys {
            self.index.get(*key).expect("listed").queue.check_invariants();
        }
    }
}

fn wanted(request: &SubscribeRequest) -> Wanted {
    Wanted {
        pattern: request.pattern.clone(),
        group: request.group.clone(),
        service: request.service.clone(),
    }
}

/// How many members an entry says there are. Only of groups and services somebody chooses.
fn members(wanted: &Wanted, subscribers: usize) -> u32 {
    if wanted.group.is_none() && wanted.service.is_none() {
        return 1;
    }
    u32::try_from(subscribers).unwrap_or(u32::MAX).min(MEMBERS_MAX)
}

fn announce(wanted: &Wanted, before: Option<usize>, now: &Announced) -> Option<Announcement> {
    let members = |subscribers| members(wanted, subscribers);
    if before.is_some_and(|before| members(before) == members(now.subscribers)) {
        return None;
    }
    let offer = offer(wanted, members(now.subscribers));
    Some((EntryKey::Subscription(now.number), Some(Entry::Subscription(Arc::new(offer)))))
}

fn offer(wanted: &Wanted, members: u32) -> SubscriptionOffer {
    let mut offer = SubscriptionOffer::new(wanted.pattern.clone());
    offer.members = members;
    offer.service = wanted.service.clone();
    if let Some(group) = &wanted.group {
        offer.group = Some(Arc::clone(&group.name));
        offer.at_least_one = group.at_least_one;
    }
    offer
}
