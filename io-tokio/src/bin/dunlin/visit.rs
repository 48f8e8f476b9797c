//! What short-lived commands have in common: they ask a node that runs on this machine, or join as a client of
//! their own, look, and leave.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use dunlin_tokio::control::{
    self, AcceptorsEntry, CallAnswer, CallQuestion, Client, ControlError, EventFlow, Item,
    LeaderEntry, LeaderFlow, LeaderWatch, LimitEntry, Operator, PeerEntry, PublishQuestion,
    PublishedEntry, ServiceEntry, SocketError, StatsEntry, SubscribeQuestion, Subscriber,
};
use dunlin_tokio::{Node, PeerAddress, PeerId, key};

use crate::call::parse_duration;
use crate::files::NetworkArgs;
use crate::output::{Fail, Output, spell};
use crate::setup::default_key;

/// Which node does it, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Visit {
    /// A peer to connect to, as a node of our own that leaves when it is done. May be given several times.
    /// Without it, the node that runs on this machine is asked, and acts with its own rights
    #[arg(long = "peer", value_name = "ID@HOST:PORT")]
    pub(crate) peers: Vec<PeerAddress>,
    /// The control socket of the node to ask, as it printed it. Needed if several run on this machine
    #[arg(long, value_name = "PATH", conflicts_with = "peers")]
    control: Option<PathBuf>,
    /// How long to wait for a connection, and then for an answer: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// A key file to come as. Without it, as somebody new; with --token, the one that `dunlin id new` made
    #[arg(long, value_name = "FILE", requires = "peers")]
    key: Option<PathBuf>,
    #[command(flatten)]
    networks: NetworkArgs,
}

/// The node that does what a command wants.
pub(crate) enum Agent {
    /// Our own, which has joined for the moment.
    Joined(Operator),
    /// Another program's on this machine, and how long it may take to answer.
    Local(Client, Duration),
}

/// How much later than the node itself we give up: it has more to say about what has become of a call.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits for a node on this machine, which may have been stopped or hang.
async fn within<T, E: Into<Fail>>(
    time: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, Fail> {
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Fail::new(
            "CONTROL",
            format!("the node on this machine does not answer within {}", spell(time)),
        )),
    }
}

impl Visit {
    /// The node on this machine, if that is to be asked.
    pub(crate) async fn local(&self) -> Result<Option<Agent>, Fail> {
        if !self.peers.is_empty() {
            return Ok(None);
        }
        if !self.networks.is_empty() {
            return Err(Fail::usage(
                "--network and --token are for joining by yourself, and need --peer: a node that runs on \
                 this machine acts with its own rights",
            ));
        }
        Agent::on_this_machine(self.control.as_deref(), self.timeout).await.map(Some)
    }

    /// Starts a node that serves nothing, in these networks. Without a key it is somebody new, but for
    /// networks that it has a token for: that is for the key that `dunlin id new` made.
    pub(crate) async fn join(&self, output: Output) -> Result<Node, Fail> {
        self.networks.warn(output);
        let own_key = default_key().filter(|path| !self.networks.is_development() && path.exists());
        let identity = match self.key.as_ref().or(own_key.as_ref()) {
            Some(path) => key::load(path)?,
            None => key::generate(),
        };
        let builder = Node::builder().identity(identity);
        let (builder, _) = self.networks.apply(builder)?;
        Ok(builder.start().await?)
    }
}

impl Agent {
    /// The node on this machine: the one with this control socket, or the only one.
    pub(crate) async fn on_this_machine(
        control: Option<&Path>,
        timeout: Duration,
    ) -> Result<Agent, Fail> {
        let connecting = async {
            match control {
                Some(path) => control::connect(path).await,
                None => control::find(&control::folder()).await,
            }
        };
        Ok(Agent::Local(within(timeout, connecting).await?, timeout + PATIENCE))
    }

    pub(crate) async fn call(
        &mut self,
        question: CallQuestion,
        argument: Bytes,
    ) -> Result<CallAnswer, Fail> {
        match self {
            Agent::Joined(node) => Ok(node.call(question, argument).await?),
            Agent::Local(node, time) => {
                within(*time, node.call(question, argument)).await.map_err(|fail| {
                    // A node that went away with the call may have sent it.
                    if fail.has_executed() { fail } else { fail.executed("maybe") }
                })
            }
        }
    }

    /// Publishes an event.
    pub(crate) async fn publish(
        &mut self,
        question: PublishQuestion,
        payload: Bytes,
    ) -> Result<PublishedEntry, Fail> {
        let confirmed = Duration::from_millis(question.confirm_within_ms.unwrap_or(0));
        Ok(match self {
            Agent::Joined(node) => node.publish(question, payload).await?,
            Agent::Local(node, time) => {
                within(*time + confirmed, node.publish(question, payload)).await?
            }
        })
    }

    /// Subscribes.
    pub(crate) async fn subscribe(
        &mut self,
        question: SubscribeQuestion,
    ) -> Result<Flow<'_>, Fail> {
        Ok(match self {
            Agent::Joined(node) => Flow::Joined(node.subscribe(question).await?),
            Agent::Local(node, time) => Flow::Local(within(*time, node.subscribe(question)).await?),
        })
    }

    /// Everything that is served there and at its peers, by path.
    pub(crate) async fn services(&mut self) -> Result<Vec<ServiceEntry>, Fail> {
        Ok(match self {
            Agent::Joined(node) => node.services().await,
            Agent::Local(node, time) => within(*time, node.services()).await?,
        })
    }

    /// How services do there and at its peers, by path.
    pub(crate) async fn stats(&mut self) -> Result<Vec<StatsEntry>, Fail> {
        Ok(match self {
            Agent::Joined(node) => node.stats().await,
            Agent::Local(node, time) => within(*time, node.stats()).await?,
        })
    }

    /// How it stands with the acceptors of its networks.
    pub(crate) async fn acceptors(&mut self) -> Result<Vec<AcceptorsEntry>, Fail> {
        Ok(match self {
            Agent::Joined(node) => node.acceptors().await,
            Agent::Local(node, time) => within(*time, node.acceptors()).await?,
        })
    }

    /// Has the active instance of a single-active service there let another one be active.
    pub(crate) async fn step_down(&mut self, service: &str) -> Result<(), Fail> {
        let (node, time) = self.of_this_machine("to give way")?;
        within(time, node.step_down(service)).await
    }

    /// Has a service there take no calls for now.
    pub(crate) async fn pause(&mut self, service: &str) -> Result<(), Fail> {
        let (node, time) = self.of_this_machine("to pause what it serves")?;
        within(time, node.pause(service)).await
    }

    /// Has a paused service there take calls again.
    pub(crate) async fn resume(&mut self, service: &str) -> Result<(), Fail> {
        let (node, time) = self.of_this_machine("to resume what it serves")?;
        within(time, node.resume(service)).await
    }

    fn of_this_machine(&mut self, what: &str) -> Result<(&mut Client, Duration), Fail> {
        match self {
            Agent::Local(node, time) => Ok((node, *time)),
            Agent::Joined(_) => Err(Fail::usage(format!(
                "only the node on this machine can be asked {what}: leave out --peer"
            ))),
        }
    }

    /// Who is active of single-active services, or of one, and each change of that.
    pub(crate) async fn watch_leaders(
        &mut self,
        service: Option<String>,
    ) -> Result<Leaders<'_>, Fail> {
        Ok(match self {
            Agent::Joined(node) => Leaders::Joined(Box::new(node.watch_leaders(service))),
            Agent::Local(node, time) => {
                Leaders::Local(within(*time, node.watch_leaders(service)).await?)
            }
        })
    }

    /// Whether it is our own node, which sees those alone that it was told to connect to.
    pub(crate) fn is_joined(&self) -> bool {
        matches!(self, Agent::Joined(_))
    }

    /// Its bounds.
    pub(crate) async fn limits(&mut self) -> Result<Vec<LimitEntry>, Fail> {
        Ok(match self {
            Agent::Joined(node) => node.limits().await,
            Agent::Local(node, time) => within(*time, node.limits()).await?,
        })
    }

    /// Everybody who is connected to it.
    pub(crate) async fn peers(&mut self) -> Result<Vec<PeerEntry>, Fail> {
        Ok(match self {
            Agent::Joined(node) => node.peers().await,
            Agent::Local(node, time) => within(*time, node.peers()).await?,
        })
    }

    /// How long a peer takes to answer it.
    pub(crate) async fn ping(&mut self, peer: PeerId, timeout: Duration) -> Result<Duration, Fail> {
        Ok(match self {
            Agent::Joined(node) => node.ping(peer, timeout).await?,
            Agent::Local(node, time) => within(*time, node.ping(peer, timeout)).await?,
        })
    }
}

/// Who is active, and changes of that as they come.
pub(crate) enum Leaders<'a> {
    /// As our own node knows it.
    Joined(Box<LeaderWatch>),
    /// As another program's does.
    Local(LeaderFlow<'a>),
}

impl Leaders<'_> {
    /// What comes next; none, once, when the node has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<LeaderEntry>, Fail> {
        match self {
            Leaders::Joined(leaders) => Ok(leaders.next().await),
            Leaders::Local(leaders) => Ok(leaders.next().await?),
        }
    }
}

/// Events as they come.
pub(crate) enum Flow<'a> {
    /// From our own node.
    Joined(Subscriber),
    /// From another program's.
    Local(EventFlow<'a>),
}

impl Flow<'_> {
    /// Whether all peers knew of it when it began.
    pub(crate) fn is_known(&self) -> bool {
        match self {
            Flow::Joined(flow) => flow.is_known(),
            Flow::Local(flow) => flow.is_known(),
        }
    }

    /// What comes next; none, once, when the node has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, Fail> {
        match self {
            Flow::Joined(flow) => Ok(flow.next().await),
            Flow::Local(flow) => Ok(flow.next().await?),
        }
    }

    /// Takes no more: what has come follows, and then nothing.
    pub(crate) async fn leave(&mut self) -> Result<(), Fail> {
        match self {
            Flow::Joined(flow) => flow.leave(),
            Flow::Local(flow) => within(PATIENCE, flow.leave()).await?,
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Result<(), Fail> {
        match self {
            Flow::Joined(flow) => drop(flow),
            Flow::Local(flow) => within(PATIENCE, flow.stop()).await?,
        }
        Ok(())
    }
}

/// Looks around from the node on this machine; or connects to the peers, looks around if one of them is there,
/// and leaves. Fails if one is not there, behind what is to be said of the others.
pub(crate) async fn visit(
    args: &Visit,
    output: Output,
    look: impl AsyncFnOnce(&mut Agent) -> Result<(), Fail>,
) -> Result<(), Fail> {
    if let Some(mut agent) = args.local().await? {
        return look(&mut agent).await;
    }
    let node = args.join(output).await?;
    let mut attempts: Vec<_> = Vec::new();
    for peer in &args.peers {
        attempts.push(Box::pin(node.connect_within(peer.clone(), args.timeout)));
    }
    let results = all(attempts).await;
    let tried = results.len();
    let mut errors: Vec<String> =
        results.into_iter().filter_map(|r| r.err()).map(|error| error.to_string()).collect();
    let looked = match errors.len() == tried {
        true => Ok(()),
        false => look(&mut Agent::Joined(node.operator())).await,
    };
    let left = node.shutdown().await;
    looked?;
    left?;
    match errors.pop() {
        None => Ok(()),
        Some(last) => {
            for error in errors {
                output.note("warning", error);
            }
            Err(Fail::new("CONNECT", last))
        }
    }
}

impl From<SocketError> for Fail {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Control(error) => error.into(),
            SocketError::None(_) => Fail::new(
                "NO_LOCAL_NODE",
                format!(
                    "{error}. Start one with `dunlin node run` or `dunlin serve`, or name a peer to join by \
                     yourself: --peer ID@HOST:PORT"
                ),
            ),
            SocketError::Several(_) => {
                Fail::new("SEVERAL_LOCAL_NODES", format!("{error}. Choose one with --control PATH"))
            }
            other => Fail::new("CONTROL", other.to_string()),
        }
    }
}

impl From<ControlError> for Fail {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Failed(problem) => problem.into(),
            other => Fail::new("CONTROL", other.to_string()),
        }
    }
}

/// Waits for all, at the same time.
async fn all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    use std::task::Poll;
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |cx| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(value) = std::pin::Pin::new(future).poll(cx)
            {
                *result = Some(value);
            }
        }
        match results.iter().all(Option::is_some) {
            true => Poll::Ready(results.drain(..).flatten().collect()),
            false => Poll::Pending,
        }
    })
    .await
}
