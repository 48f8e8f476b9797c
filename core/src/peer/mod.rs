//! One peer's life: dialled, greeted, confirmed, lost, dialled again.
//!
//! A *link* to the peer goes through these states, and only the files of this folder change them:
//!
//! | state | entered when | what is allowed |
//! | --- | --- | --- |
//! | greeting | the transport says the link is up | the peer's Hello |
//! | refused | the peer's Hello is of a life that is over; we say so | nothing |
//! | met | the peer's Hello is acceptable; the dialler sends Claims, the callee its own Hello | the peer's Claims |
//! | verified | the peer's Claims are acceptable; the callee sends Claims, both send Confirm | serving the peer's calls |
//! | up | the peer's Confirm has come too | our own calls |
//! | draining | another link stays | what is under way |
//!
//! The dialler sends Hello first. It names the link, and the other end's Hello repeats the name, as do Claims and
//! Confirms. These also name the life of the other end: what was sent on another link, or to an earlier life, proves
//! nothing on this one. So a Hello, which may be an old one, ends no earlier life of the peer; its Claims do.
//!
//! A Hello shows networks blinded, and Claims show tokens for common networks alone. The dialler shows them first: it
//! chose the other end, and a callee that showed them first would show them to any node that dials it and knows the
//! network's id. The dialler can send its calls two round trips after the link came up; the other order is not faster
//! for it. The callee can half a round trip later. A link that is not up within
//! [`HANDSHAKE_MAX`] is closed. A peer that calls has seen our Confirm, so it may be served before its own
//! Confirm has come: that travels on another lane and may be late. (`handshake.rs`)
//!
//! Of several links that are up one stays (`glare.rs`), and the others are drained: new sends go to the
//! one that stays, each lane keeps its order (`lanes.rs`), and once everything has come at both ends
//! the link is closed; so it is when that takes too long. None of it is the peer's death. (`drain.rs`)
//!
//! The *session* with a peer belongs to its incarnation, not to a link: it begins with the first link
//! that is verified, survives any one link's loss as long as the peer's incarnation stays the same, and
//! ends when the peer restarts or is forgotten.

mod drain;
pub mod glare;
mod handshake;
pub mod lanes;
mod refuse;
mod words;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::LifeRecord;
use crate::base::{Effects, Incarnation, Label, MonoTime, PeerId};
use crate::link::{CloseCode, DialHandle, DownReason, LinkHandle, LinkId};
use crate::machine::{Context, Machine, TimerHandle};
use crate::planted::is_planted;
use crate::wire::{ABANDONS_MAX, Hello};

use glare::Rank;
pub use refuse::RefuseCode;
pub use words::{PeerEffect, PeerInput, PeerTimer};

/// From the transport's link-up to both Confirms. Source: protocols.md, section 2.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long a peer that is told of its stale incarnation may take to close the link itself. Longer than
/// the Refuse needs on a slow path. A guess.
pub const REFUSAL_MAX: Duration = Duration::from_secs(2);

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

/// Dials that have failed in a row, from which on nothing waits for a peer: about 17 s after the first where nothing
/// answers. A guess.
const EXPECTED_FAILURES: u8 = 2;

/// Dials of one peer under way at one time: to where it was thought to be, and to where we were told
/// that it is.
const DIALS_MAX: usize = 2;

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
    /// Links to one peer at one time; see [`crate::Limits::links_per_peer_max`].
    pub links_per_peer_max: usize,
    /// How long a link may be drained; see [`crate::Limits::drain_max`].
    pub drain_max: Duration,
    /// The highest protocol version that we speak.
    pub version_max: u32,
    /// No new link is confirmed any more.
    pub stopping: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LinkState {
    /// Its Hello is awaited. Claims cannot come before it: the control lane is ordered.
    Greeting { timer: TimerHandle },
    /// It was told that its life is over, and is to close the link.
    Refused { timer: TimerHandle },
    /// Its Claims are awaited. Until they come its Hello may be an old one.
    Met { timer: TimerHandle, hello: Box<Hello> },
    /// We have confirmed; its Confirm is awaited. The peer may have confirmed it and superseded it already,
    /// by its word on these links.
    Verified { timer: TimerHandle, hello: Box<Hello>, superseded: Vec<LinkHandle> },
    /// Both have confirmed.
    Up,
    /// Another link stays.
    Draining {
        /// Until what is unfinished is sent again; none once that has happened.
        timer: Option<TimerHandle>,
        /// Until the link is closed, drained or not.
        end: TimerHandle,
        /// The links that are there and on which whoever decides has said so. It says so on one, and on another
        /// only if that one is gone, for the other end may not have heard it. Who follows knows
        /// of none which was the last.
        said_on: Vec<LinkHandle>,
    },
}

#[derive(Clone, Debug, Hash)]
struct Link {
    link: LinkHandle,
    state: LinkState,
    incarnation: Option<Incarnation>,
    /// Known from the start if we dialled, from the peer's Hello otherwise.
    id: Option<LinkId>,
    dialled: bool,
    /// When we said Hello.
    greeted_at: Option<MonoTime>,
    /// From our Hello to the peer's answer.
    round_trip: Duration,
    /// What we have a right to has changed since our Claims.
    stale: bool,
}

/// Whether the peer knows what we have a right to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    /// It knows, or reads it in the next Claims.
    Yes,
    /// Our rights have changed since the Claims on a link that is there.
    No,
    /// Likewise, and a further link was dialled to say so.
    Tried,
}

impl Link {
    /// One that awaits its Hello.
    fn greeting(link: LinkHandle, id: Option<LinkId>, dialled: bool, timer: TimerHandle) -> Link {
        Link {
            link,
            state: LinkState::Greeting { timer },
            incarnation: None,
            id,
            dialled,
            greeted_at: None,
            round_trip: Duration::ZERO,
            stale: false,
        }
    }

    fn is_verified(&self) -> bool {
        matches!(
            self.state,
            LinkState::Verified { .. } | LinkState::Up | LinkState::Draining { .. }
        )
    }

    fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up | LinkState::Draining { .. })
    }

    /// The peer has answered our Hello.
    fn answered(&mut self, now: MonoTime) {
        self.round_trip = self.greeted_at.map_or(Duration::ZERO, |at| now.since(at));
    }

    /// Whether this end has shown its tokens.
    fn has_claimed(&self) -> bool {
        self.is_verified() || self.dialled && matches!(self.state, LinkState::Met { .. })
    }
}

/// The machine of one peer.
///
/// Its hash is that of its state, as far as that decides what it does next, times and words for people apart.
/// Links that have ids are a set there, and so are the ids that are over: in what order they came has no say in
/// which link stays. How often dialling failed only says how long the next wait is.
#[derive(Clone, Debug)]
pub struct Peer {
    id: PeerId,
    keep: bool,
    addresses: Vec<SocketAddr>,
    dials: Vec<DialHandle>,
    /// A dial was asked for and has no handle yet.
    dial_asked: bool,
    /// Dials and links that failed in a row.
    failures: u8,
    /// It has refused what we are or may since it was up last: to wait for it is in vain.
    refused: bool,
    redial: Option<TimerHandle>,
    links: Vec<Link>,
    /// The link that we send on, of those that are up and not drained.
    current: Option<LinkHandle>,
    /// Its latest life that has confirmed ours, as it has signed it.
    known: Option<Box<LifeRecord>>,
    session: Option<Incarnation>,
    /// Why the link went for which those that are used now were drained.
    undone: Option<DownReason>,
    /// Whether the peer has confirmed this life of ours. Any life of the peer will do: what it knows of a
    /// later one it knows from its Confirm, and so since it met us or later.
    met: bool,
    /// Whether the peer knows what we have a right to.
    told: Told,
    /// Ids of links that are over: whoever greets under them speaks of the past. The latest ones.
    spent: VecDeque<LinkId>,
    /// Links that we closed or lost: the peer may still believe in them. The latest ones.
    abandons: VecDeque<LinkId>,
    /// Where the peer saw us last.
    observed: Option<SocketAddr>,
}

/// Ids of links that are over and are told from new ones. More than a peer can have under way.
const SPENT_MAX: usize = 4 * ABANDONS_MAX;

fn remember<T: PartialEq>(list: &mut VecDeque<T>, what: T, max: usize) {
    if !list.contains(&what) {
        list.push_back(what);
        if list.len() > max {
            list.pop_front();
        }
    }
}

/// What every handler gets: time, timers and randomness; the node; and where effects go.
struct Turn<'a, 'c, 'e> {
    cx: &'a mut Context<'c, PeerTimer>,
    local: &'a LocalNode,
    out: &'a mut Effects<'e, PeerEffect>,
}

impl Peer {
    /// A peer of which nothing is known but its id.
    pub fn new(id: PeerId) -> Self {
        Peer {
            id,
            keep: false,
            addresses: Vec::new(),
            dials: Vec::new(),
            dial_asked: false,
            failures: 0,
            refused: false,
            redial: None,
            links: Vec::new(),
            current: None,
            known: None,
            session: None,
            undone: None,
            met: false,
            told: Told::Yes,
            spent: VecDeque::new(),
            abandons: VecDeque::new(),
            observed: None,
        }
    }

    /// Whether the user wants to stay connected to it.
    pub fn is_kept(&self) -> bool {
        self.keep
    }

    /// Whether a link to it is up.
    pub fn is_up(&self) -> bool {
        self.links.iter().any(Link::is_up)
    }

    /// Whether nothing is going on with it: no link and no dial.
    pub fn is_idle(&self) -> bool {
        self.links.is_empty() && self.dials.is_empty() && !self.dial_asked
    }

    /// Whether it is to be here before long: it is being dialled, and not in vain for long.
    pub fn is_expected(&self) -> bool {
        self.keep
            && !self.addresses.is_empty()
            && self.failures < EXPECTED_FAILURES
            && !self.refused
            && !self.is_up()
    }

    /// The links that are up, those that are drained included, oldest first.
    pub fn links_up(&self) -> impl Iterator<Item = LinkHandle> + '_ {
        self.links.iter().filter(|link| link.is_up()).map(|link| link.link)
    }

    /// All links, oldest first.
    pub fn links(&self) -> impl Iterator<Item = LinkHandle> + '_ {
        self.links.iter().map(|link| link.link)
    }

    /// The link that is sent on, while one is up.
    pub fn sending_link(&self) -> Option<LinkHandle> {
        self.current
    }

    /// Whether a link is verified: we have confirmed it, and serve the peer on it.
    pub fn is_verified(&self, link: LinkHandle) -> bool {
        self.links.iter().any(|l| l.link == link && l.is_verified())
    }

    /// Whether the peer's Claims are awaited on a link.
    pub fn is_met(&self, link: LinkHandle) -> bool {
        self.links.iter().any(|l| l.link == link && matches!(l.state, LinkState::Met { .. }))
    }

    /// Whether the peer was told that its life is over, and what it still says is of no interest.
    pub fn is_refused(&self, link: LinkHandle) -> bool {
        self.links.iter().any(|l| l.link == link && matches!(l.state, LinkState::Refused { .. }))
    }

    /// Whether a link is being drained.
    pub fn is_draining(&self, link: LinkHandle) -> bool {
        self.links.iter().any(|l| l.link == link && matches!(l.state, LinkState::Draining { .. }))
    }

    /// Whether the peer has left a link: it is drained, or will be once its Confirm has come.
    pub fn is_superseded(&self, link: LinkHandle) -> bool {
        let left = |state: &LinkState| {
            matches!(state, LinkState::Draining { .. })
                || matches!(state, LinkState::Verified { superseded, .. } if !superseded.is_empty())
        };
        self.links.iter().any(|l| l.link == link && left(&l.state))
    }

    /// What a link is called, once that is known.
    pub fn id_of(&self, link: LinkHandle) -> Option<LinkId> {
        self.links.iter().find(|l| l.link == link)?.id
    }

    /// The link that is called so.
    pub fn link_of(&self, id: LinkId) -> Option<LinkHandle> {
        self.links.iter().find(|l| l.id == Some(id)).map(|l| l.link)
    }

    /// The peer's incarnation, while a session with it lasts.
    pub fn session(&self) -> Option<Incarnation> {
        self.session
    }

    /// Where the peer saw us in its last Hello that said so. Its word, no more.
    pub fn observed_address(&self) -> Option<SocketAddr> {
        self.observed
    }

    /// The mesh gave the dial that was asked for this handle.
    pub fn dial_started(&mut self, dial: DialHandle) {
        debug_assert!(self.dial_asked, "a dial starts because it was asked for");
        self.dial_asked = false;
        self.dials.push(dial);
    }

    fn rank(&self, local: &LocalNode) -> Rank {
        Rank::of(local.id, self.id)
    }

    fn find(&self, link: LinkHandle) -> Option<usize> {
        self.links.iter().position(|l| l.link == link)
    }

    fn wants_dial(&self, local: &LocalNode) -> bool {
        self.keep
            && !local.stopping
            && !self.addresses.is_empty()
            && self.rank(local).may_dial()
            && !self.dial_asked
    }

    /// Dials now, unless that is under way, unnecessary or impossible.
    fn dial_now(&mut self, turn: &mut Turn<'_, '_, '_>) {
        if let Some(timer) = self.redial.take() {
            turn.cx.disarm(timer);
        }
        if self.wants_dial(turn.local) && self.links.is_empty() && self.dials.is_empty() {
            self.dial(turn);
        }
    }

    fn dial(&mut self, turn: &mut Turn<'_, '_, '_>) {
        self.dial_asked = true;
        turn.out.push(PeerEffect::Dial { addresses: self.addresses.clone() });
    }

    /// Arms the next dial, if there is to be one, and says in how long.
    fn back_off(&mut self, turn: &mut Turn<'_, '_, '_>) -> Option<Duration> {
        let given_up = is_planted(6) && self.failures > 0;
        if given_up
            || !self.wants_dial(turn.local)
            || !self.links.is_empty()
            || !self.dials.is_empty()
            || self.redial.is_some()
        {
            return None;
        }
        let (base, spread_percent) = match BACKOFF.get(usize::from(self.failures)) {
            Some(base) => (*base, 20),
            None => (PROBE_INTERVAL, 50),
        };
        self.failures = (self.failures + 1).min(BACKOFF.len() as u8);
        let percent =
            100 - spread_percent + turn.cx.draw_below(Label::Backoff, 2 * spread_percent + 1);
        let wait = base * percent as u32 / 100;
        self.redial = Some(turn.cx.arm(turn.cx.now.mono + wait, PeerTimer::Redial));
        Some(wait)
    }

    /// The peer has refused this end.
    fn refused(&mut self, turn: &mut Turn<'_, '_, '_>, why: RefuseCode) {
        // One that stops may be there again in a moment, and a life that is over is followed by another one.
        let for_now = [RefuseCode::ShuttingDown, RefuseCode::StaleIncarnation];
        self.refused |= !for_now.contains(&why);
        turn.out.push(PeerEffect::Refused { why });
    }

    fn close(&mut self, turn: &mut Turn<'_, '_, '_>, link: LinkHandle, code: CloseCode) {
        self.close_all(turn, vec![link], code);
    }

    /// Closes links together: which of the others stays is decided once all are gone.
    fn close_all(&mut self, turn: &mut Turn<'_, '_, '_>, links: Vec<LinkHandle>, code: CloseCode) {
        for link in links {
            turn.out.push(PeerEffect::Close { link, code });
            self.drop_link(turn, link, DownReason::ClosedHere, code == CloseCode::SUPERSEDED);
        }
        self.resolve(turn);
    }

    fn refuse(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        link: LinkHandle,
        code: RefuseCode,
        reason: String,
    ) {
        turn.out.push(PeerEffect::Misbehaved { what: format!("handshake refused: {reason}") });
        self.close(turn, link, code.as_close());
    }

    fn fault(&mut self, turn: &mut Turn<'_, '_, '_>, link: LinkHandle, what: String) {
        if self.find(link).is_some() {
            turn.out.push(PeerEffect::Misbehaved { what });
            self.close(turn, link, CloseCode::PROTOCOL_FAULT);
        }
    }

    fn keep(&mut self, turn: &mut Turn<'_, '_, '_>, addresses: Vec<SocketAddr>) {
        let elsewhere = self.addresses != addresses;
        self.keep = true;
        self.addresses = addresses;
        // Being asked is a reason to try at once.
        (self.failures, self.refused) = (0, false);
        self.dial_now(turn);
        // What is under way may lead to where it is no more; it is not given up for that.
        if elsewhere && self.wants_dial(turn.local) && !self.is_up() && self.dials.len() < DIALS_MAX
        {
            self.dial(turn);
        }
    }

    /// What we have a right to has changed.
    fn greet_anew(&mut self) {
        for link in &mut self.links {
            link.stale = link.has_claimed();
        }
        self.told = Told::No;
    }

    /// Sees to it that the peer hears of our rights: on a further link, and if that comes to nothing, on a new one
    /// for all.
    fn tell_anew(&mut self, turn: &mut Turn<'_, '_, '_>) {
        if self.told == Told::Yes {
            return;
        }
        let mut links = self.links.iter();
        if links.all(|link| !link.stale) || self.links.iter().any(|l| !l.stale && l.is_up()) {
            self.told = Told::Yes;
            return;
        }
        let is_on_its_way = self.dial_asked || !self.dials.is_empty();
        if is_on_its_way || self.links.iter().any(|link| !link.stale) {
            return;
        }
        // One link more than there may be would be turned away. The peer may count more of them than we do.
        let is_full = self.links.len() >= turn.local.links_per_peer_max;
        if self.told == Told::Tried || is_full || !self.wants_dial(turn.local) {
            self.told = Told::Yes;
            let links = self.links().collect();
            self.close_all(turn, links, CloseCode::GREET_ANEW);
            // Whoever dialled dials again: the peer, or this end.
            self.dial_now(turn);
        } else {
            self.told = Told::Tried;
            self.dial(turn);
        }
    }

    fn release(&mut self, turn: &mut Turn<'_, '_, '_>, code: CloseCode) {
        if let Some(timer) = self.redial.take() {
            turn.cx.disarm(timer);
        }
        for dial in std::mem::take(&mut self.dials) {
            turn.out.push(PeerEffect::CancelDial { dial });
        }
        let links = self.links().collect();
        self.close_all(turn, links, code);
        if self.session.take().is_some() {
            turn.out.push(PeerEffect::SessionEnded);
        }
    }

    /// What there was belonged to our old life; whom we want we dial in the new one.
    fn new_life(&mut self, turn: &mut Turn<'_, '_, '_>) {
        let keep = std::mem::replace(&mut self.keep, false);
        self.release(turn, CloseCode::NEW_LIFE);
        self.keep = keep;
        self.met = false;
        self.spent.clear();
        self.abandons.clear();
        (self.failures, self.refused) = (0, false);
        self.dial_now(turn);
    }
}

impl std::hash::Hash for Peer {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        fn set<T: std::hash::Hash, K: Ord, H: std::hash::Hasher>(
            all: impl Iterator<Item = T>,
            key: impl Fn(&T) -> K,
            state: &mut H,
        ) {
            let mut all: Vec<T> = all.collect();
            all.sort_by_key(|one| key(one));
            all.hash(state);
        }
        let Peer { id, keep, addresses, dials, dial_asked, redial, .. } = self;
        (id, keep, addresses, dials, dial_asked, redial).hash(state);
        let Peer { current, known, session, met, told, observed, .. } = self;
        (current, known, session, met, told, observed).hash(state);
        let Peer { links, spent, abandons, .. } = self;
        set(links.iter(), |link| link.link, state);
        set(spent.iter(), |id| **id, state);
        set(abandons.iter(), |id| **id, state);
    }
}

impl LocalNode {
    /// The highest version of both. It may be below what one of them speaks.
    fn common_version(&self, hello: &Hello) -> u32 {
        hello.version_max.min(self.version_max)
    }

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
        let turn = &mut Turn { cx, local, out };
        match input {
            PeerInput::Keep { addresses } => self.keep(turn, addresses),
            PeerInput::Release => {
                self.keep = false;
                self.release(turn, CloseCode::DISCONNECTED);
            }
            PeerInput::LinkUp { link, direction } => self.link_up(turn, link, direction),
            PeerInput::Hello { link, hello } => self.on_hello(turn, link, hello),
            PeerInput::Claims { link, id, receiver_boot } => {
                self.on_claims(turn, link, (id, receiver_boot));
            }
            PeerInput::Confirm { link, version, directory, id, receiver_boot } => {
                self.on_confirm(turn, link, version, directory, (id, receiver_boot));
            }
            PeerInput::Refuse { link, code, proved } => self.on_refuse(turn, link, code, proved),
            PeerInput::Supersede { link, loser } => self.on_supersede(turn, link, loser),
            PeerInput::AllReceived(link) => self.all_received(turn, link),
            PeerInput::DrainFailed(link) => self.drain_fails(turn, link),
            PeerInput::TurnAway { link, code, why } => {
                if self.find(link).is_some() {
                    self.refuse(turn, link, code, why);
                }
            }
            PeerInput::GreetAnew => self.greet_anew(),
            PeerInput::Expel { code } => {
                for link in self.links().collect::<Vec<_>>() {
                    self.close(turn, link, code.as_close());
                }
            }
            PeerInput::Fault { link, what } => self.fault(turn, link, what),
            PeerInput::LinkDown { link, reason } => {
                let drained = reason == DownReason::ClosedByPeer(CloseCode::SUPERSEDED);
                self.drop_link(turn, link, reason, drained);
                self.resolve(turn);
            }
            PeerInput::DialFailed { dial, error } => {
                if let Some(index) = self.dials.iter().position(|d| *d == dial) {
                    self.dials.remove(index);
                    let retry_in = self.back_off(turn);
                    turn.out.push(PeerEffect::DialFailed { error, retry_in });
                }
            }
            PeerInput::NewLife => self.new_life(turn),
            PeerInput::Timer(PeerTimer::Redial) => {
                self.redial = None;
                self.dial_now(turn);
            }
            PeerInput::Timer(PeerTimer::Handshake(link)) => self.handshake_ends(turn, link),
            PeerInput::Timer(PeerTimer::Drain(link)) => self.drain_takes_long(turn, link),
            PeerInput::Timer(PeerTimer::DrainEnd(link)) => {
                // Planted: a drain has no end.
                if !is_planted(36) {
                    self.drain_fails(turn, link);
                }
            }
        }
        self.tell_anew(turn);
    }

    fn check_invariants(&self) {
        assert!(!self.is_up() || self.session.is_some(), "a link that is up belongs to a session");
        let mut usable = false;
        for link in &self.links {
            assert_eq!(
                link.is_verified(),
                link.incarnation.is_some(),
                "verified links have an incarnation"
            );
            if link.is_verified() {
                assert_eq!(link.incarnation, self.session, "links of one life only");
            }
            usable |= link.state == LinkState::Up;
        }
        assert_eq!(self.current.is_some(), usable, "a link that is up is used");
        assert_eq!(self.is_up(), usable, "what is drained is drained for another link");
        if let Some(current) = self.current {
            let link = self.links.iter().find(|link| link.link == current);
            assert!(link.is_some_and(|l| l.state == LinkState::Up), "what is used is up");
        }
        assert!(self.spent.len() <= SPENT_MAX && self.abandons.len() <= ABANDONS_MAX);
        if self.redial.is_some() {
            assert!(self.keep && self.links.is_empty(), "dialling again only who is missed");
        }
    }
}

#[cfg(test)]
mod glare_tests;
#[cfg(test)]
mod tests;
