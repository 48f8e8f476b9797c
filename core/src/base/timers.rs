//! The one timer queue of a node.
//!
//! Ordered by (time, arming order), so that equal inputs expire in equal order everywhere. Most timers are
//! deadlines of a few lengths, armed one after the other and disarmed long before they are due: they form
//! *runs*, queues to whose ends they are added at O(1). Only a timer that is due before the last of every
//! run goes into a *heap*, indexed, at O(log n). What is disarmed within a run stays in it as an empty
//! place until it comes to the front, or until such places outnumber the rest.

use std::collections::VecDeque;

use super::slab::{Key, Slab};
use super::time::MonoTime;

/// Names one armed timer. Once it has expired or was disarmed, it names nothing.
pub type TimerId<T> = Key<Armed<T>>;

/// A timer in the queue.
#[derive(Clone, Debug)]
pub struct Armed<T> {
    place: Place,
    what: T,
}

/// Where a timer is kept.
#[derive(Clone, Copy, Debug)]
enum Place {
    Run(usize),
    Heap(usize),
}

/// When a timer expires, and the order of arming: what is compared, kept where it is compared.
type Due = (MonoTime, u64);

/// Empty places that a run may have beside as many as there are timers.
const EMPTY_PLACES: usize = 64;

/// How many runs there are: a few lengths of deadlines, and a few timers that are due far behind all
/// others. A guess.
const RUNS: usize = 4;

type Run<T> = VecDeque<(Due, TimerId<T>)>;

/// Timers ordered by (time, arming order), each carrying a value that comes back when it expires.
#[derive(Clone, Debug)]
pub struct TimerQueue<T> {
    armed: Slab<Armed<T>>,
    /// Each ascending. The first of each is armed; others may be gone.
    runs: [Run<T>; RUNS],
    heap: Vec<(Due, TimerId<T>)>,
    /// The one that expires next: it is asked for several times an input, and changes less often.
    first: Option<(Due, TimerId<T>)>,
    next_order: u64,
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        TimerQueue {
            armed: Slab::default(),
            runs: Default::default(),
            heap: Vec::new(),
            first: None,
            next_order: 0,
        }
    }
}

impl<T> TimerQueue<T> {
    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.armed.len()
    }

    /// Whether none is armed.
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    /// Asks for `what` at `at`.
    pub fn arm(&mut self, at: MonoTime, what: T) -> TimerId<T> {
        let due = (at, self.next_order);
        self.next_order += 1;
        let id = match self.run_for(due) {
            Some(run) => {
                let id = self.armed.insert(Armed { place: Place::Run(run), what });
                self.runs[run].push_back((due, id));
                id
            }
            None => {
                let index = self.heap.len();
                let id = self.armed.insert(Armed { place: Place::Heap(index), what });
                self.heap.push((due, id));
                self.rise(index);
                id
            }
        };
        if self.first.is_none_or(|(first, _)| due < first) {
            self.first = Some((due, id));
        }
        id
    }

    /// Takes back a timer. Returns its value if it was still armed.
    pub fn disarm(&mut self, id: TimerId<T>) -> Option<T> {
        let armed = self.armed.remove(id)?;
        match armed.place {
            Place::Run(run) => self.tidy(run),
            Place::Heap(index) => self.remove_from_heap(index),
        }
        if self.first.is_some_and(|(_, first)| first == id) {
            self.first = self.find_first();
        }
        Some(armed.what)
    }

    /// When the next timer expires.
    pub fn next_at(&self) -> Option<MonoTime> {
        self.first.map(|((at, _), _)| at)
    }

    /// The next timer to expire.
    pub fn peek(&self) -> Option<(MonoTime, &T)> {
        let ((at, _), id) = self.first?;
        let armed = self.armed.get(id).expect("the first is armed");
        Some((at, &armed.what))
    }

    /// Takes the next timer that has expired by `now`.
    pub fn expire(&mut self, now: MonoTime) -> Option<T> {
        let ((at, _), id) = self.first?;
        if at <= now { self.disarm(id) } else { None }
    }

    fn find_first(&self) -> Option<(Due, TimerId<T>)> {
        let mut first = self.heap.first();
        for run in &self.runs {
            if let Some(front) = run.front()
                && first.is_none_or(|first| front.0 < first.0)
            {
                first = Some(front);
            }
        }
        first.copied()
    }

    /// The run that ends closest before `due`, so that timers of one length stay together.
    fn run_for(&self, due: Due) -> Option<usize> {
        let mut best = None;
        for (index, run) in self.runs.iter().enumerate() {
            // Who is armed later has the higher order: times alone decide. An empty run ends before all others.
            let end = run.back().map(|((at, _), _)| *at);
            if end <= Some(due.0) && best.is_none_or(|(_, closest)| closest < end) {
                best = Some((index, end));
            }
        }
        best.map(|(index, _)| index)
    }

    /// Brings an armed timer to the front of a run, and bounds its empty places.
    fn tidy(&mut self, run: usize) {
        let (armed, run) = (&self.armed, &mut self.runs[run]);
        while let Some((_, id)) = run.front()
            && armed.get(*id).is_none()
        {
            run.pop_front();
        }
        if run.len() > 2 * armed.len() + EMPTY_PLACES {
            run.retain(|(_, id)| armed.get(*id).is_some());
        }
    }

    fn remove_from_heap(&mut self, index: usize) {
        self.heap.swap_remove(index);
        if index < self.heap.len() {
            self.place(index);
            self.sink(index);
            self.rise(index);
        }
    }

    fn due(&self, index: usize) -> Due {
        self.heap[index].0
    }

    fn place(&mut self, index: usize) {
        let (_, id) = self.heap[index];
        self.armed.get_mut(id).expect("the heap names armed timers").place = Place::Heap(index);
    }

    fn rise(&mut self, mut index: usize) {
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.due(parent) <= self.due(index) {
                break;
            }
            self.heap.swap(parent, index);
            self.place(parent);
            self.place(index);
            index = parent;
        }
    }

    fn sink(&mut self, mut index: usize) {
        loop {
            let left = 2 * index + 1;
            if left >= self.heap.len() {
                break;
            }
            let right = left + 1;
            let child = if right < self.heap.len() && self.due(right) < self.due(left) {
                right
            } else {
                left
            };
            if self.due(index) <= self.due(child) {
                break;
            }
            self.heap.swap(child, index);
            self.place(child);
            self.place(index);
            index = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(nanos: u64) -> MonoTime {
        MonoTime::from_nanos(nanos)
    }

    #[test]
    fn equal_times_expire_in_the_order_of_arming() {
        let mut timers = TimerQueue::default();
        for name in ["a", "b", "c", "d"] {
            timers.arm(at(5), name);
        }
        timers.arm(at(4), "first");
        let order: Vec<_> = std::iter::from_fn(|| timers.expire(at(5))).collect();
        assert_eq!(order, ["first", "a", "b", "c", "d"]);
    }

    #[test]
    fn a_timer_does_not_expire_early_or_after_it_was_disarmed() {
        let mut timers = TimerQueue::default();
        let id = timers.arm(at(5), ());
        assert_eq!(timers.expire(at(4)), None);
        assert_eq!(timers.disarm(id), Some(()));
        assert_eq!(timers.disarm(id), None);
        assert_eq!(timers.expire(at(9)), None);
    }

    #[test]
    fn what_was_disarmed_takes_bounded_room() {
        let mut timers = TimerQueue::default();
        timers.arm(at(1), ());
        for n in 0..10_000 {
            let id = timers.arm(at(100 + n), ());
            timers.disarm(id);
            let places: usize = timers.runs.iter().map(VecDeque::len).sum();
            assert!(places <= RUNS * (2 * timers.len() + EMPTY_PLACES), "{places}");
        }
        assert_eq!((timers.len(), timers.heap.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_list(
            steps in proptest::collection::vec((0u64..50, any::<bool>(), any::<u8>()), 1..200),
        ) {
            let mut timers = TimerQueue::default();
            let mut model: Vec<(u64, usize, TimerId<usize>)> = Vec::new();
            for (order, (time, disarm, pick)) in steps.into_iter().enumerate() {
                if disarm && !model.is_empty() {
                    let (_, value, id) = model.remove(pick as usize % model.len());
                    prop_assert_eq!(timers.disarm(id), Some(value));
                } else {
                    let id = timers.arm(at(time), order);
                    model.push((time, order, id));
                }
                model.sort();
                prop_assert_eq!(timers.next_at(), model.first().map(|m| at(m.0)));
                prop_assert_eq!(timers.len(), model.len());
                for run in &timers.runs {
                    prop_assert!(run.len() <= 2 * timers.len() + EMPTY_PLACES);
                }
            }
            let expected: Vec<usize> = model.iter().map(|m| m.1).collect();
            let got: Vec<usize> = std::iter::from_fn(|| timers.expire(at(50))).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
