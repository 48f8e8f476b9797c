//! `dunlin leader`: which instance of a single-active service is the active one.

use clap::{Args, Subcommand};
use dunlin_tokio::PeerId;
use dunlin_tokio::control::{AcceptorsEntry, LeaderEntry};
use serde_json::{Value, json};

use crate::interrupts::Interrupts;
use crate::output::{Fail, Output};
use crate::setup::given_up;
use crate::visit::{Agent, Visit, visit};

/// Subcommands of `dunlin leader`.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaderCommand {
    /// Show who is active and who stands by, of each single-active service or of one, and who decides
    ///
    /// Without a service also the epoch of the acceptors of each of the node's networks, and whether a change of them is
    /// under way.
    #[command(after_help = "Examples:\n  \
        dunlin leader show\n  \
        dunlin leader show counter\n  \
        dunlin --json leader show --peer ID@127.0.0.1:4400 counter")]
    Show(WhichArgs),
    /// Print who is active whenever that changes, until it is interrupted
    #[command(after_help = "Examples:\n  \
        dunlin leader watch\n  \
        dunlin --json leader watch counter")]
    Watch(WhichArgs),
    /// Have the active instance on the node on this machine let another one be active
    ///
    /// It is deactivated first, and waits for its turn again after two seconds.
    #[command(after_help = "Examples:\n  \
        dunlin leader stepdown counter\n  \
        dunlin leader stepdown counter --control PATH")]
    Stepdown {
        #[command(flatten)]
        visit: Visit,
        /// The service's path
        service: String,
    },
}

/// Which services.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    #[command(flatten)]
    visit: Visit,
    /// Only the service with this path
    service: Option<String>,
}

/// Runs `dunlin leader`.
pub(crate) async fn run(command: LeaderCommand, output: Output) -> Result<(), Fail> {
    match command {
        LeaderCommand::Show(args) => {
            visit(&args.visit, output, async |agent| {
                let leaders = LeaderEntry::of(&agent.services().await?, args.service.as_deref());
                if let (Some(service), true) = (&args.service, leaders.is_empty()) {
                    let what = format!("nobody who is known offers '{service}' as single-active");
                    return Err(Fail::new("NO_SUCH_SERVICE", what));
                }
                if leaders.is_empty() && !output.is_json() {
                    output.note("note", "no single-active services");
                }
                if args.service.is_none() {
                    agent.acceptors().await?.iter().for_each(|entry| say_acceptors(entry, output));
                }
                leaders.iter().for_each(|leader| say(leader, output));
                if agent.is_joined() && leaders.iter().any(|entry| entry.leader.is_none()) {
                    output.note(
                        "note",
                        "whoever is not among the peers given with --peer is not seen",
                    );
                }
                Ok(())
            })
            .await
        }
        LeaderCommand::Watch(args) => {
            visit(&args.visit, output, async |agent| watch(agent, &args, output).await).await
        }
        LeaderCommand::Stepdown { visit: args, service } => {
            visit(&args, output, async |agent| {
                agent.step_down(&service).await?;
                output.say(
                    format!("'{service}' gives way"),
                    || json!({ "event": "step_down", "service": service }),
                );
                Ok(())
            })
            .await
        }
    }
}

async fn watch(agent: &mut Agent, args: &WhichArgs, output: Output) -> Result<(), Fail> {
    let mut interrupts = Interrupts::new()
        .map_err(|error| Fail::new("SIGNALS", format!("signals cannot be awaited: {error}")))?;
    let mut leaders = agent.watch_leaders(args.service.clone()).await?;
    loop {
        tokio::select! {
            () = interrupts.next() => return Ok(()),
            leader = leaders.next() => match leader? {
                Some(leader) => say(&leader, output),
                None => return Err(Fail::new("ENDED", "the node that told it has stopped")),
            },
        }
    }
}

/// How it stands with those who decide, as far as it is not as usual: with --json always.
fn say_acceptors(entry: &AcceptorsEntry, output: Output) {
    if output.is_json() {
        return output.say("", || {
            json!({ "event": "acceptors", "network": entry.network, "epoch": entry.epoch,
                "state": entry.state, "waits_for": entry.waits_for,
                "abandoned": entry.abandoned, "later": entry.later })
        });
    }
    let AcceptorsEntry { network, epoch, .. } = entry;
    let mut words = format!("acceptors of {network:.12}…, epoch {epoch}");
    words += match &*entry.state {
        "ready" => ": this node takes part",
        "waits" => ": a change is under way; this node waits until those before it are sealed",
        "abstains" => ": this node does not take part yet",
        _ => "",
    };
    if !entry.waits_for.is_empty() {
        words += &format!(" (no majority of epoch {:?} yet)", entry.waits_for);
    }
    output.say(words, || Value::Null);
    if let Some(later) = entry.later {
        let what =
            format!("there are acceptors of epoch {later}: this node needs a newer descriptor");
        output.note("WARNING", what);
    }
    if !entry.abandoned.is_empty() {
        output.note("WARNING", given_up(&entry.abandoned));
    }
}

fn say(entry: &LeaderEntry, output: Output) {
    let token = entry.token.map(|(epoch, round)| format!("{epoch}.{round}"));
    let mut words = match (&entry.leader, &token) {
        (Some(peer), Some(token)) => format!("{:<24} {peer}  token {token}", entry.service),
        _ => format!("{:<24} nobody", entry.service),
    };
    let texts = |peers: &[PeerId]| peers.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (standbys, paused) = (texts(&entry.standbys), texts(&entry.paused));
    for (what, peers) in [("standing by", &standbys), ("paused", &paused)] {
        if !peers.is_empty() {
            words += &format!("  {what}: {}", peers.join(", "));
        }
    }
    output.say(words, || {
        let leader = entry.leader.map(|peer| peer.to_string());
        json!({ "event": "leader", "service": entry.service, "leader": leader, "token": token,
            "standbys": standbys, "paused": paused })
    });
}
