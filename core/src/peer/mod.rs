//! One peer's life: dialled, greeted, confirmed, lost, dialled again.
//!
//! A *link* to the peer goes through three states, and only this file changes them:
//!
//! | state | entered when | what is allowed |
//! | --- | --- | --- |
//! | greeting | the transport says the link is up; we send Hello | the peer's Hello |
//! | verified | the peer's Hello is acceptable; we send Confirm | serving the peer's calls |
//! | up | the peer's Confirm has come too | our own calls |
//!
//! A peer that calls has seen our Confirm, so it may be served before its own Confirm has come: that
//! travels on another lane and may be late. A link that is not up within [`HANDSHAKE_MAX`] is closed.
//!
//! The *session* with a peer belongs to its incarnation, not to a link: it begins with the first link
//! that is up, survives any one link's loss as long as the peer's incarnation stays the same, and
//! ends when the peer restarts or is forgotten.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{Effects, Incarnation, Label, PeerId};
use crate::directory::Document;
use crate::link::{CloseCode, DialError, DialHandle, Direction, DownReason, LinkHandle};
use crate::machine::{Context, Machine, TimerHandle};
use crate::planted::is_planted;
use crate::wire::{Hello, VERSION_MAX, VERSION_MIN};

/// From the transport's link-up to both Confirms. Source: protocols.md, section 2.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// The waits before a lost peer is dialled again, each give or take a fifth; after them a probe every
/// [`PROBE_INTERVAL`], give or take a half. Source: protocols.md, section 2.
pub const BACKOFF: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// See [`BACKOFF`].
pub const PROBE_INTERVAL: Duration = Duration::from_secs(60);

/// Why a handshake is refused: the link is closed with [`RefuseCode::as_close`], so that the reason
/// cannot be lost behind the close. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum RefuseCode {
    /// No protocol version that both speak.
    Version = 1,
    /// The peer is not on the list of those allowed.
    NotAllowed = 2,
    /// The peer's incarnation is older than one we know.
    StaleIncarnation = 3,
    /// Another process lives under the same key and counter.
    IdentityInUse = 4,
    /// The peer demands a capability that we do not have.
    Capability = 5,
    /// No room for another peer or link.
    NoRoom = 6,
    /// We are about to stop.
    ShuttingDown = 7,
    /// We are in none of the peer's networks.
    NoCommonNetwork = 16,
    /// The peer's token has expired or is not valid yet.
    TokenExpired = 17,
    /// The peer's token does not count here.
    TokenRefused = 18,
    /// Our descriptor of the network has expired.
    NetworkExpired = 19,
}

impl RefuseCode {
    const FIRST: u32 = 256;

    /// The code with which the link is closed.
    pub fn as_close(self) -> CloseCode {
        CloseCode(Self::FIRST + self as u32)
    }

    /// Whether it is about networks and tokens: these end sessions, too.
    pub fn is_about_access(self) -> bool {
        self >= RefuseCode::NoCommonNetwork
    }

    /// The refusal that a close means, if it is one.
    pub fn from_close(code: CloseCode) -> Option<RefuseCode> {
        [
            RefuseCode::Version,
            RefuseCode::NotAllowed,
            RefuseCode::StaleIncarnation,
            RefuseCode::IdentityInUse,
            RefuseCode::Capability,
            RefuseCode::NoRoom,
            RefuseCode::ShuttingDown,
            RefuseCode::NoCommonNetwork,
            RefuseCode::TokenExpired,
            RefuseCode::TokenRefused,
            RefuseCode::NetworkExpired,
        ]
        .into_iter()
        .find(|refusal| refusal.as_close() == code)
    }
}

impl std::fmt::Display for RefuseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RefuseCode::Version => "it speaks none of our protocol versions",
            RefuseCode::NotAllowed => "this node is not on its list of allowed peers",
            RefuseCode::StaleIncarnation => {
                "it knows a later start of this node; is its clock or its counter behind?"
            }
            RefuseCode::IdentityInUse => "another process uses this node's key",
            RefuseCode::Capability => "it lacks a capability that we demand",
            RefuseCode::NoRoom => "it has no room for another peer",
            RefuseCode::ShuttingDown => "it is stopping",
            RefuseCode::NoCommonNetwork => {
                "it is in none of this node's networks; was this node given the right --network?"
            }
            RefuseCode::TokenExpired => {
                "this node's token has expired or is not valid yet; get a new one, or set the clock"
            }
            RefuseCode::TokenRefused => {
                "this node's token does not count there; its log says which rule the token breaks"
            }
            RefuseCode::NetworkExpired => {
                "its descriptor of the network has expired; whoever runs it must renew it"
            }
        })
    }
}

/// Which peers may connect.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Admission {
    /// Whoever proves to hold any key. For networks that are closed by other means.
    #[default]
    Anyone,
    /// Only these, and the peers that we were told to connect to. Sorted.
    Listed(std::collections::BTreeSet<PeerId>),
}

/// What a peer's machine may know of the node that it lives in.
#[derive(Clone, Debug)]
pub struct LocalNode {
    /// Our own id.
    pub id: PeerId,
    /// Our own incarnation.
    pub incarnation: Incarnation,
    /// Who may connect.
    pub admission: Admission,
    /// Unanswered calls that each peer may have here.
    pub call_credit: u32,
    /// The largest payload we accept, in bytes.
    pub message_bytes_max: usize,
    /// Links to one peer at one time.
    pub links_per_peer_max: usize,
    /// No new link is confirmed any more.
    pub stopping: bool,
}

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
        hello: Hello,
    },
    /// Its Confirm came.
    Confirm {
        /// On this link.
        link: LinkHandle,
        /// The version that it chose.
        version: u32,
        /// What it serves.
        directory: Document,
    },
    /// Its Hello came on this link and gives it no right to talk to us.
    TurnAway {
        /// The link.
        link: LinkHandle,
        /// For the peer.
        code: RefuseCode,
        /// For the log.
        why: String,
    },
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
    /// A timer of ours.
    Timer(PeerTimer),
}

/// What a peer's machine waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTimer {
    /// The next dial.
    Redial,
    /// The end of a handshake.
    Handshake(LinkHandle),
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
    SendHello(LinkHandle),
    /// Confirm this link with this version and our directory. From here on the peer is served.
    SendConfirm {
        /// The link.
        link: LinkHandle,
        /// The version that both speak.
        version: u32,
        /// Whose life the link belongs to.
        incarnation: Incarnation,
    },
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
    },
    /// The peer's earlier life is over: it restarted, or was released.
    SessionEnded,
    /// Tell the user: the peer refuses us.
    Refused {
        /// Why.
        why: RefuseCode,
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

#[derive(Clone, Debug, PartialEq, Eq)]
enum LinkState {
    /// Its Hello is awaited. A Confirm cannot come before it: the control lane is ordered.
    Greeting { timer: TimerHandle },
    /// We have confirmed; its Confirm is awaited.
    Verified { timer: TimerHandle, hello: Hello },
    /// Both have confirmed.
    Up,
}

#[derive(Clone, Debug)]
struct Link {
    link: LinkHandle,
    state: LinkState,
    incarnation: Option<Incarnation>,
}

/// The machine of one peer.
#[derive(Clone, Debug)]
pub struct Peer {
    id: PeerId,
    keep: bool,
    addresses: Vec<SocketAddr>,
    dial: Option<DialHandle>,
    /// A dial was asked for and has no handle yet.
    dial_asked: bool,
    /// Dials and links that failed in a row.
    failures: usize,
    redial: Option<TimerHandle>,
    links: Vec<Link>,
    known: Option<Incarnation>,
    session: Option<Incarnation>,
}

impl Peer {
    /// A peer of which nothing is known but its id.
    pub fn new(id: PeerId) -> Self {
        Peer {
            id,
            keep: false,
            addresses: Vec::new(),
            dial: None,
            dial_asked: false,
            failures: 0,
            redial: None,
            links: Vec::new(),
            known: None,
            session: None,
        }
    }

    /// Whether the user wants to stay connected to it.
    pub fn is_kept(&self) -> bool {
        self.keep
    }

    /// Whether a link to it is up.
    pub fn is_up(&self) -> bool {
        self.links.iter().any(|link| link.state == LinkState::Up)
    }

    /// Whether nothing is going on with it: no link and no dial.
    pub fn is_idle(&self) -> bool {
        self.links.is_empty() && self.dial.is_none() && !self.dial_asked
    }

    /// The links that are up, oldest first.
    pub fn links_up(&self) -> impl Iterator<Item = LinkHandle> + '_ {
        self.links.iter().filter(|link| link.state == LinkState::Up).map(|link| link.link)
    }

    /// All links, oldest first.
    pub fn links(&self) -> impl Iterator<Item = LinkHandle> + '_ {
        self.links.iter().map(|link| link.link)
    }

    /// Whether a link is verified: we have confirmed it, and serve the peer on it.
    pub fn is_verified(&self, link: LinkHandle) -> bool {
        self.links.iter().any(|l| l.link == link && !matches!(l.state, LinkState::Greeting { .. }))
    }

    /// The peer's incarnation, while a session with it lasts.
    pub fn session(&self) -> Option<Incarnation> {
        self.session
    }

    /// The mesh gave the dial that was asked for this handle.
    pub fn dial_started(&mut self, dial: DialHandle) {
        debug_assert!(self.dial_asked, "a dial starts because it was asked for");
        self.dial_asked = false;
        self.dial = Some(dial);
    }

    fn find(&self, link: LinkHandle) -> Option<usize> {
        self.links.iter().position(|l| l.link == link)
    }

    /// Dials now, unless that is under way, unnecessary or impossible.
    fn dial_now(
        &mut self,
        cx: &mut Context<'_, PeerTimer>,
        local: &LocalNode,
        out: &mut Effects<'_, PeerEffect>,
    ) {
        if let Some(timer) = self.redial.take() {
            cx.disarm(timer);
        }
        let wanted = self.keep && !local.stopping && !self.addresses.is_empty();
        if wanted && self.links.is_empty() && self.dial.is_none() && !self.dial_asked {
            self.dial_asked = true;
            out.push(PeerEffect::Dial { addresses: self.addresses.clone() });
        }
    }

    /// Arms the next dial, if there is to be one, and says in how long.
    fn back_off(&mut self, cx: &mut Context<'_, PeerTimer>, local: &LocalNode) -> Option<Duration> {
        let wanted = self.keep && !local.stopping && !self.addresses.is_empty();
        let given_up = is_planted(6) && self.failures > 0;
        if given_up
            || !wanted
            || !self.links.is_empty()
            || self.dial.is_some()
            || self.redial.is_some()
        {
            return None;
        }
        let (base, spread_percent) = match BACKOFF.get(self.failures) {
            Some(base) => (*base, 20),
            None => (PROBE_INTERVAL, 50),
        };
        self.failures += 1;
        let percent = 100 - spread_percent + cx.draw_below(Label::Backoff, 2 * spread_percent + 1);
        let wait = base * percent as u32 / 100;
        self.redial = Some(cx.arm(cx.now.mono + wait, PeerTimer::Redial));
        Some(wait)
    }

    fn refuse(
        &mut self,
        cx: &mut Context<'_, PeerTimer>,
        local: &LocalNode,
        link: LinkHandle,
        code: RefuseCode,
        reason: String,
        out: &mut Effects<'_, PeerEffect>,
    ) {
        out.push(PeerEffect::Misbehaved { what: format!("handshake refused: {reason}") });
        self.close(cx, local, link, code.as_close(), out);
    }

    fn close(
        &mut self,
        cx: &mut Context<'_, PeerTimer>,
        local: &LocalNode,
        link: LinkHandle,
        code: CloseCode,
        out: &mut Effects<'_, PeerEffect>,
    ) {
        out.push(PeerEffect::Close { link, code });
        self.drop_link(cx, local, link, DownReason::ClosedHere, out);
    }

    /// Forgets a link, and says what that means for the peer.
    fn drop_link(
        &mut self,
        cx: &mut Context<'_, PeerTimer>,
        local: &LocalNode,
        link: LinkHandle,
        reason: DownReason,
        out: &mut Effects<'_, PeerEffect>,
    ) {
        let Some(index) = self.find(link) else { return };
        let state = self.links.remove(index).state;
        let retry_in = self.back_off(cx, local);
        let refusal = match reason {
            DownReason::ClosedByPeer(code) => RefuseCode::from_close(code),
            _ => None,
        };
        if let Some(why) = refusal
            && (state != LinkState::Up || why.is_about_access())
        {
            out.push(PeerEffect::Refused { why });
        }
        match state {
            LinkState::Greeting { timer } => {
                cx.disarm(timer);
                if self.keep && refusal.is_none() && reason != DownReason::ClosedHere {
                    let error = DialError::Refused(reason.to_string());
                    out.push(PeerEffect::DialFailed { error, retry_in });
                }
            }
            LinkState::Verified { timer, .. } => {
                cx.disarm(timer);
                out.push(PeerEffect::LinkLost { link, reason, last: false });
            }
            LinkState::Up => {
                let last = !self.is_up();
                out.push(PeerEffect::LinkLost { link, reason, last });
            }
        }
    }

    fn on_hello(
        &mut self,
        cx: &mut Context<'_, PeerTimer>,
        local: &LocalNode,
        link: LinkHandle,
        hello: Hello,
        out: &mut Effects<'_, PeerEffect>,
    ) {
        let Some(index) = self.find(link) else { return };
        let LinkState::Greeting { timer } = self.links[index].state else {
            return self.fault(cx, local, link, "a second Hello".into(), out);
        };
        let version = hello.version_max.min(VERSION_MAX);
        let theirs = hello.incarnation;
        let refusal = if local.stopping {
            Some((RefuseCode::ShuttingDown, "this node stops".to_string()))
        } else if !self.keep && !local.admits(&self.id) {
            Some((RefuseCode::NotAllowed, "this peer is not allowed here".to_string()))
        } else if version < VERSION_MIN.max(hello.version_min) {
            let reason = format!(
                "versions {} to {} are offered, {VERSION_MIN} to {VERSION_MAX} are spoken here",
                hello.version_min, hello.version_max
            );
            Some((RefuseCode::Version, reason))
        } else if let Some(capability) = hello.critical_capabilities.first() {
            // None is known yet.
            let reason = format!("capability {capability} is not known here");
            Some((RefuseCode::Capability, reason))
        } else {
            match self.known {
                Some(known) if theirs.counter < known.counter => {
                    let reason = format!("a later start, {}, of this peer is known", known.counter);
                    Some((RefuseCode::StaleIncarnation, reason))
                }
                Some(known) if theirs.counter == known.counter && theirs != known => {
                    let reason = "another process uses this key".to_string();
                    Some((RefuseCode::IdentityInUse, reason))
                }
                _ => None,
            }
        };
        if let Some((code, reason)) = refusal {
            return self.refuse(cx, local, link, code, reason, out);
        }
        // What belongs to an earlier life of the peer ends first.
        let old: Vec<LinkHandle> = self
            .links
            .iter()
            .filter(|l| l.incarnation.is_some_and(|incarnation| incarnation != theirs))
            .map(|l| l.link)
            .collect();
        for link in old {
            self.close(cx, local, link, CloseCode::OLD_INCARNATION, out);
        }
        if self.session.is_some_and(|session| session != theirs) {
            self.session = None;
            out.push(PeerEffect::SessionEnded);
        }
        self.known = Some(theirs);
        self.session = Some(theirs);
        let index = self.find(link).expect("only others were closed");
        self.links[index].incarnation = Some(theirs);
        self.links[index].state = LinkState::Verified { timer, hello };
        out.push(PeerEffect::SendConfirm { link, version, incarnation: theirs });
    }

    fn on_confirm(
        &mut self,
        cx: &mut Context<'_, PeerTimer>,
        local: &LocalNode,
        link: LinkHandle,
        version: u32,
        directory: Document,
        out: &mut Effects<'_, PeerEffect>,
    ) {
        let Some(index) = self.find(link) else { return };
        let LinkState::Verified { timer, hello } = self.links[index].state.clone() else {
            return self.fault(cx, local, link, "a Confirm out of turn".into(), out);
        };
        if version != hello.version_max.min(VERSION_MAX) {
            let what = format!("it chose version {version}, which is not the highest of both");
            return self.fault(cx, local, link, what, out);
        }
        cx.disarm(timer);
        let first = !self.is_up();
        self.links[index].state = LinkState::Up;
        self.failures = 0;
        out.push(PeerEffect::LinkReady {
            link,
            incarnation: hello.incarnation,
            call_credit: hello.call_credit,
            message_bytes_max: hello.message_bytes_max,
            directory,
            first,
        });
    }

    fn fault(
        &mut self,
        cx: &mut Context<'_, PeerTimer>,
        local: &LocalNode,
        link: LinkHandle,
        what: String,
        out: &mut Effects<'_, PeerEffect>,
    ) {
        if self.find(link).is_some() {
            out.push(PeerEffect::Misbehaved { what });
            self.close(cx, local, link, CloseCode::PROTOCOL_FAULT, out);
        }
    }
}

impl LocalNode {
    fn admits(&self, peer: &PeerId) -> bool {
        match &self.admission {
            Admission::Anyone => true,
            Admission::Listed(peers) => peers.contains(peer),
        }
    }
}

impl Machine for Peer {
    type Input = PeerInput;
    type Effect = PeerEffect;
    type Timer = PeerTimer;
    type View<'a> = &'a LocalNode;

    fn handle(
        &mut self,
        cx: &mut Context<'_, PeerTimer>,
        local: &LocalNode,
        input: PeerInput,
        out: &mut Effects<'_, PeerEffect>,
    ) {
        match input {
            PeerInput::Keep { addresses } => {
                self.keep = true;
                self.addresses = addresses;
                // Being asked is a reason to try at once.
                self.failures = 0;
                self.dial_now(cx, local, out);
            }
            PeerInput::Release => {
                self.keep = false;
                if let Some(timer) = self.redial.take() {
                    cx.disarm(timer);
                }
                if let Some(dial) = self.dial.take() {
                    out.push(PeerEffect::CancelDial { dial });
                }
                for link in self.links.iter().map(|l| l.link).collect::<Vec<_>>() {
                    self.close(cx, local, link, CloseCode::DISCONNECTED, out);
                }
                if self.session.take().is_some() {
                    out.push(PeerEffect::SessionEnded);
                }
            }
            PeerInput::LinkUp { link, direction } => {
                if let Direction::Dialled(dial) = direction
                    && self.dial == Some(dial)
                {
                    self.dial = None;
                }
                if self.links.len() >= local.links_per_peer_max {
                    out.push(PeerEffect::Close { link, code: CloseCode::TOO_MANY_LINKS });
                    return;
                }
                // Should this link come to nothing, the next dial is armed again.
                if let Some(timer) = self.redial.take() {
                    cx.disarm(timer);
                }
                let timer = cx.arm(cx.now.mono + HANDSHAKE_MAX, PeerTimer::Handshake(link));
                self.links.push(Link {
                    link,
                    state: LinkState::Greeting { timer },
                    incarnation: None,
                });
                out.push(PeerEffect::SendHello(link));
            }
            PeerInput::Hello { link, hello } => self.on_hello(cx, local, link, hello, out),
            PeerInput::Confirm { link, version, directory } => {
                self.on_confirm(cx, local, link, version, directory, out);
            }
            PeerInput::TurnAway { link, code, why } => {
                if self.find(link).is_some() {
                    self.refuse(cx, local, link, code, why, out);
                }
            }
            PeerInput::Expel { code } => {
                for link in self.links.iter().map(|l| l.link).collect::<Vec<_>>() {
                    self.close(cx, local, link, code.as_close(), out);
                }
            }
            PeerInput::Fault { link, what } => self.fault(cx, local, link, what, out),
            PeerInput::LinkDown { link, reason } => self.drop_link(cx, local, link, reason, out),
            PeerInput::DialFailed { dial, error } => {
                if self.dial == Some(dial) {
                    self.dial = None;
                    let retry_in = self.back_off(cx, local);
                    out.push(PeerEffect::DialFailed { error, retry_in });
                }
            }
            PeerInput::Timer(PeerTimer::Redial) => {
                self.redial = None;
                self.dial_now(cx, local, out);
            }
            PeerInput::Timer(PeerTimer::Handshake(link)) => {
                if self.find(link).is_some() {
                    out.push(PeerEffect::Misbehaved {
                        what: format!("the handshake took longer than {HANDSHAKE_MAX:?}"),
                    });
                    self.close(cx, local, link, CloseCode::HANDSHAKE_TIMEOUT, out);
                }
            }
        }
    }

    fn check_invariants(&self) {
        assert!(!self.is_up() || self.session.is_some(), "a link that is up belongs to a session");
        for link in &self.links {
            let verified = !matches!(link.state, LinkState::Greeting { .. });
            assert_eq!(verified, link.incarnation.is_some(), "verified links have an incarnation");
            if verified {
                assert_eq!(link.incarnation, self.session, "links of one life only");
            }
        }
        if self.redial.is_some() {
            assert!(self.keep && self.links.is_empty(), "dialling again only who is missed");
        }
    }
}

#[cfg(test)]
mod tests;
