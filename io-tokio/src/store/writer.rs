//! The thread that writes what a node wants stored: a sync may take long, and the node goes on meanwhile.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use dunlin_core::store::{StoreInput, StoreRequest};
use tokio::sync::oneshot;

use super::database::caught;
use super::{StoreError, Taken};
use crate::bell::Bell;

/// What the node's task knows of the thread.
pub(crate) struct Writer {
    requests: Option<Sender<StoreRequest>>,
    answers: Arc<Mutex<Vec<StoreInput>>>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Writer {
    /// Begins to write to a store. The bell rings whenever there is an answer.
    pub(crate) fn start(store: Taken, bell: Arc<Bell>) -> Result<Writer, StoreError> {
        let (requests, waiting) = channel();
        let (ends, ended) = oneshot::channel();
        let answers = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::clone(&answers);
        let path = store.0.path().to_path_buf();
        let thread = std::thread::Builder::new().name("dunlin-store".into());
        thread
            .spawn(move || {
                if caught(|| write_all(&store, &waiting, &answer, &bell)).is_none() {
                    let why = format!("{}: its writer panicked", store.0.path().display());
                    say(&answer, &bell, StoreInput::Failed { why });
                }
                // Whoever awaits the end may open the store again.
                drop(store);
                let _ = ends.send(());
            })
            .map_err(|source| StoreError::Open { path, source })?;
        Ok(Writer { requests: Some(requests), answers, ended: Some(ended) })
    }

    /// Hands a request over.
    pub(crate) fn write(&self, request: StoreRequest) {
        // A thread that has ended has said why.
        let _ = self.requests.as_ref().map(|requests| requests.send(request));
    }

    /// What became of requests since it was asked last.
    pub(crate) fn answers(&self) -> Vec<StoreInput> {
        std::mem::take(&mut *self.answers.lock().expect("nothing panics under this lock"))
    }

    /// Waits until everything that was handed over is written, and the store can be used again.
    pub(crate) async fn finish(&mut self) {
        self.requests = None;
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
    }
}

fn say(answers: &Mutex<Vec<StoreInput>>, bell: &Bell, answer: StoreInput) {
    answers.lock().expect("nothing panics under this lock").push(answer);
    bell.ring();
}

fn write_all(
    store: &Taken,
    waiting: &Receiver<StoreRequest>,
    answers: &Mutex<Vec<StoreInput>>,
    bell: &Bell,
) {
    while let Ok(first) = waiting.recv() {
        // Whatever came during the last sync goes into the next one.
        let requests: Vec<StoreRequest> =
            std::iter::once(first).chain(waiting.try_iter()).collect();
        let last = requests.last().expect("there is one").seq;
        let written = store.0.0.database.write(&requests);
        let has_failed = written.is_err();
        let answer = match written {
            Ok(()) => StoreInput::Durable { seq: last },
            Err(error) => {
                let why = format!("{}: {error}", store.0.path().display());
                tracing::error!(%why, "the store fails");
                StoreInput::Failed { why }
            }
        };
        say(answers, bell, answer);
        if has_failed {
            // What the file holds is not known: nothing is written behind it.
            return;
        }
    }
}
