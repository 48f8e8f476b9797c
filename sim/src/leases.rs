//! The rules of single-active services, judged in true time.
//!
//! A node is asked what it holds whenever it has acted, and at every event what all hold is looked at by what their
//! clocks show at that moment: a lease ends by itself, and begins with an event, so no instant is missed. Who holds it is
//! compared with what ran.
//!
//! The rules hold while a minority at a time of each set of acceptors has lost what it had promised and has not learned it
//! again. What a schedule does beyond that is not judged.
//!
//! Where the network's root names other acceptors, nodes hear of it at their own pace, and all of this holds across
//! their epochs.

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_core::directory::ServiceState;
use dunlin_core::lease::{AcceptorSet, Hold, LeaseTimes, Token};
use dunlin_core::topic::TopicPath;
use dunlin_core::{LeaseSettings, Mesh, PeerId};

use crate::history::Life;
use crate::log::log;
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
    /// The acceptors of each epoch, the present ones last.
    sets: Vec<Vec<usize>>,
    path: String,
    /// What each node held when it had acted.
    holds: Vec<Option<Hold>>,
    /// The highest token that was granted, and to whom.
    highest: Option<(Token, Life)>,
    /// Acceptors that have lost what they promised, and have not learned it again.
    lost: Vec<usize>,
    /// More of them than the rules allow for.
    is_void: bool,
    /// For whoever looks at the run: by node, the token by which it holds the lease, and until when in true time.
    shown: BTreeMap<usize, (Token, u64)>,
}

impl Leases {
    pub(crate) fn new(schedule: &Schedule, peers: &Arc<[PeerId]>) -> Leases {
        let acceptors: Vec<usize> = schedule.acceptors.iter().map(|n| usize::from(*n)).collect();
        let ids: Vec<PeerId> = acceptors.iter().map(|index| peers[*index]).collect();
        // In a network with tokens its descriptor names them.
        let fixed = AcceptorSet::new(1, ids).ok().filter(|_| schedule.rights.is_none());
        let settings = LeaseSettings { development_acceptors: fixed, times: LeaseTimes::default() };
        let path = format!("s{SINGLE_ACTIVE}");
        Leases {
            settings,
            sets: vec![acceptors],
            path,
            holds: vec![None; schedule.nodes.len()],
            highest: None,
            lost: Vec::new(),
            is_void: false,
            shown: BTreeMap::new(),
        }
    }

    pub(crate) fn settings(&self) -> LeaseSettings {
        self.settings.clone()
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.present().is_empty()
    }

    /// The newest acceptors.
    fn present(&self) -> &[usize] {
        self.sets.last().expect("there is a first set, which may be empty")
    }
}

impl<F: Fidelity> World<'_, F> {
    /// What an acceptor has promised is lost, or some of it.
    pub(crate) fn note_promises_lost(&mut self, index: usize) {
        let Leases { sets, lost, .. } = &mut self.leases;
        if !sets.iter().flatten().any(|acceptor| *acceptor == index) || lost.contains(&index) {
            return;
        }
        lost.push(index);
        // Those before the present ones count on: they may not be sealed yet.
        let is_too_much = |set: &Vec<usize>| {
            let of_set = set.iter().filter(|acceptor| lost.contains(acceptor)).count();
            of_set > set.len().saturating_sub(1) / 2
        };
        if sets.iter().any(is_too_much) {
            self.leases.is_void = true;
            self.ledger.void_leases();
        }
    }

    /// The network's root names other acceptors.
    pub(crate) fn name_acceptors(&mut self, members: &[u16]) {
        let members: Vec<usize> = members.iter().map(|node| usize::from(*node)).collect();
        if let Some(rights) = &mut self.rights {
            rights.name_acceptors(members.iter().map(|node| self.peers[*node]).collect());
        }
        self.leases.sets.push(members);
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

    /// What a node holds at this instant.
    fn hold_of(&self, index: usize) -> Option<Hold> {
        self.leases.holds[index].filter(|hold| self.time_at(index).mono < hold.until)
    }

    /// Shows who holds the lease, in the log and in what is recorded.
    fn show_holds(&mut self) {
        for index in 0..self.stations.len() {
            let hold = self.hold_of(index);
            let until = |hold: Hold| self.stations[index].true_time_of(hold.until.as_nanos());
            let now_held = hold.map(|hold| (hold.token, until(hold)));
            let token = |held: Option<&(Token, u64)>| held.map(|(token, _)| *token);
            if token(self.leases.shown.get(&index)) != token(now_held.as_ref()) {
                self.hide_hold(index);
                if let Some((token, _)) = now_held {
                    log!(self, Some(index), "holds the lease, by token {token}");
                    self.tape.hold_begins(self.now, self.life(index), token.to_string());
                }
            }
            if let Some(held) = now_held {
                self.leases.shown.insert(index, held);
            }
        }
    }

    /// A node does not hold the lease any more, if it did.
    pub(crate) fn hide_hold(&mut self, index: usize) {
        if let Some((token, until)) = self.leases.shown.remove(&index) {
            log!(self, Some(index), "holds the lease no more, which it had by token {token}");
            self.tape.hold_ends(self.now.min(until), index);
        }
    }

    /// Judges who holds the lease at this instant, and what has run.
    pub(crate) fn judge_leases(&mut self) {
        if !self.leases.is_on() {
            return;
        }
        if self.tape.is_on() || self.log.is_on() {
            self.show_holds();
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
            let Some(Hold { token, .. }) = self.hold_of(index) else { continue };
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
            let Some((_, hold, state)) = self.single_active(index) else { continue };
            if hold.is_some() && state == ServiceState::Running {
                return None;
            }
            let present = self.leases.present();
            let reached = |acceptor: &&usize| {
                self.are_linked(index, **acceptor)
                    && (self.mesh(**acceptor).is_some_and(Mesh::is_ready)
                        || self.may_begin(**acceptor))
            };
            let reached = present.iter().filter(reached).count();
            let can = matches!(state, ServiceState::Standby) || hold.is_some();
            if can && reached > present.len() / 2 {
                waiting.get_or_insert((index as u16, format!("n{index} is in state {state:?}")));
            }
        }
        waiting
    }

    fn are_linked(&self, a: usize, b: usize) -> bool {
        let id = self.stations[b].id;
        a == b || self.mesh(a).is_some_and(|mesh| !mesh.links_up(id).is_empty())
    }

    /// Whether acceptors have changed, and one reaches of each set whom it needs to take part.
    fn may_begin(&self, acceptor: usize) -> bool {
        let sets = &self.leases.sets;
        let reaches_most = |set: &Vec<usize>| {
            let reached = set.iter().filter(|other| self.are_linked(acceptor, **other)).count();
            reached > set.len() / 2
        };
        sets.len() > 1 && sets.iter().all(reaches_most)
    }

    /// How many timers of leases a node may have: those of a proposer and of an acceptor for one lease, and of acceptors
    /// of former configurations.
    pub(crate) fn lease_timers(&self) -> usize {
        if self.leases.is_on() { 4 + 2 * (self.leases.sets.len() - 1) } else { 0 }
    }
}
