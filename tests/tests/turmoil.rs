//! The tokio shell over turmoil's simulated network: its driver, wake-ups and async API under loss,
//! partitions and a crash, in virtual time. (The core has a simulator of its own; this is for the part
//! that is not sans-IO.)

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use dunlin_core::transport::Crypto;
use dunlin_core::{Identity, WallTime};
use dunlin_tokio::clock::TokioClock;
use dunlin_tokio::socket::{Datagram, Socket, Transmit};
use dunlin_tokio::{Executed, Node, NodeBuilder, TransportConfig, service};
use turmoil::net::UdpSocket;

const PORT: u16 = 4_433;
const SERVERS: [&str; 2] = ["server-a", "server-b"];
const SECOND: Duration = Duration::from_secs(1);

struct Simulated(UdpSocket);

impl Socket for Simulated {
    fn try_receive(&mut self, deliver: &mut dyn FnMut(Datagram)) -> io::Result<usize> {
        let mut buf = [0; 2_000];
        let (bytes, from) = self.0.try_recv_from(&mut buf)?;
        deliver(Datagram { from, local_ip: None, ecn: None, data: buf[..bytes].into() });
        Ok(1)
    }

    fn try_send(&mut self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        self.0.try_send_to(contents, transmit.destination).map(drop)
    }

    async fn ready(&self, to_send: bool) -> io::Result<()> {
        if to_send { self.0.writable().await } else { self.0.readable().await }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn identity(host: &str) -> Identity {
    let mut secret = [0; 32];
    secret[..host.len()].copy_from_slice(host.as_bytes());
    Identity::from_secret(secret)
}

async fn start(host: &str, life: u64, builder: NodeBuilder) -> Node {
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).await.expect("the port is free");
    let mut seed = *identity(host).secret();
    seed[31] = life as u8;
    builder
        .identity(identity(host))
        .incarnation_counter(life)
        .seed(seed)
        .crypto(Crypto::seeded_for_simulation(seed))
        .transport(TransportConfig::for_simulation())
        .start_on(Simulated(socket), TokioClock::starting_at(WallTime::from_unix_nanos(1)))
        .await
        .expect("the node starts")
}

/// A network with two servers that answer with their names.
fn network(seed: u64) -> turmoil::Sim<'static> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(1))
        .simulation_duration(Duration::from_secs(300))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(25))
        .fail_rate(0.02)
        .repair_rate(0.95)
        .udp_capacity(4_096)
        .build();
    for name in SERVERS {
        let lives = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(1));
        sim.host(name, move || {
            let life = lives.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                let hello = service(name)
                    .action("name", move |_cx, (): ()| async move { Ok(name.to_string()) });
                let mut node =
                    start(name, life, Node::builder().development_network().service(hello)).await;
                Ok(node.ended().await?)
            }
        });
    }
    sim
}

async fn client() -> Node {
    let mut builder = Node::builder().development_network();
    for name in SERVERS {
        let address = SocketAddr::new(turmoil::lookup(name), PORT);
        builder = builder.peer(identity(name).id(), [address]);
    }
    start("client", 1, builder).await
}

async fn ask(
    node: &Node,
    server: &'static str,
    timeout: Duration,
) -> Result<String, dunlin_tokio::CallError> {
    let request = node.request(&format!("{server}/name")).value(()).to(identity(server).id());
    request.timeout(timeout).send_as().await
}

#[test]
fn calls_survive_loss_and_come_back_after_a_partition() {
    for seed in 1..=4 {
        let mut sim = network(seed);
        sim.client("client", async {
            let node = client().await;
            for round in 0..20 {
                let server = SERVERS[round % 2];
                assert_eq!(ask(&node, server, 20 * SECOND).await?, server);
            }
            turmoil::partition("client", SERVERS[0]);
            let cut_off = ask(&node, SERVERS[0], 2 * SECOND).await.unwrap_err();
            assert_ne!(cut_off.executed(), Executed::Yes);
            assert_eq!(
                ask(&node, SERVERS[1], 20 * SECOND).await?,
                SERVERS[1],
                "the other is there"
            );
            // Longer than a link lives without a word, so that it must be made anew.
            tokio::time::sleep(30 * SECOND).await;
            assert_eq!(node.peers().await.len(), 1);
            turmoil::repair("client", SERVERS[0]);
            assert_eq!(ask(&node, SERVERS[0], 100 * SECOND).await?, SERVERS[0]);
            assert_eq!(node.peers().await.len(), 2);
            node.shutdown().await?;
            Ok(())
        });
        sim.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn a_call_that_began_in_a_short_partition_ends_after_it() {
    for seed in 1..=4 {
        let mut sim = network(seed);
        sim.client("client", async {
            let node = client().await;
            assert_eq!(ask(&node, SERVERS[0], 20 * SECOND).await?, SERVERS[0]);
            turmoil::partition("client", SERVERS[0]);
            let asked = ask(&node, SERVERS[0], 60 * SECOND);
            let healed = async {
                tokio::time::sleep(5 * SECOND).await;
                turmoil::repair("client", SERVERS[0]);
            };
            let (answer, ()) = tokio::join!(asked, healed);
            assert_eq!(answer?, SERVERS[0]);
            Ok(())
        });
        sim.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn a_server_that_crashed_is_found_again_in_its_next_life() {
    let mut sim = network(7);
    sim.client("client", async {
        let node = client().await;
        // Until the crash below, and after it, the same call to the same peer.
        let mut answered_after = 0;
        while answered_after < 5 {
            if ask(&node, SERVERS[0], SECOND).await.is_ok()
                && turmoil::sim_elapsed().expect("within a simulation") > 20 * SECOND
            {
                answered_after += 1;
            }
            tokio::time::sleep(SECOND).await;
        }
        Ok(())
    });
    while sim.elapsed() < 10 * SECOND {
        sim.step().unwrap();
    }
    sim.crash(SERVERS[0]);
    while sim.elapsed() < 15 * SECOND {
        sim.step().unwrap();
    }
    sim.bounce(SERVERS[0]);
    sim.run().unwrap();
}
