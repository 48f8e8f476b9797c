//! How calls to a peer are numbered and sent, sent again on another link, and what becomes of them when the
//! peer's life ends.

use std::collections::VecDeque;

use crate::base::{CallKey, Effects, PeerKey};
use crate::machine::Context;
use crate::planted::is_planted;
use crate::rpc::caller::{Caller, InFlight, Leg, PeerCalls, Stage, encoded_bytes};
use crate::rpc::caller::{CallerEffect, CallerTimer};
use crate::rpc::outcome::{CallError, Executed, Failure};

impl Caller {
    pub(super) fn remember(&mut self, peer: PeerKey) {
        if self.peers.get(peer).is_none() {
            let last_sequence = self.forgotten_sequence;
            self.peers.insert(peer, PeerCalls { last_sequence, ..PeerCalls::default() });
        }
    }

    /// Takes a call that waits out of the queue, so that the queue holds none that has ended.
    pub(super) fn stop_waiting(&mut self, peer: PeerKey, key: CallKey) {
        let Some(calls) = self.peers.get_mut(peer) else { return };
        // Calls that give up are mostly the oldest.
        if let Some(index) = calls.waiting.iter().position(|waiting| *waiting == key) {
            calls.waiting.remove(index);
        }
    }

    /// Numbers and sends what waits for the peer, as far as its credit goes.
    pub(super) fn send_waiting(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        peer: PeerKey,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        loop {
            let Some(calls) = self.peers.get_mut(peer) else { return };
            let Some(session) = calls.session else { return };
            if !calls.connected || calls.in_flight.len() >= session.credit {
                return;
            }
            let Some(key) = calls.waiting.pop_front() else { return };
            let call = self.calls.get_mut(key).expect("calls that end leave the queue");
            let payload_bytes = encoded_bytes(call.payload.as_ref().expect("not local"));
            if payload_bytes > session.message_bytes_max {
                let detail = format!(
                    "the argument has {payload_bytes} bytes, the peer accepts {}",
                    session.message_bytes_max
                );
                if !self.lose_leg(key, peer, (Failure::TooLarge, Executed::No), out) {
                    let error = CallError::unrun(Failure::TooLarge, detail);
                    self.end(cx, key, Err(error), out);
                }
                continue;
            }
            calls.last_sequence += 1;
            let sequence = calls.last_sequence;
            calls.in_flight.insert(sequence, InFlight::Call(key));
            call.set_leg(Leg { peer, sequence: Some(sequence), sent: false });
            out.push(CallerEffect::Send { peer, sequence, payload_bytes });
        }
    }

    /// Sends everything in flight to the peer again, oldest first, under the same numbers.
    pub(super) fn resend(&mut self, peer: PeerKey, out: &mut Effects<'_, CallerEffect>) {
        let Some(calls) = self.peers.get_mut(peer) else { return };
        // What nobody has sent and nobody wants needs no answer.
        calls.in_flight.retain(|_, entry| !matches!(entry, InFlight::Abandoned { sent: false }));
        if is_planted(2) {
            for entry in std::mem::take(&mut calls.in_flight).into_values() {
                calls.last_sequence += 1;
                let sequence = calls.last_sequence;
                if let InFlight::Call(key) = entry {
                    let call = self.calls.get_mut(key).expect("numbers in flight name calls");
                    let leg = call.leg_at(peer).expect("it has a number with this peer");
                    call.set_leg(Leg { sequence: Some(sequence), ..leg });
                }
                calls.in_flight.insert(sequence, entry);
            }
        }
        for (sequence, entry) in calls.in_flight.iter() {
            match entry {
                InFlight::Call(key) => {
                    let call = self.calls.get(*key).expect("numbers in flight name calls");
                    let payload = call.payload.as_ref().expect("not local");
                    let payload_bytes = encoded_bytes(payload);
                    out.push(CallerEffect::Send { peer, sequence, payload_bytes });
                }
                InFlight::Abandoned { .. } => out.push(CallerEffect::SendCancel { peer, sequence }),
            }
        }
    }

    /// The peer's life is over: nothing that it was sent will be answered.
    pub(super) fn session_ended(
        &mut self,
        cx: &mut Context<'_, CallerTimer>,
        peer: PeerKey,
        out: &mut Effects<'_, CallerEffect>,
    ) {
        let Some(calls) = self.peers.get_mut(peer) else { return };
        calls.session = None;
        calls.connected = false;
        for entry in std::mem::take(&mut calls.in_flight).into_values() {
            let InFlight::Call(key) = entry else { continue };
            let sent =
                self.calls.get(key).and_then(|call| call.leg_at(peer)).is_some_and(|l| l.sent);
            let doubt = if sent { Executed::Maybe } else { Executed::No };
            if self.lose_leg(key, peer, (Failure::PeerRestarted, doubt), out) {
                continue;
            }
            let call = self.calls.get_mut(key).expect("numbers in flight name calls");
            if sent {
                let executed = if is_planted(3) { Executed::No } else { Executed::Maybe };
                let error = CallError::failed(Failure::PeerRestarted, executed);
                self.attempt_failed(cx, key, error, None, out);
                continue;
            }
            if call.pinned {
                // It waits for the peer's next life.
                call.stage = Stage::Waiting(peer);
                self.peers.get_mut(peer).expect("still there").waiting.push_back(key);
            } else {
                call.stage = Stage::Routing;
                out.push(CallerEffect::Reroute { call: key, path: call.path.clone() });
            }
        }
        // Calls to whoever serves the path need not wait for this peer to come back.
        let calls = self.peers.get_mut(peer).expect("still there");
        let (mut stay, mut go) = (VecDeque::new(), Vec::new());
        for key in std::mem::take(&mut calls.waiting) {
            if self.lose_leg(key, peer, (Failure::PeerRestarted, Executed::No), out) {
                continue;
            }
            let call = self.calls.get(key).expect("calls that end leave the queue");
            if call.pinned { stay.push_back(key) } else { go.push(key) }
        }
        self.peers.get_mut(peer).expect("still there").waiting = stay;
        for key in go {
            let call = self.calls.get_mut(key).expect("just looked up");
            call.stage = Stage::Routing;
            out.push(CallerEffect::Reroute { call: key, path: call.path.clone() });
        }
    }
}
