//! Two and three meshes over ideal links, in virtual time: what a user of the door would notice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::auth::Access;
use crate::base::{Identity, InvocationKey};
use crate::link::{DialError, Direction, DownReason, FrameSource};
use crate::rpc::{CallError, Executed, Failure};
use crate::service::{Handle, HandlerError, Host, Payload, service};
use crate::topic::TopicPath;

mod access;
mod calls;
mod directory;
mod drain;
mod events;
mod glare;
mod hedges;
mod isolation;
mod leases;
mod leaving;
mod lives;
mod played;
mod publisher;
mod retries;
mod sick;
mod store;
mod streams;
mod vitals;
mod waiting;
mod watch;

const MS: Duration = Duration::from_millis(1);

/// A mesh with its services and everything it said.
struct Station {
    mesh: Mesh,
    host: Host,
    log: Vec<Event>,
}

/// Stations joined by links that deliver at once, until they are cut.
struct World {
    now: MonoTime,
    /// What the wall clock showed at the beginning.
    began: crate::base::WallTime,
    stations: Vec<Station>,
    /// (link, one end, other end), each by station.
    links: Vec<(LinkHandle, usize, usize)>,
    /// Pairs that cannot reach each other, lower index first.
    cut: Vec<(usize, usize)>,
    /// From one to another nothing is acknowledged of events.
    mute: Vec<(usize, usize)>,
    next_link: u64,
    seed: u8,
    /// The highest protocol version of each station.
    versions: Vec<u32>,
    leases: LeaseSettings,
    /// What one station sends another.
    overheard: Option<(usize, usize, Vec<Bytes>)>,
}

impl World {
    fn new(count: usize) -> World {
        World::speaking(vec![wire::VERSION_MAX; count])
    }

    /// Another world of the same kind: whatever is drawn in it is drawn differently.
    fn seeded(count: usize, seed: u8) -> World {
        let mut world = World::new(0);
        world.seed = seed;
        for index in 0..count {
            let station = world.station(index, 1);
            world.stations.push(station);
        }
        world
    }

    fn speaking(versions: Vec<u32>) -> World {
        let count = versions.len();
        let mut world = World {
            now: MonoTime::ZERO,
            began: Default::default(),
            stations: Vec::new(),
            links: Vec::new(),
            cut: Vec::new(),
            mute: Vec::new(),
            next_link: 0,
            seed: 0,
            versions,
            leases: LeaseSettings::default(),
            overheard: None,
        };
        for index in 0..count {
            let station = world.station(index, 1);
            world.stations.push(station);
        }
        world
    }

    fn station(&mut self, index: usize, counter: u64) -> Station {
        self.station_in(index, counter, Access::development(&id(index)))
    }

    fn station_in(&mut self, index: usize, counter: u64, access: Access) -> Station {
        self.seed += 1;
        let config = MeshConfig {
            identity: identity(index),
            incarnation_counter: counter,
            stored: None,
            seed: [self.seed; 32],
            admission: Admission::Anyone,
            access,
            leases: self.leases.clone(),
            limits: Limits {
                protocol_version_max: self
                    .versions
                    .get(index)
                    .copied()
                    .unwrap_or(wire::VERSION_MAX),
                ..Limits::default()
            },
        };
        Station {
            mesh: Mesh::new(self.time(), config),
            host: Host::new([self.seed; 32], || {}),
            log: Vec::new(),
        }
    }

    fn time(&self) -> Now {
        Now::new(self.now, self.began + self.now.since(MonoTime::ZERO))
    }

    fn connect(&mut self, from: usize, to: usize) {
        let now = self.time();
        let address = "10.0.0.1:1".parse().unwrap();
        self.stations[from].mesh.connect(now, id(to), vec![address]).unwrap();
        self.settle();
    }

    fn serve(&mut self, index: usize, service: crate::service::ServiceBuilder) {
        let now = self.time();
        let Station { mesh, host, .. } = &mut self.stations[index];
        host.add_service(now, mesh, Arc::new(service)).unwrap();
        self.settle();
    }

    fn handle(&self, index: usize) -> Handle {
        self.stations[index].host.handle()
    }

    /// Runs application code at a station; the result appears in the cell when it is there.
    fn run<T: Send + 'static>(
        &mut self,
        index: usize,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Arc<Mutex<Option<T>>> {
        let cell = Arc::new(Mutex::new(None));
        let (now, result) = (self.time(), Arc::clone(&cell));
        let Station { mesh, host, .. } = &mut self.stations[index];
        host.spawn(now, mesh, async move {
            let value = task.await;
            *result.lock().unwrap() = Some(value);
        });
        self.settle();
        cell
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Lets everybody talk until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let mut busy = false;
            let now = self.time();
            for index in 0..self.stations.len() {
                let Station { mesh, host, log } = &mut self.stations[index];
                host.turn(now, mesh, &mut |event| {
                    // Keeping payloads would share them.
                    if !matches!(event, Event::Invoke(_) | Event::CallEnded { .. }) {
                        log.push(event.clone());
                    }
                });
                mesh.check_invariants();
                while let Some(command) = self.stations[index].mesh.poll_link_command() {
                    busy = true;
                    self.command(index, command);
                }
            }
            if !busy {
                return;
            }
        }
    }

    fn command(&mut self, index: usize, command: LinkCommand) {
        let now = self.time();
        match command {
            LinkCommand::Dial { dial, peer, .. } => {
                let to = (0..self.stations.len()).find(|i| id(*i) == peer).unwrap();
                if self.is_cut(index, to) {
                    let failed = LinkInput::DialFailed { dial, error: DialError::TimedOut };
                    return self.stations[index].mesh.handle_link(now, failed);
                }
                self.next_link += 1;
                let link = LinkHandle(self.next_link);
                self.links.push((link, index, to));
                let direction = Direction::Dialled(dial);
                let up = LinkInput::Up { link, peer, direction, remote: None };
                self.stations[index].mesh.handle_link(now, up);
                let direction = Direction::Accepted;
                let up = LinkInput::Up { link, peer: id(index), direction, remote: None };
                self.stations[to].mesh.handle_link(now, up);
            }
            LinkCommand::CancelDial { .. }
            | LinkCommand::Trust { .. }
            | LinkCommand::ResetLane { .. } => {}
            LinkCommand::Close { link, code, flush } => {
                if flush {
                    self.carry(index, link);
                }
                let Some(at) = self.links.iter().position(|l| l.0 == link) else { return };
                let (_, a, b) = self.links.remove(at);
                let other = if a == index { b } else { a };
                let down = LinkInput::Down { link, reason: DownReason::ClosedByPeer(code) };
                self.stations[other].mesh.handle_link(now, down);
            }
            LinkCommand::FramesReady { link } => self.carry(index, link),
        }
    }

    fn carry(&mut self, index: usize, link: LinkHandle) {
        let Some(&(_, a, b)) = self.links.iter().find(|l| l.0 == link) else { return };
        let other = if a == index { b } else { a };
        let now = self.time();
        let mut from = Lane::CONTROL;
        while let Some(lane) = self.stations[index].mesh.next_lane(link, from) {
            while let Some(frame) = self.stations[index].mesh.pull_frame(link, lane) {
                let frame = frame.to_body();
                let is_ack = || {
                    let view = dunlin_proto::FrameView::decode(frame.clone());
                    use dunlin_proto::{FrameView, Header};
                    matches!(view, Ok(FrameView::Known(Header::EventAck(_), _)))
                };
                let muted = self.mute.contains(&(index, other)) && is_ack();
                if !self.is_cut(a, b) && !muted {
                    if let Some((from, to, frames)) = &mut self.overheard
                        && (*from, *to) == (index, other)
                    {
                        frames.push(frame.clone());
                    }
                    let input = LinkInput::Frame { link, lane, frame };
                    self.stations[other].mesh.handle_link(now, input);
                }
            }
            from = Lane(lane.0 + 1);
        }
    }

    /// Cuts two stations apart. Their links die as a transport's idle time-out would have it.
    fn part(&mut self, a: usize, b: usize) {
        self.cut.push((a.min(b), a.max(b)));
        let now = self.time();
        let dead: VecDeque<_> = self.links.iter().filter(|l| joins(l, a, b)).copied().collect();
        self.links.retain(|l| !joins(l, a, b));
        for (link, x, y) in dead {
            for end in [x, y] {
                let down = LinkInput::Down { link, reason: DownReason::TimedOut };
                self.stations[end].mesh.handle_link(now, down);
            }
        }
        self.settle();
    }

    fn heal(&mut self) {
        self.cut.clear();
    }

    /// The station dies without a word and begins a new life, without services.
    fn restart(&mut self, index: usize, counter: u64) {
        let now = self.time();
        let dead: Vec<_> =
            self.links.iter().filter(|l| l.1 == index || l.2 == index).copied().collect();
        self.links.retain(|l| l.1 != index && l.2 != index);
        self.stations[index] = self.station(index, counter);
        for (link, a, b) in dead {
            let other = if a == index { b } else { a };
            let down = LinkInput::Down { link, reason: DownReason::Reset };
            self.stations[other].mesh.handle_link(now, down);
        }
        self.settle();
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            self.settle();
            let next = self
                .stations
                .iter()
                .flat_map(|s| [s.mesh.next_wake().map(|w| w.at), s.host.next_wake(self.now)])
                .flatten()
                .min()
                .filter(|at| *at <= until);
            let Some(at) = next else { break };
            self.now = self.now.max(at);
            let now = self.time();
            for station in &mut self.stations {
                station.mesh.handle_timeout(now);
            }
        }
        self.now = until;
        self.settle();
    }

    fn saw(&self, index: usize, what: impl Fn(&Event) -> bool) -> usize {
        self.stations[index].log.iter().filter(|event| what(event)).count()
    }
}

fn joins(link: &(LinkHandle, usize, usize), a: usize, b: usize) -> bool {
    (link.1, link.2) == (a, b) || (link.1, link.2) == (b, a)
}

fn identity(index: usize) -> Identity {
    Identity::from_secret([index as u8 + 1; 32])
}

fn id(index: usize) -> PeerId {
    identity(index).id()
}

fn math() -> crate::service::ServiceBuilder {
    service("math")
        .action("add", |_, (a, b): (i64, i64)| async move { Ok(a + b) })
        .action("fail", |_, (): ()| async {
            Err::<(), _>(HandlerError::application("NOPE", "this never works"))
        })
        .action("panic", |_, (): ()| async {
            if true {
                panic!("ouch");
            }
            Ok(())
        })
}

/// A service that counts its runs and answers after a while.
fn slow(runs: Arc<Mutex<u32>>) -> crate::service::ServiceBuilder {
    service("slow").action("wait", move |cx, millis: u64| {
        let runs = Arc::clone(&runs);
        async move {
            *runs.lock().unwrap() += 1;
            cx.sleep(Duration::from_millis(millis)).await;
            Ok(*runs.lock().unwrap())
        }
    })
}

async fn add(handle: Handle) -> Result<i64, CallError> {
    handle.call("math/add", (2i64, 3i64)).await
}
