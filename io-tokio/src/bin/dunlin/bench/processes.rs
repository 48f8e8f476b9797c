//! All ends of a measurement as processes of this same program.
//!
//! The ends are started with the hidden subcommand `bench end` and talk to the process that started
//! them in lines: the server says where it is, and then how much CPU it has used whenever it is sent a
//! line; the client says when it is warm, is sent a line, and says what it measured. All end when
//! their standard input does, so that none outlives who started it.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::measure::{self, Measured};
use super::network::RunNetwork;
use super::workload::{Setting, Workload};
use super::{Failure, baseline, events, events_baseline, mesh};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Contender {
    /// The quinn crate alone, tuned.
    Quinn,
    /// A node.
    Dunlin,
}

/// What one end is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) contender: Contender,
    pub(super) setting: Setting,
    pub(super) cpus: Vec<usize>,
    /// The network of both nodes; the baseline has no use for it.
    pub(super) network: RunNetwork,
    /// For the client: where its servers are. A server has none.
    pub(super) servers: Vec<Place>,
}

/// Where a server is, and who.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// Its public key, in the contender's own form.
    pub(super) key: String,
}

/// Runs one round.
pub(super) fn measure(task: &Task) -> Result<Measured, Failure> {
    let mut ends = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..task.setting.workload.servers() {
        let mut server = End::start(task)?;
        servers.push(serde_json::from_str(&server.hear()?)?);
        ends.push(server);
    }
    let mut client = End::start(&Task { servers, ..task.clone() })?;
    if client.hear()?.trim() != "begin" {
        return Err("the client's end did not begin".into());
    }
    let mut server_cpu_ns = || ends.iter_mut().map(End::cpu_ns).sum::<Result<u64, Failure>>();
    let before = server_cpu_ns()?;
    client.say("go")?;
    let mut measured: Measured = serde_json::from_str(&client.hear()?)?;
    measured.server_cpu_ns = server_cpu_ns()? - before;
    Ok(measured)
}

/// A process at one end. It is ended when this is dropped.
struct End {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl End {
    fn start(task: &Task) -> Result<End, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "end", &serde_json::to_string(task)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(End { child, stdin, stdout })
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.stdin.as_mut().expect("open until it is dropped"), "{line}")?;
        Ok(())
    }

    fn hear(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err("an end of the measurement stopped; its reason is above".into());
        }
        Ok(line)
    }

    fn cpu_ns(&mut self) -> Result<u64, Failure> {
        self.say("cpu")?;
        Ok(self.hear()?.trim().parse()?)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It may be in the middle of something; nothing of it is wanted any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the hidden subcommand does.
pub(super) fn serve_as_end(task: &str) -> Result<(), Failure> {
    let task: Task = serde_json::from_str(task)?;
    let mut set = CpuSet::new();
    for &cpu in &task.cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(format!("there is no CPU {cpu}").into());
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(|error| {
        format!("this process may not use CPU {:?} alone (see --cpus): {error}", task.cpus)
    })?;
    // One thread: on the way of a call there is no hop between threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (setting, network) = (&task.setting, &task.network);
        let events = setting.workload == Workload::Events;
        match (task.contender, &task.servers[..]) {
            (Contender::Quinn, []) => baseline::serve(setting, announce).await,
            (Contender::Quinn, places) if events => events_baseline::measure(setting, places).await,
            (Contender::Quinn, [place, ..]) => baseline::measure(setting, place).await,
            (Contender::Dunlin, []) if events => events::serve(setting, network, announce).await,
            (Contender::Dunlin, []) => mesh::serve(setting, network, announce).await,
            (Contender::Dunlin, places) if events => {
                events::measure(setting, network, places).await
            }
            (Contender::Dunlin, [place, ..]) => mesh::measure(setting, network, place).await,
        }
    })
}

/// Says where the server is, and from now on how much CPU it has used.
fn announce(place: &Place) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(place)?);
    std::io::stdout().flush()?;
    // On a thread of its own, which sleeps while something is measured.
    std::thread::spawn(|| {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() {
                break;
            }
            println!("{}", measure::cpu_ns());
        }
        std::process::exit(0);
    });
    Ok(())
}
