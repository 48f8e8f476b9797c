//! The event loop: takes what is due, gives it to its node, lets that act, and checks.
//!
//! The world is the same at both fidelities; a [`Fidelity`] says what travels and how.

use std::sync::Arc;

use dunlin_core::auth::Access;
use dunlin_core::base::Incarnation;
use dunlin_core::link::LinkHandle;
use dunlin_core::service::{BoxFuture, Host};
use dunlin_core::{Event, Identity, Mesh, MonoTime, Now, PeerId, WallTime};

use crate::copies::Copies;
use crate::faults::FaultKind;
use crate::history::{Ledger, Life};
use crate::log::{Log, describe, log};
use crate::network::Network;
use crate::published;
use crate::queue::Queue;
use crate::random::bytes32;
use crate::rights::Rights;
use crate::schedule::{Deed, Schedule, Trouble};
use crate::station::{Live, Station, address, hash_event, limits};
use crate::trace::{Step, Trace};
use crate::workload::{NodeInfo, Workload, WorldInfo};

/// The wall clock at the start of every run: some day in 2026.
const WALL_NANOS: u64 = 1_770_000_000_000_000_000;

/// A node's own invariants are checked at every so many of its events, and at the end: they cost time in the
/// size of its state. What calls come to is judged at every event.
const CHECK_EVERY: u64 = 24;

/// So many events at one instant mean that something goes in a circle.
const EVENTS_PER_INSTANT_MAX: u64 = 1_000_000;

/// What a new life of a node is made from.
pub(crate) struct Birth<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) incarnation_counter: u64,
    pub(crate) access: Access,
    pub(crate) seed: [u8; 32],
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
}

/// All nodes, the network between them, and the time.
pub(crate) struct World<'s, F: Fidelity> {
    pub(crate) now: u64,
    pub(crate) queue: Queue<Happening<F::Parcel>>,
    pub(crate) stations: Vec<Station<F>>,
    pub(crate) network: Network,
    pub(crate) fidelity: F,
    pub(crate) trace: Trace,
    pub(crate) log: Log,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) copies: Copies,
    /// Who may do what, in a world with a network of tokens.
    pub(crate) rights: Option<Rights>,
    pub(crate) schedule: &'s Schedule,
    pub(crate) workload: &'s dyn Workload,
    pub(crate) peers: Arc<[PeerId]>,
    /// The networks that each node is in; nothing where all are in the same one.
    pub(crate) networks: Arc<[Vec<u16>]>,
    /// What services and clients are told of the world.
    info: Arc<WorldInfo>,
    /// The next operation of the schedule.
    next_operation: usize,
    pub(crate) events: u64,
    /// Faults are over: what still begins does not.
    pub(crate) healing: bool,
}

impl<'s, F: Fidelity> World<'s, F> {
    pub(crate) fn new(
        schedule: &'s Schedule,
        workload: &'s dyn Workload,
        fidelity: F,
        ledger: Arc<Ledger>,
        log: Log,
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
                    counter: 0,
                    live: None,
                    stopping: None,
                    stopped: false,
                    paused: None,
                    held: Default::default(),
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
                    background: 0,
                    touched: 0,
                }
            })
            .collect();
        let peers: Arc<[PeerId]> = stations.iter().map(|station| station.id).collect();
        let networks: Arc<[_]> =
            schedule.rights.iter().flat_map(|rights| rights.networks.clone()).collect();
        let info = Arc::new(WorldInfo {
            peers: Arc::clone(&peers),
            networks: Arc::clone(&networks),
            ledger: Arc::clone(&ledger),
        });
        let mut world = World {
            now: 0,
            queue: Queue::default(),
            stations,
            network: Network::new(schedule.seed, count, schedule.network.clone()),
            fidelity,
            trace: Trace::new(schedule.seed),
            log,
            ledger,
            copies: Copies::default(),
            rights: schedule.rights.clone().map(|plan| {
                Rights::new(schedule.seed, count, plan, WallTime::from_unix_nanos(WALL_NANOS))
            }),
            schedule,
            workload,
            peers,
            networks,
            info,
            next_operation: 0,
            events: 0,
            healing: false,
        };
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
        Now::new(MonoTime::from_nanos(self.now), WallTime::from_unix_nanos(nanos))
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
        }
    }

    fn check(&mut self) {
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
        self.touch(index);
        self.check();
    }

    /// Lets a node act on what was done to it.
    pub(crate) fn touch(&mut self, index: usize) {
        let now = self.time_at(index);
        loop {
            let Some(live) = &mut self.stations[index].live else { return };
            let (trace, log, peers) = (&mut self.trace, &mut self.log, &self.peers);
            let mut stopped = false;
            let mut heard = Vec::new();
            let (mut counter, mut superseded, mut wrong) = (None, false, None);
            let replayed = self.network.tally.is_applied(FaultKind::Replay);
            let (rights, tally) = (&self.rights, &mut self.network.tally);
            F::turn(live, now, &mut |event| {
                let concerns = Copies::concerns(event) || published::concerns(event);
                heard.extend(concerns.then(|| event.clone()));
                if let Some(rights) = rights {
                    let judged = rights.observe(tally, peers, index, now.wall, event);
                    wrong = wrong.take().or_else(|| judged.err());
                }
                match event {
                    Event::LifeBegan { incarnation, .. } => counter = Some(incarnation.counter),
                    Event::LinkSuperseded { .. } => superseded = true,
                    event => {
                        let checked = crate::checks::of_peers(event, replayed);
                        wrong = wrong.take().or(checked);
                    }
                }
                hash_event(trace, now.mono.as_nanos(), index, event);
                stopped |= matches!(event, Event::Stopped);
                if log.is_on() {
                    let at = now.mono.as_nanos();
                    log.line(at, Some(index), format_args!("{}", describe(peers, event)));
                }
            });
            self.judge_copies(index, &heard);
            self.judge_events(index, &heard);
            if let Some((rule, what)) = wrong {
                self.ledger.violate(Some(index as u16), rule, what);
            }
            if superseded && self.network.tally.is_applied(FaultKind::Dials) {
                self.network.tally.bite(FaultKind::Dials);
            }
            if let Some(counter) = counter {
                // As a shell stores it.
                self.stations[index].counter = counter;
                if let (Some(rights), Some(_)) = (&mut self.rights, self.stations[index].impostor) {
                    rights.pretends(index, Some(counter));
                }
                if self.network.tally.is_applied(FaultKind::LoseDisk) {
                    self.network.tally.bite(FaultKind::LoseDisk);
                }
            }
            if stopped {
                self.stations[index].stopped = true;
                let life = self.life(index);
                if let Some(call) = self.ledger.open_calls(Some(life)).first() {
                    let what = format!("{life} has stopped, and call {call} has not ended");
                    self.ledger.violate(Some(life.node), "a stop ends every call", what);
                }
            }
            if !F::drain(self, index) {
                break;
            }
        }
        if self.stations[index].stopped && F::is_drained(self, index) {
            log!(self, Some(index), "has stopped");
            return self.take_down(index);
        }
        let station = &mut self.stations[index];
        station.touched += 1;
        if let Some(live) = &station.live
            && station.touched.is_multiple_of(CHECK_EVERY)
        {
            F::mesh(&live.door).check_invariants();
        }
        self.rearm(index);
    }

    fn rearm(&mut self, index: usize) {
        let now = self.now;
        let station = &mut self.stations[index];
        let Some(live) = &station.live else { return };
        let door = F::next_wake(&live.door).map(MonoTime::as_nanos);
        let host = live.host.next_wake(MonoTime::from_nanos(now)).map(MonoTime::as_nanos);
        let Some(at) = [door, host].into_iter().flatten().min().map(|at| at.max(now)) else {
            return;
        };
        if station.armed.is_none_or(|armed| at < armed) {
            station.armed = Some(at);
            self.queue.push(at, Happening::Wake(index));
        }
    }

    // Lives.

    /// A node begins its next life.
    pub(crate) fn start(&mut self, index: usize) {
        let now = self.time_at(index);
        let access = self.access_of(index, now);
        let plan = &self.schedule.nodes[index];
        let addresses: Vec<_> = self.stations.iter().map(|station| station.address).collect();
        let station = &mut self.stations[index];
        debug_assert!(station.live.is_none());
        station.life += 1;
        station.counter += 1;
        station.keeps = plan.keeps.iter().copied().collect();
        let life = u64::from(station.life);
        let birth = Birth {
            identity: &station.identity,
            incarnation_counter: station.counter,
            access,
            seed: bytes32(self.schedule.seed, 2 + life, index as u64),
            limits: limits(&plan.limits),
        };
        let mut live = Live {
            door: self.fidelity.open(now, birth),
            host: Host::new(bytes32(self.schedule.seed, 1 << 40 | life, index as u64), || {}),
        };
        let peers = Arc::clone(&self.peers);
        let mesh = F::mesh_mut(&mut live.door);
        let Incarnation { boot, .. } = mesh.incarnation();
        self.trace.note(Step::Life, self.now, index, life, boot);
        for peer in &station.keeps {
            let peer = usize::from(*peer);
            mesh.connect(now, peers[peer], vec![addresses[peer]]).expect("schedules are checked");
        }
        log!(self, Some(index), "begins life {life}");
        let info = self.info(index);
        for service in self.workload.services(&info) {
            let mesh = F::mesh_mut(&mut live.door);
            live.host.add_service(now, mesh, service).expect("services are well-formed");
        }
        let handle = live.host.handle();
        if let Some(task) = self.workload.start(&info, handle) {
            live.host.spawn(now, F::mesh_mut(&mut live.door), task);
            self.stations[index].background = 1;
        }
        let handle = live.host.handle();
        self.stations[index].live = Some(live);
        self.touch(index);
        for subscriber in &plan.subscribers {
            if let Some(task) = self.workload.subscribe(&info, subscriber, handle.clone()) {
                self.spawn(index, task);
            }
        }
    }

    /// What a node that starts now may do, or pretends that it may.
    fn access_of(&mut self, index: usize, now: Now) -> Access {
        let (true_now, lapse_at) = (self.true_time(), self.next_lapse(index));
        let Station { id, counter, impostor, .. } = self.stations[index];
        let Some(rights) = &mut self.rights else { return Access::development(&id) };
        match impostor {
            Some((forgery, victim)) => {
                rights.pretends(index, Some(counter + 1));
                let victim = usize::from(victim);
                rights.forged(index, id, (victim, self.peers[victim]), true_now, forgery)
            }
            None => {
                rights.pretends(index, None);
                rights.access(index, id, now, true_now, lapse_at)
            }
        }
    }

    /// When the token expires that a node gets now.
    fn next_lapse(&self, index: usize) -> Option<u64> {
        let of_node =
            |what: &Trouble| matches!(what, Trouble::Lapse { node } if usize::from(*node) == index);
        let lapses = self.schedule.faults.iter().filter(|fault| of_node(&fault.what));
        let to_come = lapses.map(|fault| fault.at_us * 1_000).filter(|at| *at > self.now);
        to_come.min().filter(|_| !self.healing)
    }

    /// A node gets a new token.
    fn renew(&mut self, index: usize) {
        let (now, true_now, lapse_at) =
            (self.time_at(index), self.true_time(), self.next_lapse(index));
        let station = &mut self.stations[index];
        if station.paused.is_some() {
            // It gets it when it goes on.
            return;
        }
        let Some(rights) = &mut self.rights else { return };
        let token = rights.renew(index, station.id, true_now, lapse_at);
        if let (Some(live), None) = (&mut station.live, station.impostor) {
            // By a clock that is wrong it does not count; the node gets it again when it starts.
            let _ = F::mesh_mut(&mut live.door).take_token(now, token);
            self.touch(index);
        }
    }

    /// A node hears of the newest descriptor.
    fn inform(&mut self, index: usize) {
        let now = self.time_at(index);
        let station = &mut self.stations[index];
        let (Some(rights), Some(live)) = (&mut self.rights, &mut station.live) else { return };
        if station.paused.is_none()
            && let Some(chain) = rights.news_for(index)
            && F::mesh_mut(&mut live.door).take_descriptor(now, chain).is_ok()
        {
            rights.told(index);
            self.touch(index);
        }
    }

    /// A node is gone, now.
    fn take_down(&mut self, index: usize) {
        F::vanished(self, index);
        let station = &mut self.stations[index];
        station.live = None;
        station.armed = None;
        station.stopped = false;
        station.stopping = None;
        station.paused = None;
        station.held.clear();
    }

    fn resume(&mut self, index: usize) {
        let Some(since) = self.stations[index].paused.take() else { return };
        self.ledger.paused(index, since, self.now);
        if let Some(told) = &mut self.stations[index].stopping {
            // A node that stops has all its time when it goes on.
            *told += self.now - since;
        }
        log!(self, Some(index), "goes on after a pause");
        let held = std::mem::take(&mut self.stations[index].held);
        for parcel in held {
            // It may stop, or its transport may give up, on the way.
            if self.stations[index].live.is_some() {
                F::arrive(self, index, parcel);
            }
        }
        F::resumed(self, index);
        self.inform(index);
        if self.rights.as_ref().is_some_and(|rights| rights.is_in_need(index, self.true_time())) {
            self.renew(index);
        }
        let now = self.time_at(index);
        if let Some(live) = &mut self.stations[index].live {
            F::handle_timeout(&mut live.door, now);
            self.touch(index);
        }
        self.check();
    }

    // The schedule.

    /// Runs application code at a node.
    pub(crate) fn spawn(&mut self, index: usize, task: BoxFuture<()>) {
        let now = self.time_at(index);
        if let Some(live) = &mut self.stations[index].live {
            live.host.spawn(now, F::mesh_mut(&mut live.door), task);
            self.touch(index);
        }
    }

    fn operate(&mut self, index: usize) {
        let operation = &self.schedule.operations[index];
        let at = usize::from(operation.node);
        let now = self.time_at(at);
        let info = self.info(at);
        let there = match operation.what {
            Deed::Connect { peer } => Some(self.stations[usize::from(peer)].address),
            _ => None,
        };
        let station = &mut self.stations[at];
        let Some(live) = &mut station.live else { return };
        if station.paused.is_some() {
            // Whoever would do it is paused too.
            return;
        }
        self.trace.note(Step::Operation, self.now, at, index as u64, 0);
        let mesh = F::mesh_mut(&mut live.door);
        let find = |mesh: &Mesh, number: u16| {
            let path = format!("s{number}");
            mesh.services().iter().find(|(_, p, _)| p.path() == path).map(|(key, ..)| key)
        };
        match &operation.what {
            Deed::Call(call) => {
                if let Some(task) = self.workload.perform(&info, call, live.host.handle()) {
                    log!(self, Some(at), "client (call {}): {call:?}", self.ledger.counts().0 + 1);
                    return self.spawn(at, task);
                }
            }
            Deed::Publish(event) => {
                if let Some(task) = self.workload.publish(&info, event, live.host.handle()) {
                    log!(self, Some(at), "event {}: {event:?}", self.ledger.event_counts().0 + 1);
                    return self.spawn(at, task);
                }
            }
            Deed::Subscribe(subscriber) => {
                if let Some(task) = self.workload.subscribe(&info, subscriber, live.host.handle()) {
                    log!(self, Some(at), "{subscriber:?}");
                    return self.spawn(at, task);
                }
            }
            Deed::PauseService { service } => {
                if let Some(key) = find(mesh, *service) {
                    // It may not be running.
                    let _ = mesh.pause_service(now, key);
                }
            }
            Deed::ResumeService { service } => {
                if let Some(key) = find(mesh, *service) {
                    let _ = mesh.resume_service(now, key);
                }
            }
            Deed::StopService { service } => {
                if let Some(key) = find(mesh, *service) {
                    let _ = mesh.stop_service(now, key);
                }
            }
            Deed::StartService { service } => {
                if let Some(service) = self.workload.service(&info, *service) {
                    // The path may be taken, and the node may stop.
                    let _ = live.host.add_service(now, mesh, service);
                }
            }
            Deed::Disconnect { peer } => {
                station.keeps.remove(peer);
                mesh.disconnect(now, self.peers[usize::from(*peer)]);
            }
            Deed::Connect { peer } => {
                let to = usize::from(*peer);
                let there = there.into_iter().collect();
                if mesh.connect(now, self.peers[to], there).is_ok() {
                    station.keeps.insert(*peer);
                }
            }
        }
        log!(self, Some(at), "{:?}", operation.what);
        self.touch(at);
    }

    fn fault_begins(&mut self, index: usize) {
        let fault = &self.schedule.faults[index];
        let kind = FaultKind::of(&fault.what);
        self.trace.note(Step::Fault, self.now, 0, index as u64, 1);
        self.network.tally.apply(kind);
        self.queue.push(fault.until_us * 1_000, Happening::FaultEnds(index));
        log!(self, None, "fault begins: {:?}", fault.what);
        match fault.what {
            Trouble::Crash { node } | Trouble::LoseDisk { node } | Trouble::Readdress { node } => {
                let node = usize::from(node);
                if self.stations[node].live.is_some() {
                    if kind != FaultKind::LoseDisk {
                        self.network.tally.bite(kind);
                    }
                    log!(self, Some(node), "dies");
                    self.take_down(node);
                    if kind == FaultKind::LoseDisk {
                        self.stations[node].counter = 0;
                    }
                }
            }
            Trouble::Dials { a, b } => self.dial_each_other(usize::from(a), usize::from(b)),
            Trouble::Replay { from, to } => {
                let (from, to) = (usize::from(from), usize::from(to));
                let runs =
                    |n: usize| self.stations[n].live.is_some() && self.stations[n].paused.is_none();
                if runs(to) && F::replay(self, from, to) {
                    self.network.tally.bite(kind);
                }
            }
            Trouble::Stop { node } => {
                let node = usize::from(node);
                let now = self.time_at(node);
                let station = &mut self.stations[node];
                if let (Some(live), None, None) =
                    (&mut station.live, station.paused, station.stopping)
                {
                    self.network.tally.bite(kind);
                    station.stopping = Some(self.now);
                    F::mesh_mut(&mut live.door).shutdown(now);
                    log!(self, Some(node), "is told to stop");
                    self.touch(node);
                }
            }
            Trouble::Clock { node, by_ms } => {
                self.switch_right(kind, node, true);
                self.stations[usize::from(node)].clock_wrong_ms += by_ms;
            }
            // Its token was made so.
            Trouble::Lapse { node } => self.switch_right(kind, node, true),
            Trouble::Revoke { node, ref told } => {
                self.switch_right(kind, node, true);
                if let Some(rights) = &mut self.rights {
                    rights.revoke(usize::from(node));
                }
                for node in told {
                    self.inform(usize::from(*node));
                }
            }
            Trouble::Impostor { node, forgery, victim } => {
                let node = usize::from(node);
                if self.stations[node].live.is_some() && self.stations[node].impostor.is_none() {
                    self.switch_right(kind, node as u16, true);
                    log!(self, Some(node), "dies, and an impostor takes its place");
                    self.take_down(node);
                    self.stations[node].impostor = Some((forgery, victim));
                    self.start(node);
                }
            }
            Trouble::Pause { node } => {
                let station = &mut self.stations[usize::from(node)];
                if station.live.is_some() && station.paused.is_none() {
                    station.paused = Some(self.now);
                }
            }
            _ => self.network.switch(&self.schedule.faults, index, true),
        }
    }

    fn switch_right(&mut self, kind: FaultKind, node: u16, on: bool) {
        if let Some(rights) = &mut self.rights {
            rights.switch(kind, usize::from(node), on);
        }
    }

    /// An impostor gives way to the node whose key it had.
    fn unmask(&mut self, node: usize) {
        if self.stations[node].impostor.take().is_some() && self.stations[node].live.is_some() {
            self.take_down(node);
            self.start(node);
        }
    }

    /// Two nodes let go of each other and dial each other at one instant.
    fn dial_each_other(&mut self, a: usize, b: usize) {
        let nows = [self.time_at(a), self.time_at(b)];
        let ready = |station: &Station<F>| {
            station.live.is_some() && station.paused.is_none() && station.stopping.is_none()
        };
        if !ready(&self.stations[a]) || !ready(&self.stations[b]) {
            return;
        }
        for ((here, there), now) in [(a, b), (b, a)].into_iter().zip(nows) {
            let (peer, address) = (self.peers[there], self.stations[there].address);
            let station = &mut self.stations[here];
            station.keeps.insert(there as u16);
            if let Some(live) = &mut station.live {
                let mesh = F::mesh_mut(&mut live.door);
                mesh.disconnect(now, peer);
                mesh.connect(now, peer, vec![address]).expect("it is not stopping");
            }
        }
        self.touch(a);
        self.touch(b);
    }

    /// Those who keep a node hear where it is now.
    fn tell_address(&mut self, node: usize) {
        let (peer, address) = (self.peers[node], self.stations[node].address);
        for index in 0..self.stations.len() {
            let now = self.time_at(index);
            let station = &mut self.stations[index];
            if !station.keeps.contains(&(node as u16)) || station.paused.is_some() {
                continue;
            }
            if let Some(live) = &mut station.live {
                // Who stops does not care.
                let _ = F::mesh_mut(&mut live.door).connect(now, peer, vec![address]);
                self.touch(index);
            }
        }
    }

    fn fault_ends(&mut self, index: usize) {
        let fault = &self.schedule.faults[index];
        let kind = FaultKind::of(&fault.what);
        self.trace.note(Step::Fault, self.now, 0, index as u64, 0);
        log!(self, None, "fault ends: {:?}", fault.what);
        match fault.what {
            Trouble::Crash { node } | Trouble::Stop { node } | Trouble::LoseDisk { node } => {
                self.bring_back(usize::from(node));
            }
            Trouble::Readdress { node } => {
                let node = usize::from(node);
                if self.stations[node].live.is_none() {
                    let address = &mut self.stations[node].address;
                    address.set_port(address.port() + 1);
                    self.bring_back(node);
                    self.tell_address(node);
                }
            }
            Trouble::Dials { .. } | Trouble::Replay { .. } => {}
            Trouble::Pause { node } => self.resume(usize::from(node)),
            Trouble::Clock { node, by_ms } => {
                self.switch_right(kind, node, false);
                if !self.healing {
                    self.stations[usize::from(node)].clock_wrong_ms -= by_ms;
                }
            }
            Trouble::Lapse { node } => {
                self.switch_right(kind, node, false);
                self.renew(usize::from(node));
            }
            Trouble::Revoke { node, .. } => {
                self.switch_right(kind, node, false);
                for index in 0..self.stations.len() {
                    self.inform(index);
                }
                self.renew(usize::from(node));
            }
            Trouble::Impostor { node, .. } => {
                self.switch_right(kind, node, false);
                self.unmask(usize::from(node));
            }
            _ => self.network.switch(&self.schedule.faults, index, false),
        }
    }

    /// Starts a node that is down. One that has taken too long to stop is killed first.
    fn bring_back(&mut self, node: usize) {
        let station = &self.stations[node];
        if let (Some(since), Some(_)) = (station.stopping, &station.live) {
            if station.paused.is_some() || self.now < since + STOP_MAX_NANOS {
                return;
            }
            let what = format!("told to stop {} ago", crate::checks::seconds(self.now - since));
            self.ledger.violate(Some(node as u16), "a stop ends in time", what);
            self.take_down(node);
        }
        if self.stations[node].live.is_none() {
            self.start(node);
        }
    }

    /// Ends all faults: everybody runs, everybody can reach everybody, everybody wants what the schedule
    /// says.
    pub(crate) fn heal(&mut self) {
        self.healing = true;
        log!(self, None, "faults are over");
        for index in 0..self.schedule.faults.len() {
            self.network.switch(&self.schedule.faults, index, false);
        }
        for station in &mut self.stations {
            station.clock_wrong_ms = 0;
        }
        for node in 0..self.stations.len() {
            self.resume(node);
            self.unmask(node);
        }
        for node in 0..self.stations.len() {
            if self.stations[node].live.is_some() && self.stations[node].stopping.is_some() {
                self.take_down(node);
            }
            if self.stations[node].live.is_none() {
                self.start(node);
            }
            let now = self.time_at(node);
            let addresses: Vec<_> = self.stations.iter().map(|station| station.address).collect();
            let station = &mut self.stations[node];
            station.keeps.extend(&self.schedule.nodes[node].keeps);
            for to in station.keeps.iter().map(|peer| usize::from(*peer)) {
                if let Some(live) = &mut station.live {
                    F::mesh_mut(&mut live.door)
                        .connect(now, self.peers[to], vec![addresses[to]])
                        .expect("it is not stopping, and knows few");
                }
            }
            self.touch(node);
            // Everybody has a token that counts, and knows which do not.
            self.inform(node);
            self.renew(node);
        }
    }
}

/// A stop lasts at most the grace of the handlers, the flush of the links, and a little.
const STOP_MAX_NANOS: u64 = 8_000_000_000;
