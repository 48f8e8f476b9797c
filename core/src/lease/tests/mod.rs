//! Leases in virtual time: clusters of real machines on a network that may do what networks do.

mod acceptor;
mod change;
mod cluster;
mod life;
mod proposer;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::Limits;

pub(super) fn acceptor_id(acceptor: usize) -> PeerId {
    PeerId::from_bytes([acceptor as u8; 32])
}

pub(super) fn proposer_id(proposer: usize) -> PeerId {
    PeerId::from_bytes([100 + proposer as u8; 32])
}

pub(super) fn ballot(round: u64, proposer: usize) -> Ballot {
    Ballot { round, proposer: ProposerId { peer: proposer_id(proposer), boot: 1 } }
}

pub(super) fn name() -> LeaseName {
    LeaseName::new("shop:orders".into()).unwrap()
}

pub(super) fn config(acceptors: usize) -> Arc<LeaseConfig> {
    let set = AcceptorSet::new(7, (0..acceptors).map(acceptor_id).collect()).unwrap();
    Arc::new(LeaseConfig::new(set, LeaseTimes::default(), &Limits::default()))
}

#[test]
fn the_times_are_those_of_the_protocol() {
    let times = LeaseTimes::default();
    assert_eq!(times.hold(), Duration::from_nanos(2_000_000_000 * 9 / 11));
    assert_eq!(times.abstention(), Duration::from_nanos(2_444_444_445), "rounded up");
    assert_eq!(times.renew_interval(), Duration::from_nanos(666_666_666));
    let s = Duration::from_secs;
    assert!(LeaseTimes::new(s(2), 100, s(1)).is_ok());
    assert_eq!(LeaseTimes::new(s(0), 100, s(0)), Err(WrongTimes::Term(s(0))));
    assert_eq!(LeaseTimes::new(s(2), 501, s(1)), Err(WrongTimes::Drift(501)));
    let wrong = LeaseTimes::new(s(2), 100, s(2)).unwrap_err();
    assert!(wrong.to_string().contains("at most half a term, 1s, not 2s"), "{wrong}");
}

#[test]
fn acceptors_are_one_three_or_five_and_distinct() {
    let peers = |of: &[usize]| of.iter().map(|a| acceptor_id(*a)).collect::<Vec<_>>();
    for wrong in [&[][..], &[1, 2], &[1, 2, 3, 4], &[1, 2, 2]] {
        assert!(AcceptorSet::new(1, peers(wrong)).is_err(), "{wrong:?}");
    }
    let set = AcceptorSet::new(1, peers(&[3, 1, 2])).unwrap();
    assert_eq!((set.place(acceptor_id(1)), set.place(acceptor_id(4))), (Some(0), None));
    assert_eq!(set.majority(), 2);
    assert_eq!(AcceptorSet::new(1, peers(&[9])).unwrap().majority(), 1);
}

#[test]
fn names_have_a_bound() {
    let long = LeaseName::new(vec![b'x'; LeaseName::BYTES_MAX + 1].into());
    assert_eq!(long, Err(LeaseNameTooLong { bytes: LeaseName::BYTES_MAX + 1 }));
    assert!(LeaseName::new(vec![b'x'; LeaseName::BYTES_MAX].into()).is_ok());
}
