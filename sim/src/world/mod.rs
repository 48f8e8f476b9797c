//! The event loop: takes what is due, gives it to its node, lets that act, and checks.
//!
//! The world is the same at both fidelities; a [`Fidelity`] says what travels and how.
//!
//! ```text
//! mod         the loop, and what a node's turn is
//! lives       how nodes begin and end
//! operations  what the schedule asks of them
//! disks       what they store
//! troubles    what goes wrong, and how all is healed
//! ```

mod disks;
mod lives;
mod operations;
mod troubles;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dunlin_core::auth::Access;
use dunlin_core::base::Incarnation;
use dunlin_core::link::LinkHandle;
use dunlin_core::rpc::{CallError, Failure};
use dunlin_core::store::Stored;
use dunlin_core::{Event, Identity, Mesh, MonoTime, Now, PeerId, WallTime};

use crate::again::Attempts;
use crate::copies::Copies;
use crate::disk::Disk;
use crate::errors::Errors;
use crate::faults::FaultKind;
use crate::history::{Ledger, Life};
use crate::hostile::Hostile;
use crate::leases::Leases;
use crate::log::{Column, Log, describe, log};
use crate::network::Network;
use crate::published;
use crate::queue::Queue;
use crate::random::bytes32;
use crate::recording::Tape;
use crate::rights::Rights;
use crate::roster::Roster;
use crate::schedule::{Schedule, Trouble};
use crate::sometimes;
use crate::station::{Live, Station, address, hash_event};
use crate::trace::{Step, Trace, Watch};
use crate::workload::{NodeInfo, Workload, WorldInfo};

/// The wall clock at the start of every run: some day in 2026.
const WALL_NANOS: u64 = 1_770_000_000_000_000_000;

/// A node's own invariants are checked at every so many of its events, and at the end: they cost time in the
/// size of its state. What calls come to is judged at every event.
const CHECK_EVERY: u32 = 40;

/// So many events at one instant mean that something goes in a circle.
const EVENTS_PER_INSTANT_MAX: u64 = 1_000_000;

/// What a new life of a node is made from.
pub(crate) struct Birth<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) stored: Stored,
    pub(crate) access: Access,
    pub(crate) seed: [u8; 32],
    pub(crate) leases: dunlin_core::LeaseSettings,
    pub(crate) limits: dunlin_core::Limits,
}

/// What travels between nodes, and how.
pub(crate) trait Fidelity: Sized {
    /// The node's door: its mesh, or the whole of it.
    type Door;
    /// What is under way.
    type Parcel;

    /// A node begins a life.
    fn open(&mut self, now: Now, birth: Birth<'_>) -> Self::Door;
    /// Its mesh, to ask.
    fn mesh(door: &Self::Door) -> &Mesh;
    /// Its mesh, to command.
    fn mesh_mut(door: &mut Self::Door) -> &mut Mesh;
    /// When it wants to be woken.
    fn next_wake(door: &Self::Door) -> Option<MonoTime>;
    /// The time has come.
    fn handle_timeout(door: &mut Self::Door, now: Now);
    /// Lets the node and its services talk.
    fn turn(live: &mut Live<Self::Door>, now: Now, observe: &mut dyn FnMut(&Event));
    /// Carries out what the node wants. Says whether the node may have more to say now.
    fn drain(world: &mut World<'_, Self>, index: usize) -> bool;
    /// A parcel arrives at a node that runs.
    fn arrive(world: &mut World<'_, Self>, index: usize, parcel: Self::Parcel);
    /// The node is gone, with all that it knew.
    fn vanished(world: &mut World<'_, Self>, index: usize);
    /// The node goes on after a pause.
    fn resumed(world: &mut World<'_, Self>, index: usize);
    /// Lets an old handshake of one node reach another once more. Says whether there was one.
    fn replay(world: &mut World<'_, Self>, from: usize, to: usize) -> bool;
    /// A hostile node acts against another. Says whether it could.
    fn attack(world: &mut World<'_, Self>, index: usize, by: &mut Hostile) -> bool;
    /// What is known of a link's path, for the log.
    fn describe_link(door: &Self::Door, link: LinkHandle) -> String;
    /// Whether a node that has stopped has told everybody.
    fn is_drained(world: &World<'_, Self>, index: usize) -> bool;
}

/// Something that will happen.
pub(crate) enum Happening<P> {
    /// A node wanted to be woken.
    Wake(usize),
    /// Something arrives at a node.
    Parcel(usize, P),
    /// A fault begins.
    FaultBegins(usize),
    /// A fault ends.
    FaultEnds(usize),
    /// A slow node has time for the next thing, if it still lives the same life.
    Turn { node: usize, life: u32 },
    /// The disk of a node has synced, if that still lives the same life.
    Synced { node: usize, life: u32 },
    /// A node dies in the midst of a sync, likewise.
    Torn { node: usize, life: u32 },
    /// A hostile node acts, likewise.
    Attack { node: usize, life: u32 },
}

/// The rare state that an event tells of.
fn rare(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::LinkSuperseded { .. } => sometimes::SUPERSEDED,
        Event::CallRetried { .. } => sometimes::MADE_AGAIN,
        Event::CallHedged { .. } => sometimes::HEDGED,
        Event::CallEnded {
            result: Err(CallError::Failed { failure: Failure::Overloaded, .. }),
            ..
        } => sometimes::TURNED_AWAY,
        Event::LifeBegan { .. } => sometimes::BEGAN_ANEW,
        Event::PeerRefused { .. } => sometimes::REFUSED,
        Event::ClaimIgnored { .. } => sometimes::CLAIM_IGNORED,
        Event::NetworkLeft { .. } => sometimes::RIGHT_ENDED,
        Event::NetworkEnded { .. } => sometimes::NETWORK_ENDED,
        Event::NetworkOutdated { .. } => sometimes::OUTDATED,
        Event::InvocationCancelled(_) => sometimes::RUN_CANCELLED,
        Event::EventsLost { .. } => sometimes::EVENTS_LOST,
        Event::PublishRoom => sometimes::WAITED_FOR_ROOM,
        _ => return None,
    })
}

/// All nodes, the network between them, and the time.
pub(crate) struct World<'s, F: Fidelity> {
    pub(crate) now: u64,
    pub(crate) queue: Queue<Happening<F::Parcel>>,
    pub(crate) stations: Vec<Station<F>>,
    pub(crate) network: Network<'s>,
    pub(crate) fidelity: F,
    pub(crate) trace: Trace,
    pub(crate) log: Log,
    pub(crate) tape: Tape,
    /// What the log says that is wrong.
    pub(crate) errors: Errors,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) copies: Copies,
    /// The boot number of each life that somebody has met, by node and counter.
    met: BTreeMap<(usize, u64), u64>,
    /// Who may do what, in a world with a network of tokens.
    pub(crate) rights: Option<Rights>,
    pub(crate) schedule: &'s Schedule,
    pub(crate) workload: &'s dyn Workload,
    pub(crate) peers: Arc<[PeerId]>,
    pub(crate) roster: Roster,
    pub(crate) leases: Leases,
    /// The networks that each node is in; nothing where all are in the same one.
    pub(crate) networks: Arc<[Vec<u16>]>,
    /// How many different ones there are.
    networks_known: usize,
    /// What services and clients are told of the world.
    info: Arc<WorldInfo>,
    /// The next operation of the schedule.
    next_operation: usize,
    pub(crate) events: u64,
    /// Faults are over: what still begins does not.
    pub(crate) healing: bool,
    /// All that are not hostile are connected, with nothing in their way: no link between them ends.
    pub(crate) besieged: bool,
    /// The boot numbers of lives in which a node was hostile.
    pub(crate) hostile_lives: BTreeSet<u64>,
}

impl<'s, F: Fidelity> World<'s, F> {
    pub(crate) fn new(
        schedule: &'s Schedule,
        workload: &'s dyn Workload,
        fidelity: F,
        ledger: Arc<Ledger>,
        log: Log,
        (watch, reseed): (Option<Watch>, Option<(u64, u64)>),
    ) -> Self {
        let count = schedule.nodes.len();
        let stations: Vec<_> = (0..count)
            .map(|index| {
                let secret = bytes32(schedule.seed, 1, index as u64);
                let identity = Identity::from_secret(secret);
                Station {
                    id: identity.id(),
                    identity,
                    address: address(index),
                    life: 0,
                    disk: Disk::default(),
                    live: None,
                    stopping: None,
                    stopped: false,
                    paused: None,
                    held: Default::default(),
                    clock_ppm: i64::from(schedule.nodes[index].clock_ppm),
                    slow: None,
                    busy_until: 0,
                    backlog: Default::default(),
                    armed: None,
                    keeps: schedule.nodes[index].keeps.iter().copied().collect(),
                    clock_ahead_ms: schedule
                        .rights
                        .as_ref()
                        .and_then(|rights| rights.clock_ahead_ms.get(index))
                        .copied()
                        .unwrap_or(0),
                    clock_wrong_ms: 0,
                    impostor: None,
                    hostile: None,
                    background: 0,
                    touched: 0,
                    began: MonoTime::ZERO,
                    attempts: Attempts::default(),
                }
            })
            .collect();
        let peers: Arc<[PeerId]> = stations.iter().map(|station| station.id).collect();
        let networks: Arc<[_]> =
            schedule.rights.iter().flat_map(|rights| rights.networks.clone()).collect();
        let known: BTreeSet<u16> = networks.iter().flatten().copied().collect();
        let info = Arc::new(WorldInfo {
            peers: Arc::clone(&peers),
            networks: Arc::clone(&networks),
            ledger: Arc::clone(&ledger),
        });
        let mut world = World {
            now: 0,
            queue: Queue::default(),
            stations,
            network: Network::new(schedule.seed, count, schedule.network.clone(), &schedule.faults),
            fidelity,
            trace: Trace::new(schedule.seed),
            log,
            tape: ledger.tape().clone(),
            errors: Errors::default(),
            ledger,
            copies: Copies::default(),
            met: BTreeMap::new(),
            rights: schedule.rights.clone().map(|plan| {
                let acceptors = schedule.acceptors.iter().map(|node| peers[usize::from(*node)]);
                let began = WallTime::from_unix_nanos(WALL_NANOS);
                Rights::new(schedule.seed, count, plan, acceptors.collect(), began)
            }),
            schedule,
            workload,
            leases: Leases::new(schedule, &peers),
            roster: Roster::new(Arc::clone(&peers)),
            peers,
            networks,
            networks_known: known.len(),
            info,
            next_operation: 0,
            events: 0,
            healing: false,
            besieged: false,
            hostile_lives: BTreeSet::new(),
        };
        for index in 0..count {
            world.log.becomes(index, Column::Down);
            if schedule.nodes[index].clock_ppm != 0 {
                world.ledger.set_clock(index, i64::from(schedule.nodes[index].clock_ppm));
            }
        }
        world.network.reseed = reseed;
        if let Some(watch) = watch {
            world.trace.watch(watch);
        }
        if let Some(rights) = &mut world.rights {
            let drifts = schedule.nodes.iter().any(|node| node.clock_ppm != 0);
            let lapses = |index: usize| {
                let of_node = |what: &Trouble| matches!(what, Trouble::Lapse { node } if usize::from(*node) == index);
                drifts && schedule.faults.iter().any(|fault| of_node(&fault.what))
            };
            rights.set_unsure((0..count).map(lapses).collect());
        }
        world.ledger.withhold(schedule.rights.iter().flat_map(|r| r.withheld.clone()).collect());
        for index in 0..count {
            world.start(index);
        }
        for (index, fault) in schedule.faults.iter().enumerate() {
            world.queue.push(fault.at_us * 1_000, Happening::FaultBegins(index));
        }
        world
    }

    /// The true time.
    fn true_time(&self) -> WallTime {
        WallTime::from_unix_nanos(WALL_NANOS + self.now)
    }

    /// The time by a node's clocks.
    pub(crate) fn time_at(&self, index: usize) -> Now {
        let station = &self.stations[index];
        let ahead_ms = station.clock_ahead_ms + station.clock_wrong_ms;
        let nanos = WALL_NANOS.saturating_add_signed(ahead_ms.saturating_mul(1_000_000)) + self.now;
        let mono = MonoTime::from_nanos(station.by_its_clock(self.now));
        Now::new(mono, WallTime::from_unix_nanos(nanos))
    }

    pub(crate) fn life(&self, index: usize) -> Life {
        Life { node: index as u16, life: self.stations[index].life }
    }

    pub(crate) fn info(&self, index: usize) -> NodeInfo {
        NodeInfo { life: self.life(index), world: Arc::clone(&self.info) }
    }

    /// The mesh of a node that runs.
    pub(crate) fn mesh(&self, index: usize) -> Option<&Mesh> {
        self.stations[index].live.as_ref().map(|live| F::mesh(&live.door))
    }

    /// Runs what is due until this time, or until a rule is broken. Says whether all is well.
    pub(crate) fn run_until(&mut self, until: u64) -> bool {
        let mut instant = (self.now, self.events);
        loop {
            // Operations are in order already; at one instant they come first.
            let next = self.queue.next_at();
            let operation = self.schedule.operations.get(self.next_operation);
            let operation_at = operation.map(|operation| operation.at_us * 1_000);
            let operates = operation_at.is_some_and(|at| next.is_none_or(|next| at <= next));
            let Some(at) = (if operates { operation_at } else { next }) else { break };
            if at > until {
                break;
            }
            assert!(at >= self.now, "time does not go back");
            self.now = at;
            self.ledger.set_now(at);
            if operates {
                self.events += 1;
                self.next_operation += 1;
                self.operate(self.next_operation - 1);
                self.check();
            } else {
                let (_, happening) = self.queue.pop().expect("just looked");
                self.step(happening);
            }
            if self.ledger.is_broken() {
                return false;
            }
            if instant.0 != at {
                instant = (at, self.events);
            } else {
                let here = self.events - instant.1;
                assert!(here < EVENTS_PER_INSTANT_MAX, "{here} events at one instant");
            }
        }
        self.now = until;
        self.ledger.set_now(until);
        true
    }

    fn step(&mut self, happening: Happening<F::Parcel>) {
        match happening {
            Happening::Wake(index) => self.wake(index),
            Happening::Parcel(index, parcel) => {
                let station = &mut self.stations[index];
                if station.live.is_none() {
                    return;
                }
                self.events += 1;
                if station.paused.is_some() {
                    self.network.tally.bite(FaultKind::Pause);
                    return station.held.push_back(parcel);
                }
                if station.slow.is_some() {
                    return self.wait_its_turn(index, parcel);
                }
                F::arrive(self, index, parcel);
                self.check();
            }
            Happening::FaultBegins(index) => {
                if !self.healing {
                    self.events += 1;
                    self.fault_begins(index);
                }
            }
            Happening::FaultEnds(index) => {
                if !self.healing {
                    self.events += 1;
                    self.fault_ends(index);
                }
            }
            Happening::Turn { node, life } => self.next_turn(node, life),
            Happening::Synced { node, life } => self.synced(node, life),
            Happening::Torn { node, life } => self.torn(node, life),
            Happening::Attack { node, life } => self.attack(node, life),
        }
    }

    fn check(&mut self) {
        for error in self.errors.take() {
            if !self.workload.expects_error(&error) {
                self.ledger.violate(None, "nothing in the log is an error", error);
            }
        }
        self.judge_leases();
        if let Err(what) = self.workload.check() {
            self.ledger.violate(None, "the workload's own rules", what);
        }
    }

    fn wake(&mut self, index: usize) {
        let (now, at) = (self.time_at(index), self.now);
        let station = &mut self.stations[index];
        if station.armed != Some(at) {
            return;
        }
        station.armed = None;
        if station.paused.is_some() {
            self.network.tally.bite(FaultKind::Pause);
            return;
        }
        if station.live.is_some() && station.slow.is_some() && at < station.busy_until {
            self.network.tally.bite(FaultKind::SlowNode);
            return self.rearm(index);
        }
        let Some(live) = &mut station.live else { return };
        let door = F::next_wake(&live.door).is_some_and(|wake| wake <= now.mono);
        let host = live.host.next_wake(now.mono).is_some_and(|wake| wake <= now.mono);
        if !door && !host {
            // What it was for has been taken back.
            return self.rearm(index);
        }
        self.events += 1;
        self.trace.note(Step::Timer, at, index, u64::from(door), u64::from(host));
        if door {
            F::handle_timeout(&mut live.door, now);
        }
        if let Some((_, each)) = station.slow {
            station.busy_until = at + each;
        }
        self.touch(index);
        self.check();
    }

    /// Lets a node act on what was done to it.
    pub(crate) fn touch(&mut self, index: usize) {
        let (now, true_now) = (self.time_at(index), self.now);
        loop {
            let station = &mut self.stations[index];
            let mut attempts = station.attempts;
            let life = (station.life, station.began);
            let Some(live) = &mut station.live else { return };
            let (trace, log, peers) = (&mut self.trace, &mut self.log, &self.peers);
            let roster = &self.roster;
            let (tape, ledger) = (&self.tape, &self.ledger);
            let mut stopped = false;
            let mut heard = Vec::new();
            let mut met = Vec::new();
            let mut down = None;
            let (mut counter, mut superseded, mut store_failed) = (None, false, false);
            let mut wrong = None;
            let open = (F::mesh(&live.door).calls_open(), self.networks_known);
            let tally = &self.network.tally;
            let made_by_hand = [FaultKind::Replay, FaultKind::Hostile]
                .into_iter()
                .any(|kind| tally.is_applied(kind));
            let (rights, tally) = (&self.rights, &mut self.network.tally);
            F::turn(live, now, &mut |event| {
                let concerns = Copies::concerns(event) || published::concerns(event);
                heard.extend(concerns.then(|| event.clone()));
                if let Some(rights) = rights {
                    let judged = rights.observe(tally, roster, index, now.wall, event);
                    wrong = wrong.take().or_else(|| judged.err());
                }
                let judged = attempts.observe(life, now.mono, event, open);
                wrong = wrong.take().or_else(|| judged.err());
                if let Some(rare) = rare(event) {
                    ledger.sometimes(rare);
                }
                match event {
                    Event::LifeBegan { incarnation, .. } => counter = Some(incarnation.counter),
                    Event::LinkSuperseded { .. } => superseded = true,
                    Event::StoreFailed { .. } => store_failed = true,
                    event => {
                        match event {
                            Event::PeerUp { peer, incarnation, .. } => {
                                met.push((*peer, *incarnation));
                            }
                            Event::PeerDown { peer, .. } => down = Some(*peer),
                            _ => {}
                        }
                        let checked = crate::checks::of_peers(event, made_by_hand);
                        wrong = wrong.take().or(checked);
                    }
                }
                hash_event(trace, true_now, index, event);
                stopped |= matches!(event, Event::Stopped);
                if log.is_on() || tape.is_on() {
                    let (at, what) = (true_now, describe(peers, event));
                    log.line(at, Some(index), format_args!("{what}"));
                    tape.event(at, index, event, what);
                }
            });
            self.stations[index].attempts = attempts;
            self.judge_copies(index, &heard);
            self.judge_events(index, &heard);
            self.judge_lives(&met);
            if let (true, Some(peer)) = (self.besieged, down) {
                self.judge_down(index, peer);
            }
            if let Some((rule, what)) = wrong {
                self.ledger.violate(Some(index as u16), rule, what);
            }
            if superseded && let Some(mesh) = self.mesh(index) {
                let load = mesh.load();
                if load.calls_open > 0 {
                    self.ledger.sometimes(sometimes::SUPERSEDED_IN_CALL);
                }
                if load.events_unacknowledged > 0 {
                    self.ledger.sometimes(sometimes::SUPERSEDED_IN_EVENT);
                }
            }
            if superseded && self.network.tally.is_applied(FaultKind::Dials) {
                self.network.tally.bite(FaultKind::Dials);
            }
            if counter.is_some() && !self.stations[index].disk.has_forgotten {
                let what = "it began anew, and had forgotten nothing".to_string();
                self.ledger.violate(Some(index as u16), "a life ends for a later one alone", what);
            }
            if let Some(counter) = counter {
                if let (Some(rights), Some(_)) = (&mut self.rights, self.stations[index].impostor) {
                    rights.pretends(index, Some(counter));
                }
                if self.network.tally.is_applied(FaultKind::LoseDisk) {
                    self.network.tally.bite(FaultKind::LoseDisk);
                }
            }
            if store_failed {
                self.ledger.sometimes(sometimes::STORE_FAILED);
                // As if it had been told to.
                self.stations[index].stopping.get_or_insert(self.now);
            }
            if stopped {
                self.stations[index].stopped = true;
                let life = self.life(index);
                if self.mesh(index).is_some_and(Mesh::has_left_groups) {
                    self.ledger.left_in_order(life);
                }
                if let Some(call) = self.ledger.open_calls(Some(life)).first() {
                    let what = format!("{life} has stopped, and call {call} has not ended");
                    self.ledger.violate(Some(life.node), "a stop ends every call", what);
                }
            }
            let answered = self.store(index);
            if !F::drain(self, index) && !answered {
                break;
            }
        }
        if self.stations[index].stopped && F::is_drained(self, index) {
            log!(self, Some(index), "has stopped");
            return self.take_down(index, "stopped");
        }
        if self.tape.is_on() {
            self.tape.links(self.now, index, self.mesh(index), &self.peers);
        }
        self.look_at_lease(index);
        let station = &mut self.stations[index];
        station.touched = station.touched.wrapping_add(1);
        if let Some(live) = &station.live
            && station.touched.is_multiple_of(CHECK_EVERY)
        {
            F::mesh(&live.door).check_invariants();
        }
        self.rearm(index);
    }

    /// Judges that no two lives of a node that others have met have one counter: a node whose disk keeps what it was
    /// told to keep never begins the same life again.
    fn judge_lives(&mut self, met: &[(PeerId, Incarnation)]) {
        for (peer, incarnation) in met {
            let Some(node) = self.roster.find(peer) else { continue };
            let first = self.met.entry((node, incarnation.counter)).or_insert(incarnation.boot);
            if *first != incarnation.boot && !self.stations[node].disk.has_forgotten {
                let what = format!("two lives of n{node} have the counter {}", incarnation.counter);
                self.ledger.violate(Some(node as u16), "every life has a counter of its own", what);
            }
        }
    }

    /// Judges that a node has lost a peer while nothing but hostile nodes is in their way.
    fn judge_down(&self, index: usize, peer: PeerId) {
        let is_hostile = |node: usize| self.stations[node].hostile.is_some();
        let other = self.roster.find(&peer);
        if !is_hostile(index) && other.is_some_and(|other| !is_hostile(other)) {
            let what = format!("it lost {}", crate::station::name(&self.peers, peer));
            self.ledger.violate(Some(index as u16), crate::hostile::NO_LINK_ENDS, what);
        }
    }

    fn rearm(&mut self, index: usize) {
        let (now, mono) = (self.now, self.time_at(index).mono);
        let station = &mut self.stations[index];
        let Some(live) = &station.live else { return };
        let wakes = [F::next_wake(&live.door), live.host.next_wake(mono)];
        let Some(wake) = wakes.into_iter().flatten().min() else { return };
        // A slow node comes to it when it has time.
        let free = if station.slow.is_some() { station.busy_until } else { 0 };
        let at = station.true_time_of(wake.as_nanos()).max(now).max(free);
        if station.armed.is_none_or(|armed| at < armed) {
            station.armed = Some(at);
            self.queue.push(at, Happening::Wake(index));
        }
    }
}
