//! Whole transports against each other, over a virtual network in virtual time.

mod closing;
mod determinism;
mod dialling;
mod hostile;
mod lanes;
mod net;
