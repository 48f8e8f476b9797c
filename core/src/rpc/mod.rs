//! Calls: at most once, with a deadline, and with an outcome that is known.
//!
//! [`caller`] is the side that asks, [`callee`] the side that answers; they meet on the wire and, for
//! a local call, through the mesh. [`retry`] says what is attempted again, and [`budget`] how often; [`hedge`] what is
//! attempted twice at a time;
//! [`admission`] how many of a service's calls run and wait, and
//! [`health`] how they do.

pub mod admission;
pub mod budget;
pub mod callee;
pub mod caller;
pub mod health;
pub mod hedge;
pub mod outcome;
pub mod retry;
pub mod seen;

pub use callee::{Callee, CalleeEffect, CalleeInput, CalleeTimer};
pub use caller::{Caller, CallerEffect, CallerInput, CallerTimer};
#[cfg(test)]
mod tests;

pub use outcome::{AppError, CallError, CallResult, Executed, Failure, Status};
