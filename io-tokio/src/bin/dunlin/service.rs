//! `dunlin service`: what is served.

use clap::{Args, Subcommand};
use dunlin_tokio::control::ServiceEntry;
use serde_json::json;

use crate::output::{Fail, Output};
use crate::visit::{Visit, visit};

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
}

/// Options of `dunlin service info`.
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
    }
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
            service.description,
        );
        output.say(words.trim_end(), || json!(service));
    }
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
    let mut known: Vec<&str> = services.iter().map(|service| service.service.as_str()).collect();
    known.dedup();
    let hint = match known.is_empty() {
        true => "nothing is served".to_string(),
        false => format!("what is served is {}", known.join(", ")),
    };
    Err(Fail::new("NO_SUCH_SERVICE", format!("nobody who is known serves '{path}'; {hint}")))
}

fn describe(service: &ServiceEntry) -> String {
    let ServiceEntry { service: path, version, state, peer, .. } = service;
    let mut text = format!("{path} {version}, {state} at {peer}\n");
    if !service.description.is_empty() {
        text += &format!("  {}\n", service.description);
    }
    text += &format!("  calls are spread {}\n", service.selection);
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
                text += &format!("\n      {description}");
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}
