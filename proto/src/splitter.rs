//! Cuts the bytes of one lane back into frames.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// A frame longer than the bound: the sender ignores the limits it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameTooLong {
    /// The length that the frame announces, in bytes.
    pub frame_bytes: u64,
    /// The longest frame that is accepted, in bytes.
    pub frame_bytes_max: usize,
}

impl std::fmt::Display for FrameTooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a frame of {} bytes, where at most {} are accepted",
            self.frame_bytes, self.frame_bytes_max
        )
    }
}

impl std::error::Error for FrameTooLong {}

/// Cuts a byte stream into frames, without copying a frame that lies within one chunk.
///
/// Memory is bounded by what was pushed: a frame's announced length reserves nothing until its
/// bytes arrive.
#[derive(Clone, Debug)]
pub struct FrameSplitter {
    chunks: VecDeque<Bytes>,
    buffered_bytes: usize,
    frame_bytes_max: usize,
}

/// The longest length prefix: a frame of up to 2^35 bytes, far above any bound in use.
const PREFIX_BYTES_MAX: usize = 5;

impl FrameSplitter {
    /// A splitter that refuses frames of more than `frame_bytes_max` bytes.
    pub fn new(frame_bytes_max: usize) -> Self {
        FrameSplitter { chunks: VecDeque::new(), buffered_bytes: 0, frame_bytes_max }
    }

    /// Adds the next bytes of the lane.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.buffered_bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// How many bytes wait for the rest of their frame.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// The next whole frame without its length prefix, or none until more bytes are pushed.
    ///
    /// # Errors
    ///
    /// [`FrameTooLong`] when the next frame announces more than the bound; the lane cannot go on.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameTooLong> {
        let Some((prefix_bytes, frame_bytes)) = self.prefix()? else { return Ok(None) };
        if self.buffered_bytes < prefix_bytes + frame_bytes {
            return Ok(None);
        }
        self.skip(prefix_bytes);
        self.buffered_bytes -= frame_bytes;
        if frame_bytes == 0 {
            return Ok(Some(Bytes::new()));
        }
        let first = self.chunks.front_mut().expect("buffered bytes lie in chunks");
        if first.len() > frame_bytes {
            return Ok(Some(first.split_to(frame_bytes)));
        }
        if first.len() == frame_bytes {
            return Ok(self.chunks.pop_front());
        }
        let mut frame = BytesMut::with_capacity(frame_bytes);
        while frame.len() < frame_bytes {
            let chunk = self.chunks.front_mut().expect("buffered bytes lie in chunks");
            let take = chunk.len().min(frame_bytes - frame.len());
            frame.extend_from_slice(&chunk[..take]);
            chunk.advance(take);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        Ok(Some(frame.freeze()))
    }

    /// The length prefix of the next frame: its own length and the length that it announces.
    fn prefix(&self) -> Result<Option<(usize, usize)>, FrameTooLong> {
        let mut value = 0u64;
        let bytes = self.chunks.iter().flat_map(|chunk| chunk.iter());
        for (index, byte) in bytes.take(PREFIX_BYTES_MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if value > self.frame_bytes_max as u64 {
                    return Err(self.too_long(value));
                }
                return Ok(Some((index + 1, value as usize)));
            }
        }
        if self.buffered_bytes >= PREFIX_BYTES_MAX {
            return Err(self.too_long(u64::MAX));
        }
        Ok(None)
    }

    fn too_long(&self, frame_bytes: u64) -> FrameTooLong {
        FrameTooLong { frame_bytes, frame_bytes_max: self.frame_bytes_max }
    }

    fn skip(&mut self, mut bytes: usize) {
        self.buffered_bytes -= bytes;
        while bytes > 0 {
            let chunk = self.chunks.front_mut().expect("buffered bytes lie in chunks");
            let take = chunk.len().min(bytes);
            chunk.advance(take);
            bytes -= take;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            prost::encoding::encode_varint(frame.len() as u64, &mut out);
            out.extend_from_slice(frame);
        }
        out
    }

    #[test]
    fn a_frame_within_one_chunk_is_a_slice_of_it() {
        let stream = Bytes::from(framed(&[vec![1; 10], vec![2; 10]]));
        let start = stream.as_ptr() as usize;
        let mut splitter = FrameSplitter::new(100);
        splitter.push(stream);
        let first = splitter.next_frame().unwrap().unwrap();
        assert_eq!(first.as_ptr() as usize, start + 1);
        assert_eq!(splitter.next_frame().unwrap().unwrap(), vec![2; 10]);
        assert_eq!(splitter.next_frame(), Ok(None));
        assert_eq!(splitter.buffered_bytes(), 0);
    }

    #[test]
    fn a_frame_beyond_the_bound_is_refused_before_it_arrives() {
        let mut splitter = FrameSplitter::new(100);
        splitter.push(Bytes::from_static(&[101]));
        assert_eq!(
            splitter.next_frame(),
            Err(FrameTooLong { frame_bytes: 101, frame_bytes_max: 100 })
        );
        let mut splitter = FrameSplitter::new(100);
        splitter.push(Bytes::from_static(&[0xff; 5]));
        assert!(splitter.next_frame().is_err());
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_same_frames_come_out(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..12),
            cuts in proptest::collection::vec(1usize..64, 1..40),
        ) {
            let stream = framed(&frames);
            let mut splitter = FrameSplitter::new(300);
            let mut got = Vec::new();
            let (mut at, mut cut) = (0, cuts.iter().cycle());
            while at < stream.len() {
                let end = (at + cut.next().unwrap()).min(stream.len());
                splitter.push(Bytes::copy_from_slice(&stream[at..end]));
                at = end;
                while let Some(frame) = splitter.next_frame().unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert_eq!(got, frames);
            prop_assert_eq!(splitter.buffered_bytes(), 0);
        }
    }
}
