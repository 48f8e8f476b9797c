//! The others are served beside those that stay hostile, once all other faults are over.

use dunlin_core::base::Unit;

use crate::checks::seconds;
use crate::run::{Missing, apart_of, await_nothing, pairs};
use crate::schedule::Latency;
use crate::sometimes;
use crate::world::{Fidelity, World};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// The others have found each other so long after the faults, as if none were hostile.
const CONVERGED_WITHIN: u64 = 135 * SECOND;
/// Links that went silent before the faults ended are gone then, and calls that were open.
const SETTLED_AFTER: u64 = 45 * SECOND;
/// How many rounds of calls there are, and the time between two.
const ROUNDS: u64 = 20;
const ROUND: u64 = 250 * MS;
/// Nothing that a hostile node does makes a call between others take longer than so many of the longest times under way,
/// and this. The call itself takes two.
const WAYS_MAX: u64 = 10;
const ANSWER_WITHIN: u64 = 100 * MS;
/// A node that starts anew has its peers within this, and as many times under way.
const NEWCOMER_WITHIN: u64 = 2 * SECOND;

const ANSWERED: &str = "beside hostile nodes calls are answered in time";
const BOUNDED: &str = "what hostile nodes do is bounded";
pub(crate) const NO_LINK_ENDS: &str = "hostile nodes end no link between others";

/// The longest time under way.
fn slowest(latency: Latency) -> u64 {
    let us = match latency {
        Latency::Constant { us } => us,
        // One in 10^13 takes longer.
        Latency::Exponential { least_us, mean_us } => least_us + 30 * mean_us,
        Latency::Bimodal { fast_us, slow_us, .. } => fast_us.max(slow_us),
    };
    us * 1_000
}

/// All but those that stay hostile find each other and are served, a newcomer gets in, and then nothing is hostile any
/// more.
pub(crate) fn besieged<F: Fidelity>(world: &mut World<'_, F>) -> Result<(), Missing> {
    let under_way = WAYS_MAX * slowest(world.schedule.network.latency);
    await_nothing(world, CONVERGED_WITHIN, |world| apart_of(world, pairs(world)))?;
    if !world.run_until(world.now + SETTLED_AFTER) {
        return Ok(());
    }
    await_nothing(world, CONVERGED_WITHIN, |world| apart_of(world, pairs(world)))?;
    world.besieged = true;
    for _ in 0..ROUNDS {
        for (a, b) in pairs(world) {
            call(world, a, b);
            call(world, b, a);
        }
        let began = world.now;
        if !world.run_until(began + ROUND.max(ANSWER_WITHIN + under_way)) {
            return Ok(());
        }
        if let Some(missing) = unanswered(world, began).or_else(|| unbounded(world)) {
            return Err(missing);
        }
    }
    world.besieged = false;
    newcomer(world, NEWCOMER_WITHIN + under_way)?;
    world.ledger.sometimes(sometimes::BESIEGED);
    for node in 0..world.stations.len() {
        world.turn_back(node, None);
    }
    Ok(())
}

fn call<F: Fidelity>(world: &mut World<'_, F>, from: usize, to: usize) {
    let info = world.info(from);
    let Some(live) = &world.stations[from].live else { return };
    if let Some(task) = world.workload.probe(&info, to as u16, live.host.handle()) {
        world.spawn(from, task);
    }
}

/// A call that is not between hostile nodes and should have ended.
fn unanswered<F: Fidelity>(world: &World<'_, F>, began: u64) -> Option<Missing> {
    let honest = (0..world.stations.len()).filter(|node| world.stations[*node].hostile.is_none());
    honest.into_iter().find_map(|node| {
        let call = *world.ledger.open_calls(Some(world.life(node))).first()?;
        let what = format!("call {call} has no answer after {}", seconds(world.now - began));
        Some((ANSWERED, Some(node as u16), what))
    })
}

/// A bound that a node does not keep.
fn unbounded<F: Fidelity>(world: &World<'_, F>) -> Option<Missing> {
    (0..world.stations.len()).find_map(|node| {
        let bounds = world.mesh(node)?.bounds();
        let is_kept = |used: u64, limit: u64| used <= limit;
        let beyond = bounds.into_iter().find(|report| {
            matches!(report.bound.unit(), Unit::Count | Unit::Bytes)
                && report.used.is_some_and(|used| !is_kept(used, report.limit))
        })?;
        let what = format!("{} is {:?} of {}", beyond.bound.name(), beyond.used, beyond.limit);
        Some((BOUNDED, Some(node as u16), what))
    })
}

/// One that is not hostile starts anew, and finds those that it keeps.
fn newcomer<F: Fidelity>(world: &mut World<'_, F>, within: u64) -> Result<(), Missing> {
    let keeper = pairs(world).into_iter().find_map(|(a, b)| {
        [(a, b), (b, a)].into_iter().find(|(a, b)| world.stations[*a].keeps.contains(&(*b as u16)))
    });
    let Some((node, _)) = keeper else { return Ok(()) };
    world.begin_anew(node);
    if !world.run_until(world.now + within) {
        return Ok(());
    }
    let mine = pairs(world).into_iter().filter(|(a, b)| {
        let keeps =
            |a: &usize, b: &usize| *a == node && world.stations[*a].keeps.contains(&(*b as u16));
        keeps(a, b) || keeps(b, a)
    });
    match apart_of(world, mine.collect()) {
        None => Ok(()),
        Some((rule, node, what)) => {
            Err((rule, node, format!("{what}, {} after it started anew", seconds(within))))
        }
    }
}
