//! Links and frames of a hostile node, beside those of its mesh.

use std::net::SocketAddr;

use bytes::Bytes;
use dunlin_core::PeerId;
use dunlin_core::auth::NetworkId;
use dunlin_core::link::{CloseCode, Direction, Lane, LinkInput};
use dunlin_proto::{FrameView, Header};

use crate::faults::FaultKind;
use crate::frames::link::{End, Link, State, ends_of, handle};
use crate::frames::{Frameworld, Parcel, SECOND, lanes, lifetime, tell};
use crate::hostile::{Deed, Hostile, On, Seen, deeds};
use crate::log::log;
use crate::network::Fate;
use crate::random::bytes32;
use crate::schedule::Attack;
use crate::trace::Step;
use crate::world::Happening;

/// A link that is held open by hand says something at least this often.
const KEEP_ALIVE: u64 = SECOND;
/// Frames under way on one link, beyond which the hostile node waits.
const IN_FLIGHT_MAX: u32 = 256;

/// A hostile node acts against one of the others. Says whether it could.
pub(super) fn act(world: &mut Frameworld<'_>, index: usize, hostile: &mut Hostile) -> bool {
    let runs = |n: &usize| {
        let other = &world.stations[*n];
        *n != index && other.live.is_some() && other.paused.is_none() && other.hostile.is_none()
    };
    let others: Vec<usize> = (0..world.stations.len()).filter(runs).collect();
    if others.is_empty() {
        return false;
    }
    let victim = hostile.draws.pick(&others);
    let Some((here, there)) = world.mesh(index).zip(world.mesh(victim)) else { return false };
    let network = here.access().descriptors().next().map(|chain| chain.id());
    let seed = world.schedule.seed;
    // What makes a key is the transport's business.
    let stranger = |number| PeerId::from_bytes(bytes32(seed, 1 << 41, number));
    let seen = Seen {
        acts: hostile.acts,
        own: &world.stations[index].identity,
        victim: &world.stations[victim].identity,
        life: there.incarnation(),
        network: network.unwrap_or(NetworkId::DEVELOPMENT),
        stranger: &stranger,
    };
    hostile.acts += 1;
    let mut acted = false;
    for deed in deeds(hostile.attack, &mut hostile.draws, &seen) {
        let (Deed::Say(on, _) | Deed::Close(on, _)) = &deed;
        let Some((link, end)) = link_on(world, (index, victim), *on, hostile, stranger) else {
            continue;
        };
        acted = true;
        match deed {
            Deed::Say(_, frames) => {
                for (lane, frame) in frames {
                    say(world, (link, end), lane, frame);
                }
            }
            Deed::Close(_, code) => close(world, (link, end), code),
        }
    }
    acted
}

/// The link on which something is said, with the hostile node's end of it.
fn link_on(
    world: &mut Frameworld<'_>,
    (index, victim): (usize, usize),
    on: On,
    hostile: &mut Hostile,
    stranger: impl Fn(u64) -> PeerId,
) -> Option<(u32, usize)> {
    let id = world.stations[victim].id;
    let peer = match on {
        On::Session => {
            let (link, _) = world.mesh(index)?.links_up(id).first().copied()?;
            return Some(ends_of(link));
        }
        On::Alone => world.stations[index].id,
        On::Stranger(number) => stranger(number),
    };
    let port = hostile.draws.range(1_024, 65_535) as u16;
    open(world, (index, victim), peer, port)
}

/// Opens a link that the hostile node's mesh knows nothing of, in the name of `peer`.
fn open(
    world: &mut Frameworld<'_>,
    (from, to): (usize, usize),
    peer: PeerId,
    port: u16,
) -> Option<(u32, usize)> {
    let now = world.now;
    let Fate::Arrives { .. } = world.network.fate(now, from, to, lifetime::SMALL) else {
        return None;
    };
    let link = world.fidelity.links.len() as u32;
    let ends = [End::new(from, State::Raw, now), End::new(to, State::Up, now)];
    world.fidelity.links.push(Link { ends });
    world.fidelity.note(from, link);
    world.fidelity.note(to, link);
    let remote = Some(SocketAddr::new(world.stations[from].address.ip(), port));
    world.trace.note(Step::LinkUp, now, to, u64::from(link), from as u64);
    log!(world, Some(to), "link {link} with hostile n{from} is up");
    tell(
        world,
        to,
        LinkInput::Up { link: handle(link, 1), peer, direction: Direction::Accepted, remote },
    );
    world.queue.push(now + lifetime::KEEP_ALIVE, Happening::Parcel(to, Parcel::Tick { link }));
    world.touch(to);
    Some((link, 0))
}

fn say(world: &mut Frameworld<'_>, (link, end): (u32, usize), lane: Lane, frame: Bytes) {
    let here = world.fidelity.end(link, end);
    if !matches!(here.state, State::Up | State::Raw) || here.in_flight > IN_FLIGHT_MAX {
        return;
    }
    here.in_flight += 1;
    let order = here.next_order(lane);
    lanes::send_frame(world, (link, end), (lane, order), frame, 0);
}

fn close(world: &mut Frameworld<'_>, (link, end): (u32, usize), code: CloseCode) {
    let here = world.fidelity.end(link, end);
    if matches!(here.state, State::Raw) {
        here.state = State::Gone;
    }
    // What its mesh thinks of the link, it learns from the other end.
    lifetime::send(world, link, end, |link| Parcel::Close { link, code });
}

/// Something came on a link that is held open by hand, where something came last at `before`.
pub(super) fn heard(world: &mut Frameworld<'_>, link: u32, end: usize, before: u64) {
    if world.now >= before + KEEP_ALIVE {
        lifetime::send(world, link, end, |link| Parcel::KeepAlive { link });
    }
}

/// Whether a hostile node leaves this out that its mesh would say.
pub(super) fn leaves_out(world: &mut Frameworld<'_>, station: usize, frame: &Bytes) -> bool {
    let attack = world.stations[station].hostile.as_ref().map(|hostile| hostile.attack);
    if attack != Some(Attack::Unacknowledged) {
        return false;
    }
    let view = FrameView::decode(frame.clone());
    let is_left_out = matches!(view, Ok(FrameView::Known(Header::EventAck(_), _)));
    if is_left_out {
        world.network.tally.bite(FaultKind::Hostile);
    }
    is_left_out
}
