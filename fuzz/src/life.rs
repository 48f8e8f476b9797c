//! The identity of the node that is attacked, and what peers say of lives.

use std::sync::LazyLock;

use dunlin_core::Identity;
use dunlin_core::auth::LifeRecord;
use dunlin_core::base::Incarnation;

/// The node's key. Its id begins with 0x8a, so that peers can have lower and higher ones.
pub(crate) static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity::from_secret([1; 32]));

/// A record that no key has signed. A record that a peer shows of its own life is not verified.
pub(crate) fn unsigned(incarnation: Incarnation) -> LifeRecord {
    LifeRecord { incarnation, signature: [0; 64] }
}
