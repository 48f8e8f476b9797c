//! Messages: whatever arrives parses or is refused, and what parses is written back equal.

use bytes::Bytes;
use dunlin_core::Limits;
use dunlin_core::wire;
use dunlin_proto::events::EVENTS_BYTES_MAX;

/// The first byte chooses the limits; the rest is one frame.
pub fn run(data: &[u8]) {
    let Some((choice, frame)) = data.split_first() else { return };
    let limits = match choice % 2 {
        0 => Limits::default(),
        _ => Limits {
            message_bytes_max: 40,
            services_per_peer_max: 2,
            actions_per_service_max: 2,
            ..Limits::default()
        },
    };
    match wire::parse(Bytes::copy_from_slice(frame), &limits) {
        Ok(message) => {
            if let Some(frame) = message.clone().into_frame() {
                let payload_bytes_max = match message {
                    // Each of the events is bound, and all of them together.
                    wire::Message::Events(_) => EVENTS_BYTES_MAX,
                    _ => limits.message_bytes_max,
                };
                assert!(frame.payload.len() <= payload_bytes_max);
                // At the other end, who dialled from here is there; and there and back again.
                let there = wire::parse(frame.to_body(), &limits).expect("our own are legal");
                let frame = there.into_frame().expect("it still says something");
                assert_eq!(wire::parse(frame.to_body(), &limits), Ok(message));
            }
        }
        Err(fault) => assert!(fault.to_string().len() < 4_096, "errors are for people"),
    }
}
