//! Two nodes on plain threads with `std::net::UdpSocket`, without any async runtime: what an embedder
//! of the core writes, whole.
//!
//! `cargo run -p dunlin-core --example plain_threads` prints `2 + 3 = 5`.
//!
//! A node is a state machine. It never blocks, reads no clock and owns no socket; whoever embeds it
//! does these three things for it, in one loop:
//!
//! 1. feed what has happened: datagrams, and the time,
//! 2. let services and application tasks act ([`Node::turn`]),
//! 3. send what the node wants sent,
//! 4. wait until the next datagram, or until [`Node::next_wake`].
//!
//! Services are async functions, but no runtime runs them: the [`Host`] does, inside `turn`.

// The clocks, sockets and threads that the core may not have are what an embedder gives it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use dunlin_core::auth::Access;
use dunlin_core::rpc::CallError;
use dunlin_core::service::{HandlerError, Host, service};
use dunlin_core::transport::{BATCH_BYTES_MAX, Datagram};
use dunlin_core::{Identity, MonoTime, Node, NodeConfig, Now, WallTime};
use ring::rand::{SecureRandom, SystemRandom};

/// However long the node could wait: how soon it notices that somebody else wants something of it.
/// A shell for production wakes its loop instead (`Host::new` takes a closure that is told).
const PATIENCE: Duration = Duration::from_millis(20);

fn main() -> Result<(), Box<dyn Error>> {
    let mut server = Embedded::new()?;
    let mut client = Embedded::new()?;
    let (server_id, server_address) = (server.node.mesh().id(), server.socket.local_addr()?);

    // The service. `add` takes a pair and gives a number; anything serde can read and write goes.
    let math = service("math").action("add", |_cx, (a, b): (i64, i64)| async move {
        a.checked_add(b)
            .ok_or_else(|| HandlerError::application("OVERFLOW", "the sum is too large"))
    });
    let now = server.clock.now();
    server.host.add_service(now, server.node.mesh_mut(), Arc::new(math))?;

    // The server has a thread of its own, and runs until its node has stopped.
    let (stop_server, server_stops) = mpsc::channel::<()>();
    let server_thread = thread::spawn(move || {
        server.run(|embedded| {
            // Asked to stop: the node takes leave of its peers, and is drained once they know.
            if server_stops.try_recv().is_ok() {
                let now = embedded.clock.now();
                embedded.node.mesh_mut().shutdown(now);
            }
            embedded.node.is_drained()
        })
    });

    // The client dials the server by its key: nobody else can answer.
    let now = client.clock.now();
    client.node.mesh_mut().connect(now, server_id, vec![server_address])?;
    // Application code is async as well, and runs in `turn` like the services do. A call that names
    // its peer waits for the connection.
    let handle = client.host.handle();
    let (answer, answered) = mpsc::channel::<Result<i64, CallError>>();
    let task = async move {
        let call = handle.request("math/add").value((2i64, 3i64)).to(server_id);
        // The receiver is only gone if the program is.
        let _ = answer.send(call.send_as().await);
    };
    client.host.spawn(now, client.node.mesh_mut(), task);

    let mut sum = None;
    client.run(|embedded| {
        if sum.is_none()
            && let Ok(result) = answered.try_recv()
        {
            sum = Some(result);
            let now = embedded.clock.now();
            embedded.node.mesh_mut().shutdown(now);
        }
        embedded.node.is_drained()
    })?;
    stop_server.send(())?;
    server_thread.join().expect("the server's thread does not panic")?;

    let sum = sum.ok_or("the node stopped before the call ended")??;
    println!("2 + 3 = {sum}");
    Ok(())
}

/// A node with everything that it does not own.
struct Embedded {
    node: Node,
    host: Host,
    socket: UdpSocket,
    clock: Clock,
}

impl Embedded {
    fn new() -> Result<Embedded, Box<dyn Error>> {
        let clock = Clock { origin: Instant::now() };
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        // A node keeps its identity and counts its starts. This one lives for a moment only, so it is
        // somebody new, and the time is counter enough.
        let identity = Identity::from_secret(random()?);
        let now = clock.now();
        let starts = now.wall.as_unix_nanos();
        // Everybody may do everything. A real node is in networks, with a descriptor and a token for each.
        let access = Access::development(&identity.id());
        let node = Node::new(now, NodeConfig::new(identity, access, starts, random()?));
        // Nothing here runs on other threads, so nobody has to wake the loop.
        let host = Host::new(random()?, || {});
        Ok(Embedded { node, host, socket, clock })
    }

    /// Runs the node until `done` says so. It is asked once a round.
    fn run(&mut self, mut done: impl FnMut(&mut Embedded) -> bool) -> Result<(), std::io::Error> {
        let mut received = vec![0; BATCH_BYTES_MAX];
        let mut to_send = Vec::new();
        loop {
            let now = self.clock.now();
            // The time has come, or it has not: then this does nothing.
            self.node.handle_timeout(now);
            self.node.turn(now, &mut self.host, &mut |_event| {});
            if done(self) {
                return Ok(());
            }
            // One datagram at a time. With a socket that sends batches, ask for more than one.
            while let Some(transmit) = self.node.poll_transmit(now, 1, &mut to_send) {
                match self.socket.send_to(&to_send[..transmit.size], transmit.destination) {
                    Ok(_) => {}
                    // What could not be sent is lost like any datagram; QUIC sends it again.
                    Err(error) if error.kind() != ErrorKind::InvalidInput => {}
                    Err(error) => return Err(error),
                }
            }
            // Everything is drained, so now the node knows when it wants to be woken.
            self.socket.set_read_timeout(Some(self.patience()))?;
            // An error says that nothing came in time, or that an earlier datagram found nobody.
            if let Ok((bytes, from)) = self.socket.recv_from(&mut received) {
                self.feed(from, &received[..bytes]);
            }
        }
    }

    fn feed(&mut self, from: SocketAddr, data: &[u8]) {
        let datagram = Datagram { from, local_ip: None, ecn: None, data: BytesMut::from(data) };
        self.node.handle_datagram(self.clock.now(), datagram);
    }

    /// How long to wait for a datagram: until the node or its host wants to be woken.
    fn patience(&self) -> Duration {
        let now = self.clock.now().mono;
        let wake = self.node.next_wake().map(|wake| wake.at);
        let wake = [wake, self.host.next_wake(now)].into_iter().flatten().min();
        let wait = wake.map_or(PATIENCE, |at| at.since(now).min(PATIENCE));
        // A time-out of zero would mean for ever.
        wait.max(Duration::from_micros(100))
    }
}

/// The time, as the node wants it: a clock that never goes back, and one that shows the date.
struct Clock {
    origin: Instant,
}

impl Clock {
    fn now(&self) -> Now {
        let mono = MonoTime::ZERO + self.origin.elapsed();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now::new(mono, WallTime::from_unix_nanos(wall.as_nanos() as u64))
    }
}

/// 32 bytes that nobody can guess, from the operating system. Keys and seeds are made of them.
fn random() -> Result<[u8; 32], Box<dyn Error>> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system has no randomness")?;
    Ok(bytes)
}
