//! The transport's settings, each with its default and where that comes from.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{AckFrequencyConfig, MtuDiscoveryConfig, VarInt, congestion};

use super::closing::ClosableFactory;
use crate::link::Lane;

/// Every path must carry UDP payloads of this size (RFC 9000, section 14).
const UDP_PAYLOAD_BYTES_MIN: u16 = 1_200;

/// Which congestion controller a link uses. BBR is not among them: quinn-proto's draws randomness of
/// its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// RFC 9438: keeps long fast paths filled. Computes a cube root in floating point.
    Cubic,
    /// RFC 9002, section 7: equal on every platform, bit for bit, for simulations.
    NewReno,
}

/// When a stranger must prove that it receives at its address, at the price of one round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressValidation {
    /// Never. QUIC still answers an unproven address with at most three times what it sent.
    Never,
    /// While at least so many accepted connections have not finished their handshake.
    FromHalfOpen(usize),
    /// Always.
    Always,
}

/// The settings of a [`Transport`](super::Transport).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportConfig {
    /// After this silence a packet is sent to keep the link and the mappings on its path alive. NATs
    /// may forget a UDP mapping after 30 s (RFC 4787, REQ-5); some do so far earlier.
    pub keep_alive: Duration,
    /// After this silence the link is down. Three keep-alives may be lost.
    pub idle_timeout: Duration,
    /// After this time a connection that is not up is given up. 8 s leave room for retransmissions at
    /// 1, 3 and 7 s (RFC 9002, section 6.2, with its initial round trip of 333 ms).
    pub handshake_timeout: Duration,
    /// While a dial goes unanswered, its next address is tried after this time (RFC 8305, section 5).
    pub dial_attempt_delay: Duration,
    /// Addresses of one dial that are tried; the rest is ignored. A guess.
    pub dial_addresses_max: usize,
    /// Connections at one time: up, shaking hands and closing together. Beyond it dials fail and
    /// strangers are refused.
    pub connections_max: usize,
    /// Handshakes that strangers may have begun and not finished: see [`crate::Limits::half_open_max`].
    pub half_open_max: usize,
    /// Those of one IPv4 address or IPv6 /64.
    pub half_open_per_address_max: usize,
    /// When strangers must prove their address.
    pub address_validation: AddressValidation,
    /// The UDP payload that a link starts with, in bytes. At least 1,200, which every path carries. On
    /// paths known to carry more (loopback, jumbo networks) 6,500 was measured best.
    pub udp_payload_initial_bytes: u16,
    /// How far path-MTU discovery goes, in bytes of UDP payload; none switches it off. 1,452 is
    /// Ethernet's 1,500 less IPv6 and UDP headers. It doubles the packets of a short connection, so
    /// large simulations go without.
    pub udp_payload_discovered_bytes_max: Option<u16>,
    /// The largest UDP payload that peers may send here, in bytes. The socket's buffers must hold it.
    pub udp_payload_accepted_bytes_max: u16,
    /// The largest payload of one message, in bytes.
    pub message_bytes_max: usize,
    /// The largest header of one frame, in bytes.
    pub header_bytes_max: usize,
    /// How far a peer may send ahead of our reading on one lane, in bytes: the bandwidth-delay product
    /// of 100 Mbit/s and 80 ms.
    pub lane_window_bytes: u32,
    /// What a peer may send on a link before its greeting is accepted, in bytes: read of its control lane, and as much
    /// again unread. At least a greeting with eight tokens, 40 KiB.
    pub untrusted_window_bytes: u32,
    /// Own lanes that a peer may have open at one time. Together with the window it bounds what a
    /// hostile peer can make this node buffer unread: by default 69 MiB.
    pub own_lanes_max: u32,
    /// Bytes of unfinished own-lane messages kept for one link; what does not fit waits in the window
    /// of its lane. At least one largest frame always fits.
    pub reassembly_bytes_max: usize,
    /// Unacknowledged bytes kept for one link, beyond which own lanes wait. Shared lanes and the
    /// control lane may use a quarter more, so that bulk does not hold them up.
    pub send_window_bytes: u64,
    /// Bytes pulled for own lanes of one link that their streams have not taken, beyond which no
    /// further own lane is started. Bounds what a slow peer holds at one largest frame more.
    pub own_unwritten_bytes_max: usize,
    /// Ask the peer to acknowledge only every so many packets (draft-ietf-quic-ack-frequency); none
    /// leaves it at every second. Well below the ten packets of the initial window, or the window
    /// would wait for the peer's acknowledgement timer.
    pub ack_every_packets: Option<u32>,
    /// The congestion controller.
    pub congestion: Congestion,
}

impl Default for TransportConfig {
    fn default() -> Self {
        TransportConfig {
            keep_alive: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(8),
            dial_attempt_delay: Duration::from_millis(250),
            dial_addresses_max: 8,
            connections_max: 4_096,
            half_open_max: 1_024,
            half_open_per_address_max: 512,
            address_validation: AddressValidation::FromHalfOpen(256),
            udp_payload_initial_bytes: UDP_PAYLOAD_BYTES_MIN,
            udp_payload_discovered_bytes_max: Some(1_452),
            udp_payload_accepted_bytes_max: 65_507,
            message_bytes_max: 8 << 20,
            header_bytes_max: 64 << 10,
            lane_window_bytes: 1 << 20,
            untrusted_window_bytes: 64 << 10,
            own_lanes_max: 64,
            reassembly_bytes_max: 16 << 20,
            send_window_bytes: 8 << 20,
            own_unwritten_bytes_max: 4 << 20,
            ack_every_packets: Some(4),
            congestion: Congestion::Cubic,
        }
    }
}

impl TransportConfig {
    /// The defaults for paths known to carry UDP payloads of this size: no discovery.
    pub fn for_datagrams_of(bytes: u16) -> Self {
        TransportConfig {
            udp_payload_initial_bytes: bytes,
            udp_payload_discovered_bytes_max: None,
            ..TransportConfig::default()
        }
    }

    /// The defaults for simulations: equal on every platform, few packets, small idle links.
    pub fn for_simulation() -> Self {
        TransportConfig {
            udp_payload_initial_bytes: 1_452,
            udp_payload_discovered_bytes_max: None,
            own_lanes_max: 16,
            congestion: Congestion::NewReno,
            ..TransportConfig::default()
        }
    }

    /// The longest frame that is accepted, in bytes.
    pub(super) fn frame_bytes_max(&self) -> usize {
        self.message_bytes_max.saturating_add(self.header_bytes_max)
    }

    /// What unfinished messages on own lanes may take, in bytes.
    pub(super) fn reassembly_budget_bytes(&self) -> usize {
        self.reassembly_bytes_max.max(self.frame_bytes_max())
    }

    /// What the lanes of small messages may use of the send window beyond the own lanes, in bytes.
    pub(super) fn send_reserve_bytes(&self) -> u64 {
        self.send_window_bytes / 4
    }

    /// The same for quinn-proto.
    pub(super) fn to_quic(&self) -> quinn_proto::TransportConfig {
        let initial_bytes = self.udp_payload_initial_bytes.max(UDP_PAYLOAD_BYTES_MIN);
        let streams = self.own_lanes_max.saturating_add(1 + Lane::SHARED as u32);
        let mut quic = quinn_proto::TransportConfig::default();
        quic.max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(streams))
            .datagram_receive_buffer_size(None)
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(Some(
                VarInt::from_u32(u32::try_from(self.idle_timeout.as_millis()).unwrap_or(u32::MAX))
                    .into(),
            ))
            .stream_receive_window(VarInt::from_u32(self.lane_window_bytes))
            // Until the greeting is accepted: see `Transport::trust`.
            .receive_window(VarInt::from_u32(self.untrusted_window_bytes))
            .send_window(self.send_window_bytes)
            .initial_mtu(initial_bytes)
            .min_mtu(UDP_PAYLOAD_BYTES_MIN)
            .mtu_discovery_config(self.udp_payload_discovered_bytes_max.map(|bytes_max| {
                let mut discovery = MtuDiscoveryConfig::default();
                discovery.upper_bound(bytes_max);
                discovery
            }))
            .ack_frequency_config(self.ack_every_packets.map(|packets| {
                let mut frequency = AckFrequencyConfig::default();
                // The threshold counts the packets that may go unacknowledged.
                frequency.ack_eliciting_threshold(VarInt::from_u32(packets.saturating_sub(1)));
                frequency
            }))
            // The spin bit shows the round trip to whoever watches.
            .allow_spin(false)
            .congestion_controller_factory(Arc::new(ClosableFactory(
                self.congestion_factory(initial_bytes),
            )));
        quic
    }

    /// Ten datagrams (RFC 9002, section 7.2). QUIC counts a whole datagram against the window before
    /// it sends, so a window of no more than one would never send anything.
    fn congestion_factory(
        &self,
        datagram_bytes: u16,
    ) -> Arc<dyn congestion::ControllerFactory + Send + Sync> {
        let window_bytes = 10 * u64::from(datagram_bytes);
        match self.congestion {
            Congestion::Cubic => {
                let mut cubic = congestion::CubicConfig::default();
                cubic.initial_window(window_bytes);
                Arc::new(cubic)
            }
            Congestion::NewReno => {
                let mut reno = congestion::NewRenoConfig::default();
                reno.initial_window(window_bytes);
                Arc::new(reno)
            }
        }
    }
}
