//! `dunlin-sim explore`: explorations from the command line.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use dunlin_sim::explore::{Explored, Model, explore, glare, lease};
use serde_json::json;

use crate::cli::output::{redraw, say};

#[cfg(not(dunlin_planted))]
const WRONG_GLARE: &str = "\
Wrong rules, to see how each is refuted, exist only in a build of their own:
  RUSTFLAGS='--cfg dunlin_planted' cargo run --release -p dunlin-sim --target-dir target/planted -- \\
      explore glare --rule coin-flip
They are: lower-id-wins, coin-flip, close-before-confirm, ids-gate-dialling, first-come-stays,
dial-number-ignored, drained-for-good, no-cut, drain-without-end.";
#[cfg(dunlin_planted)]
const WRONG_GLARE: &str = "\
Wrong rules for --rule: lower-id-wins, coin-flip, close-before-confirm, ids-gate-dialling,
first-come-stays, dial-number-ignored, drained-for-good, no-cut, drain-without-end.";

#[cfg(not(dunlin_planted))]
const WRONG_LEASE: &str = "\
Wrong rules, to see how each is refuted, exist only in a build of their own:
  RUSTFLAGS='--cfg dunlin_planted' cargo run --release -p dunlin-sim --target-dir target/planted -- \\
      explore lease --rule no-abstention
They are: no-abstention, answered-before-durable, equal-rounds, any-renewal-counts,
any-answer-counts, timer-starts-late, no-drift-margin, standby-raises-promise,
lost-disk-unlearned, learned-round-again; and when other acceptors take over:
what-lives-is-not-waited-for, one-seal-is-enough, goes-on-after-its-seal,
only-the-last-set-is-sealed, tokens-without-an-epoch.";
#[cfg(dunlin_planted)]
const WRONG_LEASE: &str = "\
Wrong rules for --rule: no-abstention, answered-before-durable, equal-rounds, any-renewal-counts,
any-answer-counts, timer-starts-late, no-drift-margin, standby-raises-promise,
lost-disk-unlearned, learned-round-again; and when other acceptors take over:
what-lives-is-not-waited-for, one-seal-is-enough, goes-on-after-its-seal,
only-the-last-set-is-sealed, tokens-without-an-epoch.";

/// What to explore.
#[derive(Subcommand)]
pub(crate) enum Explore {
    /// Two nodes that dial each other: both end on the same link, and nothing is lost.
    #[command(after_help = WRONG_GLARE)]
    Glare(Options),
    /// Acceptors and two proposers of a lease: at most one holds it, and tokens grow, also when other acceptors take over.
    #[command(after_help = WRONG_LEASE)]
    Lease(Options),
}

/// How to explore.
#[derive(Args)]
pub(crate) struct Options {
    /// Explore with a wrong rule.
    #[cfg(dunlin_planted)]
    #[arg(long)]
    rule: Option<String>,
    /// Stop at so many states of one configuration; a state takes about a kilobyte while it waits.
    #[arg(long, default_value_t = 20_000_000)]
    states_max: usize,
    /// Only configurations whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Explore larger configurations, which takes long: faults together.
    #[arg(long)]
    deep: bool,
    /// How many threads explore. What is found does not depend on it.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Print a JSON line a configuration.
    #[arg(long)]
    json: bool,
}

/// What all configurations come to.
#[derive(Default)]
struct Sum {
    states: u64,
    depth: u32,
    seconds: f64,
}

impl Explore {
    /// Explores and reports.
    pub(crate) fn run(self) -> ExitCode {
        match self {
            Explore::Glare(options) => {
                #[cfg(dunlin_planted)]
                if let Some(code) = options.plant(&glare::RULES) {
                    return code;
                }
                let all = if options.deep { glare::deep() } else { glare::configurations() };
                let mut sum = Sum::default();
                let done = options.run(all, &mut sum);
                options.end(done, &sum)
            }
            Explore::Lease(options) => {
                #[cfg(dunlin_planted)]
                if let Some(code) =
                    options.plant(&[&lease::RULES[..], &lease::change::RULES].concat())
                {
                    return code;
                }
                let (leases, changes) = match options.deep {
                    true => (lease::deep(), lease::change::deep()),
                    false => (lease::configurations(), lease::change::configurations()),
                };
                let mut sum = Sum::default();
                let done =
                    options.run(leases, &mut sum).and_then(|()| options.run(changes, &mut sum));
                options.end(done, &sum)
            }
        }
    }
}

impl Options {
    /// Has the wrong rule be the rule. If there is none of that name, the program ends.
    #[cfg(dunlin_planted)]
    fn plant(&self, rules: &[(&str, u32)]) -> Option<ExitCode> {
        let rule = self.rule.as_ref()?;
        let Some((_, number)) = rules.iter().find(|(name, _)| name == rule) else {
            let names: Vec<_> = rules.iter().map(|(name, _)| *name).collect();
            crate::cli::output::note(&format!(
                "no rule is called '{rule}'; there are {}",
                names.join(", ")
            ));
            return Some(ExitCode::from(2));
        };
        dunlin_core::planted::set(*number);
        None
    }

    fn run<M: Model>(
        &self,
        configurations: Vec<(String, M)>,
        sum: &mut Sum,
    ) -> Result<(), ExitCode> {
        // A machine that breaks a promise is a counterexample, and not this program's end.
        std::panic::set_hook(Box::new(|_| {}));
        for (name, model) in configurations {
            if !name.contains(&self.only) {
                continue;
            }
            let from = Instant::now();
            let mut shown = Instant::now();
            let terminal = std::io::stderr().is_terminal();
            let explored =
                explore(&model, self.states_max, self.threads, &mut |depth, states, waiting| {
                    if terminal && shown.elapsed().as_millis() > 500 {
                        shown = Instant::now();
                        redraw(&format!("{name}: depth {depth}, {states} states, {waiting} wait "));
                    }
                });
            if terminal {
                redraw("");
            }
            let seconds = from.elapsed().as_secs_f64();
            sum.states += explored.states;
            sum.depth = sum.depth.max(explored.depth);
            sum.seconds += seconds;
            if self.json {
                say(&json!({ "configuration": name, "seconds": seconds, "explored": explored })
                    .to_string());
            } else {
                show(&name, &explored, seconds);
            }
            if let Some(code) = failure(&explored) {
                return Err(code);
            }
        }
        Ok(())
    }

    fn end(&self, done: Result<(), ExitCode>, sum: &Sum) -> ExitCode {
        if let Err(code) = done {
            return code;
        }
        let Sum { states, depth, seconds } = sum;
        if !self.json {
            say(&format!(
                "every rule holds in all {states} states, up to {depth} steps deep; {seconds:.1} s"
            ));
        }
        ExitCode::SUCCESS
    }
}

fn failure(explored: &Explored) -> Option<ExitCode> {
    if explored.counterexample.is_some() {
        Some(ExitCode::from(1))
    } else if !explored.complete {
        Some(ExitCode::from(5))
    } else if !explored.ends {
        Some(ExitCode::from(3))
    } else {
        None
    }
}

fn show(name: &str, explored: &Explored, seconds: f64) {
    let Explored { states, transitions, depth, .. } = explored;
    say(&format!(
        "{name}: {states} states, {transitions} transitions, depth {depth}, {seconds:.1} s"
    ));
    if let Some(found) = &explored.counterexample {
        say(&format!("  broken: {}", found.broken));
        for step in &found.steps {
            say(&format!("  {step}"));
        }
    } else if !explored.complete {
        say("  there are more states than --states-max");
    } else if !explored.ends {
        say("  what happens without further faults may go on for ever");
    }
}
