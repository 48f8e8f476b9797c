//! `dunlin service`: what peers serve.

use clap::{Args, Subcommand};
use dunlin_core::directory::{OfferState, ServiceOffer, Spread};
use dunlin_tokio::{PeerId, PeerInfo};
use serde_json::{Value, json};

use crate::output::{Fail, Output};
use crate::visit::{Visit, visit};

/// Subcommands of `dunlin service`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// List the services of peers
    #[command(after_help = "Examples:\n  \
        dunlin service ls --peer ID@127.0.0.1:4400\n  \
        dunlin --json service ls --peer ID@127.0.0.1:4400 --peer ID@host:4400")]
    Ls(Visit),
    /// Show what is known of one service: its versions, its actions, who serves it
    #[command(after_help = "Examples:\n  \
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
            visit(&args, output, async |_, peers| {
                list(&peers, output);
                Ok(())
            })
            .await
        }
        ServiceCommand::Info(args) => {
            visit(&args.visit, output, async |_, peers| show(&peers, &args.service, output)).await
        }
    }
}

fn state(service: &ServiceOffer) -> &'static str {
    match service.state {
        OfferState::Running => "running",
        OfferState::Paused => "paused",
    }
}

fn spread(service: &ServiceOffer) -> &'static str {
    match service.info.spread {
        Spread::RoundRobin => "round-robin",
        Spread::Random => "random",
        Spread::LeastLoaded => "least-loaded",
    }
}

/// What a service says of itself, for programs.
fn object(peer: PeerId, service: &ServiceOffer) -> Value {
    let actions = service.actions.iter().enumerate().map(|(index, pattern)| {
        let mut object = json!({ "pattern": pattern.as_str() });
        if let Some(info) = service.info.actions.get(index) {
            object["description"] = info.description.as_str().into();
            object["argument"] = info.argument.as_str().into();
            object["argument_content"] = info.argument_content.to_string().into();
            object["result"] = info.result.as_str().into();
            object["result_content"] = info.result_content.to_string().into();
        }
        object
    });
    json!({
        "peer": peer.to_string(),
        "service": service.path.as_str(),
        "state": state(service),
        "version": service.info.version.to_string(),
        "description": service.info.description,
        "selection": spread(service),
        "actions": actions.collect::<Vec<_>>(),
    })
}

fn list(peers: &[PeerInfo], output: Output) {
    let mut services: Vec<(PeerId, &ServiceOffer)> =
        peers.iter().flat_map(|p| p.services.iter().map(move |s| (p.peer, s))).collect();
    services.sort_by_key(|(peer, service)| (service.path.clone(), *peer));
    if services.is_empty() && !output.is_json() {
        output.note("note", "no services");
    }
    for (peer, service) in services {
        let words = format!(
            "{:<24} {:<10} {:<8} {}  {}",
            service.path.as_str(),
            service.info.version.to_string(),
            state(service),
            peer.short(),
            service.info.description,
        );
        output.say(words.trim_end(), || object(peer, service));
    }
}

fn show(peers: &[PeerInfo], path: &str, output: Output) -> Result<(), Fail> {
    let mut found = false;
    for peer in peers {
        for service in peer.services.iter().filter(|service| service.path.as_str() == path) {
            found = true;
            output.say(describe(peer.peer, service), || object(peer.peer, service));
        }
    }
    if found {
        return Ok(());
    }
    let mut known: Vec<&str> =
        peers.iter().flat_map(|peer| peer.services.iter().map(|s| s.path.as_str())).collect();
    known.sort_unstable();
    known.dedup();
    let hint = match known.is_empty() {
        true => "they serve nothing".to_string(),
        false => format!("they serve {}", known.join(", ")),
    };
    Err(Fail::new("NO_SUCH_SERVICE", format!("none of the peers serves '{path}'; {hint}")))
}

fn describe(peer: PeerId, service: &ServiceOffer) -> String {
    let info = &service.info;
    let mut text = format!("{} {}, {} at {}\n", service.path, info.version, state(service), peer);
    if !info.description.is_empty() {
        text += &format!("  {}\n", info.description);
    }
    text += &format!("  calls are spread {}\n", spread(service));
    for (index, pattern) in service.actions.iter().enumerate() {
        text += &format!("  {pattern}");
        if let Some(action) = info.actions.get(index) {
            let known =
                |name: &str| if name.is_empty() { "?".to_string() } else { name.to_string() };
            text += &format!(
                "  {} ({}) -> {} ({})",
                known(&action.argument),
                action.argument_content,
                known(&action.result),
                action.result_content
            );
            if !action.description.is_empty() {
                text += &format!("\n      {}", action.description);
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}
