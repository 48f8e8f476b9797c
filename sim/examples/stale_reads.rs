//! A key-value service that is wrong on purpose, and the checker that finds it: reads may go to a copy, and a write is
//! confirmed whether or not the copy has it.
//!
//! ```text
//! cargo run --release -p dunlin-sim --example stale_reads                                finds the bug
//! cargo run --release -p dunlin-sim --example stale_reads -- --picture stale.html      and draws it
//! cargo run --release -p dunlin-sim --example stale_reads -- --right                    reads one place: clean
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunlin_core::rpc::{CallError, Executed};
use dunlin_core::service::{BoxFuture, Handle, Service, service};
use dunlin_sim::draw::draw;
use dunlin_sim::linear::{
    Budget, History, KeyValue, KeyValueOp, KeyValueReturn, ValueOp, Verdict as Judged, check_by_key,
};
use dunlin_sim::schedule::{Crypto, Fidelity};
use dunlin_sim::{Extent, NodeInfo, Verdict, Workload, report, run_recorded, run_with, view};

/// The store is at this node, its copy at the next, and clients at all others.
const STORE: u16 = 0;
const COPY: u16 = 1;

type Values = Arc<Mutex<BTreeMap<String, String>>>;

/// What clients know and write down.
#[derive(Clone, Default)]
struct Clients {
    read_the_copy: bool,
    history: Arc<History<KeyValueOp, KeyValueReturn>>,
}

/// What the nodes keep, as it were on disks that survive crashes, and what the clients saw.
#[derive(Default)]
struct Shop {
    clients: Clients,
    values: [Values; 2],
    /// So many operations begin before the history is judged next.
    judged_at: AtomicUsize,
}

impl Shop {
    fn new(read_the_copy: bool) -> Self {
        Shop { clients: Clients { read_the_copy, ..Clients::default() }, ..Shop::default() }
    }

    fn judge(&self) -> Result<(), String> {
        let history = self.clients.history.operations();
        // One that takes too long to decide is no failure; another seed decides.
        let budget = Budget { steps_max: 200_000 };
        match check_by_key(&KeyValue, &history, KeyValueOp::key, budget) {
            Judged::Broken(broken) => Err(broken.explain(&history)),
            Judged::Linearizable { .. } | Judged::Undecided { .. } => Ok(()),
        }
    }
}

fn lock(values: &Values) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
    values.lock().expect("no handler panics")
}

/// What a client does next, and sees of it.
async fn one(clients: &Clients, node: &NodeInfo, handle: &Handle, number: u64) {
    let key = ["a", "b", "c"][(handle.random() % 3) as usize].to_string();
    let op = |what| KeyValueOp { key: key.clone(), what };
    let within = Duration::from_secs(1);
    let (ticket, result): (_, Result<KeyValueReturn, CallError>) =
        if handle.random().is_multiple_of(2) {
            let value = format!("{} wrote {number}", node.life);
            let ticket = clients.history.begin(op(ValueOp::Put(value.clone())));
            let call = handle.request("store/put").value((key.clone(), value)).timeout(within);
            let result = call.to(node.peers[usize::from(STORE)]).send_as::<()>().await;
            (ticket, result.map(|()| KeyValueReturn::Done))
        } else {
            let ticket = clients.history.begin(op(ValueOp::Get));
            let at_copy = clients.read_the_copy && handle.random().is_multiple_of(2);
            let (path, at) = if at_copy { ("copy/get", COPY) } else { ("store/get", STORE) };
            let call = handle.request(path).value(key.clone()).timeout(within);
            let result = call.to(node.peers[usize::from(at)]).send_as::<Option<String>>().await;
            (ticket, result.map(KeyValueReturn::Value))
        };
    node.ledger.note(node.life, || format!("{key}: {result:?}"));
    match result {
        Ok(answer) => clients.history.end(ticket, answer),
        Err(error) if error.executed() == Executed::No => clients.history.withdraw(ticket),
        // Nobody knows: it stays open.
        Err(_) => {}
    }
}

impl Workload for Shop {
    fn services(&self, node: &NodeInfo) -> Vec<Arc<dyn Service>> {
        let [store, copy] = self.values.clone();
        let get = |values: Values| {
            move |_, key: String| {
                let found = lock(&values).get(&key).cloned();
                async move { Ok(found) }
            }
        };
        match node.life.node {
            STORE => {
                let there = node.peers[usize::from(COPY)];
                let put = service("store").action("get", get(Arc::clone(&store))).action(
                    "put",
                    move |cx, (key, value): (String, String)| {
                        let store = Arc::clone(&store);
                        async move {
                            lock(&store).insert(key.clone(), value.clone());
                            let call = cx.request("copy/take").value((key, value)).to(there);
                            let call = call.timeout(Duration::from_millis(300));
                            // The mistake: whether the copy has it does not matter here.
                            let _ = call.send_as::<()>().await;
                            Ok(())
                        }
                    },
                );
                vec![Arc::new(put)]
            }
            COPY => {
                let service = service("copy").action("get", get(Arc::clone(&copy))).action(
                    "take",
                    move |_, (key, value): (String, String)| {
                        lock(&copy).insert(key, value);
                        async move { Ok(()) }
                    },
                );
                vec![Arc::new(service)]
            }
            _ => Vec::new(),
        }
    }

    fn start(&self, node: &NodeInfo, handle: Handle) -> Option<BoxFuture<()>> {
        let node = node.clone();
        let clients = self.clients.clone();
        (node.life.node > COPY).then(|| {
            Box::pin(async move {
                let mut number = 0;
                while handle.now().mono.as_nanos() < 55_000_000_000 {
                    number += 1;
                    one(&clients, &node, &handle, number).await;
                    handle.sleep(Duration::from_millis(50 + handle.random() % 100)).await;
                }
                // Stays until the node dies: it is not something left behind.
                std::future::pending::<()>().await;
            }) as BoxFuture<()>
        })
    }

    fn check(&self) -> Result<(), String> {
        // Soon after it happens, so that the picture ends near it.
        let count = self.clients.history.len();
        if count < self.judged_at.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.judged_at.store(count + 50, Ordering::Relaxed);
        self.judge()
    }

    fn check_healed(&self) -> Result<(), String> {
        self.judge()
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let is_right = arguments.iter().any(|argument| argument == "--right");
    let picture = arguments.iter().position(|argument| argument == "--picture");
    let picture = picture.and_then(|place| arguments.get(place + 1));
    for seed in 0..20 {
        let mut schedule = draw(seed, Fidelity::Frames, Crypto::Null);
        schedule.operations.clear();
        // Rights, subscribers and services of the built-in workload have no part in this.
        schedule.rights = None;
        for node in &mut schedule.nodes {
            (node.services, node.subscribers) = (Vec::new(), Vec::new());
        }
        let shop = Shop::new(!is_right);
        let outcome = run_with(&schedule, &shop, None);
        let operations = shop.clients.history.len();
        println!("{}; {operations} reads and writes", report::line(&outcome));
        if outcome.verdict != Verdict::Clean {
            println!("{}", report::failure(&outcome));
            if let Some(file) = picture {
                // The same run once more: it takes the same steps.
                let shop = Shop::new(!is_right);
                let (_, recording) = run_recorded(&schedule, &shop, Extent::default());
                std::fs::write(file, view::page(&recording)).expect("the picture can be written");
            }
            return ExitCode::from(1);
        }
    }
    println!("no order of reads and writes was missing in 20 seeds");
    ExitCode::SUCCESS
}
