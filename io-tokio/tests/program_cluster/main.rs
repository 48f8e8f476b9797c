//! Three processes of the `dunlin` program that serve the same, used by a client that goes on calling, while they are
//! killed, stopped, paused and started again.

#![cfg(all(feature = "cli", unix))]

mod calls;
mod cluster;
mod killed;
mod paused;
mod rolling;
mod stopped;
mod watching;
