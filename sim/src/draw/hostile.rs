//! In some seeds up to a third of the nodes turn against the others.

use super::{DURATION_US, MS, SECOND};
use crate::random::{Stream, exponential};
use crate::schedule::{Attack, Fault, Fidelity, Trouble};

/// A hostile node that lasts goes on for longer than the rest of a run.
const LASTS_US: u64 = 3_600 * SECOND;

pub(super) fn trouble(draw: &mut Stream, node: u16) -> Trouble {
    let attack = draw.pick(&Attack::ALL);
    let every_us = draw.pick(&[10 * MS, 50 * MS, 200 * MS]);
    Trouble::Hostile { node, attack, every_us }
}

/// Adds hostile nodes. They are never so many that those which choose by majority have lost it.
pub(super) fn add(seed: u64, count: u16, fidelity: Fidelity, faults: &mut Vec<Fault>) {
    let mut draw = Stream::new(seed, 26);
    if fidelity != Fidelity::Frames || !draw.chance(200) {
        return;
    }
    let most = u64::from((count / 3).max(1));
    let hostile = draw.range(1, most);
    let first = draw.below(u64::from(count)) as u16;
    for n in 0..hostile as u16 {
        let node = (first + n) % count;
        let at_us = draw.range(SECOND, DURATION_US - 10 * SECOND);
        let until_us = match draw.chance(500) {
            true => DURATION_US + LASTS_US,
            false => {
                (at_us + SECOND + exponential(draw.number(), 15 * SECOND)).min(DURATION_US - SECOND)
            }
        };
        faults.push(Fault { at_us, until_us, what: trouble(&mut draw, node) });
    }
    faults.sort_by_key(|fault| fault.at_us);
}
