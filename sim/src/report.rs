//! What people and programs read of a run and of a campaign.

use std::fmt::Write;

use crate::campaign::Summary;
use crate::checks::seconds;
use crate::draw::LARGE;
use crate::run::{Outcome, Verdict};
use crate::schedule::Fidelity;

/// The line that reproduces the run of a seed.
pub fn reproduce(outcome: &Outcome) -> String {
    let crypto = match outcome.fidelity {
        Fidelity::Frames => String::new(),
        Fidelity::Packets => format!(" --crypto {}", outcome.crypto),
    };
    // Seeds draw fewer by themselves.
    let nodes = u16::try_from(outcome.nodes).ok().filter(|nodes| LARGE.contains(nodes));
    let nodes = nodes.map_or(String::new(), |nodes| format!(" --nodes {nodes}"));
    format!("cargo sim run --seed {} --fidelity {}{crypto}{nodes}", outcome.seed, outcome.fidelity)
}

/// What went wrong in the run of a seed, the line that reproduces it, and the one that makes it small; empty for a
/// clean run.
pub fn failure(outcome: &Outcome) -> String {
    if outcome.verdict == Verdict::Clean {
        return String::new();
    }
    let again = reproduce(outcome);
    let smaller = again.replacen(" run ", " shrink ", 1);
    format!("{}\n  shrink:    {smaller}", failure_by(outcome, &again))
}

/// What went wrong in a run, and `again`, the line that reproduces it; empty for a clean run.
pub fn failure_by(outcome: &Outcome, again: &str) -> String {
    let (kind, violations) = match &outcome.verdict {
        Verdict::Clean => return String::new(),
        Verdict::Crash { at, message } => {
            let at = seconds(*at);
            return format!(
                "CRASH in seed {} at {at}: {message}\n  reproduce: {again}",
                outcome.seed
            );
        }
        Verdict::Safety { violations } => ("SAFETY", violations),
        Verdict::Liveness { violations } => ("LIVENESS", violations),
    };
    let mut text = String::new();
    for violation in violations {
        let node = violation.node.map_or(String::new(), |node| format!(" at n{node}"));
        let _ = writeln!(
            text,
            "{kind} violation in seed {}, {}{node}: {}: {}",
            outcome.seed,
            seconds(violation.at),
            violation.rule,
            violation.what
        );
    }
    text + "  reproduce: " + again
}

/// One run in a line.
pub fn line(outcome: &Outcome) -> String {
    let verdict = match outcome.verdict {
        Verdict::Clean => "clean",
        Verdict::Safety { .. } => "SAFETY",
        Verdict::Liveness { .. } => "LIVENESS",
        Verdict::Crash { .. } => "CRASH",
    };
    format!(
        "seed {} {}/{} {} nodes, {} events, {} calls ({} answered), {} simulated, {:.1} ms CPU, hash {}: {verdict}",
        outcome.seed,
        outcome.fidelity,
        outcome.crypto,
        outcome.nodes,
        outcome.events,
        outcome.calls,
        outcome.answered,
        seconds(outcome.simulated_nanos),
        outcome.cpu_nanos as f64 / 1e6,
        outcome.hash.as_deref().unwrap_or("-"),
    )
}

/// A campaign, for people.
pub fn summary(summary: &Summary) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<14} {:>9} {:>11} {:>10} {:>10} {:>10} {:>10} {:>9} {:>13} {:>13}",
        "",
        "scenarios",
        "events",
        "calls",
        "answered",
        "published",
        "delivered",
        "CPU s",
        "scenarios/s",
        "events/s"
    );
    for (name, share) in &summary.shares {
        let _ = writeln!(
            text,
            "{name:<14} {:>9} {:>11} {:>10} {:>10} {:>10} {:>10} {:>9.2} {:>13.1} {:>13.0}",
            share.scenarios,
            share.events,
            share.calls,
            share.answered,
            share.published,
            share.delivered,
            share.cpu_seconds,
            share.scenarios_per_cpu_second,
            share.events_per_cpu_second,
        );
    }
    let _ = writeln!(text, "\nfaults         applied  effective");
    for line in &summary.faults {
        let _ = writeln!(text, "{:<12} {:>9} {:>10}", line.kind, line.applied, line.effective);
    }
    let _ = writeln!(text, "\nrare states");
    for (what, count) in summary.sometimes.iter().filter(|(_, count)| **count > 0) {
        let _ = writeln!(text, "{count:>12}  {what}");
    }
    for (what, _) in summary.sometimes.iter().filter(|(_, count)| **count == 0) {
        let _ = writeln!(text, "       never  {what}");
    }
    let _ = writeln!(text, "\ncalls ended in");
    for (end, count) in &summary.ends {
        let _ = writeln!(text, "{count:>12}  {end}");
    }
    let _ = writeln!(text);
    let lists = [
        ("crashed", &summary.crashes),
        ("broke a safety rule", &summary.safety),
        ("did not come to rest", &summary.liveness),
        ("had no effective fault and do not count", &summary.faultless),
    ];
    for (what, seeds) in lists {
        if !seeds.is_empty() {
            let shown: Vec<String> = seeds.iter().take(20).map(u64::to_string).collect();
            let more = if seeds.len() > 20 { ", …" } else { "" };
            let _ = writeln!(text, "{} seeds {what}: {}{more}", seeds.len(), shown.join(", "));
        }
    }
    if !summary.toothless.is_empty() {
        let _ = writeln!(
            text,
            "INVALID: applied and never effective: {}",
            summary.toothless.join(", ")
        );
    }
    if !summary.not_shown.is_empty() {
        let _ = writeln!(
            text,
            "not shown, for too few applications: that these faults change anything: {}",
            summary.not_shown.join(", ")
        );
    }
    if summary.stopped {
        let _ = writeln!(text, "stopped at the first seed that failed");
    }
    if summary.exit_code() == 0 {
        let _ = writeln!(text, "clean");
    }
    text
}
