//! Where a node keeps what must survive a crash: one file, written by one process at a time.
//!
//! The core asks for things to be stored, and acts on them once they are durable ([`dunlin_core::store`]). A thread
//! of the store's own writes them, as many as are waiting in one transaction and one sync.
//!
//! ```text
//! mod       opening a store, and who has it
//! database  records in a file, and what can be wrong with one
//! writer    the thread that writes
//! ```

mod database;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dunlin_core::PeerId;
use dunlin_core::store::{Stored, StoredError};

pub use database::{FORMAT, is_guarded};
pub use redb::StorageBackend;

use database::Database;

/// The file within the folder of a store.
pub const FILE: &str = "store.redb";

/// Why a store cannot be opened or used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another node has it open.
    #[error("another node uses the store {0}; stop it, or give this one a store of its own")]
    InUse(PathBuf),
    /// The folder cannot be made, or the file not opened.
    #[error(
        "the store {path} cannot be opened: {source}. It needs a folder in which this user may write"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Others could put another file in its place.
    #[error(
        "the folder {} is not private: it must be a folder of your own into which nobody else may write (chmod 700)",
        .0.display()
    )]
    NotPrivate(PathBuf),
    /// A later version of this program has written it.
    #[error(
        "the store {path} has format {found}, and this program knows those up to {FORMAT}: use the program that \
         wrote it"
    )]
    Format {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It belongs to another node.
    #[error("the store {path} belongs to the node {owner}; give this one a store of its own")]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: String,
    },
    /// Something in it is not what was written.
    #[error(
        "the store {path} is damaged: {what}. Bring it back from a copy, or move it away: the node then starts as \
         one that has lost its disk"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A record in it is not what this node writes.
    #[error("the store {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: StoredError,
    },
}

/// A store that is open. Copies are the same store; one node at a time uses it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    database: Database,
    is_taken: AtomicBool,
}

impl Store {
    /// Opens the store in a folder, which is made if it is not there. Blocks while the file is read. A panic of the database
    /// about what it reads becomes an error; see [`is_guarded`] for programs with a panic hook.
    ///
    /// # Errors
    ///
    /// When the folder cannot be used, other users may write into it, another process has it open, or what is in it cannot be read.
    pub fn open(folder: impl AsRef<Path>) -> Result<Store, StoreError> {
        let folder = folder.as_ref();
        let path = folder.join(FILE);
        make_private(folder)
            .map_err(|source| StoreError::Open { path: folder.to_path_buf(), source })?;
        check_private(folder)?;
        make_file(&path).map_err(|source| StoreError::Open { path: path.clone(), source })?;
        let database = Database::open(&path)?;
        Ok(Store::of(path, database))
    }

    /// A store that ends with its last copy, for tests.
    pub fn in_memory() -> Store {
        Store::on(redb::backends::InMemoryBackend::new()).expect("memory can be written")
    }

    /// A store on whatever holds bytes: a device, an encrypted file, or a test that loses them.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn on(backend: impl StorageBackend) -> Result<Store, StoreError> {
        let path = PathBuf::from("of its own kind");
        let database = Database::on(&path, backend)?;
        Ok(Store::of(path, database))
    }

    fn of(path: PathBuf, database: Database) -> Store {
        Store(Arc::new(Shared { path, database, is_taken: AtomicBool::new(false) }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What the node with this id has stored in it. From now on it is that node's.
    ///
    /// # Errors
    ///
    /// When it is another node's, is used by one already, or cannot be read.
    pub(crate) fn take(&self, node: &PeerId) -> Result<(Taken, Stored), StoreError> {
        let path = || self.0.path.clone();
        if self.0.is_taken.swap(true, Ordering::AcqRel) {
            return Err(StoreError::InUse(path()));
        }
        let taken = Taken(self.clone());
        let database = &self.0.database;
        if let Some(owner) = database.claim(&path(), &node.to_string())? {
            return Err(StoreError::Owner { path: path(), owner });
        }
        let mut stored = Stored::default();
        for record in database.read_all(&path())? {
            stored
                .read(&record)
                .map_err(|source| StoreError::Unreadable { path: path(), source })?;
        }
        Ok((taken, stored))
    }
}

/// A store while a node uses it.
#[derive(Debug)]
pub(crate) struct Taken(Store);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.is_taken.store(false, Ordering::Release);
    }
}

/// Makes a folder that its owner alone may look into, with those above it.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Makes the file, if there is none, for its owner alone.
fn make_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// That other users cannot put their files in place of ours. Whether they may read is the owner's choice: the file itself is
/// closed to them.
#[cfg(unix)]
fn check_private(folder: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt;
    let about = folder
        .metadata()
        .map_err(|source| StoreError::Open { path: folder.to_path_buf(), source })?;
    let owners = [rustix::process::geteuid().as_raw(), 0];
    match owners.contains(&about.uid()) && about.mode() & 0o022 == 0 {
        true => Ok(()),
        false => Err(StoreError::NotPrivate(folder.to_path_buf())),
    }
}

#[cfg(not(unix))]
fn check_private(_folder: &Path) -> Result<(), StoreError> {
    Ok(())
}
