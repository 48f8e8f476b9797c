//! What commands that run a node have in common: its options, its address lines, its end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use dunlin_tokio::control::{self, ControlServer, Listener, SocketError};
use dunlin_tokio::{
    FileKind, NetworkFiles, Node, NodeBuilder, NodeEvent, PeerAddress, PeerId, Store, StoreError,
    WATCH_INTERVAL, key, udp,
};
use serde_json::{Value, json};

use crate::files::NetworkArgs;
use crate::interrupts::Interrupts;
use crate::output::{Fail, Output, spell};

/// Options of a node.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The key file that makes the node who it is. Without it, the one that `dunlin id new` made; if
    /// there is none, an identity for this run alone
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where to listen (UDP). Port 0 lets the system choose; 0.0.0.0 means all IPv4 addresses of this
    /// machine, [::] those of IPv6 too [default: [::]:0, and 127.0.0.1 with [::1] in the development network, where
    /// everybody who reaches the port is let in, unless a peer elsewhere is given]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// A peer to stay connected to. May be given several times
    #[arg(long = "peer", value_name = "ID@HOST:PORT")]
    peers: Vec<PeerAddress>,
    /// Let only this peer in, and those given with --peer. May be given several times. Without it,
    /// everybody may connect
    #[arg(long, value_name = "ID")]
    allow: Vec<PeerId>,
    /// The control socket, through which commands on this machine use this node with its own rights: a path,
    /// or none. You alone can open it [default: dunlin/ID.sock in $XDG_RUNTIME_DIR, or, without that,
    /// dunlin-UID/ID.sock in the folder for temporary files]
    #[arg(long, value_name = "PATH|none")]
    control: Option<PathBuf>,
    /// Where the node keeps what must survive a crash: a folder of its own, or none [default: dunlin/ID in
    /// $XDG_DATA_HOME, or, without that, in ~/.local/share; none for an identity for one run]
    #[arg(long, value_name = "FOLDER|none")]
    data: Option<PathBuf>,
    /// Who decides which instance of a single-active service is active, in the development network: one, three or
    /// five peers, the same at every node. Other networks name them in their descriptors
    #[arg(long = "acceptor", value_name = "ID", conflicts_with = "networks")]
    acceptors: Vec<PeerId>,
    #[command(flatten)]
    networks: NetworkArgs,
}

/// A node to be started.
pub(crate) struct Plan {
    pub(crate) builder: NodeBuilder,
    /// Its identity ends with it.
    pub(crate) ephemeral: bool,
    pub(crate) watch: Watch,
}

/// What a running node heeds besides its peers.
pub(crate) struct Watch {
    files: NetworkFiles,
    interrupts: Interrupts,
    control: Option<Listener>,
    /// Where it keeps what must survive.
    store: Option<PathBuf>,
}

impl NodeArgs {
    pub(crate) fn is_open(&self) -> bool {
        self.allow.is_empty() && self.networks.is_development()
    }

    /// Whether others than this machine can reach a node that lets everybody in.
    pub(crate) fn is_open_to_others(&self) -> bool {
        self.is_open() && !self.is_here_alone()
    }

    /// Whether it listens on a loopback address alone.
    fn is_here_alone(&self) -> bool {
        match self.listen {
            Some(address) => address.ip().to_canonical().is_loopback(),
            None => {
                self.networks.is_development()
                    && self.peers.iter().all(|peer| peer.host.is_loopback())
            }
        }
    }

    /// The node that the options describe.
    pub(crate) async fn plan(self, output: Output) -> Result<Plan, Fail> {
        self.networks.warn(output);
        let identity = match &self.key {
            Some(path) => Some(key::load(path)?),
            None => match default_key() {
                Some(path) if path.exists() => Some(key::load(&path)?),
                _ => None,
            },
        };
        let ephemeral = identity.is_none();
        let identity = identity.unwrap_or_else(key::generate);
        let id = identity.id();
        let mut builder = Node::builder().identity(identity);
        builder = match self.listen {
            Some(address) => builder.listen(address),
            None if self.is_here_alone() => builder.listen_on_loopback(),
            None => builder,
        };
        for peer in self.peers {
            builder = builder.peer_address(peer);
        }
        if !self.allow.is_empty() {
            builder = builder.allow(self.allow);
        }
        let builder = builder.lease_acceptors(self.acceptors);
        let (builder, files) = self.networks.apply(builder)?;
        let interrupts = Interrupts::new()
            .map_err(|error| Fail::new("SIGNALS", format!("signals cannot be awaited: {error}")))?;
        let control = listen_for_commands(self.control.as_deref(), id, output).await?;
        let store = open_store(self.data.as_deref(), id, ephemeral, output)?;
        let path = store.as_ref().map(|store| store.path().to_path_buf());
        let builder = store.into_iter().fold(builder, NodeBuilder::store);
        let watch = Watch { files, interrupts, control, store: path };
        Ok(Plan { builder, ephemeral, watch })
    }
}

/// Opens the control socket. Before the node starts: if the socket is in use, the same node may run already.
async fn listen_for_commands(
    choice: Option<&Path>,
    node: PeerId,
    output: Output,
) -> Result<Option<Listener>, Fail> {
    match choice {
        Some(path) if path == Path::new("none") => Ok(None),
        Some(path) => Ok(Some(Listener::at(path).await?)),
        None => match Listener::in_folder(&control::folder(), node).await {
            Ok(listener) => Ok(Some(listener)),
            Err(error @ SocketError::Live(_)) => Err(error.into()),
            // Nobody has asked for it, and the node can do without.
            Err(error) => {
                let hint = "say where with --control PATH, or --control none";
                output.note("warning", format!("there is no control socket: {error}; {hint}"));
                Ok(None)
            }
        },
    }
}

/// Opens the store, before the node starts: if it is in use, the same node may run already.
fn open_store(
    choice: Option<&Path>,
    node: PeerId,
    ephemeral: bool,
    output: Output,
) -> Result<Option<Store>, Fail> {
    let (folder, is_asked_for) = match choice {
        Some(path) if path == Path::new("none") => return Ok(None),
        Some(path) => (Some(path.to_path_buf()), true),
        // Nobody comes back to what it stores.
        None if ephemeral => return Ok(None),
        None => (data_home().map(|home| home.join("dunlin").join(node.to_string())), false),
    };
    let hint = "say where with --data FOLDER, or --data none";
    let Some(folder) = folder else {
        output.note("warning", format!("nothing is stored: there is no home folder; {hint}"));
        return Ok(None);
    };
    match Store::open(&folder) {
        Ok(store) => Ok(Some(store)),
        // Nobody has asked for it, and the node can do without.
        Err(error @ StoreError::Open { .. }) if !is_asked_for => {
            output.note("warning", format!("nothing is stored: {error}; {hint}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Where programs keep their data.
fn data_home() -> Option<PathBuf> {
    set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))
}

/// A path that the environment names.
fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where the key is kept unless somebody says otherwise.
pub(crate) fn default_key() -> Option<PathBuf> {
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(config.join(Path::new("dunlin/id.key")))
}

/// The addresses under which peers can dial this node, and from where: this machine, or others.
fn addresses(node: &Node) -> Vec<(PeerAddress, &'static str)> {
    let bound = node.local_addr();
    let at = |ip| PeerAddress::new(node.id(), SocketAddr::new(ip, bound.port()));
    if !bound.ip().is_unspecified() {
        let from = if bound.ip().is_loopback() { "this machine" } else { "others" };
        return node.local_addrs().iter().map(|bound| (at(bound.ip()), from)).collect();
    }
    // A socket of both kinds is reached by the one that this machine has.
    let has_v4 = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).is_ok();
    let here = if bound.is_ipv4() || has_v4 {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        IpAddr::V6(Ipv6Addr::LOCALHOST)
    };
    let outside = udp::outbound_ip().filter(|ip| bound.is_ipv6() || ip.is_ipv4());
    let outside = outside.map(|ip| (at(ip), "others"));
    std::iter::once((at(here), "this machine")).chain(outside).collect()
}

/// Says who the node is and where it can be found.
pub(crate) fn introduce(
    output: Output,
    node: &Node,
    ephemeral: bool,
    watch: &Watch,
    paths: &[&str],
) {
    let control = watch.control.as_ref().map(Listener::path);
    let addresses: Vec<(String, &str)> =
        addresses(node).into_iter().map(|(address, from)| (address.to_string(), from)).collect();
    if output.is_json() {
        let addresses: Vec<&str> = addresses.iter().map(|(address, _)| &address[..]).collect();
        return output.say("", || {
            json!({ "event": "listening", "id": node.id().to_string(), "addresses": addresses,
                "ephemeral": ephemeral, "control": control, "store": watch.store, "paths": paths })
        });
    }
    if ephemeral {
        output.note("note", "a new identity for this run; `dunlin id new` makes one that stays");
    }
    // One of each kind is enough for people.
    let mut told = Vec::new();
    for (address, from) in &addresses {
        if told.contains(from) {
            continue;
        }
        told.push(*from);
        output.say(format!("{address}   (from {from})"), || Value::Null);
    }
    if let Some(path) = control {
        output.note("note", format!("control socket {}", path.display()));
    }
    if let Some(path) = &watch.store {
        output.note("note", format!("store {}", path.display()));
    }
    if let (Some(path), Some((address, _))) = (paths.first(), addresses.first()) {
        // Nobody is let in without a token, and each has its own.
        let entry = match watch.files.is_empty() {
            true => "",
            false => " --key KEY --network NETWORK --token TOKEN",
        };
        output.note("note", format!("try: dunlin call --peer {address}{entry} {path} '\"hi\"'"));
    }
}

/// Prints what happens until somebody wants the program to end, and then takes leave.
pub(crate) async fn run_until_told(node: Node, watch: Watch, output: Output) -> Result<(), Fail> {
    let Watch { mut files, mut interrupts, control, store: _ } = watch;
    let control = control.map(|listener| ControlServer::start(listener, node.operator()));
    if node.inspect(|core, _, _| core.mesh().is_learning()).await == Some(true) {
        output.note(
            "note",
            "this node is an acceptor without a memory: its store is new, or it has none. It takes part when it has \
             learned from most of the others what was promised. The first time, start all of them",
        );
    }
    let mut look = tokio::time::interval(WATCH_INTERVAL);
    let mut events = node.events();
    loop {
        tokio::select! {
            () = interrupts.next() => break,
            _ = look.tick(), if !files.is_empty() => {
                for (kind, path, taken) in files.refresh(&node).await {
                    let what = match kind {
                        FileKind::Descriptor => "descriptor",
                        FileKind::Token => "token",
                    };
                    let file = path.display();
                    match taken {
                        Ok(()) => output.say(format!("new {what} from {file}"), || {
                            json!({ "event": "file_taken", "what": what, "file": path })
                        }),
                        Err(error) => output.note(
                            "WARNING",
                            format!("the new {what} in {file} is not taken: {error}"),
                        ),
                    }
                }
            }
            event = events.next() => match event {
                Some(event) => show(output, &event),
                // It ended by itself: say why.
                None => return leave(node, control).await,
            },
        }
    }
    output.note("note", "stopping; again to stop at once");
    tokio::select! {
        result = leave(node, control) => result,
        () = interrupts.next() => Err(Fail::new("INTERRUPTED", "stopped before the leave was taken")),
    }
}

async fn leave(node: Node, control: Option<ControlServer>) -> Result<(), Fail> {
    if let Some(control) = &control {
        control.close();
    }
    let left = node.shutdown().await;
    if let Some(control) = control {
        control.finish().await;
    }
    Ok(left?)
}

/// What it means that former acceptors were given up.
pub(crate) fn given_up(abandoned: &[u64]) -> String {
    let epochs: Vec<String> = abandoned.iter().map(u64::to_string).collect();
    format!(
        "an operator has given up the acceptors of epoch {}: nobody waits until they are sealed. If any of them still \
         runs without the new descriptor, TWO INSTANCES MAY BE ACTIVE AT ONCE",
        epochs.join(", ")
    )
}

/// Prints one event.
pub(crate) fn show(output: Output, event: &NodeEvent) {
    let peer_of = |peer: &PeerId| peer.to_string();
    match event {
        NodeEvent::PeerUp { peer, remote, .. } => {
            let at = remote.map_or(String::new(), |remote| format!(" at {remote}"));
            output.line(
                format!("up    {peer}{at}"),
                || json!({ "event": "peer_up", "peer": peer_of(peer), "remote": remote }),
            );
        }
        NodeEvent::PeerServices { peer } => output.line(
            format!("serves {peer}: what it offers is new or has changed"),
            || json!({ "event": "peer_services", "peer": peer_of(peer) }),
        ),
        NodeEvent::PeerDown { peer, reason } => output.line(
            format!("down  {peer}: {reason}"),
            || json!({ "event": "peer_down", "peer": peer_of(peer), "reason": reason.to_string() }),
        ),
        NodeEvent::LinkSuperseded { peer } => output.line(
            format!("one link to {peer} of two stays"),
            || json!({ "event": "link_superseded", "peer": peer_of(peer) }),
        ),
        NodeEvent::LifeBegan { incarnation, told_by } => output.line(
            format!(
                "{told_by} knew a later start of this node; this is start {} now",
                incarnation.counter
            ),
            || {
                json!({ "event": "life_began", "counter": incarnation.counter,
                    "told_by": peer_of(told_by) })
            },
        ),
        NodeEvent::NewerSelf { told_by } => output.line(
            format!("{told_by} knows a later start of this node elsewhere; this one stops"),
            || json!({ "event": "newer_self", "told_by": peer_of(told_by) }),
        ),
        NodeEvent::Leader { path, leader, token, .. } => {
            let leader = leader.map(|leader| leader.to_string());
            let token = token.map(|token| token.to_string());
            let who = leader.clone().unwrap_or_else(|| "nobody that is known".into());
            let by = token.as_ref().map_or(String::new(), |token| format!(", by token {token}"));
            output.line(format!("active at '{path}' is {who}{by}"), || {
                json!({ "event": "leader", "service": path.as_str(), "leader": leader,
                    "token": token })
            });
        }
        NodeEvent::AcceptorsNamed { network, epoch, abandoned } => {
            if !abandoned.is_empty() {
                output.note("WARNING", given_up(abandoned));
            }
            output.line(
                format!("other nodes decide who is active, in epoch {epoch}, once those before them are sealed"),
                || {
                    json!({ "event": "acceptors_named", "network": network.to_string(),
                        "epoch": epoch, "abandoned": abandoned })
                },
            );
        }
        NodeEvent::AcceptorsOutdated { network, epoch } => output.line(
            format!(
                "the network's acceptors have changed, to epoch {epoch}: this node gets no leases until it has a newer \
                 descriptor"
            ),
            || {
                json!({ "event": "acceptors_outdated", "network": network.to_string(),
                    "epoch": epoch })
            },
        ),
        NodeEvent::AcceptorReady { network } => output.line(
            "takes part in deciding who is active",
            || json!({ "event": "acceptor_ready", "network": network.to_string() }),
        ),
        NodeEvent::StoreFailed { why } => output.line(
            format!("the store fails, and this node stops: {why}"),
            || json!({ "event": "store_failed", "reason": why }),
        ),
        NodeEvent::PeerRefused { peer, why } => {
            output.line(format!("refused by {peer}: {why}"), || {
                json!({ "event": "peer_refused", "peer": peer_of(peer), "reason": why.to_string() })
            });
        }
        NodeEvent::DialFailed { peer, error, retry_in } => {
            let next = retry_in
                .map_or("no further dial".into(), |wait| format!("again in {}", spell(wait)));
            output.line(format!("no connection to {peer}: {error}; {next}"), || {
                json!({ "event": "dial_failed", "peer": peer_of(peer), "reason": error.to_string(),
                    "retry_in_ms": retry_in.map(|wait: Duration| wait.as_millis() as u64) })
            });
        }
        NodeEvent::PeerMisbehaved { peer, what } => {
            output.line(
                format!("trouble with {peer}: {what}"),
                || json!({ "event": "peer_misbehaved", "peer": peer_of(peer), "what": what }),
            );
        }
        NodeEvent::ClaimIgnored { peer, what } => output.line(
            format!("ignored of {peer}: {what}"),
            || json!({ "event": "claim_ignored", "peer": peer_of(peer), "what": what }),
        ),
        NodeEvent::NetworkLeft { peer, network, why } => {
            output.line(format!("{peer} is out of the network '{network}': {why}"), || {
                json!({ "event": "network_left", "peer": peer_of(peer), "network": network,
                    "reason": why })
            });
        }
        NodeEvent::NetworkEnded { network, why } => output.line(
            format!("nothing can be done in the network '{network}' any more: {why}"),
            || json!({ "event": "network_ended", "network": network, "reason": why }),
        ),
        NodeEvent::NetworkOutdated { peer, network, sequence } => {
            let words = format!(
                "{peer} claims to have a newer descriptor of the network '{network}', of sequence {sequence}"
            );
            output.line(words, || {
                json!({ "event": "network_outdated", "peer": peer_of(peer), "network": network,
                    "sequence": sequence })
            });
        }
        NodeEvent::ServiceState { path, state, error, .. } => {
            let why = error.as_ref().map_or(String::new(), |error| format!(": {error}"));
            let state = format!("{state:?}").to_lowercase();
            output.line(format!("service {path} is {state}{why}"), || {
                json!({ "event": "service_state", "path": path.to_string(), "state": state,
                    "error": error })
            });
        }
        NodeEvent::Lagged { missed } => {
            output.line(
                format!("... {missed} events were missed"),
                || json!({ "event": "lagged", "missed": missed }),
            );
        }
        NodeEvent::Stopped => output.line("stopped", || json!({ "event": "stopped" })),
        other => tracing::debug!(?other, "an event that has no words yet"),
    }
}
