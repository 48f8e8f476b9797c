//! Frames on their way: pulled as far as the window goes, sent again when they are lost, and given to the mesh in
//! their lane's order.

use bytes::Bytes;
use dunlin_core::link::{FrameSource, Lane, LinkInput};

use crate::frames::link::{State, handle};
use crate::frames::{Frameworld, MS, Parcel, SECOND, hostile, lifetime, tell};
use crate::log::log;
use crate::network::Fate;
use crate::recording::{self, Sent};
use crate::trace::Step;
use crate::world::Happening;

/// A frame that was lost is sent again after this time, then after twice that, and so on.
const RESEND: u64 = 50 * MS;
const RESEND_MAX: u64 = 2 * SECOND;

/// Frames share buffers of this size, which live as long as any of them.
const BUFFER_BYTES: usize = 4_096;

/// Pulls frames as far as the window goes, one a lane in turn.
pub(super) fn pump(world: &mut Frameworld<'_>, link: u32, end: usize) {
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
        if lane == Lane::CONTROL {
            look_at_networks(world, link, end, &frame);
        }
        if hostile::leaves_out(world, station, &frame) {
            continue;
        }
        let here = world.fidelity.end(link, end);
        here.in_flight += 1;
        let order = here.next_order(lane);
        send_frame(world, (link, end), (lane, order), frame, 0);
    }
}

/// No frame shows a network to a node that is not in it.
fn look_at_networks(world: &mut Frameworld<'_>, link: u32, end: usize, frame: &Bytes) {
    let Some(rights) = &world.rights else { return };
    let ends = &world.fidelity.links[link as usize].ends;
    let (from, other) = (ends[end].station, &ends[1 - end]);
    // The end of a life that is over is gone.
    let to = matches!(other.state, State::Up).then_some(other.station);
    if let Err((rule, what)) = rights.judge_shown((from, end == 0), to, frame) {
        world.ledger.violate(Some(from as u16), rule, what);
    }
}

/// Sends a frame to the other end. Lost, it goes again.
pub(super) fn send_frame(
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

/// A frame of this end has come to the other: there is room for another.
pub(super) fn acknowledge(world: &mut Frameworld<'_>, link: u32, end: usize) {
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
            lifetime::close(world, link, end, code);
            world.touch(station);
        }
        _ => {}
    }
}

/// A frame has come: in its lane's order it goes to the mesh.
pub(super) fn receive(
    world: &mut Frameworld<'_>,
    (link, end): (u32, usize),
    (lane, order): (Lane, u64),
    frame: Bytes,
) {
    let name = handle(link, end);
    let station = world.fidelity.end(link, end).station;
    if lane == Lane::CONTROL && end == 1 {
        let from = world.fidelity.end(link, 0).station;
        world.fidelity.handshakes.note((from, station), order, &frame);
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
