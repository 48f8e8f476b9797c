//! What truly happened to every event, written down outside of all nodes, and the rules that it is judged by.
//!
//! Each event carries a token that nothing else carries. Whoever publishes it says so here first; a subscriber
//! says what it finds in its queue. To whom an event is owed is read off what its publisher knows at that time:
//! a subscriber whose node is known to have it gets every event, or is told in its place that some are missing,
//! or else the publisher is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::MutexGuard;

use dunlin_core::directory::Entry;
use dunlin_core::events::{Delivery, EventId, EventMessage, PublishOutcome, Published};
use dunlin_core::topic::{Pattern, TopicPath};
use dunlin_core::{Event, PeerId};
use serde::{Deserialize, Serialize};

use crate::copies::Copies;
use crate::faults::FaultKind;
use crate::history::{Ledger, Life};
use crate::schedule::{Publish, Subscriber, networks_of};
use crate::workload::NodeInfo;
use crate::world::{Fidelity, World};

/// Only who asked for it gets an event.
const WANTED: &str = "an event goes only to who wants it";
/// And once.
const ONCE: &str = "an event comes to a subscriber once";
/// And whole.
const WHOLE: &str = "events arrive whole";
/// And in order.
const ORDER: &str = "events of a topic come in their order";
/// A group gets it once.
const ONE_OF_GROUP: &str = "of a group one member at most gets an event";
/// And somebody is told if it is lost.
const NOT_LOST: &str = "no event is lost in silence";
/// Who was told that nobody gets it can rely on that.
const REFUSED: &str = "an event that was refused reaches nobody";
/// Who waits for the outcome can rely on it.
const RECEIPT: &str = "what a publisher is told of an event is true";
/// And gets it.
const TOLD_ONCE: &str = "what became of an event is told once, and in time";
/// After healing nothing is in the way.
const HEALED: &str = "after healing an event reaches everybody";
/// Rights count for events too.
const PERMITTED: &str = "no event is delivered whose publisher may not publish it";

/// Timers are exact in simulated time.
const SLACK: u64 = 1_000_000;

/// What an event carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    token: u64,
    filler: String,
}

#[derive(Clone, Debug)]
enum State {
    Waiting,
    Refused,
    Accepted { at: u64, published: Published },
}

/// What one member of is chosen for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Group(u16),
    Service(u16),
}

#[derive(Debug)]
struct Publication {
    by: Life,
    plan: Publish,
    topic: TopicPath,
    is_probe: bool,
    state: State,
    outcome: Option<PublishOutcome>,
    /// Which subscribers got it.
    got: Vec<usize>,
    /// One of a group got it as what may have been handled elsewhere.
    repeated: Vec<usize>,
    /// Groups with members that the publisher knew of.
    groups: BTreeSet<Group>,
    /// Of a probe: who was to get it as one of all.
    owed_to: Vec<usize>,
}

/// What one subscriber is sent of one topic by one life of a publisher.
#[derive(Debug, Default)]
struct Line {
    last: u64,
    /// What it is owed: numbers and tokens.
    owed: VecDeque<(u64, u64)>,
    /// Of how many events it had been told that they are missing, when the last one came.
    missed: u64,
}

#[derive(Debug)]
struct Reader {
    at: Life,
    plan: Subscriber,
    pattern: Pattern,
    /// The node has taken it, in an earlier turn.
    settled: bool,
    closed: bool,
    /// It reads slowly until then, or leaves then.
    slow_until: u64,
    /// Of how many events of a publisher it was told that they are missing.
    missed: BTreeMap<PeerId, u64>,
    lines: BTreeMap<(PeerId, u64, String), Line>,
}

/// The world's own record of all events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    publications: Vec<Publication>,
    readers: Vec<Reader>,
    /// Accepted in this turn.
    fresh: Vec<u64>,
    /// Opened in this turn.
    opened: Vec<usize>,
    ended: BTreeSet<(usize, u32, u64)>,
    /// For each node the services, and roots of topics, that are not for it.
    withheld: Vec<Vec<u16>>,
}

/// A publication's place in the record.
pub(crate) struct OpenPublication<'a> {
    ledger: &'a Ledger,
    token: u64,
}

/// A subscriber's place in the record, for as long as it reads.
pub(crate) struct OpenReader<'a> {
    node: &'a NodeInfo,
    reader: usize,
}

/// A broken rule.
type Verdict = Result<(), (&'static str, String)>;

impl Reader {
    fn group(&self, plan: &Publish) -> Option<Group> {
        let service = self.plan.service.filter(|_| plan.one_per_service).map(Group::Service);
        self.plan.group.map(Group::Group).or(service)
    }

    fn wants(&self, publication: &Publication) -> bool {
        let plan = &publication.plan;
        self.plan.network == plan.network
            && self.pattern.matches(&publication.topic)
            && (!plan.local || self.at.node == publication.by.node)
            && plan.target.is_none_or(|target| target == self.at.node)
    }
}

impl Events {
    fn may_publish(&self, networks: &[Vec<u16>], node: u16, plan: &Publish) -> bool {
        let root = plan.topic.strip_prefix('e').and_then(|rest| rest.split('/').next());
        let root = root.and_then(|number| number.parse().ok());
        let withheld = self.withheld.get(usize::from(node));
        networks_of(networks, node).contains(&plan.network)
            && (plan.network != 0
                || !withheld.zip(root).is_some_and(|(withheld, root)| withheld.contains(&root)))
    }

    /// Whether what came to an unknown end may go to another member.
    fn may_repeat(&self, group: Group) -> bool {
        let Group::Group(number) = group else { return false };
        self.readers.iter().any(|r| r.plan.group == Some(number) && r.plan.at_least_one)
    }

    fn received(&mut self, node: &NodeInfo, index: usize, event: &EventMessage) -> Verdict {
        let here = node.life;
        let said: Said = event.decode().map_err(|error| (WHOLE, error.to_string()))?;
        let place = (said.token as usize).wrapping_sub(1);
        let Some(publication) = self.publications.get(place) else {
            return Err((
                WHOLE,
                format!("{here} got event {}, which nobody published", said.token),
            ));
        };
        let (reader, by, plan) = (&self.readers[index], publication.by, &publication.plan);
        let what = |text: &str| {
            format!("{here} got event {} of {by} to '{}': {text}", said.token, plan.topic)
        };
        let topic = node.path_in(plan.network, &plan.topic);
        if said.filler != filler(said.token, plan.bytes) || event.topic.as_str() != topic {
            return Err((WHOLE, what("it was damaged")));
        }
        let known = match &publication.state {
            State::Refused => return Err((REFUSED, what("its publisher was told that it is not"))),
            State::Waiting => None,
            State::Accepted { published, .. } => Some(published.id),
        };
        let id = event.id;
        if id.publisher != node.peers[usize::from(by.node)] || known.is_some_and(|k| k != id) {
            return Err((WHOLE, what(&format!("its name is {id:?}"))));
        }
        if !reader.wants(publication) {
            return Err((WANTED, what(&format!("it wants {:?}, of {plan:?}", reader.plan))));
        }
        // What a node allows itself is its own affair: it may be somebody who only has its key.
        if by.node != here.node && !self.may_publish(&node.networks, by.node, plan) {
            return Err((PERMITTED, what("it may not publish there")));
        }
        let group = reader.group(plan);
        let may_repeat = group.is_some_and(|group| self.may_repeat(group));
        // What comes a second time says so. It may be read before what came first.
        let again = may_repeat && event.redelivered;
        let is_first = |r: &&usize| !publication.repeated.contains(r);
        if publication.got.contains(&index) && !may_repeat {
            return Err((ONCE, what("it has it already")));
        }
        if let Some(group) = group {
            let has_it = |r: &usize| self.readers[*r].group(plan) == Some(group);
            let before = publication.got.iter().filter(is_first).find(|reader| has_it(reader));
            if let Some(other) = before
                && !again
            {
                let other = self.readers[*other].at;
                return Err((ONE_OF_GROUP, what(&format!("{other} has it, also in {group:?}"))));
            }
        }
        self.publications[place].got.push(index);
        if again {
            self.publications[place].repeated.push(index);
        }
        if group.is_some() {
            return Ok(());
        }
        self.in_line(here, index, id, place)
    }

    /// An event that every subscriber gets: it comes behind those before it, and none of them is missing.
    fn in_line(&mut self, here: Life, index: usize, id: EventId, place: usize) -> Verdict {
        let publication = &self.publications[place];
        let reader = &mut self.readers[index];
        let told = reader.missed.get(&id.publisher).copied().unwrap_or(0);
        let topic = publication.plan.topic.clone();
        let line = reader.lines.entry((id.publisher, id.boot, topic.clone())).or_default();
        if id.sequence <= line.last {
            let what = format!(
                "{here} got number {} of {} to '{topic}' behind number {}",
                id.sequence, publication.by, line.last
            );
            return Err((ORDER, what));
        }
        let mut missing = Vec::new();
        while let Some((sequence, token)) = line.owed.front().copied()
            && sequence <= id.sequence
        {
            line.owed.pop_front();
            if sequence < id.sequence {
                missing.push(token);
            }
        }
        let told_here = told - std::mem::replace(&mut line.missed, told);
        line.last = id.sequence;
        if missing.len() as u64 > told_here {
            let what = format!(
                "{here} got event {} of {} to '{topic}', and not {missing:?} before it; it was told of {told_here} missing ones",
                place + 1,
                publication.by
            );
            return Err((NOT_LOST, what));
        }
        Ok(())
    }
}

fn filler(token: u64, bytes: u32) -> String {
    char::from(b'a' + (token % 26) as u8).to_string().repeat(bytes as usize)
}

impl Ledger {
    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().expect("nothing panics under this lock")
    }

    pub(crate) fn withhold(&self, withheld: Vec<Vec<u16>>) {
        self.events().withheld = withheld;
    }

    /// Writes down that an event is about to be published. Gives what it carries.
    pub(crate) fn publish(
        &self,
        by: Life,
        plan: &Publish,
        is_probe: bool,
    ) -> (OpenPublication<'_>, Said) {
        let mut events = self.events();
        events.publications.push(Publication {
            by,
            plan: plan.clone(),
            topic: TopicPath::parse(&plan.topic).expect("topics of schedules are well-formed"),
            is_probe,
            state: State::Waiting,
            outcome: None,
            got: Vec::new(),
            repeated: Vec::new(),
            groups: BTreeSet::new(),
            owed_to: Vec::new(),
        });
        let token = events.publications.len() as u64;
        let said = Said { token, filler: filler(token, plan.bytes) };
        (OpenPublication { ledger: self, token }, said)
    }

    /// Writes down that somebody is about to subscribe.
    pub(crate) fn subscribe<'a>(&self, node: &'a NodeInfo, plan: &Subscriber) -> OpenReader<'a> {
        let mut events = self.events();
        let slow = plan.stalls_ms + plan.slow_ms + plan.each_ms;
        // Who will leave changes what is known until then.
        let slow = u64::from(slow.max(plan.lasts_ms.unwrap_or(0)));
        events.readers.push(Reader {
            at: node.life,
            plan: plan.clone(),
            pattern: Pattern::parse(&plan.pattern).expect("patterns of schedules are well-formed"),
            settled: false,
            closed: false,
            slow_until: self.now() + slow * 1_000_000,
            missed: BTreeMap::new(),
            lines: BTreeMap::new(),
        });
        OpenReader { node, reader: events.readers.len() - 1 }
    }

    /// How many subscribers of a life are there, and whether one of them is slow.
    pub(crate) fn readers(&self, life: Life) -> (usize, bool) {
        let (events, now) = (self.events(), self.now());
        let here = events.readers.iter().filter(|reader| reader.at == life && !reader.closed);
        here.fold((0, false), |(n, slow), reader| (n + 1, slow || reader.slow_until >= now))
    }

    /// How many events were published, and how often one came to a subscriber.
    pub(crate) fn event_counts(&self) -> (u64, u64) {
        let events = self.events();
        let got = events.publications.iter().map(|publication| publication.got.len() as u64).sum();
        (events.publications.len() as u64, got)
    }

    fn judge(&self, node: usize, verdict: Verdict) {
        if let Err((rule, what)) = verdict {
            self.violate(Some(node as u16), rule, what);
        }
    }
}

impl OpenPublication<'_> {
    /// It was accepted.
    pub(crate) fn accepted(&self, published: Published) {
        let at = self.ledger.now();
        let mut events = self.ledger.events();
        let publication = &mut events.publications[self.token as usize - 1];
        publication.state = State::Accepted { at, published };
        events.fresh.push(self.token);
    }

    /// Nobody gets it.
    pub(crate) fn refused(&self) {
        let mut events = self.ledger.events();
        let publication = &mut events.publications[self.token as usize - 1];
        publication.state = State::Refused;
        let verdict = match publication.got.is_empty() {
            true => Ok(()),
            false => Err((REFUSED, format!("event {} was refused, and reached some", self.token))),
        };
        let node = publication.by.node;
        drop(events);
        self.ledger.judge(usize::from(node), verdict);
    }

    /// Its publisher was told what became of it.
    pub(crate) fn ended(&self, outcome: PublishOutcome) {
        let now = self.ledger.now();
        let mut events = self.ledger.events();
        let publication = &mut events.publications[self.token as usize - 1];
        publication.outcome = Some(outcome);
        let node = publication.by.node;
        let within = u64::from(publication.plan.confirm_ms.unwrap_or(0)) * 1_000_000;
        let State::Accepted { at, .. } = publication.state else { unreachable!("it was accepted") };
        drop(events);
        let (from, to) = self.ledger.last_pause(node);
        let due = if from <= at + within && at + within <= to { to } else { at + within };
        if now > due + SLACK {
            let what = format!("event {} was to end by {due}, and ended at {now}", self.token);
            self.ledger.violate(Some(node), TOLD_ONCE, what);
        }
    }
}

impl OpenReader<'_> {
    /// The node has taken the subscriber.
    pub(crate) fn opened(&self) {
        self.node.ledger.events().opened.push(self.reader);
    }

    /// What it found in its queue.
    pub(crate) fn found(&self, delivery: &Delivery) {
        let mut events = self.node.ledger.events();
        match delivery {
            Delivery::Missed(missed) => {
                let told = &mut events.readers[self.reader].missed;
                *told.entry(missed.publisher).or_default() += missed.count;
            }
            Delivery::Event(event) => {
                let verdict = events.received(self.node, self.reader, event);
                drop(events);
                self.node.ledger.judge(usize::from(self.node.life.node), verdict);
            }
        }
    }
}

impl Drop for OpenReader<'_> {
    fn drop(&mut self) {
        self.node.ledger.events().readers[self.reader].closed = true;
    }
}

/// Whether an event says something of events.
pub(crate) fn concerns(event: &Event) -> bool {
    matches!(event, Event::EventsLost { .. } | Event::PublishEnded { .. })
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
    pub(crate) fn judge_events(&mut self, index: usize, heard: &[Event]) {
        let ledger = std::sync::Arc::clone(&self.ledger);
        let mut guard = ledger.events();
        let events = &mut *guard;
        let mut verdict = Ok(());
        if let Some(mesh) = self.mesh(index) {
            let fresh = std::mem::take(&mut events.fresh);
            if !fresh.is_empty() && !self.rights_vary() {
                let known: Vec<bool> =
                    (0..self.stations.len()).map(|peer| self.knows(index, peer, heard)).collect();
                for token in fresh {
                    self.owe(events, mesh, index, &known, token);
                }
            }
            let life = self.stations[index].life;
            for event in heard {
                match event {
                    Event::EventsLost { peer, .. } => {
                        let own = self.peers[index];
                        for reader in &mut events.readers {
                            if self.peers[usize::from(reader.at.node)] == *peer {
                                let lines = reader.lines.iter_mut();
                                lines
                                    .filter(|((publisher, ..), _)| *publisher == own)
                                    .for_each(|(_, line)| line.owed.clear());
                            }
                        }
                    }
                    Event::PublishEnded { publication, .. } => {
                        let key = publication.to_u64();
                        if !events.ended.insert((index, life, key)) {
                            let what = format!("publication {key} of n{index} ended again");
                            verdict = Err((TOLD_ONCE, what));
                        }
                    }
                    _ => {}
                }
            }
        }
        events.fresh.clear();
        for reader in std::mem::take(&mut events.opened) {
            events.readers[reader].settled = true;
        }
        drop(guard);
        self.ledger.judge(index, verdict);
    }

    /// Whether a node surely knew, when it last acted, what a peer wants.
    fn knows(&self, index: usize, peer: usize, heard: &[Event]) -> bool {
        let (Some(here), Some(there)) = (self.mesh(index), self.mesh(peer)) else { return false };
        peer == index
            || self.copies.met(index, there.id()) == Some(there.incarnation().boot)
                && !heard.iter().any(|event| Copies::peer_of(event) == Some(there.id()))
                && here.peers_up().any(|(id, _)| id == there.id())
    }

    /// Writes down to whom an event is owed that was just accepted.
    fn owe(
        &self,
        events: &mut Events,
        mesh: &dunlin_core::Mesh,
        index: usize,
        known: &[bool],
        token: u64,
    ) {
        let publication = &mut events.publications[token as usize - 1];
        let State::Accepted { published, .. } = publication.state else { return };
        for (at, reader) in events.readers.iter_mut().enumerate() {
            let node = usize::from(reader.at.node);
            let there = reader.settled && !reader.closed && known[node];
            if !there || !reader.wants(publication) {
                continue;
            }
            if node != index && !offers(mesh, self.peers[node], &reader.plan) {
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
            let key = (publisher, boot, publication.plan.topic.clone());
            let line = reader.lines.entry(key).or_default();
            if line.last < sequence && !publication.got.contains(&at) {
                line.owed.push_back((sequence, token));
            }
        }
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
        for reader in events.readers.iter().filter(|reader| reader.settled && !reader.closed) {
            for ((publisher, boot, topic), line) in &reader.lines {
                let node = self.peers.iter().position(|peer| peer == publisher);
                let goes_on = node.and_then(|node| self.mesh(node));
                if goes_on.is_none_or(|mesh| mesh.incarnation().boot != *boot) {
                    continue;
                }
                let told = reader.missed.get(publisher).copied().unwrap_or(0) - line.missed;
                if line.owed.len() as u64 > told {
                    let tokens: Vec<u64> = line.owed.iter().map(|(_, token)| *token).collect();
                    let what = format!(
                        "{} never got events {tokens:?} to '{topic}', and was told of {told} missing ones",
                        reader.at
                    );
                    return Err((reader.at.node, NOT_LOST, what));
                }
            }
        }
        for (token, publication) in (1..).zip(&events.publications) {
            self.judge_one(events, publication).map_err(|(rule, what)| {
                let Publication { by, plan, .. } = publication;
                (by.node, rule, format!("event {token} of {by} to '{}': {what}", plan.topic))
            })?;
        }
        Ok(())
    }

    fn judge_one(&self, events: &Events, publication: &Publication) -> Verdict {
        let Publication { by, plan, outcome, is_probe, groups, got, .. } = publication;
        let State::Accepted { published, .. } = &publication.state else {
            if *is_probe {
                return Err((HEALED, "it was refused".to_string()));
            }
            return Ok(());
        };
        let wants = |r: &&Reader| r.wants(publication);
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
        // Who has left, or was told of missing events, may have been the one.
        let untouched = |r: &Reader| !r.closed && !r.missed.contains_key(&published.id.publisher);
        // A group of which nobody had room is none that the event went to.
        let all_chosen = groups.len() <= published.groups;
        for group in groups.iter().filter(|_| complete && all_chosen) {
            let of_group = |r: &&Reader| wants(r) && r.group(plan) == Some(*group);
            if got_by(*group) == 0 && events.readers.iter().filter(of_group).all(untouched) {
                return Err((RECEIPT, format!("nobody of {group:?} has it, of {outcome:?}")));
            }
        }
        let nodes: BTreeSet<u16> = events
            .readers
            .iter()
            .enumerate()
            .filter(|(at, r)| {
                wants(r) && (r.group(plan).is_some() || got.contains(at) || !untouched(r))
            })
            .map(|(_, reader)| reader.at.node)
            .filter(|node| *node != by.node)
            .collect();
        if outcome.acknowledged as usize > nodes.len() && groups.is_empty() {
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

/// Whether a peer's subscriber counts at a node.
fn offers(mesh: &dunlin_core::Mesh, peer: PeerId, plan: &Subscriber) -> bool {
    let known = mesh.peers_up().find(|(id, _)| *id == peer).and_then(|(_, document)| document);
    let mut entries = known.into_iter().flat_map(|document| document.entries.values());
    entries.any(|entry| match entry {
        Entry::Subscription(offer) => {
            offer.pattern.without_network().as_str() == plan.pattern
                && offer.group.is_some() == plan.group.is_some()
                && offer.service.is_some() == plan.service.is_some()
        }
        Entry::Service(_) => false,
    })
}
