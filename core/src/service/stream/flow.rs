//! One end of a stream, without time and without waiting: what it sends in which order and how much at a time, and
//! what comes.
//!
//! Each end numbers its frames, so that the other one can put in order what overtook. Bytes count as under way as
//! long as the other's application has not taken them. While half of the other's window is free, one more item may
//! go, however large it is; otherwise only what fits. So a consumer that is slow slows its producer, whose own queue
//! is bounded too; and who tells of each half of its window that was taken never leaves a producer stuck.

use std::collections::{BTreeMap, VecDeque};

use super::ITEM_BYTES_MAX;
use super::frame::{Frame, ITEM_OVERHEAD, Item};
use crate::planted::is_planted;
use crate::rpc::AppError;

/// Frames that may be under way: one that is late holds up those behind it, which wait at the other end.
pub(super) const AHEAD_MAX: u64 = 16;

/// Bytes of items that one frame carries, or one item that is larger. A guess: large enough that the costs of a call
/// do not count, small enough to share a link with others.
pub(super) const FRAME_BYTES_MAX: u64 = 64 << 10;

/// What the other end has done that no end of a stream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("it sent more than there was room for")]
    Window,
    #[error("it sent behind its end")]
    BehindEnd,
    #[error("frame {0} is too far ahead")]
    Ahead(u64),
    #[error("it has taken more than was sent")]
    Consumed,
}

/// Whether an item may go, or come, while so much is under way.
fn fits(window: u64, under_way: u64, item: &Item) -> bool {
    under_way <= window / 2 || under_way + item.weight() <= window
}

fn weight(items: &[Item]) -> u64 {
    items.iter().map(Item::weight).sum()
}

/// The part of a frame that has its place in the order.
#[derive(Debug)]
struct Numbered {
    items: Vec<Item>,
    end: bool,
    closing: Option<Result<(), AppError>>,
}

#[derive(Debug)]
pub(super) struct Flow {
    queue: VecDeque<Item>,
    queued: u64,
    /// Nothing is put into the queue any more.
    ending: bool,
    end_sent: bool,
    /// What the handler came to, to be said with the end.
    closing: Option<Result<(), AppError>>,
    frames_sent: u64,
    /// Of them, those that are known to have come.
    frames_heard: u64,
    /// Bytes, as all that follows.
    sent: u64,
    their_window: u64,
    their_consumed: u64,

    ready: VecDeque<Item>,
    received: u64,
    consumed: u64,
    /// What the other end was told of that.
    told: u64,
    /// The last frame that the other end was told of.
    told_frame: u64,
    window: u64,
    next: u64,
    ahead: BTreeMap<u64, Numbered>,
    ended: bool,
    closed: Option<Result<(), AppError>>,
}

impl Flow {
    /// With nothing sent and nothing come. The windows are in bytes.
    pub(super) fn new(window: u64, their_window: u64) -> Flow {
        Flow {
            queue: VecDeque::new(),
            queued: 0,
            ending: false,
            end_sent: false,
            closing: None,
            frames_sent: 0,
            frames_heard: 0,
            sent: 0,
            their_window,
            their_consumed: 0,
            ready: VecDeque::new(),
            received: 0,
            consumed: 0,
            told: 0,
            told_frame: 0,
            window,
            next: 1,
            ahead: BTreeMap::new(),
            ended: false,
            closed: None,
        }
    }

    // What goes.

    /// Whether nothing more may be put into the queue, ever.
    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Whether something more may be put into the queue now.
    pub(super) fn has_room(&self) -> bool {
        self.queued < FRAME_BYTES_MAX
    }

    /// Puts something into the queue. Nobody asks for that behind the end.
    pub(super) fn put(&mut self, item: Item) {
        assert!(!self.ending, "nothing is sent behind the end");
        self.queued += item.weight();
        self.queue.push_back(item);
    }

    /// Nothing more will be put into the queue.
    pub(super) fn finish(&mut self) {
        self.ending = true;
    }

    /// The handler came to this: it is said with the end.
    pub(super) fn close(&mut self, result: Result<(), AppError>) {
        self.ending = true;
        if result.is_err() {
            // What it had put there before it failed is not worth waiting for.
            self.queue.clear();
            self.queued = 0;
        }
        self.closing = Some(result);
    }

    /// Whether all that was put was sent, the end with it.
    pub(super) fn is_finished(&self) -> bool {
        self.end_sent
    }

    /// Whether another frame may go that has its place in the order.
    fn has_number(&self) -> bool {
        self.frames_sent - self.frames_heard < AHEAD_MAX
    }

    fn may_send(&self, item: &Item) -> bool {
        fits(self.their_window, self.sent - self.their_consumed, item) || is_planted(120)
    }

    /// Whether the other end should hear of something.
    pub(super) fn has_news(&self) -> bool {
        let sends = match self.queue.front() {
            Some(item) => self.may_send(item),
            None => self.ending && !self.end_sent,
        };
        sends && self.has_number()
            || self.consumed - self.told >= self.window / 2
            || self.next - 1 - self.told_frame >= AHEAD_MAX / 2
    }

    /// The next frame, whether or not there is anything in it.
    pub(super) fn frame(&mut self, stream: u64) -> Frame {
        let heard = self.next - 1;
        let mut frame = Frame { stream, consumed: self.consumed, heard, ..Frame::default() };
        (self.told, self.told_frame) = (self.consumed, heard);
        if !self.has_number() {
            return frame;
        }
        let mut bytes = 0;
        while let Some(item) = self.queue.front()
            && self.may_send(item)
            && (bytes == 0 || bytes + item.weight() <= FRAME_BYTES_MAX)
        {
            bytes += item.weight();
            self.sent += item.weight();
            self.queued -= item.weight();
            frame.items.extend(self.queue.pop_front());
        }
        if self.queue.is_empty() && self.ending && !self.end_sent {
            self.end_sent = true;
            frame.end = true;
            frame.closing = self.closing.take();
        }
        if !frame.items.is_empty() || frame.end {
            self.frames_sent += 1;
            frame.number = self.frames_sent;
        }
        frame
    }

    // What comes.

    /// Takes what the other end says.
    pub(super) fn take(&mut self, frame: Frame) -> Result<(), Wrong> {
        if frame.consumed > self.sent || frame.heard > self.frames_sent {
            return Err(Wrong::Consumed);
        }
        self.frames_heard = self.frames_heard.max(frame.heard);
        self.their_consumed = self.their_consumed.max(frame.consumed);
        if frame.number == 0 || frame.number < self.next {
            // A call runs once, so that none comes again; who repeats a number has nothing to say.
            return Ok(());
        }
        if frame.number >= self.next + AHEAD_MAX {
            return Err(Wrong::Ahead(frame.number));
        }
        let bytes = weight(&frame.items);
        let ahead: u64 = self.ahead.values().map(|numbered| weight(&numbered.items)).sum();
        if self.waiting() + ahead + bytes > self.window + ITEM_BYTES_MAX + ITEM_OVERHEAD {
            return Err(Wrong::Window);
        }
        let Frame { items, end, closing, .. } = frame;
        self.ahead.insert(frame.number, Numbered { items, end, closing });
        loop {
            let next = match is_planted(121) {
                true => self.ahead.pop_first().map(|(_, numbered)| numbered),
                false => self.ahead.remove(&self.next),
            };
            let Some(numbered) = next else { return Ok(()) };
            self.next += 1;
            if self.ended {
                return Err(Wrong::BehindEnd);
            }
            for item in numbered.items {
                if !fits(self.window, self.waiting(), &item) {
                    return Err(Wrong::Window);
                }
                self.received += item.weight();
                self.ready.push_back(item);
            }
            self.ended = numbered.end;
            self.closed = numbered.closing;
        }
    }

    /// The next item for the application.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.ready.pop_front()?;
        self.consumed += item.weight();
        Some(item)
    }

    /// Whether nothing comes any more, and nothing is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    /// What the handler of the other end came to, once all before has come.
    pub(super) fn closed(&self) -> Option<&Result<(), AppError>> {
        self.closed.as_ref()
    }

    /// How many bytes have come that the application has not taken.
    pub(super) fn waiting(&self) -> u64 {
        self.received - self.consumed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::payload::ContentType;

    /// What one test does at one time: of which end (the lower bit), and what.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Put(bool, u16),
        Take(bool),
        Say(bool),
        /// Of what is under way to this end, whatever lies at this place.
        Hear(bool, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (any::<bool>(), 0..9_000u16).prop_map(|(end, bytes)| Step::Put(end, bytes)),
            2 => any::<bool>().prop_map(Step::Take),
            3 => any::<bool>().prop_map(Step::Say),
            4 => (any::<bool>(), any::<u8>()).prop_map(|(end, at)| Step::Hear(end, at)),
        ]
    }

    fn item(number: usize, bytes: u16) -> Item {
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(8 + usize::from(bytes), 7);
        Item { content: ContentType::RAW, bytes: payload.into() }
    }

    fn number(item: &Item) -> usize {
        usize::from_le_bytes(item.bytes[..8].try_into().unwrap())
    }

    /// Two ends, what is under way to each, and how much each has put and taken.
    struct Pair {
        ends: [Flow; 2],
        under_way: [Vec<Frame>; 2],
        put: [usize; 2],
        taken: [usize; 2],
        windows: [u64; 2],
    }

    impl Pair {
        fn new(windows: [u64; 2]) -> Pair {
            Pair {
                ends: [Flow::new(windows[0], windows[1]), Flow::new(windows[1], windows[0])],
                under_way: Default::default(),
                put: [0; 2],
                taken: [0; 2],
                windows,
            }
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Put(end, bytes) => {
                    let end = usize::from(end);
                    if self.ends[end].has_room() {
                        self.ends[end].put(item(self.put[end], bytes));
                        self.put[end] += 1;
                    }
                }
                Step::Take(end) => {
                    let end = usize::from(end);
                    if let Some(item) = self.ends[end].pop() {
                        assert_eq!(number(&item), self.taken[end], "in order, each once");
                        self.taken[end] += 1;
                    }
                }
                Step::Say(end) => {
                    let end = usize::from(end);
                    // One may stay under way for as long as it likes.
                    if self.ends[end].has_news() {
                        let frame = self.ends[end].frame(1);
                        self.under_way[1 - end].push(frame);
                    }
                }
                Step::Hear(end, at) => {
                    let end = usize::from(end);
                    if !self.under_way[end].is_empty() {
                        let at = usize::from(at) % self.under_way[end].len();
                        let frame = self.under_way[end].swap_remove(at);
                        self.ends[end].take(frame).expect("both ends are honest");
                    }
                }
            }
            for (end, window) in self.ends.iter().zip(self.windows) {
                assert!(end.waiting() <= window + ITEM_BYTES_MAX + ITEM_OVERHEAD);
            }
        }
    }

    proptest! {
        #[test]
        fn all_comes_in_order_and_nobody_is_stuck(
            windows in [4_096..40_000u64, 4_096..40_000u64],
            steps in prop::collection::vec(step(), 0..300),
        ) {
            let mut pair = Pair::new(windows);
            for step in steps {
                pair.step(step);
            }
            for end in &mut pair.ends {
                end.finish();
            }
            // Whoever goes on comes to the end.
            for _ in 0..2_000 {
                for end in [false, true] {
                    for step in [Step::Say(end), Step::Hear(end, 0), Step::Take(end)] {
                        pair.step(step);
                    }
                }
            }
            prop_assert_eq!(pair.taken[0], pair.put[1]);
            prop_assert_eq!(pair.taken[1], pair.put[0]);
            prop_assert!(pair.ends.iter().all(|end| end.is_at_end() && end.is_finished()));
        }
    }

    #[test]
    fn a_consumer_that_takes_nothing_stops_its_producer() {
        let mut pair = Pair::new([4_096, 10_000]);
        for _ in 0..1_000 {
            for step in [Step::Put(false, 1_000), Step::Say(false), Step::Hear(true, 0)] {
                pair.step(step);
            }
        }
        // Half a window, and what then still fits.
        assert!(pair.ends[1].waiting() <= 10_000);
        assert!(!pair.ends[0].has_room() && !pair.ends[0].has_news());
        assert_eq!(pair.taken[1], 0);
    }

    #[test]
    fn whoever_does_not_keep_to_the_window_is_noticed() {
        let mut flow = Flow::new(4_096, 4_096);
        let frame = |number, bytes, end| {
            let (items, number) = (vec![item(0, bytes)], number);
            Frame { stream: 1, number, items, end, ..Frame::default() }
        };
        assert_eq!(flow.take(frame(1, 3_000, false)), Ok(()));
        assert_eq!(flow.take(frame(2, 3_000, false)), Err(Wrong::Window));
        let mut flow = Flow::new(4_096, 4_096);
        assert_eq!(flow.take(frame(AHEAD_MAX + 1, 1, false)), Err(Wrong::Ahead(AHEAD_MAX + 1)));
        assert_eq!(flow.take(frame(1, 1, true)), Ok(()));
        assert_eq!(flow.take(frame(2, 1, false)), Err(Wrong::BehindEnd));
        let lies = Frame { consumed: 1, ..Frame::default() };
        assert_eq!(flow.take(lies), Err(Wrong::Consumed));
    }
}
