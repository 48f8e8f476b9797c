//! What commands that look around have in common: they join as a client, look, and leave.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use dunlin_tokio::{Node, PeerAddress, PeerInfo, key};

use crate::call::parse_duration;
use crate::files::NetworkArgs;
use crate::output::{Fail, Output};
use crate::setup::default_key;

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
    #[command(flatten)]
    networks: NetworkArgs,
}

/// Starts a node that serves nothing, in these networks. Without a key it is somebody new, but for networks
/// that it has a token for: that is for the key that `dunlin id new` made.
pub(crate) async fn client(file: Option<&Path>, networks: &NetworkArgs) -> Result<Node, Fail> {
    let own_key = default_key().filter(|path| !networks.is_development() && path.exists());
    let identity = match file.or(own_key.as_deref()) {
        Some(path) => key::load(path)?,
        None => key::generate(),
    };
    // A socket of both kinds where the machine has both.
    let both: SocketAddr = "[::]:0".parse().expect("an address");
    let builder = || {
        let builder = Node::builder().identity(identity.clone());
        networks.apply(builder).map(|(builder, _)| builder)
    };
    match builder()?.listen(both).start().await {
        Ok(node) => Ok(node),
        Err(_) => Ok(builder()?.start().await?),
    }
}

/// Connects to the peers, looks at those that are there, and leaves. Fails if one is not there, behind what
/// is to be said of the others.
pub(crate) async fn visit(
    args: &Visit,
    output: Output,
    look: impl AsyncFnOnce(&Node, Vec<PeerInfo>) -> Result<(), Fail>,
) -> Result<(), Fail> {
    let node = client(args.key.as_deref(), &args.networks).await?;
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
