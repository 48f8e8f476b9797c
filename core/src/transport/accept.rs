//! Datagrams that belong to no connection yet: strangers are accepted, asked to prove their address, or
//! refused.

use quinn_proto::Incoming;

use super::Transport;
use super::config::AddressValidation;
use super::connection::Connection;
use super::datagram::Transmit;

/// Answers to strangers that wait to be sent. What is beyond is dropped, as the network might do.
const RESPONSES_MAX: usize = 256;

impl Transport {
    /// Decides about a stranger. Every arm hands the stranger back to the endpoint, which would
    /// otherwise keep it for ever.
    pub(super) fn admit(&mut self, stranger: Incoming, mut response: Vec<u8>) {
        let now = self.clock.instant();
        if self.responses.len() >= RESPONSES_MAX {
            self.endpoint.ignore(stranger);
        } else if self.refusing || self.connections.len() >= self.config.connections_max {
            let transmit = self.endpoint.refuse(stranger, &mut response);
            self.respond(transmit, response);
        } else if self.must_prove_address() && stranger.may_retry() {
            match self.endpoint.retry(stranger, &mut response) {
                Ok(transmit) => self.respond(transmit, response),
                Err(refused) => self.endpoint.ignore(refused.into_incoming()),
            }
        } else {
            match self.endpoint.accept(stranger, now, &mut response, None) {
                Ok((handle, quic)) => {
                    self.half_open += 1;
                    self.insert_connection(Connection::new(handle, quic, None));
                }
                Err(error) => {
                    if let Some(transmit) = error.response {
                        self.respond(transmit, response);
                    }
                }
            }
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
            AddressValidation::FromHalfOpen(count) => self.half_open >= count,
            AddressValidation::Always => true,
        }
    }
}
