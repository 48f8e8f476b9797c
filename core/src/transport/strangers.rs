//! Connections that strangers have begun and not finished: bounded per address and in all.
//!
//! Beyond a bound the oldest one makes room, and not the newcomer is refused: a handshake takes a few round trips, so
//! that a flood pushes out its own leftovers long before it reaches one that goes on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::ConnectionKey;
use crate::base::{AddressAccount, Bound};

/// Names one unfinished handshake, in the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    number: u64,
    account: AddressAccount,
}

/// The unfinished handshakes of strangers, oldest first, in all and of each address.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    next: u64,
    all: BTreeMap<u64, (AddressAccount, ConnectionKey)>,
    of_address: BTreeMap<(AddressAccount, u64), ()>,
    counts: BTreeMap<AddressAccount, usize>,
}

impl Strangers {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The one that has to make room before another of this address is taken, and the bound that says so.
    pub(super) fn crowding(
        &self,
        from: SocketAddr,
        per_address_max: usize,
        max: usize,
    ) -> Option<(ConnectionKey, Bound)> {
        let account = AddressAccount::of(from);
        if self.counts.get(&account).copied().unwrap_or(0) >= per_address_max {
            let mut own = self.of_address.range((account, 0)..=(account, u64::MAX));
            let ((_, number), ()) = own.next()?;
            return Some((self.all.get(number)?.1, Bound::HalfOpenPerAddress));
        }
        if self.all.len() >= max {
            let (_, (_, oldest)) = self.all.first_key_value()?;
            return Some((*oldest, Bound::HalfOpen));
        }
        None
    }

    /// The oldest of all.
    pub(super) fn oldest(&self) -> Option<ConnectionKey> {
        self.all.first_key_value().map(|(_, (_, key))| *key)
    }

    /// Takes one in.
    pub(super) fn insert(&mut self, from: SocketAddr, key: ConnectionKey) -> Place {
        let place = Place { number: self.next, account: AddressAccount::of(from) };
        self.next += 1;
        self.all.insert(place.number, (place.account, key));
        self.of_address.insert((place.account, place.number), ());
        *self.counts.entry(place.account).or_default() += 1;
        place
    }

    /// Its handshake is over.
    pub(super) fn remove(&mut self, place: Place) {
        let Place { number, account } = place;
        if self.all.remove(&number).is_none() {
            return;
        }
        self.of_address.remove(&(account, number));
        if let Some(count) = self.counts.get_mut(&account) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&account);
            }
        }
    }
}
