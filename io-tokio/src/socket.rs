//! What the shell needs of a datagram socket.
//!
//! [`crate::udp::Udp`] is the real one. Tests bring their own: turmoil's simulated socket, or a wrapper
//! that loses packets.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

pub use dunlin_core::transport::{BATCH_BYTES_MAX, Datagram, Ecn, Transmit};

/// A datagram socket that never blocks.
///
/// A simulated socket needs three short methods:
///
/// ```
/// use std::{io, net::SocketAddr};
/// use dunlin_tokio::socket::{Datagram, Socket, Transmit};
///
/// struct Plain(tokio::net::UdpSocket);
///
/// impl Socket for Plain {
///     fn try_receive(&mut self, deliver: &mut dyn FnMut(Datagram)) -> io::Result<usize> {
///         let mut buf = [0; 1500];
///         let (len, from) = self.0.try_recv_from(&mut buf)?;
///         deliver(Datagram { from, local_ip: None, ecn: None, data: buf[..len].into() });
///         Ok(1)
///     }
///     fn try_send(&mut self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
///         self.0.try_send_to(contents, transmit.destination).map(drop)
///     }
///     async fn ready(&self, to_send: bool) -> io::Result<()> {
///         if to_send { self.0.writable().await } else { self.0.readable().await }
///     }
///     fn local_addr(&self) -> io::Result<SocketAddr> {
///         self.0.local_addr()
///     }
/// }
/// ```
pub trait Socket: Send + Sync + 'static {
    /// Delivers some of what has arrived, without waiting, and says how many buffers that took. Time
    /// and memory of one call must be bounded.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when nothing has arrived. Any other error ends the node, so what a
    /// stranger or the network can cause (ICMP errors) must not be one.
    fn try_receive(&mut self, deliver: &mut dyn FnMut(Datagram)) -> io::Result<usize>;

    /// Sends one batch, without waiting: `contents` cut into pieces of `transmit.segment_size`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when the socket takes no more for now; the same batch comes again.
    /// Any other error means that the batch is lost, which QUIC repairs.
    fn try_send(&mut self, transmit: &Transmit, contents: &[u8]) -> io::Result<()>;

    /// Waits until something has arrived, or, if `to_send`, until the socket takes more or something has
    /// arrived. May end for no reason. Dropped unfinished all the time.
    fn ready(&self, to_send: bool) -> impl Future<Output = io::Result<()>> + Send;

    /// Where it is bound.
    ///
    /// # Errors
    ///
    /// As the operating system says.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Every address where it is bound, at least one: several if there are several sockets in it.
    ///
    /// # Errors
    ///
    /// As the operating system says.
    fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![self.local_addr()?])
    }

    /// How many datagrams one [`Socket::try_send`] may carry. Asked again after every error.
    fn batch_datagrams_max(&self) -> usize {
        1
    }
}
