//! Every attack on tokens that protocols.md, section 1, lists; each must fail, and be named.

use bytes::Bytes;
use dunlin_proto::v1;
use prost::Message;

use super::*;
use crate::auth::codec::SignedBytes;
use crate::auth::token::{LINKS_MAX, TOKEN_BYTES_MAX};

const ALICE: u8 = 10;
const BOB: u8 = 11;
const MALLORY: u8 = 66;

fn wire(token: &Token) -> v1::Token {
    v1::Token::decode(token.as_bytes().clone()).unwrap()
}

fn body(token: &Token, link: usize) -> v1::TokenBody {
    v1::TokenBody::decode(wire(token).links[link].body.clone()).unwrap()
}

fn read(wire: &v1::Token) -> Result<Token, TokenRefusal> {
    Token::decode(wire.encode_to_vec().into())
}

/// A link that `signer` signs rightly behind `parent`, whatever it says.
fn forge(parent: &Token, signer: &Identity, body: v1::TokenBody) -> Token {
    let mut wire = wire(parent);
    let last = SignedBytes::from_wire(wire.links.last().unwrap().clone()).unwrap();
    let id = network().id();
    let prefix = [b"dunlin/token/v1", &id.as_bytes()[..], &last.hash()];
    wire.links.push(SignedBytes::sign(signer, &prefix, body.encode_to_vec()).to_wire());
    read(&wire).unwrap()
}

/// What Alice has: calls and events below `a`, which she may give on.
fn of_alice() -> Token {
    issue(grant(identity(ALICE).id(), "call:a/> publish:a/> delegate:a/>"))
}

/// What she gives to Bob.
fn to_bob(permissions: &str) -> Grant {
    Grant { depth_left: 1, id: TokenId([5; 16]), ..grant(identity(BOB).id(), permissions) }
}

fn of_bob() -> Token {
    of_alice().attenuate(&identity(ALICE), to_bob("call:a/b/*")).unwrap()
}

#[test]
fn honest_tokens_count() {
    let verified = judge(&of_alice(), &identity(ALICE), NOON).unwrap();
    assert_eq!(verified.subject, identity(ALICE).id());
    let verified = judge(&of_bob(), &identity(BOB), NOON).unwrap();
    assert_eq!(verified.grants.permissions().to_string(), "call:a/b/*");
}

#[test]
fn expiry_counts_on_both_sides_of_the_skew() {
    let alice = identity(ALICE);
    let at = |now| judge(&of_alice(), &alice, now);
    let nano = Duration::from_nanos(1);
    assert!(matches!(at(NOON - SKEW - nano), Err(TokenRefusal::NotYetValid { link: 1, .. })));
    assert!(at(NOON - SKEW).is_ok());
    assert!(at(NOON + HOUR + SKEW - nano).is_ok());
    let late = at(NOON + HOUR + SKEW).unwrap_err();
    assert!(matches!(late, TokenRefusal::Expired { link: 1, .. }));
    assert_eq!(late.code(), AccessCode::TokenExpired);
}

#[test]
fn a_stolen_token_is_worth_nothing_under_another_key() {
    let refusal = judge(&of_alice(), &identity(MALLORY), NOON).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::OtherSubject { .. }));
    assert_eq!(refusal.code(), AccessCode::TokenRefused);
}

#[test]
fn a_token_of_another_network_does_not_count() {
    let other = DescriptorChain::found(&root(), [8; 16], claims()).unwrap();
    assert_ne!(other.id(), network().id());
    let token = Token::issue(&issuer(), 7, other.id(), grant(identity(ALICE).id(), "call:>"));
    let refusal = judge(&token.unwrap(), &identity(ALICE), NOON).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::OtherNetwork { link: 1, .. }));
}

#[test]
fn the_network_that_a_link_names_is_the_one_that_was_signed_for() {
    // The body names our network, the signature is for another one.
    let token = of_alice();
    let other = [0; 32];
    let prefix = [b"dunlin/token/v1", &other[..], &[0; 32]];
    let mut forged = wire(&token);
    let body = forged.links[0].body.to_vec();
    forged.links[0] = SignedBytes::sign(&issuer(), &prefix, body).to_wire();
    let refusal = judge(&read(&forged).unwrap(), &identity(ALICE), NOON).unwrap_err();
    assert_eq!(refusal, TokenRefusal::BadSignature { link: 1 });
}

#[test]
fn a_signature_for_another_purpose_does_not_count() {
    let token = of_alice();
    let mut forged = wire(&token);
    let id = network().id();
    let prefix = [b"dunlin/network/v1", &id.as_bytes()[..]];
    let body = forged.links[0].body.to_vec();
    forged.links[0] = SignedBytes::sign(&issuer(), &prefix, body).to_wire();
    let refusal = judge(&read(&forged).unwrap(), &identity(ALICE), NOON).unwrap_err();
    assert_eq!(refusal, TokenRefusal::BadSignature { link: 1 });
}

#[test]
fn permissions_cannot_be_widened() {
    let alice = identity(ALICE);
    for permissions in ["call:>", "call:*/b", "serve:a/b", "call:a/b delegate:>", "subscribe:a/b"] {
        let refused = of_alice().attenuate(&alice, to_bob(permissions)).unwrap_err();
        assert!(matches!(refused, TokenRefusal::WidenedPermission { link: 2, .. }), "{refused}");
        let mut wide = body(&of_bob(), 1);
        wide.permissions = permissions.parse::<Permissions>().unwrap().to_wire();
        let refusal = judge(&forge(&of_alice(), &alice, wide), &identity(BOB), NOON).unwrap_err();
        assert_eq!(refusal, refused);
    }
}

#[test]
fn what_may_not_be_delegated_cannot_be_given_on() {
    let alice = identity(ALICE);
    let token = issue(grant(alice.id(), "call:a/> delegate:a/b"));
    assert!(token.attenuate(&alice, to_bob("call:a/b")).is_ok());
    let refused = token.attenuate(&alice, to_bob("call:a/c")).unwrap_err();
    assert!(matches!(refused, TokenRefusal::WidenedPermission { link: 2, .. }), "{refused}");
    assert!(refused.to_string().contains("needs delegate:a/c"), "{refused}");
}

#[test]
fn a_key_that_proves_nothing_is_issued_nothing() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let subject = crate::base::PeerId::from_bytes(neutral);
    let network = network().id();
    let refused = Token::issue(&issuer(), 7, network, grant(subject, "call:a/>")).unwrap_err();
    assert!(matches!(refused, TokenRefusal::Malformed(_)), "{refused}");
    let alice = identity(ALICE);
    let token = issue(grant(alice.id(), "call:a/> delegate:a/>"));
    let child = Grant { subject, ..to_bob("call:a/b") };
    assert!(token.attenuate(&alice, child).is_err());
}

#[test]
fn validity_cannot_be_widened() {
    let alice = identity(ALICE);
    let milli = Duration::from_millis(1);
    for (not_before, expires) in [(NOON - milli, NOON + HOUR), (NOON, NOON + HOUR + milli)] {
        let wide = Grant { not_before, expires, ..to_bob("call:a/b") };
        let refused = of_alice().attenuate(&alice, wide).unwrap_err();
        assert_eq!(refused, TokenRefusal::WidenedValidity { link: 2 });
        let mut wide = body(&of_bob(), 1);
        wide.not_before_ms = not_before.as_unix_nanos() / 1_000_000;
        wide.expires_ms = expires.as_unix_nanos() / 1_000_000;
        let refusal = judge(&forge(&of_alice(), &alice, wide), &identity(BOB), NOON).unwrap_err();
        assert_eq!(refusal, refused);
    }
}

#[test]
fn depth_cannot_be_widened() {
    let alice = identity(ALICE);
    let wide = Grant { depth_left: 2, ..to_bob("call:a/b") };
    let refused = of_alice().attenuate(&alice, wide).unwrap_err();
    assert_eq!(refused, TokenRefusal::WidenedDepth { link: 2 });
    let mut wide = body(&of_bob(), 1);
    wide.depth_left = 3;
    let refusal = judge(&forge(&of_alice(), &alice, wide), &identity(BOB), NOON).unwrap_err();
    assert_eq!(refusal, refused);
    // At zero nothing follows.
    let last = Grant { depth_left: 0, ..grant(alice.id(), "call:> delegate:>") };
    let none = Grant { depth_left: 0, ..to_bob("call:a") };
    let refused = issue(last).attenuate(&alice, none).unwrap_err();
    assert_eq!(refused, TokenRefusal::WidenedDepth { link: 2 });
}

#[test]
fn links_cannot_be_spliced_from_two_chains() {
    // Bob has a second token, with fewer links of trust behind it; its last link is put on Alice's.
    let carol = identity(12);
    let wide = issue(grant(carol.id(), "call:> delegate:>"));
    let from_carol = wide.attenuate(&carol, to_bob("call:>")).unwrap();
    let mut spliced = wire(&of_alice());
    spliced.links.push(wire(&from_carol).links[1].clone());
    let refusal = judge(&read(&spliced).unwrap(), &identity(BOB), NOON).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::BrokenChain { link: 2, .. }));
    // The same, when the same peer holds both: what was narrowed on one chain is put on another.
    let rich = issue(Grant {
        id: TokenId([6; 16]),
        ..grant(identity(ALICE).id(), "call:a/b/> publish:> delegate:>")
    });
    let mut spliced = wire(&rich);
    spliced.links.push(wire(&of_bob()).links[1].clone());
    let refusal = judge(&read(&spliced).unwrap(), &identity(BOB), NOON).unwrap_err();
    assert_eq!(refusal, TokenRefusal::BadSignature { link: 2 });
}

#[test]
fn links_cannot_be_reordered() {
    let mut reordered = wire(&of_bob());
    reordered.links.swap(0, 1);
    for peer in [ALICE, BOB] {
        // The second link has no epoch, the first one has: already the shape is wrong.
        let refusal = read(&reordered).and_then(|token| judge(&token, &identity(peer), NOON));
        assert!(refusal.is_err());
    }
    // Also where the shape is right: three links of which the last two change places.
    let bob = identity(BOB);
    let give = |depth_left, subject: &Identity| Grant {
        depth_left,
        ..grant(subject.id(), "call:a/b delegate:a/b")
    };
    let middle = of_alice().attenuate(&identity(ALICE), give(1, &bob)).unwrap();
    let mut three = wire(&middle.attenuate(&bob, give(0, &bob)).unwrap());
    assert!(judge(&read(&three).unwrap(), &bob, NOON).is_ok());
    three.links.swap(1, 2);
    assert!(judge(&read(&three).unwrap(), &bob, NOON).is_err());
}

#[test]
fn a_truncated_chain_belongs_to_somebody_else_or_is_broken() {
    let whole = wire(&of_bob());
    // Without the last link it is Alice's, which Bob is not.
    let head = v1::Token { links: whole.links[..1].to_vec() };
    let refusal = judge(&read(&head).unwrap(), &identity(BOB), NOON).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::OtherSubject { .. }));
    // Without the first, Alice is an issuer, which nobody trusts her to be.
    let tail = v1::Token { links: whole.links[1..].to_vec() };
    let refusal = judge(&read(&tail).unwrap(), &identity(BOB), NOON).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::UntrustedIssuer { .. }));
    let refusal = read(&v1::Token { links: Vec::new() }).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::Links { links: 0, .. }));
    for cut in 0..of_bob().as_bytes().len() {
        let refusal = Token::decode(of_bob().as_bytes().slice(..cut));
        assert!(refusal.is_err() || refusal.unwrap().claims().len() == 1, "cut at {cut}");
    }
}

#[test]
fn a_re_encoded_chain_does_not_count() {
    // A field that nobody knows, a number longer than need be, a field twice, fields out of order: a
    // lenient reader would see the same.
    let token = of_alice();
    let link = &wire(&token).links[0];
    let with = |body: Vec<u8>| {
        read(&v1::Token { links: vec![v1::Signed { body: body.into(), ..link.clone() }] })
    };
    let plain = link.body.to_vec();
    let unknown = [&plain[..], &[0xa0, 0x06, 1]].concat();
    let twice = [&plain[..], &[0x50, 7]].concat();
    let long = {
        // Field 10, the epoch, is last: 0x50, 7.
        assert_eq!(plain[plain.len() - 2..], [0x50, 7]);
        [&plain[..plain.len() - 1], &[0x87, 0x00]].concat()
    };
    let moved = [&[0x50, 7], &plain[..plain.len() - 2]].concat();
    for body in [unknown, twice, long, moved] {
        assert!(matches!(with(body), Err(TokenRefusal::Malformed(_))));
    }
    assert!(with(plain).is_ok());
    // And the outer message.
    let trailing = [&token.as_bytes()[..], &[0x10, 1]].concat();
    assert!(matches!(Token::decode(trailing.into()), Err(TokenRefusal::Malformed(_))));
}

#[test]
fn a_post_dated_token_does_not_count() {
    // Dated after a revocation that is still to come, it would outlive it.
    let alice = identity(ALICE);
    let late = Duration::from_millis(1);
    let dated = |issued_at| issue(Grant { issued_at, ..grant(alice.id(), "call:>") });
    assert!(judge(&dated(NOON + SKEW), &alice, NOON).is_ok());
    let refusal = judge(&dated(NOON + SKEW + late), &alice, NOON).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::PostDated { link: 1, .. }));
}

#[test]
fn the_gateway_is_no_confused_deputy() {
    // The gateway may do everything for itself. For Alice it presents her chain with a last link to
    // itself, and is allowed what she may, however much its own token allows.
    let gateway = identity(20);
    let own = issue(grant(gateway.id(), "call:> serve:> delegate:>"));
    assert!(judge(&own, &gateway, NOON).is_ok());
    let for_alice = Grant { depth_left: 0, ..grant(gateway.id(), "call:a/>") };
    let token = of_alice().attenuate(&identity(ALICE), for_alice).unwrap();
    let verified = judge(&token, &gateway, NOON).unwrap();
    let path = |text| crate::topic::TopicPath::parse(text).unwrap();
    assert!(verified.grants.allow(Permission::Call, &path("a/b")));
    assert!(!verified.grants.allow(Permission::Call, &path("b/c")));
    assert!(!verified.grants.allow(Permission::Serve, &path("a/b")));
    // It cannot make her chain wider, nor act for her with her token alone.
    let wider = Grant { depth_left: 0, ..grant(gateway.id(), "call:>") };
    assert!(of_alice().attenuate(&identity(ALICE), wider).is_err());
    assert!(of_alice().attenuate(&gateway, grant(gateway.id(), "call:a/b")).is_err());
    assert!(judge(&of_alice(), &gateway, NOON).is_err());
}

#[test]
fn weak_signatures_do_not_count() {
    // S + L: the same signature in another form.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let token = of_alice();
    let mut forged = wire(&token);
    let mut signature = forged.links[0].signature.to_vec();
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    forged.links[0].signature = signature.into();
    let refusal = judge(&read(&forged).unwrap(), &identity(ALICE), NOON).unwrap_err();
    assert_eq!(refusal, TokenRefusal::BadSignature { link: 1 });

    // An issuer whose key has small order, by a careless root: anybody could sign for it.
    let mut small = [0; 32];
    small[0] = 1;
    let careless = changed(|claims| claims.issuers.push((PeerId::from_bytes(small), 1)));
    let mut body = body(&token, 0);
    body.issuer = Bytes::copy_from_slice(&small);
    body.issuer_epoch = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    forged.links[0] = v1::Signed {
        body: body.encode_to_vec().into(),
        signature: Bytes::copy_from_slice(&signature),
    };
    let forged = read(&forged).unwrap();
    let refusal = validate(&forged, careless.current(), &identity(ALICE).id(), NOON).unwrap_err();
    assert_eq!(refusal, TokenRefusal::BadSignature { link: 1 });
}

#[test]
fn a_wrong_signature_anywhere_is_found() {
    let token = of_bob();
    for link in 0..2 {
        let mut forged = wire(&token);
        let mut signature = forged.links[link].signature.to_vec();
        signature[3] ^= 1;
        forged.links[link].signature = signature.into();
        let refusal = judge(&read(&forged).unwrap(), &identity(BOB), NOON).unwrap_err();
        assert_eq!(refusal, TokenRefusal::BadSignature { link: link + 1 });
    }
}

#[test]
fn an_issuer_counts_by_key_and_epoch() {
    let alice = identity(ALICE);
    let by = |issuer: &Identity, epoch| {
        Token::issue(issuer, epoch, network().id(), grant(alice.id(), "call:>")).unwrap()
    };
    let refusal = judge(&by(&identity(MALLORY), 7), &alice, NOON).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::UntrustedIssuer { .. }));
    for epoch in [6, 8] {
        let refusal = judge(&by(&issuer(), epoch), &alice, NOON).unwrap_err();
        assert!(matches!(refusal, TokenRefusal::OtherEpoch { trusted: 7, .. }));
    }
    // The root makes descriptors, not tokens.
    assert!(judge(&by(&root(), 7), &alice, NOON).is_err());
}

#[test]
fn revocation_takes_every_link_and_compares_with_the_time_of_issue() {
    let judge_in = |network: DescriptorChain, token: &Token, peer: u8| {
        validate(token, network.current(), &identity(peer).id(), NOON + HOUR / 2)
    };
    // By id: Alice's, and with it Bob's.
    let revoked = || changed(|claims| claims.revoked_tokens.push(TokenId([4; 16])));
    for (token, peer) in [(of_alice(), ALICE), (of_bob(), BOB)] {
        let refusal = judge_in(revoked(), &token, peer).unwrap_err();
        assert_eq!(refusal, TokenRefusal::Revoked { link: 1, id: TokenId([4; 16]) });
    }
    // Bob's alone.
    let revoked = || changed(|claims| claims.revoked_tokens.push(TokenId([5; 16])));
    assert!(judge_in(revoked(), &of_alice(), ALICE).is_ok());
    assert!(judge_in(revoked(), &of_bob(), BOB).is_err());
    // By epoch, of the network, of the issuer, and of somebody who delegates.
    let milli = Duration::from_millis(1);
    let before = |at| changed(|claims| claims.revoked_before = at);
    assert!(judge_in(before(NOON), &of_alice(), ALICE).is_ok(), "issued at the epoch");
    let refusal = judge_in(before(NOON + milli), &of_alice(), ALICE).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::RevokedByEpoch { link: 1, .. }));
    // Not compared with now: a later epoch that nobody has reached yet still revokes what is older.
    assert!(judge_in(before(NOON + HOUR), &of_alice(), ALICE).is_err());
    let by = |key: PeerId| changed(|claims| claims.revoked_issuers.push((key, NOON + milli)));
    assert!(judge_in(by(issuer().id()), &of_alice(), ALICE).is_err());
    assert!(judge_in(by(identity(ALICE).id()), &of_alice(), ALICE).is_ok());
    let refusal = judge_in(by(identity(ALICE).id()), &of_bob(), BOB).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::RevokedByEpoch { link: 2, .. }));
}

#[test]
fn the_first_broken_rule_is_named_cheap_ones_first() {
    // Everything is wrong with it, the signature too.
    let mut forged = wire(&of_alice());
    forged.links[0].signature = vec![0; 64].into();
    let token = read(&forged).unwrap();
    let network = changed(|claims| {
        claims.revoked_before = NOON + HOUR;
        claims.issuers = vec![(issuer().id(), 8)];
    });
    let judge =
        |peer: u8, now| validate(&token, network.current(), &identity(peer).id(), now).unwrap_err();
    assert!(matches!(judge(MALLORY, NOON + 9 * HOUR), TokenRefusal::OtherSubject { .. }));
    assert!(matches!(judge(ALICE, NOON + 9 * HOUR), TokenRefusal::Expired { .. }));
    assert!(matches!(judge(ALICE, NOON), TokenRefusal::OtherEpoch { .. }));
    let network = changed(|claims| claims.revoked_before = NOON + HOUR);
    let refusal = validate(&token, network.current(), &identity(ALICE).id(), NOON).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::RevokedByEpoch { .. }));
}

#[test]
fn parser_bombs_are_refused_before_they_cost_anything() {
    let refusal = Token::decode(vec![0; TOKEN_BYTES_MAX + 1].into()).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::TooLarge { .. }));
    // As many empty links as fit.
    let links = vec![v1::Signed::default(); TOKEN_BYTES_MAX / 2];
    let refusal = read(&v1::Token { links }).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::Links { max: LINKS_MAX, .. }));
    // As many patterns as fit, each to be compared with each of the parent's.
    let mut bomb = body(&of_alice(), 0);
    let patterns = vec![Bytes::from_static(b"a/*"); 700];
    bomb.permissions = vec![v1::Permission { kind: 1, patterns }];
    let mut forged = wire(&of_alice());
    forged.links[0].body = bomb.encode_to_vec().into();
    assert!(matches!(read(&forged), Err(TokenRefusal::Malformed(_))));
    // Lengths that point beyond the end, and numbers that end nowhere.
    for bytes in [&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 100], &[0x0b; 100]] {
        assert!(matches!(Token::decode(bytes.to_vec().into()), Err(TokenRefusal::Malformed(_))));
    }
}

#[test]
fn a_chain_ends_at_four_links() {
    let peers: Vec<Identity> = (30..36).map(identity).collect();
    let give = |depth_left, subject: &Identity| Grant {
        depth_left,
        ..grant(subject.id(), "call:a delegate:a")
    };
    let mut token = issue(give(3, &peers[0]));
    for (depth, pair) in [(2, &peers[0..2]), (1, &peers[1..3]), (0, &peers[2..4])] {
        token = token.attenuate(&pair[0], give(depth, &pair[1])).unwrap();
    }
    assert_eq!(token.claims().len(), LINKS_MAX);
    assert!(judge(&token, &peers[3], NOON).is_ok());
    let refusal = token.attenuate(&peers[3], give(0, &peers[4])).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::Links { links: 5, .. }));
    // No issuer can promise more.
    let refusal = Token::issue(&issuer(), 7, network().id(), give(4, &peers[0])).unwrap_err();
    assert!(matches!(refusal, TokenRefusal::Malformed(_)));
}
