//! By which rule one of several instances of a service is chosen.
//!
//! | rule | for |
//! | --- | --- |
//! | one after the other | instances that are alike |
//! | by chance | many callers that must not march in step |
//! | least loaded | instances that differ, or are busy with other things |
//! | by key | work that belongs together: who keeps a session, a shard, a cache |
//!
//! A service on the caller's own node is preferred, by every rule but one: a key means the same instance
//! to everybody, so that an own service is one candidate among others.

use semver::VersionReq;

use crate::base::{MonoTime, PeerId, StableHash};
use crate::directory::document::Spread;
use crate::directory::load::Load;

/// How a caller wants an instance to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Selection {
    /// As the service itself says.
    #[default]
    Default,
    /// One after the other, for each service by itself.
    RoundRobin,
    /// By chance.
    Random,
    /// Of two by chance, the one with less to do: (calls of ours under way + 1) x what they took lately.
    /// Source: Mitzenmacher, "The Power of Two Choices", IEEE TPDS 2001.
    LeastLoaded,
    /// For a key with this hash always the same one, as long as it is there; see [`key_hash`].
    ByKey(u64),
}

/// What a caller wants of the instance that serves it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Wish {
    /// How it is to be chosen.
    pub selection: Selection,
    /// Which versions will do; all, if nothing is said.
    pub version: Option<VersionReq>,
    /// Whether the call fails where no instance can serve it at the moment. Without this it waits, within its deadline, while
    /// no instance of a single-active service is active, and while a peer is being dialled that may serve it.
    pub at_once: bool,
}

impl Selection {
    /// The rule for a service that says this of itself.
    pub fn or(self, spread: Spread) -> Selection {
        match (self, spread) {
            (Selection::Default, Spread::RoundRobin) => Selection::RoundRobin,
            (Selection::Default, Spread::Random) => Selection::Random,
            (Selection::Default, Spread::LeastLoaded) => Selection::LeastLoaded,
            (chosen, _) => chosen,
        }
    }
}

/// The hash of a key, for [`Selection::ByKey`].
pub fn key_hash(key: &[u8]) -> u64 {
    StableHash::new(2).bytes(key).finish()
}

/// How much a peer wants a key. The peer that wants it most gets it, so that who comes or goes changes
/// the owner of no other key. Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit
/// Rates" (rendezvous hashing), IEEE/ACM ToN 1998.
pub fn affinity(key_hash: u64, peer: &PeerId) -> u64 {
    StableHash::new(3).number(key_hash).bytes(peer.as_bytes()).finish()
}

/// Which of two has less to do; true for the first if they are equal.
pub(super) fn first_is_less_loaded(now: MonoTime, a: &Load, b: &Load) -> bool {
    // Of whom nothing is known, the same is assumed as of the other.
    let (for_a, for_b) = match (a.latency(now), b.latency(now)) {
        (Some(a), Some(b)) => (a, b),
        _ => (1, 1),
    };
    let score =
        |load: &Load, latency: u64| (u128::from(load.busy()) + 1) * u128::from(latency.max(1));
    score(a, for_a) <= score(b, for_b)
}
