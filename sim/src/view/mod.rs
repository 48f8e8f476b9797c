//! A recording as one HTML file: a space-time diagram that opens without a network.
//!
//! ```text
//! page.html    the frame, and the policy that nothing is fetched
//! style.css    how it looks, light and dark
//! data.js      reads the data, and puts things into words
//! draw.js      the diagram and the strip beside it
//! controls.js  zoom, pan, play, filters, search, detail
//! ```
//!
//! The data is JSON in columns: times in whole microseconds, those of messages as steps from one to the next, words
//! by their place in one list. A message takes about 25 bytes.

use std::collections::HashMap;

use serde::Serialize;

use crate::recording::{About, Doing, Ending, Fate, FaultSpan, Kind, LeftOut, Recording, Summary};

/// What a browser reads; see `data.js`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    summary: &'a Summary,
    end: u64,
    healed: i64,
    nodes: u16,
    kinds: Vec<KindName>,
    groups: [&'static str; 6],
    abouts: [About; 7],
    messages: Messages,
    marks: Marks,
    lives: Vec<(u16, u32, u64, i64, &'a str)>,
    pauses: Vec<(u16, u64, i64)>,
    links: Vec<(u16, u16, u64, u64, i64)>,
    leases: Vec<(u16, u32, &'a str, u64, i64)>,
    operations: Vec<Operation>,
    faults: Vec<FaultSpan>,
    breaches: Vec<Breach<'a>>,
    left_out: LeftOut,
    strings: Vec<&'a str>,
}

#[derive(Serialize)]
struct KindName {
    name: Kind,
    group: &'static str,
}

#[derive(Default, Serialize)]
struct Messages {
    at: Vec<u64>,
    from: Vec<u16>,
    to: Vec<u16>,
    took: Vec<u64>,
    kind: Vec<u8>,
    fate: Vec<u8>,
    bytes: Vec<u32>,
    link: Vec<i64>,
    what: Vec<usize>,
}

#[derive(Default, Serialize)]
struct Marks {
    at: Vec<u64>,
    node: Vec<u16>,
    about: Vec<u8>,
    what: Vec<usize>,
}

/// Kind, token, node, from, until, ending, what, result, seen.
type Operation = (Doing, u64, u16, u64, i64, Ending, usize, usize, Vec<(u16, u64)>);

#[derive(Serialize)]
struct Breach<'a> {
    at: u64,
    node: i64,
    rule: &'a str,
    what: &'a str,
}

/// The group of a kind: the words and colours of the page.
fn group(kind: Kind) -> &'static str {
    match kind {
        Kind::Call | Kind::Reply | Kind::Cancel => "calls",
        Kind::Event | Kind::EventsFrom | Kind::EventsSkipped | Kind::EventAck => "events",
        Kind::KeepAlive | Kind::Heartbeat | Kind::Lease => "upkeep",
        Kind::Directory | Kind::Heard => "directory",
        Kind::QuicData => "packets",
        Kind::Dial
        | Kind::DialAnswer
        | Kind::DialDone
        | Kind::Close
        | Kind::Reset
        | Kind::Hello
        | Kind::Claims
        | Kind::Confirm
        | Kind::Refuse
        | Kind::Supersede
        | Kind::Drained
        | Kind::Cut
        | Kind::Unreadable
        | Kind::QuicInitial
        | Kind::QuicHandshake
        | Kind::QuicRetry => "links",
    }
}

/// Words by their place in a list, each once.
#[derive(Default)]
struct Words<'a> {
    list: Vec<&'a str>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Words<'a> {
    fn place(&mut self, words: &'a str) -> usize {
        *self.places.entry(words).or_insert_with(|| {
            self.list.push(words);
            self.list.len() - 1
        })
    }
}

fn us(nanos: u64) -> u64 {
    nanos / 1_000
}

fn us_or_none(nanos: Option<u64>) -> i64 {
    nanos.map_or(-1, |nanos| us(nanos) as i64)
}

/// Gives each time as the step from the one before.
fn steps() -> impl FnMut(u64) -> u64 {
    let mut before = 0;
    move |nanos| us(nanos) - std::mem::replace(&mut before, us(nanos))
}

fn data(recording: &Recording) -> String {
    let mut words = Words::default();
    let mut messages = Messages::default();
    let mut step = steps();
    for message in &recording.messages {
        messages.at.push(step(message.at));
        messages.from.push(message.from);
        messages.to.push(message.to);
        messages.took.push(us(message.took));
        messages.kind.push(message.kind as u8);
        messages.fate.push(match message.fate {
            Fate::Arrived => 0,
            Fate::Lost => 1,
            Fate::Unheard => 2,
            Fate::Waited => 3,
            Fate::Damaged => 4,
        });
        messages.bytes.push(message.bytes);
        messages.link.push(message.link.map_or(-1, i64::from));
        messages.what.push(words.place(&message.what));
    }
    let mut marks = Marks::default();
    let mut step = steps();
    for mark in &recording.marks {
        marks.at.push(step(mark.at));
        marks.node.push(mark.node);
        marks.about.push(mark.about as u8);
        marks.what.push(words.place(&mark.what));
    }
    let operations = recording.operations.iter().map(|operation| {
        let (what, result) = (words.place(&operation.what), words.place(&operation.result));
        let seen = operation.seen.iter().map(|(node, at)| (*node, us(*at))).collect();
        let (from, until) = (us(operation.from), us_or_none(operation.until));
        let (doing, token, node) = (operation.doing, operation.token, operation.node);
        (doing, token, node, from, until, operation.ending, what, result, seen)
    });
    let operations = operations.collect();
    let lives = recording.lives.iter();
    let pauses = recording.pauses.iter();
    let links = recording.links.iter();
    let leases = recording.leases.iter();
    let faults = recording.faults.iter().map(|fault| FaultSpan {
        from: us(fault.from),
        until: Some(us(fault.until.unwrap_or(recording.end))),
        ..fault.clone()
    });
    let breaches = recording.breaches.iter().map(|breach| Breach {
        at: us(breach.at),
        node: breach.node.map_or(-1, i64::from),
        rule: &breach.rule,
        what: &breach.what,
    });
    let kinds = Kind::ALL.into_iter().map(|name| KindName { name, group: group(name) });
    let page = Page {
        summary: &recording.summary,
        end: us(recording.end),
        healed: us_or_none(recording.healed_at),
        nodes: recording.nodes,
        kinds: kinds.collect(),
        groups: ["calls", "events", "links", "directory", "packets", "upkeep"],
        abouts: About::ALL,
        messages,
        marks,
        lives: lives
            .map(|l| (l.node, l.life, us(l.from), us_or_none(l.until), l.end.as_str()))
            .collect(),
        pauses: pauses.map(|p| (p.node, us(p.from), us_or_none(p.until))).collect(),
        links: links.map(|l| (l.node, l.peer, l.link, us(l.from), us_or_none(l.until))).collect(),
        leases: leases
            .map(|l| (l.node, l.life, l.token.as_str(), us(l.from), us_or_none(l.until)))
            .collect(),
        operations,
        faults: faults.collect(),
        breaches: breaches.collect(),
        left_out: LeftOut { before: us(recording.left_out.before), ..recording.left_out },
        strings: words.list,
    };
    let json = serde_json::to_string(&page).expect("plain data");
    // Inside of a page no word may end the element that it is in.
    json.replace('<', "\\u003c")
}

/// The whole page, which needs nothing else.
pub fn page(recording: &Recording) -> String {
    let mut page = String::new();
    let mut rest = include_str!("page.html");
    while let Some((before, from)) = rest.split_once("{{") {
        let (name, after) = from.split_once("}}").expect("what is opened is closed");
        page += before;
        match name {
            "title" => page += &format!("Dunlin, seed {}", recording.summary.seed),
            "style" => page += include_str!("style.css"),
            "data" => page += &data(recording),
            "script" => {
                page += include_str!("data.js");
                page += include_str!("draw.js");
                page += include_str!("controls.js");
            }
            other => unreachable!("the page asks for {other}"),
        }
        rest = after;
    }
    page + rest
}
