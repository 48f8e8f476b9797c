//! Where the shell takes the time from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunlin_core::{MonoTime, Now, WallTime};

/// Both clocks of a node.
pub trait Clock: Send + 'static {
    /// The time. The monotonic part must not go back.
    fn now(&self) -> Now;

    /// The monotonic clock alone, for handlers that look at it from threads of their own. None from clocks that
    /// cannot be shared: handlers then take the time as of the node's last turn.
    fn shared(&self) -> Option<Box<dyn Fn() -> MonoTime + Send + Sync>> {
        None
    }

    /// For a deadline that is no further away than this, a node that sends much lets other tasks run and looks
    /// again instead of sleeping: tokio's timers tick in milliseconds, QUIC's pacing in microseconds. Zero for
    /// virtual clocks, which stand still while anything runs.
    fn precision(&self) -> Duration {
        Duration::ZERO
    }
}

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The machine's clocks. The monotonic one counts the time in which the machine was suspended.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// See [`Clock::precision`]. A guess: pacing delays on loopback and local networks are below it, and
/// sleeping costs a tick of tokio's clock, 1 ms.
const PRECISION: Duration = Duration::from_micros(300);

impl Clock for SystemClock {
    fn now(&self) -> Now {
        #[cfg(target_os = "linux")]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(id);
        let nanos = (time.tv_sec as u64).saturating_mul(1_000_000_000) + time.tv_nsec as u64;
        Now::new(MonoTime::from_nanos(nanos), wall())
    }

    fn shared(&self) -> Option<Box<dyn Fn() -> MonoTime + Send + Sync>> {
        Some(Box::new(|| SystemClock.now().mono))
    }

    fn precision(&self) -> Duration {
        PRECISION
    }
}

/// tokio's clock, for paused time and for turmoil.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    origin: tokio::time::Instant,
    wall: WallTime,
}

impl TokioClock {
    /// A clock whose monotonic part is zero now, and whose wall clock starts at `wall` and keeps pace.
    pub fn starting_at(wall: WallTime) -> Self {
        TokioClock { origin: tokio::time::Instant::now(), wall }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Now {
        let since = self.origin.elapsed();
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let wall = self.wall.as_unix_nanos().saturating_add(nanos);
        Now::new(MonoTime::ZERO + since, WallTime::from_unix_nanos(wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_goes_on() {
        let a = SystemClock.now();
        let b = SystemClock.now();
        assert!(b.mono >= a.mono);
        assert!(a.wall.as_unix_nanos() > 1_600_000_000_000_000_000, "this century");
    }

    #[tokio::test(start_paused = true)]
    async fn the_tokio_clock_follows_paused_time() {
        let clock = TokioClock::starting_at(WallTime::from_unix_nanos(7));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.now().mono, MonoTime::from_nanos(3_000_000_000));
        assert_eq!(clock.now().wall, WallTime::from_unix_nanos(3_000_000_007));
    }
}
