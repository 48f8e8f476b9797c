//! Frames of the control socket: a JSON header and a body of bytes, each behind its length.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::BODY_BYTES_MAX;

/// The two lengths in front of a frame.
const LENGTHS_BYTES: usize = 8;

/// Why frames cannot be exchanged any more.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("the control socket failed: {0}")]
    Io(#[from] io::Error),
    /// The stream ended within a frame.
    #[error("the control socket was closed in the middle of a message")]
    Cut,
    /// A part of a frame is longer than it may be. When writing, nothing was written.
    #[error("a {part} of {bytes} bytes is too large for the control socket: at most {bytes_max}")]
    TooLarge {
        /// Which part.
        part: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// The other end does not keep to the protocol.
    #[error("the other end of the control socket does not speak its protocol: {0}")]
    Protocol(String),
}

fn check(part: &'static str, bytes: usize, bytes_max: usize) -> Result<(), FrameError> {
    match bytes > bytes_max {
        true => Err(FrameError::TooLarge { part, bytes, bytes_max }),
        false => Ok(()),
    }
}

/// A frame as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    header: Bytes,
    pub(super) body: Bytes,
}

impl Frame {
    /// What its header says.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.header)
    }
}

/// Reads frames.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    header_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, header_bytes_max: usize) -> Self {
        FrameReader { stream, buffer: BytesMut::new(), header_bytes_max }
    }

    /// The next frame; none when the stream has ended between two. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            // Memory grows with what has come, not with what was announced.
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Cut) };
            }
        }
    }

    fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(mut lengths) = self.buffer.get(..LENGTHS_BYTES) else { return Ok(None) };
        let (header, body) = (lengths.get_u32() as usize, lengths.get_u32() as usize);
        check("header", header, self.header_bytes_max)?;
        check("body", body, BODY_BYTES_MAX)?;
        if self.buffer.len() < LENGTHS_BYTES + header + body {
            return Ok(None);
        }
        self.buffer.advance(LENGTHS_BYTES);
        let header = self.buffer.split_to(header).freeze();
        Ok(Some(Frame { header, body: self.buffer.split_to(body).freeze() }))
    }
}

/// Writes frames.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    stream: W,
    header_bytes_max: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(stream: W, header_bytes_max: usize) -> Self {
        FrameWriter { stream, header_bytes_max }
    }

    /// Writes one frame. If the future is dropped, the stream can only be closed.
    pub(super) async fn write(
        &mut self,
        header: &impl Serialize,
        body: &Bytes,
    ) -> Result<(), FrameError> {
        let mut out = BytesMut::zeroed(LENGTHS_BYTES);
        serde_json::to_writer((&mut out).writer(), header).map_err(io::Error::from)?;
        let header_bytes = out.len() - LENGTHS_BYTES;
        check("header", header_bytes, self.header_bytes_max)?;
        check("body", body.len(), BODY_BYTES_MAX)?;
        (&mut out[..4]).put_u32(header_bytes as u32);
        (&mut out[4..LENGTHS_BYTES]).put_u32(body.len() as u32);
        self.stream.write_all(&out).await?;
        self.stream.write_all(body).await?;
        Ok(self.stream.flush().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const HEADER_BYTES_MAX: usize = 64;

    async fn written(frames: &[(Value, &[u8])]) -> Vec<u8> {
        let mut writer = FrameWriter::new(Vec::new(), HEADER_BYTES_MAX);
        for (header, body) in frames {
            writer.write(header, &Bytes::copy_from_slice(body)).await.unwrap();
        }
        writer.stream
    }

    #[tokio::test]
    async fn frames_read_back_however_they_are_cut() {
        let frames = [(json!({"a": 1}), &b"body"[..]), (json!(null), b""), (json!("x"), b"\0\xff")];
        let bytes = written(&frames).await;
        for chunk_bytes in 1..=bytes.len() {
            let (mut near, far) = tokio::io::duplex(chunk_bytes);
            let mut reader = FrameReader::new(far, HEADER_BYTES_MAX);
            let feed = async {
                near.write_all(&bytes).await.unwrap();
                drop(near);
            };
            let read = async {
                for (header, body) in &frames {
                    let frame = reader.next().await.unwrap().expect("one more");
                    assert_eq!(&frame.read::<Value>().unwrap(), header);
                    assert_eq!(&frame.body[..], *body);
                }
                assert_eq!(reader.next().await.unwrap(), None);
            };
            tokio::join!(feed, read);
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_dropped_while_it_waits_loses_nothing() {
        let bytes = written(&[(json!([1, 2, 3]), b"body")]).await;
        let (mut near, far) = tokio::io::duplex(64);
        let mut reader = FrameReader::new(far, HEADER_BYTES_MAX);
        for byte in &bytes[..bytes.len() - 1] {
            near.write_all(&[*byte]).await.unwrap();
            tokio::select! {
                biased;
                frame = reader.next() => panic!("it is not whole: {frame:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        near.write_all(&bytes[bytes.len() - 1..]).await.unwrap();
        assert_eq!(&reader.next().await.unwrap().unwrap().body[..], b"body");
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_frame_is_an_error() {
        let bytes = written(&[(json!({}), b"body")]).await;
        for cut in 1..bytes.len() {
            let mut reader = FrameReader::new(&bytes[..cut], HEADER_BYTES_MAX);
            assert!(matches!(reader.next().await, Err(FrameError::Cut)), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_before_it_is_read_or_written() {
        let announced =
            |header: u32, body: u32| [header.to_be_bytes(), body.to_be_bytes()].concat();
        for (lengths, part) in [
            (announced(HEADER_BYTES_MAX as u32 + 1, 0), "header"),
            (announced(2, BODY_BYTES_MAX as u32 + 1), "body"),
            (announced(u32::MAX, u32::MAX), "header"),
        ] {
            let error = FrameReader::new(&lengths[..], HEADER_BYTES_MAX).next().await.unwrap_err();
            assert!(matches!(error, FrameError::TooLarge { part: p, .. } if p == part), "{error}");
        }
        let mut writer = FrameWriter::new(Vec::new(), HEADER_BYTES_MAX);
        let long = "x".repeat(HEADER_BYTES_MAX);
        let error = writer.write(&long, &Bytes::new()).await.unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { part: "header", .. }), "{error}");
        assert!(writer.stream.is_empty(), "nothing was written");
    }
}
