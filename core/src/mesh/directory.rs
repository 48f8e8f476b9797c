//! Documents and their readers, wired to links; and who is asked for a path.

use crate::auth::Permission;
use crate::base::{Effects, PeerId, PeerKey};
use crate::directory::remote::{Chosen, Nobody, Purpose, Seat};
use crate::directory::{
    Document, Entry, EntryKey, PublisherEffect, PublisherInput, ReplicaEffect, ReplicaInput,
    Update, Wish,
};
use crate::machine::{Context, Machine};
use crate::mesh::event::Event;
use crate::mesh::outbound::OutItem;
use crate::mesh::wiring::Work;
use crate::mesh::{Mesh, NodeTimer, Own, Target, feed};
use crate::peer::PeerInput;
use crate::planted::is_planted;
use crate::rpc::caller::Route;
use crate::rpc::{CallError, Failure};
use crate::topic::TopicPath;
use crate::wire::Message;

/// A path for people. Refusals are frequent, and formatting is slow.
fn quoted(path: &TopicPath) -> String {
    ["'", path.as_str(), "'"].concat()
}

/// What is remembered of a call beside what its own machine knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Routed {
    pub(super) wish: Wish,
    pub(super) seat: Option<Seat>,
    /// The place of a second attempt.
    pub(super) hedge: Option<Box<Seat>>,
    pub(super) tried: Tried,
}

/// Who was asked last, and is not to be asked next if somebody else will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tried {
    #[default]
    Nobody,
    Here,
    Peer(PeerKey),
}

impl Mesh {
    /// What this node makes known, all of it.
    pub fn document(&self) -> Document {
        self.publisher.document()
    }

    /// The version of [`Mesh::document`].
    pub fn document_version(&self) -> u64 {
        self.publisher.version()
    }

    /// What this node makes known to a peer, at the version that the peer hears of: that of the last change
    /// that it is shown. None if the peer is not known.
    pub fn document_for(&self, peer: PeerId) -> Option<Document> {
        let key = *self.by_id.get(&peer)?;
        Some(self.publisher.document_for(key, &|path| self.shows(key, path)))
    }

    /// A peer's document as it came, before anything here looked at what it may offer; none before it has
    /// come.
    pub fn replica(&self, peer: PeerId) -> Option<Document> {
        self.replicas.document(*self.by_id.get(&peer)?)
    }

    /// The version of [`Mesh::replica`]; zero before it has come.
    pub fn replica_version(&self, peer: PeerId) -> u64 {
        self.by_id.get(&peer).map_or(0, |key| self.replicas.version(*key))
    }

    /// The version of [`Mesh::document_for`] that a peer has said to have; zero if it has said nothing yet.
    /// What it was shown before that version is known there.
    pub fn acknowledged(&self, peer: PeerId) -> u64 {
        self.by_id.get(&peer).map_or(0, |key| self.publisher.acknowledged(*key))
    }

    /// Whether a peer is shown what lies at this path.
    fn shows(&self, peer: PeerKey, path: &TopicPath) -> bool {
        self.access.shares(self.now, peer, path)
    }

    pub(super) fn document_to_confirm(&mut self, peer: PeerKey) -> Document {
        self.feed_publisher(PublisherInput::Confirmed(peer));
        self.publisher.document_for(peer, &|path| self.shows(peer, path))
    }

    pub(super) fn update_message(&mut self, peer: PeerKey) -> Message {
        let (access, now) = (&self.access, self.now);
        let shown = |path: &TopicPath| access.shares(now, peer, path);
        match self.publisher.take_update(now.mono, peer, &shown) {
            Update::Whole(document) => Message::Directory(document),
            Update::Delta(delta) => Message::Delta(delta),
        }
    }

    pub(super) fn heartbeat_message(&self, peer: PeerKey) -> Message {
        Message::Heartbeat(self.publisher.heartbeat(peer, &|path| self.shows(peer, path)))
    }

    pub(super) fn publisher_effect(&mut self, effect: PublisherEffect) {
        match effect {
            PublisherEffect::SendUpdate(peer) => self.send_on_control(peer, OutItem::Directory),
            PublisherEffect::SendHeartbeat(peer) => {
                self.send_on_control(peer, OutItem::Heartbeat);
            }
            PublisherEffect::Acknowledged { peer, version } => {
                if let Some(entry) = self.peers.get(peer) {
                    let peer = entry.id;
                    self.events.push_back(Event::DirectoryAcknowledged { peer, version });
                }
            }
        }
    }

    pub(super) fn replica_effect(&mut self, effect: ReplicaEffect) {
        match effect {
            ReplicaEffect::Changed { peer, version, changes } => {
                self.learn(peer, version, changes);
            }
            ReplicaEffect::SendHeard(peer) => self.send_on_control(peer, OutItem::Heard),
            ReplicaEffect::Fault { peer, link, what } => {
                self.feed_peer(peer, PeerInput::Fault { link, what });
            }
        }
    }

    fn learn(&mut self, peer: PeerKey, version: u64, changes: Vec<(EntryKey, Option<Entry>)>) {
        let Some(entry) = self.peers.get(peer) else { return };
        // The end of its session may have been behind this.
        if entry.machine.session().is_none() {
            return;
        }
        let id = entry.id;
        let mut ignored = None;
        let changes = changes.into_iter().map(|(key, entry)| {
            let permitted = entry.map(|entry| self.permitted(peer, &entry)).transpose();
            (
                key,
                permitted.unwrap_or_else(|why| {
                    ignored.get_or_insert(why);
                    None
                }),
            )
        });
        let changes: Vec<_> = changes.collect();
        self.learn_interest(peer, id, &changes);
        self.remote.update(peer, id, version, changes);
        self.look_for_ways();
        if let Some(what) = ignored {
            self.events.push_back(Event::ClaimIgnored { peer: id, what });
        }
        self.events.push_back(Event::PeerServices { peer: id });
    }

    /// What a peer is shown, and what counts of what it shows, is something else from now on.
    pub(super) fn rights_changed(&mut self, peer: PeerKey) {
        self.decisions.forget();
        self.learn_again(peer);
        self.feed_publisher(PublisherInput::ViewChanged(peer));
    }

    /// Looks again at what counts of a peer's document: its rights may be others than when it came.
    pub(super) fn learn_again(&mut self, peer: PeerKey) {
        let Some(id) = self.peers.get(peer).map(|entry| entry.id) else { return };
        let Some(mut document) = self.replicas.document(peer) else { return };
        let entries = document.entries.iter();
        let entries =
            entries.filter_map(|(key, entry)| Some((*key, self.permitted(peer, entry).ok()?)));
        document.entries = entries.collect();
        self.learn_interest_again(peer, id, &document);
        if self.remote.document(peer).is_none() {
            // Calls of its earlier life may be looking for another way already. That it is known is said with
            // the change, which is behind them.
            let changes = document.entries.into_iter().map(|(key, entry)| (key, Some(entry)));
            return self.remote.update(peer, id, document.version, changes.collect());
        }
        if self.remote.replace(peer, id, document) {
            self.events.push_back(Event::PeerServices { peer: id });
        }
    }

    /// Queues for the control lane of the link that the peer is sent on. If there is none it is dropped: with
    /// the next one everything is told anew.
    pub(super) fn send_on_control(&mut self, peer: PeerKey, item: OutItem) {
        let link = self.peers.get(peer).and_then(|entry| entry.machine.sending_link());
        if let Some(link) = link {
            self.send_control(link, item);
        }
    }

    /// Nothing that the peer offers counts any more.
    pub(super) fn forget_documents(&mut self, peer: PeerKey) {
        self.feed_replicas(ReplicaInput::Gone(peer));
        if !is_planted(7) {
            self.remote.forget(peer);
        }
        self.feed_publisher(PublisherInput::Gone(peer));
        self.forget_events(peer);
    }

    // Questions.

    /// Which way a call goes: local first, unless it goes by key.
    pub(super) fn route(
        &mut self,
        path: &TopicPath,
        target: Target,
        wish: &Wish,
    ) -> (Result<Route, CallError>, Option<Seat>) {
        if let Err(denied) = self.access.may_we(self.now, Permission::Call, path) {
            return (Err(denied.into()), None);
        }
        match target {
            Target::Peer(id) if id != self.local.id => {
                let key = self.by_id.get(&id).copied();
                let usable = |key: &PeerKey| {
                    let machine = &self.peers.get(*key).expect("found by id").machine;
                    machine.is_kept() || machine.is_up()
                };
                let route = key.filter(usable).map(Route::Peer);
                let error = || CallError::unrun(Failure::Unreachable, format!("peer {id}"));
                (route.ok_or_else(error), None)
            }
            Target::Peer(_) => {
                let route = match self.services.route(path) {
                    Some((route, state)) if self.serves(route.service, state) => {
                        Ok(Route::Local(route))
                    }
                    Some((route, _)) if self.is_single_active(route.service) => {
                        Err(CallError::unrun(Failure::NotActive, quoted(path)))
                    }
                    Some(_) => Err(CallError::unrun(Failure::Unavailable, quoted(path))),
                    None => Err(CallError::unrun(Failure::NoSuchAction, quoted(path))),
                };
                (route, None)
            }
            Target::Any => self.route_to_any(path, wish, Tried::Nobody),
        }
    }

    /// Who serves a path now: this node, if it does, and peers that are connected, in the order of their ids. Nobody if
    /// this node may not call it.
    pub fn instances(&self, path: &TopicPath) -> Vec<PeerId> {
        let Ok(path) = self.access.normalise(path.clone()) else { return Vec::new() };
        if self.access.may_we(self.now, Permission::Call, &path).is_err() {
            return Vec::new();
        }
        let mut found = self.remote.instances(&path, |key| {
            self.peers.get(key).is_some_and(|peer| peer.machine.is_up())
                && self.access.may(self.now, key, Permission::Serve, &path).is_ok()
        });
        if let Some((route, state)) = self.services.route(&path)
            && self.serves(route.service, state)
            && let Err(place) = found.binary_search(&self.local.id)
        {
            found.insert(place, self.local.id);
        }
        found
    }

    /// The way to whoever serves the path, but for who was tried.
    pub(super) fn route_to_any(
        &mut self,
        path: &TopicPath,
        wish: &Wish,
        tried: Tried,
    ) -> (Result<Route, CallError>, Option<Seat>) {
        let here = self.services.route(path);
        let version_will_do = |service| {
            let info = self.services.info(service);
            let wanted = wish.version.as_ref();
            wanted.is_none_or(|wanted| info.is_some_and(|info| wanted.matches(&info.version)))
        };
        let local = match here {
            Some((route, state))
                if tried != Tried::Here
                    && self.serves(route.service, state)
                    && version_will_do(route.service) =>
            {
                Some(route)
            }
            _ => None,
        };
        let by_key = matches!(wish.selection, crate::directory::Selection::ByKey(_));
        if let Some(route) = local
            && !by_key
        {
            return (Ok(Route::Local(route)), None);
        }
        let (peers, access, now) = (&self.peers, &self.access, self.now);
        let usable = |key| {
            tried != Tried::Peer(key)
                && peers.get(key).is_some_and(|p| p.machine.is_up())
                && access.may(now, key, Permission::Serve, path).is_ok()
        };
        let candidate = local.map(|_| self.local.id);
        let chosen = match is_planted(67) {
            true => Err(Nobody::Offers),
            false => {
                let draws = &mut self.draws;
                self.remote.choose(now.mono, draws, path, (wish, Purpose::Call), candidate, usable)
            }
        };
        match (chosen, local) {
            (Ok(Chosen::Peer(peer, seat)), _) => (Ok(Route::Peer(peer)), Some(seat)),
            (_, Some(route)) => (Ok(Route::Local(route)), None),
            (chosen, None) => {
                let stands_by = here.is_some_and(|(route, _)| self.is_single_active(route.service));
                let failure = match chosen {
                    _ if stands_by || self.remote.has_standby(path, usable) => Failure::NotActive,
                    _ if here.is_some() => Failure::Unavailable,
                    _ => Failure::NoResponders,
                };
                let what = match &wish.version {
                    Some(version) => format!("'{path}' in a version {version}"),
                    None => quoted(path),
                };
                (Err(CallError::unrun(failure, what)), None)
            }
        }
    }

    pub(super) fn feed_publisher(&mut self, input: PublisherInput) {
        let (access, now) = (&self.access, self.now);
        let shown = |peer: PeerKey, path: &TopicPath| access.shares(now, peer, path);
        feed!(self, self.publisher, &shown, input, NodeTimer::Publisher, Work::Publisher);
    }

    pub(super) fn feed_replicas(&mut self, input: ReplicaInput) {
        let never = |()| unreachable!("replicas arm no timers");
        feed!(self, self.replicas, (), input, never, Work::Replica);
    }
}
