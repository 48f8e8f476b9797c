//! Writing and reading the envelope of one call: numbers, a path, 64 bytes.
//!
//! `cargo bench -p dunlin-proto --bench frame`. The bounds are in performance.md, row "envelope".

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::Criterion;
use dunlin_proto::{Frame, FrameView, Header, v1};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let frame = Frame::with_payload(
        Header::Call(v1::Call {
            sequence: 1_234_567,
            floor: 1_234_560,
            attempt: 1,
            callee_boot: 0x0102_0304_0506_0708,
            time_left_ms: 10_000,
            path: Bytes::from_static(b"fleet/device-81723/state"),
            content_type: 1,
        }),
        Bytes::from_static(&[7; 64]),
    );
    // As a transport does: behind each other in a buffer, payload included, now and then sent.
    let mut out = BytesMut::with_capacity(16 << 10);
    criterion.bench_function("frame/encode", |bencher| {
        bencher.iter(|| {
            if out.capacity() - out.len() < 256 {
                out.clear();
            }
            let bytes = black_box(&frame).encode_head(&mut out);
            out.extend_from_slice(&frame.payload);
            bytes
        });
    });
    let body = Bytes::from(frame.to_body().to_vec());
    criterion.bench_function("frame/decode", |bencher| {
        bencher.iter(|| FrameView::decode(black_box(&body).clone()));
    });
    criterion.final_summary();
}
