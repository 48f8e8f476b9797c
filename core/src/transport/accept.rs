//! Datagrams that belong to no connection yet: strangers are accepted, asked to prove their address, or
//! refused.

use quinn_proto::{EndpointEvent, Incoming};

use super::config::AddressValidation;
use super::connection::Connection;
use super::datagram::Transmit;
use super::{ConnectionKey, Transport};
use crate::base::Bound;

/// Answers to strangers that wait to be sent. What is beyond is dropped, as the network might do.
const RESPONSES_MAX: usize = 256;

impl Transport {
    /// Decides about a stranger. Every arm hands the stranger back to the endpoint, which would
    /// otherwise keep it for ever.
    pub(super) fn admit(&mut self, stranger: Incoming, mut response: Vec<u8>) {
        let now = self.clock.instant();
        if self.responses.len() >= RESPONSES_MAX {
            self.endpoint.ignore(stranger);
        } else if self.refusing || !self.has_room() {
            let transmit = self.endpoint.refuse(stranger, &mut response);
            self.respond(transmit, response);
        } else if self.must_prove_address() && stranger.may_retry() {
            match self.endpoint.retry(stranger, &mut response) {
                Ok(transmit) => self.respond(transmit, response),
                Err(refused) => self.endpoint.ignore(refused.into_incoming()),
            }
        } else {
            let from = stranger.remote_address();
            let (per_address, max) =
                (self.config.half_open_per_address_max, self.config.half_open_max);
            if let Some((oldest, bound)) = self.strangers.crowding(from, per_address, max) {
                self.refusals.count(bound);
                self.drop_stranger(oldest);
            }
            match self.endpoint.accept(stranger, now, &mut response, None) {
                Ok((handle, quic)) => {
                    let key = self.insert_connection(Connection::new(handle, quic, None));
                    let place = self.strangers.insert(from, key);
                    if let Some(connection) = self.connections.get_mut(key) {
                        connection.stranger = Some(place);
                    }
                }
                Err(error) => {
                    if let Some(transmit) = error.response {
                        self.respond(transmit, response);
                    }
                }
            }
        }
    }

    /// Whether there is room for one more connection, if need be in the place of the oldest unfinished handshake.
    fn has_room(&mut self) -> bool {
        if self.connections.len() < self.config.connections_max {
            return true;
        }
        self.refusals.count(Bound::Connections);
        let oldest = self.strangers.oldest();
        if let Some(oldest) = oldest {
            self.drop_stranger(oldest);
        }
        oldest.is_some()
    }

    /// Forgets an unfinished handshake without a word: to say that it is over would keep its connection for three
    /// probe time-outs more.
    fn drop_stranger(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get(key) {
            self.endpoint.handle_event(connection.handle, EndpointEvent::drained());
            self.remove_connection(key);
        }
    }

    /// Queues a datagram that belongs to no connection.
    pub(super) fn respond(&mut self, transmit: quinn_proto::Transmit, datagram: Vec<u8>) {
        if self.responses.len() < RESPONSES_MAX {
            self.responses.push_back((Transmit::from_quic(transmit), datagram));
        }
    }

    fn must_prove_address(&self) -> bool {
        match self.config.address_validation {
            AddressValidation::Never => false,
            AddressValidation::FromHalfOpen(count) => self.strangers.len() >= count,
            AddressValidation::Always => true,
        }
    }
}
