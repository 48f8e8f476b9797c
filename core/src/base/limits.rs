//! Every bound of a node, with its unit in its name, in one place.

use std::time::Duration;

/// The bounds of one node. What is beyond a bound is refused with an answer that says so: pressure
/// back to our own user, a refusal to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest payload of one message, in bytes. Told to peers in the handshake.
    pub message_bytes_max: usize,
    /// From this payload on, a call or an answer travels on a lane of its own, in bytes.
    pub own_lane_from_bytes: usize,
    /// Peers known at one time, connected or not.
    pub peers_max: usize,
    /// Links at one time, those still shaking hands included.
    pub links_max: usize,
    /// Links to one peer at one time. As many more may be shaking hands, so that a redial is not shut
    /// out by the links that it replaces.
    pub links_per_peer_max: usize,
    /// The highest protocol version that this node speaks; at most [`crate::wire::VERSION_MAX`]. At 1 it
    /// knows no link ids and no glare: a pair may keep several links.
    pub protocol_version_max: u32,
    /// Frames that wait for earlier ones on a link that is being drained, for one peer. Beyond it that
    /// link is closed and what was on it is sent again.
    pub frames_held_per_peer_max: usize,
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
            links_per_peer_max: 4,
            protocol_version_max: crate::wire::VERSION_MAX,
            frames_held_per_peer_max: 4_096,
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
            call_timeout_max: Duration::from_secs(24 * 3_600),
            steps_per_input_max: 10_000,
        }
    }
}
