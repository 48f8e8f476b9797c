//! Two nodes that dial each other, in every order in which that can go.
//!
//! Each node is the real machine of a peer ([`dunlin_core::peer::Peer`]) with the real accounts of its lanes
//! ([`Lanes`]); the model adds what the mesh does with effects, a network of links, and an application
//! that sends numbered frames. There is no time: a timer may expire whenever it is armed and what it
//! waits for is not certain to come first.
//!
//! What can go wrong, besides every order of everything: up to two dials a side at once, any one frame
//! lost, one link that dies, one restart, one change of address. See [`Faults`].
//!
//! The rules (protocols.md, section 2), checked at every step and wherever only faults can follow:
//! both ends keep the same link, and one; there is one if the network allows it; no peer-down without a
//! fault; no frame lost or doubled, none out of order without a fault; the lower id never closes for
//! glare; a link never loses to one that the rule ranks below it; the peer never breaks a rule.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dunlin_core::base::{Draws, Effects, Incarnation, MonoTime};
use dunlin_core::directory::Document;
use dunlin_core::link::{
    CloseCode, DialError, DialHandle, Direction, DownReason, End, LinkHandle, LinkId,
};
use dunlin_core::machine::{Context, Machine, TimerHandle, Timers};
use dunlin_core::peer::lanes::{Arriving, Lanes};
use dunlin_core::peer::{Admission, LocalNode, Peer, PeerEffect, PeerInput, PeerTimer};
use dunlin_core::wire::{Hello, VERSION_MAX, VERSION_MIN};
use dunlin_core::{Now, PeerId};

use super::Model;
use super::network::{Frame, LANES, Link, Stage};

/// Dials of one node beyond which its redial timer no longer expires: what fails for ever must end.
const DIALS_MAX: u64 = 3;

/// What may go wrong, each at most so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Faults {
    /// A frame is lost, and with it what is behind it on its lane.
    pub losses: u8,
    /// A link dies.
    pub deaths: u8,
    /// A node restarts.
    pub restarts: u8,
    /// A node is somewhere else.
    pub moves: u8,
}

/// One configuration of two nodes.
#[derive(Clone, Copy, Debug)]
pub struct Glare {
    /// Which node has the higher id.
    pub higher: usize,
    /// Which nodes know an address of the other.
    pub can_dial: [bool; 2],
    /// Whether each node is told of a second address while it dials the first: a second dial.
    pub twice: [bool; 2],
    /// Numbered frames that each node sends.
    pub frames: [u8; 2],
    /// What may go wrong.
    pub faults: Faults,
}

#[derive(Clone, Debug, Hash)]
struct Node {
    peer: Peer,
    incarnation: Incarnation,
    timers: Vec<PeerTimer>,
    lanes: Lanes<Frame>,
    asked: bool,
    dials: u64,
    /// Where it is, and where it believes the other to be.
    address: u8,
    believes: u8,
    /// Frames sent to this life of the peer so far, from 1.
    sent: u8,
    /// Which were sent in all: a new life of the peer gets none of the earlier ones.
    sent_before: u8,
    /// Frames of the peer's life that came, in the order in which they came first.
    received: Vec<u8>,
    up: bool,
}

/// All that differs between two moments.
#[derive(Clone, Debug, Hash)]
pub struct State {
    nodes: [Node; 2],
    links: Vec<Link>,
    left: Faults,
    /// Whether anything went wrong yet.
    harmed: bool,
}

/// Something that can happen. Links are numbered as they are dialled.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Action {
    /// The application asks for the peer.
    Ask(u8),
    /// The dial comes through.
    Connect(u8),
    /// The dial fails: nobody is there.
    DialFails(u8),
    /// The first frame of a node's lane on a link arrives.
    Deliver { link: u8, from: u8, lane: u8 },
    /// A node hears that the other end was closed.
    HearClose { link: u8, node: u8 },
    /// A node notices that a link is dead.
    Notice { link: u8, node: u8 },
    /// A timer of a node expires, by its place.
    Expire { node: u8, timer: u8 },
    /// The application of a node sends its next frame.
    Send(u8),
    /// A node learns where the other is.
    Learn(u8),
    /// Fault: a frame is lost.
    Lose { link: u8, from: u8, lane: u8 },
    /// Fault: a link dies.
    Die(u8),
    /// Fault: a node restarts.
    Restart(u8),
    /// Fault: a node moves.
    Move(u8),
}

struct Armed<'a>(&'a mut Vec<PeerTimer>);

impl Timers<PeerTimer> for Armed<'_> {
    fn arm(&mut self, _: MonoTime, what: PeerTimer) -> TimerHandle {
        // Named by what it is for, so that equal states look equal.
        let name = name_of(&what);
        if !self.0.contains(&what) {
            self.0.push(what);
            self.0.sort_by_key(|timer| name_of(timer).0);
        }
        name
    }

    fn disarm(&mut self, timer: TimerHandle) {
        self.0.retain(|armed| name_of(armed) != timer);
    }
}

fn name_of(timer: &PeerTimer) -> TimerHandle {
    TimerHandle(match timer {
        PeerTimer::Redial => 0,
        PeerTimer::Handshake(link) => 1 + 2 * link.0,
        PeerTimer::Drain(link) => 2 + 2 * link.0,
    })
}

/// Planted: a lane moves to another link without a cut. The cut is the mesh's to send, which the model plays.
fn is_cutless() -> bool {
    #[cfg(dunlin_planted)]
    return dunlin_core::planted::chosen() == 33;
    #[cfg(not(dunlin_planted))]
    false
}

fn handle(link: usize) -> LinkHandle {
    LinkHandle(link as u64)
}

fn address(number: u8) -> SocketAddr {
    ([192, 0, 2, number], 4433).into()
}

/// The rule once more, in other words: what both ends must come to, seen by a node of this rank.
fn ranks_above(higher: bool, a: LinkId, b: LinkId) -> bool {
    let of_higher = |id: LinkId| (id.dialler == End::Here) == higher;
    (of_higher(a), a.counter, a.number) > (of_higher(b), b.counter, b.number)
}

/// Every configuration that is explored, by its name: for both orders of ids, each fault once, two dials a
/// side, and who can dial whom.
pub fn configurations() -> Vec<(String, Glare)> {
    let none = Faults { losses: 0, deaths: 0, restarts: 0, moves: 0 };
    let mut all = Vec::new();
    for higher in 0..2 {
        let of = if higher == 0 { "node 0 higher" } else { "node 1 higher" };
        let mut add = |what: &str, can_dial, twice, frames, faults| {
            let glare = Glare { higher, can_dial, twice, frames, faults };
            all.push((format!("{of}, {what}"), glare));
        };
        add("two dials a side", [true; 2], [true; 2], [0, 0], none);
        add("one dial a side, frames", [true; 2], [false; 2], [2, 1], none);
        let faults = Faults { losses: 1, ..none };
        add("a frame lost", [true; 2], [false; 2], [1, 0], faults);
        let faults = Faults { deaths: 1, ..none };
        add("a link dies", [true; 2], [false; 2], [1, 0], faults);
        let faults = Faults { restarts: 1, ..none };
        add("a restart", [true; 2], [false; 2], [1, 0], faults);
        let faults = Faults { moves: 1, ..none };
        add("a change of address", [true; 2], [false; 2], [0, 0], faults);
        let faults = Faults { losses: 1, restarts: 1, ..none };
        add("only node 0 can dial, loss and restart", [true, false], [false; 2], [0, 0], faults);
        add("only node 1 can dial, loss and restart", [false, true], [false; 2], [0, 0], faults);
    }
    all
}

/// Wrong rules by their names, and the planted bug that each is.
#[cfg(dunlin_planted)]
pub const RULES: [(&str, u32); 8] = [
    ("lower-id-wins", 20),
    ("coin-flip", 21),
    ("close-before-confirm", 22),
    ("ids-gate-dialling", 23),
    ("first-come-stays", 24),
    ("dial-number-ignored", 25),
    ("drained-for-good", 32),
    ("no-cut", 33),
];

/// One step at work: what is done with effects, and what is said about it.
struct Work<'a, 'm> {
    model: &'m Glare,
    state: &'a mut State,
    told: Option<&'a mut Vec<String>>,
}

impl Glare {
    fn id(&self, node: usize) -> PeerId {
        PeerId::from_bytes([if node == self.higher { 2 } else { 1 }; 32])
    }

    fn local(&self, node: usize, incarnation: Incarnation) -> LocalNode {
        LocalNode {
            id: self.id(node),
            incarnation,
            admission: Admission::Anyone,
            call_credit: 1,
            message_bytes_max: 1,
            links_per_peer_max: 4,
            drain_max: dunlin_core::Limits::DRAIN_MAX_LEAST,
            version_max: VERSION_MAX,
            stopping: false,
        }
    }

    fn node(&self, node: usize, counter: u64) -> Node {
        Node {
            peer: Peer::new(self.id(1 - node)),
            incarnation: Incarnation { counter, boot: counter },
            timers: Vec::new(),
            lanes: Lanes::new(64),
            asked: false,
            dials: 0,
            address: node as u8,
            believes: 1 - node as u8,
            sent: 0,
            sent_before: 0,
            received: Vec::new(),
            up: false,
        }
    }
}

impl Work<'_, '_> {
    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(line());
        }
    }

    fn feed(&mut self, node: usize, input: PeerInput) -> Result<(), String> {
        let local = self.model.local(node, self.state.nodes[node].incarnation);
        let mut effects = Vec::new();
        let here = &mut self.state.nodes[node];
        let (peer, timers) = (&mut here.peer, &mut here.timers);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let mut sink = |effect| effects.push(effect);
            let mut draws = Draws::new([0; 32]);
            let mut armed = Armed(timers);
            let now = Now::new(MonoTime::ZERO, Default::default());
            let mut cx = Context::new(now, &mut draws, &mut armed);
            peer.handle(&mut cx, &local, input, &mut Effects::new(&mut sink));
            peer.check_invariants();
        }));
        if handled.is_err() {
            return Err(format!("a promise of node {node}'s machine is broken"));
        }
        for effect in effects {
            self.effect(node, effect)?;
        }
        Ok(())
    }

    fn send(&mut self, node: usize, link: LinkHandle, lane: usize, frame: Frame) {
        let index = link.0 as usize;
        self.tell(|| format!("node {node} says on link {index}: {frame}"));
        let link_state = &mut self.state.links[index];
        if link_state.ends[node] != Stage::Up {
            return;
        }
        self.state.nodes[node].lanes.sent(link, LANES[lane]);
        if !link_state.stuck[node][lane] && !link_state.dead {
            link_state.under_way[node][lane].push_back(frame.at_the_other_end());
        }
        link_state.tidy();
    }

    /// Sends the application's frames again, all that this life of the peer was sent.
    fn send_again(&mut self, node: usize) {
        let Some(link) = self.state.nodes[node].peer.sending_link() else { return };
        for number in 1..=self.state.nodes[node].sent {
            self.send(node, link, 1, Frame::App(number));
        }
    }

    fn effect(&mut self, node: usize, effect: PeerEffect) -> Result<(), String> {
        let higher = node == self.model.higher;
        match effect {
            PeerEffect::Dial { .. } => {
                let here = &mut self.state.nodes[node];
                here.dials += 1;
                let dial = DialHandle(here.dials);
                here.peer.dial_started(dial);
                self.state.links.push(Link::new(node));
                let link = self.state.links.len() - 1;
                self.tell(|| format!("node {node} dials: link {link}"));
            }
            PeerEffect::CancelDial { .. } => {}
            PeerEffect::SendHello { link, id, abandons } => {
                let hello = Hello {
                    version_min: VERSION_MIN,
                    version_max: VERSION_MAX,
                    incarnation: self.state.nodes[node].incarnation,
                    call_credit: 1,
                    message_bytes_max: 1,
                    critical_capabilities: Vec::new(),
                    link: id,
                    abandons,
                    observed_address: None,
                    networks: Vec::new(),
                };
                self.send(node, link, 0, Frame::Hello(hello));
            }
            PeerEffect::SendConfirm { link, version, id, incarnation } => {
                let receiver_boot = incarnation.boot;
                self.send(node, link, 0, Frame::Confirm { version, id, receiver_boot });
            }
            PeerEffect::SendRefuse { link, code, known_counter } => {
                let code = code as u32;
                self.send(node, link, 0, Frame::Refuse { code, known_counter });
            }
            PeerEffect::Move { from, from_id, to } => {
                let frames = self.state.nodes[node].lanes.sent_on(from).lanes[1];
                if frames > 0 && !is_cutless() {
                    self.send(node, to, 1, Frame::Cut { from: from_id, frames });
                }
            }
            PeerEffect::SendSupersede { on, loser, loser_id } => {
                let stays = self.state.nodes[node].peer.id_of(on);
                if !stays.is_some_and(|stays| ranks_above(higher, stays, loser_id)) {
                    return Err(format!(
                        "node {node} keeps {stays:?} and gives up {loser_id:?}, which ranks above it"
                    ));
                }
                let sent = self.state.nodes[node].lanes.sent_on(loser);
                self.send(node, on, 0, Frame::Supersede { loser: loser_id, sent });
            }
            PeerEffect::SendDrained { on, loser, loser_id } => {
                let sent = self.state.nodes[node].lanes.sent_on(loser);
                self.send(node, on, 0, Frame::Drained { loser: loser_id, sent });
            }
            PeerEffect::Undrained(link) => self.state.nodes[node].lanes.clear_end(link),
            PeerEffect::SendAgain => self.send_again(node),
            PeerEffect::Close { link, code } => {
                let index = link.0 as usize;
                self.tell(|| format!("node {node} closes link {index}: {code}"));
                match code {
                    CloseCode::SUPERSEDED if !higher => {
                        return Err(format!("node {node} has the lower id and closes for glare"));
                    }
                    CloseCode::PROTOCOL_FAULT => {
                        return Err(format!("node {node} finds that the other breaks a rule"));
                    }
                    _ => {}
                }
                let entry = &mut self.state.links[index];
                if entry.ends[node] == Stage::Up {
                    entry.ends[node] = Stage::Closed(code);
                }
                entry.tidy();
                self.forget(node, link)?;
            }
            PeerEffect::LinkReady { link, first, .. } => {
                let index = link.0 as usize;
                self.tell(|| format!("node {node}: link {index} is up"));
                if first {
                    self.state.nodes[node].up = true;
                    self.send_again(node);
                }
            }
            PeerEffect::LinkLost { link, last, drained, .. } => {
                if last {
                    self.state.nodes[node].up = false;
                    self.tell(|| format!("node {node}: the peer is down"));
                    if !self.state.harmed {
                        return Err(format!(
                            "node {node} says that its peer is down, and nothing went wrong"
                        ));
                    }
                } else if !drained {
                    self.send_again(node);
                }
                let _ = link;
            }
            PeerEffect::SessionEnded => {
                let here = &mut self.state.nodes[node];
                here.sent_before += here.sent;
                here.sent = 0;
                here.received.clear();
            }
            PeerEffect::LifeIsStale { .. } | PeerEffect::NewerSelf => {
                return Err(format!("node {node} is told of a later life, and there is none"));
            }
            PeerEffect::Superseded { loser, stays } => {
                self.tell(|| format!("node {node} drains link {} for link {}", loser.0, stays.0));
            }
            PeerEffect::Misbehaved { what } => self.tell(|| format!("node {node}: {what}")),
            PeerEffect::Refused { .. } | PeerEffect::DialFailed { .. } => {}
        }
        Ok(())
    }

    /// The lanes of a node forget a link: what waited for it comes now.
    fn forget(&mut self, node: usize, link: LinkHandle) -> Result<(), String> {
        let mut released = Vec::new();
        self.state.nodes[node].lanes.close(link, &mut released);
        for (link, _, frame) in released {
            self.message(node, link, frame)?;
        }
        Ok(())
    }

    fn arrive(
        &mut self,
        node: usize,
        link: LinkHandle,
        lane: usize,
        frame: Frame,
    ) -> Result<(), String> {
        let here = &mut self.state.nodes[node];
        let what = match frame {
            Frame::Cut { from, frames } => Arriving::Cut { from: here.peer.link_of(from), frames },
            frame => Arriving::Frame(frame),
        };
        let mut out = Vec::new();
        let held = here.lanes.arrive(link, LANES[lane], what, &mut out);
        assert!(held.is_ok(), "few frames are held");
        for (link, _, frame) in out {
            self.message(node, link, frame)?;
        }
        self.look_for_drained(node)
    }

    fn look_for_drained(&mut self, node: usize) -> Result<(), String> {
        let here = &mut self.state.nodes[node];
        let Some(link) = here.lanes.complete().next() else { return Ok(()) };
        here.lanes.clear_end(link);
        self.feed(node, PeerInput::AllReceived(link))
    }

    fn left(&mut self, node: usize, loser: LinkId, sent: dunlin_core::link::Sent) {
        let here = &mut self.state.nodes[node];
        if let Some(loser) = here.peer.link_of(loser)
            && here.peer.is_superseded(loser)
        {
            here.lanes.set_end(loser, sent);
        }
    }

    fn message(&mut self, node: usize, link: LinkHandle, frame: Frame) -> Result<(), String> {
        let peer = &self.state.nodes[node].peer;
        if peer.links().all(|known| known != link) {
            // What was held on a link that has gone with the one it waited for.
            return Ok(());
        }
        let verified = peer.is_verified(link);
        match frame {
            Frame::Hello(hello) => self.feed(node, PeerInput::Hello { link, hello }),
            Frame::Confirm { version, id, receiver_boot } => {
                let directory = Document::default();
                self.feed(node, PeerInput::Confirm { link, version, directory, id, receiver_boot })
            }
            Frame::Refuse { code, known_counter } => {
                self.feed(node, PeerInput::Refuse { link, code, known_counter })
            }
            Frame::Supersede { loser, sent } => {
                self.feed(node, PeerInput::Supersede { link, loser })?;
                self.left(node, loser, sent);
                self.look_for_drained(node)
            }
            Frame::Drained { loser, sent } => {
                self.left(node, loser, sent);
                self.look_for_drained(node)
            }
            Frame::Cut { .. } => unreachable!("lanes keep cuts to themselves"),
            Frame::App(_) if !verified => {
                Err(format!("node {node} gets a frame on a link that it has not confirmed"))
            }
            Frame::App(number) => {
                let harmed = self.state.harmed;
                let here = &mut self.state.nodes[node];
                if here.received.contains(&number) {
                    // Sent again, and told by its number.
                    return Ok(());
                }
                let ordered = here.received.last().is_none_or(|last| *last < number);
                here.received.push(number);
                if !ordered && !harmed {
                    let received = &self.state.nodes[node].received;
                    return Err(format!("node {node} gets frames out of order: {received:?}"));
                }
                self.tell(|| format!("node {node} gets frame {number}"));
                Ok(())
            }
        }
    }

    /// A node's end of a link is gone, for this reason.
    fn down(&mut self, link: usize, node: usize, reason: DownReason) -> Result<(), String> {
        self.state.links[link].ends[node] = Stage::Gone;
        self.state.links[link].tidy();
        // As the mesh does it: first the peer, then what waited.
        self.feed(node, PeerInput::LinkDown { link: handle(link), reason })?;
        self.forget(node, handle(link))
    }

    fn up(&mut self, link: usize, node: usize, direction: Direction) -> Result<(), String> {
        self.state.links[link].ends[node] = Stage::Up;
        self.state.nodes[node].lanes.open(handle(link));
        self.feed(node, PeerInput::LinkUp { link: handle(link), direction })
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Ask(node) => {
                let node = usize::from(node);
                self.state.nodes[node].asked = true;
                let addresses = match self.model.can_dial[node] {
                    true => vec![address(self.state.nodes[node].believes)],
                    false => Vec::new(),
                };
                self.feed(node, PeerInput::Keep { addresses })?;
                // The second dial of the first life goes out with the first: either may come through at any
                // time.
                if self.model.twice[node] && self.state.nodes[node].incarnation.counter == 1 {
                    self.feed(node, PeerInput::Keep { addresses: vec![address(9)] })?;
                }
                Ok(())
            }
            Action::Learn(node) => {
                let node = usize::from(node);
                let there = self.state.nodes[1 - node].address;
                self.state.nodes[node].believes = there;
                self.feed(node, PeerInput::Keep { addresses: vec![address(there)] })
            }
            Action::Connect(link) => {
                let link = usize::from(link);
                let node = self.state.links[link].dialler;
                self.up(link, node, Direction::Dialled(self.dial_of(link)))
            }
            Action::DialFails(link) => {
                let link = usize::from(link);
                let node = self.state.links[link].dialler;
                let dial = self.dial_of(link);
                self.state.links[link].ends[node] = Stage::Gone;
                self.feed(node, PeerInput::DialFailed { dial, error: DialError::TimedOut })
            }
            Action::Deliver { link, from, lane } => {
                let (link, from, lane) = (usize::from(link), usize::from(from), usize::from(lane));
                let node = 1 - from;
                if self.state.links[link].ends[node] == Stage::Unknown {
                    self.up(link, node, Direction::Accepted)?;
                }
                let queue = &mut self.state.links[link].under_way[from][lane];
                let Some(frame) = queue.pop_front() else { return Ok(()) };
                self.tell(|| format!("node {node} hears on link {link}: {frame}"));
                self.arrive(node, handle(link), lane, frame)
            }
            Action::HearClose { link, node } => {
                let (link, node) = (usize::from(link), usize::from(node));
                let Stage::Closed(code) = self.state.links[link].ends[1 - node] else {
                    return Ok(());
                };
                self.state.links[link].ends[1 - node] = Stage::Gone;
                self.down(link, node, DownReason::ClosedByPeer(code))
            }
            Action::Notice { link, node } => {
                self.down(usize::from(link), usize::from(node), DownReason::TimedOut)
            }
            Action::Expire { node, timer } => {
                let node = usize::from(node);
                let timer = self.state.nodes[node].timers.remove(usize::from(timer));
                self.feed(node, PeerInput::Timer(timer))
            }
            Action::Send(node) => {
                let node = usize::from(node);
                self.state.nodes[node].sent += 1;
                let number = self.state.nodes[node].sent;
                if let Some(link) = self.state.nodes[node].peer.sending_link() {
                    self.send(node, link, 1, Frame::App(number));
                }
                Ok(())
            }
            Action::Lose { link, from, lane } => {
                self.state.left.losses -= 1;
                self.state.harmed = true;
                let entry = &mut self.state.links[usize::from(link)];
                let (from, lane) = (usize::from(from), usize::from(lane));
                entry.stuck[from][lane] = true;
                entry.under_way[from][lane].clear();
                Ok(())
            }
            Action::Die(link) => {
                self.state.left.deaths -= 1;
                self.state.harmed = true;
                let entry = &mut self.state.links[usize::from(link)];
                entry.dead = true;
                entry.tidy();
                Ok(())
            }
            Action::Restart(node) => {
                let node = usize::from(node);
                self.state.left.restarts -= 1;
                self.state.harmed = true;
                let old = &self.state.nodes[node];
                let mut new = self.model.node(node, old.incarnation.counter + 1);
                new.address = old.address;
                new.sent_before = old.sent_before + old.sent;
                self.state.nodes[node] = new;
                for link in &mut self.state.links {
                    // A dial that nobody has answered yet may still be answered by the new life.
                    if link.ends[node] != Stage::Unknown || link.ends[1 - node] != Stage::Dialling {
                        link.ends[node] = Stage::Gone;
                        link.tidy();
                    }
                }
                Ok(())
            }
            Action::Move(node) => {
                let node = usize::from(node);
                self.state.left.moves -= 1;
                self.state.harmed = true;
                self.state.nodes[node].address += 2;
                // What goes to where it was does not come, and its own words come from nowhere.
                for link in &mut self.state.links {
                    if link.ends.contains(&Stage::Up) {
                        link.dead = true;
                        link.tidy();
                    }
                }
                Ok(())
            }
        }
    }

    /// Dials are numbered by their node, links by the world.
    fn dial_of(&self, link: usize) -> DialHandle {
        let dialler = self.state.links[link].dialler;
        let earlier = self.state.links[..=link].iter().filter(|l| l.dialler == dialler).count();
        let all = self.state.links.iter().filter(|l| l.dialler == dialler).count() as u64;
        DialHandle(self.state.nodes[dialler].dials + earlier as u64 - all)
    }
}

impl Model for Glare {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let mut state = State {
            nodes: [self.node(0, 1), self.node(1, 1)],
            links: Vec::new(),
            left: self.faults,
            harmed: false,
        };
        // Both are asked at the start. When each dial comes through is open.
        for node in 0..2 {
            let mut work = Work { model: self, state: &mut state, told: None };
            work.act(Action::Ask(node)).expect("to be asked breaks no rule");
        }
        state
    }

    fn beginning(&self) -> String {
        let dials = |node: usize| match (self.can_dial[node], self.twice[node]) {
            (true, true) => "dials twice",
            (true, false) => "dials",
            (false, _) => "knows no address",
        };
        let links = "dials are links 0, 1 and so on, node 0's first";
        format!(
            "both are asked to connect: node 0 {}, node 1 {}; node {} has the higher id; {links}",
            dials(0),
            dials(1),
            self.higher
        )
    }

    fn actions(&self, state: &State, out: &mut Vec<Action>) {
        for (n, node) in (0u8..).zip(&state.nodes) {
            let here = usize::from(n);
            if !node.asked {
                out.push(Action::Ask(n));
            }
            let there = state.nodes[1 - here].address;
            if node.asked && self.can_dial[here] && node.believes != there {
                out.push(Action::Learn(n));
            }
            if node.sent + node.sent_before < self.frames[here] && node.peer.is_up() {
                out.push(Action::Send(n));
            }
            for (t, timer) in (0u8..).zip(&node.timers) {
                let may = match timer {
                    // A handshake takes ten seconds only where something is lost.
                    PeerTimer::Handshake(link) => {
                        let entry = &state.links[link.0 as usize];
                        entry.may_die(here) || entry.stuck.iter().flatten().any(|stuck| *stuck)
                    }
                    PeerTimer::Redial => node.dials < DIALS_MAX,
                    // It has the application's frames sent again, if there are any.
                    PeerTimer::Drain(_) => node.sent > 0,
                };
                if may {
                    out.push(Action::Expire { node: n, timer: t });
                }
            }
            if state.left.restarts > 0 && node.asked {
                out.push(Action::Restart(n));
            }
            if state.left.moves > 0 && node.asked {
                out.push(Action::Move(n));
            }
        }
        for (l, link) in (0u8..).zip(&state.links) {
            let dialler = link.dialler;
            if link.ends[dialler] == Stage::Dialling {
                let there = state.nodes[1 - dialler].address;
                if state.nodes[dialler].believes == there && !link.dead {
                    out.push(Action::Connect(l));
                } else {
                    out.push(Action::DialFails(l));
                }
            }
            for node in 0..2u8 {
                let (here, from) = (usize::from(node), 1 - node);
                let hears = matches!(link.ends[here], Stage::Up | Stage::Unknown);
                for lane in 0..2u8 {
                    let queue = &link.under_way[usize::from(from)][usize::from(lane)];
                    // The transport is up at the far end before frames overtake each other.
                    let lane_may = lane == 0 || link.ends[here] == Stage::Up;
                    if hears && !queue.is_empty() && lane_may {
                        out.push(Action::Deliver { link: l, from, lane });
                        if state.left.losses > 0 {
                            out.push(Action::Lose { link: l, from, lane });
                        }
                    }
                }
                if link.ends[here] == Stage::Up {
                    if matches!(link.ends[1 - here], Stage::Closed(_)) && !link.dead {
                        out.push(Action::HearClose { link: l, node });
                    } else if link.may_die(here)
                        || (link.dead && matches!(link.ends[1 - here], Stage::Closed(_)))
                    {
                        out.push(Action::Notice { link: l, node });
                    }
                }
            }
            if state.left.deaths > 0 && !link.dead && link.ends.contains(&Stage::Up) {
                out.push(Action::Die(l));
            }
        }
    }

    fn apply(
        &self,
        state: &mut State,
        action: Action,
        told: Option<&mut Vec<String>>,
    ) -> Result<(), String> {
        Work { model: self, state, told }.act(action)
    }

    fn is_fault(&self, action: Action) -> bool {
        matches!(
            action,
            Action::Lose { .. } | Action::Die(_) | Action::Restart(_) | Action::Move(_)
        )
    }

    fn at_rest(&self, state: &State) -> Result<(), String> {
        let links: [Vec<LinkHandle>; 2] =
            [0, 1].map(|node: usize| state.nodes[node].peer.links_up().collect());
        match [&links[0][..], &links[1][..]] {
            [[ours], [theirs]] if ours == theirs => {}
            [[], []] => {
                let could = |n: usize| self.can_dial[n] && state.nodes[n].dials < DIALS_MAX;
                if could(0) || could(1) {
                    return Err("there is no link, and nobody makes one".into());
                }
                return Ok(());
            }
            [[ours], [theirs]] => {
                return Err(format!(
                    "node 0 keeps link {} and node 1 keeps link {}",
                    ours.0, theirs.0
                ));
            }
            [ours, theirs] => {
                let names = |links: &[LinkHandle]| links.iter().map(|l| l.0).collect::<Vec<_>>();
                let (ours, theirs) = (names(ours), names(theirs));
                return Err(format!("node 0 keeps links {ours:?}, node 1 keeps links {theirs:?}"));
            }
        }
        for node in 0..2 {
            let (from, to) = (&state.nodes[node], &state.nodes[1 - node]);
            let missing = (1..=from.sent).find(|number| !to.received.contains(number));
            if let Some(number) = missing {
                return Err(format!("frame {number} of node {node} is lost"));
            }
            if to.received.len() > usize::from(from.sent) {
                return Err(format!("node {} got frames that were not sent", 1 - node));
            }
        }
        Ok(())
    }

    fn describe(&self, action: Action) -> String {
        match action {
            Action::Ask(node) => format!("node {node} is asked to connect"),
            Action::Connect(link) => format!("the dial of link {link} comes through"),
            Action::DialFails(link) => format!("the dial of link {link} fails"),
            Action::Deliver { link, from, lane } => {
                let lane = if lane == 0 { "control" } else { "shared" };
                format!("link {link} delivers from node {from}, {lane} lane")
            }
            Action::HearClose { link, node } => {
                format!("node {node} hears that link {link} is closed")
            }
            Action::Notice { link, node } => {
                format!("node {node} notices that link {link} is dead")
            }
            Action::Expire { node, .. } => format!("a timer of node {node} expires"),
            Action::Send(node) => format!("node {node} sends its next frame"),
            Action::Learn(node) => format!("node {node} learns where the other is"),
            Action::Lose { link, from, .. } => {
                format!("FAULT: link {link} loses a frame of node {from}")
            }
            Action::Die(link) => format!("FAULT: link {link} dies"),
            Action::Restart(node) => format!("FAULT: node {node} restarts"),
            Action::Move(node) => format!("FAULT: node {node} moves to another address"),
        }
    }
}
