//! Access tokens: chains of delegations, each signed exactly as it travels.
//!
//! The first link is by an issuer that the network's descriptor trusts. Its subject may add a link that
//! hands a part of it to somebody else, and so on; each link can only narrow. The subject of the last
//! link is who may use the token, and it proves to be that by its TLS key, so that a stolen token is
//! worth nothing.
//!
//! This file makes, writes and reads tokens; what counts is decided in [`mod@crate::auth::validate`].

use bytes::Bytes;
use data_encoding::HEXLOWER;
use dunlin_proto::v1;
use prost::Message;

use crate::auth::codec::{
    self, ArmorError, SignedBytes, armor, decode, exactly, key_bytes, millis, time, unarmor,
};
use crate::auth::network_id::NetworkId;
use crate::auth::permission::Permissions;
use crate::auth::refusal::TokenRefusal;
use crate::auth::signature::PublicKey;
use crate::auth::validate::check_step;
use crate::base::{Identity, PeerId, WallTime};

/// The most links of a token. Source: protocols.md, section 1.
pub const LINKS_MAX: usize = 4;

/// The largest token, in bytes. Source: protocols.md, section 1.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// How a token begins as text.
pub const TOKEN_PREFIX: &str = "dunlin-token-v1:";

const DOMAIN: &[u8] = b"dunlin/token/v1";

/// Names one link of one token, to be revoked by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 16]);

impl std::fmt::Display for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl std::fmt::Debug for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0[..4]))
    }
}

impl std::str::FromStr for TokenId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(TokenId).ok_or_else(|| {
            let text: String = text.chars().take(80).collect();
            format!(
                "'{text}' is not a token id: a token id is 32 characters of 0-9 and a-f, as \
                 `dunlin token inspect` prints it"
            )
        })
    }
}

/// What one link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkClaims {
    /// Who gives.
    pub issuer: PeerId,
    /// The epoch of the issuer; counts in the first link alone.
    pub issuer_epoch: u64,
    /// Who is given.
    pub subject: PeerId,
    /// In which network.
    pub network: NetworkId,
    /// What is given.
    pub permissions: Permissions,
    /// From when on, give or take the skew. In milliseconds, like all times of a link.
    pub not_before: WallTime,
    /// Until when, give or take the skew.
    pub expires: WallTime,
    /// When it was given.
    pub issued_at: WallTime,
    /// How many links may follow.
    pub depth_left: u32,
    /// Its name.
    pub id: TokenId,
}

/// What is to be given to whom. The rest follows from who gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub subject: PeerId,
    /// What.
    pub permissions: Permissions,
    /// From when on.
    pub not_before: WallTime,
    /// Until when.
    pub expires: WallTime,
    /// What is the time.
    pub issued_at: WallTime,
    /// How many links may follow.
    pub depth_left: u32,
    /// 16 fresh random bytes.
    pub id: TokenId,
}

/// A token as it travels, and what it says. That it is well formed does not mean that it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    bytes: Bytes,
    links: Vec<TokenLink>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TokenLink {
    claims: LinkClaims,
    signed: SignedBytes,
}

/// A token for a key of small order would be anybody's.
fn check_subject(grant: &Grant) -> Result<(), TokenRefusal> {
    if !grant.subject.is_weak() {
        return Ok(());
    }
    let why = format!("its subject {} is a key that proves nothing", grant.subject);
    Err(TokenRefusal::Malformed(why))
}

impl Token {
    /// Gives `grant`, as an issuer whom the network trusts in this epoch.
    ///
    /// # Errors
    ///
    /// When the token would be malformed or too large.
    pub fn issue(
        issuer: &Identity,
        issuer_epoch: u64,
        network: NetworkId,
        grant: Grant,
    ) -> Result<Token, TokenRefusal> {
        check_subject(&grant)?;
        Token { bytes: Bytes::new(), links: Vec::new() }.add(issuer, issuer_epoch, network, grant)
    }

    /// Gives a part of what this token gives, as its subject.
    ///
    /// # Errors
    ///
    /// When `holder` is not its subject, when the grant is wider than this token, or when the new token
    /// would be malformed or too large.
    pub fn attenuate(&self, holder: &Identity, grant: Grant) -> Result<Token, TokenRefusal> {
        check_subject(&grant)?;
        let last = self.claims().last().expect("tokens have links");
        let token = self.add(holder, 0, last.network, grant)?;
        let claims = token.claims().last().expect("just added");
        check_step(last, claims, token.links.len())?;
        Ok(token)
    }

    /// As [`Token::attenuate`], whatever the rules say: what a forger would make. For attackers in tests and
    /// simulations; nobody else has a use for it.
    ///
    /// # Errors
    ///
    /// When the new token would be malformed or too large.
    pub fn attenuate_unchecked_for_simulation(
        &self,
        holder: &Identity,
        grant: Grant,
    ) -> Result<Token, TokenRefusal> {
        let last = self.claims().last().expect("tokens have links");
        self.add(holder, 0, last.network, grant)
    }

    fn add(
        &self,
        issuer: &Identity,
        issuer_epoch: u64,
        network: NetworkId,
        grant: Grant,
    ) -> Result<Token, TokenRefusal> {
        let body = v1::TokenBody {
            issuer: key_bytes(&issuer.id()),
            subject: key_bytes(&grant.subject),
            network_id: Bytes::copy_from_slice(network.as_bytes()),
            permissions: grant.permissions.to_wire(),
            not_before_ms: millis(grant.not_before),
            expires_ms: millis(grant.expires),
            issued_at_ms: millis(grant.issued_at),
            depth_left: grant.depth_left,
            token_id: Bytes::copy_from_slice(&grant.id.0),
            issuer_epoch,
        };
        let parent = self.links.last().map_or([0; 32], |link| link.signed.hash());
        let prefix = [DOMAIN, network.as_bytes(), &parent];
        let signed = SignedBytes::sign(issuer, &prefix, body.encode_to_vec());
        let links = self.links.iter().map(|link| link.signed.to_wire()).chain([signed.to_wire()]);
        let wire = v1::Token { links: links.collect() };
        Token::decode(wire.encode_to_vec().into())
    }

    /// Reads a token. Says nothing about whether it counts.
    ///
    /// # Errors
    ///
    /// If it is too large, too long or malformed.
    pub fn decode(bytes: Bytes) -> Result<Token, TokenRefusal> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefusal::TooLarge { bytes: bytes.len(), max: TOKEN_BYTES_MAX });
        }
        let wire: v1::Token = decode(&bytes).map_err(TokenRefusal::Malformed)?;
        if wire.links.is_empty() || wire.links.len() > LINKS_MAX {
            return Err(TokenRefusal::Links { links: wire.links.len(), max: LINKS_MAX });
        }
        let links = wire.links.into_iter().enumerate().map(|(index, link)| {
            read_link(link, index == 0)
                .map_err(|why| TokenRefusal::Malformed(format!("link {}: {why}", index + 1)))
        });
        Ok(Token { links: links.collect::<Result<_, _>>()?, bytes })
    }

    /// As it travels.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// As one line of text.
    pub fn to_text(&self) -> String {
        armor(TOKEN_PREFIX, &self.bytes)
    }

    /// Reads the line that [`Token::to_text`] gives; spaces around it do not matter.
    ///
    /// # Errors
    ///
    /// If it is another text, or as [`Token::decode`].
    pub fn from_text(text: &[u8]) -> Result<Token, TokenTextError> {
        let bytes = unarmor("a token", TOKEN_PREFIX, text, 2 * TOKEN_BYTES_MAX)?;
        Ok(Token::decode(bytes)?)
    }

    /// What the links say, the issuer's first. Nothing of it is verified.
    pub fn claims(&self) -> impl DoubleEndedIterator<Item = &LinkClaims> + ExactSizeIterator {
        self.links.iter().map(|link| &link.claims)
    }

    /// Whether every signature is right; the number of the first that is not. The key of the first issuer is
    /// given, if it is known.
    pub(super) fn verify_signatures(&self, first: Option<&PublicKey>) -> Result<(), usize> {
        let mut parent = [0; 32];
        for (index, link) in self.links.iter().enumerate() {
            let prefix = [DOMAIN, link.claims.network.as_bytes(), &parent[..]];
            let verifies = match first.filter(|_| index == 0) {
                Some(key) => link.signed.verifies(key, &prefix),
                None => link.signed.verifies(&PublicKey::new(&link.claims.issuer), &prefix),
            };
            if !verifies {
                return Err(index + 1);
            }
            parent = link.signed.hash();
        }
        Ok(())
    }
}

/// Why a text is not a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenTextError {
    /// It is something else.
    #[error("{0}")]
    Text(#[from] ArmorError),
    /// It looks like a token and is none.
    #[error("this is no token: {0}")]
    Token(#[from] TokenRefusal),
}

fn read_link(wire: v1::Signed, first: bool) -> Result<TokenLink, String> {
    let signed = SignedBytes::from_wire(wire)?;
    let body: v1::TokenBody = decode(&signed.body)?;
    let claims = LinkClaims {
        issuer: codec::key("issuer", &body.issuer)?,
        issuer_epoch: body.issuer_epoch,
        subject: codec::key("subject", &body.subject)?,
        network: NetworkId::from_bytes(exactly("network_id", &body.network_id)?),
        permissions: Permissions::from_wire(body.permissions)?,
        not_before: time("not_before", body.not_before_ms)?,
        expires: time("expires", body.expires_ms)?,
        issued_at: time("issued_at", body.issued_at_ms)?,
        depth_left: body.depth_left,
        id: TokenId(exactly("token_id", &body.token_id)?),
    };
    if claims.not_before >= claims.expires {
        return Err("it expires before it is valid".into());
    }
    if claims.depth_left as usize >= LINKS_MAX {
        return Err(format!("{} links are to follow, of {LINKS_MAX} in all", claims.depth_left));
    }
    if !first && claims.issuer_epoch != 0 {
        return Err("only the first link is by an issuer with an epoch".into());
    }
    Ok(TokenLink { claims, signed })
}
