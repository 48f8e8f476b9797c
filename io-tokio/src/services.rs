//! Services of a running node: adding, pausing, resuming, ending them.

use std::sync::Arc;

use dunlin_core::base::ServiceKey;
use dunlin_core::directory::ServiceState;
use dunlin_core::lease::Hold;
use dunlin_core::mesh::{CommandError, Mesh};
use dunlin_core::service::Service;
use dunlin_core::service::host::AddServiceError;
use dunlin_core::topic::TopicPath;
use dunlin_core::{Now, PeerId};

use crate::builder::register;
use crate::driver::Desk;
use crate::events::{Events, NodeEvent};
use crate::node::{Node, ask};

/// Why a service does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// It was not registered.
    #[error("the service was not registered: {0}")]
    NotAdded(#[from] AddServiceError),
    /// Its `init` or `start` failed; it is gone.
    #[error("the service '{path}' did not start: {why}")]
    Failed {
        /// Its path.
        path: TopicPath,
        /// What its hook said.
        why: String,
    },
    /// It cannot do that now.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// A service that was just registered.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    pub(crate) key: ServiceKey,
    pub(crate) path: TopicPath,
}

/// A service of a node. Dropping it changes nothing.
#[derive(Clone)]
pub struct ServiceHandle {
    desk: Arc<Desk>,
    added: Added,
}

impl Node {
    /// Registers a service and waits until it runs; a single-active one, until it runs or stands by.
    ///
    /// # Errors
    ///
    /// When its description is not well-formed, its path is taken, a limit is reached, or its `init` or
    /// `start` fails.
    pub async fn add_service(&self, service: impl Service) -> Result<ServiceHandle, ServiceError> {
        let desk = Arc::clone(self.desk());
        let service: Arc<dyn Service> = Arc::new(service);
        let (added, mut events) =
            ask(self.desk(), move |core, host, now| register(core, host, &desk, now, service))
                .await
                .ok_or(ServiceError::Stopped)??;
        self.until_running(&mut events, &added).await?;
        Ok(self.service_handle(added))
    }

    /// The service that was registered with this path, if its life is not over.
    pub async fn service(&self, path: &str) -> Option<ServiceHandle> {
        let path = TopicPath::parse(path).ok()?;
        let added = ask(self.desk(), move |core, _, _| {
            let mut services = core.mesh().services().iter();
            services
                .find(|(_, known, _)| **known == path)
                .map(|(key, ..)| Added { key, path: path.clone() })
        });
        added.await.flatten().map(|added| self.service_handle(added))
    }

    fn service_handle(&self, added: Added) -> ServiceHandle {
        ServiceHandle { desk: Arc::clone(self.desk()), added }
    }

    pub(crate) async fn until_running(
        &self,
        events: &mut Events,
        added: &Added,
    ) -> Result<(), ServiceError> {
        // A single-active service stands by, and may do so for long.
        let runs = |state| matches!(state, ServiceState::Running | ServiceState::Standby);
        let why = until(self.desk(), events, added, runs).await?;
        match why {
            None => Ok(()),
            Some(why) => Err(ServiceError::Failed { path: added.path.clone(), why }),
        }
    }
}

/// Waits for a state. Gives what went wrong if the service's life ends in failure.
pub(crate) async fn until(
    desk: &Desk,
    events: &mut Events,
    added: &Added,
    wanted: impl Fn(ServiceState) -> bool,
) -> Result<Option<String>, ServiceError> {
    let mut last_error = None;
    loop {
        let state = match events.next().await {
            Some(NodeEvent::ServiceState { service, state, error, .. }) if service == added.key => {
                // A failing hook's word comes before the state that ends it.
                last_error = error.or(last_error);
                state
            }
            Some(NodeEvent::Lagged { .. }) => {
                let key = added.key;
                let state = ask(desk, move |core, _, _| core.mesh().services().state(key)).await;
                match state.ok_or(ServiceError::Stopped)? {
                    Some(state) => state,
                    // Over, and nobody knows how.
                    None => return Ok(Some("its life has ended".into())),
                }
            }
            Some(NodeEvent::Stopped) | None => return Err(ServiceError::Stopped),
            Some(_) => continue,
        };
        if wanted(state) {
            return Ok(None);
        }
        if matches!(state, ServiceState::Failed | ServiceState::Stopped) {
            return Ok(Some(last_error.unwrap_or_else(|| "it was stopped".into())));
        }
    }
}

impl ServiceHandle {
    /// Its path.
    pub fn path(&self) -> &TopicPath {
        &self.added.path
    }

    /// Where it is in its life; none once that is over, or the node has stopped.
    pub async fn state(&self) -> Option<ServiceState> {
        let key = self.added.key;
        ask(&self.desk, move |core, _, _| core.mesh().services().state(key)).await.flatten()
    }

    /// Takes no calls for now: callers are told that it is unavailable.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub async fn pause(&self) -> Result<(), ServiceError> {
        self.change(Mesh::pause_service).await
    }

    /// Takes calls again.
    ///
    /// # Errors
    ///
    /// When it is not paused.
    pub async fn resume(&self) -> Result<(), ServiceError> {
        self.change(Mesh::resume_service).await
    }

    /// Of a single-active service: whether it is active at this moment, by which token, and until when unless that is
    /// renewed. To be asked at the moment of acting, and never to be remembered; handlers ask their
    /// [`dunlin_core::service::Context`].
    pub async fn hold(&self) -> Option<Hold> {
        let key = self.added.key;
        ask(&self.desk, move |core, _, now| core.mesh().hold(now.mono, key)).await.flatten()
    }

    /// Of a single-active service: where it is active, as far as this node knows.
    pub async fn leader(&self) -> Option<PeerId> {
        let key = self.added.key;
        ask(&self.desk, move |core, _, _| core.mesh().leader_of(key)).await.flatten()
    }

    /// Of a single-active service: lets another instance be the active one.
    ///
    /// # Errors
    ///
    /// When it is not active.
    pub async fn step_down(&self) -> Result<(), ServiceError> {
        self.change(Mesh::step_down).await
    }

    /// Ends its life, and waits until its `stop` has run. Handlers that run may end.
    ///
    /// # Errors
    ///
    /// When its life is over.
    pub async fn stop(&self) -> Result<(), ServiceError> {
        let mut events = self.desk.feed.subscribe_to(self.added.key);
        self.change(Mesh::stop_service).await?;
        until(&self.desk, &mut events, &self.added, |state| state == ServiceState::Stopped).await?;
        Ok(())
    }

    async fn change(
        &self,
        how: impl FnOnce(&mut Mesh, Now, ServiceKey) -> Result<(), CommandError> + Send + 'static,
    ) -> Result<(), ServiceError> {
        let key = self.added.key;
        let changed = ask(&self.desk, move |core, _, now| how(core.mesh_mut(), now, key)).await;
        Ok(changed.ok_or(ServiceError::Stopped)??)
    }
}

impl std::fmt::Debug for ServiceHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServiceHandle({})", self.added.path)
    }
}
