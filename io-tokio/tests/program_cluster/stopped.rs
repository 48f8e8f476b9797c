//! The active process is stopped for a while, as a machine does that is suspended, and goes on as if nothing had been.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dunlin_tokio::{FenceGuard, FencingToken, HandlerError, Node, PeerId, service};
use rustix::process::Signal;

use crate::calls::{Calls, parse_token};
use crate::cluster::Cluster;
use crate::watching::Watching;

/// So often the active process is stopped, unless this says otherwise.
const STOPS: &str = "DUNLIN_LEADER_STOPS";

/// What a lease lasts.
const TERM: Duration = Duration::from_secs(2);

/// The calls that are answered at once, and a write to what is guarded that is late: the handler has ended before, and
/// whether the process still leads is not looked at.
const ANSWER_AND_WRITE_LATER: &str = "printenv DUNLIN_TOKEN; \
    (sleep 0.2; \"$DUNLIN\" call --control \"$CONTROL\" guarded/write \"\\\"$DUNLIN_TOKEN\\\"\") >/dev/null 2>&1 &";

/// One attempt to write.
struct Write {
    token: FencingToken,
    by: PeerId,
    is_accepted: bool,
}

/// What only the active instance may write to.
#[derive(Default)]
struct Guarded {
    fence: FenceGuard,
    writes: Vec<Write>,
}

impl Guarded {
    fn write(&mut self, token: FencingToken, by: PeerId) -> Result<(), HandlerError> {
        let admitted = self.fence.admit(token);
        self.writes.push(Write { token, by, is_accepted: admitted.is_ok() });
        admitted.map_err(|late| HandlerError::application("FENCED", late.to_string()))
    }

    /// How many writes were accepted, and how many came too late.
    fn judge(&self) -> (usize, usize) {
        let accepted: Vec<&Write> = self.writes.iter().filter(|w| w.is_accepted).collect();
        for pair in accepted.windows(2) {
            assert!(pair[0].token <= pair[1].token, "{} after {}", pair[1].token, pair[0].token);
        }
        let mut holders = BTreeMap::<FencingToken, PeerId>::new();
        for write in &self.writes {
            let holder = *holders.entry(write.token).or_insert(write.by);
            assert_eq!(holder, write.by, "two hold the token {}", write.token);
        }
        (accepted.len(), self.writes.len() - accepted.len())
    }
}

/// How long the process is stopped in this trial: half a term in each fifth one, else something up to five terms. The
/// fractions of multiples of the golden ratio fill that evenly, however many there are.
fn stop_time(trial: usize) -> Duration {
    let share = if trial.is_multiple_of(5) { 0.0 } else { (trial as f64 * 0.618_034).fract() };
    TERM.mul_f64(0.5 + 4.5 * share)
}

/// Waits for so long as the process is to be stopped.
async fn pass(time: Duration) {
    // That time passes is what is tested, so there is nothing else to wait for.
    tokio::time::sleep(time).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_writes_that_was_stopped_for_too_long_is_not_accepted() {
    let stops: usize = std::env::var(STOPS).map_or(2, |text| text.parse().expect("a number"));
    let guarded = Arc::new(Mutex::new(Guarded::default()));
    let shared = Arc::clone(&guarded);
    let client =
        Node::builder().service(service("guarded").action("write", move |cx, token: String| {
            let by = cx.caller().expect("the client does not write");
            let written = shared.lock().unwrap().write(parse_token(&token), by);
            async move { written }
        }));
    let serve = ["--single-active", "--path", "counter/token"];
    let cluster = Cluster::with_client(&serve, ANSWER_AND_WRITE_LATER, client).await;
    cluster.leader().await;
    let mut watching = Watching::start(&cluster);
    let calls = Calls::start(&cluster.client, Duration::from_millis(50));
    let (mut replaced, mut kept_half, mut halves) = (Vec::new(), 0, 0);
    for trial in 0..stops {
        let (at, token) = calls.leader(&cluster).await;
        watching.until((at, token)).await;
        let time = stop_time(trial);
        let server = &cluster.servers[cluster.place(at)];
        let stopped = Instant::now();
        server.signal(Signal::STOP);
        pass(time).await;
        server.signal(Signal::CONT);
        let goes_on = Instant::now();
        // All three are there again, and agree.
        let (now_at, now_by) = calls.leader(&cluster).await;
        assert_eq!(now_at == at && now_by == token, now_by == token, "a grant has one holder");
        assert!(now_by >= token, "tokens grow");
        let seen = calls.seen();
        let took = seen.answers.iter().find(|(_, by)| *by > token).map(|(at, _)| *at - stopped);
        if time > TERM.mul_f64(1.5) {
            assert!(took.is_some_and(|took| took < time), "{took:?}: nobody took over in {time:?}");
        }
        if now_by > token {
            // What was answered while it was stopped may be read now, and nothing else.
            let late = goes_on + Duration::from_secs(1);
            let stale = seen.answers.iter().filter(|(at, by)| *at > late && *by <= token).count();
            assert_eq!(stale, 0, "it serves without its lease");
        }
        drop(seen);
        let is_half = trial.is_multiple_of(5);
        halves += usize::from(is_half);
        kept_half += usize::from(is_half && now_by == token);
        let outcome = match took {
            None => "it has kept its lease".to_string(),
            Some(took) => format!("replaced after {took:?}"),
        };
        println!("{trial}: stopped for {time:?}, {outcome}");
        replaced.extend(took.filter(|took| *took < time));
    }
    let (at, token) = calls.leader(&cluster).await;
    watching.until((at, token)).await;
    let tokens = watching.end().await;
    assert_eq!(tokens.last(), Some(&token));
    let (accepted, refused) = guarded.lock().unwrap().judge();
    assert!(accepted > 0, "writes are accepted as long as nobody else leads");
    let mean = replaced.iter().sum::<Duration>() / replaced.len().max(1) as u32;
    println!(
        "{stops} stops; of {halves} for half a term {kept_half} kept the lease; {} were replaced within {:?}, on \
         average {mean:?}; {accepted} writes accepted, {refused} refused; {} tokens; failures {:?}",
        replaced.len(),
        replaced.iter().max(),
        tokens.len(),
        calls.seen().failures,
    );
    assert!(halves < 5 || kept_half * 2 > halves, "half a term is short enough");
}
