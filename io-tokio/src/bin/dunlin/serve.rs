//! `dunlin serve`: offer something to the mesh.

use clap::Subcommand;
use dunlin_tokio::{ServiceBuilder, action, service};

use crate::exec::{ExecArgs, exec_service};
use crate::output::{Fail, Output};
use crate::setup::{NodeArgs, introduce, run_until_told};

/// Subcommands of `dunlin serve`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServeCommand {
    /// Serve an action that answers with its argument: PATH/say
    #[command(
        after_help = "Example:\n  dunlin serve echo\nand in another terminal, with the address \
        that it prints:\n  dunlin call --peer ID@127.0.0.1:PORT echo/say '\"hi\"'"
    )]
    Echo {
        /// The path of the service
        #[arg(long, default_value = "echo")]
        path: String,
        /// Of all that offer it, at most one is active at a time; the others stand by. `dunlin leader` shows who
        #[arg(long)]
        single_active: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Serve a command of this machine: each call runs it once
    ///
    /// The argument of the call, as bytes, is the command's standard input; what it prints is the
    /// answer. When it exits with another code than 0, the caller gets the application error EXIT_<code>
    /// with what it wrote to standard error. It finds the caller's id in DUNLIN_CALLER and the path in
    /// DUNLIN_PATH. When the caller gives up, it is killed.
    ///
    /// Whoever may connect may run the command: let only those in whom you trust, with --allow, or give
    /// them tokens, with --network and --token.
    #[command(after_help = "Examples:\n  \
        dunlin serve exec --path tools/upper --allow ID -- tr a-z A-Z\n  \
        dunlin serve exec --path host/load --allow ID -- cat /proc/loadavg\n  \
        dunlin serve exec --path tools/jq --answer json --allow ID -- jq .name")]
    Exec {
        #[command(flatten)]
        exec: ExecArgs,
        /// Of all that offer it, at most one is active at a time; the others stand by. `dunlin leader` shows who.
        /// The command finds its fencing token in DUNLIN_TOKEN, as EPOCH.ROUND
        #[arg(long)]
        single_active: bool,
        /// Let everybody run the command who reaches the port, from other machines too. Without it, that takes --allow or
        /// tokens
        #[arg(long)]
        anyone: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
}

fn active_once(service: ServiceBuilder, single_active: bool) -> ServiceBuilder {
    if single_active { service.single_active() } else { service }
}

/// Runs `dunlin serve`.
pub(crate) async fn run(command: ServeCommand, output: Output) -> Result<(), Fail> {
    let (service, path, node) = match command {
        ServeCommand::Echo { path, single_active, node } => {
            let say = action("say").describe("Answers with its argument, as it is");
            let echo = service(&path)
                .version(env!("CARGO_PKG_VERSION"))
                .describe("An echo")
                .raw_action(say, |_cx, argument| async move { Ok(argument) });
            (active_once(echo.in_place(), single_active), format!("{path}/say"), node)
        }
        ServeCommand::Exec { exec, single_active, anyone, node } => {
            if node.is_open_to_others() && !anyone {
                return Err(Fail::usage(
                    "everybody who reaches this port could run this command. Name those who may with --allow ID, or \
                     with tokens: --network and --token; or say --anyone",
                ));
            }
            if node.is_open() {
                output.note(
                    "WARNING",
                    "everybody who reaches this port may run this command. Name those who may with \
                     --allow ID, or with tokens: --network and --token",
                );
            }
            let path = exec.path().to_string();
            (active_once(exec_service(exec)?, single_active), path, node)
        }
    };
    let plan = node.plan(output).await?;
    let node = plan.builder.service(service).start().await?;
    introduce(output, &node, plan.ephemeral, &plan.watch, &[&path]);
    run_until_told(node, plan.watch, output).await
}
