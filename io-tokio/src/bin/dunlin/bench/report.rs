//! Rounds in, medians and ratios out, as a table or as JSON.

use std::fmt;

use serde::Serialize;
use serde_json::json;

use super::measure::Measured;
use super::processes::Contender;
use super::workload::{Bar, Setting, Workload};

/// Everything that was measured of one setting.
#[derive(Clone, Debug)]
pub(super) struct Report {
    setting: Setting,
    dunlin: Vec<Measured>,
    quinn: Vec<Measured>,
}

/// Medians over the rounds of one contender.
#[derive(Clone, Copy, Debug, Serialize)]
struct Medians {
    score: f64,
    per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    /// Of all rounds together.
    lost: u64,
    /// Of all ends together.
    cpu_us_per_operation: f64,
    client_cpu_us_per_operation: f64,
    server_cpu_us_per_operation: f64,
}

impl Report {
    pub(super) fn new(setting: Setting) -> Self {
        Report { setting, dunlin: Vec::new(), quinn: Vec::new() }
    }

    pub(super) fn add(&mut self, contender: Contender, measured: Measured) {
        match contender {
            Contender::Dunlin => self.dunlin.push(measured),
            Contender::Quinn => self.quinn.push(measured),
        }
    }

    fn medians(&self, rounds: &[Measured]) -> Option<Medians> {
        let of = |value: &dyn Fn(&Measured) -> f64| median(rounds.iter().map(value));
        let per_operation = |ns: u64, m: &Measured| ns as f64 / 1e3 / m.operations.max(1) as f64;
        Some(Medians {
            score: of(&|m| self.setting.score_of(m))?,
            per_second: of(&Measured::per_second)?,
            p50_us: of(&|m| m.latency.p50_ns as f64 / 1e3)?,
            p90_us: of(&|m| m.latency.p90_ns as f64 / 1e3)?,
            p99_us: of(&|m| m.latency.p99_ns as f64 / 1e3)?,
            p999_us: of(&|m| m.latency.p999_ns as f64 / 1e3)?,
            lost: rounds.iter().map(|m| m.lost).sum(),
            cpu_us_per_operation: of(&Measured::cpu_us)?,
            client_cpu_us_per_operation: of(&|m| per_operation(m.client_cpu_ns, m))?,
            server_cpu_us_per_operation: of(&|m| per_operation(m.server_cpu_ns, m))?,
        })
    }

    /// Dunlin's score over the baseline's, by pairs of rounds.
    fn ratios(&self) -> Vec<f64> {
        let score = |m| self.setting.score_of(m);
        self.dunlin.iter().zip(&self.quinn).map(|(d, q)| score(d) / score(q)).collect()
    }

    /// Dunlin's CPU time of one operation over the baseline's, by pairs of rounds. It hardly heeds what else
    /// the machine does, but counts what is done between two operations too.
    fn cpu_ratio(&self) -> Option<f64> {
        median(self.dunlin.iter().zip(&self.quinn).map(|(d, q)| d.cpu_us() / q.cpu_us()))
    }

    /// The same as the table, and every round.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let ratios = self.ratios();
        json!({
            "setting": self.setting,
            "tokens": self.setting.workload.tokens(),
            "score": self.setting.workload.score().unit,
            "dunlin": self.medians(&self.dunlin),
            "quinn_tuned": self.medians(&self.quinn),
            "ratio": median(ratios.iter().copied()),
            "ratios": ratios,
            "cpu_ratio": self.cpu_ratio(),
            "bar": self.setting.bar(),
            "verdict": self.verdict().map(|(_, _, verdict)| verdict),
            "dunlin_rounds": self.dunlin,
            "quinn_rounds": self.quinn,
        })
    }

    fn verdict(&self) -> Option<(f64, Bar, &'static str)> {
        let ratio = median(self.ratios().into_iter())?;
        let bar = self.setting.bar()?;
        Some((ratio, bar, bar.judge(self.setting.workload.score(), ratio)))
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let count = values.len();
    match count {
        0 => None,
        _ => Some((values[(count - 1) / 2] + values[count / 2]) / 2.0),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { workload, size, outstanding, datagram, seconds } = self.setting;
        let score = workload.score();
        writeln!(
            f,
            "{}: {size} bytes, {outstanding} outstanding, datagrams of {datagram} bytes; medians of {} x {seconds} s",
            workload.name(),
            self.dunlin.len(),
        )?;
        writeln!(f, "  tokens: {}", workload.tokens())?;
        let events = workload == Workload::Events;
        let columns = match events {
            true => format!("{:>10}", "lost"),
            false => format!("{:>10} {:>10} {:>10}", "p50 us", "p99 us", "p99.9 us"),
        };
        let ends = if events { "pub + subs" } else { "cli + srv" };
        let ends = format!("CPU us each ({ends})");
        writeln!(f, "  {:<14} {:>12} {columns} {ends:>24}", "", score.unit)?;
        for (name, rounds) in [("quinn, tuned", &self.quinn), ("Dunlin", &self.dunlin)] {
            let Some(medians) = self.medians(rounds) else { continue };
            let cpu = format!(
                "{:.2} ({:.2} + {:.2})",
                medians.cpu_us_per_operation,
                medians.client_cpu_us_per_operation,
                medians.server_cpu_us_per_operation
            );
            let columns = match events {
                true => format!("{:>10}", medians.lost),
                false => format!(
                    "{:>10.1} {:>10.1} {:>10.1}",
                    medians.p50_us, medians.p99_us, medians.p999_us
                ),
            };
            let (decimals, rate) = (score.decimals, medians.score);
            writeln!(f, "  {name:<14} {rate:>12.decimals$} {columns} {cpu:>24}")?;
        }
        let ratios = self.ratios();
        if let Some(ratio) = median(ratios.iter().copied()) {
            let (least, most) = ratios
                .iter()
                .fold((f64::MAX, 0.0_f64), |(least, most), r| (least.min(*r), most.max(*r)));
            write!(f, "  ratio {ratio:.2} ({least:.2} to {most:.2})")?;
            if let Some((_, bar, verdict)) = self.verdict() {
                let sign = if score.less_is_better { "<=" } else { ">=" };
                write!(f, "; must {sign} {}, aim {sign} {}: {verdict}", bar.must, bar.aim)?;
            }
            writeln!(f)?;
        }
        if let Some(ratio) = self.cpu_ratio() {
            writeln!(f, "  ratio of CPU time {ratio:.2}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }
}
