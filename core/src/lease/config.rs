//! Who accepts leases, and how long everything takes.

use std::time::Duration;

use crate::base::{Limits, PeerId};
use crate::planted::is_planted;

/// The acceptors of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptorSet {
    epoch: u64,
    /// Sorted.
    peers: Vec<PeerId>,
}

/// These cannot be the acceptors of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network has one, three or five distinct acceptors of leases, not {0:?}")]
pub struct WrongAcceptors(pub Vec<PeerId>);

impl AcceptorSet {
    /// The most acceptors that there may be.
    pub const PEERS_MAX: usize = 5;

    /// One, three or five peers, as the network's descriptor names them, with their configuration epoch.
    ///
    /// A single acceptor is its own majority. There is nobody from whom it could learn what it promised before it
    /// lost its disk: whoever gives it a new one gives it a new epoch.
    ///
    /// # Errors
    ///
    /// If it is another number, or they are not distinct.
    pub fn new(epoch: u64, peers: Vec<PeerId>) -> Result<AcceptorSet, WrongAcceptors> {
        let mut sorted = peers;
        sorted.sort();
        let distinct = sorted.windows(2).all(|pair| pair[0] != pair[1]);
        match distinct && matches!(sorted.len(), 1 | 3 | 5) {
            true => Ok(AcceptorSet { epoch, peers: sorted }),
            false => Err(WrongAcceptors(sorted)),
        }
    }

    /// The configuration epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The acceptors, sorted.
    pub fn peers(&self) -> &[PeerId] {
        &self.peers
    }

    /// The place of an acceptor among them.
    pub fn place(&self, peer: PeerId) -> Option<usize> {
        self.peers.binary_search(&peer).ok()
    }

    /// How many are a majority: f + 1 of 2f + 1.
    pub fn majority(&self) -> usize {
        self.peers.len() / 2 + 1
    }
}

/// The acceptors of a former configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerSet {
    /// Who they were.
    pub acceptors: AcceptorSet,
    /// An operator has given them up: their seals are not waited for, and nothing is known of what they have accepted.
    pub abandoned: bool,
}

/// How long things take. All are by the clock of whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    term: Duration,
    drift_permille: u32,
    round_max: Duration,
}

/// These times do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongTimes {
    /// The term.
    #[error("a lease's term is between 1 ms and one day, not {0:?}")]
    Term(Duration),
    /// The drift.
    #[error("clocks may drift by at most 500 permille, not {0}")]
    Drift(u32),
    /// The round.
    #[error("a round takes at least 1 ms and at most half a term, {most:?}, not {round_max:?}")]
    Round {
        /// What was asked for.
        round_max: Duration,
        /// Half of the term.
        most: Duration,
    },
}

impl Default for LeaseTimes {
    /// A term of 2 s, rounds of 1 s, and 10 % of drift: a slewing NTP daemon reaches 8.3 %. Source: protocols.md,
    /// section 6.
    fn default() -> Self {
        LeaseTimes {
            term: Duration::from_secs(2),
            drift_permille: 100,
            round_max: Duration::from_secs(1),
        }
    }
}

impl LeaseTimes {
    /// Times other than the default.
    ///
    /// # Errors
    ///
    /// If they do not fit together. A round, which may take twice `round_max` (see [`LeaseTimes::round_max`]), must
    /// be over before an acceptor that has forgotten its part in it takes part again.
    pub fn new(
        term: Duration,
        drift_permille: u32,
        round_max: Duration,
    ) -> Result<LeaseTimes, WrongTimes> {
        let least = Duration::from_millis(1);
        if term < least || term > Duration::from_secs(86_400) {
            return Err(WrongTimes::Term(term));
        }
        if drift_permille > 500 {
            return Err(WrongTimes::Drift(drift_permille));
        }
        if round_max < least.min(term / 2) || round_max > term / 2 {
            return Err(WrongTimes::Round { round_max, most: term / 2 });
        }
        Ok(LeaseTimes { term, drift_permille, round_max })
    }

    /// T: how long an acceptor keeps to a lease that it has accepted.
    pub fn term(&self) -> Duration {
        self.term
    }

    /// rho: by how much the rate of a clock may differ from true time, in thousandths.
    pub fn drift_permille(&self) -> u32 {
        self.drift_permille
    }

    /// R: what is not promised and accepted so long after it was begun is abandoned. The time counts anew, once, when the
    /// first acceptor answers for which a lease had to end.
    pub fn round_max(&self) -> Duration {
        self.round_max
    }

    /// T (1 - rho) / (1 + rho): how long a proposer holds, from before it proposed. A slow clock needs at most as
    /// long for it as a fast one needs for the term.
    pub fn hold(&self) -> Duration {
        if is_planted(86) {
            // Planted: clocks do not drift.
            return self.term;
        }
        let drift = u128::from(self.drift_permille);
        nanos(self.term.as_nanos() * (1000 - drift) / (1000 + drift))
    }

    /// M = T (1 + rho) / (1 - rho): how long an acceptor abstains after a restart.
    pub fn abstention(&self) -> Duration {
        let drift = u128::from(self.drift_permille);
        nanos((self.term.as_nanos() * (1000 + drift)).div_ceil(1000 - drift))
    }

    /// From one renewal to the next: T / 3.
    pub fn renew_interval(&self) -> Duration {
        if is_planted(155) {
            return self.hold() * 98 / 100;
        }
        self.term / 3
    }

    /// T / 80, 25 ms by default: how long another is given that is at it. Five round trips of 5 ms: to hear of it, to
    /// look, to prepare, to propose, and room for a disk. A guess.
    pub fn turn(&self) -> Duration {
        self.term / 80
    }

    /// From one sending to the next, while an answer is missing: twice within a renewal's interval.
    pub fn resend_interval(&self) -> Duration {
        self.term / 9
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).expect("a term is at most a day"))
}

/// What acceptors and proposers of one configuration have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Who accepts.
    pub acceptors: AcceptorSet,
    /// Those of earlier epochs that may still take part as far as is known, by their epochs.
    pub formers: Vec<FormerSet>,
    /// How long things take.
    pub times: LeaseTimes,
    /// See [`Limits::leases_max`].
    pub leases_max: usize,
    /// See [`Limits::leases_per_issuer_max`].
    pub leases_per_issuer_max: usize,
    /// See [`Limits::lease_standbys_max`].
    pub standbys_max: usize,
}

impl LeaseConfig {
    /// With the bounds of a node. The first configuration of a network: there are no former ones.
    pub fn new(acceptors: AcceptorSet, times: LeaseTimes, limits: &Limits) -> LeaseConfig {
        LeaseConfig {
            acceptors,
            formers: Vec::new(),
            times,
            leases_max: limits.leases_max,
            leases_per_issuer_max: limits.leases_per_issuer_max,
            standbys_max: limits.lease_standbys_max,
        }
    }

    /// With those of earlier epochs that may still take part: all but those of which it is known that a later set
    /// began after them. Those that are not of an earlier epoch are left out.
    #[must_use]
    pub fn after(mut self, mut formers: Vec<FormerSet>) -> LeaseConfig {
        let epoch = self.acceptors.epoch();
        formers.retain(|former| former.acceptors.epoch() < epoch);
        formers.sort_by_key(|former| former.acceptors.epoch());
        formers.dedup_by_key(|former| former.acceptors.epoch());
        self.formers = formers;
        self
    }

    /// Whether an acceptor with an empty disk, as far as this configuration goes, has promised nothing in it: it was
    /// one of a former set, and in that epoch this disk was complete ([`super::Record::Complete`]). Only whoever finds no seal
    /// becomes complete, so that this was before the present set began. If an operator has given a set up, seals mean
    /// nothing.
    pub fn keeps(&self, id: PeerId, is_complete: impl Fn(u64) -> bool) -> bool {
        let was = |former: &FormerSet| {
            former.acceptors.place(id).is_some() && is_complete(former.acceptors.epoch())
        };
        self.formers.iter().all(|former| !former.abandoned) && self.formers.iter().any(was)
    }
}
