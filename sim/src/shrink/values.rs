//! What can be made shorter, smaller or plainer in a schedule: every duration and size that it names, every
//! choice that has a default, every moment.

use crate::schedule::{
    Action, Call, Deed, Latency, LimitsPlan, NetworkPlan, NodePlan, Publish, Schedule, StreamPlan,
    Subscriber, Trouble,
};

/// One value of a schedule.
enum Value<'a> {
    /// A number that is better small, and may not be below another.
    Small(&'a mut u64, u64),
    /// The same.
    Small32(&'a mut u32, u32),
    /// A number that is better small and best none.
    Optional(&'a mut Option<u32>),
    /// How long something lasts: from, to.
    Span(&'a mut u64, &'a mut u64),
    /// A moment and the one that moves with it: better round.
    Moment(&'a mut u64, Option<&'a mut u64>),
    /// A choice that has a default; says whether it was another.
    Choice(&'a mut dyn FnMut() -> bool),
}

/// How a value can be simpler, the most at first.
const WAYS: usize = 4;

impl Value<'_> {
    /// Makes it simpler in one of the ways. Says whether it is another now.
    fn simplify(self, way: usize) -> bool {
        match self {
            Value::Small(value, least) => smaller(value, least, way),
            Value::Small32(value, least) => {
                let mut wide = u64::from(*value);
                let is_smaller = smaller(&mut wide, least.into(), way);
                *value = wide as u32;
                is_smaller
            }
            Value::Optional(value) => match (value.as_mut(), way) {
                (Some(_), 0) => {
                    *value = None;
                    true
                }
                (Some(number), way) => Value::Small32(number, 0).simplify(way - 1),
                (None, _) => false,
            },
            Value::Span(from, to) => {
                let mut lasts = *to - *from;
                let is_shorter = smaller(&mut lasts, 0, way);
                *to = *from + lasts;
                is_shorter
            }
            Value::Moment(at, with) => {
                let unit = [1_000_000, 100_000, 10_000, 1_000][way];
                let less = *at % unit;
                // What is round already stays.
                *at -= less;
                if let Some(with) = with {
                    *with -= less;
                }
                less > 0
            }
            Value::Choice(to_default) => way == 0 && to_default(),
        }
    }
}

/// To the least, to a half.
fn smaller(value: &mut u64, least: u64, way: usize) -> bool {
    let to = match way {
        0 => least,
        1 => (*value / 2).max(least),
        _ => return false,
    };
    let is_smaller = to < *value;
    if is_smaller {
        *value = to;
    }
    is_smaller
}

fn choice<T: PartialEq>(value: &mut T, default: T, see: &mut dyn FnMut(Value<'_>)) {
    let mut default = Some(default);
    see(Value::Choice(&mut || {
        let is_other = default.as_ref() != Some(value);
        if let (true, Some(default)) = (is_other, default.take()) {
            *value = default;
        }
        is_other
    }));
}

/// Shows all values of a schedule, always in the same order.
fn each(schedule: &mut Schedule, see: &mut dyn FnMut(Value<'_>)) {
    let Schedule { nodes, network, disk_sync, faults, operations, .. } = schedule;
    if !matches!(network.latency, Latency::Constant { .. }) {
        for us in [200, 2_000, 20_000] {
            choice(&mut network.latency, Latency::Constant { us }, see);
        }
    }
    choice(disk_sync, None, see);
    let usual = NetworkPlan::default();
    choice(&mut network.bytes_per_us, usual.bytes_per_us, see);
    choice(&mut network.window_frames, usual.window_frames, see);
    for fault in faults {
        see(Value::Moment(&mut fault.at_us, Some(&mut fault.until_us)));
        see(Value::Span(&mut fault.at_us, &mut fault.until_us));
        match &mut fault.what {
            Trouble::Loss { path, .. } => choice(path, None, see),
            Trouble::Reorder { extra_us, .. }
            | Trouble::Slow { extra_us, .. }
            | Trouble::SlowDisk { extra_us, .. } => {
                see(Value::Small(extra_us, 1));
            }
            Trouble::SlowNode { each_us, .. } => see(Value::Small(each_us, 1)),
            Trouble::Narrow { queue_ms, .. } => see(Value::Small32(queue_ms, 1)),
            Trouble::Clock { by_ms, .. } => {
                let is_back = *by_ms < 0;
                let mut far = by_ms.unsigned_abs();
                see(Value::Small(&mut far, 1));
                *by_ms = if is_back { -(far as i64) } else { far as i64 };
            }
            _ => {}
        }
    }
    for operation in operations {
        see(Value::Moment(&mut operation.at_us, None));
        match &mut operation.what {
            Deed::Call(call) => each_of_call(call, see),
            Deed::Stream(stream) => each_of_stream(stream, see),
            Deed::Publish(publish) => each_of_publish(publish, see),
            Deed::Subscribe(subscriber) => each_of_subscriber(subscriber, see),
            _ => {}
        }
    }
    for NodePlan { subscribers, limits, .. } in nodes {
        subscribers.iter_mut().for_each(|subscriber| each_of_subscriber(subscriber, see));
        let LimitsPlan {
            own_lane_from_bytes,
            calls_served_per_peer_max,
            kept_answers_per_peer_max,
            kept_answer_bytes_per_peer_max,
            calls_waiting_per_peer_max,
            steps_per_input_max,
            protocol_version_max,
            events_unacknowledged_max,
            publications_open_max,
            service_running_max,
            service_waiting_max,
        } = limits;
        for limit in [
            own_lane_from_bytes,
            calls_served_per_peer_max,
            kept_answers_per_peer_max,
            kept_answer_bytes_per_peer_max,
            calls_waiting_per_peer_max,
            steps_per_input_max,
            protocol_version_max,
            events_unacknowledged_max,
            publications_open_max,
            service_running_max,
            service_waiting_max,
        ] {
            // Zero is the default.
            choice(limit, 0, see);
        }
    }
}

fn each_of_call(call: &mut Call, see: &mut dyn FnMut(Value<'_>)) {
    match &mut call.action {
        Action::Sleep { ms } => see(Value::Small32(ms, 0)),
        Action::Relay { target, .. } => choice(target, None, see),
        Action::Echo | Action::Bulk | Action::Refuse | Action::Panic => {}
    }
    choice(&mut call.action, Action::Echo, see);
    see(Value::Optional(&mut call.cancel_after_ms));
    choice(&mut call.minor_least, None, see);
    choice(&mut call.rule, Default::default(), see);
    choice(&mut call.idempotent, false, see);
    choice(&mut call.once, false, see);
    see(Value::Optional(&mut call.hedge_ms));
    see(Value::Small32(&mut call.argument_bytes, 0));
    see(Value::Small32(&mut call.answer_bytes, 0));
    see(Value::Small32(&mut call.timeout_ms, 1));
}

fn each_of_stream(stream: &mut StreamPlan, see: &mut dyn FnMut(Value<'_>)) {
    see(Value::Small32(&mut stream.items, 0));
    see(Value::Small32(&mut stream.bytes, 0));
    see(Value::Small32(&mut stream.handler_ms, 0));
    see(Value::Small32(&mut stream.reader_ms, 0));
    see(Value::Optional(&mut stream.cut_after));
    see(Value::Optional(&mut stream.fail_after));
}

fn each_of_publish(publish: &mut Publish, see: &mut dyn FnMut(Value<'_>)) {
    choice(&mut publish.network, 0, see);
    choice(&mut publish.local, false, see);
    choice(&mut publish.target, None, see);
    choice(&mut publish.one_per_service, false, see);
    see(Value::Optional(&mut publish.confirm_ms));
    see(Value::Optional(&mut publish.patience_ms));
    see(Value::Small32(&mut publish.bytes, 0));
}

fn each_of_subscriber(subscriber: &mut Subscriber, see: &mut dyn FnMut(Value<'_>)) {
    choice(&mut subscriber.network, 0, see);
    choice(&mut subscriber.at_least_one, false, see);
    choice(&mut subscriber.group, None, see);
    choice(&mut subscriber.service, None, see);
    choice(&mut subscriber.queue, 0, see);
    choice(&mut subscriber.drops_oldest, false, see);
    see(Value::Small32(&mut subscriber.stalls_ms, 0));
    see(Value::Small32(&mut subscriber.slow_ms, 0));
    see(Value::Small32(&mut subscriber.each_ms, 0));
    see(Value::Optional(&mut subscriber.lasts_ms));
}

/// How many simpler schedules there may be.
pub(super) fn count(schedule: &Schedule) -> usize {
    let mut values = 0;
    each(&mut schedule.clone(), &mut |_| values += 1);
    values * WAYS
}

/// The schedule with one value simpler; nothing, if it cannot be simpler in this way.
pub(super) fn simpler(schedule: &Schedule, index: usize) -> Option<Schedule> {
    let (wanted, way) = (index / WAYS, index % WAYS);
    let mut schedule = schedule.clone();
    let (mut at, mut is_simpler) = (0, false);
    each(&mut schedule, &mut |value| {
        if at == wanted {
            is_simpler = value.simplify(way);
        }
        at += 1;
    });
    schedule.operations.sort_by_key(|operation| operation.at_us);
    schedule.faults.sort_by_key(|fault| fault.at_us);
    is_simpler.then_some(schedule)
}

/// All moments at which something begins or ends, and the end.
fn moments(schedule: &Schedule) -> Vec<u64> {
    let operations = schedule.operations.iter().map(|operation| operation.at_us);
    let faults = schedule.faults.iter().flat_map(|fault| [fault.at_us, fault.until_us]);
    let mut moments: Vec<u64> = operations.chain(faults).chain([0, schedule.duration_us]).collect();
    moments.sort_unstable();
    moments.dedup();
    moments
}

/// In how many ways something may come sooner.
pub(super) fn gaps(schedule: &Schedule) -> usize {
    (moments(schedule).len() - 1) * 2
}

/// The schedule with nothing, or half, of the time between two moments.
pub(super) fn sooner(schedule: &Schedule, index: usize) -> Option<Schedule> {
    let moments = moments(schedule);
    let (before, behind) = (moments[index / 2], moments[index / 2 + 1]);
    let less = (behind - before).div_ceil(index as u64 % 2 + 1);
    let mut schedule = schedule.clone();
    let Schedule { operations, faults, duration_us, .. } = &mut schedule;
    let operations = operations.iter_mut().map(|operation| &mut operation.at_us);
    let faults = faults.iter_mut().flat_map(|fault| [&mut fault.at_us, &mut fault.until_us]);
    for moment in operations.chain(faults).chain([duration_us]).filter(|at| **at > before) {
        *moment -= less;
    }
    Some(schedule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::draw;
    use crate::schedule::{Crypto, Fidelity};

    #[test]
    fn simplifying_ends_and_every_step_is_a_schedule() {
        let mut schedule = draw(2, Fidelity::Frames, Crypto::Null);
        schedule.operations.truncate(12);
        let mut steps = 0;
        while let Some(next) = (0..count(&schedule)).find_map(|index| simpler(&schedule, index)) {
            assert_ne!(next, schedule);
            assert_eq!(Schedule::from_json(&next.to_json()).as_ref(), Ok(&next));
            schedule = next;
            steps += 1;
            assert!(steps < 10_000, "it goes in a circle");
        }
        assert!(steps > 20, "{steps}");
        assert!(schedule.operations.iter().all(|operation| operation.at_us % 1_000_000 == 0));
        assert!(schedule.faults.iter().all(|fault| fault.until_us == fault.at_us));
    }
}
