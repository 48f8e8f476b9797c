//! Who may do what here: the networks of this node, and the tokens of those who talk to it.
//!
//! A peer's Hello shows its networks blinded (see [`crate::auth::blind`]). Tokens are shown for those networks alone
//! that both ends are in: on each link this node claims them, and the peer does. Each claim of the peer is validated;
//! what comes of it belongs to the *session*, the peer's life, and not to the link. A claim waits with its link until
//! the handshake has verified the link, so that what a stale process of the peer claims changes nothing.
//!
//! What is granted ends when the token, the descriptor or the trust in either ends: at the latest at the
//! deadline by *either* clock. So a wall clock that jumps ahead ends it at once, and one that jumps back
//! gives it no more time. Every question compares both clocks; the timers, of which there is one a
//! session, are for telling the world, and look at the wall clock every [`RECHECK`].
//!
//! The questions are in [`crate::auth::rights`].
//!
//! Calls that run when a right ends may finish: they were permitted when they began, and stopping them
//! half way would make "executed" unknown. New ones are refused. When a peer is in no network of ours any
//! more, its links are closed at once, so that it gets no answers either: its calls that run end for it as
//! *maybe executed*.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::blind::{BlindedNetworks, Greeter};
use crate::auth::cache::{Known, VerifiedTokens};
use crate::auth::membership::{
    Membership, MembershipError, NETWORKS_MAX, NetworkClaim, NetworkMembership, OwnNetwork, ends,
};
use crate::auth::network_id::NetworkId;
use crate::auth::refusal::{AccessCode, TokenRefusal};
use crate::auth::succession::{DescriptorChain, DescriptorRefusal};
use crate::auth::token::Token;
use crate::auth::validate::{recheck, validate};
use crate::base::{Draws, Effects, KeyMap, Limits, Now, PeerId, PeerKey, PeerTag};
use crate::link::LinkHandle;
use crate::machine::{Context, Machine, TimerHandle};
use crate::planted::is_planted;

/// How often a session's rights are compared with the wall clock when nothing else asks. A guess: the
/// skew, beyond which no two clocks are to be trusted anyway.
pub const RECHECK: Duration = Duration::from_secs(60);

/// How long a right may outlast its end by the wall clock until somebody looks: a wall clock that goes faster than the
/// monotonic one by less than an eighth is taken for one that is slewed.
const LATE_MAX: Duration = Duration::from_secs(RECHECK.as_secs() / 8 + 1);

/// A claim that a descriptor is so far behind is not believed. A guess: each is signed by hand.
const SEQUENCES_AHEAD_MAX: u64 = 1 << 20;

/// What can happen.
#[derive(Clone, Debug)]
pub enum AccessInput {
    /// A Hello came on a link that is authenticated as this peer's.
    Hello {
        /// The peer.
        peer: PeerKey,
        /// Its key.
        id: PeerId,
        /// The link.
        link: LinkHandle,
        /// Whether the peer dialled the link.
        has_dialled: bool,
        /// The peer's networks, blinded.
        networks: BlindedNetworks,
    },
    /// The peer's Claims came on a link whose Hello was taken.
    Claims {
        /// The peer's key.
        id: PeerId,
        /// The link.
        link: LinkHandle,
        /// The networks that it claims, the peer's default first.
        claims: Vec<NetworkClaim>,
    },
    /// The handshake accepts the Claims of this link: they are the session's from now on.
    Verified {
        /// The peer.
        peer: PeerKey,
        /// The link.
        link: LinkHandle,
    },
    /// A link is gone.
    LinkGone(LinkHandle),
    /// The session with a peer is over.
    SessionEnded(PeerKey),
    /// A newer descriptor of a network of ours. It was checked to be one.
    Descriptor(Box<DescriptorChain>),
    /// A new token of our own.
    OwnToken {
        /// For which network.
        network: NetworkId,
        /// The token. It was checked to count.
        token: Box<Token>,
    },
    /// The wall clock was set: what it says of every right is looked at again.
    ClockSet,
    /// A timer of ours.
    Timer(AccessTimer),
}

/// What the machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTimer {
    /// The rights of a session may have ended.
    Session(PeerKey),
    /// Our own descriptors and tokens may have ended.
    Own,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessEffect {
    /// Close the link: the peer is not let in.
    Refused {
        /// The peer.
        peer: PeerKey,
        /// The link.
        link: LinkHandle,
        /// For the peer.
        code: AccessCode,
        /// For the log: every claim with the rule that it breaks.
        why: String,
    },
    /// The peer is let in, but one of its claims does not count.
    ClaimRefused {
        /// The peer.
        peer: PeerKey,
        /// For the log.
        why: String,
    },
    /// A right of a session has ended: the peer is no longer in this network.
    NetworkLeft {
        /// The peer.
        peer: PeerKey,
        /// The network's name.
        network: String,
        /// For the log.
        why: String,
    },
    /// A session goes on in other networks than before: the peer was greeted anew.
    NetworksChanged {
        /// The peer.
        peer: PeerKey,
    },
    /// Not all peers may know what we are in, or we what they are in: greet anew those that there are. Who is in
    /// one network alone never needs it, since with its right every session ends.
    GreetAnew,
    /// The peer is in no network of ours any more: its links are to be closed.
    SessionLost {
        /// The peer.
        peer: PeerKey,
        /// For the peer.
        code: AccessCode,
    },
    /// A peer whose token counts claims to go by a newer descriptor than we have. It is a claim: only the descriptor
    /// itself proves it.
    Outdated {
        /// The peer.
        peer: PeerKey,
        /// The network's name.
        network: String,
        /// The sequence that it claims.
        sequence: u64,
    },
    /// Our own descriptor or token of a network has ended.
    OwnEnded {
        /// The network's name.
        network: String,
        /// Which of both, and when.
        why: String,
    },
}

/// What a peer has in one network.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    /// The place of the network in our list.
    pub(super) network: usize,
    pub(super) known: Arc<Known>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    /// The peer's default network, if it is one of ours.
    pub(super) default: Option<usize>,
    pub(super) networks: Vec<Admitted>,
    timer: Option<TimerHandle>,
}

/// What is known of a link until the handshake has verified it.
#[derive(Clone, Debug)]
struct Waiting {
    peer: PeerKey,
    /// The places of our networks in which the peer is, too, as its Hello shows: bits. The development network is the
    /// first.
    common: u8,
    /// What came of its claims.
    session: Option<Session>,
    /// Networks of which it claims a newer descriptor, by place, with the sequences.
    newer: Vec<(usize, u64)>,
}

const _: () = assert!(NETWORKS_MAX <= u8::BITS as usize, "a bit for each network");

impl Waiting {
    fn is_common(&self, place: usize) -> bool {
        self.common >> place & 1 == 1
    }
}

/// Who may do what here. See the file's documentation.
#[derive(Clone, Debug)]
pub struct Access {
    id: PeerId,
    pub(super) own: Option<Vec<OwnNetwork>>,
    own_timer: Option<TimerHandle>,
    /// Which networks were reported as ended.
    own_reported: [bool; NETWORKS_MAX],
    verified: VerifiedTokens,
    /// What was shown on links that the handshake has not verified yet.
    waiting: BTreeMap<LinkHandle, Waiting>,
    pub(super) sessions: KeyMap<PeerTag, Session>,
}

impl Access {
    /// The rights of a node with this id in these networks.
    ///
    /// # Errors
    ///
    /// When a descriptor or one of the node's own tokens does not count now, or networks clash.
    pub fn new(id: &PeerId, now: Now, membership: Membership) -> Result<Access, MembershipError> {
        let own = match membership {
            Membership::Development => None,
            Membership::Networks(networks) => {
                if networks.is_empty() || networks.len() > NETWORKS_MAX {
                    return Err(MembershipError::Networks(networks.len()));
                }
                let mut own: Vec<OwnNetwork> = Vec::with_capacity(networks.len());
                for network in networks {
                    let network = OwnNetwork::new(id, now, network)?;
                    if own.iter().any(|other| other.name() == network.name()) {
                        return Err(MembershipError::SameName(network.name().to_string()));
                    }
                    own.push(network);
                }
                Some(own)
            }
        };
        Ok(Access {
            id: *id,
            own,
            own_timer: None,
            own_reported: [false; NETWORKS_MAX],
            verified: VerifiedTokens::new(Limits::default().verified_tokens_max),
            waiting: BTreeMap::new(),
            sessions: KeyMap::default(),
        })
    }

    /// The development network: whoever connects may do everything. Programs that offer it say so where
    /// their users see it.
    pub fn development(id: &PeerId) -> Access {
        Access::new(id, Now::default(), Membership::Development).expect("it needs nothing")
    }

    /// A node that goes by whatever it was given, and shows it to its peers: expired, stolen or forged
    /// tokens. For attackers in tests and simulations; nobody else has a use for it.
    pub fn unverified_for_simulation(id: &PeerId, networks: Vec<NetworkMembership>) -> Access {
        let own = networks.into_iter().map(|network| OwnNetwork::unverified(id, network)).collect();
        Access { own: Some(own), ..Access::development(id) }
    }

    /// Remembers so many verified tokens from now on, and forgets those that it knows. Until this is said, as
    /// many as [`Limits`] has by default.
    pub fn remember_at_most(&mut self, tokens_max: usize) {
        self.verified = VerifiedTokens::new(tokens_max);
    }

    /// The node whose rights these are.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Whether the node is in one network alone.
    pub fn is_single(&self) -> bool {
        self.own.as_ref().is_none_or(|own| own.len() == 1)
    }

    /// Whether this is the development network, in which everybody may do everything.
    pub fn is_development(&self) -> bool {
        self.own.is_none()
    }

    /// Our networks as a Hello to this peer shows them.
    pub fn blinded(&self, to: PeerId, has_dialled: bool, draws: &mut Draws) -> BlindedNetworks {
        let greeter = Greeter { sender: self.id, receiver: to, has_dialled };
        BlindedNetworks::new(self.network_ids(), &greeter, draws)
    }

    fn network_ids(&self) -> impl Iterator<Item = NetworkId> {
        let development = self.own.is_none().then_some(NetworkId::DEVELOPMENT);
        development.into_iter().chain(self.own.iter().flatten().map(OwnNetwork::id))
    }

    /// What we claim on a link, the default network first, if it is among them: the networks that the peer is in, too.
    /// Those of which our own token does not count any more are left out. Nothing on a link whose Hello was not taken.
    ///
    /// That the default network is not among them shows that there is another one. How paths are written on the link
    /// shows it as well.
    pub fn claims(&self, now: Now, link: LinkHandle) -> Vec<NetworkClaim> {
        let Some(waiting) = self.waiting.get(&link) else { return Vec::new() };
        let Some(own) = &self.own else {
            let network = NetworkId::DEVELOPMENT;
            return vec![NetworkClaim {
                network,
                token: Default::default(),
                descriptor_sequence: 0,
                is_default: true,
            }];
        };
        own.iter()
            .enumerate()
            // Planted: tokens are shown that the peer has no business to see.
            .filter(|(place, _)| waiting.is_common(*place) || is_planted(161))
            .filter(|(_, network)| network.is_usable(now))
            .map(|(place, network)| NetworkClaim {
                network: network.id(),
                token: network.token.as_bytes().clone(),
                descriptor_sequence: network.descriptors.current().claims().sequence,
                is_default: place == 0,
            })
            .collect()
    }

    /// The smallest of the bounds that the descriptors set to the payload of one message, in bytes: a node
    /// keeps to it in all its networks. It is settled when the node starts.
    pub fn message_bytes_max(&self) -> Option<usize> {
        let bounds = self.descriptors().filter_map(|d| d.current().claims().message_bytes_max);
        bounds.min().map(|bytes| bytes as usize)
    }

    /// The descriptors that this node goes by, the default network's first.
    pub fn descriptors(&self) -> impl Iterator<Item = &DescriptorChain> {
        self.own.iter().flatten().map(|network| &*network.descriptors)
    }

    /// Under which keys the rights stand that were claimed on a link, where they were handed on: each may hand on its
    /// rights to any number of keys. In the order of the networks.
    pub fn delegators(&self, link: LinkHandle) -> impl Iterator<Item = PeerId> + '_ {
        let session = self.waiting.get(&link).and_then(|waiting| waiting.session.as_ref());
        let networks = session.into_iter().flat_map(|session| &session.networks);
        networks.filter_map(|admitted| {
            let mut links = admitted.known.token.claims();
            let first = links.next()?;
            links.next().map(|_| first.subject)
        })
    }

    /// Whether this link's Hello shows a network of ours, and the link waits for the handshake.
    pub fn is_met(&self, link: LinkHandle) -> bool {
        self.waiting.contains_key(&link)
    }

    /// Whether this link's Claims were let in and wait for the handshake.
    pub fn is_let_in(&self, link: LinkHandle) -> bool {
        self.waiting.get(&link).is_some_and(|waiting| waiting.session.is_some())
    }

    /// Checks a descriptor before it is fed as [`AccessInput::Descriptor`].
    ///
    /// # Errors
    ///
    /// When it is of no network of ours, not newer than what we have, or expired.
    pub fn check_descriptor(
        &self,
        now: Now,
        chain: &DescriptorChain,
    ) -> Result<(), MembershipError> {
        let own = self.own.iter().flatten().find(|network| network.id() == chain.id());
        let own = own.ok_or(MembershipError::NotAMember(chain.id()))?;
        let checked = chain.check_newer(&own.descriptors).and_then(|()| chain.check_time(now.wall));
        checked.map_err(|why| MembershipError::Descriptor { network: own.name().to_string(), why })
    }

    /// Checks a new token of our own before it is fed as [`AccessInput::OwnToken`].
    ///
    /// # Errors
    ///
    /// When it is for no network of ours or does not count now.
    pub fn check_own_token(&self, now: Now, token: &Token) -> Result<NetworkId, MembershipError> {
        let network = token.claims().next().expect("tokens have links").network;
        let own = self.own.iter().flatten().find(|own| own.id() == network);
        let own = own.ok_or(MembershipError::NotAMember(network))?;
        match validate(token, own.descriptors.current(), &self.id, now.wall) {
            Ok(_) => Ok(network),
            Err(why) => Err(MembershipError::Token { network: own.name().to_string(), why }),
        }
    }

    // A Hello.

    fn on_hello(
        &mut self,
        cx: &mut Context<'_, AccessTimer>,
        peer: PeerKey,
        (link, greeter): (LinkHandle, Greeter),
        networks: &BlindedNetworks,
        out: &mut Effects<'_, AccessEffect>,
    ) {
        self.watch_own(cx);
        let mut common = 0;
        for (place, network) in self.network_ids().enumerate() {
            common |= u8::from(networks.contains(&network, &greeter)) << place;
        }
        if common == 0 {
            let code = AccessCode::NoCommonNetwork;
            let why = self.explain_no_common_network(networks, &greeter);
            out.push(AccessEffect::Refused { peer, link, code, why });
            return;
        }
        let waiting = Waiting { peer, common, session: None, newer: Vec::new() };
        self.waiting.insert(link, waiting);
    }

    /// The development network is the one whose id is no secret.
    fn explain_no_common_network(&self, networks: &BlindedNetworks, greeter: &Greeter) -> String {
        if self.is_development() {
            let why =
                "this node is in the development network, it is in others; they are never mixed";
            why.to_string()
        } else if networks.contains(&NetworkId::DEVELOPMENT, greeter) {
            "it is in the development network, which is never mixed with others".to_string()
        } else {
            "it is in none of this node's networks".to_string()
        }
    }

    fn on_claims(
        &mut self,
        cx: &mut Context<'_, AccessTimer>,
        (link, id): (LinkHandle, PeerId),
        claims: &[NetworkClaim],
        out: &mut Effects<'_, AccessEffect>,
    ) {
        let Some(waiting) = self.waiting.get(&link) else { return };
        let (peer, mut session, mut newer) = (waiting.peer, Session::default(), Vec::new());
        // What its Hello did not show is not looked at.
        let common = |network: NetworkId| {
            self.network_ids().position(|own| own == network).filter(|at| waiting.is_common(*at))
        };
        let places: Vec<Option<usize>> = claims.iter().map(|claim| common(claim.network)).collect();
        let mut refusals: Vec<(AccessCode, String)> = Vec::new();
        let mut is_let_in = false;
        for (claim, place) in claims.iter().zip(places) {
            let Some(place) = place else { continue };
            let Some(own) = &self.own else {
                is_let_in = true;
                continue;
            };
            let name = own[place].name().to_string();
            let own_sequence = own[place].descriptors.current().claims().sequence;
            let ahead = claim.descriptor_sequence.saturating_sub(own_sequence);
            if claim.is_default {
                session.default = Some(place);
            }
            match self.judge(cx.now, place, &id, claim) {
                Ok(known) => {
                    is_let_in = true;
                    session.networks.push(Admitted { network: place, known });
                    // Judged first: a stranger's number says nothing.
                    if (1..=SEQUENCES_AHEAD_MAX).contains(&ahead) {
                        newer.push((place, claim.descriptor_sequence));
                    }
                }
                Err(_) if is_planted(174) && claim.descriptor_sequence > own_sequence => {
                    let sequence = claim.descriptor_sequence;
                    out.push(AccessEffect::Outdated { peer, network: name, sequence });
                }
                Err((code, why)) => refusals.push((code, format!("network '{name}': {why}"))),
            }
        }
        if !is_let_in {
            let code = refusals.first().map_or(AccessCode::NoCommonNetwork, |(code, _)| *code);
            let mut why: Vec<String> = refusals.into_iter().map(|(_, why)| why).collect();
            if why.is_empty() {
                why.push("it shows no token for the networks that both are in".to_string());
            }
            self.waits_no_longer(link);
            out.push(AccessEffect::Refused { peer, link, code, why: why.join("; ") });
            return;
        }
        for (_, why) in refusals {
            out.push(AccessEffect::ClaimRefused { peer, why });
        }
        if let Some(waiting) = self.waiting.get_mut(&link) {
            (waiting.session, waiting.newer) = (Some(session), newer);
        }
    }

    fn judge(
        &mut self,
        now: Now,
        place: usize,
        id: &PeerId,
        claim: &NetworkClaim,
    ) -> Result<Arc<Known>, (AccessCode, String)> {
        let network = &self.own.as_deref().unwrap_or_default()[place];
        if !network.is_current(now) {
            let claims = network.descriptors.current().claims();
            let (sequence, expires) = (claims.sequence, claims.expires);
            let why = DescriptorRefusal::Expired { sequence, expires };
            return Err((AccessCode::NetworkExpired, why.to_string()));
        }
        if let Some(known) = self.verified.get(&claim.token)
            && known.network == claim.network
            && known.verified.subject == *id
        {
            return if known.counts(now) { Ok(known.clone()) } else { Err(expired(known)) };
        }
        let judged = Token::decode(claim.token.clone()).and_then(|token| {
            let verified = validate(&token, network.descriptors.current(), id, now.wall)?;
            let ends = ends(now, verified.window.until);
            Ok(Arc::new(Known { token, network: claim.network, verified, ends }))
        });
        match judged {
            Ok(known) => {
                self.verified.insert(known.clone(), now);
                Ok(known)
            }
            Err(why) => Err((why.code(), why.to_string())),
        }
    }

    /// Takes out what a link waits with.
    fn waits_no_longer(&mut self, link: LinkHandle) -> Option<Waiting> {
        let waiting = self.waiting.remove(&link);
        if self.waiting.is_empty() {
            // An empty map would keep its room, and mostly nothing waits.
            self.waiting = BTreeMap::new();
        }
        waiting
    }

    fn on_verified(
        &mut self,
        cx: &mut Context<'_, AccessTimer>,
        peer: PeerKey,
        link: LinkHandle,
        out: &mut Effects<'_, AccessEffect>,
    ) {
        let Some(waiting) = self.waits_no_longer(link) else { return };
        let (Some(own), Some(session)) = (&self.own, waiting.session) else { return };
        if waiting.peer != peer {
            return;
        }
        for (place, sequence) in waiting.newer {
            let network = own[place].name().to_string();
            out.push(AccessEffect::Outdated { peer, network, sequence });
        }
        if let Some(old) = self.sessions.remove(peer) {
            if let Some(timer) = old.timer {
                cx.disarm(timer);
            }
            let places = |session: &Session| {
                let mut places: Vec<usize> = session.networks.iter().map(|n| n.network).collect();
                places.sort_unstable();
                (session.default, places)
            };
            if places(&old) != places(&session) {
                out.push(AccessEffect::NetworksChanged { peer });
            }
        }
        self.sessions.insert(peer, session);
        // It may have waited for its turn for long, and a newer descriptor may have come.
        self.recheck_session(cx, peer, out);
    }

    /// Ends what has ended of a session, and waits for the next end.
    fn recheck_session(
        &mut self,
        cx: &mut Context<'_, AccessTimer>,
        peer: PeerKey,
        out: &mut Effects<'_, AccessEffect>,
    ) {
        let now = cx.now;
        let (Some(own), Some(session)) = (&self.own, self.sessions.get_mut(peer)) else { return };
        if let Some(timer) = session.timer.take() {
            cx.disarm(timer);
        }
        let mut last_code = AccessCode::TokenRefused;
        session.networks.retain(|admitted| {
            let network = &own[admitted.network];
            let ended = recheck_admitted(admitted, network, now);
            if let Err((code, why)) = &ended {
                last_code = *code;
                let (network, why) = (network.name().to_string(), why.clone());
                out.push(AccessEffect::NetworkLeft { peer, network, why });
            }
            ended.is_ok()
        });
        // What the monotonic clock was told bounds a right; the wall clock may end it earlier.
        let end_of = |admitted: &Admitted| {
            let Known { ends: bound, verified, .. } = &*admitted.known;
            let network = &own[admitted.network];
            let by_wall = verified.window.until.min(network.descriptors.window().until);
            (*bound).min(network.descriptor_ends).min(ends(now, by_wall))
        };
        let ends = session.networks.iter().map(end_of).min();
        let Some(ends) = ends else {
            self.sessions.remove(peer);
            out.push(AccessEffect::SessionLost { peer, code: last_code });
            return;
        };
        let at = ends.min(now.mono + RECHECK);
        session.timer = Some(cx.arm(at, AccessTimer::Session(peer)));
    }

    /// Waits for the end of our own descriptors and tokens.
    fn watch_own(&mut self, cx: &mut Context<'_, AccessTimer>) {
        if self.own_timer.is_some() || self.own.is_none() {
            return;
        }
        let ends = self.own.iter().flatten().zip(self.own_reported).filter(|(_, said)| !said);
        let ends = ends.map(|(network, _)| network.descriptor_ends.min(network.token_ends)).min();
        if let Some(ends) = ends {
            self.own_timer = Some(cx.arm(ends.min(cx.now.mono + RECHECK), AccessTimer::Own));
        }
    }

    fn recheck_own(
        &mut self,
        cx: &mut Context<'_, AccessTimer>,
        out: &mut Effects<'_, AccessEffect>,
    ) {
        if let Some(timer) = self.own_timer.take() {
            cx.disarm(timer);
        }
        let own = self.own.as_deref().unwrap_or_default();
        for (network, said) in own.iter().zip(&mut self.own_reported) {
            let ended = !network.is_usable(cx.now);
            if ended && !*said {
                let current = network.descriptors.current();
                let why = if network.is_current(cx.now) {
                    let last = network.token.claims().next_back().expect("tokens have links");
                    let sequence = current.claims().sequence;
                    match recheck(&network.token, current, &self.id, cx.now.wall) {
                        Err(
                            why @ (TokenRefusal::Revoked { .. }
                            | TokenRefusal::RevokedByEpoch { .. }),
                        ) => {
                            format!(
                                "this node's token was revoked, by descriptor {sequence}: {why}"
                            )
                        }
                        Ok(()) | Err(TokenRefusal::Expired { .. }) => {
                            format!("this node's token expired at {}", last.expires)
                        }
                        Err(why) => {
                            format!(
                                "this node's token does not count by descriptor {sequence}: {why}"
                            )
                        }
                    }
                } else {
                    let claims = network.descriptors.current().claims();
                    format!("the network's descriptor expired at {}", claims.expires)
                };
                let network = network.name().to_string();
                out.push(AccessEffect::OwnEnded { network, why });
            }
            *said = ended;
        }
        self.watch_own(cx);
    }

    fn on_descriptor(
        &mut self,
        cx: &mut Context<'_, AccessTimer>,
        chain: DescriptorChain,
        out: &mut Effects<'_, AccessEffect>,
    ) {
        let own = self.own.as_deref_mut().unwrap_or_default();
        let Some(network) = own.iter_mut().find(|own| own.id() == chain.id()) else { return };
        let had_ended = !network.is_current(cx.now);
        network.descriptor_ends = ends(cx.now, chain.window().until);
        network.descriptors = Arc::new(chain);
        // Our own token may be one that it revokes.
        if recheck(
            &network.token,
            network.descriptors.current(),
            &network.verified.subject,
            cx.now.wall,
        )
        .is_err()
        {
            network.token_ends = cx.now.mono;
        }
        let id = network.id();
        self.verified.forget(id);
        self.recheck_all(cx, out);
        if had_ended {
            self.greet_anew(out);
        }
    }

    /// A session that went on in some network may have a right to be in another one again.
    fn greet_anew(&self, out: &mut Effects<'_, AccessEffect>) {
        if self.own.as_ref().is_some_and(|own| own.len() > 1) {
            out.push(AccessEffect::GreetAnew);
        }
    }

    /// The node has stopped: nobody is in a session with it any more, and nothing is waited for.
    pub(crate) fn stop(&mut self) {
        self.own_timer = None;
        self.waiting = BTreeMap::new();
        self.sessions = KeyMap::default();
    }

    /// Asserts that no session goes on in a network in which its right has ended by the wall clock. What is due at
    /// this time must have been handled.
    pub(crate) fn check_ends(&self, now: Now) {
        for (_, session) in self.sessions.iter() {
            for admitted in &session.networks {
                let until = admitted.known.verified.window.until;
                assert!(now.wall < until + LATE_MAX, "a right that has ended is taken away");
            }
        }
    }

    fn recheck_all(
        &mut self,
        cx: &mut Context<'_, AccessTimer>,
        out: &mut Effects<'_, AccessEffect>,
    ) {
        self.recheck_own(cx, out);
        let peers: Vec<PeerKey> = self.sessions.iter().map(|(peer, _)| peer).collect();
        for peer in peers {
            self.recheck_session(cx, peer, out);
        }
    }
}

fn expired(known: &Known) -> (AccessCode, String) {
    let last = known.token.claims().next_back().expect("tokens have links");
    (AccessCode::TokenExpired, format!("its token expired at {}", last.expires))
}

/// Whether what a peer has in a network still counts, by the descriptor that is current now.
fn recheck_admitted(
    admitted: &Admitted,
    network: &OwnNetwork,
    now: Now,
) -> Result<(), (AccessCode, String)> {
    if !network.is_current(now) {
        return Err((AccessCode::NetworkExpired, "the network's descriptor expired".into()));
    }
    if !admitted.known.counts(now) {
        return Err(expired(&admitted.known));
    }
    let Known { token, verified, .. } = &*admitted.known;
    recheck(token, network.descriptors.current(), &verified.subject, now.wall)
        .map_err(|why: TokenRefusal| (why.code(), why.to_string()))
}

impl Machine for Access {
    type Input = AccessInput;
    type Effect = AccessEffect;
    type Timer = AccessTimer;
    type View<'a> = ();

    fn handle(
        &mut self,
        cx: &mut Context<'_, AccessTimer>,
        (): (),
        input: AccessInput,
        out: &mut Effects<'_, AccessEffect>,
    ) {
        match input {
            AccessInput::Hello { peer, id, link, has_dialled, networks } => {
                let greeter = Greeter { sender: id, receiver: self.id, has_dialled };
                self.on_hello(cx, peer, (link, greeter), &networks, out);
            }
            AccessInput::Claims { id, link, claims } => {
                self.on_claims(cx, (link, id), &claims, out);
            }
            AccessInput::Verified { peer, link } => self.on_verified(cx, peer, link, out),
            AccessInput::LinkGone(link) => {
                self.waits_no_longer(link);
            }
            AccessInput::SessionEnded(peer) => {
                if let Some(timer) = self.sessions.remove(peer).and_then(|old| old.timer) {
                    cx.disarm(timer);
                }
            }
            AccessInput::Descriptor(chain) => self.on_descriptor(cx, *chain, out),
            AccessInput::OwnToken { network, token } => {
                let own = self.own.as_deref_mut().unwrap_or_default();
                let Some(own) = own.iter_mut().find(|own| own.id() == network) else { return };
                let (subject, wall) = (own.verified.subject, cx.now.wall);
                if let Ok(verified) = validate(&token, own.descriptors.current(), &subject, wall) {
                    own.token_ends = ends(cx.now, verified.window.until);
                    (own.token, own.verified) = (*token, verified);
                    self.recheck_own(cx, out);
                    self.greet_anew(out);
                }
            }
            AccessInput::ClockSet => {
                self.recheck_all(cx, out);
                self.greet_anew(out);
            }
            AccessInput::Timer(AccessTimer::Session(peer)) => {
                if let Some(session) = self.sessions.get_mut(peer) {
                    session.timer = None;
                    self.recheck_session(cx, peer, out);
                }
            }
            AccessInput::Timer(AccessTimer::Own) => {
                self.own_timer = None;
                self.recheck_own(cx, out);
            }
        }
    }

    fn check_invariants(&self) {
        for (_, session) in self.sessions.iter() {
            assert!(!session.networks.is_empty(), "a session is in a network");
            assert!(session.timer.is_some(), "the end of a session's rights is waited for");
            assert!(session.networks.len() <= NETWORKS_MAX, "networks of a session are bounded");
        }
        self.verified.check_invariants();
    }
}
