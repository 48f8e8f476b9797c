//! The contract of a machine.

use crate::base::{Bound, Draws, Effects, Label, MonoTime, Now, Refusals};

/// A pure state machine: the same inputs at the same times give the same effects, everywhere.
///
/// Machines never name each other. Their inputs and effects are values of the domain ("send this to
/// that peer", "this peer said that"); only `mesh` knows which machine's effect is which machine's
/// input. What a machine must look up on a hot path it gets as a read-only view.
pub trait Machine {
    /// What can happen to it.
    type Input;
    /// What it can want done.
    type Effect;
    /// What comes back when a timer of its expires.
    type Timer;
    /// What it may look at while it handles an input.
    type View<'a>;

    /// Takes one input. Never panics on what a peer sent, and never fails: misuse by the local caller
    /// is refused before it gets here.
    fn handle(
        &mut self,
        cx: &mut Context<'_, Self::Timer>,
        view: Self::View<'_>,
        input: Self::Input,
        out: &mut Effects<'_, Self::Effect>,
    );

    /// Asserts what must hold between inputs. Tests call it after each; the simulator at one in forty events of a
    /// node, for it costs time in the size of the state.
    fn check_invariants(&self) {}
}

/// Names one armed timer of a machine. Once it has expired or was disarmed, it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerHandle(pub u64);

/// The timers that a machine sees: its own.
pub trait Timers<T> {
    /// Asks for `what` as an input at `at`, or at once when `at` is past.
    fn arm(&mut self, at: MonoTime, what: T) -> TimerHandle;

    /// Takes a timer back. Does nothing once it has expired.
    fn disarm(&mut self, timer: TimerHandle);
}

/// What a machine may use of the world: the time, fresh randomness, and timers.
pub struct Context<'a, T> {
    /// The time of this input.
    pub now: Now,
    draws: &'a mut Draws,
    timers: &'a mut dyn Timers<T>,
    refusals: &'a mut Refusals,
}

impl<'a, T> Context<'a, T> {
    /// What the caller lends for one input.
    pub fn new(
        now: Now,
        draws: &'a mut Draws,
        timers: &'a mut dyn Timers<T>,
        refusals: &'a mut Refusals,
    ) -> Self {
        Context { now, draws, timers, refusals }
    }

    /// Counts a refusal by this bound, for operators.
    pub fn refused(&mut self, bound: Bound) {
        self.refusals.count(bound);
    }

    /// Asks for `what` as an input at `at`, or at once when `at` is past.
    pub fn arm(&mut self, at: MonoTime, what: T) -> TimerHandle {
        self.timers.arm(at, what)
    }

    /// Takes a timer back. Does nothing once it has expired.
    pub fn disarm(&mut self, timer: TimerHandle) {
        self.timers.disarm(timer);
    }

    /// A fresh random number.
    pub fn draw(&mut self, label: Label) -> u64 {
        self.draws.number(label)
    }

    /// A fresh random number below `bound`.
    pub fn draw_below(&mut self, label: Label, bound: u64) -> u64 {
        self.draws.below(label, bound)
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
pub(crate) mod tests;
