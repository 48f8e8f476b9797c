//! Dunlin: a node at each end, through the interface that applications use, in a network with tokens.
//!
//! Verified tokens are remembered, and a peer that comes back with the same one costs no signature. Where
//! connections are measured, nothing is remembered at either end: each costs what a stranger's does.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use dunlin_tokio::topic::TopicPath;
use dunlin_tokio::{Handle, Limits, Node, NodeBuilder, Payload, PeerId, TransportConfig, service};

use super::Failure;
use super::measure::{self, Tally};
use super::network::RunNetwork;
use super::processes::Place;
use super::workload::{Setting, Workload};

pub(super) fn builder(setting: &Setting, network: &RunNetwork) -> Result<NodeBuilder, Failure> {
    let builder = Node::builder()
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .transport(TransportConfig::for_datagrams_of(setting.datagram));
    let verified_tokens_max = match setting.workload {
        Workload::Connect => 0,
        _ => Limits::default().verified_tokens_max,
    };
    network.join(builder.limits(Limits { verified_tokens_max, ..Limits::default() }))
}

/// The server's end.
pub(super) async fn serve(
    setting: &Setting,
    network: &RunNetwork,
    announce: impl FnOnce(&Place) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let service = service("bench")
        .raw_action("echo", |_, argument| async { Ok(argument) })
        .raw_action("take", |_, _| async { Ok(Payload::raw(Bytes::new())) })
        .in_place();
    let mut node = builder(setting, network)?.service(service).start().await?;
    announce(&Place { address: node.local_addr(), key: node.id().to_string() })?;
    Ok(node.ended().await?)
}

/// The client's end.
pub(super) async fn measure(
    setting: &Setting,
    network: &RunNetwork,
    place: &Place,
) -> Result<(), Failure> {
    let server: PeerId = place.key.parse()?;
    if setting.workload == Workload::Connect {
        let node = builder(setting, network)?.start().await?;
        return measure::measure(setting.seconds, async |tally| {
            while Instant::now() < tally.until {
                connect_once(setting, &node, server, place.address, tally).await?;
            }
            Ok(())
        })
        .await;
    }
    let node = builder(setting, network)?.peer(server, [place.address]).start().await?;
    measure::measure(setting.seconds, async |tally| calls(setting, &node, server, tally).await)
        .await
}

/// From a node without links to the answer of a first call.
async fn connect_once(
    setting: &Setting,
    node: &Node,
    server: PeerId,
    address: SocketAddr,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let begun = Instant::now();
    node.keep(server, [address]).await?;
    let argument = Payload::raw(vec![7; setting.size]);
    node.request("bench/echo").to(server).payload(argument).send().await?;
    tally.record(begun, Instant::now());
    node.disconnect(server).await;
    Ok(())
}

/// Keeps so many tasks calling.
async fn calls(
    setting: &Setting,
    handle: &Handle,
    server: PeerId,
    tally: &mut Tally,
) -> Result<(), Failure> {
    // Read once, as whoever makes many calls of one path does.
    let path = if setting.workload == Workload::Bulk { "bench/take" } else { "bench/echo" };
    let path = TopicPath::parse(path)?;
    let tasks: Vec<_> = (0..setting.outstanding)
        .map(|_| {
            let (handle, path, mut tally) = (handle.clone(), path.clone(), tally.share());
            let argument = Payload::raw(vec![7; setting.size]);
            tokio::spawn(async move {
                let mut begun = Instant::now();
                while begun < tally.until {
                    handle
                        .request(path.clone())
                        .to(server)
                        .payload(argument.clone())
                        .send()
                        .await?;
                    let now = Instant::now();
                    tally.record(begun, now);
                    begun = now;
                }
                Ok::<Tally, Failure>(tally)
            })
        })
        .collect();
    for task in tasks {
        tally.add(task.await??);
    }
    Ok(())
}
