//! Real nodes over loopback, in one process. One program of tests, as building each takes longer than running it.

mod acceptors;
mod balance;
mod blocked;
mod events;
mod goodbyes;
mod names;
mod networks;
mod sick;
mod store;
mod streams;
mod two_nodes;
