//! A thread of the node's own: a handler that blocks a thread of the application's runtime blocks no node.
//!
//! On a shared runtime the driver would wait behind a handler that its own wake-up has put on the same worker, where no
//! other worker can take it from.

use std::future::Future;
use std::io;
use std::thread::ThreadId;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A thread with a runtime. It ends with the future that is run on it.
pub(crate) struct Own {
    pub(crate) runtime: Handle,
    pub(crate) thread: ThreadId,
    ends: oneshot::Sender<()>,
}

impl Own {
    /// One, if the present runtime has several threads.
    pub(crate) fn start_if_shared() -> io::Result<Option<Own>> {
        if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Ok(None);
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel();
        let spawned = std::thread::Builder::new().name("dunlin-node".into()).spawn(move || {
            // It ends when the other half is dropped, however the node ended.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Some(Own { runtime: handle, thread: spawned.thread().id(), ends }))
    }

    /// Runs a future on it.
    pub(crate) fn run<T: Send + 'static>(
        self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let ends = self.ends;
        self.runtime.spawn(async move {
            let result = future.await;
            drop(ends);
            result
        })
    }
}
