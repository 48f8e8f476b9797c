//! Attacks on a real process over loopback. Under each, an honest client is served, newcomers get in, and the victim's
//! memory stays within a bound and falls again.
//!
//! Each test runs a short form. With `DUNLIN_ATTACK_SECONDS=20` and a release build each attack takes so long, and
//! latencies are judged too:
//!
//! ```console
//! $ DUNLIN_ATTACK_SECONDS=20 cargo test --release --package dunlin-tests --test attacks -- --nocapture --test-threads 1
//! ```

mod attacker;
mod members;
mod scene;
mod strangers;
