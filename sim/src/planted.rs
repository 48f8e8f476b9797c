//! Planted bugs of what plays a part beside the nodes: see `dunlin_core::planted`.

/// Whether this bug is on.
#[cfg(dunlin_planted)]
pub(crate) fn is_planted(number: u32) -> bool {
    dunlin_core::planted::chosen() == number
}

/// Whether this bug is on: never, in this build.
#[cfg(not(dunlin_planted))]
pub(crate) const fn is_planted(_number: u32) -> bool {
    false
}
