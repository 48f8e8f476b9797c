//! Networks, tokens and permissions: who may do what.
//!
//! A *network* is what nodes share that may talk to each other. Its descriptors, signed by its root, say
//! whom it trusts ([`descriptor`], [`succession`]). An *access token* says what one peer may do in one
//! network; it is a chain of delegations of which each can only narrow ([`token`], [`mod@validate`]). A
//! token is worth something only to whom it names, and the transport proves who that is. All of it is
//! verified offline. [`access`] holds a node's networks and its peers' rights, and answers who may do
//! what.
//!
//! Source: protocols.md, section 1. Precedents that the rules learn from: CVE-2021-3127 (a mismatched
//! binding was only warned of), CVE-2020-26892 (revocation was compared with now instead of with the
//! time of issue), Biscuit GHSA-75rw-34q6-72cr.

pub mod access;
pub mod blind;
pub mod cache;
mod codec;
pub mod descriptor;
pub mod life;
pub mod membership;
pub mod network_id;
pub mod permission;
pub mod refusal;
pub mod rights;
pub mod signature;
pub mod succession;
pub mod token;
pub mod validate;

pub use access::{Access, AccessEffect, AccessInput, AccessTimer};
pub use blind::{BlindedNetworks, Greeter};
pub use codec::ArmorError;
pub use descriptor::{Descriptor, DescriptorClaims, Dissemination};
pub use life::LifeRecord;
pub use membership::{Membership, MembershipError, NetworkClaim, NetworkMembership};
pub use network_id::NetworkId;
pub use permission::{Grants, Permission, Permissions};
pub use refusal::{AccessCode, TokenRefusal};
pub use rights::{Denied, Permit};
pub use succession::{DescriptorChain, DescriptorRefusal};
pub use token::{Grant, LinkClaims, Token, TokenId};
pub use validate::{SKEW, Verified, validate};

#[cfg(test)]
pub(crate) mod tests;
