//! What a node makes known, as data: a versioned document of entries with keys.
//!
//! There are two kinds of entries, services and subscriptions. Another would get a variant of [`Entry`] and of
//! [`EntryKey`] and a field on the wire; replication does not care what an entry says.

use std::sync::Arc;

use semver::Version;

use crate::base::{FewMap, StableHash};
use crate::directory::vitals::Vitals;
use crate::lease::Token;
use crate::payload::ContentType;
use crate::topic::{Pattern, TopicPath};

/// The longest description of a service or an action, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 1_024;
/// The longest name of a type, in bytes.
pub const TYPE_NAME_BYTES_MAX: usize = 128;
/// The longest version of a service, in bytes as it is written.
pub const VERSION_BYTES_MAX: usize = 128;

/// The longest name of a group of subscribers, in bytes.
pub const GROUP_BYTES_MAX: usize = 128;
/// The most subscribers that one entry may stand for.
pub const MEMBERS_MAX: u32 = 64;

/// Whether an announced service takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferState {
    /// It does.
    Running,
    /// It will again; until then calls are answered UNAVAILABLE.
    Paused,
    /// Another instance of it is active, or none is: calls are answered NOT_ACTIVE. Who does not know leases takes
    /// it for paused.
    Standby,
}

/// How callers choose among the instances of a service, if they do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Spread {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By chance.
    Random,
    /// Of two by chance, the one with less to do.
    LeastLoaded,
}

/// What is known of an action beside its pattern. For people and tools; no call depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ActionInfo {
    /// What it does. At most [`DESCRIPTION_BYTES_MAX`].
    pub description: String,
    /// The type of its argument, as the implementation's language spells it; empty if not known. At most
    /// [`TYPE_NAME_BYTES_MAX`].
    pub argument: String,
    /// The type of its result, likewise.
    pub result: String,
    /// How its argument is written on a link.
    pub argument_content: ContentType,
    /// How its result is written on a link.
    pub result_content: ContentType,
}

/// What is known of a service beside its path and its actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Which version it is of what it does: callers may ask for a range.
    pub version: Version,
    /// What it does. At most [`DESCRIPTION_BYTES_MAX`].
    pub description: String,
    /// How callers choose among its instances, if they do not say.
    pub spread: Spread,
    /// Of its actions, in their order. There may be fewer than actions.
    pub actions: Vec<ActionInfo>,
    /// At most one instance of all is active at a time: who holds the lease of its path.
    pub single_active: bool,
    /// Of an active instance of such a service: the token of its grant. Set by its node.
    pub token: Option<Token>,
    /// How it does, as its node says; none of one that is not called. Set by its node.
    pub vitals: Option<Vitals>,
}

impl Default for ServiceInfo {
    fn default() -> Self {
        ServiceInfo {
            version: Version::new(0, 0, 0),
            description: String::new(),
            spread: Spread::default(),
            actions: Vec::new(),
            single_active: false,
            token: None,
            vitals: None,
        }
    }
}

impl ServiceInfo {
    /// The longest of its descriptions, of its type names, and its version as it is written, in bytes.
    pub fn longest(&self) -> [usize; 3] {
        let of = |text: fn(&ActionInfo) -> usize| self.actions.iter().map(text).max().unwrap_or(0);
        [
            self.description.len().max(of(|action| action.description.len())),
            of(|action| action.argument.len().max(action.result.len())),
            self.version.to_string().len(),
        ]
    }

    /// About how large it is on the wire, in bytes.
    pub fn bytes(&self) -> usize {
        let actions: usize = self
            .actions
            .iter()
            .map(|a| 16 + a.description.len() + a.argument.len() + a.result.len())
            .sum();
        72 + self.description.len() + actions
    }
}

/// One announced service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOffer {
    /// Where it is.
    pub path: TopicPath,
    /// Whether it takes calls.
    pub state: OfferState,
    /// What can be called, each a whole pattern that begins with the service's path.
    pub actions: Vec<Pattern>,
    /// What else is known of it.
    pub info: ServiceInfo,
}

impl ServiceOffer {
    /// About how large it is on the wire, in bytes.
    pub fn bytes(&self) -> usize {
        offer_bytes(&self.path, &self.actions, &self.info)
    }
}

/// About how large an offer is on the wire, in bytes.
pub(super) fn offer_bytes(path: &TopicPath, actions: &[Pattern], info: &ServiceInfo) -> usize {
    let actions: usize = actions.iter().map(|action| action.as_str().len() + 4).sum();
    path.as_str().len() + 24 + actions + info.bytes()
}

/// What subscribers of a node want to be sent. Those that want the same make one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionOffer {
    /// Events of these topics.
    pub pattern: Pattern,
    /// The members of a group compete for each event; none for subscribers that get every event. At most
    /// [`GROUP_BYTES_MAX`].
    pub group: Option<Arc<str>>,
    /// The service that subscribes, if one does.
    pub service: Option<TopicPath>,
    /// How many subscribers this stands for, at least 1: members of a group are chosen in proportion.
    pub members: u32,
    /// Of a group: an event whose outcome is not known goes to another member.
    pub at_least_one: bool,
    place: TopicPath,
}

impl SubscriptionOffer {
    /// One subscriber that gets every event.
    pub fn new(pattern: Pattern) -> Self {
        // With one segment of one byte it is not longer than any pattern of the network.
        let place = match pattern.network() {
            None => TopicPath::parse("e"),
            Some(network) => TopicPath::parse(&format!("{network}:e")),
        };
        let place = place.expect("a network that is legal in a pattern is legal in a path");
        SubscriptionOffer {
            pattern,
            group: None,
            service: None,
            members: 1,
            at_least_one: false,
            place,
        }
    }

    /// A path in the network of the pattern.
    pub fn place(&self) -> &TopicPath {
        &self.place
    }

    /// About how large it is on the wire, in bytes.
    pub fn bytes(&self) -> usize {
        let group = self.group.as_ref().map_or(0, |group| group.len());
        let service = self.service.as_ref().map_or(0, |service| service.as_str().len());
        24 + self.pattern.as_str().len() + group + service
    }
}

/// Names an entry of a document for as long as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKey {
    /// A service, by a number that its node gave it.
    Service(u64),
    /// A subscription, likewise.
    Subscription(u64),
}

/// One thing that a node makes known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A service that it offers.
    Service(Arc<ServiceOffer>),
    /// Events that it wants.
    Subscription(Arc<SubscriptionOffer>),
}

impl Entry {
    /// The path that says which network it belongs to.
    pub fn place(&self) -> &TopicPath {
        match self {
            Entry::Service(offer) => &offer.path,
            Entry::Subscription(offer) => offer.place(),
        }
    }

    /// About how large it is on the wire, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Entry::Service(offer) => offer.bytes(),
            Entry::Subscription(offer) => offer.bytes(),
        }
    }

    /// What the entry adds to the digest of its document: the same at its owner and wherever it was read
    /// from the wire. Part of the wire format.
    pub fn digest(&self, key: EntryKey) -> u64 {
        let number = match key {
            EntryKey::Service(number) | EntryKey::Subscription(number) => number,
        };
        match self {
            Entry::Service(offer) => offer.digest(number),
            Entry::Subscription(offer) => offer.digest(number),
        }
    }
}

impl SubscriptionOffer {
    fn digest(&self, key: u64) -> u64 {
        let mut hash = StableHash::new(4);
        hash.number(key).bytes(self.pattern.as_bytes());
        hash.bytes(self.group.as_deref().unwrap_or_default().as_bytes());
        hash.bytes(self.service.as_ref().map_or(&[], |service| &service.as_bytes()[..]));
        hash.number(self.members.into()).number(self.at_least_one.into());
        hash.finish()
    }
}

impl ServiceOffer {
    fn digest(&self, key: u64) -> u64 {
        let mut hash = StableHash::new(1);
        hash.number(key).bytes(self.path.as_bytes()).number(match self.state {
            OfferState::Running => 1,
            // What is said of leases and of health is left out: those that do not know it come to the same digest.
            OfferState::Paused | OfferState::Standby => 2,
        });
        hash.number(self.actions.len() as u64);
        for action in &self.actions {
            hash.bytes(action.as_bytes());
        }
        let info = &self.info;
        hash.bytes(info.version.to_string().as_bytes()).bytes(info.description.as_bytes());
        hash.number(match info.spread {
            Spread::RoundRobin => 1,
            Spread::Random => 2,
            Spread::LeastLoaded => 3,
        });
        hash.number(info.actions.len() as u64);
        for action in &info.actions {
            hash.bytes(action.description.as_bytes())
                .bytes(action.argument.as_bytes())
                .bytes(action.result.as_bytes())
                .number(action.argument_content.0.into())
                .number(action.result_content.0.into());
        }
        hash.finish()
    }
}

/// What one node makes known, or the part of it that one peer is shown.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Document {
    /// Grows with every change within an incarnation.
    pub version: u64,
    /// The entries.
    pub entries: FewMap<EntryKey, Entry>,
    /// Whether its owner reads deltas and heartbeats, and acknowledges.
    pub incremental: bool,
}

impl Document {
    /// The services that it lists, in the order of their keys.
    pub fn services(&self) -> impl Iterator<Item = &ServiceOffer> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Service(offer) => Some(&**offer),
            Entry::Subscription(_) => None,
        })
    }

    /// The subscriptions that it lists, in the order of their keys.
    pub fn subscriptions(&self) -> impl Iterator<Item = &SubscriptionOffer> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Subscription(offer) => Some(&**offer),
            Entry::Service(_) => None,
        })
    }
}

/// What changed in a document between two versions.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Delta {
    /// All that changed after this version is listed.
    pub base: u64,
    /// What the document is from now on. Not below `base`.
    pub version: u64,
    /// Entries that are new or different.
    pub put: Vec<(EntryKey, Entry)>,
    /// Entries that are not listed any more.
    pub removed: Vec<EntryKey>,
}

/// An answer to an update of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The version that its sender has.
    pub version: u64,
    /// It has missed something and asks for the whole document.
    pub wants_whole: bool,
}

/// What a peer should have of a node's document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The version that was sent; zero if an update is still to be sent.
    pub version: u64,
    /// The digests of the entries that the peer is shown, added.
    pub digest: u64,
}
