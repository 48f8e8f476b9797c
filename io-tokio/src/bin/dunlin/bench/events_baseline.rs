//! Events over QUIC alone: each event is framed once, and the frames of many go to eight connections in one
//! write each, on one stream that each has. An empty frame asks how many came.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{RecvStream, SendStream};

use super::Failure;
use super::baseline::{Frames, LENGTH_BYTES, NAME, client_config, endpoint, next_frame};
use super::measure::{self, Deliveries, Tally};
use super::processes::Place;
use super::workload::Setting;

/// A subscriber's end of a stream: counts frames, and says how many there were whenever an empty one comes.
pub(super) async fn count(mut send: SendStream, mut receive: RecvStream) -> Result<(), Failure> {
    let mut frames = Frames::default();
    let mut came: u64 = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        let mut whole = frames.take(chunk.bytes);
        while let Some(event) = next_frame(&mut whole) {
            if event.is_empty() {
                send.write_all(&came.to_be_bytes()).await?;
            } else {
                // As if somebody had it.
                std::hint::black_box(&event);
                came += 1;
            }
        }
    }
    Ok(())
}

/// The publisher's end.
pub(super) async fn measure(setting: &Setting, places: &[Place]) -> Result<(), Failure> {
    let endpoint = endpoint(setting.datagram, None)?;
    let config = client_config(setting.datagram)?;
    let mut streams = Vec::new();
    for place in places {
        let connection = endpoint.connect_with(config.clone(), place.address, NAME)?.await?;
        streams.push(connection.open_bi().await?);
    }
    let (mut published, mut before) = (0, 0);
    measure::measure(setting.seconds, async |tally| {
        published += publish(setting, &mut streams, tally).await?;
        let mut now = 0;
        for (send, _) in &mut streams {
            send.write_all(&[0; LENGTH_BYTES]).await?;
        }
        for (_, receive) in &mut streams {
            let mut count = [0; 8];
            receive.read_exact(&mut count).await?;
            now += u64::from_be_bytes(count);
        }
        if now != published * streams.len() as u64 {
            return Err("a stream has lost events".into());
        }
        tally.deliver(Deliveries { came: now - before, lost: 0 });
        before = now;
        Ok(())
    })
    .await
}

/// Publishes so many events at once, again and again. Says how many there were.
async fn publish(
    setting: &Setting,
    streams: &mut [(SendStream, RecvStream)],
    tally: &Tally,
) -> Result<u64, Failure> {
    let payload = vec![7; setting.size];
    let mut published = 0;
    while Instant::now() < tally.until {
        let mut batch =
            BytesMut::with_capacity(setting.outstanding * (LENGTH_BYTES + setting.size));
        for _ in 0..setting.outstanding {
            batch.put_u32(setting.size as u32);
            batch.put_slice(&payload);
        }
        published += setting.outstanding as u64;
        let batch: Bytes = batch.freeze();
        for (send, _) in streams.iter_mut() {
            send.write_chunk(batch.clone()).await?;
        }
        // Connections are driven by tasks of their own.
        tokio::task::yield_now().await;
    }
    Ok(published)
}
