//! Errors in the log: whoever says in a run that something is wrong breaks it.
//!
//! While a run goes on, its thread's `tracing` events of level ERROR are read, whoever emits them: the node, QUIC, TLS or
//! an embedder's services. They go on to the log that there was before.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tracing::dispatcher::{Dispatch, get_default, with_default};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Errors of which nobody has heard yet.
#[derive(Clone, Default)]
pub(crate) struct Errors(Arc<Heard>);

#[derive(Default)]
struct Heard {
    /// Whether there are any: asked at every event of a run.
    any: AtomicBool,
    lines: Mutex<Vec<String>>,
}

impl Errors {
    /// Does something on this thread, and hears of its errors meanwhile.
    pub(crate) fn listen<T>(&self, whatever: impl FnOnce() -> T) -> T {
        let before = get_default(Clone::clone);
        let level = LevelFilter::current().max(LevelFilter::ERROR);
        let listener = Listener { errors: self.clone(), before, level };
        with_default(&Dispatch::new(listener), whatever)
    }

    /// The errors since this was asked last.
    pub(crate) fn take(&self) -> Vec<String> {
        if !self.0.any.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut *self.0.lines.lock().expect("nothing panics under this lock"))
    }
}

struct Listener {
    errors: Errors,
    /// The log that there was before.
    before: Dispatch,
    /// What it may want to hear.
    level: LevelFilter,
}

/// An event as text: its message, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_error(metadata) || self.before.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.before.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.before.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.before.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        if is_error(event.metadata()) {
            let mut text = Text::default();
            event.record(&mut text);
            let line = format!("{}: {}{}", event.metadata().target(), text.message, text.fields);
            let heard = &self.errors.0;
            heard.lines.lock().expect("nothing panics under this lock").push(line);
            heard.any.store(true, Ordering::Relaxed);
        }
        if self.before.enabled(event.metadata()) {
            self.before.event(event);
        }
    }

    fn enter(&self, span: &Id) {
        self.before.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.before.exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.before.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.before.try_close(id)
    }
}

fn is_error(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && *metadata.level() == Level::ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_heard_and_nothing_else_is() {
        let errors = Errors::default();
        errors.listen(|| {
            tracing::warn!("that was close");
            tracing::error!(answer = 42, "it is wrong");
        });
        tracing::error!("nobody listens");
        let heard = errors.take();
        assert_eq!(heard.len(), 1);
        assert!(heard[0].ends_with("it is wrong answer=42"), "{heard:?}");
        assert!(errors.take().is_empty());
    }

    #[test]
    fn the_log_that_there_was_goes_on() {
        let (outer, inner) = (Errors::default(), Errors::default());
        outer.listen(|| inner.listen(|| tracing::error!("both hear it")));
        assert_eq!((outer.take().len(), inner.take().len()), (1, 1));
    }
}
