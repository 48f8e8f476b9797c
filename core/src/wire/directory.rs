//! Documents of what nodes make known, and changes of them, to and from the wire.

use std::collections::BTreeSet;
use std::sync::Arc;

use dunlin_proto::v1;
use semver::Version;

use super::{WireFault, fault};
use crate::base::{FewMap, Limits};
use crate::directory::document::{
    DESCRIPTION_BYTES_MAX, GROUP_BYTES_MAX, MEMBERS_MAX, TYPE_NAME_BYTES_MAX, VERSION_BYTES_MAX,
};
use crate::directory::vitals::Vitals;
use crate::directory::{
    ActionInfo, Delta, Document, Entry, EntryKey, OfferState, ServiceInfo, ServiceOffer, Spread,
    SubscriptionOffer,
};
use crate::lease::Token;
use crate::payload::ContentType;
use crate::topic::{Pattern, TopicPath};

pub(super) fn parse(directory: v1::Directory, limits: &Limits) -> Result<Document, WireFault> {
    check_count("Directory", directory.services.len(), limits)?;
    if directory.incremental && directory.version == 0 {
        return Err(fault("Directory", "version", "zero"));
    }
    let mut entries = FewMap::default();
    for (index, mut service) in directory.services.into_iter().enumerate() {
        if !directory.incremental {
            // Whoever knows no keys sends the whole each time, so that any will do.
            service.key = index as u64 + 1;
        }
        let (key, entry) = parse_service(service, limits)?;
        if entries.insert(key, entry).is_some() {
            return Err(fault("Service", "key", format!("{key:?} comes twice")));
        }
    }
    check_subscriptions("Directory", directory.subscriptions.len(), limits)?;
    for subscription in directory.subscriptions {
        let (key, entry) = parse_subscription(subscription)?;
        if entries.insert(key, entry).is_some() {
            return Err(fault("Subscription", "key", format!("{key:?} comes twice")));
        }
    }
    Ok(Document { version: directory.version, entries, incremental: directory.incremental })
}

pub(super) fn parse_delta(delta: v1::Delta, limits: &Limits) -> Result<Delta, WireFault> {
    if delta.base == 0 || delta.version < delta.base {
        let why = format!("from version {} to {}", delta.base, delta.version);
        return Err(fault("Delta", "base", why));
    }
    check_count("Delta", delta.services.len(), limits)?;
    let mut keys = BTreeSet::new();
    let mut unique = |key: EntryKey| match keys.insert(key) {
        true => Ok(key),
        false => Err(fault("Delta", "services", format!("{key:?} comes twice"))),
    };
    let mut put = Vec::with_capacity(delta.services.len());
    for service in delta.services {
        let (key, entry) = parse_service(service, limits)?;
        put.push((unique(key)?, entry));
    }
    check_subscriptions("Delta", delta.subscriptions.len(), limits)?;
    for subscription in delta.subscriptions {
        let (key, entry) = parse_subscription(subscription)?;
        put.push((unique(key)?, entry));
    }
    let services = delta.removed_services.into_iter().map(EntryKey::Service);
    let subscriptions = delta.removed_subscriptions.into_iter().map(EntryKey::Subscription);
    let removed: Result<_, _> = services.chain(subscriptions).map(unique).collect();
    Ok(Delta { base: delta.base, version: delta.version, put, removed: removed? })
}

fn check_count(message: &'static str, count: usize, limits: &Limits) -> Result<(), WireFault> {
    if count > limits.services_per_peer_max {
        return Err(fault(message, "services", format!("{count} of them")));
    }
    Ok(())
}

fn check_subscriptions(
    message: &'static str,
    count: usize,
    limits: &Limits,
) -> Result<(), WireFault> {
    if count > limits.subscriptions_per_peer_max {
        return Err(fault(message, "subscriptions", format!("{count} of them")));
    }
    Ok(())
}

fn parse_subscription(subscription: v1::Subscription) -> Result<(EntryKey, Entry), WireFault> {
    let wrong = |field, why: String| fault("Subscription", field, why);
    if subscription.key == 0 {
        return Err(wrong("key", "zero".to_string()));
    }
    let pattern = Pattern::parse(&subscription.pattern)
        .map_err(|error| wrong("pattern", error.to_string()))?;
    let mut offer = SubscriptionOffer::new(pattern);
    if subscription.group.len() > GROUP_BYTES_MAX {
        return Err(wrong("group", format!("{} bytes", subscription.group.len())));
    }
    offer.group = match subscription.group.as_str() {
        "" => None,
        group => Some(group.into()),
    };
    offer.service = match subscription.service.as_str() {
        "" => None,
        service => {
            Some(TopicPath::parse(service).map_err(|error| wrong("service", error.to_string()))?)
        }
    };
    if subscription.members > MEMBERS_MAX {
        return Err(wrong("members", format!("{}", subscription.members)));
    }
    offer.members = subscription.members.max(1);
    offer.at_least_one = subscription.at_least_one;
    Ok((EntryKey::Subscription(subscription.key), Entry::Subscription(Arc::new(offer))))
}

fn parse_service(service: v1::Service, limits: &Limits) -> Result<(EntryKey, Entry), WireFault> {
    let path = TopicPath::parse(&service.path)
        .map_err(|error| fault("Service", "path", error.to_string()))?;
    let state = match service.state {
        1 => OfferState::Running,
        2 if service.standby && service.single_active => OfferState::Standby,
        2 => OfferState::Paused,
        other => return Err(fault("Service", "state", format!("{other}"))),
    };
    if service.key == 0 {
        return Err(fault("Service", "key", "zero"));
    }
    if service.actions.len() > limits.actions_per_service_max {
        return Err(fault("Service", "actions", format!("{} of them", service.actions.len())));
    }
    // Documents stay for long: their lists take what they need, and no room for more.
    let mut actions = Vec::with_capacity(service.actions.len());
    for action in &service.actions {
        let action = Pattern::parse(action);
        actions.push(action.map_err(|error| fault("Service", "actions", error.to_string()))?);
    }
    if service.about.len() > actions.len() {
        let why = format!("of {} actions, there are {}", service.about.len(), actions.len());
        return Err(fault("Service", "about", why));
    }
    let text = |field, text: String, bytes_max: usize| match text.len() <= bytes_max {
        true => Ok(text),
        false => Err(fault("Service", field, format!("{} bytes", text.len()))),
    };
    let version = text("version", service.version, VERSION_BYTES_MAX)?;
    let version = match version.as_str() {
        "" => Version::new(0, 0, 0),
        version => Version::parse(version)
            .map_err(|error| fault("Service", "version", error.to_string()))?,
    };
    let spread = match service.selection {
        2 => Spread::Random,
        3 => Spread::LeastLoaded,
        _ => Spread::RoundRobin,
    };
    let about = |about: v1::ActionInfo| {
        Ok(ActionInfo {
            description: text("about", about.description, DESCRIPTION_BYTES_MAX)?,
            argument: text("about", about.argument, TYPE_NAME_BYTES_MAX)?,
            result: text("about", about.result, TYPE_NAME_BYTES_MAX)?,
            argument_content: ContentType(about.argument_content_type),
            result_content: ContentType(about.result_content_type),
        })
    };
    let mut info = ServiceInfo {
        version,
        description: text("description", service.description, DESCRIPTION_BYTES_MAX)?,
        spread,
        single_active: service.single_active,
        token: (service.single_active && state == OfferState::Running)
            .then_some(Token { epoch: service.token_epoch, round: service.token_round }),
        vitals: service.vitals.map(parse_vitals),
        actions: service.about.into_iter().map(about).collect::<Result<_, WireFault>>()?,
    };
    info.actions.shrink_to_fit();
    let offer = ServiceOffer { path, state, actions, info };
    Ok((EntryKey::Service(service.key), Entry::Service(Arc::new(offer))))
}

fn parse_vitals(vitals: v1::Vitals) -> Vitals {
    Vitals {
        rate: vitals.rate,
        failed_percent: vitals.failed_percent.min(100) as u8,
        p50_us: vitals.p50_us,
        p99_us: vitals.p99_us,
        running: vitals.running,
        waiting: vitals.waiting,
        running_max: vitals.running_max,
        waiting_max: vitals.waiting_max,
    }
}

fn vitals_to_wire(vitals: Vitals) -> v1::Vitals {
    v1::Vitals {
        rate: vitals.rate,
        failed_percent: vitals.failed_percent.into(),
        p50_us: vitals.p50_us,
        p99_us: vitals.p99_us,
        running: vitals.running,
        waiting: vitals.waiting,
        running_max: vitals.running_max,
        waiting_max: vitals.waiting_max,
    }
}

pub(super) fn to_wire(document: &Document) -> v1::Directory {
    let (services, subscriptions) = entries_to_wire(&mut document.entries.iter());
    let (version, incremental) = (document.version, document.incremental);
    v1::Directory { version, services, incremental, subscriptions }
}

pub(super) fn delta_to_wire(delta: &Delta) -> v1::Delta {
    let (services, subscriptions) =
        entries_to_wire(&mut delta.put.iter().map(|(key, entry)| (key, entry)));
    let (mut removed_services, mut removed_subscriptions) = (Vec::new(), Vec::new());
    for key in &delta.removed {
        match key {
            EntryKey::Service(number) => removed_services.push(*number),
            EntryKey::Subscription(number) => removed_subscriptions.push(*number),
        }
    }
    v1::Delta {
        base: delta.base,
        version: delta.version,
        services,
        removed_services,
        subscriptions,
        removed_subscriptions,
    }
}

fn entries_to_wire(
    entries: &mut dyn Iterator<Item = (&EntryKey, &Entry)>,
) -> (Vec<v1::Service>, Vec<v1::Subscription>) {
    let (mut services, mut subscriptions) = (Vec::new(), Vec::new());
    for (key, entry) in entries {
        let (EntryKey::Service(number) | EntryKey::Subscription(number)) = key;
        match entry {
            Entry::Service(offer) => services.push(service_to_wire(*number, offer)),
            Entry::Subscription(offer) => {
                subscriptions.push(subscription_to_wire(*number, offer));
            }
        }
    }
    (services, subscriptions)
}

fn subscription_to_wire(key: u64, offer: &SubscriptionOffer) -> v1::Subscription {
    v1::Subscription {
        pattern: offer.pattern.to_string(),
        key,
        group: offer.group.as_deref().unwrap_or_default().to_string(),
        service: offer.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        members: offer.members,
        at_least_one: offer.at_least_one,
    }
}

fn service_to_wire(key: u64, service: &ServiceOffer) -> v1::Service {
    let info = &service.info;
    let token = info.token.unwrap_or(Token { epoch: 0, round: 0 });
    v1::Service {
        path: service.path.to_string(),
        state: match service.state {
            OfferState::Running => 1,
            OfferState::Paused | OfferState::Standby => 2,
        },
        actions: service.actions.iter().map(ToString::to_string).collect(),
        key,
        version: match info.version == Version::new(0, 0, 0) {
            true => String::new(),
            false => info.version.to_string(),
        },
        description: info.description.clone(),
        selection: match info.spread {
            Spread::RoundRobin => 1,
            Spread::Random => 2,
            Spread::LeastLoaded => 3,
        },
        about: info
            .actions
            .iter()
            .map(|action| v1::ActionInfo {
                description: action.description.clone(),
                argument: action.argument.clone(),
                result: action.result.clone(),
                argument_content_type: action.argument_content.0,
                result_content_type: action.result_content.0,
            })
            .collect(),
        single_active: info.single_active,
        standby: service.state == OfferState::Standby,
        token_epoch: token.epoch,
        token_round: token.round,
        vitals: info.vitals.map(vitals_to_wire),
    }
}
