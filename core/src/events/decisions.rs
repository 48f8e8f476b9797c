//! What was decided of the events that came last: most are like the one before.
//!
//! Where an event goes depends on its publisher, on the topic as that wrote it, on the publisher's right to it,
//! and on who subscribes. A decision stands until one of them is something else: the right is looked at each
//! time ([`Permit`]), the subscribers are counted in generations, and the rest is compared.

use std::sync::Arc;

use crate::auth::Permit;
use crate::base::PeerKey;
use crate::events::plan::Plan;
use crate::topic::TopicPath;
use crate::topic::memory::{PLACES, place_of};

/// What was decided of an event.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Who published it.
    pub peer: PeerKey,
    /// Its topic, as the publisher wrote it.
    pub written: TopicPath,
    /// The right to it.
    pub permit: Permit,
    /// Its topic, as it is written here.
    pub topic: TopicPath,
    /// Who gets it.
    pub plan: Arc<Plan>,
    /// The generation of the plan.
    pub generation: u64,
}

/// Decisions of the events that came last, one for each place of a topic: see `place_of`.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// Nothing until there is a first.
    places: Option<Box<[Option<Decision>; PLACES]>>,
}

impl Decisions {
    /// What was decided of an event like this one, if that may still stand.
    pub fn of(&self, peer: PeerKey, written: &TopicPath, generation: u64) -> Option<&Decision> {
        let decision = self.places.as_ref()?[place_of(written.as_bytes())].as_ref()?;
        let stands = decision.peer == peer
            && decision.generation == generation
            && decision.written == *written;
        stands.then_some(decision)
    }

    /// Remembers what was decided.
    pub fn remember(&mut self, decision: Decision) {
        let place = place_of(decision.written.as_bytes());
        self.places.get_or_insert_default()[place] = Some(decision);
    }

    /// What was decided may be wrong now.
    pub fn forget(&mut self) {
        self.places = None;
    }
}
