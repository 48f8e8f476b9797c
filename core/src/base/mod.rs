//! Values without policy: time, ids, randomness, timers, bounds.

pub mod effects;
pub mod id;
pub mod limits;
pub mod random;
pub mod slab;
pub mod time;
pub mod timers;

pub use effects::Effects;
pub use id::{Identity, Incarnation, ParsePeerIdError, PeerId};
pub use limits::Limits;
pub use random::{Draws, Label};
pub use slab::{Key, Slab};
pub use time::{MonoTime, Now, WallTime};
pub use timers::{TimerId, TimerQueue};
