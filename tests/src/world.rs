//! A few whole nodes in virtual time, over a network that loses, repeats and reorders, with services,
//! calls and a restart; and the SHA-256 of everything that they said.
//!
//! It is not the simulator. It is the smallest program that shows whether the core is deterministic,
//! and shares no code with the simulator, so that a mistake of one does not hide in the other.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dunlin_core::auth::Access;
use dunlin_core::service::{Host, ServiceBuilder, service};
use dunlin_core::transport::{Crypto, Datagram, TransportConfig};
use dunlin_core::{Identity, MonoTime, Node, NodeConfig, Now, WallTime};
use ring::digest::{Context, SHA256};

const MS: u64 = 1_000_000;
const NODES: usize = 3;
/// The wall clock's time at the start.
const WALL: u64 = 1_800_000_000_000_000_000;

/// What a run was like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// SHA-256 of every datagram, event and wake-up, in lower-case hexadecimal.
    pub hash: String,
    /// How many datagrams were sent.
    pub datagrams: u64,
    /// How many events there were.
    pub events: u64,
    /// How many calls ended with a result.
    pub answered: u64,
}

/// Which cryptography a run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TLS whose randomness is seeded.
    Tls,
    /// None.
    Null,
}

struct Station {
    node: Node,
    host: Host,
}

struct World {
    kind: Kind,
    seed: u8,
    now: u64,
    stations: Vec<Station>,
    /// By time of arrival, then by the order of sending.
    flights: BTreeMap<(u64, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    /// Decides the network's whims: a linear congruential generator (Knuth's MMIX constants).
    whim: u64,
    trace: Context,
    outcome: Outcome,
    answered: Arc<std::sync::atomic::AtomicU64>,
}

/// Runs the program with this seed.
pub fn run(kind: Kind, seed: u8) -> Outcome {
    let mut world = World {
        kind,
        seed,
        now: 0,
        stations: Vec::new(),
        flights: BTreeMap::new(),
        whim: u64::from(seed),
        trace: Context::new(&SHA256),
        outcome: Outcome { hash: String::new(), datagrams: 0, events: 0, answered: 0 },
        answered: Arc::default(),
    };
    for index in 0..NODES {
        let station = world.station(index, 1);
        world.stations.push(station);
    }
    for index in 0..NODES {
        world.begin(index);
    }
    world.pass(5_000);
    // One dies without a word and comes back with nothing.
    world.stations[0] = world.station(0, 2);
    world.begin(0);
    world.pass(20_000);
    let now = world.time();
    for station in &mut world.stations {
        station.node.mesh_mut().shutdown(now);
    }
    world.pass(10_000);
    for byte in world.trace.finish().as_ref() {
        write!(world.outcome.hash, "{byte:02x}").expect("a string takes everything");
    }
    world.outcome.answered = world.answered.load(std::sync::atomic::Ordering::Relaxed);
    world.outcome
}

fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, index as u8 + 1], 4_433))
}

fn identity(index: usize) -> Identity {
    Identity::from_secret([index as u8 + 1; 32])
}

fn echo(index: usize) -> ServiceBuilder {
    service(&format!("node{index}")).action(
        "repeat",
        |cx, (text, times): (String, usize)| async move {
            let pause = cx.random() % 50;
            cx.sleep(Duration::from_millis(pause)).await;
            Ok(text.repeat(times))
        },
    )
}

impl World {
    fn time(&self) -> Now {
        let wall = WallTime::from_unix_nanos(WALL + self.now);
        Now::new(MonoTime::from_nanos(self.now), wall)
    }

    fn station(&self, index: usize, life: u64) -> Station {
        let mut seed = [self.seed; 32];
        seed[0] = index as u8;
        seed[1] = life as u8;
        let crypto = match self.kind {
            Kind::Tls => Crypto::seeded_for_simulation(seed),
            Kind::Null => Crypto::null_for_simulation(seed),
        };
        let config = NodeConfig {
            crypto,
            transport: TransportConfig::for_simulation(),
            ..NodeConfig::new(
                identity(index),
                Access::development(&identity(index).id()),
                life,
                seed,
            )
        };
        Station { node: Node::new(self.time(), config), host: Host::new(seed, || {}) }
    }

    /// The node serves, knows everybody, and calls everybody again and again.
    fn begin(&mut self, index: usize) {
        let now = self.time();
        let answered = Arc::clone(&self.answered);
        let Station { node, host } = &mut self.stations[index];
        let mesh = node.mesh_mut();
        host.add_service(now, mesh, Arc::new(echo(index))).expect("the path is free");
        for other in (0..NODES).filter(|other| *other != index) {
            mesh.connect(now, identity(other).id(), vec![address(other)]).expect("there is room");
        }
        let handle = host.handle();
        host.spawn(now, mesh, async move {
            for round in 0..60 {
                let to = (index + 1 + round % (NODES - 1)) % NODES;
                // Now and then one that takes a lane of its own.
                let times = if round % 10 == 9 { 9_000 } else { 3 };
                let request = handle.request(&format!("node{to}/repeat"));
                let request = request.value(("abc".to_string(), times)).to(identity(to).id());
                let result = request.timeout(Duration::from_secs(3)).send_as::<String>().await;
                if result.is_ok_and(|text| text.len() == 3 * times) {
                    answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
                handle.sleep(Duration::from_millis(100)).await;
            }
        });
    }

    fn draw(&mut self, bound: u64) -> u64 {
        self.whim = self
            .whim
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.whim >> 33) % bound
    }

    fn note(&mut self, what: &[u8]) {
        self.trace.update(&self.now.to_le_bytes());
        self.trace.update(&(what.len() as u64).to_le_bytes());
        self.trace.update(what);
    }

    fn pass(&mut self, millis: u64) {
        let until = self.now + millis * MS;
        loop {
            for index in 0..NODES {
                self.drain(index);
            }
            let mono = MonoTime::from_nanos(self.now);
            let wakes = self.stations.iter().flat_map(|station| {
                [station.node.next_wake().map(|wake| wake.at), station.host.next_wake(mono)]
            });
            let wake = wakes.flatten().min().map(MonoTime::as_nanos);
            let flight = self.flights.keys().next().map(|(at, _)| *at);
            let Some(next) = [wake, flight].into_iter().flatten().min() else { break };
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            self.note(format!("wake {wake:?}").as_bytes());
            let now = self.time();
            while let Some(entry) = self.flights.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let (from, to, data) = entry.remove();
                if let Some(index) = (0..NODES).find(|index| address(*index) == to) {
                    let data = BytesMut::from(&data[..]);
                    let datagram = Datagram { from, local_ip: None, ecn: None, data };
                    self.stations[index].node.handle_datagram(now, datagram);
                }
            }
            for station in &mut self.stations {
                station.node.handle_timeout(now);
            }
        }
        self.now = until;
    }

    fn drain(&mut self, index: usize) {
        let now = self.time();
        let mut events = Vec::new();
        let Station { node, host } = &mut self.stations[index];
        node.turn(now, host, &mut |event| events.push(format!("{index} {event:?}")));
        let mut sent = Vec::new();
        let mut buf = Vec::new();
        while let Some(transmit) = node.poll_transmit(now, 4, &mut buf) {
            let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
            for data in buf[..transmit.size].chunks(segment) {
                sent.push((transmit.destination, data.to_vec()));
            }
        }
        for event in events {
            self.outcome.events += 1;
            self.note(event.as_bytes());
        }
        for (to, data) in sent {
            self.outcome.datagrams += 1;
            self.note(to.to_string().as_bytes());
            self.note(&data);
            let copies = match self.draw(100) {
                0..5 => 0,
                5..7 => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let at = self.now + 5 * MS + self.draw(20) * MS;
                let key = (at, self.outcome.datagrams * 2 + self.flights.len() as u64 % 2);
                self.flights.insert(key, (address(index), to, data.clone()));
            }
        }
    }
}
