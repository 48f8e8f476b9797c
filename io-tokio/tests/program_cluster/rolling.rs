//! Each process is told to end and started again, one after another, under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dunlin_tokio::{FencingToken, Handle, Payload};
use tokio::task::JoinSet;

use crate::calls::{parse_token, text};
use crate::cluster::Cluster;

/// So many calls are under way at a time.
const CALLERS: u64 = 20;

/// Notes that the call with this number runs, works for a moment, and answers.
const LOG_AND_WORK: &str = "read number; echo $number >> \"$LOG\"; sleep 0.1; echo $number";

/// As above, without work, and answers who runs it, by which token.
const LOG_AND_TELL: &str = "read number; echo $number >> \"$LOG\"; echo $DUNLIN_TOKEN $ID";

/// The graceful hand-over of a single-active service, from the last answer of one to the first of the next. Two round trips
/// and a write to the disk, and ten times that for a machine that does other things too.
const GAP_MAX: Duration = Duration::from_millis(500);

/// Callers that go on calling until they are told to end.
struct Load {
    ends: Arc<AtomicBool>,
    callers: JoinSet<()>,
    answers: Arc<Mutex<BTreeMap<u64, (Instant, String)>>>,
}

/// Calls with odd numbers may run twice.
fn is_idempotent(number: u64) -> bool {
    number % 2 == 1
}

impl Load {
    /// Each caller calls with another number when the one before was answered, but not before `pace`.
    fn start(handle: Handle, path: &'static str, pace: Duration) -> Load {
        let ends = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let answers = Arc::<Mutex<BTreeMap<u64, (Instant, String)>>>::default();
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (handle, ends, next) = (handle.clone(), Arc::clone(&ends), Arc::clone(&next));
            let answers = Arc::clone(&answers);
            callers.spawn(async move {
                let first = tokio::time::Instant::now() + pace * caller as u32 / CALLERS as u32;
                let mut due = tokio::time::interval_at(first, pace);
                due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while !ends.load(Ordering::Relaxed) {
                    due.tick().await;
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let argument = Payload::raw(format!("{number}\n"));
                    let mut request = handle.request(path).payload(argument);
                    if is_idempotent(number) {
                        request = request.idempotent();
                    }
                    let answer = request.send().await;
                    let answer = answer.unwrap_or_else(|error| panic!("{number} is lost: {error}"));
                    let answer = text(&answer).trim().to_string();
                    answers.lock().unwrap().insert(number, (Instant::now(), answer));
                }
            });
        }
        Load { ends, callers, answers }
    }

    /// Ends it. Every call was answered; the answers, by number.
    async fn end(mut self) -> BTreeMap<u64, (Instant, String)> {
        self.ends.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("no call is lost");
        }
        std::mem::take(&mut self.answers.lock().unwrap())
    }
}

/// Every call has run, and none ran twice unless it may.
fn judge_runs(cluster: &Cluster, numbers: BTreeSet<u64>) {
    let mut runs = BTreeMap::<u64, usize>::new();
    for server in &cluster.servers {
        // Who was never active has none.
        let log = std::fs::read_to_string(server.log()).unwrap_or_default();
        for line in log.lines() {
            *runs.entry(line.parse().expect("a number")).or_default() += 1;
        }
    }
    let twice: Vec<_> = runs.iter().filter(|(_, times)| **times > 1).map(|run| *run.0).collect();
    assert!(twice.iter().all(|number| is_idempotent(*number)), "{twice:?} ran twice");
    assert_eq!(runs.into_keys().collect::<BTreeSet<_>>(), numbers, "what runs is answered");
    println!("{} calls, {} of which ran twice", numbers.len(), twice.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_no_call() {
    let mut cluster = Cluster::start(&["--path", "work/do"], LOG_AND_WORK).await;
    cluster.until_states(["running"; 3]).await;
    let load = Load::start(cluster.client.handle(), "work/do", Duration::from_millis(100));
    for server in 0..3 {
        assert!(cluster.servers[server].end().await.success());
        cluster.restart(server);
        cluster.until_states(["running"; 3]).await;
    }
    let answers = load.end().await;
    assert!(answers.iter().all(|(number, (_, answer))| *answer == number.to_string()));
    judge_runs(&cluster, answers.into_keys().collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_hands_a_single_active_service_over_and_loses_no_call() {
    let serve = ["--single-active", "--path", "work/do"];
    let mut cluster = Cluster::start(&serve, LOG_AND_TELL).await;
    cluster.leader().await;
    let load = Load::start(cluster.client.handle(), "work/do", Duration::from_millis(100));
    let mut led = 0;
    for server in 0..3 {
        led += usize::from(cluster.place(cluster.leader().await.0) == server);
        assert!(cluster.servers[server].end().await.success());
        cluster.restart(server);
        // Two are a majority: the next one goes when this one takes part again.
        cluster.servers[server].until("acceptor_ready").await;
    }
    let answers = load.end().await;
    // Of each token, its holder, and the first and the last answer.
    let mut spans = BTreeMap::<FencingToken, (String, Instant, Instant)>::new();
    for (at, answer) in answers.values() {
        let (token, holder) = answer.split_once(' ').expect("a token and an id");
        let first = || (holder.to_string(), *at, *at);
        let span = spans.entry(parse_token(token)).or_insert_with(first);
        assert_eq!(span.0, holder, "two hold the token {token}");
        (span.1, span.2) = (span.1.min(*at), span.2.max(*at));
    }
    let holders: Vec<_> = spans.iter().map(|(token, span)| (token, &span.0[..10])).collect();
    println!("{led} of those that ended led; {holders:?}");
    let spans: Vec<_> = spans.values().collect();
    let gaps: Vec<Duration> =
        spans.windows(2).map(|pair| pair[1].1.saturating_duration_since(pair[0].2)).collect();
    println!("handed over within {gaps:?}");
    assert!(!gaps.is_empty(), "the active process was one of those that ended");
    assert!(gaps.iter().all(|gap| *gap <= GAP_MAX), "{gaps:?}");
    judge_runs(&cluster, answers.into_keys().collect());
}
