//! What this node says of its services' health in its document.

use crate::base::{KeyMap, MonoTime, ServiceKey, ServiceTag};
use crate::directory::vitals::{LOOK_EVERY, Vitals, micros};
use crate::directory::{ServiceInput, ServiceState};
use crate::mesh::{Mesh, NodeTimer, Phase};
use crate::planted::is_planted;
use crate::rpc::health::Health;

/// Of fewer calls lately nothing is said: their times would say little, and all who know the service would be told. A
/// guess.
const CALLS_LEAST: u32 = 10;

/// When it was looked, and what was seen.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    since: MonoTime,
    looks: u64,
    is_due: bool,
    /// The calls of each service that had ended at the last look.
    ended: KeyMap<ServiceTag, u64>,
}

impl Looks {
    pub(super) fn new(now: MonoTime) -> Self {
        Looks { since: now, looks: 0, is_due: false, ended: KeyMap::default() }
    }

    pub(super) fn check_invariants(&self, now: MonoTime) {
        let most = now.since(self.since).as_nanos() / LOOK_EVERY.as_nanos();
        assert!(u128::from(self.looks) <= most, "what is said of health changes rarely");
    }
}

impl Mesh {
    /// A call has ended here: its service is to be looked at.
    pub(super) fn look_at_services_soon(&mut self) {
        // Planted: at once.
        if is_planted(145) {
            return self.look_at_services();
        }
        if !self.looks.is_due && self.phase == Phase::Running {
            self.looks.is_due = true;
            self.timers.arm(self.now.mono + LOOK_EVERY, NodeTimer::LookAtServices);
        }
    }

    /// Looks at all services that had calls, or that said something, since the last look.
    pub(super) fn look_at_services(&mut self) {
        self.looks.is_due = false;
        self.looks.looks += 1;
        let services: Vec<(ServiceKey, ServiceState)> =
            self.services.iter().map(|(key, _, state)| (key, state)).collect();
        let mut again = false;
        for (key, state) in services {
            let ended = self.callee.health(key).map_or(0, Health::ended);
            let before = self.looks.ended.get(key).copied().unwrap_or(0);
            let said = self.services.info(key).and_then(|info| info.vitals);
            let is_called = ended != before && state == ServiceState::Running;
            if ended != before {
                self.looks.ended.insert(key, ended);
            }
            again |= is_called;
            let report = self.callee.health(key).map(|health| health.report(self.now.mono));
            let says = is_called && report.is_some_and(|report| report.calls >= CALLS_LEAST);
            let vitals = says.then(|| self.vitals(key).roughly(said));
            if vitals != said {
                self.feed_services(ServiceInput::Vitals(key, vitals));
            }
        }
        if again {
            self.look_at_services_soon();
        }
    }

    fn vitals(&self, service: ServiceKey) -> Vitals {
        let report = self.callee.health(service).map(|health| health.report(self.now.mono));
        let report = report.unwrap_or_default();
        let (running, waiting) = self.callee.busy(service);
        let (running_max, waiting_max) = self.callee.capacity(service).unwrap_or((0, 0));
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let seconds = report.over.as_secs().max(1);
        Vitals {
            rate: u64::from(report.calls).div_ceil(seconds) as u32,
            failed_percent: 100 - report.score(),
            p50_us: micros(report.p50),
            p99_us: micros(report.p99),
            running: count(running),
            waiting: count(waiting),
            running_max: count(running_max),
            waiting_max: count(waiting_max),
        }
    }

    pub(super) fn forget_looks(&mut self, service: ServiceKey) {
        self.looks.ended.remove(service);
    }
}
