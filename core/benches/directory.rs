//! Choosing who serves a call, and telling a change, with 10 to 10,000 services known.
//!
//! `cargo bench -p dunlin-core --bench directory`. Neither may cost more when more is known.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion};
use dunlin_core::base::{Draws, Effects, PeerKey, PeerTag, Refusals, Slab};
use dunlin_core::directory::remote::Purpose;
use dunlin_core::directory::{
    Entry, EntryKey, Heard, OfferState, Publisher, PublisherInput, RemoteServices, Selection,
    ServiceInfo, ServiceOffer, Wish,
};
use dunlin_core::machine::{Context, Machine, TimerHandle, Timers};
use dunlin_core::topic::{Pattern, TopicPath};
use dunlin_core::{Limits, MonoTime, Now, PeerId};

const SERVICES: [usize; 4] = [10, 100, 1_000, 10_000];
const INSTANCES: u8 = 3;

fn service(index: usize, state: OfferState) -> Entry {
    let path = format!("shop/service-{index}");
    Entry::Service(Arc::new(ServiceOffer {
        path: TopicPath::parse(&path).expect("a path"),
        state,
        actions: ["read", "write"]
            .map(|action| Pattern::parse(&format!("{path}/{action}")).expect("a pattern"))
            .to_vec(),
        info: ServiceInfo::default(),
    }))
}

/// Each service at three peers.
fn remote(services: usize) -> RemoteServices {
    let mut peers: Slab<(), PeerTag> = Slab::default();
    let mut remote = RemoteServices::default();
    for instance in 0..INSTANCES {
        let peer = peers.insert(());
        let entries = (0..services)
            .map(|n| (EntryKey::Service(n as u64 + 1), Some(service(n, OfferState::Running))));
        remote.update(peer, PeerId::from_bytes([instance; 32]), 1, entries.collect());
    }
    remote
}

fn choosing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("choose an instance");
    let rules = [
        ("in turn", Selection::RoundRobin),
        ("least loaded", Selection::LeastLoaded),
        ("by key", Selection::ByKey(7)),
    ];
    for (name, selection) in rules {
        for services in SERVICES {
            let mut remote = remote(services);
            let mut draws = Draws::new([1; 32]);
            let wish = Wish { selection, ..Wish::default() };
            let paths: Vec<TopicPath> = (0..services)
                .map(|n| TopicPath::parse(&format!("shop/service-{n}/write")).expect("a path"))
                .collect();
            let mut next = 0;
            group.bench_function(BenchmarkId::new(name, services), |bencher| {
                bencher.iter(|| {
                    // A stride that meets every service.
                    next = (next + 7_919) % services;
                    let now = MonoTime::ZERO;
                    let path = &paths[next];
                    black_box(remote.choose(
                        now,
                        &mut draws,
                        path,
                        (&wish, Purpose::Call),
                        None,
                        |_| true,
                    ))
                });
            });
        }
    }
    group.finish();
}

struct NoTimers;

impl<T> Timers<T> for NoTimers {
    fn arm(&mut self, _at: MonoTime, _what: T) -> TimerHandle {
        TimerHandle(0)
    }
    fn disarm(&mut self, _timer: TimerHandle) {}
}

fn telling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tell ten peers of a change");
    for services in SERVICES {
        let mut publisher = Publisher::new(&Limits::default());
        let mut slab: Slab<(), PeerTag> = Slab::default();
        let peers: Vec<PeerKey> = (0..10).map(|_| slab.insert(())).collect();
        let now = Now::new(MonoTime::ZERO, Default::default());
        let mut draws = Draws::new([1; 32]);
        let mut feed = |publisher: &mut Publisher, input| {
            let mut timers = NoTimers;
            let mut refusals = Refusals::default();
            let mut cx = Context::new(now, &mut draws, &mut timers, &mut refusals);
            let mut ignored = |_| {};
            publisher.handle(&mut cx, &|_, _| true, input, &mut Effects::new(&mut ignored));
        };
        for n in 0..services {
            let entry = service(n, OfferState::Running);
            feed(&mut publisher, PublisherInput::Put(EntryKey::Service(n as u64 + 1), entry));
        }
        for peer in &peers {
            feed(&mut publisher, PublisherInput::Confirmed(*peer));
            feed(&mut publisher, PublisherInput::Ready { peer: *peer, incremental: true });
        }
        let states = [service(0, OfferState::Paused), service(0, OfferState::Running)];
        let mut round = 0;
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| {
                round += 1;
                let entry = states[round % 2].clone();
                feed(&mut publisher, PublisherInput::Put(EntryKey::Service(1), entry));
                for peer in &peers {
                    black_box(publisher.take_update(now.mono, *peer, &|_| true));
                    let version = publisher.version_for(*peer, &|_| true);
                    let heard = Heard { version, wants_whole: false };
                    feed(&mut publisher, PublisherInput::Heard { peer: *peer, heard });
                }
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    choosing(&mut criterion);
    telling(&mut criterion);
    criterion.final_summary();
}
