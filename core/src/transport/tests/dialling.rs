//! How links come up, and how they do not.

use std::time::Duration;

use bytes::BytesMut;

use super::super::{AddressValidation, Crypto, Datagram, Transport, TransportConfig};
use super::net::{Kind, MS, Net, Path, SECOND, address, call};
use crate::base::{Bound, Now};
use crate::link::{
    CloseCode, DialError, DialHandle, Direction, DownReason, Lane, LinkCommand, LinkInput,
};

fn net(nodes: usize, kind: Kind) -> Net {
    Net::new(nodes, 1, kind, TransportConfig::for_simulation())
}

fn failed(net: &Net, node: usize) -> Option<DialError> {
    net.nodes[node].mesh.heard.iter().find_map(|input| match input {
        LinkInput::DialFailed { error, .. } => Some(error.clone()),
        _ => None,
    })
}

#[test]
fn both_ends_of_a_link_learn_each_others_key() {
    for kind in [Kind::Seeded, Kind::Null] {
        let mut net = net(2, kind);
        let (dialled, accepted) = net.connect();
        assert_eq!(
            net.nodes[0].mesh.heard,
            [LinkInput::Up {
                link: dialled,
                peer: net.peer(1),
                direction: Direction::Dialled(DialHandle(1)),
                remote: Some(address(1)),
            }]
        );
        assert_eq!(
            net.nodes[1].mesh.heard,
            [LinkInput::Up {
                link: accepted,
                peer: net.peer(0),
                direction: Direction::Accepted,
                remote: Some(address(0)),
            }]
        );
        // A round trip for the handshake; the listener waits for the dialler's key.
        assert!(net.now <= SECOND + 31 * MS, "{}", net.now);
    }
}

#[test]
fn a_link_over_the_operating_systems_randomness_comes_up() {
    let mut net = net(2, Kind::Seeded);
    for node in &mut net.nodes {
        node.transport = Transport::new(
            Now::default(),
            &node.identity,
            Crypto::system(),
            TransportConfig::default(),
            [9; 32],
        );
    }
    net.connect();
}

#[test]
fn a_peer_with_another_key_is_refused_by_the_dialler() {
    for kind in [Kind::Seeded, Kind::Null] {
        let mut net = net(3, kind);
        net.dial(0, 1, 2, &[address(1)]);
        net.run(Duration::from_secs(20));
        assert_eq!(failed(&net, 0), Some(DialError::WrongPeer));
        assert_eq!(net.nodes[0].transport.open_links(), 0);
        assert!(net.nodes[0].transport.is_drained());
        // The listener saw a handshake that the dialler broke off, and no link.
        assert_eq!(net.nodes[1].mesh.heard, []);
        assert_eq!(net.nodes[1].transport.half_open(), 0);
    }
}

#[test]
fn a_dialler_that_shows_no_key_gets_no_link() {
    let mut net = net(2, Kind::Seeded);
    let client = super::super::crypto::client_without_key();
    net.nodes[0].transport.client = client;
    net.dial(0, 1, 1, &[address(1)]);
    net.run(Duration::from_secs(20));
    assert_eq!(net.nodes[1].mesh.heard, []);
    assert_eq!(net.nodes[1].transport.open_links(), 0);
    assert_eq!(net.nodes[0].transport.open_links(), 0);
}

#[test]
fn the_next_address_is_tried_while_the_first_is_silent() {
    let mut net = net(2, Kind::Null);
    let addresses = [address(9), address(1)];
    net.dial(0, 1, 1, &addresses);
    assert!(net.run_until(SECOND, |net| !net.nodes[0].mesh.up.is_empty()));
    net.run(Duration::from_secs(20));
    assert_eq!(net.nodes[0].mesh.heard.len(), 1, "{:?}", net.nodes[0].mesh.heard);
    assert_eq!(net.nodes[0].transport.connections.len(), 1, "the silent attempt is gone");
}

#[test]
fn a_dial_that_nobody_answers_fails_once() {
    let mut net = net(1, Kind::Null);
    let peer = net.peer(0);
    let addresses = vec![address(8), address(9)];
    net.command(0, LinkCommand::Dial { dial: DialHandle(7), peer, addresses });
    net.run(Duration::from_secs(60));
    assert_eq!(
        net.nodes[0].mesh.heard,
        [LinkInput::DialFailed { dial: DialHandle(7), error: DialError::TimedOut }]
    );
    assert_eq!(net.nodes[0].transport.connections.len(), 0);
    assert_eq!(net.nodes[0].transport.poll_timeout(), None);
}

#[test]
fn a_dial_without_a_usable_address_fails_at_once() {
    let mut net = net(2, Kind::Null);
    net.dial(0, 1, 1, &[]);
    assert!(matches!(failed(&net, 0), Some(DialError::Unusable(_))));
    net.nodes[0].mesh.heard.clear();
    net.dial(0, 2, 1, &["0.0.0.0:1".parse().unwrap(), "10.0.0.1:0".parse().unwrap()]);
    assert!(matches!(failed(&net, 0), Some(DialError::Unusable(_))));
}

#[test]
fn a_cancelled_dial_says_nothing_more() {
    let mut net = net(2, Kind::Null);
    net.dial(0, 1, 1, &[address(1)]);
    net.command(0, LinkCommand::CancelDial { dial: DialHandle(1) });
    net.run(Duration::from_secs(20));
    assert_eq!(net.nodes[0].mesh.heard, []);
    assert!(net.nodes[0].transport.is_drained());
    assert_eq!(net.nodes[0].transport.connections.len(), 0);
    assert_eq!(net.nodes[1].transport.connections.len(), 0);
}

#[test]
fn two_that_dial_each_other_get_two_links() {
    let mut net = net(2, Kind::Seeded);
    net.dial(0, 1, 1, &[address(1)]);
    net.dial(1, 1, 0, &[address(0)]);
    net.run(Duration::from_secs(1));
    assert_eq!(net.nodes[0].mesh.up.len(), 2);
    assert_eq!(net.nodes[1].mesh.up.len(), 2);
}

#[test]
fn a_stranger_proves_its_address_first_when_asked_to() {
    for kind in [Kind::Seeded, Kind::Null] {
        let address_validation = AddressValidation::Always;
        let config = TransportConfig { address_validation, ..TransportConfig::for_simulation() };
        let mut net = Net::new(2, 1, kind, config);
        net.connect();
        // One round trip more than without.
        assert!(net.now > SECOND + 40 * MS, "{}", net.now);
    }
}

#[test]
fn beyond_the_bound_strangers_are_refused_and_dials_fail() {
    let config = TransportConfig { connections_max: 1, ..TransportConfig::for_simulation() };
    let mut net = Net::new(3, 1, Kind::Null, config);
    net.connect();
    net.dial(2, 1, 1, &[address(1)]);
    net.run(Duration::from_secs(1));
    assert!(matches!(failed(&net, 2), Some(DialError::Refused(_))), "{:?}", failed(&net, 2));
    net.dial(0, 2, 2, &[address(2)]);
    assert!(matches!(failed(&net, 0), Some(DialError::Unusable(_))));
}

#[test]
fn links_come_up_over_a_rough_path() {
    for (seed, kind) in [(1, Kind::Seeded), (2, Kind::Seeded), (3, Kind::Null), (4, Kind::Null)] {
        let mut net = Net::new(2, seed, kind, TransportConfig::for_simulation());
        net.path = Path::ROUGH;
        net.connect();
    }
}

#[test]
fn a_peer_that_restarted_with_its_key_resets_the_old_link_at_once() {
    for kind in [Kind::Seeded, Kind::Null] {
        let mut net = net(2, kind);
        let (link, _) = net.connect();
        net.run(Duration::from_secs(1));
        net.restart(1);
        let began = net.now;
        // The next keep-alive is the first packet that the new life sees.
        assert!(net.run_until(30 * SECOND, |net| net.nodes[0].mesh.up.is_empty()));
        assert_eq!(
            net.nodes[0].mesh.heard.last(),
            Some(&LinkInput::Down { link, reason: DownReason::Reset })
        );
        assert!(net.now - began < 6 * SECOND);
        assert_eq!(net.nodes[0].transport.connections.len(), 0);
    }
}

#[test]
fn a_peer_that_vanished_is_noticed_after_the_idle_timeout() {
    let mut net = net(2, Kind::Null);
    let (link, _) = net.connect();
    net.run(Duration::from_secs(60));
    assert_eq!(net.nodes[0].mesh.up.len(), 1, "keep-alives hold an idle link");
    net.nodes[1].alive = false;
    assert!(net.run_until(25 * SECOND, |net| net.nodes[0].mesh.up.is_empty()));
    assert_eq!(
        net.nodes[0].mesh.heard.last(),
        Some(&LinkInput::Down { link, reason: DownReason::TimedOut })
    );
}

#[test]
fn a_dialler_whose_address_changes_keeps_its_link() {
    for kind in [Kind::Seeded, Kind::Null] {
        let mut net = net(2, kind);
        let (here, there) = net.connect();
        net.run(Duration::from_secs(1));
        net.nodes[0].address.set_port(9_999);
        net.send(0, here, [(Lane(1), call(1, vec![1; 50]))]);
        net.run(Duration::from_secs(30));
        net.send(1, there, [(Lane(1), call(2, vec![2; 50]))]);
        net.run(Duration::from_secs(1));
        assert_eq!(net.nodes[1].mesh.frames[&(there, Lane(1))].len(), 1);
        assert_eq!(net.nodes[0].mesh.frames[&(here, Lane(1))].len(), 1);
        assert_eq!((net.nodes[0].mesh.up.len(), net.nodes[1].mesh.up.len()), (1, 1));
    }
}

#[test]
fn an_accepting_side_whose_address_changes_loses_its_links() {
    let mut net = net(2, Kind::Null);
    net.connect();
    net.nodes[1].address.set_port(9_999);
    net.run(Duration::from_secs(40));
    assert_eq!((net.nodes[0].mesh.up.len(), net.nodes[1].mesh.up.len()), (0, 0));
}

#[test]
fn an_embedder_may_move_a_transport_to_another_thread() {
    fn movable<T: Send>() {}
    movable::<Transport>();
}

#[test]
fn link_handles_are_not_used_again() {
    let mut net = net(2, Kind::Null);
    let (first, _) = net.connect();
    net.close(0, first);
    net.run(Duration::from_secs(20));
    assert_eq!(net.nodes[0].transport.connections.len(), 0);
    let (second, _) = net.connect();
    assert_ne!(first, second);
    net.command(0, LinkCommand::Close { link: first, code: CloseCode::SHUTDOWN, flush: false });
    assert_eq!(net.nodes[0].transport.open_links(), 1);
}

#[test]
fn handshakes_that_are_never_finished_make_room_for_later_ones() {
    let config = TransportConfig {
        half_open_max: 12,
        half_open_per_address_max: 8,
        ..TransportConfig::for_simulation()
    };
    let mut net = Net::new(3, 1, Kind::Null, config);
    let begin = |net: &mut Net, dial, from| {
        net.dial(0, dial, 1, &[address(1)]);
        let data = BytesMut::from(&net.in_flight().pop().expect("a first packet")[..]);
        let now = net.now();
        let datagram = Datagram { from: address(from), local_ip: None, ecn: None, data };
        net.nodes[1].transport.handle_datagram(now, datagram);
        while net.nodes[1].transport.poll_event().is_some() {}
    };
    for dial in 1..=100 {
        begin(&mut net, dial, 7);
        assert!(net.nodes[1].transport.half_open() <= 8);
    }
    let refused = |net: &Net, bound| net.nodes[1].transport.refusals().of(bound);
    assert_eq!(refused(&net, Bound::HalfOpenPerAddress), 92);
    for dial in 101..=120 {
        begin(&mut net, dial, 8 + dial as usize);
        assert!(net.nodes[1].transport.half_open() <= 12);
    }
    assert_eq!(refused(&net, Bound::HalfOpen), 16);
    // Who finishes gets in.
    net.dial(2, 121, 1, &[address(1)]);
    let up = net.run_until(5 * SECOND, |net| !net.nodes[2].mesh.up.is_empty());
    assert!(up, "{:?}", net.nodes[2].mesh.heard);
}
