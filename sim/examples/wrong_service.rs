//! A service with a mistake, found under chaos and shrunk to what a person can read.
//!
//! A cashier deposits money at a bank. When it gets no answer it tries again, and the bank books again: nobody
//! looks whether the first deposit was booked after all.
//!
//! ```text
//! cargo run --release -p dunlin-sim --example wrong_service
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunlin_core::rpc::CallError;
use dunlin_core::service::{BoxFuture, Handle, Service, service};
use dunlin_sim::draw::draw;
use dunlin_sim::schedule::{Call, Crypto, Fidelity, Schedule};
use dunlin_sim::shrink::{Options, shrink};
use dunlin_sim::{NodeInfo, Verdict, Workload, report, run_with};

/// What the bank has booked, by the number of the deposit. It survives crashes, as on a disk.
type Books = Arc<Mutex<BTreeMap<u64, u32>>>;

/// Node 0 is the bank. Every call of the schedule is a deposit.
#[derive(Default)]
struct Bank {
    books: Books,
}

impl Workload for Bank {
    fn services(&self, node: &NodeInfo) -> Vec<Arc<dyn Service>> {
        let books = Arc::clone(&self.books);
        let bank = service("bank").action("deposit", move |_, number: u64| {
            *books.lock().expect("no handler panics").entry(number).or_default() += 1;
            async { Ok(()) }
        });
        if node.life.node == 0 { vec![Arc::new(bank)] } else { Vec::new() }
    }

    fn perform(&self, node: &NodeInfo, call: &Call, handle: Handle) -> Option<BoxFuture<()>> {
        let (bank, wait) = (node.peers[0], Duration::from_millis(call.timeout_ms.into()));
        Some(Box::pin(async move {
            let number = handle.random();
            for _ in 0..3 {
                let deposit = handle.request("bank/deposit").value(number).timeout(wait).to(bank);
                let answer: Result<(), CallError> = deposit.send_as().await;
                if answer.is_ok() {
                    return;
                }
                // The mistake: an error may mean that the deposit was booked, and only its answer was lost.
            }
        }))
    }

    fn check(&self) -> Result<(), String> {
        let books = self.books.lock().expect("no handler panics");
        match books.iter().find(|(_, times)| **times > 1) {
            Some((number, times)) => Err(format!("deposit {number} was booked {times} times")),
            None => Ok(()),
        }
    }
}

fn bank(_: &Schedule) -> Box<dyn Workload> {
    Box::new(Bank::default())
}

fn main() {
    let failing = (0..100)
        .map(|seed| draw(seed, Fidelity::Frames, Crypto::Null))
        .find(|schedule| run_with(schedule, &Bank::default(), None).verdict != Verdict::Clean);
    let failing = failing.expect("the mistake is found within a hundred seeds");
    let shrunk = shrink(&failing, &Options::default(), &bank, &|_| {}).expect("it fails");
    println!("before: {}\nafter:  {}, in {} runs", shrunk.before, shrunk.after, shrunk.runs);
    println!("{}", report::failure_by(&shrunk.outcome, "run_with the schedule below"));
    println!("{}", shrunk.schedule.to_json());
    assert!(shrunk.is_minimal && shrunk.after.nodes == 2 && shrunk.after.operations == 1);
}
