//! In place of `socket.rs` where there are no Unix domain sockets: nothing listens, and nothing is found.

use std::io;
use std::path::{Path, PathBuf};

use dunlin_core::PeerId;
use tokio::io::DuplexStream;

use super::client::Client;
use super::error::SocketError;

/// Where control sockets would be.
pub fn folder() -> PathBuf {
    std::env::temp_dir().join("dunlin")
}

/// Where the control socket of a node would be in a folder.
pub fn socket_in(folder: &Path, node: PeerId) -> PathBuf {
    folder.join(format!("{node}.sock"))
}

/// A control socket. There is none.
#[derive(Debug)]
pub enum Listener {}

impl Listener {
    /// Listens nowhere.
    ///
    /// # Errors
    ///
    /// Always.
    pub async fn in_folder(_folder: &Path, _node: PeerId) -> Result<Listener, SocketError> {
        Err(SocketError::Unsupported)
    }

    /// Listens nowhere.
    ///
    /// # Errors
    ///
    /// Always.
    pub async fn at(_path: &Path) -> Result<Listener, SocketError> {
        Err(SocketError::Unsupported)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match *self {}
    }

    pub(super) async fn accept(&mut self) -> io::Result<DuplexStream> {
        match *self {}
    }
}

/// Finds nobody.
///
/// # Errors
///
/// Always.
pub async fn connect(_path: &Path) -> Result<Client, SocketError> {
    Err(SocketError::Unsupported)
}

/// Finds nobody.
///
/// # Errors
///
/// Always.
pub async fn find(_folder: &Path) -> Result<Client, SocketError> {
    Err(SocketError::Unsupported)
}
