//! Streams of the built-in workload: in some seeds, and few of them.

use super::{DURATION_US, SERVICES, moments, neighbours};
use crate::random::{Stream, exponential};
use crate::schedule::{Deed, Fidelity, NodePlan, Operation, StreamPlan};

/// Puts streams between the other operations, which stay as they are.
pub(super) fn add(
    seed: u64,
    nodes: &[NodePlan],
    fidelity: Fidelity,
    operations: &mut Vec<Operation>,
) {
    let mut draw = Stream::new(seed, 40);
    if !draw.chance(300) {
        return;
    }
    let count = nodes.len() as u64;
    let near = neighbours(nodes);
    let streams = draw.range(1, 40);
    let (items_max, bytes_max) = match fidelity {
        Fidelity::Frames => (draw.pick(&[10, 100, 1_000]), draw.pick(&[0, 500, 20_000])),
        Fidelity::Packets => (draw.pick(&[10, 100]), draw.pick(&[0, 500, 5_000])),
    };
    let pauses = draw.pick(&[0, 300, 800]);
    for at_us in moments(&mut draw, DURATION_US / streams) {
        let node = draw.below(count) as u16;
        let near = &near[usize::from(node)];
        let target = (!near.is_empty() && draw.chance(700)).then(|| draw.pick(near));
        let there = target.map_or(&[][..], |target| &nodes[usize::from(target)].services);
        let service = match there.is_empty() {
            true => draw.below(SERVICES) as u16,
            false => draw.pick(there),
        };
        let items = draw.range(1, items_max) as u32;
        // None takes longer than a few seconds.
        let mut pause = |chance| {
            let ms = exponential(draw.number(), 3_000 / u64::from(items)).min(100) as u32;
            if draw.chance(chance) { ms } else { 0 }
        };
        let (handler_ms, reader_ms) = (pause(pauses), pause(pauses / 2));
        let bytes = draw.below(bytes_max + 1) as u32;
        let cut_after = draw.chance(100).then(|| draw.below(u64::from(items)) as u32);
        let fail_after = draw.chance(100).then(|| draw.range(1, u64::from(items)) as u32);
        let what = Deed::Stream(StreamPlan {
            service,
            target,
            items,
            bytes,
            handler_ms,
            reader_ms,
            cut_after,
            fail_after,
        });
        operations.push(Operation { at_us, node, what });
    }
    operations.sort_by_key(|operation| operation.at_us);
}
