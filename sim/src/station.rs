//! One node of the world: its lives, its clock, and what waits for it.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dunlin_core::directory::ServiceState;
use dunlin_core::link::{DialError, DownReason};
use dunlin_core::rpc::{CallError, Executed};
use dunlin_core::service::Host;
use dunlin_core::{Event, Identity, Limits, MonoTime, PeerId};

use crate::again::Attempts;
use crate::disk::Disk;
use crate::hostile::Hostile;
use crate::schedule::{Forgery, LimitsPlan};
use crate::trace::{Step, Trace};
use crate::world::Fidelity;

/// A node that runs.
pub(crate) struct Live<D> {
    pub(crate) door: D,
    pub(crate) host: Host,
}

/// One node of the world, through all its lives.
pub(crate) struct Station<F: Fidelity> {
    pub(crate) identity: Identity,
    pub(crate) id: PeerId,
    pub(crate) address: SocketAddr,
    /// How often it has started.
    pub(crate) life: u32,
    /// What it stores, through all lives.
    pub(crate) disk: Disk,
    /// None while it is down.
    pub(crate) live: Option<Live<F::Door>>,
    /// Since when it stops.
    pub(crate) stopping: Option<u64>,
    /// It has said that it stopped; the transport may still have to say so to others.
    pub(crate) stopped: bool,
    /// Since when it is paused.
    pub(crate) paused: Option<u64>,
    /// What arrived while it was paused.
    pub(crate) held: VecDeque<F::Parcel>,
    /// By how many millionths its monotonic clock is too fast.
    pub(crate) clock_ppm: i64,
    /// It is slow, by this fault of the schedule: how long it takes for each thing, in nanoseconds.
    pub(crate) slow: Option<(usize, u64)>,
    /// Until when it is busy.
    pub(crate) busy_until: u64,
    /// What arrived while it was busy.
    pub(crate) backlog: VecDeque<F::Parcel>,
    /// When it is to be woken.
    pub(crate) armed: Option<u64>,
    /// Whom it wants to be connected to.
    pub(crate) keeps: BTreeSet<u16>,
    /// How far its wall clock is ahead of the true time, in milliseconds, while no fault is on.
    pub(crate) clock_ahead_ms: i64,
    /// How far it has been set wrong.
    pub(crate) clock_wrong_ms: i64,
    /// Somebody with its key, who pretends to a right.
    pub(crate) impostor: Option<(Forgery, u16)>,
    /// It has turned against the others.
    pub(crate) hostile: Option<Box<Hostile>>,
    /// Application tasks that run for as long as it lives.
    pub(crate) background: u32,
    /// How often it acted.
    pub(crate) touched: u32,
    /// When its life began, by its own clock.
    pub(crate) began: MonoTime,
    /// Calls that it made again.
    pub(crate) attempts: Attempts,
}

impl<F: Fidelity> Station<F> {
    /// What its monotonic clock shows at a true time, in nanoseconds.
    pub(crate) fn by_its_clock(&self, at: u64) -> u64 {
        if self.clock_ppm == 0 {
            return at;
        }
        let ahead = scaled(at, self.clock_ppm.unsigned_abs(), MILLION);
        if self.clock_ppm < 0 { at - ahead } else { at.saturating_add(ahead) }
    }

    /// The first true time at which its monotonic clock shows this or more.
    pub(crate) fn true_time_of(&self, shown: u64) -> u64 {
        if self.clock_ppm == 0 {
            return shown;
        }
        // The division above rounds towards the true time: one of the two is too early at most.
        let at = scaled(shown, MILLION, MILLION.saturating_add_signed(self.clock_ppm));
        let mut at = at.saturating_sub(1);
        while self.by_its_clock(at) < shown {
            at += 1;
        }
        at
    }
}

/// So many millionths are all.
pub(crate) const MILLION: u64 = 1_000_000;

/// `nanos * times / per`, rounded down. Dividing 128 bits takes many times as long as dividing 64, which all but
/// the longest times fit into.
pub(crate) fn scaled(nanos: u64, times: u64, per: u64) -> u64 {
    match nanos.checked_mul(times) {
        Some(product) => product / per,
        None => (u128::from(nanos) * u128::from(times) / u128::from(per)) as u64,
    }
}

/// The address of a station.
pub(crate) fn address(index: usize) -> SocketAddr {
    let [.., high, low] = (index as u32 + 1).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), 4433)
}

/// The station with an address.
pub(crate) fn station_at(address: SocketAddr) -> Option<usize> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let [_, _, high, low] = ip.octets();
    usize::from(u16::from_be_bytes([high, low])).checked_sub(1)
}

/// A node's bounds.
pub(crate) fn limits(plan: &LimitsPlan) -> Limits {
    let mut limits = Limits::default();
    let set = |limit: &mut usize, planned: u32| {
        if planned > 0 {
            *limit = planned as usize;
        }
    };
    set(&mut limits.own_lane_from_bytes, plan.own_lane_from_bytes);
    set(&mut limits.calls_served_per_peer_max, plan.calls_served_per_peer_max);
    set(&mut limits.kept_answers_per_peer_max, plan.kept_answers_per_peer_max);
    set(&mut limits.kept_answer_bytes_per_peer_max, plan.kept_answer_bytes_per_peer_max);
    set(&mut limits.calls_waiting_per_peer_max, plan.calls_waiting_per_peer_max);
    set(&mut limits.steps_per_input_max, plan.steps_per_input_max);
    set(&mut limits.events_unacknowledged_max, plan.events_unacknowledged_max);
    set(&mut limits.publications_open_max, plan.publications_open_max);
    if plan.protocol_version_max > 0 {
        limits.protocol_version_max = plan.protocol_version_max;
    }
    limits
}

/// The name of a node in the log.
pub(crate) fn name(peers: &[PeerId], id: PeerId) -> String {
    let index = peers.iter().position(|peer| *peer == id);
    index.map_or_else(|| id.short(), |index| format!("n{index}"))
}

/// Adds an event of a node to the hash of the run.
pub(crate) fn hash_event(trace: &mut Trace, at: u64, node: usize, event: &Event) {
    let mut note = |kind: u64, x: u64| trace.note(Step::Event, at, node, kind, x);
    let head =
        |peer: &PeerId| u64::from_le_bytes(peer.as_bytes()[..8].try_into().expect("eight bytes"));
    match event {
        Event::CallEnded { call, result } => {
            let (kind, size) = match result {
                Ok(payload) => (0, payload_bytes(payload)),
                Err(CallError::Application(_)) => (1, 0),
                Err(CallError::Failed { failure, executed, .. }) => {
                    let executed = match executed {
                        Executed::No => 0,
                        Executed::Maybe => 1,
                        Executed::Yes => 2,
                    };
                    (2 + executed, *failure as u64)
                }
            };
            trace.note(Step::CallEnded, at, node, call.to_u64(), kind << 48 | size);
        }
        Event::Invoke(run) => note(1, run.invocation.to_u64()),
        Event::InvocationCancelled(run) => note(2, run.to_u64()),
        Event::RunHook { service, hook } => note(3, service.to_u64() << 8 | *hook as u64),
        Event::ServiceState { service, state, .. } => {
            note(4, service.to_u64() << 8 | state_number(*state));
        }
        Event::PeerUp { peer, incarnation, .. } => note(5, head(peer) ^ incarnation.boot),
        Event::PeerServices { peer } => note(6, head(peer)),
        Event::PeerDown { peer, reason } => {
            let reason = match reason {
                DownReason::ClosedByPeer(code) => 16 + u64::from(code.0),
                DownReason::TimedOut => 1,
                DownReason::Reset => 2,
                DownReason::ClosedHere => 3,
                DownReason::Failed(_) => 4,
            };
            note(7, head(peer) ^ reason);
        }
        Event::PeerRefused { peer, why } => note(8, head(peer) ^ *why as u64),
        Event::DialFailed { peer, error, retry_in } => {
            let error = match error {
                DialError::TimedOut => 1,
                DialError::WrongPeer => 2,
                DialError::Refused(_) => 3,
                DialError::Unusable(_) => 4,
            };
            let retry = retry_in.map_or(0, |wait| wait.as_nanos() as u64);
            note(9, head(peer) ^ error ^ retry.rotate_left(8));
        }
        Event::PeerMisbehaved { peer, .. } => note(10, head(peer)),
        Event::LinkSuperseded { peer, loser, stays } => {
            note(12, head(peer) ^ loser.0 ^ stays.0.rotate_left(32));
        }
        Event::LifeBegan { incarnation, told_by } => note(13, head(told_by) ^ incarnation.boot),
        Event::NewerSelf { told_by } => note(14, head(told_by)),
        Event::StoreFailed { .. } => note(15, 0),
        Event::Leader { leader, token, .. } => {
            let round = token.map_or(0, |token| token.round);
            note(16, leader.as_ref().map_or(0, head) ^ round);
        }
        Event::AcceptorReady { .. } => note(17, 0),
        Event::AcceptorsNamed { epoch, .. } => note(18, *epoch),
        Event::AcceptorsOutdated { epoch, .. } => note(19, *epoch),
        Event::Stopped => note(11, 0),
        Event::DirectoryAcknowledged { peer, version } => note(12, head(peer) ^ version),
        Event::SubscriptionReady(key) => note(50, key.to_u64()),
        Event::PublishRoom => note(51, 0),
        Event::CallRetried { call, attempt, .. } => {
            note(61, call.to_u64().rotate_left(8) ^ u64::from(*attempt));
        }
        Event::CallHedged { call, peer } => note(62, call.to_u64().rotate_left(8) ^ head(peer)),
        Event::PublishEnded { publication, outcome } => {
            let counts = [outcome.acknowledged, outcome.lost, outcome.groups_served];
            let rest = [outcome.groups_lost, outcome.undecided];
            let counts = counts.into_iter().chain(rest);
            let outcome = counts.fold(0, |sum: u64, n| sum.wrapping_mul(1_021) + u64::from(n));
            note(52, publication.to_u64().rotate_left(32) ^ outcome);
        }
        Event::EventsLost { peer, count } => note(53, head(peer) ^ count),
        Event::SubscriptionOver(key) => note(54, key.to_u64()),
        Event::GroupEventsLost { given_back_by, count } => note(55, head(given_back_by) ^ count),
        Event::ClaimIgnored { peer, .. } => note(40, head(peer)),
        Event::NetworkLeft { peer, .. } => note(41, head(peer)),
        Event::NetworkEnded { .. } => note(42, 0),
        Event::NetworkOutdated { peer, sequence, .. } => note(43, head(peer) ^ sequence),
    }
}

fn state_number(state: ServiceState) -> u64 {
    state as u64
}

fn payload_bytes(payload: &dunlin_core::service::Payload) -> u64 {
    match payload {
        dunlin_core::service::Payload::Encoded { bytes, .. } => bytes.len() as u64,
        dunlin_core::service::Payload::Value(_) => 0,
    }
}
