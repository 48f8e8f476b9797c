//! Where control sockets are, and who may open them: Unix domain sockets.
//!
//! A socket that a crashed node has left behind looks like a live one. What tells them apart is a lock on a
//! file beside it, which the system lets go with the process, and that nobody answers. So two nodes that start
//! at once cannot take each other's socket for a dead one.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use dunlin_core::PeerId;
use tokio::net::{UnixListener, UnixStream};

use super::client::Client;
use super::error::{PATH_BYTES_MAX, SocketError};
use crate::key;

/// How the names of sockets in the default folder end, behind the id of their node.
const SUFFIX: &str = "sock";

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_path_buf();
    move |source| SocketError::Io { what, path, source }
}

/// The folder in which control sockets are if nobody says otherwise: `dunlin` in `$XDG_RUNTIME_DIR`, or
/// `dunlin-UID` in the folder for temporary files. It need not exist yet.
pub fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => Path::new(&folder).join("dunlin"),
        None => {
            let user = rustix::process::geteuid().as_raw();
            std::env::temp_dir().join(format!("dunlin-{user}"))
        }
    }
}

/// Where the control socket of a node is in a folder.
pub fn socket_in(folder: &Path, node: PeerId) -> PathBuf {
    folder.join(format!("{node}.{SUFFIX}"))
}

/// That a folder is ours alone: in a place where others may write, theirs could be in the way.
fn check_private(folder: &Path) -> Result<(), SocketError> {
    let about = folder.symlink_metadata().map_err(failed("look at", folder))?;
    let user = rustix::process::geteuid().as_raw();
    match about.is_dir() && about.uid() == user && about.mode() & 0o077 == 0 {
        true => Ok(()),
        false => Err(SocketError::NotPrivate(folder.to_path_buf())),
    }
}

fn make_folder(folder: &Path, recursive: bool) -> Result<(), SocketError> {
    match DirBuilder::new().mode(0o700).recursive(recursive).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("make the folder", folder)(error))
        }
        _ => Ok(()),
    }
}

/// A control socket that a node listens on. Dropping it takes it away.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket.
    file: (u64, u64),
    lock_path: PathBuf,
    /// Held for as long as this lives.
    _lock: File,
}

impl Listener {
    /// Listens for those who want to use this node, in a private folder that is made if need be: see
    /// [`folder`].
    ///
    /// # Errors
    ///
    /// When the folder is open to others, another process runs this node, or the system refuses.
    pub async fn in_folder(folder: &Path, node: PeerId) -> Result<Listener, SocketError> {
        make_folder(folder, false)?;
        check_private(folder)?;
        Listener::at(&socket_in(folder, node)).await
    }

    /// Listens at a path of the caller's choice. Its folder is made, closed to others, if there is none. The
    /// socket is readable and writable by its owner alone, from the moment that it is there.
    ///
    /// # Errors
    ///
    /// When somebody listens there, something else is there, or the system refuses.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its I/O enabled.
    pub async fn at(path: &Path) -> Result<Listener, SocketError> {
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(SocketError::PathTooLong(path.to_path_buf()));
        }
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        make_folder(folder, true)?;
        let mut lock_path = path.as_os_str().to_os_string();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock = lock(&lock_path, path)?;
        let bound = bind(path, folder).await;
        let (socket, file) = bound.inspect_err(|_| drop(std::fs::remove_file(&lock_path)))?;
        Ok(Listener { socket, path: path.to_path_buf(), file, lock_path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next client.
    pub(super) async fn accept(&mut self) -> io::Result<UnixStream> {
        Ok(self.socket.accept().await?.0)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Unless somebody has put another there.
        if self.path.symlink_metadata().is_ok_and(|about| (about.dev(), about.ino()) == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

/// Locks the file that belongs to a socket, or finds that a live process has.
fn lock(lock_path: &Path, path: &Path) -> Result<File, SocketError> {
    loop {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        // Through a symbolic link it would be another file each time that is looked at.
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
        let file = options.open(lock_path).map_err(failed("open", lock_path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SocketError::Live(path.to_path_buf())),
            Err(TryLockError::Error(error)) => return Err(failed("lock", lock_path)(error)),
        }
        let ours = file.metadata().map_err(failed("look at", lock_path))?;
        // Whoever had it may have removed the name between our opening and locking it.
        if let Ok(there) = lock_path.symlink_metadata()
            && (there.dev(), there.ino()) == (ours.dev(), ours.ino())
        {
            return Ok(file);
        }
    }
}

/// Binds the socket under another name in a closed folder, and gives it its name once nobody else can open it.
async fn bind(path: &Path, folder: &Path) -> Result<(UnixListener, (u64, u64)), SocketError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at", path)(error)),
        Ok(about) if !about.file_type().is_socket() => {
            return Err(SocketError::NoSocket(path.to_path_buf()));
        }
        Ok(_) => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(_) => return Err(SocketError::Live(path.to_path_buf())),
            Err(error) => return Err(failed("open", path)(error)),
        },
    }
    let draft = folder.join(format!(".{}", HEXLOWER.encode(&key::random()[..8])));
    make_folder(&draft, false)?;
    let first = draft.join("s");
    let bound = (|| {
        let socket = UnixListener::bind(&first).map_err(failed("listen at", &first))?;
        std::fs::set_permissions(&first, Permissions::from_mode(0o600))
            .map_err(failed("close", &first))?;
        let about = first.symlink_metadata().map_err(failed("look at", &first))?;
        std::fs::rename(&first, path).map_err(failed("make", path))?;
        Ok((socket, (about.dev(), about.ino())))
    })();
    let _ = std::fs::remove_file(&first);
    let _ = std::fs::remove_dir(&draft);
    bound
}

/// Uses the node that listens at a path.
///
/// # Errors
///
/// When there is none, or it does not talk to us.
pub async fn connect(path: &Path) -> Result<Client, SocketError> {
    let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            SocketError::Nobody(path.to_path_buf())
        }
        _ => failed("open", path)(error),
    })?;
    Ok(Client::over(stream).await?)
}

/// Uses the one node whose control socket is in a folder. Sockets at which nobody listens any more do not
/// count.
///
/// # Errors
///
/// When there is none, or there are several, or the folder is open to others.
pub async fn find(folder: &Path) -> Result<Client, SocketError> {
    let none = || SocketError::None(folder.to_path_buf());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
        Err(error) => return Err(failed("look into", folder)(error)),
    };
    check_private(folder)?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX))
        .collect();
    paths.sort();
    let mut live = Vec::new();
    for path in paths {
        if let Ok(stream) = UnixStream::connect(&path).await {
            live.push((path, stream));
        }
    }
    match live.len() {
        0 => Err(none()),
        1 => Ok(Client::over(live.remove(0).1).await?),
        _ => Err(SocketError::Several(live.into_iter().map(|(path, _)| path).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o777
    }

    fn id(secret: u8) -> PeerId {
        dunlin_core::Identity::from_secret([secret; 32]).id()
    }

    #[tokio::test]
    async fn a_socket_is_private_and_goes_with_its_listener() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("dunlin");
        let listener = Listener::in_folder(&folder, id(1)).await.unwrap();
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(listener.path()), 0o600);
        let name = format!("{}.sock", id(1));
        assert_eq!(names(&folder), [name.clone(), format!("{name}.lock")]);
        drop(listener);
        assert!(names(&folder).is_empty());
    }

    #[tokio::test]
    async fn a_live_socket_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.sock");
        let first = Listener::at(&path).await.unwrap();
        let error = Listener::at(&path).await.unwrap_err();
        assert!(matches!(error, SocketError::Live(_)), "{error}");
        assert!(UnixStream::connect(&path).await.is_ok(), "it still listens");
        drop(first);
        // Neither is one of a program that knows nothing of locks.
        let other = UnixListener::bind(&path).unwrap();
        let error = Listener::at(&path).await.unwrap_err();
        assert!(matches!(error, SocketError::Live(_)), "{error}");
        drop(other);
        assert_eq!(names(home.path()), ["a.sock"], "no lock is left behind");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.sock");
        // What a killed process leaves: the socket, and a lock file that nobody holds.
        drop(UnixListener::bind(&path).unwrap());
        std::fs::write(home.path().join("a.sock.lock"), "").unwrap();
        let listener = Listener::at(&path).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
        assert_eq!(mode(&path), 0o600);
        drop(listener);
        assert!(names(home.path()).is_empty());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notes");
        std::fs::write(&path, "mine").unwrap();
        let error = Listener::at(&path).await.unwrap_err();
        assert!(matches!(error, SocketError::NoSocket(_)), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        let long = home.path().join("x".repeat(PATH_BYTES_MAX));
        let error = Listener::at(&long).await.unwrap_err();
        assert!(matches!(error, SocketError::PathTooLong(_)), "{error}");
        assert_eq!(names(home.path()), ["notes"]);
    }

    #[tokio::test]
    async fn a_folder_that_others_may_enter_is_refused_at_both_ends() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("dunlin");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let error = Listener::in_folder(&folder, id(1)).await.unwrap_err();
        assert!(matches!(error, SocketError::NotPrivate(_)), "{error}");
        let error = find(&folder).await.unwrap_err();
        assert!(matches!(error, SocketError::NotPrivate(_)), "{error}");
    }

    #[tokio::test]
    async fn of_several_nodes_none_is_chosen() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("dunlin");
        assert!(matches!(find(&folder).await, Err(SocketError::None(_))), "no folder");
        let one = Listener::in_folder(&folder, id(1)).await.unwrap();
        let two = Listener::in_folder(&folder, id(2)).await.unwrap();
        let error = find(&folder).await.unwrap_err().to_string();
        for listener in [&one, &two] {
            assert!(error.contains(listener.path().to_str().unwrap()), "{error}");
        }
        drop((one, two));
        // Left behind, it does not count.
        drop(UnixListener::bind(socket_in(&folder, id(3))).unwrap());
        assert!(matches!(find(&folder).await, Err(SocketError::None(_))));
        let nobody = connect(&socket_in(&folder, id(3))).await.unwrap_err();
        assert!(matches!(nobody, SocketError::Nobody(_)), "{nobody}");
    }
}
