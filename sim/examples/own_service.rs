//! An embedder's own service under chaos: accounts that take deposits, and the rule that no deposit that
//! was confirmed is lost or counted twice.
//!
//! ```text
//! cargo run --release -p dunlin-sim --example own_service
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunlin_core::rpc::{CallError, Executed};
use dunlin_core::service::{BoxFuture, Handle, Service, service};
use dunlin_sim::draw::draw;
use dunlin_sim::schedule::{Crypto, Fidelity};
use dunlin_sim::{NodeInfo, Verdict, Workload, report, run_with};

/// What the bank keeps, as it were on a disk that survives crashes.
#[derive(Default)]
struct Books {
    /// By the number of the deposit: how often it was booked.
    booked: BTreeMap<u64, u32>,
    confirmed: Vec<u64>,
    denied: Vec<u64>,
}

#[derive(Default)]
struct Bank {
    books: Arc<Mutex<Books>>,
}

impl Workload for Bank {
    fn services(&self, node: &NodeInfo) -> Vec<Arc<dyn Service>> {
        if node.life.node != 0 {
            return Vec::new();
        }
        let books = Arc::clone(&self.books);
        let bank = service("bank").action("deposit", move |cx, number: u64| {
            let books = Arc::clone(&books);
            async move {
                cx.sleep(Duration::from_millis(cx.random() % 20)).await;
                *books.lock().expect("no handler panics").booked.entry(number).or_default() += 1;
                Ok(())
            }
        });
        vec![Arc::new(bank)]
    }

    fn start(&self, node: &NodeInfo, handle: Handle) -> Option<BoxFuture<()>> {
        let books = Arc::clone(&self.books);
        let node = node.clone();
        (node.life.node != 0).then(|| {
            Box::pin(async move {
                while handle.now().mono.as_nanos() < 55_000_000_000 {
                    let number = handle.random();
                    let deposit = handle.request("bank/deposit").value(number);
                    let result: Result<(), CallError> = deposit.to(node.peers[0]).send_as().await;
                    let mut books = books.lock().expect("no handler panics");
                    match result {
                        Ok(()) => books.confirmed.push(number),
                        Err(error) if error.executed() == Executed::No => books.denied.push(number),
                        Err(_) => {}
                    }
                    drop(books);
                    handle.sleep(Duration::from_millis(50)).await;
                }
                // Stays until the node dies: it is not something left behind.
                std::future::pending::<()>().await;
            }) as BoxFuture<()>
        })
    }

    fn check_healed(&self) -> Result<(), String> {
        let books = self.books.lock().expect("no handler panics");
        let times = |number: &u64| books.booked.get(number).copied().unwrap_or(0);
        let count = books.confirmed.len();
        if let Some(number) = books.confirmed.iter().find(|number| times(number) != 1) {
            return Err(format!(
                "deposit {number} was confirmed and booked {} times",
                times(number)
            ));
        }
        if let Some(number) = books.denied.iter().find(|number| times(number) != 0) {
            return Err(format!("deposit {number} was said not to have run, and was booked"));
        }
        println!("{count} deposits confirmed, {} denied", books.denied.len());
        Ok(())
    }
}

fn main() {
    for seed in 0..20 {
        let mut schedule = draw(seed, Fidelity::Frames, Crypto::Null);
        schedule.operations.clear();
        let outcome = run_with(&schedule, &Bank::default(), None);
        println!("{}", report::line(&outcome));
        assert_eq!(outcome.verdict, Verdict::Clean, "{}", report::failure(&outcome));
    }
}
