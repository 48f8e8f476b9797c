//! The text log of one run: a line an event, with its simulated time and its node.

use std::io::Write;

use dunlin_core::{Event, PeerId};

use crate::checks::seconds;
use crate::station::name;

/// Where the lines go, if anywhere.
pub(crate) struct Log(Option<Box<dyn Write + Send>>);

impl Log {
    pub(crate) fn new(out: Option<Box<dyn Write + Send>>) -> Self {
        Log(out)
    }

    /// Whether anybody reads it: whether a line is worth its making.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// One line. A log that cannot be written is given up.
    pub(crate) fn line(&mut self, at: u64, node: Option<usize>, text: std::fmt::Arguments<'_>) {
        let Some(out) = &mut self.0 else { return };
        let node = node.map_or(String::new(), |node| format!("n{node}"));
        if writeln!(out, "{:>14} {node:<4} {text}", seconds(at)).is_err() {
            self.0 = None;
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
            format!("runs {} for {from} (run {})", run.path, run.invocation.to_u64())
        }
        other => format!("{other:?}"),
    }
}
