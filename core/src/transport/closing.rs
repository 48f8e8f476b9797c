//! Lets a CONNECTION_CLOSE leave at once.
//!
//! In quinn-proto 0.11.19 the packet that closes a connection waits for congestion window and pacing
//! like data does (quinn #2785). When packets were lost in the middle of a transfer, the peer learns
//! late, up to its idle time-out. This wrapper opens the window without bound, which also switches
//! pacing off, as soon as the connection closes: then only the closing packet is left to send.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::{Connection, RttEstimator};

/// Builds controllers that can be opened.
pub(super) struct ClosableFactory(pub(super) Arc<dyn ControllerFactory + Send + Sync>);

impl ControllerFactory for ClosableFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = self.0.clone().build(now, current_mtu);
        Box::new(Closable { inner, closing: Arc::new(AtomicBool::new(false)) })
    }
}

/// Lets what is left to send of a closing connection pass. To be called once it is closed.
pub(super) fn open_window(connection: &Connection) {
    // The connection lends its controller read-only; a copy shares the flag with it.
    if let Ok(copy) = connection.congestion_state().clone_box().into_any().downcast::<Closable>() {
        copy.closing.store(true, Ordering::Relaxed);
    }
}

struct Closable {
    inner: Box<dyn Controller>,
    closing: Arc<AtomicBool>,
}

impl Controller for Closable {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.closing.load(Ordering::Relaxed) { u64::MAX / 2 } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Closable { inner: self.inner.clone_box(), closing: self.closing.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
