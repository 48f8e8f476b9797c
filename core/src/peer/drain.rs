//! A link's end: superseded and drained, abandoned, closed or lost.
//!
//! Who decides (the higher id, see `glare.rs`) says SUPERSEDE on the link that stays, with how much it has
//! sent on the loser. From then on both ends send on the one that stays. The other end says DRAINED
//! once all of that has come, with how much it has sent itself; when that has come too, who decided
//! closes the loser. Should the link that stays die first, the loser is used again.

use std::time::Duration;

use crate::link::{CloseCode, DialError, DownReason, LinkHandle, LinkId};
use crate::peer::glare::is_compared;
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
const DRAIN_MOST: Duration = Duration::from_secs(10);

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
            if loser == winner || self.links[index].state != LinkState::Up {
                continue;
            }
            if is_planted(22) {
                // Planted: closed before the other one is confirmed.
                self.close(turn, loser, CloseCode::SUPERSEDED);
                continue;
            }
            self.current = Some(winner);
            self.drain(turn, loser);
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
        if !self.rank(turn.local).follows() {
            let what = "it decides which link stays, and has the lower id".to_string();
            return self.fault(turn, link, what);
        }
        if !self.links[index].is_up() || self.links[index].id == Some(loser) {
            return self.fault(turn, link, "a Supersede out of turn".into());
        }
        // It may be gone here already.
        let Some(index) = self.links.iter().position(|l| l.id == Some(loser)) else { return };
        let loser = self.links[index].link;
        match &mut self.links[index].state {
            LinkState::Verified { superseded, .. } => *superseded = true,
            LinkState::Up => {
                if self.current == Some(loser) {
                    self.current = self.best_up(turn, Some(loser));
                }
                if self.current.is_some() {
                    self.drain(turn, loser);
                } else {
                    // Only a peer that contradicts itself supersedes the last link that is used.
                    self.current = Some(loser);
                }
            }
            _ => {}
        }
    }

    /// Leaves a link that is up for the one that is used.
    pub(super) fn drain(&mut self, turn: &mut Turn<'_, '_, '_>, loser: LinkHandle) {
        let (Some(index), Some(to)) = (self.find(loser), self.current) else { return };
        let entry = &mut self.links[index];
        let Some(from_id) = entry.id else { return };
        let wait = (entry.round_trip * DRAIN_ROUND_TRIPS).clamp(DRAIN_LEAST, DRAIN_MOST);
        let timer = Some(turn.cx.arm(turn.cx.now.mono + wait, PeerTimer::Drain(loser)));
        entry.state = LinkState::Draining { timer };
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
        if let (Some(on), Some(loser_id)) = (self.current, self.id_of(link)) {
            turn.out.push(PeerEffect::SendDrained { on, loser: link, loser_id });
        }
    }

    /// Three probe time-outs have passed.
    pub(super) fn drain_takes_long(&mut self, turn: &mut Turn<'_, '_, '_>, link: LinkHandle) {
        let Some(index) = self.find(link) else { return };
        if let LinkState::Draining { timer } = &mut self.links[index].state {
            *timer = None;
            turn.out.push(PeerEffect::SendAgain);
        }
    }

    /// The best link that is up and not drained.
    fn best_up(&self, turn: &Turn<'_, '_, '_>, but: Option<LinkHandle>) -> Option<LinkHandle> {
        let up = |l: &&Link| l.state == LinkState::Up && Some(l.link) != but;
        let ranked: Vec<&Link> = self.links.iter().filter(up).filter(|l| l.id.is_some()).collect();
        let ids: Vec<LinkId> = ranked.iter().filter_map(|l| l.id).collect();
        let best = self.rank(turn.local).winner(&ids).map(|index| ranked[index].link);
        // Without ids the newest.
        best.or_else(|| self.links.iter().filter(up).next_back().map(|l| l.link))
    }

    /// A peer that keeps more links than it may loses the oldest of those that are drained.
    pub(super) fn bound_links(&mut self, turn: &mut Turn<'_, '_, '_>) {
        while self.links.iter().filter(|l| l.is_up()).count() > turn.local.links_per_peer_max {
            let drained = self.links.iter().find(|l| matches!(l.state, LinkState::Draining { .. }));
            // Without glare there are never more: they are refused as they come.
            let victim = drained.or_else(|| {
                self.links.iter().find(|l| l.state == LinkState::Up && Some(l.link) != self.current)
            });
            let Some(victim) = victim.map(|l| l.link) else { return };
            self.close(turn, victim, CloseCode::TOO_MANY_LINKS);
        }
    }

    /// Forgets a link, and says what that means for the peer.
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
            self.current = self.best_up(turn, None);
        }
        if self.current.is_none() {
            self.undo_draining(turn);
        }
        let retry_in = self.back_off(turn);
        let code = match reason {
            DownReason::ClosedByPeer(code) => Some(code),
            _ => None,
        };
        let refusal = code.and_then(RefuseCode::from_close);
        let shaking = matches!(state, LinkState::Greeting { .. } | LinkState::Verified { .. });
        if let Some(why) = refusal
            && (shaking || why.is_about_access())
        {
            turn.out.push(PeerEffect::Refused { why });
        }
        match state {
            LinkState::Greeting { timer } => {
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
                    LinkState::Draining { timer } => {
                        timer.into_iter().for_each(|timer| turn.cx.disarm(timer));
                        true
                    }
                    _ => false,
                };
                let last = !self.is_up() || (is_planted(30) && was_draining);
                let drained = drained && (was_draining || is_planted(31));
                turn.out.push(PeerEffect::LinkLost { link, reason, last, drained });
                if code == Some(CloseCode::OLD_INCARNATION) && turn.local.version_max > 1 {
                    turn.out.push(PeerEffect::NewerSelf);
                }
            }
        }
        self.resolve(turn);
    }

    /// The link that should have stayed is gone: those that were drained for it are used again.
    fn undo_draining(&mut self, turn: &mut Turn<'_, '_, '_>) {
        if is_planted(32) {
            // Planted: a link that is drained is never used again.
            let draining: Vec<LinkHandle> =
                self.links.iter().filter(|l| l.is_up()).map(|l| l.link).collect();
            for link in draining {
                self.close(turn, link, CloseCode::SUPERSEDED);
            }
            return;
        }
        for entry in &mut self.links {
            if let LinkState::Draining { timer } = entry.state {
                timer.into_iter().for_each(|timer| turn.cx.disarm(timer));
                entry.state = LinkState::Up;
                turn.out.push(PeerEffect::Undrained(entry.link));
            }
        }
        self.current = self.best_up(turn, None);
    }
}
