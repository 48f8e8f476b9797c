//! The node's end of the control socket.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::clients::{Clients, Standing};
use super::event::Item;
use super::frame::{FrameError, FrameReader, FrameWriter};
use super::message::{CallAnswer, Problem, Request, Response};
use super::operator::Operator;
use super::socket::Listener;
use super::{CLIENTS_MAX, REQUEST_HEADER_BYTES_MAX, RESPONSE_HEADER_BYTES_MAX, VERSION};

/// How long a client may take to say its first word. A guess: it is on this machine.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// How long clients may take for their last answers once the node has ended. A guess, as above.
const FAREWELL: Duration = Duration::from_secs(1);

/// Items that wait for a client to read them, before whoever makes them waits. A guess.
const ITEMS_WAITING_MAX: usize = 64;

/// Where a request that is answered by many items sends them.
#[derive(Debug)]
pub(super) struct Replies(mpsc::Sender<(Response, Bytes)>);

impl Replies {
    /// Sends an item, behind those that the client has not read yet. Never the last response: that is what
    /// `answer` gives. A client that is gone ends the request where it waits.
    pub(super) async fn send(&self, item: Response, body: Bytes) {
        debug_assert!(!item.is_last(), "{item:?} is the last one");
        // It fails only while the request is being dropped.
        let _ = self.0.send((item, body)).await;
    }
}

/// Does what a client asks, and gives the last response. What ends in order does so once it is stopped.
async fn answer(
    operator: &Operator,
    request: Request,
    body: Bytes,
    replies: Replies,
    mut stopped: watch::Receiver<bool>,
) -> (Response, Bytes) {
    let last = match request {
        Request::Call(question) => match operator.call(question, body).await {
            Ok(CallAnswer { content, bytes, elapsed }) => {
                let elapsed_us = elapsed.as_micros() as u64;
                return (Response::Answer { content: content.0, elapsed_us }, bytes);
            }
            Err(problem) => Response::Failed(problem),
        },
        Request::Services => {
            for entry in operator.services().await {
                replies.send(Response::Service(entry), Bytes::new()).await;
            }
            Response::Done
        }
        Request::Stats => {
            for entry in operator.stats().await {
                replies.send(Response::Stats(entry), Bytes::new()).await;
            }
            Response::Done
        }
        Request::Peers => {
            for entry in operator.peers().await {
                replies.send(Response::Peer(entry), Bytes::new()).await;
            }
            Response::Done
        }
        Request::Limits => {
            for entry in operator.limits().await {
                replies.send(Response::Limit(entry), Bytes::new()).await;
            }
            Response::Done
        }
        Request::Acceptors => {
            for entry in operator.acceptors().await {
                replies.send(Response::Acceptors(entry), Bytes::new()).await;
            }
            Response::Done
        }
        Request::StepDown { service } => match operator.step_down(&service).await {
            Ok(()) => Response::Done,
            Err(problem) => Response::Failed(problem),
        },
        Request::Pause { service } => match operator.pause(&service).await {
            Ok(()) => Response::Done,
            Err(problem) => Response::Failed(problem),
        },
        Request::Resume { service } => match operator.resume(&service).await {
            Ok(()) => Response::Done,
            Err(problem) => Response::Failed(problem),
        },
        Request::WatchLeaders { service } => {
            let mut leaders = operator.watch_leaders(service);
            while let Some(leader) = leaders.next().await {
                replies.send(Response::Leader(leader), Bytes::new()).await;
            }
            Response::Done
        }
        Request::Ping { peer, timeout_ms } => {
            match operator.ping(peer, Duration::from_millis(timeout_ms)).await {
                Ok(elapsed) => Response::Pong { elapsed_us: elapsed.as_micros() as u64 },
                Err(problem) => Response::Failed(problem),
            }
        }
        Request::Publish(question) => match operator.publish(question, body).await {
            Ok(published) => Response::Published(published),
            Err(problem) => Response::Failed(problem),
        },
        Request::Subscribe(question) => match operator.subscribe(question).await {
            Ok(mut subscriber) => {
                let subscribed = Response::Subscribed { known: subscriber.is_known() };
                replies.send(subscribed, Bytes::new()).await;
                let mut leaves = false;
                loop {
                    let item = tokio::select! {
                        item = subscriber.next() => item,
                        _ = stopped.wait_for(|stopped| *stopped), if !leaves => {
                            leaves = true;
                            subscriber.leave();
                            continue;
                        }
                    };
                    let Some(item) = item else { break };
                    let (item, body) = match item {
                        Item::Event(event, payload) => (Response::Event(event), payload),
                        Item::Missed(missed) => (Response::Missed(missed), Bytes::new()),
                    };
                    replies.send(item, body).await;
                }
                Response::Done
            }
            Err(problem) => Response::Failed(problem),
        },
        Request::Hello { .. } | Request::Stop => {
            Response::Failed(Problem::new("BAD_REQUEST", "this is no request to be answered"))
        }
    };
    (last, Bytes::new())
}

/// Talks to one client until it goes away, or until `closing` becomes true and nothing is under way.
///
/// # Errors
///
/// When the stream fails, or the client does not keep to the protocol. It is to be closed then.
pub async fn converse(
    stream: impl AsyncRead + AsyncWrite,
    operator: &Operator,
    closing: watch::Receiver<bool>,
) -> Result<(), FrameError> {
    converse_as(stream, operator, closing, &Standing::default()).await
}

async fn converse_as(
    stream: impl AsyncRead + AsyncWrite,
    operator: &Operator,
    mut closing: watch::Receiver<bool>,
    standing: &Standing,
) -> Result<(), FrameError> {
    let (read, write) = tokio::io::split(stream);
    let (read, write) = (pin!(read), pin!(write));
    let mut asked = FrameReader::new(read, REQUEST_HEADER_BYTES_MAX);
    let mut said = FrameWriter::new(write, RESPONSE_HEADER_BYTES_MAX);
    let hello = tokio::select! {
        hello = tokio::time::timeout(HELLO_TIMEOUT, asked.next()) => hello,
        _ = closing.wait_for(|closing| *closing) => return Ok(()),
    };
    let hello = hello.map_err(|_| FrameError::Protocol("it said nothing".into()))??;
    let Some(hello) = hello else { return Ok(()) };
    let welcome = match hello.read() {
        Ok(Request::Hello { version_min, version_max })
            if (version_min..=version_max).contains(&VERSION) =>
        {
            Response::Welcome { version: VERSION, node: operator.id() }
        }
        Ok(Request::Hello { version_min, version_max }) => {
            let why = format!(
                "the node speaks version {VERSION} of the control protocol, the client {version_min} \
                 to {version_max}; use the program of the node's own release"
            );
            Response::Failed(Problem::new("VERSION", why))
        }
        _ => return Err(FrameError::Protocol("its first word is no greeting".into())),
    };
    said.write(&welcome, &Bytes::new()).await?;
    if matches!(welcome, Response::Failed(_)) {
        return Ok(());
    }
    loop {
        standing.idle();
        let frame = tokio::select! {
            frame = asked.next() => frame?,
            _ = closing.wait_for(|closing| *closing) => return Ok(()),
        };
        let Some(frame) = frame else { return Ok(()) };
        standing.busy();
        match frame.read() {
            // What it was to stop had ended.
            Ok(Request::Stop) => {}
            Ok(request) => {
                if !attend(&mut asked, &mut said, operator, request, frame.body).await? {
                    return Ok(());
                }
            }
            Err(why) => {
                let problem =
                    Problem::new("BAD_REQUEST", format!("the node does not know this: {why}"));
                said.write(&Response::Failed(problem), &Bytes::new()).await?;
            }
        }
    }
}

type Asked<'a, S> = FrameReader<std::pin::Pin<&'a mut ReadHalf<S>>>;
type Said<'a, S> = FrameWriter<std::pin::Pin<&'a mut WriteHalf<S>>>;

/// Answers one request. Says whether the client is still there.
async fn attend<S: AsyncRead + AsyncWrite>(
    asked: &mut Asked<'_, S>,
    said: &mut Said<'_, S>,
    operator: &Operator,
    request: Request,
    body: Bytes,
) -> Result<bool, FrameError> {
    let (replies, mut items) = mpsc::channel(ITEMS_WAITING_MAX);
    let ends_in_order = matches!(request, Request::Subscribe(_));
    let (stop, stopped) = watch::channel(false);
    let mut work = pin!(answer(operator, request, body, Replies(replies), stopped));
    let mut last = None;
    loop {
        let (response, body) = tokio::select! {
            // The client's word first: items may come without end.
            biased;
            frame = asked.next() => match frame? {
                None => return Ok(false),
                Some(frame) => match frame.read() {
                    Ok(Request::Stop) if ends_in_order && !stop.send_replace(true) => continue,
                    Ok(Request::Stop) => {
                        let problem = Problem::new("CANCELLED", "the client gave up");
                        (Response::Failed(problem), Bytes::new())
                    }
                    _ => return Err(FrameError::Protocol("it asked two things at once".into())),
                },
            },
            ended = &mut work, if last.is_none() => {
                last = Some(ended);
                continue;
            }
            item = items.recv() => match item {
                Some(item) => item,
                // Its sender goes with the work.
                None => last.take().expect("the work has ended"),
            },
        };
        let is_last = response.is_last();
        match said.write(&response, &body).await {
            Ok(()) if is_last => return Ok(true),
            Ok(()) => {}
            Err(error @ FrameError::TooLarge { .. }) => {
                let executed =
                    matches!(response, Response::Answer { .. }).then(|| "yes".to_string());
                let problem = Problem { executed, ..Problem::new("TOO_LARGE", error.to_string()) };
                said.write(&Response::Failed(problem), &Bytes::new()).await?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A node's control socket, served by a task of its own. Dropping it closes the socket at once.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ControlServer {
    /// Lets clients use a node, on the present tokio runtime.
    pub fn start(listener: Listener, operator: Operator) -> ControlServer {
        let (closing, closed) = watch::channel(false);
        let path = listener.path().to_path_buf();
        let task = tokio::spawn(accept(listener, operator, closed));
        ControlServer { path, closing, task }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the socket away and tells clients that wait for nothing to go. To be said before the node takes
    /// leave; what is under way ends with the node at the latest.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until the last answers are out, once the node has ended. Clients that do not read theirs lose
    /// them after a second.
    pub async fn finish(mut self) {
        self.close();
        // A panic in it has been reported where it happened.
        let _ = tokio::time::timeout(FAREWELL, &mut self.task).await;
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(mut listener: Listener, operator: Operator, mut closing: watch::Receiver<bool>) {
    let mut clients = Clients::at_most(CLIENTS_MAX);
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            Some(()) = clients.next_end() => continue,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        match stream {
            Ok(stream) if clients.make_room() => {
                let (operator, closing) = (operator.clone(), closing.clone());
                clients.add(|standing| async move {
                    let ended = converse_as(stream, &operator, closing, &standing).await;
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a client of the control socket is gone");
                    }
                });
            }
            Ok(stream) => {
                let mut said = FrameWriter::new(stream, RESPONSE_HEADER_BYTES_MAX);
                let why = format!("{CLIENTS_MAX} clients use the node already");
                let busy = Response::Failed(Problem::new("BUSY", why));
                // It fits into the socket's buffer; a client that is gone does not read it.
                let _ = tokio::time::timeout(FAREWELL, said.write(&busy, &Bytes::new())).await;
            }
            Err(error) => {
                // Out of file descriptors, as a rule: others are about to go.
                tracing::warn!(%error, "the control socket takes no client");
                tokio::time::sleep(FAREWELL).await;
            }
        }
    }
    drop(listener);
    while clients.next_end().await.is_some() {}
}
