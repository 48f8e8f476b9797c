//! What nodes made known, version by version, and whether the others' copies agree with it.
//!
//! The truth is read off the owner after each of its turns. A copy at a version must be what its owner had
//! at that version in the networks of both, however it got there; who is said to have a version must have it;
//! nobody is told that a path has no responders while a peer that is connected offers it; and neither an entry
//! nor a version tells of a network to who is not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dunlin_core::auth::Permission;
use dunlin_core::base::FewMap;
use dunlin_core::directory::{Document, Entry, EntryKey, OfferState};
use dunlin_core::rpc::{CallError, Failure};
use dunlin_core::topic::TopicPath;
use dunlin_core::{Event, Mesh, PeerId};

use crate::checks::Verdict;
use crate::rights::{ISOLATED, Rights};
use crate::world::{Fidelity, World};

/// A copy of a document is what its owner had.
const COPY_IS_TRUE: &str = "a copy is what its owner had";
/// Who has acknowledged a version has it.
const HEARD_IS_HAD: &str = "who has acknowledged a version has it";
/// Nobody is overlooked.
const NOBODY_OVERLOOKED: &str = "no responders means that none is known";

type Entries = FewMap<EntryKey, Entry>;

/// An entry of a copy, and what its owner had.
type Agreed = (EntryKey, Entry, Entry);

/// Versions that are so close to each other may be of one turn, of which only the end was seen.
const ONE_TURN: u64 = 64;

/// A document at one of its versions.
#[derive(Default)]
struct Owned {
    entries: Entries,
    /// The networks in which something changed since the version before.
    changed: BTreeSet<Option<u16>>,
}

/// A node and the networks of the world that it is in.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) index: usize,
    /// None where all are in the same network.
    pub(crate) rights: Option<&'a Rights>,
}

/// Whether two are one and the same, and so equal.
fn is_same(a: &Entry, b: &Entry) -> bool {
    match (a, b) {
        (Entry::Service(a), Entry::Service(b)) => Arc::ptr_eq(a, b),
        (Entry::Subscription(a), Entry::Subscription(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

impl Place<'_> {
    /// The network of an entry of this node's document.
    fn network_of(&self, entry: &Entry) -> Option<u16> {
        self.rights.map_or(Some(0), |rights| rights.network_of(self.index, entry.place()))
    }

    fn is_in(&self, network: Option<u16>) -> bool {
        let Some(rights) = self.rights else { return true };
        network.is_some_and(|network| rights.is_in(self.index, network))
    }
}

/// What was true, and who met whom in which life.
#[derive(Default)]
pub(crate) struct Copies {
    /// By boot number of the life: each version that was seen.
    owned: BTreeMap<u64, FewMap<u64, Owned>>,
    /// The life in which a node met a peer last.
    met: BTreeMap<(usize, PeerId), u64>,
    /// Which applications were told of a peer's services in the life that they met. Before that, calls may have
    /// looked for them in vain in the same breath.
    told: BTreeSet<(usize, PeerId)>,
    /// Entries of copies that were found to be what their owner had, with that: most of a document stays as it is
    /// from one version to the next.
    agreed: BTreeMap<(usize, PeerId), Vec<Agreed>>,
    /// The life and version that each node was at when it was looked at last.
    noted: Vec<Option<(u64, u64)>>,
}

impl Copies {
    /// Whether an event says something of documents.
    pub(crate) fn concerns(event: &Event) -> bool {
        match event {
            Event::PeerUp { .. }
            | Event::PeerServices { .. }
            | Event::DirectoryAcknowledged { .. } => true,
            Event::CallEnded { result: Err(CallError::Failed { failure, .. }), .. } => {
                *failure == Failure::NoResponders
            }
            _ => false,
        }
    }

    /// The boot number of the life in which a node met a peer last.
    pub(crate) fn met(&self, index: usize, peer: PeerId) -> Option<u64> {
        self.met.get(&(index, peer)).copied()
    }

    /// Whom an event is about.
    pub(crate) fn peer_of(event: &Event) -> Option<PeerId> {
        match event {
            Event::PeerUp { peer, .. }
            | Event::PeerServices { peer }
            | Event::DirectoryAcknowledged { peer, .. } => Some(*peer),
            _ => None,
        }
    }

    /// Writes down what a node makes known.
    pub(crate) fn note(&mut self, place: Place<'_>, mesh: &Mesh) {
        let present = Some((mesh.incarnation().boot, mesh.document_version()));
        if self.noted.len() <= place.index {
            self.noted.resize(place.index + 1, None);
        }
        // Most turns change nothing of it.
        if std::mem::replace(&mut self.noted[place.index], present) == present {
            return;
        }
        let versions = self.owned.entry(mesh.incarnation().boot).or_default();
        let before = versions.iter().next_back();
        let (document, none) = (mesh.document(), Entries::default());
        let before = before.map_or(&none, |(_, owned)| &owned.entries);
        let differs = |(key, entry): &(&EntryKey, &Entry)| {
            before.get(key) != Some(entry) || document.entries.get(key) != Some(entry)
        };
        let changed = document.entries.iter().chain(before.iter()).filter(differs);
        let changed = changed.map(|(_, entry)| place.network_of(entry)).collect();
        versions.insert(document.version, Owned { entries: document.entries, changed });
    }

    /// Judges a copy of what `owner` had in the life that was met.
    fn judge_copy(
        &mut self,
        place: Place<'_>,
        owner: Place<'_>,
        id: PeerId,
        mesh: &Mesh,
    ) -> Verdict {
        let life = self.met.get(&(place.index, id)).and_then(|boot| self.owned.get(boot));
        let (Some(life), Some(copy)) = (life, mesh.replica(id)) else { return Ok(()) };
        let (index, other) = (place.index, owner.index);
        if let Some(entry) = copy.entries.values().find(|e| !place.is_in(owner.network_of(e))) {
            let what = format!("n{index} is shown {entry:?} by n{other}");
            return Err((ISOLATED, what));
        }
        let until = life.iter().rev().find(|(version, _)| **version <= copy.version);
        let Some((_, truth)) = until else { return Ok(()) };
        let next = life.range_from(copy.version + 1).next();
        if next.is_some_and(|(next, _)| next - copy.version < ONE_TURN) {
            return Ok(());
        }
        // In each network it has all or nothing: a right may have ended.
        let networks: BTreeSet<_> = copy.entries.values().map(|e| owner.network_of(e)).collect();
        let all_shown = place.rights.is_none();
        // Whose right ends by clocks that differ is told nothing more by whoever thinks that it has ended.
        let is_unsure = place.rights.is_some_and(|rights| rights.is_unsure(index));
        let judged = |entry: &Entry| !is_unsure || owner.network_of(entry) != Some(0);
        let shown = |entry: &Entry| {
            judged(entry) && (all_shown || networks.contains(&owner.network_of(entry)))
        };
        let truth = truth.entries.iter().filter(|(_, entry)| shown(entry));
        let copied = copy.entries.iter().filter(|(_, entry)| judged(entry));
        let agreed = self.agreed.entry((index, id)).or_default();
        let mut agrees = |key: EntryKey, truth: &Entry, copy: &Entry| {
            let place = agreed.binary_search_by_key(&key, |(key, ..)| *key);
            if let Ok(place) = place
                && is_same(&agreed[place].1, truth)
                && is_same(&agreed[place].2, copy)
            {
                return true;
            }
            if truth != copy {
                return false;
            }
            let both = (key, truth.clone(), copy.clone());
            match place {
                Ok(place) => agreed[place] = both,
                Err(place) => {
                    agreed.reserve_exact(1);
                    agreed.insert(place, both);
                }
            }
            true
        };
        let same_keys = truth.clone().map(|(key, _)| key).eq(copied.clone().map(|(key, _)| key));
        let mut both = truth.clone().zip(copied);
        if !same_keys || !both.all(|((key, truth), (_, copy))| agrees(*key, truth, copy)) {
            let truth: Vec<_> = truth.collect();
            let what = format!(
                "n{index} has of n{other} at version {} {:?}, which had {truth:?}",
                copy.version, copy.entries
            );
            return Err((COPY_IS_TRUE, what));
        }
        Ok(())
    }

    /// Judges what a node was told. `other` is whom it is about, as it truly is now; `behind` is what the node
    /// was told after it.
    pub(crate) fn judge(
        &mut self,
        place: Place<'_>,
        mesh: &Mesh,
        owner: Option<usize>,
        other: Option<&Mesh>,
        event: &Event,
        behind: &[Event],
    ) -> Verdict {
        let index = place.index;
        let place_of = |index: usize| Place { index, ..place };
        match event {
            Event::PeerUp { peer, incarnation, .. } => {
                let met_before = self.met.insert((index, *peer), incarnation.boot);
                if met_before != Some(incarnation.boot) {
                    self.told.remove(&(index, *peer));
                }
            }
            Event::PeerServices { peer } => {
                self.told.insert((index, *peer));
                // Of several events at one moment only the end is seen: that may be another life's copy.
                let met_anew = |event: &Event| matches!(event, Event::PeerUp { peer: other, .. } if other == peer);
                if let Some(owner) = owner
                    && !behind.iter().any(met_anew)
                {
                    return self.judge_copy(place, place_of(owner), *peer, mesh);
                }
            }
            Event::DirectoryAcknowledged { peer, version } => {
                let life = self.owned.get(&mesh.incarnation().boot);
                let change = life.and_then(|life| life.get(version)).map(|owned| &owned.changed);
                if let (Some(reader), Some(networks)) = (owner.map(place_of), change)
                    && !networks.is_empty()
                    && !networks.iter().any(|network| reader.is_in(*network))
                {
                    let what = format!(
                        "n{} hears of version {version} of n{index}, which changed {networks:?}",
                        reader.index
                    );
                    return Err((ISOLATED, what));
                }
                let same_life = |other: &&Mesh| {
                    self.met.get(&(index, *peer)) == Some(&other.incarnation().boot)
                };
                let copy = other.filter(same_life).map(|other| other.replica_version(mesh.id()));
                if let Some(copy) = copy.filter(|copy| *copy > 0)
                    && copy < *version
                {
                    let what = format!(
                        "n{index} is told that {} has version {version}, which has {copy}",
                        peer.short(),
                    );
                    return Err((HEARD_IS_HAD, what));
                }
            }
            Event::CallEnded { call, result: Err(CallError::Failed { detail, .. }) } => {
                let Some(path) = detail.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''))
                else {
                    return Ok(());
                };
                let path = TopicPath::parse(path).expect("it was called");
                let offers = |(peer, known): &(PeerId, Option<&Document>)| {
                    let mut services = known.iter().flat_map(|document| document.services());
                    services.any(|service| {
                        service.state == OfferState::Running
                            // Actions lie under their service.
                            && path.as_bytes().starts_with(service.path.as_bytes())
                            && service.actions.iter().any(|action| action.matches(&path))
                        // What was learned only then could not help.
                    }) && self.told.contains(&(index, *peer))
                        // Its right may have ended just now, as after a pause.
                        && mesh.permits(*peer, Permission::Serve, &path)
                        && !behind.iter().any(|event| Copies::peer_of(event) == Some(*peer))
                };
                if let Some((peer, _)) = mesh.peers_up().find(offers) {
                    let what = format!(
                        "n{index}'s call {} to '{path}' found nobody; {} offers it",
                        call.to_u64(),
                        peer.short()
                    );
                    return Err((NOBODY_OVERLOOKED, what));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl<F: Fidelity> World<'_, F> {
    /// Looks at what a node was just told of others' documents, and of who has its own.
    pub(crate) fn judge_copies(&mut self, index: usize, heard: &[Event]) {
        let Some(live) = &self.stations[index].live else { return };
        let mesh = F::mesh(&live.door);
        let place = Place { index, rights: self.rights.as_ref() };
        self.copies.note(place, mesh);
        for (at, event) in heard.iter().enumerate() {
            // What a hostile node makes known by hand, its mesh knows nothing of.
            let met = Copies::peer_of(event).and_then(|peer| self.copies.met(index, peer));
            let is_of_life = !matches!(event, Event::PeerUp { .. });
            if is_of_life && met.is_some_and(|boot| self.hostile_lives.contains(&boot)) {
                continue;
            }
            let owner = Copies::peer_of(event).and_then(|peer| self.roster.find(&peer));
            let other = owner
                .and_then(|peer| self.stations[peer].live.as_ref())
                .map(|live| F::mesh(&live.door));
            if let Err((rule, what)) =
                self.copies.judge(place, mesh, owner, other, event, &heard[at + 1..])
            {
                self.ledger.violate(Some(index as u16), rule, what);
            }
        }
    }
}
