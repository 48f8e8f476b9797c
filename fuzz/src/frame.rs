//! Frames: what decodes is written back equal, and a lane is cut into the same frames however its
//! bytes arrive.

use bytes::{Bytes, BytesMut};
use dunlin_proto::{Frame, FrameSplitter, FrameView};

use crate::tape::Tape;

/// Frames beyond it are refused.
const FRAME_BYTES_MAX: usize = 300;

/// The first bytes say how the rest is cut; the rest is a lane, and also one frame.
pub fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    let cuts = tape.bytes();
    let lane = Bytes::copy_from_slice(tape.rest());
    if let Ok(FrameView::Known(header, payload)) = FrameView::decode(lane.clone()) {
        assert!(payload.len() <= lane.len());
        reads_back(Frame::with_payload(header, payload));
    }
    cuts_alike(&lane, cuts);
}

fn reads_back(frame: Frame) {
    let body = frame.to_body();
    let mut stream = BytesMut::new();
    let total = frame.encode_head(&mut stream);
    stream.extend_from_slice(&frame.payload);
    assert_eq!(stream.len(), total);
    let mut splitter = FrameSplitter::new(body.len());
    splitter.push(stream.freeze());
    assert_eq!(splitter.next_frame(), Ok(Some(body.clone())));
    assert_eq!(splitter.buffered_bytes(), 0);
    assert_eq!(FrameView::decode(body), Ok(FrameView::Known(frame.header, frame.payload)));
}

fn cuts_alike(lane: &Bytes, cuts: &[u8]) {
    let (expected, left, legal) = expected_frames(lane);
    let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    let (mut at, mut cut) = (0, 0);
    let mut refused = false;
    while at < lane.len() && !refused {
        let bytes = cuts.get(cut).map_or(lane.len(), |cut| usize::from(*cut));
        cut += 1;
        let end = lane.len().min(at + bytes);
        splitter.push(lane.slice(at..end));
        at = end;
        loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.frame_bytes > FRAME_BYTES_MAX as u64);
                    refused = true;
                    break;
                }
            }
        }
    }
    assert_eq!(frames, expected);
    assert_eq!(refused, !legal);
    if legal {
        assert_eq!(splitter.buffered_bytes(), left);
    }
}

/// The frames of a lane, how many bytes are left behind them, and whether it can go on.
fn expected_frames(mut lane: &[u8]) -> (Vec<Bytes>, usize, bool) {
    let mut frames = Vec::new();
    loop {
        let Some(last) = lane.iter().position(|byte| byte & 0x80 == 0) else {
            // A prefix that does not end within five bytes never will.
            return (frames, lane.len(), lane.len() < 5);
        };
        if last >= 5 {
            return (frames, lane.len(), false);
        }
        let length =
            (0..=last).rev().fold(0u64, |sum, at| sum << 7 | u64::from(lane[at] & 0x7f));
        if length > FRAME_BYTES_MAX as u64 {
            return (frames, lane.len(), false);
        }
        let end = last + 1 + length as usize;
        if lane.len() < end {
            return (frames, lane.len(), true);
        }
        frames.push(Bytes::copy_from_slice(&lane[last + 1..end]));
        lane = &lane[end..];
    }
}
