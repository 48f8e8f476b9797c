//! A node that has turned against the others: what it says, and what has to hold beside it.
//!
//! What runs there is a real mesh with the node's key, token and disk, but without services and clients, so that it
//! greets, dials and keeps links alive as any peer. Beside that it attacks: it puts frames of its own on its links, leaves
//! out what it should say, and opens links that nothing of its mesh knows of.
//!
//! ```text
//! mod    the state of such a node
//! words  what each attack says next
//! siege  the others are served beside those that stay hostile
//! ```

mod siege;
mod words;

use dunlin_core::service::{BoxFuture, Handle};

use crate::random::{Stream, mix};
use crate::schedule::{Attack, Fault, Schedule, Trouble};

pub(crate) use siege::{NO_LINK_ENDS, besieged};
pub(crate) use words::{Deed, On, Seen, deeds};

/// What a node does that is hostile.
#[derive(Clone)]
pub(crate) struct Hostile {
    /// The fault of the schedule that has made it so.
    pub(crate) fault: usize,
    pub(crate) attack: Attack,
    /// How often it acts, in nanoseconds.
    pub(crate) every: u64,
    /// It goes on when all other faults are over.
    pub(crate) lasts: bool,
    pub(crate) draws: Stream,
    /// How often it has acted.
    pub(crate) acts: u64,
}

impl Hostile {
    /// The hostile node of this fault, if it is one.
    pub(crate) fn of(schedule: &Schedule, index: usize) -> Option<Box<Hostile>> {
        let Fault { until_us, what, .. } = &schedule.faults[index];
        let Trouble::Hostile { attack, every_us, .. } = *what else { return None };
        Some(Box::new(Hostile {
            fault: index,
            attack,
            every: every_us * 1_000,
            lasts: *until_us > schedule.duration_us,
            draws: Stream::new(mix(schedule.seed, index as u64, attack as u64, 0xbad), 0),
            acts: 0,
        }))
    }

    /// Application code that runs at such a node.
    pub(crate) fn task(&self, handle: Handle) -> Option<BoxFuture<()>> {
        (self.attack == Attack::Unacknowledged).then(|| -> BoxFuture<()> {
            Box::pin(async move {
                let Ok(mut all) = handle.subscribe(">").await else { return };
                while all.next().await.is_some() {}
            })
        })
    }
}
