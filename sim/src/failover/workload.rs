//! The service that one node at a time offers, and the client that keeps calling it. Both tell when they got what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dunlin_core::lease::Token;
use dunlin_core::rpc::CallError;
use dunlin_core::service::{BoxFuture, Context, Handle, HandlerError, Service, service};
use serde::{Deserialize, Serialize};

use crate::history::{End, Expect, Life};
use crate::schedule::{Call, SINGLE_ACTIVE};
use crate::workload::{NodeInfo, Workload};

/// That somebody got the lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    /// When, in nanoseconds.
    pub(super) at: u64,
    pub(super) life: Life,
    pub(super) token: Token,
}

/// What is known of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// By time.
    pub(super) grants: Vec<Grant>,
    /// When the client first had an answer by each token, in nanoseconds.
    pub(super) answers: BTreeMap<Token, u64>,
}

/// The workload.
pub(super) struct Caller {
    /// Who offers the service from the start of each life. The schedule starts it at others.
    leader: u16,
    seen: Arc<Mutex<Seen>>,
}

/// What a call asks.
#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    token: u64,
}

/// What it is answered.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    token: u64,
    node: u16,
    life: u32,
    epoch: u64,
    round: u64,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nothing panics under this lock")
}

impl Caller {
    pub(super) fn new(leader: u16) -> Caller {
        Caller { leader, seen: Arc::default() }
    }

    pub(super) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

fn path() -> String {
    format!("s{SINGLE_ACTIVE}")
}

async fn answer(node: NodeInfo, cx: Context, ask: Ask) -> Result<Told, HandlerError> {
    node.ledger.run(ask.token, node.life);
    node.ledger.leads(node.life, cx.fence());
    let Token { epoch, round } = cx.fence().ok_or_else(|| HandlerError::failed("no token"))?;
    Ok(Told { token: ask.token, node: node.life.node, life: node.life.life, epoch, round })
}

impl Workload for Caller {
    fn services(&self, node: &NodeInfo) -> Vec<Arc<dyn Service>> {
        let offers = node.life.node == self.leader;
        offers.then(|| self.service(node, SINGLE_ACTIVE)).flatten().into_iter().collect()
    }

    fn service(&self, node: &NodeInfo, _: u16) -> Option<Arc<dyn Service>> {
        let (seen, at, node) = (Arc::clone(&self.seen), node.clone(), node.clone());
        let service = service(&path())
            .single_active()
            .on_activate(move |cx: Context| {
                let (seen, node) = (Arc::clone(&seen), at.clone());
                async move {
                    let token = cx.fence().ok_or("an active service has a token")?;
                    let grant = Grant { at: node.ledger.now(), life: node.life, token };
                    lock(&seen).grants.push(grant);
                    Ok(())
                }
            })
            .action("echo", move |cx, ask: Ask| answer(node.clone(), cx, ask));
        Some(Arc::new(service))
    }

    fn perform(&self, node: &NodeInfo, call: &Call, handle: Handle) -> Option<BoxFuture<()>> {
        let (seen, node) = (Arc::clone(&self.seen), node.clone());
        let timeout = Duration::from_millis(call.timeout_ms.into());
        Some(Box::pin(async move {
            let open = node.ledger.begin(node.life, timeout, false, Expect::Answer);
            let ask = Ask { token: open.token() };
            let request = handle.request(&*format!("{}/echo", path())).value(ask).timeout(timeout);
            let result: Result<Told, CallError> = request.send_as().await;
            open.end(match &result {
                Ok(told) => {
                    let by = Life { node: told.node, life: told.life };
                    End::Answered { by, token: told.token }
                }
                Err(error) => End::of_error(error),
            });
            if let Ok(told) = result {
                let token = Token { epoch: told.epoch, round: told.round };
                lock(&seen).answers.entry(token).or_insert(node.ledger.now());
            }
        }))
    }
}
