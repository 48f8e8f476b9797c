//! The owner's side of its document: what each peer was sent, and what it has.
//!
//! The document is one; what a peer is *shown* is the part that lies in the networks it shares with us. Every
//! version changes one entry, so the changes after any version are a range of a map, and a change costs
//! what it changes, once for each peer that is shown it, whatever the document's size.
//!
//! What happens in a network that a peer is not in does not show, not even in a number. So the version that a
//! peer hears of is that of the last change that it is shown, and versions are times, in microseconds of this
//! life: in the gap between two of them anything or nothing may have happened elsewhere. For the same reason
//! what is forgotten is forgotten network by network.
//!
//! | a peer | gets |
//! | --- | --- |
//! | with a new link | the document in the Confirm of the link |
//! | that has version n | the changes after n; they are put together when the transport has room for them, so that several changes make one update |
//! | that missed removals which nobody remembers, or more changes than there are entries | the document |
//! | that lost its last link | nothing; it is forgotten |
//! | every [`crate::Limits::heartbeat_interval`] | the digest of what it is shown; who has something else asks for the document |
//!
//! Updates are numbered by versions and acknowledged by them. So it does not matter on which link they
//! travel: what comes twice or late is below the receiver's version, what comes too early is based on a
//! version that the receiver has not.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{Effects, FewMap, KeyMap, Limits, MonoTime, PeerKey, PeerTag};
use crate::directory::document::{Delta, Document, Entry, EntryKey, Heard, Heartbeat};
use crate::machine::{Context, Machine, TimerHandle};
use crate::planted::is_planted;
use crate::topic::TopicPath;

/// Says whether a peer is shown entries at a path. It may depend on nothing of the path but its network.
pub type Shown<'a> = &'a dyn Fn(&TopicPath) -> bool;

/// [`Shown`], of any peer.
pub type ShownTo<'a> = &'a dyn Fn(PeerKey, &TopicPath) -> bool;

/// What can happen to the document and to those who read it.
#[derive(Clone, Debug)]
pub enum PublisherInput {
    /// An entry is new or different.
    Put(EntryKey, Entry),
    /// An entry is not listed any more.
    Remove(EntryKey),
    /// A link to the peer is confirmed, with the document as it is.
    Confirmed(PeerKey),
    /// A link to the peer is up: it has our Confirm, or will have it before anything that follows.
    Ready {
        /// The peer.
        peer: PeerKey,
        /// Whether it takes deltas and heartbeats, and acknowledges.
        incremental: bool,
    },
    /// A link to the peer is gone, with what was on its way.
    LinkLost {
        /// The peer.
        peer: PeerKey,
        /// Whether another one is up.
        connected: bool,
    },
    /// The peer says what it has.
    Heard {
        /// The peer.
        peer: PeerKey,
        /// Its word.
        heard: Heard,
    },
    /// The peer is shown something else from now on: it shares other networks with us than before.
    ViewChanged(PeerKey),
    /// The peer's life is over.
    Gone(PeerKey),
    /// A heartbeat is due.
    Timer(PublisherTimer),
}

/// What the publisher waits for: a peer's next heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherTimer(pub PeerKey);

/// What the publisher wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublisherEffect {
    /// Queue an update for the peer; when its turn comes, [`Publisher::take_update`] gives it.
    SendUpdate(PeerKey),
    /// Queue a heartbeat for the peer; when its turn comes, [`Publisher::heartbeat`] gives it.
    SendHeartbeat(PeerKey),
    /// The peer has this version of the document. Said once for each version that it acknowledges.
    Acknowledged {
        /// The peer.
        peer: PeerKey,
        /// What it has.
        version: u64,
    },
}

/// What a peer is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// All that it is shown.
    Whole(Document),
    /// What changed.
    Delta(Delta),
}

#[derive(Clone, Debug)]
struct Published {
    entry: Entry,
    changed_at: u64,
    digest: u64,
}

/// All entries of one network, together.
#[derive(Clone, Debug)]
struct OfNetwork {
    /// A path in it.
    place: TopicPath,
    /// When it was changed last.
    version: u64,
    entries: usize,
    /// Their digests, added.
    digest: u64,
    /// The versions of those changes that are removals, oldest first.
    removals: VecDeque<u64>,
    /// Removals up to this version are forgotten.
    horizon: u64,
}

/// One peer that reads our document.
#[derive(Clone, Debug, Default)]
struct Reader {
    /// A link to it is up.
    ready: bool,
    incremental: bool,
    /// It never hears of a version before this one: that of its first document, and of the last time that it
    /// was shown other networks than before.
    floor: u64,
    /// The version that it has once all that was sent has come. Zero: nothing.
    sent: u64,
    /// The version that it has said to have.
    acknowledged: u64,
    /// Versions that were sent and not acknowledged, in their order.
    in_flight: VecDeque<u64>,
    /// The next update is the whole document, whatever it has.
    needs_whole: bool,
    /// When it was sent the whole document last.
    whole_at: Option<MonoTime>,
    /// The oldest version in flight at the last heartbeat.
    stalled: Option<u64>,
    heartbeat: Option<TimerHandle>,
}

/// The machine of this node's document.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// That of the last change, whoever is shown it.
    version: u64,
    /// The last version that was given to anything.
    stamp: u64,
    entries: FewMap<EntryKey, Published>,
    /// Each entry at the version of its last change, and removals.
    changes: FewMap<u64, (EntryKey, TopicPath)>,
    /// As many as this node is in, at most. They stay when their last entry goes: versions never go back.
    networks: BTreeMap<Option<Box<str>>, Box<OfNetwork>>,
    readers: KeyMap<PeerTag, Reader>,
    removals_kept_max: usize,
    unacknowledged_max: usize,
    heartbeat_interval: std::time::Duration,
}

impl Publisher {
    /// An empty document that nobody reads.
    pub fn new(limits: &Limits) -> Self {
        Publisher {
            // Zero is what somebody has who has nothing.
            version: 1,
            stamp: 1,
            entries: FewMap::default(),
            changes: FewMap::default(),
            networks: BTreeMap::new(),
            readers: KeyMap::default(),
            removals_kept_max: limits.removals_kept_max,
            unacknowledged_max: limits.updates_unacknowledged_max.max(1),
            heartbeat_interval: limits.heartbeat_interval,
        }
    }

    /// The document's version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The version of the document that a peer hears of; zero if the peer is not known.
    pub fn version_for(&self, peer: PeerKey, shown: Shown<'_>) -> u64 {
        self.readers.get(peer).map_or(0, |reader| self.version_of(reader, shown))
    }

    fn version_of(&self, reader: &Reader, shown: Shown<'_>) -> u64 {
        if is_planted(69) {
            return self.version.max(reader.floor);
        }
        let versions = self.shown_networks(shown).map(|network| network.version);
        versions.fold(reader.floor, u64::max)
    }

    fn shown_networks(&self, shown: Shown<'_>) -> impl Iterator<Item = &OfNetwork> {
        let networks = self.networks.values().map(|network| &**network);
        networks.filter(move |network| is_planted(68) || shown(&network.place))
    }

    /// The version that a peer has said to have; zero if it has not said anything since it was connected.
    pub fn acknowledged(&self, peer: PeerKey) -> u64 {
        self.readers.get(peer).map_or(0, |reader| reader.acknowledged)
    }

    /// Whether a peer acknowledges what it gets.
    pub fn is_incremental(&self, peer: PeerKey) -> bool {
        self.readers.get(peer).is_some_and(|reader| reader.ready && reader.incremental)
    }

    /// Whether a peer has said to have whatever it is shown of the document as of this version.
    pub fn is_known(&self, peer: PeerKey, version: u64, shown: Shown<'_>) -> bool {
        self.acknowledged(peer) >= version.min(self.version_for(peer, shown))
    }

    /// All of the document.
    pub fn document(&self) -> Document {
        Document { version: self.version, entries: self.entries(&|_| true), incremental: true }
    }

    /// The part of the document that a peer is shown.
    pub fn document_for(&self, peer: PeerKey, shown: Shown<'_>) -> Document {
        let version = self.version_for(peer, shown);
        Document { version, entries: self.entries(shown), incremental: true }
    }

    fn entries(&self, shown: Shown<'_>) -> FewMap<EntryKey, Entry> {
        let entries = self.entries.iter();
        let entries = entries.filter(|(_, p)| is_planted(68) || shown(p.entry.place()));
        entries.map(|(key, published)| (*key, published.entry.clone())).collect()
    }

    /// The update that a peer needs now, possibly an empty one. It counts as sent.
    pub fn take_update(&mut self, now: MonoTime, peer: PeerKey, shown: Shown<'_>) -> Update {
        let Some(reader) = self.readers.get(peer) else {
            return Update::Whole(self.document_for(peer, shown));
        };
        // What it is shown may just have become less, which it is told next.
        let (base, version) = (reader.sent, self.version_of(reader, shown).max(reader.sent));
        let shown_entries: usize = self.shown_networks(shown).map(|network| network.entries).sum();
        let forgotten = self.shown_networks(shown).any(|network| base < network.horizon);
        let whole = reader.needs_whole || !reader.incremental || base == 0 || forgotten;
        let behind = self.changes.range_from(base + 1).map(|(_, change)| change);
        let behind = behind.filter(|(_, place)| is_planted(68) || shown(place));
        let whole = whole || behind.clone().take(shown_entries + 1).count() > shown_entries;
        let update = if whole {
            Update::Whole(Document { version, entries: self.entries(shown), incremental: true })
        } else {
            let mut delta = Delta { base, version, ..Delta::default() };
            for (key, _) in behind {
                match self.entries.get(key) {
                    Some(published) => delta.put.push((*key, published.entry.clone())),
                    None => delta.removed.push(*key),
                }
            }
            Update::Delta(delta)
        };
        let reader = self.readers.get_mut(peer).expect("just looked up");
        reader.sent = version;
        let told = reader.in_flight.back().copied().unwrap_or(reader.acknowledged);
        if reader.incremental && told < version {
            reader.in_flight.push_back(version);
        }
        if whole {
            reader.needs_whole = false;
            reader.whole_at = Some(now);
        }
        update
    }

    /// What a peer is told that it should have.
    pub fn heartbeat(&self, peer: PeerKey, shown: Shown<'_>) -> Heartbeat {
        let version = self.version_for(peer, shown);
        let reader = self.readers.get(peer);
        let up_to_date = reader.is_some_and(|r| r.sent == version && !r.needs_whole);
        Heartbeat { version: if up_to_date { version } else { 0 }, digest: self.digest(shown) }
    }

    fn digest(&self, shown: Shown<'_>) -> u64 {
        self.shown_networks(shown).fold(0, |sum, network| sum.wrapping_add(network.digest))
    }

    /// A version that was never used before, and says nothing but when it is.
    fn next_stamp(&mut self, now: MonoTime) -> u64 {
        self.stamp = (self.stamp + 1).max(now.as_nanos() / 1_000);
        self.stamp
    }

    fn network(&mut self, place: &TopicPath) -> &mut OfNetwork {
        let name = place.network().map(Box::from);
        let fresh = || OfNetwork {
            place: place.clone(),
            version: 0,
            entries: 0,
            digest: 0,
            removals: VecDeque::new(),
            horizon: 0,
        };
        self.networks.entry(name).or_insert_with(|| Box::new(fresh()))
    }

    fn take_out(&mut self, key: EntryKey) -> Option<TopicPath> {
        let old = self.entries.remove(&key)?;
        self.changes.remove(&old.changed_at);
        let place = old.entry.place().clone();
        let network = self.network(&place);
        network.entries -= 1;
        network.digest = network.digest.wrapping_sub(old.digest);
        Some(place)
    }

    fn put(&mut self, now: MonoTime, key: EntryKey, entry: Entry) {
        self.take_out(key);
        let version = self.next_stamp(now);
        self.version = version;
        let (place, digest) = (entry.place().clone(), entry.digest(key));
        let network = self.network(&place);
        network.version = version;
        network.entries += 1;
        network.digest = network.digest.wrapping_add(digest);
        self.changes.insert(version, (key, place));
        self.entries.insert(key, Published { entry, changed_at: version, digest });
    }

    /// Gives the place of what was listed.
    fn remove(&mut self, now: MonoTime, key: EntryKey) -> Option<TopicPath> {
        let place = self.take_out(key)?;
        let (version, kept_max) = (self.next_stamp(now), self.removals_kept_max);
        self.version = version;
        self.changes.insert(version, (key, place.clone()));
        let network = self.network(&place);
        network.version = version;
        network.removals.push_back(version);
        if network.removals.len() > kept_max {
            let horizon = network.removals.pop_front().expect("more than may be kept");
            network.horizon = horizon;
            self.changes.remove(&horizon);
        }
        Some(place)
    }

    /// Tells everybody who is shown it of a change.
    fn tell_all(
        &mut self,
        place: &TopicPath,
        shown: ShownTo<'_>,
        out: &mut Effects<'_, PublisherEffect>,
    ) {
        for (peer, reader) in self.readers.iter() {
            let may_send = reader.ready && reader.may_send(self.unacknowledged_max);
            if may_send && (is_planted(68) || shown(peer, place)) {
                out.push(PublisherEffect::SendUpdate(peer));
            }
        }
    }

    /// Tells a peer what it does not have yet.
    fn tell(&self, peer: PeerKey, shown: ShownTo<'_>, out: &mut Effects<'_, PublisherEffect>) {
        let Some(reader) = self.readers.get(peer) else { return };
        if !reader.ready || !reader.may_send(self.unacknowledged_max) {
            return;
        }
        let shown = |path: &TopicPath| shown(peer, path);
        if reader.needs_whole || reader.sent < self.version_of(reader, &shown) {
            out.push(PublisherEffect::SendUpdate(peer));
        }
    }

    fn ready(
        &mut self,
        cx: &mut Context<'_, PublisherTimer>,
        peer: PeerKey,
        incremental: bool,
        shown: ShownTo<'_>,
        out: &mut Effects<'_, PublisherEffect>,
    ) {
        if self.readers.get(peer).is_none() {
            let floor = self.next_stamp(cx.now.mono);
            self.readers.insert(peer, Reader { needs_whole: true, floor, ..Reader::default() });
        }
        let reader = self.readers.get_mut(peer).expect("just inserted");
        reader.incremental = incremental;
        if !reader.ready {
            reader.ready = true;
            if incremental && !reader.needs_whole {
                reader.in_flight.push_back(reader.sent);
            }
        }
        if incremental && reader.heartbeat.is_none() {
            let at = cx.now.mono + self.heartbeat_interval;
            reader.heartbeat = Some(cx.arm(at, PublisherTimer(peer)));
        }
        self.tell(peer, shown, out);
    }

    fn link_lost(
        &mut self,
        cx: &mut Context<'_, PublisherTimer>,
        peer: PeerKey,
        connected: bool,
        shown: ShownTo<'_>,
        out: &mut Effects<'_, PublisherEffect>,
    ) {
        if !connected {
            return self.forget(cx, peer);
        }
        let Some(reader) = self.readers.get_mut(peer) else { return };
        reader.start_over();
        self.tell(peer, shown, out);
    }

    fn forget(&mut self, cx: &mut Context<'_, PublisherTimer>, peer: PeerKey) {
        if let Some(timer) = self.readers.remove(peer).and_then(|reader| reader.heartbeat) {
            cx.disarm(timer);
        }
    }

    fn heard(
        &mut self,
        cx: &mut Context<'_, PublisherTimer>,
        peer: PeerKey,
        heard: Heard,
        shown: ShownTo<'_>,
        out: &mut Effects<'_, PublisherEffect>,
    ) {
        let interval = self.heartbeat_interval;
        let Some(reader) = self.readers.get_mut(peer) else { return };
        let version = if is_planted(61) { reader.sent } else { heard.version };
        // Nobody has what was not sent.
        if version <= reader.sent && version > reader.acknowledged {
            while reader.in_flight.front().is_some_and(|sent| *sent <= version) {
                reader.in_flight.pop_front();
            }
            reader.acknowledged = version;
            out.push(PublisherEffect::Acknowledged { peer, version });
        }
        if heard.wants_whole {
            reader.start_over();
            reader.needs_whole = true;
            // Who asks again and again gets it at the next heartbeat.
            if reader.whole_at.is_some_and(|at| cx.now.mono < at + interval) {
                return;
            }
        }
        self.tell(peer, shown, out);
    }

    fn beat(
        &mut self,
        cx: &mut Context<'_, PublisherTimer>,
        peer: PeerKey,
        shown: ShownTo<'_>,
        out: &mut Effects<'_, PublisherEffect>,
    ) {
        let Some(reader) = self.readers.get_mut(peer) else { return };
        let oldest = reader.in_flight.front().copied();
        if oldest.is_some() && reader.stalled == oldest && !is_planted(64) {
            // Not acknowledged in a whole interval: it was lost, or its answer was.
            reader.start_over();
            reader.needs_whole = true;
        }
        reader.stalled = reader.in_flight.front().copied();
        let at = cx.now.mono + self.heartbeat_interval;
        reader.heartbeat = Some(cx.arm(at, PublisherTimer(peer)));
        self.tell(peer, shown, out);
        out.push(PublisherEffect::SendHeartbeat(peer));
    }
}

impl Reader {
    fn may_send(&self, unacknowledged_max: usize) -> bool {
        !self.incremental || self.in_flight.len() < unacknowledged_max
    }

    /// What is in flight may not come: goes back to what the peer has said to have.
    fn start_over(&mut self) {
        self.sent = self.acknowledged;
        self.in_flight.clear();
        self.stalled = None;
        self.needs_whole |= self.sent == 0;
    }
}

impl Machine for Publisher {
    type Input = PublisherInput;
    type Effect = PublisherEffect;
    type Timer = PublisherTimer;
    type View<'a> = ShownTo<'a>;

    fn handle(
        &mut self,
        cx: &mut Context<'_, PublisherTimer>,
        shown: ShownTo<'_>,
        input: PublisherInput,
        out: &mut Effects<'_, PublisherEffect>,
    ) {
        match input {
            PublisherInput::Put(key, entry) => {
                let place = entry.place().clone();
                self.put(cx.now.mono, key, entry);
                self.tell_all(&place, shown, out);
            }
            PublisherInput::Remove(key) => {
                if let Some(place) = self.remove(cx.now.mono, key) {
                    self.tell_all(&place, shown, out);
                }
            }
            PublisherInput::Confirmed(peer) => {
                // An earlier Confirm may be all that it gets: later changes are told from there.
                if self.readers.get(peer).is_none() {
                    let sent = self.next_stamp(cx.now.mono);
                    let reader = Reader { sent, floor: sent, ..Reader::default() };
                    self.readers.insert(peer, reader);
                }
            }
            PublisherInput::Ready { peer, incremental } => {
                self.ready(cx, peer, incremental, shown, out);
            }
            PublisherInput::LinkLost { peer, connected } => {
                self.link_lost(cx, peer, connected, shown, out);
            }
            PublisherInput::Heard { peer, heard } => self.heard(cx, peer, heard, shown, out),
            PublisherInput::ViewChanged(peer) => {
                let floor = self.next_stamp(cx.now.mono);
                if let Some(reader) = self.readers.get_mut(peer) {
                    (reader.needs_whole, reader.floor) = (true, floor);
                    self.tell(peer, shown, out);
                }
            }
            PublisherInput::Gone(peer) => self.forget(cx, peer),
            PublisherInput::Timer(PublisherTimer(peer)) => self.beat(cx, peer, shown, out),
        }
    }

    fn check_invariants(&self) {
        let removals = self.networks.values().map(|network| network.removals.len());
        assert!(removals.clone().all(|kept| kept <= self.removals_kept_max), "bounded");
        let changes = self.entries.len() + removals.sum::<usize>();
        assert_eq!(self.changes.len(), changes, "one change each");
        let versions = self.networks.values().map(|network| network.version);
        assert_eq!(versions.max().unwrap_or(1), self.version, "the last change is in some network");
        for (key, published) in self.entries.iter() {
            let change = self.changes.get(&published.changed_at);
            assert_eq!(change.map(|(key, _)| key), Some(key), "every entry's change is known");
        }
        let all = self.entries.values().fold(0u64, |sum, p| sum.wrapping_add(p.digest));
        assert_eq!(self.digest(&|_| true), all, "the account of digests is right");
        for (_, reader) in self.readers.iter() {
            assert!(reader.acknowledged <= reader.sent, "nobody has what was not sent");
            assert!(reader.sent <= self.stamp && reader.floor <= self.stamp);
            assert!(reader.heartbeat.is_none() || reader.ready);
            let in_order = reader.in_flight.iter().zip(reader.in_flight.iter().skip(1));
            assert!(in_order.into_iter().all(|(a, b)| a < b), "sent in order");
            // One may wait on each link when the bound is reached.
            assert!(reader.in_flight.len() <= self.unacknowledged_max + 16, "bounded");
        }
    }
}
