//! What peers want: their subscriptions, found by topic.

use std::sync::Arc;

use crate::base::{FewMap, KeyMap, PeerId, PeerKey, PeerTag};
use crate::directory::{Entry, EntryKey, SubscriptionOffer};
use crate::events::group::GroupName;
use crate::events::plan::Elsewhere;
use crate::topic::{PatternIndex, SubscriptionKey, TopicPath};

#[derive(Clone, Debug)]
struct Interested {
    peer: PeerKey,
    id: PeerId,
    offer: Arc<SubscriptionOffer>,
}

/// The subscriptions of all peers, as far as they may have them.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    index: PatternIndex<Interested>,
    by_peer: KeyMap<PeerTag, FewMap<u64, SubscriptionKey>>,
}

impl Interest {
    /// Knows of no peer. Peers choose patterns, so that the key of its tables is to be drawn.
    pub fn keyed(seed: u64) -> Self {
        Interest { index: PatternIndex::with_hash_seed(seed), ..Interest::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// A peer's entry is new or different, or not listed any more. Says whether it was a subscription.
    pub fn change(
        &mut self,
        peer: PeerKey,
        id: PeerId,
        key: EntryKey,
        entry: Option<&Entry>,
    ) -> bool {
        let EntryKey::Subscription(number) = key else { return false };
        self.remove(peer, number);
        if let Some(Entry::Subscription(offer)) = entry {
            let interested = Interested { peer, id, offer: Arc::clone(offer) };
            let key = self.index.insert(&offer.pattern, interested);
            if self.by_peer.get(peer).is_none() {
                self.by_peer.insert(peer, FewMap::default());
            }
            self.by_peer.get_mut(peer).expect("just inserted").insert(number, key);
        }
        true
    }

    fn remove(&mut self, peer: PeerKey, number: u64) {
        let Some(of_peer) = self.by_peer.get_mut(peer) else { return };
        if let Some(key) = of_peer.remove(&number) {
            self.index.remove(key);
        }
        if of_peer.is_empty() {
            self.by_peer.remove(peer);
        }
    }

    /// The peer wants nothing any more. Says whether it wanted something.
    pub fn forget(&mut self, peer: PeerKey) -> bool {
        let Some(of_peer) = self.by_peer.remove(peer) else { return false };
        for key in of_peer.into_values() {
            self.index.remove(key);
        }
        true
    }

    /// The numbers of a peer's entries.
    pub fn of_peer(&self, peer: PeerKey) -> Vec<u64> {
        self.by_peer.get(peer).map(|entries| entries.keys().copied().collect()).unwrap_or_default()
    }

    /// The peers that want events of a topic.
    pub fn elsewhere(&self, topic: &TopicPath) -> Elsewhere {
        let mut elsewhere = Elsewhere::default();
        self.index.for_each_match(topic, |_, interested| {
            let Interested { peer, id, offer } = interested;
            let member = (*peer, *id, offer.members);
            match (&offer.group, &offer.service) {
                (Some(group), _) => {
                    let name = GroupName::Group(Arc::clone(group));
                    elsewhere.groups.push((name, offer.at_least_one, member));
                }
                (None, Some(service)) => elsewhere.of_services.push((service.clone(), member)),
                (None, None) => elsewhere.plain.push(*peer),
            }
        });
        elsewhere
    }

    /// Asserts what must hold between inputs.
    pub fn check_invariants(&self) {
        let listed: usize = self.by_peer.iter().map(|(_, entries)| entries.len()).sum();
        assert_eq!(listed, self.index.len(), "every subscription of a peer is listed");
    }
}
