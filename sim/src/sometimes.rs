//! Rare states: what should happen sometimes, and counts how often it did.
//!
//! A check that never meets the state it is for proves nothing. The world and workloads say when such a state is
//! reached; a campaign counts, and names those that it never reached: then its seeds, or its faults, are too tame.
//! The idea is FoundationDB's test probes and Antithesis' *sometimes assertions*.

use std::collections::BTreeMap;

/// How often each rare state was reached, by its name. One that was looked for and never reached has 0.
pub type Reached = BTreeMap<String, u64>;

pub(crate) const SUPERSEDED: &str = "a link was superseded";
pub(crate) const SUPERSEDED_IN_CALL: &str = "a link was superseded while calls were open";
pub(crate) const SUPERSEDED_IN_EVENT: &str = "a link was superseded while events were under way";
pub(crate) const CRASHED_IN_RUN: &str = "a node died while handlers ran";
pub(crate) const CRASHED_IN_CALL: &str = "a node died while its calls were open";
pub(crate) const CRASHED_IN_EVENT: &str = "a node died with events that were not acknowledged";
pub(crate) const STOPPED_IN_RUN: &str = "a node was told to stop while handlers ran";
pub(crate) const SEVERAL_DOWN: &str = "several nodes were down at once";
pub(crate) const LONG_PAUSE: &str = "a pause outlasted every link";
pub(crate) const PAUSED_IN_STOP: &str = "a node was paused while it stopped";
pub(crate) const BEGAN_ANEW: &str = "a node was told that it had forgotten its life";
pub(crate) const REFUSED: &str = "a peer refused a node";
pub(crate) const CLAIM_IGNORED: &str = "a claim without a right was ignored";
pub(crate) const RIGHT_ENDED: &str = "a peer's right ended while it was connected";
pub(crate) const NETWORK_ENDED: &str = "a node's own right ended";
pub(crate) const OUTDATED: &str = "a node was told that its descriptor is old";
pub(crate) const RUN_CANCELLED: &str = "a handler ran for nobody any more";
pub(crate) const MADE_AGAIN: &str = "a call was made again";
pub(crate) const HEDGED: &str = "a call that waited was asked of a second instance";
pub(crate) const TURNED_AWAY: &str = "an overloaded service turned a call away";
pub(crate) const RAN_TWICE: &str = "an idempotent call ran again";
pub(crate) const RAN_IN_DOUBT: &str = "a call had run, and its caller could not know";
pub(crate) const UNRUN_IN_DOUBT: &str = "a call had not run, and its caller could not know";
pub(crate) const RAN_LATE: &str = "a call ran after its caller had given up";
pub(crate) const EVENTS_LOST: &str = "events ended with a life";
pub(crate) const WAITED_FOR_ROOM: &str = "a publisher waited for room";
pub(crate) const MISSED: &str = "a subscriber was told what it missed";
pub(crate) const REDELIVERED: &str = "an event came again, and said so";
pub(crate) const GROUP_WITHOUT: &str = "no member of a group took an event";
pub(crate) const UNDECIDED: &str = "the time was over before an event was decided";
pub(crate) const MEMBER_LEFT: &str = "a member of a group left";
pub(crate) const CRASHED_IN_SYNC: &str = "a node died before what it stored was durable";
pub(crate) const STORE_FAILED: &str = "a node stopped because its store failed";

pub(crate) const BESIEGED: &str = "nodes were served beside hostile ones";
pub(crate) const TOOK_OVER: &str = "a standby took over";
pub(crate) const NOT_ACTIVE: &str = "a call ended because nobody was active";
pub(crate) const FENCED_OFF: &str = "a fence kept an earlier holder out";

/// What every world looks for.
pub const OF_THE_WORLD: [&str; 37] = [
    TOOK_OVER,
    NOT_ACTIVE,
    FENCED_OFF,
    SUPERSEDED,
    SUPERSEDED_IN_CALL,
    SUPERSEDED_IN_EVENT,
    CRASHED_IN_RUN,
    CRASHED_IN_CALL,
    CRASHED_IN_EVENT,
    STOPPED_IN_RUN,
    SEVERAL_DOWN,
    CRASHED_IN_SYNC,
    STORE_FAILED,
    LONG_PAUSE,
    PAUSED_IN_STOP,
    BEGAN_ANEW,
    REFUSED,
    CLAIM_IGNORED,
    RIGHT_ENDED,
    NETWORK_ENDED,
    OUTDATED,
    RUN_CANCELLED,
    MADE_AGAIN,
    HEDGED,
    TURNED_AWAY,
    RAN_TWICE,
    RAN_IN_DOUBT,
    UNRUN_IN_DOUBT,
    RAN_LATE,
    EVENTS_LOST,
    WAITED_FOR_ROOM,
    MISSED,
    REDELIVERED,
    GROUP_WITHOUT,
    UNDECIDED,
    MEMBER_LEFT,
    BESIEGED,
];

/// Counts rare states while a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Sometimes {
    counts: BTreeMap<&'static str, u64>,
}

impl Sometimes {
    /// It has happened.
    pub(crate) fn reach(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// What was reached, and of what is looked for what was not.
    pub(crate) fn reached(&self, of_workload: &[&'static str]) -> Reached {
        let all = OF_THE_WORLD.iter().chain(of_workload).map(|what| (what.to_string(), 0));
        let mut reached: Reached = all.collect();
        for (what, count) in &self.counts {
            *reached.entry(what.to_string()).or_default() += count;
        }
        reached
    }
}

/// Adds what another run has reached.
pub fn add(sum: &mut Reached, other: &Reached) {
    for (what, count) in other {
        *sum.entry(what.clone()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_reached_is_named() {
        let mut sometimes = Sometimes::default();
        sometimes.reach(SUPERSEDED);
        sometimes.reach("my own");
        sometimes.reach("my own");
        let reached = sometimes.reached(&["my own", "my other"]);
        assert_eq!(reached.len(), OF_THE_WORLD.len() + 2);
        assert_eq!((reached["my own"], reached["my other"], reached[SUPERSEDED]), (2, 0, 1));
        let mut sum = reached.clone();
        add(&mut sum, &reached);
        assert_eq!((sum["my own"], sum["my other"]), (4, 0));
    }
}
