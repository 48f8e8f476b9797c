//! A link's beginning: Hello, Hello, Claims, Claims, Confirm, Confirm, each able to fail, to be late, or to be an old
//! one.

use crate::auth::LifeRecord;
use crate::base::{Bound, Incarnation};
use crate::directory::Document;
use crate::link::{CloseCode, Direction, DownReason, End, LinkHandle, LinkId};
use crate::machine::TimerHandle;
use crate::peer::glare::is_compared;
use crate::peer::{
    BACKOFF, HANDSHAKE_MAX, Link, LinkState, Peer, PeerEffect, PeerTimer, REFUSAL_MAX, RefuseCode,
    SPENT_MAX, Turn, remember,
};
use crate::planted::is_planted;
use crate::wire::{Hello, VERSION_MIN};

impl Peer {
    pub(super) fn link_up(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        link: LinkHandle,
        direction: Direction,
    ) {
        if let Direction::Dialled(dial) = direction {
            self.dials.retain(|d| *d != dial);
        }
        let max = turn.local.links_per_peer_max;
        let shaking = self.links.iter().filter(|l| !l.is_verified()).count();
        // A redial must not be shut out by the links that it replaces: they go when it is confirmed.
        if shaking >= max || self.links.len() >= 2 * max {
            turn.cx.refused(Bound::LinksPerPeer);
            turn.out.push(PeerEffect::Close { link, code: CloseCode::TOO_MANY_LINKS });
            return;
        }
        // Should this link come to nothing, the next dial is armed again.
        if let Some(timer) = self.redial.take() {
            turn.cx.disarm(timer);
        }
        let timer = turn.cx.arm(turn.cx.now.mono + HANDSHAKE_MAX, PeerTimer::Handshake(link));
        let id = match direction {
            Direction::Dialled(dial) => Some(LinkId {
                dialler: End::Here,
                counter: turn.local.incarnation.counter,
                number: dial.0,
            }),
            Direction::Accepted => None,
        };
        let dialled = id.is_some();
        // Mostly there is one, and a vector would begin with room for four.
        self.links.reserve_exact(1);
        self.links.push(Link::greeting(link, id, dialled, timer));
        // The callee repeats the link's id, and so speaks second.
        if let Some(id) = id {
            self.send_hello(turn, link, id);
        }
    }

    fn send_hello(&mut self, turn: &mut Turn<'_, '_, '_>, link: LinkHandle, id: LinkId) {
        let Some(index) = self.find(link) else { return };
        self.links[index].greeted_at = Some(turn.cx.now.mono);
        let abandons = self.abandons.iter().copied().collect();
        turn.out.push(PeerEffect::SendHello { link, id, abandons });
    }

    pub(super) fn on_hello(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        link: LinkHandle,
        hello: Box<Hello>,
    ) {
        let Some(index) = self.find(link) else { return };
        let timer = match self.links[index].state {
            LinkState::Greeting { timer } => timer,
            LinkState::Refused { .. } => return,
            _ => return self.fault(turn, link, "a second Hello".into()),
        };
        if let Some((code, reason)) = self.refusal(turn, &hello) {
            return self.refuse(turn, link, code, reason);
        }
        let theirs = hello.life.incarnation;
        if let Some((code, reason)) = self.incarnation_refusal(theirs) {
            return self.refuse_life(turn, (link, timer), code, &reason);
        }
        let id = match self.name_link(index, &hello) {
            Ok(id) => id,
            Err(what) => return self.fault(turn, link, what),
        };
        let used = self.links.iter().any(|l| l.link != link && l.id == Some(id));
        if used || self.spent.contains(&id) {
            let what = format!("handshake refused: {id:?} is an old link");
            turn.out.push(PeerEffect::Misbehaved { what });
            // Not to be abandoned once more under a name that belongs to another link.
            self.links[index].id = None;
            return self.close(turn, link, RefuseCode::SpentLink.as_close());
        }
        let entry = &mut self.links[index];
        entry.state = LinkState::Met { timer, hello };
        if entry.dialled {
            entry.answered(turn.cx.now.mono);
            turn.out.push(PeerEffect::SendClaims { link, id, incarnation: theirs });
        } else {
            self.send_hello(turn, link, id);
        }
    }

    /// The peer's Claims name this link and our present life, so that its Hello is none of a life that was over before.
    pub(super) fn on_claims(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        link: LinkHandle,
        named: (LinkId, u64),
    ) {
        let Some(index) = self.find(link) else { return };
        let (timer, hello) = match &self.links[index].state {
            LinkState::Met { timer, hello } => (*timer, hello.clone()),
            LinkState::Refused { .. } => return,
            _ => return self.fault(turn, link, "Claims out of turn".into()),
        };
        if let Err(what) = self.is_meant(turn, index, named) {
            return self.fault(turn, link, format!("its Claims are {what}"));
        }
        // Another life may have come, and this node may have begun to stop.
        if let Some((code, reason)) = self.refusal(turn, &hello) {
            return self.refuse(turn, link, code, reason);
        }
        if let Some((code, reason)) = self.incarnation_refusal(hello.life.incarnation) {
            return self.refuse_life(turn, (link, timer), code, &reason);
        }
        if !self.links[index].dialled {
            self.links[index].answered(turn.cx.now.mono);
        }
        self.verify(turn, link, timer, hello);
        if is_compared(false) {
            self.resolve(turn);
        }
    }

    /// Whether what came is for this link and for our present life.
    fn is_meant(
        &self,
        turn: &Turn<'_, '_, '_>,
        index: usize,
        (id, receiver_boot): (LinkId, u64),
    ) -> Result<(), String> {
        let known = self.links[index].id;
        if known != Some(id) {
            return Err(format!("of another link: {id:?} on {known:?}"));
        }
        if receiver_boot != turn.local.incarnation.boot && !is_planted(35) {
            return Err("for another life of this node".to_string());
        }
        Ok(())
    }

    /// Takes a Hello for true: its life is the peer's, and the link is confirmed.
    fn verify(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        link: LinkHandle,
        timer: TimerHandle,
        hello: Box<Hello>,
    ) {
        let theirs = hello.life.incarnation;
        // What belongs to an earlier life of the peer ends first: the session before its links, so that nothing of
        // it is sent again on a link of the new one.
        if self.session.is_some_and(|session| session != theirs) {
            self.session = None;
            turn.out.push(PeerEffect::SessionEnded);
        }
        let old: Vec<LinkHandle> = self
            .links
            .iter()
            .filter(|l| l.incarnation.is_some_and(|incarnation| incarnation != theirs))
            .map(|l| l.link)
            .collect();
        self.end_old_life(turn, old, hello.life);
        self.session = Some(theirs);
        if hello.observed_address.is_some() {
            self.observed = hello.observed_address;
        }
        let index = self.find(link).expect("only others were closed");
        let (id, version) = (hello.link, turn.local.common_version(&hello));
        let entry = &mut self.links[index];
        entry.incarnation = Some(theirs);
        entry.state = LinkState::Verified { timer, hello, superseded: Vec::new() };
        if !entry.dialled {
            turn.out.push(PeerEffect::SendClaims { link, id, incarnation: theirs });
        }
        turn.out.push(PeerEffect::SendConfirm { link, version, incarnation: theirs, id });
    }

    /// Closes a link of a life that is not accepted. A life that is over is shown the later one first.
    fn refuse_life(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        (link, timer): (LinkHandle, TimerHandle),
        code: RefuseCode,
        reason: &str,
    ) {
        turn.out.push(PeerEffect::Misbehaved { what: format!("handshake refused: {reason}") });
        let Some(index) = self.find(link) else { return };
        if code == RefuseCode::StaleIncarnation
            && let Some(life) = self.known.as_deref().copied()
        {
            // It is there, and begins a life that is let in: whoever rests dials it once more before long.
            self.failures = self.failures.min(BACKOFF.len() as u8 - 1);
            turn.cx.disarm(timer);
            let at = turn.cx.now.mono + REFUSAL_MAX;
            let timer = turn.cx.arm(at, PeerTimer::Handshake(link));
            self.links[index].state = LinkState::Refused { timer };
            turn.out.push(PeerEffect::SendRefuse { link, code, life });
            return;
        }
        self.close(turn, link, code.as_close());
    }

    /// Ends the links of an earlier life of the peer. Should a process of that life still be there, it stops once it is
    /// shown the later one: on the link that was sent on, which it is to close.
    fn end_old_life(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        mut old: Vec<LinkHandle>,
        life: LifeRecord,
    ) {
        if let Some(at) = old.iter().position(|link| Some(*link) == self.current) {
            let link = old.remove(at);
            let dialled = self.find(link).is_some_and(|index| self.links[index].dialled);
            let code = RefuseCode::StaleIncarnation;
            turn.out.push(PeerEffect::SendRefuse { link, code, life });
            self.drop_link(turn, link, DownReason::ClosedHere, false);
            let at = turn.cx.now.mono + REFUSAL_MAX;
            let timer = turn.cx.arm(at, PeerTimer::Handshake(link));
            self.links.push(Link {
                state: LinkState::Refused { timer },
                ..Link::greeting(link, None, dialled, timer)
            });
        }
        self.close_all(turn, old, CloseCode::OLD_INCARNATION);
    }

    /// Why the peer is not let in, if it is not, its life apart.
    fn refusal(&self, turn: &Turn<'_, '_, '_>, hello: &Hello) -> Option<(RefuseCode, String)> {
        let version = turn.local.common_version(hello);
        if turn.local.stopping {
            Some((RefuseCode::ShuttingDown, "this node stops".to_string()))
        } else if !self.keep && !turn.local.admits(&self.id) {
            Some((RefuseCode::NotAllowed, "this peer is not allowed here".to_string()))
        } else if version < VERSION_MIN.max(hello.version_min) {
            let reason = format!(
                "versions {} to {} are offered, {VERSION_MIN} to {} are spoken here",
                hello.version_min, hello.version_max, turn.local.version_max
            );
            Some((RefuseCode::Version, reason))
        } else {
            // None is known yet.
            let capability = hello.critical_capabilities.first()?;
            Some((RefuseCode::Capability, format!("capability {capability} is not known here")))
        }
    }

    /// Why the peer's life is not accepted.
    ///
    /// Known is a life that has confirmed ours: a Hello alone might be an old one, and who is told of a later
    /// life because of it would stop or begin anew for nothing.
    fn incarnation_refusal(&self, theirs: Incarnation) -> Option<(RefuseCode, String)> {
        if is_planted(28) {
            return None;
        }
        if let Some(known) = self.known.as_ref().map(|life| life.incarnation)
            && theirs != known
            && theirs.counter <= known.counter
        {
            // Two processes with one key and counter are both alive, or one lost its disk and began anew:
            // if there is a link to the other one, the former.
            let other_lives = self.links.iter().any(|l| l.incarnation == Some(known));
            if theirs.counter == known.counter && other_lives {
                let reason = "another process uses this key".to_string();
                return Some((RefuseCode::IdentityInUse, reason));
            }
            let reason = format!("a later start, {}, of this peer is known", known.counter);
            return Some((RefuseCode::StaleIncarnation, reason));
        }
        // One that is shaking hands may turn out to be that of a later life. Until then nobody can say.
        let mut lives = self.links.iter().filter_map(|l| l.incarnation);
        let rival = lives.find(|life| *life != theirs && life.counter >= theirs.counter)?;
        let reason = format!("start {} of this peer is shaking hands", rival.counter);
        Some((RefuseCode::IdentityInUse, reason))
    }

    /// Both ends must mean the same link. Gives what it is called.
    fn name_link(&mut self, index: usize, hello: &Hello) -> Result<LinkId, String> {
        let said = hello.link;
        let entry = &mut self.links[index];
        match entry.id {
            Some(id) if id != said => {
                Err(format!("its Hello is about another link: {said:?} on {id:?}"))
            }
            Some(_) => Ok(said),
            None if said.dialler == End::There
                && said.counter == hello.life.incarnation.counter =>
            {
                entry.id = Some(said);
                Ok(said)
            }
            None => Err(format!("its Hello calls a link that it dialled {said:?}")),
        }
    }

    pub(super) fn on_confirm(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        link: LinkHandle,
        version: u32,
        directory: Document,
        named: (LinkId, u64),
    ) {
        let Some(index) = self.find(link) else { return };
        let (timer, hello, superseded) = match self.links[index].state.clone() {
            LinkState::Verified { timer, hello, superseded } => (timer, hello, superseded),
            LinkState::Refused { .. } => return,
            _ => return self.fault(turn, link, "a Confirm out of turn".into()),
        };
        if version != turn.local.common_version(&hello) {
            let what = format!("it chose version {version}, which is not the highest of both");
            return self.fault(turn, link, what);
        }
        if let Err(what) = self.is_meant(turn, index, named) {
            return self.fault(turn, link, format!("its Confirm is {what}"));
        }
        turn.cx.disarm(timer);
        let incarnation = hello.life.incarnation;
        if self.known.as_ref().map(|life| life.incarnation) != Some(incarnation) {
            // Nobody greets us any more as an earlier life.
            let lasts = |id: &LinkId| id.dialler == End::Here || id.counter == incarnation.counter;
            self.spent.retain(lasts);
            self.abandons.retain(lasts);
            self.known = Some(Box::new(hello.life));
        }
        let first = !self.is_up();
        let entry = &mut self.links[index];
        entry.state = LinkState::Up;
        if self.current.is_none() {
            self.current = Some(link);
        }
        (self.failures, self.refused, self.met) = (0, false, true);
        self.undone = None;
        turn.out.push(PeerEffect::LinkReady {
            link,
            incarnation,
            call_credit: hello.call_credit,
            message_bytes_max: hello.message_bytes_max,
            directory,
            first,
        });
        self.apply_abandons(turn, link, &hello.abandons);
        if self.find(link).is_some() {
            self.give_way(turn, link, superseded);
        }
        self.resolve(turn);
        self.bound_links(turn);
    }

    /// What the peer has given up is over, whatever else is said.
    fn apply_abandons(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        confirmed: LinkHandle,
        abandons: &[LinkId],
    ) {
        let mut over = Vec::new();
        for id in abandons {
            if self.id_of(confirmed) == Some(*id) {
                continue;
            }
            // A dial that has not come yet will not be let in either.
            remember(&mut self.spent, *id, SPENT_MAX);
            over.extend(self.link_of(*id));
        }
        self.close_all(turn, over, CloseCode::ABANDONED);
    }

    /// The peer refuses this end. It ends the link; a later life of this node that it proves ends more than that.
    pub(super) fn on_refuse(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        link: LinkHandle,
        code: u32,
        proved: Option<Incarnation>,
    ) {
        let Some(index) = self.find(link) else { return };
        let later = proved.filter(|life| life.counter >= turn.local.incarnation.counter);
        let later = later.filter(|life| *life != turn.local.incarnation);
        if self.links[index].is_up() && later.is_none() {
            return self.fault(turn, link, "a Refuse behind its Confirm".into());
        }
        let Some(why) = RefuseCode::from_number(code) else {
            return self.fault(turn, link, format!("refusal {code}, which is none"));
        };
        self.refused(turn, why);
        self.close(turn, link, why.as_close());
        if why == RefuseCode::StaleIncarnation
            && let Some(later) = later
        {
            turn.out.push(if self.met {
                PeerEffect::NewerSelf
            } else {
                PeerEffect::LifeIsStale { known_counter: later.counter }
            });
        }
    }

    pub(super) fn handshake_ends(&mut self, turn: &mut Turn<'_, '_, '_>, link: LinkHandle) {
        let Some(index) = self.find(link) else { return };
        if let LinkState::Refused { .. } = self.links[index].state {
            return self.close(turn, link, RefuseCode::StaleIncarnation.as_close());
        }
        turn.out.push(PeerEffect::Misbehaved {
            what: format!("the handshake took longer than {HANDSHAKE_MAX:?}"),
        });
        self.close(turn, link, CloseCode::HANDSHAKE_TIMEOUT);
    }
}
