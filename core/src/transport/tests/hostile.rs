//! Whatever arrives, nothing panics and honest links live on.

use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::{Datagram, TransportConfig};
use super::net::{Kind, Net, SECOND, address, call};
use crate::base::{MonoTime, Now};
use crate::link::{Lane, LinkCommand, LinkInput};

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Seeded), Just(Kind::Null)]
}

/// A datagram that starts like one of QUIC version 1.
fn quic_like() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), 0u8..22, prop::collection::vec(any::<u8>(), 0..1_400)).prop_map(
        |(first, cid_bytes, rest)| {
            let mut data = vec![first | 0x40, 0, 0, 0, 1, cid_bytes];
            data.extend(rest);
            data
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_from_strangers_is_dropped(
        kind in kinds(),
        datagrams in prop::collection::vec(
            prop_oneof![prop::collection::vec(any::<u8>(), 0..1_400), quic_like()],
            1..20,
        ),
    ) {
        let mut net = Net::new(2, 1, kind, TransportConfig::for_simulation());
        let (_, link) = net.connect();
        for data in &datagrams {
            net.launch(address(7), address(1), data);
            net.launch(address(0), address(1), data);
        }
        net.run(Duration::from_secs(1));
        net.send(1, link, [(Lane::CONTROL, call(1, vec![1; 10]))]);
        let arrived = net.run_until(5 * SECOND, |net| !net.nodes[0].mesh.frames.is_empty());
        prop_assert!(arrived);
    }

    // With null crypto the bytes behind the checksum can be forged, so this reaches QUIC's parsers of
    // frames and transport parameters only as far as the checksum lets damage pass; with either it
    // reaches those of headers.
    #[test]
    fn damaged_packets_of_a_handshake_do_no_harm(
        kind in kinds(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..40),
    ) {
        let mut net = Net::new(2, 1, kind, TransportConfig::for_simulation());
        let now = net.now();
        net.dial(0, 1, 1, &[address(1)]);
        let mut hurt = net.in_flight();
        for (index, bits) in damage {
            let which = index.index(hurt.len());
            let place = index.index(hurt[which].len());
            hurt[which][place] ^= bits;
            let data = BytesMut::from(&hurt[which][..]);
            let datagram = Datagram { from: address(3), local_ip: None, ecn: None, data };
            net.nodes[1].transport.handle_datagram(now, datagram);
            net.drain(1);
        }
        net.run(Duration::from_secs(30));
        prop_assert_eq!(net.nodes[1].transport.half_open(), 0);
    }
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut net = Net::new(2, 1, Kind::Null, TransportConfig::for_simulation());
    net.connect();
    let back = Now::new(MonoTime::from_nanos(5), net.now().wall);
    let mut buf = Vec::new();
    for node in &mut net.nodes {
        node.transport.handle_timeout(back);
        node.transport.handle_datagram(
            back,
            Datagram { from: address(5), local_ip: None, ecn: None, data: BytesMut::new() },
        );
        while node.transport.poll_event().is_some() {}
        while node.transport.poll_transmit(back, 1, &mut buf).is_some() {}
    }
    net.run(Duration::from_secs(30));
    assert_eq!(net.nodes[0].transport.open_links(), 1);
}

#[test]
fn two_nodes_do_not_answer_each_others_resets_for_ever() {
    let mut net = Net::new(2, 1, Kind::Seeded, TransportConfig::for_simulation());
    // Looks like a short packet of a link that neither knows.
    let mut stray = vec![0x55; 1_200];
    stray[0] = 0x40;
    net.launch(address(0), address(1), &stray);
    net.launch(address(1), address(0), &stray);
    net.run(Duration::from_secs(5));
    assert_eq!(net.batches, 0, "an id that nobody issued is answered by nobody");
}

#[test]
fn a_link_that_is_not_trusted_has_the_control_lane_and_a_small_window() {
    let config = TransportConfig::for_simulation();
    let window = config.untrusted_window_bytes as usize;
    let mut net = Net::new(2, 1, Kind::Null, config);
    net.trusting = false;
    let (here, there) = net.connect();
    net.send(0, here, [(Lane(1), call(1, vec![1; 1 << 20])), (Lane(8), call(2, vec![2; 1 << 20]))]);
    net.run(Duration::from_secs(3));
    let heard = |net: &Net, lane| net.nodes[1].mesh.frames.contains_key(&(there, lane));
    assert!(!heard(&net, Lane(1)) && !heard(&net, Lane(8)));
    let sent = net.nodes[0].transport.link_stats(here).unwrap().sent_bytes as usize;
    assert!(sent < 2 * window, "{sent} bytes went out");

    net.command(1, LinkCommand::Trust { link: there });
    let all = |net: &Net| heard(net, Lane(1)) && heard(net, Lane(8));
    assert!(net.run_until(20 * SECOND, all), "what waited goes on");
}

#[test]
fn a_greeting_passes_before_trust_and_a_large_frame_waits_for_it() {
    let mut net = Net::new(2, 1, Kind::Null, TransportConfig::for_simulation());
    net.trusting = false;
    let (here, there) = net.connect();
    let frames =
        [(Lane::CONTROL, call(1, vec![1; 30_000])), (Lane::CONTROL, call(2, vec![2; 1 << 20]))];
    net.send(0, here, frames);
    let heard =
        |net: &Net| net.nodes[1].mesh.frames.get(&(there, Lane::CONTROL)).map_or(0, Vec::len);
    net.run(Duration::from_secs(3));
    assert_eq!(heard(&net), 1);
    net.command(1, LinkCommand::Trust { link: there });
    assert!(net.run_until(20 * SECOND, |net| heard(net) == 2));
}

#[test]
fn the_backlog_of_one_peer_does_not_hold_up_the_message_of_another() {
    let mut net = Net::new(3, 1, Kind::Null, TransportConfig::for_simulation());
    net.dial(0, 1, 1, &[address(1)]);
    net.dial(2, 2, 1, &[address(1)]);
    assert!(net.run_until(5 * SECOND, |net| net.nodes[1].mesh.up.len() == 2));
    let link = |net: &Net, node: usize| net.nodes[node].mesh.up[0].0;
    let bulk = (1..=400).map(|n| (Lane(8 + n), call(n, vec![1; 200_000])));
    let from = link(&net, 0);
    net.send(0, from, bulk.collect::<Vec<_>>());
    net.run(Duration::from_millis(600));
    // What comes in a while is handled together.
    net.held = Some((1, Vec::new()));
    net.run(Duration::from_millis(15));
    let from = link(&net, 2);
    net.send(2, from, [(Lane(1), call(1, vec![2; 10]))]);
    net.run(Duration::from_millis(15));
    let (_, datagrams) = net.held.take().unwrap();
    let came: usize = datagrams.iter().map(|datagram| datagram.data.len()).sum();
    assert!(came > 600 << 10, "{came} bytes are enough to be in the way");
    let now = net.now();
    for datagram in datagrams {
        net.nodes[1].transport.handle_datagram(now, datagram);
    }
    let mut before = 0;
    let transport = &mut net.nodes[1].transport;
    while let Some(input) = transport.poll_event() {
        let LinkInput::Frame { frame, .. } = input else { continue };
        if frame.len() < 100 {
            assert!(before <= 512 << 10, "{before} bytes of another peer came first");
            return;
        }
        before += frame.len();
    }
    panic!("the small message did not come in the first turn, but {before} bytes did");
}
