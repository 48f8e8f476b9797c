//! What is measured, and which ratio to QUIC alone is good enough.

use serde::{Deserialize, Serialize};

use super::measure::Measured;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Workload {
    /// One call at a time, answered with its argument.
    Latency,
    /// Many calls at a time, answered with their arguments.
    Calls,
    /// A client without links connects and makes one call, again and again.
    Connect,
    /// Many calls at a time with large arguments and empty answers.
    Bulk,
    /// One publishes events, and eight others count them.
    Events,
}

/// One workload with its numbers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Setting {
    pub(super) workload: Workload,
    /// Bytes of a message.
    pub(super) size: usize,
    /// Calls under way at one time; events that are published at once.
    pub(super) outstanding: usize,
    /// UDP payload of a full datagram, in bytes.
    pub(super) datagram: u16,
    /// How long one round measures.
    pub(super) seconds: f64,
}

/// The ratios to the baseline that Dunlin must and wants to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Bar {
    pub(super) must: f64,
    pub(super) aim: f64,
}

/// The number by which a workload is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Score {
    pub(super) unit: &'static str,
    pub(super) less_is_better: bool,
    pub(super) decimals: usize,
}

impl Workload {
    pub(super) fn default_sizes(self) -> &'static [usize] {
        match self {
            Workload::Latency | Workload::Connect | Workload::Events => &[64],
            Workload::Calls => &[64, 1_024],
            Workload::Bulk => &[65_536],
        }
    }

    pub(super) fn default_outstanding(self) -> usize {
        match self {
            Workload::Latency | Workload::Connect => 1,
            Workload::Calls => 64,
            Workload::Bulk => 16,
            Workload::Events => 256,
        }
    }

    /// How many processes serve, or subscribe.
    pub(super) fn servers(self) -> usize {
        match self {
            Workload::Events => 8,
            _ => 1,
        }
    }

    /// Whether several calls may be under way.
    pub(super) fn is_parallel(self) -> bool {
        matches!(self, Workload::Calls | Workload::Bulk | Workload::Events)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::Latency => "latency",
            Workload::Calls => "calls",
            Workload::Connect => "connect",
            Workload::Bulk => "bulk",
            Workload::Events => "events",
        }
    }

    /// When the nodes verify each other's tokens.
    pub(super) fn tokens(self) -> &'static str {
        match self {
            Workload::Connect => {
                "verified anew by both ends at each connection; their cache is off"
            }
            _ => "verified once, before the measurement",
        }
    }

    pub(super) fn score(self) -> Score {
        let (unit, less_is_better, decimals) = match self {
            Workload::Latency => ("us (p50)", true, 1),
            Workload::Calls => ("calls/s", false, 0),
            Workload::Connect => ("ms (p50)", true, 3),
            Workload::Bulk => ("MB/s", false, 0),
            Workload::Events => ("deliveries/s", false, 0),
        };
        Score { unit, less_is_better, decimals }
    }
}

impl Setting {
    /// The bar, for the settings that it was set for.
    pub(super) fn bar(&self) -> Option<Bar> {
        // Ratios between what peers reach and what QUIC alone does, measured on one machine.
        let (must, aim) = match (self.workload, self.size, self.outstanding) {
            (Workload::Latency, 64, 1) => (1.38, 1.15),
            (Workload::Calls, 64, 64) => (0.52, 0.82),
            (Workload::Calls, 1_024, 64) => (0.59, 0.88),
            (Workload::Connect, 64, 1) => (1.34, 1.08),
            (Workload::Bulk, 65_536, _) => (0.88, 1.25),
            (Workload::Events, 64, _) => (0.50, 0.90),
            _ => return None,
        };
        Some(Bar { must, aim })
    }

    /// The number by which a round is judged, in the unit of [`Workload::score`].
    pub(super) fn score_of(&self, measured: &Measured) -> f64 {
        match self.workload {
            Workload::Latency => measured.latency.p50_ns as f64 / 1e3,
            Workload::Connect => measured.latency.p50_ns as f64 / 1e6,
            Workload::Calls | Workload::Events => measured.per_second(),
            Workload::Bulk => measured.per_second() * self.size as f64 / 1e6,
        }
    }
}

impl Bar {
    /// What a ratio reaches.
    pub(super) fn judge(&self, score: Score, ratio: f64) -> &'static str {
        let reaches = |bar: f64| if score.less_is_better { ratio <= bar } else { ratio >= bar };
        if reaches(self.aim) {
            "reaches the aim"
        } else if reaches(self.must) {
            "meets the must"
        } else {
            "MISSES the must"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_judged_in_the_direction_of_its_workload() {
        let bar = Bar { must: 1.4, aim: 1.1 };
        let less = Workload::Latency.score();
        assert_eq!(bar.judge(less, 1.0), "reaches the aim");
        assert_eq!(bar.judge(less, 1.2), "meets the must");
        assert_eq!(bar.judge(less, 1.5), "MISSES the must");
        let bar = Bar { must: 0.5, aim: 0.8 };
        let more = Workload::Calls.score();
        assert_eq!(bar.judge(more, 0.9), "reaches the aim");
        assert_eq!(bar.judge(more, 0.6), "meets the must");
        assert_eq!(bar.judge(more, 0.4), "MISSES the must");
    }
}
