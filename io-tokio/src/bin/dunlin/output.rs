//! What the program says: words for people, or one JSON object per line.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

/// How a command failed.
#[derive(Debug)]
pub(crate) struct Fail {
    /// Names the kind, for programs.
    code: String,
    message: String,
    /// Whether a handler has run, if there was a call.
    executed: Option<String>,
    exit: u8,
}

impl Fail {
    pub(crate) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Fail { code: code.into(), message: message.into(), executed: None, exit: 1 }
    }

    /// A mistake in the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Fail { exit: 2, ..Fail::new("USAGE", message) }
    }

    /// Whether it says if a handler has run.
    pub(crate) fn has_executed(&self) -> bool {
        self.executed.is_some()
    }

    pub(crate) fn executed(mut self, executed: impl Into<String>) -> Self {
        self.executed = Some(executed.into());
        self
    }
}

impl From<dunlin_tokio::key::KeyError> for Fail {
    fn from(error: dunlin_tokio::key::KeyError) -> Self {
        Fail::new("KEY", error.to_string())
    }
}

impl From<dunlin_tokio::StoreError> for Fail {
    fn from(error: dunlin_tokio::StoreError) -> Self {
        Fail::new("STORE", error.to_string())
    }
}

impl From<dunlin_tokio::control::Problem> for Fail {
    fn from(problem: dunlin_tokio::control::Problem) -> Self {
        Fail { executed: problem.executed, ..Fail::new(problem.code, problem.message) }
    }
}

impl From<dunlin_tokio::StartError> for Fail {
    fn from(error: dunlin_tokio::StartError) -> Self {
        use dunlin_core::service::host::AddServiceError;
        use dunlin_tokio::auth::{MembershipError, TokenRefusal};
        use dunlin_tokio::{CommandError, NetworkError, ServiceError, StartError};
        let hint = match &error {
            StartError::Network(NetworkError::Membership(MembershipError::Token {
                why: TokenRefusal::OtherSubject { .. },
                ..
            })) => ". Give the key to which the token was issued with --key",
            StartError::Service(ServiceError::NotAdded(AddServiceError::Command(
                CommandError::NoAcceptors(_),
            ))) => {
                ". That is --acceptor ID for each of them: of `dunlin serve`, or, for a network that has a \
                 descriptor, of `dunlin network new`"
            }
            _ => "",
        };
        Fail::new("START", format!("{error}{hint}"))
    }
}

impl From<dunlin_tokio::NodeError> for Fail {
    fn from(error: dunlin_tokio::NodeError) -> Self {
        Fail::new("NODE", error.to_string())
    }
}

/// Standard output takes no more. Unwinds to [`until_output_is_gone`], past whatever is to be ended in order.
struct OutputGone {
    /// Its reader went away, and nothing is wrong.
    quiet: bool,
}

/// Runs a command, which ends early if standard output takes no more. The exit code, if it has ended so, or in a panic.
pub(crate) fn until_output_is_gone<T>(command: impl FnOnce() -> T) -> Result<T, ExitCode> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(command)).map_err(|panic| {
        match panic.downcast::<OutputGone>() {
            Ok(gone) => ExitCode::from(u8::from(!gone.quiet)),
            // The hook has said why.
            Err(_) => ExitCode::from(101),
        }
    })
}

/// Says panics in the form of everything else. Those that become errors are said as such.
pub(crate) fn say_panics(output: Output) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if dunlin_tokio::store::is_guarded() {
            tracing::debug!(%panic, "the database gives up");
        } else if output.is_json() {
            let error = json!({ "code": "PANIC", "message": panic.to_string() });
            to_stderr(&json!({ "error": error }).to_string());
        } else {
            usual(panic);
        }
    }));
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Output { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// A result: `words` for people, or `object` for programs.
    pub(crate) fn say(self, words: impl AsRef<str>, object: impl FnOnce() -> Value) {
        if self.json {
            self.bytes(format!("{}\n", object()).as_bytes());
        } else {
            self.bytes(format!("{}\n", shown(words.as_ref())).as_bytes());
        }
    }

    /// As [`Output::say`], on one line: what a peer says makes no line of its own.
    pub(crate) fn line(self, words: impl AsRef<str>, object: impl FnOnce() -> Value) {
        self.say(one_line(words.as_ref()), object);
    }

    /// What a peer sent, to standard output. As it is, unless that is a terminal, which would obey what it reads.
    pub(crate) fn payload(self, bytes: &[u8]) {
        if io::stdout().is_terminal() {
            self.bytes(shown(&String::from_utf8_lossy(bytes)).as_bytes());
        } else {
            self.bytes(bytes);
        }
    }

    /// Bytes to standard output, as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        if let Err(error) = written {
            // Whoever read has seen enough, as `head` does.
            let quiet = error.kind() == io::ErrorKind::BrokenPipe;
            if !quiet {
                to_stderr(&format!("error: cannot write to standard output: {error}"));
            }
            // Past all destructors: a node that runs takes leave of its peers.
            std::panic::resume_unwind(Box::new(OutputGone { quiet }));
        }
    }

    /// Something worth knowing that is no result: to stderr.
    pub(crate) fn note(self, kind: &str, words: impl AsRef<str>) {
        let words = words.as_ref();
        if self.json {
            to_stderr(&json!({ kind: words }).to_string());
        } else if kind == "note" {
            to_stderr(&shown(words));
        } else {
            to_stderr(&shown(&format!("{kind}: {words}")));
        }
    }

    /// Says what went wrong, and gives the program's exit code.
    pub(crate) fn fail(self, fail: &Fail) -> ExitCode {
        if self.json {
            let mut error = json!({ "code": fail.code, "message": fail.message });
            if let Some(executed) = &fail.executed {
                error["executed"] = executed.as_str().into();
            }
            to_stderr(&json!({ "error": error }).to_string());
        } else {
            to_stderr(&shown(&format!("error: {}", fail.message)));
            if fail.exit == 2 {
                to_stderr("\nFor more, try `dunlin help`.");
            }
        }
        ExitCode::from(fail.exit)
    }
}

/// A line to standard error. A reader that is gone is no reason to end.
pub(crate) fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whether a terminal would obey this character, or show what follows in another place than it stands.
fn is_harmful(c: char) -> bool {
    let changes_direction =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\n' && c != '\t') || changes_direction
}

/// A text with what a terminal would obey escaped. Much of what is printed comes from peers.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| match is_harmful(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

/// The same for a text that is to stay on its line, and to make no other.
pub(crate) fn one_line(text: &str) -> String {
    shown(text).replace('\n', "\\n").replace('\t', " ")
}

/// A duration as people say it.
pub(crate) fn spell(duration: std::time::Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_terminal_is_shown_what_it_would_obey() {
        let evil = "nice\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{9b}31m \u{202e}txt";
        let shown = shown(evil);
        assert_eq!(shown, r"nice\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{9b}31m \u{202e}txt");
        assert_eq!(super::shown("ü ∞\n\ttab"), "ü ∞\n\ttab");
        assert_eq!(one_line("a\nfake  line"), r"a\nfake  line");
    }

    #[test]
    fn durations_are_spelled_in_the_unit_that_fits() {
        assert_eq!(spell(Duration::from_nanos(870)), "870 ns");
        assert_eq!(spell(Duration::from_nanos(34_560)), "34.6 us");
        assert_eq!(spell(Duration::from_micros(1_240)), "1.2 ms");
        assert_eq!(spell(Duration::from_millis(2_040)), "2.04 s");
    }
}
