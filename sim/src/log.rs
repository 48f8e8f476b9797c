//! The text log of one run: a line an event, in fixed columns.
//!
//! ```text
//!     12.345678s n1   │ ● │ :   peer up: n0 (2:5c1f)
//! ```
//!
//! They are the simulated time, the node, a column for each node, and what happened. `●` is the node that it
//! happened to, `│` one that runs, `‖` one that is paused, `:` one that is down. Of worlds with many nodes the line
//! has no such columns.

use std::io::Write;

use dunlin_core::{Event, PeerId};

use crate::checks::seconds;
use crate::station::name;

/// The most nodes that have columns of their own.
const COLUMNS_MAX: usize = 24;

/// What a node is doing, for its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Down,
    Running,
    Paused,
}

/// Where the lines go, if anywhere.
pub(crate) struct Log {
    out: Option<Box<dyn Write + Send>>,
    columns: Vec<Column>,
}

impl Log {
    pub(crate) fn new(out: Option<Box<dyn Write + Send>>) -> Self {
        Log { out, columns: Vec::new() }
    }

    /// A node is doing something else from now on.
    pub(crate) fn becomes(&mut self, node: usize, column: Column) {
        if self.is_on() {
            if self.columns.len() <= node {
                self.columns.resize(node + 1, Column::Down);
            }
            self.columns[node] = column;
        }
    }

    fn columns(&self, of: Option<usize>) -> String {
        if self.columns.len() > COLUMNS_MAX {
            return String::new();
        }
        let sign = |(node, column): (usize, &Column)| match column {
            _ if of == Some(node) => "● ",
            Column::Running => "│ ",
            Column::Paused => "‖ ",
            Column::Down => ": ",
        };
        self.columns.iter().enumerate().map(sign).collect()
    }

    /// Whether anybody reads it: whether a line is worth its making.
    pub(crate) fn is_on(&self) -> bool {
        self.out.is_some()
    }

    /// One line. A log that cannot be written is given up.
    pub(crate) fn line(&mut self, at: u64, node: Option<usize>, text: std::fmt::Arguments<'_>) {
        if !self.is_on() {
            return;
        }
        let columns = self.columns(node);
        let Some(out) = &mut self.out else { return };
        let node = node.map_or(String::new(), |node| format!("n{node}"));
        if writeln!(out, "{:>14} {node:<4} {columns} {text}", seconds(at)).is_err() {
            self.out = None;
        }
    }
}

/// Writes a line if anybody reads the log.
macro_rules! log {
    ($world:expr, $node:expr, $($text:tt)*) => {
        if $world.log.is_on() {
            $world.log.line($world.now, $node, format_args!($($text)*));
        }
    };
}
pub(crate) use log;

/// An event, for the log.
pub(crate) fn describe(peers: &[PeerId], event: &Event) -> String {
    match event {
        Event::PeerUp { peer, incarnation, .. } => {
            format!("peer up: {} ({incarnation:?})", name(peers, *peer))
        }
        Event::PeerDown { peer, reason } => format!("peer down: {}: {reason}", name(peers, *peer)),
        Event::PeerServices { peer } => format!("services of {} known", name(peers, *peer)),
        Event::PeerRefused { peer, why } => format!("refused by {}: {why}", name(peers, *peer)),
        Event::DialFailed { peer, error, retry_in } => {
            format!("dial to {} failed: {error}; again in {retry_in:?}", name(peers, *peer))
        }
        Event::LinkSuperseded { peer, loser, stays } => {
            format!("of two links to {}, {stays:?} stays, {loser:?} is drained", name(peers, *peer))
        }
        Event::LifeBegan { incarnation, told_by } => {
            format!("begins life {incarnation:?}: {} knew a later one", name(peers, *told_by))
        }
        Event::Leader { leader, token, .. } => {
            let who = leader.map_or("nobody that it knows".into(), |leader| name(peers, leader));
            let token = token.map_or(String::new(), |token| format!(", by token {token}"));
            format!("the active one is {who}{token}")
        }
        Event::AcceptorReady { .. } => "takes part as an acceptor".into(),
        Event::AcceptorsNamed { epoch, .. } => format!("knows the acceptors of epoch {epoch}"),
        Event::AcceptorsOutdated { epoch, .. } => format!("hears of acceptors of epoch {epoch}"),
        Event::StoreFailed { why } => format!("its store has failed: {why}"),
        Event::NewerSelf { told_by } => {
            format!("stops: {} knows a later life of it", name(peers, *told_by))
        }
        Event::PeerMisbehaved { peer, what } => {
            format!("{} misbehaved: {what}", name(peers, *peer))
        }
        Event::CallEnded { call, result: Ok(payload) } => {
            format!("call {} answered: {payload:?}", call.to_u64())
        }
        Event::CallEnded { call, result: Err(error) } => {
            format!("call {} failed: {error}", call.to_u64())
        }
        Event::NetworkLeft { peer, network, why } => {
            format!("{} is not in the network '{network}' any more: {why}", name(peers, *peer))
        }
        Event::NetworkEnded { network, why } => format!("network '{network}' has ended: {why}"),
        Event::Invoke(run) => {
            let from = run.caller.map_or("itself".to_string(), |caller| name(peers, caller));
            format!("runs {} for {from} (run {})", run.asked.path, run.invocation.to_u64())
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_have_a_column_for_each_node_and_say_who_is_down() {
        let page = Page::default();
        let mut log = Log::new(Some(Box::new(page.clone())));
        for node in 0..3 {
            log.becomes(node, Column::Running);
        }
        log.becomes(2, Column::Down);
        log.line(1_500_000_000, Some(1), format_args!("hears n0"));
        log.becomes(0, Column::Paused);
        log.line(61_000_000_000, None, format_args!("fault begins"));
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "     1.500000s n1   │ ● :  hears n0");
        assert_eq!(lines[1], "    61.000000s      ‖ │ :  fault begins");
    }
}
