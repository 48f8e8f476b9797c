//! Links as the mesh keeps them: what arrives on several links to one peer goes on in its order, and what is
//! sent moves from one to another. Also the node's own next life.

use std::net::SocketAddr;

use crate::auth::LifeRecord;
use crate::base::{Bound, Incarnation, Label, PeerId, PeerKey};
use crate::link::{CloseCode, Direction, End, Lane, LinkCommand, LinkHandle, LinkId, Sent};
use crate::mesh::event::Event;
use crate::mesh::outbound::OutItem;
use crate::mesh::{LIFE_LEAST, LinkEntry, Mesh, Phase};
use crate::peer::lanes::{Arriving, Delivered, HeldLimits};
use crate::peer::{PeerInput, RefuseCode};
use crate::planted::is_planted;
use crate::rpc::{CalleeInput, CallerInput};
use crate::wire::{COUNTER_MAX, Hello, Message, VERSION_MIN};

/// One part in so many of the tables of links and peers is kept for peers that this node was told to connect to.
const RESERVED_PART: usize = 8;

impl Mesh {
    pub(super) fn link_up(
        &mut self,
        link: LinkHandle,
        id: PeerId,
        direction: Direction,
        remote: Option<SocketAddr>,
    ) {
        if let Direction::Dialled(dial) = direction {
            self.dials.remove(&dial);
        }
        let refuse = |mesh: &mut Mesh, code| {
            mesh.link_commands.push_back(LinkCommand::Close { link, code, flush: false });
        };
        if self.phase == Phase::Stopped {
            return refuse(self, CloseCode::SHUTDOWN);
        }
        if id == self.local.id {
            return refuse(self, CloseCode::PROTOCOL_FAULT);
        }
        let known = self.by_id.get(&id).and_then(|key| self.peers.get(*key));
        let kept = known.is_some_and(|entry| entry.machine.is_kept());
        // A part of each table is for peers that this node was told to connect to.
        let room = |max: usize| if kept { max } else { max - max / RESERVED_PART };
        if self.links.len() >= room(self.limits.links_max) || self.links.contains_key(&link) {
            self.refusals.count(Bound::Links);
            return refuse(self, CloseCode::TOO_MANY_LINKS);
        }
        if known.is_none() && self.peers.len() >= room(self.limits.peers_max) {
            self.sweep();
        }
        if !self.by_id.contains_key(&id) && self.peers.len() >= room(self.limits.peers_max) {
            self.refusals.count(Bound::Peers);
            return refuse(self, CloseCode::TOO_MANY_LINKS);
        }
        let Some(peer) = self.peer_key(id) else {
            self.refusals.count(Bound::Peers);
            return refuse(self, CloseCode::TOO_MANY_LINKS);
        };
        if direction == Direction::Accepted && !kept {
            if let Some((oldest, bound)) = self.unverified.crowding(remote, &self.limits) {
                self.refusals.count(bound);
                // It may be closed in a later step. Its room is taken now.
                self.unverified.remove(oldest);
                self.turn_away(oldest, bound);
            }
            self.unverified.insert(link, remote);
        }
        self.links.insert(link, LinkEntry { peer, remote, out: Box::default() });
        self.peers.get_mut(peer).expect("just looked up").lanes.open(link);
        self.feed_peer(peer, PeerInput::LinkUp { link, direction });
    }

    /// Closes a link that a bound leaves no room for.
    pub(super) fn turn_away(&mut self, link: LinkHandle, bound: Bound) {
        let Some(peer) = self.links.get(&link).map(|entry| entry.peer) else { return };
        let why = format!("no room: {} is reached", bound.name());
        self.feed_peer(peer, PeerInput::TurnAway { link, code: RefuseCode::NoRoom, why });
    }

    /// A link is gone: its peer, and what waited for it to deliver and waits no longer.
    pub(super) fn forget_link(
        &mut self,
        link: LinkHandle,
    ) -> Option<(PeerKey, Vec<Delivered<Message>>)> {
        let peer = self.links.remove(&link)?.peer;
        self.unverified.remove(link);
        let mut released = Vec::new();
        let entry = self.peers.get_mut(peer)?;
        if !entry.lanes.is_certain(link) {
            entry.uncertain.push(link);
        }
        let before = entry.lanes.held_bytes();
        entry.lanes.close(link, &mut released);
        self.held_bytes = self.held_bytes + entry.lanes.held_bytes() - before;
        self.receiver.link_gone(peer, link);
        Some((peer, released))
    }

    pub(super) fn deliver(&mut self, peer: PeerKey, released: Vec<Delivered<Message>>) {
        for (link, lane, message) in released {
            self.message(peer, link, lane, message);
        }
    }

    /// A message came, in a frame of so many bytes. On a lane that has moved it may have to wait for those before it.
    pub(super) fn arrived(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        (message, frame_bytes): (Message, usize),
    ) {
        if !lane.is_legal() {
            let what = format!("a message on {lane:?}, which has no meaning");
            return self.feed_peer(peer, PeerInput::Fault { link, what });
        }
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if lane.is_own() {
            entry.lanes.arrived_own(link);
            self.message(peer, link, lane, message);
        } else if !matches!(message, Message::Cut { .. }) && entry.lanes.passes(link, lane) {
            self.message(peer, link, lane, message);
        } else {
            self.arrived_behind(peer, link, lane, (message, frame_bytes));
        }
        self.look_for_drained(peer);
    }

    /// A cut came, or what may have to wait behind one.
    fn arrived_behind(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        (message, frame_bytes): (Message, usize),
    ) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let what = match message {
            Message::Cut { from, frames } if lane != Lane::CONTROL => {
                let from = entry.machine.link_of(from);
                if from.is_some_and(|from| !entry.lanes.is_possible(from, lane, frames)) {
                    let what = format!("a Cut behind {frames} frames, which were never sent");
                    return self.feed_peer(peer, PeerInput::Fault { link, what });
                }
                Arriving::Cut { from, frames }
            }
            message => Arriving::Frame(message),
        };
        let mut released = Vec::new();
        let before = entry.lanes.held_bytes();
        let limits = HeldLimits {
            frames_max: self.limits.frames_held_per_peer_max,
            bytes_max: self.limits.held_bytes_per_peer_max,
        };
        let held = entry.lanes.arrive(link, lane, (what, frame_bytes), limits, &mut released);
        self.held_bytes = self.held_bytes + entry.lanes.held_bytes() - before;
        self.deliver(peer, released);
        let awaited = match held {
            Err(overflow) => {
                self.refusals.count(Bound::HeldBytesPerPeer);
                Some(overflow.awaited)
            }
            Ok(()) if self.held_bytes > self.limits.held_bytes_max => {
                self.refusals.count(Bound::HeldBytes);
                self.peers.get(peer).and_then(|entry| entry.lanes.awaited(link, lane))
            }
            Ok(()) => None,
        };
        if let Some(awaited) = awaited {
            let what = "more waits for a drained link than may".to_string();
            // A peer that cuts from a link that nobody drains holds up only itself.
            let input = if self.is_draining(awaited) {
                PeerInput::DrainFailed(awaited)
            } else {
                PeerInput::Fault { link: awaited, what }
            };
            self.feed_peer(peer, input);
        }
    }

    fn look_for_drained(&mut self, peer: PeerKey) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let Some(link) = entry.lanes.complete().next() else { return };
        entry.lanes.clear_end(link);
        self.feed_peer(peer, PeerInput::AllReceived(link));
    }

    /// The peer sends no more on a link: so much has come or will.
    pub(super) fn peer_left(&mut self, peer: PeerKey, loser: LinkId, sent: Sent) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let Some(loser) = entry.machine.link_of(loser) else { return };
        if entry.machine.is_superseded(loser) {
            entry.lanes.set_end(loser, sent);
            self.look_for_drained(peer);
        }
    }

    /// From now on what would go out on one link goes out on another.
    pub(super) fn move_lanes(
        &mut self,
        peer: PeerKey,
        from: LinkHandle,
        from_id: LinkId,
        to: LinkHandle,
    ) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let sent = entry.lanes.sent_on(from);
        if !self.links.contains_key(&to) {
            return;
        }
        let Some(old) = self.links.get_mut(&from) else { return };
        let mut old = std::mem::take(&mut old.out);
        let fresh = match self.links.get_mut(&to) {
            Some(new) => new.out.take_over(&mut old, from_id, sent),
            None => false,
        };
        // The own lanes that it has opened are still its own.
        self.links.get_mut(&from).expect("just looked up").out = old;
        if fresh {
            self.link_commands.push_back(LinkCommand::FramesReady { link: to });
        }
    }

    /// What goes out on a link that is left, in all: what was sent, and what waits on its control lane.
    fn sent_in_all(&self, peer: PeerKey, link: LinkHandle) -> Sent {
        let lanes = self.peers.get(peer).map(|entry| &entry.lanes);
        let mut sent = lanes.map_or_else(Sent::default, |lanes| lanes.sent_on(link));
        let waiting = self.links.get(&link).map_or(0, |entry| entry.out.control_len());
        sent.lanes[0] += waiting as u64;
        sent
    }

    pub(super) fn say_supersede(
        &mut self,
        peer: PeerKey,
        on: LinkHandle,
        loser: LinkHandle,
        loser_id: LinkId,
    ) {
        let sent = self.sent_in_all(peer, loser);
        let message = Message::Supersede { loser: loser_id, sent };
        self.send_control(on, OutItem::Message(Box::new(message)));
    }

    pub(super) fn say_drained(
        &mut self,
        peer: PeerKey,
        on: LinkHandle,
        loser: LinkHandle,
        loser_id: LinkId,
    ) {
        let sent = self.sent_in_all(peer, loser);
        let message = Message::Drained { loser: loser_id, sent };
        self.send_control(on, OutItem::Message(Box::new(message)));
    }

    pub(super) fn say_hello(&mut self, link: LinkHandle, id: LinkId, abandons: Vec<LinkId>) {
        let Some(entry) = self.links.get(&link) else { return };
        let Some(peer) = self.peers.get(entry.peer).map(|peer| peer.id) else { return };
        let observed_address = entry.remote;
        let networks = self.access.blinded(peer, id.dialler == End::Here, &mut self.draws);
        let hello = Message::Hello(Box::new(Hello {
            version_min: VERSION_MIN,
            version_max: self.local.version_max,
            life: self.life,
            call_credit: self.local.call_credit,
            message_bytes_max: self.local.message_bytes_max,
            critical_capabilities: Vec::new(),
            link: id,
            abandons,
            observed_address,
            networks,
        }));
        self.send_control(link, OutItem::Message(Box::new(hello)));
    }

    pub(super) fn say_claims(&mut self, link: LinkHandle, id: LinkId, receiver_boot: u64) {
        let networks = self.access.claims(self.now, link);
        let claims = Message::Claims { link: id, receiver_boot, networks };
        self.send_control(link, OutItem::Message(Box::new(claims)));
    }

    // This node's own lives.

    /// A peer knows a later life of ours. The next one begins behind what is being done.
    pub(super) fn ask_for_life(&mut self, known_counter: u64, told_by: PeerId) {
        let too_soon = self.life_told_at.is_some_and(|at| self.now.mono < at + LIFE_LEAST);
        if self.phase == Phase::Running && !too_soon && known_counter < COUNTER_MAX {
            self.life_asked = Some(Box::new((known_counter, told_by)));
        }
    }

    /// Begins the next life: everything of the old one ends, services stay.
    pub(super) fn begin_life(&mut self, known_counter: u64, told_by: PeerId) {
        let counter =
            if is_planted(34) { self.local.incarnation.counter } else { known_counter + 1 };
        let incarnation = Incarnation { counter, boot: self.draws.number(Label::Boot) };
        self.local.incarnation = incarnation;
        self.life = LifeRecord::sign(&self.identity, incarnation);
        self.life_told_at = Some(self.now.mono);
        self.store_life();
        let peers: Vec<PeerKey> = self.peers.iter().map(|(key, _)| key).collect();
        self.caller.set_boot(incarnation.boot);
        for peer in &peers {
            // What peers asked of the old life is not answered any more.
            self.feed_callee(CalleeInput::SessionEnded(*peer));
            self.feed_caller(CallerInput::SessionEnded(*peer));
            self.end_event_stream(*peer);
        }
        // What is given back later is of the old life.
        self.forget_lent();
        self.callee.set_boot(incarnation.boot);
        self.events.push_back(Event::LifeBegan { incarnation, told_by });
        for peer in peers {
            self.feed_peer(peer, PeerInput::NewLife);
        }
    }
}
