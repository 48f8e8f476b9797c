//! How links end.

use std::time::Duration;

use super::super::TransportConfig;
use super::net::{Kind, MS, Net, Path, SECOND, call};
use crate::link::{CloseCode, DownReason, Lane, LinkCommand, LinkInput};

#[test]
fn a_close_in_the_middle_of_a_lossy_transfer_is_not_late() {
    let mut late = 0;
    for seed in 0..40 {
        let mut net = Net::new(2, seed, Kind::Null, TransportConfig::for_simulation());
        let (link, _) = net.connect();
        net.path = Path { loss_per_mille: 10, ..Path::CLEAN };
        let bulk = (0..8).map(|n| (Lane(8 + n), call(n, vec![1; 1 << 20])));
        net.send(0, link, bulk);
        net.run(Duration::from_millis(300 + 7 * u64::from(seed)));
        // Its own loss aside, a closing packet needs no more than the way.
        net.path.loss_per_mille = 0;
        net.close(0, link);
        let began = net.now;
        assert!(net.run_until(20 * SECOND, |net| net.nodes[1].mesh.up.is_empty()));
        late += usize::from(net.now - began > 11 * MS);
        let Some(LinkInput::Down { reason, .. }) = net.nodes[1].mesh.heard.last() else {
            panic!("the link is down");
        };
        assert_eq!(*reason, DownReason::ClosedByPeer(CloseCode::DISCONNECTED));
    }
    assert_eq!(late, 0);
}

#[test]
fn a_local_close_says_nothing_here_and_the_code_there() {
    for kind in [Kind::Seeded, Kind::Null] {
        let mut net = Net::new(2, 1, kind, TransportConfig::for_simulation());
        let (link, theirs) = net.connect();
        net.close(0, link);
        assert_eq!(net.nodes[0].transport.open_links(), 0);
        assert!(net.nodes[0].transport.is_drained(), "the closing packet is out");
        net.run(Duration::from_secs(20));
        assert_eq!(net.nodes[0].mesh.heard.len(), 1);
        assert_eq!(
            net.nodes[1].mesh.heard.last(),
            Some(&LinkInput::Down {
                link: theirs,
                reason: DownReason::ClosedByPeer(CloseCode::DISCONNECTED)
            })
        );
        for node in &net.nodes {
            assert_eq!(node.transport.connections.len(), 0, "both ends have drained");
            assert_eq!(node.transport.poll_timeout(), None);
        }
    }
}

#[test]
fn what_was_flushed_before_a_graceful_close_arrives_though_packets_are_lost() {
    for seed in 0..20 {
        let mut net = Net::new(2, seed, Kind::Null, TransportConfig::for_simulation());
        let (link, theirs) = net.connect();
        net.path = Path { loss_per_mille: 100, ..Path::CLEAN };
        let lanes = [Lane::CONTROL, Lane(1), Lane(3), Lane(8), Lane(9)];
        net.send(0, link, lanes.map(|lane| (lane, call(7, vec![1; 4_000]))));
        net.nodes[0].mesh.up.clear();
        let code = CloseCode::SHUTDOWN;
        net.command(0, LinkCommand::Close { link, code, flush: true });
        assert!(!net.nodes[0].transport.is_drained(), "the peer has not acknowledged it");
        assert!(net.run_until(2 * SECOND, |net| net.nodes[0].transport.is_drained()));
        net.path = Path::CLEAN;
        net.run(Duration::from_secs(20));
        for lane in lanes {
            let frames = &net.nodes[1].mesh.frames;
            assert_eq!(frames.get(&(theirs, lane)).map(Vec::len), Some(1), "{lane:?}");
        }
        assert_eq!(net.nodes[1].mesh.up, []);
        assert_eq!(net.nodes[0].transport.connections.len(), 0);
    }
}

#[test]
fn a_graceful_close_does_not_wait_for_a_peer_that_is_gone() {
    let mut net = Net::new(2, 1, Kind::Seeded, TransportConfig::for_simulation());
    let (link, _) = net.connect();
    net.nodes[1].alive = false;
    net.send(0, link, [(Lane(1), call(7, vec![1; 20_000]))]);
    let code = CloseCode::SHUTDOWN;
    net.command(0, LinkCommand::Close { link, code, flush: true });
    net.run(crate::link::FLUSH_MAX - Duration::from_millis(1));
    assert!(!net.nodes[0].transport.is_drained());
    net.run(Duration::from_millis(2));
    assert!(net.nodes[0].transport.is_drained());
}

#[test]
fn a_graceful_close_that_cannot_wait_any_longer_is_told() {
    let mut net = Net::new(2, 1, Kind::Seeded, TransportConfig::for_simulation());
    let (link, theirs) = net.connect();
    net.send(0, link, [(Lane(1), call(7, vec![1; 20_000]))]);
    let code = CloseCode::SHUTDOWN;
    net.command(0, LinkCommand::Close { link, code, flush: true });
    assert!(!net.nodes[0].transport.is_drained(), "the peer has not acknowledged it");
    let now = net.now();
    net.nodes[0].transport.close_unflushed(now);
    net.drain(0);
    assert!(net.nodes[0].transport.is_drained(), "the closing packet is out");
    // Nothing more is sent, as by a process that has ended.
    net.nodes[0].alive = false;
    net.run(Duration::from_millis(11));
    let reason = DownReason::ClosedByPeer(code);
    assert_eq!(net.nodes[1].mesh.heard.last(), Some(&LinkInput::Down { link: theirs, reason }));
}
