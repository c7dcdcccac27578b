//! Packets that no library makes.

use std::net::{Ipv4Addr, Ipv6Addr};

use hostctl::testbed::frames::{Link, ethernet, ethertype, ipv6_hop_limit, protocol};

/// RFC 1071.
pub fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()).to_be_bytes()
}

/// What else of an IPv4 header can be chosen.
pub struct Header {
    pub ttl: u8,
    /// A multiple of 4 bytes.
    pub options: &'static [u8],
    /// Flags and offset, as on the wire.
    pub fragment: u16,
}

pub const PLAIN: Header = Header { ttl: 64, options: &[], fragment: 0 };

pub fn ipv4_frame(
    link: Link,
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    header: &Header,
    payload: &[u8],
) -> Vec<u8> {
    let words = 5 + u8::try_from(header.options.len() / 4).unwrap();
    let length = u16::try_from(usize::from(words) * 4 + payload.len()).unwrap();
    let mut packet = [
        [0x40 | words, 0].as_slice(),
        &length.to_be_bytes(),
        &[0x42, 0x42],
        &header.fragment.to_be_bytes(),
        &[header.ttl, protocol, 0, 0],
        &from.octets(),
        &to.octets(),
        header.options,
    ]
    .concat();
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum);
    packet.extend_from_slice(payload);
    ethernet(link, ethertype::IPV4, &packet)
}

/// An ICMP message with its checksum.
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], &rest, body].concat();
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum);
    message
}

/// An ICMPv6 message with its checksum (RFC 4443).
pub fn icmp6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], body].concat();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let pseudo = [&from.octets(), &to.octets(), length.as_slice(), &[0, 0, 0, protocol::ICMPV6]].concat();
    let sum = checksum(&[&pseudo, &message]);
    message[2..4].copy_from_slice(&sum);
    message
}

/// An IPv6 frame of neighbour discovery's hop limit.
pub fn ipv6_frame(link: Link, from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(link, ethertype::IPV6, &ipv6_hop_limit(from, to, next, 255, payload))
}

/// An IPv6 fragment header in front of a piece; the offset is in bytes.
pub fn fragment6(next: u8, offset: u16, more: bool, piece: &[u8]) -> Vec<u8> {
    let place = offset & !7 | u16::from(more);
    [&[next, 0], place.to_be_bytes().as_slice(), &[0, 0, 0x42, 0x42], piece].concat()
}

/// The Ethernet group of an IPv6 group (RFC 2464).
pub fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}
