//! The networks that this node is in: their descriptors and its own tokens.

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::network_id::NetworkId;
use crate::auth::permission::{Grants, Permissions};
use crate::auth::refusal::TokenRefusal;
use crate::auth::succession::{DescriptorChain, DescriptorRefusal};
use crate::auth::token::Token;
use crate::auth::validate::{Verified, Window, validate};
use crate::base::{MonoTime, Now, PeerId, WallTime};

/// The most networks of one node, and so the marks in a Hello and the most claims of one peer. A guess.
pub const NETWORKS_MAX: usize = 8;

/// What the development network is called in front of a topic path.
pub const DEVELOPMENT_NAME: &str = "development";

/// Which networks a node is in. Either those, or the development network: never both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// No tokens and no permissions: whoever reaches the node may do everything. For development alone;
    /// programs that offer it say so where their users see it.
    Development,
    /// These networks. The first is the default: paths that name none belong to it.
    Networks(Vec<NetworkMembership>),
}

/// One network that a node is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkMembership {
    /// The network's descriptors.
    pub descriptors: DescriptorChain,
    /// The node's own token.
    pub token: Token,
}

/// Why a node cannot be in the networks that it was told to be in, or cannot take what it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// There is no network, or there are too many.
    #[error("{0} networks are given; from 1 to {NETWORKS_MAX} are allowed")]
    Networks(usize),
    /// Two networks have one name, and paths could not tell them apart.
    #[error("two networks are called '{0}'")]
    SameName(String),
    /// The name of the development network is taken.
    #[error("a network cannot be called '{DEVELOPMENT_NAME}': that is the one without tokens")]
    DevelopmentName,
    /// A network's descriptor does not count.
    #[error("the descriptor of the network '{network}' does not count: {why}")]
    Descriptor {
        /// The network's name.
        network: String,
        /// Why.
        why: DescriptorRefusal,
    },
    /// The node's own token does not count.
    #[error("the token of this node for the network '{network}' does not count: {why}")]
    Token {
        /// The network's name.
        network: String,
        /// Which rule it breaks.
        why: TokenRefusal,
    },
    /// The node is not in this network.
    #[error("this node is not in the network {0}")]
    NotAMember(NetworkId),
}

/// One network that we are in, with what follows from it.
#[derive(Clone, Debug)]
pub(super) struct OwnNetwork {
    pub(super) descriptors: Arc<DescriptorChain>,
    pub(super) token: Token,
    pub(super) verified: Verified,
    /// When the descriptor, and our own token, end by the monotonic clock: a wall clock that goes back
    /// must not give them more time.
    pub(super) descriptor_ends: MonoTime,
    pub(super) token_ends: MonoTime,
}

impl OwnNetwork {
    pub(super) fn new(
        id: &PeerId,
        now: Now,
        membership: NetworkMembership,
    ) -> Result<Self, MembershipError> {
        let NetworkMembership { descriptors, token } = membership;
        let network = descriptors.current().claims().name.clone();
        if network == DEVELOPMENT_NAME {
            return Err(MembershipError::DevelopmentName);
        }
        if let Err(why) = descriptors.check_time(now.wall) {
            return Err(MembershipError::Descriptor { network, why });
        }
        let verified = validate(&token, descriptors.current(), id, now.wall)
            .map_err(|why| MembershipError::Token { network, why })?;
        Ok(OwnNetwork {
            descriptor_ends: ends(now, descriptors.window().until),
            token_ends: ends(now, verified.window.until),
            descriptors: Arc::new(descriptors),
            token,
            verified,
        })
    }

    /// As if everything were in order and allowed, for ever.
    pub(super) fn unverified(id: &PeerId, membership: NetworkMembership) -> Self {
        let NetworkMembership { descriptors, token } = membership;
        let until = WallTime::from_unix_nanos(u64::MAX);
        OwnNetwork {
            descriptor_ends: MonoTime::MAX,
            token_ends: MonoTime::MAX,
            descriptors: Arc::new(descriptors),
            token,
            verified: Verified {
                subject: *id,
                grants: Arc::new(Grants::new(Permissions::all())),
                window: Window { from: WallTime::default(), until },
            },
        }
    }

    pub(super) fn id(&self) -> NetworkId {
        self.descriptors.id()
    }

    pub(super) fn name(&self) -> &str {
        &self.descriptors.current().claims().name
    }

    /// Whether our descriptor counts now.
    pub(super) fn is_current(&self, now: Now) -> bool {
        now.mono < self.descriptor_ends && self.descriptors.window().contains(now.wall)
    }

    /// Whether our own token counts now, too.
    pub(super) fn is_usable(&self, now: Now) -> bool {
        self.is_current(now)
            && now.mono < self.token_ends
            && self.verified.window.contains(now.wall)
    }
}

/// When something that ends at `until` by the wall clock ends by the monotonic one.
pub(super) fn ends(now: Now, until: WallTime) -> MonoTime {
    let left = until.as_unix_nanos().saturating_sub(now.wall.as_unix_nanos());
    now.mono + std::time::Duration::from_nanos(left)
}

/// What a peer shows of one network that both are in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkClaim {
    /// The network.
    pub network: NetworkId,
    /// The sender's token; empty in the development network. Not looked at yet.
    pub token: Bytes,
    /// The sequence of the descriptor that the sender goes by.
    pub descriptor_sequence: u64,
    /// What the sender writes without a network is in this one.
    pub is_default: bool,
}
