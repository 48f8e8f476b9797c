//! How a call can end, on the wire and for the caller.

use crate::payload::Payload;

/// Whether the handler of a call has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Executed {
    /// It has not and will not: the call was not sent, or was refused before it ran.
    No,
    /// Nobody here can know.
    Maybe,
    /// It has.
    Yes,
}

impl std::fmt::Display for Executed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Executed::No => "not executed",
            Executed::Maybe => "maybe executed",
            Executed::Yes => "executed",
        })
    }
}

/// Why a call has no answer of its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// Nobody known serves the path.
    NoResponders,
    /// The peer that was asked for is neither connected nor being dialled.
    Unreachable,
    /// The peer does not serve the path.
    NoSuchAction,
    /// The service is there but not running.
    Unavailable,
    /// Here or there, a bound on calls is reached.
    Overloaded,
    /// The deadline passed.
    DeadlineExceeded,
    /// The caller gave up.
    Cancelled,
    /// The argument or the answer is larger than a message may be.
    TooLarge,
    /// The argument or the answer could not be written as bytes.
    Unencodable,
    /// The handler could not read its argument, and did not run.
    BadRequest,
    /// The handler failed without an answer: it panicked or was stopped.
    HandlerFailed,
    /// The peer restarted.
    PeerRestarted,
    /// The peer no longer remembers what became of the call.
    Forgotten,
    /// This node stops, or that one does.
    ShuttingDown,
    /// The path of the call is not a topic path.
    InvalidPath,
    /// The answer came, but is not of the type that was asked for.
    UnreadableAnswer,
    /// A permission is missing, here or there; the detail says which.
    PermissionDenied,
    /// The service is single-active, and active elsewhere or nowhere.
    NotActive,
}

impl Failure {
    /// A short name for programs.
    pub fn code(self) -> &'static str {
        match self {
            Failure::NoResponders => "NO_RESPONDERS",
            Failure::Unreachable => "UNREACHABLE",
            Failure::NoSuchAction => "NO_SUCH_ACTION",
            Failure::Unavailable => "UNAVAILABLE",
            Failure::Overloaded => "OVERLOADED",
            Failure::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Failure::Cancelled => "CANCELLED",
            Failure::TooLarge => "TOO_LARGE",
            Failure::Unencodable => "UNENCODABLE",
            Failure::BadRequest => "BAD_REQUEST",
            Failure::HandlerFailed => "HANDLER_FAILED",
            Failure::PeerRestarted => "PEER_RESTARTED",
            Failure::Forgotten => "FORGOTTEN",
            Failure::ShuttingDown => "SHUTTING_DOWN",
            Failure::InvalidPath => "INVALID_PATH",
            Failure::UnreadableAnswer => "UNREADABLE_ANSWER",
            Failure::PermissionDenied => "PERMISSION_DENIED",
            Failure::NotActive => "NOT_ACTIVE",
        }
    }

    fn explain(self) -> &'static str {
        match self {
            Failure::NoResponders => "nobody known serves this path",
            Failure::Unreachable => "the peer is neither connected nor being dialled",
            Failure::NoSuchAction => "the peer does not serve this path",
            Failure::Unavailable => "the service is not running",
            Failure::Overloaded => "too many calls are open",
            Failure::DeadlineExceeded => "the deadline passed",
            Failure::Cancelled => "the caller gave up",
            Failure::TooLarge => "the message is too large",
            Failure::Unencodable => "the payload cannot be written as bytes",
            Failure::BadRequest => "the handler could not read its argument",
            Failure::HandlerFailed => "the handler failed",
            Failure::PeerRestarted => "the peer restarted",
            Failure::Forgotten => "the peer no longer knows what became of the call",
            Failure::ShuttingDown => "the node stops",
            Failure::InvalidPath => "the path is not a topic path",
            Failure::UnreadableAnswer => "the answer is not of the type that was asked for",
            Failure::PermissionDenied => "a permission is missing",
            Failure::NotActive => "no instance of the service is active that could be reached",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.explain())
    }
}

/// An error that a service means its caller to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AppError {
    /// Names the kind of error, for programs. At most 256 bytes; longer ones are cut.
    pub code: String,
    /// Says what is wrong, for people. At most 4,096 bytes; longer ones are cut.
    pub message: String,
}

impl AppError {
    /// The longest code, in bytes.
    pub const CODE_BYTES_MAX: usize = 256;
    /// The longest message, in bytes.
    pub const MESSAGE_BYTES_MAX: usize = 4_096;

    /// An error with this code and message, each cut to its bound.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let mut error = AppError { code: code.into(), message: message.into() };
        cut(&mut error.code, Self::CODE_BYTES_MAX);
        cut(&mut error.message, Self::MESSAGE_BYTES_MAX);
        error
    }
}

/// Cuts a text at a character's boundary.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

/// How a call ended without a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The handler ran and answered with an error.
    #[error("{0}")]
    Application(AppError),
    /// There is no answer of the handler.
    #[error("{failure} ({executed}){}{detail}", if detail.is_empty() { "" } else { ": " })]
    Failed {
        /// Why.
        failure: Failure,
        /// Whether the handler has run.
        executed: Executed,
        /// More for people; may be empty.
        detail: String,
    },
}

impl CallError {
    /// A failure without more to say.
    pub fn failed(failure: Failure, executed: Executed) -> Self {
        CallError::Failed { failure, executed, detail: String::new() }
    }

    /// A failure of a call that did not run.
    pub fn unrun(failure: Failure, detail: impl Into<String>) -> Self {
        CallError::Failed { failure, executed: Executed::No, detail: detail.into() }
    }

    /// Whether the handler has run.
    pub fn executed(&self) -> Executed {
        match self {
            CallError::Application(_) => Executed::Yes,
            CallError::Failed { executed, .. } => *executed,
        }
    }

    /// Why there is no answer of the handler; none when there is one.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            CallError::Application(_) => None,
            CallError::Failed { failure, .. } => Some(*failure),
        }
    }

    /// A short name for programs.
    pub fn code(&self) -> &str {
        match self {
            CallError::Application(error) => &error.code,
            CallError::Failed { failure, .. } => failure.code(),
        }
    }
}

/// How a call ended.
pub type CallResult = Result<Payload, CallError>;

/// What a reply says on the wire. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// The payload is the result.
    Ok = 0,
    /// The handler answered with an error.
    Application = 1,
    /// Not served here; not run.
    NoSuchAction = 2,
    /// The service is not running; not run.
    Unavailable = 3,
    /// A bound is reached; not run.
    Overloaded = 4,
    /// The deadline had passed when the call arrived; not run.
    ExpiredUnrun = 5,
    /// The deadline passed while the handler ran.
    Expired = 6,
    /// Cancelled before it ran.
    CancelledUnrun = 7,
    /// Cancelled while it ran.
    Cancelled = 8,
    /// The handler could not read its argument; not run.
    BadRequest = 9,
    /// The handler failed.
    HandlerFailed = 10,
    /// The answer is too large to send; run.
    AnswerTooLarge = 11,
    /// The answer could not be written as bytes; run.
    AnswerUnencodable = 12,
    /// The call is for another incarnation of this node; not run.
    WrongIncarnation = 13,
    /// It is not known any more what became of the call; never run a second time.
    Forgotten = 14,
    /// The node stops; not run.
    ShuttingDown = 15,
    /// The call ran, but its answer is no longer kept.
    AnswerDropped = 16,
    /// The caller's token does not permit calling this path; not run.
    PermissionDenied = 17,
    /// The service is single-active, and not active here; not run. The text is the id of the peer at which it is, if
    /// that is known.
    NotActive = 18,
}

impl Status {
    /// The status with this number. One that this version does not know means that nothing is known.
    pub fn from_number(number: u32) -> Status {
        use Status::*;
        [
            Ok,
            Application,
            NoSuchAction,
            Unavailable,
            Overloaded,
            ExpiredUnrun,
            Expired,
            CancelledUnrun,
            Cancelled,
            BadRequest,
            HandlerFailed,
            AnswerTooLarge,
            AnswerUnencodable,
            WrongIncarnation,
            Forgotten,
            ShuttingDown,
            AnswerDropped,
            PermissionDenied,
            NotActive,
        ]
        .get(number as usize)
        .copied()
        .unwrap_or(Forgotten)
    }

    /// What a status other than Ok and Application means for the caller.
    pub fn as_failure(self) -> (Failure, Executed) {
        match self {
            Status::Ok | Status::Application => (Failure::HandlerFailed, Executed::Yes),
            Status::NoSuchAction => (Failure::NoSuchAction, Executed::No),
            Status::Unavailable => (Failure::Unavailable, Executed::No),
            Status::Overloaded => (Failure::Overloaded, Executed::No),
            Status::ExpiredUnrun => (Failure::DeadlineExceeded, Executed::No),
            Status::Expired => (Failure::DeadlineExceeded, Executed::Maybe),
            Status::CancelledUnrun => (Failure::Cancelled, Executed::No),
            Status::Cancelled => (Failure::Cancelled, Executed::Maybe),
            Status::BadRequest => (Failure::BadRequest, Executed::No),
            Status::HandlerFailed => (Failure::HandlerFailed, Executed::Maybe),
            Status::AnswerTooLarge => (Failure::TooLarge, Executed::Yes),
            Status::AnswerUnencodable => (Failure::Unencodable, Executed::Yes),
            Status::WrongIncarnation => (Failure::PeerRestarted, Executed::No),
            Status::Forgotten => (Failure::Forgotten, Executed::Maybe),
            Status::ShuttingDown => (Failure::ShuttingDown, Executed::No),
            Status::AnswerDropped => (Failure::Forgotten, Executed::Yes),
            Status::PermissionDenied => (Failure::PermissionDenied, Executed::No),
            Status::NotActive => (Failure::NotActive, Executed::No),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_reads_back_and_unknown_ones_promise_nothing() {
        for number in 0..=18 {
            assert_eq!(Status::from_number(number) as u32, number);
        }
        assert_eq!(Status::from_number(99), Status::Forgotten);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let error = AppError::new("é".repeat(200), "x".repeat(5_000));
        assert_eq!(error.code.len(), 256);
        assert_eq!(error.message.len(), 4_096);
    }

    #[test]
    fn an_error_says_whether_the_call_ran() {
        let error = CallError::unrun(Failure::NoResponders, "'math/add'");
        assert_eq!(error.to_string(), "nobody known serves this path (not executed): 'math/add'");
    }
}
