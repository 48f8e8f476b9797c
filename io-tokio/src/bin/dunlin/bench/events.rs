//! Events with Dunlin: one node publishes, eight subscribe, all in a network with tokens.
//!
//! So many tasks publish one event after the other, as applications do. At the end the publisher asks each
//! subscriber how many came and how many it was told that it missed, and is answered when that is all: a round
//! lasts until the last event is in the hands of the application.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use dunlin_tokio::{Delivery, Node, Payload, PeerAddress, PeerId, service};
use tokio::sync::Notify;

use super::Failure;
use super::measure::{self, Deliveries, Tally};
use super::mesh::builder;
use super::network::RunNetwork;
use super::processes::Place;
use super::workload::Setting;

/// What is published.
const TOPIC: &str = "bench/events";

/// What one subscriber has counted since it began. All of it is used by one thread.
#[derive(Default)]
struct Counts {
    came: AtomicU64,
    missed: AtomicU64,
    /// How many somebody waits for; zero if nobody does.
    wanted: AtomicU64,
    there: Notify,
}

impl Counts {
    fn all(&self) -> u64 {
        self.came.load(Relaxed) + self.missed.load(Relaxed)
    }

    fn add(&self, to: &AtomicU64, count: u64) {
        to.store(to.load(Relaxed) + count, Relaxed);
        let wanted = self.wanted.load(Relaxed);
        if wanted > 0 && self.all() >= wanted {
            self.there.notify_one();
        }
    }

    /// Waits until so many have come or are known not to.
    async fn of(&self, published: u64) -> (u64, u64) {
        self.wanted.store(published, Relaxed);
        while self.all() < published {
            self.there.notified().await;
        }
        self.wanted.store(0, Relaxed);
        (self.came.load(Relaxed), self.missed.load(Relaxed))
    }
}

/// A subscriber's end.
pub(super) async fn serve(
    setting: &Setting,
    network: &RunNetwork,
    announce: impl FnOnce(&Place) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let counts = Arc::new(Counts::default());
    let asked = Arc::clone(&counts);
    let service = service("bench")
        .action("counted", move |_cx, published: u64| {
            let counts = Arc::clone(&asked);
            async move { Ok(counts.of(published).await) }
        })
        .in_place();
    let mut node = builder(setting, network)?.service(service).start().await?;
    let mut subscription = node.subscribe(TOPIC).await?;
    announce(&Place { address: node.local_addr(), key: node.id().to_string() })?;
    while let Some(delivery) = subscription.next().await {
        match delivery {
            Delivery::Event(event) => {
                if event.bytes().is_none_or(|(_, bytes)| bytes.len() != setting.size) {
                    return Err("an event came with another size than it was published with".into());
                }
                counts.add(&counts.came, 1);
            }
            Delivery::Missed(missed) => counts.add(&counts.missed, missed.count),
        }
    }
    Ok(node.ended().await?)
}

/// The publisher's end.
pub(super) async fn measure(
    setting: &Setting,
    network: &RunNetwork,
    places: &[Place],
) -> Result<(), Failure> {
    let node = builder(setting, network)?.start().await?;
    let mut subscribers = Vec::new();
    for place in places {
        let peer: PeerId = place.key.parse()?;
        node.connect(PeerAddress::new(peer, place.address)).await?;
        subscribers.push(peer);
    }
    let mut published = 0;
    let mut before = Deliveries::default();
    measure::measure(setting.seconds, async |tally| {
        published += publish(setting, &node, subscribers.len(), tally).await?;
        let mut now = Deliveries::default();
        for &subscriber in &subscribers {
            let request = node.request("bench/counted").to(subscriber).value(published);
            let (came, lost): (u64, u64) = request.send_as().await?;
            now.came += came;
            now.lost += lost;
        }
        tally.deliver(Deliveries { came: now.came - before.came, lost: now.lost - before.lost });
        before = now;
        Ok(())
    })
    .await
}

/// Publishes, so many events at a time. Says how many there were.
async fn publish(
    setting: &Setting,
    node: &Node,
    peers: usize,
    tally: &Tally,
) -> Result<u64, Failure> {
    let publisher = node.publisher(TOPIC)?;
    let payload = Payload::raw(vec![7; setting.size]);
    while Instant::now() < tally.until {
        for _ in 0..setting.outstanding {
            publisher.send_payload(payload.clone()).await?;
        }
        tokio::task::yield_now().await;
    }
    let totals = publisher.flush().await?;
    if totals.peers + totals.passed_over != totals.events * peers as u64 {
        return Err(format!("{totals:?}: {peers} peers subscribe").into());
    }
    Ok(totals.events)
}
