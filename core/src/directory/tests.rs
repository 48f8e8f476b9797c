//! An owner and its readers, with nothing but a hostile channel between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::document::ServiceInfo;
use super::*;
use crate::base::{FewMap, Limits, PeerKey, PeerTag, Slab};
use crate::link::LinkHandle;
use crate::machine::tests::Bench;
use crate::topic::TopicPath;

const LINK: LinkHandle = LinkHandle(1);

fn limits() -> Limits {
    Limits { removals_kept_max: 3, updates_unacknowledged_max: 2, ..Limits::default() }
}

/// An entry in one of two networks, in one of several states.
fn entry(key: u64, variant: u64) -> Entry {
    let network = if key.is_multiple_of(3) { "hidden:" } else { "" };
    Entry::Service(Arc::new(ServiceOffer {
        path: TopicPath::parse(&format!("{network}s{key}")).unwrap(),
        state: if variant.is_multiple_of(2) { OfferState::Running } else { OfferState::Paused },
        actions: Vec::new(),
        info: ServiceInfo { description: format!("variant {variant}"), ..Default::default() },
    }))
}

fn is_shown(path: &TopicPath) -> bool {
    path.network().is_none()
}

fn shown_to(_peer: PeerKey, path: &TopicPath) -> bool {
    is_shown(path)
}

/// What is on its way.
#[derive(Clone, Debug)]
enum Parcel {
    Update(Update),
    Heartbeat(Heartbeat),
    Heard(Heard),
}

/// One owner, one reader, and what is between them.
struct Pair {
    owner: Bench<Publisher>,
    reader: Bench<Replicas>,
    peer: PeerKey,
    channel: Vec<Parcel>,
    /// What the reader should have at each version.
    history: BTreeMap<u64, FewMap<EntryKey, Entry>>,
    /// What the reader was told, put together.
    told: FewMap<EntryKey, Entry>,
    wholes: usize,
    deltas: usize,
    changes_sent: usize,
    acknowledged: u64,
}

impl Pair {
    fn new() -> Pair {
        let peer = Slab::<(), PeerTag>::default().insert(());
        let mut pair = Pair {
            owner: Bench::new(Publisher::new(&limits())),
            reader: Bench::new(Replicas::new(&limits())),
            peer,
            channel: Vec::new(),
            history: BTreeMap::new(),
            told: FewMap::default(),
            wholes: 0,
            deltas: 0,
            changes_sent: 0,
            acknowledged: 0,
        };
        pair.own(PublisherInput::Confirmed(peer));
        let document = pair.owner.machine.document_for(peer, &is_shown);
        pair.read(Parcel::Update(Update::Whole(document)));
        pair.own(PublisherInput::Ready { peer, incremental: true });
        pair.settle();
        pair
    }

    fn note(&mut self) {
        let document = self.owner.machine.document_for(self.peer, &is_shown);
        self.history.insert(document.version, document.entries);
    }

    fn own(&mut self, input: PublisherInput) {
        // Versions are times: some of these are so far apart, and some are not.
        self.owner.now = self.owner.now + Duration::from_micros(self.history.len() as u64 % 3);
        let effects = self.owner.feed(&shown_to, input);
        self.note();
        for effect in effects {
            match effect {
                PublisherEffect::SendUpdate(peer) => {
                    let now = self.owner.now;
                    let update = self.owner.machine.take_update(now, peer, &is_shown);
                    match &update {
                        Update::Whole(_) => self.wholes += 1,
                        Update::Delta(delta) => {
                            self.deltas += 1;
                            self.changes_sent += delta.put.len() + delta.removed.len();
                        }
                    }
                    self.channel.push(Parcel::Update(update));
                }
                PublisherEffect::SendHeartbeat(peer) => {
                    let heartbeat = self.owner.machine.heartbeat(peer, &is_shown);
                    self.channel.push(Parcel::Heartbeat(heartbeat));
                }
                PublisherEffect::Acknowledged { version, .. } => {
                    assert!(version > self.acknowledged, "each version is told once");
                    self.acknowledged = version;
                    let known = self.version_read();
                    assert!(known >= version, "{version} is acknowledged, the reader has {known}");
                }
            }
        }
    }

    fn version_read(&self) -> u64 {
        self.reader.machine.document(self.peer).map_or(0, |document| document.version)
    }

    fn read(&mut self, parcel: Parcel) {
        let peer = self.peer;
        let input = match parcel {
            Parcel::Update(Update::Whole(document)) => ReplicaInput::Whole { peer, document },
            Parcel::Update(Update::Delta(delta)) => ReplicaInput::Delta { peer, link: LINK, delta },
            Parcel::Heartbeat(heartbeat) => ReplicaInput::Heartbeat { peer, heartbeat },
            Parcel::Heard(heard) => return self.own(PublisherInput::Heard { peer, heard }),
        };
        for effect in self.reader.feed((), input) {
            match effect {
                ReplicaEffect::Changed { changes, .. } => {
                    for (key, entry) in changes {
                        match entry {
                            Some(entry) => self.told.insert(key, entry),
                            None => self.told.remove(&key),
                        };
                    }
                }
                ReplicaEffect::SendHeard(peer) => {
                    self.channel.push(Parcel::Heard(self.reader.machine.heard(peer)));
                }
                ReplicaEffect::Fault { what, .. } => panic!("{what}"),
            }
        }
        let document = self.reader.machine.document(peer).expect("it was told");
        assert_eq!(document.entries, self.told, "what changed was told");
        assert_eq!(
            Some(&document.entries),
            self.history.get(&document.version),
            "version {} is what its owner had",
            document.version
        );
    }

    fn lose_link(&mut self) {
        let peer = self.peer;
        self.own(PublisherInput::LinkLost { peer, connected: true });
    }

    fn beat(&mut self) {
        if let Some(timer) = self.owner.next_timer() {
            self.own(PublisherInput::Timer(timer));
        }
    }

    /// Delivers all that is on its way, in its order.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            if self.channel.is_empty() {
                return;
            }
            let parcel = self.channel.remove(0);
            self.read(parcel);
        }
        panic!("they never stop talking");
    }

    fn is_equal(&self) -> bool {
        let document = self.owner.machine.document_for(self.peer, &is_shown);
        self.reader.machine.document(self.peer) == Some(document)
    }

    fn put(&mut self, key: u64, variant: u64) {
        self.own(PublisherInput::Put(EntryKey::Service(key), entry(key, variant)));
    }

    fn remove(&mut self, key: u64) {
        self.own(PublisherInput::Remove(EntryKey::Service(key)));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64, u64),
    Remove(u64),
    Deliver(usize),
    Twice(usize),
    Lose(usize),
    LoseLink,
    Beat,
    ViewChanged,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..9u64, 0..4u64).prop_map(|(key, variant)| Step::Put(key, variant)),
        3 => (1..9u64).prop_map(Step::Remove),
        6 => (0..4usize).prop_map(Step::Deliver),
        1 => (0..8usize).prop_map(Step::Twice),
        1 => (0..8usize).prop_map(Step::Lose),
        1 => Just(Step::LoseLink),
        1 => Just(Step::Beat),
        1 => Just(Step::ViewChanged),
    ]
}

proptest! {
    /// Whatever is lost, doubled and reordered: at every version the reader has what the owner had, and
    /// some heartbeats after the trouble it has what the owner has.
    #[test]
    fn a_reader_never_has_anything_but_what_its_owner_had(
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut pair = Pair::new();
        for step in steps {
            let any = |at: usize| (!pair.channel.is_empty()).then(|| at % pair.channel.len());
            match step {
                Step::Put(key, variant) => pair.put(key, variant),
                Step::Remove(key) => pair.remove(key),
                Step::Deliver(at) => if let Some(at) = any(at) {
                    let parcel = pair.channel.remove(at);
                    pair.read(parcel);
                },
                Step::Twice(at) => if let Some(at) = any(at) {
                    let parcel = pair.channel[at].clone();
                    pair.read(parcel);
                },
                Step::Lose(at) => if let Some(at) = any(at) {
                    pair.channel.remove(at);
                },
                Step::LoseLink => pair.lose_link(),
                Step::Beat => pair.beat(),
                Step::ViewChanged => pair.own(PublisherInput::ViewChanged(pair.peer)),
            }
        }
        for _ in 0..4 {
            pair.settle();
            pair.beat();
        }
        pair.settle();
        prop_assert!(pair.is_equal());
        let version = pair.owner.machine.version_for(pair.peer, &is_shown);
        prop_assert_eq!(pair.acknowledged, version);
        // Nothing is sent any more but the heartbeats themselves.
        pair.beat();
        prop_assert_eq!(pair.channel.len(), 1);
        pair.settle();
        prop_assert!(pair.channel.is_empty());
    }
}

#[test]
fn a_change_costs_what_it_changes_and_not_the_document() {
    let mut pair = Pair::new();
    for key in 1..100 {
        pair.put(key, 0);
        pair.settle();
    }
    let before = (pair.wholes, pair.changes_sent);
    pair.put(50, 1);
    pair.settle();
    assert_eq!((pair.wholes, pair.changes_sent), (before.0, before.1 + 1));
    assert!(pair.is_equal());
}

#[test]
fn changes_that_wait_for_an_acknowledgement_are_told_as_one() {
    let mut pair = Pair::new();
    for key in 1..60 {
        pair.put(1 + key % 2, key);
    }
    // Two are under way; the rest waits.
    assert_eq!(pair.deltas, 2);
    pair.settle();
    assert!(pair.is_equal());
    assert_eq!(pair.deltas, 3);
    assert!(pair.changes_sent <= 4, "{} changes were sent", pair.changes_sent);
}

#[test]
fn who_missed_removals_that_are_forgotten_gets_the_document() {
    let mut pair = Pair::new();
    for key in 1..9 {
        pair.put(key, 0);
    }
    pair.settle();
    // The window is full, so that the removals wait.
    pair.put(1, 1);
    pair.put(1, 2);
    for key in 2..9 {
        pair.remove(key);
    }
    let before = pair.wholes;
    pair.settle();
    assert!(pair.is_equal());
    assert_eq!(pair.wholes, before + 1);
}

#[test]
fn what_a_peer_is_not_shown_it_never_learns_of() {
    let mut pair = Pair::new();
    pair.put(1, 0);
    pair.put(2, 0);
    pair.settle();
    let (peer, before) = (pair.peer, pair.version_read());
    let told = |pair: &Pair| pair.owner.machine.version_for(peer, &is_shown);
    let heartbeat = |pair: &Pair| pair.owner.machine.heartbeat(peer, &is_shown);
    let beat = heartbeat(&pair);
    // More than is remembered of removals, too.
    for key in [3, 6, 9, 12, 15, 18] {
        pair.put(key, 0);
        pair.remove(key);
        pair.put(key, 0);
    }
    assert!(pair.channel.is_empty(), "it does not even hear that something changed");
    assert_eq!((told(&pair), heartbeat(&pair)), (before, beat));
    pair.put(1, 1);
    let [Parcel::Update(Update::Delta(delta))] = &pair.channel[..] else {
        panic!("{:?}", pair.channel)
    };
    assert_eq!((delta.base, delta.put.len(), delta.removed.len()), (before, 1, 0));
    pair.settle();
    assert!(pair.is_equal());
}

#[test]
fn versions_do_not_count_what_a_peer_is_not_shown() {
    let versions = |hidden: u64| {
        let mut pair = Pair::new();
        pair.put(1, 0);
        pair.settle();
        for round in 0..hidden {
            pair.put(3, round);
        }
        pair.owner.now = pair.owner.now + Duration::from_secs(1);
        pair.put(1, 1);
        pair.settle();
        pair.version_read() - pair.owner.now.as_nanos() / 1_000
    };
    assert_eq!((versions(0), versions(100)), (0, 0));
}

#[test]
fn who_is_shown_less_or_more_than_before_gets_it_under_a_later_version() {
    let mut owner = Bench::new(Publisher::new(&limits()));
    let peer = Slab::<(), PeerTag>::default().insert(());
    let all = |_: PeerKey, _: &TopicPath| true;
    owner.feed(&all, PublisherInput::Put(EntryKey::Service(1), entry(1, 0)));
    owner.feed(&all, PublisherInput::Put(EntryKey::Service(3), entry(3, 0)));
    owner.feed(&all, PublisherInput::Confirmed(peer));
    let both = owner.machine.document_for(peer, &|_| true);
    let ready = PublisherInput::Ready { peer, incremental: true };
    owner.feed(&all, ready.clone());
    let effects = owner.feed(&shown_to, PublisherInput::ViewChanged(peer));
    assert_eq!(effects, [PublisherEffect::SendUpdate(peer)]);
    let now = owner.now;
    let Update::Whole(less) = owner.machine.take_update(now, peer, &is_shown) else { panic!() };
    assert!(less.version > both.version && less.entries.len() == 1 && both.entries.len() == 2);
    // It comes back without having been in the other network in between: its copy may be the old one.
    owner.feed(&shown_to, PublisherInput::LinkLost { peer, connected: false });
    owner.feed(&shown_to, PublisherInput::Confirmed(peer));
    let again = owner.machine.document_for(peer, &is_shown);
    assert!(again.version > less.version && again.entries == less.entries);
}

#[test]
fn a_lost_update_is_noticed_by_the_next_heartbeat() {
    let mut pair = Pair::new();
    pair.put(1, 0);
    pair.channel.clear();
    pair.put(2, 0);
    pair.channel.clear();
    pair.beat();
    assert!(!pair.is_equal());
    pair.settle();
    assert!(pair.is_equal());
}

#[test]
fn a_digest_that_no_document_mends_is_asked_about_once() {
    let mut pair = Pair::new();
    pair.put(1, 0);
    pair.settle();
    let version = pair.version_read();
    // Of an owner that knows entries which this reader does not understand.
    let heartbeat = Heartbeat { version, digest: 1 };
    pair.read(Parcel::Heartbeat(heartbeat));
    let [Parcel::Heard(Heard { wants_whole: true, .. })] = pair.channel[..] else {
        panic!("{:?}", pair.channel)
    };
    pair.settle();
    pair.read(Parcel::Heartbeat(heartbeat));
    assert!(pair.channel.is_empty());
}

#[test]
fn who_asks_for_the_document_again_and_again_gets_it_once_a_heartbeat() {
    let mut pair = Pair::new();
    let peer = pair.peer;
    for _ in 0..20 {
        let heard = Heard { version: 1, wants_whole: true };
        pair.own(PublisherInput::Heard { peer, heard });
    }
    assert_eq!(pair.wholes, 1);
    pair.beat();
    assert_eq!(pair.wholes, 2);
}

#[test]
fn nobody_is_taken_to_have_what_was_not_sent() {
    let mut pair = Pair::new();
    let peer = pair.peer;
    pair.settle();
    let had = pair.version_read();
    let heard = Heard { version: had + 1_000, wants_whole: false };
    pair.own(PublisherInput::Heard { peer, heard });
    assert_eq!(pair.owner.machine.acknowledged(peer), had);
}

#[test]
fn a_peer_without_deltas_gets_the_document_with_every_change_and_no_heartbeat() {
    let mut owner = Bench::new(Publisher::new(&limits()));
    let peer = Slab::<(), PeerTag>::default().insert(());
    owner.feed(&shown_to, PublisherInput::Confirmed(peer));
    owner.feed(&shown_to, PublisherInput::Ready { peer, incremental: false });
    assert_eq!(owner.next_timer_in(), None);
    for variant in 0..20 {
        let put = PublisherInput::Put(EntryKey::Service(1), entry(1, variant));
        assert_eq!(owner.feed(&shown_to, put), [PublisherEffect::SendUpdate(peer)]);
        let now = owner.now;
        let update = owner.machine.take_update(now, peer, &is_shown);
        assert!(matches!(update, Update::Whole(_)));
    }
}

#[test]
fn a_peer_that_is_gone_leaves_nothing_behind() {
    let mut owner = Bench::new(Publisher::new(&limits()));
    let peer = Slab::<(), PeerTag>::default().insert(());
    owner.feed(&shown_to, PublisherInput::Confirmed(peer));
    owner.feed(&shown_to, PublisherInput::Ready { peer, incremental: true });
    assert_eq!(owner.next_timer_in(), Some(Duration::from_secs(5)));
    owner.feed(&shown_to, PublisherInput::LinkLost { peer, connected: false });
    assert_eq!(owner.timers_armed(), 0);
    assert_eq!(owner.machine.acknowledged(peer), 0);
}

#[test]
fn a_peer_cannot_make_known_more_than_it_may() {
    let limits = Limits { services_per_peer_max: 3, ..Limits::default() };
    let mut reader = Bench::new(Replicas::new(&limits));
    let peer = Slab::<(), PeerTag>::default().insert(());
    let document = Document { version: 1, incremental: true, ..Document::default() };
    reader.feed((), ReplicaInput::Whole { peer, document });
    for version in 2..10 {
        let put = vec![(EntryKey::Service(version), entry(version, 0))];
        let delta = Delta { base: version - 1, version, put, removed: Vec::new() };
        let effects = reader.feed((), ReplicaInput::Delta { peer, link: LINK, delta });
        let refused =
            matches!(effects[0], ReplicaEffect::Fault { .. } | ReplicaEffect::SendHeard(_))
                && !effects.iter().any(|e| matches!(e, ReplicaEffect::Changed { .. }));
        assert_eq!(refused, version > 4, "version {version}");
    }
    assert_eq!(reader.machine.document(peer).unwrap().entries.len(), 3);
}
