//! What must hold after every step, and at the end.

use dunlin_core::link::{DownReason, FrameSource, Lane, LinkCommand, LinkInput};
use dunlin_core::service::Payload;
use dunlin_core::{Event, WakeReason};

use super::{LONG, PEERS, World, peer_id};
use crate::rights;

/// With the small limits: two services announced, a Hello and a Confirm; five calls and what is
/// abandoned of the peer's credit; twice the answers to the credit of two.
const FRAMES_QUEUED_MAX: usize = 64;

impl World {
    /// Drains the mesh to the end and checks what it says.
    pub(super) fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "work never ends");
            self.drain();
            match self.mesh.next_wake() {
                Some(wake) if wake.reason == WakeReason::Unfinished => {
                    let now = self.now();
                    self.mesh.handle_timeout(now);
                }
                _ => break,
            }
        }
        self.mesh.check_invariants();
        let load = self.mesh.load();
        assert_eq!(load.calls_open, self.calls.len(), "open calls are those not ended");
        assert_eq!(load.links, self.links.len(), "links are those that are up");
        assert_eq!(load.dials, self.dials.len(), "dials are those asked for and not ended");
        assert_eq!(load.events_queued, 0);
        if !self.stopped {
            assert_eq!(load.invocations, self.runs.len(), "runs are those not ended");
        }
        for link in &self.links {
            if self.mesh.next_lane(link.handle, Lane::CONTROL).is_some() {
                assert!(link.announced, "frames that nobody was told of are never pulled");
            }
        }
        if self.limits.calls_open_max < 100 {
            // Control messages, calls and their cancelling, and answers, each once for each link.
            let bound = load.links * FRAMES_QUEUED_MAX;
            assert!(load.frames_queued <= bound, "{} frames wait", load.frames_queued);
        }
        // For each link its handshake, or two of its drain. For each peer a redial, a heartbeat and the end of
        // its rights; our own rights, the sweep and the grace of a stop.
        let timers =
            load.calls_open + load.invocations + load.publications + 2 * load.links + 3 * PEERS + 3;
        assert!(load.timers <= timers, "{} timers for {load:?}", load.timers);
    }

    fn drain(&mut self) {
        while let Some(command) = self.mesh.poll_link_command() {
            match command {
                LinkCommand::Dial { dial, peer, addresses } => {
                    assert!(!addresses.is_empty() && peer != peer_id(0));
                    assert!(self.dials.iter().all(|(d, _)| *d < dial), "dials count up");
                    self.dials.push((dial, peer));
                }
                LinkCommand::CancelDial { dial } => self.dials.retain(|(d, _)| *d != dial),
                LinkCommand::Close { link, .. } => {
                    let known = self.links.iter().position(|l| l.handle == link);
                    self.links.remove(known.expect("only links that are up are closed"));
                }
                LinkCommand::FramesReady { link } => {
                    if let Some(link) = self.links.iter_mut().find(|l| l.handle == link) {
                        link.announced = true;
                    }
                }
                LinkCommand::Trust { .. } | LinkCommand::ResetLane { .. } => {}
            }
        }
        while let Some(event) = self.mesh.poll_event() {
            assert!(!self.stopped, "{event:?} after the last event");
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::CallEnded { call, .. } => {
                assert!(self.calls.remove(&call), "a call ends once");
            }
            Event::Invoke(run) => {
                assert!(self.runs.insert(run.invocation), "keys of runs differ");
                assert!(self.services.contains(&run.asked.route.service));
                if let Some(caller) = run.caller
                    && !self.mesh.access().is_development()
                {
                    let wall = self.now().wall;
                    assert!(
                        rights::may_call(caller, &run.asked.path, wall),
                        "a call without a right"
                    );
                }
                if run.caller.is_some()
                    && let Payload::Encoded { bytes, .. } = &run.asked.payload
                    && bytes.len() >= 25
                {
                    let word = |at: usize| {
                        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
                    };
                    let until = self.ran.insert((bytes[0], word(1), word(9)), word(17));
                    // Who asks in good faith does not ask again after it has given up.
                    assert!(until.is_none_or(|until| until <= self.mono), "a call runs once");
                }
            }
            Event::InvocationCancelled(run) => {
                assert!(self.runs.remove(&run), "a run that goes on is cancelled, once");
            }
            Event::RunHook { service, hook } => self.hooks.push((service, hook)),
            Event::ServiceState { service, state, .. } => {
                use dunlin_core::directory::ServiceState::{Failed, Stopped};
                if matches!(state, Stopped | Failed) {
                    assert!(self.services.remove(&service), "a life ends once");
                }
            }
            Event::PeerUp { peer, .. } => assert!(self.up.insert(peer), "up once"),
            Event::PeerDown { peer, .. } => assert!(self.up.remove(&peer), "down once"),
            Event::SubscriptionReady(key) => self.events.subscription_ready(key),
            Event::PublishEnded { publication, .. } => self.events.publish_ended(publication),
            Event::CallRetried { .. }
            | Event::CallHedged { .. }
            | Event::PublishRoom
            | Event::EventsLost { .. }
            | Event::GroupEventsLost { .. }
            | Event::SubscriptionOver(_)
            | Event::PeerServices { .. }
            | Event::DirectoryAcknowledged { .. }
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
            | Event::Leader { .. }
            | Event::AcceptorReady { .. }
            | Event::AcceptorsNamed { .. }
            | Event::AcceptorsOutdated { .. }
            | Event::StoreFailed { .. } => {}
            Event::Stopped => {
                self.stopped = true;
                assert!(self.calls.is_empty(), "every call has ended");
                assert!(self.up.is_empty(), "every link is closed");
            }
        }
    }

    /// Everybody goes, time passes, and nothing is left; then the node stops.
    pub(super) fn finish(&mut self) {
        self.behind = 0;
        while let Some(link) = self.links.pop() {
            let reason = DownReason::TimedOut;
            self.mesh.handle_link(self.now(), LinkInput::Down { link: link.handle, reason });
            self.settle();
        }
        for peer in std::mem::take(&mut self.kept) {
            self.mesh.disconnect(self.now(), peer_id(peer));
            self.settle();
        }
        for _ in 0..3 {
            self.mono += LONG;
            self.mesh.handle_timeout(self.now());
            self.settle();
        }
        let load = self.mesh.load();
        assert!(self.calls.is_empty(), "every call has a deadline");
        assert_eq!((load.links, load.dials, load.frames_queued), (0, 0, 0));
        assert_eq!(load.peers, 0, "nobody is remembered for ever");
        assert_eq!((load.publications, load.events_unacknowledged), (0, 0));
        assert_eq!(self.mesh.interest(), 0, "nobody is left to wish for anything");
        self.events.check_ended();
        assert!(self.up.is_empty());
        if !self.stopped {
            assert_eq!(load.invocations, 0, "every run has a deadline");
            assert_eq!(load.timers, usize::from(self.mesh.next_wake().is_some()));
        }
        self.mesh.shutdown(self.now());
        self.settle();
        self.mono += LONG;
        self.mesh.handle_timeout(self.now());
        self.settle();
        assert!(self.stopped, "a node that is to stop stops");
        // What comes late is not heard.
        for run in std::mem::take(&mut self.runs) {
            self.mesh.respond(self.now(), run, Ok(Payload::raw("late")));
        }
        for (service, hook) in std::mem::take(&mut self.hooks) {
            self.mesh.hook_done(self.now(), service, hook, Ok(()));
        }
        self.settle();
        assert_eq!(self.mesh.next_wake(), None);
    }
}
