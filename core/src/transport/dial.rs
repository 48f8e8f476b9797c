//! Dials: one peer, several addresses, one link.
//!
//! The next address is tried when the one before it failed, or has not answered for a while (RFC 8305).
//! The first connection that is up wins, and the others are closed.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::connection::Connection;
use super::crypto::server_name;
use super::{ConnectionKey, Timer, Transport};
use crate::base::{PeerId, TimerId};
use crate::link::{CloseCode, DialError, DialHandle, LinkInput};

/// A dial that has not ended.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) peer: PeerId,
    untried: VecDeque<SocketAddr>,
    attempts: Vec<ConnectionKey>,
    next_attempt: Option<TimerId<Timer>>,
    error: Option<DialError>,
}

/// Which of two failures says more to the caller.
fn weight(error: &DialError) -> u8 {
    match error {
        DialError::Unusable(_) => 0,
        DialError::TimedOut => 1,
        DialError::Refused(_) => 2,
        DialError::WrongPeer => 3,
    }
}

impl Dial {
    fn note(&mut self, error: DialError) {
        if self.error.as_ref().is_none_or(|known| weight(known) < weight(&error)) {
            self.error = Some(error);
        }
    }
}

impl Transport {
    /// Begins a dial.
    pub(super) fn begin_dial(
        &mut self,
        dial: DialHandle,
        peer: PeerId,
        addresses: Vec<SocketAddr>,
    ) {
        if self.dials.contains_key(&dial) {
            return;
        }
        let untried = addresses.into_iter().take(self.config.dial_addresses_max).collect();
        let entry = Dial { peer, untried, attempts: Vec::new(), next_attempt: None, error: None };
        self.dials.insert(dial, entry);
        self.try_next_address(dial);
    }

    /// Gives a dial up without a word to the mesh.
    pub(super) fn cancel_dial(&mut self, dial: DialHandle) {
        if let Some(entry) = self.dials.remove(&dial) {
            self.disarm(entry.next_attempt);
            for attempt in entry.attempts {
                self.close_connection(attempt, CloseCode::DISCONNECTED);
            }
        }
    }

    /// Tries the next address that can be tried at all; ends the dial when nothing is left.
    pub(super) fn try_next_address(&mut self, dial: DialHandle) {
        let now = self.clock.instant();
        let Some(entry) = self.dials.get_mut(&dial) else { return };
        if let Some(timer) = entry.next_attempt.take() {
            self.timers.disarm(timer);
        }
        while let Some(address) = entry.untried.pop_front() {
            if self.connections.len() >= self.config.connections_max {
                entry.note(DialError::Unusable(format!(
                    "{} connections are open, as many as connections_max allows",
                    self.connections.len()
                )));
                entry.untried.clear();
                break;
            }
            let name = server_name(&entry.peer);
            match self.endpoint.connect(now, self.client.clone(), address, &name) {
                Ok((handle, quic)) => {
                    if !entry.untried.is_empty() {
                        let at = self.clock.mono() + self.config.dial_attempt_delay;
                        entry.next_attempt = Some(self.timers.arm(at, Timer::NextAddress(dial)));
                    }
                    let connection = Connection::new(handle, quic, Some(dial));
                    let key = self.insert_connection(connection);
                    if let Some(entry) = self.dials.get_mut(&dial) {
                        entry.attempts.push(key);
                    }
                    return;
                }
                Err(error) => entry.note(DialError::Unusable(error.to_string())),
            }
        }
        if entry.attempts.is_empty() {
            let error = entry.error.take().unwrap_or_else(|| {
                DialError::Unusable("no address to dial: give at least one".into())
            });
            self.dials.remove(&dial);
            self.events.push_back(LinkInput::DialFailed { dial, error });
        }
    }

    /// One address did not lead to a link.
    pub(super) fn attempt_failed(
        &mut self,
        dial: DialHandle,
        attempt: ConnectionKey,
        error: DialError,
    ) {
        if let Some(entry) = self.dials.get_mut(&dial) {
            entry.attempts.retain(|other| *other != attempt);
            entry.note(error);
            self.try_next_address(dial);
        }
    }

    /// One address led to a link: the dial is over, and the other attempts with it.
    pub(super) fn attempt_won(&mut self, dial: DialHandle, attempt: ConnectionKey) {
        if let Some(entry) = self.dials.remove(&dial) {
            self.disarm(entry.next_attempt);
            for other in entry.attempts.into_iter().filter(|other| *other != attempt) {
                self.close_connection(other, CloseCode::DISCONNECTED);
            }
        }
    }

    fn disarm(&mut self, timer: Option<TimerId<Timer>>) {
        if let Some(timer) = timer {
            self.timers.disarm(timer);
        }
    }
}
