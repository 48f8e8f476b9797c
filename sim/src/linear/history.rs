//! What clients did and saw, written down while it happens.

use std::sync::Mutex;

use super::Operation;

/// A history in the making. Shared by all clients of a run.
///
/// It keeps a clock of its own that ticks at every call and return, so that of two things at one instant of simulated
/// time the one that was first counts as first.
#[derive(Debug)]
pub struct History<O, R> {
    book: Mutex<Book<O, R>>,
}

#[derive(Debug)]
struct Book<O, R> {
    clock: u64,
    operations: Vec<Option<Operation<O, R>>>,
}

/// An operation's place in a history in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an operation that is not ended counts as one of which nobody knows whether it took effect"]
pub struct Ticket(usize);

impl<O, R> Default for History<O, R> {
    fn default() -> Self {
        History { book: Mutex::new(Book { clock: 0, operations: Vec::new() }) }
    }
}

impl<O, R> History<O, R> {
    /// A history without operations.
    pub fn new() -> Self {
        History::default()
    }

    fn with<T>(&self, then: impl FnOnce(&mut Book<O, R>, u64) -> T) -> T {
        let mut book = self.book.lock().expect("nothing panics under this lock");
        book.clock += 1;
        let now = book.clock;
        then(&mut book, now)
    }

    /// A client is about to ask for something.
    pub fn begin(&self, op: O) -> Ticket {
        self.with(|book, now| {
            book.operations.push(Some(Operation { op, called: now, returned: None }));
            Ticket(book.operations.len() - 1)
        })
    }

    /// It was answered. What has neither this nor [`History::withdraw`] may have taken effect, or not.
    pub fn end(&self, ticket: Ticket, answer: R) {
        self.with(|book, now| {
            if let Some(operation) = &mut book.operations[ticket.0] {
                operation.returned = Some((now, answer));
            }
        });
    }

    /// It is certain that it did not take effect and never will.
    pub fn withdraw(&self, ticket: Ticket) {
        self.with(|book, _| book.operations[ticket.0] = None);
    }

    /// How many operations have begun, also of those that were withdrawn.
    pub fn len(&self) -> usize {
        self.book.lock().expect("nothing panics under this lock").operations.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written down until now, without what was withdrawn.
    pub fn operations(&self) -> Vec<Operation<O, R>>
    where
        O: Clone,
        R: Clone,
    {
        self.with(|book, _| book.operations.iter().flatten().cloned().collect())
    }
}
