//! What peers offer, by the paths that can be called, and which of them is asked.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use semver::{Version, VersionReq};

use crate::base::slab::make_room;
use crate::base::{Draws, FewMap, Key, KeyMap, Label, MonoTime, PeerId, PeerKey, PeerTag, Slab};
use crate::directory::action_breakers::{ActionBreakers, End, Met};
use crate::directory::breaker::{Breaker, BreakerState, JITTER_PERCENT};
use crate::directory::document::{Document, Entry, EntryKey, OfferState, ServiceOffer, Spread};
use crate::directory::load::{Load, Over, Word};
use crate::directory::selection::{Selection, Wish, affinity, first_is_less_loaded};
use crate::directory::usual::Usual;
use crate::planted::is_planted;
use crate::rpc::budget::{self, Budget};
use crate::topic::{Pattern, PatternIndex, SubscriptionKey, TopicPath};

/// So many draws may hit an instance that will not do, before those that will are looked for.
const DRAWS_MAX: usize = 8;

/// Services that nobody offers any more and that are remembered: one that comes back has the retry budget that it
/// had. A guess.
const IDLE_MAX: usize = 64;

/// One instance of what a pattern stands for.
#[derive(Clone, Debug)]
struct Instance {
    peer: PeerKey,
    entry: EntryKey,
    id: PeerId,
    service: Arc<ServiceOffer>,
}

/// Everyone who offers one pattern, by their keys.
#[derive(Clone, Debug)]
struct Offer {
    pattern: Pattern,
    group: GroupKey,
    instances: Vec<Instance>,
    /// How long its calls take.
    usual: Usual,
}

/// One service, wherever it runs.
#[derive(Clone, Debug)]
struct Group {
    path: TopicPath,
    /// How many offers belong to it.
    offers: usize,
    /// Who was asked last, in turn.
    last: Option<PeerKey>,
    loads: BTreeMap<PeerKey, Load>,
    loads_made: u32,
    /// When the last call to any instance began that was answered in time.
    timely: Option<MonoTime>,
    /// How many calls may be made again; from the first call on.
    budget: Option<Box<Account>>,
}

/// A budget, and what was done with it.
#[derive(Clone, Debug)]
struct Account {
    budget: Budget,
    since: MonoTime,
    calls: u64,
    retries: u64,
}

type GroupKey = Key<Group>;

/// A call's place at an instance: give it back with [`RemoteServices::end`].
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    group: GroupKey,
    offer: SubscriptionKey,
    peer: PeerKey,
    /// Which instance of the peer: see [`Load::number`].
    load: u32,
    /// See [`Load::epoch`].
    epoch: u32,
    since: MonoTime,
    patience: Option<Duration>,
    is_probe: bool,
    /// The breaker of this action there; none if nothing was held against it.
    met: Option<Met>,
}

impl Seat {
    /// Whose place it is.
    pub fn peer(&self) -> PeerKey {
        self.peer
    }

    /// Whether this call shows whether an instance is well again.
    pub fn is_probe(&self) -> bool {
        self.is_probe || self.met.is_some_and(|met| met.is_probe)
    }
}

/// Why nobody serves a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// Nobody who can be reached offers it.
    Offers,
    /// The instances that do are not well enough for a second attempt: see [`crate::directory::breaker`].
    IsWell,
}

/// What an instance is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A call, or its next attempt.
    Call,
    /// A second attempt of a call that has waited for so long: only for an instance that is well.
    Hedge(Duration),
}

/// Who will do, when it comes to what is held against instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Will {
    Do(Purpose),
    /// No healthy instance is left. One that is only silent is asked: it may be no more than slow.
    AtWorst,
    /// Every instance left fails. To refuse a call is no better than to let it fail.
    Anyway,
}

/// Who serves a call.
#[derive(Clone, Copy, Debug)]
pub enum Chosen {
    /// This node itself.
    Here,
    /// A peer.
    Peer(PeerKey, Seat),
}

/// The documents of all peers that are known, and who offers what in them.
#[derive(Clone, Default)]
pub struct RemoteServices {
    documents: KeyMap<PeerTag, Document>,
    offers: PatternIndex<Offer>,
    by_pattern: FewMap<Pattern, SubscriptionKey>,
    groups: Slab<Group>,
    by_path: FewMap<TopicPath, GroupKey>,
    /// Each belongs to an instance of an offer.
    action_breakers: ActionBreakers,
    /// Groups that lost their last offer, the oldest first. They may have others by now.
    idle: VecDeque<GroupKey>,
}

/// Whether an offer is found by its paths. Who stands by is not asked, but that it is there is known.
fn is_listed(state: OfferState) -> bool {
    matches!(state, OfferState::Running | OfferState::Standby)
}

fn will_do(version: &Version, wanted: Option<&VersionReq>) -> bool {
    is_planted(66) || wanted.is_none_or(|wanted| wanted.matches(version))
}

impl RemoteServices {
    /// Knows of no peer. Peers choose paths, so that the key of its tables is to be drawn.
    pub fn keyed(seed: u64) -> Self {
        RemoteServices { offers: PatternIndex::with_hash_seed(seed), ..RemoteServices::default() }
    }

    /// Takes what changed in a peer's document.
    pub fn update(
        &mut self,
        peer: PeerKey,
        id: PeerId,
        version: u64,
        changes: Vec<(EntryKey, Option<Entry>)>,
    ) {
        if self.documents.get(peer).is_none() {
            self.documents.insert(peer, Document::default());
        }
        let document = self.documents.get_mut(peer).expect("just inserted");
        (document.version, document.incremental) = (version, true);
        for (key, entry) in changes {
            let document = self.documents.get_mut(peer).expect("just inserted");
            let before = match &entry {
                Some(entry) => document.entries.insert(key, entry.clone()),
                None => document.entries.remove(&key),
            };
            if let (Some(Entry::Service(before)), Some(Entry::Service(now))) = (&before, &entry)
                && before.state == OfferState::Running
                && now.state == OfferState::Running
                && (&before.path, &before.actions) == (&now.path, &now.actions)
            {
                // The same instance, of which something else is said: what it was like counts on.
                self.describe(peer, key, now);
                continue;
            }
            if let Some(Entry::Service(service)) = before
                && is_listed(service.state)
            {
                for action in &service.actions {
                    self.withdraw(peer, key, action);
                }
            }
            if let Some(Entry::Service(service)) = entry
                && is_listed(service.state)
            {
                for action in &service.actions {
                    self.offer(peer, id, key, action, &service);
                }
            }
        }
    }

    /// The peer's session is over: it offers nothing.
    pub fn forget(&mut self, peer: PeerKey) {
        let Some(document) = self.documents.remove(peer) else { return };
        for (key, entry) in document.entries {
            if let Entry::Service(service) = entry
                && is_listed(service.state)
            {
                for action in &service.actions {
                    self.withdraw(peer, key, action);
                }
            }
        }
    }

    /// Takes a peer's document anew: what counts of it follows the rights of both. Says whether anything is
    /// different.
    pub fn replace(&mut self, peer: PeerKey, id: PeerId, document: Document) -> bool {
        let Some(known) = self.documents.get(peer) else { return false };
        let gone = known.entries.keys().filter(|key| !document.entries.contains_key(key));
        let mut changes: Vec<_> = gone.map(|key| (*key, None)).collect();
        for (key, entry) in document.entries {
            if known.entries.get(&key) != Some(&entry) {
                changes.push((key, Some(entry)));
            }
        }
        let changed = !changes.is_empty();
        if changed {
            self.update(peer, id, document.version, changes);
        }
        changed
    }

    /// What a peer offers.
    pub fn document(&self, peer: PeerKey) -> Option<&Document> {
        self.documents.get(peer)
    }

    /// All who offer something that matches this path and can be reached, each once, in the order of their ids.
    pub fn instances(&self, path: &TopicPath, usable: impl Fn(PeerKey) -> bool) -> Vec<PeerId> {
        let mut found = Vec::new();
        self.offers.for_each_match(path, |_, offer| {
            let runs = |i: &&Instance| i.service.state == OfferState::Running && usable(i.peer);
            let reached = offer.instances.iter().filter(runs);
            found.extend(reached.map(|instance| instance.id));
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Chooses who serves a call to this path: among those who offer the most specific pattern that
    /// matches it, if one of them will do, then among those of the next one. `here` is this node, if it may
    /// serve the call beside others; `usable` says who can be reached.
    ///
    /// # Errors
    ///
    /// When there is nobody.
    pub fn choose(
        &mut self,
        now: MonoTime,
        draws: &mut Draws,
        path: &TopicPath,
        (wish, purpose): (&Wish, Purpose),
        here: Option<PeerId>,
        usable: impl Fn(PeerKey) -> bool,
    ) -> Result<Chosen, Nobody> {
        let (best, _) = self.offers.best_match(path).ok_or(Nobody::Offers)?;
        let will = Will::Do(purpose);
        if let Some(chosen) = self.choose_of(now, draws, best, (wish, will), here, &usable) {
            return Ok(chosen);
        }
        let mut others = Vec::new();
        self.offers.for_each_match(path, |key, _| others.push(key));
        for offer in others.iter().skip(1) {
            if let Some(chosen) = self.choose_of(now, draws, *offer, (wish, will), here, &usable) {
                return Ok(chosen);
            }
        }
        let wills = [Will::AtWorst, Will::Anyway].into_iter().filter(|_| purpose == Purpose::Call);
        for (will, offer) in wills.flat_map(|will| others.iter().map(move |offer| (will, offer))) {
            if let Some(chosen) = self.choose_of(now, draws, *offer, (wish, will), here, &usable) {
                return Ok(chosen);
            }
        }
        let offers = others.into_iter().filter_map(|key| self.offers.get(key));
        let is_reached = |instance: &Instance| {
            instance.service.state == OfferState::Running
                && will_do(&instance.service.info.version, wish.version.as_ref())
                && usable(instance.peer)
        };
        let mut reached = offers.flat_map(|offer| &offer.instances).filter(|i| is_reached(i));
        Err(if reached.next().is_some() { Nobody::IsWell } else { Nobody::Offers })
    }

    /// Whether somebody stands by who offers this path.
    pub fn has_standby(&self, path: &TopicPath, usable: impl Fn(PeerKey) -> bool) -> bool {
        let mut found = false;
        self.offers.for_each_match(path, |_, offer| {
            let stands_by = |i: &Instance| i.service.state == OfferState::Standby && usable(i.peer);
            found = found || offer.instances.iter().any(stands_by);
        });
        found
    }

    fn choose_of(
        &mut self,
        now: MonoTime,
        draws: &mut Draws,
        key: SubscriptionKey,
        (wish, will): (&Wish, Will),
        here: Option<PeerId>,
        usable: &impl Fn(PeerKey) -> bool,
    ) -> Option<Chosen> {
        let offer = self.offers.get(key)?;
        let instances = &offer.instances;
        let patience = offer.usual.patience();
        let group = self.groups.get_mut(offer.group).expect("offers belong to groups");
        let (loads, timely) = (&group.loads, group.timely);
        // One that was found to be silent.
        let silent = Cell::new(None);
        let action_breakers = &self.action_breakers;
        let is_well = |peer: PeerKey| {
            if will == Will::Anyway {
                return true;
            }
            let held = action_breakers.get((key, peer));
            let admits = held.is_none_or(|breaker| breaker.admits(now));
            let Some(load) = loads.get(&peer).filter(|_| will != Will::AtWorst) else {
                return admits;
            };
            // Planted: silence says nothing.
            if load.is_silent(now, timely, patience) && !is_planted(143) {
                silent.set(Some(peer));
                return false;
            }
            match will {
                Will::Do(Purpose::Hedge(waited)) => {
                    let is_closed = |breaker: &Breaker| breaker.state() == BreakerState::Closed;
                    held.is_none_or(is_closed) && load.would_help(now, waited)
                }
                _ => admits && load.admits(now),
            }
        };
        let good = |index: usize| {
            let instance = &instances[index];
            (instance.service.state == OfferState::Running || is_planted(103))
                && will_do(&instance.service.info.version, wish.version.as_ref())
                && usable(instance.peer)
                && is_well(instance.peer)
        };
        // Of those that say that they are active, the last that was granted the lease is.
        let token = |index: &usize| instances[*index].service.info.token;
        let leader = (0..instances.len()).filter(|index| token(index).is_some() && good(*index));
        let leader = leader.max_by_key(token);
        let spread = instances.first().map_or(Spread::default(), |i| i.service.info.spread);
        let count = instances.len();
        let found = match wish.selection.or(spread) {
            _ if leader.is_some() => leader,
            Selection::ByKey(key) => {
                let all = (0..count).filter(|index| good(*index));
                let wants = |id: &PeerId| (affinity(key, id), *id);
                let index = all.max_by_key(|index| wants(&instances[*index].id));
                let is_here = |index: usize| {
                    here.is_some_and(|here| wants(&here) > wants(&instances[index].id))
                };
                if index.is_some_and(is_here) {
                    return Some(Chosen::Here);
                }
                index
            }
            Selection::Random => draw(draws, count, good, None),
            Selection::LeastLoaded => draw(draws, count, good, None).map(|one| {
                let Some(other) = draw(draws, count, good, Some(one)) else { return one };
                let idle = Load::default();
                let load = |index: usize| loads.get(&instances[index].peer).unwrap_or(&idle);
                if first_is_less_loaded(now, load(one), load(other)) { one } else { other }
            }),
            Selection::RoundRobin | Selection::Default => {
                let after = |last| instances.partition_point(|i| i.peer <= last);
                let first = group.last.map_or(0, after);
                let index = (first..first + count).map(|at| at % count).find(|at| good(*at));
                // A second attempt takes nobody's turn.
                if !is_planted(65) && !matches!(will, Will::Do(Purpose::Hedge(_))) {
                    group.last = index.map(|index| instances[index].peer).or(group.last);
                }
                index
            }
        };
        if let Some(load) = silent.get().and_then(|peer| group.loads.get_mut(&peer)) {
            let mut jitter = || draws.below(Label::Breaker, JITTER_PERCENT + 1);
            load.silent(now, jitter());
            if let Some(peer) = silent.get() {
                self.action_breakers.silent((key, peer), now, jitter);
            }
        }
        let peer = instances[found?].peer;
        let made = &mut group.loads_made;
        let load = group.loads.entry(peer).or_insert_with(|| {
            *made = made.wrapping_add(1);
            Load::numbered(*made)
        });
        if matches!(will, Will::Do(_)) && load.is_silent(now, timely, patience) {
            load.wrong();
        }
        let is_probe = load.begin(now, patience);
        let met = self.action_breakers.begin((key, peer), now);
        Some(Chosen::Peer(
            peer,
            Seat {
                group: offer.group,
                offer: key,
                peer,
                load: load.number(),
                epoch: load.epoch(),
                since: now,
                patience,
                is_probe,
                met,
            },
        ))
    }

    /// A call is over, or this attempt of it, and says this of its instance.
    pub fn end(&mut self, now: MonoTime, draws: &mut Draws, seat: Seat, word: Word) {
        let load = self.groups.get(seat.group).and_then(|group| group.loads.get(&seat.peer));
        let is_its = load.is_some_and(|load| load.number() == seat.load);
        let Seat { since: began, epoch, patience, is_probe, .. } = seat;
        let in_time = patience.is_none_or(|patience| now.since(began) < patience);
        let end = End { met: seat.met, word, in_time, is_same_instance: is_its };
        let place = (seat.offer, seat.peer);
        let jitter = || draws.below(Label::Breaker, JITTER_PERCENT + 1);
        let is_closed = self.action_breakers.end(place, now, end, jitter);
        let group = self.groups.get_mut(seat.group);
        let Some(Group { loads, timely, .. }) = group else { return };
        let Some(load) = loads.get_mut(&seat.peer).filter(|load| load.number() == seat.load) else {
            return;
        };
        let over = Over { began, epoch, patience, is_probe, word };
        let jitter = || draws.below(Label::Breaker, JITTER_PERCENT + 1);
        let (in_time, is_usual) = load.end(now, over, jitter);
        if in_time {
            *timely = (*timely).max(Some(began));
        }
        if is_usual
            && is_closed
            && let Some(offer) = self.offers.get_mut(seat.offer)
        {
            offer.usual.note(now, now.since(began));
        }
    }

    /// The actions of a service that no call goes to at this peer, as they failed too often, in the order of their
    /// patterns.
    pub fn left_alone(&self, service: &TopicPath, peer: PeerKey) -> Vec<Pattern> {
        let open = self.action_breakers.open_at(peer).filter_map(|key| self.offers.get(key));
        let of_service = open.filter(|offer| {
            self.groups.get(offer.group).is_some_and(|group| group.path == *service)
        });
        let mut actions: Vec<Pattern> = of_service.map(|offer| offer.pattern.clone()).collect();
        actions.sort();
        actions
    }

    /// What so many of a thousand calls to the action of this place did not exceed lately, whoever served them; none as long
    /// as too little is known.
    pub fn usual(&self, now: MonoTime, seat: &Seat, per_mille: u64) -> Option<Duration> {
        let usual = self.offers.get(seat.offer)?.usual.quantile(now, per_mille)?;
        // It is right within a sixteenth, and half of what takes as long is on each side.
        Some(usual + usual / 8)
    }

    /// What is known of the instances that calls went to: the service, the peer, and how it does.
    pub fn loads(&self) -> impl Iterator<Item = (&TopicPath, PeerKey, &Load)> {
        let groups = self.groups.iter();
        groups.flat_map(|(_, group)| {
            group.loads.iter().map(|(peer, load)| (&group.path, *peer, load))
        })
    }

    /// A call has been given this place for the first time.
    pub fn count_call(&mut self, now: MonoTime, seat: &Seat) {
        let Some(group) = self.groups.get_mut(seat.group) else { return };
        let account = group.budget.get_or_insert_with(|| Box::new(Account::new(now)));
        account.calls += 1;
        account.budget.call();
    }

    /// Whether a call that had this place may be made again: its service's budget is asked.
    pub fn may_retry(&mut self, now: MonoTime, seat: &Seat) -> bool {
        let Some(group) = self.groups.get_mut(seat.group) else { return false };
        let account = group.budget.get_or_insert_with(|| Box::new(Account::new(now)));
        let may = account.budget.retry(now);
        account.retries += u64::from(may);
        may
    }

    /// Something else is said of an instance.
    fn describe(&mut self, peer: PeerKey, entry: EntryKey, service: &Arc<ServiceOffer>) {
        for pattern in &service.actions {
            let Some(key) = self.by_pattern.get(pattern) else { continue };
            let offer = self.offers.get_mut(*key).expect("indexed by pattern");
            if let Ok(place) =
                offer.instances.binary_search_by_key(&(peer, entry), |i| (i.peer, i.entry))
            {
                offer.instances[place].service = Arc::clone(service);
            }
        }
    }

    fn offer(
        &mut self,
        peer: PeerKey,
        id: PeerId,
        entry: EntryKey,
        pattern: &Pattern,
        service: &Arc<ServiceOffer>,
    ) {
        let key = match self.by_pattern.get(pattern) {
            Some(key) => *key,
            None => {
                let group = self.join_group(&service.path);
                let offer = Offer {
                    pattern: pattern.clone(),
                    group,
                    instances: Vec::new(),
                    usual: Usual::default(),
                };
                let key = self.offers.insert(pattern, offer);
                self.by_pattern.insert(pattern.clone(), key);
                key
            }
        };
        let offer = self.offers.get_mut(key).expect("indexed by pattern");
        let place = offer.instances.binary_search_by_key(&(peer, entry), |i| (i.peer, i.entry));
        // A service may list a pattern twice.
        if let Err(place) = place {
            let service = Arc::clone(service);
            make_room(&mut offer.instances);
            offer.instances.insert(place, Instance { peer, entry, id, service });
        }
    }

    fn withdraw(&mut self, peer: PeerKey, entry: EntryKey, pattern: &Pattern) {
        let Some(key) = self.by_pattern.get(pattern).copied() else { return };
        let offer = self.offers.get_mut(key).expect("indexed by pattern");
        let place = offer.instances.binary_search_by_key(&(peer, entry), |i| (i.peer, i.entry));
        let Ok(place) = place else { return };
        offer.instances.remove(place);
        let group = offer.group;
        let empty = offer.instances.is_empty();
        let left = offer.instances.iter().all(|instance| instance.peer != peer);
        if left {
            self.action_breakers.remove((key, peer));
        }
        if left && let Some(group) = self.groups.get_mut(group) {
            // It may still offer another action; then its load is measured anew.
            group.loads.remove(&peer);
        }
        if empty {
            let offer = self.offers.remove(key).expect("just looked up");
            self.by_pattern.remove(&offer.pattern);
            self.leave_group(group);
        }
    }

    fn join_group(&mut self, path: &TopicPath) -> GroupKey {
        if let Some(key) = self.by_path.get(path) {
            self.groups.get_mut(*key).expect("found by its path").offers += 1;
            return *key;
        }
        let key = self.groups.insert(Group {
            path: path.clone(),
            offers: 1,
            last: None,
            loads: BTreeMap::new(),
            loads_made: 0,
            timely: None,
            budget: None,
        });
        self.by_path.insert(path.clone(), key);
        key
    }

    fn leave_group(&mut self, key: GroupKey) {
        let Some(group) = self.groups.get_mut(key) else { return };
        group.offers -= 1;
        if group.offers > 0 {
            return;
        }
        if group.budget.is_some() {
            self.idle.push_back(key);
        } else {
            self.forget_group(key);
        }
        while self.idle.len() > IDLE_MAX {
            let oldest = self.idle.pop_front().expect("there are too many");
            if self.groups.get(oldest).is_some_and(|group| group.offers == 0) {
                self.forget_group(oldest);
            }
        }
    }

    fn forget_group(&mut self, key: GroupKey) {
        let group = self.groups.remove(key).expect("looked up by the caller");
        self.by_path.remove(&group.path);
    }

    /// Asserts what must hold between inputs. `probes` are the places of calls under way that are probes.
    pub fn check_invariants(&self, now: MonoTime, probes: &[Seat]) {
        for (key, group) in self.groups.iter() {
            for (peer, load) in &group.loads {
                load.check_invariants();
                let Some(breaker) = load.breaker() else { continue };
                let now_its = (key, *peer, load.number(), load.epoch());
                let is_its = |seat: &&Seat| {
                    seat.is_probe && (seat.group, seat.peer, seat.load, seat.epoch) == now_its
                };
                let is_half_open = breaker.state() == BreakerState::HalfOpen;
                let probes = probes.iter().filter(is_its).count();
                assert_eq!(probes, usize::from(is_half_open), "one probe at a time");
            }
            if let Some(account) = &group.budget {
                let most = budget::most(account.calls, now.since(account.since));
                assert!(account.retries <= most + 1, "retries stay within their budget");
            }
        }
        let of_actions = probes.iter().filter_map(|seat| {
            Some(((seat.offer, seat.peer), seat.met.filter(|met| met.is_probe)?))
        });
        let of_actions: Vec<_> = of_actions.collect();
        for (key, peer) in self.action_breakers.check_invariants(&of_actions) {
            let offer = self.offers.get(key).expect("a breaker belongs to an offer");
            assert!(offer.instances.iter().any(|i| i.peer == peer), "and to an instance of it");
        }
        assert_eq!(self.offers.len(), self.by_pattern.len(), "every pattern is indexed once");
        assert_eq!(self.groups.len(), self.by_path.len(), "every group is found by its path");
        let offers: usize = self.groups.iter().map(|(_, group)| group.offers).sum();
        assert_eq!(offers, self.offers.len(), "every offer belongs to a group");
        let mut instances = 0;
        for key in self.by_pattern.values() {
            let offer = self.offers.get(*key).expect("indexed by pattern");
            assert!(!offer.instances.is_empty(), "what nobody offers is forgotten");
            instances += offer.instances.len();
        }
        let mut listed = 0;
        for (_, document) in self.documents.iter() {
            for service in document.services().filter(|s| is_listed(s.state)) {
                listed += distinct(&service.actions);
            }
        }
        assert_eq!(instances, listed, "what is listed can be found, and nothing else");
    }
}

impl Account {
    fn new(now: MonoTime) -> Self {
        Account { budget: Budget::new(now), since: now, calls: 0, retries: 0 }
    }
}

/// How many different patterns there are: a service may list one twice.
fn distinct(patterns: &[Pattern]) -> usize {
    if patterns.len() <= 8 {
        // Without memory of its own: this is asked all the time.
        let indexed = patterns.iter().enumerate();
        return indexed.filter(|(index, p)| !patterns[..*index].contains(p)).count();
    }
    patterns.iter().collect::<std::collections::BTreeSet<_>>().len()
}

/// Any of `count` that is good, but for one, all as likely.
fn draw(
    draws: &mut Draws,
    count: usize,
    good: impl Fn(usize) -> bool,
    but: Option<usize>,
) -> Option<usize> {
    let good = |index: usize| Some(index) != but && good(index);
    if count <= 1 + usize::from(but.is_some()) {
        return (0..count).find(|index| good(*index));
    }
    for _ in 0..DRAWS_MAX {
        let index = draws.below(Label::Selection, count as u64) as usize;
        if good(index) {
            return Some(index);
        }
    }
    let left: Vec<usize> = (0..count).filter(|index| good(*index)).collect();
    let index = draws.below(Label::Selection, left.len() as u64) as usize;
    left.get(index).copied()
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
