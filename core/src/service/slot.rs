//! The place where one result meets the future that waits for it, on any runtime.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

enum State<T> {
    Waiting(Option<Waker>),
    Ready(T),
    Taken,
    Abandoned,
}

/// Holds at most one result. Filled once by the host, taken once by a future.
pub(super) struct Slot<T> {
    state: Mutex<State<T>>,
    /// What the host calls the thing that is waited for; zero until it has begun.
    key: AtomicU64,
}

impl<T> Slot<T> {
    pub(super) fn new() -> Self {
        Slot { state: Mutex::new(State::Waiting(None)), key: AtomicU64::new(0) }
    }

    /// Runs `begin` unless the future is gone, and remembers the key that it gives.
    pub(super) fn begin(&self, begin: impl FnOnce() -> Option<u64>) {
        let state = self.state.lock().expect("nothing panics under this lock");
        if matches!(*state, State::Abandoned) {
            return;
        }
        // The future cannot be dropped unnoticed between the start and the key.
        if let Some(key) = begin() {
            self.key.store(key, Ordering::Relaxed);
        }
    }

    /// Gives the result to whoever waits.
    pub(super) fn fill(&self, value: T) {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        if let State::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Ready(value);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Takes the result, or asks to be woken when it is there.
    ///
    /// # Panics
    ///
    /// When the result was taken before.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<T> {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        match &mut *state {
            State::Waiting(registered) => {
                match registered {
                    Some(old) => old.clone_from(waker),
                    None => *registered = Some(waker.clone()),
                }
                Poll::Pending
            }
            State::Ready(_) => {
                let State::Ready(value) = std::mem::replace(&mut *state, State::Taken) else {
                    unreachable!("just looked");
                };
                Poll::Ready(value)
            }
            State::Taken | State::Abandoned => panic!("a finished future was polled again"),
        }
    }

    /// The future is dropped. Gives the key of what it waited for, if that goes on.
    pub(super) fn abandon(&self) -> Option<u64> {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        if !matches!(*state, State::Waiting(_)) {
            return None;
        }
        *state = State::Abandoned;
        let key = self.key.load(Ordering::Relaxed);
        (key != 0).then_some(key)
    }
}
