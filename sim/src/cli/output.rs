//! Standard output and standard error, either of which may lose its reader while a run goes on.

use std::io::{self, ErrorKind, Write};

/// Prints a line of a result.
///
/// A reader that is gone ends nothing: the exit code is that of the whole run, and the rest is not printed. Any other
/// failure, such as a full disk, ends the program with exit code 2, because the result would be incomplete.
pub(crate) fn say(line: &str) {
    if let Err(error) = writeln!(io::stdout(), "{line}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        note(&format!("standard output cannot be written: {error}"));
        std::process::exit(2);
    }
}

/// Prints a line that is no result to standard error, as far as that can be written.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Replaces the current line of the terminal that is standard error.
pub(crate) fn redraw(text: &str) {
    let _ = write!(io::stderr(), "\r\x1b[K{text}");
}
