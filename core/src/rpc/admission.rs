//! How many calls of one service run at a time, how many wait, and who is turned away.
//!
//! ```text
//! call -> room to run?      yes: it runs
//!         room to wait, and it is likely to end before its deadline?
//!                           yes: it waits, the oldest first
//!         no: OVERLOADED, with the time in which its turn would have come
//! ```
//!
//! So overload ends in OVERLOADED at once, and not in time-outs: a call that waits has a good chance to run, and
//! one whose deadline passes while it waits never does. How long runs take is an average of those that ended.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{InvocationKey, MonoTime};
use crate::planted::is_planted;

/// A run counts for so much less than the average: one in eight, as TCP's round-trip time (RFC 6298).
const SMOOTHING: u64 = 8;
/// The shortest hint: less is not worth a message. A guess.
pub const HINT_MIN: Duration = Duration::from_millis(5);
/// The longest hint. A guess.
pub const HINT_MAX: Duration = Duration::from_secs(5);

/// What a service wants to be asked at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Calls that run at one time. At least 1.
    pub running_max: usize,
    /// Calls that wait for that, beyond which there is OVERLOADED.
    pub waiting_max: usize,
}

impl Capacity {
    /// Calls that may wait at one service, at most.
    pub const WAITING_MAX: usize = 65_536;

    /// So many calls at one time, and so many that wait; both within what there may be.
    pub fn new(running_max: usize, waiting_max: usize) -> Self {
        Capacity {
            running_max: running_max.max(1),
            waiting_max: waiting_max.min(Self::WAITING_MAX),
        }
    }
}

/// What becomes of a call that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It runs.
    Runs,
    /// It waits for its turn.
    Waits,
    /// It is turned away.
    Refused {
        /// When it may be tried again.
        retry_after: Duration,
    },
}

/// The door of one service.
#[derive(Clone, Debug)]
pub struct Door {
    capacity: Capacity,
    running: usize,
    waiting: VecDeque<InvocationKey>,
    /// How long a run takes on average, in nanoseconds; zero before the first has ended.
    takes: u64,
}

impl Door {
    /// Nobody is in.
    pub fn new(capacity: Capacity) -> Self {
        Door { capacity, running: 0, waiting: VecDeque::new(), takes: 0 }
    }

    /// How many calls may run, and how many wait.
    pub fn capacity(&self) -> (usize, usize) {
        (self.capacity.running_max, self.capacity.waiting_max)
    }

    /// How many calls run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Calls that wait, the oldest first.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = InvocationKey> + '_ {
        self.waiting.iter().copied()
    }

    /// When the turn of a call that comes now is likely to be.
    fn turn_in(&self) -> Duration {
        let turns = (self.waiting.len() / self.capacity.running_max + 1) as u64;
        Duration::from_nanos(self.takes.saturating_mul(turns))
    }

    /// A call comes.
    pub fn enter(&mut self, invocation: InvocationKey, time_left: Duration) -> Admitted {
        if self.running < self.capacity.running_max {
            self.running += 1;
            return Admitted::Runs;
        }
        let turn_in = self.turn_in();
        let has_room = self.waiting.len() < self.capacity.waiting_max || is_planted(115);
        let ends_in = turn_in.saturating_add(Duration::from_nanos(self.takes));
        if has_room && ends_in < time_left {
            self.waiting.push_back(invocation);
            return Admitted::Waits;
        }
        Admitted::Refused { retry_after: turn_in.clamp(HINT_MIN, HINT_MAX) }
    }

    /// A call that waits does so no more.
    pub fn give_up(&mut self, invocation: InvocationKey) {
        if let Some(index) = self.waiting.iter().position(|waiting| *waiting == invocation) {
            self.waiting.remove(index);
        }
    }

    /// A run has ended; it took so long.
    pub fn leave(&mut self, took: Duration) {
        debug_assert!(self.running > 0, "who leaves was in");
        self.running -= 1;
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.takes = match self.takes {
            0 => took,
            takes => takes - takes / SMOOTHING + took / SMOOTHING,
        };
    }

    /// Whose turn it is, if there is room for one; it leaves the queue, and counts as running.
    pub fn take_turn(&mut self) -> Option<InvocationKey> {
        if self.running >= self.capacity.running_max {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.running += 1;
        Some(next)
    }

    /// What had its turn is not run: it came too late.
    pub fn skip(&mut self) {
        self.running -= 1;
    }

    /// Asserts what must hold between inputs.
    pub fn check_invariants(&self) {
        assert!(self.running <= self.capacity.running_max, "no more run than may");
        assert!(self.waiting.len() <= self.capacity.waiting_max, "no more wait than may");
        let has_room = self.running < self.capacity.running_max;
        assert!(!has_room || self.waiting.is_empty(), "nobody waits while there is room");
    }
}

/// Whether a call is not run any more, because its caller has given up.
pub fn is_expired(now: MonoTime, deadline: MonoTime) -> bool {
    now >= deadline && !is_planted(116)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Key;

    const MS: Duration = Duration::from_millis(1);

    fn key(number: u64) -> InvocationKey {
        Key::from_u64(number << 32)
    }

    #[test]
    fn some_run_some_wait_and_the_rest_is_told_when_to_come_back() {
        let mut door = Door::new(Capacity::new(2, 2));
        let mut enter = |number| door.enter(key(number), 100 * MS);
        assert_eq!([enter(1), enter(2)], [Admitted::Runs; 2]);
        assert_eq!([enter(3), enter(4)], [Admitted::Waits; 2]);
        assert_eq!(enter(5), Admitted::Refused { retry_after: HINT_MIN });
        door.leave(40 * MS);
        assert_eq!((door.take_turn(), door.take_turn()), (Some(key(3)), None));
        assert_eq!(door.enter(key(5), 100 * MS), Admitted::Waits);
        assert_eq!(door.enter(key(6), 100 * MS), Admitted::Refused { retry_after: 80 * MS });
        door.check_invariants();
        door.give_up(key(4));
        door.leave(40 * MS);
        assert_eq!(door.take_turn(), Some(key(5)));
    }

    #[test]
    fn who_would_wait_in_vain_is_turned_away_at_once() {
        let mut door = Door::new(Capacity::new(1, 100));
        door.enter(key(1), MS);
        assert_eq!(door.enter(key(9), MS), Admitted::Waits, "nothing is known yet");
        door.give_up(key(9));
        door.leave(50 * MS);
        assert_eq!(door.enter(key(2), MS), Admitted::Runs);
        assert_eq!(door.enter(key(3), 101 * MS), Admitted::Waits);
        assert_eq!(door.enter(key(4), 150 * MS), Admitted::Refused { retry_after: 100 * MS });
        assert_eq!(door.enter(key(4), 151 * MS), Admitted::Waits);
    }
}
