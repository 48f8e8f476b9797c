//! One call to all who serve a path, and calls whose answer only says that they were taken.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Cx, Poll};

use futures_core::Stream;
use serde::de::DeserializeOwned;

use crate::base::PeerId;
use crate::rpc::callee::HandlerError;
use crate::rpc::{CallError, CallResult};
use crate::service::slot::Slot;
use crate::service::typed::{ActionBuilder, ServiceBuilder};
use crate::service::{CallFuture, Context, Handle, RequestBuilder};
use crate::topic::TopicPath;

impl Handle {
    /// Who serves a path, as far as this node knows: itself, if it does, and peers that are connected, in the order of
    /// their ids. Empty if this node may not call the path, or is gone.
    pub async fn instances<P>(&self, path: P) -> Vec<PeerId>
    where
        P: TryInto<TopicPath>,
    {
        let Ok(path) = path.try_into() else { return Vec::new() };
        let slot = std::sync::Arc::new(Slot::new());
        let asked = Asked(std::sync::Arc::clone(&slot));
        self.with(move |_, _, mesh| asked.0.fill(mesh.instances(&path)));
        std::future::poll_fn(|cx| slot.poll(cx.waker())).await
    }

    /// Calls all who serve a path at this time, each once. `each` puts the call of each together; it is addressed
    /// already.
    ///
    /// ```
    /// # use dunlin_core::service::Handle;
    /// # async fn example(handle: &Handle) {
    /// let mut answers = handle.request_many("cache/flush", |request| request.value("users")).await;
    /// while let Some((instance, answer)) = answers.next().await {
    ///     println!("{instance}: {answer:?}");
    /// }
    /// # }
    /// ```
    pub async fn request_many<P>(
        &self,
        path: P,
        mut each: impl FnMut(RequestBuilder) -> RequestBuilder,
    ) -> Answers
    where
        P: TryInto<TopicPath> + Clone,
        P::Error: std::fmt::Display,
    {
        let mut answers = Answers { calls: Vec::new(), refused: Vec::new() };
        for peer in self.instances(path.clone()).await {
            match each(self.request(path.clone()).to(peer)).start() {
                Ok(call) => answers.calls.push((peer, call)),
                Err(error) => answers.refused.push((peer, error)),
            }
        }
        answers
    }
}

/// Who asks is told, also if the node goes: nobody is known then.
struct Asked(std::sync::Arc<Slot<Vec<PeerId>>>);

impl Drop for Asked {
    fn drop(&mut self) {
        // The first answer counts.
        self.0.fill(Vec::new());
    }
}

/// The answers of all who were asked, as they come: a [`Stream`]. Dropping it cancels the calls that have not ended.
#[must_use = "calls are cancelled when this is dropped"]
pub struct Answers {
    calls: Vec<(PeerId, CallFuture)>,
    refused: Vec<(PeerId, CallError)>,
}

impl Answers {
    /// How many have not answered yet.
    pub fn left(&self) -> usize {
        self.calls.len() + self.refused.len()
    }

    /// The next answer; none once all have come.
    pub async fn next(&mut self) -> Option<(PeerId, CallResult)> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Answers {
    type Item = (PeerId, CallResult);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Self::Item>> {
        if let Some((peer, error)) = self.refused.pop() {
            return Poll::Ready(Some((peer, Err(error))));
        }
        for index in 0..self.calls.len() {
            let (peer, call) = &mut self.calls[index];
            if let Poll::Ready(result) = Pin::new(call).poll(cx) {
                let peer = *peer;
                self.calls.remove(index);
                return Poll::Ready(Some((peer, result)));
            }
        }
        match self.calls.is_empty() {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("left", &self.left()).finish()
    }
}

impl ServiceBuilder {
    /// An action that is a command: its caller is answered as soon as the command was taken, and `handler` runs then,
    /// once, for as long as it likes. What comes of it, it says by events or not at all: an error is logged. Who calls
    /// again after a call whose outcome is not known may have it run twice.
    ///
    /// A command that runs does not hold up a stop of its service, and ends with the node.
    pub fn command<A, F, R>(self, action: impl Into<ActionBuilder>, handler: F) -> Self
    where
        A: DeserializeOwned + Send + Sync + 'static,
        F: Fn(Context, A) -> R + Send + Sync + Clone + 'static,
        R: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.action::<A, (), _, _>(action, move |cx, argument: A| {
            let handler = handler.clone();
            async move {
                let (handle, placement) = (cx.handle().clone(), cx.placement);
                let path = cx.path().to_string();
                let task = Box::pin(async move {
                    if let Err(error) = handler(cx.without_deadline(), argument).await {
                        tracing::warn!(path, ?error, "a command failed");
                    }
                });
                handle.with(move |host, now, mesh| host.spawn_for(now, mesh, placement, task));
                Ok(())
            }
        })
    }
}
