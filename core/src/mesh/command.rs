//! What the application asks of the mesh.

use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::{Denied, Permission};
use crate::base::Effects;
use crate::base::{Allowance, CallKey, InvocationKey, Now, PeerId, ServiceKey};
use crate::directory::document::{DESCRIPTION_BYTES_MAX, TYPE_NAME_BYTES_MAX, VERSION_BYTES_MAX};
use crate::directory::local::NewService;
use crate::directory::{Hook, ServiceInput, ServiceState, Wish};
use crate::machine::{Context, Machine};
use crate::mesh::wiring::Work;
use crate::mesh::{Mesh, NodeTimer, Own, PeerEntry, Phase, feed};
use crate::payload::Payload;
use crate::peer::lanes::Lanes;
use crate::peer::{Peer, PeerInput};
use crate::planted::is_planted;
use crate::rpc::callee::HandlerError;
use crate::rpc::caller::NewCall;
use crate::rpc::hedge::Hedge;
use crate::rpc::{CalleeInput, CallerInput};
use crate::topic::TopicPath;
use crate::wire::HEADER_BYTES_MAX;

/// Who is to serve a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Target {
    /// This node if it serves the path, otherwise a peer that does.
    #[default]
    Any,
    /// This peer and no other. If it is on its way, the call waits for it.
    Peer(PeerId),
}

/// A call to make.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// The action: `service/action`.
    pub path: TopicPath,
    /// The argument.
    pub payload: Payload,
    /// Who is to serve it.
    pub target: Target,
    /// Which of several is to serve it, if any will do.
    pub wish: Wish,
    /// How long the caller waits. Longer times than [`crate::Limits::call_timeout_max`] are cut to it.
    pub timeout: Duration,
    /// Whether it may run more than once, if its first run may have been lost.
    pub idempotent: bool,
    /// Whether it is made again after a failure that another attempt may mend: see [`crate::rpc::retry`].
    pub retry: bool,
    /// When another instance is asked too, if none has answered: see [`crate::rpc::hedge`].
    pub hedge: Option<Hedge>,
}

impl CallRequest {
    /// How long a call waits unless it says otherwise. A guess.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// A call to whoever serves the path, for ten seconds, at most once.
    pub fn new(path: TopicPath, payload: Payload) -> Self {
        CallRequest {
            path,
            payload,
            target: Target::Any,
            wish: Wish::default(),
            timeout: Self::TIMEOUT,
            idempotent: false,
            retry: true,
            hedge: None,
        }
    }
}

/// Why a command was not taken. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Too many calls are open.
    #[error("{open} calls are open; at most {max} may be (Limits::calls_open_max)")]
    TooManyCalls {
        /// How many are open.
        open: usize,
        /// How many may be.
        max: usize,
    },
    /// The arguments of open calls hold too many bytes.
    #[error(
        "the arguments of open calls have {bytes} bytes; at most {max} may be (Limits::argument_bytes_max)"
    )]
    TooManyBytes {
        /// How many wait.
        bytes: usize,
        /// How many may.
        max: usize,
    },
    /// The argument is too large.
    #[error(
        "the argument has {bytes} bytes; at most {max} may be sent (Limits::message_bytes_max)"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Too many peers are known.
    #[error("{0} peers are known, and no more may be (Limits::peers_max)")]
    TooManyPeers(usize),
    /// A node does not connect to itself.
    #[error("{0} is this node itself")]
    OwnId(PeerId),
    /// Too many services, or actions of one.
    #[error("{count} {what}; at most {max} may be ({limit})")]
    TooManyServices {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        count: usize,
        /// How much there may be.
        max: usize,
        /// The limit's name.
        limit: &'static str,
    },
    /// Too many of something.
    #[error("{count} {what}; at most {max} may be ({limit})")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        count: usize,
        /// How much there may be.
        max: usize,
        /// The limit's name.
        limit: &'static str,
    },
    /// The call cannot have a second attempt.
    #[error("the call cannot be hedged: {0}")]
    CannotHedge(&'static str),
    /// A group has a name.
    #[error("the name of the group is empty")]
    NamelessGroup,
    /// Another service has this path.
    #[error("a service with the path '{0}' is registered already")]
    PathTaken(TopicPath),
    /// The service is not in a state that allows it, or its life is over.
    #[error("the service cannot do that in its present state ({0})")]
    WrongState(String),
    /// This node may not do that, or its path names a network that it is not in.
    #[error("{0}")]
    Denied(#[from] Denied),
    /// A service is to be active at one node at a time, and nobody decides at which.
    #[error(
        "the service '{0}' is single-active, and its network names no acceptors: one, three or five nodes that decide \
         where it is active. Name them in the network's descriptor (registry members), or, in the development \
         network, the same to every node"
    )]
    NoAcceptors(TopicPath),
    /// The node stops or has stopped.
    #[error("the node stops")]
    Stopping,
}

impl Mesh {
    /// Starts a call. It ends in exactly one [`crate::mesh::Event::CallEnded`].
    ///
    /// # Errors
    ///
    /// When a bound is reached or the node stops; there is no event then.
    pub fn call(&mut self, now: Now, mut request: CallRequest) -> Result<CallKey, CommandError> {
        self.tick(now);
        if !self.takes_calls() {
            return Err(CommandError::Stopping);
        }
        if self.caller.len() >= self.limits.calls_open_max {
            let (open, max) = (self.caller.len(), self.limits.calls_open_max);
            return Err(CommandError::TooManyCalls { open, max });
        }
        if let Payload::Encoded { bytes, .. } = &request.payload {
            let max = self.limits.message_bytes_max;
            if bytes.len() > max {
                return Err(CommandError::TooLarge { bytes: bytes.len(), max });
            }
            let waiting = self.caller.payload_bytes() + bytes.len();
            let max = self.limits.argument_bytes_max;
            if waiting > max {
                return Err(CommandError::TooManyBytes { bytes: waiting, max });
            }
        }
        let pinned = matches!(request.target, Target::Peer(_));
        if let Some(why) = request.hedge.and_then(|h| h.refused(request.idempotent, pinned))
            // Planted: whatever its caller says.
            && !is_planted(141)
        {
            return Err(CommandError::CannotHedge(why));
        }
        let timeout = request.timeout.min(self.limits.call_timeout_max);
        let (route, seat) = match self.access.normalise_in_place(&mut request.path) {
            Ok(()) => self.route(&request.path, request.target, &request.wish),
            Err(denied) => (Err(denied.into()), None),
        };
        let may_wait = request.target == Target::Any && !request.wish.at_once;
        let waits = self.waits_for(&request.path, &route).filter(|_| may_wait);
        let path = waits.is_some().then(|| request.path.clone());
        let hedge = request.hedge.and_then(|hedge| self.hedge_after(hedge, seat.as_ref()));
        let call = self.caller.add(NewCall {
            path: request.path,
            payload: request.payload,
            deadline: self.now.mono + timeout,
            idempotent: request.idempotent,
            pinned,
            retry: request.retry,
            hedge,
        });
        self.note_route(call, request.wish, seat);
        match path {
            Some(path) => self.routed(call, &path, route),
            None => self.feed_caller(CallerInput::Routed { call, route }),
        }
        self.run();
        Ok(call)
    }

    /// Gives a call up. Unless it has ended already, it ends now, as cancelled.
    pub fn cancel(&mut self, now: Now, call: CallKey) {
        self.tick(now);
        self.feed_caller(CallerInput::Cancel(call));
        self.run();
    }

    /// A handler has ended. Ignored if its run was cancelled.
    pub fn respond(
        &mut self,
        now: Now,
        invocation: InvocationKey,
        result: Result<Payload, HandlerError>,
    ) {
        self.tick(now);
        self.feed_callee(CalleeInput::Done { invocation, result });
        self.look_at_services_soon();
        self.run();
    }

    /// Stays connected to a peer, dialling these addresses, or waiting for it if there are none. Dials
    /// at once if it is not connected.
    ///
    /// # Errors
    ///
    /// When the id is our own, when too many peers are known, or when the node stops.
    pub fn connect(
        &mut self,
        now: Now,
        peer: PeerId,
        addresses: Vec<SocketAddr>,
    ) -> Result<(), CommandError> {
        self.tick(now);
        if self.phase != Phase::Running {
            return Err(CommandError::Stopping);
        }
        if peer == self.local.id {
            return Err(CommandError::OwnId(peer));
        }
        let key = self.peer_key(peer).ok_or(CommandError::TooManyPeers(self.peers.len()))?;
        self.feed_peer(key, PeerInput::Keep { addresses });
        self.run();
        Ok(())
    }

    /// Closes the links to a peer and does not dial it any more. Calls to it end.
    pub fn disconnect(&mut self, now: Now, peer: PeerId) {
        self.tick(now);
        if let Some(key) = self.by_id.get(&peer).copied() {
            self.feed_peer(key, PeerInput::Release);
            self.feed_caller(CallerInput::PeerReleased(key));
            self.start_sweeping();
            self.run();
        }
    }

    /// Registers a service and begins its life; [`crate::mesh::Event::RunHook`] follows.
    ///
    /// # Errors
    ///
    /// When a bound is reached, the path is taken, our own token does not permit serving an action of
    /// it, or the node stops.
    pub fn add_service(
        &mut self,
        now: Now,
        service: NewService,
    ) -> Result<ServiceKey, CommandError> {
        self.tick(now);
        if self.phase != Phase::Running {
            return Err(CommandError::Stopping);
        }
        let service = self.normalise_service(service)?;
        for action in &service.actions {
            self.access.may_we_all(self.now, Permission::Serve, &service.path, action)?;
        }
        let limits = &self.limits;
        let [description, type_name, version] = service.info.longest();
        let bounds = [
            (
                "bytes of a description",
                description,
                DESCRIPTION_BYTES_MAX,
                "document::DESCRIPTION_BYTES_MAX",
            ),
            (
                "bytes of a type's name",
                type_name,
                TYPE_NAME_BYTES_MAX,
                "document::TYPE_NAME_BYTES_MAX",
            ),
            ("bytes of a version", version, VERSION_BYTES_MAX, "document::VERSION_BYTES_MAX"),
            (
                "actions described",
                service.info.actions.len(),
                service.actions.len(),
                "the actions that there are",
            ),
            ("services", self.services.len() + 1, limits.services_max, "Limits::services_max"),
            (
                "actions of one service",
                service.actions.len(),
                limits.actions_per_service_max,
                "Limits::actions_per_service_max",
            ),
            (
                "bytes of service descriptions",
                self.services.document_bytes_with(&service),
                HEADER_BYTES_MAX / 2,
                "half of wire::HEADER_BYTES_MAX",
            ),
        ];
        for (what, count, max, limit) in bounds {
            if count > max {
                return Err(CommandError::TooManyServices { what, count, max, limit });
            }
        }
        if self.services.contains_path(&service.path) {
            return Err(CommandError::PathTaken(service.path));
        }
        let lease = match service.info.single_active {
            true => Some(self.lease_of(&service.path)?),
            false => None,
        };
        let capacity = service.capacity;
        let key = self.services.add(service, &mut self.draws);
        if let Some(lease) = lease {
            self.note_lease(key, lease);
        }
        if let Some(capacity) = capacity {
            self.feed_callee(CalleeInput::Limited { service: key, capacity });
        }
        self.feed_services(ServiceInput::Added(key));
        self.run();
        Ok(key)
    }

    /// A part of a service's life has ended.
    pub fn hook_done(
        &mut self,
        now: Now,
        service: ServiceKey,
        hook: Hook,
        result: Result<(), String>,
    ) {
        self.tick(now);
        self.feed_services(ServiceInput::HookDone { service, hook, result });
        self.run();
    }

    /// Lets a running service take no calls for now.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn pause_service(&mut self, now: Now, service: ServiceKey) -> Result<(), CommandError> {
        self.change_service(now, service, ServiceInput::Pause(service))
    }

    /// Lets a paused service take calls again.
    ///
    /// # Errors
    ///
    /// When it is not paused.
    pub fn resume_service(&mut self, now: Now, service: ServiceKey) -> Result<(), CommandError> {
        self.change_service(now, service, ServiceInput::Resume(service))
    }

    /// Ends a service's life. Its handlers that run may end; its `stop` follows.
    ///
    /// # Errors
    ///
    /// When its life is over.
    pub fn stop_service(&mut self, now: Now, service: ServiceKey) -> Result<(), CommandError> {
        self.change_service(now, service, ServiceInput::Stop(service))
    }

    pub(super) fn change_service(
        &mut self,
        now: Now,
        service: ServiceKey,
        input: ServiceInput,
    ) -> Result<(), CommandError> {
        self.tick(now);
        if !self.services.allows(&input) {
            let state = self.services.state(service);
            let state =
                state.map_or("over".to_string(), |state: ServiceState| format!("{state:?}"));
            return Err(CommandError::WrongState(state));
        }
        self.feed_services(input);
        self.run();
        Ok(())
    }

    /// Stops the node: it takes no new calls, its services stop, which its peers learn at once, and what is under
    /// way may end within [`crate::mesh::SHUTDOWN_GRACE`]: handlers that run, with the calls that they make, and
    /// calls made here. Then every link is closed and [`crate::mesh::Event::Stopped`] is the last event.
    pub fn shutdown(&mut self, now: Now) {
        self.tick(now);
        if self.phase != Phase::Running {
            return;
        }
        self.begin_shutdown();
        self.run();
    }

    /// No new work from here on.
    pub(super) fn begin_shutdown(&mut self) {
        self.phase = Phase::Stopping;
        self.local.stopping = true;
        self.timers.arm(self.now.mono + crate::mesh::SHUTDOWN_GRACE, NodeTimer::ShutdownGrace);
        self.feed_callee(CalleeInput::Refuse);
        self.leave_groups();
        let services: Vec<ServiceKey> = self.services.iter().map(|(key, _, _)| key).collect();
        for service in services {
            self.feed_services(ServiceInput::Stop(service));
        }
    }

    /// The key of a peer, known from now on; none if too many are.
    pub(super) fn peer_key(&mut self, id: PeerId) -> Option<crate::base::PeerKey> {
        if let Some(key) = self.by_id.get(&id) {
            return Some(*key);
        }
        if self.peers.len() >= self.limits.peers_max {
            return None;
        }
        let lanes = Lanes::new();
        let machine = Peer::new(id);
        let key = self.peers.insert(PeerEntry {
            id,
            machine,
            lanes,
            uncertain: Vec::new(),
            asked_on: None,
            accepts_bytes: usize::MAX,
            documents: Allowance::new(self.now.mono, self.limits.document_bytes_burst_max),
            lags_since: None,
            delegator: None,
        });
        self.by_id.insert(id, key);
        Some(key)
    }

    pub(super) fn feed_peer(&mut self, key: crate::base::PeerKey, input: PeerInput) {
        let Some(entry) = self.peers.get_mut(key) else { return };
        let wrap = |timer| NodeTimer::Peer(key, timer);
        let effect = |effect| Work::Peer(key, effect);
        feed!(self, entry.machine, &self.local, input, wrap, effect);
    }

    pub(super) fn feed_caller(&mut self, input: CallerInput) {
        feed!(self, self.caller, (), input, NodeTimer::Caller, Work::Caller);
    }

    pub(super) fn feed_callee(&mut self, input: CalleeInput) {
        feed!(self, self.callee, (), input, NodeTimer::Callee, Work::Callee);
    }

    pub(super) fn feed_services(&mut self, input: ServiceInput) {
        let never = |()| unreachable!("services arm no timers");
        feed!(self, self.services, (), input, never, Work::Service);
    }
}
