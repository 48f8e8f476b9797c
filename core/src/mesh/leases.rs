//! Leases of single-active services, wired to peers, the store and services.
//!
//! Each network whose acceptors are known has one proposer here, and an acceptor if this node is one of them. What they
//! say to peers goes by control lanes, and is lost where there is no link: it is said again. What they
//! say to this node itself comes by the queue of effects. A lease is called by its network and the service's path in
//! it, so that all members mean the same.
//!
//! A network's acceptors are those of its descriptor, and change with it: `acceptors.rs`. Those of the development network are
//! as they were named when the node started.
//!
//! Without a store nothing is durable, and every start of an acceptor is one with a lost disk: it learns from the
//! others what was promised. A sole acceptor has nobody to ask, so its tokens begin anew with each start.

use std::collections::{BTreeMap, VecDeque};

use crate::auth::{NetworkId, Permission};
use crate::base::{
    Effects, FewMap, KeyMap, MonoTime, Now, PeerId, PeerKey, ServiceKey, ServiceTag,
};
use crate::directory::{LeaseWish, ServiceInput, ServiceState};
use crate::lease::{
    Acceptor, AcceptorEffect, AcceptorInput, AcceptorSet, AcceptorTimer, Answer, Hold, Learn,
    Learned, LeaseName, LeaseTimes, Proposer, ProposerEffect, ProposerInput, ProposerTimer,
    Request, Token,
};
use crate::machine::{Context, Machine};
use crate::mesh::acceptors::Disk;
use crate::mesh::event::Event;
use crate::mesh::outbound::OutItem;
use crate::mesh::wiring::Work;
use crate::mesh::{CommandError, Mesh, NodeTimer, Own, Phase, feed};
use crate::planted::is_planted;
use crate::store::stored;
use crate::topic::{Pattern, TopicPath};
use crate::wire::{LEARNED_PART_MAX, LearnedPart, Message};

/// Who accepts leases, and how long they last.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LeaseSettings {
    /// The acceptors of the development network, which has no descriptor: the same at all its nodes. None: nobody can
    /// register a single-active service there. A node that is alone names itself. They stay as they are until its nodes
    /// have stopped.
    pub development_acceptors: Option<AcceptorSet>,
    /// The same at all nodes of a network. Source of the defaults: protocols.md, section 6.
    pub times: LeaseTimes,
}

/// What waits on the control lane of a link beside as many words as there may be leases, before words about leases are
/// dropped: whoever needs them says them again.
const CONTROL_SPARE: usize = 64;

/// How long an acceptor that stops stays after it gave a lease up: without its vote, two that take over at one moment would
/// be in each other's way for a round. Room for two round trips of a network that is not slow. A guess.
const LINGER: std::time::Duration = std::time::Duration::from_millis(100);

/// The leases of one network.
#[derive(Clone)]
pub(super) struct Registry {
    pub(super) network: NetworkId,
    pub(super) proposer: Proposer,
    /// What this node is in the present and in former configurations, by their epochs.
    pub(super) acceptors: Vec<Acceptor>,
    /// Former sets that an operator has given up.
    pub(super) abandoned: Vec<u64>,
    /// The latest epoch of which it was said that this node's descriptor is behind it.
    pub(super) behind: u64,
    /// What members say of later epochs, without a proof.
    pub(super) claims: FewMap<PeerId, u64>,
    /// What other acceptors have told so far of what they have promised.
    pub(super) told: FewMap<PeerId, Vec<(LeaseName, u64)>>,
}

impl Registry {
    /// As one of the present acceptors, if this node is.
    pub(super) fn acceptor(&self) -> Option<&Acceptor> {
        self.acceptors.last().filter(|acceptor| acceptor.epoch() == self.proposer.epoch())
    }

    fn acceptor_of(&mut self, epoch: u64) -> Option<&mut Acceptor> {
        self.acceptors.iter_mut().find(|acceptor| acceptor.epoch() == epoch)
    }
}

impl Leases {
    /// For how many leases an acceptor of this node keeps promises, the one that has most.
    pub(super) fn promised_len(&self) -> usize {
        let acceptors = self.registries.iter().flat_map(|registry| &registry.acceptors);
        acceptors.map(Acceptor::len).max().unwrap_or(0)
    }
}

/// See the module's documentation.
#[derive(Clone, Default)]
pub(super) struct Leases {
    pub(super) registries: Vec<Registry>,
    pub(super) disks: BTreeMap<NetworkId, Disk>,
    pub(super) times: LeaseTimes,
    /// Of single-active services, from their registration on: the registry, and what their leases are called.
    services: KeyMap<ServiceTag, (usize, LeaseName)>,
    by_name: BTreeMap<LeaseName, ServiceKey>,
    /// What is on its way to the disk: the request of the journal, the registry, the epoch and the number of its acceptor.
    storing: VecDeque<(u64, usize, u64, u64)>,
    /// This node stops, and was active until a moment ago.
    lingers_until: Option<MonoTime>,
}

impl Leases {
    pub(super) fn place(&self, network: NetworkId) -> Option<usize> {
        self.registries.iter().position(|registry| registry.network == network)
    }

    fn hold(&self, service: ServiceKey, now: MonoTime) -> Option<Hold> {
        let (place, name) = self.services.get(service)?;
        self.registries.get(*place)?.proposer.hold(name, now)
    }

    fn holder(&self, service: ServiceKey) -> Option<PeerId> {
        let (place, name) = self.services.get(service)?;
        Some(self.registries.get(*place)?.proposer.holder(name)?.peer)
    }

    /// Whether others need this node, which stops, for a moment yet.
    pub(super) fn lingers(&self, now: MonoTime) -> bool {
        self.lingers_until.is_some_and(|until| now < until)
    }

    pub(super) fn check_invariants(&self) {
        for registry in &self.registries {
            registry.proposer.check_invariants();
            for acceptor in &registry.acceptors {
                acceptor.check_invariants();
            }
            let epochs = registry.acceptors.iter().map(Acceptor::epoch);
            assert!(epochs.is_sorted(), "acceptors are in the order of their epochs");
        }
        assert_eq!(self.by_name.len(), self.services.iter().count(), "a name has one service");
    }
}

/// The network of a lease, and the path in it.
fn read_name(name: &LeaseName) -> Option<(NetworkId, &str)> {
    let (network, path) = name.as_bytes().split_first_chunk::<32>()?;
    Some((NetworkId::from_bytes(*network), std::str::from_utf8(path).ok()?))
}

impl Mesh {
    // Questions.

    /// Whether a single-active service of this node has its lease at this moment, by which token, and until when
    /// unless it is renewed. To be asked with the time of acting, and never to be remembered.
    pub fn hold(&self, now: MonoTime, service: ServiceKey) -> Option<Hold> {
        self.leases.hold(service, now)
    }

    /// Who is active, as far as this node knows; it may be over by now.
    pub fn leader_of(&self, service: ServiceKey) -> Option<PeerId> {
        match self.leases.hold(service, self.now.mono) {
            Some(_) => Some(self.local.id),
            None => self.leases.holder(service).filter(|holder| *holder != self.local.id),
        }
    }

    /// Whether this node takes part in deciding who gets leases, in all networks in which it is an acceptor; true if
    /// it is none. After a start it abstains for a while: a rolling restart waits for it.
    pub fn is_ready(&self) -> bool {
        let mut acceptors = self.leases.registries.iter().filter_map(Registry::acceptor);
        acceptors.all(|acceptor| acceptor.is_ready(self.now.mono))
    }

    /// Whether this node is an acceptor and does not know yet all that it has promised: its disk is new, or it has none.
    pub fn is_learning(&self) -> bool {
        let mut acceptors = self.leases.registries.iter().filter_map(Registry::acceptor);
        acceptors.any(Acceptor::is_learning)
    }

    /// Has an active service give its lease up, for others to take: it is deactivated first. It waits for the lease
    /// again after the term of one.
    ///
    /// # Errors
    ///
    /// When it is not active.
    pub fn step_down(&mut self, now: Now, service: ServiceKey) -> Result<(), CommandError> {
        self.change_service(now, service, ServiceInput::StepDown(service))
    }

    /// Who is active of the service here that a path belongs to, for a caller to follow.
    pub(super) fn leader_hint(&self, path: &TopicPath) -> Option<PeerId> {
        let (route, _) = self.services.route(path)?;
        self.leader_of(route.service).filter(|leader| *leader != self.local.id)
    }

    /// Whether a service of this node in this state may serve a call at this moment.
    pub(super) fn serves(&self, service: ServiceKey, state: ServiceState) -> bool {
        state == ServiceState::Running && self.may_act(service)
            || is_planted(103) && state == ServiceState::Standby
    }

    fn may_act(&self, service: ServiceKey) -> bool {
        !self.is_single_active(service)
            || self.leases.hold(service, self.now.mono).is_some()
            || is_planted(100)
            || is_planted(105)
    }

    pub(super) fn is_single_active(&self, service: ServiceKey) -> bool {
        self.services.info(service).is_some_and(|info| info.single_active)
    }

    /// What the lease of a service with this path is called, and where it is decided.
    pub(super) fn lease_of(&self, path: &TopicPath) -> Result<(usize, LeaseName), CommandError> {
        let network = self.access.network_id_of(path)?;
        // Acceptors ask for no less.
        if let Ok(actions) = Pattern::parse(&format!("{}/*", path.path())) {
            self.access.may_we_all(self.now, Permission::Serve, path, &actions)?;
        }
        let no_acceptors = || CommandError::NoAcceptors(path.clone());
        let place = self.leases.place(network).ok_or_else(no_acceptors)?;
        let name = [network.as_bytes(), path.path().as_bytes()].concat();
        let name = LeaseName::new(name.into()).expect("paths are no longer than names may be");
        if self.leases.by_name.len() >= self.limits.leases_max {
            let (count, max) = (self.leases.by_name.len() + 1, self.limits.leases_max);
            let (what, limit) = ("single-active services", "Limits::leases_max");
            return Err(CommandError::TooMany { what, count, max, limit });
        }
        Ok((place, name))
    }

    pub(super) fn note_lease(&mut self, service: ServiceKey, (place, name): (usize, LeaseName)) {
        self.leases.by_name.insert(name.clone(), service);
        self.leases.services.insert(service, (place, name));
    }

    // Services.

    /// A service wants its lease, or to be rid of it.
    pub(super) fn lease_wish(&mut self, service: ServiceKey, wish: LeaseWish) {
        let Some((place, name)) = self.leases.services.get(service).cloned() else { return };
        match wish {
            LeaseWish::Want => self.feed_proposer(place, ProposerInput::Want(name)),
            LeaseWish::WantLater => {
                let registry = self.leases.registries.get(place);
                let term = registry.map_or_else(Default::default, |r| r.proposer.times().term());
                self.timers.arm(self.now.mono + term, NodeTimer::WantLease(service));
            }
            LeaseWish::Leave if is_planted(104) => {}
            LeaseWish::Leave => self.feed_proposer(place, ProposerInput::Leave(name)),
        }
    }

    /// A service that has stepped down waits for its lease again.
    pub(super) fn want_again(&mut self, service: ServiceKey) {
        if self.services.state(service) == Some(ServiceState::Standby) {
            self.lease_wish(service, LeaseWish::Want);
        }
    }

    /// A service has moved on in its life.
    pub(super) fn lease_follows(&mut self, service: ServiceKey, state: ServiceState) {
        match state {
            ServiceState::Running => self.look_for_ways(),
            ServiceState::Stopped | ServiceState::Failed => {
                if let Some((place, name)) = self.leases.services.remove(service) {
                    self.leases.by_name.remove(&name);
                    self.feed_proposer(place, ProposerInput::Leave(name));
                }
            }
            _ => {}
        }
    }

    // Proposers.

    pub(super) fn proposer_effect(&mut self, place: usize, effect: ProposerEffect) {
        match effect {
            ProposerEffect::Ask { to, request } if to == self.local.id => {
                self.lease_asked(None, request);
            }
            ProposerEffect::Ask { to, request } => {
                self.send_of_leases(to, Message::LeaseRequest(request));
            }
            ProposerEffect::Granted { name, token, .. } => {
                let Some(service) = self.leases.by_name.get(&name).copied() else { return };
                self.feed_services(ServiceInput::Granted(service, token));
                self.say_leader(service, Some(self.local.id), Some(token));
            }
            ProposerEffect::Lost { name, .. } => {
                let Some(service) = self.leases.by_name.get(&name).copied() else { return };
                if !is_planted(100) {
                    self.feed_services(ServiceInput::Lost(service));
                }
                self.say_leader(service, None, None);
                let votes =
                    self.leases.registries.get(place).is_some_and(|r| r.acceptor().is_some());
                if votes && self.phase == Phase::Stopping {
                    let until = self.now.mono + LINGER;
                    self.leases.lingers_until = Some(until);
                    self.timers.arm(until, NodeTimer::Linger);
                }
            }
            ProposerEffect::HeldBy { name, holder } => {
                let Some(service) = self.leases.by_name.get(&name).copied() else { return };
                self.say_leader(service, Some(holder.peer), None);
            }
            ProposerEffect::Superseded(epoch) => self.note_behind(place, epoch),
            ProposerEffect::NoRoom(_) => {
                unreachable!("services are bounded by leases_max at registry {place}")
            }
        }
    }

    fn say_leader(&mut self, service: ServiceKey, leader: Option<PeerId>, token: Option<Token>) {
        self.events.push_back(Event::Leader { service, leader, token });
    }

    /// An acceptor answers.
    pub(super) fn lease_answered(&mut self, from: PeerId, answer: Answer) {
        let network = read_name(&answer.name).map(|(network, _)| network);
        if let Some(place) = network.and_then(|network| self.leases.place(network)) {
            self.feed_proposer(place, ProposerInput::Answer { from, answer });
        }
    }

    // Acceptors.

    /// A peer asks for a lease, or this node itself. Whoever may not serve anything there is not answered: its own
    /// node refuses to register the service, and says why.
    pub(super) fn lease_asked(&mut self, peer: Option<PeerKey>, request: Request) {
        let from = match peer {
            None => self.local.id,
            Some(peer) => match self.peers.get(peer) {
                Some(entry) => entry.id,
                None => return,
            },
        };
        let Some((network, path)) = read_name(&request.name) else { return };
        let Some(place) = self.leases.place(network) else { return };
        let Some(path) = self.access.path_in(network, path) else { return };
        if self.access.may_lead(self.now, peer, &path) {
            let epoch = request.epoch;
            // Keys whose rights one token handed on are counted together.
            let entry = peer.and_then(|peer| self.peers.get(peer));
            let account =
                entry.and_then(|entry| entry.delegator.as_deref().copied()).unwrap_or(from);
            let input = AcceptorInput::Request { from, account, request };
            self.feed_acceptor(place, epoch, input);
        }
    }

    pub(super) fn acceptor_effect(&mut self, place: usize, epoch: u64, effect: AcceptorEffect) {
        let Some(network) = self.leases.registries.get(place).map(|r| r.network) else { return };
        match effect {
            AcceptorEffect::Answer { to, answer } if to == self.local.id => {
                self.lease_answered(to, answer);
            }
            AcceptorEffect::Answer { to, answer } => {
                self.send_of_leases(to, Message::LeaseAnswer(answer));
            }
            AcceptorEffect::Learn { to, learn } => {
                self.leases.registries[place].told.remove(&to);
                self.send_of_leases(to, Message::LeaseLearn(network, learn));
            }
            AcceptorEffect::Learned { to, learned } => self.tell_learned(network, to, learned),
            AcceptorEffect::Persist { seq, record } => {
                let request = self.journal.ask(vec![stored::promise(network, epoch, &record)]);
                if self.journal.is_durable(request) {
                    return self.feed_acceptor(place, epoch, AcceptorInput::Durable { seq });
                }
                self.leases.storing.push_back((request, place, epoch, seq));
            }
            AcceptorEffect::Seal { to, seal } if to == self.local.id => {
                self.seal_asked(to, network, seal);
            }
            AcceptorEffect::Seal { to, seal } => {
                self.send_of_leases(to, Message::LeaseSeal(network, seal));
            }
            AcceptorEffect::Sealed { to, sealed } if to == self.local.id => {
                self.seal_told(to, network, sealed);
            }
            AcceptorEffect::Sealed { to, sealed } => {
                self.send_of_leases(to, Message::LeaseSealed(network, sealed));
            }
            AcceptorEffect::Ready => self.events.push_back(Event::AcceptorReady { network }),
        }
    }

    /// More is durable than before.
    pub(super) fn leases_durable(&mut self) {
        while let Some((request, place, epoch, seq)) = self.leases.storing.front().copied()
            && self.journal.is_durable(request)
        {
            self.leases.storing.pop_front();
            self.feed_acceptor(place, epoch, AcceptorInput::Durable { seq });
        }
    }

    /// Another acceptor has lost its disk.
    pub(super) fn lease_learn(&mut self, from: PeerId, network: NetworkId, learn: Learn) {
        if let Some(place) = self.leases.place(network) {
            self.feed_acceptor(place, learn.epoch, AcceptorInput::Learn { from, learn });
        }
    }

    fn tell_learned(&mut self, network: NetworkId, to: PeerId, learned: Learned) {
        let Learned { epoch, boot, complete, sealed, mut rounds } = learned;
        let mut told = 0;
        loop {
            let rest = rounds.split_off(rounds.len().min(LEARNED_PART_MAX));
            let (count, more) = (rounds.len(), !rest.is_empty());
            let learned = Learned { epoch, boot, complete, sealed, rounds };
            let part = LearnedPart { network, told, learned, more };
            self.send_of_leases(to, Message::LeaseLearned(part));
            if !more {
                return;
            }
            (rounds, told) = (rest, told + count);
        }
    }

    /// Another acceptor tells what it has promised, in parts. They count together.
    pub(super) fn lease_learned(&mut self, from: PeerId, part: LearnedPart) {
        let Some(place) = self.leases.place(part.network) else { return };
        let (registry, epoch) = (&mut self.leases.registries[place], part.learned.epoch);
        if registry.acceptor_of(epoch).is_none_or(|acceptor| !acceptor.expects(from)) {
            return;
        }
        let mut rounds = registry.told.remove(&from).unwrap_or_default();
        if part.told == 0 {
            rounds.clear();
        }
        // A part is missing, or came before another: it is asked again.
        if part.told != rounds.len() {
            return;
        }
        rounds.extend(part.learned.rounds);
        if part.more {
            if rounds.len() <= self.limits.leases_max {
                registry.told.insert(from, rounds);
            }
            return;
        }
        let learned = Learned { rounds, ..part.learned };
        self.feed_acceptor(place, epoch, AcceptorInput::Learned { from, learned });
    }

    /// Says something to a peer, if there is a link to it and it is read there.
    fn send_of_leases(&mut self, to: PeerId, message: Message) {
        let Some(key) = self.by_id.get(&to).copied() else { return };
        let link = self.peers.get(key).and_then(|entry| entry.machine.sending_link());
        let Some(link) = link else { return };
        let waiting = self.links.get(&link).map_or(0, |entry| entry.out.control_len());
        if waiting < self.limits.leases_max.saturating_add(CONTROL_SPARE) {
            self.send_control(link, OutItem::Message(Box::new(message)));
        }
    }

    pub(super) fn feed_proposer(&mut self, place: usize, input: ProposerInput) {
        let Some(registry) = self.leases.registries.get_mut(place) else { return };
        let timer = |timer: ProposerTimer| NodeTimer::Proposer(place, timer);
        let effect = |effect| Work::Proposer(place, Box::new(effect));
        feed!(self, registry.proposer, (), input, timer, effect);
    }

    pub(super) fn feed_acceptor(&mut self, place: usize, epoch: u64, input: AcceptorInput) {
        let registry = self.leases.registries.get_mut(place);
        let Some(acceptor) = registry.and_then(|r| r.acceptor_of(epoch)) else { return };
        let timer = |timer: AcceptorTimer| NodeTimer::Acceptor(place, epoch, timer);
        let effect = |effect| Work::Acceptor(place, epoch, Box::new(effect));
        feed!(self, *acceptor, (), input, timer, effect);
    }

    pub(super) fn proposer_timer(&mut self, place: usize, timer: ProposerTimer) {
        self.feed_proposer(place, ProposerInput::Timer(timer));
    }

    pub(super) fn acceptor_timer(&mut self, place: usize, epoch: u64, timer: AcceptorTimer) {
        self.feed_acceptor(place, epoch, AcceptorInput::Timer(timer));
    }
}
