//! Frames fidelity: the mesh over ideal links. Whole frames travel; QUIC is a model of a few hundred lines.
//!
//! The model keeps what the mesh can notice of QUIC: a dial takes a round trip, the dialling side comes up
//! first; a lost frame is sent again and comes late, in its lane's order, while other lanes overtake
//! it; a link of which nothing is heard for 15 s dies, at each end by itself; a node that does not know
//! a link answers with a reset; a close may be lost; a link takes no more frames than its window.
//!
//! ```text
//! mod       what travels, what a mesh asks, what arrives
//! link      a link, and where its two ends are
//! lifetime  how links begin and end
//! lanes     frames on their way, in order
//! replay    handshakes that come again
//! hostile   what a hostile node sends beside its mesh
//! ```

mod hostile;
mod lanes;
mod lifetime;
mod link;
mod replay;

use bytes::{Bytes, BytesMut};
use dunlin_core::link::{
    CloseCode, Direction, DownReason, Lane, LinkCommand, LinkHandle, LinkInput,
};
use dunlin_core::peer::Admission;
use dunlin_core::{Event, Mesh, MeshConfig, MonoTime, Now};

use crate::frames::link::{End, Link, State, ends_of};
use crate::frames::replay::Handshakes;
use crate::hostile::Hostile;
use crate::recording::{self, Kind};
use crate::schedule::{Fault, Schedule, Trouble};
use crate::station::Live;
use crate::world::{Birth, Fidelity, World};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// What is under way between two ends of a link, or from an end to itself.
#[derive(Debug)]
pub(crate) enum Parcel {
    Dial {
        link: u32,
    },
    DialAnswer {
        link: u32,
    },
    DialDone {
        link: u32,
    },
    Frame {
        link: u32,
        lane: Lane,
        order: u64,
        frame: Bytes,
    },
    KeepAlive {
        link: u32,
    },
    Close {
        link: u32,
        code: CloseCode,
    },
    Reset {
        link: u32,
    },
    /// To itself: say the first word of a dial again, or give up.
    DialAgain {
        link: u32,
        attempt: usize,
    },
    /// To itself: send a frame again.
    Again {
        link: u32,
        lane: Lane,
        order: u64,
        frame: Bytes,
        tries: u32,
    },
    /// To itself: keep the link alive, or notice that it is dead.
    Tick {
        link: u32,
    },
    /// To itself: a graceful close has taken long enough.
    FlushEnds {
        link: u32,
    },
}

impl Parcel {
    /// What it is called in a recording. What an end has for itself is none of it.
    fn kind(&self) -> Kind {
        match self {
            Parcel::Dial { .. } => Kind::Dial,
            Parcel::DialAnswer { .. } => Kind::DialAnswer,
            Parcel::DialDone { .. } => Kind::DialDone,
            Parcel::Close { .. } => Kind::Close,
            Parcel::Reset { .. } => Kind::Reset,
            Parcel::KeepAlive { .. } => Kind::KeepAlive,
            Parcel::Frame { frame, .. } => recording::frame(frame).0,
            Parcel::DialAgain { .. }
            | Parcel::Again { .. }
            | Parcel::Tick { .. }
            | Parcel::FlushEnds { .. } => unreachable!("it does not travel"),
        }
    }
}

/// All links there ever were.
#[derive(Default)]
pub(crate) struct Frames {
    links: Vec<Link>,
    /// The links of each station that may still matter.
    of_station: Vec<Vec<u32>>,
    /// Where frames are written.
    buffer: BytesMut,
    /// What may be said once more.
    handshakes: Handshakes,
}

impl Frames {
    /// Without links. What a schedule never replays is not kept.
    pub(crate) fn new(schedule: &Schedule) -> Self {
        let replays = |fault: &Fault| matches!(fault.what, Trouble::Replay { .. });
        let dialled: usize = schedule.nodes.iter().map(|node| node.keeps.len()).sum();
        Frames {
            // Room for some that are dialled again: in a large world a vector that doubles takes as much as a node.
            links: Vec::with_capacity(dialled * 9 / 8),
            handshakes: Handshakes::new(schedule.faults.iter().any(replays)),
            ..Frames::default()
        }
    }

    fn end(&mut self, link: u32, end: usize) -> &mut End {
        &mut self.links[link as usize].ends[end]
    }

    fn end_at(&self, link: u32, station: usize) -> usize {
        usize::from(self.links[link as usize].ends[0].station != station)
    }

    fn note(&mut self, station: usize, link: u32) {
        if self.of_station.len() <= station {
            self.of_station.resize_with(station + 1, Vec::new);
        }
        self.of_station[station].push(link);
    }
}

type Frameworld<'s> = World<'s, Frames>;

impl Fidelity for Frames {
    type Door = Mesh;
    type Parcel = Parcel;

    fn open(&mut self, now: Now, birth: Birth<'_>) -> Mesh {
        let config = MeshConfig {
            identity: birth.identity.clone(),
            incarnation_counter: 1,
            stored: Some(birth.stored),
            seed: birth.seed,
            admission: Admission::Anyone,
            access: birth.access,
            leases: birth.leases,
            limits: birth.limits,
        };
        Mesh::new(now, config)
    }

    fn mesh(door: &Mesh) -> &Mesh {
        door
    }

    fn mesh_mut(door: &mut Mesh) -> &mut Mesh {
        door
    }

    fn next_wake(door: &Mesh) -> Option<MonoTime> {
        door.next_wake().map(|wake| wake.at)
    }

    fn handle_timeout(door: &mut Mesh, now: Now) {
        door.handle_timeout(now);
    }

    fn turn(live: &mut Live<Mesh>, now: Now, observe: &mut dyn FnMut(&Event)) {
        live.host.turn(now, &mut live.door, observe);
    }

    fn drain(world: &mut Frameworld<'_>, index: usize) -> bool {
        while let Some(live) = &mut world.stations[index].live
            && let Some(command) = live.door.poll_link_command()
        {
            command_of(world, index, command);
        }
        false
    }

    fn arrive(world: &mut Frameworld<'_>, index: usize, parcel: Parcel) {
        arrive(world, index, parcel);
    }

    fn vanished(world: &mut Frameworld<'_>, index: usize) {
        let Some(links) = world.fidelity.of_station.get_mut(index) else { return };
        for link in std::mem::take(links) {
            let end = world.fidelity.end_at(link, index);
            let here = world.fidelity.end(link, end);
            if !matches!(here.state, State::Nowhere) {
                here.state = State::Gone;
            }
        }
    }

    fn resumed(world: &mut Frameworld<'_>, index: usize) {
        let links = world.fidelity.of_station.get(index).cloned().unwrap_or_default();
        for link in links {
            let end = world.fidelity.end_at(link, index);
            lanes::pump(world, link, end);
        }
    }

    fn replay(world: &mut Frameworld<'_>, from: usize, to: usize) -> bool {
        replay::replay(world, from, to)
    }

    fn attack(world: &mut Frameworld<'_>, index: usize, by: &mut Hostile) -> bool {
        hostile::act(world, index, by)
    }

    fn describe_link(_door: &Mesh, _link: LinkHandle) -> String {
        String::new()
    }

    fn is_drained(world: &Frameworld<'_>, index: usize) -> bool {
        let links = world.fidelity.of_station.get(index).map_or(&[][..], |links| links);
        links.iter().all(|link| {
            let end = world.fidelity.end_at(*link, index);
            !matches!(world.fidelity.links[*link as usize].ends[end].state, State::Flushing(_))
        })
    }
}

/// Does what the mesh of a station asks.
fn command_of(world: &mut Frameworld<'_>, index: usize, command: LinkCommand) {
    match command {
        LinkCommand::Dial { dial, peer, addresses } => {
            lifetime::dial(world, index, dial, peer, &addresses);
        }
        LinkCommand::CancelDial { dial } => lifetime::cancel_dial(world, index, dial),
        LinkCommand::Close { link, code, flush } => {
            lifetime::close_gently(world, ends_of(link), code, flush);
        }
        LinkCommand::FramesReady { link } => {
            let (link, end) = ends_of(link);
            world.fidelity.end(link, end).ready = true;
            lanes::pump(world, link, end);
        }
        // A frame that was pulled is delivered; taking it back is the receiver's business.
        LinkCommand::Trust { .. } | LinkCommand::ResetLane { .. } => {}
    }
}

/// Tells the mesh of a station what happened, and lets it act behind whatever happens now.
fn tell(world: &mut Frameworld<'_>, index: usize, input: LinkInput) {
    let now = world.time_at(index);
    if let Some(live) = &mut world.stations[index].live {
        live.door.handle_link(now, input);
    }
}

/// A parcel arrives, or a moment that an end waited for has come.
fn arrive(world: &mut Frameworld<'_>, index: usize, parcel: Parcel) {
    match parcel {
        Parcel::DialAgain { link, attempt } => lifetime::dial_again(world, index, link, attempt),
        Parcel::Again { link, lane, order, frame, tries } => {
            let end = world.fidelity.end_at(link, index);
            if matches!(
                world.fidelity.end(link, end).state,
                State::Up | State::Raw | State::Flushing(_)
            ) {
                lanes::send_frame(world, (link, end), (lane, order), frame, tries);
            }
            return;
        }
        Parcel::Tick { link } => {
            let end = world.fidelity.end_at(link, index);
            if !lifetime::tick(world, link, end) {
                return;
            }
        }
        Parcel::FlushEnds { link } => {
            let end = world.fidelity.end_at(link, index);
            if let State::Flushing(code) = world.fidelity.end(link, end).state {
                lifetime::close(world, link, end, code);
            }
        }
        Parcel::Dial { link } => {
            let end = world.fidelity.end_at(link, index);
            let here = world.fidelity.end(link, end);
            if matches!(here.state, State::Unknown | State::Answered | State::Up) {
                if matches!(here.state, State::Unknown) {
                    here.state = State::Answered;
                }
                lifetime::send(world, link, end, |link| Parcel::DialAnswer { link });
            }
            return;
        }
        Parcel::DialAnswer { link } => {
            let end = world.fidelity.end_at(link, index);
            match world.fidelity.end(link, end).state {
                State::Dialling(dial) => {
                    lifetime::send(world, link, end, |link| Parcel::DialDone { link });
                    lifetime::up(world, link, end, Direction::Dialled(dial));
                }
                _ => return lifetime::heard(world, link, end, |_, _, _| {}),
            }
        }
        Parcel::DialDone { link } | Parcel::KeepAlive { link } => {
            let end = world.fidelity.end_at(link, index);
            lifetime::heard(world, link, end, |_, _, _| {});
        }
        Parcel::Frame { link, lane, order, frame } => {
            let end = world.fidelity.end_at(link, index);
            lifetime::heard(world, link, end, |world, link, end| {
                lanes::receive(world, (link, end), (lane, order), frame);
            });
            lanes::acknowledge(world, link, 1 - end);
        }
        Parcel::Close { link, code } => {
            let end = world.fidelity.end_at(link, index);
            let here = world.fidelity.end(link, end);
            match here.state {
                State::Up => lifetime::down(world, link, end, DownReason::ClosedByPeer(code)),
                _ => here.state = State::Gone,
            }
        }
        Parcel::Reset { link } => {
            let end = world.fidelity.end_at(link, index);
            let here = world.fidelity.end(link, end);
            match here.state {
                State::Up => lifetime::down(world, link, end, DownReason::Reset),
                State::Dialling(_) => {}
                _ => here.state = State::Gone,
            }
        }
    }
    world.touch(index);
}
