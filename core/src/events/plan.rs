//! Who gets an event of a topic. Made once for a topic, and used until somebody's wishes change.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{PeerId, PeerKey, StableHash};
use crate::events::ack::LANES;
use crate::events::group::GroupName;
use crate::planted::is_planted;
use crate::topic::{SubscriptionKey, TopicPath};

/// The subscribers of a topic on this node.
#[derive(Clone, Debug, Default)]
pub struct Here {
    /// Those that get every event.
    pub plain: Vec<SubscriptionKey>,
    /// Those that belong to a service.
    pub of_services: Vec<(TopicPath, SubscriptionKey)>,
    /// Those that are in a group, with whether one of its members must handle the event.
    pub groups: Vec<(GroupName, bool, SubscriptionKey)>,
}

/// A peer as a member of a group, with how many members it stands for.
pub type PeerMember = (PeerKey, PeerId, u32);

/// The subscribers of a topic on peers.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Peers with subscribers that get every event.
    pub plain: Vec<PeerKey>,
    /// Peers with subscribers of services.
    pub of_services: Vec<(TopicPath, PeerMember)>,
    /// Peers with members of groups.
    pub groups: Vec<(GroupName, bool, PeerMember)>,
}

/// The members of a group that get events of a topic.
#[derive(Clone, Debug)]
pub struct Members {
    /// The group.
    pub name: GroupName,
    /// Whether somebody must handle the event, be it twice.
    pub at_least_one: bool,
    /// Its members on this node.
    pub here: Vec<SubscriptionKey>,
    /// Its members on peers.
    pub peers: Vec<PeerMember>,
}

/// Who gets an event of a topic.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The subscribers here that get every event.
    pub plain_here: Vec<SubscriptionKey>,
    /// Those, and those that belong to services.
    pub all_here: Vec<SubscriptionKey>,
    /// The peers with subscribers that get every event, none twice.
    pub plain_peers: Vec<PeerKey>,
    /// Those, and those with subscribers that belong to services.
    pub all_peers: Vec<PeerKey>,
    /// The groups.
    pub groups: Vec<Members>,
    /// The services, for events that go to one subscriber of each.
    pub services: Vec<Members>,
}

impl Plan {
    /// Puts together who is here and who is elsewhere.
    pub fn new(here: Here, elsewhere: Elsewhere) -> Plan {
        let mut plan = Plan {
            all_here: here.plain.clone(),
            plain_here: here.plain,
            all_peers: elsewhere.plain.clone(),
            plain_peers: elsewhere.plain,
            ..Plan::default()
        };
        let mut services = Groups::default();
        for (service, key) in here.of_services {
            plan.all_here.push(key);
            services.of(GroupName::Service(service)).here.push(key);
        }
        for (service, member) in elsewhere.of_services {
            plan.all_peers.push(member.0);
            services.of(GroupName::Service(service)).add(member);
        }
        let mut groups = Groups::default();
        for (name, at_least_one, key) in here.groups {
            let group = groups.of(name);
            group.at_least_one |= at_least_one;
            group.here.push(key);
        }
        for (name, at_least_one, member) in elsewhere.groups {
            let group = groups.of(name);
            group.at_least_one |= at_least_one;
            group.add(member);
        }
        for peers in [&mut plan.plain_peers, &mut plan.all_peers] {
            peers.sort_unstable();
            peers.dedup();
        }
        (plan.groups, plan.services) = (groups.into_list(), services.into_list());
        plan
    }

    /// The members of a group or a service.
    pub fn members(&self, name: &GroupName) -> Option<&Members> {
        let list = match name {
            GroupName::Group(_) => &self.groups,
            GroupName::Service(_) => &self.services,
        };
        list.binary_search_by(|members| members.name.cmp(name)).ok().map(|at| &list[at])
    }
}

impl Members {
    fn add(&mut self, (peer, id, members): PeerMember) {
        // A peer may have members of one group under several patterns.
        match self.peers.iter_mut().find(|known| known.0 == peer) {
            Some(known) => known.2 = known.2.saturating_add(members),
            None => self.peers.push((peer, id, members)),
        }
    }
}

#[derive(Default)]
struct Groups(BTreeMap<GroupName, Members>);

impl Groups {
    fn of(&mut self, name: GroupName) -> &mut Members {
        self.0.entry(name.clone()).or_insert_with(|| Members {
            name,
            at_least_one: false,
            here: Vec::new(),
            peers: Vec::new(),
        })
    }

    fn into_list(self) -> Vec<Members> {
        self.0.into_values().collect()
    }
}

/// How many topics have room at first, and at most. Powers of two. Guesses.
const PLACES_FIRST: usize = 8;
const PLACES_MAX: usize = 256;
/// A topic is in one of so many places behind each other.
const PROBES: usize = 4;

/// The plans of topics that were used lately. Each topic has a few places, which it may lose to others.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    /// Empty until the first is made, then a power of two.
    places: Vec<Option<Box<Known>>>,
    /// Plans of earlier generations do not count.
    generation: u64,
}

#[derive(Clone, Debug)]
struct Known {
    topic: TopicPath,
    generation: u64,
    plan: Arc<Plan>,
}

fn hash(topic: &TopicPath) -> u64 {
    StableHash::new(6).bytes(topic.as_bytes()).finish()
}

impl Plans {
    /// Counts the changes of wishes: a plan holds within its generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Somebody's wishes have changed.
    pub fn forget(&mut self) {
        if !is_planted(76) {
            self.generation += 1;
        }
    }

    /// The plan for a topic, made if it is not known. Also the topic, as it is remembered: it shares no buffer
    /// with anything that came over a link. And the place of its lane: always the same for a topic.
    pub fn plan(
        &mut self,
        topic: &TopicPath,
        make: impl FnOnce(&TopicPath) -> Plan,
    ) -> (TopicPath, Arc<Plan>, usize) {
        let hash = hash(topic);
        let lane = (hash >> 32) as usize % LANES;
        if let Some(known) = self.find(hash, topic) {
            return (known.topic.clone(), Arc::clone(&known.plan), lane);
        }
        let topic = TopicPath::parse(topic.as_str()).expect("it is a topic already");
        let plan = Arc::new(make(&topic));
        let (known, generation) = (Arc::clone(&plan), self.generation);
        let known = Box::new(Known { topic: topic.clone(), generation, plan: known });
        let place = loop {
            match self.free(hash) {
                Some(place) => break place,
                None if self.places.len() < PLACES_MAX => self.grow(),
                None => break hash as usize & (PLACES_MAX - 1),
            }
        };
        self.places[place] = Some(known);
        (topic, plan, lane)
    }

    /// The places in which a topic may be.
    fn places_of(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let count = self.places.len();
        (0..PROBES.min(count)).map(move |probe| (hash as usize).wrapping_add(probe) & (count - 1))
    }

    fn find(&self, hash: u64, topic: &TopicPath) -> Option<&Known> {
        let places = self.places_of(hash).filter_map(|place| self.places[place].as_deref());
        let mut current = places.filter(|known| known.generation == self.generation);
        current.find(|known| known.topic == *topic)
    }

    /// A place for a topic in which nothing is that still holds.
    fn free(&self, hash: u64) -> Option<usize> {
        let is_free = |place: &usize| {
            self.places[*place].as_ref().is_none_or(|known| known.generation != self.generation)
        };
        self.places_of(hash).find(is_free)
    }

    /// More places: a node has few topics mostly, and room for many takes more than all else that it keeps of events.
    fn grow(&mut self) {
        let places = (2 * self.places.len()).max(PLACES_FIRST);
        let before = std::mem::take(&mut self.places);
        self.places.resize(places, None);
        let current =
            before.into_iter().flatten().filter(|known| known.generation == self.generation);
        for known in current.collect::<Vec<_>>() {
            if let Some(place) = self.free(hash(&known.topic)) {
                self.places[place] = Some(known);
            }
        }
    }
}
