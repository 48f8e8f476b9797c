//! Networks in a greeting, blinded: only a node that knows a network's id recognises it.
//!
//! A Hello goes to any node that is dialled or that dials, so it shows neither networks nor tokens. For each network of
//! the sender it carries a *mark*, a keyed hash whose key is the network's id. The receiver computes the marks of its
//! own networks and looks for them. The mark covers the ids of both ends, so that it means nothing to a third node, and
//! which end sends it, so that the other end cannot send it back. It covers a nonce, so that the marks of two Hellos
//! differ; without it the drawn values that fill the rest would show by changing.
//!
//! A network's id is a hash of its signed genesis and cannot be guessed, but it is no secret among members. A former
//! member knows it for good, and can find out whether a node that it dials is in the network.

use crate::auth::membership::NETWORKS_MAX;
use crate::auth::network_id::NetworkId;
use crate::base::{Draws, Label, PeerId};

const DOMAIN: &[u8] = b"dunlin/hello";

/// The size of a mark and of a nonce, in bytes. 128 bits: no two networks share a mark by chance.
pub const MARK_BYTES: usize = 16;

/// A network in one Hello.
pub type Mark = [u8; MARK_BYTES];

/// The two ends of a link, and which of them sends the Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeter {
    /// The node that sends the Hello.
    pub sender: PeerId,
    /// The node that receives it.
    pub receiver: PeerId,
    /// Whether the sender dialled the link.
    pub has_dialled: bool,
}

impl Greeter {
    fn mark(&self, network: &NetworkId, nonce: &Mark) -> Mark {
        let (dialler, callee, side) = match self.has_dialled {
            true => (&self.sender, &self.receiver, 1),
            false => (&self.receiver, &self.sender, 2),
        };
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, network.as_bytes());
        let mut context = ring::hmac::Context::with_key(&key);
        for part in [DOMAIN, dialler.as_bytes(), callee.as_bytes(), &[side], nonce] {
            context.update(part);
        }
        let tag = context.sign();
        tag.as_ref()[..MARK_BYTES].try_into().expect("SHA-256 has 32 bytes")
    }
}

/// The networks of a Hello's sender, blinded: always as many marks as a node can have networks, in growing order.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BlindedNetworks {
    /// Drawn for this Hello.
    pub nonce: Mark,
    /// Marks and drawn values. Sorted, none twice.
    pub marks: [Mark; NETWORKS_MAX],
}

impl BlindedNetworks {
    /// Blinds networks, of which there are at most [`NETWORKS_MAX`]. Draws equally often however many there are.
    pub fn new(
        networks: impl Iterator<Item = NetworkId>,
        greeter: &Greeter,
        draws: &mut Draws,
    ) -> Self {
        let mut drawn = || -> Mark {
            let bytes = draws.bytes(Label::Greeting);
            bytes[..MARK_BYTES].try_into().expect("32 bytes are drawn")
        };
        let nonce = drawn();
        let mut marks: [Mark; NETWORKS_MAX] = std::array::from_fn(|_| drawn());
        for (place, network) in marks.iter_mut().zip(networks) {
            *place = greeter.mark(&network, &nonce);
        }
        marks.sort_unstable();
        BlindedNetworks { nonce, marks }
    }

    /// Whether a network is among them.
    pub fn contains(&self, network: &NetworkId, greeter: &Greeter) -> bool {
        self.marks.binary_search(&greeter.mark(network, &self.nonce)).is_ok()
    }
}

impl std::fmt::Debug for BlindedNetworks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("networks, blinded")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeter() -> Greeter {
        let [sender, receiver] = [[1; 32], [2; 32]].map(PeerId::from_bytes);
        Greeter { sender, receiver, has_dialled: true }
    }

    fn network(number: u8) -> NetworkId {
        NetworkId::from_bytes([number; 32])
    }

    fn blinded(count: u8, draws: &mut Draws) -> BlindedNetworks {
        BlindedNetworks::new((0..count).map(network), &greeter(), draws)
    }

    #[test]
    fn a_network_is_recognised_by_its_id_between_these_ends_and_from_this_one() {
        let marks = blinded(3, &mut Draws::new([5; 32]));
        for number in 0..8 {
            assert_eq!(marks.contains(&network(number), &greeter()), number < 3);
        }
        let Greeter { sender, receiver, .. } = greeter();
        let third = PeerId::from_bytes([3; 32]);
        for other in [
            Greeter { has_dialled: false, ..greeter() },
            Greeter { sender: receiver, receiver: sender, has_dialled: true },
            // The other end sends it back.
            Greeter { sender: receiver, receiver: sender, has_dialled: false },
            Greeter { receiver: third, ..greeter() },
            Greeter { sender: third, ..greeter() },
        ] {
            assert!(!marks.contains(&network(0), &other), "{other:?}");
        }
    }

    #[test]
    fn neither_one_greeting_nor_many_show_how_many_networks_there_are() {
        // The next draw behind a greeting is the same for any number of networks.
        let mut next = Vec::new();
        for count in 0..=8 {
            let mut draws = Draws::new([5; 32]);
            let (first, second) = (blinded(count, &mut draws), blinded(count, &mut draws));
            assert!(first.marks.is_sorted() && second.marks.is_sorted());
            let repeated = first.marks.iter().filter(|mark| second.marks.contains(mark)).count();
            assert_eq!(repeated, 0, "{count} networks");
            next.push(draws.number(Label::Greeting));
        }
        next.dedup();
        assert_eq!(next.len(), 1);
    }

    /// Computed with Python's hmac module.
    #[test]
    fn a_mark_is_what_the_schema_says() {
        let mark = greeter().mark(&network(7), &[9; 16]);
        assert_eq!(mark, VECTOR);
    }

    const VECTOR: Mark = [
        0xfc, 0x6b, 0xb9, 0x59, 0x7c, 0xd2, 0x7a, 0xe2, 0x79, 0x70, 0xca, 0x2b, 0x42, 0x50, 0xce,
        0xdb,
    ];
}
