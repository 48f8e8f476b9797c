//! Runs services and application tasks on a mesh: sans IO, like everything here.
//!
//! The owner of a node calls [`Host::turn`] after every input; it carries what handlers ask for to the
//! mesh and what the mesh says to handlers, until neither has anything to say.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use crate::base::{
    CallKey, CallTag, InvocationKey, InvocationTag, KeyMap, MonoTime, Now, ServiceKey, ServiceTag,
    TimerQueue,
};
use crate::directory::local::NewService;
use crate::directory::{Hook, ServiceState};
use crate::mesh::{CommandError, Event, Invocation, Mesh};
use crate::payload::Payload;
use crate::planted::is_planted;
use crate::rpc::callee::{Asked, HandlerError};
use crate::rpc::{CallError, CallResult, Executed, Failure};
use crate::service::event_desk::EventDesk;
use crate::service::executor::{Ended, Executor, TaskKey, panic_message};
use crate::service::handle::{Handle, Op, Shared};
use crate::service::handler::{
    BoxFuture, Context, DescriptionError, Fence, HoldCell, Placement, Service,
};
use crate::service::slot::Slot;
use crate::topic::{Pattern, TopicPath};

/// Puts a future on a runtime and gives a way to stop it.
pub trait Spawner: Send {
    /// Runs `future` beside the node. The closure that is given back stops it; it may be dropped.
    fn spawn(&self, future: BoxFuture<()>) -> Box<dyn FnOnce() + Send>;
}

/// Planted bugs by which what is not active serves.
const SERVE_UNLED: [u32; 3] = [100, 103, 105];

/// Rounds of one turn before the node's other work gets its share. A guess.
const ROUNDS_MAX: usize = 64;

/// Why a service was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddServiceError {
    /// Its path or an action is not well-formed.
    #[error("the service's description is not well-formed: {0}")]
    Description(#[from] DescriptionError),
    /// The node does not take it.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// What runs in the node's own task.
enum Job {
    Handler { invocation: InvocationKey, future: BoxFuture<Result<Payload, HandlerError>> },
    Hook { service: ServiceKey, hook: Hook, future: BoxFuture<Result<(), String>> },
    Task(BoxFuture<()>),
}

/// What a job came to.
enum Outcome {
    Handler(Result<Payload, HandlerError>),
    Hook(Result<(), String>),
    Task,
}

impl Future for Job {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Outcome> {
        match &mut *self {
            Job::Handler { future, .. } => future.as_mut().poll(cx).map(Outcome::Handler),
            Job::Hook { future, .. } => future.as_mut().poll(cx).map(Outcome::Hook),
            Job::Task(future) => future.as_mut().poll(cx).map(|()| Outcome::Task),
        }
    }
}

struct Hosted {
    service: Arc<dyn Service>,
    path: TopicPath,
    actions: Vec<Pattern>,
    placement: Placement,
    /// Of a single-active service.
    hold: Option<HoldCell>,
}

enum Run {
    Here(TaskKey<Job>),
    Spawned(Box<dyn FnOnce() + Send>),
}

/// See the module's documentation.
pub struct Host {
    shared: Arc<Shared>,
    taken: VecDeque<Op>,
    services: KeyMap<ServiceTag, Hosted>,
    calls: KeyMap<CallTag, Arc<Slot<CallResult>>>,
    /// Calls that have ended, though their end is still on its way here, and whose place was taken.
    displaced: BTreeMap<CallKey, Arc<Slot<CallResult>>>,
    runs: KeyMap<InvocationTag, Run>,
    /// What runs on a runtime and is no call, with what stops it.
    beside: BTreeMap<u64, Box<dyn FnOnce() + Send>>,
    last_beside: u64,
    executor: Executor<Job>,
    sleeps: TimerQueue<Arc<Slot<()>>>,
    events: EventDesk,
    spawner: Option<Box<dyn Spawner>>,
    /// Single-active services.
    single: Vec<ServiceKey>,
    unfinished: bool,
}

impl Host {
    /// A host without services. `seed` feeds [`Handle::random`]. `notify` is called, from whatever
    /// thread asks, when [`Host::turn`] has something to do.
    pub fn new(seed: [u8; 32], notify: impl Fn() + Send + Sync + Clone + 'static) -> Self {
        Host {
            shared: Arc::new(Shared::new(seed, Box::new(notify.clone()))),
            taken: VecDeque::new(),
            services: KeyMap::default(),
            calls: KeyMap::default(),
            displaced: BTreeMap::new(),
            runs: KeyMap::default(),
            beside: BTreeMap::new(),
            last_beside: 0,
            executor: Executor::new(notify),
            sleeps: TimerQueue::default(),
            events: EventDesk::default(),
            spawner: None,
            single: Vec::new(),
            unfinished: false,
        }
    }

    /// Lets services with [`Placement::Spawned`] run on this runtime. Without one, all run in place.
    pub fn set_spawner(&mut self, spawner: Box<dyn Spawner>) {
        self.spawner = Some(spawner);
    }

    /// Lets [`Context::is_active`] look at the clock itself, from any thread. Without it, handlers that go on while
    /// the node does not have its turn, on a thread of their own, take the time as of its last turn.
    pub fn set_clock(&mut self, clock: impl Fn() -> MonoTime + Send + Sync + 'static) {
        self.shared.set_clock(Box::new(clock));
    }

    /// For application code.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// How many handlers, hooks and tasks run in place.
    pub fn tasks(&self) -> usize {
        self.executor.len()
    }

    /// Registers a service and begins its life.
    ///
    /// # Errors
    ///
    /// When its description is not well-formed or the node does not take it.
    pub fn add_service(
        &mut self,
        now: Now,
        mesh: &mut Mesh,
        service: Arc<dyn Service>,
    ) -> Result<ServiceKey, AddServiceError> {
        let description = service.describe()?;
        // As the paths of its calls will be written.
        let path = mesh.normalise(description.path).map_err(CommandError::from)?;
        let actions = description
            .actions
            .iter()
            .map(|action| Pattern::join(&path, action.as_str()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(DescriptionError::from)?;
        let new = NewService {
            path: path.clone(),
            actions: actions.clone(),
            info: description.info,
            capacity: description.capacity,
        };
        let is_single = new.info.single_active;
        let key = mesh.add_service(now, new)?;
        let hold = is_single.then(HoldCell::default);
        if is_single {
            self.single.push(key);
        }
        let placement = description.placement;
        self.services.insert(key, Hosted { service, path, actions, placement, hold });
        Ok(key)
    }

    /// Runs application code beside the services, in place.
    pub fn spawn(
        &mut self,
        now: Now,
        mesh: &mut Mesh,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.shared.set_now(now);
        self.start(now, mesh, Job::Task(Box::pin(task)));
    }

    /// Runs something that belongs to a service and is no call of it, where the service's handlers run.
    pub(super) fn spawn_for(
        &mut self,
        now: Now,
        mesh: &mut Mesh,
        placement: Placement,
        task: BoxFuture<()>,
    ) {
        match &self.spawner {
            Some(spawner) if placement == Placement::Spawned => {
                self.last_beside += 1;
                let (place, shared) = (self.last_beside, Arc::clone(&self.shared));
                let stop = spawner.spawn(Box::pin(async move {
                    task.await;
                    shared.push(Op::Run(Box::new(move |host, _, _| {
                        host.beside.remove(&place);
                    })));
                }));
                self.beside.insert(place, stop);
            }
            _ => self.start(now, mesh, Job::Task(task)),
        }
    }

    /// When to call [`Host::turn`] if nothing happens before.
    pub fn next_wake(&self, now: MonoTime) -> Option<MonoTime> {
        if self.unfinished || !self.shared.is_idle() {
            return Some(now);
        }
        self.sleeps.next_at().into_iter().chain(self.events.next_at()).min()
    }

    /// Lets handlers, tasks and the mesh talk until they have nothing left to say. `observe` sees every
    /// event of the mesh before it is acted upon.
    pub fn turn(&mut self, now: Now, mesh: &mut Mesh, observe: &mut dyn FnMut(&Event)) {
        self.shared.set_now(now);
        self.look_at_holds(now, mesh);
        while let Some(slot) = self.sleeps.expire(now.mono) {
            slot.fill(());
        }
        self.events.expire(now, mesh);
        for _ in 0..ROUNDS_MAX {
            let mut idle = true;
            if !self.shared.is_idle() {
                let mut taken = std::mem::take(&mut self.taken);
                self.shared.take(&mut taken);
                for op in taken.drain(..) {
                    idle = false;
                    self.on_op(now, mesh, op);
                }
                self.taken = taken;
            }
            while let Some(event) = mesh.poll_event() {
                idle = false;
                observe(&event);
                self.on_event(now, mesh, event);
            }
            while let Some(ended) = self.executor.run_next() {
                idle = false;
                if let Some(ended) = ended {
                    self.ended(now, mesh, ended);
                }
            }
            if idle {
                self.unfinished = false;
                return;
            }
        }
        self.unfinished = true;
    }

    /// Handlers ask at the moment of acting whether they still may.
    fn look_at_holds(&self, now: Now, mesh: &Mesh) {
        for key in &self.single {
            if let Some(cell) = self.services.get(*key).and_then(|hosted| hosted.hold.as_ref()) {
                let hold = mesh.hold(now.mono, *key);
                *cell.lock().expect("nothing panics under this lock") = hold;
            }
        }
    }

    fn on_op(&mut self, now: Now, mesh: &mut Mesh, op: Op) {
        match op {
            Op::Call { request, slot } => {
                let mut refused = None;
                slot.begin(|| match mesh.call(now, *request) {
                    Ok(key) => {
                        let earlier = self.calls.insert(key, Arc::clone(&slot));
                        self.displaced.extend(earlier);
                        Some(key.to_u64())
                    }
                    Err(error) => {
                        refused = Some(error);
                        None
                    }
                });
                if let Some(error) = refused {
                    slot.fill(Err(refusal(error)));
                }
            }
            Op::CancelCall(call) => {
                self.take_call(call);
                mesh.cancel(now, call);
            }
            Op::Sleep { until, slot } => {
                let sleeps = &mut self.sleeps;
                slot.begin(|| Some(sleeps.arm(until, Arc::clone(&slot)).to_u64()));
                // A sleep into the past ends in this turn.
                while let Some(slot) = self.sleeps.expire(now.mono) {
                    slot.fill(());
                }
            }
            Op::CancelSleep(timer) => {
                self.sleeps.disarm(timer);
            }
            Op::HandlerDone { invocation, result } => {
                self.runs.remove(invocation);
                mesh.respond(now, invocation, result);
            }
            Op::HookDone { service, hook, result } => mesh.hook_done(now, service, hook, result),
            Op::Publish(publishing) => self.events.publish(now, mesh, *publishing),
            Op::PublishMany(outbox) => self.events.publish_many(now, mesh, outbox),
            Op::Subscribe { request, inbox, slot } => {
                self.events.subscribe(now, mesh, *request, inbox, &slot);
            }
            Op::LeaveGroup(key) => self.events.stop_taking(now, mesh, key),
            Op::Unsubscribe(key) => self.events.unsubscribe(now, mesh, key),
            Op::Leave(inbox) => self.events.leave(now, mesh, &inbox),
            Op::Refill(key) => self.events.refill(now, mesh, key),
            Op::AwaitKnown { version, slot } => self.events.await_known(mesh, version, slot),
            Op::Run(f) => f(self, now, mesh),
        }
    }

    fn take_call(&mut self, call: CallKey) -> Option<Arc<Slot<CallResult>>> {
        self.calls.remove(call).or_else(|| self.displaced.remove(&call))
    }

    fn on_event(&mut self, now: Now, mesh: &mut Mesh, event: Event) {
        match event {
            Event::CallEnded { call, result } => {
                if let Some(slot) = self.take_call(call) {
                    slot.fill(result);
                }
            }
            Event::Invoke(invocation) => self.invoke(now, mesh, invocation),
            Event::InvocationCancelled(invocation) => match self.runs.remove(invocation) {
                Some(Run::Here(task)) => self.executor.cancel(task),
                Some(Run::Spawned(stop)) => stop(),
                None => {}
            },
            Event::RunHook { service, hook } => self.run_hook(now, mesh, service, hook),
            Event::ServiceState { service, state, .. } => {
                if matches!(state, ServiceState::Stopped | ServiceState::Failed) {
                    self.services.remove(service);
                    self.single.retain(|key| *key != service);
                }
            }
            Event::SubscriptionReady(_)
            | Event::SubscriptionOver(_)
            | Event::PublishRoom
            | Event::PublishEnded { .. }
            | Event::DirectoryAcknowledged { .. }
            | Event::PeerDown { .. }
            | Event::Stopped => self.events.on_event(now, mesh, &event),
            Event::CallRetried { .. }
            | Event::CallHedged { .. }
            | Event::Leader { .. }
            | Event::AcceptorReady { .. }
            | Event::AcceptorsNamed { .. }
            | Event::AcceptorsOutdated { .. }
            | Event::EventsLost { .. }
            | Event::GroupEventsLost { .. }
            | Event::PeerUp { .. }
            | Event::PeerServices { .. }
            | Event::LinkSuperseded { .. }
            | Event::LifeBegan { .. }
            | Event::NewerSelf { .. }
            | Event::PeerRefused { .. }
            | Event::DialFailed { .. }
            | Event::PeerMisbehaved { .. }
            | Event::ClaimIgnored { .. }
            | Event::NetworkLeft { .. }
            | Event::NetworkEnded { .. }
            | Event::NetworkOutdated { .. }
            | Event::StoreFailed { .. } => {}
        }
    }

    fn invoke(&mut self, now: Now, mesh: &mut Mesh, run: Invocation) {
        let Invocation { invocation, caller, asked } = run;
        let Asked { route, path, payload, deadline } = *asked;
        self.look_at_holds(now, mesh);
        let Some(hosted) = self.services.get(route.service) else {
            let gone = HandlerError::failed("the service is gone");
            return mesh.respond(now, invocation, Err(gone));
        };
        let fence = hosted.hold.as_ref().and_then(Fence::of);
        if hosted.hold.is_some() && fence.is_none() && !SERVE_UNLED.into_iter().any(is_planted) {
            // The lease has ended since the call came.
            return mesh.respond(now, invocation, Err(HandlerError::NotActive));
        }
        let cx = Context {
            fence,
            handle: self.handle(),
            node: mesh.id(),
            placement: hosted.placement,
            caller,
            path,
            action: route.action,
            pattern: hosted.actions.get(route.action).filter(|p| !p.is_literal()).cloned(),
            deadline,
        };
        let service = Arc::clone(&hosted.service);
        match &self.spawner {
            Some(spawner) if hosted.placement == Placement::Spawned => {
                let shared = Arc::clone(&self.shared);
                let future = async move {
                    // A handler may panic before its first `await`, while it is being made.
                    let handler =
                        CatchPanic(Box::pin(async move { service.call(cx, payload).await }));
                    let result = handler.await.unwrap_or_else(|panic| {
                        Err(HandlerError::Failed(format!("the handler panicked: {panic}")))
                    });
                    shared.push(Op::HandlerDone { invocation, result });
                };
                let stop = spawner.spawn(Box::pin(future));
                self.runs.insert(invocation, Run::Spawned(stop));
            }
            _ => {
                // A handler may panic before its first `await`, while it is being made.
                let made = catch_unwind(AssertUnwindSafe(|| service.call(cx, payload)));
                match made {
                    Ok(future) => self.start(now, mesh, Job::Handler { invocation, future }),
                    Err(panic) => {
                        let message = panic_message(panic);
                        self.report_handler_panic(now, mesh, invocation, message);
                    }
                }
            }
        }
    }

    fn run_hook(&mut self, now: Now, mesh: &mut Mesh, key: ServiceKey, hook: Hook) {
        self.look_at_holds(now, mesh);
        let Some(hosted) = self.services.get(key) else {
            return mesh.hook_done(now, key, hook, Err("the service is gone".into()));
        };
        let cx = Context {
            fence: hosted.hold.as_ref().and_then(Fence::of),
            handle: self.handle(),
            node: mesh.id(),
            placement: hosted.placement,
            caller: None,
            path: hosted.path.clone(),
            action: 0,
            pattern: None,
            deadline: MonoTime::MAX,
        };
        let service = Arc::clone(&hosted.service);
        let hook_future = async move {
            match hook {
                Hook::Init => service.init(cx).await,
                Hook::Start => service.start(cx).await,
                Hook::Stop => service.stop(cx).await,
                Hook::CleanUp => service.clean_up(cx).await,
                Hook::Activate => service.activate(cx).await,
                Hook::Deactivate => service.deactivate(cx).await,
            }
        };
        match &self.spawner {
            Some(spawner) if hosted.placement == Placement::Spawned => {
                let shared = Arc::clone(&self.shared);
                let future = async move {
                    let result = CatchPanic(Box::pin(hook_future))
                        .await
                        .unwrap_or_else(|panic| Err(format!("{hook:?} panicked: {panic}")));
                    shared.push(Op::HookDone { service: key, hook, result });
                };
                drop(spawner.spawn(Box::pin(future)));
            }
            _ => {
                let future = Box::pin(hook_future);
                self.start(now, mesh, Job::Hook { service: key, hook, future });
            }
        }
    }

    fn start(&mut self, now: Now, mesh: &mut Mesh, job: Job) {
        let invocation = match &job {
            Job::Handler { invocation, .. } => Some(*invocation),
            Job::Hook { .. } | Job::Task(_) => None,
        };
        let (task, ended) = self.executor.start(job);
        match ended {
            Some(ended) => self.ended(now, mesh, ended),
            None => {
                if let Some(invocation) = invocation {
                    self.runs.insert(invocation, Run::Here(task));
                }
            }
        }
    }

    fn ended(&mut self, now: Now, mesh: &mut Mesh, ended: Ended<Job>) {
        match ended {
            Ended::With(Job::Handler { invocation, .. }, Outcome::Handler(result)) => {
                self.runs.remove(invocation);
                mesh.respond(now, invocation, result);
            }
            Ended::With(Job::Hook { service, hook, .. }, Outcome::Hook(result)) => {
                mesh.hook_done(now, service, hook, result);
            }
            Ended::With(..) => {}
            Ended::Panicked(Job::Handler { invocation, .. }, message) => {
                self.runs.remove(invocation);
                self.report_handler_panic(now, mesh, invocation, message);
            }
            Ended::Panicked(Job::Hook { service, hook, .. }, message) => {
                tracing::error!(panic = message, "application code panicked");
                let error = format!("{hook:?} panicked: {message}");
                mesh.hook_done(now, service, hook, Err(error));
            }
            Ended::Panicked(Job::Task(_), message) => {
                tracing::error!(panic = message, "application code panicked");
            }
        }
    }

    fn report_handler_panic(
        &mut self,
        now: Now,
        mesh: &mut Mesh,
        invocation: InvocationKey,
        message: String,
    ) {
        tracing::error!(panic = message, "application code panicked");
        let error = HandlerError::Failed(format!("the handler panicked: {message}"));
        mesh.respond(now, invocation, Err(error));
    }
}

impl Drop for Host {
    /// Nobody is left waiting: open calls end, what runs on a runtime is stopped, and handles refuse
    /// from now on.
    fn drop(&mut self) {
        self.shared.close();
        self.events.close();
        while let Some(slot) = self.sleeps.expire(MonoTime::MAX) {
            slot.fill(());
        }
        let runs: Vec<InvocationKey> = self.runs.iter().map(|(key, _)| key).collect();
        for key in runs {
            if let Some(Run::Spawned(stop)) = self.runs.remove(key) {
                stop();
            }
        }
        for stop in std::mem::take(&mut self.beside).into_values() {
            stop();
        }
        let calls = self.calls.iter().map(|(_, slot)| slot);
        for slot in calls.chain(self.displaced.values()) {
            slot.fill(Err(CallError::Failed {
                failure: Failure::ShuttingDown,
                executed: Executed::Maybe,
                detail: "the node is gone".into(),
            }));
        }
    }
}

/// What a refused command means for a call.
fn refusal(error: CommandError) -> CallError {
    let failure = match &error {
        CommandError::TooLarge { .. } => Failure::TooLarge,
        CommandError::Stopping => Failure::ShuttingDown,
        CommandError::CannotHedge(_) => Failure::BadRequest,
        _ => Failure::Overloaded,
    };
    CallError::unrun(failure, error.to_string())
}

/// A future whose panic is a result.
pub(super) struct CatchPanic<T>(pub(super) BoxFuture<T>);

impl<T> Future for CatchPanic<T> {
    type Output = Result<T, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic_message(panic))),
        }
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
