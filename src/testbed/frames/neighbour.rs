//! Neighbour discovery (RFC 4861): ICMPv6 messages without their IPv6 header,
//! so that a test chooses the hop limit and the extension headers in front
//! ([`super::ipv6_hop_limit`], [`super::ipv6_behind`]).
//!
//! The checksum covers the packet's addresses, so they are asked for.

use std::net::Ipv6Addr;

use super::ip::put_checksum;
use super::protocol::ICMPV6;

/// An option of a neighbour-discovery message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NdOption {
    /// Source link-layer address, type 1.
    SourceMac([u8; 6]),
    /// Target link-layer address, type 2.
    TargetMac([u8; 6]),
    /// Prefix information, type 3: on-link, for stateless configuration,
    /// valid for an hour. Prefix and its length in bits.
    Prefix(Ipv6Addr, u8),
    /// MTU, type 5, in bytes.
    Mtu(u32),
    /// Recursive DNS server, type 25 (RFC 8106).
    DnsServer(Ipv6Addr),
    /// Anything else, as it stands on the wire.
    Raw(Vec<u8>),
}

impl NdOption {
    fn bytes(&self) -> Vec<u8> {
        let hour = 3600u32.to_be_bytes();
        match self {
            Self::SourceMac(mac) => [[1, 1].as_slice(), mac].concat(),
            Self::TargetMac(mac) => [[2, 1].as_slice(), mac].concat(),
            Self::Prefix(prefix, length) => {
                [[3, 4, *length, 0xc0].as_slice(), &hour, &hour, &[0; 4], &prefix.octets()].concat()
            }
            Self::Mtu(mtu) => [[5, 1, 0, 0].as_slice(), &mtu.to_be_bytes()].concat(),
            Self::DnsServer(server) => [[25, 3, 0, 0].as_slice(), &hour, &server.octets()].concat(),
            Self::Raw(bytes) => bytes.clone(),
        }
    }
}

/// The group in which the owner of `target` is asked for.
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = target.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

/// The Ethernet group of [`solicited_node`] (RFC 2464, section 7).
pub fn solicited_node_mac(target: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c] = target.octets();
    [0x33, 0x33, 0xff, a, b, c]
}

/// "Who has `target`?" (type 135).
pub fn neighbor_solicitation(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    options: &[NdOption],
) -> Vec<u8> {
    message(source, destination, 135, &[&[0; 4], target.octets().as_slice()].concat(), options)
}

/// "I have `target`" (type 136), solicited and overriding.
pub fn neighbor_advertisement(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    options: &[NdOption],
) -> Vec<u8> {
    let body = [&[0x60, 0, 0, 0], target.octets().as_slice()].concat();
    message(source, destination, 136, &body, options)
}

/// "Is there a router?" (type 133).
pub fn router_solicitation(source: Ipv6Addr, destination: Ipv6Addr, options: &[NdOption]) -> Vec<u8> {
    message(source, destination, 133, &[0; 4], options)
}

/// "I am a router" (type 134), the default one for `lifetime` seconds.
pub fn router_advertisement(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    lifetime: u16,
    options: &[NdOption],
) -> Vec<u8> {
    // Hop limit 64, no flags; reachable and retransmission times unspecified.
    let body = [[64, 0].as_slice(), &lifetime.to_be_bytes(), &[0; 8]].concat();
    message(source, destination, 134, &body, options)
}

/// "Send what is for `to` to `target`" (type 137).
pub fn redirect(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    to: Ipv6Addr,
    options: &[NdOption],
) -> Vec<u8> {
    let body = [[0; 4].as_slice(), &target.octets(), &to.octets()].concat();
    message(source, destination, 137, &body, options)
}

fn message(source: Ipv6Addr, destination: Ipv6Addr, kind: u8, body: &[u8], options: &[NdOption]) -> Vec<u8> {
    let options: Vec<u8> = options.iter().flat_map(NdOption::bytes).collect();
    let mut message = [[kind, 0, 0, 0].as_slice(), body, &options].concat();
    put_checksum(&mut message, 2, source.into(), destination.into(), ICMPV6);
    message
}

#[cfg(test)]
mod tests {
    use super::super::{ExtensionHeader, Link, ethernet, ethertype, ipv6_behind, ipv6_hop_limit};
    use super::*;
    use etherparse::{Icmpv6Slice, SlicedPacket, TransportSlice};

    fn icmpv6(frame: &[u8]) -> Icmpv6Slice<'_> {
        match SlicedPacket::from_ethernet(frame).unwrap().transport {
            Some(TransportSlice::Icmpv6(icmp)) => icmp,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_message_is_read_back_with_a_valid_checksum() {
        let (from, to) = ("fe80::1".parse().unwrap(), "ff02::1".parse().unwrap());
        let target: Ipv6Addr = "fd00:1::2".parse().unwrap();
        let mac = [2, 0, 0, 0, 0, 1];
        let options = [NdOption::SourceMac(mac), NdOption::Prefix(target, 64), NdOption::Mtu(1280)];
        for (kind, message) in [
            (133, router_solicitation(from, to, &options)),
            (134, router_advertisement(from, to, 1800, &options)),
            (135, neighbor_solicitation(from, to, target, &options)),
            (136, neighbor_advertisement(from, to, target, &[NdOption::TargetMac(mac)])),
            (137, redirect(from, to, target, target, &[])),
        ] {
            let plain = ipv6_hop_limit(from, to, ICMPV6, 255, &message);
            let all =
                [ExtensionHeader::HopByHop, ExtensionHeader::Destination, ExtensionHeader::AtomicFragment];
            let behind = ipv6_behind(&all, from, to, ICMPV6, 255, &message);
            for packet in [plain, behind] {
                let frame = ethernet(Link::broadcast(mac), ethertype::IPV6, &packet);
                let icmp = icmpv6(&frame);
                assert_eq!(icmp.type_u8(), kind);
                assert!(icmp.is_checksum_valid(from.octets(), to.octets()), "type {kind}");
            }
        }
    }

    #[test]
    fn the_solicited_node_group_ends_in_the_targets_last_three_bytes() {
        let target = "fd00::1:2345:6789".parse().unwrap();
        assert_eq!(solicited_node(target), "ff02::1:ff45:6789".parse::<Ipv6Addr>().unwrap());
        assert_eq!(solicited_node_mac(target), [0x33, 0x33, 0xff, 0x45, 0x67, 0x89]);
    }
}
