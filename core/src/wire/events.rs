//! Events and what is said of them, to and from the wire.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use dunlin_proto::events::{EVENTS_BYTES_MAX, Events, Place, write_event};
use dunlin_proto::{Frame, Header, v1};

use super::{SEQUENCE_MAX, WireFault, fault};
use crate::base::Limits;
use crate::directory::document::GROUP_BYTES_MAX;
use crate::events::ack::{DECLINED_MAX, Declined, EventAck, LANES, RETURNED_MAX, Returned};
use crate::events::group::GroupName;
use crate::payload::ContentType;
use crate::topic::{TopicMemory, TopicPath};

/// An event as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFrame {
    /// Its number among those of its publisher's life.
    pub sequence: u64,
    /// Its topic, as its publisher writes it.
    pub topic: TopicPath,
    /// How to read the payload.
    pub content: ContentType,
    /// Whether it is for subscribers that get every event.
    pub everyone: bool,
    /// Groups of which it is for one member each. None in a place means nobody.
    pub groups: Vec<Option<Box<str>>>,
    /// Services of which it is for one subscriber each, likewise.
    pub services: Vec<Option<TopicPath>>,
    /// Whether subscribers that belong to services get it only if theirs is named.
    pub one_per_service: bool,
    /// Another member was sent it before, and what became of it there is not known.
    pub redelivered: bool,
    /// What it carries.
    pub payload: Bytes,
}

/// Several events as they travel together, all of them for subscribers that get every event.
#[derive(Clone, Debug)]
pub struct EventsFrame {
    /// How many there are in all its runs. At least 1.
    pub count: u64,
    /// One after the other.
    pub runs: Vec<RunFrame>,
    /// What they carry is in here.
    pub bytes: Bytes,
}

/// Events in a row that have a topic in common.
#[derive(Clone, Debug)]
pub struct RunFrame {
    /// Their topic, as their publisher writes it.
    pub topic: TopicPath,
    /// How to read what they carry.
    pub content: ContentType,
    /// Of each its number among those of its publisher's life, and where in the frame's bytes what it carries is.
    pub events: Vec<(u64, Range<u32>)>,
}

/// Equal means the same events: where in the bytes they are, and what else is there, does not matter.
impl PartialEq for EventsFrame {
    fn eq(&self, other: &Self) -> bool {
        let runs = |frame: &EventsFrame| {
            let head = |run: &RunFrame| (run.topic.clone(), run.content, run.events.len());
            frame.runs.iter().map(head).collect::<Vec<_>>()
        };
        fn events(frame: &EventsFrame) -> impl Iterator<Item = (u64, &[u8])> {
            let events = frame.runs.iter().flat_map(|run| &run.events);
            events.map(|(sequence, carries)| {
                (*sequence, &frame.bytes[carries.start as usize..carries.end as usize])
            })
        }
        self.count == other.count && runs(self) == runs(other) && events(self).eq(events(other))
    }
}

impl Eq for EventsFrame {}

/// From which number on what follows on a lane counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsFrom {
    /// The stream.
    pub stream: u64,
    /// The number of the next frame.
    pub number: u64,
    /// Events of earlier streams that the sender lost sight of.
    pub lost: u64,
    /// Below this one the receiver has acknowledged all, and may have forgotten it.
    pub acknowledged: u64,
}

pub(super) fn parse(
    event: v1::Event,
    payload: Bytes,
    limits: &Limits,
    paths: &mut TopicMemory,
) -> Result<EventFrame, WireFault> {
    let wrong = |field, why: String| fault("Event", field, why);
    if event.sequence == 0 || event.sequence > SEQUENCE_MAX {
        return Err(wrong("sequence", format!("{}", event.sequence)));
    }
    let topic = paths.read(event.topic).map_err(|error| wrong("topic", error.to_string()))?;
    let named = event.groups.len() + event.services.len();
    if named > limits.subscriptions_per_peer_max {
        return Err(wrong("groups", format!("{named} of them and of services")));
    }
    let groups = event.groups.into_iter().map(|group| match group.len() {
        0 => Ok(None),
        bytes if bytes > GROUP_BYTES_MAX => Err(wrong("groups", format!("{bytes} bytes"))),
        _ => Ok(Some(group.into_boxed_str())),
    });
    let services = event.services.into_iter().map(|service| match service.as_str() {
        "" => Ok(None),
        service => TopicPath::parse(service)
            .map(Some)
            .map_err(|error| wrong("services", error.to_string())),
    });
    Ok(EventFrame {
        sequence: event.sequence,
        topic,
        content: ContentType(event.content_type),
        everyone: event.everyone,
        groups: groups.collect::<Result<_, _>>()?,
        services: services.collect::<Result<_, _>>()?,
        one_per_service: event.one_per_service,
        redelivered: event.redelivered,
        payload,
    })
}

pub(super) fn parse_events(
    header: v1::Events,
    bytes: Bytes,
    limits: &Limits,
    paths: &mut TopicMemory,
) -> Result<EventsFrame, WireFault> {
    let wrong = |field, why: String| fault("Events", field, why);
    if bytes.len() > EVENTS_BYTES_MAX {
        return Err(wrong("payload", format!("{} bytes", bytes.len())));
    }
    let mut runs = Vec::<RunFrame>::with_capacity(1);
    let (mut count, mut sequence) = (0, 0u64);
    for event in Events::new(bytes.clone()) {
        let (place, carries) = event.map_err(|error| wrong("payload", error.to_string()))?;
        if carries.len() > limits.message_bytes_max {
            return Err(wrong("payload", format!("an event carries {} bytes", carries.len())));
        }
        let carries = carries.start as u32..carries.end as u32;
        sequence = match place {
            Place::First(run) => {
                let topic = paths.read(run.topic);
                let topic = topic.map_err(|error| fault("EventRun", "topic", error.to_string()))?;
                let content = ContentType(run.content_type);
                // As many as there can be, or as many as are said to be left: whatever is less.
                let left = (header.count as usize).saturating_sub(count);
                let events = Vec::with_capacity(left.min(bytes.len() - carries.start as usize + 1));
                runs.push(RunFrame { topic, content, events });
                run.sequence
            }
            Place::Next(more) => sequence.saturating_add(more),
        };
        if sequence == 0 || sequence > SEQUENCE_MAX {
            return Err(fault("EventRun", "sequence", format!("{sequence}")));
        }
        runs.last_mut().expect("a run begins with the first").events.push((sequence, carries));
        count += 1;
    }
    if count == 0 || count != header.count as usize {
        return Err(wrong("count", format!("{} of {count} events", header.count)));
    }
    Ok(EventsFrame { count: count as u64, runs, bytes })
}

pub(super) fn parse_from(from: v1::EventsFrom) -> Result<EventsFrom, WireFault> {
    if from.stream == 0 || from.number == 0 || from.number > SEQUENCE_MAX {
        let why = format!("{} of stream {}", from.number, from.stream);
        return Err(fault("EventsFrom", "number", why));
    }
    if from.acknowledged > from.number {
        let why = "is more than the number";
        return Err(fault("EventsFrom", "acknowledged", why));
    }
    let v1::EventsFrom { stream, number, lost, acknowledged } = from;
    Ok(EventsFrom { stream, number, lost, acknowledged })
}

pub(super) fn parse_ack(ack: v1::EventAck, limits: &Limits) -> Result<EventAck, WireFault> {
    let count = ack.next.len();
    let Ok(next) = <[u64; LANES]>::try_from(ack.next) else {
        return Err(fault("EventAck", "next", format!("{count} lanes, not {LANES}")));
    };
    if ack.declined.len() > DECLINED_MAX {
        return Err(fault("EventAck", "declined", format!("{} of them", ack.declined.len())));
    }
    let declined = ack.declined.into_iter().map(|declined| {
        let lane = (declined.lane as usize).checked_sub(1).filter(|lane| *lane < LANES);
        let lane =
            lane.ok_or_else(|| fault("DeclinedEvent", "lane", format!("{}", declined.lane)))?;
        if declined.places.len() > limits.subscriptions_per_peer_max {
            let why = format!("{} of them", declined.places.len());
            return Err(fault("DeclinedEvent", "places", why));
        }
        Ok(Declined { lane, number: declined.number, places: declined.places })
    });
    let count = ack.returned.iter().map(|returned| returned.sequences.len()).sum::<usize>();
    if count > RETURNED_MAX || ack.returned.len() > RETURNED_MAX {
        return Err(fault("EventAck", "returned", format!("{count} of them")));
    }
    if count > 0 && ack.returned_from == 0 || ack.returned_from > SEQUENCE_MAX {
        return Err(fault("EventAck", "returned_from", format!("{}", ack.returned_from)));
    }
    let mut returned = Vec::with_capacity(count);
    for of_group in ack.returned {
        let wrong = |field, why: String| fault("ReturnedEvents", field, why);
        let group = match (of_group.group.len(), of_group.service.as_str()) {
            (0, service) => {
                let path = TopicPath::parse(service);
                GroupName::Service(path.map_err(|error| wrong("service", error.to_string()))?)
            }
            (1..=GROUP_BYTES_MAX, "") => GroupName::Group(of_group.group.into()),
            (bytes, _) => return Err(wrong("group", format!("{bytes} bytes"))),
        };
        let of = |sequence| Returned { group: group.clone(), sequence };
        returned.extend(of_group.sequences.into_iter().map(of));
    }
    Ok(EventAck {
        stream: ack.stream,
        next,
        again: ack.again,
        declined: declined.collect::<Result<_, _>>()?,
        nothing_came: ack.nothing_came,
        returned,
        returned_from: ack.returned_from,
        returned_next: ack.returned_next,
        is_last: ack.is_last,
    })
}

impl EventsFrame {
    /// The frame that says this.
    pub fn into_frame(self) -> Frame {
        let mut out = BytesMut::with_capacity(self.bytes.len());
        for run in self.runs {
            let mut last = None;
            for (sequence, carries) in run.events {
                let place = match last {
                    None => Place::First(v1::EventRun {
                        sequence,
                        topic: run.topic.as_bytes().clone(),
                        content_type: run.content.0,
                    }),
                    Some(last) => Place::Next(sequence - last),
                };
                let carries = &self.bytes[carries.start as usize..carries.end as usize];
                write_event(&place, carries, &mut out);
                last = Some(sequence);
            }
        }
        let header = Header::Events(v1::Events { count: self.count as u32 });
        Frame::with_payload(header, out.freeze())
    }
}

impl EventFrame {
    /// Names one more group, or service. Groups come before services.
    pub fn name(&mut self, group: &GroupName) {
        match group {
            GroupName::Group(name) => self.groups.push(Some((&**name).into())),
            GroupName::Service(path) => self.services.push(Some(path.clone())),
        }
    }

    /// The header that says this.
    pub fn header(&self) -> v1::Event {
        v1::Event {
            sequence: self.sequence,
            topic: self.topic.as_bytes().clone(),
            content_type: self.content.0,
            everyone: self.everyone,
            groups: self.groups.iter().map(|g| g.as_deref().unwrap_or_default().into()).collect(),
            services: self
                .services
                .iter()
                .map(|service| service.as_ref().map(ToString::to_string).unwrap_or_default())
                .collect(),
            one_per_service: self.one_per_service,
            redelivered: self.redelivered,
        }
    }
}

pub(super) fn ack_to_wire(ack: EventAck) -> v1::EventAck {
    let mut returned = Vec::<v1::ReturnedEvents>::new();
    let mut last = None;
    for Returned { group, sequence } in ack.returned {
        if last.as_ref() != Some(&group) {
            let (name, service) = match &group {
                GroupName::Group(name) => (name.to_string(), String::new()),
                GroupName::Service(path) => (String::new(), path.to_string()),
            };
            returned.push(v1::ReturnedEvents { group: name, service, sequences: Vec::new() });
            last = Some(group);
        }
        returned.last_mut().expect("just pushed").sequences.push(sequence);
    }
    v1::EventAck {
        stream: ack.stream,
        next: ack.next.to_vec(),
        again: ack.again,
        declined: ack
            .declined
            .into_iter()
            .map(|declined| v1::DeclinedEvent {
                lane: declined.lane as u32 + 1,
                number: declined.number,
                places: declined.places,
            })
            .collect(),
        nothing_came: ack.nothing_came,
        returned,
        returned_from: ack.returned_from,
        returned_next: ack.returned_next,
        is_last: ack.is_last,
    }
}
