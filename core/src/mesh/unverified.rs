//! Links of strangers that have not greeted: bounded per address and in all. Beyond a bound the oldest makes room.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::base::{AddressAccount, Bound, Limits};
use crate::link::LinkHandle;
use crate::planted::is_planted;

/// The accepted links that no greeting has verified. Handles grow, so that their order is that of their age.
#[derive(Clone, Debug, Default)]
pub(super) struct Unverified {
    /// With the account of the address; none where the transport has no addresses.
    links: BTreeMap<LinkHandle, Option<AddressAccount>>,
    of_address: BTreeMap<AddressAccount, BTreeSet<LinkHandle>>,
}

impl Unverified {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// How many the address has that has most.
    pub(super) fn most_of_one_address(&self) -> usize {
        self.of_address.values().map(BTreeSet::len).max().unwrap_or(0)
    }

    /// The link that is to make room before one from this address is taken, and the bound that says so.
    pub(super) fn crowding(
        &self,
        remote: Option<SocketAddr>,
        limits: &Limits,
    ) -> Option<(LinkHandle, Bound)> {
        let own = remote.and_then(|remote| self.of_address.get(&AddressAccount::of(remote)));
        if let Some(own) = own
            && !is_planted(173)
            && own.len() >= limits.unverified_links_per_address_max
        {
            return own.first().map(|oldest| (*oldest, Bound::UnverifiedLinksPerAddress));
        }
        if self.links.len() >= limits.unverified_links_max {
            let oldest = self.links.first_key_value();
            return oldest.map(|(oldest, _)| (*oldest, Bound::UnverifiedLinks));
        }
        None
    }

    pub(super) fn insert(&mut self, link: LinkHandle, remote: Option<SocketAddr>) {
        let account = remote.map(AddressAccount::of);
        self.links.insert(link, account);
        if let Some(account) = account {
            self.of_address.entry(account).or_default().insert(link);
        }
    }

    /// It was greeted, or is gone.
    pub(super) fn remove(&mut self, link: LinkHandle) {
        let account = self.links.remove(&link).flatten();
        if self.links.is_empty() {
            // Emptied maps would keep their memory, and most nodes have no strangers most of the time.
            *self = Unverified::default();
        } else if let Some(account) = account
            && let Some(own) = self.of_address.get_mut(&account)
        {
            own.remove(&link);
            if own.is_empty() {
                self.of_address.remove(&account);
            }
        }
    }
}
