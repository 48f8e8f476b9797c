//! When a socket can be read, and when it can be written.
//!
//! The kernel reports that a datagram has left as soon as the other end takes it, and each report wakes
//! the process. So writing is watched only while a write has failed. Where tokio cannot watch one
//! direction alone, both are.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::task::{Context, Poll};

use quinn_udp::UdpSockRef;
use tokio::io::Interest;

/// A socket on tokio.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct Watched {
    readable: tokio::io::unix::AsyncFd<UdpSocket>,
    /// A second handle to the socket, while it is full.
    writable: Option<tokio::io::unix::AsyncFd<UdpSocket>>,
}

#[cfg(unix)]
#[expect(
    deprecated,
    reason = "unsound for types whose descriptor can change, which that of a std socket cannot; \
              what replaces it is unsafe"
)]
impl Watched {
    /// Watches a socket that does not block.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let readable = tokio::io::unix::AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Watched { readable, writable: None })
    }

    pub(crate) fn socket(&self) -> UdpSockRef<'_> {
        self.readable.get_ref().into()
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.readable.get_ref().local_addr()
    }

    /// Reads, unless it is known that nothing has arrived.
    pub(crate) fn try_read(
        &self,
        read: impl FnOnce(UdpSockRef<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.readable.try_io(Interest::READABLE, |socket| read(socket.into()))
    }

    /// Writes.
    pub(crate) fn try_write(
        &mut self,
        write: impl FnOnce(UdpSockRef<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let result = write(self.socket());
        match &result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // The last packets of a node may be sent when its runtime has ended.
                if self.writable.is_none() && tokio::runtime::Handle::try_current().is_ok() {
                    let socket = self.readable.get_ref().try_clone()?;
                    self.writable =
                        Some(tokio::io::unix::AsyncFd::with_interest(socket, Interest::WRITABLE)?);
                }
            }
            _ => self.writable = None,
        }
        result
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.readable.poll_read_ready(cx).map(|ready| ready.map(drop))
    }

    /// Whether a write that has failed may succeed now.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(writable) = &self.writable else { return Poll::Ready(Ok(())) };
        writable.poll_write_ready(cx).map(|ready| {
            // The write that follows shows whether it still is.
            ready.map(|mut ready| ready.clear_ready())
        })
    }
}

/// A socket on tokio.
#[cfg(not(unix))]
#[derive(Debug)]
pub(crate) struct Watched(tokio::net::UdpSocket);

#[cfg(not(unix))]
impl Watched {
    /// Watches a socket that does not block.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        tokio::net::UdpSocket::from_std(socket).map(Watched)
    }

    pub(crate) fn socket(&self) -> UdpSockRef<'_> {
        (&self.0).into()
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Reads, unless it is known that nothing has arrived.
    pub(crate) fn try_read(
        &self,
        read: impl FnOnce(UdpSockRef<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.0.try_io(Interest::READABLE, || read(self.socket()))
    }

    /// Writes.
    pub(crate) fn try_write(
        &mut self,
        write: impl FnOnce(UdpSockRef<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.0.try_io(Interest::WRITABLE, || write(self.socket()))
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_recv_ready(cx)
    }

    /// Whether a write that has failed may succeed now.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send_ready(cx)
    }
}
