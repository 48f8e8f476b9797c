//! One QUIC connection: from its first packet to its last.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{ConnectionError, ConnectionHandle, TransportErrorCode, VarInt};

use super::closing::open_window;
use super::crypto::WRONG_PEER_ALERT;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::strangers::Place;
use super::{ConnectionKey, Timer};
use crate::base::{MonoTime, TimerId};
use crate::link::{CloseCode, DialError, DialHandle, Direction, DownReason, LinkHandle};

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// The handshake is not over. The mesh does not know of it.
    Handshaking {
        /// For an attempt of ours, its dial.
        dial: Option<DialHandle>,
    },
    /// The mesh uses it.
    Up(Box<Link>),
    /// Closed, by whomever. Only QUIC itself still uses it, until it is drained.
    Closing,
}

/// What a connection has while the mesh uses it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) handle: LinkHandle,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
}

/// What is remembered of a path to judge whether QUIC's estimate of it can be true.
#[derive(Debug, Default)]
pub(super) struct PathMemory {
    /// The least smoothed round trip that is believed.
    pub(super) rtt_least: Option<Duration>,
    /// When the estimate was last thrown away.
    pub(super) doubted: MonoTime,
    /// How often in a row it was.
    pub(super) doubts: u32,
}

/// One connection.
pub(super) struct Connection {
    pub(super) quic: quinn_proto::Connection,
    pub(super) handle: ConnectionHandle,
    pub(super) stage: Stage,
    /// The deadline that QUIC last asked for, and its timer.
    pub(super) deadline: Option<(Instant, TimerId<Timer>)>,
    /// Ends a handshake that takes too long.
    pub(super) handshake_timer: Option<TimerId<Timer>>,
    /// For a handshake that a stranger has begun, its place among those.
    pub(super) stranger: Option<Place>,
    /// What is remembered to judge QUIC's estimate of the path.
    pub(super) path: PathMemory,
    /// The mesh has closed it with this code; the peer is to have everything first.
    pub(super) closes_with: Option<CloseCode>,
    /// In which of the lists of the transport it stands.
    pub(super) unsettled: bool,
    pub(super) unflushed: bool,
    pub(super) transmitting: bool,
}

impl Connection {
    pub(super) fn new(
        handle: ConnectionHandle,
        quic: quinn_proto::Connection,
        dial: Option<DialHandle>,
    ) -> Self {
        Connection {
            quic,
            handle,
            stage: Stage::Handshaking { dial },
            deadline: None,
            handshake_timer: None,
            stranger: None,
            path: PathMemory::default(),
            closes_with: None,
            unsettled: false,
            unflushed: false,
            transmitting: false,
        }
    }

    /// The link, while it is up.
    pub(super) fn link(&mut self) -> Option<(&mut quinn_proto::Connection, &mut Link)> {
        match &mut self.stage {
            Stage::Up(link) => Some((&mut self.quic, link)),
            Stage::Handshaking { .. } | Stage::Closing => None,
        }
    }

    /// Tells the peer that it is over. The closing packet leaves with the next transmission.
    pub(super) fn close(&mut self, now: Instant, code: CloseCode) {
        self.quic.close(now, VarInt::from_u32(code.0), Bytes::new());
        self.end();
    }

    /// Frees what the mesh's use of it needs; QUIC has closed it.
    pub(super) fn end(&mut self) {
        open_window(&self.quic);
        self.stage = Stage::Closing;
    }

    /// Whether it is over for everybody but QUIC.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing)
    }
}

/// A list of connections that have something to do, in the order in which it came up.
pub(super) type WorkList = std::collections::VecDeque<ConnectionKey>;

/// Who opened a connection, for the mesh.
pub(super) fn direction(dial: Option<DialHandle>) -> Direction {
    dial.map_or(Direction::Accepted, Direction::Dialled)
}

/// Why a link went down, from QUIC's reason.
pub(super) fn down_reason(error: ConnectionError) -> DownReason {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let code = u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX);
            DownReason::ClosedByPeer(CloseCode(code))
        }
        ConnectionError::TimedOut => DownReason::TimedOut,
        ConnectionError::Reset => DownReason::Reset,
        ConnectionError::LocallyClosed => DownReason::ClosedHere,
        other => DownReason::Failed(other.to_string()),
    }
}

/// Why an attempt to connect failed, from QUIC's reason.
pub(super) fn dial_error(error: ConnectionError) -> DialError {
    match error {
        ConnectionError::TimedOut => DialError::TimedOut,
        // Only our own verification ends in an error of our side; the peer's arrives as a close.
        ConnectionError::TransportError(error)
            if error.code == TransportErrorCode::crypto(WRONG_PEER_ALERT) =>
        {
            DialError::WrongPeer
        }
        ConnectionError::CidsExhausted => DialError::Unusable("no connection id is free".into()),
        other => DialError::Refused(other.to_string()),
    }
}

/// What is known of a link's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStats {
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// The UDP payload that the path is known to carry, in bytes.
    pub udp_payload_bytes: u16,
    /// UDP payload bytes sent.
    pub sent_bytes: u64,
    /// UDP payload bytes received.
    pub received_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets taken for lost.
    pub lost_packets: u64,
    /// How many bytes may be on the way at one time.
    pub congestion_window_bytes: u64,
}

impl LinkStats {
    pub(super) fn of(quic: &quinn_proto::Connection) -> Self {
        let stats = quic.stats();
        LinkStats {
            rtt: stats.path.rtt,
            udp_payload_bytes: stats.path.current_mtu,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            congestion_window_bytes: stats.path.cwnd,
        }
    }
}
