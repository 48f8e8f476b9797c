//! One call at a time: within a node, through two meshes in memory, and through two whole nodes in
//! memory, QUIC included.
//!
//! `cargo bench -p dunlin-core --bench calls`. The bounds are in performance.md, rows "local call" and
//! "call through two in-memory meshes".

use std::future::Future;
use std::hint::black_box;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use criterion::Criterion;
use dunlin_core::auth::Access;
use dunlin_core::link::{Direction, FrameSource, Lane, LinkCommand, LinkHandle, LinkInput};
use dunlin_core::peer::Admission;
use dunlin_core::service::{Handle, Host, Payload, ServiceBuilder, service};
use dunlin_core::topic::TopicPath;
use dunlin_core::transport::{Crypto, Datagram, TransportConfig};
use dunlin_core::{
    CallRequest, Identity, Limits, Mesh, MeshConfig, MonoTime, Node, NodeConfig, Now, PeerId,
    Target, WallTime,
};

/// More rounds than a call could need; a bench that goes on for ever says nothing.
const ROUNDS_MAX: usize = 1_000;

fn echo() -> ServiceBuilder {
    service("bench").raw_action("echo", |_, argument| async { Ok(argument) })
}

fn request(path: &TopicPath, target: Target) -> CallRequest {
    let payload = Payload::raw(bytes::Bytes::from_static(&[7; 64]));
    CallRequest { target, ..CallRequest::new(path.clone(), payload) }
}

fn path() -> TopicPath {
    TopicPath::parse("bench/echo").expect("a legal path")
}

fn identity(index: u8) -> Identity {
    Identity::from_secret([index + 1; 32])
}

/// Makes one call and lets `round` carry it on until it has ended.
fn call(handle: &Handle, request: CallRequest, mut round: impl FnMut()) -> Payload {
    let mut call = pin!(handle.start(request));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..ROUNDS_MAX {
        if let Poll::Ready(result) = call.as_mut().poll(&mut cx) {
            return result.expect("it is answered");
        }
        round();
    }
    panic!("the call has not ended");
}

/// A mesh with its services.
struct Station {
    mesh: Mesh,
    host: Host,
}

impl Station {
    fn new(index: u8, now: Now) -> Station {
        let config = MeshConfig {
            identity: identity(index),
            incarnation_counter: 1,
            stored: None,
            seed: [index; 32],
            admission: Admission::Anyone,
            access: Access::development(&identity(index).id()),
            leases: Default::default(),
            limits: Limits::default(),
        };
        Station { mesh: Mesh::new(now, config), host: Host::new([index; 32], || {}) }
    }

    fn serve(&mut self, now: Now) {
        self.host.add_service(now, &mut self.mesh, Arc::new(echo())).expect("it is legal");
    }

    fn turn(&mut self, now: Now) {
        self.host.turn(now, &mut self.mesh, &mut |_| {});
    }
}

/// The only link of the two stations, at both ends.
const LINK: LinkHandle = LinkHandle(1);

/// Lets one station act and carries what it sends to the other.
fn carry(now: Now, stations: &mut [Station; 2], ids: [PeerId; 2], from: usize) {
    stations[from].turn(now);
    while let Some(command) = stations[from].mesh.poll_link_command() {
        if let LinkCommand::Dial { dial, .. } = command {
            for (end, direction) in
                [(from, Direction::Dialled(dial)), (1 - from, Direction::Accepted)]
            {
                let peer = ids[1 - end];
                let up = LinkInput::Up { link: LINK, peer, direction, remote: None };
                stations[end].mesh.handle_link(now, up);
            }
        }
    }
    while let Some(lane) = stations[from].mesh.next_lane(LINK, Lane::CONTROL) {
        while let Some(frame) = stations[from].mesh.pull_frame(LINK, lane) {
            let input = LinkInput::Frame { link: LINK, lane, frame: frame.to_body() };
            stations[1 - from].mesh.handle_link(now, input);
        }
    }
}

fn now_at(nanos: u64) -> Now {
    Now::new(MonoTime::from_nanos(nanos), WallTime::default())
}

fn bench_local(criterion: &mut Criterion) {
    let now = now_at(0);
    let mut station = Station::new(0, now);
    station.serve(now);
    station.turn(now);
    let (path, handle) = (path(), station.host.handle());
    criterion.bench_function("call/local", |bencher| {
        bencher.iter(|| {
            black_box(call(&handle, request(&path, Target::Any), || station.turn(now)));
        });
    });
}

fn bench_meshes(criterion: &mut Criterion) {
    let now = now_at(0);
    let mut stations = [0, 1].map(|index| Station::new(index, now));
    let ids = [0, 1].map(|index| identity(index).id());
    stations[1].serve(now);
    let anywhere = vec![SocketAddr::from(([127, 0, 0, 1], 1))];
    stations[0].mesh.connect(now, ids[1], anywhere).expect("another peer");
    let (path, handle) = (path(), stations[0].host.handle());
    criterion.bench_function("call/two meshes", |bencher| {
        bencher.iter(|| {
            let answer = call(&handle, request(&path, Target::Peer(ids[1])), || {
                carry(now, &mut stations, ids, 0);
                carry(now, &mut stations, ids, 1);
                stations[0].turn(now);
            });
            black_box(answer);
        });
    });
}

/// A whole node with its services.
struct Whole {
    node: Node,
    host: Host,
    address: SocketAddr,
    batch: Vec<u8>,
}

impl Whole {
    fn new(index: u8, crypto: Crypto, now: Now) -> Whole {
        let config = NodeConfig {
            crypto,
            transport: TransportConfig::for_simulation(),
            ..NodeConfig::new(
                identity(index),
                Access::development(&identity(index).id()),
                1,
                [index; 32],
            )
        };
        Whole {
            node: Node::new(now, config),
            host: Host::new([index; 32], || {}),
            address: SocketAddr::from(([10, 0, 0, index], 1)),
            batch: Vec::new(),
        }
    }

    /// Lets it act, and hands what it sends to the other.
    fn turn(&mut self, now: Now, other: &mut Whole) {
        if self.node.next_wake().is_some_and(|wake| wake.at <= now.mono) {
            self.node.handle_timeout(now);
        }
        self.node.turn(now, &mut self.host, &mut |_| {});
        while let Some(transmit) = self.node.poll_transmit(now, 10, &mut self.batch) {
            let datagram_bytes = transmit.segment_size.unwrap_or(transmit.size);
            for data in self.batch[..transmit.size].chunks(datagram_bytes) {
                let from = self.address;
                let datagram =
                    Datagram { from, local_ip: None, ecn: transmit.ecn, data: data.into() };
                other.node.handle_datagram(now, datagram);
            }
        }
    }
}

fn bench_nodes(criterion: &mut Criterion, name: &str, crypto: fn([u8; 32]) -> Crypto) {
    let mut nanos = 0;
    let [mut a, mut b] = [0, 1].map(|index| Whole::new(index, crypto([index; 32]), now_at(0)));
    b.host.add_service(now_at(0), b.node.mesh_mut(), Arc::new(echo())).expect("it is legal");
    let (peer, address) = (identity(1).id(), b.address);
    a.node.mesh_mut().connect(now_at(0), peer, vec![address]).expect("another peer");
    let (path, handle) = (path(), a.host.handle());
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            let answer = call(&handle, request(&path, Target::Peer(peer)), || {
                // A link in the same rack.
                nanos += Duration::from_micros(20).as_nanos() as u64;
                let now = now_at(nanos);
                a.turn(now, &mut b);
                b.turn(now, &mut a);
                a.node.turn(now, &mut a.host, &mut |_| {});
            });
            black_box(answer);
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench_local(&mut criterion);
    bench_meshes(&mut criterion);
    bench_nodes(&mut criterion, "call/two nodes, no encryption", Crypto::null_for_simulation);
    bench_nodes(&mut criterion, "call/two nodes, seeded TLS", Crypto::seeded_for_simulation);
    criterion.final_summary();
}
