//! The chain of roots: who takes over, what wins, and what is a forgery.

use dunlin_proto::v1;
use prost::Message;

use super::*;

fn later(chain: &DescriptorChain, signer: &Identity, next: u8) -> DescriptorChain {
    let claims = DescriptorClaims { next_root: identity(next).id(), ..claims() };
    chain.succeed(signer, claims).unwrap()
}

fn sequence(chain: &DescriptorChain) -> u64 {
    chain.current().claims().sequence
}

fn links(chain: &DescriptorChain) -> Vec<v1::Signed> {
    v1::DescriptorChain::decode(chain.encode()).unwrap().descriptors
}

fn chain_of(descriptors: Vec<v1::Signed>) -> Result<DescriptorChain, DescriptorRefusal> {
    DescriptorChain::decode(v1::DescriptorChain { descriptors }.encode_to_vec().into())
}

#[test]
fn a_network_keeps_its_id_through_all_its_descriptors() {
    let genesis = network();
    assert_eq!((sequence(&genesis), genesis.current().is_genesis()), (0, true));
    let second = later(&later(&genesis, &root(), 2), &root(), 2);
    assert_eq!((sequence(&second), links(&second).len()), (2, 2), "one in between is not needed");
    let third = later(&second, &next_root(), 50);
    assert_eq!((sequence(&third), links(&third).len()), (3, 2));
    let fourth = later(&third, &next_root(), 50);
    let fifth = later(&fourth, &identity(50), 51);
    assert_eq!((sequence(&fifth), links(&fifth).len()), (5, 3), "one of each root");
    for chain in [&second, &third, &fourth, &fifth] {
        assert_eq!(chain.id(), genesis.id());
        assert_eq!(DescriptorChain::decode(chain.encode()).as_ref(), Ok(chain));
        assert_eq!(chain.check_newer(&genesis), Ok(()));
        assert!(genesis.check_newer(chain).is_err());
    }
    assert_eq!(fifth.check_newer(&third), Ok(()));
}

#[test]
fn the_highest_sequence_wins_and_replaying_an_old_one_does_nothing() {
    let (first, second) = (later(&network(), &root(), 2), changed(|_| ()));
    assert_eq!(first.check_newer(&second), Err(DescriptorRefusal::NotNewer { known: 1 }));
    let newer = later(&first, &root(), 2);
    assert_eq!(newer.check_newer(&first), Ok(()));
    assert_eq!(first.check_newer(&newer), Err(DescriptorRefusal::NotNewer { known: 2 }));
}

#[test]
fn a_stolen_root_cannot_outrun_its_successor() {
    // The thief signs on and on; the next root takes over from what it knows.
    let known = later(&network(), &root(), 2);
    let mut stolen = known.clone();
    for _ in 0..5 {
        stolen = later(&stolen, &root(), 2);
    }
    let taken_over = later(&known, &next_root(), 50);
    assert!(sequence(&stolen) > sequence(&taken_over));
    assert_eq!(taken_over.check_newer(&stolen), Ok(()));
    assert!(stolen.check_newer(&taken_over).is_err());
    // It cannot name its own successor: who comes after it is in the genesis.
    let mut forged = links(&network());
    let thief = DescriptorChain::found(
        &root(),
        [7; 16],
        DescriptorClaims { next_root: identity(66).id(), ..claims() },
    );
    forged.push(links(&later(&thief.unwrap(), &root(), 66))[1].clone());
    assert!(matches!(chain_of(forged), Err(DescriptorRefusal::BrokenChain(2, _))));
}

#[test]
fn a_root_that_names_two_successors_is_found_out() {
    let taken_over = later(&network(), &next_root(), 50);
    let other = later(&network(), &next_root(), 66);
    let captured = later(&other, &identity(66), 67);
    assert_eq!(captured.check_newer(&taken_over), Err(DescriptorRefusal::Fork));
    assert_eq!(other.check_newer(&taken_over), Err(DescriptorRefusal::Fork));
}

#[test]
fn strangers_sign_nothing() {
    let stranger = identity(66);
    let refused = network().succeed(&stranger, claims()).unwrap_err();
    assert_eq!(refused, DescriptorRefusal::NotRoot(stranger.id()));
    // A genesis of its own has another id.
    let own = DescriptorChain::found(&stranger, [9; 16], claims()).unwrap();
    assert_ne!(own.id(), network().id());
    let refused = later(&own, &stranger, 2).check_newer(&network()).unwrap_err();
    assert!(matches!(refused, DescriptorRefusal::OtherNetwork { .. }));
    // A descriptor of another network, or by another root, behind our genesis.
    let mut forged = links(&network());
    forged.push(links(&later(&own, &stranger, 2))[1].clone());
    assert!(matches!(chain_of(forged), Err(DescriptorRefusal::BrokenChain(2, _))));
    // Without the genesis there is nothing to follow.
    let headless = vec![links(&changed(|_| ()))[1].clone()];
    assert!(matches!(chain_of(headless), Err(DescriptorRefusal::BrokenChain(1, _))));
    assert!(chain_of(Vec::new()).is_err());
}

#[test]
fn an_expired_descriptor_freezes_nobody() {
    let chain = network();
    let expires = chain.current().claims().expires;
    assert_eq!(chain.check_time(expires + SKEW - Duration::from_nanos(1)), Ok(()));
    let refused = chain.check_time(expires + SKEW).unwrap_err();
    assert!(matches!(refused, DescriptorRefusal::Expired { sequence: 0, .. }));
    // What led to it may have expired long ago.
    let renewed =
        chain.succeed(&root(), DescriptorClaims { expires: expires + HOUR, ..claims() }).unwrap();
    assert_eq!(renewed.check_time(expires + SKEW), Ok(()));
}

#[test]
fn claims_beyond_their_bounds_are_refused() {
    let wrong: [fn(&mut DescriptorClaims); 8] = [
        |c| c.name.clear(),
        |c| c.name = "two words".into(),
        |c| c.name = "x".repeat(65),
        |c| c.next_root = root().id(),
        |c| c.registry_members = vec![identity(1).id(), identity(2).id()],
        |c| c.issuers.push((issuer().id(), 8)),
        |c| c.issuers = (0..65).map(|n| (identity(n).id(), 0)).collect(),
        |c| c.revoked_tokens = (0..2_049u16).map(id_of).collect(),
    ];
    for (number, change) in wrong.into_iter().enumerate() {
        let mut claims = claims();
        change(&mut claims);
        let refused = DescriptorChain::found(&root(), [9; 16], claims).unwrap_err();
        assert!(matches!(refused, DescriptorRefusal::Descriptor(1, _)), "case {number}");
    }
}

fn id_of(number: u16) -> TokenId {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    TokenId(id)
}

#[test]
fn other_acceptors_have_a_higher_epoch_and_name_those_before_them() {
    let ids = |of: &[u8]| of.iter().map(|n| identity(*n).id()).collect::<Vec<_>>();
    let first = network().succeed(&root(), claims().with_acceptors(ids(&[40, 41, 42]), false));
    let first = first.unwrap();
    let epoch = |chain: &DescriptorChain| chain.current().claims().registry_epoch;
    assert_eq!(epoch(&first), 1);
    assert_eq!(first.current().claims().former_registries, [], "there were none before");
    let second = first.current().claims().with_acceptors(ids(&[41, 42, 43]), false);
    let second = first.succeed(&root(), second).unwrap();
    let third = second.current().claims().with_acceptors(ids(&[44]), true);
    let third = second.succeed(&root(), third).unwrap();
    assert_eq!(DescriptorChain::decode(third.encode()).as_ref(), Ok(&third));
    assert_eq!(third.check_newer(&first), Ok(()));
    let formers = |chain: &DescriptorChain| {
        let formers = &chain.current().claims().former_registries;
        formers.iter().map(|of| (of.epoch, of.members.len(), of.abandoned)).collect::<Vec<_>>()
    };
    assert_eq!(formers(&second), [(1, 3, false)]);
    assert_eq!(formers(&third), [(1, 3, true), (2, 3, true)]);
    // The same acceptors in the same epoch are no change; others are, and so is a lower epoch.
    let same = third.succeed(&root(), third.current().claims().clone()).unwrap();
    assert_eq!(same.check_newer(&third), Ok(()));
    let other =
        DescriptorClaims { registry_members: ids(&[45]), ..third.current().claims().clone() };
    let other = third.succeed(&root(), other).unwrap();
    let refused = other.check_newer(&third).unwrap_err();
    assert_eq!(refused, DescriptorRefusal::AcceptorsEpoch { epoch: 3, known: 3 });
    let lower = DescriptorClaims { registry_epoch: 2, ..third.current().claims().clone() };
    let lower = DescriptorClaims { former_registries: Vec::new(), ..lower };
    let refused = third.succeed(&root(), lower).unwrap().check_newer(&third).unwrap_err();
    assert_eq!(refused, DescriptorRefusal::AcceptorsEpoch { epoch: 2, known: 3 });
    // What no set of acceptors is.
    for (epoch, members) in [(3, ids(&[40])), (0, ids(&[40, 41])), (0, ids(&[40, 40, 41]))] {
        let mut wrong = third.current().claims().clone();
        wrong.former_registries =
            vec![crate::auth::descriptor::FormerRegistry { epoch, members, abandoned: false }];
        let refused = third.succeed(&root(), wrong).unwrap_err();
        assert!(matches!(refused, DescriptorRefusal::Descriptor(..)), "{refused}");
    }
    let mut many = third.current().claims().clone();
    for _ in 0..20 {
        many = many.with_acceptors(ids(&[40]), false);
    }
    let refused = third.succeed(&root(), many).unwrap_err().to_string();
    assert!(refused.contains("at most 16"), "{refused}");
}
