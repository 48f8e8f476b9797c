//! The machines of an exploration of leases, their clocks, their disks, and what is under way between them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::Limits;
use dunlin_core::base::MonoTime;
use dunlin_core::lease::{
    Acceptor, AcceptorEffect, AcceptorInput, AcceptorSet, AcceptorTimer, Answer, Answered, Ask,
    LeaseConfig, LeaseName, LeaseTimes, Peeked, Proposer, ProposerEffect, ProposerId,
    ProposerInput, ProposerTimer, Record, Request,
};

use super::super::fingerprint::{Fingerprint, Shared};
use super::words::{
    NAME, Word, acceptor_id, acceptor_of, asked, ballot_of, feed, proposer_id, proposer_of,
    round_of, short, shown,
};
use super::{Action, Faults, Lease};

/// Something that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Message {
    /// To or from this acceptor.
    pub(super) acceptor: u8,
    /// From or to this proposer.
    pub(super) proposer: u8,
    pub(super) word: Word,
}

impl Message {
    /// All but the acceptor as one number.
    fn packed(self) -> u64 {
        self.word.packed(self.proposer)
    }

    /// Whether it is an answer to a proposer.
    pub(super) fn is_answer(self) -> bool {
        self.word.is_answer()
    }
}

#[derive(Clone, Debug)]
pub(super) struct AcceptorNode {
    pub(super) machine: Acceptor,
    now: MonoTime,
    abstains_until: MonoTime,
    boot: u64,
    disk: Vec<Record>,
    pub(super) unsynced: Vec<Record>,
    /// Whether it has told anybody something since it has written what is not on its disk yet.
    pub(super) told: bool,
    /// The number of the last record.
    seq: u64,
}

#[derive(Clone, Debug)]
pub(super) struct ProposerNode {
    machine: Proposer,
    now: MonoTime,
    boot: u64,
}

/// All that differs between two moments.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) acceptors: [Shared<AcceptorNode>; 3],
    pub(super) proposers: [Shared<ProposerNode>; 2],
    /// In order.
    pub(super) messages: Vec<Message>,
    /// The highest round that was granted.
    granted: u64,
    /// Faults that may still happen.
    pub(super) left: Faults,
}

const EPOCH: u64 = 1;

impl Hash for AcceptorNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.machine.hash_at(self.now, state);
        (&self.disk, &self.unsynced, self.told, self.boot).hash(state);
    }
}

impl Hash for ProposerNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.machine.hash_at(self.now, state);
    }
}

impl AcceptorNode {
    /// Whether a lease has ended here and that was not noticed yet.
    pub(super) fn is_due(&self) -> bool {
        self.machine.is_due(&NAME, self.now)
    }

    /// Whether it has abstained and does not know what it has promised.
    pub(super) fn may_learn(&self) -> bool {
        self.machine.is_learning() && self.now >= self.abstains_until
    }
}

impl ProposerNode {
    pub(super) fn is_in_round(&self) -> bool {
        self.machine.prepared(&NAME).is_some()
            || (self.machine.proposal(&NAME).is_some() && !self.is_holding())
    }

    /// Whether it holds the lease, or has held it and has not noticed that it has ended.
    pub(super) fn is_holding(&self) -> bool {
        self.machine.token(&NAME, MonoTime::ZERO).is_some()
    }

    pub(super) fn number(&self) -> u64 {
        self.machine.proposal(&NAME).map_or(0, |(_, number)| number)
    }

    /// Whether it has done nothing yet.
    pub(super) fn is_new(&self) -> bool {
        self.boot == 1 && self.round() == 0
    }

    pub(super) fn round(&self) -> u64 {
        self.machine.round(&NAME).unwrap_or(0)
    }
}

impl State {
    pub(super) fn new(model: &Lease) -> State {
        let config = config(model);
        // Founded, and long enough ago.
        let acceptors = [0, 1, 2].map(|a| {
            let mut node = AcceptorNode {
                machine: Acceptor::new(acceptor_id(a), 1, Arc::clone(&config)),
                now: MonoTime::ZERO,
                abstains_until: MonoTime::ZERO,
                boot: 1,
                disk: vec![Record::Complete],
                unsynced: Vec::new(),
                told: false,
                seq: 0,
            };
            let records = node.disk.clone();
            feed(&mut node.machine, node.now, AcceptorInput::Start { records, kept: false })
                .expect("it starts");
            node.now = node.now + config.times.abstention();
            Shared::new(node)
        });
        let proposers = [0, 1].map(|p| {
            let id = ProposerId { peer: proposer_id(p), boot: 1 };
            let mut machine = Proposer::new(id, Arc::clone(&config));
            feed(&mut machine, MonoTime::ZERO, ProposerInput::Want(NAME.clone()))
                .expect("it looks");
            let now = MonoTime::ZERO + Duration::from_millis(1);
            Shared::new(ProposerNode { machine, now, boot: 1 })
        });
        State { acceptors, proposers, messages: Vec::new(), granted: 0, left: model.faults }
    }

    /// The round of the lease that a proposer holds, if asked at this instant.
    pub(super) fn holds(&self, proposer: usize) -> Option<u64> {
        let node = &self.proposers[proposer];
        Some(node.machine.token(&NAME, node.now)?.round)
    }

    /// How an acceptor can restart.
    pub(super) fn restarts(&self, acceptor: u8, out: &mut Vec<Action>) {
        if self.left.restarts > 0 {
            out.push(Action::Restart(acceptor));
        }
        // What fits into the network's tolerance: one of three.
        let others = (0u8..).zip(&self.acceptors).filter(|(other, _)| *other != acceptor);
        let learns = others.into_iter().any(|(_, other)| other.machine.is_learning());
        if self.left.losses > 0 && !learns {
            out.push(Action::Lose(acceptor));
        }
    }

    /// What an acceptor is, and has to do with others.
    fn column(&self, a: usize) -> u128 {
        struct Column<'a>(&'a State, usize);
        impl Hash for Column<'_> {
            fn hash<H: Hasher>(&self, state: &mut H) {
                let Column(all, a) = self;
                all.acceptors[*a].hash(state);
                for proposer in &all.proposers {
                    proposer.machine.hash_heard(*a, state);
                }
                for message in &all.messages {
                    if usize::from(message.acceptor) == *a {
                        state.write_u64(message.packed());
                    }
                }
            }
        }
        Fingerprint::of(&Column(self, a))
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut columns = [0, 1, 2].map(|a| self.column(a));
        columns.sort_unstable();
        for column in columns {
            state.write_u64(column as u64);
            state.write_u64((column >> 64) as u64);
        }
        self.proposers.hash(state);
        state.write_u64(self.granted);
        let Faults { restarts, losses, deaths, leaves } = self.left;
        state.write_u64(u32::from_le_bytes([restarts, losses, deaths, leaves]).into());
    }
}

/// Planted: answers to earlier renewals count, and so they matter for longer.
fn counts_any_renewal() -> bool {
    #[cfg(dunlin_planted)]
    return dunlin_core::planted::chosen() == 83;
    #[cfg(not(dunlin_planted))]
    false
}

fn config(model: &Lease) -> Arc<LeaseConfig> {
    let term = Duration::from_millis(model.term_ms);
    let times = LeaseTimes::new(term, 200, term / 2).expect("times that fit");
    let set = AcceptorSet::new(EPOCH, (0..3).map(acceptor_id).collect()).expect("three acceptors");
    Arc::new(LeaseConfig::new(set, times, &Limits::default()))
}

/// One step at work.
pub(super) struct Work<'a, 'm> {
    pub(super) model: &'m Lease,
    pub(super) state: &'a mut State,
    pub(super) told: Option<&'a mut Vec<String>>,
}

impl Work<'_, '_> {
    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(line());
        }
    }

    fn send_answer(&mut self, acceptor: usize, proposer: u8, word: Word) {
        let node = &mut *self.state.acceptors[acceptor];
        node.told |= !node.unsynced.is_empty();
        self.send(acceptor, proposer, word);
    }

    fn send(&mut self, acceptor: usize, proposer: u8, word: Word) {
        let message = Message { acceptor: acceptor as u8, proposer, word };
        if let Err(at) = self.state.messages.binary_search(&message) {
            self.state.messages.insert(at, message);
        }
    }

    fn tell_acceptor(&mut self, a: usize, input: AcceptorInput) -> Result<(), String> {
        let node = &mut *self.state.acceptors[a];
        for effect in feed(&mut node.machine, node.now, input)? {
            match effect {
                AcceptorEffect::Answer { to, answer } => {
                    let (p, answered) = (proposer_of(to), answer.answered);
                    self.tell(|| {
                        format!("acceptor {a} answers proposer {p}: {}", shown(&answered))
                    });
                    if let Some(word) = Word::of_answer(&answered) {
                        self.send_answer(a, p, word);
                    }
                }
                AcceptorEffect::Learn { to, learn } => {
                    let from = acceptor_id(a);
                    self.tell_acceptor(acceptor_of(to), AcceptorInput::Learn { from, learn })?;
                }
                AcceptorEffect::Learned { to, learned } => {
                    let round = learned.rounds.first().map_or(0, |of| of.1);
                    let o = acceptor_of(to);
                    self.tell(|| {
                        format!("acceptor {a} tells acceptor {o}: round {round} is promised")
                    });
                    let from = acceptor_id(a);
                    self.tell_acceptor(o, AcceptorInput::Learned { from, learned })?;
                }
                AcceptorEffect::Persist { seq, record } => {
                    let node = &mut *self.state.acceptors[a];
                    node.seq = seq;
                    node.unsynced.push(record);
                }
                // There is one configuration.
                AcceptorEffect::Seal { .. } | AcceptorEffect::Sealed { .. } => {}
                AcceptorEffect::Ready => self.tell(|| format!("acceptor {a} takes part again")),
            }
        }
        let Faults { restarts, losses, .. } = self.state.left;
        if restarts == 0 && losses == 0 { self.sync(a) } else { Ok(()) }
    }

    fn sync(&mut self, a: usize) -> Result<(), String> {
        let node = &mut *self.state.acceptors[a];
        if node.unsynced.is_empty() {
            return Ok(());
        }
        for record in std::mem::take(&mut node.unsynced) {
            // There is one lease: its latest promise replaces the one before.
            let kind = std::mem::discriminant(&record);
            node.disk.retain(|kept| std::mem::discriminant(kept) != kind);
            node.disk.push(record);
        }
        node.disk.sort();
        node.told = false;
        let seq = node.seq;
        self.tell_acceptor(a, AcceptorInput::Durable { seq })
    }

    fn start(&mut self, a: usize, disk: Vec<Record>) -> Result<(), String> {
        let config = config(self.model);
        let abstention = config.times.abstention();
        let node = &mut *self.state.acceptors[a];
        node.boot += 1;
        node.machine = Acceptor::new(acceptor_id(a), node.boot, config);
        node.unsynced.clear();
        node.told = false;
        node.seq = 0;
        node.abstains_until = node.now + abstention;
        node.disk = disk;
        let records = node.disk.clone();
        self.tell_acceptor(a, AcceptorInput::Start { records, kept: false })
    }

    fn tell_proposer(&mut self, p: usize, input: ProposerInput) -> Result<(), String> {
        let node = &mut *self.state.proposers[p];
        for effect in feed(&mut node.machine, node.now, input)? {
            match effect {
                ProposerEffect::Ask { to, request } => {
                    let Some(word) = Word::of_ask(request.ask) else { continue };
                    self.send(acceptor_of(to), p as u8, word);
                }
                ProposerEffect::Granted { token, .. } => {
                    self.tell(|| {
                        format!("proposer {p} holds the lease, with token {}", token.round)
                    });
                    let before = self.state.granted;
                    if token.round <= before {
                        return Err(format!(
                            "proposer {p} is granted token {}, and token {before} was granted before",
                            token.round
                        ));
                    }
                    self.state.granted = token.round;
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
                for (node, fast) in self.state.acceptors.iter_mut().zip(self.model.fast_acceptors) {
                    node.now = node.now + Lease::step(fast);
                }
                for (node, fast) in self.state.proposers.iter_mut().zip(self.model.fast_proposers) {
                    node.now = node.now + Lease::step(fast);
                }
                Ok(())
            }
            Action::Try { proposer, round } => {
                let p = usize::from(proposer);
                let stands = Peeked { round: round - 1, holder: None, runs_for: Duration::ZERO };
                let mut prepared = None;
                // Where it sees a new round it looks once more.
                for _ in 0..2 {
                    self.timer(p, ProposerTimer::Step)?;
                    for a in 0..2 {
                        let answered = Answered::Peeked(stands);
                        let answer = Answer { epoch: EPOCH, name: NAME.clone(), answered };
                        let from = acceptor_id(a);
                        self.tell_proposer(p, ProposerInput::Answer { from, answer })?;
                    }
                    prepared = self.state.proposers[p].machine.prepared(&NAME);
                    if prepared.is_some() {
                        break;
                    }
                }
                assert_eq!(prepared.map(|ballot| ballot.round), Some(round));
                Ok(())
            }
            Action::Abandon(p) | Action::Renew(p) => {
                self.timer(usize::from(p), ProposerTimer::Step)
            }
            Action::Resend(p) => self.timer(usize::from(p), ProposerTimer::Resend),
            Action::End(p) => self.timer(usize::from(p), ProposerTimer::End),
            Action::Deliver(m) => self.deliver(usize::from(m)),
            Action::Hear(messages) => self.hear(messages),
            Action::Expire(a) => {
                let timer = AcceptorTimer::Expiry(NAME.clone());
                self.tell_acceptor(usize::from(a), AcceptorInput::Timer(timer))
            }
            Action::Learn(a) => {
                self.tell_acceptor(usize::from(a), AcceptorInput::Timer(AcceptorTimer::Abstained))
            }
            Action::Sync(a) => self.sync(usize::from(a)),
            Action::Restart(a) => {
                let a = usize::from(a);
                self.state.left.restarts -= 1;
                let disk = self.state.acceptors[a].disk.clone();
                self.start(a, disk)
            }
            Action::Lose(a) => {
                self.state.left.losses -= 1;
                self.start(usize::from(a), Vec::new())
            }
            Action::Die(p) => {
                self.state.left.deaths -= 1;
                let config = config(self.model);
                let node = &mut *self.state.proposers[usize::from(p)];
                node.boot += 1;
                let id = ProposerId { peer: proposer_id(usize::from(p)), boot: node.boot };
                node.machine = Proposer::new(id, config);
                self.tell_proposer(usize::from(p), ProposerInput::Want(NAME.clone()))
            }
            Action::Leave(p) => {
                let p = usize::from(p);
                self.state.left.leaves -= 1;
                self.tell_proposer(p, ProposerInput::Leave(NAME.clone()))?;
                self.tell_proposer(p, ProposerInput::Want(NAME.clone()))
            }
        }
    }

    /// A message arrives at an acceptor.
    fn deliver(&mut self, m: usize) -> Result<(), String> {
        let message = self.state.messages[m];
        let (a, p) = (usize::from(message.acceptor), usize::from(message.proposer));
        let ask = message.word.to_ask(message.proposer);
        self.tell(|| format!("proposer {p} asks acceptor {a}: {}", asked(ask)));
        if matches!(ask, Ask::Release(_)) {
            self.state.messages.remove(m);
        }
        let before = self.state.acceptors[a].clone();
        let live = before.machine.live(&NAME, before.now);
        let request = Request { epoch: EPOCH, name: NAME.clone(), ask };
        self.tell_acceptor(
            a,
            AcceptorInput::Request { from: proposer_id(p), account: proposer_id(p), request },
        )?;
        match ask {
            Ask::Propose(ballot, _) if live == Some(ballot) => {
                let promised = self.state.acceptors[a].machine.promised(&NAME);
                match promised {
                    Some((round, whose))
                        if round > ballot.round && whose != Some(ballot.proposer) =>
                    {
                        Err(format!(
                            "acceptor {a} has promised round {round} to another, and refuses the lease of round \
                             {} that lives",
                            ballot.round
                        ))
                    }
                    _ => Ok(()),
                }
            }
            Ask::Prepare(_) if live.is_some() && !self.model.parks => {
                // It may be parked: then it is as if it were still under way, where it is.
                let promised = |node: &AcceptorNode| node.machine.promised(&NAME);
                if promised(&before) == promised(&self.state.acceptors[a]) {
                    self.state.acceptors[a] = before;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A proposer hears two answers. If they come to nothing they come later.
    fn hear(&mut self, messages: [u8; 2]) -> Result<(), String> {
        let [first, second] = messages.map(|m| self.state.messages[usize::from(m)]);
        let p = usize::from(first.proposer);
        let before = self.state.proposers[p].clone();
        for message in [first, second] {
            let answered = message.word.to_answer(message.proposer);
            let a = usize::from(message.acceptor);
            self.tell(|| format!("proposer {p} hears acceptor {a}: {}", shown(&answered)));
            let answer = Answer { epoch: EPOCH, name: NAME.clone(), answered };
            self.tell_proposer(p, ProposerInput::Answer { from: acceptor_id(a), answer })?;
        }
        if before.print() == self.state.proposers[p].print() {
            self.state.proposers[p] = before;
        }
        Ok(())
    }

    /// Looks whether the rules hold, and takes away what cannot matter any more.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        if let (Some(first), Some(second)) = (self.state.holds(0), self.state.holds(1)) {
            return Err(format!(
                "two hold the lease: proposer 0 with token {first}, proposer 1 with token {second}"
            ));
        }
        let State { acceptors, proposers, messages, .. } = &mut *self.state;
        let machine = |p: u8| &proposers[usize::from(p)].machine;
        let prepared = [0, 1].map(|p| machine(p).prepared(&NAME).map(round_of));
        let proposed =
            [0, 1].map(|p| machine(p).proposal(&NAME).map(|(of, n)| (round_of(of), short(n))));
        let is_answered = |all: &[Message], message: Message, word| {
            all.binary_search(&Message { word, ..message }).is_ok()
        };
        let mut m = 0;
        while let Some(message) = messages.get(m).copied() {
            let p = usize::from(message.proposer);
            let matters = match message.word {
                Word::Prepare(of) => {
                    prepared[p] == Some(of) && !is_answered(messages, message, Word::Promise(of))
                }
                Word::Propose(of, number) => {
                    proposed[p] == Some((of, number))
                        && !is_answered(messages, message, Word::Accepted(of, number))
                }
                Word::Release(of) => {
                    let node = &acceptors[usize::from(message.acceptor)];
                    let live = node.machine.live(&NAME, node.now);
                    live == Some(ballot_of(message.proposer, of))
                }
                Word::Promise(of) => prepared[p] == Some(of),
                Word::Accepted(of, number) => proposed[p].is_some_and(|(ballot, last)| {
                    ballot == of && (number == last || counts_any_renewal())
                }),
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
