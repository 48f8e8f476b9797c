//! `dunlin node`: a node that stays connected and says what happens, and what bounds it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use dunlin_tokio::control::LimitEntry;
use serde_json::{Value, json};

use crate::output::{Fail, Output};
use crate::setup::{NodeArgs, introduce, run_until_told};
use crate::visit::Agent;

/// Subcommands of `dunlin node`.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Run a node that serves nothing, stays connected to its peers, and prints what happens
    #[command(after_help = "Examples:\n  \
        dunlin node run --listen 0.0.0.0:4400\n  \
        dunlin node run --peer ID@10.0.0.7:4400 --peer ID@node2.example:4400\n  \
        dunlin node run --key a.key --network shop/network --token a.token\n\n\
        Ctrl-C takes leave of all peers and ends the program.")]
    Run {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Show the bounds of the node on this machine: what is in use, and what they have refused
    ///
    /// Each bound has an account that it is charged to: one address (or IPv6 /64), one link, one peer, one issuer (all keys
    /// whose rights one token handed on), one network, or the whole node. Of several accounts the fullest is shown. `-` is
    /// what is not counted.
    #[command(after_help = "Examples:\n  \
        dunlin node limits                   (those that are in use, or have refused something)\n  \
        dunlin node limits --all\n  \
        dunlin --json node limits")]
    Limits(LimitsArgs),
}

/// Options of `dunlin node limits`.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// The control socket of the node to ask, as it printed it. Needed if several run on this machine
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Those too of which nothing is in use and that have refused nothing
    #[arg(long)]
    all: bool,
}

/// How long the node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `dunlin node`.
pub(crate) async fn run(command: NodeCommand, output: Output) -> Result<(), Fail> {
    let node = match command {
        NodeCommand::Run { node } => node,
        NodeCommand::Limits(args) => return limits(&args, output).await,
    };
    let plan = node.plan(output).await?;
    let node = plan.builder.start().await?;
    introduce(output, &node, plan.ephemeral, &plan.watch, &[]);
    run_until_told(node, plan.watch, output).await
}

async fn limits(args: &LimitsArgs, output: Output) -> Result<(), Fail> {
    let mut agent = Agent::on_this_machine(args.control.as_deref(), TIMEOUT).await?;
    let limits = agent.limits().await?;
    let is_shown = |limit: &&LimitEntry| {
        args.all || output.is_json() || limit.refused > 0 || limit.used.is_some_and(|used| used > 0)
    };
    let shown: Vec<&LimitEntry> = limits.iter().filter(is_shown).collect();
    if shown.is_empty() {
        output.note("note", "nothing is in use, and nothing was refused; --all shows every bound");
        return Ok(());
    }
    if !output.is_json() {
        output.say(row("LIMIT", "OF ONE", "IN USE", "AT MOST", "", "REFUSED"), || Value::Null);
    }
    for limit in shown {
        let used = limit.used.map_or("-".to_string(), |used| used.to_string());
        let (max, refused) = (limit.max.to_string(), limit.refused.to_string());
        let words = row(&limit.limit, &limit.scope, &used, &max, &limit.unit, &refused);
        output.say(words, || json!(limit));
    }
    Ok(())
}

fn row(limit: &str, scope: &str, used: &str, max: &str, unit: &str, refused: &str) -> String {
    format!("{limit:<28} {scope:<8} {used:>10} {max:>10} {unit:<10} {refused:>9}")
}
