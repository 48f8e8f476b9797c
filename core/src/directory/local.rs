//! The services of this node: their life cycles, and which one handles a path.

use std::sync::Arc;

use crate::base::{Draws, Effects, ServiceKey, Slab};
use crate::directory::document::{
    Entry, EntryKey, OfferState, ServiceInfo, ServiceOffer, offer_bytes,
};
use crate::directory::numbers::{ENTRY_BITS, Numbers};
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
    /// Takes no calls for now.
    Paused,
    /// Takes no calls any more; its `stop` runs.
    Stopping,
    /// Its life is over, and all is cleaned up.
    Stopped,
    /// Its `init` or `start` failed; its `clean_up` runs.
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
    /// Take back what a failed `init` or `start` left behind.
    CleanUp,
}

/// What moves a service through its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Done(Hook),
    Failed(Hook),
    Pause,
    Resume,
    Stop,
}

/// The one table of legal transitions: from a state, by a move, to a state and the hook to run.
fn transition(from: ServiceState, by: Move) -> Option<(ServiceState, Option<Hook>)> {
    use ServiceState::*;
    Some(match (from, by) {
        (Created, Move::Done(Hook::Init)) => (Initialized, Some(Hook::Start)),
        (Created, Move::Failed(Hook::Init)) => (Failing, Some(Hook::CleanUp)),
        (Initialized, Move::Done(Hook::Start)) => (Running, None),
        (Initialized, Move::Failed(Hook::Start)) => (Failing, Some(Hook::CleanUp)),
        (Running, Move::Pause) => (Paused, None),
        (Paused, Move::Resume) => (Running, None),
        (Running | Paused, Move::Stop) => (Stopping, Some(Hook::Stop)),
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
    /// A stop was asked for while `init` or `start` ran.
    stop_asked: bool,
}

/// As what a service in this state is announced, if it is.
fn offer_state(state: ServiceState) -> Option<OfferState> {
    match state {
        ServiceState::Running => Some(OfferState::Running),
        ServiceState::Paused => Some(OfferState::Paused),
        _ => None,
    }
}

impl LocalService {
    fn offer(&self, state: OfferState) -> ServiceOffer {
        ServiceOffer {
            path: self.path.clone(),
            state,
            actions: self.actions.clone(),
            info: self.info.clone(),
        }
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
            ServiceInput::Added(_) | ServiceInput::HookDone { .. } => return true,
        };
        self.state(service).is_some_and(|state| transition(state, by).is_some())
    }

    fn advance(
        &mut self,
        key: ServiceKey,
        by: Move,
        error: Option<String>,
        out: &mut Effects<'_, ServiceEffect>,
    ) {
        let Some(service) = self.services.get_mut(key) else { return };
        let Some((to, hook)) = transition(service.state, by) else { return };
        let (from, stop_asked) = (service.state, service.stop_asked);
        service.state = to;
        out.push(ServiceEffect::StateChanged { service: key, state: to, error });
        if let Some(hook) = hook {
            out.push(ServiceEffect::RunHook { service: key, hook });
        }
        let (before, now) = (offer_state(from), offer_state(to));
        if before != now {
            let entry = now.map(|state| Entry::Service(Arc::new(service.offer(state))));
            out.push(ServiceEffect::Announce(service.entry, entry));
        }
        match to {
            ServiceState::Stopped | ServiceState::Failed => {
                let service = self.services.remove(key).expect("just looked up");
                for route in service.routes {
                    self.routes.remove(route);
                }
            }
            ServiceState::Running if stop_asked => self.advance(key, Move::Stop, None, out),
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
                    // `init` or `start` is under way and cannot be interrupted: stop behind it.
                    Some(s)
                        if matches!(s.state, ServiceState::Created | ServiceState::Initialized) =>
                    {
                        s.stop_asked = true;
                    }
                    _ => self.advance(service, Move::Stop, None, out),
                }
            }
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

    const STATES: [ServiceState; 8] = [
        ServiceState::Created,
        ServiceState::Initialized,
        ServiceState::Running,
        ServiceState::Paused,
        ServiceState::Stopping,
        ServiceState::Stopped,
        ServiceState::Failing,
        ServiceState::Failed,
    ];

    const MOVES: [Move; 11] = [
        Move::Done(Hook::Init),
        Move::Done(Hook::Start),
        Move::Done(Hook::Stop),
        Move::Done(Hook::CleanUp),
        Move::Failed(Hook::Init),
        Move::Failed(Hook::Start),
        Move::Failed(Hook::Stop),
        Move::Failed(Hook::CleanUp),
        Move::Pause,
        Move::Resume,
        Move::Stop,
    ];

    #[test]
    fn the_table_of_transitions_is_this() {
        let mut table = String::new();
        for from in STATES {
            for by in MOVES {
                if let Some((to, hook)) = transition(from, by) {
                    let hook = hook.map_or(String::new(), |hook| format!(", run {hook:?}"));
                    table += &format!("{from:?} --{by:?}--> {to:?}{hook}\n");
                }
            }
        }
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
    fn every_state_leads_to_an_end() {
        for from in STATES {
            let mut reached = vec![from];
            let mut at = 0;
            while at < reached.len() {
                for by in MOVES {
                    if let Some((to, _)) = transition(reached[at], by)
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
