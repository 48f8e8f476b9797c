//! What nodes made known, version by version, and whether the others' copies agree with it.
//!
//! The truth is read off the owner after each of its turns. A copy at a version must be what its owner had
//! at that version, however it got there; who is said to have a version must have it; and nobody is told
//! that a path has no responders while a peer that is connected offers it.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_core::directory::{EntryKey, OfferState};
use dunlin_core::rpc::{CallError, Failure};
use dunlin_core::topic::TopicPath;
use dunlin_core::{Event, Mesh, PeerId};

use crate::checks::Verdict;
use crate::world::{Fidelity, World};

/// A copy of a document is what its owner had.
const COPY_IS_TRUE: &str = "a copy is what its owner had";
/// Who has acknowledged a version has it.
const HEARD_IS_HAD: &str = "who has acknowledged a version has it";
/// Nobody is overlooked.
const NOBODY_OVERLOOKED: &str = "no responders means that none is known";

type Entries = BTreeMap<EntryKey, dunlin_core::directory::Entry>;

/// What was true, and who met whom in which life.
#[derive(Default)]
pub(crate) struct Copies {
    /// By boot number of the life: each version that was seen.
    owned: BTreeMap<u64, BTreeMap<u64, Entries>>,
    /// The life in which a node met a peer last.
    met: BTreeMap<(usize, PeerId), u64>,
    /// Which applications were told of a peer's services in the life that they met. Before that, calls may have
    /// looked for them in vain in the same breath.
    told: BTreeSet<(usize, PeerId)>,
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
    pub(crate) fn note(&mut self, mesh: &Mesh) {
        let versions = self.owned.entry(mesh.incarnation().boot).or_default();
        if versions.last_key_value().is_none_or(|(last, _)| *last != mesh.document_version()) {
            let document = mesh.document();
            versions.insert(document.version, document.entries);
        }
    }

    /// Judges what a node was told. `other` is whom it is about, as it truly is now; `behind` is what the node
    /// was told after it.
    pub(crate) fn judge(
        &mut self,
        index: usize,
        mesh: &Mesh,
        other: Option<&Mesh>,
        event: &Event,
        behind: &[Event],
    ) -> Verdict {
        match event {
            Event::PeerUp { peer, incarnation, .. } => {
                let met_before = self.met.insert((index, *peer), incarnation.boot);
                if met_before != Some(incarnation.boot) {
                    self.told.remove(&(index, *peer));
                }
            }
            Event::PeerServices { peer } => {
                self.told.insert((index, *peer));
                let life = self.met.get(&(index, *peer)).and_then(|boot| self.owned.get(boot));
                if let (Some(life), Some(copy)) = (life, mesh.replica(*peer))
                    && let Some(truth) = life.get(&copy.version)
                    && *truth != copy.entries
                {
                    let what = format!(
                        "n{index} has of {} at version {} {:?}, which had {truth:?}",
                        peer.short(),
                        copy.version,
                        copy.entries
                    );
                    return Err((COPY_IS_TRUE, what));
                }
            }
            Event::DirectoryAcknowledged { peer, version } => {
                let same_life = |other: &&Mesh| {
                    self.met.get(&(index, *peer)) == Some(&other.incarnation().boot)
                };
                let copy = other.filter(same_life).and_then(|other| other.replica(mesh.id()));
                if let Some(copy) = copy
                    && copy.version < *version
                {
                    let what = format!(
                        "n{index} is told that {} has version {version}, which has {}",
                        peer.short(),
                        copy.version
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
                let offers = |peer: &PeerId| {
                    // What was learned only then could not help.
                    if !self.told.contains(&(index, *peer))
                        || behind.iter().any(|event| Copies::peer_of(event) == Some(*peer))
                    {
                        return false;
                    }
                    let known = mesh.peers_up().find(|(id, _)| id == peer).and_then(|(_, d)| d);
                    let mut services = known.into_iter().flat_map(|document| document.services());
                    services.any(|service| {
                        service.state == OfferState::Running
                            && service.actions.iter().any(|action| action.matches(&path))
                    })
                };
                if let Some((peer, _)) = mesh.peers_up().find(|(peer, _)| offers(peer)) {
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
        self.copies.note(mesh);
        for (at, event) in heard.iter().enumerate() {
            let other = Copies::peer_of(event)
                .and_then(|peer| self.peers.iter().position(|other| *other == peer))
                .and_then(|peer| self.stations[peer].live.as_ref())
                .map(|live| F::mesh(&live.door));
            if let Err((rule, what)) =
                self.copies.judge(index, mesh, other, event, &heard[at + 1..])
            {
                self.ledger.violate(Some(index as u16), rule, what);
            }
        }
    }
}
