//! Looking up host names.

use std::io;
use std::net::SocketAddr;

use dunlin_core::service::BoxFuture;

/// Looks up the addresses of host names. [`SystemResolver`] asks the operating system; another one may ask a registry, or
/// be a test.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `name`, each with `port`, the preferred one first. No address is the same as an error. It is asked
    /// again before each round of dials.
    ///
    /// # Errors
    ///
    /// When the name cannot be looked up.
    fn resolve(&self, name: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>>;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, name: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), port)).await?.collect()) })
    }
}
