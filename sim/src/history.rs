//! What truly happened to every call, written down outside of all nodes, and judged as it happens.
//!
//! Each call carries a token that nothing else carries. Whoever makes it says so here first; a handler
//! says that it runs; whoever made the call says how it ended. The rules are in [`crate::checks`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use dunlin_core::lease::Token;
use dunlin_core::rpc::{CallError, Executed, Failure, retry};

use crate::checks;
use crate::recording::{About, Doing, Ending, Mark, Tape, end_of_call};
use crate::sometimes::{self, Reached, Sometimes};
use crate::station::{MILLION, scaled};

/// A node in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Which node.
    pub node: u16,
    /// Which start of it, from 1.
    pub life: u32,
}

impl std::fmt::Display for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "n{} (life {})", self.node, self.life)
    }
}

/// How a call ended for whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With an answer that says who gave it.
    Answered {
        /// Who says that it ran the call.
        by: Life,
        /// The token in the answer.
        token: u64,
    },
    /// With an error of the handler.
    Refused {
        /// Its code.
        code: String,
    },
    /// Without an answer of the handler.
    Failed {
        /// Why.
        failure: Failure,
        /// What the node claims.
        executed: Executed,
    },
}

impl End {
    /// The end that an error means.
    pub fn of_error(error: &CallError) -> End {
        match error {
            CallError::Application(error) => End::Refused { code: error.code.clone() },
            CallError::Failed { failure, executed, .. } => {
                End::Failed { failure: *failure, executed: *executed }
            }
        }
    }
}

/// What a call may end in, beyond what every call may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// An answer, or no answer.
    Answer,
    /// An error of the handler, never an answer.
    Refusal,
    /// An answer, or any error of the handler.
    AnswerOrRefusal,
    /// No answer of a handler: nobody serves the path, or it panics.
    NoAnswer,
    /// An answer and nothing else.
    OnlyAnswer,
    /// A refusal of the caller's own node: it asks for what makes no sense.
    Misuse,
}

/// Where the handler of a call ran, in order. Nearly always at most once, which takes no memory of its own.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    first: Option<Life>,
    more: Vec<Life>,
}

impl Runs {
    fn push(&mut self, at: Life) {
        match self.first {
            None => self.first = Some(at),
            Some(_) => self.more.push(at),
        }
    }

    /// Where it ran first, if it ran.
    pub fn first(&self) -> Option<Life> {
        self.first
    }

    /// How often it ran.
    pub fn count(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// Whether it ran there.
    pub fn contains(&self, at: Life) -> bool {
        self.first == Some(at) || self.more.contains(&at)
    }
}

/// One call, as it truly went.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// Who made it.
    pub caller: Life,
    /// When, in nanoseconds.
    pub begun: u64,
    /// When its caller gives up.
    pub deadline: u64,
    /// The deadline by the fastest clock of all, in nanoseconds of simulated time.
    pub earliest: u64,
    /// Whether it may run more than once.
    pub idempotent: bool,
    /// How often it may run.
    pub runs_max: usize,
    /// What it may end in.
    pub expect: Expect,
    /// Where its handler ran.
    pub runs: Runs,
    /// How and when it ended.
    pub end: Option<(u64, End)>,
    /// Its caller dropped it, or its caller's node died.
    pub dropped: bool,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// When, in nanoseconds of simulated time.
    pub at: u64,
    /// At which node, if at one.
    pub node: Option<u16>,
    /// Which rule.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

#[derive(Default)]
struct Book {
    calls: Vec<CallRecord>,
    /// The last pause of each node: from, to.
    pauses: Vec<(u64, u64)>,
    /// How the time of each node passes.
    paces: Vec<Pace>,
    violations: Vec<Violation>,
    sometimes: Sometimes,
    /// Handlers of the single-active service that have run since it was looked last, with their tokens.
    led: Vec<(Life, Option<Token>)>,
}

/// How the time of a node passes.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// By how many millionths its clock is too fast.
    clock_ppm: i64,
    /// How much later than its clock says it comes to what it waits for, in nanoseconds.
    late: u64,
}

/// The world's own record of all calls. Shared with every handler and client of a run.
#[derive(Default)]
pub struct Ledger {
    book: Mutex<Book>,
    now: AtomicU64,
    broken: AtomicBool,
    /// What happened to events: see [`crate::published`].
    pub(crate) events: Mutex<crate::published::Events>,
    /// Something was written down of events that is to be judged when its node has had its turn.
    pub(crate) stirred: AtomicBool,
    tape: Tape,
}

/// A call's place in the ledger. Dropped before [`OpenCall::end`], the call counts as given up.
#[must_use = "a call that is not ended counts as given up"]
pub struct OpenCall<'a> {
    ledger: &'a Ledger,
    token: u64,
}

impl Book {
    fn pace(&mut self, node: usize) -> &mut Pace {
        if self.paces.len() <= node {
            self.paces.resize(node + 1, Pace::default());
        }
        &mut self.paces[node]
    }
}

impl Ledger {
    /// A ledger with room for so many calls.
    pub(crate) fn with_capacity(calls: usize, tape: Tape) -> Self {
        let book = Book { calls: Vec::with_capacity(calls), ..Book::default() };
        Ledger { book: Mutex::new(book), tape, ..Ledger::default() }
    }

    pub(crate) fn tape(&self) -> &Tape {
        &self.tape
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nothing panics under this lock")
    }

    pub(crate) fn set_now(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// The true time.
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Writes down that a call is about to be made, and gives it its token.
    pub fn begin(
        &self,
        caller: Life,
        timeout: Duration,
        idempotent: bool,
        expect: Expect,
    ) -> OpenCall<'_> {
        let begun = self.now();
        let deadline = self.due(caller.node, begun, timeout.as_nanos() as u64);
        let record = CallRecord {
            caller,
            begun,
            deadline,
            earliest: self.earliest(begun, timeout.as_nanos() as u64),
            idempotent,
            runs_max: if idempotent { retry::ATTEMPTS_MAX as usize } else { 1 },
            expect,
            runs: Runs::default(),
            end: None,
            dropped: false,
        };
        let mut book = self.book();
        book.calls.push(record);
        let token = book.calls.len() as u64;
        self.tape.begins(begun, caller.node, Doing::Call, token, "call of a handler or a probe");
        OpenCall { ledger: self, token }
    }

    /// A call runs so often at most, by what its caller says of it.
    pub fn runs_at_most(&self, call: &OpenCall<'_>, runs_max: usize) {
        self.book().calls[call.token as usize - 1].runs_max = runs_max;
    }

    /// Writes down that the handler of a call runs.
    pub fn run(&self, token: u64, at: Life) {
        let now = self.now();
        let mut book = self.book();
        let index = (token as usize).wrapping_sub(1);
        let Some(call) = book.calls.get_mut(index) else {
            let what = format!("a handler ran for token {token}, which no call carries");
            drop(book);
            return self.violate(Some(at.node), "runs belong to calls", what);
        };
        let verdict = checks::run(token, call, at);
        let is_again = call.idempotent && call.runs.first().is_some();
        let is_late = call.end.is_some() || call.dropped;
        call.runs.push(at);
        if is_again {
            book.sometimes.reach(sometimes::RAN_TWICE);
        }
        if is_late {
            book.sometimes.reach(sometimes::RAN_LATE);
        }
        drop(book);
        self.tape.seen(now, at.node, Doing::Call, token);
        if let Err((rule, what)) = verdict {
            debug_assert!(now >= 1 || token > 0);
            self.violate(Some(at.node), rule, what);
        }
    }

    fn end(&self, token: u64, end: End) {
        let now = self.now();
        let mut book = self.book();
        let call = &book.calls[token as usize - 1];
        let node = call.caller.node;
        let pause = book.pauses.get(usize::from(node)).copied().unwrap_or_default();
        let late = book.paces.get(usize::from(node)).map_or(0, |pace| pace.late);
        let verdict = checks::end(token, call, &end, now, (pause, late));
        if let End::Failed { executed: Executed::Maybe, .. } = end {
            let has_run = call.runs.first().is_some();
            book.sometimes.reach(match has_run {
                true => sometimes::RAN_IN_DOUBT,
                false => sometimes::UNRUN_IN_DOUBT,
            });
        }
        if let End::Failed { failure: Failure::NotActive, .. } = end {
            book.sometimes.reach(sometimes::NOT_ACTIVE);
        }
        if self.tape.is_on() {
            let (ending, result) = end_of_call(&end);
            self.tape.ends(now, Doing::Call, token, ending, &result);
        }
        book.calls[token as usize - 1].end = Some((now, end));
        drop(book);
        if let Err((rule, what)) = verdict {
            self.violate(Some(node), rule, what);
        }
    }

    /// Writes down that a handler of the single-active service runs.
    pub(crate) fn leads(&self, at: Life, token: Option<Token>) {
        self.book().led.push((at, token));
    }

    pub(crate) fn take_led(&self) -> Vec<(Life, Option<Token>)> {
        std::mem::take(&mut self.book().led)
    }

    /// Reports a broken rule. The run stops behind the present event.
    pub fn violate(&self, node: Option<u16>, rule: &'static str, what: String) {
        let at = self.now();
        self.book().violations.push(Violation { at, node, rule, what });
        self.broken.store(true, Ordering::Relaxed);
    }

    /// A remark for whoever looks at the run later: a mark at a node, in what is recorded. What it says is asked for
    /// only if the run is recorded.
    pub fn note(&self, at: Life, what: impl FnOnce() -> String) {
        if self.tape.is_on() {
            let (at, node) = (self.now(), at.node);
            self.tape.mark(Mark { at, node, about: About::Note, what: what() });
        }
    }

    /// A rare state is reached: a campaign counts how often that happens. See [`crate::sometimes`].
    pub fn sometimes(&self, what: &'static str) {
        self.book().sometimes.reach(what);
    }

    /// The rare states that were reached, and with 0 those that were not.
    pub(crate) fn reached(&self, of_workload: &[&'static str]) -> Reached {
        self.book().sometimes.reached(of_workload)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(crate) fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.book().violations)
    }

    /// A node went on after a pause.
    pub(crate) fn paused(&self, node: usize, from: u64, to: u64) {
        let mut book = self.book();
        if book.pauses.len() <= node {
            book.pauses.resize(node + 1, (0, 0));
        }
        book.pauses[node] = (from, to);
    }

    /// By how many millionths the clock of a node is too fast.
    pub(crate) fn set_clock(&self, node: usize, clock_ppm: i64) {
        self.book().pace(node).clock_ppm = clock_ppm;
    }

    /// A node is slow from now on: it may come to things by so many nanoseconds too late.
    pub(crate) fn set_late(&self, node: usize, late: u64) {
        let mut book = self.book();
        let pace = book.pace(node);
        pace.late = pace.late.max(late);
    }

    /// The true time at which so many nanoseconds have passed by a node's clock.
    pub(crate) fn due(&self, node: u16, from: u64, nanos: u64) -> u64 {
        let clock_ppm = self.book().paces.get(usize::from(node)).map_or(0, |pace| pace.clock_ppm);
        from.saturating_add(scaled(nanos, MILLION, MILLION.saturating_add_signed(clock_ppm)))
    }

    /// The earliest time at which so many nanoseconds have passed by anybody's clock: a callee may give up first.
    pub(crate) fn earliest(&self, from: u64, nanos: u64) -> u64 {
        let fastest = self.book().paces.iter().map(|pace| pace.clock_ppm).max().unwrap_or(0).max(0);
        from.saturating_add(scaled(nanos, MILLION, MILLION.saturating_add_signed(fastest)))
    }

    /// How late a node may be with what is due.
    pub(crate) fn late(&self, node: u16) -> u64 {
        self.book().paces.get(usize::from(node)).map_or(0, |pace| pace.late)
    }

    /// The last pause of a node: from, to.
    pub(crate) fn last_pause(&self, node: u16) -> (u64, u64) {
        self.book().pauses.get(usize::from(node)).copied().unwrap_or_default()
    }

    /// Calls that have neither ended nor were given up, of one life or of all.
    pub(crate) fn open_calls(&self, of: Option<Life>) -> Vec<u64> {
        let book = self.book();
        let open = |call: &CallRecord| call.end.is_none() && !call.dropped;
        let wanted = |call: &CallRecord| of.is_none_or(|life| call.caller == life);
        let calls = book.calls.iter().enumerate();
        calls.filter(|(_, call)| open(call) && wanted(call)).map(|(i, _)| i as u64 + 1).collect()
    }

    /// How many calls were made, and how many of them were answered.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let book = self.book();
        let answered = |call: &&CallRecord| matches!(call.end, Some((_, End::Answered { .. })));
        (book.calls.len() as u64, book.calls.iter().filter(answered).count() as u64)
    }

    /// How the calls ended, by name, for statistics.
    pub(crate) fn ends(&self) -> BTreeMap<String, u64> {
        let mut ends = BTreeMap::<(&str, Option<Executed>), u64>::new();
        for call in &self.book().calls {
            let end = match &call.end {
                None if call.dropped => ("given up", None),
                None => ("open", None),
                Some((_, End::Answered { .. })) => ("answered", None),
                Some((_, End::Refused { .. })) => ("refused by the handler", None),
                Some((_, End::Failed { failure, executed })) => (failure.code(), Some(*executed)),
            };
            *ends.entry(end).or_default() += 1;
        }
        let name = |(end, executed): (&str, Option<Executed>)| match executed {
            Some(executed) => format!("{end} ({executed})"),
            None => end.to_string(),
        };
        ends.into_iter().map(|(end, count)| (name(end), count)).collect()
    }
}

impl OpenCall<'_> {
    /// The token that the call carries.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The call has ended.
    pub fn end(self, end: End) {
        self.ledger.end(self.token, end);
        std::mem::forget(self);
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        let Ledger { tape, .. } = self.ledger;
        tape.ends(self.ledger.now(), Doing::Call, self.token, Ending::Dropped, "given up");
        self.ledger.book().calls[self.token as usize - 1].dropped = true;
    }
}
