//! The `dunlin` program: one file per command.

// What is printed goes through `output`, which survives readers that are gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[allow(clippy::print_stdout, reason = "its processes talk to each other by it")]
mod bench;
mod call;
mod demo;
mod exec;
mod files;
mod id;
mod interrupts;
mod leader;
mod network;
mod node;
mod output;
mod peer;
mod publish;
mod serve;
mod service;
mod setup;
mod subscribe;
mod token;
mod topic;
mod visit;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use output::{Fail, LogWriter, Output, until_output_is_gone};

/// A node of the Dunlin mesh, and tools to use one.
///
/// Two terminals make a mesh. In the first:
///
///     dunlin serve echo
///
/// It prints an address, ID@IP:PORT. In the second:
///
///     dunlin call --peer ID@IP:PORT echo/say '"hi"'
///
/// From the source tree, write `cargo dunlin` for `dunlin`. `dunlin demo` shows more.
#[derive(Debug, Parser)]
#[command(
    name = "dunlin",
    version,
    max_term_width = 100,
    verbatim_doc_comment,
    after_help = "Exit codes: 0 it worked; 1 it did not; 2 the command line is wrong.\n\
                  `dunlin help COMMAND` has examples for each command."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
struct Global {
    /// Print one JSON object per line, errors too (on stderr)
    #[arg(long, global = true)]
    json: bool,
    /// Log to stderr: -v what happens, -vv every detail. DUNLIN_LOG=FILTER says more precisely what
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make and show identities
    #[command(subcommand)]
    Id(id::IdCommand),
    /// Make networks and show them
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Issue, narrow, show, check and revoke access tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Run a plain node
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Serve something to the mesh
    #[command(subcommand)]
    Serve(serve::ServeCommand),
    /// Call an action of a service
    Call(call::CallArgs),
    /// Publish an event
    Pub(publish::PubArgs),
    /// Print events as they come
    Sub(subscribe::SubArgs),
    /// Try patterns of topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// See what peers serve
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// See which instance of a single-active service is active, and move it
    #[command(subcommand)]
    Leader(leader::LeaderCommand),
    /// See who is there, and how far away
    #[command(subcommand)]
    Peer(peer::PeerCommand),
    /// Watch three nodes on this machine talk, share work and events, lose each other and meet again (about 10 seconds)
    Demo(demo::DemoArgs),
    /// Measure this machine: calls, connections, bulk and events, next to QUIC alone
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    start_log(cli.global.verbose, cli.global.json);
    let output = Output::new(cli.global.json);
    output::say_panics(output);
    let command = match cli.command {
        // It starts processes, each with a runtime of its own.
        Command::Bench(args) => {
            return until_output_is_gone(|| bench::run(args, output)).unwrap_or_else(|code| code);
        }
        command => command,
    };
    // One thread: a node is one task, and every hop between threads costs more than its work.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return output.fail(&Fail::new("RUNTIME", format!("cannot start: {error}")));
        }
    };
    let command = async {
        match command {
            Command::Id(command) => id::run(command, output),
            Command::Network(command) => network::run(command, output),
            Command::Token(command) => token::run(command, output),
            Command::Node(command) => node::run(command, output).await,
            Command::Serve(command) => serve::run(command, output).await,
            Command::Call(args) => {
                let fail =
                    Fail::new("INTERRUPTED", "interrupted (maybe executed)").executed("maybe");
                interrupted(call::run(args, output), fail).await
            }
            Command::Pub(args) => publish::run(args, output).await,
            Command::Sub(args) => subscribe::run(args, output).await,
            Command::Topic(command) => topic::run(command, output),
            Command::Service(command) => {
                interrupted(service::run(command, output), Fail::new("INTERRUPTED", "interrupted"))
                    .await
            }
            Command::Leader(command) => leader::run(command, output).await,
            Command::Peer(command) => {
                interrupted(peer::run(command, output), Fail::new("INTERRUPTED", "interrupted"))
                    .await
            }
            Command::Demo(args) => demo::run(args, output).await,
            Command::Bench(_) => unreachable!("it has returned above"),
        }
    };
    let result = until_output_is_gone(|| runtime.block_on(command));
    // Whatever still waits for standard input must not hold the program up.
    runtime.shutdown_background();
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(fail)) => output.fail(&fail),
        Err(code) => code,
    }
}

/// Runs a command that has nothing to finish when it is interrupted: a node that it runs is dropped with it, and says
/// goodbye to its peers.
async fn interrupted(
    command: impl Future<Output = Result<(), Fail>>,
    fail: Fail,
) -> Result<(), Fail> {
    let mut interrupts = interrupts::Interrupts::new()
        .map_err(|error| Fail::new("SIGNALS", format!("signals cannot be awaited: {error}")))?;
    tokio::select! {
        result = command => result,
        () = interrupts.next() => Err(fail),
    }
}

/// Help, the version, or what is wrong with the command line.
fn usage(error: clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let json = std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if is_answer || !json {
        // Nobody is left to tell if this fails.
        let _ = error.print();
        return ExitCode::from(if is_answer { 0 } else { 2 });
    }
    let message = error.render().to_string();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    Output::new(true).fail(&Fail::usage(message.trim_end()))
}

fn start_log(verbose: u8, json: bool) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        0 => "warn,dunlin_tokio::development=error",
        1 => "dunlin=info,dunlin_tokio=debug,dunlin_core=debug,warn",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("DUNLIN_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let is_colourful = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || LogWriter { json, colours: is_colourful })
        .with_ansi(is_colourful)
        // A reader that is gone is no reason to panic, which a message about it would do.
        .log_internal_errors(false);
    // A second logger in one process would be somebody else's; theirs stays.
    let _ = if json { log.json().try_init() } else { log.try_init() };
}
