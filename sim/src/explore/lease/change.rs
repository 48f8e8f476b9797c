//! Other acceptors take over: every order in which that can go.
//!
//! As in [`super`], with the same clocks, network and disks; and here are nodes that are acceptors in one or several epochs,
//! and do not know of the later ones until they are told. One proposer stays behind and asks the first acceptors for ever;
//! the other asks the last ones (or goes over to them, when it is told). The rules: at most one holds, and tokens
//! grow, over all epochs.
//!
//! - *Who knows what*: each node is told of an epoch at any time, or never. After a restart it knows of the first
//!   again, and what its disk has: a descriptor's file may be an old one.
//! - *Asking for a seal* is one step: question, answer, and what comes of it. An answer that comes later says that a lease
//!   may live for longer, and counts for less long. To be asked has no consequences.
//! - *Acceptors are told apart* here: what one has heard of another is part of what it is.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::Limits;
use dunlin_core::base::MonoTime;
use dunlin_core::lease::{
    Acceptor, AcceptorEffect, AcceptorInput, AcceptorSet, AcceptorTimer, Answer, Answered, Ask,
    FormerSet, LeaseConfig, LeaseName, LeaseTimes, Peeked, Proposer, ProposerEffect, ProposerId,
    ProposerInput, ProposerTimer, Record, Request, Seal, Token,
};

use super::super::Model;
use super::super::fingerprint::Shared;
use super::world::{
    NAME, Word, acceptor_id, acceptor_of, ballot_of, feed, proposer_id, proposer_of, round_of,
    short,
};
use super::{Faults, Lease, NONE, asked, shown};

/// One configuration.
#[derive(Clone, Debug)]
pub struct Change {
    /// The term in milliseconds.
    pub term_ms: u64,
    /// The acceptors of each epoch, from 1 on.
    pub sets: &'static [&'static [usize]],
    /// Whether the clocks of acceptors are fast.
    pub fast_acceptors: bool,
    /// Whether the proposer that begins with the first acceptors goes over to the last ones when it is told.
    pub goes_over: bool,
    /// The highest round that is tried in an epoch.
    pub rounds_max: u64,
    /// The highest number of a renewal.
    pub renewals_max: u64,
    /// What may go wrong, each at most so often.
    pub faults: Faults,
}

/// Something that can happen.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Action {
    /// A step of true time passes.
    Pass,
    /// A node learns of an epoch.
    Tell { acceptor: u8, epoch: u8 },
    /// The proposer that was left behind learns of the last epoch.
    GoOver,
    /// An acceptor asks another one whether its set is sealed, or its own has begun.
    AskSeal { acceptor: u8, by: u8, other: u8, of: u8 },
    /// An acceptor notices that nothing lives at those before it.
    Outlived { acceptor: u8, by: u8 },
    /// A proposer tries this round.
    Try { proposer: u8, round: u64 },
    /// A proposer gives its round up.
    Abandon(u8),
    /// A proposer renews its lease.
    Renew(u8),
    /// A proposer notices that its lease has ended.
    End(u8),
    /// A proposer leaves the lease, and wants it again.
    Leave(u8),
    /// A message arrives at an acceptor, by its place.
    Deliver(u8),
    /// Two answers arrive at a proposer, by their places.
    Hear([u8; 2]),
    /// An acceptor notices that a lease has ended.
    Expire { acceptor: u8, epoch: u8 },
    /// An acceptor without its disk has abstained, and learns from the others.
    Learn { acceptor: u8, epoch: u8 },
    /// What a node has written is on its disk.
    Sync(u8),
    /// Fault: a node restarts.
    Restart(u8),
    /// Fault: a node restarts without its disk.
    Lose(u8),
}

const BASE: Change = Change {
    term_ms: 3,
    sets: &[&[0, 1, 2], &[3]],
    fast_acceptors: true,
    goes_over: false,
    rounds_max: 1,
    renewals_max: 0,
    faults: NONE,
};

const LOSSES: Faults = Faults { losses: 1, ..NONE };
const RESTARTS: Faults = Faults { restarts: 1, ..NONE };

/// Every configuration that is explored, by its name. Sole acceptors keep it small: what majorities are for is in the
/// last one, and in [`deep`].
pub fn configurations() -> Vec<(String, Change)> {
    let one = Change { sets: &[&[0], &[1]], ..BASE };
    vec![
        ("a change, one to one, one restarts".into(), Change { faults: RESTARTS, ..one }),
        ("two changes in a row".into(), Change { sets: &[&[0], &[1], &[2]], ..BASE }),
        ("a change, one acceptor stays".into(), Change { sets: &[&[0], &[0, 1, 2]], ..BASE }),
        ("a change, three to one".into(), BASE),
    ]
}

/// Renewals, one of three acceptors replaced, lost disks, and what goes wrong meanwhile. These take long.
pub fn deep() -> Vec<(String, Change)> {
    let replaced = Change { sets: &[&[0, 1, 2], &[1, 2, 3]], ..BASE };
    let both = Faults { restarts: 1, losses: 1, ..NONE };
    let slow = Change { fast_acceptors: false, ..BASE };
    let rows: &[&[usize]] = &[&[0, 1, 2], &[3], &[0]];
    vec![
        ("a change, a renewal".into(), Change { renewals_max: 1, ..BASE }),
        ("a change, a lost disk".into(), Change { faults: LOSSES, ..BASE }),
        ("a change, a lost disk, slow clocks".into(), Change { faults: LOSSES, ..slow.clone() }),
        ("a change, slow clocks, the holder goes over".into(), Change { goes_over: true, ..slow }),
        ("a change, one restarts".into(), Change { faults: RESTARTS, ..BASE }),
        ("a change, one of three replaced".into(), replaced.clone()),
        (
            "a change, one of three replaced, one restarts".into(),
            Change { faults: RESTARTS, ..replaced },
        ),
        ("a change, a restart and a lost disk".into(), Change { faults: both, ..BASE }),
        (
            "a change, a lost disk, two rounds".into(),
            Change { faults: LOSSES, rounds_max: 2, ..BASE },
        ),
        ("two changes in a row, a restart".into(), Change { sets: rows, faults: RESTARTS, ..BASE }),
        ("two changes in a row, a lost disk".into(), Change { sets: rows, faults: LOSSES, ..BASE }),
    ]
}

/// Wrong rules by their names, and the planted bug that each is.
#[cfg(dunlin_planted)]
pub const RULES: [(&str, u32); 5] = [
    ("what-lives-is-not-waited-for", 130),
    ("one-seal-is-enough", 131),
    ("goes-on-after-its-seal", 133),
    ("only-the-last-set-is-sealed", 136),
    ("tokens-without-an-epoch", 137),
];

#[derive(Clone, Debug)]
struct Node {
    /// By epoch.
    machines: BTreeMap<u64, Acceptor>,
    now: MonoTime,
    /// When it began, as an acceptor of which epoch it did last.
    abstains_until: BTreeMap<u64, MonoTime>,
    boot: u64,
    /// The latest epoch that it was told of.
    knows: u64,
    disk: Vec<(u64, Record)>,
    unsynced: Vec<(u64, u64, Record)>,
    /// Whether it has told anybody something since it has written what is not on its disk yet.
    told: bool,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (epoch, machine) in &self.machines {
            epoch.hash(state);
            machine.hash_at(self.now, state);
            self.abstains_until[epoch].since(self.now).hash(state);
        }
        (self.boot, self.knows, &self.disk, self.told).hash(state);
        for (epoch, _, record) in &self.unsynced {
            (epoch, record).hash(state);
        }
    }
}

#[derive(Clone, Debug)]
struct Asker {
    machine: Proposer,
    now: MonoTime,
}

impl Hash for Asker {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.machine.hash_at(self.now, state);
        for place in 0..AcceptorSet::PEERS_MAX {
            self.machine.hash_heard(place, state);
        }
    }
}

impl Asker {
    fn epoch(&self) -> u64 {
        self.machine.epoch_of(&NAME).expect("it wants the lease")
    }

    fn is_holding(&self) -> bool {
        self.machine.token(&NAME, MonoTime::ZERO).is_some()
    }

    fn is_in_round(&self) -> bool {
        let proposes = self.machine.proposal(&NAME).is_some() && !self.is_holding();
        self.machine.prepared(&NAME).is_some() || proposes
    }

    fn holds(&self) -> Option<Token> {
        self.machine.token(&NAME, self.now)
    }
}

/// Something that is under way, and matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    acceptor: u8,
    proposer: u8,
    epoch: u8,
    word: Word,
}

impl Message {
    fn is_answer(self) -> bool {
        matches!(self.word, Word::Promise(_) | Word::Accepted(..))
    }
}

/// All that differs between two moments.
#[derive(Clone, Debug)]
pub struct State {
    nodes: Vec<Shared<Node>>,
    proposers: [Shared<Asker>; 2],
    /// In order.
    messages: Vec<Message>,
    /// The highest token that was granted.
    granted: Option<Token>,
    left: Faults,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.nodes, &self.proposers, self.granted).hash(state);
        for Message { acceptor, proposer, epoch, word } in &self.messages {
            (acceptor, proposer, epoch, word.packed(*proposer)).hash(state);
        }
        let Faults { restarts, losses, deaths, leaves } = self.left;
        [restarts, losses, deaths, leaves].hash(state);
    }
}

impl Change {
    fn last(&self) -> u64 {
        self.sets.len() as u64
    }

    /// The acceptors of an epoch, and those before them.
    fn config(&self, epoch: u64) -> Arc<LeaseConfig> {
        let term = Duration::from_millis(self.term_ms);
        let times = LeaseTimes::new(term, 200, term / 2).expect("the times fit");
        let set = |epoch: u64| {
            let peers = self.sets[epoch as usize - 1].iter().map(|a| acceptor_id(*a)).collect();
            AcceptorSet::new(epoch, peers).expect("one, three or five")
        };
        let former = |epoch| FormerSet { acceptors: set(epoch), abandoned: false };
        let config = LeaseConfig::new(set(epoch), times, &Limits::default());
        Arc::new(config.after((1..epoch).map(former).collect()))
    }

    fn nodes(&self) -> usize {
        self.sets.iter().flat_map(|set| set.iter()).max().expect("there are some") + 1
    }
}

impl Model for Change {
    type State = State;
    type Action = Action;
    type Pool = ();

    fn initial(&self) -> State {
        let node = |_| {
            Shared::new(Node {
                machines: BTreeMap::new(),
                now: MonoTime::ZERO,
                abstains_until: BTreeMap::new(),
                boot: 1,
                knows: 0,
                disk: Vec::new(),
                unsynced: Vec::new(),
                told: false,
            })
        };
        let proposer = |p: usize, epoch| {
            let id = ProposerId { peer: proposer_id(p), boot: 1 };
            let mut machine = Proposer::new(id, self.config(epoch));
            feed(&mut machine, MonoTime::ZERO, ProposerInput::Want(NAME.clone()))
                .expect("it looks");
            let now = MonoTime::ZERO + Duration::from_millis(1);
            Shared::new(Asker { machine, now })
        };
        let mut state = State {
            nodes: (0..self.nodes()).map(node).collect(),
            proposers: [proposer(0, 1), proposer(1, self.last())],
            messages: Vec::new(),
            granted: None,
            left: NONE,
        };
        // Founded, and long enough ago.
        let abstention = self.config(1).times.abstention();
        for a in self.sets[0] {
            state.nodes[*a].disk = vec![(1, Record::Complete)];
        }
        let mut work = Work { model: self, state: &mut state, told: None };
        for a in 0..self.nodes() {
            work.tell_node(a, 1).expect("it starts");
            let node = &mut *work.state.nodes[a];
            node.now = node.now + abstention;
            if node.machines.contains_key(&1) {
                work.sync(a).expect("it starts");
            }
        }
        state.left = self.faults;
        state
    }

    fn beginning(&self) -> String {
        let clocks = if self.fast_acceptors { "fast" } else { "slow" };
        format!(
            "acceptors by epoch: {:?}; proposer 0 asks the first ones, proposer 1 the last; the term is {} ms; \
             clocks of acceptors are {clocks}, those of proposers slow; a step of true time takes a slow clock 2 ms \
             on, a fast one 3 ms",
            self.sets, self.term_ms
        )
    }

    fn actions(&self, state: &State, out: &mut Vec<Action>) {
        for (a, node) in (0u8..).zip(&state.nodes) {
            if !node.unsynced.is_empty() {
                out.push(Action::Sync(a));
                if !node.told {
                    return state.restarts(a, out);
                }
            }
        }
        for (m, message) in (0u8..).zip(&state.messages) {
            if !message.is_answer() {
                out.push(Action::Deliver(m));
                continue;
            }
            for (n, other) in (0u8..).zip(&state.messages).skip(usize::from(m)) {
                if other.is_answer() && other.proposer == message.proposer {
                    out.push(Action::Hear([m, n]));
                }
            }
        }
        for (p, proposer) in (0u8..).zip(&state.proposers) {
            if proposer.holds().is_some() {
                let number = proposer.machine.proposal(&NAME).map_or(0, |(_, number)| number);
                if number < self.renewals_max {
                    out.push(Action::Renew(p));
                }
            } else if proposer.is_holding() {
                out.push(Action::End(p));
            } else if proposer.is_in_round() {
                out.push(Action::Abandon(p));
            } else {
                let from = proposer.machine.round(&NAME).unwrap_or(0) + 1;
                let rounds = from..=self.rounds_max;
                out.extend(rounds.map(|round| Action::Try { proposer: p, round }));
            }
            if state.left.leaves > 0 && (proposer.is_in_round() || proposer.is_holding()) {
                out.push(Action::Leave(p));
            }
        }
        if self.goes_over && state.proposers[0].machine.epoch() < self.last() {
            out.push(Action::GoOver);
        }
        for (a, node) in (0u8..).zip(&state.nodes) {
            let later = (node.knows + 1)..=self.last();
            out.extend(later.map(|epoch| Action::Tell { acceptor: a, epoch: epoch as u8 }));
            for (epoch, machine) in &node.machines {
                let by = *epoch as u8;
                if machine.is_due(&NAME, node.now) {
                    out.push(Action::Expire { acceptor: a, epoch: by });
                }
                if machine.is_learning() && node.now >= node.abstains_until[epoch] {
                    out.push(Action::Learn { acceptor: a, epoch: by });
                }
                if machine.has_begun() || machine.is_superseded() {
                    continue;
                }
                out.push(Action::Outlived { acceptor: a, by });
                for (other, node) in (0u8..).zip(&state.nodes) {
                    for (of, machine) in node.machines.range(..=*epoch) {
                        // Whoever has nothing to say need not be asked.
                        let says = machine.sealed().is_some()
                            || (machine.has_begun() && *of > 1)
                            || node.boot > 1;
                        if (*of < *epoch || (other != a && machine.has_begun())) && says {
                            let of = *of as u8;
                            out.push(Action::AskSeal { acceptor: a, by, other, of });
                        }
                    }
                }
            }
            state.restarts(a, out);
        }
        out.push(Action::Pass);
    }

    fn apply(
        &self,
        state: &mut State,
        action: Action,
        told: Option<&mut Vec<String>>,
    ) -> Result<(), String> {
        let mut work = Work { model: self, state, told };
        work.act(action)?;
        work.finish()
    }

    fn share(&self, _: &mut State, _: &mut ()) {}

    fn sweep(&self, _: &mut ()) {}

    fn at_rest(&self, _: &State) -> Result<(), String> {
        Ok(())
    }

    // As in the explorations without a change: time passes for ever.
    fn is_fault(&self, _: Action) -> bool {
        true
    }

    fn describe(&self, action: Action) -> String {
        match action {
            Action::Pass => "a step of true time passes".into(),
            Action::Tell { acceptor, epoch } => {
                format!("node {acceptor} learns of the acceptors of epoch {epoch}")
            }
            Action::GoOver => "proposer 0 learns of the last acceptors".into(),
            Action::AskSeal { acceptor, by, other, of } => format!(
                "acceptor {acceptor} of epoch {by} asks acceptor {other} whether epoch {of} is sealed, or has begun"
            ),
            Action::Outlived { acceptor, by } => {
                format!(
                    "acceptor {acceptor} of epoch {by} looks whether those before it are out of it"
                )
            }
            Action::Try { proposer, round } => format!("proposer {proposer} tries round {round}"),
            Action::Abandon(p) => format!("proposer {p} gives its round up"),
            Action::Renew(p) => format!("proposer {p} renews its lease"),
            Action::End(p) => format!("proposer {p} notices that its lease has ended"),
            Action::Leave(p) => format!("proposer {p} leaves the lease, and wants it again"),
            Action::Deliver(_) | Action::Hear(_) => "the network delivers".into(),
            Action::Expire { acceptor, .. } => {
                format!("acceptor {acceptor} notices that a lease has ended")
            }
            Action::Learn { acceptor, .. } => {
                format!("acceptor {acceptor} has abstained, and learns from the others")
            }
            Action::Sync(a) => format!("what node {a} has written is on its disk"),
            Action::Restart(a) => format!("FAULT: node {a} restarts, with the first descriptor"),
            Action::Lose(a) => {
                format!("FAULT: node {a} restarts without its disk, with the first descriptor")
            }
        }
    }
}

impl State {
    /// How a node can restart.
    fn restarts(&self, a: u8, out: &mut Vec<Action>) {
        let node = &self.nodes[usize::from(a)];
        if node.machines.is_empty() {
            return;
        }
        if self.left.restarts > 0 {
            out.push(Action::Restart(a));
        }
        // What fits into the tolerance of each set in which it is: one of three, none of one. Of a new set all learn.
        let begins =
            |(_, machine): (&u64, &Acceptor)| machine.has_begun() || machine.is_superseded();
        let alone = |(epoch, _): (&u64, &Acceptor)| self.is_alone(*epoch);
        let learns = |(other, node): (usize, &Shared<Node>)| {
            other != usize::from(a) && node.machines.values().any(Acceptor::is_learning)
        };
        let may = node.machines.iter().all(begins)
            && !node.machines.iter().any(alone)
            && !self.nodes.iter().enumerate().any(learns);
        if self.left.losses > 0 && may {
            out.push(Action::Lose(a));
        }
    }

    fn is_alone(&self, epoch: u64) -> bool {
        self.nodes.iter().filter(|node| node.machines.contains_key(&epoch)).count() == 1
    }
}

struct Work<'m, 'a> {
    model: &'m Change,
    state: &'a mut State,
    told: Option<&'a mut Vec<String>>,
}

impl Work<'_, '_> {
    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(line());
        }
    }

    fn send(&mut self, message: Message) {
        if let Err(at) = self.state.messages.binary_search(&message) {
            self.state.messages.insert(at, message);
        }
    }

    /// A node learns of an epoch, as its mesh would.
    fn tell_node(&mut self, a: usize, epoch: u64) -> Result<(), String> {
        self.state.nodes[a].knows = epoch;
        for of in 1..epoch {
            self.open(a, of)?;
            self.tell_acceptor(a, of, AcceptorInput::Supersede(epoch))?;
        }
        self.open(a, epoch)
    }

    fn open(&mut self, a: usize, epoch: u64) -> Result<(), String> {
        let config = self.model.config(epoch);
        let id = acceptor_id(a);
        let node = &mut *self.state.nodes[a];
        if config.acceptors.place(id).is_none() || node.machines.contains_key(&epoch) {
            return Ok(());
        }
        let of = |epoch: u64| node.disk.iter().filter(move |(of, _)| *of == epoch).map(|(_, r)| r);
        let mut records: Vec<Record> = of(epoch).cloned().collect();
        let kept = config.keeps(id, |epoch| of(epoch).any(|record| *record == Record::Complete));
        let seals = node.disk.iter().filter_map(|(_, record)| match record {
            Record::Sealed(by) => Some(*by),
            _ => None,
        });
        records.extend(seals.max().filter(|by| *by > epoch).map(Record::Sealed));
        let abstains = if kept { Duration::ZERO } else { config.times.abstention() };
        node.abstains_until.insert(epoch, node.now + abstains);
        node.machines.insert(epoch, Acceptor::new(id, node.boot, config));
        self.tell_acceptor(a, epoch, AcceptorInput::Start { records, kept })
    }

    fn tell_acceptor(&mut self, a: usize, epoch: u64, input: AcceptorInput) -> Result<(), String> {
        let node = &mut *self.state.nodes[a];
        let Some(machine) = node.machines.get_mut(&epoch) else { return Ok(()) };
        let from = acceptor_id(a);
        for effect in feed(machine, node.now, input)? {
            match effect {
                AcceptorEffect::Answer { to, answer } => {
                    let (proposer, answered) = (proposer_of(to), answer.answered);
                    let word = match answered {
                        Answered::Promise(of) => Word::Promise(round_of(of)),
                        Answered::Accepted(of, number) => {
                            Word::Accepted(round_of(of), short(number))
                        }
                        // These are only hints.
                        _ => continue,
                    };
                    self.tell(|| {
                        format!("acceptor {a} answers proposer {proposer}: {}", shown(&answered))
                    });
                    let node = &mut *self.state.nodes[a];
                    node.told |= !node.unsynced.is_empty();
                    let epoch = epoch as u8;
                    self.send(Message { acceptor: a as u8, proposer, epoch, word });
                }
                AcceptorEffect::Learn { to, learn } => {
                    let input = AcceptorInput::Learn { from, learn };
                    self.tell_acceptor(acceptor_of(to), epoch, input)?;
                }
                AcceptorEffect::Learned { to, learned } => {
                    let node = &mut *self.state.nodes[a];
                    node.told |= !node.unsynced.is_empty();
                    let o = acceptor_of(to);
                    self.tell(|| match learned.sealed {
                        Some(by) => {
                            format!("acceptor {a} tells acceptor {o}: sealed by epoch {by}")
                        }
                        None => format!("acceptor {a} tells acceptor {o} what is promised"),
                    });
                    let input = AcceptorInput::Learned { from, learned };
                    self.tell_acceptor(o, epoch, input)?;
                }
                // They ask when the model says so, and are told unasked when they ask.
                AcceptorEffect::Seal { .. } => {}
                AcceptorEffect::Sealed { .. } => {}
                AcceptorEffect::Persist { seq, record } => {
                    self.state.nodes[a].unsynced.push((epoch, seq, record));
                }
                AcceptorEffect::Ready => {
                    self.tell(|| format!("acceptor {a} takes part in epoch {epoch}"));
                }
            }
        }
        let Faults { restarts, losses, .. } = self.state.left;
        if restarts == 0 && losses == 0 { self.sync(a) } else { Ok(()) }
    }

    fn sync(&mut self, a: usize) -> Result<(), String> {
        let node = &mut *self.state.nodes[a];
        if node.unsynced.is_empty() {
            return Ok(());
        }
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for (epoch, seq, record) in std::mem::take(&mut node.unsynced) {
            let kind = std::mem::discriminant(&record);
            let is_same =
                |of: &(u64, Record)| of.0 == epoch && std::mem::discriminant(&of.1) == kind;
            node.disk.retain(|kept| !is_same(kept));
            node.disk.push((epoch, record));
            last.insert(epoch, seq);
        }
        node.disk.sort();
        node.told = false;
        for (epoch, seq) in last {
            self.tell_acceptor(a, epoch, AcceptorInput::Durable { seq })?;
        }
        Ok(())
    }

    fn ask_seal(&mut self, a: usize, by: u64, other: usize, of: u64) -> Result<(), String> {
        let asker = &self.state.nodes[a];
        let seal = Seal { of, by, boot: asker.boot, asked: asker.now };
        let node = &mut *self.state.nodes[other];
        let Some(machine) = node.machines.get_mut(&of) else { return Ok(()) };
        let input = AcceptorInput::Seal { from: acceptor_id(a), seal };
        let answered =
            feed(machine, node.now, input)?.into_iter().find_map(|effect| match effect {
                AcceptorEffect::Sealed { sealed, .. } => Some(sealed),
                _ => None,
            });
        let Some(sealed) = answered else { return Ok(()) };
        node.told |= !node.unsynced.is_empty();
        self.tell(|| match sealed.runs_for {
            Some(runs_for) => format!(
                "acceptor {other}: epoch {of} is sealed here, and what lives ends within {runs_for:?}"
            ),
            None if sealed.began => format!("acceptor {other}: epoch {of} has begun"),
            None => format!("acceptor {other}: epoch {of} is not sealed here"),
        });
        let from = acceptor_id(other);
        self.tell_acceptor(a, by, AcceptorInput::Sealed { from, sealed })
    }

    fn restart(&mut self, a: usize, with_disk: bool) -> Result<(), String> {
        let node = &mut *self.state.nodes[a];
        node.boot += 1;
        node.machines.clear();
        node.abstains_until.clear();
        node.unsynced.clear();
        node.told = false;
        if !with_disk {
            node.disk.clear();
        }
        self.tell_node(a, 1)
    }

    fn tell_proposer(&mut self, p: usize, input: ProposerInput) -> Result<(), String> {
        let node = &mut *self.state.proposers[p];
        for effect in feed(&mut node.machine, node.now, input)? {
            match effect {
                ProposerEffect::Ask { to, request } => {
                    let word = match request.ask {
                        Ask::Prepare(of) => Word::Prepare(round_of(of)),
                        Ask::Propose(of, number) => Word::Propose(round_of(of), short(number)),
                        Ask::Release(of) => Word::Release(round_of(of)),
                        Ask::Peek => continue,
                    };
                    let (acceptor, epoch) = (acceptor_of(to) as u8, request.epoch as u8);
                    self.send(Message { acceptor, proposer: p as u8, epoch, word });
                }
                ProposerEffect::Granted { token, .. } => {
                    self.tell(|| format!("proposer {p} holds the lease, with token {token}"));
                    if let Some(before) = self.state.granted.filter(|before| token <= *before) {
                        return Err(format!(
                            "proposer {p} is granted token {token}, and token {before} was granted before"
                        ));
                    }
                    self.state.granted = Some(token);
                }
                ProposerEffect::Lost { .. } => {
                    self.tell(|| format!("proposer {p} does not hold the lease any more"));
                }
                ProposerEffect::HeldBy { .. }
                | ProposerEffect::NoRoom(_)
                | ProposerEffect::Superseded(_) => {}
            }
        }
        Ok(())
    }

    fn timer(&mut self, p: usize, timer: fn(LeaseName) -> ProposerTimer) -> Result<(), String> {
        self.tell_proposer(p, ProposerInput::Timer(timer(NAME.clone())))
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Pass => {
                for node in &mut self.state.nodes {
                    node.now = node.now + Lease::step(self.model.fast_acceptors);
                }
                for node in &mut self.state.proposers {
                    node.now = node.now + Lease::step(false);
                }
                Ok(())
            }
            Action::Tell { acceptor, epoch } => self.tell_node(acceptor.into(), epoch.into()),
            Action::GoOver => {
                let config = self.model.config(self.model.last());
                self.tell_proposer(0, ProposerInput::Configure(config))
            }
            Action::AskSeal { acceptor, by, other, of } => {
                self.ask_seal(acceptor.into(), by.into(), other.into(), of.into())
            }
            Action::Outlived { acceptor, by } => {
                let input = AcceptorInput::Timer(AcceptorTimer::Outlived);
                self.tell_acceptor(acceptor.into(), by.into(), input)
            }
            Action::Try { proposer, round } => {
                let p = usize::from(proposer);
                self.timer(p, ProposerTimer::Step)?;
                let epoch = self.state.proposers[p].epoch();
                let stands = Peeked { round: round - 1, holder: None, runs_for: Duration::ZERO };
                for peer in self.model.config(epoch).acceptors.peers().iter().take(2) {
                    let answered = Answered::Peeked(stands);
                    let answer = Answer { epoch, name: NAME.clone(), answered };
                    self.tell_proposer(p, ProposerInput::Answer { from: *peer, answer })?;
                }
                let prepared = self.state.proposers[p].machine.prepared(&NAME);
                assert_eq!(prepared.map(|ballot| ballot.round), Some(round));
                Ok(())
            }
            Action::Abandon(p) | Action::Renew(p) => self.timer(p.into(), ProposerTimer::Step),
            Action::End(p) => self.timer(p.into(), ProposerTimer::End),
            Action::Leave(p) => {
                self.state.left.leaves -= 1;
                self.tell_proposer(p.into(), ProposerInput::Leave(NAME.clone()))?;
                self.tell_proposer(p.into(), ProposerInput::Want(NAME.clone()))
            }
            Action::Deliver(m) => self.deliver(m.into()),
            Action::Hear(messages) => self.hear(messages),
            Action::Expire { acceptor, epoch } => {
                let timer = AcceptorTimer::Expiry(NAME.clone());
                self.tell_acceptor(acceptor.into(), epoch.into(), AcceptorInput::Timer(timer))
            }
            Action::Learn { acceptor, epoch } => {
                let input = AcceptorInput::Timer(AcceptorTimer::Abstained);
                self.tell_acceptor(acceptor.into(), epoch.into(), input)
            }
            Action::Sync(a) => self.sync(a.into()),
            Action::Restart(a) => {
                self.state.left.restarts -= 1;
                self.restart(a.into(), true)
            }
            Action::Lose(a) => {
                self.state.left.losses -= 1;
                self.restart(a.into(), false)
            }
        }
    }

    fn deliver(&mut self, m: usize) -> Result<(), String> {
        let message = self.state.messages[m];
        let (a, p) = (usize::from(message.acceptor), usize::from(message.proposer));
        let ballot = |of| ballot_of(message.proposer, of);
        let ask = match message.word {
            Word::Prepare(of) => Ask::Prepare(ballot(of)),
            Word::Propose(of, number) => Ask::Propose(ballot(of), number.into()),
            Word::Release(of) => Ask::Release(ballot(of)),
            Word::Promise(_) | Word::Accepted(..) => unreachable!("answers are heard"),
        };
        let epoch = u64::from(message.epoch);
        self.tell(|| format!("proposer {p} asks acceptor {a} of epoch {epoch}: {}", asked(ask)));
        if matches!(ask, Ask::Release(_)) {
            self.state.messages.remove(m);
        }
        let before = self.state.nodes[a].clone();
        let live = before.machines.get(&epoch).and_then(|of| of.live(&NAME, before.now));
        let request = Request { epoch, name: NAME.clone(), ask };
        self.tell_acceptor(a, epoch, AcceptorInput::Request { from: proposer_id(p), request })?;
        if matches!(ask, Ask::Prepare(_)) && live.is_some() {
            // It may be parked: then it is as if it were still under way, where it is.
            let promised = |node: &Node| node.machines[&epoch].promised(&NAME);
            if promised(&before) == promised(&self.state.nodes[a]) {
                self.state.nodes[a] = before;
            }
        }
        Ok(())
    }

    /// A proposer hears two answers. If they come to nothing they come later.
    fn hear(&mut self, messages: [u8; 2]) -> Result<(), String> {
        let [first, second] = messages.map(|m| self.state.messages[usize::from(m)]);
        let p = usize::from(first.proposer);
        let before = self.state.proposers[p].clone();
        for message in [first, second] {
            let ballot = |of| ballot_of(message.proposer, of);
            let answered = match message.word {
                Word::Promise(of) => Answered::Promise(ballot(of)),
                Word::Accepted(of, number) => Answered::Accepted(ballot(of), number.into()),
                _ => unreachable!("answers are heard"),
            };
            let (a, epoch) = (usize::from(message.acceptor), message.epoch.into());
            self.tell(|| format!("proposer {p} hears acceptor {a}: {}", shown(&answered)));
            let answer = Answer { epoch, name: NAME.clone(), answered };
            self.tell_proposer(p, ProposerInput::Answer { from: acceptor_id(a), answer })?;
        }
        let goes_on = |node: &Asker| {
            let machine = &node.machine;
            (machine.prepared(&NAME), machine.proposal(&NAME), node.holds())
        };
        let is_held = self.state.proposers[p].is_holding() && self.model.renewals_max > 0;
        if !is_held && goes_on(&before) == goes_on(&self.state.proposers[p]) {
            self.state.proposers[p] = before;
        }
        Ok(())
    }

    /// Looks whether the rules hold, and takes away what cannot matter any more.
    fn finish(&mut self) -> Result<(), String> {
        let [first, second] = [0, 1].map(|p: usize| self.state.proposers[p].holds());
        if let (Some(first), Some(second)) = (first, second) {
            return Err(format!(
                "two hold the lease: proposer 0 with token {first}, proposer 1 with token {second}"
            ));
        }
        let State { nodes, proposers, messages, .. } = &mut *self.state;
        let is_answered = |all: &[Message], message: Message, word| {
            all.binary_search(&Message { word, ..message }).is_ok()
        };
        let mut m = 0;
        while let Some(message) = messages.get(m).copied() {
            let asker = &proposers[usize::from(message.proposer)];
            let is_current = asker.epoch() == u64::from(message.epoch);
            let prepared = asker.machine.prepared(&NAME).map(round_of);
            let proposed = asker.machine.proposal(&NAME).map(|(of, n)| (round_of(of), short(n)));
            let matters = match message.word {
                Word::Prepare(of) => {
                    is_current
                        && prepared == Some(of)
                        && !is_answered(messages, message, Word::Promise(of))
                }
                Word::Propose(of, number) => {
                    is_current
                        && proposed == Some((of, number))
                        && !is_answered(messages, message, Word::Accepted(of, number))
                }
                Word::Release(of) => {
                    let node = &nodes[usize::from(message.acceptor)];
                    let machine = node.machines.get(&u64::from(message.epoch));
                    let live = machine.and_then(|machine| machine.live(&NAME, node.now));
                    live == Some(ballot_of(message.proposer, of))
                }
                Word::Promise(of) => is_current && prepared == Some(of),
                Word::Accepted(of, number) => is_current && proposed == Some((of, number)),
            };
            if matters {
                m += 1;
            } else {
                messages.remove(m);
            }
        }
        Ok(())
    }
}
