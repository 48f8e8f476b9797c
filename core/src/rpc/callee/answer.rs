//! What a caller is told: the end of a run, or why there was none.

use std::time::Duration;

use bytes::Bytes;

use super::HandlerError;
use crate::payload::{ContentType, Payload, detached};
use crate::rpc::outcome::{AppError, CallError, CallResult, Executed, Failure, Status};

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) content: ContentType,
    pub(super) payload: Bytes,
    pub(super) error: Option<Box<AppError>>,
    /// Of OVERLOADED.
    pub(super) retry_after: Option<Duration>,
}

impl Answer {
    pub(super) fn bare(status: Status) -> Self {
        Answer {
            status,
            content: ContentType::RAW,
            payload: Bytes::new(),
            error: None,
            retry_after: None,
        }
    }

    pub(super) fn overloaded(retry_after: Duration) -> Self {
        Answer { retry_after: Some(retry_after), ..Answer::bare(Status::Overloaded) }
    }

    pub(super) fn with_text(status: Status, text: String) -> Self {
        Answer { error: Some(Box::new(AppError::new("", text))), ..Answer::bare(status) }
    }

    /// Its payload may be a part of the argument, of so many bytes, and of what came with that.
    pub(super) fn detach(&mut self, argument_bytes: usize) {
        self.payload = detached(std::mem::take(&mut self.payload), argument_bytes);
    }

    pub(super) fn bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, |e| e.code.len() + e.message.len());
        self.payload.len() + error
    }
}

/// What a handler's end means for the peer that called.
pub(super) fn answer_of(result: Result<Payload, HandlerError>, message_bytes_max: usize) -> Answer {
    match result {
        Ok(Payload::Encoded { content, bytes }) => {
            if bytes.len() > message_bytes_max {
                let text = format!(
                    "the answer has {} bytes, at most {message_bytes_max} can be sent",
                    bytes.len()
                );
                return Answer::with_text(Status::AnswerTooLarge, text);
            }
            Answer { content, payload: bytes, ..Answer::bare(Status::Ok) }
        }
        Ok(Payload::Value(value)) => match value.encode() {
            Ok((content, bytes)) => {
                answer_of(Ok(Payload::Encoded { content, bytes }), message_bytes_max)
            }
            Err(error) => Answer::with_text(Status::AnswerUnencodable, error.to_string()),
        },
        Err(HandlerError::Application(error)) => {
            Answer { error: Some(Box::new(error)), ..Answer::bare(Status::Application) }
        }
        Err(HandlerError::BadRequest(why)) => Answer::with_text(Status::BadRequest, why),
        Err(HandlerError::Failed(why)) => Answer::with_text(Status::HandlerFailed, why),
        Err(HandlerError::NotActive) => Answer::bare(Status::NotActive),
    }
}

/// What a handler's end means for this node itself.
pub(super) fn local_result_of(result: Result<Payload, HandlerError>) -> CallResult {
    result.map_err(|error| match error {
        HandlerError::Application(error) => CallError::Application(error),
        HandlerError::BadRequest(why) => CallError::unrun(Failure::BadRequest, why),
        HandlerError::Failed(detail) => {
            CallError::Failed { failure: Failure::HandlerFailed, executed: Executed::Maybe, detail }
        }
        HandlerError::NotActive => CallError::failed(Failure::NotActive, Executed::No),
    })
}
