//! The real socket: UDP with the offloads of the operating system.
//!
//! Batches leave in one system call (GSO) and arrive in one (recvmmsg, GRO); congestion marks and
//! destination addresses come with them; packets are never fragmented.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use bytes::BytesMut;
use dunlin_core::base::BufferPool;
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Type};

use crate::reach::canonical;
use crate::socket::{BATCH_BYTES_MAX, Datagram, Ecn, Socket, Transmit};
use crate::watch::Watched;

/// What the kernel may queue in either direction, in bytes, if the system's limits allow. 4 MiB hold
/// 30 ms at 1 Gbit/s; measured, smaller ones lose packets in bursts.
pub const BUFFER_BYTES: usize = 4 << 20;

/// One receive buffer: the largest chain of datagrams that the kernel coalesces.
const RECEIVE_BYTES: usize = 1 << 16;

/// Chains up to this size share an allocation; larger ones get their own, of one of two sizes. A payload
/// that is kept holds its whole allocation, so this bounds the waste.
const SMALL_BYTES: usize = 2 << 10;

/// The shared allocation, in bytes.
const ARENA_BYTES: usize = 16 << 10;

/// The size of the smaller allocations of one chain: a large datagram, or five of the internet's.
const MEDIUM_BYTES: usize = 8 << 10;

/// How many allocations of either size are remembered: what one turn may receive.
const POOLED_MAX: usize = 64;

/// A UDP socket on tokio.
#[derive(Debug)]
pub struct Udp {
    socket: Watched,
    state: UdpSocketState,
    /// IPv6 sockets write IPv4 addresses in their own way.
    is_v6: bool,
    /// The last batch did not go out: the socket took no more.
    is_full: bool,
    buffers: Vec<u8>,
    /// How many buffers the next receive offers: few while little comes, as each costs set-up.
    width: usize,
    arena: BytesMut,
    medium: BufferPool,
    large: BufferPool,
}

/// Buffers offered at least.
const WIDTH_MIN: usize = 4;

impl Udp {
    /// Binds a socket. Must be called within a tokio runtime. Binding `[::]` serves IPv4 too, against the system's
    /// default is (`net.ipv6.bindv6only`).
    ///
    /// # Errors
    ///
    /// When the address is in use or not of this machine, or the system lacks what QUIC needs.
    pub fn bind(address: SocketAddr) -> io::Result<Udp> {
        let address = canonical(address);
        if !(address.is_ipv6() && address.ip().is_unspecified()) {
            return Udp::from_std(std::net::UdpSocket::bind(address)?);
        }
        let socket = socket2::Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(false)?;
        socket.bind(&address.into())?;
        Udp::from_std(socket.into())
    }

    /// Takes over a bound socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the system lacks what QUIC needs.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Udp> {
        let is_v6 = socket.local_addr()?.is_ipv6();
        let state = UdpSocketState::new((&socket).into())?;
        for (which, result) in [
            ("receive", state.set_recv_buffer_size((&socket).into(), BUFFER_BYTES)),
            ("send", state.set_send_buffer_size((&socket).into(), BUFFER_BYTES)),
        ] {
            if let Err(error) = result {
                tracing::debug!(%error, which, "the socket's buffer stays as it is");
            }
        }
        Ok(Udp {
            socket: Watched::new(socket)?,
            state,
            is_v6,
            is_full: false,
            buffers: vec![0; RECEIVE_BYTES * BATCH_SIZE],
            width: WIDTH_MIN,
            arena: BytesMut::new(),
            medium: BufferPool::new(POOLED_MAX),
            large: BufferPool::new(POOLED_MAX),
        })
    }

    /// What the kernel queues at most, in bytes: received, sent. Less than [`BUFFER_BYTES`] means that
    /// the system's limits (`net.core.rmem_max`, `net.core.wmem_max`) are low.
    ///
    /// # Errors
    ///
    /// As the operating system says.
    pub fn buffer_bytes(&self) -> io::Result<(usize, usize)> {
        Ok((
            self.state.recv_buffer_size(self.socket.socket())?,
            self.state.send_buffer_size(self.socket.socket())?,
        ))
    }

    fn outward(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) if self.is_v6 => IpAddr::V6(v4.to_ipv6_mapped()),
            other => other,
        }
    }

    /// Whether something has arrived, or, if `to_send`, a socket that was full takes more.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>, to_send: bool) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = self.socket.poll_readable(cx) {
            return Poll::Ready(result);
        }
        if to_send && self.is_full {
            return self.socket.poll_writable(cx);
        }
        Poll::Pending
    }
}

/// Whether an error on receiving comes from the network and concerns one packet at most.
fn is_harmless(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        ConnectionReset
            | ConnectionRefused
            | ConnectionAborted
            | HostUnreachable
            | NetworkUnreachable
            | NetworkDown
            | Interrupted
            | PermissionDenied
    ) || quinn_udp::is_msg_size_err(error)
}

impl Socket for Udp {
    fn try_receive(&mut self, deliver: &mut dyn FnMut(Datagram)) -> io::Result<usize> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let width = self.width.min(BATCH_SIZE);
        let mut received = 0;
        let result = self.socket.try_read(|socket| {
            let mut buffers = self.buffers.chunks_mut(RECEIVE_BYTES);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
                IoSliceMut::new(buffers.next().expect("one buffer for each place"))
            });
            received = self.state.recv(socket, &mut slices[..width], &mut metas[..width])?;
            if received < width && cfg!(target_os = "linux") {
                // The kernel stopped because nothing was left. Saying so here clears the readiness as
                // another system call would.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match result {
            Ok(()) => self.width = (width * 2).min(BATCH_SIZE),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if received == 0 {
                    return Err(error);
                }
                self.width = (received * 2).clamp(WIDTH_MIN, BATCH_SIZE);
            }
            Err(error) if is_harmless(&error) => {
                tracing::debug!(%error, "an error that a packet caused");
                return Ok(1);
            }
            Err(error) => return Err(error),
        }
        for (meta, buffer) in metas.iter().zip(self.buffers.chunks(RECEIVE_BYTES)).take(received) {
            if meta.len == 0 {
                continue;
            }
            let chain = &buffer[..meta.len];
            let mut chain = if chain.len() <= SMALL_BYTES {
                if self.arena.capacity() - self.arena.len() < chain.len() {
                    self.arena = BytesMut::with_capacity(ARENA_BYTES);
                }
                self.arena.extend_from_slice(chain);
                self.arena.split()
            } else {
                let (pool, bytes) = if chain.len() <= MEDIUM_BYTES {
                    (&mut self.medium, MEDIUM_BYTES)
                } else {
                    (&mut self.large, RECEIVE_BYTES)
                };
                let mut copy = pool.take(bytes);
                copy.extend_from_slice(chain);
                let chain = copy.split();
                pool.put_back(copy);
                chain
            };
            let from = canonical(meta.addr);
            let local_ip = meta.dst_ip.map(|ip| ip.to_canonical());
            let ecn = meta.ecn.map(|mark| match mark {
                EcnCodepoint::Ect0 => Ecn::Ect0,
                EcnCodepoint::Ect1 => Ecn::Ect1,
                EcnCodepoint::Ce => Ecn::Ce,
            });
            let stride = meta.stride.max(1);
            while chain.len() > stride {
                deliver(Datagram { from, local_ip, ecn, data: chain.split_to(stride) });
            }
            deliver(Datagram { from, local_ip, ecn, data: chain });
        }
        Ok(received)
    }

    fn try_send(&mut self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        debug_assert!(contents.len() <= BATCH_BYTES_MAX, "a larger batch is lost whole");
        let destination = transmit.destination;
        let transmit = quinn_udp::Transmit {
            destination: match self.outward(destination.ip()) {
                // With its scope, without which a link-local address leads nowhere.
                ip if ip == destination.ip() => destination,
                ip => SocketAddr::new(ip, destination.port()),
            },
            ecn: transmit.ecn.map(|mark| match mark {
                Ecn::Ect0 => EcnCodepoint::Ect0,
                Ecn::Ect1 => EcnCodepoint::Ect1,
                Ecn::Ce => EcnCodepoint::Ce,
            }),
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip.map(|ip| self.outward(ip)),
        };
        let state = &self.state;
        let sent = self.socket.try_write(|socket| state.try_send(socket, &transmit));
        self.is_full = matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        sent
    }

    fn ready(&self, to_send: bool) -> impl Future<Output = io::Result<()>> + Send {
        std::future::poll_fn(move |cx| self.poll_ready(cx, to_send))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn batch_datagrams_max(&self) -> usize {
        self.state.max_gso_segments().max(1)
    }
}

/// The address of this machine that packets to the outside leave from, if there is a way out. Asks the
/// routing table; sends nothing.
pub fn outbound_ip() -> Option<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849), which nobody has.
    for (bind, to) in [
        (SocketAddr::from(([0, 0, 0, 0], 0)), SocketAddr::from(([192, 0, 2, 1], 9))),
        (
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9)),
        ),
    ] {
        let found = std::net::UdpSocket::bind(bind)
            .and_then(|socket| socket.connect(to).and_then(|()| socket.local_addr()));
        if let Ok(address) = found
            && !address.ip().is_unspecified()
            && !address.ip().is_loopback()
        {
            return Some(address.ip());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receive(socket: &mut Udp, count: usize) -> Vec<Datagram> {
        let mut got = Vec::new();
        while got.len() < count {
            match socket.try_receive(&mut |datagram| got.push(datagram)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = socket.ready(false);
                    tokio::time::timeout(std::time::Duration::from_secs(5), ready)
                        .await
                        .expect("datagrams arrive")
                        .unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        got
    }

    async fn send(socket: &mut Udp, transmit: &Transmit, contents: &[u8]) {
        while let Err(error) = socket.try_send(transmit, contents) {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            socket.ready(true).await.unwrap();
        }
    }

    fn transmit(to: SocketAddr, size: usize, segment_size: Option<usize>) -> Transmit {
        Transmit { destination: to, src_ip: None, ecn: Some(Ecn::Ect0), size, segment_size }
    }

    #[tokio::test]
    async fn a_batch_arrives_as_the_datagrams_it_was_made_of() {
        let mut a = Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut b = Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let contents: Vec<u8> = (0..250u32).map(|n| n as u8).collect();
        let to = b.local_addr().unwrap();
        if a.batch_datagrams_max() >= 3 {
            send(&mut a, &transmit(to, 250, Some(100)), &contents).await;
        } else {
            for piece in contents.chunks(100) {
                send(&mut a, &transmit(to, piece.len(), None), piece).await;
            }
        }
        let got = receive(&mut b, 3).await;
        let sizes: Vec<usize> = got.iter().map(|d| d.data.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
        assert_eq!(got.iter().flat_map(|d| d.data.to_vec()).collect::<Vec<u8>>(), contents);
        assert_eq!(got[0].from, a.local_addr().unwrap());
        assert_eq!(got[0].local_ip, Some(to.ip()));
        // Not every system passes the mark on, and none makes one up.
        assert!(matches!(got[0].ecn, None | Some(Ecn::Ect0)), "{:?}", got[0].ecn);
    }

    #[tokio::test]
    async fn an_ipv6_socket_speaks_with_ipv4() {
        let Ok(mut six) = Udp::bind("[::]:0".parse().unwrap()) else {
            return; // This machine has no IPv6.
        };
        let mut four = Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        send(&mut six, &transmit(four.local_addr().unwrap(), 2, None), b"hi").await;
        let got = receive(&mut four, 1).await;
        let back = SocketAddr::new("127.0.0.1".parse().unwrap(), six.local_addr().unwrap().port());
        assert_eq!(got[0].from, back);
        send(&mut four, &transmit(back, 2, None), b"ho").await;
        let got = receive(&mut six, 1).await;
        assert_eq!(got[0].from, four.local_addr().unwrap(), "in its IPv4 form");
    }
}
