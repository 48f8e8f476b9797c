//! Rights of sessions: how they begin, what they allow, and all the ways in which they end.

use super::*;
use crate::auth::membership::DEVELOPMENT_NAME;
use crate::auth::{BlindedNetworks, Greeter};
use crate::base::{Draws, Key, MonoTime, Now, PeerKey};
use crate::link::LinkHandle;
use crate::machine::tests::Bench;
use crate::topic::{Pattern, TopicPath};

const US: u8 = 5;
const ALICE: u8 = 10;
const LINK: LinkHandle = LinkHandle(1);
const OTHER_LINK: LinkHandle = LinkHandle(2);

fn alice() -> PeerKey {
    Key::from_u64(1 << 32 | 7)
}

fn path(text: &str) -> TopicPath {
    TopicPath::parse(text).unwrap()
}

fn own(subject: u8, permissions: &str) -> Token {
    let grant = grant(identity(subject).id(), permissions);
    issue(Grant { expires: NOON + 24 * HOUR, id: TokenId([subject; 16]), ..grant })
}

fn membership(permissions: &str) -> Membership {
    let token = own(US, permissions);
    Membership::Networks(vec![NetworkMembership { descriptors: network(), token }])
}

/// A second network, by the same people.
fn warehouse() -> DescriptorChain {
    let claims = DescriptorClaims { name: "warehouse".into(), ..claims() };
    DescriptorChain::found(&root(), [9; 16], claims).unwrap()
}

fn in_warehouse(subject: u8, permissions: &str) -> Token {
    let grant = grant(identity(subject).id(), permissions);
    Token::issue(&issuer(), 7, warehouse().id(), grant).unwrap()
}

fn claim(token: &Token) -> NetworkClaim {
    let network = token.claims().next().unwrap().network;
    NetworkClaim {
        network,
        token: token.as_bytes().clone(),
        descriptor_sequence: 0,
        is_default: false,
    }
}

fn development_claim() -> NetworkClaim {
    NetworkClaim {
        network: NetworkId::DEVELOPMENT,
        token: Default::default(),
        descriptor_sequence: 0,
        is_default: true,
    }
}

/// The first is the default one, as those that say nothing of it mean.
fn with_default(mut claims: Vec<NetworkClaim>) -> Vec<NetworkClaim> {
    if let Some(first) = claims.first_mut() {
        first.is_default = true;
    }
    claims
}

/// A node in the middle of a long life, at noon.
struct Node(Bench<Access>);

impl Node {
    fn new(membership: Membership) -> Self {
        let mono = MonoTime::from_nanos(1 << 50);
        let now = Now::new(mono, NOON);
        let mut bench =
            Bench::new(Access::new(&identity(US).id(), now, membership).expect("it is in order"));
        (bench.now, bench.wall) = (mono, NOON);
        Node(bench)
    }

    fn in_shop() -> Self {
        Node::new(membership("call:> serve:>"))
    }

    fn in_both() -> Self {
        Node::new(Membership::Networks(vec![
            NetworkMembership { descriptors: network(), token: own(US, "call:>") },
            NetworkMembership { descriptors: warehouse(), token: in_warehouse(US, "call:>") },
        ]))
    }

    fn now(&self) -> Now {
        Now::new(self.0.now, self.0.wall)
    }

    fn feed(&mut self, input: AccessInput) -> Vec<AccessEffect> {
        self.0.feed((), input)
    }

    /// Alice shows these networks in her Hello.
    fn meet(&mut self, link: LinkHandle, networks: &[NetworkId]) -> Vec<AccessEffect> {
        let (id, has_dialled) = (identity(ALICE).id(), true);
        let greeter = Greeter { sender: id, receiver: identity(US).id(), has_dialled };
        let mut draws = Draws::new([7; 32]);
        let networks = BlindedNetworks::new(networks.iter().copied(), &greeter, &mut draws);
        self.feed(AccessInput::Hello { peer: alice(), id, link, has_dialled, networks })
    }

    /// Her Hello shows the networks that her Claims are for.
    fn hello(&mut self, link: LinkHandle, claims: Vec<NetworkClaim>) -> Vec<AccessEffect> {
        let networks: Vec<NetworkId> = claims.iter().map(|claim| claim.network).collect();
        let mut effects = self.meet(link, &networks);
        effects.extend(self.claims(link, with_default(claims)));
        effects
    }

    /// What the node claims where the peer is in all its networks.
    fn shown(&mut self) -> Vec<NetworkClaim> {
        let own = self.0.machine.descriptors().map(|chain| chain.id());
        let networks: Vec<NetworkId> = own.chain([NetworkId::DEVELOPMENT]).collect();
        self.meet(OTHER_LINK, &networks);
        let claims = self.0.machine.claims(self.now(), OTHER_LINK);
        self.feed(AccessInput::LinkGone(OTHER_LINK));
        claims
    }

    fn claims(&mut self, link: LinkHandle, claims: Vec<NetworkClaim>) -> Vec<AccessEffect> {
        self.feed(AccessInput::Claims { id: identity(ALICE).id(), link, claims })
    }

    fn admit(&mut self, claims: Vec<NetworkClaim>) -> Vec<AccessEffect> {
        let mut effects = self.hello(LINK, claims);
        assert!(self.0.machine.is_let_in(LINK), "{effects:?}");
        effects.extend(self.feed(AccessInput::Verified { peer: alice(), link: LINK }));
        effects
    }

    fn refused(&mut self, claims: Vec<NetworkClaim>) -> (AccessCode, String) {
        let effects = self.hello(LINK, claims);
        assert!(!self.0.machine.is_let_in(LINK));
        match effects.last() {
            Some(AccessEffect::Refused { code, why, .. }) => (*code, why.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn may_call(&self, topic: &str) -> bool {
        self.0.machine.may(self.now(), alice(), Permission::Call, &path(topic)).is_ok()
    }

    /// Both clocks go on.
    fn pass(&mut self, time: Duration) -> Vec<AccessEffect> {
        let (until, wall) = (self.0.now + time, self.0.wall + time);
        let mut effects = Vec::new();
        while let Some(timer) = self.0.next_timer_until(until) {
            self.0.wall = wall - until.since(self.0.now);
            effects.extend(self.feed(AccessInput::Timer(timer)));
        }
        (self.0.now, self.0.wall) = (until, wall);
        effects
    }
}

fn left(effects: &[AccessEffect]) -> Vec<&str> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            AccessEffect::NetworkLeft { network, .. } => Some(network.as_str()),
            _ => None,
        })
        .collect()
}

fn lost(effects: &[AccessEffect]) -> Option<AccessCode> {
    effects.iter().find_map(|effect| match effect {
        AccessEffect::SessionLost { code, .. } => Some(*code),
        _ => None,
    })
}

#[test]
fn a_peer_may_do_what_its_token_says_once_the_handshake_has_verified_the_link() {
    let mut node = Node::in_shop();
    assert_eq!(node.hello(LINK, vec![claim(&own(ALICE, "call:math/*"))]), []);
    assert!(!node.may_call("math/add"), "not yet");
    node.feed(AccessInput::Verified { peer: alice(), link: LINK });
    assert!(node.may_call("math/add"));
    assert!(node.may_call("shop:math/add"));
    assert!(!node.may_call("files/read"));
    let now = node.now();
    let denied = node.0.machine.may(now, alice(), Permission::Call, &path("files/read"));
    let denied = denied.unwrap_err().to_string();
    assert_eq!(denied, "the permission 'call' is missing for 'files/read' in the network 'shop'");
    let denied = node.0.machine.may(now, alice(), Permission::Serve, &path("math/add"));
    assert!(denied.unwrap_err().to_string().contains("'serve'"));
    let denied = node.0.machine.may(now, alice(), Permission::Call, &path("bank:math/add"));
    assert_eq!(denied, Err(Denied::NoSuchNetwork("bank".into())));
    node.feed(AccessInput::SessionEnded(alice()));
    assert!(!node.may_call("math/add"));
    assert_eq!(node.0.timers_armed(), 1, "our own is left");
}

#[test]
fn offers_are_covered_by_patterns() {
    let mut node = Node::in_shop();
    node.admit(vec![claim(&own(ALICE, "serve:math/*"))]);
    let may = |pattern: &str| {
        let (service, pattern) = (path("math"), Pattern::parse(pattern).unwrap());
        let now = node.now();
        node.0.machine.may_all(now, alice(), Permission::Serve, &service, &pattern).is_ok()
    };
    assert!(may("math/add"));
    assert!(may("math/{x}"));
    assert!(!may("math/>"));
}

#[test]
fn refusals_tell_the_log_more_than_the_peer() {
    let mut node = Node::in_shop();
    let token = own(ALICE, "call:>");
    let stolen = own(11, "call:>");
    let (code, why) = node.refused(vec![claim(&stolen)]);
    assert_eq!(code, AccessCode::TokenRefused);
    assert!(why.contains("network 'shop': it belongs to"), "{why}");
    let (code, why) = node.refused(vec![]);
    let none = "it is in none of this node's networks";
    assert_eq!((code, why.as_str()), (AccessCode::NoCommonNetwork, none));
    node.meet(LINK, &[network().id()]);
    let effects = node.claims(LINK, vec![]);
    let code = AccessCode::NoCommonNetwork;
    assert!(matches!(&effects[..], [AccessEffect::Refused { code: why, .. }] if *why == code));
    let (code, _) = node.refused(vec![claim(&in_warehouse(ALICE, "call:>"))]);
    assert_eq!(code, AccessCode::NoCommonNetwork);
    // A token for another network under our network's name.
    let confused =
        NetworkClaim { network: network().id(), ..claim(&in_warehouse(ALICE, "call:>")) };
    let (code, why) = node.refused(vec![confused]);
    assert_eq!(code, AccessCode::TokenRefused);
    assert!(why.contains("is for the network"), "{why}");
    let empty = NetworkClaim { token: Default::default(), ..claim(&token) };
    assert_eq!(node.refused(vec![empty]).0, AccessCode::TokenRefused);
    node.0.wall = NOON + 48 * HOUR;
    assert_eq!(node.refused(vec![claim(&token)]).0, AccessCode::TokenExpired);
}

#[test]
fn the_development_network_is_never_mixed_with_others() {
    let mut node = Node::in_shop();
    let (code, why) = node.refused(vec![development_claim()]);
    assert_eq!(code, AccessCode::NoCommonNetwork);
    assert!(why.contains("development network"), "{why}");
    // Also not beside a network that counts: what it grants is what the token grants.
    node.admit(vec![development_claim(), claim(&own(ALICE, "call:a"))]);
    assert!(node.may_call("a") && !node.may_call("b"));

    let mut node = Node::new(Membership::Development);
    let (code, why) = node.refused(vec![claim(&own(ALICE, "call:a"))]);
    assert_eq!(code, AccessCode::NoCommonNetwork);
    assert!(why.contains("development network"), "{why}");
    node.admit(vec![development_claim()]);
    assert!(node.may_call("anything"));
    assert_eq!(node.0.timers_armed(), 0);
    assert_eq!(node.shown(), [development_claim()]);
    let named = node.0.machine.normalise(path(&format!("{DEVELOPMENT_NAME}:a")));
    assert_eq!(named, Ok(path("a")));
    assert!(node.0.machine.normalise(path("shop:a")).is_err());
}

#[test]
fn what_a_stale_process_claims_changes_nothing() {
    let mut node = Node::in_shop();
    node.admit(vec![claim(&own(ALICE, "call:a"))]);
    // Its Hello is well, but the handshake refuses its life.
    node.hello(OTHER_LINK, vec![claim(&own(ALICE, "call:b"))]);
    assert!(node.may_call("a") && !node.may_call("b"));
    node.feed(AccessInput::LinkGone(OTHER_LINK));
    node.feed(AccessInput::Verified { peer: alice(), link: OTHER_LINK });
    assert!(node.may_call("a") && !node.may_call("b"));
    // A Hello of the same life on a further link counts: a renewed token, for instance.
    node.hello(OTHER_LINK, vec![claim(&own(ALICE, "call:b"))]);
    node.feed(AccessInput::Verified { peer: alice(), link: OTHER_LINK });
    assert!(!node.may_call("a") && node.may_call("b"));
}

#[test]
fn networks_are_kept_apart() {
    let mut node = Node::in_both();
    let shop = own(ALICE, "call:a");
    node.admit(vec![claim(&in_warehouse(ALICE, "call:b")), claim(&shop)]);
    for (topic, expected) in
        [("a", true), ("b", false), ("warehouse:b", true), ("warehouse:a", false), ("shop:a", true)]
    {
        assert_eq!(node.may_call(topic), expected, "{topic}");
    }
    // What Alice writes without a network is in her default one, which is not ours.
    let localise = |node: &Node, text| node.0.machine.localise(alice(), path(text));
    assert_eq!(localise(&node, "b"), Some(path("warehouse:b")));
    assert_eq!(localise(&node, "shop:a"), Some(path("a")));
    assert_eq!(localise(&node, "warehouse:b"), Some(path("warehouse:b")));
    assert_eq!(localise(&node, "bank:b"), None);
    // One of two claims does not count: the other does, and the log hears of it.
    let mut node = Node::in_both();
    let effects = node.admit(vec![claim(&in_warehouse(11, "call:b")), claim(&shop)]);
    assert!(matches!(&effects[..], [AccessEffect::ClaimRefused { .. }]), "{effects:?}");
    assert!(node.may_call("a") && !node.may_call("warehouse:b"));
    assert!(node.0.machine.shares(node.now(), alice(), &path("a")));
    assert!(!node.0.machine.shares(node.now(), alice(), &path("warehouse:a")));
    // Her default network is one that we are not in: her plain paths mean nothing here.
    let mut node = Node::in_shop();
    node.admit(vec![claim(&in_warehouse(ALICE, "call:b")), claim(&shop)]);
    assert_eq!(localise(&node, "a"), None);
    assert_eq!(localise(&node, "shop:a"), Some(path("a")));
}

#[test]
fn expiry_in_mid_session_ends_it_and_is_told() {
    let mut node = Node::in_shop();
    let token = issue(grant(identity(ALICE).id(), "call:>"));
    node.admit(vec![claim(&token)]);
    assert_eq!(node.pass(HOUR + SKEW - SECOND), []);
    assert!(node.may_call("a"));
    let effects = node.pass(SECOND);
    assert!(!node.may_call("a"));
    assert_eq!(left(&effects), ["shop"]);
    assert_eq!(lost(&effects), Some(AccessCode::TokenExpired));
}

#[test]
fn a_permit_stands_as_long_as_the_right_that_it_is_of() {
    let token = issue(grant(identity(ALICE).id(), "call:>"));
    let permitted = |node: &mut Node| {
        node.admit(vec![claim(&token)]);
        let may =
            |topic| node.0.machine.permit(node.now(), alice(), Permission::Call, &path(topic));
        assert!(may("elsewhere:a").is_err(), "we are in no such network");
        may("a").expect("its token says so")
    };
    let stands = |node: &Node, permit| node.0.machine.stands(node.now(), alice(), permit);

    let mut node = Node::in_shop();
    let permit = permitted(&mut node);
    node.pass(HOUR + SKEW - SECOND);
    assert!(stands(&node, &permit));
    node.pass(SECOND);
    assert!(!stands(&node, &permit), "it has expired");

    let mut node = Node::in_shop();
    let permit = permitted(&mut node);
    node.0.wall = NOON + 2 * HOUR;
    assert!(!stands(&node, &permit), "by either clock");

    let mut node = Node::in_shop();
    let permit = permitted(&mut node);
    node.feed(AccessInput::SessionEnded(alice()));
    assert!(!stands(&node, &permit), "it is of a session");
    node.admit(vec![claim(&own(ALICE, "serve:>"))]);
    assert!(!stands(&node, &permit), "and of a token");
}

#[test]
fn one_of_two_networks_can_end() {
    let mut node = Node::in_both();
    node.admit(vec![claim(&own(ALICE, "call:>")), claim(&in_warehouse(ALICE, "call:>"))]);
    let effects = node.pass(2 * HOUR);
    assert_eq!((left(&effects), lost(&effects)), (vec!["warehouse"], None));
    assert!(node.may_call("a") && !node.may_call("warehouse:a"));
}

#[test]
fn a_wall_clock_that_jumps_ahead_ends_rights_at_once() {
    let mut node = Node::in_shop();
    node.admit(vec![claim(&issue(grant(identity(ALICE).id(), "call:>")))]);
    node.0.wall = NOON + 2 * HOUR;
    assert!(!node.may_call("a"));
    let effects = node.pass(SKEW);
    assert_eq!(lost(&effects), Some(AccessCode::TokenExpired), "told within a minute");
}

#[test]
fn a_wall_clock_that_jumps_back_gives_no_more_time() {
    let mut node = Node::in_shop();
    let token = issue(grant(identity(ALICE).id(), "call:>"));
    node.admit(vec![claim(&token)]);
    node.pass(HOUR / 2);
    node.0.wall = NOON;
    assert!(node.may_call("a"));
    let effects = node.pass(HOUR / 2 + SKEW);
    assert!(node.0.wall < NOON + HOUR, "the wall clock would allow it");
    assert!(!node.may_call("a"));
    assert_eq!(lost(&effects), Some(AccessCode::TokenExpired));
    // Presenting it again does not help: it is known to have ended.
    assert_eq!(node.refused(vec![claim(&token)]).0, AccessCode::TokenExpired);
    // Back before it was valid, it is not valid either.
    node.admit(vec![claim(&own(ALICE, "call:>"))]);
    node.0.wall = NOON - HOUR;
    assert!(!node.may_call("a"));
}

#[test]
fn revocation_in_mid_session_ends_it() {
    for revoke in [
        (|c| c.revoked_tokens.push(TokenId([ALICE; 16]))) as fn(&mut DescriptorClaims),
        |c| c.revoked_before = NOON + SECOND,
        |c| c.revoked_issuers.push((issuer().id(), NOON + SECOND)),
        |c| c.issuers = vec![(issuer().id(), 8)],
        |c| c.issuers.clear(),
    ] {
        let mut node = Node::in_shop();
        let token = own(ALICE, "call:>");
        node.admit(vec![claim(&token)]);
        let newer = changed(revoke);
        assert_eq!(node.0.machine.check_descriptor(node.now(), &newer), Ok(()));
        let effects = node.feed(AccessInput::Descriptor(Box::new(newer)));
        assert_eq!(lost(&effects), Some(AccessCode::TokenRefused));
        assert!(!node.may_call("a"));
        // It is not let in again from what was remembered.
        assert_eq!(node.refused(vec![claim(&token)]).0, AccessCode::TokenRefused);
    }
}

#[test]
fn rotation_in_mid_session_keeps_what_is_still_trusted() {
    let mut node = Node::in_shop();
    node.admit(vec![claim(&own(ALICE, "call:>"))]);
    let taken_over = network()
        .succeed(&next_root(), DescriptorClaims { next_root: identity(50).id(), ..claims() })
        .unwrap();
    assert_eq!(node.feed(AccessInput::Descriptor(Box::new(taken_over.clone()))), []);
    assert!(node.may_call("a"));
    // An older one, or one by the root that was replaced, is refused.
    let by_old_root = changed(|_| ());
    for old in [network(), by_old_root] {
        assert!(node.0.machine.check_descriptor(node.now(), &old).is_err());
    }
    let expired = taken_over
        .succeed(&next_root(), DescriptorClaims { expires: NOON - HOUR, ..claims() })
        .unwrap();
    let refused = node.0.machine.check_descriptor(node.now(), &expired).unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
    let foreign = node.0.machine.check_descriptor(node.now(), &warehouse());
    assert_eq!(foreign, Err(MembershipError::NotAMember(warehouse().id())));
}

#[test]
fn an_expired_descriptor_ends_every_session_of_its_network() {
    let short = DescriptorClaims { expires: NOON + HOUR, ..claims() };
    let descriptors = DescriptorChain::found(&root(), [9; 16], short).unwrap();
    let token = |subject: u8| {
        let grant = grant(identity(subject).id(), "call:>");
        let grant = Grant { expires: NOON + 24 * HOUR, ..grant };
        Token::issue(&issuer(), 7, descriptors.id(), grant).unwrap()
    };
    let membership = NetworkMembership { descriptors: descriptors.clone(), token: token(US) };
    let mut node = Node::new(Membership::Networks(vec![membership]));
    node.admit(vec![claim(&token(ALICE))]);
    let effects = node.pass(HOUR + SKEW);
    assert_eq!(lost(&effects), Some(AccessCode::NetworkExpired));
    let own_ended = |e: &AccessEffect| matches!(e, AccessEffect::OwnEnded { .. });
    assert_eq!(effects.iter().filter(|e| own_ended(e)).count(), 1);
    assert_eq!(node.refused(vec![claim(&token(ALICE))]).0, AccessCode::NetworkExpired);
    assert!(node.shown().is_empty());
    // A newer one brings it back.
    let longer = DescriptorClaims { expires: NOON + 9 * HOUR, ..claims() };
    let newer = descriptors.succeed(&root(), longer).unwrap();
    node.feed(AccessInput::Descriptor(Box::new(newer)));
    node.admit(vec![claim(&token(ALICE))]);
    assert!(node.may_call("a"));
}

#[test]
fn our_own_token_binds_us_until_it_ends_or_is_renewed() {
    let mut node = Node::new(membership("call:a/> serve:b/*"));
    let may = |node: &Node, permission, topic: &str| {
        node.0.machine.may_we(node.now(), permission, &path(topic)).is_ok()
    };
    assert!(may(&node, Permission::Call, "a/x") && !may(&node, Permission::Call, "b/x"));
    let serve = Pattern::parse("shop:b/{x}").unwrap();
    let now = node.now();
    let service = path("shop:b");
    assert!(node.0.machine.may_we_all(now, Permission::Serve, &service, &serve).is_ok());
    node.feed(AccessInput::Timer(AccessTimer::Own));
    let effects = node.pass(24 * HOUR + SKEW);
    assert!(matches!(&effects[..], [AccessEffect::OwnEnded { .. }]), "{effects:?}");
    assert!(!may(&node, Permission::Call, "a/x"));
    assert!(node.shown().is_empty());
    let id = identity(US).id();
    let renewed = Grant { expires: NOON + 100 * HOUR, ..grant(id, "call:c") };
    let renewed = issue(renewed);
    let network = node.0.machine.check_own_token(node.now(), &renewed).unwrap();
    node.feed(AccessInput::OwnToken { network, token: Box::new(renewed.clone()) });
    assert!(may(&node, Permission::Call, "c") && !may(&node, Permission::Call, "a/x"));
    assert_eq!(node.shown()[0].token, renewed.as_bytes());
    // Not one that belongs to somebody else.
    assert!(node.0.machine.check_own_token(node.now(), &own(ALICE, "call:>")).is_err());
}

#[test]
fn a_node_starts_only_in_networks_that_count() {
    let start = |networks: Vec<NetworkMembership>, wall| {
        let now = Now::new(MonoTime::ZERO, wall);
        Access::new(&identity(US).id(), now, Membership::Networks(networks)).map(|_| ())
    };
    let shop = || NetworkMembership { descriptors: network(), token: own(US, "call:>") };
    assert_eq!(start(vec![shop()], NOON), Ok(()));
    assert_eq!(start(vec![], NOON), Err(MembershipError::Networks(0)));
    assert_eq!(start(vec![shop(), shop()], NOON), Err(MembershipError::SameName("shop".into())));
    assert!(matches!(start(vec![shop()], NOON + 48 * HOUR), Err(MembershipError::Token { .. })));
    assert!(matches!(
        start(vec![shop()], NOON + 999 * 24 * HOUR),
        Err(MembershipError::Descriptor { .. })
    ));
    let foreign = NetworkMembership { token: own(ALICE, "call:>"), ..shop() };
    assert!(matches!(start(vec![foreign], NOON), Err(MembershipError::Token { .. })));
    let claims = DescriptorClaims { name: DEVELOPMENT_NAME.into(), ..claims() };
    let descriptors = DescriptorChain::found(&root(), [9; 16], claims).unwrap();
    let posing = NetworkMembership { descriptors, ..shop() };
    assert_eq!(start(vec![posing], NOON), Err(MembershipError::DevelopmentName));
}

#[test]
fn a_peer_with_a_newer_descriptor_is_noticed_once_its_token_counts_and_its_link_is_verified() {
    let mut node = Node::in_both();
    let ahead = |token: &Token| NetworkClaim { descriptor_sequence: 4, ..claim(token) };
    // Its token for the shop is that of another key: what it says of the shop counts for nothing.
    let (stolen, hers) = (ahead(&own(ALICE + 1, "call:>")), ahead(&in_warehouse(ALICE, "call:>")));
    let effects = node.hello(LINK, vec![stolen, hers]);
    let is_claim = |effect: &AccessEffect| matches!(effect, AccessEffect::Outdated { .. });
    assert!(!effects.iter().any(is_claim), "the handshake may refuse its life: {effects:?}");
    let effects = node.feed(AccessInput::Verified { peer: alice(), link: LINK });
    assert!(
        matches!(
            &effects[..],
            [AccessEffect::Outdated { network, sequence: 4, .. }] if network == "warehouse"
        ),
        "{effects:?}"
    );
}

#[test]
fn tokens_are_shown_for_networks_alone_that_both_are_in() {
    let shop = network().id();
    let mut node = Node::in_both();
    assert_eq!(node.0.machine.claims(node.now(), LINK), [], "it has not greeted");
    // However many networks it is in besides.
    let elsewhere = [1, 2, 3].map(|n| NetworkId::from_bytes([n; 32]));
    assert_eq!(node.meet(LINK, &[&elsewhere[..], &[shop]].concat()), []);
    let claims = node.0.machine.claims(node.now(), LINK);
    assert_eq!(claims.iter().map(|claim| claim.network).collect::<Vec<_>>(), [shop]);

    let effects = node.meet(OTHER_LINK, &elsewhere);
    let code = AccessCode::NoCommonNetwork;
    assert!(matches!(&effects[..], [AccessEffect::Refused { code: why, .. }] if *why == code));
    assert_eq!(node.0.machine.claims(node.now(), OTHER_LINK), []);
}

#[test]
fn a_token_for_a_network_that_the_hello_did_not_show_counts_for_nothing() {
    let mut node = Node::in_both();
    node.meet(LINK, &[network().id()]);
    let (shop, warehouse) = (own(ALICE, "call:>"), in_warehouse(ALICE, "call:>"));
    node.claims(LINK, with_default(vec![claim(&shop), claim(&warehouse)]));
    node.feed(AccessInput::Verified { peer: alice(), link: LINK });
    assert!(node.0.machine.shares(node.now(), alice(), &path("a")));
    assert!(!node.0.machine.shares(node.now(), alice(), &path("warehouse:a")));
}

#[test]
fn what_names_no_network_is_in_none_while_its_writers_default_one_does_not_count() {
    let mut node = Node::in_both();
    let (own, warehouse) = (own(ALICE, "call:>"), in_warehouse(ALICE, "call:>"));
    let bare = || TopicPath::parse("orders/list").unwrap();
    let greet = |node: &mut Node, claims: Vec<NetworkClaim>| {
        let networks: Vec<NetworkId> = claims.iter().map(|claim| claim.network).collect();
        node.meet(LINK, &networks);
        node.claims(LINK, claims);
        node.feed(AccessInput::Verified { peer: alice(), link: LINK });
        node.0.machine.localise(alice(), bare())
    };
    let default = NetworkClaim { is_default: true, ..claim(&own) };
    assert_eq!(greet(&mut node, vec![default.clone(), claim(&warehouse)]), Some(bare()));
    // Its token for the default one has expired, and it does not claim it.
    assert_eq!(greet(&mut node, vec![claim(&warehouse)]), None, "not in the warehouse");
    assert_eq!(greet(&mut node, vec![default, claim(&warehouse)]), Some(bare()));
}
