//! A second attempt beside the first, for calls whose answer must not be late.
//!
//! ```text
//! asked of an instance --- it has not answered in time --> asked of another one too
//!                                                             |
//!             whoever answers first is the answer <-----------'   the other is cancelled
//! ```
//!
//! - Only of a call that its caller has marked idempotent, and that may go to anybody: both attempts may run.
//! - At most one for each call, and never two attempts at one instance. It is one of the
//!   [`ATTEMPTS_MAX`](crate::rpc::retry::ATTEMPTS_MAX) attempts that a call has at most.
//! - It takes a retry from the service's [budget](crate::rpc::budget), so that a tenth of the calls have one at most, and a few.
//!   When the budget is spent, there is none.
//! - It goes to an instance that is well, that has not refused a call lately, and that lets no call wait for as long
//!   itself. Where everybody is slow, a second attempt would only make it worse.
//! - An attempt that fails while the other is under way is over, and the call waits for the other. When both have
//!   failed, it is as if one had: the call is made again or ends, and if either may have run, it says so.
//! - A call that this node serves itself is not hedged: its service has got the value itself, and no network is
//!   between them.
//!
//! Source: Dean and Barroso, "The Tail at Scale", CACM 2013 (hedged requests, after the 95th percentile); gRPC A6 has it
//! with the same budget.

use std::time::Duration;

/// When a second attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedge {
    /// After so long.
    After(Duration),
    /// After the time that so many of a hundred calls of the action did not exceed lately, whoever served them, and an
    /// eighth of it more. None is made before this node knows: it has to have seen twenty.
    Percentile(u8),
}

impl Hedge {
    /// Why there can be no second attempt; none if there can.
    pub fn refused(self, idempotent: bool, pinned: bool) -> Option<&'static str> {
        match self {
            _ if !idempotent => Some("it may run twice then, so it has to be marked idempotent"),
            _ if pinned => Some("it is for one peer, so nobody else can be asked"),
            Hedge::Percentile(0 | 100..) => Some("the percentile is not in 1 to 99"),
            Hedge::After(_) | Hedge::Percentile(_) => None,
        }
    }
}
