//! Every bound of a node, with its unit in its name, in one place.

use std::time::Duration;

/// The bounds of one node. What is beyond a bound is refused with an answer that says so: pressure
/// back to our own user, a refusal to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest payload of one message, in bytes. Told to peers in the handshake.
    pub message_bytes_max: usize,
    /// From this payload on, a call or an answer travels on a lane of its own, in bytes. At most
    /// [`SHARED_CALL_BYTES_MAX`](crate::wire::SHARED_CALL_BYTES_MAX) and one more.
    pub own_lane_from_bytes: usize,
    /// Peers known at one time, connected or not. An eighth is kept for those that this node was told to connect to.
    pub peers_max: usize,
    /// Links at one time, those still shaking hands included. An eighth is kept for peers that this node was told to
    /// connect to. The bounds of handshakes below links are those of the transport.
    pub links_max: usize,
    /// Handshakes that strangers may have begun and not finished, of one IPv4 address or IPv6 /64. Beyond it the oldest
    /// makes room.
    pub half_open_per_address_max: usize,
    /// Handshakes that strangers may have begun and not finished. Beyond it the oldest makes room. A flood pushes out an
    /// honest handshake only if that takes longer than this number over the rate of the flood: 0.7 s at 1,466 a second.
    pub half_open_max: usize,
    /// Links of strangers that have not greeted, of one IPv4 address or IPv6 /64. Beyond it the oldest is closed.
    pub unverified_links_per_address_max: usize,
    /// Links of strangers that have not greeted. Beyond it the oldest is closed.
    pub unverified_links_max: usize,
    /// Peers that are known at one time and whose rights come from one token that was delegated.
    pub peers_per_issuer_max: usize,
    /// Links to one peer at one time. As many more may be shaking hands, so that a redial is not shut
    /// out by the links that it replaces.
    pub links_per_peer_max: usize,
    /// The highest protocol version that this node speaks: from [`crate::wire::VERSION_MIN`] to
    /// [`crate::wire::VERSION_NEXT`], which is for tests and simulations.
    pub protocol_version_max: u32,
    /// Frames that wait for earlier ones on a link that is being drained, for one peer. Beyond it that
    /// link is closed and what was on it is sent again.
    pub frames_held_per_peer_max: usize,
    /// Bytes of these frames, with 128 for each, for one peer. Beyond it the same happens.
    pub held_bytes_per_peer_max: usize,
    /// Bytes of such frames of all peers. Beyond it the same happens to the link for which the last one waits.
    pub held_bytes_max: usize,
    /// How long a link that another one superseded may take to drain. After it whoever decided closes that
    /// link, and what was on it is sent again. Less than [`Limits::DRAIN_MAX_LEAST`] counts as that.
    pub drain_max: Duration,
    /// Calls of our own that have not ended.
    pub calls_open_max: usize,
    /// Calls of our own that wait for one peer's credit, or for its link.
    pub calls_waiting_per_peer_max: usize,
    /// Unanswered calls that one peer may have here. Told to peers in the handshake.
    pub calls_served_per_peer_max: usize,
    /// Handlers running at one time, for all callers.
    pub invocations_max: usize,
    /// Bytes of arguments of open calls to peers, beyond which no call is started.
    pub argument_bytes_max: usize,
    /// Bytes of answers kept for one caller that may ask again.
    pub kept_answer_bytes_per_peer_max: usize,
    /// Answers kept for one caller that may ask again.
    pub kept_answers_per_peer_max: usize,
    /// Services registered here.
    pub services_max: usize,
    /// Services that one peer may announce.
    pub services_per_peer_max: usize,
    /// Actions of one service.
    pub actions_per_service_max: usize,
    /// Subscriptions of this node.
    pub subscriptions_max: usize,
    /// Subscriptions that one peer may announce, and that this node announces; those that want the same are
    /// announced as one.
    pub subscriptions_per_peer_max: usize,
    /// Events that wait for one subscriber here. What does not fit it misses, and is told so.
    pub subscriber_events_max: usize,
    /// Bytes of payloads that wait for one subscriber here.
    pub subscriber_bytes_max: usize,
    /// Events for one peer that it has not acknowledged.
    pub events_unacknowledged_max: usize,
    /// Bytes of events for one peer that it has not acknowledged.
    pub events_unacknowledged_bytes_max: usize,
    /// How long a peer may acknowledge no event while it has no room for more. Then its link is closed, and what waits for
    /// it is lost. Before that events pass it over.
    pub events_ack_patience: Duration,
    /// Peers for which publishers wait in vain one after the other. Then peers without room are passed over at once, but
    /// for one each [`Limits::publish_wait_interval_ms`].
    pub publish_waits_in_vain_max: u32,
    /// See [`Limits::publish_waits_in_vain_max`]. In milliseconds, 1,000 s at most.
    pub publish_wait_interval_ms: u32,
    /// Events of groups that members at peers have, and can give back.
    pub events_lent_max: u32,
    /// Bytes of these events.
    pub events_lent_bytes_max: u32,
    /// Publications whose outcome somebody waits for, or that are for groups.
    pub publications_open_max: usize,
    /// Removals that are remembered so that peers can be told of them alone. Who missed more gets the whole
    /// document again.
    pub removals_kept_max: usize,
    /// Bytes of documents that one peer may send a second, after a burst. More are dropped, and asked for later.
    pub document_bytes_per_second_max: u64,
    /// Bytes of documents that one peer may send at once. At least the largest document,
    /// [`HEADER_BYTES_MAX`](crate::wire::HEADER_BYTES_MAX).
    pub document_bytes_burst_max: u64,
    /// Updates of our document that one peer may leave unacknowledged; later ones wait and are told as one.
    pub updates_unacknowledged_max: usize,
    /// Verified tokens of peers that are remembered, so that a peer that comes back with the same one costs no
    /// signature. At 0 every token is verified anew at every connection.
    pub verified_tokens_max: usize,
    /// Leases that this node wants at one time; and, if it is an acceptor, for which it keeps promises, which is for ever.
    pub leases_max: usize,
    /// Leases for which an acceptor keeps promises because of one peer, or because of all peers whose rights one token
    /// handed on.
    pub leases_per_issuer_max: usize,
    /// Peers that an acceptor tells when a lease is released that they have asked for, for each lease.
    pub lease_standbys_max: usize,
    /// How often each connected peer is told the digest of what we serve. A sign of life, too: shorter than
    /// the transport's keep-alive it replaces that.
    pub heartbeat_interval: Duration,
    /// The longest deadline of a call.
    pub call_timeout_max: Duration,
    /// Steps that one input may cause before the node asks to be woken at once.
    pub steps_per_input_max: usize,
}

impl Limits {
    /// The least [`Limits::drain_max`]. Who decides that another link stays does not know whether that is up
    /// at the other end too. If it comes to nothing there, its handshake ends (10 s), and should the word
    /// of that be lost, the silence is noticed (15 s): both before the link that lost is closed.
    pub const DRAIN_MAX_LEAST: Duration = Duration::from_secs(30);
}

impl Default for Limits {
    // Guesses, to be replaced by measurements of real deployments, except where noted.
    fn default() -> Self {
        Limits {
            message_bytes_max: 8 << 20,
            own_lane_from_bytes: 16 << 10,
            peers_max: 4_096,
            links_max: 4_096,
            half_open_per_address_max: 512,
            half_open_max: 1_024,
            unverified_links_per_address_max: 256,
            unverified_links_max: 512,
            // A sixteenth of all.
            peers_per_issuer_max: 256,
            links_per_peer_max: 4,
            protocol_version_max: crate::wire::VERSION_MAX,
            frames_held_per_peer_max: 4_096,
            // What the windows of four shared lanes hold, twice.
            held_bytes_per_peer_max: 8 << 20,
            held_bytes_max: 48 << 20,
            drain_max: Duration::from_secs(60),
            calls_open_max: 65_536,
            calls_waiting_per_peer_max: 16_384,
            calls_served_per_peer_max: 1_024,
            invocations_max: 65_536,
            argument_bytes_max: 256 << 20,
            kept_answer_bytes_per_peer_max: 16 << 20,
            kept_answers_per_peer_max: 4_096,
            services_max: 1_024,
            services_per_peer_max: 1_024,
            actions_per_service_max: 256,
            subscriptions_max: 65_536,
            subscriptions_per_peer_max: 8_192,
            subscriber_events_max: 16_384,
            subscriber_bytes_max: 64 << 20,
            events_unacknowledged_max: 16_384,
            events_unacknowledged_bytes_max: 32 << 20,
            // Twice the silence after which a link is dead.
            events_ack_patience: Duration::from_secs(30),
            // With the default patience of a second, a tenth of the time at most is waited in vain. Guesses.
            publish_waits_in_vain_max: 4,
            publish_wait_interval_ms: 10_000,
            // What waits at two subscribers that read nothing, and more. A guess.
            events_lent_max: 65_536,
            events_lent_bytes_max: 32 << 20,
            publications_open_max: 65_536,
            removals_kept_max: 1_024,
            // A change of a thousand services in a second, and three of the largest documents at once. Guesses.
            document_bytes_per_second_max: 128 << 10,
            document_bytes_burst_max: 3 << 20,
            updates_unacknowledged_max: 8,
            // Twice the peers of a large mesh-mode network, and more.
            verified_tokens_max: 1_024,
            leases_max: 16_384,
            // A sixteenth of all.
            leases_per_issuer_max: 1_024,
            lease_standbys_max: 16,
            // The interval of the keep-alive. Source: protocols.md, section 2.
            heartbeat_interval: Duration::from_secs(5),
            call_timeout_max: Duration::from_secs(24 * 3_600),
            steps_per_input_max: 10_000,
        }
    }
}
