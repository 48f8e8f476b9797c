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
    /// As an acceptor of this epoch.
    Acceptor(usize, u64, AcceptorInput),
    Proposer(usize, ProposerInput),
    /// As an acceptor of this epoch, in this life of the node.
    Durable(usize, u64, u64, u64),
}

/// A node that is an acceptor in one or several epochs.
struct AcceptorNode {
    /// By epoch.
    benches: BTreeMap<u64, Bench<Acceptor>>,
    /// The latest epoch that it was told of.
    knows: u64,
    rate_permille: u64,
    boot: u64,
    up: bool,
    disk: Vec<(u64, Record)>,
    unsynced: Vec<(u64, u64, Record)>,
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
    pub(super) epoch: u64,
    pub(super) round: u64,
    pub(super) at: u64,
}

pub(super) struct Cluster {
    /// True time in nanoseconds.
    pub(super) now: u64,
    pub(super) net: Net,
    pub(super) grants: Vec<Grant>,
    /// From epoch 7 on.
    configs: Vec<Arc<LeaseConfig>>,
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
        let mut cluster = Cluster {
            now: 0,
            net: Net::GOOD,
            grants: Vec::new(),
            acceptors: Vec::new(),
            proposers: Vec::new(),
            configs: vec![config(acceptors)],
            queue: BTreeMap::new(),
            events: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        };
        for _ in 0..acceptors {
            cluster.add_node();
        }
        for a in 0..acceptors {
            cluster.tell_acceptor(a, 7);
        }
        for p in 0..proposers {
            let id = ProposerId { peer: proposer_id(p), boot: 1 };
            let config = Arc::clone(&cluster.configs[0]);
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

    /// A node with an empty disk, which is no acceptor yet.
    fn add_node(&mut self) {
        self.acceptors.push(AcceptorNode {
            benches: BTreeMap::new(),
            knows: 0,
            rate_permille: 1000,
            boot: 1,
            up: true,
            disk: Vec::new(),
            unsynced: Vec::new(),
        });
    }

    /// Names other acceptors, by their nodes. Nobody knows of it yet. The epoch.
    pub(super) fn change(&mut self, acceptors: &[usize], abandon: bool) -> u64 {
        let last = self.configs.last().expect("there is one");
        let epoch = last.acceptors.epoch() + 1;
        let set = AcceptorSet::new(epoch, acceptors.iter().map(|a| acceptor_id(*a)).collect());
        let mut formers = last.formers.clone();
        formers.push(FormerSet { acceptors: last.acceptors.clone(), abandoned: false });
        for former in &mut formers {
            former.abandoned |= abandon;
        }
        let config = LeaseConfig::new(set.unwrap(), last.times, &Limits::default()).after(formers);
        self.configs.push(Arc::new(config));
        while self.acceptors.len() <= *acceptors.iter().max().unwrap() {
            self.add_node();
        }
        epoch
    }

    fn config(&self, epoch: u64) -> Arc<LeaseConfig> {
        Arc::clone(&self.configs[epoch as usize - 7])
    }

    /// A node that may be an acceptor is told of a configuration, as its mesh would be.
    pub(super) fn tell_acceptor(&mut self, a: usize, epoch: u64) {
        if self.acceptors[a].knows >= epoch || !self.acceptors[a].up {
            return;
        }
        self.acceptors[a].knows = epoch;
        let config = self.config(epoch);
        for of in 7..epoch {
            self.open(a, self.config(of));
            self.acceptor(a, of, AcceptorInput::Supersede(epoch));
        }
        self.open(a, config);
    }

    fn open(&mut self, a: usize, config: Arc<LeaseConfig>) {
        let epoch = config.acceptors.epoch();
        let node = &mut self.acceptors[a];
        if config.acceptors.place(acceptor_id(a)).is_none() || node.benches.contains_key(&epoch) {
            return;
        }
        let of = |epoch: u64| node.disk.iter().filter(move |(of, _)| *of == epoch).map(|(_, r)| r);
        let mut records: Vec<Record> = of(epoch).cloned().collect();
        let kept = config
            .keeps(acceptor_id(a), |epoch| of(epoch).any(|record| *record == Record::Complete));
        let seals = node.disk.iter().filter_map(|(_, record)| match record {
            Record::Sealed(by) => Some(*by),
            _ => None,
        });
        records.extend(seals.max().filter(|by| *by > epoch).map(Record::Sealed));
        node.benches.insert(epoch, Bench::new(Acceptor::new(acceptor_id(a), node.boot, config)));
        self.acceptor(a, epoch, AcceptorInput::Start { records, kept });
    }

    pub(super) fn tell_proposer(&mut self, p: usize, epoch: u64) {
        let config = self.config(epoch);
        self.proposer(p, ProposerInput::Configure(config));
    }

    /// Whether an acceptor takes part in an epoch.
    pub(super) fn is_ready(&self, a: usize, epoch: u64) -> bool {
        let node = &self.acceptors[a];
        let now = local(self.now, node.rate_permille);
        node.benches.get(&epoch).is_some_and(|bench| bench.machine.is_ready(now))
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

    fn hand_to_acceptor(&mut self, to: PeerId, epoch: u64, input: AcceptorInput) {
        let to = usize::from(to.as_bytes()[0]);
        self.send(|| Event::Acceptor(to, epoch, input.clone()));
    }

    fn acceptor(&mut self, a: usize, epoch: u64, input: AcceptorInput) {
        let node = &mut self.acceptors[a];
        let now = local(self.now, node.rate_permille);
        let Some(bench) = node.benches.get_mut(&epoch) else { return };
        bench.now = now;
        let from = acceptor_id(a);
        for effect in bench.feed((), input) {
            match effect {
                AcceptorEffect::Answer { to, answer } => {
                    let p = usize::from(to.as_bytes()[0] - 100);
                    self.send(|| {
                        let answer = answer.clone();
                        Event::Proposer(p, ProposerInput::Answer { from, answer })
                    });
                }
                AcceptorEffect::Learn { to, learn } => {
                    self.hand_to_acceptor(to, learn.epoch, AcceptorInput::Learn { from, learn });
                }
                AcceptorEffect::Learned { to, learned } => {
                    self.hand_to_acceptor(
                        to,
                        learned.epoch,
                        AcceptorInput::Learned { from, learned },
                    );
                }
                AcceptorEffect::Seal { to, seal } => {
                    self.hand_to_acceptor(to, seal.of, AcceptorInput::Seal { from, seal });
                }
                AcceptorEffect::Sealed { to, sealed } => {
                    let input = AcceptorInput::Sealed { from, sealed };
                    self.hand_to_acceptor(to, sealed.seal.by, input);
                }
                AcceptorEffect::Persist { seq, record } => {
                    let node = &mut self.acceptors[a];
                    node.unsynced.push((epoch, seq, record));
                    // A sync takes a millisecond.
                    self.events += 1;
                    let durable = Event::Durable(a, epoch, node.boot, seq);
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
                        Event::Acceptor(
                            a,
                            request.epoch,
                            AcceptorInput::Request { from, account: from, request },
                        )
                    });
                }
                ProposerEffect::Granted { token, .. } => {
                    let Token { epoch, round } = token;
                    let last = self.grants.last().map(|grant| (grant.epoch, grant.round));
                    assert!(Some((epoch, round)) > last, "token {token} after {last:?}");
                    let grant = Grant { proposer: p, epoch, round, at: self.now };
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
        let config = self.configs.last().expect("there is one");
        node.bench = Bench::new(Proposer::new(id, Arc::clone(config)));
        self.want(p);
    }

    pub(super) fn pause(&mut self, p: usize, nanos: u64) {
        self.proposers[p].paused_until = self.now + nanos;
    }

    pub(super) fn stop_acceptor(&mut self, a: usize) {
        self.acceptors[a].up = false;
    }

    /// An acceptor begins another life. What was not synced is lost, or the whole disk is. It knows the configurations
    /// that it knew.
    pub(super) fn restart_acceptor(&mut self, a: usize, with_disk: bool) {
        let node = &mut self.acceptors[a];
        node.up = true;
        node.boot += 1;
        node.unsynced.clear();
        node.benches.clear();
        if !with_disk {
            node.disk.clear();
        }
        let knows = std::mem::take(&mut node.knows);
        if knows > 0 {
            self.tell_acceptor(a, knows);
        }
    }

    /// An acceptor begins another life without its disk, and with the first descriptor.
    pub(super) fn forget(&mut self, a: usize) {
        self.acceptors[a].knows = 7;
        self.restart_acceptor(a, false);
    }

    pub(super) fn is_learning(&self) -> bool {
        let mut benches = self.acceptors.iter().flat_map(|node| node.benches.values());
        benches.any(|bench| bench.machine.is_learning())
    }

    /// The next timer of a node in true time.
    fn next_timer(&self) -> Option<(u64, u64, usize)> {
        // An acceptor by its epoch, or a proposer.
        let mut next: Option<(u64, u64, usize)> = None;
        let mut consider = |at: MonoTime, rate: u64, least: u64, acceptor, n| {
            let at = (at.as_nanos() * 1000).div_ceil(rate).max(self.now).max(least);
            if next.is_none_or(|(earliest, ..)| at < earliest) {
                next = Some((at, acceptor, n));
            }
        };
        for (a, node) in self.acceptors.iter().enumerate().filter(|(_, node)| node.up) {
            for (epoch, bench) in &node.benches {
                if let Some(wait) = bench.next_timer_in() {
                    consider(bench.now + wait, node.rate_permille, 0, *epoch, a);
                }
            }
        }
        for (p, node) in self.proposers.iter().enumerate().filter(|(_, node)| node.up) {
            if let Some(wait) = node.bench.next_timer_in() {
                let at = node.bench.now + wait;
                consider(at, node.rate_permille, node.paused_until, 0, p);
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
            } else if let Some((_, epoch @ 7.., a)) = timer {
                let node = &mut self.acceptors[a];
                let now = local(at, node.rate_permille);
                let bench = node.benches.get_mut(&epoch).expect("it was just seen");
                bench.now = now;
                let timer = bench.next_timer().expect("it was just seen");
                self.acceptor(a, epoch, AcceptorInput::Timer(timer));
            } else if let Some((.., p)) = timer {
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
            Event::Acceptor(a, epoch, input) if self.acceptors[a].up => {
                self.acceptor(a, epoch, input);
            }
            Event::Proposer(p, input) if self.proposers[p].paused_until > self.now => {
                let later = (self.proposers[p].paused_until, self.events + 1);
                self.events += 1;
                self.queue.insert(later, Event::Proposer(p, input));
            }
            Event::Proposer(p, input) if self.proposers[p].up => self.proposer(p, input),
            Event::Durable(a, epoch, boot, seq) if self.acceptors[a].boot == boot => {
                let node = &mut self.acceptors[a];
                let is_in = |of: &u64, number: &u64| *of == epoch && *number <= seq;
                let synced = node.unsynced.extract_if(.., |(of, number, _)| is_in(of, number));
                for (of, _, record) in synced {
                    let kind = std::mem::discriminant(&record);
                    node.disk.retain(|(epoch, kept)| {
                        *epoch != of || std::mem::discriminant(kept) != kind
                    });
                    node.disk.push((of, record));
                }
                if node.up {
                    self.acceptor(a, epoch, AcceptorInput::Durable { seq });
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
