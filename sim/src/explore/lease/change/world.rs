//! The nodes of a change of acceptors: their machines of each epoch, clocks and disks, and what is under way.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use dunlin_core::base::MonoTime;
use dunlin_core::lease::{
    Acceptor, AcceptorEffect, AcceptorInput, AcceptorSet, AcceptorTimer, Answer, Answered, Ask,
    LeaseName, Peeked, Proposer, ProposerEffect, ProposerId, ProposerInput, ProposerTimer, Record,
    Request, Seal, Token,
};

use super::super::super::fingerprint::Shared;
use super::super::words::{
    NAME, Word, acceptor_id, acceptor_of, asked, ballot_of, feed, proposer_id, proposer_of,
    round_of, short, shown,
};
use super::super::{Faults, Lease, NONE};
use super::{Action, Change};

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// By epoch.
    pub(super) machines: BTreeMap<u64, Acceptor>,
    pub(super) now: MonoTime,
    /// When it began, as an acceptor of which epoch it did last.
    pub(super) abstains_until: BTreeMap<u64, MonoTime>,
    pub(super) boot: u64,
    /// The latest epoch that it was told of.
    pub(super) knows: u64,
    disk: Vec<(u64, Record)>,
    pub(super) unsynced: Vec<(u64, u64, Record)>,
    /// Whether it has told anybody something since it has written what is not on its disk yet.
    pub(super) told: bool,
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
pub(super) struct Asker {
    pub(super) machine: Proposer,
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

    pub(super) fn is_holding(&self) -> bool {
        self.machine.token(&NAME, MonoTime::ZERO).is_some()
    }

    pub(super) fn is_in_round(&self) -> bool {
        let proposes = self.machine.proposal(&NAME).is_some() && !self.is_holding();
        self.machine.prepared(&NAME).is_some() || proposes
    }

    pub(super) fn holds(&self) -> Option<Token> {
        self.machine.token(&NAME, self.now)
    }
}

/// Something that is under way, and matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Message {
    acceptor: u8,
    pub(super) proposer: u8,
    epoch: u8,
    word: Word,
}

impl Message {
    pub(super) fn is_answer(self) -> bool {
        self.word.is_answer()
    }
}

/// All that differs between two moments.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) nodes: Vec<Shared<Node>>,
    pub(super) proposers: [Shared<Asker>; 2],
    /// In order.
    pub(super) messages: Vec<Message>,
    /// The highest token that was granted.
    granted: Option<Token>,
    pub(super) left: Faults,
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

impl State {
    pub(super) fn new(model: &Change) -> State {
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
            let mut machine = Proposer::new(id, model.config(epoch));
            feed(&mut machine, MonoTime::ZERO, ProposerInput::Want(NAME.clone()))
                .expect("it looks");
            let now = MonoTime::ZERO + Duration::from_millis(1);
            Shared::new(Asker { machine, now })
        };
        let mut state = State {
            nodes: (0..model.nodes()).map(node).collect(),
            proposers: [proposer(0, 1), proposer(1, model.last())],
            messages: Vec::new(),
            granted: None,
            left: NONE,
        };
        // Founded, and long enough ago.
        let abstention = model.config(1).times.abstention();
        for a in model.sets[0] {
            state.nodes[*a].disk = vec![(1, Record::Complete)];
        }
        let mut work = Work { model, state: &mut state, told: None };
        for a in 0..model.nodes() {
            work.tell_node(a, 1).expect("it starts");
            let node = &mut *work.state.nodes[a];
            node.now = node.now + abstention;
            if node.machines.contains_key(&1) {
                work.sync(a).expect("it starts");
            }
        }
        state.left = model.faults;
        state
    }

    /// How a node can restart.
    pub(super) fn restarts(&self, a: u8, out: &mut Vec<Action>) {
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

pub(super) struct Work<'m, 'a> {
    pub(super) model: &'m Change,
    pub(super) state: &'a mut State,
    pub(super) told: Option<&'a mut Vec<String>>,
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
                    let Some(word) = Word::of_answer(&answered) else { continue };
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
                    let Some(word) = Word::of_ask(request.ask) else { continue };
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

    pub(super) fn act(&mut self, action: Action) -> Result<(), String> {
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
        let ask = message.word.to_ask(message.proposer);
        let epoch = u64::from(message.epoch);
        self.tell(|| format!("proposer {p} asks acceptor {a} of epoch {epoch}: {}", asked(ask)));
        if matches!(ask, Ask::Release(_)) {
            self.state.messages.remove(m);
        }
        let before = self.state.nodes[a].clone();
        let live = before.machines.get(&epoch).and_then(|of| of.live(&NAME, before.now));
        let request = Request { epoch, name: NAME.clone(), ask };
        self.tell_acceptor(
            a,
            epoch,
            AcceptorInput::Request { from: proposer_id(p), account: proposer_id(p), request },
        )?;
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
            let answered = message.word.to_answer(message.proposer);
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
    pub(super) fn finish(&mut self) -> Result<(), String> {
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
