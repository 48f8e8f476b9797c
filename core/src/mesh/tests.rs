//! Two and three meshes over ideal links, in virtual time: what a user of the door would notice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::auth::Access;
use crate::base::{Identity, InvocationKey};
use crate::link::{DialError, Direction, DownReason};
use crate::rpc::{CallError, Executed, Failure};
use crate::service::{Handle, HandlerError, Host, Payload, service};
use crate::topic::TopicPath;

mod access;
mod events;
mod glare;
mod isolation;

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
    next_link: u64,
    seed: u8,
    /// The highest protocol version of each station.
    versions: Vec<u32>,
    /// What one station sends another.
    overheard: Option<(usize, usize, Vec<Bytes>)>,
}

impl World {
    fn new(count: usize) -> World {
        World::speaking(vec![wire::VERSION_MAX; count])
    }

    fn speaking(versions: Vec<u32>) -> World {
        let count = versions.len();
        let mut world = World {
            now: MonoTime::ZERO,
            began: Default::default(),
            stations: Vec::new(),
            links: Vec::new(),
            cut: Vec::new(),
            next_link: 0,
            seed: 0,
            versions,
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
            id: id(index),
            incarnation_counter: counter,
            seed: [self.seed; 32],
            admission: Admission::Anyone,
            access,
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
            LinkCommand::CancelDial { .. } | LinkCommand::ResetLane { .. } => {}
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
                if !self.is_cut(a, b) {
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

fn id(index: usize) -> PeerId {
    Identity::from_secret([index as u8 + 1; 32]).id()
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

#[test]
fn a_call_crosses_a_link_and_comes_back() {
    let mut world = World::new(2);
    world.serve(1, math());
    world.connect(0, 1);
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
}

#[test]
fn a_local_service_is_preferred_and_gets_the_value_itself() {
    #[derive(Debug)]
    struct Unwritable(i64);
    impl serde::Serialize for Unwritable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("must not be written"))
        }
    }
    impl<'de> serde::Deserialize<'de> for Unwritable {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("must not be read"))
        }
    }
    let mut world = World::new(2);
    let twice =
        || service("math").action("twice", |_, Unwritable(n)| async move { Ok(Unwritable(2 * n)) });
    world.serve(1, twice());
    world.connect(0, 1);
    let handle = world.handle(0);
    let call = |handle: Handle| async move {
        handle.call::<_, Unwritable>("math/twice", Unwritable(21)).await
    };
    let remote = world.run(0, call(handle.clone()));
    let error = remote.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.failure(), Some(Failure::Unencodable));
    assert_eq!(error.executed(), Executed::No);
    world.serve(0, twice());
    let local = world.run(0, call(handle));
    assert_eq!(local.lock().unwrap().take().unwrap().unwrap().0, 42);
}

#[test]
fn failures_say_what_went_wrong_and_whether_the_handler_ran() {
    let mut world = World::new(2);
    world.serve(1, math());
    let handle = world.handle(0);
    let outcome = |world: &mut World, path: &'static str, argument: serde_json::Value| {
        let handle = handle.clone();
        let cell = world.run(0, async move {
            handle.call::<_, serde_json::Value>(path, argument).await.unwrap_err()
        });
        let error = cell.lock().unwrap().take().expect("the call has ended");
        (error.code().to_string(), error.executed())
    };
    let null = serde_json::Value::Null;
    let got = outcome(&mut world, "math/add", null.clone());
    assert_eq!(got, ("NO_RESPONDERS".into(), Executed::No));
    world.connect(0, 1);
    let got = outcome(&mut world, "math/add", null.clone());
    assert_eq!(got, ("BAD_REQUEST".into(), Executed::No));
    let got = outcome(&mut world, "math/fail", null.clone());
    assert_eq!(got, ("NOPE".into(), Executed::Yes));
    let got = outcome(&mut world, "math/panic", null.clone());
    assert_eq!(got, ("HANDLER_FAILED".into(), Executed::Maybe));
    let got = outcome(&mut world, "math/sub", null.clone());
    assert_eq!(got, ("NO_RESPONDERS".into(), Executed::No));
    let got = outcome(&mut world, "no such path!", null);
    assert_eq!(got, ("INVALID_PATH".into(), Executed::No));
}

#[test]
fn a_deadline_ends_the_call_and_stops_the_handler() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    let handle = world.handle(0);
    let cell = world.run(0, async move {
        let request = handle.request("slow/wait").value(60_000u64).timeout(50 * MS);
        request.send_as::<u32>().await
    });
    world.pass(49 * MS);
    assert!(cell.lock().unwrap().is_none());
    world.pass(2 * MS);
    let error = cell.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.failure(), Some(Failure::DeadlineExceeded));
    assert_eq!(error.executed(), Executed::Maybe);
    assert_eq!(world.stations[1].host.tasks(), 0, "the handler was stopped");
    assert_eq!(world.stations[0].mesh.load().calls_open, 0);
}

#[test]
fn a_dropped_call_is_cancelled_there() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    let handle = world.handle(0);
    world.run(0, async move {
        let call = handle.request("slow/wait").value(60_000u64).send();
        let mut call = Box::pin(call);
        std::future::poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        handle.sleep(5 * MS).await;
        drop(call);
    });
    assert_eq!(world.stations[1].host.tasks(), 1);
    world.pass(10 * MS);
    assert_eq!(world.stations[1].host.tasks(), 0);
    assert_eq!(world.stations[0].mesh.load().calls_open, 0);
}

#[test]
fn a_call_outlives_a_partition_and_runs_once() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    let handle = world.handle(0);
    let cell = world.run(0, async move {
        let request = handle.request("slow/wait").value(1_000u64).timeout(60_000 * MS);
        request.send_as::<u32>().await
    });
    world.pass(100 * MS);
    world.part(0, 1);
    world.pass(5_000 * MS);
    assert!(cell.lock().unwrap().is_none());
    world.heal();
    world.pass(20_000 * MS);
    assert_eq!(cell.lock().unwrap().take().unwrap().unwrap(), 1);
    assert_eq!(*runs.lock().unwrap(), 1);
}

#[test]
fn a_call_to_a_peer_that_restarts_may_have_run_unless_it_may_run_again() {
    let mut world = World::new(2);
    let runs: Arc<Mutex<u32>> = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    let call = |handle: Handle, idempotent| async move {
        let request = handle.request("slow/wait").value(1_000u64).timeout(60_000 * MS).to(id(1));
        let request = if idempotent { request.idempotent() } else { request };
        request.send_as::<u32>().await
    };
    let once = world.run(0, call(world.handle(0), false));
    let again = world.run(0, call(world.handle(0), true));
    world.pass(100 * MS);
    world.restart(1, 2);
    world.serve(1, slow(Arc::clone(&runs)));
    world.pass(10_000 * MS);
    let error = once.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.failure(), Some(Failure::PeerRestarted));
    assert_eq!(error.executed(), Executed::Maybe);
    assert_eq!(again.lock().unwrap().take().unwrap().unwrap(), 3);
}

#[test]
fn a_call_to_a_peer_that_is_on_its_way_waits_for_it() {
    let mut world = World::new(2);
    world.serve(1, math());
    world.part(0, 1);
    world.connect(0, 1);
    let handle = world.handle(0);
    let cell = world.run(0, async move {
        let request = handle.request("math/add").value((1i64, 1i64)).to(id(1));
        request.timeout(60_000 * MS).send_as::<i64>().await
    });
    world.pass(3_000 * MS);
    assert!(cell.lock().unwrap().is_none());
    world.heal();
    world.pass(10_000 * MS);
    assert_eq!(cell.lock().unwrap().take().unwrap().unwrap(), 2);
}

#[test]
fn calls_go_round_among_those_who_serve() {
    let mut world = World::new(3);
    for index in [1, 2] {
        world.serve(index, service("who").action("am", move |_, (): ()| async move { Ok(index) }));
        world.connect(0, index);
    }
    let handle = world.handle(0);
    let cell = world.run(0, async move {
        let mut served = Vec::new();
        for _ in 0..4 {
            served.push(handle.call::<_, usize>("who/am", ()).await.unwrap());
        }
        served
    });
    assert_eq!(cell.lock().unwrap().take().unwrap(), [1, 2, 1, 2]);
}

#[test]
fn an_earlier_life_is_refused_and_says_so() {
    let mut world = World::new(2);
    world.connect(0, 1);
    world.restart(1, 5);
    world.pass(3_000 * MS);
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerUp { .. })), 2);
    world.restart(1, 3);
    world.pass(3_000 * MS);
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerUp { .. })), 2);
    assert!(world.saw(1, |e| matches!(e, Event::PeerRefused { .. })) > 0);
}

#[test]
fn only_listed_peers_are_let_in() {
    let mut world = World::new(2);
    world.stations[1].mesh.local.admission = Admission::Listed(Default::default());
    world.connect(0, 1);
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerUp { .. })), 0);
    let not_allowed = crate::peer::RefuseCode::NotAllowed;
    assert_eq!(
        world.saw(0, |e| matches!(e, Event::PeerRefused { why, .. } if *why == not_allowed)),
        1
    );
}

#[test]
fn a_service_that_cannot_begin_is_cleaned_up() {
    let cleaned: Arc<Mutex<bool>> = Arc::default();
    let flag = Arc::clone(&cleaned);
    let mut world = World::new(1);
    let broken = math().on_init(|_| async { Err("no database".into()) }).on_clean_up(move |_| {
        *flag.lock().unwrap() = true;
        async { Ok(()) }
    });
    world.serve(0, broken);
    assert!(*cleaned.lock().unwrap());
    assert!(world.stations[0].mesh.services().is_empty());
    let failed = crate::directory::ServiceState::Failed;
    assert_eq!(
        world.saw(0, |e| matches!(e, Event::ServiceState { state, .. } if *state == failed)),
        1
    );
}

#[test]
fn a_paused_service_is_not_called_until_it_goes_on() {
    let mut world = World::new(2);
    world.serve(1, math());
    world.connect(0, 1);
    let now = world.time();
    let key = world.stations[1].mesh.services().iter().next().unwrap().0;
    world.stations[1].mesh.pause_service(now, key).unwrap();
    assert!(world.stations[1].mesh.pause_service(now, key).is_err(), "it is paused already");
    world.settle();
    let refused = world.run(0, add(world.handle(0)));
    let error = refused.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    world.stations[1].mesh.resume_service(now, key).unwrap();
    world.settle();
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
}

#[test]
fn a_stopping_node_answers_what_it_has_begun() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(runs));
    world.connect(0, 1);
    let handle = world.handle(0);
    let cell = world.run(0, async move { handle.call::<_, u32>("slow/wait", 1_000u64).await });
    world.pass(10 * MS);
    let now = world.time();
    world.stations[1].mesh.shutdown(now);
    world.pass(2_000 * MS);
    assert_eq!(cell.lock().unwrap().take().unwrap().unwrap(), 1);
    assert_eq!(world.saw(1, |e| matches!(e, Event::Stopped)), 1);
    let reason = |e: &Event| {
        matches!(e, Event::PeerDown { reason: DownReason::ClosedByPeer(code), .. }
            if *code == crate::link::CloseCode::SHUTDOWN)
    };
    assert_eq!(world.saw(0, reason), 1);
    assert_eq!(world.stations[1].mesh.load().timers, 0, "nothing is left behind");
}

#[test]
fn a_peer_that_speaks_garbage_is_cut_off_and_nothing_else_happens() {
    let mut world = World::new(2);
    world.serve(1, math());
    world.connect(0, 1);
    let now = world.time();
    let (link, ..) = world.links[0];
    let garbage = Bytes::from_static(&[16, 200, 1, 2, 3]);
    let input = LinkInput::Frame { link, lane: Lane(1), frame: garbage };
    world.stations[1].mesh.handle_link(now, input);
    world.settle();
    assert_eq!(world.saw(1, |e| matches!(e, Event::PeerMisbehaved { .. })), 1);
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerDown { .. })), 1);
    world.pass(3_000 * MS);
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5, "it came back, sober");
}

#[test]
fn strangers_that_left_are_forgotten() {
    let mut world = World::new(2);
    world.connect(0, 1);
    world.part(0, 1);
    assert_eq!(world.stations[1].mesh.load().peers, 1);
    world.pass(120_000 * MS);
    assert_eq!(world.stations[1].mesh.load().peers, 0);
    assert_eq!(world.stations[0].mesh.load().peers, 1, "it is kept where it was asked for");
}

#[test]
fn a_key_of_a_run_that_has_ended_answers_nothing() {
    let mut world = World::new(1);
    let now = world.time();
    let stale = InvocationKey::from_u64(77);
    world.stations[0].mesh.respond(now, stale, Ok(Payload::raw("late")));
    world.settle();
    assert_eq!(world.stations[0].mesh.load().calls_open, 0);
}

#[test]
fn what_outlasts_the_grace_of_a_stop_is_cut_off_and_nothing_is_said_after_the_end() {
    let mut world = World::new(1);
    world.serve(0, slow(Arc::default()));
    let stubborn = service("stubborn").on_stop(|cx| async move {
        cx.sleep(60_000 * MS).await;
        Ok(())
    });
    world.serve(0, stubborn);
    let handle = world.handle(0);
    let call = async move { handle.call::<_, u32>("slow/wait", 60_000u64).await };
    let cell = world.run(0, call);
    let now = world.time();
    world.stations[0].mesh.shutdown(now);
    world.pass(SHUTDOWN_GRACE + MS);
    assert!(cell.lock().unwrap().take().unwrap().is_err());
    assert_eq!(world.stations[0].mesh.load().invocations, 0);
    assert_eq!(world.stations[0].host.tasks(), 1, "only the hook, which nobody may interrupt");
    world.pass(120_000 * MS);
    assert!(matches!(world.stations[0].log.last(), Some(Event::Stopped)));
}

#[test]
fn a_peer_that_is_let_go_and_taken_back_answers_the_new_call_and_not_the_old() {
    let mut world = World::new(2);
    world.serve(1, math());
    world.connect(0, 1);
    let sum = world.run(0, add(world.handle(0)));
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 5);
    let now = world.time();
    world.stations[0].mesh.disconnect(now, id(1));
    world.settle();
    world.connect(0, 1);
    let handle = world.handle(0);
    let sum = world.run(0, async move { handle.call::<_, i64>("math/add", (20i64, 30i64)).await });
    assert_eq!(sum.lock().unwrap().take().unwrap().unwrap(), 50);
}

#[test]
fn a_caller_that_is_let_go_and_comes_back_is_not_served_twice() {
    let mut world = World::new(2);
    let runs = Arc::default();
    world.serve(1, slow(Arc::clone(&runs)));
    world.connect(0, 1);
    let handle = world.handle(0);
    let call = async move { handle.call::<_, u32>("slow/wait", 3_000u64).await };
    let cell = world.run(0, call);
    world.pass(1_000 * MS);
    let now = world.time();
    world.stations[1].mesh.disconnect(now, id(0));
    world.pass(8_000 * MS);
    assert_eq!(cell.lock().unwrap().take().unwrap().unwrap(), 1);
    assert_eq!(*runs.lock().unwrap(), 1);
}

#[test]
fn whoever_left_no_trace_is_forgotten() {
    let mut world = World::new(1);
    let now = world.time();
    let mesh = &mut world.stations[0].mesh;
    // A stranger that never greets, and a peer that was asked for and then was not.
    let (link, direction) = (LinkHandle(1), Direction::Accepted);
    let up = LinkInput::Up { link, peer: PeerId::from_bytes([7; 32]), direction, remote: None };
    mesh.handle_link(now, up);
    mesh.handle_link(now, LinkInput::Down { link, reason: DownReason::TimedOut });
    mesh.connect(now, PeerId::from_bytes([8; 32]), Vec::new()).unwrap();
    mesh.disconnect(now, PeerId::from_bytes([8; 32]));
    assert_eq!(mesh.load().peers, 2);
    world.pass(60_000 * MS);
    assert_eq!(world.stations[0].mesh.load().peers, 0);
    assert_eq!(world.stations[0].mesh.load().timers, 0);
}

/// A peer that is played by hand, and its link.
const PLAYED: PeerId = PeerId::from_bytes([7; 32]);

fn say(world: &mut World, link: u64, lane: Lane, message: Message) {
    let now = world.time();
    let frame = message.into_frame().unwrap().to_body();
    let input = LinkInput::Frame { link: LinkHandle(link), lane, frame };
    world.stations[0].mesh.handle_link(now, input);
    world.settle();
}

/// Brings up a link of the played peer, with this credit.
fn greet(world: &mut World, link: u64, call_credit: u32) {
    let now = world.time();
    let direction = Direction::Accepted;
    let up = LinkInput::Up { link: LinkHandle(link), peer: PLAYED, direction, remote: None };
    world.stations[0].mesh.handle_link(now, up);
    let hello = wire::Hello {
        networks: Access::development(&id(0)).claims(Now::default()),
        version_min: 1,
        version_max: 1,
        incarnation: Incarnation { counter: 1, boot: 1 },
        call_credit,
        message_bytes_max: 1_000,
        critical_capabilities: Vec::new(),
        link: None,
        abandons: Vec::new(),
        observed_address: None,
    };
    say(world, link, Lane::CONTROL, Message::Hello(hello));
    let directory = Document::default();
    say(
        world,
        link,
        Lane::CONTROL,
        Message::Confirm { version: 1, directory, link: None, receiver_boot: 0 },
    );
}

fn played_call(world: &World, sequence: u64) -> Message {
    Message::Call(wire::CallMessage {
        sequence,
        floor: 1,
        attempt: 1,
        callee_boot: world.stations[0].mesh.incarnation().boot,
        time_left: Duration::from_secs(60),
        path: TopicPath::parse("slow/wait").unwrap(),
        content: crate::service::ContentType::JSON,
        payload: Bytes::from_static(b"50000"),
    })
}

#[test]
fn the_last_of_all_numbers_runs_nothing() {
    let mut world = World::new(1);
    let runs = Arc::default();
    world.serve(0, slow(Arc::clone(&runs)));
    greet(&mut world, 1, 10);
    // There would be no next number to remember it by, and it would run each time it came.
    let call = played_call(&world, u64::MAX);
    say(&mut world, 1, Lane(1), call);
    assert_eq!(*runs.lock().unwrap(), 0);
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerMisbehaved { .. })), 1);
}

#[test]
fn a_second_link_takes_back_no_credit() {
    let mut world = World::new(1);
    greet(&mut world, 1, 3);
    let handle = world.handle(0);
    for _ in 0..3 {
        let handle = handle.clone();
        world.run(0, async move { handle.request("any/thing").to(PLAYED).send().await });
    }
    // The invariants say that what is unanswered is within the credit.
    greet(&mut world, 2, 1);
    assert_eq!(world.stations[0].mesh.load().calls_open, 3);
}

#[test]
fn a_peer_that_reads_nothing_holds_no_more_than_its_credit() {
    let mut world = World::new(1);
    world.stations[0].mesh.limits.calls_served_per_peer_max = 4;
    world.serve(0, math());
    greet(&mut world, 1, 10);
    let mesh = &mut world.stations[0].mesh;
    while mesh.next_lane(LinkHandle(1), Lane::CONTROL).is_some() {
        mesh.pull_frame(LinkHandle(1), Lane::CONTROL);
    }
    // `World` knows no such link, so nothing is pulled. One call comes again and again; its answer
    // waits once.
    for _ in 0..100 {
        let call = played_call(&world, 1);
        say(&mut world, 1, Lane(1), call);
    }
    assert_eq!(world.stations[0].mesh.load().frames_queued, 1);
    // Ever new calls are against the rules.
    for sequence in 2..100 {
        let call = played_call(&world, sequence);
        say(&mut world, 1, Lane(1), call);
    }
    assert_eq!(world.saw(0, |e| matches!(e, Event::PeerMisbehaved { .. })), 1);
    assert_eq!(world.stations[0].mesh.load().frames_queued, 0);
}

#[test]
fn a_link_that_does_not_drain_holds_nothing_twice() {
    let mut world = World::new(1);
    greet(&mut world, 1, 10);
    let mesh = &mut world.stations[0].mesh;
    while mesh.next_lane(LinkHandle(1), Lane::CONTROL).is_some() {
        mesh.pull_frame(LinkHandle(1), Lane::CONTROL);
    }
    world.serve(0, math());
    let now = world.time();
    let service = world.stations[0].mesh.services().iter().next().unwrap().0;
    for _ in 0..50 {
        world.stations[0].mesh.pause_service(now, service).unwrap();
        world.stations[0].mesh.resume_service(now, service).unwrap();
        world.settle();
    }
    assert_eq!(world.stations[0].mesh.load().frames_queued, 1, "one directory, the latest");
    // Calls that give up before they were pulled leave nothing behind.
    let handle = world.handle(0);
    for _ in 0..50 {
        let handle = handle.clone();
        world.run(0, async move {
            handle.request("any/thing").to(PLAYED).timeout(50 * MS).send().await
        });
        world.pass(60 * MS);
    }
    assert_eq!(world.stations[0].mesh.load().frames_queued, 1);
    // A second link that comes and goes makes us send again what waits on the first.
    world.run(0, async move { handle.request("any/thing").to(PLAYED).send().await });
    for link in 2..50 {
        greet(&mut world, link, 10);
        let (now, link) = (world.time(), LinkHandle(link));
        let down = LinkInput::Down { link, reason: DownReason::TimedOut };
        world.stations[0].mesh.handle_link(now, down);
        world.settle();
    }
    assert_eq!(world.stations[0].mesh.load().frames_queued, 2);
}

#[test]
fn an_answer_goes_where_the_question_came_and_not_to_a_link_that_is_dead_at_the_other_end() {
    // With version 2 one of the two would stay.
    let mut world = World::speaking(vec![1, 1]);
    world.serve(1, slow(Arc::default()));
    world.connect(0, 1);
    let newer = LinkHandle(99);
    world.links.push((newer, 0, 1));
    let now = world.time();
    for (here, there) in [(0, 1), (1, 0)] {
        let direction = Direction::Accepted;
        let up = LinkInput::Up { link: newer, peer: id(there), direction, remote: None };
        world.stations[here].mesh.handle_link(now, up);
    }
    world.settle();
    assert_eq!(world.stations[1].mesh.links_up(id(0)).len(), 2);
    let handle = world.handle(0);
    let cell = world.run(0, async move { handle.call::<_, u32>("slow/wait", 1_000u64).await });
    // The caller's end of the newer link dies; the callee has not noticed yet.
    world.links.retain(|link| link.0 != newer);
    let down = LinkInput::Down { link: newer, reason: DownReason::TimedOut };
    world.stations[0].mesh.handle_link(now, down);
    world.pass(2_000 * MS);
    assert_eq!(cell.lock().unwrap().take().expect("it was answered").unwrap(), 1);
}

mod directory;
