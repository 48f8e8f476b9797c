//! `dunlin peer`: who is there, and how far away.

use std::time::Duration;

use clap::{Args, Subcommand};
use dunlin_tokio::PeerId;
use dunlin_tokio::control::PeerEntry;
use serde_json::json;

use crate::call::parse_duration;
use crate::output::{Fail, Output, spell};
use crate::visit::{Agent, Visit, visit};

/// Subcommands of `dunlin peer`.
#[derive(Debug, Subcommand)]
pub(crate) enum PeerCommand {
    /// List the peers of the node on this machine; or connect to peers and list those that are there
    #[command(after_help = "Examples:\n  \
        dunlin peer ls\n  \
        dunlin peer ls --peer ID@127.0.0.1:4400\n  \
        dunlin --json peer ls --peer ID@127.0.0.1:4400 --peer ID@host:4400")]
    Ls(Visit),
    /// Measure how long peers take to answer
    ///
    /// The time is that of a call which no handler runs. In a network with tokens it needs the permission
    /// call:ping/*
    #[command(after_help = "Examples:\n  \
        dunlin peer ping                     (all peers of the node on this machine)\n  \
        dunlin peer ping --peer ID@127.0.0.1:4400\n  \
        dunlin --json peer ping --peer ID@127.0.0.1:4400 --count 10 --interval 100ms")]
    Ping(PingArgs),
}

/// Options of `dunlin peer ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    #[command(flatten)]
    visit: Visit,
    /// Only these peers [default: all that are connected]
    #[arg(value_name = "ID")]
    ids: Vec<PeerId>,
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
            visit(&args, output, async |agent| list(agent, output).await).await
        }
        PeerCommand::Ping(args) => {
            visit(&args.visit, output, async |agent| ping(agent, &args, output).await).await
        }
    }
}

async fn list(agent: &mut Agent, output: Output) -> Result<(), Fail> {
    let peers = agent.peers().await?;
    if peers.is_empty() && !output.is_json() {
        output.note("note", "no peers");
    }
    for peer in &peers {
        let PeerEntry { peer: id, remote, rtt_us, services, .. } = peer;
        let words = format!(
            "{id}  {}  {}  {} services",
            remote.map_or("?".into(), |remote| remote.to_string()),
            rtt_us.map_or("?".into(), |rtt| spell(Duration::from_micros(rtt))),
            services.len()
        );
        output.say(words, || json!(peer));
    }
    Ok(())
}

async fn ping(agent: &mut Agent, args: &PingArgs, output: Output) -> Result<(), Fail> {
    let ids = match args.ids.is_empty() {
        true => agent.peers().await?.iter().map(|peer| peer.peer).collect(),
        false => args.ids.clone(),
    };
    if ids.is_empty() {
        return Err(Fail::new("NO_PEERS", "the node is connected to nobody"));
    }
    for round in 0..args.count {
        if round > 0 {
            tokio::time::sleep(args.interval).await;
        }
        for &peer in &ids {
            let elapsed = agent.ping(peer, args.visit.timeout).await?;
            output.say(
                format!("{peer}  {}", spell(elapsed)),
                || json!({ "peer": peer.to_string(), "elapsed_us": elapsed.as_micros() as u64 }),
            );
        }
    }
    Ok(())
}
