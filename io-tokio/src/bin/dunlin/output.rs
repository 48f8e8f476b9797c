//! What the program says: words for people, or one JSON object per line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use data_encoding::BASE64;
use dunlin_core::service::ContentType;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

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

/// Standard output takes no more. Unwinds to [`until_output_is_gone`], past everything that is to be ended in order.
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

/// Says panics in the form of all other output. Those that become errors are said as such.
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
    pub(crate) fn say<T: Serialize>(self, words: impl AsRef<str>, object: impl FnOnce() -> T) {
        if self.json {
            let mut line = json_line(&object());
            line.push('\n');
            self.bytes(line.as_bytes());
        } else {
            self.bytes(format!("{}\n", shown(words.as_ref())).as_bytes());
        }
    }

    /// As [`Output::say`], on one line: what a peer says makes no line of its own.
    pub(crate) fn line<T: Serialize>(self, words: impl AsRef<str>, object: impl FnOnce() -> T) {
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
            to_stderr(&json_line(&json!({ kind: words })));
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
            to_stderr(&json_line(&json!({ "error": error })));
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

/// Whether a terminal would obey this character, hide it, or show what follows in another place than it stands:
/// control characters, line and paragraph separators, marks of direction, and characters without a width.
fn is_harmful(c: char) -> bool {
    let is_format = matches!(
        c,
        '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
    );
    (c.is_control() && c != '\n' && c != '\t') || is_format
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

/// JSON with what a terminal would obey as `\u0000`, on one line. All such characters have 16 bits, and stand in strings.
pub(crate) fn one_json_line(json: &str) -> Cow<'_, str> {
    let is_space = |c: char| matches!(c, '\n' | '\r' | '\t');
    if !json.contains(|c: char| is_space(c) || is_harmful(c)) {
        return Cow::Borrowed(json);
    }
    let mut line = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        match c {
            // Between values only: a string has it escaped.
            c if is_space(c) => line.push(' '),
            c if is_harmful(c) => line += &format!("\\u{:04x}", u32::from(c)),
            c => line.push(c),
        }
    }
    Cow::Owned(line)
}

fn json_line(object: &impl Serialize) -> String {
    let json = serde_json::to_string(object).expect("plain data");
    match one_json_line(&json) {
        Cow::Borrowed(_) => json,
        Cow::Owned(line) => line,
    }
}

/// An object with a payload.
#[derive(Serialize)]
pub(crate) struct WithPayload {
    #[serde(flatten)]
    object: Map<String, Value>,
    /// JSON as its sender wrote it: a [`Value`] would change numbers beyond 64 bits, or refuse them.
    #[serde(flatten)]
    verbatim: BTreeMap<&'static str, Box<RawValue>>,
}

/// Adds a payload to an object: JSON as `name`, other text as a string, other bytes as `name_base64`.
pub(crate) fn with_payload(
    object: Value,
    [name, name_base64]: [&'static str; 2],
    content: ContentType,
    bytes: &[u8],
) -> WithPayload {
    let Value::Object(mut object) = object else { unreachable!("callers give objects") };
    let mut verbatim = BTreeMap::new();
    let json = (content == ContentType::JSON).then(|| serde_json::from_slice(bytes).ok());
    match (json.flatten(), std::str::from_utf8(bytes)) {
        (Some(json), _) => _ = verbatim.insert(name, json),
        (None, Ok(text)) => _ = object.insert(name.into(), text.into()),
        (None, Err(_)) => _ = object.insert(name_base64.into(), BASE64.encode(bytes).into()),
    }
    WithPayload { object, verbatim }
}

/// Standard error for the log: what peers wrote reaches no terminal as a command.
pub(crate) struct LogWriter {
    pub(crate) json: bool,
    /// The log's own colours are escape sequences. With them, tracing escapes those of values itself.
    pub(crate) colours: bool,
}

impl LogWriter {
    fn safe<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(line) = text.strip_suffix('\n').filter(|_| self.json) else {
            return match self.colours {
                false => shown(text),
                true => text.split('\x1b').map(shown).collect::<Vec<_>>().join("\x1b").into(),
            };
        };
        format!("{}\n", one_json_line(line)).into()
    }
}

impl Write for LogWriter {
    /// One event: it is written by one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        io::stderr().lock().write_all(self.safe(&text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
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
    fn a_terminal_is_shown_what_it_would_obey() {
        let evil = "nice\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{9b}31m \u{202e}txt";
        let shown = shown(evil);
        assert_eq!(shown, r"nice\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{9b}31m \u{202e}txt");
        assert_eq!(super::shown("ü ∞\n\ttab"), "ü ∞\n\ttab");
        assert_eq!(one_line("a\nfake  line"), r"a\nfake  line");
        let hidden = "a\u{61c}b\u{200b}c\u{200f}d\u{2028}e\u{2060}f\u{2069}g\u{feff}h";
        let escaped = r"a\u{61c}b\u{200b}c\u{200f}d\u{2028}e\u{2060}f\u{2069}g\u{feff}h";
        assert_eq!(super::shown(hidden), escaped);
    }

    #[test]
    fn json_has_what_a_terminal_would_obey_escaped_and_means_the_same() {
        let said = "\u{1b}[2J \u{7f}\u{9b}31m \u{202e}txt\u{feff}\n ü";
        let line = json_line(&json!({ "said": said }));
        let escaped = r"\u001b[2J \u007f\u009b31m \u202etxt\ufeff\n ü";
        assert_eq!(line, format!("{{\"said\":\"{escaped}\"}}"));
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["said"], said);
    }

    #[test]
    fn the_log_has_what_peers_wrote_escaped_and_its_own_colours() {
        let line = "\x1b[33mWARN\x1b[0m said \u{9b}31m\u{202e}\r\n";
        let log = |json, colours| LogWriter { json, colours };
        let safe = "\x1b[33mWARN\x1b[0m said \\u{9b}31m\\u{202e}\\r\n";
        assert_eq!(log(false, true).safe(line), safe);
        assert_eq!(log(false, false).safe(line), safe.replace('\x1b', "\\u{1b}"));
        assert_eq!(
            log(true, false).safe("{\"a\":\"\u{9b}\u{202e}\"}\n"),
            "{\"a\":\"\\u009b\\u202e\"}\n"
        );
    }

    #[test]
    fn a_payload_of_json_is_printed_as_it_was_written() {
        let line = |content, bytes: &[u8]| {
            let names = ["answer", "answer_base64"];
            json_line(&with_payload(json!({ "a": 1 }), names, content, bytes))
        };
        for number in ["12345678901234567890123456789", "1e400", "1.10", "-0", "1E2"] {
            let expected = format!("{{\"a\":1,\"answer\":{number}}}");
            assert_eq!(line(ContentType::JSON, number.as_bytes()), expected);
        }
        let lines = b"{\n\t\"b\": \"\xc2\x9b\",\r\n \"a\": [1]}";
        let expected = r#"{"a":1,"answer":{  "b": "\u009b",   "a": [1]}}"#;
        assert_eq!(line(ContentType::JSON, lines), expected);
        assert_eq!(line(ContentType::JSON, b"no json"), r#"{"a":1,"answer":"no json"}"#);
        assert_eq!(line(ContentType::RAW, b"1"), r#"{"a":1,"answer":"1"}"#);
        assert_eq!(line(ContentType::JSON, b"\"\xff\""), r#"{"a":1,"answer_base64":"Iv8i"}"#);
    }

    #[test]
    fn durations_are_spelled_in_the_unit_that_fits() {
        assert_eq!(spell(Duration::from_nanos(870)), "870 ns");
        assert_eq!(spell(Duration::from_nanos(34_560)), "34.6 us");
        assert_eq!(spell(Duration::from_micros(1_240)), "1.2 ms");
        assert_eq!(spell(Duration::from_millis(2_040)), "2.04 s");
    }
}
