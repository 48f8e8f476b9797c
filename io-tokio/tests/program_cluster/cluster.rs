//! Three processes, and a client that is connected to them.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use dunlin_tokio::control::{ControlServer, Listener};
use dunlin_tokio::{FencingToken, Node, NodeBuilder, PeerId, key};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// From the loss of a leader to the first answer of the next one: the lease's two seconds, and what a busy machine adds to
/// a hundred milliseconds.
pub(crate) const REPLACED_WITHIN: Duration = Duration::from_millis(2_300);

fn dunlin(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
    let runtime = home.join("run");
    std::fs::create_dir_all(&runtime).unwrap();
    command.env("XDG_CONFIG_HOME", home).env("XDG_DATA_HOME", home).env("XDG_RUNTIME_DIR", runtime);
    command.env_remove("DUNLIN_LOG").stdin(Stdio::null());
    command
}

/// One process, which may be killed and started again.
pub(crate) struct Server {
    pub(crate) home: PathBuf,
    pub(crate) id: PeerId,
    pub(crate) address: SocketAddr,
    /// What it runs for a call, by a shell.
    script: String,
    child: Option<Child>,
    /// What the process says of itself.
    says: Option<mpsc::UnboundedReceiver<Value>>,
}

impl Server {
    fn control(&self) -> PathBuf {
        self.home.join("control.sock")
    }

    /// Starts the process. `serve` are arguments of `dunlin serve exec`.
    fn start(&mut self, serve: &[&str], all: &[(PeerId, SocketAddr)]) {
        let mut command = dunlin(&self.home);
        command.args(["--json", "serve", "exec", "--running-max", "64"]).args(serve);
        command.arg("--key").arg(self.home.join("key"));
        command.arg("--control").arg(self.control());
        command.args(["--listen", &self.address.to_string()]);
        let is_single_active = is_single_active(serve);
        for (id, address) in all {
            if is_single_active {
                command.args(["--acceptor", &id.to_string()]);
            }
            if *id != self.id {
                command.args(["--peer", &format!("{id}@{address}")]);
            }
        }
        command.args(["--", "sh", "-c", &self.script]);
        command.env("DUNLIN", env!("CARGO_BIN_EXE_dunlin")).env("CONTROL", self.control());
        command.env("LOG", self.log()).env("ID", self.id.to_string());
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.expect("the program runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("it says where it is");
        assert!(line.contains("listening"), "{line}");
        // What it says from now on is read, so that it goes on saying it.
        let (tell, says) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).expect("an object"));
            }
        });
        (self.child, self.says) = (Some(child), Some(says));
    }

    /// Where its script writes what it does.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    /// Waits until the process says that this has happened to it.
    pub(crate) async fn until(&mut self, event: &str) {
        let says = self.says.as_mut().expect("it was started");
        let said = async { while says.recv().await.expect("it runs")["event"] != event {} };
        timeout(PATIENCE, said).await.expect("it says so in time");
    }

    /// As SIGKILL does: at once, without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it has ended");
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it was started");
        kill_process(Pid::from_child(child), signal).expect("it runs");
    }

    /// Tells it to end, as a service manager does, and waits until it has.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("it was started");
        let ended = tokio::task::spawn_blocking(move || child.wait().expect("it has ended"));
        timeout(PATIENCE, ended).await.expect("it ends in time").expect("it is waited for")
    }

    /// Runs a command through this process.
    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        let mut command = dunlin(&self.home);
        command.arg("--json").args(args).arg("--control").arg(self.control());
        command.output().expect("the program runs")
    }

    /// As above, and it succeeds. What it prints, by lines.
    pub(crate) fn ok(&self, args: &[&str]) -> Vec<Value> {
        let output = self.ask(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
    }

    /// As above, and it fails: the error.
    pub(crate) fn error(&self, args: &[&str]) -> Value {
        let output = self.ask(args);
        assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        let last = text.lines().last().expect("an error is told");
        serde_json::from_str::<Value>(last).expect("an object")["error"].clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three processes that serve one service, and a client in the test itself.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    pub(crate) client: Node,
    /// The client's control socket.
    control: ControlServer,
    serve: Vec<String>,
    all: Vec<(PeerId, SocketAddr)>,
    /// Removed at the end, behind the processes.
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts them with arguments of `dunlin serve exec`, and a script that is run for each call.
    pub(crate) async fn start(serve: &[&str], script: &str) -> Cluster {
        Cluster::with_client(serve, script, Node::builder()).await
    }

    /// As above, with a client that serves something itself.
    pub(crate) async fn with_client(serve: &[&str], script: &str, client: NodeBuilder) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let mut servers = servers(folder.path(), script);
        let all: Vec<(PeerId, SocketAddr)> = servers.iter().map(|s| (s.id, s.address)).collect();
        servers.iter_mut().for_each(|server| server.start(serve, &all));
        if is_single_active(serve) {
            // An acceptor with a new store takes part once it has heard all others: until then none may be missing.
            for server in &mut servers {
                server.until("acceptor_ready").await;
            }
        }
        let mut client = client.development_network();
        for (id, address) in &all {
            client = client.peer(*id, [*address]);
        }
        let client = client.listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap();
        let listener = Listener::at(&folder.path().join("client.sock")).await.unwrap();
        let control = ControlServer::start(listener, client.operator());
        let serve = serve.iter().map(ToString::to_string).collect();
        Cluster { servers, client, control, serve, all, folder }
    }

    /// Starts one that was killed or has ended.
    pub(crate) fn restart(&mut self, server: usize) {
        let serve: Vec<&str> = self.serve.iter().map(String::as_str).collect();
        self.servers[server].start(&serve, &self.all);
    }

    /// The program, to be run on the client's node.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = dunlin(self.folder.path());
        command.arg("--json").args(args).arg("--control").arg(self.control.path());
        command
    }

    /// The program as a caller of its own, which is told of all processes, of this one first.
    pub(crate) fn calling(&self, path: &str, first: usize) -> Command {
        let mut command = dunlin(self.folder.path());
        command.args(["--json", "call", "--raw", path]);
        for place in 0..self.all.len() {
            let (id, address) = self.all[(first + place) % self.all.len()];
            command.args(["--peer", &format!("{id}@{address}")]);
        }
        command
    }

    pub(crate) fn place(&self, id: PeerId) -> usize {
        self.servers.iter().position(|server| server.id == id).expect("one of them")
    }

    /// Waits until the client knows of every process that it is in such a state, as the directory calls it.
    pub(crate) async fn until_states(&self, wanted: [&str; 3]) {
        let begun = Instant::now();
        let mut events = self.client.events();
        loop {
            let services = self.client.operator().services().await;
            let state = |server: &Server| {
                let offer = services.iter().find(|offer| offer.peer == server.id);
                offer.map_or("unknown", |offer| offer.state.as_str())
            };
            let states: Vec<&str> = self.servers.iter().map(state).collect();
            if states == wanted {
                return;
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let something = timeout(left, events.next()).await;
            assert!(something.is_ok(), "{states:?} become {wanted:?} in time");
        }
    }

    /// The active instance as the client knows it, with its token, once all offer the service and nobody else does.
    pub(crate) async fn leader(&self) -> (PeerId, FencingToken) {
        let begun = Instant::now();
        let mut events = self.client.events();
        loop {
            let peers = self.client.peers().await;
            let offers =
                peers.iter().flat_map(|peer| peer.services.iter().map(move |s| (peer.peer, s)));
            let offers: Vec<_> = offers.map(|(peer, s)| (peer, s.info.token)).collect();
            let active: Vec<_> =
                offers.iter().filter_map(|(p, token)| Some((*p, (*token)?))).collect();
            if let ([one], 3) = (&active[..], offers.len()) {
                return *one;
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let something = timeout(left, events.next()).await;
            assert!(something.is_ok(), "one of three is active: {offers:?}");
        }
    }
}

fn is_single_active(serve: &[&str]) -> bool {
    serve.contains(&"--single-active")
}

fn servers(folder: &Path, script: &str) -> Vec<Server> {
    // All at one time, so that they differ.
    let sockets: Vec<UdpSocket> =
        (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
    let make = |(number, socket): (usize, &UdpSocket)| {
        let home = folder.join(number.to_string());
        std::fs::create_dir_all(&home).unwrap();
        let identity = key::generate();
        key::save(&home.join("key"), &identity, false).expect("a key file");
        let address = socket.local_addr().expect("it is bound");
        let script = script.to_string();
        Server { home, id: identity.id(), address, script, child: None, says: None }
    };
    sockets.iter().enumerate().map(make).collect()
}
