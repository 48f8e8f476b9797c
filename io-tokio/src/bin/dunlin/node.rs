//! `dunlin node`: a node that stays connected and says what happens.

use clap::Subcommand;

use crate::output::{Fail, Output};
use crate::setup::{NodeArgs, introduce, run_until_told};

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
}

/// Runs `dunlin node`.
pub(crate) async fn run(command: NodeCommand, output: Output) -> Result<(), Fail> {
    let NodeCommand::Run { node } = command;
    let plan = node.plan(output).await?;
    let node = plan.builder.start().await?;
    introduce(output, &node, plan.ephemeral, &plan.watch, &[]);
    run_until_told(node, plan.watch, output).await
}
