//! One machine alone, with its timers, in virtual time.

use std::time::Duration;

use crate::base::{Draws, Effects, Key, MonoTime, Now, Refusals, TimerQueue, WallTime};
use crate::machine::{Context, Machine, TimerHandle, Timers};

/// A machine and all that it may use of the world.
pub(crate) struct Bench<M: Machine> {
    pub(crate) machine: M,
    pub(crate) now: MonoTime,
    pub(crate) wall: WallTime,
    timers: TimerQueue<M::Timer>,
    draws: Draws,
    pub(crate) refusals: Refusals,
}

struct Own<'a, T>(&'a mut TimerQueue<T>);

impl<T> Timers<T> for Own<'_, T> {
    fn arm(&mut self, at: MonoTime, what: T) -> TimerHandle {
        TimerHandle(self.0.arm(at, what).to_u64())
    }
    fn disarm(&mut self, timer: TimerHandle) {
        self.0.disarm(Key::from_u64(timer.0));
    }
}

impl<M: Machine> Bench<M> {
    pub(crate) fn new(machine: M) -> Self {
        Bench {
            machine,
            now: MonoTime::ZERO,
            wall: WallTime::default(),
            timers: TimerQueue::default(),
            draws: Draws::new([3; 32]),
            refusals: Refusals::default(),
        }
    }

    /// One input, and the effects that it causes.
    pub(crate) fn feed(&mut self, view: M::View<'_>, input: M::Input) -> Vec<M::Effect> {
        let mut effects = Vec::new();
        let mut sink = |effect| effects.push(effect);
        let mut timers = Own(&mut self.timers);
        let now = Now::new(self.now, self.wall);
        let mut cx = Context::new(now, &mut self.draws, &mut timers, &mut self.refusals);
        self.machine.handle(&mut cx, view, input, &mut Effects::new(&mut sink));
        self.machine.check_invariants();
        effects
    }

    /// How long until the next timer.
    pub(crate) fn next_timer_in(&self) -> Option<Duration> {
        Some(self.timers.next_at()?.since(self.now))
    }

    /// Goes to the next timer and takes it out, to be fed.
    pub(crate) fn next_timer(&mut self) -> Option<M::Timer> {
        self.now = self.now.max(self.timers.next_at()?);
        self.timers.expire(self.now)
    }

    /// Goes to the next timer, unless it is later than that, and takes it out, to be fed.
    pub(crate) fn next_timer_until(&mut self, until: MonoTime) -> Option<M::Timer> {
        self.timers.next_at().filter(|at| *at <= until)?;
        self.next_timer()
    }

    /// How many timers are armed.
    pub(crate) fn timers_armed(&self) -> usize {
        self.timers.len()
    }
}
