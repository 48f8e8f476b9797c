//! A cluster in virtual time: acceptors with disks, proposers, clocks that drift, and a network that loses, delays
//! and repeats. After every step: at most one holds, and tokens grow.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::base::MonoTime;
use crate::machine::tests::Bench;

/// What the network does, in nanoseconds and thousandths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Net {
    pub(super) delay: (u64, u64),
    pub(super) loss_permille: u64,
    pub(super) twice_permille: u64,
}

impl Net {
    /// Round trips of 5 ms, and nothing goes wrong.
    pub(super) const GOOD: Net =
        Net { delay: (2_500_000, 2_500_000), loss_permille: 0, twice_permille: 0 };
}

enum Event {
    Acceptor(usize, AcceptorInput),
    Proposer(usize, ProposerInput),
    /// In this life of the acceptor.
    Durable(usize, u64, u64),
}

struct AcceptorNode {
    bench: Bench<Acceptor>,
    rate_permille: u64,
    boot: u64,
    up: bool,
    disk: Vec<Record>,
    unsynced: Vec<(u64, Record)>,
}

struct ProposerNode {
    bench: Bench<Proposer>,
    rate_permille: u64,
    boot: u64,
    /// Until when it does nothing, though its clock goes on.
    paused_until: u64,
    up: bool,
}

/// A grant: who, which token, and when in true time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) proposer: usize,
    pub(super) round: u64,
    pub(super) at: u64,
}

pub(super) struct Cluster {
    /// True time in nanoseconds.
    pub(super) now: u64,
    pub(super) net: Net,
    pub(super) grants: Vec<Grant>,
    config: Arc<LeaseConfig>,
    acceptors: Vec<AcceptorNode>,
    proposers: Vec<ProposerNode>,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    random: u64,
}

pub(super) const MS: u64 = 1_000_000;

impl Cluster {
    /// Founded, and every acceptor has learned that nothing is promised.
    pub(super) fn new(acceptors: usize, proposers: usize, seed: u64) -> Cluster {
        let config = config(acceptors);
        let mut cluster = Cluster {
            now: 0,
            net: Net::GOOD,
            grants: Vec::new(),
            acceptors: Vec::new(),
            proposers: Vec::new(),
            config,
            queue: BTreeMap::new(),
            events: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        };
        for a in 0..acceptors {
            let config = Arc::clone(&cluster.config);
            cluster.acceptors.push(AcceptorNode {
                bench: Bench::new(Acceptor::new(acceptor_id(a), 1, config)),
                rate_permille: 1000,
                boot: 1,
                up: true,
                disk: Vec::new(),
                unsynced: Vec::new(),
            });
        }
        for a in 0..acceptors {
            cluster.acceptor(a, AcceptorInput::Start { records: Vec::new() });
        }
        for p in 0..proposers {
            let id = ProposerId { peer: proposer_id(p), boot: 1 };
            let config = Arc::clone(&cluster.config);
            cluster.proposers.push(ProposerNode {
                bench: Bench::new(Proposer::new(id, config)),
                rate_permille: 1000,
                boot: 1,
                paused_until: 0,
                up: true,
            });
        }
        cluster
    }

    pub(super) fn draw(&mut self, below: u64) -> u64 {
        // xorshift (Marsaglia, 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    /// Clocks that run so many thousandths too fast or too slow.
    pub(super) fn drift(&mut self, permille: u64) {
        for a in 0..self.acceptors.len() {
            self.acceptors[a].rate_permille = 1000 - permille + self.draw(2 * permille + 1);
        }
        for p in 0..self.proposers.len() {
            self.proposers[p].rate_permille = 1000 - permille + self.draw(2 * permille + 1);
        }
    }

    fn send(&mut self, mut event: impl FnMut() -> Event) {
        let copies = 1 + u64::from(self.draw(1000) < self.net.twice_permille);
        for _ in 0..copies {
            if self.draw(1000) >= self.net.loss_permille {
                let (least, most) = self.net.delay;
                let at = self.now + least + self.draw(most - least + 1);
                self.events += 1;
                self.queue.insert((at, self.events), event());
            }
        }
    }

    fn acceptor(&mut self, a: usize, input: AcceptorInput) {
        let node = &mut self.acceptors[a];
        node.bench.now = local(self.now, node.rate_permille);
        for effect in node.bench.feed((), input) {
            match effect {
                AcceptorEffect::Answer { to, answer } => {
                    let p = usize::from(to.as_bytes()[0] - 100);
                    let from = acceptor_id(a);
                    self.send(|| {
                        let answer = answer.clone();
                        Event::Proposer(p, ProposerInput::Answer { from, answer })
                    });
                }
                AcceptorEffect::Learn { to, learn } => {
                    let (to, from) = (usize::from(to.as_bytes()[0]), acceptor_id(a));
                    self.send(|| Event::Acceptor(to, AcceptorInput::Learn { from, learn }));
                }
                AcceptorEffect::Learned { to, learned } => {
                    let (to, from) = (usize::from(to.as_bytes()[0]), acceptor_id(a));
                    self.send(|| {
                        let learned = learned.clone();
                        Event::Acceptor(to, AcceptorInput::Learned { from, learned })
                    });
                }
                AcceptorEffect::Persist { seq, record } => {
                    let node = &mut self.acceptors[a];
                    node.unsynced.push((seq, record));
                    // A sync takes a millisecond.
                    self.events += 1;
                    let durable = Event::Durable(a, node.boot, seq);
                    self.queue.insert((self.now + MS, self.events), durable);
                }
                AcceptorEffect::Ready => {}
            }
        }
    }

    fn proposer(&mut self, p: usize, input: ProposerInput) {
        let node = &mut self.proposers[p];
        node.bench.now = local(self.now, node.rate_permille);
        for effect in node.bench.feed((), input) {
            match effect {
                ProposerEffect::Ask { to, request } => {
                    let (a, from) = (usize::from(to.as_bytes()[0]), proposer_id(p));
                    self.send(|| {
                        let request = request.clone();
                        Event::Acceptor(a, AcceptorInput::Request { from, request })
                    });
                }
                ProposerEffect::Granted { token, .. } => {
                    let last = self.grants.last().map_or(0, |grant| grant.round);
                    assert!(token.round > last, "token {} after {last}", token.round);
                    assert_eq!(token.epoch, 7);
                    let grant = Grant { proposer: p, round: token.round, at: self.now };
                    self.grants.push(grant);
                }
                _ => {}
            }
        }
    }

    /// Who holds the lease, if asked at this instant. Never two.
    pub(super) fn holder(&self) -> Option<usize> {
        let holds = |node: &ProposerNode| {
            let now = local(self.now, node.rate_permille);
            node.up && node.bench.machine.token(&name(), now).is_some()
        };
        let mut holders = (0..self.proposers.len()).filter(|p| holds(&self.proposers[*p]));
        let holder = holders.next();
        assert_eq!(holders.next(), None, "two hold the lease at {}", self.now);
        holder
    }

    pub(super) fn want(&mut self, p: usize) {
        self.proposer(p, ProposerInput::Want(name()));
    }

    pub(super) fn leave(&mut self, p: usize) {
        self.proposer(p, ProposerInput::Leave(name()));
    }

    /// A proposer's process ends.
    pub(super) fn kill(&mut self, p: usize) {
        self.proposers[p].up = false;
    }

    /// A proposer's process begins again.
    pub(super) fn restart(&mut self, p: usize) {
        let node = &mut self.proposers[p];
        node.boot += 1;
        node.up = true;
        let id = ProposerId { peer: proposer_id(p), boot: node.boot };
        node.bench = Bench::new(Proposer::new(id, Arc::clone(&self.config)));
        self.want(p);
    }

    pub(super) fn pause(&mut self, p: usize, nanos: u64) {
        self.proposers[p].paused_until = self.now + nanos;
    }

    pub(super) fn stop_acceptor(&mut self, a: usize) {
        self.acceptors[a].up = false;
    }

    /// An acceptor begins another life. What was not synced is lost, or the whole disk is.
    pub(super) fn restart_acceptor(&mut self, a: usize, with_disk: bool) {
        let config = Arc::clone(&self.config);
        let node = &mut self.acceptors[a];
        node.up = true;
        node.boot += 1;
        node.unsynced.clear();
        if !with_disk {
            node.disk.clear();
        }
        node.bench = Bench::new(Acceptor::new(acceptor_id(a), node.boot, config));
        let records = node.disk.clone();
        self.acceptor(a, AcceptorInput::Start { records });
    }

    pub(super) fn is_learning(&self) -> bool {
        self.acceptors.iter().any(|node| node.bench.machine.is_learning())
    }

    /// The next timer of a node in true time.
    fn next_timer(&self) -> Option<(u64, bool, usize)> {
        let mut next: Option<(u64, bool, usize)> = None;
        let mut consider = |at: MonoTime, rate: u64, least: u64, acceptor, n| {
            let at = (at.as_nanos() * 1000).div_ceil(rate).max(self.now).max(least);
            if next.is_none_or(|(earliest, ..)| at < earliest) {
                next = Some((at, acceptor, n));
            }
        };
        for (a, node) in self.acceptors.iter().enumerate().filter(|(_, node)| node.up) {
            if let Some(wait) = node.bench.next_timer_in() {
                consider(node.bench.now + wait, node.rate_permille, 0, true, a);
            }
        }
        for (p, node) in self.proposers.iter().enumerate().filter(|(_, node)| node.up) {
            if let Some(wait) = node.bench.next_timer_in() {
                let at = node.bench.now + wait;
                consider(at, node.rate_permille, node.paused_until, false, p);
            }
        }
        next
    }

    /// Lets true time pass until then.
    pub(super) fn run_until(&mut self, until: u64) {
        loop {
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timer = self.next_timer();
            let at = event.into_iter().chain(timer.map(|timer| timer.0)).min();
            let Some(at) = at.filter(|at| *at <= until) else { break };
            self.now = at;
            if event == Some(at) {
                let (_, event) = self.queue.pop_first().expect("it was just seen");
                self.happen(event);
            } else if let Some((_, true, a)) = timer {
                let node = &mut self.acceptors[a];
                node.bench.now = local(at, node.rate_permille);
                let timer = node.bench.next_timer().expect("it was just seen");
                self.acceptor(a, AcceptorInput::Timer(timer));
            } else if let Some((_, false, p)) = timer {
                let node = &mut self.proposers[p];
                node.bench.now = local(at, node.rate_permille);
                let timer = node.bench.next_timer().expect("it was just seen");
                self.proposer(p, ProposerInput::Timer(timer));
            }
            self.holder();
        }
        self.now = until;
        self.holder();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Acceptor(a, input) if self.acceptors[a].up => self.acceptor(a, input),
            Event::Proposer(p, input) if self.proposers[p].paused_until > self.now => {
                let later = (self.proposers[p].paused_until, self.events + 1);
                self.events += 1;
                self.queue.insert(later, Event::Proposer(p, input));
            }
            Event::Proposer(p, input) if self.proposers[p].up => self.proposer(p, input),
            Event::Durable(a, boot, seq) if self.acceptors[a].boot == boot => {
                let node = &mut self.acceptors[a];
                let synced = node.unsynced.iter().take_while(|(of, _)| *of <= seq).count();
                for (_, record) in node.unsynced.drain(..synced) {
                    let kind = std::mem::discriminant(&record);
                    node.disk.retain(|kept| std::mem::discriminant(kept) != kind);
                    node.disk.push(record);
                }
                if node.up {
                    self.acceptor(a, AcceptorInput::Durable { seq });
                }
            }
            _ => {}
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time.as_nanos() as u64;
        self.run_until(until);
    }
}

/// What a clock shows at a true time.
fn local(now: u64, rate_permille: u64) -> MonoTime {
    MonoTime::from_nanos(now * rate_permille / 1000)
}
