//! The rules of single-active services, judged in true time.
//!
//! A node is asked what it holds whenever it has acted, and at every event what all hold is looked at by what their
//! clocks show at that moment: a lease ends by itself, and begins with an event, so no instant is missed. Who holds it is
//! compared with what ran.
//!
//! The rules hold while at most one acceptor at a time has lost what it had promised and has not learned it again. What a
//! schedule does beyond that is not judged.

use std::sync::Arc;

use dunlin_core::directory::ServiceState;
use dunlin_core::lease::{AcceptorSet, Hold, LeaseTimes, Token};
use dunlin_core::topic::TopicPath;
use dunlin_core::{LeaseSettings, Mesh, PeerId};

use crate::history::Life;
use crate::schedule::{SINGLE_ACTIVE, Schedule};
use crate::sometimes;
use crate::world::{Fidelity, World};

/// One node holds a lease at a time.
pub(crate) const ONE_HOLDER: &str = "a lease has one holder at every instant";
/// Each grant has a higher token than all before it.
pub(crate) const TOKENS_GROW: &str = "fencing tokens grow with every grant";
/// Only the holder's handlers run.
pub(crate) const HOLDER_RUNS: &str = "a single-active handler runs with its lease";
/// What is guarded by a fence never goes back.
pub(crate) const FENCED: &str = "what a fence guards never goes back";
/// With a majority at hand somebody is active.
pub(crate) const SOMEBODY: &str = "where a majority is reached somebody is active";

/// What is known of the lease of a world.
pub(crate) struct Leases {
    settings: LeaseSettings,
    acceptors: Vec<usize>,
    path: String,
    /// What each node held when it had acted.
    holds: Vec<Option<Hold>>,
    /// The highest token that was granted, and to whom.
    highest: Option<(Token, Life)>,
    /// Acceptors that have lost what they promised, and have not learned it again.
    lost: Vec<usize>,
    /// More of them than the rules allow for.
    is_void: bool,
}

impl Leases {
    pub(crate) fn new(schedule: &Schedule, peers: &Arc<[PeerId]>) -> Leases {
        let acceptors: Vec<usize> = schedule.acceptors.iter().map(|n| usize::from(*n)).collect();
        let ids: Vec<PeerId> = acceptors.iter().map(|index| peers[*index]).collect();
        let settings = LeaseSettings {
            development_acceptors: AcceptorSet::new(1, ids).ok(),
            times: LeaseTimes::default(),
        };
        let path = format!("s{SINGLE_ACTIVE}");
        let holds = vec![None; schedule.nodes.len()];
        Leases { settings, acceptors, path, holds, highest: None, lost: Vec::new(), is_void: false }
    }

    pub(crate) fn settings(&self) -> LeaseSettings {
        self.settings.clone()
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.acceptors.is_empty()
    }
}

impl<F: Fidelity> World<'_, F> {
    /// What an acceptor has promised is lost, or some of it.
    pub(crate) fn note_promises_lost(&mut self, index: usize) {
        if self.leases.acceptors.contains(&index) && !self.leases.lost.contains(&index) {
            self.leases.lost.push(index);
            let may_fail = (self.leases.acceptors.len() - 1) / 2;
            self.leases.is_void |= self.leases.lost.len() > may_fail;
        }
    }

    /// The single-active service at a node, as it is now.
    fn single_active(&self, index: usize) -> Option<(&Mesh, Option<Hold>, ServiceState)> {
        let mesh = self.mesh(index)?;
        let name = &self.leases.path;
        // Whether a text ends with it is told sooner than whether it is one.
        let is_it =
            |path: &TopicPath| path.as_bytes().ends_with(name.as_bytes()) && path.path() == name;
        let found = mesh.services().iter().find(|(_, path, _)| is_it(path));
        let (key, _, state) = found?;
        Some((mesh, mesh.hold(self.time_at(index).mono, key), state))
    }

    /// Notes what a node holds, which has acted or is gone.
    pub(crate) fn look_at_lease(&mut self, index: usize) {
        if self.leases.is_on() {
            let hold = self.single_active(index).and_then(|(_, hold, _)| hold);
            self.leases.holds[index] = hold;
        }
    }

    /// Judges who holds the lease at this instant, and what has run.
    pub(crate) fn judge_leases(&mut self) {
        if !self.leases.is_on() {
            return;
        }
        let mut lost = std::mem::take(&mut self.leases.lost);
        lost.retain(|index| self.mesh(*index).is_none_or(Mesh::is_learning));
        self.leases.lost = lost;
        let runs = self.ledger.take_led();
        if self.leases.is_void {
            return;
        }
        let mut holder: Option<(usize, Token)> = None;
        for index in 0..self.stations.len() {
            let Some(Hold { token, until }) = self.leases.holds[index] else { continue };
            if self.time_at(index).mono >= until {
                continue;
            }
            if let Some((other, its)) = holder {
                let what = format!("n{other} holds it by token {its}, and n{index} by {token}");
                return self.ledger.violate(Some(index as u16), ONE_HOLDER, what);
            }
            holder = Some((index, token));
        }
        for (life, token) in runs {
            let holds =
                |(index, its): (usize, Token)| (self.life(index), Some(its)) == (life, token);
            if !holder.is_some_and(holds) {
                let what =
                    format!("{life} runs a handler with token {token:?}; {holder:?} holds it");
                return self.ledger.violate(Some(life.node), HOLDER_RUNS, what);
            }
        }
        let Some((index, token)) = holder else { return };
        let life = self.life(index);
        match self.leases.highest {
            Some((highest, of)) if token < highest || token == highest && of != life => {
                let what = format!("{life} has token {token}, and {of} had {highest} before");
                self.ledger.violate(Some(life.node), TOKENS_GROW, what);
            }
            Some((highest, of)) => {
                if token > highest && of.node != life.node {
                    self.ledger.sometimes(sometimes::TOOK_OVER);
                }
                self.leases.highest = Some((token, life));
            }
            None => self.leases.highest = Some((token, life)),
        }
    }

    /// Where nobody is active though somebody could be: a node that offers the service, and says what it is at.
    pub(crate) fn leaderless(&self) -> Option<(u16, String)> {
        if !self.leases.is_on() || self.leases.is_void {
            return None;
        }
        let mut waiting = None;
        for index in 0..self.stations.len() {
            let Some((mesh, hold, state)) = self.single_active(index) else { continue };
            if hold.is_some() && state == ServiceState::Running {
                return None;
            }
            let reached = |acceptor: &&usize| {
                let id = self.stations[**acceptor].id;
                let is_there = **acceptor == index || !mesh.links_up(id).is_empty();
                is_there && self.mesh(**acceptor).is_some_and(Mesh::is_ready)
            };
            let reached = self.leases.acceptors.iter().filter(reached).count();
            let can = matches!(state, ServiceState::Standby) || hold.is_some();
            if can && reached > self.leases.acceptors.len() / 2 {
                waiting.get_or_insert((index as u16, format!("n{index} is in state {state:?}")));
            }
        }
        waiting
    }

    /// How many timers of leases a node may have: those of a proposer and of an acceptor for one lease.
    pub(crate) fn lease_timers(&self) -> usize {
        if self.leases.is_on() { 4 } else { 0 }
    }
}
