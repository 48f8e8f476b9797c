//! `dunlin sub`: print events as they come, from the node on this machine or as a client of our own.

use bytes::Bytes;
use clap::Args;
use data_encoding::BASE64;
use dunlin_core::service::ContentType;
use dunlin_core::topic::Pattern;
use dunlin_tokio::control::{EventEntry, Item, SubscribeQuestion};
use serde_json::json;

use crate::interrupts::Interrupts;
use crate::output::{Fail, Output, WithPayload, with_payload};
use crate::visit::{Agent, Flow, Visit, visit};

/// Options of `dunlin sub`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    dunlin sub 'orders/*'                      (through the node that runs on this machine)\n  \
    dunlin sub --peer ID@127.0.0.1:4400 'orders/>'\n  \
    dunlin sub 'jobs/>' --group workers        (of all who are in the group, one gets each event)\n  \
    dunlin --json sub 'orders/{shop}/created' | jq .payload\n  \
    dunlin sub --raw --count 1 log/line\n\n\
    In a pattern * is any one segment, {name} too, and > at its end is one or more. The shell knows * and >, so \
    put the pattern into quotes. It ends with Ctrl-C, or after --count events. With Ctrl-C it takes no more, and prints \
    what has come first; a second one ends it at once.")]
pub(crate) struct SubArgs {
    #[command(flatten)]
    visit: Visit,
    /// Join a group: of its members, on all nodes, one gets each event
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// If it is not known what became of an event, another member of the group gets it too
    #[arg(long, requires = "group")]
    at_least_one: bool,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print payloads alone, as they are
    #[arg(long)]
    raw: bool,
    /// Which topics
    pattern: String,
}

/// Runs `dunlin sub`.
pub(crate) async fn run(args: SubArgs, output: Output) -> Result<(), Fail> {
    Pattern::parse(&args.pattern)
        .map_err(|error| Fail::usage(format!("the pattern '{}': {error}", args.pattern)))?;
    if args.raw && output.is_json() {
        return Err(Fail::usage("--raw and --json exclude each other"));
    }
    visit(&args.visit, output, async |agent| subscribe(agent, &args, output).await).await
}

async fn subscribe(agent: &mut Agent, args: &SubArgs, output: Output) -> Result<(), Fail> {
    let mut interrupts = Interrupts::new()
        .map_err(|error| Fail::new("SIGNAL", format!("cannot wait for Ctrl-C: {error}")))?;
    let question = SubscribeQuestion {
        pattern: args.pattern.clone(),
        group: args.group.clone(),
        at_least_one: args.at_least_one,
        count: args.count,
    };
    let mut flow = tokio::select! {
        flow = agent.subscribe(question) => flow?,
        () = interrupts.next() => return Ok(()),
    };
    // To stderr: whoever waits for the first event is told from when on it would come.
    output.note("note", format!("subscribed to {}; Ctrl-C ends it", args.pattern));
    if !flow.is_known() {
        output.note("warning", "a peer is slow: what it publishes at once may not come");
    }
    let (mut left, mut leaves) = (args.count, false);
    while left != Some(0) {
        let item = tokio::select! {
            item = flow.next() => item?,
            // What has come is its own to handle, as nobody gets it again. Unless it takes too long.
            () = interrupts.next() => {
                if std::mem::replace(&mut leaves, true) {
                    break;
                }
                flow.leave().await?;
                continue;
            }
        };
        match item {
            None if leaves => break,
            None => return Err(ended(&flow)),
            Some(Item::Missed(missed)) => output.note(
                "warning",
                format!(
                    "at most {} events of {} did not come: {}",
                    missed.count,
                    missed.publisher,
                    match missed.why.as_str() {
                        "queue-full" => "they were not read fast enough here",
                        "passed-over" =>
                            "the node was too slow for longer than the publisher waited",
                        "interrupted" => "the publisher lost sight of the node",
                        other => other,
                    }
                ),
            ),
            Some(Item::Event(event, payload)) => {
                left = left.map(|left| left - 1);
                if args.raw {
                    output.payload(&payload);
                } else {
                    output.say(line(&event, &payload), || object(&event, &payload));
                }
            }
        }
    }
    flow.stop().await
}

fn ended(flow: &Flow<'_>) -> Fail {
    match flow {
        Flow::Joined(_) => Fail::new("ENDED", "the node has ended"),
        Flow::Local(_) => Fail::new("ENDED", "the node on this machine has stopped"),
    }
}

/// A line for people: nothing in the payload ends it or reaches the terminal as a command.
fn line(event: &EventEntry, payload: &Bytes) -> String {
    let mark = if event.redelivered { " (again)" } else { "" };
    let payload = match std::str::from_utf8(payload) {
        Err(_) => format!("base64:{}", BASE64.encode(payload)),
        Ok(text) => text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
            match c.is_control() {
                true => line.extend(c.escape_default()),
                false => line.push(c),
            }
            line
        }),
    };
    format!("{}{mark}  {payload}", event.topic)
}

fn object(event: &EventEntry, payload: &Bytes) -> WithPayload {
    let content = ContentType(event.content);
    let object = json!({
        "topic": event.topic,
        "publisher": event.publisher.to_string(),
        "boot": event.boot,
        "sequence": event.sequence,
        "content": content.to_string(),
        "redelivered": event.redelivered,
    });
    with_payload(object, ["payload", "payload_base64"], content, payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(content: ContentType) -> EventEntry {
        let publisher = dunlin_tokio::key::generate().id();
        let topic = "a/b".into();
        EventEntry {
            topic,
            publisher,
            boot: 1,
            sequence: 2,
            content: content.0,
            redelivered: false,
        }
    }

    #[test]
    fn a_payload_stays_on_its_line_and_out_of_the_terminal() {
        let raw = event(ContentType::RAW);
        let shown = |bytes: &'static [u8]| line(&raw, &Bytes::from_static(bytes));
        assert_eq!(shown("grüße".as_bytes()), "a/b  grüße");
        assert_eq!(shown(b"1\n2\x1b[2J"), "a/b  1\\n2\\u{1b}[2J");
        assert_eq!(shown(&[0xff]), "a/b  base64:/w==");
        let again = EventEntry { redelivered: true, ..raw.clone() };
        assert_eq!(line(&again, &Bytes::from("x")), "a/b (again)  x");
    }

    #[test]
    fn an_object_has_the_payload_as_what_it_is() {
        let shown = |content, bytes: &'static [u8]| {
            json!(object(&event(content), &Bytes::from_static(bytes)))
        };
        assert_eq!(shown(ContentType::JSON, b"{\"a\": 1}")["payload"], json!({"a": 1}));
        assert_eq!(shown(ContentType::JSON, b"no json")["payload"], "no json");
        assert_eq!(shown(ContentType::RAW, b"1")["payload"], "1");
        assert_eq!(shown(ContentType::RAW, &[0xff])["payload_base64"], "/w==");
    }
}
