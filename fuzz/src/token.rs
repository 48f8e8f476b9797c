//! Tokens: whatever arrives is read or refused, nobody forges one, and no chain gives more than each of
//! its links.

use std::sync::LazyLock;

use bytes::Bytes;
use dunlin_core::auth::{
    DescriptorChain, DescriptorClaims, Dissemination, Grant, Permission, Permissions, Token,
    TokenId, validate,
};
use dunlin_core::topic::TopicPath;
use dunlin_core::{Identity, WallTime};

use crate::tape::Tape;

/// Reads the rest as a token.
pub const READ: u8 = 0;
/// Changes the honest token: how many changes, then for each where and into what.
pub const CHANGE: u8 = 1;
/// Builds a chain: how many links, then each grant.
pub const CHAIN: u8 = 2;
const OPS: usize = 3;

const NOON_MS: u64 = 1_795_262_400_000;
const PATTERNS: [&str; 8] = ["a", "b", "a/*", "a/>", ">", "*", "{x}/b", "a/b/c"];
const PATHS: [&str; 7] = ["a", "b", "a/b", "a/c", "a/b/c", "c/b", "z"];

/// The first byte says what to do.
pub fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    let network = network();
    match tape.pick(OPS) as u8 {
        READ => {
            if let Some(token) = read(tape.rest()) {
                let counts = validate(&token, network.current(), &peer(0).id(), at(60_000));
                assert!(counts.is_err() || token == *HONEST, "a forged token counts");
            }
        }
        CHANGE => {
            let mut bytes = honest_bytes();
            for _ in 0..tape.pick(8) {
                let place = usize::from(tape.u16()) % bytes.len();
                bytes[place] = tape.byte();
            }
            if let Some(token) = read(&bytes) {
                let counts = validate(&token, network.current(), &peer(0).id(), at(60_000));
                assert_eq!(counts.is_ok(), token == *HONEST, "only the honest token counts");
            }
        }
        _ => chain(&mut tape, network),
    }
}

fn identity(name: u8) -> Identity {
    Identity::from_secret([name; 32])
}

fn peer(number: u8) -> Identity {
    identity(10 + number)
}

/// So many milliseconds after noon.
fn at(millis: u64) -> WallTime {
    WallTime::from_unix_nanos((NOON_MS + millis) * 1_000_000)
}

/// The network of all inputs: signed once, for signing costs more than all that an input does.
static NETWORK: LazyLock<DescriptorChain> = LazyLock::new(|| {
    let claims = DescriptorClaims {
        name: "fuzz".into(),
        sequence: 0,
        root: identity(1).id(),
        next_root: identity(2).id(),
        expires: at(1 << 40),
        issuers: vec![(identity(3).id(), 1)],
        registry_members: Vec::new(),
        registry_epoch: 0,
        former_registries: Vec::new(),
        revoked_before: WallTime::default(),
        revoked_tokens: vec![TokenId([0xff; 16])],
        revoked_issuers: Vec::new(),
        dissemination: Dissemination::Mesh,
        message_bytes_max: None,
    };
    DescriptorChain::found(&identity(1), [0; 16], claims).expect("the claims are legal")
});

pub(crate) fn network() -> &'static DescriptorChain {
    &NETWORK
}

/// The one token whose bytes count without being built here.
static HONEST: LazyLock<Token> = LazyLock::new(|| {
    let grant = Grant {
        subject: peer(0).id(),
        permissions: "call:a/> delegate:>".parse().expect("legal"),
        not_before: at(0),
        expires: at(3_600_000),
        issued_at: at(0),
        depth_left: 2,
        id: TokenId([1; 16]),
    };
    Token::issue(&identity(3), 1, network().id(), grant).expect("legal")
});

/// The honest token's bytes, for the corpus.
pub fn honest_bytes() -> Vec<u8> {
    HONEST.as_bytes().to_vec()
}

fn read(bytes: &[u8]) -> Option<Token> {
    match Token::decode(Bytes::copy_from_slice(bytes)) {
        Ok(token) => {
            assert_eq!(token.as_bytes(), bytes);
            assert_eq!(Token::from_text(token.to_text().as_bytes()).as_ref(), Ok(&token));
            Some(token)
        }
        Err(refusal) => {
            assert!(refusal.to_string().len() < 4_096, "refusals are for people");
            None
        }
    }
}

fn grant(tape: &mut Tape<'_>, subject: &Identity) -> Grant {
    let mut permissions = Permissions::none();
    for _ in 0..tape.pick(5) {
        let kind = Permission::ALL[tape.pick(Permission::ALL.len())];
        let pattern = PATTERNS[tape.pick(PATTERNS.len())];
        permissions = permissions.with(&format!("{kind}:{pattern}")).expect("legal");
    }
    let not_before = u64::from(tape.byte()) * 1_000;
    Grant {
        subject: subject.id(),
        permissions,
        not_before: at(not_before),
        expires: at(not_before + 1 + u64::from(tape.byte()) * 1_000),
        issued_at: at(u64::from(tape.byte()) * 1_000),
        depth_left: u32::from(tape.byte() % 5),
        id: TokenId([tape.byte(); 16]),
    }
}

/// Links that the honest code makes of any grants: what counts in the end allows nothing that one of
/// its links does not.
fn chain(tape: &mut Tape<'_>, network: &DescriptorChain) {
    let epoch = u64::from(tape.byte() % 2);
    let issuer = if tape.pick(4) == 0 { identity(4) } else { identity(3) };
    let mut holder = peer(tape.byte() % 3);
    let first = grant(tape, &holder);
    let Ok(mut token) = Token::issue(&issuer, epoch, network.id(), first) else { return };
    for _ in 0..tape.pick(5) {
        let next = peer(tape.byte() % 3);
        let grant = grant(tape, &next);
        let Ok(longer) = token.attenuate(&holder, grant) else { continue };
        (token, holder) = (longer, next);
    }
    let now = at(u64::from(tape.byte()) * 1_000);
    let Ok(verified) = validate(&token, network.current(), &holder.id(), now) else { return };
    assert!(verified.window.contains(now));
    assert_eq!((epoch, issuer.id()), (1, identity(3).id()), "only who is trusted issues");
    for path in PATHS {
        let path = TopicPath::parse(path).expect("a path");
        for permission in Permission::ALL {
            let allowed = verified.grants.allow(permission, &path);
            for link in token.claims() {
                let has = link.permissions.patterns(permission).iter().any(|p| p.matches(&path));
                assert!(!allowed || has, "{permission}:{path} is nowhere given");
                assert!(link.not_before < link.expires && link.id != TokenId([0xff; 16]));
            }
        }
    }
    for at in [verified.window.from, verified.window.until] {
        let counts = validate(&token, network.current(), &holder.id(), at).is_ok();
        assert_eq!(counts, verified.window.contains(at), "the window is exact");
    }
}
