//! `dunlin leader`: which instance of a single-active service is the active one.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use dunlin_tokio::PeerId;
use dunlin_tokio::control::{AcceptorsEntry, ServiceEntry};
use serde_json::{Value, json};

use crate::call::parse_duration;
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
        dunlin --json leader watch counter --interval 50ms")]
    Watch(WatchArgs),
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

/// Options of `dunlin leader watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse_duration)]
    interval: Duration,
}

/// What is known of one single-active service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Leader {
    /// The active instance, with its token.
    active: Option<((u64, u64), PeerId)>,
    standbys: Vec<PeerId>,
}

/// Runs `dunlin leader`.
pub(crate) async fn run(command: LeaderCommand, output: Output) -> Result<(), Fail> {
    match command {
        LeaderCommand::Show(args) => {
            visit(&args.visit, output, async |agent| {
                let leaders = leaders(&agent.services().await?, args.service.as_deref());
                if let (Some(service), true) = (&args.service, leaders.is_empty()) {
                    let what = format!("nobody who is known offers '{service}' as single-active");
                    return Err(Fail::new("NO_SUCH_SERVICE", what));
                }
                if leaders.is_empty() && !output.is_json() {
                    output.note("note", "no single-active services");
                }
                leaders.iter().for_each(|(service, leader)| say(service, leader, output));
                if args.service.is_none() {
                    agent.acceptors().await?.iter().for_each(|entry| say_acceptors(entry, output));
                }
                Ok(())
            })
            .await
        }
        LeaderCommand::Watch(args) => {
            visit(&args.which.visit, output, async |agent| watch(agent, &args, output).await).await
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

async fn watch(agent: &mut Agent, args: &WatchArgs, output: Output) -> Result<(), Fail> {
    let mut interrupts = Interrupts::new()
        .map_err(|error| Fail::new("SIGNALS", format!("signals cannot be awaited: {error}")))?;
    let mut known = BTreeMap::<String, Leader>::new();
    loop {
        let found = leaders(&agent.services().await?, args.which.service.as_deref());
        for (service, leader) in &found {
            if known.get(service) != Some(leader) {
                say(service, leader, output);
            }
        }
        for service in known.keys().filter(|service| !found.contains_key(*service)) {
            say(service, &Leader::default(), output);
        }
        known = found;
        tokio::select! {
            () = interrupts.next() => return Ok(()),
            () = tokio::time::sleep(args.interval) => {}
        }
    }
}

/// Who is active of each single-active service: of those that say so, the one with the highest token.
fn leaders(services: &[ServiceEntry], only: Option<&str>) -> BTreeMap<String, Leader> {
    let mut leaders = BTreeMap::<String, Leader>::new();
    let asked = |entry: &&ServiceEntry| {
        entry.single_active && only.is_none_or(|only| only == entry.service)
    };
    for entry in services.iter().filter(asked) {
        let leader = leaders.entry(entry.service.clone()).or_default();
        match entry.token.filter(|_| entry.state == "running") {
            Some(token) => leader.active = leader.active.max(Some((token, entry.peer))),
            None if entry.state == "standby" => leader.standbys.push(entry.peer),
            None => {}
        }
    }
    leaders
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

fn say(service: &str, leader: &Leader, output: Output) {
    let active = leader.active.as_ref();
    let token = active.map(|((epoch, round), _)| format!("{epoch}.{round}"));
    let who = match (active, &token) {
        (Some((_, peer)), Some(token)) => format!("{peer}  token {token}"),
        _ => "nobody".into(),
    };
    let standbys: Vec<String> = leader.standbys.iter().map(ToString::to_string).collect();
    let others = match standbys.is_empty() {
        true => String::new(),
        false => format!("  standing by: {}", standbys.join(", ")),
    };
    output.say(format!("{service:<24} {who}{others}"), || {
        let leader = active.map_or(Value::Null, |(_, peer)| json!(peer.to_string()));
        json!({ "event": "leader", "service": service, "leader": leader, "token": token,
            "standbys": standbys })
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u8, state: &str, token: Option<(u64, u64)>) -> ServiceEntry {
        ServiceEntry {
            peer: PeerId::from_bytes([number; 32]),
            service: "counter".into(),
            state: state.into(),
            single_active: true,
            token,
            version: String::new(),
            description: String::new(),
            selection: String::new(),
            actions: Vec::new(),
        }
    }

    #[test]
    fn of_two_that_say_that_they_are_active_the_later_one_is() {
        let services = [
            entry(1, "running", Some((1, 9))),
            entry(2, "standby", None),
            entry(3, "running", Some((2, 1))),
            entry(4, "paused", None),
        ];
        let found = leaders(&services, Some("counter"));
        let leader = &found["counter"];
        assert_eq!(leader.active, Some(((2, 1), PeerId::from_bytes([3; 32]))));
        assert_eq!(leader.standbys, [PeerId::from_bytes([2; 32])]);
        assert!(leaders(&services, Some("other")).is_empty());
        let plain = ServiceEntry { single_active: false, ..entry(1, "running", None) };
        assert!(leaders(&[plain], None).is_empty());
    }
}
