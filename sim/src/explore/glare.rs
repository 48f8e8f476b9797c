//! Two nodes that dial each other, in every order in which that can go.
//!
//! Each node is the real machine of a peer ([`dunlin_core::peer::Peer`]) with the real accounts of its lanes
//! ([`dunlin_core::peer::lanes::Lanes`]); the model adds what the mesh does with effects, a network of
//! links, and an application
//! that sends numbered frames. There is no time: a timer may expire whenever it is armed and what it
//! waits for is not certain to come first.
//!
//! What can go wrong, besides every order of everything: up to two dials a side at once, any one frame
//! lost or one link that dies, one restart, one change of address, one lane that stalls. See [`Faults`].
//!
//! # What is left out, and why nothing is missed
//!
//! - *A loss happens when it is noticed.* That a frame is lost changes nothing until an end gives the link up
//!   for it: it keeps that frame and those behind it on its lane from coming, which they may also do by
//!   being slow. So of all moments of the loss only the last is explored, that of the first end's notice:
//!   [`Action::Break`] is both in one step, with what of the frames under way *from* that end still comes. (What
//!   was under way *to* it arrives nowhere.) That nothing of either lane comes is the death of the link,
//!   and that all of it comes is the loss of a frame to the end that notices.
//!   This is a partial-order reduction (Godefroid, 1996): the loss commutes with every other step that is possible
//!   between the two moments.
//! - *Links are numbered by their dialler*, so that two dials of different nodes commute.
//! - *Which node has the higher id* matters only where the two differ in something else.
//!
//! The rules (protocols.md, section 2), checked at every step and wherever only faults can follow:
//! both ends keep the same link, and one; there is one if the network allows it; no peer-down without a
//! fault; no frame lost or doubled, none out of order without a fault; the lower id never closes for
//! glare; a link never loses to one that the rule ranks below it; the peer never breaks a rule.

use dunlin_core::link::LinkHandle;
use dunlin_core::peer::PeerTimer;

use super::Model;
use super::fingerprint::Shared;
use super::network::{Link, Stage};
use super::nodes::{Node, Parts, State, Work};

/// Dials of one node beyond which its redial timer no longer expires, unless a configuration says otherwise: what
/// fails for ever must end.
const DIALS_MAX: u64 = 3;

/// What may go wrong, each at most so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Faults {
    /// A frame is lost, and with it what is behind it on its lane, or a whole link: an end gives it up.
    pub breaks: u8,
    /// A node restarts.
    pub restarts: u8,
    /// A node is somewhere else.
    pub moves: u8,
    /// A lane of a link stalls: what is on it comes no more, and yet the link lives.
    pub stalls: u8,
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
    /// Dials beyond which a node's redial timer no longer expires. Whoever learns of an address dials nevertheless.
    pub dials_max: u64,
    /// Numbered frames that each node sends.
    pub frames: [u8; 2],
    /// What may go wrong.
    pub faults: Faults,
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
    /// Fault: a frame is lost, and a node notices: it gives the link up, or the handshake, if that has not
    /// ended. So many of the frames that it sent on each lane still come.
    Break { link: u8, node: u8, kept: [u8; 2], expire: bool },
    /// Fault: a lane of a node stalls.
    Stall { link: u8, from: u8, lane: u8 },
    /// Fault: a node restarts.
    Restart(u8),
    /// Fault: a node moves.
    Move(u8),
}

/// Every configuration that is explored, by its name, and whether it takes long.
pub fn configurations() -> Vec<(String, Glare)> {
    let none = Faults { breaks: 0, restarts: 0, moves: 0, stalls: 0 };
    let mut all = Vec::new();
    for higher in 0..2 {
        let of = if higher == 0 { "node 0 higher" } else { "node 1 higher" };
        let mut add = |what: &str, can_dial: [bool; 2], twice, frames: [u8; 2], faults| {
            let dials_max = DIALS_MAX;
            let glare = Glare { higher, can_dial, twice, dials_max, frames, faults };
            // Where the two differ in nothing else, one is the mirror image of the other.
            if higher == 0 || can_dial[0] != can_dial[1] || frames[0] != frames[1] {
                all.push((format!("{of}, {what}"), glare));
            }
        };
        add("two dials a side", [true; 2], [true; 2], [0, 0], none);
        add("one dial a side, frames", [true; 2], [false; 2], [2, 1], none);
        let faults = Faults { breaks: 1, ..none };
        add("a frame or a link lost", [true; 2], [false; 2], [1, 0], faults);
        let faults = Faults { stalls: 1, ..none };
        add("a lane stalls", [true; 2], [false; 2], [1, 0], faults);
        let faults = Faults { restarts: 1, ..none };
        add("a restart", [true; 2], [false; 2], [1, 0], faults);
        let faults = Faults { moves: 1, ..none };
        add("a change of address", [true; 2], [false; 2], [0, 0], faults);
        let faults = Faults { breaks: 1, restarts: 1, ..none };
        add("only node 0 can dial, loss and restart", [true, false], [false; 2], [0, 0], faults);
        add("only node 1 can dial, loss and restart", [false, true], [false; 2], [0, 0], faults);
    }
    all
}

/// Two dials at once together with each fault. These take long.
///
/// A change of address is followed by dials of its own, of whoever learns of it and of whoever loses a link. Behind
/// two dials at once on both sides that makes more states than can be gone through (13 million by the 16th of
/// some 40 steps), so one of the nodes makes its dials one after the other.
pub fn deep() -> Vec<(String, Glare)> {
    let none = Faults { breaks: 0, restarts: 0, moves: 0, stalls: 0 };
    let both = ("two dials a side", [true; 2], DIALS_MAX);
    let moves = Faults { moves: 1, ..none };
    let all = [
        (both, "a frame or a link lost", Faults { breaks: 1, ..none }),
        (both, "a lane stalls", Faults { stalls: 1, ..none }),
        (both, "a restart", Faults { restarts: 1, ..none }),
        (("two dials a side, node 1's in turn", [true, false], 2), "a change of address", moves),
        (("two dials a side, node 0's in turn", [false, true], 2), "a change of address", moves),
    ];
    let configuration = |((dials, twice, dials_max), what, faults)| {
        let can_dial = [true; 2];
        let glare = Glare { higher: 0, can_dial, twice, dials_max, frames: [0, 0], faults };
        (format!("{dials}, {what}"), glare)
    };
    all.map(configuration).into()
}

/// Wrong rules by their names, and the planted bug that each is.
#[cfg(dunlin_planted)]
pub const RULES: [(&str, u32); 9] = [
    ("lower-id-wins", 20),
    ("coin-flip", 21),
    ("close-before-confirm", 22),
    ("ids-gate-dialling", 23),
    ("first-come-stays", 24),
    ("dial-number-ignored", 25),
    ("drained-for-good", 32),
    ("no-cut", 33),
    ("drain-without-end", 36),
];

/// The ways in which a node can give up a link that is up because of a frame that is lost.
fn breaks(here: &Node, (l, link): (u8, &Link), node: u8, out: &mut Vec<Action>) {
    let [control, shared] = [0, 1].map(|lane| link.under_way[usize::from(node)][lane].len() as u8);
    let timer = PeerTimer::Handshake(LinkHandle(u64::from(l)));
    for kept in (0..=control).flat_map(|a| (0..=shared).map(move |b| [a, b])) {
        out.push(Action::Break { link: l, node, kept, expire: false });
        if here.timers.contains(&timer) {
            out.push(Action::Break { link: l, node, kept, expire: true });
        }
    }
}

impl Model for Glare {
    type State = State;
    type Action = Action;
    type Pool = Parts;

    fn initial(&self) -> State {
        let mut state = State {
            nodes: [0, 1].map(|node| Shared::new(self.node(node, 1))),
            links: Default::default(),
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
        let links = "node 0's dials are links 0, 2, 4, node 1's are links 1, 3, 5";
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
                    // A handshake takes ten seconds only where something is lost or stuck.
                    PeerTimer::Handshake(link) => {
                        let entry = state.link(link.0 as usize);
                        let closed = matches!(entry.ends[1 - here], Stage::Closed(_));
                        entry.may_die(here) || entry.is_stalled() || (state.harmed && closed)
                    }
                    PeerTimer::Redial => node.dials < self.dials_max,
                    // It has the application's frames sent again, if there are any.
                    PeerTimer::Drain(_) => node.sent > 0,
                    // It takes longer than it takes to notice that a link is dead.
                    PeerTimer::DrainEnd(_) => state.all_links().any(|(_, link)| link.is_stalled()),
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
        for (l, link) in state.all_links() {
            let (l, dialler) = (l as u8, link.dialler);
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
                    let stalled = link.stalled[usize::from(from)][usize::from(lane)];
                    if hears && !queue.is_empty() && lane_may && !stalled {
                        out.push(Action::Deliver { link: l, from, lane });
                        if state.left.stalls > 0 {
                            out.push(Action::Stall { link: l, from, lane });
                        }
                    }
                }
                if link.ends[here] == Stage::Up {
                    if state.left.breaks > 0 {
                        breaks(&state.nodes[here], (l, link), node, out);
                    }
                    if matches!(link.ends[1 - here], Stage::Closed(_)) && !link.dead {
                        out.push(Action::HearClose { link: l, node });
                    } else if link.may_die(here)
                        || (link.dead && matches!(link.ends[1 - here], Stage::Closed(_)))
                    {
                        out.push(Action::Notice { link: l, node });
                    }
                }
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
            Action::Break { .. } | Action::Stall { .. } | Action::Restart(_) | Action::Move(_)
        )
    }

    fn share(&self, state: &mut State, parts: &mut Parts) {
        state.nodes.iter_mut().for_each(|node| parts.nodes.share(node));
        state.links.iter_mut().flatten().for_each(|link| parts.links.share(link));
    }

    fn sweep(&self, parts: &mut Parts) {
        parts.nodes.sweep();
        parts.links.sweep();
    }

    fn at_rest(&self, state: &State) -> Result<(), String> {
        let links: [Vec<LinkHandle>; 2] =
            [0, 1].map(|node: usize| state.nodes[node].peer.links_up().collect());
        match [&links[0][..], &links[1][..]] {
            [[ours], [theirs]] if ours == theirs => {}
            [[], []] => {
                let could = |n: usize| self.can_dial[n] && state.nodes[n].dials < self.dials_max;
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
        if links[0].iter().any(|link| state.link(link.0 as usize).is_stalled()) {
            // It lives and carries nothing: that is for whoever sends to notice.
            return Ok(());
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
            Action::Break { link, node, kept, expire } => {
                let gives_up = if expire { "the handshake of link" } else { "link" };
                let [control, shared] = kept;
                format!(
                    "FAULT: a frame is lost, and node {node} gives up {gives_up} {link}; of its own \
                     frames {control} and {shared} still come"
                )
            }
            Action::Stall { link, from, lane } => {
                let lane = if lane == 0 { "control" } else { "shared" };
                format!("FAULT: the {lane} lane of node {from} on link {link} stalls")
            }
            Action::Restart(node) => format!("FAULT: node {node} restarts"),
            Action::Move(node) => format!("FAULT: node {node} moves to another address"),
        }
    }
}
