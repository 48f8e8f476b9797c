//! Why a token does not count: the whole truth for the local log, and a code for the peer.

use crate::auth::network_id::NetworkId;
use crate::auth::permission::Permission;
use crate::auth::token::TokenId;
use crate::base::{PeerId, WallTime};
use crate::topic::Pattern;

/// The first rule that a token breaks, in the order in which the rules are looked at. For the local log:
/// it says what a forger would like to know. Links are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// It is too large.
    #[error("it has {bytes} bytes; at most {max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// It has no link or too many.
    #[error("it has {links} links; from 1 to {max} are allowed")]
    Links {
        /// How many.
        links: usize,
        /// The bound.
        max: usize,
    },
    /// It is not what a token looks like.
    #[error("it is malformed: {0}")]
    Malformed(String),
    /// It is for another network.
    #[error("link {link} is for the network {network}")]
    OtherNetwork {
        /// Which link.
        link: usize,
        /// The network that it is for.
        network: NetworkId,
    },
    /// Its holder is somebody else.
    #[error("it belongs to {subject}, not to {peer}")]
    OtherSubject {
        /// Whose it is.
        subject: PeerId,
        /// Who presented it.
        peer: PeerId,
    },
    /// It is not valid yet.
    #[error("link {link} is valid from {not_before} on; here it is {now}")]
    NotYetValid {
        /// Which link.
        link: usize,
        /// From when on.
        not_before: WallTime,
        /// Our wall clock.
        now: WallTime,
    },
    /// It is not valid any more.
    #[error("link {link} expired at {expires}; here it is {now}")]
    Expired {
        /// Which link.
        link: usize,
        /// When.
        expires: WallTime,
        /// Our wall clock.
        now: WallTime,
    },
    /// It says that it was issued in the future.
    #[error("link {link} is dated {issued_at}; here it is {now}")]
    PostDated {
        /// Which link.
        link: usize,
        /// The date.
        issued_at: WallTime,
        /// Our wall clock.
        now: WallTime,
    },
    /// Its first issuer is not one that the network trusts.
    #[error("its issuer {issuer} is not trusted by the network's descriptor")]
    UntrustedIssuer {
        /// Who issued it.
        issuer: PeerId,
    },
    /// Its first issuer is trusted for another epoch.
    #[error("it was issued in epoch {epoch} of {issuer}; the network's descriptor has {trusted}")]
    OtherEpoch {
        /// Who issued it.
        issuer: PeerId,
        /// In which epoch.
        epoch: u64,
        /// The epoch that is trusted.
        trusted: u64,
    },
    /// A link is not by the subject of the one before.
    #[error("link {link} is by {issuer}, but the link before belongs to {holder}")]
    BrokenChain {
        /// Which link.
        link: usize,
        /// Who issued it.
        issuer: PeerId,
        /// Who should have.
        holder: PeerId,
    },
    /// A link permits what its parent does not, or may not give on.
    #[error(
        "link {link} widens its parent: {permission}:{pattern} needs {missing}:{pattern} there, which it does not have"
    )]
    WidenedPermission {
        /// Which link.
        link: usize,
        /// What.
        permission: Permission,
        /// For which topics.
        pattern: Pattern,
        /// What the parent lacks: this kind, or `delegate`.
        missing: Permission,
    },
    /// A link is valid when its parent is not.
    #[error("link {link} widens its parent: it is valid when the parent is not")]
    WidenedValidity {
        /// Which link.
        link: usize,
    },
    /// A link does not shorten what is left of the depth.
    #[error("link {link} widens its parent: its depth does not decrease")]
    WidenedDepth {
        /// Which link.
        link: usize,
    },
    /// It is on the list of those revoked.
    #[error("link {link}, token id {id}, is revoked")]
    Revoked {
        /// Which link.
        link: usize,
        /// Its id.
        id: TokenId,
    },
    /// It was issued before the epoch of revocation.
    #[error("link {link} of {issued_at} is revoked: only what was issued from {epoch} on counts")]
    RevokedByEpoch {
        /// Which link.
        link: usize,
        /// When it was issued.
        issued_at: WallTime,
        /// From when on links count.
        epoch: WallTime,
    },
    /// A signature does not fit.
    #[error("the signature of link {link} is wrong")]
    BadSignature {
        /// Which link.
        link: usize,
    },
}

/// What a peer may know about its refusal. Whoever holds a token can see for itself that it has expired;
/// all else would help to forge one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessCode {
    /// We are in none of its networks.
    NoCommonNetwork,
    /// Its token has expired, or is not valid yet.
    TokenExpired,
    /// Its token does not count here.
    TokenRefused,
    /// The descriptor that we have of the network has expired.
    NetworkExpired,
}

impl TokenRefusal {
    /// What the peer may know.
    pub fn code(&self) -> AccessCode {
        match self {
            TokenRefusal::NotYetValid { .. } | TokenRefusal::Expired { .. } => {
                AccessCode::TokenExpired
            }
            _ => AccessCode::TokenRefused,
        }
    }
}
