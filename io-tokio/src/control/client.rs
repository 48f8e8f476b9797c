//! The other end of the control socket: a program that uses a node for a moment.

use std::time::Duration;

use bytes::Bytes;
use dunlin_core::PeerId;
use dunlin_core::service::ContentType;
use tokio::io::{AsyncRead, AsyncWrite};

use super::event::{Item, PublishQuestion, PublishedEntry, SubscribeQuestion};
use super::frame::{Frame, FrameError, FrameReader, FrameWriter};
use super::leader::LeaderEntry;
use super::message::{
    AcceptorsEntry, CallAnswer, CallQuestion, LimitEntry, PeerEntry, Problem, Request, Response,
    ServiceEntry, StatsEntry,
};
use super::{REQUEST_HEADER_BYTES_MAX, RESPONSE_HEADER_BYTES_MAX, VERSION};

/// Why a node on this machine has not done what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It said why.
    #[error(transparent)]
    Failed(#[from] Problem),
    /// It cannot be talked to any more. Whether what was asked was done is not known.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It went away before it answered. Whether what was asked was done is not known.
    #[error("the node closed the control socket before it answered")]
    Ended,
    /// An earlier request was given up before its last response; this client is of no use any more.
    #[error("an earlier request is not over")]
    Unfinished,
}

type Stream = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Uses a node on this machine.
pub struct Client {
    said: FrameReader<tokio::io::ReadHalf<Stream>>,
    asks: FrameWriter<tokio::io::WriteHalf<Stream>>,
    node: PeerId,
    under_way: bool,
}

impl Client {
    /// Greets the node at the other end of a stream.
    ///
    /// # Errors
    ///
    /// When there is no node there, or none that speaks the same protocol.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Client, ControlError> {
        let (read, write) = tokio::io::split(Box::new(stream) as Stream);
        let mut said = FrameReader::new(read, RESPONSE_HEADER_BYTES_MAX);
        let mut asks = FrameWriter::new(write, REQUEST_HEADER_BYTES_MAX);
        let hello = Request::Hello { version_min: VERSION, version_max: VERSION };
        let written = asks.write(&hello, &Bytes::new()).await;
        // A node that is busy says so without being asked, and closes.
        match (read_response(&mut said).await, written) {
            (Ok((Response::Welcome { version: VERSION, node }, _)), Ok(())) => {
                Ok(Client { said, asks, node, under_way: false })
            }
            (Ok((Response::Failed(problem), _)), _) => Err(problem.into()),
            (Ok((other, _)), _) => Err(unexpected(&other).into()),
            (Err(error), Ok(())) => Err(error),
            (Err(_), Err(error)) => Err(error.into()),
        }
    }

    /// The node's id.
    pub fn node(&self) -> PeerId {
        self.node
    }

    /// Asks for something that the other methods do not cover.
    ///
    /// # Errors
    ///
    /// When the request is too large, the node is gone, or an earlier request is not over.
    pub async fn ask(
        &mut self,
        request: &Request,
        body: &Bytes,
    ) -> Result<Responses<'_>, ControlError> {
        if self.under_way {
            return Err(ControlError::Unfinished);
        }
        match self.asks.write(request, body).await {
            // Nothing of it was written.
            Err(error @ FrameError::TooLarge { .. }) => {
                return Err(Problem::unrun("TOO_LARGE", error.to_string()).into());
            }
            written => written?,
        }
        self.under_way = true;
        Ok(Responses { client: self })
    }

    /// Has the node call once. Dropping the future, and the client with it, cancels the call.
    ///
    /// # Errors
    ///
    /// What went wrong. A [`Problem`] says whether the handler has run; if the node is gone, nobody knows.
    pub async fn call(
        &mut self,
        question: CallQuestion,
        argument: Bytes,
    ) -> Result<CallAnswer, ControlError> {
        match self.ask(&Request::Call(question), &argument).await?.next().await? {
            (Response::Answer { content, elapsed_us }, bytes) => {
                let elapsed = Duration::from_micros(elapsed_us);
                Ok(CallAnswer { content: ContentType(content), bytes, elapsed })
            }
            (other, _) => Err(unexpected(&other).into()),
        }
    }

    /// Everything that is served by the node and by those that it is connected to, by path and then by peer.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn services(&mut self) -> Result<Vec<ServiceEntry>, ControlError> {
        let mut responses = self.ask(&Request::Services, &Bytes::new()).await?;
        let mut entries = Vec::new();
        loop {
            match responses.next().await?.0 {
                Response::Service(entry) => entries.push(entry),
                Response::Done => return Ok(entries),
                other => return Err(unexpected(&other).into()),
            }
        }
    }

    /// How services do, at the node and at its peers, by path.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn stats(&mut self) -> Result<Vec<StatsEntry>, ControlError> {
        let mut responses = self.ask(&Request::Stats, &Bytes::new()).await?;
        let mut entries = Vec::new();
        loop {
            match responses.next().await?.0 {
                Response::Stats(entry) => entries.push(entry),
                Response::Done => return Ok(entries),
                other => return Err(unexpected(&other).into()),
            }
        }
    }

    /// How it stands with the acceptors of the node's networks.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn acceptors(&mut self) -> Result<Vec<AcceptorsEntry>, ControlError> {
        let mut responses = self.ask(&Request::Acceptors, &Bytes::new()).await?;
        let mut entries = Vec::new();
        loop {
            match responses.next().await?.0 {
                Response::Acceptors(entry) => entries.push(entry),
                Response::Done => return Ok(entries),
                other => return Err(unexpected(&other).into()),
            }
        }
    }

    /// Every bound of the node, with what is in use of it and what it has refused.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn limits(&mut self) -> Result<Vec<LimitEntry>, ControlError> {
        let mut responses = self.ask(&Request::Limits, &Bytes::new()).await?;
        let mut entries = Vec::new();
        loop {
            match responses.next().await?.0 {
                Response::Limit(entry) => entries.push(entry),
                Response::Done => return Ok(entries),
                other => return Err(unexpected(&other).into()),
            }
        }
    }

    /// Everybody whom the node is connected to, by id.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn peers(&mut self) -> Result<Vec<PeerEntry>, ControlError> {
        let mut responses = self.ask(&Request::Peers, &Bytes::new()).await?;
        let mut entries = Vec::new();
        loop {
            match responses.next().await?.0 {
                Response::Peer(entry) => entries.push(entry),
                Response::Done => return Ok(entries),
                other => return Err(unexpected(&other).into()),
            }
        }
    }

    /// Has the active instance of a single-active service on the node let another one be active.
    ///
    /// # Errors
    ///
    /// When it is not active there, or the node is gone.
    pub async fn step_down(&mut self, service: &str) -> Result<(), ControlError> {
        self.have(&Request::StepDown { service: service.to_string() }).await
    }

    /// Has a service of the node take no calls for now. Returns when it is paused.
    ///
    /// # Errors
    ///
    /// When the node does not offer it, it does not run or stand by, or the node is gone.
    pub async fn pause(&mut self, service: &str) -> Result<(), ControlError> {
        self.have(&Request::Pause { service: service.to_string() }).await
    }

    /// Has a paused service of the node take calls again.
    ///
    /// # Errors
    ///
    /// When the node does not offer it, it is not paused, or the node is gone.
    pub async fn resume(&mut self, service: &str) -> Result<(), ControlError> {
        self.have(&Request::Resume { service: service.to_string() }).await
    }

    /// Has the node do something that has no result.
    async fn have(&mut self, request: &Request) -> Result<(), ControlError> {
        match self.ask(request, &Bytes::new()).await?.next().await? {
            (Response::Done, _) => Ok(()),
            (other, _) => Err(unexpected(&other).into()),
        }
    }

    /// Has the node tell who is active of single-active services, or of one, and each change of that, until
    /// [`LeaderFlow::stop`]; whoever drops what this gives has no more use for the client.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn watch_leaders(
        &mut self,
        service: Option<String>,
    ) -> Result<LeaderFlow<'_>, ControlError> {
        let responses = self.ask(&Request::WatchLeaders { service }, &Bytes::new()).await?;
        Ok(LeaderFlow { responses })
    }

    /// How long a peer of the node takes to answer it.
    ///
    /// # Errors
    ///
    /// When there is no answer, or the node is gone.
    pub async fn ping(
        &mut self,
        peer: PeerId,
        timeout: Duration,
    ) -> Result<Duration, ControlError> {
        let request = Request::Ping { peer, timeout_ms: timeout.as_millis() as u64 };
        match self.ask(&request, &Bytes::new()).await?.next().await? {
            (Response::Pong { elapsed_us }, _) => Ok(Duration::from_micros(elapsed_us)),
            (other, _) => Err(unexpected(&other).into()),
        }
    }

    /// Has the node publish an event.
    ///
    /// # Errors
    ///
    /// Why nobody gets it. If the node is gone, nobody knows.
    pub async fn publish(
        &mut self,
        question: PublishQuestion,
        payload: Bytes,
    ) -> Result<PublishedEntry, ControlError> {
        match self.ask(&Request::Publish(question), &payload).await?.next().await? {
            (Response::Published(published), _) => Ok(published),
            (other, _) => Err(unexpected(&other).into()),
        }
    }

    /// Has the node subscribe, until [`EventFlow::stop`]; whoever drops what this gives has no more use for the
    /// client.
    ///
    /// # Errors
    ///
    /// When the node does not subscribe, or is gone.
    pub async fn subscribe(
        &mut self,
        question: SubscribeQuestion,
    ) -> Result<EventFlow<'_>, ControlError> {
        let mut responses = self.ask(&Request::Subscribe(question), &Bytes::new()).await?;
        match responses.next().await? {
            (Response::Subscribed { known }, _) => Ok(EventFlow { responses, known }),
            (other, _) => Err(unexpected(&other).into()),
        }
    }
}

/// Who is active, as a node on this machine tells it.
#[derive(Debug)]
pub struct LeaderFlow<'a> {
    responses: Responses<'a>,
}

impl LeaderFlow<'_> {
    /// What is known of each service, then each change; none, once, when the node stops. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn next(&mut self) -> Result<Option<LeaderEntry>, ControlError> {
        match self.responses.next().await? {
            (Response::Leader(leader), _) => Ok(Some(leader)),
            (Response::Done, _) => Ok(None),
            (other, _) => Err(unexpected(&other).into()),
        }
    }

    /// Ends it. The client can ask for more then.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn stop(self) -> Result<(), ControlError> {
        self.responses.stop().await
    }
}

/// Events that a node on this machine passes on.
#[derive(Debug)]
pub struct EventFlow<'a> {
    responses: Responses<'a>,
    known: bool,
}

impl EventFlow<'_> {
    /// Whether every peer of the node knew of the subscription when it began.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// What comes next; none, once, when the node stops. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn next(&mut self) -> Result<Option<Item>, ControlError> {
        match self.responses.next().await? {
            (Response::Event(event), payload) => Ok(Some(Item::Event(event, payload))),
            (Response::Missed(missed), _) => Ok(Some(Item::Missed(missed))),
            (Response::Done, _) => Ok(None),
            (other, _) => Err(unexpected(&other).into()),
        }
    }

    /// Takes no more events: what has come follows, and then nothing.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn leave(&mut self) -> Result<(), ControlError> {
        self.responses.say_stop().await
    }

    /// Ends the subscription, and drops what has come. The client can ask for more then.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn stop(self) -> Result<(), ControlError> {
        self.responses.stop().await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client of {:?}", self.node)
    }
}

/// What a request is answered by. Whoever drops it before the last response has no more use for the client.
#[derive(Debug)]
pub struct Responses<'a> {
    client: &'a mut Client,
}

impl Responses<'_> {
    /// The next response, with its body. To be asked until [`Response::is_last`], or an error, and not
    /// again. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`Response::Failed`], as an error, and whatever keeps the node from answering.
    pub async fn next(&mut self) -> Result<(Response, Bytes), ControlError> {
        let (response, body) = read_response(&mut self.client.said).await?;
        if response.is_last() {
            self.client.under_way = false;
        }
        match response {
            Response::Failed(problem) => Err(problem.into()),
            response => Ok((response, body)),
        }
    }

    async fn say_stop(&mut self) -> Result<(), ControlError> {
        if self.client.under_way {
            self.client.asks.write(&Request::Stop, &Bytes::new()).await?;
        }
        Ok(())
    }

    /// Ends what is under way, and reads on to the last response. The client can ask for more then.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn stop(mut self) -> Result<(), ControlError> {
        self.say_stop().await?;
        while self.client.under_way {
            match self.next().await {
                Ok(_) | Err(ControlError::Failed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

async fn read_response<R: AsyncRead + Unpin>(
    from: &mut FrameReader<R>,
) -> Result<(Response, Bytes), ControlError> {
    let frame: Frame = from.next().await?.ok_or(ControlError::Ended)?;
    let response =
        frame.read().map_err(|error| FrameError::Protocol(format!("its answer: {error}")))?;
    Ok((response, frame.body))
}

fn unexpected(response: &Response) -> FrameError {
    FrameError::Protocol(format!("it answered with {response:?}, which was not asked for"))
}
