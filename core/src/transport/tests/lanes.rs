//! Frames on lanes: whole, in order, within bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dunlin_proto::{FrameView, Header};
use proptest::prelude::*;
use quinn_proto::{Dir, VarInt};

use super::super::connection::Stage;
use super::super::{Transport, TransportConfig};
use super::net::{Kind, MS, Net, Path, SECOND, call};
use crate::link::{CloseCode, DownReason, Lane, LinkCommand, LinkHandle, LinkInput};

fn net(config: TransportConfig) -> (Net, LinkHandle, LinkHandle) {
    let mut net = Net::new(2, 1, Kind::Null, config);
    let (here, there) = net.connect();
    (net, here, there)
}

/// The sequence and payload of a received call.
fn read(frame: &Bytes) -> (u64, Bytes) {
    match FrameView::decode(frame.clone()) {
        Ok(FrameView::Known(Header::Call(call), payload)) => (call.sequence, payload),
        other => panic!("not a call: {other:?}"),
    }
}

fn received(net: &Net, node: usize, link: LinkHandle, lane: Lane) -> Vec<(u64, Bytes)> {
    net.nodes[node].mesh.frames.get(&(link, lane)).into_iter().flatten().map(read).collect()
}

/// The lanes of a transport's only link.
fn link(transport: &Transport) -> &super::super::connection::Link {
    let (_, connection) = transport.connections.iter().next().expect("a connection");
    match &connection.stage {
        Stage::Up(link) => link,
        stage => panic!("not up: {stage:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn frames_arrive_whole_and_in_the_order_of_their_lane(
        seed in any::<u8>(),
        seeded in any::<bool>(),
        sizes in prop::collection::vec((0u64..5, prop_oneof![0usize..300, 0usize..6_000]), 1..60),
        own in prop::collection::vec(16_000usize..200_000, 0..6),
    ) {
        let kind = if seeded { Kind::Seeded } else { Kind::Null };
        let mut net = Net::new(2, seed, kind, TransportConfig::for_simulation());
        let (here, there) = net.connect();
        net.path = Path::ROUGH;
        let mut expected: BTreeMap<Lane, Vec<(u64, Bytes)>> = BTreeMap::new();
        let shared = sizes.into_iter().map(|(lane, bytes)| (Lane(lane), bytes));
        let own = own.into_iter().zip(8u64..).map(|(bytes, lane)| (Lane(lane), bytes));
        for (sequence, (lane, bytes)) in shared.chain(own).enumerate() {
            let payload = Bytes::from(vec![sequence as u8; bytes]);
            expected.entry(lane).or_default().push((sequence as u64, payload.clone()));
            net.send(0, here, [(lane, call(sequence as u64, payload))]);
        }
        let count: usize = expected.values().map(Vec::len).sum();
        let done = net.run_until(60 * SECOND, |net| {
            net.nodes[1].mesh.frames.values().map(Vec::len).sum::<usize>() == count
        });
        prop_assert!(done);
        for (lane, frames) in expected {
            prop_assert_eq!(received(&net, 1, there, lane), frames);
        }
        net.run(Duration::from_secs(1));
        prop_assert_eq!(link(&net.nodes[1].transport).inbound.reserved_bytes(), 0);
        prop_assert_eq!(net.nodes[1].transport.open_links(), 1);
    }
}

#[test]
fn large_messages_travel_on_their_own_lanes_in_both_directions() {
    for kind in [Kind::Seeded, Kind::Null] {
        let mut net = Net::new(2, 1, kind, TransportConfig::for_simulation());
        let (here, there) = net.connect();
        let payload = Bytes::from(vec![5; 1 << 20]);
        for n in 0..20 {
            net.send(0, here, [(Lane(8 + n), call(n, payload.clone()))]);
            net.send(1, there, [(Lane(8 + n), call(n, payload.clone()))]);
        }
        let done = net.run_until(60 * SECOND, |net| {
            net.nodes.iter().all(|node| node.mesh.frames.len() == 20)
        });
        assert!(done);
        for n in 0..20 {
            assert_eq!(received(&net, 1, there, Lane(8 + n)), [(n, payload.clone())]);
            assert_eq!(received(&net, 0, here, Lane(8 + n)), [(n, payload.clone())]);
        }
    }
}

#[test]
fn datagrams_of_6500_bytes_work_where_the_path_carries_them() {
    let mut config = TransportConfig::for_datagrams_of(6_500);
    config.ack_every_packets = None;
    let (mut net, here, there) = net(config);
    net.send(0, here, [(Lane(8), call(1, vec![1; 4 << 20]))]);
    assert!(net.run_until(60 * SECOND, |net| !net.nodes[1].mesh.frames.is_empty()));
    assert_eq!(received(&net, 1, there, Lane(8)).len(), 1);
    assert_eq!(net.largest, 6_500);
    assert_eq!(net.nodes[0].transport.link_stats(here).unwrap().udp_payload_bytes, 6_500);
}

#[test]
fn path_mtu_discovery_finds_what_the_path_carries() {
    let mut net = Net::new(2, 1, Kind::Null, TransportConfig::default());
    net.path.udp_payload_bytes_max = 1_400;
    let (here, _) = net.connect();
    net.run(Duration::from_secs(20));
    let stats = net.nodes[0].transport.link_stats(here).unwrap();
    assert!((1_360..=1_400).contains(&stats.udp_payload_bytes), "{stats:?}");
    assert_eq!(stats.rtt, Duration::from_millis(20));
}

#[test]
fn unfinished_messages_stay_within_the_budget() {
    let config = TransportConfig {
        message_bytes_max: 600_000,
        reassembly_bytes_max: 1_000_000,
        own_lanes_max: 32,
        ..TransportConfig::for_simulation()
    };
    let (mut net, here, there) = net(config);
    let lanes = (0..32).map(|n| (Lane(8 + n), call(n, vec![n as u8; 500_000])));
    net.send(0, here, lanes);
    let mut most = 0;
    let done = net.run_until(120 * SECOND, |net| {
        most = most.max(link(&net.nodes[1].transport).inbound.reserved_bytes());
        net.nodes[1].mesh.frames.len() == 32
    });
    assert!(done);
    assert!((500_000..=1_000_000).contains(&most), "{most}");
    for n in 0..32 {
        assert_eq!(received(&net, 1, there, Lane(8 + n))[0].0, n);
    }
}

#[test]
fn small_calls_pass_lanes_that_wait_for_room() {
    let config = TransportConfig {
        message_bytes_max: 4 << 20,
        reassembly_bytes_max: 0,
        lane_window_bytes: 64 << 10,
        ..TransportConfig::for_simulation()
    };
    let (mut net, here, there) = net(config);
    net.send(0, here, (0..8).map(|n| (Lane(8 + n), call(n, vec![0; 4 << 20]))));
    net.run(Duration::from_millis(200));
    net.send(0, here, [(Lane(1), call(99, vec![1; 64])), (Lane::CONTROL, call(98, vec![]))]);
    // FramesReady was said before, and own lanes are still held back.
    let began = net.now;
    net.command(0, LinkCommand::FramesReady { link: here });
    assert!(net.run_until(SECOND, |net| {
        received(net, 1, there, Lane(1)).len() + received(net, 1, there, Lane::CONTROL).len() == 2
    }));
    assert!(net.now - began < 100 * MS, "{}", net.now - began);
}

#[test]
fn bulk_that_fills_the_send_window_does_not_hold_up_small_calls() {
    // Below the congestion window, so that the send window is what is full.
    let config =
        TransportConfig { send_window_bytes: 8 << 10, ..TransportConfig::for_simulation() };
    let (mut net, here, there) = net(config);
    net.run(Duration::from_secs(1));
    net.path.latency = 200 * MS;
    net.send(0, here, [(Lane(8), call(0, vec![0; 1 << 20]))]);
    net.run(Duration::from_millis(10));
    net.send(0, here, [(Lane(1), call(1, vec![1; 64]))]);
    let done = net.run_until(250 * MS, |net| received(net, 1, there, Lane(1)).len() == 1);
    assert!(done, "the call did not wait for the first acknowledgement of the bulk");
}

#[test]
fn frames_that_a_peer_does_not_take_stay_with_the_mesh() {
    let config =
        TransportConfig { send_window_bytes: 256 << 10, ..TransportConfig::for_simulation() };
    let (mut net, here, there) = net(config);
    net.nodes[1].alive = false;
    net.send(0, here, (0..2_000).map(|n| (Lane(1), call(n, vec![1; 1_000]))));
    net.run(Duration::from_secs(2));
    let left = net.nodes[0].mesh.queued(here);
    let unwritten = link(&net.nodes[0].transport).outbound.unwritten_bytes();
    assert!(left > 1_500, "{left} frames were left with the mesh");
    assert!(unwritten <= 70_000, "{unwritten} bytes were pulled ahead");
    net.nodes[1].alive = true;
    let done = net.run_until(30 * SECOND, |net| received(net, 1, there, Lane(1)).len() == 2_000);
    assert!(done);
    let order: Vec<u64> = received(&net, 1, there, Lane(1)).iter().map(|(n, _)| *n).collect();
    assert_eq!(order, (0..2_000).collect::<Vec<_>>());
    assert_eq!(net.nodes[0].mesh.queued(here), 0);
}

#[test]
fn a_lane_that_is_given_up_makes_room_for_others() {
    let config = TransportConfig {
        own_unwritten_bytes_max: 1,
        lane_window_bytes: 64 << 10,
        send_window_bytes: 256 << 10,
        ..TransportConfig::for_simulation()
    };
    let (mut net, here, there) = net(config);
    net.nodes[1].alive = false;
    net.send(0, here, [(Lane(8), call(0, vec![0; 4 << 20])), (Lane(9), call(1, vec![1; 50_000]))]);
    net.run(Duration::from_millis(100));
    assert_eq!(net.nodes[0].mesh.queued(here), 1, "the second lane waits for the first");
    net.command(0, LinkCommand::ResetLane { link: here, lane: Lane(8) });
    assert_eq!(net.nodes[0].mesh.queued(here), 0);
    net.nodes[1].alive = true;
    assert!(net.run_until(20 * SECOND, |net| received(net, 1, there, Lane(9)).len() == 1));
    assert!(received(&net, 1, there, Lane(8)).is_empty());
    net.run(Duration::from_secs(1));
    assert_eq!(link(&net.nodes[1].transport).inbound.reserved_bytes(), 0);
    assert_eq!(net.nodes[1].transport.open_links(), 1);
}

#[test]
fn more_own_lanes_than_the_peer_allows_wait_their_turn() {
    let config = TransportConfig { own_lanes_max: 2, ..TransportConfig::for_simulation() };
    let (mut net, here, _) = net(config);
    net.send(0, here, (0..50).map(|n| (Lane(8 + n), call(n, vec![0; 20_000]))));
    assert!(net.nodes[0].mesh.queued(here) >= 48);
    assert!(net.run_until(60 * SECOND, |net| net.nodes[1].mesh.frames.len() == 50));
}

/// Lets node 0 write raw bytes on a fresh stream of its link, or do worse.
fn misbehave(prepare: &[&[u8]], act: impl FnOnce(&mut quinn_proto::Connection)) -> DownReason {
    let (mut net, here, there) = net(TransportConfig::for_simulation());
    net.send(0, here, (0..5).map(|lane| (Lane(lane), call(lane, vec![]))));
    net.run(Duration::from_secs(1));
    let transport = &mut net.nodes[0].transport;
    let key = transport.links[&here];
    let quic = &mut transport.connections.get_mut(key).unwrap().quic;
    for bytes in prepare {
        let stream = quic.streams().open(Dir::Uni).unwrap();
        quic.send_stream(stream).write(bytes).unwrap();
    }
    act(quic);
    transport.mark_unsettled(key);
    net.drain(0);
    net.run(Duration::from_secs(1));
    assert_eq!(net.nodes[0].mesh.up, []);
    assert!(matches!(
        net.nodes[0].mesh.heard.last(),
        Some(LinkInput::Down { reason: DownReason::ClosedByPeer(CloseCode::PROTOCOL_FAULT), .. })
    ));
    match net.nodes[1].mesh.heard.last() {
        Some(LinkInput::Down { link, reason }) if *link == there => reason.clone(),
        other => panic!("the link is still up: {other:?}"),
    }
}

#[test]
fn a_peer_that_breaks_the_rules_of_lanes_loses_its_link() {
    let finish = |quic: &mut quinn_proto::Connection, index| {
        let stream = quinn_proto::StreamId::new(quic.side(), Dir::Uni, index);
        quic.send_stream(stream).finish().unwrap();
    };
    let reset = |quic: &mut quinn_proto::Connection, index| {
        let stream = quinn_proto::StreamId::new(quic.side(), Dir::Uni, index);
        quic.send_stream(stream).reset(VarInt::from_u32(0)).unwrap();
    };
    let nothing = |_: &mut quinn_proto::Connection| {};
    for (what, reason) in [
        ("number 5 has no meaning", misbehave(&[&[5]], nothing)),
        ("has no meaning", misbehave(&[&[0xff; 12]], nothing)),
        ("control was opened twice", misbehave(&[&[0]], nothing)),
        ("shared 4 was opened twice", misbehave(&[&[4]], nothing)),
        ("own 9 was opened after", misbehave(&[&[10], &[9]], nothing)),
        ("shared 1 ended", misbehave(&[], |quic| reset(quic, 1))),
        ("within a frame", misbehave(&[&[8, 10, 1]], |quic| finish(quic, 5))),
        ("within a frame", misbehave(&[&[]], |quic| finish(quic, 5))),
        ("goes on behind", misbehave(&[&[8, 1, 1, 1]], nothing)),
        ("beyond the bound", misbehave(&[&[8, 0xff, 0xff, 0xff, 0x7f]], nothing)),
        ("beyond the bound", misbehave(&[&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]], nothing)),
    ] {
        let DownReason::Failed(text) = reason else { panic!("{what}: {reason:?}") };
        assert!(text.contains(what), "'{text}' should say '{what}'");
    }
}

#[test]
fn a_pause_does_not_slow_a_link_down_for_long_after_it() {
    let (mut net, here, there) = net(TransportConfig::for_simulation());
    net.send(0, here, (0..5).map(|n| (Lane(1), call(n, vec![0; 100]))));
    net.run(Duration::from_secs(1));
    // What is sent now is acknowledged twelve seconds later.
    net.path.latency = 6 * SECOND;
    net.send(0, here, (5..25).map(|n| (Lane(1), call(n, vec![0; 100]))));
    net.send(1, there, (0..20).map(|n| (Lane(1), call(n, vec![0; 100]))));
    net.run(Duration::from_secs(13));
    net.path = Path::CLEAN;
    net.run(Duration::from_secs(1));
    net.path.loss_per_mille = 20;
    net.send(0, here, (25..125).map(|n| (Lane(1), call(n, vec![0; 2_000]))));
    let all = |net: &Net| received(net, 1, there, Lane(1)).len() == 125;
    assert!(net.run_until(5 * SECOND, all), "{}", received(&net, 1, there, Lane(1)).len());
}
