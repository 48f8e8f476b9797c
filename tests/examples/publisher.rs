//! Serves `news/publish`: each call publishes a burst of events to `news/line` and is answered once all are accepted.
//!
//! `publisher NETWORK TOKEN KEY` prints one line, `ID@ADDRESS:PORT`, and runs until it is killed. The tests of attacks
//! run it as a process of its own.

use std::error::Error;
use std::path::Path;

use dunlin_tokio::{HandlerError, Node, key, service};

/// Events of one call. At 500 calls a second it takes a second until a peer that acknowledges none has as many waiting as
/// may.
const BURST: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: publisher NETWORK TOKEN KEY");
    let (network, token) = (std::fs::read(next()?)?, std::fs::read(next()?)?);
    let identity = key::load(Path::new(&next()?))?;
    let news = service("news").action("publish", |cx, line: String| async move {
        for _ in 0..BURST {
            let published = cx.publish("news/line", line.clone()).await;
            published
                .map_err(|error| HandlerError::application("NOT_PUBLISHED", error.to_string()))?;
        }
        Ok(())
    });
    let builder = Node::builder().identity(identity).network(network, token);
    let node = builder.listen("127.0.0.1:0".parse()?).service(news).start().await?;
    println!("{}@{}", node.id(), node.local_addr());
    std::future::pending().await
}
