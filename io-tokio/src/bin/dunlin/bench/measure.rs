//! Counting operations, their latencies, and the CPU that they took.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::Failure;

/// What one round came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Calls that ended, or deliveries that came.
    pub(super) operations: u64,
    /// Deliveries that did not come.
    pub(super) lost: u64,
    pub(super) elapsed_ns: u64,
    /// CPU time of the client's process, of user and kernel together.
    pub(super) client_cpu_ns: u64,
    /// The same of the server's.
    pub(super) server_cpu_ns: u64,
    pub(super) latency: Latency,
}

/// Percentiles of how long one operation took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) p50_ns: u64,
    pub(super) p90_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p999_ns: u64,
    pub(super) max_ns: u64,
}

impl Measured {
    pub(super) fn per_second(&self) -> f64 {
        self.operations as f64 * 1e9 / self.elapsed_ns as f64
    }

    /// CPU time of one operation at both ends together, in microseconds.
    pub(super) fn cpu_us(&self) -> f64 {
        (self.client_cpu_ns + self.server_cpu_ns) as f64 / 1e3 / self.operations.max(1) as f64
    }
}

/// CPU time of this process so far, of user and kernel together: what `getrusage` counts, but exact.
pub(super) fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How long to warm up: enough for windows and estimates of QUIC to settle.
const WARM_UP: Duration = Duration::from_millis(300);

/// Latencies of operations that have ended.
pub(super) struct Tally {
    histogram: Histogram<u64>,
    /// When to stop.
    pub(super) until: Instant,
    deliveries: Option<Deliveries>,
}

/// Counts of all subscribers together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deliveries {
    pub(super) came: u64,
    pub(super) lost: u64,
}

impl Tally {
    fn until(until: Instant) -> Self {
        let histogram = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("legal bounds");
        Tally { histogram, until, deliveries: None }
    }

    /// A part of it for another task; to be added when that has ended.
    pub(super) fn share(&self) -> Self {
        Tally::until(self.until)
    }

    /// Adds what another task has recorded.
    pub(super) fn add(&mut self, other: Tally) {
        self.histogram.add(other.histogram).expect("all have the same bounds");
    }

    /// What is counted instead of operations with a latency each.
    pub(super) fn deliver(&mut self, deliveries: Deliveries) {
        self.deliveries = Some(deliveries);
    }

    /// An operation that began at `begun` has ended at `now`.
    pub(super) fn record(&mut self, begun: Instant, now: Instant) {
        let nanos = u64::try_from((now - begun).as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(nanos);
    }
}

/// Lets `work` warm up, then measures it, in step with the process that asked: it says `begin`, waits
/// for a line, and prints the result as JSON. `work` returns when the tally's time is up and everything
/// that it began has ended.
pub(super) async fn measure(
    seconds: f64,
    mut work: impl AsyncFnMut(&mut Tally) -> Result<(), Failure>,
) -> Result<(), Failure> {
    work(&mut Tally::until(Instant::now() + WARM_UP)).await?;
    println!("begin");
    std::io::stdout().flush()?;
    // Nothing else runs in this process now, so that it may block.
    std::io::stdin().lock().read_line(&mut String::new())?;
    let cpu_before = cpu_ns();
    let begun = Instant::now();
    let mut tally = Tally::until(begun + Duration::from_secs_f64(seconds));
    work(&mut tally).await?;
    let elapsed = begun.elapsed();
    let client_cpu_ns = cpu_ns() - cpu_before;
    let at = |quantile| tally.histogram.value_at_quantile(quantile);
    let measured = Measured {
        operations: tally.deliveries.map_or(tally.histogram.len(), |d| d.came),
        lost: tally.deliveries.map_or(0, |d| d.lost),
        elapsed_ns: u64::try_from(elapsed.as_nanos())?,
        client_cpu_ns,
        server_cpu_ns: 0,
        latency: Latency {
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: tally.histogram.max(),
        },
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
