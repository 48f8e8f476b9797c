//! What the program says: words for people, or one JSON object per line.

use std::io::{self, Write};
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
            self.bytes(format!("{}\n", words.as_ref()).as_bytes());
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
                eprintln!("error: cannot write to standard output: {error}");
            }
            std::process::exit(i32::from(!quiet));
        }
    }

    /// Something worth knowing that is no result: to stderr.
    pub(crate) fn note(self, kind: &str, words: impl AsRef<str>) {
        let words = words.as_ref();
        if self.json {
            eprintln!("{}", json!({ kind: words }));
        } else if kind == "note" {
            eprintln!("{words}");
        } else {
            eprintln!("{kind}: {words}");
        }
    }

    /// Says what went wrong, and gives the program's exit code.
    pub(crate) fn fail(self, fail: &Fail) -> ExitCode {
        if self.json {
            let mut error = json!({ "code": fail.code, "message": fail.message });
            if let Some(executed) = &fail.executed {
                error["executed"] = executed.as_str().into();
            }
            eprintln!("{}", json!({ "error": error }));
        } else {
            eprintln!("error: {}", fail.message);
            if fail.exit == 2 {
                eprintln!("\nFor more, try `dunlin help`.");
            }
        }
        ExitCode::from(fail.exit)
    }
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
    fn durations_are_spelled_in_the_unit_that_fits() {
        assert_eq!(spell(Duration::from_nanos(870)), "870 ns");
        assert_eq!(spell(Duration::from_nanos(34_560)), "34.6 us");
        assert_eq!(spell(Duration::from_micros(1_240)), "1.2 ms");
        assert_eq!(spell(Duration::from_millis(2_040)), "2.04 s");
    }
}
