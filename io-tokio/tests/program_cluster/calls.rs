//! A client that goes on calling, and what its calls come to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_tokio::{FencingToken, Node, Payload, PeerId};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE};

/// What the handlers answer that are called here: the token by which they run.
pub(crate) const TELL_TOKEN: &str = "printenv DUNLIN_TOKEN";

/// Typed failures that a caller sees while its leader is lost. Whoever is silent for long is left alone, until somebody
/// else is active.
const TYPED: [&str; 4] = ["DEADLINE_EXCEEDED", "NOT_ACTIVE", "HANDLER_FAILED", "PEER_RESTARTED"];

/// What calls came to: answers with the time of their end, and the codes of failures.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) answers: Vec<(Instant, FencingToken)>,
    pub(crate) failures: BTreeSet<String>,
}

pub(crate) fn parse_token(text: &str) -> FencingToken {
    let (epoch, round) = text.trim().split_once('.').expect("an epoch and a round");
    FencingToken { epoch: epoch.parse().unwrap(), round: round.parse().unwrap() }
}

pub(crate) fn text(payload: &Payload) -> String {
    let (_, bytes) = payload.encode().expect("bytes");
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Goes on calling until it is dropped.
pub(crate) struct Calls {
    seen: Arc<watch::Sender<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Calls {
    /// Calls `counter/token`, each call for a second, whatever becomes of those before.
    pub(crate) fn start(client: &Node, every: Duration) -> Calls {
        let (handle, seen) = (client.handle(), Arc::new(watch::Sender::new(Seen::default())));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut due = tokio::time::interval(every);
            loop {
                due.tick().await;
                let request = handle.request("counter/token").payload(Payload::raw(Vec::new()));
                let (request, seen) = (request.timeout(Duration::from_secs(1)), shared.clone());
                tokio::spawn(async move {
                    match request.send().await {
                        Ok(payload) => {
                            let token = parse_token(&text(&payload));
                            seen.send_modify(|seen| seen.answers.push((Instant::now(), token)));
                        }
                        Err(error) => {
                            let code = error.code().to_string();
                            seen.send_modify(|seen| {
                                seen.failures.insert(code);
                            });
                        }
                    }
                });
            }
        });
        Calls { seen, task }
    }

    /// Waits for the first answer that is as wanted.
    async fn until(
        &self,
        is_wanted: impl Fn(&(Instant, FencingToken)) -> bool,
    ) -> (Instant, FencingToken) {
        let find = |seen: &Seen| seen.answers.iter().find(|answer| is_wanted(answer)).copied();
        let mut seen = self.seen.subscribe();
        let there = timeout(PATIENCE, seen.wait_for(|seen| find(seen).is_some())).await;
        let Ok(there) = there else {
            let Seen { answers, failures } = &*self.seen.borrow();
            panic!("it is not answered in time: {:?} after {failures:?}", answers.last());
        };
        find(&there.expect("the client calls")).expect("it is there")
    }

    /// Waits until the first answer by a later token. When it came.
    pub(crate) async fn after(&self, token: FencingToken) -> (Instant, FencingToken) {
        self.until(|(_, by)| *by > token).await
    }

    /// Waits until whoever the client knows as the active instance answers by the token that it knows. What it knows may
    /// be over when it is asked.
    pub(crate) async fn leader(&self, cluster: &Cluster) -> (PeerId, FencingToken) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let (at, token) = cluster.leader().await;
            let now = Instant::now();
            let (_, by) = self.until(|(at, _)| *at > now).await;
            if by == token {
                return (at, token);
            }
        }
        let known = cluster.leader().await;
        panic!("known is {known:?}, answered has {:?}", self.seen.borrow().answers.last());
    }

    /// What was seen so far. Nobody has failed otherwise than it may.
    pub(crate) fn seen(&self) -> watch::Ref<'_, Seen> {
        let seen = self.seen.borrow();
        let failures = &seen.failures;
        assert!(failures.iter().all(|code| TYPED.contains(&code.as_str())), "{failures:?}");
        seen
    }
}
