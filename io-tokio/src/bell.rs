//! Tells the driver, from any thread, that there is something to do.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

/// Rung any number of times, it wakes the one task that listens once.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    listener: Mutex<Option<Waker>>,
}

impl Bell {
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let listener = self.listener.lock().expect("nothing panics under this lock").take();
            if let Some(listener) = listener {
                listener.wake();
            }
        }
    }

    /// Forgets that it was rung: whoever asks is about to look at everything anyway.
    pub(crate) fn hush(&self) {
        self.rung.store(false, Ordering::Release);
    }

    pub(crate) fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        let mut listener = self.listener.lock().expect("nothing panics under this lock");
        // Whoever rings after this look finds the waker, as it takes the lock after ringing.
        if self.rung.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        match &mut *listener {
            Some(old) => old.clone_from(cx.waker()),
            None => *listener = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_wakes_once_until_it_is_hushed() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let bell = Bell::default();
        assert!(bell.poll_rung(&cx).is_pending());
        bell.ring();
        bell.ring();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(bell.poll_rung(&cx).is_ready());
        bell.hush();
        assert!(bell.poll_rung(&cx).is_pending());
        bell.ring();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
