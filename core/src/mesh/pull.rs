//! What a link sends next, made when the transport has room for it: what was given up in the meantime never goes out.

use dunlin_proto::Frame;

use crate::events::receiver;
use crate::link::{FrameSource, Lane, LinkHandle};
use crate::mesh::Mesh;
use crate::mesh::outbound::OutItem;
use crate::mesh::watch::Way;
use crate::wire::{CallMessage, Message, ReplyMessage};

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
            let frame = match entry.out.pop(lane)? {
                OutItem::Call { sequence } => {
                    let message = self.caller.take_message(self.now.mono, peer, sequence);
                    message.map(CallMessage::into_frame)
                }
                OutItem::Answer { sequence } => {
                    self.callee.take_message(peer, sequence).map(ReplyMessage::into_frame)
                }
                OutItem::Message(message) => message.into_frame(),
                OutItem::Directory => self.update_message(peer).into_frame(),
                OutItem::Heard => Message::Heard(self.replicas.heard(peer)).into_frame(),
                OutItem::Heartbeat => self.heartbeat_message(peer).into_frame(),
                OutItem::Cancel { sequence } => {
                    let floor = self.caller.floor(peer).min(sequence);
                    Message::Cancel { sequence, floor }.into_frame()
                }
                OutItem::Cut { from, frames } => Message::Cut { from, frames }.into_frame(),
                OutItem::EventAck => Message::EventAck(self.event_ack(peer)).into_frame(),
                OutItem::Event => {
                    let place = receiver::place_of(lane).expect("events go on shared lanes");
                    let (frame, more) = self.sender.take_frame(peer, link, place).unzip();
                    if more != Some(true)
                        && let Some(entry) = self.links.get_mut(&link)
                    {
                        entry.out.clear_events(place);
                    }
                    frame
                }
            };
            // What is not wanted any more is passed over.
            if let Some(frame) = frame {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.lanes.sent(link, lane);
                }
                self.watched(Way::Sent, peer, (link, lane), || frame.to_body());
                return Some(frame);
            }
        }
    }
}
