//! A link's end: superseded and drained, abandoned, closed or lost.
//!
//! Who decides (the higher id, see `glare.rs`) says SUPERSEDE on the link that stays, with how much it has
//! sent on the loser. From then on both ends send on the one that stays. The other end says DRAINED
//! once all of that has come, with how much it has sent itself; when that has come too, who decided
//! closes the loser. Should the link that stays die first, the loser is used again; or, if yet another link
//! stays, SUPERSEDE is said again there, for the other end may not have heard it.
//!
//! A drain may never end by itself: a frame may be stuck at its sender, or the other end may never say DRAINED.
//! Three probe time-outs after its beginning what is unanswered is sent again on the link that stays, and after
//! [`crate::Limits::drain_max`] the loser is closed, by whoever decided. Its code says that not everything
//! came, so both ends send again what may be lost, each call under its id. An end that only follows gives
//! whoever decides twice as long.

use std::time::Duration;

use crate::link::{CloseCode, DialError, DownReason, LinkHandle, LinkId};
use crate::peer::glare::{Rank, is_compared};
use crate::peer::{
    Link, LinkState, Peer, PeerEffect, PeerTimer, RefuseCode, SPENT_MAX, Turn, remember,
};
use crate::planted::is_planted;
use crate::wire::ABANDONS_MAX;

/// How long what is unfinished on a link that is drained is awaited before it is sent again on the one that
/// stays: three probe time-outs (protocols.md, section 2), each of three round trips as before any but the
/// first sample (RFC 9002, sections 5.3 and 6.2.1: srtt + 4 rttvar, with rttvar = srtt / 2).
const DRAIN_ROUND_TRIPS: u32 = 9;
/// Round trips are measured by the handshake, which is coarse. A guess.
const DRAIN_LEAST: Duration = Duration::from_millis(300);
/// A handshake that took long was held up by more than the path. A guess.
pub(super) const DRAIN_MOST: Duration = Duration::from_secs(10);

impl Peer {
    /// Decides which link stays, if that is ours to decide, and drains the others.
    pub(super) fn resolve(&mut self, turn: &mut Turn<'_, '_, '_>) {
        let rank = self.rank(turn.local);
        if !rank.decides() {
            return;
        }
        let compared: Vec<(LinkHandle, LinkId)> = self
            .links
            .iter()
            .filter(|l| l.is_verified() && is_compared(l.is_up()))
            .filter_map(|l| Some((l.link, l.id?)))
            .collect();
        let ids: Vec<LinkId> = compared.iter().map(|(_, id)| *id).collect();
        let Some(best) = rank.winner(&ids) else { return };
        let (winner, _) = compared[best];
        for (loser, loser_id) in compared {
            let Some(index) = self.find(loser) else { continue };
            if loser == winner {
                continue;
            }
            match self.links[index].state {
                LinkState::Up if is_planted(22) => {
                    // Planted: closed before the other one is confirmed.
                    self.close(turn, loser, CloseCode::SUPERSEDED);
                    continue;
                }
                LinkState::Up => {
                    self.current = Some(winner);
                    self.drain(turn, loser, vec![winner]);
                }
                LinkState::Draining { ref said_on, .. } if said_on.is_empty() => {}
                _ => continue,
            }
            let index = self.find(loser).expect("it is drained, not gone");
            if let LinkState::Draining { said_on, .. } = &mut self.links[index].state {
                *said_on = vec![winner];
            }
            turn.out.push(PeerEffect::SendSupersede { on: winner, loser, loser_id });
        }
    }

    /// The peer says that another link is superseded by this one.
    pub(super) fn on_supersede(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        link: LinkHandle,
        loser: LinkId,
    ) {
        let Some(index) = self.find(link) else { return };
        let rank = self.rank(turn.local);
        if !rank.follows() {
            let what = "it decides which link stays, and has the lower id".to_string();
            return self.fault(turn, link, what);
        }
        if !self.links[index].is_up() || self.links[index].id == Some(loser) {
            return self.fault(turn, link, "a Supersede out of turn".into());
        }
        if self.links[index].id.is_none_or(|stays| !rank.prefers(stays, loser)) && !rank.decides() {
            let what = format!("it gives up {loser:?}, which ranks above the link that it keeps");
            return self.fault(turn, link, what);
        }
        // It may be gone here already.
        let Some(index) = self.links.iter().position(|l| l.id == Some(loser)) else { return };
        let loser = self.links[index].link;
        match &mut self.links[index].state {
            LinkState::Up => self.give_way(turn, loser, vec![link]),
            // Said again, for the link on which it was said first is gone. Or that first word comes late.
            LinkState::Verified { superseded: said_on, .. }
            | LinkState::Draining { said_on, .. } => {
                if let Err(place) = said_on.binary_search(&link) {
                    said_on.insert(place, link);
                }
            }
            _ => {}
        }
    }

    /// Leaves a link that is up for those on which the peer says so.
    pub(super) fn give_way(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        loser: LinkHandle,
        mut said_on: Vec<LinkHandle>,
    ) {
        // They may have gone since it was said: should the loser still lose, that will be said again.
        said_on.retain(|said| self.find(*said).is_some());
        if said_on.is_empty() {
            return;
        }
        let stays = self.best_up(turn, |l| said_on.contains(&l));
        if stays.is_some() {
            self.current = stays;
        } else if self.current == Some(loser) {
            // What those links themselves are drained for ranks above all of them.
            let Some(best) = self.best_up(turn, |l| l != loser) else { return };
            self.current = Some(best);
        }
        self.drain(turn, loser, said_on);
    }

    /// Leaves a link that is up for the one that is used.
    pub(super) fn drain(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        loser: LinkHandle,
        said_on: Vec<LinkHandle>,
    ) {
        let (Some(index), Some(to)) = (self.find(loser), self.current) else { return };
        let entry = &mut self.links[index];
        let Some(from_id) = entry.id else { return };
        let wait = (entry.round_trip * DRAIN_ROUND_TRIPS).clamp(DRAIN_LEAST, DRAIN_MOST);
        let decides = Rank::of(turn.local.id, self.id).decides();
        let longest = turn.local.drain_max * if decides { 1 } else { 2 };
        let now = turn.cx.now.mono;
        let timer = Some(turn.cx.arm(now + wait, PeerTimer::Drain(loser)));
        let end = turn.cx.arm(now + longest, PeerTimer::DrainEnd(loser));
        entry.state = LinkState::Draining { timer, end, said_on };
        turn.out.push(PeerEffect::Move { from: loser, from_id, to });
        turn.out.push(PeerEffect::Superseded { loser, stays: to });
    }

    /// Everything has come that the peer ever sends on a link that is drained.
    pub(super) fn all_received(&mut self, turn: &mut Turn<'_, '_, '_>, link: LinkHandle) {
        if !self.is_draining(link) {
            return;
        }
        if self.rank(turn.local).decides() {
            return self.close(turn, link, CloseCode::SUPERSEDED);
        }
        let Some(entry) = self.links.iter().find(|l| l.link == link) else { return };
        let (LinkState::Draining { said_on, .. }, Some(loser_id)) = (&entry.state, entry.id) else {
            return;
        };
        // Who said so is there. Our own favourite may be dead at its end.
        let said_on =
            if said_on.is_empty() { self.current.into_iter().collect() } else { said_on.clone() };
        for on in said_on {
            turn.out.push(PeerEffect::SendDrained { on, loser: link, loser_id });
        }
    }

    /// Three probe time-outs have passed.
    pub(super) fn drain_takes_long(&mut self, turn: &mut Turn<'_, '_, '_>, link: LinkHandle) {
        let Some(index) = self.find(link) else { return };
        if let LinkState::Draining { timer, .. } = &mut self.links[index].state {
            *timer = None;
            turn.out.push(PeerEffect::SendAgain);
        }
    }

    /// What is on a link that is drained cannot be awaited: it is closed, which is still no peer's death.
    pub(super) fn drain_fails(&mut self, turn: &mut Turn<'_, '_, '_>, link: LinkHandle) {
        if self.is_draining(link) {
            self.close(turn, link, CloseCode::DRAIN_FAILED);
        }
    }

    /// The best of some links that is up and not drained.
    fn best_up(
        &self,
        turn: &Turn<'_, '_, '_>,
        of: impl Fn(LinkHandle) -> bool,
    ) -> Option<LinkHandle> {
        let up = |l: &&Link| l.state == LinkState::Up && of(l.link);
        let ranked: Vec<&Link> = self.links.iter().filter(up).filter(|l| l.id.is_some()).collect();
        let ids: Vec<LinkId> = ranked.iter().filter_map(|l| l.id).collect();
        self.rank(turn.local).winner(&ids).map(|index| ranked[index].link)
    }

    /// A peer that keeps more links than it may loses the oldest of those that are drained.
    pub(super) fn bound_links(&mut self, turn: &mut Turn<'_, '_, '_>) {
        while self.links.iter().filter(|l| l.is_up()).count() > turn.local.links_per_peer_max {
            let drained = self.links.iter().find(|l| matches!(l.state, LinkState::Draining { .. }));
            let victim = drained.or_else(|| {
                self.links.iter().find(|l| l.state == LinkState::Up && Some(l.link) != self.current)
            });
            let Some(victim) = victim.map(|l| l.link) else { return };
            self.close(turn, victim, CloseCode::TOO_MANY_LINKS);
        }
    }

    /// Forgets a link, and says what that means for the peer. Which link stays is to be decided anew.
    pub(super) fn drop_link(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        link: LinkHandle,
        reason: DownReason,
        drained: bool,
    ) {
        let Some(index) = self.find(link) else { return };
        let Link { state, id, .. } = self.links.remove(index);
        if let Some(id) = id {
            remember(&mut self.spent, id, SPENT_MAX);
            remember(&mut self.abandons, id, ABANDONS_MAX);
        }
        if self.current == Some(link) {
            self.current = self.best_up(turn, |_| true);
        }
        self.undo_draining(turn, link, &reason);
        let retry_in = self.back_off(turn);
        let code = match reason {
            DownReason::ClosedByPeer(code) => Some(code),
            _ => None,
        };
        let refusal = code.and_then(RefuseCode::from_close);
        let shaking = matches!(
            state,
            LinkState::Greeting { .. } | LinkState::Met { .. } | LinkState::Verified { .. }
        );
        if let Some(why) = refusal
            && (shaking || why.is_about_access())
        {
            self.refused(turn, why);
        }
        match state {
            LinkState::Greeting { timer } | LinkState::Met { timer, .. } => {
                turn.cx.disarm(timer);
                if self.keep && refusal.is_none() && reason != DownReason::ClosedHere {
                    let error = DialError::Refused(reason.to_string());
                    turn.out.push(PeerEffect::DialFailed { error, retry_in });
                }
            }
            LinkState::Refused { timer } => turn.cx.disarm(timer),
            LinkState::Verified { timer, .. } => {
                turn.cx.disarm(timer);
                let (last, drained) = (false, false);
                turn.out.push(PeerEffect::LinkLost { link, reason, last, drained });
            }
            LinkState::Up | LinkState::Draining { .. } => {
                let was_draining = match state {
                    LinkState::Draining { timer, end, .. } => {
                        timer.into_iter().chain([end]).for_each(|timer| turn.cx.disarm(timer));
                        true
                    }
                    _ => false,
                };
                let last = !self.is_up() || (is_planted(30) && was_draining);
                let drained = drained && was_draining;
                // It was still closed for a link that went before it: that one's end is the peer's.
                let for_glare =
                    code == Some(CloseCode::SUPERSEDED) || code == Some(CloseCode::DRAIN_FAILED);
                let reason = match self.undone.take_if(|_| last && for_glare) {
                    Some(why) if !was_draining => why,
                    _ => reason,
                };
                turn.out.push(PeerEffect::LinkLost { link, reason, last, drained });
            }
        }
    }

    /// The link that should have stayed may be gone: the best of those that were drained is used again, if
    /// none that is up ranks above it.
    fn undo_draining(
        &mut self,
        turn: &mut Turn<'_, '_, '_>,
        gone: LinkHandle,
        reason: &DownReason,
    ) {
        for entry in &mut self.links {
            // Should it lose to yet another link, that will be said again.
            if let LinkState::Verified { superseded: said_on, .. }
            | LinkState::Draining { said_on, .. } = &mut entry.state
            {
                said_on.retain(|link| *link != gone);
            }
        }
        if is_planted(32) && self.current.is_none() {
            // Planted: a link that is drained is never used again.
            let draining: Vec<LinkHandle> =
                self.links.iter().filter(|l| l.is_up()).map(|l| l.link).collect();
            for link in draining {
                self.close(turn, link, CloseCode::SUPERSEDED);
            }
            return;
        }
        let rank = self.rank(turn.local);
        let draining = self
            .links
            .iter()
            .enumerate()
            .filter(|(_, l)| matches!(l.state, LinkState::Draining { .. }));
        let (at, ids): (Vec<usize>, Vec<LinkId>) =
            draining.filter_map(|(index, l)| Some((index, l.id?))).unzip();
        let Some(best) = rank.winner(&ids) else { return };
        // All others that are drained rank below it, and so are drained for it from now on.
        if self.current.is_none() || !self.is_outranked(rank, ids[best]) {
            let entry = &mut self.links[at[best]];
            if let LinkState::Draining { timer, end, .. } = entry.state {
                timer.into_iter().chain([end]).for_each(|timer| turn.cx.disarm(timer));
            }
            entry.state = LinkState::Up;
            let link = entry.link;
            turn.out.push(PeerEffect::Undrained(link));
            self.undone = Some(reason.clone());
            if self.current.is_none() {
                self.current = Some(link);
            }
        }
    }

    /// Whether a link that is up and not drained ranks above this one.
    fn is_outranked(&self, rank: Rank, id: LinkId) -> bool {
        let above = |l: &Link| l.id.is_some_and(|other| rank.prefers(other, id));
        self.links.iter().any(|l| l.state == LinkState::Up && above(l))
    }
}
