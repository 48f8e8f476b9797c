//! Frames as they pass between a mesh and its transport, for who wants to see them.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::{PeerId, PeerKey};
use crate::link::{Lane, LinkHandle};
use crate::mesh::Mesh;

/// Which way a frame passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The transport has taken it. It may be lost with its link all the same.
    Sent,
    /// It has come, and is read next.
    Received,
}

/// A frame that passes.
#[derive(Clone, Copy, Debug)]
pub struct PassingFrame<'a> {
    /// Which way.
    pub way: Way,
    /// The peer at the other end.
    pub peer: PeerId,
    /// The link, by this node's name for it.
    pub link: LinkHandle,
    /// The lane. On one lane of a link frames come in the order in which they were sent.
    pub lane: Lane,
    /// The frame without its length; [`crate::wire::parse`] reads it.
    pub body: &'a Bytes,
}

/// Sees every frame that passes. It is called in the middle of things: it may write down what it sees, and no more.
pub type FrameWatch = Arc<dyn Fn(PassingFrame<'_>) + Send + Sync>;

impl Mesh {
    /// From now on `watch` sees every frame, in both directions. What a mesh does is the same, and takes longer: a frame
    /// that is sent is copied for it. For pictures, captures and tests.
    pub fn watch_frames(&mut self, watch: FrameWatch) {
        self.watch = Some(watch);
    }

    pub(super) fn watched(
        &self,
        way: Way,
        peer: PeerKey,
        (link, lane): (LinkHandle, Lane),
        body: impl FnOnce() -> Bytes,
    ) {
        let Some(watch) = &self.watch else { return };
        let Some(peer) = self.peers.get(peer).map(|entry| entry.id) else { return };
        watch(PassingFrame { way, peer, link, lane, body: &body() });
    }
}
