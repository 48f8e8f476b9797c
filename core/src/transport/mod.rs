//! QUIC as a deterministic machine: datagrams and time in, datagrams, links and frames out.
//!
//! A [`Transport`] is everything that the mesh's links need below the seam of [`crate::link`]: one QUIC
//! endpoint, its connections, and on each connection the lanes. It is the only user of quinn-proto,
//! reads no clock and owns no socket.
//!
//! ```text
//!              LinkCommand  FrameSource          LinkInput
//!                   |           |                    ^
//!   Datagram   handle_command  flush             poll_event     poll_transmit
//!      |            |           |                    |               ^
//!      v            v           v                    |               |
//!   +---------------------------------------------------------------------+
//!   | dial, accept -> connection -> settle -> inbound lanes, outbound lanes |
//!   +---------------------------------------------------------------------+
//! ```
//!
//! # The drain contract
//!
//! Feed any number of datagrams, expired time-outs and commands; then
//!
//! 1. [`Transport::poll_event`] until it returns nothing, giving each event to the mesh and the mesh's
//!    commands back,
//! 2. [`Transport::flush`], which pulls frames from the mesh,
//! 3. [`Transport::poll_transmit`] until it returns nothing or the socket takes no more,
//! 4. [`Transport::poll_timeout`] for when to wake up.
//!
//! A [`LinkCommand::Close`] with `flush` ends the lanes behind what was flushed and closes the link once
//! the peer has acknowledged all of it; what the mesh still held is not sent.
//!
//! Handling is cheap and only notes which connections were touched, in the order in which they were;
//! polling does the work. So the more is fed at once, the less each datagram costs.
//!
//! # Determinism
//!
//! With a seeded or null [`Crypto`], equal calls give equal datagrams, byte for byte, in every process.
//! Every default of quinn-proto and rustls that draws on the operating system is replaced (`endpoint`,
//! `cid`, `clock`, `crypto`).
//!
//! # Lanes on QUIC
//!
//! A lane is a unidirectional stream that begins with the lane's number, a LEB128 varint. The control
//! lane and the shared lanes live as long as the link; an own lane carries one frame and ends.
//! Datagrams of QUIC, its bidirectional streams, 0-RTT and session resumption are off.
//!
//! The dialling side sees a link come up before the accepting side has verified its key; the mesh's
//! handshake confirms both ways. Only the dialling side may change its address: when the accepting
//! side's changes, the link times out and is dialled anew.

mod accept;
mod cid;
mod clock;
mod closing;
mod config;
mod connection;
mod crypto;
mod datagram;
mod dial;
mod endpoint;
mod inbound;
mod outbound;
mod settle;
mod strangers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use quinn_proto::{ClientConfig, DatagramEvent, Endpoint, VarInt};

use crate::base::{BufferPool, Identity, Key, MonoTime, Now, Refusals, Slab, TimerQueue};
use crate::link::{
    CloseCode, DialError, DialHandle, FLUSH_MAX, FrameSource, LinkCommand, LinkHandle, LinkInput,
};

use clock::Clock;
use connection::{Connection, Stage, WorkList};
use dial::Dial;
use outbound::Batch;
use strangers::Strangers;

pub use config::{AddressValidation, Congestion, TransportConfig};
pub use connection::LinkStats;
pub use crypto::{Crypto, ToldSecrets};
pub use datagram::{BATCH_BYTES_MAX, Datagram, Ecn, Transmit};

/// How many buffers of large frames are remembered. A guess.
const POOLED_FRAMES_MAX: usize = 32;

/// How many bytes of frames are read in one turn, so that what they cause goes out before more is read. A guess: a
/// millisecond's work.
pub const TURN_BYTES: usize = 1 << 20;

type ConnectionKey = Key<Box<Connection>>;

/// What the transport wants to be woken for.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// QUIC's own deadline of a connection.
    Quic(ConnectionKey),
    /// A handshake has taken too long.
    Handshake(ConnectionKey),
    /// What a link that closes had to deliver has taken too long.
    Flush(ConnectionKey),
    /// A dial has waited long enough for its latest address.
    NextAddress(DialHandle),
}

/// All links of one node over one UDP socket. See the module's documentation for the order of calls.
///
/// Nothing that a peer sends makes it panic. It panics when the [`FrameSource`] breaks its contract.
pub struct Transport {
    config: TransportConfig,
    clock: Clock,
    endpoint: Endpoint,
    client: ClientConfig,
    connections: Slab<Box<Connection>>,
    /// By the endpoint's handle, which is used again once a connection is drained.
    by_handle: Vec<Option<ConnectionKey>>,
    links: BTreeMap<LinkHandle, ConnectionKey>,
    links_made: u64,
    dials: BTreeMap<DialHandle, Dial>,
    /// Accepted connections that are not up.
    strangers: Strangers,
    /// What bounds have refused.
    refusals: Refusals,
    /// No stranger is let in any more.
    refusing: bool,
    timers: TimerQueue<Timer>,
    unsettled: WorkList,
    unflushed: WorkList,
    transmitting: WorkList,
    responses: VecDeque<(Transmit, Vec<u8>)>,
    events: VecDeque<LinkInput>,
    batch: Batch,
    /// Where large frames that arrive are put together.
    frames: BufferPool,
    /// Bytes of frames that were read in this turn.
    turn_bytes: usize,
    /// The randomness that TLS sessions use; given back when they are gone.
    _lease: Option<crypto::SlotLease>,
}

impl Transport {
    /// A transport without links.
    ///
    /// `seed` decides connection ids and packet numbers. It must be fresh for every life of the node,
    /// and in production unpredictable.
    pub fn new(
        now: Now,
        identity: &Identity,
        crypto: Crypto,
        config: TransportConfig,
        seed: [u8; 32],
    ) -> Transport {
        let clock = Clock::new(now);
        let suite = crypto.suite(identity, clock.wall());
        let (endpoint, client) = endpoint::build(&config, &suite, clock.wall(), seed);
        Transport {
            config,
            clock,
            endpoint,
            client,
            connections: Slab::default(),
            by_handle: Vec::new(),
            links: BTreeMap::new(),
            links_made: 0,
            dials: BTreeMap::new(),
            strangers: Strangers::default(),
            refusals: Refusals::default(),
            refusing: false,
            timers: TimerQueue::default(),
            unsettled: WorkList::new(),
            unflushed: WorkList::new(),
            transmitting: WorkList::new(),
            responses: VecDeque::new(),
            events: VecDeque::new(),
            batch: Batch::new(),
            frames: BufferPool::new(POOLED_FRAMES_MAX),
            turn_bytes: 0,
            _lease: suite.lease,
        }
    }

    /// Takes a datagram. Whatever is in it, it is at worst dropped.
    pub fn handle_datagram(&mut self, now: Now, datagram: Datagram) {
        self.turn_bytes = 0;
        let instant = self.clock.advance(now);
        let Datagram { from, local_ip, ecn, data } = datagram;
        let ecn = ecn.map(Ecn::to_quic);
        // Answers to strangers alone are written here, so for all other datagrams it stays unallocated.
        let mut response = Vec::new();
        match self.endpoint.handle(instant, from, local_ip, ecn, data, &mut response) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(Some(key)) = self.by_handle.get(handle.0).copied()
                    && let Some(connection) = self.connections.get_mut(key)
                {
                    connection.quic.handle_event(event);
                    self.mark_unsettled(key);
                }
            }
            Some(DatagramEvent::NewConnection(stranger)) => self.admit(stranger, response),
            Some(DatagramEvent::Response(transmit)) => self.respond(transmit, response),
            None => {}
        }
    }

    /// Does what is due by `now`. Calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        self.turn_bytes = 0;
        let instant = self.clock.advance(now);
        while let Some(timer) = self.timers.expire(self.clock.mono()) {
            match timer {
                Timer::Quic(key) => {
                    if let Some(connection) = self.connections.get_mut(key) {
                        connection.deadline = None;
                        connection.quic.handle_timeout(instant);
                        self.mark_unsettled(key);
                    }
                }
                Timer::Handshake(key) => {
                    if let Some(connection) = self.connections.get_mut(key) {
                        connection.handshake_timer = None;
                        self.handshake_failed(key, DialError::TimedOut);
                    }
                }
                Timer::Flush(key) => self.finish_close(key),
                Timer::NextAddress(dial) => self.try_next_address(dial),
            }
        }
    }

    /// Does what the mesh asks. Links and dials that are no more are ignored.
    pub fn handle_command(&mut self, now: Now, command: LinkCommand) {
        self.clock.advance(now);
        match command {
            LinkCommand::Dial { dial, peer, addresses } => self.begin_dial(dial, peer, addresses),
            LinkCommand::CancelDial { dial } => self.cancel_dial(dial),
            LinkCommand::Close { link, code, flush } => self.close_link(link, code, flush),
            LinkCommand::FramesReady { link } => {
                if let Some(&key) = self.links.get(&link)
                    && let Some(connection) = self.connections.get_mut(key)
                    && let Some((_, link)) = connection.link()
                {
                    link.outbound.mark_frames_ready();
                    self.mark_unflushed(key);
                }
            }
            LinkCommand::Trust { link } => self.trust(link),
            LinkCommand::ResetLane { link, lane } => {
                if let Some(&key) = self.links.get(&link)
                    && let Some(connection) = self.connections.get_mut(key)
                    && let Some((quic, link)) = connection.link()
                {
                    link.outbound.reset(quic, lane);
                    // Its unwritten bytes may have held other lanes back.
                    self.mark_unflushed(key);
                    self.mark_unsettled(key);
                }
            }
        }
    }

    /// From now on strangers are refused, those with whom a handshake is under way included: the node has
    /// stopped, and whoever goes on dialling must not keep it from being drained.
    pub fn refuse_strangers(&mut self, now: Now) {
        if std::mem::replace(&mut self.refusing, true) {
            return;
        }
        self.clock.advance(now);
        let strangers: Vec<ConnectionKey> = self
            .connections
            .iter()
            .filter(|(_, c)| matches!(c.stage, Stage::Handshaking { dial: None }))
            .map(|(key, _)| key)
            .collect();
        for key in strangers {
            self.close_connection(key, CloseCode::SHUTDOWN);
        }
    }

    /// What the mesh must know next. About [`TURN_BYTES`] of frames at most for each time that datagrams or a time-out were
    /// handled: what is left waits for the next time, which [`Transport::poll_timeout`] says is now.
    pub fn poll_event(&mut self) -> Option<LinkInput> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.turn_bytes >= TURN_BYTES {
                return None;
            }
            let key = self.unsettled.pop_front()?;
            self.settle(key);
        }
    }

    /// Pulls frames for all links that have some and whose peers take some.
    pub fn flush(&mut self, now: Now, frames: &mut impl FrameSource) {
        self.clock.advance(now);
        while let Some(key) = self.unflushed.pop_front() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.unflushed = false;
            let Some((quic, link)) = connection.link() else { continue };
            match link.outbound.flush(quic, link.handle, frames, &mut self.batch) {
                Ok(()) => self.mark_transmitting(key),
                Err(fault) => self.lane_fault(key, &fault),
            }
        }
    }

    /// The next datagrams to send, at most `datagrams_max` of them and [`BATCH_BYTES_MAX`] bytes, all to
    /// one place. `buf` is emptied first.
    pub fn poll_transmit(
        &mut self,
        now: Now,
        datagrams_max: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let instant = self.clock.advance(now);
        buf.clear();
        if let Some((transmit, datagram)) = self.responses.pop_front() {
            buf.extend_from_slice(&datagram[..transmit.size]);
            return Some(transmit);
        }
        while let Some(key) = self.transmitting.pop_front() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let datagram_bytes = usize::from(connection.quic.current_mtu());
            let datagrams = datagrams_max.min(BATCH_BYTES_MAX / datagram_bytes).max(1);
            if let Some(transmit) = connection.quic.poll_transmit(instant, datagrams, buf) {
                // To the end of the list, so that one connection does not hold up the others.
                self.transmitting.push_back(key);
                return Some(Transmit::from_quic(transmit));
            }
            connection.transmitting = false;
            self.set_timer(key);
        }
        None
    }

    /// When [`Transport::handle_timeout`] wants to be called. Only right after everything was drained.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        if self.unsettled.is_empty() { self.timers.next_at() } else { Some(self.clock.mono()) }
    }

    /// How often each bound has refused something.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Handshakes that strangers have begun and not finished.
    pub fn half_open(&self) -> usize {
        self.strangers.len()
    }

    /// Links that are up.
    pub fn open_links(&self) -> usize {
        self.links.len()
    }

    /// Whether everything is closed and every closing packet was handed out: the socket may go.
    pub fn is_drained(&self) -> bool {
        self.events.is_empty()
            && self.unsettled.is_empty()
            && self.transmitting.is_empty()
            && self.responses.is_empty()
            && self.dials.is_empty()
            && self.connections.iter().all(|(_, connection)| connection.is_closing())
    }

    /// What is known of a link's path, while it is up.
    pub fn link_stats(&self, link: LinkHandle) -> Option<LinkStats> {
        let connection = self.connections.get(*self.links.get(&link)?)?;
        Some(LinkStats::of(&connection.quic))
    }

    /// Opens the windows of a link whose peer was greeted.
    fn trust(&mut self, link: LinkHandle) {
        if let Some(&key) = self.links.get(&link)
            && let Some(connection) = self.connections.get_mut(key)
            && let Some((quic, link)) = connection.link()
        {
            // The windows of all lanes together are the bound from now on. A smaller one for the connection could be
            // filled by lanes that wait for reassembly room, and starve the lane that holds it.
            quic.set_receive_window(VarInt::MAX);
            link.inbound.trust();
            self.mark_unsettled(key);
            self.mark_transmitting(key);
        }
    }

    fn close_link(&mut self, link: LinkHandle, code: CloseCode, flush: bool) {
        if let Some(key) = self.links.remove(&link) {
            if flush {
                self.begin_flush(key, code);
            } else {
                self.close_connection(key, code);
            }
            self.events.retain(|event| match event {
                LinkInput::Up { link: other, .. }
                | LinkInput::Frame { link: other, .. }
                | LinkInput::Down { link: other, .. } => *other != link,
                LinkInput::DialFailed { .. } => true,
            });
        }
    }

    /// Ends our lanes, so that the peer has everything before it hears of the close.
    fn begin_flush(&mut self, key: ConnectionKey, code: CloseCode) {
        let at = self.clock.mono() + FLUSH_MAX;
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.closes_with = Some(code);
        let Some((quic, link)) = connection.link() else { return };
        link.outbound.end_lanes(quic);
        self.timers.arm(at, Timer::Flush(key));
        self.finish_close_if_delivered(key);
        self.mark_unsettled(key);
    }

    /// Closes a connection that waits to be closed, once the peer has everything.
    fn finish_close_if_delivered(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let closing = connection.closes_with.is_some();
        if closing && connection.link().is_some_and(|(_, link)| link.outbound.is_delivered()) {
            self.finish_close(key);
        }
    }

    /// Closes the connections that wait until what was flushed is acknowledged: it may be lost. For ends that cannot wait
    /// for [`crate::link::FLUSH_MAX`].
    pub fn close_unflushed(&mut self, now: Now) {
        self.clock.advance(now);
        let waiting = self.connections.iter().filter(|(_, c)| c.closes_with.is_some());
        for key in waiting.map(|(key, _)| key).collect::<Vec<_>>() {
            self.finish_close(key);
        }
    }

    /// Closes a connection that waits to be closed.
    fn finish_close(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Some(code) = connection.closes_with.take()
            && !connection.is_closing()
        {
            self.close_connection(key, code);
        }
    }

    /// Closes a connection in whatever stage, telling the peer and nobody else.
    fn close_connection(&mut self, key: ConnectionKey, code: CloseCode) {
        self.end_handshake(key);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.close(self.clock.instant(), code);
            self.mark_unsettled(key);
            self.mark_transmitting(key);
        }
    }

    /// Notes that QUIC has closed a connection.
    fn end_connection(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.end();
        }
    }

    /// Ends what goes with a handshake: its timer, and for strangers the place among the half open.
    fn end_handshake(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Some(timer) = connection.handshake_timer.take() {
            self.timers.disarm(timer);
        }
        if let Some(place) = connection.stranger.take() {
            self.strangers.remove(place);
        }
    }

    /// Adds a connection whose handshake begins.
    fn insert_connection(&mut self, connection: Connection) -> ConnectionKey {
        let index = connection.handle.0;
        let key = self.connections.insert(Box::new(connection));
        if self.by_handle.len() <= index {
            self.by_handle.resize(index + 1, None);
        }
        self.by_handle[index] = Some(key);
        let at = self.clock.mono() + self.config.handshake_timeout;
        let timer = self.timers.arm(at, Timer::Handshake(key));
        if let Some(connection) = self.connections.get_mut(key) {
            connection.handshake_timer = Some(timer);
        }
        self.mark_unsettled(key);
        key
    }

    /// Forgets a connection that QUIC is done with. Its handle may be used again from now on.
    fn remove_connection(&mut self, key: ConnectionKey) {
        self.end_handshake(key);
        if let Some(connection) = self.connections.remove(key) {
            if let Some((_, timer)) = connection.deadline {
                self.timers.disarm(timer);
            }
            self.by_handle[connection.handle.0] = None;
        }
    }

    fn mark_unsettled(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.unsettled, true)
        {
            self.unsettled.push_back(key);
        }
    }

    fn mark_unflushed(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.unflushed, true)
        {
            self.unflushed.push_back(key);
        }
    }

    fn mark_transmitting(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.transmitting, true)
        {
            self.transmitting.push_back(key);
        }
    }
}
