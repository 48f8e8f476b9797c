//! What tokens cost: verifying one, meeting it again, and asking what it allows.
//!
//! `cargo bench -p dunlin-core --bench auth`. The bounds are in performance.md, row "token
//! verification".

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use dunlin_core::auth::cache::{Known, VerifiedTokens};
use dunlin_core::auth::{
    Access, AccessInput, BlindedNetworks, DescriptorChain, DescriptorClaims, Dissemination, Grant,
    Greeter, Membership, NetworkClaim, NetworkMembership, Permission, Permissions, Token, TokenId,
    validate,
};
use dunlin_core::base::{Draws, Effects, Key, PeerKey, Refusals};
use dunlin_core::link::LinkHandle;
use dunlin_core::machine::{Context, Machine, TimerHandle, Timers};
use dunlin_core::topic::TopicPath;
use dunlin_core::{Identity, MonoTime, Now, WallTime};

const NOON: WallTime = WallTime::from_unix_nanos(1_795_262_400 * 1_000_000_000);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn identity(name: u8) -> Identity {
    Identity::from_secret([name; 32])
}

fn network() -> DescriptorChain {
    let claims = DescriptorClaims {
        name: "bench".into(),
        sequence: 0,
        root: identity(1).id(),
        next_root: identity(2).id(),
        expires: NOON + 365 * DAY,
        issuers: vec![(identity(3).id(), 1)],
        registry_members: Vec::new(),
        registry_epoch: 0,
        former_registries: Vec::new(),
        revoked_before: WallTime::default(),
        revoked_tokens: Vec::new(),
        revoked_issuers: Vec::new(),
        dissemination: Dissemination::Mesh,
        message_bytes_max: None,
    };
    DescriptorChain::found(&identity(1), [0; 16], claims).expect("a network")
}

fn token(subject: &Identity, permissions: Permissions) -> Token {
    let grant = Grant {
        subject: subject.id(),
        permissions,
        not_before: NOON,
        expires: NOON + DAY,
        issued_at: NOON,
        depth_left: 1,
        id: TokenId([7; 16]),
    };
    Token::issue(&identity(3), 1, network().id(), grant).expect("a token")
}

/// So many patterns of the kind that services have.
fn permissions(patterns: usize) -> Permissions {
    (0..patterns).fold(Permissions::none(), |permissions, number| {
        permissions.with(&format!("call:service-{number}/*")).expect("a permission")
    })
}

/// Timers that nobody waits for.
struct NoTimers;

impl<T> Timers<T> for NoTimers {
    fn arm(&mut self, _: MonoTime, _: T) -> TimerHandle {
        TimerHandle(0)
    }
    fn disarm(&mut self, _: TimerHandle) {}
}

struct Node {
    access: Access,
    draws: Draws,
    now: Now,
}

impl Node {
    fn new() -> Self {
        let now = Now::new(MonoTime::ZERO, NOON);
        let own = identity(4);
        let token = token(&own, Permissions::all());
        let networks = vec![NetworkMembership { descriptors: network(), token }];
        let access = Access::new(&own.id(), now, Membership::Networks(networks));
        Node { access: access.expect("in order"), draws: Draws::new([0; 32]), now }
    }

    fn feed(&mut self, input: AccessInput) {
        let mut timers = NoTimers;
        let mut refusals = Refusals::default();
        let mut cx = Context::new(self.now, &mut self.draws, &mut timers, &mut refusals);
        let mut sink = |effect| panic!("{effect:?}");
        self.access.handle(&mut cx, (), input, &mut Effects::new(&mut sink));
    }

    fn hello(&mut self, peer: &Identity, token: &Token) {
        let claims = vec![NetworkClaim {
            network: token.claims().next().expect("a link").network,
            token: token.as_bytes().clone(),
            descriptor_sequence: 0,
            is_default: true,
        }];
        let (id, link, has_dialled) = (peer.id(), LinkHandle(1), true);
        let greeter = Greeter { sender: id, receiver: self.access.id(), has_dialled };
        let shown = claims.iter().map(|claim| claim.network);
        let networks = BlindedNetworks::new(shown, &greeter, &mut self.draws);
        self.feed(AccessInput::Hello { peer: key(), id, link, has_dialled, networks });
        self.feed(AccessInput::Claims { id, link, claims });
        assert!(self.access.is_let_in(link));
    }
}

fn remember(
    cache: &mut VerifiedTokens,
    now: Now,
    network: &DescriptorChain,
    token: &Token,
    peer: &Identity,
) {
    let verified = validate(token, network.current(), &peer.id(), now.wall).expect("it counts");
    let ends = now.mono + DAY;
    let known = Known { token: token.clone(), network: network.id(), verified, ends };
    cache.insert(Arc::new(known), now);
}

fn key() -> PeerKey {
    Key::from_u64(1 << 32)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let peer = identity(5);

    let mut group = criterion.benchmark_group("token");
    let (chain, one) = (network(), token(&peer, permissions(4)));
    let bytes = one.as_bytes().clone();
    group.bench_function("verify one link, strict", |bench| {
        bench.iter(|| {
            let token = Token::decode(bytes.clone()).expect("a token");
            validate(black_box(&token), chain.current(), &peer.id(), NOON).expect("it counts")
        });
    });
    let now = Now::new(MonoTime::ZERO, NOON);
    let mut cache = VerifiedTokens::new(1_024);
    for number in 0..1_024u16 {
        let [high, low] = number.to_be_bytes();
        let mut secret = [0; 32];
        secret[..3].copy_from_slice(&[9, high, low]);
        let peer = Identity::from_secret(secret);
        let token = token(&peer, permissions(4));
        remember(&mut cache, now, &chain, &token, &peer);
    }
    remember(&mut cache, now, &chain, &one, &peer);
    group.bench_function("met again, among 1,024", |bench| {
        bench.iter(|| {
            let known = cache.get(black_box(&bytes)).expect("it is known");
            assert!(known.counts(now) && known.verified.subject == peer.id());
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("permission");
    for patterns in [1, 8, 64] {
        let mut node = Node::new();
        node.hello(&peer, &token(&peer, permissions(patterns)));
        node.feed(AccessInput::Verified { peer: key(), link: LinkHandle(1) });
        // The last one is found last where each is tried.
        let path = format!("service-{}/action", patterns - 1);
        let path = TopicPath::parse(&path).expect("a path");
        group.bench_function(BenchmarkId::from_parameter(patterns), |bench| {
            bench.iter(|| {
                let path = black_box(&path);
                node.access.may(node.now, key(), Permission::Call, path).expect("allowed");
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
