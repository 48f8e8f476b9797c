//! What happens to a connection after anything touched it: QUIC's own affairs are carried back and
//! forth, its events become the mesh's, its lanes are read, its timer is set.

use std::time::{Duration, Instant};

use quinn_proto::{ConnectionError, Dir, Event, StreamEvent};

use super::connection::{self, Link, Stage};
use super::crypto::proven_peer;
use super::inbound::{Inbound, LaneFault};
use super::outbound::{Outbound, OutboundLimits};
use super::{ConnectionKey, Timer, Transport};
use crate::link::{CloseCode, DialError, DownReason, LinkHandle, LinkInput};

/// Of one link so many bytes are read before the next one has its turn. A guess: some batches of datagrams.
const LINK_TURN_BYTES: usize = 128 << 10;

/// What QUIC assumes before it has measured a round trip (RFC 9002, section 6.2.2).
const RTT_INITIAL: Duration = Duration::from_millis(333);
/// A smoothed round trip beyond four times the least one and this is doubted: a single sample of two
/// seconds on a short path.
const RTT_DOUBTED: Duration = Duration::from_millis(250);
/// An estimate is thrown away no more often than this. A guess.
const DOUBT_INTERVAL: Duration = Duration::from_secs(1);
/// And no more often in a row than this. A guess.
const DOUBTS_MAX: u32 = 8;

impl Transport {
    /// Brings a connection to rest.
    pub(super) fn settle(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.unsettled = false;
        let mut drained = false;
        while let Some(event) = connection.quic.poll_endpoint_events() {
            drained |= event.is_drained();
            if let Some(answer) = self.endpoint.handle_event(connection.handle, event) {
                connection.quic.handle_event(answer);
            }
        }
        while let Some(connection) = self.connections.get_mut(key)
            && let Some(event) = connection.quic.poll()
        {
            match event {
                Event::Connected => self.connected(key),
                Event::ConnectionLost { reason } => self.lost(key, reason),
                Event::Stream(event) => self.stream_event(key, event),
                Event::HandshakeDataReady | Event::DatagramReceived | Event::DatagramsUnblocked => {
                }
            }
        }
        self.read_lanes(key);
        self.doubt_path(key);
        if drained {
            self.remove_connection(key);
        } else {
            self.set_timer(key);
            self.mark_transmitting(key);
        }
    }

    /// Throws away an estimate of the path that is more likely a pause.
    ///
    /// A pause of either end becomes a round trip of seconds. QUIC would pace a few packets over each of
    /// them, and wait several before it sends a lost one again, long after the pause. Acknowledgements
    /// from before its end may come after it, so that one doubt is not enough; a path that stays as slow
    /// through several is believed.
    fn doubt_path(&mut self, key: ConnectionKey) {
        let now = self.clock.mono();
        let instant = self.clock.instant();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let rtt = connection.quic.rtt();
        // Nothing was measured yet.
        if !matches!(connection.stage, Stage::Up(_)) || rtt == RTT_INITIAL {
            return;
        }
        let path = &mut connection.path;
        let least = path.rtt_least.map_or(rtt, |least| least.min(rtt));
        path.rtt_least = Some(least);
        if rtt <= 4 * least + RTT_DOUBTED {
            path.doubts = 0;
        } else if now.since(path.doubted) >= DOUBT_INTERVAL {
            path.doubted = now;
            path.doubts += 1;
            if path.doubts > DOUBTS_MAX {
                path.rtt_least = Some(rtt);
                path.doubts = 0;
            } else {
                connection.quic.path_changed(instant);
            }
        }
    }

    /// Asks to be woken when QUIC wants to be.
    pub(super) fn set_timer(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let wanted: Option<Instant> = connection.quic.poll_timeout();
        if wanted == connection.deadline.map(|(at, _)| at) {
            return;
        }
        if let Some((_, timer)) = connection.deadline.take() {
            self.timers.disarm(timer);
        }
        if let Some(at) = wanted {
            let timer = self.timers.arm(self.clock.mono_at(at), Timer::Quic(key));
            connection.deadline = Some((at, timer));
        }
    }

    /// The handshake is over.
    fn connected(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Handshaking { dial } = connection.stage else { return };
        let peer = proven_peer(connection.quic.crypto_session());
        let expected = dial.and_then(|dial| self.dials.get(&dial)).map(|dial| dial.peer);
        let Some(peer) = peer.filter(|peer| expected.is_none_or(|expected| expected == *peer))
        else {
            // TLS would have failed; this stays true for any other session.
            self.handshake_failed(key, DialError::WrongPeer);
            return;
        };
        let limits = OutboundLimits {
            send_window_bytes: self.config.send_window_bytes,
            send_reserve_bytes: self.config.send_reserve_bytes(),
            own_unwritten_bytes_max: self.config.own_unwritten_bytes_max,
        };
        let Some(outbound) = Outbound::open(&mut connection.quic, limits) else {
            let error = DialError::Refused("the peer does not allow for enough lanes".into());
            self.handshake_failed(key, error);
            return;
        };
        let remote = connection.quic.remote_address();
        let inbound = Inbound::new(
            self.config.frame_bytes_max(),
            self.config.reassembly_budget_bytes(),
            self.config.untrusted_window_bytes as usize,
        );
        let handle = LinkHandle(self.links_made);
        self.links_made += 1;
        self.end_handshake(key);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.stage = Stage::Up(Box::new(Link { handle, inbound, outbound }));
        }
        self.links.insert(handle, key);
        if let Some(dial) = dial {
            self.attempt_won(dial, key);
        }
        let direction = connection::direction(dial);
        self.events.push_back(LinkInput::Up {
            link: handle,
            peer,
            direction,
            remote: Some(remote),
        });
    }

    /// QUIC has given a connection up.
    fn lost(&mut self, key: ConnectionKey, reason: ConnectionError) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match &connection.stage {
            Stage::Handshaking { dial } => {
                let dial = *dial;
                self.end_handshake(key);
                self.end_connection(key);
                if let Some(dial) = dial {
                    self.attempt_failed(dial, key, connection::dial_error(reason));
                }
            }
            Stage::Up(link) => {
                let link = link.handle;
                // What arrived before the end is still the mesh's.
                self.read_lanes(key);
                self.link_down(key, link, connection::down_reason(reason));
            }
            Stage::Closing => {}
        }
    }

    /// Closes a connection that never became a link, and lets its dial go on.
    pub(super) fn handshake_failed(&mut self, key: ConnectionKey, error: DialError) {
        let Some(connection) = self.connections.get(key) else { return };
        let Stage::Handshaking { dial } = connection.stage else { return };
        self.close_connection(key, CloseCode::HANDSHAKE_TIMEOUT);
        if let Some(dial) = dial {
            self.attempt_failed(dial, key, error);
        }
    }

    /// Tells the mesh of the end of a link, once.
    fn link_down(&mut self, key: ConnectionKey, link: LinkHandle, reason: DownReason) {
        if self.links.remove(&link).is_some() {
            self.events.push_back(LinkInput::Down { link, reason });
        }
        self.end_connection(key);
    }

    fn stream_event(&mut self, key: ConnectionKey, event: StreamEvent) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some((quic, link)) = connection.link() else { return };
        let mut result = Ok(());
        let mut delivered = false;
        match event {
            StreamEvent::Opened { dir: Dir::Uni } => link.inbound.accept(quic),
            StreamEvent::Readable { id } => link.inbound.mark_readable(id.index()),
            StreamEvent::Writable { id } => link.outbound.mark_writable(id),
            StreamEvent::Finished { id } => {
                link.outbound.mark_delivered(id);
                delivered = true;
            }
            StreamEvent::Stopped { id, .. } => result = link.outbound.mark_stopped(quic, id),
            StreamEvent::Available { dir: Dir::Uni } => link.outbound.mark_streams_available(),
            // Nobody may open bidirectional streams.
            StreamEvent::Opened { dir: Dir::Bi } | StreamEvent::Available { dir: Dir::Bi } => {}
        }
        let wants_flush = link.outbound.wants_flush();
        match result {
            Ok(()) if wants_flush => self.mark_unflushed(key),
            Ok(()) => {}
            Err(fault) => self.lane_fault(key, &fault),
        }
        if delivered {
            self.finish_close_if_delivered(key);
        }
    }

    fn read_lanes(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some((quic, link)) = connection.link() else { return };
        let handle = link.handle;
        let events = &mut self.events;
        let mut budget = LINK_TURN_BYTES;
        let read = link.inbound.read(quic, &mut self.frames, &mut budget, &mut |lane, frame| {
            events.push_back(LinkInput::Frame { link: handle, lane, frame });
        });
        let more = link.inbound.is_readable();
        self.turn_bytes += LINK_TURN_BYTES - budget;
        match read {
            Err(fault) => self.lane_fault(key, &fault),
            // To the end of the list, so that one peer's backlog does not hold up another's message.
            Ok(()) if more => self.mark_unsettled(key),
            Ok(()) => {}
        }
    }

    /// Closes a link whose peer broke the rules of lanes.
    pub(super) fn lane_fault(&mut self, key: ConnectionKey, fault: &LaneFault) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some((_, link)) = connection.link() else { return };
        let link = link.handle;
        self.close_connection(key, CloseCode::PROTOCOL_FAULT);
        self.link_down(key, link, DownReason::Failed(format!("protocol fault: {fault}")));
    }
}
