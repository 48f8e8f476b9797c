//! Planted bugs: one-line mutations that prove that the simulator finds what it claims to find.
//!
//! They compile only under `--cfg dunlin_planted`, in a target directory of their own, and are chosen at
//! run time by number. In every other build nothing of them is left.
//!
//! | number | what is wrong |
//! | --- | --- |
//! | 1 | a callee runs a number that has come before again |
//! | 2 | a caller gives its open calls new numbers when a link comes back |
//! | 3 | calls under way to a peer that restarted are said not to have run |
//! | 4 | the deadline of a call is not watched |
//! | 5 | an answer is that of the caller's oldest kept call |
//! | 6 | who cannot be dialled is not dialled again |
//! | 7 | what a peer served is not forgotten when its life ends |
//! | 8 | a call that was sent and given up is said not to have run |
//! | 60 | updates of a document are applied in whatever order they come |
//! | 61 | an acknowledgement counts for whatever was sent last |
//! | 62 | what some updates add is lost, and digests are not looked at |
//! | 63 | entries that are not listed any more are kept |
//! | 64 | some updates are lost, and nobody asks for what is missing |
//! | 65 | calls in turn go to the same instance |
//! | 66 | the version that a call asks for is not looked at |
//! | 67 | nobody else is known to serve anything |

/// All numbers.
pub const PLANTED: [std::ops::RangeInclusive<u32>; 2] = [1..=8, 60..=67];

#[cfg(dunlin_planted)]
static CHOSEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Chooses the bug of this process; zero for none.
#[cfg(dunlin_planted)]
pub fn set(number: u32) {
    CHOSEN.store(number, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(dunlin_planted)]
pub(crate) fn is_planted(number: u32) -> bool {
    CHOSEN.load(std::sync::atomic::Ordering::Relaxed) == number
}

#[cfg(not(dunlin_planted))]
pub(crate) const fn is_planted(_number: u32) -> bool {
    false
}
