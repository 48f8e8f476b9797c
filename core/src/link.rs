//! The seam between the mesh and whatever carries its frames.
//!
//! A *link* is an authenticated, encrypted connection to one peer. A *lane* is an ordered channel in
//! one direction on a link, opened by whoever sends on it. Everything that crosses the seam is an
//! owned value, so that it can be recorded, replayed and simulated.
//!
//! A transport tells the mesh what happened with [`LinkInput`], does what [`LinkCommand`] asks, and
//! *pulls* frames from a [`FrameSource`] when it has room for them: what it has not pulled can
//! still be taken back, and is known not to have been sent.

use std::net::SocketAddr;

use bytes::Bytes;
use dunlin_proto::Frame;

use crate::base::PeerId;

/// Names one link for as long as it is up. Chosen by the transport, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkHandle(pub u64);

impl std::fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "link {}", self.0)
    }
}

/// Names one attempt to connect. Chosen by the mesh, strictly growing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialHandle(pub u64);

impl std::fmt::Debug for DialHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "dial {}", self.0)
    }
}

/// Which end of a link somebody is, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// This node.
    Here,
    /// The peer.
    There,
}

/// What both peers call one link between them.
///
/// The dialler numbers its dials; numbers grow strictly within an incarnation, so an id is never used
/// twice. On the wire it says who dialled from the sender's point of view.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId {
    /// Who dialled.
    pub dialler: End,
    /// The counter of the dialler's incarnation.
    pub counter: u64,
    /// The dialler's number of the dial, from 1.
    pub number: u64,
}

impl std::fmt::Debug for LinkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = match self.dialler {
            End::Here => "our",
            End::There => "its",
        };
        write!(f, "{who} dial {} of life {}", self.number, self.counter)
    }
}

/// How many frames one end has sent on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sent {
    /// On the control lane and on each shared lane.
    pub lanes: [u64; 1 + Lane::SHARED as usize],
    /// On lanes of their own, as far as they were not reset.
    pub own: u64,
}

/// An ordered channel on a link, from the side that opened it to the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u64);

impl Lane {
    /// Handshake, directory: what keeps the link itself going.
    pub const CONTROL: Lane = Lane(0);
    /// How many lanes small calls, their answers and events share.
    pub const SHARED: u64 = 4;
    /// The first lane that belongs to one large message. Each is used for one message and ended.
    pub const OWN_FROM: u64 = 8;

    /// The shared lane for everything with this hash.
    pub fn shared(hash: u64) -> Lane {
        Lane(1 + hash % Lane::SHARED)
    }

    /// Whether it carries one message and ends.
    pub fn is_own(self) -> bool {
        self.0 >= Lane::OWN_FROM
    }

    /// Whether this number means a lane: those between the shared and the own lanes do not.
    pub fn is_legal(self) -> bool {
        self.0 <= Lane::SHARED || self.is_own()
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => write!(f, "control"),
            n if n <= Lane::SHARED => write!(f, "shared {n}"),
            n => write!(f, "own {n}"),
        }
    }
}

/// Who opened a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// We did, by this dial.
    Dialled(DialHandle),
    /// The peer did.
    Accepted,
}

/// Why a link is no longer there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DownReason {
    /// The peer closed it with this code.
    ClosedByPeer(CloseCode),
    /// The transport heard nothing for too long.
    TimedOut,
    /// The peer no longer knows the link: it restarted.
    Reset,
    /// We asked for it with [`LinkCommand::Close`].
    ClosedHere,
    /// The peer broke the rules of the transport, or the transport failed.
    Failed(String),
}

impl std::fmt::Display for DownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DownReason::ClosedByPeer(code) => write!(f, "closed by the peer: {code}"),
            DownReason::TimedOut => write!(f, "nothing heard for too long"),
            DownReason::Reset => write!(f, "the peer no longer knows the link"),
            DownReason::ClosedHere => write!(f, "closed here"),
            DownReason::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// Why a dial led to no link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError {
    /// Nobody answered at any of the addresses.
    TimedOut,
    /// Whoever answered holds another key.
    WrongPeer,
    /// Whoever answered refused the connection.
    Refused(String),
    /// The dial could not be made: no usable address, or no room.
    Unusable(String),
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DialError::TimedOut => write!(f, "nobody answered"),
            DialError::WrongPeer => write!(f, "whoever answered is another peer"),
            DialError::Refused(why) => write!(f, "refused: {why}"),
            DialError::Unusable(why) => write!(f, "cannot be dialled: {why}"),
        }
    }
}

/// The code with which a link is closed. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u32);

impl CloseCode {
    /// The node stops.
    pub const SHUTDOWN: CloseCode = CloseCode(0);
    /// The user asked for it.
    pub const DISCONNECTED: CloseCode = CloseCode(1);
    /// The handshake did not end in time.
    pub const HANDSHAKE_TIMEOUT: CloseCode = CloseCode(3);
    /// The peer sent what the protocol does not allow.
    pub const PROTOCOL_FAULT: CloseCode = CloseCode(4);
    /// The peer has a newer incarnation; this link is of the old one.
    pub const OLD_INCARNATION: CloseCode = CloseCode(5);
    /// There are too many links.
    pub const TOO_MANY_LINKS: CloseCode = CloseCode(6);
    /// Another link to the same peer stays, and everything sent on this one has come.
    pub const SUPERSEDED: CloseCode = CloseCode(7);
    /// The peer said that it has given this link up.
    pub const ABANDONED: CloseCode = CloseCode(8);
    /// Another link stays, and what was sent on this one could not be awaited.
    pub const DRAIN_FAILED: CloseCode = CloseCode(9);
    /// The node begins a new life.
    pub const NEW_LIFE: CloseCode = CloseCode(10);
    /// What the node said of itself on this link has changed.
    pub const GREET_ANEW: CloseCode = CloseCode(11);
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            CloseCode::SHUTDOWN => write!(f, "the node stops"),
            CloseCode::DISCONNECTED => write!(f, "disconnected on request"),
            CloseCode::HANDSHAKE_TIMEOUT => write!(f, "handshake not finished in time"),
            CloseCode::PROTOCOL_FAULT => write!(f, "protocol fault"),
            CloseCode::OLD_INCARNATION => write!(f, "link of an old incarnation"),
            CloseCode::TOO_MANY_LINKS => write!(f, "too many links"),
            CloseCode::SUPERSEDED => write!(f, "another link stays"),
            CloseCode::ABANDONED => write!(f, "given up by the other end"),
            CloseCode::DRAIN_FAILED => write!(f, "another link stays; this one did not drain"),
            CloseCode::GREET_ANEW => write!(f, "greet it anew: its rights have changed"),
            CloseCode::NEW_LIFE => write!(f, "the node begins a new life"),
            CloseCode(other) => write!(f, "code {other}"),
        }
    }
}

/// What a transport tells the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkInput {
    /// A link is up. The transport has proved that the other end holds `peer`'s key.
    Up {
        /// The new link.
        link: LinkHandle,
        /// Who is at its other end.
        peer: PeerId,
        /// Who opened it.
        direction: Direction,
        /// Where the peer is, if the transport has addresses.
        remote: Option<SocketAddr>,
    },
    /// A whole frame arrived, without its length prefix. Frames of one lane come in their order.
    Frame {
        /// On this link.
        link: LinkHandle,
        /// On this lane of the peer's.
        lane: Lane,
        /// As [`dunlin_proto::FrameView::decode`] reads it.
        frame: Bytes,
    },
    /// The link is gone. Nothing more comes from it.
    Down {
        /// The link that is gone.
        link: LinkHandle,
        /// Why.
        reason: DownReason,
    },
    /// A dial has failed. It leads to no link any more.
    DialFailed {
        /// The dial that failed.
        dial: DialHandle,
        /// Why.
        error: DialError,
    },
}

/// What the mesh asks of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkCommand {
    /// Connect to `peer`, trying the addresses. Ends in [`LinkInput::Up`] or
    /// [`LinkInput::DialFailed`].
    Dial {
        /// Names the attempt.
        dial: DialHandle,
        /// Only this key will do.
        peer: PeerId,
        /// Where it may be.
        addresses: Vec<SocketAddr>,
    },
    /// Give up a dial. Nothing answers it any more, but a link may have come up already.
    CancelDial {
        /// The dial.
        dial: DialHandle,
    },
    /// Close a link, telling the peer. The mesh forgets the link at once; a [`LinkInput::Down`] for it
    /// is ignored.
    Close {
        /// The link.
        link: LinkHandle,
        /// Sent to the peer.
        code: CloseCode,
        /// Whether frames that were pulled are to be delivered first, if that takes no longer than
        /// [`FLUSH_MAX`]. Otherwise the link is closed now.
        flush: bool,
    },
    /// There are frames to pull for this link. Said once, until all were pulled.
    FramesReady {
        /// The link.
        link: LinkHandle,
    },
    /// The peer's greeting was accepted. Before that a transport should take little from the other end: the control lane
    /// alone, and a small window.
    Trust {
        /// The link.
        link: LinkHandle,
    },
    /// Give up an own lane whose message is no longer wanted. What was not sent need not be.
    ResetLane {
        /// On this link.
        link: LinkHandle,
        /// One of our own lanes.
        lane: Lane,
    },
}

/// How long a link that is closed gracefully may take to deliver what was pulled. A guess: three
/// probe time-outs of a slow path.
pub const FLUSH_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// Where a transport pulls frames from.
pub trait FrameSource {
    /// The first lane at or after `from` that has frames to send on this link.
    fn next_lane(&self, link: LinkHandle, from: Lane) -> Option<Lane>;

    /// Takes the next frame of a lane. From now on it counts as sent: it may have been executed.
    ///
    /// An own lane carries one frame; the transport ends the lane behind it.
    fn pull_frame(&mut self, link: LinkHandle, lane: Lane) -> Option<Frame>;
}
