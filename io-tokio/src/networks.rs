//! In which networks a node is: from the contents of files, from files that are watched, or by hand.

use std::path::PathBuf;
use std::time::Duration;

use dunlin_core::auth::token::TokenTextError;
use dunlin_core::auth::{
    Access, DescriptorChain, DescriptorRefusal, Membership, MembershipError, NetworkMembership,
    Token,
};
use dunlin_core::{Now, PeerId};

use crate::node::Node;

/// How often files of networks are looked at. A guess: an operator who revokes a token does not wait
/// for longer without wondering.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Why a node cannot be in a network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Nobody said in which network the node is.
    #[error(
        "a node is in a network: give it one with its descriptor and a token (NodeBuilder::network), or \
         choose the development network, in which everybody may do everything \
         (NodeBuilder::development_network)"
    )]
    None,
    /// Both networks and the development network were chosen.
    #[error("the development network is never mixed with others")]
    Mixed,
    /// What should be a network's descriptor is none.
    #[error("the network's descriptor: {0}")]
    Descriptor(#[from] DescriptorRefusal),
    /// What should be a token is none.
    #[error("the token: {0}")]
    Token(#[from] TokenTextError),
    /// Descriptor or token do not count.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The node has ended.
    #[error("the node has ended")]
    Ended,
}

/// What the builder was told.
#[derive(Debug, Default)]
pub(crate) enum Chosen {
    #[default]
    Nothing,
    Development,
    /// Descriptors and tokens, as text.
    Networks(Vec<(Vec<u8>, Vec<u8>)>),
    ByHand(Box<Access>),
    Contradiction,
}

impl Chosen {
    pub(crate) fn add(&mut self, descriptor: Vec<u8>, token: Vec<u8>) {
        match self {
            Chosen::Nothing => *self = Chosen::Networks(vec![(descriptor, token)]),
            Chosen::Networks(networks) => networks.push((descriptor, token)),
            _ => *self = Chosen::Contradiction,
        }
    }

    pub(crate) fn development(&mut self) {
        match self {
            Chosen::Nothing | Chosen::Development => *self = Chosen::Development,
            _ => *self = Chosen::Contradiction,
        }
    }

    pub(crate) fn access(self, id: &PeerId, now: Now) -> Result<Access, NetworkError> {
        match self {
            Chosen::Nothing => Err(NetworkError::None),
            Chosen::Contradiction => Err(NetworkError::Mixed),
            Chosen::ByHand(access) => Ok(*access),
            Chosen::Development => {
                // Where a program says it in words of its own, it can switch this target off.
                tracing::warn!(
                    target: "dunlin_tokio::development",
                    "DEVELOPMENT NETWORK: no tokens, no permissions; whoever reaches this node may call \
                     everything it serves"
                );
                Ok(Access::development(id))
            }
            Chosen::Networks(networks) => {
                let read = |(descriptor, token): &(Vec<u8>, Vec<u8>)| {
                    let descriptors = DescriptorChain::from_text(descriptor)?;
                    let token = Token::from_text(token)?;
                    Ok::<_, NetworkError>(NetworkMembership { descriptors, token })
                };
                let networks = networks.iter().map(read).collect::<Result<_, _>>()?;
                Ok(Access::new(id, now, Membership::Networks(networks))?)
            }
        }
    }
}

impl Node {
    /// Takes a newer descriptor of a network that this node is in, as its file contains it. Sessions that
    /// it gives no right to go on end at once.
    ///
    /// # Errors
    ///
    /// When it is no descriptor, of another network, not newer, or has expired.
    pub async fn take_descriptor(&self, text: &[u8]) -> Result<(), NetworkError> {
        let chain = DescriptorChain::from_text(text)?;
        let taken = self.inspect(move |core, _, now| core.mesh_mut().take_descriptor(now, chain));
        Ok(taken.await.ok_or(NetworkError::Ended)??)
    }

    /// Takes a new token of this node's own, as its file contains it. Peers see it when they are greeted
    /// the next time.
    ///
    /// # Errors
    ///
    /// When it is no token, for another network, or does not count.
    pub async fn take_token(&self, text: &[u8]) -> Result<(), NetworkError> {
        let token = Token::from_text(text)?;
        let taken = self.inspect(move |core, _, now| core.mesh_mut().take_token(now, token));
        Ok(taken.await.ok_or(NetworkError::Ended)??)
    }
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A network's descriptors.
    Descriptor,
    /// A token of the node.
    Token,
}

/// Files of networks, read again when they change.
///
/// They are looked at every [`WATCH_INTERVAL`]: their contents, which are small, since a time of change
/// can be the same for two writings, and is not kept by every way of replacing a file.
#[derive(Debug)]
pub struct NetworkFiles {
    files: Vec<(FileKind, PathBuf, Vec<u8>)>,
}

impl NetworkFiles {
    /// Reads each network's descriptor and token from their files.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn read(networks: &[(PathBuf, PathBuf)]) -> Result<NetworkFiles, NetworkError> {
        let mut files = Vec::new();
        for (descriptor, token) in networks {
            for (kind, path) in [(FileKind::Descriptor, descriptor), (FileKind::Token, token)] {
                let content = std::fs::read(path)
                    .map_err(|source| NetworkError::Read { path: path.clone(), source })?;
                files.push((kind, path.clone(), content));
            }
        }
        Ok(NetworkFiles { files })
    }

    /// The contents of each network's files: the descriptor and the token.
    pub fn contents(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.files.chunks(2).map(|pair| (&pair[0].2[..], &pair[1].2[..]))
    }

    /// Whether there is nothing to watch.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Looks at the files, and gives the node what is new. Says of each that has changed whether it was
    /// taken. A file that is not there for a moment is no change.
    pub async fn refresh(
        &mut self,
        node: &Node,
    ) -> Vec<(FileKind, PathBuf, Result<(), NetworkError>)> {
        let mut changed = Vec::new();
        for (kind, path, known) in &mut self.files {
            let Ok(content) = tokio::fs::read(&*path).await else { continue };
            if content == *known {
                continue;
            }
            *known = content;
            let taken = match kind {
                FileKind::Descriptor => node.take_descriptor(known).await,
                FileKind::Token => node.take_token(known).await,
            };
            changed.push((*kind, path.clone(), taken));
        }
        changed
    }
}
