//! Bytes to domain values and back. Past this door every value is legal.
//!
//! What a peer sends is parsed once, totally and within bounds: [`parse`] ends in a [`Message`] or in
//! a [`WireFault`] that says what was wrong, never in a panic.

mod directory;
mod events;
mod leases;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dunlin_proto::{Frame, FrameError, FrameView, Header, v1};

use crate::auth::blind::{MARK_BYTES, Mark};
use crate::auth::membership::NETWORKS_MAX;
use crate::auth::{BlindedNetworks, LifeRecord, NetworkClaim, NetworkId};
use crate::base::{Incarnation, Limits};
use crate::directory::{Delta, Document, Heard, Heartbeat};
use crate::events::ack::EventAck;
use crate::lease::{Answer, Learn, Request, Seal, Sealed};
use crate::link::{End, Lane, LinkId, Sent};
use crate::payload::ContentType;
use crate::rpc::Status;
use crate::topic::{TopicMemory, TopicPath};

pub use events::{EventFrame, EventsFrame, EventsFrom, RunFrame};
pub use leases::{LEARNED_PART_MAX, LearnedPart};

/// The lowest protocol version that this code speaks.
pub const VERSION_MIN: u32 = 3;
/// The highest protocol version that this code speaks.
pub const VERSION_MAX: u32 = 3;
/// The version behind it, in which nothing differs. For tests and simulations of nodes of two adjacent versions: a
/// node speaks it only if its limits say so.
pub const VERSION_NEXT: u32 = VERSION_MAX + 1;

/// Links that one Hello may abandon.
pub const ABANDONS_MAX: usize = 16;

/// The highest counter of an incarnation: there is always a next one.
pub const COUNTER_MAX: u64 = Incarnation::COUNTER_MAX;

/// The longest header of a frame, in bytes: a directory's. Frames may be this much longer than the
/// largest payload.
pub const HEADER_BYTES_MAX: usize = 1 << 20;

/// The largest argument or answer on a shared lane, in bytes. A larger one travels on a lane of its own, where it holds
/// nothing up.
pub const SHARED_CALL_BYTES_MAX: usize = 64 << 10;

/// What carries a document, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// The end of a handshake.
    Confirm,
    /// A whole document, or what has changed in one.
    Update,
}

/// Whether a frame carries a document, before it is read.
pub fn document_kind(frame: &[u8]) -> Option<DocumentKind> {
    match frame.first()? {
        2 => Some(DocumentKind::Confirm),
        3 | 4 => Some(DocumentKind::Update),
        _ => None,
    }
}

/// The highest number of a call: there is always a next one. Nobody gets there by counting.
pub const SEQUENCE_MAX: u64 = 1 << 62;

/// A Hello: who the peer's current life is, and what it can do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The lowest version that it speaks.
    pub version_min: u32,
    /// The highest version that it speaks; not below the lowest.
    pub version_max: u32,
    /// Its life, as it has signed it.
    pub life: LifeRecord,
    /// How many unanswered calls it lets us have. At least 1.
    pub call_credit: u32,
    /// The largest payload that it accepts, in bytes.
    pub message_bytes_max: usize,
    /// Capabilities without which it does not talk.
    pub critical_capabilities: Vec<u32>,
    /// The networks that it is in, blinded.
    pub networks: BlindedNetworks,
    /// The link that this Hello is about.
    pub link: LinkId,
    /// Links between the two that it has closed, lost, or replaces with this one. At most [`ABANDONS_MAX`].
    pub abandons: Vec<LinkId>,
    /// Where it sees us.
    pub observed_address: Option<SocketAddr>,
}

/// A call as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallMessage {
    /// The caller's number of the call, counted per callee, from 1.
    pub sequence: u64,
    /// The caller's oldest unfinished number; not above `sequence`.
    pub floor: u64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The only incarnation that may run it.
    pub callee_boot: u64,
    /// Until the caller gives up.
    pub time_left: Duration,
    /// The action.
    pub path: TopicPath,
    /// How to read the payload.
    pub content: ContentType,
    /// The argument.
    pub payload: Bytes,
}

/// An answer as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyMessage {
    /// The caller's number of the call.
    pub sequence: u64,
    /// The caller's incarnation that asked.
    pub caller_boot: u64,
    /// What became of the call.
    pub status: Status,
    /// How to read the payload.
    pub content: ContentType,
    /// The code of an application error.
    pub error_code: String,
    /// The text of an error.
    pub error_message: String,
    /// When an overloaded callee expects to take calls again, in whole milliseconds on the wire; none if it does
    /// not say.
    pub retry_after: Option<Duration>,
    /// The result.
    pub payload: Bytes,
}

/// Everything that peers say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Message {
    /// Boxed: it is by far the largest, and rare.
    Hello(Box<Hello>),
    /// Tokens for the networks that both are in.
    Claims {
        /// The link on which they are shown.
        link: LinkId,
        /// The boot number of the receiver's life that they are shown to.
        receiver_boot: u64,
        /// The sender's default network first. At most [`NETWORKS_MAX`], none twice.
        networks: Vec<NetworkClaim>,
    },
    Confirm {
        version: u32,
        directory: Document,
        /// The link that is confirmed.
        link: LinkId,
        /// The boot number of the receiver's life that is confirmed.
        receiver_boot: u64,
    },
    Directory(Document),
    Delta(Delta),
    Heard(Heard),
    Heartbeat(Heartbeat),
    /// The handshake is refused, with what a close code cannot say.
    Refuse {
        code: u32,
        /// A later life of ours, if that is why.
        life: Option<LifeRecord>,
    },
    /// Another link stays, and this one is drained.
    Supersede {
        loser: LinkId,
        sent: Sent,
    },
    /// The sender has left a superseded link, and has everything that was sent to it there.
    Drained {
        loser: LinkId,
        sent: Sent,
    },
    /// What follows on this lane is behind so many frames on the same lane of another link.
    Cut {
        from: LinkId,
        frames: u64,
    },
    Call(CallMessage),
    Reply(ReplyMessage),
    Cancel {
        sequence: u64,
        floor: u64,
    },
    Event(EventFrame),
    /// Several events.
    Events(EventsFrame),
    /// From which number on the events that follow on this lane count.
    EventsFrom(EventsFrom),
    /// The receiver was passed over with so many events.
    EventsSkipped {
        count: u64,
    },
    EventAck(EventAck),
    /// To an acceptor.
    LeaseRequest(Request),
    /// From an acceptor.
    LeaseAnswer(Answer),
    /// From an acceptor that has lost its disk to another.
    LeaseLearn(NetworkId, Learn),
    LeaseLearned(LearnedPart),
    /// From an acceptor of a later configuration to one of a former one, or between two of one.
    LeaseSeal(NetworkId, Seal),
    LeaseSealed(NetworkId, Sealed),
    /// A kind from a later version that may be skipped.
    Skippable,
}

/// What a peer sent is not legal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireFault {
    /// Not a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A field that must be there is not, or holds a value that is not allowed.
    #[error("{message}.{field} is not legal: {why}")]
    Field {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

fn fault(message: &'static str, field: &'static str, why: impl Into<String>) -> WireFault {
    WireFault::Field { message, field, why: why.into() }
}

/// Reads one frame.
///
/// # Errors
///
/// A [`WireFault`] that names the first thing that is wrong. The peer broke the protocol; the link
/// should be closed.
pub fn parse(frame: Bytes, limits: &Limits) -> Result<Message, WireFault> {
    parse_with(frame, limits, &mut TopicMemory::default())
}

/// As [`parse`], for who reads many frames.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_with(
    frame: Bytes,
    limits: &Limits,
    paths: &mut TopicMemory,
) -> Result<Message, WireFault> {
    let (header, payload) = match FrameView::decode(frame)? {
        FrameView::Known(header, payload) => (header, payload),
        FrameView::Skippable(_) => return Ok(Message::Skippable),
    };
    // Several events have a bound of their own, and each of them this one.
    if payload.len() > limits.message_bytes_max && !matches!(header, Header::Events(_)) {
        return Err(fault("frame", "payload", format!("{} bytes", payload.len())));
    }
    Ok(match header {
        Header::Hello(hello) => Message::Hello(Box::new(parse_hello(*hello)?)),
        Header::Claims(claims) => Message::Claims {
            link: parse_needed_link("Claims", claims.link)?,
            receiver_boot: claims.receiver_boot,
            networks: parse_claims(claims.networks)?,
        },
        Header::Confirm(confirm) => Message::Confirm {
            version: confirm.version,
            directory: directory::parse(confirm.directory.unwrap_or_default(), limits)?,
            link: parse_needed_link("Confirm", confirm.link)?,
            receiver_boot: confirm.receiver_boot,
        },
        Header::Refuse(refuse) => {
            let life = refuse.life.map(|life| parse_life("Refuse", life)).transpose()?;
            Message::Refuse { code: refuse.code, life }
        }
        Header::Supersede(supersede) => Message::Supersede {
            loser: parse_needed_link("Supersede", supersede.loser)?,
            sent: parse_sent("Supersede", supersede.sent)?,
        },
        Header::Drained(drained) => Message::Drained {
            loser: parse_needed_link("Drained", drained.loser)?,
            sent: parse_sent("Drained", drained.sent)?,
        },
        Header::Cut(cut) => {
            Message::Cut { from: parse_needed_link("Cut", cut.from)?, frames: cut.frames }
        }
        Header::Directory(directory) => Message::Directory(directory::parse(directory, limits)?),
        Header::Delta(delta) => Message::Delta(directory::parse_delta(delta, limits)?),
        Header::Heard(heard) => {
            Message::Heard(Heard { version: heard.version, wants_whole: heard.wants_whole })
        }
        Header::Heartbeat(heartbeat) => {
            Message::Heartbeat(Heartbeat { version: heartbeat.version, digest: heartbeat.digest })
        }
        Header::Call(call) => Message::Call(parse_call(call, payload, paths)?),
        Header::Reply(reply) => Message::Reply(parse_reply(reply, payload)?),
        Header::Cancel(cancel) => {
            check_sequence("Cancel", cancel.sequence, cancel.floor)?;
            Message::Cancel { sequence: cancel.sequence, floor: cancel.floor }
        }
        Header::Event(event) => Message::Event(events::parse(event, payload, limits, paths)?),
        Header::Events(header) => {
            Message::Events(events::parse_events(header, payload, limits, paths)?)
        }
        Header::EventsFrom(from) => Message::EventsFrom(events::parse_from(from)?),
        Header::EventsSkipped(skipped) => Message::EventsSkipped { count: skipped.count },
        Header::EventAck(ack) => Message::EventAck(events::parse_ack(ack, limits)?),
        Header::LeaseRequest(request) => Message::LeaseRequest(leases::parse_request(request)?),
        Header::LeaseAnswer(answer) => Message::LeaseAnswer(leases::parse_answer(*answer)?),
        Header::LeaseLearn(learn) => {
            let (network, learn) = leases::parse_learn(&learn)?;
            Message::LeaseLearn(network, learn)
        }
        Header::LeaseLearned(part) => Message::LeaseLearned(leases::parse_learned(part, limits)?),
        Header::LeaseSeal(seal) => {
            let (network, seal) = leases::parse_seal(&seal)?;
            Message::LeaseSeal(network, seal)
        }
        Header::LeaseSealed(sealed) => {
            let (network, sealed) = leases::parse_sealed(&sealed)?;
            Message::LeaseSealed(network, sealed)
        }
        Header::Written(_) => unreachable!("what is read is not written already"),
    })
}

fn parse_hello(hello: v1::Hello) -> Result<Hello, WireFault> {
    let incarnation = hello.incarnation.ok_or_else(|| fault("Hello", "incarnation", "missing"))?;
    if hello.version_min == 0 || hello.version_max < hello.version_min {
        return Err(fault(
            "Hello",
            "version_min",
            format!("versions {} to {}", hello.version_min, hello.version_max),
        ));
    }
    if hello.call_credit == 0 {
        return Err(fault("Hello", "call_credit", "zero"));
    }
    let life = parse_life("Hello", incarnation)?;
    if hello.abandons.len() > ABANDONS_MAX {
        return Err(fault("Hello", "abandons", format!("{} of them", hello.abandons.len())));
    }
    let observed_address = match hello.observed_address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            fault("Hello", "observed_address", format!("'{:.80}'", text.escape_debug()))
        })?),
    };
    Ok(Hello {
        version_min: hello.version_min,
        version_max: hello.version_max,
        life,
        call_credit: hello.call_credit,
        message_bytes_max: hello.message_bytes_max as usize,
        critical_capabilities: hello.critical_capabilities,
        link: parse_needed_link("Hello", hello.link)?,
        abandons: hello
            .abandons
            .into_iter()
            .map(|id| parse_link("Hello", id))
            .collect::<Result<_, _>>()?,
        observed_address,
        networks: parse_blinded(&hello.nonce, &hello.networks)?,
    })
}

fn parse_blinded(nonce: &[u8], networks: &[u8]) -> Result<BlindedNetworks, WireFault> {
    let nonce =
        nonce.try_into().map_err(|_| fault("Hello", "nonce", format!("{} bytes", nonce.len())))?;
    let (marks, rest) = networks.as_chunks::<MARK_BYTES>();
    let wrong = || fault("Hello", "networks", format!("{} bytes", networks.len()));
    let marks: [Mark; NETWORKS_MAX] = marks.try_into().map_err(|_| wrong())?;
    if !rest.is_empty() {
        return Err(wrong());
    }
    if !marks.is_sorted_by(|a, b| a < b) {
        return Err(fault("Hello", "networks", "not in growing order"));
    }
    Ok(BlindedNetworks { nonce, marks })
}

fn parse_claims(claims: Vec<v1::NetworkClaim>) -> Result<Vec<NetworkClaim>, WireFault> {
    let wrong = |why: String| fault("Claims", "networks", why);
    if claims.len() > NETWORKS_MAX {
        return Err(wrong(format!("{} of them", claims.len())));
    }
    let mut networks: Vec<NetworkClaim> = Vec::with_capacity(claims.len());
    for claim in claims {
        let id = <[u8; 32]>::try_from(&claim.network_id[..])
            .map_err(|_| wrong(format!("an id of {} bytes", claim.network_id.len())))?;
        let network = NetworkId::from_bytes(id);
        if networks.iter().any(|earlier| earlier.network == network) {
            return Err(wrong(format!("{network} twice")));
        }
        if claim.is_default && networks.iter().any(|earlier| earlier.is_default) {
            return Err(wrong("two default ones".to_string()));
        }
        networks.push(NetworkClaim {
            network,
            token: claim.token,
            descriptor_sequence: claim.descriptor_sequence,
            is_default: claim.is_default,
        });
    }
    Ok(networks)
}

fn network_to_wire(claim: NetworkClaim) -> v1::NetworkClaim {
    v1::NetworkClaim {
        network_id: Bytes::copy_from_slice(claim.network.as_bytes()),
        token: claim.token,
        descriptor_sequence: claim.descriptor_sequence,
        is_default: claim.is_default,
    }
}

fn check_counter(message: &'static str, counter: u64) -> Result<(), WireFault> {
    if counter > COUNTER_MAX {
        return Err(fault(message, "counter", format!("{counter}; it is below 2^62")));
    }
    Ok(())
}

fn parse_life(message: &'static str, life: v1::Incarnation) -> Result<LifeRecord, WireFault> {
    check_counter(message, life.counter)?;
    let signature = life.signature[..].try_into().map_err(|_| {
        fault(message, "incarnation.signature", format!("{} bytes", life.signature.len()))
    })?;
    let incarnation = Incarnation { counter: life.counter, boot: life.boot };
    Ok(LifeRecord { incarnation, signature })
}

fn life_to_wire(life: &LifeRecord) -> v1::Incarnation {
    v1::Incarnation {
        counter: life.incarnation.counter,
        boot: life.incarnation.boot,
        signature: Bytes::copy_from_slice(&life.signature),
    }
}

/// The sender's end of a link is the other end here.
fn parse_link(message: &'static str, id: v1::LinkId) -> Result<LinkId, WireFault> {
    check_counter(message, id.counter)?;
    if id.number == 0 {
        return Err(fault(message, "link.number", "zero"));
    }
    let dialler = if id.dialled_by_sender { End::There } else { End::Here };
    Ok(LinkId { dialler, counter: id.counter, number: id.number })
}

fn parse_needed_link(message: &'static str, id: Option<v1::LinkId>) -> Result<LinkId, WireFault> {
    parse_link(message, id.ok_or_else(|| fault(message, "link", "missing"))?)
}

fn link_to_wire(id: LinkId) -> v1::LinkId {
    v1::LinkId {
        dialled_by_sender: id.dialler == End::Here,
        counter: id.counter,
        number: id.number,
    }
}

fn parse_sent(message: &'static str, sent: Option<v1::Sent>) -> Result<Sent, WireFault> {
    let sent = sent.unwrap_or_default();
    let count = sent.lanes.len();
    let Ok(lanes) = <[u64; 1 + Lane::SHARED as usize]>::try_from(sent.lanes) else {
        return Err(fault(message, "sent", format!("{count} lanes, not {}", 1 + Lane::SHARED)));
    };
    Ok(Sent { lanes, own: sent.own })
}

fn sent_to_wire(sent: Sent) -> v1::Sent {
    v1::Sent { lanes: sent.lanes.to_vec(), own: sent.own }
}

fn check_sequence(message: &'static str, sequence: u64, floor: u64) -> Result<(), WireFault> {
    if sequence == 0 || floor == 0 || floor > sequence || sequence > SEQUENCE_MAX {
        return Err(fault(message, "sequence", format!("{sequence} with floor {floor}")));
    }
    Ok(())
}

fn parse_call(
    call: v1::Call,
    payload: Bytes,
    paths: &mut TopicMemory,
) -> Result<CallMessage, WireFault> {
    check_sequence("Call", call.sequence, call.floor)?;
    if call.attempt == 0 {
        return Err(fault("Call", "attempt", "zero"));
    }
    let path = paths.read(call.path).map_err(|error| fault("Call", "path", error.to_string()))?;
    Ok(CallMessage {
        sequence: call.sequence,
        floor: call.floor,
        attempt: call.attempt,
        callee_boot: call.callee_boot,
        time_left: Duration::from_millis(u64::from(call.time_left_ms)),
        path,
        content: ContentType(call.content_type),
        payload,
    })
}

fn parse_reply(reply: v1::Reply, payload: Bytes) -> Result<ReplyMessage, WireFault> {
    if reply.sequence == 0 {
        return Err(fault("Reply", "sequence", "zero"));
    }
    let (mut error_code, mut error_message) = (reply.error_code, reply.error_message);
    crate::rpc::outcome::cut(&mut error_code, crate::rpc::AppError::CODE_BYTES_MAX);
    crate::rpc::outcome::cut(&mut error_message, crate::rpc::AppError::MESSAGE_BYTES_MAX);
    Ok(ReplyMessage {
        sequence: reply.sequence,
        caller_boot: reply.caller_boot,
        status: Status::from_number(reply.status),
        content: ContentType(reply.content_type),
        error_code,
        error_message,
        retry_after: match reply.retry_after_ms {
            0 => None,
            millis => Some(Duration::from_millis(millis.into())),
        },
        payload,
    })
}

impl CallMessage {
    /// The frame that says this.
    pub fn into_frame(self) -> Frame {
        // Rounded up: a deadline within the next millisecond is not yet past.
        let millis = self.time_left.as_nanos().div_ceil(1_000_000);
        let header = v1::Call {
            sequence: self.sequence,
            floor: self.floor,
            attempt: self.attempt,
            callee_boot: self.callee_boot,
            time_left_ms: u32::try_from(millis).unwrap_or(u32::MAX),
            path: self.path.into_bytes(),
            content_type: self.content.0,
        };
        Frame::with_payload(Header::Call(header), self.payload)
    }
}

impl ReplyMessage {
    /// The frame that says this.
    pub fn into_frame(self) -> Frame {
        let header = v1::Reply {
            sequence: self.sequence,
            caller_boot: self.caller_boot,
            status: self.status as u32,
            content_type: self.content.0,
            error_code: self.error_code,
            error_message: self.error_message,
            retry_after_ms: self
                .retry_after
                .map_or(0, |after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX).max(1)),
        };
        Frame::with_payload(Header::Reply(header), self.payload)
    }
}

impl Message {
    /// The frame that says this. [`Message::Skippable`] says nothing and has none.
    pub fn into_frame(self) -> Option<Frame> {
        Some(match self {
            Message::Hello(hello) => Frame::new(Header::Hello(Box::new(v1::Hello {
                version_min: hello.version_min,
                version_max: hello.version_max,
                incarnation: Some(life_to_wire(&hello.life)),
                call_credit: hello.call_credit,
                message_bytes_max: u32::try_from(hello.message_bytes_max).unwrap_or(u32::MAX),
                capabilities: Vec::new(),
                critical_capabilities: hello.critical_capabilities,
                nonce: Bytes::copy_from_slice(&hello.networks.nonce),
                networks: Bytes::copy_from_slice(hello.networks.marks.as_flattened()),
                link: Some(link_to_wire(hello.link)),
                abandons: hello.abandons.into_iter().map(link_to_wire).collect(),
                observed_address: hello
                    .observed_address
                    .map_or_else(String::new, |address| address.to_string()),
            }))),
            Message::Claims { link, receiver_boot, networks } => {
                Frame::new(Header::Claims(v1::Claims {
                    link: Some(link_to_wire(link)),
                    receiver_boot,
                    networks: networks.into_iter().map(network_to_wire).collect(),
                }))
            }
            Message::Confirm { version, directory, link, receiver_boot } => {
                Frame::new(Header::Confirm(v1::Confirm {
                    version,
                    directory: Some(directory::to_wire(&directory)),
                    link: Some(link_to_wire(link)),
                    receiver_boot,
                }))
            }
            Message::Refuse { code, life } => {
                let life = life.map(|life| life_to_wire(&life));
                Frame::new(Header::Refuse(v1::Refuse { code, life }))
            }
            Message::Supersede { loser, sent } => Frame::new(Header::Supersede(v1::Supersede {
                loser: Some(link_to_wire(loser)),
                sent: Some(sent_to_wire(sent)),
            })),
            Message::Drained { loser, sent } => Frame::new(Header::Drained(v1::Drained {
                loser: Some(link_to_wire(loser)),
                sent: Some(sent_to_wire(sent)),
            })),
            Message::Cut { from, frames } => {
                Frame::new(Header::Cut(v1::Cut { from: Some(link_to_wire(from)), frames }))
            }
            Message::Directory(directory) => {
                Frame::new(Header::Directory(directory::to_wire(&directory)))
            }
            Message::Delta(delta) => Frame::new(Header::Delta(directory::delta_to_wire(&delta))),
            Message::Heard(heard) => Frame::new(Header::Heard(v1::Heard {
                version: heard.version,
                wants_whole: heard.wants_whole,
            })),
            Message::Heartbeat(heartbeat) => Frame::new(Header::Heartbeat(v1::Heartbeat {
                version: heartbeat.version,
                digest: heartbeat.digest,
            })),
            Message::Call(call) => call.into_frame(),
            Message::Reply(reply) => reply.into_frame(),
            Message::Cancel { sequence, floor } => {
                Frame::new(Header::Cancel(v1::Cancel { sequence, floor }))
            }
            Message::Event(event) => {
                let header = Header::Event(event.header());
                Frame::with_payload(header, event.payload)
            }
            Message::Events(events) => events.into_frame(),
            Message::EventsFrom(from) => Frame::new(Header::EventsFrom(v1::EventsFrom {
                stream: from.stream,
                number: from.number,
                lost: from.lost,
                acknowledged: from.acknowledged,
            })),
            Message::EventsSkipped { count } => {
                Frame::new(Header::EventsSkipped(v1::EventsSkipped { count }))
            }
            Message::EventAck(ack) => Frame::new(Header::EventAck(events::ack_to_wire(ack))),
            Message::LeaseRequest(request) => {
                Frame::new(Header::LeaseRequest(leases::request_to_wire(request)))
            }
            Message::LeaseAnswer(answer) => {
                Frame::new(Header::LeaseAnswer(Box::new(leases::answer_to_wire(answer))))
            }
            Message::LeaseLearn(network, learn) => {
                Frame::new(Header::LeaseLearn(leases::learn_to_wire(network, learn)))
            }
            Message::LeaseLearned(part) => {
                Frame::new(Header::LeaseLearned(leases::learned_to_wire(part)))
            }
            Message::LeaseSeal(network, seal) => {
                Frame::new(Header::LeaseSeal(leases::seal_to_wire(network, seal)))
            }
            Message::LeaseSealed(network, sealed) => {
                Frame::new(Header::LeaseSealed(leases::sealed_to_wire(network, sealed)))
            }
            Message::Skippable => return None,
        })
    }
}

#[cfg(test)]
mod tests;
