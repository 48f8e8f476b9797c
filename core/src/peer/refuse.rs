//! Why a handshake is refused.

use crate::link::CloseCode;

/// Why a handshake is refused: the link is closed with [`RefuseCode::as_close`], so that the reason
/// cannot be lost behind the close. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum RefuseCode {
    /// No protocol version that both speak.
    Version = 1,
    /// The peer is not on the list of those allowed.
    NotAllowed = 2,
    /// The peer's incarnation is older than one we know.
    StaleIncarnation = 3,
    /// Another process lives under the same key and counter.
    IdentityInUse = 4,
    /// The peer demands a capability that we do not have.
    Capability = 5,
    /// No room for another peer or link.
    NoRoom = 6,
    /// We are about to stop.
    ShuttingDown = 7,
    /// The link's id was used before, or given up: the handshake is an old one.
    SpentLink = 8,
    /// We are in none of the peer's networks.
    NoCommonNetwork = 16,
    /// The peer's token has expired or is not valid yet.
    TokenExpired = 17,
    /// The peer's token does not count here.
    TokenRefused = 18,
    /// Our descriptor of the network has expired.
    NetworkExpired = 19,
}

impl RefuseCode {
    const FIRST: u32 = 256;

    /// The code with which the link is closed.
    pub fn as_close(self) -> CloseCode {
        CloseCode(Self::FIRST + self as u32)
    }

    /// Whether it is about networks and tokens: these end sessions, too.
    pub fn is_about_access(self) -> bool {
        self >= RefuseCode::NoCommonNetwork
    }

    /// The refusal that a close means, if it is one.
    pub fn from_close(code: CloseCode) -> Option<RefuseCode> {
        RefuseCode::from_number(code.0.checked_sub(Self::FIRST)?)
    }

    /// The refusal with this number.
    pub fn from_number(number: u32) -> Option<RefuseCode> {
        [
            RefuseCode::Version,
            RefuseCode::NotAllowed,
            RefuseCode::StaleIncarnation,
            RefuseCode::IdentityInUse,
            RefuseCode::Capability,
            RefuseCode::NoRoom,
            RefuseCode::ShuttingDown,
            RefuseCode::SpentLink,
            RefuseCode::NoCommonNetwork,
            RefuseCode::TokenExpired,
            RefuseCode::TokenRefused,
            RefuseCode::NetworkExpired,
        ]
        .into_iter()
        .find(|refusal| *refusal as u32 == number)
    }
}

impl std::fmt::Display for RefuseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RefuseCode::Version => "it speaks none of our protocol versions",
            RefuseCode::NotAllowed => "this node is not on its list of allowed peers",
            RefuseCode::StaleIncarnation => {
                "it knows a later start of this node; is its clock or its counter behind?"
            }
            RefuseCode::IdentityInUse => "another process uses this node's key",
            RefuseCode::Capability => "it lacks a capability that we demand",
            RefuseCode::NoRoom => "it has no room for another peer",
            RefuseCode::ShuttingDown => "it is stopping",
            RefuseCode::SpentLink => "the handshake is an old one",
            RefuseCode::NoCommonNetwork => {
                "it is in none of this node's networks; was this node given the right --network?"
            }
            RefuseCode::TokenExpired => {
                "this node's token has expired or is not valid yet; get a new one, or set the clock"
            }
            RefuseCode::TokenRefused => {
                "this node's token does not count there; its log says which rule the token breaks"
            }
            RefuseCode::NetworkExpired => {
                "its descriptor of the network has expired; whoever runs it must renew it"
            }
        })
    }
}
