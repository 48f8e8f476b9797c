//! Records in a redb file: what is written with them, so that what is read is what was written.
//!
//! redb keeps its file whole whatever is lost of a transaction that was not synced. What it does not notice is a
//! byte that changes in a page at rest, so each record carries a checksum of its own.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use dunlin_core::store::{Record, StoreRequest};
use redb::{
    DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableError,
};

use super::StoreError;

/// The format of stores that this program reads and writes.
pub const FORMAT: u64 = 1;

const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
const RECORDS: TableDefinition<'_, (u8, &[u8]), &[u8]> = TableDefinition::new("records");

const CHECKSUM_BYTES: usize = 4;

/// Its own database is there until it is dropped.
#[derive(Debug)]
pub(super) struct Database(Option<redb::Database>);

impl Drop for Database {
    fn drop(&mut self) {
        // redb writes its last pages then, between others that may be damaged.
        let database = self.0.take();
        if caught(move || drop(database)).is_none() {
            tracing::warn!(
                "the store was not closed in order, and is repaired when it is opened again"
            );
        }
    }
}

/// Of its place as well: a record that is read where another was written is as wrong as one that has changed.
fn checksum(table: u8, key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[table]);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

fn damaged(path: &Path, what: impl ToString) -> StoreError {
    StoreError::Damaged { path: path.to_path_buf(), what: what.to_string() }
}

thread_local! {
    static GUARDS: Cell<u32> = const { Cell::new(0) };
}

/// Whether a panic of the present thread becomes a [`StoreError`]. For panic hooks: there is no need to print it.
pub fn is_guarded() -> bool {
    GUARDS.get() > 0
}

/// Catches panics of the database: redb panics on some files that are damaged, which is no reason for a node to.
pub(super) fn caught<T>(look: impl FnOnce() -> T) -> Option<T> {
    GUARDS.set(GUARDS.get() + 1);
    // What is half done is thrown away.
    let looked = catch_unwind(AssertUnwindSafe(look)).ok();
    GUARDS.set(GUARDS.get() - 1);
    looked
}

fn guarded<T>(path: &Path, look: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    caught(look).unwrap_or_else(|| Err(damaged(path, "no sense can be made of it")))
}

fn opened(
    path: &Path,
    open: impl FnOnce() -> Result<redb::Database, DatabaseError>,
) -> Result<Database, StoreError> {
    // All of it: a database that is not usable may panic when it is dropped, too.
    guarded(path, || {
        let database = Database(Some(open().map_err(|error| refusal(path, error))?));
        database.prepare(path)?;
        Ok(database)
    })
}

fn refusal(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_path_buf()),
        DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() == std::io::ErrorKind::InvalidData =>
        {
            damaged(path, source)
        }
        DatabaseError::Storage(redb::StorageError::Io(source)) => {
            StoreError::Open { path: path.to_path_buf(), source }
        }
        other => damaged(path, other),
    }
}

impl Database {
    pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
        opened(path, || redb::Database::create(path))
    }

    pub(super) fn on(path: &Path, backend: impl StorageBackend) -> Result<Database, StoreError> {
        opened(path, || redb::Builder::new().create_with_backend(backend))
    }

    fn inner(&self) -> &redb::Database {
        self.0.as_ref().expect("it is there until it is dropped")
    }

    fn begin(&self) -> Result<redb::WriteTransaction, redb::Error> {
        let mut transaction = self.inner().begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(transaction)
    }

    /// Writes the format into a new file, and looks at that of an old one.
    fn prepare(&self, path: &Path) -> Result<(), StoreError> {
        let found = self.about("format").map_err(|error| damaged(path, error))?;
        let Some(found) = found else {
            let write = || -> Result<(), redb::Error> {
                let transaction = self.begin()?;
                transaction.open_table(RECORDS)?;
                transaction.open_table(ABOUT)?.insert("format", &FORMAT.to_le_bytes()[..])?;
                Ok(transaction.commit()?)
            };
            return write().map_err(|error| match error {
                redb::Error::Io(source) => StoreError::Open { path: path.to_path_buf(), source },
                other => damaged(path, other),
            });
        };
        let found = <[u8; 8]>::try_from(found).map_err(|_| damaged(path, "it has no format"))?;
        match u64::from_le_bytes(found) {
            1..=FORMAT => Ok(()),
            found => Err(StoreError::Format { path: path.to_path_buf(), found }),
        }
    }

    fn about(&self, what: &str) -> Result<Option<Vec<u8>>, redb::Error> {
        let transaction = self.inner().begin_read()?;
        match transaction.open_table(ABOUT) {
            Ok(table) => Ok(table.get(what)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// Makes this node the owner of a store that has none. Another one, if it has.
    pub(super) fn claim(&self, path: &Path, node: &str) -> Result<Option<String>, StoreError> {
        let claim = || -> Result<Option<Vec<u8>>, redb::Error> {
            let owner = self.about("owner")?;
            if owner.is_none() {
                let transaction = self.begin()?;
                transaction.open_table(ABOUT)?.insert("owner", node.as_bytes())?;
                transaction.commit()?;
            }
            Ok(owner)
        };
        let owner = guarded(path, || claim().map_err(|error| damaged(path, error)))?;
        Ok(owner
            .map(|owner| String::from_utf8_lossy(&owner).into_owned())
            .filter(|owner| owner != node))
    }

    /// Everything that is stored, by table and key.
    pub(super) fn read_all(&self, path: &Path) -> Result<Vec<Record>, StoreError> {
        guarded(path, || self.read_all_trusting(path))
    }

    fn read_all_trusting(&self, path: &Path) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        let mut wrong = None;
        let read = |records: &mut Vec<Record>, wrong: &mut Option<String>| {
            let transaction = self.inner().begin_read()?;
            for entry in transaction.open_table(RECORDS)?.iter()? {
                let (place, value) = entry?;
                let ((table, key), value) = (place.value(), value.value());
                let (sum, value) = value.split_at(CHECKSUM_BYTES.min(value.len()));
                if sum != checksum(table, key, value) {
                    *wrong = Some(format!(
                        "the checksum of the record {} in table {table} is wrong",
                        data_encoding::HEXLOWER.encode(key)
                    ));
                }
                let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                records.push(Record { table, key, value });
            }
            Ok::<(), redb::Error>(())
        };
        read(&mut records, &mut wrong).map_err(|error| damaged(path, error))?;
        match wrong {
            Some(what) => Err(damaged(path, what)),
            None => Ok(records),
        }
    }

    /// Writes these in their order. They are durable when it returns: all, or none if it fails.
    pub(super) fn write(&self, requests: &[StoreRequest]) -> Result<(), redb::Error> {
        let transaction = self.begin()?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for write in requests.iter().flat_map(|request| &request.writes) {
                let (table, key) = (write.table.number(), &write.key[..]);
                match &write.value {
                    Some(value) => {
                        let mut bytes = Vec::with_capacity(CHECKSUM_BYTES + value.len());
                        bytes.extend_from_slice(&checksum(table, key, value));
                        bytes.extend_from_slice(value);
                        records.insert((table, key), &bytes[..])?;
                    }
                    None => {
                        records.remove((table, key))?;
                    }
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

#[cfg(test)]
#[path = "crash_tests.rs"]
mod crash_tests;
