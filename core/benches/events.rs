//! One event at a time: to a subscriber of the same node, and through two meshes in memory, beside 10 to 10,000
//! subscriptions to other topics. The cost must not grow with those.
//!
//! `cargo bench -p dunlin-core --bench events`.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BenchmarkId, Criterion};
use dunlin_core::auth::Access;
use dunlin_core::events::{Delivery, PublishRequest, SubscribeRequest};
use dunlin_core::link::{Direction, FrameSource, Lane, LinkCommand, LinkHandle, LinkInput};
use dunlin_core::peer::Admission;
use dunlin_core::service::Payload;
use dunlin_core::topic::{Pattern, SubscriptionKey, TopicPath};
use dunlin_core::{Event, Identity, Limits, Mesh, MeshConfig, MonoTime, Now, WallTime};

/// Subscriptions beside the one that is measured.
const OTHERS: [usize; 4] = [10, 100, 1_000, 10_000];

const LINK: LinkHandle = LinkHandle(1);

fn now() -> Now {
    Now::new(MonoTime::ZERO, WallTime::default())
}

fn identity(index: u8) -> Identity {
    Identity::from_secret([index + 1; 32])
}

fn mesh(index: u8) -> Mesh {
    let config = MeshConfig {
        identity: identity(index),
        incarnation_counter: 1,
        stored: None,
        seed: [index; 32],
        admission: Admission::Anyone,
        access: Access::development(&identity(index).id()),
        leases: Default::default(),
        limits: Limits { subscriptions_per_peer_max: 20_000, ..Limits::default() },
    };
    Mesh::new(now(), config)
}

fn subscribe(mesh: &mut Mesh, pattern: &str) -> SubscriptionKey {
    let pattern = Pattern::parse(pattern).expect("a legal pattern");
    mesh.subscribe(now(), SubscribeRequest::new(pattern)).expect("it may").key
}

fn with_others(mesh: &mut Mesh, others: usize) -> SubscriptionKey {
    for other in 0..others {
        let pattern = match other % 3 {
            0 => format!("o/{other}"),
            1 => format!("o/{other}/*"),
            _ => format!("*/{other}/>"),
        };
        subscribe(mesh, &pattern);
    }
    subscribe(mesh, "orders/*")
}

fn publish(mesh: &mut Mesh, topic: &TopicPath) {
    let payload = Payload::raw(bytes::Bytes::from_static(&[7; 64]));
    mesh.publish(now(), &PublishRequest::new(topic.clone(), payload)).expect("there is room");
}

fn take(mesh: &mut Mesh, key: SubscriptionKey) {
    while mesh.poll_event().is_some() {}
    match mesh.take_delivery(key) {
        Some(Delivery::Event(event)) => drop(black_box(event)),
        other => panic!("the event is there: {other:?}"),
    }
    assert!(mesh.take_delivery(key).is_none());
}

/// Lets one mesh act and carries what it sends to the other.
fn carry(meshes: &mut [Mesh; 2], from: usize) {
    while let Some(command) = meshes[from].poll_link_command() {
        if let LinkCommand::Dial { dial, .. } = command {
            for (end, direction) in
                [(from, Direction::Dialled(dial)), (1 - from, Direction::Accepted)]
            {
                let peer = identity(1 - end as u8).id();
                let up = LinkInput::Up { link: LINK, peer, direction, remote: None };
                meshes[end].handle_link(now(), up);
            }
        }
    }
    while let Some(lane) = meshes[from].next_lane(LINK, Lane::CONTROL) {
        while let Some(frame) = meshes[from].pull_frame(LINK, lane) {
            let input = LinkInput::Frame { link: LINK, lane, frame: frame.to_body() };
            meshes[1 - from].handle_link(now(), input);
        }
    }
}

fn bench_local(criterion: &mut Criterion) {
    let topic = TopicPath::parse("orders/17").expect("a legal topic");
    let mut group = criterion.benchmark_group("event/local");
    for others in OTHERS {
        let mut mesh = mesh(0);
        let key = with_others(&mut mesh, others);
        group.bench_function(BenchmarkId::from_parameter(others), |bencher| {
            bencher.iter(|| {
                publish(&mut mesh, &topic);
                take(&mut mesh, key);
            });
        });
    }
}

fn bench_meshes(criterion: &mut Criterion) {
    let topic = TopicPath::parse("orders/17").expect("a legal topic");
    let mut group = criterion.benchmark_group("event/two meshes");
    for others in OTHERS {
        let mut meshes = [mesh(0), mesh(1)];
        let key = with_others(&mut meshes[1], others);
        let anywhere = vec![SocketAddr::from(([127, 0, 0, 1], 1))];
        meshes[0].connect(now(), identity(1).id(), anywhere).expect("another peer");
        for _ in 0..20 {
            carry(&mut meshes, 0);
            carry(&mut meshes, 1);
        }
        let up = |event: Event| matches!(event, Event::PeerUp { .. });
        assert!(std::iter::from_fn(|| meshes[0].poll_event()).any(up));
        group.bench_function(BenchmarkId::from_parameter(others), |bencher| {
            bencher.iter(|| {
                publish(&mut meshes[0], &topic);
                carry(&mut meshes, 0);
                take(&mut meshes[1], key);
                // The acknowledgement.
                carry(&mut meshes, 1);
                while meshes[0].poll_event().is_some() {}
            });
        });
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench_local(&mut criterion);
    bench_meshes(&mut criterion);
    criterion.final_summary();
}
