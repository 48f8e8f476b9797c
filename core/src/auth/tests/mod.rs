//! Tokens, descriptors and rights, as whoever attacks them would use them.

mod access;
mod attacks;
mod codecs;
mod succession;

use std::time::Duration;

use crate::auth::descriptor::{DescriptorClaims, Dissemination};
use crate::auth::*;
use crate::base::{Identity, PeerId, WallTime};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Noon of some day.
pub(crate) const NOON: WallTime = WallTime::from_unix_nanos(1_795_262_400 * 1_000_000_000);

pub(crate) fn identity(name: u8) -> Identity {
    Identity::from_secret([name; 32])
}

pub(crate) fn root() -> Identity {
    identity(1)
}

pub(crate) fn next_root() -> Identity {
    identity(2)
}

pub(crate) fn issuer() -> Identity {
    identity(3)
}

/// What a network says that trusts [`issuer`] in epoch 7, until a year from noon.
pub(crate) fn claims() -> DescriptorClaims {
    DescriptorClaims {
        name: "shop".into(),
        sequence: 0,
        root: root().id(),
        next_root: next_root().id(),
        expires: NOON + 365 * 24 * HOUR,
        issuers: vec![(issuer().id(), 7)],
        registry_members: Vec::new(),
        registry_epoch: 0,
        former_registries: Vec::new(),
        revoked_before: WallTime::default(),
        revoked_tokens: Vec::new(),
        revoked_issuers: Vec::new(),
        dissemination: Dissemination::Mesh,
        message_bytes_max: None,
    }
}

pub(crate) fn network() -> DescriptorChain {
    DescriptorChain::found(&root(), [9; 16], claims()).unwrap()
}

/// The network after its root changed something.
pub(crate) fn changed(change: impl FnOnce(&mut DescriptorClaims)) -> DescriptorChain {
    let mut claims = claims();
    change(&mut claims);
    network().succeed(&root(), claims).unwrap()
}

/// Everything that `permissions` says, for an hour from noon, with two more links to follow.
pub(crate) fn grant(subject: PeerId, permissions: &str) -> Grant {
    Grant {
        subject,
        permissions: permissions.parse().unwrap(),
        not_before: NOON,
        expires: NOON + HOUR,
        issued_at: NOON,
        depth_left: 2,
        id: TokenId([4; 16]),
    }
}

pub(crate) fn issue(grant: Grant) -> Token {
    Token::issue(&issuer(), 7, network().id(), grant).unwrap()
}

/// As a node of [`network`] sees it at that time.
pub(crate) fn judge(
    token: &Token,
    peer: &Identity,
    now: WallTime,
) -> Result<Verified, TokenRefusal> {
    validate(token, network().current(), &peer.id(), now)
}
