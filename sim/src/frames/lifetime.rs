//! How links begin and end: dials, what is heard, silence, closes and resets.

use dunlin_core::PeerId;
use dunlin_core::link::{
    CloseCode, DialError, DialHandle, Direction, DownReason, FLUSH_MAX, LinkInput,
};

use crate::frames::link::{End, Link, State, handle};
use crate::frames::{Frameworld, Parcel, SECOND, hostile, tell};
use crate::log::log;
use crate::network::Fate;
use crate::recording::Sent;
use crate::station::station_at;
use crate::trace::Step;
use crate::world::Happening;

/// A link says something at least this often.
pub(super) const KEEP_ALIVE: u64 = 5 * SECOND;
/// After this silence a link is dead.
const IDLE: u64 = 15 * SECOND;
/// When a dial says its first word again, and when it gives up: QUIC's at 333 ms initial round trip.
const DIAL_AT: [u64; 3] = [SECOND, 3 * SECOND, 7 * SECOND];
const DIAL_MAX: u64 = 8 * SECOND;
/// For so long a closed end answers with its code.
const CLOSED: u64 = 3 * SECOND;
/// Bytes of a packet that carries no frame.
pub(super) const SMALL: usize = 60;

/// A mesh dials: the first word goes out.
pub(super) fn dial(
    world: &mut Frameworld<'_>,
    index: usize,
    dial: DialHandle,
    peer: PeerId,
    addresses: &[std::net::SocketAddr],
) {
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
    send(world, link, 0, |link| Parcel::Dial { link });
    let at = world.now + DIAL_AT[0];
    let again = Parcel::DialAgain { link, attempt: 1 };
    world.queue.push(at, Happening::Parcel(index, again));
}

/// Says the first word of a dial again, or gives up.
pub(super) fn dial_again(world: &mut Frameworld<'_>, index: usize, link: u32, attempt: usize) {
    let end = world.fidelity.end(link, 0);
    let State::Dialling(dial) = end.state else { return };
    let begun = end.heard;
    if attempt > DIAL_AT.len() {
        end.state = State::Gone;
        world.trace.note(Step::DialFailed, world.now, index, u64::from(link), 0);
        let error = DialError::TimedOut;
        return tell(world, index, LinkInput::DialFailed { dial, error });
    }
    send(world, link, 0, |link| Parcel::Dial { link });
    let next = DIAL_AT.get(attempt).copied().unwrap_or(DIAL_MAX);
    let again = Parcel::DialAgain { link, attempt: attempt + 1 };
    // After a pause that moment may have passed.
    let at = (begun + next).max(world.now);
    world.queue.push(at, Happening::Parcel(index, again));
}

/// A mesh does not want what it dials any more.
pub(super) fn cancel_dial(world: &mut Frameworld<'_>, index: usize, dial: DialHandle) {
    let links = &world.fidelity.of_station[index];
    let is_it = |link: &&u32| {
        let end = &world.fidelity.links[**link as usize].ends[0];
        end.station == index && matches!(end.state, State::Dialling(d) if d == dial)
    };
    if let Some(&link) = links.iter().find(is_it) {
        world.fidelity.end(link, 0).state = State::Gone;
    }
}

/// A mesh closes its end, once what was pulled has arrived or without waiting for it.
pub(super) fn close_gently(
    world: &mut Frameworld<'_>,
    (link, end): (u32, usize),
    code: CloseCode,
    flush: bool,
) {
    let here = world.fidelity.end(link, end);
    let station = here.station;
    if !matches!(here.state, State::Up) {
        return;
    }
    if flush && here.in_flight > 0 {
        here.state = State::Flushing(code);
        let at = world.now + FLUSH_MAX.as_nanos() as u64;
        world.queue.push(at, Happening::Parcel(station, Parcel::FlushEnds { link }));
    } else {
        close(world, link, end, code);
    }
}

/// Closes an end that was up, telling the other.
pub(super) fn close(world: &mut Frameworld<'_>, link: u32, end: usize, code: CloseCode) {
    let until = world.now + CLOSED;
    world.fidelity.end(link, end).state = State::Closed { code, until };
    send(world, link, end, |link| Parcel::Close { link, code });
}

/// An end is up.
pub(super) fn up(world: &mut Frameworld<'_>, link: u32, end: usize, direction: Direction) {
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
pub(super) fn down(world: &mut Frameworld<'_>, link: u32, end: usize, reason: DownReason) {
    let here = world.fidelity.end(link, end);
    here.state = State::Gone;
    let station = here.station;
    world.trace.note(Step::LinkDown, world.now, station, u64::from(link), 0);
    log!(world, Some(station), "link {link} is down: {reason}");
    tell(world, station, LinkInput::Down { link: handle(link, end), reason });
}

/// Keeps an end alive, or notices that it is dead. Says whether the mesh was told something.
pub(super) fn tick(world: &mut Frameworld<'_>, link: u32, end: usize) -> bool {
    let now = world.now;
    let here = world.fidelity.end(link, end);
    if !matches!(here.state, State::Up) {
        return false;
    }
    let (station, dead_at) = (here.station, here.heard + IDLE);
    if dead_at <= now {
        down(world, link, end, DownReason::TimedOut);
        return true;
    }
    send(world, link, end, |link| Parcel::KeepAlive { link });
    let at = dead_at.min(now + KEEP_ALIVE);
    world.queue.push(at, Happening::Parcel(station, Parcel::Tick { link }));
    false
}

/// Something came for an end: it is alive, or it says that it is not.
pub(super) fn heard(
    world: &mut Frameworld<'_>,
    link: u32,
    end: usize,
    then: impl FnOnce(&mut Frameworld<'_>, u32, usize),
) {
    let now = world.now;
    let here = world.fidelity.end(link, end);
    let before = std::mem::replace(&mut here.heard, now);
    match here.state {
        State::Raw => hostile::heard(world, link, end, before),
        State::Up => then(world, link, end),
        State::Answered => {
            up(world, link, end, Direction::Accepted);
            then(world, link, end);
        }
        State::Closed { code, until } if now < until => {
            send(world, link, end, |link| Parcel::Close { link, code });
        }
        State::Closed { .. } | State::Gone | State::Unknown => {
            send(world, link, end, |link| Parcel::Reset { link });
        }
        State::Dialling(_) | State::Flushing(_) | State::Nowhere => {}
    }
}

/// Sends something small to the other end. Lost is lost.
pub(super) fn send(
    world: &mut Frameworld<'_>,
    link: u32,
    end: usize,
    parcel: impl Fn(u32) -> Parcel,
) {
    let bytes = SMALL;
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
