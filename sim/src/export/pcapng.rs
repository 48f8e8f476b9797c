//! The datagrams of a recording as a capture file that Wireshark opens: pcapng (draft-ietf-opsawg-pcapng), one
//! interface a node, times in simulated nanoseconds, with the secrets of TLS inside.
//!
//! A datagram is captured where it is sent, as it left; its comment says what became of it. It stands in packets of
//! IPv4 and UDP with right checksums, between the addresses that the nodes have in the simulation.

use std::net::SocketAddrV4;

use crate::recording::{Datagram, Recording};

const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const SECRETS: u32 = 0x0A;
/// `LINKTYPE_RAW`: packets begin with the header of IP.
const RAW_IP: u16 = 101;
/// `TLSK`: secrets are lines of NSS's key log format.
const TLS_KEY_LOG: u32 = 0x544c_534b;

const COMMENT: u16 = 1;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
const APPLICATION: u16 = 4;

/// The secrets, as an SSLKEYLOGFILE. Empty unless packets were protected by TLS.
pub fn keys(recording: &Recording) -> String {
    recording.secrets.iter().map(|line| format!("{line}\n")).collect()
}

/// The capture file.
pub fn capture(recording: &Recording) -> Vec<u8> {
    let mut file = Vec::new();
    let mut section = Vec::new();
    section.extend(0x1A2B_3C4Du32.to_le_bytes());
    section.extend(1u16.to_le_bytes());
    section.extend(0u16.to_le_bytes());
    // How long the section is, is not said.
    section.extend((-1i64).to_le_bytes());
    option(&mut section, APPLICATION, b"dunlin-sim");
    end_options(&mut section);
    block(&mut file, SECTION, &section);
    for node in 0..recording.nodes {
        let mut interface = Vec::new();
        interface.extend(RAW_IP.to_le_bytes());
        interface.extend([0; 2]);
        // No packet is cut.
        interface.extend(0u32.to_le_bytes());
        option(&mut interface, INTERFACE_NAME, format!("n{node}").as_bytes());
        option(&mut interface, TIME_RESOLUTION, &[9]);
        end_options(&mut interface);
        block(&mut file, INTERFACE, &interface);
    }
    let keys = keys(recording);
    if !keys.is_empty() {
        let mut secrets = Vec::new();
        secrets.extend(TLS_KEY_LOG.to_le_bytes());
        secrets.extend((keys.len() as u32).to_le_bytes());
        secrets.extend(keys.as_bytes());
        pad(&mut secrets);
        block(&mut file, SECRETS, &secrets);
    }
    for datagram in &recording.datagrams {
        let packet = ip_packet(datagram.from, datagram.to, &datagram.data);
        block(&mut file, PACKET, &packet_block(datagram, &packet));
    }
    file
}

fn packet_block(datagram: &Datagram, packet: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(packet.len() + 64);
    block.extend(u32::from(datagram.node).to_le_bytes());
    block.extend(((datagram.at >> 32) as u32).to_le_bytes());
    block.extend((datagram.at as u32).to_le_bytes());
    block.extend((packet.len() as u32).to_le_bytes());
    block.extend((packet.len() as u32).to_le_bytes());
    block.extend(packet);
    pad(&mut block);
    option(&mut block, COMMENT, datagram.fate.as_bytes());
    end_options(&mut block);
    block
}

fn block(file: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let length = (body.len() as u32 + 12).to_le_bytes();
    file.extend(kind.to_le_bytes());
    file.extend(length);
    file.extend(body);
    file.extend(length);
}

fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    to.extend(code.to_le_bytes());
    to.extend((value.len() as u16).to_le_bytes());
    to.extend(value);
    pad(to);
}

fn end_options(to: &mut Vec<u8>) {
    to.extend([0; 4]);
}

fn pad(to: &mut Vec<u8>) {
    to.resize(to.len().next_multiple_of(4), 0);
}

/// A datagram inside of UDP (RFC 768) inside of IPv4 (RFC 791).
fn ip_packet(from: SocketAddrV4, to: SocketAddrV4, data: &[u8]) -> Vec<u8> {
    let udp_bytes = (8 + data.len()) as u16;
    let mut packet = Vec::with_capacity(28 + data.len());
    packet.extend([0x45, 0]);
    packet.extend((20 + udp_bytes).to_be_bytes());
    // No fragments, 64 hops, UDP.
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let header = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    let mut udp = Vec::with_capacity(8 + data.len());
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend(udp_bytes.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(data);
    let [high, low] = udp_bytes.to_be_bytes();
    let sum = match checksum(&[&packet[12..20], &[0, 17, high, low], &udp]) {
        // Zero would mean that there is none.
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    packet
}

/// The checksum of the internet (RFC 1071) over parts, of which only the last may be of odd length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, section 3.
    #[test]
    fn the_checksum_is_that_of_the_internet() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&data]), !0xddf2);
    }

    #[test]
    fn a_packet_sums_up_to_what_a_receiver_expects() {
        let (from, to) = ("10.0.0.1:4433".parse().unwrap(), "10.0.0.2:4434".parse().unwrap());
        let packet = ip_packet(from, to, b"odd");
        assert_eq!(checksum(&[&packet[..20]]), 0);
        let udp_bytes = [packet[24], packet[25]];
        assert_eq!(checksum(&[&packet[12..20], &[0, 17], &udp_bytes, &packet[20..]]), 0);
        assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
    }
}
