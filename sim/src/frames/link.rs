//! A link, and where its two ends are: each has its own view, as each hears of the other only what arrives.

use std::collections::BTreeMap;

use bytes::Bytes;
use dunlin_core::link::{CloseCode, DialHandle, Lane, LinkHandle};

/// Where one end of a link is.
#[derive(Debug)]
pub(super) enum State {
    /// Nobody has heard of it here.
    Unknown,
    /// It was dialled where this node no longer is, and hears nothing of it.
    Nowhere,
    /// We dial.
    Dialling(DialHandle),
    /// We have answered a dial.
    Answered,
    Up,
    /// Held open by hand, by a hostile node, without its mesh.
    Raw,
    /// Closed by us; what was pulled still goes out.
    Flushing(CloseCode),
    /// Closed by us.
    Closed {
        code: CloseCode,
        until: u64,
    },
    /// Forgotten.
    Gone,
}

/// The receiving half of a lane that is shared.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    pub(super) next: u64,
    /// What came too early. Mostly nothing did, and that is one word then.
    #[allow(clippy::box_collection)]
    pub(super) early: Option<Box<BTreeMap<u64, Bytes>>>,
}

/// One end of a link.
#[derive(Debug)]
pub(super) struct End {
    pub(super) station: usize,
    pub(super) state: State,
    /// When something was heard of the other end; of one that dials, when that began.
    pub(super) heard: u64,
    pub(super) receiving: [Receiving; 1 + Lane::SHARED as usize],
    pub(super) sent: [u64; 1 + Lane::SHARED as usize],
    pub(super) in_flight: u32,
    /// The mesh has frames that were not pulled.
    pub(super) ready: bool,
}

impl End {
    pub(super) fn new(station: usize, state: State, now: u64) -> Self {
        End {
            station,
            state,
            heard: now,
            receiving: Default::default(),
            sent: Default::default(),
            in_flight: 0,
            ready: false,
        }
    }

    /// The number of the next frame on a lane. Lanes of their own have one frame.
    pub(super) fn next_order(&mut self, lane: Lane) -> u64 {
        match self.sent.get_mut(lane.0 as usize) {
            Some(sent) => {
                *sent += 1;
                *sent - 1
            }
            None => 0,
        }
    }
}

/// A link, or the attempt at one.
pub(super) struct Link {
    /// Who dialled is first.
    pub(super) ends: [End; 2],
}

/// What the mesh at an end calls its link.
pub(super) fn handle(link: u32, end: usize) -> LinkHandle {
    LinkHandle(u64::from(link) * 2 + end as u64 + 1)
}

/// The link, and which end of it, that a mesh calls so.
pub(super) fn ends_of(handle: LinkHandle) -> (u32, usize) {
    (((handle.0 - 1) / 2) as u32, ((handle.0 - 1) % 2) as usize)
}
