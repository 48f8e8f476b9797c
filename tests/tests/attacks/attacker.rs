//! A peer that keeps to no rule but those of QUIC: the core's own transport, with frames made by hand.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use dunlin_core::auth::{BlindedNetworks, Greeter};
use dunlin_core::base::Draws;
use dunlin_core::link::{
    DialHandle, Direction, FrameSource, Lane, LinkCommand, LinkHandle, LinkInput,
};
use dunlin_core::transport::{Crypto, Datagram, Transport, TransportConfig};
use dunlin_core::wire::{VERSION_MAX, VERSION_MIN};
use dunlin_core::{Identity, Now, PeerId};
use dunlin_proto::{Frame, FrameView, Header, v1};
use dunlin_tokio::clock::{Clock, SystemClock};
use dunlin_tokio::key;

use crate::scene::Claim;

/// The counter of the attacker's life: any will do.
const COUNTER: u64 = 1;
/// Datagrams that are sent or received in one turn.
const TURN_DATAGRAMS: usize = 512;
/// Until a handshake of the attacker ends, whatever the victim does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Frames that wait for the transport.
#[derive(Default)]
struct Outgoing(BTreeMap<LinkHandle, BTreeMap<Lane, VecDeque<Frame>>>);

impl FrameSource for Outgoing {
    fn next_lane(&self, link: LinkHandle, from: Lane) -> Option<Lane> {
        let mut lanes = self.0.get(&link)?.range(from..);
        lanes.find(|(_, frames)| !frames.is_empty()).map(|(lane, _)| *lane)
    }

    fn pull_frame(&mut self, link: LinkHandle, lane: Lane) -> Option<Frame> {
        self.0.get_mut(&link)?.get_mut(&lane)?.pop_front()
    }
}

/// One attacking peer with a socket of its own.
pub(crate) struct Attacker {
    id: PeerId,
    transport: Transport,
    socket: UdpSocket,
    outgoing: Outgoing,
    /// What came and was not looked at.
    pub(crate) inbox: VecDeque<LinkInput>,
    dials: u64,
    dial_of: BTreeMap<LinkHandle, u64>,
    buffer: Vec<u8>,
    received: Vec<u8>,
    /// Pads every datagram of an established link to so many bytes, by a packet in front that is not for anybody.
    pub(crate) padded_to: usize,
}

impl Attacker {
    pub(crate) fn new(identity: Identity) -> Attacker {
        Attacker::with(identity, TransportConfig::for_datagrams_of(1_452))
    }

    pub(crate) fn with(identity: Identity, config: TransportConfig) -> Attacker {
        let transport = Transport::new(now(), &identity, Crypto::system(), config, key::random());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_nonblocking(true).expect("a socket");
        Attacker {
            id: identity.id(),
            transport,
            socket,
            outgoing: Outgoing::default(),
            inbox: VecDeque::new(),
            dials: 0,
            dial_of: BTreeMap::new(),
            buffer: Vec::new(),
            received: vec![0; 1 << 16],
            padded_to: 0,
        }
    }

    /// Begins to connect.
    pub(crate) fn begin_dial(&mut self, peer: PeerId, address: SocketAddr) -> DialHandle {
        self.dials += 1;
        let dial = DialHandle(self.dials);
        let addresses = vec![address];
        self.transport.handle_command(now(), LinkCommand::Dial { dial, peer, addresses });
        dial
    }

    /// Connects. The other end has not verified anything but the key then.
    pub(crate) fn dial(&mut self, peer: PeerId, address: SocketAddr) -> Result<LinkHandle, String> {
        let dial = self.begin_dial(peer, address);
        self.wait(|input| match input {
            LinkInput::Up { link, direction: Direction::Dialled(d), .. } if *d == dial => {
                Some(Ok(*link))
            }
            LinkInput::DialFailed { dial: d, error } if *d == dial => Some(Err(error.to_string())),
            _ => None,
        })
    }

    pub(crate) fn send(&mut self, link: LinkHandle, lane: Lane, frame: Frame) {
        let lanes = self.outgoing.0.entry(link).or_default();
        lanes.entry(lane).or_default().push_back(frame);
        self.transport.handle_command(now(), LinkCommand::FramesReady { link });
    }

    /// Frames that the transport has not taken.
    pub(crate) fn queued(&self, link: LinkHandle) -> usize {
        self.outgoing.0.get(&link).map_or(0, |lanes| lanes.values().map(VecDeque::len).sum())
    }

    pub(crate) fn close(&mut self, link: LinkHandle) {
        let code = dunlin_core::link::CloseCode::DISCONNECTED;
        self.transport.handle_command(now(), LinkCommand::Close { link, code, flush: false });
        self.turn();
    }

    /// Receives, acts and sends once. Says whether anything moved.
    pub(crate) fn turn(&mut self) -> bool {
        self.turn_hearing(|_| true)
    }

    /// A turn in which only the datagrams are read that `hears` takes by their first byte.
    pub(crate) fn turn_hearing(&mut self, hears: impl Fn(u8) -> bool) -> bool {
        let now = now();
        let mut moved = false;
        for _ in 0..TURN_DATAGRAMS {
            let Ok((bytes, from)) = self.socket.recv_from(&mut self.received) else { break };
            moved = true;
            if hears(self.received[0]) {
                let data = BytesMut::from(&self.received[..bytes]);
                let datagram = Datagram { from, local_ip: None, ecn: None, data };
                self.transport.handle_datagram(now, datagram);
            }
        }
        self.transport.handle_timeout(now);
        self.collect();
        self.transport.flush(now, &mut self.outgoing);
        for _ in 0..TURN_DATAGRAMS {
            let Some(transmit) = self.transport.poll_transmit(now, 1, &mut self.buffer) else {
                break;
            };
            moved = true;
            let datagram = padded(&self.buffer[..transmit.size], self.padded_to);
            let _ = self.socket.send_to(&datagram, transmit.destination);
        }
        self.collect();
        moved
    }

    fn collect(&mut self) {
        while let Some(input) = self.transport.poll_event() {
            if let LinkInput::Up { link, direction: Direction::Dialled(dial), .. } = &input {
                self.dial_of.insert(*link, dial.0);
            }
            self.inbox.push_back(input);
        }
    }

    /// Turns until the first input that `pick` takes, which is taken out.
    pub(crate) fn wait<T>(
        &mut self,
        pick: impl Fn(&LinkInput) -> Option<Result<T, String>>,
    ) -> Result<T, String> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let found = self.inbox.iter().enumerate().find_map(|(at, i)| Some((at, pick(i)?)));
            if let Some((at, found)) = found {
                self.inbox.remove(at);
                return found;
            }
            self.turn_or_rest();
        }
        Err("nothing came".into())
    }

    /// A turn, and a short rest if nothing moved.
    pub(crate) fn turn_or_rest(&mut self) {
        if !self.turn() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The next frame on a link that `pick` takes.
    pub(crate) fn frame<T>(
        &mut self,
        link: LinkHandle,
        pick: impl Fn(Header) -> Option<T>,
    ) -> Result<T, String> {
        self.wait(|input| match input {
            LinkInput::Frame { link: on, frame, .. } if *on == link => {
                match FrameView::decode(frame.clone()) {
                    Ok(FrameView::Known(header, _)) => pick(header).map(Ok),
                    _ => None,
                }
            }
            LinkInput::Down { link: on, reason } if *on == link => Some(Err(reason.to_string())),
            _ => None,
        })
    }

    /// Why a link is gone, once it is.
    pub(crate) fn end_of(&self, link: LinkHandle) -> Option<String> {
        self.inbox.iter().find_map(|input| match input {
            LinkInput::Down { link: on, reason } if *on == link => Some(reason.to_string()),
            _ => None,
        })
    }

    /// What both ends call a link.
    pub(crate) fn link_id(&self, link: LinkHandle) -> v1::LinkId {
        v1::LinkId { dialled_by_sender: true, counter: COUNTER, number: self.dial_of[&link] }
    }

    /// Connects and greets as a member does, with this document. Gives the boot number of the victim's life.
    pub(crate) fn enter(
        &mut self,
        peer: PeerId,
        address: SocketAddr,
        claim: &Claim,
        directory: v1::Directory,
    ) -> Result<(LinkHandle, u64), String> {
        let link = self.dial(peer, address)?;
        let boot = self.greet((link, peer), claim, directory)?;
        Ok((link, boot))
    }

    fn greet(
        &mut self,
        (link, peer): (LinkHandle, PeerId),
        claim: &Claim,
        directory: v1::Directory,
    ) -> Result<u64, String> {
        let id = self.link_id(link);
        let greeter = Greeter { sender: self.id, receiver: peer, has_dialled: true };
        let mut draws = Draws::new(key::random());
        let blinded = BlindedNetworks::new([claim.network].into_iter(), &greeter, &mut draws);
        let hello = v1::Hello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            incarnation: Some(v1::Incarnation {
                counter: COUNTER,
                boot: 7,
                // A record of its own life is not verified.
                signature: Bytes::from_static(&[0; 64]),
            }),
            call_credit: 1_024,
            message_bytes_max: 8 << 20,
            link: Some(id),
            nonce: Bytes::copy_from_slice(&blinded.nonce),
            networks: Bytes::copy_from_slice(blinded.marks.as_flattened()),
            ..Default::default()
        };
        self.send(link, Lane::CONTROL, Frame::new(Header::Hello(Box::new(hello))));
        let hello = self.frame(link, |header| match header {
            Header::Hello(hello) => Some(hello),
            _ => None,
        })?;
        let receiver_boot = hello.incarnation.as_ref().map_or(0, |life| life.boot);
        let networks = vec![v1::NetworkClaim {
            network_id: Bytes::copy_from_slice(claim.network.as_bytes()),
            token: claim.token.as_bytes().clone(),
            descriptor_sequence: 0,
            is_default: true,
        }];
        let claims = v1::Claims { link: Some(id), receiver_boot, networks };
        self.send(link, Lane::CONTROL, Frame::new(Header::Claims(claims)));
        self.frame(link, |header| matches!(header, Header::Confirm(_)).then_some(()))?;
        let (version, directory) = (VERSION_MAX, Some(directory));
        let confirm = v1::Confirm { version, directory, link: Some(id), receiver_boot };
        self.send(link, Lane::CONTROL, Frame::new(Header::Confirm(confirm)));
        Ok(receiver_boot)
    }
}

fn now() -> Now {
    SystemClock.now()
}

/// A packet of an established connection behind one that is addressed alike and cannot be decrypted, as QUIC lets
/// packets share a datagram (RFC 9000, section 12.2).
fn padded(packet: &[u8], bytes: usize) -> Vec<u8> {
    /// A long header up to its length field: flags, version, two connection ids with their lengths.
    const CONNECTION_ID_BYTES: usize = 8;
    const HEADER_BYTES: usize = 1 + 4 + 1 + CONNECTION_ID_BYTES + 1 + 4;
    let is_long = packet[0] & 0x80 != 0;
    if is_long || bytes < packet.len() + HEADER_BYTES {
        return packet.to_vec();
    }
    let filler = u32::try_from(bytes - packet.len() - HEADER_BYTES).expect("a datagram");
    // A Handshake packet.
    let mut datagram = vec![0xe0, 0, 0, 0, 1, CONNECTION_ID_BYTES as u8];
    datagram.extend_from_slice(&packet[1..1 + CONNECTION_ID_BYTES]);
    datagram.push(0);
    datagram.extend_from_slice(&(0x8000_0000 | filler).to_be_bytes());
    datagram.resize(datagram.len() + filler as usize, 0x55);
    datagram.extend_from_slice(packet);
    datagram
}
