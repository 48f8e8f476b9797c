//! `dunlin call`: call once, through the node on this machine or as a client of our own, print the answer.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use dunlin_core::service::ContentType;
use dunlin_core::topic::TopicPath;
use dunlin_tokio::control::CallQuestion;
use dunlin_tokio::{ConnectError, Node, PeerId, PeerInfo};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::output::{Fail, Output, with_payload};
use crate::visit::{Agent, Visit};

/// Options of `dunlin call`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    dunlin call echo/say '\"hi\"'          (through the node that runs on this machine)\n  \
    dunlin call --peer ID@127.0.0.1:4400 echo/say '\"hi\"'\n  \
    dunlin call --peer ID@127.0.0.1:4400 math/add '[1, 2]'\n  \
    dunlin call --peer ID@127.0.0.1:4400 --raw tools/upper 'some text'\n  \
    dunlin call --peer ID@127.0.0.1:4400 --raw tools/upper - < file\n  \
    dunlin call --peer ID@127.0.0.1:4400 --key a.key --network shop/network --token a.token \\\n    \
        orders/list\n\n\
    A failed call says whether the handler has run: not executed, maybe executed, executed.")]
pub(crate) struct CallArgs {
    #[command(flatten)]
    visit: Visit,
    /// Only this peer is to serve the call
    #[arg(long, value_name = "ID")]
    to: Option<PeerId>,
    /// If no answer has come after this time, ask another instance too, and take the first answer. The call must be
    /// one that may run twice [example: 50ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "to")]
    hedge: Option<Duration>,
    /// Fail where no instance serves the path at the moment. Without this the call waits, within its time, while a peer is
    /// being dialled that may serve it, and while no instance of a single-active service is active
    #[arg(long)]
    no_wait: bool,
    /// The argument is bytes without a meaning
    #[arg(long, conflicts_with = "json_arg")]
    raw: bool,
    /// The argument is JSON (as without --raw)
    #[arg(long)]
    json_arg: bool,
    /// What to call: SERVICE/ACTION, or NETWORK:SERVICE/ACTION
    path: String,
    /// The argument; - reads it from standard input; without it, null
    #[arg(value_name = "ARG", allow_hyphen_values = true)]
    argument: Option<String>,
}

/// Reads `500ms`, `10s`, `2m`, `1h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("a time needs a unit: 500ms, 10s, 2m, 1h".into()),
    };
    let number: f64 = number.parse().map_err(|_| format!("'{number}' is not a number"))?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("it must be more than nothing and less than for ever".into()),
    }
}

/// Runs `dunlin call`.
pub(crate) async fn run(args: CallArgs, output: Output) -> Result<(), Fail> {
    let path = TopicPath::parse(&args.path)
        .map_err(|error| Fail::usage(format!("the path '{}': {error}", args.path)))?;
    if let Some(to) = args.to
        && !args.visit.peers.is_empty()
        && args.visit.peers.iter().all(|peer| peer.peer != to)
    {
        return Err(Fail::usage(format!(
            "--to {to}: none of the peers given with --peer has this id"
        )));
    }
    let (content, argument) = argument("argument", args.argument.as_deref(), args.raw).await?;
    let question = CallQuestion {
        path: args.path.clone(),
        to: args.to,
        timeout_ms: args.visit.timeout.as_millis() as u64,
        hedge_ms: args.hedge.map(|after| after.as_millis() as u64),
        at_once: args.no_wait,
        content: content.0,
    };
    if let Some(agent) = args.visit.local().await? {
        return call(agent, question, argument, output).await;
    }
    let node = args.visit.join(output).await?;
    let result = match connect(&node, &args, &path, output).await {
        // Whoever is there may only stand by: the one that is active is among the others then.
        Ok(mut others) => {
            let go_on = async {
                while next(&mut others).await.is_some() {}
                std::future::pending::<()>().await;
            };
            tokio::select! {
                result = call(Agent::Joined(node.operator()), question, argument, output) => result,
                () = go_on => unreachable!("it is pending"),
            }
        }
        Err(fail) => Err(fail),
    };
    let left = node.shutdown().await;
    result?;
    Ok(left?)
}

/// What is to be sent, as it was given: `what` says what it is.
pub(crate) async fn argument(
    what: &str,
    given: Option<&str>,
    raw: bool,
) -> Result<(ContentType, Bytes), Fail> {
    let bytes = match given {
        None if raw => Vec::new(),
        None => b"null".to_vec(),
        Some("-") => {
            let mut bytes = Vec::new();
            let read = tokio::io::stdin().read_to_end(&mut bytes).await;
            read.map_err(|error| Fail::new("IO", format!("cannot read the {what}: {error}")))?;
            bytes
        }
        Some(text) => text.as_bytes().to_vec(),
    };
    if raw {
        return Ok((ContentType::RAW, bytes.into()));
    }
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        return Err(Fail::usage(format!(
            "the {what} is not JSON: {error}. A text needs its own quotes, '\"like this\"'; --raw \
             sends bytes as they are"
        )));
    }
    Ok((ContentType::JSON, bytes.into()))
}

async fn call(
    mut agent: Agent,
    question: CallQuestion,
    argument: Bytes,
    output: Output,
) -> Result<(), Fail> {
    let answer = agent.call(question, argument).await?;
    let (content, bytes) = (answer.content, answer.bytes);
    let elapsed_us = answer.elapsed.as_micros() as u64;
    if !output.is_json() {
        output.payload(&bytes);
        if content == ContentType::JSON {
            output.bytes(b"\n");
        }
        return Ok(());
    }
    let object = json!({ "content": content.to_string(), "elapsed_us": elapsed_us });
    output.say("", || with_payload(object, ["answer", "answer_base64"], content, &bytes));
    Ok(())
}

/// A peer that is being connected to.
type Attempt<'a> = Pin<Box<dyn Future<Output = Result<PeerInfo, ConnectError>> + 'a>>;

/// The next attempt that ends, whichever that is. None if none is left.
async fn next(attempts: &mut Vec<Attempt<'_>>) -> Option<Result<PeerInfo, ConnectError>> {
    std::future::poll_fn(|cx| {
        for index in 0..attempts.len() {
            if let Poll::Ready(result) = attempts[index].as_mut().poll(cx) {
                drop(attempts.swap_remove(index));
                return Poll::Ready(Some(result));
            }
        }
        if attempts.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// Connects to the peers until one that will do is there, or none is left. The attempts that go on.
async fn connect<'a>(
    node: &'a Node,
    args: &CallArgs,
    path: &TopicPath,
    output: Output,
) -> Result<Vec<Attempt<'a>>, Fail> {
    let timeout = args.visit.timeout;
    let attempt = |peer| Box::pin(node.connect_within(peer, timeout)) as Attempt<'a>;
    let mut attempts: Vec<Attempt<'a>> = args.visit.peers.iter().cloned().map(attempt).collect();
    let mut errors = Vec::new();
    let mut connected = false;
    // Who asks a second instance needs one.
    let mut wanted = if args.hedge.is_some() { 2 } else { 1 };
    while let Some(ended) = next(&mut attempts).await {
        match ended {
            Ok(peer) => {
                connected = true;
                let serves = peer
                    .services
                    .iter()
                    .flat_map(|s| &s.actions)
                    .any(|action| action.matches(path));
                if args.to.map_or(serves, |wanted| wanted == peer.peer) {
                    wanted -= 1;
                }
                if wanted == 0 {
                    return Ok(attempts);
                }
            }
            Err(error) => errors.push(error),
        }
    }
    if connected && args.to.is_none() {
        // The call itself will say best what is missing.
        for error in errors {
            output.note("warning", error.to_string());
        }
        return Ok(attempts);
    }
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Err(Fail::new("CONNECT", errors.join("; ")).executed("no"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["10", "s", "-1s", "0s", "1d", "", "NaNs", "1e400s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
