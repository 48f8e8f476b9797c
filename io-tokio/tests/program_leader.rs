//! Single-active services of the `dunlin` program: the active process is killed, and another takes over.

#![cfg(all(feature = "cli", unix))]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_tokio::{CallError, FencingToken, Node, Payload, PeerId, key};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// So often the active process is killed, unless this says otherwise.
const KILLS: &str = "DUNLIN_LEADER_KILLS";

/// From the kill to the first answer of the next leader: the lease's two seconds, and what a busy machine adds to a hundred
/// milliseconds.
const REPLACED_WITHIN: Duration = Duration::from_millis(2_300);

const PATIENCE: Duration = Duration::from_secs(30);

fn dunlin(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
    let runtime = home.join("run");
    std::fs::create_dir_all(&runtime).unwrap();
    command.env("XDG_CONFIG_HOME", home).env("XDG_DATA_HOME", home).env("XDG_RUNTIME_DIR", runtime);
    command.env_remove("DUNLIN_LOG").stdin(Stdio::null());
    command
}

/// One process, which may be killed and started again.
struct Server {
    home: PathBuf,
    id: PeerId,
    address: SocketAddr,
    child: Option<Child>,
    /// The process says that it takes part in deciding who gets leases.
    ready: Option<mpsc::UnboundedReceiver<()>>,
}

impl Server {
    fn control(&self) -> PathBuf {
        self.home.join("control.sock")
    }

    fn start(&mut self, all: &[(PeerId, SocketAddr)]) {
        let mut command = dunlin(&self.home);
        command.args(["--json", "serve", "exec", "--single-active", "--path", "counter/token"]);
        command.arg("--key").arg(self.home.join("key"));
        command.arg("--control").arg(self.control());
        command.args(["--listen", &self.address.to_string()]);
        for (id, address) in all {
            command.args(["--acceptor", &id.to_string()]);
            if *id != self.id {
                command.args(["--peer", &format!("{id}@{address}")]);
            }
        }
        command.args(["--", "printenv", "DUNLIN_TOKEN"]);
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.expect("the program runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("it says where it is");
        assert!(line.contains("listening"), "{line}");
        // What it says from now on is read, so that it goes on saying it.
        let (tell, ready) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if line.contains("acceptor_ready") {
                    let _ = tell.send(());
                }
            }
        });
        (self.child, self.ready) = (Some(child), Some(ready));
    }

    /// After a start it abstains, as an acceptor: waits until it takes part.
    async fn takes_part(&mut self) {
        let ready = self.ready.as_mut().expect("it was started");
        timeout(PATIENCE, ready.recv()).await.expect("it says so in time").expect("it runs");
    }

    /// As SIGKILL does: at once, without a word.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it has ended");
        }
    }

    fn ask(&self, args: &[&str]) -> Output {
        let mut command = dunlin(&self.home);
        command.arg("--json").args(args).arg("--control").arg(self.control());
        command.output().expect("the program runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn servers(folder: &Path) -> Vec<Server> {
    // All at one time, so that they differ.
    let sockets: Vec<UdpSocket> =
        (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
    let make = |(number, socket): (usize, &UdpSocket)| {
        let home = folder.join(number.to_string());
        std::fs::create_dir_all(&home).unwrap();
        let identity = key::generate();
        key::save(&home.join("key"), &identity, false).expect("a key file");
        let address = socket.local_addr().expect("it is bound");
        Server { home, id: identity.id(), address, child: None, ready: None }
    };
    sockets.iter().enumerate().map(make).collect()
}

/// What calls came to: answers with the time of their end, and the codes of failures.
#[derive(Default)]
struct Seen {
    answers: Vec<(Instant, FencingToken)>,
    failures: BTreeSet<String>,
}

fn read_token(payload: &Payload) -> FencingToken {
    let (_, bytes) = payload.encode().expect("bytes");
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let (epoch, round) = text.trim().split_once('.').expect("an epoch and a round");
    FencingToken { epoch: epoch.parse().unwrap(), round: round.parse().unwrap() }
}

/// Calls all the time, each call for a second, whatever becomes of those before.
fn keep_calling(client: &Node, seen: &Arc<watch::Sender<Seen>>) -> tokio::task::JoinHandle<()> {
    let (handle, seen) = (client.handle(), Arc::clone(seen));
    tokio::spawn(async move {
        let mut due = tokio::time::interval(Duration::from_millis(25));
        loop {
            due.tick().await;
            let request = handle.request("counter/token").payload(Payload::raw(Vec::new()));
            let (request, seen) = (request.timeout(Duration::from_secs(1)), Arc::clone(&seen));
            tokio::spawn(async move {
                match request.send().await {
                    Ok(payload) => {
                        let token = read_token(&payload);
                        seen.send_modify(|seen| seen.answers.push((Instant::now(), token)));
                    }
                    Err(CallError::Application(error)) => panic!("no handler refuses: {error}"),
                    Err(error) => {
                        let code = error.code().to_string();
                        seen.send_modify(|seen| {
                            seen.failures.insert(code);
                        });
                    }
                }
            });
        }
    })
}

/// The active instance as the client knows it, with its token, once all offer the service and nobody else does.
async fn leader(client: &Node) -> (PeerId, FencingToken) {
    let begun = Instant::now();
    let mut events = client.events();
    loop {
        let peers = client.peers().await;
        let offers =
            peers.iter().flat_map(|peer| peer.services.iter().map(move |s| (peer.peer, s)));
        let offers: Vec<_> = offers.map(|(peer, s)| (peer, s.info.token)).collect();
        let active: Vec<_> = offers.iter().filter_map(|(p, token)| Some((*p, (*token)?))).collect();
        if let ([one], 3) = (&active[..], offers.len()) {
            return *one;
        }
        let left = PATIENCE.saturating_sub(begun.elapsed());
        let something = timeout(left, events.next()).await;
        assert!(something.is_ok(), "one of three is active: {offers:?}");
    }
}

/// Waits until the first answer by a later token. When it came.
async fn answer_after(seen: &watch::Sender<Seen>, token: FencingToken) -> (Instant, FencingToken) {
    let later = |seen: &Seen| seen.answers.iter().find(|(_, by)| *by > token).copied();
    let mut seen = seen.subscribe();
    let there = timeout(PATIENCE, seen.wait_for(|seen| later(seen).is_some())).await;
    later(&there.expect("somebody takes over").expect("the client calls")).expect("it is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_is_replaced_while_a_client_goes_on_calling() {
    let kills: usize = std::env::var(KILLS).map_or(3, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().unwrap();
    let mut servers = servers(folder.path());
    let all: Vec<(PeerId, SocketAddr)> = servers.iter().map(|s| (s.id, s.address)).collect();
    servers.iter_mut().for_each(|server| server.start(&all));
    let mut builder = Node::builder().development_network();
    for (id, address) in &all {
        builder = builder.peer(*id, [*address]);
    }
    let client = builder.listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap();
    let seen = Arc::new(watch::Sender::new(Seen::default()));
    leader(&client).await;
    let calling = keep_calling(&client, &seen);
    let mut took = Vec::new();
    for _ in 0..kills {
        let (at, token) = leader(&client).await;
        answer_after(&seen, FencingToken { round: token.round - 1, ..token }).await;
        let server = servers.iter_mut().find(|server| server.id == at).unwrap();
        let killed = Instant::now();
        server.kill();
        let (answered, by) = answer_after(&seen, token).await;
        assert!(by > token, "tokens grow");
        took.push(answered - killed);
        server.start(&all);
        server.takes_part().await;
    }
    println!("replaced within {took:?}");
    assert!(took.iter().all(|took| *took <= REPLACED_WITHIN), "{took:?}");
    // Tokens of answers never go back for long: an answer of an earlier leader may be on its way.
    let (at, token) = leader(&client).await;
    // The program sees the same, and can move it.
    let there = servers.iter().find(|server| server.id == at).unwrap();
    let shown = there.ask(&["leader", "show", "counter"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("an object");
    assert_eq!(shown["leader"], at.to_string());
    assert_eq!(shown["token"], token.to_string());
    assert_eq!(shown["standbys"].as_array().map(Vec::len), Some(2));
    let elsewhere = servers.iter().find(|server| server.id != at).unwrap();
    let refused = elsewhere.ask(&["leader", "stepdown", "counter"]);
    assert!(!refused.status.success());
    let error = String::from_utf8_lossy(&refused.stderr).to_string();
    assert!(error.contains("NOT_ACTIVE") && error.contains(&at.to_string()), "{error}");
    let moved = there.ask(&["leader", "stepdown", "counter"]);
    assert!(moved.status.success(), "{moved:?}");
    answer_after(&seen, token).await;
    assert_ne!(leader(&client).await.0, at);
    calling.abort();
    let seen = seen.borrow();
    // Whoever is silent for long is left alone, until somebody else is active.
    let typed =
        ["DEADLINE_EXCEEDED", "NOT_ACTIVE", "HANDLER_FAILED", "PEER_RESTARTED", "BREAKER_OPEN"];
    assert!(seen.failures.iter().all(|code| typed.contains(&code.as_str())), "{:?}", seen.failures);
}
