//! The networks of a world: who issues tokens, what each node was given, what was revoked, and so who may
//! call whom at any time. What really runs is judged by it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::auth::{
    Access, DescriptorChain, DescriptorClaims, Dissemination, Grant, Membership, NetworkMembership,
    Permissions, SKEW, Token, TokenId,
};
use dunlin_core::topic::TopicPath;
use dunlin_core::{Event, Identity, Now, PeerId, WallTime};

use crate::checks::Verdict;
use crate::faults::{FaultKind, Tally};
use crate::random::bytes32;
use crate::roster::Roster;
use crate::schedule::{
    Forgery, RightsPlan, SINGLE_ACTIVE, network_of_service, networks_of, shared_network,
};
use crate::workload::{network_name, network_named};

/// Of a descriptor that there is not, no member has told.
const TOLD_TRULY: &str = "a descriptor that a node is told of is there";
/// A peer's call runs only if the peer may make it.
pub(crate) const PERMITTED: &str = "no call runs without a permission that counts";

/// Who shares no network does not meet, and what is called, shown and counted stays in its network.
pub(crate) const ISOLATED: &str = "nothing of a network shows to who is not in it";

const HOUR: Duration = Duration::from_secs(3_600);
const EPOCH: u64 = 1;

/// A token that was given to a node.
struct Given {
    token: Token,
    until: WallTime,
}

/// The network, and all tokens ever given in it.
pub(crate) struct Rights {
    plan: RightsPlan,
    root: Identity,
    issuer: Identity,
    /// Somebody whom nobody trusts.
    stranger: Identity,
    began: WallTime,
    /// The newest descriptor.
    newest: DescriptorChain,
    /// Whether network 0 has acceptors of leases.
    has_acceptors: bool,
    /// The descriptors of the networks beside network 0, which stay as they are.
    others: Vec<DescriptorChain>,
    /// The descriptor that each node goes by.
    known: Vec<DescriptorChain>,
    /// The tokens of each node, the newest last.
    given: Vec<Vec<Given>>,
    /// Tokens of the issuer for the networks beside network 0, by node and network.
    kept: BTreeMap<(usize, u16), Token>,
    tokens: u64,
    seed: u64,
    /// The counters of the lives in which nodes pretend.
    impostors: Vec<Option<u64>>,
    /// Faults that are on, and whom they are about.
    active: Vec<(FaultKind, usize)>,
    /// Nodes whose token expires while clocks go at different rates: for others it ends a little earlier or later.
    unsure: Vec<bool>,
}

impl Rights {
    /// With the acceptors of network 0, if it has some.
    pub(crate) fn new(
        seed: u64,
        nodes: usize,
        plan: RightsPlan,
        mut acceptors: Vec<PeerId>,
        began: WallTime,
    ) -> Self {
        acceptors.sort();
        let has_acceptors = !acceptors.is_empty();
        let key = |number| Identity::from_secret(bytes32(seed, 3, number));
        let (root, issuer, stranger) = (key(1), key(2), key(3));
        let claims = DescriptorClaims {
            name: network_name(0),
            sequence: 0,
            root: root.id(),
            next_root: key(4).id(),
            // Longer than any clock here is wrong.
            expires: began + 10_000 * HOUR,
            issuers: vec![(issuer.id(), EPOCH)],
            registry_members: acceptors,
            registry_epoch: 0,
            former_registries: Vec::new(),
            revoked_before: WallTime::default(),
            revoked_tokens: Vec::new(),
            revoked_issuers: Vec::new(),
            dissemination: Dissemination::Mesh,
            message_bytes_max: None,
        };
        let newest = DescriptorChain::found(&root, [7; 16], claims.clone());
        let newest = newest.expect("within all bounds");
        let last = plan.networks.iter().flatten().max().copied().unwrap_or(0);
        let other = |network: u16| {
            let name = network_name(network);
            let registry_members = Vec::new();
            let claims = DescriptorClaims { name, registry_members, ..claims.clone() };
            DescriptorChain::found(&root, [7; 16], claims).expect("within all bounds")
        };
        Rights {
            others: (1..=last).map(other).collect(),
            known: vec![newest.clone(); nodes],
            given: (0..nodes).map(|_| Vec::new()).collect(),
            newest,
            has_acceptors,
            kept: BTreeMap::new(),
            tokens: 0,
            impostors: vec![None; nodes],
            active: Vec::new(),
            unsure: Vec::new(),
            plan,
            root,
            issuer,
            stranger,
            began,
            seed,
        }
    }

    fn token_id(&mut self) -> TokenId {
        self.tokens += 1;
        TokenId(bytes32(self.seed, 4, self.tokens)[..16].try_into().expect("16 bytes"))
    }

    /// What a node may do: call and publish what the plan does not withhold, serve and subscribe.
    fn permissions(&self, node: usize) -> Permissions {
        let mut permissions: Permissions = "serve:> subscribe:>".parse().expect("well-formed");
        let services = (0..crate::draw::SERVICES as u16).chain([crate::draw::GHOST]);
        for service in services.filter(|service| self.may_call(node, *service)) {
            permissions = permissions.with(&format!("call:s{service}/>")).expect("well-formed");
        }
        let withheld = self.plan.withheld.get(node);
        for root in (0..crate::draw::SERVICES as u16)
            .filter(|root| withheld.is_none_or(|withheld| !withheld.contains(root)))
        {
            permissions = permissions.with(&format!("publish:e{root}/>")).expect("well-formed");
        }
        if self.has_acceptors {
            let call = format!("call:s{SINGLE_ACTIVE}/>");
            permissions = permissions.with(&call).expect("well-formed");
        }
        permissions.with("call:probe/>").expect("well-formed")
    }

    /// Whether a node may call a service.
    pub(crate) fn may_call(&self, node: usize, service: u16) -> bool {
        network_of_service(&self.plan.networks, service) != 0
            || self.plan.withheld.get(node).is_none_or(|withheld| !withheld.contains(&service))
    }

    fn grant(&mut self, node: usize, subject: PeerId, from: WallTime, until: WallTime) -> Grant {
        Grant {
            subject,
            permissions: self.permissions(node),
            not_before: from,
            expires: until,
            issued_at: from,
            depth_left: 1,
            id: self.token_id(),
        }
    }

    /// Gives a node a token that counts until then.
    fn give(&mut self, node: usize, id: PeerId, now: WallTime, until: WallTime) {
        // Tokens count in milliseconds, and are issued by whoever has the time right.
        let from = now.min(until - Duration::from_secs(1));
        let from = WallTime::from_unix_nanos(from.as_unix_nanos() / 1_000_000 * 1_000_000);
        let grant = self.grant(node, id, from, until);
        let network = self.newest.id();
        let token = Token::issue(&self.issuer, EPOCH, network, grant).expect("within all bounds");
        self.given[node].push(Given { token, until });
    }

    /// When a node's present token is to end: at its next lapse, or long after the run. Skew is taken off,
    /// so that it ends for good then.
    fn until(&self, lapse_at: Option<u64>) -> WallTime {
        match lapse_at {
            Some(nanos) => self.began + Duration::from_nanos(nanos) - SKEW,
            None => self.began + 12 * HOUR,
        }
    }

    /// The rights of a node that begins a life at this time, by its own clock.
    pub(crate) fn access(
        &mut self,
        node: usize,
        id: PeerId,
        now: Now,
        true_now: WallTime,
        lapse_at: Option<u64>,
    ) -> Access {
        if self.is_in_need(node, true_now) {
            self.give(node, id, true_now, self.until(lapse_at));
        }
        self.known[node] = self.descriptors_of(node);
        let token = self.given[node].last().expect("just given").token.clone();
        let first = NetworkMembership { descriptors: self.known[node].clone(), token };
        let networks = networks_of(&self.plan.networks, node as u16).to_vec();
        let mut memberships: Vec<NetworkMembership> = Vec::with_capacity(networks.len());
        for network in networks {
            memberships.push(match network {
                0 => first.clone(),
                network => self.kept(node, id, network),
            });
        }
        match Access::new(&id, now, Membership::Networks(memberships.clone())) {
            Ok(access) => access,
            // By its own clock it has no right to be there; it tries nevertheless, as anybody may.
            Err(_) => Access::unverified_for_simulation(&id, memberships),
        }
    }

    /// The descriptors that a node starts with. Where acceptors change it has what it had: whoever tells it may be late.
    fn descriptors_of(&self, node: usize) -> DescriptorChain {
        match self.has_acceptors {
            true => self.known[node].clone(),
            false => self.newest.clone(),
        }
    }

    /// What the issuer gives a node for a network beside network 0, once for all its lives.
    fn kept(&mut self, node: usize, id: PeerId, network: u16) -> NetworkMembership {
        if let Some(token) = self.kept.get(&(node, network)) {
            let descriptors = self.others[usize::from(network) - 1].clone();
            return NetworkMembership { descriptors, token: token.clone() };
        }
        let membership = self.lasting(&self.issuer, node, id, network);
        self.kept.insert((node, network), membership.token.clone());
        membership
    }

    /// A node's place in a network beside network 0: it outlasts everything, if it is the issuer's.
    fn lasting(
        &self,
        issuer: &Identity,
        node: usize,
        id: PeerId,
        network: u16,
    ) -> NetworkMembership {
        let descriptors = self.others[usize::from(network) - 1].clone();
        let number = 1 << 32 | (node as u64) << 8 | u64::from(network);
        let grant = Grant {
            subject: id,
            permissions: "call:> serve:> publish:> subscribe:>".parse().expect("well-formed"),
            not_before: WallTime::from_unix_nanos(0),
            expires: self.began + 9_000 * HOUR,
            issued_at: WallTime::from_unix_nanos(0),
            depth_left: 0,
            id: TokenId(bytes32(self.seed, 4, number)[..16].try_into().expect("16 bytes")),
        };
        let token = Token::issue(issuer, EPOCH, descriptors.id(), grant);
        NetworkMembership { descriptors, token: token.expect("within all bounds") }
    }

    /// The network of a path that a node wrote; none if there is no such network.
    pub(crate) fn network_of(&self, node: usize, path: &TopicPath) -> Option<u16> {
        let own = networks_of(&self.plan.networks, node as u16);
        let Some(name) = path.network() else { return Some(own[0]) };
        network_named(name).filter(|network| usize::from(*network) <= self.others.len())
    }

    /// Whether a node is in a network, whatever its token is worth at present.
    pub(crate) fn is_in(&self, node: usize, network: u16) -> bool {
        networks_of(&self.plan.networks, node as u16).contains(&network)
    }

    /// Whether a node has no token that counts, by the true time.
    pub(crate) fn is_in_need(&self, node: usize, true_now: WallTime) -> bool {
        let lapsed = self.given[node].last().is_none_or(|given| given.until + SKEW <= true_now);
        lapsed || self.is_revoked(node)
    }

    fn is_revoked(&self, node: usize) -> bool {
        let last = self.given[node].last().and_then(|given| given.token.claims().next_back());
        last.is_some_and(|claims| self.newest.current().is_revoked(&claims.id))
    }

    /// The rights of somebody who pretends to be allowed what `node` is not. `victim` is another node.
    pub(crate) fn forged(
        &mut self,
        node: usize,
        id: PeerId,
        victim: (usize, PeerId),
        true_now: WallTime,
        forgery: Forgery,
    ) -> Access {
        let until = self.began + 12 * HOUR;
        let network = self.newest.id();
        let token = match forgery {
            Forgery::Stolen => {
                if self.given[victim.0].is_empty() {
                    self.give(victim.0, victim.1, true_now, until);
                }
                self.given[victim.0].last().expect("just given").token.clone()
            }
            Forgery::Untrusted => {
                let grant = self.grant(node, id, self.began, until);
                Token::issue(&self.stranger, EPOCH, network, grant).expect("within all bounds")
            }
            Forgery::OtherNetwork => {
                let claims = self.newest.current().claims().clone();
                let other = DescriptorChain::found(
                    &self.stranger,
                    [9; 16],
                    DescriptorClaims { root: self.stranger.id(), ..claims },
                );
                let other = other.expect("within all bounds").id();
                let grant = self.grant(node, id, self.began, until);
                Token::issue(&self.issuer, EPOCH, other, grant).expect("within all bounds")
            }
            Forgery::Widened => {
                // A right token of the stranger's, who gives more than there is to whoever asks.
                let short = self.grant(node, self.stranger.id(), self.began, self.began + HOUR);
                let parent = Token::issue(&self.issuer, EPOCH, network, short);
                let wide = Grant { depth_left: 0, ..self.grant(node, id, self.began, until) };
                parent
                    .and_then(|p| p.attenuate_unchecked_for_simulation(&self.stranger, wide))
                    .expect("within all bounds")
            }
            Forgery::BadSignature => {
                let grant = self.grant(node, id, self.began, until);
                let token = Token::issue(&self.issuer, EPOCH, network, grant);
                let mut bytes = token.expect("within all bounds").as_bytes().to_vec();
                // The signature is the last field of the last link.
                *bytes.last_mut().expect("not empty") ^= 1;
                Token::decode(bytes.into()).expect("well-formed still")
            }
        };
        let first = NetworkMembership { descriptors: self.descriptors_of(node), token };
        let membership = |network: &u16| match network {
            0 => first.clone(),
            network => self.lasting(&self.stranger, node, id, *network),
        };
        let networks = networks_of(&self.plan.networks, node as u16);
        Access::unverified_for_simulation(&id, networks.iter().map(membership).collect())
    }

    /// Revokes a node's present token. Who is told goes by [`Rights::tell`].
    pub(crate) fn revoke(&mut self, node: usize) {
        let Some(given) = self.given[node].last() else { return };
        let id = given.token.claims().next_back().expect("tokens have links").id;
        let mut claims = self.newest.current().claims().clone();
        if let Err(place) = claims.revoked_tokens.binary_search(&id) {
            claims.revoked_tokens.insert(place, id);
        }
        self.newest = self.newest.succeed(&self.root, claims).expect("within all bounds");
    }

    /// Names other acceptors of leases. Who is told goes by [`Rights::news_for`].
    pub(crate) fn name_acceptors(&mut self, mut acceptors: Vec<PeerId>) {
        acceptors.sort();
        let claims = self.newest.current().claims().with_acceptors(acceptors, false);
        self.newest = self.newest.succeed(&self.root, claims).expect("schedules are checked");
    }

    /// The newest descriptor, for a node that does not have it.
    pub(crate) fn news_for(&self, node: usize) -> Option<DescriptorChain> {
        let sequence = |chain: &DescriptorChain| chain.current().claims().sequence;
        (sequence(&self.known[node]) < sequence(&self.newest)).then(|| self.newest.clone())
    }

    /// The tokens of these nodes expire while clocks go at different rates.
    pub(crate) fn set_unsure(&mut self, unsure: Vec<bool>) {
        self.unsure = unsure;
    }

    /// Whether nodes may differ about when the right of a node in network 0 ends.
    pub(crate) fn is_unsure(&self, node: usize) -> bool {
        self.unsure.get(node).is_some_and(|unsure| *unsure)
    }

    /// A node has taken the newest descriptor. Says whether it names other acceptors than the node knew.
    pub(crate) fn told(&mut self, node: usize) -> bool {
        let epoch = |chain: &DescriptorChain| chain.current().claims().registry_epoch;
        let known = std::mem::replace(&mut self.known[node], self.newest.clone());
        epoch(&known) < epoch(&self.newest)
    }

    /// A fault about a node's rights or clock begins or ends.
    pub(crate) fn switch(&mut self, kind: FaultKind, node: usize, on: bool) {
        if on {
            self.active.push((kind, node));
        } else {
            self.active.retain(|active| *active != (kind, node));
        }
    }

    /// What a node says: judges what it runs and whom it meets, and counts the faults that show in it.
    pub(crate) fn observe(
        &self,
        tally: &mut Tally,
        roster: &Roster,
        here: usize,
        wall: WallTime,
        event: &Event,
    ) -> Verdict {
        let place = |id: &PeerId| roster.find(id);
        match event {
            Event::NetworkLeft { peer, .. } => self.bite(tally, here, place(peer)),
            Event::PeerRefused { peer, why } if why.is_about_access() => {
                self.bite(tally, here, place(peer));
            }
            Event::NetworkEnded { .. } => self.bite(tally, here, None),
            Event::NetworkOutdated { sequence, .. } => {
                let newest = self.newest.current().claims().sequence;
                if *sequence > newest {
                    let what = format!("n{here} is told of descriptor {sequence} of {newest}");
                    return Err((TOLD_TRULY, what));
                }
            }
            Event::PeerUp { peer, incarnation, .. } => {
                if let Some(peer) = place(peer) {
                    self.judge_meeting(here, peer, incarnation.counter)?;
                }
            }
            Event::Invoke(run) => {
                if let Some(caller) = run.caller.as_ref().and_then(place) {
                    self.judge(here, caller, &run.asked.path, wall)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody was refused or lost a right: counts the faults that are about either of both.
    fn bite(&self, tally: &mut Tally, here: usize, there: Option<usize>) {
        for (kind, node) in &self.active {
            if *node == here || Some(*node) == there {
                tally.bite(*kind);
            }
        }
    }

    /// From this life on a node pretends, or does not any more.
    pub(crate) fn pretends(&mut self, node: usize, counter: Option<u64>) {
        self.impostors[node] = counter;
    }

    /// Judges that a node has met a peer in this life.
    fn judge_meeting(&self, here: usize, peer: usize, counter: u64) -> Verdict {
        if self.impostors[here].is_some() {
            return Ok(());
        }
        if self.impostors[peer] == Some(counter) {
            return Err((PERMITTED, format!("n{here} lets n{peer} in, whose token is forged")));
        }
        if shared_network(&self.plan.networks, here as u16, peer as u16).is_none() {
            return Err((ISOLATED, format!("n{here} lets n{peer} in, which shares no network")));
        }
        Ok(())
    }

    /// Judges what a node shows of networks in a frame of the control lane. `to` is the life at the other end; none if it is
    /// over.
    pub(crate) fn judge_shown(
        &self,
        (from, from_is_dialler): (usize, bool),
        to: Option<usize>,
        frame: &Bytes,
    ) -> Verdict {
        let Some(to) = to.filter(|_| self.impostors[from].is_none()) else { return Ok(()) };
        let ids = std::iter::once(&self.newest).chain(&self.others).map(|chain| chain.id());
        for (network, id) in (0..).zip(ids) {
            // Tokens name their network, too.
            let is_shown = frame.windows(32).any(|bytes| bytes == id.as_bytes());
            if is_shown && !(self.is_in(from, network) && self.is_in(to, network)) {
                let what = format!("n{from} shows network {network} to n{to}, which is not in it");
                return Err((ISOLATED, what));
            }
            if is_shown && !from_is_dialler && self.impostors[to].is_some() {
                let what = format!("n{from} shows its token to n{to}, whose own is forged");
                return Err((ISOLATED, what));
            }
        }
        Ok(())
    }

    /// A new token for a node that needs one.
    pub(crate) fn renew(
        &mut self,
        node: usize,
        id: PeerId,
        true_now: WallTime,
        lapse_at: Option<u64>,
    ) -> Token {
        self.give(node, id, true_now, self.until(lapse_at));
        self.given[node].last().expect("just given").token.clone()
    }

    /// Judges that a node runs a call of a peer's, at this time by its own clock.
    fn judge(&self, callee: usize, caller: usize, path: &TopicPath, wall: WallTime) -> Verdict {
        let network = self.network_of(callee, path);
        if !network.is_some_and(|network| self.is_in(caller, network)) {
            let what = format!("n{callee} runs {path} for n{caller}, which is not in its network");
            return Err((ISOLATED, what));
        }
        let service = path.segments().next().and_then(|first| first.strip_prefix('s'));
        let service = service.and_then(|number| number.parse().ok());
        if let Some(number) = service
            && network != Some(network_of_service(&self.plan.networks, number))
        {
            return Err((ISOLATED, format!("n{callee} runs {path}, which is not in {network:?}")));
        }
        if network != Some(0) {
            return Ok(());
        }
        let known = self.known[callee].current();
        let counts = |given: &Given| {
            let last = given.token.claims().next_back().expect("tokens have links");
            let valid = last.not_before <= wall + SKEW && wall < last.expires + SKEW;
            valid && !known.is_revoked(&last.id)
        };
        if !self.given[caller].iter().any(counts) {
            let what =
                format!("n{callee} runs {path} for n{caller}, which has no token that counts");
            return Err((PERMITTED, what));
        }
        match service {
            Some(number) if !self.may_call(caller, number) => {
                let what = format!("n{callee} runs {path} for n{caller}, which may not call it");
                Err((PERMITTED, what))
            }
            _ => Ok(()),
        }
    }
}
