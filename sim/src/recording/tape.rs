//! The recorder of a run: what the world and its ledger tell it, kept within bounds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dunlin_core::{Event, Mesh, PeerId};

use super::{
    Breach, Datagram, Doing, Ending, Extent, Fate, FaultSpan, Kind, LeaseSpan, LeftOut, Life,
    LinkSpan, Mark, Message, Operation, Pause, Recording, Summary, VERSION, label,
};
use crate::faults::FaultKind;
use crate::network;
use crate::report;
use crate::run::{Outcome, Verdict};
use crate::schedule::{Deed, Fault};

/// Where a run is recorded, if it is. Shared by the world, its ledger, and who wants the recording: it is there
/// even when the run panics.
#[derive(Clone, Default)]
pub(crate) struct Tape(Option<Arc<Mutex<Recorder>>>);

/// A message that leaves.
pub(crate) struct Sent {
    pub(crate) at: u64,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) bytes: usize,
    pub(crate) link: Option<u32>,
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

/// Who sends a frame, to whom, and on which lane.
type FrameWay = (usize, usize, u64);

/// A frame under way: when it left, on which lane, and what it is.
type UnderWay = (u64, u64, Bytes);

/// So many frames of one node to another are taken to be under way. Of more, the oldest were lost with their links. A
/// guess: more than links hold.
const UNDER_WAY_MAX: usize = 4_096;

#[derive(Default)]
struct Recorder {
    extent: Extent,
    messages: VecDeque<Message>,
    marks: VecDeque<Mark>,
    datagrams: VecDeque<Datagram>,
    /// By node and peer, frames inside packets that have not arrived: when they left, and on which lane.
    under_way: BTreeMap<(usize, usize), VecDeque<UnderWay>>,
    left_out: LeftOut,
    /// All that is not bounded by the number of events, but by the schedule.
    rest: Recording,
    /// By node and peer, the places in `rest.links` of those that are up.
    links_up: BTreeMap<(u16, u16), Vec<usize>>,
    /// What the next operation at a node is.
    deed: Option<(u16, String)>,
    /// By kind and token, the place of an operation.
    operations: BTreeMap<(bool, u64), usize>,
    secrets: BTreeSet<String>,
}

impl Tape {
    pub(crate) fn new(extent: Extent) -> Self {
        Tape(Some(Arc::new(Mutex::new(Recorder { extent, ..Recorder::default() }))))
    }

    /// Whether anything is recorded: whether an entry is worth its making.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the bytes of datagrams are wanted.
    pub(crate) fn wants_datagrams(&self) -> bool {
        self.recorder().is_some_and(|recorder| recorder.extent.datagrams)
    }

    fn recorder(&self) -> Option<MutexGuard<'_, Recorder>> {
        let recorder = self.0.as_ref()?;
        Some(recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A message leaves, and this becomes of it.
    pub(crate) fn sent(&self, sent: Sent, fate: network::Fate) {
        if let Some(mut recorder) = self.recorder() {
            recorder.sent(sent, fate);
        }
    }

    /// A frame is handed to QUIC: from a node, to another, on a lane. What becomes of it is said when it arrives.
    pub(crate) fn frame_leaves(&self, at: u64, way: FrameWay, body: Bytes) {
        if let Some(mut recorder) = self.recorder()
            && recorder.covers(at)
        {
            recorder.frame_leaves(at, way, body);
        }
    }

    /// The same frame arrives.
    pub(crate) fn frame_arrives(&self, at: u64, way: FrameWay, body: &Bytes) {
        if let Some(mut recorder) = self.recorder() {
            recorder.frame_arrives(at, way, body);
        }
    }

    /// The bytes of a datagram that leaves.
    pub(crate) fn datagram(&self, datagram: Datagram) {
        if let Some(mut recorder) = self.recorder()
            && recorder.covers(datagram.at)
        {
            recorder.datagrams.push_back(datagram);
            if recorder.datagrams.len() > recorder.extent.entries_max {
                recorder.datagrams.pop_front();
            }
        }
    }

    /// A secret of a TLS session.
    pub(crate) fn secret(&self, name: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        if let Some(mut recorder) = self.recorder() {
            // Both ends of a session tell the same.
            let line = format!("{name} {} {}", hex(client_random), hex(secret));
            recorder.secrets.insert(line);
        }
    }

    /// A node says something.
    pub(crate) fn event(&self, at: u64, node: usize, event: &Event, what: String) {
        self.mark(Mark { at, node: node as u16, about: label::about(event), what });
    }

    /// Something is to be seen at a node.
    pub(crate) fn mark(&self, mark: Mark) {
        let Some(mut recorder) = self.recorder() else { return };
        if !recorder.covers(mark.at) {
            return;
        }
        recorder.marks.push_back(mark);
        if recorder.marks.len() > recorder.extent.entries_max
            && let Some(first) = recorder.marks.pop_front()
        {
            recorder.left_out.marks += 1;
            recorder.left_out.before = recorder.left_out.before.max(first.at);
        }
    }

    /// Looks at which links a node has.
    pub(crate) fn links(&self, at: u64, node: usize, mesh: Option<&Mesh>, peers: &[PeerId]) {
        let Some(mut recorder) = self.recorder() else { return };
        for (to, peer) in peers.iter().enumerate() {
            let now = mesh.map(|mesh| mesh.links_up(*peer)).unwrap_or_default();
            let now: Vec<u64> = now.into_iter().map(|(link, _)| link.0).collect();
            recorder.links(at, (node as u16, to as u16), &now);
        }
    }

    /// A life begins.
    pub(crate) fn born(&self, at: u64, node: usize, life: u32) {
        if let Some(mut recorder) = self.recorder() {
            let node = node as u16;
            recorder.rest.lives.push(Life {
                node,
                life,
                from: at,
                until: None,
                end: String::new(),
            });
        }
    }

    /// A life ends.
    pub(crate) fn died(&self, at: u64, node: usize, peers: &[PeerId], how: &str) {
        self.links(at, node, None, peers);
        let Some(mut recorder) = self.recorder() else { return };
        let is_it = |life: &&mut Life| usize::from(life.node) == node && life.until.is_none();
        if let Some(life) = recorder.rest.lives.iter_mut().rev().find(is_it) {
            (life.until, life.end) = (Some(at), how.into());
        }
    }

    /// A node holds the lease from now on.
    pub(crate) fn hold_begins(&self, at: u64, life: crate::history::Life, token: String) {
        if let Some(mut recorder) = self.recorder() {
            let crate::history::Life { node, life } = life;
            recorder.rest.leases.push(LeaseSpan { node, life, token, from: at, until: None });
        }
    }

    /// A node held the lease until then.
    pub(crate) fn hold_ends(&self, at: u64, node: usize) {
        let Some(mut recorder) = self.recorder() else { return };
        let is_it = |hold: &&mut LeaseSpan| usize::from(hold.node) == node && hold.until.is_none();
        if let Some(hold) = recorder.rest.leases.iter_mut().rev().find(is_it) {
            hold.until = Some(at.max(hold.from));
        }
    }

    /// A pause begins.
    pub(crate) fn paused(&self, at: u64, node: usize) {
        if let Some(mut recorder) = self.recorder() {
            recorder.rest.pauses.push(Pause { node: node as u16, from: at, until: None });
        }
    }

    /// A pause ends, if there is one.
    pub(crate) fn resumed(&self, at: u64, node: usize) {
        let Some(mut recorder) = self.recorder() else { return };
        let is_it = |pause: &&mut Pause| usize::from(pause.node) == node && pause.until.is_none();
        if let Some(pause) = recorder.rest.pauses.iter_mut().rev().find(is_it) {
            pause.until = Some(at);
        }
    }

    /// A fault begins.
    pub(crate) fn fault_begins(&self, at: u64, index: usize, fault: &Fault) {
        let Some(mut recorder) = self.recorder() else { return };
        recorder.rest.faults.push(FaultSpan {
            index,
            kind: FaultKind::of(&fault.what).name().into(),
            nodes: fault.what.struck(),
            from: at,
            until: None,
            what: format!("{:?}", fault.what),
        });
    }

    /// A fault ends.
    pub(crate) fn fault_ends(&self, at: u64, index: usize) {
        let Some(mut recorder) = self.recorder() else { return };
        if let Some(fault) = recorder.rest.faults.iter_mut().rfind(|fault| fault.index == index) {
            fault.until = Some(at);
        }
    }

    /// All faults end.
    pub(crate) fn healed(&self, at: u64) {
        let Some(mut recorder) = self.recorder() else { return };
        recorder.rest.healed_at = Some(at);
        for fault in &mut recorder.rest.faults {
            fault.until.get_or_insert(at);
        }
    }

    /// A user does something.
    pub(crate) fn deed(&self, at: u64, node: usize, deed: &Deed) {
        let node = node as u16;
        let what = label::deed(deed);
        match deed {
            Deed::Call(_) | Deed::Publish(_) => {
                if let Some(mut recorder) = self.recorder() {
                    recorder.deed = Some((node, what));
                }
            }
            Deed::Subscribe(_) => self.mark(Mark { at, node, about: super::About::Event, what }),
            Deed::Connect { .. } | Deed::Disconnect { .. } => {
                self.mark(Mark { at, node, about: super::About::Peer, what });
            }
            _ => self.mark(Mark { at, node, about: super::About::Service, what }),
        }
    }

    /// An operation begins.
    pub(crate) fn begins(&self, at: u64, node: u16, doing: Doing, token: u64, other: &str) {
        let Some(mut recorder) = self.recorder() else { return };
        let deed = recorder.deed.take_if(|(at, _)| *at == node).map(|(_, what)| what);
        let place = recorder.rest.operations.len();
        recorder.operations.insert((doing == Doing::Call, token), place);
        recorder.rest.operations.push(Operation {
            doing,
            token,
            node,
            from: at,
            until: None,
            ending: Ending::Open,
            what: deed.unwrap_or_else(|| other.into()),
            result: String::new(),
            seen: Vec::new(),
        });
    }

    /// A handler runs, or a subscriber finds the event.
    pub(crate) fn seen(&self, at: u64, node: u16, doing: Doing, token: u64) {
        if let Some(mut recorder) = self.recorder()
            && let Some(operation) = recorder.operation(doing, token)
        {
            operation.seen.push((node, at));
        }
    }

    /// An operation ends.
    pub(crate) fn ends(&self, at: u64, doing: Doing, token: u64, ending: Ending, result: &str) {
        if let Some(mut recorder) = self.recorder()
            && let Some(operation) = recorder.operation(doing, token)
        {
            (operation.until, operation.ending, operation.result) =
                (Some(at), ending, result.into());
        }
    }

    /// What was recorded, at the end of the run.
    pub(crate) fn finish(&self, outcome: &Outcome) -> Recording {
        let Some(mut recorder) = self.recorder() else { return Recording::default() };
        let recorder = std::mem::take(&mut *recorder);
        recorder.finish(outcome)
    }
}

impl Recorder {
    fn covers(&self, at: u64) -> bool {
        self.extent.from <= at && at < self.extent.until
    }

    fn sent(&mut self, sent: Sent, fate: network::Fate) {
        if !self.covers(sent.at) {
            return;
        }
        let (took, again, fate, lost) = match fate {
            network::Fate::Lost(kind) => (0, None, Fate::Lost, Some(kind)),
            network::Fate::Arrives { after, again, damaged: false } => {
                (after, again, Fate::Arrived, None)
            }
            network::Fate::Arrives { after, again, .. } => (after, again, Fate::Damaged, None),
        };
        let mut what = sent.what;
        if let Some(kind) = lost {
            what += if what.is_empty() { "lost to " } else { "; lost to " };
            what += kind.name();
        }
        let message = Message {
            at: sent.at,
            from: sent.from as u16,
            to: sent.to as u16,
            took,
            kind: sent.kind,
            fate,
            bytes: sent.bytes as u32,
            link: sent.link,
            what,
        };
        if let Some(again) = again {
            let what = format!("{} (doubled)", message.what).trim().to_string();
            let copy = Message { took: again, fate: Fate::Arrived, what, ..message.clone() };
            self.messages.push_back(copy);
        }
        self.keep(message);
    }

    fn keep(&mut self, message: Message) {
        self.messages.push_back(message);
        while self.messages.len() > self.extent.entries_max {
            if let Some(first) = self.messages.pop_front() {
                self.left_out.messages += 1;
                self.left_out.before = self.left_out.before.max(first.at);
            }
        }
    }

    fn frame_leaves(&mut self, at: u64, (from, to, lane): FrameWay, body: Bytes) {
        let under_way = self.under_way.entry((from, to)).or_default();
        under_way.push_back((at, lane, body));
        if under_way.len() > UNDER_WAY_MAX
            && let Some((left, _, body)) = under_way.pop_front()
        {
            self.keep(frame_message(left, (from, to), &body, None));
        }
    }

    fn frame_arrives(&mut self, at: u64, (from, to, lane): FrameWay, body: &Bytes) {
        let Some(under_way) = self.under_way.get_mut(&(from, to)) else { return };
        // Mostly it is the first. Before it may be what other lanes hold back, and what was lost with a link.
        let is_it = |(_, on, other): &UnderWay| *on == lane && other == body;
        let Some(place) = under_way.iter().position(is_it) else { return };
        let Some((left, ..)) = under_way.remove(place) else { return };
        self.keep(frame_message(left, (from, to), body, Some(at)));
    }

    /// What has not arrived never does.
    fn frames_end(&mut self) {
        for (ends, under_way) in std::mem::take(&mut self.under_way) {
            for (left, _, body) in under_way {
                self.keep(frame_message(left, ends, &body, None));
            }
        }
    }

    fn links(&mut self, at: u64, ends: (u16, u16), now: &[u64]) {
        let up = self.links_up.entry(ends).or_default();
        if up.len() == now.len() && up.iter().zip(now).all(|(i, n)| self.rest.links[*i].link == *n)
        {
            return;
        }
        for place in up.iter() {
            let span = &mut self.rest.links[*place];
            if !now.contains(&span.link) {
                span.until = Some(at);
            }
        }
        let before = std::mem::take(up);
        for link in now {
            let known = before.iter().find(|place| self.rest.links[**place].link == *link);
            let place = known.copied().unwrap_or_else(|| {
                let (node, peer) = ends;
                self.rest.links.push(LinkSpan { node, peer, link: *link, from: at, until: None });
                self.rest.links.len() - 1
            });
            up.push(place);
        }
    }

    fn operation(&mut self, doing: Doing, token: u64) -> Option<&mut Operation> {
        let place = self.operations.get(&(doing == Doing::Call, token))?;
        self.rest.operations.get_mut(*place)
    }

    fn finish(mut self, outcome: &Outcome) -> Recording {
        self.frames_end();
        let (verdict, breaches) = judged(&outcome.verdict);
        let mut recording = Recording {
            version: VERSION,
            summary: Summary {
                seed: outcome.seed,
                fidelity: outcome.fidelity.to_string(),
                crypto: outcome.crypto.to_string(),
                verdict: verdict.into(),
                reproduce: report::reproduce(outcome),
                hash: outcome.hash.clone(),
                events: outcome.events,
                calls: outcome.calls,
                answered: outcome.answered,
                published: outcome.published,
                delivered: outcome.delivered,
            },
            end: outcome.simulated_nanos,
            nodes: outcome.nodes as u16,
            messages: self.messages.into(),
            marks: self.marks.into(),
            datagrams: self.datagrams.into(),
            secrets: self.secrets.into_iter().collect(),
            breaches,
            left_out: self.left_out,
            ..self.rest
        };
        recording.lives.sort_by_key(|life| (life.node, life.from));
        // One that was doubled was written down first, and a pause may hold back what is older.
        recording.messages.sort_by_key(|message| message.at);
        settle(&mut recording);
        recording
    }
}

/// A frame that travelled inside packets.
fn frame_message(
    at: u64,
    (from, to): (usize, usize),
    body: &Bytes,
    arrived: Option<u64>,
) -> Message {
    let (kind, mut what) = label::frame(body);
    if arrived.is_none() {
        what += if what.is_empty() { "never heard" } else { "; never heard" };
    }
    Message {
        at,
        from: from as u16,
        to: to as u16,
        took: arrived.map_or(0, |arrived| arrived - at),
        kind,
        fate: if arrived.is_some() { Fate::Arrived } else { Fate::Lost },
        bytes: body.len() as u32,
        link: None,
        what,
    }
}

/// Says of messages that arrived whether anybody was there.
fn settle(recording: &mut Recording) {
    let Recording { messages, lives, pauses, .. } = recording;
    for message in messages.iter_mut().filter(|message| message.fate != Fate::Lost) {
        let (node, at) = (message.to, message.at + message.took);
        let first = lives.partition_point(|life| life.node < node);
        let mut of_node = lives[first..].iter().take_while(|life| life.node == node);
        if !of_node.any(|life| life.from <= at && life.until.is_none_or(|until| at < until)) {
            message.fate = Fate::Unheard;
        } else if pauses.iter().any(|pause| {
            pause.node == node && pause.from <= at && pause.until.is_none_or(|until| at < until)
        }) {
            message.fate = Fate::Waited;
        }
    }
}

fn judged(verdict: &Verdict) -> (&'static str, Vec<Breach>) {
    let (name, violations) = match verdict {
        Verdict::Clean => return ("clean", Vec::new()),
        Verdict::Crash { at, message } => {
            let (rule, what) = ("the code under test does not panic".into(), message.clone());
            return ("crash", vec![Breach { at: *at, node: None, rule, what }]);
        }
        Verdict::Safety { violations } => ("safety", violations),
        Verdict::Liveness { violations } => ("liveness", violations),
    };
    let breach = |violation: &crate::Violation| Breach {
        at: violation.at,
        node: violation.node,
        rule: violation.rule.into(),
        what: violation.what.clone(),
    };
    (name, violations.iter().map(breach).collect())
}
