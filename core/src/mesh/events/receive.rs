//! From what peers say of events to the queues of subscribers here.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::auth::Permission;
use crate::base::PeerKey;
use crate::events::ack::EventAck;
use crate::events::decisions::Decision;
use crate::events::group::GroupName;
use crate::events::plan::Plan;
use crate::events::receiver::Arrival;
use crate::events::run::Run;
use crate::events::sender::{Acknowledged, Word};
use crate::events::{EventId, EventMessage, Marks, MissedWhy};
use crate::link::{Lane, LinkHandle};
use crate::mesh::Mesh;
use crate::mesh::event::Event;
use crate::mesh::outbound::OutItem;
use crate::payload::Payload;
use crate::peer::PeerInput;
use crate::planted::is_planted;
use crate::topic::TopicPath;
use crate::wire::{EventFrame, EventsFrame, EventsFrom};

/// Payloads up to this size are copied out of what came, so that one small event does not keep a whole datagram.
const COPIED_BYTES_MAX: usize = 1_024;

/// Copies share buffers of so many bytes, each twice as large as the one before: who gets few events takes little. And no
/// more than the last a subscriber may keep alive with one small event. Guesses.
const PAYLOADS_BYTES_FIRST: usize = 128;
const PAYLOADS_BYTES_MAX: usize = 4_096;

/// Where small payloads are copied to.
#[derive(Clone, Default)]
pub(in crate::mesh) struct Payloads {
    buffer: BytesMut,
    /// How large the present buffer was at first.
    bytes: usize,
}

impl Payloads {
    /// A small payload, apart from what came with it.
    fn copy(&mut self, payload: &[u8]) -> Bytes {
        if self.buffer.capacity() < payload.len() {
            self.bytes = (2 * self.bytes).clamp(PAYLOADS_BYTES_FIRST, PAYLOADS_BYTES_MAX);
            self.buffer = BytesMut::with_capacity(self.bytes.max(payload.len()));
        }
        self.buffer.extend_from_slice(payload);
        self.buffer.split().freeze()
    }
}

impl Mesh {
    pub(in crate::mesh) fn events_begin(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        from: EventsFrom,
    ) {
        let session = self.peers.get(peer).and_then(|entry| entry.machine.session());
        let Some(boot) = session.map(|session| session.boot) else { return };
        match self.receiver.begins(peer, link, lane, boot, from) {
            Ok(0) => {}
            Ok(lost) => self.missed(peer, lost, MissedWhy::Interrupted),
            Err(what) => self.events_fault(peer, link, what),
        }
    }

    pub(in crate::mesh) fn event_arrived(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        event: EventFrame,
    ) {
        let Some((number, _)) = self.event_counts(peer, link, lane, 1) else { return };
        let Some(entry) = self.peers.get(peer) else { return };
        let Some(session) = entry.machine.session() else { return };
        let id = EventId { publisher: entry.id, boot: session.boot, sequence: event.sequence };
        let (topic, plan) = match self.decide(peer, event.topic) {
            Ok(decided) => decided,
            Err(what) => return self.complain(peer, what),
        };
        let size = event.payload.len();
        let bytes = match size <= COPIED_BYTES_MAX {
            true => self.payloads.copy(&event.payload),
            false => event.payload,
        };
        let payload = Payload::Encoded { content: event.content, bytes };
        let marks = Marks {
            redelivered: event.redelivered,
            one_per_service: event.one_per_service,
            local: false,
        };
        let run = EventMessage::new(id, topic, payload, size, marks).into();
        if event.everyone {
            let here = if event.one_per_service { &plan.plain_here } else { &plan.all_here };
            for key in here {
                self.deliver_to(*key, &run);
            }
        }
        let groups = event.groups.into_iter().map(|g| g.map(|g| GroupName::Group(g.into())));
        let services = event.services.into_iter().map(|service| {
            service.map(|path| self.access.localise(peer, path).map(GroupName::Service))
        });
        let mut declined = Vec::new();
        let names: Vec<_> = groups.map(|name| name.map(Some)).chain(services).collect();
        for (place, name) in names.into_iter().enumerate() {
            let Some(name) = name else { continue };
            let members = name.as_ref().and_then(|name| plan.members(name));
            match members.and_then(|members| self.choose_here(&id, members, size)) {
                Some(key) => self.deliver_to(key, &run),
                None => declined.push(place as u32),
            }
        }
        if !declined.is_empty() {
            self.receiver.declined(peer, lane, number, declined);
        }
    }

    /// Several events that came together.
    pub(in crate::mesh) fn events_arrived(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        events: EventsFrame,
    ) {
        let Some((_, old)) = self.event_counts(peer, link, lane, events.count) else { return };
        let Some(entry) = self.peers.get(peer) else { return };
        let Some(session) = entry.machine.session() else { return };
        let (publisher, boot) = (entry.id, session.boot);
        let mut old = old as usize;
        for run in events.runs {
            let known = old.min(run.events.len());
            old -= known;
            let new = &run.events[known..];
            if new.is_empty() {
                continue;
            }
            let (topic, plan) = match self.decide(peer, run.topic) {
                Ok(decided) => decided,
                Err(what) => {
                    self.complain(peer, what);
                    continue;
                }
            };
            if plan.all_here.is_empty() {
                continue;
            }
            let carried = new.iter().map(|(sequence, at)| {
                (*sequence, &events.bytes[at.start as usize..at.end as usize])
            });
            let run = Run::copied(publisher, boot, topic, run.content, carried);
            for key in &plan.all_here {
                self.deliver_to(*key, &run);
            }
        }
    }

    /// Who gets an event of a peer, and its topic as it is written here; or why nobody does.
    fn decide(
        &mut self,
        peer: PeerKey,
        written: TopicPath,
    ) -> Result<(TopicPath, Arc<Plan>), String> {
        if let Some(decision) = self.decisions.of(peer, &written, self.plans.generation())
            && self.access.stands(self.now, peer, &decision.permit)
        {
            return Ok((decision.topic.clone(), Arc::clone(&decision.plan)));
        }
        let mut topic = written.clone();
        if !self.access.localise_in_place(peer, &mut topic) {
            return Err("it publishes in no network that we share".to_string());
        }
        let permit = self.access.permit(self.now, peer, Permission::Publish, &topic);
        let permit = match permit {
            Err(denied) if !is_planted(77) => {
                return Err(format!("it publishes to '{topic}': {denied}"));
            }
            permit => permit.ok(),
        };
        let (topic, plan, _) = self.plan(&topic);
        if let Some(permit) = permit {
            let (topic, plan) = (topic.clone(), Arc::clone(&plan));
            let generation = self.plans.generation();
            // Not as it came: that would keep alive what came with it. Mostly it is written alike here.
            let written = match written == topic {
                true => topic.clone(),
                false => TopicPath::parse(written.as_str()).expect("it is one"),
            };
            self.decisions.remember(Decision { peer, written, permit, topic, plan, generation });
        }
        Ok((topic, plan))
    }

    pub(in crate::mesh) fn events_skipped(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        count: u64,
    ) {
        if self.event_counts(peer, link, lane, 1).is_some() && count > 0 {
            self.missed(peer, count, MissedWhy::PassedOver);
        }
    }

    /// Counts a frame of so many events in. Its first number, and how many of them have come before, if the frame is
    /// to be looked at.
    fn event_counts(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        count: u64,
    ) -> Option<(u64, u64)> {
        // What comes after the last acknowledgement is known not to have come.
        if self.last_ack_said {
            return None;
        }
        match self.receiver.arrived(peer, link, lane, count) {
            Ok(arrival) => {
                if self.receiver.wants_ack(peer) {
                    self.send_on_control(peer, OutItem::EventAck);
                }
                match arrival {
                    Arrival::New { number, old } => Some((number, old)),
                    Arrival::Old | Arrival::Early => None,
                }
            }
            Err(what) => {
                self.events_fault(peer, link, what);
                None
            }
        }
    }

    pub(super) fn events_fault(&mut self, peer: PeerKey, link: LinkHandle, what: &str) {
        self.feed_peer(peer, PeerInput::Fault { link, what: what.to_string() });
    }

    pub(in crate::mesh) fn events_acknowledged(&mut self, peer: PeerKey, ack: &EventAck) {
        let word = self.sender.heard(peer, ack);
        if word == Word::Forgotten {
            return self.end_event_stream(peer);
        }
        let mut reports = Vec::new();
        let before = self.sender.unacknowledged(peer);
        let Acknowledged { room, waits } = self.sender.acknowledged(peer, ack, &mut reports);
        let has_progressed = self.sender.unacknowledged(peer) < before;
        if has_progressed
            && let Some(entry) = self.peers.get_mut(peer)
            && entry.lags_since.is_some()
        {
            let relaxed = self.sender.is_half_empty(peer);
            entry.lags_since = (!relaxed).then_some(self.now.mono);
        }
        self.report(peer, reports);
        self.take_back(peer, ack);
        if ack.is_last {
            return self.end_stream(peer, false);
        }
        if ack.again != 0 || word == Word::Awaited || waits {
            self.mark_waiting_events(peer);
        }
        if room {
            self.events.push_back(Event::PublishRoom);
        }
    }

    /// What a peer does without the right to it is ignored, and said once.
    pub(super) fn complain(&mut self, peer: PeerKey, what: String) {
        if self.receiver.complain(peer)
            && let Some(peer) = self.peers.get(peer).map(|entry| entry.id)
        {
            let what = format!("{what}; that is ignored");
            self.events.push_back(Event::ClaimIgnored { peer, what });
        }
    }
}
