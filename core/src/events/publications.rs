//! What became of an event: for whoever waits for it, and for groups, which may need another member.
//!
//! A publication is *open* until each peer that it was sent to has acknowledged it or is known not to, and each
//! group has a member that has it or none is left. It ends exactly once, at the latest when its time is over.

use std::time::Duration;

use bytes::Bytes;

use crate::base::{Effects, Key, MonoTime, PeerId, Slab};
use crate::events::EventId;
use crate::events::group::GroupName;
use crate::machine::{Context, Machine, TimerHandle};
use crate::payload::ContentType;
use crate::planted::is_planted;
use crate::topic::TopicPath;

/// Tells keys of publications from other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublicationTag {}

/// Names a publication for as long as it is open.
pub type PublicationKey = Key<PublicationTag>;

/// How long a group's event that nobody waits for is looked after. A guess: longer than a link is silent before
/// it is given up, and a back-off.
pub const LOOKED_AFTER: Duration = Duration::from_secs(60);

/// What became of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishOutcome {
    /// Of the peers that it was sent to when it was published, how many have acknowledged it: it is in the queues of
    /// their subscribers, or they were told there that they miss it. A peer at which this node may not publish
    /// acknowledges too, and ignores it. One that was asked for groups alone, and had no member with room, does
    /// not count.
    pub acknowledged: u32,
    /// Of how many peers it is not known: their lives have ended, or they were passed over.
    pub lost: u32,
    /// How many groups, and services, have a member that has it.
    pub groups_served: u32,
    /// How many have none, or it is not known of the one that was chosen.
    pub groups_lost: u32,
    /// How many peers and groups had not decided when the time was over.
    pub undecided: u32,
}

impl PublishOutcome {
    /// Whether everybody has it who was to get it.
    pub fn is_complete(&self) -> bool {
        self.lost == 0 && self.groups_lost == 0 && self.undecided == 0
    }
}

/// What an event says, for members that get it later.
#[derive(Clone, Debug)]
pub struct Content {
    /// Its name.
    pub id: EventId,
    /// Its topic.
    pub topic: TopicPath,
    /// How its payload is to be read.
    pub content: ContentType,
    /// Its payload.
    pub bytes: Bytes,
    /// The one peer that it is for, if it is for one.
    pub target: Option<PeerId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum GroupState {
    /// A member was sent it.
    Sent,
    Served,
    Lost,
}

#[derive(Clone, Debug)]
struct GroupPart {
    name: GroupName,
    at_least_one: bool,
    tried: Vec<PeerId>,
    state: GroupState,
    redelivered: bool,
}

#[derive(Clone, Debug)]
struct Publication {
    content: Content,
    groups: Vec<GroupPart>,
    /// Peers that have not decided.
    open: u32,
    outcome: PublishOutcome,
    wanted: bool,
    /// The first member of its group that had it has given it back.
    given_back: bool,
    timer: Option<TimerHandle>,
}

/// Which part of a publication a peer was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The publication.
    pub publication: PublicationKey,
    /// Whether the peer was to get it for subscribers that get every event.
    pub everyone: bool,
    /// For which groups it was to get it.
    pub groups: Vec<PartGroup>,
    /// Another member of a group had it before. The peer may have a part of its own.
    pub handed_on: bool,
}

/// A group in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartGroup {
    /// Its place in the frame: among its groups, and behind them among its services.
    pub in_frame: u32,
    /// Its place in the publication.
    pub place: u32,
    /// Whether it goes to another member when the outcome is not known.
    pub at_least_one: bool,
}

/// How a part ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartEnd {
    /// The peer has it; but for these of the part's groups no member took it.
    Acknowledged {
        /// Places in the publication.
        declined: Vec<u32>,
    },
    /// It was never sent.
    Unsent,
    /// It was sent, and what became of it is not known.
    Unknown,
}

/// What can happen to publications.
#[derive(Clone, Debug)]
pub enum PublicationInput {
    /// It is on its way; somebody may wait for it for so long.
    Begin {
        /// The publication.
        publication: PublicationKey,
        /// How long somebody waits; none if nobody does.
        wait: Option<Duration>,
    },
    /// A part of it has ended.
    Ended {
        /// The part.
        part: Part,
        /// How.
        end: PartEnd,
    },
    /// A peer that was sent it for a group can not be reached, and the group gets it back.
    Returned {
        /// The publication.
        publication: PublicationKey,
        /// The place of the group.
        group: u32,
        /// Whether the peer may have it.
        unknown: bool,
    },
    /// Another member of a group has it, or none is left.
    Reassigned {
        /// The publication.
        publication: PublicationKey,
        /// The place of the group.
        group: u32,
        /// The member.
        to: Assigned,
    },
    /// Its time is over.
    Timer(PublicationTimer),
    /// The node has stopped: all end.
    Shutdown,
}

/// Which member of a group has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assigned {
    /// One of this node.
    Here,
    /// It was sent to a peer.
    Peer(PeerId),
    /// Nobody is left.
    Nobody,
}

/// A publication's time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicationTimer(pub PublicationKey);

/// What publications want done.
#[derive(Clone, Debug)]
pub enum PublicationEffect {
    /// Find another member of a group; [`PublicationInput::Reassigned`] follows.
    Reassign {
        /// The publication.
        publication: PublicationKey,
        /// The place of the group.
        group: u32,
    },
    /// It is over, and somebody waits for it.
    Ended {
        /// The publication. Its key means nothing any more.
        publication: PublicationKey,
        /// What became of it.
        outcome: PublishOutcome,
    },
    /// An event that was given back is over, and no other member of its group takes it.
    Unplaced {
        /// The node that has given it back.
        given_back_by: PeerId,
    },
}

/// The machine of all publications that are open.
#[derive(Clone, Debug, Default)]
pub struct Publications {
    open: Slab<Publication, PublicationTag>,
}

/// What is needed to send an event to another member of a group.
#[derive(Clone, Debug)]
pub struct Redelivery {
    /// The event.
    pub content: Content,
    /// The group.
    pub group: GroupName,
    /// Who had it before.
    pub tried: Vec<PeerId>,
    /// What became of it at one of them is not known.
    pub redelivered: bool,
}

impl Publications {
    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A new publication. [`Publications::add_group`] and [`Publications::sent`] follow, then [`PublicationInput::Begin`].
    pub fn add(&mut self, content: Content, wanted: bool) -> PublicationKey {
        self.open.insert(Publication {
            content,
            groups: Vec::new(),
            open: 0,
            outcome: PublishOutcome::default(),
            wanted,
            given_back: false,
            timer: None,
        })
    }

    /// An event that a node gives back for a group. [`PublicationInput::Begin`] and [`PublicationInput::Returned`] follow.
    pub fn give_back(
        &mut self,
        content: Content,
        name: GroupName,
        (at_least_one, redelivered): (bool, bool),
        given_back_by: PeerId,
    ) -> PublicationKey {
        let (tried, state) = (vec![given_back_by], GroupState::Sent);
        self.open.insert(Publication {
            content,
            groups: vec![GroupPart { name, at_least_one, tried, state, redelivered }],
            open: 0,
            outcome: PublishOutcome::default(),
            wanted: false,
            given_back: true,
            timer: None,
        })
    }

    /// A group whose first member was chosen. Its place.
    pub fn add_group(
        &mut self,
        publication: PublicationKey,
        name: GroupName,
        at_least_one: bool,
        to: Assigned,
    ) -> u32 {
        let publication = self.open.get_mut(publication).expect("just added");
        let (state, tried) = match to {
            Assigned::Here => (GroupState::Served, Vec::new()),
            Assigned::Peer(id) => (GroupState::Sent, vec![id]),
            Assigned::Nobody => (GroupState::Lost, Vec::new()),
        };
        match state {
            GroupState::Served => publication.outcome.groups_served += 1,
            GroupState::Lost => publication.outcome.groups_lost += 1,
            GroupState::Sent => {}
        }
        publication.groups.push(GroupPart { name, at_least_one, tried, state, redelivered: false });
        publication.groups.len() as u32 - 1
    }

    /// A peer is sent a part of it.
    pub fn sent(&mut self, publication: PublicationKey) {
        self.open.get_mut(publication).expect("just added").open += 1;
    }

    /// A peer was passed over.
    pub fn passed_over(&mut self, publication: PublicationKey) {
        self.open.get_mut(publication).expect("just added").outcome.lost += 1;
    }

    /// What another member of a group is to be sent.
    pub fn redelivery(&self, publication: PublicationKey, group: u32) -> Option<Redelivery> {
        let publication = self.open.get(publication)?;
        let group = publication.groups.get(group as usize)?;
        Some(Redelivery {
            content: publication.content.clone(),
            group: group.name.clone(),
            tried: group.tried.clone(),
            redelivered: group.redelivered,
        })
    }

    /// What a member of a group has, whether its outcome at an earlier one is not known, and the group; none if the
    /// publication is over.
    pub fn content_for(
        &self,
        publication: PublicationKey,
        group: u32,
    ) -> Option<(&Content, &GroupName, bool)> {
        let publication = self.open.get(publication)?;
        let group = publication.groups.get(group as usize)?;
        Some((&publication.content, &group.name, group.redelivered))
    }

    fn begin(
        &mut self,
        cx: &mut Context<'_, PublicationTimer>,
        key: PublicationKey,
        wait: Option<Duration>,
        out: &mut Effects<'_, PublicationEffect>,
    ) {
        let Some(publication) = self.open.get_mut(key) else { return };
        let at: MonoTime = cx.now.mono + wait.unwrap_or(LOOKED_AFTER);
        publication.timer = Some(cx.arm(at, PublicationTimer(key)));
        self.end_if_decided(cx, key, out);
    }

    fn ended(
        &mut self,
        cx: &mut Context<'_, PublicationTimer>,
        part: Part,
        end: PartEnd,
        out: &mut Effects<'_, PublicationEffect>,
    ) {
        let key = part.publication;
        let Some(publication) = self.open.get_mut(key) else { return };
        publication.open -= 1;
        let outcome = &mut publication.outcome;
        let declined = match &end {
            PartEnd::Acknowledged { declined } => {
                let taken = part.groups.iter().any(|group| !declined.contains(&group.place));
                outcome.acknowledged += u32::from((part.everyone || taken) && !part.handed_on);
                Some(declined)
            }
            PartEnd::Unsent | PartEnd::Unknown => {
                outcome.lost += u32::from(part.everyone);
                None
            }
        };
        for group in part.groups {
            let place = group.place;
            if declined.is_some_and(|declined| !declined.contains(&place)) {
                let Some(group) = publication.groups.get_mut(place as usize) else { continue };
                group.state = GroupState::Served;
                publication.outcome.groups_served += 1;
            } else {
                publication.returned(key, place, end == PartEnd::Unknown, out);
            }
        }
        self.end_if_decided(cx, key, out);
    }

    fn reassigned(
        &mut self,
        cx: &mut Context<'_, PublicationTimer>,
        key: PublicationKey,
        place: u32,
        to: Assigned,
        out: &mut Effects<'_, PublicationEffect>,
    ) {
        let Some(publication) = self.open.get_mut(key) else { return };
        let Some(group) = publication.groups.get_mut(place as usize) else { return };
        match to {
            Assigned::Here => {
                group.state = GroupState::Served;
                publication.outcome.groups_served += 1;
            }
            Assigned::Peer(id) => {
                group.tried.push(id);
                publication.open += 1;
            }
            Assigned::Nobody => {
                group.state = GroupState::Lost;
                publication.outcome.groups_lost += 1;
            }
        }
        self.end_if_decided(cx, key, out);
    }

    fn end_if_decided(
        &mut self,
        cx: &mut Context<'_, PublicationTimer>,
        key: PublicationKey,
        out: &mut Effects<'_, PublicationEffect>,
    ) {
        let Some(publication) = self.open.get(key) else { return };
        let undecided = publication.groups.iter().any(|group| group.state == GroupState::Sent);
        if publication.open == 0 && !undecided && publication.timer.is_some() {
            self.end(cx, key, out);
        }
    }

    fn end(
        &mut self,
        cx: &mut Context<'_, PublicationTimer>,
        key: PublicationKey,
        out: &mut Effects<'_, PublicationEffect>,
    ) {
        let Some(publication) = self.open.remove(key) else { return };
        if let Some(timer) = publication.timer {
            cx.disarm(timer);
        }
        if publication.wanted {
            let groups = publication.groups.iter().filter(|g| g.state == GroupState::Sent).count();
            let undecided = publication.open.max(groups as u32);
            let outcome = PublishOutcome { undecided, ..publication.outcome };
            out.push(PublicationEffect::Ended { publication: key, outcome });
        }
        if publication.given_back
            && let Some(group) = publication.groups.first()
            && group.state == GroupState::Lost
            && let Some(given_back_by) = group.tried.first().copied()
        {
            out.push(PublicationEffect::Unplaced { given_back_by });
        }
    }
}

impl Publication {
    /// A group gets the event back from a member.
    fn returned(
        &mut self,
        key: PublicationKey,
        place: u32,
        unknown: bool,
        out: &mut Effects<'_, PublicationEffect>,
    ) {
        let Some(group) = self.groups.get_mut(place as usize) else { return };
        if unknown && !group.at_least_one && !is_planted(72) {
            group.state = GroupState::Lost;
            self.outcome.groups_lost += 1;
            return;
        }
        group.redelivered |= unknown && !is_planted(72);
        out.push(PublicationEffect::Reassign { publication: key, group: place });
    }
}

impl Machine for Publications {
    type Input = PublicationInput;
    type Effect = PublicationEffect;
    type Timer = PublicationTimer;
    type View<'a> = ();

    fn handle(
        &mut self,
        cx: &mut Context<'_, PublicationTimer>,
        (): (),
        input: PublicationInput,
        out: &mut Effects<'_, PublicationEffect>,
    ) {
        match input {
            PublicationInput::Begin { publication, wait } => self.begin(cx, publication, wait, out),
            PublicationInput::Ended { part, end } => self.ended(cx, part, end, out),
            PublicationInput::Returned { publication: key, group, unknown } => {
                if let Some(publication) = self.open.get_mut(key) {
                    publication.returned(key, group, unknown, out);
                }
                self.end_if_decided(cx, key, out);
            }
            PublicationInput::Reassigned { publication, group, to } => {
                self.reassigned(cx, publication, group, to, out);
            }
            PublicationInput::Timer(PublicationTimer(key)) => {
                if let Some(publication) = self.open.get_mut(key) {
                    publication.timer = None;
                }
                self.end(cx, key, out);
            }
            PublicationInput::Shutdown => {
                let open: Vec<PublicationKey> = self.open.iter().map(|(key, _)| key).collect();
                for key in open {
                    self.end(cx, key, out);
                }
            }
        }
    }
}
