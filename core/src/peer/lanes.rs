//! The order of shared lanes across links: a lane that moves to another link keeps its order.
//!
//! A sender that leaves a link says on each shared lane of the new link, before anything else: what follows is
//! behind so many frames of this lane on the old one (a *cut*). The receiver holds back what follows until
//! those have come, or the old link is gone: then what was on it is in doubt anyway, and whoever
//! wants it sends it again under its own id.
//!
//! [`Lanes`] keeps the accounts of all links to one peer. It does not know what frames are: the mesh puts
//! messages in, the exploration numbers.

use std::collections::VecDeque;

use crate::link::{Lane, LinkHandle, Sent};

/// Something that came on a shared lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Arriving<T> {
    /// A frame.
    Frame(T),
    /// A cut. The old link as the receiver knows it; none if it is gone here already.
    Cut {
        /// The link that the sender has left.
        from: Option<LinkHandle>,
        /// How many frames it sent there on this lane.
        frames: u64,
    },
}

/// What is held back is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// The link that everything waits for.
    pub awaited: LinkHandle,
}

/// More frames than a sender can have under way on one lane: a cut that names more of them names what was never sent.
/// A lane has a window of 1 MiB, and a frame at least two bytes. Eight times as much, for transports with larger windows.
pub const UNDER_WAY_MAX: u64 = 1 << 22;

/// What each held frame costs beside its bytes. A guess.
const HELD_FRAME_BYTES: usize = 128;

/// How much may be held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeldLimits {
    /// Frames.
    pub frames_max: usize,
    /// Bytes: those of the frames, and 128 for each.
    pub bytes_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wait {
    from: LinkHandle,
    frames: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SharedLane<T> {
    wait: Option<Wait>,
    /// With what each costs, in bytes.
    held: VecDeque<(Arriving<T>, usize)>,
}

impl<T> Default for SharedLane<T> {
    fn default() -> Self {
        SharedLane { wait: None, held: VecDeque::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Account<T> {
    link: LinkHandle,
    sent: Sent,
    /// A lane of its own was reset, so that nobody can say how many come.
    own_reset: bool,
    received: Sent,
    /// What the peer has sent here in all, once it has said that it sends no more.
    end: Option<Sent>,
    /// Of each lane what is held up there. Mostly nothing is, and then there is nothing.
    lanes: [Option<Box<SharedLane<T>>>; 1 + Lane::SHARED as usize],
}

impl<T> Account<T> {
    /// What a lane waits for.
    fn wait(&self, lane: Lane) -> Option<&Wait> {
        self.lanes[index(lane)].as_ref()?.wait.as_ref()
    }
}

/// The accounts of all links to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lanes<T> {
    links: Vec<Account<T>>,
    held: usize,
    held_bytes: usize,
}

/// What is delivered, in order: on which link and lane it came.
pub type Delivered<T> = (LinkHandle, Lane, T);

fn index(lane: Lane) -> usize {
    debug_assert!(!lane.is_own());
    lane.0 as usize
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Lanes::new()
    }
}

impl<T> Lanes<T> {
    /// No links.
    pub fn new() -> Self {
        Lanes { links: Vec::new(), held: 0, held_bytes: 0 }
    }

    /// A link to the peer is there. Links are kept in the order of their handles, so that what happens does not
    /// depend on which came first.
    pub fn open(&mut self, link: LinkHandle) {
        let at = self.links.partition_point(|account| account.link < link);
        let account = Account {
            link,
            sent: Sent::default(),
            own_reset: false,
            received: Sent::default(),
            end: None,
            lanes: Default::default(),
        };
        // Mostly there is one, and a vector would begin with room for four.
        self.links.reserve_exact(1);
        self.links.insert(at, account);
    }

    fn account(&mut self, link: LinkHandle) -> Option<&mut Account<T>> {
        self.links.iter_mut().find(|account| account.link == link)
    }

    fn look(&self, link: LinkHandle) -> Option<&Account<T>> {
        self.links.iter().find(|account| account.link == link)
    }

    /// How many frames are held back.
    pub fn held(&self) -> usize {
        self.held
    }

    /// How many bytes are held back, with what each frame costs beside its own.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether a cut can be true: the peer cannot have sent so many more frames on that lane than have come.
    pub fn is_possible(&self, from: LinkHandle, lane: Lane, frames: u64) -> bool {
        let Some(account) = self.look(from) else { return true };
        let come = account.received.lanes[index(lane)];
        let sent_in_all = account.end.map_or(u64::MAX, |end| end.lanes[index(lane)]);
        frames <= sent_in_all && frames.saturating_sub(come) <= UNDER_WAY_MAX
    }

    // The sender's side.

    /// A frame went out on this link.
    pub fn sent(&mut self, link: LinkHandle, lane: Lane) {
        let Some(account) = self.account(link) else { return };
        if lane.is_own() {
            account.sent.own += 1;
        } else {
            account.sent.lanes[index(lane)] += 1;
        }
    }

    /// A lane of its own that had a frame was reset: whether that comes is not known.
    pub fn reset_own(&mut self, link: LinkHandle) {
        if let Some(account) = self.account(link) {
            account.own_reset = true;
        }
    }

    /// What went out on this link so far. Lanes of their own count only if none was reset.
    pub fn sent_on(&self, link: LinkHandle) -> Sent {
        let Some(account) = self.look(link) else { return Sent::default() };
        let own = if account.own_reset { 0 } else { account.sent.own };
        Sent { own, ..account.sent }
    }

    /// Whether what went out on this link is known to be what must come.
    pub fn is_certain(&self, link: LinkHandle) -> bool {
        self.look(link).is_some_and(|account| !account.own_reset)
    }

    // The receiver's side.

    /// A frame came on a lane of its own.
    pub fn arrived_own(&mut self, link: LinkHandle) {
        if let Some(account) = self.account(link) {
            account.received.own += 1;
        }
    }

    /// Whether a frame on the control lane or a shared one may pass at once, with nothing else to do; it is counted then. Most
    /// are of this kind.
    pub fn passes(&mut self, link: LinkHandle, lane: Lane) -> bool {
        let others_wait =
            self.links.iter().any(|l| l.wait(lane).is_some_and(|wait| wait.from == link));
        let Some(account) = self.account(link) else { return false };
        let passes = !others_wait && account.wait(lane).is_none();
        if passes {
            account.received.lanes[index(lane)] += 1;
        }
        passes
    }

    /// Whether a frame on a shared lane would be held back if it came now.
    pub fn holds_back(&self, link: LinkHandle, lane: Lane) -> bool {
        self.links.len() > 1
            && lane.is_legal()
            && !lane.is_own()
            && self.look(link).is_some_and(|account| account.wait(lane).is_some())
    }

    /// Something came on a shared lane, in a frame of so many bytes. What may be delivered now goes to `out`, in order.
    ///
    /// # Errors
    ///
    /// When more is held back than may be. What came is held nevertheless: the caller closes the link
    /// that is waited for.
    pub fn arrive(
        &mut self,
        link: LinkHandle,
        lane: Lane,
        (what, frame_bytes): (Arriving<T>, usize),
        limits: HeldLimits,
        out: &mut Vec<Delivered<T>>,
    ) -> Result<(), Overflow> {
        let Some(account) = self.account(link) else { return Ok(()) };
        let shared = account.lanes[index(lane)].get_or_insert_default();
        let bytes = frame_bytes + HELD_FRAME_BYTES;
        shared.held.push_back((what, bytes));
        let awaited = shared.wait.as_ref().map(|wait| wait.from);
        self.held += 1;
        self.held_bytes += bytes;
        self.release(link, lane, out);
        let too_much = self.held > limits.frames_max || self.held_bytes > limits.bytes_max;
        match awaited {
            Some(awaited) if too_much => Err(Overflow { awaited }),
            _ => Ok(()),
        }
    }

    /// Delivers what need not be held any more on one lane, and then what waited for that.
    fn release(&mut self, link: LinkHandle, lane: Lane, out: &mut Vec<Delivered<T>>) {
        let mut again = vec![link];
        while let Some(link) = again.pop() {
            let before = self.look(link).map(|l| l.received.lanes[index(lane)]);
            self.release_one(link, lane, out);
            if self.look(link).map(|l| l.received.lanes[index(lane)]) == before {
                continue;
            }
            let waits = |l: &&Account<T>| l.wait(lane).is_some_and(|wait| wait.from == link);
            again.extend(self.links.iter().filter(waits).map(|l| l.link));
        }
    }

    fn release_one(&mut self, link: LinkHandle, lane: Lane, out: &mut Vec<Delivered<T>>) {
        loop {
            let Some(account) = self.look(link) else { return };
            if let Some(wait) = account.wait(lane) {
                let come = self.look(wait.from).map(|l| l.received.lanes[index(lane)]);
                if come.is_some_and(|come| come < wait.frames) {
                    return;
                }
            }
            let account = self.account(link).expect("just looked up");
            let Some(shared) = &mut account.lanes[index(lane)] else { return };
            shared.wait = None;
            let Some((what, bytes)) = shared.held.pop_front() else {
                account.lanes[index(lane)] = None;
                return;
            };
            // A cut is a frame like any other for those who wait for this lane.
            account.received.lanes[index(lane)] += 1;
            match what {
                Arriving::Frame(frame) => out.push((link, lane, frame)),
                Arriving::Cut { from: Some(from), frames } if from != link => {
                    shared.wait = Some(Wait { from, frames });
                }
                Arriving::Cut { .. } => {}
            }
            self.held -= 1;
            self.held_bytes -= bytes;
        }
    }

    /// The link for which this lane waits.
    pub fn awaited(&self, link: LinkHandle, lane: Lane) -> Option<LinkHandle> {
        self.look(link)?.wait(lane).map(|wait| wait.from)
    }

    /// A link is gone. What waited for it waits no longer and goes to `out`; what was held on it is
    /// dropped: at its sender it is in doubt like everything else that was under way there.
    pub fn close(&mut self, link: LinkHandle, out: &mut Vec<Delivered<T>>) {
        let Some(at) = self.links.iter().position(|account| account.link == link) else { return };
        let account = self.links.remove(at);
        for (_, bytes) in account.lanes.iter().flatten().flat_map(|lane| &lane.held) {
            self.held -= 1;
            self.held_bytes -= bytes;
        }
        let left: Vec<LinkHandle> = self.links.iter().map(|account| account.link).collect();
        for number in 0..=Lane::SHARED {
            for link in &left {
                self.release(*link, Lane(number), out);
            }
        }
    }

    /// Asserts that the account of what is held is right. One frame may be beyond the bound: that which came last.
    pub fn check_invariants(&self) {
        let held = self.links.iter().flat_map(|l| l.lanes.iter().flatten()).flat_map(|l| &l.held);
        let bytes = held.clone().map(|(_, bytes)| bytes).sum::<usize>();
        assert_eq!((held.count(), bytes), (self.held, self.held_bytes), "what is held is counted");
    }

    // The end of a link that is drained.

    /// The peer has sent so much on this link and sends no more.
    pub fn set_end(&mut self, link: LinkHandle, end: Sent) {
        if let Some(account) = self.account(link) {
            account.end = Some(end);
        }
    }

    /// The peer sends on this link again.
    pub fn clear_end(&mut self, link: LinkHandle) {
        if let Some(account) = self.account(link) {
            account.end = None;
        }
    }

    /// The links on which everything has come that the peer ever sends there.
    pub fn complete(&self) -> impl Iterator<Item = LinkHandle> + '_ {
        self.links.iter().filter_map(|account| {
            let end = account.end?;
            let lanes = account.received.lanes.iter().zip(end.lanes);
            let all = lanes.into_iter().all(|(come, end)| *come >= end);
            (all && account.received.own >= end.own).then_some(account.link)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: LinkHandle = LinkHandle(1);
    const NEW: LinkHandle = LinkHandle(2);
    const NEWEST: LinkHandle = LinkHandle(3);
    const LANE: Lane = Lane(2);
    const LIMITS: HeldLimits = HeldLimits { frames_max: 4, bytes_max: 10_000 };

    fn lanes() -> Lanes<u32> {
        let mut lanes = Lanes::new();
        for link in [OLD, NEW, NEWEST] {
            lanes.open(link);
        }
        lanes
    }

    fn frame(lanes: &mut Lanes<u32>, link: LinkHandle, number: u32) -> Vec<u32> {
        arrive(lanes, link, Arriving::Frame(number)).unwrap()
    }

    fn cut(lanes: &mut Lanes<u32>, link: LinkHandle, from: LinkHandle, frames: u64) -> Vec<u32> {
        arrive(lanes, link, Arriving::Cut { from: Some(from), frames }).unwrap()
    }

    fn arrive(
        lanes: &mut Lanes<u32>,
        link: LinkHandle,
        what: Arriving<u32>,
    ) -> Result<Vec<u32>, Overflow> {
        let mut out = Vec::new();
        lanes.arrive(link, LANE, (what, 10), LIMITS, &mut out)?;
        Ok(out.into_iter().map(|(_, _, number)| number).collect())
    }

    #[test]
    fn what_follows_a_cut_waits_for_what_is_before_it() {
        let mut lanes = lanes();
        assert_eq!(frame(&mut lanes, OLD, 1), [1]);
        assert!(cut(&mut lanes, NEW, OLD, 3).is_empty());
        assert!(frame(&mut lanes, NEW, 4).is_empty());
        assert_eq!(frame(&mut lanes, OLD, 2), [2]);
        assert_eq!(frame(&mut lanes, OLD, 3), [3, 4]);
        assert_eq!(frame(&mut lanes, NEW, 5), [5]);
        assert_eq!(lanes.held(), 0);
    }

    #[test]
    fn a_lane_that_moves_twice_keeps_its_order() {
        let mut lanes = lanes();
        // Sent: 1 on the old link; a cut and 2 on the new one; a cut and 3 on the newest.
        assert!(cut(&mut lanes, NEWEST, NEW, 2).is_empty());
        assert!(frame(&mut lanes, NEWEST, 3).is_empty());
        assert!(cut(&mut lanes, NEW, OLD, 1).is_empty());
        assert!(frame(&mut lanes, NEW, 2).is_empty());
        assert_eq!(frame(&mut lanes, OLD, 1), [1, 2, 3]);
    }

    #[test]
    fn nothing_waits_for_a_link_that_is_gone() {
        let mut lanes = lanes();
        cut(&mut lanes, NEW, OLD, 9);
        frame(&mut lanes, NEW, 4);
        let mut out = Vec::new();
        lanes.close(OLD, &mut out);
        assert_eq!(out, [(NEW, LANE, 4)]);
        let late = arrive(&mut lanes, NEW, Arriving::Cut { from: None, frames: 9 }).unwrap();
        assert!(late.is_empty());
        assert_eq!(frame(&mut lanes, NEW, 5), [5]);
    }

    #[test]
    fn links_that_wait_for_each_other_hold_a_bounded_number() {
        let mut lanes = lanes();
        cut(&mut lanes, NEW, OLD, 9);
        cut(&mut lanes, OLD, NEW, 9);
        let held = (0..4).map(|n| arrive(&mut lanes, NEW, Arriving::Frame(n)));
        assert!(held.into_iter().all(|held| held == Ok(Vec::new())));
        let overflow = arrive(&mut lanes, NEW, Arriving::Frame(4));
        assert_eq!(overflow, Err(Overflow { awaited: OLD }));
        let mut out = Vec::new();
        lanes.close(OLD, &mut out);
        assert_eq!(out.len(), 5);
        assert_eq!(lanes.held(), 0);
    }

    #[test]
    fn what_is_held_is_bounded_in_bytes() {
        let mut lanes = lanes();
        cut(&mut lanes, NEW, OLD, 9);
        let mut out = Vec::new();
        let mut arrive = |lanes: &mut Lanes<u32>, bytes| {
            lanes.arrive(NEW, LANE, (Arriving::Frame(1), bytes), LIMITS, &mut out)
        };
        assert_eq!(arrive(&mut lanes, 9_000), Ok(()));
        assert_eq!(arrive(&mut lanes, 9_000), Err(Overflow { awaited: OLD }));
        lanes.check_invariants();
        lanes.close(OLD, &mut Vec::new());
        assert_eq!(lanes.held_bytes(), 0);
        lanes.check_invariants();
    }

    #[test]
    fn a_cut_names_no_more_than_can_have_been_sent() {
        let mut lanes = lanes();
        frame(&mut lanes, OLD, 1);
        assert!(lanes.is_possible(OLD, LANE, UNDER_WAY_MAX + 1));
        assert!(!lanes.is_possible(OLD, LANE, UNDER_WAY_MAX + 2));
        assert!(!lanes.is_possible(OLD, LANE, 1 << 60));
        let mut end = Sent::default();
        end.lanes[LANE.0 as usize] = 3;
        lanes.set_end(OLD, end);
        assert!(lanes.is_possible(OLD, LANE, 3));
        assert!(!lanes.is_possible(OLD, LANE, 4), "the peer has said that it sent three");
    }

    #[test]
    fn a_link_is_complete_once_all_that_was_sent_there_has_come() {
        let mut lanes = lanes();
        lanes.sent(OLD, LANE);
        lanes.sent(OLD, Lane(Lane::OWN_FROM));
        let sent = lanes.sent_on(OLD);
        assert_eq!((sent.lanes[2], sent.own), (1, 1));
        assert_eq!(lanes.complete().count(), 0, "nobody has said how much comes");
        lanes.set_end(OLD, sent);
        assert_eq!(lanes.complete().count(), 0);
        assert!(lanes.passes(OLD, LANE));
        assert_eq!(lanes.complete().count(), 0);
        lanes.arrived_own(OLD);
        assert_eq!(lanes.complete().collect::<Vec<_>>(), [OLD]);
        lanes.reset_own(OLD);
        assert!(!lanes.is_certain(OLD));
        assert_eq!(lanes.sent_on(OLD).own, 0, "a lane that was reset is not awaited");
    }
}
