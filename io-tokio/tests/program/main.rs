//! The `dunlin` program, used as a user uses it. One program of tests, as building each takes longer than running it.

mod commands;
mod control;
mod events;
