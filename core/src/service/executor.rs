//! A single-threaded executor that polls in the order of waking.
//!
//! It owns no thread and reads no clock: whoever owns it says when to run. With the same wakings in the
//! same order it polls the same tasks in the same order, so services run unchanged in the simulator.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::base::{Key, Slab};

/// Names one task.
pub type TaskKey<F> = Key<F>;

/// What became of a task, whose future is given back.
pub enum Ended<F: Future> {
    /// It gave this.
    With(F, F::Output),
    /// It panicked with this message.
    Panicked(F, String),
}

/// Tasks that were woken, and how to tell the owner that there are some.
struct Ready {
    queue: Mutex<VecDeque<u64>>,
    /// Whether the queue has any: it is looked at far more often than filled.
    any: AtomicBool,
    notify: Box<dyn Fn() + Send + Sync>,
}

/// Wakes whichever task lives at one place of the table. A late wake-up of an earlier task at that
/// place polls the present one once too often, which futures allow.
struct PlaceWaker {
    ready: Arc<Ready>,
    task: AtomicU64,
    queued: AtomicBool,
}

impl Wake for PlaceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let task = self.task.load(Ordering::Acquire);
            let mut queue = self.ready.queue.lock().expect("nothing panics under this lock");
            queue.push_back(task);
            self.ready.any.store(true, Ordering::Release);
            drop(queue);
            (self.ready.notify)();
        }
    }
}

/// See the module's documentation.
pub struct Executor<F> {
    tasks: Slab<F>,
    wakers: Vec<(Arc<PlaceWaker>, Waker)>,
    ready: Arc<Ready>,
    /// Taken from the queue of those that were woken; those in there were woken later.
    next: VecDeque<u64>,
}

impl<F: Future + Unpin> Executor<F> {
    /// An executor without tasks. `notify` is called, from whatever thread wakes a task, when
    /// [`Executor::run_next`] has something to do.
    pub fn new(notify: impl Fn() + Send + Sync + 'static) -> Self {
        let any = AtomicBool::new(false);
        let ready = Arc::new(Ready { queue: Mutex::default(), any, notify: Box::new(notify) });
        Executor { tasks: Slab::default(), wakers: Vec::new(), ready, next: VecDeque::new() }
    }

    /// How many tasks have not ended.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether all tasks have ended.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Takes a future and polls it at once. Gives its end if it needed no more than that.
    pub fn start(&mut self, future: F) -> (TaskKey<F>, Option<Ended<F>>) {
        let key = self.tasks.insert(future);
        if self.wakers.len() <= key.index() {
            let place = Arc::new(PlaceWaker {
                ready: Arc::clone(&self.ready),
                task: AtomicU64::new(0),
                queued: AtomicBool::new(false),
            });
            self.wakers.push((Arc::clone(&place), Waker::from(place)));
        }
        let place = &self.wakers[key.index()].0;
        place.task.store(key.to_u64(), Ordering::Release);
        place.queued.store(false, Ordering::Release);
        let ended = self.poll(key);
        (key, ended)
    }

    /// Drops a task unfinished.
    pub fn cancel(&mut self, task: TaskKey<F>) {
        self.tasks.remove(task);
    }

    /// Polls the task that was woken first. None if no task is woken; the end is none if the task
    /// goes on.
    pub fn run_next(&mut self) -> Option<Option<Ended<F>>> {
        loop {
            if self.next.is_empty() && self.ready.any.load(Ordering::Acquire) {
                let mut queue = self.ready.queue.lock().expect("nothing panics under this lock");
                self.ready.any.store(false, Ordering::Release);
                std::mem::swap(&mut *queue, &mut self.next);
            }
            let key = Key::from_u64(self.next.pop_front()?);
            if self.tasks.get(key).is_some() {
                return Some(self.poll(key));
            }
        }
    }

    fn poll(&mut self, key: TaskKey<F>) -> Option<Ended<F>> {
        let (place, waker) = &self.wakers[key.index()];
        // Woken again while it is polled, it is to be polled again.
        place.queued.store(false, Ordering::Release);
        let mut cx = Context::from_waker(waker);
        let future = self.tasks.get_mut(key).expect("looked up by the caller");
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *future).poll(&mut cx)));
        if let Ok(Poll::Pending) = polled {
            return None;
        }
        let future = self.tasks.remove(key)?;
        Some(match polled {
            Ok(Poll::Ready(value)) => Ended::With(future, value),
            Ok(Poll::Pending) => unreachable!("handled above"),
            Err(panic) => Ended::Panicked(future, panic_message(panic)),
        })
    }
}

/// What a panic said.
pub(super) fn panic_message(panic: Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes on this often, then gives seven.
    struct Yield {
        name: char,
        left: u32,
    }
    impl Future for Yield {
        type Output = u32;
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
            if self.left == 0 {
                return Poll::Ready(7);
            }
            self.left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    #[test]
    fn tasks_run_in_the_order_of_waking_until_they_end() {
        let mut executor = Executor::new(|| {});
        let (a, ended) = executor.start(Yield { name: 'a', left: 2 });
        assert!(ended.is_none());
        let (b, ended) = executor.start(Yield { name: 'b', left: 1 });
        assert!(ended.is_none());
        let mut order = Vec::new();
        while let Some(ended) = executor.run_next() {
            order.push(ended.map(|ended| match ended {
                Ended::With(Yield { name, .. }, 7) => name,
                _ => panic!("it gives seven"),
            }));
        }
        assert_eq!(order, [None, Some('b'), Some('a')]);
        assert!(executor.is_empty());
        executor.cancel(a);
        executor.cancel(b);
    }

    #[test]
    fn a_panic_ends_the_task_and_nothing_else() {
        let mut executor = Executor::new(|| {});
        let (_, ended) = executor.start(Box::pin(three(true)));
        let Some(Ended::Panicked(_, message)) = ended else { panic!("it panics") };
        assert_eq!(message, "broken");
        let (_, ended) = executor.start(Box::pin(three(false)));
        assert!(matches!(ended, Some(Ended::With(_, 3))));
    }

    async fn three(broken: bool) -> u32 {
        if broken {
            panic!("broken");
        }
        3
    }
}
