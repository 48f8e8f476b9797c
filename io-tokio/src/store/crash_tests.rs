//! Crashes at any moment, on storage that loses and tears whatever was not synced.

use std::io;
use std::sync::{Arc, Mutex};

use dunlin_core::store::{Table, Write};
use proptest::prelude::*;

use super::*;

/// What a device writes at once.
const SECTOR_BYTES: usize = 512;
const REQUESTS: u64 = 24;

/// Storage with a cache that a crash loses.
#[derive(Debug, Default)]
struct Device {
    /// What survives.
    synced: Vec<u8>,
    /// What is read.
    seen: Vec<u8>,
    /// What was written since the last sync, in its order.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// It does so much more, and then nothing.
    steps_left: Option<usize>,
    steps: usize,
    /// It says that it has synced, and has not.
    lies: bool,
}

#[derive(Clone, Debug, Default)]
struct Flaky(Arc<Mutex<Device>>);

impl Device {
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match &mut self.steps_left {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What is there once the power is back: of what was not synced each sector has come, or not.
    fn after_crash(&self, mut random: impl FnMut() -> bool) -> Device {
        let mut left = self.synced.clone();
        left.resize(self.seen.len().max(left.len()), 0);
        for (offset, data) in &self.unsynced {
            for (n, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                let at = offset + n * SECTOR_BYTES;
                if random() && at + sector.len() <= left.len() {
                    left[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        Device { synced: left.clone(), seen: left, ..Device::default() }
    }
}

impl StorageBackend for Flaky {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let device = self.0.lock().unwrap();
        let from = offset as usize;
        let bytes = device.seen.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::other("behind the end"))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut device = self.0.lock().unwrap();
        device.step()?;
        device.seen.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut device = self.0.lock().unwrap();
        device.step()?;
        if !device.lies {
            device.synced = device.seen.clone();
            device.unsynced.clear();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut device = self.0.lock().unwrap();
        device.step()?;
        let from = offset as usize;
        device.seen[from..from + data.len()].copy_from_slice(data);
        device.unsynced.push((from, data.to_vec()));
        Ok(())
    }
}

/// The request with this number writes it to a place of its own and to one that all share, and takes away one from
/// before.
fn request(seq: u64) -> StoreRequest {
    let place = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    let write = |key: Bytes, value: Option<Bytes>| Write { table: Table::Life, key, value };
    let filler = Bytes::from(vec![seq as u8; 40 + seq as usize * 37]);
    let mut writes = vec![write(place(seq), Some(filler)), write(place(0), Some(place(seq)))];
    if seq.is_multiple_of(5) {
        writes.push(write(place(seq - 3), None));
    }
    StoreRequest { seq, writes }
}

/// What is stored once these requests have been, in the order of its places.
fn truth(requests: u64) -> Vec<(Bytes, Bytes)> {
    let mut all = std::collections::BTreeMap::new();
    for write in (1..=requests).flat_map(|seq| request(seq).writes) {
        match write.value {
            Some(value) => all.insert(write.key, value),
            None => all.remove(&write.key),
        };
    }
    all.into_iter().collect()
}

/// Writes all requests, `group` at a time, until the power goes; says how many were durable, and how many had been
/// handed over.
fn write_until_off(device: &Flaky, group: usize) -> (u64, u64) {
    let Ok(database) = Database::on(Path::new("flaky"), device.clone()) else { return (0, 0) };
    let requests: Vec<StoreRequest> = (1..=REQUESTS).map(request).collect();
    let (mut durable, mut handed) = (0, 0);
    for group in requests.chunks(group) {
        handed = group.last().expect("no chunk is empty").seq;
        if database.write(group).is_err() {
            break;
        }
        durable = handed;
    }
    (durable, handed)
}

/// Says whether everything was there that had been durable, and nothing by half.
fn survives(steps: usize, group: usize, seed: u64, lies: bool) -> bool {
    let device = Device { steps_left: Some(steps), lies, ..Device::default() };
    let device = Flaky(Arc::new(Mutex::new(device)));
    let (durable, handed) = write_until_off(&device, group);
    let mut state = seed | 1;
    let after = device.0.lock().unwrap().after_crash(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 63 == 1
    });
    let device = Flaky(Arc::new(Mutex::new(after)));
    let database = match Database::on(Path::new("flaky"), device) {
        Ok(database) => database,
        // Not even the format was durable: there is nothing to lose.
        Err(_) => return durable == 0,
    };
    let Ok(found) = database.read_all(Path::new("flaky")) else { return false };
    let found: Vec<_> = found.into_iter().map(|record| (record.key, record.value)).collect();
    let is_whole = [durable, handed].into_iter().any(|requests| truth(requests) == found);
    // And it goes on from there.
    is_whole && database.write(&[request(REQUESTS)]).is_ok()
}

/// How much a device does in all.
fn steps_in_all(group: usize) -> usize {
    let device = Flaky::default();
    assert_eq!(write_until_off(&device, group), (REQUESTS, REQUESTS));
    let device = device.0.lock().unwrap();
    device.steps
}

fn mix(seed: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn what_a_device_only_says_is_synced_is_missed() {
    let steps = steps_in_all(1);
    let survives = |seed| catch_unwind(|| survives(steps, 1, mix(seed), true)).unwrap_or(false);
    let lost = (1..20).filter(|seed| !survives(*seed)).count();
    assert!(lost > 10, "{lost} of 19 crashes of a device that lies were noticed");
}

#[test]
fn two_thousand_crashes_lose_nothing_that_was_durable() {
    let mut crashes = 0;
    let counts = [1, 3, 7].map(|group| (group, steps_in_all(group)));
    'all: for seed in 1.. {
        for (group, steps) in counts {
            for at in 0..steps {
                let seed = mix(seed);
                assert!(survives(at, group, seed, false), "steps {at}, group {group}, seed {seed}");
                crashes += 1;
                if crashes == 2_000 {
                    break 'all;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn nor_does_any_other_crash(at in 0usize..400, group in 1usize..9, seed in any::<u64>()) {
        prop_assert!(survives(at, group, seed, false));
    }
}
