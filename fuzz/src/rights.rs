//! The networks of the target `mesh`: what each of its peers may do, written down twice. Once as tokens,
//! and once as a table that what the mesh allows is compared with.

use std::sync::LazyLock;
use std::time::Duration;

use dunlin_core::auth::{
    Access, DescriptorChain, DescriptorClaims, Dissemination, Grant, Membership, NetworkClaim,
    NetworkId, NetworkMembership, Token, TokenId,
};
use dunlin_core::topic::TopicPath;
use dunlin_core::{Identity, Now, PeerId, WallTime};

/// When the token of the peer that has the shortest one ends, the skew included.
const SHORT: Duration = Duration::from_secs(100);
const LONG: Duration = Duration::from_secs(1 << 33);

const ALL: &str = "call:> serve:> publish:> subscribe:>";

/// (peer, network, its permissions, until when), in the order of the peer's claims.
const RIGHTS: [(usize, &str, &str, Duration); 6] = [
    (0, "fuzz", ALL, LONG),
    (0, "n", ALL, LONG),
    (1, "fuzz", ALL, LONG),
    (1, "n", ALL, LONG),
    (2, "fuzz", "call:math/add serve:echo/> publish:math/add subscribe:echo/>", LONG),
    (3, "n", "call:math/* serve:math/* publish:math/* subscribe:math/*", SHORT),
];

fn identity(name: u8) -> Identity {
    Identity::from_secret([name; 32])
}

fn after(time: Duration) -> WallTime {
    WallTime::default() + time
}

static NETWORKS: LazyLock<[DescriptorChain; 2]> = LazyLock::new(|| {
    ["fuzz", "n"].map(|name| {
        let claims = DescriptorClaims {
            name: name.into(),
            sequence: 0,
            root: identity(1).id(),
            next_root: identity(2).id(),
            expires: after(LONG),
            issuers: vec![(identity(3).id(), 0)],
            registry_members: Vec::new(),
            registry_epoch: 0,
            former_registries: Vec::new(),
            revoked_before: WallTime::default(),
            revoked_tokens: Vec::new(),
            revoked_issuers: Vec::new(),
            dissemination: Dissemination::Mesh,
            message_bytes_max: None,
        };
        DescriptorChain::found(&identity(1), [0; 16], claims).expect("the claims are legal")
    })
});

static TOKENS: LazyLock<Vec<(usize, Token)>> = LazyLock::new(|| {
    let issue = |(peer, network, permissions, until): &(usize, &str, &str, Duration)| {
        let grant = Grant {
            subject: id(*peer),
            permissions: permissions.parse().expect("permissions"),
            not_before: WallTime::default(),
            expires: after(*until - dunlin_core::auth::SKEW),
            issued_at: WallTime::default(),
            depth_left: 0,
            id: TokenId([*peer as u8; 16]),
        };
        let network = chain(network).id();
        (*peer, Token::issue(&identity(3), 0, network, grant).expect("a token"))
    };
    RIGHTS.iter().map(issue).collect()
});

fn chain(name: &str) -> &'static DescriptorChain {
    &NETWORKS[usize::from(name == "n")]
}

fn id(peer: usize) -> PeerId {
    crate::mesh::peer_id(peer)
}

/// The mesh itself, in both networks.
pub(crate) fn access() -> Access {
    let own = TOKENS.iter().filter(|(peer, _)| *peer == 0).map(|(_, token)| token.clone());
    let networks = NETWORKS
        .iter()
        .zip(own)
        .map(|(descriptors, token)| NetworkMembership { descriptors: descriptors.clone(), token });
    let networks = Membership::Networks(networks.collect());
    Access::new(&id(0), Now::default(), networks).expect("it is in order")
}

/// The claim of a peer in the development network.
pub(crate) fn development() -> NetworkClaim {
    NetworkClaim {
        network: NetworkId::DEVELOPMENT,
        token: Default::default(),
        descriptor_sequence: 0,
        is_default: true,
    }
}

/// What a peer claims.
pub(crate) fn claims(peer: usize) -> Vec<NetworkClaim> {
    let claim = |(_, token): &(usize, Token)| NetworkClaim {
        network: token.claims().next().expect("a link").network,
        token: token.as_bytes().clone(),
        descriptor_sequence: 0,
        is_default: false,
    };
    let mut claims: Vec<_> = TOKENS.iter().filter(|(of, _)| *of == peer).map(claim).collect();
    if let Some(first) = claims.first_mut() {
        first.is_default = true;
    }
    claims
}

/// Whether a peer may call a path, by the table.
pub(crate) fn may_call(peer: PeerId, path: &TopicPath, now: WallTime) -> bool {
    may("call:", peer, path, now)
}

/// Whether a peer may ever publish to a topic, by the table.
pub(crate) fn may_publish(peer: PeerId, topic: &TopicPath) -> bool {
    may("publish:", peer, topic, WallTime::default())
}

fn may(what: &str, peer: PeerId, path: &TopicPath, now: WallTime) -> bool {
    let network = path.network().unwrap_or("fuzz");
    RIGHTS.iter().any(|(of, of_network, permissions, until)| {
        let mut covers = permissions.split(' ').filter_map(|p| p.strip_prefix(what));
        let covers = covers.any(|pattern| match pattern {
            ">" => true,
            "math/*" => path.path().starts_with("math/") && path.depth() == 2,
            exact => exact == path.path(),
        });
        id(*of) == peer && *of_network == network && covers && now < after(*until)
    })
}
