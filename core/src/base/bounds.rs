//! Every bound that a peer can run into, under one vocabulary, and how often it refused something.
//!
//! [`Limits`] holds the values. A [`Bound`] names one of them, says what it counts and for which account,
//! and is the key under which [`Refusals`] counts. A machine reports a refusal with
//! [`Context::refused`](crate::machine::Context::refused).

use crate::base::Limits;

/// The account that a bound is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One IPv4 address, or one IPv6 /64.
    Address,
    /// One link.
    Link,
    /// One peer: a key that was proved.
    Peer,
    /// All keys that hold a token from one issuer's token.
    Issuer,
    /// One network.
    Network,
    /// The whole node.
    Node,
}

impl Scope {
    /// The name that is shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Address => "address",
            Scope::Link => "link",
            Scope::Peer => "peer",
            Scope::Issuer => "issuer",
            Scope::Network => "network",
            Scope::Node => "node",
        }
    }
}

/// The unit of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Bytes.
    Bytes,
    /// A rate, per second.
    PerSecond,
    /// A time, in milliseconds.
    Millis,
}

impl Unit {
    /// The name that is shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Count => "",
            Unit::Bytes => "bytes",
            Unit::PerSecond => "per second",
            Unit::Millis => "ms",
        }
    }
}

macro_rules! bounds {
    ($($(#[$doc:meta])* $bound:ident = $name:literal, $scope:ident, $unit:ident, $limit:expr;)+) => {
        /// One bound of a node.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bound {
            $($(#[$doc])* $bound,)+
        }

        impl Bound {
            /// All bounds, in the order in which they are shown.
            pub const ALL: &[Bound] = &[$(Bound::$bound,)+];

            /// The name that is shown to operators: lower case, words joined by hyphens.
            pub fn name(self) -> &'static str {
                match self { $(Bound::$bound => $name,)+ }
            }

            /// The account that it is charged to.
            pub fn scope(self) -> Scope {
                match self { $(Bound::$bound => Scope::$scope,)+ }
            }

            /// What it counts.
            pub fn unit(self) -> Unit {
                match self { $(Bound::$bound => Unit::$unit,)+ }
            }

            /// Its value.
            pub fn limit(self, limits: &Limits) -> u64 {
                fn of<T: TryInto<u64>>(value: T) -> u64 {
                    value.try_into().unwrap_or(u64::MAX)
                }
                match self { $(Bound::$bound => of(($limit)(limits)),)+ }
            }
        }
    };
}

bounds! {
    // Links and peers.
    /// [`Limits::links_max`].
    Links = "links", Node, Count, |l: &Limits| l.links_max;
    /// [`Limits::half_open_per_address_max`].
    HalfOpenPerAddress = "half-open-per-address", Address, Count, |l: &Limits| l.half_open_per_address_max;
    /// [`Limits::half_open_max`].
    HalfOpen = "half-open", Node, Count, |l: &Limits| l.half_open_max;
    /// Connections of the transport in any state: [`Limits::links_max`].
    Connections = "connections", Node, Count, |l: &Limits| l.links_max;
    /// [`Limits::unverified_links_per_address_max`].
    UnverifiedLinksPerAddress = "unverified-links-per-address", Address, Count, |l: &Limits| l.unverified_links_per_address_max;
    /// [`Limits::unverified_links_max`].
    UnverifiedLinks = "unverified-links", Node, Count, |l: &Limits| l.unverified_links_max;
    /// [`Limits::peers_per_issuer_max`].
    PeersPerIssuer = "peers-per-issuer", Issuer, Count, |l: &Limits| l.peers_per_issuer_max;
    /// [`Limits::links_per_peer_max`].
    LinksPerPeer = "links-per-peer", Peer, Count, |l: &Limits| l.links_per_peer_max;
    /// [`Limits::peers_max`].
    Peers = "peers", Node, Count, |l: &Limits| l.peers_max;

    /// [`Limits::frames_held_per_peer_max`].
    FramesHeldPerPeer = "frames-held-per-peer", Peer, Count, |l: &Limits| l.frames_held_per_peer_max;
    /// [`Limits::held_bytes_per_peer_max`].
    HeldBytesPerPeer = "held-bytes-per-peer", Peer, Bytes, |l: &Limits| l.held_bytes_per_peer_max;
    /// [`Limits::held_bytes_max`].
    HeldBytes = "held-bytes", Node, Bytes, |l: &Limits| l.held_bytes_max;

    // Calls.
    /// [`Limits::calls_served_per_peer_max`].
    CallsPerPeer = "calls-per-peer", Peer, Count, |l: &Limits| l.calls_served_per_peer_max;
    /// [`Limits::invocations_max`].
    Invocations = "invocations", Node, Count, |l: &Limits| l.invocations_max;

    // Events and subscriptions.
    /// [`Limits::subscriptions_per_peer_max`].
    SubscriptionsPerPeer = "subscriptions-per-peer", Peer, Count, |l: &Limits| l.subscriptions_per_peer_max;

    /// [`Limits::events_unacknowledged_max`].
    EventsUnacknowledged = "events-unacknowledged", Peer, Count, |l: &Limits| l.events_unacknowledged_max;
    /// [`Limits::events_ack_patience`].
    EventsAckPatience = "events-ack-patience", Peer, Millis, |l: &Limits| l.events_ack_patience.as_millis();

    /// [`Limits::publish_waits_in_vain_max`].
    PublishWaitsInVain = "publish-waits-in-vain", Node, Count, |l: &Limits| l.publish_waits_in_vain_max;

    // The directory.
    /// [`Limits::services_per_peer_max`].
    ServicesPerPeer = "services-per-peer", Peer, Count, |l: &Limits| l.services_per_peer_max;

    /// [`Limits::document_bytes_per_second_max`].
    DocumentBytes = "document-bytes", Peer, PerSecond, |l: &Limits| l.document_bytes_per_second_max;

    // Leases.
    /// [`Limits::leases_max`].
    Leases = "leases", Node, Count, |l: &Limits| l.leases_max;
    /// [`Limits::leases_per_issuer_max`].
    LeasesPerIssuer = "leases-per-issuer", Issuer, Count, |l: &Limits| l.leases_per_issuer_max;
}

/// How it stands with one bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundReport {
    /// The bound.
    pub bound: Bound,
    /// Its value, in its unit.
    pub limit: u64,
    /// How much is in use: of the account that uses most, where there are several. None where that is not counted.
    pub used: Option<u64>,
    /// How often it has refused something since the node started.
    pub refused: u64,
}

/// How often each bound has refused something since the node started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    counts: [u64; Bound::ALL.len()],
}

impl Default for Refusals {
    fn default() -> Self {
        Refusals { counts: [0; Bound::ALL.len()] }
    }
}

impl Refusals {
    /// Counts one more refusal.
    pub fn count(&mut self, bound: Bound) {
        let count = &mut self.counts[bound as usize];
        *count = count.saturating_add(1);
    }

    /// How often this bound has refused something.
    pub fn of(&self, bound: Bound) -> u64 {
        self.counts[bound as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bound_has_a_name_of_its_own_and_a_value() {
        let names: BTreeSet<&str> = Bound::ALL.iter().map(|bound| bound.name()).collect();
        assert_eq!(names.len(), Bound::ALL.len(), "names are unique");
        let limits = Limits::default();
        for bound in Bound::ALL {
            let legal = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(bound.name().chars().all(legal), "{bound:?}");
            assert!(bound.limit(&limits) > 0, "{bound:?} refuses everything by default");
        }
    }

    #[test]
    fn refusals_are_counted_for_each_bound() {
        let mut refusals = Refusals::default();
        refusals.count(Bound::Peers);
        refusals.count(Bound::Peers);
        assert_eq!((refusals.of(Bound::Peers), refusals.of(Bound::Links)), (2, 0));
    }
}
