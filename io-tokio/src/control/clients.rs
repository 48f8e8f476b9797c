//! The clients of a control socket at one time. When there is no room, one that says nothing makes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::{AbortHandle, JoinSet};

/// What a client is at. Ordered by which makes room first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// It has not greeted, since that turn.
    Ungreeted(u64),
    /// It asks nothing, since that turn.
    Idle(u64),
    /// It waits for an answer.
    #[default]
    Busy,
}

/// What one client is at, as its conversation tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    state: Arc<Mutex<State>>,
    /// Counts changes of all clients: what was longest ago has the lowest number.
    turns: Arc<AtomicU64>,
}

impl Standing {
    fn set(&self, state: State) {
        *self.state.lock().expect("nothing panics under this lock") = state;
    }

    fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn idle(&self) {
        self.set(State::Idle(self.turn()));
    }

    pub(super) fn busy(&self) {
        self.set(State::Busy);
    }

    fn get(&self) -> State {
        *self.state.lock().expect("nothing panics under this lock")
    }
}

/// The clients that are connected, at most a given number.
#[derive(Debug)]
pub(super) struct Clients {
    tasks: JoinSet<()>,
    open: Vec<(Standing, AbortHandle)>,
    turns: Arc<AtomicU64>,
    max: usize,
}

impl Clients {
    /// Room for so many.
    pub(super) fn at_most(max: usize) -> Clients {
        Clients { tasks: JoinSet::new(), open: Vec::new(), turns: Arc::default(), max }
    }

    /// Whether there is room for one more. If all places are taken, the client that has been silent for longest goes:
    /// first those that have not greeted, then those that ask nothing. There is none if all of them wait for answers.
    pub(super) fn make_room(&mut self) -> bool {
        self.open.retain(|(_, task)| !task.is_finished());
        if self.open.len() < self.max {
            return true;
        }
        let states = self.open.iter().map(|(standing, _)| standing.get()).enumerate();
        match states.min_by_key(|(_, state)| *state) {
            Some((at, State::Ungreeted(_) | State::Idle(_))) => {
                let (_, task) = self.open.swap_remove(at);
                tracing::debug!("a silent client of the control socket makes room");
                task.abort();
                true
            }
            _ => false,
        }
    }

    /// Talks to one more client, which says whenever it becomes idle or busy.
    pub(super) fn add<F>(&mut self, converse: impl FnOnce(Standing) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let standing = Standing { turns: Arc::clone(&self.turns), ..Standing::default() };
        standing.set(State::Ungreeted(standing.turn()));
        let task = self.tasks.spawn(converse(standing.clone()));
        self.open.push((standing, task));
    }

    /// Waits until one of them has ended; none if there are none.
    pub(super) async fn next_end(&mut self) -> Option<()> {
        // A panic in it has been reported where it happened.
        self.tasks.join_next().await.map(drop)
    }
}
