//! How a node leaves: it finishes what it has begun, and nobody asks it for more.
//!
//! ```text
//! shutdown -> services stop, and their entries leave the document: callers choose others
//!          -> calls that come all the same are refused unrun: their callers go elsewhere, at no cost of their budget
//!          -> handlers that run, and calls made here, come to their end; handlers may go on making calls
//!          -> members of groups get no more events: what they read in time they keep, the rest is given back
//!          -> every peer has said that it knows, so that nothing is on its way any more
//!          -> every publisher is told which events have come, so that groups get the others back
//! stopped  -> links are closed, behind the last answer
//! ```
//!
//! Whatever is left after [`SHUTDOWN_GRACE`](crate::mesh::SHUTDOWN_GRACE) is cut off.

use crate::mesh::{Mesh, Phase};
use crate::planted::is_planted;

impl Mesh {
    /// Whether calls may be made: while the node runs, and by its handlers until they have ended.
    pub(super) fn takes_calls(&self) -> bool {
        match self.phase {
            Phase::Running => true,
            Phase::Stopping => self.callee.running() > 0,
            Phase::Stopped => false,
        }
    }

    /// Whether a node that stops has no call under way in either direction, and every peer that is connected knows
    /// that it offers nothing any more.
    pub(super) fn is_drained(&self) -> bool {
        (self.callee.running() == 0 || is_planted(154))
            && self.caller.is_empty()
            && self.is_known_to_stop()
    }

    pub(super) fn is_known_to_stop(&self) -> bool {
        self.peers.iter().all(|(peer, entry)| {
            !entry.machine.is_up()
                || !self.publisher.is_incremental(peer)
                || self.publisher.acknowledged(peer)
                    >= self
                        .publisher
                        .version_for(peer, &|path| self.access.shares(self.now, peer, path))
        })
    }
}
