//! The reader's side: what each peer's document is, as far as it was told.
//!
//! | what comes | what is done |
//! | --- | --- |
//! | the document, not older than ours | ours is replaced; what differs is told |
//! | a delta that begins at our version or before, and ends after it | applied; what differs is told |
//! | an update that ends at our version or before | nothing: it came twice, or late |
//! | a delta that begins after our version | the document is asked for |
//! | a heartbeat with our version or a later one, and another digest | the document is asked for |
//!
//! Every update is acknowledged with the version that we have. Entries are kept as they came, before
//! anything here looks at what the peer may offer: only so can the digest be that of its owner.

use crate::base::{Effects, FewMap, KeyMap, Limits, PeerKey, PeerTag};
use crate::directory::document::{Delta, Document, Entry, EntryKey, Heard, Heartbeat};
use crate::link::LinkHandle;
use crate::machine::{Context, Machine};
use crate::planted::is_planted;
use crate::wire::HEADER_BYTES_MAX;

/// What can happen to peers' documents.
#[derive(Clone, Debug)]
pub enum ReplicaInput {
    /// A peer tells its document.
    Whole {
        /// The peer.
        peer: PeerKey,
        /// The document.
        document: Document,
    },
    /// A peer tells what changed in it.
    Delta {
        /// The peer.
        peer: PeerKey,
        /// On this link.
        link: LinkHandle,
        /// The change.
        delta: Delta,
    },
    /// A peer says what we should have.
    Heartbeat {
        /// The peer.
        peer: PeerKey,
        /// Its word.
        heartbeat: Heartbeat,
    },
    /// The peer's life is over, and its entries with it.
    Gone(PeerKey),
}

/// What the keeper of peers' documents wants done.
#[derive(Clone, Debug)]
pub enum ReplicaEffect {
    /// These entries are new or different, or not listed any more. Also said, with nothing in it, when
    /// a peer's document is known for the first time.
    Changed {
        /// The peer.
        peer: PeerKey,
        /// The version that brought the change.
        version: u64,
        /// Entries, or nothing in the place of those that went.
        changes: Vec<(EntryKey, Option<Entry>)>,
    },
    /// Queue an answer for the peer; when its turn comes, [`Replicas::heard`] gives it.
    SendHeard(PeerKey),
    /// The peer makes known more than it may.
    Fault {
        /// The peer.
        peer: PeerKey,
        /// On this link.
        link: LinkHandle,
        /// What it did.
        what: String,
    },
}

#[derive(Clone, Debug)]
struct Held {
    entry: Entry,
    digest: u64,
    bytes: usize,
}

/// One peer's document.
#[derive(Clone, Debug, Default)]
struct Replica {
    /// Zero until the document has come.
    version: u64,
    incremental: bool,
    entries: FewMap<EntryKey, Held>,
    /// How many of them are services, and how many subscriptions.
    counts: [usize; 2],
    digest: u64,
    bytes: usize,
    /// The highest version that was heard of in an update that was based on a later one than ours.
    missed: u64,
    wants_whole: bool,
    /// Asked for the document because of this heartbeat.
    asked_for: Option<Heartbeat>,
    /// The document came, and its digest was still another one: its owner knows entries that we do not
    /// understand. Asking again would not help.
    in_vain: Option<Heartbeat>,
}

/// The machine of all peers' documents.
#[derive(Clone, Debug)]
pub struct Replicas {
    peers: KeyMap<PeerTag, Replica>,
    services_max: usize,
    subscriptions_max: usize,
}

impl Replicas {
    /// Nobody has told anything.
    pub fn new(limits: &Limits) -> Self {
        Replicas {
            peers: KeyMap::default(),
            services_max: limits.services_per_peer_max,
            subscriptions_max: limits.subscriptions_per_peer_max,
        }
    }

    /// The version of a peer's document that is here; zero before any has come.
    pub fn version(&self, peer: PeerKey) -> u64 {
        self.peers.get(peer).map_or(0, |replica| replica.version)
    }

    /// What a peer's document is here, as it came; none before it has come.
    pub fn document(&self, peer: PeerKey) -> Option<Document> {
        let replica = self.peers.get(peer).filter(|replica| replica.version > 0)?;
        let entries = replica.entries.iter().map(|(key, held)| (*key, held.entry.clone()));
        Some(Document {
            version: replica.version,
            entries: entries.collect(),
            incremental: replica.incremental,
        })
    }

    /// The answer that a peer is due: what we have of its document.
    pub fn heard(&self, peer: PeerKey) -> Heard {
        let replica = self.peers.get(peer);
        Heard {
            version: replica.map_or(0, |replica| replica.version),
            wants_whole: !is_planted(64) && replica.is_some_and(|replica| replica.wants_whole),
        }
    }

    fn replica(&mut self, peer: PeerKey) -> &mut Replica {
        if self.peers.get(peer).is_none() {
            self.peers.insert(peer, Replica::default());
        }
        self.peers.get_mut(peer).expect("just inserted")
    }

    fn whole(&mut self, peer: PeerKey, document: Document, out: &mut Effects<'_, ReplicaEffect>) {
        let replica = self.replica(peer);
        let (first, version) = (replica.version == 0, document.version);
        if version < replica.version && !is_planted(60) {
            // From a link that was slower than another. Versions of nodes without deltas need no answer.
            if document.incremental {
                out.push(ReplicaEffect::SendHeard(peer));
            }
            return;
        }
        replica.incremental = document.incremental;
        let mut changes = Vec::new();
        let gone: Vec<EntryKey> = replica
            .entries
            .keys()
            .filter(|key| !document.entries.contains_key(key))
            .copied()
            .collect();
        for key in gone {
            replica.take_out(key);
            changes.push((key, None));
        }
        for (key, entry) in document.entries {
            if replica.entries.get(&key).is_none_or(|held| held.entry != entry) {
                replica.put(key, entry.clone());
                changes.push((key, Some(entry)));
            }
        }
        replica.version = version.max(replica.version);
        replica.wants_whole = replica.missed > version;
        if let Some(asked) = replica.asked_for.take()
            && asked.version == version
            && asked.digest != replica.digest
        {
            replica.in_vain = Some(asked);
        }
        if document.incremental {
            out.push(ReplicaEffect::SendHeard(peer));
        }
        if first || !changes.is_empty() {
            out.push(ReplicaEffect::Changed { peer, version, changes });
        }
    }

    fn delta(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        mut delta: Delta,
        out: &mut Effects<'_, ReplicaEffect>,
    ) {
        let most = [self.services_max, self.subscriptions_max];
        let replica = self.replica(peer);
        let late = delta.version <= replica.version;
        let early = delta.base > replica.version || replica.version == 0;
        if early && !is_planted(60) {
            replica.missed = replica.missed.max(delta.version);
            replica.wants_whole = true;
            return out.push(ReplicaEffect::SendHeard(peer));
        }
        if late && !is_planted(60) {
            return out.push(ReplicaEffect::SendHeard(peer));
        }
        if is_planted(64) && delta.version.is_multiple_of(3) {
            return;
        }
        if is_planted(62) && delta.version.is_multiple_of(3) {
            delta.put.clear();
        }
        if is_planted(63) {
            delta.removed.clear();
        }
        let bytes: usize = delta.put.iter().map(|(_, entry)| entry.bytes()).sum();
        let known = |key: &EntryKey| replica.entries.get(key);
        let replaced = delta.put.iter().filter_map(|(key, _)| known(key));
        let removed = delta.removed.iter().filter_map(known);
        let (mut counts, mut bytes) = (replica.counts, replica.bytes + bytes);
        for (_, entry) in &delta.put {
            counts[kind(entry)] += 1;
        }
        for held in replaced.chain(removed) {
            let count = &mut counts[kind(&held.entry)];
            *count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(held.bytes);
        }
        let too_many = counts.iter().zip(most).any(|(count, most)| *count > most);
        if too_many || bytes > HEADER_BYTES_MAX {
            let [services, subscriptions] = counts;
            let what = format!(
                "it makes known {services} services and {subscriptions} subscriptions of {bytes} bytes in all"
            );
            return out.push(ReplicaEffect::Fault { peer, link, what });
        }
        let mut changes = Vec::new();
        for key in delta.removed {
            if replica.take_out(key) {
                changes.push((key, None));
            }
        }
        for (key, entry) in delta.put {
            if replica.entries.get(&key).is_none_or(|held| held.entry != entry) {
                replica.put(key, entry.clone());
                changes.push((key, Some(entry)));
            }
        }
        let version = replica.version.max(delta.version);
        replica.version = version;
        out.push(ReplicaEffect::SendHeard(peer));
        if !changes.is_empty() {
            out.push(ReplicaEffect::Changed { peer, version, changes });
        }
    }

    fn heartbeat(
        &mut self,
        peer: PeerKey,
        heartbeat: Heartbeat,
        out: &mut Effects<'_, ReplicaEffect>,
    ) {
        let Some(replica) = self.peers.get_mut(peer) else { return };
        // Before the document comes, there is nothing to compare; behind it, the word may be an old one.
        if replica.version == 0 || heartbeat.version < replica.version || is_planted(62) {
            return;
        }
        let differs = heartbeat.version > replica.version || heartbeat.digest != replica.digest;
        if differs && replica.in_vain != Some(heartbeat) {
            replica.asked_for = Some(heartbeat);
            replica.wants_whole = true;
            out.push(ReplicaEffect::SendHeard(peer));
        }
    }
}

/// The place of an entry's kind in [`Replica::counts`].
fn kind(entry: &Entry) -> usize {
    match entry {
        Entry::Service(_) => 0,
        Entry::Subscription(_) => 1,
    }
}

impl Replica {
    fn put(&mut self, key: EntryKey, entry: Entry) {
        self.take_out(key);
        let held = Held { digest: entry.digest(key), bytes: entry.bytes(), entry };
        self.digest = self.digest.wrapping_add(held.digest);
        self.bytes += held.bytes;
        self.counts[kind(&held.entry)] += 1;
        self.entries.insert(key, held);
    }

    fn take_out(&mut self, key: EntryKey) -> bool {
        let Some(held) = self.entries.remove(&key) else { return false };
        self.digest = self.digest.wrapping_sub(held.digest);
        self.bytes -= held.bytes;
        self.counts[kind(&held.entry)] -= 1;
        true
    }
}

impl Machine for Replicas {
    type Input = ReplicaInput;
    type Effect = ReplicaEffect;
    type Timer = ();
    type View<'a> = ();

    fn handle(
        &mut self,
        _cx: &mut Context<'_, ()>,
        (): (),
        input: ReplicaInput,
        out: &mut Effects<'_, ReplicaEffect>,
    ) {
        match input {
            ReplicaInput::Whole { peer, document } => self.whole(peer, document, out),
            ReplicaInput::Delta { peer, link, delta } => self.delta(peer, link, delta, out),
            ReplicaInput::Heartbeat { peer, heartbeat } => self.heartbeat(peer, heartbeat, out),
            ReplicaInput::Gone(peer) => {
                self.peers.remove(peer);
            }
        }
    }

    fn check_invariants(&self) {
        for (_, replica) in self.peers.iter() {
            let [services, subscriptions] = replica.counts;
            assert!(services <= self.services_max, "services are bounded");
            assert!(subscriptions <= self.subscriptions_max, "subscriptions are bounded");
            assert_eq!(services + subscriptions, replica.entries.len(), "entries are counted");
            let held = replica.entries.values();
            let (digest, bytes) = held.fold((0u64, 0), |(digest, bytes), held| {
                (digest.wrapping_add(held.digest), bytes + held.bytes)
            });
            assert_eq!((digest, bytes), (replica.digest, replica.bytes), "the accounts are right");
        }
    }
}
