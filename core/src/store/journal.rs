//! What was asked for, given out, and made durable, by number.

use std::collections::VecDeque;

use super::{StoreMisuse, StoreRequest, Write};

/// The node's side of the conversation.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    /// Whether there is anybody to store things.
    is_kept: bool,
    has_failed: bool,
    /// The last request.
    last: u64,
    /// The last one that the embedder has taken.
    given: u64,
    /// It survives a crash with all before it.
    durable: u64,
    /// What the embedder has not taken yet.
    waiting: VecDeque<StoreRequest>,
}

impl Journal {
    /// One for an embedder that stores things, or for one that does not: there all is said to be durable.
    pub(crate) fn new(is_kept: bool) -> Self {
        let waiting = VecDeque::new();
        Journal { is_kept, has_failed: false, last: 0, given: 0, durable: 0, waiting }
    }

    /// Asks for these to be stored, together. The number under which they will be durable.
    pub(crate) fn ask(&mut self, writes: Vec<Write>) -> u64 {
        if self.is_kept {
            self.last += 1;
            self.waiting.push_back(StoreRequest { seq: self.last, writes });
        }
        self.last
    }

    /// Whether a request survives a crash.
    pub(crate) fn is_durable(&self, seq: u64) -> bool {
        seq <= self.durable
    }

    /// The next request for the embedder. Nothing behind one that failed.
    pub(crate) fn poll(&mut self) -> Option<StoreRequest> {
        if self.has_failed {
            return None;
        }
        let request = self.waiting.pop_front()?;
        self.given = request.seq;
        Some(request)
    }

    /// The embedder says how far all is durable. Whether that is news.
    pub(crate) fn durable(&mut self, seq: u64) -> Result<bool, StoreMisuse> {
        if seq > self.given {
            return Err(StoreMisuse { seq, given: self.given });
        }
        let is_news = seq > self.durable && !self.has_failed;
        if is_news {
            self.durable = seq;
        }
        Ok(is_news)
    }

    /// Something could not be stored. Whether that is news.
    pub(crate) fn failed(&mut self) -> bool {
        self.waiting.clear();
        !std::mem::replace(&mut self.has_failed, true)
    }

    pub(crate) fn check_invariants(&self) {
        assert!(
            self.durable <= self.given && self.given <= self.last,
            "nothing is durable unasked"
        );
        assert!(self.is_kept || self.last == 0, "nobody is asked who stores nothing");
        let first = self.waiting.front().map_or(self.last + 1, |request| request.seq);
        assert!(
            self.has_failed || first == self.given + 1,
            "requests are given out in their order, each once"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_out_in_their_order_and_become_durable_together() {
        let mut journal = Journal::new(true);
        assert_eq!((journal.ask(Vec::new()), journal.ask(Vec::new())), (1, 2));
        assert_eq!(journal.durable(1), Err(StoreMisuse { seq: 1, given: 0 }));
        assert_eq!(journal.poll().unwrap().seq, 1);
        assert_eq!(journal.poll().unwrap().seq, 2);
        assert!(journal.poll().is_none());
        assert_eq!(journal.ask(Vec::new()), 3);
        assert_eq!(journal.durable(2), Ok(true));
        assert_eq!(journal.durable(1), Ok(false), "it is known already");
        assert!(journal.is_durable(1) && journal.is_durable(2) && !journal.is_durable(3));
        journal.check_invariants();
    }

    #[test]
    fn nothing_follows_what_failed() {
        let mut journal = Journal::new(true);
        journal.ask(Vec::new());
        journal.poll();
        journal.ask(Vec::new());
        assert!(journal.failed());
        assert!(!journal.failed(), "once is enough");
        assert!(journal.poll().is_none());
        assert_eq!(journal.durable(1), Ok(false), "nobody knows what the disk holds");
        assert!(!journal.is_durable(1));
        journal.check_invariants();
    }

    #[test]
    fn who_stores_nothing_is_asked_for_nothing() {
        let mut journal = Journal::new(false);
        let seq = journal.ask(Vec::new());
        assert!(journal.is_durable(seq) && journal.poll().is_none());
        journal.check_invariants();
    }
}
