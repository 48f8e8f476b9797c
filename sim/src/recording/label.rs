//! What things are called in a recording: short, and the same words everywhere.

use bytes::Bytes;
use dunlin_core::wire::{self, Message as Wire};
use dunlin_core::{Event, Limits};

use super::{About, Ending, Kind};
use crate::history::End;
use crate::schedule::{Action, Call, Deed, Touch};

/// What a frame is, and what it says.
pub(crate) fn frame(frame: &Bytes) -> (Kind, String) {
    let message = match wire::parse(frame.clone(), &Limits::default()) {
        Ok(message) => message,
        Err(fault) => return (Kind::Unreadable, fault.to_string()),
    };
    let none = String::new;
    match message {
        Wire::Hello(hello) => {
            let life = hello.life.incarnation.counter;
            (Kind::Hello, format!("life {life}, abandons {} links", hello.abandons.len()))
        }
        Wire::Claims { networks, .. } => (Kind::Claims, format!("{} networks", networks.len())),
        Wire::Confirm { version, directory, .. } => {
            (Kind::Confirm, format!("version {version}, {} entries", directory.entries.len()))
        }
        Wire::Directory(document) => {
            let entries = document.entries.len();
            (Kind::Directory, format!("all of version {}, {entries} entries", document.version))
        }
        Wire::Delta(delta) => (Kind::Directory, format!("changes to version {}", delta.version)),
        Wire::Heard(heard) => (Kind::Heard, format!("directory version {}", heard.version)),
        Wire::Heartbeat(_) => (Kind::Heartbeat, none()),
        Wire::Refuse { code, .. } => (Kind::Refuse, format!("code {code}")),
        Wire::Supersede { .. } => (Kind::Supersede, none()),
        Wire::Drained { .. } => (Kind::Drained, none()),
        Wire::Cut { frames, .. } => (Kind::Cut, format!("behind {frames} frames")),
        Wire::Call(call) => {
            let attempt = match call.attempt {
                1 => none(),
                n => format!(", attempt {n}"),
            };
            (Kind::Call, format!("#{} {}{attempt}", call.sequence, call.path))
        }
        Wire::Reply(reply) => {
            let code = match reply.error_code.as_str() {
                "" => none(),
                code => format!(" {code}"),
            };
            (Kind::Reply, format!("#{} {:?}{code}", reply.sequence, reply.status))
        }
        Wire::Cancel { sequence, .. } => (Kind::Cancel, format!("#{sequence}")),
        Wire::Event(event) => (Kind::Event, format!("#{} {}", event.sequence, event.topic)),
        Wire::Events(events) => {
            let run = &events.runs[0];
            let more = match events.count - 1 {
                0 => none(),
                more => format!(" and {more} more"),
            };
            (Kind::Event, format!("#{} {}{more}", run.events[0].0, run.topic))
        }
        Wire::EventsFrom(from) => (Kind::EventsFrom, format!("number {} on", from.number)),
        Wire::EventsSkipped { count } => (Kind::EventsSkipped, format!("{count}")),
        Wire::EventAck(_) => (Kind::EventAck, none()),
        Wire::LeaseRequest(request) => (Kind::Lease, format!("{:?}", request.ask)),
        Wire::LeaseAnswer(answer) => (Kind::Lease, format!("{:?}", answer.answered)),
        Wire::LeaseLearn(..) => (Kind::Lease, "asks what is promised".into()),
        Wire::LeaseSeal(_, seal) => (Kind::Lease, format!("is epoch {} sealed?", seal.of)),
        Wire::LeaseSealed(_, sealed) => {
            let is = if sealed.runs_for.is_some() { "is" } else { "is not" };
            (Kind::Lease, format!("epoch {} {is} sealed", sealed.seal.of))
        }
        Wire::LeaseLearned(part) => {
            (Kind::Lease, format!("{} rounds that are promised", part.learned.rounds.len()))
        }
        Wire::Skippable => (Kind::Unreadable, "of a later version".into()),
    }
}

/// What a datagram is, by the first byte of QUIC's headers (RFC 9000, section 17). Kinds of a coalesced datagram
/// are named by the first of its packets.
pub(crate) fn datagram(data: &[u8]) -> Kind {
    match data.first() {
        Some(first) if first & 0x80 != 0 => match first >> 4 & 3 {
            0 => Kind::QuicInitial,
            2 => Kind::QuicHandshake,
            3 => Kind::QuicRetry,
            _ => Kind::QuicData,
        },
        _ => Kind::QuicData,
    }
}

/// What an event of a node is about.
pub(crate) fn about(event: &Event) -> About {
    match event {
        Event::CallEnded { .. }
        | Event::CallRetried { .. }
        | Event::CallHedged { .. }
        | Event::Invoke(_)
        | Event::InvocationCancelled(_) => About::Call,
        Event::RunHook { .. }
        | Event::ServiceState { .. }
        | Event::Leader { .. }
        | Event::AcceptorReady { .. }
        | Event::AcceptorsNamed { .. }
        | Event::AcceptorsOutdated { .. } => About::Service,
        Event::PeerUp { .. }
        | Event::PeerServices { .. }
        | Event::DirectoryAcknowledged { .. }
        | Event::PeerDown { .. }
        | Event::PeerRefused { .. }
        | Event::DialFailed { .. }
        | Event::LinkSuperseded { .. }
        | Event::PeerMisbehaved { .. } => About::Peer,
        Event::SubscriptionReady(_)
        | Event::SubscriptionOver(_)
        | Event::PublishRoom
        | Event::PublishEnded { .. }
        | Event::GroupEventsLost { .. }
        | Event::EventsLost { .. } => About::Event,
        Event::LifeBegan { .. }
        | Event::NewerSelf { .. }
        | Event::StoreFailed { .. }
        | Event::Stopped => About::Life,
        Event::ClaimIgnored { .. }
        | Event::NetworkLeft { .. }
        | Event::NetworkEnded { .. }
        | Event::NetworkOutdated { .. } => About::Rights,
    }
}

fn call(call: &Call) -> String {
    let what = match call.action {
        Action::Echo => "echo".to_string(),
        Action::Bulk => "bulk".into(),
        Action::Sleep { ms } => format!("sleep for {ms} ms"),
        Action::Relay { service, target: None } => format!("relay to s{service}"),
        Action::Relay { service, target: Some(node) } => format!("relay to s{service} at n{node}"),
        Action::Refuse => "refuse".into(),
        Action::Panic => "panic".into(),
        Action::Register { key, what, ms } => {
            let what = match what {
                Touch::Read => "read",
                Touch::ReadStored => "read the store of",
                Touch::Write => "write",
                Touch::CompareAndSet => "compare and set",
            };
            format!("{what} register {key} in {ms} ms")
        }
    };
    let target = call.target.map_or(String::new(), |node| format!(" at n{node}"));
    let idempotent = if call.idempotent { ", idempotent" } else { "" };
    let hedge = call.hedge_ms.map_or(String::new(), |ms| format!(", hedged after {ms} ms"));
    let cancel =
        call.cancel_after_ms.map_or(String::new(), |ms| format!(", dropped after {ms} ms"));
    format!("s{}/{what}{target}, {} ms{idempotent}{hedge}{cancel}", call.service, call.timeout_ms)
}

/// What a user does.
pub(crate) fn deed(deed: &Deed) -> String {
    match deed {
        Deed::Call(what) => call(what),
        Deed::Stream(stream) => {
            let target = stream.target.map_or(String::new(), |node| format!(" at n{node}"));
            format!("streams {} items to s{}{target}", stream.items, stream.service)
        }
        Deed::Publish(event) => {
            let target = event.target.map_or(String::new(), |node| format!(" to n{node}"));
            let confirm =
                event.confirm_ms.map_or(String::new(), |ms| format!(", confirmed in {ms} ms"));
            let local = if event.local { ", local" } else { "" };
            format!("{}{target}{confirm}{local}", event.topic)
        }
        Deed::Subscribe(subscriber) => {
            let group =
                subscriber.group.map_or(String::new(), |group| format!(" in group g{group}"));
            format!("subscribes to {}{group}", subscriber.pattern)
        }
        Deed::PauseService { service } => format!("pauses s{service}"),
        Deed::ResumeService { service } => format!("resumes s{service}"),
        Deed::StopService { service } => format!("stops s{service}"),
        Deed::StartService { service } => format!("starts s{service}"),
        Deed::StepDown { service } => format!("has s{service} step down"),
        Deed::Disconnect { peer } => format!("lets go of n{peer}"),
        Deed::Connect { peer } => format!("wants n{peer}"),
    }
}

/// How a call ended.
pub(crate) fn end_of_call(end: &End) -> (Ending, String) {
    match end {
        End::Answered { by, .. } => (Ending::Done, format!("answered by {by}")),
        End::Refused { code } => (Ending::Refused, format!("error {code}")),
        End::Failed { failure, executed } => {
            (Ending::Failed, format!("{} (executed: {executed})", failure.code()))
        }
    }
}
