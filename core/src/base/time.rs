//! Time as an argument: nothing in the core reads a clock.

use std::time::Duration;

/// A point on the monotonic clock: nanoseconds since an origin that the embedder chooses, once.
///
/// It must never go back, and should count the time in which the machine was suspended
/// (`CLOCK_BOOTTIME` or its like). It drives every timer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The origin.
    pub const ZERO: MonoTime = MonoTime(0);
    /// Later than everything: 584 years after the origin.
    pub const MAX: MonoTime = MonoTime(u64::MAX);

    /// So many nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        MonoTime(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: MonoTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for MonoTime {
    type Output = MonoTime;

    /// Saturates at [`MonoTime::MAX`].
    fn add(self, duration: Duration) -> MonoTime {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        MonoTime(self.0.saturating_add(nanos))
    }
}

impl std::fmt::Debug for MonoTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// A point on the wall clock: nanoseconds since the Unix epoch.
///
/// It serves validity periods alone; it may jump and may be wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(u64);

impl WallTime {
    /// So many nanoseconds after the Unix epoch.
    pub const fn from_unix_nanos(nanos: u64) -> Self {
        WallTime(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_unix_nanos(self) -> u64 {
        self.0
    }
}

impl std::ops::Add<Duration> for WallTime {
    type Output = WallTime;

    /// Saturates in the year 2554.
    fn add(self, duration: Duration) -> WallTime {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        WallTime(self.0.saturating_add(nanos))
    }
}

impl std::ops::Sub<Duration> for WallTime {
    type Output = WallTime;

    /// Saturates at the Unix epoch.
    fn sub(self, duration: Duration) -> WallTime {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        WallTime(self.0.saturating_sub(nanos))
    }
}

/// As RFC 3339 writes it, in UTC and cut to seconds: `2026-11-21T13:00:00Z`.
impl std::fmt::Display for WallTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0 / 1_000_000_000;
        let (mut days, second) = (seconds / 86_400, seconds % 86_400);
        let is_leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let mut year = 1970;
        while days >= 365 + u64::from(is_leap(year)) {
            days -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let february = 28 + u64::from(is_leap(year));
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while days >= months[month] {
            days -= months[month];
            month += 1;
        }
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let (month, day) = (month + 1, days + 1);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl std::fmt::Debug for WallTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unix {}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Both clocks, read by the embedder at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Drives timers.
    pub mono: MonoTime,
    /// Judges validity periods.
    pub wall: WallTime,
}

impl Now {
    /// Both clocks at once.
    pub const fn new(mono: MonoTime, wall: WallTime) -> Self {
        Now { mono, wall }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_are_shown_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_266_000, "2026-11-21T13:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let time = WallTime::from_unix_nanos(seconds * 1_000_000_000);
            assert_eq!(time.to_string(), text);
        }
        assert!(WallTime::from_unix_nanos(u64::MAX).to_string().starts_with("2554-"));
    }
}
