//! Whose effect is whose input.

use crate::auth::{AccessEffect, AccessInput, LifeRecord};
use crate::base::{FewMap, Now, PeerId, PeerKey};
use crate::directory::{
    LocalServices, PublisherEffect, PublisherInput, ReplicaEffect, ReplicaInput, ServiceEffect,
    ServiceState,
};
use crate::events::publications::{PublicationEffect, PublicationInput};
use crate::lease::{AcceptorEffect, ProposerEffect};
use crate::link::{CloseCode, DialHandle, DownReason, Lane, LinkCommand, LinkHandle};
use crate::mesh::event::{Event, Invocation};
use crate::mesh::outbound::OutItem;
use crate::mesh::{Mesh, NodeTimer, PeerEntry, Phase, SWEEP_INTERVAL};
use crate::peer::{PeerEffect, PeerInput};
use crate::planted::is_planted;
use crate::rpc::callee::CalleeEffect;
use crate::rpc::{CalleeInput, CallerEffect, CallerInput, Status};
use crate::wire::{Message, SHARED_CALL_BYTES_MAX};

/// An effect on its way to the next machine.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Peer(PeerKey, PeerEffect),
    Caller(CallerEffect),
    Callee(CalleeEffect),
    Service(ServiceEffect),
    Publisher(PublisherEffect),
    Replica(ReplicaEffect),
    Access(AccessEffect),
    Publication(PublicationEffect),
    // Boxed, as the next one: they are rare, and by far the largest.
    Proposer(usize, Box<ProposerEffect>),
    /// By the place of its registry, and its epoch.
    Acceptor(usize, u64, Box<AcceptorEffect>),
}

impl Mesh {
    /// Carries effects on until none is left, or this input has had its share.
    pub(super) fn run(&mut self) {
        self.work_off(self.limits.steps_per_input_max);
        if self.work.is_empty()
            && let Some(asked) = self.life_asked.take()
        {
            let (known_counter, told_by) = *asked;
            self.begin_life(known_counter, told_by);
            self.work_off(self.limits.steps_per_input_max);
        }
        if self.is_ready_for_last_ack() && self.work.is_empty() {
            self.say_last_ack();
        }
        if self.is_ready_to_stop() && self.work.is_empty() {
            self.finish_shutdown();
        }
    }

    fn work_off(&mut self, steps_max: usize) {
        for _ in 0..steps_max {
            let Some(work) = self.work.pop_front() else { break };
            match work {
                Work::Peer(peer, effect) => self.peer_effect(peer, effect),
                Work::Caller(effect) => self.caller_effect(effect),
                Work::Callee(effect) => self.callee_effect(effect),
                Work::Service(effect) => self.service_effect(effect),
                Work::Publisher(effect) => self.publisher_effect(effect),
                Work::Replica(effect) => self.replica_effect(effect),
                Work::Access(effect) => self.access_effect(effect),
                Work::Publication(effect) => self.publication_effect(effect),
                Work::Proposer(place, effect) => self.proposer_effect(place, *effect),
                Work::Acceptor(place, epoch, effect) => self.acceptor_effect(place, epoch, *effect),
            }
        }
    }

    pub(super) fn on_timer(&mut self, timer: NodeTimer) {
        match timer {
            NodeTimer::Peer(peer, timer) => self.feed_peer(peer, PeerInput::Timer(timer)),
            NodeTimer::Caller(timer) => self.feed_caller(CallerInput::Timer(timer)),
            NodeTimer::Callee(timer) => self.feed_callee(CalleeInput::Timer(timer)),
            NodeTimer::Publisher(timer) => self.feed_publisher(PublisherInput::Timer(timer)),
            NodeTimer::Publication(timer) => {
                self.feed_publications(PublicationInput::Timer(timer));
            }
            NodeTimer::Access(timer) => self.feed_access(AccessInput::Timer(timer)),
            NodeTimer::Proposer(place, timer) => self.proposer_timer(place, timer),
            NodeTimer::Acceptor(place, epoch, timer) => self.acceptor_timer(place, epoch, timer),
            NodeTimer::WantLease(service) => self.want_again(service),
            NodeTimer::LookForWay(call) => self.look_for_way(call),
            NodeTimer::LookAtServices => self.look_at_services(),
            NodeTimer::LeaveGroups => self.groups_are_left(),
            NodeTimer::Lent => self.lent_expires(),
            // It is asked again whether it is ready to stop.
            NodeTimer::Linger => {}
            NodeTimer::Sweep => self.sweep(),
            NodeTimer::ShutdownGrace => self.finish_shutdown(),
        }
        self.run();
    }

    // From the transport.

    pub(super) fn message(
        &mut self,
        peer: PeerKey,
        link: LinkHandle,
        lane: Lane,
        message: Message,
    ) {
        let verified = self.peers.get(peer).is_some_and(|p| p.machine.is_verified(link));
        let on_control = matches!(
            message,
            Message::Hello(_)
                | Message::Claims { .. }
                | Message::Confirm { .. }
                | Message::Directory(_)
                | Message::Delta(_)
                | Message::Heard(_)
                | Message::Heartbeat(_)
                | Message::Refuse { .. }
                | Message::Supersede { .. }
                | Message::Drained { .. }
                | Message::EventAck(_)
                | Message::LeaseRequest(_)
                | Message::LeaseAnswer(_)
                | Message::LeaseLearn(..)
                | Message::LeaseLearned(_)
                | Message::LeaseSeal(..)
                | Message::LeaseSealed(..)
        );
        if on_control != (lane == Lane::CONTROL) && message != Message::Skippable {
            let what = format!("a message on the wrong lane ({lane:?})");
            return self.feed_peer(peer, PeerInput::Fault { link, what });
        }
        let is_met = self.peers.get(peer).is_some_and(|p| p.machine.is_met(link));
        let may_come_first = match message {
            Message::Hello(_) | Message::Refuse { .. } | Message::Skippable => true,
            Message::Claims { .. } => is_met,
            _ => false,
        };
        if !may_come_first && !verified {
            if self.peers.get(peer).is_some_and(|p| p.machine.is_refused(link)) {
                // Said before it heard that its life is over.
                return;
            }
            let what = "it spoke before it was greeted".to_string();
            return self.feed_peer(peer, PeerInput::Fault { link, what });
        }
        let call_bytes = match &message {
            Message::Call(call) => call.payload.len(),
            Message::Reply(reply) => reply.payload.len(),
            _ => 0,
        };
        if call_bytes > SHARED_CALL_BYTES_MAX && !lane.is_own() {
            let what = format!("a call's {call_bytes} bytes on a shared lane");
            return self.feed_peer(peer, PeerInput::Fault { link, what });
        }
        if matches!(message, Message::Call(_) | Message::Cancel { .. })
            && let Some(entry) = self.peers.get_mut(peer)
        {
            entry.asked_on = Some(link);
        }
        match message {
            Message::Hello(hello) => {
                if self.meets(peer, link, &hello) {
                    self.feed_peer(peer, PeerInput::Hello { link, hello });
                }
            }
            Message::Claims { link: id, receiver_boot, networks } => {
                let is_let_in = !is_met
                    || self.lets_in(peer, link, networks)
                        && self.has_room_for_delegated(peer, link);
                if is_let_in {
                    self.feed_peer(peer, PeerInput::Claims { link, id, receiver_boot });
                    let trusts = |p: &PeerEntry| p.machine.is_verified(link);
                    if is_met && self.peers.get(peer).is_some_and(trusts) {
                        self.unverified.remove(link);
                        self.link_commands.push_back(LinkCommand::Trust { link });
                    }
                }
            }
            Message::Confirm { version, directory, link: id, receiver_boot } => {
                self.feed_peer(
                    peer,
                    PeerInput::Confirm { link, version, directory, id, receiver_boot },
                );
            }
            Message::Refuse { code, life } => {
                // A peer may say anything of this node's lives. Only the signature of its own key counts.
                let proves =
                    |life: &LifeRecord| life.is_signed_by(&self.local.id) || is_planted(172);
                let proved = life.filter(proves).map(|life| life.incarnation);
                self.feed_peer(peer, PeerInput::Refuse { link, code, proved });
            }
            Message::Supersede { loser, sent } => {
                self.feed_peer(peer, PeerInput::Supersede { link, loser });
                self.peer_left(peer, loser, sent);
            }
            Message::Drained { loser, sent } => self.peer_left(peer, loser, sent),
            // Those of shared lanes were taken care of as they came.
            Message::Cut { .. } => {
                let what = "a Cut on a lane of its own".to_string();
                self.feed_peer(peer, PeerInput::Fault { link, what });
            }
            Message::Directory(document) => {
                self.feed_replicas(ReplicaInput::Whole { peer, document });
            }
            Message::Delta(delta) => self.feed_replicas(ReplicaInput::Delta { peer, link, delta }),
            Message::Heard(heard) => self.feed_publisher(PublisherInput::Heard { peer, heard }),
            Message::Heartbeat(heartbeat) => {
                self.feed_replicas(ReplicaInput::Heartbeat { peer, heartbeat });
            }
            Message::Call(call) => {
                let (call, route) = self.route_of_peer(peer, call);
                if route == Err(Status::NotActive) {
                    let leader = self.leader_hint(&call.path);
                    return self.feed_callee(CalleeInput::NotActive { peer, call, leader });
                }
                self.feed_callee(CalleeInput::Call { peer, call, route });
            }
            Message::Reply(reply) => {
                if let Some(entry) = self.links.get_mut(&link) {
                    entry.out.end_call(reply.sequence);
                }
                self.feed_caller(CallerInput::Reply { peer, reply });
            }
            Message::Cancel { sequence, floor } => {
                self.feed_callee(CalleeInput::Cancel { peer, sequence, floor });
            }
            Message::Event(event) => self.event_arrived(peer, link, lane, event),
            Message::Events(events) => self.events_arrived(peer, link, lane, events),
            Message::EventsFrom(from) => self.events_begin(peer, link, lane, from),
            Message::EventsSkipped { count } => self.events_skipped(peer, link, lane, count),
            Message::EventAck(ack) => self.events_acknowledged(peer, &ack),
            Message::LeaseRequest(request) => self.lease_asked(Some(peer), request),
            Message::LeaseAnswer(answer) => {
                if let Some(from) = self.peers.get(peer).map(|entry| entry.id) {
                    self.lease_answered(from, answer);
                }
            }
            Message::LeaseLearn(network, learn) => {
                if let Some(from) = self.peers.get(peer).map(|entry| entry.id) {
                    self.lease_learn(from, network, learn);
                }
            }
            Message::LeaseLearned(part) => {
                if let Some(from) = self.peers.get(peer).map(|entry| entry.id) {
                    self.lease_learned(from, part);
                }
            }
            Message::LeaseSeal(network, seal) => {
                if let Some(from) = self.peers.get(peer).map(|entry| entry.id) {
                    self.seal_asked(from, network, seal);
                }
            }
            Message::LeaseSealed(network, sealed) => {
                if let Some(from) = self.peers.get(peer).map(|entry| entry.id) {
                    self.seal_told(from, network, sealed);
                }
            }
            Message::Skippable => {}
        }
    }

    // From the machines.

    fn peer_effect(&mut self, peer: PeerKey, effect: PeerEffect) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let id = entry.id;
        match effect {
            PeerEffect::Dial { addresses } => {
                self.next_dial += 1;
                let dial = DialHandle(self.next_dial);
                entry.machine.dial_started(dial);
                self.dials.insert(dial, peer);
                self.link_commands.push_back(LinkCommand::Dial { dial, peer: id, addresses });
            }
            PeerEffect::CancelDial { dial } => {
                self.dials.remove(&dial);
                self.link_commands.push_back(LinkCommand::CancelDial { dial });
            }
            PeerEffect::SendHello { link, id, abandons } => self.say_hello(link, id, abandons),
            PeerEffect::SendClaims { link, id, incarnation } => {
                self.say_claims(link, id, incarnation.boot);
            }
            PeerEffect::SendConfirm { link, version, incarnation, id } => {
                self.feed_access(AccessInput::Verified { peer, link });
                let directory = self.document_to_confirm(peer);
                let receiver_boot = incarnation.boot;
                let confirm = Message::Confirm { version, directory, link: id, receiver_boot };
                self.send_control(link, OutItem::Message(Box::new(confirm)));
                self.feed_callee(CalleeInput::PeerVerified { peer, boot: incarnation.boot });
            }
            PeerEffect::SendRefuse { link, code, life } => {
                if let Some(entry) = self.links.get_mut(&link) {
                    // Nothing else goes to a life that is over.
                    *entry.out = Default::default();
                }
                let refuse = Message::Refuse { code: code as u32, life: Some(life) };
                self.send_control(link, OutItem::Message(Box::new(refuse)));
            }
            PeerEffect::Move { from, from_id, to } => self.move_lanes(peer, from, from_id, to),
            PeerEffect::SendSupersede { on, loser, loser_id } => {
                self.say_supersede(peer, on, loser, loser_id);
            }
            PeerEffect::SendDrained { on, loser, loser_id } => {
                self.say_drained(peer, on, loser, loser_id);
            }
            PeerEffect::Undrained(link) => entry.lanes.clear_end(link),
            PeerEffect::SendAgain => {
                let connected = entry.machine.is_up();
                self.feed_publisher(PublisherInput::LinkLost { peer, connected });
                self.feed_caller(CallerInput::LinkLost { peer, connected });
                self.events_in_doubt(peer, connected);
            }
            PeerEffect::Close { link, code } => {
                self.start_sweeping();
                self.feed_access(AccessInput::LinkGone(link));
                let released = self.forget_link(link).map(|(_, released)| released);
                self.link_commands.push_back(LinkCommand::Close { link, code, flush: false });
                self.deliver(peer, released.unwrap_or_default());
            }
            PeerEffect::LinkReady {
                link,
                incarnation,
                call_credit,
                message_bytes_max,
                directory,
                first,
            } => {
                if first {
                    let remote = self.links.get(&link).and_then(|l| l.remote);
                    self.events.push_back(Event::PeerUp { peer: id, incarnation, remote });
                }
                if let Some(entry) = self.peers.get_mut(peer) {
                    entry.accepts_bytes = message_bytes_max;
                }
                let incremental = directory.incremental;
                self.feed_replicas(ReplicaInput::Whole { peer, document: directory });
                self.feed_publisher(PublisherInput::Ready { peer, incremental });
                self.learn_again(peer);
                self.events_ready(peer);
                self.feed_caller(CallerInput::PeerReady {
                    peer,
                    boot: incarnation.boot,
                    credit: call_credit,
                    message_bytes_max,
                });
                self.look_for_ways();
            }
            PeerEffect::LinkLost { link, reason, last, drained } => {
                let connected = entry.machine.is_up();
                // What was sent on a link that is drained has come.
                let certain = drained && !entry.uncertain.contains(&link);
                entry.uncertain.retain(|l| *l != link);
                // Also of a drained one: who has no link left reads nothing.
                self.feed_publisher(PublisherInput::LinkLost { peer, connected });
                if !certain {
                    self.feed_caller(CallerInput::LinkLost { peer, connected });
                }
                if !certain || !connected {
                    self.events_in_doubt(peer, connected);
                }
                if last {
                    self.events.push_back(Event::PeerDown { peer: id, reason });
                }
            }
            PeerEffect::SessionEnded => {
                self.forget_claims(id);
                self.forget_documents(peer);
                self.feed_access(AccessInput::SessionEnded(peer));
                self.feed_caller(CallerInput::SessionEnded(peer));
                // Its own calls are remembered here for as long as it may ask again: a peer that was
                // let go may come back in the same life. A new life shows with its first link.
            }
            PeerEffect::LifeIsStale { known_counter } => self.ask_for_life(known_counter, id),
            PeerEffect::NewerSelf => {
                if self.phase == Phase::Running {
                    self.events.push_back(Event::NewerSelf { told_by: id });
                    self.begin_shutdown();
                }
            }
            PeerEffect::Superseded { loser, stays } => {
                self.events.push_back(Event::LinkSuperseded { peer: id, loser, stays });
            }
            PeerEffect::Refused { why } => {
                self.events.push_back(Event::PeerRefused { peer: id, why });
            }
            PeerEffect::DialFailed { error, retry_in } => {
                self.events.push_back(Event::DialFailed { peer: id, error, retry_in });
            }
            PeerEffect::Misbehaved { what } => {
                self.events.push_back(Event::PeerMisbehaved { peer: id, what });
            }
        }
    }

    fn caller_effect(&mut self, effect: CallerEffect) {
        match effect {
            CallerEffect::RunLocally { call, asked } => {
                self.feed_callee(CalleeInput::LocalCall { call, asked });
            }
            CallerEffect::CancelLocally(call) => {
                self.feed_callee(CalleeInput::LocalCancel(call));
            }
            CallerEffect::Send { peer, sequence, payload_bytes } => {
                self.send(peer, sequence, payload_bytes, OutItem::Call { sequence });
            }
            CallerEffect::Withdraw { peer, sequence } => {
                let links = self.peers.get(peer).map(|entry| entry.machine.links());
                for link in links.into_iter().flatten() {
                    if let Some(link) = self.links.get_mut(&link) {
                        link.out.withdraw_call(sequence);
                    }
                }
            }
            CallerEffect::SendCancel { peer, sequence } => {
                self.reset_lane_of_call(peer, sequence);
                self.send(peer, sequence, 0, OutItem::Cancel { sequence });
            }
            CallerEffect::Failed { call, path, pinned, attempt, failure, executed } => {
                self.attempt_failed(call, &path, pinned, attempt, (failure, executed));
            }
            CallerEffect::Again { .. } => self.say_again(effect),
            CallerEffect::Hedge { call, path, waited } => self.hedge(call, &path, waited),
            CallerEffect::LegOver { call, peer, end } => self.leg_over(call, peer, end),
            CallerEffect::Reroute { call, path } => {
                let route = self.reroute(call, &path);
                self.routed(call, &path, route);
            }
            CallerEffect::NotActive { call, path, hints, leader } => {
                self.call_not_active(call, path, hints, leader);
            }
            CallerEffect::Ended { call, result } => {
                self.forget_held(call);
                self.call_ended(call, &result);
                self.events.push_back(Event::CallEnded { call, result });
            }
        }
    }

    fn callee_effect(&mut self, effect: CalleeEffect) {
        match effect {
            CalleeEffect::Invoke { invocation, asked, peer, waited } => {
                if waited && !peer.is_none_or(|peer| self.may_call_still(peer, &asked.path)) {
                    return self.feed_callee(CalleeInput::Denied(invocation));
                }
                let caller = peer.and_then(|key| self.peers.get(key)).map(|entry| entry.id);
                self.events.push_back(Event::Invoke(Invocation { invocation, caller, asked }));
            }
            CalleeEffect::CancelInvocation(invocation) => {
                self.events.push_back(Event::InvocationCancelled(invocation));
            }
            CalleeEffect::Answer { peer, sequence, payload_bytes } => {
                self.send(peer, sequence, payload_bytes, OutItem::Answer { sequence });
            }
            CalleeEffect::LocalRefused { call, payload, retry_after } => {
                self.feed_caller(CallerInput::LocalRefused { call, payload, retry_after });
            }
            CalleeEffect::LocalDone { call, result } => {
                self.feed_caller(CallerInput::LocalDone { call, result });
            }
        }
    }

    fn service_effect(&mut self, effect: ServiceEffect) {
        match effect {
            ServiceEffect::RunHook { service, hook } => {
                self.events.push_back(Event::RunHook { service, hook });
            }
            ServiceEffect::StateChanged { service, state, error } => {
                if matches!(state, ServiceState::Stopped | ServiceState::Failed) {
                    self.feed_callee(CalleeInput::ServiceGone(service));
                    self.forget_looks(service);
                }
                self.events.push_back(Event::ServiceState { service, state, error });
                self.lease_follows(service, state);
            }
            ServiceEffect::Lease(service, wish) => self.lease_wish(service, wish),
            ServiceEffect::Announce(key, entry) => {
                self.feed_publisher(match entry {
                    Some(entry) => PublisherInput::Put(key, entry),
                    None => PublisherInput::Remove(key),
                });
            }
        }
    }

    // Sending.

    pub(super) fn send_control(&mut self, link: LinkHandle, item: OutItem) {
        let Some(entry) = self.links.get_mut(&link) else { return };
        if entry.out.push_control(item) {
            self.link_commands.push_back(LinkCommand::FramesReady { link });
        }
    }

    /// Queues something that belongs to a call on the best link to the peer. If there is none it is
    /// dropped here: whoever wants it sends or asks again when there is one.
    fn send(&mut self, peer: PeerKey, sequence: u64, payload_bytes: usize, item: OutItem) {
        let Some(entry) = self.peers.get(peer) else { return };
        let machine = &entry.machine;
        // An answer goes where the peer asked last: it sends again what is open when it loses a link, so it
        // listens there. Otherwise the link that is sent on, or else one on which it is served already.
        let asked_on = matches!(item, OutItem::Answer { .. }).then_some(entry.asked_on).flatten();
        let listens = |link: &LinkHandle| machine.is_verified(*link) && !machine.is_draining(*link);
        let link = asked_on.filter(listens).or_else(|| machine.sending_link());
        let link = link.or_else(|| machine.links().filter(|l| machine.is_verified(*l)).last());
        let Some(link) = link else { return };
        let Some(entry) = self.links.get_mut(&link) else { return };
        // Whoever keeps to its credit has no more than that unanswered, and as much again that was
        // answered on another link.
        if entry.out.answers() >= 2 * self.limits.calls_served_per_peer_max {
            let what = "it goes on asking and takes no answers".to_string();
            return self.feed_peer(peer, PeerInput::Fault { link, what });
        }
        let own_from = self.limits.own_lane_from_bytes.min(SHARED_CALL_BYTES_MAX + 1);
        let first = if payload_bytes >= own_from {
            entry.out.push_own(item)
        } else {
            entry.out.push_shared(sequence, item)
        };
        if first {
            self.link_commands.push_back(LinkCommand::FramesReady { link });
        }
    }

    /// A large argument that is still on its way need not arrive.
    fn reset_lane_of_call(&mut self, peer: PeerKey, sequence: u64) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        // A link that is drained goes on to its end: what it was said to carry is awaited.
        for link in entry.machine.links_up().filter(|link| !entry.machine.is_draining(*link)) {
            if let Some(lane) = self.links.get_mut(&link).and_then(|l| l.out.end_call(sequence)) {
                entry.lanes.reset_own(link);
                self.link_commands.push_back(LinkCommand::ResetLane { link, lane });
            }
        }
    }

    // Housekeeping.

    /// A peer may have nothing left that holds it: look again when its calls have had their time.
    pub(super) fn start_sweeping(&mut self) {
        if !self.sweeping {
            self.sweeping = true;
            self.timers.arm(self.now.mono + SWEEP_INTERVAL, NodeTimer::Sweep);
        }
    }

    /// Forgets peers that nobody asked for, that have no link, and that cannot ask again.
    pub(super) fn sweep(&mut self) {
        self.sweeping = false;
        if !self.work.is_empty() {
            // What a peer's machine has closed may still have to be closed here.
            return self.start_sweeping();
        }
        let mut left = false;
        let idle: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, entry)| !entry.machine.is_kept() && entry.machine.is_idle())
            .map(|(key, _)| key)
            .collect();
        for key in idle {
            if is_planted(175) {
                continue;
            }
            if self.caller.is_using(key)
                || self.callee.keep_until(key).is_some_and(|until| until > self.now.mono)
            {
                left = true;
                continue;
            }
            // What it had under way ends, in all machines, before it is forgotten.
            self.forget_documents(key);
            self.feed_access(AccessInput::SessionEnded(key));
            self.feed_caller(CallerInput::PeerReleased(key));
            self.feed_callee(CalleeInput::SessionEnded(key));
            self.receiver.forget(key);
            self.returns_go_on(key, None);
            let entry = self.peers.remove(key).expect("just listed");
            self.by_id.remove(&entry.id);
            self.count_delegated(entry.delegator.as_deref().copied(), None);
        }
        if left {
            self.start_sweeping();
        }
    }

    /// Whether a node that stops has nothing left to wait for: calls, handlers and services have ended, peers know,
    /// and the transport has pulled every answer.
    pub(super) fn is_ready_to_stop(&self) -> bool {
        self.phase == Phase::Stopping
            && self.services.is_empty()
            && self.is_drained()
            && self.events_are_through()
            && self.last_ack_said
            && !self.leases.lingers(self.now.mono)
            && (self.is_silent() || self.links.values().all(|link| link.out.len() == 0))
    }

    /// Ends the node now: nothing is finished, and peers are told. For those who cannot wait for [`Mesh::shutdown`].
    pub fn stop_at_once(&mut self, now: Now) {
        self.tick(now);
        if self.phase == Phase::Stopped {
            return;
        }
        self.phase = Phase::Stopping;
        let links: Vec<LinkHandle> = self.links.keys().copied().collect();
        for link in links {
            let code = CloseCode::SHUTDOWN;
            self.link_commands.push_back(LinkCommand::Close { link, code, flush: false });
        }
        self.finish_shutdown();
    }

    fn finish_shutdown(&mut self) {
        if self.phase != Phase::Stopping {
            return;
        }
        self.phase = Phase::Stopped;
        self.feed_caller(CallerInput::Shutdown);
        self.feed_publications(PublicationInput::Shutdown);
        // Behind the caller's: what it cancels here is not running any more.
        self.work_off(usize::MAX);
        self.feed_callee(CalleeInput::Shutdown);
        self.work_off(usize::MAX);
        // Hooks that are still running report to nobody.
        self.services = LocalServices::new();
        self.leases = Default::default();
        for dial in std::mem::take(&mut self.dials).into_keys() {
            self.link_commands.push_back(LinkCommand::CancelDial { dial });
        }
        for link in std::mem::take(&mut self.links).into_keys() {
            let code = CloseCode::SHUTDOWN;
            self.link_commands.push_back(LinkCommand::Close { link, code, flush: true });
        }
        let up: Vec<PeerId> = self.peers_up().map(|(id, _)| id).collect();
        for peer in up {
            self.events.push_back(Event::PeerDown { peer, reason: DownReason::ClosedHere });
        }
        // What they have not acknowledged is lost, and nobody's wishes count any more.
        let known: Vec<PeerKey> = self.peers.iter().map(|(key, _)| key).collect();
        for peer in known {
            self.forget_events(peer);
        }
        self.peers = Default::default();
        (self.unverified, self.delegated, self.held_bytes) = Default::default();
        self.by_id = FewMap::default();
        self.access.stop();
        self.timers = Default::default();
        self.events.push_back(Event::Stopped);
    }
}
