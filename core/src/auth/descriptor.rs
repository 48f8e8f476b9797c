//! Network descriptors: what a network is, and whom it trusts, signed by its root.
//!
//! The first descriptor of a network is its *genesis*; the SHA-256 of its body is the network's id, so
//! nobody else can make another network of the same id. How later ones follow from it is told in
//! [`crate::auth::succession`].

use std::sync::Arc;

use bytes::Bytes;
use dunlin_proto::v1;
use prost::Message;

use crate::auth::codec::{self, SignedBytes, decode, exactly, key_bytes, millis, sha256, time};
use crate::auth::network_id::NetworkId;
use crate::auth::signature::PublicKey;
use crate::auth::token::TokenId;
use crate::base::{Identity, PeerId, WallTime};

/// The largest descriptor, in bytes: room for full lists.
pub const DESCRIPTOR_BYTES_MAX: usize = 64 << 10;
/// The longest name of a network, in bytes. A guess.
pub const NAME_BYTES_MAX: usize = 64;
/// The most issuers that a network trusts. A guess.
pub const ISSUERS_MAX: usize = 64;
/// The most token ids on a revocation list. Ids of tokens that have expired can leave it; whoever must
/// revoke more than this raises the revocation epoch.
pub const REVOKED_TOKENS_MAX: usize = 2_048;
/// The most issuers with a revocation epoch of their own. A guess.
pub const REVOKED_ISSUERS_MAX: usize = 256;

/// The most former configurations of acceptors that a descriptor names. Acceptors change rarely, and those before one that
/// began can leave the list.
pub const FORMER_REGISTRIES_MAX: usize = 16;

const DOMAIN: &[u8] = b"dunlin/network/v1";

/// How events spread in a network. Source: protocols.md, section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Dissemination {
    /// Straight from the publisher to each node; for up to about 50 nodes.
    #[default]
    Mesh = 1,
    /// Along broadcast trees.
    Tree = 2,
}

/// The lease acceptors of an earlier epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerRegistry {
    /// Which.
    pub epoch: u64,
    /// One, three or five. Sorted.
    pub members: Vec<PeerId>,
    /// A majority of them is lost for good: nobody waits until they are sealed. If some of them still run, two nodes
    /// may hold one lease.
    pub abandoned: bool,
}

/// What a descriptor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorClaims {
    /// What people call the network, and write in front of a topic path: letters, digits, `-`, `_` and
    /// `.`. The same in all descriptors of a network.
    pub name: String,
    /// Grows with every descriptor; zero in the genesis.
    pub sequence: u64,
    /// The key that signs this descriptor.
    pub root: PeerId,
    /// The key that takes over from it.
    pub next_root: PeerId,
    /// From when on this descriptor is refused, give or take the skew. In milliseconds, like all times.
    pub expires: WallTime,
    /// Whose tokens count, by key and epoch. Sorted.
    pub issuers: Vec<(PeerId, u64)>,
    /// The lease acceptors: none, one, three or five. Sorted.
    pub registry_members: Vec<PeerId>,
    /// Grows with every change of the acceptors.
    pub registry_epoch: u64,
    /// The acceptors of earlier epochs that may still take part: the present ones begin when a majority of each is
    /// sealed. At most [`FORMER_REGISTRIES_MAX`]. Sorted by epoch.
    pub former_registries: Vec<FormerRegistry>,
    /// Links of tokens issued before this time are revoked.
    pub revoked_before: WallTime,
    /// Links of tokens with these ids are revoked. Sorted.
    pub revoked_tokens: Vec<TokenId>,
    /// Links that this key signed are revoked if they were issued before the time. Sorted.
    pub revoked_issuers: Vec<(PeerId, WallTime)>,
    /// How events spread.
    pub dissemination: Dissemination,
    /// The largest payload of one message, in bytes; none leaves it to each node.
    pub message_bytes_max: Option<u32>,
}

/// A descriptor as it travels, and what it says. Its signature is right; whether its root is that of
/// the network is for [`crate::auth::succession`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    id: NetworkId,
    claims: DescriptorClaims,
    /// The issuers' keys, in the order of the claims, once they were asked for.
    issuers: Arc<[PublicKey]>,
    signed: SignedBytes,
}

impl DescriptorClaims {
    /// The same with other acceptors, in the next epoch: the present ones, if there are any, become former ones.
    /// `abandon` gives all former ones up, and these: see [`FormerRegistry::abandoned`].
    #[must_use]
    pub fn with_acceptors(&self, acceptors: Vec<PeerId>, abandon: bool) -> DescriptorClaims {
        let mut claims = self.clone();
        let members = std::mem::replace(&mut claims.registry_members, acceptors);
        if !members.is_empty() {
            let epoch = self.registry_epoch;
            claims.former_registries.push(FormerRegistry { epoch, members, abandoned: false });
        }
        for former in &mut claims.former_registries {
            former.abandoned |= abandon;
        }
        claims.registry_epoch = self.registry_epoch.saturating_add(1);
        claims
    }
}

impl Descriptor {
    /// Makes a genesis. `nonce` is 16 fresh random bytes. The sequence in the claims does not matter.
    ///
    /// # Errors
    ///
    /// What is wrong with the claims.
    pub(super) fn genesis(
        root: &Identity,
        nonce: [u8; 16],
        claims: DescriptorClaims,
    ) -> Result<Descriptor, String> {
        let nonce = Bytes::copy_from_slice(&nonce);
        let claims = DescriptorClaims { sequence: 0, ..claims };
        Self::sign(root, None, v1::DescriptorBody { nonce, ..body(claims) })
    }

    /// Makes a later descriptor of the network.
    ///
    /// # Errors
    ///
    /// What is wrong with the claims.
    pub(super) fn later(
        root: &Identity,
        network: NetworkId,
        claims: DescriptorClaims,
    ) -> Result<Descriptor, String> {
        Self::sign(root, Some(network), body(claims))
    }

    fn sign(
        root: &Identity,
        network: Option<NetworkId>,
        mut body: v1::DescriptorBody,
    ) -> Result<Descriptor, String> {
        body.root = key_bytes(&root.id());
        let id = network.map_or([0; 32], |id| *id.as_bytes());
        if network.is_some() {
            body.network_id = Bytes::copy_from_slice(&id);
        }
        Self::read(SignedBytes::sign(root, &[DOMAIN, &id], body.encode_to_vec()))
    }

    /// Reads and verifies one.
    pub(super) fn from_wire(wire: v1::Signed) -> Result<Descriptor, String> {
        let descriptor = Self::read(SignedBytes::from_wire(wire)?)?;
        let id = if descriptor.is_genesis() { [0; 32] } else { *descriptor.id.as_bytes() };
        let root = PublicKey::new(&descriptor.claims.root);
        if !descriptor.signed.verifies(&root, &[DOMAIN, &id]) {
            return Err("the signature is wrong".into());
        }
        Ok(descriptor)
    }

    fn read(signed: SignedBytes) -> Result<Descriptor, String> {
        if signed.body.len() > DESCRIPTOR_BYTES_MAX {
            let bytes = signed.body.len();
            return Err(format!("{bytes} bytes; at most {DESCRIPTOR_BYTES_MAX} are allowed"));
        }
        let body: v1::DescriptorBody = decode(&signed.body)?;
        let id = if body.network_id.is_empty() {
            if body.sequence != 0 || body.nonce.len() != 16 {
                return Err("a genesis has the sequence 0 and a nonce of 16 bytes".into());
            }
            NetworkId::from_bytes(sha256(&signed.body))
        } else {
            if body.sequence == 0 || !body.nonce.is_empty() {
                return Err("only a genesis has the sequence 0 and a nonce".into());
            }
            NetworkId::from_bytes(exactly("network_id", &body.network_id)?)
        };
        Ok(Descriptor { id, claims: read_claims(body)?, issuers: Arc::default(), signed })
    }

    pub(super) fn to_wire(&self) -> v1::Signed {
        self.signed.to_wire()
    }

    /// The network that it is of.
    pub fn id(&self) -> NetworkId {
        self.id
    }

    /// What it says.
    pub fn claims(&self) -> &DescriptorClaims {
        &self.claims
    }

    /// Whether it is the first of its network.
    pub fn is_genesis(&self) -> bool {
        self.claims.sequence == 0
    }

    /// The epoch in which this issuer is trusted, if it is.
    pub fn issuer_epoch(&self, issuer: &PeerId) -> Option<u64> {
        let issuers = &self.claims.issuers;
        let index = issuers.binary_search_by(|(key, _)| key.cmp(issuer)).ok()?;
        Some(issuers[index].1)
    }

    /// Makes the keys of issuers ready to verify with, or forgets them.
    pub(super) fn prepare_issuers(&mut self, wanted: bool) {
        let issuers = self.claims.issuers.iter().filter(|_| wanted);
        self.issuers = issuers.map(|(key, _)| PublicKey::new(key)).collect();
    }

    /// The key of an issuer that is trusted, if it is ready to verify with.
    pub(super) fn issuer_key(&self, issuer: &PeerId) -> Option<&PublicKey> {
        let index = self.claims.issuers.binary_search_by(|(key, _)| key.cmp(issuer)).ok()?;
        self.issuers.get(index)
    }

    /// Whether the link of a token with this id is revoked.
    pub fn is_revoked(&self, id: &TokenId) -> bool {
        self.claims.revoked_tokens.binary_search(id).is_ok()
    }

    /// Before when this key's links must not have been issued.
    pub fn revoked_before(&self, issuer: &PeerId) -> WallTime {
        let issuers = &self.claims.revoked_issuers;
        let own = issuers.binary_search_by(|(key, _)| key.cmp(issuer));
        let own = own.map_or(WallTime::default(), |index| issuers[index].1);
        own.max(self.claims.revoked_before)
    }
}

fn body(mut claims: DescriptorClaims) -> v1::DescriptorBody {
    // Whoever writes one need not know the canonical order.
    claims.issuers.sort();
    claims.registry_members.sort();
    claims.former_registries.sort_by_key(|former| former.epoch);
    for former in &mut claims.former_registries {
        former.members.sort();
    }
    claims.revoked_tokens.sort();
    claims.revoked_tokens.dedup();
    claims.revoked_issuers.sort();
    let issuer = |(key, epoch): &(PeerId, u64)| v1::Issuer { key: key_bytes(key), epoch: *epoch };
    let revoked = |(key, before): &(PeerId, WallTime)| v1::RevokedIssuer {
        key: key_bytes(key),
        before_ms: millis(*before),
    };
    let former = |former: &FormerRegistry| v1::FormerRegistry {
        epoch: former.epoch,
        members: former.members.iter().map(key_bytes).collect(),
        abandoned: former.abandoned,
    };
    let limits =
        claims.message_bytes_max.map(|bytes| v1::NetworkLimits { message_bytes_max: bytes });
    v1::DescriptorBody {
        network_id: Bytes::new(),
        name: claims.name,
        sequence: claims.sequence,
        root: Bytes::new(),
        next_root: key_bytes(&claims.next_root),
        expires_ms: millis(claims.expires),
        issuers: claims.issuers.iter().map(issuer).collect(),
        registry_members: claims.registry_members.iter().map(key_bytes).collect(),
        registry_epoch: claims.registry_epoch,
        revoked_before_ms: millis(claims.revoked_before),
        revoked_tokens: claims
            .revoked_tokens
            .iter()
            .map(|id| Bytes::copy_from_slice(&id.0))
            .collect(),
        revoked_issuers: claims.revoked_issuers.iter().map(revoked).collect(),
        dissemination: claims.dissemination as u32,
        limits,
        nonce: Bytes::new(),
        former_registries: claims.former_registries.iter().map(former).collect(),
    }
}

fn read_formers(body: &v1::DescriptorBody) -> Result<Vec<FormerRegistry>, String> {
    let epoch = body.registry_epoch;
    let read = |former: &v1::FormerRegistry| {
        if !matches!(former.members.len(), 1 | 3 | 5) {
            let count = former.members.len();
            return Err(format!("{count} former registry members; 1, 3 or 5 are allowed"));
        }
        if former.epoch >= epoch {
            let of = former.epoch;
            return Err(format!("a former registry of epoch {of}; the present one has {epoch}"));
        }
        let members = former.members.iter().map(|key| codec::key("former registry member", key));
        Ok(FormerRegistry {
            epoch: former.epoch,
            members: members.collect::<Result<_, _>>()?,
            abandoned: former.abandoned,
        })
    };
    body.former_registries.iter().map(read).collect()
}

fn read_claims(body: v1::DescriptorBody) -> Result<DescriptorClaims, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if body.name.is_empty() || body.name.len() > NAME_BYTES_MAX || !body.name.bytes().all(legal) {
        return Err(format!(
            "the name has {} bytes; from 1 to {NAME_BYTES_MAX} are allowed, of letters, digits, \
             '-', '_' and '.'",
            body.name.len()
        ));
    }
    for (what, count, max) in [
        ("issuers", body.issuers.len(), ISSUERS_MAX),
        ("revoked tokens", body.revoked_tokens.len(), REVOKED_TOKENS_MAX),
        ("revoked issuers", body.revoked_issuers.len(), REVOKED_ISSUERS_MAX),
        ("former registries", body.former_registries.len(), FORMER_REGISTRIES_MAX),
    ] {
        if count > max {
            return Err(format!("{count} {what}; at most {max} are allowed"));
        }
    }
    if !matches!(body.registry_members.len(), 0 | 1 | 3 | 5) {
        let count = body.registry_members.len();
        return Err(format!("{count} registry members; none, 1, 3 or 5 are allowed"));
    }
    let (root, next_root) =
        (codec::key("root", &body.root)?, codec::key("next_root", &body.next_root)?);
    if root == next_root {
        return Err("the next root is another key than the root".into());
    }
    let former_registries = read_formers(&body)?;
    let issuers = body.issuers.into_iter().map(|i| Ok((codec::key("issuer", &i.key)?, i.epoch)));
    let members = body.registry_members.iter().map(|key| codec::key("registry member", key));
    let tokens = body.revoked_tokens.iter().map(|id| Ok(TokenId(exactly("token id", id)?)));
    let revoked = body.revoked_issuers.into_iter().map(|entry| {
        Ok((codec::key("revoked issuer", &entry.key)?, time("before", entry.before_ms)?))
    });
    let claims = DescriptorClaims {
        name: body.name,
        sequence: body.sequence,
        root,
        next_root,
        expires: time("expires", body.expires_ms)?,
        issuers: issuers.collect::<Result<_, String>>()?,
        registry_members: members.collect::<Result<_, _>>()?,
        registry_epoch: body.registry_epoch,
        former_registries,
        revoked_before: time("revoked_before", body.revoked_before_ms)?,
        revoked_tokens: tokens.collect::<Result<_, String>>()?,
        revoked_issuers: revoked.collect::<Result<_, String>>()?,
        dissemination: match body.dissemination {
            1 => Dissemination::Mesh,
            2 => Dissemination::Tree,
            other => return Err(format!("unknown dissemination {other}")),
        },
        message_bytes_max: body.limits.map(|l| l.message_bytes_max).filter(|bytes| *bytes > 0),
    };
    let ascend = claims.issuers.windows(2).all(|pair| pair[0].0 < pair[1].0)
        && claims.registry_members.is_sorted_by(|a, b| a < b)
        && claims.former_registries.is_sorted_by(|a, b| a.epoch < b.epoch)
        && claims.former_registries.iter().all(|former| former.members.is_sorted_by(|a, b| a < b))
        && claims.revoked_tokens.is_sorted_by(|a, b| a < b)
        && claims.revoked_issuers.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !ascend {
        return Err("a list is not in its order, or names something twice".into());
    }
    Ok(claims)
}
