//! One run, from its schedule to its verdict: chaos, then healing, then quiet.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use dunlin_core::Mesh;
use dunlin_core::base::Bound;
use dunlin_core::directory::{Document, Entry, EntryKey, OfferState};
use serde::Serialize;

use crate::builtin::BuiltIn;
use crate::checks::seconds;
use crate::cpu::thread_cpu_nanos;
use crate::errors::Errors;
use crate::faults::Tally;
use crate::frames::Frames;
use crate::history::{Ledger, Violation};
use crate::hostile::besieged;
use crate::locate::Under;
use crate::log::{Log, log};
use crate::packets::Packets;
use crate::recording::{Extent, Recording, Tape};
use crate::schedule::{
    Crypto, Deed, Fidelity as Choice, Operation, SINGLE_ACTIVE, Schedule, shared_network,
};
use crate::sometimes::Reached;
use crate::workload::Workload;
use crate::world::{Fidelity, World};

const SECOND: u64 = 1_000_000_000;
/// Everybody must have found everybody so long after the faults: the last probe may have failed just
/// before (8 s), the next one comes within 90 s by a clock that may go a tenth too slow.
const CONVERGED_WITHIN: u64 = 135 * SECOND;
/// Within this somebody is active: acceptors that begin anew abstain for 2.4 s, and what they have lost they learn
/// then; a lease that was left behind ends within 2 s; and two that want it may be in each other's way for a while.
const LED_WITHIN: u64 = 30_000_000_000;

/// The longest call of the built-in workload, what its callee keeps of it, and the probes.
const QUIET_WITHIN: u64 = 90 * SECOND;
/// A link that went silent before the faults ended is noticed within 15 s of them, at each end by itself.
/// What is connected after this time stays connected.
const SETTLED_AFTER: u64 = 20 * SECOND;
/// How often convergence and quiet are looked for.
const LOOK_EVERY: u64 = SECOND / 2;
/// Once all is quiet, tables are as large as what is open.
const EXPLAINED: &str = "tables are back at what open sessions explain";
/// In worlds of up to so many nodes each publishes alone after healing.
const EACH_ALONE_MAX: usize = 16;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Every check held.
    Clean,
    /// Something happened that must never happen.
    Safety {
        /// What.
        violations: Vec<Violation>,
    },
    /// Something did not happen in time once the faults were over.
    Liveness {
        /// What.
        violations: Vec<Violation>,
    },
    /// The code under test panicked.
    Crash {
        /// When, in nanoseconds of simulated time.
        at: u64,
        /// What it said, and where.
        message: String,
    },
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// How much of a node was real.
    pub fidelity: Choice,
    /// What protected packets.
    pub crypto: Crypto,
    /// How many nodes there were.
    pub nodes: usize,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The hash of its trace; none when it crashed.
    pub hash: Option<String>,
    /// Deliveries, timers, operations and faults.
    pub events: u64,
    /// Calls made, by clients and handlers.
    pub calls: u64,
    /// Calls answered.
    pub answered: u64,
    /// Events published.
    pub published: u64,
    /// How often one of them came to a subscriber.
    pub delivered: u64,
    /// Simulated time, in nanoseconds.
    pub simulated_nanos: u64,
    /// The CPU time that it took, in nanoseconds. Not the same in every run.
    pub cpu_nanos: u64,
    /// Faults applied and effective.
    #[serde(serialize_with = "tally_lines")]
    pub faults: Tally,
    /// Rare states, and how often they were reached.
    #[serde(serialize_with = "those_reached")]
    pub sometimes: Reached,
    /// How the calls ended.
    #[serde(skip)]
    pub ends: BTreeMap<String, u64>,
}

fn tally_lines<S: serde::Serializer>(tally: &Tally, serializer: S) -> Result<S::Ok, S::Error> {
    tally.lines().serialize(serializer)
}

/// Of a run only what was reached is written; a campaign names the rest.
fn those_reached<S: serde::Serializer>(all: &Reached, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(all.iter().filter(|(_, count)| **count > 0))
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of handlers are part of the workload: while a run is on, they are noted, not printed.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                LAST_PANIC.set(info.to_string().replace('\n', " "));
            } else {
                before(info);
            }
        }));
    });
}

/// Runs a schedule with the built-in workload.
pub fn run(schedule: &Schedule) -> Outcome {
    run_with(schedule, &BuiltIn::new(schedule), None)
}

/// Runs a schedule with any workload, and writes a log of it if that is wanted.
pub fn run_with(
    schedule: &Schedule,
    workload: &dyn Workload,
    log: Option<Box<dyn Write + Send>>,
) -> Outcome {
    play_out(schedule, workload, log, Tape::default(), Under::default())
}

/// Runs a schedule with any workload, and records it. It takes the same steps as without.
pub fn run_recorded(
    schedule: &Schedule,
    workload: &dyn Workload,
    extent: Extent,
) -> (Outcome, Recording) {
    let tape = Tape::new(extent);
    let outcome = play_out(schedule, workload, None, tape.clone(), Under::default());
    let recording = tape.finish(&outcome);
    (outcome, recording)
}

/// Runs a schedule with any workload, watched or with another future.
pub(crate) fn run_under(schedule: &Schedule, workload: &dyn Workload, under: Under) -> Outcome {
    play_out(schedule, workload, None, Tape::default(), under)
}

fn play_out(
    schedule: &Schedule,
    workload: &dyn Workload,
    log: Option<Box<dyn Write + Send>>,
    tape: Tape,
    under: Under,
) -> Outcome {
    hush();
    let begun = thread_cpu_nanos();
    // A few calls are made by handlers and probes.
    let is_call = |operation: &&Operation| matches!(operation.what, Deed::Call(_));
    let calls = schedule.operations.iter().filter(is_call).count() * 9 / 8 + 64;
    let ledger = Arc::new(Ledger::with_capacity(calls, tape));
    let lines = under.lines.map(|lines| lines.sink(Arc::clone(&ledger)));
    let log = Log::new(log.or(lines));
    let under = (under.watch, under.reseed);
    let books = Arc::clone(&ledger);
    QUIET.set(true);
    let errors = Errors::default();
    let go = || match schedule.fidelity {
        Choice::Frames => {
            let frames = Frames::new(schedule);
            play(World::new(schedule, workload, frames, books, log, under), &errors)
        }
        Choice::Packets => {
            let packets = Packets::new(schedule.crypto, ledger.tape().clone());
            play(World::new(schedule, workload, packets, books, log, under), &errors)
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| errors.listen(go)));
    QUIET.set(false);
    let end = result.unwrap_or_else(|_| Played {
        verdict: Verdict::Crash { at: ledger.now(), message: LAST_PANIC.take() },
        hash: None,
        events: 0,
        faults: Tally::default(),
    });
    let (calls, answered) = ledger.counts();
    let (published, delivered) = ledger.event_counts();
    Outcome {
        seed: schedule.seed,
        fidelity: schedule.fidelity,
        crypto: schedule.crypto,
        nodes: schedule.nodes.len(),
        verdict: end.verdict,
        hash: end.hash,
        events: end.events,
        calls,
        answered,
        published,
        delivered,
        simulated_nanos: ledger.now(),
        cpu_nanos: thread_cpu_nanos() - begun,
        faults: end.faults,
        sometimes: ledger.reached(workload.sometimes()),
        ends: ledger.ends(),
    }
}

struct Played {
    verdict: Verdict,
    hash: Option<String>,
    events: u64,
    faults: Tally,
}

fn play<F: Fidelity>(mut world: World<'_, F>, errors: &Errors) -> Played {
    world.errors = errors.clone();
    let end = go(&mut world);
    log_links(&mut world);
    let verdict = match end {
        // A broken rule counts, whatever was looked for when it broke.
        _ if world.ledger.is_broken() => {
            Verdict::Safety { violations: world.ledger.take_violations() }
        }
        Ok(()) => Verdict::Clean,
        Err((rule, node, what)) => {
            let violation = Violation { at: world.now, node, rule, what };
            Verdict::Liveness { violations: vec![violation] }
        }
    };
    if verdict != Verdict::Clean {
        log!(world, None, "{verdict:?}");
    }
    for index in 0..world.stations.len() {
        if let Some(mesh) = world.mesh(index) {
            mesh.check_invariants();
        }
    }
    let now = world.now;
    world.trace.end(now);
    let (hash, faults) = (Some(world.trace.digest()), world.network.tally.clone());
    Played { verdict, hash, events: world.events, faults }
}

/// The links at the end of a run, for the log.
fn log_links<F: Fidelity>(world: &mut World<'_, F>) {
    if !world.log.is_on() {
        return;
    }
    for (index, station) in world.stations.iter().enumerate() {
        let Some(live) = &station.live else { continue };
        for (to, peer) in world.peers.iter().enumerate() {
            for (link, _) in F::mesh(&live.door).links_up(*peer) {
                let path = F::describe_link(&live.door, link);
                world.log.line(world.now, Some(index), format_args!("{link:?} to n{to} {path}"));
            }
        }
    }
}

/// What did not come: the rule, the node, and how it is instead.
pub(crate) type Missing = (&'static str, Option<u16>, String);

/// Chaos, healing, probes, quiet. Stops at the first broken rule.
fn go<F: Fidelity>(world: &mut World<'_, F>) -> Result<(), Missing> {
    let mut well = world.run_until(world.schedule.duration_us * 1_000);
    if !well {
        return Ok(());
    }
    world.heal();
    if world.stations.iter().any(|station| station.hostile.is_some()) {
        besieged(world)?;
        if world.ledger.is_broken() {
            return Ok(());
        }
    }
    let healed_at = world.now;
    await_nothing(world, CONVERGED_WITHIN, apart)?;
    if !world.run_until(world.now.max(healed_at + SETTLED_AFTER)) {
        return Ok(());
    }
    await_nothing(world, (healed_at + CONVERGED_WITHIN).saturating_sub(world.now), apart)?;
    await_nothing(world, LED_WITHIN, unled)?;
    await_nothing(world, QUIET_WITHIN, restless)?;
    log!(world, None, "everybody has found everybody, and rests");
    for (a, b) in pairs(world) {
        for (from, to) in [(a, b), (b, a)] {
            if world.ledger.is_broken() {
                return Ok(());
            }
            let info = world.info(from);
            let Some(live) = &world.stations[from].live else { continue };
            if let Some(task) = world.workload.probe(&info, to as u16, live.host.handle()) {
                world.spawn(from, task);
            }
        }
    }
    await_nothing(world, QUIET_WITHIN, restless)?;
    for (from, service, instances) in served_by_several(world) {
        let info = world.info(from);
        let Some(live) = &world.stations[from].live else { continue };
        let handle = live.host.handle();
        if let Some(task) = world.workload.turns(&info, service, instances, handle) {
            world.spawn(from, task);
            // Where services bound what they are asked, a call may be sent on to another instance.
            if is_bounded(world.schedule) {
                await_nothing(world, QUIET_WITHIN, restless)?;
            }
        }
    }
    await_nothing(world, QUIET_WITHIN, restless)?;
    for turn in turns(world) {
        for index in turn {
            let info = world.info(index);
            let Some(live) = &world.stations[index].live else { continue };
            if let Some(task) = world.workload.probe_events(&info, live.host.handle()) {
                world.spawn(index, task);
            }
        }
        await_nothing(world, QUIET_WITHIN, restless)?;
        if world.ledger.is_broken() {
            return Ok(());
        }
    }
    world.check_events();
    well = world.run_until(world.now + LOOK_EVERY);
    if !well {
        return Ok(());
    }
    // A subscriber may have left just now, as it was planned, by a clock that is slow.
    await_nothing(world, SETTLED_AFTER, apart)?;
    if let Some(token) = world.ledger.open_calls(None).first() {
        return Err(("every call ends", None, format!("call {token} has not ended")));
    }
    if let Err(what) = world.workload.check_healed() {
        world.ledger.violate(None, "the workload's own rules, once healed", what);
    }
    Ok(())
}

/// Whether a service turns away what is too much for it.
fn is_bounded(schedule: &Schedule) -> bool {
    schedule.nodes.iter().any(|node| node.limits.service_running_max > 0)
}

/// Runs until nothing is missing.
pub(crate) fn await_nothing<F: Fidelity>(
    world: &mut World<'_, F>,
    within: u64,
    missing: fn(&World<'_, F>) -> Option<Missing>,
) -> Result<(), Missing> {
    let until = world.now + within;
    while let Some((rule, node, what)) = missing(world) {
        if world.now >= until {
            return Err((rule, node, format!("{what}, {} after it should", seconds(within))));
        }
        if !world.run_until(world.now + LOOK_EVERY) {
            return Ok(());
        }
    }
    Ok(())
}

/// The pairs that at least one side wants connected, and that have a network in common. What a hostile node wants does not
/// count.
pub(crate) fn pairs<F: Fidelity>(world: &World<'_, F>) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (a, station) in world.stations.iter().enumerate() {
        for b in &station.keeps {
            let b = usize::from(*b);
            let wanted_once = b > a || !world.stations[b].keeps.contains(&(a as u16));
            let may_meet = shared_network(&world.networks, a as u16, b as u16).is_some();
            let is_hostile = [a, b].into_iter().any(|node| world.stations[node].hostile.is_some());
            if wanted_once && may_meet && !is_hostile {
                pairs.push((a, b));
            }
        }
    }
    pairs
}

/// Whose turn it is to publish, one after the other: nobody hears two publishers at a time. In a small world that is
/// each alone; in a large one those that are far from each other go together.
fn turns<F: Fidelity>(world: &World<'_, F>) -> Vec<Vec<usize>> {
    let count = world.stations.len();
    if count <= EACH_ALONE_MAX {
        return (0..count).map(|index| vec![index]).collect();
    }
    let hears = |index: usize| {
        let mesh = world.mesh(index).into_iter();
        let peers =
            mesh.flat_map(|mesh| mesh.peers_up().filter_map(|(id, _)| world.roster.find(&id)));
        peers.chain([index])
    };
    let mut turns: Vec<Vec<usize>> = Vec::new();
    // In which turns somebody is heard at each node.
    let mut taken: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); count];
    for index in 0..count {
        let is_free = |turn: &usize| hears(index).all(|at| !taken[at].contains(turn));
        let turn = (0..).find(is_free).expect("one of them is new");
        turns.resize_with(turns.len().max(turn + 1), Vec::new);
        turns[turn].push(index);
        for at in hears(index) {
            taken[at].insert(turn);
        }
    }
    turns
}

/// For each node a service that it does not have itself, that several of its peers have, and that it may call:
/// the node, the service's number, and those peers.
fn served_by_several<F: Fidelity>(world: &World<'_, F>) -> Vec<(usize, u16, Vec<u16>)> {
    let mut found = Vec::new();
    for from in 0..world.stations.len() {
        let Some(mesh) = world.mesh(from) else { continue };
        let number = |path: &str| path.strip_prefix('s').and_then(|n| n.parse::<u16>().ok());
        let mut instances = BTreeMap::<u16, Vec<u16>>::new();
        for (id, document) in mesh.peers_up() {
            let Some(peer) = world.roster.find(&id) else { continue };
            for service in document.into_iter().flat_map(|document| document.services()) {
                if let (Some(number), OfferState::Running) =
                    (number(service.path.path()), service.state)
                {
                    instances.entry(number).or_default().push(peer as u16);
                }
            }
        }
        for (_, path, _) in mesh.services().iter() {
            number(path.path()).map(|own| instances.remove(&own));
        }
        instances.remove(&SINGLE_ACTIVE);
        let may_call = |service| world.rights.as_ref().is_none_or(|r| r.may_call(from, service));
        let several =
            instances.into_iter().find(|(service, peers)| peers.len() > 1 && may_call(*service));
        found.extend(several.map(|(service, peers)| (from, service, peers)));
    }
    found
}

/// What a document lists, without how its reader calls its networks.
fn counted(document: &Document) -> Vec<(EntryKey, String, Option<OfferState>)> {
    let entries = document.entries.iter();
    let entries = entries.map(|(key, entry)| match entry {
        Entry::Service(service) => (*key, service.path.path().to_string(), Some(service.state)),
        Entry::Subscription(offer) => (*key, offer.pattern.without_network().to_string(), None),
    });
    entries.collect()
}

/// A pair that should be connected, and is not, or does not know what the other serves.
fn apart<F: Fidelity>(world: &World<'_, F>) -> Option<Missing> {
    apart_of(world, pairs(world))
}

/// Likewise, of these pairs.
pub(crate) fn apart_of<F: Fidelity>(
    world: &World<'_, F>,
    pairs: Vec<(usize, usize)>,
) -> Option<Missing> {
    for (a, b) in pairs {
        for (from, to) in [(a, b), (b, a)] {
            let node = Some(from as u16);
            let Some((here, there)) = world.mesh(from).zip(world.mesh(to)) else {
                return Some(("everybody runs", node, format!("n{from} or n{to} is down")));
            };
            let id = world.stations[to].id;
            if here.links_up(id).is_empty() {
                let what = format!("n{from} has no link to n{to}");
                return Some(("everybody finds everybody", node, what));
            }
            if let Some(what) = crate::checks::one_link(here, there) {
                let what = format!("n{from} and n{to}: {what}");
                return Some(("exactly one link between a pair", node, what));
            }
            let known = here.peers_up().find(|(peer, _)| *peer == id).and_then(|(_, d)| d);
            let truth = there.document_for(world.stations[from].id);
            let copy = here.replica(id);
            if copy != truth || known.map(counted) != truth.as_ref().map(counted) {
                let what = format!("n{from} does not know what n{to} serves");
                return Some(("directories equal the truth", node, what));
            }
            let version = truth.map_or(0, |truth| truth.version);
            if there.acknowledged(world.stations[from].id) != version {
                let what = format!("n{to} does not know that n{from} knows what it serves");
                return Some(("directories are acknowledged", node, what));
            }
        }
    }
    None
}

/// Nobody is active, though somebody could be.
fn unled<F: Fidelity>(world: &World<'_, F>) -> Option<Missing> {
    world.leaderless().map(|(node, what)| (crate::leases::SOMEBODY, Some(node), what))
}

/// Something that is still going on, or was left behind.
fn restless<F: Fidelity>(world: &World<'_, F>) -> Option<Missing> {
    for (index, station) in world.stations.iter().enumerate() {
        let Some(live) = &station.live else { continue };
        let load = F::mesh(&live.door).load();
        let (readers, slow) = world.ledger.readers(world.life(index));
        let tasks = live.host.tasks().saturating_sub(station.background as usize + readers);
        // One timer looks for peers that nobody holds any more and one at services that were called, rights have an
        // end, and each peer that is connected has a heartbeat.
        let right_timers = if world.rights.is_some() { 1 + world.stations.len() } else { 0 };
        let heartbeats = F::mesh(&live.door).peers_up().count();
        let counts = [
            ("open calls", load.calls_open, 0),
            ("invocations", load.invocations, 0),
            ("dials", load.dials, 0),
            ("queued frames", load.frames_queued, 0),
            ("queued events", load.events_queued, 0),
            ("publications", load.publications, 0),
            ("events not acknowledged", load.events_unacknowledged, 0),
            ("slow subscribers", usize::from(slow), 0),
            ("tasks", tasks, 0),
            ("timers", load.timers, 2 + right_timers + heartbeats + world.lease_timers()),
        ];
        if let Some((what, count, _)) = counts.into_iter().find(|(_, count, max)| count > max) {
            let open = world.ledger.open_calls(Some(world.life(index)));
            let what = format!("n{index} still has {count} {what} (calls not ended: {open:?})");
            return Some(("nothing is left behind", Some(index as u16), what));
        }
        if let Some(what) = unexplained(world, F::mesh(&live.door)) {
            return Some((EXPLAINED, Some(index as u16), format!("n{index} has {what}")));
        }
    }
    None
}

/// A table of a node that has more than its open sessions explain.
fn unexplained<F: Fidelity>(world: &World<'_, F>, mesh: &Mesh) -> Option<String> {
    let (up, others) = (mesh.peers_up().count(), world.stations.len() - 1);
    mesh.bounds().into_iter().find_map(|report| {
        let explained = match report.bound {
            Bound::Links => up,
            Bound::LinksPerPeer => 1,
            Bound::Peers => others,
            Bound::UnverifiedLinks
            | Bound::UnverifiedLinksPerAddress
            | Bound::FramesHeldPerPeer
            | Bound::HeldBytesPerPeer
            | Bound::HeldBytes
            | Bound::Invocations
            | Bound::EventsUnacknowledged => 0,
            _ => return None,
        };
        let used = report.used.filter(|used| *used > explained as u64)?;
        Some(format!("{used} {}, and {explained} are explained", report.bound.name()))
    })
}
