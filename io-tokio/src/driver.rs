//! The one task that owns a node: it receives, lets the node and its services act, transmits, sleeps.
//!
//! Nothing on the way of a call leaves this task, but what an application's own tasks and handlers with
//! [`Placement::Spawned`](dunlin_core::service::Placement) do. All work of one turn is fed before
//! anything is drained, so what many tasks ask at once goes out in few packets.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use dunlin_core::service::{BoxFuture, Host, Spawner};
use dunlin_core::store::StoreInput;
use dunlin_core::transport::Transmit;
use dunlin_core::{Event, MonoTime, Node as Core, Now, PeerId};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::bell::Bell;
use crate::clock::Clock;
use crate::events::Feed;
use crate::names::Names;
use crate::node::NodeError;
use crate::reach::Reach;
use crate::resolver::Resolver;
use crate::socket::Socket;
use crate::store::writer::Writer;

/// Receive buffers of one turn, and batches sent in one turn, before other tasks of the runtime get
/// theirs. 64 batches are 4 MiB: what the kernel queues. A guess.
const TURN_BUDGET: usize = 64;

/// Who has sent so many bytes in one turn may be held back by QUIC's pacing: it lets ten datagrams go at once,
/// of 1,200 bytes at least.
const BURST_BYTES: usize = 10 * 1_200;

/// For so long after a burst a deadline that is close is taken for one of pacing: a tick of tokio's clock, and
/// the longest pause between two bursts.
const PACED: Duration = Duration::from_millis(2);

/// The longest sleep. tokio's timers stand still while the machine is suspended, the node's clock does
/// not: this is how late a node may notice.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// Maximum time for which a driver that is dropped tries to send what says so: its last packets wait for room in the
/// socket. A guess: a socket's buffer of 4 MiB takes 32 ms at 1 Gbit/s.
const GOODBYE_MAX: Duration = Duration::from_millis(100);

/// Between two attempts of that. A guess.
const GOODBYE_PAUSE: Duration = Duration::from_millis(1);

/// Something to do with the whole node on the driver's task.
type Task = Box<dyn FnOnce(&mut Core, &mut Host, Now) + Send>;

/// What the driver shares with the node's owner.
pub(crate) struct Desk {
    pub(crate) bell: Arc<Bell>,
    pub(crate) feed: Feed,
    /// Where the node's sockets can send to.
    pub(crate) reach: Reach,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) names: Names,
    /// Runs what the node does beside its driver: its own thread's, if it has one.
    pub(crate) runtime: Handle,
    tasks: Mutex<Option<Vec<Task>>>,
    /// Whether the driver has ended and its last packets are out.
    has_ended: Mutex<bool>,
    ended: Condvar,
}

impl Desk {
    /// A desk whose driver is about to begin.
    pub(crate) fn open(reach: Reach, resolver: Arc<dyn Resolver>, runtime: Handle) -> Arc<Desk> {
        Arc::new(Desk {
            bell: Arc::default(),
            feed: Feed::default(),
            reach,
            resolver,
            names: Names::default(),
            runtime,
            tasks: Mutex::new(Some(Vec::new())),
            has_ended: Mutex::new(false),
            ended: Condvar::new(),
        })
    }

    /// Runs `task` with the whole node in the driver's next turn; drops it if the driver has ended.
    pub(crate) fn ask(&self, task: impl FnOnce(&mut Core, &mut Host, Now) + Send + 'static) {
        if let Some(tasks) = &mut *self.tasks.lock().expect("nothing panics under this lock") {
            tasks.push(Box::new(task));
        }
        self.bell.ring();
    }

    /// Blocks until the driver has ended, for at most `time`.
    pub(crate) fn wait_for_end(&self, time: Duration) {
        let has_ended = self.has_ended.lock().expect("nothing panics under this lock");
        let waited = self.ended.wait_timeout_while(has_ended, time, |has_ended| !*has_ended);
        drop(waited.expect("nothing panics under this lock"));
    }

    fn take(&self) -> Vec<Task> {
        let mut tasks = self.tasks.lock().expect("nothing panics under this lock");
        tasks.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn close(&self) {
        let tasks = self.tasks.lock().expect("nothing panics under this lock").take();
        drop(tasks);
        self.names.clear();
        self.feed.close();
        *self.has_ended.lock().expect("nothing panics under this lock") = true;
        self.ended.notify_all();
    }
}

/// Puts handlers on the runtime that the node was started on.
pub(crate) struct TokioSpawner(pub(crate) tokio::runtime::Handle);

impl Spawner for TokioSpawner {
    fn spawn(&self, future: BoxFuture<()>) -> Box<dyn FnOnce() + Send> {
        let task = self.0.spawn(future).abort_handle();
        Box::new(move || task.abort())
    }
}

/// See the module's documentation.
pub(crate) struct Driver<S: Socket, C: Clock> {
    core: Core,
    host: Host,
    socket: S,
    clock: C,
    /// Where what must survive goes.
    writer: Option<Writer>,
    /// It is within a turn. Dropped in one, it has panicked, and the node may be half changed.
    is_acting: bool,
    /// Why nothing is stored any more.
    store_failed: Option<String>,
    /// The peer that has shown a later start of this node.
    newer_self: Option<PeerId>,
    desk: Arc<Desk>,
    /// The batch that is being sent.
    batch: Vec<u8>,
    /// The batch did not go out: the socket took no more.
    pending: Option<Transmit>,
    /// When a burst was sent last.
    burst_at: Option<MonoTime>,
    sleep: Pin<Box<Sleep>>,
    /// When the sleep ends. It is left as it is when that is early enough, as setting it costs more
    /// than waking once in vain.
    armed: Option<MonoTime>,
}

impl<S: Socket, C: Clock> Driver<S, C> {
    pub(crate) fn new(
        core: Core,
        host: Host,
        socket: S,
        clock: C,
        writer: Option<Writer>,
        desk: Arc<Desk>,
    ) -> Self {
        Driver {
            core,
            host,
            socket,
            clock,
            writer,
            is_acting: false,
            store_failed: None,
            newer_self: None,
            desk,
            batch: Vec::new(),
            pending: None,
            burst_at: None,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
        }
    }

    /// Runs the node until it has stopped. An error says why it did so by itself.
    pub(crate) async fn run(mut self) -> Result<(), NodeError> {
        let ended = self.run_to_its_end().await;
        if let Some(writer) = &mut self.writer {
            writer.finish().await;
        }
        match (self.store_failed.take(), self.newer_self) {
            (Some(why), _) => Err(NodeError::Store(why)),
            (None, Some(told_by)) => Err(NodeError::NewerSelf { told_by }),
            (None, None) => Ok(ended?),
        }
    }

    async fn run_to_its_end(&mut self) -> io::Result<()> {
        loop {
            let now = self.clock.now();
            self.is_acting = true;
            let received = self.receive(now);
            self.core.handle_timeout(now);
            self.act(now);
            let all_sent = self.transmit(now);
            self.store();
            self.is_acting = false;
            let all_received = received?;
            if self.core.is_drained() && self.pending.is_none() && !self.core.mesh().has_events() {
                return Ok(());
            }
            if !all_received || !all_sent {
                tokio::task::yield_now().await;
                continue;
            }
            let wake = self.next_wake(now);
            if wake.is_some_and(|at| self.is_close(now, at)) {
                tokio::task::yield_now().await;
                continue;
            }
            self.wait(now, wake).await?;
        }
    }

    /// Takes what has arrived. Says whether that was all.
    fn receive(&mut self, now: Now) -> io::Result<bool> {
        let mut budget = TURN_BUDGET;
        let core = &mut self.core;
        let mut deliver = |datagram| core.handle_datagram(now, datagram);
        while budget > 0 {
            match self.socket.try_receive(&mut deliver) {
                Ok(buffers) => budget = budget.saturating_sub(buffers.max(1)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Lets services and application tasks act.
    fn act(&mut self, now: Now) {
        // Whatever was asked before this line is seen below.
        self.desk.bell.hush();
        for task in self.desk.take() {
            task(&mut self.core, &mut self.host, now);
        }
        for answer in self.writer.iter().flat_map(Writer::answers) {
            if let StoreInput::Failed { why } = &answer {
                self.store_failed = Some(why.clone());
            }
            self.core.handle_store(now, answer).expect("what is durable was given out");
        }
        let (feed, newer_self) = (&self.desk.feed, &mut self.newer_self);
        self.core.turn(now, &mut self.host, &mut |event| {
            if let Event::NewerSelf { told_by } = event {
                *newer_self = Some(*told_by);
            }
            feed.observe(event);
        });
    }

    /// Hands over what is to be stored.
    fn store(&mut self) {
        if let Some(writer) = &self.writer {
            while let Some(request) = self.core.poll_store() {
                writer.write(request);
            }
        }
    }

    /// Sends what there is. Says whether that was all, or the socket must be waited for.
    fn transmit(&mut self, now: Now) -> bool {
        let mut batch_max = self.socket.batch_datagrams_max();
        let mut sent = 0;
        for _ in 0..TURN_BUDGET {
            let next = self.pending.take();
            let next = next.or_else(|| self.core.poll_transmit(now, batch_max, &mut self.batch));
            let Some(transmit) = next else { return true };
            sent += transmit.size;
            if sent >= BURST_BYTES {
                self.burst_at = Some(now.mono);
            }
            match self.socket.try_send(&transmit, &self.batch[..transmit.size]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pending = Some(transmit);
                    return true;
                }
                Err(error) => {
                    // A probe too large for the path, no route, no buffer, a device without offloads: to
                    // QUIC the packets are lost, and the socket may have learnt from it.
                    tracing::debug!(%error, to = %transmit.destination, "a batch is lost");
                    batch_max = self.socket.batch_datagrams_max();
                }
            }
        }
        false
    }

    fn next_wake(&self, now: Now) -> Option<MonoTime> {
        let core = self.core.next_wake().map(|wake| wake.at);
        [core, self.host.next_wake(now.mono)].into_iter().flatten().min()
    }

    /// Whether a deadline is too close to sleep until then. Those of pacing are worth the CPU time of looking again
    /// and again; all others, as of acknowledgements, can be late by a tick.
    fn is_close(&self, now: Now, at: MonoTime) -> bool {
        let precision = self.clock.precision();
        if at <= now.mono {
            return true;
        }
        if self.burst_at.is_none_or(|burst| now.mono.since(burst) > PACED) {
            return false;
        }
        // The turn took some time: look again before it is said that there is time to sleep.
        at.since(now.mono) < precision + Duration::from_millis(2)
            && at.since(self.clock.now().mono) <= precision
    }

    /// Sleeps until something arrives, the socket takes more, somebody rings, or it is time.
    async fn wait(&mut self, now: Now, wake: Option<MonoTime>) -> io::Result<()> {
        let until = wake.unwrap_or(MonoTime::MAX).min(now.mono + SLEEP_MAX);
        if self.armed.is_none_or(|armed| armed > until) {
            let left = until.since(self.clock.now().mono);
            self.sleep.as_mut().reset(Instant::now() + left);
            self.armed = Some(until);
        }
        let mut ready = pin!(self.socket.ready(self.pending.is_some()));
        let (bell, sleep, armed) = (&self.desk.bell, &mut self.sleep, &mut self.armed);
        std::future::poll_fn(|cx| {
            if bell.poll_rung(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(result) = ready.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if sleep.as_mut().poll(cx).is_ready() {
                *armed = None;
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
        .await
    }
}

impl<S: Socket, C: Clock> Driver<S, C> {
    /// Tells peers that the node is gone, within [`GOODBYE_MAX`]: they would wait for their idle time-outs otherwise.
    fn say_goodbye(&mut self) {
        if self.core.mesh().is_stopped() && self.core.is_drained() && self.pending.is_none() {
            return;
        }
        let begun = std::time::Instant::now();
        let now = self.clock.now();
        self.core.stop_at_once(now);
        loop {
            let is_out = self.transmit(now) && self.pending.is_none();
            if is_out || begun.elapsed() >= GOODBYE_MAX {
                return;
            }
            // A full socket cannot be waited for here: its runtime may have ended.
            std::thread::sleep(GOODBYE_PAUSE);
        }
    }
}

/// However the driver ends, and so also if its task is aborted or its runtime is dropped, in a panic as well.
impl<S: Socket, C: Clock> Drop for Driver<S, C> {
    fn drop(&mut self) {
        if !self.is_acting {
            self.say_goodbye();
        }
        self.desk.close();
    }
}
