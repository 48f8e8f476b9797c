//! The text log of one run: a line an event, with its simulated time and its node.

use std::io::Write;

use crate::checks::seconds;

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
