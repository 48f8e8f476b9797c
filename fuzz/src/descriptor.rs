//! Network descriptors: whatever arrives is read or refused, and of any two chains at most one is newer.

use std::sync::LazyLock;

use bytes::Bytes;
use dunlin_core::Identity;
use dunlin_core::auth::{DescriptorChain, DescriptorClaims, TokenId};

use crate::tape::Tape;
use crate::token::network;

/// Reads the rest as a chain.
pub const READ: u8 = 0;
/// Changes an honest chain: how many changes, then for each where and into what.
pub const CHANGE: u8 = 1;
/// Grows chains: for each, which it follows, who signs, and who comes next.
pub const GROW: u8 = 2;
const OPS: usize = 3;

/// Chains that one input may grow: comparing all pairs is quadratic.
const CHAINS_MAX: usize = 8;

/// The first byte says what to do.
pub fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    match tape.pick(OPS) as u8 {
        READ => {
            if let Some(chain) = read(tape.rest())
                && chain.id() == network().id()
            {
                assert!(chain == *network() || chain == *RENEWED, "a forged descriptor counts");
            }
        }
        CHANGE => {
            let mut bytes = honest_bytes();
            for _ in 0..tape.pick(8) {
                let place = usize::from(tape.u16()) % bytes.len();
                bytes[place] = tape.byte();
            }
            if let Some(chain) = read(&bytes) {
                assert_eq!(chain, *RENEWED, "only the honest chain counts");
            }
        }
        _ => grow(&mut tape),
    }
}

fn identity(name: u8) -> Identity {
    Identity::from_secret([name; 32])
}

fn claims(tape: &mut Tape<'_>) -> DescriptorClaims {
    DescriptorClaims {
        next_root: identity(1 + tape.byte() % 4).id(),
        revoked_tokens: (0..tape.pick(4)).map(|_| TokenId([tape.byte(); 16])).collect(),
        ..network().current().claims().clone()
    }
}

static RENEWED: LazyLock<DescriptorChain> = LazyLock::new(|| {
    let claims = network().current().claims().clone();
    network().succeed(&identity(1), claims).expect("the root signs")
});

/// An honest chain's bytes, for the corpus.
pub fn honest_bytes() -> Vec<u8> {
    RENEWED.encode().to_vec()
}

fn read(bytes: &[u8]) -> Option<DescriptorChain> {
    match DescriptorChain::decode(Bytes::copy_from_slice(bytes)) {
        Ok(chain) => {
            assert_eq!(chain.encode(), bytes);
            assert_eq!(DescriptorChain::from_text(chain.to_text().as_bytes()).as_ref(), Ok(&chain));
            Some(chain)
        }
        Err(refusal) => {
            assert!(refusal.to_string().len() < 4_096, "refusals are for people");
            None
        }
    }
}

fn grow(tape: &mut Tape<'_>) {
    let mut chains = vec![network().clone()];
    while !tape.is_empty() && chains.len() < CHAINS_MAX {
        let parent = tape.pick(chains.len());
        let signer = identity(1 + tape.byte() % 4);
        let Ok(chain) = chains[parent].succeed(&signer, claims(tape)) else { continue };
        assert_eq!(DescriptorChain::decode(chain.encode()).as_ref(), Ok(&chain));
        assert_eq!(chain.check_newer(&chains[parent]), Ok(()), "what follows is newer");
        chains.push(chain);
    }
    for one in &chains {
        for other in &chains {
            let newer = one.check_newer(other).is_ok();
            assert!(!newer || other.check_newer(one).is_err(), "both cannot be newer");
        }
    }
}
