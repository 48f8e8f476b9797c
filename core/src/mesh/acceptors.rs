//! Which acceptors a network has, and what this node is among them.
//!
//! A descriptor names the present acceptors, their epoch, and those of earlier epochs that may still take part. A later
//! descriptor may name others: then whatever this node was is sealed, what it becomes waits for the
//! others' seals (`lease/seals.rs`), and its proposer goes over to the new ones lease by lease. As an acceptor of a former
//! configuration it stays, to say that it is sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::auth::{DescriptorClaims, NetworkId};
use crate::base::{FewMap, Limits, PeerId};
use crate::lease::{
    Acceptor, AcceptorInput, AcceptorSet, FormerSet, LeaseConfig, LeaseTimes, Proposer, ProposerId,
    ProposerInput, Record, Seal, Sealed,
};
use crate::mesh::Mesh;
use crate::mesh::event::Event;
use crate::mesh::leases::{LeaseSettings, Registry};
use crate::planted::is_planted;
use crate::store::Stored;

/// A claim of later acceptors that are so many epochs ahead is not believed. A guess: descriptors change by hand.
const EPOCHS_AHEAD_MAX: u64 = 1_000;

/// So many configurations this node remembers its part in: as many as a descriptor names, and the present one.
const CONFIGURATIONS_MAX: usize = crate::auth::descriptor::FORMER_REGISTRIES_MAX + 1;

/// How it stands with a network's acceptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptorsInfo {
    /// The network.
    pub network: NetworkId,
    /// The epoch of the acceptors that this node's descriptor names.
    pub epoch: u64,
    /// Whether this node is one of them.
    pub is_ours: bool,
    /// If it is: whether it takes part.
    pub is_ready: bool,
    /// If it is: the epochs of former acceptors of which no majority is known to be sealed.
    pub waits_for: Vec<u64>,
    /// The epochs of former acceptors that an operator has given up.
    pub abandoned: Vec<u64>,
    /// The epoch of later acceptors, of which this node's descriptor does not know.
    pub later: Option<u64>,
}

/// What this node's disk has of a network's leases beside what is in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// By epoch.
    records: BTreeMap<u64, Vec<Record>>,
    /// The epochs in which it knew all that it had promised.
    complete: BTreeSet<u64>,
    /// The latest epoch that has sealed another one here.
    sealed_by: u64,
}

impl Disk {
    fn of(records: BTreeMap<u64, Vec<Record>>) -> Disk {
        let is_complete = |of: &Vec<Record>| of.contains(&Record::Complete);
        let complete = records.iter().filter(|(_, of)| is_complete(of)).map(|(epoch, _)| *epoch);
        let seals = records.values().flatten().filter_map(|record| match record {
            Record::Sealed(by) => Some(*by),
            _ => None,
        });
        Disk { complete: complete.collect(), sealed_by: seals.max().unwrap_or_default(), records }
    }
}

/// The acceptors that a descriptor names, if it names any.
fn config_of(claims: &DescriptorClaims, times: LeaseTimes, limits: &Limits) -> Option<LeaseConfig> {
    // As many as there may be: descriptors are read so.
    let acceptors =
        AcceptorSet::new(claims.registry_epoch, claims.registry_members.clone()).ok()?;
    let formers = claims.former_registries.iter().filter_map(|former| {
        let acceptors = AcceptorSet::new(former.epoch, former.members.clone()).ok()?;
        Some(FormerSet { acceptors, abandoned: former.abandoned })
    });
    Some(LeaseConfig::new(acceptors, times, limits).after(formers.collect()))
}

impl Mesh {
    /// How it stands with the acceptors of this node's networks.
    pub fn acceptors(&self) -> Vec<AcceptorsInfo> {
        let info = |registry: &Registry| {
            let acceptor = registry.acceptor();
            let later = registry.proposer.superseded().into_iter().chain([registry.behind]);
            let later = later.chain(registry.claims.values().copied());
            AcceptorsInfo {
                network: registry.network,
                epoch: registry.proposer.epoch(),
                is_ours: acceptor.is_some(),
                is_ready: acceptor.is_some_and(|acceptor| acceptor.is_ready(self.now.mono)),
                waits_for: acceptor.map(Acceptor::waits_for).unwrap_or_default(),
                abandoned: registry.abandoned.clone(),
                later: later.max().filter(|later| *later > registry.proposer.epoch()),
            }
        };
        self.leases.registries.iter().map(info).collect()
    }

    /// Takes up the acceptors of all networks, and what this node has promised as one of them.
    pub(super) fn open_registries(&mut self, settings: LeaseSettings, stored: Option<&Stored>) {
        self.leases.times = settings.times;
        let development = settings.development_acceptors.filter(|_| self.access.is_development());
        let mut sets: Vec<(NetworkId, Option<LeaseConfig>, u64)> = Vec::new();
        if let Some(acceptors) = development {
            let epoch = acceptors.epoch();
            let config = LeaseConfig::new(acceptors, settings.times, &self.limits);
            sets.push((NetworkId::DEVELOPMENT, Some(config), epoch));
        }
        for descriptor in self.access.descriptors() {
            let claims = descriptor.current().claims();
            let config = config_of(claims, settings.times, &self.limits);
            sets.push((descriptor.id(), config, claims.registry_epoch));
        }
        for (network, config, epoch) in sets {
            if let Some(stored) = stored {
                let outdated = stored.outdated_promises(network, epoch);
                if !outdated.is_empty() {
                    self.journal.ask(outdated);
                }
                let mut records = stored.lease_records(network);
                for (_, of) in records.range_mut(..epoch) {
                    of.retain(|record| !matches!(record, Record::Promise { .. }));
                }
                self.leases.disks.insert(network, Disk::of(records));
            }
            if let Some(config) = config {
                self.open_registry(network, config);
            }
        }
    }

    fn open_registry(&mut self, network: NetworkId, config: LeaseConfig) {
        let id = ProposerId { peer: self.local.id, boot: self.local.incarnation.boot };
        let config = Arc::new(config);
        let registry = Registry {
            network,
            proposer: Proposer::new(id, Arc::clone(&config)),
            acceptors: Vec::new(),
            abandoned: Vec::new(),
            behind: 0,
            claims: FewMap::default(),
            told: FewMap::default(),
        };
        self.leases.registries.push(registry);
        let place = self.leases.registries.len() - 1;
        self.open_acceptors(place, &config);
        let known = self.leases.disks.get(&network).map_or(0, |disk| disk.sealed_by);
        self.note_behind(place, known);
    }

    /// What this node is in a configuration and those before it.
    fn open_acceptors(&mut self, place: usize, config: &Arc<LeaseConfig>) {
        let epoch = config.acceptors.epoch();
        for (index, former) in config.formers.iter().enumerate() {
            let (times, limits) = (config.times, &self.limits);
            let own = LeaseConfig::new(former.acceptors.clone(), times, limits);
            let own = own.after(config.formers[..index].to_vec());
            self.open_acceptor(place, Arc::new(own));
            let of = former.acceptors.epoch();
            self.feed_acceptor(place, of, AcceptorInput::Supersede(epoch));
        }
        self.open_acceptor(place, Arc::clone(config));
        let abandoned = config.formers.iter().filter(|former| former.abandoned);
        self.leases.registries[place].abandoned =
            abandoned.map(|former| former.acceptors.epoch()).collect();
    }

    /// What this node is in one configuration, unless it is that already.
    fn open_acceptor(&mut self, place: usize, config: Arc<LeaseConfig>) {
        let (id, boot) = (self.local.id, self.local.incarnation.boot);
        let epoch = config.acceptors.epoch();
        let registry = &mut self.leases.registries[place];
        let known = registry.acceptors.iter().any(|acceptor| acceptor.epoch() == epoch);
        if known || config.acceptors.place(id).is_none() {
            return;
        }
        let mut none = Disk::default();
        let disk = self.leases.disks.get_mut(&registry.network).unwrap_or(&mut none);
        let mut records = disk.records.remove(&epoch).unwrap_or_default();
        if is_planted(101) {
            records.retain(|record| *record == Record::Complete);
        }
        let kept = config.keeps(id, |of| {
            let lives = registry.acceptors.iter().find(|acceptor| acceptor.epoch() == of);
            lives.is_some_and(Acceptor::is_complete) || disk.complete.contains(&of)
        });
        if disk.sealed_by > epoch {
            records.push(Record::Sealed(disk.sealed_by));
        }
        let after = registry.acceptors.partition_point(|acceptor| acceptor.epoch() < epoch);
        registry.acceptors.insert(after, Acceptor::new(id, boot, config));
        self.feed_acceptor(place, epoch, AcceptorInput::Start { records, kept });
    }

    /// A network has another descriptor. It may name other acceptors.
    pub(super) fn acceptors_named(&mut self, network: NetworkId) {
        let descriptor = self.access.descriptors().find(|descriptor| descriptor.id() == network);
        let Some(descriptor) = descriptor else { return };
        let claims = descriptor.current().claims();
        let epoch = claims.registry_epoch;
        let config = config_of(claims, self.leases.times, &self.limits);
        let Some(place) = self.leases.place(network) else {
            if let Some(config) = config {
                self.open_registry(network, config);
                self.say_named(network, epoch);
            }
            return;
        };
        let registry = &self.leases.registries[place];
        if epoch <= registry.proposer.epoch() {
            return;
        }
        let former: Vec<u64> = registry.acceptors.iter().map(Acceptor::epoch).collect();
        for of in former {
            self.feed_acceptor(place, of, AcceptorInput::Supersede(epoch));
        }
        if let Some(config) = config {
            let config = Arc::new(config);
            self.open_acceptors(place, &config);
            self.feed_proposer(place, ProposerInput::Configure(config));
        }
        let acceptors = &mut self.leases.registries[place].acceptors;
        let surplus = acceptors.len().saturating_sub(CONFIGURATIONS_MAX);
        acceptors.drain(..surplus);
        self.say_named(network, epoch);
    }

    fn say_named(&mut self, network: NetworkId, epoch: u64) {
        let place = self.leases.place(network);
        let abandoned = place.map(|place| self.leases.registries[place].abandoned.clone());
        let abandoned = abandoned.unwrap_or_default();
        self.events.push_back(Event::AcceptorsNamed { network, epoch, abandoned });
    }

    /// A member speaks of acceptors of this epoch. Nothing proves it: it is shown for as long as that member is here, and
    /// no descriptor is so many epochs behind.
    fn note_claim(&mut self, place: usize, from: PeerId, epoch: u64) {
        let Some(registry) = self.leases.registries.get_mut(place) else { return };
        let (own, network) = (registry.proposer.epoch(), registry.network);
        if epoch <= own || epoch > own.saturating_add(EPOCHS_AHEAD_MAX) {
            return;
        }
        let known = registry.claims.values().chain([&registry.behind]).max().copied();
        registry.claims.insert(from, epoch);
        if known.is_none_or(|known| epoch > known) {
            self.events.push_back(Event::AcceptorsOutdated { network, epoch });
        }
    }

    /// The session with a peer is over, and what it said of epochs counts no more.
    pub(super) fn forget_claims(&mut self, from: PeerId) {
        for registry in &mut self.leases.registries {
            registry.claims.remove(&from);
        }
    }

    /// It is known that there are acceptors of this epoch.
    pub(super) fn note_behind(&mut self, place: usize, epoch: u64) {
        let Some(registry) = self.leases.registries.get_mut(place) else { return };
        if epoch > registry.behind.max(registry.proposer.epoch()) {
            registry.behind = epoch;
            let network = registry.network;
            self.events.push_back(Event::AcceptorsOutdated { network, epoch });
        }
    }

    /// Whether a peer, or this node itself, is in a network.
    fn is_in(&self, from: PeerId, network: NetworkId) -> bool {
        if from == self.local.id {
            return true;
        }
        let (Some(peer), Some(path)) =
            (self.by_id.get(&from), self.access.path_in(network, "acceptors"))
        else {
            return false;
        };
        self.access.shares(self.now, *peer, &path)
    }

    /// An acceptor asks whether this node, as an acceptor, is sealed or has begun.
    pub(super) fn seal_asked(&mut self, from: PeerId, network: NetworkId, seal: Seal) {
        let Some(place) = self.leases.place(network) else { return };
        if self.is_in(from, network) {
            self.note_claim(place, from, seal.by);
            self.feed_acceptor(place, seal.of, AcceptorInput::Seal { from, seal });
        }
    }

    /// An acceptor says whether it is sealed, or has begun.
    pub(super) fn seal_told(&mut self, from: PeerId, network: NetworkId, sealed: Sealed) {
        let Some(place) = self.leases.place(network) else { return };
        if self.is_in(from, network) {
            self.feed_acceptor(place, sealed.seal.by, AcceptorInput::Sealed { from, sealed });
        }
    }
}
