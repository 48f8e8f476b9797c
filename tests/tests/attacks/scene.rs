//! What an attack is run against: a network, a real `dunlin` process as the victim, an honest client that was there
//! before, and newcomers.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use dunlin_core::auth::descriptor::DescriptorClaims;
use dunlin_core::auth::{DescriptorChain, Dissemination, Grant, NetworkId, Token, TokenId};
use dunlin_core::{Identity, PeerId, WallTime};
use dunlin_tokio::clock::{Clock, SystemClock};
use dunlin_tokio::{Node, NodeBuilder, PeerAddress, key};

const HOUR: Duration = Duration::from_secs(3_600);
/// However slow the machine is, nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two calls of the honest client.
const CALL_INTERVAL: Duration = Duration::from_millis(2);
/// Between two newcomers.
const NEWCOMER_INTERVAL: Duration = Duration::from_millis(400);
/// What a victim's memory may grow by, in bytes.
pub(crate) const MEMORY_MAX: u64 = 64 << 20;
/// What may be left of it a minute later: allocators keep some.
const MEMORY_LEFT_MAX: u64 = 16 << 20;

static DUNLIN: LazyLock<PathBuf> = LazyLock::new(|| program("--bin", "dunlin"));
static PUBLISHER: LazyLock<PathBuf> = LazyLock::new(|| program("--example", "publisher"));

fn program(kind: &str, name: &str) -> PathBuf {
    match attack_seconds() {
        Some(_) => dunlin_tests::build::release_program(kind, name),
        None => dunlin_tests::build::program(kind, name),
    }
}

fn wall() -> WallTime {
    SystemClock.now().wall
}

/// How long each attack is run, in seconds. With a number in the environment the victim is a release build, and times are
/// judged too: that takes a machine that does nothing but this.
fn attack_seconds() -> Option<u64> {
    std::env::var("DUNLIN_ATTACK_SECONDS").ok()?.parse().ok()
}

/// What a peer shows of its rights.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) network: NetworkId,
    pub(crate) token: Token,
}

/// A network with its issuer.
pub(crate) struct Network {
    issuer: Identity,
    chain: DescriptorChain,
}

impl Network {
    fn found() -> Network {
        let [root, next_root, issuer] = [0; 3].map(|_| key::generate());
        let claims = DescriptorClaims {
            name: "shop".into(),
            sequence: 0,
            root: root.id(),
            next_root: next_root.id(),
            expires: wall() + HOUR,
            issuers: vec![(issuer.id(), 1)],
            registry_members: Vec::new(),
            registry_epoch: 0,
            former_registries: Vec::new(),
            revoked_before: WallTime::default(),
            revoked_tokens: Vec::new(),
            revoked_issuers: Vec::new(),
            dissemination: Dissemination::Mesh,
            message_bytes_max: None,
        };
        let chain = DescriptorChain::found(&root, [1; 16], claims).expect("a network");
        Network { issuer, chain }
    }

    fn token(&self, subject: PeerId, permissions: &str) -> Token {
        let grant = grant(subject, permissions, 2);
        Token::issue(&self.issuer, 1, self.chain.id(), grant).expect("it may be issued")
    }

    /// A narrow token of a member.
    pub(crate) fn claim(&self, subject: PeerId, permissions: &str) -> Claim {
        Claim { network: self.chain.id(), token: self.token(subject, permissions) }
    }

    /// A token that its holder has delegated, all of it.
    pub(crate) fn delegated(&self, holder: &Identity, claim: &Claim, to: PeerId) -> Claim {
        let whole = claim.token.claims().last().expect("a link");
        // No longer valid than what it comes from.
        let (not_before, expires) = (whole.not_before, whole.expires);
        let grant = Grant { not_before, expires, ..grant(to, "call:echo/say", 0) };
        let token = claim.token.attenuate(holder, grant).expect("it may be delegated");
        Claim { network: claim.network, token }
    }

    /// An honest member in this process.
    fn member(&self) -> NodeBuilder {
        let identity = key::generate();
        let token = self.token(identity.id(), "call:echo/say call:news/publish");
        Node::builder()
            .identity(identity)
            .listen("127.0.0.1:0".parse().expect("an address"))
            .network(self.chain.to_text(), token.to_text())
    }
}

fn grant(subject: PeerId, permissions: &str, depth_left: u32) -> Grant {
    Grant {
        subject,
        permissions: permissions.parse().expect("permissions"),
        not_before: wall() - HOUR,
        expires: wall() + HOUR,
        issued_at: wall() - HOUR,
        depth_left,
        id: TokenId(key::random()[..16].try_into().expect("16 bytes")),
    }
}

/// What the victim serves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Serves {
    /// `dunlin serve echo`.
    Echo,
    /// The example `publisher`: each call publishes an event.
    News,
}

impl Serves {
    fn path(self) -> &'static str {
        match self {
            Serves::Echo => "echo/say",
            Serves::News => "news/publish",
        }
    }
}

/// A process in a network with tokens.
pub(crate) struct Victim {
    child: Child,
    pub(crate) id: PeerId,
    pub(crate) address: SocketAddr,
}

impl Victim {
    fn start(network: &Network, home: &Path, serves: Serves) -> Victim {
        let identity = key::generate();
        let token = network.token(identity.id(), "serve:echo/> serve:news/> publish:news/>");
        let file = |name: &str| home.join(name).into_os_string().into_string().expect("UTF-8");
        let files = [file("network"), file("token"), file("key")];
        std::fs::write(&files[0], network.chain.to_text()).expect("a file");
        std::fs::write(&files[1], token.to_text()).expect("a file");
        key::save(Path::new(&files[2]), &identity, false).expect("a file");
        let mut command = match serves {
            Serves::Echo => {
                let mut command = Command::new(&*DUNLIN);
                command.args(["serve", "echo", "--listen", "127.0.0.1:0", "--control", "none"]);
                for (flag, file) in ["--network", "--token", "--key"].iter().zip(&files) {
                    command.args([flag, file.as_str()]);
                }
                command
            }
            Serves::News => {
                let mut command = Command::new(&*PUBLISHER);
                command.args(&files);
                command
            }
        };
        let mut child = command
            .env("XDG_RUNTIME_DIR", home)
            .env("XDG_DATA_HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let (said, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = lines.read_line(&mut line);
            let _ = said.send(line);
            // Later lines are read, so that the process never waits for a reader.
            lines.lines().count();
        });
        let line = line.recv_timeout(PATIENCE).expect("it starts");
        let text = line.split_whitespace().next().expect("its address");
        let (id, address) = text.split_once('@').expect("an id and an address");
        Victim {
            child,
            id: id.parse().expect("an id"),
            address: address.parse().expect("an address"),
        }
    }

    fn peer(&self) -> PeerAddress {
        PeerAddress::new(self.id, self.address)
    }

    /// Resident memory, in bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the victim lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("KiB");
        kib << 10
    }

    /// Whether the process still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a process").is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How calls of the honest client, or newcomers, fared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fared {
    taken: Vec<Duration>,
    failed: Vec<String>,
}

impl Fared {
    fn note(&mut self, taken: Duration, result: Result<(), String>) {
        match result {
            Ok(()) => self.taken.push(taken),
            Err(why) => self.failed.push(why),
        }
    }

    fn quantile(&self, of_a_thousand: usize) -> Duration {
        let mut taken = self.taken.clone();
        taken.sort();
        let last = taken.len().saturating_sub(1);
        taken.get(last * of_a_thousand / 1_000).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Fared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} well, {} failed, p50 {:?}, p99 {:?}, worst {:?}",
            self.taken.len(),
            self.failed.len(),
            self.quantile(500),
            self.quantile(990),
            self.quantile(1_000),
        )
    }
}

/// Runs on a thread of its own, with a runtime of its own, until it is told to end.
struct Background {
    end: Arc<AtomicBool>,
    fared: Arc<Mutex<Fared>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Background {
    fn start<F, W>(work: F) -> Background
    where
        F: FnOnce(Arc<AtomicBool>, Arc<Mutex<Fared>>) -> W + Send + 'static,
        W: Future<Output = ()>,
    {
        let (end, fared) = (Arc::default(), Arc::default());
        let (ends, notes) = (Arc::clone(&end), Arc::clone(&fared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(work(ends, notes));
        });
        Background { end, fared, thread: Some(thread) }
    }

    /// What was noted since the last time.
    fn take(&self) -> Fared {
        std::mem::take(&mut self.fared.lock().expect("no panic"))
    }

    fn finish(mut self) -> Fared {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().expect("once").join().expect("it ends well");
        self.take()
    }
}

async fn say(node: &Node, path: &str) -> Result<(), String> {
    let request = node.request(path).value("hi").timeout(Duration::from_secs(2));
    let answer = request.without_retries().send_as::<serde_json::Value>().await;
    answer.map(|_| ()).map_err(|error| error.to_string())
}

/// Calls again and again on one link that was there before the attack.
fn honest_client(builder: NodeBuilder, victim: PeerAddress, path: &'static str) -> Background {
    Background::start(move |end, fared| async move {
        let node = builder.start().await.expect("it starts");
        node.connect(victim).await.expect("it is let in before the attack");
        while !end.load(Ordering::Relaxed) {
            let began = Instant::now();
            let result = say(&node, path).await;
            fared.lock().expect("no panic").note(began.elapsed(), result);
            tokio::time::sleep(CALL_INTERVAL).await;
        }
        node.shutdown().await.expect("it stops");
    })
}

/// A new member with a token of its own each time: from its start to its first answer.
fn newcomers(network: Arc<Network>, victim: PeerAddress, path: &'static str) -> Background {
    Background::start(move |end, fared| async move {
        while !end.load(Ordering::Relaxed) {
            let began = Instant::now();
            let node = network.member().start().await.expect("it starts");
            let result = async {
                node.connect(victim.clone()).await.map_err(|error| error.to_string())?;
                say(&node, path).await
            };
            let result = tokio::time::timeout(PATIENCE, result).await;
            let result = result.unwrap_or_else(|_| Err("not within a minute".into()));
            fared.lock().expect("no panic").note(began.elapsed(), result);
            node.shutdown().await.expect("it stops");
            tokio::time::sleep(NEWCOMER_INTERVAL).await;
        }
    })
}

/// Everything that an attack is given.
pub(crate) struct Scene {
    pub(crate) network: Arc<Network>,
    pub(crate) victim: Victim,
    serves: Serves,
    _home: tempfile::TempDir,
}

impl Scene {
    /// The victim answers calls.
    pub(crate) fn echo() -> Scene {
        Scene::new(Serves::Echo)
    }

    /// The victim publishes an event at each call.
    pub(crate) fn publishing() -> Scene {
        Scene::new(Serves::News)
    }

    fn new(serves: Serves) -> Scene {
        let network = Arc::new(Network::found());
        let home = tempfile::tempdir().expect("a folder");
        let victim = Victim::start(&network, home.path(), serves);
        Scene { network, victim, serves, _home: home }
    }

    /// Runs an attack: `attack` is called again and again until its time is over, on this thread.
    ///
    /// Meanwhile an honest client calls, newcomers come, and the victim's memory is read. In the short form nothing is
    /// judged that a busy machine would change.
    pub(crate) fn attacked(&mut self, name: &str, mut attack: impl FnMut()) {
        // One at a time, or each would be judged by what the others do to the machine.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let path = self.serves.path();
        let measured = attack_seconds();
        let duration = Duration::from_secs(measured.unwrap_or(2));
        let client = honest_client(self.network.member(), self.victim.peer(), path);
        wait_until("the honest client is served", || {
            !client.fared.lock().expect("no panic").taken.is_empty()
        });
        if measured.is_some() {
            std::thread::sleep(Duration::from_secs(3));
        }
        let quiet = client.take();
        let memory = self.victim.memory();
        let mut most = memory;
        let others = newcomers(Arc::clone(&self.network), self.victim.peer(), path);
        let began = Instant::now();
        let mut looked = began;
        while began.elapsed() < duration {
            attack();
            if looked.elapsed() > Duration::from_millis(50) {
                looked = Instant::now();
                most = most.max(self.victim.memory());
            }
        }
        let attacked = client.take();
        let came = others.take();
        // What comes after it.
        let limit = memory + MEMORY_LEFT_MAX;
        let over = Instant::now();
        if measured.is_some() {
            wait_until("memory falls", || self.victim.memory() <= limit);
        }
        let fell_after = over.elapsed();
        wait_until("newcomers get in", || others.fared.lock().expect("no panic").taken.len() >= 2);
        let came_after = others.finish();
        let after = client.finish();
        let grown = most - memory;
        println!(
            "{name}, {duration:?}\n  quiet:     {quiet}\n  attacked:  {attacked}\n  after:     {after}\n  \
             newcomers: {came}; after it {came_after}\n  memory:    {} KiB, {} KiB more at most, \
             looked at until {fell_after:?} later",
            memory >> 10,
            grown >> 10,
        );
        assert!(grown <= MEMORY_MAX, "{name}: memory grew by {grown} bytes");
        for fared in [&attacked, &after, &came, &came_after] {
            let (failed, last) = (fared.failed.len(), fared.failed.last());
            assert!(failed == 0, "{name}: {failed} failed, the last with {last:?}");
        }
        assert!(!attacked.taken.is_empty(), "{name}: the honest client was served");
        if measured.is_some() {
            let bound = Duration::from_millis(10);
            let p99 = attacked.quantile(990);
            assert!(p99 <= bound, "{name}: p99 {p99:?}");
            for fared in [&came, &came_after] {
                let worst = fared.quantile(1_000);
                assert!(worst <= Duration::from_secs(2), "{name}: a newcomer took {worst:?}");
            }
        }
    }
}

/// Waits for a condition with a bound.
fn wait_until(what: &str, mut is_it: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_it() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
