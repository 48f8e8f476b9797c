//! Two nodes of an exploration and what one step does to them.
//!
//! A link is numbered by its dialler and by how many that one dialled before: node 0's dials are links 0, 2, 4
//! and so on, node 1's are 1, 3, 5. So the order in which the two dial leaves no trace.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dunlin_core::auth::{BlindedNetworks, LifeRecord};
use dunlin_core::base::{Draws, Effects, Incarnation, MonoTime, Refusals};
use dunlin_core::directory::Document;
use dunlin_core::link::{
    CloseCode, DialError, DialHandle, Direction, DownReason, End, LinkHandle, LinkId,
};
use dunlin_core::machine::{Context, Machine, TimerHandle, Timers};
use dunlin_core::peer::lanes::{Arriving, HeldLimits, Lanes};
use dunlin_core::peer::{Admission, LocalNode, Peer, PeerEffect, PeerInput, PeerTimer};
use dunlin_core::wire::{Hello, VERSION_MAX, VERSION_MIN};
use dunlin_core::{Now, PeerId};

use super::fingerprint::{Pool, Shared};
use super::glare::{Action, Faults, Glare};
use super::network::{Frame, LANES, Link, Stage};

/// No exploration holds so many frames back.
const HELD_MAX: HeldLimits = HeldLimits { frames_max: 64, bytes_max: usize::MAX };

#[derive(Clone, Debug, Hash)]
pub(super) struct Node {
    pub(super) peer: Peer,
    pub(super) incarnation: Incarnation,
    pub(super) timers: Vec<PeerTimer>,
    pub(super) lanes: Lanes<Frame>,
    pub(super) asked: bool,
    pub(super) dials: u64,
    /// Where it is, and where it believes the other to be.
    pub(super) address: u8,
    pub(super) believes: u8,
    /// Frames sent to this life of the peer so far, from 1.
    pub(super) sent: u8,
    /// Which were sent in all: a new life of the peer gets none of the earlier ones.
    pub(super) sent_before: u8,
    /// Frames of the peer's life that came, in the order in which they came first.
    pub(super) received: Vec<u8>,
    pub(super) up: bool,
}

/// All that differs between two moments.
#[derive(Clone, Debug, Hash)]
pub struct State {
    pub(super) nodes: [Shared<Node>; 2],
    /// By who dialled, oldest first.
    pub(super) links: [Vec<Shared<Link>>; 2],
    /// Faults that may still happen.
    pub(super) left: Faults,
    /// Whether anything went wrong yet.
    pub(super) harmed: bool,
}

impl State {
    pub(super) fn link(&self, number: usize) -> &Link {
        &self.links[number % 2][number / 2]
    }

    pub(super) fn link_mut(&mut self, number: usize) -> &mut Link {
        &mut self.links[number % 2][number / 2]
    }

    /// All links, with their numbers.
    pub(super) fn all_links(&self) -> impl Iterator<Item = (usize, &Link)> {
        let of = |dialler: usize| {
            let numbered = self.links[dialler].iter().enumerate();
            numbered.map(move |(nth, link)| (2 * nth + dialler, &**link))
        };
        of(0).chain(of(1))
    }
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
        PeerTimer::Handshake(link) => 1 + 3 * link.0,
        PeerTimer::Drain(link) => 2 + 3 * link.0,
        PeerTimer::DrainEnd(link) => 3 + 3 * link.0,
    })
}

/// Planted: a lane moves to another link without a cut. The cut is the mesh's to send, which the model plays.
fn is_cutless() -> bool {
    #[cfg(dunlin_planted)]
    return dunlin_core::planted::chosen() == 33;
    #[cfg(not(dunlin_planted))]
    false
}

/// How the machine calls a link.
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

/// Parts that states have in common.
#[derive(Debug, Default)]
pub struct Parts {
    pub(super) nodes: Pool<Node>,
    pub(super) links: Pool<Link>,
}

/// One step at work: what is done with effects, and what is said about it.
pub(super) struct Work<'a, 'm> {
    pub(super) model: &'m Glare,
    pub(super) state: &'a mut State,
    pub(super) told: Option<&'a mut Vec<String>>,
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

    pub(super) fn node(&self, node: usize, counter: u64) -> Node {
        Node {
            peer: Peer::new(self.id(1 - node)),
            incarnation: Incarnation { counter, boot: counter },
            timers: Vec::new(),
            lanes: Lanes::new(),
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
        let here = &mut *self.state.nodes[node];
        let (peer, timers) = (&mut here.peer, &mut here.timers);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let mut sink = |effect| effects.push(effect);
            let mut draws = Draws::new([0; 32]);
            let mut armed = Armed(timers);
            let now = Now::new(MonoTime::ZERO, Default::default());
            let mut refusals = Refusals::default();
            let mut cx = Context::new(now, &mut draws, &mut armed, &mut refusals);
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
        if self.state.link(index).ends[node] != Stage::Up {
            return;
        }
        self.state.nodes[node].lanes.sent(link, LANES[lane]);
        let link_state = self.state.link_mut(index);
        if !link_state.dead {
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
                let here = &mut *self.state.nodes[node];
                here.dials += 1;
                let dial = DialHandle(here.dials);
                here.peer.dial_started(dial);
                let dialled = &mut self.state.links[node];
                dialled.push(Shared::new(Link::new(node)));
                let link = 2 * (dialled.len() - 1) + node;
                self.tell(|| format!("node {node} dials: link {link}"));
            }
            PeerEffect::CancelDial { .. } => {}
            PeerEffect::SendHello { link, id, abandons } => {
                let hello = Hello {
                    version_min: VERSION_MIN,
                    version_max: VERSION_MAX,
                    // Who verifies signatures is the mesh. Here nothing is forged.
                    life: LifeRecord {
                        incarnation: self.state.nodes[node].incarnation,
                        signature: [0; 64],
                    },
                    call_credit: 1,
                    message_bytes_max: 1,
                    critical_capabilities: Vec::new(),
                    link: id,
                    abandons,
                    observed_address: None,
                    // The mesh compares them. Here both are in one network.
                    networks: BlindedNetworks { nonce: [0; 16], marks: Default::default() },
                };
                self.send(node, link, 0, Frame::Hello(Box::new(hello)));
            }
            PeerEffect::SendClaims { link, id, incarnation } => {
                let receiver_boot = incarnation.boot;
                self.send(node, link, 0, Frame::Claims { id, receiver_boot });
            }
            PeerEffect::SendConfirm { link, version, id, incarnation } => {
                let receiver_boot = incarnation.boot;
                self.send(node, link, 0, Frame::Confirm { version, id, receiver_boot });
            }
            PeerEffect::SendRefuse { link, code, life } => {
                let (code, life) = (code as u32, life.incarnation);
                self.send(node, link, 0, Frame::Refuse { code, life });
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
                let entry = self.state.link_mut(index);
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
                let here = &mut *self.state.nodes[node];
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
        let here = &mut *self.state.nodes[node];
        let what = match frame {
            Frame::Cut { from, frames } => Arriving::Cut { from: here.peer.link_of(from), frames },
            frame => Arriving::Frame(frame),
        };
        let mut out = Vec::new();
        let held = here.lanes.arrive(link, LANES[lane], (what, 0), HELD_MAX, &mut out);
        assert!(held.is_ok(), "few frames are held");
        for (link, _, frame) in out {
            self.message(node, link, frame)?;
        }
        self.look_for_drained(node)
    }

    fn look_for_drained(&mut self, node: usize) -> Result<(), String> {
        let here = &mut *self.state.nodes[node];
        let Some(link) = here.lanes.complete().next() else { return Ok(()) };
        here.lanes.clear_end(link);
        self.feed(node, PeerInput::AllReceived(link))
    }

    fn left(&mut self, node: usize, loser: LinkId, sent: dunlin_core::link::Sent) {
        let here = &mut *self.state.nodes[node];
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
            Frame::Claims { id, receiver_boot } => {
                self.feed(node, PeerInput::Claims { link, id, receiver_boot })
            }
            Frame::Confirm { version, id, receiver_boot } => {
                let directory = Document::default();
                self.feed(node, PeerInput::Confirm { link, version, directory, id, receiver_boot })
            }
            Frame::Refuse { code, life } => {
                self.feed(node, PeerInput::Refuse { link, code, proved: Some(life) })
            }
            // Said before it heard that its life is over.
            _ if peer.is_refused(link) => Ok(()),
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
                let here = &mut *self.state.nodes[node];
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
        let entry = self.state.link_mut(link);
        entry.ends[node] = Stage::Gone;
        entry.tidy();
        // As the mesh does it: first the peer, then what waited.
        self.feed(node, PeerInput::LinkDown { link: handle(link), reason })?;
        self.forget(node, handle(link))
    }

    fn up(&mut self, link: usize, node: usize, direction: Direction) -> Result<(), String> {
        self.state.link_mut(link).ends[node] = Stage::Up;
        self.state.nodes[node].lanes.open(handle(link));
        self.feed(node, PeerInput::LinkUp { link: handle(link), direction })
    }

    pub(super) fn act(&mut self, action: Action) -> Result<(), String> {
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
                let node = link % 2;
                self.up(link, node, Direction::Dialled(self.dial_of(link)))
            }
            Action::DialFails(link) => {
                let link = usize::from(link);
                let node = link % 2;
                let dial = self.dial_of(link);
                self.state.link_mut(link).ends[node] = Stage::Gone;
                self.feed(node, PeerInput::DialFailed { dial, error: DialError::TimedOut })
            }
            Action::Deliver { link, from, lane } => {
                let (link, from, lane) = (usize::from(link), usize::from(from), usize::from(lane));
                let node = 1 - from;
                if self.state.link(link).ends[node] == Stage::Unknown {
                    self.up(link, node, Direction::Accepted)?;
                }
                let queue = &mut self.state.link_mut(link).under_way[from][lane];
                let Some(frame) = queue.pop_front() else { return Ok(()) };
                self.tell(|| format!("node {node} hears on link {link}: {frame}"));
                self.arrive(node, handle(link), lane, frame)
            }
            Action::HearClose { link, node } => {
                let (link, node) = (usize::from(link), usize::from(node));
                let Stage::Closed(code) = self.state.link(link).ends[1 - node] else {
                    return Ok(());
                };
                self.state.link_mut(link).ends[1 - node] = Stage::Gone;
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
            Action::Break { link, node, kept, expire } => {
                let (link, node) = (usize::from(link), usize::from(node));
                self.state.left.breaks -= 1;
                self.state.harmed = true;
                for (lane, kept) in kept.into_iter().enumerate() {
                    let queue = &mut self.state.link_mut(link).under_way[node][lane];
                    queue.truncate(usize::from(kept));
                }
                if !expire {
                    return self.down(link, node, DownReason::TimedOut);
                }
                let timer = PeerTimer::Handshake(handle(link));
                self.state.nodes[node].timers.retain(|armed| *armed != timer);
                self.feed(node, PeerInput::Timer(timer))
            }
            Action::Stall { link, from, lane } => {
                self.state.left.stalls -= 1;
                self.state.harmed = true;
                let entry = self.state.link_mut(usize::from(link));
                entry.stalled[usize::from(from)][usize::from(lane)] = true;
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
                self.state.nodes[node] = Shared::new(new);
                for link in self.state.links.iter_mut().flatten() {
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
                for link in self.state.links.iter_mut().flatten() {
                    if link.ends.contains(&Stage::Up) {
                        link.dead = true;
                        link.tidy();
                    }
                }
                Ok(())
            }
        }
    }

    /// Dials are numbered within a life of their node.
    fn dial_of(&self, link: usize) -> DialHandle {
        let dialler = link % 2;
        let earlier_lives =
            self.state.links[dialler].len() as u64 - self.state.nodes[dialler].dials;
        DialHandle(link as u64 / 2 + 1 - earlier_lives)
    }
}
