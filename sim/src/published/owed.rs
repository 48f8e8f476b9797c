//! To whom each event is owed, and what must have become of it once everything is healed and quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use dunlin_core::Event;
use dunlin_core::directory::{Document, Entry};
use dunlin_core::events::{EventId, PublishOutcome, Published};

use super::{
    Events, GIVEN_BACK, Group, HEALED, NOT_LOST, Publication, RECEIPT, Reader, State, TOLD_ONCE,
    Verdict,
};
use crate::copies::Copies;
use crate::faults::FaultKind;
use crate::history::Life;
use crate::schedule::Subscriber;
use crate::workload::NodeInfo;
use crate::world::{Fidelity, World};

/// What a node surely knows of one.
#[derive(Clone, Copy)]
enum Known<'a> {
    Itself,
    Document(&'a Document),
}

impl Known<'_> {
    /// Whether a subscriber there counts, for the node that knows this.
    fn includes(self, plan: &Subscriber, node: &NodeInfo) -> bool {
        let Known::Document(document) = self else { return true };
        document.entries.values().any(|entry| {
            let Entry::Subscription(offer) = entry else { return false };
            offer.group.is_some() == plan.group.is_some()
                && offer.service.is_some() == plan.service.is_some()
                && offer.pattern.without_network().as_str() == plan.pattern
                && node.is_in(plan.network, offer.pattern.network())
        })
    }
}

impl Events {
    /// Writes down to whom an event is owed that was just accepted.
    fn owe(&mut self, node: &NodeInfo, known: &BTreeMap<u16, Known<'_>>, token: u64) {
        let publication = &mut self.publications[token as usize - 1];
        let State::Accepted { published, .. } = publication.state else { return };
        let reading = |(there, known)| {
            let reading = self.reading.get(there).into_iter().flatten();
            reading.map(move |reader| (*reader, known))
        };
        for (at, known) in known.iter().flat_map(reading) {
            let reader = &mut self.readers[at];
            if !reader.settled || !reader.wants(publication) || !known.includes(&reader.plan, node)
            {
                continue;
            }
            if let Some(group) = reader.group(&publication.plan) {
                publication.groups.insert(group);
                continue;
            }
            if publication.is_probe {
                publication.owed_to.push(at);
            }
            let EventId { publisher, boot, sequence } = published.id;
            let line = reader.lines.entry((publisher, boot, publication.topic)).or_default();
            if line.last < sequence && !publication.got.contains(&at) {
                line.owed.push_back((sequence, token));
            }
        }
    }
}

impl<F: Fidelity> World<'_, F> {
    /// Whether rights come and go, so that what is published may be of no account elsewhere.
    fn rights_vary(&self) -> bool {
        !self.healing && self.rights_varied()
    }

    fn rights_varied(&self) -> bool {
        let faults = self.schedule.faults.iter().map(|fault| FaultKind::of(&fault.what));
        faults.into_iter().any(FaultKind::is_about_rights)
    }

    /// Looks at what a node just published, and to whom it is owed.
    pub(crate) fn judge_events(&self, index: usize, heard: &[Event]) {
        // Most turns have nothing to do with events.
        if !self.ledger.stirred.load(Ordering::Relaxed) && heard.is_empty() {
            return;
        }
        self.ledger.stirred.store(false, Ordering::Relaxed);
        let mut guard = self.ledger.events();
        let events = &mut *guard;
        let fresh = std::mem::take(&mut events.fresh);
        let mut verdict = Ok(());
        if self.mesh(index).is_some() {
            if !fresh.is_empty() && !self.rights_vary() {
                let (node, known) = (self.info(index), self.known(index, heard));
                for token in fresh {
                    events.owe(&node, &known, token);
                }
            }
            for event in heard {
                verdict = verdict.and(self.judge_event(events, index, event));
            }
        }
        for reader in std::mem::take(&mut events.opened) {
            events.readers[reader].settled = true;
        }
        drop(guard);
        self.ledger.judge(index, verdict);
    }

    fn judge_event(&self, events: &mut Events, index: usize, event: &Event) -> Verdict {
        match event {
            Event::EventsLost { peer, .. } => {
                let own = self.peers[index];
                let peer = self.roster.find(peer);
                let there = |reader: &&mut Reader| peer == Some(usize::from(reader.at.node));
                for reader in events.readers.iter_mut().filter(there) {
                    let lines = reader.lines.iter_mut();
                    for (_, line) in lines.filter(|((publisher, ..), _)| *publisher == own) {
                        line.owed.clear();
                    }
                }
            }
            Event::GroupEventsLost { count, .. } => {
                *events.unplaced.entry(index as u16).or_default() += count;
            }
            Event::PublishEnded { publication, .. } => {
                let key = publication.to_u64();
                if !events.ended.insert((index, self.stations[index].life, key)) {
                    let what = format!("publication {key} of n{index} ended again");
                    return Err((TOLD_ONCE, what));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What a node surely knew of each, when it last acted: the documents of peers that it is connected with, and
    /// of which it did not hear something new at this moment.
    fn known(&self, index: usize, heard: &[Event]) -> BTreeMap<u16, Known<'_>> {
        let mut known = BTreeMap::new();
        let Some(here) = self.mesh(index) else { return known };
        for (id, document) in here.peers_up() {
            let Some(peer) = self.roster.find(&id) else { continue };
            let lives = self
                .mesh(peer)
                .is_some_and(|there| self.copies.met(index, id) == Some(there.incarnation().boot));
            if let Some(document) = document.filter(|_| lives)
                && !heard.iter().any(|event| Copies::peer_of(event) == Some(id))
            {
                known.insert(peer as u16, Known::Document(document));
            }
        }
        known.insert(index as u16, Known::Itself);
        known
    }

    /// What must hold of events once everything is healed and quiet.
    pub(crate) fn check_events(&self) {
        let events = self.ledger.events();
        let verdict = self.judge_all(&events);
        drop(events);
        if let Err((node, rule, what)) = verdict {
            self.ledger.violate(Some(node), rule, what);
        }
    }

    fn judge_all(&self, events: &Events) -> Result<(), (u16, &'static str, String)> {
        for reader in
            events.readers.iter().filter(|r| r.settled && !r.leaves && r.closed_at.is_none())
        {
            for ((publisher, boot, topic), line) in &reader.lines {
                let node = self.roster.find(publisher);
                let goes_on = node.and_then(|node| self.mesh(node));
                if goes_on.is_none_or(|mesh| mesh.incarnation().boot != *boot) {
                    continue;
                }
                let told = reader.missed.get(publisher).copied().unwrap_or(0) - line.missed;
                if line.owed.len() as u64 > told {
                    let tokens: Vec<u64> = line.owed.iter().map(|(_, token)| *token).collect();
                    let topic = &events.topics[usize::from(*topic)];
                    let what = format!(
                        "{} never got events {tokens:?} to '{topic}', and was told of {told} missing ones",
                        reader.at
                    );
                    return Err((reader.at.node, NOT_LOST, what));
                }
            }
        }
        self.judge_leavers(events)?;
        for (token, publication) in (1..).zip(&events.publications) {
            self.judge_one(events, publication).map_err(|(rule, what)| {
                let Publication { by, plan, .. } = publication;
                (by.node, rule, format!("event {token} of {by} to '{}': {what}", plan.topic))
            })?;
        }
        Ok(())
    }

    /// Whether a life goes on, or has ended in order.
    fn is_in_order(&self, events: &Events, life: Life) -> bool {
        let station = &self.stations[usize::from(life.node)];
        let goes_on = station.life == life.life && station.live.is_some();
        goes_on || events.left_in_order.contains(&life)
    }

    /// An event of which its publisher was told that each group has a member that has it: unless a life of a member has
    /// ended out of order, a member has handled it, or a node said that no other one takes it.
    fn judge_leavers(&self, events: &Events) -> Result<(), (u16, &'static str, String)> {
        let mut unplaced = events.unplaced.clone();
        for (token, publication) in (1..).zip(&events.publications) {
            let Publication { by, plan, outcome, groups, got, .. } = publication;
            let (State::Accepted { published, at }, Some(outcome)) = (&publication.state, outcome)
            else {
                continue;
            };
            let all_served = outcome.groups_lost == 0
                && outcome.undecided == 0
                && outcome.groups_served as usize == published.groups
                && groups.len() <= published.groups;
            let goes_on = self.stations[usize::from(by.node)].life == by.life
                && self.mesh(usize::from(by.node)).is_some();
            if !all_served || !goes_on || self.rights_varied() {
                continue;
            }
            for group in groups {
                let members = || {
                    let of_group =
                        |r: &&Reader| r.wants(publication) && r.group(plan) == Some(*group);
                    events.readers.iter().filter(of_group)
                };
                let is_handled =
                    got.iter().any(|reader| events.readers[*reader].group(plan) == Some(*group));
                // One of a service gets events of all, too, which push others out; and the publisher's own members are
                // told of what does not fit.
                let is_told = |r: &Reader| r.missed.contains_key(&published.id.publisher);
                let is_excused = |r: &Reader| {
                    !self.is_in_order(events, r.at)
                        && r.closed_at.is_none_or(|closed| closed >= *at)
                        || matches!(group, Group::Service(_)) && is_told(r)
                        || r.at.node == by.node && is_told(r)
                };
                // It may wait for a reader still.
                let may_wait = |r: &Reader| r.closed_at.is_none();
                if is_handled || members().any(|r| is_excused(r) || may_wait(r)) {
                    continue;
                }
                let nodes = std::iter::once(by.node).chain(members().map(|reader| reader.at.node));
                let told = nodes.into_iter().find(|node| {
                    unplaced.get_mut(node).is_some_and(|left| {
                        let is_left = *left > 0;
                        *left = left.saturating_sub(1);
                        is_left
                    })
                });
                if told.is_none() {
                    let what = format!(
                        "event {token} of {by} to '{}': no member of {group:?} has handled it",
                        plan.topic
                    );
                    return Err((by.node, GIVEN_BACK, what));
                }
            }
        }
        Ok(())
    }

    fn judge_one(&self, events: &Events, publication: &Publication) -> Verdict {
        let Publication { by, plan, outcome, is_probe, groups, got, .. } = publication;
        let State::Accepted { published, at } = &publication.state else {
            if *is_probe {
                return Err((HEALED, "it was refused".to_string()));
            }
            return Ok(());
        };
        let wants = |r: &Reader| r.wants(publication);
        let got_by = |group: Group| {
            let in_group = |r: &&usize| events.readers[**r].group(plan) == Some(group);
            got.iter().filter(in_group).count()
        };
        let Some(outcome) = outcome else { return Ok(()) };
        let complete = outcome.is_complete() && outcome.groups_served as usize == published.groups;
        if *is_probe {
            judge_probe(events, publication, published, outcome)?;
            if let Some(group) = groups.iter().find(|group| got_by(**group) != 1) {
                return Err((HEALED, format!("{} of {group:?} have it", got_by(*group))));
            }
        }
        if !is_probe && self.rights_varied() {
            // Who ignores what a publisher may not publish has it nevertheless, as far as numbers go.
            return Ok(());
        }
        // A group of which nobody had room is none that the event went to.
        let all_chosen = groups.len() <= published.groups;
        for group in groups.iter().filter(|_| complete && all_chosen) {
            // Who has left since may have had it in its queue. One of a service also gets events of all, which may
            // have pushed it out.
            let pushed_out = |r: &Reader| {
                matches!(group, Group::Service(_)) && r.missed.contains_key(&published.id.publisher)
            };
            let may_have_had_it = |r: &Reader| {
                wants(r) && r.group(plan) == Some(*group) && (r.left_since(*at) || pushed_out(r))
            };
            if got_by(*group) == 0 && !events.readers.iter().any(may_have_had_it) {
                return Err((RECEIPT, format!("nobody of {group:?} has it, of {outcome:?}")));
            }
        }
        if outcome.acknowledged as usize > published.peers {
            return Err((RECEIPT, format!("{published:?} came to {outcome:?}")));
        }
        if !groups.is_empty() {
            return Ok(());
        }
        // A node acknowledges for who has left, be it that its publisher did not know yet, and for who was told of
        // missing events.
        let touched = |r: &Reader| {
            r.leaves || r.closed_at.is_some() || r.missed.contains_key(&published.id.publisher)
        };
        // Those that have it are found at once; who else may have it matters only if they are too few.
        let have_it = |nodes: BTreeSet<u16>| nodes.len() - usize::from(nodes.contains(&by.node));
        let got_it = got.iter().map(|reader| events.readers[*reader].at.node).collect();
        if outcome.acknowledged as usize <= have_it(got_it) {
            return Ok(());
        }
        let may_have_it = |(at, r): &(usize, &Reader)| {
            wants(r) && (r.group(plan).is_some() || got.contains(at) || touched(r))
        };
        let may_have_it = events.readers.iter().enumerate().filter(may_have_it);
        let nodes: BTreeSet<u16> =
            may_have_it.map(|(_, reader)| reader.at.node).filter(|node| *node != by.node).collect();
        if outcome.acknowledged as usize > nodes.len() {
            return Err((RECEIPT, format!("{nodes:?} may have it, of {outcome:?}")));
        }
        Ok(())
    }
}

/// Of an event after healing: whoever its publisher is connected with has it, and is counted as having it. Of a
/// peer that is down, and of which nobody has let go yet, the publisher cannot say more than that it does not know.
fn judge_probe(
    events: &Events,
    publication: &Publication,
    published: &Published,
    outcome: &PublishOutcome,
) -> Verdict {
    let Publication { by, owed_to, got, .. } = publication;
    if let Some(reader) = owed_to.iter().find(|reader| !got.contains(reader)) {
        let what = format!("{} does not have it", events.readers[*reader].at);
        return Err((HEALED, what));
    }
    let nodes: BTreeSet<u16> = got.iter().map(|reader| events.readers[*reader].at.node).collect();
    let reached = nodes.iter().filter(|node| **node != by.node).count();
    let groups_served = outcome.groups_served as usize == published.groups;
    if published.passed_over > 0 || (outcome.acknowledged as usize) < reached || !groups_served {
        return Err((HEALED, format!("{nodes:?} have it, and {published:?} came to {outcome:?}")));
    }
    Ok(())
}
