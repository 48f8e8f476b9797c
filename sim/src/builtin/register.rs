//! Registers behind the single-active service, and what clients may believe of them.
//!
//! ```text
//! Store      the values, outside of all nodes as in a database, behind a fence: whoever shows a token lower than one
//!            that it has seen is turned away
//! Copy       what the active instance knows of them. It reads it when it becomes active, behind raising the fence, and
//!            writes both
//! Registers  both, and what all clients asked and were told
//! ```
//!
//! A read is answered from the copy, by who asks at that moment whether it is still active, or from the store with the
//! token. A compare-and-set reads the store, takes its time, and writes: nobody else must have written in between. So a
//! second holder, a fence that lets an earlier one pass, or a copy that is too old shows in what clients are told, and a
//! checker of linearizability judges that at the end of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use dunlin_core::lease::{FenceGuard, Token};
use dunlin_core::rpc::{CallError, Executed};
use dunlin_core::service::{Context, Handle, HandlerError};
use dunlin_core::topic::TopicPath;
use serde::{Deserialize, Serialize};

use super::unless;
use crate::checks::seconds;
use crate::history::{End, Expect, Ledger, Life};
use crate::linear::{Budget, CasOp, CasRegister, CasReturn, History, Model, Verdict, check_by_key};
use crate::planted::is_planted;
use crate::schedule::{Action, Call, Touch};
use crate::sometimes;
use crate::workload::NodeInfo;

/// What clients see of the registers.
pub(super) const LINEARIZABLE: &str = "registers behind a lease are linearizable";
/// A history of which no verdict was reached within the work that may be done for it.
pub(super) const UNJUDGED: &str = "a history of registers was too much work to judge";
/// A handler noticed, when it was about to answer, that its lease is over.
pub(super) const OVER: &str = "a lease ended while a register was read";

/// The most applications of the model for one history: about a fifth of a second. One in fifty takes more. A guess.
const STEPS_MAX: u64 = 200_000;

/// What a register holds at first.
const EMPTY: u64 = 0;

/// The values behind a fence, and the token by which they were written last.
#[derive(Default)]
pub(super) struct Store {
    guard: FenceGuard,
    written: Option<Token>,
    values: BTreeMap<u8, u64>,
}

impl Store {
    /// Lets a handler or a hook pass, if its token is not too low.
    fn admit(&mut self, cx: &Context, node: &NodeInfo) -> Result<Token, HandlerError> {
        let token = cx.fence().ok_or_else(|| HandlerError::failed("there is no token"))?;
        // Planted: a guarded resource does not look at tokens.
        if self.guard.admit(token).is_err() && !is_planted(151) {
            node.ledger.sometimes(sometimes::FENCED_OFF);
            return Err(HandlerError::application(FENCED, "a later holder was here"));
        }
        Ok(token)
    }

    /// Writes down by whom it is written.
    pub(super) fn sign(&mut self, cx: &Context, node: &NodeInfo) -> Result<(), HandlerError> {
        let token = self.admit(cx, node)?;
        if self.written > Some(token) && !is_planted(151) {
            let what = format!("it was written by {:?}, and is by {token:?}", self.written);
            node.ledger.violate(Some(node.life.node), crate::leases::FENCED, what);
        }
        self.written = Some(token);
        Ok(())
    }
}

/// Answers of handlers that have changed nothing.
const FENCED: &str = "FENCED";
const BUSY: &str = "BUSY";
const LED_NO_MORE: &str = "LED_NO_MORE";

/// What an instance knows.
#[derive(Default)]
pub(super) struct Copy {
    values: BTreeMap<u8, u64>,
    /// The call that is about to write: no other may meanwhile.
    busy: Option<u64>,
}

/// That a call is about to write.
struct Busy<'a>(&'a Mutex<Copy>, u64);

impl<'a> Busy<'a> {
    fn take(copy: &'a Mutex<Copy>, call: u64) -> Result<Busy<'a>, HandlerError> {
        let mut held = lock(copy);
        match held.busy {
            Some(_) => Err(HandlerError::application(BUSY, "another call is about to write")),
            None => {
                held.busy = Some(call);
                Ok(Busy(copy, call))
            }
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut copy = lock(self.0);
        // Who became active meanwhile has begun anew.
        copy.busy.take_if(|call| *call == self.1);
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("nothing panics under this lock")
}

/// What a handler is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) token: u64,
    key: u8,
    what: Touch,
    ms: u32,
    /// Of a compare-and-set: what it should hold.
    from: u64,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    token: u64,
    node: u16,
    life: u32,
    value: u64,
    set: bool,
}

/// What a client asked: of which register, who, when.
#[derive(Clone, PartialEq, Eq)]
struct Asked {
    key: u8,
    by: Life,
    at: u64,
    what: CasOp<u64>,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{} {} at {}: {:?}", self.key, self.by, seconds(self.at), self.what)
    }
}

/// What a register may answer.
struct Cell;

impl Model for Cell {
    type State = u64;
    type Op = Asked;
    type Return = CasReturn<u64>;

    fn initial(&self) -> u64 {
        EMPTY
    }

    fn apply(&self, state: &u64, asked: &Asked, answer: Option<&CasReturn<u64>>) -> Option<u64> {
        CasRegister::new(EMPTY).apply(state, &asked.what, answer)
    }

    fn only_reads(&self, asked: &Asked) -> bool {
        asked.what == CasOp::Read
    }
}

/// The store, and what all clients asked and were told.
#[derive(Clone, Default)]
pub(super) struct Registers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    store: Mutex<Store>,
    history: History<Asked, CasReturn<u64>>,
    /// What clients at a node were last told of a register.
    known: Mutex<BTreeMap<(u16, u8), u64>>,
    ledger: OnceLock<Arc<Ledger>>,
}

impl Registers {
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.0.store)
    }

    /// An instance becomes active: it raises the fence, and reads what is there.
    pub(super) fn activate(
        &self,
        cx: &Context,
        node: &NodeInfo,
        copy: &Mutex<Copy>,
    ) -> Result<(), String> {
        let mut store = self.store();
        // Planted: who becomes active raises the fence when it first writes.
        if !is_planted(152) {
            store.sign(cx, node).map_err(|_| "a later holder was here".to_string())?;
        }
        *lock(copy) = Copy { values: store.values.clone(), busy: None };
        Ok(())
    }

    /// The handler.
    pub(super) async fn handle(
        self,
        node: NodeInfo,
        cx: Context,
        ask: Ask,
        copy: Arc<Mutex<Copy>>,
    ) -> Result<Told, HandlerError> {
        node.ledger.run(ask.token, node.life);
        node.ledger.leads(node.life, cx.fence());
        let takes = Duration::from_millis(ask.ms.into());
        let (mut value, mut set) = (EMPTY, false);
        let held = |values: &BTreeMap<u8, u64>| values.get(&ask.key).copied().unwrap_or(EMPTY);
        match ask.what {
            Touch::Read => {
                cx.sleep(takes).await;
                if !cx.is_active() {
                    node.ledger.sometimes(OVER);
                    return Err(HandlerError::application(LED_NO_MORE, "the lease is over"));
                }
                value = held(&lock(&copy).values);
            }
            Touch::ReadStored => {
                cx.sleep(takes).await;
                let mut store = self.store();
                store.admit(&cx, &node)?;
                value = held(&store.values);
            }
            Touch::Write => {
                cx.sleep(takes).await;
                let _busy = Busy::take(&copy, ask.token)?;
                self.write(&cx, &node, &copy, &ask)?;
            }
            Touch::CompareAndSet => {
                let _busy = Busy::take(&copy, ask.token)?;
                let found = {
                    let mut store = self.store();
                    store.admit(&cx, &node)?;
                    held(&store.values)
                };
                if found == ask.from {
                    cx.sleep(takes).await;
                    self.write(&cx, &node, &copy, &ask)?;
                    set = true;
                }
            }
        }
        let Life { node, life } = node.life;
        Ok(Told { token: ask.token, node, life, value, set })
    }

    /// Writes the store, and then the copy.
    fn write(
        &self,
        cx: &Context,
        node: &NodeInfo,
        copy: &Mutex<Copy>,
        ask: &Ask,
    ) -> Result<(), HandlerError> {
        let mut store = self.store();
        store.sign(cx, node)?;
        store.values.insert(ask.key, ask.token);
        lock(copy).values.insert(ask.key, ask.token);
        Ok(())
    }

    /// The client: asks once, and writes down what it was told. What it writes is the call's own number, which nothing
    /// else writes.
    pub(super) async fn perform(self, node: NodeInfo, path: TopicPath, call: Call, handle: Handle) {
        let Action::Register { key, what, ms } = call.action else { return };
        self.0.ledger.get_or_init(|| Arc::clone(&node.ledger));
        let timeout = Duration::from_millis(call.timeout_ms.into());
        let open = node.ledger.begin(node.life, timeout, false, Expect::AnswerOrRefusal);
        let token = open.token();
        let known = lock(&self.0.known).get(&(node.life.node, key)).copied();
        let from = known.unwrap_or(EMPTY);
        let op = match what {
            Touch::Read | Touch::ReadStored => CasOp::Read,
            Touch::Write => CasOp::Write(token),
            Touch::CompareAndSet => CasOp::CompareAndSet { from, to: token },
        };
        let at = node.ledger.now();
        let ticket = self.0.history.begin(Asked { key, by: node.life, at, what: op });
        let ask = Ask { token, key, what, ms, from };
        let mut request = handle.request(path).value(ask).timeout(timeout);
        if let Some(target) = call.target {
            request = request.to(node.peers[usize::from(target)]);
        }
        if call.once {
            request = request.without_retries();
        }
        let cancel = call.cancel_after_ms.map(|ms| handle.sleep(Duration::from_millis(ms.into())));
        let Some(result) = unless(request.send_as::<Told>(), cancel).await else { return };
        open.end(match &result {
            Ok(told) => {
                let by = Life { node: told.node, life: told.life };
                End::Answered { by, token: told.token }
            }
            Err(error) => End::of_error(error),
        });
        let now_known = |value| lock(&self.0.known).insert((node.life.node, key), value);
        match result {
            Ok(Told { value, set, .. }) => {
                let answer = match what {
                    Touch::Read | Touch::ReadStored => CasReturn::Value(value),
                    Touch::Write => CasReturn::Done,
                    Touch::CompareAndSet => CasReturn::Set(set),
                };
                match answer {
                    CasReturn::Value(value) => now_known(value),
                    CasReturn::Done | CasReturn::Set(true) => now_known(token),
                    CasReturn::Set(false) => None,
                };
                self.0.history.end(ticket, answer);
            }
            // Handlers refuse before they change anything.
            Err(CallError::Application(_)) => self.0.history.withdraw(ticket),
            Err(error) if error.executed() == Executed::No => self.0.history.withdraw(ticket),
            // Nobody knows: it stays open.
            Err(_) => {}
        }
    }

    /// Judges what clients were told. Where acceptors have forgotten more than the rules allow for, leases keep nothing.
    pub(super) fn judge(&self) {
        let Some(ledger) = self.0.ledger.get().filter(|ledger| !ledger.are_leases_void()) else {
            return;
        };
        let history = self.0.history.operations();
        let budget = Budget { steps_max: STEPS_MAX };
        match check_by_key(&Cell, &history, |asked| asked.key, budget) {
            Verdict::Linearizable { .. } => {}
            Verdict::Undecided { .. } => ledger.sometimes(UNJUDGED),
            Verdict::Broken(broken) => {
                ledger.violate(None, LINEARIZABLE, broken.explain(&history));
            }
        }
    }
}
