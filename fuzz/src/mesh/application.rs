//! What the application asks of services, calls and peers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::directory::ServiceInfo;
use dunlin_core::directory::local::NewService;
use dunlin_core::mesh::CommandError;
use dunlin_core::rpc::AppError;
use dunlin_core::rpc::admission::Capacity;
use dunlin_core::rpc::callee::HandlerError;
use dunlin_core::service::{ContentType, Payload, PayloadError, Value};
use dunlin_core::topic::{Pattern, TopicPath};
use dunlin_core::{CallRequest, Target};

use super::{PATHS, PEERS, SERVICES, World, op, peer_id};
use crate::tape::Tape;

/// A value that has no encoded form.
pub(super) struct Unwritable;

impl Value for Unwritable {
    fn encode(&self) -> Result<(ContentType, Bytes), PayloadError> {
        Err(PayloadError::Encode { content: ContentType::JSON, why: "never".into() })
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
}

impl World {
    /// Whether it is a step of this kind.
    pub(super) fn application_asks(&mut self, which: u8, tape: &mut Tape<'_>) -> bool {
        let now = self.now();
        match which {
            op::CONNECT => {
                let peer = tape.pick(PEERS);
                let address = "10.0.0.1:1".parse().expect("an address");
                let addresses = vec![address; tape.pick(3)];
                let result = self.mesh.connect(now, peer_id(peer), addresses);
                match result {
                    Ok(()) => {
                        assert!(peer != 0);
                        self.kept.insert(peer);
                    }
                    Err(CommandError::OwnId(_)) => assert_eq!(peer, 0),
                    Err(CommandError::Stopping | CommandError::TooManyPeers(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            op::DISCONNECT => {
                let peer = tape.pick(PEERS);
                self.kept.remove(&peer);
                self.mesh.disconnect(now, peer_id(peer));
            }
            op::START_CALL => self.start_call(tape),
            op::CANCEL_CALL => {
                let calls: Vec<_> = self.calls.iter().copied().collect();
                if let Some(call) = tape.pick_in(&calls) {
                    self.mesh.cancel(now, *call);
                }
            }
            op::RESPOND => {
                let runs: Vec<_> = self.runs.iter().copied().collect();
                if let Some(run) = tape.pick_in(&runs) {
                    let result = handler_result(tape);
                    self.runs.remove(run);
                    self.mesh.respond(now, *run, result);
                }
            }
            op::ADD_SERVICE => {
                let (path, actions) = SERVICES[tape.pick(SERVICES.len())];
                let service = NewService {
                    path: TopicPath::parse(path).expect("a path"),
                    actions: actions
                        .iter()
                        .map(|action| Pattern::parse(action).expect("a pattern"))
                        .collect(),
                    info: ServiceInfo::default(),
                    capacity: match tape.pick(4) {
                        3 => Some(Capacity::new(tape.pick(3), tape.pick(4))),
                        _ => None,
                    },
                };
                if let Ok(key) = self.mesh.add_service(now, service) {
                    self.services.insert(key);
                }
            }
            op::HOOK_DONE => {
                if !self.hooks.is_empty() {
                    let (service, hook) = self.hooks.remove(tape.pick(self.hooks.len()));
                    let result = if tape.pick(5) == 4 { Err("fuzzed".into()) } else { Ok(()) };
                    self.mesh.hook_done(now, service, hook, result);
                }
            }
            which @ (op::PAUSE | op::RESUME | op::STOP_SERVICE) => {
                let services: Vec<_> = self.services.iter().copied().collect();
                if let Some(service) = tape.pick_in(&services) {
                    // Whether its state allows it is the mesh's to say.
                    let _ = match which {
                        op::PAUSE => self.mesh.pause_service(now, *service),
                        op::RESUME => self.mesh.resume_service(now, *service),
                        _ => self.mesh.stop_service(now, *service),
                    };
                }
            }
            op::SHUTDOWN => self.mesh.shutdown(now),
            _ => return false,
        }
        true
    }

    fn start_call(&mut self, tape: &mut Tape<'_>) {
        let path = PATHS[tape.pick(PATHS.len())];
        let mut request = CallRequest::new(
            TopicPath::parse(path).expect("a path"),
            match tape.byte() {
                255 => Payload::Value(Arc::new(Unwritable)),
                254 => Payload::value("a value"),
                bytes => Payload::raw(vec![7; usize::from(bytes)]),
            },
        );
        let flags = tape.byte();
        request.idempotent = flags & 1 != 0;
        request.retry = flags & 64 == 0;
        if flags & 2 != 0 {
            request.target = Target::Peer(peer_id(usize::from(flags >> 2) % PEERS));
        }
        request.timeout = Duration::from_millis(250 * u64::from(tape.byte()));
        match self.mesh.call(self.now(), request) {
            Ok(call) => assert!(self.calls.insert(call), "keys of open calls differ"),
            Err(error) => assert!(
                matches!(
                    error,
                    CommandError::TooManyCalls { .. }
                        | CommandError::TooManyBytes { .. }
                        | CommandError::TooLarge { .. }
                        | CommandError::Stopping
                ),
                "{error}"
            ),
        }
    }
}

fn handler_result(tape: &mut Tape<'_>) -> Result<Payload, HandlerError> {
    match tape.byte() {
        255 => Err(HandlerError::Application(AppError::new("CODE", "text"))),
        254 => Err(HandlerError::BadRequest("no number".into())),
        253 => Err(HandlerError::Failed("it panicked".into())),
        252 => Ok(Payload::Value(Arc::new(Unwritable))),
        251 => Ok(Payload::value("a value")),
        bytes => Ok(Payload::raw(vec![9; usize::from(bytes)])),
    }
}
