//! The host's side of events: publishers that wait for room, and subscribers that read.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{FewMap, MonoTime, Now, TimerId, TimerQueue};
use crate::events::{
    PublicationKey, PublishError, PublishOutcome, Published, SubscribeRequest, WhenFull,
};
use crate::mesh::{CommandError, Event, Mesh, Subscribed};
use crate::payload::Payload;
use crate::service::events::{Filled, Inbox, Publishing, when_full};
use crate::service::publisher::{Outbox, Totals};
use crate::service::slot::Slot;
use crate::topic::SubscriptionKey;

struct WaitingPublisher {
    number: u64,
    publishing: Publishing,
    timer: TimerId<u64>,
}

/// A publisher of many events that was told that there is no room.
struct BlockedOutbox {
    number: u64,
    outbox: Arc<Outbox>,
    /// What it has handed over.
    rest: VecDeque<Payload>,
    /// When the patience with the first of them ends.
    until: MonoTime,
    timer: TimerId<u64>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct EventDesk {
    inboxes: FewMap<SubscriptionKey, Arc<Inbox>>,
    /// Publishers that were told that there is no room, in their order.
    waiting: VecDeque<WaitingPublisher>,
    blocked: Vec<BlockedOutbox>,
    /// Memory for what publishers hand over.
    spare: VecDeque<Payload>,
    patience: TimerQueue<u64>,
    next_number: u64,
    outcomes: FewMap<PublicationKey, Arc<Slot<PublishOutcome>>>,
    /// Who waits until every peer has a version of the document.
    known: Vec<(u64, Arc<Slot<()>>)>,
}

impl EventDesk {
    /// When the patience of a publisher ends.
    pub(super) fn next_at(&self) -> Option<MonoTime> {
        self.patience.next_at()
    }

    /// Publishes what has waited long enough without those who are slow.
    pub(super) fn expire(&mut self, now: Now, mesh: &mut Mesh) {
        while let Some(number) = self.patience.expire(now.mono) {
            if let Some(at) = self.blocked.iter().position(|blocked| blocked.number == number) {
                let blocked = self.blocked.swap_remove(at);
                self.go_on(now, mesh, blocked, true);
                continue;
            }
            let at = self.waiting.iter().position(|waiting| waiting.number == number);
            let Some(mut publishing) =
                at.and_then(|at| self.waiting.remove(at)).map(|w| w.publishing)
            else {
                continue;
            };
            publishing.request.when_full = WhenFull::PassOver;
            self.publish(now, mesh, publishing);
        }
    }

    pub(super) fn publish(&mut self, now: Now, mesh: &mut Mesh, publishing: Publishing) {
        let result = mesh.publish(now, &publishing.request);
        match (&result, publishing.patience) {
            (Err(PublishError::WouldBlock { .. }), Some(patience)) => {
                self.next_number += 1;
                let number = self.next_number;
                let timer = self.patience.arm(now.mono + patience, number);
                self.waiting.push_back(WaitingPublisher { number, publishing, timer });
                return;
            }
            (Ok(published), _) => {
                if let (Some(key), Some(outcome)) = (published.publication, publishing.outcome) {
                    self.outcomes.insert(key, outcome);
                }
            }
            (Err(_), _) => {}
        }
        publishing.slot.fill(result);
    }

    /// Publishes what a publisher has handed over.
    pub(super) fn publish_many(&mut self, now: Now, mesh: &mut Mesh, outbox: Arc<Outbox>) {
        // One that is kept waiting comes back to it.
        if self.blocked.iter().any(|blocked| Arc::ptr_eq(&blocked.outbox, &outbox)) {
            return;
        }
        let mut events = std::mem::take(&mut self.spare);
        outbox.take(&mut events);
        self.publish_each(now, mesh, outbox, events, None);
    }

    /// A publisher was kept waiting, and goes on: there may be room, or its patience is over.
    fn go_on(&mut self, now: Now, mesh: &mut Mesh, blocked: BlockedOutbox, pass_over: bool) {
        let outbox = Arc::clone(&blocked.outbox);
        let first = Some((blocked.until, pass_over));
        self.publish_each(now, mesh, blocked.outbox, blocked.rest, first);
        self.publish_many(now, mesh, outbox);
    }

    /// The first one may have been kept waiting: then it is said until when, and whether that time is over.
    fn publish_each(
        &mut self,
        now: Now,
        mesh: &mut Mesh,
        outbox: Arc<Outbox>,
        mut events: VecDeque<Payload>,
        mut first: Option<(MonoTime, bool)>,
    ) {
        let mut request = outbox.request();
        if matches!(first, Some((_, true))) {
            request.when_full = WhenFull::PassOver;
        }
        let (mut totals, mut refused) = (Totals::default(), None);
        while !events.is_empty() {
            // Nobody is passed over for longer than it must be: with one event it is found out whether all have room.
            let one_by_one = request.when_full == WhenFull::PassOver;
            let mut passed_over = false;
            let mut tell = |published: &Published| {
                first = None;
                totals.add(published);
                passed_over |= published.passed_over > 0;
            };
            let result = if one_by_one {
                request.payload = events.pop_front().expect("one is left");
                mesh.publish(now, &request).map(|published| tell(&published))
            } else {
                mesh.publish_each(now, &request, &mut events, tell)
            };
            match (result, outbox.patience) {
                (Ok(()), patience) if one_by_one && !passed_over => {
                    request.when_full = when_full(patience);
                }
                (Ok(()), _) => {}
                (Err(PublishError::WouldBlock { .. }), Some(patience)) => {
                    outbox.note(&totals, refused, false);
                    self.next_number += 1;
                    let number = self.next_number;
                    let until = first.map_or(now.mono + patience, |(until, _)| until);
                    let timer = self.patience.arm(until, number);
                    self.blocked.push(BlockedOutbox { number, outbox, rest: events, until, timer });
                    return;
                }
                (Err(error), _) => {
                    if !one_by_one {
                        events.pop_front();
                    }
                    first = None;
                    totals.refused += 1;
                    refused.get_or_insert(error);
                }
            }
        }
        outbox.note(&totals, refused, request.when_full == WhenFull::PassOver);
        self.spare = events;
    }

    /// There may be room for those who wait.
    fn try_again(&mut self, now: Now, mesh: &mut Mesh) {
        for blocked in std::mem::take(&mut self.blocked) {
            self.patience.disarm(blocked.timer);
            self.go_on(now, mesh, blocked, false);
        }
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else { return };
            match mesh.publish(now, &waiting.publishing.request) {
                // Others may be waiting for other peers, and keep their order.
                Err(PublishError::WouldBlock { .. }) => self.waiting.push_back(waiting),
                result => {
                    self.patience.disarm(waiting.timer);
                    let publishing = waiting.publishing;
                    if let (Ok(published), Some(outcome)) = (&result, publishing.outcome)
                        && let Some(key) = published.publication
                    {
                        self.outcomes.insert(key, outcome);
                    }
                    publishing.slot.fill(result);
                }
            }
        }
    }

    pub(super) fn subscribe(
        &mut self,
        now: Now,
        mesh: &mut Mesh,
        request: SubscribeRequest,
        inbox: Arc<Inbox>,
        slot: &Slot<Result<Subscribed, CommandError>>,
    ) {
        if inbox.is_abandoned() {
            return;
        }
        let result = mesh.subscribe(now, request);
        if let Ok(subscribed) = &result {
            self.inboxes.insert(subscribed.key, inbox);
        }
        slot.fill(result);
    }

    /// A subscriber is gone. What it has not read may go to others.
    pub(super) fn unsubscribe(&mut self, now: Now, mesh: &mut Mesh, key: SubscriptionKey) {
        let unread = self.inboxes.remove(&key).map(|inbox| inbox.empty()).unwrap_or_default();
        mesh.unsubscribe_with(now, key, unread);
    }

    /// A subscriber gets nothing more, and reads to the end of what waits for it.
    pub(super) fn stop_taking(&mut self, now: Now, mesh: &mut Mesh, key: SubscriptionKey) {
        mesh.leave(now, key);
        self.refill(now, mesh, key);
    }

    /// Takes away the subscriber that was to read here, if it was taken.
    pub(super) fn leave(&mut self, now: Now, mesh: &mut Mesh, inbox: &Arc<Inbox>) {
        let key = self.inboxes.iter().find(|(_, known)| Arc::ptr_eq(known, inbox));
        if let Some(key) = key.map(|(key, _)| *key) {
            self.unsubscribe(now, mesh, key);
        }
    }

    /// Moves what waits for a subscriber to where it reads.
    pub(super) fn refill(&mut self, now: Now, mesh: &mut Mesh, key: SubscriptionKey) {
        let Some(inbox) = self.inboxes.get(&key) else { return };
        match inbox.fill(|most| mesh.take_deliveries(key, most)) {
            Filled::Abandoned => self.unsubscribe(now, mesh, key),
            // It says so when it has come to the end.
            Filled::All if mesh.subscriptions().is_leaving(key) => inbox.close(),
            Filled::All | Filled::Part => {}
        }
    }

    pub(super) fn await_known(&mut self, mesh: &Mesh, version: u64, slot: Arc<Slot<()>>) {
        self.known.push((version, slot));
        self.look_who_knows(mesh);
    }

    fn look_who_knows(&mut self, mesh: &Mesh) {
        self.known.retain(|(version, slot)| {
            let known = mesh.is_known_by_all(*version);
            if known {
                slot.fill(());
            }
            !known
        });
    }

    pub(super) fn on_event(&mut self, now: Now, mesh: &mut Mesh, event: &Event) {
        match event {
            Event::SubscriptionReady(key) => self.refill(now, mesh, *key),
            Event::SubscriptionOver(key) => self.unsubscribe(now, mesh, *key),
            Event::PublishRoom => self.try_again(now, mesh),
            Event::PublishEnded { publication, outcome } => {
                if let Some(slot) = self.outcomes.remove(publication) {
                    slot.fill(*outcome);
                }
            }
            Event::DirectoryAcknowledged { .. } => self.look_who_knows(mesh),
            // Who was awaited may be gone.
            Event::PeerDown { .. } => {
                self.look_who_knows(mesh);
                self.try_again(now, mesh);
            }
            Event::Stopped => self.close(),
            _ => {}
        }
    }

    /// Nothing comes any more.
    pub(super) fn close(&mut self) {
        for inbox in std::mem::take(&mut self.inboxes).into_values() {
            inbox.close();
        }
        for waiting in self.waiting.drain(..) {
            waiting.publishing.slot.fill(Err(PublishError::Stopping));
        }
        for blocked in self.blocked.drain(..) {
            blocked.outbox.close();
        }
        for slot in std::mem::take(&mut self.outcomes).into_values() {
            slot.fill(PublishOutcome { undecided: 1, ..PublishOutcome::default() });
        }
        for (_, slot) in self.known.drain(..) {
            slot.fill(());
        }
    }
}
