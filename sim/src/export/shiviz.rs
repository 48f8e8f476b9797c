//! A recording as a log for ShiViz (Beschastnikh et al., ACM Queue 14(2), 2016): each event with its vector clock.
//!
//! The first line is the expression by which ShiViz reads the rest, the second, empty here, parts executions: with
//! both in front a log needs no settings.

use std::fmt::Write;

use crate::recording::{Fate, Kind, Message, Recording};

/// How ShiViz reads an event: a line of what happened, a line of where, and of the clock.
const EXPRESSION: &str = r"(?<event>.*)\n(?<host>\S*) (?<clock>{.*})";

/// What happens at one node at one time.
enum Happening<'a> {
    Sends(usize, &'a Message),
    Gets(usize, &'a Message),
    Does(u16, &'a str),
}

/// The log. Keep-alives, heartbeats and packets with data, whose frames are there, are left out unless `upkeep` asks for
/// them; a message that nobody got is sent, and no more.
pub fn log(recording: &Recording, upkeep: bool) -> String {
    let is_upkeep = |kind: Kind| matches!(kind, Kind::KeepAlive | Kind::Heartbeat | Kind::QuicData);
    let wanted = |message: &&Message| upkeep || !is_upkeep(message.kind);
    let messages: Vec<&Message> = recording.messages.iter().filter(wanted).collect();
    // At one instant what is sent comes before what arrives: a message may take no time.
    let mut events: Vec<(u64, u8, Happening<'_>)> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        events.push((message.at, 0, Happening::Sends(index, message)));
        if !matches!(message.fate, Fate::Lost | Fate::Unheard) {
            events.push((message.at + message.took, 1, Happening::Gets(index, message)));
        }
    }
    events.extend(recording.marks.iter().map(|m| (m.at, 2, Happening::Does(m.node, &m.what))));
    events.sort_by_key(|(at, order, _)| (*at, *order));
    let mut clocks = vec![vec![0u64; usize::from(recording.nodes)]; usize::from(recording.nodes)];
    let mut sent: Vec<Option<Vec<u64>>> = vec![None; messages.len()];
    let mut text = format!("{EXPRESSION}\n\n");
    for (at, _, happening) in events {
        let seconds = at as f64 / 1e9;
        let (node, what) = match happening {
            Happening::Sends(index, message) => {
                let from = usize::from(message.from);
                clocks[from][from] += 1;
                sent[index] = Some(clocks[from].clone());
                let fate = if message.fate == Fate::Unheard { "; nobody was there" } else { "" };
                let what = format!(
                    "sends {} to n{}: {}{fate}",
                    name(message.kind),
                    message.to,
                    message.what
                );
                (from, what)
            }
            Happening::Gets(index, message) => {
                let to = usize::from(message.to);
                let theirs = sent[index].take().expect("it was sent before");
                for (mine, theirs) in clocks[to].iter_mut().zip(theirs) {
                    *mine = theirs.max(*mine);
                }
                clocks[to][to] += 1;
                (
                    to,
                    format!("gets {} from n{}: {}", name(message.kind), message.from, message.what),
                )
            }
            Happening::Does(node, what) => {
                let node = usize::from(node);
                clocks[node][node] += 1;
                (node, what.replace('\n', " "))
            }
        };
        let known = clocks[node].iter().enumerate().filter(|(_, count)| **count > 0);
        let clock: Vec<String> = known.map(|(n, count)| format!("\"n{n}\":{count}")).collect();
        let _ = writeln!(text, "{seconds:.6} {what}\nn{node} {{{}}}", clock.join(","));
    }
    text
}

/// The name of a kind, as everywhere.
fn name(kind: Kind) -> String {
    let name = serde_json::to_value(kind).expect("a kind is a word");
    name.as_str().expect("a kind is a word").to_string()
}
