//! Tokens and descriptors there and back, and what arrives instead of them.

use proptest::prelude::*;

use super::*;
use crate::auth::descriptor::FormerRegistry;

/// As many as there are members, up to two.
fn formers(members: u8) -> Vec<FormerRegistry> {
    let former = |epoch: u64| FormerRegistry {
        epoch,
        members: (0..3).map(|n| identity(50 + n).id()).collect(),
        abandoned: epoch == 1,
    };
    (0..2).map(former).take(members.into()).collect()
}

proptest! {
    #[test]
    fn tokens_read_back_as_they_were_issued(
        permissions in proptest::collection::vec(
            "(call|serve|publish|subscribe|dht-read|dht-write|delegate):[a-c*](/[a-c*]){0,3}(/>)?",
            0..10,
        ),
        from in 0u64..1_000_000, life in 1u64..1_000_000, issued in 0u64..1_000_000,
        depth_left in 0u32..4, id: [u8; 16], epoch: u64, subject: [u8; 32],
    ) {
        let millis = |millis: u64| NOON + Duration::from_millis(millis);
        let grant = Grant {
            subject: PeerId::from_bytes(subject),
            permissions: permissions.join(" ").parse().unwrap(),
            not_before: millis(from),
            expires: millis(from + life),
            issued_at: millis(issued),
            depth_left,
            id: TokenId(id),
        };
        let token = Token::issue(&issuer(), epoch, network().id(), grant.clone()).unwrap();
        prop_assert_eq!(Token::decode(token.as_bytes().clone()), Ok(token.clone()));
        prop_assert_eq!(Token::from_text(token.to_text().as_bytes()), Ok(token.clone()));
        let claims = token.claims().next().unwrap();
        prop_assert_eq!(claims.issuer_epoch, epoch);
        prop_assert_eq!(&claims.permissions, &grant.permissions);
        prop_assert_eq!(claims.expires, grant.expires);
        prop_assert_eq!(claims.issued_at, grant.issued_at);
        prop_assert_eq!(claims.id, grant.id);
    }

    #[test]
    fn any_change_of_a_token_is_refused(at: prop::sample::Index, bit in 0u32..8) {
        let alice = identity(10);
        let token = issue(grant(alice.id(), "call:a/> delegate:a/>"));
        let bob = identity(11);
        let give = Grant { depth_left: 1, ..grant(bob.id(), "call:a/b") };
        let token = token.attenuate(&alice, give).unwrap();
        let mut bytes = token.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let judged = Token::decode(bytes.into()).and_then(|token| judge(&token, &bob, NOON));
        prop_assert!(judged.is_err());
    }

    #[test]
    fn any_bytes_are_a_token_or_are_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        if let Ok(token) = Token::decode(bytes.clone().into()) {
            prop_assert_eq!(token.as_bytes(), &bytes[..]);
        }
        let _ = DescriptorChain::decode(bytes.clone().into());
        let _ = Token::from_text(&bytes);
    }

    #[test]
    fn descriptors_read_back_as_they_were_signed(
        name in "[a-zA-Z0-9._-]{1,64}",
        issuers in proptest::collection::btree_map(any::<[u8; 32]>(), any::<u64>(), 0..8),
        tokens in proptest::collection::vec(any::<[u8; 16]>(), 0..20),
        revoked in proptest::collection::btree_map(any::<[u8; 32]>(), 0u64..1_000_000, 0..8),
        members in proptest::sample::select(&[0u8, 1, 3, 5]),
        bytes_max in 0u32..100_000,
    ) {
        let claims = DescriptorClaims {
            name,
            issuers: issuers.into_iter().map(|(k, e)| (PeerId::from_bytes(k), e)).collect(),
            revoked_tokens: tokens.into_iter().map(TokenId).collect(),
            revoked_issuers: revoked
                .into_iter()
                .map(|(k, at)| (PeerId::from_bytes(k), NOON + Duration::from_millis(at)))
                .collect(),
            registry_members: (0..members).map(|n| identity(40 + n).id()).collect(),
            registry_epoch: 3,
            former_registries: formers(members),
            message_bytes_max: (bytes_max > 0).then_some(bytes_max),
            dissemination: Dissemination::Tree,
            ..claims()
        };
        let chain = DescriptorChain::found(&root(), [1; 16], claims.clone()).unwrap();
        prop_assert_eq!(DescriptorChain::decode(chain.encode()), Ok(chain.clone()));
        prop_assert_eq!(DescriptorChain::from_text(chain.to_text().as_bytes()), Ok(chain.clone()));
        let read = chain.current().claims();
        for (issuer, epoch) in &claims.issuers {
            prop_assert_eq!(chain.current().issuer_epoch(issuer), Some(*epoch));
        }
        for id in &claims.revoked_tokens {
            prop_assert!(chain.current().is_revoked(id));
        }
        for (key, at) in &claims.revoked_issuers {
            prop_assert_eq!(chain.current().revoked_before(key), *at);
        }
        prop_assert_eq!(&read.name, &claims.name);
        prop_assert_eq!(read.message_bytes_max, claims.message_bytes_max);
        prop_assert_eq!(read.registry_members.len(), usize::from(members));
        prop_assert_eq!(read.former_registries.len(), usize::from(members).min(2));
        prop_assert!(read.former_registries.iter().all(|former| former.epoch < 3));
    }

    #[test]
    fn any_change_of_a_descriptor_is_refused(at: prop::sample::Index, bit in 0u32..8) {
        let chain = changed(|claims| claims.revoked_tokens.push(TokenId([3; 16])));
        let mut bytes = chain.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(DescriptorChain::decode(bytes.into()).is_err());
    }
}

#[test]
fn texts_say_what_they_should_have_been() {
    let token = issue(grant(identity(10).id(), "call:>"));
    let error = DescriptorChain::from_text(token.to_text().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("dunlin-network-v1:"), "{error}");
    let error = Token::from_text(network().to_text().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("dunlin-token-v1:"), "{error}");
    let with_newline = format!(" {}\n", token.to_text());
    assert_eq!(Token::from_text(with_newline.as_bytes()), Ok(token.clone()));
    assert!(Token::from_text(format!("{}=", token.to_text()).as_bytes()).is_err());
}
