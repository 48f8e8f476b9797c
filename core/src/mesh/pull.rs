//! What a link sends next, made when the transport has room for it: what was given up in the meantime never goes out.

use dunlin_proto::Frame;

use crate::events::receiver;
use crate::link::{FrameSource, Lane, LinkHandle};
use crate::mesh::Mesh;
use crate::mesh::outbound::OutItem;
use crate::wire::Message;

impl FrameSource for Mesh {
    fn next_lane(&self, link: LinkHandle, from: Lane) -> Option<Lane> {
        if self.is_silent() {
            return None;
        }
        self.links.get(&link)?.out.next_lane(from)
    }

    fn pull_frame(&mut self, link: LinkHandle, lane: Lane) -> Option<Frame> {
        if self.is_silent() {
            return None;
        }
        loop {
            let entry = self.links.get_mut(&link)?;
            let peer = entry.peer;
            let message = match entry.out.pop(lane)? {
                OutItem::Message(message) => Some(*message),
                OutItem::Directory => Some(self.update_message(peer)),
                OutItem::Heard => Some(Message::Heard(self.replicas.heard(peer))),
                OutItem::Heartbeat => Some(self.heartbeat_message(peer)),
                OutItem::Call { sequence } => {
                    self.caller.take_message(self.now.mono, peer, sequence).map(Message::Call)
                }
                OutItem::Cancel { sequence } => {
                    let floor = self.caller.floor(peer).min(sequence);
                    Some(Message::Cancel { sequence, floor })
                }
                OutItem::Answer { sequence } => {
                    self.callee.take_message(peer, sequence).map(Message::Reply)
                }
                OutItem::Cut { from, frames } => Some(Message::Cut { from, frames }),
                OutItem::EventAck => Some(Message::EventAck(self.receiver.take_ack(peer))),
                OutItem::Event => {
                    let place = receiver::place_of(lane).expect("events go on shared lanes");
                    let (frame, more) = self.sender.take_frame(peer, link, place).unzip();
                    if more != Some(true)
                        && let Some(entry) = self.links.get_mut(&link)
                    {
                        entry.out.clear_events(place);
                    }
                    let Some(frame) = frame else { continue };
                    if let Some(peer) = self.peers.get_mut(peer) {
                        peer.lanes.sent(link, lane);
                    }
                    return Some(frame);
                }
            };
            // What is not wanted any more is passed over.
            if let Some(frame) = message.and_then(Message::into_frame) {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.lanes.sent(link, lane);
                }
                return Some(frame);
            }
        }
    }
}
