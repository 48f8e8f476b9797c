//! What commands that look around have in common: they join as a client, look, and leave.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dunlin_tokio::{Identity, Node, PeerAddress, PeerInfo, StartError, key};

use crate::call::parse_duration;
use crate::output::{Fail, Output};

/// Whom to visit, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Visit {
    /// A peer to connect to. May be given several times
    #[arg(long = "peer", value_name = "ID@HOST:PORT", required = true)]
    peers: Vec<PeerAddress>,
    /// How long to wait for a connection, or an answer: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// A key file to come as. Without it, as somebody new
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Starts a node that serves nothing.
pub(crate) async fn client(identity: Identity) -> Result<Node, StartError> {
    // A socket of both kinds where the machine has both.
    let both: SocketAddr = "[::]:0".parse().expect("an address");
    let builder = || Node::builder().identity(identity.clone());
    match builder().listen(both).start().await {
        Ok(node) => Ok(node),
        Err(_) => builder().start().await,
    }
}

/// Connects to the peers, looks at those that are there, and leaves. Fails if one is not there, behind what
/// is to be said of the others.
pub(crate) async fn visit(
    args: &Visit,
    output: Output,
    look: impl AsyncFnOnce(&Node, Vec<PeerInfo>) -> Result<(), Fail>,
) -> Result<(), Fail> {
    let identity = match &args.key {
        Some(path) => key::load(path)?,
        None => key::generate(),
    };
    let node = client(identity).await?;
    let mut attempts: Vec<_> = Vec::new();
    for peer in &args.peers {
        attempts.push(Box::pin(node.connect_within(peer.clone(), args.timeout)));
    }
    let (mut peers, mut errors) = (Vec::new(), Vec::new());
    let results = all(attempts).await;
    for result in results {
        match result {
            Ok(peer) => peers.push(peer),
            Err(error) => errors.push(error.to_string()),
        }
    }
    let looked = match peers.is_empty() {
        true => Ok(()),
        false => look(&node, peers).await,
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
