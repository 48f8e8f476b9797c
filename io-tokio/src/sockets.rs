//! The sockets of a node: one, or two on loopback, which has no address of both kinds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use crate::socket::{Datagram, Socket, Transmit};
use crate::udp::Udp;

/// How often a port is looked for that both loopback addresses have free. A guess: the first is, unless another program
/// has it on one of them.
const PORT_ATTEMPTS: usize = 8;

/// Where to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Listen {
    At(SocketAddr),
    /// On both loopback addresses.
    Loopback,
    /// On all addresses.
    Everywhere,
}

impl Listen {
    /// The address that an error names.
    pub(crate) fn address(self) -> SocketAddr {
        match self {
            Listen::At(address) => address,
            Listen::Loopback => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            Listen::Everywhere => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        }
    }
}

/// One UDP socket, or one of IPv4 and one of IPv6 with the same port.
#[derive(Debug)]
pub(crate) struct Sockets {
    first: Udp,
    second: Option<Udp>,
    /// Which one is read first: each in its turn, so that neither starves the other.
    is_second_next: bool,
}

fn any_port(ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), 0)
}

impl Sockets {
    /// Binds them. Must be called within a tokio runtime.
    pub(crate) fn bind(listen: Listen) -> io::Result<Sockets> {
        match listen {
            Listen::At(address) => Sockets::at(address),
            Listen::Loopback => Sockets::loopback(),
            Listen::Everywhere => Sockets::everywhere(),
        }
    }

    /// On one address.
    fn at(address: SocketAddr) -> io::Result<Sockets> {
        Udp::bind(address).map(Sockets::one)
    }

    /// On all addresses of this machine.
    fn everywhere() -> io::Result<Sockets> {
        // A kernel without IPv6 has the other kind.
        let both = Udp::bind(any_port(Ipv6Addr::UNSPECIFIED));
        both.or_else(|_| Udp::bind(any_port(Ipv4Addr::UNSPECIFIED))).map(Sockets::one)
    }

    /// On the loopback addresses that this machine has.
    fn loopback() -> io::Result<Sockets> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let Ok(first) = Udp::bind(any_port(Ipv4Addr::LOCALHOST)) else {
                return Sockets::at(any_port(Ipv6Addr::LOCALHOST));
            };
            let port = first.local_addr()?.port();
            match Udp::bind(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)) {
                Ok(second) => return Ok(Sockets { second: Some(second), ..Sockets::one(first) }),
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && attempts < PORT_ATTEMPTS => {}
                Err(error) => {
                    tracing::debug!(%error, "no IPv6 on loopback");
                    return Ok(Sockets::one(first));
                }
            }
        }
    }

    fn one(first: Udp) -> Sockets {
        Sockets { first, second: None, is_second_next: false }
    }

    fn all(&self) -> impl Iterator<Item = &Udp> {
        std::iter::once(&self.first).chain(&self.second)
    }
}

impl Socket for Sockets {
    fn try_receive(&mut self, deliver: &mut dyn FnMut(Datagram)) -> io::Result<usize> {
        let Some(second) = &mut self.second else { return self.first.try_receive(deliver) };
        self.is_second_next = !self.is_second_next;
        let (one, other) = match self.is_second_next {
            true => (second, &mut self.first),
            false => (&mut self.first, second),
        };
        match one.try_receive(deliver) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => other.try_receive(deliver),
            result => result,
        }
    }

    fn try_send(&mut self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        match &mut self.second {
            Some(second) if transmit.destination.is_ipv6() => second.try_send(transmit, contents),
            _ => self.first.try_send(transmit, contents),
        }
    }

    fn ready(&self, to_send: bool) -> impl Future<Output = io::Result<()>> + Send {
        std::future::poll_fn(move |cx| {
            for socket in self.all() {
                if let Poll::Ready(result) = socket.poll_ready(cx, to_send) {
                    return Poll::Ready(result);
                }
            }
            Poll::Pending
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.first.local_addr()
    }

    fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.all().map(Udp::local_addr).collect()
    }

    fn batch_datagrams_max(&self) -> usize {
        self.all().map(Udp::batch_datagrams_max).min().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn receive(sockets: &mut Sockets) -> Datagram {
        loop {
            let mut got = None;
            match sockets.try_receive(&mut |datagram| got = Some(datagram)) {
                Ok(_) => return got.expect("one datagram"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            let ready = sockets.ready(false);
            tokio::time::timeout(Duration::from_secs(5), ready).await.expect("one comes").unwrap();
        }
    }

    #[tokio::test]
    async fn both_loopback_addresses_are_read_and_sent_from() {
        if std::net::UdpSocket::bind("[::1]:0").is_err() {
            return; // This machine has no IPv6.
        }
        let mut sockets = Sockets::loopback().unwrap();
        let bound = sockets.local_addrs().unwrap();
        assert_eq!(bound.len(), 2);
        assert_eq!(bound[0].port(), bound[1].port());
        for at in bound {
            let peer = std::net::UdpSocket::bind(SocketAddr::new(at.ip(), 0)).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            peer.send_to(b"ping", at).unwrap();
            let got = receive(&mut sockets).await;
            assert_eq!((got.from, &got.data[..]), (peer.local_addr().unwrap(), &b"ping"[..]));
            let transmit = Transmit {
                destination: got.from,
                src_ip: None,
                ecn: None,
                size: 4,
                segment_size: None,
            };
            sockets.try_send(&transmit, b"pong").unwrap();
            let mut buf = [0; 8];
            let (len, from) = peer.recv_from(&mut buf).unwrap();
            assert_eq!((&buf[..len], from), (&b"pong"[..], at));
        }
    }
}
