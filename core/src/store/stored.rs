//! What an earlier life left behind, read and judged.

use bytes::Bytes;

use super::{Record, Table, Write};
use crate::base::Incarnation;

/// What an embedder has stored for this node in earlier lives. Empty at the first start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    life: Option<u64>,
}

/// A record cannot be what this node has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredError {
    /// No table has this number here: a later version may have written it.
    UnknownTable(u8),
    /// It is not what its table holds.
    Malformed {
        /// The table.
        table: Table,
        /// What is wrong.
        why: String,
    },
}

impl std::fmt::Display for StoredError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoredError::UnknownTable(number) => {
                write!(f, "no table has the number {number}: was it written by a later version?")
            }
            StoredError::Malformed { table, why } => write!(f, "a record of '{table}': {why}"),
        }
    }
}

impl std::error::Error for StoredError {}

impl Stored {
    /// Reads one record that was stored. In any order, each once.
    ///
    /// # Errors
    ///
    /// When this node cannot have written it. What was read before stays.
    pub fn read(&mut self, record: &Record) -> Result<(), StoredError> {
        let table = Table::from_number(record.table);
        match table.ok_or(StoredError::UnknownTable(record.table))? {
            Table::Life => {
                let why = |why| StoredError::Malformed { table: Table::Life, why };
                if !record.key.is_empty() || self.life.is_some() {
                    return Err(why("there is one life alone".into()));
                }
                let bytes = <[u8; 8]>::try_from(&record.value[..])
                    .map_err(|_| why(format!("{} bytes, not 8", record.value.len())))?;
                let counter = u64::from_be_bytes(bytes);
                if counter >= Incarnation::COUNTER_MAX {
                    return Err(why(format!("counter {counter}")));
                }
                self.life = Some(counter);
            }
        }
        Ok(())
    }

    /// The counter of the life before this one.
    pub fn life(&self) -> Option<u64> {
        self.life
    }
}

/// The counter of the present life, to be stored.
pub(crate) fn life(counter: u64) -> Write {
    let value = Bytes::copy_from_slice(&counter.to_be_bytes());
    Write { table: Table::Life, key: Bytes::new(), value: Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(write: Write) -> Record {
        Record { table: write.table.number(), key: write.key, value: write.value.unwrap() }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut stored = Stored::default();
        assert_eq!(stored.life(), None);
        stored.read(&record(life(7))).unwrap();
        assert_eq!(stored.life(), Some(7));
        assert!(stored.read(&record(life(8))).is_err(), "there is one");
        assert_eq!(stored.life(), Some(7));
    }

    #[test]
    fn what_this_node_cannot_have_written_is_refused() {
        let wrong = |table, key: &'static [u8], value: &'static [u8]| {
            let (key, value) = (Bytes::from_static(key), Bytes::from_static(value));
            Stored::default().read(&Record { table, key, value }).unwrap_err().to_string()
        };
        assert!(wrong(200, b"", b"").contains("later version"));
        assert!(wrong(1, b"", b"1234567").contains("7 bytes"));
        assert!(wrong(1, b"k", b"12345678").contains("alone"));
        assert!(wrong(1, b"", &[255; 8]).contains("counter"));
    }
}
