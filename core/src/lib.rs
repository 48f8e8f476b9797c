//! The Dunlin node as a pure, deterministic state machine.

pub mod base;
pub mod directory;
pub mod link;
pub mod machine;
pub mod mesh;
pub mod node;
pub mod peer;
pub mod rpc;
pub mod service;
pub mod topic;
pub mod transport;
pub mod wire;

pub use base::{Identity, Limits, MonoTime, Now, PeerId, WallTime};
pub use mesh::{CallRequest, Event, Mesh, MeshConfig, Target, Wake, WakeReason};
pub use node::{Node, NodeConfig};
