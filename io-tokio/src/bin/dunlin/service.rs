//! `dunlin service`: what is served.

use std::time::Duration;

use clap::{Args, Subcommand};
use dunlin_tokio::PeerId;
use dunlin_tokio::control::{ServiceEntry, StatsEntry, VitalsEntry};
use serde_json::json;

use crate::output::{Fail, Output, one_line, spell};
use crate::visit::{Agent, Visit, visit};

/// How long each node that serves something may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Subcommands of `dunlin service`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// List what is served: by the node on this machine and its peers, or by peers that are named
    #[command(after_help = "Examples:\n  \
        dunlin service ls\n  \
        dunlin service ls --peer ID@127.0.0.1:4400\n  \
        dunlin --json service ls --peer ID@127.0.0.1:4400 --peer ID@host:4400")]
    Ls(Visit),
    /// Show what is known of one service: its versions, its actions, who serves it
    #[command(after_help = "Examples:\n  \
        dunlin service info math\n  \
        dunlin service info --peer ID@127.0.0.1:4400 math\n  \
        dunlin --json service info --peer ID@127.0.0.1:4400 math")]
    Info(InfoArgs),
    /// Show how services do: calls, failures and how long they take, at the node on this machine and at the
    /// instances that its calls went to, and what those of peers say of themselves
    #[command(
        after_help = "What counts is the last half to whole minute. What an instance at a peer says of itself, \
        roughly and every 5 s at most, counts the calls of all.\n\nExamples:\n  \
        dunlin service stats\n  \
        dunlin service stats math\n  \
        dunlin --json service stats"
    )]
    Stats(StatsArgs),
    /// Ask each node that serves something how long it takes to answer
    #[command(after_help = "Examples:\n  \
        dunlin service ping math\n  \
        dunlin service ping --peer ID@127.0.0.1:4400 math\n  \
        dunlin --json service ping math")]
    Ping(InfoArgs),
    /// Have a service of the node on this machine take no calls for now
    ///
    /// What runs may end. Callers go to other instances, or hear that none is there and that their call was not
    /// executed. The active instance of a single-active service gives way first, and another one takes over.
    #[command(after_help = "Examples:\n  \
        dunlin service pause math\n  \
        dunlin service pause math --control PATH")]
    Pause(PauseArgs),
    /// Have a paused service of the node on this machine take calls again, or stand by if it is single-active
    #[command(after_help = "Examples:\n  \
        dunlin service resume math\n  \
        dunlin service resume math --control PATH")]
    Resume(PauseArgs),
}

/// Options of `dunlin service pause` and `resume`.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    visit: Visit,
    /// The service's path
    service: String,
}

/// Options of `dunlin service stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    visit: Visit,
    /// The service's path; without it, all
    service: Option<String>,
}

/// Options of `dunlin service info` and `ping`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    visit: Visit,
    /// The service's path
    service: String,
}

/// Runs `dunlin service`.
pub(crate) async fn run(command: ServiceCommand, output: Output) -> Result<(), Fail> {
    match command {
        ServiceCommand::Ls(args) => {
            visit(&args, output, async |agent| {
                list(&agent.services().await?, output);
                Ok(())
            })
            .await
        }
        ServiceCommand::Info(args) => {
            visit(&args.visit, output, async |agent| {
                show(&agent.services().await?, &args.service, output)
            })
            .await
        }
        ServiceCommand::Stats(args) => {
            visit(&args.visit, output, async |agent| {
                let stats = agent.stats().await?;
                let wanted = |entry: &&StatsEntry| {
                    args.service.as_ref().is_none_or(|service| *service == entry.service)
                };
                tell(stats.iter().filter(wanted), output);
                Ok(())
            })
            .await
        }
        ServiceCommand::Ping(args) => {
            visit(&args.visit, output, async |agent| ping(agent, &args.service, output).await).await
        }
        ServiceCommand::Pause(PauseArgs { visit: args, service }) => {
            visit(&args, output, async |agent| {
                agent.pause(&service).await?;
                say_changed(&service, "paused", output);
                Ok(())
            })
            .await
        }
        ServiceCommand::Resume(PauseArgs { visit: args, service }) => {
            visit(&args, output, async |agent| {
                agent.resume(&service).await?;
                say_changed(&service, "resumed", output);
                Ok(())
            })
            .await
        }
    }
}

fn say_changed(service: &str, what: &str, output: Output) {
    output.say(format!("'{service}' is {what}"), || json!({ "event": what, "service": service }));
}

fn list(services: &[ServiceEntry], output: Output) {
    if services.is_empty() && !output.is_json() {
        output.note("note", "no services");
    }
    for service in services {
        let words = format!(
            "{:<24} {:<10} {:<8} {}  {}",
            service.service,
            service.version,
            service.state,
            service.peer.short(),
            one_line(&service.description),
        );
        output.say(words.trim_end(), || json!(service));
    }
}

fn tell<'a>(stats: impl Iterator<Item = &'a StatsEntry>, output: Output) {
    let mut any = false;
    for entry in stats {
        any = true;
        let time = |micros: Option<u64>| {
            micros.map_or("-".to_string(), |micros| spell(Duration::from_micros(micros)))
        };
        let mut words = format!(
            "{:<24} {}  {:>3} %  {:>7.1}/s  {} of {} failed  p50 {}  p99 {}  {} under way",
            entry.service,
            entry.peer.short(),
            entry.score,
            entry.rate,
            entry.failed,
            entry.calls,
            time(entry.p50_us),
            time(entry.p99_us),
            entry.in_flight,
        );
        if entry.waiting > 0 {
            words += &format!(", {} wait", entry.waiting);
        }
        if entry.breaker != "closed" {
            words += &format!("  breaker {}", entry.breaker);
        }
        if !entry.left_alone.is_empty() {
            words += &format!("  left alone: {}", entry.left_alone.join(", "));
        }
        if entry.is_own {
            words += "  (this node)";
        }
        if let Some(says) = &entry.says {
            words += &format!("  (it says: {})", spell_vitals(says));
        }
        output.say(words, || json!(entry));
    }
    if !any && !output.is_json() {
        output.note("note", "no services here, and no calls to others");
    }
}

/// What an instance says of itself: `100 %, 8/s, p50 4 ms, p99 16 ms, 2 of 8 run, 0 of 100 wait`.
fn spell_vitals(says: &VitalsEntry) -> String {
    let time = |micros: u32| spell(Duration::from_micros(micros.into()));
    let (running, waiting) = match says.capacity {
        None => (says.running.to_string(), says.waiting.to_string()),
        Some((running_max, waiting_max)) => (
            format!("{} of {running_max}", says.running),
            format!("{} of {waiting_max}", says.waiting),
        ),
    };
    format!(
        "{} %, {}/s, p50 {}, p99 {}, {running} run, {waiting} wait",
        says.score,
        says.rate,
        time(says.p50_us),
        time(says.p99_us)
    )
}

async fn ping(agent: &mut Agent, path: &str, output: Output) -> Result<(), Fail> {
    let services = agent.services().await?;
    let serving = services.iter().filter(|service| service.service == path);
    let peers: Vec<PeerId> = serving.map(|service| service.peer).collect();
    if peers.is_empty() {
        return Err(nobody(&services, path));
    }
    let mut silent = None;
    for peer in peers {
        match agent.ping(peer, PING_TIMEOUT).await {
            Ok(elapsed) => output.say(
                format!("{}  {}", peer, spell(elapsed)),
                || json!({ "peer": peer.to_string(), "elapsed_us": elapsed.as_micros() as u64 }),
            ),
            Err(fail) => silent = Some(fail),
        }
    }
    silent.map_or(Ok(()), Err)
}

fn show(services: &[ServiceEntry], path: &str, output: Output) -> Result<(), Fail> {
    let mut found = false;
    for service in services.iter().filter(|service| service.service == path) {
        found = true;
        output.say(describe(service), || json!(service));
    }
    if found {
        return Ok(());
    }
    Err(nobody(services, path))
}

fn nobody(services: &[ServiceEntry], path: &str) -> Fail {
    let mut known: Vec<&str> = services.iter().map(|service| service.service.as_str()).collect();
    known.dedup();
    let hint = match known.is_empty() {
        true => "nothing is served".to_string(),
        false => format!("what is served is {}", known.join(", ")),
    };
    Fail::new("NO_SUCH_SERVICE", format!("nobody who is known serves '{path}'; {hint}"))
}

fn describe(service: &ServiceEntry) -> String {
    let ServiceEntry { service: path, version, state, peer, .. } = service;
    let mut text = format!("{path} {version}, {state} at {peer}\n");
    if !service.description.is_empty() {
        text += &format!("  {}\n", one_line(&service.description));
    }
    text += &format!("  calls are spread {}\n", service.selection);
    if let Some(says) = &service.says {
        text += &format!("  it says: {}\n", spell_vitals(says));
    }
    for action in &service.actions {
        text += &format!("  {}", action.pattern);
        let known = |name: &Option<String>| match name.as_deref() {
            None | Some("") => "?".to_string(),
            Some(name) => name.to_string(),
        };
        // All is known of an action, or nothing.
        if let Some(description) = &action.description {
            text += &format!(
                "  {} ({}) -> {} ({})",
                known(&action.argument),
                known(&action.argument_content),
                known(&action.result),
                known(&action.result_content)
            );
            if !description.is_empty() {
                text += &format!("\n      {}", one_line(description));
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}
