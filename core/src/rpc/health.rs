//! How an instance of a service does: how many calls lately, how many failed, how long they took.
//!
//! "Lately" is the present window and the one before it. Times are counted in a histogram of fixed size: eight
//! buckets for each doubling, as HdrHistogram has them, so that a quantile is off by a sixteenth at most.

use std::borrow::Cow;
use std::time::Duration;

use crate::base::MonoTime;

/// How long a window is. A guess.
pub const WINDOW: Duration = Duration::from_secs(30);

/// Buckets for each doubling, as a power of two.
const FINE_BITS: u32 = 3;
const FINE: usize = 1 << FINE_BITS;
/// From below 8 us one by one, up to 71 minutes; longer times count as that.
const BUCKETS: usize = FINE * (32 - FINE_BITS as usize + 1);

/// How often each time was taken, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u16; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: [0; BUCKETS] }
    }
}

fn bucket_of(micros: u32) -> usize {
    let magnitude = micros.checked_ilog2().unwrap_or(0);
    match magnitude.checked_sub(FINE_BITS) {
        None => micros as usize,
        Some(shift) => {
            let fine = (micros >> shift) as usize & (FINE - 1);
            (shift as usize + 1) * FINE + fine
        }
    }
}

/// The middle of a bucket, in microseconds.
fn middle_of(bucket: usize) -> u64 {
    if bucket < FINE {
        return bucket as u64;
    }
    let shift = bucket / FINE - 1;
    let low = ((FINE + bucket % FINE) as u64) << shift;
    low + (1 << shift) / 2
}

impl Histogram {
    /// Counts a time.
    pub fn note(&mut self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let bucket = bucket_of(micros);
        if self.counts[bucket] == u16::MAX {
            // The shape is what counts.
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
        self.counts[bucket] += 1;
    }

    /// The time that so many of a thousand calls did not exceed, in both histograms together; none without calls.
    pub fn quantile(&self, other: &Histogram, per_mille: u64) -> Option<Duration> {
        let counts =
            || self.counts.iter().zip(&other.counts).map(|(a, b)| u64::from(*a) + u64::from(*b));
        let total: u64 = counts().sum();
        let rank = (total * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        let bucket = counts().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(middle_of(bucket)))
    }
}

/// So many calls of a window are kept one by one: most instances are called now and then, and a histogram takes half a
/// kilobyte.
const FEW: usize = 4;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Window {
    calls: u32,
    failed: u32,
    /// What the first ones took, in microseconds.
    first: [u32; FEW],
    /// What all took, once there are more.
    took: Option<Box<Histogram>>,
}

impl Window {
    fn note(&mut self, took: Duration, answered: bool) {
        match &mut self.took {
            Some(times) => times.note(took),
            None => match self.first.get_mut(self.calls as usize) {
                Some(place) => *place = u32::try_from(took.as_micros()).unwrap_or(u32::MAX),
                None => {
                    let mut times = Box::new(self.few());
                    times.note(took);
                    self.took = Some(times);
                }
            },
        }
        self.calls = self.calls.saturating_add(1);
        self.failed = self.failed.saturating_add(u32::from(!answered));
    }

    fn few(&self) -> Histogram {
        let mut times = Histogram::default();
        for micros in self.first.iter().take(self.calls as usize) {
            times.note(Duration::from_micros(u64::from(*micros)));
        }
        times
    }

    fn times(&self) -> Cow<'_, Histogram> {
        match &self.took {
            Some(times) => Cow::Borrowed(times),
            None => Cow::Owned(self.few()),
        }
    }
}

/// What is known of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Since when calls are counted at all.
    since: MonoTime,
    /// When the present window began.
    began: MonoTime,
    now: Window,
    before: Window,
    /// Calls that ever ended.
    ended: u64,
}

/// How an instance did lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls that were answered or failed.
    pub calls: u32,
    /// Those of them that failed: no answer came of the handler.
    pub failed: u32,
    /// The time in which that was.
    pub over: Duration,
    /// The time that half of the calls did not exceed, within a sixteenth; none without calls.
    pub p50: Option<Duration>,
    /// The time that 99 % of the calls did not exceed, likewise.
    pub p99: Option<Duration>,
}

impl Report {
    /// How well it is, in per cent: the calls that were answered. 100 without calls.
    pub fn score(&self) -> u8 {
        match u64::from(self.calls) {
            0 => 100,
            calls => (u64::from(self.calls - self.failed) * 100 / calls) as u8,
        }
    }
}

impl Health {
    /// Of an instance without calls.
    pub fn new(now: MonoTime) -> Self {
        Health {
            since: now,
            began: now,
            now: Window::default(),
            before: Window::default(),
            ended: 0,
        }
    }

    /// A call has ended: it was answered or not, and took so long.
    pub fn note(&mut self, now: MonoTime, took: Duration, answered: bool) {
        let passed = now.since(self.began);
        if passed >= WINDOW {
            self.before = std::mem::take(&mut self.now);
            self.began = now;
            if passed >= WINDOW * 2 {
                (self.before, self.since) = (Window::default(), now);
            }
        }
        self.ended += 1;
        self.now.note(took, answered);
    }

    /// How many calls have ever ended.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// The time that so many of a thousand calls did not exceed lately; none if there were fewer calls than that.
    pub fn quantile(&self, now: MonoTime, per_mille: u64, calls_least: u32) -> Option<Duration> {
        let none = Window::default();
        let (present, before) = match now.since(self.began) {
            passed if passed >= WINDOW * 2 => return None,
            passed if passed >= WINDOW => (&self.now, &none),
            _ => (&self.now, &self.before),
        };
        let enough = present.calls.saturating_add(before.calls) >= calls_least;
        present.times().quantile(&before.times(), per_mille).filter(|_| enough)
    }

    /// How it did.
    pub fn report(&self, now: MonoTime) -> Report {
        let passed = now.since(self.began);
        let none = Window::default();
        let (present, before) = match passed {
            passed if passed >= WINDOW * 2 => return Report::default(),
            passed if passed >= WINDOW => (&self.now, &none),
            _ => (&self.now, &self.before),
        };
        let from = if before.calls > 0 { WINDOW } else { Duration::ZERO };
        let (times, earlier) = (present.times(), before.times());
        Report {
            calls: present.calls.saturating_add(before.calls),
            failed: present.failed.saturating_add(before.failed),
            over: (passed + from).min(now.since(self.since)),
            p50: times.quantile(&earlier, 500),
            p99: times.quantile(&earlier, 990),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    proptest! {
        #[test]
        fn quantiles_are_off_by_a_sixteenth_at_most(
            micros in proptest::collection::vec(prop_oneof![0u64..100, 0u64..100_000, 0u64..4_000_000_000], 1..300),
            per_mille in 1u64..=1_000,
        ) {
            let mut histogram = Histogram::default();
            for micros in &micros {
                histogram.note(Duration::from_micros(*micros));
            }
            let mut sorted = micros;
            sorted.sort_unstable();
            let rank = (sorted.len() as u64 * per_mille).div_ceil(1_000).max(1) as usize;
            let exact = sorted[rank - 1];
            let found = histogram.quantile(&Histogram::default(), per_mille).unwrap().as_micros() as u64;
            prop_assert!(found.abs_diff(exact) <= exact / 16 + 1, "{} for {}", found, exact);
        }

        #[test]
        fn buckets_follow_each_other(micros in any::<u32>()) {
            let bucket = bucket_of(micros);
            prop_assert!(bucket < BUCKETS);
            prop_assert!(bucket_of(micros.saturating_add(1)) - bucket <= 1);
        }
    }

    #[test]
    fn many_calls_keep_their_shape() {
        let mut histogram = Histogram::default();
        for number in 0..300_000 {
            histogram.note(if number % 10 == 0 { 50 * MS } else { MS });
        }
        let quantile = |per_mille| histogram.quantile(&Histogram::default(), per_mille).unwrap();
        assert!(quantile(500) < 2 * MS && quantile(950) > 40 * MS);
    }

    #[test]
    fn what_was_long_ago_counts_no_more() {
        let now = MonoTime::ZERO;
        let mut health = Health::new(now);
        for number in 0..100 {
            health.note(now + MS * 10 * number, MS * 5, number % 4 > 0);
        }
        let report = health.report(now + MS * 1_000);
        assert_eq!((report.calls, report.failed, report.score()), (100, 25, 75));
        assert_eq!(report.over, MS * 1_000);
        let p50 = report.p50.unwrap();
        assert!(p50 >= MS * 47 / 10 && p50 <= MS * 53 / 10, "{p50:?}");
        health.note(now + WINDOW, MS, true);
        assert_eq!(health.report(now + WINDOW).calls, 101);
        assert_eq!(health.report(now + WINDOW * 2).calls, 1);
        assert_eq!(health.report(now + WINDOW * 4), Report::default());
        assert_eq!(Report::default().score(), 100);
    }
}
