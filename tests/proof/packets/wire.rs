//! Probes as bytes: each carries its number, whatever is done to its address
//! and port on the way, and so does what answers it.

use std::net::IpAddr;

use etherparse::{IpNumber, PacketBuilder};
use hostctl::reach::Flow;

/// A protocol that means nothing to anyone (RFC 3692), for what is neither
/// TCP, UDP nor ICMP.
pub const EXPERIMENT: u8 = 253;

/// What stands before the number, where a protocol has a payload.
const MARK: [u8; 4] = *b"prov";

/// What an end has seen of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The probe itself, from this address.
    Probe(u32, IpAddr),
    /// An answer to it.
    Answer(u32),
}

/// An IP packet: the first one of a flow.
pub fn packet(flow: &Flow, number: u32) -> Vec<u8> {
    let builder = match (flow.source, flow.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.octets(), destination.octets(), 64)
        }
        (source, destination) => panic!("{source} → {destination}"),
    };
    // No two probes of a pair share a connection.
    let from = 20_000 + u16::try_from(number % 40_000).unwrap();
    let payload = [MARK, number.to_be_bytes()].concat();
    let mut bytes = Vec::new();
    match flow.protocol {
        6 => builder.tcp(from, flow.port, number, 65535).syn().write(&mut bytes, &[]),
        17 => builder.udp(from, flow.port).write(&mut bytes, &payload),
        1 => builder.icmpv4_echo_request(from, 1).write(&mut bytes, &payload),
        58 => builder.icmpv6_echo_request(from, 1).write(&mut bytes, &payload),
        // Eight bytes stand where UDP's header would.
        other => builder.write(&mut bytes, IpNumber(other), &[&[0; 8], payload.as_slice()].concat()),
    }
    .unwrap();
    bytes
}

/// A frame around an IP packet.
pub fn frame(source: [u8; 6], destination: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let ethertype: u16 = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    [&destination[..], &source, &ethertype.to_be_bytes(), packet].concat()
}

/// What a frame says, if it is about a probe.
pub fn in_frame(frame: &[u8]) -> Option<Sight> {
    match frame.get(12..14)? {
        [0x08, 0x00] | [0x86, 0xdd] => in_packet(frame.get(14..)?),
        _ => None,
    }
}

/// What an IP packet says, if it is about a probe.
pub fn in_packet(packet: &[u8]) -> Option<Sight> {
    if packet.first()? >> 4 == 4 {
        let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
        let header = usize::from(packet.first()? & 15) * 4;
        in_segment(*packet.get(9)?, packet.get(header..)?, source.into())
    } else {
        let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
        in_segment(*packet.get(6)?, packet.get(40..)?, source.into())
    }
}

/// What a transport segment says, if it is about a probe.
pub fn in_segment(protocol: u8, segment: &[u8], source: IpAddr) -> Option<Sight> {
    let number = |at: usize| Some(u32::from_be_bytes(segment.get(at..at + 4)?.try_into().ok()?));
    let marked = || (segment.get(8..12)? == MARK).then(|| number(12)).flatten();
    match (protocol, segment.first()?) {
        (6, _) => match segment.get(13)? & 0b1_0110 {
            0b0_0010 => Some(Sight::Probe(number(4)?, source)),
            // Resets and acknowledgements of a SYN.
            0b1_0100 | 0b1_0010 => Some(Sight::Answer(number(8)?.wrapping_sub(1))),
            _ => None,
        },
        (1, 8) | (58, 128) | (17 | EXPERIMENT, _) => Some(Sight::Probe(marked()?, source)),
        (1, 0) | (58, 129) => Some(Sight::Answer(marked()?)),
        _ => None,
    }
}
