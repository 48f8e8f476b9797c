//! What the receiving side tells the sending side of events: what has come, and what nobody took.

use crate::link::Lane;

/// How many shared lanes there are.
pub const LANES: usize = Lane::SHARED as usize;

/// Events that nobody took are remembered for as long as their sender may not know it: it never has more
/// unacknowledged than this. A guess; a sender with larger bounds may take such an event for handled.
pub const DECLINED_MAX: usize = 4_096;

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
}
