//! Packets fidelity: whole nodes, and between them real QUIC datagrams.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use dunlin_core::link::{Lane, LinkHandle};
use dunlin_core::mesh::Way;
use dunlin_core::peer::Admission;
use dunlin_core::transport::{Crypto, Datagram, TransportConfig};
use dunlin_core::{Event, Mesh, MonoTime, Node, NodeConfig, Now, PeerId};

use crate::hostile::Hostile;
use crate::log::log;
use crate::network::Fate;
use crate::random::mix;
use crate::recording::{self, Datagram as Captured, Sent, Tape};
use crate::schedule;
use crate::station::{Live, station_at};
use crate::trace::Step;
use crate::world::{Birth, Fidelity, Happening, World};

/// At most so many datagrams a batch, as a shell would send them.
const BATCH: usize = 10;

/// A datagram under way.
pub(crate) struct Parcel {
    from: usize,
    data: BytesMut,
}

/// A frame that has passed between a mesh and its transport.
struct Passed {
    way: Way,
    /// Whose mesh it is.
    here: PeerId,
    /// Who is at the other end.
    peer: PeerId,
    lane: Lane,
    body: Bytes,
}

/// What the nodes of a world have in common.
pub(crate) struct Packets {
    crypto: schedule::Crypto,
    tape: Tape,
    buf: Vec<u8>,
    /// Frames that were not written down yet: nodes know no true time. Only filled while a run is recorded.
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl Packets {
    pub(crate) fn new(crypto: schedule::Crypto, tape: Tape) -> Self {
        Packets { crypto, tape, buf: Vec::new(), passed: Arc::default() }
    }

    /// Has the frames of a node written down: they travel inside packets, where nobody sees them.
    fn watch(&self, here: PeerId, node: &mut Node) {
        let passed = Arc::clone(&self.passed);
        node.mesh_mut().watch_frames(Arc::new(move |frame| {
            let (way, peer, lane, body) = (frame.way, frame.peer, frame.lane, frame.body.clone());
            let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
            passed.push(Passed { way, here, peer, lane, body });
        }));
    }
}

/// Writes down the frames that have just passed.
fn record_frames(world: &World<'_, Packets>) {
    let mut passed = world.fidelity.passed.lock().unwrap_or_else(PoisonError::into_inner);
    let place = |id: PeerId| world.peers.iter().position(|peer| *peer == id);
    for Passed { way, here, peer, lane, body } in passed.drain(..) {
        // Strangers have no column.
        let (Some(here), Some(peer)) = (place(here), place(peer)) else { continue };
        match way {
            Way::Sent => world.tape.frame_leaves(world.now, (here, peer, lane.0), body),
            Way::Received => world.tape.frame_arrives(world.now, (peer, here, lane.0), &body),
        }
    }
}

impl Fidelity for Packets {
    type Door = Node;
    type Parcel = Parcel;

    fn open(&mut self, now: Now, birth: Birth<'_>) -> Node {
        let crypto = match self.crypto {
            schedule::Crypto::Null => Crypto::null_for_simulation(birth.seed),
            schedule::Crypto::Tls if self.tape.wants_datagrams() => {
                let tape = self.tape.clone();
                let told = Arc::new(move |label: &str, random: &[u8], secret: &[u8]| {
                    tape.secret(label, random, secret);
                });
                Crypto::seeded_and_told_for_simulation(birth.seed, told)
            }
            schedule::Crypto::Tls => Crypto::seeded_for_simulation(birth.seed),
        };
        let config = NodeConfig {
            crypto,
            admission: Admission::Anyone,
            leases: birth.leases,
            limits: birth.limits,
            transport: TransportConfig::for_simulation(),
            stored: Some(birth.stored),
            ..NodeConfig::new(birth.identity.clone(), birth.access, 1, birth.seed)
        };
        let mut node = Node::new(now, config);
        if self.tape.is_on() {
            self.watch(birth.identity.id(), &mut node);
        }
        node
    }

    fn mesh(door: &Node) -> &Mesh {
        door.mesh()
    }

    fn mesh_mut(door: &mut Node) -> &mut Mesh {
        door.mesh_mut()
    }

    fn next_wake(door: &Node) -> Option<MonoTime> {
        door.next_wake().map(|wake| wake.at)
    }

    fn handle_timeout(door: &mut Node, now: Now) {
        door.handle_timeout(now);
    }

    fn turn(live: &mut Live<Node>, now: Now, observe: &mut dyn FnMut(&Event)) {
        live.door.turn(now, &mut live.host, observe);
    }

    fn drain(world: &mut World<'_, Packets>, index: usize) -> bool {
        let now = world.time_at(index);
        let mut buf = std::mem::take(&mut world.fidelity.buf);
        while let Some(live) = &mut world.stations[index].live
            && let Some(transmit) = live.door.poll_transmit(now, BATCH, &mut buf)
        {
            let Some(to) = station_at(transmit.destination) else { continue };
            if world.stations.get(to).is_none_or(|s| s.address != transmit.destination) {
                // It is not there any more.
                continue;
            }
            let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
            for data in buf[..transmit.size].chunks(size) {
                launch(world, index, to, data);
            }
        }
        world.fidelity.buf = buf;
        if world.tape.is_on() {
            record_frames(world);
        }
        // What QUIC noticed while it wrote packets, the mesh has not told anybody yet.
        world.mesh(index).is_some_and(|mesh| mesh.load().events_queued > 0)
    }

    fn arrive(world: &mut World<'_, Packets>, index: usize, parcel: Parcel) {
        let (now, from) = (world.time_at(index), world.stations[parcel.from].address);
        world.trace.note(Step::Datagram, world.now, index, parcel.from as u64, 0);
        world.trace.bytes(&parcel.data);
        log!(world, Some(index), "{} bytes from n{}", parcel.data.len(), parcel.from);
        let datagram = Datagram { from, local_ip: None, ecn: None, data: parcel.data };
        let Some(live) = &mut world.stations[index].live else { return };
        live.door.handle_datagram(now, datagram);
        world.touch(index);
    }

    fn vanished(_world: &mut World<'_, Packets>, _index: usize) {}

    fn resumed(_world: &mut World<'_, Packets>, _index: usize) {}

    fn attack(_world: &mut World<'_, Packets>, _index: usize, _by: &mut Hostile) -> bool {
        // Its transport sends what its mesh says.
        false
    }

    fn replay(_world: &mut World<'_, Packets>, _from: usize, _to: usize) -> bool {
        false
    }

    fn describe_link(door: &Node, link: LinkHandle) -> String {
        format!("{:?}", door.transport().link_stats(link))
    }

    fn is_drained(world: &World<'_, Packets>, index: usize) -> bool {
        world.stations[index].live.as_ref().is_some_and(|live| live.door.is_drained())
    }
}

fn launch(world: &mut World<'_, Packets>, from: usize, to: usize, data: &[u8]) {
    if to >= world.stations.len() {
        return;
    }
    let fate = world.network.fate(world.now, from, to, data.len());
    if world.tape.is_on() {
        record(world, from, to, data, fate);
    }
    match fate {
        Fate::Lost(kind) => {
            world.trace.note(Step::Lost, world.now, from, to as u64, data.len() as u64);
            log!(world, Some(from), "lost to {}: {} bytes for n{to}", kind.name(), data.len());
        }
        Fate::Arrives { after, again, damaged } => {
            let mut data = BytesMut::from(data);
            if let Some(again) = again {
                let parcel = Parcel { from, data: data.clone() };
                world.queue.push(world.now + again, Happening::Parcel(to, parcel));
            }
            if damaged {
                let bit = mix(world.schedule.seed, world.now, from as u64, to as u64);
                let place = bit as usize / 8 % data.len();
                data[place] ^= 1 << (bit % 8);
            }
            let parcel = Parcel { from, data };
            world.queue.push(world.now + after, Happening::Parcel(to, parcel));
        }
    }
}

fn record(world: &World<'_, Packets>, from: usize, to: usize, data: &[u8], fate: Fate) {
    let (at, kind) = (world.now, recording::datagram(data));
    let (bytes, link, what) = (data.len(), None, String::new());
    world.tape.sent(Sent { at, from, to, bytes, link, kind, what }, fate);
    let address = |index: usize| match world.stations[index].address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("stations have addresses of version 4"),
    };
    if world.tape.wants_datagrams() {
        world.tape.datagram(Captured {
            at,
            node: from as u16,
            from: address(from),
            to: address(to),
            data: Bytes::copy_from_slice(data),
            fate: match fate {
                Fate::Lost(kind) => format!("lost to {}", kind.name()),
                Fate::Arrives { after, again, damaged } => {
                    let damaged = if damaged { "damaged, " } else { "" };
                    let again = if again.is_some() { ", and a second time" } else { "" };
                    format!("{damaged}arrives after {} us{again}", after / 1_000)
                }
            },
        });
    }
}
