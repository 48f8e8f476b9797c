//! Whether a token counts: the rules, in their order. Source: protocols.md, section 1.
//!
//! Cheap checks come first, and the first rule that is broken is the one that is named:
//!
//! 1. size, links and shape ([`Token::decode`]),
//! 2. the network is ours,
//! 3. the last subject is the peer that the transport has authenticated,
//! 4. every link is valid now, and none is dated in the future, with [`SKEW`] either way,
//! 5. the first issuer is trusted, by its key and its epoch,
//! 6. each link is by the subject before it, and narrows it: permissions, validity, depth,
//! 7. no link is revoked, by its id or by when it was issued,
//! 8. the signatures, each over the hash of the link before.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::descriptor::Descriptor;
use crate::auth::permission::{Grants, NotCovered};
use crate::auth::refusal::TokenRefusal;
use crate::auth::token::{LinkClaims, Token};
use crate::base::{PeerId, WallTime};
use crate::planted::is_planted;

/// How far the wall clocks of two nodes may be apart. Source: protocols.md, section 1.
pub const SKEW: Duration = Duration::from_secs(60);

/// From when and until when something counts here, the skew included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub from: WallTime,
    /// The first moment at which it does not count any more.
    pub until: WallTime,
}

impl Window {
    /// Whether it counts at this time.
    pub fn contains(&self, now: WallTime) -> bool {
        self.from <= now && now < self.until
    }
}

/// A token that counts.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who may use it.
    pub subject: PeerId,
    /// What for.
    pub grants: Arc<Grants>,
    /// When.
    pub window: Window,
}

/// Whether this token, presented by this peer, counts in this network at this time.
///
/// # Errors
///
/// The first rule that it breaks.
pub fn validate(
    token: &Token,
    network: &Descriptor,
    peer: &PeerId,
    now: WallTime,
) -> Result<Verified, TokenRefusal> {
    recheck(token, network, peer, now)?;
    if !is_planted(43) {
        let first = token.claims().next().and_then(|claims| network.issuer_key(&claims.issuer));
        token.verify_signatures(first).map_err(|link| TokenRefusal::BadSignature { link })?;
    }
    let last = token.claims().next_back().expect("tokens have links");
    // A clock that goes back must find each link in order again.
    let from = token.claims().map(|claims| claims.not_before.max(claims.issued_at)).max();
    Ok(Verified {
        subject: last.subject,
        grants: Arc::new(Grants::new(last.permissions.clone())),
        // The validity of the last link is within all others'.
        window: Window {
            from: from.expect("tokens have links") - SKEW,
            until: last.expires + if is_planted(40) { 10 * SKEW } else { SKEW },
        },
    })
}

/// Whether a token that was verified before still counts: all rules but the signatures, which do not
/// change.
pub(super) fn recheck(
    token: &Token,
    network: &Descriptor,
    peer: &PeerId,
    now: WallTime,
) -> Result<(), TokenRefusal> {
    let links = || token.claims().enumerate().map(|(index, claims)| (index + 1, claims));
    let first = token.claims().next().expect("tokens have links");
    let last = token.claims().next_back().expect("tokens have links");

    for (link, claims) in links() {
        if claims.network != network.id() && !is_planted(47) {
            return Err(TokenRefusal::OtherNetwork { link, network: claims.network });
        }
    }
    if last.subject != *peer && !is_planted(42) {
        return Err(TokenRefusal::OtherSubject { subject: last.subject, peer: *peer });
    }
    for (link, claims) in links() {
        check_time(link, claims, now)?;
    }
    let trusted = network.issuer_epoch(&first.issuer);
    let Some(trusted) = trusted.or(is_planted(46).then_some(first.issuer_epoch)) else {
        return Err(TokenRefusal::UntrustedIssuer { issuer: first.issuer });
    };
    if trusted != first.issuer_epoch {
        let (issuer, epoch) = (first.issuer, first.issuer_epoch);
        return Err(TokenRefusal::OtherEpoch { issuer, epoch, trusted });
    }
    for ((_, parent), (link, child)) in links().zip(links().skip(1)) {
        if !is_planted(45) {
            check_step(parent, child, link)?;
        }
    }
    for (link, claims) in links() {
        if network.is_revoked(&claims.id) && !is_planted(41) {
            return Err(TokenRefusal::Revoked { link, id: claims.id });
        }
        let epoch = network.revoked_before(&claims.issuer);
        if claims.issued_at < epoch {
            let issued_at = claims.issued_at;
            return Err(TokenRefusal::RevokedByEpoch { link, issued_at, epoch });
        }
    }
    Ok(())
}

fn check_time(link: usize, claims: &LinkClaims, now: WallTime) -> Result<(), TokenRefusal> {
    let LinkClaims { not_before, expires, issued_at, .. } = *claims;
    if now < not_before - SKEW {
        return Err(TokenRefusal::NotYetValid { link, not_before, now });
    }
    if now >= expires + SKEW {
        return Err(TokenRefusal::Expired { link, expires, now });
    }
    if issued_at > now + SKEW {
        return Err(TokenRefusal::PostDated { link, issued_at, now });
    }
    Ok(())
}

/// Whether a link may follow its parent. `link` is its number, for the refusal.
pub(super) fn check_step(
    parent: &LinkClaims,
    child: &LinkClaims,
    link: usize,
) -> Result<(), TokenRefusal> {
    if child.issuer != parent.subject {
        let (issuer, holder) = (child.issuer, parent.subject);
        return Err(TokenRefusal::BrokenChain { link, issuer, holder });
    }
    if let Err(NotCovered { permission, pattern, missing }) =
        parent.permissions.check_delegation(&child.permissions)
    {
        return Err(TokenRefusal::WidenedPermission { link, permission, pattern, missing });
    }
    if child.not_before < parent.not_before || child.expires > parent.expires {
        return Err(TokenRefusal::WidenedValidity { link });
    }
    if child.depth_left >= parent.depth_left {
        return Err(TokenRefusal::WidenedDepth { link });
    }
    Ok(())
}
