//! The network of an exploration: links whose lanes are ordered and whose ends each notice for themselves what
//! becomes of them. No time: whatever may happen next can happen next.

use std::collections::VecDeque;

use dunlin_core::base::Incarnation;
use dunlin_core::link::{CloseCode, End, Lane, LinkId, Sent};
use dunlin_core::wire::Hello;

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Frame {
    Hello(Box<Hello>),
    Claims {
        id: LinkId,
        receiver_boot: u64,
    },
    Confirm {
        version: u32,
        id: LinkId,
        receiver_boot: u64,
    },
    Refuse {
        code: u32,
        /// The life that is shown.
        life: Incarnation,
    },
    Supersede {
        loser: LinkId,
        sent: Sent,
    },
    Drained {
        loser: LinkId,
        sent: Sent,
    },
    Cut {
        from: LinkId,
        frames: u64,
    },
    /// A frame of the application, by its number.
    App(u8),
}

fn turn(mut id: LinkId) -> LinkId {
    id.dialler = if id.dialler == End::Here { End::There } else { End::Here };
    id
}

impl Frame {
    /// As the other end reads it.
    pub(super) fn at_the_other_end(self) -> Frame {
        match self {
            Frame::Hello(mut hello) => {
                hello.link = turn(hello.link);
                hello.abandons = hello.abandons.into_iter().map(turn).collect();
                Frame::Hello(hello)
            }
            Frame::Confirm { version, id, receiver_boot } => {
                Frame::Confirm { version, id: turn(id), receiver_boot }
            }
            Frame::Claims { id, receiver_boot } => Frame::Claims { id: turn(id), receiver_boot },
            Frame::Supersede { loser, sent } => Frame::Supersede { loser: turn(loser), sent },
            Frame::Drained { loser, sent } => Frame::Drained { loser: turn(loser), sent },
            Frame::Cut { from, frames } => Frame::Cut { from: turn(from), frames },
            other => other,
        }
    }
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Frame::Hello(hello) => {
                write!(f, "Hello({:?}", hello.link)?;
                if !hello.abandons.is_empty() {
                    write!(f, ", abandons {:?}", hello.abandons)?;
                }
                write!(f, ")")
            }
            Frame::Claims { .. } => write!(f, "Claims"),
            Frame::Confirm { .. } => write!(f, "Confirm"),
            Frame::Refuse { life, .. } => write!(f, "Refuse(shows {life:?})"),
            Frame::Supersede { loser, .. } => write!(f, "Supersede({loser:?})"),
            Frame::Drained { loser, .. } => write!(f, "Drained({loser:?})"),
            Frame::Cut { from, frames } => write!(f, "Cut({frames} on {from:?})"),
            Frame::App(number) => write!(f, "frame {number}"),
        }
    }
}

/// The lanes that the exploration uses: control and one shared lane.
pub(super) const LANES: [Lane; 2] = [Lane::CONTROL, Lane(1)];

/// Where one end of a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Nothing was heard of it here.
    Unknown,
    Dialling,
    Up,
    /// Closed by its machine; the other end may hear of that.
    Closed(CloseCode),
    Gone,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Link {
    /// Which node dialled.
    pub(super) dialler: usize,
    /// By node.
    pub(super) ends: [Stage; 2],
    /// What each node has sent and the other has not got, by lane.
    pub(super) under_way: [[VecDeque<Frame>; 2]; 2],
    /// Nothing gets through any more: sooner or later each end notices.
    pub(super) dead: bool,
    /// By node and lane: what it sends comes no more, and yet the link lives.
    pub(super) stalled: [[bool; 2]; 2],
}

impl Link {
    pub(super) fn new(dialler: usize) -> Link {
        let mut ends = [Stage::Unknown; 2];
        ends[dialler] = Stage::Dialling;
        Link { dialler, ends, under_way: Default::default(), dead: false, stalled: [[false; 2]; 2] }
    }

    /// Whether an end may notice that the link is dead: nothing comes, or the other end knows it no more.
    pub(super) fn may_die(&self, node: usize) -> bool {
        self.ends[node] == Stage::Up && (self.dead || self.ends[1 - node] == Stage::Gone)
    }

    /// Whether a lane of it is stalled.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.iter().flatten().any(|stalled| *stalled)
    }

    /// Forgets what can arrive nowhere, and all of a link that is over at both ends.
    pub(super) fn tidy(&mut self) {
        for node in 0..2 {
            let deaf = matches!(self.ends[1 - node], Stage::Closed(_) | Stage::Gone);
            if deaf || self.dead {
                self.under_way[node].iter_mut().for_each(VecDeque::clear);
            }
        }
        let over = |stage: Stage| matches!(stage, Stage::Closed(_) | Stage::Gone);
        let never = |node: usize| {
            self.ends[node] == Stage::Unknown
                && self.under_way[1 - node].iter().all(VecDeque::is_empty)
        };
        if (0..2).all(|node| over(self.ends[node]) || never(node)) {
            self.ends = [Stage::Gone; 2];
            self.dead = false;
            self.stalled = [[false; 2]; 2];
        }
    }
}
