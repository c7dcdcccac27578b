//! IPv4, IPv6, their fragments and extension headers (RFC 791, RFC 8200).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::checksum::Sum16BitWords;

use crate::packet::protocol;

/// A header between IPv6's own and the payload's, behind which a filter that
/// doesn't look far enough misses the payload (RFC 6980, RFC 7113).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtensionHeader {
    /// Hop-by-hop options: padding only.
    HopByHop,
    /// Destination options: padding only.
    Destination,
    /// A fragment header around a whole packet (RFC 6946, an atomic one).
    AtomicFragment,
}

/// A piece of an IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Fragment {
    /// Which packet it is a piece of.
    pub identification: u16,
    /// Where it belongs, in bytes; a multiple of 8.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

/// An IPv4 packet with a TTL of 64.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let whole = Ipv4Fragment { identification: 0, offset: 0, more: false };
    ipv4_fragment(source, destination, protocol, whole, payload)
}

/// An IPv4 packet in pieces of `size` bytes, rounded down to a multiple of 8
/// (8 at least): a tiny first one hides the ports in the second.
pub fn ipv4_fragments(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    payload: &[u8],
    size: usize,
) -> Vec<Vec<u8>> {
    let size = (size / 8).max(1) * 8;
    let pieces = payload.chunks(size).enumerate().map(|(index, piece)| {
        let start = index * size;
        let place = Ipv4Fragment {
            identification: 0x4242,
            offset: u16::try_from(start).unwrap_or(u16::MAX),
            more: start + piece.len() < payload.len(),
        };
        ipv4_fragment(source, destination, protocol, place, piece)
    });
    pieces.collect()
}

fn ipv4_fragment(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    place: Ipv4Fragment,
    payload: &[u8],
) -> Vec<u8> {
    let place_bits = (place.offset / 8) | if place.more { 0x2000 } else { 0 };
    let mut header = [
        [0x45, 0].as_slice(),
        &length(20 + payload.len()).to_be_bytes(),
        &place.identification.to_be_bytes(),
        &place_bits.to_be_bytes(),
        &[64, protocol, 0, 0],
        &source.octets(),
        &destination.octets(),
    ]
    .concat();
    put_plain_checksum(&mut header, 10);
    header.extend_from_slice(payload);
    header
}

/// An IPv6 packet with a hop limit of 64.
pub fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    ipv6_hop_limit(source, destination, next_header, 64, payload)
}

/// An IPv6 packet with a hop limit of the caller's choice; neighbour
/// discovery asks for 255 (RFC 4861).
pub fn ipv6_hop_limit(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    [
        [0x60, 0, 0, 0].as_slice(),
        &length(payload.len()).to_be_bytes(),
        &[next_header, hop_limit],
        &source.octets(),
        &destination.octets(),
        payload,
    ]
    .concat()
}

/// An IPv6 packet whose payload lies behind extension headers, in this order.
pub fn ipv6_behind(
    headers: &[ExtensionHeader],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut next = next_header;
    let mut chain = payload.to_vec();
    for header in headers.iter().rev() {
        let bytes = match header {
            // A length of 0 is eight bytes; PadN of four bytes fills them.
            ExtensionHeader::HopByHop | ExtensionHeader::Destination => [next, 0, 1, 4, 0, 0, 0, 0],
            ExtensionHeader::AtomicFragment => [next, 0, 0, 0, 0x42, 0x42, 0x42, 0x42],
        };
        chain = [&bytes, chain.as_slice()].concat();
        next = match header {
            ExtensionHeader::HopByHop => protocol::HOP_BY_HOP,
            ExtensionHeader::Destination => protocol::DESTINATION,
            ExtensionHeader::AtomicFragment => protocol::FRAGMENT,
        };
    }
    ipv6_hop_limit(source, destination, next, hop_limit, &chain)
}

/// Puts the checksum of TCP, UDP or ICMPv6, which covers a pseudo-header with
/// the addresses, at `offset` of a segment (RFC 9293, RFC 8200 section 8.1).
pub(super) fn put_checksum(
    segment: &mut [u8],
    offset: usize,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
) {
    put(segment, offset, [0, 0]);
    let size = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    let sum = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Sum16BitWords::new().add_slice(&source.octets()).add_slice(&destination.octets())
        }
        (source, destination) => {
            Sum16BitWords::new().add_slice(&octets6(source)).add_slice(&octets6(destination))
        }
    };
    let sum = sum.add_slice(&size.to_be_bytes()).add_2bytes([0, protocol]).add_slice(segment);
    let sum = if protocol == self::protocol::UDP {
        sum.to_ones_complement_with_no_zero()
    } else {
        sum.ones_complement()
    };
    // The words were summed in memory's order, and so is the sum.
    put(segment, offset, sum.to_ne_bytes());
}

/// As [`put_checksum`], of the bytes alone: ICMP's (RFC 792) and that of an
/// IPv4 header (RFC 791).
pub(super) fn put_plain_checksum(segment: &mut [u8], offset: usize) {
    put(segment, offset, [0, 0]);
    let sum = Sum16BitWords::new().add_slice(segment).ones_complement();
    put(segment, offset, sum.to_ne_bytes());
}

fn put(bytes: &mut [u8], offset: usize, value: [u8; 2]) {
    if let Some(place) = bytes.get_mut(offset..offset + 2) {
        place.copy_from_slice(&value);
    }
}

fn octets6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::Ipv4Slice;

    #[test]
    fn fragments_make_up_the_packet_again() {
        let payload: Vec<u8> = (0..=100).collect();
        let (source, destination) = (Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3));
        let pieces = ipv4_fragments(source, destination, protocol::UDP, &payload, 20);
        let mut whole = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let parsed = Ipv4Slice::from_slice(piece).unwrap();
            let header = parsed.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.fragment_offset.value()) * 8, whole.len());
            assert_eq!(header.more_fragments, index + 1 < pieces.len());
            assert_eq!(header.identification, 0x4242);
            whole.extend_from_slice(parsed.payload().payload);
        }
        assert_eq!(pieces.len(), 7, "pieces of 16 bytes");
        assert_eq!(whole, payload);
    }
}
