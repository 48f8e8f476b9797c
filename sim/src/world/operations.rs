//! What the schedule has clients, services and connections do.

use dunlin_core::Mesh;
use dunlin_core::service::BoxFuture;

use crate::log::log;
use crate::schedule::{Deed, Operation};
use crate::trace::Step;
use crate::world::{Fidelity, World};

impl<F: Fidelity> World<'_, F> {
    /// Runs application code at a node.
    pub(crate) fn spawn(&mut self, index: usize, task: BoxFuture<()>) {
        let now = self.time_at(index);
        if let Some(live) = &mut self.stations[index].live {
            live.host.spawn(now, F::mesh_mut(&mut live.door), task);
            self.touch(index);
        }
    }

    /// Whether the next operation is an event of the same node at the same time.
    fn is_next_published_with(&self, index: usize) -> bool {
        let operations = &self.schedule.operations;
        operations.get(index + 1).is_some_and(|next| {
            let same = |of: &Operation| (of.at_us, of.node);
            matches!(next.what, Deed::Publish(_)) && same(next) == same(&operations[index])
        })
    }

    pub(super) fn operate(&mut self, index: usize) {
        let operation = &self.schedule.operations[index];
        let at = usize::from(operation.node);
        let now = self.time_at(at);
        let info = self.info(at);
        let there = match operation.what {
            Deed::Connect { peer } => Some(self.stations[usize::from(peer)].address),
            _ => None,
        };
        let station = &mut self.stations[at];
        let Some(live) = &mut station.live else { return };
        if station.paused.is_some() || station.hostile.is_some() {
            // The client is paused too, or gone.
            return;
        }
        self.trace.note_given(Step::Operation, self.now, at, index as u64, 0);
        if self.tape.is_on() {
            self.tape.deed(self.now, at, &operation.what);
        }
        let mesh = F::mesh_mut(&mut live.door);
        let find = |mesh: &Mesh, number: u16| {
            let path = format!("s{number}");
            mesh.services().iter().find(|(_, p, _)| p.path() == path).map(|(key, ..)| key)
        };
        match &operation.what {
            Deed::Call(call) => {
                if let Some(task) = self.workload.perform(&info, call, live.host.handle()) {
                    log!(self, Some(at), "client (call {}): {call:?}", self.ledger.counts().0 + 1);
                    return self.spawn(at, task);
                }
            }
            Deed::Stream(stream) => {
                if let Some(task) = self.workload.stream(&info, stream, live.host.handle()) {
                    log!(self, Some(at), "{stream:?}");
                    return self.spawn(at, task);
                }
            }
            Deed::Publish(event) => {
                if let Some(task) = self.workload.publish(&info, event, live.host.handle()) {
                    log!(self, Some(at), "event {}: {event:?}", self.ledger.event_counts().0 + 1);
                    live.host.spawn(now, mesh, task);
                    // What is published at one time goes out at one time.
                    if !self.is_next_published_with(index) {
                        self.touch(at);
                    }
                    return;
                }
            }
            Deed::Subscribe(subscriber) => {
                if let Some(task) = self.workload.subscribe(&info, subscriber, live.host.handle()) {
                    log!(self, Some(at), "{subscriber:?}");
                    return self.spawn(at, task);
                }
            }
            Deed::PauseService { service } => {
                if let Some(key) = find(mesh, *service) {
                    // It may not be running.
                    let _ = mesh.pause_service(now, key);
                }
            }
            Deed::ResumeService { service } => {
                if let Some(key) = find(mesh, *service) {
                    let _ = mesh.resume_service(now, key);
                }
            }
            Deed::StopService { service } => {
                if let Some(key) = find(mesh, *service) {
                    let _ = mesh.stop_service(now, key);
                }
            }
            Deed::StepDown { service } => {
                if let Some(key) = find(mesh, *service) {
                    // It may not be active.
                    let _ = mesh.step_down(now, key);
                }
            }
            Deed::StartService { service } => {
                if let Some(service) = self.workload.service(&info, *service) {
                    // The path may be taken, and the node may stop.
                    let _ = live.host.add_service(now, mesh, service);
                }
            }
            Deed::Disconnect { peer } => {
                station.keeps.remove(peer);
                mesh.disconnect(now, self.peers[usize::from(*peer)]);
            }
            Deed::Connect { peer } => {
                let to = usize::from(*peer);
                let there = there.into_iter().collect();
                if mesh.connect(now, self.peers[to], there).is_ok() {
                    station.keeps.insert(*peer);
                }
            }
        }
        log!(self, Some(at), "{:?}", operation.what);
        self.touch(at);
    }
}
