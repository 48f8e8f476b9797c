//! The whole node, QUIC included: datagrams and time in, datagrams, events and a deadline out.

use crate::auth::Access;
use crate::base::{Bound, BoundReport, Draws, Identity, Label, Limits, Now};
use crate::link::FrameSource;
use crate::mesh::{Event, LeaseSettings, Mesh, MeshConfig, Wake, WakeReason};
use crate::peer::Admission;
use crate::service::Host;
use crate::store::{StoreInput, StoreMisuse, StoreRequest, Stored};
use crate::transport::{Crypto, Datagram, Transmit, Transport, TransportConfig};
use crate::wire::HEADER_BYTES_MAX;

/// What makes a node the node it is.
#[derive(Debug)]
pub struct NodeConfig {
    /// The key pair; its public half is the peer id.
    pub identity: Identity,
    /// See [`MeshConfig::incarnation_counter`].
    pub incarnation_counter: u64,
    /// See [`MeshConfig::stored`].
    pub stored: Option<Stored>,
    /// All randomness but TLS's follows from it. A production node draws it from the operating system.
    pub seed: [u8; 32],
    /// Where TLS takes its randomness from: [`Crypto::system`] but in simulations.
    pub crypto: Crypto,
    /// Who may connect.
    pub admission: Admission,
    /// The networks that the node is in, and what their tokens allow. Made for this identity.
    pub access: Access,
    /// Who accepts leases of single-active services, and how long they last.
    pub leases: LeaseSettings,
    /// Every bound.
    pub limits: Limits,
    /// QUIC's settings. What limits say of messages and links wins over it.
    pub transport: TransportConfig,
}

impl NodeConfig {
    /// A production node with default settings, that stores nothing.
    ///
    /// `access` says in which networks; it must be made for this identity.
    pub fn new(
        identity: Identity,
        access: Access,
        incarnation_counter: u64,
        seed: [u8; 32],
    ) -> Self {
        NodeConfig {
            identity,
            access,
            incarnation_counter,
            stored: None,
            seed,
            crypto: Crypto::system(),
            admission: Admission::default(),
            leases: LeaseSettings::default(),
            limits: Limits::default(),
            transport: TransportConfig::default(),
        }
    }
}

/// [`Mesh`] over QUIC. The door for embedders with a UDP socket.
///
/// The contract, in this order:
///
/// 1. Feed any number of datagrams with [`Node::handle_datagram`], and [`Node::handle_timeout`] when
///    [`Node::next_wake`] has come.
/// 2. Give commands through [`Node::mesh_mut`], and let services act with [`Node::turn`].
/// 3. Drain [`Node::poll_event`] (a [`Host`] does it in `turn`), [`Node::poll_store`] if it stores anything, and
///    [`Node::poll_transmit`] until all are empty, or the socket takes no more.
/// 4. Sleep until [`Node::next_wake`], or until something happens.
///
/// The more is fed before it is drained, the larger the batches that go out. Time must not go back.
pub struct Node {
    mesh: Mesh,
    transport: Transport,
}

impl Node {
    /// A node that knows nobody.
    pub fn new(now: Now, config: NodeConfig) -> Node {
        let mut draws = Draws::new(config.seed);
        let transport_seed = draws.bytes(Label::Transport);
        let transport = TransportConfig {
            message_bytes_max: config.limits.message_bytes_max,
            header_bytes_max: HEADER_BYTES_MAX,
            connections_max: config.limits.links_max,
            half_open_max: config.limits.half_open_max,
            half_open_per_address_max: config.limits.half_open_per_address_max,
            ..config.transport
        };
        Node {
            mesh: Mesh::new(
                now,
                MeshConfig {
                    identity: config.identity.clone(),
                    incarnation_counter: config.incarnation_counter,
                    stored: config.stored,
                    seed: config.seed,
                    admission: config.admission,
                    access: config.access,
                    leases: config.leases,
                    limits: config.limits,
                },
            ),
            transport: Transport::new(
                now,
                &config.identity,
                config.crypto,
                transport,
                transport_seed,
            ),
        }
    }

    /// The machines above QUIC, to ask.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// The machines above QUIC, to command.
    pub fn mesh_mut(&mut self) -> &mut Mesh {
        &mut self.mesh
    }

    /// QUIC, to ask.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// How it stands with every bound, those of QUIC included. Costs time in the size of the state.
    pub fn bounds(&self) -> Vec<BoundReport> {
        let mut reports = self.mesh.bounds();
        for report in &mut reports {
            report.refused += self.transport.refusals().of(report.bound);
            if report.bound == Bound::HalfOpen {
                report.used = Some(self.transport.half_open() as u64);
            }
        }
        reports
    }

    /// Takes a datagram from the socket. Cheap: the work is done when the node is drained.
    pub fn handle_datagram(&mut self, now: Now, datagram: Datagram) {
        self.transport.handle_datagram(now, datagram);
    }

    /// The time has come that [`Node::next_wake`] named, or any other.
    pub fn handle_timeout(&mut self, now: Now) {
        self.transport.handle_timeout(now);
        self.mesh.handle_timeout(now);
    }

    /// Lets services and application tasks act on what was fed. `observe` sees every event.
    pub fn turn(&mut self, now: Now, host: &mut Host, observe: &mut dyn FnMut(&Event)) {
        self.settle(now);
        host.turn(now, &mut self.mesh, observe);
        self.settle(now);
    }

    /// The next thing for the application to know, for those who use no [`Host`].
    pub fn poll_event(&mut self, now: Now) -> Option<Event> {
        self.settle(now);
        self.mesh.poll_event()
    }

    /// The next datagrams to send: at most `datagrams_max`, all to one place, in `buf`, which is
    /// emptied first. None when there is nothing to send for now.
    pub fn poll_transmit(
        &mut self,
        now: Now,
        datagrams_max: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.settle(now);
        self.transport.flush(now, &mut self.mesh);
        self.transport.poll_transmit(now, datagrams_max, buf)
    }

    /// What to store next; see [`Mesh::poll_store`].
    pub fn poll_store(&mut self) -> Option<StoreRequest> {
        self.mesh.poll_store()
    }

    /// What became of it; see [`Mesh::handle_store`].
    ///
    /// # Errors
    ///
    /// When something is said to be durable that was never given out.
    pub fn handle_store(&mut self, now: Now, input: StoreInput) -> Result<(), StoreMisuse> {
        self.mesh.handle_store(now, input)
    }

    /// When to call [`Node::handle_timeout`] if nothing happens before.
    pub fn next_wake(&self) -> Option<Wake> {
        let quic = self.transport.poll_timeout();
        let quic = quic.map(|at| Wake { at, reason: WakeReason::Transport });
        [quic, self.mesh.next_wake()].into_iter().flatten().min_by_key(|wake| wake.at)
    }

    /// Ends the node now, whether or not it takes leave already: nothing is finished, and peers are told by what
    /// [`Node::poll_transmit`] gives from now on. For callers that cannot wait for [`Mesh::shutdown`].
    pub fn stop_at_once(&mut self, now: Now) {
        self.mesh.stop_at_once(now);
        self.settle(now);
        self.transport.close_unflushed(now);
    }

    /// Whether the node has stopped, every link is closed and every packet that says so was handed
    /// out.
    pub fn is_drained(&self) -> bool {
        self.mesh.is_stopped() && self.transport.is_drained()
    }

    /// Carries events of the transport to the mesh and its commands back, until both rest.
    fn settle(&mut self, now: Now) {
        loop {
            let mut idle = true;
            while let Some(event) = self.transport.poll_event() {
                idle = false;
                self.mesh.handle_link(now, event);
            }
            while let Some(command) = self.mesh.poll_link_command() {
                idle = false;
                self.transport.handle_command(now, command);
            }
            if idle {
                break;
            }
        }
        if self.mesh.is_stopped() {
            self.transport.refuse_strangers(now);
        }
    }
}

// The doors can be moved to another thread.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Node>();
    is_send::<Mesh>();
    is_send::<Host>();
    const fn is_source<T: FrameSource>() {}
    is_source::<Mesh>();
};
