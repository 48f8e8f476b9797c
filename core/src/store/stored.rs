//! What an earlier life left behind, read and judged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Record, Table, Write};
use crate::auth::NetworkId;
use crate::base::{Incarnation, PeerId};
use crate::lease::{self, LeaseName, ProposerId};

/// What an embedder has stored for this node in earlier lives. Empty at the first start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    life: Option<u64>,
    /// What was promised, by the key of its record.
    promises: BTreeMap<Bytes, lease::Record>,
    is_damaged: bool,
}

/// The bytes of a network's id and an epoch, in front of a path.
const LEASE_PREFIX: usize = 32 + 8;

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
                if counter > Incarnation::COUNTER_MAX {
                    return Err(why(format!("counter {counter}")));
                }
                self.life = Some(counter);
            }
            Table::Lease => {
                let promise = read_promise(record)
                    .map_err(|why| StoredError::Malformed { table: Table::Lease, why })?;
                self.promises.insert(record.key.clone(), promise);
            }
        }
        Ok(())
    }

    /// A record was there and could not be read, or some may be missing. An acceptor of leases then asks the others what
    /// it has promised.
    pub fn note_damage(&mut self) {
        self.is_damaged = true;
    }

    /// What was promised as an acceptor of leases of a network, in an epoch.
    pub(crate) fn promises(&self, network: NetworkId, epoch: u64) -> Vec<lease::Record> {
        let prefix = lease_key(network, epoch, &[]);
        let of_epoch = self.promises.iter().filter(|(key, _)| key.starts_with(&prefix));
        let sound =
            of_epoch.filter(|(_, r)| !self.is_damaged || !matches!(r, lease::Record::Complete));
        sound.map(|(_, record)| record.clone()).collect()
    }

    /// What was promised in earlier epochs, to be taken away. That this node was an acceptor in them, and how they
    /// ended, stays: it is little, and a node that is given an old descriptor again must know it.
    pub(crate) fn outdated_promises(&self, network: NetworkId, epoch: u64) -> Vec<Write> {
        let own = lease_key(network, epoch, &[]);
        let of_network =
            self.promises.iter().filter(|(key, _)| key.starts_with(network.as_bytes()));
        let older = of_network.filter(|(key, record)| {
            key[..LEASE_PREFIX] < own[..] && matches!(record, lease::Record::Promise { .. })
        });
        older.map(|(key, _)| Write { table: Table::Lease, key: key.clone(), value: None }).collect()
    }

    /// All that was stored as an acceptor of leases of a network, by epoch.
    pub(crate) fn lease_records(&self, network: NetworkId) -> BTreeMap<u64, Vec<lease::Record>> {
        let of_network = self.promises.keys().filter(|key| key.starts_with(network.as_bytes()));
        let epochs: BTreeSet<u64> = of_network.map(|key| number(&key[32..LEASE_PREFIX])).collect();
        epochs.into_iter().map(|epoch| (epoch, self.promises(network, epoch))).collect()
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

fn lease_key(network: NetworkId, epoch: u64, path: &[u8]) -> Bytes {
    [&network.as_bytes()[..], &epoch.to_be_bytes(), path].concat().into()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("the slice has eight bytes"))
}

/// In place of a path, which never begins so.
const BEGAN: &[u8] = b"\0began";
const SEALED: &[u8] = b"\0sealed";

fn read_promise(record: &Record) -> Result<lease::Record, String> {
    let wrong = |what: &str, bytes: usize| format!("{what} of {bytes} bytes");
    let key = &record.key;
    if key.len() < LEASE_PREFIX {
        return Err(wrong("a key", key.len()));
    }
    let (prefix, path) = key.split_at(LEASE_PREFIX);
    if path.is_empty() {
        return match record.value.len() {
            0 => Ok(lease::Record::Complete),
            bytes => Err(wrong("a value", bytes)),
        };
    }
    if path == BEGAN || path == SEALED {
        return match record.value.len() {
            0 if path == BEGAN => Ok(lease::Record::Began),
            8 if path == SEALED => Ok(lease::Record::Sealed(number(&record.value))),
            bytes => Err(wrong("a value", bytes)),
        };
    }
    let name = LeaseName::new([&prefix[..32], path].concat().into());
    let name = name.map_err(|error| error.to_string())?;
    let proposer = match record.value.len() {
        8 => None,
        48 => {
            let peer = record.value[8..40].try_into().expect("the slice has 32 bytes");
            Some(ProposerId { peer: PeerId::from_bytes(peer), boot: number(&record.value[40..]) })
        }
        bytes => return Err(wrong("a value", bytes)),
    };
    Ok(lease::Record::Promise { name, round: number(&record.value[..8]), proposer })
}

/// What an acceptor of leases must not forget, to be stored.
pub(crate) fn promise(network: NetworkId, epoch: u64, record: &lease::Record) -> Write {
    let (path, value) = match record {
        lease::Record::Complete => (&[][..], Bytes::new()),
        lease::Record::Began => (BEGAN, Bytes::new()),
        lease::Record::Sealed(by) => (SEALED, Bytes::copy_from_slice(&by.to_be_bytes())),
        lease::Record::Promise { name, round, proposer } => {
            let mut value = round.to_be_bytes().to_vec();
            if let Some(ProposerId { peer, boot }) = proposer {
                value.extend_from_slice(peer.as_bytes());
                value.extend_from_slice(&boot.to_be_bytes());
            }
            (&name.as_bytes()[32..], value.into())
        }
    };
    Write { table: Table::Lease, key: lease_key(network, epoch, path), value: Some(value) }
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
    fn promises_are_read_by_network_and_epoch() {
        let network = |byte| NetworkId::from_bytes([byte; 32]);
        let name =
            |byte: u8| LeaseName::new([&[byte; 32][..], b"counter"].concat().into()).unwrap();
        let proposer = Some(ProposerId { peer: PeerId::from_bytes([9; 32]), boot: 77 });
        let promised = lease::Record::Promise { name: name(1), round: 5, proposer };
        let learned = lease::Record::Promise { name: name(2), round: 6, proposer: None };
        let mut stored = Stored::default();
        for (network, epoch, of) in [
            (network(1), 3, &promised),
            (network(1), 3, &lease::Record::Complete),
            (network(1), 2, &lease::Record::Complete),
            (network(2), 3, &learned),
        ] {
            stored.read(&record(promise(network, epoch, of))).unwrap();
        }
        let complete = lease::Record::Complete;
        assert_eq!(stored.promises(network(1), 3), [complete.clone(), promised.clone()]);
        assert_eq!(stored.promises(network(1), 2), [complete]);
        assert_eq!(stored.promises(network(2), 3), [learned]);
        assert_eq!(stored.promises(network(2), 4), []);
        let outdated = stored.outdated_promises(network(1), 3);
        assert_eq!(outdated, [], "that it was complete in an earlier epoch stays");
        let outdated = stored.outdated_promises(network(1), 4);
        assert_eq!(outdated.len(), 1);
        assert_eq!(
            (&outdated[0].key, &outdated[0].value),
            (&promise(network(1), 3, &promised).key, &None)
        );
        for of in [lease::Record::Began, lease::Record::Sealed(4)] {
            stored.read(&record(promise(network(1), 3, &of))).unwrap();
            assert!(stored.promises(network(1), 3).contains(&of));
        }
        let epochs =
            |stored: &Stored| stored.lease_records(network(1)).into_keys().collect::<Vec<_>>();
        assert_eq!(epochs(&stored), [2, 3]);
        stored.note_damage();
        let kept = [lease::Record::Began, lease::Record::Sealed(4), promised];
        assert_eq!(stored.promises(network(1), 3), kept, "there may have been more");
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
        assert!(wrong(2, b"short", b"").contains("5 bytes"));
        assert!(wrong(2, &[7; 40], b"x").contains("1 bytes"));
        assert!(wrong(2, &[7; 41], b"123").contains("3 bytes"));
    }
}
