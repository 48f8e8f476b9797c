//! The streams of events to peers: when they go on, and when what is under way is lost.

use crate::base::{Bound, Limits, PeerKey};
use crate::events::batch::Together;
use crate::events::publications::Part;
use crate::events::sender::{Outgoing, Pushed};
use crate::link::LinkCommand;
use crate::mesh::Mesh;
use crate::mesh::event::Event;
use crate::mesh::outbound::OutItem;
use crate::peer::PeerInput;

impl Mesh {
    pub(super) fn push_event(
        &mut self,
        peer: PeerKey,
        lane: usize,
        event: Outgoing,
        part: Option<Part>,
    ) {
        if let Some(part) = &part {
            self.publications.sent(part.publication);
        }
        if self.sender.push(peer, lane, event, part.map(Box::new)) {
            self.mark_events(peer, lane);
        }
    }

    /// The largest payload that a peer accepts, in bytes.
    pub(super) fn accepts_bytes(&self, peer: PeerKey) -> usize {
        self.peers.get(peer).map_or(usize::MAX, |entry| entry.accepts_bytes)
    }

    /// Says whether they get it. Everybody does, or nobody.
    pub(super) fn push_event_to_all(
        &mut self,
        peers: &[PeerKey],
        lane: usize,
        event: &Together<'_>,
    ) -> bool {
        let pushed = self.sender.push_to_all(peers, lane, event);
        if pushed == Pushed::Begun {
            for peer in peers {
                self.mark_events(*peer, lane);
            }
        }
        pushed != Pushed::NoRoom
    }

    /// An event passes a peer over, for want of room if it is connected. One that has acknowledged nothing for long is
    /// closed: says whether it was.
    pub(super) fn lags(&mut self, peer: PeerKey) -> bool {
        let now = self.now.mono;
        let Some(entry) = self.peers.get(peer) else { return false };
        let Some(link) = entry.machine.sending_link() else { return false };
        self.refusals.count(Bound::EventsUnacknowledged);
        if entry.lags_since.is_none() {
            let [amount, per_second, burst] = vain_waits(&self.limits);
            self.rare_events().vain_waits.take(now, amount, per_second, burst);
        }
        let Some(entry) = self.peers.get_mut(peer) else { return false };
        let since = *entry.lags_since.get_or_insert(now);
        let patience = self.limits.events_ack_patience;
        if now.since(since) < patience {
            return false;
        }
        self.refusals.count(Bound::EventsAckPatience);
        let what = format!("it has acknowledged no event for {patience:?}, and many wait");
        self.feed_peer(peer, PeerInput::Fault { link, what });
        self.end_event_stream(peer);
        // It is not waited for again before it has acknowledged something.
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.lags_since = Some(now);
        }
        true
    }

    /// Whether publishers may wait for room at peers that have been waited for in vain too rarely to be passed over. Many
    /// that take nothing, one after the other, must not keep them waiting all the time.
    pub(super) fn may_wait_for_room(&mut self) -> bool {
        let now = self.now.mono;
        let [amount, per_second, burst] = vain_waits(&self.limits);
        let rare = self.rare_events.as_mut();
        rare.is_none_or(|rare| rare.vain_waits.has(now, amount, per_second, burst))
    }

    /// Tells the link that is sent on that events wait.
    pub(super) fn mark_events(&mut self, peer: PeerKey, lane: usize) {
        let link = self.peers.get(peer).and_then(|entry| entry.machine.sending_link());
        let Some(link) = link else { return };
        if self.links.get_mut(&link).is_some_and(|entry| entry.out.mark_events(lane)) {
            self.link_commands.push_back(LinkCommand::FramesReady { link });
        }
    }

    pub(in crate::mesh) fn mark_waiting_events(&mut self, peer: PeerKey) {
        let waiting: Vec<usize> = self.sender.waiting(peer).collect();
        for lane in waiting {
            self.mark_events(peer, lane);
        }
    }

    /// A link to a peer is up, and may be the first for a while.
    pub(in crate::mesh) fn events_ready(&mut self, peer: PeerKey) {
        self.mark_waiting_events(peer);
        let session = self.peers.get(peer).and_then(|entry| entry.machine.session());
        if let Some(session) = session
            && self.publisher.is_incremental(peer)
        {
            let boot = session.boot;
            self.receiver.link_ready(peer, boot);
            self.returns_go_on(peer, Some(boot));
            self.send_on_control(peer, OutItem::EventAck);
        }
    }

    /// What was under way to a peer on a link is in doubt.
    pub(in crate::mesh) fn events_in_doubt(&mut self, peer: PeerKey, connected: bool) {
        let mut reports = Vec::new();
        self.sender.link_lost(peer, connected, &mut reports);
        self.report(peer, reports);
        if connected {
            self.events_ready(peer);
        }
    }

    /// What was under way to a peer's life, or from ours, is lost.
    pub(in crate::mesh) fn end_event_stream(&mut self, peer: PeerKey) {
        self.end_stream(peer, true);
    }

    /// What is not acknowledged is lost; of what is `in_doubt` a subscriber may have it.
    pub(super) fn end_stream(&mut self, peer: PeerKey, in_doubt: bool) {
        let mut reports = Vec::new();
        let (count, room) = self.sender.forget(peer, in_doubt, &mut reports);
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.lags_since = None;
        }
        self.report(peer, reports);
        if room {
            self.events.push_back(Event::PublishRoom);
        }
        if count > 0
            && let Some(peer) = self.peers.get(peer).map(|entry| entry.id)
        {
            self.events.push_back(Event::EventsLost { peer, count });
        }
    }

    /// The peer's life is over.
    pub(in crate::mesh) fn forget_events(&mut self, peer: PeerKey) {
        self.end_event_stream(peer);
        self.receiver.session_ended(peer);
        if self.interest.forget(peer) {
            self.plans.forget();
        }
    }

    /// Whether every peer that can be reached has acknowledged every event.
    pub(in crate::mesh) fn events_are_through(&self) -> bool {
        let up = self.peers.iter().filter(|(_, entry)| entry.machine.is_up());
        up.into_iter().all(|(key, _)| self.sender.unacknowledged(key) == 0)
    }
}

/// What one wait in vain takes of [`RareEvents::vain_waits`](super::RareEvents), how much comes a second, and how much there is at most.
fn vain_waits(limits: &Limits) -> [u64; 3] {
    let interval_ms = u64::from(limits.publish_wait_interval_ms.max(1));
    let burst = 1_000 * u64::from(limits.publish_waits_in_vain_max);
    [1_000, (1_000_000 / interval_ms).max(1), burst]
}
