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
fn what_was_flushed_before_a_close_arrives_ahead_of_it() {
    let mut net = Net::new(2, 1, Kind::Seeded, TransportConfig::for_simulation());
    let (link, theirs) = net.connect();
    let now = net.now();
    let node = &mut net.nodes[0];
    node.mesh
        .queues
        .entry(link)
        .or_default()
        .entry(Lane::CONTROL)
        .or_default()
        .push_back(call(7, vec![1; 3_000]));
    node.transport.handle_command(now, LinkCommand::FramesReady { link });
    node.transport.flush(now, &mut node.mesh);
    net.close(0, link);
    assert!(net.nodes[0].transport.is_drained());
    net.run(Duration::from_secs(1));
    assert_eq!(net.nodes[1].mesh.frames[&(theirs, Lane::CONTROL)].len(), 1);
    assert_eq!(net.nodes[1].mesh.up, []);
}

#[test]
fn closing_everything_drains() {
    let mut net = Net::new(3, 1, Kind::Seeded, TransportConfig::for_simulation());
    net.connect();
    net.dial(0, 2, 2, &[super::net::address(2)]);
    net.run(Duration::from_secs(1));
    net.dial(0, 3, 2, &[super::net::address(9)]);
    let now = net.now();
    net.nodes[0].transport.close_all(now, CloseCode::SHUTDOWN);
    assert!(!net.nodes[0].transport.is_drained());
    net.drain(0);
    assert!(net.nodes[0].transport.is_drained());
    net.run(Duration::from_secs(1));
    for node in 1..3 {
        assert!(matches!(
            net.nodes[node].mesh.heard.last(),
            Some(LinkInput::Down { reason: DownReason::ClosedByPeer(CloseCode::SHUTDOWN), .. })
        ));
    }
}
