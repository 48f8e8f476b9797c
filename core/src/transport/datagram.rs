//! What crosses the socket: datagrams in, batches of datagrams out.

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;

/// The largest UDP payload that IPv4 can carry. A batch beyond it is lost whole, without an error.
pub const BATCH_BYTES_MAX: usize = 65_507;

/// The congestion mark in a packet's IP header (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    /// ECN-capable, ECT(0): what this node sends.
    Ect0,
    /// ECN-capable, ECT(1).
    Ect1,
    /// A router on the way was congested.
    Ce,
}

impl Ecn {
    pub(super) fn to_quic(self) -> EcnCodepoint {
        match self {
            Ecn::Ect0 => EcnCodepoint::Ect0,
            Ecn::Ect1 => EcnCodepoint::Ect1,
            Ecn::Ce => EcnCodepoint::Ce,
        }
    }

    fn from_quic(ecn: EcnCodepoint) -> Self {
        match ecn {
            EcnCodepoint::Ect0 => Ecn::Ect0,
            EcnCodepoint::Ect1 => Ecn::Ect1,
            EcnCodepoint::Ce => Ecn::Ce,
        }
    }
}

/// A datagram that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub from: SocketAddr,
    /// The local address it was sent to, if the socket tells. Answers leave from it.
    pub local_ip: Option<IpAddr>,
    /// Its congestion mark, if the socket tells.
    pub ecn: Option<Ecn>,
    /// Its payload. Payloads of frames stay slices of this buffer, so it should not be a small part of
    /// a much larger one that is kept.
    pub data: BytesMut,
}

/// One or more datagrams to send, all to one place. Their bytes are in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where they go.
    pub destination: SocketAddr,
    /// The local address they should leave from.
    pub src_ip: Option<IpAddr>,
    /// The congestion mark to set.
    pub ecn: Option<Ecn>,
    /// How many bytes of the buffer they take.
    pub size: usize,
    /// With several datagrams, the bytes of each; the last may be shorter.
    pub segment_size: Option<usize>,
}

impl Transmit {
    pub(super) fn from_quic(transmit: quinn_proto::Transmit) -> Self {
        Transmit {
            destination: transmit.destination,
            src_ip: transmit.src_ip,
            ecn: transmit.ecn.map(Ecn::from_quic),
            size: transmit.size,
            segment_size: transmit.segment_size,
        }
    }
}
