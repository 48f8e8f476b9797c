//! `dunlin pub`: publish an event, through the node on this machine or as a client of our own.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use dunlin_core::topic::TopicPath;
use dunlin_tokio::PeerId;
use dunlin_tokio::control::{PublishQuestion, PublishedEntry};
use serde_json::json;

use crate::call::{argument, parse_duration};
use crate::interrupts::Interrupts;
use crate::output::{Fail, Output};
use crate::visit::{Agent, Visit, visit};

/// Options of `dunlin pub`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    dunlin pub orders/created '{\"id\": 17}'     (through the node that runs on this machine)\n  \
    dunlin pub orders/created - < order.json\n  \
    dunlin pub --peer ID@127.0.0.1:4400 --raw log/line 'some text'\n  \
    dunlin pub orders/created 17 --wait 5s     (fails unless all who subscribe have it)\n  \
    dunlin --json pub orders/created 17 --count 3\n\n\
    All subscribers of the topic get it, and of each group one member: see `dunlin help sub`. An event that \
    nobody subscribes to is gone.")]
pub(crate) struct PubArgs {
    #[command(flatten)]
    visit: Visit,
    /// Publish it so many times, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Of subscribers that belong to a service, only one for each service gets it
    #[arg(long)]
    one_per_service: bool,
    /// Only subscribers of this peer get it
    #[arg(long, value_name = "ID")]
    to: Option<PeerId>,
    /// Only subscribers of the node on this machine get it
    #[arg(long, conflicts_with_all = ["peers", "to"])]
    local: bool,
    /// Wait so long for all who subscribe to have it, and say who has: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// The payload is bytes without a meaning. Without this, it is JSON
    #[arg(long)]
    raw: bool,
    /// The topic: SEGMENT/SEGMENT, or NETWORK:SEGMENT/SEGMENT
    topic: String,
    /// The payload; - reads it from standard input; without it, null
    #[arg(value_name = "PAYLOAD", allow_hyphen_values = true)]
    payload: Option<String>,
}

/// Runs `dunlin pub`.
pub(crate) async fn run(args: PubArgs, output: Output) -> Result<(), Fail> {
    TopicPath::parse(&args.topic)
        .map_err(|error| Fail::usage(format!("the topic '{}': {error}", args.topic)))?;
    let (content, payload) = argument("payload", args.payload.as_deref(), args.raw).await?;
    let question = PublishQuestion {
        topic: args.topic.clone(),
        content: content.0,
        to: args.to,
        local: args.local,
        one_per_service: args.one_per_service,
        confirm_within_ms: args.wait.map(|wait| wait.as_millis() as u64),
    };
    visit(&args.visit, output, async |agent| {
        publish(agent, &args, &question, payload, output).await
    })
    .await
}

async fn publish(
    agent: &mut Agent,
    args: &PubArgs,
    question: &PublishQuestion,
    payload: Bytes,
    output: Output,
) -> Result<(), Fail> {
    let mut interrupts = Interrupts::new()
        .map_err(|error| Fail::new("SIGNAL", format!("cannot wait for Ctrl-C: {error}")))?;
    let mut unconfirmed = 0;
    for done in 0..args.count {
        let published = tokio::select! {
            published = agent.publish(question.clone(), payload.clone()) => published?,
            () = interrupts.next() => {
                let count = args.count;
                let message = format!("interrupted after {done} of {count} events were published");
                return Err(Fail::new("INTERRUPTED", message));
            }
        };
        unconfirmed += u64::from(published.outcome.is_some_and(|outcome| !outcome.complete));
        output.say(words(&args.topic, &published), || json!(published));
    }
    match unconfirmed {
        0 => Ok(()),
        _ => Err(Fail::new(
            "UNCONFIRMED",
            format!(
                "of {unconfirmed} of {} events it is not known that all who subscribe have it; see above",
                args.count
            ),
        )),
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn words(topic: &str, published: &PublishedEntry) -> String {
    let mut parts = Vec::new();
    let mut part = |count: u64, one: &str, many: &str, rest: &str| {
        if count > 0 {
            parts.push(format!("{}{rest}", counted(count, one, many)));
        }
    };
    part(published.local as u64, "subscriber", "subscribers", " of the node itself");
    match published.outcome {
        None => {
            part(published.peers as u64, "peer", "peers", "");
            part(published.groups as u64, "group", "groups", "");
        }
        Some(outcome) => {
            part(outcome.acknowledged.into(), "peer has it", "peers have it", "");
            part(outcome.groups_served.into(), "group has it", "groups have it", "");
            part(outcome.lost.into(), "peer", "peers", " of which it is not known");
            part(outcome.groups_lost.into(), "group", "groups", " of which it is not known");
            part(outcome.undecided.into(), "peer or group", "peers or groups", " had not answered");
        }
    }
    part(published.passed_over as u64, "peer", "peers", " passed over: too slow");
    let whom = if parts.is_empty() { "nobody subscribes".into() } else { parts.join(", ") };
    format!("{topic} #{}: {whom}", published.sequence)
}
