//! Equal inputs give equal datagrams.

use std::time::Duration;

use super::super::TransportConfig;
use super::net::{Kind, Net, Path, SECOND, address, call};
use crate::link::Lane;

/// Three nodes over a rough path: links, calls both ways, a restart, a close.
fn story(seed: u8, kind: Kind) -> String {
    let mut net = Net::new(3, seed, kind, TransportConfig::for_simulation());
    net.path = Path::ROUGH;
    for (dial, (from, to)) in [(0, 1), (1, 2), (2, 0)].into_iter().enumerate() {
        net.dial(from, dial as u64, to, &[address(to)]);
    }
    net.run(Duration::from_secs(5));
    for node in 0..3 {
        for (link, _) in net.nodes[node].mesh.up.clone() {
            let small = (0..20).map(|n| (Lane(1 + n % 4), call(n, vec![n as u8; 100])));
            net.send(node, link, small);
            net.send(node, link, [(Lane(8), call(99, vec![7; 100_000]))]);
        }
    }
    net.run(Duration::from_secs(5));
    net.restart(1);
    net.run(Duration::from_secs(20));
    net.dial(1, 9, 2, &[address(2)]);
    net.run_until(10 * SECOND, |net| !net.nodes[1].mesh.up.is_empty());
    for (link, _) in net.nodes[2].mesh.up.clone() {
        net.close(2, link);
    }
    net.run(Duration::from_secs(5));
    net.digest()
}

#[test]
fn equal_seeds_give_equal_datagrams() {
    for kind in [Kind::Seeded, Kind::Null] {
        for seed in 0..4 {
            assert_eq!(story(seed, kind), story(seed, kind), "{kind:?} {seed}");
        }
        assert_ne!(story(0, kind), story(1, kind));
    }
}
