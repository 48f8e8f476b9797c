//! Other acceptors take over in a network that runs.

use std::time::Duration;

use proptest::prelude::*;

use super::cluster::{Cluster, MS, Net};

const S: u64 = 1_000 * MS;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Three acceptors, a holder, and another that stands by.
fn led(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(3, 2, seed);
    cluster.run(seconds(3));
    cluster.want(0);
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.holder(), Some(0));
    cluster.want(1);
    cluster.run(seconds(5) + Duration::from_millis(seed * 37 % 700));
    cluster
}

/// Tells all nodes of a configuration at one moment, and how long nobody holds then until somebody does.
fn gap(cluster: &mut Cluster, epoch: u64, acceptors: usize) -> u64 {
    for p in 0..2 {
        cluster.tell_proposer(p, epoch);
    }
    for a in 0..acceptors {
        cluster.tell_acceptor(a, epoch);
    }
    let mut free = 0;
    for _ in 0..10_000 {
        cluster.run(Duration::from_millis(1));
        match cluster.holder() {
            None => free += MS,
            Some(_) if cluster.grants.last().unwrap().epoch == epoch => return free,
            Some(_) => {}
        }
    }
    panic!("nobody holds in epoch {epoch}: {:?}", cluster.grants);
}

#[test]
fn one_of_three_acceptors_is_replaced_and_the_lease_changes_hands_within_a_moment() {
    let (mut worst, mut sum) = (0, 0);
    for seed in 0..50 {
        let mut cluster = led(seed);
        let epoch = cluster.change(&[1, 2, 3], false);
        let free = gap(&mut cluster, epoch, 4);
        (worst, sum) = (free.max(worst), sum + free);
        cluster.run(seconds(20));
        assert_eq!(
            cluster.grants.len(),
            2,
            "seed {seed}: it is granted once: {:?}",
            cluster.grants
        );
        assert!(cluster.is_ready(3, epoch) && !cluster.is_ready(1, 7));
    }
    println!("nobody holds for {} ms in the mean, {} ms at worst", sum / 50 / MS, worst / MS);
    assert!(worst <= 300 * MS, "worst {} ms", worst / MS);
}

#[test]
fn nobody_takes_over_before_a_majority_is_sealed() {
    let mut cluster = led(1);
    let epoch = cluster.change(&[2, 3, 4], false);
    for p in 0..2 {
        cluster.tell_proposer(p, epoch);
    }
    for a in 2..5 {
        cluster.tell_acceptor(a, epoch);
    }
    // One of three knows: the holder goes on, whatever the new ones want.
    cluster.run(seconds(60));
    assert_eq!((cluster.holder(), cluster.grants.len()), (Some(0), 1));
    cluster.tell_acceptor(1, epoch);
    cluster.run(seconds(5));
    assert_eq!(cluster.grants.last().unwrap().epoch, epoch);
    // The one that never heard of it has no say.
    cluster.run(seconds(60));
    assert_eq!((cluster.grants.len(), cluster.holder().is_some()), (2, true));
}

#[test]
fn a_holder_that_does_not_hear_that_it_must_go_is_waited_for() {
    for seed in 0..20 {
        let mut cluster = led(seed);
        let epoch = cluster.change(&[0, 1, 3], false);
        // It does nothing for so long, and holds by its clock for as long as it ever would.
        cluster.pause(0, 10 * S);
        cluster.tell_proposer(1, epoch);
        for a in 0..4 {
            cluster.tell_acceptor(a, epoch);
        }
        // The cluster asserts that the two never hold at once.
        cluster.run(seconds(5));
        assert_eq!((cluster.holder(), cluster.grants.last().unwrap().epoch), (Some(1), epoch));
    }
}

#[test]
fn several_changes_in_a_row_need_the_seals_of_all_that_may_take_part() {
    let mut cluster = led(2);
    // The first change reaches nobody but its own new nodes, which never begin.
    let second = cluster.change(&[3, 4, 5], false);
    for a in 3..6 {
        cluster.tell_acceptor(a, second);
    }
    cluster.run(seconds(5));
    let third = cluster.change(&[6, 7, 8], false);
    for a in 3..9 {
        cluster.tell_acceptor(a, third);
    }
    cluster.tell_proposer(1, third);
    cluster.run(seconds(20));
    assert_eq!((cluster.holder(), cluster.grants.len()), (Some(0), 1), "the first set goes on");
    assert!(!cluster.is_ready(6, third));
    for a in 0..3 {
        cluster.tell_acceptor(a, third);
    }
    cluster.run(seconds(5));
    assert_eq!((cluster.holder(), cluster.grants.last().unwrap().epoch), (Some(1), third));
    // Now it has begun: what comes next needs nobody from before.
    for a in 0..6 {
        cluster.stop_acceptor(a);
    }
    let fourth = cluster.change(&[6, 7, 9], false);
    for a in 6..10 {
        cluster.tell_acceptor(a, fourth);
    }
    cluster.tell_proposer(1, fourth);
    cluster.run(seconds(5));
    assert_eq!((cluster.holder(), cluster.grants.last().unwrap().epoch), (Some(1), fourth));
}

#[test]
fn what_has_begun_needs_no_old_acceptors_after_a_restart_or_a_lost_disk() {
    let mut cluster = led(3);
    let epoch = cluster.change(&[2, 3, 4], false);
    gap(&mut cluster, epoch, 5);
    cluster.run(seconds(3));
    for a in 0..2 {
        cluster.stop_acceptor(a);
    }
    for a in 2..5 {
        cluster.restart_acceptor(a, true);
    }
    cluster.run(seconds(5));
    assert!((2..5).all(|a| cluster.is_ready(a, epoch)));
    cluster.restart_acceptor(3, false);
    cluster.run(seconds(5));
    assert!(cluster.is_ready(3, epoch), "the others say that it has begun");
    assert!(cluster.holder().is_some());
}

#[test]
fn an_old_acceptor_without_its_disk_hears_that_it_was_sealed() {
    let mut cluster = led(4);
    let epoch = cluster.change(&[3], false);
    for a in [0, 1, 3] {
        cluster.tell_acceptor(a, epoch);
    }
    cluster.run(seconds(8));
    assert!(cluster.is_ready(3, epoch));
    // It forgets the descriptor and its seal; the third never heard of either.
    cluster.forget(0);
    cluster.run(seconds(20));
    assert!(!cluster.is_ready(0, 7), "it would be a majority together with the third");
    assert!(!cluster.is_learning());
}

#[test]
fn a_lost_majority_is_given_up_by_force_alone() {
    let mut cluster = led(5);
    cluster.stop_acceptor(0);
    cluster.stop_acceptor(1);
    let second = cluster.change(&[2, 3, 4], false);
    for a in 2..5 {
        cluster.tell_acceptor(a, second);
    }
    for p in 0..2 {
        cluster.tell_proposer(p, second);
    }
    cluster.run(seconds(30));
    assert_eq!(cluster.holder(), None);
    assert!(!cluster.is_ready(2, second));
    let third = cluster.change(&[2, 3, 4], true);
    for a in 2..5 {
        cluster.tell_acceptor(a, third);
    }
    for p in 0..2 {
        cluster.tell_proposer(p, third);
    }
    cluster.run(seconds(1));
    assert_eq!(cluster.holder(), None, "what the lost ones had accepted is waited for");
    cluster.run(seconds(8));
    assert!(cluster.holder().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Changes, while anything else goes wrong: never two at one time, and tokens grow (the cluster asserts that at
    /// every step). Once all know of the last one somebody holds in its epoch.
    #[test]
    fn one_holds_through_changes_whatever_happens(seed in 1u64..1_000_000_000) {
        let mut cluster = Cluster::new(3, 3, seed);
        cluster.drift(100);
        cluster.run(seconds(4));
        for p in 0..3 {
            cluster.want(p);
        }
        cluster.net = Net {
            delay: (MS, 1 + cluster.draw(4) * 400 * MS + 5 * MS),
            loss_permille: cluster.draw(300),
            twice_permille: cluster.draw(300),
        };
        let (mut last, mut nodes, mut changes) = (7, 3u64, 0);
        for _ in 0..60 {
            let time = cluster.draw(2_000 * MS);
            cluster.run(Duration::from_nanos(time));
            let (a, p) = (cluster.draw(nodes) as usize, cluster.draw(3) as usize);
            let known = 7 + cluster.draw(last - 6);
            match cluster.draw(9) {
                0 => cluster.restart_acceptor(a, true),
                1 if !cluster.is_learning() => cluster.restart_acceptor(a, false),
                2 => {
                    let time = cluster.draw(5 * S);
                    cluster.pause(p, time);
                }
                3 if changes < 3 => {
                    changes += 1;
                    let first = cluster.draw(3) as usize;
                    let set: Vec<usize> = (0..3).map(|of| (first + of) + changes).collect();
                    last = cluster.change(&set, false);
                    nodes = nodes.max(*set.last().unwrap() as u64 + 1);
                }
                4..=5 => cluster.tell_acceptor(a, known),
                6..=7 => cluster.tell_proposer(p, known),
                _ => {}
            }
        }
        cluster.net = Net::GOOD;
        for a in 0..nodes as usize {
            cluster.tell_acceptor(a, last);
        }
        for p in 0..3 {
            cluster.tell_proposer(p, last);
        }
        cluster.run(seconds(25));
        let holder = cluster.holder();
        prop_assert!(holder.is_some());
        let grants = cluster.grants.len();
        prop_assert_eq!(cluster.grants[grants - 1].epoch, last);
        cluster.run(seconds(20));
        prop_assert_eq!((cluster.holder(), cluster.grants.len()), (holder, grants));
    }
}
