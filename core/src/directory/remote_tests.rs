//! Who is asked: how calls spread, and how they do not.

use super::*;
use crate::base::Identity;
use crate::directory::document::ServiceInfo;
use crate::directory::selection::key_hash;

const MS: Duration = Duration::from_millis(1);

/// So many peers, each with a service `math` that has the action `add`.
struct Mesh {
    remote: RemoteServices,
    peers: Slab<PeerId, PeerTag>,
    draws: Draws,
    now: MonoTime,
}

fn service(version: &str, spread: Spread, actions: &[&str]) -> Entry {
    let info =
        ServiceInfo { version: Version::parse(version).unwrap(), spread, ..ServiceInfo::default() };
    Entry::Service(Arc::new(ServiceOffer {
        path: TopicPath::parse("math").unwrap(),
        state: OfferState::Running,
        actions: actions.iter().map(|action| Pattern::parse(action).unwrap()).collect(),
        info,
    }))
}

impl Mesh {
    fn new() -> Mesh {
        Mesh {
            remote: RemoteServices::default(),
            peers: Slab::default(),
            draws: Draws::new([9; 32]),
            now: MonoTime::ZERO,
        }
    }

    fn of(count: u8) -> Mesh {
        let mut mesh = Mesh::new();
        for _ in 0..count {
            mesh.join("1.0.0", Spread::RoundRobin, &["math/add", "math/sub"]);
        }
        mesh
    }

    fn join(&mut self, version: &str, spread: Spread, actions: &[&str]) -> PeerKey {
        let id = Identity::from_secret([self.peers.len() as u8 + 1; 32]).id();
        let peer = self.peers.insert(id);
        self.change(peer, Some(service(version, spread, actions)));
        peer
    }

    fn change(&mut self, peer: PeerKey, entry: Option<Entry>) {
        let id = *self.peers.get(peer).unwrap();
        self.remote.update(peer, id, 1, vec![(EntryKey::Service(1), entry)]);
        self.remote.check_invariants(self.now, &[]);
    }

    fn seat(&mut self, path: &str, wish: &Wish) -> Option<(PeerKey, Seat)> {
        let path = TopicPath::parse(path).unwrap();
        match self
            .remote
            .choose(self.now, &mut self.draws, &path, (wish, Purpose::Call), None, |_| true)
            .ok()?
        {
            Chosen::Peer(peer, seat) => Some((peer, seat)),
            Chosen::Here => panic!("nobody is here"),
        }
    }

    fn ask(&mut self, path: &str, wish: &Wish) -> Option<PeerKey> {
        let (peer, seat) = self.seat(path, wish)?;
        self.remote.end(self.now, &mut self.draws, seat, Word::Nothing);
        Some(peer)
    }

    fn counts(&mut self, calls: usize, wish: &Wish) -> Vec<usize> {
        let mut counts = vec![0; self.peers.len()];
        for _ in 0..calls {
            counts[self.ask("math/add", wish).unwrap().index()] += 1;
        }
        counts
    }
}

fn by(selection: Selection) -> Wish {
    Wish { selection, ..Wish::default() }
}

fn in_version(range: &str) -> Wish {
    Wish { version: Some(VersionReq::parse(range).unwrap()), ..Wish::default() }
}

#[test]
fn in_turn_everybody_gets_as_many() {
    let mut mesh = Mesh::of(3);
    assert_eq!(mesh.counts(30, &by(Selection::RoundRobin)), [10, 10, 10]);
    // The turn is the service's, not the action's.
    let asked: Vec<_> = ["math/add", "math/sub", "math/add", "math/sub"]
        .map(|path| mesh.ask(path, &Wish::default()).unwrap().index())
        .to_vec();
    assert_eq!(asked, [0, 1, 2, 0]);
}

#[test]
fn the_turn_goes_on_when_somebody_comes_or_goes_or_cannot_be_reached() {
    let mut mesh = Mesh::of(3);
    let keys: Vec<PeerKey> = mesh.peers.iter().map(|(key, _)| key).collect();
    assert_eq!(mesh.ask("math/add", &Wish::default()), Some(keys[0]));
    mesh.change(keys[1], None);
    assert_eq!(mesh.ask("math/add", &Wish::default()), Some(keys[2]));
    let fourth = mesh.join("1.0.0", Spread::RoundRobin, &["math/add"]);
    assert_eq!(mesh.ask("math/add", &Wish::default()), Some(fourth));
    let path = TopicPath::parse("math/add").unwrap();
    let only = |wanted| move |peer| peer == wanted;
    for _ in 0..3 {
        let (now, wish) = (mesh.now, Wish::default());
        let chosen = mesh.remote.choose(
            now,
            &mut mesh.draws,
            &path,
            (&wish, Purpose::Call),
            None,
            only(keys[2]),
        );
        assert!(matches!(chosen, Ok(Chosen::Peer(peer, _)) if peer == keys[2]));
        let chosen =
            mesh.remote
                .choose(now, &mut mesh.draws, &path, (&wish, Purpose::Call), None, |_| false);
        assert!(matches!(chosen, Err(Nobody::Offers)));
    }
}

#[test]
fn by_chance_everybody_gets_about_as_many() {
    let mut mesh = Mesh::of(5);
    let counts = mesh.counts(5_000, &by(Selection::Random));
    // Five standard deviations of a binomial distribution.
    assert!(counts.iter().all(|count| count.abs_diff(1_000) < 142), "{counts:?}");
}

#[test]
fn the_less_loaded_of_two_gets_the_call() {
    let mut mesh = Mesh::of(4);
    let wish = by(Selection::LeastLoaded);
    // One takes ten times as long as the others. Calls come at the rate that the others can bear.
    let mut open: Vec<(MonoTime, Seat)> = Vec::new();
    let mut counts = [0usize; 4];
    for _ in 0..4_000 {
        mesh.now = mesh.now + MS;
        let now = mesh.now;
        let (over, still): (Vec<_>, Vec<_>) = open.into_iter().partition(|(at, _)| *at <= now);
        open = still;
        for (at, seat) in over {
            mesh.remote.end(at, &mut mesh.draws, seat, Word::Answers);
        }
        let (peer, seat) = mesh.seat("math/add", &wish).unwrap();
        counts[peer.index()] += 1;
        let takes = if peer.index() == 0 { 30 } else { 3 };
        open.push((now + MS * takes, seat));
    }
    assert!(counts[0] < 400, "{counts:?}");
    assert!(counts[1..].iter().all(|count| (1_000..1_500).contains(count)), "{counts:?}");
}

#[test]
fn who_was_slow_once_is_tried_again() {
    let mut mesh = Mesh::of(2);
    let wish = by(Selection::LeastLoaded);
    // Until both were asked: the first takes long.
    let (slow, seat) = mesh.seat("math/add", &wish).unwrap();
    mesh.now = mesh.now + MS * 1_000;
    mesh.remote.end(mesh.now, &mut mesh.draws, seat, Word::Answers);
    let path = TopicPath::parse("math/add").unwrap();
    let (now, not_slow) = (mesh.now, |peer| peer != slow);
    let other =
        mesh.remote.choose(now, &mut mesh.draws, &path, (&wish, Purpose::Call), None, not_slow);
    let Ok(Chosen::Peer(_, seat)) = other else { panic!("there is another") };
    mesh.remote.end(now + MS, &mut mesh.draws, seat, Word::Answers);
    let begun = mesh.now;
    for _ in 0..2_000 {
        let (peer, seat) = mesh.seat("math/add", &wish).unwrap();
        mesh.now = mesh.now + MS;
        mesh.remote.end(mesh.now, &mut mesh.draws, seat, Word::Answers);
        mesh.now = mesh.now + MS * 100;
        if peer == slow {
            let after = mesh.now.since(begun);
            assert!(after > MS * 2_900 && after < MS * 5_000, "{after:?}");
            return;
        }
    }
    panic!("it is never asked again");
}

#[test]
fn a_key_has_one_owner_and_who_comes_or_goes_moves_only_its_own_keys() {
    let mut mesh = Mesh::of(10);
    let keys: Vec<u64> = (0..1_000).map(|n| key_hash(format!("key {n}").as_bytes())).collect();
    let owners = |mesh: &mut Mesh| -> Vec<PeerKey> {
        let all = keys.iter();
        all.map(|key| mesh.ask("math/add", &by(Selection::ByKey(*key))).unwrap()).collect()
    };
    let before = owners(&mut mesh);
    assert_eq!(before, owners(&mut mesh));
    for (peer, _) in mesh.peers.iter() {
        let share = before.iter().filter(|owner| **owner == peer).count();
        assert!((60..140).contains(&share), "{share} of 1000 keys for one of ten");
    }
    let gone = before[0];
    mesh.change(gone, None);
    let after = owners(&mut mesh);
    for (old, new) in before.iter().zip(&after) {
        assert!(*old == gone || old == new, "a key moved for no reason");
    }
    mesh.change(gone, Some(service("1.0.0", Spread::RoundRobin, &["math/add"])));
    assert_eq!(owners(&mut mesh), before);
}

#[test]
fn the_owner_of_a_key_is_the_same_in_every_version_of_this_code() {
    let id = PeerId::from_bytes([7; 32]);
    assert_eq!(affinity(key_hash(b"user 17"), &id), 0x77ca_4ff3_7048_83c9);
}

#[test]
fn by_key_this_node_is_one_among_others() {
    let mut mesh = Mesh::of(3);
    let here = PeerId::from_bytes([200; 32]);
    let path = TopicPath::parse("math/add").unwrap();
    let mut own = 0;
    for key in 0..1_000 {
        let wish = by(Selection::ByKey(key_hash(&[key as u8, (key >> 8) as u8])));
        let chosen = mesh.remote.choose(
            mesh.now,
            &mut mesh.draws,
            &path,
            (&wish, Purpose::Call),
            Some(here),
            |_| true,
        );
        own += usize::from(matches!(chosen, Ok(Chosen::Here)));
    }
    assert!((180..320).contains(&own), "{own} of 1000 keys for one of four");
}

#[test]
fn only_versions_in_the_range_are_asked() {
    let mut mesh = Mesh::new();
    let old = mesh.join("1.1.0", Spread::RoundRobin, &["math/add"]);
    let new = mesh.join("1.4.2", Spread::RoundRobin, &["math/add"]);
    let next = mesh.join("2.0.0", Spread::RoundRobin, &["math/add"]);
    for (range, expected) in
        [("1.2", vec![new]), ("^1", vec![old, new]), ("*", vec![old, new, next]), (">=3", vec![])]
    {
        for selection in
            [Selection::RoundRobin, Selection::Random, Selection::LeastLoaded, Selection::ByKey(3)]
        {
            let wish = Wish { selection, ..in_version(range) };
            let mut asked: Vec<PeerKey> =
                (0..40).filter_map(|_| mesh.ask("math/add", &wish)).collect();
            asked.sort();
            asked.dedup();
            let one = matches!(selection, Selection::ByKey(_)) && !expected.is_empty();
            if one {
                assert!(asked.len() == 1 && expected.contains(&asked[0]), "{range} {selection:?}");
            } else {
                assert_eq!(asked, expected, "{range} {selection:?}");
            }
        }
    }
}

#[test]
fn the_service_says_how_it_is_chosen_if_the_caller_does_not() {
    let mut mesh = Mesh::new();
    for _ in 0..3 {
        mesh.join("1.0.0", Spread::Random, &["math/add"]);
    }
    let asked: Vec<usize> =
        (0..30).map(|_| mesh.ask("math/add", &Wish::default()).unwrap().index()).collect();
    let in_turn = asked.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3);
    assert!(!in_turn, "{asked:?}");
    assert_eq!(mesh.counts(30, &by(Selection::RoundRobin)), [10, 10, 10]);
}

#[test]
fn the_most_specific_pattern_is_asked_first_and_the_next_one_if_nobody_there_will_do() {
    let mut mesh = Mesh::new();
    let general = mesh.join("1.0.0", Spread::RoundRobin, &["math/*"]);
    let special = mesh.join("1.0.0", Spread::RoundRobin, &["math/add"]);
    assert_eq!(mesh.ask("math/add", &Wish::default()), Some(special));
    assert_eq!(mesh.ask("math/sub", &Wish::default()), Some(general));
    let path = TopicPath::parse("math/add").unwrap();
    let (now, wish) = (mesh.now, Wish::default());
    let chosen =
        mesh.remote.choose(now, &mut mesh.draws, &path, (&wish, Purpose::Call), None, |peer| {
            peer != special
        });
    assert!(matches!(chosen, Ok(Chosen::Peer(peer, _)) if peer == general));
}

#[test]
fn what_is_paused_is_not_asked_and_who_is_forgotten_leaves_nothing() {
    let mut mesh = Mesh::of(1);
    let (peer, _) = mesh.peers.iter().next().unwrap();
    let Entry::Service(mut offer) = service("1.0.0", Spread::RoundRobin, &["math/add"]) else {
        panic!("it is a service");
    };
    Arc::make_mut(&mut offer).state = OfferState::Paused;
    mesh.change(peer, Some(Entry::Service(offer)));
    assert_eq!(mesh.ask("math/add", &Wish::default()), None);
    mesh.change(peer, Some(service("1.0.0", Spread::RoundRobin, &["math/add", "math/add"])));
    assert_eq!(mesh.ask("math/add", &Wish::default()), Some(peer));
    mesh.remote.forget(peer);
    mesh.remote.check_invariants(mesh.now, &[]);
    assert_eq!(mesh.ask("math/add", &Wish::default()), None);
    assert!(mesh.remote.offers.is_empty() && mesh.remote.groups.is_empty());
}

#[test]
fn who_keeps_failing_is_passed_over_and_tried_again_by_one_call_at_a_time() {
    let mut mesh = Mesh::of(3);
    let wish = Wish::default();
    let fail = |mesh: &mut Mesh, bad: &[usize]| {
        let (peer, seat) = mesh.seat("math/add", &wish)?;
        let word = if bad.contains(&peer.index()) { Word::Fails } else { Word::Answers };
        mesh.remote.end(mesh.now, &mut mesh.draws, seat, word);
        mesh.remote.check_invariants(mesh.now, &[]);
        Some(peer.index())
    };
    let asked: Vec<_> = (0..30).filter_map(|_| fail(&mut mesh, &[1])).collect();
    assert_eq!(asked.iter().filter(|index| **index == 1).count(), 5);
    mesh.now = mesh.now + MS * 600;
    let seats: Vec<_> = (0..9).map(|_| mesh.seat("math/add", &wish).unwrap()).collect();
    let probes: Vec<Seat> = seats.iter().map(|(_, s)| *s).filter(Seat::is_probe).collect();
    assert_eq!(probes.len(), 1);
    mesh.remote.check_invariants(mesh.now, &probes);
    for (_, seat) in seats {
        mesh.remote.end(mesh.now, &mut mesh.draws, seat, Word::Answers);
    }
    (0..120).for_each(|_| assert!(fail(&mut mesh, &[]).is_some()));
    assert_eq!(mesh.counts(30, &wish), [10; 3], "all is forgiven");
    // Something else is said of it: that makes it no other instance.
    let all: Vec<_> = (0..60).filter_map(|_| fail(&mut mesh, &[0, 1, 2])).collect();
    assert_eq!(all.len(), 60, "where all are left alone, all are asked");
    assert!((0..3).all(|index| all[30..].iter().filter(|of| **of == index).count() == 10));
    let keys: Vec<PeerKey> = mesh.peers.iter().map(|(key, _)| key).collect();
    let same = service("1.0.1", Spread::RoundRobin, &["math/add", "math/sub"]);
    mesh.change(keys[0], Some(same));
    let path = TopicPath::parse("math/add").unwrap();
    let hedge = Purpose::Hedge(MS);
    let draws = &mut mesh.draws;
    let chosen = mesh.remote.choose(mesh.now, draws, &path, (&wish, hedge), None, |_| true);
    assert!(matches!(chosen, Err(Nobody::IsWell)), "a second attempt is for who is well");
    // It goes and comes back: that makes it another one.
    mesh.change(keys[0], None);
    mesh.change(keys[0], Some(service("1.0.1", Spread::RoundRobin, &["math/add"])));
    assert_eq!(mesh.ask("math/add", &wish), Some(keys[0]));
    assert_eq!(mesh.ask("math/add", &wish), Some(keys[0]), "the others are left alone");
}
