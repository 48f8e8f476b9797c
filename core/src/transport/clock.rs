//! Turns the node's time into the clocks that QUIC and TLS want.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use quinn_proto::TimeSource;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::base::{MonoTime, Now, WallTime};

/// The node's time as `Instant`s and as a wall clock. Never goes back.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    mono: MonoTime,
    wall: Arc<Wall>,
}

impl Clock {
    /// `Instant` has no constructor but the clock itself. This one reading stands for the origin of
    /// [`MonoTime`]; only differences to it are ever formed, so its value reaches no output.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn new(now: Now) -> Self {
        Clock { origin: Instant::now(), mono: now.mono, wall: Arc::new(Wall::at(now.wall)) }
    }

    /// Takes the embedder's time. QUIC asserts that time does not go back, so a monotonic clock that
    /// does is held where it was.
    pub(super) fn advance(&mut self, now: Now) -> Instant {
        self.mono = self.mono.max(now.mono);
        self.wall.0.store(now.wall.as_unix_nanos(), Ordering::Relaxed);
        self.instant()
    }

    /// The latest time that was taken.
    pub(super) fn instant(&self) -> Instant {
        self.origin + Duration::from_nanos(self.mono.as_nanos())
    }

    /// The latest time that was taken.
    pub(super) fn mono(&self) -> MonoTime {
        self.mono
    }

    /// The node's time for an instant of QUIC's.
    pub(super) fn mono_at(&self, instant: Instant) -> MonoTime {
        MonoTime::ZERO + instant.saturating_duration_since(self.origin)
    }

    /// The wall clock that QUIC and TLS read. It shows the latest time that was taken.
    pub(super) fn wall(&self) -> Arc<Wall> {
        self.wall.clone()
    }
}

/// The wall clock as last told, in nanoseconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct Wall(AtomicU64);

impl Wall {
    fn at(time: WallTime) -> Self {
        Wall(AtomicU64::new(time.as_unix_nanos()))
    }

    fn since_epoch(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl TimeSource for Wall {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.since_epoch()
    }
}

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_epoch()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono: u64) -> Now {
        Now::new(MonoTime::from_nanos(mono), WallTime::from_unix_nanos(7))
    }

    #[test]
    fn an_instant_reads_back_as_the_time_it_was_made_from() {
        let mut clock = Clock::new(at(5));
        let instant = clock.advance(at(1_234_567_891));
        assert_eq!(clock.mono_at(instant), MonoTime::from_nanos(1_234_567_891));
    }

    #[test]
    fn a_clock_that_goes_back_is_held() {
        let mut clock = Clock::new(at(100));
        let first = clock.advance(at(200));
        assert_eq!(clock.advance(at(50)), first);
        assert_eq!(clock.mono(), MonoTime::from_nanos(200));
    }
}
