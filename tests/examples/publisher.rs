//! Serves `news/publish`: each call publishes one event to `news/line` and is answered once that is accepted.
//!
//! `publisher NETWORK TOKEN KEY` prints one line, `ID@ADDRESS:PORT`, and runs until it is killed. The tests of attacks
//! run it as a process of its own.

use std::error::Error;
use std::path::Path;

use dunlin_tokio::{HandlerError, Node, key, service};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: publisher NETWORK TOKEN KEY");
    let (network, token) = (std::fs::read(next()?)?, std::fs::read(next()?)?);
    let identity = key::load(Path::new(&next()?))?;
    let news = service("news").action("publish", |cx, line: String| async move {
        let published = cx.publish("news/line", line).await;
        published
            .map(|_| ())
            .map_err(|error| HandlerError::application("NOT_PUBLISHED", error.to_string()))
    });
    let builder = Node::builder().identity(identity).network(network, token);
    let node = builder.listen("127.0.0.1:0".parse()?).service(news).start().await?;
    println!("{}@{}", node.id(), node.local_addr());
    std::future::pending().await
}
