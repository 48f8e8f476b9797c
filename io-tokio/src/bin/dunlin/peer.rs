//! `dunlin peer`: who is there, and how far away.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use dunlin_tokio::{Failure, Node, PeerInfo};
use serde_json::json;

use crate::call::parse_duration;
use crate::output::{Fail, Output, spell};
use crate::visit::{Visit, visit};

/// An action that nobody serves: who answers that it has none is there.
const NOBODY: &str = "ping/nobody-serves-this";

/// Subcommands of `dunlin peer`.
#[derive(Debug, Subcommand)]
pub(crate) enum PeerCommand {
    /// Connect to peers and list those that are there
    #[command(after_help = "Examples:\n  \
        dunlin peer ls --peer ID@127.0.0.1:4400\n  \
        dunlin --json peer ls --peer ID@127.0.0.1:4400 --peer ID@host:4400")]
    Ls(Visit),
    /// Measure how long peers take to answer
    ///
    /// The time is that of a call which no handler runs. In a network with tokens it needs the permission
    /// call:ping/*
    #[command(after_help = "Examples:\n  \
        dunlin peer ping --peer ID@127.0.0.1:4400\n  \
        dunlin --json peer ping --peer ID@127.0.0.1:4400 --count 10 --interval 100ms")]
    Ping(PingArgs),
}

/// Options of `dunlin peer ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    #[command(flatten)]
    visit: Visit,
    /// How often to ask
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// How long to wait between two questions
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
}

/// Runs `dunlin peer`.
pub(crate) async fn run(command: PeerCommand, output: Output) -> Result<(), Fail> {
    match command {
        PeerCommand::Ls(args) => {
            visit(&args, output, async |_, peers| {
                peers.iter().for_each(|peer| list(peer, output));
                Ok(())
            })
            .await
        }
        PeerCommand::Ping(args) => {
            visit(&args.visit, output, async |node, peers| ping(node, &args, &peers, output).await)
                .await
        }
    }
}

fn list(peer: &PeerInfo, output: Output) {
    let link = peer.links.first();
    let remote = link.and_then(|link| link.remote).map(|remote| remote.to_string());
    let rtt = link.and_then(|link| link.stats.as_ref()).map(|stats| stats.rtt);
    let services: Vec<&str> = peer.services.iter().map(|s| s.path.as_str()).collect();
    let words = format!(
        "{}  {}  {}  {} services",
        peer.peer,
        remote.as_deref().unwrap_or("?"),
        rtt.map_or("?".into(), spell),
        services.len()
    );
    output.say(words, || {
        json!({
            "peer": peer.peer.to_string(),
            "remote": remote,
            "rtt_us": rtt.map(|rtt| rtt.as_micros() as u64),
            "links": peer.links.len(),
            "services": services,
        })
    });
}

async fn ping(
    node: &Node,
    args: &PingArgs,
    peers: &[PeerInfo],
    output: Output,
) -> Result<(), Fail> {
    for round in 0..args.count {
        if round > 0 {
            tokio::time::sleep(args.interval).await;
        }
        for peer in peers {
            let begun = Instant::now();
            let request = node.request(NOBODY).to(peer.peer).timeout(args.visit.timeout);
            let error = request.send().await.err();
            let elapsed = begun.elapsed();
            let failure = error.as_ref().and_then(|error| error.failure());
            if failure.is_some_and(|failure| failure != Failure::NoSuchAction) {
                let why = error.map(|error| error.to_string()).unwrap_or_default();
                return Err(Fail::new("NO_ANSWER", format!("{}: {why}", peer.peer)));
            }
            output.say(format!("{}  {}", peer.peer, spell(elapsed)), || {
                json!({ "peer": peer.peer.to_string(), "elapsed_us": elapsed.as_micros() as u64 })
            });
        }
    }
    Ok(())
}
