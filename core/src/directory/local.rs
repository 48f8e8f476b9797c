//! The services of this node: their life cycles, and which one handles a path.

use std::sync::Arc;

use crate::base::{Draws, Effects, ServiceKey, Slab};
use crate::directory::document::{
    Entry, EntryKey, OfferState, ServiceInfo, ServiceOffer, offer_bytes,
};
use crate::directory::numbers::{ENTRY_BITS, Numbers};
use crate::directory::vitals::Vitals;
use crate::lease::Token;
use crate::machine::{Context, Machine};
use crate::payload::ContentType;
use crate::rpc::admission::Capacity;
use crate::topic::{Pattern, PatternIndex, SubscriptionKey, TopicPath};

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// Registered; its `init` runs.
    Created,
    /// Initialised; its `start` runs.
    Initialized,
    /// Takes calls.
    Running,
    /// Single-active: it would take calls, but another instance does, or none may yet.
    Standby,
    /// Single-active: it has the lease; its `activate` runs.
    Activating,
    /// Single-active: it takes no calls any more; its `deactivate` runs. Then it gives the lease up, if it still has it.
    Deactivating,
    /// Takes no calls for now.
    Paused,
    /// Takes no calls any more; its `stop` runs.
    Stopping,
    /// Its life is over, and all is cleaned up.
    Stopped,
    /// Its `init`, `start` or `activate` failed; its `clean_up` runs.
    Failing,
    /// Its life is over before it began, and all is cleaned up.
    Failed,
}

/// The parts of a service that the life cycle runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Prepare. Calls to others are possible.
    Init,
    /// Begin to work.
    Start,
    /// End the work.
    Stop,
    /// Take back what a failed `init`, `start` or `activate` left behind.
    CleanUp,
    /// Of a single-active service: it has the lease, and takes calls once this is done. The time to raise the fence at
    /// whatever it guards.
    Activate,
    /// Of a single-active service: it takes no calls any more, and gives the lease up once this is done, or has
    /// lost it.
    Deactivate,
}

/// What moves a service through its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Done(Hook),
    Failed(Hook),
    Pause,
    Resume,
    Stop,
    /// It has the lease.
    Granted,
    /// It has lost the lease, or gives it up for now.
    StepDown,
}

/// The one table of legal transitions: from a state, by a move, to a state and the hook to run.
fn transition(
    is_single: bool,
    from: ServiceState,
    by: Move,
) -> Option<(ServiceState, Option<Hook>)> {
    use ServiceState::*;
    let active = if is_single { Standby } else { Running };
    Some(match (from, by) {
        (Created, Move::Done(Hook::Init)) => (Initialized, Some(Hook::Start)),
        (Created, Move::Failed(Hook::Init)) => (Failing, Some(Hook::CleanUp)),
        (Initialized, Move::Done(Hook::Start)) => (active, None),
        (Initialized, Move::Failed(Hook::Start)) => (Failing, Some(Hook::CleanUp)),
        (Standby, Move::Granted) => (Activating, Some(Hook::Activate)),
        (Activating, Move::Done(Hook::Activate)) => (Running, None),
        (Activating, Move::Failed(Hook::Activate)) => (Failing, Some(Hook::CleanUp)),
        // What is to follow is remembered: see `LocalService`.
        (Running, Move::StepDown | Move::Pause | Move::Stop) if is_single => {
            (Deactivating, Some(Hook::Deactivate))
        }
        // Whatever `deactivate` says, it is active no more.
        (Deactivating, Move::Done(Hook::Deactivate) | Move::Failed(Hook::Deactivate)) => {
            (Standby, None)
        }
        (Running, Move::Pause) => (Paused, None),
        (Standby, Move::Pause) => (Paused, None),
        (Paused, Move::Resume) => (active, None),
        (Running | Standby | Paused, Move::Stop) => (Stopping, Some(Hook::Stop)),
        // Whatever `stop` and `clean_up` say, there is nothing left to try.
        (Stopping, Move::Done(Hook::Stop) | Move::Failed(Hook::Stop)) => (Stopped, None),
        (Failing, Move::Done(Hook::CleanUp) | Move::Failed(Hook::CleanUp)) => (Failed, None),
        _ => return None,
    })
}

/// What can happen to the services of this node.
#[derive(Clone, Debug)]
pub enum ServiceInput {
    /// A service was registered with [`LocalServices::add`].
    Added(ServiceKey),
    /// A hook has ended.
    HookDone {
        /// Of this service.
        service: ServiceKey,
        /// This hook.
        hook: Hook,
        /// Nothing, or what went wrong.
        result: Result<(), String>,
    },
    /// Take no calls for now.
    Pause(ServiceKey),
    /// Take calls again.
    Resume(ServiceKey),
    /// End its life.
    Stop(ServiceKey),
    /// A single-active service has its lease, by this token.
    Granted(ServiceKey, Token),
    /// A single-active service has lost its lease.
    Lost(ServiceKey),
    /// A service that runs says this of its health from now on.
    Vitals(ServiceKey, Option<Vitals>),
    /// A single-active service is to give its lease up, for others to take.
    StepDown(ServiceKey),
}

/// What a single-active service wants of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseWish {
    /// To have it.
    Want,
    /// To have it, but others first.
    WantLater,
    /// To be rid of it.
    Leave,
}

/// What the services want done.
#[derive(Clone, Debug)]
pub enum ServiceEffect {
    /// Run a hook and report its end.
    RunHook {
        /// Of this service.
        service: ServiceKey,
        /// This hook.
        hook: Hook,
    },
    /// Tell the user.
    StateChanged {
        /// This service.
        service: ServiceKey,
        /// Is now in this state.
        state: ServiceState,
        /// Why, if something failed.
        error: Option<String>,
    },
    /// Of a single-active service: wait for its lease, or give it up.
    Lease(ServiceKey, LeaseWish),
    /// Tell the peers: this entry of the document is new or different, or not listed any more.
    Announce(EntryKey, Option<Entry>),
}

/// What a new service is.
#[derive(Clone, Debug)]
pub struct NewService {
    /// Where it is.
    pub path: TopicPath,
    /// What can be called, below its path.
    pub actions: Vec<Pattern>,
    /// What else is known of it.
    pub info: ServiceInfo,
    /// How much it wants to be asked at one time; none for as much as the node takes.
    pub capacity: Option<Capacity>,
}

impl NewService {
    /// A service of which nothing is known but what can be called.
    pub fn new(path: TopicPath, actions: Vec<Pattern>) -> Self {
        NewService { path, actions, info: ServiceInfo::default(), capacity: None }
    }
}

#[derive(Clone, Debug)]
struct LocalService {
    /// What it is called in the document.
    entry: EntryKey,
    path: TopicPath,
    actions: Vec<Pattern>,
    info: ServiceInfo,
    routes: Vec<SubscriptionKey>,
    state: ServiceState,
    /// A stop was asked for while a hook ran that is not interrupted.
    stop_asked: bool,
    /// Of a single-active service: a pause is to follow `deactivate`.
    pause_asked: bool,
    /// Of a single-active service: the lease was lost, or is to be given up, while `activate` ran.
    step_down_asked: bool,
    /// Of a single-active service: others are to have the lease first.
    gives_way: bool,
}

/// As what a service in this state is announced, if it is.
fn offer_state(state: ServiceState) -> Option<OfferState> {
    match state {
        ServiceState::Running => Some(OfferState::Running),
        ServiceState::Paused => Some(OfferState::Paused),
        ServiceState::Standby | ServiceState::Activating | ServiceState::Deactivating => {
            Some(OfferState::Standby)
        }
        _ => None,
    }
}

impl LocalService {
    fn offer(&self, state: OfferState) -> ServiceOffer {
        let mut info = self.info.clone();
        info.token = info.token.filter(|_| state == OfferState::Running);
        info.vitals = info.vitals.filter(|_| state == OfferState::Running);
        ServiceOffer { path: self.path.clone(), state, actions: self.actions.clone(), info }
    }
}

/// A path that a service here handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRoute {
    /// The service.
    pub service: ServiceKey,
    /// Which of its actions, by the order in which they were given.
    pub action: usize,
    /// It is a stream, whose calls are kept until there is something to say: they count neither for what the service
    /// can do at one time nor for how long it takes.
    pub is_stream: bool,
}

/// The machine of this node's services.
#[derive(Clone)]
pub struct LocalServices {
    services: Slab<LocalService, crate::base::ServiceTag>,
    routes: PatternIndex<LocalRoute>,
    numbers: Numbers,
}

impl Default for LocalServices {
    fn default() -> Self {
        LocalServices::new()
    }
}

impl LocalServices {
    /// No services.
    pub fn new() -> Self {
        LocalServices {
            services: Slab::default(),
            routes: PatternIndex::default(),
            numbers: Numbers::new(ENTRY_BITS, false),
        }
    }

    /// Registers a service. Follow with [`ServiceInput::Added`].
    pub fn add(&mut self, service: NewService, draws: &mut Draws) -> ServiceKey {
        let entry = EntryKey::Service(self.numbers.next(service.path.network(), draws));
        let key = self.services.insert(LocalService {
            entry,
            path: service.path,
            actions: service.actions,
            info: service.info,
            routes: Vec::new(),
            state: ServiceState::Created,
            stop_asked: false,
            pause_asked: false,
            step_down_asked: false,
            gives_way: false,
        });
        let service = self.services.get_mut(key).expect("just inserted");
        for (action, pattern) in service.actions.iter().enumerate() {
            let info = service.info.actions.get(action);
            let is_stream = info.is_some_and(|info| info.argument_content == ContentType::STREAM);
            let route = LocalRoute { service: key, action, is_stream };
            service.routes.push(self.routes.insert(pattern, route));
        }
        key
    }

    /// How many services are registered and not over.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether a service with this path is registered.
    pub fn contains_path(&self, path: &TopicPath) -> bool {
        self.services.iter().any(|(_, service)| service.path == *path)
    }

    /// Where a service is in its life. Services whose life is over are not known any more.
    pub fn state(&self, service: ServiceKey) -> Option<ServiceState> {
        self.services.get(service).map(|service| service.state)
    }

    /// All services, with their paths and states.
    pub fn iter(&self) -> impl Iterator<Item = (ServiceKey, &TopicPath, ServiceState)> {
        self.services.iter().map(|(key, service)| (key, &service.path, service.state))
    }

    /// All that is announced, as peers know it.
    pub fn offers(&self) -> impl Iterator<Item = ServiceOffer> {
        self.services
            .iter()
            .filter_map(|(_, service)| Some(service.offer(offer_state(service.state)?)))
    }

    /// Who handles a path here, most specific pattern first, whatever its state.
    pub fn route(&self, path: &TopicPath) -> Option<(LocalRoute, ServiceState)> {
        let (_, route) = self.routes.best_match(path)?;
        let service = self.services.get(route.service).expect("routes lead to services");
        Some((*route, service.state))
    }

    /// What a service tells of itself; none once its life is over.
    pub fn info(&self, service: ServiceKey) -> Option<&ServiceInfo> {
        self.services.get(service).map(|service| &service.info)
    }

    /// The size of the document if `more` were announced too, in bytes, roughly.
    pub fn document_bytes_with(&self, more: &NewService) -> usize {
        let listed = self.services.iter().map(|(_, s)| offer_bytes(&s.path, &s.actions, &s.info));
        16 + listed.sum::<usize>() + offer_bytes(&more.path, &more.actions, &more.info)
    }

    /// Whether a service can be paused, resumed or stopped in its present state.
    pub fn allows(&self, input: &ServiceInput) -> bool {
        let (service, by) = match input {
            ServiceInput::Pause(service) => (*service, Move::Pause),
            ServiceInput::Resume(service) => (*service, Move::Resume),
            ServiceInput::Stop(service) => {
                return self.state(*service).is_some();
            }
            ServiceInput::StepDown(service) => (*service, Move::StepDown),
            ServiceInput::Added(_)
            | ServiceInput::HookDone { .. }
            | ServiceInput::Granted(..)
            | ServiceInput::Vitals(..)
            | ServiceInput::Lost(_) => return true,
        };
        let service = self.services.get(service);
        service.is_some_and(|s| transition(s.info.single_active, s.state, by).is_some())
    }

    fn advance(
        &mut self,
        key: ServiceKey,
        by: Move,
        error: Option<String>,
        out: &mut Effects<'_, ServiceEffect>,
    ) {
        let Some(service) = self.services.get_mut(key) else { return };
        let is_single = service.info.single_active;
        let Some((to, hook)) = transition(is_single, service.state, by) else { return };
        let (from, stop_asked) = (service.state, service.stop_asked);
        service.state = to;
        // It is announced of an active one.
        if !matches!(to, ServiceState::Activating | ServiceState::Running) {
            service.info.token = None;
        }
        match (from, by) {
            (ServiceState::Running, Move::Pause) => service.pause_asked = is_single,
            (ServiceState::Running, Move::Stop) => service.stop_asked |= is_single,
            _ => {}
        }
        out.push(ServiceEffect::StateChanged { service: key, state: to, error });
        if let Some(hook) = hook {
            out.push(ServiceEffect::RunHook { service: key, hook });
        }
        let (before, now) = (offer_state(from), offer_state(to));
        if before != now {
            let entry = now.map(|state| Entry::Service(Arc::new(service.offer(state))));
            out.push(ServiceEffect::Announce(service.entry, entry));
        }
        if is_single {
            self.wish(key, from, out);
        }
        match to {
            ServiceState::Stopped | ServiceState::Failed => {
                let service = self.services.remove(key).expect("just looked up");
                for route in service.routes {
                    self.routes.remove(route);
                }
            }
            ServiceState::Running | ServiceState::Standby if stop_asked => {
                self.advance(key, Move::Stop, None, out);
            }
            _ => self.follow(key, out),
        }
    }

    fn step_down(
        &mut self,
        key: ServiceKey,
        gives_way: bool,
        out: &mut Effects<'_, ServiceEffect>,
    ) {
        let Some(service) = self.services.get_mut(key) else { return };
        match service.state {
            // It cannot be interrupted: step down behind it.
            ServiceState::Activating => service.step_down_asked = true,
            ServiceState::Running => {
                service.gives_way = gives_way;
                self.advance(key, Move::StepDown, None, out);
            }
            _ => {}
        }
    }

    /// What a single-active service that has come from another state wants of its lease.
    fn wish(&mut self, key: ServiceKey, from: ServiceState, out: &mut Effects<'_, ServiceEffect>) {
        let Some(service) = self.services.get_mut(key) else { return };
        let goes_on = !service.stop_asked && !service.pause_asked;
        let leaves = |state| {
            use ServiceState::*;
            matches!(state, Deactivating | Activating | Standby)
        };
        let wish = match service.state {
            // It is wanted anew: others may have it by now.
            ServiceState::Standby if from == ServiceState::Deactivating => {
                out.push(ServiceEffect::Lease(key, LeaseWish::Leave));
                match std::mem::take(&mut service.gives_way) {
                    true => LeaseWish::WantLater,
                    false => LeaseWish::Want,
                }
            }
            ServiceState::Standby => LeaseWish::Want,
            ServiceState::Paused | ServiceState::Stopping | ServiceState::Failing
                if leaves(from) =>
            {
                return out.push(ServiceEffect::Lease(key, LeaseWish::Leave));
            }
            _ => return,
        };
        if goes_on {
            out.push(ServiceEffect::Lease(key, wish));
        }
    }

    /// What was asked for in the meantime.
    fn follow(&mut self, key: ServiceKey, out: &mut Effects<'_, ServiceEffect>) {
        let Some(service) = self.services.get_mut(key) else { return };
        match service.state {
            ServiceState::Running if std::mem::take(&mut service.step_down_asked) => {
                self.advance(key, Move::StepDown, None, out);
            }
            ServiceState::Standby if std::mem::take(&mut service.pause_asked) => {
                self.advance(key, Move::Pause, None, out);
            }
            _ => {}
        }
    }
}

impl Machine for LocalServices {
    type Input = ServiceInput;
    type Effect = ServiceEffect;
    type Timer = ();
    type View<'a> = ();

    fn handle(
        &mut self,
        _cx: &mut Context<'_, ()>,
        (): (),
        input: ServiceInput,
        out: &mut Effects<'_, ServiceEffect>,
    ) {
        match input {
            ServiceInput::Added(service) => {
                out.push(ServiceEffect::StateChanged {
                    service,
                    state: ServiceState::Created,
                    error: None,
                });
                out.push(ServiceEffect::RunHook { service, hook: Hook::Init });
            }
            ServiceInput::HookDone { service, hook, result: Ok(()) } => {
                self.advance(service, Move::Done(hook), None, out);
            }
            ServiceInput::HookDone { service, hook, result: Err(error) } => {
                self.advance(service, Move::Failed(hook), Some(error), out);
            }
            ServiceInput::Pause(service) => self.advance(service, Move::Pause, None, out),
            ServiceInput::Resume(service) => self.advance(service, Move::Resume, None, out),
            ServiceInput::Stop(service) => {
                match self.services.get_mut(service) {
                    // A hook is under way and cannot be interrupted: stop behind it.
                    Some(s)
                        if matches!(
                            s.state,
                            ServiceState::Created
                                | ServiceState::Initialized
                                | ServiceState::Activating
                                | ServiceState::Deactivating
                        ) =>
                    {
                        s.stop_asked = true;
                    }
                    _ => self.advance(service, Move::Stop, None, out),
                }
            }
            ServiceInput::Granted(key, token) => {
                if let Some(service) = self.services.get_mut(key)
                    && service.state == ServiceState::Standby
                {
                    service.step_down_asked = false;
                    self.advance(key, Move::Granted, None, out);
                    self.services.get_mut(key).expect("it is there").info.token = Some(token);
                }
            }
            ServiceInput::Vitals(key, vitals) => {
                let Some(service) = self.services.get_mut(key) else { return };
                service.info.vitals = vitals;
                if let Some(OfferState::Running) = offer_state(service.state) {
                    let entry = Entry::Service(Arc::new(service.offer(OfferState::Running)));
                    out.push(ServiceEffect::Announce(service.entry, Some(entry)));
                }
            }
            ServiceInput::Lost(key) => self.step_down(key, false, out),
            ServiceInput::StepDown(key) => self.step_down(key, true, out),
        }
    }

    fn check_invariants(&self) {
        let routes: usize = self.services.iter().map(|(_, s)| s.routes.len()).sum();
        assert_eq!(routes, self.routes.len(), "every route belongs to a service");
    }
}

impl std::fmt::Debug for LocalServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter().map(|(_, path, state)| (path, state))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [ServiceState; 11] = [
        ServiceState::Created,
        ServiceState::Initialized,
        ServiceState::Standby,
        ServiceState::Activating,
        ServiceState::Running,
        ServiceState::Deactivating,
        ServiceState::Paused,
        ServiceState::Stopping,
        ServiceState::Stopped,
        ServiceState::Failing,
        ServiceState::Failed,
    ];

    const MOVES: [Move; 17] = [
        Move::Done(Hook::Init),
        Move::Done(Hook::Start),
        Move::Done(Hook::Stop),
        Move::Done(Hook::CleanUp),
        Move::Done(Hook::Activate),
        Move::Done(Hook::Deactivate),
        Move::Failed(Hook::Init),
        Move::Failed(Hook::Start),
        Move::Failed(Hook::Stop),
        Move::Failed(Hook::CleanUp),
        Move::Failed(Hook::Activate),
        Move::Failed(Hook::Deactivate),
        Move::Pause,
        Move::Resume,
        Move::Stop,
        Move::Granted,
        Move::StepDown,
    ];

    fn table(is_single: bool) -> String {
        let mut table = String::new();
        for from in STATES {
            for by in MOVES {
                if let Some((to, hook)) = transition(is_single, from, by) {
                    let hook = hook.map_or(String::new(), |hook| format!(", run {hook:?}"));
                    table += &format!("{from:?} --{by:?}--> {to:?}{hook}\n");
                }
            }
        }
        table
    }

    #[test]
    fn the_table_of_transitions_is_this() {
        // States of single-active services are reached by nobody else.
        let table = table(false);
        let of_all = table.lines().filter(|line| {
            !["Standby", "Activating", "Deactivating"].iter().any(|state| line.starts_with(state))
        });
        let table: String = of_all.map(|line| format!("{line}\n")).collect();
        assert_eq!(
            table,
            "\
Created --Done(Init)--> Initialized, run Start
Created --Failed(Init)--> Failing, run CleanUp
Initialized --Done(Start)--> Running
Initialized --Failed(Start)--> Failing, run CleanUp
Running --Pause--> Paused
Running --Stop--> Stopping, run Stop
Paused --Resume--> Running
Paused --Stop--> Stopping, run Stop
Stopping --Done(Stop)--> Stopped
Stopping --Failed(Stop)--> Stopped
Failing --Done(CleanUp)--> Failed
Failing --Failed(CleanUp)--> Failed
"
        );
    }

    #[test]
    fn the_table_of_transitions_of_a_single_active_service_is_this() {
        let (all, single) = (table(false), table(true));
        let own = single
            .lines()
            .filter(|line| !all.lines().any(|other| other == *line) || line.contains("tandby"));
        let own: Vec<&str> = own.collect();
        assert_eq!(
            own,
            [
                "Initialized --Done(Start)--> Standby",
                "Standby --Pause--> Paused",
                "Standby --Stop--> Stopping, run Stop",
                "Standby --Granted--> Activating, run Activate",
                "Running --Pause--> Deactivating, run Deactivate",
                "Running --Stop--> Deactivating, run Deactivate",
                "Running --StepDown--> Deactivating, run Deactivate",
                "Deactivating --Done(Deactivate)--> Standby",
                "Deactivating --Failed(Deactivate)--> Standby",
                "Paused --Resume--> Standby",
            ]
        );
    }

    #[test]
    fn every_state_leads_to_an_end() {
        for from in STATES {
            let mut reached = vec![from];
            let mut at = 0;
            while at < reached.len() {
                for by in MOVES {
                    if let Some((to, _)) = transition(true, reached[at], by)
                        && !reached.contains(&to)
                    {
                        reached.push(to);
                    }
                }
                at += 1;
            }
            assert!(
                reached.iter().any(|s| matches!(s, ServiceState::Stopped | ServiceState::Failed)),
                "{from:?} never ends"
            );
        }
    }
}
