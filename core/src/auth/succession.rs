//! How a network's descriptors follow each other: the chain of roots.
//!
//! Every descriptor names the key that signs it, its *root*, and the *next root*. A root may sign as many
//! descriptors as it likes, with growing sequences and always the same next root. When the next root
//! signs one, it takes over for good: descriptors of a later root win over those of an earlier one,
//! whatever their sequence. So the key of the next root can lie in a drawer, and whoever steals the
//! present one is got rid of by taking it out.
//!
//! A [`DescriptorChain`] is what is needed to follow the roots from the genesis, and at its end the
//! descriptor that counts. Chains are compared by (roots so far, sequence). An expired one is refused, so
//! that nobody can hold a node back on an old descriptor for longer than its life (freeze attack).

use bytes::Bytes;
use dunlin_proto::v1;
use prost::Message;

use crate::auth::codec::{ArmorError, armor, decode, unarmor};
use crate::auth::descriptor::{DESCRIPTOR_BYTES_MAX, Descriptor, DescriptorClaims};
use crate::auth::network_id::NetworkId;
use crate::auth::validate::{SKEW, Window};
use crate::base::{Identity, PeerId, WallTime};

/// The most descriptors of a chain: so many roots a network can have. A guess.
pub const CHAIN_MAX: usize = 16;

/// The largest chain, in bytes.
pub const CHAIN_BYTES_MAX: usize = 4 * DESCRIPTOR_BYTES_MAX;

/// How a chain begins as text.
pub const CHAIN_PREFIX: &str = "dunlin-network-v1:";

/// Why a chain of descriptors does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorRefusal {
    /// It is another text.
    #[error("{0}")]
    Text(#[from] ArmorError),
    /// It is too large, or not what a chain looks like.
    #[error("the chain of descriptors is malformed: {0}")]
    Malformed(String),
    /// One of its descriptors is malformed, or its signature is wrong.
    #[error("descriptor {0}: {1}")]
    Descriptor(usize, String),
    /// One does not follow from the one before.
    #[error("descriptor {0} does not follow from the one before: {1}")]
    BrokenChain(usize, &'static str),
    /// It is of another network.
    #[error("it is of the network {found}, not of {wanted}")]
    OtherNetwork {
        /// Of which.
        found: NetworkId,
        /// Which was wanted.
        wanted: NetworkId,
    },
    /// The one that counts has expired.
    #[error(
        "the descriptor with the sequence {sequence} expired at {expires}; get a newer one from \
         whoever runs the network"
    )]
    Expired {
        /// Its sequence.
        sequence: u64,
        /// When.
        expires: WallTime,
    },
    /// It is not newer than what we have.
    #[error("it is not newer than the descriptor that is known, of sequence {known}")]
    NotNewer {
        /// The sequence of what we have.
        known: u64,
    },
    /// It leads to other roots than what we have: a root has signed two successors.
    #[error("it contradicts what is known of the network's roots")]
    Fork,
    /// It names other acceptors of leases, in an epoch that is not higher.
    #[error(
        "it names other acceptors than the descriptor that is known, in epoch {epoch}, which must be higher than \
         {known}"
    )]
    AcceptorsEpoch {
        /// Its epoch.
        epoch: u64,
        /// The epoch that is known.
        known: u64,
    },
    /// Who wants to sign is neither the root nor the next one.
    #[error("{0} is neither the network's root nor its next root")]
    NotRoot(PeerId),
}

/// Whether acceptors are the same, or of a higher epoch.
fn keeps_acceptors(before: &DescriptorClaims, claims: &DescriptorClaims) -> bool {
    let same = claims.registry_members == before.registry_members;
    claims.registry_epoch > before.registry_epoch
        || (same && claims.registry_epoch == before.registry_epoch)
}

/// The descriptors from the genesis to the one that counts. Every signature is right and each follows
/// from the one before; whether it has expired is a question of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorChain {
    /// Never empty. The genesis, the last known of each root since, and the one that counts.
    descriptors: Vec<Descriptor>,
}

impl DescriptorChain {
    /// Tokens are judged by the last one.
    fn of(mut descriptors: Vec<Descriptor>) -> Self {
        let count = descriptors.len();
        for (index, descriptor) in descriptors.iter_mut().enumerate() {
            descriptor.prepare_issuers(index + 1 == count);
        }
        DescriptorChain { descriptors }
    }

    /// A new network. `nonce` is 16 fresh random bytes. The root in the claims is `root`, their sequence
    /// does not matter.
    ///
    /// # Errors
    ///
    /// When the claims break a bound.
    pub fn found(
        root: &Identity,
        nonce: [u8; 16],
        claims: DescriptorClaims,
    ) -> Result<Self, DescriptorRefusal> {
        let genesis = Descriptor::genesis(root, nonce, claims);
        let genesis = genesis.map_err(|why| DescriptorRefusal::Descriptor(1, why))?;
        Ok(Self::of(vec![genesis]))
    }

    /// The chain with a newer descriptor at its end, signed by the root, or by the next root, which takes
    /// over with it. Name, sequence and root follow from what there is, and for the present root the
    /// next one, too; what the claims say of them does not matter.
    ///
    /// # Errors
    ///
    /// When `signer` is neither, or when the claims break a bound.
    pub fn succeed(
        &self,
        signer: &Identity,
        claims: DescriptorClaims,
    ) -> Result<Self, DescriptorRefusal> {
        let current = self.current().claims();
        let takes_over = signer.id() == current.next_root;
        if !takes_over && signer.id() != current.root {
            return Err(DescriptorRefusal::NotRoot(signer.id()));
        }
        let claims = DescriptorClaims {
            name: current.name.clone(),
            sequence: current.sequence.saturating_add(1),
            next_root: if takes_over { claims.next_root } else { current.next_root },
            ..claims
        };
        let mut descriptors = self.descriptors.clone();
        let last = descriptors.len() + 1;
        let descriptor = Descriptor::later(signer, self.id(), claims)
            .map_err(|why| DescriptorRefusal::Descriptor(last, why))?;
        // One descriptor of each root is enough to follow them.
        let root_before_last =
            descriptors.len().checked_sub(2).map(|index| descriptors[index].claims().root);
        let of_last_root = descriptors.last().map(|last| last.claims().root);
        let replaces = if takes_over { root_before_last } else { Some(signer.id()) };
        if descriptors.len() > 1 && replaces == of_last_root {
            descriptors.pop();
        }
        descriptors.push(descriptor);
        let chain = Self::of(descriptors);
        chain.check()?;
        Ok(chain)
    }

    /// Reads and verifies a chain, but for its expiry.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn decode(bytes: Bytes) -> Result<Self, DescriptorRefusal> {
        if bytes.len() > CHAIN_BYTES_MAX {
            let what = format!("{} bytes; at most {CHAIN_BYTES_MAX} are allowed", bytes.len());
            return Err(DescriptorRefusal::Malformed(what));
        }
        let wire: v1::DescriptorChain = decode(&bytes).map_err(DescriptorRefusal::Malformed)?;
        if wire.descriptors.is_empty() || wire.descriptors.len() > CHAIN_MAX {
            let count = wire.descriptors.len();
            let what = format!("{count} descriptors; from 1 to {CHAIN_MAX} are allowed");
            return Err(DescriptorRefusal::Malformed(what));
        }
        let descriptors = wire.descriptors.into_iter().enumerate().map(|(index, signed)| {
            Descriptor::from_wire(signed)
                .map_err(|why| DescriptorRefusal::Descriptor(index + 1, why))
        });
        let chain = Self::of(descriptors.collect::<Result<_, _>>()?);
        chain.check()?;
        Ok(chain)
    }

    /// Whether each follows from the one before.
    fn check(&self) -> Result<(), DescriptorRefusal> {
        if self.descriptors.len() > CHAIN_MAX {
            return Err(DescriptorRefusal::BrokenChain(
                CHAIN_MAX + 1,
                "a network has so few roots",
            ));
        }
        let broken = |index: usize, why| Err(DescriptorRefusal::BrokenChain(index + 1, why));
        for (index, descriptor) in self.descriptors.iter().enumerate() {
            let claims = descriptor.claims();
            let Some(before) = index.checked_sub(1).map(|index| self.descriptors[index].claims())
            else {
                if !descriptor.is_genesis() {
                    return broken(index, "the first is the genesis");
                }
                continue;
            };
            if descriptor.id() != self.id() || descriptor.is_genesis() {
                return broken(index, "it is of another network");
            }
            if claims.name != before.name {
                return broken(index, "a network keeps its name");
            }
            if claims.sequence <= before.sequence {
                return broken(index, "the sequence does not grow");
            }
            let same_root = claims.root == before.root;
            // Whoever stole a root may have used epochs up: who takes over from it begins where that left off.
            if same_root && !keeps_acceptors(before, claims) {
                return broken(index, "other acceptors have a higher epoch");
            }
            if !same_root && claims.root != before.next_root {
                return broken(index, "it is signed by somebody who is not the next root");
            }
            if same_root && claims.next_root != before.next_root {
                return broken(index, "a root does not change who comes after it");
            }
        }
        Ok(())
    }

    /// Reads the line that [`DescriptorChain::to_text`] gives; spaces around it do not matter.
    ///
    /// # Errors
    ///
    /// If it is another text, or as [`DescriptorChain::decode`].
    pub fn from_text(text: &[u8]) -> Result<Self, DescriptorRefusal> {
        let bytes = unarmor("a network's descriptor", CHAIN_PREFIX, text, 2 * CHAIN_BYTES_MAX)?;
        DescriptorChain::decode(bytes)
    }

    /// As one line of text.
    pub fn to_text(&self) -> String {
        armor(CHAIN_PREFIX, &self.encode())
    }

    /// As it travels.
    pub fn encode(&self) -> Bytes {
        let descriptors = self.descriptors.iter().map(Descriptor::to_wire).collect();
        v1::DescriptorChain { descriptors }.encode_to_vec().into()
    }

    /// The network.
    pub fn id(&self) -> NetworkId {
        self.descriptors[0].id()
    }

    /// The descriptor that counts.
    pub fn current(&self) -> &Descriptor {
        self.descriptors.last().expect("never empty")
    }

    /// When it counts: the skew included, always from the beginning of time.
    pub fn window(&self) -> Window {
        Window { from: WallTime::default(), until: self.current().claims().expires + SKEW }
    }

    /// Whether it counts at this time.
    ///
    /// # Errors
    ///
    /// When it has expired.
    pub fn check_time(&self, now: WallTime) -> Result<(), DescriptorRefusal> {
        let claims = self.current().claims();
        if self.window().contains(now) {
            return Ok(());
        }
        Err(DescriptorRefusal::Expired { sequence: claims.sequence, expires: claims.expires })
    }

    /// Whether this one takes the place of `known`, of the same network.
    ///
    /// # Errors
    ///
    /// When it is of another network, leads to other roots, or is not newer.
    pub fn check_newer(&self, known: &DescriptorChain) -> Result<(), DescriptorRefusal> {
        if self.id() != known.id() {
            let (found, wanted) = (self.id(), known.id());
            return Err(DescriptorRefusal::OtherNetwork { found, wanted });
        }
        let (roots, known_roots) = (self.roots(), known.roots());
        if !roots.iter().zip(&known_roots).all(|(root, known)| root == known) {
            return Err(DescriptorRefusal::Fork);
        }
        let sequence = |chain: &DescriptorChain| chain.current().claims().sequence;
        if (roots.len(), sequence(self)) <= (known_roots.len(), sequence(known)) {
            return Err(DescriptorRefusal::NotNewer { known: sequence(known) });
        }
        let (claims, before) = (self.current().claims(), known.current().claims());
        if claims.root == before.root && !keeps_acceptors(before, claims) {
            let (epoch, known) = (claims.registry_epoch, before.registry_epoch);
            return Err(DescriptorRefusal::AcceptorsEpoch { epoch, known });
        }
        Ok(())
    }

    /// The roots so far, and the one that is next.
    fn roots(&self) -> Vec<PeerId> {
        let mut roots: Vec<PeerId> = self.descriptors.iter().map(|d| d.claims().root).collect();
        roots.dedup();
        roots.push(self.current().claims().next_root);
        roots
    }
}
