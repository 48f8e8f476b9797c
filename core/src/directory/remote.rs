//! What peers announce, and which of them is asked for a path.

use std::collections::BTreeMap;

use crate::base::{KeyMap, PeerKey, PeerTag};
use crate::directory::{Document, OfferState};
use crate::topic::{Pattern, PatternIndex, SubscriptionKey, TopicPath};

/// Everyone who offers one pattern, asked in turn.
#[derive(Clone, Debug)]
struct Offer {
    pattern: Pattern,
    peers: Vec<PeerKey>,
    next: usize,
}

/// The documents of all peers that are connected.
#[derive(Clone, Default)]
pub struct RemoteServices {
    documents: KeyMap<PeerTag, Document>,
    offers: PatternIndex<Offer>,
    by_pattern: BTreeMap<Pattern, SubscriptionKey>,
}

impl RemoteServices {
    /// Takes a peer's document, unless a newer one of its session, or the same, is known. Says whether it
    /// was taken. Of one version there may be several: what its owner shows, and what counts of it here,
    /// follows the rights of both.
    pub fn update(&mut self, peer: PeerKey, document: Document) -> bool {
        let is_known = |known: &Document| known.version > document.version || *known == document;
        if self.documents.get(peer).is_some_and(is_known) {
            return false;
        }
        self.forget(peer);
        for service in &document.services {
            if service.state == OfferState::Running {
                for action in &service.actions {
                    self.offer(peer, action);
                }
            }
        }
        self.documents.insert(peer, document);
        true
    }

    /// The peer's session is over: it offers nothing.
    pub fn forget(&mut self, peer: PeerKey) {
        let Some(document) = self.documents.remove(peer) else { return };
        for service in &document.services {
            if service.state == OfferState::Running {
                for action in &service.actions {
                    self.withdraw(peer, action);
                }
            }
        }
    }

    /// Forgets what a peer offers, but for the services that `keep` accepts.
    pub fn retain(&mut self, peer: PeerKey, keep: impl Fn(&TopicPath) -> bool) {
        let Some(mut document) = self.documents.get(peer).cloned() else { return };
        document.services.retain(|service| keep(&service.path));
        self.update(peer, document);
    }

    /// What a peer offers.
    pub fn document(&self, peer: PeerKey) -> Option<&Document> {
        self.documents.get(peer)
    }

    /// Picks a peer that offers the path, among those that `usable` accepts. Those who offer the same
    /// pattern are asked in turn.
    pub fn choose(
        &mut self,
        path: &TopicPath,
        mut usable: impl FnMut(PeerKey) -> bool,
    ) -> Option<PeerKey> {
        let (key, _) = self.offers.best_match(path)?;
        let offer = self.offers.get_mut(key)?;
        let count = offer.peers.len();
        for step in 0..count {
            let index = (offer.next + step) % count;
            if usable(offer.peers[index]) {
                offer.next = (index + 1) % count;
                return Some(offer.peers[index]);
            }
        }
        None
    }

    fn offer(&mut self, peer: PeerKey, pattern: &Pattern) {
        match self.by_pattern.get(pattern) {
            Some(key) => {
                let offer = self.offers.get_mut(*key).expect("indexed by pattern");
                if !offer.peers.contains(&peer) {
                    offer.peers.push(peer);
                }
            }
            None => {
                let offer = Offer { pattern: pattern.clone(), peers: vec![peer], next: 0 };
                let key = self.offers.insert(pattern, offer);
                self.by_pattern.insert(pattern.clone(), key);
            }
        }
    }

    fn withdraw(&mut self, peer: PeerKey, pattern: &Pattern) {
        let Some(key) = self.by_pattern.get(pattern).copied() else { return };
        let offer = self.offers.get_mut(key).expect("indexed by pattern");
        offer.peers.retain(|other| *other != peer);
        if offer.peers.is_empty() {
            let offer = self.offers.remove(key).expect("just looked up");
            self.by_pattern.remove(&offer.pattern);
        } else if offer.next >= offer.peers.len() {
            offer.next = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Slab;
    use crate::directory::ServiceOffer;

    fn document(version: u64, actions: &[&str]) -> Document {
        Document {
            version,
            services: vec![ServiceOffer {
                path: TopicPath::parse("math").unwrap(),
                state: OfferState::Running,
                actions: actions.iter().map(|a| Pattern::parse(a).unwrap()).collect(),
            }],
        }
    }

    #[test]
    fn peers_that_offer_the_same_are_asked_in_turn() {
        let mut peers: Slab<(), PeerTag> = Slab::default();
        let (a, b) = (peers.insert(()), peers.insert(()));
        let mut remote = RemoteServices::default();
        assert!(remote.update(a, document(1, &["math/add"])));
        assert!(remote.update(b, document(1, &["math/add"])));
        let path = TopicPath::parse("math/add").unwrap();
        let asked: Vec<_> = (0..4).map(|_| remote.choose(&path, |_| true).unwrap()).collect();
        assert_eq!(asked, [a, b, a, b]);
        assert_eq!(remote.choose(&path, |peer| peer == b), Some(b));
        assert_eq!(remote.choose(&path, |_| false), None);
    }

    #[test]
    fn an_older_document_changes_nothing_and_a_forgotten_peer_offers_nothing() {
        let mut peers: Slab<(), PeerTag> = Slab::default();
        let a = peers.insert(());
        let mut remote = RemoteServices::default();
        assert!(remote.update(a, document(2, &["math/add"])));
        assert!(!remote.update(a, document(1, &["math/sub"])));
        let sub = TopicPath::parse("math/sub").unwrap();
        let add = TopicPath::parse("math/add").unwrap();
        assert_eq!(remote.choose(&sub, |_| true), None);
        assert_eq!(remote.choose(&add, |_| true), Some(a));
        remote.forget(a);
        assert_eq!(remote.choose(&add, |_| true), None);
        assert!(remote.by_pattern.is_empty() && remote.offers.is_empty());
    }
}
