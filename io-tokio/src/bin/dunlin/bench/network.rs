//! The network that a run is measured in: founded for it, with an issuer whose tokens both ends verify.

use std::time::Duration;

use dunlin_tokio::auth::descriptor::DescriptorClaims;
use dunlin_tokio::auth::{DescriptorChain, Dissemination, Grant, Permissions, Token, TokenId};
use dunlin_tokio::{Identity, NodeBuilder, PeerId, key};
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::files::now;

/// How long the network and its tokens count: longer than the longest run takes.
const VALID: Duration = Duration::from_secs(24 * 3_600);

/// A network with the key that issues its tokens, as both ends are given it. Nothing but the run trusts
/// this key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RunNetwork {
    descriptor: String,
    issuer_secret: [u8; 32],
}

impl RunNetwork {
    /// A network that nobody else is in.
    pub(super) fn found() -> Result<RunNetwork, Failure> {
        let (root, issuer_secret) = (key::generate(), key::random());
        let claims = DescriptorClaims {
            name: "bench".into(),
            sequence: 0,
            root: root.id(),
            next_root: key::generate().id(),
            expires: now() + VALID,
            issuers: vec![(Identity::from_secret(issuer_secret).id(), 0)],
            registry_members: Vec::new(),
            registry_epoch: 0,
            former_registries: Vec::new(),
            revoked_before: Default::default(),
            revoked_tokens: Vec::new(),
            revoked_issuers: Vec::new(),
            dissemination: Dissemination::Mesh,
            message_bytes_max: None,
        };
        let nonce = key::random()[..16].try_into()?;
        let chain = DescriptorChain::found(&root, nonce, claims)?;
        Ok(RunNetwork { descriptor: chain.to_text(), issuer_secret })
    }

    fn issue(&self, to: PeerId) -> Result<String, Failure> {
        let now = now();
        let grant = Grant {
            subject: to,
            permissions: ["call", "serve", "publish", "subscribe"]
                .iter()
                .try_fold(Permissions::none(), |all, one| all.with(&format!("{one}:bench/*")))?,
            not_before: now,
            expires: now + VALID,
            issued_at: now,
            depth_left: 0,
            id: TokenId(key::random()[..16].try_into()?),
        };
        let network = DescriptorChain::from_text(self.descriptor.as_bytes())?.id();
        let issuer = Identity::from_secret(self.issuer_secret);
        Ok(Token::issue(&issuer, 0, network, grant)?.to_text())
    }

    /// Makes a node a member, as somebody new.
    pub(super) fn join(&self, builder: NodeBuilder) -> Result<NodeBuilder, Failure> {
        let identity = key::generate();
        let token = self.issue(identity.id())?;
        Ok(builder.identity(identity).network(self.descriptor.as_str(), token))
    }
}
