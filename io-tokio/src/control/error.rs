//! Why there is no control socket, or none to be used.

use std::io;
use std::path::PathBuf;

use super::client::ControlError;

/// The longest path of a socket that every Unix takes, in bytes: `sun_path` of macOS without its end.
pub(super) const PATH_BYTES_MAX: usize = 103;

/// Why there is no control socket, or none to be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A node listens there.
    #[error("{} is in use: another program listens there. Is the node running already?", .0.display())]
    Live(PathBuf),
    /// What is there is no socket.
    #[error("{} is there already and no socket; choose another path", .0.display())]
    NoSocket(PathBuf),
    /// The path does not fit into a socket's address.
    #[error(
        "the path of a control socket has at most {PATH_BYTES_MAX} bytes, and {} has more", .0.display()
    )]
    PathTooLong(PathBuf),
    /// Others could listen in the node's place.
    #[error(
        "the folder {} is not private: it must be a folder of your own that is closed to others \
         (chmod 700)", .0.display()
    )]
    NotPrivate(PathBuf),
    /// No node runs here.
    #[error("no node runs on this machine whose control socket is in {}", .0.display())]
    None(PathBuf),
    /// Nothing listens at a path.
    #[error("no node listens at {}", .0.display())]
    Nobody(PathBuf),
    /// It is not known which node is meant.
    #[error("several nodes run on this machine: {}", spell(.0))]
    Several(Vec<PathBuf>),
    /// There is no such thing on this system.
    #[error("there are no control sockets on this system, which is no Unix")]
    Unsupported,
    /// The node at the other end does not talk to us.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The operating system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With this file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

fn spell(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}
