//! Who may talk to whom: the rights of sessions, wired to peers, calls and directories.

use std::sync::Arc;

use crate::auth::{
    AccessCode, AccessEffect, AccessInput, Denied, DescriptorChain, MembershipError, NetworkClaim,
    Permission, Token,
};
use crate::base::{Bound, Effects, Now, PeerId, PeerKey};
use crate::directory::local::{LocalRoute, NewService};
use crate::directory::{Entry, ServiceOffer, SubscriptionOffer};
use crate::link::{End, LinkHandle};
use crate::machine::{Context, Machine};
use crate::mesh::event::Event;
use crate::mesh::wiring::Work;
use crate::mesh::{Mesh, NodeTimer, Own, feed};
use crate::peer::{PeerInput, RefuseCode};
use crate::planted::is_planted;
use crate::rpc::{CallError, Failure, Status};
use crate::topic::TopicPath;
use crate::wire::{CallMessage, Hello};

impl From<AccessCode> for RefuseCode {
    fn from(code: AccessCode) -> RefuseCode {
        match code {
            AccessCode::NoCommonNetwork => RefuseCode::NoCommonNetwork,
            AccessCode::TokenExpired => RefuseCode::TokenExpired,
            AccessCode::TokenRefused => RefuseCode::TokenRefused,
            AccessCode::NetworkExpired => RefuseCode::NetworkExpired,
        }
    }
}

impl From<Denied> for CallError {
    fn from(denied: Denied) -> CallError {
        CallError::unrun(Failure::PermissionDenied, denied.to_string())
    }
}

impl Mesh {
    /// Takes a newer descriptor of a network that this node is in. Sessions that it gives no right to go
    /// on end at once, and other acceptors of leases take over from those before them.
    ///
    /// # Errors
    ///
    /// When it is of no network of this node, is not newer, contradicts the roots that are known, or has
    /// expired.
    pub fn take_descriptor(
        &mut self,
        now: Now,
        chain: DescriptorChain,
    ) -> Result<(), MembershipError> {
        self.tick(now);
        self.access.check_descriptor(self.now, &chain)?;
        let network = chain.id();
        self.feed_access(AccessInput::Descriptor(Box::new(chain)));
        self.acceptors_named(network);
        self.run();
        Ok(())
    }

    /// Takes a new token of this node's own. Peers see it when they are greeted the next time. A node in several
    /// networks greets them at once: a session that goes on in another network would not end with the old token.
    ///
    /// # Errors
    ///
    /// When it is for no network of this node, or does not count now.
    pub fn take_token(&mut self, now: Now, token: Token) -> Result<(), MembershipError> {
        self.tick(now);
        let network = self.access.check_own_token(self.now, &token)?;
        self.feed_access(AccessInput::OwnToken { network, token: Box::new(token) });
        self.run();
        Ok(())
    }

    /// Whether a peer may do something at a path now, as this node writes the path. The end of a right is said a
    /// moment after it counts.
    pub fn permits(&self, peer: PeerId, permission: Permission, path: &TopicPath) -> bool {
        let key = self.by_id.get(&peer);
        key.is_some_and(|key| self.access.may(self.now, *key, permission, path).is_ok())
    }

    /// A path as this node writes it: without a network if that is its default one.
    ///
    /// # Errors
    ///
    /// When it names a network that this node is not in.
    pub fn normalise(&self, path: TopicPath) -> Result<TopicPath, Denied> {
        self.access.normalise(path)
    }

    pub(super) fn normalise_service(&self, service: NewService) -> Result<NewService, Denied> {
        let path = self.access.normalise(service.path.clone())?;
        let mut actions = service.actions.clone();
        if path.network().is_none() {
            actions = actions.iter().map(|action| action.without_network()).collect();
        }
        Ok(NewService { path, actions, ..service })
    }

    /// Whether a Hello shows a network of this node. If not, the peer is turned away.
    pub(super) fn meets(&mut self, peer: PeerKey, link: LinkHandle, hello: &Hello) -> bool {
        let Some(id) = self.id_of(peer) else { return false };
        // That it dialled is checked with the name of the link.
        let has_dialled = hello.link.dialler == End::There;
        let networks = hello.networks.clone();
        self.feed_access(AccessInput::Hello { peer, id, link, has_dialled, networks });
        self.access.is_met(link)
    }

    /// Whether what a peer claims lets it in. If not, the peer is turned away.
    pub(super) fn lets_in(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        claims: Vec<NetworkClaim>,
    ) -> bool {
        let Some(id) = self.id_of(peer) else { return false };
        self.feed_access(AccessInput::Claims { id, link, claims });
        self.access.is_let_in(link)
    }

    /// Whether there is room for one more peer whose rights the same key has handed on. If not, it is turned away.
    pub(super) fn has_room_for_delegated(&mut self, peer: PeerKey, link: LinkHandle) -> bool {
        let Some(entry) = self.peers.get(peer) else { return false };
        let known = entry.delegator.as_deref().copied();
        let delegator = self.access.delegators(link).next();
        if delegator == known {
            return true;
        }
        let count = delegator.map_or(0, |d| self.delegated.get(&d).copied().unwrap_or(0));
        if count >= self.limits.peers_per_issuer_max {
            // Some of them may have gone.
            self.sweep();
        }
        let count = delegator.map_or(0, |d| self.delegated.get(&d).copied().unwrap_or(0));
        if count >= self.limits.peers_per_issuer_max {
            self.refusals.count(Bound::PeersPerIssuer);
            self.turn_away(link, Bound::PeersPerIssuer);
            return false;
        }
        self.count_delegated(known, delegator);
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.delegator = delegator.map(Box::new);
        }
        true
    }

    /// A peer is counted under another key, or under none.
    pub(super) fn count_delegated(&mut self, before: Option<PeerId>, now: Option<PeerId>) {
        if let Some(before) = before
            && let Some(count) = self.delegated.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.delegated.remove(&before);
            }
        }
        if let Some(now) = now {
            *self.delegated.entry(now).or_default() += 1;
        }
    }

    /// A peer's call with its path as it is written here, and who handles it, or why nobody does.
    pub(super) fn route_of_peer(
        &self,
        peer: PeerKey,
        mut call: CallMessage,
    ) -> (CallMessage, Result<LocalRoute, Status>) {
        if !self.access.localise_in_place(peer, &mut call.path) {
            return (call, Err(Status::PermissionDenied));
        }
        // First of all: whoever may not call need not learn what there is.
        let route = match self.access.may(self.now, peer, Permission::Call, &call.path) {
            Err(_) if !is_planted(44) => Err(Status::PermissionDenied),
            _ => match self.services.route(&call.path) {
                Some((route, state)) if self.serves(route.service, state) => Ok(route),
                Some((route, _)) if self.is_single_active(route.service) => Err(Status::NotActive),
                Some(_) => Err(Status::Unavailable),
                None => Err(Status::NoSuchAction),
            },
        };
        (call, route)
    }

    /// Whether a peer that was allowed to call this is so now.
    pub(super) fn may_call_still(&self, peer: PeerKey, path: &TopicPath) -> bool {
        self.access.may(self.now, peer, Permission::Call, path).is_ok()
    }

    /// An entry of a peer's document with its paths as they are written here, or why it does not count.
    pub(super) fn permitted(&self, peer: PeerKey, entry: &Entry) -> Result<Entry, String> {
        let service = match entry {
            Entry::Service(service) => service,
            Entry::Subscription(offer) => return self.permitted_subscription(peer, offer),
        };
        let no_network = || {
            format!(
                "it offers '{}', which is ignored: it is in no network that we share",
                service.path
            )
        };
        let path = self.access.localise(peer, service.path.clone()).ok_or_else(no_network)?;
        let mut actions = Vec::with_capacity(service.actions.len());
        for action in &service.actions {
            let action = self.access.localise_pattern(peer, action).ok_or_else(no_network)?;
            self.access.may_all(self.now, peer, Permission::Serve, &path, &action).map_err(
                |denied| format!("it offers '{}', which is ignored: {denied}", service.path),
            )?;
            actions.push(action);
        }
        if path == service.path && actions == service.actions {
            // Mostly it is written alike here, and is large: what came is shared.
            return Ok(Entry::Service(Arc::clone(service)));
        }
        let (state, info) = (service.state, service.info.clone());
        Ok(Entry::Service(Arc::new(ServiceOffer { path, state, actions, info })))
    }

    fn permitted_subscription(
        &self,
        peer: PeerKey,
        offer: &SubscriptionOffer,
    ) -> Result<Entry, String> {
        let ignored = |why: String| format!("it subscribes to '{}', {why}", offer.pattern);
        let no_network =
            || ignored("which is ignored: it is in no network that we share".to_string());
        let pattern = self.access.localise_pattern(peer, &offer.pattern).ok_or_else(no_network)?;
        let mut local = SubscriptionOffer::new(pattern);
        let may = self.access.may_all(
            self.now,
            peer,
            Permission::Subscribe,
            local.place(),
            &local.pattern,
        );
        may.map_err(|denied| ignored(format!("which is ignored: {denied}")))?;
        local.service = match &offer.service {
            None => None,
            Some(service) => {
                Some(self.access.localise(peer, service.clone()).ok_or_else(no_network)?)
            }
        };
        local.group = offer.group.clone();
        (local.members, local.at_least_one) = (offer.members, offer.at_least_one);
        Ok(Entry::Subscription(Arc::new(local)))
    }

    pub(super) fn access_effect(&mut self, effect: AccessEffect) {
        match effect {
            AccessEffect::Refused { peer, link, code, why } => {
                let code = code.into();
                self.feed_peer(peer, PeerInput::TurnAway { link, code, why });
            }
            AccessEffect::NetworksChanged { peer } => self.rights_changed(peer),
            AccessEffect::GreetAnew => {
                let peers: Vec<PeerKey> = self.peers.iter().map(|(key, _)| key).collect();
                for peer in peers {
                    self.feed_peer(peer, PeerInput::GreetAnew);
                }
            }
            AccessEffect::SessionLost { peer, code } => {
                self.feed_peer(peer, PeerInput::Expel { code: code.into() });
            }
            AccessEffect::ClaimRefused { peer, why } => {
                let Some(peer) = self.id_of(peer) else { return };
                self.events.push_back(Event::ClaimIgnored { peer, what: why });
            }
            AccessEffect::NetworkLeft { peer, network, why } => {
                self.rights_changed(peer);
                let Some(peer) = self.id_of(peer) else { return };
                self.events.push_back(Event::NetworkLeft { peer, network, why });
            }
            AccessEffect::Outdated { peer, network, sequence } => {
                let Some(peer) = self.id_of(peer) else { return };
                self.events.push_back(Event::NetworkOutdated { peer, network, sequence });
            }
            AccessEffect::OwnEnded { network, why } => {
                self.events.push_back(Event::NetworkEnded { network, why });
            }
        }
    }

    fn id_of(&self, peer: PeerKey) -> Option<PeerId> {
        self.peers.get(peer).map(|entry| entry.id)
    }

    pub(super) fn feed_access(&mut self, input: AccessInput) {
        feed!(self, self.access, (), input, NodeTimer::Access, Work::Access);
    }
}
