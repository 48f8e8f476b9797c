//! What must survive a crash: a conversation with the embedder, who alone knows of disks.
//!
//! What is to be stored goes out with a number, each one more than the last ([`crate::Mesh::poll_store`]). The
//! embedder writes in that order and says how far all of it is durable ([`StoreInput::Durable`]): one word for
//! many, so that it can write many in one sync. Whatever follows from a write is said to nobody before that.
//! A write that fails is final: what the disk holds is not known any more, so the node stops.
//!
//! At its start the embedder hands back what it has stored, as [`Stored`].
//!
//! ```text
//! mod       the words of the conversation
//! journal   what was asked for, given out, and made durable
//! stored    what an earlier life left behind, read and judged
//! ```
//!
//! | table | key | value | written |
//! | --- | --- | --- | --- |
//! | life | none | the counter of the present life, 8 bytes, the highest first | before the first frame of each life |
//! | lease | network id, epoch of the acceptors (8 bytes), path | the round that is promised (8 bytes), and to whom: peer id and boot number, or nothing if it was only learned; without a path: empty, and says that all earlier promises are there; in place of it `\0began`: those of former epochs are out of it, or `\0sealed`: by which epoch (8 bytes) | by an acceptor, before it promises |

pub(crate) mod journal;
pub(crate) mod stored;

use bytes::Bytes;

pub use stored::{Stored, StoredError};

/// What a record is about. The numbers are part of what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// The counter of the present life.
    Life = 1,
    /// What this node, as an acceptor of leases, has promised.
    Lease = 2,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 2] = [Table::Life, Table::Lease];

    /// The table with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.number() == number)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Table::Life => "life",
            Table::Lease => "lease",
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One value that is stored, under the name of its table and key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// The number of its table; see [`Table`].
    pub table: u8,
    /// Its place there. May be empty.
    pub key: Bytes,
    /// What is stored.
    pub value: Bytes,
}

/// A change of one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// The table.
    pub table: Table,
    /// The place in it.
    pub key: Bytes,
    /// What is there from now on; none takes the record away.
    pub value: Option<Bytes>,
}

/// What is to be stored together: after a crash all of it is there, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreRequest {
    /// From 1 in each start of the node, each one more than the last.
    pub seq: u64,
    /// In this order.
    pub writes: Vec<Write>,
}

/// What the embedder says of its store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreInput {
    /// This request and all before it survive a crash from now on.
    Durable {
        /// The number of the last one.
        seq: u64,
    },
    /// Something could not be stored, for this reason. The node stops; nothing more is given out.
    Failed {
        /// For people.
        why: String,
    },
}

/// The embedder says of its store what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreMisuse {
    /// What it says is durable.
    pub seq: u64,
    /// The last request that it was given.
    pub given: u64,
}

impl std::fmt::Display for StoreMisuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StoreMisuse { seq, given } = self;
        write!(f, "request {seq} cannot be durable: {given} is the last that was given out")
    }
}

impl std::error::Error for StoreMisuse {}
