//! Questions to [`Access`]: who may do what, and how paths name networks.
//!
//! A path belongs to the network that it names in front, or else to the default network of whoever wrote
//! it: the first of its networks. Here, a path of our own default network is always written without it.

use std::sync::Arc;

use crate::auth::access::{Access, Admitted};
use crate::auth::cache::Known;
use crate::auth::membership::{DEVELOPMENT_NAME, OwnNetwork};
use crate::auth::network_id::NetworkId;
use crate::auth::permission::Permission;
use crate::base::{Now, PeerKey};
use crate::topic::{Pattern, TopicPath};

/// Why something is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The path names a network that this node is not in.
    #[error("this node is in no network '{0}'")]
    NoSuchNetwork(String),
    /// The peer is not in the path's network, or not any more.
    #[error("the peer is not in the network '{0}'")]
    NotShared(String),
    /// The permission is missing, or has ended.
    #[error("the permission '{permission}' is missing for '{topic}' in the network '{network}'")]
    Missing {
        /// Which.
        permission: Permission,
        /// For what.
        topic: String,
        /// Where.
        network: String,
    },
}

/// A right that a peer was found to have: whether it still has it is quickly seen.
#[derive(Clone, Debug)]
pub struct Permit {
    /// The network, and what the peer has in it; none where no network has tokens.
    of: Option<(usize, Arc<Known>)>,
}

/// None of these allocates unless the answer is no, or a path must be written anew.
impl Access {
    /// The place of the network that a path of ours belongs to.
    fn network_of(&self, own: &[OwnNetwork], named: Option<&str>) -> Result<usize, Denied> {
        let Some(name) = named else { return Ok(0) };
        let found = own.iter().position(|network| network.name() == name);
        found.ok_or_else(|| Denied::NoSuchNetwork(name.to_string()))
    }

    /// The same path as it is written here: without a network if that is our default one.
    ///
    /// # Errors
    ///
    /// When it names a network that we are not in.
    pub fn normalise(&self, mut path: TopicPath) -> Result<TopicPath, Denied> {
        self.normalise_in_place(&mut path).map(|()| path)
    }

    /// As [`Access::normalise`], for who wants the path back in any case.
    ///
    /// # Errors
    ///
    /// When it names a network that we are not in. It is as it was then.
    pub fn normalise_in_place(&self, path: &mut TopicPath) -> Result<(), Denied> {
        let Some(name) = path.network() else { return Ok(()) };
        let is_default = match &self.own {
            None if name == DEVELOPMENT_NAME => true,
            None => return Err(Denied::NoSuchNetwork(name.to_string())),
            Some(own) => self.network_of(own, Some(name))? == 0,
        };
        if is_default {
            *path = path.without_network();
        }
        Ok(())
    }

    /// A path that this peer wrote, as it is written here: what names no network is in the peer's
    /// default one. None if it is in no network that we share.
    pub fn localise(&self, peer: PeerKey, mut path: TopicPath) -> Option<TopicPath> {
        self.localise_in_place(peer, &mut path).then_some(path)
    }

    /// As [`Access::localise`], for who wants the path back in any case. Says whether it is in a network that
    /// we share; it is as it was if not.
    pub fn localise_in_place(&self, peer: PeerKey, path: &mut TopicPath) -> bool {
        let Some(own) = &self.own else { return self.normalise_in_place(path).is_ok() };
        let Some(session) = self.sessions.get(peer) else { return false };
        if path.network().is_some() {
            return self.normalise_in_place(path).is_ok();
        }
        match session.default {
            None => false,
            Some(0) => true,
            Some(place) => match TopicPath::parse(&format!("{}:{path}", own[place].name())) {
                Ok(named) => {
                    *path = named;
                    true
                }
                Err(_) => false,
            },
        }
    }

    /// A pattern that this peer wrote, likewise.
    pub fn localise_pattern(&self, peer: PeerKey, pattern: &Pattern) -> Option<Pattern> {
        let Some(own) = &self.own else {
            return match pattern.network() {
                None => Some(pattern.clone()),
                Some(DEVELOPMENT_NAME) => Some(pattern.without_network()),
                Some(_) => None,
            };
        };
        let place = match pattern.network() {
            Some(name) => self.network_of(own, Some(name)).ok()?,
            None => self.sessions.get(peer)?.default?,
        };
        match place {
            0 => Some(pattern.without_network()),
            place => {
                let bare = pattern.without_network();
                Pattern::parse(&format!("{}:{bare}", own[place].name())).ok()
            }
        }
    }

    /// Whether our own token allows us this.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn may_we(&self, now: Now, permission: Permission, path: &TopicPath) -> Result<(), Denied> {
        let Some(own) = &self.own else { return Ok(()) };
        let network = &own[self.network_of(own, path.network())?];
        if network.is_usable(now) && network.verified.grants.allow(permission, path) {
            return Ok(());
        }
        Err(missing(network, permission, path.path()))
    }

    /// Whether our own token allows us this for all that the pattern matches. `path` names the network.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn may_we_all(
        &self,
        now: Now,
        permission: Permission,
        path: &TopicPath,
        pattern: &Pattern,
    ) -> Result<(), Denied> {
        let Some(own) = &self.own else { return Ok(()) };
        let network = &own[self.network_of(own, path.network())?];
        let bare = pattern.without_network();
        if network.is_usable(now) && network.verified.grants.allow_all_of(permission, &bare) {
            return Ok(());
        }
        Err(missing(network, permission, bare.as_str()))
    }

    /// Whether a peer may do this now.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn may(
        &self,
        now: Now,
        peer: PeerKey,
        permission: Permission,
        path: &TopicPath,
    ) -> Result<(), Denied> {
        let Some(own) = &self.own else { return Ok(()) };
        let place = self.network_of(own, path.network())?;
        let admitted = self.admitted(now, own, peer, place)?;
        if admitted.known.verified.grants.allow(permission, path) {
            return Ok(());
        }
        Err(missing(&own[place], permission, path.path()))
    }

    /// As [`Access::may`], remembered.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn permit(
        &self,
        now: Now,
        peer: PeerKey,
        permission: Permission,
        path: &TopicPath,
    ) -> Result<Permit, Denied> {
        self.may(now, peer, permission, path)?;
        let Some(own) = &self.own else { return Ok(Permit { of: None }) };
        let place = self.network_of(own, path.network())?;
        let known = Arc::clone(&self.admitted(now, own, peer, place)?.known);
        Ok(Permit { of: Some((place, known)) })
    }

    /// Whether a peer still has a right that it was found to have.
    pub fn stands(&self, now: Now, peer: PeerKey, permit: &Permit) -> bool {
        match (&self.own, &permit.of) {
            (None, None) => true,
            (Some(own), Some((place, known))) => self
                .admitted(now, own, peer, *place)
                .is_ok_and(|admitted| Arc::ptr_eq(&admitted.known, known)),
            _ => false,
        }
    }

    /// Whether a peer may do this now for all that the pattern matches. `path` names the network.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn may_all(
        &self,
        now: Now,
        peer: PeerKey,
        permission: Permission,
        path: &TopicPath,
        pattern: &Pattern,
    ) -> Result<(), Denied> {
        let Some(own) = &self.own else { return Ok(()) };
        let place = self.network_of(own, path.network())?;
        let admitted = self.admitted(now, own, peer, place)?;
        let bare = pattern.without_network();
        if admitted.known.verified.grants.allow_all_of(permission, &bare) {
            return Ok(());
        }
        Err(missing(&own[place], permission, bare.as_str()))
    }

    /// Whether a peer may see what belongs to this path's network.
    pub fn shares(&self, now: Now, peer: PeerKey, path: &TopicPath) -> bool {
        let Some(own) = &self.own else { return true };
        self.network_of(own, path.network())
            .and_then(|place| self.admitted(now, own, peer, place))
            .is_ok()
    }

    /// The network that a path of ours belongs to.
    ///
    /// # Errors
    ///
    /// When it names a network that we are not in.
    pub fn network_id_of(&self, path: &TopicPath) -> Result<NetworkId, Denied> {
        match &self.own {
            None => Ok(NetworkId::DEVELOPMENT),
            Some(own) => Ok(own[self.network_of(own, path.network())?].id()),
        }
    }

    /// A path without a network, as it is written here if it is in this one of our networks; none if we are not
    /// in it, or it is not a path.
    pub fn path_in(&self, network: NetworkId, bare: &str) -> Option<TopicPath> {
        let path = TopicPath::parse(bare).ok().filter(|path| path.network().is_none())?;
        let Some(own) = &self.own else {
            return (network == NetworkId::DEVELOPMENT).then_some(path);
        };
        match own.iter().position(|own| own.id() == network)? {
            0 => Some(path),
            place => TopicPath::parse(&format!("{}:{path}", own[place].name())).ok(),
        }
    }

    /// Whether a peer, or we if it is none, may lead the service at this path now: it may serve all of its actions. The
    /// right to serve one of them would let it take the service away from those who serve the others.
    pub fn may_lead(&self, now: Now, peer: Option<PeerKey>, path: &TopicPath) -> bool {
        let Some(own) = &self.own else { return true };
        let Ok(place) = self.network_of(own, path.network()) else { return false };
        let grants = match peer {
            None if own[place].is_usable(now) => &own[place].verified.grants,
            None => return false,
            Some(peer) => match self.admitted(now, own, peer, place) {
                Ok(admitted) => &admitted.known.verified.grants,
                Err(_) => return false,
            },
        };
        grants.allow_all_below(Permission::Serve, path)
    }

    fn admitted(
        &self,
        now: Now,
        own: &[OwnNetwork],
        peer: PeerKey,
        place: usize,
    ) -> Result<&Admitted, Denied> {
        let session = self.sessions.get(peer);
        let admitted = session.and_then(|s| s.networks.iter().find(|n| n.network == place));
        let valid = |admitted: &&Admitted| admitted.known.counts(now) && own[place].is_current(now);
        admitted.filter(valid).ok_or_else(|| Denied::NotShared(own[place].name().to_string()))
    }
}

fn missing(network: &OwnNetwork, permission: Permission, topic: &str) -> Denied {
    let (topic, network) = (topic.to_string(), network.name().to_string());
    Denied::Missing { permission, topic, network }
}
