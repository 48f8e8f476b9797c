//! Puts a node together and starts it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use dunlin_core::auth::Access;
use dunlin_core::lease::{AcceptorSet, LeaseTimes, WrongAcceptors};
use dunlin_core::mesh::CommandError;
use dunlin_core::peer::Admission;
use dunlin_core::service::host::AddServiceError;
use dunlin_core::service::{Host, Service};
use dunlin_core::transport::{Crypto, TransportConfig};
use dunlin_core::{Identity, LeaseSettings, Limits, Node as Core, NodeConfig, PeerId};

use crate::address::{HostPort, PeerAddress};
use crate::clock::{Clock, SystemClock};
use crate::driver::{Desk, Driver, TokioSpawner};
use crate::events::Events;
use crate::key;
use crate::names::keep_looking_up;
use crate::networks::{Chosen, NetworkError};
use crate::node::Node;
use crate::own_thread::Own;
use crate::reach::Reach;
use crate::resolver::{Resolver, SystemResolver};
use crate::services::{Added, ServiceError};
use crate::socket::Socket;
use crate::sockets::{Listen, Sockets};
use crate::store::writer::Writer;
use crate::store::{Store, StoreError};

/// The acceptors of the development network have one epoch: nobody signs another.
const ACCEPTORS_EPOCH: u64 = 1;

/// Why a node did not start. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another program has the port.
    #[error(
        "another program uses {0}; stop it, or listen on another port (port 0 lets the system choose)"
    )]
    AddressInUse(SocketAddr),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}. Give an address of this machine; [::] means all of them, 0.0.0.0 all of IPv4"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The node has no thread of its own.
    #[error("no thread can be started for the node: {0}")]
    Thread(#[source] io::Error),
    /// A static peer is not accepted.
    #[error("the peer {peer} cannot be kept: {source}")]
    Peer {
        /// The peer.
        peer: PeerId,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// What the node has stored cannot be read, or nothing more be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The acceptors of the development network cannot be.
    #[error(transparent)]
    Acceptors(#[from] WrongAcceptors),
    /// The node cannot be in the networks that it was told to be in.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A service was not registered, or its `init` or `start` failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// A node that is being put together. See [`Node::builder`].
#[must_use = "nothing happens before `start`"]
#[derive(Default)]
pub struct NodeBuilder {
    identity: Option<Identity>,
    incarnation_counter: Option<u64>,
    store: Option<Store>,
    seed: Option<[u8; 32]>,
    crypto: Option<Crypto>,
    listen: Option<Listen>,
    admission: Admission,
    networks: Chosen,
    acceptors: Vec<PeerId>,
    lease_times: LeaseTimes,
    limits: Limits,
    transport: TransportConfig,
    /// Where each peer may be found that is to be kept.
    peers: BTreeMap<PeerId, Vec<HostPort>>,
    resolver: Option<Arc<dyn Resolver>>,
    services: Vec<Arc<dyn Service>>,
}

impl NodeBuilder {
    /// Who the node is; see [`crate::key`]. By default somebody new, for this run alone.
    ///
    /// Its incarnation is the wall clock's milliseconds at the start, and more than that of its last start if it has a
    /// [`NodeBuilder::store`]. Peers refuse a start that seems earlier than one they know: without a store, a clock
    /// that was set back has the node begin anew once it is told so.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Where the node keeps what must survive a crash: see [`Store::open`]. Without one it stores nothing.
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// The least number of this start, instead of the wall clock's milliseconds. Without a store it must grow at every
    /// start of this identity.
    pub fn incarnation_counter(mut self, counter: u64) -> Self {
        self.incarnation_counter = Some(counter);
        self
    }

    /// Where to listen. By default on all addresses of this machine, of IPv6 and IPv4 where it has both, at a port that
    /// the system chooses. In the development network, where everybody who reaches a node may call what it serves, a node
    /// that has services from the start and no peers elsewhere listens on loopback alone by default: see
    /// [`NodeBuilder::listen_on_loopback`].
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(Listen::At(address));
        self
    }

    /// Listens on both loopback addresses of this machine, 127.0.0.1 and `::1`, at one port that the system chooses; on one
    /// where the machine lacks the other. Other machines cannot reach the node, and it cannot dial them.
    pub fn listen_on_loopback(mut self) -> Self {
        self.listen = Some(Listen::Loopback);
        self
    }

    /// Where it listens if nothing is said.
    fn default_listen(&self) -> Listen {
        let is_elsewhere = self.peers.values().flatten().any(|host| !host.is_loopback());
        let is_open = matches!(self.networks, Chosen::Development) && !self.services.is_empty();
        if is_open && !is_elsewhere { Listen::Loopback } else { Listen::Everywhere }
    }

    /// A peer to stay connected to, from the start and whenever it can be reached. Without addresses
    /// it is waited for. Said several times of one peer, all addresses count.
    pub fn peer(mut self, peer: PeerId, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let hosts = addresses.into_iter().map(HostPort::Address);
        self.peers.entry(peer).or_default().extend(hosts);
        self
    }

    /// The same for a peer given as `ID@host:port`. A name is looked up before each round of dials, so that a peer may
    /// move, or come after this node.
    pub fn peer_address(mut self, address: PeerAddress) -> Self {
        self.peers.entry(address.peer).or_default().push(address.host);
        self
    }

    /// Looks up the names of peers. By default the operating system does.
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Lets only these peers in, and those given as [`NodeBuilder::peer`]. May be said several times.
    pub fn allow(mut self, peers: impl IntoIterator<Item = PeerId>) -> Self {
        match &mut self.admission {
            Admission::Listed(listed) => listed.extend(peers),
            Admission::Anyone => self.admission = Admission::Listed(peers.into_iter().collect()),
        }
        self
    }

    /// Lets everybody in who proves to hold any key. The default, for networks that are closed by other
    /// means.
    pub fn allow_anyone(mut self) -> Self {
        self.admission = Admission::Anyone;
        self
    }

    /// A network that the node is in: the contents of its descriptor's file, and of the file with the
    /// token that was issued to this node's identity for it. May be said several times; the first is the
    /// default one, to which paths belong that name no network.
    pub fn network(mut self, descriptor: impl Into<Vec<u8>>, token: impl Into<Vec<u8>>) -> Self {
        self.networks.add(descriptor.into(), token.into());
        self
    }

    /// Puts the node into the development network, which knows no tokens and no permissions: whoever
    /// reaches it may call everything that it serves, and may serve it anything. The node says so in its
    /// log when it starts. It never talks to nodes in other networks.
    pub fn development_network(mut self) -> Self {
        self.networks.development();
        self
    }

    /// The networks as the core knows them, for those who make them by hand: simulations, tests. Must be
    /// made for the node's identity.
    pub fn access(mut self, access: Access) -> Self {
        self.networks = Chosen::ByHand(Box::new(access));
        self
    }

    /// A service to offer from the start.
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Arc::new(service));
        self
    }

    /// One of the acceptors of the development network, who decide which instance of a single-active service is active:
    /// to be said of one, three or five peers, and of the same at every node. A node that is alone names
    /// itself. Other networks name theirs in their descriptors. May be said several times.
    pub fn lease_acceptors(mut self, acceptors: impl IntoIterator<Item = PeerId>) -> Self {
        self.acceptors.extend(acceptors);
        self
    }

    /// How long leases last: the same at every node of a network.
    pub fn lease_times(mut self, times: LeaseTimes) -> Self {
        self.lease_times = times;
        self
    }

    /// Every bound.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// QUIC's settings.
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = transport;
        self
    }

    /// All randomness of the node but TLS's follows from this seed. For tests that are to run the same
    /// every time; must never be used twice otherwise. By default from the operating system.
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Where TLS takes its randomness from. For tests; by default the operating system.
    pub fn crypto(mut self, crypto: Crypto) -> Self {
        self.crypto = Some(crypto);
        self
    }

    /// Binds a UDP socket, starts the node, and waits until its services run.
    ///
    /// On a multi-threaded runtime the node gets a thread of its own. A handler that blocks a worker there holds up the
    /// handlers that wait for that worker (with one worker: all that are spawned), and never the node, its links, or its
    /// handlers in place. On a single-threaded runtime the node runs on that thread: nothing there may block.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on, the node cannot be in its networks, or a service or a peer
    /// is not accepted.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its I/O and time enabled.
    pub async fn start(self) -> Result<Node, StartError> {
        let own = Own::start_if_shared().map_err(StartError::Thread)?;
        let listen = self.listen.unwrap_or_else(|| self.default_listen());
        let bound = {
            let _entered = own.as_ref().map(|own| own.runtime.enter());
            Sockets::bind(listen)
        };
        let socket = bound.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => StartError::AddressInUse(listen.address()),
            _ => StartError::Bind { address: listen.address(), source },
        })?;
        self.start_at(socket, SystemClock, own).await
    }

    /// Starts the node on a socket and a clock of the caller's: a simulated network, paused time. It runs on the present
    /// runtime.
    ///
    /// # Errors
    ///
    /// As [`NodeBuilder::start`].
    pub async fn start_on(
        self,
        socket: impl Socket,
        clock: impl Clock,
    ) -> Result<Node, StartError> {
        self.start_at(socket, clock, None).await
    }

    async fn start_at(
        self,
        socket: impl Socket,
        clock: impl Clock,
        own: Option<Own>,
    ) -> Result<Node, StartError> {
        let bound = socket.local_addrs().map_err(|source| StartError::Bind {
            address: self.listen.unwrap_or(Listen::Everywhere).address(),
            source,
        })?;
        let local_addr = bound[0];
        let now = clock.now();
        let counter =
            self.incarnation_counter.unwrap_or_else(|| now.wall.as_unix_nanos() / 1_000_000);
        let identity = self.identity.unwrap_or_else(key::generate);
        let access = self.networks.access(&identity.id(), now)?;
        let (store, stored) = match self.store {
            Some(store) => {
                let (taken, stored) = store.take(&identity.id())?;
                (Some(taken), Some(stored))
            }
            None => (None, None),
        };
        let development_acceptors = match self.acceptors.is_empty() {
            true => None,
            false => Some(AcceptorSet::new(ACCEPTORS_EPOCH, self.acceptors)?),
        };
        let config = NodeConfig {
            leases: LeaseSettings { development_acceptors, times: self.lease_times },
            crypto: self.crypto.unwrap_or_else(Crypto::system),
            admission: self.admission,
            limits: self.limits,
            transport: self.transport,
            stored,
            ..NodeConfig::new(identity, access, counter, self.seed.unwrap_or_else(key::random))
        };
        let seed = config.seed;
        let mut core = Core::new(now, config);
        let runtime =
            own.as_ref().map_or_else(tokio::runtime::Handle::current, |own| own.runtime.clone());
        let resolver = self.resolver.unwrap_or_else(|| Arc::new(SystemResolver));
        let desk = Desk::open(Reach::of(bound), resolver, runtime);
        let bell = Arc::clone(&desk.bell);
        let writer = store.map(|store| Writer::start(store, Arc::clone(&bell))).transpose()?;
        let mut host = Host::new(seed, move || bell.ring());
        if let Some(clock) = clock.shared() {
            host.set_clock(clock);
        }
        host.set_spawner(Box::new(TokioSpawner(tokio::runtime::Handle::current())));

        let mut waiting = Vec::new();
        for service in self.services {
            waiting.push(register(&mut core, &mut host, &desk, now, service)?);
        }
        let mut followed = Vec::new();
        for (peer, hosts) in self.peers {
            let addresses = hosts.iter().filter_map(|host| match host {
                HostPort::Address(address) => Some(*address),
                HostPort::Name(..) => None,
            });
            let addresses = desk.reach.dialled(peer, addresses);
            // Without an address too: a peer that is given by name is let in before its name is looked up.
            core.mesh_mut()
                .connect(now, peer, addresses.clone())
                .map_err(|source| StartError::Peer { peer, source })?;
            followed.push((peer, hosts, addresses));
        }

        let id = core.mesh().id();
        let handle = host.handle();
        let thread = own.as_ref().map(|own| own.thread);
        let task = match own {
            None => {
                let driver = Driver::new(core, host, socket, clock, writer, Arc::clone(&desk));
                tokio::spawn(driver.run())
            }
            Some(own) => {
                let driver = {
                    let _entered = own.runtime.enter();
                    Driver::new(core, host, socket, clock, writer, Arc::clone(&desk))
                };
                own.run(driver.run())
            }
        };
        let node = Node::new(id, handle, desk, task, thread);
        for (peer, hosts, addresses) in followed {
            keep_looking_up(node.desk(), peer, hosts, addresses, true);
        }
        for (added, mut events) in waiting {
            node.until_running(&mut events, &added).await?;
        }
        tracing::debug!(%id, %local_addr, "the node runs");
        Ok(node)
    }
}

/// Registers a service with the host, and its path for the events. Returns a reader of its states too.
pub(crate) fn register(
    core: &mut Core,
    host: &mut Host,
    desk: &Desk,
    now: dunlin_core::Now,
    service: Arc<dyn Service>,
) -> Result<(Added, Events), ServiceError> {
    let path = service.describe().map_err(AddServiceError::from)?.path;
    let key = host.add_service(now, core.mesh_mut(), service)?;
    let events = desk.feed.name_service(key, path.clone());
    Ok((Added { key, path }, events))
}
