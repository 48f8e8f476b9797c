//! Frames fidelity: the mesh over ideal links. Whole frames travel; QUIC is a model of a few hundred lines.
//!
//! The model keeps what the mesh can notice of QUIC: a dial takes a round trip, the dialling side comes up
//! first; a lost frame is sent again and comes late, in its lane's order, while other lanes overtake
//! it; a link of which nothing is heard for 15 s dies, at each end by itself; a node that does not know
//! a link answers with a reset; a close may be lost; a link takes no more frames than its window.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use dunlin_core::link::{
    CloseCode, DialError, DialHandle, Direction, DownReason, FLUSH_MAX, FrameSource, Lane,
    LinkCommand, LinkHandle, LinkInput,
};
use dunlin_core::peer::Admission;
use dunlin_core::{Event, Mesh, MeshConfig, MonoTime, Now};

use crate::log::log;
use crate::network::Fate;
use crate::recording::{self, Kind, Sent};
use crate::schedule::{Fault, Schedule, Trouble};
use crate::station::{Live, station_at};
use crate::trace::Step;
use crate::world::{Birth, Fidelity, Happening, World};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// A link says something at least this often.
const KEEP_ALIVE: u64 = 5 * SECOND;
/// After this silence a link is dead.
const IDLE: u64 = 15 * SECOND;
/// When a dial says its first word again, and when it gives up: QUIC's at 333 ms initial round trip.
const DIAL_AT: [u64; 3] = [SECOND, 3 * SECOND, 7 * SECOND];
const DIAL_MAX: u64 = 8 * SECOND;
/// A frame that was lost is sent again after this time, then after twice that, and so on.
const RESEND: u64 = 50 * MS;
const RESEND_MAX: u64 = 2 * SECOND;
/// For so long a closed end answers with its code.
const CLOSED: u64 = 3 * SECOND;
/// Bytes of a packet that carries no frame.
const SMALL: usize = 60;

/// Frames share buffers of this size, which live as long as any of them.
const BUFFER_BYTES: usize = 4_096;

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

/// Where one end of a link is.
#[derive(Debug)]
enum State {
    /// Nobody has heard of it here.
    Unknown,
    /// It was dialled where this node no longer is, and hears nothing of it.
    Nowhere,
    /// We dial.
    Dialling(DialHandle),
    /// We have answered a dial.
    Answered,
    Up,
    /// Closed by us; what was pulled still goes out.
    Flushing(CloseCode),
    /// Closed by us.
    Closed {
        code: CloseCode,
        until: u64,
    },
    /// Forgotten.
    Gone,
}

/// The receiving half of a lane that is shared.
#[derive(Debug, Default)]
struct Receiving {
    next: u64,
    /// What came too early. Mostly nothing did, and that is one word then.
    #[allow(clippy::box_collection)]
    early: Option<Box<BTreeMap<u64, Bytes>>>,
}

#[derive(Debug)]
struct End {
    station: usize,
    state: State,
    heard: u64,
    receiving: [Receiving; 1 + Lane::SHARED as usize],
    sent: [u64; 1 + Lane::SHARED as usize],
    in_flight: u32,
    /// The mesh has frames that were not pulled.
    ready: bool,
}

impl End {
    fn new(station: usize, state: State, now: u64) -> Self {
        End {
            station,
            state,
            heard: now,
            receiving: Default::default(),
            sent: Default::default(),
            in_flight: 0,
            ready: false,
        }
    }
}

struct Link {
    /// Who dialled is first.
    ends: [End; 2],
}

/// All links there ever were.
#[derive(Default)]
pub(crate) struct Frames {
    links: Vec<Link>,
    /// The links of each station that may still matter.
    of_station: Vec<Vec<u32>>,
    /// Where frames are written.
    buffer: BytesMut,
    /// What each station said to another on the control lanes of the last links that it dialled, from its Hello on, if
    /// it may come again.
    said: BTreeMap<(usize, usize), VecDeque<Vec<Bytes>>>,
    keeps_said: bool,
}

/// Frames of one handshake that are kept to be replayed.
const SAID_MAX: usize = 6;
/// Handshakes of one station with another that are kept: what is older may be of an earlier life.
const SAID_LINKS_MAX: usize = 3;

fn handle(link: u32, end: usize) -> LinkHandle {
    LinkHandle(u64::from(link) * 2 + end as u64 + 1)
}

fn ends_of(handle: LinkHandle) -> (u32, usize) {
    (((handle.0 - 1) / 2) as u32, ((handle.0 - 1) % 2) as usize)
}

impl Frames {
    /// Without links. What a schedule never replays is not kept.
    pub(crate) fn new(schedule: &Schedule) -> Self {
        let replays = |fault: &Fault| matches!(fault.what, Trouble::Replay { .. });
        let dialled: usize = schedule.nodes.iter().map(|node| node.keeps.len()).sum();
        Frames {
            // Room for some that are dialled again: in a large world a vector that doubles takes as much as a node.
            links: Vec::with_capacity(dialled * 9 / 8),
            keeps_said: schedule.faults.iter().any(replays),
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
            id: birth.identity.id(),
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
            pump(world, link, end);
        }
    }

    fn replay(world: &mut Frameworld<'_>, from: usize, to: usize) -> bool {
        let link = world.fidelity.links.len() as u32;
        let handshakes = world.fidelity.said.get(&(from, to)).filter(|all| !all.is_empty());
        let Some(handshakes) = handshakes else { return false };
        let said = handshakes[link as usize % handshakes.len()].clone();
        // Whoever replays it is not there to answer; the node itself knows of no such link.
        let dialler = End::new(from, State::Gone, world.now);
        let other = End::new(to, State::Answered, world.now);
        world.fidelity.links.push(Link { ends: [dialler, other] });
        world.fidelity.note(from, link);
        world.fidelity.note(to, link);
        log!(world, Some(to), "an old handshake of n{from} comes again, as link {link}");
        up(world, link, 1, Direction::Accepted);
        // It is known already.
        world.fidelity.keeps_said = false;
        for (order, frame) in (0..).zip(said) {
            receive(world, (link, 1), (Lane::CONTROL, order), frame);
        }
        world.fidelity.keeps_said = true;
        world.touch(to);
        true
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
            let to = addresses.first().copied().and_then(station_at);
            let is_there = |to: &usize| world.stations[*to].address == addresses[0];
            let gone = to.filter(|to| *to < world.stations.len() && !is_there(to));
            let Some(to) = to.filter(|to| world.peers.get(*to) == Some(&peer)) else {
                let error = DialError::Unusable("no such address".into());
                return tell(world, index, LinkInput::DialFailed { dial, error });
            };
            let link = world.fidelity.links.len() as u32;
            let dialler = End::new(index, State::Dialling(dial), world.now);
            // Nobody answers where it was.
            let state = if gone.is_some() { State::Nowhere } else { State::Unknown };
            let other = End::new(to, state, world.now);
            world.fidelity.links.push(Link { ends: [dialler, other] });
            world.fidelity.note(index, link);
            world.fidelity.note(to, link);
            send(world, link, 0, SMALL, |link| Parcel::Dial { link });
            let at = world.now + DIAL_AT[0];
            let again = Parcel::DialAgain { link, attempt: 1 };
            world.queue.push(at, Happening::Parcel(index, again));
        }
        LinkCommand::CancelDial { dial } => {
            let links = &world.fidelity.of_station[index];
            let is_it = |link: &&u32| {
                let end = &world.fidelity.links[**link as usize].ends[0];
                end.station == index && matches!(end.state, State::Dialling(d) if d == dial)
            };
            if let Some(&link) = links.iter().find(is_it) {
                world.fidelity.end(link, 0).state = State::Gone;
            }
        }
        LinkCommand::Close { link, code, flush } => {
            let (link, end) = ends_of(link);
            let here = world.fidelity.end(link, end);
            if !matches!(here.state, State::Up) {
                return;
            }
            if flush && here.in_flight > 0 {
                here.state = State::Flushing(code);
                let at = world.now + FLUSH_MAX.as_nanos() as u64;
                world.queue.push(at, Happening::Parcel(index, Parcel::FlushEnds { link }));
            } else {
                close(world, link, end, code);
            }
        }
        LinkCommand::FramesReady { link } => {
            let (link, end) = ends_of(link);
            world.fidelity.end(link, end).ready = true;
            pump(world, link, end);
        }
        // A frame that was pulled is delivered; taking it back is the receiver's business.
        LinkCommand::ResetLane { .. } => {}
    }
}

/// Tells the mesh of a station what happened, and lets it act behind whatever happens now.
fn tell(world: &mut Frameworld<'_>, index: usize, input: LinkInput) {
    let now = world.time_at(index);
    if let Some(live) = &mut world.stations[index].live {
        live.door.handle_link(now, input);
    }
}

/// Sends something small to the other end. Lost is lost.
fn send(
    world: &mut Frameworld<'_>,
    link: u32,
    end: usize,
    bytes: usize,
    parcel: impl Fn(u32) -> Parcel,
) {
    let ends = &world.fidelity.links[link as usize].ends;
    let (from, to) = (ends[end].station, ends[1 - end].station);
    let fate = world.network.fate(world.now, from, to, bytes);
    if world.tape.is_on() {
        let (at, kind) = (world.now, parcel(link).kind());
        let (what, link) = (String::new(), Some(link));
        world.tape.sent(Sent { at, from, to, bytes, link, kind, what }, fate);
    }
    if let Fate::Arrives { after, .. } = fate {
        world.queue.push(world.now + after, Happening::Parcel(to, parcel(link)));
    }
}

fn send_frame(
    world: &mut Frameworld<'_>,
    (link, end): (u32, usize),
    (lane, order): (Lane, u64),
    frame: Bytes,
    tries: u32,
) {
    let ends = &world.fidelity.links[link as usize].ends;
    let (from, to) = (ends[end].station, ends[1 - end].station);
    let fate = world.network.fate(world.now, from, to, frame.len());
    if world.tape.is_on() {
        let (kind, mut what) = recording::frame(&frame);
        if tries > 0 {
            what = format!("{what} (sent again)").trim().to_string();
        }
        let (at, bytes, link) = (world.now, frame.len(), Some(link));
        world.tape.sent(Sent { at, from, to, bytes, link, kind, what }, fate);
    }
    match fate {
        Fate::Arrives { after, .. } => {
            let parcel = Parcel::Frame { link, lane, order, frame };
            world.queue.push(world.now + after, Happening::Parcel(to, parcel));
        }
        Fate::Lost(kind) => {
            world.trace.note(Step::Lost, world.now, from, u64::from(link), order);
            log!(world, Some(from), "lost to {}: frame {order} of {lane:?}", kind.name());
            let wait = (RESEND << tries.min(16)).min(RESEND_MAX);
            let parcel = Parcel::Again { link, lane, order, frame, tries: tries + 1 };
            world.queue.push(world.now + wait, Happening::Parcel(from, parcel));
        }
    }
}

/// Pulls frames as far as the window goes, one a lane in turn.
fn pump(world: &mut Frameworld<'_>, link: u32, end: usize) {
    let window = world.network.window_frames();
    let mut from = Lane::CONTROL;
    loop {
        let here = world.fidelity.end(link, end);
        let station = here.station;
        if !here.ready || !matches!(here.state, State::Up) || here.in_flight >= window {
            return;
        }
        let Some(live) = &mut world.stations[station].live else { return };
        let source = &mut live.door;
        let name = handle(link, end);
        let Some(lane) = source.next_lane(name, from) else {
            if from == Lane::CONTROL {
                here.ready = false;
                return;
            }
            from = Lane::CONTROL;
            continue;
        };
        from = Lane(lane.0 + 1);
        let Some(frame) = source.pull_frame(name, lane) else { continue };
        let frame = frame.to_body_in(&mut world.fidelity.buffer, BUFFER_BYTES);
        let here = world.fidelity.end(link, end);
        here.in_flight += 1;
        let order = match here.sent.get_mut(lane.0 as usize) {
            Some(sent) => {
                *sent += 1;
                *sent - 1
            }
            None => 0,
        };
        send_frame(world, (link, end), (lane, order), frame, 0);
    }
}

/// Closes an end that was up, telling the other.
fn close(world: &mut Frameworld<'_>, link: u32, end: usize, code: CloseCode) {
    let until = world.now + CLOSED;
    world.fidelity.end(link, end).state = State::Closed { code, until };
    send(world, link, end, SMALL, |link| Parcel::Close { link, code });
}

/// An end is up.
fn up(world: &mut Frameworld<'_>, link: u32, end: usize, direction: Direction) {
    let now = world.now;
    let ends = &mut world.fidelity.links[link as usize].ends;
    ends[end].state = State::Up;
    ends[end].heard = now;
    let (station, other) = (ends[end].station, ends[1 - end].station);
    let (peer, remote) = (world.stations[other].id, Some(world.stations[other].address));
    world.trace.note(Step::LinkUp, now, station, u64::from(link), other as u64);
    log!(world, Some(station), "link {link} with n{other} is up ({direction:?})");
    tell(world, station, LinkInput::Up { link: handle(link, end), peer, direction, remote });
    world.queue.push(now + KEEP_ALIVE, Happening::Parcel(station, Parcel::Tick { link }));
}

/// An end that was up is no more.
fn down(world: &mut Frameworld<'_>, link: u32, end: usize, reason: DownReason) {
    let here = world.fidelity.end(link, end);
    here.state = State::Gone;
    let station = here.station;
    world.trace.note(Step::LinkDown, world.now, station, u64::from(link), 0);
    log!(world, Some(station), "link {link} is down: {reason}");
    tell(world, station, LinkInput::Down { link: handle(link, end), reason });
}

fn arrive(world: &mut Frameworld<'_>, index: usize, parcel: Parcel) {
    match parcel {
        Parcel::DialAgain { link, attempt } => dial_again(world, index, link, attempt),
        Parcel::Again { link, lane, order, frame, tries } => {
            let end = world.fidelity.end_at(link, index);
            if matches!(world.fidelity.end(link, end).state, State::Up | State::Flushing(_)) {
                send_frame(world, (link, end), (lane, order), frame, tries);
            }
            return;
        }
        Parcel::Tick { link } => {
            let (end, now) = (world.fidelity.end_at(link, index), world.now);
            let here = world.fidelity.end(link, end);
            if !matches!(here.state, State::Up) {
                return;
            }
            let dead_at = here.heard + IDLE;
            if dead_at > now {
                send(world, link, end, SMALL, |link| Parcel::KeepAlive { link });
                let at = dead_at.min(now + KEEP_ALIVE);
                world.queue.push(at, Happening::Parcel(index, Parcel::Tick { link }));
                return;
            }
            down(world, link, end, DownReason::TimedOut);
        }
        Parcel::FlushEnds { link } => {
            let end = world.fidelity.end_at(link, index);
            if let State::Flushing(code) = world.fidelity.end(link, end).state {
                close(world, link, end, code);
            }
        }
        Parcel::Dial { link } => {
            let end = world.fidelity.end_at(link, index);
            let here = world.fidelity.end(link, end);
            if matches!(here.state, State::Unknown | State::Answered | State::Up) {
                if matches!(here.state, State::Unknown) {
                    here.state = State::Answered;
                }
                send(world, link, end, SMALL, |link| Parcel::DialAnswer { link });
            }
            return;
        }
        Parcel::DialAnswer { link } => {
            let end = world.fidelity.end_at(link, index);
            match world.fidelity.end(link, end).state {
                State::Dialling(dial) => {
                    send(world, link, end, SMALL, |link| Parcel::DialDone { link });
                    up(world, link, end, Direction::Dialled(dial));
                }
                _ => return heard(world, link, end, |_, _, _| {}),
            }
        }
        Parcel::DialDone { link } | Parcel::KeepAlive { link } => {
            let end = world.fidelity.end_at(link, index);
            heard(world, link, end, |_, _, _| {});
        }
        Parcel::Frame { link, lane, order, frame } => {
            let end = world.fidelity.end_at(link, index);
            heard(world, link, end, |world, link, end| {
                receive(world, (link, end), (lane, order), frame);
            });
            acknowledge(world, link, 1 - end);
        }
        Parcel::Close { link, code } => {
            let end = world.fidelity.end_at(link, index);
            let here = world.fidelity.end(link, end);
            match here.state {
                State::Up => down(world, link, end, DownReason::ClosedByPeer(code)),
                _ => here.state = State::Gone,
            }
        }
        Parcel::Reset { link } => {
            let end = world.fidelity.end_at(link, index);
            let here = world.fidelity.end(link, end);
            match here.state {
                State::Up => down(world, link, end, DownReason::Reset),
                State::Dialling(_) => {}
                _ => here.state = State::Gone,
            }
        }
    }
    world.touch(index);
}

fn dial_again(world: &mut Frameworld<'_>, index: usize, link: u32, attempt: usize) {
    let end = world.fidelity.end(link, 0);
    let State::Dialling(dial) = end.state else { return };
    let begun = end.heard;
    if attempt > DIAL_AT.len() {
        end.state = State::Gone;
        world.trace.note(Step::DialFailed, world.now, index, u64::from(link), 0);
        let error = DialError::TimedOut;
        return tell(world, index, LinkInput::DialFailed { dial, error });
    }
    send(world, link, 0, SMALL, |link| Parcel::Dial { link });
    let next = DIAL_AT.get(attempt).copied().unwrap_or(DIAL_MAX);
    let again = Parcel::DialAgain { link, attempt: attempt + 1 };
    // After a pause that moment may have passed.
    let at = (begun + next).max(world.now);
    world.queue.push(at, Happening::Parcel(index, again));
}

/// Something came for an end: it is alive, or it says that it is not.
fn heard(
    world: &mut Frameworld<'_>,
    link: u32,
    end: usize,
    then: impl FnOnce(&mut Frameworld<'_>, u32, usize),
) {
    let now = world.now;
    let here = world.fidelity.end(link, end);
    here.heard = now;
    match here.state {
        State::Up => then(world, link, end),
        State::Answered => {
            up(world, link, end, Direction::Accepted);
            then(world, link, end);
        }
        State::Closed { code, until } if now < until => {
            send(world, link, end, SMALL, |link| Parcel::Close { link, code });
        }
        State::Closed { .. } | State::Gone | State::Unknown => {
            send(world, link, end, SMALL, |link| Parcel::Reset { link });
        }
        State::Dialling(_) | State::Flushing(_) | State::Nowhere => {}
    }
}

/// A frame has come: in its lane's order it goes to the mesh.
fn receive(
    world: &mut Frameworld<'_>,
    (link, end): (u32, usize),
    (lane, order): (Lane, u64),
    frame: Bytes,
) {
    let name = handle(link, end);
    let station = world.fidelity.end(link, end).station;
    if lane == Lane::CONTROL && world.fidelity.keeps_said {
        // A dialler's words are kept, as an eavesdropper with the keys would.
        let from = world.fidelity.end(link, 1 - end).station;
        let said = world.fidelity.said.entry((from, station)).or_default();
        if order == 0 && end == 1 {
            said.truncate(SAID_LINKS_MAX - 1);
            said.push_front(Vec::new());
        }
        if let Some(last) = said.front_mut()
            && last.len() == order as usize
            && end == 1
            && order < SAID_MAX as u64
        {
            last.push(frame.clone());
        }
    }
    if lane.is_own() {
        return deliver(world, station, LinkInput::Frame { link: name, lane, frame });
    }
    let receiving = &mut world.fidelity.end(link, end).receiving[lane.0 as usize];
    if order != receiving.next {
        receiving.early.get_or_insert_default().insert(order, frame);
        return;
    }
    receiving.next += 1;
    deliver(world, station, LinkInput::Frame { link: name, lane, frame });
    loop {
        let receiving = &mut world.fidelity.end(link, end).receiving[lane.0 as usize];
        let Some(early) = &mut receiving.early else { return };
        let Some(frame) = early.remove(&receiving.next) else { return };
        if early.is_empty() {
            receiving.early = None;
        }
        receiving.next += 1;
        deliver(world, station, LinkInput::Frame { link: name, lane, frame });
    }
}

fn deliver(world: &mut Frameworld<'_>, station: usize, input: LinkInput) {
    if let LinkInput::Frame { link, lane, frame } = &input {
        world.trace.note(Step::Frame, world.now, station, link.0, lane.0);
        world.trace.bytes(frame);
    }
    tell(world, station, input);
}

/// A frame of this end has come to the other: there is room for another.
fn acknowledge(world: &mut Frameworld<'_>, link: u32, end: usize) {
    let here = world.fidelity.end(link, end);
    here.in_flight = here.in_flight.saturating_sub(1);
    let (station, empty) = (here.station, here.in_flight == 0);
    let running = &world.stations[station];
    if running.live.is_none() || running.paused.is_some() {
        return;
    }
    match here.state {
        State::Up if here.ready => pump(world, link, end),
        State::Flushing(code) if empty => {
            close(world, link, end, code);
            world.touch(station);
        }
        _ => {}
    }
}
