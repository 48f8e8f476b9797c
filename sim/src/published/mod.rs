//! What truly happened to every event, written down outside of all nodes, and the rules that it is judged by.
//!
//! Each event carries a token that nothing else carries. Whoever publishes it says so here first; a subscriber
//! says what it finds in its queue. To whom an event is owed is read off what its publisher knows at that time:
//! a subscriber whose node is known to have it gets every event, or is told in its place that some are missing,
//! or else the publisher is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use dunlin_core::events::{Delivery, EventId, EventMessage, PublishOutcome, Published};
use dunlin_core::topic::{Pattern, TopicPath};
use dunlin_core::{Event, Limits, PeerId};
use serde::{Deserialize, Serialize};

use crate::history::{Ledger, Life};
use crate::recording::{Doing, Ending};
use crate::schedule::{Publish, Subscriber, networks_of};
use crate::sometimes;
use crate::workload::NodeInfo;

mod owed;
#[cfg(test)]
mod tests;

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

/// Peers that take nothing cost publishers little.
const IN_VAIN: &str = "publishers wait in vain for a few peers only";

/// A member that leaves gives back what it has not handled.
const GIVEN_BACK: &str = "a member that leaves in order loses no event of its group";

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
    /// Since then.
    Waiting(u64),
    Refused,
    Accepted {
        at: u64,
        published: Published,
    },
}

/// What one member of is chosen for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Group(u16),
    Service(u16),
}

/// The place of a topic in the record: there are few.
type Topic = u16;

#[derive(Debug)]
struct Publication {
    by: Life,
    plan: Publish,
    topic: Topic,
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
    /// Whether the pattern matches, for each topic.
    matches: Vec<bool>,
    /// The node has taken it, in an earlier turn.
    settled: bool,
    /// It takes nothing more, and may still read.
    leaves: bool,
    closed_at: Option<u64>,
    /// It reads slowly until then, or leaves then.
    slow_until: u64,
    /// Of how many events of a publisher it was told that they are missing.
    missed: BTreeMap<PeerId, u64>,
    lines: BTreeMap<(PeerId, u64, Topic), Line>,
}

/// The world's own record of all events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    publications: Vec<Publication>,
    readers: Vec<Reader>,
    /// Those that read, by their nodes.
    reading: BTreeMap<u16, Vec<usize>>,
    /// The groups of which a member gets what may have been handled elsewhere.
    repeating: BTreeSet<u16>,
    topics: Vec<TopicPath>,
    /// Accepted in this turn.
    fresh: Vec<u64>,
    /// Opened in this turn.
    opened: Vec<usize>,
    ended: BTreeSet<(usize, u32, u64)>,
    /// Lives that have stopped in order, with all that their members had not handled given back.
    left_in_order: BTreeSet<Life>,
    /// For each life when it last waited in vain, and how often one after the other.
    vain_waits: BTreeMap<Life, (u64, u64)>,
    /// How many events each node said that no other member takes.
    unplaced: BTreeMap<u16, u64>,
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
    /// Whether it has left at this time or later.
    fn left_since(&self, at: u64) -> bool {
        self.closed_at.is_some_and(|closed| closed >= at)
    }

    fn group(&self, plan: &Publish) -> Option<Group> {
        let service = self.plan.service.filter(|_| plan.one_per_service).map(Group::Service);
        self.plan.group.map(Group::Group).or(service)
    }

    fn wants(&self, publication: &Publication) -> bool {
        let plan = &publication.plan;
        self.plan.network == plan.network
            && self.matches[usize::from(publication.topic)]
            && (!plan.local || self.at.node == publication.by.node)
            && plan.target.is_none_or(|target| target == self.at.node)
    }
}

impl Events {
    fn topic(&mut self, text: &str) -> Topic {
        let place = self.topics.iter().position(|topic| topic.as_str() == text);
        let place = place.unwrap_or_else(|| {
            let topic = TopicPath::parse(text).expect("topics of schedules are well-formed");
            for reader in &mut self.readers {
                reader.matches.push(reader.pattern.matches(&topic));
            }
            self.topics.push(topic);
            self.topics.len() - 1
        });
        place as Topic
    }

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
        self.repeating.contains(&number)
    }

    /// A publisher of a life has waited in vain.
    fn waited_in_vain(&mut self, by: Life, (from, until): (u64, u64)) -> Verdict {
        let (last, count) = self.vain_waits.entry(by).or_default();
        if from < *last {
            // At the same time as another one.
            return Ok(());
        }
        (*last, *count) = (until, *count + 1);
        let limits = Limits::default();
        let interval = u64::from(limits.publish_wait_interval_ms) * 1_000_000;
        // As if each life had begun with the world: one that begins later has fewer.
        let most = u64::from(limits.publish_waits_in_vain_max) + until / interval + 1;
        match *count > most {
            true => Err((IN_VAIN, format!("{by} has waited in vain {count} times by {until}"))),
            false => Ok(()),
        }
    }

    fn received(&mut self, node: &NodeInfo, index: usize, event: &EventMessage) -> Verdict {
        let here = node.life;
        let (tape, at) = (node.ledger.tape(), node.ledger.now());
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
        let is_its_topic =
            node.is_in(plan.network, event.topic().network()) && event.topic().path() == plan.topic;
        if !is_filler(&said, plan.bytes) || !is_its_topic {
            return Err((WHOLE, what("it was damaged")));
        }
        let known = match &publication.state {
            State::Refused => return Err((REFUSED, what("its publisher was told that it is not"))),
            State::Waiting(_) => None,
            State::Accepted { published, .. } => Some(published.id),
        };
        let id = event.id();
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
        let again = may_repeat && event.is_redelivered();
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
        tape.seen(at, here.node, Doing::Publish, said.token);
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
        let line = reader.lines.entry((id.publisher, id.boot, publication.topic)).or_default();
        let topic = &publication.plan.topic;
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

fn filler(token: u64) -> char {
    char::from(b'a' + (token % 26) as u8)
}

fn is_filler(said: &Said, bytes: u32) -> bool {
    said.filler.len() == bytes as usize && said.filler.chars().all(|c| c == filler(said.token))
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
        let topic = events.topic(&plan.topic);
        events.publications.push(Publication {
            by,
            plan: plan.clone(),
            topic,
            is_probe,
            state: State::Waiting(self.now()),
            outcome: None,
            got: Vec::new(),
            repeated: Vec::new(),
            groups: BTreeSet::new(),
            owed_to: Vec::new(),
        });
        let token = events.publications.len() as u64;
        self.tape().begins(self.now(), by.node, Doing::Publish, token, "event of a probe");
        let said = Said { token, filler: filler(token).to_string().repeat(plan.bytes as usize) };
        (OpenPublication { ledger: self, token }, said)
    }

    /// Writes down that somebody is about to subscribe.
    pub(crate) fn subscribe<'a>(&self, node: &'a NodeInfo, plan: &Subscriber) -> OpenReader<'a> {
        let mut events = self.events();
        let slow = plan.stalls_ms + plan.slow_ms + plan.each_ms;
        // Who will leave changes what is known until then.
        let slow = u64::from(slow.max(plan.lasts_ms.unwrap_or(0)));
        let pattern = Pattern::parse(&plan.pattern).expect("patterns of schedules are well-formed");
        let matches = events.topics.iter().map(|topic| pattern.matches(topic)).collect();
        events.readers.push(Reader {
            at: node.life,
            plan: plan.clone(),
            pattern,
            matches,
            settled: false,
            leaves: false,
            closed_at: None,
            slow_until: self.now() + slow * 1_000_000,
            missed: BTreeMap::new(),
            lines: BTreeMap::new(),
        });
        let reader = events.readers.len() - 1;
        events.reading.entry(node.life.node).or_default().push(reader);
        events.repeating.extend(plan.group.filter(|_| plan.at_least_one));
        OpenReader { node, reader }
    }

    /// How many subscribers of a life are there, and whether one of them is slow.
    pub(crate) fn readers(&self, life: Life) -> (usize, bool) {
        let (events, now) = (self.events(), self.now());
        let reading = events.reading.get(&life.node).into_iter().flatten();
        let reading = reading.map(|reader| &events.readers[*reader]);
        let here = reading.filter(|reader| reader.at == life);
        here.fold((0, false), |(n, slow), reader| (n + 1, slow || reader.slow_until >= now))
    }

    /// How many events were published, and how often one came to a subscriber.
    pub(crate) fn event_counts(&self) -> (u64, u64) {
        let events = self.events();
        let got = events.publications.iter().map(|publication| publication.got.len() as u64).sum();
        (events.publications.len() as u64, got)
    }

    /// A life has stopped, and as a member of groups it did so in order.
    pub(crate) fn left_in_order(&self, life: Life) {
        self.events().left_in_order.insert(life);
    }

    fn judge(&self, node: usize, verdict: Verdict) {
        if let Err((rule, what)) = verdict {
            self.violate(Some(node as u16), rule, what);
        }
    }
}

impl OpenPublication<'_> {
    fn tell(&self, ending: Ending, result: &str) {
        let now = self.ledger.now();
        self.ledger.tape().ends(now, Doing::Publish, self.token, ending, result);
    }

    /// It was accepted.
    pub(crate) fn accepted(&self, published: Published) {
        let at = self.ledger.now();
        let mut events = self.ledger.events();
        let publication = &mut events.publications[self.token as usize - 1];
        let State::Waiting(asked_at) = publication.state else { unreachable!("it ends once") };
        publication.state = State::Accepted { at, published };
        let by = publication.by;
        // It waited until its patience was over, and not for what is no matter of time.
        let patience = u64::from(publication.plan.patience_ms.unwrap_or(0)) * 1_000_000;
        let in_vain = published.passed_over > 0 && patience > 0 && at - asked_at >= patience;
        events.fresh.push(self.token);
        let verdict = if in_vain { events.waited_in_vain(by, (asked_at, at)) } else { Ok(()) };
        drop(events);
        self.ledger.judge(usize::from(by.node), verdict);
        self.tell(Ending::Done, "accepted");
        self.ledger.stirred.store(true, Ordering::Relaxed);
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
        self.tell(Ending::Refused, "refused");
        self.ledger.judge(usize::from(node), verdict);
    }

    /// Its publisher was told what became of it.
    pub(crate) fn ended(&self, outcome: PublishOutcome) {
        let now = self.ledger.now();
        if outcome.groups_lost > 0 {
            self.ledger.sometimes(sometimes::GROUP_WITHOUT);
        }
        if outcome.undecided > 0 {
            self.ledger.sometimes(sometimes::UNDECIDED);
        }
        let mut events = self.ledger.events();
        let publication = &mut events.publications[self.token as usize - 1];
        publication.outcome = Some(outcome);
        let node = publication.by.node;
        let within = u64::from(publication.plan.confirm_ms.unwrap_or(0)) * 1_000_000;
        if self.ledger.tape().is_on() {
            self.tell(Ending::Done, &format!("{outcome:?}"));
        }
        let State::Accepted { at, .. } = publication.state else { unreachable!("it was accepted") };
        drop(events);
        let (from, to) = self.ledger.last_pause(node);
        let end = self.ledger.due(node, at, within);
        let late = self.ledger.late(node);
        let due = if from <= end + late && end <= to { to } else { end };
        if now > due + SLACK + late {
            let what = format!("event {} was to end by {due}, and ended at {now}", self.token);
            self.ledger.violate(Some(node), TOLD_ONCE, what);
        }
    }
}

impl OpenReader<'_> {
    /// The node has taken the subscriber.
    pub(crate) fn opened(&self) {
        self.node.ledger.events().opened.push(self.reader);
        self.node.ledger.stirred.store(true, Ordering::Relaxed);
    }

    /// It takes nothing more from now on: nothing is owed to it.
    pub(crate) fn leaves(&self) {
        let mut events = self.node.ledger.events();
        events.readers[self.reader].leaves = true;
        self.read_no_more(&mut events);
    }

    fn read_no_more(&self, events: &mut Events) {
        if let Some(reading) = events.reading.get_mut(&self.node.life.node) {
            reading.retain(|reader| *reader != self.reader);
        }
    }

    /// What it found in its queue.
    pub(crate) fn found(&self, delivery: &Delivery) {
        let mut events = self.node.ledger.events();
        match delivery {
            Delivery::Missed(missed) => {
                let told = &mut events.readers[self.reader].missed;
                *told.entry(missed.publisher).or_default() += missed.count;
                drop(events);
                self.node.ledger.sometimes(sometimes::MISSED);
            }
            Delivery::Event(event) => {
                let verdict = events.received(self.node, self.reader, event);
                drop(events);
                if event.is_redelivered() {
                    self.node.ledger.sometimes(sometimes::REDELIVERED);
                }
                self.node.ledger.judge(usize::from(self.node.life.node), verdict);
            }
        }
    }
}

impl Drop for OpenReader<'_> {
    fn drop(&mut self) {
        let mut events = self.node.ledger.events();
        events.readers[self.reader].closed_at = Some(self.node.ledger.now());
        self.read_no_more(&mut events);
        let is_member = events.readers[self.reader].plan.group.is_some();
        drop(events);
        if is_member {
            self.node.ledger.sometimes(sometimes::MEMBER_LEFT);
        }
    }
}

/// Whether an event says something of events.
pub(crate) fn concerns(event: &Event) -> bool {
    matches!(
        event,
        Event::EventsLost { .. } | Event::PublishEnded { .. } | Event::GroupEventsLost { .. }
    )
}
