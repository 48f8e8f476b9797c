//! Tokens whose signatures were verified, so that a peer that comes back costs no curve arithmetic.
//!
//! A token is found by a part of its last signature, which is as good as a hash and costs nothing, and
//! counts only if every byte is the same. What is kept holds for one descriptor: whoever takes a newer
//! one forgets all.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::auth::network_id::NetworkId;
use crate::auth::token::Token;
use crate::auth::validate::Verified;
use crate::base::{MonoTime, Now};

/// A token that was found to count, with all that is needed to judge it again.
#[derive(Clone, Debug)]
pub struct Known {
    /// The token.
    pub token: Token,
    /// The network in which it counts.
    pub network: NetworkId,
    /// Whose it is, what it gives, and when.
    pub verified: Verified,
    /// When it ends by the monotonic clock, as reckoned when it was verified.
    pub ends: MonoTime,
}

impl Known {
    /// Whether it counts by both clocks.
    pub fn counts(&self, now: Now) -> bool {
        now.mono < self.ends && self.verified.window.contains(now.wall)
    }
}

/// Verified tokens, at most so many.
#[derive(Clone, Debug)]
pub struct VerifiedTokens {
    known: BTreeMap<[u8; 16], Arc<Known>>,
    tokens_max: usize,
}

/// The last bytes: the end of the last signature, its `S`, which is uniform for whoever signs honestly.
/// Who does not harms itself: its tokens displace each other.
fn handle(token: &[u8]) -> Option<[u8; 16]> {
    // The very last byte of an S is almost constant.
    let (start, _) = token.len().checked_sub(32).map(|at| token[at..].split_at(16))?;
    start.try_into().ok()
}

impl VerifiedTokens {
    /// None yet, and at most so many.
    pub fn new(tokens_max: usize) -> Self {
        VerifiedTokens { known: BTreeMap::new(), tokens_max }
    }

    /// What is known of exactly these bytes. They may have ended: that is remembered too, so that a wall
    /// clock that goes back does not bring them to life again.
    pub fn get(&self, token: &Bytes) -> Option<&Arc<Known>> {
        let known = self.known.get(&handle(token)?)?;
        (known.token.as_bytes() == token).then_some(known)
    }

    /// Remembers a token that counts.
    pub fn insert(&mut self, known: Arc<Known>, now: Now) {
        let Some(handle) = handle(known.token.as_bytes()) else { return };
        if self.known.len() >= self.tokens_max && !self.known.contains_key(&handle) {
            self.known.retain(|_, known| known.counts(now));
            if self.known.len() >= self.tokens_max {
                // Signatures are random, and so is who stands next.
                let next = self.known.range(handle..).next().or(self.known.iter().next());
                if let Some(next) = next.map(|(handle, _)| *handle) {
                    self.known.remove(&next);
                }
            }
        }
        if self.tokens_max > 0 {
            self.known.insert(handle, known);
        }
    }

    /// Forgets what holds for this network.
    pub fn forget(&mut self, network: NetworkId) {
        self.known.retain(|_, known| known.network != network);
    }

    /// That the bound holds.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn check_invariants(&self) {
        assert!(self.known.len() <= self.tokens_max, "verified tokens are bounded");
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}
