//! Where a peer is: `ID@host:port`.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use dunlin_core::PeerId;

/// A peer's id and where it may be found, written `ID@host:port`. The host is an IP address (IPv6 in
/// brackets) or a name.
///
/// ```
/// use dunlin_tokio::PeerAddress;
///
/// let text = "aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaq@192.168.1.7:4400";
/// let address: PeerAddress = text.parse().unwrap();
/// assert_eq!(address.to_string(), text);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Who it is. Whoever answers there without this key is not talked to.
    pub peer: PeerId,
    /// Where it is.
    pub host: HostPort,
}

/// The part behind the `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPort {
    /// An address.
    Address(SocketAddr),
    /// A name to be looked up, and a port.
    Name(String, u16),
}

/// Why a text is not a peer's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a peer's address: {why}. It is written ID@host:port, as `dunlin serve` prints it"
)]
pub struct ParsePeerAddressError {
    text: String,
    why: String,
}

impl HostPort {
    /// Whether it is this machine, whatever names mean elsewhere.
    pub fn is_loopback(&self) -> bool {
        match self {
            HostPort::Address(address) => address.ip().to_canonical().is_loopback(),
            HostPort::Name(name, _) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl PeerAddress {
    /// A peer at a known address.
    pub fn new(peer: PeerId, address: SocketAddr) -> Self {
        PeerAddress { peer, host: HostPort::Address(address) }
    }

    /// The addresses behind the host, looked up if it is a name.
    ///
    /// # Errors
    ///
    /// When the name cannot be looked up or leads nowhere.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            HostPort::Address(address) => Ok(vec![*address]),
            HostPort::Name(name, port) => {
                let found: Vec<_> =
                    tokio::net::lookup_host((name.as_str(), *port)).await?.collect();
                if found.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
                }
                Ok(found)
            }
        }
    }
}

impl FromStr for PeerAddress {
    type Err = ParsePeerAddressError;

    fn from_str(text: &str) -> Result<Self, ParsePeerAddressError> {
        let refuse =
            |why: String| ParsePeerAddressError { text: text.chars().take(120).collect(), why };
        let (peer, host) = text.split_once('@').ok_or_else(|| refuse("the @ is missing".into()))?;
        let peer = peer.parse::<PeerId>().map_err(|error| refuse(error.to_string()))?;
        if let Ok(address) = host.parse::<SocketAddr>() {
            if address.port() == 0 {
                return Err(refuse("port 0 cannot be dialled".into()));
            }
            return Ok(PeerAddress::new(peer, address));
        }
        let (name, port) =
            host.rsplit_once(':').ok_or_else(|| refuse("the port is missing".into()))?;
        let port = match port.parse::<u16>() {
            Ok(port) if port != 0 => port,
            _ => return Err(refuse(format!("'{port}' is not a port from 1 to 65535"))),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > 253 || !name.chars().all(is_name) {
            let why = format!("'{name}' is neither an IP address nor a name (IPv6 in brackets)");
            return Err(refuse(why));
        }
        Ok(PeerAddress { peer, host: HostPort::Name(name.to_string(), port) })
    }
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            HostPort::Address(address) => write!(f, "{}@{address}", self.peer),
            HostPort::Name(name, port) => write!(f, "{}@{name}:{port}", self.peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_core::Identity;

    #[test]
    fn an_address_reads_back_as_it_is_shown() {
        let id = Identity::from_secret([3; 32]).id();
        for host in ["127.0.0.1:4400", "[::1]:4400", "node-1.mesh.local:7", "localhost:65535"] {
            let text = format!("{id}@{host}");
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.peer, id);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_text_that_is_no_address_is_refused_with_the_reason() {
        let id = Identity::from_secret([3; 32]).id();
        for (text, why) in [
            ("127.0.0.1:4400".to_string(), "@ is missing"),
            ("short@127.0.0.1:4400".to_string(), "'short' is not a peer id"),
            (format!("{id}@127.0.0.1"), "port is missing"),
            (format!("{id}@127.0.0.1:0"), "port 0"),
            (format!("{id}@host:70000"), "'70000' is not a port"),
            (format!("{id}@::1:4400"), "IPv6 in brackets"),
            (format!("{id}@:4400"), "neither"),
            (format!("{id}@ho st:4400"), "neither"),
        ] {
            let error = text.parse::<PeerAddress>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up() {
        let id = Identity::from_secret([3; 32]).id();
        let address: PeerAddress = format!("{id}@localhost:9").parse().unwrap();
        let found = address.resolve().await.unwrap();
        assert!(found.iter().all(|a| a.ip().is_loopback() && a.port() == 9), "{found:?}");
    }
}
