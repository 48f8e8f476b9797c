//! What a peer's machine is told, what it waits for, and what it wants done.

use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::LifeRecord;
use crate::base::Incarnation;
use crate::directory::Document;
use crate::link::{CloseCode, DialError, DialHandle, Direction, DownReason, LinkHandle, LinkId};
use crate::peer::RefuseCode;
use crate::wire::Hello;

/// What can happen to a peer.
#[derive(Clone, Debug)]
pub enum PeerInput {
    /// Stay connected to it, dialling these addresses, or waiting for it if there are none.
    Keep {
        /// Where it may be. Replaces what was known.
        addresses: Vec<SocketAddr>,
    },
    /// Close its links and do not dial it any more.
    Release,
    /// The transport has a link.
    LinkUp {
        /// The link.
        link: LinkHandle,
        /// Who opened it.
        direction: Direction,
    },
    /// Its Hello came.
    Hello {
        /// On this link.
        link: LinkHandle,
        /// The Hello.
        hello: Box<Hello>,
    },
    /// Its Claims came, and give it a right to talk to us.
    Claims {
        /// On this link.
        link: LinkHandle,
        /// The link that they name.
        id: LinkId,
        /// The boot number of our life to which they are shown.
        receiver_boot: u64,
    },
    /// Its Confirm came.
    Confirm {
        /// On this link.
        link: LinkHandle,
        /// The version that it chose.
        version: u32,
        /// What it serves.
        directory: Document,
        /// The link that it confirms.
        id: LinkId,
        /// The boot number of our life that it confirms.
        receiver_boot: u64,
    },
    /// It refuses our handshake.
    Refuse {
        /// On this link.
        link: LinkHandle,
        /// Why: a [`RefuseCode`], or one of a later version.
        code: u32,
        /// A life of ours that it knows, if that is why and our key has signed it.
        proved: Option<Incarnation>,
    },
    /// It says that another link is superseded by this one.
    Supersede {
        /// On this link.
        link: LinkHandle,
        /// The link that is drained.
        loser: LinkId,
    },
    /// Everything has come that the peer ever sends on a link that is drained.
    AllReceived(LinkHandle),
    /// A link that is drained cannot be awaited.
    DrainFailed(LinkHandle),
    /// Its Hello or its Claims came on this link and give it no right to talk to us.
    TurnAway {
        /// The link.
        link: LinkHandle,
        /// For the peer.
        code: RefuseCode,
        /// For the log.
        why: String,
    },
    /// What our Claims show has changed: greet it anew. On another link, which replaces those that there are,
    /// if it can be dialled; otherwise its links are closed, and it greets us if it wants one.
    GreetAnew,
    /// It has lost its right to talk to us.
    Expel {
        /// For the peer.
        code: RefuseCode,
    },
    /// It broke the protocol on this link.
    Fault {
        /// The link.
        link: LinkHandle,
        /// What it did.
        what: String,
    },
    /// The link is gone.
    LinkDown {
        /// The link.
        link: LinkHandle,
        /// Why.
        reason: DownReason,
    },
    /// A dial led nowhere.
    DialFailed {
        /// The dial.
        dial: DialHandle,
        /// Why.
        error: DialError,
    },
    /// This node has begun a new life: all links are of the old one.
    NewLife,
    /// A timer of ours.
    Timer(PeerTimer),
}

/// What a peer's machine waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerTimer {
    /// The next dial.
    Redial,
    /// The end of a handshake.
    Handshake(LinkHandle),
    /// What is unfinished on a link that is drained is sent again on the one that stays.
    Drain(LinkHandle),
    /// A link is drained no longer: it is closed.
    DrainEnd(LinkHandle),
}

/// What a peer's machine wants done.
#[derive(Clone, Debug)]
pub enum PeerEffect {
    /// Open a link.
    Dial {
        /// Where it may be.
        addresses: Vec<SocketAddr>,
    },
    /// Stop dialling.
    CancelDial {
        /// The dial.
        dial: DialHandle,
    },
    /// Say Hello on this link.
    SendHello {
        /// The link.
        link: LinkHandle,
        /// What it is called.
        id: LinkId,
        /// Links that are over, whatever the peer believes.
        abandons: Vec<LinkId>,
    },
    /// Show on this link our tokens for the networks that both are in.
    SendClaims {
        /// The link.
        link: LinkHandle,
        /// What it is called.
        id: LinkId,
        /// The peer's life that they are for.
        incarnation: Incarnation,
    },
    /// Confirm this link with this version and our directory. From here on the peer is served.
    SendConfirm {
        /// The link.
        link: LinkHandle,
        /// The version that both speak.
        version: u32,
        /// Whose life the link belongs to.
        incarnation: Incarnation,
        /// What the link is called.
        id: LinkId,
    },
    /// Tell the peer that it lives in the past. It closes the link then.
    SendRefuse {
        /// The link.
        link: LinkHandle,
        /// Why.
        code: RefuseCode,
        /// The latest life of it that we know.
        life: LifeRecord,
    },
    /// From now on send on this link what would have been sent on that one.
    Move {
        /// The link that is left.
        from: LinkHandle,
        /// What it is called.
        from_id: LinkId,
        /// The link that is used.
        to: LinkHandle,
    },
    /// Say on this link that the loser is superseded.
    SendSupersede {
        /// The link that stays.
        on: LinkHandle,
        /// The link that is drained.
        loser: LinkHandle,
        /// What that is called.
        loser_id: LinkId,
    },
    /// Say on this link that the loser is drained at this end.
    SendDrained {
        /// The link that stays.
        on: LinkHandle,
        /// The link that is drained.
        loser: LinkHandle,
        /// What that is called.
        loser_id: LinkId,
    },
    /// The peer uses this link again: the one that should have stayed is gone.
    Undrained(LinkHandle),
    /// Send what is unanswered again: a link that is drained takes long.
    SendAgain,
    /// Close a link.
    Close {
        /// The link.
        link: LinkHandle,
        /// With this code.
        code: CloseCode,
    },
    /// The link is up on both sides.
    LinkReady {
        /// The link.
        link: LinkHandle,
        /// The peer's life.
        incarnation: Incarnation,
        /// Unanswered calls that it lets us have.
        call_credit: u32,
        /// The largest payload it accepts, in bytes.
        message_bytes_max: usize,
        /// What it serves.
        directory: Document,
        /// Whether it is the only one.
        first: bool,
    },
    /// A link that was verified or up is gone.
    LinkLost {
        /// The link.
        link: LinkHandle,
        /// Why.
        reason: DownReason,
        /// Whether no link that is up is left, though this one was.
        last: bool,
        /// Whether it was drained: nothing that was sent on it is in doubt.
        drained: bool,
    },
    /// The peer's earlier life is over: it restarted, or was released.
    SessionEnded,
    /// The peer has proved a later life of this node, and has never met this one: it lost its counter.
    LifeIsStale {
        /// The counter of that life.
        known_counter: u64,
    },
    /// The peer met this life of ours, and has proved a later one: another process lives under our key.
    NewerSelf,
    /// Tell the user: the peer refuses us.
    Refused {
        /// Why.
        why: RefuseCode,
    },
    /// Tell the user: a link is superseded by another one.
    Superseded {
        /// The link that is drained.
        loser: LinkHandle,
        /// The link that stays.
        stays: LinkHandle,
    },
    /// Tell the user: a dial led nowhere.
    DialFailed {
        /// Why.
        error: DialError,
        /// How long until the next one; none if there will be none.
        retry_in: Option<Duration>,
    },
    /// Tell the log: the peer broke a rule.
    Misbehaved {
        /// Which.
        what: String,
    },
}
