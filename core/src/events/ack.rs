//! What the receiving side tells the sending side of events: what has come, and what nobody took.

use crate::events::group::GroupName;
use crate::link::Lane;

/// How many shared lanes there are.
pub const LANES: usize = Lane::SHARED as usize;

/// Events that no member took are remembered for as long as their sender may not know it. As many as a sender has
/// unacknowledged by default: when a member leaves, all of them may be for it.
pub const DECLINED_MAX: usize = 16_384;

/// Places of groups that these events name, in all. A guess: each mostly names one, and a peer decides how many.
pub const DECLINED_PLACES_MAX: usize = 4 * DECLINED_MAX;

/// Events that are given back in one acknowledgement. A guess; the others follow in the next one.
pub const RETURNED_MAX: usize = 4_096;

/// An event that was for groups of which no member took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// The place of its lane, from 0.
    pub lane: usize,
    /// Its number in the lane.
    pub number: u64,
    /// Which of the groups that it named, and behind them of the services.
    pub places: Vec<u32>,
}

/// An event that a member of a group had, and gives back unhandled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// The group.
    pub group: GroupName,
    /// The event's number among those of its publisher's life.
    pub sequence: u64,
}

/// What a sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventAck {
    /// The stream that this is about.
    pub stream: u64,
    /// The number that is awaited on each lane.
    pub next: [u64; LANES],
    /// Lanes on which something is missing, as bits.
    pub again: u32,
    /// What nobody took.
    pub declined: Vec<Declined>,
    /// With a stream of zero: nothing has come, so that nothing was forgotten.
    pub nothing_came: bool,
    /// Events that members of groups give back.
    pub returned: Vec<Returned>,
    /// The number of the first of them. They are counted from 1, for each pair of lives.
    pub returned_from: u64,
    /// The number that is awaited of those that the receiver gives back. 0 if none has come.
    pub returned_next: u64,
    /// The sender takes no events any more. No subscriber there gets what is not acknowledged here.
    pub is_last: bool,
}
